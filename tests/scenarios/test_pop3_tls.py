"""POP3 within TLS: STLS and a port of its own for clients, STLS and implicit TLS toward the mail host."""
import contextlib
import re
import shutil
import socket
import ssl

import pytest

from keepwarm import certs, process, tls, tlsrelay
from keepwarm.pop3 import Client, Host
from keepwarm.process import wait_until
from keepwarm.system import temp_folder


class Pki:
    def __init__(self):
        self.folder = temp_folder()
        self.authority = certs.Authority(self.folder)
        self.ours = self.authority.issue("mail.example.test", "127.0.0.1", file="ours")
        self.host = self.authority.issue("127.0.0.1", file="host")


@pytest.fixture(scope="module")
def pki():
    made = Pki()
    yield made
    shutil.rmtree(made.folder, ignore_errors=True)


@pytest.fixture
def secure(make, pki):
    """A system with certificates in front of a scripted host."""
    hosts = []

    def start(host=None, **config):
        hosts.append(host or Host())
        ports = process.free_port(), process.free_port()
        system = make.system(make.backend(), **{
            "pop3_listen_port": ports[0], "pop3s_listen_port": ports[1], "pop3_server_port": hosts[-1].port,
            "tls_server_cert_file": pki.ours.path, "tls_server_key_file": pki.ours.key_path,
            "tls_ca_file": pki.authority.path, **config})
        system.host, system.pops = hosts[-1], ports[1]
        system.clear = lambda: Client(ports[0])
        return system
    yield start
    for one in hosts:
        one.stop()


def stls(system, pki):
    outer = system.clear()
    outer.ok("STLS")
    return Client(None, sock=tls.wrap(outer.sock, pki.authority), greet=False)


def pop3s(system, pki, alpn="pop3"):
    context = tls.context(pki.authority)
    if alpn:
        context.set_alpn_protocols([alpn])
    sock = socket.create_connection(("127.0.0.1", system.pops), timeout=process.DEADLINE)
    return Client(None, sock=context.wrap_socket(sock, server_hostname="127.0.0.1"))


def test_utf8_from_before_tls_is_forgotten(secure, pki):
    """RFC 2595 section 4: who said it is not known."""
    system = secure(Host(capa=["UTF8"], answers={"UTF8": b"+OK\r\n"}))
    outer = system.clear()
    outer.ok("UTF8")
    outer.ok("STLS")
    with Client(None, sock=tls.wrap(outer.sock, pki.authority), greet=False) as client:
        client.session("anna")
    assert system.host.logins[-1].conn.lines == [b"USER anna", b"PASS pw-anna"]


def test_sessions_within_tls(secure, pki):
    system = secure(log_format="keepwarm")
    for start in stls, pop3s:
        with start(system, pki) as client:
            client.ok("CAPA")
            assert b"STLS" not in client.rest()
            assert client.say("STLS") == b"-ERR TLS is active already.\r\n"
            client.session().ok("RETR 1")
            assert b"<anna>" in client.rest()
            client.ok("QUIT")
    wait_until(lambda: len(re.findall("reason=logout .* tls=TLSv1.3", system.log_text())) == 2, system.log_text)


@pytest.mark.parametrize("alpn, good", [("pop3", True), (None, True), ("imap", False)])
def test_the_protocol_that_a_client_names_is_the_ports(secure, pki, alpn, good):
    system = secure()
    if good:
        with pop3s(system, pki, alpn) as client:
            assert client.sock.selected_alpn_protocol() == alpn
            client.session()
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            pop3s(system, pki, alpn)
        assert not system.host.accepted


def test_what_stands_behind_stls_ends_the_session(secure):
    system = secure(log_format="keepwarm")
    with system.clear() as client:
        client.send(b"STLS\r\nUSER anna\r\nPASS pw-anna\r\n")
        assert client.line().startswith(b"-ERR ")
        with contextlib.suppress(ConnectionError):
            client.expect_close()
    system.wait_log("reason=tls-injected")
    assert not system.host.accepted


def test_a_name_from_before_tls_is_nobodys(secure, pki):
    system = secure()
    with system.clear() as outer:
        outer.ok("USER mallory")
        outer.ok("STLS")
        client = Client(None, sock=tls.wrap(outer.sock, pki.authority), greet=False)
        assert client.say("PASS pw-mallory") == b"-ERR USER comes first.\r\n"
        client.session("anna")
    assert [login.user for login in system.host.logins] == ["anna"]


def test_no_password_in_clear_text_where_tls_is_required(secure, pki):
    system = secure(require_tls="yes", plaintext_addresses="none")
    with system.clear() as client:
        client.ok("CAPA")
        offered = client.rest()
        assert b"STLS\r\n" in offered and b"USER" not in offered and b"SASL" not in offered
        for line in "USER anna", "PASS x", "AUTH", "AUTH PLAIN", "AUTH PLAIN AGFubmEAcHctYW5uYQ==":
            assert client.say(line) == b"-ERR No login without TLS.\r\n"
    with stls(system, pki) as client:
        client.session()


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_tls_toward_the_mail_host(secure, pki, mode):
    context = tlsrelay.server_context(pki.host)
    host = Host(**{"tls" if mode == "implicit" else "stls": context})
    system = secure(host, server_tls=mode)
    with system.clear() as client:
        client.session().ok("RETR 1")
        assert b"<anna>" in client.rest()
        client.ok("QUIT")
        client.expect_close()
    login, = host.logins
    assert isinstance(login.conn.sock, ssl.SSLSocket) and login.conn.ended_by == "quit"
    assert (b"STLS" in login.conn.lines) == (mode == "starttls")


@pytest.mark.parametrize("knobs", [
    {},  # -ERR to STLS
    {"answers": {"STLS": b"+OK\r\n+OK injected\r\n"}},
    {"answers": {"STLS": b"a1 OK Begin\r\n"}},
    {"greeting": b"+OK ready\r\n+OK Begin\r\n"},
    {"greeting": b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n"},
    {"greeting": b"-ERR [SYS/TEMP] later\r\n"},
])
def test_no_password_goes_where_stls_is_refused(secure, knobs):
    system = secure(Host(**knobs), server_tls="starttls")
    with system.clear() as client:
        assert client.login() == b"-ERR [SYS/TEMP] Login failed.\r\n"
    said = system.host.everything()
    assert b"USER" not in said and b"PASS" not in said and b"anna" not in said


def test_no_password_goes_to_a_host_with_another_certificate(secure, pki):
    stranger = certs.Authority(pki.folder, "stranger").issue("127.0.0.1", file="strange")
    system = secure(Host(tls=tlsrelay.server_context(stranger)), server_tls="implicit")
    with system.clear() as client:
        assert client.login() == b"-ERR [SYS/TEMP] Login failed.\r\n"
    assert not system.host.logins
