"""The harness against itself: the scripted backend and the raw client, without Keepwarm between."""
import pytest

from keepwarm import dovecot
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
