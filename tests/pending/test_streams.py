"""What waits of test_streams.py: reading that waits."""

import pytest

from harness import *
from harness import OK


@pytest.mark.parametrize("protocol", [2, 3])
def test_consumers_of_a_group_wait_and_share(server, c, connect, protocol):
    c("XGROUP CREATE x g $ MKSTREAM")
    consumers = [connect(protocol) for _ in range(3)]
    for number, consumer in enumerate(consumers, 1):
        consumer.send("XREADGROUP", "GROUP", "g", f"c{number}", "BLOCK", 0, "STREAMS", "x", ">")
        eventually(lambda: server.info("clients")["blocked_clients"] == str(number))
    for number, consumer in enumerate(consumers, 1):
        assert c("XADD", "x", f"1-{number}", "f", number) == f"1-{number}".encode()
        entries = [[f"1-{number}".encode(), [b"f", str(number).encode()]]]
        assert consumer.read() == (Map([(b"x", entries)]) if protocol == 3 else [[b"x", entries]])
    consumers[0].send("XREADGROUP", "GROUP", "g", "c1", "BLOCK", 0, "STREAMS", "x", ">")
    eventually(lambda: server.info("clients")["blocked_clients"] == "1")
    assert c("XGROUP DESTROY x g") == 1
    assert consumers[0].read().startswith("NOGROUP")
    consumers[1].send("XREADGROUP", "GROUP", "g", "c1", "BLOCK", 0, "STREAMS", "x", ">")
    assert consumers[1].read().startswith("NOGROUP")


def test_readers_of_a_stream_all_hear_it(server, c, connect):
    readers = [connect() for _ in range(4)]
    for reader in readers:
        reader.send("XREAD BLOCK 0 STREAMS a x b $ $ $")
    eventually(lambda: server.info("clients")["blocked_clients"] == "4")
    c("XADD x 1-1 f v")
    assert [reader.read() for reader in readers] == [[[b"x", [[b"1-1", [b"f", b"v"]]]]]] * 4


covers("XGROUP|SETID", "XREADGROUP", "XREAD")
