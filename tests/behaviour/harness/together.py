"""Many connections at once: a thread each, and a gate at which they begin together."""

import random
import threading
import time

JOIN_SECONDS_MAX = 60


def together(server, seed, *workers, protocol=2, seconds=0):
    """Runs worker(client, rng) for all workers at once, each on a connection of its own.

    They may take `seconds` and a minute more. The first failure of any of them is raised here.
    """
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
        thread.join(seconds + JOIN_SECONDS_MAX)
        assert not thread.is_alive(), "a worker hangs"
    if failures:
        raise failures[0]


def times(count, step):
    """A worker that calls step(client, rng) so many times."""

    def worker(client, rng):
        for _ in range(count):
            step(client, rng)

    return worker


def for_seconds(seconds, step):
    """A worker that calls step(client, rng) for so long, and at least once."""

    def worker(client, rng):
        deadline = time.monotonic() + seconds
        step(client, rng)
        while time.monotonic() < deadline:
            step(client, rng)

    return worker
