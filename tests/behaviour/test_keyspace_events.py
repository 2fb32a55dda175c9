"""Keyspace events: which, in which order, and on which channels.

Random commands of every family go to the server under test and to a real redis-server, and a listener on each must
hear the same events in the same order.
"""

import random

import pytest
from test_same_as_redis import TEMPLATES, VOCABULARY, reference, unless_redis_falls  # noqa: F401 (a fixture)

from harness import *
from harness import OK
from harness.grammar import expand
from harness.table import _shown as shown

COMMANDS, MISMATCHES_SHOWN = 400, 10


class Listener:
    """Hears every event of one server."""

    def __init__(self, client):
        self.client = client
        assert self.client("PSUBSCRIBE", "__key*__:*") == Push([b"psubscribe", b"__key*__:*", 1])

    def hear(self, count, timeout=10):
        """The next `count` events, or those that come in time."""
        heard = []
        while len(heard) < count:
            try:
                heard.append(tuple(self.client.read(timeout)[2:]))
            except NoReply:
                break
        return heard

    def hear_until_end(self, client):
        """All events of what `client` did so far, where they and what it says now go the same way."""
        client("PUBLISH", "__key@0__:end", "x")
        heard = []
        while (event := tuple(self.client.read()[2:])) != (b"__key@0__:end", b"x"):
            heard.append(event)
        return heard


@pytest.mark.parametrize("flags", ["KEA", "Emn"])
@pytest.mark.parametrize("family", TEMPLATES)
def test_random_commands_make_the_events_of_redis(server, reference, family, flags):
    unless_redis_falls((server, reference), lambda: compare_events(server, reference, family, flags))


def compare_events(server, reference, family, flags):
    """Random commands of a family make the same events on both."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    mismatches, history = {}, []
    with server.config(notify_keyspace_events=flags), reference.config(notify_keyspace_events=flags):
        with server.client() as ours, reference.client() as theirs, server.client(3) as near, reference.client(3) as far:
            mine, its = Listener(near), Listener(far)

            def fresh():
                for client in (ours, theirs):
                    empty = ("SELECT 0", "FLUSHALL", "FUNCTION FLUSH", "SCRIPT FLUSH", "DEBUG SET-ACTIVE-EXPIRE 0")
                    assert client.pipeline(*empty) == [OK] * len(empty)
                history.clear()

            fresh()
            for _ in range(COMMANDS):
                command = expand(rng.choice(TEMPLATES[family]), rng, VOCABULARY)
                if command[0] in ("MULTI", "EXEC", "DISCARD"):
                    continue  # what says that all events are out would be queued
                ours(*command), theirs(*command)
                wanted = its.hear_until_end(theirs)
                heard = mine.hear(len(wanted))
                if heard == wanted and server.target != "corelane-3":
                    # On several shards the end may overtake what another shard tells: there, whatever is
                    # too much shows at the next command that makes events.
                    heard += mine.hear_until_end(ours)
                if heard != wanted:
                    before = [shown(line) for line in history if set(line[1:]) & set(command[1:])][-4:]
                    before = "".join(f"\n        after   {line}" for line in before)
                    mismatches.setdefault(
                        (command[0], *(event for _, event in wanted)),
                        f"{shown(command)}\n        redis   {wanted}\n        got     {heard}{before}",
                    )
                    fresh()
                    while not near.silent(0.05):
                        near.read()
                    if len(mismatches) >= MISMATCHES_SHOWN:
                        break
                history.append(command)
            for client in (ours, theirs):
                assert client("DEBUG SET-ACTIVE-EXPIRE 1") == OK
    assert not mismatches, f"seed {seed}\n    " + "\n    ".join(mismatches.values())


@pytest.mark.parametrize(
    "flags, command, events",
    [
        ("KEA", "SET k v", [("set", "k")]),
        ("KEA", "DEL gone", []),
        ("KEA", "EXPIRE k0 100", [("expire", "k0")]),
        ("KEA", "DEL k0", [("del", "k0")]),
        ("KEA", "RENAME k0 k1", [("rename_from", "k0"), ("rename_to", "k1")]),
        ("KEA", "LPUSH l a b", [("lpush", "l")]),
        ("KEA", "RPOP l0", [("rpop", "l0"), ("del", "l0")]),
        ("KEA", "SADD s a", [("sadd", "s")]),
        ("KEA", "HSET h f v", [("hset", "h")]),
        ("KEA", "ZADD z 1 a", [("zadd", "z")]),
        ("KEA", "INCR n", [("incrby", "n")]),
        ("E$", "SET k v", [("set", "k")]),
        ("E$", "LPUSH l a", []),
        ("El", "LPUSH l a", [("lpush", "l")]),
        ("KEAn", "SET k v", [("new", "k"), ("set", "k")]),
        ("KEAm", "GET gone", [("keymiss", "gone")]),
        ("", "SET k v", []),
    ],
)
def test_keyspace_events_tell_what_happened(server, c, connect, flags, command, events):
    c.pipeline("SET k0 v", "RPUSH l0 a")
    with server.config(notify_keyspace_events=flags):
        listener = connect(3)
        listener("PSUBSCRIBE __key*__:*")
        c(command)
        expected = []
        for event, key in events:
            expected += [(f"__keyspace@0__:{key}", event)] if "K" in flags else []
            expected += [(f"__keyevent@0__:{event}", key)] if "E" in flags else []
        for channel, message in expected:
            assert listener.read()[2:] == [channel.encode(), message.encode()]
        c("PUBLISH __key@0__:end x")
        assert listener.read()[2:] == [b"__key@0__:end", b"x"]


def test_expiry_is_an_event(server, c, connect):
    with server.config(notify_keyspace_events="Ex"):
        listener = connect(3)
        listener("SUBSCRIBE __keyevent@0__:expired")
        c("SET k v PX 20")
        assert listener.read() == Push([b"message", b"__keyevent@0__:expired", b"k"])


def test_a_look_at_an_expired_key_is_an_event_before_those_of_the_command(server, c, connect):
    with server.config(notify_keyspace_events="EA"):
        listener = connect(3)
        listener("PSUBSCRIBE __key*__:*")
        assert c("DEBUG SET-ACTIVE-EXPIRE 0") == OK
        try:
            check(c, ("SET k v PX 1", OK))
            eventually(lambda: c("STRLEN k") == 0)
            check(c, ("SET k v PX 1", OK))
            eventually(lambda: c("APPEND k x") == 1)
            events = [listener.read()[2].decode().split(":")[1] for _ in range(7)]
        finally:
            c("DEBUG SET-ACTIVE-EXPIRE 1")
    assert events[:5] == ["set", "expire", "expired", "set", "expire"]
    assert [event for event in events if event != "append"][-1] == "expired"


def test_a_client_hears_of_its_own_command(server, connect):
    with server.config(notify_keyspace_events="KEA"):
        client = connect(3)
        for number in range(20):  # whichever shard owns the key
            key = f"k{number}"
            client("SUBSCRIBE", f"__keyspace@0__:{key}")
            client.send("SET", key, "v")
            replies = [client.read(), client.read()]
            assert Push([b"message", f"__keyspace@0__:{key}".encode(), b"set"]) in replies and OK in replies
            if server.target != "corelane-3":  # where another shard says the one and the other
                assert replies[1] == OK


def test_events_of_other_databases_name_them(server, c, connect):
    with server.config(notify_keyspace_events="KA"):
        listener = connect()
        listener("PSUBSCRIBE __key*__:*")
        c.pipeline("SET k v", "MOVE k 3", "SELECT 3", "COPY k k DB 5", "DEL k")
        heard = [tuple(word.decode() for word in listener.read()[2:]) for _ in range(5)]
    expected = [("0", "set"), ("0", "move_from"), ("3", "move_to"), ("5", "copy_to"), ("3", "del")]
    assert heard == [(f"__keyspace@{db}__:k", event) for db, event in expected]


def test_eviction_is_an_event(server, c, connect):
    listener = connect()
    listener("SUBSCRIBE __keyevent@0__:evicted")
    with server.config(notify_keyspace_events="Ee", maxmemory_policy="allkeys-random"):
        for number in range(100):
            c("SET", f"k{number}", "x" * 100)
        with server.config(maxmemory=1):
            c("SET k v")
            evicted = [listener.read() for _ in range(50)]
    assert all(channel == b"__keyevent@0__:evicted" and key.startswith(b"k") for _, channel, key in evicted)


covers("SET", "PSUBSCRIBE", "SUBSCRIBE", "PUBLISH", "DEBUG", "MOVE", "COPY")
