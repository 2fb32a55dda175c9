"""MULTI, EXEC, DISCARD, WATCH, UNWATCH."""

import pytest

from harness import *
from harness import NIL, NIL_ARRAY, NULL, OK

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
    ("SHUTDOWN", Error("ERR Command not allowed inside a transaction")),
    ("PING", QUEUED),
    ("EXEC", EXECABORT),
    ("MULTI", OK),
    ("EXEC x", Error("EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command")),
    ("EXEC", Error("ERR EXEC without MULTI")),
    ("MULTI", OK),
    ("MULTI x", wrong_arity("multi")),
    ("EXEC", EXECABORT),
    ("MULTI", OK),
    ("CLIENT NOPE", Error("ERR unknown subcommand 'NOPE'. Try CLIENT HELP.")),
    ("EXEC", EXECABORT),
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
    assert c.pipeline("SET k v PX 300", "WATCH k") == [OK, OK]
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


# Everything below holds wherever the keys live: each table names keys of many slots.
KEYS = [f"key:{i}" for i in range(12)]


def test_commands_that_concern_all_shards_run_in_their_place(c):
    c.pipeline("FLUSHALL", *[("SET", key, "old") for key in KEYS])
    block = [
        "DBSIZE", ("MGET", *KEYS[:4]), ("SET", KEYS[0], "new"), ("RENAME", KEYS[0], "other"), "DBSIZE", "SELECT 5", "DBSIZE",
        ("SET", KEYS[1], "five"), "SWAPDB 0 5", ("GET", KEYS[1]), ("EXISTS", "other"), "FLUSHDB", "DBSIZE", "SELECT 0", ("GET", KEYS[1]),
        ("MOVE", KEYS[1], 3), "DBSIZE", "CONFIG SET maxmemory-samples 7", "CONFIG GET maxmemory-samples", "CONFIG SET maxmemory-samples x",
        "FLUSHALL", "KEYS *", "PING",
    ]  # fmt: skip
    replies = c.pipeline("MULTI", *block, "EXEC")
    assert replies[1:-1] == [QUEUED] * len(block)
    got = replies[-1]
    assert got[:17] == [
        12, [b"old"] * 4, OK, OK, 12, OK, 0, OK, OK, b"old", 1, OK, 0, OK, b"five", 1, 0,
    ]  # fmt: skip
    assert got[17:19] == [OK, [b"maxmemory-samples", b"7"]]
    assert isinstance(got[19], Error)
    assert got[20:] == [OK, [], Simple("PONG")]
    check(c, ("CONFIG SET maxmemory-samples 5", OK), ("DBSIZE", 0), ("SELECT 3", OK), ("DBSIZE", 0))


def test_a_scan_within_a_block_sees_the_block_s_keys(c):
    replies = c.pipeline("MULTI", *[("SET", key, 1) for key in KEYS], "SCAN 0 COUNT 1000", "CLIENT LIST", "EXEC")
    assert sorted(replies[-1][-2][1]) == sorted(key.encode() for key in KEYS)
    assert b" flags=x " in replies[-1][-1] and b" multi=14 " in replies[-1][-1]


def test_select_in_a_block_lasts_and_leads_each_command_to_its_database(c):
    replies = c.pipeline(
        "MULTI", *[word for db, key in enumerate(KEYS) for word in (("SELECT", db), ("SET", key, db), ("MOVE", key, 15))], "SELECT 99", "EXEC",
        "CLIENT INFO", "SELECT 15", ("MGET", *KEYS),
    )  # fmt: skip
    assert replies[-4] == [OK, OK, 1] * 12 + [Error("ERR DB index is out of range")]
    assert b" db=11 " in replies[-3]
    assert replies[-1] == [str(db).encode() for db in range(12)]


def test_reply_modes_and_protocol_within_a_block(c):
    c.pipeline("MULTI", "HELLO 3", "GET nothing", "HGETALL nothing")
    got = c("EXEC")
    assert got[1:] == [NULL, Map({})]
    c("HELLO 2")
    c.raw(b"".join(encode(*line.split()) for line in ["MULTI", "SET k 1", "CLIENT REPLY SKIP", "EXEC", "GET k", "PING"]))
    # The mode comes to bear at once: its own reply is left out, and that of the command behind EXEC, so that
    # the reply after it stands for the missing element.
    assert [c.read() for _ in range(4)] == [OK, QUEUED, QUEUED, [OK, Simple("PONG")]]


def test_a_client_in_multi_is_shown_as_such(c, connect):
    other = connect()
    own = other("CLIENT ID")

    def line():
        return next(line for line in c("CLIENT LIST").decode().splitlines() if line.startswith(f"id={own} "))

    assert " multi=-1 " in line()
    other.pipeline("WATCH a", "MULTI", "GET a")
    assert " flags=x " in line() and " multi=1 " in line()
    c("SET a 1")
    eventually(lambda: " flags=xd " in line())
    assert other("EXEC") == NIL_ARRAY
    assert " flags=N " in line() and " multi=-1 " in line()


def test_memory_is_refused_when_queueing_and_at_exec(server, c, connect):
    other = connect()
    assert other.pipeline("MULTI", "SET k v")[-1] == QUEUED
    reader = connect()
    assert reader.pipeline("SET old v", "MULTI", "GET old")[-1] == QUEUED
    with server.config(maxmemory=1):
        oom = "OOM command not allowed when used memory > 'maxmemory'."
        assert other("EXEC") == Error(f"EXECABORT Transaction discarded because of: {oom}")
        assert reader("GET old") == Error(oom)
        assert reader("EXEC") == EXECABORT
        assert c.pipeline("MULTI", "EXEC") == [OK, []]
    assert c("EXISTS k") == 0


def test_reset_ends_a_transaction_and_its_watch(c, connect):
    c.pipeline("WATCH k", "MULTI")
    assert c("RESET") == Simple("RESET")
    check(c, ("GET nothing", NIL), ("EXEC", Error("ERR EXEC without MULTI")))
    connect()("SET k v")
    check(c, ("MULTI", OK), ("EXEC", []))
