"""What a server writes down of a command: the records of its append-only file.

A record is a command that does the same wherever and whenever it is run: SPOP becomes SREM, EXPIRE becomes
PEXPIREAT. With `appendfsync always` the records of a command are in the file when its reply comes.

Tests are tables again. A row is a command and the records that it must leave:

    "SET k v"                                      the command itself
    ("SET k v EX 100", "SET k v PXAT <now+100000>")    this instead
    ("SPOP s", "SREM s <reply>")                   with the word of the reply
    ("SADD s a",)                                  nothing

`<now+N>` stands for a unix time in ms that lies N ms behind the moment of the command; `<reply>` for the reply,
`<0>`, `<1>` for its elements; `<id>` for any id of a stream.
"""

import inspect
import re
import time

from .resp import OK, words_of
from .server import Server
from .table import _note
from .waiting import eventually

TIME_TOLERANCE_MS = 5000
DEFAULTS = {
    "stream-node-max-entries": 100,
    "stream-node-max-bytes": 4096,
    "lazyfree-lazy-expire": "no",
    "lazyfree-lazy-user-del": "no",
    "lazyfree-lazy-server-del": "no",
    "lazyfree-lazy-eviction": "no",
    "maxmemory": 0,
    "maxmemory-policy": "noeviction",
}
"""What tests of effects change of the configuration."""


def whole_records(data):
    """The records that are whole in these bytes, each a list of words; and what is left, the beginning of one that is still written."""
    records, at = [], 0
    while (record := _record_at(data, at)) is not None:
        words, at = record
        records.append(words)
    return records, data[at:]


def _record_at(data, at):
    """The words of the record that begins there, and where the next one begins; None if it is not whole."""

    def number(sign):
        nonlocal at
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        assert data[at : at + 1] == sign, f"{data[at : at + 40]!r} does not begin with {sign!r}"
        value, at = int(data[at + 1 : end]), end + 2
        return value

    count, words = number(b"*"), []
    if count is None:
        return None
    for _ in range(count):
        length = number(b"$")
        if length is None or len(data) < at + length + 2:
            return None
        words.append(data[at : at + length])
        assert data[at + length : at + length + 2] == b"\r\n", f"a word of {length} bytes does not end there"
        at += length + 2
    return words, at


class EffectServer:
    """A server whose effects can be read. Its append-only file is switched on while it runs."""

    def __init__(self, target, *arguments):
        self.server = Server(target, "--appendfsync", "always", *arguments).start()
        with self.server.client() as client:
            assert client("CONFIG SET appendonly yes") == OK
        self.file, self.unread = open(eventually(self._increment), "rb"), b""
        self.reset()

    def _increment(self):
        """The file that records go to, once the first rewrite is over."""
        directory = self.server.directory / "appendonlydir"
        if self.server.info("persistence")["aof_rewrite_in_progress"] != "0":
            return None
        manifest = directory / "appendonly.aof.manifest"
        lines = manifest.read_text().splitlines() if manifest.exists() else []
        names = [line.split()[1] for line in lines if line.endswith("type i")]
        return directory / names[-1] if names else None

    def records_since(self):
        """What has been written as a whole since the last call."""
        records, self.unread = whole_records(self.unread + self.file.read())
        return records

    def take(self, count=None):
        """The records since the last call; waits until there are `count`, if that is given."""
        found = self.records_since()
        if count is not None and len(found) < count:

            def enough():
                found.extend(self.records_since())
                return len(found) >= count

            try:
                eventually(enough, 5)
            except AssertionError:
                pass  # the comparison will show what is missing
        return found

    def reset(self):
        """An empty server with database 0 selected in its stream, and nothing to be read."""
        with self.server.client() as client:
            settings = [str(word) for pair in DEFAULTS.items() for word in pair]
            assert client("CONFIG", "SET", *settings) == OK
            for command in ("DEBUG SET-ACTIVE-EXPIRE 1", "FUNCTION FLUSH", "SCRIPT FLUSH", "SELECT 0", "FLUSHALL"):
                assert client(command) == OK, command
        self.take(1)

    def client(self, protocol=2):
        """A new connection."""
        return self.server.client(protocol)

    def stop(self):
        """Ends the process for good."""
        self.file.close()
        self.server.stop()


def shown(record):
    """A record as one would type it."""
    plain = [word.decode("latin-1") if word and all(32 < byte < 127 for byte in word) else repr(word)[1:] for word in record]
    return " ".join(plain)


_HOLE = re.compile(rb"<(now([+-]\d+)?|reply|id|\d+)>")


def word_agrees(wanted, word, reply, since, until):
    """Whether a word of a record is the one of the row, whose holes are filled from the reply and the clock."""
    hole = _HOLE.fullmatch(wanted)
    if not hole:
        return wanted == word
    name = hole.group(1)
    if name.startswith(b"now"):
        shift = int(name[3:] or 0)
        return word.isdigit() and since + shift - TIME_TOLERANCE_MS <= int(word) <= until + shift + TIME_TOLERANCE_MS
    if name == b"id":
        return re.fullmatch(rb"\d+-\d+", word) is not None
    if name == b"reply":
        return word == reply
    return isinstance(reply, list) and int(name) < len(reply) and word == reply[int(name)]


def record_agrees(wanted, record, reply, since, until):
    """Whether a record is the one of the row."""
    return len(wanted) == len(record) and all(
        word_agrees(*pair, reply, since, until) for pair in zip(wanted, record)
    )


def unix_ms():
    """Now."""
    return int(time.time() * 1000)


def differences(effects, client, rows):
    """Runs the rows and returns a text for each whose records are others."""
    failures = []
    for number, row in enumerate(rows, 1):
        command, *lines = (row, row) if isinstance(row, str) else row
        wanted = [words_of(line) for line in lines]
        since = unix_ms()
        reply = client(*words_of(command))
        until = unix_ms()
        found = effects.take(len(wanted))
        agrees = len(found) == len(wanted) and all(
            record_agrees(*pair, reply, since, until) for pair in zip(wanted, found)
        )
        if not agrees:
            failures.append(
                f"row {number}: {command}\n    answered {reply!r:.200}"
                + "".join(f"\n    expected {line}" for line in lines or ["nothing"])
                + "".join(f"\n    got      {line}" for line in map(shown, found) or ["nothing"])
            )
    return failures


def effects_table(*rows):
    """A test made of rows; see the module."""
    for row in rows:
        _note(row if isinstance(row, str) else row[0])

    def test(effects):
        __tracebackhide__ = True
        with effects.client() as client:
            failures = differences(effects, client, rows)
        assert not failures, f"{where}\n" + "\n".join(failures)

    caller = inspect.stack()[1]
    where = f"{caller.filename}:{caller.lineno}"
    test.__doc__ = f"A table at {where}."
    return test
