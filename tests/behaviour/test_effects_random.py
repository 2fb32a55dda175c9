"""Random commands: the records that Corelane leaves are those of redis-server, and make the same keys again.

The commands are those of test_same_as_redis.py. The first test compares record by record with a real server; the second
adds what depends on chance and on time, and runs the records on fresh servers.
"""

import random

import pytest
from conftest import effect_server
from harness import *
from harness import OK
from harness.effects import shown
from harness.grammar import expand, parse
from harness.server import Server
from harness.table import _shown as shown_command
from test_same_as_redis import DEFAULTS, TEMPLATES, VOCABULARY, state

COMMANDS = 400
MISMATCHES_SHOWN = 8
TIME_TOLERANCE_MS = 5000
UNIX_MS = range(10**12, 10**13)


# ---- record by record ----


def without_limit(record):
    """Redis leaves LIMIT where it has made a trim exact, and takes that from its own files alone; Corelane drops it."""
    if record[0].lower() in (b"xadd", b"xtrim") and b"=" in record:
        for at in range(2, len(record) - 1):
            if record[at].upper() == b"LIMIT":
                return record[:at] + record[at + 2 :]
    return record


def without_new_consumers(records):
    """Corelane records each new consumer, Redis only those that get entries or read with NOACK."""
    kept = [record for record in records if record[:2] != [b"XGROUP", b"CREATECONSUMER"]]
    return kept if kept == records else [record for record in kept if record not in ([b"MULTI"], [b"EXEC"])]


def same_word(ours, theirs):
    if ours == theirs:
        return True
    both = ours.isdigit() and theirs.isdigit() and int(ours) in UNIX_MS and int(theirs) in UNIX_MS
    return both and abs(int(ours) - int(theirs)) < TIME_TOLERANCE_MS


def same_records(ours, theirs):
    return len(ours) == len(theirs) and all(
        len(our) == len(their) and all(map(same_word, our, their)) for our, their in zip(ours, theirs)
    )


def agree(ours, theirs):
    ours, theirs = list(map(without_limit, ours)), list(map(without_limit, theirs))
    if same_records(ours, theirs):
        return True
    flat = [record for record in theirs if record not in ([b"MULTI"], [b"EXEC"])]
    return same_records(without_new_consumers(ours), without_new_consumers(theirs)) or (
        without_new_consumers(ours) != ours and same_records(without_new_consumers(ours), without_new_consumers(flat))
    )


def begin_anew(client):
    client("DISCARD")
    assert client.pipeline("SELECT 0", "FLUSHALL", *DEFAULTS) == [OK] * (2 + len(DEFAULTS))


IN_THE_FUTURE = {**VOCABULARY, "at": lambda rng: rng.choice(["33177117420", "33177117421", "-1"])}
"""A key that is set with a time in the past goes when its server gets round to it."""


def listed(records):
    return "\n                ".join(map(shown, records)) or "nothing"


@pytest.mark.parametrize("family", TEMPLATES)
def test_random_commands_leave_the_records_that_redis_leaves(effects, family):
    reference = effect_server("redis", "--hz", "20")
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    mismatches, history = {}, []
    with effects.client() as ours, reference.client() as theirs:
        for number in range(COMMANDS):
            if number % 40 == 0:
                for client, server in ((ours, effects), (theirs, reference)):
                    begin_anew(client)
                    server.take()
                history = []
            command = expand(rng.choice(TEMPLATES[family]), rng, IN_THE_FUTURE)
            ours(*command), theirs(*command)
            wanted = reference.take()
            got = effects.take(len(wanted))
            if not agree(got, wanted):
                before = [line for line, words in history if set(words[1:]) & set(command[1:])][-8:]
                mismatches.setdefault(
                    command[0],
                    f"{shown_command(command)}\n        redis   {listed(wanted)}\n        got     {listed(got)}"
                    + "".join(f"\n        after   {line}" for line in before),
                )
                for client, server in ((ours, effects), (theirs, reference)):
                    begin_anew(client)
                    server.take()
                history = []
                if len(mismatches) >= MISMATCHES_SHOWN:
                    break
            history.append((shown_command(command), command))
        begin_anew(ours)
        begin_anew(theirs)
    assert not mismatches, f"seed {seed}, {family}\n    " + "\n    ".join(mismatches.values())


# ---- the same keys again ----

CHANCE_AND_TIME = """
    SADD <ke> a b c d e f g 1 2 3
    SPOP <ke> [1|2|3|5|9]
    SPOP <ke>
    SADD <ke> 1 2 3 4 5
    SET <ks> <v> {EX|PX} {100000|200000}
    {SETEX|PSETEX} <ks> 200000 <v>
    GETEX <ks> {PX 300000|EXAT <at>|PERSIST|EX 200000}
    GETDEL <ks>
    {EXPIRE|PEXPIRE} <kk> {100000|300000|-1|0} [NX|XX|GT|LT]
    {INCRBYFLOAT <ks>|HINCRBYFLOAT <kh> <m>} {0.1|3|1.5e3|-7.25}
    XADD <kx> [NOMKSTREAM] [MAXLEN ~ 2|MINID ~ 5-1|MAXLEN 3|MAXLEN ~ 1 LIMIT 4] * a b
    XADD <kx> * c d
    XTRIM <kx> {MAXLEN ~ 2|MINID ~ 5|MAXLEN ~ 1 LIMIT 4}
    XGROUP CREATE <kx> g 0
    XGROUP CREATE <kx> g 0
    XREADGROUP GROUP g {me|you|they} [COUNT 1] [NOACK] STREAMS <kx> >
    XREADGROUP GROUP g {me|you|they} COUNT 2 STREAMS <kx> <kx> > >
    XAUTOCLAIM <kx> g {me|you|they} 0 0 [COUNT 1] [JUSTID]
    XCLAIM <kx> g {me|you} 0 1-1 5-1 5-0 [IDLE 5000] [RETRYCOUNT 7] [FORCE] [LASTID 5-1]
    XDEL <kx> {1-1|5-0|5-1|8-0}
    XGROUP DELCONSUMER <kx> g they
    RPUSH <kl> a b c d e
    {LMPOP 2|BLMPOP 0.01 2} <kl> <kl> {LEFT|RIGHT} [COUNT 2]
    {BLPOP|BRPOP} <kl> <kl> 0.01
    BLMOVE <kl> <kl> {LEFT|RIGHT} {LEFT|RIGHT} 0.01
    BRPOPLPUSH <kl> <kl> 0.01
    ZADD <kz> 1 a 2 b 3 c 4 d
    {ZMPOP 2|BZMPOP 0.01 2} <kz> <kz> {MIN|MAX} [COUNT 2]
    {BZPOPMIN|BZPOPMAX} <kz> <kz> 0.01
    EVAL <chance> 2 <ke> <ks> <kh>
    EVAL <chance> 0
    MULTI
    EXEC
    SELECT {0|1}
    SWAPDB 0 1
    {MOVE <kk> 1|COPY <kk> <kk> DB 1 REPLACE}
"""
SCRIPTS = [
    "if #KEYS > 0 then redis.pcall('SPOP', KEYS[1], 2) redis.pcall('SET', KEYS[2], math.random(1000), 'PX', 900000) end",
    "redis.pcall('SPOP', 'e1') redis.pcall('INCRBYFLOAT', 's1', math.random())",
    "redis.pcall('SPOP', 'e0') redis.pcall('SPOP', 'e1') redis.pcall('SPOP', 'e2', 3)",
    "redis.pcall('XADD', 'x0', '*', 't', redis.call('TIME')[2]) redis.pcall('SET', 's2', redis.call('TIME')[2])",
    "for i = 0, 2 do redis.pcall('EXPIRE', 'l' .. i, 100000) redis.pcall('RPOPLPUSH', 'l' .. i, 'l2') end",
    "redis.pcall('SPOP', 'e1', 2) error('halfway')",
]
WORDS = {**VOCABULARY, "chance": lambda rng: rng.choice(SCRIPTS)}
CHANCE_AND_TIME = [parse(line) for line in CHANCE_AND_TIME.strip().splitlines()]
SMALL_NODES = ("--stream-node-max-entries", "3")
REPLAYED_COMMANDS = 1500


def is_repeatable(command):
    """Redis does not record that a consumer reads its pending entries again, though it counts that as a delivery; nor
    what CONFIG changes."""
    if command[0] == "CONFIG":
        return False
    ids = command[-((len(command) - command.index("STREAMS") - 1) // 2) :] if "STREAMS" in command else []
    return command[0] != "XREADGROUP" or all(text == ">" for text in ids)


def group_without_counts(group):
    """A group of XINFO STREAM FULL without what no record tells: how many entries it has read, and who was seen when."""
    found = dict(zip(group[::2], group[1::2]))
    del found[b"entries-read"], found[b"lag"]
    found[b"consumers"] = [
        {name: value for name, value in zip(consumer[::2], consumer[1::2]) if name != b"seen-time"}
        for consumer in found[b"consumers"]
    ]
    return found


def keys_of(client):
    """All that is in both databases, with exact times."""
    found = {}
    for db in (0, 1):
        assert client("SELECT", db) == OK
        for key, (*reads, dump) in state(client).items():
            kind = str(client("TYPE", key))
            if kind == "stream":
                whole = client("XINFO", "STREAM", key, "FULL", "COUNT", 0)
                whole = dict(zip(whole[::2], whole[1::2]))
                whole[b"groups"] = [group_without_counts(group) for group in whole[b"groups"]]
                reads = [reads[0], whole]
            elif kind == "set":
                # A set that SPOP makes anew may be kept otherwise than one that members are taken from.
                reads = [reads[0]]
            elif kind == "string":
                # What INCRBYFLOAT makes is a text even if it is an integer, what SET makes is an integer.
                reads = [reads[0], dump]
            elif kind == "zset":
                # SORT BY nosort, which is not recorded, makes a skiplist of it.
                reads = [reads[0]]
            else:
                reads = [*reads, dump]
            found[db, key] = [*reads, client("PEXPIRETIME", key)]
    assert client("SELECT 0") == OK
    return found


def errors_in(reply):
    if isinstance(reply, list):
        return [error for part in reply for error in errors_in(part)]
    return [reply] if isinstance(reply, Error) else []


@pytest.fixture
def fresh(target):
    """Servers to run records on: another one of the target, and a redis-server."""
    servers = [Server(name, *SMALL_NODES).start() for name in dict.fromkeys([target, "redis"])]
    yield servers
    for server in servers:
        server.stop()


def test_records_make_the_same_keys_again(target, fresh):
    effects = effect_server(target, *SMALL_NODES)
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    everything = [template for templates in TEMPLATES.values() for template in templates]
    with effects.client() as client:
        # The settings of the shared server were reset to the defaults; nodes are to be small on all.
        assert client("CONFIG", "SET", "stream-node-max-entries", 3) == OK
        for _ in range(REPLAYED_COMMANDS):
            command = expand(rng.choice(rng.choice([CHANCE_AND_TIME, everything])), rng, WORDS)
            if is_repeatable(command):
                client(*command)
        client("DISCARD")
        client("SELECT 0")
        client("SET", "the last record", "is here")
        wanted = keys_of(client)
    records = effects.take(1)
    assert any(record == [b"SET", b"the last record", b"is here"] for record in records)
    for server in fresh:
        with server.client() as client:
            for record in records:
                errors = errors_in(client(*without_limit(record)))
                assert not errors, f"seed {seed}, {server.target}: {shown(record)} answers {errors}"
            got = keys_of(client)
        differing = [key for key in {**got, **wanted} if got.get(key) != wanted.get(key)]
        assert not differing, f"seed {seed}, {server.target}\n" + "\n".join(
            f"    {key}\n        recorded {wanted.get(key)!r:.900}\n        repeated {got.get(key)!r:.900}"
            + "".join(f"\n        by {shown(record)}" for record in records if key[1] in record[:4])[-1500:]
            for key in differing[:4]
        )
