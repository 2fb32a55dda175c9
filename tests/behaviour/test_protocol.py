"""The bytes on the wire: how requests may arrive, and what happens to bytes that are none.

A request may be cut anywhere, come with others in one packet, or be typed by hand. What is not a
request gets Redis's words and costs at most its own connection: a second client is served all the while.
"""

import random
import socket
import threading
import time

import pytest

from harness import *
from harness import NIL, OK

PONG = Simple("PONG")
KILOBYTE, MEGABYTE = 1024, 1024 * 1024


# ---- how requests may arrive -----------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 10, 1000, 20_000])
def test_a_pipeline_is_answered_in_order(c, count):
    replies = c.pipeline(*[("SET", f"k{i % 100}", i) if i % 2 else ("ECHO", i) for i in range(count)])
    assert replies == [OK if i % 2 else str(i).encode() for i in range(count)]


def run_model(command, keys):
    """What Redis would answer, for the few commands of the random pipeline."""
    verb, *words = command
    if verb == "SET":
        keys[words[0]] = words[1].encode()
        return OK
    if verb == "GET":
        return keys.get(words[0], NIL)
    if verb == "APPEND":
        keys[words[0]] = keys.get(words[0], b"") + words[1].encode()
        return len(keys[words[0]])
    if verb == "DEL":
        return sum(keys.pop(word, None) is not None for word in words)
    if verb == "EXISTS":
        return sum(word in keys for word in words)
    if verb == "MGET":
        return [keys.get(word, NIL) for word in words]
    if verb == "MSET":
        keys.update({key: value.encode() for key, value in zip(words[::2], words[1::2])})
        return OK
    if verb == "PING":
        return PONG
    raise AssertionError(verb)


def random_command(rng):
    keys = [f"k{i}" for i in range(8)]
    key = lambda: rng.choice(keys)  # noqa: E731
    value = lambda: "v" * rng.choice([0, 1, 10, 300])  # noqa: E731
    return rng.choice(
        [
            lambda: ("SET", key(), value()),
            lambda: ("GET", key()),
            lambda: ("APPEND", key(), value()),
            lambda: ("DEL", *rng.sample(keys, 3)),
            lambda: ("EXISTS", key(), key()),
            lambda: ("MGET", key(), key(), key(), key()),
            lambda: ("MSET", *[word for name in rng.sample(keys, 3) for word in (name, value())]),
            lambda: ("PING",),
        ]
    )()


def test_a_pipeline_over_many_keys_behaves_as_if_sent_one_by_one(c):
    """Commands of one pipeline may run on several shards at once; nobody may be able to tell."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng, keys = random.Random(seed), {}
    for _ in range(40):
        commands = [random_command(rng) for _ in range(rng.choice([1, 5, 50, 300]))]
        expected = [run_model(command, keys) for command in commands]
        for command, reply, wanted in zip(commands, c.pipeline(*commands), expected):
            assert reply == wanted, command


SMALL_PIPELINE = (
    encode("SET", "k", "a\r\nb") + b"PING\r\n" + encode("GET", "k") + encode("MSET", "a", "", "b", "2") + encode("GET", "nothing")
    + b"\r\n*0\r\n" + encode("MGET", "a", "b", "k") + b'SET q "x y"\n' + encode("DEL", "a", "b", "q")
)  # fmt: skip
SMALL_PIPELINE_REPLIES = [OK, PONG, b"a\r\nb", OK, NIL, [b"", b"2", b"a\r\nb"], OK, 3]


def test_a_pipeline_may_be_cut_at_any_byte(c, connect):
    other = connect()
    for at in range(len(SMALL_PIPELINE) + 1):
        c.raw(SMALL_PIPELINE[:at])
        other("PING")  # by then the server has most likely seen the first half alone
        c.raw(SMALL_PIPELINE[at:])
        replies = [c.read() for _ in SMALL_PIPELINE_REPLIES]
        assert replies == SMALL_PIPELINE_REPLIES, f"cut at byte {at}"


def test_a_pipeline_may_come_one_byte_at_a_time(c):
    for i in range(len(SMALL_PIPELINE)):
        c.raw(SMALL_PIPELINE[i : i + 1])
    assert [c.read() for _ in SMALL_PIPELINE_REPLIES] == SMALL_PIPELINE_REPLIES


def test_a_pipeline_may_be_cut_at_several_random_bytes(c):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    data, expected = SMALL_PIPELINE * 20, SMALL_PIPELINE_REPLIES * 20
    for _ in range(20):
        cuts = sorted(rng.randrange(len(data)) for _ in range(12))
        for start, end in zip([0, *cuts], [*cuts, len(data)]):
            c.raw(data[start:end])
        assert [c.read() for _ in expected] == expected


def test_inline_requests(c):
    for line, reply in [
        (b"PING\r\n", PONG),
        (b"PING\n", PONG),
        (b"  PING  \r\n", PONG),
        (b'SET k "a b\\x41\\n"\r\n', OK),
        (b"GET k\r\n", b"a bA\n"),
        (b"SET k 'it\\'s'\r\n", OK),
        (b"GET\tk\r\n", b"it's"),
        (b'SET k ""\r\n', OK),
        (b"GET k\r\n", b""),
        (b"nope x\r\n", Error("ERR unknown command 'nope', with args beginning with: 'x' ")),
    ]:
        c.raw(line)
        assert c.read() == reply, line


def test_empty_requests_get_no_reply(c):
    c.raw(b"\r\n\n   \r\n*0\r\n*-1\r\n*-10\r\n" + encode("ECHO", "x"))
    assert c.read() == b"x"
    assert c.silent(0.02)


def test_half_closing_after_a_pipeline_still_gets_all_replies(server):
    for count in (1, 100, 2000):
        with server.client() as client:
            client.raw(b"".join(encode("ECHO", i) for i in range(count)))
            client.socket.shutdown(socket.SHUT_WR)
            assert client.rest() == b"".join(b"$%d\r\n%d\r\n" % (len(str(i)), i) for i in range(count))


def test_half_closing_in_the_middle_of_a_request_drops_that_request(server, c):
    with server.client() as client:
        client.raw(encode("SET", "a", "1") + encode("SET", "b", "2")[:-3])
        client.socket.shutdown(socket.SHUT_WR)
        assert client.rest() == b"+OK\r\n"
    assert [c("GET a"), c("GET b")] == [b"1", NIL]


@pytest.mark.parametrize("megabytes", [1, 64])
def test_a_huge_bulk_goes_in_and_comes_out(c, megabytes):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    value = random.Random(seed).randbytes(megabytes * MEGABYTE)
    assert c("SET", "big", value) == OK
    assert c("STRLEN big") == len(value)
    assert c("GET big") == value
    assert c("GETRANGE", "big", -10, -1) == value[-10:]


def test_values_around_every_buffer_size_survive(c):
    for size in (15, 16, 31, 32, 44, 45, 4095, 4096, 16383, 16384, 16385, 32767, 32768, 65535, 65536, 65537, 131072, 1 << 20):
        for length in (size - 30, size - 1, size, size + 1):
            value = random.Random(length).randbytes(max(length, 0))
            replies = c.pipeline(("SET", "k", value), ("GET", "k"), ("ECHO", value), "PING")
            assert replies == [OK, value, value, PONG], f"{length} bytes"


def test_a_request_of_many_arguments(c):
    words = [f"m{i}" for i in range(100_000)]
    assert c("RPUSH", "l", *words) == len(words)
    assert c("LRANGE l 0 -1") == [word.encode() for word in words]
    assert c("EXISTS", *words) == 0
    assert c("MGET", *words) == [NIL] * len(words)


# ---- bytes that are no request ---------------------------------------------------------------


def protocol_error(text):
    return f"-ERR Protocol error: {text}\r\n".encode()


BAD_INPUT = [
    (b"*x\r\n", protocol_error("invalid multibulk length")),
    (b"*\r\n", protocol_error("invalid multibulk length")),
    (b"*1a\r\n", protocol_error("invalid multibulk length")),
    (b"*01\r\n", protocol_error("invalid multibulk length")),
    (b"*1 \r\n", protocol_error("invalid multibulk length")),
    (b"* 1\r\n", protocol_error("invalid multibulk length")),
    (b"*+1\r\n", protocol_error("invalid multibulk length")),
    (b"*2147483648\r\n", protocol_error("invalid multibulk length")),
    (b"*9223372036854775808\r\n", protocol_error("invalid multibulk length")),
    (b"*99999999999999999999999\r\n", protocol_error("invalid multibulk length")),
    (b"*1\r\n:1\r\n", protocol_error("expected '$', got ':'")),
    (b"*1\r\n\r\n", protocol_error("expected '$', got '\r'").replace(b"'\r'", b"' '")),
    (b"*1\r\n+PING\r\n", protocol_error("expected '$', got '+'")),
    (b"*1\r\n*1\r\n", protocol_error("expected '$', got '*'")),
    (b"*1\r\n$x\r\n", protocol_error("invalid bulk length")),
    (b"*1\r\n$\r\n", protocol_error("invalid bulk length")),
    (b"*1\r\n$-1\r\n", protocol_error("invalid bulk length")),
    (b"*1\r\n$04\r\nPING\r\n", protocol_error("invalid bulk length")),
    (b"*1\r\n$536870913\r\n", protocol_error("invalid bulk length")),
    (b"*1\r\n$1073741824\r\n", protocol_error("invalid bulk length")),
    (b"*1\r\n$9223372036854775807\r\n", protocol_error("invalid bulk length")),
    (b"*1\r\n$99999999999999999999\r\n", protocol_error("invalid bulk length")),
    (b'SET k "unbalanced\r\n', protocol_error("unbalanced quotes in request")),
    (b"SET k 'unbalanced\r\n", protocol_error("unbalanced quotes in request")),
    (b'SET k "a"b\r\n', protocol_error("unbalanced quotes in request")),
    (b"*" + b"1" * 70_000, protocol_error("too big mbulk count string")),
    (b"*1\r\n$" + b"1" * 70_000, protocol_error("too big bulk count string")),
    (b"x" * 70_000, protocol_error("too big inline request")),
]


@pytest.mark.parametrize("data, last_words", BAD_INPUT, ids=lambda value: repr(value[:30]))
def test_bad_input_gets_redis_s_words_and_a_closed_connection(server, c, data, last_words):
    for before, replies in [(b"", b""), (encode("SET", "k", "v") + encode("GET", "k"), b"+OK\r\n$1\r\nv\r\n")]:
        with server.client() as bad:
            assert c("PING") == PONG
            try:
                bad.raw(before + data)
            except ConnectionLost:
                pass  # closed before it read everything, which is fine
            assert bad.rest() == replies + last_words
        assert c("PING") == PONG


@pytest.mark.parametrize("line", [b"POST / HTTP/1.1\r\n", b"Host: x\r\n", b"host: evil.example\r\n"])
def test_a_browser_is_cut_off_without_a_word(server, c, line):
    """A web page must not be able to send commands: POST and Host: end the connection at once."""
    with server.client() as bad:
        try:
            bad.raw(line + encode("SET", "k", "v"))
        except ConnectionLost:
            pass
        assert bad.rest() == b""
    assert c("EXISTS k") == 0


def test_after_bad_input_nothing_more_of_the_connection_runs(server, c):
    with server.client() as bad:
        bad.raw(encode("SET", "a", "1") + b"*x\r\n" + encode("SET", "b", "2"))
        assert bad.rest() == b"+OK\r\n" + protocol_error("invalid multibulk length")
    assert [c("GET a"), c("GET b")] == [b"1", NIL]


def test_the_two_bytes_after_a_bulk_are_not_looked_at(c):
    """As in Redis: the length decides, whatever stands where CRLF should."""
    c.raw(b"*2\r\n$4\r\nECHOxx$1\r\nayy" + encode("PING"))
    assert [c.read(), c.read()] == [b"a", PONG]


def test_a_million_deep_nesting_is_refused_at_the_first_level(server, c):
    with server.client() as bad:
        try:
            bad.raw(b"*1\r\n" * 1_000_000)
        except ConnectionLost:
            pass
        assert bad.rest() in (b"", protocol_error("expected '$', got '*'"))  # "" where TCP's reset overtook it
    assert c("PING") == PONG


def test_announcing_much_and_sending_little_costs_little(server, c):
    """512 MB announced on each of 20 connections must not be 10 GB of memory."""
    before = server.resident_bytes()
    idle = [server.client() for _ in range(20)]
    for client in idle:
        client.raw(b"*1000000\r\n$536870912\r\nabc")
    assert c.pipeline(*["PING"] * 100) == [PONG] * 100
    assert server.resident_bytes() - before < 200 * MEGABYTE
    for client in idle:
        client.close()


def test_binary_noise_harms_nobody(server, c):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    pieces = [b"*", b"$", b"\r\n", b"\r", b"\n", b"-1", b"3", b"*3\r\n$3\r\nSET\r\n", b'"', b"\x00", b"\xff\xfe", b"PING", b"999999999"]
    for _ in range(300):
        data = b"".join(rng.choice(pieces) if rng.random() < 0.7 else rng.randbytes(rng.randrange(40)) for _ in range(rng.randrange(1, 60)))
        with server.client() as noisy:
            try:
                noisy.raw(data)
                noisy.socket.shutdown(socket.SHUT_WR)
            except (ConnectionLost, OSError):
                pass
            noisy.rest()
        assert c("PING") == PONG


def test_large_binary_noise_harms_nobody(server, c):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(10):
        with server.client() as noisy:
            try:
                noisy.raw(rng.randbytes(MEGABYTE))
                noisy.socket.shutdown(socket.SHUT_WR)
            except (ConnectionLost, OSError):
                pass
            noisy.rest()
        assert c("PING") == PONG


def test_proto_max_bulk_len_is_the_limit_of_one_argument(server, c):
    with server.config(proto_max_bulk_len=MEGABYTE):
        assert c("SET", "k", "x" * MEGABYTE) == OK
        with server.client() as bad:
            bad.raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048577\r\n")
            assert bad.rest() == protocol_error("invalid bulk length")
    assert c("SET", "k", "x" * (MEGABYTE + 1)) == OK


def test_client_query_buffer_limit_closes_who_sends_too_much_at_once(server, c):
    with server.config(client_query_buffer_limit=MEGABYTE):
        with server.client() as greedy:
            try:
                greedy.raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8388608\r\n" + b"x" * 8 * MEGABYTE)
            except ConnectionLost:
                pass
            assert greedy.rest() == b""
    assert c("EXISTS k") == 0


# ---- readers that are slower than the server -------------------------------------------------


def test_a_slow_reader_over_the_output_limit_is_disconnected(server, c):
    c("SET", "big", "x" * 100_000)
    with server.config(client_output_buffer_limit="normal 1000000 0 0"):
        before = server.resident_bytes()
        with server.client() as slow:
            slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KILOBYTE)
            slow.socket.settimeout(2)
            try:
                slow.raw(encode("GET", "big") * 2000)  # 200 MB of replies
            except (ConnectionLost, NoReply):
                pass
            eventually(lambda: c("CLIENT LIST").count(b"\n") <= 2)
            assert c("GET big") == b"x" * 100_000
            assert server.resident_bytes() - before < 100 * MEGABYTE
            slow.socket.settimeout(10)
            assert len(slow.rest()) < 200_000_000


def test_a_soft_output_limit_counts_seconds(server, c):
    c("SET", "big", "x" * 100_000)
    with server.config(client_output_buffer_limit="normal 0 1000000 1"):
        with server.client() as slow:
            slow.raw(encode("GET", "big") * 100)  # 10 MB, of which the sockets take less than 9
            eventually(lambda: c("CLIENT LIST").count(b"\n") <= 2)
    assert c("PING") == PONG


def test_a_patient_slow_reader_gets_every_reply_in_order(server, c):
    """Without a limit nobody is disconnected; Corelane stops reading from who does not read."""
    value = b"x" * 100_000
    c("SET", "big", value)
    before = server.resident_bytes()
    with server.client(timeout=30) as slow:
        count = 1500  # 150 MB of replies
        feeder = threading.Thread(target=lambda: slow.raw(b"".join(encode("GET", "big") + encode("ECHO", i) for i in range(count))))
        feeder.start()
        grown, until = 0, time.monotonic() + 0.4
        while time.monotonic() < until:  # time enough to answer all of it, were there no back-pressure
            assert c("PING") == PONG
            grown = max(grown, server.resident_bytes() - before)
        for i in range(count):
            assert slow.read() == value
            assert slow.read() == str(i).encode()
        feeder.join()
    if not server.is_redis:
        assert grown < 64 * MEGABYTE, f"{grown} bytes held for one reader"


def test_all_requests_may_be_written_before_the_first_reply_is_read(server, c):
    """Redis reads whatever comes; so nobody may wait for a client to read that still writes."""
    value = b"x" * 1000
    names = [f"{'name' * 25}:{i}" for i in range(50)]
    c.pipeline(*(("SET", name, value) for name in names))
    rounds = 1000
    with server.client(timeout=60) as eager:
        eager.raw(b"".join(encode("GET", name) for name in names) * rounds)  # 6.7 MB, more than the sockets hold
        for _ in range(rounds * len(names)):
            assert eager.read() == value


def test_what_stands_behind_unread_replies_takes_effect(server, c):
    c("SET", "big", "x" * MEGABYTE)
    with server.client() as lazy:
        lazy.raw(encode("GET", "big") * 30 + encode("SET", "flag", "up"))
        eventually(lambda: c("GET flag") == b"up")


def test_long_replies_stay_in_order_with_the_writes_between_them(server, connect):
    """With several shards, the owner of a key stops when its replies get long, and goes on later."""
    alone = [f"long:{i}" for i in range(6)]
    together = ["{one}a", "{one}b"]  # on one shard, so that commands with both keys go there whole
    values = {name: bytearray(b"." * 300_000) for name in alone + together}
    c = connect(timeout=60)
    assert c.pipeline(*(("SET", name, bytes(value)) for name, value in values.items())) == [OK] * 8
    commands, expected = [], []
    for step in range(120):
        name = (alone + together)[step * 5 % 8]
        commands += [("GET", name), ("SETRANGE", name, step * 7, "#"), ("STRLEN", name)]
        expected += [bytes(values[name]), 300_000, 300_000]
        values[name][step * 7] = ord("#")
        if step % 10 == 0:
            commands.append(("MGET", *together))
            expected.append([bytes(values[key]) for key in together])
        if step % 30 == 0:
            commands += [("MULTI",), ("GET", "{one}a"), ("EXEC",)]
            expected += [OK, Simple("QUEUED"), [bytes(values["{one}a"])]]
    for number, (reply, wanted) in enumerate(zip(c.pipeline(*commands), expected)):
        assert reply == wanted, f"reply {number}, to {commands[number][:2]}"


def test_one_who_never_reads_does_not_slow_the_others(server, connect):
    lazy = connect()
    lazy("SET", "big", "x" * 1_000_000)
    lazy.raw(encode("GET", "big") * 20)
    others = [connect() for _ in range(8)]
    for _ in range(100):
        for other in others:
            other.send("PING")
        assert [other.read() for other in others] == [PONG] * 8


covers("CLIENT LIST")
