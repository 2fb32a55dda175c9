"""The list commands that do not wait: pushing, popping, reading, changing, moving."""

import random

import pytest

from harness import *
from harness import NIL_ARRAY, OK

INDEX_OUT_OF_RANGE = Error("ERR index out of range")
NO_SUCH_KEY = Error("ERR no such key")
MUST_BE_POSITIVE = Error("ERR value is out of range, must be positive")
LONG_MAX, LONG_MIN = 2**63 - 1, -(2**63)


# ---- pushing ---------------------------------------------------------------------------------

test_push_adds_the_elements_one_by_one_and_counts = table(
    ("RPUSH l a b c", 3),
    ("LPUSH l x y", 5),
    ("LRANGE l 0 -1", ["y", "x", "a", "b", "c"]),
    ("TYPE l", Simple("list")),
    ("OBJECT ENCODING l", "quicklist"),
    ("LPUSH l", wrong_arity("lpush")),
    ("RPUSH l", wrong_arity("rpush")),
    ("SET s v", OK),
    ("LPUSH s a", WRONGTYPE),
    ("RPUSH s a", WRONGTYPE),
)

test_pushx_adds_only_to_a_list_that_is_there = table(
    ("LPUSHX l a", 0),
    ("RPUSHX l a", 0),
    ("EXISTS l", 0),
    ("RPUSH l m", 1),
    ("LPUSHX l b a", 3),
    ("RPUSHX l y z", 5),
    ("LRANGE l 0 -1", ["a", "b", "m", "y", "z"]),
    ("LPUSHX l", wrong_arity("lpushx")),
    ("RPUSHX l", wrong_arity("rpushx")),
    ("SET s v", OK),
    ("LPUSHX s a", WRONGTYPE),
    ("RPUSHX s a", WRONGTYPE),
)

test_elements_are_any_bytes_and_come_back_unchanged = table(
    (("RPUSH", "l", b"", b"\x00\xff\r\n", "0", "-1", "007", "-0", "+1", " 1", "9223372036854775807"), 9),
    (("RPUSH", "l", "-9223372036854775808", "9223372036854775808", b"b" * 70, b"c" * 5000), 13),
    (
        "LRANGE l 0 -1",
        [b"", b"\x00\xff\r\n", "0", "-1", "007", "-0", "+1", " 1", "9223372036854775807"]
        + ["-9223372036854775808", "9223372036854775808", b"b" * 70, b"c" * 5000],
    ),
    (("LPOS", "l", b""), 0),
    ("LPOS l 0", 2),
    ("LPOS l 007", 4),
    ("LPOS l -9223372036854775808", 9),
    (("LPOS", "l", b"c" * 5000), 12),
)


# ---- popping ---------------------------------------------------------------------------------

test_pop_takes_one_element_and_the_last_one_takes_the_key = table(
    ("RPUSH l a 2 c", 3),
    ("LPOP l", "a"),
    ("RPOP l", "c"),
    ("LPOP l", "2"),
    ("EXISTS l", 0),
    ("LPOP l", NIL),
    ("RPOP l", NIL),
    ("LPOP", wrong_arity("lpop")),
    ("RPOP", wrong_arity("rpop")),
    ("LPOP l 1 2", wrong_arity("lpop")),
    ("RPOP l 1 2", wrong_arity("rpop")),
    ("SET s v", OK),
    ("LPOP s", WRONGTYPE),
    ("RPOP s", WRONGTYPE),
)

test_pop_with_a_count_takes_that_many_in_the_order_of_popping = table(
    ("RPUSH l a b c d e f", 6),
    ("LPOP l 2", ["a", "b"]),
    ("RPOP l 3", ["f", "e", "d"]),
    ("LPOP l 0", []),
    ("RPOP l 0", []),
    ("LPOP l 10", ["c"]),
    ("EXISTS l", 0),
    ("RPUSH l a b", 2),
    (f"RPOP l {LONG_MAX}", ["b", "a"]),
    ("LPOP l 1", NIL_ARRAY),
    ("RPOP l 0", NIL_ARRAY),
    ("LPOP l -1", MUST_BE_POSITIVE),
    ("LPOP l x", MUST_BE_POSITIVE),
    ("RPOP l 1.5", MUST_BE_POSITIVE),
    (f"RPOP l {LONG_MAX + 1}", MUST_BE_POSITIVE),
    ("SET s v", OK),
    ("LPOP s 1", WRONGTYPE),
    ("LPOP s 0", WRONGTYPE),
    ("LPOP s -1", MUST_BE_POSITIVE),
)


# ---- reading ---------------------------------------------------------------------------------

test_llen_counts = table(
    ("LLEN l", 0),
    ("RPUSH l a b c", 3),
    ("LLEN l", 3),
    ("LLEN", wrong_arity("llen")),
    ("LLEN l l", wrong_arity("llen")),
    ("SET s v", OK),
    ("LLEN s", WRONGTYPE),
)

test_lindex_counts_from_either_end = table(
    ("LINDEX l 0", NIL),
    ("LINDEX l nonsense", NIL),  # the key is looked up first
    ("RPUSH l a 1 c", 3),
    ("LINDEX l 0", "a"),
    ("LINDEX l 1", "1"),
    ("LINDEX l 2", "c"),
    ("LINDEX l 3", NIL),
    ("LINDEX l -1", "c"),
    ("LINDEX l -3", "a"),
    ("LINDEX l -4", NIL),
    (f"LINDEX l {LONG_MAX}", NIL),
    (f"LINDEX l {LONG_MIN}", NIL),
    ("LINDEX l x", NOT_AN_INTEGER),
    (f"LINDEX l {LONG_MAX + 1}", NOT_AN_INTEGER),
    ("LINDEX l", wrong_arity("lindex")),
    ("SET s v", OK),
    ("LINDEX s 0", WRONGTYPE),
    ("LINDEX s x", WRONGTYPE),
)

test_lrange_clips_its_bounds = table(
    ("LRANGE l 0 -1", []),
    ("RPUSH l a b c d e", 5),
    ("LRANGE l 0 -1", ["a", "b", "c", "d", "e"]),
    ("LRANGE l 1 3", ["b", "c", "d"]),
    ("LRANGE l -3 -2", ["c", "d"]),
    ("LRANGE l -100 1", ["a", "b"]),
    ("LRANGE l 3 100", ["d", "e"]),
    ("LRANGE l 2 2", ["c"]),
    ("LRANGE l 3 2", []),
    ("LRANGE l 5 6", []),
    ("LRANGE l 0 -6", []),
    ("LRANGE l -1 -2", []),
    (f"LRANGE l {LONG_MIN} {LONG_MAX}", ["a", "b", "c", "d", "e"]),
    ("LRANGE l x 1", NOT_AN_INTEGER),
    ("LRANGE l 0 x", NOT_AN_INTEGER),
    ("LRANGE nothing 0 x", NOT_AN_INTEGER),
    ("LRANGE l 0", wrong_arity("lrange")),
    ("SET s v", OK),
    ("LRANGE s 0 -1", WRONGTYPE),
    ("LRANGE s x -1", NOT_AN_INTEGER),
)

RANK_ZERO = Error(
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... "
    "or use negative to start from the end of the list"
)

test_lpos_finds_the_first_match = table(
    ("LPOS l a", NIL),
    ("RPUSH l a b c 1 2 3 c c", 8),
    ("LPOS l a", 0),
    ("LPOS l c", 2),
    ("LPOS l 3", 5),
    ("LPOS l nothing", NIL),
    ("LPOS l", wrong_arity("lpos")),
    ("SET s v", OK),
    ("LPOS s v", WRONGTYPE),
)

test_lpos_rank_says_which_match_and_from_which_end = table(
    ("RPUSH l a b c 1 2 3 c c", 8),
    ("LPOS l c RANK 1", 2),
    ("LPOS l c RANK 2", 6),
    ("LPOS l c rank 3", 7),
    ("LPOS l c RANK 4", NIL),
    ("LPOS l c RANK -1", 7),
    ("LPOS l c RANK -3", 2),
    ("LPOS l c RANK -4", NIL),
    (f"LPOS l c RANK {LONG_MAX}", NIL),
    (f"LPOS l c RANK {LONG_MIN + 1}", NIL),
    ("LPOS l c RANK 0", RANK_ZERO),
    (f"LPOS l c RANK {LONG_MIN}", 7),  # it has no positive counterpart: the last match, as for -1
    ("LPOS l c RANK x", NOT_AN_INTEGER),
    ("LPOS l c RANK", SYNTAX_ERROR),
)

test_lpos_count_answers_an_array = table(
    ("LPOS l c COUNT 0", []),
    ("RPUSH l a b c 1 2 3 c c", 8),
    ("LPOS l c COUNT 0", [2, 6, 7]),
    ("LPOS l c COUNT 1", [2]),
    ("LPOS l c count 2", [2, 6]),
    ("LPOS l c COUNT 100", [2, 6, 7]),
    ("LPOS l c COUNT 2 RANK 2", [6, 7]),
    ("LPOS l c COUNT 2 RANK -1", [7, 6]),
    ("LPOS l c COUNT 0 RANK -2", [6, 2]),
    ("LPOS l nothing COUNT 0", []),
    ("LPOS l c COUNT -1", Error("ERR COUNT can't be negative")),
    ("LPOS l c COUNT x", Error("ERR COUNT can't be negative")),
    ("LPOS l c COUNT", SYNTAX_ERROR),
)

test_lpos_maxlen_bounds_the_comparisons = table(
    ("RPUSH l a b c 1 2 3 c c", 8),
    ("LPOS l c MAXLEN 2", NIL),
    ("LPOS l c MAXLEN 3", 2),
    ("LPOS l c MAXLEN 0", 2),
    ("LPOS l c COUNT 0 MAXLEN 7", [2, 6]),
    ("LPOS l c COUNT 0 MAXLEN 2 RANK -1", [7, 6]),
    ("LPOS l a COUNT 0 MAXLEN 7 RANK -1", []),
    ("LPOS l c MAXLEN -1", Error("ERR MAXLEN can't be negative")),
    ("LPOS l c MAXLEN x", Error("ERR MAXLEN can't be negative")),
    ("LPOS l c MAXLEN", SYNTAX_ERROR),
    ("LPOS l c NONSENSE 1", SYNTAX_ERROR),
    # Options are read from left to right, and the last of a kind holds.
    ("LPOS l c RANK 0 NONSENSE", RANK_ZERO),
    ("LPOS l c COUNT 1 RANK 3 COUNT 0 RANK 1", [2, 6, 7]),
    ("LPOS nothing c RANK 0", RANK_ZERO),
    ("SET s v", OK),
    ("LPOS s v RANK 0", RANK_ZERO),
    ("LPOS s v COUNT 1", WRONGTYPE),
)


# ---- changing --------------------------------------------------------------------------------

test_lset_replaces_one_element = table(
    ("LSET l 0 x", NO_SUCH_KEY),
    ("RPUSH l a b c", 3),
    ("LSET l 0 1", OK),
    ("LSET l -1 longer-than-before", OK),
    ("LSET l -2 2", OK),
    ("LRANGE l 0 -1", ["1", "2", "longer-than-before"]),
    ("LSET l 3 x", INDEX_OUT_OF_RANGE),
    ("LSET l -4 x", INDEX_OUT_OF_RANGE),
    ("LSET l x x", NOT_AN_INTEGER),
    ("LSET nothing x x", NO_SUCH_KEY),
    ("LSET l 0", wrong_arity("lset")),
    ("SET s v", OK),
    ("LSET s x x", WRONGTYPE),
)

test_linsert_adds_beside_the_first_pivot = table(
    ("LINSERT l BEFORE a x", 0),
    ("EXISTS l", 0),
    ("RPUSH l a b 1 b", 4),
    ("LINSERT l BEFORE a first", 5),
    ("LINSERT l after b second", 6),
    ("LINSERT l Before 1 0", 7),
    ("LINSERT l AFTER nothing x", -1),
    ("LRANGE l 0 -1", ["first", "a", "b", "second", "0", "1", "b"]),
    ("LINSERT l AFTER 1 2", 8),
    ("LINDEX l -2", "2"),
    ("LINSERT l beside a x", SYNTAX_ERROR),
    ("LINSERT nothing beside a x", SYNTAX_ERROR),
    ("LINSERT l BEFORE a", wrong_arity("linsert")),
    ("LINSERT l BEFORE a x y", wrong_arity("linsert")),
    ("SET s v", OK),
    ("LINSERT s BEFORE a x", WRONGTYPE),
    ("LINSERT s beside a x", SYNTAX_ERROR),
)

test_lrem_removes_from_either_end_or_all = table(
    ("LREM l 0 a", 0),
    ("RPUSH l a b a 1 a b a", 7),
    ("LREM l 1 a", 1),
    ("LRANGE l 0 -1", ["b", "a", "1", "a", "b", "a"]),
    ("LREM l -2 a", 2),
    ("LRANGE l 0 -1", ["b", "a", "1", "b"]),
    ("LREM l 0 b", 2),
    ("LREM l 0 nothing", 0),
    ("LREM l 5 1", 1),
    (f"LREM l {LONG_MIN + 1} a", 1),
    ("EXISTS l", 0),
    ("LREM l x a", NOT_AN_INTEGER),
    ("RPUSH l a b a", 3),
    (f"LREM l {LONG_MIN} a", 2),
    ("LREM l 0", wrong_arity("lrem")),
    ("SET s v", OK),
    ("LREM s 0 v", WRONGTYPE),
    ("LREM s x v", NOT_AN_INTEGER),
)

test_ltrim_keeps_a_range = table(
    ("LTRIM l 0 -1", OK),
    ("EXISTS l", 0),
    ("RPUSH l a b c d e f g", 7),
    ("LTRIM l 1 -1", OK),
    ("LRANGE l 0 -1", ["b", "c", "d", "e", "f", "g"]),
    ("LTRIM l -5 -2", OK),
    ("LRANGE l 0 -1", ["c", "d", "e", "f"]),
    ("LTRIM l -100 2", OK),
    ("LRANGE l 0 -1", ["c", "d", "e"]),
    ("LTRIM l 0 100", OK),
    ("LTRIM l 1 1", OK),
    ("LRANGE l 0 -1", ["d"]),
    ("LTRIM l 1 0", OK),
    ("EXISTS l", 0),
    ("RPUSH l a b", 2),
    ("LTRIM l 2 5", OK),
    ("EXISTS l", 0),
    ("LTRIM l x 1", NOT_AN_INTEGER),
    ("LTRIM l 0 x", NOT_AN_INTEGER),
    ("LTRIM l 0", wrong_arity("ltrim")),
    ("SET s v", OK),
    ("LTRIM s 0 1", WRONGTYPE),
    ("LTRIM s x 1", NOT_AN_INTEGER),
)


# ---- moving ----------------------------------------------------------------------------------

test_rpoplpush_moves_tail_to_head = table(
    ("RPOPLPUSH a b", NIL),
    ("RPUSH a 1 2 3", 3),
    ("RPOPLPUSH a b", "3"),
    ("RPOPLPUSH a b", "2"),
    ("LRANGE b 0 -1", ["2", "3"]),
    ("RPOPLPUSH a b", "1"),
    ("EXISTS a", 0),
    ("RPOPLPUSH b b", "3"),
    ("LRANGE b 0 -1", ["3", "1", "2"]),
    ("RPUSH a only", 1),
    ("RPOPLPUSH a a", "only"),
    ("LRANGE a 0 -1", ["only"]),
    ("RPOPLPUSH a", wrong_arity("rpoplpush")),
    ("SET s v", OK),
    ("RPOPLPUSH s a", WRONGTYPE),
    ("RPOPLPUSH a s", WRONGTYPE),
    ("RPOPLPUSH nothing s", NIL),
    ("LRANGE a 0 -1", ["only"]),
)

test_lmove_moves_between_any_ends = table(
    ("LMOVE a b LEFT LEFT", NIL),
    ("RPUSH a 1 2 3 4 5", 5),
    ("LMOVE a b LEFT RIGHT", "1"),
    ("LMOVE a b right right", "5"),
    ("LMOVE a b LEFT LEFT", "2"),
    ("LMOVE a b RIGHT LEFT", "4"),
    ("LRANGE a 0 -1", ["3"]),
    ("LRANGE b 0 -1", ["4", "2", "1", "5"]),
    ("LMOVE a b LEFT RIGHT", "3"),
    ("EXISTS a", 0),
    ("LMOVE b b LEFT RIGHT", "4"),
    ("LMOVE b b LEFT LEFT", "2"),
    ("LRANGE b 0 -1", ["2", "1", "5", "3", "4"]),
    ("LMOVE b a UP LEFT", SYNTAX_ERROR),
    ("LMOVE b a LEFT DOWN", SYNTAX_ERROR),
    ("LMOVE b a LEFT", wrong_arity("lmove")),
    ("SET s v", OK),
    ("LMOVE s a LEFT LEFT", WRONGTYPE),
    ("LMOVE b s LEFT LEFT", WRONGTYPE),
    ("LMOVE s s UP LEFT", SYNTAX_ERROR),
    ("LLEN b", 5),
)

NUMKEYS = Error("ERR numkeys should be greater than 0")
COUNT = Error("ERR count should be greater than 0")

test_lmpop_pops_from_the_first_list_that_has_something = table(
    ("LMPOP 1 a LEFT", NIL_ARRAY),
    ("LMPOP 2 a b RIGHT COUNT 10", NIL_ARRAY),
    ("RPUSH b 1 2 3 4", 4),
    ("LMPOP 2 a b LEFT", ["b", ["1"]]),
    ("LMPOP 2 a b RIGHT COUNT 2", ["b", ["4", "3"]]),
    ("RPUSH a x", 1),
    ("LMPOP 2 a b left count 10", ["a", ["x"]]),
    ("LMPOP 2 a b LEFT COUNT 10", ["b", ["2"]]),
    ("EXISTS a b", 0),
    ("SET s v", OK),
    ("RPUSH b 1", 1),
    ("LMPOP 2 b s LEFT", ["b", ["1"]]),
    ("LMPOP 2 b s LEFT", WRONGTYPE),
    ("LMPOP 1 a", wrong_arity("lmpop")),
    ("LMPOP 0 a LEFT", NUMKEYS),
    ("LMPOP -1 a LEFT", NUMKEYS),
    ("LMPOP x a LEFT", NUMKEYS),
    ("LMPOP 2 a LEFT", SYNTAX_ERROR),
    (f"LMPOP {LONG_MAX} a LEFT", SYNTAX_ERROR),
    ("LMPOP 1 a UP", SYNTAX_ERROR),
    ("LMPOP 1 a LEFT COUNT 0", COUNT),
    ("LMPOP 1 a LEFT COUNT -1", COUNT),
    ("LMPOP 1 a LEFT COUNT x", COUNT),
    ("LMPOP 1 a LEFT COUNT", SYNTAX_ERROR),
    ("LMPOP 1 a LEFT COUNT 1 COUNT 1", SYNTAX_ERROR),
    ("LMPOP 1 a LEFT NONSENSE", SYNTAX_ERROR),
    ("LMPOP 1 s LEFT COUNT 0", COUNT),
)


# ---- across nodes ----------------------------------------------------------------------------

BIG = b"b" * 10_000

test_elements_larger_than_a_node_live_among_small_ones = table(
    (("RPUSH", "l", "a", BIG, "c", BIG, "e"), 5),
    (("LSET", "l", 0, BIG), OK),
    (("LINSERT", "l", "BEFORE", "c", BIG), 6),
    (("LPOS", "l", BIG, "COUNT", 0), [0, 1, 2, 4]),
    ("LINDEX l 3", "c"),
    (("LREM", "l", -1, BIG), 1),
    ("LSET l 0 small", OK),
    ("LRANGE l 0 -1", ["small", BIG, BIG, "c", "e"]),
    ("RPOP l 2", ["e", "c"]),
    ("LPOP l", "small"),
)


def slice_of(model, start, stop):
    """What LRANGE start stop means, on a Python list."""
    size = len(model)
    start, stop = (max(start + size, 0) if start < 0 else start), (stop + size if stop < 0 else stop)
    return model[start : stop + 1] if stop >= 0 else []


def removed(model, count, value):
    """The model after LREM count value."""
    places = [i for i, each in enumerate(model) if each == value]
    chosen = places if count == 0 else places[:count] if count > 0 else places[count:]
    return [each for i, each in enumerate(model) if i not in chosen], len(chosen)


def random_step(rng, model):
    """A random command, its expected reply, and the model after it."""
    value = rng.choice([str(rng.randrange(5)).encode(), b"x" * rng.choice([3, 70, 900]), b"y" * 9000])
    size = len(model)
    at = rng.randint(-size - 2, size + 2)
    match rng.choice(["lpush", "rpush", "rpush", "lpop", "rpop", "lset", "linsert", "lrem", "ltrim", "lmove"]):
        case "lpush":
            return ("LPUSH", "l", value), size + 1, [value, *model]
        case "rpush":
            return ("RPUSH", "l", value, value), size + 2, [*model, value, value]
        case "lpop":
            return ("LPOP", "l", 2), model[:2] if model else NIL_ARRAY, model[2:]
        case "rpop":
            return ("RPOP", "l"), model[-1] if model else NIL, model[:-1]
        case "lset" if model:
            if not -size <= at < size:
                return ("LSET", "l", at, value), INDEX_OUT_OF_RANGE, model
            return ("LSET", "l", at, value), OK, [*model[: at % size], value, *model[at % size + 1 :]]
        case "linsert" if value in model:
            place = model.index(value)
            return ("LINSERT", "l", "AFTER", value, "new"), size + 1, [*model[: place + 1], b"new", *model[place + 1 :]]
        case "lrem":
            count = rng.randint(-2, 2) or 1
            after, number = removed(model, count, value)
            return ("LREM", "l", count, value), number, after
        case "ltrim" if rng.random() < 0.1:
            return ("LTRIM", "l", 1, -2), OK, slice_of(model, 1, -2)
        case "lmove" if model:
            return ("LMOVE", "l", "l", "LEFT", "RIGHT"), model[0], [*model[1:], model[0]]
        case _:
            return ("LLEN", "l"), size, model


@pytest.mark.parametrize("node_size", [-2, -1, 3, 1])
def test_a_list_reads_like_a_plain_one_after_random_changes(server, c, node_size):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    model = []
    with server.config(list_max_listpack_size=node_size):
        for _ in range(400):
            command, expected, model = random_step(rng, model)
            start, stop = rng.randint(-12, 12), rng.randint(-12, 12)
            check(c, (command, expected), (("LRANGE", "l", start, stop), slice_of(model, start, stop)))
        check(c, ("LRANGE l 0 -1", model), ("LLEN l", len(model)))
        for index in range(-len(model) - 1, len(model) + 1):
            found = model[index] if -len(model) <= index < len(model) else NIL
            check(c, (("LINDEX", "l", index), found))


# ---- what others see -------------------------------------------------------------------------


test_the_expiry_of_a_list_outlives_changes_and_goes_with_the_key = table(
    ("RPUSH l a b", 2),
    ("EXPIRE l 1000", 1),
    ("RPUSH l c", 3),
    ("LPOP l", "a"),
    ("LSET l 0 x", OK),
    ("TTL l", between(990, 1000)),
    ("LTRIM l 1 0", OK),
    ("RPUSH l a", 1),
    ("TTL l", -1),
)


def events_of(server, connect, *commands):
    """The keyspace events of the commands, as "event key"."""
    with server.config(notify_keyspace_events="EA"):
        listener, client = connect(), connect()
        listener("PSUBSCRIBE __keyevent@0__:*")
        for command in commands:
            client(*words_of(command))
        client("SET {l}end 1")  # beside the others, or its event could overtake theirs
        events = []
        while not events or events[-1] != "set {l}end":
            _, _, channel, key = listener.read()
            events.append(f"{channel.decode().split(':')[1]} {key.decode()}")
        return events[:-1]


@pytest.mark.parametrize(
    "commands, events",
    [
        (["RPUSH l a b", "LPUSH l c"], ["rpush l", "lpush l"]),
        (["RPUSHX l a", "RPUSH l a", "RPUSHX l b", "LPUSHX l c"], ["rpush l", "rpush l", "lpush l"]),
        (["RPUSH l a b", "LPOP l", "RPOP l"], ["rpush l", "lpop l", "rpop l", "del l"]),
        (["RPUSH l a b", "LPOP l 0", "LPOP l 5"], ["rpush l", "lpop l", "del l"]),
        (["RPUSH l a", "LSET l 0 b", "LSET l 1 b"], ["rpush l", "lset l"]),
        (["RPUSH l a", "LINSERT l BEFORE a b", "LINSERT l BEFORE x b"], ["rpush l", "linsert l"]),
        (["RPUSH l a b", "LREM l 0 x", "LREM l 0 a", "LREM l 0 b"], ["rpush l", "lrem l", "lrem l", "del l"]),
        (["RPUSH l a b", "LTRIM l 0 -1", "LTRIM l 5 6", "LTRIM l 0 1"], ["rpush l", "ltrim l", "ltrim l", "del l"]),
        (["RPUSH l a b", "LMPOP 2 {l}x l LEFT", "LMPOP 1 l RIGHT COUNT 2"], ["rpush l", "lpop l", "rpop l", "del l"]),
        (
            ["RPUSH {l}1 a b", "RPOPLPUSH {l}1 {l}2", "LMOVE {l}1 {l}2 LEFT RIGHT"],
            ["rpush {l}1", "lpush {l}2", "rpop {l}1", "rpush {l}2", "lpop {l}1", "del {l}1"],
        ),
        (["RPUSH l a", "RPOPLPUSH l l"], ["rpush l", "lpush l", "rpop l"]),
    ],
    ids=lambda value: value[-1].replace(" ", "_") if isinstance(value, list) else None,
)
def test_keyspace_events_name_what_happened_in_order(server, connect, commands, events):
    assert events_of(server, connect, *commands) == events


@pytest.mark.parametrize(
    "command, disturbs",
    [
        ("RPUSH l x", True),
        ("LPUSHX l x", True),
        ("LPOP l", True),
        ("LPOP l 0", False),
        ("LSET l 0 a", True),
        ("LSET l 9 a", False),
        ("LINSERT l AFTER a x", True),
        ("LINSERT l AFTER nothing x", False),
        ("LREM l 0 a", True),
        ("LREM l 0 nothing", False),
        ("LTRIM l 0 -1", True),  # even one that removes nothing
        ("RPOPLPUSH l {l}2", True),
        ("LMOVE {l}3 l LEFT LEFT", True),
        ("LMPOP 1 l LEFT", True),
        ("LRANGE l 0 -1", False),
        ("LPOS l a", False),
    ],
)
def test_a_watched_list_is_disturbed_by_changes_only(c, connect, command, disturbs):
    check(c, ("RPUSH l a b", 2), ("RPUSH {l}3 z", 1), ("WATCH l", OK))
    connect()(command)
    check(c, ("MULTI", OK), ("PING", Simple("QUEUED")), ("EXEC", NIL_ARRAY if disturbs else [Simple("PONG")]))
