"""POP3 with real programs: Dovecot behind the proxy; poplib, curl and the fetchers as clients. What they get by the proxy is
what they get without it."""
import os
import poplib
import re
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

from keepwarm import certs, dovecot, process
from keepwarm.process import wait_until
from keepwarm.system import temp_folder

pytestmark = pytest.mark.skipif(dovecot.missing("pop3") is not None, reason=str(dovecot.missing("pop3")))
USERS = 12
MESSAGES = 7
poplib._MAXLINE = 100000  # pylint: disable=protected-access


class Pki:
    def __init__(self):
        self.folder = temp_folder()
        self.authority = certs.Authority(self.folder)
        self.host = self.authority.issue("localhost", "127.0.0.1", file="host")
        self.ours = self.authority.issue("mail.example.test", "localhost", "127.0.0.1", file="ours")


@pytest.fixture(scope="module")
def pki():
    made = Pki()
    yield made
    shutil.rmtree(made.folder, ignore_errors=True)


def fill(server, user):
    """Messages of all shapes: dots at the beginning of lines, long ones, 8-bit, an empty one."""
    texts = [".\r\n..\r\n.x\r\n", "x" * 20000 + "\r\n", "\xe4\xf6\xfc\r\n" * 100, "", "line\r\n" * 50000,
             f"This is the mail of <{user}>.\r\n"]
    for number, text in enumerate(texts):
        path = server.maildir(user) / "cur" / f"17000001{number:02}.M{number}P1.host:2,S"
        path.write_bytes(f"Subject: {number} of {user}\r\nMessage-ID: <{number}.{user}@example.test>\r\n\r\n{text}".encode("latin-1"))
        shutil.chown(path, "nobody", "nogroup")


@pytest.fixture(scope="module")
def server(pki):
    server = dovecot.Dovecot(USERS, cert=pki.host)
    for user in server.names:
        fill(server, user)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def proxy(make, server, pki):
    """A system in front of Dovecot; .pop and .pops are its ports."""
    def start(**config):
        ports = process.free_port(), process.free_port()
        system = make.system(server, **{"pop3_listen_port": ports[0], "pop3s_listen_port": ports[1],
                                        "pop3_server_port": server.pop3_port, "tls_ca_file": pki.authority.path,
                                        "tls_server_cert_file": pki.ours.path,
                                        "tls_server_key_file": pki.ours.key_path, **config})
        system.pop, system.pops = ports
        return system
    return start


def context(pki):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(pki.authority.path)
    made.set_alpn_protocols(["pop3"])
    return made


def connect(port, pki, way):
    if way == "pop3s":
        return poplib.POP3_SSL("127.0.0.1", port, timeout=20, context=context(pki))
    client = poplib.POP3("127.0.0.1", port, timeout=20)
    if way == "stls":
        client.stls(context(pki))
    return client


def everything(client, user):
    """Logs in and takes all that there is; leaves it there."""
    client.user(user)
    client.pass_(dovecot.Dovecot.password(user))
    seen = [client.stat(), client.list()[1:], client.uidl()[1:], sorted(client.capa())]
    for number in range(1, seen[0][0] + 1):
        seen.append(client.retr(number)[1:])
        seen.append(client.top(number, 1)[1:])
    client.rset()
    client.noop()
    client.quit()
    return seen


def logins_of_user2(server):
    return re.findall(r"pop3-login: Info: Login: user=<user2>.*", server.log_text())


@pytest.mark.parametrize("toward", ["none", "starttls", "implicit"])
@pytest.mark.parametrize("way", ["pop3", "stls", "pop3s"])
def test_poplib_gets_the_same_as_without_the_proxy(proxy, server, pki, toward, way):
    system = proxy(server_tls=toward,
                   pop3_server_port=server.pop3s_port if toward == "implicit" else server.pop3_port,
                   server_port=server.tls_port if toward == "implicit" else server.port)
    direct = everything(connect(server.pop3_port, pki, "pop3"), "user1")
    assert direct[0][0] == MESSAGES
    before = len(logins_of_user2(server))
    for user in "user1", "user2":
        client = connect(system.pops if way == "pop3s" else system.pop, pki, way)
        if way == "pop3s":
            assert client.sock.selected_alpn_protocol() == "pop3"
        mine = everything(client, user)
        assert user != "user1" or mine == direct
        assert f"This is the mail of <{user}>.".encode() in str(mine).encode()
    wait_until(lambda: len(logins_of_user2(server)) > before, server.log_text)
    assert ("TLS" in logins_of_user2(server)[-1]) == (toward != "none"), logins_of_user2(server)[-1]


def test_dovecot_says_what_a_client_is_told(proxy):
    system = proxy()
    client = poplib.POP3("127.0.0.1", system.pop, timeout=20)
    client.user("user1")
    with pytest.raises(poplib.error_proto, match=r"-ERR \[AUTH\] Login failed"):
        client.pass_("wrong")
    client.close()


def test_deletions_are_made_at_quit_and_only_then(proxy, server):
    system = proxy()

    def left(user="user3"):
        return len(list((server.maildir(user) / "cur").iterdir()))
    for quits in False, True:
        client = poplib.POP3("127.0.0.1", system.pop, timeout=20)
        client.user("user3")
        client.pass_("secret3")
        client.dele(1)
        if quits:
            client.quit()
            wait_until(lambda: left() == MESSAGES - 1, "QUIT deleted nothing")
        else:
            client.sock.shutdown(socket.SHUT_RDWR)
            client.close()
            wait_until(lambda: "pop3(user3)" in server.log_text() and "del=0/" in server.log_text(), server.log_text)
            assert left() == MESSAGES


def test_everybody_at_once_gets_his_own(proxy, server):
    system, wrong = proxy(), []

    def visit(user):
        for _ in range(5):
            client = poplib.POP3("127.0.0.1", system.pop, timeout=60)
            client.user(user)
            client.pass_(dovecot.Dovecot.password(user))
            text = b"\n".join(b"\n".join(client.retr(number)[1]) for number in (1, MESSAGES))
            client.quit()
            if text.count(f"<{user}>".encode()) < 1 or f"of {user}".encode() not in text:
                wrong.append((user, text))
    threads = [threading.Thread(target=visit, args=(user,)) for user in server.names[3:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert system.gauge("cached") == 0


def curl(url, user, *options):
    run = subprocess.run(["curl", "-sS", "--max-time", "30", *options, "--user",
                          f"{user}:{dovecot.Dovecot.password(user)}", url], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("way", ["pop3", "pop3s", "stls", "sasl"])
def test_curl(proxy, server, pki, way):
    system = proxy()
    options = {"stls": ["--ssl-reqd", "--cacert", pki.authority.path], "sasl": ["--login-options", "AUTH=PLAIN"],
               "pop3s": ["--cacert", pki.authority.path], "pop3": []}[way]
    scheme, port = ("pop3s", system.pops) if way == "pop3s" else ("pop3", system.pop)
    for path in "", "1", "2", "5":
        assert curl(f"{scheme}://127.0.0.1:{port}/{path}", "user2", *options) == \
            curl(f"pop3://127.0.0.1:{server.pop3_port}/{path}", "user2")


def fetchmail(folder, port, user):
    """The messages, as fetchmail hands them on."""
    out = folder / f"mail-{port}"
    control = folder / f"fetchmailrc-{port}"
    control.write_text(f"poll 127.0.0.1 proto pop3 port {port} user {user} password "
                       f"{dovecot.Dovecot.password(user)} keep fetchall sslproto '' mda 'cat >>{out}'\n")
    control.chmod(0o600)
    run = subprocess.run(["fetchmail", "-f", control, "--pidfile", folder / f"pid-{port}", "--invisible",
                          "--idfile", folder / f"ids-{port}"], capture_output=True, check=False, timeout=60)
    assert run.returncode == 0, (run.stdout, run.stderr)
    return out.read_bytes()


@pytest.mark.skipif(not shutil.which("fetchmail"), reason="fetchmail is not installed")
def test_fetchmail(proxy, server, pki):
    folder = temp_folder()
    try:
        mine, direct = (fetchmail(folder, port, "user4") for port in (proxy().pop, server.pop3_port))
        assert mine == direct and b"This is the mail of <user4>." in mine
    finally:
        shutil.rmtree(folder)


def maildir(path):
    """A new one, and its messages later, in an order that depends on nothing else."""
    for name in "new", "cur", "tmp":
        (path / name).mkdir(parents=True)
    return lambda: sorted(one.read_bytes() for name in ("new", "cur") for one in (path / name).iterdir())


def run_fetcher(*command):
    run = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert run.returncode == 0, (run.stdout, run.stderr)


def getmail(folder, port, user, pki, secure):
    out = folder / f"mail-{port}"
    messages = maildir(out)
    become = ""  # it refuses to deliver as root
    if os.getuid() == 0:
        become = "user = nobody\n"
        for path in out, *out.iterdir():
            shutil.chown(path, "nobody", "nogroup")
    control = folder / f"getmailrc-{port}"
    control.write_text(f"[retriever]\ntype = SimplePOP3{'SSL' if secure else ''}Retriever\nserver = localhost\nport = {port}\n"
                       + (f"ca_certs = {pki.authority.path}\nssl_cert_hostname = localhost\n" if secure else "") +
                       f"username = {user}\npassword = {dovecot.Dovecot.password(user)}\n"
                       f"[destination]\ntype = Maildir\npath = {out}/\n{become}"
                       f"[options]\nread_all = true\ndelete = false\ndelivered_to = false\nreceived = false\n")
    run_fetcher("getmail", "--getmaildir", folder, "--rcfile", control)
    return messages()


def mpop(folder, port, user, pki, secure):
    out = folder / f"mail-{port}"
    messages = maildir(out)
    control = folder / f"mpoprc-{port}"
    control.write_text(f"account default\nhost localhost\nport {port}\nuser {user}\npassword {dovecot.Dovecot.password(user)}\n"
                       + (f"auth plain\ntls on\ntls_starttls off\ntls_trust_file {pki.authority.path}\n" if secure
                          else "auth user\ntls off\n") +
                       f"keep on\nonly_new off\nreceived_header off\nuidls_file {folder}/uidls-{port}\ndelivery maildir {out}\n")
    control.chmod(0o600)
    run_fetcher("mpop", "-C", control)
    return messages()


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("fetcher", [getmail, mpop])
def test_fetchers_get_the_same_as_without_the_proxy(proxy, server, pki, fetcher, secure):
    if not shutil.which(fetcher.__name__):
        pytest.skip(f"{fetcher.__name__} is not installed")
    system, folder = proxy(), temp_folder()
    try:
        mine = fetcher(folder, system.pops if secure else system.pop, "user4", pki, secure)
        direct = fetcher(folder, server.pop3s_port if secure else server.pop3_port, "user4", pki, secure)
        assert mine == direct and len(mine) == MESSAGES and b"This is the mail of <user4>." in b"".join(mine)
    finally:
        shutil.rmtree(folder)
