"""The broker ended while each session is a process that systemd or xinetd has started.

Such a process has no door, so it cannot meet a broker that comes after kill -9: a session goes on and its connection is
not given back, a client before login is told to come again. A planned restart keeps its socket. All else is as in
test_failure_matrix.py.
"""
import os
import shutil
import subprocess

import pytest

from keepwarm import failures, process
from keepwarm.failures import SIGNALS, end_in_state, find_victim, sees_own_mail, settled_with, wait_restarted
from keepwarm.process import wait_until
from keepwarm.restart import restart
from keepwarm.system import BUILD

ACTIVATE = "systemd-socket-activate"
GO_ON = [failures.greeting_is_held_back, failures.backend_login_in_progress, failures.relaying,
         failures.in_a_big_fetch, failures.in_idle, failures.returning, failures.client_gone_and_draining]

pytestmark = pytest.mark.skipif(not shutil.which(ACTIVATE), reason=f"{ACTIVATE} is not installed")


@pytest.fixture
def exec_system(make, backend):
    system = make.system(backend, run_listener="no", lookup_processes=1, connect_timeout=20)
    with open(system.log, "ab") as log:
        starter = process.start([ACTIVATE, "-l", f"127.0.0.1:{system.port}", "--accept", "--inetd", BUILD / "proxyd",
                                 "-r", system.run_directory, "-l", "syslog"], stdin=subprocess.DEVNULL, stdout=log,
                                stderr=log)
    wait_until(system.greets, system.log_text)
    yield system
    starter.terminate()
    starter.wait(process.DEADLINE)


@pytest.mark.parametrize("state", GO_ON, ids=lambda state: state.__name__)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_session_without_a_door_goes_on(exec_system, backend, number, state):
    end_in_state(exec_system, backend, "broker", number, state, proxyds=0)


def test_the_connection_of_a_session_without_a_door_is_given_back_to_a_planned_broker(exec_system, backend):
    with exec_system.session("anna") as client:
        restart(exec_system)
        sees_own_mail(client, "anna")
        client.logout()
    exec_system.wait_cached(1)
    with exec_system.session("anna", reused=True) as client:
        sees_own_mail(client, "anna")


@pytest.mark.parametrize("when", ["before LOGIN", "while LOGIN waits"])
def test_a_login_without_a_door_waits_for_a_planned_broker(exec_system, backend, when):
    system = exec_system
    with system.client() as client:
        if when == "while LOGIN waits":
            backend.fill_backlog()
            client.send("a1 LOGIN anna pw-anna\r\n")
            client.expect_nothing(0.1)
        restart(system)
        if when == "before LOGIN":
            client.send("a1 LOGIN anna pw-anna\r\n")
        backend.accept_again()
        assert client.reply("a1").ok
        sees_own_mail(client, "anna")


def test_the_connection_of_a_session_without_a_door_is_not_given_back(exec_system, backend):
    system = exec_system
    with system.session("anna") as client:
        victim = find_victim(system, "broker")
        os.kill(victim, SIGNALS["kill -9"])
        wait_restarted(system, "broker", victim)
        sees_own_mail(client, "anna")
        client.logout()
    settled_with(system, backend, 0)
    backend.wait_for(lambda: not backend.open_connections(), "the connection is still open")
    with system.session("anna", reused=False) as client:
        sees_own_mail(client, "anna")


@pytest.mark.parametrize("when", ["before LOGIN", "while LOGIN waits"])
def test_a_client_without_a_door_is_told_when_the_broker_is_killed_before_its_login(exec_system, backend, when):
    system = exec_system
    with system.client() as client:
        if when == "while LOGIN waits":
            backend.fill_backlog()
            client.send("a1 LOGIN anna pw-anna\r\n")
            client.expect_nothing(0.1)
        victim = find_victim(system, "broker")
        os.kill(victim, SIGNALS["kill -9"])
        wait_restarted(system, "broker", victim)
        if when == "before LOGIN":
            client.ok("NOOP")
            client.send("a1 LOGIN anna pw-anna\r\n")
        assert client.reply("a1").tagged.startswith(b"NO [UNAVAILABLE] ")
        client.ok("NOOP")
        backend.accept_again()
    with system.session("anna") as client:
        sees_own_mail(client, "anna")
