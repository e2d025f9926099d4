"""Challenges with real programs: Dovecot behind the proxy; curl, fetchmail, imaplib and mutt as clients, over IMAP and POP3.
Dovecot hears PLAIN from an errand; the clients never say a password."""
import imaplib
import shutil
import subprocess

import pytest

from keepwarm import challenge, dovecot, process
from keepwarm.directory import Passwords
from keepwarm.process import wait_until
from keepwarm.system import temp_folder

pytestmark = pytest.mark.skipif(dovecot.missing("pop3") is not None, reason=str(dovecot.missing("pop3")))


@pytest.fixture(scope="module")
def server():
    server = dovecot.Dovecot(12)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def proxy(make, server):
    table = Passwords(None, **{user: (server.password(user), "") for user in server.names})
    make.started.append(table)
    pop = process.free_port()
    system = make.system(server, directory=[table], no_mailhost="default", auth_mechanisms=challenge.OFFERED + " APOP",
                         pop3_listen_port=pop, pop3_server_port=server.pop3_port, log_format="keepwarm")
    system.pop = pop
    return system


@pytest.fixture
def folder():
    made = temp_folder()
    yield made
    shutil.rmtree(made)


def curl(url, user, password, how="AUTH=CRAM-MD5"):
    return subprocess.run(["curl", "-sS", "--max-time", "30", "--login-options", how, "--user", f"{user}:{password}",
                           url], capture_output=True, check=False)


@pytest.mark.parametrize("service", ["imap", "pop3"])
def test_curl(proxy, server, service):
    url = f"imap://127.0.0.1:{proxy.port}/INBOX;MAILINDEX=1" if service == "imap" else f"pop3://127.0.0.1:{proxy.pop}/1"
    done = curl(url, "user1", server.password("user1"))
    assert done.returncode == 0 and b"user1" in done.stdout, done
    assert curl(url, "user1", "wrong").returncode == 67
    assert curl(url, "user2", server.password("user1")).returncode == 67


def test_curl_with_apop(proxy, server):
    url = f"pop3://127.0.0.1:{proxy.pop}/1"
    done = curl(url, "user2", server.password("user2"), "AUTH=+APOP")
    assert done.returncode == 0 and b"user2" in done.stdout, done
    assert curl(url, "user2", "wrong", "AUTH=+APOP").returncode == 67


@pytest.mark.parametrize("mechanism", challenge.MECHANISMS)
def test_each_mechanism_in_front_of_dovecot(proxy, server, mechanism):
    for reused in False, True:
        with proxy.client() as client:
            reply = challenge.login(client, mechanism, "user3", server.password("user3"))
            assert reply.ok and (reply.reused == reused or mechanism != challenge.MECHANISMS[0]), reply
            assert b"EXISTS" in client.ok("SELECT INBOX").text
            client.logout()
        proxy.wait_given()


def test_imaplib(proxy, server):
    with imaplib.IMAP4("127.0.0.1", proxy.port) as client:
        assert client.login_cram_md5("user4", server.password("user4"))[0] == "OK"
        assert client.select()[0] == "OK"
    with imaplib.IMAP4("127.0.0.1", proxy.port) as client, pytest.raises(imaplib.IMAP4.error):
        client.login_cram_md5("user4", "wrong")


@pytest.mark.parametrize("how", ["pop3 port {} auth cram-md5", "apop port {}"])
def test_fetchmail(proxy, server, folder, how):
    out, control = folder / "mail", folder / "fetchmailrc"
    control.write_text(f"poll 127.0.0.1 proto {how.format(proxy.pop)} user user5 password {server.password('user5')} "
                       f"keep fetchall sslproto '' mda 'cat >>{out}'\n")
    control.chmod(0o600)
    run = subprocess.run(["fetchmail", "-f", control, "--pidfile", folder / "pid", "--invisible", "--idfile", folder / "ids"],
                         capture_output=True, check=False, timeout=60)
    assert run.returncode == 0, (run.stdout, run.stderr)
    assert "user5" in out.read_text()


@pytest.mark.parametrize("mechanism", ["scram-sha-256", "scram-sha-1"])
@pytest.mark.skipif(not shutil.which("mutt") or not shutil.which("script"), reason="needs mutt and script")
def test_mutt(proxy, server, folder, mechanism):
    """It speaks SCRAM by libgsasl, and checks the server's signature."""
    control = folder / "muttrc"
    control.write_text(f"set folder=imap://user6@127.0.0.1:{proxy.port}/\nset spoolfile=+INBOX\nset ssl_starttls=no\nset ssl_force_tls=no\n"
                       f"set imap_pass={server.password('user6')}\nset imap_authenticators={mechanism}\nset wait_key=no\n"
                       f"set header_cache={folder}\npush '<exit>'\n")
    run = subprocess.run(["script", "-qec", f"mutt -n -F {control}", "/dev/null"], stdin=subprocess.DEVNULL, capture_output=True,
                         timeout=60, check=False, env={"TERM": "xterm", "HOME": str(folder), "PATH": "/usr/bin:/bin"})
    wait_until(lambda: proxy.counter("logins") == 1, lambda: f"{run}\n{proxy.log_text()}")
