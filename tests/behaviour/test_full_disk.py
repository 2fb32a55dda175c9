"""Append-only files on a disk that fills, or on which nothing can be written: clear words, and nothing acknowledged is lost."""

import shutil

import pytest

from harness import *
from harness import OK, Error, Server, ServerDied, eventually
from harness.resp import ConnectionLost

ON = ("--appendonly", "yes")
VALUE = "v" * 1000
BALLAST_BYTES = 3 << 20
FULL = "MISCONF Errors writing to the AOF file: No space left on device"


def fill(server, c):
    """Writes until the disk is full; how many writes were acknowledged."""
    (server.inside / "ballast").write_bytes(bytes(BALLAST_BYTES))
    for number in range(100_000):
        reply = c("SET", f"k{number}", VALUE)
        if reply != OK:
            assert reply == Error(FULL)
            return number
    raise AssertionError("the disk never fills")


def copy_of(server, folder):
    """A server over what is on the disk now."""
    shutil.copytree(server.inside / "appendonlydir", folder / "appendonlydir")
    return Server(server.target, *ON, directory=folder)


def test_writes_are_refused_while_the_disk_is_full_and_none_is_lost(private_server, tmp_path):
    server = private_server(*ON, disk="size=4m")
    with server.client() as c:
        count = fill(server, c)
        assert count > 100
        # What is there can be read, and nothing can be written in any way.
        assert c("GET", "k0") == VALUE.encode()
        assert c("PING") == Error(FULL)
        assert c.pipeline(("MULTI",), ("SET", "k0", "x"), ("EXEC",))[-1].startswith(("EXECABORT", "MISCONF"))
        assert server.info("persistence")["aof_last_write_status"] == "err"
        (server.inside / "ballast").unlink()
        eventually(lambda: c("SET", "last", 1) == OK)
        assert server.info("persistence")["aof_last_write_status"] == "ok"
        assert c("CONFIG", "SET", "appendonly", "no") == OK
    increment = next((server.inside / "appendonlydir").glob("*.incr.aof"))
    eventually(lambda: b"last" in increment.read_bytes())
    other = copy_of(server, tmp_path).start()
    try:
        with other.client() as c:
            assert c("DBSIZE") == count + 1
            assert c("STRLEN", f"k{count - 1}") == len(VALUE)
    finally:
        other.stop()


def test_under_always_the_server_ends_rather_than_acknowledge_what_it_cannot_write(private_server, tmp_path):
    server = private_server(*ON, "--appendfsync", "always", disk="size=4m")
    kept = {}
    with server.client(timeout=10) as c:
        (server.inside / "ballast").write_bytes(bytes(BALLAST_BYTES))
        # Held open, the files outlive the process and its mount.
        increment = eventually(lambda: next((server.inside / "appendonlydir").glob("*.incr.aof"), None)).open("rb")
        try:
            for number in range(100_000):
                if c("SET", f"k{number}", VALUE) != OK:
                    break
                kept[f"k{number}".encode()] = True
        except (OSError, ConnectionLost):
            pass
    assert server.process.wait(20) == 1
    assert "Exiting" in server.log.read_text()
    written = increment.read()
    assert len(kept) > 100
    for key in kept:
        assert b"\r\n" + key + b"\r\n" in written


@pytest.mark.parametrize("name", ["appendonlydir", "appendonlydir/appendonly.aof.manifest"])
def test_what_is_in_the_way_ends_the_start_in_words(target, tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if path.suffix:
        path.mkdir()
    else:
        path.write_text("no directory")
    server = Server(target, *ON, directory=tmp_path)
    with pytest.raises(ServerDied):
        server.start()
    assert server.process.wait(20) == 1
    assert server.log.read_text().strip()


def test_nothing_can_be_written_where_all_is_read_only(target):
    # It may say hello before it knows.
    server = Server(target, *ON, disk="size=1m,ro").start(wait=False)
    assert server.process.wait(20) == 1
    assert "Read-only file system" in server.log.read_text()


def test_switching_on_where_all_is_read_only_is_refused(private_server):
    server = private_server(disk="size=1m,ro")
    with server.client() as c:
        for _ in range(2):
            reply = c("CONFIG", "SET", "appendonly", "yes")
            assert reply.startswith("ERR CONFIG SET failed (possibly related to argument 'appendonly')")
            assert c("CONFIG", "GET", "appendonly") == [b"appendonly", b"no"]
            assert server.info("persistence")["aof_enabled"] == "0"
        assert c("SET", "k", "v") == OK
