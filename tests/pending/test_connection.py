"""What waits of test_connection.py: CLIENT PAUSE and GETREDIR."""

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
