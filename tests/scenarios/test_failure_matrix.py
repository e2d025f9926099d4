"""Each program ended in each state of a session: kill -9 and SIGTERM of the broker, the listener and lookupd.

Whatever was killed: the session goes on, a login that waits succeeds, a new one works, each user sees their own mail,
no backend connection has two owners, and in the end processes and descriptors are as they were.
"""
import contextlib
import os
import signal
import threading

import pytest

from keepwarm import process
from keepwarm.failures import SIGNALS, VICTIMS, check_connections, sees_own_mail, settled, settled_with, wait_restarted
from keepwarm.process import alive, wait_until

BIG = b"".join(b"%07d\n" % number for number in range(1 << 18))  # 2 MiB that show what is missing or doubled


# --- states of a session: generators, "kill now" at the first yield, "wait until it is back" at the second -------
def before_login(system, _):
    with system.client() as client:
        yield
        client.ok("NOOP")
        yield
        assert client.login("anna", "pw-anna").ok
        sees_own_mail(client, "anna")


def login_finishes(client, user="anna"):
    reply = client.reply("a1")
    assert reply.ok, reply
    sees_own_mail(client, user)


@contextlib.contextmanager
def logging_in(system):
    with system.client() as client:
        client.send("a1 LOGIN anna pw-anna\r\n")
        yield client


def lease_waits_for_lookupd(system, _):
    """lookupd is stopped: all of it, so that nobody can answer."""
    workers = process.children(VICTIMS["lookupd"](system))
    try:
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        with logging_in(system) as client:
            client.expect_nothing(0.1)
            yield
            client.expect_nothing(0.1)
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
            yield
            login_finishes(client)
    finally:
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def lease_waits_for_the_mail_host(system, backend):
    """The broker's connect is neither answered nor refused."""
    backend.fill_backlog()
    with logging_in(system) as client:
        client.expect_nothing(0.1)
        yield
        client.expect_nothing(0.1)
        backend.accepting.set()
        yield
        login_finishes(client)


def greeting_is_held_back(system, backend):
    greeting, reached, opened = backend.greeting, threading.Event(), threading.Event()

    def hold(conn):
        reached.set()
        opened.wait(process.DEADLINE)
        conn.send(greeting)

    backend.greeting = hold
    with logging_in(system) as client:
        assert reached.wait(process.DEADLINE)
        yield
        backend.greeting = greeting
        opened.set()
        yield
        login_finishes(client)


def backend_login_in_progress(system, backend):
    gate = backend.gate("AUTHENTICATE")
    with logging_in(system) as client:
        gate.wait()
        yield
        backend.ungate("AUTHENTICATE")
        yield
        login_finishes(client)


def relaying(system, _):
    with system.session("anna") as client:
        yield
        sees_own_mail(client, "anna")
        yield
        sees_own_mail(client, "anna")


def in_a_big_fetch(system, backend):
    opened, half = threading.Event(), len(BIG) // 2

    def answer(conn):
        conn.send(b"* 1 FETCH (UID 1 BODY[] {%d}\r\n" % len(BIG) + BIG[:half])
        opened.wait(process.DEADLINE)
        conn.send(BIG[half:] + b")\r\n")
        conn.done(conn.commands[-1], b"OK Fetched")

    backend.answers["UID"] = answer
    with system.session("anna") as client:
        client.send("a1 UID FETCH 1 BODY[]\r\n")
        got = client.expect(rb"\* 1 FETCH \(UID 1 BODY\[\] \{\d+\}\r\n") and client.exactly(half)
        yield
        opened.set()
        yield
        assert got + client.exactly(len(BIG) - half) == BIG
        client.expect_exact(")\r\na1 OK Fetched\r\n")
        sees_own_mail(client, "anna")


def in_idle(system, backend):
    with system.session("anna") as client:
        sees_own_mail(client, "anna")
        client.send("a1 IDLE\r\n")
        client.expect_exact("+ idling\r\n")
        yield
        backend.connections[-1].push(b"* 5 EXISTS\r\n")
        client.expect_exact("* 5 EXISTS\r\n")
        yield
        client.send("DONE\r\n")
        client.expect_exact("a1 OK Idle ended, says the backend\r\n")
        sees_own_mail(client, "anna")


def returning(system, backend):
    client = system.session("anna")
    sees_own_mail(client, "anna")
    pid = system.pid_serving(client)
    gate = backend.gate("UNSELECT")
    client.logout()
    gate.wait()
    yield
    assert alive(pid)
    backend.ungate("UNSELECT")
    wait_until(lambda: not alive(pid), "the session's process stays")
    yield


def client_gone_and_draining(system, backend):
    client = system.session("anna")
    sees_own_mail(client, "anna")
    pid = system.pid_serving(client)
    gate = backend.gate("NAMESPACE")
    client.send("a1 NAMESPACE\r\n")
    gate.wait()
    client.close()
    yield
    assert alive(pid)
    backend.ungate("NAMESPACE")
    wait_until(lambda: not alive(pid), "the session's process stays")
    yield


STATES = [before_login, lease_waits_for_lookupd, lease_waits_for_the_mail_host, greeting_is_held_back,
          backend_login_in_progress, relaying, in_a_big_fetch, in_idle, returning, client_gone_and_draining]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", VICTIMS)
def test_the_session_goes_on_when_a_program_ends(make, name, number, state):
    backend = make.backend()
    system = make.system(backend, spare_processes="2 2", lookup_processes=1)
    system.session("bystander").logout()
    system.wait_cached(1)
    before = settled_with(system, backend, 3)  # the listener and two spares
    with system.session("bystander") as bystander:
        steps = state(system, backend)
        next(steps)
        victim = VICTIMS[name](system)
        os.kill(victim, SIGNALS[number])
        sees_own_mail(bystander, "bystander")
        next(steps)
        wait_restarted(system, name, victim)
        for _ in steps:
            raise AssertionError("one step too many")
        with system.session("anna") as again, system.session("later") as later:
            sees_own_mail(again, "anna")
            sees_own_mail(later, "later")
            sees_own_mail(bystander, "bystander")
            check_connections(system, backend)
    wait_until(lambda: settled(system, backend) == before,
               lambda: f"{settled(system, backend)}, and before it was {before}\n{system.log_text()}")
    check_connections(system, backend)
    assert not alive(victim)
