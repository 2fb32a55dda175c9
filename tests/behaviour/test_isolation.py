"""Money moves between accounts on different shards, and nobody ever sees a wrong total.

Transactions with WATCH, scripts with keys that they declare and that they do not, and clients that vanish in the
middle of it all move money at once; readers add it up in every way there is. WATCH loses no update. And whatever many
connections do to single keys has an order that explains every reply (harness/linearizable.py).

    CORELANE_SOAK_SECONDS=600   how long each of these tests runs for each target
"""

import os
import random
import selectors
import signal
import time
from collections import defaultdict

import pytest

from harness import *
from harness import NIL, NIL_ARRAY, OK
from harness.linearizable import GONE, Operation, applied, is_linearizable
from harness.together import for_seconds, together

SECONDS = float(os.environ.get("CORELANE_SOAK_SECONDS", "2"))
ACCOUNTS = [f"account:{number}" for number in range(10)]  # over three shards, these lie on all of them
MONEY = 100 * len(ACCOUNTS)

TRANSFER = """
    if tonumber(redis.call('GET', KEYS[1])) < tonumber(ARGV[1]) then return 0 end
    redis.call('DECRBY', KEYS[1], ARGV[1]) redis.call('INCRBY', KEYS[2], ARGV[1]) return 1
"""
TRANSFER_UNDECLARED = TRANSFER.replace("KEYS[1]", "ARGV[2]").replace("KEYS[2]", "ARGV[3]")
SUM = "local sum = 0 for _, value in ipairs(redis.call('MGET', unpack(KEYS))) do sum = sum + value end return sum"


@pytest.fixture
def seed():
    value = random.randrange(1 << 32)
    print("seed", value)
    signal.alarm(int(SECONDS) + 120)
    return value


def deal(rng):
    """Two different accounts and an amount, now and then more than there may be."""
    return (*rng.sample(ACCOUNTS, 2), rng.randrange(1, 60))


def transfer_by_watch(client, rng):
    source, target, amount = deal(rng)
    assert client("WATCH", source, target) == OK
    here, there = (int(value) for value in client("MGET", source, target))
    if here < amount:
        assert client("UNWATCH") == OK
        return
    replies = client.pipeline("MULTI", ("SET", source, here - amount), ("SET", target, there + amount), "EXEC")
    assert replies[-1] in ([OK, OK], NIL_ARRAY), replies


def transfer_by_block(client, rng):
    source, target, amount = deal(rng)
    replies = client.pipeline(
        "MULTI", ("INCRBY", source, amount), ("DECRBY", target, amount), ("DECRBY", source, amount), ("INCRBY", target, amount), "EXEC"
    )  # fmt: skip
    assert len(replies[-1]) == 4, replies


def transfer_by_script(client, rng):
    source, target, amount = deal(rng)
    assert client("EVAL", TRANSFER, 2, source, target, amount) in (0, 1)


def transfer_by_script_that_declares_nothing(client, rng):
    source, target, amount = deal(rng)
    assert client("EVAL", TRANSFER_UNDECLARED, 0, amount, source, target) in (0, 1)


def vanishing(server):
    """A step: a client that goes away within a block, or before it has heard how its transfer went."""

    def step(_, rng):
        source, target, amount = deal(rng)
        block = [("MULTI",), ("DECRBY", source, amount), ("INCRBY", target, amount), ("EXEC",)]
        script = [("EVAL", TRANSFER_UNDECLARED, 0, amount, source, target)]
        requests = rng.choice([block[:2], block[:3], script])
        with server.client() as client:
            client.raw(b"".join(encode(*words) for words in requests))

    return step


def audit(client, rng):
    accounts = rng.sample(ACCOUNTS, len(ACCOUNTS))
    way = rng.randrange(4)
    if way == 0:
        values = client("MGET", *accounts)
    elif way == 1:
        values = client.pipeline("MULTI", *[("GET", account) for account in accounts], "EXEC")[-1]
    elif way == 2:
        half = len(accounts) // 2
        values = sum(client.pipeline("MULTI", ("MGET", *accounts[:half]), ("MGET", *accounts[half:]), "EXEC")[-1], [])
    else:
        values = [client("EVAL", SUM, len(accounts), *accounts)]
    assert sum(int(value) for value in values) == MONEY, values


def test_nobody_ever_sees_a_wrong_total(server, c, seed):
    assert c("MSET", *[word for account in ACCOUNTS for word in (account, MONEY // len(ACCOUNTS))]) == OK
    steps = [
        *[transfer_by_watch] * 3, transfer_by_block, *[transfer_by_script] * 2, transfer_by_script_that_declares_nothing,
        vanishing(server), *[audit] * 4,
    ]  # fmt: skip
    together(server, seed, *[for_seconds(SECONDS, step) for step in steps], seconds=SECONDS)
    audit(c, random.Random(0))


def test_watch_loses_no_update(server, c, seed):
    """Every loop that got through counts, and so does every write beside it."""
    counters, counts = ACCOUNTS[:3], []

    def read(client, key):
        value = client("GET", key)
        return 0 if value is NIL else int(value)

    def counting(step):
        """A step that keeps a count of its own."""
        own = defaultdict(int)
        counts.append(own)

        def worker(client, rng):
            step(client, rng, own)

        return worker

    def update(client, rng, own):
        key = rng.choice(counters)
        for _ in range(1000):
            assert client("WATCH", key, rng.choice(ACCOUNTS[3:])) == OK
            if client.pipeline("MULTI", ("SET", key, read(client, key) + 1), "EXEC")[-1] == [OK]:
                own[key] += 1
                return
        raise AssertionError("a loop never got through")

    def write(client, rng, own):
        key = rng.choice(counters)
        if rng.random() < 0.5:
            assert client("INCR", key) > 0
        else:
            assert client("EVAL", "redis.call('INCR', KEYS[1]) return redis.call('INCRBY', ARGV[1], 0)", 1, key, rng.choice(counters)) > -1
        own[key] += 1
        time.sleep(0.001)

    workers = [for_seconds(SECONDS, counting(step)) for step in [*[update] * 6, *[write] * 2]]
    together(server, seed, *workers, seconds=SECONDS)
    for key in counters:
        assert read(c, key) == sum(own[key] for own in counts) > 0


# ---- histories of single keys ------------------------------------------------------------------

CONNECTIONS, KEYS_AT_ONCE, OPERATIONS_OF_A_HISTORY = 24, 6, 360


def random_command(key, rng, number):
    value = b"%d" % number if rng.random() < 0.8 else b"text"  # each number is written once
    return rng.choice(
        [("GET", key), ("GET", key), ("SET", key, value), ("GETSET", key, value), ("INCR", key), ("APPEND", key, b"7"), ("DEL", key),
         ("GETDEL", key), ("SETNX", key, value)]
    )  # fmt: skip


def as_model(reply):
    """A reply in the words of harness/linearizable.py."""
    if reply is NIL:
        return None
    return {Simple: str, Error: lambda _: "error"}.get(type(reply), lambda same: same)(reply)


def history_of(clients, keys, rng, lost):
    """What each of `keys` went through: every connection has one request under way, whatever comes back first."""
    waiting, histories = selectors.DefaultSelector(), defaultdict(list)
    under_way, sent = {}, 0

    def send(client):
        nonlocal sent
        key = rng.choice(keys)
        command = random_command(key, rng, sent)
        sent += 1
        under_way[client] = (key, command, time.monotonic_ns())
        client.send(*command)

    for client in clients:
        waiting.register(client.socket, selectors.EVENT_READ, client)
        send(client)
    while under_way:
        for ready, _ in waiting.select(10):
            client = ready.data
            key, command, begin = under_way.pop(client)
            reply = client.read()
            without_key = (command[0], *command[2:])
            histories[key].append(Operation(without_key, begin, time.monotonic_ns(), as_model(reply)))
            if sent < OPERATIONS_OF_A_HISTORY:
                send(client)
    # Some go away with a request under way: it took place, or it did not.
    for client in lost:
        key = rng.choice(keys)
        command = random_command(key, rng, sent)
        begin = time.monotonic_ns()
        client.send(*command)
        client.close()
        histories[key].append(Operation((command[0], *command[2:]), begin))
    for key in keys:
        begin = time.monotonic_ns()
        reply = clients[0]("GET", key)
        histories[key].append(Operation(("GET",), begin, time.monotonic_ns(), as_model(reply)))
    return histories


def test_every_reply_about_a_single_key_has_its_moment(server, connect, seed):
    rng, number = random.Random(seed), 0
    clients = [connect() for _ in range(CONNECTIONS)]
    deadline = time.monotonic() + SECONDS
    while number == 0 or time.monotonic() < deadline:
        number += 1
        keys = [f"key:{number}:{at}" for at in range(KEYS_AT_ONCE)]
        for key, history in history_of(clients, keys, rng, [server.client() for _ in range(3)]).items():
            assert is_linearizable(history), f"{key} has no order:\n" + "\n".join(str(operation) for operation in history)


@pytest.mark.parametrize(
    "verdict, operations",
    [
        # A read during a write may see it or not, but not go back.
        (True, [("SET", b"7", 1, 10, "OK"), ("GET", 2, 3, None), ("GET", 4, 5, b"7")]),
        (False, [("SET", b"7", 1, 10, "OK"), ("GET", 2, 3, b"7"), ("GET", 4, 5, None)]),
        (True, [("SET", b"7", 1, 10, "OK"), ("GET", 2, 5, b"7"), ("GET", 4, 6, None)]),  # the reads overlap
        (False, [("SET", b"7", 1, 10, "OK"), ("GET", 11, 12, None)]),
        (False, [("SET", b"7", 1, 10, "OK"), ("GET", 2, 3, b"8")]),
        # A lost update.
        (True, [("INCR", 1, 5, 2), ("INCR", 2, 6, 1)]),
        (False, [("INCR", 1, 5, 1), ("INCR", 2, 6, 1)]),
        (False, [("INCR", 1, 2, 2), ("INCR", 3, 4, 1)]),
        # What was never answered may have taken place, at any later time, or not; but not twice.
        (True, [("APPEND", b"4", 1, GONE, None), ("GET", 2, 3, None), ("GET", 8, 9, b"4")]),
        (True, [("APPEND", b"4", 1, GONE, None), ("GET", 2, 3, None), ("GET", 8, 9, None)]),
        (False, [("APPEND", b"4", 1, GONE, None), ("GET", 2, 3, b"4"), ("GET", 8, 9, None)]),
        (False, [("APPEND", b"4", 1, GONE, None), ("GET", 2, 3, b"44")]),
        # One of two wins.
        (True, [("SETNX", b"1", 1, 5, 0), ("SETNX", b"2", 2, 6, 1), ("GETDEL", 7, 8, b"2"), ("DEL", 9, 10, 0)]),
        (False, [("SETNX", b"1", 1, 5, 1), ("SETNX", b"2", 2, 6, 1)]),
        (False, [("GETDEL", 3, 9, b"1"), ("GETSET", b"2", 4, 8, b"1"), ("SET", b"1", 1, 2, "OK")]),
        (True, [("SET", b"x", 1, 2, "OK"), ("INCR", 3, 4, "error"), ("SET", b"0", 5, 6, "OK"), ("APPEND", b"7", 7, 8, 2), ("INCR", 9, 9.5, "error")]),
    ],
)
@pytest.mark.only("redis")  # no server takes part
def test_the_checker_tells_an_order_from_none(target, verdict, operations):
    history = [Operation(tuple(words), begin, end, reply) for *words, begin, end, reply in operations]
    assert is_linearizable(history) == verdict


@pytest.mark.only("redis")
def test_the_checker_finds_one_wrong_reply_in_a_long_history(target, seed):
    """Operations that overlap at random, with their moments drawn: linearizable, until a reply is changed."""
    rng, value, history = random.Random(seed), None, []

    for moment in range(300):
        command = random_command("k", rng, moment)
        command = (command[0], *command[2:])
        value, reply = applied(value, command)
        history.append(Operation(command, moment - rng.random() * 6, moment + rng.random() * 6, reply))
    assert is_linearizable(history)
    wrong = next(at for at in range(150, 300) if history[at].command[0] == "GET" and history[at].reply is not None)
    changed = history[wrong]
    history[wrong] = Operation(changed.command, changed.begin, changed.end, b"never written")
    assert not is_linearizable(history)


covers("WATCH", "UNWATCH", "EVAL", "MGET", "GETDEL", "GETSET", "SETNX", "APPEND")
