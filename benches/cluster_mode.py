#!/usr/bin/env python3
"""CPU time per request of a node that has all slots, beside the same server without cluster mode: what looking for
redirections costs.

  benches/cluster_mode.py --binary target/release/corelane

Both have one shard and share a core; redis-benchmark runs on another. The two are measured in turns, and the ratio of
each turn is printed with the median.
"""
import argparse
import os
import statistics
import subprocess
import tempfile
import time

PORTS = {"cluster": 7321, "alone": 7322}


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cli(port, *words):
    return subprocess.run(["redis-cli", "-p", str(port), *words], capture_output=True, text=True, check=False).stdout


def wait_until(port, words, wanted):
    for _ in range(200):
        if wanted in cli(port, *words):
            return
        time.sleep(0.05)
    raise SystemExit(f"{words} is not answered {wanted}")


def start(arguments, name, folder):
    common = ["--save", "", "--shards", "1", "--cpus", "0", "--control-cpu", "0", "--loglevel", "warning", "--dir", folder]
    more = ["--cluster-enabled", "yes"] if name == "cluster" else []
    return subprocess.Popen([arguments.binary, "--port", str(PORTS[name]), *common, *more])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/corelane")
    parser.add_argument("--requests", type=int, default=2_000_000)
    parser.add_argument("--pipeline", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        servers = {name: start(arguments, name, folder) for name in PORTS}
        try:
            for port in PORTS.values():
                wait_until(port, ["PING"], "PONG")
            cli(PORTS["cluster"], "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
            wait_until(PORTS["cluster"], ["CLUSTER", "INFO"], "cluster_state:ok")
            measure(arguments, servers)
        finally:
            for server in servers.values():
                server.kill()
                server.wait()


def measure(arguments, servers):
    def spent(name, test):
        before = cpu_seconds(servers[name].pid)
        load = ["redis-benchmark", "-p", PORTS[name], "-t", test, "-c", 50, "-P", arguments.pipeline, "-r", 1_000_000, "-n", arguments.requests]
        subprocess.run(["taskset", "-c", "1", *map(str, load), "-q"], stdout=subprocess.DEVNULL, check=True)
        return cpu_seconds(servers[name].pid) - before

    for test in ("set", "get"):
        spent("cluster", test), spent("alone", test)  # the tables grow now
        ratios = [spent("cluster", test) / spent("alone", test) for _ in range(arguments.rounds)]
        print(f"{test}: {statistics.median(ratios):.2f}   ({' '.join(f'{ratio:.2f}' for ratio in sorted(ratios))})")


if __name__ == "__main__":
    main()
