"""Slots that move as a whole (CLUSTER MIGRATESLOTS): clients never see ASK or TRYAGAIN, and no write is lost."""

import contextlib
import random
import threading
import time

import pytest

from harness import *
from harness import OK
from harness.cluster import Router, ask, await_agreement, my_id, node, nodes, table
from harness.replicas import has_link, values
from harness.resp import ConnectionLost, NoReply
from harness.server import chosen_targets

KINDS = [target for target in chosen_targets() if target != "redis"]
SEED = random.randrange(1 << 32)
TAG, SLOT = "{k}", 7629
WRITERS, KEYS = 3, 30
SECONDS_MAX = 60


@contextlib.contextmanager
def pair(*kinds, arguments=()):
    """Two masters, or more, that know each other; the first has the lower half of the slots, the second the rest."""
    with nodes(*kinds, arguments=arguments) as servers:
        here, there, *others = servers
        assert ask(here, "CLUSTER", "ADDSLOTSRANGE", 0, 8191) == OK == ask(there, "CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        for other in (there, *others):
            assert ask(here, "CLUSTER", "MEET", "127.0.0.1", other.port) == OK
        await_agreement(servers)
        yield servers


def begin(source, target, *ranges, command="MIGRATESLOTS"):
    words = ranges or (SLOT, SLOT)
    return ask(source, "CLUSTER", command, "SLOTSRANGE", *words, "NODE", my_id(target))


def moves(server):
    """CLUSTER GETSLOTMIGRATIONS as dicts of text, the newest first."""
    found = []
    for flat in ask(server, "CLUSTER", "GETSLOTMIGRATIONS"):
        text = [word.decode() if isinstance(word, bytes) else word for word in flat]
        found.append(dict(zip(text[::2], text[1::2], strict=True)))
    return found


def end_of_move(server, seconds=SECONDS_MAX):
    """How the newest move of a node has ended."""

    def is_over():
        newest = moves(server)[0]
        return newest if newest["state"] in ("success", "failed", "cancelled") else None

    return eventually(is_over, seconds, every=0.02)


def move(source, target, *ranges, command="MIGRATESLOTS"):
    assert begin(source, target, *ranges, command=command) == OK
    ended = end_of_move(source)
    assert ended["state"] == "success", ended["message"]
    return ended


def keys_in(server, slot=SLOT):
    return ask(server, "CLUSTER", "COUNTKEYSINSLOT", slot)


def dbsize(server):
    return ask(server, "DBSIZE")


class Writer(threading.Thread):
    """Counts keys of one slot up, singly and in blocks of two, and goes where it is sent by MOVED; anything else, ASK and
    TRYAGAIN above all, is trouble."""

    def __init__(self, servers, number, may_lose=False):
        super().__init__(daemon=True)
        self.servers, self.number, self.may_lose = servers, number, may_lose
        self.ends, self.trouble = threading.Event(), []
        self.counted, self.unsure = dict.fromkeys(range(KEYS), 0), dict.fromkeys(range(KEYS), 0)
        self.port, self.clients, self.moved = servers[0].port, {}, 0

    def run(self):
        at = self.number
        while not self.ends.is_set():
            at = (at + 7) % KEYS
            keys = [at] if at % 3 else [at, (at + 1) % KEYS]
            try:
                reply = self.write(keys)
            except (ConnectionLost, NoReply, ServerDied) as trouble:
                if not self.may_lose:
                    self.trouble.append(trouble)
                    return
                for key in keys:
                    self.unsure[key] += 1
                self.clients.pop(self.port, None)
                self.port = random.choice(self.servers).port
                time.sleep(0.02)
                continue
            if isinstance(reply, Error) and reply.startswith("MOVED "):
                self.port, self.moved = int(reply.rpartition(":")[2]), self.moved + 1
            elif isinstance(reply, Error) and self.may_lose and reply.startswith(("CLUSTERDOWN", "LOADING")):
                self.port = random.choice(self.servers).port
                time.sleep(0.02)
            elif isinstance(reply, Error):
                self.trouble.append(reply)
            else:
                for key in keys:
                    self.counted[key] += 1

    def write(self, keys):
        client = self.clients.get(self.port)
        if client is None:
            server = next(server for server in self.servers if server.port == self.port)
            client = self.clients[self.port] = server.client(timeout=20)
        names = [f"{TAG}{key}" for key in keys]
        if len(names) == 1:
            return client("INCR", names[0])
        replies = client.pipeline(["MULTI"], *(["INCR", name] for name in names), ["EXEC"])
        errors = [reply for reply in replies if isinstance(reply, Error)]
        return errors[0] if errors else replies[-1]

    def stop(self):
        self.ends.set()
        self.join(30)


@contextlib.contextmanager
def writing(servers, may_lose=False):
    writers = [Writer(servers, number, may_lose) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        yield writers
    finally:
        for writer in writers:
            writer.stop()
    assert not any(writer.trouble for writer in writers), [writer.trouble[:3] for writer in writers]


def assert_sums(servers, writers):
    """Every acknowledged count is there once; those that were not acknowledged may be."""
    with Router(servers) as route:
        for key in range(KEYS):
            counted = sum(writer.counted[key] for writer in writers)
            unsure = sum(writer.unsure[key] for writer in writers)
            assert counted <= int(route("GET", f"{TAG}{key}", hops=50) or 0) <= counted + unsure, key


@pytest.mark.parametrize("kinds", [(a, b) for a in KINDS for b in KINDS], ids="-".join)
def test_no_increment_is_lost_while_a_slot_moves_to_and_fro(kinds):
    with pair(*kinds) as servers:
        here, there = servers
        with writing(servers) as writers:

            def come_to(moves):
                """All go on after so many moves, or have found trouble."""
                eventually(lambda: all(writer.trouble or writer.moved >= moves for writer in writers), 20)

            for number, command in enumerate(("MIGRATESLOTS", "MIGRATE")):
                move(here, there, command=command)
                come_to(2 * number + 1)
                move(there, here, command=command)
                come_to(2 * number + 2)
            eventually(lambda: all(writer.trouble or sum(writer.counted.values()) > 150 for writer in writers), SECONDS_MAX)
        assert_sums(servers, writers)
        eventually(lambda: keys_in(there) == 0)
        assert keys_in(here) == KEYS == dbsize(here) and dbsize(there) == 0


def fill(client, rng):
    """Keys of all types in slot SLOT; and some that expire."""
    for number in range(40):
        client("SET", f"{TAG}s{number}", rng.randbytes(rng.choice([3, 40, 30000])))
        client("RPUSH", f"{TAG}l{number % 5}", *(rng.randbytes(rng.choice([3, 300])) for _ in range(60)))
        client("SADD", f"{TAG}set{number % 5}", *(rng.randrange(1000) for _ in range(30)))
        client("HSET", f"{TAG}h{number % 5}", *(rng.randrange(10**6) for _ in range(200)))
        client("ZADD", f"{TAG}z{number % 5}", *(rng.randrange(10**6) for _ in range(200)))
        client("XADD", f"{TAG}x{number % 3}", f"{number + 1}-1", "field", rng.randrange(1000))
    client("XGROUP", "CREATE", f"{TAG}x0", "group", "0")
    client("XREADGROUP", "GROUP", "group", "me", "COUNT", 2, "STREAMS", f"{TAG}x0", ">")
    for number in range(0, 40, 3):
        client("PEXPIREAT", f"{TAG}s{number}", int(time.time() * 1000) + 3_600_000 + number)


@pytest.mark.parametrize("kinds", [("corelane-1", "corelane-3"), ("corelane-3", "corelane-1")], ids="-".join)
def test_values_and_expiries_arrive_as_they_were(kinds):
    print("seed", SEED)
    rng = random.Random(SEED)
    with pair(*kinds) as (here, there), here.client() as client, there.client() as other:
        fill(client, rng)
        before = values(client, databases=1)
        count = client("DBSIZE")
        ended = move(here, there, 7000, 7629, 8000, 8000)
        assert ended["operation"] == "EXPORT" and ended["slot_ranges"] == "7000-7629 8000-8000"
        assert (ended["source_node"], ended["target_node"]) == (my_id(here), my_id(there))
        assert values(other, databases=1) == before
        assert other("DBSIZE") == count
        eventually(lambda: client("DBSIZE") == 0)
        imported = moves(there)[0]
        assert (imported["operation"], imported["state"], imported["name"]) == ("IMPORT", "success", ended["name"])
        await_agreement([here, there])


def test_what_expires_or_goes_during_the_move_is_gone_and_what_is_lengthened_stays():
    with pair("corelane-3", "corelane-3") as (here, there), here.client() as client, there.client() as other:
        client("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        for number in range(3000):
            client("SET", f"{TAG}{number}", "x" * 5000)
        client.pipeline(*(["SET", f"{TAG}short{number}", "v", "PX", 200] for number in range(100)))
        time.sleep(0.15)
        assert begin(here, there) == OK

        def write(*words):
            reply = client(*words)
            if isinstance(reply, Error):  # the move is over already
                assert reply == Error(f"MOVED {SLOT} 127.0.0.1:{there.port}")
                reply = other(*words)
            return reply

        for number in range(50):
            assert write("PEXPIRE", f"{TAG}short{number}", 3_600_000) in (0, 1)
        assert write("DEL", f"{TAG}0") == 1
        assert end_of_move(here)["state"] == "success"
        time.sleep(0.3)
        assert other("EXISTS", f"{TAG}0") == 0
        assert other("EXISTS", *(f"{TAG}short{number}" for number in range(50, 100))) == 0
        alive = other("EXISTS", *(f"{TAG}short{number}" for number in range(50)))
        # Those that had expired before they were lengthened are gone, on whichever side.
        assert alive == 50 or other("DBSIZE") == 2999 + alive


def big_source(client, count=20_000):
    """Enough keys for a move that takes a moment."""
    for start in range(0, count, 1000):
        pairs = (word for number in range(start, start + 1000) for word in (f"{TAG}big{number}", "v" * 500))
        assert client("MSET", *pairs) == OK


def begin_and_stop_in_the_middle(here, there):
    """Begins a move to a target whose writers are paused, and have been but for the moments in which the first keys came."""
    pause = "CLIENT PAUSE 60000 WRITE"
    with there.client() as other:
        assert other(pause) == OK
        assert begin(here, there) == OK
        found = 0
        while not found:
            assert other("CLIENT UNPAUSE") == OK
            found = other("CLUSTER", "COUNTKEYSINSLOT", SLOT)
            assert other(pause) == OK


def test_a_move_is_hidden_from_clients_of_the_target_until_it_is_done_and_can_be_cancelled():
    with pair("corelane-3", "corelane-3") as servers:
        here, there = servers
        with here.client() as client, there.client() as other:
            big_source(client, 80_000)
            begin_and_stop_in_the_middle(here, there)
            assert 0 < keys_in(there) < 80_000, "the move was faster than this test"
            assert other("DBSIZE") == 0 and other("KEYS", "*") == [] and other("RANDOMKEY") is NIL
            assert other("SCAN", "0", "COUNT", 100_000) == [b"0", []]
            for _ in range(2):
                assert other("GET", f"{TAG}big1") == Error(f"MOVED {SLOT} 127.0.0.1:{here.port}")
                assert other("ASKING") == OK
            assert ask(here, "CLUSTER", "CANCELSLOTMIGRATIONS") == OK
            assert end_of_move(here)["state"] == "cancelled"
            assert other("CLIENT", "UNPAUSE") == OK
            eventually(lambda: keys_in(there) == 0, 20)
            assert moves(there)[0]["state"] == "failed"
            assert client("DBSIZE") == 80_000 == keys_in(here)
            assert ask(here, "CLUSTER", "CANCELSLOTMIGRATIONS", "ALL") == Error("ERR No migrations ongoing")
            # And after all it can be moved, at once.
            move(here, there)
            assert other("DBSIZE") == 80_000


def test_flushing_ends_a_move():
    with pair("corelane-3", "corelane-1") as (here, there), here.client() as client:
        big_source(client)
        assert begin(here, there) == OK
        assert client("FLUSHALL") == OK
        ended = end_of_move(here)
        if ended["state"] == "failed":
            assert "emptied" in ended["message"]
            eventually(lambda: keys_in(there) == 0, 20)
            assert client("SET", f"{TAG}a", "1") == OK


def test_a_full_target_and_another_kind_of_server_refuse():
    kinds = ("corelane-3", "corelane-3", *(["redis"] if "redis" in chosen_targets() else []))
    with pair(*kinds) as servers:
        here, there, *others = servers
        with here.client() as client:
            big_source(client)
            with there.config(maxmemory="1"):
                assert begin(here, there) == OK
                ended = end_of_move(here)
            assert ended["state"] == "failed" and "OOM" in ended["message"], ended
            eventually(lambda: keys_in(there) == 0)
            for other in others:
                assert begin(here, other) == OK
                ended = end_of_move(here)
                assert ended["state"] == "failed" and "no server that takes slots as a whole" in ended["message"]
            assert client("DBSIZE") == 20_000
            move(here, there)


def test_what_cannot_move_is_refused(private_pair):
    here, there = private_pair
    me, other = my_id(here), my_id(there)
    with here.client() as client:
        check(
            client,
            (("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", 1, 2, "NODE", "x"), Error("ERR I don't know about node x")),
            (("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", 1, 2, "NODE", me), Error("ERR I'm the target of this migration myself")),
            (("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", 1, 9000, "NODE", other), Error("ERR I'm not the owner of hash slot 8192")),
            (("CLUSTER", "MIGRATE", "SLOTSRANGE", 2, 1, "NODE", other), Error("ERR start slot number 2 is greater than end slot number 1")),
            (("CLUSTER", "MIGRATE", "SLOTS", 2, 1, "NODE", other), Error("ERR syntax error")),
            (("CLUSTER", "GETSLOTMIGRATIONS"), []),
            (("CLUSTER", "CANCELSLOTMIGRATIONS"), Error("ERR No migrations ongoing")),
            (("CLUSTER", "SYNCSLOTS", "PING", "x"), Error("ERR No such slot migration")),
        )


@pytest.fixture(name="private_pair")
def _private_pair():
    with pair(KINDS[0], KINDS[-1]) as servers:
        yield servers


def test_several_moves_are_carried_out_one_after_the_other():
    with pair("corelane-3", "corelane-1", "corelane-3") as servers:
        here, there, third = servers
        with Router(servers) as route:
            for number in range(500):
                assert route("SET", f"key:{number}", number) == OK
            there_id, third_id = my_id(there), my_id(third)
            words = ["SLOTSRANGE", 0, 999, 2000, 2999, "NODE", there_id, "SLOTSRANGE", 3000, 4999, "NODE", third_id]
            assert ask(here, "CLUSTER", "MIGRATESLOTS", *words) == OK
            eventually(lambda: [one["state"] for one in moves(here)] == ["success", "success"], SECONDS_MAX)
            await_agreement(servers)
            assert table(third)[third_id]["slots"] == ["3000-4999"]
            assert table(here)[there_id]["slots"] == ["0-999", "2000-2999", "8192-16383"]
            for number in range(500):
                assert route("GET", f"key:{number}", hops=10) == str(number).encode()
            eventually(lambda: sum(dbsize(server) for server in servers) == 500)


@pytest.mark.parametrize("victim", ["source", "target"])
def test_a_node_that_falls_leaves_the_slots_to_one_owner_with_all_writes(victim):
    print("seed", SEED)
    rng = random.Random(SEED)
    arguments = ("--appendonly", "yes", "--appendfsync", "always", "--cluster-require-full-coverage", "no")
    with pair("corelane-3", "corelane-3", "corelane-1", arguments=arguments) as servers:
        here, there, _ = servers
        with here.client() as client:
            big_source(client, 5000)
        with writing(servers, may_lose=True) as writers:
            for _ in range(4):
                falls = here if victim == "source" else there
                owner = next(server for server in (here, there) if owns(server, SLOT))
                other = there if owner is here else here
                assert begin(owner, other) == OK
                time.sleep(rng.choice([0, 0.02, 0.1, 0.2, 0.4]) * rng.random())
                falls.kill()
                time.sleep(0.1)
                falls.start()
                await_agreement(servers)
                eventually(lambda: all(one["state"] in ("success", "failed") for one in moves(owner)), 20)
                await_agreement(servers)
        owners = [server for server in servers if owns(server, SLOT)]
        assert len(owners) == 1
        assert_sums(servers, writers)
        for server in servers:
            if server is not owners[0]:
                eventually(lambda server=server: keys_in(server) == 0, 20)
        eventually(lambda: sum(dbsize(server) for server in servers) == 5000 + KEYS, 20)


def owns(server, slot):
    ranges = (part.split("-") for part in table(server)[my_id(server)]["slots"] if not part.startswith("["))
    return any(int(part[0]) <= slot <= int(part[-1]) for part in ranges)


def test_replicas_of_both_ends_agree_with_their_masters():
    print("seed", SEED)
    rng = random.Random(SEED)
    with pair("corelane-3", "corelane-1") as masters:
        here, there = masters
        replicas = [node("corelane-1"), node("corelane-3")]
        try:
            for master, replica in zip(masters, replicas, strict=True):
                replica.start()
                assert ask(master, "CLUSTER", "MEET", "127.0.0.1", replica.port) == OK
                eventually(lambda m=master, r=replica: my_id(m) in table(r), 20)
                assert ask(replica, "CLUSTER", "REPLICATE", my_id(master)) == OK
                eventually(lambda r=replica: has_link(r), 30)
            await_agreement([*masters, *replicas])
            with here.client() as client:
                fill(client, rng)
            with writing(list(masters)) as writers:
                move(here, there)
                move(there, here)
                move(here, there)
            assert_sums(list(masters), writers)
            for master, replica in zip(masters, replicas, strict=True):
                eventually(lambda m=master, r=replica: everything(m) == everything(r), 30)
            assert keys_in(replicas[0]) == 0 < keys_in(replicas[1])
        finally:
            for replica in replicas:
                replica.stop()


def test_a_replica_that_takes_over_from_the_target_has_no_stray_keys():
    with pair("corelane-3", "corelane-1", "corelane-1") as masters:
        here, there, third = masters
        move(here, third, 0, 99)  # so that two can agree that one has failed
        replica = node("corelane-3")
        try:
            replica.start()
            assert ask(there, "CLUSTER", "MEET", "127.0.0.1", replica.port) == OK
            eventually(lambda: my_id(there) in table(replica), 20)
            assert ask(replica, "CLUSTER", "REPLICATE", my_id(there)) == OK
            eventually(lambda: has_link(replica), 30)
            await_agreement([*masters, replica])
            with there.client() as other, here.client() as client:
                assert other("SET", "foo", "stays") == OK
                big_source(client, 80_000)
                begin_and_stop_in_the_middle(here, there)
                eventually(lambda: keys_in(replica))
                assert dbsize(replica) == 1
                there.kill()
                assert end_of_move(here)["state"] == "failed"
                eventually(lambda: "master" in table(replica)[my_id(replica)]["flags"], 30)
                eventually(lambda: keys_in(replica) == 0, 20)
                assert dbsize(replica) == 1 and owns(here, SLOT)
                assert client("DBSIZE") == 80_000
                await_agreement([here, third, replica])
                move(here, replica)
                assert dbsize(replica) == 80_001
        finally:
            replica.stop()


def everything(server):
    with server.client() as client:
        client("READONLY")
        return values(client, databases=1)


def test_who_waits_for_a_key_of_the_slot_is_sent_after_it():
    with pair("corelane-3", "corelane-3") as (here, there), here.client() as waiting, there.client() as other:
        waiting.send("BLPOP", f"{TAG}list", 0)
        eventually(lambda: here.info("clients")["blocked_clients"] == "1")
        move(here, there)
        assert waiting.read() == Error(f"MOVED {SLOT} 127.0.0.1:{there.port}")
        assert other("RPUSH", f"{TAG}list", "a") == 1


covers(
    "CLUSTER MIGRATE", "CLUSTER MIGRATESLOTS", "CLUSTER GETSLOTMIGRATIONS", "CLUSTER CANCELSLOTMIGRATIONS", "CLUSTER SYNCSLOTS",
)  # fmt: skip
