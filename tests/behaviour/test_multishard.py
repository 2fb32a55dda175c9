"""Commands over several keys stay atomic and isolated, wherever their keys live.

Corelane spreads keys over shards that share nothing, so a command over several keys is a transaction
between cores. Nobody may be able to tell: no reader sees half of an MSET, no element is lost or
doubled on its way. All tests are random, bounded by counts, and print their seed.
"""

import random
import threading

import pytest

from harness import *
from harness import NIL, OK
from harness.together import times, together

KEYS = [f"key:{i}" for i in range(12)]  # over three shards, these lie on all of them


@pytest.fixture
def seed():
    value = random.randrange(1 << 32)
    print("seed", value)
    return value


# ---- all keys or none ------------------------------------------------------------------------


def test_a_reader_never_sees_half_of_an_mset(server, c, seed):
    def write(client, rng):
        batch = [rng.randrange(1 << 30) for _ in range(10)]
        # The keys come in a new order each time: a lock taken in argument order would deadlock.
        orders = [rng.sample(KEYS, len(KEYS)) for _ in batch]
        commands = [["MSET", *[w for key in order for w in (key, value)]] for order, value in zip(orders, batch)]
        assert client.pipeline(*commands) == [OK] * len(batch)

    def read(client, rng):
        for values in client.pipeline(*[["MGET", *rng.sample(KEYS, len(KEYS))] for _ in range(10)]):
            assert len(set(values)) == 1, f"MGET saw {set(values)}"

    c("MSET", *[w for key in KEYS for w in (key, "0")])
    together(server, seed, *[times(60, write)] * 4, *[times(100, read)] * 4)


def test_msetnx_sets_all_keys_or_none(server, c, seed):
    won = []

    def attempt(client, rng):
        value = rng.randrange(1 << 30)
        keys = rng.sample(KEYS, 6)
        if client("MSETNX", *[w for key in keys for w in (key, value)]) == 1:
            won.append(value)
            assert client("MGET", *keys) == [str(value).encode()] * 6, "only the winner may delete"
            assert client("DEL", *rng.sample(keys, 6)) == 6

    def read(client, rng):
        # Two winners may hold 6 keys each, never a part of 6.
        values = [value for value in client("MGET", *KEYS) if value is not NIL]
        for value in set(values):
            assert values.count(value) == 6, f"{values.count(value)} of 6 keys are there"

    together(server, seed, *[times(250, attempt)] * 5, *[times(250, read)] * 3)
    assert won, "nobody ever won"
    assert c("DBSIZE") == 0


def test_del_exists_and_unlink_of_many_keys_are_atomic(server, c, seed):
    def write(client, rng):
        verb = rng.choice(["MSET", "DEL", "UNLINK", "FLUSHALL"])
        keys = rng.sample(KEYS, len(KEYS))
        if verb == "MSET":
            client("MSET", *[w for key in keys for w in (key, "v")])
        elif verb == "FLUSHALL":
            assert client("FLUSHALL") == OK
        else:
            assert client(verb, *keys) in (0, len(KEYS))

    def read(client, rng):
        assert client("EXISTS", *rng.sample(KEYS, len(KEYS))) in (0, len(KEYS))
        assert client("DBSIZE") in (0, len(KEYS))

    together(server, seed, *[times(200, write)] * 4, *[times(200, read)] * 4)


# ---- nothing is lost, nothing doubled --------------------------------------------------------


def test_rename_neither_loses_nor_doubles_a_key(server, c, seed):
    tokens = 5
    c("MSET", *[w for key in KEYS[:tokens] for w in (key, key)])

    def move(client, rng):
        source, target = rng.sample(KEYS, 2)
        assert client("RENAMENX", source, target) in (0, 1, Error("ERR no such key"))

    def read(client, rng):
        values = [value for value in client("MGET", *rng.sample(KEYS, len(KEYS))) if value is not NIL]
        assert sorted(values) == [key.encode() for key in KEYS[:tokens]]
        assert client("EXISTS", *KEYS) == tokens

    together(server, seed, *[times(300, move)] * 5, *[times(200, read)] * 3)


def test_smove_neither_loses_nor_doubles_a_member(server, c, seed):
    members = {f"m{i}".encode() for i in range(30)}
    sets = KEYS[:6]
    c("SADD", sets[0], *members)

    def move(client, rng):
        source, target = rng.sample(sets, 2)
        client.pipeline(*[("SMOVE", source, target, rng.choice(sorted(members))) for _ in range(5)])

    def read(client, rng):
        assert len(client("SUNION", *rng.sample(sets, len(sets)))) == len(members)
        assert client("SINTERCARD", 2, *rng.sample(sets, 2)) == 0

    together(server, seed, *[times(120, move)] * 5, *[times(120, read)] * 3)
    assert sum(c("SCARD", key) for key in sets) == len(members)


def test_lmove_neither_loses_nor_doubles_an_element(server, c, seed):
    elements = sorted(f"e{i}".encode() for i in range(50))
    lists = KEYS[:6]
    c("RPUSH", lists[0], *elements)

    def move(client, rng):
        sides = ["LEFT", "RIGHT"]
        commands = [("LMOVE", rng.choice(lists), rng.choice(lists), rng.choice(sides), rng.choice(sides)) for _ in range(8)]
        commands += [("RPOPLPUSH", rng.choice(lists), rng.choice(lists)) for _ in range(4)]
        for reply in client.pipeline(*commands):
            assert reply is NIL or reply in elements

    together(server, seed, *[times(100, move)] * 6)
    assert sorted(element for key in lists for element in c("LRANGE", key, 0, -1)) == elements


def test_counters_of_many_connections_add_up(server, c, seed):
    def count(client, rng):
        client.pipeline(*[("INCR", rng.choice(KEYS)) for _ in range(50)], *[("HINCRBY", "h", rng.randrange(5), 1) for _ in range(50)])

    together(server, seed, *[times(20, count)] * 8)
    assert sum(int(value) for value in c("MGET", *KEYS) if value is not NIL) == 8 * 20 * 50
    assert sum(int(value) for value in c("HVALS h")) == 8 * 20 * 50


# ---- what is computed from several keys ------------------------------------------------------


def test_set_algebra_over_shards_is_right(c, seed):
    rng = random.Random(seed)
    keys = KEYS[:6]
    for _ in range(60):
        model = {key: {str(rng.randrange(20)) for _ in range(rng.choice([0, 1, 5, 15]))} for key in keys}
        c("DEL", *keys)
        c.pipeline(*[("SADD", key, *members) for key, members in model.items() if members])
        sources = [rng.choice(keys) for _ in range(rng.choice([1, 2, 3, 5]))]
        operands = [model[key] for key in sources]
        for verb, result in [
            ("SUNION", set.union(*operands)),
            ("SINTER", set.intersection(*operands)),
            ("SDIFF", operands[0].difference(*operands[1:])),
        ]:
            result = {member.encode() for member in result}
            got = c(verb, *sources)
            assert len(got) == len(result) and set(got) == result, f"{verb} {sources}"
            target = rng.choice(keys)
            before = c("SMEMBERS", target)
            assert c(f"{verb}STORE", target, *sources) == len(result), f"{verb}STORE {target} {sources}"
            assert set(c("SMEMBERS", target)) == result
            assert c("EXISTS", target) == (1 if result else 0)
            c.pipeline(("DEL", target), *([("SADD", target, *before)] if before else []))
        assert c("SINTERCARD", len(sources), *sources) == len(set.intersection(*operands))


def test_sorted_set_algebra_over_shards_is_right(c, seed):
    rng = random.Random(seed)
    keys = KEYS[:5]
    for _ in range(60):
        model = {key: {str(rng.randrange(12)): rng.randrange(1, 50) for _ in range(rng.choice([0, 1, 4, 9]))} for key in keys}
        c("DEL", *keys, "target")
        c.pipeline(*[("ZADD", key, *[w for m, s in zset.items() for w in (s, m)]) for key, zset in model.items() if zset])
        sources = rng.sample(keys, rng.choice([1, 2, 3]))
        weights = [rng.choice([1, 2, -1]) for _ in sources]
        name, merge = rng.choice([("SUM", sum), ("MIN", min), ("MAX", max)])
        operands = [model[key] for key in sources]
        scores = {}
        for zset, weight in zip(operands, weights):
            for member, score in zset.items():
                scores.setdefault(member, []).append(score * weight)
        union = {member: merge(values) for member, values in scores.items()}
        common = {member: score for member, score in union.items() if all(member in zset for zset in operands)}
        options = [len(sources), *sources, "WEIGHTS", *weights, "AGGREGATE", name]
        alone = {m: s for m, s in operands[0].items() if not any(m in zset for zset in operands[1:])}
        for verb, arguments, result in [
            ("ZUNION", options, union),
            ("ZINTER", options, common),
            ("ZDIFF", [len(sources), *sources], alone),
        ]:
            ordered = sorted(result.items(), key=lambda item: (item[1], item[0]))
            flat = [str(word).encode() for item in ordered for word in item]
            assert c(verb, *arguments, "WITHSCORES") == flat, f"{verb} {arguments}"
            target = rng.choice(["target", sources[0]])
            saved = c("ZRANGE", target, 0, -1, "WITHSCORES")
            assert c(f"{verb}STORE", target, *arguments) == len(result), f"{verb}STORE {target} {arguments}"
            assert c("ZRANGE", target, 0, -1, "WITHSCORES") == flat
            c.pipeline(("DEL", target), *([("ZADD", target, *[w for p in zip(saved[1::2], saved[::2]) for w in p])] if saved else []))


def test_a_store_is_seen_whole_or_not_at_all(server, c, seed):
    versions = [{f"{version}:{i}".encode() for i in range(50)} for version in range(2)]
    for version in range(2):
        c("SADD", f"source:{version}", *versions[version])
    c("SADD", "common", "c")

    def write(client, rng):
        version = rng.randrange(2)
        assert client("SUNIONSTORE", "target", f"source:{version}", "common") == 51

    def read(client, rng):
        got = set(client("SMEMBERS target"))
        assert got in (set(), versions[0] | {b"c"}, versions[1] | {b"c"})

    together(server, seed, *[times(150, write)] * 3, *[times(150, read)] * 4)


def test_other_commands_over_two_shards(c):
    """Those that read one key and write another, for many pairs, so that all pairs of shards occur."""
    for i in range(20):
        a, b = f"a{i}", f"b{i * 7}"
        check(
            c,
            (("SET", a, "value"), OK),
            (("COPY", a, b), 1),
            (("GET", b), "value"),
            (("COPY", a, b, "DB", 1), 1),
            ("SELECT 1", OK),
            (("GET", b), "value"),
            (("DEL", b), 1),
            ("SELECT 0", OK),
            (("BITOP", "NOT", b, a), 5),
            (("STRLEN", b), 5),
            (("LCS", a, a), "value"),
            (("DEL", a, b), 2),
            (("RPUSH", a, 3, 1, 2), 3),
            (("LMPOP", 2, "nothing", a, "LEFT"), [a, ["3"]]),
            (("DEL", a), 1),
            (("ZADD", a, 1, "x", 2, "y"), 2),
            (("ZRANGESTORE", b, a, 0, 0), 1),
            (("ZRANGE", b, 0, -1), ["x"]),
            (("ZMPOP", 2, b, a, "MIN"), [b, [["x", "1"]]]),
            (("DEL", a, b), 1),
            (("MSETNX", a, 1, b, 2), 1),
            (("MSETNX", b, 3, "free", 4), 0),
            (("GETDEL", a), "1"),
            (("RENAME", b, a), OK),
            (("GET", a), "2"),
            (("DEL", a), 1),
        )


covers(
    "MSETNX", "MGET", "MSET", "COPY", "BITOP", "LCS", "LMPOP", "ZRANGESTORE", "ZMPOP",
    "GETDEL", "RENAME", "RENAMENX", "SMOVE", "LMOVE", "RPOPLPUSH", "SUNION", "SINTER", "SDIFF",
    "SUNIONSTORE", "SINTERSTORE", "SDIFFSTORE", "SINTERCARD", "ZUNION", "ZINTER", "ZDIFF", "ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE",
    "INCR", "HINCRBY", "HVALS", "STRLEN",
)  # fmt: skip


# ---- whole databases -------------------------------------------------------------------------


def test_swapdb_and_flushall_are_seen_whole(server, c, seed):
    for number in range(2):
        c("SELECT", number)
        c("MSET", *[w for key in KEYS for w in (key, number)])

    def swap(client, rng):
        assert client("SWAPDB 0 1") == OK

    def read(client, rng):
        values = set(client("MGET", *KEYS))
        assert values in ({b"0"}, {b"1"}), values

    together(server, seed, *[times(150, swap)] * 2, *[times(200, read)] * 4)


def test_a_script_over_shards_is_seen_whole(server, c, seed):
    accounts, money = KEYS[:8], 800
    c("MSET", *[w for key in accounts for w in (key, money // 8)])
    script = "redis.call('DECRBY', KEYS[1], ARGV[1]) redis.call('INCRBY', KEYS[2], ARGV[1]) return 1"

    def transfer(client, rng):
        assert client("EVAL", script, 2, *rng.sample(accounts, 2), rng.randrange(1, 10)) == 1

    def audit(client, rng):
        assert sum(int(value) for value in client("MGET", *rng.sample(accounts, 8))) == money

    together(server, seed, *[times(150, transfer)] * 4, *[times(150, audit)] * 3)


def test_a_script_that_declares_nothing_is_seen_whole(server, c, seed):
    """Each run finds out about its keys one after the other, after it has written."""
    accounts, money = KEYS[:8], 800
    c("MSET", *[w for key in accounts for w in (key, money // 8)])
    script = "redis.call('DECRBY', ARGV[1], ARGV[3]) redis.call('INCRBY', ARGV[2], ARGV[3]) return 1"

    def transfer(client, rng):
        assert client("EVAL", script, 0, *rng.sample(accounts, 2), rng.randrange(1, 10)) == 1

    def audit(client, rng):
        total = "local sum = 0 for _, key in ipairs(ARGV) do sum = sum + redis.call('GET', key) end return sum"
        assert client("EVAL", total, 0, *rng.sample(accounts, 8)) == money
        assert sum(int(value) for value in client("MGET", *rng.sample(accounts, 8))) == money

    def block(client, rng):
        one, other = rng.sample(accounts, 2)
        transfer = ("EVAL", script, 1, one, one, other, 1)
        replies = client.pipeline("MULTI", transfer[:2] + (0,) + transfer[4:], ("MGET", *accounts), "EXEC")
        assert replies[-1][0] == 1 and sum(int(value) for value in replies[-1][1]) == money

    together(server, seed, *[times(60, transfer)] * 3, *[times(40, audit)] * 2, times(40, block))


covers("SWAPDB", "FLUSHALL", "DEL", "UNLINK", "EXISTS", "DBSIZE")


def test_blocked_consumers_get_every_element_once(server, c, seed):
    queues, produced, received = KEYS[:5], 300, []

    def produce(client, rng):
        for _ in range(produced):
            value = b"%d:%d" % (threading.get_ident(), rng.randrange(1 << 60))
            assert client("RPUSH", rng.choice(queues), value) >= 0

    def consume(client, rng):
        while len(received) < 3 * produced:
            reply = client("BLPOP", *rng.sample(queues, len(queues)), "0.1")
            if reply is not NIL_ARRAY:
                assert isinstance(reply, list), reply
                received.append(reply[1])

    together(server, seed, *[produce] * 3, *[consume] * 5)
    assert len(received) == len(set(received)) == 3 * produced
    assert c("EXISTS", *queues) == 0


def test_blmove_between_shards_neither_loses_nor_doubles(server, c, seed):
    count, moved = 200, []

    def produce(client, rng):
        for i in range(count):
            client("LPUSH", "jobs", f"{threading.get_ident()}:{i}")

    def work(client, rng):
        while len(moved) < 2 * count:
            reply = client("BLMOVE", "jobs", "done", "RIGHT", "LEFT", "0.1")
            if reply is not NIL_ARRAY:
                assert isinstance(reply, bytes), reply
                moved.append(reply)

    together(server, seed, *[produce] * 2, *[work] * 4)
    done = c("LRANGE done 0 -1")
    assert len(done) == len(set(done)) == 2 * count
    assert c("EXISTS jobs") == 0


def test_exec_over_shards_is_seen_whole(server, c, seed):
    accounts, money = KEYS[:8], 800
    c("MSET", *[w for key in accounts for w in (key, money // 8)])

    def transfer(client, rng):
        source, target = rng.sample(accounts, 2)
        amount = rng.randrange(1, 10)
        replies = client.pipeline("MULTI", ("DECRBY", source, amount), ("INCRBY", target, amount), "EXEC")
        assert isinstance(replies[-1], list) and len(replies[-1]) == 2, replies

    def audit(client, rng):
        assert sum(int(value) for value in client("MGET", *rng.sample(accounts, 8))) == money
        replies = client.pipeline("MULTI", *[("GET", key) for key in accounts], "EXEC")
        assert sum(int(value) for value in replies[-1]) == money

    together(server, seed, *[times(200, transfer)] * 5, *[times(120, audit)] * 3)


def test_watch_over_shards_guards_what_was_read(server, c, seed):
    done = []

    def increment_both(client, rng):
        first, second = rng.sample(KEYS[:4], 2)
        assert client("WATCH", first, second) == OK
        values = [int(value) if value is not NIL else 0 for value in client("MGET", first, second)]
        replies = client.pipeline("MULTI", ("SET", first, values[0] + 1), ("SET", second, values[1] + 1), "EXEC")
        if replies[-1] is not NIL_ARRAY:
            assert replies[-1] == [OK, OK]
            done.append(1)

    together(server, seed, *[times(100, increment_both)] * 5)
    assert done, "no transaction ever got through"
    assert sum(int(value) for value in c("MGET", *KEYS[:4]) if value is not NIL) == 2 * len(done)


covers("EVAL")
