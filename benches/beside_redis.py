#!/usr/bin/env python3
"""CPU time per request of the features that redis-benchmark does not cover, beside redis-server.

    benches/beside_redis.py target/release/corelane [WORKLOAD ...] [--rounds N] [--scale 0.1]

Both servers run at once on CPU 0 and take turns (A B A B …), so that a drift of the machine hits both; this program
has CPU 1. Printed are µs of CPU per request (user and system, all threads) and the median of the ratios, pair by pair.
Requests go out over 50 connections, 16 at a time on each, unless the workload says otherwise.

The storm and the fan-out run on three shards and check what they see: each client that waits is served once and in
order, and each subscriber hears everything in order.
"""

import argparse
import os
import re
import resource
import select
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TICK = os.sysconf("SC_CLK_TCK")
PIPELINE, CONNECTIONS = 16, 50
REDIS = "redis-server --save '' --port {port} --maxclients 20000 --tcp-backlog 4096"
ONE_SHARD = "{binary} --save '' --port {port} --shards 1 --cpus 0 --control-cpu 0"
THREE_SHARDS = "{binary} --save '' --port {port} --shards 3 --no-pin --maxclients 20000 --tcp-backlog 4096"
INCR = b"return redis.call('INCR', KEYS[1])"


def encode(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Connection:
    """A socket that counts lines instead of parsing: it is the server that is measured."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data):
        self.socket.sendall(data)

    def read_lines(self, count):
        data = b""
        while count > 0:
            part = self.socket.recv(1 << 18)
            if not part:
                sys.exit("a server closed a connection")
            count -= part.count(b"\n")
            data += part
        assert count == 0, f"more lines than expected: {data[-200:]!r}"
        return data

    def ask(self, *words, lines=1):
        self.send(encode(*words))
        return self.read_lines(lines)


class Server:
    def __init__(self, command, port):
        self.port, self.directory = port, tempfile.TemporaryDirectory()
        args = ["taskset", "-c", "0", *shlex.split(command)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(args, cwd=self.directory.name, **quiet)
        for _ in range(100):
            try:
                Connection(port).ask("PING")
                return
            except OSError:
                time.sleep(0.1)
        sys.exit(f"no answer from {command}")

    def cpu_seconds(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def info(self, name):
        connection = Connection(self.port)
        connection.send(encode("INFO", "clients"))
        text = b""
        while not re.search(rb"%s:(\d+)\r\n" % name.encode(), text):
            text += connection.socket.recv(1 << 16)
        return int(re.search(rb"%s:(\d+)\r\n" % name.encode(), text)[1])

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.directory.cleanup()


# ---- pipelines: one(connection, turn) gives a request, and the lines of its reply ----------------------


def pipelined(server, one, requests):
    """CPU µs per request."""
    connections = [Connection(server.port) for _ in range(CONNECTIONS)]
    turns, lines = max(requests // (CONNECTIONS * PIPELINE), 1), PIPELINE * one(0, 0)[1]
    # All is encoded beforehand, so that the server has always something to do.
    chunk = lambda number, turn: b"".join(one(number, turn * PIPELINE + at)[0] for at in range(PIPELINE))
    chunks = [[chunk(number, turn) for number in range(CONNECTIONS)] for turn in range(turns)]
    before = server.cpu_seconds()
    for connection, data in zip(connections, chunks[0]):
        connection.send(data)
    for turn in range(turns):
        for number, connection in enumerate(connections):
            connection.read_lines(lines)
            if turn + 1 < turns:
                connection.send(chunks[turn + 1][number])
    return (server.cpu_seconds() - before) * 1e6 / (turns * CONNECTIONS * PIPELINE)


def eval_incr(number, turn):
    return encode("EVAL", INCR, 1, f"counter:{(number * 7919 + turn) % 1000}"), 1


def multi_incr(number, turn):
    block = b"".join(encode("INCR", f"counter:{(number * 7919 + turn * 10 + at) % 1000}") for at in range(10))
    return encode("MULTI") + block + encode("EXEC"), 22


def xadd(number, turn):
    return encode("XADD", f"stream:{number}", "*", "field", "value"), 2


def xread_xack(number, turn):
    read = encode("XREADGROUP", "GROUP", "g", "me", "COUNT", 1, "STREAMS", f"filled:{number}", ">")
    return read + encode("XACK", f"filled:{number}", "g", f"1-{turn + 1}"), 14


def fill_streams(server, requests):
    connection = Connection(server.port)
    for number in range(CONNECTIONS):
        key = f"filled:{number}"
        connection.ask("DEL", key)
        connection.ask("XGROUP", "CREATE", key, "g", 0, "MKSTREAM")
        for first in range(0, requests // CONNECTIONS + PIPELINE, 500):
            connection.send(b"".join(encode("XADD", key, f"1-{first + at + 1}", "field", "value") for at in range(500)))
            connection.read_lines(1000)


# ---- one publisher, a thousand subscribers ------------------------------------------------------------


def fan_out(server, messages, pipeline, subscribers=1000):
    listeners = [Connection(server.port) for _ in range(subscribers)]
    for listener in listeners:
        listener.ask("SUBSCRIBE", "news", lines=6)
    publisher, heard, texts = Connection(server.port), [0] * subscribers, [b""] * subscribers
    waiting = select.epoll()
    by_number = {listener.socket.fileno(): at for at, listener in enumerate(listeners)}
    for number in by_number:
        waiting.register(number, select.EPOLLIN)
    before, sent = server.cpu_seconds(), 0
    while sent < messages:
        publisher.send(b"".join(encode("PUBLISH", "news", b"%09d" % (sent + at)) for at in range(pipeline)))
        publisher.read_lines(pipeline)
        sent += pipeline
        left = subscribers * sent - sum(heard)
        while left > 0:
            for number, _ in waiting.poll(10):
                at = by_number[number]
                texts[at] += listeners[at].socket.recv(1 << 18)
                count = texts[at].count(b"\n") // 7
                left -= count - (heard[at] - sent + pipeline)
                heard[at] = sent - pipeline + count
        for at, text in enumerate(texts):
            numbers = [int(number) for number in re.findall(rb"\n(\d{9})\r", text)]
            assert numbers == list(range(sent - pipeline, sent)), f"subscriber {at} heard {numbers}"
            texts[at] = b""
    return (server.cpu_seconds() - before) * 1e6 / (sent * subscribers)


# ---- ten thousand clients wait -----------------------------------------------------------------------


def storm(server, clients, keys=1000):
    """CPU µs per client, from its BLPOP to its element."""
    waves = max(clients // keys, 1)
    producer = Connection(server.port)
    queues = [[Connection(server.port) for _ in range(waves)] for _ in range(keys)]
    before = server.cpu_seconds()
    for wave in range(waves):
        for key, queue in enumerate(queues):
            # Every third waits for two keys, on two shards mostly; nobody ever pushes to the second.
            further = [f"nothing:{key}"] if (key + wave) % 3 == 0 else []
            queue[wave].send(encode("BLPOP", f"storm:{key}", *further, 0))
        while server.info("blocked_clients") < (wave + 1) * keys:
            time.sleep(0.005)
    for wave in range(waves):
        producer.send(b"".join(encode("RPUSH", f"storm:{key}", f"element {wave}") for key in range(keys)))
        producer.read_lines(keys)
    for key, queue in enumerate(queues):
        for wave, client in enumerate(queue):
            reply = client.read_lines(5)
            assert reply == encode(f"storm:{key}", f"element {wave}"), f"client {wave} of key {key}: {reply!r}"
    spent = server.cpu_seconds() - before
    assert server.info("blocked_clients") == 0
    for queue in queues:
        for client in queue:
            client.socket.setblocking(False)
            try:
                raise AssertionError(f"served twice: {client.socket.recv(100)!r}")
            except BlockingIOError:
                client.socket.close()
    return spent * 1e6 / (waves * keys)


def streams(server, requests):
    fill_streams(server, requests)
    return pipelined(server, xread_xack, requests)


WORKLOADS = {
    # name: (Corelane, requests, what is run, the ratio that is promised)
    "eval_incr": (ONE_SHARD, 400_000, lambda server, count: pipelined(server, eval_incr, count), 0.7),
    "multi_10_incr": (ONE_SHARD, 120_000, lambda server, count: pipelined(server, multi_incr, count), 0.5),
    "xadd": (ONE_SHARD, 800_000, lambda server, count: pipelined(server, xadd, count), 0.6),
    "xreadgroup_xack": (ONE_SHARD, 200_000, streams, 0.7),
    "fan_out_p1": (THREE_SHARDS, 600, lambda server, count: fan_out(server, count, 1), 0.7),
    "fan_out_p16": (THREE_SHARDS, 3200, lambda server, count: fan_out(server, count, 16), 0.7),
    "storm": (THREE_SHARDS, 10_000, storm, 1.0),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("workloads", nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--port", type=int, default=27100)
    options = parser.parse_args()
    os.sched_setaffinity(0, {1})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    print(f"{'workload':16} {'corelane':>9} {'redis':>9} {'ratio':>6} {'at most':>8}   µs of CPU per request", flush=True)
    for name in options.workloads or WORKLOADS:
        command, requests, run, promised = WORKLOADS[name]
        count = int(requests * options.scale)
        ours = Server(command.format(binary=os.path.abspath(options.binary), port=options.port), options.port)
        theirs = Server(REDIS.format(port=options.port + 1), options.port + 1)
        try:
            rounds = [(run(ours, count), run(theirs, count)) for _ in range(options.rounds)]
        finally:
            ours.stop(), theirs.stop()
        mine, its = (statistics.median(pair[side] for pair in rounds) for side in (0, 1))
        ratio = statistics.median(a / b for a, b in rounds)
        print(f"{name:16} {mine:9.3f} {its:9.3f} {ratio:6.2f} {promised:8.1f}", flush=True)


if __name__ == "__main__":
    main()
