"""A planned restart: what is held for the next broker while this one waits for what cannot be asked for twice, and what is
not brought back to life."""
import contextlib
import os
import signal

import pytest

from keepwarm import process
from keepwarm.challenge import OFFERED, begin, prompt, verify
from keepwarm.directory import Passwords
from keepwarm.failures import sees_own_mail
from keepwarm.messages import REFUSAL_UNAVAILABLE, Door, session
from keepwarm.process import free_port, socket_inodes, wait_until
from keepwarm.relay import Relay, idle_binaries
from keepwarm.restart import broker, reload, restart, taken
from keepwarm.scene import tcp_pair

VERIFIED = 4  # enum msg_proof


@pytest.fixture
def directory(make, backend):
    table = Passwords(backend, anna=("pw-anna", ""))
    make.started.append(table)
    return table


@contextlib.contextmanager
def waiting_broker(system):
    """A broker that is told to end and waits, since a client's handshake is under way; behind it there is the next one."""
    with Relay(system, answer=None) as relay, session(system) as peer, contextlib.ExitStack() as stack:
        ours, theirs = (stack.enter_context(end) for end in tcp_pair())
        peer.push("TLS_ACCEPT", fds=[theirs.fileno()], serial=7, service=1)
        relay.wait_requests(1)
        before, old = taken(system), broker(system)
        os.kill(old, signal.SIGTERM)
        # the gate of sessions is shut first
        yield old
        wait_until(lambda: taken(system) > before, lambda: f"nothing is taken over:\n{system.log_text()}")
        assert broker(system) != old and ours


# --- what is held -------------------------------------------------------------------------------------------
def test_a_door_that_comes_in_that_second_is_the_next_brokers(make, backend):
    """What is said through it is heard once: a login that the old broker began would be lost with it."""
    backend.fill_backlog()
    system = make.system(backend, cache_expiration_time=0)
    with contextlib.ExitStack() as stack:
        with waiting_broker(system):
            peer = stack.enter_context(stack.enter_context(Door(system)).knock())
            peer.push("LEASE", serial=9, proof_kind=1, user="anna", secret="pw-anna")
        backend.accepting.set()
        assert peer.receive().name == "WELCOME"  # the next broker's settings have another name
        reply = peer.receive()
        assert (reply.name, reply.serial) == ("LEASED", 9), reply


def test_no_spare_connection_is_made_in_that_second(make, backend):
    system = make.system(backend, spare_backend_connections=1, cache_expiration_time=0)
    with system.session("anna"):
        pass
    wait_until(lambda: system.gauge("spares") == 1, lambda: f"no spare: {system.stats()}")
    count = len(backend.accepted)
    with waiting_broker(system) as old, process.frozen(system.supervisor.pid):
        backend.wait_for(lambda: not backend.open_connections(), "the spare is still open")
        wait_until(lambda: not socket_inodes(old), "the broker stays")
        assert len(backend.accepted) == count


# --- what is not brought back -------------------------------------------------------------------------------
def test_a_session_that_gave_a_challenge_up_goes_on(make, backend, directory):
    """The broker is not told that it did; a session in its middle could not."""
    system = make.system(backend, directory=[directory], server_port=free_port(), auth_mechanisms=OFFERED)
    with system.client() as client:
        tag = begin(client, "CRAM-MD5")
        prompt(client, tag)
        client.send("*\r\n")
        assert client.reply(tag).tagged.startswith(b"BAD")
        assert client.login("anna", "pw-anna").ok
        link = socket_inodes(system.pid_serving(client))
        restart(system)
        sees_own_mail(client, "anna")
        assert socket_inodes(system.pid_serving(client)) == link
        client.logout()
    system.wait_cached(1)


@pytest.mark.parametrize("reloaded", [False, True])
def test_who_was_verified_before_a_reload_is_not_afterwards(make, backend, directory, reloaded):
    """The directory that said so, or the mechanism, may be none any more."""
    system = make.system(backend, directory=[directory], server_port=free_port(), auth_mechanisms=OFFERED)
    with session(system) as peer:
        verify(peer)
        if reloaded:
            reload(system)
        restart(system)
        peer.push("LEASE", serial=9, proof_kind=VERIFIED, user="anna")
        answer = peer.receive()
        if reloaded:
            assert (answer.name, answer.reason) == ("REFUSED", REFUSAL_UNAVAILABLE)
        else:
            assert answer.name == "LEASED"
    assert not reloaded or not backend.accepted


@pytest.mark.parametrize("settled", [True, False])
def test_what_tls_was_made_with_before_a_reload_reached_tlsrelayd_is_not_reused(make, backend, settled):
    """It may be what the new settings forbid; the next broker knows no more than this one did."""
    system = make.system(backend, server_tls="implicit", tls_verify_server="no", binaries=idle_binaries())
    with Relay(system) as relay:
        system.wait_counter("tls_backend_handshakes", 1)  # the look at the start
        reload(system, tls_ciphers="HIGH")
        if settled:
            say_relay(system, relay, 5)
        with system.session("anna") as client:
            client.logout()
        system.wait_cached(1)
        restart(system)
        with Relay(system, hello=False) as relay:
            say_relay(system, relay, 6)
            with system.session("anna", reused=settled) as client:
                sees_own_mail(client, "anna")


def say_relay(system, relay, workers):
    """It has read the configuration, and the broker has heard that."""
    relay.push("RELAY", serves=1)
    relay.push("TLS_STATE", workers=workers)
    wait_until(lambda: system.gauge("tls_workers") == workers, "the broker does not hear tlsrelayd")
