"""Tests as tables: rows of a command and the reply it must get.

A table runs from top to bottom on an empty server, once over RESP2 and once over RESP3. All its
rows run even when one fails, and every failing row prints itself, so that one run shows the whole
damage.

Every command of every table is also noted in COVERED when the test file is imported;
test_every_command.py compares that with what the server says it can do.
"""

import inspect

from .expect import agrees
from .resp import Client, ConnectionLost, NoReply, words_of

COVERED = set()
"""Upper-case first words, and "FIRST|SECOND" pairs, that some test sends."""


def covers(*names):
    """Notes commands that a test sends outside a table: @covers("BLPOP", "CLIENT|KILL")."""
    for name in names:
        COVERED.add(name.upper().replace(" ", "|"))
        COVERED.add(name.upper().replace(" ", "|").split("|")[0])
    return lambda test: test


def _note(command):
    words = [word.decode("utf-8", "backslashreplace").upper() for word in words_of(command)[:2]]
    COVERED.update(words[:1])
    if len(words) == 2:
        COVERED.add("|".join(words))


def _shown(command):
    text = command if isinstance(command, str) else " ".join(repr(word) for word in command)
    return text if len(text) <= 200 else text[:200] + "…"


def _shown_reply(reply):
    text = repr(reply)
    return text if len(text) <= 1000 else text[:1000] + "…"


def run_rows(client, rows):
    """Runs the rows on this connection; returns one line for each that failed."""
    failures = []
    for number, (command, expected) in enumerate(rows, 1):
        try:
            reply = client(*words_of(command))
        except (ConnectionLost, NoReply) as trouble:
            failures.append(f"row {number} RESP{client.protocol}: {_shown(command)}\n    {trouble}")
            break
        if not agrees(expected, reply, client.protocol):
            failures.append(
                f"row {number} RESP{client.protocol}: {_shown(command)}\n"
                f"    expected {_shown_reply(expected)}\n"
                f"    got      {_shown_reply(reply)}"
            )
    return failures


def check(client, *rows):
    """Runs the rows on this connection within a test of your own."""
    failures = run_rows(client, rows)
    assert not failures, "\n" + "\n".join(failures)


def table(*rows, protocols=(2, 3)):
    """A test made of rows: test_get_of_nothing_is_nil = table(("GET k", NIL))."""
    for row in rows:
        assert isinstance(row, tuple) and len(row) == 2, f"a row is (command, reply), not {row!r}"
        _note(row[0])

    def test(server):
        __tracebackhide__ = True
        failures = []
        for protocol in protocols:
            server.reset()
            with server.client(protocol) as client:
                failures += run_rows(client, rows)
        assert not failures, f"{where}\n" + "\n".join(failures)

    caller = inspect.stack()[1]
    where = f"{caller.filename}:{caller.lineno}"
    test.__doc__ = f"A table at {where}."
    return test
