"""Clients that go away at every stage: blocked, within MULTI, within a script, subscribed, within a word.

Whatever they were doing, nothing of them is left: what INFO counts returns to zero, no key stays held, nobody who is
gone takes an element, and a transaction took place as a whole or not at all.
"""

import random
import socket
import struct

import pytest

from harness import *
from harness import OK

LISTS, ROUNDS = [f"list:{number}" for number in range(8)], 3  # over three shards, these lie on all of them
BUSY = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
UNDECLARED = "redis.call('INCR', ARGV[1]) redis.call('INCR', ARGV[2]) return 1"
LOOPING = "redis.call('GET', KEYS[1]) local n = 0 for i = 1, 3000000 do n = n + i end return redis.call('INCR', ARGV[1])"

BLOCKED = [
    "BLPOP list:0 0",
    "BLPOP list:0 list:1 list:2 list:3 0",
    "BRPOP list:3 list:2 list:1 1000",
    "BLMOVE list:0 list:1 LEFT LEFT 0",
    "BRPOPLPUSH list:2 list:1 1000",
    "BLMPOP 0 3 list:4 list:5 list:6 LEFT COUNT 2",
    "BZPOPMIN zset:0 zset:1 zset:2 0",
    "BZMPOP 1000 2 zset:0 zset:1 MAX",
    "XREAD BLOCK 0 STREAMS stream:0 stream:1 stream:2 $ $ $",
    "XREADGROUP GROUP g me BLOCK 1000000 STREAMS group:0 group:1 > >",
    "WAIT 5 0",
]
UNDER_WAY = [
    ["MULTI", "INCR one:0", "INCR two:0"],
    ["MULTI", "INCR one:0", "INCR two:0", "EXEC"],
    ["WATCH one:1 two:1", "MULTI", "INCR one:1", "INCR two:1"],
    ["WATCH one:1 two:1 list:0", "GET one:1"],
    ["MULTI", "NOPE", "EXEC", "MULTI", "INCR one:2", "DBSIZE", "INCR two:2", "EXEC"],
    [("EVAL", UNDECLARED, 0, "one:3", "two:3")],
    [("EVAL", UNDECLARED, 2, "one:4", "two:4", "one:4", "two:4")],
    [("EVAL", LOOPING, 1, "nothing", "looped")],
    [("EVAL", "return", 0), ("EVAL", "(", 0), ("EVAL", "return redis.call('INCR')", 0)],
    ["MSET one:5 1 two:5 1 one:6 1 two:6 1"] * 50,
    ["RENAME one:7 two:7", "SUNIONSTORE one:8 two:8 one:7"] * 20,
    ["GET big"] * 200,
    ["SUBSCRIBE a b c"],
    ["PSUBSCRIBE a* b*", "SUBSCRIBE d"],
    ["SSUBSCRIBE a"],
    ["HELLO 3", "SUBSCRIBE a", "PSUBSCRIBE *", "MULTI", "INCR one:0", "INCR two:0", "EXEC"],
    ["CLIENT REPLY OFF", "SUBSCRIBE e"],
    ["CLIENT NO-EVICT on", "CLIENT SETNAME gone"],
]
CUT_SHORT = [b"*2\r\n$3\r\nGET", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\nxxx", b"SET k", b"*1\r\n$4\r\nNOPE\r\n*", b"*1000000\r\n$1\r\n"]


def by_close(client):
    client.close()


def by_reset(client):
    """RST instead of FIN."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def by_silence(client):
    """It says no more, and does not read what it asked for."""
    client.socket.shutdown(socket.SHUT_WR)


WAYS = [by_close, by_reset, by_silence]


def nothing_left(server):
    """Whether nobody but who asks is there, and nothing of anybody else."""
    info = server.info()
    expected = {
        "connected_clients": {"1", "2"},  # who asks, and the connection that resets servers between tests
        "blocked_clients": {"0"}, "clients_in_timeout_table": {"0"}, "pubsub_channels": {"0"}, "pubsub_patterns": {"0"}, "pubsubshard_channels": {"0"},
    }  # fmt: skip
    found = {name: info.get(name) for name in expected}
    return all(found[name] in values for name, values in expected.items())


@pytest.mark.parametrize("leave", WAYS, ids=lambda way: way.__name__)
def test_nothing_is_left_of_clients_that_go_away(server, leave):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    with server.client() as setup:
        setup.pipeline("XGROUP CREATE group:0 g $ MKSTREAM", "XGROUP CREATE group:1 g $ MKSTREAM", ("SET", "big", "x" * 50_000))
    for _ in range(ROUNDS):
        clients = [server.client() for _ in range(2 * len(BLOCKED) + 2 * len(UNDER_WAY) + len(CUT_SHORT))]
        requests = [*([line] for line in BLOCKED), *UNDER_WAY] * 2
        rng.shuffle(requests)
        for client, lines in zip(clients, requests):
            client.raw(b"".join(encode(*words_of(line)) for line in lines))
        for client, part in zip(clients[len(requests) :], CUT_SHORT):
            client.raw(part)
        if rng.random() < 0.7:  # at once, or when all have begun
            eventually(lambda: server.info("clients")["blocked_clients"] == str(2 * len(BLOCKED)))
        rng.shuffle(clients)
        for client in clients:
            leave(client)
        try:
            eventually(lambda: nothing_left(server), 20)
        except AssertionError:
            with server.client() as observer:
                raise AssertionError(f"this is left:\n{server.info()}\n{observer('CLIENT LIST').decode()}") from None
        finally:
            for client in clients:
                client.close()
    with server.client() as c:
        # Both halves of each transaction, or none.
        for number in range(9):
            one, two = c("MGET", f"one:{number}", f"two:{number}")
            assert one == two, number
        # No key is held, and nobody takes what comes now.
        for key in LISTS:
            c("DEL", key)
            assert c("RPUSH", key, "x") == 1
        for number in range(3):
            assert c("ZADD", f"zset:{number}", 1, "x") == 1
        assert c("PUBLISH a x") == 0 and c("SPUBLISH a x") == 0
        assert c.pipeline("MULTI", *[("LLEN", key) for key in LISTS], "DBSIZE", "EXEC")[-1][:-1] == [1] * len(LISTS)
        assert c("ZUNION 3 zset:0 zset:1 zset:2") == [b"x"]


def test_clients_that_are_killed_leave_nothing(server, connect):
    killer = connect()
    for line in [*([line] for line in BLOCKED), *UNDER_WAY]:
        victim = server.client()
        number = victim("CLIENT ID")
        victim.raw(b"".join(encode(*words_of(words)) for words in line))
        if line[0] in BLOCKED:
            if "XREADGROUP" not in line[0]:  # there is no such group: an error
                eventually(lambda: " flags=b " in killer("CLIENT LIST").decode())
        eventually(lambda: not isinstance(killer("CLIENT", "KILL", "ID", number), Error))
        victim.rest()
        victim.close()
    eventually(lambda: server.info("clients")["blocked_clients"] == "0")
    eventually(lambda: killer("PUBSUB CHANNELS") == [] and killer("PUBSUB NUMPAT") == 0)


def test_the_client_of_an_endless_script_may_go_away(server, connect):
    with server.config(busy_reply_threshold=30):
        for number in range(3):
            stuck, others = server.client(), [connect() for _ in range(6)]
            script = ["while true do end", "while true do redis.call('GET', KEYS[1]) end", "while true do pcall(redis.call, 'EXISTS', KEYS[1]) end"]
            stuck.send("EVAL", script[number], 1, f"key:{number}")
            eventually(lambda: any(other("PING") == Error(BUSY) for other in others))
            by_reset(stuck)
            waiting = connect()  # it may live on the shard that is busy
            waiting.send("SET", f"key:{number}", "v")
            eventually(lambda: any(other("SCRIPT KILL") == OK for other in others))
            eventually(lambda: all(other("PING") == Simple("PONG") for other in others))
            assert waiting.read() in (OK, Error(BUSY))
            assert others[0]("SET", f"key:{number}", "w") == OK
    with server.client() as c:
        assert c("EVAL", "return 1", 0) == 1


@pytest.mark.only("corelane-3")
def test_while_a_script_never_ends_other_shards_go_on(server, connect):
    """Redis has no others."""
    with server.config(busy_reply_threshold=30):
        stuck, clients = connect(), [connect() for _ in range(9)]
        stuck.send("EVAL", "while true do end", 1, "key")
        eventually(lambda: any(client("PING") == Error(BUSY) for client in clients))
        free = [client for client in clients if client("PING") == Simple("PONG")]
        assert free
        answered = 0
        while answered <= 20:  # or the test's own time is over
            for number, client in enumerate(free):
                # Its own keys, those of the third shard, and those of the busy one, which says so.
                reply = client("INCR", f"counter:{number}:{answered % 50}")
                assert type(reply) is int or reply == Error(BUSY)
                answered += type(reply) is int
        assert free[0]("SCRIPT KILL") == OK
        assert stuck.read().startswith("ERR Script killed by user")


covers("WAIT", "BLPOP", "XREADGROUP", "SSUBSCRIBE", "CLIENT|KILL")
