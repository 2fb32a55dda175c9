"""Is there an order of the operations on one key in which a plain variable would have given the same replies?

Each operation takes place at one moment between its request and its reply (Herlihy and Wing, "Linearizability", TOPLAS
1990). The search is that of Wing and Gong (1993) with the memory of visited states of Lowe (2017): of all operations
that are left, one comes next which began before the first reply among them.

Keys are independent, so a history of many keys is linearizable if that of each key is.
"""

from dataclasses import dataclass, field

GONE = float("inf")
INTEGER_MAX = 2**63 - 1


@dataclass(frozen=True)
class Operation:
    """One request: what was asked, when, and what came back."""

    command: tuple
    begin: float
    end: float = GONE
    """When the reply came; GONE if it never did: then it took place at any time, or not at all."""
    reply: object = field(default=None, compare=False)


def applied(value, command):
    """The value after `command`, and its reply, in Python's words: None for nothing, "error" for an error."""
    verb, *words = command
    if verb == "GET":
        return value, value
    if verb == "SET":
        return words[0], "OK"
    if verb == "SETNX":
        return (words[0], 1) if value is None else (value, 0)
    if verb == "GETSET":
        return words[0], value
    if verb == "GETDEL":
        return None, value
    if verb == "DEL":
        return None, int(value is not None)
    if verb == "APPEND":
        value = (value or b"") + words[0]
        return value, len(value)
    if verb == "INCR":
        value = value or b"0"
        if not value.isdigit() or value != b"%d" % int(value) or int(value) >= INTEGER_MAX:
            return value, "error"
        return b"%d" % (int(value) + 1), int(value) + 1
    raise ValueError(f"what does {verb} do?")


def is_linearizable(history, value=None):
    """Whether the history of a key that held `value` before is linearizable."""
    history = sorted(history, key=lambda operation: operation.begin)
    wanted = sum(1 << at for at, operation in enumerate(history) if operation.end < GONE)
    seen, paths = set(), [(0, 0, value)]
    while paths:
        first, done, value = paths.pop()
        if done & wanted == wanted:
            return True
        while done >> first & 1:
            first += 1
        if (done, value) in seen:
            continue
        seen.add((done, value))
        for at in _next_ones(history, first, done):
            after, reply = applied(value, history[at].command)
            if history[at].end == GONE or history[at].reply == reply:
                paths.append((first, done | 1 << at, after))
    return False


def _next_ones(history, first, done):
    """Which of the operations that are not done may come next; none before `first` is left."""
    candidates, first_end = [], GONE
    for at in range(first, len(history)):
        if done >> at & 1:
            continue
        if history[at].begin > first_end:
            break
        candidates.append(at)
        first_end = min(first_end, history[at].end)
    return [at for at in candidates if history[at].begin <= first_end]
