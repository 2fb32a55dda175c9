"""Starting, resetting and ending the servers under test.

Each server runs in a directory of its own below one temporary directory, on a free port of the
loopback, and is a child that the kernel ends together with the test run, so that nothing is left
behind however the run ends. No server is ever ended by name.
"""

import contextlib
import ctypes
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile

from .resp import OK, Client, ConnectionLost, Error, NoReply
from .waiting import eventually

ROOT = pathlib.Path(__file__).resolve().parents[3]
START_SECONDS_MAX = 20.0
LOG_TAIL_BYTES = 6000
PR_SET_PDEATHSIG = 1
BUS_PORT_OFFSET = 10000
_libc = ctypes.CDLL(None, use_errno=True)
# Below those that Linux gives to whoever connects: nobody gets one before the server has bound it, or while it is started
# again. The bus ports are, too.
PORT_FIRST, PORT_LAST = 16000, 22767
# Between finding a free port and binding it another worker of the same run could find it, too: each has ports of its own.
PORT_SHARES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
PORT_SHARE = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PORT_SHARES
# Where ports are given in rows: below those that free_port gives.
PORTS_IN_ROWS, PORTS_OF_ROW, ROWS_OF_PORTS = 12000, 4, 1000
_ports_given = set()


class ServerDied(Exception):
    """The process under test ended when it should not have."""


def corelane_binary():
    """What CORELANE_BIN names, else the debug build."""
    return os.environ.get("CORELANE_BIN") or str(ROOT / "target" / "debug" / "corelane")


TARGETS = {
    # Where it falls (an assertion in XRANGE), the report of the crash may hang; without one it is gone at once.
    "redis": lambda: ["redis-server", "--enable-debug-command", "yes", "--crash-log-enabled", "no"],
    "corelane-1": lambda: [corelane_binary(), "--enable-debug-command", "yes", "--shards", "1", "--no-pin"],
    "corelane-3": lambda: [corelane_binary(), "--enable-debug-command", "yes", "--shards", "3", "--no-pin"],
}


def chosen_targets():
    """All targets, or those that CORELANE_TARGETS names: redis,corelane-3."""
    names = [name for name in os.environ.get("CORELANE_TARGETS", "").split(",") if name]
    unknown = set(names) - set(TARGETS)
    assert not unknown, f"CORELANE_TARGETS names {unknown}; there are {list(TARGETS)}"
    return names or list(TARGETS)


def _is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port():
    """A port on which nothing listens, nor on its bus port."""
    share = (PORT_LAST + 1 - PORT_FIRST) // PORT_SHARES
    for _ in range(1000):
        port = PORT_FIRST + share * PORT_SHARE + random.randrange(share)
        if port not in _ports_given and _is_free(port) and _is_free(port + BUS_PORT_OFFSET):
            _ports_given.add(port)
            return port
    raise AssertionError("no free port found")


def free_ports(count):
    """The first of so many ports in a row on which nothing listens, below those of free_port."""
    share = ROWS_OF_PORTS // PORT_SHARES
    for _ in range(1000):
        row = share * PORT_SHARE + random.randrange(share)
        ports = range(first := PORTS_IN_ROWS + row * PORTS_OF_ROW, first + count)
        assert count <= PORTS_OF_ROW
        if first not in _ports_given and all(map(_is_free, ports)):
            _ports_given.add(first)
            return first
    raise AssertionError(f"no {count} free ports in a row found")


def _end_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


# Runs what follows its options and directory with a tmpfs there, in a mount namespace of its own.
OWN_MOUNT = (
    "unshare", "--mount", "--propagation", "private",
    "sh", "-c", 'mount -t tmpfs -o "$0" tmpfs "$1" && cd "$1" && shift && exec "$@"',
)  # fmt: skip


class Server:
    """One server process: redis-server or corelane, told apart by `target`."""

    def __init__(self, target, *arguments, directory=None, conf=None, disk=None):
        self.target = target
        self.arguments = [str(argument) for argument in arguments]
        self.conf = [] if conf is None else [str(conf)]
        self.owns_directory = directory is None
        self.directory = pathlib.Path(directory or tempfile.mkdtemp(prefix=f"{target}-"))
        # The options of a tmpfs that only this process sees in its directory ("size=2m"); `inside` leads there.
        self.disk = disk
        self.log = self.directory / "server.log"
        self.port = free_port()
        self.process = None
        self.password = None
        self.admin = None
        self.log_seen = 0

    @property
    def is_redis(self):
        """True for the real thing, for the few places where Corelane promises more."""
        return self.target == "redis"

    def has_fallen(self):
        """Whether it is gone, or goes at this moment."""
        try:
            self.process.wait(1)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def status(self):
        """How the process ended: None while it runs, and if it could not even be started."""
        return self.process.returncode if self.process else None

    @property
    def pid(self):
        """The process id."""
        return self.process.pid

    @property
    def inside(self):
        """The directory as the process sees it."""
        return pathlib.Path(f"/proc/{self.pid}/root/{self.directory}")

    def start(self, wait=True):
        """Starts the process, and waits until it answers PING."""
        binary, *options = TARGETS[self.target]()
        command = [
            binary, *self.conf, *options, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory),
            "--save", "",
        ]  # fmt: skip
        if self.is_redis:
            # What was killed with a ring lets go of its ports a moment after it is gone. Corelane waits for that itself.
            eventually(lambda: _is_free(self.port))
        if self.disk:
            command = [*OWN_MOUNT, self.disk, str(self.directory), *command]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command + self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                preexec_fn=_end_with_parent,
            )
        if wait:
            try:
                eventually(self._answers, START_SECONDS_MAX)
            except BaseException:
                self.kill()
                raise
        return self

    def _answers(self):
        if self.process.poll() is not None:
            raise ServerDied(f"{self.describe()} ended at start\n{self.log_tail()}")
        try:
            with Client(self.port, timeout=1) as client:
                reply = client("PING")
        except (ConnectionLost, NoReply):
            return False
        return not (isinstance(reply, Error) and reply.startswith("LOADING"))

    def client(self, protocol=2, **options):
        """A new connection, authenticated where the server wants that."""
        options.setdefault("password", self.password)
        try:
            return Client(self.port, protocol, **options)
        except ConnectionLost:
            self.assert_alive()
            raise

    def reset(self):
        """Empties the server: keys, scripts' effects and statistics."""
        commands = ("FLUSHALL", "CONFIG RESETSTAT")
        try:
            self.admin = self.admin or self.client()
            replies = self.admin.pipeline(*commands)
        except ConnectionLost:  # a test about timeouts or CLIENT KILL took the connection with it
            self.admin = self.client()
            replies = self.admin.pipeline(*commands)
        assert replies == [OK, OK], f"reset of {self.target} answered {replies}"

    @contextlib.contextmanager
    def config(self, **settings):
        """CONFIG SET for the length of a with-block; `-` in names is written `_`."""
        before = {}
        with self.client() as client:
            for name in settings:
                directive = name.replace("_", "-")
                found = client("CONFIG", "GET", directive)
                assert isinstance(found, list) and len(found) == 2, f"CONFIG GET {directive}: {found!r}"
                before[directive] = found[1]
        try:
            self._set({name.replace("_", "-"): value for name, value in settings.items()})
            yield
        finally:
            if self.alive():
                self._set(before)

    def _set(self, settings):
        with self.client() as client:
            for directive, value in settings.items():
                reply = client("CONFIG", "SET", directive, value)
                assert reply == OK, f"CONFIG SET {directive} {value}: {reply!r}"

    def info(self, section="everything"):
        """INFO as a dict of strings."""
        with self.client() as client:
            text = client("INFO", section)
        assert isinstance(text, bytes), f"INFO {section} answered {text!r}"
        lines = [line for line in text.decode().split("\r\n") if ":" in line and not line.startswith("#")]
        return dict(line.split(":", 1) for line in lines)

    def resident_bytes(self):
        """Memory of the process that is in RAM now."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ServerDied(f"{self.describe()} has no memory left to look at")

    def alive(self):
        """Whether the process still runs."""
        return self.process is not None and self.process.poll() is None

    def assert_alive(self):
        """Raises ServerDied, with the end of the log, if the process is gone."""
        if not self.alive():
            raise ServerDied(f"{self.describe()} DIED (status {self.status})\n{self.log_tail()}")

    def new_log(self):
        """What was logged since the last call of panics()."""
        return self._log_since_panics()[-LOG_TAIL_BYTES:].decode("utf-8", "replace")

    def _log_since_panics(self):
        if not self.log.exists():  # never started
            return b""
        with open(self.log, "rb") as log:
            log.seek(self.log_seen)
            return log.read()

    def panics(self):
        """Log lines since the last call that tell of a panic in some thread."""
        new = self._log_since_panics()
        self.log_seen += len(new)
        return [line for line in new.decode("utf-8", "replace").splitlines() if "panicked at" in line]

    def log_tail(self):
        """The end of the log."""
        data = self.log.read_bytes() if self.log.exists() else b""
        return f"--- end of {self.log} ---\n" + data[-LOG_TAIL_BYTES:].decode("utf-8", "replace")

    def describe(self):
        """Who this is, for messages."""
        return f"{self.target} (port {self.port}, pid {self.process.pid if self.process else '-'})"

    def stop(self):
        """Ends the process for good and removes its directory."""
        self.kill()
        if self.owns_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self, with_signal=signal.SIGKILL):
        """Sends the signal and waits for the process; the directory stays."""
        if self.admin is not None:
            self.admin.close()
            self.admin = None
        if self.alive():
            self.process.send_signal(with_signal)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
