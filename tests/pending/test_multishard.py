"""What waits of test_multishard.py: commands of types to come."""

import random
import threading

import pytest

from harness import *
from harness import OK


KEYS = [f"key:{i}" for i in range(12)]  # over three shards, these lie on all of them


@pytest.fixture
def seed():
    value = random.randrange(1 << 32)
    print("seed", value)
    return value


def together(server, seed, *workers, protocol=2):
    """Runs worker(client, rng) for all workers at once, each on a connection of its own."""
    failures, gate = [], threading.Barrier(len(workers))

    def run(number, worker):
        try:
            with server.client(protocol, timeout=30) as client:
                gate.wait(10)
                worker(client, random.Random(seed + number))
        except BaseException as failure:  # handed to the test's own thread
            failures.append(failure)

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in enumerate(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a worker hangs"
    if failures:
        raise failures[0]


def times(count, step):
    """A worker that calls step(client, rng) so many times."""

    def worker(client, rng):
        for _ in range(count):
            step(client, rng)

    return worker


def test_other_commands_over_two_shards(c):
    """Those that read one key and write another, for many pairs, so that all pairs of shards occur."""
    for i in range(20):
        a, b = f"a{i}", f"b{i * 7}"
        check(
            c,
            (("PFADD", a, "x", "y"), 1),
            (("PFMERGE", b, a), OK),
            (("PFCOUNT", a, b), 2),
            (("DEL", a, b), 2),
            (("GEOADD", a, 13.361389, 38.115556, "Palermo"), 1),
            (("GEOSEARCHSTORE", b, a, "FROMMEMBER", "Palermo", "BYRADIUS", 1, "km"), 1),
            (("DEL", a, b), 2),
            (("XADD", a, "1-1", "f", "v"), "1-1"),
            (("XADD", b, "2-2", "f", "v"), "2-2"),
            (("XREAD", "STREAMS", a, b, "0", "0"), [[a, [["1-1", ["f", "v"]]]], [b, [["2-2", ["f", "v"]]]]]),
            (("DEL", a, b), 2),
        )


covers("PFMERGE", "PFCOUNT", "GEOSEARCHSTORE", "XREAD")
