"""Who is calling, with a real Dovecot: behind Keepwarm, which tells it by PROXY header, ID or XCLIENT; in front of it, as a
proxy that tells the same; and both, each the other's mail host."""
import re
import socket
from types import SimpleNamespace

import pytest

from keepwarm import dovecot, pop3, process
from keepwarm.imap import Client
from keepwarm.process import wait_until

pytestmark = pytest.mark.skipif(dovecot.missing("pop3") is not None, reason=str(dovecot.missing("pop3")))
OTHER = "127.0.0.9"
TRUSTING = """
login_trusted_networks = 127.0.0.1/32
haproxy_trusted_networks = 127.0.0.1/32
service imap-login {{
  inet_listener imap_haproxy {{
    address = 127.0.0.1
    port = {0}
    haproxy = yes
  }}
}}
service pop3-login {{
  inet_listener pop3_haproxy {{
    address = 127.0.0.1
    port = {1}
    haproxy = yes
  }}
}}
"""


class Proxy(dovecot.Dovecot):
    """A Dovecot that passes every login on."""

    def __init__(self, port, **more):
        self.behind = port
        super().__init__(2, **more)

    def write_passwords(self):
        (self.folder / "users").write_text("".join(
            f"{name}:{{PLAIN}}{password}::::::proxy=y host=127.0.0.1 port={self.behind} pass={password}\n"
            for name, password in self.passwords.items()))


@pytest.fixture(scope="module")
def server():
    ports = process.free_port(), process.free_port()
    server = dovecot.Dovecot(9, extra=TRUSTING.format(*ports)).start()
    server.haproxy = ports
    yield server
    server.stop()


@pytest.fixture
def front(make):
    def start(server, ports=None, **config):
        ports = ports or (server.port, server.pop3_port)
        port = process.free_port()
        system = make.system(SimpleNamespace(port=ports[0]), pop3_listen_port=port, pop3_server_port=ports[1],
                             log_format="keepwarm", **config)
        system.pop_port = port
        return system
    return start


def dial(port, source):
    return socket.create_connection(("127.0.0.1", port), timeout=process.DEADLINE, source_address=(source, 0))


def log_in(system, user, protocol, source=OTHER):
    """The client's port."""
    password = "secret" + user.removeprefix("user")
    sock = dial(system.port if protocol == "imap" else system.pop_port, source)
    port = sock.getsockname()[1]
    if protocol == "imap":
        with Client(None, sock=sock) as client:
            client.ok('ID ("name" "tester" "x-originating-ip" "6.6.6.6")')
            assert client.login(user, password).ok
    else:
        with pop3.Client(None, sock=sock) as client:
            assert client.login(user, password).startswith(b"+OK")
            client.ok("QUIT")
    return port


def wait_rip(server, user, protocol, rip):
    said = re.compile(rf"{protocol}-login: Info: Login: user=<{user}>.* rip={re.escape(rip)},")
    wait_until(lambda: said.search(server.log_text()), server.log_text)


PROTOCOL = pytest.mark.parametrize("protocol", ["imap", "pop3"])


@PROTOCOL
def test_dovecot_hears_by_a_proxy_header(front, server, protocol):
    system = front(server, server.haproxy, proxy_protocol_hosts="127.0.0.1")
    log_in(system, "user1", protocol)
    wait_rip(server, "user1", protocol, OTHER)


@PROTOCOL
def test_dovecot_hears_by_id_and_xclient(front, server, protocol):
    system = front(server, tell_client_address="yes")
    log_in(system, "user2", protocol)
    wait_rip(server, "user2", protocol, OTHER)
    assert "6.6.6.6" not in server.log_text()


@PROTOCOL
def test_unasked_dovecot_hears_nothing(front, server, protocol):
    log_in(front(server), "user3", protocol)
    wait_rip(server, "user3", protocol, "127.0.0.1")


@PROTOCOL
def test_a_dovecot_that_does_not_trust_us_serves_all_the_same(front, protocol):
    server = dovecot.Dovecot(1).start()
    try:
        log_in(front(server, tell_client_address="yes"), "user1", protocol)
        wait_rip(server, "user1", protocol, "127.0.0.1")
    finally:
        server.stop()


def through(proxy, protocol, user):
    if protocol == "imap":
        with Client(None, sock=dial(proxy.port, OTHER)) as client:
            return client.login(user, "secret" + user[4:]).tagged
    with pop3.Client(None, sock=dial(proxy.pop3_port, OTHER)) as client:
        return client.login(user, "secret" + user[4:])


@PROTOCOL
def test_what_dovecots_proxy_says_is_told_on(front, server, protocol):
    system = front(server, tell_client_address="yes", trusted_addresses="127.0.0.1")
    proxy = Proxy(system.port if protocol == "imap" else system.pop_port).start()
    try:
        assert b"OK" in through(proxy, protocol, "user1").split(b" ")[0]
        wait_rip(server, "user1", protocol, OTHER)
        system.wait_log(f"origin={OTHER} ")
    finally:
        proxy.stop()


@PROTOCOL
def test_a_loop_with_dovecot_is_cut(front, protocol):
    """Dovecot hears the count from whom it trusts. It tries again by itself when a mail host is not available."""
    proxy = Proxy(0, extra="login_trusted_networks = 127.0.0.1/32\nlogin_proxy_max_reconnects = 0\n")
    system = front(proxy, trusted_addresses="127.0.0.1")
    proxy.behind = system.port if protocol == "imap" else system.pop_port
    proxy.write_passwords()
    proxy.start()
    try:
        answer = through(proxy, protocol, "user1")
        assert answer.startswith((b"NO [UNAVAILABLE]", b"-ERR [SYS/TEMP]")), answer
        wait_until(lambda: "loop" in system.log_text() + proxy.log_text(), "nobody says that there is a loop")
        wait_until(lambda: not system.gauge("clients"), "sessions are left")
        assert system.counter("clients") < 12
    finally:
        proxy.stop()
