"""The broker ended while each session is a process that systemd or xinetd has started.

Such a process is locked up when its broker dies, and meets the next one through the door that it was given with its
settings. All is as in test_failure_matrix.py, then.
"""
import os
import shutil
import signal
import socket
import subprocess

import pytest

from keepwarm import messages, process
from keepwarm.failures import SIGNALS, STATES, end_in_state, find_victim, sees_own_mail, settled_with, wait_restarted
from keepwarm.handover import Handover
from keepwarm.process import wait_until
from keepwarm.restart import restart
from keepwarm.system import BUILD

ACTIVATE = "systemd-socket-activate"
pytestmark = pytest.mark.skipif(not shutil.which(ACTIVATE), reason=f"{ACTIVATE} is not installed")


@pytest.fixture
def exec_system(make, backend, request):
    system = make.system(backend, run_listener="no", lookup_processes=1, **{"connect_timeout": 20, **getattr(request, "param", {})})
    with open(system.log, "ab") as log:
        starter = process.start([ACTIVATE, "-l", f"127.0.0.1:{system.port}", "--accept", "--inetd", BUILD / "proxyd",
                                 "-r", system.run_directory, "-l", "syslog"], stdin=subprocess.DEVNULL, stdout=log,
                                stderr=log)
    wait_until(lambda: b"Listening on" in system.log.read_bytes(), system.log_text)
    yield system
    starter.terminate()
    starter.wait(process.DEADLINE)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_session_without_a_listener_goes_on(exec_system, backend, number, state):
    end_in_state(exec_system, backend, "broker", number, state, proxyds=0)


def test_the_connection_of_a_session_without_a_listener_is_given_back_to_a_planned_broker(exec_system, backend):
    with exec_system.session("anna") as client:
        restart(exec_system)
        sees_own_mail(client, "anna")
        client.logout()
    exec_system.wait_cached(1)
    with exec_system.session("anna", reused=True) as client:
        sees_own_mail(client, "anna")


@pytest.mark.parametrize("when", ["before LOGIN", "while LOGIN waits"])
def test_a_login_without_a_listener_waits_for_a_planned_broker(exec_system, backend, when):
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


def test_the_connection_of_a_session_without_a_listener_is_not_given_back_to_a_broker_after_a_death(exec_system, backend):
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


@pytest.mark.parametrize("times", [1, 2])
def test_the_broker_is_killed_between_two_words_of_one_client(exec_system, backend, times):
    """The successor gives the same door to others, and its own successor has it as well."""
    system = exec_system
    with system.client() as first:
        for number in range(times):
            victim = find_victim(system, "broker")
            os.kill(victim, SIGNALS["kill -9"])
            wait_restarted(system, "broker", victim)
            first.ok("NOOP")
            with system.session(f"user{number}") as other:
                sees_own_mail(other, f"user{number}")
        assert first.login("anna", "pw-anna").ok
        sees_own_mail(first, "anna")


def test_a_client_that_comes_to_a_broker_that_hangs_is_greeted_by_the_next_one(exec_system, backend):
    system = exec_system
    victim = find_victim(system, "broker")
    os.kill(victim, signal.SIGSTOP)
    with system.client(greet=False) as client:
        client.expect_nothing(0.1)
        os.kill(victim, SIGNALS["kill -9"])
        wait_restarted(system, "broker", victim)
        client.expect(rb"\* OK [^\r\n]*\r\n")
        assert client.login("anna", "pw-anna").ok
        sees_own_mail(client, "anna")


@pytest.mark.parametrize("exec_system", [{"proxy_protocol_addresses": "127.0.0.1/32"}], indirect=True)
@pytest.mark.parametrize("killed_before", ["header", "LOGIN"])
def test_a_client_that_a_proxy_announces_meets_the_next_broker(exec_system, backend, killed_before):
    system = exec_system
    with system.client(greet=False) as client:
        for what in ("header", "LOGIN"):
            if what == killed_before:
                wait_until(lambda: system.gauge("clients") == 1, system.log_text)
                victim = find_victim(system, "broker")
                os.kill(victim, SIGNALS["kill -9"])
                wait_restarted(system, "broker", victim)
            if what == "header":
                client.send("PROXY TCP4 192.0.2.77 192.0.2.1 4711 143\r\n")
                client.expect(rb"\* OK [^\r\n]*\r\n")
        assert client.login("anna", "pw-anna").ok
        wait_until(lambda: [row["client"] for row in system.stats()["sessions"]] == ["192.0.2.77:4711"],
                   lambda: system.stats()["sessions"])


@pytest.mark.parametrize("exec_system", [{"auth_sasl_plain_username": "master", "auth_sasl_plain_password": "pw-master",
                                          "auth_shared_secret": "shared"}], indirect=True)
@pytest.mark.parametrize("behind", ["the start", "a restart"])
def test_a_login_that_takes_a_listener_is_soon_told_that_there_is_none(exec_system, behind):
    """Behind a restart one may be about to come; but not for as long as a login may take."""
    with exec_system.client() as before:
        if behind == "a restart":
            restart(exec_system)
        reply = before.login("anna", "shared")
        assert reply.tagged.startswith(b"NO [UNAVAILABLE]"), reply
    exec_system.wait_log("there is no listener for a login by errand")


class TwoBrokers(Handover):
    """The first one dies over HELLO, with its door, which it has given away already; the second one dies later."""

    doors = []

    def serve(self, link):
        self.doors[:] = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
        for ours, theirs in self.doors:
            hello = link.receive()
            link.push("DOOR", fds=[theirs.fileno()])
            theirs.close()
            if ours is self.doors[0][0]:
                ours.close()
                link.sock.close()
                self.link = link = messages.Peer(sock=self.listener.accept()[0])
        link.push("WELCOME", serial=hello.serial, **self.settings)


def test_the_door_is_that_of_the_broker_that_has_answered():
    with TwoBrokers() as two, two.client():
        two.link.sock.shutdown(socket.SHUT_RDWR)
        assert messages.Peer(sock=two.doors[1][0]).receive().name == "KNOCK"


# --- what a process that was taken over can do with that door ----------------------------------------------------
def test_a_session_that_said_hello_has_no_second_socket_and_no_more_attempts(exec_system):
    """Its door is another way to the same broker: what its process has used stays used."""
    with messages.session(exec_system) as peer, messages.Door(exec_system) as listener:
        door, listener.sock = listener.sock, peer.door
        door.close()
        assert peer.ask_lease(password="wrong").name == "LEASED"
        with listener.knock() as second:
            second.expect_cut_off()
        peer.outcome(messages.REFUSED)
        peer.sock.close()
        used = [second_try(listener) for _ in range(3)]
        assert used == ["LEASED", "LEASED", messages.REFUSAL_ATTEMPTS], exec_system.log_text()
    peer.door = None


def second_try(listener):
    with listener.knock() as peer:
        reply = peer.ask_lease(password="wrong")
        return reply.name if reply.name == "LEASED" else reply.reason


@pytest.mark.parametrize("how", ["SHUT_RDWR", "SHUT_WR", "SHUT_RD"])
def test_a_session_that_shuts_the_door_down_harms_those_of_before_only(exec_system, backend, how):
    """The next one to come has another door."""
    system = exec_system
    with messages.session(system) as peer:
        peer.door.shutdown(getattr(socket, how))
        assert process.cpu_share(system.pids("cachebrokerd"), 1) < 0.3
    with system.client() as client:
        victim = find_victim(system, "broker")
        os.kill(victim, SIGNALS["kill -9"])
        wait_restarted(system, "broker", victim)
        assert client.login("anna", "pw-anna").ok
