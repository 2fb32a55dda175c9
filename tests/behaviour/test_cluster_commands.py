"""CLUSTER on one node: the same words lead to the same replies as on redis-server."""

import re

import pytest

from harness.cluster import address, ask, my_id, node, nodes, ownership
from harness.resp import OK, Error, Map, Simple, Verbatim
from harness.server import chosen_targets
from harness.table import covers
from harness.waiting import eventually

STRANGER = "0" * 40

ALONE = [
    "MEET a b c d", "MEET a b", "MEET x 1", "MEET 127.0.0.1 0", "MEET 127.0.0.1 99999", "MEET 127.0.0.1 60000",
    "MEET 127.0.0.1 abc", "MEET 127.0.0.1 7000 abc", "MEET 127.0.0.1 7000 0", "MEET 127.0.0.1 7000 -5", "MEET ::1 -7",
    "ADDSLOTS 16384", "ADDSLOTS -1", "ADDSLOTS x", "ADDSLOTS 1 1", "ADDSLOTS 1 2 3", "ADDSLOTS 5 1", "ADDSLOTS 4 a 99999",
    "DELSLOTS 1 1", "DELSLOTS 9", "DELSLOTS 2", "ADDSLOTSRANGE 1 2 3", "ADDSLOTSRANGE 9 8", "ADDSLOTSRANGE 10 12 11 13",
    "ADDSLOTSRANGE 2 8", "ADDSLOTSRANGE 100 200 300 400", "DELSLOTSRANGE 1 4", "DELSLOTSRANGE 3 3 3 3", "DELSLOTSRANGE 150 160",
    "SLOTS", "SHARDS", "LINKS", "INFO", "MYID", "NODES",
    "SETSLOT 1 STABLE", "SETSLOT 1 STABLE x", "SETSLOT x STABLE", "SETSLOT 1 NODE", "SETSLOT 1 foo bar", "SETSLOT 2 MIGRATING x",
    "SETSLOT 1 MIGRATING x", "SETSLOT 1 IMPORTING x", "SETSLOT 2 IMPORTING x", "SETSLOT 1 NODE x", "SETSLOT 1 NODE myself",
    "SETSLOT 500 IMPORTING myself", "SETSLOT 100 MIGRATING myself", "NODES", "SETSLOT 500 NODE myself", "NODES", "INFO",
    "SETSLOT 100 STABLE", "FLUSHSLOTS", "FLUSHSLOTS x", "SLOTS", "NODES", "BUMPEPOCH", "BUMPEPOCH", "SET-CONFIG-EPOCH x", "SET-CONFIG-EPOCH -1",
    "SET-CONFIG-EPOCH 0", "SET-CONFIG-EPOCH 5", "RESET x", "RESET soft hard", "FAILOVER", "FAILOVER x", "FAILOVER force x",
    f"FORGET {STRANGER}", "FORGET x", "FORGET", "FORGET myself", f"REPLICATE {STRANGER}", "REPLICATE x", "REPLICATE myself",
    "SLAVES x", "REPLICAS myself", "SLAVES myself", "COUNT-FAILURE-REPORTS x", "COUNT-FAILURE-REPORTS myself", "SAVECONFIG",
    "SAVECONFIG x", "FOO", "REPLICAS", "RESET", "INFO", "RESET HARD", "INFO", "SET-CONFIG-EPOCH 9", "INFO", "NODES",
    "KEYSLOT a", "COUNTKEYSINSLOT 1",
]  # fmt: skip


covers("CLUSTER HELP", *(f"CLUSTER {line.split()[0]}" for line in ALONE))


def shape(reply, server, name):
    """A reply without what differs from node to node."""
    if isinstance(reply, list):
        return [shape(item, server, name) for item in reply]
    if isinstance(reply, Map):
        return Map, [(key, shape(value, server, name)) for key, value in reply.pairs]
    if isinstance(reply, Verbatim):
        return Verbatim, reply.format, shape(reply.data, server, name)
    if isinstance(reply, (bytes, str)):
        raw = reply if isinstance(reply, bytes) else reply.encode()
        raw = raw.replace(name.encode(), b"myself").replace(str(server.port + 10000).encode(), b"BUS")
        raw = raw.replace(str(server.port).encode(), b"PORT")
        # Redis counts masters again only when it has run for two seconds.
        raw = re.sub(rb"cluster_size:\d", b"cluster_size:N", raw)
        return type(reply), re.sub(rb"[0-9a-f]{40}", b"ID", raw)
    return "PORT" if reply == server.port else reply


def by_client(client, protocol, *words):
    return client("CLUSTER", *words)


def in_script(client, protocol, *words):
    script = f"redis.setresp({protocol}) return redis.call('CLUSTER', unpack(ARGV))"
    return client("EVAL", script, 0, *words)


def in_block(client, protocol, *words):
    return client.pipeline("MULTI", ("CLUSTER", *words), "EXEC")[1:]


def replies(server, protocol, say):
    with server.client(protocol) as client:
        for line in ALONE:
            name = my_id(server)
            words = line.replace("myself", name).split()
            yield line, shape(say(client, protocol, *words), server, name)


@pytest.mark.parametrize("say", [by_client, in_script, in_block])
@pytest.mark.parametrize("kind", [target for target in chosen_targets() if target != "redis"])
def test_one_node_answers_like_redis(kind, say):
    for protocol in (2, 3):
        with nodes("redis", kind) as (theirs, ours):
            pairs = zip(replies(theirs, protocol, say), replies(ours, protocol, say), strict=True)
            for (line, expected), (_, found) in pairs:
                assert found == expected, f"CLUSTER {line}"


@pytest.mark.parametrize("kind", chosen_targets())
def test_a_script_that_has_written_may_ask_the_cluster_and_goes_on(kind):
    script = """
        redis.call('SET', '{a}1', 'x')
        local slots = redis.call('CLUSTER', 'SLOTS')
        redis.call('INCR', '{a}n')
        local refused = redis.pcall('CLUSTER', 'ADDSLOTS', 1)
        redis.call('INCR', '{a}n')
        return {#slots, refused.err, redis.call('GET', '{a}n'), redis.call('CLUSTER', 'COUNTKEYSINSLOT', 15495)}
    """
    with nodes(kind) as (server,), server.client() as client:
        assert client("CLUSTER", "ADDSLOTSRANGE", 0, 16383) == OK
        eventually(lambda: client("SET", "{a}n", 0) == OK)
        for times in range(1, 4):
            assert client("EVAL", script, 0) == [1, b"ERR Slot 1 is already busy", str(times * 2).encode(), 2]
        # Between MULTI and EXEC, too.
        assert client.pipeline("MULTI", ("EVAL", script, 0), "GET {a}n", "EXEC")[3] == [
            [1, b"ERR Slot 1 is already busy", b"8", 2], b"8",
        ]  # fmt: skip


@pytest.mark.parametrize("kind", chosen_targets())
def test_keys_are_in_the_way(kind):
    with nodes(kind, kind) as (first, second):
        with first.client() as c:
            c("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            eventually(lambda: c("SET", "a", 1) == OK)
            expected = "ERR DB must be empty to perform CLUSTER FLUSHSLOTS."
            assert c("CLUSTER", "FLUSHSLOTS") == Error(expected)
            expected = "ERR CLUSTER RESET can't be called with master nodes containing keys"
            assert c("CLUSTER", "RESET") == Error(expected)
            c("CLUSTER", "MEET", "127.0.0.1", second.port)
            other = my_id(second)
            eventually(lambda: other in ownership(first))
            expected = (
                "ERR Can't assign hashslot 15495 to a different node while I still hold keys for this hash slot."
            )
            assert c("CLUSTER", "SETSLOT", 15495, "NODE", other) == Error(expected)
            assert c("CLUSTER", "SETSLOT", 15494, "NODE", other) == OK
            expected = "ERR To set a master the node must be empty and without assigned slots."
            assert c("CLUSTER", "REPLICATE", other) == Error(expected)


@pytest.mark.parametrize("kind", [target for target in chosen_targets() if target == "redis"])
def test_without_a_cluster_there_is_none(kind, private_server, target):
    server = private_server()
    for words in (["INFO"], ["NODES"], ["HELP"], ["ADDSLOTS", "1"]):
        assert ask(server, "CLUSTER", *words) == Error("ERR This instance has cluster support disabled")


@pytest.mark.parametrize("kind", chosen_targets())
def test_a_node_is_itself_again_after_a_restart(kind):
    with nodes(kind) as (server,):
        ask(server, "CLUSTER", "ADDSLOTSRANGE", 5, 9, 20, 20)
        ask(server, "CLUSTER", "BUMPEPOCH")
        before = ownership(server)
        server.kill()
        server.start()
        assert ownership(server) == before


@pytest.mark.parametrize("kind", chosen_targets())
def test_the_file_of_a_node_belongs_to_one_process(kind):
    with nodes(kind) as (first,):
        second = node(kind, directory=first.directory)
        second.log = first.directory / "second.log"
        second.start(wait=False)
        try:
            eventually(lambda: not second.alive())
            assert second.status == 1
            assert "already used by a different" in second.log.read_text()
        finally:
            second.kill()
        assert address(first) and ask(first, "PING") == Simple("PONG")


@pytest.mark.parametrize("ours", [target for target in chosen_targets() if target != "redis"])
def test_each_kind_reads_the_file_of_the_other(ours):
    for writer, reader in (("redis", ours), (ours, "redis")):
        with nodes(writer, writer) as (first, second):
            ask(first, "CLUSTER", "ADDSLOTSRANGE", 0, 99)
            ask(second, "CLUSTER", "ADDSLOTSRANGE", 200, 299)
            ask(first, "CLUSTER", "MEET", "127.0.0.1", second.port)
            eventually(lambda: ownership(first) == ownership(second) and len(ownership(first)) == 2)
            ask(first, "CLUSTER", "SETSLOT", 7, "MIGRATING", my_id(second))
            ask(first, "CLUSTER", "SAVECONFIG")
            before = ownership(first)
            first.kill()
            successor = node(reader, directory=first.directory)
            successor.port = first.port
            successor.start()
            try:
                assert ownership(successor) == before, (writer, reader)
            finally:
                successor.kill()
