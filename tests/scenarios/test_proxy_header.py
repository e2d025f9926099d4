"""PROXY headers from a proxy in front of us: who it announces is the client, everywhere; nobody else is believed, and no
byte behind a header is lost.

All of 127.0.0.0/8 is this machine: the proxy is 127.0.0.2, other clients come from 127.0.0.1.
"""
import re
import shutil
import socket
import subprocess
import time

import pytest

from keepwarm import certs, pop3, process, proxyheader, tls
from keepwarm.imap import Client
from keepwarm.messages import Peer
from keepwarm.process import wait_until
from keepwarm.proxyheader import CLIENT, PORT, v1, v2, v2_local
from keepwarm.system import BUILD, temp_folder

PROXY = "127.0.0.2"
HEADERS = {"v1": v1(), "v2": v2(), "v2 and more": v2(more=b"\x04\0\x20" + b"x" * 32)}


class Pki:
    def __init__(self):
        self.folder = temp_folder()
        self.authority = certs.Authority(self.folder)
        self.ours = self.authority.issue("imap.example.test", "127.0.0.1", file="ours")


@pytest.fixture(scope="module")
def pki():
    made = Pki()
    yield made
    shutil.rmtree(made.folder, ignore_errors=True)


@pytest.fixture
def fronted(make):
    def start(**config):
        return make.system(make.backend(), **{"proxy_protocol_addresses": PROXY, "log_format": "keepwarm", **config})
    return start


def dial(port, source=PROXY):
    sock = socket.create_connection(("127.0.0.1", port), timeout=process.DEADLINE, source_address=(source, 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def come(system, header, source=PROXY, port=None):
    sock = dial(port or system.port, source)
    sock.sendall(header)
    return Client(None, sock=sock)


def is_closed(sock):
    sock.settimeout(process.DEADLINE)
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def visit(client, user="anna"):
    with client:
        assert client.login(user, f"pw-{user}").ok
        client.logout()


def logged(system, client=CLIENT, port=PORT):
    system.wait_log("reason=logout")
    return re.search(rf"session ended .*client={re.escape(client)} port={port} .*user=anna", system.log_text())


# --- who it is -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_the_announced_client_is_the_client(fronted, header):
    system = fronted()
    with come(system, header) as client:
        assert client.login("anna", "pw-anna").ok
        wait_until(lambda: [one["client"] for one in system.stats()["sessions"] if one["state"] == "active"] ==
                   [f"{CLIENT}:{PORT}"], lambda: system.stats()["sessions"])
        client.logout()
    assert logged(system)


def test_ipv6_is_announced_over_ipv4(fronted):
    system = fronted()
    visit(come(system, v2("2001:db8::77", local="2001:db8::1")))
    assert logged(system, "2001:db8::77")


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_what_stands_behind_the_header_in_one_packet_is_the_clients(fronted, header):
    system = fronted()
    with come(system, header + b"a LOGIN anna pw-anna\r\nb NOOP\r\n") as client:
        assert client.line().startswith(b"a OK")
        assert client.line().startswith(b"b OK")


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_may_come_byte_by_byte(fronted, header):
    system = fronted()
    sock = dial(system.port)
    for n in range(len(header)):
        sock.sendall(header[n:n + 1])
        time.sleep(0.002)  # only so that they are packets of their own
    visit(Client(None, sock=sock))
    assert logged(system)


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", v2_local(), v2(command=0x20)])
def test_without_an_announcement_it_is_the_proxy_itself(fronted, header):
    system = fronted(allow_addresses="127.0.0.1 10.0.0.0/8")  # a proxy may always connect
    client = come(system, header)
    port = client.sock.getsockname()[1]
    visit(client)
    assert logged(system, PROXY, port)


def test_somebody_else_is_not_believed(fronted):
    system = fronted()
    sock = dial(system.port, "127.0.0.1")
    client = Client(None, sock=sock)  # it is greeted without a word
    client.send(v1())
    assert client.line() == b"PROXY BAD Please login first\r\n"
    visit(client)
    assert logged(system, "127.0.0.1", "[0-9]+")
    assert CLIENT not in system.log_text()


def test_by_default_nobody_is_believed(make, backend):
    system = make.system(backend)
    with Client(None, sock=dial(system.port)) as client:
        assert client.send(v1()).line() == b"PROXY BAD Please login first\r\n"


# --- what is decided by it -----------------------------------------------------------------------------
@pytest.mark.parametrize("keys, allowed, refused", [
    ({"allow_addresses": "192.0.2.0/24 127.0.0.1"}, "192.0.2.1", "198.51.100.1"),
    ({"deny_addresses": "192.0.2.0/24"}, "198.51.100.1", "192.0.2.1"),
])
def test_the_announced_address_is_let_in_or_not(fronted, keys, allowed, refused):
    system = fronted(**keys)
    with come(system, v1(allowed)) as client:
        client.ok("NOOP")
    with dial(system.port) as sock:
        sock.sendall(v1(refused))
        assert is_closed(sock)
    system.wait_counter("clients_denied", 1)
    assert f"client refused client={refused}:{PORT}" in system.log_text()


def test_who_is_announced_is_no_proxy_even_if_proxies_have_such_addresses(fronted):
    system = fronted(proxy_protocol_addresses=f"{PROXY} 192.0.2.0/24", deny_addresses="192.0.2.7 127.0.0.2")
    with come(system, v1("192.0.2.8")) as client, come(system, v2_local()) as proxy:
        client.ok("NOOP")
        proxy.ok("NOOP")
    with dial(system.port) as sock:
        sock.sendall(v1("192.0.2.7"))
        assert is_closed(sock)
    system.wait_counter("clients_denied", 1)
    wait_until(lambda: system.stats()["ends"].get("address-refused") == 1, lambda: system.stats()["ends"])
    assert f"client refused client=192.0.2.7:{PORT}" in system.log_text()
    assert system.counter("sessions_lost") == 0


def test_who_is_announced_is_counted_even_if_proxies_have_such_addresses(fronted):
    """What a proxy does in its own name is not."""
    system = fronted(proxy_protocol_addresses=f"{PROXY} 192.0.2.0/24", max_per_ip=1)
    with come(system, v1("192.0.2.8")) as client, come(system, v2_local()) as one, come(system, v2_local()) as two:
        for there in (client, one, two):
            there.ok("NOOP")
        with come(system, v1("192.0.2.9")) as other:
            other.ok("NOOP")
        with dial(system.port) as sock:
            sock.sendall(v1("192.0.2.8"))
            said = b""
            while data := sock.recv(4096):
                said += data
        assert said.endswith(b"* BYE [UNAVAILABLE] Too many connections from your address\r\n")


def test_admin_and_plaintext_go_by_the_announced_address(fronted, pki):
    system = fronted(enable_admin_commands="yes", admin_addresses=f"{CLIENT} {PROXY}", require_tls="yes",
                     plaintext_addresses=f"{CLIENT} 127.0.0.0/8", tls_server_cert_file=pki.ours.path,
                     tls_server_key_file=pki.ours.key_path)
    with come(system, v1()) as client:
        assert client.command("XPROXY_VERSION").ok
        assert client.login("anna", "pw-anna").ok
    with come(system, v1("192.0.2.78")) as client:
        assert not client.command("XPROXY_VERSION").ok
        assert b"PRIVACYREQUIRED" in client.login("anna", "pw-anna").tagged


# --- bad ones ------------------------------------------------------------------------------------------
BAD = [b"a LOGIN anna hush-hush\r\n", b"PROXY TCP4 hush-hush 192.0.2.1 1 2\r\n", b"PROXY " + b"x" * 101,
       b"\x16\x03\x01\x02\0\x01", proxyheader.SIGNATURE + b"\x21\x11\xff\xff", b"\0"]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_bad_header_closes_without_a_byte(fronted, bad):
    system = fronted()
    with dial(system.port) as sock:
        sock.sendall(bad)
        assert is_closed(sock)
    wait_until(lambda: system.stats()["ends"].get("proxy-header") == 1, lambda: system.stats()["ends"])
    assert f"client refused client={PROXY}:" in system.log_text()
    assert "hush-hush" not in system.log_text()
    assert not re.search(rf"session ended .*client={re.escape(PROXY)}", system.log_text())
    assert system.counter("sessions_lost") == 0


def test_many_bad_headers_are_logged_once_a_second(fronted):
    system = fronted()
    began = time.monotonic()
    for _ in range(60):
        with dial(system.port) as sock:
            sock.sendall(b"x")
            assert is_closed(sock)
    wait_until(lambda: system.stats()["ends"].get("proxy-header") == 60, lambda: system.stats()["ends"])
    assert system.log_text().count("client refused") <= time.monotonic() - began + 2
    visit(come(system, v1()))


def test_a_client_that_says_nothing_is_cut_off(fronted):
    system = fronted(login_timeout=1)
    silent, half = dial(system.port), dial(system.port)
    half.sendall(v1()[:20])
    for sock in silent, half:
        with sock:
            assert is_closed(sock)
    wait_until(lambda: system.stats()["ends"].get("proxy-header") == 2, lambda: system.stats()["ends"])


def test_a_health_check_that_only_connects_is_a_client_that_closes(fronted):
    system = fronted()
    dial(system.port).close()
    system.wait_log(f"session ended reason=client-closed client={PROXY} ")
    assert not system.stats()["ends"].get("proxy-header")


def test_a_stop_does_not_wait_for_a_header(fronted):
    system = fronted()
    with dial(system.port) as sock:
        began = time.monotonic()
        system.stop_and_keep()
        assert is_closed(sock) and time.monotonic() - began < 8


# --- with TLS, POP3, in the exec modes ------------------------------------------------------------------
@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_the_header_comes_before_tls(fronted, pki, header):
    port = process.free_port()
    system = fronted(imaps_listen_port=port, tls_server_cert_file=pki.ours.path, tls_server_key_file=pki.ours.key_path)
    sock = dial(port)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # in one packet with the ClientHello
    sock.sendall(header)
    visit(Client(None, sock=tls.wrap(sock, pki.authority)))
    assert logged(system)
    with dial(port) as other, pytest.raises(OSError):
        tls.wrap(other, pki.authority)


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_pop3_has_it_too(fronted, header):
    host, port = pop3.Host(), process.free_port()
    try:
        system = fronted(pop3_listen_port=port, pop3_server_port=host.port)
        sock = dial(port)
        sock.sendall(header)
        with pop3.Client(None, sock=sock) as client:
            client.session()
            client.ok("QUIT")
        assert logged(system)
    finally:
        host.stop()


def serve(system, source, said):
    """proxyd as xinetd starts it. What the client reads until its end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = dial(listener.getsockname()[1], source)
        accepted, _ = listener.accept()
        with open(system.log, "ab") as log, accepted:
            child = process.start([BUILD / "proxyd", "-r", system.run_directory, "-l", "syslog"], stdin=accepted,
                                  stdout=subprocess.DEVNULL, stderr=log)
        with sock:
            sock.sendall(said)
            answer = b""
            try:
                while data := sock.recv(4096):
                    answer += data
            except ConnectionResetError:  # not all that it said was read
                pass
        child.wait(process.DEADLINE)
    return answer


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_process_of_its_own_for_a_connection(fronted, header):
    system = fronted(run_listener="no", deny_addresses="198.51.100.0/24")
    said = b"a LOGIN anna pw-anna\r\nb LOGOUT\r\n"
    answer = serve(system, PROXY, header + said)
    assert answer.startswith(b"* OK ") and b"\r\na OK " in answer
    wait_until(lambda: system.counter("logins") == 1, "there is no login")
    assert system.counter("clients") == 1
    assert serve(system, PROXY, v1("198.51.100.7") + said) == b""
    system.wait_counter("clients_denied", 1)
    assert serve(system, PROXY, b"x") == b""
    wait_until(lambda: system.stats()["ends"].get("proxy-header") == 1, lambda: system.stats()["ends"])
    assert b"PROXY BAD Please login first" in serve(system, "127.0.0.1", v1() + b"b LOGOUT\r\n")


def test_nor_for_a_process_of_its_own(fronted):
    system = fronted(run_listener="no", proxy_protocol_addresses=f"{PROXY} 192.0.2.0/24", deny_addresses="192.0.2.7",
                     max_per_ip=1)
    said = b"a LOGIN anna pw-anna\r\nb LOGOUT\r\n"
    assert serve(system, PROXY, v1("192.0.2.7") + said) == b""
    system.wait_counter("clients_denied", 1)
    assert b"\r\na OK " in serve(system, PROXY, v1("192.0.2.8") + said)
    assert system.counter("sessions_lost") == 0
    with Peer(system).hello(client=PROXY) as one, Peer(system).hello(client=PROXY) as two:
        one.hello(client=PROXY)  # what is the proxy's own is counted with no address
        two.hello(client=PROXY)
        with Peer(system).hello(client=PROXY) as three, Peer(system).hello(client=PROXY) as four:
            three.hello(client="192.0.2.9")
            assert four.request("HELLO", service=1, client="192.0.2.9").name == "REFUSED"


def test_a_process_of_its_own_that_begins_with_tls(fronted, pki):
    system = fronted(run_listener="no", tls_server_cert_file=pki.ours.path, tls_server_key_file=pki.ours.key_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = dial(listener.getsockname()[1])
        accepted, _ = listener.accept()
    with open(system.log, "ab") as log, accepted:
        child = process.start([BUILD / "proxyd", "-r", system.run_directory, "-l", "file", "-s", "imaps"], stdin=accepted,
                              stdout=subprocess.DEVNULL, stderr=log)
    sock.sendall(v2())
    visit(Client(None, sock=tls.wrap(sock, pki.authority)))
    child.wait(process.DEADLINE)
    assert logged(system)


def test_only_a_session_of_the_proxys_may_say_another_address(fronted):
    """Of a process that its client has taken over."""
    system = fronted(enable_admin_commands="yes", admin_addresses="192.0.2.9")
    with Peer(system).hello(client="203.0.113.1") as peer:
        peer.push("HELLO", serial=2, service=1, client="192.0.2.9")
        peer.expect_cut_off()
    with Peer(system).hello(client=PROXY) as peer:
        assert peer.hello(client="192.0.2.9").request("ADMIN", kind=1).result == 1
        peer.push("HELLO", serial=9, service=1, client="192.0.2.9")
        peer.expect_cut_off()
    with Peer(system).hello(client=PROXY) as peer:
        peer.push("LEASE", serial=2, proof_kind=1, user="anna", secret="pw-anna")
        peer.expect_cut_off()


@pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed")
@pytest.mark.parametrize("how", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"])
def test_haproxy(fronted, how, tmp_path):
    system, port = fronted(), process.free_port()
    (tmp_path / "haproxy.cfg").write_text(
        f"defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n"
        f"listen mail\n bind 127.0.0.1:{port}\n server keepwarm 127.0.0.1:{system.port} {how} source {PROXY} check "
        f"inter 200ms\n")
    haproxy = process.start(["haproxy", "-db", "-q", "-f", tmp_path / "haproxy.cfg"])
    try:
        def greeted():
            try:
                return Client(port, greet=True).greeting.startswith(b"* OK") and not haproxy.poll()
            except OSError:
                return False
        wait_until(greeted, "haproxy does not pass on the greeting")
        client = Client(None, sock=dial(port, "127.0.0.9"))
        address = client.sock.getsockname()
        visit(client)
        assert logged(system, *address)
    finally:
        haproxy.terminate()
        haproxy.wait(process.DEADLINE)
