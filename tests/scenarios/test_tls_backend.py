"""TLS toward mail hosts, as the broker sees it: tlsrelayd is a script that does no TLS (keepwarm/relay.py)."""
import os
import signal

import pytest

from keepwarm import relay as relays
from keepwarm.process import wait_until
from keepwarm.relay import Relay, failing, idle_binaries


def reload(system, **changes):
    system.write_config(**changes)
    before = system.log_text().count("taken over")
    system.supervisor.send_signal(signal.SIGHUP)
    wait_until(lambda: system.log_text().count("taken over") > before, lambda: "no reload:\n" + system.log_text())


@pytest.fixture
def tls(make):
    """A system whose mail host is spoken to with TLS, and the relay; the look at the start is behind it."""
    relay = None

    def start(mode="implicit", backend=None, answer="splice", **config):
        nonlocal relay
        backend = backend or make.backend()
        system = make.system(backend, binaries=idle_binaries(), server_tls=mode, **config)
        relay = Relay(system, serves=0, answer=answer)
        relay.wait_requests(1)
        if answer == "splice":  # with a reload in between the broker would look again
            system.wait_counter("tls_backend_handshakes", 1)
        return system, backend, relay
    yield start
    if relay:
        relay.die()


@pytest.mark.parametrize("mode", ["implicit", "starttls"])
def test_a_reused_login_makes_no_handshake(tls, mode):
    system, backend, relay = tls(mode)
    for reused in (False, True, True):
        with system.session("anna", reused=reused) as client:
            assert b"<anna>" in client.ok("SELECT INBOX").text + client.ok("FETCH 1 BODY[]").text
            client.logout()
        system.wait_given()
    assert len(relay.requests) == 2, "the look at the start, and one login"
    request = relay.requests[1]
    assert (request.name, request.mode) == ("TLS_CONNECT", relays.IMPLICIT if mode == "implicit" else relays.STARTTLS)
    assert (request.host, request.port, request.service) == (b"127.0.0.1", backend.port, 1)
    verbs = [command.verb for command in backend.connections[0].commands]
    assert ("CAPABILITY" in verbs) == (mode == "starttls"), "behind STARTTLS the list must be asked for"
    assert len(backend.logins) == 1
    system.wait_counter("tls_backend_handshakes", 2)
    assert system.counter("tls_backend_failed") == 0


def test_clear_text_is_never_spoken_when_tls_fails(tls):
    system, backend, relay = tls(answer=failing(relays.CERTIFICATE, "certificate has expired (tls_verify_server)"))
    with system.client() as client:
        reply = client.login("anna", "pw-anna")
        assert not reply.ok and b"[UNAVAILABLE]" in reply.tagged, reply
    assert backend.everything() == b""
    log = system.log_text()
    assert f"mail host 127.0.0.1:{backend.port} is not used, TLS failed: certificate has expired" in log
    assert "(tls_verify_server)" in log
    assert len(relay.requests) == 2
    system.wait_counters(tls_backend_failed=2, dials_failed=2)


def test_a_host_whose_certificate_is_bad_is_left_alone_for_host_retry(tls):
    system, backend, relay = tls(answer=failing(relays.CERTIFICATE, "wrong name"), host_retry=600, connect_retries=0)
    system.wait_log("TLS failed: wrong name")
    for _ in range(3):
        with system.client() as client:
            assert b"[UNAVAILABLE]" in client.login("anna", "pw-anna").tagged
    assert len(relay.requests) == 1
    assert system.log_text().count("TLS failed: wrong name") == 1
    wait_until(lambda: [host["state"] for host in system.stats()["hosts"]] == ["down"], lambda: f"{system.stats()}")
    assert backend.everything() == b""


def test_logins_of_a_reload_to_tls_do_not_get_what_was_cached_without(make):
    backend = make.backend()
    system = make.system(backend, binaries=idle_binaries())
    system.session("anna", reused=False).logout()
    system.wait_given()
    with system.session("bert") as late, Relay(system) as relay:
        reload(system, server_tls="implicit")
        system.wait_cached(0)
        with system.session("anna", reused=False) as client:
            client.logout()
        system.wait_given()
        assert len(relay.requests) == 1
        late.logout()  # leased before: it does not come back
        system.wait_counter("given", 2)
        system.session("bert", reused=False).logout()
        assert len(relay.requests) == 2


@pytest.mark.parametrize("change", [{"tls_verify_server": "yes"}, {"tls_ca_file": "/etc/hostname"},
                                    {"tls_min_version": "1.3"}, {"server_tls": "starttls"}, {"server_tls": "none"}])
def test_a_reload_that_changes_how_tls_is_made_ends_what_was_made_otherwise(tls, change):
    system, backend, relay = tls(tls_verify_server="no")
    system.session("anna", reused=False).logout()
    system.wait_given()
    with system.session("bert") as in_use:
        reload(system, **change)
        system.wait_cached(0)
        in_use.logout()
    with system.session("anna", reused=False):
        pass
    system.session("bert", reused=False)
    made = 1 if change == {"server_tls": "none"} else 2
    assert len(relay.requests) - 3 == (0 if made == 1 else 2), relay.requests
    system.wait_counter("flushed", 1)


def test_a_reload_that_changes_nothing_of_that_keeps_the_cache(tls, tmp_path):
    authorities = tmp_path / "authorities.pem"
    authorities.write_text("one")
    tmp_path.chmod(0o755)
    system, _, relay = tls(tls_ca_file=authorities)
    system.session("anna", reused=False).logout()
    system.wait_given()
    reload(system, login_timeout=77)
    system.session("anna", reused=True).logout()
    system.wait_given()
    assert len(relay.requests) == 2


def test_another_file_of_authorities_under_the_same_name_is_a_change(tls):
    system, _, relay = tls()
    authorities = system.folder / "authorities.pem"
    authorities.write_text("one")
    reload(system, tls_ca_file=authorities)
    system.session("anna", reused=False).logout()
    system.wait_given()
    other = system.folder / "other.pem"
    other.write_text("two!")
    other.rename(authorities)
    reload(system)
    system.wait_cached(0)
    system.session("anna", reused=False).logout()
    assert len(relay.requests) == 3


def test_an_idle_connection_that_sends_something_is_evicted(tls):
    system, backend, _ = tls()
    system.session("anna", reused=False).logout()
    system.wait_given()
    backend.connections[0].push(b"* BYE bored\r\n")
    system.wait_cached(0)
    system.wait_counter("died", 1)
    system.session("anna", reused=False)


def test_a_master_user_logs_in_behind_starttls(tls):
    master = {"auth_sasl_plain_username": "master", "auth_sasl_plain_password": "m", "auth_shared_secret": "shared"}
    system, backend, relay = tls("starttls", **master)
    backend.passwords["anna"] = b"m"
    with system.client() as client:
        assert client.login("anna", "shared").ok
    assert backend.logins[0].how == "PLAIN with initial response"
    assert len(relay.requests) == 2


def test_connections_survive_the_broker(tls):
    system, _, relay = tls()
    with system.session("anna") as client:
        (broker,) = system.pids("cachebrokerd")
        os.kill(broker, signal.SIGKILL)
        relay.wait_cut_off()
        client.ok("SELECT INBOX")
        assert b"<anna>" in client.ok("FETCH 1 BODY[]").text
        wait_until(lambda: system.pids("cachebrokerd") not in ([], [broker]), "no new broker")
        with Relay(system) as next_relay, system.session("bert", reused=False) as other:
            other.ok("NOOP")
            client.ok("NOOP")
            assert len(next_relay.requests) == 2


def test_what_was_made_before_tlsrelayd_has_read_the_settings_is_ended(tls):
    system, _, relay = tls(tls_verify_server="no")
    reload(system, tls_verify_server="yes")
    system.session("anna", reused=False).logout()
    system.wait_given()
    relay.push("RELAY", serves=0)
    system.wait_cached(0)
    system.session("anna", reused=False).logout()
    system.wait_given()
    relay.push("RELAY", serves=0)  # nothing has changed
    system.session("anna", reused=True)
