"""What an operator asks of a server: CONFIG, INFO, COMMAND, MEMORY, SLOWLOG, LATENCY, MONITOR and their kin."""

import pytest

from harness import *
from harness import NIL, OK

# ---- CONFIG ----------------------------------------------------------------------------------

test_config_get_and_set = table(
    ("CONFIG GET maxmemory-policy", Map({"maxmemory-policy": "noeviction"})),
    ("CONFIG GET MAXMEMORY-policy", Map({"MAXMEMORY-policy": "noeviction"})),  # named as it was asked for
    ("CONFIG GET MAXMEMORY-polic?", Map({"maxmemory-policy": "noeviction"})),
    ("CONFIG GET nothing-like-it", Map()),
    ("CONFIG GET hash-max-listpack-*", Map({"hash-max-listpack-entries": "512", "hash-max-listpack-value": "64"})),
    ("CONFIG GET hash-max-ziplist-entries timeout", Map({"hash-max-ziplist-entries": "512", "timeout": "0"})),
    ("CONFIG SET hash-max-ziplist-entries 100", OK),  # the old name of the same setting
    ("CONFIG GET hash-max-listpack-entries", Map({"hash-max-listpack-entries": "100"})),
    ("CONFIG SET hash-max-listpack-entries 512 timeout 5", OK),
    ("CONFIG GET timeout", Map({"timeout": "5"})),
    ("CONFIG SET timeout 0", OK),
    ("CONFIG SET maxmemory 1mb", OK),
    ("CONFIG GET maxmemory", Map({"maxmemory": "1048576"})),
    ("CONFIG SET maxmemory 10k", OK),
    ("CONFIG GET maxmemory", Map({"maxmemory": "10000"})),
    ("CONFIG SET maxmemory 0", OK),
    ("CONFIG SET nope 1", Error("ERR Unknown option or number of arguments for CONFIG SET - 'nope'")),
    ("CONFIG SET timeout", wrong_arity("config|set")),
    ("CONFIG SET timeout 1 nope", SYNTAX_ERROR),
    ("CONFIG SET timeout x", Error("ERR CONFIG SET failed (possibly related to argument 'timeout') - argument couldn't be parsed into an integer")),
    (
        "CONFIG SET maxmemory-policy nope",
        error_like(
            r"ERR CONFIG SET failed \(possibly related to argument 'maxmemory-policy'\) - argument\(s\) must be one of the following: .*"
        ),
    ),
    (
        "CONFIG SET port-is-not-a-thing 1 timeout 7",
        Error("ERR Unknown option or number of arguments for CONFIG SET - 'port-is-not-a-thing'"),
    ),
    ("CONFIG GET timeout", Map({"timeout": "0"})),  # all or nothing
    (
        "CONFIG SET timeout 1 timeout 2",
        Error("ERR CONFIG SET failed (possibly related to argument 'timeout') - duplicate parameter"),
    ),
    ("CONFIG SET databases 4", Error("ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config")),
    ("CONFIG GET", wrong_arity("config|get")),
    ("CONFIG", wrong_arity("config")),
    ("CONFIG HELP", help_of("CONFIG")),
    ("CONFIG RESETSTAT x", wrong_arity("config|resetstat")),
    ("CONFIG REWRITE", Error("ERR The server is running without a config file")),
)

DEFAULTS = {
    "databases": "16", "maxclients": None, "proto-max-bulk-len": "536870912", "client-query-buffer-limit": "1073741824",
    "set-max-intset-entries": "512", "zset-max-listpack-entries": "128", "zset-max-listpack-value": "64",
    "list-max-listpack-size": "-2", "stream-node-max-entries": "100", "maxmemory-samples": "5", "lfu-log-factor": "10",
    "slowlog-log-slower-than": "10000", "slowlog-max-len": "128", "notify-keyspace-events": "", "appendonly": "no",
    "appendfsync": "everysec", "repl-backlog-size": "1048576", "cluster-enabled": "no", "hz": "10", "active-expire-effort": "1",
    "client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
    "latency-monitor-threshold": "0", "busy-reply-threshold": "5000", "cluster-node-timeout": "15000", "maxmemory": "0",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name, value in DEFAULTS.items() if value is not None])
def test_directives_default_as_in_redis(private_server_once, name):
    with private_server_once.client() as client:
        assert client("CONFIG", "GET", name) == [name.encode(), DEFAULTS[name].encode()]


@pytest.fixture(scope="module")
def private_server_once(target):
    server = Server(target).start()
    yield server
    server.stop()


def test_a_config_file_is_read_and_rewritten(private_server, tmp_path):
    path = tmp_path / "server.conf"
    path.write_text("# a comment that stays\nmaxmemory 100mb\nhash-max-listpack-entries 77\n")
    server = private_server(conf=path)
    with server.client() as client:
        check(
            client,
            ("CONFIG GET maxmemory", Map({"maxmemory": "104857600"})),
            ("CONFIG GET hash-max-listpack-entries", Map({"hash-max-listpack-entries": "77"})),
            ("CONFIG SET maxmemory-policy allkeys-lru", OK),
            ("CONFIG SET requirepass", wrong_arity("config|set")),
            ("CONFIG REWRITE", OK),
        )
    text = path.read_text()
    assert "# a comment that stays" in text and "maxmemory-policy allkeys-lru" in text and "hash-max-listpack-entries 77" in text
    again = private_server(conf=path)
    with again.client() as client:
        assert client("CONFIG GET maxmemory-policy") == [b"maxmemory-policy", b"allkeys-lru"]


@pytest.mark.parametrize("arguments", [["--nope", "1"], ["--timeout", "x"], ["--maxmemory-policy", "nope"], ["--port", "123456"]])
def test_a_wrong_directive_stops_the_start_with_a_message(private_server, arguments):
    server = private_server(*arguments, wait=False)
    assert server.process.wait(timeout=10) == 1
    assert server.log.read_text().strip(), "and says why"


def test_a_taken_port_stops_the_start_with_a_message(server, private_server):
    other = private_server("--port", server.port, wait=False)
    assert other.process.wait(timeout=10) == 1
    assert other.log.read_text().strip()


# ---- INFO ------------------------------------------------------------------------------------

SECTIONS = {
    "server": "redis_version redis_mode os arch_bits process_id run_id tcp_port uptime_in_seconds uptime_in_days hz executable config_file",
    "clients": "connected_clients maxclients blocked_clients tracking_clients client_recent_max_input_buffer",
    "memory": "used_memory used_memory_human used_memory_rss used_memory_peak maxmemory maxmemory_policy mem_fragmentation_ratio "
    "mem_allocator lazyfree_pending_objects mem_not_counted_for_evict",
    "persistence": "loading rdb_changes_since_last_save rdb_bgsave_in_progress rdb_last_save_time rdb_last_bgsave_status aof_enabled "
    "aof_rewrite_in_progress",
    "stats": "total_connections_received total_commands_processed instantaneous_ops_per_sec total_net_input_bytes total_net_output_bytes "
    "rejected_connections expired_keys evicted_keys keyspace_hits keyspace_misses pubsub_channels pubsub_patterns total_error_replies",
    "replication": "role connected_slaves master_replid master_repl_offset second_repl_offset repl_backlog_active repl_backlog_size",
    "cpu": "used_cpu_sys used_cpu_user",
    "cluster": "cluster_enabled",
}  # fmt: skip


@pytest.mark.parametrize("section", SECTIONS)
def test_info_has_the_fields_that_tools_read(server, c, section):
    text = c("INFO", section)
    assert text.startswith(f"# {section.title() if section != 'cpu' else 'CPU'}\r\n".encode())
    fields = server.info(section)
    missing = [name for name in SECTIONS[section].split() if name not in fields]
    assert not missing, f"INFO {section} lacks {missing}"


def test_info_sections_can_be_combined(c):
    assert c("INFO nothing-like-it") == b""
    both = c("INFO server clients")
    assert both.count(b"# ") == 2 and both.index(b"# Server") < both.index(b"# Clients")
    assert b"# Commandstats" not in c("INFO") and b"# Commandstats" in c("INFO all") and b"# Commandstats" in c("INFO everything")
    assert c("INFO default").count(b"# ") == c("INFO").count(b"# ")


def test_info_counts_hits_misses_commands_and_errors(server, c):
    c.pipeline("SET k v", "GET k", "GET k", "GET nothing", "LPUSH k x", "INCR k", "NOPE")
    stats = server.info("everything")
    assert (stats["keyspace_hits"], stats["keyspace_misses"]) == ("2", "1")
    assert stats["total_error_replies"] == "3"
    assert stats["cmdstat_get"].startswith("calls=3,usec=") and stats["cmdstat_get"].endswith("rejected_calls=0,failed_calls=0")
    assert stats["cmdstat_lpush"].endswith("failed_calls=1")
    assert stats["errorstat_WRONGTYPE"] == "count=1" and stats["errorstat_ERR"] == "count=2"
    assert c("CONFIG RESETSTAT") == OK
    stats = server.info("everything")
    assert "cmdstat_get" not in stats and "errorstat_ERR" not in stats and stats["keyspace_hits"] == "0"


def test_info_in_resp3_is_verbatim(c3):
    reply = c3("INFO server")
    assert isinstance(reply, Verbatim) and reply.format == "txt" and reply.data.startswith(b"# Server\r\n")


# ---- COMMAND ---------------------------------------------------------------------------------

test_command_info_describes_a_command = table(
    (
        "COMMAND INFO get",
        [
            [
                "get", 2, Set([Simple("readonly"), Simple("fast")]), 1, 1, 1,
                Set([Simple("@read"), Simple("@string"), Simple("@fast")]), Set([]),
                Set([
                    Map({
                        "flags": Set([Simple("RO"), Simple("access")]),
                        "begin_search": Map({"type": "index", "spec": Map({"index": 1})}),
                        "find_keys": Map({"type": "range", "spec": Map({"lastkey": 0, "keystep": 1, "limit": 0})}),
                    })
                ]),
                Set([]),
            ]
        ],
    ),  # fmt: skip
    ("COMMAND INFO nope", [NIL]),
    ("COMMAND INFO get nope mget", meeting("3 entries, the second null", lambda reply: len(reply) == 3 and not isinstance(reply[1], list))),
    ("COMMAND COUNT", between(100, 400)),
    ("COMMAND LIST FILTERBY PATTERN hincr*", unordered("hincrby", "hincrbyfloat")),
    ("COMMAND LIST FILTERBY PATTERN nope*", []),
    ("COMMAND LIST FILTERBY NOPE x", SYNTAX_ERROR),
    ("COMMAND GETKEYS get k", ["k"]),
    ("COMMAND GETKEYS mset a 1 b 2", ["a", "b"]),
    ("COMMAND GETKEYS zunionstore d 2 a b", ["d", "a", "b"]),
    ("COMMAND GETKEYS ping x", Error("ERR The command has no key arguments")),
    ("COMMAND GETKEYS nope x", Error("ERR Invalid command specified")),
    ("COMMAND GETKEYS get k x", Error("ERR Invalid number of arguments specified for command")),
    ("COMMAND GETKEYS get", wrong_arity("command|getkeys")),
    (
        "COMMAND GETKEYSANDFLAGS lmove a b LEFT LEFT",
        [
            ["a", Set([Simple("RW"), Simple("access"), Simple("delete")])],
            ["b", Set([Simple("RW"), Simple("insert")])],
        ],
    ),
    ("COMMAND HELP", help_of("COMMAND")),
)

# ---- MEMORY, SLOWLOG, LATENCY, and the small ones ---------------------------------------------

test_memory_commands = table(
    ("MEMORY USAGE nothing", NIL),
    ("SET k v", OK),
    ("MEMORY USAGE k", between(10, 200)),
    ("MEMORY USAGE k SAMPLES 0", between(10, 200)),
    ("MEMORY USAGE k SAMPLES", SYNTAX_ERROR),
    ("MEMORY USAGE k NOPE 1", SYNTAX_ERROR),
    ("MEMORY DOCTOR", is_a(bytes, Verbatim)),
    ("MEMORY PURGE", OK),
    ("MEMORY MALLOC-STATS", is_a(bytes, Verbatim)),
    ("MEMORY HELP", help_of("MEMORY")),
    ("MEMORY NOPE", Error("ERR unknown subcommand 'NOPE'. Try MEMORY HELP.")),
)


def test_memory_usage_grows_with_the_value(c):
    c.pipeline(("SET", "small", "x" * 100), ("SET", "large", "x" * 100_000), ("RPUSH", "l", *range(10_000)))
    small, large, many = c.pipeline("MEMORY USAGE small", "MEMORY USAGE large", "MEMORY USAGE l SAMPLES 0")
    assert 100 < small < 300 and 100_000 < large < 150_000 and 20_000 < many < 400_000


def test_memory_stats_is_a_map(c3):
    stats = c3("MEMORY STATS")
    assert isinstance(stats, Map)
    assert stats["total.allocated"] > 0 and stats["keys.count"] == 0


def test_slowlog_notes_slow_commands(server, c):
    assert c("SLOWLOG RESET") == OK
    with server.config(slowlog_log_slower_than=0):
        c("SET k v")
        entries = c("SLOWLOG GET 10")
        ours = next(entry for entry in entries if entry[3][:1] == [b"SET"])
        assert ours[3] == [b"SET", b"k", b"v"] and type(ours[0]) is int and ours[1] > 1_600_000_000 and ours[2] >= 0
        assert ours[4] == b"%s:%d" % (c.socket.getsockname()[0].encode(), c.socket.getsockname()[1]) and ours[5] == b""
        c(*["ECHO", "x" * 500])
        long = next(entry for entry in c("SLOWLOG GET -1") if entry[3][:1] == [b"ECHO"])
        assert long[3][1] == b"x" * 128 + b"... (372 more bytes)"
    assert c("SLOWLOG LEN") > 0
    with server.config(slowlog_log_slower_than=-1):  # on a busy machine even these may be slow
        assert c("SLOWLOG RESET") == OK and c("SLOWLOG LEN") == 0
    check(
        c,
        ("SLOWLOG GET x", Error("ERR count should be greater than or equal to -1")),
        ("SLOWLOG GET -2", Error("ERR count should be greater than or equal to -1")),
        ("SLOWLOG HELP", help_of("SLOWLOG")),
    )


def test_latency_commands(server, c):
    with server.config(latency_monitor_threshold=10):
        c("DEBUG SLEEP 0.02")
        # On a busy machine other commands and the cycles of the server may take long, too.
        latest = {row[0]: row[1:] for row in c("LATENCY LATEST")}
        assert latest[b"command"][2] >= 20
        history = c("LATENCY HISTORY command")
        # There is a sample for each second, which is that of the slowest command.
        assert max(milliseconds for _, milliseconds in history) >= 20
        moments = [moment for moment, _ in history]
        assert moments == sorted(set(moments))
    assert c("LATENCY RESET") >= 1
    check(
        c,
        ("LATENCY LATEST", []),
        ("LATENCY HISTORY nothing", []),
        ("LATENCY RESET nothing", 0),
        ("LATENCY DOCTOR", is_a(bytes, Verbatim)),
        ("LATENCY GRAPH nothing", error_like("ERR No samples available for event 'nothing'")),
        ("LATENCY HELP", help_of("LATENCY")),
    )
    c("SET k v")
    histogram = c("LATENCY HISTOGRAM set nothing")
    assert histogram[0] == b"set" and histogram[1][:2] == [b"calls", 1]


MODULES_OFF = error_like("ERR MODULE command not allowed. If the enable-module-command option is set to \"local\", .*")

test_no_module_can_be_loaded = table(
    ("MODULE LIST", []),
    ("MODULE LIST x", wrong_arity("module|list")),
    ("MODULE LOAD /nothing.so", MODULES_OFF),
    ("MODULE LOADEX /nothing.so CONFIG name value ARGS x", MODULES_OFF),
    ("MODULE UNLOAD nothing", MODULES_OFF),
    ("MODULE HELP", help_of("MODULE")),
    ("MODULE NOPE", Error("ERR unknown subcommand 'NOPE'. Try MODULE HELP.")),
)

test_small_commands = table(
    ("LOLWUT VERSION 1", is_a(bytes, Verbatim)),
    ("DEBUG OBJECT nothing", Error("ERR no such key")),
    ("DEBUG SLEEP 0", OK),
    ("DEBUG JMAP", error_like("ERR .*")),
)


covers("MEMORY|STATS", "SLOWLOG|GET", "SLOWLOG|LEN", "SLOWLOG|RESET", "LATENCY|LATEST", "LATENCY|HISTORY", "LATENCY|RESET",
    "LATENCY|HISTOGRAM", "CONFIG|SET", "CONFIG|RESETSTAT", "CONFIG|REWRITE", "DEBUG", "SLOWLOG|HELP", "LATENCY|HELP",
    "LATENCY|DOCTOR", "LATENCY|GRAPH")  # fmt: skip
