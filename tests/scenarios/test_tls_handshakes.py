"""TLS toward mail hosts with the real tlsrelayd: how many handshakes the mail host sees, and what a bad certificate does."""
import contextlib
import os
import signal
import ssl

import pytest

from keepwarm import certs
from keepwarm.process import wait_until

NAME = "127.0.0.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certs.Authority(tmp_path_factory.mktemp("certs"))


def context(mine):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(mine.path, mine.key_path)
    return made


@pytest.fixture
def start(make, authority):
    """start(mode, certificate, keys): a mail host with this certificate, and a system in front of it."""
    def begin(mode="implicit", mine=None, **config):
        backend = make.backend(greeting=b"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready\r\n")
        knob = "tls" if mode == "implicit" else "starttls"
        setattr(backend, knob, context(mine or authority.issue(NAME)))
        if mode == "implicit":
            backend.greeting = b"* OK [CAPABILITY " + backend.before.encode() + b"] ready\r\n"
        return backend, make.system(backend, server_tls=mode, tls_ca_file=authority.path, **config)
    return begin


def handshakes(backend, count):
    backend.wait_for(lambda: len(backend.handshakes) >= count, f"not {count} handshakes")
    assert len(backend.handshakes) == count


@pytest.mark.parametrize("mode", ["implicit", "starttls"])
def test_one_handshake_serves_all_logins(start, mode):
    backend, system = start(mode)
    handshakes(backend, 1)  # the look at the start
    for reused in (False, True, True, True):
        with system.session("anna", reused=reused) as client:
            assert b"<anna>" in client.ok("SELECT INBOX").text + client.ok("FETCH 1 BODY[]").text
            client.logout()
        system.wait_given()
    handshakes(backend, 2)
    assert len(backend.logins) == 1
    assert b"STARTTLS" in backend.everything() or mode == "implicit"


def test_a_fresh_dial_resumes_the_tls_session(start):
    backend, system = start()
    handshakes(backend, 1)
    for number in range(1, 4):
        with system.session(f"user{number}", reused=False) as client:
            client.ok("NOOP")
    handshakes(backend, 4)
    system.wait_counter("tls_backend_handshakes", 4)
    assert backend.handshakes[2:] == [True, True]
    assert system.counter("tls_backend_resumed") >= 2


@pytest.mark.parametrize("mode", ["implicit", "starttls"])
@pytest.mark.parametrize("bad", ["expired", "wrong name", "self-signed", "unknown authority"])
def test_a_bad_certificate_is_named_and_no_password_is_sent(start, authority, tmp_path, mode, bad):
    make_bad = {
        "expired": lambda: authority.expired(NAME, file="expired"),
        "wrong name": lambda: authority.issue("other.example.org"),
        "self-signed": lambda: certs.self_signed(tmp_path, NAME),
        "unknown authority": lambda: certs.Authority(tmp_path, "stranger").issue(NAME),
    }
    backend, system = start(mode, make_bad[bad]())
    with system.client() as client:
        assert b"[UNAVAILABLE]" in client.login("anna", "pw-anna").tagged
    log = system.log_text()
    assert f"mail host 127.0.0.1:{backend.port} is not used, TLS failed" in log
    assert "tls_" in log.partition("TLS failed")[2]
    assert not backend.logins and b"pw-anna" not in backend.everything()
    system.wait_counter("logins_failed", 1)


def test_verification_that_is_turned_on_ends_what_was_made_without(start, tmp_path):
    backend, system = start(mine=certs.self_signed(tmp_path, NAME), tls_verify_server="no")
    system.session("anna", reused=False).logout()
    system.wait_given()
    system.write_config(tls_verify_server="yes")
    system.supervisor.send_signal(signal.SIGHUP)
    system.wait_cached(0)
    wait_until(lambda: backend.accepted and not backend.open_connections(), "it was not closed")
    with system.client() as client:
        assert b"[UNAVAILABLE]" in client.login("anna", "pw-anna").tagged
    assert len(backend.logins) == 1


@pytest.mark.parametrize("mode", ["implicit", "starttls"])
def test_a_login_with_a_spare_makes_no_handshake(start, mode):
    backend, system = start(mode, spare_backend_connections=1, cache_expiration_time=0)
    with system.session("anna"):
        pass
    wait_until(lambda: system.gauge("spares") == 1, lambda: f"no spare: {system.stats()}\n{system.log_text()}")
    spare = backend.accepted[-1]
    before = len(spare.commands)
    with system.session("bert", reused=False):
        assert backend.logins[-1].conn is spare
        assert [command.verb for command in spare.commands[before:]] == ["AUTHENTICATE"]


def test_mail_hosts_that_hang_up_evict_what_is_cached(start):
    backend, system = start()
    system.session("anna", reused=False).logout()
    system.wait_given()
    backend.logins[-1].conn.drop()
    system.wait_cached(0)
    system.session("anna", reused=False).logout()


def test_tls_connections_live_on_without_the_broker(start):
    backend, system = start()
    with system.session("anna") as client:
        (broker,) = system.pids("cachebrokerd")
        os.kill(broker, signal.SIGKILL)
        client.ok("SELECT INBOX")
        assert b"<anna>" in client.ok("FETCH 1 BODY[]").text
        with system.session("bert", reused=False) as other:
            assert b"<bert>" in other.ok("SELECT INBOX").text + other.ok("FETCH 1 BODY[]").text
            client.ok("NOOP")
        wait_until(lambda: system.pids("cachebrokerd") not in ([], [broker]), "no new broker")
    assert len(backend.logins) == 2


def test_logins_wait_for_the_next_tlsrelayd(start):
    backend, system = start()
    system.session("anna", reused=False).logout()
    system.wait_given()
    relays = system.pids("tlsrelayd")
    for pid in relays:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    system.wait_cached(0)  # a killed process has its connections for a moment
    with system.session("anna", reused=False) as client:
        assert b"<anna>" in client.ok("SELECT INBOX").text + client.ok("FETCH 1 BODY[]").text
    assert len(backend.logins) == 2
    assert not set(relays) & set(system.pids("tlsrelayd"))
