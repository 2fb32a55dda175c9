"""Sets: members, random members, algebra of several sets, iteration."""

import random

import pytest

from harness import *
from harness import NIL, NIL_ARRAY, OK

INVALID_CURSOR = Error("ERR invalid cursor")
NOT_POSITIVE = Error("ERR value is out of range, must be positive")
NUMKEYS_TOO_SMALL = Error("ERR numkeys should be greater than 0")
NUMKEYS_TOO_BIG = Error("ERR Number of keys can't be greater than number of args")
NEGATIVE_LIMIT = Error("ERR LIMIT can't be negative")


# ---- members -----------------------------------------------------------------------------------

test_sadd_counts_the_members_that_are_new = table(
    ("SADD s a", 1),
    ("SADD s a", 0),
    ("SADD s a b b c", 2),
    ("SMEMBERS s", Set(["a", "b", "c"])),
    ("SADD s", wrong_arity("sadd")),
    ("SET k v", OK),
    ("SADD k a", WRONGTYPE),
)

test_srem_counts_what_it_removed_and_the_last_member_takes_the_key = table(
    ("SREM none a", 0),
    ("SADD s a b c 1", 4),
    ("SREM s none", 0),
    ("SREM s a none a 1", 2),
    ("SMEMBERS s", Set(["b", "c"])),
    ("SREM s b c d", 2),
    ("EXISTS s", 0),
    ("SREM s", wrong_arity("srem")),
    ("SET k v", OK),
    ("SREM k a", WRONGTYPE),
)

test_sismember_smismember_scard_smembers_look = table(
    ("SISMEMBER none a", 0),
    ("SMISMEMBER none a b", [0, 0]),
    ("SCARD none", 0),
    ("SMEMBERS none", Set([])),
    ("SADD s a 1 007", 3),
    ("SISMEMBER s a", 1),
    ("SISMEMBER s 7", 0),
    ("SISMEMBER s 007", 1),
    ("SMISMEMBER s 1 none a a", [1, 0, 1, 1]),
    ("SCARD s", 3),
    ("SADD i 1 -1 300", 3),
    ("SISMEMBER i 1", 1),
    ("SISMEMBER i 01", 0),
    ("SISMEMBER i a", 0),
    ("SMISMEMBER i -1 2 300", [1, 0, 1]),
    ("SMEMBERS i", Set(["-1", "1", "300"])),
    ("SISMEMBER s", wrong_arity("sismember")),
    ("SISMEMBER s a b", wrong_arity("sismember")),
    ("SMISMEMBER s", wrong_arity("smismember")),
    ("SCARD", wrong_arity("scard")),
    ("SCARD s s", wrong_arity("scard")),
    ("SMEMBERS", wrong_arity("smembers")),
    ("SMEMBERS s s", wrong_arity("smembers")),
    ("SET k v", OK),
    ("SISMEMBER k a", WRONGTYPE),
    ("SMISMEMBER k a", WRONGTYPE),
    ("SCARD k", WRONGTYPE),
    ("SMEMBERS k", WRONGTYPE),
)

test_a_set_of_integers_is_shown_in_ascending_order = table(
    ("SADD s 5 -70000 300 -1 9223372036854775807", 5),
    ("SMEMBERS s", by_protocol(
        r2=["-70000", "-1", "5", "300", "9223372036854775807"],
        r3=Set(["-70000", "-1", "5", "300", "9223372036854775807"]),
    )),
)  # fmt: skip

test_members_may_be_any_bytes = table(
    (("SADD", "s", b"", b"\x00\xff", b"\r\n", b"x" * 1000), 4),
    (("SISMEMBER", "s", b""), 1),
    (("SISMEMBER", "s", b"\x00\xff"), 1),
    (("SISMEMBER", "s", b"\x00"), 0),
    (("SREM", "s", b"", b"x" * 1000, b"\r\n"), 3),
    ("SMEMBERS s", Set([b"\x00\xff"])),
)

test_smove_takes_a_member_from_one_set_to_another = table(
    ("SADD s a b", 2),
    ("SADD t b c", 2),
    ("SMOVE s t a", 1),
    ("SMEMBERS t", Set(["a", "b", "c"])),
    ("SMOVE s t none", 0),
    ("SMOVE none t a", 0),
    ("SMOVE s s b", 1),
    ("SMOVE s s none", 0),
    ("SMEMBERS s", Set(["b"])),
    ("SMOVE s t b", 1),
    ("EXISTS s", 0),
    ("SCARD t", 3),
    ("SMOVE t new a", 1),
    ("SMEMBERS new", Set(["a"])),
    ("SADD i 1 2", 2),
    ("SMOVE i fresh 1", 1),
    ("OBJECT ENCODING fresh", "intset"),
    ("SMOVE t fresh c", 1),
    ("OBJECT ENCODING fresh", "hashtable"),
    ("SMOVE s t", wrong_arity("smove")),
    ("SMOVE s t a b", wrong_arity("smove")),
    ("SET k v", OK),
    ("SMOVE k t a", WRONGTYPE),
    ("SMOVE t k b", WRONGTYPE),
    ("SMOVE t k none", WRONGTYPE),
    ("SMOVE none k a", 0),
    ("SMEMBERS t", Set(["b"])),
)


# ---- random members ----------------------------------------------------------------------------

test_srandmember_options_and_errors = table(
    ("SRANDMEMBER none", NIL),
    ("SRANDMEMBER none 3", []),
    ("SRANDMEMBER none -3", []),
    ("SADD s a b c", 3),
    ("SRANDMEMBER s", one_of("a", "b", "c")),
    ("SRANDMEMBER s 0", []),
    ("SRANDMEMBER s 1", array_of(1, one_of("a", "b", "c"))),
    ("SRANDMEMBER s 3", unordered("a", "b", "c")),
    ("SRANDMEMBER s 10", unordered("a", "b", "c")),
    ("SRANDMEMBER s -7", array_of(7, one_of("a", "b", "c"))),
    ("SCARD s", 3),
    ("SRANDMEMBER s x", NOT_AN_INTEGER),
    ("SRANDMEMBER s 1 2", SYNTAX_ERROR),
    ("SRANDMEMBER s x 2", SYNTAX_ERROR),
    ("SRANDMEMBER s 9223372036854775808", NOT_AN_INTEGER),
    ("SRANDMEMBER s -9223372036854775808", Error("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807")),
    ("SRANDMEMBER s 9223372036854775807", unordered("a", "b", "c")),
    ("SRANDMEMBER", wrong_arity("srandmember")),
    ("SET k v", OK),
    ("SRANDMEMBER k", WRONGTYPE),
    ("SRANDMEMBER k 1", WRONGTYPE),
    ("SRANDMEMBER k x", NOT_AN_INTEGER),
)

test_spop_options_and_errors = table(
    ("SPOP none", NIL),
    ("SPOP none 3", Set([])),
    ("SPOP none 0", Set([])),
    ("SADD s a b c", 3),
    ("SPOP s 0", Set([])),
    ("SPOP s", one_of("a", "b", "c")),
    ("SPOP s 1", meeting("one member", lambda reply: len(reply) == 1)),
    ("SCARD s", 1),
    ("SPOP s 5", meeting("one member", lambda reply: len(reply) == 1)),
    ("EXISTS s", 0),
    ("SADD one x", 1),
    ("SPOP one", "x"),
    ("EXISTS one", 0),
    ("SADD all 1 2 a", 3),
    ("SPOP all 3", Set(["1", "2", "a"])),
    ("EXISTS all", 0),
    ("SADD s a", 1),
    ("SPOP s -1", NOT_POSITIVE),
    ("SPOP s x", NOT_POSITIVE),
    ("SPOP s 9223372036854775808", NOT_POSITIVE),
    ("SPOP s 1 2", SYNTAX_ERROR),
    ("SPOP", wrong_arity("spop")),
    ("SET k v", OK),
    ("SPOP k", WRONGTYPE),
    ("SPOP k 0", WRONGTYPE),
    ("SPOP k 1", WRONGTYPE),
    ("SPOP k -1", NOT_POSITIVE),
)


def members(kind, size):
    """A set of integers or of words, both encodings of each kind of size."""
    return [(f"{number}" if kind == "int" else f"word{number}").encode() for number in range(size)]


@pytest.mark.parametrize("kind", ["int", "word"])
@pytest.mark.parametrize("size", [30, 1500])
@pytest.mark.parametrize("count", [1, 5, 9, 25, 29, 30, 100, 600, 1499])
def test_srandmember_and_spop_with_a_count_draw_distinct_members(c, kind, size, count):
    everything = set(members(kind, size))
    c("SADD", "s", *everything)
    drawn = c("SRANDMEMBER", "s", count)
    assert len(set(drawn)) == len(drawn) == min(count, size) and set(drawn) <= everything
    repeated = c("SRANDMEMBER", "s", -count)
    assert len(repeated) == count and set(repeated) <= everything
    assert c("SCARD", "s") == size
    popped = c("SPOP", "s", count)
    assert len(set(popped)) == len(popped) == min(count, size)
    assert set(c("SMEMBERS", "s")) == everything - set(popped)
    assert c("EXISTS", "s") == (count < size)


@pytest.mark.parametrize("kind", ["int", "word"])
@pytest.mark.parametrize("size", [10, 600])
@pytest.mark.parametrize("count", [None, 2, 5, -5])
def test_srandmember_draws_every_member_in_time(c, kind, size, count):
    c("SADD", "s", *members(kind, size))
    missing = set(members(kind, size))
    for _ in range(40 * size):
        if not missing:
            break
        reply = c(*(["SRANDMEMBER", "s"] + ([] if count is None else [count])))
        missing -= {reply} if count is None else set(reply)
    assert not missing, f"never drawn: {sorted(missing)[:10]}"


@pytest.mark.parametrize("kind", ["int", "word"])
def test_spop_pops_every_member_once(c, kind):
    everything = set(members(kind, 700))
    c("SADD", "s", *everything)
    popped = [c("SPOP", "s") for _ in range(700)]
    assert set(popped) == everything
    assert c("SPOP", "s") == NIL and c("EXISTS", "s") == 0


def test_what_spop_leaves_of_a_big_set_is_encoded_anew(c):
    c("SADD", "s", *range(600))
    assert c("OBJECT ENCODING s") == b"hashtable"
    c("SPOP s 1")
    assert c("OBJECT ENCODING s") == b"hashtable"
    c("SPOP s 590")  # what remains is much less than what goes, so the remains move to a new set
    assert c("OBJECT ENCODING s") == b"intset"
    assert c("SCARD s") == 9


# ---- several sets ------------------------------------------------------------------------------

THREE_SETS = (
    ("SADD {s}a 1 2 3 4 x", 5),
    ("SADD {s}b 3 4 5 x y", 5),
    ("SADD {s}i 2 3 4 100", 4),
    ("SET {s}k v", OK),
)

test_sinter_keeps_what_all_have = table(
    *THREE_SETS,
    ("SINTER {s}a", Set(["1", "2", "3", "4", "x"])),
    ("SINTER {s}a {s}b", Set(["3", "4", "x"])),
    ("SINTER {s}a {s}b {s}i", Set(["3", "4"])),
    ("SINTER {s}i {s}i", Set(["2", "3", "4", "100"])),
    ("SINTER {s}a {s}none", Set([])),
    ("SINTER {s}none", Set([])),
    ("SINTER {s}none {s}k", WRONGTYPE),
    ("SINTER {s}k", WRONGTYPE),
    ("SINTER {s}a {s}k", WRONGTYPE),
    ("SINTER", wrong_arity("sinter")),
)

test_sunion_keeps_what_any_has = table(
    *THREE_SETS,
    ("SUNION {s}a", Set(["1", "2", "3", "4", "x"])),
    ("SUNION {s}a {s}b {s}none", Set(["1", "2", "3", "4", "5", "x", "y"])),
    ("SUNION {s}i {s}i", Set(["2", "3", "4", "100"])),
    ("SUNION {s}none {s}nil", Set([])),
    ("SUNION {s}a {s}k", WRONGTYPE),
    ("SUNION {s}none {s}k", WRONGTYPE),
    ("SUNION", wrong_arity("sunion")),
)

test_sdiff_keeps_what_only_the_first_has = table(
    *THREE_SETS,
    ("SDIFF {s}a", Set(["1", "2", "3", "4", "x"])),
    ("SDIFF {s}a {s}b", Set(["1", "2"])),
    ("SDIFF {s}a {s}b {s}i", Set(["1"])),
    ("SDIFF {s}b {s}a {s}none", Set(["5", "y"])),
    ("SDIFF {s}a {s}a", Set([])),
    ("SDIFF {s}none {s}a", Set([])),
    ("SDIFF {s}a {s}none {s}nil", Set(["1", "2", "3", "4", "x"])),
    ("SDIFF {s}none {s}k", WRONGTYPE),
    ("SDIFF {s}a {s}k", WRONGTYPE),
    ("SDIFF", wrong_arity("sdiff")),
)

test_sintercard_counts_up_to_its_limit = table(
    *THREE_SETS,
    ("SINTERCARD 1 {s}a", 5),
    ("SINTERCARD 2 {s}a {s}b", 3),
    ("SINTERCARD 3 {s}a {s}b {s}i", 2),
    ("SINTERCARD 2 {s}a {s}b LIMIT 2", 2),
    ("SINTERCARD 2 {s}a {s}b limit 0", 3),
    ("SINTERCARD 2 {s}a {s}b LIMIT 10", 3),
    ("SINTERCARD 1 {s}a LIMIT 1 LIMIT 2", 2),
    ("SINTERCARD 1 {s}a LIMIT 1 LIMIT 0", 5),
    ("SINTERCARD 2 {s}a {s}none", 0),
    ("SINTERCARD 1 {s}none", 0),
    ("SINTERCARD 0 {s}a", NUMKEYS_TOO_SMALL),
    ("SINTERCARD -1 {s}a", NUMKEYS_TOO_SMALL),
    ("SINTERCARD x {s}a", NUMKEYS_TOO_SMALL),
    ("SINTERCARD 2 {s}a", NUMKEYS_TOO_BIG),
    ("SINTERCARD 4 {s}a {s}b LIMIT", NUMKEYS_TOO_BIG),
    ("SINTERCARD 1 {s}a {s}b", SYNTAX_ERROR),
    ("SINTERCARD 1 {s}a LIMIT", SYNTAX_ERROR),
    ("SINTERCARD 1 {s}a FOO 1", SYNTAX_ERROR),
    ("SINTERCARD 1 {s}a LIMIT -1", NEGATIVE_LIMIT),
    ("SINTERCARD 1 {s}a LIMIT x", NEGATIVE_LIMIT),
    ("SINTERCARD 1 {s}k", WRONGTYPE),
    ("SINTERCARD 2 {s}none {s}k", WRONGTYPE),
    ("SINTERCARD 1 {s}k LIMIT x", NEGATIVE_LIMIT),
    ("SINTERCARD", wrong_arity("sintercard")),
    ("SINTERCARD 1", wrong_arity("sintercard")),
)

test_the_store_forms_answer_the_size_and_replace_the_destination = table(
    *THREE_SETS,
    ("SINTERSTORE {s}d {s}a {s}b", 3),
    ("SMEMBERS {s}d", Set(["3", "4", "x"])),
    ("SUNIONSTORE {s}d {s}a {s}b", 7),
    ("SMEMBERS {s}d", Set(["1", "2", "3", "4", "5", "x", "y"])),
    ("SDIFFSTORE {s}d {s}a {s}b", 2),
    ("SMEMBERS {s}d", Set(["1", "2"])),
    ("OBJECT ENCODING {s}d", "intset"),
    ("SUNIONSTORE {s}d {s}d {s}i", 5),
    ("SMEMBERS {s}d", Set(["1", "2", "3", "4", "100"])),
    ("EXPIRE {s}d 100", 1),
    ("SDIFFSTORE {s}d {s}d {s}a", 1),
    ("TTL {s}d", -1),
    ("SINTERSTORE {s}k {s}a {s}i", 3),
    ("TYPE {s}k", Simple("set")),
)

test_an_empty_result_deletes_the_destination = table(
    *THREE_SETS,
    ("SADD {s}d z", 1),
    ("SINTERSTORE {s}d {s}a {s}none", 0),
    ("EXISTS {s}d", 0),
    ("SADD {s}d z", 1),
    ("SUNIONSTORE {s}d {s}none {s}nil", 0),
    ("EXISTS {s}d", 0),
    ("SDIFFSTORE {s}k {s}a {s}a", 0),
    ("EXISTS {s}k", 0),
    ("SINTERSTORE {s}d {s}none", 0),
    ("SDIFFSTORE {s}d {s}none {s}a", 0),
    ("EXISTS {s}d", 0),
)

test_the_store_forms_leave_the_destination_alone_on_an_error = table(
    *THREE_SETS,
    ("SADD {s}d z", 1),
    ("SINTERSTORE {s}d {s}a {s}k", WRONGTYPE),
    ("SUNIONSTORE {s}d {s}a {s}k", WRONGTYPE),
    ("SDIFFSTORE {s}d {s}a {s}k", WRONGTYPE),
    ("SINTERSTORE {s}d {s}none {s}k", WRONGTYPE),
    ("SMEMBERS {s}d", Set(["z"])),
    ("SINTERSTORE {s}d", wrong_arity("sinterstore")),
    ("SUNIONSTORE {s}d", wrong_arity("sunionstore")),
    ("SDIFFSTORE {s}d", wrong_arity("sdiffstore")),
)

test_sets_anywhere_take_part_in_algebra = table(
    ("SADD one 1 2 3", 3),
    ("SADD two 2 3 4", 3),
    ("SADD three 3 4 a", 3),
    ("SINTER one two three", Set(["3"])),
    ("SUNION one two three", Set(["1", "2", "3", "4", "a"])),
    ("SDIFF one three", Set(["1", "2"])),
    ("SINTERCARD 2 one two", 2),
    ("SUNIONSTORE four one three", 5),
    ("SINTERSTORE five one two", 2),
    ("SDIFFSTORE six one five", 1),
    ("SMEMBERS six", Set(["1"])),
    ("SMOVE one three 1", 1),
    ("SMEMBERS three", Set(["1", "3", "4", "a"])),
)


def test_algebra_agrees_with_that_of_mathematics(c):
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(40):
        models = []
        c("FLUSHALL")
        for number in range(rng.randrange(1, 5)):
            # Integers or words, few or beyond the intset, now and then nothing.
            kind, limit = rng.choice(["%d", "w%d"]), rng.choice([0, 5, 50, 700])
            model = {(kind % rng.randrange(2 * limit)).encode() for _ in range(limit)}
            if kind == "%d" and rng.random() < 0.3:
                model |= {b"w1", b"w2"}
            models.append(model)
            if model:
                c("SADD", f"{{s}}{number}", *model)
        keys = [f"{{s}}{number}" for number in range(len(models))]
        inter, union = set.intersection(*models), set.union(*models)
        diff = models[0].difference(*models[1:])
        for name, expected in (("SINTER", inter), ("SUNION", union), ("SDIFF", diff)):
            reply = c(name, *keys)
            assert set(reply) == expected and len(reply) == len(expected), name
            assert c(name + "STORE", "{s}d", *keys) == len(expected), name
            assert set(c("SMEMBERS {s}d")) == expected, name
        limit = rng.randrange(10)
        counted = c("SINTERCARD", len(keys), *keys, "LIMIT", limit)
        assert counted == (min(len(inter), limit) if limit else len(inter))


# ---- iteration ---------------------------------------------------------------------------------

test_sscan_options_and_errors = table(
    ("SSCAN none 0", ["0", []]),
    ("SSCAN none 0 FOO", ["0", []]),
    ("SADD i 1 2 22", 3),
    ("SSCAN i 0", ["0", ["1", "2", "22"]]),
    ("SSCAN i 0 COUNT 1", ["0", ["1", "2", "22"]]),
    ("SSCAN i 0 MATCH 2*", ["0", ["2", "22"]]),
    ("SADD s a b bb", 3),
    ("SSCAN s 0", ["0", unordered("a", "b", "bb")]),
    ("SSCAN s 0 MATCH b*", ["0", unordered("b", "bb")]),
    ("SSCAN s 0 match b? count 100", ["0", ["bb"]]),
    ("SSCAN s 0 MATCH x", ["0", []]),
    ("SSCAN i -1", ["0", ["1", "2", "22"]]),
    ("SSCAN s x", INVALID_CURSOR),
    ("SSCAN s 1x", INVALID_CURSOR),
    ("SSCAN s 18446744073709551616", INVALID_CURSOR),
    ("SSCAN s 0 COUNT 0", SYNTAX_ERROR),
    ("SSCAN s 0 COUNT x", NOT_AN_INTEGER),
    ("SSCAN s 0 COUNT", SYNTAX_ERROR),
    ("SSCAN s 0 FOO", SYNTAX_ERROR),
    ("SSCAN s 0 TYPE set", SYNTAX_ERROR),
    ("SSCAN s", wrong_arity("sscan")),
    ("SET k v", OK),
    ("SSCAN k 0", WRONGTYPE),
    ("SSCAN k x", INVALID_CURSOR),
)


def test_sscan_of_a_big_set_takes_steps_and_returns_every_member(c):
    everything = set(members("word", 5000))
    c("SADD", "s", *everything)
    items, steps = scan_all(c, "SSCAN", "s", "COUNT", 100)
    assert set(items) == everything
    assert 10 < steps < 100
    items, _ = scan_all(c, "SSCAN", "s", "MATCH", "word1?", "COUNT", 1000)
    assert set(items) == {b"word1%d" % number for number in range(10)}


def test_sscan_returns_what_stays_while_the_set_grows_and_shrinks(c):
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    stay = {f"stay{number}".encode() for number in range(1000)}
    c("SADD", "s", *stay)
    c("SADD", "s", *[f"go{number}" for number in range(3000)])
    seen, cursor = set(), b"0"
    while True:
        cursor, part = c("SSCAN", "s", cursor, "COUNT", 20)
        seen.update(part)
        if cursor == b"0":
            break
        c("SREM", "s", *[f"go{rng.randrange(6000)}" for _ in range(40)])
        c("SADD", "s", *[f"go{rng.randrange(6000)}" for _ in range(20)])
    assert stay <= seen


# ---- encodings ---------------------------------------------------------------------------------

test_a_member_that_is_no_integer_makes_a_hashtable_for_good = table(
    ("SADD s 1 -5 9223372036854775807 -9223372036854775808", 4),
    ("OBJECT ENCODING s", "intset"),
    ("SADD s 9223372036854775808", 1),
    ("OBJECT ENCODING s", "hashtable"),
    ("SREM s 9223372036854775808", 1),
    ("OBJECT ENCODING s", "hashtable"),
    ("SMEMBERS s", Set(["1", "-5", "9223372036854775807", "-9223372036854775808"])),
    ("SADD t a", 1),
    ("OBJECT ENCODING t", "hashtable"),
    ("SADD u 1 01", 2),
    ("OBJECT ENCODING u", "hashtable"),
    ("SADD v 1 +1 -0", 3),
    ("OBJECT ENCODING v", "hashtable"),
)


def test_the_513th_integer_makes_a_hashtable(c):
    assert c("SADD", "s", *range(512)) == 512
    assert c("OBJECT ENCODING s") == b"intset"
    assert c("SADD s 5") == 0
    assert c("OBJECT ENCODING s") == b"intset"
    assert c("SADD s 512") == 1
    assert c("OBJECT ENCODING s") == b"hashtable"
    assert set(c("SMEMBERS s")) == set(members("int", 513))


def test_the_limit_of_intsets_is_configurable(server, c):
    with server.config(set_max_intset_entries=2):
        check(
            c,
            ("SADD s 1 2", 2),
            ("OBJECT ENCODING s", "intset"),
            ("SADD s 3", 1),
            ("OBJECT ENCODING s", "hashtable"),
            ("SADD {x}a 1 2", 2),
            ("SADD {x}b 3", 1),
            ("SUNIONSTORE {x}d {x}a {x}b", 3),
            ("OBJECT ENCODING {x}d", "hashtable"),
        )


@pytest.mark.parametrize("kind", ["int", "wide", "word"])
def test_a_set_is_a_set_whatever_its_encoding(c, kind):
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    draw = {
        "int": lambda: str(rng.randrange(-40, 40)),
        "wide": lambda: str(rng.choice([rng.randrange(50), rng.randrange(-(2**20), 2**20), rng.randrange(-(2**63), 2**63)])),
        "word": lambda: rng.choice([str(rng.randrange(50)), "w" * rng.randrange(40)]),
    }[kind]
    model = set()
    for _ in range(1500):
        member = draw().encode()
        action = rng.randrange(4)
        if action <= 1:
            assert c("SADD", "s", member) == (member not in model)
            model.add(member)
        elif action == 2:
            assert c("SREM", "s", member) == (member in model)
            model.discard(member)
        else:
            assert c("SISMEMBER", "s", member) == (member in model)
        assert c("SCARD", "s") == len(model)
    assert set(c("SMEMBERS", "s")) == model


def test_writes_of_sets_are_announced(server, c, connect):
    with server.config(notify_keyspace_events="KEA"):
        listener = connect()
        listener("PSUBSCRIBE", "__keyevent@0__:*")
        c.pipeline(
            "SADD {s}a 1 2 3 4", "SADD {s}a 1", "SREM {s}a 9", "SREM {s}a 1", "SMOVE {s}a {s}b 2", "SMOVE {s}a {s}b 9",
            "SPOP {s}b", "SPOP {s}a 1", "SPOP {s}a 9", "SADD {s}a 1", "SREM {s}a 1", "SADD {s}a 1",
            "SUNIONSTORE {s}d {s}a", "SINTERSTORE {s}d {s}a", "SDIFFSTORE {s}d {s}a", "SDIFFSTORE {s}d {s}d {s}a", "SDIFFSTORE {s}d {s}d {s}a",
            "SINTERSTORE {s}a {s}none", "SINTERSTORE {s}a {s}none",
        )  # fmt: skip
        events = [
            ("sadd", "a"), ("srem", "a"), ("srem", "a"), ("sadd", "b"), ("spop", "b"), ("del", "b"),
            ("spop", "a"), ("spop", "a"), ("del", "a"), ("sadd", "a"), ("srem", "a"), ("del", "a"), ("sadd", "a"),
            ("sunionstore", "d"), ("sinterstore", "d"), ("sdiffstore", "d"), ("del", "d"), ("del", "a"),
        ]  # fmt: skip
        for event, key in events:
            channel, told = listener.read()[2:]
            assert (channel.decode(), told.decode()) == (f"__keyevent@0__:{event}", f"{{s}}{key}")


test_a_write_that_changes_nothing_leaves_a_watched_set_alone = table(
    ("SADD s a", 1),
    ("WATCH s", OK),
    ("SADD s a", 0),
    ("SREM s none", 0),
    ("SMOVE s other none", 0),
    ("SMOVE s s a", 1),
    ("SPOP s 0", Set([])),
    ("MULTI", OK),
    ("PING", Simple("QUEUED")),
    ("EXEC", [Simple("PONG")]),
    ("WATCH s", OK),
    ("SADD s b", 1),
    ("MULTI", OK),
    ("PING", Simple("QUEUED")),
    ("EXEC", NIL_ARRAY),
)
