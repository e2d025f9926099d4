"""The harness against itself: the scripted backend and the raw client, without Keepwarm between."""
import pytest

from keepwarm import conversation, dovecot
from keepwarm.imap import Client



@pytest.mark.parametrize("how", ["atoms", "quoted", "nonsync", "plain-initial", "plain", "login"])
def test_the_client_can_log_in_to_the_scripted_backend(backend, how):
    with Client(backend.port) as client:
        assert client.login("anna", "pw-anna", how).ok


def test_the_scripted_backend_keeps_mailboxes_apart(backend):
    for user in ("anna", "bert"):
        with Client(backend.port) as client:
            assert client.login(user, f"pw-{user}", "atoms").ok
            client.ok("SELECT INBOX")
            assert f"<{user}>".encode() in client.ok("FETCH 1 BODY[]").text
    assert [login.user for login in backend.logins] == ["anna", "bert"]


def test_the_scripted_backend_takes_literals_and_refuses_wrong_passwords(backend):
    with Client(backend.port) as client:
        assert not client.login("anna", "wrong", "atoms").ok
        assert client.login("anna", "pw-anna", "nonsync").ok
        assert client.ok("APPEND INBOX {5+}\r\nhello").tagged.startswith(b"OK Appended")
        client.ok("SELECT INBOX")
        assert b"hello" in client.ok("FETCH 1:* BODY[]").text
    assert b"hello" in backend.everything()


@pytest.mark.skipif(dovecot.missing() is not None, reason=str(dovecot.missing()))
def test_a_throwaway_dovecot_serves_and_its_log_counts_logins():
    server = dovecot.Dovecot(users=2).start()
    try:
        with Client(server.port) as client:
            assert client.login("user2", "secret2").ok
            client.ok("SELECT INBOX")
            assert b"<user2>" in client.ok("FETCH 1 BODY[]").text
        assert (server.logins("user2"), server.logins()) == (1, 1)
    finally:
        server.stop()


TALK = """
= one
> * OK %* ready
a LOGIN %{user}
> + go ahead
b SELECT INBOX
> ...
> * 4 EXISTS
> ...
> b OK %*
- BYE
"""
CAME = [(0, b"* OK [x] ready\r\n"), (1, b"+ go ahead\r\n"), (2, b"* FLAGS ()\r\n"), (2, b"* 4 EXISTS\r\n"),
        (2, b"* 0 RECENT\r\n"), (2, b"b OK done\r\n"), (3, b"zz OK\r\n")]


@pytest.mark.parametrize("changed, problem", [
    ({}, None), ({4: b"b OK in between\r\n"}, "step 2"), ({0: b"* OK [x] steady\r\n"}, "step 0"), ({1: b"+ go ahead\r"}, "step 1"),
    ({1: b"+ go\r\n"}, "step 1"), ({3: b"* 5 EXISTS\r\n"}, "step 2"), ({2: b"* BYE\r\n"}, "step 2"),
    ({5: conversation.CLOSED}, "step 2"), ({6: b"zz NO\r\n"}, None)])
def test_a_conversation_is_judged_by_what_it_expects(tmp_path, changed, problem):
    (tmp_path / "talk.txt").write_text(TALK)
    what, = conversation.read_folder(tmp_path)
    came = [(step, changed.get(number, line)) for number, (step, line) in enumerate(CAME)]
    assert (conversation.judge(what, came, {"user": b"anna"}) or "None").startswith(str(problem))


def test_a_line_too_few_and_one_too_many_are_seen(tmp_path):
    (tmp_path / "talk.txt").write_text(TALK)
    what, = conversation.read_folder(tmp_path)
    assert conversation.judge(what, CAME[:-2]) and conversation.judge(what, [*CAME, (2, b"* 1 FETCH\r\n")])
