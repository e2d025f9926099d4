"""kill -9 of each program in each state: one session's trouble is nobody else's."""
import os
import signal

import pytest

from keepwarm.process import fd_count, wait_until


def kill(pid):
    os.kill(pid, signal.SIGKILL)


class Bystander:
    """A session that goes on all the while."""

    def __init__(self, system):
        self.client = system.session("bystander")
        self.client.ok("SELECT INBOX")

    def check(self):
        assert b"<bystander>" in self.client.ok("FETCH 1 BODY[]").text


def before_login(system, _):
    client = system.client()
    kill(system.pid_serving(client))
    return client


def during_login(system, backend):
    gate = backend.gate("AUTHENTICATE")
    client = system.client()
    client.send("a1 LOGIN victim pw-victim\r\n")
    gate.wait()
    kill(system.pid_serving(client))
    backend.ungate("AUTHENTICATE")
    return client


def in_session(system, _):
    client = system.session("victim")
    kill(system.pid_serving(client))
    return client


def in_mid_command(system, backend):
    client = system.session("victim")
    client.ok("SELECT INBOX")
    gate = backend.gate("FETCH")
    client.send("a1 FETCH 1 BODY[]\r\n")
    gate.wait()
    kill(system.pid_serving(client))
    backend.ungate("FETCH")
    return client


def while_returning(system, backend):
    client = system.session("victim")
    client.ok("SELECT INBOX")
    pid = system.pid_serving(client)
    gate = backend.gate("UNSELECT")
    client.send("z LOGOUT\r\n")
    client.expect_exact("* BYE LOGOUT received\r\nz OK Completed\r\n")
    gate.wait()
    kill(pid)
    backend.ungate("UNSELECT")
    return client


def settled(system):
    """What must be the same before and after: processes and descriptors, nothing cached."""
    return system.programs(), system.fds(), [fd_count(pid) for pid in system.pids("lookupd")]


@pytest.mark.parametrize("moment", [before_login, during_login, in_session, in_mid_command, while_returning],
                         ids=lambda moment: moment.__name__)
def test_a_killed_session_is_nobody_elses_trouble(make, backend, moment):
    # only what is to be cached is brought back at all
    system = make.system(backend, cache_expiration_time=1 if moment is while_returning else 0, spare_processes="3 3")
    bystander = Bystander(system)
    system.session("victim").logout()  # everything has been used once
    backend.wait_for(lambda: len(backend.open_connections()) == 1, "the first connection is still there")
    wait_until(lambda: system.gauge("active") == 1, "the first session is still counted")
    system.wait_clients(1)
    wait_until(lambda: system.programs().get("proxyd") == 6, lambda: f"not settled: {system.programs()}")
    before = settled(system)
    client = moment(system, backend)
    client.read_to_end()
    client.close()
    bystander.check()
    with system.session("victim", reused=False) as again:
        again.ok("NOOP")
    bystander.check()
    wait_until(lambda: settled(system) == before, lambda: f"{settled(system)}, and before it was {before}")
    wait_until(lambda: system.gauge("active") == 1, "the killed session is still counted")
    wait_until(lambda: len(backend.open_connections()) == 1, "a backend connection is left open")
    wait_until(lambda: system.counter("sessions_lost") >= 1, "the lost session is not counted")


def test_a_killed_session_does_not_leave_its_connection_to_anybody(system, backend):
    in_session(system, backend).close()
    with system.session("victim", reused=False):
        pass
    assert len(backend.connections) == 2


def new_pid(system, program, old):
    wait_until(lambda: system.pids(program) and old not in system.pids(program),
               lambda: f"{program} was not restarted:\n{system.log_text()}")


def login_works(system, user="later"):
    """A login succeeds, at the latest at the deadline; clients that are told to wait try again."""
    def attempt():
        try:
            with system.client() as client:
                return client.login(user, f"pw-{user}").ok and client.ok("NOOP")
        except (OSError, AssertionError):
            return False
    wait_until(attempt, lambda: "no login succeeds:\n" + system.log_text())


@pytest.mark.parametrize("program", ["cachebrokerd", "lookupd"])
def test_sessions_go_on_and_logins_succeed_after_a_kill(system, backend, program):
    bystander = Bystander(system)
    victim = system.pids(program)[0]
    kill(victim)
    bystander.check()
    login_works(system)
    new_pid(system, program, victim)
    bystander.check()
    bystander.client.logout()


def test_a_client_that_waits_for_login_survives_the_brokers_death(system, backend):
    with system.client() as client:
        client.ok("NOOP")
        victim = system.pids("cachebrokerd")[0]
        kill(victim)
        new_pid(system, "cachebrokerd", victim)
        assert client.login("anna", "pw-anna").ok
        client.ok("NOOP")


def test_sessions_go_on_and_logins_succeed_after_the_listeners_death(system):
    bystander = Bystander(system)
    listener = system.listener_pid()
    kill(listener)
    bystander.check()
    login_works(system)
    wait_until(lambda: system.find_listener() not in (None, listener), "the listener was not restarted")
    bystander.check()
    bystander.client.logout()


def test_doors_do_not_pile_up_when_the_listener_dies_again_and_again(make, backend):
    system = make.system(backend, cache_expiration_time=0, spare_processes="3 3")
    system.forget_start()
    bystander = Bystander(system)
    wait_until(lambda: system.programs().get("proxyd") == 6, lambda: f"not settled: {system.programs()}")
    system.wait_clients(1)
    before = system.fds()
    for _ in range(4):
        listener = system.listener_pid()
        kill(listener)
        wait_until(lambda: system.find_listener() not in (None, listener), "the listener was not restarted")
        login_works(system)
    bystander.check()
    bystander.client.logout()
    wait_until(lambda: system.programs().get("proxyd") == 5, lambda: f"spares of old stay: {system.programs()}")
    again = Bystander(system)  # as many sessions as before, through the new door
    wait_until(lambda: system.fds() == before, lambda: f"{system.fds()}, and before it was {before}")
    again.check()


def test_a_session_that_outlived_the_broker_is_not_given_back_wrongly(system, backend):
    client = system.session("anna")
    victim = system.pids("cachebrokerd")[0]
    kill(victim)
    new_pid(system, "cachebrokerd", victim)
    client.ok("NOOP")
    client.logout()
    with system.session("anna") as again:
        again.send("c1 NOOP\r\n")
        again.expect_exact("c1 OK Noop, says the backend\r\n")


def test_counters_survive_the_brokers_death(system, backend):
    system.session("anna").logout()
    system.wait_cached(1)
    victim = system.pids("cachebrokerd")[0]
    kill(victim)
    new_pid(system, "cachebrokerd", victim)
    login_works(system)
    wait_until(lambda: system.counter("logins") >= 2, lambda: f"{system.stats()}")


def test_the_idle_connections_of_a_killed_broker_are_closed(system, backend):
    system.session("anna").logout()
    system.wait_cached(1)
    kill(system.pids("cachebrokerd")[0])
    backend.wait_for(lambda: not backend.open_connections(), "left open")
    login_works(system, "anna")


def test_processes_and_descriptors_are_the_same_after_many_sessions(make, backend):
    system = make.system(backend, cache_expiration_time=0, spare_processes="3 3")

    def round_of_sessions():
        for number in range(20):
            client = system.session(f"user{number}")
            client.ok("SELECT INBOX")
            client.logout() if number % 2 else client.close()
        wait_until(lambda: system.gauge("active") == 0 and not backend.open_connections(), "not quiet")
        system.wait_clients(0)

    round_of_sessions()
    wait_until(lambda: system.programs().get("proxyd") == 5, lambda: f"{system.programs()}")
    before = settled(system)
    round_of_sessions()
    wait_until(lambda: settled(system) == before, lambda: f"{settled(system)}, and before it was {before}")
