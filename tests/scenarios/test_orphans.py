"""kill -9 of in.imapproxyd: sessions go on to their end, and nothing of the old stands in the way of the next one."""
import contextlib
import os
import re
import signal
import threading

import pytest

from keepwarm import process
from keepwarm.imap import Client
from keepwarm.process import alive, frozen, wait_until
from test_activation import ACTIVATE, WAYS, available, started


def kill_supervisor(system):
    """Kills it and returns the processes that it leaves behind, of the two programs that must end by themselves."""
    left = system.pids("cachebrokerd") + system.pids("lookupd")
    os.kill(system.supervisor.pid, signal.SIGKILL)
    system.supervisor.wait()
    system.supervisor = None
    return left


def kill_supervisor_and_broker(system, first):
    broker, supervisor = system.pids("cachebrokerd")[0], system.supervisor.pid
    if first == "broker":  # a supervisor that runs would start the next one
        os.kill(supervisor, signal.SIGSTOP)
        left = system.pids("lookupd")
        os.kill(broker, signal.SIGKILL)
        wait_until(lambda: not alive(broker), "the broker lives")
        return left + kill_supervisor(system)
    left = kill_supervisor(system)
    os.kill(broker, signal.SIGKILL)
    return left


def start_next(system):
    """At first the old listener's spares may still greet: ready is what the next one calls so."""
    before = system.log_text().count("is ready")
    system.start()
    wait_until(system.running_or_fail(lambda: system.log_text().count("is ready") > before),
               lambda: "not ready:\n" + system.log_text())


def fetches(client, user):
    client.ok("SELECT INBOX")
    return b"<%b>" % user.encode() in client.ok("FETCH 1 BODY[]").text


class Clients:
    """One in each state in which the supervisor's death may meet it."""

    def __init__(self, system, backend):
        self.backend = backend
        self.idle = system.client()
        self.relayed = system.session("relayed")
        assert fetches(self.relayed, "relayed")
        self.gate = backend.gate("AUTHENTICATE")
        self.waiting = system.client()
        self.waiting.send("w1 LOGIN waiting pw-waiting\r\n")
        self.gate.wait()

    def let_the_login_go_on(self):
        self.backend.ungate("AUTHENTICATE")
        assert self.waiting.reply("w1").ok
        assert fetches(self.waiting, "waiting")

    def log_in(self):
        assert self.idle.login("idle", "pw-idle").ok
        assert fetches(self.idle, "idle")

    def leave(self):
        for client in (self.idle, self.relayed, self.waiting):
            client.logout()
            client.close()


def gone(system, left):
    wait_until(lambda: not any(map(alive, left)), lambda: f"still there: {left}, {system.pids()}\n{system.log_text()}")


def is_refused(system):
    try:
        Client(system.port, greet=False).close()
    except OSError:
        return True
    return False


def test_sessions_go_on_to_their_end_and_waiting_logins_succeed(system, backend):
    system.session("cached").logout()
    system.wait_cached(1)
    system.wait_clients(0)
    clients = Clients(system, backend)
    system.wait_clients(3)
    left = kill_supervisor(system)
    wait_until(lambda: backend.connections[0].closed.is_set(), "an idle connection is kept for nobody")
    wait_until(lambda: is_refused(system), "the port is still open")
    clients.let_the_login_go_on()
    clients.log_in()
    assert fetches(clients.relayed, "relayed")
    assert all(map(alive, left))
    clients.leave()
    gone(system, left)
    wait_until(lambda: not system.pids(), lambda: f"left behind: {system.pids()}")
    backend.wait_for(lambda: not backend.open_connections(), "a connection was put into a cache that has no heir")
    assert "the supervisor is gone: serving 3 sessions" in system.log_text()


def test_the_next_one_starts_at_once_while_the_old_sessions_go_on(system, backend):
    clients = Clients(system, backend)
    left = kill_supervisor(system)
    start_next(system)
    clients.let_the_login_go_on()
    clients.log_in()
    assert fetches(clients.relayed, "relayed")
    before = system.counter("logins"), system.counter("clients")
    assert before[0] == 0, "sessions of before are counted"
    with system.session("new", reused=False) as client:
        assert fetches(client, "new")
        system.wait_counter("logins", 1)
        assert [row["user"] for row in system.stats()["sessions"] if row["user"]] == ["new"]
        clients.leave()
        gone(system, left)
        assert fetches(client, "new")
        client.logout()
    system.wait_cached(1)
    with system.session("new", reused=True):
        wait_until(lambda: system.counter("clients") >= before[1] + 2, "they are not counted")
        system.wait_counter("logins", 2)
        assert system.counter("given") == 1 and system.programs()["cachebrokerd"] == 1


def test_many_deaths_and_starts_one_right_after_the_other(make, backend):
    system = make.system(backend, spare_processes="8 16")
    clients, left = [], []
    for number in range(6):
        clients.append(system.session(f"user{number}"))
        system.wait_counter("logins", 1)
        left += kill_supervisor(system)
        start_next(system)
        assert system.counter("logins") == 0
        assert [row["user"] for row in system.stats()["sessions"] if row["user"]] == []
    for number, client in enumerate(clients):
        assert fetches(client, f"user{number}")
        client.logout()
    gone(system, left)
    assert system.counter("logins") == 0 and "cannot be written" not in system.log_text()
    with system.session("last") as client:
        client.ok("NOOP")
    assert system.programs()["cachebrokerd"] == system.programs()["in.imapproxyd"] == 1


def signal_all(pids, number):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # one that has just had its client
            os.kill(pid, number)


def test_the_next_one_waits_for_a_port_that_the_old_listener_has_not_left_yet(system):
    spares = [pid for pid in system.pids("proxyd") if pid != system.listener_pid()]
    signal_all(spares, signal.SIGSTOP)
    kill_supervisor(system)
    later = threading.Timer(0.5, signal_all, [spares, signal.SIGCONT])
    later.start()
    start_next(system)
    later.join()
    with system.session() as client:
        client.ok("NOOP")


def test_nothing_is_put_into_a_cache_that_has_no_heir(system, backend):
    idle, first = system.client(), system.session("anna")
    left = kill_supervisor(system)
    system.wait_log("the supervisor is gone")
    first.logout()
    backend.wait_for(lambda: not backend.open_connections(), "a connection was kept")
    reply = idle.login("anna", "pw-anna")
    assert reply.ok and not reply.reused
    idle.logout()
    gone(system, left)


def test_a_stop_of_the_next_one_leaves_the_old_sessions_alone(system, backend):
    old = system.session("old")
    left = kill_supervisor(system)
    start_next(system)
    new = system.session("new")
    system.supervisor.terminate()
    assert new.read_to_end().startswith(b"* BYE ")
    assert system.supervisor.wait(process.DEADLINE) == 0
    system.supervisor = None
    assert fetches(old, "old")
    old.logout()
    gone(system, left)


@pytest.mark.parametrize("first", ["broker", "supervisor"])
def test_without_supervisor_and_broker_a_session_goes_on_until_its_client_leaves(system, backend, first):
    clients = Clients(system, backend)
    left = kill_supervisor_and_broker(system, first)
    clients.let_the_login_go_on()
    assert fetches(clients.relayed, "relayed")
    for _ in range(2):
        assert clients.idle.login("idle", "pw-idle").tagged.startswith(b"NO [UNAVAILABLE] ")
        clients.idle.ok("NOOP")
    gone(system, left)
    assert fetches(clients.relayed, "relayed")
    clients.leave()
    wait_until(lambda: not system.pids(), lambda: f"left behind: {system.pids()}")
    backend.wait_for(lambda: not backend.open_connections(), "a backend connection is left open")
    for user in ("relayed", "waiting"):
        assert re.search(rf"reason=logout .*user={user} .*cached=no-lease", system.log_text()), system.log_text()


def test_sessions_survive_the_death_of_the_broker_that_was_left(system, backend):
    client = system.session()
    left = kill_supervisor(system)
    system.wait_log("the supervisor is gone")
    os.kill(left[0], signal.SIGKILL)
    gone(system, left)
    assert fetches(client, "anna")
    client.logout()


def test_the_broker_that_was_left_still_ends_its_sessions_when_told(system, backend):
    client = system.session()
    left = kill_supervisor(system)
    system.wait_log("the supervisor is gone")
    os.kill(left[0], signal.SIGINT)
    assert client.read_to_end() == b"* BYE [UNAVAILABLE] Service is stopping\r\n"
    gone(system, left)


@pytest.mark.skipif(not available("accept as fd 0"), reason=f"{ACTIVATE} is not installed")
def test_processes_that_others_started_are_served_to_their_end_too(make, backend):
    system = make.system(backend, run_listener="no")
    with started(system, WAYS["accept as fd 0"](system)):
        idle, relayed = Client(system.port), Client(system.port)
        assert relayed.login("relayed", "pw-relayed").ok
        left = kill_supervisor(system)
        system.wait_log("the supervisor is gone")
        with Client(system.port, greet=False) as late:
            assert late.read_to_end().startswith(b"* BYE [UNAVAILABLE]")
        assert fetches(relayed, "relayed")
        assert idle.login("idle", "pw-idle").ok
        start_next(system)
        with Client(system.port) as new:
            assert new.login("new", "pw-new").ok
        assert fetches(idle, "idle")
        for client in (idle, relayed):
            client.logout()
            client.close()
        gone(system, left)


@pytest.mark.skipif(not available("listening sockets"), reason=f"{ACTIVATE} is not installed")
def test_a_listener_that_others_keep_meets_the_next_broker(make, backend):
    system = make.system(backend, run_listener="no")
    with started(system, WAYS["listening sockets"](system)):
        old = Client(system.port)
        assert old.login("old", "pw-old").ok
        left = kill_supervisor(system)
        system.wait_log("the supervisor is gone")
        start_next(system)
        for number in range(8):
            with Client(system.port) as client:
                assert client.login("new", "pw-new").ok
                client.logout()
            system.wait_counter("given", number + 1)
        assert fetches(old, "old")
        old.logout()
        gone(system, left)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may look which process serves a client")
@pytest.mark.parametrize("logged_in", [True, False])
def test_a_session_that_slept_through_a_stop_says_bye_and_does_not_go_on(make, backend, logged_in):
    """The broker's last word waits for it together with the broker's end."""
    system = make.system(backend)
    client = system.session() if logged_in else system.client()
    with frozen(system.pid_serving(client)):
        system.supervisor.terminate()
        wait_until(lambda: not system.pids("cachebrokerd"), "the broker waits for ever")
    assert client.read_to_end() == b"* BYE [UNAVAILABLE] Service is stopping\r\n"
    assert system.supervisor.wait(process.DEADLINE) == 0
    system.supervisor = None
