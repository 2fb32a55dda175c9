"""MIGRATE: keys go to another server, a real Redis, and are gone here when that has them."""

import socket
import threading

import pytest

from harness import *
from harness import NIL, OK, Server
from harness.resp import NoReply

NOKEY = Simple("NOKEY")
WRITING = Error("IOERR error or timeout writing to target instance")
READING = Error("IOERR error or timeout reading to target instance")
CONNECTING = Error("IOERR error or timeout connecting to the client")
NO_SUCH_PASSWORD = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"


@pytest.fixture(scope="module")
def there():
    """The server that keys go to, a real Redis."""
    running = Server("redis").start()
    yield running
    running.stop()


@pytest.fixture
def target_client(there):
    there.reset()
    with there.client() as client:
        yield client


def replied(text):
    return Error(f"ERR Target instance replied with error: {text}")


@covers("MIGRATE")
def test_keys_go_and_are_gone_here(c, target_client, there):
    c.pipeline("SET a 1", "RPUSH b x y z", "HSET c f v g w", "SADD d 1 2 3", ("ZADD", "e", 1.5, "m"), "XADD f 5-1 g h", "SET far 1 PX 100000")
    for key in "abcdef":
        assert c("MIGRATE", "127.0.0.1", there.port, key, 0, 10_000) == OK, key
        assert c("EXISTS", key) == 0
    assert c("MIGRATE", "127.0.0.1", there.port, "far", 3, 10_000) == OK
    assert target_client.pipeline("GET a", "LRANGE b 0 -1", "HGET c g", "SMEMBERS d", "ZSCORE e m", "XLEN f") == [
        b"1", [b"x", b"y", b"z"], b"w", [b"1", b"2", b"3"], b"1.5", 1,
    ]  # fmt: skip
    target_client("SELECT", 3)
    assert 90000 < target_client("PTTL", "far") <= 100000
    assert c("DBSIZE") == 0


def test_many_keys_go_in_one_command(c, target_client, there):
    to = ["MIGRATE", "127.0.0.1", there.port, "", 0, 10_000]
    c("MSET", *[word for i in range(300) for word in (f"k{i}", i)])
    assert c(*to, "KEYS", *[f"k{i}" for i in range(0, 300, 2)], "nothing") == OK
    assert c("DBSIZE") == 150 == target_client("DBSIZE")
    assert c("MGET", "k0", "k1", "k2") == [NIL, b"1", NIL]
    assert target_client("MGET", "k0", "k1", "k298") == [b"0", NIL, b"298"]
    assert c(*to, "KEYS", "k0", "nothing") == NOKEY
    assert c(*to, "KEYS") == NOKEY
    assert c("MIGRATE", "127.0.0.1", there.port, "nothing", 0, 10_000) == NOKEY


def test_what_is_there_stays_unless_it_may_be_replaced(c, target_client, there):
    to = ["MIGRATE", "127.0.0.1", there.port, "", 0, 10_000]
    c.pipeline("MSET a new b new c new")
    target_client("SET", "b", "old")
    assert c(*to, "KEYS", "a", "b", "c") == replied("BUSYKEY Target key name already exists.")
    assert c("MGET", "a", "b", "c") == [NIL, b"new", NIL]
    assert target_client("MGET", "a", "b", "c") == [b"new", b"old", b"new"]
    assert c(*to, "COPY", "REPLACE", "KEYS", "b") == OK
    assert c("GET", "b") == b"new" == target_client("GET", "b")
    assert c(*to, "copy", "KEYS", "b") == replied("BUSYKEY Target key name already exists.")


def test_scripts_move_keys(c, target_client, there):
    move = """
        redis.call('SET', 'count', 0)
        local answers = {}
        for at = 2, #ARGV do
            local moved = redis.pcall('MIGRATE', '127.0.0.1', ARGV[1], ARGV[at], 0, 10000)
            answers[#answers + 1] = moved.ok or moved.err
            answers[#answers + 1] = redis.call('EXISTS', ARGV[at])
            redis.call('INCR', 'count')
        end
        return answers
    """
    c.pipeline("MSET a 1 b 2 c 3 d 4")
    target_client("SET", "b", "old")
    busy = b"ERR Target instance replied with error: BUSYKEY Target key name already exists."
    assert c("EVAL", move, 0, there.port, "a", "nothing", "b", "c") == [b"OK", 0, b"NOKEY", 0, busy, 1, b"OK", 0]
    assert c("MGET", "a", "b", "c", "d", "count") == [NIL, b"2", NIL, b"4", b"4"]
    assert target_client("MGET", "a", "b", "c") == [b"1", b"old", b"3"]
    replies = c.pipeline("MULTI", "SET e 5", ("EVAL", move, 0, there.port, "d", "e"), "DBSIZE", "EXEC")
    assert replies[-1] == [OK, [b"OK", 0, b"OK", 0], 2]
    assert target_client("MGET", "d", "e") == [b"4", b"5"]
    every = "return redis.call('MIGRATE', '127.0.0.1', ARGV[1], '', 0, 10000, 'KEYS', unpack(KEYS))"
    keys = [f"k{n}" for n in range(50)]
    c("MSET", *[word for key in keys for word in (key, "v")])
    assert c("EVAL", every, len(keys), *keys, there.port) == OK
    assert (c("DBSIZE"), target_client("EXISTS", *keys)) == (2, 50)
    refused = c("EVAL_RO", every, 1, "b", there.port)
    assert refused.startswith("ERR Write commands are not allowed from read-only scripts."), refused


def test_nobody_comes_between_a_script_and_the_keys_that_it_moves(c, server):
    """The other server takes its time; what the script has written is seen by nobody until the script is over."""
    listener = socket.create_server(("127.0.0.1", 0))
    script = """
        redis.call('SET', 'other', 'half')
        local moved = redis.pcall('MIGRATE', '127.0.0.1', ARGV[1], 'k', 0, 60000)
        redis.call('SET', 'other', 'whole')
        return moved
    """
    c.pipeline("SET k v", "SET other old")
    with server.client() as mover, server.client() as reader:
        mover.send("EVAL", script, 0, listener.getsockname()[1])
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(65536)
            reader.send("MGET", "other", "k")
            with pytest.raises(NoReply):
                reader.read(timeout=0.2)
            connection.sendall(b"+OK\r\n+OK\r\n")
            assert mover.read() == OK
        assert reader.read() == [b"whole", NIL]
    listener.close()


def test_words_that_make_no_sense_are_refused(c, there):
    to = ["MIGRATE", "127.0.0.1", there.port]
    c("SET", "k", "v")
    for words, expected in [
        ([], wrong_arity("migrate")),
        (["k", 0, "x"], NOT_AN_INTEGER),
        (["k", "x", 10], NOT_AN_INTEGER),
        (["k", 0, 10, "WHAT"], SYNTAX_ERROR),
        (["k", 0, 10, "AUTH"], SYNTAX_ERROR),
        (["k", 0, 10, "AUTH2", "u"], SYNTAX_ERROR),
        (["k", 0, 10, "KEYS", "k"], Error("ERR When using MIGRATE KEYS option, the key argument must be set to the empty string")),
        (["k", 99, 10_000], replied("ERR DB index is out of range")),
        (["k", 0, 10_000, "AUTH", "secret"], replied(NO_SUCH_PASSWORD)),
    ]:
        assert c(*to, *words) == expected, words
        assert c("GET", "k") == b"v"
    assert c("MIGRATE", "127.0.0.1", 1, "k", 0, 10_000) == WRITING
    assert c("MIGRATE", "no.such.host.invalid", 1, "k", 0, 10_000) == CONNECTING


def test_it_logs_in_where_that_has_to_be(c):
    guarded = Server("redis", "--requirepass", "secret")
    guarded.password = "secret"
    guarded.start()
    try:
        to = ["MIGRATE", "127.0.0.1", guarded.port, "", 0, 10_000]
        c("MSET", "a", 1, "b", 2, "c", 3)
        assert c(*to, "KEYS", "a") == replied("NOAUTH Authentication required.")
        assert c(*to, "AUTH", "wrong", "KEYS", "a") == replied("WRONGPASS invalid username-password pair or user is disabled.")
        assert c(*to, "AUTH", "secret", "KEYS", "a") == OK
        assert c(*to, "AUTH2", "default", "secret", "KEYS", "b", "c") == OK
        assert c("DBSIZE") == 0
        with guarded.client() as client:
            assert client("MGET", "a", "b", "c") == [b"1", b"2", b"3"]
    finally:
        guarded.stop()


class Stub:
    """A server that hears everything and answers what it is told to."""

    def __init__(self, *answers):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.heard, self.answers = b"", list(answers)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        for answer in self.answers:
            connection, _ = self.listener.accept()
            with connection:
                self.heard += connection.recv(65536)
                connection.sendall(answer)
                if answer:
                    connection.settimeout(5)
                    try:
                        self.heard += connection.recv(65536)
                    except TimeoutError:
                        pass


def test_a_target_that_goes_away_or_says_nothing_leaves_the_keys_here(c):
    silent = Stub(b"+OK\r\n", b"")
    c("SET", "k", "v")
    assert c("MIGRATE", "127.0.0.1", silent.port, "k", 0, 200) == READING
    assert c("GET", "k") == b"v"
    gone = Stub(b"", b"")
    assert c("MIGRATE", "127.0.0.1", gone.port, "k", 0, 2000) == READING
    assert gone.heard.count(b"RESTORE") == 2, "it tries once more"
    half = Stub(b"+OK\r\n+OK\r\n")
    c("MSET", "a", 1, "b", 2)
    assert c("MIGRATE", "127.0.0.1", half.port, "", 0, 2000, "KEYS", "a", "b") == READING
    assert c("MGET", "a", "b", "k") == [NIL, b"2", b"v"]


def test_what_is_sent_is_what_redis_sends(c):
    there = Stub(b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n")
    c.pipeline("MSET a value b 2", "PEXPIREAT b 1")
    c.pipeline("SET b 2")
    assert c("MIGRATE", "127.0.0.1", there.port, "", 5, 10_000, "REPLACE", "AUTH2", "u", "p", "KEYS", "a", "b") == OK
    expected = encode("AUTH", "u", "p") + encode("SELECT", "5")
    expected += encode("RESTORE", "a", "0", b"\x00\x05value\x0a\x00\x4f\xd9\x5b\x6e\x10\x79\x6b\x44", "REPLACE")[:40]
    assert there.heard.startswith(expected)


@pytest.mark.only("corelane-1", "corelane-3")
def test_other_keys_are_served_while_a_slow_target_takes_its_time(c, connect):
    slow = Stub(b"+OK\r\n")
    other, third = connect(), connect()
    c("MSET", *[word for i in range(20) for word in (f"k{i}", i)])
    c.send("MIGRATE", "127.0.0.1", slow.port, "", 0, 1500, "KEYS", "k0", "k1", "k2", "k3")
    eventually(lambda: slow.heard)
    assert other("MGET", *[f"k{i}" for i in range(4, 20)]) == [str(i).encode() for i in range(4, 20)]
    third.send("GET", "k1")
    third.silent(0.2)
    assert other("SET", "k9", "x") == OK
    assert c.read() == READING
    assert third.read() == b"1"


def test_within_a_block(c, target_client, there):
    c("MSET", "a", 1, "b", 2, "c", 3)
    assert c.pipeline("MULTI", "SET d 4", ("MIGRATE", "127.0.0.1", there.port, "", 0, 10_000, "KEYS", "a", "d"), "MGET a b d", "EXEC")[-1] == [
        OK, OK, [NIL, b"2", NIL],
    ]  # fmt: skip
    assert target_client("MGET", "a", "b", "d") == [b"1", NIL, b"4"]
    assert c("DBSIZE") == 2


def test_its_effect_is_the_deletion(effects, there):
    there.reset()
    with effects.client() as client:
        client("MSET", "a", 1, "b", 2, "c", 3)
        effects.take()
        assert client("MIGRATE", "127.0.0.1", there.port, "", 0, 10_000, "KEYS", "a", "nothing", "c") == OK
    records = [words for words in effects.take() if words[0].upper() != b"SELECT"]
    assert records == [[b"DEL", b"a", b"c"]]
