"""What waits of test_blocking.py: streams, places, scripts."""

import pytest

from harness import *
from harness import NIL, NIL_ARRAY, OK


def blocked(server, count):
    """Waits until so many clients are blocked."""
    eventually(lambda: server.info("clients")["blocked_clients"] == str(count))


test_blocking_reads_of_streams_that_end = table(
    ("XREAD BLOCK 10 STREAMS x $", NIL_ARRAY),
    ("XREAD BLOCK -1 STREAMS x $", Error("ERR timeout is negative")),
    ("XREAD BLOCK x STREAMS x $", Error("ERR timeout is not an integer or out of range")),
)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    "wait, push, reply",
    [
        ("BZPOPMIN z 5", "GEOADD z 0 0 x", [b"z", b"x", "3377699720527872"]),
        ("XREAD BLOCK 5000 STREAMS x 0", "XADD x 1-1 f v", [[b"x", [[b"1-1", [b"f", b"v"]]]]]),
        ("XREAD BLOCK 5000 STREAMS x $", "XADD x 1-1 f v", [[b"x", [[b"1-1", [b"f", b"v"]]]]]),
    ],
)
def test_a_waiting_client_is_woken_by_what_it_waits_for(server, c, connect, wait, push, reply, protocol):
    c("ZADD zother 1 m")
    waiter = connect(protocol)
    waiter.send(wait)
    blocked(server, 1)
    assert not isinstance(c(push), Error)

    def with_doubles(value):
        if isinstance(value, list):
            return [with_doubles(each) for each in value]
        return (value.encode() if protocol == 2 else Double(value)) if isinstance(value, str) else value

    expected = with_doubles(reply)
    if wait.startswith("XREAD") and protocol == 3:
        expected = Map(expected)
    assert waiter.read() == expected
    blocked(server, 0)


covers("GEOADD", "XREAD", "XADD")


def test_within_multi_or_a_script_nothing_waits(c):
    assert c.pipeline("MULTI", "XREAD BLOCK 0 STREAMS x $", "EXEC")[-1] == [NIL_ARRAY]
    assert c("EVAL", "return redis.pcall('BLPOP', 'l', 0)", 0) == Error("ERR This Redis command is not allowed from script")
