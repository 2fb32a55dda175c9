"""SORT and SORT_RO: the elements of a list, a set or a sorted set in order."""

import pytest

from harness import *
from harness import NIL, OK

NO_WEIGHT = Error("ERR One or more scores can't be converted into double")

test_elements_are_sorted_as_numbers_or_as_texts = table(
    ("RPUSH l 3 1 10 2.5 -7", 5),
    ("SORT l", ["-7", "1", "2.5", "3", "10"]),
    ("SORT l DESC", ["10", "3", "2.5", "1", "-7"]),
    ("SORT l DESC ASC", ["-7", "1", "2.5", "3", "10"]),
    ("SORT l ALPHA", ["-7", "1", "10", "2.5", "3"]),
    ("SORT_RO l ALPHA DESC", ["3", "2.5", "10", "1", "-7"]),
    ("RPUSH w b a C aa", 4),
    ("SORT w", NO_WEIGHT),
    ("SORT w ALPHA", ["C", "a", "aa", "b"]),
    ("SADD e 5 4 6", 3),
    ("SORT e", ["4", "5", "6"]),
    ("ZADD z 3 30 1 10 2 20", 3),
    ("SORT z DESC", ["30", "20", "10"]),
    ("SORT nothing", []),
    (("RPUSH", "odd", "", " 5", "0x10", "1e1", "inf"), 5),
    ("SORT odd", ["", " 5", "1e1", "0x10", "inf"]),
)

test_limit_shows_a_part = table(
    ("RPUSH l 3 1 2", 3),
    ("SORT l LIMIT 0 2", ["1", "2"]),
    ("SORT l LIMIT 1 -1", ["2", "3"]),
    ("SORT l LIMIT 1 -9", ["2", "3"]),
    ("SORT l LIMIT -5 2", ["1", "2"]),
    ("SORT l LIMIT 3 1", []),
    ("SORT l LIMIT 0 0", []),
    ("SORT l LIMIT 0 9223372036854775807 DESC", ["3", "2", "1"]),
    ("SORT l LIMIT 0 1 LIMIT 1 1", ["2"]),
    ("SORT l LIMIT x 1", NOT_AN_INTEGER),
    ("SORT l LIMIT 1", SYNTAX_ERROR),
)

test_by_a_constant_leaves_the_order_as_it_is = table(
    ("RPUSH l 3 1 10", 3),
    ("SORT l BY nosort", ["3", "1", "10"]),
    ("SORT l BY nosort DESC", ["10", "1", "3"]),
    ("SORT l BY nosort LIMIT 1 5", ["1", "10"]),
    ("SORT l BY nosort DESC LIMIT 0 1", ["10"]),
    ("ZADD z 3 a 1 c 2 b", 3),
    ("SORT z BY nosort", ["c", "b", "a"]),
    ("SORT z BY nosort DESC LIMIT 1 2", ["b", "c"]),
    ("SADD e b a c", 3),
    ("SORT e BY nosort STORE d", 3),  # what is stored is sorted nevertheless
    ("LRANGE d 0 -1", ["a", "b", "c"]),
)

test_get_shows_elements = table(
    ("RPUSH l 2 1", 2),
    ("SORT l GET #", ["1", "2"]),
    ("SORT l GET # GET constant GET #", ["1", NIL, "1", "2", NIL, "2"]),
)

test_results_are_stored = table(
    ("RPUSH l 3 1 2", 3),
    ("SET d old EX 100", OK),
    ("SORT l STORE d", 3),
    ("LRANGE d 0 -1", ["1", "2", "3"]),
    ("TTL d", -1),
    ("OBJECT ENCODING d", "quicklist"),
    ("SORT l GET # GET constant LIMIT 0 1 STORE d", 2),
    ("LRANGE d 0 -1", ["1", ""]),
    ("SORT l LIMIT 0 0 STORE d", 0),
    ("EXISTS d", 0),
    ("SORT nothing STORE l", 0),
    ("EXISTS l", 0),
    ("RPUSH l 3 1 2", 3),
    ("SORT l STORE l", 3),
    ("LRANGE l 0 -1", ["1", "2", "3"]),
    ("SORT_RO l STORE d", SYNTAX_ERROR),
)

test_what_is_wrong = table(
    ("SET s v", OK),
    ("HSET h f v", 1),
    ("SORT s", WRONGTYPE),
    ("SORT_RO h", WRONGTYPE),
    ("SORT s NOPE", SYNTAX_ERROR),
    ("SORT s BY", SYNTAX_ERROR),
    ("SORT s GET", SYNTAX_ERROR),
    ("SORT s STORE", SYNTAX_ERROR),
    ("SORT", wrong_arity("sort")),
    ("SORT_RO", wrong_arity("sort_ro")),
)

test_a_sorted_sorted_set_is_a_skiplist_from_then_on = table(
    ("ZADD z 1 a", 1),
    ("OBJECT ENCODING z", "listpack"),
    ("SORT_RO z ALPHA", ["a"]),
    ("OBJECT ENCODING z", "skiplist"),
)

test_the_keys_of_sort_are_found = table(
    ("COMMAND GETKEYS sort k BY w_* GET x_* STORE d", ["k", "d"]),
    ("COMMAND GETKEYS sort k BY store STORE d GET x", ["k", "d"]),
    ("COMMAND GETKEYS sort k STORE a STORE b", ["k", "b"]),
    ("COMMAND GETKEYS sort k", ["k"]),
    ("COMMAND GETKEYS sort_ro k BY w_*", ["k"]),
    (
        "COMMAND GETKEYSANDFLAGS sort k STORE d",
        [["k", Set([Simple("RO"), Simple("access")])], ["d", Set([Simple("OW"), Simple("update")])]],
    ),
)


def test_patterns_lead_to_keys_and_fields(c):
    c("RPUSH {l} 1 2 3")
    c("MSET {l}w1 30 {l}w2 20 {l}w3 10 {l}n1 one {l}n2 two")
    for number, (rank, text) in {1: (2, "b"), 2: (1, "c"), 3: (3, "a")}.items():
        c("HSET", f"{{l}}h{number}", "f", rank, "t", text)
    check(
        c,
        ("SORT {l} BY {l}w*", ["3", "2", "1"]),
        ("SORT {l} BY {l}w* DESC", ["1", "2", "3"]),
        ("SORT {l} BY {l}h*->f", ["2", "1", "3"]),
        ("SORT {l} BY {l}h*->t ALPHA", ["3", "1", "2"]),
        ("SORT {l} BY {l}n* ALPHA", ["3", "1", "2"]),
        ("SORT {l} BY {l}n*", NO_WEIGHT),
        ("SORT {l} BY {l}missing*", ["1", "2", "3"]),
        ("SORT {l} BY {l}w* LIMIT 0 2 GET {l}n* GET #", [NIL, "3", "two", "2"]),
        ("SORT {l} GET {l}h*->t GET {l}h*->no GET {l}h* GET {l}w*->f", ["b", NIL, NIL, NIL, "c", NIL, NIL, NIL, "a", NIL, NIL, NIL]),
        ("SORT {l} GET {l}n* STORE {l}d", 3),
        ("LRANGE {l}d 0 -1", ["one", "two", ""]),
        ("SORT {l} BY {l}w* BY nosort", ["1", "2", "3"]),
        ("SORT {l} BY nosort BY {l}w*", ["1", "2", "3"]),
    )


def test_patterns_lead_to_keys_wherever_they_live(c):
    for number in range(12):
        c("RPUSH", "l", number)
        c("SET", f"w{number}", number * 7 % 12)
        c("HSET", f"h{number}", "f", f"text {number}")
    by_weight = sorted(range(12), key=lambda number: number * 7 % 12)
    check(
        c,
        ("SORT l BY w*", [str(number) for number in by_weight]),
        ("SORT l BY w* DESC LIMIT 0 2 GET h*->f", [f"text {number}" for number in by_weight[:-3:-1]]),
        ("SORT l BY h*->f ALPHA LIMIT 0 1 GET # GET w* GET x*", ["0", "0", NIL]),
        ("SORT l BY w* GET h*->f STORE d", 12),
        ("LRANGE d 0 -1", [f"text {number}" for number in by_weight]),
    )



def test_a_read_counts_once_and_a_miss_is_told_once_wherever_the_keys_live(server, c, connect):
    # On several shards such a SORT runs again, once it knows what it needs.
    c("RPUSH", "l", *range(12))
    for number in range(0, 12, 2):
        c("SET", f"w{number}", 12 - number)
    with server.config(notify_keyspace_events="Em"):
        listener = connect(3)
        listener("PSUBSCRIBE __key*__:*")
        assert c("CONFIG RESETSTAT") == OK
        assert c("SORT l BY w* LIMIT 10 2 GET x*") == [NIL, NIL]
        missed = sorted(listener.read()[3] for _ in range(8))
        assert missed == sorted([b"w1", b"w3", b"w5", b"w7", b"w9", b"w11", b"x2", b"x0"])
        assert listener.silent()
    stats = server.info("stats")
    assert (stats["keyspace_hits"], stats["keyspace_misses"]) == ("7", "8")


@pytest.mark.parametrize("stored", [False, True])
def test_zero_bytes_end_a_text_that_is_shown_and_not_one_that_is_stored(c, stored):
    c("RPUSH", "l", b"a\x00c", b"a\x00b", "A")
    if stored:
        assert c("SORT l ALPHA STORE d") == 3
        assert c("LRANGE d 0 -1") == [b"A", b"a\x00b", b"a\x00c"]
    else:
        assert c("SORT l ALPHA") == [b"A", b"a\x00c", b"a\x00b"]


def test_source_and_destination_may_live_on_different_shards(c):
    for number in range(20):
        a, b = f"a{number}", f"b{number * 7}"
        check(c, (("RPUSH", a, 3, 1, 2), 3), (("SORT", a, "STORE", b), 3), (("LRANGE", b, 0, -1), ["1", "2", "3"]))


def test_a_stored_result_wakes_who_waits_for_it(server, c, connect):
    c("RPUSH other b a")
    waiter = connect()
    waiter.send("BLPOP l 5")
    eventually(lambda: server.info("clients")["blocked_clients"] == "1")
    assert c("SORT other ALPHA STORE l") == 2
    assert waiter.read() == [b"l", b"a"]


covers("SORT", "SORT_RO")


def test_a_block_sorts_by_keys_wherever_they_are(c):
    for number in range(12):
        c("SET", f"weight{number}", -number)
    for number in range(12):
        name = f"list{number}"
        c("RPUSH", name, *range(12))
        for before in ((), ("SET", name + "x", "v")):
            assert c("MULTI") == OK
            if before:
                c(*before)
            c("SORT", name, "BY", "weight*", "GET", "weight*", "GET", "#", "LIMIT", 0, 1)
            assert c("EXEC")[-1] == [b"-11", b"11"]
