"""`shard-ports yes`: each shard has a port of its own, and stock clients find the shard that has the slot.

Redis has nothing of the kind, so that these tests are about Corelane alone. Where nodes of Redis stand among the others, all
tell the main ports, for clients must hear the same wherever they ask.
"""

import itertools
import re
import signal
import socket
import subprocess

import pytest
from redis.cluster import ClusterNode, RedisCluster
from redis.crc import key_slot

from harness.cluster import (
    CONVERGENCE_SECONDS_MAX,
    address,
    ask,
    await_agreement,
    cli,
    create,
    my_id,
    node,
    nodes,
    table,
    text_of,
)
from harness.resp import OK, Client, Error, Simple
from harness.server import free_ports
from harness.table import covers
from harness.waiting import eventually
from test_cluster_clients import (
    SLOTS_MOVED,
    fail_all_over,
    fail_over,
    first_slots,
    has_link,
    is_master,
    masters_of,
    replica_of,
    reshard_there_and_back,
    run_through,
    tags_within,
)

SHARDS = {"corelane-1": 1, "corelane-3": 3}
KINDS = ("corelane-3", "corelane-1", "corelane-3", "corelane-3", "corelane-3", "corelane-1")
MIXED = ("redis", "corelane-3", "corelane-1", "corelane-3", "redis", "corelane-3")
SLOT_COUNT = 16384


def arguments(kind):
    """What a node with shard ports is started with; redis-server has none."""
    delay = ("--repl-diskless-sync-delay", "0")
    if kind == "redis":
        return delay
    return (*delay, "--shard-ports", "yes", "--shard-port-base", free_ports(SHARDS[kind]))


def shard_port_base(server):
    """The port of its first shard."""
    return int(ask(server, "CONFIG", "GET", "shard-port-base")[1])


def ports_of(server):
    """The ports at which clients are to find this node, by shard."""
    return [shard_port_base(server) + shard for shard in range(SHARDS[server.target])]


def by_slot(ports):
    """For each slot, which of a node's ports leads to it."""
    # Blocks of slots go round the shards; each shard has 64 at least, and their length is a power of two.
    block = 1 << (SLOT_COUNT // len(ports) // 64).bit_length() - 1
    return [ports[slot // block % len(ports)] for slot in range(SLOT_COUNT)]


def port_for(server, slot):
    """The port at which clients are to find this slot on this node."""
    return by_slot(ports_of(server))[slot]


@pytest.fixture(scope="module")
def servers():
    """Three masters with a replica each, which each test leaves whole."""
    with nodes(*KINDS, arguments=arguments) as started:
        create(started, replicas=1)
        yield started


def await_health(servers):
    """Waits until all nodes agree, and all links of replicas are up."""
    await_agreement(servers)
    for server in servers:
        eventually(lambda server=server: is_master(server) or has_link(server), CONVERGENCE_SECONDS_MAX)


@pytest.fixture
def whole(servers):
    """The same, when nothing is left of what the test before did, and all nodes know each other's shards."""
    await_health(servers)
    ports = {port for server in servers for port in ports_of(server)}
    eventually(lambda: all(knows(server, ports) for server in servers), CONVERGENCE_SECONDS_MAX)
    return servers


def knows(server, ports):
    """Whether it tells of a replica for all slots, and of these ports only."""
    return all(len(row) == 4 for row in slots_told(server)) and tells(server, ports)


def tells(server, ports):
    """Whether it tells of these ports only."""
    return {one[1] for row in slots_told(server) for one in row[2:]} <= ports


def slots_told(server):
    """CLUSTER SLOTS: ranges of slots with the nodes that serve them."""
    rows = ask(server, "CLUSTER", "SLOTS")
    assert isinstance(rows, list), rows
    return rows


def client_of(servers):
    return RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", server.port) for server in servers], socket_timeout=10)


def at(port):
    """A connection to this port."""
    return Client(port)


def test_every_slot_leads_to_the_port_of_its_shard(whole):
    expected = {}
    for master in masters_of(whole):
        pairs = list(zip(by_slot(ports_of(master)), by_slot(ports_of(replica_of(whole, master)))))
        for slots in table(whole[0])[my_id(master)]["slots"]:
            first, _, last = slots.partition("-")
            expected |= {slot: pairs[slot] for slot in range(int(first), int(last or first) + 1)}
    for server in whole:
        told = {}
        for first, last, (_, port, *_), *replicas in slots_told(server):
            assert len(replicas) == 1
            told |= dict.fromkeys(range(first, last + 1), (port, replicas[0][1]))
        assert told == expected


def test_cluster_shards_tells_the_same_as_cluster_slots(whole):
    for server in whole:
        by_slots, by_shards = {}, {}
        for first, last, *found in slots_told(server):
            seen = {(port, name) for _, port, name, _ in found}
            by_slots |= {slot: seen for slot in range(first, last + 1)}
        for entry in ask(server, "CLUSTER", "SHARDS"):
            entry = dict(zip(entry[::2], entry[1::2]))
            found = [dict(zip(one[::2], one[1::2])) for one in entry[b"nodes"]]
            assert [one[b"role"] for one in found] == [b"master", b"replica"]
            seen = {(one[b"port"], one[b"id"]) for one in found}
            for first, last in zip(entry[b"slots"][::2], entry[b"slots"][1::2]):
                by_shards |= {slot: seen for slot in range(first, last + 1)}
        assert by_slots == by_shards


def test_cluster_nodes_is_about_real_nodes(whole):
    for server in whole:
        lines = text_of(server, "NODES").splitlines()
        assert len(lines) == len(whole)
        assert sum("myself" in line for line in lines) == 1
        ports = {int(line.split(" ")[1].partition("@")[0].rpartition(":")[2]) for line in lines}
        assert ports == {one.port for one in whole}
        # At a port of a shard it is the same node.
        with at(ports_of(server)[-1]) as client:
            assert client("CLUSTER MYID").decode() == my_id(server)


def test_ids_of_shards_are_all_different_and_every_node_derives_the_same(whole):
    def ids_by_port(server):
        return {node[1]: node[2] for row in slots_told(server) for node in row[2:]}

    first, *others = whole
    ids = ids_by_port(first)
    assert len(set(ids.values())) == len(ids)
    assert all(ids_by_port(other) == ids for other in others)
    real = {my_id(server).encode() for server in whole}
    assert real.isdisjoint(ids.values())


def test_a_shard_serves_what_another_shard_of_its_node_has(whole):
    for master in masters_of(whole):
        keys = [f"{tag}key" for tag, _ in zip(tags_within(*first_slots(master)), range(20))]
        for port in [master.port, *ports_of(master)]:
            with at(port) as client:
                for key in keys:
                    assert client("SET", key, port) == OK
                    assert client("GET", key) == str(port).encode()


def test_who_is_sent_away_is_sent_to_a_shard(whole):
    asked, owner = masters_of(whole)[:2]
    key = f"{next(tags_within(*first_slots(owner)))}k"
    slot = key_slot(key.encode())
    moved = f"MOVED {slot} 127.0.0.1:{port_for(owner, slot)}"
    for port in [asked.port, *ports_of(asked)]:
        with at(port) as client:
            assert client("GET", key) == Error(moved)


def test_slots_on_their_way_ask_at_the_shard_that_gets_them(whole):
    source, target = masters_of(whole)[:2]
    key = f"{next(tags_within(*first_slots(source)))}gone"
    slot = key_slot(key.encode())
    first, last = first_slots(target)
    ports = by_slot(ports_of(target))[first : last + 1]
    # Where it has the most slots: that shard all clients know.
    port = max(reversed(sorted(set(ports))), key=ports.count)
    try:
        assert ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", my_id(source)) == OK
        assert ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", my_id(target)) == OK
        assert ask(source, "GET", key) == Error(f"ASK {slot} 127.0.0.1:{port}")
        with at(port) as client:
            assert client("ASKING") == OK
            assert client("SET", key, "v") == OK
            assert client("GET", key) == Error(f"MOVED {slot} 127.0.0.1:{port_for(source, slot)}")
            assert client("ASKING") == OK
            assert client("DEL", key) == 1
    finally:
        for server in (source, target):
            assert ask(server, "CLUSTER", "SETSLOT", slot, "STABLE") == OK


def test_a_replica_is_read_at_its_shards(whole):
    for master in masters_of(whole):
        replica = replica_of(whole, master)
        key = f"{next(tags_within(*first_slots(master)))}read"
        slot = key_slot(key.encode())
        assert ask(master, "SET", key, "v") == OK
        for port in ports_of(replica):
            with at(port) as client:
                assert client("GET", key) == Error(f"MOVED {slot} 127.0.0.1:{port_for(master, slot)}")
                assert client("READONLY") == OK
                eventually(lambda: client("GET", key) == b"v")
                assert client("SET", key, "w") == Error(f"MOVED {slot} 127.0.0.1:{port_for(master, slot)}")


def test_operators_name_nodes_and_not_their_shards(whole):
    server, other = masters_of(whole)[:2]
    port, shard_id = next(row[2][1:3] for row in slots_told(server) if row[2][1] in ports_of(other))
    shard_id, shard = shard_id.decode(), port - ports_of(other)[0]
    refusal = Error(f"ERR That is the id of shard {shard} of node {my_id(other)}; name the node")
    slot, _ = first_slots(server)
    for words in [
        ("FORGET", shard_id),
        ("REPLICATE", shard_id),
        ("REPLICAS", shard_id),
        ("COUNT-FAILURE-REPORTS", shard_id),
        ("SETSLOT", slot, "NODE", shard_id),
        ("SETSLOT", slot, "MIGRATING", shard_id),
    ]:
        assert ask(server, "CLUSTER", *words) == refusal, words
    assert ask(server, "CLUSTER", "FORGET", "0" * 40) == Error(f"ERR Unknown node {'0' * 40}")
    cli("check", address(server))


def test_redis_cli_follows(whole):
    keys = [f"cli:{n}" for n in range(40)]
    lines = "".join(f"set {key} {key}\nget {key}\n" for key in keys)
    for server in whole[:2]:
        done = subprocess.run(
            ["redis-cli", "-c", "-p", str(server.port)],
            input=lines, capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        values = [line for line in done.stdout.splitlines() if line != "OK" and not line.startswith("-> ")]
        assert values == keys, done.stdout
        sent_to = {int(line.rpartition(":")[2]) for line in done.stdout.splitlines() if line.startswith("-> ")}
        assert sent_to <= {port for one in whole for port in ports_of(one)}


def test_redis_py_talks_to_shards(whole):
    with client_of(whole) as client:
        known = {one.port for one in client.get_primaries()}
        assert known == {port for master in masters_of(whole) for port in ports_of(master) if serves(master, port)}
        ports = {slot: row[2][1] for row in slots_told(whole[0]) for slot in range(row[0], row[1] + 1)}
        for n in range(300):
            key = f"py:{n}"
            assert client.set(key, n) is True
            assert client.get(key) == str(n).encode()
            assert client.get_node_from_key(key).port == ports[client.keyslot(key)]


def serves(master, port):
    """Whether a slot of this master leads to this port."""
    first, last = first_slots(master)
    return port in by_slot(ports_of(master))[first : last + 1]


def test_an_application_does_not_notice_a_reshard(whole):
    source, *_, target = masters_of(whole)
    reshard_there_and_back(whole, source, target)
    cli("check", address(target))


def test_an_application_does_not_notice_a_manual_failover(whole):
    fail_all_over(whole)


def test_the_death_of_a_master_leads_clients_to_the_shards_of_its_replica(whole):
    master = masters_of(whole)[0]
    replica = replica_of(whole, master)
    first, last = first_slots(master)
    keys = [f"{tag}d" for tag, _ in zip(tags_within(first, last), range(30))]
    with client_of(whole) as client:
        for key in keys:
            assert client.set(key, key) is True
        assert ask(master, "WAIT", 1, 5000) == 1
        before = ids_of(whole, master)
        master.kill()
        eventually(lambda: is_master(replica), CONVERGENCE_SECONDS_MAX)
        eventually(lambda: all(takes(client, key) for key in keys), CONVERGENCE_SECONDS_MAX)
        assert {client.get_node_from_key(key).port for key in keys} <= set(ports_of(replica))
        master.start()
        await_agreement(whole)
    # It is known at its shards again, by the ids that these had.
    eventually(lambda: has_link(master), CONVERGENCE_SECONDS_MAX)
    eventually(lambda: ids_of(whole, master) == before, CONVERGENCE_SECONDS_MAX)


def takes(client, key):
    try:
        return client.get(key) == key.encode()
    except Exception:  # noqa: BLE001 between the death and the election, anything may be said
        return False


def ids_of(servers, server):
    """By port, the ids of the shards of this server that any other of ours tells of."""
    told = {}
    for other in servers:
        if other is not server:
            found = itertools.chain.from_iterable(row[2:] for row in slots_told(other))
            told |= {one[1]: one[2] for one in found if one[1] in ports_of(server)}
    return told


def test_beside_redis_all_tell_the_main_ports_until_redis_is_gone():
    with nodes(*MIXED, arguments=arguments) as servers:
        create(servers, replicas=1)
        await_health(servers)
        ports = {server.port for server in servers}
        eventually(lambda: all(knows(server, ports) for server in servers), CONVERGENCE_SECONDS_MAX)
        ours = [server for server in servers if not server.is_redis]
        source, target = masters_of(ours)
        words = ("--cluster-slots", SLOTS_MOVED, "--cluster-yes")
        moves = [
            lambda: cli("reshard", address(ours[0]), "--cluster-from", my_id(source), "--cluster-to", my_id(target), *words),
            lambda: fail_over(servers, target),
        ]
        run_through(servers, moves, tags_within(*first_slots(source)))
        for server in servers:
            if server.is_redis:
                # It would write a line about each extension of a ping that it does not know.
                assert "extension" not in server.log.read_text()
        # The masters that are not ours hand over and go.
        for server in masters_of(servers):
            if server.is_redis:
                fail_over(servers, server)
        gone = [server for server in servers if server.is_redis]
        for server in gone:
            name = my_id(server)
            server.kill()
            for one in ours:
                assert ask(one, "CLUSTER", "FORGET", name) == OK
        shard_ports = {port for server in ours for port in ports_of(server)}
        eventually(lambda: all(tells(server, shard_ports) for server in ours), CONVERGENCE_SECONDS_MAX)


def test_nodes_that_restart_together_have_the_same_ids_and_know_each_other(whole):
    def all_ids(server):
        return {one[1]: one[2] for row in slots_told(server) for one in row[2:]}

    server = next(s for s in whole if not is_master(s))
    before = all_ids(server)
    server.kill(signal.SIGTERM)
    server.start()
    await_agreement(whole)
    eventually(lambda: all_ids(server) == before, CONVERGENCE_SECONDS_MAX)


@pytest.fixture
def alone(request):
    """Starts nodes that know nobody: alone("--shard-ports", "yes")."""
    started = []

    def start(*words, kind="corelane-3", wait=True):
        server = node(kind, *words)
        started.append(server)
        return server.start(wait=wait)

    yield start
    for server in started:
        server.stop()


def test_the_ports_follow_the_main_port_unless_told_otherwise(alone):
    first = free_ports(4)
    server = node("corelane-3", "--shard-ports", "yes")
    server.port = first
    try:
        server.start()
        for port in range(first, first + 4):
            with at(port) as client:
                assert client("PING") == Simple("PONG")
    finally:
        server.stop()


def test_without_cluster_mode_or_without_the_directive_there_are_no_such_ports(alone):
    first = free_ports(3)
    for words in [("--shard-port-base", first), ("--shard-ports", "yes", "--shard-port-base", first, "--cluster-enabled", "no")]:
        server = alone(*words)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", first)) != 0
        server.stop()


def test_a_port_that_is_taken_or_cannot_be_ends_the_start(alone):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first := free_ports(3)))
        taken.listen()
        for base, words in [
            (first, f"Could not create server TCP listening socket 127.0.0.1:{first}: bind: Address already in use"),
            (65534, "shard-ports: 3 ports from 65534 on do not fit"),
        ]:
            server = alone("--shard-ports", "yes", "--shard-port-base", base, wait=False)
            eventually(lambda server=server: not server.alive(), 20)
            assert server.status == 1
            assert words in server.log_tail()


def test_the_ports_of_shards_follow_bind_and_stay_when_port_changes(alone):
    base = free_ports(3)
    server = alone("--shard-ports", "yes", "--shard-port-base", base)

    def answers(host, port):
        with socket.socket() as probe:
            return probe.connect_ex((host, port)) == 0

    assert not answers("127.0.0.2", base)
    assert ask(server, "CONFIG", "SET", "bind", "127.0.0.1 127.0.0.2") == OK
    assert all(answers(host, base + shard) for host in ("127.0.0.1", "127.0.0.2") for shard in range(3))
    # No host has 192.0.2.1; what was listened on is listened on still.
    refused = ask(server, "CONFIG", "SET", "bind", "127.0.0.1 192.0.2.1")
    assert isinstance(refused, Error) and "Failed to bind" in refused
    assert all(answers("127.0.0.2", port) for port in (server.port, base, base + 2))
    refused = ask(server, "CONFIG", "SET", "port", base)
    assert isinstance(refused, Error) and "Unable to listen" in refused
    moved = free_ports(1)
    assert ask(server, "CONFIG", "SET", "port", moved) == OK
    eventually(lambda: not answers("127.0.0.1", server.port))
    server.port = moved
    assert all(answers("127.0.0.1", port) for port in (moved, base, base + 2))


def test_clients_are_told_the_ports_that_are_announced(alone):
    base = free_ports(3)
    server = alone("--shard-ports", "yes", "--shard-port-base", base)
    assert ask(server, "CLUSTER", "ADDSLOTSRANGE", 0, SLOT_COUNT - 1) == OK

    def told():
        return {row[2][1] for row in slots_told(server)}

    assert told() == {base, base + 1, base + 2}
    assert ask(server, "CONFIG", "SET", "cluster-announce-shard-port-base", 40000) == OK
    assert told() == {40000, 40001, 40002}
    assert ask(server, "CONFIG", "SET", "cluster-announce-shard-port-base", 0) == OK
    assert told() == {base, base + 1, base + 2}


def test_a_shard_has_one_id_over_failovers_and_restarts(whole):
    def shard_ids():
        return {my_id(server): ask(server, "CLUSTER", "MYSHARDID") for server in whole}

    master = masters_of(whole)[0]
    replica = replica_of(whole, master)
    eventually(lambda: shard_ids()[my_id(replica)] == shard_ids()[my_id(master)], CONVERGENCE_SECONDS_MAX)
    eventually(lambda: len(set(shard_ids().values())) == 3, CONVERGENCE_SECONDS_MAX)
    before = shard_ids()
    assert all(re.fullmatch(b"[0-9a-f]{40}", name) for name in before.values())
    fail_over(whole, master)
    master.kill(signal.SIGTERM)
    master.start()
    await_health(whole)
    assert shard_ids() == before


def test_slots_are_told_with_their_keys(whole):
    master = masters_of(whole)[0]
    first, last = first_slots(master)
    tags = dict(zip(range(first, first + 3), (next(tags_within(slot, slot)) for slot in range(first, first + 3))))
    assert ask(master, "FLUSHALL") == OK
    for number, tag in enumerate(tags.values()):
        for n in range(number + 1):
            assert ask(master, "SET", f"{tag}{n}", n) == OK

    def stats(*words, of=master):
        return {slot: dict(zip(found[::2], found[1::2])) for slot, found in ask(of, "CLUSTER", "SLOT-STATS", *words)}

    def of(count):
        return {b"key-count": count}

    assert stats("SLOTSRANGE", first, first + 3) == {first: of(1), first + 1: of(2), first + 2: of(3), first + 3: of(0)}
    assert stats("SLOTSRANGE", 0, SLOT_COUNT - 1).keys() == set(range(first, last + 1))
    assert list(stats("ORDERBY", "KEY-COUNT", "LIMIT", 2).items()) == [(first + 2, of(3)), (first + 1, of(2))]
    ascending = list(stats("ORDERBY", "key-count", "ASC").items())
    assert (len(ascending), ascending[-1]) == (last - first + 1, (first + 2, of(3)))
    replica = replica_of(whole, master)
    eventually(lambda: stats("SLOTSRANGE", first, first + 2, of=replica)[first + 2] == of(3))
    with replica.client(3) as client:
        assert client("CLUSTER SLOT-STATS ORDERBY key-count LIMIT 1")[0][1].pairs == [(b"key-count", 3)]


@covers("CLUSTER SLOT-STATS", "CLUSTER MYSHARDID")
def test_slot_stats_refuse_in_the_words_of_valkey(whole):
    server = masters_of(whole)[0]
    for words, text in [
        ("SLOTSRANGE 5 4", "ERR Start slot number 5 is greater than end slot number 4"),
        ("SLOTSRANGE 0 16384", "ERR Invalid or out of range slot"),
        ("ORDERBY cpu-usec", "ERR Unrecognized sort metric for ORDERBY."),
        ("ORDERBY key-count LIMIT 0", "ERR Limit has to lie in between 1 and 16384 (maximum number of slots)."),
        ("ORDERBY key-count ASC ASC", "ERR Multiple filters of the same type are disallowed."),
        ("ORDERBY key-count foo", "ERR syntax error"),
        ("SLOTSRANGE 1", "ERR unknown subcommand or wrong number of arguments for 'SLOT-STATS'. Try CLUSTER HELP."),
    ]:
        assert ask(server, "CLUSTER", "SLOT-STATS", *words.split()) == Error(text), words
    script = "return redis.pcall('CLUSTER', 'SLOT-STATS', 'ORDERBY', 'key-count', 'LIMIT', 1)"
    assert len(ask(server, "EVAL", script, 0)) == 1
    with server.client() as client:
        assert client("MULTI") == OK
        client("CLUSTER SLOT-STATS ORDERBY key-count LIMIT 1")
        assert len(client("EXEC")[0]) == 1
