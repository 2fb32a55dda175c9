"""Sorted sets: adding, scores and ranks, ranges, popping, algebra, random members, iteration."""

import random

import pytest

from harness import *
from harness import NIL, NIL_ARRAY, OK

NOT_A_RANGE = Error("ERR min or max is not a float")
NOT_A_LEX_RANGE = Error("ERR min or max not valid string range item")
NOT_POSITIVE = Error("ERR value is out of range, must be positive")
NOT_A_NUMBER = Error("ERR resulting score is not a number (NaN)")
NO_NUMKEYS = Error("ERR numkeys should be greater than 0")
INVALID_CURSOR = Error("ERR invalid cursor")


def flat(*pairs):
    """Members and scores in turns, the scores as doubles: ("a", "1.5", "b", "2")."""
    return [Double(word) if at % 2 else word for at, word in enumerate(pairs)]


def scored(*pairs):
    """Members with scores as WITHSCORES replies them: flat in RESP2, pairs in RESP3."""
    words = flat(*pairs)
    return by_protocol(r2=words, r3=[words[at : at + 2] for at in range(0, len(words), 2)])


def in_both_encodings(*rows):
    """A table that runs on listpacks, and again with every sorted set a skiplist."""
    in_one_encoding = table(*rows)

    def test(server):
        __tracebackhide__ = True
        for entries_max in (128, 0):
            with server.config(zset_max_listpack_entries=entries_max):
                in_one_encoding(server)

    return test


# ---- adding -------------------------------------------------------------------------------------

test_zadd_counts_new_members_and_with_ch_changed_ones = in_both_encodings(
    ("ZADD z 1 a", 1),
    ("ZADD z 1 a", 0),
    ("ZADD z 2 a 3 b 4 c", 2),
    ("ZADD z CH 2 a 9 b 5 d", 2),
    ("ZADD z ch 2 a", 0),
    ("ZRANGE z 0 -1 WITHSCORES", scored("a", "2", "c", "4", "d", "5", "b", "9")),
    ("ZADD z 1 x 2 x", 1),
    ("ZSCORE z x", Double("2")),
    ("ZADD z", wrong_arity("zadd")),
    ("ZADD z 1", wrong_arity("zadd")),
    ("ZADD z 1 a 2", SYNTAX_ERROR),
    ("ZADD z NX 1", SYNTAX_ERROR),
    ("ZADD z NX XX", SYNTAX_ERROR),
    ("SET k v", OK),
    ("ZADD k 1 a", WRONGTYPE),
)

test_zadd_adds_nothing_if_one_score_is_no_number = table(
    ("ZADD z 1 a x b", NOT_A_FLOAT),
    ("ZADD z nan a", NOT_A_FLOAT),
    (("ZADD", "z", " 1", "a"), NOT_A_FLOAT),
    (("ZADD", "z", "1 ", "a"), NOT_A_FLOAT),
    (("ZADD", "z", "", "a"), NOT_A_FLOAT),
    ("ZADD z 1e400 a", NOT_A_FLOAT),
    ("ZADD z 1,5 a", NOT_A_FLOAT),
    ("EXISTS z", 0),
)

test_zadd_nx_and_xx_choose_by_presence = in_both_encodings(
    ("ZADD z XX 1 a", 0),
    ("EXISTS z", 0),
    ("ZADD z NX 1 a", 1),
    ("ZADD z NX 2 a 2 b", 1),
    ("ZADD z XX 3 b 3 c", 0),
    ("ZADD z XX CH 4 b 4 c", 1),
    ("ZRANGE z 0 -1 WITHSCORES", scored("a", "1", "b", "4")),
    ("ZADD z NX XX 1 a", Error("ERR XX and NX options at the same time are not compatible")),
)

GT_LT_NX = Error("ERR GT, LT, and/or NX options at the same time are not compatible")

test_zadd_gt_and_lt_choose_by_score = in_both_encodings(
    ("ZADD z 5 a", 1),
    ("ZADD z GT CH 4 a 1 b", 1),
    ("ZADD z GT CH 6 a 1 b", 1),
    ("ZADD z LT CH 7 a 0 b", 1),
    ("ZADD z LT CH 6 a", 0),
    ("ZADD z LT XX CH 9 c 5 a", 1),
    ("ZRANGE z 0 -1 WITHSCORES", scored("b", "0", "a", "5")),
    ("ZADD z GT LT 1 a", GT_LT_NX),
    ("ZADD z GT NX 1 a", GT_LT_NX),
    ("ZADD z NX LT 1 a", GT_LT_NX),
)

test_zadd_incr_answers_the_score_or_nil = in_both_encodings(
    ("ZADD z INCR 1.5 a", Double("1.5")),
    ("ZADD z INCR 2 a", Double("3.5")),
    ("ZADD z NX INCR 2 a", NIL),
    ("ZADD z XX INCR 2 b", NIL),
    ("ZADD z GT INCR -1 a", NIL),
    ("ZADD z LT INCR -1 a", Double("2.5")),
    ("ZADD z INCR CH 1 a", Double("3.5")),
    ("ZADD none XX INCR 1 a", NIL),
    ("EXISTS none", 0),
    ("ZADD z INCR 1 a 2 b", Error("ERR INCR option supports a single increment-element pair")),
)

test_zincrby_adds_to_the_score = in_both_encodings(
    ("ZINCRBY z 2 a", Double("2")),
    ("ZINCRBY z -5.5 a", Double("-3.5")),
    ("ZINCRBY z 0 a", Double("-3.5")),
    ("ZINCRBY z inf a", Double("inf")),
    ("ZINCRBY z 1 a", Double("inf")),
    ("ZINCRBY z -inf a", NOT_A_NUMBER),
    ("ZSCORE z a", Double("inf")),
    ("ZINCRBY z x a", NOT_A_FLOAT),
    ("ZINCRBY z nx a", SYNTAX_ERROR),  # it takes the options of ZADD, and then lacks a member
    ("ZINCRBY z 1", wrong_arity("zincrby")),
    ("ZINCRBY z 1 a b", wrong_arity("zincrby")),
    ("SET k v", OK),
    ("ZINCRBY k 1 a", WRONGTYPE),
)

SCORES = [
    ("0x10", "16"),
    ("0x.8p1", "1"),
    ("+1", "1"),
    (".5", "0.5"),
    ("5.", "5"),
    ("1e3", "1000"),
    ("1E-5", "1.0000000000000001e-05"),
    ("0.0001", "0.0001"),
    ("0.1", "0.10000000000000001"),
    ("3.3", "3.2999999999999998"),
    ("1000000000000000.25", "1000000000000000.2"),
    ("99999999999999999", "1e+17"),
    ("10000000000000000", "10000000000000000"),
    ("-123456789012345678", "-1.2345678901234568e+17"),
    ("1.7976931348623157e308", "1.7976931348623157e+308"),
    ("4.9e-324", "4.9406564584124654e-324"),
    ("INF", "inf"),
    ("-Infinity", "-inf"),
]

test_scores_are_read_and_printed_as_c_does = in_both_encodings(
    *[(f"ZADD z INCR {text} {text}", Double(printed)) for text, printed in SCORES],
    *[(f"ZSCORE z {text}", Double(printed)) for text, printed in SCORES],
)


def test_a_listpack_forgets_the_sign_of_zero_and_a_skiplist_does_not(server, c):
    check(c, ("ZADD z -0 a", 1), ("ZSCORE z a", Double("0")))
    with server.config(zset_max_listpack_entries=0):
        check(
            c,
            ("ZADD s -0 b 0 a", 2),
            ("ZSCORE s b", Double("-0")),
            ("ZADD s CH 0 b", 0),
            ("ZRANGE s 0 -1", ["a", "b"]),
        )


test_a_sorted_set_is_a_listpack_up_to_its_limits = table(
    ("ZADD z 1 a", 1),
    ("OBJECT ENCODING z", "listpack"),
    (("ZADD", "z", 1, "x" * 64), 1),
    ("OBJECT ENCODING z", "listpack"),
    (("ZADD", "z", 1, "x" * 65), 1),
    ("OBJECT ENCODING z", "skiplist"),
    (("ZREM", "z", "x" * 65), 1),
    ("OBJECT ENCODING z", "skiplist"),
    ("ZUNIONSTORE z 1 z", 2),
    ("OBJECT ENCODING z", "listpack"),
    (("ZADD", "many", *[word for n in range(128) for word in (n, f"m{n}")]), 128),
    ("OBJECT ENCODING many", "listpack"),
    ("ZADD many 1 m1 7 one-more", 1),
    ("OBJECT ENCODING many", "skiplist"),
    ("ZRANGESTORE few many 0 127", 128),
    ("OBJECT ENCODING few", "listpack"),
)

# ---- removing -----------------------------------------------------------------------------------

test_zrem_removes_members_and_with_the_last_the_key = in_both_encodings(
    ("ZADD z 1 a 2 b 3 c 4 1", 4),
    ("ZREM z none", 0),
    ("ZREM z a none a 1", 2),
    ("ZRANGE z 0 -1", ["b", "c"]),
    ("ZREM z b c d", 2),
    ("EXISTS z", 0),
    ("ZREM z a", 0),
    ("ZREM z", wrong_arity("zrem")),
    ("SET k v", OK),
    ("ZREM k a", WRONGTYPE),
)

FIVE = ("ZADD z 1 a 2 b 3 c 4 d 5 e", 5)

test_zremrangebyrank_removes_by_rank_from_either_end = in_both_encodings(
    FIVE,
    ("ZREMRANGEBYRANK z 5 10", 0),
    ("ZREMRANGEBYRANK z 3 2", 0),
    ("ZREMRANGEBYRANK z 1 2", 2),
    ("ZREMRANGEBYRANK z -1 -1", 1),
    ("ZRANGE z 0 -1", ["a", "d"]),
    ("ZREMRANGEBYRANK z -100 100", 2),
    ("EXISTS z", 0),
    ("ZREMRANGEBYRANK z 0 -1", 0),
    ("ZREMRANGEBYRANK z 0 x", NOT_AN_INTEGER),
    ("ZREMRANGEBYRANK z 0", wrong_arity("zremrangebyrank")),
    ("SET k v", OK),
    ("ZREMRANGEBYRANK k 0 -1", WRONGTYPE),
)

test_zremrangebyscore_removes_between_two_scores = in_both_encodings(
    FIVE,
    ("ZREMRANGEBYSCORE z (5 +inf", 0),
    ("ZREMRANGEBYSCORE z (1 (3", 1),
    ("ZREMRANGEBYSCORE z 4 inf", 2),
    ("ZRANGE z 0 -1", ["a", "c"]),
    ("ZREMRANGEBYSCORE z -inf +inf", 2),
    ("EXISTS z", 0),
    ("ZREMRANGEBYSCORE z a b", NOT_A_RANGE),
    ("ZREMRANGEBYSCORE z 1", wrong_arity("zremrangebyscore")),
    ("SET k v", OK),
    ("ZREMRANGEBYSCORE k 0 1", WRONGTYPE),
)

WORDS = ("ZADD z 0 alpha 0 bar 0 cool 0 down 0 elephant 0 foo", 6)

test_zremrangebylex_removes_between_two_words = in_both_encodings(
    WORDS,
    ("ZREMRANGEBYLEX z [x +", 0),
    ("ZREMRANGEBYLEX z (alpha [cool", 2),
    ("ZREMRANGEBYLEX z (down (foo", 1),
    ("ZRANGE z 0 -1", ["alpha", "down", "foo"]),
    ("ZREMRANGEBYLEX z - +", 3),
    ("EXISTS z", 0),
    ("ZREMRANGEBYLEX z a b", NOT_A_LEX_RANGE),
    ("ZREMRANGEBYLEX z -", wrong_arity("zremrangebylex")),
    ("SET k v", OK),
    ("ZREMRANGEBYLEX k - +", WRONGTYPE),
)

# ---- popping ------------------------------------------------------------------------------------

test_zpopmin_and_zpopmax_take_from_their_end = in_both_encodings(
    ("ZPOPMIN z", []),
    ("ZPOPMAX z 3", []),
    FIVE,
    ("ZPOPMIN z", flat("a", "1")),  # without a count it is flat in RESP3, too
    ("ZPOPMAX z", flat("e", "5")),
    ("ZPOPMIN z 0", []),
    ("ZPOPMIN z 1", scored("b", "2")),
    ("ZPOPMAX z 5", scored("d", "4", "c", "3")),
    ("EXISTS z", 0),
    ("ZPOPMIN z -1", NOT_POSITIVE),
    ("ZPOPMIN z x", NOT_POSITIVE),
    ("ZPOPMAX z 1 2", SYNTAX_ERROR),
    ("ZPOPMIN", wrong_arity("zpopmin")),
    ("ZPOPMAX", wrong_arity("zpopmax")),
    ("SET k v", OK),
    ("ZPOPMIN k", WRONGTYPE),
    ("ZPOPMAX k 0", WRONGTYPE),
)

test_equal_scores_pop_in_the_order_of_bytes = in_both_encodings(
    ("ZADD z 0 b 0 a 0 B 0 10 0 9 0 aa", 6),
    (("ZADD", "z", 0, b"\xff", 0, ""), 2),
    ("ZPOPMAX z", by_protocol(r2=[b"\xff", "0"], r3=[b"\xff", Double("0")])),
    ("ZRANGE z 0 -1", ["", "10", "9", "B", "a", "aa", "b"]),
    ("ZPOPMIN z 2", scored("", "0", "10", "0")),
)

test_zmpop_takes_from_the_first_key_that_has_members = in_both_encodings(
    ("ZMPOP 2 a b MIN", NIL_ARRAY),
    ("ZADD b 1 x 2 y 3 z", 3),
    ("ZMPOP 2 a b MIN", ["b", [flat("x", "1")]]),
    ("ZADD a 7 v", 1),
    ("ZMPOP 2 a b max COUNT 10", ["a", [flat("v", "7")]]),
    ("ZMPOP 2 a b MAX COUNT 10", ["b", [flat("z", "3"), flat("y", "2")]]),
    ("EXISTS a b", 0),
    ("SET k v", OK),
    ("ZMPOP 2 none k MIN", WRONGTYPE),
    ("ZMPOP 0 a MIN", NO_NUMKEYS),
    ("ZMPOP -1 a MIN", NO_NUMKEYS),
    ("ZMPOP x a MIN", NO_NUMKEYS),
    ("ZMPOP 2 a MIN", SYNTAX_ERROR),
    ("ZMPOP 9223372036854775807 a MIN", SYNTAX_ERROR),
    ("ZMPOP 1 a MID", SYNTAX_ERROR),
    ("ZMPOP 1 a MIN COUNT", SYNTAX_ERROR),
    ("ZMPOP 1 a MIN COUNT 0", Error("ERR count should be greater than 0")),
    ("ZMPOP 1 a MIN COUNT x", Error("ERR count should be greater than 0")),
    ("ZMPOP 1 a MIN COUNT 1 COUNT 2", SYNTAX_ERROR),
    ("ZMPOP 1 a MIN FOO 1", SYNTAX_ERROR),
    ("ZMPOP 1 a", wrong_arity("zmpop")),
)

# ---- looking ------------------------------------------------------------------------------------

test_zcard_zscore_zmscore_look = in_both_encodings(
    ("ZCARD none", 0),
    ("ZSCORE none a", NIL),
    ("ZMSCORE none a b", [NIL, NIL]),
    ("ZADD z 1 a -2.5 7 inf c", 3),
    ("ZCARD z", 3),
    ("ZSCORE z a", Double("1")),
    ("ZSCORE z 7", Double("-2.5")),
    ("ZSCORE z 07", NIL),
    ("ZMSCORE z c none a a", [Double("inf"), NIL, Double("1"), Double("1")]),
    ("ZCARD", wrong_arity("zcard")),
    ("ZSCORE z", wrong_arity("zscore")),
    ("ZSCORE z a b", wrong_arity("zscore")),
    ("ZMSCORE z", wrong_arity("zmscore")),
    ("SET k v", OK),
    ("ZCARD k", WRONGTYPE),
    ("ZSCORE k a", WRONGTYPE),
    ("ZMSCORE k a", WRONGTYPE),
)

test_zrank_and_zrevrank_count_from_either_end = in_both_encodings(
    ("ZRANK none a", NIL),
    ("ZREVRANK none a", NIL),
    ("ZADD z 1 b 1 a 3 c", 3),
    ("ZRANK z a", 0),
    ("ZRANK z b", 1),
    ("ZRANK z c", 2),
    ("ZREVRANK z a", 2),
    ("ZREVRANK z c", 0),
    ("ZRANK z none", NIL),
    ("ZREVRANK z none", NIL),
    ("ZRANK z", wrong_arity("zrank")),
    ("ZRANK z a WITHSCORE", wrong_arity("zrank")),  # that came with Redis 7.2
    ("ZREVRANK z a WITHSCORE", wrong_arity("zrevrank")),
    ("SET k v", OK),
    ("ZRANK k a", WRONGTYPE),
    ("ZREVRANK k a", WRONGTYPE),
)

test_zcount_counts_between_two_scores = in_both_encodings(
    ("ZCOUNT none 0 1", 0),
    FIVE,
    ("ZCOUNT z -inf +inf", 5),
    ("ZCOUNT z 2 4", 3),
    ("ZCOUNT z (2 4", 2),
    ("ZCOUNT z (2 (4", 1),
    ("ZCOUNT z (2 (2", 0),
    ("ZCOUNT z 4 2", 0),
    ("ZCOUNT z 6 10", 0),
    ("ZCOUNT z 2 1e999", 4),  # too big for a double: an infinity, here
    (("ZCOUNT", "z", "", " 2"), 2),  # read as C reads them: 0 and 2
    ("ZCOUNT z a 1", NOT_A_RANGE),
    ("ZCOUNT z 1 nan", NOT_A_RANGE),
    ("ZCOUNT z [1 2", NOT_A_RANGE),
    ("ZCOUNT z 1", wrong_arity("zcount")),
    ("SET k v", OK),
    ("ZCOUNT k 0 1", WRONGTYPE),
    ("ZCOUNT k a 1", NOT_A_RANGE),
)

test_zlexcount_counts_between_two_words = in_both_encodings(
    ("ZLEXCOUNT none - +", 0),
    WORDS,
    ("ZLEXCOUNT z - +", 6),
    ("ZLEXCOUNT z + -", 0),
    ("ZLEXCOUNT z [bar [down", 3),
    ("ZLEXCOUNT z (bar (down", 1),
    ("ZLEXCOUNT z [b (foo", 4),
    ("ZLEXCOUNT z [ [", 0),
    ("ZLEXCOUNT z ( +", 6),
    ("ZLEXCOUNT z a b", NOT_A_LEX_RANGE),
    ("ZLEXCOUNT z -x +", NOT_A_LEX_RANGE),
    ("ZLEXCOUNT z -", wrong_arity("zlexcount")),
    ("SET k v", OK),
    ("ZLEXCOUNT k - +", WRONGTYPE),
)

# ---- ranges -------------------------------------------------------------------------------------

LIMIT_NEEDS_BY = Error(
    "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
)
NO_SCORES_BY_LEX = Error("ERR syntax error, WITHSCORES not supported in combination with BYLEX")

test_zrange_by_rank = in_both_encodings(
    ("ZRANGE none 0 -1", []),
    FIVE,
    ("ZRANGE z 0 -1", ["a", "b", "c", "d", "e"]),
    ("ZRANGE z 1 2", ["b", "c"]),
    ("ZRANGE z -2 -1", ["d", "e"]),
    ("ZRANGE z 3 100", ["d", "e"]),
    ("ZRANGE z -100 0", ["a"]),
    ("ZRANGE z 5 9", []),
    ("ZRANGE z 2 1", []),
    ("ZRANGE z 0 1 REV", ["e", "d"]),
    ("ZRANGE z -2 -1 rev withscores", scored("b", "2", "a", "1")),
    ("ZRANGE z 0 1 WITHSCORES", scored("a", "1", "b", "2")),
    ("ZRANGE z 0 -1 LIMIT 0 2", LIMIT_NEEDS_BY),
    ("ZRANGE z 0 1 LIMIT 3 -1", ["a", "b"]),  # a limit of -1 is none
    ("ZRANGE z 0 x", NOT_AN_INTEGER),
    ("ZRANGE z 0 1.5", NOT_AN_INTEGER),
    ("ZRANGE z 0 -1 REV REV", SYNTAX_ERROR),
    ("ZRANGE z 0 -1 FOO", SYNTAX_ERROR),
    ("ZRANGE z 0 -1 LIMIT 0", SYNTAX_ERROR),
    ("ZRANGE z 0", wrong_arity("zrange")),
    ("SET k v", OK),
    ("ZRANGE k 0 -1", WRONGTYPE),
    ("ZRANGE k 0 x", NOT_AN_INTEGER),
)

test_zrange_by_score = in_both_encodings(
    ("ZRANGE none 0 1 BYSCORE", []),
    FIVE,
    ("ZRANGE z 2 4 BYSCORE", ["b", "c", "d"]),
    ("ZRANGE z (2 +inf BYSCORE WITHSCORES", scored("c", "3", "d", "4", "e", "5")),
    ("ZRANGE z 4 2 BYSCORE", []),
    ("ZRANGE z 4 2 BYSCORE REV", ["d", "c", "b"]),
    ("ZRANGE z (4 -inf BYSCORE REV LIMIT 1 1", ["b"]),
    ("ZRANGE z -inf inf BYSCORE LIMIT 1 2", ["b", "c"]),
    ("ZRANGE z -inf inf BYSCORE LIMIT 3 -5", ["d", "e"]),
    ("ZRANGE z -inf inf BYSCORE LIMIT 0 0", []),
    ("ZRANGE z -inf inf BYSCORE LIMIT 9 1", []),
    ("ZRANGE z -inf inf BYSCORE LIMIT -1 9", []),
    ("ZRANGE z a b BYSCORE", NOT_A_RANGE),
    ("ZRANGE z 0 1 BYSCORE LIMIT x 1", NOT_AN_INTEGER),
    ("ZRANGE z 0 1 BYSCORE BYLEX", SYNTAX_ERROR),
)

test_zrange_by_lex = in_both_encodings(
    ("ZRANGE none - + BYLEX", []),
    WORDS,
    ("ZRANGE z - [cool BYLEX", ["alpha", "bar", "cool"]),
    ("ZRANGE z (bar + BYLEX LIMIT 1 2", ["down", "elephant"]),
    ("ZRANGE z + (cool BYLEX REV", ["foo", "elephant", "down"]),
    ("ZRANGE z + - BYLEX REV LIMIT 4 5", ["bar", "alpha"]),
    ("ZRANGE z + - BYLEX", []),
    ("ZRANGE z - + BYLEX WITHSCORES", NO_SCORES_BY_LEX),
    ("ZRANGE z a b BYLEX", NOT_A_LEX_RANGE),
)

test_zrevrange = in_both_encodings(
    ("ZREVRANGE none 0 -1", []),
    FIVE,
    ("ZREVRANGE z 0 1", ["e", "d"]),
    ("ZREVRANGE z -2 -1 WITHSCORES", scored("b", "2", "a", "1")),
    ("ZREVRANGE z 0 -1 REV", SYNTAX_ERROR),
    ("ZREVRANGE z 0 -1 BYSCORE", SYNTAX_ERROR),
    ("ZREVRANGE z 0 -1 LIMIT 0 1", LIMIT_NEEDS_BY),
    ("ZREVRANGE z 0", wrong_arity("zrevrange")),
    ("SET k v", OK),
    ("ZREVRANGE k 0 -1", WRONGTYPE),
)

test_zrangebyscore_and_zrevrangebyscore = in_both_encodings(
    ("ZRANGEBYSCORE none 0 1", []),
    ("ZREVRANGEBYSCORE none 1 0", []),
    FIVE,
    ("ZRANGEBYSCORE z (1 3", ["b", "c"]),
    ("ZRANGEBYSCORE z 1 3 WITHSCORES LIMIT 1 1", scored("b", "2")),
    ("ZREVRANGEBYSCORE z 3 (1", ["c", "b"]),
    ("ZREVRANGEBYSCORE z +inf -inf LIMIT 1 2 withscores", scored("d", "4", "c", "3")),
    ("ZREVRANGEBYSCORE z -inf +inf", []),
    ("ZRANGEBYSCORE z 1 x", NOT_A_RANGE),
    ("ZREVRANGEBYSCORE z x 1", NOT_A_RANGE),
    ("ZRANGEBYSCORE z 1 2 REV", SYNTAX_ERROR),
    ("ZRANGEBYSCORE z 1 2 LIMIT 1", SYNTAX_ERROR),
    ("ZREVRANGEBYSCORE z 1 2 BYLEX", SYNTAX_ERROR),
    ("ZRANGEBYSCORE z 1", wrong_arity("zrangebyscore")),
    ("ZREVRANGEBYSCORE z 1", wrong_arity("zrevrangebyscore")),
    ("SET k v", OK),
    ("ZRANGEBYSCORE k 0 1", WRONGTYPE),
    ("ZREVRANGEBYSCORE k 1 0", WRONGTYPE),
)

test_zrangebylex_and_zrevrangebylex = in_both_encodings(
    ("ZRANGEBYLEX none - +", []),
    ("ZREVRANGEBYLEX none + -", []),
    WORDS,
    ("ZRANGEBYLEX z [bar (elephant", ["bar", "cool", "down"]),
    ("ZRANGEBYLEX z - + LIMIT 4 9", ["elephant", "foo"]),
    ("ZREVRANGEBYLEX z (elephant [bar", ["down", "cool", "bar"]),
    ("ZREVRANGEBYLEX z + - LIMIT 0 1", ["foo"]),
    ("ZRANGEBYLEX z bar +", NOT_A_LEX_RANGE),
    ("ZREVRANGEBYLEX z + bar", NOT_A_LEX_RANGE),
    ("ZRANGEBYLEX z - + WITHSCORES", NO_SCORES_BY_LEX),
    ("ZREVRANGEBYLEX z - + BYSCORE", SYNTAX_ERROR),
    ("ZRANGEBYLEX z -", wrong_arity("zrangebylex")),
    ("ZREVRANGEBYLEX z +", wrong_arity("zrevrangebylex")),
    ("SET k v", OK),
    ("ZRANGEBYLEX k - +", WRONGTYPE),
    ("ZREVRANGEBYLEX k + -", WRONGTYPE),
)

test_zrangestore_stores_a_range_and_an_empty_one_deletes = in_both_encodings(
    FIVE,
    ("ZRANGESTORE d z 1 2", 2),
    ("ZRANGE d 0 -1 WITHSCORES", scored("b", "2", "c", "3")),
    ("ZRANGESTORE d z (3 +inf BYSCORE", 2),
    ("ZRANGE d 0 -1 WITHSCORES", scored("d", "4", "e", "5")),
    ("ZRANGESTORE d z 5 1 BYSCORE REV LIMIT 1 2", 2),
    ("ZRANGE d 0 -1", ["c", "d"]),
    ("ZRANGESTORE d z [b [c BYLEX", 2),
    ("ZRANGESTORE z z 0 1 REV", 2),
    ("ZRANGE z 0 -1 WITHSCORES", scored("d", "4", "e", "5")),
    ("SET d v EX 100", OK),
    ("ZRANGESTORE d z 0 0", 1),
    ("TTL d", -1),
    ("ZRANGESTORE d z 5 6", 0),
    ("EXISTS d", 0),
    ("ZRANGESTORE d none 0 -1", 0),
    ("ZRANGESTORE d z 0 -1 WITHSCORES", SYNTAX_ERROR),
    ("ZRANGESTORE d z 0 -1 LIMIT 0 1", LIMIT_NEEDS_BY),
    ("ZRANGESTORE d z 0", wrong_arity("zrangestore")),
    ("SET k v", OK),
    ("ZRANGESTORE d k 0 -1", WRONGTYPE),
)

# ---- algebra ------------------------------------------------------------------------------------

A_B_S = [("ZADD a 1 x 2 y 3 z", 3), ("ZADD b 10 y 20 z 30 w", 3), ("SADD s z w 7", 3)]

test_zunion_adds_up_weighted_scores = in_both_encodings(
    *A_B_S,
    ("ZUNION 1 none", []),
    ("ZUNION 2 a none WITHSCORES", scored("x", "1", "y", "2", "z", "3")),
    ("ZUNION 2 a b", ["x", "y", "z", "w"]),
    ("ZUNION 2 a b WITHSCORES", scored("x", "1", "y", "12", "z", "23", "w", "30")),
    ("ZUNION 3 a b s WITHSCORES", scored("7", "1", "x", "1", "y", "12", "z", "24", "w", "31")),
    ("ZUNION 2 a a WITHSCORES", scored("x", "2", "y", "4", "z", "6")),
    ("ZUNION 2 a b WEIGHTS 2 -1 WITHSCORES", scored("w", "-30", "z", "-14", "y", "-6", "x", "2")),
    ("ZUNION 2 a b AGGREGATE MIN WITHSCORES", scored("x", "1", "y", "2", "z", "3", "w", "30")),
    ("ZUNION 2 a b aggregate max weights 100 1", ["w", "x", "y", "z"]),
    ("ZUNION 1 s", ["7", "w", "z"]),
)

test_zinter_keeps_what_is_in_all = in_both_encodings(
    *A_B_S,
    ("ZINTER 2 a none", []),
    ("ZINTER 2 a b WITHSCORES", scored("y", "12", "z", "23")),
    ("ZINTER 3 a b s WITHSCORES", scored("z", "24")),
    ("ZINTER 2 a b WEIGHTS 1 0.5 AGGREGATE MAX WITHSCORES", scored("y", "5", "z", "10")),
    ("ZINTER 2 a b AGGREGATE MIN WITHSCORES", scored("y", "2", "z", "3")),
    ("ZINTER 1 a", ["x", "y", "z"]),
    ("ZINTERCARD 2 a b", 2),
    ("ZINTERCARD 2 a b LIMIT 1", 1),
    ("ZINTERCARD 2 a b LIMIT 0", 2),
    ("ZINTERCARD 2 a none", 0),
)

test_zdiff_keeps_what_is_in_the_first_alone = in_both_encodings(
    *A_B_S,
    ("ZDIFF 1 a", ["x", "y", "z"]),
    ("ZDIFF 2 a b WITHSCORES", scored("x", "1")),
    ("ZDIFF 2 b s WITHSCORES", scored("y", "10")),
    ("ZDIFF 2 s a WITHSCORES", scored("7", "1", "w", "1")),
    ("ZDIFF 2 none a", []),
    ("ZDIFF 2 a a", []),
    ("ZDIFF 2 a none", ["x", "y", "z"]),
)

test_infinite_scores_of_both_signs_add_up_to_zero = in_both_encodings(
    ("ZADD a inf x", 1),
    ("ZADD b -inf x", 1),
    ("ZUNION 2 a b WITHSCORES", scored("x", "0")),
    ("ZINTER 2 a b WITHSCORES", scored("x", "0")),
    ("ZUNION 1 a WEIGHTS 0 WITHSCORES", scored("x", "0")),
    ("ZUNION 1 a WEIGHTS -1 WITHSCORES", scored("x", "-inf")),
)

test_the_store_forms_replace_the_destination = in_both_encodings(
    *A_B_S,
    ("SET d v EX 100", OK),
    ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", 4),
    ("TTL d", -1),
    ("ZRANGE d 0 -1 WITHSCORES", scored("x", "1", "y", "22", "z", "43", "w", "60")),
    ("ZINTERSTORE d 2 a s AGGREGATE MAX", 1),
    ("ZRANGE d 0 -1 WITHSCORES", scored("z", "3")),
    ("ZDIFFSTORE d 2 a b", 1),
    ("ZRANGE d 0 -1 WITHSCORES", scored("x", "1")),
    ("ZINTERSTORE d 2 a none", 0),
    ("EXISTS d", 0),
    ("ZDIFFSTORE a 2 a b", 1),
    ("ZRANGE a 0 -1", ["x"]),
    ("ZUNIONSTORE d 1 none", 0),
    ("ZDIFFSTORE d 1 none", 0),
)

test_algebra_refuses_wrong_arguments = table(
    *A_B_S,
    ("SET k v", OK),
    *[
        row
        for name, destination in [
            ("zunion", ""),
            ("zinter", ""),
            ("zdiff", ""),
            ("zintercard", ""),
            ("zunionstore", " d"),
            ("zinterstore", " d"),
            ("zdiffstore", " d"),
        ]
        for row in [
            (f"{name}{destination} 0 a", Error(f"ERR at least 1 input key is needed for '{name}' command")),
            (f"{name}{destination} -1 a", Error(f"ERR at least 1 input key is needed for '{name}' command")),
            (f"{name}{destination} x a", NOT_AN_INTEGER),
            (f"{name}{destination} 3 a b", SYNTAX_ERROR),
            (f"{name}{destination} 1 a b", SYNTAX_ERROR),
            (f"{name}{destination} 2 a k", WRONGTYPE),
            (f"{name}{destination} 2 a k FOO", WRONGTYPE),
            (f"{name}{destination} 1", wrong_arity(name)),
        ]
    ],
    ("ZUNION 2 a b WEIGHTS 1", SYNTAX_ERROR),
    ("ZUNION 2 a b WEIGHTS 1 x", Error("ERR weight value is not a float")),
    ("ZUNION 2 a b AGGREGATE", SYNTAX_ERROR),
    ("ZUNION 2 a b AGGREGATE AVG", SYNTAX_ERROR),
    ("ZDIFF 2 a b WEIGHTS 1 2", SYNTAX_ERROR),
    ("ZDIFF 2 a b AGGREGATE SUM", SYNTAX_ERROR),
    ("ZINTERCARD 2 a b WITHSCORES", SYNTAX_ERROR),
    ("ZINTERCARD 2 a b LIMIT", SYNTAX_ERROR),
    ("ZINTERCARD 2 a b LIMIT -1", Error("ERR LIMIT can't be negative")),
    ("ZINTERCARD 2 a b LIMIT x", Error("ERR LIMIT can't be negative")),
    ("ZUNIONSTORE d 2 a b WITHSCORES", SYNTAX_ERROR),
    ("ZUNION 1 a LIMIT 1", SYNTAX_ERROR),
)

# ---- random members, iteration ------------------------------------------------------------------

test_zrandmember_refuses_and_answers_at_the_edges = in_both_encodings(
    ("ZRANDMEMBER none", NIL),
    ("ZRANDMEMBER none 5", []),
    ("ZADD z 1 a 2 b 3 c", 3),
    ("ZRANDMEMBER z", one_of("a", "b", "c")),
    ("ZRANDMEMBER z 0", []),
    ("ZRANDMEMBER z 2", array_of(2, one_of("a", "b", "c"))),
    ("ZRANDMEMBER z 9", unordered("a", "b", "c")),
    ("ZRANDMEMBER z -7", array_of(7, one_of("a", "b", "c"))),
    ("ZRANDMEMBER z -1 WITHSCORES", one_of(scored("a", "1"), scored("b", "2"), scored("c", "3"))),
    ("ZRANDMEMBER z x", NOT_AN_INTEGER),
    ("ZRANDMEMBER z 1 FOO", SYNTAX_ERROR),
    ("ZRANDMEMBER z 1 WITHSCORES FOO", SYNTAX_ERROR),
    ("ZRANDMEMBER z 9223372036854775807 WITHSCORES", Error("ERR value is out of range")),
    (
        "ZRANDMEMBER z -9223372036854775808",
        Error("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"),
    ),
    ("ZRANDMEMBER", wrong_arity("zrandmember")),
    ("SET k v", OK),
    ("ZRANDMEMBER k", WRONGTYPE),
    ("ZRANDMEMBER k 1", WRONGTYPE),
)


@pytest.mark.parametrize("members", [50, 500])
def test_zrandmember_with_a_count_never_repeats_and_reaches_all(c, members):
    for number in range(members):
        c(f"ZADD z {number} m{number}")
    seen = set()
    for _ in range(1000):
        if len(seen) == members:
            break
        picked = c(f"ZRANDMEMBER z {members // 4}")
        assert len(picked) == len(set(picked)) == members // 4
        seen |= set(picked)
    assert len(seen) == members


test_zscan_of_a_small_sorted_set_shows_all_at_once = table(
    ("ZSCAN none 0", ["0", []]),
    ("ZSCAN none 0 FOO", ["0", []]),
    ("ZADD z 1 a", 1),
    ("ZSCAN z 0", ["0", ["a", "1"]]),
    ("ZADD z 2.5 b 1e17 c inf d", 3),
    ("ZSCAN z 0 COUNT 1", ["0", unordered("a", "1", "b", "2.5", "c", "100000000000000000", "d", "inf")]),
    ("ZSCAN z 0 MATCH [ac]", ["0", unordered("a", "1", "c", "100000000000000000")]),
    ("ZSCAN z 0 match * count 5 match b", ["0", ["b", "2.5"]]),
    ("ZSCAN z x", INVALID_CURSOR),
    ("ZSCAN z 0 FOO", SYNTAX_ERROR),
    ("ZSCAN z 0 COUNT", SYNTAX_ERROR),
    ("ZSCAN z 0 COUNT 0", SYNTAX_ERROR),
    ("ZSCAN z 0 COUNT x", NOT_AN_INTEGER),
    ("ZSCAN z", wrong_arity("zscan")),
    ("SET k v", OK),
    ("ZSCAN k 0", WRONGTYPE),
)


def test_zscan_of_a_skiplist_prints_scores_as_doubles_in_strings(server, c3):
    with server.config(zset_max_listpack_entries=0):
        check(
            c3,
            ("ZADD z 1e17 c 0.1 d -0 e", 3),
            ("ZSCAN z 0", ["0", unordered("c", "1e+17", "d", "0.10000000000000001", "e", "-0")]),
        )


def test_zscan_visits_every_member_that_stays(c):
    for number in range(1000):
        c(f"ZADD z {number} m{number}")
    cursor, seen, changes = b"0", {}, 0
    while True:
        cursor, elements = c("ZSCAN", "z", cursor, "COUNT", 20)
        seen.update(zip(elements[::2], elements[1::2]))
        if cursor == b"0":
            break
        c(f"ZADD z {changes} new{changes}")
        c(f"ZREM z new{changes - 1}")
        changes += 1
    assert changes > 10
    assert all(seen[b"m%d" % number] == b"%d" % number for number in range(1000))


# ---- all together -------------------------------------------------------------------------------


def _text(score):
    return b"%.17g" % score


class Model:
    """Sorted sets as a dictionary of dictionaries, which sorts when it is asked."""

    def __init__(self):
        self.scores = {}

    def items(self):
        return sorted(self.scores.items(), key=lambda item: (item[1], item[0]))

    def zadd(self, member, score):
        new = member not in self.scores
        self.scores[member] = score
        return int(new)

    def zincrby(self, member, by):
        self.scores[member] = self.scores.get(member, 0) + by
        return _text(self.scores[member])

    def zrem(self, member):
        return int(self.scores.pop(member, None) is not None)

    def between(self, low, high):
        return [member for member, score in self.items() if low <= score <= high]

    def pop(self, last):
        items = self.items()
        if not items:
            return []
        member, score = items[-1 if last else 0]
        del self.scores[member]
        return [member, _text(score)]

    def remove_ranks(self, start, stop):
        doomed = self.items()[start : stop + 1]
        for member, _ in doomed:
            del self.scores[member]
        return len(doomed)


@covers("ZADD", "ZINCRBY", "ZREM")
@pytest.mark.parametrize("entries_max", [0, 16, 128])
def test_random_commands_agree_with_a_model(server, c, entries_max):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    model = Model()
    with server.config(zset_max_listpack_entries=entries_max):
        for _ in range(1500):
            member = b"%d" % rng.randrange(60) if rng.random() < 0.7 else rng.choice([b"a", b"ab", b"b", b""])
            score = rng.choice([rng.randrange(-5, 20), rng.randrange(100) / 8])
            low, high = sorted((rng.randrange(-5, 20), rng.randrange(-5, 20)))
            rank = rng.randrange(40)
            match rng.randrange(12):
                case 0 | 1 | 2 | 3:
                    assert c("ZADD", "z", score, member) == model.zadd(member, score)
                case 4:
                    assert c("ZINCRBY", "z", score, member) == model.zincrby(member, score)
                case 5:
                    assert c("ZREM", "z", member) == model.zrem(member)
                case 6:
                    assert c("ZRANGE", "z", low, high, "BYSCORE") == model.between(low, high)
                    assert c("ZCOUNT", "z", low, high) == len(model.between(low, high))
                case 7:
                    expected = [member for member, _ in model.items()]
                    at = expected.index(member) if member in expected else None
                    got = c("ZRANK", "z", member)
                    assert got == (NIL if at is None else at)
                case 8:
                    assert c("ZPOPMIN", "z") == model.pop(False)
                case 9:
                    assert c("ZPOPMAX", "z") == model.pop(True)
                case 10:
                    assert c("ZREMRANGEBYRANK", "z", rank, rank + 2) == model.remove_ranks(rank, rank + 2)
                case 11:
                    expected = [word for member, score in model.items() for word in (member, _text(score))]
                    assert c("ZRANGE z 0 -1 WITHSCORES") == expected
            assert c("ZCARD z") == len(model.scores)
