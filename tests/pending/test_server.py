"""What waits of test_server.py: roles, the cluster, MONITOR, streams in DUMP, snapshots, the append-only file."""

import pytest

from harness import *
from harness import NIL, OK


test_command_finds_the_keys_of_commands_to_come = table(
    ("COMMAND LIST FILTERBY PATTERN xread*", unordered("xread", "xreadgroup")),
    ("COMMAND GETKEYS eval script 2 a b c", ["a", "b"]),
    ("COMMAND GETKEYS xread count 1 streams a b 0 0", ["a", "b"]),
)

test_small_commands = table(
    ("ROLE", ["master", 0, []]),
    ("LASTSAVE", between(1_600_000_000, 1 << 40)),
    ("WAIT 0 0", 0),
    ("WAIT 0 -1", Error("ERR timeout is negative")),
    ("WAIT x 0", NOT_AN_INTEGER),
    ("READONLY", Error("ERR This instance has cluster support disabled")),
    ("READWRITE", Error("ERR This instance has cluster support disabled")),
    ("ASKING", Error("ERR This instance has cluster support disabled")),
    ("CLUSTER INFO", Error("ERR This instance has cluster support disabled")),
    ("CLUSTER KEYSLOT foo", Error("ERR This instance has cluster support disabled")),
    ("FAILOVER", Error("ERR FAILOVER requires connected replicas.")),
    ("REPLICAOF NO ONE", OK),
    ("SLAVEOF NO ONE", OK),
    ("REPLICAOF localhost x", Error("ERR Invalid master port")),
    ("PFSELFTEST", OK),
)


def test_monitor_shows_every_command(c, connect):
    watcher = connect()
    assert watcher("MONITOR") == OK
    c("SELECT 3")
    c("SET", "k", 'a "b"\n\x00')
    host, port = c.socket.getsockname()
    lines = [watcher.read() for _ in range(2)]
    assert str(lines[0]).endswith(f'[3 {host}:{port}] "SELECT" "3"')
    assert str(lines[1]).endswith(f'[3 {host}:{port}] "SET" "k" "a \\"b\\"\\n\\x00"')
    assert float(str(lines[1]).split()[0]) > 1_600_000_000
    assert c("EVAL", "return redis.call('GET', KEYS[1])", 1, "nothing") == NIL
    assert '"EVAL"' in watcher.read() and str(watcher.read()).endswith('[3 lua] "GET" "nothing"')


KINDS = (
    ("SET s value", OK),
    ("SET n 123456", OK),
    (("SET", "long", "abc" * 1000), OK),
    ("RPUSH l a b 3", 3),
    ("SADD i 1 2 300000", 3),
    ("SADD set a b", 2),
    ("HSET h f v g w", 2),
    ("ZADD z 1 a 2.5 b", 2),
    ("XADD x 1-1 f v", "1-1"),
    ("XGROUP CREATE x g 0", OK),
)


def contents(client):
    return client.pipeline(
        "GET s", "GET n", "GET long", "LRANGE l 0 -1", "SORT i", "SORT set ALPHA", "HGET h f", "HLEN h", "ZRANGE z 0 -1 WITHSCORES",
        "XRANGE x - +", "XINFO GROUPS x", "DBSIZE",
    )  # fmt: skip


def test_debug_reload_keeps_everything(c):
    check(c, *KINDS, ("SET e v EX 1000", OK))
    before = contents(c)
    assert c("DEBUG RELOAD") == OK
    assert contents(c) == before
    assert 990 < c("TTL e") <= 1000


@pytest.mark.parametrize("save", ["SAVE", "BGSAVE"])
def test_a_snapshot_is_loaded_at_the_next_start(private_server, save):
    first = private_server()
    with first.client() as client:
        check(client, *KINDS)
        before = contents(client)
        began = client("LASTSAVE")
        assert client(save) == (OK if save == "SAVE" else Simple("Background saving started"))
        eventually(lambda: first.info("persistence")["rdb_bgsave_in_progress"] == "0" and client("LASTSAVE") >= began)
        eventually(lambda: (first.directory / "dump.rdb").exists())
    first.kill()
    second = private_server(directory=first.directory)
    with second.client() as client:
        assert contents(client) == before


def test_an_append_only_file_survives_a_kill(private_server):
    first = private_server("--appendonly", "yes", "--appendfsync", "always")
    with first.client() as client:
        check(client, *KINDS, ("INCR n", 123457), ("DEL s", 1))
        before = contents(client)
    first.kill()
    second = private_server("--appendonly", "yes", "--appendfsync", "always", directory=first.directory)
    with second.client() as client:
        assert contents(client) == before
        assert client("BGREWRITEAOF") == Simple("Background append only file rewriting started")
        eventually(lambda: second.info("persistence")["aof_rewrite_in_progress"] == "0")
        client("SET after rewrite")
    second.kill()
    third = private_server("--appendonly", "yes", directory=first.directory)
    with third.client() as client:
        assert client("GET after") == b"rewrite"
        client("DEL after")
        assert contents(client) == before


covers("MONITOR", "SAVE", "BGSAVE", "BGREWRITEAOF", "LASTSAVE")
