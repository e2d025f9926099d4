"""Where ways to log in meet: a directory that judges passwords, clients that are challenged or show a certificate, names that
are completed, POP3, a master user, and an administrator who means a user, however he has come."""
import base64
import shutil
import socket

import pytest
from cryptography.x509.oid import NameOID

from keepwarm import certs, challenge, tls, trace
from keepwarm.challenge import CRAMS, MECHANISMS
from keepwarm.directory import Passwords, at
from keepwarm.directory_servers import Authdaemond
from keepwarm.imap import Client, b64
from keepwarm.pop3 import Client as Pop
from keepwarm.pop3 import Host as PopHost
from keepwarm.process import DEADLINE, free_port, wait_until
from keepwarm.system import temp_folder

MASTER = {"auth_sasl_plain_username": "generalschluessel", "auth_sasl_plain_password": "Hauptwort"}
DOMAIN = {"default_domain": "@example.org", "login_case": "lower"}
WRONG = b"NO [AUTHENTICATIONFAILED] "


@pytest.fixture
def start(make, backend):
    """A system whose directory is a table of clear passwords, and judges them."""
    def started(passwords, auth, host=None, **config):
        table = Passwords(host or backend, **{user: (password, "") for user, password in passwords.items()})
        make.started.append(table)
        system = make.system(backend, directory=[table], auth=auth, server_port=free_port(),
                             auth_mechanisms=challenge.OFFERED, lookup_negative_ttl=0, **config)
        system.table = table
        return system
    return started


def login(system, user, password):
    with system.client() as client:
        reply = client.login(user, password)
        if reply.ok:
            client.logout()
    return reply


def users(host):
    return [(one.user, one.password) for one in host.logins]


def open_logins(host):
    return sorted(one.user for one in host.logins if not one.conn.closed.is_set())


def order(system, verb, user):
    code, out, error = trace.pimpstat(system, f"--{verb}", user)
    assert code == 0, error
    return out


def judge_master(backend, seen):
    """The mail host takes the master user for everybody."""
    def judge(conn):
        command = conn.commands[-1]
        authzid, user, password = base64.b64decode(command.args[1]).decode().split("\0")
        seen.append((authzid, user))
        if authzid and (user, password) != tuple(MASTER.values()):
            return conn.done(command, b"NO [AUTHENTICATIONFAILED] no")
        conn.user = authzid or user
        return conn.done(command, b"OK [CAPABILITY " + backend.after.encode() + b"] yes")
    backend.answers["AUTHENTICATE"] = judge


# --- who is challenged where the directory judges ----------------------------------------------------------------
@pytest.mark.parametrize("auth", ["directory", "both"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_who_is_challenged_is_logged_in_as_ever(start, backend, auth, mechanism):
    system = start({"anna": "pw-anna"}, auth)
    with system.client() as client:
        assert challenge.login(client, mechanism, "anna", "wrong").tagged.startswith(WRONG)
        assert challenge.login(client, mechanism, "anna", "pw-anna").ok
    assert users(backend) == [("anna", b"pw-anna")]


@pytest.mark.parametrize("auth", ["backend", "directory", "both"])
def test_a_challenge_and_a_password_open_nothing_for_each_other(start, backend, auth):
    system = start({"anna": "pw-anna"}, auth)
    challenge.session(system, "anna", "pw-anna", reused=False).logout()
    system.wait_given()
    assert login(system, "anna", "wrong").tagged.startswith(WRONG)
    system.session("anna", reused=False).logout()
    system.wait_given()
    system.wait_cached(2)
    system.session("anna", reused=True).close()
    challenge.session(system, "anna", "pw-anna", reused=True).close()
    assert login(system, "anna", "").tagged.startswith(WRONG)


def test_a_challenge_leaves_nothing_behind_that_a_wrong_password_finds(start, backend):
    """What was looked up for it lies under the name alone."""
    system = start({"anna": "pw-anna"}, "both", cache_expiration_time=0)
    challenge.session(system, "anna", "pw-anna").close()
    assert login(system, "anna", "wrong").tagged.startswith(WRONG)
    assert users(backend) == [("anna", b"pw-anna")]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_master_user_comes_for_who_is_challenged_with_auth_directory(start, backend, mechanism):
    """But the clear password goes before it; a client with a password gets the master user alone."""
    seen = []
    judge_master(backend, seen)
    system = start({"anna": "pw-anna"}, "directory", **MASTER)
    with system.client() as client:
        assert challenge.login(client, mechanism, "anna", "pw-anna").ok
    system.session("anna").close()
    assert seen == [("", "anna"), ("anna", MASTER["auth_sasl_plain_username"])]


# --- an administrator means the user, however he has come ---------------------------------------------------------
@pytest.mark.parametrize("auth", ["backend", "directory", "both"])
def test_a_flushed_user_has_nothing_left_of_either(start, backend, auth):
    system = start({"anna": "pw-anna", "bert": "pw-bert"}, auth)
    for user in "anna", "bert":
        challenge.session(system, user, f"pw-{user}").logout()
        system.wait_given()
        system.session(user).logout()
        system.wait_given()
    system.wait_cached(4)
    assert order(system, "flush-user", "anna") == "flushed: 2 connections closed\n"
    wait_until(lambda: open_logins(backend) == ["bert", "bert"], lambda: f"{open_logins(backend)} are open")
    challenge.session(system, "anna", "pw-anna", reused=False).close()
    system.session("anna", reused=False).close()
    system.session("bert", reused=True).close()


@pytest.mark.parametrize("verb", ["flush-user", "kick"])
def test_what_an_alias_has_left_is_the_users_too(make, backend, verb):
    """Names of one account share its connections; its sessions end only under the name that is kicked."""
    daemon = Authdaemond(lambda request: b"ADDRESS=%s\nOPTIONS=mailhost=%s\n.\n" % (
        b"bert" if b"bert" in request else b"anna", at(backend).encode()))
    make.started.append(daemon)
    system = make.system(backend, directory=[daemon], server_port=free_port())
    clients = [system.session("alias", "pw-anna") for _ in range(2)] + [system.session("bert"), system.session("bert")]
    for client in (clients.pop(), clients.pop(0)):
        client.logout()
        system.wait_given()
    system.session("anna", reused=True).logout()
    system.wait_given()
    assert order(system, verb, "anna").startswith({"flush-user": "flushed", "kick": "kicked"}[verb] + ": 1 connection closed")
    system.wait_cached(1)
    for client in clients:
        client.ok("NOOP")
        client.logout()
    system.wait_given()  # one of them
    system.wait_cached(2)  # both are bert's
    system.session("alias", "pw-anna", reused=False).close()
    system.session("bert", reused=True).close()


@pytest.mark.parametrize("auth", ["directory", "both"])
def test_a_flushed_users_password_is_asked_for_again(make, backend, auth):
    asked, right = [], ["pw-anna"]

    def answer(request):
        words = request.split(b"\n")
        if not words[-2].startswith(b"pw-"):
            return b"FAIL\n"
        asked.append(words[-2].decode())
        good = asked[-1] == right[0]
        return b"ADDRESS=anna\nOPTIONS=mailhost=" + at(backend).encode() + b"\n.\n" if good else b"FAIL\n"
    daemon = Authdaemond(answer)
    make.started.append(daemon)
    system = make.system(backend, directory=[daemon], auth=auth, server_port=free_port())
    for _ in range(2):
        assert login(system, "anna", "pw-anna").ok
    assert asked == ["pw-anna"]
    right[0] = "pw-fresh"
    order(system, "flush-user", "anna")
    assert login(system, "anna", "pw-anna").tagged.startswith(WRONG)
    backend.passwords = {"anna": b"pw-fresh"}
    assert login(system, "anna", "pw-fresh").ok
    assert asked == ["pw-anna", "pw-anna", "pw-fresh"]


@pytest.mark.parametrize("auth", ["directory", "both"])
def test_a_kicked_users_sessions_end_whatever_they_came_with(start, backend, auth):
    system = start({"anna": "pw-anna", "bert": "pw-bert"}, auth)
    bystander = system.session("bert")
    system.session("anna").logout()
    system.wait_given()
    mine = [challenge.session(system, "anna", "pw-anna"), system.session("anna", reused=True), system.session("anna")]
    assert order(system, "kick", "anna") == "kicked: 0 connections closed, 3 sessions ended\n"
    for client in mine:
        client.expect(rb"\* BYE Session was ended by the administrator\r\n")
        client.expect_close()
    bystander.ok("NOOP")
    wait_until(lambda: open_logins(backend) == ["bert"], lambda: f"{open_logins(backend)} are open")
    system.session("anna", reused=False).close()


@pytest.mark.parametrize("auth", ["directory", "both"])
def test_a_moved_account_leaves_nothing_at_its_old_host(make, start, backend, auth):
    new = make.backend()
    system = start({"anna": "pw-anna"}, auth, lookup_ttl=1)
    running = system.session("anna")
    system.session("anna").logout()
    system.wait_given()
    for password in "x", "y", "z":  # of which nothing is learned
        assert login(system, "anna", password).tagged.startswith(WRONG)
    system.wait_cached(1)
    system.table.host = at(new)
    system.table.write(anna=("pw-anna", ""))

    def moved():
        system.session("anna").close()
        return new.logins
    wait_until(moved, lambda: system.log_text())
    running.ok("NOOP")
    running.logout()
    wait_until(lambda: not open_logins(backend), "what the session gave back is cached at the old host")


# --- POP3 ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("master", [False, True])
def test_pop3_with_a_directory_that_judges(make, master):
    """The directory has checked the password: with a master user, he logs in, by an errand."""
    host, seen = PopHost(passwords={"anna": "wort"}), []

    def judge(conn):
        conn.answer(b"+ \r\n")
        seen.append(tuple(base64.b64decode(conn.read_line()).decode().split("\0")))
        conn.user = seen[-1][0]
        return conn.answer(b"+OK\r\n")
    host.answers["AUTH"] = judge
    table, port = Passwords(None, anna=("wort", ""), bert=("wort-bert", "")), free_port()
    make.started += [host, table]
    system = make.system(make.backend(), directory=[table], auth="directory", pop3_listen_port=port,
                         pop3_server_port=host.port, **(MASTER if master else {}))
    with Pop(port) as client:
        assert client.login("anna", "wort-bert").startswith(b"-ERR [AUTH]")
        assert not seen and not host.logins
        assert client.login("anna", "wort").startswith(b"+OK")
        client.ok("RETR 1")
        assert b"<anna>" in client.rest()
    assert seen == [("anna", *MASTER.values())] * master
    assert users(host) == [("anna", b"wort")] * (not master)
    assert ("Hauptwort" not in system.log_text()) and ("wort" not in system.log_text())


def test_pop3_with_a_password_that_only_the_directory_has(make):
    """The daemon judges what the client says, and has another one for the mail host."""
    host = PopHost(passwords={"anna": "only-between-us"})

    def answer(request):
        good = request.endswith(b"\nwort\n")
        return (b"ADDRESS=anna\nPASSWD2=only-between-us\nOPTIONS=mailhost=pop3://127.0.0.1:%d\n.\n" % host.port
                if good else b"FAIL\n")
    daemon, port = Authdaemond(answer), free_port()
    make.started += [host, daemon]
    make.system(make.backend(), directory=[daemon], auth="both", pop3_listen_port=port, pop3_server_port=free_port())
    with Pop(port) as client:
        assert client.login("anna", "only-between-us").startswith(b"-ERR [AUTH]")
        assert client.login("anna", "wort").startswith(b"+OK")
        client.ok("RETR 1")
        assert b"<anna>" in client.rest()


# --- names ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("auth", ["backend", "both"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_challenged_clients_name_is_completed(start, backend, mechanism, auth):
    whole = "anna@example.org"
    system = start({whole: f"pw-{whole}"}, auth, **DOMAIN)
    for name in "Anna", whole, "ANNA@EXAMPLE.ORG":
        with system.client() as client:
            assert challenge.login(client, mechanism, name, f"pw-{whole}").ok
            client.logout()
        system.wait_given()
    assert users(backend) == [(whole, f"pw-{whole}".encode())], "one account, so one connection"
    with system.client() as client:
        assert challenge.login(client, mechanism, "ANNA", "x").tagged.startswith(WRONG)
    system.wait_log(f" user={whole} ")
    assert "user=ANNA" not in system.log_text()


def test_no_salt_tells_whether_two_names_are_one_account(start):
    """Accounts with stored keys have one salt however their names are written: so must all."""
    system = start({"anna@example.org": "x"}, "backend", **DOMAIN)
    for names in ("anna", "Anna@Example.org"), ("nobody", "NOBODY@example.org"):
        salts = set()
        for name in names:
            with system.client() as client:
                talk = challenge.Scram("SCRAM-SHA-256", name, "x")
                tag = challenge.begin(client, "SCRAM-SHA-256", talk.first())
                talk.final(challenge.prompt(client, tag))
                salts.add(talk.salt)
        assert len(salts) == 1


@pytest.mark.parametrize("mechanism", CRAMS)
def test_a_daemon_that_judges_a_challenge_is_told_the_whole_name(make, backend, mechanism):
    answers, whole = [], "anna@example.org"

    def answer(request):
        lines = request.split(b"\n")
        if lines[0].startswith(b"AUTH"):
            answers.append(base64.b64decode(lines[4]))
        return b"ADDRESS=anna@example.org\nOPTIONS=mailhost=" + at(backend).encode() + b"\n.\n"
    daemon, seen = Authdaemond(answer), []
    make.started.append(daemon)
    judge_master(backend, seen)
    system = make.system(backend, directory=[daemon], server_port=free_port(), auth_mechanisms=challenge.OFFERED,
                         **DOMAIN, **MASTER)
    with system.client() as client:
        tag = challenge.begin(client, mechanism)
        said = challenge.cram_answer(mechanism, "Anna", "tanstaaf", challenge.prompt(client, tag))
        challenge.say(client, said)
        assert client.reply(tag).ok
    assert answers == [whole.encode() + said[len("Anna"):]]
    assert seen == [(whole, MASTER["auth_sasl_plain_username"])]


@pytest.fixture
def pki():
    folder = temp_folder()
    authority, clients = certs.Authority(folder), certs.Authority(folder, "clients")
    authority.ours = authority.issue("127.0.0.1", file="ours")
    authority.clients = clients
    yield authority
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("auth", ["backend", "directory", "both"])
def test_a_certificates_name_is_completed(make, backend, pki, auth):
    """So is the authorization identity that must be the same."""
    whole, port = "anna@example.org", free_port()
    table = Passwords(backend, **{whole: (f"pw-{whole}", "")})
    make.started.append(table)
    make.system(backend, directory=[table], auth=auth, server_port=free_port(), imaps_listen_port=port,
                tls_server_cert_file=pki.ours.path, tls_server_key_file=pki.ours.key_path,
                tls_client_ca_file=pki.clients.path, tls_client_name="cn", auth_mechanisms="PLAIN EXTERNAL", **DOMAIN)
    for authzid, good in (("", True), ("anna", True), ("ANNA@example.org", True), ("bert", False), ("anna@other", False)):
        context = tls.context(pki, None, pki.clients.issue_to("Anna", subject=[(NameOID.COMMON_NAME, "Anna")]))
        sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        with Client(None, sock=context.wrap_socket(sock, server_hostname="127.0.0.1")) as client:
            assert client.command(b"AUTHENTICATE EXTERNAL " + (b64(authzid) if authzid else b"=")).ok is good, authzid
    assert set(users(backend)) == {(whole, f"pw-{whole}".encode())}
