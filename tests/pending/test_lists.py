"""What waits of test_lists.py: keyspace notifications and WATCH."""

import pytest

from harness import *
from harness import NIL_ARRAY, OK


def events_of(server, connect, *commands):
    """The keyspace events of the commands, as "event key"."""
    with server.config(notify_keyspace_events="EA"):
        listener, client = connect(), connect()
        listener("PSUBSCRIBE __keyevent@0__:*")
        for command in commands:
            client(*words_of(command))
        client("SET end 1")
        events = []
        while not events or events[-1] != "set end":
            _, _, channel, key = listener.read()
            events.append(f"{channel.decode().split(':')[1]} {key.decode()}")
        return events[:-1]


@pytest.mark.parametrize(
    "commands, events",
    [
        (["RPUSH l a b", "LPUSH l c"], ["rpush l", "lpush l"]),
        (["RPUSHX l a", "RPUSH l a", "RPUSHX l b", "LPUSHX l c"], ["rpush l", "rpush l", "lpush l"]),
        (["RPUSH l a b", "LPOP l", "RPOP l"], ["rpush l", "lpop l", "rpop l", "del l"]),
        (["RPUSH l a b", "LPOP l 0", "LPOP l 5"], ["rpush l", "lpop l", "del l"]),
        (["RPUSH l a", "LSET l 0 b", "LSET l 1 b"], ["rpush l", "lset l"]),
        (["RPUSH l a", "LINSERT l BEFORE a b", "LINSERT l BEFORE x b"], ["rpush l", "linsert l"]),
        (["RPUSH l a b", "LREM l 0 x", "LREM l 0 a", "LREM l 0 b"], ["rpush l", "lrem l", "lrem l", "del l"]),
        (["RPUSH l a b", "LTRIM l 0 -1", "LTRIM l 5 6", "LTRIM l 0 1"], ["rpush l", "ltrim l", "ltrim l", "del l"]),
        (["RPUSH l a b", "LMPOP 2 {l}x l LEFT", "LMPOP 1 l RIGHT COUNT 2"], ["rpush l", "lpop l", "rpop l", "del l"]),
        (
            ["RPUSH {l}1 a b", "RPOPLPUSH {l}1 {l}2", "LMOVE {l}1 {l}2 LEFT RIGHT"],
            ["rpush {l}1", "lpush {l}2", "rpop {l}1", "rpush {l}2", "lpop {l}1", "del {l}1"],
        ),
        (["RPUSH l a", "RPOPLPUSH l l"], ["rpush l", "lpush l", "rpop l"]),
    ],
    ids=lambda value: value[-1].replace(" ", "_") if isinstance(value, list) else None,
)
def test_keyspace_events_name_what_happened_in_order(server, connect, commands, events):
    assert events_of(server, connect, *commands) == events


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
