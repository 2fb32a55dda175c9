"""What waits of test_hashes.py: keyspace notifications and WATCH."""

from harness import *
from harness import NIL_ARRAY, OK


def test_writes_of_hashes_are_announced(server, c, connect):
    with server.config(notify_keyspace_events="KEA"):
        listener = connect()
        listener("PSUBSCRIBE", "__keyevent@0__:*")
        c.pipeline(
            "HSET h a 1 b 2", "HSET h a 2", "HMSET h c 1", "HSETNX h a 1", "HSETNX h d 1", "HINCRBY h n 1",
            "HINCRBYFLOAT h n 1", "HDEL h none", "HDEL h a b", "HDEL h c d n", "HDEL h x",
        )  # fmt: skip
        events = ["hset", "hset", "hset", "hset", "hincrby", "hincrbyfloat", "hdel", "hdel", "del"]
        for event in events:
            message = listener.read()
            assert message == [b"pmessage", b"__keyevent@0__:*", f"__keyevent@0__:{event}".encode(), b"h"]


test_a_write_that_changes_nothing_leaves_a_watched_key_alone = table(
    ("HSET h a 1", 1),
    ("WATCH h", OK),
    ("HSETNX h a 2", 0),
    ("HDEL h none", 0),
    ("HINCRBY h a x", NOT_AN_INTEGER),
    ("MULTI", OK),
    ("PING", Simple("QUEUED")),
    ("EXEC", [Simple("PONG")]),
    ("WATCH h", OK),
    ("HSET h a 1", 0),  # the same value again still counts as a change
    ("MULTI", OK),
    ("PING", Simple("QUEUED")),
    ("EXEC", NIL_ARRAY),
)
