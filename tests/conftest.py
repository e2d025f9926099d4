"""Fixtures: `backend` and `keepwarm` make scripted backends and whole systems that end with the test."""
import functools
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from keepwarm import certs, trace, ways  # noqa: E402
from keepwarm.backend import Backend  # noqa: E402
from keepwarm.scene import Scene  # noqa: E402
from keepwarm.system import SANITIZED, System  # noqa: E402

SECONDS = 240


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certs.Authority(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def mail(authority):
    """A mail host's certificate."""
    return authority.issue("mail.test", "*.wild.test")


@pytest.fixture(autouse=True)
def no_test_hangs():
    """Ends a test that all its own deadlines have not ended."""
    def too_late(*_):
        raise AssertionError(f"the test took more than {SECONDS} s")
    signal.signal(signal.SIGALRM, too_late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)


class Makers:
    """Starts systems and backends and ends them in reverse; the logs are shown when a test fails."""

    def __init__(self):
        self.started = []

    def backend(self, **knobs):
        backend = Backend(**knobs)
        self.started.append(backend)
        return backend

    def system(self, backend, **config):
        return self.start(System(backend.port, **config))

    def way_system(self, root, backend, **config):
        """One whose sessions are started as KEEPWARM_STARTED_BY says."""
        for old in [thing for thing in self.started if ways.EXCLUSIVE and isinstance(thing, System)]:
            self.started.remove(old)
            old.stop()
        return self.start(ways.make(root, backend, **config))

    def start(self, system):
        try:
            system.start()
        except BaseException:
            system.discard()
            raise
        self.started.append(system)
        return system

    def end(self):
        problems = []
        for thing in reversed(self.started):
            if isinstance(thing, System):
                print(f"--- log of {thing.folder} ---\n{thing.log_text()}")
            try:
                thing.stop()
            except Exception as problem:  # pylint: disable=broad-except
                problems.append(f"{type(problem).__name__}: {problem}")
        assert not problems, "\n".join(problems)


@pytest.fixture
def make():
    makers = Makers()
    yield makers
    makers.end()


@pytest.fixture(scope="module")
def make_once():
    makers = Makers()
    yield makers
    makers.end()


@pytest.fixture(scope="session")
def booted():
    """What the systems of KEEPWARM_STARTED_BY live in; see ways.py."""
    with ways.booted() as root:
        yield root


@pytest.fixture(scope="module")
def make_way(booted, make_once):
    """Makes a system of that way, once for all tests of a file."""
    return functools.partial(make_once.way_system, booted)


def pytest_collection_modifyitems(items):
    """Where there is one system at a time, the tests with a server come together."""
    if ways.EXCLUSIVE:
        items.sort(key=lambda item: str(getattr(item, "callspec", None) and item.callspec.params.get("kind")))


@pytest.fixture
def backend(make):
    """A well-behaved scripted backend."""
    return make.backend()


@pytest.fixture
def system(make, backend):
    """Keepwarm in front of it, with the defaults."""
    return make.system(backend)


@pytest.fixture
def scene(make):
    """A system with somebody else's session in it."""
    return Scene(make)


@pytest.fixture
def traced(make, backend):
    """A system that traces anna."""
    system = make.system(backend, enable_admin_commands="yes")
    trace.trace(system, "anna")
    return system
