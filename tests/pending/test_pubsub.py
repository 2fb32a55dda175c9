"""Channels, patterns and shard channels: who hears what, and what a subscriber may still say."""

import pytest

from harness import *
from harness import NIL, OK


def pushed(client, *words):
    """What the server sends unasked: an array in RESP2, a push in RESP3."""
    words = [word.encode() if isinstance(word, str) else word for word in words]
    return Push(words) if client.protocol == 3 else words


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def sub(request, connect):
    return connect(request.param)


def test_a_subscriber_hears_its_channels_and_patterns(c, sub):
    sub.send("SUBSCRIBE a b")
    assert [sub.read(), sub.read()] == [pushed(sub, "subscribe", "a", 1), pushed(sub, "subscribe", "b", 2)]
    sub.send("PSUBSCRIBE a* ?")
    assert [sub.read(), sub.read()] == [pushed(sub, "psubscribe", "a*", 3), pushed(sub, "psubscribe", "?", 4)]
    assert c("PUBLISH a one") == 3
    heard = [sub.read() for _ in range(3)]
    assert heard[0] == pushed(sub, "message", "a", "one")
    assert sorted(map(repr, heard[1:])) == sorted(
        repr(pushed(sub, "pmessage", pattern, "a", "one")) for pattern in ("a*", "?")
    )
    assert c("PUBLISH nobody x") == 0
    assert c("PUBLISH abc two") == 1
    assert sub.read() == pushed(sub, "pmessage", "a*", "abc", "two")
    sub.send("UNSUBSCRIBE a")
    assert sub.read() == pushed(sub, "unsubscribe", "a", 3)
    sub.send("PUNSUBSCRIBE")
    assert sorted(repr(sub.read()[1]) for _ in range(2)) == ["b'?'", "b'a*'"]
    sub.send("UNSUBSCRIBE")
    assert sub.read() == pushed(sub, "unsubscribe", "b", 0)
    assert c("PUBLISH a three") == 0
    assert sub("GET k") in (NIL, NULL)


def test_unsubscribing_from_nothing_is_answered(sub):
    nothing = NULL if sub.protocol == 3 else NIL
    for verb in ("unsubscribe", "punsubscribe", "sunsubscribe"):
        sub.send(verb.upper())
        assert sub.read() == pushed(sub, verb, nothing, 0)
        sub.send(verb.upper(), "a")
        assert sub.read() == pushed(sub, verb, "a", 0)


def test_subscribing_twice_counts_once(c, sub):
    sub.send("SUBSCRIBE a a")
    assert [sub.read(), sub.read()] == [pushed(sub, "subscribe", "a", 1)] * 2
    assert c("PUBLISH a x") == 1
    assert sub.read() == pushed(sub, "message", "a", "x")
    assert sub.silent(0.02)


def test_a_resp2_subscriber_may_say_little(connect):
    sub = connect()
    assert sub("SUBSCRIBE a") == [b"subscribe", b"a", 1]
    check(
        sub,
        (
            "GET k",
            Error(
                "ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
            ),
        ),
        ("PING", ["pong", ""]),
        ("PING hello", ["pong", "hello"]),
        ("PSUBSCRIBE p", ["psubscribe", "p", 2]),
        ("RESET", Simple("RESET")),
        ("GET k", NIL),
    )
    assert sub("SUBSCRIBE a") == [b"subscribe", b"a", 1]
    assert sub("QUIT") == OK and sub.closed()


def test_a_resp3_subscriber_may_say_everything(c, connect):
    sub = connect(3)
    assert sub("SUBSCRIBE a") == Push([b"subscribe", b"a", 1])
    check(sub, ("GET k", NIL), ("SET k v", OK), ("PING", Simple("PONG")), ("PUBLISH nobody x", 0))
    sub.send("PUBLISH a self")
    replies = [sub.read(), sub.read()]
    assert Push([b"message", b"a", b"self"]) in replies and 1 in replies


def test_shard_channels_are_apart_from_channels(c, sub):
    sub.send("SSUBSCRIBE a")
    assert sub.read() == pushed(sub, "ssubscribe", "a", 1)
    sub.send("SUBSCRIBE a")
    assert sub.read() == pushed(sub, "subscribe", "a", 1)
    assert c("SPUBLISH a shard") == 1
    assert sub.read() == pushed(sub, "smessage", "a", "shard")
    assert c("PUBLISH a plain") == 1
    assert sub.read() == pushed(sub, "message", "a", "plain")
    sub.send("SUNSUBSCRIBE a")
    assert sub.read() == pushed(sub, "sunsubscribe", "a", 0)


def test_pubsub_introspection(c, connect):
    first, second = connect(3), connect(3)
    for client, words in [(first, "SUBSCRIBE a b"), (second, "SUBSCRIBE b"), (second, "PSUBSCRIBE x* y*"), (first, "PSUBSCRIBE x*")]:
        client.send(words)
        for _ in words.split()[1:]:
            client.read()
    assert second("SSUBSCRIBE s") == Push([b"ssubscribe", b"s", 1])
    check(
        c,
        ("PUBSUB CHANNELS", unordered("a", "b")),
        ("PUBSUB CHANNELS a*", ["a"]),
        ("PUBSUB CHANNELS zzz", []),
        ("PUBSUB NUMSUB", []),
        ("PUBSUB NUMSUB a b c", ["a", 1, "b", 2, "c", 0]),
        ("PUBSUB NUMPAT", 2),  # patterns, not subscriptions
        ("PUBSUB SHARDCHANNELS", ["s"]),
        ("PUBSUB SHARDCHANNELS q*", []),
        ("PUBSUB SHARDNUMSUB s q", ["s", 1, "q", 0]),
        ("PUBSUB HELP", help_of("PUBSUB")),
        ("PUBSUB", wrong_arity("pubsub")),
        ("PUBSUB NUMPAT x", wrong_arity("pubsub|numpat")),
        ("PUBSUB NOPE", Error("ERR unknown subcommand 'NOPE'. Try PUBSUB HELP.")),
        ("PUBLISH a", wrong_arity("publish")),
        ("SUBSCRIBE", wrong_arity("subscribe")),
        ("PSUBSCRIBE", wrong_arity("psubscribe")),
    )
    first.close()
    second.close()
    eventually(lambda: c("PUBSUB CHANNELS") == [] and c("PUBSUB NUMPAT") == 0)


def test_messages_of_one_publisher_arrive_complete_and_in_order(c, connect):
    """Whichever shards publisher and subscribers live on."""
    subs = [connect(3) for _ in range(6)]
    for sub in subs:
        assert sub("SUBSCRIBE ch") == Push([b"subscribe", b"ch", 1])
    count = 500
    assert c.pipeline(*[("PUBLISH", "ch", i) for i in range(count)]) == [len(subs)] * count
    for sub in subs:
        assert [sub.read() for _ in range(count)] == [Push([b"message", b"ch", str(i).encode()]) for i in range(count)]


def test_what_was_written_before_a_publish_can_be_read_after_the_message(c, connect):
    subs = [connect(3) for _ in range(3)]
    for sub in subs:
        sub("SUBSCRIBE ch")
    for i in range(100):
        c.pipeline(("SET", f"k{i}", i), ("PUBLISH", "ch", i))
        for sub in subs:
            assert sub.read()[2] == str(i).encode()
            assert sub("GET", f"k{i}") == str(i).encode()


def test_publish_within_a_transaction_and_a_script(c, connect):
    sub = connect(3)
    sub("SUBSCRIBE ch")
    assert c.pipeline("MULTI", "PUBLISH ch one", "SET k v", "EXEC")[-1] == [1, OK]
    assert c("EVAL", "return redis.call('PUBLISH', 'ch', 'two')", 0) == 1
    assert [sub.read()[2], sub.read()[2]] == [b"one", b"two"]


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
        ("KEA", "XADD x 1-1 f v", [("xadd", "x")]),
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
        c("PUBLISH __key@0__:end x")
        heard = []
        while (message := listener.read())[2] != b"__key@0__:end":
            heard.append((message[2].decode(), message[3].decode()))
    expected = []
    for event, key in events:
        expected += [(f"__keyspace@0__:{key}", event)] if "K" in flags else []
        expected += [(f"__keyevent@0__:{event}", key)] if "E" in flags else []
    assert heard == expected


def test_expiry_is_an_event(server, c, connect):
    with server.config(notify_keyspace_events="Ex"):
        listener = connect(3)
        listener("SUBSCRIBE __keyevent@0__:expired")
        c("SET k v PX 20")
        assert listener.read() == Push([b"message", b"__keyevent@0__:expired", b"k"])


def test_a_subscriber_that_does_not_read_is_disconnected_at_its_limit(server, c, connect):
    with server.config(client_output_buffer_limit="pubsub 1000000 0 0"):
        lazy = connect()
        lazy("SUBSCRIBE ch")
        message = "x" * 100_000
        eventually(lambda: c("PUBLISH", "ch", message) == 0)
        assert c("PUBSUB CHANNELS") == []


covers(
    "SUBSCRIBE", "PSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SSUBSCRIBE", "SUNSUBSCRIBE", "PUBLISH", "SPUBLISH", "PUBSUB|CHANNELS",
    "PUBSUB|NUMSUB", "PUBSUB|NUMPAT", "PUBSUB|SHARDCHANNELS", "PUBSUB|SHARDNUMSUB", "PUBSUB|HELP",
)  # fmt: skip
