"""What happens when the memory that maxmemory grants is used up, under each of the eight policies."""

import time

import pytest

from harness import *
from harness import OK

OOM = Error("OOM command not allowed when used memory > 'maxmemory'.")
MEGABYTE = 1024 * 1024
VALUE = "x" * 1000


@pytest.fixture
def server(private_server):
    """A server without a past: what earlier tests' connections left behind would blur the limits."""
    return private_server()


def used(server):
    return int(server.info("memory")["used_memory"])


def fill(client, prefix, count, *options):
    """Sets count keys of about a kilobyte; returns the replies."""
    replies = []
    for start in range(0, count, 500):
        names = range(start, min(start + 500, count))
        replies += client.pipeline(*(("SET", f"{prefix}:{i}", VALUE, *options) for i in names))
    return replies


def survivors(client, prefix, count):
    """How many are left. EXISTS does not count as a use of the key; TOUCH does."""
    return client("EXISTS", *[f"{prefix}:{i}" for i in range(count)])


def touch(client, prefix, count):
    return client("TOUCH", *[f"{prefix}:{i}" for i in range(count)])


def test_noeviction_refuses_what_could_grow_and_allows_the_rest(server, c):
    c.pipeline(("SET", "k", "v"), ("RPUSH", "l", "a", "b"), ("HSET", "h", "f", "v"), ("SADD", "s", "a"), ("ZADD", "z", 1, "a"))
    with server.config(maxmemory_policy="noeviction", maxmemory=1):
        check(
            c,
            ("SET k w", OOM),
            ("SETEX k 10 w", OOM),
            ("MSET a 1 b 2", OOM),
            ("APPEND k w", OOM),
            ("INCR n", OOM),
            ("SETRANGE k 0 w", OOM),
            ("SETBIT k 0 1", OOM),
            ("LPUSH l c", OOM),
            ("XADD x * f v", OOM),
            ("LSET l 0 c", OOM),
            ("LINSERT l BEFORE a c", OOM),
            ("LMOVE l l LEFT RIGHT", OOM),
            ("HSET h g w", OOM),
            ("HINCRBY h n 1", OOM),
            ("SADD s b", OOM),
            ("SUNIONSTORE t s", OOM),
            ("ZADD z 2 b", OOM),
            ("ZINCRBY z 1 a", OOM),
            ("COPY k k2", OOM),
            ("BITOP NOT d k", OOM),
            ("SORT l ALPHA STORE m", OOM),
            ("RESTORE m 0 x", OOM),
            ("SORT_RO l ALPHA", ["a", "b"]),
            ("SET", wrong_arity("set")),  # the arity is looked at first
            ("GET k", "v"),
            ("LPOP l", "a"),
            ("EXPIRE k 100", 1),
            ("PERSIST k", 1),
            ("HDEL h f", 1),
            ("SREM s a", 1),
            ("ZREM z a", 1),
            ("RENAME k k3", OK),
            ("DEL k3", 1),
            ("PING", Simple("PONG")),
        )
    assert c("SET k w") == OK


covers(
    "SET", "SETEX", "MSET", "APPEND", "INCR", "SETRANGE", "SETBIT", "LSET", "LINSERT", "LMOVE", "HINCRBY", "SUNIONSTORE", "ZINCRBY",
    "BITOP", "RENAME", "SORT", "SORT_RO", "RESTORE",
)  # fmt: skip


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_allkeys_policies_make_room_and_keep_to_the_limit(server, c, policy):
    limit = used(server) + 5 * MEGABYTE
    with server.config(maxmemory_policy=policy, maxmemory=limit):
        assert set(fill(c, "k", 15_000)) == {OK}
        assert used(server) <= limit + MEGABYTE
        left = c("DBSIZE")
        assert 1000 < left < 6000, f"{left} keys fit into 5 MB"
        # Any command may have to evict, so the two numbers are read until they stand still.
        eventually(lambda: int(server.info("stats")["evicted_keys"]) + c("DBSIZE") == 15_000)
        assert c("SET", "big", "x" * 2 * MEGABYTE) == OK
        c("SET small v")
        eventually(lambda: used(server) <= limit + MEGABYTE)
        assert c("DBSIZE") < left


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"])
def test_volatile_policies_take_only_keys_with_an_expiry(server, c, policy):
    limit = used(server) + 8 * MEGABYTE
    with server.config(maxmemory_policy=policy, maxmemory=limit):
        assert set(fill(c, "stay", 2000)) == {OK}
        assert set(fill(c, "go", 10_000, "EX", 10_000)) == {OK}
        assert survivors(c, "stay", 2000) == 2000
        left = survivors(c, "go", 10_000)
        assert 0 < left < 6000
        assert used(server) <= limit + MEGABYTE
        replies = fill(c, "more", 8000)
        assert replies[0] == OK and set(replies) == {OK, OOM}, "with nothing left to evict, writes are refused"
        # What the last pipeline needed while it ran is free again, and a few more values fit in there.
        eventually(lambda: c("SET", f"again:{time.monotonic_ns()}", VALUE) == OOM)
        assert survivors(c, "stay", 2000) == 2000
        assert survivors(c, "go", 10_000) == 0
        assert c("GET stay:0") == VALUE.encode()


def test_volatile_ttl_takes_those_first_that_would_go_soonest(server, c):
    fill(c, "late", 2000, "EX", 100_000)
    fill(c, "soon", 2000, "EX", 100)
    with server.config(maxmemory_policy="volatile-ttl", maxmemory=used(server), maxmemory_samples=10):
        fill(c, "more", 1000, "EX", 1_000_000)
        late, soon = survivors(c, "late", 2000), survivors(c, "soon", 2000)
        assert soon < 1400 and late > 1800, f"{late} late and {soon} soon keys are left of 2000 each"


def test_allkeys_lru_keeps_what_was_read_last(server, c):
    fill(c, "cold", 2000)
    fill(c, "hot", 2000)
    eventually(lambda: c("OBJECT IDLETIME cold:0") >= 2)
    touch(c, "hot", 2000)
    with server.config(maxmemory_policy="allkeys-lru", maxmemory=used(server), maxmemory_samples=10):
        fill(c, "more", 1000)
        hot, cold = survivors(c, "hot", 2000), survivors(c, "cold", 2000)
        assert cold < 1400 and hot > 1800, f"{hot} hot and {cold} cold keys are left of 2000 each"


def test_allkeys_lfu_keeps_what_is_read_often(server, c):
    with server.config(maxmemory_policy="allkeys-lfu", maxmemory_samples=10):
        fill(c, "cold", 2000)
        fill(c, "hot", 500)
        for _ in range(30):
            touch(c, "hot", 500)
        with server.config(maxmemory=used(server)):
            fill(c, "more", 1000)
            hot = survivors(c, "hot", 500)
            assert hot > 450, f"only {hot} of 500 hot keys are left"


def test_raising_or_lowering_maxmemory_takes_effect_at_once(server, c):
    fill(c, "k", 5000)
    with server.config(maxmemory_policy="allkeys-lru"):
        before = c("DBSIZE")
        with server.config(maxmemory=used(server) - 2 * MEGABYTE):
            eventually(lambda: c("PING") and c("DBSIZE") < before - 1000)
    assert set(fill(c, "again", 100)) == {OK}


def test_evicted_keys_are_gone_for_every_command(server, c):
    limit = used(server) + 2 * MEGABYTE
    with server.config(maxmemory_policy="allkeys-random", maxmemory=limit):
        fill(c, "k", 5000)
    with server.config(maxmemory=0):  # from here on nothing more is evicted
        present = {name for name in (f"k:{i}".encode() for i in range(5000)) if c("EXISTS", name)}
        cursor, seen = b"0", set()
        while True:
            cursor, names = c("SCAN", cursor, "COUNT", 500)
            seen.update(names)
            if cursor == b"0":
                break
        assert seen == present
        assert len(present) == c("DBSIZE")


def test_a_script_that_writes_is_refused_with_the_script_named(server, c):
    with server.config(maxmemory_policy="noeviction", maxmemory=1):
        reply = c("EVAL", "return redis.call('SET', KEYS[1], '1')", 1, "k")
        assert isinstance(reply, Error) and reply.startswith("OOM command not allowed when used memory > 'maxmemory'"), reply
    assert c("EXISTS k") == 0


def test_a_script_tells_whether_it_needs_room(server, c):
    with server.config(maxmemory_policy="noeviction", maxmemory=1):
        check(
            c,
            (("EVAL", "return redis.call('GET', 'nothing')", 0), NIL),
            (("EVAL", "#!lua\nreturn 1", 0), OOM),
            (("EVAL", "#!lua flags=no-writes\nreturn 1", 0), 1),
            (("EVAL", "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], 'v')", 1, "k"), OK),
            (("EVAL", "redis.call('DEL', KEYS[1]) return redis.call('SET', KEYS[1], 'v')", 1, "k"), OK),  # it has begun to write
        )


covers("EVAL")
