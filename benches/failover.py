#!/usr/bin/env python3
"""How long a cluster takes to replace a master, and what becomes of the writes: three masters, three replicas.

    benches/failover.py [--binary target/release/corelane] [--trials 20] [--kind corelane-1] [crash] [pause] [minority]

crash     kill -9 of a master under load. Printed is the time until its slots can be written again, and until every
          master of the cluster can be written to.
pause     SIGSTOP of a master until it is replaced, then SIGCONT. Printed are the writes that it took although it was
          no master any more; a client that was connected all the time asks it in a loop.
minority  SIGSTOP of all nodes but one master and its replica, as a partition would do. Printed is the time until that
          master refuses writes; a majority that answers again lets it go on.

All the time, writers with `WAIT 1` keep what was acknowledged; a trial fails if one of these writes is gone, if there is
not one owner of the slots at the end, if a stopped master takes a write after it was replaced, or if it takes longer
than it may (for a crash, the node timeout and 1.5 s). One cluster serves all trials: the master that fell comes back
as a replica before the next one.
"""

import argparse
import os
import pathlib
import signal
import statistics
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "behaviour"))

from harness import cluster  # noqa: E402
from harness.resp import OK, Client, ConnectionLost, Error, NoReply  # noqa: E402
from harness.waiting import eventually  # noqa: E402

WRITERS, KEYS_OF_EACH = 4, 300
PROBE_SECONDS = 0.005
# What the death of a master may cost: its connections break, so its silence is noticed at once.
CRASH_SECONDS_MAX = cluster.NODE_TIMEOUT_MS / 1000 + 1.5
# A stopped one is noticed by the next ping, which is due after half of the timeout.
PAUSE_SECONDS_MAX = cluster.NODE_TIMEOUT_MS / 1000 * 1.5 + 1.5
# Nobody else can be elected before.
MINORITY_SECONDS_MAX = cluster.NODE_TIMEOUT_MS / 1000
TRIAL_SECONDS_MAX = 30
# Long enough that a majority has replaced who is silent, whatever the random delays.
SILENCE_SECONDS = cluster.NODE_TIMEOUT_MS / 1000 + 3


class Writer(threading.Thread):
    """Writes rising numbers to keys of its own all over the cluster, wherever these are, and waits for a replica each time."""

    def __init__(self, servers, number):
        super().__init__(daemon=True)
        self.ports = [server.port for server in servers]
        self.clients, self.owner = {}, {}
        self.keys = [f"w{number}:{n}" for n in range(KEYS_OF_EACH)]
        self.acknowledged, self.count, self.ends = {}, 0, threading.Event()

    def run(self):
        while not self.ends.is_set():
            self.count += 1
            self.write(self.keys[self.count % KEYS_OF_EACH], self.count)

    def write(self, key, number):
        port = self.owner.get(key, self.ports[0])
        try:
            if port not in self.clients:
                self.clients[port] = Client(port, timeout=1)
            done, replicas = self.clients[port].pipeline(("SET", key, number), ("WAIT", 1, 500))
        except (ConnectionLost, NoReply, OSError):
            # A reply that comes later would be taken for that of the next request: so the connection goes.
            self.clients.pop(port, None)
            return self.try_another(key)
        if isinstance(done, Error):
            if done.startswith("MOVED "):
                self.owner[key] = int(done.rpartition(":")[2])
            return None
        if done == OK and isinstance(replicas, int) and replicas >= 1:
            self.acknowledged[key] = number
        return None

    def try_another(self, key):
        """Somebody knows where the key is now."""
        others = [port for port in self.ports if port != self.owner.get(key)]
        self.owner[key] = others[self.count % len(others)]
        time.sleep(0.01)

    def stop(self):
        self.ends.set()
        self.join()


class Trial:
    """One cluster with writers, and the shard whose turn it is to lose its master."""

    def __init__(self, servers):
        self.servers = servers
        self.writers = [Writer(servers, number) for number in range(WRITERS)]

    def __enter__(self):
        for writer in self.writers:
            writer.start()
        eventually(lambda: all(len(writer.acknowledged) > KEYS_OF_EACH / 2 for writer in self.writers), TRIAL_SECONDS_MAX)
        return self

    def __exit__(self, *_):
        for writer in self.writers:
            writer.stop()

    def lost(self):
        """Acknowledged writes of which only an older version is there."""
        with cluster.Router(self.servers) as route:
            return [
                (key, number, found)
                for writer in self.writers
                for key, number in writer.acknowledged.items()
                if int(found := route("GET", key)) < number
            ]


def masters_of(servers):
    return sorted(
        (server for server in servers if server.info("replication")["role"] == "master"),
        key=lambda server: first_slot(server),
    )


def replicas_of(servers, master):
    name = cluster.my_id(master)
    rows = cluster.table(master)
    return [server for server in servers if rows[cluster.my_id(server)]["master"] == name]


def first_slot(server):
    return int(cluster.table(server)[cluster.my_id(server)]["slots"][0].partition("-")[0])


def key_in(slot, server):
    """A key of this slot: nodes say which slot a key has."""
    with server.client() as client:
        return next(key for n in range(200_000) if client("CLUSTER", "KEYSLOT", key := f"probe{n}") == slot)


def takes_writes(port, key):
    """Whether a node with this port takes a write now."""
    try:
        with Client(port, timeout=0.2) as client:
            return client("SET", key, "probe") == OK
    except (ConnectionLost, NoReply, OSError):
        return False


def await_whole(servers):
    """Until all nodes agree and all replicas have their masters' data: then a master may fall."""
    cluster.await_agreement(servers)

    def is_linked(server):
        replication = server.info("replication")
        linked = replication.get("master_link_status") == "up"
        return linked if replication["role"] == "slave" else replication.get("connected_slaves") == "1"

    for server in servers:
        eventually(lambda server=server: is_linked(server), cluster.CONVERGENCE_SECONDS_MAX)


def since(start):
    return time.monotonic() - start


def crash(servers, number, keys):
    """Kills a master; the seconds until its slots, and until all, can be written."""
    masters = masters_of(servers)
    master = masters[number % len(masters)]
    replica, *_ = replicas_of(servers, master)
    others = [one for one in masters if one is not master]
    start = time.monotonic()
    master.kill()
    eventually(lambda: takes_writes(replica.port, keys[number % 3]), TRIAL_SECONDS_MAX, every=PROBE_SECONDS)
    slots = since(start)
    for other in others:
        key = keys[masters.index(other)]
        eventually(lambda port=other.port, key=key: takes_writes(port, key), TRIAL_SECONDS_MAX, every=PROBE_SECONDS)
    whole = since(start)
    master.start()
    await_whole(servers)
    return {"slots writable after": slots, "all writable after": whole}, slots <= CRASH_SECONDS_MAX


def pause(servers, number, keys):
    """Stops a master until it is replaced; the writes that it takes when it goes on, which nobody keeps."""
    masters = masters_of(servers)
    at = number % len(masters)
    master = masters[at]
    replica, *_ = replicas_of(servers, master)
    with master.client() as old:
        assert old("SET", keys[at], "before") == OK
        start = time.monotonic()
        master.process.send_signal(signal.SIGSTOP)
        try:
            eventually(lambda: takes_writes(replica.port, keys[at]), TRIAL_SECONDS_MAX, every=PROBE_SECONDS)
            replaced = since(start)
        finally:
            master.process.send_signal(signal.SIGCONT)
        taken, resumed, refused = 0, time.monotonic(), 0.0
        while since(resumed) < 1:
            if old("SET", keys[at], "stale") == OK:
                taken, refused = taken + 1, since(resumed)
    await_whole(servers)
    owners = [server.port for server in servers if takes_writes(server.port, keys[at])]
    figures = {"replaced after": replaced, "stale writes": taken, "last stale write after": refused}
    return figures, replaced <= PAUSE_SECONDS_MAX and taken == 0 and owners == [replica.port]


def minority(servers, number, keys):
    """Silences the majority; the time until the master that is left refuses writes."""
    masters = masters_of(servers)
    at = number % len(masters)
    master = masters[at]
    left = [master, *replicas_of(servers, master)]
    silenced = [server for server in servers if server not in left]
    with master.client() as client:
        start = time.monotonic()
        for server in silenced:
            server.process.send_signal(signal.SIGSTOP)
        try:
            refuses = lambda: isinstance(client("SET", keys[at], "alone"), Error)  # noqa: E731
            eventually(refuses, TRIAL_SECONDS_MAX, every=PROBE_SECONDS)
            refused = since(start)
            time.sleep(max(0, SILENCE_SECONDS - since(start)))
            stays = refuses()
        finally:
            for server in silenced:
                server.process.send_signal(signal.SIGCONT)
    resumed = time.monotonic()
    await_whole(servers)
    owners = [server.port for server in servers if takes_writes(server.port, keys[at])]
    figures = {"refused after": refused, "whole again after": since(resumed)}
    return figures, stays and refused <= MINORITY_SECONDS_MAX and owners == [master.port]


VARIANTS = {"crash": crash, "pause": pause, "minority": minority}


def show(figures):
    return ", ".join(f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items())


def run(variant, kinds, trials):
    """All trials of one variant; how many failed."""
    failed, columns = 0, {}
    with cluster.nodes(*kinds, arguments=("--repl-diskless-sync-delay", "0")) as servers:
        cluster.create(servers, replicas=1)
        await_whole(servers)
        keys = [key_in(first_slot(master), master) for master in masters_of(servers)]
        for number in range(trials):
            with Trial(servers) as trial:
                figures, is_good = VARIANTS[variant](servers, number, keys)
            lost = trial.lost()
            acknowledged = sum(len(writer.acknowledged) for writer in trial.writers)
            failed += not is_good or bool(lost)
            verdict = "" if is_good and not lost else "  FAILED"
            print(f"{variant} {number + 1}: {show(figures)}; keys {acknowledged}, lost {len(lost)}{verdict}", flush=True)
            for name, value in figures.items():
                columns.setdefault(name, []).append(value)
    for name, values in columns.items():
        ordered = sorted(values)
        middle, most = statistics.median(ordered), ordered[-1]
        print(f"{variant}: {name}: least {ordered[0]:.3f}, median {middle:.3f}, most {most:.3f} of {len(ordered)}")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", choices=[*VARIANTS, []], default=["crash"])
    parser.add_argument("--binary", default="target/release/corelane")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--kind", default="corelane-1", choices=["corelane-1", "corelane-3", "redis"])
    options = parser.parse_args()
    os.environ["CORELANE_BIN"] = os.path.abspath(options.binary)
    failed = sum(run(variant, [options.kind] * 6, options.trials) for variant in options.variants)
    sys.exit(f"{failed} trials failed" if failed else 0)


if __name__ == "__main__":
    main()
