"""The system's logger is restarted and has a new socket: no line is lost that anybody could miss, in or out of a
chroot_directory, and sessions do not notice.
"""
import os
import signal
import socket
import time

import pytest

from keepwarm import process
from keepwarm.logger import Watched, missing
from keepwarm.process import wait_until

WHY_NOT = missing()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"{WHY_NOT}")


@pytest.fixture(params=[False, True], ids=["", "chroot"])
def system(request, make, backend):
    system = Watched(backend)
    if request.param:
        system.write_config(chroot_directory=system.folder / "jail")
    make.started.append(system)
    system.start()
    system.logger.wait("is ready")
    yield system
    system.logger.stop()


def test_sessions_log_to_the_new_logger_and_those_of_before_too(system):
    before, guest = system.session("before"), system.client()
    system.logger.restart()
    before.ok("NOOP")
    assert not guest.login("guest", "wrong").ok
    system.logger.wait("LOGIN: 'guest'", "failed:")
    before.logout()
    system.logger.wait("session ended", "user=before", "reason=logout")
    guest.logout()
    system.logger.wait("session ended", "reason=logout", count=2)
    with system.session("after") as after:
        after.logout()
    system.logger.wait("session ended", "user=after")


def direct(system):
    """A new session's own process writes its line, not the broker for it."""
    system.session("direct").logout()
    return [line for line in system.logger.lines if "proxyd[" in line and "user=direct" in line]


def test_new_sessions_write_for_themselves_again(system):
    system.logger.restart()
    wait_until(lambda: direct(system), lambda: f"only the broker writes: {system.logger.lines}")


def test_the_programs_that_live_long_log_to_the_new_logger(system, backend):
    victim = system.session("victim")
    system.logger.restart()
    backend.deaf()
    system.supervisor.send_signal(signal.SIGHUP)
    system.logger.wait("cachebrokerd[", "taken over")
    wait_until(lambda: direct_failure(system), lambda: f"{system.logger.lines}")
    os.kill(system.pid_serving(victim), signal.SIGKILL)
    system.logger.wait("session process", "killed by signal 9")


def direct_failure(system):
    with system.client() as client:
        client.login("nobody", "pw-nobody")
    return [line for line in system.logger.lines if "cachebrokerd[" in line and "does not answer" in line]


def test_without_any_logger_all_goes_on_until_there_is_one(system):
    system.logger.stop()
    try:
        with system.session("meanwhile") as client:
            client.ok("NOOP")
            client.logout()
        with system.client() as client:
            assert not client.login("anna", "wrong").ok
        system.session("meanwhile").logout()
    finally:
        system.logger.lines.clear()
        system.logger.start()
    wait_until(lambda: direct(system), lambda: f"only the broker writes: {system.logger.lines}")


def fill_up(path):
    """Sends until the logger's own queue is full, not only a sender's. Returns what must stay open."""
    senders, sent = [], True
    while sent:
        sent, sender = False, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        senders.append(sender)
        sender.setblocking(False)
        sender.connect(str(path))
        try:
            while True:
                sender.send(b"<7>full")
                sent = True
        except BlockingIOError:
            pass
    return senders


def nursery(system):
    (pid,) = process.children(system.listener_pid())
    return pid


def test_a_logger_that_does_not_read_holds_up_nobody(system):
    """Nor does it make the broker look for another socket, for which all spare processes would be made anew."""
    system.logger.stop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hung:
        hung.bind(str(system.logger.path))
        system.logger.path.chmod(0o666)
        before = nursery(system)
        wait_until(lambda: len(made := process.children(system.listener_pid())) == 1 and made != [before], "no new nursery")
        senders, now = fill_up(system.logger.path), nursery(system)
        began = time.monotonic()
        while time.monotonic() < began + 3:  # the broker looks for the logger once a second
            with system.session("anna") as client:
                client.ok("NOOP")
                client.logout()
            assert nursery(system) == now
        for sender in senders:
            sender.close()
        system.logger.path.unlink()
    system.logger.start()
    wait_until(lambda: direct(system), lambda: f"only the broker writes: {system.logger.lines}")


def test_a_session_cannot_fill_the_log_through_the_broker(make, backend):
    from keepwarm.messages import session as hello  # the local messages as a hostile process speaks them
    system = make.system(backend, run_listener="no")
    with hello(system) as peer:
        for number in range(200):
            try:
                peer.push("LINE", line=f"forged {number}\nreason=forged")
            except OSError:
                break
        peer.expect_cut_off()
    assert 100 <= system.log_text().count("forged 1") + system.log_text().count("?reason=forged") <= 220
    assert "forged 100" not in system.log_text()
    assert not [line for line in system.log_text().splitlines() if line.startswith("reason=forged")]


LOCAL1 = 17 << 3


def priorities(system, word):
    return {int(line[1:line.index(">")]) for line in system.logger.lines if word in line}


def test_lines_about_the_configuration_have_its_facility(make, backend):
    system = Watched(backend, syslog_facility="LOG_LOCAL1", connect_timeut="5")
    make.started.append(system)
    system.start()
    system.logger.wait("connect_timeut: unknown key", count=1)
    system.logger.wait("is ready", count=1)
    assert priorities(system, "connect_timeut") == {LOCAL1 + 4}
    assert priorities(system, "is ready") == {LOCAL1 + 5}
    system.logger.stop()


def test_a_start_that_fails_is_in_the_log(make, backend):
    system = Watched(backend, cache_size="many")
    make.started.append(system)
    with pytest.raises(AssertionError, match="exited with 1"):
        system.start()
    system.logger.wait("cache_size: 'many' is not allowed", count=1)
    system.supervisor = None
    system.logger.stop()
