"""What waits of test_expiry.py: places, HyperLogLogs."""

import pytest

from harness import *
from harness import NIL, NIL_ARRAY, OK

EMPTY = []


@pytest.fixture
def expired(server, c):
    """A connection to a server whose keys have expired but are not yet reclaimed."""
    assert c("DEBUG SET-ACTIVE-EXPIRE 0") == OK
    try:
        check(
            c,
            ("SET s 5", OK),
            ("RPUSH l a b", 2),
            ("HSET h f v", 1),
                    ("GEOADD g 13.361389 38.115556 Palermo", 1),
            ("PFADD p a", 1),
        )
        for key in ("s", "l", "h", "g", "p"):
            assert c("PEXPIRE", key, 1) == 1
        eventually(lambda: c("PTTL p") == -2)
        yield c
    finally:
        with server.client() as fresh:
            fresh("DEBUG SET-ACTIVE-EXPIRE 1")


READS = (
    ("GEOPOS g Palermo", [NIL_ARRAY]),
    ("GEODIST g Palermo Palermo", NIL),
    ("PFCOUNT p", 0),
)


@pytest.mark.parametrize("command, expected", READS, ids=[row[0] for row in READS])
def test_a_read_does_not_see_an_expired_key(expired, command, expected):
    check(expired, (command, expected))


WRITES = (
    ("PFADD p a", 1),
    ("PFMERGE t p", OK),
)


@pytest.mark.parametrize("command, expected", WRITES, ids=[row[0] for row in WRITES])
def test_a_write_begins_from_nothing_where_a_key_has_expired(expired, command, expected):
    check(expired, (command, expected))


for _command, _ in READS + WRITES:
    covers(_command.split()[0])
