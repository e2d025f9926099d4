"""A session's process of POP3 that was taken over: what it says to the broker gets it neither a connection of IMAP, nor puts
one of its own where an IMAP login would find it."""
import socket

import pytest

from keepwarm import messages, process
from keepwarm.messages import ACCEPTED, Door, Peer
from keepwarm.pop3 import Host
from keepwarm.process import wait_until

IMAP, POP3 = 1, 2


@pytest.fixture
def scene(make):
    host = Host()
    system = make.system(make.backend(), pop3_listen_port=process.free_port(), pop3_server_port=host.port,
                         preauth_command="XSITE secret", log_format="keepwarm")
    system.host = host
    yield system
    host.stop()


def lease(system, service, user="anna"):
    peer = Peer(system).hello(service=service)
    return peer, peer.lease(user=user)


def test_a_lease_of_pop3_is_never_a_connection_of_imap(scene, make):
    """There is one in the cache, of the very same account and password."""
    backend = next(thing for thing in make.started if hasattr(thing, "connections"))
    backend.answers["XSITE"] = b"TAG OK\r\n"
    scene.session("anna").logout()
    scene.wait_cached(1)
    peer, leased = lease(scene, POP3)
    with peer:
        assert not leased.cached and leased.host_port == scene.host.port
        assert leased.preauth_command == b"", "the site's own command is one of IMAP"
        leased.sock.settimeout(process.DEADLINE)
        assert leased.sock.recv(100).startswith(b"+OK Host ready")
    assert scene.gauge("cached") == 1


@pytest.mark.parametrize("what", ["RETURNING", "GIVE", "UNTOUCHED"])
def test_a_connection_of_pop3_cannot_be_given_back(scene, what):
    peer, leased = lease(scene, POP3)
    with peer:
        peer.outcome(ACCEPTED)
        peer.push(what, fds=[] if what == "RETURNING" else [leased.sock.fileno()])
        peer.expect_cut_off()
    wait_until(lambda: scene.counter("bad_messages") == 1, "it is not counted")
    assert scene.gauge("cached") == 0 and scene.counter("given") == 0


@pytest.mark.parametrize("service", [0, 3, 0xffffffff])
def test_there_is_no_other_service(scene, service):
    with Peer(scene) as peer:
        peer.push("HELLO", serial=1, service=service, client=b"192.0.2.1", local=b"192.0.2.2")
        peer.expect_cut_off()
    with Door(scene) as door:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        door.sock.settimeout(process.DEADLINE)
        peer = Peer(sock=ours)
        socket.send_fds(door.sock, [knock(service, door.settings)], [theirs.fileno()])
        theirs.close()
        peer.expect_cut_off()


def knock(service, settings):
    return messages.encode("KNOCK", service=service, settings=settings, client=b"192.0.2.1", local=b"192.0.2.2")


def test_tls_is_asked_for_in_the_service_that_was_said(scene):
    ours, theirs = socket.socketpair()
    with Peer(scene).hello(service=POP3) as peer:
        peer.push("TLS_ACCEPT", fds=[theirs.fileno()], serial=9, service=IMAP, client=b"192.0.2.1")
        peer.expect_cut_off()
    ours.close()
    theirs.close()
