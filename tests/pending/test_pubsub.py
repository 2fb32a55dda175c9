"""What waits of test_pubsub.py: events of streams."""

from harness import *


def test_streams_tell_what_happened(server, c, connect):
    with server.config(notify_keyspace_events="Et"):
        listener = connect(3)
        listener("PSUBSCRIBE __key*__:*")
        c("XADD x 1-1 f v")
        assert listener.read()[2:] == [b"__keyevent@0__:xadd", b"x"]


covers("XADD")
