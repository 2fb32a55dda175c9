"""Masters and replicas: following, being in step, comparing what they have, and links that can be cut."""

import contextlib
import random
import socket
import threading
import time

from .resp import ConnectionLost, Error, NoReply
from .waiting import eventually

READ_SIZES = (7, 100, 4096, 65536)
# Keys that are to expire soon do so within this time.
SHORT_MS = 50


def follow(replica, port, wait=True):
    """Makes `replica` one of the master at `port`."""
    with replica.client() as client:
        assert str(client("REPLICAOF", "127.0.0.1", port)).startswith("OK")
    if wait:
        eventually(lambda: has_link(replica), 30)


def has_link(replica):
    """Whether the stream comes."""
    return replica.info("replication").get("master_link_status") == "up"


def offset(server):
    """How much of the stream it has."""
    return int(server.info("replication")["master_repl_offset"])


def in_step(master, *replicas):
    """Waits until nothing is under way; the offset that all have."""

    def are_equal():
        offsets = {offset(server) for server in (master, *replicas)}
        return len(offsets) == 1 and all(has_link(replica) for replica in replicas) and offsets.pop() + 1

    return eventually(are_equal, 60) - 1


def values(client, databases=16):
    """All there is: by database and key the expiry, the value, and the bytes of DUMP where they are determined."""
    found = {}
    for db in range(databases):
        client("SELECT", db)
        for key in sorted(client("KEYS", "*")):
            if client("TYPE", key) != "none":  # it may have expired just now
                found[db, key] = (client("PEXPIRETIME", key), *_value(client, key))
    client("SELECT", 0)
    found["libraries"] = str(client("FUNCTION", "LIST", "WITHCODE"))
    return found


def _value(client, key):
    kind = str(client("TYPE", key))
    if kind == "set":
        return kind, sorted(client("SMEMBERS", key))
    if kind == "hash":
        words = client("HGETALL", key)
        return kind, sorted(zip(words[::2], words[1::2], strict=True))
    if kind == "stream":
        return kind, str(_of_stream(client("XINFO", "STREAM", key, "FULL", "COUNT", 0)))
    # Two servers may have come to one value by other ways, and keep it in another form; a string has but one.
    return kind, {
        "string": lambda: client("GET", key),
        "list": lambda: client("LRANGE", key, 0, -1),
        "zset": lambda: client("ZRANGE", key, 0, -1, "WITHSCORES"),
    }[kind](), (client("DUMP", key) if kind == "string" else None)


# What a replica does not learn, or counts in another way.
NOT_REPLICATED = {b"seen-time", b"active-time", b"entries-read", b"lag", b"radix-tree-keys", b"radix-tree-nodes"}


def _of_stream(reply):
    """XINFO without what is a server's own."""
    if not isinstance(reply, list):
        return reply
    kept, words = [], iter(reply)
    for word in words:
        if isinstance(word, bytes) and word in NOT_REPLICATED:
            next(words)
        else:
            kept.append(_of_stream(word))
    return kept


def assert_same(master, *replicas):
    """Waits until nothing is under way, and what expires soon has expired; then all have the same."""
    time.sleep(2 * SHORT_MS / 1000)
    with master.client() as client:
        values(client)  # whoever looks at an expired key removes it
    in_step(master, *replicas)
    with master.client() as client:
        expected = values(client)
    for replica in replicas:
        with replica.client() as client:
            found = values(client)
        assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
        for key, value in expected.items():
            assert found[key] == value, (key, found[key], value)
    return len(expected)


def write_anything(client, rng, count, keys=60):
    """Random writes of all types; some clash with what a key holds, which is as good."""
    for number in range(count):
        key, word = f"k{rng.randrange(keys)}", f"w{rng.randrange(30)}"
        commands = rng.choice(WRITES)(key, word, rng.randrange(1, 1000))
        for reply in client.pipeline(*commands):
            assert not isinstance(reply, Error) or reply.startswith(("WRONGTYPE", "ERR", "NOGROUP", "BUSYGROUP")), reply


SCRIPT = "redis.call('SET', KEYS[1], ARGV[1]) redis.call('INCRBY', KEYS[2], 2) return redis.call('SPOP', KEYS[1]..'s')"

WRITES = [
    lambda k, w, n: [("SET", k, w)],
    lambda k, w, n: [("SET", k, n, "EX", 1000 + n)],
    lambda k, w, n: [("SET", k, n, "PX", n % SHORT_MS + 1)],
    lambda k, w, n: [("INCRBYFLOAT", f"{k}f", n / 7)],
    lambda k, w, n: [("APPEND", k, w)],
    lambda k, w, n: [("RPUSH", f"{k}l", *range(n % 9 + 1))],
    lambda k, w, n: [("LPOP", f"{k}l", n % 3)],
    lambda k, w, n: [("BLPOP", f"{k}l", f"{k}m", 0.001)],
    lambda k, w, n: [("SADD", f"{k}s", w, n, n + 1)],
    lambda k, w, n: [("SPOP", f"{k}s", n % 3)],
    lambda k, w, n: [("HSET", f"{k}h", w, n, n, w)],
    lambda k, w, n: [("HINCRBYFLOAT", f"{k}h", "f", n / 3)],
    lambda k, w, n: [("ZADD", f"{k}z", n / 9, w, n, n)],
    lambda k, w, n: [("ZPOPMIN", f"{k}z")],
    lambda k, w, n: [("XADD", f"{k}x", "MAXLEN", "~", 50, "*", w, n)],
    lambda k, w, n: [("XGROUP", "CREATE", f"{k}x", "g", "0", "MKSTREAM")],
    lambda k, w, n: [("XREADGROUP", "GROUP", "g", w, "COUNT", 2, "STREAMS", f"{k}x", ">")],
    lambda k, w, n: [("XAUTOCLAIM", f"{k}x", "g", w, 0, "0", "COUNT", 2)],
    lambda k, w, n: [("DEL", k, f"{k}l"), ("UNLINK", f"{k}h")],
    lambda k, w, n: [("EXPIRE", f"{k}s", 100 + n), ("PERSIST", k), ("GETEX", k, "EX", n * 100)],
    lambda k, w, n: [("MULTI",), ("INCR", "n"), ("SET", f"{k}m", n), ("RPUSH", f"{k}l", w), ("EXEC",)],
    lambda k, w, n: [("MULTI",), ("SELECT", n % 4), ("SET", k, w), ("SELECT", 0), ("EXEC",)],
    lambda k, w, n: [("SELECT", n % 4), ("SET", f"{k}d", w), ("SELECT", 0)],
    lambda k, w, n: [("EVAL", SCRIPT, 2, k, "sum", n)],
    lambda k, w, n: [("MSET", k, n, w, n), ("RENAME", w, f"{w}r")],
    lambda k, w, n: [("SETRANGE", f"{k}r", n % 40, w)],
]


class Proxy:
    """A way to a port that can be cut and closed, and that delivers bytes in pieces of any size."""

    def __init__(self, port, seed=1):
        self.rng, self.to, self.is_open, self.pairs = random.Random(seed), port, True, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if not self.is_open:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                client.close()
                continue
            self.pairs.append((client, server))
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(self.rng.choice(READ_SIZES)):
                target.sendall(data)
        self._end(source, target)

    @staticmethod
    def _end(*sockets):
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def cut(self):
        """Ends all connections there are."""
        pairs, self.pairs = self.pairs, []
        for pair in pairs:
            self._end(*pair)

    def close(self):
        """Ends everything."""
        self.is_open = False
        self.listener.close()
        self.cut()


@contextlib.contextmanager
def writers(server, seed, count=2):
    """Clients that write anything until the block ends; a server that is killed meanwhile ends them."""
    stop, threads, failures = threading.Event(), [], []

    def run(number):
        rng = random.Random(seed + number)
        try:
            with server.client(timeout=30) as client:
                while not stop.is_set():
                    write_anything(client, rng, 20)
        except (ConnectionLost, NoReply, OSError):
            pass
        except BaseException as failure:  # handed to the test's own thread
            failures.append(failure)

    for number in range(count):
        threads.append(threading.Thread(target=run, args=(number,), daemon=True))
        threads[-1].start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    if failures:
        raise failures[0]


__all__ = [
    "Proxy", "assert_same", "follow", "has_link", "in_step", "offset", "values", "write_anything", "writers",
]  # fmt: skip
