"""What CLUSTER SLOT-STATS tells of a slot besides its keys (`cluster-slot-stats-enabled`).

The rules are those of Valkey 8 as its documentation has them; no Valkey runs beside these tests."""

import contextlib

import pytest

from harness import *
from harness import OK
from harness.cluster import ask, cluster_info, nodes
from harness.resp import encode
from harness.server import chosen_targets

KINDS = [target for target in chosen_targets() if target != "redis"]
KEY, SLOT = "key", 12539
METRICS = ["key-count", "cpu-usec", "network-bytes-in", "network-bytes-out"]


@contextlib.contextmanager
def alone(kind):
    """A node with all slots that counts."""
    with nodes(kind, arguments=("--cluster-slot-stats-enabled", "yes")) as (server,):
        assert ask(server, "CLUSTER", "ADDSLOTSRANGE", 0, 16383) == OK
        eventually(lambda: cluster_info(server)["cluster_state"] == "ok")
        yield server


@pytest.fixture(scope="module", params=KINDS)
def counting(request):
    with alone(request.param) as server:
        yield server


def stats(client, slot=SLOT):
    """What is told of a slot, by the name of the metric."""
    ((number, found),) = client("CLUSTER", "SLOT-STATS", "SLOTSRANGE", slot, slot)
    assert number == slot
    return dict(zip((name.decode() for name in found[::2]), found[1::2], strict=True))


def network(client, slot=SLOT):
    found = stats(client, slot)
    return found["network-bytes-in"], found["network-bytes-out"]


@contextlib.contextmanager
def anew(server):
    """A client of a server that has no keys and has counted nothing."""
    with server.client() as client:
        assert client("FLUSHALL") == OK == client("CONFIG", "RESETSTAT")
        yield client


@pytest.mark.parametrize(
    ("commands", "bytes_in", "bytes_out"),
    [
        (["SET key value"], 33, 5),
        (["SET key value", "GET key"], 33 + 22, 5 + 11),
        (["INCR key", "LPUSH key a"], 23 + 31, 4 + 68),
        (["MSET key a {key}b b"], 49, 5),
        (["PING", "INFO", "CLUSTER KEYSLOT key", "DBSIZE", "PUBLISH key a"], 0, 0),
        (["MULTI", "SET key value", "EXEC"], 15 + 33 + 14, 9 + 5),
        (["EVAL return(1) 1 key"], 45, 4),
        (["SPUBLISH key a"], 34, 4),
    ],
)
def test_bytes_are_those_on_the_wire(counting, commands, bytes_in, bytes_out):
    with anew(counting) as client:
        for command in commands:
            client(command)
        assert network(client) == (bytes_in, bytes_out)
        assert network(client, SLOT + 1) == (0, 0)


def test_inline_commands_and_pipelines_are_counted_as_they_come(counting):
    with anew(counting) as client:
        client.raw(b"SET key value\r\nSET key value\r\n")
        assert [client.read(), client.read()] == [OK, OK]
        assert network(client) == (30, 10)
        client.raw(encode("SET", "key", "value") * 50)
        assert [client.read() for _ in range(50)] == [OK] * 50
        assert network(client) == (30 + 50 * 33, 10 + 50 * 5)


def test_a_client_that_waits_is_counted_with_what_it_gets(counting):
    with anew(counting) as client, counting.client() as waiting:
        waiting.send("BLPOP", KEY, 0)
        eventually(lambda: b"blocked_clients:1" in client("INFO", "clients"))
        assert client("LPUSH", KEY, "value") == 1
        assert waiting.read() == [b"key", b"value"]
        assert network(client) == (31 + 35, 4 + 24)


def test_messages_to_shard_subscribers_are_counted(counting):
    with anew(counting) as client, counting.client() as one, counting.client() as other:
        for subscriber in (one, other):
            subscriber("SSUBSCRIBE", KEY)
        before = network(client)[1]
        assert client("SPUBLISH", KEY, "hello") == 2
        for subscriber in (one, other):
            assert subscriber.read() == [b"smessage", b"key", b"hello"]
        assert network(client)[1] - before == 4 + 2 * len(encode("smessage", "key", "hello"))


def test_time_is_counted_once_and_for_the_slot_of_the_keys(counting):
    loop = "for _ = 1, 1000 do redis.call('SET', KEYS[1], 1) end"
    with anew(counting) as client:
        client("SET", KEY, 1)
        client("EVAL", loop, 1, KEY)
        lines = client("INFO", "commandstats").decode().splitlines()
        usec = {line.split(":")[0]: int(line.split("usec=")[1].split(",")[0]) for line in lines if "usec=" in line}
        found = stats(client)["cpu-usec"]
        # The script's own time has that of its commands; rounded down to microseconds twice.
        assert usec["cmdstat_eval"] <= found <= usec["cmdstat_eval"] + usec["cmdstat_set"] + 2
        assert client("CLUSTER", "SLOT-STATS", "ORDERBY", "CPU-USEC", "LIMIT", 1)[0][0] == SLOT
        assert stats(client, SLOT + 1)["cpu-usec"] == 0


def test_slots_can_be_ordered_by_each_metric(counting):
    with anew(counting) as client:
        for key, times in (("a", 1), ("b", 3), ("c", 2)):
            for _ in range(times):
                client("SET", key, "x")
        for metric in METRICS[2:]:
            found = client("CLUSTER", "SLOT-STATS", "ORDERBY", metric, "LIMIT", 3)
            assert [slot for slot, _ in found] == [client("CLUSTER", "KEYSLOT", key) for key in "bca"], metric


def test_counts_begin_anew_when_the_slot_changes_hands(counting):
    with anew(counting) as client:
        client("SET", KEY, "value")
        client("DEL", KEY)
        assert client("CLUSTER", "DELSLOTS", SLOT) == OK == client("CLUSTER", "ADDSLOTS", SLOT)
        eventually(lambda: cluster_info(counting)["cluster_state"] == "ok")
        assert stats(client) == dict.fromkeys(METRICS, 0)


def test_nothing_but_keys_is_told_while_it_is_off(counting):
    with anew(counting) as client:
        client("SET", KEY, "value")
        assert client("CONFIG", "SET", "cluster-slot-stats-enabled", "no") == OK
        assert stats(client) == {"key-count": 1}
        for metric in METRICS[1:]:
            answer = client("CLUSTER", "SLOT-STATS", "ORDERBY", metric)
            assert answer == Error("ERR Unrecognized sort metric for ORDERBY."), metric
        client("SET", KEY, "value")
        assert client("CONFIG", "SET", "cluster-slot-stats-enabled", "yes") == OK
        assert network(client) == (33, 5)
        with counting.client(3) as resp3:
            ((_, found),) = resp3("CLUSTER", "SLOT-STATS", "SLOTSRANGE", SLOT, SLOT)
            assert [name.decode() for name, _ in found.pairs] == METRICS
