"""What waits of test_pubsub.py: publishing in scripts, events of streams."""

from harness import *


def test_publish_within_a_script(c, connect):
    sub = connect(3)
    sub("SUBSCRIBE ch")
    assert c("EVAL", "return redis.call('PUBLISH', 'ch', 'two')", 0) == 1
    assert sub.read()[2] == b"two"


def test_streams_tell_what_happened(server, c, connect):
    with server.config(notify_keyspace_events="Et"):
        listener = connect(3)
        listener("PSUBSCRIBE __key*__:*")
        c("XADD x 1-1 f v")
        assert listener.read()[2:] == [b"__keyevent@0__:xadd", b"x"]


covers("EVAL", "XADD")
