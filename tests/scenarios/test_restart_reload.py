"""A planned restart with another configuration is as good as a reload; with the same one nothing of what was known is lost."""
import os

import pytest
from test_challenge_hostile import lease, step, verify
from test_tls_external import connect, external, offered, pki, reads_mail_of, start  # noqa: F401 (fixtures)

from keepwarm import trace
from keepwarm.challenge import OFFERED
from keepwarm.directory import Passwords
from keepwarm.failures import sees_own_mail
from keepwarm.messages import Door, session
from keepwarm.process import free_port, wait_until
from keepwarm.restart import restart, tamper, tampering_binaries

VERSION, DONE, DENIED = 1, 1, 2  # enum msg_admin; enum msg_report
UNAVAILABLE = 1  # enum msg_refusal


@pytest.fixture(params=[False, True], ids=["the same", "edited"])
def edited(request):
    return request.param


def go_on(system, edited):
    """A restart; the configuration is another one by then, or the same. Any key counts, as for a reload."""
    tamper(system, "own_config")
    if edited:
        system.write_config(cache_size=77)
    restart(system)
    assert ("the configuration is another one than before" in system.log_text()) == edited


# --- who was verified -------------------------------------------------------------------------------------------
def test_a_certificate_of_before(start, pki, edited):  # noqa: F811
    """Of a client that has not logged in. Whoever has is bound to his account."""
    system = start(binaries=tampering_binaries())
    with connect(system, pki, pki.anna) as client, connect(system, pki, pki.anna) as other:
        assert offered(client) and external(other).ok
        go_on(system, edited)
        if edited:
            restart(system)  # it is no better for another one
            assert external(client).tagged.startswith(b"NO [UNAVAILABLE]")
            assert client.login("anna", "pw-anna").ok
        else:
            assert external(client).ok
        reads_mail_of(other, "anna@example.test")
    assert system.counter("bad_messages") == 0


def test_other_authorities_in_the_same_file(start, pki, tmp_path):  # noqa: F811
    """What was verified with those of before is not believed."""
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(open(pki.clients.path, "rb").read())
    for path in (tmp_path, *tmp_path.parents):
        if str(path).startswith("/tmp/pytest"):
            path.chmod(0o755)
    system = start(tls_client_ca_file=trusted)
    with connect(system, pki, pki.anna) as client:
        assert offered(client)
        fresh = trusted.with_suffix(".new")
        fresh.write_bytes(open(pki.others.path, "rb").read())
        fresh.rename(trusted)
        restart(system)
        assert external(client).tagged.startswith(b"NO [UNAVAILABLE]")


def test_a_challenge_of_before(make, backend, edited):
    table = Passwords(backend, mallory=("pw-mallory", ""))
    make.started.append(table)
    system = make.system(backend, binaries=tampering_binaries(), directory=[table], server_port=free_port(),
                         auth_mechanisms=OFFERED)
    peer = session(system)
    verify(peer)
    go_on(system, edited)
    answer = lease(peer)
    if edited:
        assert (answer.name, answer.reason) == ("REFUSED", UNAVAILABLE), answer
        restart(system)
        assert lease(peer).name == "REFUSED"
        assert step(peer).name == "AUTH_STEP"  # and it may prove itself anew
    else:
        assert answer.name == "LEASED", answer
    assert system.counter("bad_messages") == 0


# --- what is known of accounts ----------------------------------------------------------------------------------
def break_down(table):
    """Whoever has it open, or opens it, gets nothing from it any more."""
    os.truncate(table.path, 0)


def test_accounts_that_are_known(make, backend, edited):
    """While the directory is away they can log in, as without a restart; behind a reload they could not."""
    table = Passwords(backend, anna=("", ""))
    make.started.append(table)
    system = make.system(backend, binaries=tampering_binaries(), directory=[table], server_port=free_port(), lookup_ttl=3600,
                         lookup_negative_ttl=3600)
    system.session("anna").logout()
    system.wait_cached(1)
    with system.client() as client:
        assert client.login("nobody", "pw").tagged.startswith(b"NO [AUTHENTICATIONFAILED]")
    break_down(table)
    for _ in range(2):  # what a successor was told it can tell
        go_on(system, edited)
        with system.client() as client:
            reply = client.login("anna", "pw-anna")
            if edited:
                assert reply.tagged.startswith(b"NO [UNAVAILABLE]"), reply
            else:
                assert reply.ok and reply.reused, reply
                sees_own_mail(client, "anna")
                client.logout()
                wait_until(lambda: system.gauge("active") == 0, "it is not given back")
        for user in ("nobody", "bert"):
            want = b"NO [AUTHENTICATIONFAILED]" if user == "nobody" and not edited else b"NO [UNAVAILABLE]"
            with system.client() as client:
                assert client.login(user, "pw").tagged.startswith(want)
        if edited:
            break


def test_a_password_that_the_directory_has_judged(make, backend):
    """It is known by its digest, and nowhere in the pack; a wrong one is not known."""
    table = Passwords(backend, anna=("pw-anna", ""))
    make.started.append(table)
    system = make.system(backend, binaries=tampering_binaries(), directory=[table], server_port=free_port(), auth="both",
                         lookup_ttl=3600)
    system.session("anna").logout()
    system.wait_cached(1)
    break_down(table)
    tamper(system, "look pw-anna")
    restart(system)
    system.wait_log("found []")
    with system.session("anna", reused=True):
        pass
    with system.client() as client:
        assert client.login("anna", "wrong").tagged.startswith(b"NO [UNAVAILABLE]")


# --- who may ask for what ---------------------------------------------------------------------------------------
def test_an_administrators_session_goes_on(make, backend):
    system = make.system(backend, enable_admin_commands="yes", admin_addresses="127.0.0.1")
    with system.client() as client:
        restart(system)  # which of the two brokers meets it is chance
        assert client.command("XPROXY_VERSION").ok
        restart(system)
        assert client.command("XPROXY_VERSION").ok
    assert trace.xproxy(system, "XPROXY_VERSION") == "OK Completed"


def test_whose_address_did_not_count_has_none_afterwards(make, backend):
    """Of the second socket of a process, and of one that is older than the broker."""
    system = make.system(backend, enable_admin_commands="yes", admin_addresses="192.0.2.1")
    peers = []

    def asks():
        return peers[-1].request("ADMIN", kind=VERSION).result

    def knock(address):
        def act():
            for old in peers:
                old.sock.close()
            peers.append(door.knock(client=address))
            return 0
        return act

    def restarts():
        return restart(system) or 0

    with Door(system) as door:
        older = door.knock(client="192.0.2.1")
        assert door.ask_in_a_process(knock("192.0.2.1"), asks, restarts, asks) == [0, DONE, 0, DONE]
        assert older.request("ADMIN", kind=VERSION).result == DENIED
    with Door(system) as door:
        peers.clear()
        assert door.ask_in_a_process(knock("192.0.2.2"), asks, knock("192.0.2.1"), asks, restarts, asks) == \
            [0, DENIED, 0, DENIED, 0, DENIED]
