"""What waits of test_multishard.py: commands of types to come."""

import random

import pytest

from harness import *
from harness import OK
from harness.together import times, together


KEYS = [f"key:{i}" for i in range(12)]  # over three shards, these lie on all of them


@pytest.fixture
def seed():
    value = random.randrange(1 << 32)
    print("seed", value)
    return value


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
