"""Users and what they may do."""

import pytest

from harness import *
from harness import NIL, OK


def no_command(user, command):
    return Error(f"NOPERM this user has no permissions to run the '{command}' command")


NO_KEY = Error("NOPERM this user has no permissions to access one of the keys used as arguments")
NO_CHANNEL = Error("NOPERM this user has no permissions to access one of the channels used as arguments")


@pytest.fixture
def users(server, c):
    yield c
    with server.client() as fresh:
        for name in fresh("ACL USERS"):
            if name != b"default":
                fresh("ACL", "DELUSER", name)
        fresh("ACL LOG RESET")


def test_users_come_and_go(users):
    check(
        users,
        ("ACL WHOAMI", "default"),
        ("ACL USERS", ["default"]),
        ("ACL LIST", ["user default on nopass ~* &* +@all"]),
        ("ACL SETUSER alice on >secret ~cached:* &chan* +get +set", OK),
        ("ACL USERS", unordered("default", "alice")),
        ("ACL LIST", unordered(matching("user alice on #[0-9a-f]{64} ~cached:\\* resetchannels &chan\\* -@all (\\+get \\+set|\\+set \\+get)"), matching("user default .*"))),
        ("ACL SETUSER alice nope", Error("ERR Error in ACL SETUSER modifier 'nope': Syntax error")),
        ("ACL SETUSER alice +nope", Error("ERR Error in ACL SETUSER modifier '+nope': Unknown command or category name in ACL")),
        ("ACL SETUSER alice +@nope", Error("ERR Error in ACL SETUSER modifier '+@nope': Unknown command or category name in ACL")),
        ("ACL SETUSER alice <nope", Error("ERR Error in ACL SETUSER modifier '<nope': The password you are trying to remove from the user does not exist")),
        ("ACL GETUSER nobody", NIL),
        ("ACL DELUSER nobody", 0),
        ("ACL DELUSER alice nobody", 1),
        ("ACL DELUSER default", Error("ERR The 'default' user cannot be removed")),
        ("ACL GENPASS", matching("[0-9a-f]{64}")),
        ("ACL GENPASS 5", matching("[0-9a-f]{2}")),
        ("ACL GENPASS 0", error_like("ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096")),
        ("ACL CAT", meeting("the categories", lambda r: {b"read", b"write", b"admin", b"string", b"dangerous"} <= set(r))),
        ("ACL CAT hyperloglog", unordered("pfadd", "pfcount", "pfmerge", "pfdebug", "pfselftest")),
        ("ACL CAT nope", Error("ERR Unknown category 'nope'")),
        ("ACL SAVE", error_like("ERR This Redis instance is not configured to use an ACL file.*")),
        ("ACL LOAD", error_like("ERR This Redis instance is not configured to use an ACL file.*")),
        ("ACL HELP", help_of("ACL")),
        ("ACL NOPE", Error("ERR unknown subcommand 'NOPE'. Try ACL HELP.")),
    )


def test_getuser_describes_a_user(users, connect):
    users("ACL SETUSER alice on nopass ~a* %R~b* &c* +@read -get (+set ~sel*)")
    described = {
        "flags": unordered("on", "nopass"), "passwords": [], "commands": "-@all +@read -get", "keys": "~a* %R~b*", "channels": "&c*",
        "selectors": [Map({"commands": "-@all +set", "keys": "~sel*", "channels": ""})],
    }  # fmt: skip
    described3 = dict(described, flags=meeting("the flags", lambda r: isinstance(r, Set) and set(r) == {b"on", b"nopass"}))
    check(users, ("ACL GETUSER alice", Map(described)))
    check(connect(3), ("ACL GETUSER alice", Map(described3)))


def test_a_user_may_do_what_the_rules_say_and_no_more(users, connect):
    users("ACL SETUSER alice on >secret ~cached:* &chan* +@read +set +publish +multi +exec -mget +client|id +acl|whoami")
    alice = connect()
    check(
        alice,
        ("AUTH alice wrong", Error("WRONGPASS invalid username-password pair or user is disabled.")),
        ("AUTH alice secret", OK),
        ("ACL WHOAMI", "alice"),
        ("SET cached:1 v", OK),
        ("GET cached:1", "v"),
        ("GET other", NO_KEY),
        ("EXISTS cached:1 other", NO_KEY),
        ("MGET cached:1", no_command("alice", "mget")),
        ("DEL cached:1", no_command("alice", "del")),
        ("CLIENT ID", is_a(int)),
        ("CLIENT GETNAME", no_command("alice", "client|getname")),
        ("PUBLISH chan1 x", 0),
        ("PUBLISH other x", NO_CHANNEL),
        ("MULTI", OK),
        ("SET cached:2 v", Simple("QUEUED")),
        ("DEL cached:2", no_command("alice", "del")),
        ("EXEC", Error("EXECABORT Transaction discarded because of previous errors.")),
        ("EXISTS cached:2", 0),
    )
    users("ACL SETUSER alice +del %R~ro:*")
    users("SET ro:1 v")
    check(alice, ("DEL cached:1", 1), ("GET ro:1", "v"), ("SET ro:1 w", NO_KEY))
    users("ACL SETUSER alice off")
    assert connect()("AUTH alice secret") == Error("WRONGPASS invalid username-password pair or user is disabled.")
    users("ACL DELUSER alice")
    assert alice.closed(), "a deleted user's connections end"


def test_acl_dryrun_and_log(users, connect):
    users("ACL SETUSER bob on >x ~k* +get")
    check(
        users,
        ("ACL DRYRUN bob GET k1", OK),
        ("ACL DRYRUN bob GET other", "This user has no permissions to access the 'other' key"),
        ("ACL DRYRUN bob SET k1 v", "This user has no permissions to run the 'set' command"),
        ("ACL DRYRUN nobody GET k1", Error("ERR User 'nobody' not found")),
        ("ACL DRYRUN bob nope", Error("ERR Command 'nope' not found")),
        ("ACL LOG RESET", OK),
    )
    bob = connect()
    bob("AUTH bob x")
    bob("SET k v")
    bob("GET other")
    bob("AUTH bob wrong")
    entries = users("ACL LOG")
    as_maps = [dict(zip(entry[::2], entry[1::2])) for entry in entries]
    assert [(e[b"reason"], e[b"object"], e[b"username"]) for e in as_maps] == [
        (b"auth", b"AUTH", b"bob"), (b"key", b"other", b"bob"), (b"command", b"set", b"bob"),
    ]  # fmt: skip
    assert users("ACL LOG 1") and len(users("ACL LOG 1")) == 1
    assert users("ACL LOG RESET") == OK and users("ACL LOG") == []


covers("ACL|GETUSER", "ACL|SETUSER", "ACL|DELUSER", "ACL|LIST", "ACL|USERS", "ACL|WHOAMI", "ACL|GENPASS", "ACL|CAT", "ACL|SAVE", "ACL|LOAD",
    "ACL|HELP", "ACL|DRYRUN", "ACL|LOG")  # fmt: skip


# ---- client-side caching, which is about connections as well ----------------------------------


def test_tracking_tells_when_a_read_key_changes(c, connect):
    reader = connect(3)
    assert reader("CLIENT TRACKING ON") == OK
    reader("GET k")
    c("SET k v")
    assert reader.read() == Push([b"invalidate", [b"k"]])
    c("SET k w")
    assert reader.silent(0.02), "told once, until it reads again"
    reader("MGET k j")
    c("DEL k")
    assert reader.read() == Push([b"invalidate", [b"k"]])
    c("FLUSHALL")
    assert reader.read() == Push([b"invalidate", NULL])
    assert reader("CLIENT TRACKING OFF") == OK


def test_tracking_in_broadcast_mode_tells_of_prefixes(c, connect):
    reader = connect(3)
    assert reader("CLIENT TRACKING ON BCAST PREFIX user: PREFIX item:") == OK
    c.pipeline("SET other 1", "SET user:1 v")
    assert reader.read() == Push([b"invalidate", [b"user:1"]])
    info = reader("CLIENT TRACKINGINFO")
    assert isinstance(info, Map) and b"bcast" in info["flags"] and sorted(info["prefixes"]) == [b"item:", b"user:"]


def test_tracking_by_redirection_and_opt_in(c, connect):
    listener, reader = connect(), connect()
    target = listener("CLIENT ID")
    listener("SUBSCRIBE __redis__:invalidate")
    assert reader("CLIENT", "TRACKING", "ON", "REDIRECT", target, "OPTIN") == OK
    assert reader("CLIENT GETREDIR") == target
    reader("GET unwatched")
    assert reader.pipeline("CLIENT CACHING YES", "GET k") == [OK, NIL]
    c.pipeline("SET unwatched 1", "SET k 1")
    assert listener.read() == [b"message", b"__redis__:invalidate", [b"k"]]
    check(
        c,
        ("CLIENT CACHING YES", error_like("ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled")),
        ("CLIENT TRACKING ON BCAST OPTIN", error_like("ERR OPTIN and OPTOUT are not compatible with BCAST")),
        ("CLIENT TRACKING MAYBE", SYNTAX_ERROR),
        ("CLIENT TRACKING ON REDIRECT 999999", error_like("ERR The client ID you want redirect to does not exist")),
        ("CLIENT TRACKINGINFO", is_a(list)),
    )


covers("CLIENT|TRACKING", "CLIENT|CACHING", "CLIENT|TRACKINGINFO")
