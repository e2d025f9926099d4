"""Clients that leave badly: the next session of the user must not notice.

Whether the connection is reused after a clean-up or thrown away is the proxy's choice where a test
says nothing; that the next session is clean never is.
"""
import socket

import pytest

from keepwarm.backend import SILENCE, Gate
from keepwarm.directory_servers import AuthHttp
from keepwarm.process import DEADLINE, free_port

NOOP_REPLY = b"OK Noop, says the backend"


def clean_session(system, backend, reused=None):
    """The next session: nothing unasked comes, no mailbox is selected, everything works."""
    with system.session(reused=reused) as client:
        assert client.login_reply.untagged in ([], [b"* OK [XPROXYREUSE] IMAP connection reused by imapproxy\r\n"])
        client.send("c1 NOOP\r\n")
        client.expect_exact(b"c1 " + NOOP_REPLY + b"\r\n")
        assert client.command("FETCH 1 BODY[]").tagged.startswith(b"BAD ")
        client.ok("SELECT INBOX")
        assert client.ok("FETCH 1:* BODY[]").text.count(b"This is the mail of <anna>") == 1
        client.expect_nothing(0.05)
        client.logout()
    assert all("CLOSE" not in conn.verbs() for conn in backend.connections)


def closed(backend, number=0):
    backend.wait_for(lambda: backend.connections[number].closed.is_set(), "the connection is still open")


@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_drop_in_a_quiet_session_is_as_good_as_logout(system, backend, way):
    client = system.session()
    client.ok("NOOP")
    getattr(client, way)()
    system.wait_cached(1)
    clean_session(system, backend, reused=True)


def test_a_drop_with_a_selected_mailbox_unselects_it(system, backend):
    client = system.session()
    client.ok("SELECT INBOX")
    client.close()
    system.wait_cached(1)
    clean_session(system, backend, reused=True)
    assert "UNSELECT" in backend.connections[0].verbs()


def test_a_drop_before_the_first_command(system, backend):
    system.session().close()
    system.wait_cached(1)
    clean_session(system, backend, reused=True)


@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_drop_in_mid_command(system, backend, way):
    gate = backend.gate("FETCH")
    client = system.session()
    client.ok("SELECT INBOX")
    client.send("a1 FETCH 1 BODY[]\r\n")
    gate.wait()
    getattr(client, way)()
    gate.open()
    backend.gates.clear()
    clean_session(system, backend)


def test_a_drop_in_mid_command_of_a_mail_host_that_never_answers(system, backend):
    backend.answers["STATUS"] = SILENCE
    client = system.session()
    client.ok("SELECT INBOX")
    client.send("a1 STATUS INBOX (MESSAGES)\r\n")
    client.close()
    clean_session(system, backend, reused=False)
    closed(backend)


def test_a_drop_while_a_large_answer_comes(system, backend):
    backend.answers["STATUS"] = b"* 1 FETCH (BODY[] {8000000}\r\n" + b"x" * 8000000 + b")\r\nTAG OK done\r\n"
    client = system.session()
    client.send("a1 STATUS INBOX (MESSAGES)\r\n")
    client.exactly(50000)
    client.close()
    closed(backend)
    clean_session(system, backend, reused=False)


def test_a_drop_while_a_small_answer_comes(system, backend):
    client = system.session()
    client.ok("SELECT INBOX")
    client.send("a1 FETCH 1 BODY[]\r\na2 FETCH 1 BODY[]\r\n")
    client.close()
    clean_session(system, backend)


@pytest.mark.parametrize("announced", ["{100}", "{100+}", "~{100}"])
@pytest.mark.parametrize("sent", [b"", b"From: half a message\r\n"], ids=["nothing sent", "half sent"])
def test_a_drop_in_a_literal(system, backend, announced, sent):
    client = system.session()
    client.send(f"a1 APPEND INBOX {announced}\r\n")
    if "+" not in announced:
        client.expect(rb"\+ [^\r\n]*\r\n")
    client.send(sent)
    client.close()
    closed(backend)
    clean_session(system, backend, reused=False)


def test_a_drop_behind_the_literal_but_before_the_end_of_the_command(system, backend):
    client = system.session()
    client.send("a1 APPEND INBOX {5+}\r\nhello")
    client.close()
    closed(backend)
    clean_session(system, backend, reused=False)


def begin_append(client):
    client.send("a1 APPEND INBOX {100}\r\n")
    client.expect(rb"\+ [^\r\n]*\r\n")
    return b"x" * 76


def begin_append_unasked(client):
    client.send("a1 APPEND INBOX {100+}\r\n")
    return b"x" * 76


def begin_idle(client):
    client.send("a1 IDLE\r\n")
    client.expect_exact("+ idling\r\n")
    return b""


def begin_long_line(client):
    return b"a1 CREATE " + b"x" * 100000


BEGINNINGS = [begin_append, begin_append_unasked, begin_long_line]


def nothing_of_ours(system, backend, client, sent, leave):
    """When the session ends in this moment, the mail host gets nothing that could be a part of what was begun."""
    client.send(sent)
    conn = backend.connections[0]
    backend.wait_for(lambda: len(conn.received) > len(sent) and conn.received.endswith(sent), "not passed on")
    leave()
    closed(backend)
    rest = bytes(conn.received).rpartition(sent)[2] if sent else conn.received.rpartition(b"IDLE\r\n")[2]
    assert rest == b"" or (sent == b"" and rest.startswith(b"DONE\r\n")), rest
    assert backend.mailboxes.get("anna", {}).get(b"INBOX", [b"marker"])[1:] == []


@pytest.mark.parametrize("enabled", [True, False], ids=["after ENABLE", "plain"])
@pytest.mark.parametrize("way", ["close", "reset"])
@pytest.mark.parametrize("begin", BEGINNINGS, ids=lambda begin: begin.__name__)
def test_nothing_of_ours_gets_into_what_a_client_has_begun(system, backend, begin, way, enabled):
    """76 bytes and our own LOGOUT would be the 100 of the literal."""
    client = system.session()
    client.ok("ENABLE QRESYNC" if enabled else "NOOP")
    nothing_of_ours(system, backend, client, begin(client), getattr(client, way))
    clean_session(system, backend, reused=False)


@pytest.mark.parametrize("begin", [*BEGINNINGS, begin_idle], ids=lambda begin: begin.__name__)
def test_nothing_of_ours_gets_into_it_when_the_service_is_stopped(system, backend, begin):
    client = system.session()
    nothing_of_ours(system, backend, client, begin(client), system.stop_and_keep)
    assert client.read_to_end().startswith(b"* BYE ")


@pytest.mark.parametrize("half", ["a1 CREATE half-a-line", "a1 CREATE half-a-line\r", "a", "a1 "])
def test_nothing_of_half_a_line_is_executed(system, backend, half):
    client = system.session()
    client.ok("NOOP")
    client.send(half)
    client.close()
    system.wait_log("reason=client-closed")
    assert b"half-a-line" not in backend.everything()
    clean_session(system, backend)


def test_a_drop_in_idle(system, backend):
    client = system.session()
    client.ok("SELECT INBOX")
    client.send("a1 IDLE\r\n")
    client.expect_exact("+ idling\r\n")
    client.close()
    clean_session(system, backend)


def test_a_drop_right_behind_idle(system, backend):
    client = system.session()
    client.send("a1 IDLE\r\n")
    client.close()
    clean_session(system, backend)


def test_a_drop_after_idle_and_news(system, backend):
    client = system.session()
    client.ok("SELECT INBOX")
    client.send("a1 IDLE\r\n")
    client.expect_exact("+ idling\r\n")
    client.close()
    try:
        backend.connections[0].push(b"* 9 EXISTS\r\n")
    except OSError:
        pass  # it was closed at once: as good
    clean_session(system, backend)


@pytest.mark.parametrize("verb", ["LOGIN", "AUTHENTICATE"])
def test_a_drop_during_the_backend_login(make, verb):
    backend = make.backend(before="IMAP4rev1 AUTH=PLAIN SASL-IR" if verb == "AUTHENTICATE" else "IMAP4rev1")
    system = make.system(backend)
    gate = backend.gate(verb)
    client = system.client()
    client.send("a1 LOGIN anna pw-anna\r\n")
    gate.wait()
    client.close()
    gate.open()
    backend.gates.clear()
    clean_session(system, backend)


@pytest.mark.parametrize("sent", ["", "a1 NOOP", "a1 LOGIN {4}\r\n", "a1 AUTHENTICATE PLAIN\r\n"])
def test_a_drop_before_login_leaves_no_process(system, backend, sent):
    client = system.client()
    pid = system.pid_serving(client)
    client.send(sent)
    client.close()
    backend.wait_for(lambda: pid not in system.pids("proxyd"), "the process stays")
    assert backend.connections == []


@pytest.mark.parametrize("select", [False, True], ids=["nothing selected", "selected"])
@pytest.mark.parametrize("news", [b"* 5 EXISTS", b"* 1 FETCH (FLAGS ())", b"* 1 EXPUNGE", b"* FLAGS (\\Seen)"])
def test_news_of_a_mailbox_behind_the_reset_mean_no_reuse(system, backend, news, select):
    """Nothing is selected any more: who says this believes otherwise."""
    client = system.session()
    client.ok("SELECT INBOX" if select else "NOOP")
    backend.answers["NOOP"] = news + b"\r\nTAG OK done\r\n"
    client.logout()
    closed(backend)
    system.wait_log("cached=reset-failed")
    backend.answers.clear()
    clean_session(system, backend, reused=False)


def test_a_status_response_behind_the_reset_means_nothing(system, backend):
    client = system.session()
    client.ok("NOOP")
    backend.answers["NOOP"] = b"* OK still here\r\nTAG OK done\r\n"
    client.logout()
    system.wait_cached(1)
    backend.answers.clear()
    clean_session(system, backend, reused=True)


@pytest.mark.parametrize("answer", [b"TAG OK Noop\r\n* 5 EXISTS\r\n", b"* 5 EXISTS\r\nother OK Noop\r\n",
                                    b"TAG NO not now\r\n", b"TAG OK"])
def test_a_strange_answer_to_the_barrier_means_no_reuse(system, backend, answer):
    client = system.session()
    client.ok("SELECT INBOX")
    backend.answers["NOOP"] = answer
    client.logout()
    if answer == b"TAG OK":
        backend.wait_for(lambda: "NOOP" in backend.connections[0].verbs(), "no barrier came")
        backend.connections[0].drop()
    closed(backend)
    backend.answers.clear()
    clean_session(system, backend, reused=False)


# --- while the broker has yet to answer -------------------------------------------------------------------
@pytest.fixture
def held(make, backend):
    """Its first login waits for the directory until the gate is opened."""
    gate = Gate()

    def answer(_):
        gate.reached.set()
        gate.opened.wait(DEADLINE)
        return ["Auth-Status: OK", f"Auth-Server: {backend.address}", f"Auth-Port: {backend.port}"]
    web = AuthHttp(answer)
    make.started.append(web)
    system = make.system(backend, directory=[web], server_port=free_port())
    system.gate = gate
    return system


def send_and_wait(system, text):
    client = system.client()
    client.send(text)
    assert system.gate.reached.wait(DEADLINE)
    return client


def test_a_client_that_is_reset_before_its_lease_gives_up_its_place(held, backend):
    send_and_wait(held, "a1 LOGIN anna pw-anna\r\n").reset()
    held.wait_log("reason=client-lost")
    held.wait_clients(0)
    assert "LOGIN: 'anna'" not in held.log_text()  # nobody has judged it
    held.gate.opened.set()
    clean_session(held, backend, reused=False)
    assert len(backend.logins) == 1


def test_a_client_that_has_said_all_may_still_wait_for_its_answers(held):
    client = send_and_wait(held, "a1 LOGIN anna pw-anna\r\na2 LOGOUT\r\n")
    client.sock.shutdown(socket.SHUT_WR)
    held.gate.opened.set()
    said = client.read_to_end()
    assert b"a1 OK " in said and b"a2 OK " in said, said
