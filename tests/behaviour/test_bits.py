"""Strings as arrays of bits, and integers of any width in them."""

import random

from harness import *

BAD_OFFSET = Error("ERR bit offset is not an integer or out of range")
BAD_BIT = Error("ERR bit is not an integer or out of range")
BAD_TYPE = Error(
    "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."
)
LONG_MAX, LONG_MIN = 2**63 - 1, -(2**63)


# ---- single bits -----------------------------------------------------------------------------

test_setbit_answers_the_old_bit_and_grows_the_string = table(
    ("SETBIT k 7 1", 0),
    ("SETBIT k 7 0", 1),
    ("SETBIT k 1 1", 0),
    ("GET k", "@"),
    ("SETBIT k 23 0", 0),
    ("STRLEN k", 3),
    ("SETBIT k 20 1", 0),
    ("GET k", b"@\x00\x08"),
    ("OBJECT ENCODING k", "raw"),
    ("SET n 1", OK),
    ("SETBIT n 6 1", 0),
    ("GET n", "3"),
    ("SETBIT n 6 1", 1),
    ("SETBIT k -1 1", BAD_OFFSET),
    ("SETBIT k 4294967296 1", BAD_OFFSET),
    ("SETBIT k #1 1", BAD_OFFSET),
    ("SETBIT k x y", BAD_OFFSET),
    ("SETBIT k 0 2", BAD_BIT),
    ("SETBIT k 0 -1", BAD_BIT),
    ("SETBIT k 0 x", BAD_BIT),
    ("RPUSH l x", 1),
    ("SETBIT l 0 1", WRONGTYPE),
    ("SETBIT k 0", wrong_arity("setbit")),
)

test_getbit_sees_zeros_beyond_the_end = table(
    ("GETBIT k 0", 0),
    ("SET k a", OK),
    ("GETBIT k 0", 0),
    ("GETBIT k 1", 1),
    ("GETBIT k 7", 1),
    ("GETBIT k 8", 0),
    ("GETBIT k 4294967295", 0),
    ("SET n 1", OK),
    ("GETBIT n 2", 1),
    ("GETBIT k 4294967296", BAD_OFFSET),
    ("GETBIT k -1", BAD_OFFSET),
    ("GETBIT k x", BAD_OFFSET),
    ("RPUSH l x", 1),
    ("GETBIT l 0", WRONGTYPE),
    ("GETBIT l x", BAD_OFFSET),
    ("GETBIT k", wrong_arity("getbit")),
)


# ---- counting and searching ------------------------------------------------------------------

test_bitcount_counts_bytes_or_bits = table(
    ("BITCOUNT k", 0),
    ("SET k foobar", OK),
    ("BITCOUNT k", 26),
    ("BITCOUNT k 0 0", 4),
    ("BITCOUNT k 1 1 BYTE", 6),
    ("BITCOUNT k 5 30 BIT", 17),
    ("BITCOUNT k 1 1 bit", 1),
    ("BITCOUNT k -2 -1", 7),
    ("BITCOUNT k 0 -100", 4),
    ("BITCOUNT k 3 2", 0),
    ("BITCOUNT k 10 20", 0),
    ("BITCOUNT k -1 -2", 0),
    ("BITCOUNT k -1 -2 FOO", 0),
    ("BITCOUNT k 1 2 FOO", SYNTAX_ERROR),
    ("BITCOUNT k 1 2 BIT x", SYNTAX_ERROR),
    ("BITCOUNT k 1", SYNTAX_ERROR),
    ("BITCOUNT k x 1", NOT_AN_INTEGER),
    ("BITCOUNT nothing x", 0),
    ("BITCOUNT nothing 1 2 FOO", 0),
    ("SET n 7", OK),
    ("BITCOUNT n", 5),
    (("SET", "e", ""), OK),
    ("BITCOUNT e 0 -1", 0),
    ("RPUSH l x", 1),
    ("BITCOUNT l", WRONGTYPE),
    ("BITCOUNT l x y", WRONGTYPE),
    ("BITCOUNT", wrong_arity("bitcount")),
)

test_bitpos_finds_the_first_bit_of_a_kind = table(
    ("BITPOS k 1", -1),
    ("BITPOS k 0", 0),
    (("SET", "k", b"\xff\xf0\x00"), OK),
    ("BITPOS k 0", 12),
    (("SET", "k", b"\x00\xff\xf0"), OK),
    ("BITPOS k 1 0", 8),
    ("BITPOS k 1 2", 16),
    ("BITPOS k 1 2 -1 BYTE", 16),
    ("BITPOS k 1 7 15 BIT", 8),
    ("BITPOS k 1 7 -3 BIT", 8),
    ("BITPOS k 0 9 19 BIT", -1),
    ("BITPOS k 0 9 20 BIT", 20),
    ("BITPOS k 1 3", -1),
    ("BITPOS k 1 2 1", -1),
    (("SET", "ones", b"\xff\xff\xff"), OK),
    ("BITPOS ones 0", 24),
    ("BITPOS ones 0 1", 24),
    ("BITPOS ones 0 0 -1", -1),
    ("BITPOS ones 0 0 100", -1),
    ("BITPOS ones 1 -1 -2", -1),
    (("SET", "e", ""), OK),
    ("BITPOS e 0", -1),
    ("BITPOS e 1", -1),
    ("BITPOS e 0 0 -1", -1),
    ("BITPOS k 2", Error("ERR The bit argument must be 1 or 0.")),
    ("BITPOS k x", NOT_AN_INTEGER),
    ("BITPOS k 1 x", NOT_AN_INTEGER),
    ("BITPOS k 1 0 x", NOT_AN_INTEGER),
    ("BITPOS k 1 0 x FOO", SYNTAX_ERROR),
    ("BITPOS k 1 x 0 FOO", NOT_AN_INTEGER),
    ("BITPOS k 1 0 1 BIT x", SYNTAX_ERROR),
    ("BITPOS nothing 1 x", -1),
    ("RPUSH l x", 1),
    ("BITPOS l 1", WRONGTYPE),
    ("BITPOS k", wrong_arity("bitpos")),
)


# ---- combining -------------------------------------------------------------------------------

test_bitop_combines_and_stores = table(
    (("MSET", "a", b"\xf0\x0f", "b", b"\x3c\x3c\xff"), OK),
    ("BITOP AND d a b", 3),
    ("GET d", b"\x30\x0c\x00"),
    ("BITOP or d a b", 3),
    ("GET d", b"\xfc\x3f\xff"),
    ("BITOP XOR d a b", 3),
    ("GET d", b"\xcc\x33\xff"),
    ("BITOP NOT d a", 2),
    ("GET d", b"\x0f\xf0"),
    ("BITOP XOR d a a a", 2),
    ("GET d", b"\xf0\x0f"),
    ("BITOP AND d a nothing", 2),
    ("GET d", b"\x00\x00"),
    ("BITOP OR a a b", 3),
    ("GET a", b"\xfc\x3f\xff"),
    ("SET n 12", OK),
    ("BITOP OR d n", 2),
    ("GET d", "12"),
    ("OBJECT ENCODING d", "raw"),
    ("SET d v EX 100", OK),
    ("BITOP OR d n", 2),
    ("TTL d", -1),
    ("BITOP NOT d nothing", 0),
    ("EXISTS d", 0),
    ("RPUSH l x", 1),
    ("BITOP OR d a l", WRONGTYPE),
    ("BITOP AND l a", 3),
    ("TYPE l", Simple("string")),
    ("BITOP NOT d a b", Error("ERR BITOP NOT must be called with a single source key.")),
    ("BITOP NAND d a", SYNTAX_ERROR),
    ("BITOP AND d", wrong_arity("bitop")),
)


# ---- fields ----------------------------------------------------------------------------------

test_bitfield_reads_and_writes_integers_of_any_width = table(
    ("BITFIELD k", []),
    ("EXISTS k", 0),
    ("BITFIELD k GET u8 0 GET i64 100", [0, 0]),
    ("EXISTS k", 0),
    ("BITFIELD k SET u8 0 200 GET u8 0 GET i8 0 GET u4 0 GET u1 0", [0, 200, -56, 12, 1]),
    ("BITFIELD k SET i5 #1 -3 GET i5 5 GET u5 #1", [0, -3, 29]),
    ("STRLEN k", 2),
    ("BITFIELD k SET i64 3 -1 GET i64 3 GET u63 4", [8791026472627208192, -1, LONG_MAX]),
    ("SET n 1", OK),
    ("BITFIELD n GET u8 0", [49]),
    ("BITFIELD n INCRBY u8 0 1", [50]),
    ("GET n", "2"),
    ("RPUSH l x", 1),
    ("BITFIELD l GET u8 0", WRONGTYPE),
    ("BITFIELD l SET u8 0 1", WRONGTYPE),
    ("BITFIELD", wrong_arity("bitfield")),
)

test_bitfield_overflow_wraps_saturates_or_fails = table(
    ("BITFIELD k SET u8 0 250 INCRBY u8 0 10", [0, 4]),
    ("BITFIELD k INCRBY u8 0 -10", [250]),
    ("BITFIELD k OVERFLOW SAT INCRBY u8 0 100 INCRBY u8 0 -300", [255, 0]),
    ("BITFIELD k OVERFLOW FAIL INCRBY u8 0 -1 GET u8 0", [NIL, 0]),
    ("BITFIELD k OVERFLOW fail SET u8 0 256 OVERFLOW wrap SET u8 0 257 GET u8 0", [NIL, 0, 1]),
    ("BITFIELD k OVERFLOW SAT SET u8 0 -5 GET u8 0", [1, 255]),
    ("BITFIELD k SET i8 0 127 INCRBY i8 0 1", [-1, -128]),
    ("BITFIELD k OVERFLOW sat INCRBY i8 0 -5 INCRBY i8 0 1000", [-128, 127]),
    ("BITFIELD k SET i8 0 200 GET i8 0", [127, -56]),
    (f"BITFIELD k SET i64 0 {LONG_MAX} GET i64 0", [-4035225266123964416, LONG_MAX]),
    ("BITFIELD k INCRBY i64 0 1", [LONG_MIN]),
    ("BITFIELD k OVERFLOW SAT INCRBY i64 0 -1", [LONG_MIN]),
    ("BITFIELD k OVERFLOW FAIL INCRBY i64 0 -1", [NIL]),
    ("BITFIELD new OVERFLOW FAIL INCRBY u8 16 300", [NIL]),
    ("STRLEN new", 3),
)

test_bitfield_with_a_wrong_argument_changes_nothing = table(
    ("BITFIELD k SET u8 0 1 GET u64 0", BAD_TYPE),
    ("BITFIELD k SET u8 0 1 GET i65 0", BAD_TYPE),
    ("BITFIELD k GET U8 0", BAD_TYPE),
    ("BITFIELD k GET u0 0", BAD_TYPE),
    ("BITFIELD k GET u08 0", BAD_TYPE),
    ("BITFIELD k GET 8 0", BAD_TYPE),
    ("BITFIELD k SET u8 0 1 GET u8 -1", BAD_OFFSET),
    ("BITFIELD k GET u8 #-1", BAD_OFFSET),
    ("BITFIELD k GET u8 4294967296", BAD_OFFSET),
    (f"BITFIELD k GET u8 #{LONG_MAX}", BAD_OFFSET),
    ("BITFIELD k GET u8 x", BAD_OFFSET),
    ("BITFIELD k SET u8 0 1 SET u8 0 x", NOT_AN_INTEGER),
    ("BITFIELD k SET u8 0 1 GET u8", SYNTAX_ERROR),
    ("BITFIELD k SET u8 0", SYNTAX_ERROR),
    ("BITFIELD k FOO u8 0 1", SYNTAX_ERROR),
    ("BITFIELD k OVERFLOW", SYNTAX_ERROR),
    ("BITFIELD k OVERFLOW FOO", Error("ERR Invalid OVERFLOW type specified")),
    ("BITFIELD k OVERFLOW SAT", []),
    ("EXISTS k", 0),
)

test_bitfield_ro_only_reads = table(
    ("SET k a", OK),
    ("BITFIELD_RO k GET u8 0 GET u4 #1", [97, 1]),
    ("BITFIELD_RO k", []),
    ("BITFIELD_RO k OVERFLOW SAT GET u8 0", [97]),
    ("BITFIELD_RO k SET u8 0 1", Error("ERR BITFIELD_RO only supports the GET subcommand")),
    ("BITFIELD_RO k GET u8 0 INCRBY u8 0 1", Error("ERR BITFIELD_RO only supports the GET subcommand")),
    ("BITFIELD_RO nothing GET u8 0", [0]),
    ("RPUSH l x", 1),
    ("BITFIELD_RO l GET u8 0", WRONGTYPE),
    ("BITFIELD_RO", wrong_arity("bitfield_ro")),
)


# ---- against a model -------------------------------------------------------------------------


def test_bits_of_a_random_string_count_and_are_found_as_in_a_model(c):
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    for step in range(60):
        data = bytes(rng.choice([0, 0, 255, 255, rng.randrange(256)]) for _ in range(rng.randrange(1, 300)))
        bits = "".join(f"{byte:08b}" for byte in data)
        c("SET", "k", data)
        for _ in range(5):
            first, last = sorted(rng.randrange(len(bits)) for _ in range(2))
            where = f"seed {seed} step {step}: {first}..{last} of {data!r}"
            assert c("BITCOUNT", "k", first, last, "BIT") == bits[first : last + 1].count("1"), where
            for bit in "01":
                found = bits.find(bit, first, last + 1)
                assert c("BITPOS", "k", bit, first, last, "BIT") == found, where


def test_fields_of_a_random_string_read_and_write_as_in_a_model(c):
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    bits = ["0"] * 640
    c("SETRANGE", "k", 79, b"\0")
    for step in range(300):
        signed = rng.random() < 0.5
        width = rng.randrange(1, 65 if signed else 64)
        offset = rng.randrange(len(bits) - width)
        field = f"{'i' if signed else 'u'}{width}"

        def read():
            value = int("".join(bits[offset : offset + width]), 2)
            return value - (1 << width) if signed and bits[offset] == "1" else value

        old, value = read(), rng.randrange(LONG_MIN, LONG_MAX + 1)
        bits[offset : offset + width] = f"{value % (1 << width):0{width}b}"
        reply = c("BITFIELD", "k", "SET", field, offset, value, "GET", field, offset)
        assert reply == [old, read()], f"seed {seed} step {step} {field} at {offset}"
    assert c("GET", "k") == int("".join(bits), 2).to_bytes(80, "big"), f"seed {seed}"
