"""Replicas in a cluster take over: when their master dies, and when they are told to. All kinds with all kinds."""

import contextlib
import threading

import pytest

from harness.cluster import (
    CONVERGENCE_SECONDS_MAX,
    Router,
    address,
    ask,
    await_agreement,
    cli,
    cluster_info,
    create,
    my_id,
    nodes,
    table,
)
from harness.resp import OK, ConnectionLost, Error, NoReply
from harness.waiting import eventually

# The first is the master that is replaced, the last its replica.
PAIRS = {
    "corelane": ("corelane-3", "corelane-1", "corelane-3", "corelane-3"),
    "of-redis": ("redis", "corelane-1", "corelane-3", "corelane-3"),
    "by-redis": ("corelane-3", "redis", "corelane-1", "redis"),
}
KINDS = pytest.mark.parametrize("kinds", PAIRS.values(), ids=PAIRS.keys())
KEYS = 200


@contextlib.contextmanager
def shard_with_replica(kinds):
    """Three masters with keys, and a replica of the first that has its data."""
    # A replica is in CLUSTER SLOTS when its offset is not 0, which the first ping of the stream makes it.
    arguments = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
    with nodes(*kinds, arguments=arguments) as servers:
        *masters, replica = servers
        create(masters)
        with Router(masters) as router:
            for number in range(KEYS):
                assert router("SET", f"k{number}", number) == OK
        cli("add-node", address(replica), address(masters[1]), "--cluster-slave", "--cluster-master-id", my_id(masters[0]))
        eventually(lambda: replica.info("replication").get("master_link_status") == "up", CONVERGENCE_SECONDS_MAX)
        eventually(lambda: ask(replica, "DBSIZE") == ask(masters[0], "DBSIZE"), CONVERGENCE_SECONDS_MAX)
        await_agreement(servers)
        yield servers


def has_all_keys(servers):
    with Router(servers) as router:
        return [router("GET", f"k{number}") for number in range(KEYS)] == [str(number).encode() for number in range(KEYS)]


def is_master(observer, name):
    return "master" in table(observer)[name]["flags"]


@KINDS
def test_a_replica_is_told_of_everywhere(kinds):
    with shard_with_replica(kinds) as servers:
        master, *_, replica = servers
        for server in servers:
            lines = ask(server, "CLUSTER", "REPLICAS", my_id(master))
            assert [line.split()[0].decode() for line in lines] == [my_id(replica)]
            eventually(lambda server=server: any(my_id(replica).encode() in repr(ask(server, "CLUSTER", "SLOTS")).encode() for _ in "x"), CONVERGENCE_SECONDS_MAX)
        with replica.client() as c:
            key = next(f"k{n}" for n in range(KEYS) if isinstance(ask(master, "GET", f"k{n}"), bytes))
            moved = c("GET", key)
            assert isinstance(moved, Error) and moved.startswith("MOVED ") and moved.endswith(address(master))
            assert c("READONLY") == OK
            assert c("GET", key) == key[1:].encode()
            assert c("SET", key, 1).startswith("MOVED ")


@KINDS
def test_a_dead_master_is_replaced(kinds):
    with shard_with_replica(kinds) as servers:
        master, *others, replica = servers
        master_id, replica_id = my_id(master), my_id(replica)
        master.kill()
        alive = [*others, replica]
        eventually(lambda: all(is_master(server, replica_id) for server in alive), CONVERGENCE_SECONDS_MAX, every=0.05)
        eventually(lambda: all(cluster_info(s)["cluster_state"] == "ok" for s in alive), CONVERGENCE_SECONDS_MAX)
        assert has_all_keys(alive)
        master.start()
        await_agreement(servers)
        assert table(replica)[master_id]["master"] == replica_id
        eventually(lambda: ask(master, "DBSIZE") == ask(replica, "DBSIZE"), CONVERGENCE_SECONDS_MAX)


class Writer(threading.Thread):
    """Counts a key up, and remembers how far it was told that it had come."""

    def __init__(self, servers, key):
        super().__init__()
        self.servers, self.key = servers, key
        self.told, self.stops, self.errors = 0, False, []

    def run(self):
        with Router(self.servers) as router:
            while not self.stops:
                try:
                    reply = router("INCR", self.key)
                except (ConnectionLost, NoReply) as error:
                    self.errors.append(repr(error))
                    return
                if isinstance(reply, int):
                    self.told = max(self.told, reply)
                else:
                    self.errors.append(reply)


@KINDS
def test_a_manual_failover_loses_no_write(kinds):
    with shard_with_replica(kinds) as servers:
        master, *_, replica = servers
        key = next(f"k{n}" for n in range(KEYS) if isinstance(ask(master, "GET", f"k{n}"), bytes))
        writer = Writer(servers, key)
        writer.start()
        try:
            for _ in range(2):
                eventually(lambda: replica.info("replication").get("master_link_status") == "up", CONVERGENCE_SECONDS_MAX)
                assert ask(replica, "CLUSTER", "FAILOVER") == OK
                eventually(lambda: is_master(replica, my_id(replica)))
                await_agreement(servers)
                master, replica = replica, master
            eventually(lambda: writer.errors or writer.told > KEYS, CONVERGENCE_SECONDS_MAX)
        finally:
            writer.stops = True
            writer.join()
        assert not writer.errors
        with Router(servers) as router:
            assert int(router("GET", key)) == writer.told


@KINDS
@pytest.mark.parametrize("how", ["FORCE", "TAKEOVER"])
def test_a_replica_takes_over_without_its_master(kinds, how):
    with shard_with_replica(kinds) as servers:
        replica = servers[-1]
        assert ask(replica, "CLUSTER", "FAILOVER", how) == OK
        eventually(lambda: is_master(servers[1], my_id(replica)))
        await_agreement(servers)
        assert has_all_keys(servers)


@KINDS
def test_a_replica_that_was_reset_is_a_master_without_keys(kinds):
    with shard_with_replica(kinds) as servers:
        *rest, replica = servers
        name = my_id(replica)
        cli("del-node", address(rest[0]), name)
        assert all(name not in table(server) for server in rest)
        eventually(lambda: ask(replica, "DBSIZE") == 0 and replica.info("replication")["role"] == "master")
        assert has_all_keys(rest)
