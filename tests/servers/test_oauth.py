"""Tokens with a real mail server, Dovecot's oauth2 passdb and a provider on loopback, and with real clients."""
import base64
import imaplib
import json
import subprocess

import pytest

from keepwarm import dovecot, tokens
from keepwarm.imap import Client
from keepwarm.process import wait_until
from keepwarm.provider import Provider

pytestmark = pytest.mark.skipif(dovecot.missing() is not None, reason=str(dovecot.missing()))
REFUSED = b"NO [AUTHENTICATIONFAILED] AUTHENTICATE failed"


@pytest.fixture
def provider():
    provider = Provider()
    provider.tokens = {"token-1": "user1", "token-2": "user2"}
    yield provider
    provider.stop()


@pytest.fixture
def server(provider, tmp_path_factory):
    folder = tmp_path_factory.mktemp("oauth2")
    server = dovecot.Dovecot(4, extra=provider.dovecot(folder)).start()
    yield server
    server.stop()


@pytest.fixture
def system(make, server):
    return make.system(server, auth_mechanisms=tokens.OFFERED)


def visit(system, user, token, mechanism, reused):
    with tokens.session(system, user, token, mechanism, reused) as client:
        client.ok("SELECT INBOX")
        assert f"<{user}>".encode() in client.ok("FETCH 1 BODY[]").text, "this is somebody else's mail"
        client.logout()
    system.wait_given()


@pytest.mark.parametrize("mechanism", tokens.MECHANISMS)
def test_a_fresh_login_and_a_reused_one(system, server, provider, mechanism):
    visit(system, "user1", "token-1", mechanism, reused=False)
    asked = len(provider.asked)
    visit(system, "user1", "token-1", mechanism, reused=True)
    visit(system, "user2", "token-2", mechanism, reused=False)
    server.wait_logins(1, "user1")
    server.wait_logins(1, "user2")
    assert provider.asked[asked:] == ["token-2"], "the provider is asked of fresh logins only"


@pytest.mark.parametrize("mechanism", tokens.MECHANISMS)
def test_a_wrong_token_is_refused_in_the_mail_hosts_own_words(system, server, mechanism):
    with Client(server.port) as direct, system.client() as client:
        own, passed = (tokens.login(who, mechanism, "user1", "nobody's") for who in (direct, client))
        assert passed.tagged == REFUSED and own.tagged.startswith(b"NO [AUTHENTICATIONFAILED]")
        assert passed.report == own.report and json.loads(base64.b64decode(own.report[2:-2]))["status"]
        assert tokens.login(client, mechanism, "user2", "token-1").tagged == REFUSED  # somebody else's
        assert tokens.login(client, mechanism, "user1", "token-1").ok


def test_a_new_token_takes_the_old_ones_place(system, server, provider):
    visit(system, "user1", "token-1", "XOAUTH2", reused=False)
    provider.tokens["token-1b"] = provider.tokens.pop("token-1")
    visit(system, "user1", "token-1b", "XOAUTH2", reused=False)
    wait_until(lambda: server.ends("user1") == ["Logged out"], server.log_text)
    with system.client() as client:
        reply = tokens.login(client, "XOAUTH2", "user1", "token-1")
        assert reply.tagged == REFUSED and reply.report
    visit(system, "user1", "token-1b", "XOAUTH2", reused=True)


def test_a_password_beside_a_token(system, server):
    visit(system, "user1", "token-1", "OAUTHBEARER", reused=False)
    with system.session("user1", "secret1", reused=False) as client:
        client.logout()
    system.wait_given()
    visit(system, "user1", "token-1", "OAUTHBEARER", reused=True)
    server.wait_logins(2, "user1")


@pytest.mark.parametrize("length, good", [(6000, True), (8000, False)])
def test_long_tokens(system, provider, length, good):
    """Dovecot's own bound is 8 KiB of base64: beyond it hangs up, which is no word about the token."""
    token = "x" * length
    provider.tokens[token] = "user3"
    with system.client() as client:
        reply = tokens.login(client, "OAUTHBEARER", "user3", token)
        assert reply.ok if good else reply.tagged == b"NO [UNAVAILABLE] AUTHENTICATE failed"


# --- clients ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mechanism", tokens.MECHANISMS)
def test_curl(system, server, mechanism):
    def curl(token):
        return subprocess.run(
            ["curl", "-sS", "--max-time", "20", "--user", "user1:", "--oauth2-bearer", token, "--login-options",
             f"AUTH={mechanism}", f"imap://127.0.0.1:{system.port}/INBOX;MAILINDEX=1"],
            capture_output=True, check=False, timeout=60)
    for _ in range(3):
        done = curl("token-1")
        assert b"marker of user1" in done.stdout, done
        system.wait_given()
    server.wait_logins(1, "user1")
    done = curl("nobody's")
    assert done.returncode == 67 and not done.stdout, done  # CURLE_LOGIN_DENIED
    assert b"marker of user1" in curl("token-1").stdout
    server.wait_logins(1, "user1")


@pytest.mark.parametrize("mechanism", tokens.MECHANISMS)
def test_imaplib(system, server, mechanism):
    def log_in(token):
        session, said = imaplib.IMAP4("127.0.0.1", system.port, timeout=10), []

        def answer(challenge):
            said.append(challenge)
            return tokens.message(mechanism, "user2", token) if len(said) == 1 else (b"" if mechanism == "XOAUTH2" else b"\1")
        assert f"AUTH={mechanism}" in session.capabilities
        return session, said, lambda: session.authenticate(mechanism, answer)
    for _ in range(2):
        session, said, authenticate = log_in("token-2")
        assert authenticate()[0] == "OK" and said == [b""]
        assert session.select()[0] == "OK"
        session.logout()
        system.wait_given()
    session, said, authenticate = log_in("nobody's")
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        authenticate()
    assert len(said) == 2 and json.loads(said[1])["status"]
    session.logout()
    server.wait_logins(1, "user2")
