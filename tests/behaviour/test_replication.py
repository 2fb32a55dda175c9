"""Replication with redis-server on either end, and between servers of other shard counts.

A pair is a master and a replica of it; redis-server on both ends shows that a test is right.
"""

import contextlib
import random
import subprocess
import time

import pytest

from harness import *
from harness import NIL, NOT_AN_INTEGER, OK, SYNTAX_ERROR, Error, Server, Simple, covers, encode
from harness.replicas import Proxy, assert_same, follow, has_link, in_step, offset, values, write_anything, writers
from harness.server import chosen_targets, free_port

PAIRS = [
    ("redis", "redis"), ("redis", "corelane-1"), ("redis", "corelane-3"), ("corelane-1", "redis"), ("corelane-3", "redis"),
    ("corelane-1", "corelane-3"), ("corelane-3", "corelane-1"),
]  # fmt: skip
CHAINS = [
    ("redis", "corelane-3", "redis"), ("corelane-3", "redis", "corelane-1"), ("corelane-3", "corelane-1", "corelane-3"),
]  # fmt: skip
# A full synchronisation begins at once.
AT_ONCE = ("--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes")
SMALL_BACKLOG, LARGE_BACKLOG = "16kb", "50mb"


def among_chosen(combinations):
    chosen = set(chosen_targets())
    return pytest.mark.parametrize(
        "kinds", [kinds for kinds in combinations if set(kinds) <= chosen], ids=lambda kinds: ">".join(kinds)
    )


pairs, chains = among_chosen(PAIRS), among_chosen(CHAINS)


@pytest.fixture
def nodes(request):
    """Starts servers: nodes("redis", "corelane-1")."""
    started = request.node.servers = []

    def start(*targets, arguments=()):
        new = [Server(target, *AT_ONCE, *arguments) for target in targets]
        started.extend(new)
        return [server.start() for server in new]

    yield start
    panics = [line for server in started for line in server.panics()]
    for server in started:
        server.stop()
    assert not panics, panics


@pytest.fixture
def proxies():
    """Ways that can be cut: proxies(port)."""
    made = []

    def make(port):
        made.append(Proxy(port))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pairs
def test_a_replica_has_what_its_master_has(nodes, kinds):
    master, replica = nodes(*kinds)
    with master.client() as client:
        write_anything(client, random.Random(1), 600)
        assert client("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
    with writers(master, 2):
        follow(replica, master.port)
        time.sleep(0.5)
    assert assert_same(master, replica) > 100
    with master.client() as client:
        assert client("FUNCTION", "DELETE", "lib") == OK
        assert client("FLUSHDB") == OK
        write_anything(client, random.Random(3), 100)
        client.pipeline("SWAPDB 0 1", "SET after swap")
    assert_same(master, replica)


@chains
def test_a_chain_hands_the_stream_on_byte_by_byte(nodes, kinds):
    servers = nodes(*kinds)
    with servers[0].client() as client:
        write_anything(client, random.Random(1), 200)
        client.pipeline("SELECT 3", "SET in three")
    for above, below in zip(servers, servers[1:]):
        follow(below, above.port)
    with writers(servers[0], 4):
        time.sleep(0.3)
    # The last one joins in the middle of a stream that has selected a database.
    with servers[0].client() as client:
        client.pipeline("SELECT 2", "SET in two")
        in_step(*servers)
        (late,) = nodes(kinds[2])
        follow(late, servers[1].port)
        client("SET", "in", "two again")
    assert_same(*servers, late)


@pairs
@pytest.mark.parametrize("backlog", [SMALL_BACKLOG, LARGE_BACKLOG])
def test_links_that_break_are_made_good(nodes, proxies, kinds, backlog):
    master, replica = nodes(*kinds, arguments=("--repl-backlog-size", backlog))
    proxy, rng = proxies(master.port), random.Random(5)
    follow(replica, proxy.port)
    with writers(master, 6):
        for _ in range(12):
            time.sleep(rng.random() * 0.1)
            proxy.cut()
            if rng.random() < 0.3:
                proxy.is_open = False
                time.sleep(rng.random() * 0.2)
                proxy.is_open = True
            if rng.random() < 0.7:
                eventually(lambda: has_link(replica), 30)
    assert_same(master, replica)
    stats = master.info("stats")
    if backlog == LARGE_BACKLOG:
        assert int(stats["sync_partial_ok"]) > 0 and stats["sync_full"] == "1"


@pairs
def test_a_promoted_replica_goes_on_with_the_history(nodes, kinds):
    master, heir = nodes(*kinds)
    (other,) = nodes(kinds[0])
    for replica in (heir, other):
        follow(replica, master.port)
    with master.client() as client:
        write_anything(client, random.Random(1), 200)
    assert_same(master, heir, other)  # nothing is left that could expire
    former = heir.info("replication")["master_replid"]
    with heir.client() as client:
        assert client("REPLICAOF", "NO", "ONE") == OK
        assert client("SET", "promoted", 1) == OK
    facts = heir.info("replication")
    assert facts["role"] == "master" and facts["master_replid2"] == former != facts["master_replid"]
    assert int(facts["second_repl_offset"]) > 0
    for replica in (other, master):
        follow(replica, heir.port)
    with heir.client() as client:
        write_anything(client, random.Random(2), 200)
    assert_same(heir, other, master)
    stats = heir.info("stats")
    assert (stats["sync_full"], stats["sync_partial_ok"]) == ("0", "2")


@pairs
@covers("ROLE", "SLAVEOF", "REPLICAOF")
def test_what_a_replica_says_and_refuses(nodes, kinds):
    master, replica = nodes(*kinds)
    with master.client() as client, replica.client() as reader:
        assert client("ROLE") == [b"master", 0, []]
        assert reader("REPLICAOF", "127.0.0.1", "port") == Error("ERR Invalid master port")
        assert reader("SLAVEOF", "127.0.0.1", master.port) == OK
        eventually(lambda: has_link(replica), 30)
        already = reader("SLAVEOF", "127.0.0.1", master.port)
        assert already == Simple("OK Already connected to specified master")
        assert client("SET", "k", "v") == OK
        in_step(master, replica)
        here = offset(master)
        role, host, port, state, at = reader("ROLE")
        assert (role, host, port, state) == (b"slave", b"127.0.0.1", master.port, b"connected") and at >= here
        role, at, followers = client("ROLE")
        assert (role, len(followers)) == (b"master", 1) and at >= here
        assert followers[0][:2] == [b"127.0.0.1", str(replica.port).encode()]
        readonly = Error("READONLY You can't write against a read only replica.")
        assert reader("SET", "k", "w") == readonly and reader("GET", "k") == b"v"
        assert reader.pipeline("MULTI", "SET k w", "EXEC") == [
            OK, readonly, Error("EXECABORT Transaction discarded because of previous errors."),
        ]  # fmt: skip
        assert reader("EVAL", "return redis.call('SET', KEYS[1], 1)", 1, "k").startswith("READONLY")
        assert reader("WAIT", 1, 10).startswith("ERR WAIT cannot be used with replica instances.")
        facts = replica.info("replication")
        assert facts["role"] == "slave" and facts["slave_read_only"] == "1" and facts["master_port"] == str(master.port)
        lines = master.info("replication")
        assert lines["connected_slaves"] == "1"
        assert lines["slave0"].startswith(f"ip=127.0.0.1,port={replica.port},state=online,offset=")
        assert reader("CONFIG", "SET", "replica-serve-stale-data", "no") == OK
        assert reader("GET", "k") == b"v"
        master.kill()
        eventually(lambda: not has_link(replica))
        assert reader("GET", "k").startswith("MASTERDOWN") and reader("INFO").startswith(b"# Server")
        assert reader("SLAVEOF", "NO", "ONE") == OK
        assert reader("GET", "k") == b"v" and reader("SET", "k", "w") == OK


@pairs
@covers("WAIT")
def test_wait_counts_replicas_that_have_what_was_written(nodes, proxies, kinds):
    master, replica = nodes(*kinds)
    proxy = proxies(master.port)
    with master.client() as client:
        assert client("WAIT", 0, 10) == 0
        follow(replica, proxy.port)
        for number in range(50):
            assert client("SET", "k", number) == OK
            assert client("WAIT", 1, 5000) == 1
            with replica.client() as reader:
                assert reader("GET", "k") == str(number).encode()
        assert client("WAIT", 2, 20) == 1
        assert client.pipeline("MULTI", "SET k last", "WAIT 1 0", "EXEC")[-1][0] == OK
        proxy.is_open = False
        proxy.cut()
        eventually(lambda: master.info("replication")["connected_slaves"] == "0")
        assert client("SET", "k", "alone") == OK
        assert client("WAIT", 1, 50) == 0


@pairs
def test_too_few_replicas_stop_writes(nodes, proxies, kinds):
    master, replica = nodes(*kinds)
    proxy = proxies(master.port)
    with master.client() as client:
        assert client("CONFIG", "SET", "min-replicas-to-write", 1, "min-replicas-max-lag", 10) == OK
        lacking = Error("NOREPLICAS Not enough good replicas to write.")
        eventually(lambda: client("SET", "k", "v") == lacking)
        assert client("GET", "k") == NIL
        assert client("EVAL", "return redis.call('SET', KEYS[1], 1)", 1, "k").startswith("NOREPLICAS")
        follow(replica, proxy.port)
        eventually(lambda: client("SET", "k", "v") == OK)
        assert master.info("replication")["min_slaves_good_slaves"] == "1"
        proxy.is_open = False
        proxy.cut()
        eventually(lambda: client("SET", "k", "v") == lacking)
        assert client("CONFIG", "SET", "min-replicas-to-write", 0) == OK
        eventually(lambda: client("SET", "k", "v") == OK)


@pairs
def test_keys_expire_on_a_replica_when_the_master_says_so(nodes, kinds):
    master, replica = nodes(*kinds)
    with master.client() as client, replica.client() as reader:
        follow(replica, master.port)
        assert client("DEBUG", "SET-ACTIVE-EXPIRE", 0) == OK
        client.pipeline("SET k v PX 30", "RPUSH l a", "PEXPIRE l 30", "SET other v")
        in_step(master, replica)
        eventually(lambda: reader("GET", "k") == NIL)
        time.sleep(0.05)
        # Nobody has looked at the master's keys: they are there, and hidden.
        assert reader("DBSIZE") == 3 and client("DBSIZE") == 3
        assert reader("EXISTS", "k", "l") == 0 and reader("TTL", "l") == -2 and reader("LLEN", "l") == 0
        assert reader("KEYS", "*") == [b"other"] and reader("MGET", "k", "other") == [NIL, b"v"]
        assert reader("SCAN", 0, "COUNT", 100)[1] == [b"other"]
        assert client("GET", "k") == NIL
        eventually(lambda: reader("DBSIZE") == 2)
        # What the master writes to a key that has not expired there is not lost.
        assert client("RPUSH", "l", "b") == 1
        in_step(master, replica)
        assert reader("LRANGE", "l", 0, -1) == [b"b"]
    assert_same(master, replica)


@pairs
def test_a_master_with_a_password(nodes, kinds):
    (master,) = nodes(kinds[0], arguments=("--requirepass", "secret"))
    master.password = "secret"
    (replica,) = nodes(kinds[1])
    follow(replica, master.port, wait=False)
    time.sleep(0.3)
    assert not has_link(replica)
    with replica.client() as client:
        assert client("CONFIG", "SET", "masterauth", "secret") == OK
    eventually(lambda: has_link(replica), 30)


@pairs
@covers("FAILOVER")
def test_failover_loses_nothing(nodes, kinds):
    master, heir = nodes(*kinds)
    with master.client() as client:
        assert client("FAILOVER") == Error("ERR FAILOVER requires connected replicas.")
        assert client("FAILOVER", "ABORT") == Error("ERR No failover in progress.")
        assert client("FAILOVER", "TIMEOUT", 0) == Error("ERR FAILOVER timeout must be greater than 0")
        follow(heir, master.port)
        wrong = client("FAILOVER", "TO", "127.0.0.1", 1)
        assert wrong == Error("ERR FAILOVER target HOST and PORT is not a replica.")
        with heir.client() as other:
            assert other("FAILOVER") == Error("ERR FAILOVER is not valid when server is a replica.")
        written = 0
        in_step(master, heir)
        for number in range(200):
            assert client("INCR", "n") == number + 1
            written += 1
        # Nobody is online before its first acknowledgement has come.
        eventually(lambda: client("FAILOVER", "TO", "127.0.0.1", heir.port) == OK)
        # A writer waits until it is decided, and is refused then.
        assert client("INCR", "n") == Error("READONLY You can't write against a read only replica.")
    eventually(lambda: heir.info("replication")["role"] == "master")
    eventually(lambda: has_link(master), 30)
    with heir.client() as client:
        assert client("GET", "n") == str(written).encode()
        assert client("INCR", "n") == written + 1
    assert heir.info("stats")["sync_full"] == "0"
    assert_same(heir, master)


@pairs
def test_servers_that_are_killed_come_to_have_the_same(nodes, kinds):
    master, replica = nodes(*kinds)
    rng = random.Random(7)
    for _ in range(4):
        follow(replica, master.port, wait=False)
        with writers(master, rng.randrange(1000)):
            time.sleep(rng.random() * 0.3)
            replica.kill()
            time.sleep(0.05)
            replica.start()
            follow(replica, master.port)
        assert_same(master, replica)
    # The replica goes on when the master is gone in the middle of anything.
    with writers(master, 9):
        time.sleep(0.2)
        master.kill()
    with replica.client() as client:
        assert client("REPLICAOF", "NO", "ONE") == OK
        write_anything(client, rng, 50)
    master.start()
    follow(master, replica.port)
    assert_same(replica, master)


@pairs
def test_blocked_clients_of_a_server_that_becomes_a_replica_are_told(nodes, kinds):
    master, replica = nodes(*kinds)
    with replica.client() as client:
        client.send("BLPOP", "l", 0)
        time.sleep(0.1)
        follow(replica, master.port)
        told = client.read()
        assert isinstance(told, Error) and told.startswith("UNBLOCKED force unblock from blocking operation")


@pairs
def test_a_block_may_end_replication(nodes, kinds):
    # What a sentinel sends to whom it promotes.
    master, replica = nodes(*kinds)
    follow(replica, master.port)
    with replica.client() as client:
        replies = client.pipeline("MULTI", "SLAVEOF NO ONE", "CLIENT KILL TYPE pubsub", "EXEC")
        assert replies[-1] == [OK, 0], replies
        eventually(lambda: client("SET", "k", "v") == OK)


def test_values_tells_what_differs(nodes):
    # The comparison itself: a difference of any kind is seen.
    (server,) = nodes(chosen_targets()[0])
    with server.client() as client:
        seen = [values(client)]
        for command in ("SET k v", "EXPIRE k 1000", "SELECT 3", "SADD s a", "SELECT 0", "XADD x 1-1 a b", "XGROUP CREATE x g 0"):
            client(*command.split())
            seen.append(values(client))
    assert len({str(found) for found in seen}) == len(seen) - 2


@among_chosen([("redis", "redis"), ("redis", "corelane-3"), ("corelane-3", "redis")])
def test_a_sentinel_promotes_a_replica(nodes, kinds, tmp_path):
    master, replica = nodes(*kinds)
    follow(replica, master.port)
    with master.client() as client:
        assert client("SET", "k", "v") == OK
    in_step(master, replica)
    port = free_port()
    conf = tmp_path / "sentinel.conf"
    conf.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor m 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds m 500\nsentinel failover-timeout m 3000\n"
    )
    with open(tmp_path / "log", "wb") as log:
        sentinel = subprocess.Popen(["redis-server", conf, "--sentinel"], stdout=log, stderr=log)
    try:
        # Sentinels ask a master for its replicas every ten seconds.
        eventually(lambda: f"+slave slave 127.0.0.1:{replica.port}" in (tmp_path / "log").read_text(), 20)
        master.kill()

        def takes_over():
            # In the block that promotes it, a sentinel ends all connections of clients: this one may be among them.
            with contextlib.suppress(ConnectionLost), replica.client() as client:
                assert client("GET", "k") == b"v"
                return client("SET", "k", "v") == OK

        eventually(takes_over, 20)
        assert replica.info("replication")["role"] == "master"
    finally:
        sentinel.kill()
        sentinel.wait()


def handshake(client):
    """What a replica says first."""
    assert client("REPLCONF", "listening-port", 7777) == OK
    assert client("REPLCONF", "ip-address", "10.1.2.3") == OK
    assert client("REPLCONF", "capa", "eof", "capa", "psync2", "capa", "unheard-of") == OK


@covers("REPLCONF", "PSYNC", "SYNC")
def test_a_replica_by_hand(private_server):
    server = private_server(*AT_ONCE)
    with server.client() as client, server.client() as replica, server.client() as old, server.client() as late:
        assert client("REPLCONF", "listening-port") == SYNTAX_ERROR
        assert client("REPLCONF", "listening-port", "x") == NOT_AN_INTEGER
        assert client("REPLCONF", "colour", "red") == Error("ERR Unrecognized REPLCONF option: colour")
        assert client("PSYNC", "?", "x") == NOT_AN_INTEGER
        assert client("SET", "k", "v") == OK
        handshake(replica)
        replica.send("PSYNC", "?", "-1")
        word, history, at = replica.read().split(" ")
        assert (word, len(history)) == ("FULLRESYNC", 40)
        data = take_snapshot(replica)
        assert data.startswith(b"REDIS00") and b"repl-id" in data and history.encode() in data and b"\x01k\x01v" in data
        assert client("SET", "k", "w") == OK
        while replica.silent(0.2):
            # Not heard before redis-server has seen the end of the child that sent the snapshot.
            replica.send("REPLCONF", "ACK", at)
        expected = encode("SELECT", "0") + encode("SET", "k", "w")
        assert replica.exactly(len(expected)) == expected
        line = server.info("replication")["slave0"]
        assert line.startswith("ip=10.1.2.3,port=7777,state=online,offset="), line
        # One who was away for a moment gets what it lacks, and nothing else.
        replica.close()
        end = int(server.info("replication")["master_repl_offset"])
        assert client("SET", "k", "x") == OK
        eventually(lambda: offset(server) > end)
        handshake(late)
        late.send("PSYNC", history, end + 1)
        assert late.read() == Simple(f"CONTINUE {history}")
        expected = encode("SET", "k", "x")
        assert late.exactly(len(expected)) == expected
        # SYNC gets the bare snapshot.
        old.send("SYNC")
        assert take_snapshot(old).startswith(b"REDIS00")
        assert client("ROLE")[2][0][:2] == [b"10.1.2.3", b"7777"]


def take_line(client):
    while True:
        line = b""
        while not line.endswith(b"\n"):
            line += client.exactly(1)
        if line != b"\n":  # that keeps the link alive
            return line.rstrip()


def take_snapshot(client):
    """The payload behind `$<length>` or between `$EOF:<mark>` and the mark."""
    line = take_line(client)
    assert line.startswith(b"$"), line
    if not line.startswith(b"$EOF:"):
        return client.exactly(int(line[1:]))
    data, mark = b"", line[5:]
    while not data.endswith(mark):
        data += client.exactly(1)
    return data[:-40]


@pairs
def test_messages_reach_the_subscribers_of_replicas(nodes, kinds):
    master, replica = nodes(*kinds)
    follow(replica, master.port)
    with master.client() as client, replica.client() as listener:
        assert listener("SUBSCRIBE", "news") == [b"subscribe", b"news", 1]
        assert client("PUBLISH", "news", "hello") == 0
        assert listener.read() == [b"message", b"news", b"hello"]
        client.pipeline("SELECT 3", "MULTI", "SET k v", "PUBLISH news again", "EXEC")
        assert listener.read() == [b"message", b"news", b"again"]
        script = "redis.set_repl(redis.REPL_{}) redis.call('SET', KEYS[1], 1) return redis.call('PUBLISH', 'news', KEYS[1])"
        for number, audience in enumerate(("ALL", "AOF", "SLAVE", "NONE")):
            assert client("EVAL", script.format(audience), 1, f"k{number}") == 0
        assert listener.read() == [b"message", b"news", b"k0"]
        assert listener.read() == [b"message", b"news", b"k2"]
        in_step(master, replica)
        with replica.client() as reader:
            assert reader("SELECT", 3) == OK and reader("EXISTS", "k0", "k1", "k2", "k3") == 2


@pairs
def test_servers_that_were_stopped_go_on_where_they_were(nodes, kinds):
    master, replica = nodes(*kinds)
    follow(replica, master.port)
    with master.client() as client:
        write_anything(client, random.Random(1), 100)
        client.pipeline("SELECT 2", "SET in two")
    assert_same(master, replica)
    with replica.client() as client:
        client.send("SHUTDOWN", "SAVE")
        replica.process.wait(10)
    with master.client() as client:
        # The stream does not say again which database is selected.
        client.pipeline("SELECT 2", "SET still two")
    replica.arguments += ["--replicaof", f"127.0.0.1 {master.port}"]
    replica.start()
    eventually(lambda: has_link(replica), 30)
    assert_same(master, replica)
    stats = master.info("stats")
    assert (stats["sync_full"], stats["sync_partial_ok"]) == ("1", "1")
