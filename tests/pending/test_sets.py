"""What waits of test_sets.py: WATCH."""

from harness import *
from harness import NIL_ARRAY, OK


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
