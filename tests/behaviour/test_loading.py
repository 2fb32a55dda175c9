"""Loading dump.rdb at the start: what redis-server saved is there, key for key, and what is wrong with a file is said."""

import random
import shutil
import subprocess

import pytest

from harness import *
from harness import OK, Server
from test_snapshot import contents, fill

FAR = 33177117420000


@pytest.fixture(scope="module")
def redis_file(tmp_path_factory):
    """A file by redis-server with every type and encoding, and what is in it."""
    path = tmp_path_factory.mktemp("rdb") / "dump.rdb"
    redis, noise = Server("redis").start(), random.Random(1)
    try:
        with redis.client() as c:
            fill(c)
            c("SELECT", 3)
            # More than a block, so that records are cut.
            for i in range(600):
                c("SET", f"key:{i}", noise.randbytes(5000))
            c("SELECT", 0)
            expected = contents(c)
            assert c("SAVE") == OK
        shutil.copy(redis.directory / "dump.rdb", path)
    finally:
        redis.stop()
    return path, expected


@pytest.fixture
def loaded(target):
    """Starts servers on a file."""
    started = []

    def load(data, *arguments, wait=True):
        server = Server(target, *arguments)
        started.append(server)
        (server.directory / "dump.rdb").write_bytes(data)
        return server.start(wait)

    yield load
    for server in started:
        server.stop()


def test_all_that_redis_saved_is_there(loaded, redis_file):
    path, expected = redis_file
    server = loaded(path.read_bytes())
    with server.client() as c:
        found = contents(c)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key] == value, key
        assert c("FCALL", "f", 0) == b"made by a library"
        info = server.info("persistence")
        assert int(info["rdb_last_load_keys_loaded"]) == len(expected) - 1
        assert info["rdb_last_load_keys_expired"] == "0" and info["loading"] == "0"
        assert info["rdb_changes_since_last_save"] == "0"


def test_what_was_loaded_is_saved_again(loaded, redis_file):
    path, expected = redis_file
    server = loaded(path.read_bytes())
    with server.client() as c:
        assert c("SAVE") == OK
    again = (server.directory / "dump.rdb").read_bytes()
    checked = subprocess.run(["redis-check-rdb", server.directory / "dump.rdb"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    with loaded(again).client() as c:
        assert contents(c) == expected


def record(key, expiry=None):
    head = b"" if expiry is None else b"\xfc" + expiry.to_bytes(8, "little")
    return head + b"\x00" + bytes([len(key)]) + key + b"\x01v"


def rdb(*records, version=b"0010"):
    """A file without a checksum."""
    return b"REDIS" + version + b"".join(records) + b"\xff" + bytes(8)


def test_expired_keys_are_left_out_and_counted(loaded):
    server = loaded(rdb(record(b"old", 1), record(b"new", FAR), record(b"always")))
    with server.client() as c:
        assert sorted(c("KEYS", "*")) == [b"always", b"new"]
        assert c("PEXPIRETIME", "new") == FAR
        info = server.info("persistence")
        assert (info["rdb_last_load_keys_loaded"], info["rdb_last_load_keys_expired"]) == ("2", "1")


def test_bytes_behind_the_checksum_are_ignored(loaded):
    with loaded(rdb(record(b"k")) + b"and more").client() as c:
        assert c("GET", "k") == b"v"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"REDIS",
        b"RUDIS0010\xff" + bytes(8),
        rdb(version=b"0012"),
        rdb(record(b"k"))[:-9],
        rdb(record(b"k"))[:-8] + b"\x01" * 8,
        rdb(record(b"k"), record(b"k")),
        rdb(b"\xfe\x10", record(b"k")),
        rdb(b"\x02\x01k\x02\x01a\x01a"),
    ],
    ids=["empty", "short", "signature", "version", "end", "checksum", "twice", "database", "value"],
)
def test_a_bad_file_ends_the_process(loaded, data):
    server = loaded(data, wait=False)
    eventually(lambda: not server.alive(), 20)
    assert server.status != 0
    assert (server.directory / "dump.rdb").read_bytes() == data


def test_debug_reload_saves_and_loads_while_everything_waits(private_server):
    server = private_server()
    with server.client() as c:
        for db in (0, 9):
            c("SELECT", db)
            for number in range(300):
                c("SET", f"s{number}", number)
                c("RPUSH", f"l{number % 7}", number)
                c("ZADD", "z", number, f"m{number}")
            c("SET", "soon", 1, "PX", 60_000)
        digest = c("DEBUG", "DIGEST")
        assert c("DEBUG", "RELOAD") == OK
        assert (c("DEBUG", "DIGEST"), c("DBSIZE")) == (digest, 309)
        assert c("PTTL", "soon") > 0
        # Without saving before, what the file has comes back; merged with what there is, if that is wanted.
        c("DEL", "s1")
        c("SET", "new", 1)
        assert c("DEBUG", "RELOAD", "NOSAVE") == OK
        assert c("GET", "s1") == b"1"
        assert c("EXISTS", "new") == 0
        c("SET", "new", 1)
        c("SET", "s1", "other")
        assert c("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH", "MERGE") == OK
        assert c("MGET", "s1", "new") == [b"1", b"1"]
        assert isinstance(c("DEBUG", "RELOAD", "WHAT"), Error)
