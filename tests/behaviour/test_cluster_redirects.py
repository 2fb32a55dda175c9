"""Where a node of a cluster sends its clients: the same steps lead to the same replies as on redis-server.

Each scenario runs on a cluster of a node of the kind under test and a real Redis, and once on two of Redis. What
differs from run to run (ports, ids, digests) is replaced by names. The node of three shards hears every scenario from
several connections in turn, which live on different shards.
"""

import contextlib
import re

import pytest

from harness import *
from harness import Server
from harness.cluster import ask, await_agreement, cluster_info, my_id, node, nodes
from harness.resp import OK
from harness.server import chosen_targets

KINDS = [target for target in chosen_targets() if target != "redis"]
SLOTS_HERE = [(0, 8191), (15000, 15999)]
"""Of the node under test: "b" and "bar" (3300, 5061), "c" and "k" (7365, 7629) and "a" (15495) are there, "foo" is not."""
SLOTS_THERE = [(8192, 14999), (16000, 16383)]
SLOT = {"b": 3300, "k": 7629, "a": 15495, "foo": 12182}


def shape(reply, names):
    """A reply without what differs from run to run."""
    if isinstance(reply, list):
        return type(reply)(shape(item, names) for item in reply)
    if isinstance(reply, (bytes, str)):
        raw = reply if isinstance(reply, bytes) else reply.encode()
        for found, name in names:
            raw = raw.replace(found, name)
        return type(reply), re.sub(rb"[0-9a-f]{40}", b"DIGEST", raw)
    return reply


@contextlib.contextmanager
def pair(kind, *arguments):
    """A cluster of a node of this kind and a Redis."""
    with nodes(kind, "redis", arguments=arguments) as (here, there):
        for server, ranges in ((here, SLOTS_HERE), (there, SLOTS_THERE)):
            assert ask(server, "CLUSTER", "ADDSLOTSRANGE", *[word for ends in ranges for word in ends]) == OK
        assert ask(here, "CLUSTER", "MEET", "127.0.0.1", there.port) == OK
        await_agreement([here, there])
        yield here, there


class Talk:
    """What was said on some connections, and what came back."""

    def __init__(self, here, there):
        self.here, self.there = here, there
        self.lines, self.clients = [], {}
        self.names = [
            (str(here.port).encode(), b"HERE"), (str(there.port).encode(), b"THERE"),
            (my_id(here).encode(), b"ME"), (my_id(there).encode(), b"OTHER"),
        ]  # fmt: skip

    def client(self, name, protocol=2):
        if name not in self.clients:
            server = self.there if name.startswith("there") else self.here
            self.clients[name] = server.client(protocol)
        return self.clients[name]

    def __call__(self, name, *commands):
        for command in commands:
            words = [self._word(word) for word in words_of(command)]
            reply = self.client(name)(*words)
            self.lines.append((name, command, shape(reply, self.names)))

    def _word(self, word):
        for found, name in self.names:
            word = word.replace(b"<" + name + b">", found)
        return word

    def hear(self, name, timeout=10):
        self.lines.append((name, "hears", shape(self.client(name).read(timeout), self.names)))

    def close(self):
        for client in self.clients.values():
            client.close()
        self.clients.clear()


def said(kind, scenario, *arguments):
    with pair(kind, *arguments) as (here, there):
        talk = Talk(here, there)
        for turn in range(3):
            try:
                scenario(talk)
            finally:
                talk.close()
            assert ask(here, "FLUSHALL") == OK == ask(there, "FLUSHALL")
        return talk.lines


_said_by_redis = {}


def check_scenario(kind, scenario, *arguments):
    expected = _said_by_redis.get(scenario)
    if expected is None:
        expected = _said_by_redis[scenario] = said("redis", scenario, *arguments)
    heard = said(kind, scenario, *arguments)
    wrong = [f"{here}\n    Redis: {there[2]}" for here, there in zip(heard, expected) if here != there]
    assert not wrong, "\n".join(wrong[:12])
    assert len(heard) == len(expected)


def of_scenarios(*scenarios):
    return pytest.mark.parametrize("scenario", scenarios, ids=lambda scenario: scenario.__name__)


def commands_for_keys_of_other_nodes(talk):
    talk(
        "c", "SET b 1", "GET b", "SET foo 1", "GET foo", "MGET b bar", "MGET b {b}2", "MSET foo 1 {foo}2 2", "DEL foo b", "EXISTS",
        "OBJECT ENCODING foo", "OBJECT ENCODING b", "XREAD STREAMS foo 0", "XREAD COUNT 1 STREAMS b foo 0 0", "BLPOP foo 1", "BLPOP b foo 1",
        "ZUNION 2 foo b", "ZUNION x foo b", "ZUNIONSTORE b 1 foo", "SORT b STORE foo", "SORT k BY w_*", "SORT k GET #", "RENAME b foo", "COPY b foo",
        "COPY b {b}c DB 1", "MOVE b 1", "SELECT 1", "SELECT 0", "SELECT 99", "SELECT x", "SWAPDB 0 1", "EVAL 'return 1' 1 foo", "EVAL 'return 1' 2 b foo",
        "EVAL 'return 1' 0", "EVALSHA 0000000000000000000000000000000000000000 1 foo", "FCALL nothing 1 foo", "SPUBLISH foo x", "SPUBLISH b x", "PUBLISH foo x",
        "SSUBSCRIBE foo", "SUNSUBSCRIBE foo", "WATCH foo", "WATCH b foo", "WATCH b {b}2", "UNWATCH", "DBSIZE", "TOUCH b k", "LMPOP 1 foo LEFT",
        "MIGRATE 127.0.0.1 1 foo 0 10", "MIGRATE 127.0.0.1 1 nothing 0 10", "RESTORE foo 0 x", "RESTORE-ASKING foo 0 x", "MEMORY USAGE foo",
        "BITOP AND b foo b", "SINTERCARD 2 b foo", "LCS b foo", "TYPE foo", "TTL foo", "KEYS *", "CLUSTER KEYSLOT foo",
        "CLUSTER COUNTKEYSINSLOT 3300", "CLUSTER COUNTKEYSINSLOT 12182", "CLUSTER GETKEYSINSLOT 3300 10", "CLUSTER GETKEYSINSLOT 12182 10",
        "ASKING", "GET foo", "READONLY", "GET foo", "READWRITE", "ASKING x", "READONLY x", "SUBSTR foo 0 1", "XGROUP CREATE foo g $", "PING",
    )  # fmt: skip


def blocks(talk):
    talk(
        "c", "MULTI", "SET b 1", "GET foo", "SET {b}2 1", "EXEC", "EXEC", "MULTI", "SET b 1", "SET k 1", "EXEC", "EXISTS b",
        "MULTI", "SET b 1", "MGET b k", "EXEC", "MULTI", "SET b 1", "GET b", "EXEC", "MULTI", "PING", "EXEC", "WATCH b", "MULTI", "GET foo", "DISCARD",
        "WATCH k", "MULTI", "SET k 2", "DBSIZE", "EXEC", "MULTI", "SPUBLISH foo x", "EXEC", "MULTI", "SELECT 1", "EXEC",
        "MULTI", "EVAL \"return redis.call('get', KEYS[1])\" 1 k", "GET k", "EXEC", "MULTI", "READONLY", "ASKING", "EXEC", "DEL b {b}2", "DEL k",
    )  # fmt: skip


def scripts(talk):
    talk(
        "c",
        ("EVAL", "return redis.call('set', KEYS[1], 1)", 1, "b"),
        ("EVAL", "return redis.call('set', 'k', 1)", 1, "b"),
        ("EVAL", "return redis.call('get', 'foo')", 1, "b"),
        ("EVAL", "return redis.pcall('get', 'foo')", 0),
        ("EVAL", "return redis.call('mget', 'b', 'k')", 0),
        ("EVAL", "return redis.call('mget', 'b', '{b}2')", 0),
        ("EVAL", "#!lua\nreturn redis.call('get', 'k')", 1, "b"),
        ("EVAL", "#!lua\nreturn redis.call('get', '{b}2')", 1, "b"),
        ("EVAL", "#!lua flags=allow-cross-slot-keys\nreturn redis.call('get', 'k')", 1, "b"),
        ("EVAL", "#!lua flags=no-cluster\nreturn 1", 1, "b"),
        ("EVAL", "return redis.pcall('select', 1)", 0),
        ("EVAL", "return redis.call('spublish', 'foo', 'x')", 0),
        ("EVAL", "redis.call('set', KEYS[1], 2) return redis.call('get', 'foo')", 1, "a"),
        "GET a", "DEL a", "DEL b", "DEL k",
    )  # fmt: skip


def move_of_a_slot(talk, key):
    slot = SLOT[key]
    talk("c", f"MSET {{{key}}}1 a {{{key}}}2 b {{{key}}}3 c", f"SET {key} x PX 100000")
    talk("there", f"CLUSTER SETSLOT {slot} IMPORTING <ME>")
    talk("c", f"CLUSTER SETSLOT {slot} MIGRATING <OTHER>", f"GET {key}", f"GET {{{key}}}9", f"SET {{{key}}}9 1")
    talk("there", f"GET {key}", "ASKING", f"GET {key}", f"GET {key}")
    talk("c", f"MIGRATE 127.0.0.1 <THERE> {{{key}}}1 0 2000", f"GET {{{key}}}1", f"MGET {{{key}}}1 {{{key}}}2", f"MGET {{{key}}}1 {{{key}}}8")
    talk("c", f"MULTI", f"GET {{{key}}}2", f"GET {{{key}}}1", "EXEC", "MULTI", f"GET {{{key}}}2", f"GET {{{key}}}3", "EXEC")
    talk("c", f"WATCH {{{key}}}1", f"BLPOP {{{key}}}9 1", f"SPUBLISH {key} x", f"WATCH {{{key}}}2", f"MULTI", f"GET {{{key}}}2", "EXEC")
    talk("c", ("EVAL", "return redis.call('get', KEYS[1])", 1, f"{{{key}}}1"), ("EVAL", "return redis.call('get', KEYS[1])", 1, f"{{{key}}}2"))
    talk("c", ("EVAL", f"return redis.call('get', '{{{key}}}1')", 1, f"{{{key}}}2"), f"CLUSTER COUNTKEYSINSLOT {slot}", f"CLUSTER SETSLOT {slot} NODE <OTHER>")
    talk("there", "ASKING", f"GET {{{key}}}1", "ASKING", f"MGET {{{key}}}1 {{{key}}}2", "ASKING", "MULTI", f"GET {{{key}}}1", "EXEC")
    talk("c", f"MIGRATE 127.0.0.1 <THERE> '' 0 2000 REPLACE KEYS {{{key}}}2 {{{key}}}3 {key} {{{key}}}9", f"CLUSTER GETKEYSINSLOT {slot} 10")
    talk("c", f"MIGRATE 127.0.0.1 <THERE> {key} 0 2000", f"GET {key}")
    waiting, listening = talk.client("waiting"), talk.client("listening")
    waiting.send("BLPOP", "bar", 60)
    talk("listening", f"SSUBSCRIBE {key}", "SSUBSCRIBE bar")
    talk("there", f"CLUSTER SETSLOT {slot} NODE <OTHER>")
    talk("c", f"CLUSTER SETSLOT {slot} NODE <OTHER>", f"GET {key}")
    talk.hear("listening")
    talk("pusher", "RPUSH bar x")
    talk.hear("waiting")
    talk("there", f"MGET {{{key}}}1 {{{key}}}2 {{{key}}}3 {key}", f"CLUSTER COUNTKEYSINSLOT {slot}", f"DEL {{{key}}}1 {{{key}}}2 {{{key}}}3 {key}")
    # A slot that is handed back before all have heard of the first move may end up anywhere, with Redis as well.
    await_agreement([talk.here, talk.there])
    move_back(talk, key)
    await_agreement([talk.here, talk.there])


def move_back(talk, key):
    """The slot comes back, with a key in it."""
    slot = SLOT[key]
    talk("there", f"SET {key} y", f"SET {{{key}}}1 z")
    talk("c", f"CLUSTER SETSLOT {slot} IMPORTING <OTHER>", f"GET {key}", "ASKING", f"GET {key}", "ASKING", f"MGET {key} {{{key}}}1", f"GET {key}")
    talk("there", f"CLUSTER SETSLOT {slot} MIGRATING <ME>", f"GET {key}", f"MIGRATE 127.0.0.1 <HERE> {key} 0 2000", f"GET {key}")
    talk("c", f"GET {key}", "ASKING", f"GET {key}", "ASKING", f"MGET {key} {{{key}}}1", "ASKING", "MULTI", f"GET {key}", f"GET {{{key}}}1", "EXEC")
    talk("c", "ASKING", f"SET {{{key}}}5 new", "ASKING", "PING", f"GET {{{key}}}5", "ASKING", ("EVAL", "return redis.call('get', KEYS[1])", 1, key))
    talk("there", f"MIGRATE 127.0.0.1 <HERE> '' 0 2000 KEYS {{{key}}}1")
    talk("c", f"CLUSTER SETSLOT {slot} NODE <ME>", f"MGET {key} {{{key}}}1 {{{key}}}5", f"DEL {key} {{{key}}}1 {{{key}}}5")
    talk("there", f"CLUSTER SETSLOT {slot} NODE <ME>", f"GET {key}")


def a_slot_goes_and_comes_back(talk):
    for key in ("b", "k", "a"):
        move_of_a_slot(talk, key)


def clients_that_wait(talk):
    talk.client("w1").send("BLPOP", "{k}1", "{k}2", 20)
    talk.client("w2").send("XREAD", "BLOCK", 20000, "STREAMS", "{k}x", "$")
    talk("there", "CLUSTER SETSLOT 7629 IMPORTING <ME>", "CLUSTER SETSLOT 7629 NODE <OTHER>")
    talk("c", "CLUSTER SETSLOT 7629 NODE <OTHER>")
    talk.hear("w1")
    talk.hear("w2")
    await_agreement([talk.here, talk.there])
    talk("c", "CLUSTER SETSLOT 7629 IMPORTING <OTHER>", "CLUSTER SETSLOT 7629 NODE <ME>")
    talk("there", "CLUSTER SETSLOT 7629 NODE <ME>")
    await_agreement([talk.here, talk.there])


@covers("ASKING", "READONLY", "READWRITE", "CLUSTER|KEYSLOT", "CLUSTER|COUNTKEYSINSLOT", "CLUSTER|GETKEYSINSLOT", "CLUSTER|SETSLOT", "CLUSTER|ADDSLOTSRANGE", "CLUSTER|MEET")
@pytest.mark.parametrize("kind", KINDS)
@of_scenarios(commands_for_keys_of_other_nodes, blocks, scripts, a_slot_goes_and_comes_back, clients_that_wait)
def test_a_node_sends_its_clients_where_redis_does(kind, scenario):
    check_scenario(kind, scenario)


def alone(kind, *settings):
    """What a node says that has only some slots, and nobody else."""
    with nodes(kind) as (server,):
        lines = []
        with server.client() as client:
            for command in (
                "GET b", "SPUBLISH b x", "PING", "CLUSTER ADDSLOTSRANGE 0 8191", "GET b", "SET b 1", "MULTI", "GET b", "EXEC", "EVAL 'return 1' 1 b",
                ("EVAL", "return redis.call('get', 'b')", 0), "BLPOP b 1", "KEYS *", "WATCH b", "CONFIG SET cluster-allow-reads-when-down yes", "GET b", "SET b 1",
                "MULTI", "SET b 1", "GET b", "EXEC", ("EVAL", "return redis.call('set', 'b', 1)", 0), ("EVAL", "return redis.call('get', 'b')", 0),
                "SPUBLISH b x", "GET foo", "CONFIG SET cluster-allow-pubsubshard-when-down no", "SPUBLISH b x", "SSUBSCRIBE b", "SUNSUBSCRIBE b", "SUNSUBSCRIBE",
                "CONFIG SET cluster-allow-reads-when-down no", "CONFIG SET cluster-require-full-coverage no",
            ):  # fmt: skip
                lines.append((command, client(*words_of(command))))
            eventually(lambda: cluster_info(server)["cluster_state"] == "ok", 10)
            for command in (
                "SET b 1", "GET b", "GET foo", "MGET foo b", "MGET b foo", "MULTI", "GET foo", "EXEC", "SPUBLISH foo x", "SPUBLISH b x", "CLUSTER DELSLOTS 3300",
                "GET b", "CLUSTER SETSLOT 3300 STABLE", "CLUSTER ADDSLOTS 3300", "GET b", "READONLY", "GET foo", "DEL b", "ASKING", "GET foo",
            ):  # fmt: skip
                lines.append((command, shape(client(*words_of(command)), [])))
        return lines


@pytest.mark.parametrize("kind", KINDS)
def test_slots_that_nobody_has_and_clusters_that_are_down(kind):
    expected, heard = alone("redis"), alone(kind)
    wrong = [f"{here}\n    Redis: {there[1]}" for here, there in zip(heard, expected) if here != there]
    assert not wrong, "\n".join(wrong)


def without_a_cluster(kind):
    server = Server(kind).start()
    try:
        with server.client() as client:
            commands = ("ASKING", "READONLY", "READWRITE", "CLUSTER KEYSLOT a", "CLUSTER COUNTKEYSINSLOT 1", "CLUSTER GETKEYSINSLOT 1 1", "CLUSTER INFO", "ASKING x")
            commands += ("CLUSTER KEYSLOT", "MULTI", "ASKING", "CLUSTER KEYSLOT a", "EXEC", "MGET a b c")
            return [(command, client(command)) for command in commands]
    finally:
        server.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_there_may_be_no_cluster(kind):
    assert without_a_cluster(kind) == without_a_cluster("redis")
