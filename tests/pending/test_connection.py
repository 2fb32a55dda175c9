"""What waits of test_connection.py: CLIENT PAUSE and GETREDIR, subscribed clients."""

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


test_client_getredir_and_pause_errors = table(
    ("CLIENT GETREDIR", -1),
    ("CLIENT PAUSE x", Error("ERR timeout is not an integer or out of range")),
    ("CLIENT PAUSE -1", Error("ERR timeout is negative")),
    ("CLIENT PAUSE 1 maybe", Error("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    ("CLIENT UNPAUSE", OK),
)


def test_timeout_spares_blocked_and_subscribed_clients(server, connect):
    with server.config(timeout=1):
        idle, busy = connect(), connect()
        blocked = connect()
        blocked.send("BLPOP l 0")
        subscribed = connect()
        assert subscribed("SUBSCRIBE ch") == [b"subscribe", b"ch", 1]

        def idle_is_gone():
            assert busy("PING") == Simple("PONG")
            try:
                return idle.silent(0.05) is False and idle.closed()
            except ConnectionLost:
                return True

        eventually(idle_is_gone)
        assert busy("RPUSH l x") == 1
        assert blocked.read() == [b"l", b"x"]
        assert busy("PUBLISH ch hello") == 1
        assert subscribed.read() == [b"message", b"ch", b"hello"]


covers("SUBSCRIBE", "PUBLISH")
