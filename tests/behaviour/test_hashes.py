"""Hashes: fields and values, counters in fields, random fields, iteration."""

import random

import pytest

from harness import *
from harness import NIL, NIL_ARRAY, OK

HASH_NOT_INTEGER = Error("ERR hash value is not an integer")
HASH_NOT_FLOAT = Error("ERR hash value is not a float")
OVERFLOW = Error("ERR increment or decrement would overflow")
ODD_FIELDS = Error("ERR wrong number of arguments for 'hset' command")
INVALID_CURSOR = Error("ERR invalid cursor")
OUT_OF_RANGE = Error("ERR value is out of range")


# ---- setting and reading -----------------------------------------------------------------------

test_hset_counts_the_fields_that_are_new = table(
    ("HSET h f v", 1),
    ("HSET h f w", 0),
    ("HSET h f x g y", 1),
    ("HSET h a 1 b 2 a 3", 2),
    ("HGETALL h", Map({"f": "x", "g": "y", "a": "3", "b": "2"})),
    ("HSET h", wrong_arity("hset")),
    ("HSET h f", wrong_arity("hset")),
    ("HSET h f v g", ODD_FIELDS),
    ("HSET none f v g", ODD_FIELDS),
    ("EXISTS none", 0),
    ("SET s v", OK),
    ("HSET s f v", WRONGTYPE),
    ("HSET s f v g", ODD_FIELDS),
)

test_hmset_answers_a_status_and_errs_under_its_own_name = table(
    ("HMSET h f v g w", OK),
    ("HMSET h f x", OK),
    ("HGETALL h", Map({"f": "x", "g": "w"})),
    ("HMSET h", wrong_arity("hmset")),
    ("HMSET h f", wrong_arity("hmset")),
    ("HMSET h f v g", wrong_arity("hmset")),
    ("SET s v", OK),
    ("HMSET s f v", WRONGTYPE),
)

test_hsetnx_sets_a_field_once = table(
    ("HSETNX h f v", 1),
    ("HSETNX h f w", 0),
    ("HGET h f", "v"),
    ("HSETNX h", wrong_arity("hsetnx")),
    ("HSETNX h f", wrong_arity("hsetnx")),
    ("HSETNX h f v g", wrong_arity("hsetnx")),
    ("SET s v", OK),
    ("HSETNX s f v", WRONGTYPE),
)

test_hget_answers_the_value_or_nil = table(
    ("HGET none f", NIL),
    ("HSET h f v", 1),
    ("HGET h f", "v"),
    ("HGET h none", NIL),
    ("HGET h", wrong_arity("hget")),
    ("HGET h f g", wrong_arity("hget")),
    ("SET s v", OK),
    ("HGET s f", WRONGTYPE),
)

test_hmget_answers_one_value_per_field = table(
    ("HMGET none a b", [NIL, NIL]),
    ("HSET h a 1 b 2", 2),
    ("HMGET h b none a b", ["2", NIL, "1", "2"]),
    ("HMGET h", wrong_arity("hmget")),
    ("SET s v", OK),
    ("HMGET s f", WRONGTYPE),
)

test_hdel_counts_what_it_removed_and_the_last_field_takes_the_key = table(
    ("HDEL none f", 0),
    ("HSET h a 1 b 2 c 3", 3),
    ("HDEL h none", 0),
    ("HDEL h a none a", 1),
    ("HGETALL h", Map({"b": "2", "c": "3"})),
    ("HDEL h b c d", 2),
    ("EXISTS h", 0),
    ("TYPE h", Simple("none")),
    ("HDEL h", wrong_arity("hdel")),
    ("SET s v", OK),
    ("HDEL s f", WRONGTYPE),
)

test_hlen_hstrlen_hexists_measure = table(
    ("HLEN none", 0),
    ("HSTRLEN none f", 0),
    ("HEXISTS none f", 0),
    ("HSET h a hello b -12 c '' d 007", 4),
    ("HLEN h", 4),
    ("HSTRLEN h a", 5),
    ("HSTRLEN h b", 3),
    ("HSTRLEN h c", 0),
    ("HSTRLEN h d", 3),
    ("HSTRLEN h none", 0),
    ("HEXISTS h a", 1),
    ("HEXISTS h none", 0),
    ("HLEN", wrong_arity("hlen")),
    ("HLEN h h", wrong_arity("hlen")),
    ("HSTRLEN h", wrong_arity("hstrlen")),
    ("HEXISTS h", wrong_arity("hexists")),
    ("SET s v", OK),
    ("HLEN s", WRONGTYPE),
    ("HSTRLEN s f", WRONGTYPE),
    ("HEXISTS s f", WRONGTYPE),
)

test_hkeys_hvals_hgetall_list_everything = table(
    ("HKEYS none", []),
    ("HVALS none", []),
    ("HGETALL none", Map({})),
    ("HSET h a 1 b 2 c 1", 3),
    ("HKEYS h", unordered("a", "b", "c")),
    ("HVALS h", unordered("1", "2", "1")),
    ("HGETALL h", Map({"a": "1", "b": "2", "c": "1"})),
    ("HKEYS", wrong_arity("hkeys")),
    ("HVALS h h", wrong_arity("hvals")),
    ("HGETALL", wrong_arity("hgetall")),
    ("SET s v", OK),
    ("HKEYS s", WRONGTYPE),
    ("HVALS s", WRONGTYPE),
    ("HGETALL s", WRONGTYPE),
)

test_a_small_hash_keeps_the_order_of_arrival = table(
    ("HSET h z 1 a 2 m 3", 3),
    ("HSET h a 9", 0),
    ("HKEYS h", ["z", "a", "m"]),
    ("HDEL h z", 1),
    ("HSET h z 1", 1),
    ("HKEYS h", ["a", "m", "z"]),
    ("HVALS h", ["9", "3", "1"]),
)

test_fields_and_values_may_be_any_bytes = table(
    (("HSET", "h", b"", b"", b"\x00\xff", b"\r\n", b"12", b"0012"), 3),
    (("HGET", "h", b""), ""),
    (("HGET", "h", b"\x00\xff"), "\r\n"),
    ("HGET h 12", "0012"),
    ("HGET h 012", NIL),
    (("HDEL", "h", b"", b"\x00\xff"), 2),
    ("HGETALL h", Map({"12": "0012"})),
)


# ---- counters ----------------------------------------------------------------------------------

test_hincrby_counts_in_a_field = table(
    ("HINCRBY h n 5", 5),
    ("HINCRBY h n -7", -2),
    ("HGET h n", "-2"),
    ("HINCRBY h n 9223372036854775807", 9223372036854775805),
    ("HINCRBY h n 3", OVERFLOW),
    ("HGET h n", "9223372036854775805"),
    ("HSET h low -9223372036854775808", 1),
    ("HINCRBY h low -1", OVERFLOW),
    ("HINCRBY h low 1", -9223372036854775807),
    ("HINCRBY h n x", NOT_AN_INTEGER),
    ("HINCRBY h n 1.5", NOT_AN_INTEGER),
    ("HINCRBY h n ''", NOT_AN_INTEGER),
    ("HINCRBY h n 9223372036854775808", NOT_AN_INTEGER),
    ("HSET h text abc spaced ' 11' padded '11 ' float 1.5 zeros 007 plus +1 none ''", 7),
    ("HINCRBY h text 1", HASH_NOT_INTEGER),
    ("HINCRBY h spaced 1", HASH_NOT_INTEGER),
    ("HINCRBY h padded 1", HASH_NOT_INTEGER),
    ("HINCRBY h float 1", HASH_NOT_INTEGER),
    ("HINCRBY h zeros 1", HASH_NOT_INTEGER),
    ("HINCRBY h plus 1", HASH_NOT_INTEGER),
    ("HINCRBY h none 1", HASH_NOT_INTEGER),
    ("HINCRBY h", wrong_arity("hincrby")),
    ("HINCRBY h n", wrong_arity("hincrby")),
    ("HINCRBY h n 1 2", wrong_arity("hincrby")),
    ("SET s v", OK),
    ("HINCRBY s n 1", WRONGTYPE),
    ("HINCRBY s n x", NOT_AN_INTEGER),
)

test_hincrbyfloat_counts_with_seventeen_digits = table(
    ("HINCRBYFLOAT h n 1.5", "1.5"),
    ("HINCRBYFLOAT h n 2.5", "4"),
    ("HINCRBYFLOAT h n -0.1", "3.9"),
    ("HINCRBYFLOAT h n 5.0e3", "5003.89999999999999991"),  # a long double, as x86 computes it
    ("HGET h n", "5003.89999999999999991"),
    ("HINCRBYFLOAT h third 0.1", "0.1"),
    ("HINCRBYFLOAT h third 0.2", "0.3"),
    ("HSET h int 10", 1),
    ("HINCRBYFLOAT h int 3", "13"),
    ("HINCRBY h int 1", 14),
    ("HINCRBYFLOAT h n x", NOT_A_FLOAT),
    ("HINCRBYFLOAT h n ''", NOT_A_FLOAT),
    ("HINCRBYFLOAT h n ' 1'", NOT_A_FLOAT),
    ("HINCRBYFLOAT h n nan", Error("ERR value is not a valid float")),
    ("HINCRBYFLOAT h n inf", Error("ERR value is NaN or Infinity")),
    ("HINCRBYFLOAT h n -inf", Error("ERR value is NaN or Infinity")),
    ("HSET h text abc none '' spaced ' 11'", 3),
    ("HINCRBYFLOAT h text 1", HASH_NOT_FLOAT),
    ("HINCRBYFLOAT h none 1", HASH_NOT_FLOAT),
    ("HINCRBYFLOAT h spaced 1", HASH_NOT_FLOAT),
    ("HINCRBYFLOAT h", wrong_arity("hincrbyfloat")),
    ("HINCRBYFLOAT h n 1 2", wrong_arity("hincrbyfloat")),
    ("SET s v", OK),
    ("HINCRBYFLOAT s n 1", WRONGTYPE),
    ("HINCRBYFLOAT s n x", NOT_A_FLOAT),
    ("EXISTS fresh", 0),
    ("HINCRBYFLOAT fresh n 0", "0"),
    ("HGETALL fresh", Map({"n": "0"})),
)


# ---- random fields -----------------------------------------------------------------------------

test_hrandfield_options_and_errors = table(
    ("HRANDFIELD none", NIL),
    ("HRANDFIELD none 3", []),
    ("HRANDFIELD none -3 WITHVALUES", []),
    ("HSET h a 1 b 2 c 3", 3),
    ("HRANDFIELD h", one_of("a", "b", "c")),
    ("HRANDFIELD h 0", []),
    ("HRANDFIELD h 0 withvalues", []),
    ("HRANDFIELD h 3", unordered("a", "b", "c")),
    ("HRANDFIELD h 10", unordered("a", "b", "c")),
    ("HRANDFIELD h 1", array_of(1, one_of("a", "b", "c"))),
    ("HRANDFIELD h -7", array_of(7, one_of("a", "b", "c"))),
    ("HRANDFIELD h 10 WITHVALUES", by_protocol(r2=array_of(6), r3=unordered(["a", "1"], ["b", "2"], ["c", "3"]))),
    ("HRANDFIELD h 1 wIthvalues", by_protocol(r2=array_of(2), r3=array_of(1, one_of(["a", "1"], ["b", "2"], ["c", "3"])))),
    ("HRANDFIELD h -7 WITHVALUES", by_protocol(r2=array_of(14), r3=array_of(7, one_of(["a", "1"], ["b", "2"], ["c", "3"])))),
    ("HRANDFIELD h x", NOT_AN_INTEGER),
    ("HRANDFIELD h 1.5", NOT_AN_INTEGER),
    ("HRANDFIELD h 1 x", SYNTAX_ERROR),
    ("HRANDFIELD h x x", NOT_AN_INTEGER),
    ("HRANDFIELD h 1 WITHVALUES x", SYNTAX_ERROR),
    ("HRANDFIELD h 9223372036854775808", NOT_AN_INTEGER),
    ("HRANDFIELD h -9223372036854775808", Error("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807")),
    ("HRANDFIELD h -9223372036854775808 WITHVALUES", Error("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807")),
    ("HRANDFIELD h -9223372036854775807 WITHVALUES", OUT_OF_RANGE),
    ("HRANDFIELD h 9223372036854775807 WITHVALUES", OUT_OF_RANGE),
    ("HRANDFIELD h 9223372036854775807", unordered("a", "b", "c")),
    ("HRANDFIELD h 4611686018427387903 WITHVALUES", by_protocol(r2=array_of(6), r3=array_of(3))),
    ("HRANDFIELD", wrong_arity("hrandfield")),
    ("SET s v", OK),
    ("HRANDFIELD s", WRONGTYPE),
    ("HRANDFIELD s 1", WRONGTYPE),
    ("HRANDFIELD s 1 x", SYNTAX_ERROR),
    ("HRANDFIELD s x", NOT_AN_INTEGER),
)


@pytest.mark.parametrize("size", [30, 1500])
@pytest.mark.parametrize("count", [1, 5, 9, 25, 30, 100, 600])
def test_hrandfield_with_a_count_draws_distinct_fields(c, c3, size, count):
    for number in range(size):
        c("HSET", "h", f"f{number}", number)
    drawn = c("HRANDFIELD", "h", count)
    assert len(set(drawn)) == len(drawn) == min(count, size)
    flat = c("HRANDFIELD", "h", count, "WITHVALUES")
    assert len(flat) == 2 * min(count, size)
    assert all(field == b"f" + value for field, value in zip(flat[::2], flat[1::2]))
    pairs = c3("HRANDFIELD", "h", count, "WITHVALUES")
    assert len({field for field, _ in pairs}) == min(count, size)
    assert all(field == b"f" + value for field, value in pairs)
    repeated = c("HRANDFIELD", "h", -count, "WITHVALUES")
    assert len(repeated) == 2 * count
    assert all(field == b"f" + value for field, value in zip(repeated[::2], repeated[1::2]))


@pytest.mark.parametrize("size", [10, 600])
@pytest.mark.parametrize("count", [None, 2, 5, -5])
def test_hrandfield_draws_every_field_in_time(c, size, count):
    c("HSET", "h", *[word for number in range(size) for word in (number, "v")])
    words = ["HRANDFIELD", "h"] + ([] if count is None else [count])
    missing = {str(number).encode() for number in range(size)}
    for _ in range(40 * size):
        if not missing:
            break
        reply = c(*words)
        missing -= {reply} if count is None else set(reply)
    assert not missing, f"never drawn: {sorted(missing)[:10]}"


# ---- iteration ---------------------------------------------------------------------------------

test_hscan_options_and_errors = table(
    ("HSCAN none 0", ["0", []]),
    ("HSCAN none 17", ["0", []]),
    ("HSET h a 1 b 2 bb 3", 3),
    ("HSCAN h 0", ["0", ["a", "1", "b", "2", "bb", "3"]]),
    ("HSCAN h 0 COUNT 1", ["0", ["a", "1", "b", "2", "bb", "3"]]),
    ("HSCAN h 0 MATCH b*", ["0", ["b", "2", "bb", "3"]]),
    ("HSCAN h 0 match b? count 5", ["0", ["bb", "3"]]),
    ("HSCAN h 0 MATCH *", ["0", ["a", "1", "b", "2", "bb", "3"]]),
    ("HSCAN h 0 MATCH x* MATCH a", ["0", ["a", "1"]]),
    ("HSCAN h 0 MATCH 1", ["0", []]),
    ("HSCAN h x", INVALID_CURSOR),
    ("HSCAN h -1", ["0", ["a", "1", "b", "2", "bb", "3"]]),
    ("HSCAN h +5", ["0", ["a", "1", "b", "2", "bb", "3"]]),
    ("HSCAN h 007", ["0", ["a", "1", "b", "2", "bb", "3"]]),
    ("HSCAN h ' 0'", INVALID_CURSOR),
    ("HSCAN h 0x", INVALID_CURSOR),
    ("HSCAN h ''", ["0", ["a", "1", "b", "2", "bb", "3"]]),
    ("HSCAN h 18446744073709551616", INVALID_CURSOR),
    ("HSCAN h 18446744073709551615", ["0", ["a", "1", "b", "2", "bb", "3"]]),
    ("HSCAN h 0 COUNT 0", SYNTAX_ERROR),
    ("HSCAN h 0 COUNT -1", SYNTAX_ERROR),
    ("HSCAN h 0 COUNT x", NOT_AN_INTEGER),
    ("HSCAN h 0 COUNT", SYNTAX_ERROR),
    ("HSCAN h 0 MATCH", SYNTAX_ERROR),
    ("HSCAN h 0 FOO", SYNTAX_ERROR),
    ("HSCAN h 0 NOVALUES", SYNTAX_ERROR),
    ("HSCAN h 0 TYPE hash", SYNTAX_ERROR),
    ("HSCAN none 0 FOO", ["0", []]),  # options are read only when there is something to scan
    ("HSCAN none 0 COUNT x", ["0", []]),
    ("HSCAN h", wrong_arity("hscan")),
    ("SET s v", OK),
    ("HSCAN s 0", WRONGTYPE),
    ("HSCAN s x", INVALID_CURSOR),
)


def test_hscan_of_a_big_hash_takes_steps_and_returns_every_field_with_its_value(c):
    fields = {f"f{number}".encode(): str(number).encode() for number in range(5000)}
    c("HSET", "h", *[word for pair in fields.items() for word in pair])
    items, steps = scan_all(c, "HSCAN", "h", "COUNT", 100)
    assert dict(zip(items[::2], items[1::2])) == fields
    assert 10 < steps < 100
    items, _ = scan_all(c, "HSCAN", "h", "MATCH", "f1?", "COUNT", 1000)
    assert set(items[::2]) == {b"f1%d" % number for number in range(10)}


def test_hscan_returns_what_stays_while_the_hash_grows_and_shrinks(c):
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    stay = {f"stay{number}".encode() for number in range(1000)}
    c("HSET", "h", *[word for field in stay for word in (field, "v")])
    c.pipeline(*[("HSET", "h", f"go{number}", "v") for number in range(3000)])
    seen, cursor = set(), b"0"
    while True:
        cursor, part = c("HSCAN", "h", cursor, "COUNT", 20)
        seen.update(part[::2])
        if cursor == b"0":
            break
        numbers = [rng.randrange(6000) for _ in range(60)]
        c.pipeline(*[
            ("HSET", "h", f"go{number}", "v") if number % 3 == 0 else ("HDEL", "h", f"go{number}")
            for number in numbers
        ])  # fmt: skip
    assert stay <= seen


# ---- encodings ---------------------------------------------------------------------------------

test_a_long_field_or_value_makes_a_hashtable_for_good = table(
    (("HSET", "h", "f" * 64, "v" * 64), 1),
    ("OBJECT ENCODING h", "listpack"),
    (("HSET", "h", "f", "v" * 65), 1),
    ("OBJECT ENCODING h", "hashtable"),
    (("HSET", "h", "f", "v"), 0),
    ("OBJECT ENCODING h", "hashtable"),
    (("HSET", "g", "f" * 65, "v"), 1),
    ("OBJECT ENCODING g", "hashtable"),
    (("HSETNX", "n", "f", "v" * 65), 1),
    ("OBJECT ENCODING n", "hashtable"),
    ("HSET m f v", 1),
    (("HSETNX", "m", "f", "v" * 65), 0),
    ("OBJECT ENCODING m", "listpack"),
    (("HMSET", "q", "f", "v" * 65), OK),
    ("OBJECT ENCODING q", "hashtable"),
    ("HINCRBY i n 5", 5),
    ("OBJECT ENCODING i", "listpack"),
    (("HINCRBY", "i", "f" * 65, 5), 5),
    ("OBJECT ENCODING i", "hashtable"),
)


def test_the_513th_field_makes_a_hashtable(c):
    for number in range(512):
        assert c("HSET", "h", number, number) == 1
    assert c("OBJECT ENCODING h") == b"listpack"
    assert c("HSET h 511 x") == 0
    assert c("OBJECT ENCODING h") == b"listpack"
    assert c("HSET h 512 x") == 1
    assert c("OBJECT ENCODING h") == b"hashtable"
    assert c("HLEN h") == 513
    expected = {str(number).encode(): str(number).encode() for number in range(511)}
    expected |= {b"511": b"x", b"512": b"x"}
    flat = c("HGETALL h")
    assert dict(zip(flat[::2], flat[1::2])) == expected


def test_the_limits_of_listpacks_are_configurable(server, c):
    with server.config(hash_max_listpack_entries=2, hash_max_listpack_value=5):
        check(
            c,
            ("HSET h a 12345 b 1", 2),
            ("OBJECT ENCODING h", "listpack"),
            ("HSET h c 1", 1),
            ("OBJECT ENCODING h", "hashtable"),
            ("HSET g a 123456", 1),
            ("OBJECT ENCODING g", "hashtable"),
        )
    check(
        c,
        ("HSET k a 1 b 2 c 3", 3),
        ("OBJECT ENCODING k", "listpack"),
    )
    with server.config(hash_max_listpack_entries=2):
        check(c, ("HSET k a 9", 0), ("OBJECT ENCODING k", "hashtable"), ("HGET k b", "2"))


@pytest.mark.parametrize("big", [False, True])
def test_a_hash_is_a_map_whatever_its_encoding(c, big):
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    model = {}
    word = lambda: str(rng.choice([rng.randrange(60), rng.randrange(-(2**63), 2**63), "x" * rng.randrange(80 if big else 20)])).encode()
    for _ in range(1500):
        field, value = word(), word()
        action = rng.randrange(5)
        if action <= 1:
            assert c("HSET", "h", field, value) == (field not in model)
            model[field] = value
        elif action == 2:
            assert c("HSETNX", "h", field, value) == (field not in model)
            model.setdefault(field, value)
        elif action == 3:
            assert c("HDEL", "h", field) == (field in model)
            model.pop(field, None)
        else:
            expected = model.get(field)
            got = c("HGET", "h", field)
            assert got == (NIL if expected is None else expected)
        assert c("HLEN", "h") == len(model)
    flat = c("HGETALL", "h")
    assert dict(zip(flat[::2], flat[1::2])) == model


def test_writes_of_hashes_are_announced(server, c, connect):
    with server.config(notify_keyspace_events="KEA"):
        listener = connect()
        listener("PSUBSCRIBE", "__keyevent@0__:*")
        c.pipeline(
            "HSET h a 1 b 2", "HSET h a 2", "HMSET h c 1", "HSETNX h a 1", "HSETNX h d 1", "HINCRBY h n 1",
            "HINCRBYFLOAT h n 1", "HDEL h none", "HDEL h a b", "HDEL h c d n", "HDEL h x",
        )  # fmt: skip
        events = ["hset", "hset", "hset", "hset", "hincrby", "hincrbyfloat", "hdel", "hdel", "del"]
        for event in events:
            message = listener.read()
            assert message == [b"pmessage", b"__keyevent@0__:*", f"__keyevent@0__:{event}".encode(), b"h"]


test_a_write_that_changes_nothing_leaves_a_watched_key_alone = table(
    ("HSET h a 1", 1),
    ("WATCH h", OK),
    ("HSETNX h a 2", 0),
    ("HDEL h none", 0),
    ("HINCRBY h a x", NOT_AN_INTEGER),
    ("MULTI", OK),
    ("PING", Simple("QUEUED")),
    ("EXEC", [Simple("PONG")]),
    ("WATCH h", OK),
    ("HSET h a 1", 0),  # the same value again still counts as a change
    ("MULTI", OK),
    ("PING", Simple("QUEUED")),
    ("EXEC", NIL_ARRAY),
)
