"""Deadlines: peers that freeze, drip or never answer; and nothing spins while it waits."""
import os
import signal
import time

import pytest

from keepwarm.backend import SILENCE
from keepwarm.messages import session as hello
from keepwarm.process import alive, cpu_share, frozen, wait_until

SPIN = 0.2  # of a core: far above what waiting costs, far below what spinning does


def gone(pid, system):
    """Soon: what it could wait for otherwise takes longer than any test."""
    wait_until(lambda: not alive(pid), lambda: f"process {pid} stays:\n{system.log_text()}")


# --- nothing spins ----------------------------------------------------------------------------------------
def test_an_idle_system_uses_nearly_no_processor(system):
    with system.session("idler"):
        system.session("cached").logout()
        system.wait_cached(1)
        assert cpu_share(system.pids(), 2) < 0.05


def settled(read):
    """Waits until a number has not changed for a while."""
    seen = {"value": read(), "since": time.monotonic()}

    def same():
        value = read()
        if value != seen["value"]:
            seen.update(value=value, since=time.monotonic())
        return time.monotonic() - seen["since"] > 0.3

    wait_until(same, lambda: f"still changing: {seen}")


@pytest.fixture
def full(make):
    """A session whose client reads nothing: 32 MB fill every buffer on the way to it."""
    backend = make.backend()
    size = 32 << 20
    backend.answers["STATUS"] = b"* 1 FETCH (BODY[] {%d}\r\n" % size + b"x" * size + b")\r\nTAG OK done\r\n"
    system = make.system(backend)
    client = system.session()
    pid = system.pid_serving(client)
    client.send("a1 STATUS INBOX (MESSAGES)\r\n")
    backend.wait_for(lambda: "STATUS" in backend.connections[0].verbs(), "the command does not come")
    settled(lambda: turns_of(pid))
    yield system, backend.connections[0], client, pid
    client.close()


def turns_of(pid):
    """How often the process has been given the processor: no more when all buffers are full."""
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[2])


@pytest.mark.parametrize("end", ["reset", "drop"])
def test_a_lost_mail_host_behind_a_client_that_does_not_read_costs_nothing(full, end):
    system, conn, client, pid = full
    getattr(conn, end)()
    wait_until(conn.closed.is_set, "the mail host's end is still open")
    assert alive(pid)
    assert cpu_share([pid], 1) < SPIN
    client.close()
    gone(pid, system)


def test_a_client_that_does_not_read_costs_nothing(full):
    system, _, client, pid = full
    assert cpu_share([pid], 1) < SPIN
    client.send("a2 NOOP\r\n")
    assert cpu_share([pid], 1) < SPIN
    client.reset()
    gone(pid, system)


def test_a_client_that_half_closes_in_mid_answer_costs_nothing(full):
    """It may still take the rest; it does not, and its time is over soon."""
    system, _, client, pid = full
    client.sock.shutdown(1)
    gone(pid, system)
    assert b"\r\na1 OK" not in client.read_to_end()


# --- a mail host that drips -------------------------------------------------------------------------------
def dripping(piece):
    """An answer that sends a piece each 100 ms, until it is hung up on."""
    def answer(conn):
        while not conn.closed.wait(0.1):
            conn.send(piece)
    return answer


@pytest.mark.parametrize("piece", [b"* OK still thinking\r\n", b"x"], ids=["lines", "bytes"])
@pytest.mark.parametrize("where", ["greeting", "AUTHENTICATE", "CAPABILITY", "LOGIN"])
def test_a_mail_host_that_drips_during_the_login_is_given_up(make, where, piece):
    backend = make.backend(before="IMAP4rev1" if where == "LOGIN" else "IMAP4rev1 AUTH=PLAIN SASL-IR")
    if where == "greeting":
        backend.greeting = dripping(b"x")
    else:
        backend.answers[where] = dripping(piece)
    if where == "CAPABILITY":
        backend.greeting = b"* OK ready\r\n"
    system = make.system(backend, backend_timeout=3)
    with system.client() as client:
        begin = time.monotonic()
        assert client.login("anna", "pw-anna").tagged.startswith(b"NO [UNAVAILABLE] ")
        assert time.monotonic() - begin < 12, "it drips for as long as it is let"
        backend.answers.clear()
        backend.greeting = b"* OK [CAPABILITY " + backend.before.encode() + b"] ready\r\n"
        assert client.login("anna", "pw-anna").ok


def test_a_mail_host_that_drips_during_the_reset_is_given_up(make, backend):
    backend.answers["NOOP"] = dripping(b"* OK still thinking\r\n")
    system = make.system(backend, backend_timeout=1)
    client = system.session()
    pid = system.pid_serving(client)
    client.logout()
    gone(pid, system)
    system.wait_log("cached=reset-failed")


# --- a mail host that never answers -----------------------------------------------------------------------
@pytest.mark.parametrize("leave", ["close", "reset"])
def test_idle_that_is_never_answered_does_not_keep_the_process(make, backend, leave):
    backend.answers["IDLE"] = SILENCE
    system = make.system(backend, drain_time=1)
    client = system.session()
    pid = system.pid_serving(client)
    client.send("a1 IDLE\r\n")
    backend.wait_for(lambda: "IDLE" in backend.connections[0].verbs(), "no IDLE came")
    getattr(client, leave)()
    gone(pid, system)
    backend.wait_for(backend.connections[0].closed.is_set, "the connection is still open")
    assert b"LOGOUT" not in backend.everything()


def test_idle_whose_done_is_never_answered_does_not_keep_the_process(make, backend):
    def swallow_done(conn):
        conn.send(b"+ idling\r\n")
        conn.answer(SILENCE)

    backend.answers["IDLE"] = swallow_done
    system = make.system(backend, drain_time=1)
    client = system.session()
    pid = system.pid_serving(client)
    client.send("a1 IDLE\r\n")
    client.expect_exact("+ idling\r\n")
    client.close()
    gone(pid, system)
    assert backend.everything().endswith((b"DONE\r\n", b" LOGOUT\r\n"))


@pytest.mark.parametrize("command", ["STATUS INBOX (MESSAGES)", "IDLE"])
def test_a_logout_behind_an_unanswered_command_does_not_outlive_the_client(make, backend, command):
    verb = command.split(" ", maxsplit=1)[0]
    backend.answers[verb] = SILENCE
    system = make.system(backend, drain_time=1)
    client = system.session()
    pid = system.pid_serving(client)
    client.send(f"a1 {command}\r\na2 LOGOUT\r\n")
    backend.wait_for(lambda: verb in backend.connections[0].verbs(), "no command came")
    client.expect_nothing(0.1)
    client.reset()
    gone(pid, system)


def test_a_logout_behind_an_unanswered_command_is_answered_in_the_end(make, backend):
    backend.answers["STATUS"] = SILENCE
    system = make.system(backend, backend_timeout=1)
    client = system.session()
    client.send("a1 STATUS INBOX (MESSAGES)\r\na2 LOGOUT\r\n")
    client.expect_exact("* BYE LOGOUT received\r\na2 OK Completed\r\n")
    client.expect_close()
    backend.wait_for(backend.connections[0].closed.is_set, "the connection is still open")


# --- our own programs frozen or away -----------------------------------------------------------------------
def test_a_look_up_that_takes_too_long_does_not_put_the_session_out_of_step(make, backend):
    system = make.system(backend, connect_timeout=1)
    with system.client() as client:
        with frozen(*system.pids("lookupd")):
            begin = time.monotonic()
            reply = client.login("slow", "pw-slow")
            assert reply.tagged.startswith(b"NO [UNAVAILABLE] "), reply
            assert time.monotonic() - begin < 19  # 2 * connect_timeout, LOOKUP_SECONDS and RESOLVE_SECONDS
        assert client.login("anna", "pw-anna").ok
        client.ok("SELECT INBOX")
        assert b"<anna>" in client.ok("FETCH 1 BODY[]").text
    assert [login.user for login in backend.logins] == ["anna"]


def test_a_frozen_broker_makes_a_login_late_and_nothing_else(make, backend):
    system = make.system(backend)
    with system.session("running") as running, system.client() as waiting:
        with frozen(*system.pids("cachebrokerd")):
            running.ok("NOOP")
            waiting.send("a1 LOGIN anna pw-anna\r\n")
            waiting.expect_nothing(0.5)
        assert waiting.reply("a1").ok
        running.ok("NOOP")


def test_sessions_answer_while_the_broker_is_away_and_are_counted_again(system):
    with system.session("anna") as client:
        wait_until(lambda: system.gauge("active") == 1, "the session is not counted")
        broker = system.pids("cachebrokerd")[0]
        with frozen(system.supervisor.pid):
            os.kill(broker, signal.SIGKILL)
            wait_until(lambda: not alive(broker), "the broker lives")
            pid = system.pid_serving(client)
            for _ in range(3):
                client.ok("NOOP")
            assert cpu_share([pid], 1) < SPIN
            client.ok("NOOP")
        wait_until(lambda: system.pids("cachebrokerd") and system.greets(), "no new broker")
        with hello(system):  # whom the broker before has not known
            system.wait_clients(2)
        wait_until(lambda: system.gauge("active") == 1, lambda: f"not counted again: {system.stats()}\n{system.log_text()}")
        with system.session("bert") as later:
            later.ok("NOOP")
        client.ok("NOOP")
        client.logout()
    wait_until(lambda: system.gauge("active") == 0, lambda: f"still counted: {system.stats()}")


def test_a_client_that_waits_for_login_is_told_when_the_broker_stays_away(make, backend):
    system = make.system(backend, connect_timeout=1)
    with system.client() as client:
        broker = system.pids("cachebrokerd")[0]
        with frozen(system.supervisor.pid):
            os.kill(broker, signal.SIGKILL)
            client.send("a1 LOGIN anna pw-anna\r\n")
            assert b"[UNAVAILABLE]" in client.line(deadline=30)
    with system.client() as client:
        assert client.login("anna", "pw-anna").ok
