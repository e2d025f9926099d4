"""Clients that show a certificate: who gets in by EXTERNAL, as whom, and who does not."""
import base64
import datetime
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keepwarm import certs, messages, process, restart, tls
from keepwarm import relay as relays
from keepwarm.directory import Passwords
from keepwarm.imap import Client, b64
from keepwarm.messages import Peer
from keepwarm.pop3 import Client as PopClient
from keepwarm.pop3 import Host
from keepwarm.process import DEADLINE, wait_until
from keepwarm.scene import tcp_pair
from keepwarm.system import temp_folder

MASTER, PASSWORD = "generalschluessel", "Hauptwort-5e0d77aa"
ANNA, BERTA = "anna@example.test", "berta@example.test"
EXTERNAL = 5  # PROOF_EXTERNAL of lib/msg.h
SHORT = 8  # seconds
WAYS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


class Pki:
    def __init__(self):
        self.folder = temp_folder()
        self.authority = certs.Authority(self.folder)
        self.ours = self.authority.issue("imap.example.test", "127.0.0.1", file="ours")
        self.clients, self.others = certs.Authority(self.folder, "clients"), certs.Authority(self.folder, "others")
        self.anna = self.clients.issue_to("anna", [ANNA])
        self.berta = self.clients.issue_to("berta", [BERTA])


@pytest.fixture(scope="module")
def pki():
    made = Pki()
    yield made
    shutil.rmtree(made.folder, ignore_errors=True)


class Office:
    """A mail host where the master user may log in for anybody, and anna with her password."""

    def __init__(self, backend):
        self.backend, self.seen = backend, []
        backend.answers["AUTHENTICATE"] = self.judge

    def judge(self, conn):
        command = conn.commands[-1]
        authzid, user, password = (part.decode() for part in base64.b64decode(command.args[1]).split(b"\0"))
        self.seen.append((authzid, user))
        good = (user, password) == (MASTER, PASSWORD) if authzid else password == f"pw-{user}"
        if not good:
            return conn.done(command, b"NO [AUTHENTICATIONFAILED] says the backend")
        conn.user = authzid or user
        return conn.done(command, b"OK [CAPABILITY " + self.backend.after.encode() + b"] says the backend")


@pytest.fixture
def start(make, pki):
    def begin(**config):
        backend = make.backend()
        office, port = Office(backend), process.free_port()
        system = make.system(backend, **{
            "imaps_listen_port": port, "tls_server_cert_file": pki.ours.path, "tls_server_key_file": pki.ours.key_path,
            "tls_client_ca_file": pki.clients.path, "auth_mechanisms": "PLAIN EXTERNAL",
            "auth_sasl_plain_username": MASTER, "auth_sasl_plain_password": PASSWORD, **config})
        system.imaps, system.office = port, office
        return system
    return begin


@pytest.fixture
def system(start):
    return start()


def connect(system, pki, shows=None, context=None, session=None, version=None, name="127.0.0.1"):
    context = context or tls.context(pki.authority, version, shows)
    sock = socket.create_connection(("127.0.0.1", system.imaps), timeout=DEADLINE)
    try:
        return Client(None, sock=context.wrap_socket(sock, server_hostname=name, session=session))
    except BaseException:
        sock.close()
        raise


def offered(client):
    return b"AUTH=EXTERNAL" in client.greeting


def external(client, authzid=""):
    return client.command(b"AUTHENTICATE EXTERNAL " + (b64(authzid) if authzid else b"="))


def reads_mail_of(client, user):
    client.ok("SELECT INBOX")
    assert f"<{user}>".encode() in client.ok("FETCH 1 BODY[]").text


def refused(system, pki, shows):
    """The handshake, or with TLS 1.3 the first answer, is a failure."""
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        with connect(system, pki, shows) as client:
            assert client.greeting
    wait_until(lambda: "reason=tls-failed" in system.log_text(), lambda: system.log_text())
    return re.findall(r"session ended .*reason=tls-failed.*", system.log_text())[-1]


# --- who gets in ----------------------------------------------------------------------------------------
@WAYS
def test_who_shows_a_certificate_is_logged_in_without_a_password(system, pki, version):
    for shows, name, authzid in (pki.anna, ANNA, ""), (pki.berta, BERTA, BERTA):
        with connect(system, pki, shows, version=version) as client:
            assert offered(client)
            assert external(client, authzid).ok
            reads_mail_of(client, name)
            client.logout()
        system.wait_given()
    assert system.office.seen == [(ANNA, MASTER), (BERTA, MASTER)]
    with connect(system, pki, pki.anna, version=version) as client:
        assert external(client).ok
        reads_mail_of(client, ANNA)
    system.wait_counter("logins_reused", 1)


def test_the_message_may_be_asked_for(system, pki):
    for message in b"", b64(ANNA):
        with connect(system, pki, pki.anna) as client:
            client.send(b"a AUTHENTICATE EXTERNAL\r\n")
            assert client.line() == b"+ \r\n"
            client.send(message + b"\r\n")
            assert client.reply("a").ok
            reads_mail_of(client, ANNA)


def test_starttls_is_as_good(system, pki):
    outer = Client(system.port)
    assert b"EXTERNAL" not in outer.greeting
    assert external(outer).tagged.startswith(b"NO ")
    outer.ok("STARTTLS")
    context = tls.context(pki.authority, shows=pki.anna)
    with Client(None, sock=context.wrap_socket(outer.sock, server_hostname="127.0.0.1"), greet=False) as client:
        assert b"AUTH=EXTERNAL" in client.ok("CAPABILITY").text
        assert external(client).ok
        reads_mail_of(client, ANNA)


def test_without_a_certificate_a_password_logs_in(system, pki):
    with connect(system, pki) as client:
        assert not offered(client)
        assert external(client).tagged.startswith(b"NO ")
        assert client.login("anna", "pw-anna").ok
    with connect(system, pki, pki.anna) as client:  # and with one it may, too
        assert client.login("berta", "pw-berta", "plain-initial").ok
        reads_mail_of(client, "berta")


def test_a_connection_that_a_password_made_is_not_the_certificates(start, pki):
    """Nor the other way round: who knows no password gets nothing of a session by certificate."""
    system = start(server_tls="none")
    with connect(system, pki, pki.anna) as client:
        assert external(client).ok
        client.logout()
    system.wait_given()
    with connect(system, pki) as client:
        for password in "", "x", PASSWORD:
            assert not client.login(ANNA, password, "plain-initial").ok
    with connect(system, pki) as client:
        assert client.login(ANNA, f"pw-{ANNA}", "plain-initial").ok
        client.logout()
    assert system.office.seen.count((ANNA, MASTER)) == 1
    assert "reused=yes" not in system.log_text()


@pytest.mark.parametrize("authzid", [BERTA, "anna", ANNA + "x", ANNA.upper(), ANNA[:-1], f"{ANNA}*x", "x" * 255])
def test_nobody_becomes_somebody_else(system, pki, authzid):
    with connect(system, pki, pki.anna) as client:
        assert external(client, authzid).tagged.startswith(b"NO [AUTHENTICATIONFAILED]")
    assert not system.office.seen
    assert "the certificate is another user's" in system.log_text()


@pytest.mark.parametrize("authzid", [ANNA + "\0", "\0" + ANNA, ANNA + "\0" + BERTA, "x" * 256])
def test_odd_messages_are_refused(system, pki, authzid):
    with connect(system, pki, pki.anna) as client:
        assert not external(client, authzid).ok
        assert client.command(b"AUTHENTICATE EXTERNAL ====").tagged.startswith(b"BAD")
        assert external(client).ok


def test_not_offered_where_it_is_not_wanted(start, pki):
    for change in {"auth_mechanisms": "PLAIN"}, {"tls_client_ca_file": None}:
        system = start(**change)
        with connect(system, pki, pki.anna) as client:
            assert not offered(client)
            assert external(client).tagged.startswith(b"NO ")
            assert client.login("anna", "pw-anna").ok


def test_without_a_master_user_nobody_can_log_in(start, pki):
    system = start(auth_sasl_plain_username=None, auth_sasl_plain_password=None)
    assert "EXTERNAL: nobody could log in at the mail host" in system.log_text()
    with connect(system, pki, pki.anna) as client:
        assert external(client).tagged.startswith(b"NO [UNAVAILABLE]")
    assert "needs a clear password in the directory, or a master user" in system.log_text()


def test_the_masters_name_may_stand_behind_the_users(start, pki):
    system = start(master_separator="*")
    system.office.backend.answers["AUTHENTICATE"] = lambda conn: conn.done(conn.commands[-1], (
        b"OK fine" if base64.b64decode(conn.commands[-1].args[1]).decode() == f"\0{ANNA}*{MASTER}\0{PASSWORD}" else b"NO no"))
    with connect(system, pki, pki.anna) as client:
        assert external(client).ok
    with connect(system, pki, pki.clients.issue_to("star", [f"{ANNA}*x"])) as client:
        assert external(client).tagged.startswith(b"NO [AUTHENTICATIONFAILED]")


def test_with_a_separator_nobody_tries_the_masters_password(start, pki):
    """The mail host may take a master user from our address only: then it is here that strangers could guess."""
    system = start(master_separator="*", server_tls="none")
    with connect(system, pki) as client:
        for name in f"{ANNA}*{MASTER}", f"*{MASTER}", "a*":
            assert client.login(name, PASSWORD).tagged == b"NO [AUTHENTICATIONFAILED] LOGIN failed"
    with connect(system, pki) as client:
        assert client.command(b"AUTHENTICATE PLAIN " + b64(f"\0{ANNA}*{MASTER}\0{PASSWORD}")).tagged.startswith(b"NO")
        assert client.login("anna", "pw-anna").ok
    assert [user for _, user in system.office.seen] == ["anna"]


@pytest.mark.parametrize("master", [False, True])
def test_a_directorys_clear_password_goes_before_the_master_user(start, make, pki, master):
    backend = make.backend()
    table = Passwords(backend, **{ANNA: (f"pw-{ANNA}", ""), BERTA: ("", "$1$x$y")})
    make.started.append(table)
    nobody = {} if master else {"auth_sasl_plain_username": None, "auth_sasl_plain_password": None}
    system = start(directory=[table], server_port=backend.port, **nobody)
    office = Office(backend)
    with connect(system, pki, pki.anna) as client:
        assert external(client).ok
        reads_mail_of(client, ANNA)
        client.logout()
    with connect(system, pki, pki.berta) as client:
        assert external(client).ok is master
    with connect(system, pki, pki.clients.issue_to("unknown", ["nobody@example.test"])) as client:
        assert external(client).tagged.startswith(b"NO [AUTHENTICATIONFAILED]")
    assert office.seen == [("", ANNA)] + [(BERTA, MASTER)] * master


# --- certificates -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("which, why", [
    ("self-signed", "its certificate is self-signed and not in tls_client_ca_file"),
    ("wrong authority", "its certificate leads to no authority in tls_client_ca_file: it was signed by others"),
    ("server's authority", "its certificate leads to no authority in tls_client_ca_file"),
    ("expired", "its certificate, or one above it, has expired"),
    ("to come", "its certificate is not valid yet"),
    ("a server's", "its certificate is not one for clients"),
])
def test_a_certificate_that_is_not_good_ends_the_handshake(system, pki, which, why):
    day = certs.DAY
    shows = {
        "self-signed": lambda: certs.self_signed(pki.folder, "x.example.test"),
        "wrong authority": lambda: pki.others.issue_to("wrong", [ANNA]),
        "server's authority": lambda: pki.authority.issue_to("wrong2", [ANNA]),
        "expired": lambda: pki.clients.issue_to("expired", [ANNA], begins=-3 * day, ends=-day),
        "to come": lambda: pki.clients.issue_to("tocome", [ANNA], begins=day),
        "a server's": lambda: pki.clients.issue_to("server", [ANNA], usage=ExtendedKeyUsageOID.SERVER_AUTH),
    }[which]()
    line = refused(system, pki, shows)
    assert f'tls_error="127.0.0.1: {why}' in line and "client=127.0.0.1" in line
    assert not system.office.seen


@pytest.mark.parametrize("kind, emails, subject, name", [
    ("email", ["first@example.test", "second@example.test"], [], "first@example.test"),
    ("email", [], [(NameOID.EMAIL_ADDRESS, ANNA)], ANNA),
    ("email", [ANNA], [(NameOID.EMAIL_ADDRESS, BERTA), (NameOID.COMMON_NAME, "berta")], ANNA),
    ("cn", [ANNA], [(NameOID.COMMON_NAME, "carla")], "carla"),
    ("cn", [], [(NameOID.COMMON_NAME, "Zo\u00eb")], "Zo\u00eb"),
    ("uid", [ANNA], [(NameOID.COMMON_NAME, "x"), (NameOID.USER_ID, "dora")], "dora"),
])
def test_which_name_is_the_users(start, pki, kind, emails, subject, name):
    system = start(tls_client_name=kind)
    with connect(system, pki, pki.clients.issue_to("named", emails, subject)) as client:
        assert offered(client) and external(client).ok
    assert system.office.seen == [(name, MASTER)]


@pytest.mark.parametrize("kind, emails, subject", [
    ("email", [ANNA + "\0.evil.example"], []),
    ("email", [ANNA + "\0.evil.example", ANNA], [(NameOID.EMAIL_ADDRESS, ANNA)]),
    ("email", ["anna\r\nx@example.test"], []),
    ("email", ["x" * 251 + "@a.bc"], []),
    ("email", [], []),
    ("email", [], [(NameOID.COMMON_NAME, "anna")]),
    ("cn", [ANNA], []),
    ("cn", [], [(NameOID.COMMON_NAME, "anna\0.evil")]),
    ("cn", [], [(NameOID.COMMON_NAME, "anna\x9b")]),
    ("uid", [], [(NameOID.USER_ID, "\0")]),
])
def test_a_name_that_no_user_can_have_is_nobodys(start, pki, kind, emails, subject):
    system = start(tls_client_name=kind)
    with connect(system, pki, pki.clients.issue_to("odd", emails, subject)) as client:
        assert not offered(client)
        assert external(client).tagged.startswith(b"NO ")
        assert client.login("anna", "pw-anna").ok
    system.wait_log("127.0.0.1: its certificate has no name that a user can have (tls_client_name)")
    assert all(not authzid for authzid, _ in system.office.seen)


def test_an_intermediate_authority_is_sent_along(system, pki):
    between = certs.Authority(pki.folder, "between", above=pki.clients)
    with connect(system, pki, between.issue_to("emma", ["emma@example.test"])) as client:
        assert external(client).ok


@WAYS
def test_whichever_of_our_names_a_client_asks_for(start, pki, version):
    """OpenSSL changes the context then, in the middle of the handshake."""
    second = pki.authority.issue("second.example.test", file="second")
    system = start(tls_server_cert_file=f"{pki.ours.path} {second.path}",
                   tls_server_key_file=f"{pki.ours.key_path} {second.key_path}")
    session, reused = None, []
    context = tls.context(pki.authority, version, pki.anna)
    for _ in range(2):
        with connect(system, pki, context=context, session=session, name="second.example.test") as client:
            assert client.sock.getpeercert()["subject"][0][0][1] == "second.example.test"
            assert offered(client) and external(client).ok
            session = client.sock.session
            reused.append(client.sock.session_reused)
    assert reused == [False, True]
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        with connect(system, pki, pki.others.issue_to("foreign", [ANNA]), name="second.example.test") as client:
            assert client.greeting
    wait_until(lambda: "it was signed by others" in system.log_text(), lambda: system.log_text())


# --- resumption -----------------------------------------------------------------------------------------
def resume(system, pki, first, version, shows=None):
    """A session as `first`'s, continued by one that shows another certificate or none."""
    context = tls.context(pki.authority, version, first)
    with connect(system, pki, context=context) as client:
        client.ok("NOOP")  # with TLS 1.3 the ticket comes behind the handshake
        session = client.sock.session
    assert session and session.has_ticket
    if shows:
        context.load_cert_chain(shows.path, shows.key_path)
    return lambda: connect(system, pki, context=context, session=session)


@WAYS
def test_a_resumed_session_is_the_same_users(system, pki, version):
    again = resume(system, pki, pki.anna, version)
    with again() as client:
        assert client.sock.session_reused and offered(client)
        assert external(client).ok
        reads_mail_of(client, ANNA)
    assert system.office.seen == [(ANNA, MASTER)]


@WAYS
def test_a_resumed_session_is_not_that_of_the_certificate_beside_it(system, pki, version):
    again = resume(system, pki, pki.anna, version, pki.berta)
    with again() as client:
        assert client.sock.session_reused
        assert external(client, BERTA).tagged.startswith(b"NO [AUTHENTICATIONFAILED]")
    again = resume(system, pki, None, version, pki.berta)
    with again() as client:
        assert client.sock.session_reused and not offered(client)
        assert external(client).tagged.startswith(b"NO ")


@WAYS
def test_a_certificate_that_expires_meanwhile_is_nobodys(system, pki, version):
    short = pki.clients.issue_to("short", [ANNA], ends=datetime.timedelta(seconds=SHORT))
    again = resume(system, pki, short, version)
    wait_until(lambda: datetime.datetime.utcnow() > short.cert.not_valid_after + datetime.timedelta(seconds=1),
               "time stands still")
    with again() as client:
        assert client.sock.session_reused and not offered(client)
        assert external(client).tagged.startswith(b"NO ")


def reload(system, **changes):
    def reloads():
        return len(re.findall(r"^tlsrelayd\[\d+\]: \S+ was read again", system.log_text(), re.MULTILINE))

    count = reloads()
    system.write_config(**changes)
    system.supervisor.send_signal(1)
    wait_until(lambda: reloads() > count, lambda: "no reload\n" + system.log_text())


@WAYS
def test_a_reload_with_other_authorities_believes_no_ticket(system, pki, version):
    again = resume(system, pki, pki.anna, version)
    reload(system, tls_client_ca_file=pki.others.path)
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        again()
    with connect(system, pki, pki.others.issue_to("otto", ["otto@example.test"])) as client:
        assert external(client).ok
    reload(system, tls_client_ca_file=None)
    with connect(system, pki, pki.anna) as client:
        assert not offered(client)


def test_a_reload_with_other_authorities_believes_no_certificate_of_before(system, pki):
    """Of a client that is there already, and has not logged in."""
    with connect(system, pki, pki.anna) as client, connect(system, pki, pki.anna) as other:
        assert offered(client) and external(other).ok
        before = system.log_text().count("taken over")
        reload(system, tls_client_ca_file=pki.others.path)
        wait_until(lambda: system.log_text().count("taken over") > before, lambda: system.log_text())
        assert external(client).tagged.startswith(b"NO [UNAVAILABLE]")
        assert client.login("anna", "pw-anna").ok
        reads_mail_of(other, ANNA)
    assert system.office.seen == [(ANNA, MASTER), ("", "anna")]


# --- POP3 -----------------------------------------------------------------------------------------------
def test_pop3(start, pki):
    host, port = Host(), process.free_port()

    def judge(conn):
        conn.answer(b"+ \r\n")
        assert base64.b64decode(conn.read_line()) == f"{ANNA}\0{MASTER}\0{PASSWORD}".encode()
        conn.user = ANNA
        conn.answer(b"+OK\r\n")
    host.answers["AUTH"] = judge
    start(pop3s_listen_port=port, pop3_server_port=host.port)

    def pop(shows):
        sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        return PopClient(None, sock=tls.context(pki.authority, shows=shows).wrap_socket(sock, server_hostname="127.0.0.1"))
    with pop(pki.anna) as client:
        client.ok("CAPA")
        assert b"SASL PLAIN EXTERNAL\r\n" in client.rest()
        assert client.say(b"AUTH EXTERNAL " + b64(BERTA)).startswith(b"-ERR [AUTH]")
        client.ok("AUTH EXTERNAL =")
        client.ok("RETR 1")
        assert ANNA.encode() in client.rest()
        client.ok("QUIT")
    with pop(None) as client:
        client.ok("CAPA")
        assert b"EXTERNAL" not in client.rest()
        assert client.say("AUTH EXTERNAL =").startswith(b"-ERR")
    host.stop()


# --- processes that lie -----------------------------------------------------------------------------------
def test_a_session_without_a_certificate_that_says_it_has_one_is_cut_off(system):
    for values in {}, {"authzid": ANNA}, {"secret": "x"}:
        with Peer(system).hello() as peer:
            peer.push("LEASE", serial=9, proof_kind=EXTERNAL, user=ANNA, **values)
            peer.expect_cut_off()
    wait_until(lambda: system.counter("bad_messages") == 3, "it is not counted")
    assert not system.office.seen and messages.VERSION


def test_a_broker_that_has_not_seen_the_certificate_does_not_believe_in_it(system, pki):
    """Its session goes on: what it says is not a lie, but of before."""
    with connect(system, pki, pki.anna) as client:
        assert offered(client)
        broker, = system.pids("cachebrokerd")
        os.kill(broker, signal.SIGKILL)
        wait_until(lambda: system.pids("cachebrokerd") not in ([], [broker]), "no other broker")
        for _ in range(2):
            assert external(client).tagged.startswith(b"NO ")
        assert client.login("anna", "pw-anna").ok
    assert all(not authzid for authzid, _ in system.office.seen)
    system.wait_counter("logins", 1)  # which was counted behind what it said before
    assert system.counter("bad_messages") == 0


def await_message(peer, name):
    while (message := peer.receive()).name != name:
        assert message.serial == 0, message
    return message


@pytest.mark.parametrize("settled", [True, False])
def test_who_was_verified_before_tlsrelayd_has_read_of_other_authorities_is_not(start, pki, settled):
    """tlsrelayd reads the file at its own time: until it says so, it verifies with those of before."""
    system = start(binaries=relays.idle_binaries())
    ours, theirs = tcp_pair()
    with ours, theirs, relays.Relay(system, answer=lambda relay, request: relay.splice(request, identity=ANNA)) as relay, \
            Peer(system).hello() as peer:
        def settle():
            relay.push("RELAY", serves=1)
            relay.push("TLS_STATE", workers=7)
            wait_until(lambda: system.gauge("tls_workers") == 7, "the broker does not hear tlsrelayd")
        restart.reload(system, tls_client_ca_file=pki.others.path)
        if settled:
            settle()
        peer.push("TLS_ACCEPT", fds=[theirs.fileno()], serial=8, service=1)
        assert await_message(peer, "TLS_READY").identity == ANNA.encode()
        settle()
        peer.push("LEASE", serial=9, proof_kind=EXTERNAL, user=ANNA)
        while (answer := peer.receive()).serial != 9:
            assert answer.serial == 0
        assert answer.name == ("LEASED" if settled else "REFUSED")
    assert bool(system.office.seen) == settled


# --- real clients -----------------------------------------------------------------------------------------
@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_curl(system, pki):
    command = ["curl", "-sS", "--cacert", pki.authority.path, "--cert", pki.anna.path, "--key", pki.anna.key_path,
               "--login-options", "AUTH=EXTERNAL"]
    for more in ["-u", f"{ANNA}:"], ["-u", ":"]:
        run = subprocess.run([*command, *more, f"imaps://127.0.0.1:{system.imaps}/INBOX;MAILINDEX=1"], capture_output=True,
                             timeout=DEADLINE, check=False)
        assert run.returncode == 0 and f"<{ANNA}>".encode() in run.stdout, run
    assert set(system.office.seen) == {(ANNA, MASTER)}


@pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl")
def test_openssl_s_client(system, pki):
    run = subprocess.run(["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{system.imaps}", "-CAfile", pki.authority.path,
                          "-cert", pki.anna.path, "-key", pki.anna.key_path],
                         input=b"a AUTHENTICATE EXTERNAL =\r\nb LOGOUT\r\n", capture_output=True, timeout=DEADLINE, check=False)
    assert b"a OK" in run.stdout and b"b OK" in run.stdout, run
