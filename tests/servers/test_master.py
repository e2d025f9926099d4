"""Master logins at a real mail server: Dovecot with a master user, as its manual sets one up."""
import poplib
import shutil
import subprocess

import pytest
from cryptography.x509.oid import NameOID

from keepwarm import certs, dovecot, process
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
    server.wait_ended("user3")
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


# --- clients with a certificate -------------------------------------------------------------------------------
@pytest.mark.parametrize("separator", [None, "*"])
def test_a_certificate_instead_of_a_password(make, server, tmp_path_factory, separator):
    """The user's name stands in the certificate, no shared secret is needed, and curl is the client."""
    folder = tmp_path_factory.mktemp("pki")
    authority, clients = certs.Authority(folder), certs.Authority(folder, "clients")
    ours = authority.issue("127.0.0.1", file="ours")
    imaps, pop3s = process.free_port(), process.free_port()
    files = {}
    for one in authority, clients, ours:  # where proc_username may read them
        files[one] = shutil.copy(one.both_path if one is ours else one.path, server.folder)
        shutil.chown(files[one], "nobody")
    system = make.system(server, **{
        **KEYS, "auth_shared_secret": None, "master_separator": separator, "imaps_listen_port": imaps,
        "pop3s_listen_port": pop3s, "pop3_server_port": server.pop3_port, "auth_mechanisms": "PLAIN EXTERNAL",
        "tls_server_cert_file": files[ours], "tls_client_ca_file": files[clients], "tls_client_name": "cn"})
    schemes = [f"imaps://127.0.0.1:{imaps}/INBOX;MAILINDEX=1"]
    if not dovecot.missing("pop3"):
        schemes.append(f"pop3s://127.0.0.1:{pop3s}/1")
    for name in server.names[:2]:
        shows = clients.issue_to(name, subject=[(NameOID.COMMON_NAME, name)])
        for url in schemes:
            run = subprocess.run(["curl", "-sS", "--cacert", authority.path, "--cert", shows.path, "--key", shows.key_path,
                                  "-u", f"{name}:", "--login-options", "AUTH=EXTERNAL", url], capture_output=True,
                                 timeout=process.DEADLINE, check=False)
            assert run.returncode == 0 and f"<{name}>".encode() in run.stdout, run
            run = subprocess.run([*run.args[:-4], "user4:", *run.args[-3:]], capture_output=True, timeout=process.DEADLINE,
                                 check=False)
            assert run.returncode == 67, run  # login denied
    assert "the certificate is another user's" in system.log_text()
