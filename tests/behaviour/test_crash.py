"""Killed again and again while clients write: what was acknowledged with appendfsync always is there, and blocks are whole.

With everysec, a kill costs what was written in its last second, at most.
CORELANE_KILLS=n kills n times; CORELANE_SEED=n draws the same moments again."""

import os
import random
import threading
import time

from harness import *
from harness import OK
from harness.resp import ConnectionLost

CLIENTS = 4
# The keys of one block live on several shards.
PAIR = ("left", "right", "middle")
SECONDS_MAX = 0.25


def kills(target):
    wanted = os.environ.get("CORELANE_KILLS")
    if wanted:
        return int(wanted)
    # Redis shows that the test is right; the shards are what it is about.
    return {"redis": 5, "corelane-1": 20}.get(target, 200)


class Writer(threading.Thread):
    """Counts a key of its own up, alone and within blocks, until the connection breaks."""

    def __init__(self, server, number):
        super().__init__(daemon=True)
        self.server, self.number, self.acknowledged, self.sent = server, number, 0, 0
        self.blocks = 0

    def run(self):
        key = f"count{self.number}"
        try:
            with self.server.client(timeout=10) as c:
                while True:
                    self.sent += 1
                    self.acknowledged = c("INCR", key)
                    replies = c.pipeline(("MULTI",), *(("INCR", f"{name}{self.number}") for name in PAIR), ("EXEC",))
                    self.blocks = replies[-1][0]
        except (OSError, ConnectionLost):
            pass


def test_nothing_that_was_acknowledged_is_lost(private_server):
    seed = int(os.environ.get("CORELANE_SEED", time.time_ns()))
    rng = random.Random(seed)
    server = private_server("--appendonly", "yes", "--appendfsync", "always")
    for cycle in range(kills(server.target)):
        writers = [Writer(server, number) for number in range(CLIENTS)]
        for writer in writers:
            writer.start()
        if cycle % 10 == 5:
            with server.client() as c:
                c("BGREWRITEAOF")
        time.sleep(rng.random() * SECONDS_MAX)
        server.kill()
        for writer in writers:
            writer.join(20)
            assert not writer.is_alive()
        server.start()
        with server.client() as c:
            for writer in writers:
                count = int(c("GET", f"count{writer.number}") or 0)
                # Of those in flight one may be there.
                assert writer.acknowledged <= count, f"seed {seed}, cycle {cycle}"
                parts = {int(c("GET", f"{name}{writer.number}") or 0) for name in PAIR}
                assert len(parts) == 1, f"seed {seed}, cycle {cycle}: half a block {parts}"
                assert writer.blocks <= parts.pop(), f"seed {seed}, cycle {cycle}"
    with server.client() as c:
        assert c("SET", "alive", 1) == OK


# Kills with everysec, each after more than the second that may be lost.
PATIENT_KILLS = 5
LOSS_SECONDS_MAX = 1.0


class Diarist(threading.Thread):
    """Pushes numbers to a list, and notes when each was acknowledged."""

    def __init__(self, server, number):
        super().__init__(daemon=True)
        self.server, self.key, self.times = server, f"diary{number}", []

    def run(self):
        try:
            with self.server.client(timeout=10) as c:
                assert isinstance(c("DEL", self.key), int)
                while True:
                    c.pipeline(("MULTI",), ("RPUSH", self.key, len(self.times)), ("INCR", f"{self.key}n"), ("EXEC",))
                    self.times.append(time.monotonic())
        except (OSError, ConnectionLost):
            pass


def test_under_everysec_at_most_the_last_second_is_lost(private_server):
    seed = int(os.environ.get("CORELANE_SEED", time.time_ns()))
    rng = random.Random(seed)
    server = private_server("--appendonly", "yes", "--appendfsync", "everysec")
    for cycle in range(PATIENT_KILLS):
        diarists = [Diarist(server, f"{cycle}.{number}") for number in range(CLIENTS)]
        for diarist in diarists:
            diarist.start()
        # However slow the machine is, each has something that is older than what may be lost.
        eventually(lambda: all(diarist.times for diarist in diarists), 20)
        time.sleep(LOSS_SECONDS_MAX + rng.random() / 2)
        killed_at = time.monotonic()
        server.kill()
        for diarist in diarists:
            diarist.join(20)
        server.start()
        with server.client() as c:
            for diarist in diarists:
                found = [int(number) for number in c("LRANGE", diarist.key, 0, -1)]
                where = f"seed {seed}, cycle {cycle}"
                assert found == list(range(len(found))), f"{where}: a hole"
                assert int(c("GET", f"{diarist.key}n") or 0) == len(found), f"{where}: half a block"
                due = sum(at < killed_at - LOSS_SECONDS_MAX for at in diarist.times)
                assert due > 0
                assert due <= len(found) <= len(diarist.times) + 1, where
