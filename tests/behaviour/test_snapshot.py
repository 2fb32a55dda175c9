"""SAVE, BGSAVE and save points: the file is what the server held at one moment, whatever happens meanwhile."""

import resource
import signal
import subprocess
import threading
import time

import pytest

from harness import *
from harness import OK, Server

IN_PROGRESS = Error("ERR Background save already in progress")
covers("SAVE", "BGSAVE", "LASTSAVE", "BGREWRITEAOF")

STARTED = Simple("Background saving started")
SCHEDULED = Simple("Background saving scheduled")
MISCONF = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk."
LIBRARY = "#!lua name=lib\nredis.register_function('f', function() return 'made by a library' end)"
FAR = 33177117420000
FIELDS = [
    "loading", "async_loading", "current_cow_peak", "current_cow_size", "current_cow_size_age", "current_fork_perc",
    "current_save_keys_processed", "current_save_keys_total", "rdb_changes_since_last_save", "rdb_bgsave_in_progress",
    "rdb_last_save_time", "rdb_last_bgsave_status", "rdb_last_bgsave_time_sec", "rdb_current_bgsave_time_sec", "rdb_saves",
    "rdb_last_cow_size", "rdb_last_load_keys_expired", "rdb_last_load_keys_loaded", "aof_enabled",
]  # fmt: skip


def fill(c):
    """Every type and encoding, several databases, expiries, consumer groups, a library."""
    assert c("FUNCTION", "LOAD", LIBRARY) == b"lib"
    for command in (
        ("SET", "text", "value"), ("SET", "number", "123456"), ("SET", "long", "abc" * 1000), ("SET", "empty", ""),
        ("SET", b"\x00\xff binary", b"\x01\x02\x03"), ("SET", "wide", "x" * 300_000), ("APPEND", "raw", "raw"),
        ("SET", "expires", "v", "PXAT", FAR), ("RPUSH", "list", "a", "b", 3, "x" * 200, ""),
        ("RPUSH", "nodes", *(f"{i:>100}" for i in range(500))), ("SADD", "ints", 1, 2, 300000), ("SADD", "set", "a", "b", 7),
        ("SADD", "bigset", *range(2000)), ("HSET", "hash", "f", "v", "g", 5), ("HSET", "table", "f", "v" * 65, "g", "w"),
        ("HSET", "bigtable", *range(2000)), ("ZADD", "zset", 1, "a", 2.5, "b", "-inf", "c"),
        ("ZADD", "skip", *(word for i in range(1000) for word in (i / 3, f"m{i}"))), ("PEXPIREAT", "skip", FAR + 1),
        ("XADD", "stream", "5-3", "f", "v", "g", "x" * 200), ("XADD", "stream", "6-1", "f", "w"), ("XADD", "stream", "7-1", "k", "v"),
        ("XGROUP", "CREATE", "stream", "group", 0), ("XGROUP", "CREATE", "stream", "idle", "$"),
        ("XGROUP", "CREATECONSUMER", "stream", "group", "nobody"), ("XREADGROUP", "GROUP", "group", "somebody", "COUNT", 2, "STREAMS", "stream", ">"),
        ("XDEL", "stream", "6-1"), ("SETBIT", "bits", 1000, 1),
    ):  # fmt: skip
        reply = c(*command)
        assert not isinstance(reply, Error), f"{command[:2]}: {reply}"
    for db in (1, 9, 15):
        c("SELECT", db)
        c("MSET", "key", f"of {db}", f"only{db}", db)
        c("PEXPIREAT", "key", FAR + db)
    c("SELECT", 0)


def contents(c, databases=16):
    """All there is, in a form that two servers can be compared by."""
    found = {}
    for db in range(databases):
        c("SELECT", db)
        for key in sorted(c("KEYS", "*")):
            encoding = c("OBJECT", "ENCODING", key)
            if encoding != b"hashtable":
                value = c("DUMP", key)
            elif c("TYPE", key) == Simple("set"):  # in no order, and so is its DUMP
                value = sorted(c("SMEMBERS", key))
            else:
                words = c("HGETALL", key)
                value = sorted(zip(words[::2], words[1::2], strict=True))
            groups = c("XINFO", "STREAM", key, "FULL") if encoding == b"stream" else None
            found[db, key] = (encoding, c("PEXPIRETIME", key), value, str(groups))
    c("SELECT", 0)
    found["libraries"] = str(c("FUNCTION", "LIST", "WITHCODE"))
    return found


def saved(server):
    return server.directory / "dump.rdb"


def in_progress(server):
    return server.info("persistence")["rdb_bgsave_in_progress"] == "1"


def finish(server):
    eventually(lambda: not in_progress(server), 60)


@pytest.fixture
def redis_of(request):
    """A redis-server that has loaded the file of another server."""
    started = []

    def load(server):
        redis = Server("redis")
        started.append(redis)
        (redis.directory / "dump.rdb").write_bytes(saved(server).read_bytes())
        return redis.start()

    yield load
    for server in started:
        server.stop()


def test_the_file_holds_everything_and_redis_loads_it(private_server, redis_of):
    server = private_server()
    with server.client() as c:
        fill(c)
        expected = contents(c)
        assert c("SAVE") == OK
    checked = subprocess.run(["redis-check-rdb", saved(server)], capture_output=True, text=True)
    assert checked.returncode == 0 and "RDB looks OK" in checked.stdout, checked.stdout
    with redis_of(server).client() as r:
        found = contents(r)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key] == value, key
        assert r("FCALL", "f", 0) == b"made by a library"


def test_settings_decide_how_the_file_is_written(private_server):
    server = private_server("--rdbchecksum", "no", "--dbfilename", "other.rdb", "--rdbcompression", "no")
    with server.client() as c:
        c("SET", "k", "a" * 10_000)
        assert c("SAVE") == OK
        data = (server.directory / "other.rdb").read_bytes()
        assert data.endswith(b"\xff" + bytes(8)) and len(data) > 10_000
        assert c("CONFIG", "SET", "rdbcompression", "yes") == OK
        assert c("SAVE") == OK
        assert (server.directory / "other.rdb").stat().st_size < 1000
    names = {path.name for path in server.directory.iterdir()}
    assert names == {"other.rdb", "server.log"}


def test_usage_is_told_where_the_policy_goes_by_it(private_server, redis_of):
    server = private_server("--maxmemory-policy", "allkeys-lfu")
    with server.client() as c:
        c("SET", "k", "v")
        c("RESTORE", "often", 0, c("DUMP", "k"), "FREQ", 77)
        assert c("SAVE") == OK
    redis = redis_of(server)
    with redis.client() as r:
        assert r("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu") == OK
        assert r("DEBUG", "RELOAD", "NOSAVE") == OK
        assert r("OBJECT", "FREQ", "often") == 77


def test_what_clients_are_told(private_server):
    server = private_server()
    with server.client() as c:
        start = c("LASTSAVE")
        assert abs(start - time.time()) < 30
        assert c("BGSAVE", "x") == Error("ERR syntax error")
        assert c("BGSAVE", "SCHEDULE", "x") == Error("ERR syntax error")
        assert c("LASTSAVE", "x") == Error("ERR wrong number of arguments for 'lastsave' command")
        assert c("BGSAVE") == STARTED
        finish(server)
        assert c("BGSAVE", "schedule") == STARTED
        finish(server)
        assert c.pipeline("MULTI", "BGSAVE", "SET a 1", "EXEC")[-1] == [SCHEDULED, OK]
        eventually(lambda: server.info("persistence")["rdb_saves"] == "3")
        finish(server)
        assert c.pipeline("MULTI", "SAVE")[-1] == Error("ERR Command not allowed inside a transaction")
        assert c("DISCARD") == OK
        assert c("EVAL", "return redis.call('save')", 0).startswith("ERR This Redis command is not allowed from script")


def test_info_tells_how_it_went(private_server):
    server = private_server()
    with server.client() as c:
        facts = server.info("persistence")
        assert list(facts)[: len(FIELDS)] == FIELDS
        c.pipeline("SET a 1", "SET b 2", "INCR a", "GET a")
        facts = server.info("persistence")
        assert (facts["rdb_changes_since_last_save"], facts["rdb_saves"]) == ("3", "0")
        assert (facts["rdb_last_bgsave_time_sec"], facts["rdb_current_bgsave_time_sec"]) == ("-1", "-1")
        assert c("BGSAVE") == STARTED
        c("SET", "after", "x")
        finish(server)
        facts = server.info("persistence")
        assert (facts["rdb_changes_since_last_save"], facts["rdb_saves"]) == ("1", "1")
        assert facts["rdb_last_bgsave_status"] == "ok" and int(facts["rdb_last_bgsave_time_sec"]) >= 0
        assert abs(int(facts["rdb_last_save_time"]) - time.time()) < 30
        assert c("SAVE") == OK
        assert server.info("persistence")["rdb_changes_since_last_save"] == "0"


def test_a_snapshot_is_the_state_at_one_moment(private_server, redis_of):
    """Writers go on while it is made; every key is as it was when it began."""
    server = private_server()
    counters = [f"counter:{i}" for i in range(50)]
    lists = [f"list:{i}" for i in range(20)]
    with server.client() as c:
        c("DEBUG", "POPULATE", 60_000, "key", 100)
        c.pipeline(*(("RPUSH", key, *(f"{i:>50}" for i in range(2000))) for key in lists))
    stop = threading.Event()

    def write():
        with server.client() as w:
            while not stop.is_set():
                w.pipeline(
                    "MULTI", *(("INCR", key) for key in counters), *(("RPUSH", key, "one more") for key in lists), "EXEC"
                )
                w.pipeline("DEL key:5", "SET key:5 again", "RENAME key:7 key:8", "SET key:7 x")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with server.client() as c:
            eventually(lambda: c("EXISTS", counters[0]) and int(c("GET", counters[0])) > 5)
            earliest = int(c("GET", counters[0]))
            assert c("BGSAVE") == STARTED
            latest = int(c("GET", counters[0]))
            finish(server)
            eventually(lambda: int(c("GET", counters[0])) > latest)  # the writer goes on
    finally:
        stop.set()
        writer.join()
    with redis_of(server).client() as r:
        values = {int(value) for value in r("MGET", *counters)}
        assert len(values) == 1 and earliest <= min(values) <= latest
        assert {r("LLEN", key) for key in lists} == {2000 + values.pop()}


def test_save_points_save(private_server):
    server = private_server("--save", "1 2", "--save", "3600", "1")
    with server.client() as c:
        before = c("LASTSAVE")
        time.sleep(1.1)
        c("SET", "a", 1)
        time.sleep(1.2)
        assert not saved(server).exists(), "one change is too few"
        c("SET", "b", 2)
        eventually(lambda: saved(server).exists())
        eventually(lambda: c("LASTSAVE") > before)
        assert server.info("persistence")["rdb_changes_since_last_save"] == "0"


def test_a_failed_save_stops_writes_until_one_succeeds(private_server):
    server = private_server("--save", "3600 1000")
    saved(server).mkdir()  # nothing can be renamed onto it
    with server.client() as c:
        c("SET", "k", "v")
        assert c("SAVE") == Error("ERR")
        assert c("BGSAVE") == STARTED
        eventually(lambda: server.info("persistence")["rdb_last_bgsave_status"] == "err")
        refused = eventually(lambda: isinstance(reply := c("SET", "k", "w"), Error) and reply)
        assert refused.startswith(MISCONF)
        assert c("PING").startswith(MISCONF)
        assert c("GET", "k") == b"v"
        assert c("EVAL", "return redis.call('get', KEYS[1])", 1, "k") == b"v"
        assert MISCONF in c("EVAL", "return redis.call('set', KEYS[1], 'x')", 1, "k")
        replies = c.pipeline("MULTI", "SET k w", "EXEC")
        assert replies[1].startswith(MISCONF) and replies[2].startswith("EXECABORT")
        assert c("CONFIG", "SET", "stop-writes-on-bgsave-error", "no") == OK
        assert c("SET", "k", "w") == OK
        assert c("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes") == OK
        assert c("SET", "k", "x").startswith(MISCONF)
        # One more try may be under way.
        eventually(lambda: {path.name for path in server.directory.iterdir()} == {"dump.rdb", "server.log"})
        saved(server).rmdir()
        assert c("SAVE") == OK
        eventually(lambda: c("SET", "k", "x") == OK)
        assert c("PING") == Simple("PONG")


@pytest.mark.only("corelane-1", "corelane-3")  # redis-server is killed by the signal that comes with the limit
def test_a_full_disk_is_an_error_and_service_resumes(private_server):
    server = private_server("--save", "3600 1000")
    with server.client() as c:
        assert c("SAVE") == OK
        old = saved(server).read_bytes()
        c("DEBUG", "POPULATE", 20_000, "key", 100)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        assert c("BGSAVE") == STARTED
        finish(server)
        assert server.info("persistence")["rdb_last_bgsave_status"] == "err"
        assert c("SET", "k", "v").startswith(MISCONF)
        assert saved(server).read_bytes() == old, "what was there before is there still"
        assert {path.name for path in server.directory.iterdir()} == {"dump.rdb", "server.log"}
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert c("BGSAVE") == STARTED
        finish(server)
        assert c("SET", "k", "v") == OK
        assert saved(server).stat().st_size > 200_000


def test_who_is_killed_while_saving_leaves_the_old_file(private_server):
    server = private_server()
    with server.client() as c:
        c("SET", "k", "old")
        assert c("SAVE") == OK
        old = saved(server).read_bytes()
        c("SET", "k", "new")
        c("DEBUG", "POPULATE", 100_000, "key", 200)
        assert c("BGSAVE") == STARTED
    server.kill(signal.SIGKILL)
    assert saved(server).read_bytes() == old


def test_flushall_leaves_an_empty_file_where_there_are_save_points(private_server):
    server = private_server("--save", "3600 1000")
    with server.client() as c:
        c("DEBUG", "POPULATE", 50_000, "key", 100)
        c("BGSAVE")
        assert c("FLUSHALL") == OK
        assert saved(server).stat().st_size < 200
        eventually(lambda: not in_progress(server))
        assert c.pipeline("MULTI", "SET a 1", "FLUSHALL", "SET b 2", "EXEC")[-1] == [OK, OK, OK]
        assert c("GET", "b") == b"2"


def test_a_database_is_saved_as_it_was_though_it_is_flushed_or_swapped(private_server, redis_of):
    server = private_server()
    with server.client() as c:
        c("DEBUG", "POPULATE", 30_000, "key", 100)
        c("SELECT", 1)
        c("SET", "of", "one")
        assert c("BGSAVE") == STARTED
        assert c.pipeline("SELECT 0", "FLUSHDB", "SET late x", "SWAPDB 0 1", "GET of")[-1] == b"one"
        finish(server)
    with redis_of(server).client() as r:
        assert r.pipeline("DBSIZE", "EXISTS late", "SELECT 1", "GET of", "DBSIZE") == [30_000, 0, OK, b"one", 1]


@pytest.mark.parametrize(
    "points, way, is_saved",
    [
        ("", ("SHUTDOWN",), False),
        ("", ("SHUTDOWN", "SAVE"), True),
        ("", ("SHUTDOWN", "NOW", "FORCE"), False),
        ("3600 1000", ("SHUTDOWN",), True),
        ("3600 1000", ("SHUTDOWN", "NOSAVE"), False),
        ("", signal.SIGTERM, False),
        ("3600 1000", signal.SIGTERM, True),
        ("3600 1000", signal.SIGINT, True),
    ],
)
def test_who_stops_saves_if_that_is_wanted(private_server, points, way, is_saved):
    server = private_server("--save", points)
    with server.client() as c:
        c("SET", "k", "v")
        if isinstance(way, tuple):
            c.send(*way)
        else:
            server.process.send_signal(way)
        assert server.process.wait(timeout=20) == 0
        assert saved(server).exists() == is_saved


def test_who_cannot_save_does_not_stop_unless_forced(private_server):
    server = private_server("--save", "3600 1000")
    saved(server).mkdir()
    refusal = Error("ERR Errors trying to SHUTDOWN. Check logs.")
    with server.client() as c:
        assert c("SHUTDOWN") == refusal
        assert c("SHUTDOWN", "SAVE") == refusal
        assert c("SHUTDOWN", "ABORT") == Error("ERR No shutdown in progress.")
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert c("GET", "k") is NIL
        c.send("SHUTDOWN", "FORCE")
        assert server.process.wait(timeout=20) == 0


def test_nothing_is_left_of_a_snapshot_when_the_server_stops(private_server):
    server = private_server()
    with server.client() as c:
        c("DEBUG", "POPULATE", 100_000, "key", 200)
        c("BGSAVE")
        c.send("SHUTDOWN", "NOSAVE")
    server.process.wait(timeout=20)
    assert {path.name for path in server.directory.iterdir()} <= {"server.log", "dump.rdb"}
