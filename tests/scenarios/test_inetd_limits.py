"""What xinetd and openbsd-inetd bring along: xinetd's limits and access control, standard error that is the client's, what
becomes of sessions when they end; and the broker killed beside them.
"""
import contextlib
import os
import signal
import socket

import pytest

from keepwarm import certs, inetd, process
from keepwarm.failures import find_victim, sees_own_mail, wait_restarted
from keepwarm.imap import DEADLINE, Client
from keepwarm.process import wait_until
from keepwarm.system import System

HERE = "127.0.0.1"


def by_mode(*modes):
    return pytest.mark.parametrize("mode", [
        pytest.param(mode, marks=pytest.mark.skipif(inetd.missing(mode) is not None, reason="it is not here"))
        for mode in modes])


needs_xinetd = pytest.mark.skipif(inetd.missing("xinetd nowait") is not None, reason="xinetd is not installed")


@pytest.fixture
def system(make, backend):
    return make.system(backend, run_listener="no")


def dial(system, source=HERE):
    """A client from that address; what it is greeted with is not read."""
    sock = socket.create_connection((HERE, system.port), timeout=DEADLINE, source_address=(source, 0))
    return Client(None, sock=sock, greet=False)


def is_served(system, source=HERE):
    with dial(system, source) as client:
        with contextlib.suppress(ConnectionError):
            return client.fill() and client.buffer.startswith(b"* OK ")
    return False


def session(system, user, source=HERE):
    client = dial(system, source)
    client.greeting = client.line()
    assert client.login(user, f"pw-{user}").ok
    return client


# --- xinetd's limits: who is over one gets what xinetd gives, a closed connection and not a byte ------------------
@needs_xinetd
def test_instances(system, backend):
    with inetd.started(system, "xinetd nowait", instances=2):
        with session(system, "anna") as first, session(system, "bert") as second:
            with dial(system) as third:
                assert third.read_to_end() == b""
            sees_own_mail(first, "anna")
            sees_own_mail(second, "bert")
            first.logout()
            wait_until(lambda: is_served(system), "the room of who has left is not given to another")
            sees_own_mail(second, "bert")
    assert len(backend.logins) == 2


@needs_xinetd
def test_per_source(system):
    with inetd.started(system, "xinetd nowait", per_source=1):
        with session(system, "anna") as client:
            with dial(system) as second:
                assert second.read_to_end() == b""
            assert is_served(system, "127.0.0.2")
            sees_own_mail(client, "anna")
        wait_until(lambda: is_served(system), "who has left still counts")


@needs_xinetd
@pytest.mark.parametrize("attributes, served, refused", [
    ({"only_from": "127.0.0.2 127.0.0.3"}, ("127.0.0.2", "127.0.0.3"), (HERE, "127.0.0.4")),
    ({"no_access": "127.0.0.2"}, (HERE, "127.0.0.3"), ("127.0.0.2",)),
    ({"only_from": "127.0.0.0/30", "no_access": "127.0.0.2"}, (HERE, "127.0.0.3"), ("127.0.0.2", "127.0.0.4")),
], ids=["only_from", "no_access", "both"])
def test_access_control(system, attributes, served, refused):
    with inetd.started(system, "xinetd nowait", **attributes):
        assert {source: is_served(system, source) for source in (*served, *refused)} == \
            {source: source in served for source in (*served, *refused)}
    system.wait_counter("clients", len(served))  # the broker has seen nobody else


@by_mode("inetd nowait")
def test_inetds_own_limit_is_lifted(system, mode):
    """256 a minute is its default; then the port is shut for ten."""
    with inetd.started(system, mode):
        for number in range(300):
            assert is_served(system), number


@needs_xinetd
def test_the_limits_of_xinetd_that_hurt_are_lifted(system):
    """Its defaults would be 50 a second and 10 of one address."""
    with inetd.started(system, "xinetd nowait"):
        clients = [Client(system.port, greet=False) for _ in range(60)]
        for client in clients:
            assert client.line().startswith(b"* OK ")
            client.close()


@by_mode(*inetd.NOWAIT, *inetd.WAIT)
def test_the_brokers_limits_hold(make, backend, mode):
    system = make.system(backend, run_listener="no", max_clients=2, deny_addresses="127.0.0.3")
    with inetd.started(system, mode):
        with session(system, "anna"), session(system, "bert"), dial(system) as third:
            assert third.read_to_end().startswith(b"* BYE ")
        wait_until(lambda: is_served(system), "who has left still counts")
        with dial(system, "127.0.0.3") as denied:
            with contextlib.suppress(ConnectionError):
                assert denied.read_to_end() == b""


# --- standard error is the client's ------------------------------------------------------------------------
FAREWELL = {"imap": rb"\* BYE [^\r\n]+\r\n", "pop3": rb"-ERR [^\r\n]+\r\n", "imaps": b"", "pop3s": b""}


def hear(port, say=b""):
    """Everything that a client is told."""
    with Client(port, greet=False) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.send(say)
            return client.read_to_end()
    return b""


@by_mode(*inetd.NOWAIT)
@pytest.mark.parametrize("more", ["", "-l stderr", "-l file"])
def test_with_the_broker_away_the_client_sees_only_protocol(system, mode, more):
    system.run_directory = system.folder / "nobody-there"
    with inetd.started(system, mode, inetd.SERVICES, more=more) as ports:
        for service, port in ports.items():
            with Client(port, greet=False) as client:
                client.expect(FAREWELL[service])
                client.expect_close()
    system.run_directory = system.folder / "run"


@by_mode(*inetd.NOWAIT)
@pytest.mark.parametrize("more", [
    "-r /" + "x" * 300, "-s nonsense", "-l nonsense", "-Z", "-r", "nonsense", "-r /etc/passwd -l stderr", "-r /dev/null -l file",
], ids=lambda text: text[:20])
def test_wrong_arguments_are_no_business_of_the_client(system, mode, more):
    with inetd.started(system, mode, more=more):
        said = hear(system.port, b"a NOOP\r\n")
        assert said == b"" or said.startswith(b"* BYE ") and said.count(b"\r\n") == 1, said


@by_mode(*inetd.NOWAIT)
def test_log_lines_on_standard_error_do_not_reach_the_client(system, backend, mode):
    """Refused and failed logins, a broken session, a session's end: each is worth a line."""
    with inetd.started(system, mode, more="-l stderr"):
        said = hear(system.port, b"a LOGIN anna wrong\r\nb LOGIN anna pw-anna\r\nc NOOP\r\nd LOGOUT\r\n")
        with session(system, "carl") as client:
            for connection in backend.open_connections():
                connection.drop()
            rest = client.read_to_end()
        backend.stop()
        refused = hear(system.port, b"a LOGIN bert pw-bert\r\nb LOGOUT\r\n")
    for text in (said, rest, refused):
        lines = text.split(b"\r\n")
        assert lines.pop() == b"" and all(line.startswith((b"* ", b"a ", b"b ", b"c ", b"d ")) for line in lines), text
        assert b"proxyd" not in text and b"imapproxyd" not in text, text


@by_mode(*inetd.NOWAIT)
def test_tls_that_fails_leaves_nothing_in_clear_text(make, backend, mode, tmp_path):
    ours = certs.Authority(tmp_path).issue("127.0.0.1")
    system = make.system(backend, run_listener="no", tls_server_cert_file=ours.path, tls_server_key_file=ours.key_path)
    with inetd.started(system, mode, ("imaps", "pop3s"), more="-l stderr") as ports:
        for port in ports.values():
            said = hear(port, b"a LOGIN anna pw-anna\r\n" * 3)
            assert said == b"" or said[0] == 21, said  # a TLS alert


# --- ends ----------------------------------------------------------------------------------------------------
@by_mode(*inetd.NOWAIT, *inetd.WAIT)
def test_the_broker_killed_under_what_a_supervisor_has_started(system, mode):
    """Through the door sessions reach the next one; who was leased by the one before is not given back."""
    with inetd.started(system, mode):
        with session(system, "anna") as client, dial(system) as waiting:
            waiting.greeting = waiting.line()
            victim = find_victim(system, "broker")
            os.kill(victim, signal.SIGKILL)
            wait_restarted(system, "broker", victim)
            assert waiting.login("bert", "pw-bert").ok
            sees_own_mail(client, "anna")
            client.logout()
            waiting.logout()
        system.wait_given()
        for user in ("anna", "bert"):
            with system.session(user, reused=user == "bert") as client:
                sees_own_mail(client, user)


def next_listener(system, before):
    """One whose children are there and that the supervisor has started."""
    return [pid for pid in inetd.listeners(system) if pid != before and process.parent(pid) == system.starter.pid]


@by_mode(*inetd.WAIT)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "SIGTERM"])
def test_the_supervisor_starts_the_next_listener(system, mode, number):
    with inetd.started(system, mode):
        with session(system, "anna") as client:
            (listener,) = wait_until(lambda: inetd.listeners(system), system.log_text)
            os.kill(listener, number)
            wait_until(lambda: not process.alive(listener), "it is still there")
            sees_own_mail(client, "anna")
            # spares of the one before may still take a client
            wait_until(lambda: is_served(system) and next_listener(system, listener), "there is no next listener")
            assert is_served(system)
            sees_own_mail(client, "anna")


@by_mode(*inetd.NOWAIT, *inetd.WAIT)
def test_sessions_go_on_when_their_supervisor_is_stopped(system, mode):
    with inetd.started(system, mode):
        with session(system, "anna") as client:
            system.starter.terminate()
            system.starter.wait(process.DEADLINE)
            sees_own_mail(client, "anna")
            client.logout()
        system.wait_given()


@by_mode(*inetd.NOWAIT, *inetd.WAIT)
def test_in_imapproxyd_is_restarted_beside_the_supervisor(system, mode):
    """A session that was there is told to end, as with its own listener; the next client meets the next broker."""
    with inetd.started(system, mode):
        with session(system, "anna") as client:
            system.supervisor.terminate()
            assert system.supervisor.wait(process.DEADLINE) == 0
            assert b"* BYE " in client.read_to_end()
        system.start()
        wait_until(lambda: is_served(system), system.log_text)
        for reused in (False, True):
            with session(system, "anna") as client:
                sees_own_mail(client, "anna")
                client.logout()
            system.wait_given()


@by_mode(*inetd.WAIT)
def test_a_client_that_comes_before_the_broker_is_greeted_when_it_is_there(make, backend, mode):
    system = System(backend.port, run_listener="no")
    make.started.append(system)
    with inetd.started(system, mode):
        with Client(system.port, greet=False) as client:
            wait_until(lambda: system.pids("proxyd"), "nobody was started")
            client.expect_nothing()
            system.start()
            assert client.line().startswith(b"* OK ")
            assert client.login("anna", "pw-anna").ok
