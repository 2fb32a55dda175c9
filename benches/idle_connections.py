#!/usr/bin/env python3
"""Resident bytes of a server per idle connection: starts it, connects, looks, stops it.

  benches/idle_connections.py 'target/release/corelane --port 7101' 7101
  benches/idle_connections.py 'redis-server --port 7102 --save "" --maxclients 11000' 7102

The connections have spoken once (PING), so that what a first command leaves behind counts. What the kernel
holds for sockets is not in these figures; it is the same for every server.
"""
import os
import re
import resource
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time

CONNECTIONS = 10_000
PER_SOURCE_ADDRESS = 20_000  # below the number of ports that a client address has


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read()).group(1)) * 1024


def connect(port, number):
    source = f"127.0.0.{1 + number // PER_SOURCE_ADDRESS}"
    return socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))


def ping(connection):
    connection.sendall(b"PING\r\n")
    reply = connection.recv(64)
    assert reply == b"+PONG\r\n", reply


def wait_until_it_answers(port):
    for _ in range(100):
        try:
            with connect(port, 0) as connection:
                return ping(connection)
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise SystemExit("the server does not start")


def main():
    command, port = shlex.split(sys.argv[1]), int(sys.argv[2])
    command[0] = shutil.which(command[0]) or command[0]
    command[0] = os.path.abspath(command[0])  # the server runs in a directory of its own
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as directory:
        server = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL)
        try:
            wait_until_it_answers(port)
            before = resident(server.pid)
            connections = []
            for number in range(CONNECTIONS):
                connections.append(connect(port, number))
                ping(connections[-1])
            time.sleep(1)
            after = resident(server.pid)
        finally:
            server.terminate()
            server.wait()
    print(f"{CONNECTIONS} idle connections: {before / 2**20:.1f} MiB before, {after / 2**20:.1f} MiB after, "
          f"{(after - before) / CONNECTIONS:.0f} bytes each")


if __name__ == "__main__":
    main()
