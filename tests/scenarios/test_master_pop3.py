"""A master user logs in for clients of POP3: the errand speaks it, and each session has a connection of its own."""
import base64
import os
import shutil
import ssl

import pytest

from keepwarm import certs, process, tlsrelay
from keepwarm.messages import Peer
from keepwarm.pop3 import CLOSE, Client, Host
from keepwarm.process import memory, wait_until
from keepwarm.system import SANITIZED, temp_folder

MASTER, PASSWORD, SHARED = "generalschluessel", "Hauptwort-5e0d77aa", "Gemeinsam-c2b94f10"
KEYS = {"auth_sasl_plain_username": MASTER, "auth_sasl_plain_password": PASSWORD, "auth_shared_secret": SHARED}
POP3 = 2


class Office:
    """A mail host where the master user may log in for anybody but nobody."""

    def __init__(self, **knobs):
        self.host, self.seen = Host(**knobs), []
        self.host.answers["AUTH"] = self.judge

    def judge(self, conn):
        assert conn.lines[-1] == b"AUTH PLAIN"
        conn.answer(b"+ \r\n")
        authzid, user, password = (part.decode() for part in base64.b64decode(conn.read_line()).split(b"\0"))
        self.seen.append((authzid, user, password))
        if (user, password) != (MASTER, PASSWORD) or authzid == "nobody":
            return conn.answer(b"-ERR [AUTH] Private words of the host\r\n")
        conn.user = authzid
        return conn.answer(b"+OK Welcome, says the host\r\n")


@pytest.fixture
def start(make):
    offices = []

    def begin(office=None, **config):
        offices.append(office or Office())
        port = process.free_port()
        system = make.system(make.backend(), **{"pop3_listen_port": port, "pop3_server_port": offices[-1].host.port,
                                                **KEYS, **config})
        system.office, system.pop = offices[-1], lambda: Client(port)
        return system
    yield begin
    for office in offices:
        office.host.stop()


@pytest.fixture
def scene(start):
    return start()


def session(system, user="anna"):
    client = system.pop()
    assert client.login(user, SHARED).startswith(b"+OK")
    client.ok("RETR 1")
    assert f"<{user}>".encode() in client.rest(), "this is somebody else's mail"
    return client


def test_each_session_has_a_login_of_its_own(scene):
    for user in "anna", "anna", "berta":
        with session(scene, user) as client:
            client.ok("DELE 1")
            client.ok("QUIT")
            client.expect_close()
        scene.office.host.maildrops.clear()
    assert scene.office.seen == [(user, MASTER, PASSWORD) for user in ("anna", "anna", "berta")]
    wait_until(lambda: all(conn.ended_by == "quit" for conn in scene.office.host.connections), "an end without QUIT")
    scene.wait_counter("logins_fresh", 3)
    stats = scene.stats()
    assert stats["counters"]["logins_reused"] == stats["counters"]["given"] == stats["gauges"]["cached"] == 0
    assert "reused=yes" not in scene.log_text()


def test_a_client_may_use_auth(scene):
    with scene.pop() as client:
        client.ok(b"AUTH PLAIN " + base64.b64encode(f"\0anna\0{SHARED}".encode()))
        client.ok("QUIT")
    with scene.pop() as client:
        line = client.say(b"AUTH PLAIN " + base64.b64encode(f"berta\0anna\0{SHARED}".encode()))
        assert line.startswith(b"-ERR [AUTH]"), "an authorization identity cannot be chosen"
    assert len(scene.office.seen) == 1


@pytest.mark.parametrize("secret", [SHARED[:-1], SHARED + "x", "pw-anna", PASSWORD])
def test_whoever_does_not_know_the_whole_secret_gets_nothing(scene, secret):
    with scene.pop() as client:
        assert client.login("anna", secret) == b"-ERR [AUTH] Login failed.\r\n"
    assert not scene.office.host.accepted, "the mail host was asked"


def test_a_refusal_and_a_silence_of_the_mail_host(scene):
    with scene.pop() as client:
        assert client.login("nobody", SHARED) == b"-ERR [AUTH] Login failed.\r\n"
    scene.office.host.answers["AUTH"] = CLOSE
    with scene.pop() as client:
        assert client.login("anna", SHARED) == b"-ERR [SYS/TEMP] Login failed.\r\n"
    assert "Private words" not in scene.log_text()


@pytest.mark.parametrize("said, told", [
    (b"[IN-USE] The maildrop", b"[IN-USE] "), (b"[LOGIN-DELAY] Too soon", b"[LOGIN-DELAY] "), (b"[SYS/PERM] Broken", b"[SYS/PERM] "),
    (b"[SYS/TEMP/X] Later", b"[SYS/TEMP] "), (b"[X-PRIVATE] Private words", b"[AUTH] "), (b"Private words", b"[AUTH] ")])
def test_why_there_is_no_login_is_passed_on_as_a_code(scene, said, told):
    scene.office.host.answers["AUTH"] = b"-ERR " + said + b" of anna\r\n"
    with scene.pop() as client:
        assert client.login("anna", SHARED) == b"-ERR " + told + b"Login failed.\r\n"
    assert "of anna" not in scene.log_text()


def test_without_auth_plain_there_is_no_login(start):
    """The master's password must not go into USER and PASS as the client's."""
    system = start(Office(capa=["USER", "TOP"]))
    with system.pop() as client:
        assert client.login("anna", SHARED) == b"-ERR [SYS/PERM] Login failed.\r\n"
    for word in SHARED, PASSWORD, "PASS", "USER":
        assert word.encode() not in system.office.host.everything()


def test_the_master_user_has_the_clients_name_in_front_of_its_own(start):
    """By USER and PASS, which every mail host has."""
    office = Office(passwords={f"anna*{MASTER}": PASSWORD}, capa=["USER"])
    system = start(office, master_separator="*")
    with system.pop() as client:
        assert client.login("anna", SHARED).startswith(b"+OK")
    login, = office.host.logins
    assert (login.user, login.password, login.how) == (f"anna*{MASTER}", PASSWORD.encode(), "USER")
    for name in f"anna*{MASTER}", "anna*", "*":
        with system.pop() as client:
            assert client.login(name, SHARED) == b"-ERR [AUTH] Login failed.\r\n"
    assert len(office.host.logins) == 1


def test_a_client_that_is_gone_leaves_no_connection(scene):
    """The one that was made for it serves nobody else, and nothing says QUIT on it."""
    host, peer = scene.office.host, Peer(scene).hello(service=POP3)

    def judge_late(conn):
        peer.sock.close()
        scene.wait_counter("sessions_lost", 1)
        return scene.office.judge(conn)
    host.answers["AUTH"] = judge_late
    peer.push("LEASE", serial=9, proof_kind=1, user="anna", secret=SHARED)
    wait_until(lambda: host.connections and host.connections[0].closed.is_set(), "the connection is kept")
    assert host.connections[0].user == "anna" and host.connections[0].ended_by == "eof"
    assert scene.gauge("cached") == 0


def test_the_connection_that_was_made_cannot_be_given_back(scene):
    for what in "RETURNING", "GIVE", "UNTOUCHED":
        with Peer(scene).hello(service=POP3) as peer:
            leased = peer.lease(user="anna", password=SHARED)
            assert leased.made
            peer.push(what, fds=[] if what == "RETURNING" else [leased.sock.fileno()])
            peer.expect_cut_off()
    assert scene.gauge("cached") == 0 and scene.counter("given") == 0


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_tls_toward_the_mail_host(start, mode):
    folder = temp_folder()
    authority = certs.Authority(folder)
    context = tlsrelay.server_context(authority.issue("127.0.0.1", file="host"))
    office = Office(**{"tls" if mode == "implicit" else "stls": context})
    system = start(office, server_tls=mode, tls_ca_file=authority.path)
    with session(system) as client:
        client.ok("QUIT")
        client.expect_close()
    assert isinstance(office.host.connections[0].sock, ssl.SSLSocket)
    shutil.rmtree(folder)


@pytest.mark.skipif(SANITIZED, reason="their memory is full of copies")
@pytest.mark.skipif(os.getuid() != 0, reason="only root may read the memory of a process that is not dumpable")
def test_the_masters_password_is_in_no_process_that_serves_clients(scene):
    client = session(scene)
    for pid in scene.pids("proxyd"):
        try:
            assert PASSWORD.encode() not in memory(pid), f"process {pid} has it"
        except FileNotFoundError:
            continue  # it has just ended
    assert PASSWORD.encode() in memory(scene.pids("cachebrokerd")[0]), "the search proves nothing"
    client.close()
