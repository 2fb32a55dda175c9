"""Keyspace events: which, in which order, and on which channels.

Random commands of every family go to the server under test and to a real redis-server, and a listener on each must
hear the same events in the same order.
"""

import random

import pytest
from test_same_as_redis import TEMPLATES, VOCABULARY, reference  # noqa: F401 (a fixture)

from harness import *
from harness import OK
from harness.grammar import expand
from harness.table import _shown as shown

COMMANDS, MISMATCHES_SHOWN = 400, 10


class Listener:
    """Hears every event of one server."""

    def __init__(self, server):
        self.client = server.client(3)
        assert self.client("PSUBSCRIBE", "__key*__:*") == Push([b"psubscribe", b"__key*__:*", 1])

    def hear(self, count, timeout=5):
        """The next `count` events, or those that come in time."""
        heard = []
        while len(heard) < count:
            try:
                heard.append(tuple(self.client.read(timeout)[2:]))
            except NoReply:
                break
        return heard

    def hear_until_end(self, client):
        """All events of what `client` did so far, where they and what it says now go the same way."""
        client("PUBLISH", "__key@0__:end", "x")
        heard = []
        while (event := tuple(self.client.read()[2:])) != (b"__key@0__:end", b"x"):
            heard.append(event)
        return heard


@pytest.mark.parametrize("flags", ["KEA", "Emn"])
@pytest.mark.parametrize("family", TEMPLATES)
def test_random_commands_make_the_events_of_redis(server, reference, family, flags):
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    mismatches, history = {}, []
    with server.config(notify_keyspace_events=flags), reference.config(notify_keyspace_events=flags):
        with server.client() as ours, reference.client() as theirs:

            def fresh():
                for client in (ours, theirs):
                    assert client.pipeline("SELECT 0", "FLUSHALL") == [OK, OK]
                history.clear()
                return Listener(server), Listener(reference)

            mine, its = fresh()
            for _ in range(COMMANDS):
                command = expand(rng.choice(TEMPLATES[family]), rng, VOCABULARY)
                ours(*command), theirs(*command)
                wanted = its.hear_until_end(theirs)
                heard = mine.hear(len(wanted), timeout=1)
                if heard == wanted and server.target != "corelane-3":
                    # On several shards the end may overtake what another shard tells: there, whatever is
                    # too much shows at the next command that makes events.
                    heard += mine.hear_until_end(ours)
                if heard != wanted:
                    before = [shown(line) for line in history if set(line[1:]) & set(command[1:])][-4:]
                    before = "".join(f"\n        after   {line}" for line in before)
                    mismatches.setdefault(
                        (command[0], *(event for _, event in wanted)),
                        f"{shown(command)}\n        redis   {wanted}\n        got     {heard}{before}",
                    )
                    mine, its = fresh()
                    if len(mismatches) >= MISMATCHES_SHOWN:
                        break
                history.append(command)
    assert not mismatches, f"seed {seed}\n    " + "\n    ".join(mismatches.values())
