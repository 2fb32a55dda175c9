"""What a behaviour test imports: the client, the expectations, tables, servers, waiting."""

from .expect import (
    ANY,
    NOT_AN_ERROR,
    array_of,
    between,
    by_protocol,
    error_like,
    is_a,
    matching,
    meeting,
    one_of,
    unordered,
)
from .resp import (
    NIL,
    NIL_ARRAY,
    NULL,
    OK,
    BigNumber,
    Boolean,
    Client,
    ConnectionLost,
    Double,
    Error,
    Map,
    NoReply,
    Push,
    Set,
    Simple,
    Verbatim,
    encode,
    words_of,
)
from .server import Server, ServerDied
from .table import COVERED, check, covers, table
from .waiting import eventually

WRONGTYPE = Error("WRONGTYPE Operation against a key holding the wrong kind of value")
SYNTAX_ERROR = Error("ERR syntax error")
NOT_AN_INTEGER = Error("ERR value is not an integer or out of range")
NOT_A_FLOAT = Error("ERR value is not a valid float")


def wrong_arity(command):
    """The error for a wrong number of arguments; the command's name in lower case."""
    return Error(f"ERR wrong number of arguments for '{command}' command")


def help_of(command):
    """The reply of a HELP subcommand: statuses, of which only the frame is Redis's promise."""
    first = f"{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    return meeting(
        f"help_of({command!r})",
        lambda reply: type(reply) is list
        and all(type(line) is Simple for line in reply)
        and reply[0] == Simple(first)
        and reply[-2] == Simple("HELP")
        and reply[-1].startswith("    "),
    )


def scan_all(client, command, key, *options):
    """HSCAN, SSCAN or ZSCAN to the end: the items of all steps in order, and the number of steps."""
    items, cursor, steps = [], b"0", 0
    while True:
        cursor, part = client(command, key, cursor, *options)
        items += part
        steps += 1
        assert steps < 100000
        if cursor == b"0":
            return items, steps
