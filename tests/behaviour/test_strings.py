"""Strings: whole ones, parts of them, and numbers in them."""

import random

from harness import *

NOT_A_NUMBER_SUM = Error("ERR increment would produce NaN or Infinity")
OVERFLOW = Error("ERR increment or decrement would overflow")
TOO_LONG = Error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
LONG_MAX, LONG_MIN = 2**63 - 1, -(2**63)


def invalid_expire(command):
    return Error(f"ERR invalid expire time in '{command}' command")


# ---- SET and GET -----------------------------------------------------------------------------

test_get_answers_what_was_set = table(
    ("GET k", NIL),
    ("SET k v", OK),
    ("GET k", "v"),
    ("SET k 12", OK),
    ("GET k", "12"),
    (("SET", "k", b"\x00\xff\r\n"), OK),
    ("GET k", b"\x00\xff\r\n"),
    (("SET", "k", b""), OK),
    ("GET k", ""),
    (("SET", "k", b"x" * 100_000), OK),
    ("GET k", b"x" * 100_000),
    ("SET k", wrong_arity("set")),
    ("GET", wrong_arity("get")),
    ("GET a b", wrong_arity("get")),
    ("RPUSH l x", 1),
    ("GET l", WRONGTYPE),
    ("SET l now-a-string", OK),
    ("GET l", "now-a-string"),
)

test_set_stores_only_where_its_condition_is_met = table(
    ("SET k a XX", NIL),
    ("EXISTS k", 0),
    ("SET k a NX", OK),
    ("SET k b NX", NIL),
    ("GET k", "a"),
    ("SET k c xx", OK),
    ("GET k", "c"),
    ("SET k d NX NX", NIL),
    ("SET k d NX XX", SYNTAX_ERROR),
    ("SET k d FOO", SYNTAX_ERROR),
    ("SET k d NXX", SYNTAX_ERROR),
)

test_set_get_answers_the_old_value_whether_or_not_it_stores = table(
    ("SET k a GET", NIL),
    ("SET k b GET", "a"),
    ("SET k c NX GET", "b"),
    ("GET k", "b"),
    ("SET new a NX GET", NIL),
    ("GET new", "a"),
    ("SET other a XX GET", NIL),
    ("EXISTS other", 0),
    ("SET k d GET EX 100", "b"),
    ("TTL k", between(99, 100)),
    ("RPUSH l x", 1),
    ("SET l v GET", WRONGTYPE),
    ("SET l v NX GET", WRONGTYPE),
    ("SET l v EX 0 GET", invalid_expire("set")),
    ("LLEN l", 1),
)

test_set_decides_how_long_the_key_lives = table(
    ("SET k v EX 100", OK),
    ("TTL k", between(99, 100)),
    ("SET k v KEEPTTL", OK),
    ("TTL k", between(99, 100)),
    ("SET k v", OK),
    ("TTL k", -1),
    ("SET k v PX 5000", OK),
    ("PTTL k", between(4000, 5000)),
    ("SET k v EXAT 33177117420", OK),
    ("PEXPIRETIME k", 33177117420000),
    ("SET k v pxat 33177117420123", OK),
    ("PEXPIRETIME k", 33177117420123),
    ("SET k v EX 10 EX 200", OK),
    ("TTL k", between(199, 200)),
    (f"SET k v PXAT {LONG_MAX}", OK),
    ("PEXPIRETIME k", LONG_MAX),
    ("SET k v PXAT 1", OK),
    ("EXISTS k", 0),
    ("SETEX k 100 w", OK),
    ("TTL k", between(99, 100)),
    ("PSETEX k 5000 x", OK),
    ("PTTL k", between(4000, 5000)),
    ("GET k", "x"),
    ("GETSET k y", "x"),
    ("TTL k", -1),
)

test_an_impossible_time_is_refused_and_changes_nothing = table(
    ("SET k old", OK),
    ("SET k v EX 0", invalid_expire("set")),
    ("SET k v PX -1", invalid_expire("set")),
    ("SET k v EXAT 0", invalid_expire("set")),
    (f"SET k v PX {LONG_MAX}", invalid_expire("set")),
    (f"SET k v EX {LONG_MAX // 1000 + 1}", invalid_expire("set")),
    (f"SET k v EX {LONG_MAX // 1000}", invalid_expire("set")),
    ("SET k v EX x", NOT_AN_INTEGER),
    ("SET k v EX 1.5", NOT_AN_INTEGER),
    (f"SET k v EX {LONG_MAX + 1}", NOT_AN_INTEGER),
    ("SET k v EX", SYNTAX_ERROR),
    ("SET k v EX 10 PX 10", SYNTAX_ERROR),
    ("SET k v KEEPTTL EX 10", SYNTAX_ERROR),
    ("SET k v EX 10 KEEPTTL", SYNTAX_ERROR),
    ("SET k v PERSIST", SYNTAX_ERROR),
    ("SETEX k 0 v", invalid_expire("setex")),
    ("SETEX k x v", NOT_AN_INTEGER),
    ("PSETEX k -1 v", invalid_expire("psetex")),
    ("SETEX k 10", wrong_arity("setex")),
    ("PSETEX k 10 v w", wrong_arity("psetex")),
    ("GET k", "old"),
    ("TTL k", -1),
)

test_setnx_stores_once = table(
    ("SETNX k a", 1),
    ("SETNX k b", 0),
    ("GET k", "a"),
    ("RPUSH l x", 1),
    ("SETNX l b", 0),
    ("SETNX k", wrong_arity("setnx")),
)

test_getset_answers_the_old_value = table(
    ("GETSET k v1", NIL),
    ("GETSET k v2", "v1"),
    ("GET k", "v2"),
    ("RPUSH l x", 1),
    ("GETSET l v", WRONGTYPE),
    ("LLEN l", 1),
    ("GETSET k", wrong_arity("getset")),
)

test_getdel_reads_for_the_last_time = table(
    ("GETDEL k", NIL),
    ("SET k v", OK),
    ("GETDEL k", "v"),
    ("EXISTS k", 0),
    ("RPUSH l x", 1),
    ("GETDEL l", WRONGTYPE),
    ("EXISTS l", 1),
    ("GETDEL k x", wrong_arity("getdel")),
)

test_getex_reads_and_changes_how_long_the_key_lives = table(
    ("GETEX k", NIL),
    ("GETEX k EX 0", NIL),
    ("SET k v", OK),
    ("GETEX k", "v"),
    ("TTL k", -1),
    ("GETEX k EX 100", "v"),
    ("TTL k", between(99, 100)),
    ("GETEX k", "v"),
    ("TTL k", between(99, 100)),
    ("GETEX k PX 5000", "v"),
    ("PTTL k", between(4000, 5000)),
    ("GETEX k PERSIST", "v"),
    ("TTL k", -1),
    ("GETEX k PERSIST PERSIST", "v"),
    ("GETEX k EXAT 33177117420", "v"),
    ("EXPIRETIME k", 33177117420),
    ("GETEX k PXAT 33177117420123", "v"),
    ("PEXPIRETIME k", 33177117420123),
    ("GETEX k EX 0", invalid_expire("getex")),
    ("GETEX k EX x", NOT_AN_INTEGER),
    ("GETEX k EX", SYNTAX_ERROR),
    ("GETEX k EX 10 PERSIST", SYNTAX_ERROR),
    ("GETEX k PERSIST EX 10", SYNTAX_ERROR),
    ("GETEX k KEEPTTL", SYNTAX_ERROR),
    ("GETEX k NX", SYNTAX_ERROR),
    ("PEXPIRETIME k", 33177117420123),
    ("GETEX k PXAT 1", "v"),
    ("EXISTS k", 0),
    ("RPUSH l x", 1),
    ("GETEX l EX 100", WRONGTYPE),
    ("TTL l", -1),
    ("GETEX", wrong_arity("getex")),
)


# ---- several keys ----------------------------------------------------------------------------

test_mset_and_mget_take_many_keys = table(
    ("MSET a 1 b two c 3", OK),
    ("MGET a b c", ["1", "two", "3"]),
    ("MGET c nothing a a", ["3", NIL, "1", "1"]),
    ("RPUSH l x", 1),
    ("MGET a l b", ["1", NIL, "two"]),
    ("MSET a first a second l string", OK),
    ("MGET a l", ["second", "string"]),
    ("SET t v EX 100", OK),
    ("MSET t w", OK),
    ("TTL t", -1),
    ("MSET a 1 b", wrong_arity("mset")),
    ("MSET a", wrong_arity("mset")),
    ("MGET", wrong_arity("mget")),
)

test_msetnx_stores_all_or_nothing = table(
    ("MSETNX a 1 b 2", 1),
    ("MSETNX c 3 a 9", 0),
    ("MGET a b c", ["1", "2", NIL]),
    ("MSETNX d 1 d 2", 1),
    ("GET d", "2"),
    ("MSETNX e 1 f", wrong_arity("msetnx")),
)


# ---- numbers ---------------------------------------------------------------------------------

test_incr_and_decr_count_from_zero = table(
    ("INCR k", 1),
    ("INCRBY k 10", 11),
    ("DECR k", 10),
    ("DECRBY k 30", -20),
    ("INCRBY k -5", -25),
    ("GET k", "-25"),
    ("SET k 07", OK),
    ("INCR k", NOT_AN_INTEGER),
    (("SET", "k", " 1"), OK),
    ("INCR k", NOT_AN_INTEGER),
    (("SET", "k", ""), OK),
    ("INCR k", NOT_AN_INTEGER),
    ("SET k 1.0", OK),
    ("DECR k", NOT_AN_INTEGER),
    ("RPUSH l x", 1),
    ("INCR l", WRONGTYPE),
    ("INCRBY k x", NOT_AN_INTEGER),
    ("DECRBY k 1.5", NOT_AN_INTEGER),
    ("INCR", wrong_arity("incr")),
    ("INCRBY k", wrong_arity("incrby")),
    ("DECRBY k 1 2", wrong_arity("decrby")),
    ("DECR k 1", wrong_arity("decr")),
)

test_counting_stops_at_the_ends_of_64_bits = table(
    (f"SET k {LONG_MAX}", OK),
    ("INCR k", OVERFLOW),
    ("GET k", str(LONG_MAX)),
    (f"DECRBY k {LONG_MAX}", 0),
    (f"INCRBY k {LONG_MIN}", LONG_MIN),
    ("DECR k", OVERFLOW),
    (f"DECRBY k {LONG_MIN}", Error("ERR decrement would overflow")),
    (f"SET k {LONG_MAX + 1}", OK),
    ("INCR k", NOT_AN_INTEGER),
)

test_counting_keeps_the_expiry = table(
    ("SET k 1 EX 100", OK),
    ("INCR k", 2),
    ("INCRBYFLOAT k 0.5", "2.5"),
    ("APPEND k x", 4),
    ("SETRANGE k 0 9", 4),
    ("TTL k", between(99, 100)),
)

test_incrbyfloat_prints_as_a_long_double = table(
    ("INCRBYFLOAT k 10.50", "10.5"),
    ("INCRBYFLOAT k 0.1", "10.6"),
    ("INCRBYFLOAT k -5", "5.6"),
    ("SET k 5.0e3", OK),
    ("INCRBYFLOAT k 2.0e2", "5200"),
    ("INCR k", 5201),
    ("SET k 3", OK),
    ("INCRBYFLOAT k 1.1", "4.1"),
    ("SET k 0.1", OK),
    ("INCRBYFLOAT k 0.2", "0.3"),
    ("SET k 1e18", OK),
    ("INCRBYFLOAT k 1", "1000000000000000001"),
    ("SET k 1e20", OK),
    ("INCRBYFLOAT k 1", "100000000000000000000"),  # 64 bits of precision end here
    ("SET k 0", OK),
    ("INCRBYFLOAT k 1e-17", "0.00000000000000001"),
    ("INCRBYFLOAT k inf", NOT_A_NUMBER_SUM),
    ("INCRBYFLOAT k -inf", NOT_A_NUMBER_SUM),
    ("INCRBYFLOAT k nan", NOT_A_FLOAT),
    ("INCRBYFLOAT k x", NOT_A_FLOAT),
    (("INCRBYFLOAT", "k", " 1"), NOT_A_FLOAT),
    (("INCRBYFLOAT", "k", ""), NOT_A_FLOAT),
    ("SET k text", OK),
    ("INCRBYFLOAT k 1", NOT_A_FLOAT),
    ("RPUSH l x", 1),
    ("INCRBYFLOAT l 1", WRONGTYPE),
    ("INCRBYFLOAT k", wrong_arity("incrbyfloat")),
)


# ---- parts -----------------------------------------------------------------------------------

test_append_and_strlen = table(
    ("STRLEN k", 0),
    ("APPEND k foo", 3),
    ("APPEND k bar", 6),
    ("GET k", "foobar"),
    ("STRLEN k", 6),
    (("APPEND", "k", ""), 6),
    ("SET n 12", OK),
    ("STRLEN n", 2),
    ("APPEND n 3", 3),
    ("INCR n", 124),
    (("APPEND", "empty", ""), 0),
    ("EXISTS empty", 1),
    ("RPUSH l x", 1),
    ("APPEND l x", WRONGTYPE),
    ("STRLEN l", WRONGTYPE),
    ("APPEND k", wrong_arity("append")),
    ("STRLEN", wrong_arity("strlen")),
)

test_getrange_counts_from_either_end = table(
    ("SET k hello", OK),
    ("GETRANGE k 0 -1", "hello"),
    ("GETRANGE k 1 3", "ell"),
    ("GETRANGE k -3 -2", "ll"),
    ("GETRANGE k -100 1", "he"),
    ("GETRANGE k 3 100", "lo"),
    ("GETRANGE k 3 2", ""),
    ("GETRANGE k -1 -2", ""),
    ("GETRANGE k 0 -100", "h"),
    ("GETRANGE k 5 5", ""),
    (f"GETRANGE k {LONG_MIN} {LONG_MAX}", "hello"),
    ("GETRANGE nothing 0 -1", ""),
    ("SUBSTR k 1 2", "el"),
    ("SET n 12345", OK),
    ("GETRANGE n 1 2", "23"),
    ("GETRANGE k x 1", NOT_AN_INTEGER),
    ("GETRANGE nothing 0 x", NOT_AN_INTEGER),
    ("RPUSH l x", 1),
    ("GETRANGE l 0 1", WRONGTYPE),
    ("GETRANGE k 0", wrong_arity("getrange")),
    ("SUBSTR k 0", wrong_arity("substr")),
)

test_setrange_pads_with_zero_bytes = table(
    ("SETRANGE k 3 x", 4),
    ("GET k", b"\0\0\0x"),
    ("SETRANGE k 0 abcdef", 6),
    ("GET k", "abcdef"),
    ("SETRANGE k 2 -", 6),
    ("GET k", "ab-def"),
    ("SET n 1234", OK),
    ("SETRANGE n 1 9", 4),
    ("GET n", "1934"),
    (("SETRANGE", "k", 100, ""), 6),
    (("SETRANGE", "new", 100, ""), 0),
    ("EXISTS new", 0),
    ("SETRANGE k -1 x", Error("ERR offset is out of range")),
    ("SETRANGE k x x", NOT_AN_INTEGER),
    ("SETRANGE k 536870912 x", TOO_LONG),
    (f"SETRANGE k {LONG_MAX} xx", TOO_LONG),
    (("SETRANGE", "k", 536870912, ""), 6),
    ("RPUSH l x", 1),
    ("SETRANGE l 0 x", WRONGTYPE),
    (("SETRANGE", "l", 0, ""), WRONGTYPE),
    ("SETRANGE l 536870912 x", WRONGTYPE),
    ("SETRANGE k 0", wrong_arity("setrange")),
)

test_a_string_remembers_how_it_was_made = table(
    ("SET k 12", OK),
    ("OBJECT ENCODING k", "int"),
    (("SET", "k", "x" * 44), OK),
    ("OBJECT ENCODING k", "embstr"),
    (("SET", "k", "x" * 45), OK),
    ("OBJECT ENCODING k", "raw"),
    ("SET k 1", OK),
    ("APPEND k 2", 2),
    ("OBJECT ENCODING k", "raw"),
    ("INCR k", 13),
    ("OBJECT ENCODING k", "int"),
    ("SETRANGE k 0 2", 2),
    ("OBJECT ENCODING k", "raw"),
    (("SETRANGE", "n", 0, "ab"), 2),
    ("OBJECT ENCODING n", "raw"),
    ("APPEND new 12", 2),
    ("OBJECT ENCODING new", "int"),
    ("INCRBYFLOAT f 1", "1"),
    ("OBJECT ENCODING f", "embstr"),
    ("GETSET new abc", "12"),
    ("OBJECT ENCODING new", "embstr"),
)


def test_a_string_grows_by_parts_as_one_that_is_kept_here(c):
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    model = b""
    for step in range(400):
        piece = bytes(rng.randrange(256) for _ in range(rng.randrange(60)))
        if rng.random() < 0.5:
            model += piece
            assert c("APPEND", "k", piece) == len(model), f"seed {seed} step {step}"
        else:
            offset = rng.randrange(len(model) + 50)
            if piece:
                padded = model.ljust(offset, b"\0")
                model = padded[:offset] + piece + padded[offset + len(piece) :]
            assert c("SETRANGE", "k", offset, piece) == len(model), f"seed {seed} step {step}"
        start, end = rng.randrange(len(model) + 1), rng.randrange(len(model) + 1)
        assert c("GETRANGE", "k", start, end) == model[start : end + 1], f"seed {seed} step {step}"
    assert c("GET", "k") == model, f"seed {seed}"


# ---- LCS -------------------------------------------------------------------------------------

test_lcs_finds_what_two_strings_have_in_common = table(
    ("MSET a ohmytext b mynewtext", OK),
    ("LCS a b", "mytext"),
    ("LCS a b LEN", 6),
    ("LCS a b IDX", Map({"matches": [[[4, 7], [5, 8]], [[2, 3], [0, 1]]], "len": 6})),
    ("LCS a b IDX MINMATCHLEN 4", Map({"matches": [[[4, 7], [5, 8]]], "len": 6})),
    (
        "LCS a b idx withmatchlen minmatchlen 0",
        Map({"matches": [[[4, 7], [5, 8], 4], [[2, 3], [0, 1], 2]], "len": 6}),
    ),
    ("LCS a b IDX MINMATCHLEN -5 MINMATCHLEN 5", Map({"matches": [], "len": 6})),
    ("LCS a b LEN WITHMATCHLEN MINMATCHLEN 4", 6),
    ("LCS a nothing", ""),
    ("LCS nothing nothing2 LEN", 0),
    ("LCS nothing a IDX", Map({"matches": [], "len": 0})),
    ("SET n 12345", OK),
    ("SET m 2345", OK),
    ("LCS n m", "2345"),
    ("LCS a a", "ohmytext"),
    ("LCS a b IDX LEN", Error("ERR If you want both the length and indexes, please just use IDX.")),
    ("LCS a b FOO", SYNTAX_ERROR),
    ("LCS a b MINMATCHLEN", SYNTAX_ERROR),
    ("LCS a b MINMATCHLEN x", NOT_AN_INTEGER),
    ("RPUSH l x", 1),
    ("LCS a l", Error("ERR The specified keys must contain string values")),
    ("LCS l nothing FOO", Error("ERR The specified keys must contain string values")),
    ("LCS a", wrong_arity("lcs")),
    (("SET", "a", "x" * 12000), OK),
    (
        "LCS a a LEN",
        Error("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"),
    ),
)
