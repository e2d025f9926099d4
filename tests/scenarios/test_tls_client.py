"""Clients within TLS: a session there is a session like any other, and TLS is no way around what holds without it."""
import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time

import pytest

from keepwarm import certs, process, tls
from keepwarm.imap import Client
from keepwarm.process import wait_until
from keepwarm.system import BUILD, SANITIZED, temp_folder

ACTIVATE = "systemd-socket-activate"
XINETD = "/usr/sbin/xinetd"


class Pki:
    def __init__(self):
        self.folder = temp_folder()
        self.authority = certs.Authority(self.folder)
        self.ours = self.authority.issue("imap.example.test", "localhost", "127.0.0.1", file="ours")


@pytest.fixture(scope="module")
def pki():
    pki = Pki()
    yield pki
    shutil.rmtree(pki.folder, ignore_errors=True)


@pytest.fixture
def facing(make, pki):
    def start(backend=None, **config):
        port = process.free_port()
        settings = {"imaps_listen_port": port, "tls_server_cert_file": pki.ours.path,
                    "tls_server_key_file": pki.ours.key_path}
        system = make.system(backend or make.backend(), **{**settings, **config})
        system.imaps = port
        system.ways = {"imaps": lambda: tls.imaps(port, pki.authority),
                       "starttls": lambda: tls.starttls(system.port, pki.authority)}
        return system
    return start


WAYS = pytest.mark.parametrize("way", ["imaps", "starttls"])


def visit(client, reused):
    reply = client.login("anna", "pw-anna")
    assert reply.ok and reply.reused == reused, reply
    client.ok("SELECT INBOX")
    assert b"<anna>" in client.ok("FETCH 1 BODY[]").text
    client.logout()


# --- sessions ------------------------------------------------------------------------------------------
def test_connections_are_reused_between_clear_text_and_tls(facing, make):
    backend = make.backend()
    system = facing(backend)
    reused = False
    for start in (system.ways["imaps"], system.client, system.ways["starttls"], system.ways["imaps"]):
        with start() as client:
            visit(client, reused)
        system.wait_given()
        reused = True
    assert len(backend.logins) == 1
    ends = re.findall(r"session ended .*reason=logout.*", system.log_text())
    assert [" tls=TLSv1.3 " in line for line in ends] == [True, False, True, True]


@WAYS
def test_much_data_comes_through_unchanged_both_ways(facing, make, way):
    backend = make.backend()
    message = os.urandom(3 << 20).replace(b"\0", b"\1")
    system = facing(backend)
    with system.ways[way]() as client:
        assert client.login("anna", "pw-anna").ok
        client.send(b"u APPEND INBOX {%d+}\r\n" % len(message) + message + b"\r\n")
        assert client.reply("u", 60).ok
        client.ok("SELECT INBOX")
        text = client.ok("FETCH 2 BODY[]").text
        assert hashlib.sha256(message).digest() == hashlib.sha256(text[-len(message) - 3:-3]).digest() or message in text
        client.logout()
    system.wait_given()
    line = re.findall(r"from_client=(\d+) from_backend=(\d+)", system.log_text())[-1]
    assert all(int(count) > len(message) for count in line)


@WAYS
def test_a_client_that_leaves_without_logout_gives_its_connection_back(facing, way):
    system = facing()
    with system.ways[way]() as client:
        assert client.login("anna", "pw-anna").ok
        client.ok("SELECT INBOX")
    system.wait_given()
    with system.ways[way]() as client:
        visit(client, True)


def test_a_client_that_resets_its_connection_does_too(facing):
    system = facing()
    client = system.ways["imaps"]()
    assert client.login("anna", "pw-anna").ok
    client.reset()
    system.wait_given()


def test_commands_in_front_of_close_notify_are_done(facing, make):
    backend = make.backend()
    system = facing(backend)
    client = system.ways["imaps"]()
    assert client.login("anna", "pw-anna").ok
    client.send(b"a CREATE one\r\nb CREATE two\r\n")
    with contextlib.suppress(ssl.SSLError):  # the answers come behind our close_notify
        client.sock.unwrap()
    client.sock.close()
    system.wait_given()
    assert {b"one", b"two"} <= set(backend.mailboxes["anna"])


def test_idle_and_the_news_in_it(facing, make):
    backend = make.backend()
    system = facing(backend)
    with system.ways["starttls"]() as client:
        assert client.login("anna", "pw-anna").ok
        client.send(b"i IDLE\r\n")
        client.expect_exact("+ idling\r\n")
        backend.logins[0].conn.push(b"* 7 EXISTS\r\n")
        client.expect_exact("* 7 EXISTS\r\n")
        client.send(b"DONE\r\n")
        assert client.reply("i").ok


def test_a_mail_host_that_leaves_is_told_within_tls(facing, make):
    backend = make.backend()
    system = facing(backend)
    with system.ways["imaps"]() as client:
        assert client.login("anna", "pw-anna").ok
        backend.logins[0].conn.drop()
        client.expect_exact("* BYE [UNAVAILABLE] Mail host closed the connection\r\n")
        client.expect_close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_gets_one_ticket_and_resumes_with_it(facing, pki, version):
    """More of them cost each handshake a tenth of its CPU, and no mail client asks for them."""
    system, context, tickets, earlier = facing(), tls.context(pki.authority, version), [], None
    context._msg_callback = lambda _conn, direction, _version, _kind, message, _data: tickets.append(  # no other way
        direction) if getattr(message, "name", "") == "NEWSESSION_TICKET" else None
    for resumed in (False, True):
        tickets.clear()
        with socket.create_connection(("127.0.0.1", system.imaps), timeout=process.DEADLINE) as sock:
            within = context.wrap_socket(sock, server_hostname="127.0.0.1", session=earlier)
            with Client(None, sock=within) as client:  # a greeting comes behind the tickets
                assert within.session_reused == resumed
                assert tickets == ["read"] or (resumed and version == ssl.TLSVersion.TLSv1_2)
                earlier = within.session
                assert client.login("anna", "pw-anna").ok
                client.logout()


def test_the_sessions_process_holds_no_tcp_of_its_client(facing):
    system = facing()
    with system.ways["imaps"]() as client:
        assert client.login("anna", "pw-anna").ok
        inode = process.tcp_inode(system.imaps, client.sock.getsockname()[1])
        assert inode
        assert [pid for pid in system.pids("proxyd") if inode in process.socket_inodes(pid)] == []


def openssl(pki, *how):
    said = b"a LOGIN anna pw-anna\r\nb SELECT INBOX\r\nc FETCH 1 BODY[]\r\nd LOGOUT\r\n"
    return ["openssl", "s_client", "-quiet", "-ign_eof", "-CAfile", pki.authority.path, "-verify_return_error", *how], said


def curl(pki, url):
    return ["curl", "-sS", "--ssl-reqd", "--max-time", "20", "--cacert", pki.authority.path, "--user", "anna:pw-anna",
            url + "/INBOX;MAILINDEX=1"], b""


@pytest.mark.parametrize("program", ["openssl", "curl"])
def test_programs_of_others_get_a_connection_that_was_used(facing, make, pki, program):
    backend = make.backend()
    system = facing(backend)
    imap, imaps = f"127.0.0.1:{system.port}", f"127.0.0.1:{system.imaps}"
    runs = {"openssl": [openssl(pki, "-connect", imaps), openssl(pki, "-connect", imap, "-starttls", "imap")],
            "curl": [curl(pki, f"imaps://{imaps}"), curl(pki, f"imap://{imap}")]}[program]
    for argv, said in runs * 2:
        done = subprocess.run(argv, input=said, capture_output=True, timeout=process.DEADLINE, check=False)
        assert b"<anna>" in done.stdout, done
        system.wait_given()
    assert len(backend.logins) == 1
    assert system.log_text().count("reused=yes") == 3


# --- what was said before TLS ----------------------------------------------------------------------------
def test_what_the_client_asked_and_said_before_is_forgotten(facing, make, pki):
    """Who has asked for CAPABILITY gets the list in front of the OK; what ID said goes to the mail host."""
    backend = make.backend()
    system = facing(backend)
    with system.client() as outer:
        outer.ok("CAPABILITY")
        outer.ok('ID ("name" "injected")')
        outer.ok("STARTTLS")
        client = Client(None, sock=tls.wrap(outer.sock, pki.authority), greet=False)
        reply = client.login("anna", "pw-anna")
        assert reply.ok and reply.capabilities and not reply.untagged, reply
    assert b"injected" not in backend.everything()


def test_failed_logins_count_on(facing, pki):
    system = facing(login_attempts=2)
    with system.client() as outer:
        assert not outer.login("anna", "wrong").ok
        outer.ok("STARTTLS")
        client = Client(None, sock=tls.wrap(outer.sock, pki.authority), greet=False)
        client.send(b"a LOGIN anna wrong\r\n")
        client.expect(rb"a NO .*\r\n\* BYE Too many failed logins\r\n")
        client.expect_close()


def test_a_command_injected_behind_the_answer_ends_in_the_handshake(facing, make, pki):
    backend = make.backend()
    system = facing(backend)
    with system.client() as outer:
        outer.ok("STARTTLS")
        outer.send(b"b LOGIN anna pw-anna\r\n")
        with pytest.raises((ssl.SSLError, ConnectionError, TimeoutError)):
            tls.wrap(outer.sock, pki.authority)
    system.wait_log("reason=tls-failed")
    assert not backend.logins
    system.wait_counter("tls_handshakes_failed", 1)


def test_a_legitimate_client_is_served_in_a_flood_of_silent_ones(facing):
    system = facing(tls_handshakes=50, tls_handshake_timeout=120, login_timeout=180)
    with system.ways["imaps"]() as client:  # tlsrelayd is there
        visit(client, False)
    system.wait_given()
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(socket.create_connection((tls.ADDRESS, system.imaps)))
        wait_until(lambda: system.counter("tls_handshakes_failed") >= 450, "they do not push each other out")
        with system.ways["imaps"]() as client:
            visit(client, True)
    system.wait_log("reason=tls-unavailable")


# --- handshakes that fail ----------------------------------------------------------------------------------
@pytest.mark.parametrize("said", [b"", b"a LOGIN anna pw-anna\r\n", b"\x16\x03\x01\x40\0" + b"x" * 100, b"\x80" * 3000])
def test_what_is_no_handshake_gets_no_word(facing, said):
    system = facing(tls_handshake_timeout=1)
    with socket.create_connection(("127.0.0.1", system.imaps), timeout=process.DEADLINE) as sock:
        sock.sendall(said)
        heard = b""
        with contextlib.suppress(ConnectionError):
            while data := sock.recv(4096):
                heard += data
        assert b"IMAP" not in heard and b"BYE" not in heard and b"BAD" not in heard, heard
    system.wait_log("reason=tls-failed")
    assert 'tls_error="' in system.log_text()


def test_who_is_slow_holds_nobody_up(facing):
    system = facing(tls_handshake_timeout=20)
    slow = [socket.create_connection(("127.0.0.1", system.imaps)) for _ in range(20)]
    with system.ways["imaps"]() as client:
        visit(client, False)
    for sock in slow:
        sock.close()
    wait_until(lambda: system.log_text().count("reason=tls-failed") == 20, system.log_text)


def test_a_client_that_waits_with_its_handshake_hears_of_the_end(facing):
    """Nothing in clear text, and it holds nothing up."""
    system = facing()
    with socket.create_connection(("127.0.0.1", system.imaps), timeout=process.DEADLINE) as sock:
        system.wait_counter("clients", 2)
        system.stop_and_keep()
        with contextlib.suppress(ConnectionError):
            assert sock.recv(100) == b""


@WAYS
def test_the_end_of_the_service_is_said_within_tls(facing, way):
    system = facing()
    with system.ways[way]() as client:
        assert client.login("anna", "pw-anna").ok
        system.supervisor.send_signal(signal.SIGTERM)
        client.expect_exact("* BYE [UNAVAILABLE] Service is stopping\r\n")
        client.expect_close()


# --- who may come -------------------------------------------------------------------------------------------
def test_beyond_max_clients_a_tls_port_is_closed_without_a_word(facing):
    system = facing(max_clients=1, spare_processes="2 2")

    def looked_at():
        stats = system.stats()
        return stats["counters"]["clients"] > 0 and stats["gauges"]["clients"] == 0

    wait_until(looked_at, "the start's look at it goes on")
    with system.ways["imaps"]() as client:
        client.ok("NOOP")
        with socket.create_connection(("127.0.0.1", system.imaps), timeout=process.DEADLINE) as sock:
            assert sock.recv(100) == b""
        system.wait_log("reason=too-many-clients")
        with Client(system.port) as other:
            assert other.greeting == b"* BYE [UNAVAILABLE] Too many connections\r\n"
    wait_until(lambda: "reason=client-closed" in system.log_text(), system.log_text)


def test_an_address_that_may_not_connect_never_gets_to_the_handshake(facing):
    """The start looks for a greeting, so the address is forbidden by a reload."""
    system = facing()
    before = system.counter("tls_handshakes")
    system.write_config(deny_addresses="127.0.0.0/8")
    system.supervisor.send_signal(signal.SIGHUP)

    def refused():
        with socket.create_connection(("127.0.0.1", system.port), timeout=process.DEADLINE) as sock:
            with contextlib.suppress(ConnectionError):
                return sock.recv(100) == b""
            return True
    wait_until(refused, "everybody is still let in")
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", system.imaps), timeout=process.DEADLINE) as sock:
            with contextlib.suppress(ConnectionError):
                assert sock.recv(100) == b""
    stats = system.stats()["counters"]
    assert stats["tls_handshakes"] == before and stats["tls_handshakes_failed"] == 0, stats


def test_require_tls_knows_who_is_exempt(facing):
    system = facing(require_tls="yes", plaintext_addresses="127.0.0.1")
    with system.client() as client:
        assert b" STARTTLS AUTH=PLAIN " in client.greeting
        visit(client, False)
    strict = facing(require_tls="yes", plaintext_addresses="127.0.0.2 10.0.0.0/8")
    with strict.client() as client:
        assert b" STARTTLS LOGINDISABLED XIMAPPROXY]" in client.greeting and b"AUTH=" not in client.greeting
        assert client.login("anna", "pw-anna").tagged.startswith(b"NO [PRIVACYREQUIRED]")
    with strict.ways["starttls"]() as client:
        visit(client, False)


def test_xproxy_commands_need_no_tls(facing):
    system = facing(require_tls="yes", plaintext_addresses="none", enable_admin_commands="yes")
    with system.client() as client:
        client.ok("XPROXY_VERSION")
    with system.ways["imaps"]() as client:
        client.ok("XPROXY_VERSION")


# --- when something dies ------------------------------------------------------------------------------------
def test_a_session_within_tls_survives_the_broker(facing, make):
    backend = make.backend()
    system = facing(backend)
    with system.ways["imaps"]() as client:
        assert client.login("anna", "pw-anna").ok
        os.kill(system.pids("cachebrokerd")[0], signal.SIGKILL)
        client.ok("NOOP")
        wait_until(lambda: system.log_text().count("cachebrokerd") and system.pids("cachebrokerd"), system.log_text)
        client.ok("SELECT INBOX")
        client.logout()
    def again():
        try:
            with system.ways["starttls"]() as client:
                return client.login("anna", "pw-anna").ok
        except (AssertionError, OSError):
            return False
    wait_until(again, system.log_text)


def master_of(system):
    return next(pid for pid in system.pids("tlsrelayd") if process.parent(pid) == system.supervisor.pid)


def test_tlsrelayd_leaves_for_the_next_one_and_no_handshake_is_lost(facing, make, pki):
    """SIGUSR1, as systemd's unit sends it for a restart: what is open and what has begun goes on."""
    backend = make.backend()
    system = facing(backend)
    with tls.imaps(system.imaps, pki.authority) as client:
        assert client.login("anna", "pw-anna").ok
        master = master_of(system)
        begun = socket.create_connection(("127.0.0.1", system.imaps), timeout=process.DEADLINE)
        wait_until(lambda: system.gauge("tls_connections") == 2, "the handshake has not got to tlsrelayd")
        carrying = set(system.pids("tlsrelayd")) - {master}
        os.kill(master, signal.SIGUSR1)
        with Client(None, sock=tls.wrap(begun, pki.authority)) as other:
            assert other.login("bert", "pw-bert").ok
            wait_until(lambda: not process.alive(master), "it does not leave")
            wait_until(lambda: set(system.pids("tlsrelayd")) - carrying, "there is no next one")
            with tls.imaps(system.imaps, pki.authority) as third:  # it waits for the next one, if it must
                assert third.login("carl", "pw-carl").ok
                third.logout()
            other.ok("NOOP")
            other.logout()
        client.ok("NOOP")
        client.logout()
    wait_until(lambda: not carrying & set(system.pids("tlsrelayd")), "a worker stays without a connection")
    assert system.counter("tls_handshakes_failed") == 0


@pytest.mark.parametrize("victim", ["cachebrokerd", "tlsrelayd"])
@WAYS
def test_a_handshake_under_way_is_lost_with_its_worker_only(facing, pki, way, victim):
    """kill -9 of the broker, or of tlsrelayd's master."""
    system = facing()
    if way == "imaps":
        begun = socket.create_connection(("127.0.0.1", system.imaps), timeout=process.DEADLINE)
    else:
        plain = system.client()
        plain.ok("STARTTLS")
        begun = plain.sock
    wait_until(lambda: system.gauge("tls_connections") == 1, "the handshake has not got to tlsrelayd")
    killed = master_of(system) if victim == "tlsrelayd" else system.pids(victim)[0]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not process.alive(killed), "it lives")
    with Client(None, sock=tls.wrap(begun, pki.authority), greet=way == "imaps") as other:
        assert other.login("bert", "pw-bert").ok
        other.ok("SELECT INBOX")
        assert b"<bert>" in other.ok("FETCH 1 BODY[]").text
        other.logout()


def test_a_silent_handshake_does_not_keep_tlsrelayd_from_leaving(facing, pki):
    system = facing()
    with socket.create_connection(("127.0.0.1", system.imaps), timeout=process.DEADLINE):
        wait_until(lambda: system.gauge("tls_connections") == 1, "the handshake has not got to tlsrelayd")
        master = master_of(system)
        os.kill(master, signal.SIGUSR1)
        wait_until(lambda: not process.alive(master), "it does not leave")
        with tls.imaps(system.imaps, pki.authority) as client:
            assert client.login("anna", "pw-anna").ok


def test_without_tlsrelayd_starttls_is_not_offered(facing):
    """But a client that was told so before hears that it is not there, or comes through to the next one."""
    system = facing()
    with system.client() as client:
        assert b" STARTTLS " in client.greeting
    with system.ways["imaps"]() as client:
        assert client.login("anna", "pw-anna").ok
        relays = [pid for pid, program in process.find(str(system.folder)).items() if program == "tlsrelayd"]
        assert relays
        for pid in relays:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert client.read_to_end() == b""
    wait_until(lambda: "session ended" in system.log_text(), system.log_text)

    def works():
        try:
            with system.ways["imaps"]() as client:
                return client.login("anna", "pw-anna").ok
        except (AssertionError, OSError):
            return False
    wait_until(works, system.log_text)


# --- figures -----------------------------------------------------------------------------------------------
def test_pimpstat_finds_the_bytes_of_a_running_session(facing):
    system = facing()
    with system.ways["imaps"]() as client:
        assert client.login("anna", "pw-anna").ok
        for _ in range(50):
            client.ok("NOOP")

        def row():
            rows = [row for row in system.stats()["sessions"] if row["state"] == "active" and row["user"] == "anna"]
            return rows and (rows[0]["bytes_from_client"] or 0) > 50 * len("t1 NOOP\r\n") and rows[0]
        found = wait_until(row, lambda: system.stats()["sessions"])
        assert found["client"].endswith(f":{client.sock.getsockname()[1]}")


def private(pid):
    """KiB that this process alone has."""
    text = process.read_proc(pid, "smaps_rollup").decode()
    return sum(int(kib) for kib in re.findall(r"^Private_\w+: +(\d+) kB", text, re.M))


def gives_back(client, pid):
    """Has the session less when it is quiet than when it was busy? It may have been looked at too late for that."""
    client.ok("NOOP")
    busy, until = private(pid), time.monotonic() + 4
    while private(pid) >= busy and time.monotonic() < until:
        time.sleep(0.05)
    return private(pid) < busy


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's memory is another one's")
def test_a_quiet_session_within_tls_is_as_small_as_without(facing, make):
    backend = make.backend()
    system = facing(backend)
    sizes = {}
    for way, start in (("clear", system.client), *system.ways.items()):
        with start() as client:
            assert client.login("anna", "pw-anna").ok
            client.ok("SELECT INBOX")
            inodes = process.tcp_inodes_to(backend.port)
            holder = [pid for pid in system.pids("proxyd") if inodes & process.socket_inodes(pid)]
            assert len(holder) == 1
            wait_until(lambda: gives_back(client, holder[0]), "nothing was given back")  # pylint: disable=W0640
            sizes[way] = private(holder[0])  # pylint: disable=W0640
        system.wait_given()
    print("KiB:", sizes)
    assert max(sizes["imaps"], sizes["starttls"]) <= sizes["clear"] + 12, sizes


# --- a process per connection --------------------------------------------------------------------------------
XINETD_CONF = """
defaults
{{
	instances = UNLIMITED
	cps = 0 0
	per_source = UNLIMITED
	log_type = FILE {folder}/xinetd.log
}}
service imaps-test
{{
	type = UNLISTED
	socket_type = stream
	protocol = tcp
	bind = 127.0.0.1
	port = {port}
	wait = no
	user = root
	server = {proxyd}
	server_args = -r {run} -l syslog -s imaps
}}
"""


def by_xinetd(system):
    conf = system.folder / "xinetd.conf"
    conf.write_text(XINETD_CONF.format(folder=system.folder, port=system.imaps, proxyd=BUILD / "proxyd",
                                       run=system.run_directory))
    return [XINETD, "-dontfork", "-f", conf, "-pidfile", system.folder / "xinetd.pid"]


def by_activate(*options):
    return lambda system: [ACTIVATE, "-l", f"127.0.0.1:{system.imaps}", *options[:-1], BUILD / "proxyd",
                           "-r", system.run_directory, "-l", "stderr", *options[-1]]


STARTERS = {"xinetd": by_xinetd, "accept as fd 0": by_activate("--accept", "--inetd", ["-s", "imaps"]),
            "accept as LISTEN_FDS": by_activate("--accept", ["-s", "imaps"]),
            "a named socket": by_activate("--fdname=imaps", []), "a socket of no name": by_activate(["-s", "imaps"])}


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which(XINETD), reason="needs root and xinetd")
@pytest.mark.parametrize("starter", STARTERS)
def test_a_login_is_reused_when_proxyd_is_started_by(facing, make, starter):
    backend = make.backend()
    system = facing(backend, run_listener="no", imaps_listen_port=None)
    with open(system.log, "ab") as log:
        child = process.start(STARTERS[starter](system), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: listens(system.imaps), lambda: "nobody listens:\n" + system.log_text())
        for reused in (False, True, True):
            with system.ways["imaps"]() as client:
                inode = process.tcp_inode(system.imaps, client.sock.getsockname()[1])
                assert not [pid for pid in system.pids("proxyd") if inode in process.socket_inodes(pid)]
                visit(client, reused)
            system.wait_given()
    finally:
        child.terminate()
        child.wait(process.DEADLINE)
    assert len(backend.logins) == 1


def listens(port):
    lines = process.read_proc("net", "tcp").decode().splitlines()[1:]
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines)
