"""What waits of test_lists.py: WATCH."""

import pytest

from harness import *
from harness import NIL_ARRAY, OK


@pytest.mark.parametrize(
    "command, disturbs",
    [
        ("RPUSH l x", True),
        ("LPUSHX l x", True),
        ("LPOP l", True),
        ("LPOP l 0", False),
        ("LSET l 0 a", True),
        ("LSET l 9 a", False),
        ("LINSERT l AFTER a x", True),
        ("LINSERT l AFTER nothing x", False),
        ("LREM l 0 a", True),
        ("LREM l 0 nothing", False),
        ("LTRIM l 0 -1", True),  # even one that removes nothing
        ("RPOPLPUSH l {l}2", True),
        ("LMOVE {l}3 l LEFT LEFT", True),
        ("LMPOP 1 l LEFT", True),
        ("LRANGE l 0 -1", False),
        ("LPOS l a", False),
    ],
)
def test_a_watched_list_is_disturbed_by_changes_only(c, connect, command, disturbs):
    check(c, ("RPUSH l a b", 2), ("RPUSH {l}3 z", 1), ("WATCH l", OK))
    connect()(command)
    check(c, ("MULTI", OK), ("PING", Simple("QUEUED")), ("EXEC", NIL_ARRAY if disturbs else [Simple("PONG")]))
