"""Who judges passwords (auth backend, directory, both): what the directory is asked, what the mail host is told, what may be
reused by whom. Names are completed before any of that."""
import base64
import os
import signal
import subprocess

import pytest

from keepwarm import process
from keepwarm.directory import Userdb, at
from keepwarm.directory_servers import AuthHttp, Authdaemond
from keepwarm.imap import LOGINS, Client, b64
from keepwarm.pop3 import Client as Pop
from keepwarm.pop3 import Host as PopHost
from keepwarm.process import free_port, frozen, wait_until
from keepwarm.restart import restart
from keepwarm.scene import tcp_pair
from keepwarm.system import BUILD

RECORD = "{name}\tuid=1|gid=1|home=/x|systempw={{PLAIN}}{password}|options={options}\n"
MASTER = {"auth_sasl_plain_username": "generalschluessel", "auth_sasl_plain_password": "Hauptwort"}
SLOW = "$2y$14$abcdefghijklmnopqrstuu2VYM3Z2mYV5n9hAq7aM8iBzVqk2rFbi"  # a second or so; nobody's
WRONG = b"NO [AUTHENTICATIONFAILED] LOGIN failed"


class Passwords(Userdb):
    """A userdb with a password for each name."""

    def __init__(self, passwords, options="", **hashes):
        self.passwords, self.usual, self.hashes = dict(passwords), options, hashes
        super().__init__()

    def write(self, **passwords):
        self.passwords.update(passwords)
        text = "".join(RECORD.format(name=name, password=password, options=self.usual)
                       for name, password in self.passwords.items())
        text += "".join(f"{name}\tuid=1|gid=1|home=/x|systempw={value}|options={self.usual}\n"
                        for name, value in self.hashes.items())
        self.write_text(text)


@pytest.fixture
def start(make, backend):
    def started(passwords, auth, hashes=None, **config):
        userdb = Passwords(passwords, f"mailhost={at(backend)}", **(hashes or {}))
        make.started.append(userdb)
        system = make.system(backend, directory=[userdb], auth=auth, server_port=free_port(), **config)
        system.userdb = userdb
        return system
    return started


def login(system, user, password, how="quoted"):
    with system.client() as client:
        reply = client.login(user, password, how)
        if reply.ok:
            client.logout()
    return reply


def users(backend):
    return [(one.user, one.password) for one in backend.logins]


@pytest.mark.parametrize("auth", ["directory", "both"])
def test_a_wrong_password_never_reaches_the_mail_host(start, backend, auth):
    system = start({"anna": "pw-anna"}, auth)
    for how in LOGINS:
        assert not login(system, "anna", "pw-wrong", how).ok
    for user, password in (("anna", "x"), ("nobody-knows", "pw-nobody-knows"), ("anna", "pw-ann"), ("anna", "pw-annaa")):
        assert login(system, user, password).tagged == WRONG
    assert not users(backend) and b"wrong" not in backend.everything()
    assert login(system, "anna", "pw-anna").ok
    assert users(backend) == [("anna", b"pw-anna")]
    system.wait_counter("logins_refused", len(LOGINS) + 3)  # nobody-knows is none
    assert "the directory refused the password" in system.log_text()


def test_both_must_take_it(start, backend):
    system = start({"anna": "other", "bo": "pw-bo"}, "both", login_attempts=9)
    assert login(system, "anna", "other").tagged == WRONG  # right for the directory only
    assert login(system, "anna", "pw-anna").tagged == WRONG  # for the mail host only
    assert users(backend) == [("anna", b"other")]
    assert login(system, "bo", "pw-bo").ok


@pytest.mark.parametrize("auth", ["directory", "both"])
def test_what_a_password_opened_is_for_that_password(start, backend, auth):
    system = start({"anna": "pw-anna"}, auth)
    system.session("anna").logout()
    system.wait_given()
    for password in ("pw-anna ", "x", "PW-ANNA", "pw-anna\\"):
        assert login(system, "anna", password).tagged == WRONG
    system.session("anna", reused=True).close()
    assert len(users(backend)) == 1


def test_a_changed_password_counts_at_once_and_the_old_one_for_lookup_ttl_at_most(start, backend):
    system = start({"anna": "pw-anna"}, "directory", lookup_ttl=1, lookup_negative_ttl=0, cache_expiration_time=0)
    assert login(system, "anna", "pw-anna").ok
    backend.passwords = {"anna": b"fresh"}
    system.userdb.write(anna="fresh")
    wait_until(lambda: login(system, "anna", "fresh").ok, system.log_text)
    wait_until(lambda: login(system, "anna", "pw-anna").tagged == WRONG, system.log_text)
    before = len(users(backend))
    assert login(system, "anna", "pw-anna").tagged == WRONG
    assert len(users(backend)) == before, "the mail host was asked"


def test_without_the_directory_only_passwords_that_were_right_go_on(start, make, backend):
    asked = []

    def answer(request):
        asked.append(request)
        if len(asked) > 1:
            return b""  # it cannot say
        return b"ADDRESS=anna\nPASSWD2=pw-anna\nOPTIONS=mailhost=" + at(backend).encode() + b"\n.\n"
    daemon = Authdaemond(answer)
    make.started.append(daemon)
    system = make.system(backend, directory=[daemon], auth="both", lookup_ttl=1, server_port=free_port())
    assert login(system, "anna", "pw-anna").ok
    wait_until(lambda: login(system, "anna", "pw-anna").ok and len(asked) > 1, system.log_text)
    for password in ("x", "pw-ann"):
        assert login(system, "anna", password).tagged.startswith(b"NO [UNAVAILABLE]")
    assert asked[0] == b"TCPREMOTEIP=127.0.0.1\nAUTH 24\nimap\nlogin\nanna\npw-anna\n"


class Office:
    """A mail host that knows the master user."""

    def __init__(self, backend):
        self.backend, self.seen = backend, []
        backend.answers["AUTHENTICATE"] = self.judge

    def judge(self, conn):
        command = conn.commands[-1]
        authzid, user, password = base64.b64decode(command.args[1]).split(b"\0")
        self.seen.append((authzid.decode(), user.decode(), password.decode()))
        if (user, password) != (b"generalschluessel", b"Hauptwort") and password != b"eigenes-" + user:
            return conn.done(command, b"NO [AUTHENTICATIONFAILED] says the backend")
        conn.user = (authzid or user).decode()
        return conn.done(command, b"OK [CAPABILITY " + self.backend.after.encode() + b"] says the backend")


def test_the_master_user_logs_in_whom_the_directory_knows(start, backend):
    office = Office(backend)
    system = start({"anna": "wort", "bo": "wort"}, "directory", **MASTER)
    assert login(system, "anna", "falsch").tagged == WRONG and not office.seen
    system.session("anna", "wort", reused=False).logout()
    system.wait_given()
    assert login(system, "anna", "falsch").tagged == WRONG
    system.session("anna", "wort", reused=True).logout()
    system.session("bo", "wort", reused=False).close()
    assert office.seen == [("anna", "generalschluessel", "Hauptwort"), ("bo", "generalschluessel", "Hauptwort")]
    assert b"wort" not in backend.everything().replace(b"Hauptwort", b"")


@pytest.mark.parametrize("said", ["NO [AUTHENTICATIONFAILED]", "BAD"], ids=["refused", "odd"])
def test_a_refused_master_is_no_wrong_password_where_the_directory_took_it(start, backend, said):
    """Else clients would forget passwords that are right."""
    backend.answers["AUTHENTICATE"] = lambda conn: conn.done(conn.commands[-1], said.encode() + b" says the backend")
    system = start({"anna": "wort"}, "directory", **MASTER)
    assert login(system, "anna", "wort").tagged == b"NO [UNAVAILABLE] LOGIN failed"
    system.wait_log("the mail host refused the login for a verified client" if "NO" in said
                    else "the login for a verified client came to nothing")
    assert ("the master user's login is refused by 127.0.0.1" in system.log_text()) == ("NO" in said)


def test_who_is_logged_in_by_an_errand_cannot_be_somebody_else(start, backend):
    office = Office(backend)
    system = start({"anna": "wort", "bo": "wort"}, "directory", **MASTER)
    with system.client() as client:
        reply = client.command(b"AUTHENTICATE PLAIN " + b64("bo\0anna\0wort"))
        assert reply.tagged.startswith(b"NO [AUTHENTICATIONFAILED]") and not office.seen
        assert client.command(b"AUTHENTICATE PLAIN " + b64("anna\0anna\0wort")).ok
    assert [one[0] for one in office.seen] == ["anna"]


@pytest.mark.parametrize("restarted", [False, True], ids=["", "restarted"])
def test_without_a_listener_there_is_no_errand(start, backend, restarted):
    """A process for each connection, as inetd starts them. Behind a restart none of the broker before comes back: that is
    waited for, but not for as long as a login may take."""
    office = Office(backend)
    system = start({"anna": "wort"}, "directory", run_listener="no", **MASTER)
    for turn in range(2):
        ours, theirs = tcp_pair()
        with open(system.log, "ab") as log, theirs:
            child = process.start([BUILD / "proxyd", "-r", system.run_directory, "-l", "stderr"], stdin=theirs,
                                  stdout=subprocess.DEVNULL, stderr=log)
        with Client(0, sock=ours) as client:
            assert client.login("anna", "wort").tagged.startswith(b"NO [UNAVAILABLE]")
        child.wait(process.DEADLINE)
        if not restarted or turn == 1:
            break
        restart(system)
    assert not office.seen
    wait_until(lambda: system.log_text().count("there is no listener for a login by errand") == turn + 1, system.log_text)


def test_a_login_by_errand_waits_for_the_next_listener(start, backend):
    """It is being restarted, and the session of before goes on."""
    Office(backend)
    system = start({"anna": "wort"}, "directory", **MASTER)
    with system.client() as client:
        listener = system.listener_pid()
        with frozen(system.supervisor.pid):
            os.kill(listener, signal.SIGKILL)
            wait_until(lambda: not process.alive(listener), "the listener is still there")
            client.send("a1 LOGIN anna wort\r\n")
            client.expect_nothing(0.3)
        assert client.reply("a1").ok


@pytest.fixture
def web(make, backend):
    """auth_http whose accounts have another password at the mail host; .pass_ is that one."""
    class Web:
        def __init__(self):
            self.given = "eigenes-anna"
            self.server = AuthHttp(self.answer)
            make.started.append(self.server)

        def answer(self, request):
            if b"Auth-Pass: wort\r\n" not in request:
                return ["Auth-Status: Invalid login or password"]
            host, port = at(backend).split(":")
            return ["Auth-Status: OK", f"Auth-Server: {host}", f"Auth-Port: {port}",
                    *([f"Auth-Pass: {self.given}"] if self.given else [])]
    return Web()


@pytest.mark.parametrize("auth", ["directory", "both"])
def test_a_password_of_the_directory_goes_to_the_mail_host_by_an_errand(make, backend, web, auth):
    office = Office(backend)
    system = make.system(backend, directory=[web.server], auth=auth, server_port=free_port())
    for password in ("falsch", "eigenes-anna"):
        assert login(system, "anna", password).tagged == WRONG
    assert not office.seen
    system.session("anna", "wort", reused=False).logout()
    system.wait_given()
    assert office.seen == [("", "anna", "eigenes-anna")]
    assert login(system, "anna", "eigenes-anna").tagged == WRONG
    system.session("anna", "wort", reused=True).logout()
    assert b"wort" not in backend.everything()
    request = web.server.requests[0].decode()
    for line in ("Auth-Method: plain", "Auth-User: anna", "Auth-Pass: falsch", "Client-IP: 127.0.0.1", "Auth-Protocol: imap"):
        assert f"\r\n{line}\r\n" in request


def test_a_password_of_the_directory_that_the_mail_host_refuses(make, backend, web):
    Office(backend)
    web.given = "veraltet"
    system = make.system(backend, directory=[web.server], auth="directory", server_port=free_port())
    assert login(system, "anna", "wort").tagged.startswith(b"NO [UNAVAILABLE]")  # anna's own was right
    assert "a password of the directory is refused by" in system.log_text() and "veraltet" not in system.log_text()


def test_what_is_cached_serves_while_the_directory_with_the_password_is_away(make, backend, web):
    Office(backend)
    system = make.system(backend, directory=[web.server], auth="directory", server_port=free_port())
    system.session("anna", "wort").logout()
    system.wait_given()
    web.server.stop()
    system.session("anna", "wort", reused=True).close()  # it is not given back: gone
    assert login(system, "anna", "falsch").tagged.startswith(b"NO [UNAVAILABLE]")


def test_without_the_directory_the_clients_password_is_not_tried_for_the_mail_hosts(make, backend, web):
    office = Office(backend)
    system = make.system(backend, directory=[web.server], auth="both", server_port=free_port())
    running = system.session("anna", "wort")
    web.server.stop()
    assert login(system, "anna", "wort").tagged.startswith(b"NO [UNAVAILABLE]")
    assert "the directory's password for the mail host is not at hand" in system.log_text()
    assert office.seen == [("", "anna", "eigenes-anna")]
    running.close()


def test_the_same_password_needs_no_errand(make, backend, web):
    backend.passwords = {"anna": b"wort"}
    web.given = "wort"
    system = make.system(backend, directory=[web.server], auth="both", server_port=free_port())
    assert login(system, "anna", "wort").ok
    web.given = None
    assert login(system, "anna", "wort").ok
    assert system.counter("errands") <= system.counter("rechecks") + 2  # LOGOUT and the like, no login
    assert users(backend)[0] == ("anna", b"wort")


@pytest.mark.parametrize("secret", ["wort\r\nx", "wort\n", "wort\0", ""])
def test_what_ends_a_text_is_in_no_password(start, backend, secret):
    system = start({"anna": "wort"}, "directory")
    with system.client() as client:
        reply = client.command(b"AUTHENTICATE PLAIN " + b64("\0anna\0" + secret))
    assert not reply.ok and not users(backend)


def test_a_slow_hash_holds_nobody_else_up(start, backend):
    """One worker computes; cached accounts are served by the broker alone."""
    system = start({"anna": "pw-anna"}, "directory", {"slow": SLOW}, lookup_processes=1)
    assert login(system, "anna", "pw-anna").ok
    with system.client() as slow:
        slow.send("a LOGIN slow x\r\n")
        with frozen(wait_until(Computing(system), system.log_text)):  # however quick the machine is
            for _ in range(5):
                assert login(system, "anna", "pw-anna").ok
            slow.expect_nothing(0)
        assert slow.reply("a").tagged == WRONG


def test_a_password_that_is_too_long_for_its_hash_is_refused_and_said(start, backend):
    system = start({}, "directory", {"slow": SLOW})
    assert login(system, "slow", "x" * 600).tagged == WRONG
    system.wait_log("a password of the scheme crypt is stored, and a longer one was typed than crypt(3) compares")


def test_a_worker_that_dies_with_a_password_is_followed_by_one_more(start, backend):
    """It may be the stored hash that it died of: not all logins shall wait for new workers then."""
    system = start({"anna": "pw-anna"}, "directory", {"slow": SLOW}, lookup_processes=1)
    for deaths, answer in ((1, WRONG), (2, b"NO [UNAVAILABLE]")):
        with system.client() as client:
            client.send(f"a LOGIN slow x{deaths}\r\n")
            for _ in range(deaths):
                os.kill(wait_until(Computing(system), system.log_text), signal.SIGKILL)
            assert client.reply("a").tagged.startswith(answer)
    wait_until(lambda: login(system, "anna", "pw-anna").ok, system.log_text)


class Computing:
    """Finds the worker that uses the CPU, more than one needs to start."""

    def __init__(self, system):
        self.system, self.before = system, {}

    def __call__(self):
        for pid in self.system.pids("lookupd"):
            if ticks(pid) >= self.before.setdefault(pid, ticks(pid)) + 6:
                return pid
        return None


def ticks(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return int(file.read().rpartition(")")[2].split()[11])
    except OSError:
        return 0


def test_a_reload_to_another_judge_forgets_what_was_known(start, backend):
    system = start({"anna": "other"}, "backend", lookup_ttl=3600)
    system.session("anna", "pw-anna").logout()
    system.wait_given()
    system.write_config(auth="directory")
    system.supervisor.send_signal(signal.SIGHUP)
    wait_until(lambda: "taken over" in system.log_text(), system.log_text)
    assert login(system, "anna", "pw-anna").tagged == WRONG


@pytest.mark.parametrize("case", ["keep", "lower"])
def test_names_are_completed_before_anything_else(start, backend, case):
    known = {"anna@example.org": "pw-anna@example.org"}
    system = start(known, "both", default_domain="@example.org", login_case=case)
    system.session("anna", known["anna@example.org"]).logout()
    system.wait_given()
    system.session("anna@example.org", reused=True).logout()
    system.wait_given()
    if case == "lower":
        system.session("ANNA@Example.ORG", known["anna@example.org"], reused=True).close()
    else:
        assert login(system, "Anna", known["anna@example.org"]).tagged == WRONG
    assert users(backend) == [("anna@example.org", b"pw-anna@example.org")]
    assert login(system, "bo", "x").tagged == WRONG
    wait_until(lambda: "'bo@example.org'" in system.log_text(), system.log_text)
    assert "'anna'" not in system.log_text() and "user=anna@example.org " in system.log_text()


def test_the_mail_host_alone_may_get_completed_names(make, backend):
    system = make.system(backend, default_domain="@example.org", domain_separators="@%")
    for user, whole in (("anna", "anna@example.org"), ("bo%x", "bo%x"), ("carl@y", "carl@y")):
        assert login(system, user, f"pw-{whole}").ok
        assert users(backend)[-1][0] == whole
    assert not login(system, "a" * 250, "x").ok


@pytest.mark.parametrize("auth", ["directory", "both"])
def test_pop3_has_the_same_judge(make, auth):
    host = PopHost()
    port = free_port()
    userdb = Passwords({"anna": "pw-anna", "bo": "other"}, f"mailhost=pop3://127.0.0.1:{host.port}")
    make.started += [host, userdb]
    make.system(make.backend(), directory=[userdb], auth=auth, pop3_listen_port=port, pop3_server_port=free_port())
    for user, password, good in (("anna", "pw-anna", True), ("anna", "x", False), ("bo", "pw-bo", False)):
        with Pop(port) as client:
            client.ok(f"USER {user}")
            answer = client.say(f"PASS {password}")
            assert answer.startswith(b"+OK") == good, answer
