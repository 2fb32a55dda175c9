"""Commands that wait: who is woken, in which order, with what, and who is not."""

import pytest

from harness import *
from harness import NIL, NIL_ARRAY, OK


def blocked(server, count):
    """Waits until so many clients are blocked."""
    eventually(lambda: server.info("clients")["blocked_clients"] == str(count))


test_blocking_commands_that_need_not_wait = table(
    ("RPUSH l a b c d e f g", 7),
    ("BLPOP nothing l 0", ["l", "a"]),
    ("BRPOP l 0", ["l", "g"]),
    ("BLMOVE l m LEFT RIGHT 0", "b"),
    ("BRPOPLPUSH l m 0", "f"),
    ("LRANGE m 0 -1", ["f", "b"]),
    ("BLMPOP 0 2 nothing l LEFT COUNT 2", ["l", ["c", "d"]]),
    ("ZADD z 1 a 2 b 3 c 4 d", 4),
    ("BZPOPMIN nothing z 0", ["z", "a", Double("1")]),
    ("BZPOPMAX z 0", ["z", "d", Double("4")]),
    ("BZMPOP 0 1 z MIN COUNT 10", ["z", [["b", Double("2")], ["c", Double("3")]]]),
    ("EXISTS z", 0),
)

test_blocking_commands_that_time_out = table(
    ("BLPOP nothing 0.01", NIL_ARRAY),
    ("BRPOP a b c 0.01", NIL_ARRAY),
    ("BLMOVE a b LEFT LEFT 0.01", NIL_ARRAY),
    ("BRPOPLPUSH a b 0.01", NIL_ARRAY),
    ("BLMPOP 0.01 1 a LEFT", NIL_ARRAY),
    ("BZPOPMIN a 0.01", NIL_ARRAY),
    ("BZPOPMAX a b 0.01", NIL_ARRAY),
    ("BZMPOP 0.01 1 a MAX", NIL_ARRAY),
)

_NEGATIVE = Error("ERR timeout is negative")
_NO_FLOAT = Error("ERR timeout is not a float or out of range")
_TOO_LONG = Error("ERR timeout is out of range")

test_blocking_errors = table(
    ("BLPOP l -1", _NEGATIVE),
    ("BLPOP l x", _NO_FLOAT),
    ("BLPOP l inf", one_of(_NEGATIVE, _TOO_LONG)),  # on x86 Redis's conversion comes out negative
    ("BRPOP l 1e30", one_of(_NEGATIVE, _TOO_LONG)),
    ("BLPOP l", wrong_arity("blpop")),
    ("BRPOP", wrong_arity("brpop")),
    ("BLMOVE a b LEFT RIGHT -1", _NEGATIVE),
    ("BLMOVE a b UP RIGHT 0", SYNTAX_ERROR),
    ("BRPOPLPUSH a b x", _NO_FLOAT),
    ("BLMPOP 0 0 a LEFT", Error("ERR numkeys should be greater than 0")),
    ("BLMPOP 0 1 a UP", SYNTAX_ERROR),
    ("BLMPOP 0 1 a LEFT COUNT 0", Error("ERR count should be greater than 0")),
    ("BZMPOP 0 1 a UP", SYNTAX_ERROR),
    ("BZPOPMIN z -1", _NEGATIVE),
    ("BZPOPMAX z x", _NO_FLOAT),
    ("SET s v", OK),
    ("BLPOP s 0", WRONGTYPE),
    ("BLPOP nothing s 0", WRONGTYPE),
    ("BZPOPMIN s 0", WRONGTYPE),
    ("BLMOVE s l LEFT LEFT 0", WRONGTYPE),
    ("RPUSH l a", 1),
    ("BLMOVE l s LEFT LEFT 0", WRONGTYPE),
    ("LRANGE l 0 -1", ["a"]),
)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    "wait, push, reply",
    [
        ("BLPOP a l 5", "RPUSH l x y", [b"l", b"x"]),
        ("BRPOP a l 5", "RPUSH l x y", [b"l", b"y"]),
        ("BLPOP l 5", "LPUSH l x y", [b"l", b"y"]),
        ("BLMOVE l m LEFT LEFT 5", "RPUSH l x y", b"x"),
        ("BRPOPLPUSH l m 5", "RPUSH l x y", b"y"),
        ("BLMPOP 5 2 a l RIGHT COUNT 5", "RPUSH l x y", [b"l", [b"y", b"x"]]),
        ("BZPOPMIN a z 5", "ZADD z 2 y 1 x", [b"z", b"x", "1"]),
        ("BZPOPMAX a z 5", "ZADD z 2 y 1 x", [b"z", b"y", "2"]),
        ("BZMPOP 5 1 z MIN COUNT 2", "ZADD z 2 y 1 x", [b"z", [[b"x", "1"], [b"y", "2"]]]),
        ("BLPOP l 5", "RENAME other l", [b"l", b"o"]),
        ("BLPOP l 5", "COPY other l", [b"l", b"o"]),
        ("BLPOP l 5", "LMOVE other l LEFT LEFT", [b"l", b"o"]),
        ("BZPOPMIN z 5", "ZUNIONSTORE z 1 zother", [b"z", b"m", "1"]),
        ("BZPOPMIN z 5", "ZINCRBY z 1.5 x", [b"z", b"x", "1.5"]),
    ],
)
def test_a_waiting_client_is_woken_by_what_it_waits_for(server, c, connect, wait, push, reply, protocol):
    c.pipeline("RPUSH other o", "ZADD zother 1 m")
    waiter = connect(protocol)
    waiter.send(wait)
    blocked(server, 1)
    assert not isinstance(c(push), Error)

    def with_doubles(value):
        if isinstance(value, list):
            return [with_doubles(each) for each in value]
        return (value.encode() if protocol == 2 else Double(value)) if isinstance(value, str) else value

    expected = with_doubles(reply)
    assert waiter.read() == expected
    blocked(server, 0)


covers("RENAME", "COPY", "ZUNIONSTORE", "BRPOP", "BLMPOP", "BZMPOP", "BZPOPMAX", "BZPOPMIN")


def test_waiters_are_served_in_the_order_they_came(server, c, connect):
    waiters = [connect() for _ in range(5)]
    for number, waiter in enumerate(waiters, 1):
        waiter.send("BLPOP l 0")
        blocked(server, number)
    assert c("RPUSH l 1 2 3") == 3
    assert [waiter.read() for waiter in waiters[:3]] == [[b"l", str(i).encode()] for i in (1, 2, 3)]
    assert waiters[3].silent(0.02)
    assert c("EXISTS l") == 0
    assert c("RPUSH l 4 5 6") == 3
    assert [waiter.read() for waiter in waiters[3:]] == [[b"l", b"4"], [b"l", b"5"]]
    assert c("LRANGE l 0 -1") == [b"6"]


def test_a_waiter_on_several_keys_takes_the_first_that_comes(server, c, connect):
    waiter = connect()
    waiter.send("BLPOP a b c d e 0")
    blocked(server, 1)
    assert c("RPUSH d x") == 1
    assert waiter.read() == [b"d", b"x"]
    # It waits for the other keys no longer.
    assert c("RPUSH a y") == 1
    assert waiter.silent(0.02) and c("LLEN a") == 1


def test_a_waiter_is_not_woken_by_another_type(server, c, connect):
    waiter = connect()
    waiter.send("BLPOP k 0")
    blocked(server, 1)
    check(c, ("ZADD k 1 x", 1), ("DEL k", 1), ("SET k v", OK), ("DEL k", 1))
    assert waiter.silent(0.05)
    assert c("RPUSH k x") == 1
    assert waiter.read() == [b"k", b"x"]


def test_elements_pushed_and_popped_within_one_transaction_wake_nobody(server, c, connect):
    waiter = connect()
    waiter.send("BLPOP k 0")
    blocked(server, 1)
    assert c.pipeline("MULTI", "RPUSH k x", "DEL k", "EXEC")[-1] == [1, 1]
    assert waiter.silent(0.05)
    assert c.pipeline("MULTI", "RPUSH k a", "RPUSH k b", "EXEC")[-1] == [1, 2]
    assert waiter.read() == [b"k", b"a"]


def test_blmove_wakes_the_one_who_waits_for_its_target(server, c, connect):
    first, second = connect(), connect()
    second.send("BLPOP b 0")
    blocked(server, 1)
    first.send("BLMOVE a b LEFT LEFT 0")
    blocked(server, 2)
    assert c("RPUSH a x") == 1
    assert first.read() == b"x"
    assert second.read() == [b"b", b"x"]
    assert c("EXISTS a b") == 0


def test_blmove_onto_itself_rotates(server, c, connect):
    waiter = connect()
    waiter.send("BLMOVE a a LEFT RIGHT 0")
    blocked(server, 1)
    assert c("RPUSH a 1 2 3") == 3
    assert waiter.read() == b"1"
    assert c("LRANGE a 0 -1") == [b"2", b"3", b"1"]


def test_blmove_to_a_wrong_type_fails_when_it_is_woken(server, c, connect):
    waiter = connect()
    c("SET b v")
    waiter.send("BLMOVE a b LEFT LEFT 0")
    blocked(server, 1)
    assert c("RPUSH a x") == 1
    assert waiter.read() == WRONGTYPE
    assert c("LRANGE a 0 -1") == [b"x"], "and loses nothing"


def test_a_waiter_that_goes_away_takes_nothing(server, c, connect):
    waiter = connect()
    waiter.send("BLPOP l 0")
    blocked(server, 1)
    waiter.close()
    blocked(server, 0)
    assert c("RPUSH l x") == 1
    assert c("LRANGE l 0 -1") == [b"x"]


def test_what_a_waiting_client_sends_next_waits_too(server, c, connect):
    waiter = connect()
    waiter.raw(encode("BLPOP", "l", "0") + encode("SET", "k", "v") + encode("PING"))
    blocked(server, 1)
    assert c("EXISTS k") == 0
    assert c("RPUSH l x") == 1
    assert [waiter.read() for _ in range(3)] == [[b"l", b"x"], OK, Simple("PONG")]


def test_the_timeout_of_a_waiter_is_kept(server, c, connect):
    import time

    waiter = connect()
    began = time.monotonic()
    waiter.send("BLPOP l 0.25")
    assert waiter.read() == NIL_ARRAY
    assert time.monotonic() - began >= 0.24
    assert waiter("PING") == Simple("PONG")


def test_within_multi_nothing_waits(c):
    assert c.pipeline("MULTI", "BLPOP l 0", "BZPOPMIN z 0", "BLMOVE a b LEFT LEFT 0", "WAIT 3 0", "EXEC")[-1] == [
        NIL_ARRAY, NIL_ARRAY, NIL, 0,
    ]  # fmt: skip


def test_flushall_and_swapdb_reach_waiters(server, c, connect):
    waiter = connect()
    waiter.send("BLPOP l 0")
    blocked(server, 1)
    assert c("FLUSHALL") == OK
    c("SELECT 1")
    assert c("RPUSH l x") == 1
    assert waiter.silent(0.05), "another database is another key"
    assert c("SWAPDB 0 1") == OK
    assert waiter.read() == [b"l", b"x"]


def test_many_waiters_with_many_timeouts(server, c, connect):
    waiters = [connect() for _ in range(100)]
    for number, waiter in enumerate(waiters):
        waiter.send("BLPOP", f"l{number % 7}", 0.05 + number % 10 / 100)
    assert [waiter.read() for waiter in waiters] == [NIL_ARRAY] * 100
    blocked(server, 0)


test_wait_counts_replicas_of_which_there_are_none = table(
    ("WAIT 0 0", 0),
    ("WAIT -1 0", 0),
    ("WAIT 1 20", 0),
    ("WAIT x 0", NOT_AN_INTEGER),
    ("WAIT 0 x", Error("ERR timeout is not an integer or out of range")),
    ("WAIT 1 -1", _NEGATIVE),
)


# Of Redis 7.2. What it does with files is in test_append_only.py.
test_waitaof_without_files = pytest.mark.only("corelane-1", "corelane-3")(
    table(
        ("WAITAOF 0 0 0", [0, 0]),
        ("WAITAOF 0 1 20", [0, 0]),
        ("WAITAOF 2 0 0", Error("ERR value is out of range, value must between 0 and 1")),
        ("WAITAOF x 0 0", NOT_AN_INTEGER),
        ("WAITAOF 0 -1 0", Error("ERR value is out of range, must be positive")),
        ("WAITAOF 0 0 x", Error("ERR timeout is not an integer or out of range")),
        ("WAITAOF 0 0 -1", _NEGATIVE),
        ("WAITAOF 1 0 0", Error("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.")),
    )
)


def test_a_blocked_client_is_shown_and_can_be_killed(server, c, connect):
    waiter = connect()
    own = waiter("CLIENT ID")
    waiter.send("BLPOP l 0")
    blocked(server, 1)
    line = next(line for line in c("CLIENT LIST").decode().splitlines() if line.startswith(f"id={own} "))
    assert " flags=b " in line and " cmd=blpop " in line
    assert c("CLIENT", "KILL", "ID", own) == 1
    assert c("RPUSH l x") == 1
    assert c("LRANGE l 0 -1") == [b"x"]
    blocked(server, 0)


def test_client_unblock_wakes_a_blocked_client(server, c, connect):
    for reason, expected in [
        ((), NIL_ARRAY),
        (("TIMEOUT",), NIL_ARRAY),
        (("ERROR",), Error("UNBLOCKED client unblocked via CLIENT UNBLOCK")),
    ]:
        for command in ("BLPOP l 0", "BLPOP l m n o 0", "BLMOVE a b LEFT LEFT 0"):
            waiter = connect()
            own = waiter("CLIENT ID")
            waiter.send(command)
            blocked(server, 1)
            assert c("CLIENT", "UNBLOCK", own, *reason) == 1
            assert waiter.read() == expected
            assert c("CLIENT", "UNBLOCK", own) == 0
            blocked(server, 0)


test_client_unblock_errors = table(
    ("CLIENT UNBLOCK 999999", 0),
    ("CLIENT UNBLOCK x", NOT_AN_INTEGER),
    ("CLIENT UNBLOCK 1 maybe", Error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
)


def test_the_first_key_that_is_made_in_a_block_serves(server, c, connect):
    """Not the first in the order of the waiting command, as when it begins; on whichever shards the keys are."""
    waiter, script = connect(), "redis.call('RPUSH', KEYS[1], 'y') redis.call('RPUSH', KEYS[2], 'x') return {1, 1}"
    for number in range(60):
        keys = [f"{name}:{number}" for name in ("a", "b", "c")]
        waiter.send("BLPOP", *keys, 0)
        blocked(server, 1)
        second, first = [keys[:2], keys[1:], keys[::2]][number % 3]
        if number % 2:
            first, second = second, first
        if number % 4 < 2:
            assert c.pipeline("MULTI", ("RPUSH", first, "y"), ("RPUSH", second, "x"), "EXEC")[-1] == [1, 1]
        else:
            assert c("EVAL", script, 2, first, second) == [1, 1]
        assert waiter.read() == [first.encode(), b"y"]
        assert c("EXISTS", *keys) == 1


def test_who_waits_for_two_keys_of_a_block_is_served_behind_those_who_came_earlier(server, c, connect):
    """They take what was made first; then there is what was made later."""
    for number in range(20):
        first, second = f"a:{number}", f"b:{number}"
        early, both, late = connect(), connect(), connect()
        for count, (client, keys) in enumerate([(early, [first]), (both, [second, first]), (late, [first, second])], 1):
            client.send("BLPOP", *keys, 0)
            blocked(server, count)
        assert c.pipeline("MULTI", ("RPUSH", first, "x"), ("RPUSH", second, "y", "z"), "EXEC")[-1] == [1, 2]
        assert [client.read() for client in (early, both, late)] == [
            [first.encode(), b"x"], [second.encode(), b"y"], [second.encode(), b"z"],
        ]  # fmt: skip
        assert c("EXISTS", first, second) == 0


def test_an_expired_key_does_not_serve(c, connect):
    blocked_client = connect()
    c("RPUSH l a")
    c("PEXPIRE l 1")
    eventually(lambda: c("EXISTS l") == 0)
    blocked_client.send("BLPOP l 0.1")
    assert blocked_client.read() == NIL_ARRAY
