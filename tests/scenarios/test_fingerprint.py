"""What clients turn on (ENABLE, CONDSTORE by the way): whose connections they get again, and that nobody can tell.

The opening of each client is from its sources; a page view follows it.
"""
import os
import re
import select
import socket
import time

import pytest

from keepwarm.backend import CLOSE
from keepwarm.imap import Client
from keepwarm.messages import ACCEPTED, REFUSAL_ATTEMPTS, Peer
from keepwarm.process import wait_until

AFTER = ("IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE UNSELECT NAMESPACE UIDPLUS CONDSTORE QRESYNC UTF8=ACCEPT "
         "LIST-STATUS STARTTLS AUTH=PLAIN")
PAGE = ["SELECT INBOX", "FETCH 1 BODY[]"]
OPENINGS = {
    "SnappyMail": ["ENABLE UTF8=ACCEPT", "STATUS INBOX (MESSAGES UNSEEN HIGHESTMODSEQ)", *PAGE, "UNSELECT"],
    "SnappyMail without UTF8": ["STATUS INBOX (MESSAGES UNSEEN HIGHESTMODSEQ)", *PAGE],
    "Nextcloud Mail": ["CAPABILITY", "ENABLE QRESYNC", "ID NIL", "NAMESPACE", 'LIST "" *',
                       "STATUS INBOX (MESSAGES HIGHESTMODSEQ)", "SELECT INBOX (QRESYNC (1 1))", "FETCH 1 (FLAGS MODSEQ)"],
    "Horde": ["ENABLE QRESYNC UTF8=ACCEPT", "SELECT INBOX (QRESYNC (1 1))", "FETCH 1 BODY[]"],
    "K-9": ["CAPABILITY", 'ID ("name" "K-9 Mail")', "ENABLE UTF8=ACCEPT", "NAMESPACE", *PAGE],
    "Thunderbird": ["ENABLE CONDSTORE", 'ID ("name" "Thunderbird")', "ENABLE UTF8=ACCEPT", "NAMESPACE", *PAGE],
    "CONDSTORE by SELECT": ["NAMESPACE", "SELECT INBOX (CONDSTORE)", "FETCH 1 (FLAGS MODSEQ)",
                            "STATUS INBOX (HIGHESTMODSEQ)", "UNSELECT"],
    "imapflow": ['ID ("name" "imapflow")', "ENABLE CONDSTORE UTF8=ACCEPT", "NAMESPACE", 'LIST "" *',
                 "SELECT INBOX", "FETCH 1 (UID MODSEQ)"],
}


@pytest.fixture(name="backend")
def backend_fixture(make):
    return make.backend(after=AFTER)


def hold(client, commands):
    """The answers to commands, all bytes of them."""
    replies = []
    for command in commands:
        reply = client.command(command)
        assert reply.ok, f"{command!r} was answered {reply!r}"
        replies.append((reply.text, reply.tagged))
    return replies


def visit(system, commands, logout=True, **login):
    with system.session(**login) as client:
        replies = hold(client, commands)
        if logout:
            client.logout()
    return client.login_reply, replies


def visits(system, commands, times=11, **kwargs):
    results = []
    for _ in range(times):
        results.append(visit(system, commands, **kwargs))
        system.wait_given()
    return results


# --- the same client again --------------------------------------------------------------------------------
@pytest.mark.parametrize("name", OPENINGS)
def test_a_client_gets_its_connection_again(system, backend, name):
    results = visits(system, OPENINGS[name], logout=name != "K-9")
    assert len(backend.logins) == 1, "not all logins but the first one are reused"
    first, others = results[0], results[1:]
    for login, replies in others:
        assert replies == first[1]
        assert login.untagged == first[0].untagged == [] and login.tagged == first[0].tagged
    system.wait_counter("logins_reused", 10)
    system.wait_counter("offers_kept", 10)
    enables = sum(command.startswith("ENABLE") for command in OPENINGS[name])
    assert backend.connections[0].verbs().count("ENABLE") == enables, "an ENABLE was not answered by the proxy"


def test_pipelined_openings_are_answered_in_order(system, backend):
    visits(system, ["ENABLE QRESYNC"], 1)
    with system.session() as client:
        client.send("a ENABLE QRESYNC\r\nb SELECT INBOX\r\nc NOOP\r\n")
        client.expect_exact("* ENABLED QRESYNC\r\na OK Enabled, says the backend\r\n")
        assert client.reply("b").ok and client.reply("c").ok
    assert len(backend.logins) == 1


def test_commands_behind_one_that_is_passed_on_take_their_turn(system, backend):
    visits(system, ["ENABLE QRESYNC"], 1)
    with system.session() as client:
        client.send("a NOOP\r\nb LIST \"\" *\r\nc NOOP\r\nd ENABLE QRESYNC\r\ne NOOP\r\nf SELECT INBOX\r\n")
        for tag in "abcdef":
            assert client.reply(tag).ok
    assert len(backend.logins) == 1
    with system.session() as client:
        client.send("a NOOP\r\nb SELECT INBOX\r\n")
        assert client.reply("a").ok and client.reply("b").ok
    assert len(backend.logins) == 2


def test_a_client_that_leaves_without_a_word_leaves_it_as_it_was(system, backend):
    visits(system, ["ENABLE QRESYNC"], 1)
    for logout in (True, False, True):
        visits(system, [], 1, logout=logout)
    assert visits(system, ["ENABLE QRESYNC"], 1)[0][1] == [(b"* ENABLED QRESYNC\r\n", b"OK Enabled, says the backend")]
    assert len(backend.logins) == 1 and backend.connections[0].verbs().count("ENABLE") == 1


def test_an_enable_in_small_pieces(system, backend):
    visits(system, ["ENABLE QRESYNC"], 1)
    with system.session() as client:
        for byte in b"a ENABLE QRESYNC\r\n":
            client.send(bytes([byte]))
        assert client.reply("a").text == b"* ENABLED QRESYNC\r\n"
        client.ok("NOOP")
    assert len(backend.logins) == 1


# --- somebody else ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("command", [
    "SELECT INBOX", "ENABLE CONDSTORE", "ENABLE QRESYNC UTF8=ACCEPT", "enable qresync", "EXAMINE INBOX", "XUNKNOWN",
    'ID {4}', "STATUS INBOX (HIGHESTMODSEQ)", "IDLE", "APPEND INBOX {3+}\r\nabc",
])
def test_another_first_command_gets_a_plain_connection(system, backend, command):
    visits(system, ["ENABLE QRESYNC"], 1)
    with system.session() as client, Client(backend.port) as direct:
        assert client.login_reply.untagged == []
        direct.ok("LOGIN anna pw-anna")
        for each in (client, direct):
            each.send(f"x {command}\r\n")
            if command.endswith("{4}") or command == "IDLE":
                each.expect(rb"\+ [^\r\n]*\r\n")
                each.send("DONE\r\n")
        if not command.endswith("{4}"):
            ours, theirs = client.reply("x"), direct.reply("x")
            assert (ours.text, ours.tagged) == (theirs.text, theirs.tagged)
    assert b"QRESYNC" not in backend.connections[2].received or "QRESYNC" in command.upper()
    assert backend.connections[0].verbs().count("SELECT") == 0
    system.wait_counter("offers_swapped", 1)


def test_the_swap_takes_a_plain_connection_from_the_cache(system, backend):
    with system.session() as one, system.session() as other:
        one.ok("ENABLE QRESYNC")
        other.ok("SELECT INBOX")
        other.logout()
        system.wait_given()
        one.logout()
        system.wait_given()
    assert len(backend.logins) == 2
    visits(system, PAGE, 1)
    system.wait_counter("offers_swapped", 1)
    visits(system, ["ENABLE QRESYNC"], 1)
    system.wait_counter("offers_kept", 1)
    assert len(backend.logins) == 2
    system.wait_counter("logins_reused", 2)


def test_after_the_swap_what_was_answered_is_turned_on(system, backend):
    visits(system, OPENINGS["Thunderbird"], 1)
    with system.session() as client:
        client.ok("ENABLE CONDSTORE")
        client.ok("SELECT INBOX")  # not what is next: UTF8=ACCEPT must not be on
    assert backend.connections[1].enabled == {b"CONDSTORE"}
    assert backend.connections[0].enabled == {b"CONDSTORE", b"UTF8=ACCEPT"}


@pytest.mark.parametrize("first, again", [("STATUS INBOX (HIGHESTMODSEQ)", "STATUS nowhere (HIGHESTMODSEQ)"),
                                          ("SELECT INBOX (CONDSTORE)", "EXAMINE nowhere (CONDSTORE)")])
@pytest.mark.parametrize("untagged", [b"", b"* OK [ALERT] no such thing\r\n"], ids=["no", "alert and no"])
def test_a_refused_command_that_enables_is_refused_on_the_other_connection_too(system, backend, first, again, untagged):
    """Mail hosts differ in whether it has turned something on."""
    visits(system, [first], 1)
    for verb in ("STATUS", "EXAMINE"):
        backend.answers[verb] = untagged + b"TAG NO not there\r\n"
    with system.session() as client:
        assert client.command(again).tagged == b"NO not there"
        client.ok("SELECT INBOX")
        backend.answers.clear()
        client.logout()
    system.wait_given()
    assert [c.raw.decode() for c in backend.connections[1].commands[1:3]] == [again, "SELECT INBOX"]
    with system.session() as client:  # with what the two have in common
        client.ok(first)
    assert len(backend.logins) == 2 and backend.connections[0].verbs().count("SELECT") <= 1


@pytest.mark.parametrize("answer", [b"TAG OK there\r\n", b"* BYE\r\n", CLOSE, b"* 1 EXISTS\r\nTAG NO what\r\n"],
                         ids=["ok", "bye", "closed", "untagged data"])
def test_a_command_that_is_refused_only_once_ends_the_session(system, backend, answer):
    visits(system, ["STATUS INBOX (HIGHESTMODSEQ)"], 1)
    answers = [b"NO not there\r\n"]

    def reply(conn):
        what = b"TAG " + answers.pop() if answers else answer
        conn.answer(what if what == CLOSE else what.replace(b"TAG", conn.commands[-1].tag))
    backend.answers["STATUS"] = reply
    with system.session() as client:
        client.send("a STATUS nowhere (HIGHESTMODSEQ)\r\nb NOOP\r\n")
        assert re.fullmatch(rb"a NO not there\r\n\* BYE [^\r\n]*\r\n", client.read_to_end())


@pytest.mark.parametrize("command", ["STATUS INBOX (HIGHESTMODSEQ)", "SELECT INBOX (CONDSTORE)"])
@pytest.mark.parametrize("length", [13, 14, 255, 256])
def test_a_tag_behind_which_no_result_is_seen_is_answered_as_any_other(system, backend, command, length):
    _, (want,) = visits(system, [command], 1)[0]
    with system.session() as client:
        client.send(f"{length * 'x'} {command}\r\n")
        got = client.reply(length * "x")
        assert (got.text, got.tagged) == want
        client.ok("NOOP")
    assert len(backend.logins) == (1 if length == 13 else 2)


def test_status_of_a_mailbox_that_is_called_like_it_turns_nothing_on(system, backend):
    visits(system, ["STATUS INBOX (HIGHESTMODSEQ)"], 1)
    backend.mailboxes["anna"][b"highestmodseq"] = []
    with system.session() as client:
        hold(client, ["STATUS highestmodseq (MESSAGES)", "SELECT INBOX", "FETCH 1 BODY[]"])
        assert backend.connections[1].verbs()[1:] == ["SELECT", "FETCH"], "it was taken for what turns CONDSTORE on"


def test_the_swap_costs_no_login_attempt_and_the_password_is_forgotten(make, backend):
    system = make.system(backend, login_attempts=1)
    visits(system, ["ENABLE QRESYNC"], 1)
    with system.session() as client:
        client.ok("SELECT INBOX")
    assert len(backend.logins) == 2


@pytest.mark.parametrize("answer", [CLOSE, b"TAG NO not now\r\n", b"* ENABLED X\r\nTAG OK\r\n"],
                         ids=["closed", "no", "another one"])
@pytest.mark.parametrize("always", [False, True], ids=["once", "always"])
def test_a_reused_connection_that_does_not_repeat_the_opening_is_replaced(system, backend, answer, always):
    with system.session() as one, system.session() as other:
        hold(one, OPENINGS["Thunderbird"])
        other.ok("NOOP")
        other.logout()
        system.wait_given()
        one.logout()
        system.wait_given()
    answers = [answer] * (2 if always else 1)

    def enable(conn):
        what = answers.pop() if answers else b"* ENABLED CONDSTORE\r\nTAG OK Enabled, says the backend\r\n"
        conn.answer(what if what == CLOSE else what.replace(b"TAG", conn.commands[-1].tag))
    backend.answers["ENABLE"] = enable
    with system.session() as client:
        client.send("a ENABLE CONDSTORE\r\n")
        assert client.reply("a").ok
        client.send("b SELECT INBOX\r\n")
        if always:
            assert client.read_to_end().startswith(b"* BYE [UNAVAILABLE]")
        else:
            assert client.reply("b").ok
    assert len(backend.logins) == 3, "the third one is fresh, and what it says is the truth"


@pytest.mark.parametrize("failures", [1, 2])
def test_a_login_behind_an_offer_is_tried_twice(system, backend, failures):
    visits(system, ["ENABLE QRESYNC"], 1)
    left = [CLOSE] * failures
    backend.verdict = lambda user, password: left.pop() if left else True
    with system.session() as client:
        client.send("a SELECT INBOX\r\n")
        if failures == 1:
            assert client.reply("a").ok
        else:
            assert client.read_to_end().startswith(b"* BYE [UNAVAILABLE]")
    assert len(backend.logins) == 3


def test_a_password_that_is_refused_behind_an_offer_ends_the_session(system, backend):
    visits(system, ["ENABLE QRESYNC"], 1)
    backend.passwords["anna"] = b"other"
    with system.session() as client:
        client.send("a SELECT INBOX\r\n")
        assert client.read_to_end() == b"* BYE Password is not accepted any more\r\n"
    assert len(backend.logins) == 2


def test_an_offer_ends_with_login_timeout(make, backend):
    system = make.system(backend, login_timeout=1)
    visits(system, ["ENABLE QRESYNC"], 1)
    with system.session() as client:
        system.wait_counter("offers_swapped", 1)
        client.ok("SELECT INBOX")
    assert len(backend.logins) == 2


def test_an_offer_that_the_mail_host_never_lets_decide_ends_the_session(make, backend):
    """The client's password is kept as long as the offer stands."""
    system = make.system(backend, login_timeout=1, backend_timeout=1)
    visits(system, ["ENABLE QRESYNC"], 1)
    with system.session() as client:
        backend.gate("NOOP")
        client.send("a NOOP\r\n")
        client.read_to_end()
        backend.ungate("NOOP")
    system.wait_log("reason=backend-lost")


def test_an_offer_is_not_stretched_by_a_mail_host_that_never_stops_talking(make, backend):
    def flood(conn):
        while True:
            conn.send(b"* OK still here\r\n" * 100)
    system = make.system(backend, login_timeout=1, backend_timeout=1)
    visits(system, ["ENABLE QRESYNC"], 1)
    backend.answers["NOOP"] = flood
    with system.session() as client:
        client.send("a NOOP\r\n")
        until = time.monotonic() + 30
        while client.sock.recv(1 << 16):
            assert time.monotonic() < until, "it is stretched"
    system.wait_log("reason=backend-lost")


def test_an_offer_is_not_stretched_by_a_client_that_does_not_read(make, backend):
    system = make.system(backend, login_timeout=1, backend_timeout=1)
    visits(system, ["ENABLE QRESYNC"], 1)
    backend.answers["NOOP"] = b"* OK much\r\n" * 2000000 + b"TAG OK\r\n"
    with system.session() as client:
        client.send("a NOOP\r\n")
        system.wait_log("reason=client-stuck")


@pytest.mark.parametrize("who", ["ID", "address", "user", "password"])
def test_another_one_is_not_even_offered_it(make, backend, who):
    backend.passwords = {"anna": b"same", "bert": b"same"}
    system = make.system(backend)
    visits(system, ["ENABLE QRESYNC"], 1, user="anna", password="same")
    with (Client(system.port, sock=from_other_address(system)) if who == "address" else system.client()) as client:
        if who == "ID":
            client.ok('ID ("name" "other")')
        if who == "password":
            backend.passwords["anna"] = b"new"
        reply = client.login("bert" if who == "user" else "anna", "new" if who == "password" else "same")
        assert reply.ok and reply.untagged == []
        assert client.ok("ENABLE QRESYNC").text == b"* ENABLED QRESYNC\r\n"
    assert len(backend.logins) == 2 and backend.connections[-1].enabled == {b"QRESYNC"}
    assert system.counter("offers_swapped") == system.counter("offers_kept") == 0


def from_other_address(system):
    return socket.create_connection(("127.0.0.1", system.port), timeout=10, source_address=("127.0.0.77", 0))


def test_xproxyreuse_is_promised_only_to_who_never_turned_anything_on(system):
    """Horde believes it: it would not ENABLE again."""
    assert [login.reused for login, _ in visits(system, PAGE, 3)] == [False, True, True]
    with system.session(reused=True) as one, system.session(reused=False) as other:
        one.ok("ENABLE QRESYNC")
        other.ok("NOOP")
        one.logout()
        system.wait_given()
        other.logout()
        system.wait_given()
    for _ in range(6):
        assert not visits(system, PAGE, 1)[0][0].reused


def test_two_programs_that_take_turns_both_find_a_connection(system, backend):
    for _ in range(6):
        visits(system, ["ENABLE QRESYNC"], 1)
        visits(system, PAGE, 1)
    assert len(backend.logins) == 2


# --- what cannot be told again -----------------------------------------------------------------------------
@pytest.mark.parametrize("answer", [
    b"* ENABLED QRESYNC\r\n* ENABLED CONDSTORE\r\nTAG OK Twice\r\n",
    b"* ENABLED QRESYNC\r\n* OK Something else\r\nTAG OK Enabled\r\n",
    b"* ENABLED QRESYNC\r\nTAG NO Not enabled\r\n",
    b"* ENABLED " + b" ".join(b"X%030d" % number for number in range(9)) + b"\r\nTAG OK Many\r\n",
    b"* ENABLED X" + b"y" * 400 + b"\r\nTAG OK Long\r\n",
    b"* ENABLED \xc3\xa4\r\nTAG OK Enabled\r\n",
], ids=["two lists", "more", "no", "too many", "too long", "8-bit"])
def test_an_odd_answer_to_enable_is_not_kept(system, backend, answer):
    backend.answers["ENABLE"] = answer
    with system.session() as client:
        client.command("ENABLE QRESYNC")
        client.logout()
    backend.wait_for(lambda: backend.connections[0].closed.is_set(), "the connection is still open")
    system.wait_log("cached=fingerprint")


@pytest.mark.parametrize("untagged", [b"", b"* ENABLED\r\n"], ids=["no list", "empty list"])
def test_what_turned_nothing_on_is_plain(system, backend, untagged):
    backend.answers["ENABLE"] = untagged + b"TAG OK Nothing of that\r\n"
    for login, _ in visits(system, ["ENABLE X-NONSENSE", *PAGE], 3)[1:]:
        assert login.reused
    assert backend.connections[0].verbs().count("ENABLE") == 3


def test_language_is_part_of_it(system, backend):
    backend.answers["LANGUAGE"] = b"* LANGUAGE (DE)\r\nTAG OK Sprache\r\n"
    visits(system, ["LANGUAGE de", "ENABLE QRESYNC", *PAGE], 3)
    assert len(backend.logins) == 1 and backend.connections[0].verbs().count("LANGUAGE") == 1
    with system.session() as client:
        client.ok("LANGUAGE fr")
    assert len(backend.logins) == 2


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
