"""Master logins at a real mail server: Dovecot with a master user, as its manual sets one up."""
import poplib
import shutil

import pytest

from keepwarm import dovecot, process
from keepwarm.imap import LOGINS
from keepwarm.system import temp_folder

MASTER, PASSWORD, SHARED = "webmail", "master-password", "shared-secret"
KEYS = {"auth_sasl_plain_username": MASTER, "auth_sasl_plain_password": PASSWORD, "auth_shared_secret": SHARED}
CONF = """
auth_master_user_separator = *
passdb {{
  driver = passwd-file
  master = yes
  pass = yes
  args = scheme=PLAIN {path}
}}
"""

pytestmark = pytest.mark.skipif(dovecot.missing() is not None, reason=str(dovecot.missing()))


@pytest.fixture(scope="module")
def server():
    folder = temp_folder()
    (folder / "masters").write_text(f"{MASTER}:{{PLAIN}}{PASSWORD}\n")
    server = dovecot.Dovecot(4, CONF.format(path=folder / "masters"))
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def system(make, server):
    return make.system(server, **KEYS)


@pytest.mark.parametrize("how", LOGINS)
def test_every_user_gets_the_own_mailbox_with_the_shared_secret(system, server, how):
    for name in server.names:
        with system.client() as client:
            assert client.login(name, SHARED, how).ok
            client.ok("SELECT INBOX")
            assert f"<{name}>".encode() in client.ok("FETCH 1 BODY[]").text


def test_a_reused_one_is_the_same_users(system, server):
    for reused in (False, True):
        client = system.session("user1", SHARED, reused=reused)
        client.ok("SELECT INBOX")
        assert b"<user1>" in client.ok("FETCH 1 BODY[]").text
        client.logout()
        system.wait_given()
    system.session("user2", SHARED, reused=False).close()


def test_neither_the_users_password_nor_a_part_of_the_secret_is_enough(system, server):
    before = server.logins("user3")
    with system.client() as client:
        for secret in ("secret3", SHARED[:4], ""):
            assert client.login("user3", secret).tagged == b"NO [AUTHENTICATIONFAILED] LOGIN failed"
    assert server.logins("user3") == before


def test_users_that_dovecot_does_not_know_are_refused(system):
    with system.client() as client:
        assert client.login("stranger", SHARED).tagged.startswith(b"NO [AUTHENTICATIONFAILED]")
        # the master's separator must not let a client choose another name than it is counted under
        assert not client.login(f"user1*{MASTER}", SHARED).ok


def test_a_wrong_master_password_is_said_in_the_log(make, server):
    system = make.system(server, **{**KEYS, "auth_sasl_plain_password": "wrong"})
    with system.client() as client:
        assert client.login("user1", SHARED).tagged.startswith(b"NO [AUTHENTICATIONFAILED]")
    assert "the master user's login is refused by" in system.log_text()


def test_the_masters_name_behind_the_users(make, server):
    system = make.system(server, master_separator="*", **KEYS)
    for name in server.names * 2:
        with system.client() as client:
            assert client.login(name, SHARED).ok
            client.ok("SELECT INBOX")
            assert f"<{name}>".encode() in client.ok("FETCH 1 BODY[]").text
    with system.client() as client:
        assert client.login(f"user1*{MASTER}", SHARED).tagged.startswith(b"NO [AUTHENTICATIONFAILED]")


# --- POP3 -----------------------------------------------------------------------------------------------------
@pytest.fixture(params=[None, "*"])
def pop3(make, server, request):
    if dovecot.missing("pop3"):
        pytest.skip(dovecot.missing("pop3"))
    port = process.free_port()
    make.system(server, pop3_listen_port=port, pop3_server_port=server.pop3_port, master_separator=request.param, **KEYS)
    return lambda: poplib.POP3("127.0.0.1", port, timeout=process.DEADLINE)


def test_pop3_sessions_are_the_masters(pop3, server):
    for name in server.names * 2:
        client = pop3()
        client.user(name)
        client.pass_(SHARED)
        assert f"<{name}>".encode() in b"".join(client.retr(1)[1])
        client.quit()


def test_pop3_refuses_what_imap_refuses(pop3):
    for name, secret in ("user1", "secret1"), ("stranger", SHARED), (f"user1*{MASTER}", SHARED):
        client = pop3()
        client.user(name)
        with pytest.raises(poplib.error_proto, match="AUTH"):
            client.pass_(secret)
        client.close()
