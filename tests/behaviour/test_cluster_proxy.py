"""`cluster-proxy yes`: a client that knows nothing of clusters works against any node."""

import contextlib
import threading
import time

import pytest
import redis

from harness import *
from harness.cluster import NODE_TIMEOUT_MS, Router, address, ask, await_agreement, cli, create, move_slot, my_id, node, nodes
from harness.server import chosen_targets, free_ports

KINDS = [target for target in chosen_targets() if target != "redis"]
PROXY = ("--cluster-proxy", "yes")
ENDS = (0, 5461, 10923, 16384)
KEYS = {0: "b", 1: "k", 2: "foo"}
"""A key of each third of the slots."""
FOREIGN = "foo"
"""Not of the first node."""


def settings(kind, *more):
    """A Redis has nothing of the kind."""
    return more if kind == "redis" else (*PROXY, *more)


@contextlib.contextmanager
def cluster(*kinds, more=()):
    """A cluster of these, each with as many slots as the others, in their order."""
    with nodes(*kinds, arguments=lambda kind: settings(kind, *more)) as servers:
        join(servers)
        yield servers


def join(servers):
    first = servers[0]
    for server, start, end in zip(servers, ENDS, ENDS[1:]):
        assert ask(server, "CLUSTER", "ADDSLOTSRANGE", start, end - 1) == OK
    for server in servers[1:]:
        assert ask(first, "CLUSTER", "MEET", "127.0.0.1", server.port) == OK
    await_agreement(servers)


@pytest.fixture(scope="module")
def shared():
    # Long values on a busy machine must not make a node look dead.
    with cluster("corelane-3", "corelane-1", "redis", more=("--cluster-node-timeout", "30000")) as servers:
        yield servers


@pytest.fixture
def three(shared):
    """A node of three shards, one of one, and a Redis."""
    for server in shared:
        assert ask(server, "FLUSHALL") == OK
        server.assert_alive()
    return shared


ENTRIES = pytest.mark.parametrize("entry", [0, 1], ids=["corelane-3", "corelane-1"])
PROTOCOLS = pytest.mark.parametrize("protocol", [2, 3])

OF_ALL_TYPES = (
    "GET {K}", "SET {K} 1", "INCR {K}", "APPEND {K} x", "INCR {K}", "GETRANGE {K} 0 -1", "LPUSH {K} x", "EXPIRE {K} 100", "TYPE {K}",
    "OBJECT ENCODING {K}", "DUMP {K}", "RENAME {K} {K}2", "MSET {K} a {K}2 b", "MGET {K} {K}2 {K}3", "DEL {K} {K}2 {K}3",
    "HSET {K} f 1 g 2", "HGETALL {K}", "HINCRBYFLOAT {K} f 0.5", "HRANDFIELD {K} 0", "UNLINK {K}",
    "RPUSH {K} a b c", "LRANGE {K} 0 -1", "LMPOP 1 {K} LEFT COUNT 2", "SORT {K}", "DEL {K}", "SADD {K} a", "SMEMBERS {K}", "SMISMEMBER {K} a b", "DEL {K}",
    "ZADD {K} 1.5 a 2 b", "ZRANGE {K} 0 -1 WITHSCORES", "ZSCORE {K} a", "ZUNIONSTORE {K}2 1 {K}", "ZPOPMIN {K}", "DEL {K} {K}2",
    "XADD {K} 1-1 f v", "XRANGE {K} - +", "XREAD STREAMS {K} 0", "XGROUP CREATE {K} g 0", "XREADGROUP GROUP g c STREAMS {K} >", "XINFO GROUPS {K}", "DEL {K}",
    "SETBIT {K} 7 1", "BITCOUNT {K}", "DEBUG OBJECT", "GET", "GET {K} x", "EVAL 'return {1,redis.call(\"set\",KEYS[1],ARGV[1]),KEYS[1]}' 1 {K} v",
    "EVAL 'return redis.error_reply(\"MY error\")' 1 {K}", "EVALSHA 0000000000000000000000000000000000000000 1 {K}", "FCALL nothing 1 {K}", "SPUBLISH {K} x",
    "BLPOP {K} 1", "DEL {K}", "BLPOP {K} 0.01", "PING", "SET {K} 1 XX", "SET {K} 1 NX EX", "EXISTS {K}", "TOUCH {K}",
)  # fmt: skip


@ENTRIES
@PROTOCOLS
def test_every_type_of_command_is_answered_as_by_the_owner_of_the_slot(three, entry, protocol):
    with three[entry].client(protocol) as client, three[2].client(protocol) as owner:
        # The third has no proxy: what its own keys are answered is the measure.
        expected = [owner(*words_of(command.replace("{K}", "{a}"))) for command in OF_ALL_TYPES]
        for key in ("{b}", "{k}", "{foo}"):
            for command, wanted in zip(OF_ALL_TYPES, expected):
                reply = client(*words_of(command.replace("{K}", key)))
                if command.startswith("DUMP"):
                    assert type(reply) is bytes
                else:
                    assert named(reply, key) == named(wanted, "{a}"), (key, command)


def named(reply, key):
    """A reply in which the key is called KEY."""
    if isinstance(reply, list):
        return type(reply)(named(item, key) for item in reply)
    if isinstance(reply, Map):
        return Map([(named(name, key), named(value, key)) for name, value in reply.pairs])
    return reply.replace(key.encode(), b"KEY") if type(reply) is bytes else reply


@ENTRIES
def test_a_script_that_the_asked_node_knows_runs_for_all_keys(three, entry):
    for server in three:
        ask(server, "SCRIPT", "FLUSH")
    with three[entry].client() as client:
        digest = client("SCRIPT", "LOAD", "return redis.call('INCR', KEYS[1]) + ARGV[1]")
        reads = client("SCRIPT", "LOAD", "return redis.call('GET', KEYS[1])")
        for key in KEYS.values():
            assert client("EVALSHA", digest, 1, key, 10) == 11
            assert client("MULTI") == OK
            client("EVALSHA", digest, 1, key, 10)
            client("EVALSHA_RO", reads, 1, key)
            assert client("EXEC") == [12, b"2"]
        assert client("EVALSHA", "0" * 40, 1, FOREIGN) == Error("NOSCRIPT No matching script. Please use EVAL.")


@ENTRIES
def test_a_plain_client_reaches_all_slots(three, entry):
    client = redis.Redis(port=three[entry].port, socket_timeout=20)
    for number in range(500):
        assert client.set(f"key:{number}", number)
    assert [int(client.get(f"key:{number}")) for number in range(500)] == list(range(500))
    sizes = [ask(server, "DBSIZE") for server in three]
    assert sum(sizes) == 500 and min(sizes) > 100
    client.close()


@ENTRIES
@PROTOCOLS
def test_a_pipeline_keeps_its_order_whoever_has_the_keys(three, entry, protocol):
    rounds = 700
    with three[entry].client(protocol) as client:
        commands = []
        for number in range(rounds):
            commands += [["INCR", f"counter{number % 37}"], ["PING", str(number)], ["APPEND", "log", f"{number},"]]
        replies = client.pipeline(*commands)
        assert replies[1::3] == [str(number).encode() for number in range(rounds)]
        assert replies[0::3] == [number // 37 + 1 for number in range(rounds)]
        assert client("GET", "log") == "".join(f"{number}," for number in range(rounds)).encode()


@ENTRIES
def test_long_values_cross_whole(three, entry):
    long = bytes(range(256)) * (64 * 1024)
    with three[entry].client() as client:
        for key in KEYS.values():
            assert client("SET", key, long) == OK
        for key in KEYS.values():
            # More than may wait for answers at a time, and than a client may be owed.
            assert all(reply == long for reply in client.pipeline(*[["GET", key]] * 3))
            assert client("RPUSH", f"{{{key}}}list", *[b"x" * 100] * 50000) == 50000
            assert len(client("LRANGE", f"{{{key}}}list", 0, -1)) == 50000


@ENTRIES
def test_more_requests_than_a_link_holds_wait_and_none_is_lost(three, entry):
    value = b"v" * 100_000
    with three[entry].client() as client:
        commands = [["SET", f"{{{FOREIGN}}}{number}", value] for number in range(300)]
        assert client.pipeline(*commands) == [OK] * 300
        assert client.pipeline(*[["STRLEN", f"{{{FOREIGN}}}{number}"] for number in range(300)]) == [100_000] * 300


@ENTRIES
def test_a_client_that_wants_no_replies_gets_none(three, entry):
    with three[entry].client() as client:
        for key in KEYS.values():
            client.send("CLIENT", "REPLY", "SKIP")
            client.send("SET", key, 1)
            assert client("GET", key) == b"1"
        client.send("CLIENT", "REPLY", "OFF")
        for key in KEYS.values():
            client.send("INCR", key)
        assert client("CLIENT", "REPLY", "ON") == OK
        assert [client("GET", key) for key in KEYS.values()] == [b"2"] * 3


@ENTRIES
def test_several_slots_are_no_command(three, entry):
    cross = Error("CROSSSLOT Keys in request don't hash to the same slot")
    with three[entry].client() as client:
        assert client("MGET", "a", "foo") == cross
        assert client("MSET", "foo", 1, "bar", 2) == cross
        assert client("EVAL", "return 1", 2, "foo", "k") == cross


@ENTRIES
@PROTOCOLS
def test_a_block_for_one_slot_of_another_node_runs_there(three, entry, protocol):
    queued = Simple("QUEUED")
    for key in KEYS.values():
        with three[entry].client(protocol) as client:
            assert client("MULTI") == OK
            for command in (["SET", key, 1], ["INCR", key], ["LPUSH", key, "x"], ["PING"], ["GET", key]):
                assert client(*command) == queued
            reply = client("EXEC")
            wrong = Error("WRONGTYPE Operation against a key holding the wrong kind of value")
            assert reply == [OK, 2, wrong, Simple("PONG"), b"2"]
            assert client("EXEC") == Error("ERR EXEC without MULTI")
            replies = client.pipeline(["MULTI"], ["INCR", key], ["INCR", key], ["EXEC"], ["GET", key])
            assert replies == [OK, queued, queued, [3, 4], b"4"]
            assert client.pipeline(["MULTI"], ["INCR", key], ["DISCARD"], ["GET", key])[1:] == [queued, OK, b"4"]
            assert client.pipeline(["MULTI"], ["INCR", key], ["NOSUCH"], ["EXEC"])[3].startswith("EXECABORT")
            assert client("GET", key) == b"4"
            assert client.pipeline(["MULTI"], ["INCR", key], ["INCR", "other"], ["EXEC"])[3].startswith("CROSSSLOT")
            assert client("GET", key) == b"4"


def test_what_cannot_be_forwarded_is_sent_away(three):
    with three[0].client() as client:
        for command in ("WATCH foo", "SSUBSCRIBE foo", "MIGRATE 127.0.0.1 1 foo 0 10"):
            assert client(*words_of(command)) == Error(f"MOVED 12182 127.0.0.1:{three[2].port}"), command
        # A block about its connection, or of a client that watches something.
        assert client.pipeline(["MULTI"], ["GET", "foo"], ["CLIENT", "ID"], ["EXEC"])[3].startswith("MOVED ")
        replies = client.pipeline(["WATCH", "b"], ["MULTI"], ["GET", "foo"], ["EXEC"])
        assert replies[2].startswith("MOVED ") and replies[3].startswith("EXECABORT")
        assert client("SUBSCRIBE", "news") == [b"subscribe", b"news", 1]
        assert client("GET", "foo").startswith("MOVED ")


def some_client_waits(server):
    return any(b" flags=b " in line and b"cmd=blpop" in line for line in ask(server, "CLIENT", "LIST").splitlines())


@ENTRIES
def test_who_waits_for_a_key_of_another_node_is_served(three, entry):
    with three[entry].client() as waits, three[entry].client() as gives:
        waits.send("BLPOP", FOREIGN, 0)
        waits.send("SET", "b", "behind")
        waits.send("GET", "b")
        assert waits.silent(0.3)
        assert gives("GET", "b") == NIL
        assert gives("RPUSH", FOREIGN, "x") == 1
        assert [waits.read(), waits.read(), waits.read()] == [[b"foo", b"x"], OK, b"behind"]
        # What others on the same node ask for meanwhile is not held up.
        waits.send("BLPOP", FOREIGN, 0)
        assert gives("LLEN", FOREIGN) == 0
        eventually(lambda: some_client_waits(three[2]))
        waits.close()
        # Nothing is given to who is gone.
        eventually(lambda: not some_client_waits(three[2]))
        assert gives("RPUSH", FOREIGN, "y") == 1
        assert gives("LRANGE", FOREIGN, 0, -1) == [b"y"]


def test_without_the_proxy_clients_are_sent_away_and_it_can_be_switched(three):
    moved = Error(f"MOVED 12182 127.0.0.1:{three[2].port}")
    with three[0].client() as client:
        assert client("GET", "foo") == NIL
        assert client("CONFIG", "SET", "cluster-proxy", "no") == OK
        try:
            assert client("GET", "foo") == moved
            assert client.pipeline(["MULTI"], ["GET", "foo"], ["EXEC"])[1] == moved
        finally:
            assert client("CONFIG", "SET", "cluster-proxy", "yes") == OK
        assert client("GET", "foo") == NIL


def test_what_is_forwarded_is_not_forwarded_again(three):
    with three[0].client() as client:
        assert client("CLIENT", "SETINFO", "forwards", "yes") == OK
        assert client("GET", "foo") == Error(f"MOVED 12182 127.0.0.1:{three[2].port}")


def test_subscribers_of_a_shard_channel_hear_what_is_published_at_another_node(three):
    with three[2].client() as subscriber, three[0].client() as client:
        assert subscriber("SSUBSCRIBE", FOREIGN) == [b"ssubscribe", b"foo", 1]
        assert client("SPUBLISH", FOREIGN, "hello") == 1
        assert subscriber.read() == [b"smessage", b"foo", b"hello"]


def test_nodes_with_a_password_let_each_other_in_and_say_if_not():
    with nodes("corelane-3", "redis", arguments=lambda kind: settings(kind)) as servers:
        join_two(servers)
        for server in servers:
            ask_all(server, [["CONFIG", "SET", "masterauth", "pw"], ["CONFIG", "SET", "requirepass", "pw"]])
        with Client(servers[0].port, password="pw") as client:
            assert client("SET", FOREIGN, 1) == OK and client("GET", FOREIGN) == b"1"
            assert client("HELLO", 3)["proto"] == 3 and client("GET", FOREIGN) == b"1"
            assert client("CONFIG", "SET", "masterauth", "wrong") == OK
            # Links that are there stay: a client of its own link needs a new one.
            assert client("BLPOP", FOREIGN, 1).startswith("CLUSTERDOWN The node at 127.0.0.1:")


def join_two(servers):
    here, there = servers
    assert ask(here, "CLUSTER", "ADDSLOTSRANGE", 0, 8191) == OK == ask(there, "CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
    assert ask(here, "CLUSTER", "MEET", "127.0.0.1", there.port) == OK
    await_agreement(servers)


def ask_all(server, commands):
    with server.client() as client:
        assert client.pipeline(*commands) == [OK] * len(commands)


class Writer(threading.Thread):
    """Counts keys up through one node, knowing nothing of the cluster, until it is told to stop."""

    def __init__(self, server, keys):
        super().__init__(daemon=True)
        self.client, self.ends = server.client(), threading.Event()
        self.counted, self.trouble = dict.fromkeys(keys, 0), []

    def run(self):
        keys = list(self.counted)
        while not self.ends.is_set() and not self.trouble:
            commands = [["INCR", key] for key in keys] + [["MULTI"], ["INCR", keys[0]], ["INCR", keys[0]], ["EXEC"]]
            try:
                replies = self.client.pipeline(*commands)
            except (ConnectionLost, NoReply) as trouble:
                self.trouble.append(trouble)
                return
            for key, reply in zip(keys, replies):
                self._note(key, [reply])
            self._note(keys[0], replies[-1] if isinstance(replies[-1], list) else [replies[-1]])

    def _note(self, key, replies):
        for reply in replies:
            if type(reply) is int:
                self.counted[key] += 1
                # Nobody else counts these, so they are in order, too.
                if reply != self.counted[key]:
                    self.trouble.append((key, reply, self.counted[key]))
            else:
                self.trouble.append(reply)

    def stop(self):
        self.ends.set()
        self.join(20)
        self.client.close()


def reshard(source, target, slot, everybody):
    move_slot(source, target, slot)
    await_agreement(everybody)


@pytest.mark.parametrize("kinds", [("corelane-3", "corelane-1", "redis"), ("corelane-3", "corelane-3", "corelane-3")], ids="-".join)
def test_no_increment_is_lost_refused_or_out_of_order_while_a_slot_moves(kinds):
    slot = 12182
    with cluster(*kinds) as servers:
        first, second, third = servers
        entries = [server for server in servers if not server.is_redis]
        writers = [Writer(server, [f"{{foo}}{number}.{key}" for key in range(20)]) for number, server in enumerate(entries)]
        for writer in writers:
            writer.start()
        for source, target in ((third, first), (first, second), (second, third), (third, second), (second, first), (first, third)):
            reshard(source, target, slot, servers)
            time.sleep(0.1)
        for writer in writers:
            writer.stop()
        assert not any(writer.trouble for writer in writers), [writer.trouble[:3] for writer in writers]
        with Router(servers) as route:
            for writer in writers:
                for key, counted in writer.counted.items():
                    assert int(route("GET", key) or 0) == counted
                assert min(writer.counted.values()) > 10


def test_a_slot_may_move_as_a_whole_meanwhile():
    with cluster("corelane-3", "corelane-1", "corelane-3") as servers:
        first, second, third = servers
        writers = [Writer(server, [f"{{foo}}{number}.{key}" for key in range(20)]) for number, server in enumerate(servers)]
        for writer in writers:
            writer.start()
        for source, target in ((third, first), (first, second), (second, third)):
            assert ask(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", 12182, 12182, "NODE", my_id(target)) == OK
            eventually(lambda: owner_of(source, 12182) == target.port, 20, every=0.05)
            await_agreement(servers)
        for writer in writers:
            writer.stop()
        assert not any(writer.trouble for writer in writers), [writer.trouble[:3] for writer in writers]


def owner_of(server, slot):
    for first, last, master, *_ in ask(server, "CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return master[1]
    return None


def test_who_waits_goes_with_the_slot():
    with cluster("corelane-3", "corelane-1", "redis") as servers:
        first, second, third = servers
        with first.client() as waits, first.client() as gives:
            waits.send("BLPOP", FOREIGN, 0)
            eventually(lambda: some_client_waits(third))
            reshard(third, second, 12182, servers)
            eventually(lambda: some_client_waits(second))
            reshard(second, first, 12182, servers)
            eventually(lambda: not some_client_waits(second))
            assert gives("RPUSH", FOREIGN, "x") == 1
            assert waits.read(5) == [b"foo", b"x"]
            # And the other way: it waits at home, and its slot leaves.
            waits.send("BLPOP", FOREIGN, 0)
            assert waits.silent(0.2)
            reshard(first, third, 12182, servers)
            assert gives("RPUSH", FOREIGN, "y") == 1
            assert waits.read(5) == [b"foo", b"y"]


@pytest.mark.parametrize("kinds", [("corelane-3", "corelane-1", "redis", "redis"), ("corelane-1", "redis", "corelane-3", "corelane-3")], ids="-".join)
def test_when_a_node_falls_its_clients_hear_so_and_its_replica_takes_over(kinds):
    with nodes(*kinds, arguments=lambda kind: settings(kind, "--repl-diskless-sync-delay", "0")) as servers:
        *masters, replica = servers
        entry, _, falls = masters
        create(masters)
        cli("add-node", address(replica), address(entry), "--cluster-slave", "--cluster-master-id", my_id(falls))
        eventually(lambda: replica.info("replication").get("master_link_status") == "up", 30)
        await_agreement(servers)
        with entry.client() as client, entry.client() as waits:
            assert client("SET", FOREIGN, "before") == OK
            waits.send("BLPOP", "{foo}list", 0)
            eventually(lambda: some_client_waits(falls))
            falls.kill()
            assert waits.read(5) == Error(
                f"ERR The connection to the node at 127.0.0.1:{falls.port} was lost before it answered, the command may have been executed"
            )
            assert client("GET", FOREIGN) == Error(f"CLUSTERDOWN The node at 127.0.0.1:{falls.port} cannot be reached")
            assert client("SET", "b", "here") in (OK, Error("CLUSTERDOWN The cluster is down"))
            eventually(lambda: client("GET", FOREIGN) == b"before", NODE_TIMEOUT_MS / 1000 * 2 + 10, every=0.1)
            assert client("SET", FOREIGN, "after") == OK
        # A replica forwards what its master has.
        if kinds[3] != "redis":
            assert ask(replica, "GET", FOREIGN) == b"after"


def test_a_replica_forwards_to_its_master_unless_it_may_read_itself():
    with nodes("corelane-3", "corelane-1", arguments=PROXY + ("--repl-diskless-sync-delay", "0")) as (master, replica):
        assert ask(master, "CLUSTER", "ADDSLOTSRANGE", 0, 16383) == OK
        assert ask(master, "CLUSTER", "MEET", "127.0.0.1", replica.port) == OK
        await_agreement([master, replica])
        assert ask(replica, "CLUSTER", "REPLICATE", my_id(master)) == OK
        eventually(lambda: replica.info("replication").get("master_link_status") == "up", 30)
        with replica.client() as client:
            assert client("SET", "k", 1) == OK and client("GET", "k") == b"1"
            calls = lambda server: server.info("commandstats").get("cmdstat_get", "calls=0").split(",")[0]
            before = calls(master)
            assert client("READONLY") == OK
            eventually(lambda: client("GET", "k") == b"1")
            assert calls(master) == before
            assert client("SET", "k", 2) == OK


def test_a_node_of_several_ports_is_reached_at_the_shard_that_has_the_slot():
    base = free_ports(4)
    with contextlib.ExitStack() as stack:
        here = node("corelane-1", *PROXY, "--shard-ports", "yes", "--shard-port-base", str(base))
        there = node("corelane-3", *PROXY, "--shard-ports", "yes", "--shard-port-base", str(base + 1))
        for server in (here, there):
            stack.callback(server.stop)
            server.start()
        join_two((here, there))
        eventually(lambda: owner_of(here, 12182) in range(base + 1, base + 4), 10)
        with here.client() as client:
            for number in range(200):
                assert client("SET", f"key:{number}", number) == OK
        called = {line.split(b"laddr=")[1].split(b" ")[0] for line in ask(there, "CLIENT", "LIST").splitlines()}
        assert {b"127.0.0.1:%d" % port for port in range(base + 1, base + 4)} <= called
