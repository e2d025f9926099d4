"""A master user logs in for everybody (auth_sasl_plain_username, auth_sasl_plain_password, auth_shared_secret)."""
import base64
import os
import signal
import threading

import pytest

from keepwarm import trace
from keepwarm.backend import CLOSE, SILENCE, Gate
from keepwarm.imap import LOGINS, b64
from keepwarm.messages import Door
from keepwarm.process import memory, wait_until
from keepwarm.system import SANITIZED

MASTER, PASSWORD, SHARED = "generalschluessel", "Hauptwort-5e0d77aa", "Gemeinsam-c2b94f10"
KEYS = {"auth_sasl_plain_username": MASTER, "auth_sasl_plain_password": PASSWORD, "auth_shared_secret": SHARED}
WRONG = b"NO [AUTHENTICATIONFAILED] LOGIN failed"


class Office:
    """What the mail host makes of AUTHENTICATE PLAIN: the master user may log in for anybody it knows."""

    def __init__(self, backend):
        self.backend, self.seen = backend, []
        self.password = PASSWORD.encode()
        self.gate = None
        backend.answers["AUTHENTICATE"] = self.judge

    def judge(self, conn):
        command = conn.commands[-1]
        authzid, user, password = base64.b64decode(command.args[1]).split(b"\0")
        self.seen.append((authzid.decode(), user.decode(), password.decode()))
        if self.gate:
            self.gate.reached.set()
            self.gate.opened.wait(20)
        good = (user == MASTER.encode() and password == self.password) if authzid else \
            password == b"pw-" + user
        if not good or authzid == b"nobody":
            return conn.done(command, b"NO [AUTHENTICATIONFAILED] says the backend")
        conn.user = (authzid or user).decode()
        return conn.done(command, b"OK [CAPABILITY " + self.backend.after.encode() + b"] says the backend")


@pytest.fixture
def office(backend):
    return Office(backend)


@pytest.fixture
def scene(make, backend, office):
    return make.system(backend, **KEYS), office


def session(system, user="anna", password=SHARED, reused=None):
    client = system.session(user, password, reused=reused)
    assert b"<" + user.encode() + b">" in fetch(client), "this is somebody else's mail"
    return client


def fetch(client):
    client.ok("SELECT INBOX")
    return client.ok("FETCH 1 BODY[]").text


def leave(client, system):
    client.logout()
    system.wait_given()


@pytest.mark.parametrize("how", LOGINS)
def test_the_master_user_logs_in_with_the_clients_name(scene, how):
    system, office = scene
    with system.client() as client:
        assert client.login("anna", SHARED, how).ok
    assert office.seen == [("anna", MASTER, PASSWORD)]


def test_a_listener_that_ends_over_the_request_is_followed_by_the_next_one(scene):
    """The errand's process was never started; a second one that ends so is what the client hears of."""
    system, office = scene
    with Door(system) as door, system.client() as client, system.client() as other:  # the latest listener is asked
        client.send(f"a LOGIN anna {SHARED}\r\n".encode())
        asked = door.listener.receive()
        assert asked.name == "ERRAND" and not office.seen
        door.listener.sock.close()
        asked.sock.close()
        assert client.reply("a").ok
        assert office.seen == [("anna", MASTER, PASSWORD)]
        with Door(system) as second:
            other.send(f"a LOGIN bert {SHARED}\r\n".encode())
            for _ in range(2):
                second.listener.receive().sock.close()
            assert other.reply("a").tagged.startswith(b"NO [UNAVAILABLE]")
    assert len(office.seen) == 1


def test_a_connection_is_reused_for_the_same_user_only(scene):
    system, office = scene
    first = session(system, reused=False)
    leave(first, system)
    session(system, "berta").logout()
    assert [name for name, *_ in office.seen] == ["anna", "berta"]
    session(system).logout()
    assert len(office.seen) == 2
    for name, value in ("logins", 3), ("logins_fresh", 2), ("logins_reused", 1):
        system.wait_counter(name, value)
    assert "reused=yes" in system.log_text() and "reused=no" in system.log_text()


@pytest.mark.parametrize("secret", ["", SHARED[:1], SHARED[:-1], SHARED + "x", SHARED.lower(), "pw-anna", PASSWORD,
                                    SHARED[1:], " " + SHARED])
def test_whoever_does_not_know_the_whole_secret_gets_nothing(scene, secret):
    """Also when the account's connection lies in the cache, and even with the user's own password."""
    system, office = scene
    leave(session(system), system)
    with system.client() as client:
        for how in "quoted", "literals":
            assert client.login("anna", secret, how).tagged == WRONG
    with system.client() as client:
        assert client.login("berta", secret, "plain-initial").tagged.startswith(b"NO [AUTHENTICATIONFAILED]")
    assert [name for name, *_ in office.seen] == ["anna"], "the mail host was asked"
    system.wait_counter("logins_refused", 3)


@pytest.mark.parametrize("order", ["kick", "flush-user"])
def test_what_logs_in_for_a_user_meanwhile_is_no_more_kept_than_what_he_has(scene, order):
    """The client is gone when its errand has done."""
    system, office = scene
    office.gate = Gate()
    with system.client() as client:
        client.send(f"a1 LOGIN anna {SHARED}\r\n")
        office.gate.wait()
        assert trace.pimpstat(system, f"--{order}", "anna")[0] == 0
        if order == "kick":
            client.expect(rb"\* BYE Session was ended by the administrator\r\n")
        else:  # a session that waits for the broker does not look at its client
            os.kill(system.pid_serving(client), signal.SIGKILL)
    wait_until(lambda: system.counter("sessions_lost") or system.stats()["ends"].get("kicked"), lambda: f"{system.stats()}")
    system.wait_clients(0)
    office.gate.open()
    wait_until(lambda: not system.gauge("active") and not office.backend.open_connections(), "its connection is kept")


def test_an_authorization_identity_cannot_be_chosen(scene):
    system, office = scene
    blob = b64("berta\0anna\0" + SHARED)
    with system.client() as client:
        assert client.command(b"AUTHENTICATE PLAIN " + blob).tagged.startswith(b"NO [AUTHENTICATIONFAILED]")
    assert not office.seen


def test_attempts_are_counted(make, backend, office):
    system = make.system(backend, login_attempts=2, **KEYS)
    with system.client() as client:
        client.login("anna", "x")
        client.login("anna", "y")
        assert b"* BYE" in client.line()
    assert not office.seen


def test_a_refusal_of_the_mail_host_is_passed_on(scene):
    system, office = scene
    with system.client() as client:
        assert client.login("nobody", SHARED).tagged == WRONG
    office.backend.answers["AUTHENTICATE"] = CLOSE
    with system.client() as client:
        assert client.login("anna", SHARED).tagged.startswith(b"NO [UNAVAILABLE]")
    office.backend.answers["AUTHENTICATE"] = office.judge
    session(system).logout()


@pytest.mark.parametrize("said, told", [
    (b"[LIMIT] Ten are enough", b"[LIMIT]"), (b"[UNAVAILABLE] Later", b"[UNAVAILABLE]"), (b"[INUSE] Somebody", b"[INUSE]"),
    (b"[CONTACTADMIN] Call", b"[CONTACTADMIN]"), (b"[EXPIRED] Whose?", b"[AUTHENTICATIONFAILED]"),
    (b"[AUTHORIZATIONFAILED] Not you", b"[AUTHENTICATIONFAILED]"), (b"[X-PRIVATE] Private words", b"[UNAVAILABLE]")])
def test_why_there_is_no_login_is_passed_on_as_a_code(scene, said, told):
    """What the mail host says of the master's own password is nobody else's business."""
    system, office = scene
    office.backend.answers["AUTHENTICATE"] = b"TAG NO " + said + b" of anna\r\n"
    with system.client() as client:
        assert client.login("anna", SHARED).tagged == b"NO " + told + b" LOGIN failed"
    assert "of anna" not in system.log_text()


def test_without_authenticate_plain_there_is_no_login(make):
    """The master's password must not go into LOGIN as the user's."""
    backend = make.backend(before="IMAP4rev1 AUTH=LOGIN")
    system = make.system(backend, **KEYS)
    with system.client() as client:
        assert client.login("anna", SHARED).tagged.startswith(b"NO [UNAVAILABLE]")
    for word in (SHARED, PASSWORD):
        assert word.encode() not in backend.everything()


def test_more_logins_than_errands_wait_for_their_turn(scene):
    system, office = scene
    office.gate = Gate()
    clients = [system.client() for _ in range(40)]
    for number, client in enumerate(clients):
        client.send(f"a1 LOGIN user{number} {SHARED}\r\n")
    wait_until(lambda: len(office.seen) == 16, lambda: f"{len(office.seen)} logins")
    office.gate.open()
    for number, client in enumerate(clients):
        assert client.reply("a1").ok
        assert f"<user{number}>".encode() in fetch(client)
        client.close()
    assert len(office.seen) == 40


def test_a_logout_that_makes_room_does_not_take_the_login_s_errand(make, backend, office):
    """The cache is full, and the mail host takes its time over LOGOUT."""
    system = make.system(backend, cache_size=24, **KEYS)
    for number in range(24):
        system.session(f"old{number}", SHARED).logout()
        system.wait_counter("given", number + 1)
    backend.answers["LOGOUT"] = SILENCE
    clients = []
    for number in range(20):
        clients.append(system.session(f"new{number}", SHARED))
    for client in clients:
        client.close()


def test_sessions_that_die_while_the_master_logs_in_do_no_harm(scene):
    """Their connections are the account's next idle ones; who waits in line behind them is served."""
    system, office = scene
    gate = office.gate = Gate()
    clients = [system.client() for _ in range(30)]
    for client in clients:
        client.send(f"a1 LOGIN anna {SHARED}\r\n")
    wait_until(lambda: len(office.seen) == 16, "no logins")
    for client in clients[:-1]:
        os.kill(system.pid_serving(client), signal.SIGKILL)
        client.close()
    system.wait_counter("sessions_lost", 29)
    office.gate = None
    gate.open()
    assert clients[-1].reply("a1").ok
    clients[-1].close()
    session(system, "berta").logout()
    session(system, "anna", reused=True).logout()
    wait_until(lambda: system.gauge("active") == 0, lambda: str(system.stats()))


def test_logins_that_wait_for_an_errand_hear_of_a_mail_host_that_is_away(make, backend, office):
    """Nobody waits for errands that come to nothing."""
    system = make.system(backend, connect_timeout=1, connect_retries=0, **KEYS)
    backend.fill_backlog()
    clients = [system.client() for _ in range(40)]
    for client in clients:
        client.send(f"a1 LOGIN anna {SHARED}\r\n")
    for client in clients:
        assert client.reply("a1").tagged.startswith(b"NO [UNAVAILABLE]")
        client.close()
    assert not office.seen


def test_caching_off_works(make, backend, office):
    system = make.system(backend, cache_expiration_time=0, **KEYS)
    for _ in range(2):
        session(system, reused=False).logout()
    assert len(office.seen) == 2


@pytest.mark.parametrize("recheck", [0, 1])
def test_passwords_are_proven_again_by_the_master(make, backend, office, recheck):
    system = make.system(backend, auth_recheck=recheck, **KEYS)
    leave(session(system), system)
    if recheck:
        threading.Event().wait(1.1)  # there is no event to wait for
    session(system).logout()
    wait_until(lambda: len(office.seen) == 2, "nothing was proven again")
    assert set(office.seen) == {("anna", MASTER, PASSWORD)}


def test_a_master_password_that_is_refused_ends_no_sessions(make, backend, office):
    """It says nothing of the account: all sessions of all users would end."""
    system = make.system(backend, auth_recheck=1, **KEYS)
    stays = session(system)
    leave(session(system), system)
    threading.Event().wait(1.1)
    office.password = b"another"
    session(system, reused=True).logout()
    system.wait_counter("rechecks_refused", 1)
    stays.ok("NOOP")


# --- user*master ------------------------------------------------------------------------------------------
class Separated:
    """A mail host that knows the master user as NAME*MASTER only, by LOGIN or AUTHENTICATE PLAIN."""

    def __init__(self, backend):
        self.backend, self.seen = backend, []
        backend.answers["LOGIN"] = lambda conn: self.judge(conn, *conn.commands[-1].args[:2])
        backend.answers["AUTHENTICATE"] = self.plain

    def plain(self, conn):
        authzid, user, password = base64.b64decode(conn.commands[-1].args[1]).split(b"\0")
        assert authzid == b""
        return self.judge(conn, user, password)

    def judge(self, conn, user, password):
        command, name = conn.commands[-1], user.decode()
        self.seen.append((command.verb, name, password.decode()))
        if not name.endswith("*" + MASTER) or password.decode() != PASSWORD:
            return conn.done(command, b"NO [AUTHENTICATIONFAILED] says the backend")
        conn.user = name.split("*")[0]  # as a server may that looks from the front
        return conn.done(command, b"OK [CAPABILITY " + self.backend.after.encode() + b"] says the backend")


@pytest.mark.parametrize("before, command", [("IMAP4rev1 AUTH=PLAIN SASL-IR", "AUTHENTICATE"), ("IMAP4rev1", "LOGIN")])
def test_the_master_user_has_the_clients_name_in_front_of_its_own(make, before, command):
    backend = make.backend(before=before)
    office, system = Separated(backend), make.system(backend, master_separator="*", **KEYS)
    leave(session(system, reused=False), system)
    session(system, reused=True).close()
    session(system, "berta").close()
    assert office.seen == [(command, f"{name}*{MASTER}", PASSWORD) for name in ("anna", "berta")]


@pytest.mark.parametrize("name", ["anna*", "*anna", f"anna*{MASTER}", "anna*berta", "*"])
def test_a_name_with_the_separator_is_nobodys(make, backend, name):
    """The mail host would take a part of it for the user's."""
    office, system = Separated(backend), make.system(backend, master_separator="*", **KEYS)
    leave(session(system), system)
    with system.client() as client:
        for how in "quoted", "plain-initial":
            assert client.login(name, SHARED, how).tagged.startswith(b"NO [AUTHENTICATIONFAILED]")
    assert len(office.seen) == 1


def test_no_password_goes_to_a_mail_host_that_says_logindisabled(make):
    backend = make.backend(before="IMAP4rev1 LOGINDISABLED")
    office, system = Separated(backend), make.system(backend, master_separator="*", **KEYS)
    with system.client() as client:
        assert client.login("anna", SHARED).tagged.startswith(b"NO [UNAVAILABLE]")
    assert not office.seen and PASSWORD.encode() not in backend.everything()


# --- with and without -----------------------------------------------------------------------------------------
def reload(system, **changes):
    count = system.log_text().count("taken over")
    system.write_config(**changes)
    system.supervisor.send_signal(1)
    wait_until(lambda: system.log_text().count("taken over") > count, "no reload")


@pytest.mark.parametrize("changes", [
    {"auth_shared_secret": "another"},
    {"auth_sasl_plain_password": "another"},
    {"auth_shared_secret": None},
])
def test_a_connection_is_not_shared_between_settings(scene, changes):
    """Neither between two of them, nor between a user with and without."""
    system, office = scene
    leave(session(system), system)
    reload(system, **changes)
    office.password = b"another" if "auth_sasl_plain_password" in changes else office.password
    with system.client() as client:
        if "auth_shared_secret" in changes:
            assert not client.login("anna", SHARED).ok
    password = changes.get("auth_shared_secret", SHARED) or "pw-anna"
    before = len(office.seen)
    session(system, password=password, reused=False).logout()
    assert len(office.seen) == before + 1


def test_a_connection_of_the_users_own_password_is_not_the_masters(make, backend, office):
    system = make.system(backend)
    leave(session(system, password="pw-anna"), system)
    reload(system, **{**KEYS, "auth_shared_secret": "pw-anna"})
    session(system, password="pw-anna", reused=False).logout()
    assert office.seen[-1] == ("anna", MASTER, PASSWORD)


def test_only_some_of_the_keys_is_a_warning_and_has_no_effect(make, backend, office):
    system = make.system(backend, auth_shared_secret=SHARED, auth_sasl_plain_username=MASTER)
    assert "not all three are set" in system.log_text()
    session(system, password="pw-anna").logout()
    with system.client() as client:
        assert not client.login("anna", SHARED).ok
    assert all(user == "anna" and not authzid for authzid, user, _ in office.seen)


def test_a_process_per_connection_has_no_errands_and_says_so(make, backend):
    system = make.system(backend, run_listener="no", **KEYS)
    assert "auth_sasl_plain_username: with run_listener no" in system.log_text()


# --- secrets --------------------------------------------------------------------------------------------------
@pytest.mark.skipif(SANITIZED, reason="their memory is full of copies")
@pytest.mark.skipif(os.getuid() != 0, reason="only root may read the memory of a process that is not dumpable")
def test_the_masters_password_is_in_no_process_that_serves_clients(scene):
    system, _ = scene
    client = session(system)
    leave(session(system, "berta"), system)
    serving = system.pid_serving(client)
    for pid in system.pids("proxyd"):
        try:
            data = memory(pid)
        except FileNotFoundError:
            assert pid != serving
            continue  # it has just ended
        assert PASSWORD.encode() not in data, f"process {pid} has it"
        assert MASTER.encode() not in data
    assert PASSWORD.encode() in memory(system.pids("cachebrokerd")[0]), "the search proves nothing"


def test_no_log_and_no_file_but_the_configuration_holds_a_secret(scene):
    system, _ = scene
    leave(session(system), system)
    with system.client() as client:
        client.login("anna", "wrong")
        client.login("nobody", SHARED)
    wait_until(lambda: system.log_text().count(") failed: ") == 2, "log lines are missing")
    for path in system.folder.rglob("*"):
        if path.is_file() and path != system.conf:
            data = path.read_bytes()
            assert PASSWORD.encode() not in data and SHARED.encode() not in data, path


def test_a_file_that_everybody_can_read_is_a_warning(make, backend):
    system = make.system(backend, **KEYS, auth_http_header="X-Auth-Key geheim")
    for key in ("auth_sasl_plain_password", "auth_http_header"):
        assert f"{key}: every user can read this file" in system.log_text()
    quiet = make.system(backend)
    assert "every user can read" not in quiet.log_text()
