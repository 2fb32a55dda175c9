"""What waits of test_sets.py: keyspace notifications and WATCH."""

from harness import *
from harness import NIL_ARRAY, OK


def test_writes_of_sets_are_announced(server, c, connect):
    with server.config(notify_keyspace_events="KEA"):
        listener = connect()
        listener("PSUBSCRIBE", "__keyevent@0__:*")
        c.pipeline(
            "SADD {s}a 1 2 3 4", "SADD {s}a 1", "SREM {s}a 9", "SREM {s}a 1", "SMOVE {s}a {s}b 2", "SMOVE {s}a {s}b 9",
            "SPOP {s}b", "SPOP {s}a 1", "SPOP {s}a 9", "SADD {s}a 1", "SREM {s}a 1", "SADD {s}a 1",
            "SUNIONSTORE {s}d {s}a", "SINTERSTORE {s}d {s}a", "SDIFFSTORE {s}d {s}a", "SDIFFSTORE {s}d {s}d {s}a", "SDIFFSTORE {s}d {s}d {s}a",
            "SINTERSTORE {s}a {s}none", "SINTERSTORE {s}a {s}none",
        )  # fmt: skip
        events = [
            ("sadd", "a"), ("srem", "a"), ("srem", "a"), ("sadd", "b"), ("spop", "b"), ("del", "b"),
            ("spop", "a"), ("spop", "a"), ("del", "a"), ("sadd", "a"), ("srem", "a"), ("del", "a"), ("sadd", "a"),
            ("sunionstore", "d"), ("sinterstore", "d"), ("sdiffstore", "d"), ("del", "d"), ("del", "a"),
        ]  # fmt: skip
        for event, key in events:
            channel, told = listener.read()[2:]
            assert (channel.decode(), told.decode()) == (f"__keyevent@0__:{event}", f"{{s}}{key}")


test_a_write_that_changes_nothing_leaves_a_watched_set_alone = table(
    ("SADD s a", 1),
    ("WATCH s", OK),
    ("SADD s a", 0),
    ("SREM s none", 0),
    ("SMOVE s other none", 0),
    ("SMOVE s s a", 1),
    ("SPOP s 0", Set([])),
    ("MULTI", OK),
    ("PING", Simple("QUEUED")),
    ("EXEC", [Simple("PONG")]),
    ("WATCH s", OK),
    ("SADD s b", 1),
    ("MULTI", OK),
    ("PING", Simple("QUEUED")),
    ("EXEC", NIL_ARRAY),
)
