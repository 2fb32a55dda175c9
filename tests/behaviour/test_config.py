"""The configuration: every directive, the arguments of the process, files and CONFIG REWRITE."""

import subprocess

import pytest

from harness import *
from harness import OK
from harness.server import TARGETS, corelane_binary, free_port

# Directives that Redis 7.0 does not have; cluster-slot-stats-enabled is Valkey's.
OWN = {
    "shards", "cpus", "control-cpu", "pin", "busy-poll", "cluster-proxy", "shard-ports", "shard-port-base",
    "cluster-announce-shard-port-base", "cluster-slot-stats-enabled",
}  # fmt: skip


def directives_of(client):
    """All directives with their values."""
    found = client("CONFIG GET *")
    return {name.decode(): value for name, value in zip(found[::2], found[1::2])}


@pytest.fixture
def real(request):
    """A private redis-server to compare with."""
    server = Server("redis").start()
    with server.client() as client:
        yield client
    server.stop()


@pytest.mark.only("corelane-1", "corelane-3")
def test_the_directives_are_those_of_redis_and_our_own(c, real):
    assert set(directives_of(c)) == set(directives_of(real)) | OWN


# Values of every kind, right and wrong; each goes to every directive that may change at run time.
VALUES = [
    "", "yes", "no", "zz", "0", "1", "-1", "7", "01", "+1", " 7", "1.5", "1e2", "2147483648", "9223372036854775807",
    "9223372036854775808", "-9223372036854775809", "1k", "1kb", "1mb", "1GB", "1kbb", "5%", "101%", "-3%", "a b", "1 2", "1 2 3", "0 200 8000",
    "normal 1gb 2 3", "replica 1mb 2mb 60", "pubsub -1 0 0", "KEA", "Kg$lshzxetmd", "KEAy", "nosave now", "save nosave", "50 99.9", "150",
    "allkeys-lru", "ALLKEYS-LFU", "a!b", "{nope}", "master 1 2 3",
]  # fmt: skip

# What would cut this test off, is meant differently, or depends on the build or the host.
NOT_TRIED = {
    "port", "bind", "tls-port", "requirepass", "maxclients", "oom-score-adj", "oom-score-adj-values", "activedefrag", "maxmemory",
    "client-query-buffer-limit", "timeout", "tls-cluster", "tls-replication", "maxmemory-clients", "loglevel", "appendonly",
}  # fmt: skip


@pytest.mark.only("corelane-1", "corelane-3")
def test_every_directive_takes_and_refuses_the_values_that_redis_does(private_server, real):
    with private_server().client() as ours:
        differences = []
        names = sorted(set(directives_of(real)) - NOT_TRIED)
        commands = [command for name in names for value in VALUES for command in (["CONFIG", "SET", name, value], ["CONFIG", "GET", name])]
        taken = False
        for command, mine, theirs in zip(commands, ours.pipeline(*commands), real.pipeline(*commands)):
            is_set = command[1] == "SET"
            # What was refused is what it was before, and that may differ: the port, the name in syslog.
            if mine != theirs and (is_set or taken):
                differences.append(f"{command}: {mine!r}, redis {theirs!r}")
            taken = is_set and theirs == OK
        assert not differences, f"{len(differences)} differences\n" + "\n".join(differences[:40])


test_values_are_shown_in_their_canonical_form = table(
    ("CONFIG SET maxmemory-clients 5%", OK),
    ("CONFIG GET maxmemory-clients", Map({"maxmemory-clients": "5%"})),
    ("CONFIG SET maxmemory-clients 0", OK),
    ("CONFIG SET notify-keyspace-events KEA", OK),
    ("CONFIG GET notify-keyspace-events", Map({"notify-keyspace-events": "AKE"})),
    ("CONFIG SET notify-keyspace-events ''", OK),
    ("CONFIG SET save '3600 1 300 100'", OK),
    ("CONFIG GET save", Map({"save": "3600 1 300 100"})),
    ("CONFIG SET save ''", OK),
    ("CONFIG GET save", Map({"save": ""})),
    ("CONFIG SET hz 501", OK),
    ("CONFIG GET hz", Map({"hz": "500"})),
    ("CONFIG SET hz 10", OK),
    ("CONFIG SET client-output-buffer-limit 'replica 1mb 2mb 3'", OK),
    (
        "CONFIG GET client-output-buffer-limit",
        Map({"client-output-buffer-limit": "normal 0 0 0 slave 1048576 2097152 3 pubsub 33554432 8388608 60"}),
    ),
    ("CONFIG SET client-output-buffer-limit 'slave 256mb 64mb 60'", OK),
)

test_both_names_of_a_directive_may_be_set_at_once_and_the_last_wins = table(
    ("CONFIG SET replica-priority 1 slave-priority 2", OK),
    ("CONFIG GET *-priority", Map({"replica-priority": "2", "slave-priority": "2"})),
    ("CONFIG SET slave-priority 100", OK),
)

test_directives_that_stay_as_they_are_say_so = table(
    ("CONFIG SET daemonize yes", Error("ERR CONFIG SET failed (possibly related to argument 'daemonize') - can't set immutable config")),
    ("CONFIG SET dbfilename x", Error("ERR CONFIG SET failed (possibly related to argument 'dbfilename') - can't set protected config")),
    ("CONFIG SET dir /", Error("ERR CONFIG SET failed (possibly related to argument 'dir') - can't set protected config")),
    ("CONFIG SET hz 20 daemonize yes", error_like("ERR .*immutable config")),
    ("CONFIG GET hz", Map({"hz": "10"})),
)


def test_protected_directives_can_be_opened(private_server):
    server = private_server("--enable-protected-configs", "local")
    with server.client() as client:
        check(
            client,
            ("CONFIG SET dbfilename other.rdb", OK),
            ("CONFIG GET dbfilename", Map({"dbfilename": "other.rdb"})),
            ("CONFIG SET dbfilename a/b", error_like(".*dbfilename can't be a path, just a filename")),
            ("CONFIG SET dir /nonexistent-directory", error_like(".* - No such file or directory")),
        )


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--save", "3600", "1", "--save", "60", "100"], {"save": "3600 1 60 100"}),
        (["--save", ""], {"save": ""}),
        (["--save", "900 1 300 10"], {"save": "900 1 300 10"}),
        (["--client-output-buffer-limit", "pubsub", "1mb", "1mb", "5"], {"client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 1048576 1048576 5"}),
        (["--maxmemory 1gb", "--MAXMEMORY-policy", "allkeys-lfu"], {"maxmemory": "1073741824", "maxmemory-policy": "allkeys-lfu"}),
        (["--hash-max-ziplist-entries", "9"], {"hash-max-listpack-entries": "9"}),
        (["--hz", "5", "--hz", "7"], {"hz": "7"}),
        (["--masterauth", "--secret"], {"masterauth": "--secret"}),
    ],
)  # fmt: skip
def test_arguments_are_directives(private_server, arguments, expected):
    with private_server(*arguments).client() as client:
        for name, value in expected.items():
            assert client("CONFIG", "GET", name) == [name.encode(), value.encode()]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--port"], "wrong number of arguments"),
        (["--hz", "1", "2"], "wrong number of arguments"),
        (["--hz", "x"], "argument couldn't be parsed into an integer"),
        (["--databases", "0"], "argument must be between 1 and 2147483647 inclusive"),
        (["--maxmemory", "x"], "argument must be a memory value"),
        (["--appendonly", "maybe"], "argument must be 'yes' or 'no'"),
        (["--loglevel", "loud"], "argument(s) must be one of the following: debug, verbose, notice, warning"),
        (["--save", "1"], "Invalid save parameters"),
        (["--unixsocketperm", "9"], "argument couldn't be parsed as an octal number"),
        (["--maxmemroy", "1"], "Bad directive or wrong number of arguments"),
        (["--include", "/nonexistent-file"], "can't open config file '/nonexistent-file': No such file or directory"),
    ],
)
def test_a_mistake_in_the_arguments_stops_the_start_and_is_named(private_server, arguments, message):
    server = private_server(*arguments, wait=False)
    assert server.process.wait(timeout=10) == 1
    assert message in server.log.read_text()


@pytest.mark.only("corelane-1")
def test_a_misspelt_directive_is_answered_with_the_nearest_one(private_server):
    server = private_server("--maxmemroy", "1", wait=False)
    assert server.process.wait(timeout=10) == 1
    assert "did you mean 'maxmemory'?" in server.log.read_text()


def test_a_file_may_quote_comment_and_include(private_server, tmp_path):
    (tmp_path / "a.inc").write_text("hz 11\n")
    (tmp_path / "b.inc").write_text("hz 12\nMAXMEMORY 1mb\n")
    path = tmp_path / "server.conf"
    path.write_text(f"# comment\n\n  timeout   7  \nrequirepass \"a b\\x63\"\ninclude {tmp_path}/*.inc\nmasteruser 'it\\'s'\n")
    server = private_server(conf=path)
    server.password = "a bc"
    with server.client() as client:
        check(
            client,
            ("CONFIG GET timeout", Map({"timeout": "7"})),
            ("CONFIG GET requirepass", Map({"requirepass": "a bc"})),
            ("CONFIG GET hz", Map({"hz": "12"})),
            ("CONFIG GET maxmemory", Map({"maxmemory": "1048576"})),
            ("CONFIG GET masteruser", Map({"masteruser": "it's"})),
        )


def test_a_mistake_in_a_file_is_named_with_its_line(private_server, tmp_path):
    path = tmp_path / "server.conf"
    path.write_text("timeout 1\n\nhz fast\n")
    server = private_server(conf=path, wait=False)
    assert server.process.wait(timeout=10) == 1
    log = server.log.read_text()
    assert "at line 3" in log and ">>> 'hz fast'" in log and "argument couldn't be parsed into an integer" in log


def test_rewrite_keeps_the_file_in_order_and_appends_what_is_new(private_server, tmp_path):
    path = tmp_path / "server.conf"
    path.write_text("# first\nhz 10\nslave-priority 50\n\n# second\nmaxmemory 1mb\nmaxmemory 2mb\ntimeout 3\n")
    server = private_server(conf=path)
    with server.client() as client:
        assert client("CONFIG", "SET", "timeout", "0", "lfu-decay-time", "5", "masterauth", 'a "b"') == OK
        assert client("CONFIG REWRITE") == OK
    lines = path.read_text().split("\n")
    kept = [line for line in lines if line.split(" ")[0] in ("#", "hz", "replica-priority", "maxmemory", "timeout")]
    expected = ["# first", "hz 10", "replica-priority 50", "# second", "maxmemory 2mb", "timeout 0", "# Generated by CONFIG REWRITE"]
    assert kept == expected
    assert lines.index("lfu-decay-time 5") > lines.index("# Generated by CONFIG REWRITE")
    assert 'masterauth "a \\"b\\""' in lines
    again = private_server(conf=path)
    with again.client() as client:
        assert client("CONFIG GET masterauth") == [b"masterauth", b'a "b"']


def run_to_end(target, *arguments):
    """What the program prints, and how it ends."""
    program = TARGETS[target]()[0] if target == "redis" else corelane_binary()
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=10)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("word", ["-v", "--version", "-h", "--help"])
def test_version_and_help_are_printed_and_nothing_starts(target, word):
    code, text = run_to_end(target, word)
    assert text.strip()
    if target != "redis":  # redis-server ends with 1 after --help
        assert code == 0
        wanted = "7.0.15" if word.startswith(("-v", "--v")) else "--maxmemory-policy noeviction"
        assert wanted in text


@pytest.mark.only("corelane-1")
def test_the_configuration_can_come_from_standard_input():
    done = subprocess.run([corelane_binary(), "-"], input="hz fast\n", capture_output=True, text=True, timeout=10)
    assert done.returncode == 1 and ">>> 'hz fast'" in done.stdout + done.stderr


covers("CONFIG|GET", "CONFIG|HELP")


def test_port_and_bind_can_be_changed_and_a_failure_changes_nothing(private_server, server):
    changed = private_server()
    first, second = changed.port, free_port()
    with changed.client() as client:
        assert client("CONFIG", "SET", "port", second) == OK
        with Client(second) as other:
            assert other("PING") == Simple("PONG")
        with pytest.raises(ConnectionLost):
            Client(first)
        assert client("PING") == Simple("PONG"), "open connections stay"
        check(
            client,
            (
                f"CONFIG SET port {server.port}",
                Error("ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port. Check server logs."),
            ),
            (f"CONFIG SET port {first}", OK),
            ("CONFIG SET bind '127.0.0.1 127.0.0.2'", OK),
            (
                "CONFIG SET bind 192.0.2.1",
                Error("ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind to specified addresses."),
            ),
            ("CONFIG GET bind", Map({"bind": "127.0.0.1 127.0.0.2"})),
        )
    with Client(first, host="127.0.0.2") as other:
        assert other("PING") == Simple("PONG")
    with pytest.raises(ConnectionLost):
        Client(second)
