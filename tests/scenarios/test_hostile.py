"""Processes that misbehave toward the broker: each harms itself only.

The tests play a taken-over session process, or somebody who found the broker's sockets. What they do costs
them their own link; the broker lives on, a session of somebody else notices nothing, the next login works.
"""
import contextlib
import os
import resource
import socket
import struct
import subprocess
import time

import pytest

from keepwarm import flood, messages, process
from keepwarm.flood import Flood
from keepwarm.imap import Client
from keepwarm.messages import (ACCEPTED, DEADLINE, FAILED, MSG_MAX, REFUSAL_ATTEMPTS, REFUSED, STALE, Door, Peer,
                               session)
from keepwarm.process import cpu_share, fd_count, frozen, wait_until
from keepwarm.system import BUILD, SANITIZED, System

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


def a_give_of_no_reason(peer):
    leased = peer.lease()
    peer.outcome(ACCEPTED)
    peer.push("RETURNING")
    peer.push("GIVE", fds=[leased.sock.fileno()], reason=4000)


def lease_while_leased(peer):
    peer.lease()
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
               give_before_returning, give_of_another_socket, give_without_a_descriptor, a_give_of_no_reason, lease_while_leased,
               lease_without_a_serial, lease_of_another_kind_of_proof, lease_of_nobody, hello_twice,
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


def take_greeting(sock):
    sock.settimeout(DEADLINE)
    assert sock.recv(4096).startswith(b"* OK")


def test_give_is_a_sessions_last_word(scene):
    """It gets no second lease, and nothing that it says afterwards is heard."""
    with session(scene.system) as peer:
        leased = peer.lease()
        take_greeting(leased.sock)
        peer.outcome(ACCEPTED)
        peer.push("RETURNING")
        peer.push("GIVE", fds=[leased.sock.fileno()])
        peer.expect_cut_off()
    wait_until(lambda: scene.system.gauge("cached") == 1, "the connection was not taken back")
    scene.check()


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
    "another version": spoken("TALLY", version=messages.VERSION + 1),
    "version 0": spoken("TALLY", version=0),
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
    "ACCOUNT": spoken("ACCOUNT", status=1, host="192.0.2.9"),
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


# --- bounds of one session ------------------------------------------------------------------------------
def test_a_thousand_guesses_over_one_connection_are_three(scene):
    with session(scene.system) as peer:
        assert guesses(peer, 1000) == 3
    scene.backend.wait_for(lambda: len(scene.backend.open_connections()) == 1, "a lease is left open")
    assert len(scene.backend.accepted) <= 6  # these, the bystander's, and looks whether the host is there
    scene.check(bad=0)


def test_who_goes_on_with_a_lease_of_before_has_no_further_one(scene):
    with Door(scene.system) as door, door.knock(user="victim") as peer:
        peer.push("LEASE", serial=9, proof_kind=1, user="mallory", secret="pw-mallory")
        peer.expect_cut_off()
    scene.check()


def test_a_connection_given_back_under_another_name_reaches_nobody(scene):
    """A process that has been taken over logs its lease in as somebody else."""
    with session(scene.system) as peer:
        leased = peer.lease(user="victim", password="a guess")
        speak_for(leased.sock, "mallory")
        peer.outcome(ACCEPTED)
        peer.push("RETURNING")
        peer.push("GIVE", fds=[leased.sock.fileno()])
        scene.system.wait_cached(1)
    with scene.system.session("victim", reused=False) as victim:
        victim.ok("SELECT INBOX")
        assert b"<victim>" in victim.ok("FETCH 1 BODY[]").text
    scene.check()


def speak_for(sock, user):
    """Logs a fresh backend connection in."""
    with Client(0, sock=sock.dup()) as client:
        assert client.login(user, f"pw-{user}").ok


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
    """KNOCK with a user is what a session says that has outlived a broker: it costs the others nothing."""
    scene = Scene(make, cache_size=5)
    with Door(scene.system) as door:
        for number in range(40):
            door.knock_in_a_process(user=f"orphan{number}")
        wait_until(lambda: scene.system.gauge("active") == 41, lambda: f"not all are there: {scene.system.stats()}")
        with scene.system.session("anna") as client:
            client.ok("NOOP")
            client.logout()
        scene.system.wait_cached(1)
        scene.check(bad=0)
    wait_until(lambda: scene.system.gauge("active") == 1, lambda: f"still counted: {scene.system.stats()}")


# --- replies that are late, or to nothing -----------------------------------------------------------------
class Worker(Peer):
    """A look-up worker of ours; the latest gets the next question."""

    def __init__(self, system):
        super().__init__(system, "lookup")
        self.push("WORKER")
        session(system).sock.close()  # when that has been served, we have been seen

    def account(self, serial, user, port, host="127.0.0.1"):
        self.push("ACCOUNT", serial=serial, status=1, host=host, host_port=port, backend_user=user)


@pytest.mark.parametrize("wrong", ["another serial", "no serial", "another kind", "nothing was asked"])
def test_a_worker_that_answers_out_of_turn_is_cut_off_and_its_question_goes_to_another(scene, wrong):
    system = scene.system
    with Worker(system) as worker, system.client() as client:
        if wrong == "nothing was asked":
            worker.account(1, "mallory", 1)
            worker.expect_cut_off()
        client.send("a1 LOGIN anna pw-anna\r\n")
        if wrong != "nothing was asked":
            question = worker.receive()
            assert (question.name, question.user) == ("LOOKUP", b"anna")
            if wrong == "another kind":
                worker.push("ADDRESSES", serial=question.serial, addresses="192.0.2.9")
            else:
                worker.account(question.serial + 1 if wrong == "another serial" else 0, "mallory", 1)
            worker.expect_cut_off()
        assert client.reply("a1").ok
    scene.check(bad=1)


def test_an_answer_that_comes_when_nobody_waits_any_more_is_nobody_elses(scene):
    system = scene.system
    with Worker(system) as worker:
        with system.client() as client:
            client.send("a1 LOGIN slow pw-slow\r\n")
            late = worker.receive()
        wait_until(lambda: system.gauge("clients") == 1, lambda: f"the client is still there: {system.stats()}")
        with system.session("anna") as client:  # another worker's question
            client.ok("NOOP")
        worker.account(late.serial, "mallory", 1, "192.0.2.9")
        with system.client() as client:
            client.send("a1 LOGIN slow pw-slow\r\n")
            question = worker.receive()
            assert question.user == b"slow" and question.serial != late.serial
            worker.account(question.serial, "slow", scene.backend.port)
            assert client.reply("a1").ok
    scene.check(bad=0)


class Broker:
    """The broker's part in one session, spoken by us: what it says late must not reach the session."""

    def __init__(self, folder):
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listening.bind(str(folder / "session"))
        self.listening.listen(5)
        self.listening.settimeout(DEADLINE)

    def welcome(self):
        peer = Peer(sock=self.listening.accept()[0])
        hello = peer.receive()
        assert hello.name == "HELLO"
        seconds = {name: 20 for name in ("login_timeout", "idle_timeout", "backend_timeout", "lease_timeout")}
        peer.push("WELCOME", serial=hello.serial, session=1, uid=65534, gid=65534, login_attempts=3, max_errors=10,
                  max_line_login=8192, **seconds)
        return peer


def test_a_late_reply_with_a_connection_is_dropped_with_it(backend, tmp_path):
    broker = Broker(tmp_path)
    sock, served = tcp_pair()
    child = serve_as_root(tmp_path, served, tmp_path / "log")
    served.close()
    try:
        link = broker.welcome()
        with Client(0, sock=sock) as client:
            client.send("a1 LOGIN anna pw-anna\r\n")
            lease = link.receive()
            assert lease.name == "LEASE"
            others, sent = socket.socketpair()
            link.push("LEASED", fds=[sent.fileno()], serial=lease.serial - 1, cached=1, host="late", host_port=1)
            link.push("LEASED", fds=[sent.fileno()], serial=0, cached=1, host="pushed", host_port=1)
            sent.close()
            with socket.create_connection(("127.0.0.1", backend.port)) as right:
                link.push("LEASED", fds=[right.fileno()], serial=lease.serial, host="127.0.0.1",
                          host_port=backend.port, backend_user="anna")
            assert client.reply("a1").ok
            client.ok("SELECT INBOX")
            assert b"<anna>" in client.ok("FETCH 1 BODY[]").text
            others.settimeout(DEADLINE)
            assert others.recv(100) == b"", "the late connection was used"
            assert link.receive().outcome == ACCEPTED
    finally:
        child.kill()
        child.wait()


# --- more than one knock -----------------------------------------------------------------------------------
def guesses(peer, count):
    """How many of so many guesses the broker lets this peer make."""
    made = 0
    for number in range(count):
        reply = peer.ask_lease("victim", f"guess {number}")
        if reply.name == "LEASED":
            reply.sock.close()
            peer.outcome(REFUSED)
            made += 1
        else:
            assert reply.reason == REFUSAL_ATTEMPTS, reply
    return made


def test_knocking_again_brings_no_further_guesses(scene):
    """A child that has been taken over puts one socket after the other through the door."""
    made = 0
    with Door(scene.system) as door:
        for _ in range(50):
            with door.knock() as peer:
                made += guesses(peer, 2)
    assert made == int(scene.system.config.get("login_attempts", 3))
    scene.check(bad=0)


def test_knocking_again_after_a_login_brings_no_lease_at_all(scene):
    """Else a login of its own would buy a child the guesses that it had used."""
    with Door(scene.system) as door:
        with door.knock() as peer:
            assert guesses(peer, 2) == 2
            peer.lease()
            peer.outcome(ACCEPTED)
        with door.knock() as peer:
            assert guesses(peer, 3) == 0
        with door.knock(user="mallory") as peer:  # as a session does that goes on
            peer.push("TALLY")
    scene.check(bad=0)


def test_a_process_has_one_socket_at_a_time(scene):
    before = scene.system.counter("bad_messages")
    with Door(scene.system) as door, door.knock() as first:
        for _ in range(3):
            with door.knock() as second:
                second.expect_cut_off()
        first.lease()
        first.sock.close()
        with door.knock() as later:  # at once: the broker may not have noticed yet
            later.push("TALLY")
    scene.check(bad=before + 3)


def test_sockets_that_guess_nothing_leave_nothing_behind(scene):
    with Door(scene.system) as door:
        for _ in range(50):
            door.knock().sock.close()
        with door.knock() as peer:
            assert guesses(peer, 4) == 3
    scene.check(bad=0)


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


def resident(pid):
    """Bytes of memory that the process uses."""
    return int(process.read_proc(pid, "statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("count, said, room", [(11000, b"", 8 << 20), (5000, HELLO, 24 << 20)],
                         ids=["that say nothing", "that say HELLO"])
def test_thousands_of_connections_keep_nobody_from_logging_in(scene, count, said, room):
    """Of those that say nothing, here more than max_clients, only some hundred are kept; those that say HELLO are
    sessions."""
    count = min(count, flood.most(), resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 3 if said else count)
    if count < 2000:
        pytest.skip(f"only {count} descriptors here")
    system, broker = scene.system, scene.broker[0]
    assert logs_in(system)
    wait_until(lambda: system.gauge("active") == 1, "an old session is still there")
    fds, memory = fd_count(broker) - system.gauge("cached"), resident(broker)
    with Flood(system.run_directory / "session", count, said) as many:
        logins, most_fds, most_memory = 0, 0, 0
        while not many.is_complete() or logins < 20:
            begin = time.monotonic()
            assert logs_in(system), f"refused after {logins} logins: {system.stats()}"
            assert time.monotonic() - begin < 5
            logins += 1
            most_fds, most_memory = max(most_fds, fd_count(broker)), max(most_memory, resident(broker))
        number = many.number()
        assert number == count
        if said:
            wait_until(lambda: system.gauge("clients") > count, "not all are sessions")
        scene.check()
        most_fds, most_memory = max(most_fds, fd_count(broker)), max(most_memory, resident(broker))
        print(f"{number} connections, meanwhile {logins} logins; broker: {most_fds} descriptors, "
              f"{(most_memory - memory) >> 10} KiB more")
    assert SANITIZED or most_memory - memory < room, f"{most_memory - memory} bytes more"
    assert said or most_fds < fds + 1000
    wait_until(lambda: fd_count(broker) - system.gauge("cached") <= fds,
               lambda: f"{fd_count(broker)} descriptors, and before it were {fds}: {system.stats()}")
    scene.check()


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
