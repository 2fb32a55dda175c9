"""DUMP and RESTORE: a value leaves a server as bytes and comes to life again, here or on a real Redis."""

import pytest

from harness import *
from harness import NIL, OK, Server

BUSY = Error("BUSYKEY Target key name already exists.")
BAD_FRAME = Error("ERR DUMP payload version or checksum are wrong")
BAD_DATA = Error("ERR Bad data format")
POLYNOMIAL = 0x95AC9329AC4BC9B5
"""That of Jones (CRC-64), its bits reversed."""

ENCODINGS = {
    "s": (("SET", "s", "value"), "embstr"),
    "n": (("SET", "n", "123456"), "int"),
    "long": (("SET", "long", "abc" * 1000), "raw"),
    "list": (("RPUSH", "list", "a", "b", "3", "x" * 200, ""), "quicklist"),
    "nodes": (("RPUSH", "nodes", *(f"{i:>100}" for i in range(500))), "quicklist"),
    "ints": (("SADD", "ints", 1, 2, 300000), "intset"),
    "set": (("SADD", "set", "a", "b", "7"), "hashtable"),
    "hash": (("HSET", "hash", "f", "v", "g", 5), "listpack"),
    "table": (("HSET", "table", "f", "v" * 65, "g", "w"), "hashtable"),
    "zset": (("ZADD", "zset", 1, "a", 2.5, "b", "-inf", "c"), "listpack"),
    "skip": (("ZADD", "skip", 1, "m" * 65, -0.5, "b", "inf", "c"), "skiplist"),
    "stream": (("XADD", "stream", "5-3", "f", "v", "g", "x" * 200), "stream"),
}
IN_THE_ORDER_OF_A_TABLE = {"set", "table"}


def fill(client):
    for command, _ in ENCODINGS.values():
        client(*command)


def contents(client):
    return client.pipeline(
        "GET s", "GET n", "GET long", "LRANGE list 0 -1", "LRANGE nodes 0 -1", "SMEMBERS ints", "SORT set ALPHA", "HGETALL hash",
        "HGET table f", "HGET table g", "HLEN table", "ZRANGE zset 0 -1 WITHSCORES", "ZRANGE skip 0 -1 WITHSCORES", "XINFO STREAM stream FULL",
        "DBSIZE",
        *(("OBJECT", "ENCODING", key) for key in ENCODINGS),
    )  # fmt: skip


def sealed(body, version=10):
    """A payload around a body: version and checksum."""
    body += version.to_bytes(2, "little")
    crc = 0
    for byte in body:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ POLYNOMIAL * (crc & 1)
    return body + crc.to_bytes(8, "little")


def test_every_kind_of_value_is_restored_as_it_was(c):
    fill(c)
    before = contents(c)
    for key, (_, encoding) in ENCODINGS.items():
        assert c("OBJECT", "ENCODING", key) == encoding.encode()
        payload = c("DUMP", key)
        assert c("RESTORE", key, 0, payload) == BUSY
        assert c("DEL", key) == 1
        assert c("RESTORE", key, 0, payload) == OK
        assert c("RESTORE", key, 0, payload, "REPLACE") == OK
    assert contents(c) == before


@pytest.fixture
def private_redis():
    server = Server("redis").start()
    yield server
    server.stop()


def test_a_dump_has_the_bytes_of_redis_and_travels_both_ways(c, private_redis):
    fill(c)
    with private_redis.client() as other:
        for key in ENCODINGS:
            assert other("RESTORE", key, 0, c("DUMP", key)) == OK
        assert contents(other) == contents(c)
        other("FLUSHALL")
        fill(other)
        for key in ENCODINGS:
            theirs = other("DUMP", key)
            assert key in IN_THE_ORDER_OF_A_TABLE or c("DUMP", key) == theirs, key
            assert c("RESTORE", key, 0, theirs, "REPLACE") == OK
        assert contents(other) == contents(c)


def test_restore_takes_time_to_live_and_usage(c):
    c("SET s v")
    payload = c("DUMP s")
    check(
        c,
        (("RESTORE", "a", 100_000, payload), OK),
        ("TTL a", between(99, 100)),
        (("RESTORE", "b", 33177117420000, payload, "ABSTTL"), OK),
        ("EXPIRETIME b", 33177117420),
        (("RESTORE", "d", 0, payload, "idletime", 1000), OK),
        ("OBJECT IDLETIME d", between(1000, 1010)),
        (("RESTORE", "e", 0, payload, "FREQ", 100), OK),  # no policy that counts
        ("OBJECT IDLETIME e", between(0, 5)),
        (("RESTORE", "f", 1, payload, "ABSTTL"), OK),  # over already
        ("EXISTS f", 0),
        (("RESTORE", "s", 1, payload, "ABSTTL", "REPLACE"), OK),
        ("EXISTS s", 0),
        ("DUMP s", NIL),
    )


def test_restore_takes_a_frequency_under_a_policy_that_counts(server, c):
    c("SET s v")
    payload = c("DUMP s")
    with server.config(maxmemory_policy="allkeys-lfu"):
        check(
            c,
            (("RESTORE", "a", 0, payload, "FREQ", 100), OK),
            ("OBJECT FREQ a", 100),
            (("RESTORE", "b", 0, payload, "IDLETIME", 100), OK),
            ("OBJECT FREQ b", between(0, 10)),
        )


def test_restore_says_what_is_wrong_in_the_order_of_redis(c):
    c("SET s v")
    good = c("DUMP s")
    check(
        c,
        (("RESTORE", "w", 0, good, "NOPE"), SYNTAX_ERROR),
        (("RESTORE", "w", 0, good, "FREQ"), SYNTAX_ERROR),
        (("RESTORE", "w", 0, good, "IDLETIME", 1, "FREQ", 1), SYNTAX_ERROR),
        (("RESTORE", "s", 0, good, "FREQ", "x"), NOT_AN_INTEGER),
        (("RESTORE", "s", 0, good, "FREQ", 256), Error("ERR Invalid FREQ value, must be >= 0 and <= 255")),
        (("RESTORE", "s", 0, good, "IDLETIME", -1), Error("ERR Invalid IDLETIME value, must be >= 0")),
        (("RESTORE", "s", "x", b""), BUSY),
        (("RESTORE", "w", "x", b""), NOT_AN_INTEGER),
        (("RESTORE", "w", -1, b""), Error("ERR Invalid TTL value, must be >= 0")),
        (("RESTORE", "w", 0, b""), BAD_FRAME),
        (("RESTORE", "w", 0, good[:-1] + bytes([good[-1] ^ 1])), BAD_FRAME),
        (("RESTORE", "w", 0, sealed(good[:-10], 11)), BAD_FRAME),
        (("RESTORE", "w", 0, sealed(b"\x12\x00")), BAD_DATA),
        (("RESTORE", "s", 0, sealed(b"\x12\x00"), "REPLACE"), BAD_DATA),
        ("GET s", "v"),
        (("RESTORE", "w", 0, sealed(good[:-10], 1)), OK),
        (("RESTORE", "w2", 0, sealed(good[:-10] + b"surplus")), OK),
        ("MGET w w2", ["v", "v"]),
        ("DUMP nothing", NIL),
        ("DUMP", wrong_arity("dump")),
        ("RESTORE k 0", wrong_arity("restore")),
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x08",
        b"\x01\x00",  # an empty list
        b"\x01\x02\x01a",  # one element of two
        b"\x02\x02\x01a\x01a",  # a member twice
        b"\x05\x01\x01a\x00\x00\x00\x00\x00\x00\xf8\x7f",  # a score that is no number
        b"\x0b\x08\x02\x00\x00\x00\x00\x00\x00\x00",  # an intset of nothing
        b"\x10\x07\x07\x00\x00\x00\x00\x00\x00",  # a listpack without an end
        b"\x14\x02\x01a\x01b",  # a type of a later version
        b"\x00\xc3\x02\x7f\xff\x00a",  # a string shorter than promised
        b"\x01\x81\xff\xff\xff\xff\xff\xff\xff\xff\x01a",  # a length beyond memory
    ],
)
def test_what_is_no_value_is_refused(c, body):
    assert c("RESTORE", "k", 0, sealed(body)) == BAD_DATA
    assert c("EXISTS k") == 0


@pytest.mark.parametrize(
    "body, read, expected",
    [
        (b"\x01\x02\x01a\x01b", "LRANGE k 0 -1", [b"a", b"b"]),
        (b"\x02\x02\xc0\x05\xc0\x03", "SMEMBERS k", [b"3", b"5"]),
        (b"\x03\x02\x01a\x031.5\x01b\xff", "ZRANGE k 0 -1 WITHSCORES", [b"b", b"-inf", b"a", b"1.5"]),
        (b"\x09\x09\x01\x01f\x02\x01v1.\xff", "HGETALL k", [b"f", b"v1"]),
        (b"\x0a\x10" + b"\x10\x00\x00\x00\x0d\x00\x00\x00\x02\x00\x00\x01a\x03\xf6\xff", "LRANGE k 0 -1", [b"a", b"5"]),
        (b"\x0d\x10" + b"\x10\x00\x00\x00\x0d\x00\x00\x00\x02\x00\x00\x01a\x03\xf6\xff", "HGETALL k", [b"a", b"5"]),
        (b"\x0e\x01\x10" + b"\x10\x00\x00\x00\x0d\x00\x00\x00\x02\x00\x00\x01a\x03\xf6\xff", "LRANGE k 0 -1", [b"a", b"5"]),
    ],
)
def test_values_of_old_versions_are_read(c, body, read, expected):
    assert c("RESTORE", "k", 0, sealed(body)) == OK
    assert c(read) == expected


def test_encodings_follow_the_settings_of_who_restores(server, c):
    fill(c)
    payloads = {key: c("DUMP", key) for key in ("ints", "hash", "zset", "list")}
    with server.config(set_max_intset_entries=1, hash_max_listpack_entries=1, zset_max_listpack_entries=1):
        for key, encoding in (("ints", "hashtable"), ("hash", "hashtable"), ("zset", "skiplist"), ("list", "quicklist")):
            check(c, (("RESTORE", key, 0, payloads[key], "REPLACE"), OK), (("OBJECT", "ENCODING", key), encoding))


def test_a_restored_list_wakes_who_waits_for_it(server, c, connect):
    c("RPUSH other a b")
    payload = c("DUMP other")
    waiter = connect()
    waiter.send("BLPOP l 5")
    eventually(lambda: server.info("clients")["blocked_clients"] == "1")
    assert c("RESTORE", "l", 0, payload) == OK
    assert waiter.read() == [b"l", b"a"]


test_the_rows_of_dump_and_restore = table(
    ("COMMAND GETKEYS dump k", ["k"]),
    ("COMMAND GETKEYS restore k 0 x REPLACE", ["k"]),
    ("COMMAND GETKEYS restore-asking k 0 x", ["k"]),
    ("RESTORE-ASKING k 0 x", BAD_FRAME),
)

covers("DUMP", "RESTORE", "RESTORE-ASKING")
