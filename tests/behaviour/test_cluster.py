"""Clusters of several nodes, Corelane alone and together with redis-server, run with redis-cli."""

import contextlib
import re
import socket

import pytest

from harness.cluster import (
    CONVERGENCE_SECONDS_MAX,
    Router,
    address,
    agrees,
    ask,
    await_agreement,
    cli,
    cluster_info,
    create,
    my_id,
    nodes,
    ownership,
    table,
)
from harness.resp import OK, Error
from harness.server import TARGETS, Server
from harness.waiting import eventually

ALONE = ("corelane-1", "corelane-3", "corelane-3")
MIXED = ("redis", "corelane-3", "redis", "corelane-1")
KINDS = pytest.mark.parametrize("kinds", [ALONE, MIXED], ids=["corelane", "mixed"])
COVERED = "[OK] All 16384 slots covered."

assert set(ALONE + MIXED) <= set(TARGETS)


def owned(server, name):
    """How many slots a node has, as this server sees it."""
    count = 0
    for run in table(server)[name]["slots"]:
        first, _, last = run.partition("-")
        count += int(last or first) - int(first) + 1
    return count


@KINDS
def test_redis_cli_creates_checks_and_tells(kinds):
    with nodes(*kinds) as servers:
        create(servers)
        for server in servers:
            assert COVERED in cli("check", address(server))
            told = cli("info", address(server))
            assert f"[OK] 0 keys in {len(kinds)} masters." in told
        views = [ask(server, "CLUSTER", "SLOTS") for server in servers]
        assert all(sorted(view) == sorted(views[0]) for view in views)


@KINDS
def test_slots_and_shards_are_told_alike(kinds):
    with nodes(*kinds) as servers:
        create(servers)

        def shards(server):
            with server.client(3) as client:
                found = client("CLUSTER", "SHARDS")
            rows = []
            for shard in found:
                told = [[pair for pair in one.pairs if pair[0] != b"replication-offset"] for one in shard["nodes"]]
                rows.append((shard["slots"], told))
            return sorted(rows, key=repr)

        expected = shards(servers[0])
        assert len(expected) == len(kinds)
        assert all(shards(server) == expected for server in servers)


@KINDS
def test_empty_slots_move_by_reshard_and_rebalance(kinds):
    with nodes(*kinds) as servers:
        create(servers)
        source, target = my_id(servers[0]), my_id(servers[1])
        before = owned(servers[2], target)
        moved = cli(
            "reshard", address(servers[2]), "--cluster-from", source, "--cluster-to", target,
            "--cluster-slots", "200", "--cluster-yes",
        )  # fmt: skip
        assert "Moving slot" in moved
        await_agreement(servers)
        assert owned(servers[2], target) == before + 200
        cli("rebalance", address(servers[0]))
        await_agreement(servers)
        counts = {owned(servers[0], my_id(server)) for server in servers}
        assert max(counts) - min(counts) <= 1
        assert COVERED in cli("check", address(servers[1]))


@KINDS
def test_a_node_comes_and_goes(kinds):
    with nodes(*kinds) as servers, nodes("corelane-1") as (newcomer,):
        create(servers)
        cli("add-node", address(newcomer), address(servers[0]))
        everybody = [*servers, newcomer]
        await_agreement(everybody)
        name = my_id(newcomer)
        cli(
            "reshard", address(servers[0]), "--cluster-from", my_id(servers[0]), "--cluster-to", name,
            "--cluster-slots", "10", "--cluster-yes",
        )  # fmt: skip
        await_agreement(everybody)
        assert owned(servers[0], name) == 10
        cli(
            "reshard", address(servers[0]), "--cluster-from", name, "--cluster-to", my_id(servers[0]),
            "--cluster-slots", "10", "--cluster-yes",
        )  # fmt: skip
        cli("del-node", address(servers[0]), name)
        await_agreement(servers)
        assert all(name not in ownership(server) for server in servers)
        assert len(ownership(newcomer)) == 1


@KINDS
def test_a_dead_node_is_agreed_upon_and_comes_back(kinds):
    with nodes(*kinds) as servers:
        create(servers)
        *alive, dead = servers
        name = my_id(dead)
        dead.kill()
        eventually(
            lambda: all("fail" in table(server)[name]["flags"] for server in alive), CONVERGENCE_SECONDS_MAX, every=0.1
        )
        eventually(lambda: all(cluster_info(server)["cluster_state"] == "fail" for server in alive))
        assert ask(alive[0], "GET", "k") in [
            Error("CLUSTERDOWN The cluster is down"),
            Error("CLUSTERDOWN Hash slot not served"),
        ]
        dead.start()
        await_agreement(servers)
        assert all("fail" not in table(server)[name]["flags"] for server in servers)


@KINDS
def test_clients_are_sent_to_the_owner(kinds):
    with nodes(*kinds) as servers:
        create(servers)
        with Router(servers) as router:
            for number in range(200):
                assert router("SET", f"k{number}", number) == OK
            assert all(router("GET", f"k{number}") == str(number).encode() for number in range(200))
        sizes = [ask(server, "DBSIZE") for server in servers]
        assert sum(sizes) == 200 and all(size > 0 for size in sizes)
        found = re.search(r"\[OK\] (\d+) keys in", cli("info", address(servers[0])))
        assert found and found.group(1) == "200"


@KINDS
def test_messages_cross_the_bus(kinds):
    with nodes(*kinds) as servers:
        create(servers)
        # What is published goes to those nodes that there is a link to.
        eventually(lambda: all(row["link"] == "connected" for row in table(servers[0]).values()))
        with servers[1].client() as listener:
            listener("SUBSCRIBE", "news")
            with servers[0].client() as speaker:
                for number in range(50):
                    speaker("PUBLISH", "news", number)
            heard = [listener.read() for _ in range(50)]
        assert [message[2] for message in heard] == [str(number).encode() for number in range(50)]
        channel = next(name for name in ("a", "b", "c", "d") if not isinstance(ask(servers[1], "GET", name), Error))
        with servers[1].client() as listener, servers[1].client() as speaker:
            listener("SSUBSCRIBE", channel)
            assert speaker("SPUBLISH", channel, "here") == 1
            assert listener.read()[2] == b"here"


@KINDS
def test_garbage_on_the_bus_ends_its_link_and_nothing_else(kinds):
    with nodes(*kinds) as servers:
        create(servers)
        for server in servers:
            for garbage in (b"x" * 64, b"RCmb\x00\x00\x00\x01" + bytes(64), b"RCmb\xff\xff\xff\xff" + bytes(3000)):
                with socket.create_connection(("127.0.0.1", server.port + 10000), timeout=5) as link:
                    link.sendall(garbage)
                    if server.is_redis and garbage[4] == 0xFF:
                        continue  # It waits for all of the 4 GiB.
                    with contextlib.suppress(ConnectionResetError):
                        assert link.recv(1) == b"", garbage[:8]
        assert agrees(servers)


@KINDS
def test_everything_is_remembered_over_a_restart_of_all(kinds):
    with nodes(*kinds) as servers:
        create(servers)
        before = ownership(servers[0])
        for server in servers:
            server.kill()
        for server in servers:
            server.start()
        await_agreement(servers)
        assert all(ownership(server) == before for server in servers)


@pytest.mark.parametrize("kinds", [("corelane-1", "corelane-3") * 3, ("redis", "corelane-3", "redis", "corelane-1", "redis", "corelane-1")])
def test_redis_cli_creates_a_cluster_with_replicas(kinds):
    # A replica is in CLUSTER SLOTS when its offset is not 0, which an idle master's first ping of the stream makes it.
    arguments = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
    with nodes(*kinds, arguments=arguments) as servers:
        create(servers, replicas=1)
        for server in servers:
            assert COVERED in cli("check", address(server))
        rows = table(servers[0])
        masters = [name for name, row in rows.items() if "master" in row["flags"]]
        assert len(masters) == 3
        assert sorted(row["master"] for row in rows.values() if "slave" in row["flags"]) == sorted(masters)
        replicas = [server for server in servers if my_id(server) not in masters]
        eventually(
            lambda: all(one.info("replication").get("master_link_status") == "up" for one in replicas), CONVERGENCE_SECONDS_MAX
        )
        eventually(lambda: all(len(row[2:]) == 2 for row in ask(servers[0], "CLUSTER", "SLOTS")), CONVERGENCE_SECONDS_MAX)


@KINDS
def test_slots_move_with_their_keys(kinds):
    with nodes(*kinds) as servers:
        create(servers)
        with Router(servers) as router:
            for number in range(300):
                assert router("SET", f"k{number}", number, "PX", 1000000) == OK
            for target in servers:
                others = ",".join(my_id(server) for server in servers if server is not target)
                cli(
                    "reshard", address(servers[0]), "--cluster-from", others, "--cluster-to", my_id(target),
                    "--cluster-slots", "1200", "--cluster-yes",
                )  # fmt: skip
                await_agreement(servers)
                assert all(router("GET", f"k{number}") == str(number).encode() for number in range(300))
        assert sum(ask(server, "DBSIZE") for server in servers) == 300


@KINDS
def test_redis_cli_mends_what_is_open_or_lost(kinds):
    with nodes(*kinds) as servers:
        create(servers)
        first, second = servers[0], servers[1]
        with Router(servers) as router:
            for number in range(100):
                assert router("SET", f"k{number}", number) == OK
        key = next(f"k{n}" for n in range(100) if isinstance(ask(first, "GET", f"k{n}"), bytes))
        slot = ask(first, "CLUSTER", "KEYSLOT", key)
        assert ask(first, "CLUSTER", "SETSLOT", slot, "MIGRATING", my_id(second)) == OK
        assert ask(second, "CLUSTER", "SETSLOT", slot, "IMPORTING", my_id(first)) == OK
        assert "[WARNING]" in cli("check", address(first), accepted=(0, 1))
        cli("fix", address(servers[2]))
        await_agreement(servers)
        assert COVERED in cli("check", address(first))
        for server in servers:
            for lost in (16000, slot):
                assert ask(server, "CLUSTER", "DELSLOTS", lost) == OK
        cli("fix", address(second))
        await_agreement(servers)
        with Router(servers) as router:
            assert all(router("GET", f"k{number}") == str(number).encode() for number in range(100))


@KINDS
def test_redis_cli_imports_and_calls(kinds):
    with nodes(*kinds) as servers:
        create(servers)
        source = Server("redis").start()
        try:
            with source.client() as client:
                for number in range(100):
                    assert client("SET", f"k{number}", number) == OK
            cli("import", address(servers[1]), "--cluster-from", address(source), "--cluster-copy")
            with Router(servers) as router:
                assert all(router("GET", f"k{number}") == str(number).encode() for number in range(100))
            assert ask(source, "DBSIZE") == 100
        finally:
            source.stop()
        assert cli("call", address(servers[0]), "PING").count("PONG") == len(servers)
        cli("set-timeout", address(servers[0]), "3000")
        assert all(ask(server, "CONFIG", "GET", "cluster-node-timeout")[1] == b"3000" for server in servers)
