"""Append-only files: what was acknowledged is there after a start, here and in the other server."""

import pathlib
import shutil
import subprocess

import pytest

from harness import *
from harness import OK, Error, Server, ServerDied, Simple, eventually

ON = ("--appendonly", "yes")
# The base is one of commands, so that these tests are about records alone.
ALWAYS = ("--appendfsync", "always")
FRESH = "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"


# Between two lengths that are tried; shorter than any record.
TORN_STEP_BYTES = 7


def folder(server):
    return pathlib.Path(server.directory) / "appendonlydir"


def manifest(server):
    return (folder(server) / "appendonly.aof.manifest").read_text()


def last_file(server):
    name = manifest(server).splitlines()[-1].split()[1]
    return folder(server) / name


def is_sound(server):
    command = ["redis-check-aof", folder(server) / "appendonly.aof.manifest"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def rewritten(server, count):
    info = server.info("persistence")
    return info["aof_rewrites"] == str(count) and info["aof_rewrite_in_progress"] == "0"


def test_a_first_start_lays_out_a_base_an_increment_and_a_manifest(private_server):
    server = private_server(*ON)
    with server.client() as c:
        assert c("SET", "k", "v") == OK
    increment = folder(server) / "appendonly.aof.1.incr.aof"
    eventually(lambda: increment.exists() and b"SET" in increment.read_bytes())
    assert manifest(server) == FRESH
    assert last_file(server).read_bytes().startswith(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n")
    assert is_sound(server)


def test_redis_loads_what_was_written_while_it_was_switched_on_and_rewritten(private_server, tmp_path):
    server = private_server()
    with server.client() as c:
        for number in range(50):
            c("SET", f"k{number}", number)
        assert c("CONFIG", "SET", "appendonly", "yes") == OK
        c("RPUSH", "list", "a", "b")
        eventually(lambda: rewritten(server, 1))
        for count in range(2, 5):
            for number in range(40):
                c("INCR", f"k{number}")
            assert isinstance(c("BGREWRITEAOF"), Simple)
            for number in range(40):
                c("INCR", f"k{number}")
            eventually(lambda count=count: rewritten(server, count))
        digest = c("DEBUG", "DIGEST")
        assert c("CONFIG", "SET", "appendonly", "no") == OK
        c("SET", "afterwards", "is not kept")
    eventually(lambda: len(manifest(server).splitlines()) == 2)
    assert is_sound(server)
    shutil.copytree(folder(server), tmp_path / "appendonlydir")
    other = Server("redis", *ON, directory=tmp_path).start()
    try:
        with other.client() as c:
            assert (c("DEBUG", "DIGEST"), c("DBSIZE")) == (digest, 51)
    finally:
        other.stop()


def test_what_was_acknowledged_under_always_survives_a_kill(private_server):
    server = private_server(*ON, *ALWAYS)
    with server.client() as c:
        for number in range(30):
            assert c("SELECT", number % 3) == OK
            assert c("INCR", "count") == number // 3 + 1
            c.pipeline(("MULTI",), ("INCR", "a"), ("INCR", "b"), ("EXEC",))
    server.kill()
    server.start()
    with server.client() as c:
        counts = []
        for db in range(3):
            c("SELECT", db)
            a, b = c("MGET", "a", "b")
            assert a == b
            counts.append(int(a) + int(c("GET", "count")))
    assert sum(counts) == 60


def test_a_torn_tail_loads_up_to_the_last_whole_record(private_server):
    server = private_server(*ON, *ALWAYS)
    with server.client() as c:
        for _ in range(3):
            c("INCR", "n")
            c.pipeline(("MULTI",), ("INCR", "n"), ("INCR", "n"), ("EXEC",))
    server.kill()
    whole = last_file(server).read_bytes()
    path = last_file(server)
    seen = set()
    for length in range(len(whole), 0, -TORN_STEP_BYTES):
        path.write_bytes(whole[:length])
        server.start()
        with server.client() as c:
            count = int(c("INCR", "n")) - 1
        server.kill()
        seen.add(count)
        # All of a block or nothing of it; and what is written next does not stand behind half a record.
        assert count in (0, 1, 3, 4, 6, 7, 9)
        # Redis leaves the MULTI of a block that is cut within a record, and appends behind it.
        assert server.is_redis or is_sound(server)
    assert seen == {0, 1, 3, 4, 6, 7, 9}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Found an empty AOF manifest"),
        ("file a seq 0 type b\n", "Invalid AOF manifest file format"),
        ("file a seq 1 type b", "The AOF manifest file contains too long line"),
        ("file x/a seq 1 type b\n", "File can't be a path, just a filename"),
        ("file a seq 2 type i\nfile b seq 1 type i\n", "Found a non-monotonic sequence number"),
        ("file a seq 1 type q\n", "Unknown AOF file type"),
    ],
)
def test_a_bad_manifest_ends_the_start_in_words(target, tmp_path, text, reason):
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text(text)
    server = Server(target, *ON, directory=tmp_path)
    with pytest.raises(ServerDied):
        server.start()
    assert reason in server.log.read_text()
    assert server.process.wait(5) == 1


NO_FILE = Error("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.")
# WAITAOF is of Redis 7.2.
newer_than_redis = pytest.mark.only("corelane-1", "corelane-3")


@newer_than_redis
def test_waitaof_answers_when_what_was_written_is_on_the_disk(private_server):
    server = private_server(*ON)
    with server.client() as c:
        for number in range(3):
            # In one go: the write is not even on its way when WAITAOF is looked at.
            assert c.pipeline(("SET", f"k{number}", number), ("WAITAOF", 1, 0, 0)) == [OK, [1, 0]]
            assert f"k{number}".encode() in last_file(server).read_bytes()
        assert c("WAITAOF", 0, 0, 0) == [1, 0]
        # No replica tells what it has on its disk.
        assert c.pipeline("SET k v", "WAITAOF 1 0 0", "WAITAOF 1 1 100") == [OK, [1, 0], [1, 0]]
        c("SET", "k", "w")
        assert c("WAITAOF", 1, 0, 1) in ([0, 0], [1, 0])
        assert c.pipeline(("MULTI",), ("SET", "k", "x"), ("WAITAOF", 1, 0, 0), ("EXEC",))[-1] in ([OK, [0, 0]], [OK, [1, 0]])
        assert server.info("clients")["blocked_clients"] == "0"
    server.kill()
    server.start()
    with server.client() as c:
        assert c("MGET", "k0", "k1", "k2") == [b"0", b"1", b"2"]


@newer_than_redis
@pytest.mark.parametrize("policy", ["always", "no"])
def test_waitaof_does_not_depend_on_the_policy(private_server, policy):
    server = private_server(*ON, "--appendfsync", policy)
    with server.client() as c:
        assert c.pipeline(("SET", "k", 1), ("WAITAOF", 1, 0, 0)) == [OK, [1, 0]]


@newer_than_redis
def test_who_waits_for_files_that_are_switched_off_is_told(private_server):
    server = private_server(*ON, "--appendfsync", "no")
    with server.client() as c, server.client() as other:
        assert other("CONFIG", "SET", "no-appendfsync-on-rewrite", "yes") == OK
        other("DEBUG", "POPULATE", 300_000, "key", 100)
        assert isinstance(other("BGREWRITEAOF"), Simple)
        c.send("SET", "k", 1)
        c.send("WAITAOF", 1, 0, 0)
        assert c.read() == OK
        assert other("CONFIG", "SET", "appendonly", "no") == OK
        assert c.read() in (NO_FILE, [1, 0])
        assert c("WAITAOF", 1, 0, 0) == NO_FILE
        assert c("WAITAOF", 0, 0, 0) == [0, 0]


def test_debug_loadaof_drops_what_there_is_and_loads_the_files(private_server):
    server = private_server(*ON)
    with server.client() as c, server.client() as other:
        assert c("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)") == b"lib"
        for number in range(200):
            c("SELECT", number % 3)
            c("RPUSH", f"list{number}", number, "b")
            c("SET", f"k{number}", number, "PX", 1_000_000)
        digest = c("DEBUG", "DIGEST")
        # Of a Corelane that has just been started the first file may not be whole yet.
        eventually(lambda: server.info("persistence")["aof_rewrite_in_progress"] == "0")
        for _ in range(3):
            assert c("DEBUG", "LOADAOF") == OK
            assert c("DEBUG", "DIGEST") == digest
            assert c("FCALL", "f", 0) == 1
            # What is written next goes to the same file.
            other("INCR", "after")
            digest = c("DEBUG", "DIGEST")
        assert int(other("GET", "after")) == 3
        eventually(lambda: last_file(server).read_bytes().endswith(b"INCR\r\n$5\r\nafter\r\n"))
    assert is_sound(server)
    server.kill()
    server.start()
    with server.client() as c:
        assert c("DEBUG", "DIGEST") == digest
