"""A RESP2/RESP3 client that hides nothing.

Client libraries turn `$-1`, `*-1` and `_` into one None and forget whether "OK" was a status or a
bulk string. A server that has to match Redis byte for byte needs tests that see the difference, so
here every kind of reply is a type of its own and compares equal to nothing but its own kind.

Promise: errors are returned, not raised; only a lost or silent connection raises.
"""

import re
import socket

REPLY_SECONDS_MAX = 10.0


class Simple(str):
    """A status: `+OK`."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        return isinstance(other, Simple) and str.__eq__(self, other)

    def __ne__(self, other):
        return not self == other

    def __repr__(self):
        return f"+{str(self)}"


class Error(str):
    """An error: `-ERR ...` (and RESP3's `!`), the text without the sign."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        return isinstance(other, Error) and str.__eq__(self, other)

    def __ne__(self, other):
        return not self == other

    def __repr__(self):
        return f"-{str(self)}"


class Null:
    """One of the three spellings of nothing."""

    def __init__(self, name):
        self.name = name

    def __bool__(self):
        return False  # so that `c("GET", key) or 0` counts what is not there as none

    def __repr__(self):
        return self.name


NIL = Null("NIL ($-1)")
NIL_ARRAY = Null("NIL_ARRAY (*-1)")
NULL = Null("NULL (_)")


class Boolean:
    """RESP3 `#t` and `#f`. Not Python's bool, which would equal the integers 1 and 0."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, Boolean) and self.value == other.value

    def __hash__(self):
        return hash(("boolean", self.value))

    def __repr__(self):
        return "#t" if self.value else "#f"


class _Text:
    """A reply that keeps the text it came with."""

    sign = ""

    def __init__(self, text):
        self.text = str(text)

    def __eq__(self, other):
        return type(other) is type(self) and self.text == other.text

    def __hash__(self):
        return hash((self.sign, self.text))

    def __repr__(self):
        return f"{self.sign}{self.text}"


class Double(_Text):
    """RESP3 `,1.5`: the text is kept, for its format is part of the promise."""

    sign = ","

    def __float__(self):
        return float(self.text)


class BigNumber(_Text):
    """RESP3 `(123...`."""

    sign = "("


class Verbatim:
    """RESP3 `=15\\r\\ntxt:...`."""

    def __init__(self, data, format="txt"):
        self.data = data if isinstance(data, bytes) else data.encode()
        self.format = format

    def __eq__(self, other):
        return isinstance(other, Verbatim) and vars(self) == vars(other)

    def __hash__(self):
        return hash((self.format, self.data))

    def __repr__(self):
        return f"={self.format}:{self.data!r}"


class Push(list):
    """RESP3 `>`: an array that no request asked for."""

    def __eq__(self, other):
        return isinstance(other, Push) and list.__eq__(self, other)

    def __ne__(self, other):
        return not self == other

    def __repr__(self):
        return f"Push({list.__repr__(self)})"


class Set(list):
    """RESP3 `~`, in the order received."""

    def __eq__(self, other):
        return isinstance(other, Set) and list.__eq__(self, other)

    def __ne__(self, other):
        return not self == other

    def __repr__(self):
        return f"Set({list.__repr__(self)})"


class Map:
    """RESP3 `%`: pairs in the order received, for keys may be of any kind."""

    def __init__(self, pairs=()):
        self.pairs = [tuple(pair) for pair in (pairs.items() if isinstance(pairs, dict) else pairs)]

    def __getitem__(self, key):
        wanted = key.encode() if isinstance(key, str) and not isinstance(key, Simple) else key
        for name, value in self.pairs:
            if name == wanted:
                return value
        raise KeyError(key)

    def __eq__(self, other):
        return isinstance(other, Map) and self.pairs == other.pairs

    def __repr__(self):
        return "Map{" + ", ".join(f"{k!r}: {v!r}" for k, v in self.pairs) + "}"


OK = Simple("OK")


class ConnectionLost(Exception):
    """The server closed the connection (or never opened it)."""


class NoReply(Exception):
    """The server said nothing for longer than any test allows."""


_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.S)
_WORD = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|\'([^\']*)\'|(\S+))')
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


def _unescape(text):
    def byte(match):
        found = match.group(1)
        if found[:1] == b"x" and len(found) == 3:
            return bytes([int(found[1:], 16)])
        return _ESCAPES.get(found, found)

    return _ESCAPE.sub(byte, text.encode())


def words_of(command):
    """The arguments of a command, as bytes.

    A string is split as redis-cli splits a line: `SET k "a b\\x00"`. A list or tuple is taken
    word by word; its words may be str, bytes, int or float.
    """
    if isinstance(command, str):
        words, at = [], 0
        while match := _WORD.match(command, at):
            quoted, single, bare = match.groups()
            words.append(_unescape(quoted) if quoted is not None else (single if single is not None else bare).encode())
            at = match.end()
        return words
    return [word if isinstance(word, bytes) else str(word).encode() for word in command]


def encode(*words):
    """A request as a client library sends it."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words_of(words):
        parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(parts)


class Client:
    """One connection. `c("GET", "k")` or `c("GET k")` sends a request and returns its reply."""

    def __init__(self, port, protocol=2, timeout=REPLY_SECONDS_MAX, host="127.0.0.1", password=None):
        self.protocol = protocol
        try:
            self.socket = socket.create_connection((host, port), timeout=timeout)
        except OSError as error:
            raise ConnectionLost(f"connect to {host}:{port}: {error}") from error
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.at = 0
        if password is not None:
            assert self("AUTH", password) == OK
        if protocol == 3:
            hello = self("HELLO", "3")
            assert isinstance(hello, Map), f"HELLO 3 answered {hello!r}"

    def __call__(self, *words):
        self.send(*words)
        return self.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, *words):
        """Sends a request without waiting; a single string is split into words."""
        if len(words) == 1 and isinstance(words[0], str):
            words = words_of(words[0])
        self.raw(encode(*words))

    def raw(self, data):
        """Sends bytes as they are."""
        try:
            self.socket.sendall(data)
        except TimeoutError as error:
            raise NoReply("the server stopped reading") from error
        except OSError as error:
            raise ConnectionLost(str(error)) from error

    def pipeline(self, *commands):
        """Sends the commands in one write and returns all replies."""
        self.raw(b"".join(encode(*words_of(command)) for command in commands))
        return [self.read() for _ in commands]

    def close(self):
        """Closes this end. Harmless when already closed."""
        self.socket.close()

    def read(self, timeout=None):
        """The next reply, whatever its kind."""
        if timeout is not None:
            previous = self.socket.gettimeout()
            self.socket.settimeout(timeout)
            try:
                return self._reply()
            finally:
                self.socket.settimeout(previous)
        return self._reply()

    def silent(self, seconds=0.1):
        """True if nothing arrives for so long. The bytes that arrive instead stay readable."""
        if self.at < len(self.buffer):
            return False
        previous = self.socket.gettimeout()
        self.socket.settimeout(seconds)
        try:
            self._receive()
            return False
        except NoReply:
            return True
        finally:
            self.socket.settimeout(previous)

    def rest(self):
        """All bytes until the server closes the connection, undecoded."""
        while True:
            try:
                self._receive()
            except ConnectionLost:
                left = bytes(self.buffer[self.at :])
                self.at = len(self.buffer)
                return left

    def exactly(self, count):
        """So many bytes, undecoded."""
        while len(self.buffer) - self.at < count:
            self._receive()
        self.at += count
        return bytes(self.buffer[self.at - count : self.at])

    def closed(self):
        """True once the server has closed the connection without a further byte."""
        return self.rest() == b""

    def _receive(self):
        try:
            data = self.socket.recv(1 << 20)
        except TimeoutError as error:
            raise NoReply(f"no reply within {self.socket.gettimeout()} s") from error
        except OSError as error:
            raise ConnectionLost(str(error)) from error
        if not data:
            raise ConnectionLost("the server closed the connection")
        if self.at == len(self.buffer):
            self.buffer.clear()
            self.at = 0
        self.buffer += data

    def _line(self):
        while (end := self.buffer.find(b"\r\n", self.at)) < 0:
            self._receive()
        line = bytes(self.buffer[self.at : end])
        self.at = end + 2
        return line

    def _exactly(self, count):
        while len(self.buffer) - self.at < count + 2:
            self._receive()
        data = bytes(self.buffer[self.at : self.at + count])
        end = bytes(self.buffer[self.at + count : self.at + count + 2])
        assert end == b"\r\n", f"a bulk of {count} bytes ends in {end!r}"
        self.at += count + 2
        return data

    def _reply(self):
        line = self._line()
        sign, text = line[:1], line[1:].decode("utf-8", "backslashreplace")
        if sign == b"+":
            return Simple(text)
        if sign == b"-":
            return Error(text)
        if sign == b":":
            return int(text)
        if sign == b"$":
            return NIL if text == "-1" else self._exactly(int(text))
        if sign == b"*":
            return NIL_ARRAY if text == "-1" else [self._reply() for _ in range(int(text))]
        if sign == b"_":
            return NULL
        if sign == b"#":
            return Boolean({"t": True, "f": False}[text])
        if sign == b",":
            return Double(text)
        if sign == b"(":
            return BigNumber(text)
        if sign == b"=":
            data = self._exactly(int(text))
            return Verbatim(data[4:], data[:3].decode())
        if sign == b"!":
            return Error(self._exactly(int(text)).decode("utf-8", "backslashreplace"))
        if sign == b"~":
            return Set(self._reply() for _ in range(int(text)))
        if sign == b">":
            return Push(self._reply() for _ in range(int(text)))
        if sign == b"%":
            return Map([(self._reply(), self._reply()) for _ in range(int(text))])
        raise AssertionError(f"not a RESP reply: {line!r}")
