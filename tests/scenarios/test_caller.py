"""Who is calling: what mail hosts are told of clients (PROXY header, ID, XCLIENT), whom a client is believed to serve, and
that proxies which have each other for the mail host find out."""
import re
import shutil
import socket
import time
from types import SimpleNamespace
from functools import partial

import pytest

from keepwarm import certs, pop3, process, tlsrelay
from keepwarm.imap import Client
from keepwarm.messages import Peer
from keepwarm.process import wait_until
from keepwarm.system import System, temp_folder

OTHER = "127.0.0.2"


def connect(system, source="127.0.0.1"):
    sock = socket.create_connection(("127.0.0.1", system.port), timeout=process.DEADLINE, source_address=(source, 0))
    return Client(None, sock=sock)


def ends(client):
    return (*client.sock.getsockname(), *client.sock.getpeername())


def ids(conn):
    """What the mail host was told with ID, one dict for each command."""
    found = []
    for command in conn.commands:
        if command.verb == "ID":
            words = re.findall(r'"((?:[^"\\]|\\.)*)"|NIL', command.raw.decode())
            found.append(dict(zip(words[::2], words[1::2])))
    return found


# --- PROXY headers for mail hosts ------------------------------------------------------------------------
@pytest.mark.parametrize("hosts", ["all", "mail.example 127.0.0.1"])
def test_a_connection_begins_with_who_it_is_for(make, hosts):
    backend = make.backend(proxied=True)
    system = make.system(backend, proxy_protocol_hosts=hosts)
    with connect(system, OTHER) as client:
        wanted = ends(client)
        assert client.login("anna", "pw-anna").ok
        client.logout()
    assert backend.logins[0].conn.announced == wanted
    system.wait_cached(1)
    with connect(system) as client:  # a reused one keeps what it was made for
        assert client.login("anna", "pw-anna").ok
    assert len(backend.logins) == 1


@pytest.mark.parametrize("hosts", [None, "none", "mail.example", "127.0.0.10"])
def test_other_hosts_get_no_header(make, backend, hosts):
    system = make.system(backend, proxy_protocol_hosts=hosts)
    with connect(system) as client:
        assert client.login("anna", "pw-anna").ok
    assert b"QUIT" not in backend.everything()


def test_the_header_comes_before_tls(make):
    folder = temp_folder()
    authority = certs.Authority(folder)
    cert = authority.issue("127.0.0.1")
    backend = make.backend(proxied=True, tls=tlsrelay.server_context(cert))
    system = make.system(backend, proxy_protocol_hosts="all", server_tls="implicit", tls_ca_file=authority.path)
    with connect(system, OTHER) as client:
        wanted = ends(client)
        assert client.login("anna", "pw-anna").ok
    assert backend.logins[0].conn.announced == wanted
    shutil.rmtree(folder)


def test_what_is_for_nobody_says_so(make):
    backend = make.backend(proxied=True)
    system = make.system(backend, proxy_protocol_hosts="all", spare_backend_connections=1, cache_expiration_time=0)
    with connect(system) as client:
        assert client.login("anna", "pw-anna").ok
    wait_until(lambda: len(backend.accepted) > 1 and system.gauge("spares") == 1, "there is no spare")
    spare = backend.accepted[-1]
    assert spare.announced is None
    with connect(system) as client:
        assert client.login("berta", "pw-berta").ok
    assert backend.logins[-1].conn is spare


def test_pop3_and_a_master_users_login_are_announced_too(make):
    backend = make.backend(proxied=True)
    system = make.system(backend, proxy_protocol_hosts="all", tell_client_address="yes",
                         auth_sasl_plain_username="master", auth_sasl_plain_password="pw-master",
                         auth_shared_secret="shared")
    with connect(system, OTHER) as client:
        wanted = ends(client)
        client.login("anna", "shared")
        told = ids(backend.accepted[-1])[0]
    assert backend.accepted[-1].announced == wanted
    assert told == {"x-originating-ip": OTHER, "x-originating-port": str(wanted[1]), "x-connected-ip": "127.0.0.1",
                    "x-connected-port": str(system.port), "x-proxy-ttl": "4"}


# --- ID ------------------------------------------------------------------------------------------------
def test_a_mail_host_is_told_with_id(make, backend):
    system = make.system(backend, tell_client_address="yes")
    with connect(system, OTHER) as client:
        client.ok('ID ("name" "x" "x-originating-ip" "6.6.6.6" "x-connected-ip" "6.6.6.6")')
        assert client.login("anna", "pw-anna").ok
        port = client.sock.getsockname()[1]
        assert ids(backend.logins[0].conn) == [
            {"x-originating-ip": OTHER, "x-originating-port": str(port), "x-connected-ip": "127.0.0.1",
             "x-connected-port": str(system.port), "x-proxy-ttl": "4"}, {"name": "x"}]
        client.logout()
    system.wait_cached(1)
    with connect(system) as client:
        assert client.login("anna", "pw-anna").ok
    assert len(backend.logins) == 1 and len(ids(backend.logins[0].conn)) == 2


@pytest.mark.parametrize("value, knobs", [("no", {}), (None, {}),
                                          ("yes", {"before": "IMAP4rev1 SASL-IR AUTH=PLAIN"})])
def test_a_mail_host_is_not_told_unasked(make, value, knobs):
    backend = make.backend(**knobs)
    system = make.system(backend, tell_client_address=value)
    with connect(system, OTHER) as client:
        client.ok('ID ("x-originating-ip" "6.6.6.6" "x-forward-user" "root")')
        assert client.login("anna", "pw-anna").ok
    assert b"x-" not in backend.everything() and b"6.6.6.6" not in backend.everything()


@pytest.mark.parametrize("answer", [b"TAG NO never\r\n", b"TAG BAD what\r\n", b"* ID NIL\r\nTAG OK\r\n"])
def test_what_the_mail_host_makes_of_it_is_its_business(make, answer):
    backend = make.backend(answers={"ID": answer})
    system = make.system(backend, tell_client_address="yes")
    with connect(system) as client:
        assert client.login("anna", "pw-anna").ok


def test_a_literal_and_a_preauth_command_come_behind_it(make):
    backend = make.backend(before="IMAP4rev1 ID")
    system = make.system(backend, tell_client_address="yes", preauth_command="NOOP")
    backend.passwords["anna"] = b"p\xe4ss"
    with connect(system) as client:
        assert client.login("anna", b"p\xe4ss", "literals").ok
    assert [command.verb for command in backend.logins[0].conn.commands[:3]] == ["ID", "NOOP", "LOGIN"]


# --- whom a client serves ------------------------------------------------------------------------------
CALL = '("name" "webmail" "x-originating-ip" "2001:db8::9" "x-originating-port" "4712")'


def test_a_trusted_client_says_whom_it_serves(make, backend):
    system = make.system(backend, trusted_addresses="127.0.0.0/31", tell_client_address="yes", log_format="keepwarm",
                         deny_addresses="2001:db8::/32", enable_admin_commands="yes", admin_addresses="127.0.0.1")
    with connect(system) as client:
        client.ok(f"ID {CALL}")
        assert client.login("anna", "wrong").tagged.startswith(b"NO")
        client.ok("XPROXY_VERSION")  # decided by the client's own address, as is who may connect
        assert client.login("anna", "pw-anna").ok
        told, own = ids(backend.logins[-1].conn)
        assert (told["x-originating-ip"], told["x-originating-port"]) == ("2001:db8::9", "4712")
        assert told["x-connected-ip"] == "127.0.0.1" and own == {"name": "webmail"}
        client.logout()
    system.wait_log("reason=logout client=127.0.0.1 ")
    assert re.search(r"login failed .*origin=2001:db8::9 ", system.log_text())
    assert re.search(r"reason=logout client=127.0.0.1 port=\d+ origin=2001:db8::9 ", system.log_text())
    with connect(system, OTHER) as client:
        client.ok(f"ID {CALL}")
        assert client.login("berta", "pw-berta").ok
        assert ids(backend.logins[-1].conn)[0]["x-originating-ip"] == OTHER


def test_who_is_served_makes_no_difference_for_reuse(make, backend):
    system = make.system(backend, trusted_addresses="all", tell_client_address="yes")
    for number in range(3):
        with connect(system) as client:
            client.ok(f'ID ("name" "webmail" "x-originating-ip" "192.0.2.{number}")')
            reply = client.login("anna", "pw-anna")
            assert reply.ok and reply.reused == (number > 0)
            client.logout()
        system.wait_given()


def test_a_process_that_is_not_trusted_cannot_forge_it(make, backend):
    system = make.system(backend, trusted_addresses="10.0.0.1", proxy_protocol_hosts="all")
    backend.proxied = True
    for seen, (address, wanted) in enumerate((("203.0.113.1", "203.0.113.1"), ("10.0.0.1", "192.0.2.9"))):
        with Peer(system).hello(client=address, client_port=4, local="203.0.113.2", local_port=5) as peer:
            reply = peer.request("LEASE", proof_kind=1, user="anna", secret="pw-anna", origin="192.0.2.9", origin_port=6)
            assert reply.name == "LEASED"
            said = partial(lambda seen: [one for one in backend.accepted if one.announced][seen:], seen)
            conn = wait_until(said, "no header")[0]  # the look at the host at the start announces nobody
            assert conn.announced == (wanted, 6 if wanted != address else 4, "203.0.113.2", 5)


# --- POP3 ----------------------------------------------------------------------------------------------
@pytest.fixture
def popped(make):
    hosts = []

    def start(host=None, **config):
        hosts.append(host or pop3.Host())
        port = process.free_port()
        system = make.system(make.backend(), pop3_listen_port=port, pop3_server_port=hosts[-1].port, **config)
        system.pop = lambda: pop3.Client(port)
        system.host = hosts[-1]
        return system
    yield start
    for host in hosts:
        host.stop()


CAPABLE = {"greeting by CAPA": {"capa": ["XCLIENT", "USER"]},
           "greeting with the code": {"greeting": b"+OK [XCLIENT] Host ready.\r\n"}}


@pytest.mark.parametrize("knobs", CAPABLE.values(), ids=CAPABLE)
@pytest.mark.parametrize("answer", [b"+OK Updated\r\n", b"-ERR You are not from trusted IP\r\n"])
def test_a_mail_host_is_told_with_xclient(popped, knobs, answer):
    system = popped(pop3.Host(**knobs, answers={"XCLIENT": answer}), tell_client_address="yes")
    with system.pop() as client:
        port = client.sock.getsockname()[1]
        client.session()
    said = [line for line in system.host.connections[0].lines if line.startswith(b"XCLIENT")]
    assert said == [f"XCLIENT ADDR=127.0.0.1 PORT={port} TTL=4".encode()]


def test_a_mail_host_without_xclient_is_not_told(popped):
    for tell in "no", "yes":
        system = popped(tell_client_address=tell)
        with system.pop() as client:
            client.session()
        assert b"XCLIENT" not in system.host.everything()
        assert (b"CAPA" in system.host.everything()) == (tell == "yes")


def test_xclient_is_heard_from_trusted_clients(popped):
    system = popped(pop3.Host(greeting=b"+OK [XCLIENT] Host ready.\r\n", answers={"XCLIENT": b"+OK\r\n"}),
                    trusted_addresses="127.0.0.1", tell_client_address="yes", log_format="keepwarm")
    with system.pop() as client:
        assert client.greeting == b"+OK [XCLIENT] Keepwarm ready.\r\n"
        client.ok("CAPA")
        assert b"XCLIENT\r\n" in client.rest()
        client.ok("XCLIENT ADDR=192.0.2.9 PORT=4712 SESSION=x TTL=4")
        client.session()
        client.ok("QUIT")
    assert b"XCLIENT ADDR=192.0.2.9 PORT=4712 TTL=3" in system.host.connections[0].lines
    system.wait_log("origin=192.0.2.9 ")


def test_xclient_is_refused_from_others(popped):
    system = popped(pop3.Host(greeting=b"+OK [XCLIENT] Host ready.\r\n", answers={"XCLIENT": b"+OK\r\n"}),
                    trusted_addresses="10.0.0.0/8", tell_client_address="yes")
    with system.pop() as client:
        assert client.greeting == b"+OK Keepwarm ready.\r\n"
        client.ok("CAPA")
        assert b"XCLIENT" not in client.rest()
        assert client.say("XCLIENT ADDR=192.0.2.9 PORT=4712").startswith(b"-ERR")
        client.session()
    assert b"192.0.2.9" not in system.host.everything()


# --- loops ---------------------------------------------------------------------------------------------
@pytest.fixture
def loop(make):
    """Two systems, each the other's mail host; should nobody notice, there is room for a few steps only."""
    def start(**config):
        config.update(max_clients=12, proxy_hostname="loop.example.org second.name")
        ports = [process.free_port() for _ in range(4)]
        first = make.system(SimpleNamespace(port=ports[0]), pop3_listen_port=ports[1], pop3_server_port=ports[2], **config)
        second = System(first.port, listen_port=ports[0], pop3_listen_port=ports[2], pop3_server_port=ports[1], **config)
        second.port = ports[0]
        make.started.append(second.start())
        first.pop = lambda: pop3.Client(ports[1])
        return first, second
    return start


def refused_at_once(systems, act):
    began = time.monotonic()
    answer = act()
    assert time.monotonic() - began < process.DEADLINE
    wait_until(lambda: sum("loop: the login came through 3 proxies, loop.example.org would pass it on to " in system.log_text() for system in systems) == 1,
               lambda: systems[0].log_text() + systems[1].log_text())
    wait_until(lambda: all(not system.gauge("clients") for system in systems), "sessions are left")
    assert sum(system.log_text().count("creating a new one") for system in systems) == 4
    return answer


TELL = pytest.mark.parametrize("tell", ["no", "yes"])


SAID = {"nothing": "NOOP", "something": 'ID ("name" "x")',
        "much": "ID (" + " ".join(f'"name{n}" "{"x" * 60}"' for n in range(30)) + ")"}


@TELL
@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_a_login_that_goes_round_is_cut(loop, tell, said):
    """Also with an ID as large as it may be."""
    systems = loop(tell_client_address=tell)

    def act():
        with systems[0].client() as client:
            client.ok(said)
            return client.login("anna", "pw-anna")
    assert refused_at_once(systems, act).tagged.startswith(b"NO [UNAVAILABLE]")
    assert re.search(rf"loop: .* would pass it on to 127.0.0.1:\d+", systems[0].log_text() + systems[1].log_text())


@TELL
def test_a_login_of_pop3_that_goes_round_is_cut(loop, tell):
    systems = loop(tell_client_address=tell)

    def act():
        with systems[0].pop() as client:
            return client.login()
    assert refused_at_once(systems, act).startswith(b"-ERR [SYS/TEMP]")


def test_three_proxies_in_a_row_are_not_a_loop(make, backend):
    third = make.system(backend)
    second = make.system(third)
    first = make.system(second)
    with first.session() as client:
        client.ok("SELECT INBOX")
        assert b"<anna>" in client.ok("FETCH 1 BODY[]").text


@pytest.mark.parametrize("ttl, good", [("5", True), ("4", True), ("3", True), ("2", False), ("1", False), ("0", False),
                                       ("x", True), ("-1", True), ("4294967297", True)])
def test_the_count_is_dovecots(make, backend, ttl, good):
    system = make.system(backend)
    with system.client() as client:
        client.ok(f'ID ("x-proxy-ttl" "{ttl}")')
        client.ok("ID NIL")  # does not make it unheard
        reply = client.login("anna", "pw-anna")
        assert reply.ok if good else reply.tagged.startswith(b"NO [UNAVAILABLE]")
    if not good:
        assert not backend.logins
