"""What must hold for every command that a server says it has."""

import importlib
import pathlib
import random

import pytest

from harness import *
from harness import COVERED, OK


def commands_of(client):
    """Name and arity of every command and subcommand, as the server lists them."""
    found = {}

    def note(rows):
        for row in rows:
            found[row[0].decode()] = row[1]
            note(row[9])

    note(client("COMMAND"))
    return found


@pytest.mark.only("corelane-1", "corelane-3")
def test_every_command_of_corelane_has_a_behaviour_test(c):
    for file in pathlib.Path(__file__).parent.glob("test_*.py"):
        importlib.import_module(file.stem)
    uncovered = sorted(name for name in commands_of(c) if name.upper() not in COVERED)
    assert not uncovered, f"{len(uncovered)} commands without a row in any behaviour test: {' '.join(uncovered)}"


def test_command_list_count_and_docs_agree(c):
    commands = commands_of(c)
    top = {name for name in commands if "|" not in name}
    assert c("COMMAND COUNT") == len(top)
    assert {name.decode() for name in c("COMMAND LIST")} == set(commands)
    documented = c("COMMAND DOCS")
    assert {name.decode() for name in documented[::2]} == top


def test_every_command_counts_its_arguments(c):
    """Too few and, where the number is fixed, too many words get the error that names the command."""
    for name, arity in sorted(commands_of(c).items()):
        words = name.split("|")
        short = abs(arity) - 1
        tries = [words + ["x"] * (short - len(words))] if len(words) <= short else []
        if arity > 0:
            tries.append(words + ["x"] * (arity + 1 - len(words)))
        expected = wrong_arity(name)
        if name == "exec":  # whoever sends EXEC must learn that nothing was executed
            expected = Error("EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command")
        for command in tries:
            assert c(*command) == expected, command


# Left out because they end, block, redirect or lock the server or the connection by design, or take seconds (PFSELFTEST).
NOT_FUZZED = (
    "acl auth bgrewriteaof bgsave blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax bzpopmin client cluster config debug failover "
    "hello migrate module monitor psubscribe psync pubsub quit replconf replicaof reset save script shutdown slaveof ssubscribe subscribe "
    "sync unsubscribe punsubscribe sunsubscribe wait waitaof xread xreadgroup asking readonly readwrite latency function restore-asking "
    "command command|docs command|info pfselftest"
).split()  # fmt: skip

WORDS = [
    "s", "l", "h", "set", "i", "z", "x", "n", "nothing", "a", "f", "0", "1", "-1", "2", "10", "1.5", "inf", "-inf", "nan", "",
    "9223372036854775807", "-9223372036854775808", "99999999999999999999", "1e400", "(1", "[a", "-", "+", "*", "$", ">", "1-1", "0-0", "u8",
    "i64", "#1", "NX", "XX", "GT", "LT", "CH", "INCR", "EX", "PX", "GET", "KEEPTTL", "WITHSCORES", "WITHVALUES", "LIMIT", "COUNT", "MATCH",
    "STORE", "BY", "ALPHA", "ASC", "DESC", "REV", "BYSCORE", "BYLEX", "LEFT", "RIGHT", "BEFORE", "AFTER", "WEIGHTS", "AGGREGATE", "SUM",
    "MIN", "MAX", "MAXLEN", "MINID", "~", "=", "AND", "XOR", "NOT", "SET", "INCRBY", "OVERFLOW", "WRAP", "REPLACE", "DB", "IDX", "LEN",
    "FROMMEMBER", "FROMLONLAT", "BYRADIUS", "BYBOX", "km", "m", "STREAMS", "GROUP", "CREATE", "MKSTREAM", "IDLE", "FORCE", "JUSTID",
    b"\x00\xff", "x" * 100, "TYPE", "string", "RANK", "BYTE", "BIT", "FREQ", "ENCODING", "USAGE",
]  # fmt: skip

FILLED = (
    ("SET s 5", OK),
    ("SET n 10", OK),
    ("RPUSH l a b 3", 3),
    ("HSET h f 1 g v", 2),
    ("SADD set a b c", 3),
    ("SADD i 1 2 3", 3),
    ("ZADD z 1 a 2 b 3 c", 3),
    ("XADD x 1-1 f v", "1-1"),
    ("XGROUP CREATE x g 0", OK),
)


def test_no_command_is_felled_by_random_words(server, c):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    commands = {name: arity for name, arity in commands_of(c).items() if not {name, name.split("|")[0]} & set(NOT_FUZZED)}
    names = sorted(commands)
    for _ in range(25):
        c("RESET")
        c("FLUSHALL")
        check(c, *FILLED)
        batch = []
        for _ in range(100):
            name = rng.choice(names)
            words = name.split("|")
            count = max(0, abs(commands[name]) - len(words) + (rng.choice([0, 0, 1, 2, 4]) if commands[name] < 0 else 0))
            batch.append([*words, *(rng.choice(WORDS) for _ in range(count))])
        try:
            c.pipeline(*batch)
        except (ConnectionLost, NoReply) as trouble:
            server.assert_alive()
            raise AssertionError(f"{trouble} within {batch}") from trouble
    assert c("RESET") == Simple("RESET")


covers("COMMAND", "COMMAND COUNT", "COMMAND LIST", "COMMAND DOCS", "RESET")
