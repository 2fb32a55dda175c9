"""A stock cluster client, redis-py's RedisCluster, through all that happens to a cluster under load.

Three masters with a replica each. Threads write and read through one client all the time, as an application would, while
slots move and while a replica takes over: the application sees no error, and finds what it wrote.
"""

import itertools
import threading
import time

import pytest
import redis
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
    nodes,
    table,
)
from harness.resp import OK
from harness.waiting import eventually

CLUSTERS = {
    "corelane-1": ("corelane-1",) * 6,
    "corelane-3": ("corelane-3",) * 6,
    "mixed": ("redis", "corelane-3", "corelane-1", "redis", "corelane-1", "corelane-3"),
}
THREADS, KEYS_OF_EACH = 3, 60
SLOTS_MOVED = 80


@pytest.fixture(scope="module", params=CLUSTERS.values(), ids=CLUSTERS.keys())
def servers(request):
    """Three masters with a replica each, which each test leaves whole."""
    with nodes(*request.param, arguments=("--repl-diskless-sync-delay", "0")) as started:
        create(started, replicas=1)
        yield started


@pytest.fixture
def whole(servers):
    """The same, when all links of replicas are up and all nodes agree."""
    await_agreement(servers)
    for server in servers:
        eventually(lambda server=server: is_master(server) or has_link(server), CONVERGENCE_SECONDS_MAX)
    return servers


def is_master(server):
    return server.info("replication")["role"] == "master"


def has_link(server):
    return server.info("replication").get("master_link_status") == "up"


def masters_of(servers):
    return [server for server in servers if is_master(server)]


def replica_of(servers, master):
    return next(server for server in servers if table(server)[my_id(server)]["master"] == my_id(master))


def first_slots(server):
    """The range of slots that redis-cli takes away first."""
    first, _, last = table(server)[my_id(server)]["slots"][0].partition("-")
    return int(first), int(last or first)


def tags_within(first, last):
    """Hash tags that lead to these slots."""
    return (f"{{{n}}}" for n in itertools.count() if first <= key_slot(str(n).encode()) <= last)


def cluster_client(servers):
    nodes_known = [ClusterNode("127.0.0.1", server.port) for server in servers]
    return RedisCluster(startup_nodes=nodes_known, decode_responses=True, socket_timeout=10)


class Application(threading.Thread):
    """Writes and reads keys that are its own, and compares what it finds with what it wrote."""

    def __init__(self, client, number, tags):
        super().__init__(daemon=True)
        self.client, self.ends, self.trouble, self.rounds = client, threading.Event(), [], 0
        self.keys = [f"{tag}{number}:{n}" for n, tag in zip(range(KEYS_OF_EACH), tags)]
        self.written, self.counted = {}, dict.fromkeys(self.keys, 0)

    def run(self):
        for key in itertools.cycle(self.keys):
            if self.ends.is_set():
                return
            try:
                self.one_round(key)
                self.rounds += 1
            except Exception as trouble:  # whatever a client can raise is what this test is about
                self.trouble.append(f"{key}: {trouble!r}")
                return

    def one_round(self, key):
        value, other = f"{key} {self.rounds}", f"{key} again"
        assert self.client.set(key, value) is True
        self.written[key] = value
        assert self.client.get(key) == value
        self.counted[key] += 1
        assert self.client.incr(f"{key}:n") == self.counted[key]
        assert self.client.mset({key: value, other: value}) is True
        assert self.client.mget(key, other) == [value, value]
        self.pipeline(key)

    def pipeline(self, key):
        """Over keys of several nodes, as they come."""
        at = self.keys.index(key)
        some = [self.keys[(at + n) % KEYS_OF_EACH] for n in range(5)]
        with self.client.pipeline() as pipe:
            for one in some:
                pipe.incr(f"{one}:n").get(one)
            replies = pipe.execute()
        for one in some:
            self.counted[one] += 1
        expected = [reply for one in some for reply in (self.counted[one], self.written.get(one))]
        assert replies == expected

    def stop(self):
        self.ends.set()
        self.join(20)

    def lost(self):
        """Keys that are not as they were left, with what is there now."""
        expected = {f"{key}:n": str(count) for key, count in self.counted.items() if count} | self.written
        found = {key: self.client.get(key) for key in expected}
        return {key: (found[key], value) for key, value in expected.items() if found[key] != value}


def run_through(servers, events, tags):
    """Runs applications from before the first event until after the last, and checks that they noticed nothing."""
    with cluster_client(servers) as client:
        client.flushall(target_nodes=RedisCluster.PRIMARIES)
        applications = [Application(client, number, tags) for number in range(THREADS)]
        for application in applications:
            application.start()
        try:
            for event in events:
                work_goes_on(applications)
                event()
                work_goes_on(applications)
        finally:
            for application in applications:
                application.stop()
        assert not any(application.trouble for application in applications), [a.trouble for a in applications]
        assert not any(application.is_alive() for application in applications)
        for application in applications:
            assert not application.lost()


def work_goes_on(applications):
    """Everyone gets on with their work, or has found trouble."""
    before = [application.rounds for application in applications]
    eventually(lambda: all(a.trouble or a.rounds >= done + 5 for a, done in zip(applications, before)), CONVERGENCE_SECONDS_MAX)


def reshard_there_and_back(servers, source, target):
    """While applications work, the first slots of the source go to the target and come back."""
    first, last = first_slots(source)
    assert last - first >= SLOTS_MOVED

    def reshard(start, end):
        words = ("--cluster-from", my_id(start), "--cluster-to", my_id(end), "--cluster-slots", SLOTS_MOVED)
        cli("reshard", address(servers[-1]), *words, "--cluster-yes")
        await_agreement(servers)

    moved, stays = tags_within(first, first + SLOTS_MOVED - 1), tags_within(0, 16383)
    # Two of three keys are in slots that move.
    tags = (tag for three in zip(moved, moved, stays) for tag in three)
    run_through(servers, [lambda: reshard(source, target), lambda: reshard(target, source)], tags)


def fail_over(servers, master):
    """The replica of this master takes over."""
    replica = replica_of(servers, master)
    assert ask(replica, "CLUSTER", "FAILOVER") == OK
    eventually(lambda: is_master(replica) and not is_master(master), CONVERGENCE_SECONDS_MAX)
    await_agreement(servers)


def fail_all_over(servers):
    """While applications work, one replica after the other takes over."""
    events = [lambda master=master: fail_over(servers, master) for master in masters_of(servers)]
    run_through(servers, events, tags_within(0, 16383))


def test_an_application_does_not_notice_a_reshard(whole):
    reshard_there_and_back(whole, *masters_of(whole)[:2])


def test_an_application_does_not_notice_a_manual_failover(whole):
    fail_all_over(whole)


class CarefulWriter(threading.Thread):
    """Writes rising numbers to keys of its own, and remembers those that a replica has, too."""

    def __init__(self, client, number, tags):
        super().__init__(daemon=True)
        self.client, self.ends = client, threading.Event()
        self.keys = [f"{tag}w{number}:{n}" for n, tag in zip(range(KEYS_OF_EACH), tags)]
        self.acknowledged, self.last_trouble = {}, None
        self.number, self.succeeded = 0, 0

    def run(self):
        for key in itertools.cycle(self.keys):
            if self.ends.is_set():
                return
            self.number += 1
            try:
                self.write(key)
                self.succeeded += 1
            except (redis.RedisError, OSError) as trouble:
                self.last_trouble = (time.monotonic(), repr(trouble))
                self.look_for_the_masters()

    def write(self, key):
        # WAIT is about what its own connection wrote, so both go to one node in one pipeline.
        node = self.client.get_redis_connection(self.client.get_node_from_key(key))
        with node.pipeline(transaction=False) as pipe:
            done, replicas = pipe.set(key, self.number).execute_command("WAIT", 1, 1000).execute()
        if done and replicas >= 1:
            self.acknowledged[key] = self.number

    def look_for_the_masters(self):
        time.sleep(0.02)
        try:
            self.client.nodes_manager.initialize()
        except (redis.RedisError, OSError) as trouble:
            self.last_trouble = (time.monotonic(), repr(trouble))

    def stop(self):
        self.ends.set()
        self.join(20)

    def lost(self):
        """Acknowledged writes that are gone: the key has an older one."""
        found = {key: int(self.client.get(key) or 0) for key in self.acknowledged}
        return {key: (found[key], number) for key, number in self.acknowledged.items() if found[key] < number}


def test_what_a_replica_acknowledged_survives_the_death_of_its_master(whole):
    master = masters_of(whole)[0]
    replica = replica_of(whole, master)
    first, last = first_slots(master)
    with cluster_client(whole) as client:
        writers = [CarefulWriter(client, number, tags_within(first, last)) for number in range(THREADS)]
        for writer in writers:
            writer.start()
        eventually(lambda: all(len(writer.acknowledged) == KEYS_OF_EACH for writer in writers), 20)
        master.kill()
        eventually(lambda: is_master(replica), CONVERGENCE_SECONDS_MAX)
        alive = [server for server in whole if server is not master]
        eventually(lambda: all(ask(s, "SET", key_of(s), 1) == OK for s in masters_of(alive)), CONVERGENCE_SECONDS_MAX)
        succeed(writers, 2)  # each waits for a replica in vain
        before = [writer.last_trouble for writer in writers]
        # That the master comes back as a replica is no trouble to anybody.
        master.start()
        await_agreement(whole)
        succeed(writers, KEYS_OF_EACH)
        for writer in writers:
            writer.stop()
        assert [writer.last_trouble for writer in writers] == before
        for writer in writers:
            assert not writer.lost()
        assert ask(master, "ROLE")[0] == b"slave"


def succeed(writers, count):
    """Each writes so many keys more."""
    before = [writer.succeeded for writer in writers]
    eventually(lambda: all(w.succeeded > done + count for w, done in zip(writers, before)), CONVERGENCE_SECONDS_MAX)


def key_of(server):
    """A key in the first slots of this master."""
    return next(tags_within(*first_slots(server)))
