"""TLS on both sides with real programs: in.imapproxyd as a whole between Dovecot, or Courier behind stunnel, and clients."""
import contextlib
import fcntl
import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import termios
import threading
import time

import pytest

from keepwarm import certs, courier, dovecot, process, tls
from keepwarm.process import wait_until
from keepwarm.system import System, temp_folder
from test_clients import NODE, NODE_SOURCE, node_modules, run

pytestmark = pytest.mark.skipif(dovecot.missing() is not None, reason=str(dovecot.missing()))


class Pki:
    """What the mail hosts show, by the address where they show it, and what we show."""

    def __init__(self):
        self.folder = temp_folder()
        self.authority = certs.Authority(self.folder)
        self.stranger = certs.Authority(self.folder, "stranger")
        self.between = certs.Authority(self.folder, "between", above=self.authority)
        issue = self.authority.issue
        self.good = issue("localhost", "127.0.0.1", file="good")
        self.ours = issue("imap.example.test", "localhost", "127.0.0.1", file="ours")
        self.ours_rsa = issue("mail.example.test", "127.0.0.1", file="ours-rsa", key="rsa")
        self.next = issue("imap.example.test", "127.0.0.1", file="next")
        self.client = issue("keepwarm", file="client", client=True)
        self.others = {
            "127.0.0.2": self.authority.expired("127.0.0.2"),
            "127.0.0.3": certs.self_signed(self.folder, "127.0.0.3"),
            "127.0.0.4": issue("other.example.test", "127.0.0.9", file="other"),
            "127.0.0.5": certs.Authority(self.folder, "strange", above=self.stranger).issue("127.0.0.5"),
            "127.0.0.6": self.between.issue("127.0.0.6", chain=False),
            "127.0.0.7": self.between.issue("127.0.0.7"),
        }


@pytest.fixture(scope="module")
def pki():
    made = Pki()
    yield made
    shutil.rmtree(made.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def server(pki):
    server = dovecot.Dovecot(12, cert=pki.good, others=pki.others).start()
    yield server
    server.stop()


@pytest.fixture
def toward(make, pki):
    """A system that speaks TLS in this way to the server. `verify` brings the authority that is needed."""
    def start(server, how, verify=True, **config):
        settings = {"server_tls": how, "server_port": server.tls_port if how == "implicit" else server.port,
                    "tls_ca_file": pki.authority.path if verify else None, "backend_timeout": 10}
        return make.system(server, **{**settings, **config})
    return start


def visit(system, user="user1", reused=None):
    """One session; returns when its connection is given back."""
    given = system.counter("given")
    with system.client() as client:
        reply = client.login(user, dovecot.Dovecot.password(user))
        assert reply.ok, (reply, system.log_text())
        assert reused is None or reply.reused == reused, reply
        assert client.ok("SELECT INBOX").ok
        text = b"".join(client.ok("FETCH 1 BODY.PEEK[TEXT]").untagged)
        client.logout()
    assert f"This is the mail of <{user}>.".encode() in text
    wait_until(lambda: system.counter("given") > given, "nothing was given back")


# --- toward mail hosts ------------------------------------------------------------------------------
def test_an_old_file_with_force_tls_goes_on_working(make, server):
    """As up-imapproxy: any certificate will do, and the start says so."""
    system = make.system(server, force_tls="yes")
    visit(system)
    assert re.search(r"imapproxy.conf:\d+: force_tls: certificates of mail hosts are not verified", system.log_text())
    wait_until(lambda: re.search(r"Login: user=<user1>, .*TLS", server.log_text()), server.log_text)


@pytest.mark.parametrize("how", ["starttls", "implicit"])
def test_a_reused_login_makes_no_handshake(toward, server, how):
    system, user = toward(server, how), {"starttls": "user2", "implicit": "user3"}[how]
    visit(system, user, reused=False)
    server.wait_logins(1, user)  # its handshake is in the log before it
    before = server.handshakes()
    for _ in range(5):
        visit(system, user, reused=True)
    assert server.handshakes() == before and server.logins(user) == 1
    assert re.search(rf"Login: user=<{user}>, .*TLSv1\.3", server.log_text())
    assert "not verified" not in system.log_text()


@pytest.mark.parametrize("oldest, newest", [("TLSv1.2", "TLSv1.2"), ("TLSv1.3", "TLSv1.3")])
def test_a_mail_host_of_one_version_that_asks_for_our_certificate(toward, pki, oldest, newest):
    extra = (f"ssl_ca = <{pki.authority.path}\nssl_require_crl = no\nssl_verify_client_cert = yes\n"
             "auth_ssl_require_client_cert = yes\n")
    server = dovecot.Dovecot(2, extra, cert=pki.good, oldest=oldest, newest=newest)
    try:
        server.start()
        shown = {"tls_cert_file": pki.client.path, "tls_key_file": pki.client.key_path}
        for how in "starttls", "implicit":
            system = toward(server, how, cache_expiration_time=0, **shown)
            for _ in range(3):  # nor is TLS resumed: this Dovecot fails then
                with system.client() as client:
                    assert client.login("user1", "secret1").ok, system.log_text()
                    client.logout()
        server.wait_said(rf"Login: user=<user1>, .*{re.escape(newest)}", 6)
        with toward(server, "starttls").client() as client:
            assert client.login("user2", "secret2").tagged.startswith(b"NO ")
        if newest == "TLSv1.2":
            refused = toward(server, "implicit", tls_min_version="1.3", **shown)
            with refused.client() as client:
                assert client.login("user1", "secret1").tagged.startswith(b"NO [UNAVAILABLE] ")
            refused.wait_log("TLS failed")  # Dovecot hangs up; others send an alert that says why
    finally:
        server.stop()


BAD = {"127.0.0.2": "has expired", "127.0.0.3": "self-signed", "127.0.0.4": "is for other names",
       "127.0.0.5": "leads to no known authority", "127.0.0.6": "lacks an intermediate certificate"}


@pytest.mark.parametrize("address", BAD)
def test_a_certificate_that_is_not_good_is_refused_and_named(toward, server, address):
    system = toward(server, "implicit", server_hostname=address)
    server.wait_ended()
    logins, before = server.logins(), server.log_text().count("user9")
    with system.client() as client:
        reply = client.login("user9", "secret9")
        assert reply.tagged.startswith(b"NO [UNAVAILABLE] "), reply
    line = next(line for line in system.log_text().splitlines() if "TLS failed" in line)
    assert BAD[address] in line and address in line and re.search(r"\btls_\w+", line), line
    if address == "127.0.0.6":
        assert "signed by between" in line
    assert (server.logins(), server.log_text().count("user9")) == (logins, before), "the password was sent"


def test_a_certificate_that_does_not_matter_is_taken_with_a_warning(toward, server):
    system = toward(server, "starttls", verify=False, server_hostname="127.0.0.2", tls_verify_server="no")
    visit(system, "user4")
    assert re.search(r":\d+: tls_verify_server: certificates of mail hosts are not verified", system.log_text())


def test_a_chain_and_a_name_are_verified(toward, server):
    visit(toward(server, "implicit", server_hostname="127.0.0.7"), "user5")
    visit(toward(server, "starttls", server_hostname="localhost"), "user6")


def test_a_mail_host_without_tls_is_never_spoken_to_in_clear_text(make, toward):
    backend = make.backend()
    backend.tls_port = backend.port
    for how in "starttls", "implicit":
        system = toward(backend, how)
        with system.client() as client:
            assert client.login("anna", "pw-anna").tagged.startswith(b"NO [UNAVAILABLE] ")
        assert "TLS failed" in system.log_text()


# --- stunnel in front of Courier --------------------------------------------------------------------
STUNNEL = """
foreground = yes
pid =
debug = notice
[imaps]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{behind}
cert = {cert}
key = {key}
TIMEOUTclose = 0
"""


class Tunnel:
    def __init__(self, behind, cert):
        self.folder = temp_folder()
        self.port = self.tls_port = process.free_port()
        conf = self.folder / "conf"
        conf.write_text(STUNNEL.format(port=self.port, behind=behind, cert=cert.path, key=cert.key_path))
        with open(self.folder / "log", "wb") as log:
            self.process = process.start(["stunnel4", conf], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def accepts(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self):
        self.process.terminate()
        self.process.wait(process.DEADLINE)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.mark.skipif(not shutil.which("stunnel4"), reason="stunnel4 is not installed")
def test_courier_behind_stunnel(make, toward, pki):
    if courier.missing():
        pytest.skip(courier.missing())
    server = courier.Courier(2)
    make.started.append(server)
    server.start()
    tunnel = Tunnel(server.port, pki.good)
    make.started.append(tunnel)
    wait_until(tunnel.accepts, lambda: (tunnel.folder / "log").read_text())
    system = toward(tunnel, "implicit")
    handshakes = []
    for reused in False, True, True:
        given = system.counter("given")
        with system.client() as client:
            assert client.login("user1", "secret1").reused == reused
            client.ok("SELECT INBOX")
            client.logout()
        wait_until(lambda: system.counter("given") > given, "nothing was given back")  # pylint: disable=W0640
        handshakes.append(system.counter("tls_backend_handshakes"))
    assert handshakes[0] > 0 and len(set(handshakes)) == 1, handshakes


# --- with clients -----------------------------------------------------------------------------------
@pytest.fixture
def facing(make, pki):
    """A system that has TLS with clients; system.imaps is its second port."""
    def start(server, *shown, **config):
        shown, port = shown or (pki.ours,), process.free_port()
        settings = {"imaps_listen_port": port, "tls_server_cert_file": " ".join(cert.path for cert in shown),
                    "tls_server_key_file": " ".join(cert.key_path for cert in shown)}
        system = make.system(server, **{**settings, **config})
        system.imaps = port
        return system
    return start


def s_client(*argv, said=b"", **kwargs):
    return subprocess.run(["openssl", "s_client", *map(str, argv)], input=said, capture_output=True, check=False,
                          timeout=process.DEADLINE, **kwargs)


def test_openssl_and_curl(facing, server, pki):
    system = facing(server, server_tls="starttls", tls_ca_file=pki.authority.path)
    trust = ("-CAfile", pki.authority.path, "-verify_return_error", "-verify_ip", "127.0.0.1")
    said = b"a LOGIN user1 secret1\r\nb SELECT INBOX\r\nc FETCH 1 BODY.PEEK[TEXT]\r\nd LOGOUT\r\n"
    for how in ("-connect", f"127.0.0.1:{system.imaps}"), ("-connect", f"127.0.0.1:{system.port}", "-starttls", "imap"):
        done = s_client(*how, *trust, "-quiet", "-ign_eof", said=said)
        assert b"This is the mail of <user1>." in done.stdout and b"d OK" in done.stdout, done
    for url in (f"imaps://127.0.0.1:{system.imaps}/INBOX;MAILINDEX=1",), (
            "--ssl-reqd", f"imap://127.0.0.1:{system.port}/INBOX;MAILINDEX=1"):
        assert "This is the mail of <user2>." in run("curl", "-sS", "--max-time", 20, "--cacert", pki.authority.path,
                                                     "--user", "user2:secret2", *url)
    wait_until(lambda: len(re.findall(r"session ended .*tls=TLSv1\.3 cipher=TLS_AES_256_GCM_SHA384", system.log_text())) == 4,
               system.log_text)


@pytest.mark.parametrize("how", ["starttls", "implicit"])
def test_imapflow(facing, server, pki, how):
    reason = node_modules()
    if reason:
        pytest.skip(reason)
    system = facing(server)
    result = json.loads(run("node", NODE_SOURCE / "click.js", "127.0.0.1", system.imaps if how == "implicit" else system.port,
                            "user7", "secret7", how, pki.authority.path,
                            env=dict(os.environ, NODE_PATH=str(NODE / "node_modules"))))
    assert result["source"].endswith("This is the mail of <user7>.\r\n")
    system.wait_log("tls=TLSv1.3")


MUTTRC = """
set imap_user=user11 imap_pass=secret11
set ssl_force_tls=yes ssl_starttls=yes ssl_ca_certificates_file="{authority}"
set folder="{folder}" record="" postponed="" mbox_type=maildir
set certificate_file=/dev/null header_cache="" pager_stop=no wait_key=no
push "<quit>"
"""


@pytest.mark.skipif(not shutil.which("mutt"), reason="mutt is not installed")
@pytest.mark.parametrize("how", ["starttls", "implicit"])
def test_mutt(facing, server, pki, tmp_path, how):
    """In a terminal of its own, whose text is read until it leaves."""
    system = facing(server)
    (tmp_path / "rc").write_text(MUTTRC.format(authority=pki.authority.path, folder=tmp_path))
    url = f"imaps://localhost:{system.imaps}/INBOX" if how == "implicit" else f"imap://localhost:{system.port}/INBOX"
    inner, outer = os.openpty()
    fcntl.ioctl(outer, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    with open(inner, "rb", 0) as screen:
        mutt = process.start(["mutt", "-n", "-F", tmp_path / "rc", "-f", url], stdin=outer, stdout=outer, stderr=outer,
                             env=dict(os.environ, TERM="xterm", HOME=str(tmp_path), LC_ALL="C"))
        os.close(outer)
        shown = read_terminal(screen)
        assert mutt.wait(process.DEADLINE) == 0
    assert b"marker of user11" in shown, shown
    system.wait_log("tls=TLSv1.3")


def read_terminal(screen):
    """All that is written to it until its other end is closed."""
    shown, end = b"", time.monotonic() + process.DEADLINE
    while select.select([screen], [], [], max(0, end - time.monotonic()))[0]:
        try:
            data = screen.read(65536)
        except OSError:  # EIO: nobody has the other end
            break
        shown += data
    return shown


MBSYNCRC = """
IMAPAccount a
Host localhost
Port {port}
User user8
Pass secret8
SSLType {how}
CertificateFile {authority}
AuthMechs LOGIN

IMAPStore far
Account a

MaildirStore near
Path {folder}/mail/
Inbox {folder}/mail/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Create Near
SyncState *
"""


@pytest.mark.skipif(not shutil.which("mbsync"), reason="isync is not installed")
@pytest.mark.parametrize("how", ["STARTTLS", "IMAPS"])
def test_mbsync(facing, server, pki, tmp_path, how):
    system = facing(server)
    (tmp_path / "mail").mkdir()
    rc = tmp_path / "rc"
    rc.write_text(MBSYNCRC.format(port=system.imaps if how == "IMAPS" else system.port, how=how, folder=tmp_path,
                                  authority=pki.authority.path))
    run("mbsync", "-q", "-c", rc, "-a")
    found = b"".join(path.read_bytes() for path in (tmp_path / "mail" / "INBOX").rglob("*") if path.is_file())
    assert b"This is the mail of <user8>." in found
    system.wait_log("tls=TLSv1.3")


# --- what is offered --------------------------------------------------------------------------------
WEAK = {"NULL": (0x0001, 0x0002, 0x003B, 0xC006, 0xC010), "EXPORT": (0x0003, 0x0006, 0x0008, 0x0014),
        "RC4": (0x0004, 0x0005, 0xC007, 0xC011), "DES": (0x0009, 0x0015), "3DES": (0x000A, 0x0016, 0xC008, 0xC012),
        "anonymous": (0x0018, 0x0034, 0x003A, 0x006C, 0x00A6, 0xC017, 0xC018), "PSK": (0x008C, 0x00A8), "SRP": (0xC01D,)}


def test_what_is_old_or_weak_is_not_offered(facing, make, pki):
    """With an EC and an RSA certificate, so that no cipher fails for the lack of a key."""
    system = facing(make.backend(), pki.ours, pki.ours_rsa)
    for version in tls.SSL3, tls.TLS10, tls.TLS11:
        answer = tls.Answer(system.imaps, tls.client_hello(version, (*tls.STRONG, 0xC009, 0xC013, 0x002F, 0x0035)))
        assert answer.version is None, f"{version:04x} is taken"
    for name, ciphers in WEAK.items():
        answer = tls.Answer(system.imaps, tls.client_hello(tls.TLS12, ciphers))
        assert answer.cipher is None, f"{name}: {answer.cipher:04x} is taken"
    answer = tls.Answer(system.imaps, tls.client_hello(tls.TLS12, tls.STRONG, b"\1\0"))
    assert answer.version == tls.TLS12 and answer.cipher in tls.STRONG and answer.compression == 0
    for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
        with tls.imaps(system.imaps, pki.authority, version=version) as client:
            assert client.login("anna", "pw-anna").ok and client.sock.compression() is None
    strict = facing(make.backend(), tls_server_min_version="1.3")
    assert tls.Answer(strict.imaps, tls.client_hello(tls.TLS12, tls.STRONG)).version is None


def test_renegotiation_and_early_data_are_refused(facing, make, pki):
    system = facing(make.backend())
    at = ("-connect", f"127.0.0.1:{system.imaps}", "-CAfile", pki.authority.path)
    asking = process.start(["openssl", "s_client", *at, "-tls1_2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT)
    said = b""
    while b"* OK [CAPABILITY" not in said:  # mail that came while it renegotiates would be the end, too
        said += os.read(asking.stdout.fileno(), 65536) or pytest.fail(said.decode())
    said = asking.communicate(b"R\n", process.DEADLINE)[0]
    assert b"RENEGOTIATING" in said and b"no renegotiation" in said, said
    kept = system.folder / "session"
    s_client(*at, "-tls1_3", "-sess_out", kept, "-ign_eof", said=b"a LOGOUT\r\n")
    text = subprocess.run(["openssl", "sess_id", "-in", kept, "-noout", "-text"], capture_output=True, check=True).stdout
    assert b"Max Early Data: 0" in text, text


def test_pimpstat_shows_the_tls_of_a_session(facing, make, pki):
    system = facing(make.backend())
    with tls.imaps(system.imaps, pki.authority, "imap.example.test") as client:
        assert client.login("anna", "pw-anna").ok
        wait_until(lambda: [session["tls"] for session in system.stats()["sessions"] if session["user"] == "anna"] ==
                   [{"version": "TLSv1.3", "cipher": client.sock.cipher()[0], "name": "imap.example.test"}],
                   lambda: system.stats()["sessions"])
        wait_until(lambda: system.gauge("tls_connections") == 1, system.stats)


def test_each_name_has_its_certificate(facing, make, pki):
    system = facing(make.backend(), pki.ours, pki.ours_rsa)
    for name, cert in (("imap.example.test", pki.ours), ("mail.example.test", pki.ours_rsa), ("127.0.0.1", pki.ours)):
        with tls.imaps(system.imaps, pki.authority, name) as client:
            assert serial(client) == cert.cert.serial_number
    with tls.starttls(system.port, pki.authority, "mail.example.test") as client:
        assert serial(client) == pki.ours_rsa.cert.serial_number


def serial(client):
    return int(client.sock.getpeercert()["serialNumber"], 16)


def test_no_password_goes_in_clear_text_where_tls_is_required(facing, make, pki):
    system = facing(make.backend(), require_tls="yes", plaintext_addresses="192.0.2.0/24")
    with system.client() as client:
        assert "LOGINDISABLED" in client.greeting.decode()
        assert client.login("anna", "pw-anna").tagged.startswith(b"NO [PRIVACYREQUIRED]")
    with tls.starttls(system.port, pki.authority) as client:
        assert client.login("anna", "pw-anna").ok


def test_a_key_of_another_certificate_does_not_start_and_a_reload_keeps_what_was(facing, make, pki):
    system = facing(make.backend())
    system.write_config(tls_server_key_file=pki.next.key_path)
    system.supervisor.send_signal(signal.SIGHUP)
    system.wait_log("the key does not belong to the certificate")
    with tls.imaps(system.imaps, pki.authority) as client:
        assert client.login("anna", "pw-anna").ok and serial(client) == pki.ours.cert.serial_number
    system.stop_and_keep()
    start = subprocess.run([system.binaries / "in.imapproxyd", "-f", system.conf], stdin=subprocess.DEVNULL, check=False,
                           capture_output=True, text=True, timeout=process.DEADLINE, env=system.environment())
    assert start.returncode == 1, start
    assert re.search(rf"{system.conf}:\d+: tls_server_key_file: .*the key does not belong", start.stderr), start


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes somebody else")
def test_an_ordinary_user_can_start_it(make, pki):
    """With keys that he can read himself."""
    backend, nobody = make.backend(), 65534
    key = pki.folder / "key-of-nobody"
    shutil.copy(pki.ours.key_path, key)
    shutil.chown(key, nobody, nobody)
    system = System(backend.port, prefix=("setpriv", f"--reuid={nobody}", f"--regid={nobody}", "--clear-groups",
                                          "--inh-caps=-all"), tls_server_cert_file=pki.ours.path, tls_server_key_file=key)
    make.started.append(system)
    shutil.chown(system.folder, nobody, nobody)
    system.start()
    with tls.starttls(system.port, pki.authority) as client:
        assert client.login("anna", "pw-anna").ok


def test_tls_on_both_sides_comes_with_a_reload(make, server, pki):
    system = make.system(server)
    visit(system, "user12", reused=False)
    assert system.pids("tlsrelayd") == []
    system.write_config(tls_server_cert_file=pki.ours.path, tls_server_key_file=pki.ours.key_path,
                        server_tls="implicit", server_port=server.tls_port, tls_ca_file=pki.authority.path)
    system.supervisor.send_signal(signal.SIGHUP)

    def begin():
        with contextlib.suppress(AssertionError):  # one of before the reload has come to the door
            return tls.starttls(system.port, pki.authority)
    with wait_until(begin, system.log_text) as client:
        reply = client.login("user12", "secret12")
        assert reply.ok and not reply.reused, (reply, system.log_text())
    wait_until(lambda: re.search(r"Login: user=<user12>, .*TLSv1\.3", server.log_text()), server.log_text)


# --- under load -------------------------------------------------------------------------------------
class Load:
    """Clients with TLS that say NOOP until they are told to end."""

    def __init__(self, system, authority, count):
        self.done, self.turns, self.lost = threading.Event(), [0] * count, {}
        self.clients = [tls.imaps(system.imaps, authority) for _ in range(count)]
        for client in self.clients:
            assert client.login("anna", "pw-anna").ok
        self.threads = [threading.Thread(target=self.work, args=(n,)) for n in range(count)]
        for thread in self.threads:
            thread.start()

    def work(self, number):
        client = self.clients[number]
        try:
            while not self.done.is_set():
                client.ok("NOOP")
                self.turns[number] += 1
        except (OSError, AssertionError) as problem:
            self.lost[number] = problem

    def wait_turns(self, more=20):
        """Every client that is still there has said NOOP so many times more."""
        goal = [turns + more for turns in self.turns]
        wait_until(lambda: all(n in self.lost or turns >= goal[n] for n, turns in enumerate(self.turns)),
                   lambda: f"{self.turns}, {self.lost}")

    def end(self):
        self.done.set()
        for thread in self.threads:
            thread.join(process.DEADLINE)
        for client in self.clients:
            client.close()


@pytest.fixture
def load(pki):
    made = []

    def start(system, count):
        made.append(Load(system, pki.authority, count))
        return made[-1]
    yield start
    for one in made:
        one.end()


def workers(system):
    """The processes of tlsrelayd that carry TLS."""
    relays = system.pids("tlsrelayd")
    return [pid for pid in relays if process.parent(pid) in relays]


def test_a_killed_worker_takes_only_its_own_sessions(facing, make, load, pki):
    system = facing(make.backend(), tls_sessions_per_worker=2)
    clients = load(system, 8)
    clients.wait_turns()
    before = workers(system)
    assert len(before) >= 4, before
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: clients.lost, "nobody noticed")
    clients.wait_turns()
    assert 1 <= len(clients.lost) <= 2, clients.lost
    with tls.imaps(system.imaps, pki.authority) as client:
        assert client.login("anna", "pw-anna").ok
    system.wait_counter("tls_workers_lost", 1)
    clients.end()
    assert len(clients.lost) <= 2, clients.lost


def masters(system):
    """The processes of tlsrelayd that are none of its workers."""
    relays = system.pids("tlsrelayd")
    return [pid for pid in relays if process.parent(pid) not in relays]


@pytest.mark.parametrize("program", ["tlsrelayd", "cachebrokerd", "listener"])
def test_who_dies_is_replaced_and_sessions_in_tls_go_on(facing, make, load, pki, program):
    system = facing(make.backend())
    clients = load(system, 4)
    clients.wait_turns()
    before = {"tlsrelayd": lambda: masters(system)[0], "cachebrokerd": lambda: system.pids("cachebrokerd")[0],
              "listener": system.listener_pid}[program]()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: not process.alive(before), "it lives")

    def serves():
        try:
            with tls.imaps(system.imaps, pki.authority) as client:
                return client.login("anna", "pw-anna").ok
        except (OSError, AssertionError):
            return False
    wait_until(serves, system.log_text)
    clients.wait_turns()
    clients.end()
    assert not clients.lost


def test_sessions_in_tls_outlive_the_supervisor_and_the_next_one_starts(facing, make, pki):
    system = facing(make.backend())
    with tls.imaps(system.imaps, pki.authority) as client:
        assert client.login("anna", "pw-anna").ok
        old = [*system.pids("tlsrelayd"), *system.pids("cachebrokerd")]
        os.kill(system.supervisor.pid, signal.SIGKILL)
        system.supervisor.wait()
        system.start()  # the old listener's spares may still greet
        wait_until(lambda: system.log_text().count("is ready") == 2, system.log_text)
        with tls.imaps(system.imaps, pki.authority) as other:
            assert other.login("berta", "pw-berta").ok
            client.ok("NOOP")
            client.logout()
        wait_until(lambda: not any(map(process.alive, old)), lambda: f"{old}: {system.programs()}\n{system.log_text()}")


def test_a_new_certificate_comes_with_sighup_and_nobody_is_disturbed(facing, make, load, pki):
    folder = pki.folder / "renewed"
    folder.mkdir()
    shutil.copy(pki.ours.both_path, folder / "both")
    system = facing(make.backend(), tls_server_cert_file=folder / "both", tls_server_key_file=None)
    clients = load(system, 8)
    clients.wait_turns()
    shutil.copy(pki.next.both_path, folder / "new")
    os.replace(folder / "new", folder / "both")
    system.supervisor.send_signal(signal.SIGHUP)

    def is_new():
        with tls.imaps(system.imaps, pki.authority) as client:
            assert client.login("anna", "pw-anna").ok
            return serial(client) == pki.next.cert.serial_number
    wait_until(is_new, "the old certificate is shown")
    clients.wait_turns()
    assert {serial(client) for client in clients.clients} == {pki.ours.cert.serial_number}
    clients.end()
    assert not clients.lost


def test_sessions_get_their_bye_through_tls_when_all_ends(facing, make, pki):
    system = facing(make.backend())
    with tls.imaps(system.imaps, pki.authority) as client:
        assert client.login("anna", "pw-anna").ok
        system.supervisor.terminate()
        client.expect(rb"\* BYE [^\r]*\r\n")
        client.expect_close()  # with close_notify: Python's TLS takes no other end


def test_a_bye_arrives_through_a_worker_that_is_late(facing, make, pki):
    """The sessions are gone when it gets to their last words, and it has been told to end."""
    system = facing(make.backend())
    with tls.imaps(system.imaps, pki.authority) as client:
        assert client.login("anna", "pw-anna").ok
        with process.frozen(*workers(system)):
            system.supervisor.terminate()
            wait_until(lambda: set(system.programs()) == {"in.imapproxyd", "tlsrelayd"}, lambda: system.programs())
        client.expect(rb"\* BYE [^\r]*\r\n")
        client.expect_close()


def test_a_stop_is_quick_with_cached_connections_in_tls(toward, server):
    system = toward(server, "implicit")
    visit(system, "user10")
    system.stop_and_keep()
    assert "did not end in time" not in system.log_text()
