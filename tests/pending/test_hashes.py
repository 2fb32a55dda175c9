"""What waits of test_hashes.py: WATCH."""

from harness import *
from harness import NIL_ARRAY, OK


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
