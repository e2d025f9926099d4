"""Bounds before login: errors, time, attempts, clients."""
import signal
import time

import pytest

from keepwarm.process import DEADLINE, wait_until


def lines_up_to_bye(client, command, most=10):
    """Sends the command until BYE comes; returns how many answers came before it."""
    answers = 0
    for _ in range(most):
        client.send(command)
        line = client.line()
        while not line.startswith(b"* BYE "):
            answers += 1
            if client.buffer == b"":
                break
            line = client.line()
        else:
            client.expect_close()
            return answers
        try:
            client.sock.settimeout(0.2)
            client.buffer += client.sock.recv(1000)
        except TimeoutError:
            continue
        if client.buffer.startswith(b"* BYE "):
            client.line()
            client.expect_close()
            return answers
    raise AssertionError("no BYE")


def test_too_many_wrong_commands_end_with_bye(make, backend):
    system = make.system(backend, max_errors=3)
    with system.client() as client:
        assert lines_up_to_bye(client, "a1 FOO\r\n") in (2, 3)
    system.wait_log("reason=too-many-errors")


def test_too_many_failed_logins_end_with_bye(make, backend):
    system = make.system(backend, login_attempts=2)
    with system.client() as client:
        assert lines_up_to_bye(client, "a1 LOGIN anna wrong\r\n") in (2, 3)
    assert len(backend.logins) == 2
    system.wait_log("reason=too-many-logins")


@pytest.mark.parametrize("sent", ["", "a1 NOO", "a1 AUTHENTICATE PLAIN\r\n", "a1 LOGIN {4}\r\n"])
def test_a_client_that_does_not_log_in_in_time_gets_bye(make, backend, sent):
    system = make.system(backend, login_timeout=1)
    with system.client() as client:
        begin = time.monotonic()
        client.send(sent)
        client.expect(rb"(\+ [^\r\n]*\r\n)?\* BYE [^\r\n]+\r\n")
        client.expect_close()
        assert time.monotonic() - begin < DEADLINE
    system.wait_log("reason=login-timeout")


def test_commands_do_not_move_the_login_deadline(make, backend):
    system = make.system(backend, login_timeout=1)
    with system.client() as client:
        begin = time.monotonic()
        while time.monotonic() - begin < DEADLINE:
            client.send("a1 NOOP\r\n")
            if client.line().startswith(b"* BYE "):
                return
    raise AssertionError("no BYE")


def test_a_session_outlives_the_login_deadline(make, backend):
    system = make.system(backend, login_timeout=3)
    with system.session() as client:
        client.expect_nothing(3.5)
        client.ok("NOOP")


def test_clients_above_the_limit_get_bye_and_room_is_found_again(make, backend):
    system = make.system(backend, max_clients=2)
    system.forget_start()
    first, second = system.session("anna"), system.session("bert")
    with system.client() as third:
        assert third.greeting.startswith(b"* BYE "), third.greeting
        third.expect_close()
    first.ok("NOOP")
    first.logout()

    def served():
        with system.client() as client:
            return client.greeting.startswith(b"* OK ")

    wait_until(served, "no room after a client has left")
    second.ok("NOOP")
    second.close()
    wait_until(lambda: system.counter("clients_refused") >= 1, "the refusal is not counted")


def is_served(system):
    """Is there room for one more? It leaves at once."""
    with system.client() as client:
        return client.greeting.startswith(b"* OK ")


def admitted(system, user):
    """A session, if there is room for one more."""
    try:
        return system.session(user)
    except AssertionError:  # BYE, in the place of the greeting or behind it
        return None


def reload(system, **changes):
    before = system.log_text().count(": taken over")
    system.write_config(**changes)
    system.supervisor.send_signal(signal.SIGHUP)
    wait_until(lambda: system.log_text().count(": taken over") > before, lambda: "no reload:\n" + system.log_text())


def test_a_reload_moves_the_limit_of_clients_up_and_down(make, backend):
    system = make.system(backend, max_clients=2, spare_processes="1 2")
    system.forget_start()
    clients = [system.session(f"user{n}") for n in range(2)]
    assert not is_served(system)
    reload(system, max_clients=12)
    for n in range(2, 12):
        clients.append(wait_until(lambda: admitted(system, f"user{n}"), "no room below the limit"))  # pylint: disable=W0640
    assert not is_served(system)
    reload(system, max_clients=3)
    for client in clients:
        client.ok("NOOP")
    assert not is_served(system)
    for client in clients[3:]:
        client.logout()
    wait_until(lambda: system.gauge("clients") == 3, lambda: f"still counted: {system.stats()}")
    assert not is_served(system)
    clients[0].logout()
    wait_until(lambda: is_served(system), "no room after a client has left")


def test_the_greeting_is_quick_with_many_clients_at_once(make, backend):
    system = make.system(backend)
    clients = [system.client() for _ in range(100)]
    for client in clients:
        client.send("a1 NOOP\r\n")
    for client in clients:
        client.expect_exact("a1 OK Completed\r\n")
        client.close()
