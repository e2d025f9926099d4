"""log_format courier: the lines that programs look for which watch Courier, and none that is forged."""
import re
import shutil
import signal
import socket

import pytest

from keepwarm import certs, logger, process, tls
from keepwarm.imap import b64
from keepwarm.messages import Peer
from keepwarm.pop3 import CLOSE, Client, Host
from keepwarm.process import wait_until
from keepwarm.system import temp_folder

# Debian's filter (fail2ban 1.0.2, courier-auth.conf): _daemon, failregex with the prefix of "short" and <HOST> written out.
DAEMON = r"(?:courier)?(?:imapd?|pop3d?)(?:login)?(?:-ssl)?"
HOST = r"(?:::f{4,6}:)?(?P<ip>(?:\d{1,3}\.){3}\d{1,3})"
FILTER = re.compile(rf"^\s*(?:\S+\s+)?(?:{DAEMON}(?:\[\d+\])?:?\s+)?LOGIN FAILED, "
                    rf"(?:(?!ip=)(?:user=(?P<user>[^,]*)|\w+=[^,]*), )*ip=\[{HOST}\]")
OLDER = re.compile(rf"^{DAEMON}: LOGIN FAILED, .*, ip=\[{HOST}\]")
# That of failed logins in general: one of these, whatever stands in front of it.
GREEDY = re.compile(r"LOGIN FAILED,.* ip=\[(?:::ffff:)?(?P<ip>[^\]]*)\]")

LOG_NAMES = 6  # enum log_name
PEER = r"ip=\[::ffff:127\.0\.0\.1\], port=\[\d+\]"


@pytest.fixture
def system(make):
    made, host, port = make.backend(), Host(), process.free_port()
    system = make.system(made, log_format="courier", pop3_listen_port=port, pop3_server_port=host.port)
    system.imap, system.host, system.pop = made, host, lambda: Client(port)
    yield system
    host.stop()


def lines(system):
    return [line for line in system.log_text().splitlines() if re.match(r"(?:imapd|pop3d)(?:-ssl)?: ", line)]


def wait_line(system, pattern):
    wait_until(lambda: any(re.fullmatch(pattern, line) for line in lines(system)),
               lambda: f"{pattern} is not in\n{system.log_text()}")


def test_a_session_of_imap(system):
    system.session("anna").logout()
    wait_line(system, rf"imapd: Connection, {PEER}")
    wait_line(system, rf"imapd: LOGIN, user=anna, {PEER}, protocol=IMAP")
    wait_line(system, rf"imapd: LOGOUT, user=anna, {PEER}, headers=0, body=0, rcvd=\d+, sent=\d+, time=\d+")
    system.session("anna").close()  # on a reused connection
    wait_line(system, rf"imapd: DISCONNECTED, user=anna, {PEER}, headers=0, body=0, rcvd=0, sent=0, time=\d+")
    assert len([line for line in lines(system) if ": LOGIN, user=anna" in line]) == 2
    wait_until(lambda: len(re.findall(r"session ended .*user=anna", system.log_text())) == 2, "our own line comes in every format")


def test_a_session_of_pop3(system):
    with system.pop() as client:
        client.session("anna").ok("QUIT")
    wait_line(system, rf"pop3d: Connection, {PEER}")
    wait_line(system, rf"pop3d: LOGIN, user=anna, {PEER}, protocol=POP3")
    wait_line(system, rf"pop3d: LOGOUT, user=anna, {PEER}, top=0, retr=0, rcvd=6, sent=\d+, time=\d+")


def test_clients_that_do_not_log_in(system):
    with system.client() as client:
        client.send("a LOGOUT\r\n")
        told = len(client.greeting) + len(client.read_to_end())
    with system.pop() as client:
        client.ok("QUIT")
    wait_line(system, rf"imapd: LOGOUT, {PEER}, rcvd=10, sent=\d+")
    sent = int(re.search(r"imapd: LOGOUT, .*sent=(\d+)", system.log_text())[1])
    assert sent == told
    wait_line(system, rf"pop3d: LOGOUT, {PEER}")
    system.client().close()
    wait_line(system, rf"imapd: Disconnected, {PEER}, time=\d+")


def test_the_end_of_the_service(make):
    system = make.system(make.backend(), log_format="courier")
    idle = system.session("anna")
    system.session("bert")
    system.stop_and_keep()
    idle.close()
    wait_line(system, rf"imapd: NOTICE: Disconnected during shutdown by signal, {PEER}, time=\d+")
    system.start()


WAYS = ["login", "plain", "auth-login", "pass", "pop3-plain"]


def fail(system, way, name="anna", password="wrong"):
    if way in ("pass", "pop3-plain"):
        with system.pop() as client:
            if way == "pass":
                assert client.login(name, password).startswith(b"-ERR")
            else:
                assert client.say(b"AUTH PLAIN " + b64(f"\0{name}\0{password}")).startswith(b"-ERR")
        return
    with system.client() as client:
        if way == "login":
            assert not client.login(name, password).ok
        elif way == "plain":
            client.command(b"AUTHENTICATE PLAIN " + b64(f"\0{name}\0{password}"))
        else:
            client.send(b"a AUTHENTICATE LOGIN " + b64(name) + b"\r\n")
            client.line()
            client.send(b64(password) + b"\r\n")
            client.line()


@pytest.mark.parametrize("way", WAYS)
def test_the_filter_of_a_site_finds_a_failed_login(system, way):
    method = {"plain": "method=PLAIN, ", "auth-login": "method=LOGIN, ", "pop3-plain": "method=PLAIN, "}.get(way, "")
    daemon = "pop3d" if "p" == way[0] and way != "plain" else "imapd"
    fail(system, way)
    wait_line(system, rf"{daemon}: LOGIN FAILED, user=anna, {method}{PEER}")
    (found,) = [match for match in map(FILTER.search, lines(system)) if match]
    assert (found["user"], found["ip"]) == ("anna", "127.0.0.1")
    assert [line for line in lines(system) if OLDER.search(line)] == [found.string]
    wait_until(lambda: re.search(r"Login password rejected by|Login to 127\.0\.0\.1 failed", system.log_text()), system.log_text)
    assert "login failed" not in system.log_text() and "wrong" not in system.log_text()


def test_a_mail_host_that_is_out_of_order_shuts_nobody_out(system):
    system.imap.refusal = b"TAG NO [UNAVAILABLE] Later\r\n"
    system.host.greeting = CLOSE
    fail(system, "login")
    fail(system, "plain")
    fail(system, "pass")
    wait_line(system, rf"imapd: Temporary failure, user=anna, {PEER}: NO \?UNAVAILABLE\? Later")
    wait_line(system, rf"imapd: Temporary failure, user=anna, method=PLAIN, {PEER}: NO \?UNAVAILABLE\? Later")
    wait_line(system, rf"pop3d: Temporary failure, user=anna, {PEER}: .*")
    wait_line(system, r"imapd: Login to 127\.0\.0\.1 failed")
    wait_line(system, r"pop3d: Did not receive greeting from 127\.0\.0\.1")
    system.imap.stop()
    fail(system, "login", "bert")
    wait_line(system, rf"imapd: Temporary failure, user=bert, {PEER}: .*")
    assert not [line for line in lines(system) if GREEDY.search(line)]


@pytest.mark.parametrize("greeting", [b"-ERR [SYS/TEMP] Private words\r\n", b"* OK This is IMAP\r\n"])
def test_a_mail_host_of_pop3_that_does_not_greet(system, greeting):
    system.host.greeting = greeting
    fail(system, "pass")
    wait_line(system, r"pop3d: Did not receive greeting from 127\.0\.0\.1")
    wait_line(system, rf"pop3d: Temporary failure, user=anna, {PEER}: .*")
    assert "rejected" not in system.log_text() and "failed" not in system.log_text()


@pytest.mark.parametrize("verb, what", [("USER", "userid"), ("PASS", "password")])
def test_a_mail_host_of_pop3_that_refuses(system, verb, what):
    system.host.answers[verb] = b"-ERR Private words\r\n"
    fail(system, "pass")
    wait_line(system, rf"pop3d: Login {what} rejected by 127\.0\.0\.1")
    wait_line(system, rf"pop3d: LOGIN FAILED, user=anna, {PEER}")
    assert "Login to" not in system.log_text() and "Private words" not in system.log_text()


FORGED = "x, ip=[192.0.2.9], port=[1]"
NAMES = ["anna", "o'brien", FORGED, "x] LOGIN FAILED, user=y, ip=[::ffff:192.0.2.9", "x ip=[192.0.2.9]",
         "x\r\n<22>imapd: LOGIN FAILED, user=x, ip=[192.0.2.9]", "x\nimapd: LOGIN, user=root, ip=[192.0.2.9]", "\x1b[31m", "\xe4\xff"]


def test_no_line_can_be_forged(system):
    """Neither in the name nor in what a mail host repeats of it."""
    system.imap.refusal = b"TAG NO Not you, '" + FORGED.encode() + b"'\r\n"
    for name in NAMES:
        fail(system, "plain", name)
    system.imap.refusal = b"TAG NO [UNAVAILABLE] LOGIN FAILED, user=x, ip=[192.0.2.9]\r\n"
    fail(system, "login", "zoe")
    wait_line(system, rf"imapd: Temporary failure, user=zoe, {PEER}: .*")
    wait_until(lambda: len([line for line in lines(system) if ": LOGIN FAILED, " in line]) >= len(NAMES), system.log_text)
    for pattern in (FILTER, OLDER, GREEDY):
        found = [match["ip"] for match in map(pattern.search, system.log_text().splitlines()) if match]
        assert found == ["127.0.0.1"] * len(NAMES), system.log_text()
    assert "192.0.2.9]" not in "\n".join(lines(system)) and "LOGIN FAILED, user=o'brien, " in system.log_text()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\uffff]", system.log_text())
    assert not [line for line in lines(system) if ": LOGIN, " in line]


def test_the_names_say_how_clients_come_in(make):
    folder = temp_folder()
    authority = certs.Authority(folder)
    ours, host = authority.issue("127.0.0.1", file="ours"), Host()
    ports = process.free_port(), process.free_port(), process.free_port()
    system = make.system(make.backend(), log_format="courier", imaps_listen_port=ports[0], pop3_listen_port=ports[1],
                         pop3s_listen_port=ports[2], pop3_server_port=host.port,
                         tls_server_cert_file=ours.path, tls_server_key_file=ours.key_path)
    try:
        with tls.starttls(system.port, authority) as client:
            client.login("anna", "pw-anna")
        wait_line(system, rf"imapd: LOGIN, user=anna, {PEER}, protocol=IMAP, starttls=1")
        with tls.imaps(ports[0], authority) as client:
            client.login("anna", "pw-anna")
        wait_line(system, rf"imapd-ssl: LOGIN, user=anna, {PEER}, protocol=IMAP, starttls=1")
        outer = Client(ports[1])
        outer.ok("STLS")
        with Client(None, sock=tls.wrap(outer.sock, authority), greet=False) as client:
            client.session("anna")
        wait_line(system, rf"pop3d: LOGIN, user=anna, {PEER}, protocol=POP3, stls=1")
        sock = socket.create_connection(("127.0.0.1", ports[2]), timeout=process.DEADLINE)
        with Client(None, sock=tls.wrap(sock, authority)) as client:
            assert client.login("anna", "wrong").startswith(b"-ERR")
        wait_line(system, rf"pop3d-ssl: LOGIN FAILED, user=anna, {PEER}")
    finally:
        host.stop()
        shutil.rmtree(folder)


def test_a_reload_takes_the_format(make, backend):
    system = make.system(backend, log_format="keepwarm")
    system.write_config(log_format="courier")
    system.supervisor.send_signal(signal.SIGHUP)
    system.wait_log("taken over")
    wait_until(lambda: fail(system, "login") or lines(system), system.log_text)


def test_a_session_cannot_choose_a_name_that_there_is_not(make, backend):
    system = make.system(backend, log_format="courier")
    with Peer(system).hello() as peer:
        peer.push("LINE", old_log=LOG_NAMES, line=b"odd")
        peer.expect_cut_off()
    assert "odd" not in system.log_text()


@pytest.mark.skipif(logger.missing() is not None, reason="no logger of our own here")
def test_a_line_that_its_process_cannot_write_comes_under_the_same_name(make, backend):
    system = logger.Watched(backend, log_format="courier")
    make.started.append(system)
    system.start()
    client = system.session("anna")
    system.logger.wait("<22>imapd: LOGIN, user=anna, ip=[::ffff:127.0.0.1], port=[")
    system.logger.restart()
    client.logout()
    system.logger.wait("<22>imapd: LOGOUT, user=anna, ip=[::ffff:127.0.0.1], port=[")
    system.logger.stop()
