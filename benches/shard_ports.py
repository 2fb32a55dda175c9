#!/usr/bin/env python3
"""CPU time of a server per request, with clients at the main port and at the ports of its shards.

  benches/shard_ports.py --binary target/release/corelane --loadgen target/release/corelane-loadgen --shards 2

One node has all slots; for each shard there is a load generator whose keys are that shard's. At the main port the
connections are dealt evenly, so that of N shards N - 1 are the wrong ones; at the ports of shards each is at home, as
stock cluster clients are with `shard-ports yes`. The two are measured in turns, and the medians printed.
"""
import argparse
import itertools
import json
import os
import socket
import statistics
import subprocess
import tempfile
import time

PORT, SHARD_PORT_BASE = 7171, 7181
SLOT_COUNT = 16384


def crc16(data):
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
    return crc & 0xFFFF


def tag_of(shard, shards):
    """A hash tag whose slot this shard has."""
    tags = (str(n) for n in itertools.count())
    # As in src/shard_map.rs.
    block = 1 << (SLOT_COUNT // shards // 64).bit_length() - 1
    return next(tag for tag in tags if crc16(tag.encode()) % SLOT_COUNT // block % shards == shard)


def say(line):
    with socket.create_connection(("127.0.0.1", PORT), timeout=10) as connection:
        connection.sendall(line.encode() + b"\r\n")
        return connection.recv(4096)


def wait_until(line, reply):
    for _ in range(200):
        try:
            if reply in say(line):
                return
        except ConnectionRefusedError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"{line} is not answered {reply}")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(arguments, at_home, preload=False):
    """One load generator for each shard at a time; how many requests were answered."""
    running = []
    for shard in range(arguments.shards):
        port = SHARD_PORT_BASE + shard if at_home else PORT
        command = [
            arguments.loadgen, "--port", port, "--connections", arguments.connections // arguments.shards, "--pipeline", arguments.pipeline,
            "--key-prefix", f"{{{tag_of(shard, arguments.shards)}}}", "--keys", 100_000, "--command", "GET __key__",
            "--duration", 0.1 if preload else arguments.seconds, "--quiet", "--json", "-", *(["--preload"] if preload else []),
        ]  # fmt: skip
        running.append(subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True))
    results = [process.communicate()[0] for process in running]
    found = [json.loads(text[text.index("{") :]) for text in results]
    assert not any(one["errors"] for one in found), found
    return sum(one["requests"] for one in found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/corelane")
    parser.add_argument("--loadgen", default="target/release/corelane-loadgen")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--connections", type=int, default=48)
    parser.add_argument("--pipeline", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        server = subprocess.Popen(
            [os.path.abspath(arguments.binary), "--port", str(PORT), "--shards", str(arguments.shards), "--no-pin", "--cluster-enabled", "yes",
             "--shard-ports", "yes", "--shard-port-base", str(SHARD_PORT_BASE), "--save", ""],
            cwd=directory, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until("PING", b"PONG")
            say(f"CLUSTER ADDSLOTSRANGE 0 {SLOT_COUNT - 1}")
            wait_until("CLUSTER INFO", b"cluster_state:ok")
            load(arguments, at_home=True, preload=True)
            costs = {False: [], True: []}
            for _, at_home in itertools.product(range(arguments.rounds), costs):
                before = cpu_seconds(server.pid)
                requests = load(arguments, at_home)
                costs[at_home].append((cpu_seconds(server.pid) - before) / requests * 1e6)
        finally:
            server.kill()
            server.wait()
    main_port, shard_ports = (statistics.median(costs[at_home]) for at_home in (False, True))
    print(f"{arguments.shards} shards: {main_port:.2f} us of CPU per GET at the main port, {shard_ports:.2f} at the ports of shards", costs)
    print(f"ratio {shard_ports / main_port:.2f}")


if __name__ == "__main__":
    main()
