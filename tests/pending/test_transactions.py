"""MULTI, EXEC, DISCARD, WATCH, UNWATCH."""

import pytest

from harness import *
from harness import NIL, NIL_ARRAY, OK

QUEUED = Simple("QUEUED")
EXECABORT = Error("EXECABORT Transaction discarded because of previous errors.")

test_commands_between_multi_and_exec_run_together = table(
    ("MULTI", OK),
    ("SET a 1", QUEUED),
    ("INCR a", QUEUED),
    ("GET nothing", QUEUED),
    ("HSET h f v", QUEUED),
    ("HGETALL h", QUEUED),
    ("LPUSH a x", QUEUED),
    ("PING", QUEUED),
    ("EXEC", [OK, 2, NIL, 1, Map({"f": "v"}), WRONGTYPE, Simple("PONG")]),
    ("GET a", "2"),  # one failed; nothing is undone
    ("MULTI", OK),
    ("EXEC", []),
)

test_multi_errors = table(
    ("EXEC", Error("ERR EXEC without MULTI")),
    ("DISCARD", Error("ERR DISCARD without MULTI")),
    ("MULTI", OK),
    ("MULTI", Error("ERR MULTI calls can not be nested")),
    ("WATCH a", Error("ERR WATCH inside MULTI is not allowed")),
    ("SET a 1", QUEUED),
    ("EXEC", [OK]),  # neither of the two errors spoils the transaction
    ("MULTI", OK),
    ("SET a 2", QUEUED),
    ("SET a", wrong_arity("set")),
    ("EXEC", EXECABORT),
    ("GET a", "1"),
    ("MULTI", OK),
    ("NOPE", Error("ERR unknown command 'NOPE', with args beginning with: ")),
    ("EXEC", EXECABORT),
    ("MULTI", OK),
    ("SET a 3", QUEUED),
    ("DISCARD", OK),
    ("GET a", "1"),
    ("EXEC", Error("ERR EXEC without MULTI")),
    ("MULTI x", wrong_arity("multi")),
    ("DISCARD x", wrong_arity("discard")),
    ("WATCH", wrong_arity("watch")),
    ("UNWATCH x", wrong_arity("unwatch")),
    ("UNWATCH", OK),
)

test_select_and_protocol_within_a_transaction = table(
    ("MULTI", OK),
    ("SELECT 3", QUEUED),
    ("SET k three", QUEUED),
    ("SELECT 0", QUEUED),
    ("GET k", QUEUED),
    ("EXEC", [OK, OK, OK, NIL]),
    ("SELECT 3", OK),
    ("GET k", "three"),
)

test_what_may_not_be_queued = table(
    ("MULTI", OK),
    ("SUBSCRIBE ch", QUEUED),
    ("DISCARD", OK),
    ("MULTI", OK),
    ("MONITOR", one_of(QUEUED, error_like("ERR .*"))),
    ("DISCARD", OK),
)


CHANGES = [
    "SET k new", "DEL k", "APPEND k x", "EXPIRE k 100", "RENAME k other", "RENAME other k", "MSET a 1 k 2", "FLUSHDB", "FLUSHALL",
    "SWAPDB 0 1", "GETDEL k", "COPY other k REPLACE", "PEXPIREAT k 1", "UNLINK a k",
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_to_a_watched_key_aborts(c, connect, change):
    other = connect()
    other.pipeline("SET k old", "SET other o")
    check(c, ("WATCH k", OK), ("GET k", "old"))
    assert not isinstance(other(change), Error)
    check(
        c,
        ("MULTI", OK),
        ("SET proof x", QUEUED),
        ("EXEC", NIL_ARRAY),
        ("EXISTS proof", 0),
        ("MULTI", OK),  # the watch is over
        ("SET proof x", QUEUED),
        ("EXEC", [OK]),
    )


@pytest.mark.parametrize("no_change", ["GET k", "TTL k", "SET other x", "DEL nothing", "SETNX k x", "EXPIRE nothing 100", "TOUCH k"])
def test_what_does_not_change_a_watched_key_does_not_abort(c, connect, no_change):
    other = connect()
    other("SET k old")
    c("WATCH k")
    other(no_change)
    check(c, ("MULTI", OK), ("GET k", QUEUED), ("EXEC", ["old"]))


def test_watch_of_a_missing_key_notices_its_creation(c, connect):
    c("WATCH nothing")
    connect()("SET nothing v")
    check(c, ("MULTI", OK), ("EXEC", NIL_ARRAY))
    c("WATCH nothing2")
    connect()("FLUSHALL")
    check(c, ("MULTI", OK), ("EXEC", []))


def test_a_watched_key_of_another_database_is_another_key(c, connect):
    other = connect()
    c("WATCH k")
    other("SELECT 1")
    other("SET k v")
    check(c, ("MULTI", OK), ("EXEC", []))


def test_unwatch_discard_and_exec_end_a_watch(c, connect):
    other = connect()
    for end in [["UNWATCH"], ["MULTI", "DISCARD"], ["MULTI", "EXEC"]]:
        c("WATCH k")
        c.pipeline(*end)
        other("INCR k")
        check(c, ("MULTI", OK), ("EXEC", []))


def test_ones_own_change_aborts_as_well(c):
    check(c, ("WATCH k", OK), ("SET k v", OK), ("MULTI", OK), ("EXEC", NIL_ARRAY))


def test_a_watched_key_that_expires_aborts(c):
    c("SET k v PX 30")
    c("WATCH k")
    eventually(lambda: c("EXISTS k") == 0)
    check(c, ("MULTI", OK), ("EXEC", NIL_ARRAY))


def test_a_key_that_had_expired_when_it_was_watched_does_not_abort(c):
    c("DEBUG SET-ACTIVE-EXPIRE 0")
    try:
        c("SET k v PX 1")
        eventually(lambda: c("PTTL k") == -2)
        check(c, ("WATCH k", OK), ("MULTI", OK), ("PING", QUEUED), ("EXEC", [Simple("PONG")]))
    finally:
        c("DEBUG SET-ACTIVE-EXPIRE 1")


def test_a_client_that_leaves_within_multi_leaves_nothing(c, connect):
    other = connect()
    other.pipeline("MULTI", "SET k v")
    other.close()
    assert c("EXISTS k") == 0


def test_a_long_transaction(c):
    count = 5000
    replies = c.pipeline("MULTI", *[("RPUSH", f"l{i % 50}", i) for i in range(count)], "EXEC")
    assert replies[1:-1] == [QUEUED] * count
    assert replies[-1] == [i // 50 + 1 for i in range(count)]


def test_nothing_comes_between_the_commands_of_a_transaction(c, connect):
    other = connect()
    for i in range(200):
        c.raw(b"".join(encode(*words) for words in [("MULTI",), ("SET", "k", i), ("GET", "k"), ("GET", "k"), ("EXEC",)]))
        other.send("SET", "k", "foreign")
        replies = [c.read() for _ in range(5)]
        assert replies[-1] == [OK, str(i).encode(), str(i).encode()]
        assert other.read() == OK


covers("WATCH", "EXEC", "DISCARD", "UNWATCH", "MULTI")
