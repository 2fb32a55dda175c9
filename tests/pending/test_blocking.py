"""What waits of test_blocking.py: places."""

import pytest

from harness import *


def blocked(server, count):
    """Waits until so many clients are blocked."""
    eventually(lambda: server.info("clients")["blocked_clients"] == str(count))


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    "wait, push, reply",
    [
        ("BZPOPMIN z 5", "GEOADD z 0 0 x", [b"z", b"x", "3377699720527872"]),
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
    assert waiter.read() == expected
    blocked(server, 0)


covers("GEOADD")
