"""Channels, patterns and shard channels: who hears what, and what a subscriber may still say."""

import random
import threading

import pytest
from test_same_as_redis import reference  # noqa: F401 (a fixture)

from harness import *
from harness import NIL, OK
from harness.table import _shown as shown


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


LIMITED = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"


@pytest.mark.parametrize("subscribe", ["SUBSCRIBE a", "PSUBSCRIBE a*", "SSUBSCRIBE a"])
def test_what_a_resp2_subscriber_may_not_say_is_named(connect, subscribe):
    sub = connect()
    sub(subscribe)
    for command in ("hello 3", "client|list", "publish a b", "config|get *", "pubsub|channels", "mget a b", "dbsize"):
        name = command.split()[0]
        assert sub(*command.replace("|", " ").split()) == Error(f"ERR Can't execute '{name}': {LIMITED}")
    check(
        sub,
        ("NOSUCH", error_like("ERR unknown command 'NOSUCH'.*")),
        ("GET", wrong_arity("get")),
        ("PING a b", wrong_arity("ping")),
        ("CLIENT NOPE", error_like("ERR unknown subcommand 'NOPE'.*")),
    )


def test_a_subscriber_that_goes_back_to_resp2_is_limited(connect):
    sub = connect(3)
    sub("SUBSCRIBE a")
    sub.protocol = 2
    assert isinstance(sub("HELLO", 2), list)
    assert sub("GET k") == Error(f"ERR Can't execute 'get': {LIMITED}")
    assert sub("UNSUBSCRIBE a") == [b"unsubscribe", b"a", 0]
    assert sub("GET k") == NIL


def test_reset_ends_all_subscriptions(c, connect):
    sub = connect(3)
    for verb in ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"):
        sub.send(verb, "a", "b")
        assert [sub.read()[0], sub.read()[0]] == [verb.lower().encode()] * 2
    assert c("PUBLISH a x") == 2 and c("SPUBLISH b x") == 1
    assert [sub.read() for _ in range(3)] == [
        Push([b"message", b"a", b"x"]), Push([b"pmessage", b"a", b"a", b"x"]), Push([b"smessage", b"b", b"x"])
    ]  # fmt: skip
    assert sub("RESET") == Simple("RESET")
    assert c("PUBLISH a x") == 0 and c("SPUBLISH b x") == 0 and c("PUBSUB NUMPAT") == 0
    assert sub("GET k") == NIL  # RESP2 again


@pytest.mark.parametrize("mode", ["OFF", "SKIP"])
def test_messages_and_confirmations_are_no_replies(c, sub, mode):
    sub.send("CLIENT", "REPLY", mode)
    sub.send("SUBSCRIBE a")
    assert sub.read() == pushed(sub, "subscribe", "a", 1)
    assert c("PUBLISH a x") == 1
    assert sub.read() == pushed(sub, "message", "a", "x")
    sub.send("PING")
    if mode == "SKIP":  # SUBSCRIBE was the command to skip
        assert sub.read() == (Simple("PONG") if sub.protocol == 3 else [b"pong", b""])
    sub.send("UNSUBSCRIBE a")
    assert sub.read() == pushed(sub, "unsubscribe", "a", 0)


def test_a_publisher_hears_itself_before_its_reply(connect):
    both = connect(3)
    assert both("SUBSCRIBE a") == Push([b"subscribe", b"a", 1])
    assert both("PSUBSCRIBE a") == Push([b"psubscribe", b"a", 2])
    assert both("SSUBSCRIBE a") == Push([b"ssubscribe", b"a", 1])
    both.send("PUBLISH a x")
    assert [both.read() for _ in range(3)] == [Push([b"message", b"a", b"x"]), Push([b"pmessage", b"a", b"a", b"x"]), 2]
    both.send("SPUBLISH a x")
    assert [both.read(), both.read()] == [Push([b"smessage", b"a", b"x"]), 1]


def test_a_pipeline_of_a_subscriber_is_answered_in_order(c, connect):
    sub = connect(3)
    keys = [f"k{number}" for number in range(20)]
    c.pipeline(*[("SET", key, key) for key in keys])
    for round in range(10):
        commands = []
        for key in keys:
            commands += [("GET", key), ("SUBSCRIBE", f"{key}:{round}"), ("PUBLISH", f"{key}:{round}", "m"), ("UNSUBSCRIBE", f"{key}:{round}"), ("GET", key)]
        sub.raw(b"".join(encode(*command) for command in commands))
        for key in keys:
            channel = f"{key}:{round}".encode()
            assert [sub.read() for _ in range(6)] == [
                key.encode(), Push([b"subscribe", channel, 1]), Push([b"message", channel, b"m"]), 1, Push([b"unsubscribe", channel, 0]), key.encode()
            ]  # fmt: skip


def test_client_list_and_info_tell_of_subscribers(server, c, connect):
    eventually(lambda: server.info("stats")["pubsub_channels"] == "0" == server.info("stats")["pubsub_patterns"])
    sub = connect(3)
    for command in ("SUBSCRIBE a b c", "PSUBSCRIBE p q", "SSUBSCRIBE s"):
        sub.send(command)
        for _ in command.split()[1:]:
            sub.read()
    line = sub("CLIENT INFO").data.decode()
    assert " flags=P " in line and " sub=3 psub=2 ssub=1 " in line
    stats = server.info("stats")
    assert [stats[f"pubsub{name}"] for name in ("_channels", "_patterns", "shard_channels")] == ["3", "2", "1"]
    me = sub("CLIENT ID")
    ids = lambda kind: [int(line.split()[0][3:]) for line in c("CLIENT", "LIST", "TYPE", kind).decode().splitlines()]  # noqa: E731
    assert me in ids("pubsub") and me not in ids("normal")
    assert c("CLIENT ID") in ids("normal") and c("CLIENT ID") not in ids("pubsub")
    assert c("CLIENT KILL TYPE pubsub") >= 1
    assert sub.closed()
    eventually(lambda: c("PUBSUB NUMSUB a") == [b"a", 0] and c("PUBSUB NUMPAT") == 0)


def test_who_was_killed_hears_nothing_that_is_published_afterwards(c, connect):
    """It was counted until its connection had ended, and by other shards until they had heard of that."""
    publishers = [connect() for _ in range(3)]
    for number in range(150):
        channel, victim, publisher = f"ch{number}", connect(3), publishers[number % 3]
        own = victim("CLIENT ID")
        for command in ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"):
            victim(command, channel)
        assert publisher("PUBLISH", channel, "x") == 2
        assert c("CLIENT", "KILL", "ID", own) == 1
        assert publisher.pipeline(("PUBLISH", channel, "y"), ("SPUBLISH", channel, "y"), ("PUBSUB", "NUMSUB", channel)) == [
            0, 0, [channel.encode(), 0]
        ]  # fmt: skip
        victim.close()


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
    eventually(lambda: c("PUBSUB NUMPAT") == 0)  # those of the test before are gone
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


def test_a_subscriber_that_does_not_read_is_disconnected_at_its_limit(server, c, connect):
    with server.config(client_output_buffer_limit="pubsub 1000000 0 0"):
        lazy = connect()
        lazy("SUBSCRIBE ch")
        message = "x" * 100_000
        eventually(lambda: c("PUBLISH", "ch", message) == 0)
        assert c("PUBSUB CHANNELS") == []


def test_a_slow_subscriber_over_the_soft_limit_is_disconnected_after_a_while(server, c, connect):
    with server.config(client_output_buffer_limit="pubsub 0 200000 1"):
        lazy, good = connect(), connect(3)
        assert lazy("SUBSCRIBE ch") == [b"subscribe", b"ch", 1]
        assert good("SUBSCRIBE ch") == Push([b"subscribe", b"ch", 1])
        message = "x" * 100_000

        def only_the_good_one_is_left():
            receivers = c("PUBLISH", "ch", message)
            assert good.read() == Push([b"message", b"ch", message.encode()])
            return receivers == 1

        eventually(only_the_good_one_is_left, 20)


def test_a_thousand_subscribers_get_everything_in_order(server, c):
    """Some of them do not read for a while, and one never does."""
    subscribers, count = 1000, 100
    with server.config(client_output_buffer_limit="pubsub 1000000 0 0"):
        clients = [server.client(3 if number % 2 else 2) for number in range(subscribers)]
        try:
            for number, client in enumerate(clients):
                client.send("SUBSCRIBE" if number % 3 else "PSUBSCRIBE", "ch")
            for client in clients:
                assert client.read()[1:] == [b"ch", 1]
            lazy = server.client()
            assert lazy("SUBSCRIBE ch") == [b"subscribe", b"ch", 1]
            assert c.pipeline(*[("PUBLISH", "ch", f"{number:05}") for number in range(count)]) == [subscribers + 1] * count
            for client in clients:
                assert [client.read()[-1] for _ in range(count)] == [b"%05d" % number for number in range(count)]
            # Now one at a time: nothing is queued, and who does not read is cut off in the end.
            big = "x" * 1000
            for number in range(10):
                assert c("PUBLISH", "ch", f"{number}{big}") == subscribers + 1
                for client in clients:
                    assert client.read()[-1] == f"{number}{big}".encode()
            lazy.close()
        finally:
            for client in clients:
                client.close()
    eventually(lambda: c("PUBSUB NUMSUB ch") == [b"ch", 0] and c("PUBSUB NUMPAT") == 0, 20)


def test_every_message_that_was_counted_arrives_while_subscribers_come_and_go(server):
    """What PUBLISH answers, added up, is what all subscribers together have heard."""
    stop, counted, heard, failed = threading.Event(), [], [], []

    def publish(number):
        with server.client() as client:
            sent = sum(sum(client.pipeline(*[("PUBLISH", "ch", f"{number}:{n}:{i}") for i in range(20)])) for n in range(60))
            counted.append(sent)

    def listen():
        messages = 0
        with server.client(3) as client:
            while not stop.is_set():
                for verb in ("SUBSCRIBE", "UNSUBSCRIBE"):
                    client.send(verb, "ch")
                    while (frame := client.read())[0] == b"message":
                        messages += 1
                    if frame[0].decode() != verb.lower():
                        failed.append(frame)
        heard.append(messages)

    publishers = [threading.Thread(target=publish, args=(number,)) for number in range(2)]
    listeners = [threading.Thread(target=listen) for _ in range(4)]
    for thread in listeners + publishers:
        thread.start()
    for thread in publishers:
        thread.join()
    stop.set()
    for thread in listeners:
        thread.join()
    assert not failed
    assert sum(counted) == sum(heard) > 0


@pytest.mark.parametrize("whole", [False, True], ids=["plain", "with_all_shards_held"])
def test_publish_within_a_transaction(c, connect, whole):
    sub = connect(3)
    sub("SUBSCRIBE ch")
    sub("PSUBSCRIBE c*")
    more = ["DBSIZE"] if whole else []
    replies = c.pipeline("MULTI", "PUBLISH ch one", "SET k v", "PUBLISH nobody x", "SPUBLISH ch x", *more, "PUBLISH ch two", "EXEC")[-1]
    assert replies == [2, OK, 0, 0, *([1] if whole else []), 2]
    assert [sub.read()[-1] for _ in range(4)] == [b"one", b"one", b"two", b"two"]


@pytest.mark.parametrize("whole", [False, True], ids=["plain", "with_all_shards_held"])
def test_subscribe_within_a_transaction(c, connect, whole):
    sub = connect()
    more = ["DBSIZE"] if whole else []
    assert sub.pipeline("MULTI", "SUBSCRIBE a", "PSUBSCRIBE p", *more, "UNSUBSCRIBE a", "EXEC")[-1] == [
        [b"subscribe", b"a", 1], [b"psubscribe", b"p", 2], *([0] if whole else []), [b"unsubscribe", b"a", 1]
    ]  # fmt: skip
    eventually(lambda: c("PUBSUB NUMSUB a") == [b"a", 0])
    eventually(lambda: c("PUBLISH p x") == 1)  # it was not confirmed that all shards know
    assert sub.read() == [b"pmessage", b"p", b"p", b"x"]
    assert sub("GET k") == Error(f"ERR Can't execute 'get': {LIMITED}")


def test_a_resp2_subscriber_spoils_its_transaction(connect):
    sub = connect(3)
    sub("SUBSCRIBE a")
    assert sub.pipeline("MULTI", "HELLO 2")[1] == Simple("QUEUED")
    assert isinstance(sub("EXEC")[0], list)
    assert sub("MULTI") == Error(f"ERR Can't execute 'multi': {LIMITED}")
    assert sub("RESET") == Simple("RESET")


CHANNELS = ["a", "b", "ab", "c", "news.x"]
PATTERNS = ["*", "a*", "?", "[ab]", "news.*", "zzz"]


def random_command(rng, protocol):
    names = lambda words: rng.choices(words, k=rng.randint(1, 3))  # noqa: E731
    return rng.choice([
        lambda: ["SUBSCRIBE", *names(CHANNELS)],
        lambda: ["PSUBSCRIBE", *names(PATTERNS)],
        lambda: ["SSUBSCRIBE", *names(CHANNELS)],
        lambda: ["UNSUBSCRIBE", *(names(CHANNELS) if rng.random() < 0.7 else [])],
        lambda: ["PUNSUBSCRIBE", *(names(PATTERNS) if rng.random() < 0.7 else [])],
        lambda: ["SUNSUBSCRIBE", *(names(CHANNELS) if rng.random() < 0.7 else [])],
        lambda: ["PUBLISH", rng.choice(CHANNELS), str(rng.randrange(1000))],
        lambda: ["PUBLISH", rng.choice(CHANNELS), str(rng.randrange(1000))],
        lambda: ["SPUBLISH", rng.choice(CHANNELS), str(rng.randrange(1000))],
        lambda: ["PUBSUB", rng.choice(["CHANNELS", "SHARDCHANNELS"]), *rng.choice([[], ["*"], ["a*"], ["a", "b"]])],
        lambda: ["PUBSUB", rng.choice(["NUMSUB", "SHARDNUMSUB"]), *names(CHANNELS)],
        lambda: ["PUBSUB", "NUMPAT"],
        lambda: ["GET", "k"],
        lambda: ["RESET"] if protocol == 2 else ["PING", "x"],
        lambda: ["SUBSCRIBE"],
        lambda: ["PUBLISH", "a"],
    ])()  # fmt: skip


def canonical(command, frames):
    """The frames with what Redis leaves open put in order."""
    if command[0] == "PUBLISH":  # to the subscribers of which pattern first
        return sorted(map(repr, frames))
    if command[0].endswith("UNSUBSCRIBE") and len(command) == 1:  # which name first
        return sorted(repr(frame[1]) for frame in frames), [(type(frame), frame[0], frame[2]) for frame in frames]
    if command[0] == "PUBSUB" and command[1].endswith("CHANNELS") and frames and isinstance(frames[0], list):
        return [sorted(frames[0])], frames[1:]
    return [(type(frame), frame) for frame in frames]


def test_random_subscribers_hear_what_those_of_redis_hear(server, reference):
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    protocols = [2, 2, 3, 3, 3]
    ours, theirs = ([each.client(protocol) for protocol in protocols] for each in (server, reference))
    try:
        for step in range(600):
            who = rng.randrange(len(protocols))
            command = random_command(rng, protocols[who])
            marker = f"end{step}".encode()
            ours[who].send(*command), theirs[who].send(*command)
            for number, (mine, its) in enumerate(zip(ours, theirs)):
                its.send("PING", marker)
                wanted = []
                while (frame := its.read()) not in (marker, [b"pong", marker]):
                    wanted.append(frame)
                heard = [mine.read() for _ in wanted]
                assert canonical(command, heard) == canonical(command, wanted), f"seed {seed}, step {step}: client {number} after {shown(command)} of client {who}"
        for mine in ours:
            mine.send("PING last")
            assert mine.read() in (b"last", [b"pong", b"last"]), f"seed {seed}: a client has heard too much"
    finally:
        for client in ours + theirs:
            client.close()


covers(
    "MULTI", "EXEC", "SUBSCRIBE", "PSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SSUBSCRIBE", "SUNSUBSCRIBE", "PUBLISH", "SPUBLISH", "PUBSUB", "PUBSUB|CHANNELS",
    "PUBSUB|NUMSUB", "PUBSUB|NUMPAT", "PUBSUB|SHARDCHANNELS", "PUBSUB|SHARDNUMSUB", "PUBSUB|HELP",
)  # fmt: skip


def test_publish_within_a_script(c, connect):
    sub = connect(3)
    sub("SUBSCRIBE ch")
    assert c("EVAL", "return redis.call('PUBLISH', 'ch', 'two')", 0) == 1
    assert sub.read()[2] == b"two"


covers("EVAL")
