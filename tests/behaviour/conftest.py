"""Fixtures: the servers under test, and what is reported when one of them falls.

Every test runs against the real redis-server and against Corelane with one and with three shards.
A test that only Corelane passes is a wrong test; one that only redis-server passes, a bug.
"""

import pathlib
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness.effects import EffectServer  # noqa: E402
from harness.server import Server, ServerDied, chosen_targets  # noqa: E402

TEST_SECONDS_MAX = 180
_servers = {}
_effect_servers = {}


def pytest_configure(config):
    config.addinivalue_line("markers", "only(*targets): the test is about these targets alone")


def pytest_generate_tests(metafunc):
    if "target" not in metafunc.fixturenames:
        return
    only = metafunc.definition.get_closest_marker("only")
    targets = [target for target in chosen_targets() if only is None or target in only.args]
    metafunc.parametrize("target", targets, scope="session")


def pytest_collection_modifyitems(items):
    """`only` with a narrowed CORELANE_TARGETS may leave a test without a target: drop it."""
    items[:] = [item for item in items if "NOTSET" not in item.name]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    # A test that did not run proves nothing: on a machine without a tool, that is a failure.
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {report.longrepr}"
    if report.failed:
        for server in getattr(item, "servers", []):
            if not server.alive():
                title = f"{server.describe()} is DEAD (status {server.status})"
                report.sections.append((title, server.log_tail()))
            elif log := server.new_log():
                report.sections.append((f"logged by {server.describe()} in this test", log))
    return report


@pytest.fixture(autouse=True)
def _deadline():
    """A hung test fails instead of hanging the run."""

    def expired(*_):
        raise AssertionError(f"the test ran for more than {TEST_SECONDS_MAX} s")

    signal.signal(signal.SIGALRM, expired)
    signal.alarm(TEST_SECONDS_MAX)
    yield
    signal.alarm(0)


def _healthy(server):
    """Whether the shared server can be used for the next test."""
    if server is None or not server.alive():
        return False
    try:
        server.reset()
        return True
    except Exception:
        return False


@pytest.fixture
def server(request, target):
    """The shared server of this target, emptied; started again if an earlier test felled it."""
    running = _servers.get(target)
    if not _healthy(running):
        if running is not None:
            running.stop()
        running = _servers[target] = Server(target).start()
    request.node.servers = [*getattr(request.node, "servers", []), running]
    running.panics()
    yield running
    if not running.alive():
        raise ServerDied(f"{running.describe()} DIED (status {running.status}) in this test")
    if panics := running.panics():
        raise ServerDied(f"{running.describe()} panicked in this test:\n" + "\n".join(panics))


@pytest.fixture
def private_server(request, target):
    """Starts servers for this test alone: private_server("--requirepass", "secret")."""
    started = []

    def start(*arguments, wait=True, **options):
        server = Server(target, *arguments, **options)
        started.append(server)
        request.node.servers = [*getattr(request.node, "servers", []), server]
        return server.start(wait=wait)

    yield start
    panics = [line for server in started for line in server.panics()]
    for server in started:
        server.stop()
    if panics:
        raise ServerDied(f"{target} panicked in this test:\n" + "\n".join(panics))


def effect_server(target, *arguments):
    """The shared server of this kind whose records are read, emptied."""
    running = _effect_servers.get((target, arguments))
    if running is None or not running.server.alive():
        running = _effect_servers[target, arguments] = EffectServer(target, *arguments)
    else:
        running.reset()
    return running


@pytest.fixture
def effects(request, target):
    """The shared server of this target that writes an append-only file, emptied."""
    running = effect_server(target)
    request.node.servers = [*getattr(request.node, "servers", []), running.server]
    running.server.panics()
    yield running
    running.server.assert_alive()
    if panics := running.server.panics():
        raise ServerDied(f"{running.server.describe()} panicked in this test:\n" + "\n".join(panics))


@pytest.fixture
def c(server):
    """A fresh RESP2 connection to the shared server."""
    with server.client() as client:
        yield client


@pytest.fixture
def c3(server):
    """A fresh RESP3 connection to the shared server."""
    with server.client(3) as client:
        yield client


@pytest.fixture
def connect(server):
    """More connections: connect() or connect(3); closed at the end of the test."""
    opened = []

    def one(protocol=2, **options):
        opened.append(server.client(protocol, **options))
        return opened[-1]

    yield one
    for client in opened:
        client.close()


def pytest_unconfigure():
    for server in [*_servers.values(), *_effect_servers.values()]:
        server.stop()
