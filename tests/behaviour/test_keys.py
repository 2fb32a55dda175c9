"""The commands about keys of any type: deleting, naming, expiring, walking."""

import random
import time

import pytest

from harness import *
from harness import NIL, OK

NO_SUCH_KEY = Error("ERR no such key")


test_del_counts_the_keys_that_existed = table(
    ("DEL nothing", 0),
    ("SET a 1", OK),
    ("RPUSH b x", 1),
    ("HSET c f v", 1),
    ("DEL a b c nothing a", 3),
    ("EXISTS a b c", 0),
    ("DEL", wrong_arity("del")),
)

test_unlink_counts_the_keys_that_existed = table(
    ("UNLINK nothing", 0),
    ("SET a 1", OK),
    ("SADD b x y z", 3),
    ("UNLINK a b nothing b", 2),
    ("EXISTS a b", 0),
    ("UNLINK", wrong_arity("unlink")),
)

test_exists_counts_a_key_as_often_as_it_is_named = table(
    ("EXISTS a", 0),
    ("SET a 1", OK),
    ("SET b 1", OK),
    ("EXISTS a", 1),
    ("EXISTS a a b nothing", 3),
    ("EXISTS", wrong_arity("exists")),
)

test_touch_counts_like_exists = table(
    ("TOUCH a", 0),
    ("SET a 1", OK),
    ("TOUCH a a nothing", 2),
    ("TOUCH", wrong_arity("touch")),
)

test_type_names_the_kind_of_each_value = table(
    ("TYPE nothing", Simple("none")),
    ("SET s v", OK),
    ("TYPE s", Simple("string")),
    ("RPUSH l v", 1),
    ("TYPE l", Simple("list")),
    ("SADD set v", 1),
    ("TYPE set", Simple("set")),
    ("ZADD z 1 v", 1),
    ("TYPE z", Simple("zset")),
    ("HSET h f v", 1),
    ("TYPE h", Simple("hash")),
    ("TYPE", wrong_arity("type")),
    ("TYPE a b", wrong_arity("type")),
)

test_a_key_may_be_any_bytes_even_none = table(
    (("SET", b"", "empty"), OK),
    (("GET", b""), "empty"),
    (("SET", b"\x00\xff\r\n", "odd"), OK),
    (("GET", b"\x00\xff\r\n"), "odd"),
    ("KEYS *", unordered(b"", b"\x00\xff\r\n")),
    (("DEL", b"", b"\x00\xff\r\n"), 2),
)


# ---- expiry: setting and reading -------------------------------------------------------------

test_ttl_and_pttl_tell_missing_from_persistent = table(
    ("TTL k", -2),
    ("PTTL k", -2),
    ("EXPIRETIME k", -2),
    ("PEXPIRETIME k", -2),
    ("SET k v", OK),
    ("TTL k", -1),
    ("PTTL k", -1),
    ("EXPIRETIME k", -1),
    ("PEXPIRETIME k", -1),
    ("EXPIRE k 100", 1),
    ("TTL k", between(99, 100)),
    ("PTTL k", between(99000, 100000)),
    ("PEXPIRE k 5400", 1),
    ("TTL k", 5),
    ("PTTL k", between(4000, 5400)),
    ("EXPIREAT k 33177117420", 1),
    ("EXPIRETIME k", 33177117420),
    ("PEXPIRETIME k", 33177117420000),
    ("PEXPIREAT k 33177117420123", 1),
    ("EXPIRETIME k", 33177117420),
    ("PEXPIRETIME k", 33177117420123),
    ("PERSIST k", 1),
    ("PERSIST k", 0),
    ("TTL k", -1),
    ("PERSIST nothing", 0),
    ("TTL", wrong_arity("ttl")),
    ("PTTL", wrong_arity("pttl")),
    ("EXPIRETIME", wrong_arity("expiretime")),
    ("PEXPIRETIME a b", wrong_arity("pexpiretime")),
    ("PERSIST", wrong_arity("persist")),
)

test_ttl_rounds_half_a_second_up = table(
    ("SET k v PX 1999", OK),  # for half a second
    ("TTL k", 2),
    ("SET k v PX 1490", OK),
    ("TTL k", 1),
    ("PEXPIREAT k 33177117420600", 1),
    ("EXPIRETIME k", 33177117421),
    ("PEXPIREAT k 33177117420400", 1),
    ("EXPIRETIME k", 33177117420),
)


def _condition_rows(command, early, middle, late):
    """NX, XX, GT and LT of one of the four expire commands; the three times grow."""
    name = command.lower()
    return (
        (f"{command} nothing {middle}", 0),
        ("SET k v", OK),
        (f"{command} k {middle} XX", 0),
        (f"{command} k {middle} GT", 0),  # no expiry counts as infinite
        ("PTTL k", -1),
        (f"{command} k {middle} LT", 1),
        (f"{command} k {late} NX", 0),
        (f"{command} k {early} GT", 0),
        (f"{command} k {late} LT", 0),
        (f"{command} k {late} GT", 1),
        (f"{command} k {early} LT", 1),
        (f"{command} k {middle} XX", 1),
        (f"{command} k {late} XX GT", 1),
        (f"{command} k {early} XX GT", 0),
        ("PERSIST k", 1),
        (f"{command} k {early} nx", 1),
        (f"{command} k {early} NX XX", Error("ERR NX and XX, GT or LT options at the same time are not compatible")),
        (f"{command} k {early} NX GT", Error("ERR NX and XX, GT or LT options at the same time are not compatible")),
        (f"{command} k {early} LT NX", Error("ERR NX and XX, GT or LT options at the same time are not compatible")),
        (f"{command} k {early} GT LT", Error("ERR GT and LT options at the same time are not compatible")),
        (f"{command} k {early} QQ", Error("ERR Unsupported option QQ")),
        (f"{command} k {early} XX qq", Error("ERR Unsupported option qq")),
        (f"{command} k x", NOT_AN_INTEGER),
        (f"{command} k 1.5", NOT_AN_INTEGER),
        (f"{command} k 9223372036854775808", NOT_AN_INTEGER),
        (f"{command} k", wrong_arity(name)),
        (f"{command}", wrong_arity(name)),
        ("PTTL k", meeting("still set", lambda reply: reply > 0)),
    )


test_expire_conditions = table(*_condition_rows("EXPIRE", 1000, 2000, 3000))
test_pexpire_conditions = table(*_condition_rows("PEXPIRE", 1000000, 2000000, 3000000))
test_expireat_conditions = table(*_condition_rows("EXPIREAT", 33177117420, 33177117520, 33177117620))
test_pexpireat_conditions = table(
    *_condition_rows("PEXPIREAT", 33177117420000, 33177117520000, 33177117620000)
)

test_an_expiry_out_of_range_names_the_command = table(
    ("SET k v", OK),
    ("EXPIRE k 9223372036854775807", Error("ERR invalid expire time in 'expire' command")),
    ("EXPIRE k 9223372036854776", Error("ERR invalid expire time in 'expire' command")),
    ("EXPIRE k -9223372036854776", Error("ERR invalid expire time in 'expire' command")),
    ("PEXPIRE k 9223372036854775807", Error("ERR invalid expire time in 'pexpire' command")),
    ("EXPIREAT k 9223372036854775807", Error("ERR invalid expire time in 'expireat' command")),
    ("PEXPIREAT k 9223372036854775807", 1),
    ("PEXPIRETIME k", 9223372036854775807),
    ("GET k", "v"),
)

test_an_expiry_in_the_past_deletes_at_once = table(
    ("SET a v", OK),
    ("EXPIRE a 0", 1),
    ("EXISTS a", 0),
    ("SET a v", OK),
    ("EXPIRE a -1", 1),
    ("SET b v", OK),
    ("PEXPIRE b -5", 1),
    ("SET c v", OK),
    ("EXPIREAT c 1", 1),
    ("SET d v", OK),
    ("PEXPIREAT d 1", 1),
    ("EXISTS a b c d", 0),
    ("DBSIZE", 0),
)

test_a_write_keeps_the_expiry_and_an_overwrite_drops_it = table(
    ("SET s 1 EX 100", OK),
    ("INCR s", 2),
    ("APPEND s 0", 2),
    ("SETRANGE s 0 3", 2),
    ("TTL s", between(99, 100)),
    ("SET s 1", OK),
    ("TTL s", -1),
    ("SET s 1 EX 100", OK),
    ("GETSET s 2", "1"),
    ("TTL s", -1),
    ("RPUSH l a", 1),
    ("EXPIRE l 100", 1),
    ("RPUSH l b", 2),
    ("LPOP l", "a"),
    ("TTL l", between(99, 100)),
    ("LPOP l", "b"),
    ("RPUSH l c", 1),
    ("TTL l", -1),
    ("HSET h f v", 1),
    ("EXPIRE h 100", 1),
    ("HSET h f w g x", 1),
    ("TTL h", between(99, 100)),
    ("SADD set a", 1),
    ("EXPIRE set 100", 1),
    ("SADD set b", 1),
    ("TTL set", between(99, 100)),
    ("SUNIONSTORE set set", 2),
    ("TTL set", -1),
)


# ---- RENAME, COPY, MOVE, SWAPDB --------------------------------------------------------------

test_rename_moves_the_value_and_its_expiry = table(
    ("RENAME nothing k", NO_SUCH_KEY),
    ("SET a v EX 100", OK),
    ("RENAME a b", OK),
    ("GET a", NIL),
    ("GET b", "v"),
    ("TTL b", between(99, 100)),
    ("RPUSH l x y", 2),
    ("RENAME l b", OK),  # the old b goes, and with it its expiry
    ("LRANGE b 0 -1", ["x", "y"]),
    ("TTL b", -1),
    ("RENAME b b", OK),
    ("LLEN b", 2),
    ("RENAME nothing nothing", NO_SUCH_KEY),
    ("DBSIZE", 1),
    ("RENAME a", wrong_arity("rename")),
    ("RENAME a b c", wrong_arity("rename")),
)

test_renamenx_refuses_a_taken_name = table(
    ("RENAMENX nothing k", NO_SUCH_KEY),
    ("SET a 1 EX 100", OK),
    ("SET b 2", OK),
    ("RENAMENX a b", 0),
    ("RENAMENX a a", 0),
    ("MGET a b", ["1", "2"]),
    ("RENAMENX a c", 1),
    ("MGET a b c", [NIL, "2", "1"]),
    ("TTL c", between(99, 100)),
    ("RENAMENX a", wrong_arity("renamenx")),
)

_ONE_OF_EACH = (
    ("SET s v", OK),
    ("SET n 12345", OK),
    ("RPUSH l a b c", 3),
    ("SADD i 1 2 3", 3),
    ("SADD set a b", 2),
    ("ZADD z 1 a 2.5 b", 2),
    ("HSET h f v g w", 2),
)

_ONE_OF_EACH_COPIED = (
    ("GET s2", "v"),
    ("INCR n2", 12346),
    ("LRANGE l2 0 -1", ["a", "b", "c"]),
    ("SMEMBERS i2", Set(["1", "2", "3"])),
    ("SMEMBERS set2", Set(["a", "b"])),
    ("ZSCORE z2 b", Double("2.5")),
    ("HGETALL h2", Map({"f": "v", "g": "w"})),
)

test_rename_keeps_every_kind_of_value = table(
    *_ONE_OF_EACH,
    *((f"RENAME {key} {key}2", OK) for key in ("s", "n", "l", "i", "set", "z", "h")),
    *_ONE_OF_EACH_COPIED,
    ("DBSIZE", 7),
)

test_copy_copies_every_kind_of_value = table(
    *_ONE_OF_EACH,
    *((f"COPY {key} {key}2", 1) for key in ("s", "n", "l", "i", "set", "z", "h")),
    *_ONE_OF_EACH_COPIED,
    ("DBSIZE", 14),
    ("RPUSH l d", 4),  # a copy is a value of its own
    ("LLEN l2", 3),
    ("GET n", "12345"),
)

test_copy_options_and_errors = table(
    ("COPY nothing k", 0),
    ("SET a 1 EX 100", OK),
    ("SET b 2", OK),
    ("COPY a b", 0),
    ("GET b", "2"),
    ("COPY a b REPLACE", 1),
    ("GET b", "1"),
    ("TTL b", between(99, 100)),
    ("COPY a a", Error("ERR source and destination objects are the same")),
    ("COPY a a DB 0", Error("ERR source and destination objects are the same")),
    ("COPY a a DB 3", 1),
    ("COPY a a DB 3", 0),
    ("COPY a c DB 3 REPLACE", 1),
    ("SELECT 3", OK),
    ("MGET a c", ["1", "1"]),
    ("TTL c", between(99, 100)),
    ("SELECT 0", OK),
    ("COPY a b DB 99", Error("ERR DB index is out of range")),
    ("COPY a b DB -1", Error("ERR DB index is out of range")),
    ("COPY a b DB x", NOT_AN_INTEGER),
    ("COPY a b DB", SYNTAX_ERROR),
    ("COPY a b QQ", SYNTAX_ERROR),
    ("COPY a", wrong_arity("copy")),
)

test_move_carries_a_key_to_another_database = table(
    ("MOVE nothing 1", 0),
    ("SET k v EX 100", OK),
    ("MOVE k 9", 1),
    ("EXISTS k", 0),
    ("SELECT 9", OK),
    ("GET k", "v"),
    ("TTL k", between(99, 100)),
    ("SELECT 0", OK),
    ("SET k other", OK),
    ("MOVE k 9", 0),
    ("GET k", "other"),
    ("MOVE k 0", Error("ERR source and destination objects are the same")),
    ("MOVE k 99", Error("ERR DB index is out of range")),
    ("MOVE k -1", Error("ERR DB index is out of range")),
    ("MOVE k x", NOT_AN_INTEGER),
    ("MOVE k", wrong_arity("move")),
)

test_swapdb_exchanges_whole_databases = table(
    ("SET a zero", OK),
    ("SELECT 1", OK),
    ("SET a one EX 100", OK),
    ("SET b one", OK),
    ("SWAPDB 0 1", OK),
    ("GET a", "zero"),  # still connected to number 1
    ("DBSIZE", 1),
    ("SELECT 0", OK),
    ("GET a", "one"),
    ("TTL a", between(99, 100)),
    ("DBSIZE", 2),
    ("SWAPDB 0 0", OK),
    ("GET a", "one"),
    ("SWAPDB 0 99", Error("ERR DB index is out of range")),
    ("SWAPDB 0 -1", Error("ERR DB index is out of range")),
    ("SWAPDB x 0", Error("ERR invalid first DB index")),
    ("SWAPDB 0 x", Error("ERR invalid second DB index")),
    ("SWAPDB 0", wrong_arity("swapdb")),
)

test_databases_are_apart = table(
    ("SET k zero", OK),
    ("SELECT 1", OK),
    ("GET k", NIL),
    ("SET k one", OK),
    ("SELECT 15", OK),
    ("DBSIZE", 0),
    ("SELECT 16", Error("ERR DB index is out of range")),
    ("SELECT -1", Error("ERR DB index is out of range")),
    ("SELECT x", NOT_AN_INTEGER),
    ("SELECT", wrong_arity("select")),
    ("SELECT 0", OK),
    ("GET k", "zero"),
)

test_flushdb_empties_one_database_and_flushall_all = table(
    ("SET a 1", OK),
    ("SELECT 1", OK),
    ("SET b 1", OK),
    ("FLUSHDB", OK),
    ("DBSIZE", 0),
    ("SET b 1", OK),
    ("SELECT 0", OK),
    ("DBSIZE", 1),
    ("FLUSHDB ASYNC", OK),
    ("DBSIZE", 0),
    ("SET a 1", OK),
    ("FLUSHDB SYNC", OK),
    ("DBSIZE", 0),
    ("SET a 1", OK),
    ("FLUSHALL ASYNC", OK),
    ("DBSIZE", 0),
    ("SELECT 1", OK),
    ("DBSIZE", 0),
    ("FLUSHALL sync", OK),
    ("FLUSHALL NOW", SYNTAX_ERROR),
    ("FLUSHDB NOW", SYNTAX_ERROR),
    ("FLUSHALL SYNC SYNC", SYNTAX_ERROR),
    ("FLUSHDB ASYNC x", SYNTAX_ERROR),
)


# ---- walking the keys ------------------------------------------------------------------------

test_keys_match_glob_patterns = table(
    ("MSET hello 1 hallo 1 hxllo 1 hllo 1 heello 1", OK),
    ("KEYS h?llo", unordered("hello", "hallo", "hxllo")),
    ("KEYS h*llo", unordered("hello", "hallo", "hxllo", "hllo", "heello")),
    ("KEYS h[ae]llo", unordered("hello", "hallo")),
    ("KEYS h[^e]llo", unordered("hallo", "hxllo")),
    ("KEYS h[a-b]llo", unordered("hallo")),
    ("KEYS h[b-a]llo", unordered("hallo")),  # a range may run backwards
    ("KEYS nothing", []),
    (r'KEYS "h\\?llo"', []),
    ("SET h?llo 1", OK),
    (r'KEYS "h\\?llo"', ["h?llo"]),
    ("KEYS *", array_of(6)),
    ("KEYS h[", []),
    ("KEYS", wrong_arity("keys")),
    ("KEYS a b", wrong_arity("keys")),
)

test_randomkey_names_a_key_that_exists = table(
    ("RANDOMKEY", NIL),
    ("SET k v", OK),
    ("RANDOMKEY", "k"),
    ("SET j v", OK),
    ("RANDOMKEY", one_of("k", "j")),
    ("RANDOMKEY x", wrong_arity("randomkey")),
)

test_dbsize_counts_the_keys = table(
    ("DBSIZE", 0),
    ("MSET a 1 b 2 c 3", OK),
    ("DBSIZE", 3),
    ("DEL a", 1),
    ("DBSIZE", 2),
    ("DBSIZE x", wrong_arity("dbsize")),
)

test_scan_errors = table(
    ("SCAN 0 COUNT 0", SYNTAX_ERROR),
    ("SCAN 0 COUNT -1", SYNTAX_ERROR),
    ("SCAN 0 COUNT x", NOT_AN_INTEGER),
    ("SCAN 0 COUNT", SYNTAX_ERROR),
    ("SCAN 0 MATCH", SYNTAX_ERROR),
    ("SCAN 0 QQ x", SYNTAX_ERROR),
    ("SCAN x", Error("ERR invalid cursor")),
    ("SCAN", wrong_arity("scan")),
)


def scan_all(client, *options, every=lambda: None):
    """A full SCAN: all keys reported, as a list with what repeats."""
    found, cursor = [], b"0"
    for _ in range(1_000_000):
        cursor, keys = client("SCAN", cursor, *options)
        found += keys
        if cursor == b"0":
            return found
        every()
    raise AssertionError("SCAN never came back to 0")


def test_scan_options(c):
    assert scan_all(c) == []
    c.pipeline("SET k v", "RPUSH l v")
    for options, found in [
        ("", [b"k", b"l"]),
        ("TYPE string", [b"k"]),
        ("TYPE LIST", [b"l"]),
        ("TYPE unheard-of", []),
        ("MATCH l* COUNT 100 TYPE list", [b"l"]),
        ("match x* count 100", []),
    ]:
        assert sorted(scan_all(c, *options.split())) == found, options


@pytest.mark.parametrize("count", [1, 10, 1000])
def test_scan_finds_every_key(c, count):
    names = {b"key:%d" % i for i in range(3000)}
    c.pipeline(*(("SET", name, "v") for name in names))
    found = scan_all(c, "COUNT", count)
    assert set(found) == names
    assert len(found) <= len(names) * 2, "keys that stay put should rarely repeat"


def test_scan_with_a_pattern_finds_the_matching_keys_only(c):
    c.pipeline(*(("SET", f"user:{i}", "v") for i in range(500)), *(("RPUSH", f"queue:{i}", "v") for i in range(500)))
    assert set(scan_all(c, "MATCH", "user:*1", "COUNT", 7)) == {b"user:%d" % i for i in range(500) if i % 10 == 1}
    assert set(scan_all(c, "TYPE", "list")) == {b"queue:%d" % i for i in range(500)}


def test_scan_reports_every_key_that_stays_while_others_come_and_go(c, connect):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    stay = {b"stay:%d" % i for i in range(1000)}
    c.pipeline(*(("SET", name, "v") for name in stay))
    other = connect()

    def churn():
        # Growth and shrinking of the tables below the cursor is what makes a careless SCAN lose keys.
        low = rng.randrange(20_000)
        verb = rng.choice(["SET", "DEL"])
        names = [f"come:{i}" for i in range(low, low + 300)]
        other.pipeline(*((verb, name, "v") if verb == "SET" else (verb, name) for name in names))

    for _ in range(3):
        found = set(scan_all(c, "COUNT", 20, every=churn))
        assert stay <= found, f"SCAN lost {len(stay - found)} keys"


def test_keys_and_randomkey_reach_every_key(c):
    names = {b"key:%d" % i for i in range(200)}
    c.pipeline(*(("SET", name, "v") for name in names))
    assert set(c("KEYS *")) == names
    drawn = set(c.pipeline(*["RANDOMKEY"] * 4000))
    assert drawn <= names and len(drawn) > 150, f"RANDOMKEY drew only {len(drawn)} of 200 keys"


# ---- OBJECT ----------------------------------------------------------------------------------

test_object_encoding_names_redis_s_encodings = table(
    ("SET int 123", OK),
    ("OBJECT ENCODING int", "int"),
    ("SET text short", OK),
    ("OBJECT ENCODING text", "embstr"),
    (("SET", "edge", "x" * 44), OK),
    ("OBJECT ENCODING edge", "embstr"),
    (("SET", "raw", "x" * 45), OK),
    ("OBJECT ENCODING raw", "raw"),
    ("APPEND text er", 7),
    ("OBJECT ENCODING text", "raw"),
    ("RPUSH l a b", 2),
    ("OBJECT ENCODING l", "quicklist"),
    ("SADD i 1 2", 2),
    ("OBJECT ENCODING i", "intset"),
    ("SADD set a", 1),
    ("OBJECT ENCODING set", "hashtable"),
    ("HSET h f v", 1),
    ("OBJECT ENCODING h", "listpack"),
    (("HSET", "h", "f", "x" * 65), 0),
    ("OBJECT ENCODING h", "hashtable"),
    ("ZADD z 1 a", 1),
    ("OBJECT ENCODING z", "listpack"),
    (("ZADD", "z", 1, "x" * 65), 1),
    ("OBJECT ENCODING z", "skiplist"),
    ("OBJECT ENCODING nothing", NIL),
)

test_object_subcommands_and_errors = table(
    ("SET k v", OK),
    ("OBJECT REFCOUNT k", 1),
    ("OBJECT REFCOUNT nothing", NIL),
    ("OBJECT IDLETIME k", between(0, 2)),
    ("OBJECT IDLETIME nothing", NIL),
    (
        "OBJECT FREQ k",
        Error(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when "
            "switching between policies at runtime LRU and LFU data will take some time to adjust."
        ),
    ),
    ("OBJECT FREQ nothing", NIL),
    ("OBJECT HELP", help_of("OBJECT")),
    ("OBJECT", wrong_arity("object")),
    ("OBJECT ENCODING", wrong_arity("object|encoding")),
    ("OBJECT ENCODING a b", wrong_arity("object|encoding")),
    ("OBJECT FREQ", wrong_arity("object|freq")),
    ("OBJECT IDLETIME", wrong_arity("object|idletime")),
    ("OBJECT REFCOUNT", wrong_arity("object|refcount")),
    ("OBJECT QQ k", Error("ERR unknown subcommand 'QQ'. Try OBJECT HELP.")),
)


def test_object_freq_counts_accesses_under_an_lfu_policy(server, c):
    with server.config(maxmemory_policy="allkeys-lfu"):
        c("SET hot v")
        assert 1 <= c("OBJECT FREQ hot") <= 6
        for _ in range(20):
            c.pipeline(*["GET hot"] * 200)
        assert c("OBJECT FREQ hot") > 8
        assert c("OBJECT IDLETIME hot") == Error(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching "
            "between policies at runtime LRU and LFU data will take some time to adjust."
        )


def test_object_idletime_grows_until_the_key_is_read(c):
    c("SET k v")
    eventually(lambda: c("OBJECT IDLETIME k") >= 2)
    c("GET k")
    assert c("OBJECT IDLETIME k") in (0, 1)  # a second may begin at any moment


def test_object_encoding_of_many_elements_is_converted(server, c):
    with server.config(hash_max_listpack_entries=4, zset_max_listpack_entries=4, set_max_intset_entries=4):
        check(
            c,
            ("HSET h a 1 b 2 c 3 d 4", 4),
            ("OBJECT ENCODING h", "listpack"),
            ("HSET h e 5", 1),
            ("OBJECT ENCODING h", "hashtable"),
            ("ZADD z 1 a 2 b 3 c 4 d", 4),
            ("OBJECT ENCODING z", "listpack"),
            ("ZADD z 5 e", 1),
            ("OBJECT ENCODING z", "skiplist"),
            ("SADD s 1 2 3 4", 4),
            ("OBJECT ENCODING s", "intset"),
            ("SADD s 5", 1),
            ("OBJECT ENCODING s", "hashtable"),
        )


def test_time_is_the_clock_of_the_host(c):
    seconds, micros = c("TIME")
    assert abs(int(seconds) - time.time()) < 5 and 0 <= int(micros) < 1_000_000


covers("TIME")
