"""Keys with a time to live: gone for everybody at their time, and in the end gone from memory."""

import pytest

from harness import *
from harness import NIL, NIL_ARRAY, OK

EMPTY = []


@pytest.fixture
def expired(server, c):
    """A connection to a server that holds keys of every type that have expired but are not yet reclaimed."""
    assert c("DEBUG SET-ACTIVE-EXPIRE 0") == OK
    try:
        check(
            c,
            ("SET s 5", OK),
            ("RPUSH l a b", 2),
            ("HSET h f v", 1),
            ("SADD set a b", 2),
            ("SADD i 1 2", 2),
            ("ZADD z 1 a 2 b", 2),
            ("XADD x 1-1 f v", "1-1"),
        )
        for key in ("s", "l", "h", "set", "i", "z", "x"):
            assert c("PEXPIRE", key, 1) == 1
        eventually(lambda: c("PTTL x") == -2)
        yield c
    finally:
        with server.client() as fresh:
            fresh("DEBUG SET-ACTIVE-EXPIRE 1")


covers("DEBUG", "DEBUG SET-ACTIVE-EXPIRE")

READS = (
    ("GET s", NIL),
    ("STRLEN s", 0),
    ("GETRANGE s 0 -1", ""),
    ("SUBSTR s 0 -1", ""),
    ("GETBIT s 0", 0),
    ("BITCOUNT s", 0),
    ("BITPOS s 1", -1),
    ("MGET s s", [NIL, NIL]),
    ("EXISTS s l h set i z", 0),
    ("TOUCH s l", 0),
    ("TYPE l", Simple("none")),
    ("TTL s", -2),
    ("PTTL l", -2),
    ("EXPIRETIME s", -2),
    ("OBJECT ENCODING h", NIL),
    ("LLEN l", 0),
    ("XLEN x", 0),
    ("XRANGE x - +", EMPTY),
    ("XREAD STREAMS x 0", NIL_ARRAY),
    ("XINFO STREAM x", Error("ERR no such key")),
    ("LRANGE l 0 -1", EMPTY),
    ("LINDEX l 0", NIL),
    ("LPOS l a", NIL),
    ("HGET h f", NIL),
    ("HGETALL h", Map()),
    ("HLEN h", 0),
    ("HEXISTS h f", 0),
    ("HMGET h f", [NIL]),
    ("HRANDFIELD h", NIL),
    ("HSCAN h 0", ["0", []]),
    ("SMEMBERS set", Set()),
    ("SISMEMBER i 1", 0),
    ("SMISMEMBER i 1 2", [0, 0]),
    ("SCARD set", 0),
    ("SRANDMEMBER set", NIL),
    ("SINTER set i", Set()),
    ("SUNION set i", Set()),
    ("SDIFF set", Set()),
    ("SINTERCARD 1 set", 0),
    ("ZRANGE z 0 -1", EMPTY),
    ("ZSCORE z a", NIL),
    ("ZCARD z", 0),
    ("ZRANK z a", NIL),
    ("ZCOUNT z -inf +inf", 0),
    ("ZUNION 1 z", EMPTY),
    ("ZRANDMEMBER z", NIL),
    ("RANDOMKEY", NIL),
    ("KEYS *", EMPTY),
    ("DUMP h", NIL),
    ("SORT l ALPHA", EMPTY),
    ("SORT_RO l ALPHA", EMPTY),
)


@pytest.mark.parametrize("command, expected", READS, ids=[row[0] for row in READS])
def test_a_read_does_not_see_an_expired_key(expired, command, expected):
    check(expired, (command, expected))


WRITES = (
    ("XADD x NOMKSTREAM * f v", NIL),
    ("XADD x 1-1 f v", "1-1"),
    ("XDEL x 1-1", 0),
    ("SET s 1 XX", NIL),
    ("SET s 1 NX", OK),
    ("SETNX s 1", 1),
    ("MSETNX s 1 l 2", 1),
    ("GETSET s 1", NIL),
    ("GETDEL s", NIL),
    ("GETEX s", NIL),
    ("INCR s", 1),
    ("INCRBYFLOAT s 1", "1"),
    ("APPEND s x", 1),
    ("SETRANGE s 0 ab", 2),
    ("SETBIT s 7 1", 0),
    ("DEL s l h", 0),
    ("UNLINK s l h", 0),
    ("EXPIRE s 100", 0),
    ("PERSIST s", 0),
    ("RENAME s t", Error("ERR no such key")),
    ("RENAMENX s t", Error("ERR no such key")),
    ("COPY s t", 0),
    ("MOVE s 1", 0),
    ("LPUSHX l x", 0),
    ("RPUSHX l x", 0),
    ("RPUSH l x", 1),
    ("LPOP l", NIL),
    ("LPOP l 2", NIL_ARRAY),
    ("LREM l 0 a", 0),
    ("LSET l 0 x", Error("ERR no such key")),
    ("LINSERT l BEFORE a x", 0),
    ("LMOVE l m LEFT LEFT", NIL),
    ("RPOPLPUSH l m", NIL),
    ("HSET h f w", 1),
    ("HSETNX h f w", 1),
    ("HDEL h f", 0),
    ("HINCRBY h n 1", 1),
    ("SADD set a", 1),
    ("SREM set a", 0),
    ("SPOP set", NIL),
    ("SMOVE set t a", 0),
    ("SUNIONSTORE t set i", 0),
    ("ZADD z 1 a", 1),
    ("ZADD z XX 1 a", 0),
    ("ZINCRBY z 1 a", Double("1")),
    ("ZREM z a", 0),
    ("ZPOPMIN z", EMPTY),
    ("ZUNIONSTORE t 1 z", 0),
    ("SORT l ALPHA STORE t", 0),
)


@pytest.mark.parametrize("command, expected", WRITES, ids=[row[0] for row in WRITES])
def test_a_write_begins_from_nothing_where_a_key_has_expired(expired, command, expected):
    check(expired, (command, expected))


for _command, _ in READS + WRITES:
    covers(_command.split()[0])


def test_a_scan_does_not_see_expired_keys(expired):
    cursor = b"0"
    while (page := expired("SCAN", cursor, "COUNT", 100))[0] != b"0":
        assert page[1] == []
        cursor = page[0]
    assert page[1] == []


def test_without_active_expiry_an_expired_key_is_still_counted(expired):
    """DBSIZE counts what is in memory; reading a key is what removes it."""
    assert expired("DBSIZE") == 6, "the fixture read one of the seven"
    assert expired("EXISTS s l") == 0
    assert expired("DBSIZE") == 4
    assert expired("DEBUG SET-ACTIVE-EXPIRE 1") == OK
    eventually(lambda: expired("DBSIZE") == 0)


def test_active_expiry_reclaims_keys_that_nobody_reads(server, c):
    before = int(server.info("stats")["expired_keys"])
    c.pipeline(*(("SET", f"k{i}", "v", "PX", 30 + i % 50) for i in range(5000)), *(("SET", f"stay{i}", "v") for i in range(100)))
    c("SELECT 5")
    c.pipeline(*(("SET", f"k{i}", "v", "PX", 30) for i in range(500)))
    eventually(lambda: c("DBSIZE") == 0)
    c("SELECT 0")
    eventually(lambda: c("DBSIZE") == 100)
    assert int(server.info("stats")["expired_keys"]) - before == 5500


def test_a_key_lives_up_to_its_time_and_no_longer(c):
    """Neither early nor late: PTTL counts down and the key is gone when it reaches nothing."""
    for _ in range(5):
        c("SET k v PX 40")
        while (left := c("PTTL k")) > 2:
            assert left <= 40
            assert c("EXISTS k") == 1 or c("PTTL k") == -2
        eventually(lambda: c("GET k") == NIL, every=0.001)


def test_info_keyspace_counts_keys_with_an_expiry(server, c):
    c.pipeline("SET a 1", "SET b 1 EX 100", "SET d 1 EX 200", "SELECT 3", "SET e 1")
    keyspace = server.info("keyspace")
    fields = dict(field.split("=") for field in keyspace["db0"].split(","))
    assert (fields["keys"], fields["expires"]) == ("3", "2")
    assert 0 < int(fields["avg_ttl"]) <= 200_000 or fields["avg_ttl"] == "0"
    assert keyspace["db3"].startswith("keys=1,expires=0")
    c.pipeline("PERSIST b", "SELECT 0", "PERSIST b", "DEL d")
    assert server.info("keyspace")["db0"].startswith("keys=2,expires=0")


def test_set_with_an_expiry_in_every_form(c):
    check(
        c,
        ("SET a v EX 100", OK),
        ("PTTL a", between(99000, 100000)),
        ("SET a v PX 100000", OK),
        ("PTTL a", between(99000, 100000)),
        ("SET a v EXAT 33177117420", OK),
        ("PEXPIRETIME a", 33177117420000),
        ("SET a w PXAT 33177117420123", OK),
        ("PEXPIRETIME a", 33177117420123),
        ("SET a x KEEPTTL", OK),
        ("PEXPIRETIME a", 33177117420123),
        ("GETEX a PERSIST", "x"),
        ("TTL a", -1),
        ("GETEX a EX 100", "x"),
        ("TTL a", between(99, 100)),
        ("SET a y EXAT 1", OK),  # a time that is over: as if it had never been set
        ("EXISTS a", 0),
        ("SETEX a 100 v", OK),
        ("PSETEX b 100000 v", OK),
        ("TTL a", between(99, 100)),
        ("TTL b", between(99, 100)),
    )


covers("SET", "GETEX", "SETEX", "PSETEX", "DBSIZE", "SCAN")


def test_a_script_does_not_see_expired_keys(expired):
    assert expired("EVAL", "return redis.call('EXISTS', 's', 'l', 'h')", 0) == 0


covers("EVAL")


def test_a_key_that_is_due_counts_until_somebody_looks_at_it_also_in_blocks_and_scripts(c):
    """With several shards such a key may be lent to another, and comes back as it was."""
    c("DEBUG SET-ACTIVE-EXPIRE 0")
    try:
        names = [f"k{number}" for number in range(12)]
        for block in (
            [*(("SET", name, "v", "EXAT", 1) for name in names), ("DBSIZE",)],
            [*(("SET", name, "v", "EXAT", 1) for name in names)],
            [("EVAL", "for _, k in ipairs(KEYS) do redis.call('SET', k, 'v', 'EXAT', 1) end", 12, *names)],
        ):
            c("MULTI")
            for words in block:
                assert c(*words) == Simple("QUEUED")
            c("EXEC")
            assert c("DBSIZE") == 12
            assert c("EXISTS", *names) == 0
            assert c("DBSIZE") == 0
        script = "for i = 0, 11 do redis.call('SET', 'k' .. i, 'v', 'EXAT', 1) end return redis.call('DBSIZE')"
        assert c("EVAL", script, 0) == 12 == c("DBSIZE")
    finally:
        c("DEBUG SET-ACTIVE-EXPIRE 1")


def test_scan_removes_what_it_would_have_shown_and_has_expired(expired):
    total = expired("DBSIZE")
    assert expired("SCAN 0 COUNT 1000 MATCH se?") == [b"0", []]
    assert expired("DBSIZE") == total - 1
    assert expired("KEYS *") == [] and expired("DBSIZE") == total - 1
    assert expired("SCAN 0 COUNT 1000") == [b"0", []]
    assert expired("DBSIZE") == 0


@pytest.mark.parametrize("command", ["SETRANGE s 0 ''", "APPEND s ''", "LTRIM l 0 -1", "HDEL h f", "ZREM z a", "SREM set a"])
def test_a_write_that_changes_nothing_removes_a_key_that_has_expired(expired, command):
    before = expired("DBSIZE")
    expired(*(word if word != "''" else "" for word in command.split()))
    kind = expired("EXISTS", command.split()[1])
    assert expired("DBSIZE") == before - 1 + kind
