"""Commands of all families mixed, from several connections, against a real redis-server beside the one under test.

test_same_as_redis.py asks each family by itself. Here all of them work on the same few keys: blocks between MULTI
and EXEC that other connections write into, WATCH, scripts, commands that would block and find something, keys that
change their type and their database. Every reply must be Redis's, and at the end of each round so must every key,
down to the bytes of DUMP.

    CORELANE_MIXED_COMMANDS=1000000   how many commands (for each target)
    CORELANE_MIXED_SEED=123           the seed of the first round; the others follow

A difference is shrunk to the fewest commands that show it, and printed with its seed.

What may differ. Because Redis leaves it open (see `canonical` and `settled`): the order of hash tables, times, and OBJECT
REFCOUNT, for here no two keys share a value. On purpose: XGROUP DESTROY breaks a WATCH of the stream; Redis only wakes
who waits for it.
"""

import contextlib
import os
import random
import signal

import pytest
from test_same_as_redis import (  # noqa: F401 (one is a fixture)
    DEFAULTS,
    FAMILIES,
    VOCABULARY,
    canonical,
    key_of,
    pick,
    reference,
    state,
    unless_redis_falls,
)
from test_same_as_redis import SCRIPTS as SCRIPTS_OF_FAMILY

from harness import *
from harness import OK
from harness.grammar import expand, parse
from harness.table import _shown as shown

COMMANDS = int(os.environ.get("CORELANE_MIXED_COMMANDS", "12000"))
ROUND_COMMANDS, BATCH_COMMANDS_MAX = 400, 30
PROTOCOLS = (2, 3, 2)
"""Of the connections that the commands come from, in turns."""
DATABASES = 2
WATCHED_COMMANDS = 300
MISMATCHES_SHOWN, SHRINKING_RUNS_MAX = 6, 400
COMMANDS_PER_SECOND_MIN = 1000

SCRIPTS = [
    *SCRIPTS_OF_FAMILY,
    "for i, key in ipairs(KEYS) do redis.pcall('RPUSH', key, ARGV[1], i) end return redis.pcall('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT')",
    "local t = redis.call('TYPE', KEYS[1]).ok redis.call('DEL', KEYS[2]) redis.call('HSET', KEYS[2], 'type', t, 'n', ARGV[2]) return {t, redis.call('HGET', KEYS[2], 'n')}",
    "redis.call('ZADD', 'z0', 1, ARGV[1]) redis.call('ZADD', 'z1', 2, ARGV[1]) return redis.call('ZUNIONSTORE', 'z2', 2, 'z0', 'z1')",
    "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end redis.call('SET', KEYS[1], ARGV[1]) return redis.call('EXISTS', KEYS[1], KEYS[2])",
    "redis.call('XADD', 'x0', '900-*', 'f', ARGV[1]) redis.call('LPUSH', 'l0', 'x') return {redis.call('XLEN', 'x0'), redis.call('LLEN', 'l0')}",
    "redis.call('EXPIREAT', KEYS[1], 33177117420) return redis.call('PERSIST', KEYS[1])",
    "return {redis.pcall('LPUSH', 'l1', 'x'), redis.pcall('LPUSH', 's1', 'x'), redis.pcall('GETSET', 's1', ARGV[1])}",
    "redis.call('PUBLISH', 'channel', ARGV[1]) return redis.call('PUBLISH', KEYS[1], 'x')",
]
PAYLOADS = """
    SET p 5
    SET p hello
    RPUSH p a b 5
    SADD p 1 2 300
    HSET p f v g 7
    ZADD p 1 a 2.5 b
    XADD p 3-1 f v
"""

MORE_TEMPLATES = """
    {BLPOP|BRPOP} <kl> [<kl>] {0.001|-1|x}
    RPUSH <kl> a b c
    BLMOVE <kl> <kl> {LEFT|RIGHT} {LEFT|RIGHT} {0.001|-1|x}
    BRPOPLPUSH <kl> <kl> 0.001
    BLMPOP {0.001|-1} <n> (<kl>)* {LEFT|RIGHT} [COUNT <c>]
    {BZPOPMIN|BZPOPMAX} <kz> [<kz>] {0.001|-1}
    ZADD <kz> 1 a 2 b 3 c
    BZMPOP 0.001 <n> (<kz>)* {MIN|MAX} [COUNT <c>]
    XREAD BLOCK 1 COUNT 2 STREAMS <kx> <kx> {0|1-1} {0|$}
    XREADGROUP GROUP g me BLOCK 1 STREAMS <kx> >
    XADD <kx> {1-*|40-*|900-*} f v
    XGROUP CREATE <kx> g 0 MKSTREAM
    {EVAL|EVAL|EVAL_RO} <script> 2 <kk> <kk> <v> <i>
    EVAL <script> 2 {s0|l0|e0|<kk>} {s1|l1|z1|<kk>} <v> <i>
    RESTORE <kk> 0 <payload> [REPLACE]
    RESTORE <kk> 33177117420000 <payload> ABSTTL [REPLACE]
    {TTL|PTTL} <kk>
    SCAN 0 COUNT 1000 [MATCH {s*|*0}] [TYPE {string|list|zset|x}]
    WATCH (<kk>)*
    UNWATCH
    {EXEC|DISCARD}
    RESET
    {PING|PING hi|ECHO x|WAIT 0 0}
    PUBLISH <m> <v>
    PUBSUB {CHANNELS|NUMPAT|NUMSUB a}
    FLUSHALL
    {RENAME|COPY} <kk> <kk>
    {GET|SET|DEL|TYPE|PERSIST|INCR} {copy|there}
"""  # fmt: skip
NOT_MIXED = ("FLUSHDB", "XGROUP DESTROY")
"""The first leaves too little to work on; for the second see above."""
LINES = {
    family: [line for line in text.strip().splitlines() if line.strip() and not line.strip().startswith(NOT_MIXED)]
    for family, text in FAMILIES.items()
}
FAMILY_TEMPLATES = [parse(line) for lines in LINES.values() for line in lines]
TEMPLATES = [parse(line) for line in MORE_TEMPLATES.strip().splitlines()]
covers(*(line.split()[0] for line in MORE_TEMPLATES.strip().splitlines()), "BLPOP", "BRPOP", "EXEC", "DISCARD", "PTTL")


class Round:
    """The commands of one round: a list of (connection, command)."""

    def __init__(self, seed, payloads):
        self.rng = random.Random(seed)
        self.vocabulary = {**VOCABULARY, "script": pick(SCRIPTS), "payload": pick(payloads)}
        self.due = [[] for _ in PROTOCOLS]
        self.steps = []
        connection = 0
        while len(self.steps) < ROUND_COMMANDS:
            if self.rng.random() < 0.1:
                connection = self.rng.randrange(len(PROTOCOLS))
            self.steps.append((connection, self.next_of(connection)))

    def next_of(self, connection):
        """The next command of a connection, within a block or not."""
        due = self.due[connection]
        if not due and self.rng.random() < 0.04:
            due += self.block()
        return due.pop(0) if due else self.command()

    def command(self):
        templates = FAMILY_TEMPLATES if self.rng.random() < 0.75 else TEMPLATES
        return expand(self.rng.choice(templates), self.rng, self.vocabulary)

    def block(self):
        """Commands between MULTI and EXEC, often with keys watched before."""
        watched = [("WATCH", key_of("k")(self.rng))] if self.rng.random() < 0.5 else []
        before = [self.command() for _ in range(self.rng.randrange(2))] if watched else []
        queued = [self.command() for _ in range(self.rng.randrange(8))]
        return [*watched, *before, ("MULTI",), *queued, (self.rng.choice(["EXEC", "EXEC", "EXEC", "DISCARD"]),)]


def batches_of(steps):
    """Steps of one connection in a row go out in one write."""
    batches = []
    for connection, command in steps:
        if not batches or batches[-1][0] != connection or len(batches[-1][1]) == BATCH_COMMANDS_MAX:
            batches.append((connection, []))
        batches[-1][1].append(command)
    return batches


class Pair:
    """The connections to both servers, and what is queued on each."""

    def __init__(self, ours, theirs):
        self.ours, self.theirs = ours, theirs
        self.admins = (ours.client(), theirs.client())
        self.connections = []

    def fresh(self):
        """Empty servers, new connections."""
        self.close()
        for admin in self.admins:
            setup = ("SELECT 0", "FLUSHALL", "DEBUG SET-ACTIVE-EXPIRE 0", *DEFAULTS)
            assert admin.pipeline(*setup) == [OK] * len(setup)
        self.connections = [(self.ours.client(n), self.theirs.client(n)) for n in PROTOCOLS]
        self.queued = [[] for _ in PROTOCOLS]

    def close(self):
        """The connections of a round go."""
        for pair in self.connections:
            for client in pair:
                client.close()

    def run(self, steps):
        """Sends the steps; the first difference as (number of the step, story), or None."""
        self.fresh()
        done = 0
        for connection, batch in batches_of(steps):
            requests = b"".join(encode(*command) for command in batch)
            for client in self.connections[connection]:
                client.raw(requests)
            for number, command in enumerate(batch, done):
                got, wanted = [client.read() for client in self.connections[connection]]
                if not self.same(connection, command, got, wanted):
                    return number, f"redis   {wanted!r:.600}\n        got     {got!r:.600}"
            done += len(batch)
        return self.compare_states(done)

    def same(self, connection, command, got, wanted):
        queued = self.queued[connection]
        verb = command[0]
        agree = type(got) is type(wanted) and got == wanted
        if not agree:
            got, wanted = (settled(command, reply, queued) for reply in (got, wanted))
            agree = type(got) is type(wanted) and got == wanted
        if wanted == Simple("QUEUED"):
            queued.append(command)
        elif verb in ("EXEC", "DISCARD", "RESET", "MULTI") and not isinstance(wanted, Error):
            queued.clear()
        return agree

    def compare_states(self, done):
        for number in range(DATABASES):
            for admin in self.admins:
                assert admin("SELECT", number) == OK
            got, wanted = (state(admin) for admin in self.admins)
            if got != wanted:
                key = next(key for key in sorted({*got, *wanted}) if got.get(key) != wanted.get(key))
                both = f"redis   {wanted.get(key)!r:.900}\n        got     {got.get(key)!r:.900}"
                return done, f"in database {number} differs {key}\n        {both}"
        return None


def settled(command, reply, queued):
    """The reply with what Redis leaves open put in order, also within that of EXEC and in scripts."""
    verb = command[0]
    if verb == "EXEC" and type(reply) is list and len(reply) == len(queued):
        return [settled(*pair, []) for pair in zip(queued, reply)]
    if verb == "OBJECT" and command[1] == "REFCOUNT" and type(reply) is int:
        return "some count"  # of those in Redis that share the value just now: a queued command, too
    if verb in ("SORT", "SORT_RO") and "nosort" in command and type(reply) is list:
        return ["some members"] * len(reply)  # of a set: which come first is up to its table
    if verb in ("TTL", "PTTL") and type(reply) is int and reply > 0:
        return "some time"
    if verb.startswith(("EVAL", "FCALL")):
        return in_any_order(reply)
    if verb == "SCAN" and type(reply) is list and type(reply[1]) is list:
        return [reply[0], sorted(reply[1])]
    return canonical(command, reply)


def in_any_order(reply):
    """The reply of a script, which may show a hash table: the same values, in whatever order."""
    if isinstance(reply, Map):
        return ("map", sorted(repr(in_any_order(list(pair))) for pair in reply.pairs))
    if isinstance(reply, list):
        return (type(reply).__name__, sorted(repr(in_any_order(part)) for part in reply))
    return reply


def shrunk(pair, steps, runs_left=SHRINKING_RUNS_MAX):
    """As few of the steps as still show a difference, and its story."""
    number, story = pair.run(steps)
    steps = steps[: number + 1]
    size = max(len(steps) // 2, 1)
    while runs_left > 0:
        at, removed = 0, False
        while at < len(steps) and runs_left > 0:
            fewer = steps[:at] + steps[at + size :]
            runs_left -= 1
            if fewer and (found := pair.run(fewer)):
                number, story = found
                steps, removed = fewer[: number + 1], True
            else:
                at += size
        if size == 1 and not removed:
            break
        size = max(size // 2, 1)
    return steps, story


@pytest.fixture(scope="session")
def payloads(reference):  # noqa: F811
    """DUMPs of a value of each type."""
    found = []
    with reference.client() as client:
        for line in PAYLOADS.strip().splitlines():
            client.pipeline("DEL p", line)
            found.append(client("DUMP p"))
        client("DEL p")
    return found


def test_all_families_mixed_are_answered_as_by_redis(server, reference, payloads):  # noqa: F811
    unless_redis_falls((server, reference), lambda: compare_mixed(server, reference, payloads))


def compare_mixed(server, reference, payloads):  # noqa: F811
    """Rounds of commands of all families, answered by both."""
    signal.alarm(120 + COMMANDS // COMMANDS_PER_SECOND_MIN)
    first = int(os.environ.get("CORELANE_MIXED_SEED") or random.randrange(1 << 32))
    pair, mismatches = Pair(server, reference), []
    # Redis looks at timeouts at this frequency when there is nothing else to do.
    with contextlib.closing(pair), server.config(hz=500), reference.config(hz=500):
        for seed in range(first, first + max(COMMANDS // ROUND_COMMANDS, 1)):
            steps = Round(seed, payloads).steps
            if not pair.run(steps):
                continue
            try:
                steps, story = shrunk(pair, steps)
                lines = "".join(f"\n        {connection}: {shown(command)}" for connection, command in steps)
            except TypeError:
                lines, story = "", "it did not come again"
            mismatches.append(f"seed {seed}{lines}\n        {story}")
            if len(mismatches) >= MISMATCHES_SHOWN:
                break
        pair.fresh()
        for admin in pair.admins:
            assert admin("DEBUG SET-ACTIVE-EXPIRE 1") == OK
    assert not mismatches, f"the first seed was {first}\n    " + "\n    ".join(mismatches)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_breaks_a_watch_does_so_as_in_redis(server, reference, payloads, family):  # noqa: F811
    unless_redis_falls((server, reference), lambda: compare_watches(server, reference, payloads, family))


def compare_watches(server, reference, payloads, family):  # noqa: F811
    """Random commands of a family while other connections watch the keys, on both."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    vocabulary = {**VOCABULARY, "script": pick(SCRIPTS), "payload": pick(payloads)}
    templates = [parse(line) for line in LINES[family]]
    keys = [f"{kind}{number}" for kind in "slhezxq" for number in range(3)]
    pair, mismatches, history = Pair(server, reference), {}, []
    with contextlib.closing(pair), server.config(hz=500), reference.config(hz=500):
        pair.fresh()
        for _ in range(WATCHED_COMMANDS):
            command = expand(rng.choice(templates), rng, vocabulary)
            if command[0] in ("MULTI", "EXEC", "DISCARD"):
                continue
            broken = []
            for writer, watcher in zip(pair.connections[0], pair.connections[1]):
                watcher("WATCH", *keys)
                writer(*command)
                broken.append(watcher.pipeline("MULTI", "EXEC")[-1])
            if broken[0] != broken[1]:
                before = "".join(f"\n        after {shown(line)}" for line in history if set(line[1:]) & set(command[1:]))
                mismatches.setdefault(tuple(command[:2]), f"{shown(command)}: redis {broken[1]}, got {broken[0]}{before[-600:]}")
            history.append(command)
        pair.fresh()
        for admin in pair.admins:
            assert admin("DEBUG SET-ACTIVE-EXPIRE 1") == OK
    assert not mismatches, f"seed {seed}\n    " + "\n    ".join(mismatches.values())
