"""Clusters of servers of either kind, for tests that need more than one node."""

import contextlib
import subprocess

from .resp import OK, Error, Simple
from .server import Server
from .waiting import eventually

# Longer than a busy machine may keep a process waiting: who is taken for dead then is missed by clients.
NODE_TIMEOUT_MS = 5000
CLI_SECONDS_MAX = 120
# Detection, and an election that may have to be held twice, take a multiple of that.
CONVERGENCE_SECONDS_MAX = 60


def node(kind, *arguments, **options):
    """A node of a cluster that knows nobody yet; not started."""
    timeout = str(NODE_TIMEOUT_MS)
    return Server(kind, "--cluster-enabled", "yes", "--cluster-node-timeout", timeout, *arguments, **options)


@contextlib.contextmanager
def nodes(*kinds, arguments=()):
    """Nodes of these kinds that know nobody yet, one after the other. `arguments` may depend on the kind."""
    started = []
    try:
        for kind in kinds:
            server = node(kind, *(arguments(kind) if callable(arguments) else arguments))
            started.append(server)
            server.start()
        yield started
        for server in started:
            assert not server.panics(), server.log_tail()
    finally:
        for server in started:
            server.stop()


def address(server):
    """Where a node is, as redis-cli wants it."""
    return f"127.0.0.1:{server.port}"


def cli(*words, accepted=(0,)):
    """What `redis-cli --cluster` answers to these words."""
    done = subprocess.run(
        ["redis-cli", "--cluster", *map(str, words)],
        # Whatever it asks, the answer is yes.
        input="yes\n" * 4,
        capture_output=True,
        text=True,
        timeout=CLI_SECONDS_MAX,
        check=False,
    )
    assert done.returncode in accepted, f"redis-cli --cluster {words}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def ask(server, *words):
    """One command on a connection of its own."""
    with server.client() as client:
        return client(*words)


def my_id(server):
    """The id of a node."""
    return ask(server, "CLUSTER", "MYID").decode()


def text_of(server, subcommand):
    """What a node says of the cluster. A replica that is loading says nothing: an assertion, so that who waits goes on."""
    reply = ask(server, "CLUSTER", subcommand)
    assert isinstance(reply, bytes), reply
    return reply.decode()


def cluster_info(server):
    """CLUSTER INFO as a dict of strings."""
    lines = text_of(server, "INFO").split("\r\n")
    return dict(line.split(":", 1) for line in lines if line)


def table(server):
    """CLUSTER NODES: by id, the address, flags, master, epoch, link and slots."""
    rows = {}
    for line in text_of(server, "NODES").splitlines():
        name, where, flags, master, _ping, _pong, epoch, link, *slots = line.split(" ")
        flags = set(flags.split(",")) - {"myself"}
        rows[name] = {
            "address": where, "flags": flags, "master": master, "epoch": int(epoch), "link": link, "slots": slots,
        }  # fmt: skip
    return rows


def ownership(server):
    """Who has which slots, as this node sees it: comparable between nodes."""
    return {name: (row["slots"], row["master"], row["epoch"]) for name, row in table(server).items()}


def agrees(servers):
    """Whether all nodes see the same cluster, and it serves."""
    views = [ownership(server) for server in servers]
    return all(view == views[0] for view in views) and all(
        cluster_info(server)["cluster_state"] == "ok" for server in servers
    )


def await_agreement(servers):
    """Waits until all nodes see the same cluster, and it serves."""
    eventually(lambda: agrees(servers), CONVERGENCE_SECONDS_MAX, every=0.1)


def create(servers, replicas=0):
    """Makes a cluster of these nodes with redis-cli."""
    where = [address(server) for server in servers]
    cli("create", *where, "--cluster-replicas", replicas, "--cluster-yes")
    await_agreement(servers)


def move_slot(source, target, slot):
    """As redis-cli --cluster reshard moves a slot."""
    assert ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", my_id(source)) == OK
    assert ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", my_id(target)) == OK
    with source.client() as client:
        while keys := client("CLUSTER", "GETKEYSINSLOT", slot, 3):
            reply = client("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            assert reply in (OK, Simple("NOKEY")), reply
    for server in (target, source):
        assert ask(server, "CLUSTER", "SETSLOT", slot, "NODE", my_id(target)) == OK


class Router:
    """A client that goes where it is sent."""

    def __init__(self, servers):
        self.clients = {server.port: server.client() for server in servers}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients.values():
            client.close()

    def __call__(self, *words, hops=5):
        port = next(iter(self.clients))
        asking = False
        for _ in range(hops):
            client = self.clients[port]
            if asking:
                client("ASKING")
            reply = client(*words)
            if not (isinstance(reply, Error) and reply.startswith(("MOVED ", "ASK "))):
                return reply
            asking = reply.startswith("ASK ")
            port = int(reply.rpartition(":")[2])
        raise AssertionError(f"{words} was sent around: {reply!r}")
