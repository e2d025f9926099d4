"""Datagrams that are no message, and descriptors that bite, from whoever found the broker's sockets."""
import contextlib
import os
import socket
import struct
import subprocess
import time

import pytest

from keepwarm import messages, process
from keepwarm.messages import ACCEPTED, MSG_MAX, Peer, session
from keepwarm.process import fd_count, frozen, wait_until
from keepwarm.scene import HELLO, pair, status_of, the_scene


# --- datagrams that are no message ----------------------------------------------------------------------
def spoken(name, **values):
    return lambda peer: peer.send_bytes(messages.encode(name, **values))


def with_descriptors(name, count):
    def act(peer):
        ends = [end for _ in range((count + 1) // 2) for end in pair()]
        peer.send_bytes(messages.encode(name, serial=9), [end.fileno() for end in ends[:count]])
    return act


def raw(data):
    return lambda peer: peer.send_bytes(data)


NO_MESSAGES = {
    "another version": spoken("TALLY", msg_version=messages.VERSION + 1),
    "version 0": spoken("TALLY", msg_version=0),
    "one descriptor too many": with_descriptors("TALLY", 1),
    "two descriptors": with_descriptors("GIVE", 2),
    "control data cut short": with_descriptors("GIVE", 3),
    "as many descriptors as go": with_descriptors("GIVE", 253),
    "no such type": raw(bytes([messages.VERSION, 200]) + bytes(6)),
    "reserved bytes set": raw(HELLO[:2] + b"\1\0" + HELLO[4:]),
    "a header cut short": raw(HELLO[:7]),
    "a message cut short": raw(HELLO[:-1]),
    "a byte too much": raw(HELLO + b"x"),
    "longer than any message": raw(bytes([messages.VERSION, 1]) + bytes(MSG_MAX)),
    "a text longer than its row allows": spoken("HELLO", service=1, client="x" * 65),
    "LISTENER": with_descriptors("LISTENER", 1),
    "KNOCK": with_descriptors("KNOCK", 1),
    "WORKER": spoken("WORKER"),
    "ACCOUNT": spoken("ACCOUNT", status=1, hosts="0 143 192.0.2.9"),
    "ADDRESSES": spoken("ADDRESSES", addresses="192.0.2.9"),
    "POOL": spoken("POOL", spare_least=1),
    "DONE": spoken("DONE", outcome=1),
    "ERRAND": with_descriptors("ERRAND", 1),
    "JOB": with_descriptors("JOB", 1),
    "WELCOME": spoken("WELCOME"),
    "LEASED": with_descriptors("LEASED", 1),
}


@pytest.mark.parametrize("greeted", [True, False], ids=["after HELLO", "instead of HELLO"])
@pytest.mark.parametrize("what", NO_MESSAGES)
def test_a_session_is_cut_off_and_keeps_nothing_open_for(make_once, what, greeted):
    scene = the_scene(make_once)
    before = scene.system.counter("bad_messages")
    wait_until(lambda: scene.system.gauge("active") == 1, "an old session is still there")
    scene.system.wait_clients(1)
    fds = fd_count(scene.broker[0])
    with (session if greeted else Peer)(scene.system) as peer:
        NO_MESSAGES[what](peer)
        peer.expect_cut_off()
    wait_until(lambda: fd_count(scene.broker[0]) == fds, "descriptors stay open in the broker")
    scene.check(bad=before + 1)


OF_SESSIONS = ("HELLO", "LEASE", "OUTCOME", "RETURNING", "GIVE", "TALLY")


def test_every_number_that_is_no_message_of_a_session_cuts_it_off(make_once):
    """Those of other roles, of later versions (ADMIN), and all that mean nothing; with a body and without."""
    scene = the_scene(make_once)
    before = scene.system.counter("bad_messages")
    numbers = sorted(set(range(256)) - {messages.TABLE[name][0] for name in OF_SESSIONS})
    for number in numbers:
        for body in (b"", bytes(200)):
            with session(scene.system) as peer:
                peer.send_bytes(bytes([messages.VERSION, number]) + bytes(6) + body)
                peer.expect_cut_off()
    scene.check(bad=before + 2 * len(numbers))


@contextlib.contextmanager
def descriptor_limit(pid, most):
    """Inside the with block the process has only the descriptors below `most`. Its own user sets that: root may lack
    the right in a container."""
    uid, gid = (status_of(pid)[name][0] for name in ("Uid", "Gid"))
    become = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"] if os.getuid() == 0 else []

    def set_limit(soft):
        subprocess.run([*become, "prlimit", f"--pid={pid}", f"--nofile={soft}:"], check=True)

    before = next(line.split()[3] for line in process.read_proc(pid, "limits").decode().splitlines()
                  if line.startswith("Max open files"))
    set_limit(most)
    try:
        yield
    finally:
        set_limit(before)


def test_a_descriptor_that_does_not_fit_costs_the_connection_and_nothing_else(scene):
    """The broker's limit is lowered until it has no number free: the control data of a GIVE are truncated then."""
    broker = scene.broker[0]
    with session(scene.system) as peer:
        leased = peer.lease()
        peer.outcome(ACCEPTED)
        peer.push("RETURNING")
        wait_until(lambda: scene.system.gauge("active") == 2, "not leased")
        numbers = set(map(int, os.listdir(f"/proc/{broker}/fd")))
        with descriptor_limit(broker, next(number for number in range(10000) if number not in numbers)):
            peer.push("GIVE", fds=[leased.sock.fileno()])
            peer.expect_cut_off()
        leased.sock.close()
    scene.backend.wait_for(lambda: len(scene.backend.open_connections()) == 1, "the lost connection is open")
    with scene.system.session("mallory", reused=False):
        pass
    scene.check(bad=1)


@pytest.mark.parametrize("role", ["listener", "lookup"])
@pytest.mark.parametrize("what", ["HELLO", "LEASE", "KNOCK", "DONE"])
def test_other_sockets_have_other_roles(make_once, role, what):
    scene = the_scene(make_once)
    before = scene.system.counter("bad_messages")
    with Peer(scene.system, role) as peer:
        with_descriptors(what, 1 if what == "KNOCK" else 0)(peer)
        peer.expect_cut_off()
    scene.check(bad=before + 1)


def test_an_empty_datagram_is_a_hang_up(make_once):
    scene = the_scene(make_once)
    with session(scene.system) as peer:
        peer.send_bytes(b"")
        peer.expect_cut_off()
    scene.check()


# --- descriptors that bite ------------------------------------------------------------------------------
def lingering_socket():
    """A TCP socket with data that nobody takes and SO_LINGER: the last close() of it waits for half a minute.
    Returns it and the other end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
    sock.setblocking(False)
    try:
        while True:
            sock.send(bytes(65536))
    except BlockingIOError:
        pass
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 30))
    return sock, other


def in_a_message(name):
    def act(peer, fds):
        peer.send_bytes(messages.encode(name, serial=9), fds)
    return act


def behind_a_bad_message(peer, fds):
    """In the queue, which is thrown away with the link."""
    peer.send_bytes(b"bad")
    for fd in fds:
        peer.push("TALLY", fds=[fd])


def inside_another_socket(peer, fds):
    """In the queue of a socket that comes with a message."""
    ours, theirs = pair()
    socket.send_fds(ours, [b"x"], fds)
    peer.push("TALLY", fds=[theirs.fileno()])
    ours.close()
    theirs.close()


@pytest.mark.parametrize("role, count, act", [
    ("session", 1, in_a_message("HELLO")), ("session", 3, in_a_message("TALLY")), ("session", 1, in_a_message("GIVE")),
    ("session", 2, in_a_message("GIVE")), ("listener", 1, in_a_message("LISTENER")),
    ("lookup", 1, in_a_message("WORKER")), ("session", 5, behind_a_bad_message), ("session", 1, inside_another_socket),
], ids=["with HELLO", "three with TALLY", "with GIVE", "two with GIVE", "with LISTENER", "with WORKER", "in a queue",
        "inside another"])
def test_a_lingering_socket_does_not_hold_the_broker_up(scene, role, count, act):
    pairs = [lingering_socket() for _ in range(count)]
    with Peer(scene.system, role) as peer:
        with frozen(scene.broker[0]):  # so that the last close() is the broker's
            act(peer, [sock.fileno() for sock, _ in pairs])
            for sock, _ in pairs:
                os.close(sock.detach())
        begin = time.monotonic()
        peer.expect_cut_off(deadline=15)
        scene.check(bad=1)
        assert time.monotonic() - begin < 20
    for _, other in pairs:
        other.close()
