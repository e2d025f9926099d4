"""What clients turn on (ENABLE, CONDSTORE by the way): whose connections they get again, and that nobody can tell.

The opening of each client is from its sources; a page view follows it.
"""
import re
import socket
import time

import pytest

from keepwarm.backend import CLOSE
from keepwarm.imap import Client
from keepwarm.openings import AFTER, PAGE, hold, visits

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
    system = make.system(backend, login_timeout=3)
    visits(system, ["ENABLE QRESYNC"], 1)
    with system.session() as client:
        system.wait_counter("offers_swapped", 1)
        client.ok("SELECT INBOX")
    assert len(backend.logins) == 2


def test_an_offer_that_the_mail_host_never_lets_decide_ends_the_session(make, backend):
    """The client's password is kept as long as the offer stands."""
    system = make.system(backend, login_timeout=3, backend_timeout=3)
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
    system = make.system(backend, login_timeout=3, backend_timeout=3)
    visits(system, ["ENABLE QRESYNC"], 1)
    backend.answers["NOOP"] = flood
    with system.session() as client:
        client.send("a NOOP\r\n")
        until = time.monotonic() + 30
        while client.sock.recv(1 << 16):
            assert time.monotonic() < until, "it is stretched"
    system.wait_log("reason=backend-lost")


def test_an_offer_is_not_stretched_by_a_client_that_does_not_read(make, backend):
    system = make.system(backend, login_timeout=3, backend_timeout=3)
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
    system.wait_counters(logins=2, offers_swapped=0, offers_kept=0)


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
