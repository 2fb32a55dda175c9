"""What belongs to a connection rather than to a key: greeting, passwords, names, limits."""

import contextlib
import signal
import time

import pytest

from harness import *
from harness import NIL, OK

NOAUTH = Error("NOAUTH Authentication required.")
WRONGPASS = Error("WRONGPASS invalid username-password pair or user is disabled.")


test_ping_and_echo = table(
    ("PING", Simple("PONG")),
    ("PING hello", "hello"),
    (("PING", b"\x00\xff"), b"\x00\xff"),
    ("PING a b", wrong_arity("ping")),
    ("ECHO hello", "hello"),
    (("ECHO", ""), ""),
    ("ECHO", wrong_arity("echo")),
    ("ECHO a b", wrong_arity("echo")),
)

test_an_unknown_command_is_named_with_its_arguments = table(
    ("NOPE", Error("ERR unknown command 'NOPE', with args beginning with: ")),
    ("nope a b", Error("ERR unknown command 'nope', with args beginning with: 'a' 'b' ")),
    (("nope", "a\r\nb"), Error("ERR unknown command 'nope', with args beginning with: 'a  b' ")),
    (
        ("n" * 200, "a" * 200, "b"),
        Error(f"ERR unknown command '{'n' * 128}', with args beginning with: '{'a' * 128}' "),
    ),
    (("",), Error("ERR unknown command '', with args beginning with: ")),
    ("CLIENT NOPE", Error("ERR unknown subcommand 'NOPE'. Try CLIENT HELP.")),
    ("CLIENT", wrong_arity("client")),
    ("CONFIG nope x", Error("ERR unknown subcommand 'nope'. Try CONFIG HELP.")),
    ("PiNg", Simple("PONG")),
)

test_hello_and_auth_errors = table(
    ("HELLO 4", Error("NOPROTO unsupported protocol version")),
    ("HELLO 1", Error("NOPROTO unsupported protocol version")),
    ("HELLO x", Error("ERR Protocol version is not an integer or out of range")),
    ("HELLO 3 AUTH a", Error("ERR Syntax error in HELLO option 'AUTH'")),
    ("HELLO 3 SETNAME", Error("ERR Syntax error in HELLO option 'SETNAME'")),
    ("HELLO 3 QQ", Error("ERR Syntax error in HELLO option 'QQ'")),
    ("HELLO 2 AUTH default wrong", one_of(WRONGPASS, is_a(Map, list))),
    ("HELLO 2 AUTH nobody x", WRONGPASS),
    (
        ("HELLO", "2", "SETNAME", "with space"),
        Error("ERR Client names cannot contain spaces, newlines or special characters."),
    ),
    (
        "AUTH x",
        Error(
            "ERR AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?"
        ),
    ),
    ("AUTH nobody x", WRONGPASS),
    ("AUTH default anything", OK),  # nopass
    ("AUTH", wrong_arity("auth")),
    ("AUTH a b c", SYNTAX_ERROR),
)


def test_hello_describes_the_server_and_switches_the_protocol(c):
    described = {
        "server": "redis", "version": matching(r"7\.\d+\.\d+"), "proto": 3, "id": is_a(int), "mode": "standalone",
        "role": "master", "modules": [],
    }  # fmt: skip
    reply = c("HELLO")
    assert type(reply) is list and reply[::2] == [key.encode() for key in described]
    assert reply[5] == 2, "HELLO without a version changes nothing"
    reply = c("HELLO 3")
    c.protocol = 3
    check(c, ("HELLO 3", Map(described)), ("GET nothing", NIL), ("HELLO 3 SETNAME me", Map(described)))
    assert c("CLIENT GETNAME") == b"me"
    assert type(c("HELLO 2")) is list
    c.protocol = 2
    check(c, ("GET nothing", NIL))


def test_select_is_per_connection(c, connect):
    other = connect()
    c("SELECT 1")
    c("SET k one")
    assert other("GET k") == NIL
    other("SELECT 1")
    assert other("GET k") == b"one"


def test_quit_answers_ok_and_closes(c):
    c.raw(encode("SET", "k", "v") + encode("QUIT") + encode("SET", "k", "w"))
    assert [c.read(), c.read()] == [OK, OK]
    assert c.closed()


def test_what_comes_after_quit_does_not_run(c, connect):
    c.raw(encode("QUIT") + encode("SET", "k", "w"))
    assert c.rest() == b"+OK\r\n"
    assert connect()("EXISTS k") == 0


def test_reset_makes_a_connection_as_new(c, connect):
    c("HELLO 3")
    c("CLIENT SETNAME me")
    c("SELECT 3")
    assert c("RESET") == Simple("RESET")
    c.protocol = 2
    c.socket.setblocking(True)
    check(
        c,
        ("GET nothing", NIL),  # RESP2 again
        ("SET k v", OK),
        ("CLIENT GETNAME", NIL),
        ("RESET x", wrong_arity("reset")),
    )
    assert connect()("GET k") == b"v", "RESET returns to database 0"


covers("QUIT", "RESET")


# ---- passwords -------------------------------------------------------------------------------


@pytest.fixture
def locked(private_server):
    server = private_server("--requirepass", "secret")
    server.password = "secret"
    return server


def test_requirepass_lets_nothing_through_before_auth(locked):
    with locked.client(password=None) as client:
        check(
            client,
            ("GET k", NOAUTH),
            ("PING", NOAUTH),
            ("SELECT 1", NOAUTH),
            ("COMMAND COUNT", NOAUTH),
            ("NOPE", Error("ERR unknown command 'NOPE', with args beginning with: ")),
            ("GET", wrong_arity("get")),
            (
                "HELLO 3",
                Error(
                    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "
                    "AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol "
                    "version at the same time"
                ),
            ),
            ("AUTH wrong", WRONGPASS),
            ("GET k", NOAUTH),
            ("AUTH default wrong", WRONGPASS),
            ("AUTH secret", OK),
            ("GET k", NIL),
            ("AUTH wrong", WRONGPASS),
            ("GET k", NIL),  # a failed AUTH does not undo an earlier one
            ("AUTH default secret", OK),
            ("RESET", Simple("RESET")),
            ("GET k", NOAUTH),
            ("HELLO 2 AUTH default wrong", WRONGPASS),
            ("HELLO 2 AUTH default secret SETNAME me", is_a(list)),
            ("CLIENT GETNAME", "me"),
            ("QUIT", OK),
        )
    with locked.client(password=None) as client:
        assert client("QUIT") == OK and client.closed()


def test_an_unauthenticated_client_cannot_send_large_requests(locked):
    """Before AUTH only small requests are read, so that strangers cannot fill the memory."""
    with locked.client(password=None) as client:
        client.raw(b"*11\r\n")
        assert client.rest() == b"-ERR Protocol error: unauthenticated multibulk length\r\n"
    with locked.client(password=None) as client:
        client.raw(b"*2\r\n$16385\r\n")
        assert client.rest() == b"-ERR Protocol error: unauthenticated bulk length\r\n"


def test_requirepass_can_be_set_and_cleared_while_running(private_server):
    server = private_server()
    with server.client() as old:
        assert old("CONFIG SET requirepass new") == OK
        assert old("PING") == Simple("PONG"), "who is in stays in"
        with server.client() as stranger:
            assert stranger("PING") == NOAUTH
            assert stranger("AUTH new") == OK
        assert old("CONFIG", "SET", "requirepass", "") == OK
        with server.client() as guest:
            assert guest("PING") == Simple("PONG")


# ---- CLIENT ----------------------------------------------------------------------------------

test_client_names = table(
    ("CLIENT GETNAME", NIL),
    ("CLIENT SETNAME alice", OK),
    ("CLIENT GETNAME", "alice"),
    (("CLIENT", "SETNAME", "a b"), Error("ERR Client names cannot contain spaces, newlines or special characters.")),
    (("CLIENT", "SETNAME", "a\n"), Error("ERR Client names cannot contain spaces, newlines or special characters.")),
    ("CLIENT GETNAME", "alice"),
    (("CLIENT", "SETNAME", ""), OK),
    ("CLIENT GETNAME", NIL),
    ("CLIENT SETNAME", wrong_arity("client|setname")),
    ("CLIENT GETNAME x", wrong_arity("client|getname")),
    ("CLIENT ID", is_a(int)),
    ("CLIENT ID x", wrong_arity("client|id")),
    ("CLIENT HELP", help_of("CLIENT")),
)

test_client_no_evict_and_reply_errors = table(
    ("CLIENT NO-EVICT on", OK),
    ("CLIENT NO-EVICT OFF", OK),
    ("CLIENT NO-EVICT maybe", SYNTAX_ERROR),
    ("CLIENT NO-EVICT", wrong_arity("client|no-evict")),
    ("CLIENT REPLY on", OK),
    ("CLIENT REPLY maybe", SYNTAX_ERROR),
    ("CLIENT REPLY", wrong_arity("client|reply")),
)


def test_client_ids_grow(connect):
    first, second = connect(), connect()
    assert first("CLIENT ID") < second("CLIENT ID")
    assert first("CLIENT ID") == first("CLIENT ID")


@covers("CLIENT|SETINFO", "CLIENT|NO-TOUCH")
def test_client_setinfo_is_newer_than_redis_7_0(server, c):
    """Libraries send it unasked and ignore the error; Corelane takes it, as Redis 7.2 does."""
    if server.is_redis:
        assert c("CLIENT SETINFO LIB-NAME x") == Error("ERR unknown subcommand 'SETINFO'. Try CLIENT HELP.")
    else:
        check(
            c,
            ("CLIENT SETINFO LIB-NAME redis-py", OK),
            ("CLIENT SETINFO lib-ver 1.2.3", OK),
            (("CLIENT", "SETINFO", "LIB-NAME", "a b"), Error("ERR lib-name cannot contain spaces, newlines or special characters.")),
            ("CLIENT SETINFO nope x", Error("ERR Unrecognized option 'nope'")),
            ("CLIENT NO-TOUCH on", OK),
            ("CLIENT NO-TOUCH off", OK),
        )


def fields_of(line):
    return dict(field.split("=", 1) for field in line.decode().rstrip("\n").split(" "))


def test_client_info_describes_this_connection(server, c):
    c("SELECT 2")
    c("CLIENT SETNAME bob")
    line = c("CLIENT INFO")
    assert line.endswith(b"\n")
    fields = fields_of(line)
    names = (
        "id addr laddr fd name age idle flags db sub psub ssub multi qbuf qbuf-free argv-mem multi-mem rbs rbp obl "
        "oll omem tot-mem events cmd user redir resp"
    ).split()
    assert list(fields) == names + ([] if server.is_redis else ["lib-name", "lib-ver"])  # as in Redis 7.2
    host, port = c.socket.getsockname()
    assert fields["addr"] == f"{host}:{port}"
    assert fields["laddr"] == "127.0.0.1:%d" % c.socket.getpeername()[1]
    for name, value in [
        ("id", str(c("CLIENT ID"))), ("name", "bob"), ("db", "2"), ("flags", "N"), ("cmd", "client|info"), ("user", "default"),
        ("resp", "2"), ("sub", "0"), ("multi", "-1"), ("redir", "-1"),
    ]:  # fmt: skip
        assert fields[name] == value, name


def test_client_list_shows_all_connections(c, connect):
    other = connect(3)
    other("CLIENT SETNAME other")
    lines = c("CLIENT LIST").decode().splitlines()
    by_name = {fields_of(line.encode())["name"]: fields_of(line.encode()) for line in lines}
    assert by_name["other"]["resp"] == "3"
    ids = [c("CLIENT ID"), other("CLIENT ID")]
    listed = c("CLIENT", "LIST", "ID", *ids, 999999).decode().splitlines()
    assert [int(fields_of(line.encode())["id"]) for line in listed] == ids
    check(
        c,
        ("CLIENT LIST TYPE pubsub", matching("")),
        ("CLIENT LIST TYPE replica", matching("")),
        ("CLIENT LIST TYPE normal", matching(".*name=other.*")),
        ("CLIENT LIST TYPE nope", Error("ERR Unknown client type 'nope'")),
        ("CLIENT LIST ID x", Error("ERR Invalid client ID")),
        ("CLIENT LIST ID", SYNTAX_ERROR),
        ("CLIENT LIST nope", SYNTAX_ERROR),
    )


def test_client_kill_by_id_address_and_filter(server, c, connect):
    def settled():
        """A connection that the server has surely accepted."""
        client = connect()
        client("PING")
        return client

    victim = settled()
    address = "%s:%d" % victim.socket.getsockname()
    assert c("CLIENT", "KILL", address) == OK
    assert victim.closed()
    victim = settled()
    assert c("CLIENT", "KILL", "ID", victim("CLIENT ID")) == 1
    assert victim.closed()
    victim = settled()
    address = "%s:%d" % victim.socket.getsockname()
    assert c("CLIENT", "KILL", "ADDR", address, "SKIPME", "yes") == 1
    assert victim.closed()
    check(
        c,
        ("CLIENT KILL 1.2.3.4:5", Error("ERR No such client")),
        ("CLIENT KILL ID 999999", 0),
        ("CLIENT KILL ID x", Error("ERR client-id should be greater than 0")),
        ("CLIENT KILL ID 0", Error("ERR client-id should be greater than 0")),
        ("CLIENT KILL TYPE nope", Error("ERR Unknown client type 'nope'")),
        ("CLIENT KILL TYPE pubsub", 0),
        ("CLIENT KILL USER nobody", Error("ERR No such user 'nobody'")),
        ("CLIENT KILL SKIPME maybe", SYNTAX_ERROR),
        ("CLIENT KILL ID", Error("ERR No such client")),  # the old form: an address called ID
        ("CLIENT KILL", wrong_arity("client|kill")),
    )


def test_client_may_kill_itself_and_still_gets_the_reply(c):
    own = c("CLIENT ID")
    assert c("CLIENT", "KILL", "ID", own) == 0, "SKIPME is the default"
    assert c("CLIENT", "KILL", "ID", own, "SKIPME", "no") == 1
    assert c.closed()


def test_client_reply_off_and_skip_silence_replies_only(c):
    c.raw(encode("CLIENT", "REPLY", "OFF") + encode("SET", "k", "v") + encode("NOPE") + encode("CLIENT", "REPLY", "ON"))
    assert c.read() == OK
    assert c("GET k") == b"v"
    c.raw(encode("CLIENT", "REPLY", "SKIP") + encode("SET", "k", "w") + encode("GET", "k"))
    assert c.read() == b"w"


covers("CLIENT INFO", "CLIENT LIST", "CLIENT KILL")


# ---- limits ----------------------------------------------------------------------------------


def test_maxclients_turns_away_the_next_and_keeps_serving(private_server):
    server = private_server("--maxclients", "5")
    clients = [server.client() for _ in range(5)]
    assert [client("PING") for client in clients] == [Simple("PONG")] * 5
    with server.client() as one_too_many:
        assert one_too_many.rest() == b"-ERR max number of clients reached\r\n"
    assert clients[0]("PING") == Simple("PONG")
    clients.pop().close()

    def place_is_free():
        with contextlib.suppress(ConnectionLost), server.client() as again:
            # Who is turned away may find the connection reset before it has read why.
            return again("PING") == Simple("PONG")

    eventually(place_is_free)
    assert server.info("stats")["rejected_connections"] != "0"
    assert clients[0]("CONFIG SET maxclients 3") == OK, "lowering it closes nobody"
    assert [client("PING") for client in clients] == [Simple("PONG")] * 4


def test_who_closes_a_connection_finds_its_place_free(private_server):
    server = private_server("--maxclients", "4")
    clients = [server.client() for _ in range(4)]
    for _ in range(50):
        clients.pop().close()
        assert clients[0]("PING") == Simple("PONG")  # Redis frees the place before its next round of events
        clients.append(server.client())
        assert clients[-1]("PING") == Simple("PONG")
    with server.client() as one_too_many:
        assert one_too_many.rest() == b"-ERR max number of clients reached\r\n"


def test_timeout_closes_idle_connections_only(server, connect):
    with server.config(timeout=1):
        idle, busy = connect(), connect()

        def idle_is_gone():
            assert busy("PING") == Simple("PONG")
            try:
                return idle.silent(0.05) is False and idle.closed()
            except ConnectionLost:
                return True

        eventually(idle_is_gone)
        assert busy("PING") == Simple("PONG")


def test_timeout_spares_blocked_and_subscribed_clients(server, connect):
    with server.config(timeout=1):
        idle, busy = connect(), connect()
        blocked = connect()
        blocked.send("BLPOP l 0")
        subscribed = connect()
        assert subscribed("SUBSCRIBE ch") == [b"subscribe", b"ch", 1]

        def idle_is_gone():
            assert busy("PING") == Simple("PONG")
            try:
                return idle.silent(0.05) is False and idle.closed()
            except ConnectionLost:
                return True

        eventually(idle_is_gone)
        assert busy("RPUSH l x") == 1
        assert blocked.read() == [b"l", b"x"]
        assert busy("PUBLISH ch hello") == 1
        assert subscribed.read() == [b"message", b"ch", b"hello"]


def test_protected_mode_lets_the_loopback_in(private_server):
    server = private_server("--protected-mode", "yes")
    with server.client() as client:
        check(client, ("PING", Simple("PONG")), ("CONFIG GET protected-mode", Map({"protected-mode": "yes"})))


def test_a_thousand_connections_come_and_go(server):
    for _ in range(5):
        clients = [server.client() for _ in range(200)]
        for client in clients:
            client.send("PING")
        assert [client.read() for client in clients] == [Simple("PONG")] * 200
        for client in clients:
            client.close()
    eventually(lambda: int(server.info("clients")["connected_clients"]) < 10)


def test_connections_refused_by_reset_leave_no_trace(server):
    """A peer that vanishes with a TCP reset, its replies unread, must not disturb anybody."""
    import socket
    import struct

    for _ in range(50):
        client = server.client()
        client.raw(encode("PING") * 100)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    eventually(lambda: int(server.info("clients")["connected_clients"]) < 10)


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_signal_ends_the_server_cleanly(private_server, with_signal):
    server = private_server()
    with server.client() as client:
        client("SET k v")
        server.kill(with_signal)
        assert client.closed()
    assert server.process.returncode == 0


def test_shutdown_nosave_closes_the_connection_and_ends_with_zero(private_server):
    server = private_server()
    with server.client() as client:
        assert client("SHUTDOWN maybe") == SYNTAX_ERROR
        client.send("SHUTDOWN NOSAVE")
        assert client.closed()
    assert server.process.wait(timeout=10) == 0


covers("SHUTDOWN", "INFO", "SUBSCRIBE", "PUBLISH")


@covers("CLIENT|PAUSE", "CLIENT|UNPAUSE")
def test_client_pause_write_holds_writes_and_lets_reads_pass(c, connect):
    writer, reader = connect(), connect()
    c("SET k old")
    assert c("CLIENT PAUSE 60000 WRITE") == OK
    writer.send("SET k new")
    assert reader("GET k") == b"old"
    assert writer.silent()
    assert c("CLIENT UNPAUSE") == OK
    assert writer.read() == OK
    assert reader("GET k") == b"new"


def test_client_pause_all_ends_by_itself(c, connect):
    reader = connect()
    began = time.monotonic()
    assert c("CLIENT PAUSE 200") == OK
    assert reader("GET k") == NIL
    assert time.monotonic() - began >= 0.19


def test_a_pause_holds_blocks_and_scripts_that_write_and_nothing_expires(c, connect):
    writer, script, reader = connect(), connect(), connect()
    c("SET", "k", "v", "PX", 1000)
    assert writer.pipeline("MULTI", "GET k") == [OK, Simple("QUEUED")]
    assert c("CLIENT", "PAUSE", 60000, "WRITE") == OK
    assert writer("GET k") == Simple("QUEUED")
    script.send("EVAL", "return redis.call('GET', KEYS[1])", 1, "other")
    assert script.silent()
    # Its time is over, but it may not go before the pause does.
    eventually(lambda: reader("GET k") == NIL)
    assert reader("DBSIZE") == 1
    assert writer("EXEC") == [NIL, NIL]
    assert c("CLIENT", "UNPAUSE") == OK
    assert script.read() == NIL
    eventually(lambda: reader("DBSIZE") == 0)


test_client_pause_errors = table(
    ("CLIENT PAUSE x", Error("ERR timeout is not an integer or out of range")),
    ("CLIENT PAUSE -1", Error("ERR timeout is negative")),
    ("CLIENT PAUSE 1 maybe", Error("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    ("CLIENT UNPAUSE", OK),
)
