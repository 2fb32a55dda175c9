"""What waits of test_connection.py: CLIENT PAUSE, UNBLOCK and GETREDIR, RESET within MULTI, blocked clients."""

from harness import *
from harness import NIL, NIL_ARRAY, OK


def test_client_pause_write_holds_writes_and_lets_reads_pass(c, connect):
    writer, reader = connect(), connect()
    c("SET k old")
    assert c("CLIENT PAUSE 60000 WRITE") == OK
    writer.send("SET k new")
    assert reader("GET k") == b"old"
    assert writer.silent()
    assert c("CLIENT UNPAUSE") == OK
    assert writer.read() == OK
    assert reader("GET k") == b"new"


def test_client_pause_all_ends_by_itself(c, connect):
    reader = connect()
    assert c("CLIENT PAUSE 200") == OK
    reader.send("GET k")
    assert reader.silent(0.05)
    assert reader.read() == NIL


def test_client_unblock_wakes_a_blocked_client(server, c, connect):
    for reason, expected in [
        ((), NIL_ARRAY),
        (("TIMEOUT",), NIL_ARRAY),
        (("ERROR",), Error("UNBLOCKED client unblocked via CLIENT UNBLOCK")),
    ]:
        blocked = connect()
        own = blocked("CLIENT ID")
        blocked.send("BLPOP l 0")
        eventually(lambda: b"blocked_clients:1" in c("INFO clients"))
        assert c("CLIENT", "UNBLOCK", own, *reason) == 1
        assert blocked.read() == expected
        assert c("CLIENT", "UNBLOCK", own) == 0


test_client_getredir_unblock_and_pause_errors = table(
    ("CLIENT GETREDIR", -1),
    ("CLIENT UNBLOCK 999999", 0),
    ("CLIENT UNBLOCK x", NOT_AN_INTEGER),
    ("CLIENT UNBLOCK 1 maybe", Error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
    ("CLIENT PAUSE x", Error("ERR timeout is not an integer or out of range")),
    ("CLIENT PAUSE -1", Error("ERR timeout is negative")),
    ("CLIENT PAUSE 1 maybe", Error("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    ("CLIENT UNPAUSE", OK),
)


def test_reset_ends_a_transaction(c):
    c("MULTI")
    assert c("RESET") == Simple("RESET")
    check(c, ("GET nothing", NIL), ("EXEC", Error("ERR EXEC without MULTI")))


def test_timeout_spares_blocked_clients(server, connect):
    with server.config(timeout=1):
        idle, busy = connect(), connect()
        blocked = connect()
        blocked.send("BLPOP l 0")

        def idle_is_gone():
            assert busy("PING") == Simple("PONG")
            try:
                return idle.silent(0.05) is False and idle.closed()
            except ConnectionLost:
                return True

        eventually(idle_is_gone)
        assert busy("RPUSH l x") == 1
        assert blocked.read() == [b"l", b"x"]


covers("MULTI", "EXEC", "BLPOP")
