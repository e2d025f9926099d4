"""The log lines of Debian's imapproxy and of Keepwarm, one after the other in front of the same scripted mail host: scenes
and lines are those of keepwarm/oldlog.py."""
import subprocess

import pytest

from keepwarm import logger, oldlog, process, proxytalk
from keepwarm.backend import Backend

# The old program says of a mail host, too, what it says of clients.
CLOSED = (oldlog.WARNING, "IMAP_Line_Read(): connection closed prematurely.")
OF_MAIL_HOSTS = ("a_mail_host_that_says_nothing_to_a_login", "a_mail_host_that_does_not_greet")

WHY_NOT = logger.missing()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"{WHY_NOT}")


class OldInItsPlace(proxytalk.Old):
    """The old program with a logger of its own."""

    def start(self):
        watched = self.system
        self.process = process.start(
            [*watched.prefix, self.folder / "imapproxyd", "-f", watched.conf, "-p", watched.folder / "old.pid"],
            env=proxytalk.environment(self.folder), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, cwd="/")
        process.wait_until(self.greets, "the old program does not greet")
        watched.logger.wait("connection closed prematurely")
        return self


def play_all(port, backend, log):
    stage = oldlog.Stage(port, backend, lambda: list(log.lines))
    return [(scene.__name__, stage.play(scene, len(expected))) for scene, expected in oldlog.SCENES]


def expected(more=()):
    """more: names of scenes in which a line more comes second."""
    return [(scene.__name__, lines[:1] + ([CLOSED] if scene.__name__ in more else []) + lines[1:])
            for scene, lines in oldlog.SCENES]


@pytest.fixture
def watched():
    """A backend and a System, not started, whose log is read."""
    backend = Backend()
    system = logger.Watched(backend, **proxytalk.COMMON)
    try:
        yield backend, system
    finally:
        system.logger.stop()
        system.discard()
        backend.stop()


def test_the_old_program_writes_these_lines(watched):
    folder, why = proxytalk.unpack()
    if not folder:
        pytest.skip(why)
    backend, system = watched
    old = OldInItsPlace(system, folder)
    try:
        old.start()
        assert play_all(system.port, backend, system.logger) == expected(OF_MAIL_HOSTS)
    finally:
        old.stop()


def test_keepwarm_writes_the_same(watched):
    backend, system = watched
    system.start()
    system.logger.wait("connection closed prematurely")
    assert play_all(system.port, backend, system.logger) == expected()
    system.stop_and_keep()
