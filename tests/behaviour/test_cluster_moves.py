"""Slots that move under load: no acknowledged write is lost, and none happens twice."""

import threading

import pytest

from harness import *
from harness.cluster import Router, ask, await_agreement, move_slot, nodes
from harness.resp import OK, ConnectionLost, NoReply
from harness.server import chosen_targets

KINDS = [target for target in chosen_targets() if target != "redis"]
WRITERS, KEYS = 3, 40
SLOT = 7629
"""Of "k"."""


class Writer(threading.Thread):
    """Counts keys of one slot up, wherever they are, until it is told to stop."""

    def __init__(self, servers, number):
        super().__init__(daemon=True)
        self.router = Router(servers)
        self.number, self.ends = number, threading.Event()
        self.counted, self.trouble = dict.fromkeys(range(KEYS), 0), []

    def run(self):
        at = self.number
        with self.router as route:
            while not self.ends.is_set():
                at = (at + 7) % KEYS
                try:
                    reply = route("INCR", f"{{k}}{at}", hops=1000)
                except (AssertionError, ConnectionLost, NoReply) as trouble:
                    self.trouble.append(trouble)
                    return
                if type(reply) is int:
                    self.counted[at] += 1
                else:
                    self.trouble.append(reply)

    def stop(self):
        self.ends.set()
        self.join(20)


@pytest.mark.parametrize("kinds", [(kind, other) for kind in KINDS for other in ("redis", kind)], ids="-".join)
def test_no_increment_is_lost_while_a_slot_moves_to_and_fro(kinds):
    with nodes(*kinds) as servers:
        here, there = servers
        assert ask(here, "CLUSTER", "ADDSLOTSRANGE", 0, 8191) == OK == ask(there, "CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        assert ask(here, "CLUSTER", "MEET", "127.0.0.1", there.port) == OK
        await_agreement(servers)
        writers = [Writer(servers, number) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        for _ in range(3):
            move_slot(here, there, SLOT)
            await_agreement(servers)
            move_slot(there, here, SLOT)
            await_agreement(servers)
        eventually(lambda: any(w.trouble for w in writers) or sum(sum(w.counted.values()) for w in writers) > 500, 60)
        for writer in writers:
            writer.stop()
        assert not any(writer.trouble for writer in writers), [writer.trouble[:3] for writer in writers]
        with Router(servers) as route:
            for key in range(KEYS):
                counted = sum(writer.counted[key] for writer in writers)
                assert int(route("GET", f"{{k}}{key}", hops=50) or 0) == counted, key
