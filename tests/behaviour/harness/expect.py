"""What a test may expect of a reply, and how it is compared.

An expectation names what RESP3 sends, and the RESP2 form follows from it by Redis's own rules:

    expectation            RESP2             RESP3
    "text" or b"text"      bulk string       bulk string
    7                      integer           integer
    OK, Simple("PONG")     status            status
    Error("ERR ...")       error             error
    NIL                    $-1               _
    NIL_ARRAY              *-1               _
    Double("1.5")          bulk string       double
    Map({"k": "v"})        flat array        map          (any order)
    Set(["a", "b"])        array             set          (any order)
    Verbatim("text")       bulk string       verbatim
    Push(["message", ..])  array             push
    ["a", 1]               array             array

Where Redis does otherwise, by_protocol(r2=..., r3=...) says so. The matchers below stand for
replies that are not one fixed value.
"""

import re

from .resp import NIL, NIL_ARRAY, NULL, Double, Error, Map, Null, Push, Set, Simple, Verbatim


class Matcher:
    """An expectation that more than one reply meets."""

    def __init__(self, words, meets):
        self.words, self.meets = words, meets

    def __repr__(self):
        return self.words


def by_protocol(r2, r3):
    """Different replies in RESP2 and RESP3, beyond the rules above."""
    return Matcher(
        f"by_protocol(r2={r2!r}, r3={r3!r})",
        lambda reply, protocol: agrees(r3 if protocol == 3 else r2, reply, protocol),
    )


def unordered(*items):
    """An array of these, in any order: unordered("a", "b")."""
    return Matcher(
        f"unordered{items!r}",
        lambda reply, protocol: type(reply) is list and _same_bag(items, reply, protocol),
    )


def one_of(*expected):
    """Any one of the replies."""
    return Matcher(
        f"one_of{expected!r}",
        lambda reply, protocol: any(agrees(each, reply, protocol) for each in expected),
    )


def between(low, high):
    """An integer within low..high, both included."""
    return Matcher(
        f"between({low}, {high})",
        lambda reply, _: type(reply) is int and low <= reply <= high,
    )


def matching(pattern, kind=None):
    """A bulk string (or what `kind` names: Error, Simple) that the whole pattern matches."""
    compiled = re.compile(pattern, re.S)

    def meets(reply, _):
        if kind in (None, bytes):
            if isinstance(reply, Verbatim):
                reply = reply.data
            return type(reply) is bytes and bool(compiled.fullmatch(reply.decode("utf-8", "backslashreplace")))
        return type(reply) is kind and bool(compiled.fullmatch(reply))

    return Matcher(f"matching({pattern!r}{', ' + kind.__name__ if kind else ''})", meets)


def error_like(pattern):
    """An error whose text the whole pattern matches."""
    return matching(pattern, Error)


def array_of(length, item=None):
    """An array of so many items, each as `item` expects."""
    return Matcher(
        f"array_of({length}, {item!r})",
        lambda reply, protocol: type(reply) is list
        and len(reply) == length
        and (item is None or all(agrees(item, each, protocol) for each in reply)),
    )


def is_a(*kinds):
    """A reply of one of the kinds: is_a(int), is_a(bytes, list)."""
    return Matcher(
        f"is_a({', '.join(kind.__name__ for kind in kinds)})",
        lambda reply, _: type(reply) in kinds,
    )


def meeting(words, check):
    """A reply for which check(reply) is true; `words` say what that is."""
    return Matcher(words, lambda reply, _: bool(check(reply)))


ANY = Matcher("ANY", lambda reply, _: True)
NOT_AN_ERROR = Matcher("NOT_AN_ERROR", lambda reply, _: not isinstance(reply, Error))


def _same_bag(items, reply, protocol):
    left = list(reply)
    for item in items:
        found = next((i for i, each in enumerate(left) if agrees(item, each, protocol)), None)
        if found is None:
            return False
        del left[found]
    return not left


def agrees(expected, reply, protocol):
    """Whether the reply, kind and value, is what is expected on this protocol."""
    if isinstance(expected, Matcher):
        return expected.meets(reply, protocol)
    if isinstance(expected, Null):
        return reply is (NULL if protocol == 3 else expected)
    if isinstance(expected, (Simple, Error)):
        return expected == reply
    if isinstance(expected, str):
        return reply == expected.encode() and type(reply) is bytes
    if isinstance(expected, bytes):
        return type(reply) is bytes and reply == expected
    if isinstance(expected, Map):
        return _agrees_map(expected, reply, protocol)
    if isinstance(expected, Set):
        kind = Set if protocol == 3 else list
        return type(reply) is kind and _same_bag(expected, reply, protocol)
    if isinstance(expected, Push):
        return type(reply) is (Push if protocol == 3 else list) and _agrees_each(expected, reply, protocol)
    if isinstance(expected, (list, tuple)):
        return type(reply) is list and _agrees_each(expected, reply, protocol)
    if isinstance(expected, Double) and protocol == 2:
        return type(reply) is bytes and reply == expected.text.encode()
    if isinstance(expected, Verbatim) and protocol == 2:
        return type(reply) is bytes and reply == expected.data
    if isinstance(expected, float):
        raise TypeError("write a float reply as Double('1.5'): its text is part of the promise")
    return type(reply) is type(expected) and reply == expected


def _agrees_each(expected, reply, protocol):
    return len(expected) == len(reply) and all(
        agrees(each, got, protocol) for each, got in zip(expected, reply)
    )


def _agrees_map(expected, reply, protocol):
    if protocol == 2:
        if type(reply) is not list or len(reply) % 2:
            return False
        pairs = list(zip(reply[::2], reply[1::2]))
    else:
        if not isinstance(reply, Map):
            return False
        pairs = list(reply.pairs)
    return _same_bag([list(pair) for pair in expected.pairs], [list(pair) for pair in pairs], protocol)
