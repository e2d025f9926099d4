"""Processes that misbehave toward the broker: each harms itself only.

The tests play a taken-over session process, or somebody who found the broker's sockets. What they do costs
them their own link; the broker lives on, a session of somebody else notices nothing, the next login works.
"""
import os
import resource
import socket
import struct
import subprocess
import time

import pytest

from keepwarm import messages, process
from keepwarm.imap import Client
from keepwarm.messages import ACCEPTED, FAILED, MSG_MAX, REFUSAL_ATTEMPTS, REFUSED, STALE, Peer, session
from keepwarm.process import cpu_share, fd_count, frozen, wait_until
from keepwarm.system import BUILD, System

ROOT_ONLY = pytest.mark.skipif(os.getuid() != 0, reason="only root has ids to drop")


class Scene:
    """A system with somebody else's session; check() says that neither has noticed anything."""

    def __init__(self, make, **config):
        self.backend = make.backend()
        self.system = make.system(self.backend, spare_processes="3 3", **config)
        self.bystander = self.system.session("bystander")
        self.bystander.ok("SELECT INBOX")
        self.broker = self.system.pids("cachebrokerd")

    def check(self, bad=None):
        """bad: so many messages must have been counted as bad."""
        assert b"<bystander>" in self.bystander.ok("FETCH 1 BODY[]").text
        with self.system.session("later") as client:
            client.ok("NOOP")
        assert self.system.pids("cachebrokerd") == self.broker, "the broker was restarted"
        if bad is not None:
            self.system.wait_counter("bad_messages", bad)


@pytest.fixture
def scene(make):
    return Scene(make)


def quiet_connection(system, user="mallory"):
    """Leaves a connection of the user in the cache."""
    system.session(user).logout()
    system.wait_cached(1)


def pair():
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


# --- messages out of turn -------------------------------------------------------------------------------
def outcome_accepted_twice(peer):
    peer.lease()
    peer.outcome(ACCEPTED)
    peer.outcome(ACCEPTED)


def another_outcome_after_accepted(peer):
    peer.lease()
    peer.outcome(ACCEPTED)
    peer.outcome(FAILED)


def outcome_without_a_lease(peer):
    peer.outcome(ACCEPTED)


def outcome_of_no_kind(peer):
    peer.lease()
    peer.outcome(99)


def a_fresh_lease_called_stale(peer):
    peer.lease()
    peer.outcome(STALE)


def returning_before_accepted(peer):
    peer.lease()
    peer.push("RETURNING")


def returning_without_a_lease(peer):
    peer.push("RETURNING")


def give_without_a_lease(peer):
    ours, _ = pair()
    peer.push("GIVE", fds=[ours.fileno()])


def give_before_returning(peer):
    leased = peer.lease()
    peer.outcome(ACCEPTED)
    peer.push("GIVE", fds=[leased.sock.fileno()])


def give_of_another_socket(peer):
    peer.lease()
    peer.outcome(ACCEPTED)
    peer.push("RETURNING")
    with socket.socket() as other:
        peer.push("GIVE", fds=[other.fileno()])


def give_without_a_descriptor(peer):
    peer.lease()
    peer.outcome(ACCEPTED)
    peer.push("RETURNING")
    peer.push("GIVE")


def give_twice(peer):
    leased = peer.lease()
    peer.outcome(ACCEPTED)
    peer.push("RETURNING")
    peer.push("GIVE", fds=[leased.sock.fileno()])
    peer.push("GIVE", fds=[leased.sock.fileno()])


def lease_while_leased(peer):
    peer.lease()
    peer.push("LEASE", serial=9, proof_kind=1, user="victim", secret="x")


def lease_after_give(peer):
    leased = peer.lease()
    peer.outcome(ACCEPTED)
    peer.push("RETURNING")
    peer.push("GIVE", fds=[leased.sock.fileno()])
    peer.push("LEASE", serial=9, proof_kind=1, user="victim", secret="x")


def lease_without_a_serial(peer):
    peer.push("LEASE", proof_kind=1, user="mallory", secret="x")


def lease_of_another_kind_of_proof(peer):
    peer.push("LEASE", serial=9, proof_kind=7, user="mallory", secret="x")


def lease_of_nobody(peer):
    peer.push("LEASE", serial=9, proof_kind=1, user="", secret="x")


def hello_twice(peer):
    peer.push("HELLO", serial=9, service=1)


def two_tallies(peer):
    peer.push("TALLY")
    peer.push("TALLY")


def a_tally_of_no_reason(peer):
    peer.push("TALLY", reason=4000)


OUT_OF_TURN = [outcome_accepted_twice, another_outcome_after_accepted, outcome_without_a_lease, outcome_of_no_kind,
               a_fresh_lease_called_stale, returning_before_accepted, returning_without_a_lease, give_without_a_lease,
               give_before_returning, give_of_another_socket, give_without_a_descriptor, give_twice, lease_while_leased,
               lease_after_give, lease_without_a_serial, lease_of_another_kind_of_proof, lease_of_nobody, hello_twice,
               two_tallies, a_tally_of_no_reason]


@pytest.mark.parametrize("act", OUT_OF_TURN, ids=lambda act: act.__name__)
def test_a_session_is_cut_off_for(make_once, act):
    scene = the_scene(make_once)
    before = scene.system.counter("bad_messages")
    with session(scene.system) as peer:
        act(peer)
        peer.expect_cut_off()
    scene.check(bad=before + 1)


def the_scene(make_once):
    """One system for all tests of a kind: what they do must leave no trace for the next one."""
    for thing in make_once.started:
        if isinstance(thing, System):
            return thing.scene
    scene = Scene(make_once, cache_expiration_time=0)
    scene.system.scene = scene
    return scene


def test_what_was_given_wrongly_goes_to_nobody(scene):
    """The lease of a cut-off session is closed, not cached."""
    for act in (give_of_another_socket, give_before_returning, another_outcome_after_accepted):
        with session(scene.system) as peer:
            act(peer)
            peer.expect_cut_off()
    with scene.system.session("mallory", reused=False):
        assert scene.system.gauge("cached") == 0


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


HELLO = messages.encode("HELLO", service=1)
NO_MESSAGES = {
    "another version": spoken("TALLY", version=2),
    "version 0": spoken("TALLY", version=0),
    "one descriptor too many": with_descriptors("TALLY", 1),
    "two descriptors": with_descriptors("GIVE", 2),
    "control data cut short": with_descriptors("GIVE", 3),
    "as many descriptors as go": with_descriptors("GIVE", 253),
    "no such type": raw(b"\x01\xc8" + bytes(6)),
    "reserved bytes set": raw(HELLO[:2] + b"\1\0" + HELLO[4:]),
    "a header cut short": raw(HELLO[:7]),
    "a message cut short": raw(HELLO[:-1]),
    "a byte too much": raw(HELLO + b"x"),
    "longer than any message": raw(bytes([1, 1]) + bytes(MSG_MAX)),
    "a text longer than its row allows": spoken("HELLO", service=1, client="x" * 65),
    "LISTENER": with_descriptors("LISTENER", 1),
    "KNOCK": with_descriptors("KNOCK", 1),
    "WORKER": spoken("WORKER"),
    "ACCOUNT": spoken("ACCOUNT", status=1, host="192.0.2.9"),
    "ADDRESSES": spoken("ADDRESSES", addresses="192.0.2.9"),
    "POOL": spoken("POOL", spare_least=1),
    "WELCOME": spoken("WELCOME"),
    "LEASED": with_descriptors("LEASED", 1),
}


@pytest.mark.parametrize("greeted", [True, False], ids=["after HELLO", "instead of HELLO"])
@pytest.mark.parametrize("what", NO_MESSAGES)
def test_a_session_is_cut_off_and_keeps_nothing_open_for(make_once, what, greeted):
    scene = the_scene(make_once)
    before = scene.system.counter("bad_messages")
    wait_until(lambda: scene.system.gauge("active") == 1, "an old session is still there")
    fds = fd_count(scene.broker[0])
    with (session if greeted else Peer)(scene.system) as peer:
        NO_MESSAGES[what](peer)
        peer.expect_cut_off()
    wait_until(lambda: fd_count(scene.broker[0]) == fds, "descriptors stay open in the broker")
    scene.check(bad=before + 1)


@pytest.mark.parametrize("role", ["listener", "lookup"])
@pytest.mark.parametrize("what", ["HELLO", "LEASE", "KNOCK"])
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


# --- bounds of one session ------------------------------------------------------------------------------
def test_a_session_has_so_many_leases(make):
    scene = Scene(make, login_attempts=2)
    with session(scene.system) as peer:
        for _ in range(2):
            peer.lease()
            peer.outcome(REFUSED)
        for _ in range(5):
            reply = peer.ask_lease()
            assert (reply.name, reply.reason) == ("REFUSED", REFUSAL_ATTEMPTS), reply
    scene.backend.wait_for(lambda: len(scene.backend.open_connections()) == 1, "a lease is left open")
    scene.check(bad=0)


def test_after_a_success_only_the_same_account(scene):
    quiet_connection(scene.system)
    with session(scene.system) as peer:
        assert peer.lease().cached == 1
        peer.outcome(STALE)
        reply = peer.ask_lease("victim")
        assert (reply.name, reply.reason) == ("REFUSED", REFUSAL_ATTEMPTS), reply
        assert peer.lease().cached == 0
    scene.check(bad=0)


def test_a_cached_connection_needs_the_right_secret(scene):
    quiet_connection(scene.system)
    with session(scene.system) as peer:
        assert peer.lease(password="pw-Mallory").cached == 0
    with scene.system.session("mallory", reused=True):
        pass
    scene.check(bad=0)


def test_an_accepted_login_is_counted_once(scene):
    scene.system.wait_counter("logins", 1)
    with session(scene.system) as peer:
        peer.lease()
        try:
            for _ in range(20):
                peer.outcome(ACCEPTED)
        except (BrokenPipeError, ConnectionResetError):
            pass  # cut off meanwhile
        peer.expect_cut_off()
    scene.check(bad=1)
    scene.system.wait_counter("logins", 3)  # the bystander's, this one and that of the check


def test_what_sessions_say_of_themselves_does_not_fill_the_cache(make):
    """HELLO with a user is what a session says that has outlived a broker: it costs the others nothing."""
    scene = Scene(make, cache_size=5)
    peers = [Peer(scene.system).hello(user=f"orphan{n}") for n in range(300)]
    with scene.system.session("anna") as client:
        client.ok("NOOP")
        client.logout()
    scene.check(bad=0)
    for peer in peers:
        peer.sock.close()
    wait_until(lambda: scene.system.gauge("active") == 1, lambda: f"still counted: {scene.system.stats()}")


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
        peer.expect_cut_off(deadline=5)
        scene.check(bad=1)
        assert time.monotonic() - begin < 5
    for _, other in pairs:
        other.close()


# --- floods ----------------------------------------------------------------------------------------------
def connect_without_a_word(system, count):
    """Connections to the session socket, as many as its backlog takes."""
    flood = []
    for _ in range(count):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        try:
            sock.connect(str(system.run_directory / "session"))
        except BlockingIOError:
            sock.close()
            break
        flood.append(sock)
    return flood


def logs_in(system):
    """Does a login succeed, or is the client told that there are too many?"""
    with system.client() as client:
        if client.greeting.startswith(b"* BYE "):
            return False
        return client.login("anna", "pw-anna").ok and client.ok("NOOP")


def hung_up(sock):
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False


@pytest.fixture
def small(make):
    """A system whose broker has few descriptors."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 700:
        pytest.skip("the flood needs 700 descriptors here")
    scene = Scene(make, prefix=["prlimit", "--nofile=400", "--"])
    scene.system.wait_log("into 400 descriptors")
    return scene


def test_a_flood_of_silent_peers_makes_the_broker_neither_spin_nor_forget_its_sessions(small):
    flood = connect_without_a_word(small.system, 500)
    assert len(flood) > 400
    wait_until(lambda: small.system.gauge("clients") >= 190, "the broker takes no peers any more")
    assert cpu_share(small.broker, 2) < 0.2
    assert b"<bystander>" in small.bystander.ok("FETCH 1 BODY[]").text
    assert fd_count(small.broker[0]) < 400
    for sock in flood:
        sock.close()
    wait_until(lambda: small.system.gauge("clients") < 10, "closed peers are still counted")
    small.check(bad=0)


def test_peers_that_say_nothing_are_cut_off_and_make_room(small):
    """The flood stays: it is cut off bit by bit, and those that come behind it are served. Who has said HELLO may be
    silent for as long as it likes."""
    greeted = session(small.system)
    greeted.sock.setblocking(False)
    begin = time.monotonic()
    flood = connect_without_a_word(small.system, 250)
    wait_until(lambda: hung_up(flood[0]), "the first silent peer is still there", deadline=14)
    assert time.monotonic() - begin > 8, "cut off too early"
    wait_until(lambda: logs_in(small.system), "those behind the flood are not served", deadline=5)
    wait_until(lambda: all(map(hung_up, flood)), "some silent peers are still there", deadline=14)
    assert not hung_up(greeted.sock)
    greeted.sock.close()
    small.check(bad=0)
    for sock in flood:
        sock.close()


# --- what a process holds --------------------------------------------------------------------------------
def shared_writable(pid):
    maps = process.read_proc(pid, "maps").decode()
    assert "[stack]" in maps, "the maps cannot be read"
    return [line for line in maps.splitlines() if line.split()[1].startswith("rw") and line.split()[1].endswith("s")]


@ROOT_ONLY
def test_a_process_that_serves_shares_no_memory_with_the_others(scene):
    listener = scene.system.listener_pid()
    assert shared_writable(listener), "the pool is elsewhere: this test proves nothing"
    with scene.system.client() as client:
        assert shared_writable(scene.system.pid_serving(client)) == []
    assert shared_writable(scene.system.pid_serving(scene.bystander)) == []


# --- ids ---------------------------------------------------------------------------------------------------
def status_of(pid):
    lines = process.read_proc(pid, "status").decode().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def serve_as_root(run_directory, sock, log):
    """proxyd as xinetd starts it: root, with the connection as fd 0."""
    with open(log, "ab") as file:
        return process.start([BUILD / "proxyd", "-r", run_directory, "-l", "syslog"], stdin=sock, stdout=file,
                             stderr=file)


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname(), timeout=10)
        return client, listening.accept()[0]


@ROOT_ONLY
def test_a_process_that_root_started_is_nobody_when_it_serves(make, backend):
    system = make.system(backend, run_listener="no")
    sock, served = tcp_pair()
    child = serve_as_root(system.run_directory, served, system.log)
    served.close()
    try:
        with Client(0, sock=sock) as client:
            status = status_of(child.pid)
            assert set(status["Uid"]) == {"65534"} and set(status["Gid"]) == {"65534"}, status
            assert set(status["Groups"]) <= {"65534"}, status
            assert status["NoNewPrivs"] == ["1"] and int(status["CapEff"][0], 16) == 0, status
            client.send("z LOGOUT\r\n")
        assert child.wait(10) is not None
    finally:
        child.kill()
        child.wait()


@pytest.fixture
def broker_of_nobody(make, backend):
    """A function that starts a broker, and nothing else, as an ordinary user; returns its folder."""
    started = []

    def start(**config):
        system = System(backend.port, **config)
        make.started.append(system)
        system.run_directory.mkdir()
        for path in (system.folder, system.run_directory):
            os.chown(path, 65534, 65534)
        with open(system.log, "ab") as log:
            started.append(process.start(
                ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--pdeathsig=KILL",
                 BUILD / "cachebrokerd", "-f", system.conf, "-r", system.run_directory, "-l", "stderr"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=system.environment()))
        wait_until(lambda: (system.run_directory / "session").is_socket(), system.log_text)
        return system

    yield start
    for child in started:
        child.terminate()
        child.wait(10)


@ROOT_ONLY
@pytest.mark.parametrize("config", [{"proc_username": "no-such-user"}, {"proc_groupname": "no-such-group"},
                                    {"proc_username": "root"}, {"proc_groupname": "root"}, {}],
                         ids=lambda config: " ".join(config.values()) or "nobody")
def test_a_process_that_root_started_does_not_stay_root(broker_of_nobody, config):
    """A broker that is no root itself cannot name anybody: the client is told BYE and nothing is read."""
    system = broker_of_nobody(**config)
    sock, served = tcp_pair()
    child = serve_as_root(system.run_directory, served, system.log)
    served.close()
    try:
        with Client(0, sock=sock, greet=False) as client:
            if config:
                assert client.read_to_end().startswith(b"* BYE ")
            else:  # else this test would prove nothing
                assert client.line().startswith(b"* OK ")
        assert child.wait(10) == (1 if config else 0)
        assert not config or "will refuse to serve" in system.log_text()
    finally:
        child.kill()
        child.wait()
