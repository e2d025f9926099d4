"""What clients turn on, when something goes wrong: restarts, lies of processes that were taken over, proofs, dead ones."""
import os
import select
import socket

import pytest

from keepwarm.backend import CLOSE
from keepwarm.imap import Client
from keepwarm.messages import ACCEPTED, REFUSAL_ATTEMPTS, Peer
from keepwarm.openings import AFTER, PAGE, visits
from keepwarm.process import wait_until


@pytest.fixture(name="backend")
def backend_fixture(make):
    return make.backend(after=AFTER)


# --- restarts and lies -------------------------------------------------------------------------------------
@pytest.mark.parametrize("command", ["ENABLE QRESYNC", "SELECT INBOX"])
def test_the_broker_dies_while_a_connection_is_offered(system, backend, command):
    visits(system, ["ENABLE QRESYNC"], 1)
    with system.session() as client:
        (broker,) = system.pids("cachebrokerd")
        os.kill(broker, 9)
        wait_until(lambda: system.pids("cachebrokerd") not in ([], [broker]), "no new broker")
        assert client.ok(command)
        client.ok("NOOP")
    with system.session() as client:
        client.ok("NOOP")


class Liar(Peer):
    """A session's process that says what it likes."""

    def begin(self, **lease):
        self.hello(client="127.0.0.1")
        reply = self.request("LEASE", proof_kind=1, user="mallory", secret="pw-mallory", **lease)
        assert reply.name == "LEASED", reply
        return reply

    def give(self, leased, fingerprint, opening):
        self.outcome(ACCEPTED)
        self.push("RETURNING", fingerprint=fingerprint)
        try:
            self.push("GIVE", fds=[leased.sock.fileno()], reason=0, opening=opening, capabilities=AFTER)
        except BrokenPipeError:
            pass  # cut off already


ENABLED = "ENABLE QRESYNC\r\n* ENABLED QRESYNC\r\nOK Enabled\r\n"


def give_a_lie(system, fingerprint, opening):
    """Leaves mallory a connection of which this is said; it is logged in at the backend first."""
    with Liar(system) as liar:
        leased = liar.begin()
        with Client(0, sock=leased.sock.dup()) as fresh:
            assert fresh.command("LOGIN mallory pw-mallory").ok
            liar.give(leased, fingerprint, opening)
        liar.expect_cut_off()


@pytest.mark.parametrize("fingerprint, opening", [
    ("QRESYNC", ENABLED),  # not canonical: CONDSTORE is missing
    ("CONDSTORE QRESYNC UTF8=ACCEPT", ENABLED),
    ("CONDSTORE QRESYNC", ENABLED + "x"),
    ("CONDSTORE QRESYNC", "ENABLE QRESYNC\r\n* BYE\r\nOK Enabled\r\n"),
    ("CONDSTORE QRESYNC", "NOOP\r\n* ENABLED QRESYNC\r\nOK Enabled\r\n"),
    ("CONDSTORE QRESYNC", "ENABLE QRESYNC\r\n* ENABLED QRESYNC\r\nNO\r\n"),
    ("UTF8=ACCEPT", ""),
    ("x" * 200, "y" * 1000),
])
def test_a_lie_about_a_connection_is_not_believed(system, backend, fingerprint, opening):
    give_a_lie(system, fingerprint, opening)
    with system.session("mallory") as client:
        client.ok("ENABLE QRESYNC")
    assert backend.connections[-1].enabled == {b"QRESYNC"}
    assert len(backend.connections) == 2
    system.wait_counter("stale", 1)


@pytest.mark.parametrize("fingerprint, opening", [("x" * 201, ""), ("A", "y" * 1001), ("A\nB", ""), ("?", "")])
def test_what_is_too_long_or_no_fingerprint_ends_the_liar(system, fingerprint, opening):
    with Liar(system) as liar:
        liar.give(liar.begin(), fingerprint, opening)
        liar.expect_cut_off()
    system.wait_counter("bad_messages", 1)
    system.session("mallory").logout()


def offered(system, **lease):
    """A liar to whom a connection is offered: it has left one like that before."""
    with Liar(system) as liar:
        leased = liar.begin(**lease)
        with Client(0, sock=leased.sock.dup()) as fresh:
            assert fresh.command("LOGIN mallory pw-mallory").ok
            liar.give(leased, "CONDSTORE QRESYNC", ENABLED)
        liar.expect_cut_off()
    liar = Liar(system)
    reply = liar.begin(**lease)
    assert reply.fingerprint == b"CONDSTORE QRESYNC" and reply.opening == ENABLED.encode() and not reply.promise
    return liar, reply


def test_who_lies_about_its_id_is_offered_its_own_accounts_only(system):
    liar, _ = offered(system, client_id=4711)
    liar.sock.close()
    with Liar(system) as other:
        other.hello(client="127.0.0.1")
        reply = other.request("LEASE", proof_kind=1, user="anna", secret="pw-anna", client_id=4711)
        assert not reply.cached and reply.fingerprint == b""


def test_an_offered_connection_may_be_returned_once(system):
    liar, reply = offered(system)
    with liar:
        liar.push("UNTOUCHED", fds=[reply.sock.fileno()])
        reply.sock.close()
        again = liar.request("LEASE", proof_kind=1, user="mallory", secret="pw-mallory")  # it does not say plain
        assert again.fingerprint == b"" and not again.cached
        liar.push("UNTOUCHED", fds=[again.sock.fileno()])
        liar.expect_cut_off()


@pytest.mark.parametrize("what", ["another socket", "after accepted", "returning at once"])
def test_what_may_not_be_done_with_an_offer(system, what):
    liar, reply = offered(system)
    ours, theirs = socket.socketpair()
    with liar, ours, theirs:
        if what == "after accepted":
            liar.outcome(ACCEPTED)
        if what == "returning at once":
            liar.push("RETURNING", fingerprint="CONDSTORE QRESYNC")
        else:
            liar.push("UNTOUCHED", fds=[(ours if what == "another socket" else reply.sock).fileno()])
        liar.expect_cut_off()
    system.session("mallory").logout()


def test_another_account_after_an_offer_is_refused(system):
    liar, reply = offered(system)
    with liar:
        liar.push("UNTOUCHED", fds=[reply.sock.fileno()])
        refused = liar.request("LEASE", proof_kind=1, user="anna", secret="pw-anna", plain=1)
        assert (refused.name, refused.reason) == ("REFUSED", REFUSAL_ATTEMPTS)


# --- together with proofs, dead connections and refused commands ---------------------------------------------
def dies_once(backend, verb):
    """The connection that hears this verb next does not answer it."""
    def answer(conn):
        del backend.answers[verb]
        conn.answer(CLOSE)
    backend.answers[verb] = answer


def test_a_new_password_closes_what_lies_with_a_fingerprint_too(system, backend):
    visits(system, ["ENABLE QRESYNC"], 1)
    backend.passwords["anna"] = b"new"
    with system.client() as client:
        assert client.login("anna", "new").ok
        backend.wait_for(lambda: backend.connections[0].closed.is_set(), "it is still there")
    system.wait_counter("superseded", 1)


def test_a_fresh_login_leaves_what_lies_with_a_fingerprint_alone(system, backend):
    visits(system, ["ENABLE QRESYNC"], 1)
    visits(system, PAGE, 1)
    assert len(backend.logins) == 2
    system.wait_cached(2)
    assert system.counter("superseded") == 0


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "refused"])
def test_an_old_proof_is_repeated_behind_an_offer(make, backend, accepted):
    system = make.system(backend, auth_recheck=1)
    visits(system, ["ENABLE QRESYNC"], 1)
    select.select([], [], [], 1.1)  # until the proof is old: there is no event to wait for
    if not accepted:
        backend.passwords["anna"] = b"new"
    with system.session() as client:
        if accepted:
            system.wait_given()
            client.ok("ENABLE QRESYNC")
        else:
            client.expect_exact("* BYE Password is not accepted any more\r\n")
            client.expect_close()
    system.wait_counter("rechecks", 1)
    assert len(backend.logins) == 2
    assert backend.connections[0].verbs().count("ENABLE") == 1


def test_with_auth_recheck_0_an_offer_is_proven_before(make, backend):
    system = make.system(backend, auth_recheck=0)
    visits(system, ["ENABLE QRESYNC"], 2)
    system.wait_counter("offers_kept", 1)
    assert system.counter("rechecks") == 1 and len(backend.logins) == 2


@pytest.mark.parametrize("first", ["NOOP", "ENABLE QRESYNC"])
def test_an_offered_connection_that_is_dead_is_not_replaced_by_a_plain_one(system, backend, first):
    visits(system, ["ENABLE QRESYNC"], 1)
    with system.session() as client:
        if first != "NOOP":
            client.ok(first)
        dies_once(backend, "NOOP")
        client.send("a NOOP\r\n")
        client.expect(rb"\* BYE [^\r\n]*\r\n")
        client.expect_close()
    assert len(backend.logins) == 1


def test_a_plain_one_that_is_dead_after_the_swap_is_replaced(system, backend):
    with system.session() as one, system.session() as other:
        one.ok("ENABLE QRESYNC")
        other.logout()
        system.wait_given()
        one.logout()
        system.wait_given()
    dies_once(backend, "SELECT")
    with system.session() as client:
        client.ok("SELECT INBOX")
        client.ok("NOOP")
    assert len(backend.logins) == 3
    system.wait_counter("offers_swapped", 1)
    system.wait_counter("stale", 1)


def test_a_refused_command_ends_an_offer(system, backend):
    visits(system, ["ENABLE QRESYNC"], 1)
    with system.session() as client:
        assert client.command("COMPRESS DEFLATE").text == b""
        client.ok("NOOP")
    assert "COMPRESS" not in b" ".join(each.received for each in backend.connections).decode("latin-1")
    system.wait_counter("offers_swapped", 1)


def test_a_list_with_the_answer_to_enable_is_not_told_again(system, backend):
    backend.answers["ENABLE"] = b"* ENABLED QRESYNC\r\nTAG OK [CAPABILITY IMAP4rev1 COMPRESS=DEFLATE] Enabled\r\n"
    with system.session() as client:
        assert client.ok("ENABLE QRESYNC").tagged == b"OK [CAPABILITY IMAP4rev1 XIMAPPROXY] Enabled"
        client.logout()
    system.wait_log("cached=fingerprint")
