"""POP3: the dialogue before login, the login at the mail host, the session behind it."""
import base64
import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import threading
import time

import pytest

from keepwarm import process
from keepwarm.pop3 import CLOSE, SILENCE, Client, Host
from keepwarm.process import wait_until
from keepwarm.scene import tcp_pair
from keepwarm.system import BUILD, temp_folder


@pytest.fixture
def host():
    made = []

    def start(**knobs):
        made.append(Host(**knobs))
        return made[-1]
    yield start
    for one in made:
        one.stop()


@pytest.fixture
def pop3(make, host):
    """A system with POP3 in front of a scripted host; system.pop() is a client."""
    def start(backend=None, imap=None, **config):
        backend = backend or host()
        port = process.free_port()
        system = make.system(imap or make.backend(), **{"pop3_listen_port": port, "pop3_server_port": backend.port, **config})
        system.host, system.pop = backend, lambda: Client(port)
        return system
    return start


@pytest.fixture
def folder():
    """One that every user may enter."""
    made = temp_folder()
    yield made
    shutil.rmtree(made)


def plain(user, password, authzid=""):
    return base64.b64encode(f"{authzid}\0{user}\0{password}".encode("latin-1")).decode()


def ends(system):
    return re.findall(r"session ended .*", system.log_text())


def wait_end(system, reason, count=1):
    wait_until(lambda: len(re.findall(rf"session ended .*reason={reason} ", system.log_text())) >= count,
               lambda: f"no end of reason {reason}:\n{system.log_text()}")
    return [line for line in ends(system) if f"reason={reason} " in line][-1]


# --- before login -----------------------------------------------------------------------------------------
def test_the_dialogue_before_login(pop3):
    system = pop3()
    with system.pop() as client:
        assert client.greeting == b"+OK Keepwarm ready.\r\n"
        client.ok("capa")
        assert client.rest() == (b"TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nUTF8 USER\r\nUSER\r\n"
                                 b"SASL PLAIN LOGIN\r\nIMPLEMENTATION Keepwarm\r\n")
        client.ok("AUTH")
        assert client.rest() == b"PLAIN\r\nLOGIN\r\n"
        for line in "NOOP", "STAT", "", "XPROXY_VERSION":
            assert client.say(line) == b"-ERR Please log in first.\r\n", line
        assert client.say("STLS") == b"-ERR There is no TLS here.\r\n"
        assert client.say("QUIT") == b"+OK Bye.\r\n"
        client.expect_close()
    assert system.host.accepted == []
    wait_end(system, "logout")


@pytest.mark.parametrize("lines, last", [
    (["PASS secret"], b"-ERR USER comes first.\r\n"),
    (["USER"], b"-ERR A name is needed.\r\n"),
    (["USER anna", "PASS"], b"-ERR A password is needed.\r\n"),
    (["USER " + "x" * 256], b"-ERR [AUTH] Login failed.\r\n"),
    (["USER anna\0", ], b"-ERR Invalid characters in command.\r\n"),
    (["USER an\rna", ], b"-ERR Invalid characters in command.\r\n"),
    (["CAPA" + "x" * 9000], b"-ERR Line too long.\r\n"),
    (["CAPA" + "x" * 9000 + "{5+}"], b"-ERR Line too long.\r\n"),
    (["AUTH CRAM-MD5"], b"-ERR This mechanism is not offered.\r\n"),
    (["AUTH XOAUTH2"], b"-ERR This mechanism is not offered.\r\n"),
    (["AUTH PLAIN ***"], b"-ERR Invalid authentication data.\r\n"),
    (["AUTH PLAIN", "*"], b"-ERR Authentication cancelled.\r\n"),
    (["AUTH PLAIN " + plain("", "x")], b"-ERR Invalid authentication data.\r\n"),
    (["AUTH PLAIN " + plain("anna", "pw\r\nDELE 1")], b"-ERR [AUTH] Login failed.\r\n"),
    (["AUTH PLAIN " + plain("anna\nSTAT", "pw")], b"-ERR [AUTH] Login failed.\r\n"),
    (["AUTH PLAIN " + plain("anna", "pw", "bert\r\nQUIT")], b"-ERR [AUTH] Login failed.\r\n"),
])
def test_what_is_wrong_reaches_no_mail_host(pop3, lines, last):
    system = pop3()
    with system.pop() as client:
        for line in lines:
            answer = client.say(line)
        assert answer == last
        client.ok("CAPA")
        client.rest()
        assert client.session().ok("STAT").startswith(b"+OK 1 ")  # and all is as before
    assert [login.user for login in system.host.logins] == ["anna"]


def test_a_name_is_good_for_another_password(pop3):
    """As Courier's is; but not behind AUTH, nor behind a name that is none."""
    system = pop3(login_attempts=9)
    with system.pop() as client:
        client.ok("USER anna")
        for _ in range(2):
            assert client.say("PASS wrong") == b"-ERR [AUTH] Login failed.\r\n"
        for line in "AUTH PLAIN " + plain("bert", "wrong"), "USER":
            client.say(line)
            assert client.say("PASS pw-anna") == b"-ERR USER comes first.\r\n"
            client.ok("USER anna")
            assert client.say("PASS wrong") == b"-ERR [AUTH] Login failed.\r\n"
        client.ok("PASS pw-anna")
        client.ok("RETR 1")
        assert b"<anna>" in client.rest()


def test_bounds_before_login(pop3):
    system = pop3(max_errors=3, login_attempts=2, login_timeout=4)
    with system.pop() as client:
        client.say("NOOP")
        client.say("NOOP")
        assert client.say("NOOP") == b"-ERR Please log in first.\r\n"
        assert client.line() == b"-ERR Too many errors\r\n"
        client.expect_close()
    with system.pop() as client:
        for _ in range(2):
            assert client.login("anna", "wrong") == b"-ERR [AUTH] Login failed.\r\n"
        assert client.line() == b"-ERR Too many failed logins\r\n"
        client.expect_close()
    with system.pop() as client:
        assert client.line() == b"-ERR Login took too long\r\n"
        client.expect_close()
    for reason in "too-many-errors", "too-many-logins", "login-timeout":
        wait_end(system, reason)


def test_max_clients_counts_imap_and_pop3(pop3):
    system = pop3(max_clients=2)
    system.forget_start()
    with system.client(), system.pop():
        wait_until(lambda: system.gauge("clients") == 2, "two clients are not counted")
        with system.pop() as third:
            assert third.greeting == b"-ERR [SYS/TEMP] Too many connections\r\n", third.greeting


# --- logins ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("lines, user, password, how", [
    (["USER anna", "PASS pw-anna"], "anna", "pw-anna", "USER"),
    (["USER anna", "PASS with {9+} a \" \\ blank"], "anna", 'with {9+} a " \\ blank', "USER"),
    (["user an na", "pass pw"], "an na", "pw", "USER"),
    (["USER anna", "PASS  first"], "anna", " first", "PLAIN"),
    (["USER anna", "PASS last "], "anna", "last ", "PLAIN"),
    (["USER \xe4nna", "PASS \xfc"], "\xe4nna", "\xfc", "USER"),
    (["AUTH PLAIN " + plain("anna", "pw")], "anna", "pw", "USER"),
    (["AUTH PLAIN", plain("anna", "pw")], "anna", "pw", "USER"),
    (["AUTH PLAIN =", ], None, None, None),
    (["AUTH PLAIN " + plain("anna", "pw", "bert")], "bert", "pw", "PLAIN"),
    (["AUTH LOGIN", "YW5uYQ==", "cHc="], "anna", "pw", "USER"),
    (["AUTH LOGIN YW5uYQ==", "cHc="], "anna", "pw", "USER"),
    (["AUTH XOAUTH2 " + base64.b64encode(b"user=anna\1auth=Bearer good\1\1").decode()], "anna", "good", "XOAUTH2"),
    (["AUTH OAUTHBEARER", base64.b64encode(b"n,a=anna,\1auth=Bearer good\1\1").decode()], "anna", "good",
     "OAUTHBEARER"),
])
def test_ways_to_log_in(pop3, host, lines, user, password, how):
    backend = host(passwords={user: password})
    system = pop3(backend, auth_mechanisms="PLAIN LOGIN XOAUTH2 OAUTHBEARER")
    with system.pop() as client:
        for line in lines:
            answer = client.say(line)
        if user is None:
            assert answer == b"-ERR Invalid authentication data.\r\n"
            return
        assert answer == b"+OK Logged in.\r\n"
        assert client.ok("NOOP") == b"+OK Noop, says the host\r\n"
    login, = backend.logins
    assert (login.user, login.password, login.how) == (user, password.encode("latin-1"), how)


@pytest.mark.parametrize("knobs, answer, code", [
    ({}, b"-ERR [AUTH] Login failed.\r\n", "AUTHENTICATIONFAILED"),
    ({"refusal": b"-ERR sorry\r\n"}, b"-ERR [AUTH] Login failed.\r\n", "AUTHENTICATIONFAILED"),
    ({"refusal": b"-ERR [in-use] Locked\r\n"}, b"-ERR [IN-USE] Login failed.\r\n", "INUSE"),
    ({"refusal": b"-ERR [LOGIN-DELAY] Later\r\n"}, b"-ERR [LOGIN-DELAY] Login failed.\r\n", "LOGIN-DELAY"),
    ({"refusal": b"-ERR [SYS/TEMP] Disk\r\n"}, b"-ERR [SYS/TEMP] Login failed.\r\n", "UNAVAILABLE"),
    ({"refusal": b"-ERR [SYS/PERM/X] Disk\r\n"}, b"-ERR [SYS/PERM] Login failed.\r\n", "CONTACTADMIN"),
    ({"refusal": b"-ERR [X-ODD] Whatever\r\n"}, b"-ERR Login failed.\r\n", "none"),
    ({"greeting": b"-ERR [SYS/TEMP] No\r\n"}, b"-ERR [SYS/TEMP] Login failed.\r\n", "UNAVAILABLE"),
    ({"greeting": b"-ERR [AUTH] not from here\r\n"}, b"-ERR [SYS/TEMP] Login failed.\r\n", "UNAVAILABLE"),
    ({"greeting": b"-ERR go away\r\n"}, b"-ERR [SYS/TEMP] Login failed.\r\n", "UNAVAILABLE"),
    ({"greeting": b"* OK IMAP4rev1 ready\r\n"}, b"-ERR [SYS/TEMP] Login failed.\r\n", "UNAVAILABLE"),
    ({"greeting": CLOSE}, b"-ERR [SYS/TEMP] Login failed.\r\n", "UNAVAILABLE"),
    ({"greeting": SILENCE}, b"-ERR [SYS/TEMP] Login failed.\r\n", "UNAVAILABLE"),
    ({"answers": {"USER": b"-ERR [AUTH] nobody\r\n"}}, b"-ERR [AUTH] Login failed.\r\n", "AUTHENTICATIONFAILED"),
    ({"answers": {"PASS": CLOSE}}, b"-ERR [SYS/TEMP] Login failed.\r\n", "UNAVAILABLE"),
    ({"answers": {"PASS": SILENCE}}, b"-ERR [SYS/TEMP] Login failed.\r\n", "UNAVAILABLE"),
    ({"answers": {"USER": b"+ more?\r\n"}}, b"-ERR [SYS/TEMP] Login failed.\r\n", "UNAVAILABLE"),
    ({"answers": {"USER": b"x" * 200000}}, b"-ERR [SYS/TEMP] Login failed.\r\n", "UNAVAILABLE"),
])
def test_logins_that_fail(pop3, host, knobs, answer, code):
    silent = SILENCE in (knobs.get("greeting"), *knobs.get("answers", {}).values())
    system = pop3(host(**knobs), backend_timeout=1 if silent else 20, log_format="keepwarm")
    with system.pop() as client:
        assert client.login("anna", "wrong") == answer
        assert client.say("NOOP") == b"-ERR Please log in first.\r\n"
    system.wait_log("login failed ")
    failures = re.findall(r"login failed .*", system.log_text())
    assert len(failures) == 1 and "user=anna client=127.0.0.1" in failures[0] and f"code={code} " in failures[0]
    assert "wrong" not in system.log_text()


def test_a_mail_host_that_is_away(pop3):
    system = pop3(pop3_server_port=process.free_port())
    with system.pop() as client:
        assert client.login() == b"-ERR [SYS/TEMP] Login failed.\r\n"


def test_what_only_auth_can_carry_needs_it(pop3, host):
    backend = host(capa=["USER"])
    system = pop3(backend, auth_mechanisms="PLAIN XOAUTH2")
    with system.pop() as client:
        assert client.say("AUTH PLAIN " + plain("anna", "pw", "bert")) == b"-ERR [SYS/PERM] Login failed.\r\n"
        token = base64.b64encode(b"user=anna\1auth=Bearer good\1\1").decode()
        assert client.say("AUTH XOAUTH2 " + token) == b"-ERR [SYS/PERM] Login failed.\r\n"
    assert backend.logins == []


def test_a_report_about_a_token_is_passed_on(pop3, host):
    system = pop3(host(report=b'{"status":"invalid_token"}'), auth_mechanisms="XOAUTH2")
    with system.pop() as client:
        token = base64.b64encode(b"user=anna\1auth=Bearer bad\1\1").decode()
        report = client.say("AUTH XOAUTH2 " + token)
        assert base64.b64decode(report[2:]) == b'{"status":"invalid_token"}'
        assert client.say("") == b"-ERR [AUTH] Login failed.\r\n"


# --- sessions ---------------------------------------------------------------------------------------------
def test_sessions_are_never_reused_nor_mixed_with_imap(pop3):
    system = pop3(enable_select_cache="yes", spare_backend_connections=2)
    for _ in range(3):
        with system.pop() as client:
            client.session().ok("STAT")
            assert client.ok("QUIT") == b"+OK Gone, says the host\r\n"
            client.expect_close()
        with system.session("anna") as imap:
            imap.ok("SELECT INBOX")
            imap.logout()
    line = wait_end(system, "logout", 6)
    assert len(system.host.logins) == 3 and len(system.host.accepted) == 3
    assert [conn.ended_by for conn in system.host.accepted] == ["quit"] * 3
    pop = [line for line in ends(system) if "cached=pop3" in line]
    assert len(pop) == 3 and all("user=anna" in line and "reused=no" in line for line in pop)
    wait_until(lambda: system.stats()["not_cached"].get("pop3") == 3, lambda: f"{system.stats()}")
    assert system.counter("given") <= 3 and system.gauge("cached") <= 1


def test_the_statistics_tell_the_services_apart(pop3):
    system = pop3()
    with system.pop() as client, system.session("bert"):
        client.session("anna")
        wait_until(lambda: {(row["user"], row["service"]) for row in system.stats()["sessions"]} ==
                   {("anna", "pop3"), ("bert", "imap")}, lambda: f"{system.stats()['sessions']}")


def test_what_came_behind_the_password_goes_to_the_mail_host(pop3):
    system = pop3()
    with system.pop() as client:
        client.send(b"USER anna\r\nPASS pw-anna\r\nSTAT\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n")
        assert [client.line()[:3] for _ in range(3)] == [b"+OK"] * 3
        client.line()
        assert b"<anna>" in client.rest()
        assert client.line() == b"+OK Marked\r\n" and client.line() == b"+OK Gone, says the host\r\n"
        client.expect_close()
    assert system.host.maildrops["anna"] == []


def test_a_client_that_says_quit_and_closes_has_quit(pop3):
    system = pop3()
    with system.pop() as client:
        client.session().ok("DELE 1")
        client.send(b"QUIT\r\n")
    wait_end(system, "logout")
    assert system.host.maildrops["anna"] == []


MUCH_TAKES = 50  # seconds: as much as kernels hold is said, and read line by line


def unread(server, client):
    """How many bytes from this client's port lie in the server's kernel."""
    for line in process.read_proc("net", "tcp").decode().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if (int(local[-4:], 16), int(remote[-4:], 16)) == (server, client):
            return int(queues.partition(":")[2], 16)
    return 0


def test_a_client_that_says_much_and_quit_and_closes_without_reading_has_quit(pop3, host):
    """Its end is noticed with the second answer that it does not take, when QUIT is still to be read."""
    backend, go_on = host(), threading.Event()

    def answer_late(conn):
        go_on.wait(MUCH_TAKES)
        conn.answer(b"+OK Noop\r\n")
    backend.answers["NOOP"] = answer_late
    system = pop3(backend)
    with system.pop() as client:
        client.session()
        ports = client.sock.getpeername()[1], client.sock.getsockname()[1]
        deadline = time.monotonic() + MUCH_TAKES
        while unread(*ports) < 8000:  # all that can be passed on has been
            assert time.monotonic() < deadline, "the proxy takes everything"
            client.send((b"NOOP " + b"x" * 90 + b"\r\n") * 300)  # /proc/net/tcp is slow where much is in it
        client.send(b"DELE 1\r\nQUIT\r\n")
    go_on.set()
    conn = system.host.logins[0].conn
    assert conn.closed.wait(MUCH_TAKES)
    assert conn.ended_by == "quit" and system.host.maildrops["anna"] == []


def test_a_half_closed_client_gets_everything(pop3, host):
    message = b"x" * 70 + b"\r\n"
    backend = host(maildrops={"anna": [message * 200000]})
    system = pop3(backend)
    with system.pop() as client:
        client.session()
        client.send(b"RETR 1\r\nNOOP\r\n")
        client.sock.shutdown(socket.SHUT_WR)
        client.line()
        assert client.rest() == message * 200000
        assert client.line() == b"+OK Noop, says the host\r\n"
        client.expect_close()
    line = wait_end(system, "client-closed")
    assert int(re.search(r"from_backend=(\d+)", line)[1]) > len(message) * 200000


@pytest.mark.parametrize("leave", ["close", "reset", "kill"])
def test_a_client_that_vanishes_deletes_nothing(pop3, leave):
    system = pop3()
    client = system.pop().session()
    client.ok("DELE 1")
    if leave == "kill":  # the whole service, even
        for pid in system.pids("proxyd"):
            with contextlib.suppress(ProcessLookupError):  # with its parent some leave by themselves
                os.kill(pid, signal.SIGKILL)
    elif leave == "reset":
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    conn = system.host.logins[0].conn
    assert conn.closed.wait(process.DEADLINE)
    assert conn.ended_by in ("eof", None) and b"QUIT" not in conn.received
    assert "anna" not in system.host.maildrops  # as it was


def test_back_pressure_and_much_data_both_ways(pop3, host):
    data = os.urandom(2 << 20).replace(b"\n", b"x")
    echoed = threading.Event()

    def swallow(conn):
        conn.sock.sendall(b"+OK\r\n")
        while len(conn.received) < len(data):
            conn.fill()
        conn.sock.sendall(hashlib.sha256(bytes(conn.received[-len(data):])).hexdigest().encode() + b"\r\n")
        echoed.set()
    backend = host(answers={"SWALLOW": swallow, "SPOUT": lambda conn: conn.sock.sendall(data + b"\r\n")})
    system = pop3(backend)
    with system.pop() as client:
        client.session().ok("SWALLOW")
        client.send(data)
        assert client.line().strip() == hashlib.sha256(data).hexdigest().encode()
        client.send(b"\r\nSPOUT\r\n")
        client.line()  # of what was swallowed, a line of nonsense
        assert client.line() == data + b"\r\n"


def test_a_mail_host_that_leaves(pop3):
    system = pop3()
    with system.pop() as client:
        client.session()
        system.host.logins[0].conn.drop()
        client.expect_close()
    wait_end(system, "backend-closed")


def test_sessions_go_on_without_the_broker_and_end_with_the_service(pop3):
    system = pop3()
    with system.pop() as client:
        client.session()
        old = system.pids("cachebrokerd")
        os.kill(old[0], signal.SIGKILL)
        wait_until(lambda: system.pids("cachebrokerd") not in ([], old), "no new broker")
        client.ok("STAT")
        with system.pop() as other:
            other.session("bert").ok("STAT")
        system.stop_and_keep()
        client.expect_close()
    assert all(b"QUIT" not in conn.received for conn in system.host.accepted)
    system.start()


def test_a_directory_may_forbid_pop3_or_give_it_a_host_of_its_own(pop3, make, host, folder):
    other, imap, users = host(), make.backend(), folder / "userdb"
    users.write_text(f"anna\tuid=1|gid=1|home=/|options=mailhost=127.0.0.1\n"
                     f"bert\tuid=1|gid=1|home=/|options=disablepop3=1\n"
                     f"carl\tuid=1|gid=1|home=/|options=mailhost=pop3://127.0.0.1:{other.port} "
                     f"imap://127.0.0.1:{imap.port}\n"
                     f"dora\tuid=1|gid=1|home=/|options=mailhost=imap://127.0.0.1:{imap.port}\n")
    users.chmod(0o600)
    if os.getuid() == 0:
        shutil.chown(users, "nobody", "nogroup")
    system = pop3(imap=imap, directory=f"userdb:{users}")
    with system.pop() as client:
        assert client.login("bert") == b"-ERR [AUTH] Login failed.\r\n"
        assert client.login("dora") == b"-ERR [AUTH] Login failed.\r\n"
        client.session("anna").ok("STAT")
    with system.pop() as client:
        client.session("carl").ok("STAT")
    for user in "bert", "carl", "dora":
        system.session(user).close()
    assert [login.user for login in system.host.logins] == ["anna"]
    assert [login.user for login in other.logins] == ["carl"]


def test_a_process_for_one_connection(pop3):
    """As xinetd starts it."""
    system = pop3(run_listener="no")
    client, theirs = tcp_pair()
    proxyd = process.start([BUILD / "proxyd", "-r", system.run_directory, "-l", "syslog", "-s", "pop3"], stdin=theirs,
                           stdout=theirs, stderr=theirs)
    theirs.close()
    with Client(None, sock=client) as client:
        assert client.greeting == b"+OK Keepwarm ready.\r\n"
        client.session().ok("STAT")
        client.send(b"QUIT\r\n")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.line() == b"+OK Gone, says the host\r\n"
        client.expect_close()
    assert proxyd.wait(process.DEADLINE) == 0
