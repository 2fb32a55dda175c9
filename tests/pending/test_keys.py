"""What waits of test_keys.py: streams."""

from harness import *
from harness import OK

test_a_stream_is_a_key_like_others = table(
    ("XADD x 1-1 f v", "1-1"),
    ("TYPE x", Simple("stream")),
    ("OBJECT ENCODING x", "stream"),
    ("RENAME x y", OK),
    ("COPY y z", 1),
    ("XRANGE y - +", [["1-1", ["f", "v"]]]),
    ("XRANGE z - +", [["1-1", ["f", "v"]]]),
    ("DBSIZE", 2),
)
