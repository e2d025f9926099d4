"""Capability lists within a session, and the commands behind those that are not offered.

tests/unit/test_rewrite.c has what becomes of each list; here it is seen through the programs.
"""
import pytest

from keepwarm import messages
from keepwarm.backend import AFTER, CLOSE
from keepwarm.imap import REUSE_LINE

HIDDEN = ("AUTH=PLAIN", "SASL-IR", "STARTTLS", "LOGINDISABLED", "COMPRESS=DEFLATE", "LOGIN-REFERRALS")
EXPECTED = " ".join([word for word in AFTER.split() if word not in HIDDEN] + ["XIMAPPROXY"]).encode()
REFUSED = b"BAD Unrecognized command"


def warm(system):
    system.session().logout()
    system.wait_cached(1)


@pytest.mark.parametrize("reused", [False, True], ids=["fresh", "reused"])
def test_capability_within_a_session_is_what_the_login_said(system, reused):
    if reused:
        warm(system)
    with system.session(reused=reused) as client:
        assert " ".join(client.login_reply.capabilities).encode() == EXPECTED
        client.send("a1 CAPABILITY\r\n")
        client.expect_exact(b"* CAPABILITY " + EXPECTED + b"\r\na1 OK Capabilities, says the backend\r\n")


def test_lists_that_nobody_asked_for_are_filtered_too(system, backend):
    raw = AFTER.encode()
    backend.answers["CHECK"] = (b"* CAPABILITY %s\r\n* OK [CAPABILITY %s] changed\r\nTAG OK [CAPABILITY %s] done\r\n"
                                % (raw, raw, raw))
    with system.session() as client:
        client.send("a1 CHECK\r\n")
        client.expect_exact(b"* CAPABILITY %s\r\n* OK [CAPABILITY %s] changed\r\na1 OK [CAPABILITY %s] done\r\n"
                            % (EXPECTED, EXPECTED, EXPECTED))


def test_hide_capabilities_holds_within_a_session(make, backend):
    system = make.system(backend, hide_capabilities="X-TEST idle")
    with system.session() as client:
        words = client.ok("CAPABILITY").untagged[0].split()
        assert b"X-TEST" not in words and b"IDLE" not in words and b"UNSELECT" in words


def test_a_mail_that_looks_like_a_list_is_left_alone(system):
    mail = b"* CAPABILITY AUTH=PLAIN STARTTLS\r\n* OK [CAPABILITY COMPRESS=DEFLATE]\r\n"
    with system.session() as client:
        client.send(b"a1 APPEND INBOX {%d+}\r\n%s\r\n" % (len(mail), mail))
        client.reply("a1")
        client.ok("SELECT INBOX")
        assert mail in client.ok("FETCH 1:* BODY[]").text


def test_a_list_of_any_length_passes_through_the_buffers(system, backend):
    words = b" ".join(b"X-%d AUTH=X-%d" % (n, n) for n in range(20000))
    kept = b" ".join(b"X-%d" % n for n in range(20000))
    backend.answers["CHECK"] = b"* CAPABILITY " + words + b"\r\nTAG OK done\r\n"
    with system.session() as client:
        client.send("a1 CHECK\r\n")
        client.expect_exact(b"* CAPABILITY " + kept + b" XIMAPPROXY\r\na1 OK done\r\n")
        client.ok("NOOP")


def test_ever_growing_lists_find_room(system, backend):
    """The client reads nothing while more comes than all buffers hold."""
    backend.answers["CHECK"] = b"* CAPABILITY \r\n" * 500000 + b"TAG OK done\r\n"
    with system.session() as client:
        client.send("a1 CHECK\r\n")
        reply = client.reply("a1", deadline=60)
        assert len(reply.untagged) == 500000 and set(reply.untagged) == {b"* CAPABILITY XIMAPPROXY\r\n"}


@pytest.mark.parametrize("reused", [False, True], ids=["fresh", "reused"])
@pytest.mark.parametrize("how", ["quoted", "plain-initial"])
def test_a_client_that_used_the_command_before_login_gets_a_line(system, reused, how):
    if reused:
        warm(system)
    word = b"authenticated" if how == "plain-initial" else b"logged in"
    with system.client() as client:
        client.ok("CAPABILITY")
        before = client.data_segments()
        reply = client.login("anna", "pw-anna", how)
        assert reply.untagged == [b"* CAPABILITY " + EXPECTED + b"\r\n"] + [REUSE_LINE] * reused
        assert reply.tagged == b"OK User " + word
        assert client.data_segments() - before == 1


def test_that_a_list_is_not_with_the_ok_makes_no_difference(make):
    backend = make.backend(code_at_login=False)
    system = make.system(backend)
    for reused in (False, True):
        with system.session(reused=reused) as client:
            assert " ".join(client.login_reply.capabilities).encode() == EXPECTED
            client.logout()
        system.wait_cached(1)
    assert backend.connections[0].verbs().count("CAPABILITY") == 1


# --- a list that comes neither with the OK nor with a reused connection --------------------------------------------
@pytest.fixture
def codeless(make):
    """A mail host whose logins bring no list; anna's is known of a connection that is in use again."""
    backend = make.backend(code_at_login=False)
    system = make.system(backend)
    warm(system)
    with system.session(reused=True):
        yield backend, system


def lists_in(reply):
    return reply.capabilities and " ".join(reply.capabilities).encode()


def test_the_list_of_the_accounts_other_connection_is_told_at_once(codeless):
    backend, system = codeless
    gate = backend.gate("CAPABILITY")
    with system.session(reused=False) as client:
        assert lists_in(client.login_reply) == EXPECTED
        gate.wait()
        client.send("a1 NOOP\r\n")
        client.expect_nothing(0.1)
        gate.open()
        client.expect_exact(b"a1 OK Noop, says the backend\r\n")


@pytest.mark.parametrize("asks", [False, True], ids=["in the code", "in a line"])
def test_if_it_is_another_one_the_client_hears_of_it_before_anything_else(codeless, asks):
    backend, system = codeless
    backend.after = "IMAP4rev1 STARTTLS UNSELECT X-NEW"
    for number in range(2):
        with system.client() as client:
            if asks:
                client.ok("CAPABILITY")
            told = client.login("anna", "pw-anna")
            client.send("a1 NOOP\r\n")
            new = b"* CAPABILITY IMAP4rev1 UNSELECT X-NEW XIMAPPROXY\r\n"
            if number == 0:
                assert EXPECTED in (told.untagged[0] if asks else lists_in(told))
                client.expect_exact(new + b"a1 OK Noop, says the backend\r\n")
            else:  # on the same connection, which is known by now
                assert new[2:-2] in (told.untagged[0] if asks else b"CAPABILITY " + lists_in(told) + b"\r\n")
                client.expect_exact(b"a1 OK Noop, says the backend\r\n")
            client.logout()
        system.wait_counter("given", 2 + number)


@pytest.mark.parametrize("answer", [b"TAG OK but which\r\n", b"TAG NO\r\n", b"* BYE\r\n", CLOSE],
                         ids=["no list", "no", "bye", "closed"])
def test_without_an_answer_the_session_ends(codeless, answer):
    backend, system = codeless
    backend.answers["CAPABILITY"] = answer
    with system.session(reused=False) as client:
        client.send("a1 NOOP\r\n")
        assert client.read_to_end() == b"* BYE [UNAVAILABLE] Connection to the mail host was lost\r\n"
    system.wait_log("reason=backend-lost")
    (line,) = [line for line in system.log_text().splitlines() if "reason=backend-lost" in line]
    assert " cached=backend-gone " in line


@pytest.mark.parametrize("who", [("bert", "pw-bert"), ("anna", "pw-new")], ids=["another account", "another password"])
def test_it_is_nobody_elses_list(codeless, who):
    backend, system = codeless
    backend.verdict = lambda user, password: True
    gate = backend.gate("CAPABILITY")
    with system.client() as client:
        client.send(f"a1 LOGIN {who[0]} {who[1]}\r\n")
        gate.wait()
        client.expect_nothing(0.1)
        backend.after = "IMAP4rev1 X-OTHER"
        gate.open()
        assert lists_in(client.reply("a1")) == b"IMAP4rev1 X-OTHER XIMAPPROXY"


def test_what_a_hostile_session_says_of_it_concerns_nobody_else(make):
    backend = make.backend(code_at_login=False)
    system = make.system(backend)
    with messages.session(system) as peer:
        leased = peer.lease(user="mallory")
        peer.outcome(messages.ACCEPTED)
        peer.push("RETURNING")
        peer.push("GIVE", fds=[leased.sock.fileno()], capabilities="X-EVIL")
        system.wait_counter("given", 1)
    with system.session("anna", "pw-anna") as client:
        assert lists_in(client.login_reply) == EXPECTED
    with system.session("mallory", "pw-mallory") as client:  # its own client hears the truth behind it
        assert lists_in(client.login_reply) == b"X-EVIL XIMAPPROXY"
        client.expect_exact(b"* CAPABILITY " + EXPECTED + b"\r\n")


# --- commands that are answered here -----------------------------------------------------------------------
@pytest.mark.parametrize("command", ["COMPRESS DEFLATE", "compress deflate", "STARTTLS", "UNAUTHENTICATE",
                                     "X-UNAUTHENTICATE", "COMPRESS {7+}\r\nDEFLATE", "COMPRESS {7}"])
def test_it_is_refused_and_the_connection_stays_reusable(system, backend, command):
    with system.session() as client:
        client.send("a1 NOOP\r\n")
        client.send(f"a2 {command}\r\na3 NOOP\r\n")
        client.expect_exact(b"a1 OK Noop, says the backend\r\na2 " + REFUSED + b"\r\na3 OK Noop, says the backend\r\n")
        client.logout()
    system.wait_cached(1)
    with system.session(reused=True) as client:
        client.ok("NOOP")
    assert b"COMPRESS" not in backend.everything().upper() and b"TLS" not in backend.everything().upper()
    assert b"UNAUTHENTICATE" not in backend.everything()


def test_the_refusal_comes_in_its_turn(system, backend):
    gate = backend.gate("STATUS")
    with system.session() as client:
        client.send("a1 STATUS INBOX (MESSAGES)\r\na2 COMPRESS DEFLATE\r\na3 STARTTLS\r\na4 NOOP\r\n")
        gate.wait()
        client.expect_nothing(0.1)
        gate.open()
        client.expect_exact(b"* STATUS INBOX (MESSAGES 1)\r\na1 OK Status, says the backend\r\na2 " + REFUSED +
                            b"\r\na3 " + REFUSED + b"\r\na4 OK Noop, says the backend\r\n")


def test_a_refusal_behind_which_the_client_leaves(system, backend):
    client = system.session()
    client.send("a1 SELECT INBOX\r\na2 COMPRESS DEFLATE\r\n")
    client.close()
    system.wait_cached(1)
    with system.session(reused=True) as client:
        assert client.command("FETCH 1 BODY[]").tagged.startswith(b"BAD ")


def test_a_refusal_behind_a_response_that_breaks_off_is_not_said(system, backend):
    backend.answers["STATUS"] = lambda conn: (conn.send(b"* STATUS INB"), conn.drop())
    with system.session() as client:
        client.send("a1 STATUS INBOX (MESSAGES)\r\na2 COMPRESS DEFLATE\r\n")
        assert client.read_to_end() == b"* STATUS INB"


# --- a mail host without UNSELECT ----------------------------------------------------------------------------
@pytest.fixture
def courier_like(make):
    backend = make.backend(after=AFTER.replace(" UNSELECT", ""))
    return backend, make.system(backend, backend_timeout=4)


@pytest.mark.parametrize("command", ["SELECT INBOX", "EXAMINE INBOX"])
def test_without_unselect_a_mailbox_that_cannot_exist_is_examined(courier_like, command):
    backend, system = courier_like
    for number in range(2):
        with system.session(reused=number > 0) as client:
            assert client.command("FETCH 1 BODY[]").tagged.startswith(b"BAD ")
            client.ok(command)
            client.logout()
        system.wait_cached(1)
    conn = backend.connections[0]
    assert {"CLOSE", "UNSELECT"}.isdisjoint(conn.verbs())

    def names():
        return {c.args[0] for c in conn.commands if c.verb == "EXAMINE" and c.args[0] != b"INBOX"}
    backend.wait_for(lambda: len(names()) == 2, "two random names")


@pytest.mark.parametrize("answer", [b"* 1 EXISTS\r\nTAG OK [READ-ONLY] it is there\r\n", b"TAG BAD what\r\n", b"",
                                    b"* BYE\r\n", CLOSE, b"TAG NO no\r\n* 5 EXISTS\r\n", b"other NO no\r\n"],
                         ids=["there", "bad", "no answer", "bye", "closed", "news behind it", "wrong tag"])
def test_without_unselect_only_no_is_good_enough(courier_like, answer):
    backend, system = courier_like
    client = system.session()
    client.ok("SELECT INBOX")
    backend.answers["EXAMINE"] = answer
    client.logout()
    backend.wait_for(backend.connections[0].closed.is_set, "the connection is still open")
    system.wait_log("cached=reset-failed")
    with system.session(reused=False) as client:
        assert client.command("FETCH 1 BODY[]").tagged.startswith(b"BAD ")
    assert "CLOSE" not in backend.connections[0].verbs()


def test_without_unselect_nothing_is_examined_when_nothing_was_selected(courier_like):
    backend, system = courier_like
    warm(system)
    assert "EXAMINE" not in backend.connections[0].verbs()
