"""The harness itself: a client that confuses two kinds of reply would let bugs through."""

import socket
import threading

import pytest

from harness import *  # noqa: F403
from harness import NIL, NIL_ARRAY, NULL, OK, words_of
from harness.expect import agrees


def reply_of(data):
    """What the client makes of these bytes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        peer, _ = listener.accept()
        with peer:
            peer.sendall(data)

    thread = threading.Thread(target=serve)
    thread.start()
    with Client(listener.getsockname()[1]) as client:
        reply = client.read()
    thread.join()
    listener.close()
    return reply


KINDS = [
    (b"+OK\r\n", OK),
    (b"$2\r\nOK\r\n", b"OK"),
    (b"-ERR no\r\n", Error("ERR no")),
    (b"!6\r\nERR no\r\n", Error("ERR no")),
    (b":1\r\n", 1),
    (b"#t\r\n", Boolean(True)),
    (b",1\r\n", Double("1")),
    (b"(1\r\n", BigNumber("1")),
    (b"$1\r\n1\r\n", b"1"),
    (b"$-1\r\n", NIL),
    (b"*-1\r\n", NIL_ARRAY),
    (b"_\r\n", NULL),
    (b"*0\r\n", []),
    (b"~0\r\n", Set()),
    (b">0\r\n", Push()),
    (b"%0\r\n", Map()),
    (b"=5\r\ntxt:1\r\n", Verbatim("1")),
    (b"*2\r\n:1\r\n*1\r\n$-1\r\n", [1, [NIL]]),
    (b"%1\r\n+a\r\n~1\r\n:1\r\n", Map([(Simple("a"), Set([1]))])),
]


@pytest.mark.parametrize("data, expected", KINDS)
def test_a_reply_equals_its_own_kind_only(data, expected):
    reply = reply_of(data)
    assert reply == expected and type(reply) is type(expected)
    for other_data, other in KINDS:
        if (type(other), repr(other)) != (type(expected), repr(expected)):
            assert not (reply == other) and not (other == reply), f"{expected!r} equals {other!r}"


def test_a_lost_connection_is_not_a_reply():
    with pytest.raises(ConnectionLost):
        reply_of(b"$5\r\nabc")


def test_words_are_split_as_redis_cli_does():
    for line, words in [
        ("GET k", [b"GET", b"k"]),
        ('SET k "a b"', [b"SET", b"k", b"a b"]),
        (r'SET k "\x00\n\"\\"', [b"SET", b"k", b'\x00\n"\\']),
        ("SET k '' ", [b"SET", b"k", b""]),
        (("SET", b"\xff", 1, 1.5), [b"SET", b"\xff", b"1", b"1.5"]),
    ]:
        assert words_of(line) == words, line


def test_an_expectation_follows_the_protocol():
    for expected, r2, r3 in [
        (NIL, NIL, NULL),
        (NIL_ARRAY, NIL_ARRAY, NULL),
        (Double("1.5"), b"1.5", Double("1.5")),
        (Set(["a", "b"]), [b"b", b"a"], Set([b"b", b"a"])),
        (Map({"a": 1, "b": 2}), [b"b", 2, b"a", 1], Map([(b"b", 2), (b"a", 1)])),
        (Verbatim("x"), b"x", Verbatim("x")),
        (Push(["x"]), [b"x"], Push([b"x"])),
        (by_protocol(r2=1, r3="1"), 1, b"1"),
        (unordered("a", "b"), [b"b", b"a"], [b"a", b"b"]),
    ]:
        assert agrees(expected, r2, 2), f"{expected!r} in RESP2"
        assert agrees(expected, r3, 3), f"{expected!r} in RESP3"
        if type(r2) is not type(r3) or r2 != r3:
            if not repr(expected).startswith("unordered"):
                assert not agrees(expected, r3, 2), f"{expected!r} takes RESP3's form in RESP2"
                assert not agrees(expected, r2, 3), f"{expected!r} takes RESP2's form in RESP3"


def test_an_integer_is_not_a_boolean_nor_a_bulk():
    for expected, reply in [(1, Boolean(True)), (1, b"1"), ("1", 1), (OK, b"OK"), ("OK", OK), ([], Set())]:
        assert not agrees(expected, reply, 3), f"{expected!r} takes {reply!r}"


test_a_table_runs_its_rows_in_order = table(
    ("SET k v", OK),
    ("GET k", "v"),
    ("DEL k nothing", 1),
    ("GET k", NIL),
)


def test_each_test_begins_with_an_empty_server(server, c):
    assert c("DBSIZE") == 0
    c("SET k v")
    server.reset()
    assert c("DBSIZE") == 0
