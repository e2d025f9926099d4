"""Errands: LOGOUT on connections that leave the cache, by a process that the broker asks the listener for.

What comes over the sockets of other roles is in test_hostile_*.py."""
import os
import signal
import socket
import time

import pytest

from keepwarm import process
from keepwarm.backend import CLOSE, SILENCE
from keepwarm.messages import DONE_BADLY, DONE_WELL, Peer
from keepwarm.process import wait_until
from keepwarm.system import SANITIZED

ROOT_ONLY = pytest.mark.skipif(os.getuid() != 0, reason="only root may look at a process in the jail")
AT_ONCE, IN_LINE = 16, 16  # ERRANDS_MOST and WAITING_MOST of cachebrokerd/errand.c
JOB_LOGOUT = 1  # of enum msg_job


def leave(system, user="anna"):
    """Puts a connection of the user into the cache."""
    system.session(user).logout()
    system.wait_given()


def leave_many(system, count):
    """As many connections of as many users, one after the other into the cache."""
    clients = [system.session(f"u{number}") for number in range(count)]
    for client in clients:
        client.logout()
        system.wait_given()


def expire_now(system):
    """All connections in the cache have lain too long from now on."""
    system.write_config(cache_expiration_time=0)
    system.supervisor.send_signal(signal.SIGHUP)


def logouts(conn):
    return [command for command in conn.commands if command.verb == "LOGOUT"]


def errand_pid(system, backend, conn):
    """The process that holds our end of this connection, which must not be the broker."""
    def holder():
        inode = process.tcp_inode(conn.sock.getpeername()[1], backend.port)
        found = [pid for pid in system.pids("proxyd") if inode in process.socket_inodes(pid)]
        return found[0] if len(found) == 1 else None
    return wait_until(holder, "no process, or more than one, holds the connection")


def wait_counters(system, **wanted):
    system.wait_counters(**wanted)


def wait_closed(backend, *conns):
    backend.wait_for(lambda: all(conn.closed.is_set() for conn in conns), "still open")


# --- which connections are logged out -----------------------------------------------------------------------
def check_logged_out(backend, conn):
    """One LOGOUT under a tag of its own was the last thing said, then the end of the stream."""
    wait_closed(backend, conn)
    assert conn.verbs().count("LOGOUT") == 1 and conn.verbs()[-1] == "LOGOUT"
    tags = [command.tag for command in conn.commands]
    assert tags[-1].startswith(b"K") and len(tags[-1]) == 17 and tags.count(tags[-1]) == 1
    assert bytes(conn.received).endswith(tags[-1] + b" LOGOUT\r\n")


def test_an_expired_connection_is_logged_out(make, backend):
    system = make.system(backend, cache_expiration_time=1)
    leave(system)
    check_logged_out(backend, backend.connections[0])
    wait_counters(system, expired=1, errands=1, errands_failed=0, errands_dropped=0)


def test_the_stream_ends_after_logout_and_nothing_more_is_sent(make, backend):
    """The mail host leaves the closing to us."""
    at_end = []

    def answer(conn):
        conn.send(b"* BYE so long\r\n* OK one more\r\n" + conn.commands[-1].tag + b" OK done\r\n")
        at_end.append(conn.sock.recv(100))
        raise OSError

    backend.answers["LOGOUT"] = answer
    system = make.system(backend)
    leave(system)
    expire_now(system)
    backend.wait_for(lambda: at_end == [b""], "no end of the stream")
    wait_counters(system, errands=1, errands_failed=0)


def test_one_that_is_too_old_is_logged_out_when_it_would_be_used(make, backend):
    system = make.system(backend, cache_max_age=2)
    leave(system)
    system.client().expect_nothing(2.1)  # it has to grow old
    with system.session(reused=False) as client:
        check_logged_out(backend, backend.connections[0])
        wait_counters(system, expired=1, errands=1)
        client.expect_nothing(2.1)  # this one, too
        client.logout()
    check_logged_out(backend, backend.connections[1])
    wait_counters(system, errands=2, errands_failed=0)


def test_one_that_makes_room_is_logged_out(make, backend):
    system = make.system(backend, cache_size=1)
    leave(system, "one")
    with system.session("two"):
        check_logged_out(backend, backend.connections[0])
    wait_counters(system, evicted=1, errands=1, errands_failed=0)


def test_one_too_many_of_a_user_is_logged_out(make, backend):
    system = make.system(backend, cache_max_per_user=1)
    clients = [system.session() for _ in range(2)]
    for client in clients:
        client.logout()
        system.wait_given()
    check_logged_out(backend, backend.connections[0])
    wait_counters(system, evicted=1, errands=1, errands_failed=0)
    assert not backend.connections[1].closed.is_set()


@pytest.mark.parametrize("stray", [b"* BYE autologout\r\n", None], ids=["BYE", "close"])
def test_one_that_the_mail_host_ended_is_not(system, backend, stray):
    leave(system)
    if stray:
        backend.connections[0].push(stray)
    else:
        backend.connections[0].drop()
    system.wait_counter("died", 1)
    wait_closed(backend, *backend.connections)
    assert not logouts(backend.connections[0])
    wait_counters(system, errands=0, errands_dropped=0)


def test_without_a_listener_it_is_simply_closed(make, backend):
    system = make.system(backend, cache_expiration_time=6)
    leave(system)
    listener = system.listener_pid()
    with process.frozen(system.supervisor.pid):  # so that no other one comes
        os.kill(listener, signal.SIGTERM)
        wait_until(lambda: not process.alive(listener), "the listener is still there")
        wait_closed(backend, *backend.connections)
        assert not logouts(backend.connections[0])
        wait_counters(system, expired=1, errands=0, errands_dropped=1)


def test_a_stop_of_the_whole_closes_without_ado(make, backend):
    system = make.system(backend)
    leave(system)
    system.stop_and_keep()
    wait_closed(backend, *backend.connections)
    assert not logouts(backend.connections[0])


# --- mail hosts that do not play along ----------------------------------------------------------------------
def flood(data):
    """Answers without end; what was sent is in the connection's `sent`."""
    def answer(conn):
        conn.sent = 0
        while True:
            conn.send(data * 100)
            conn.sent += len(data) * 100
    return answer


WELL = {"EOF only": CLOSE, "BYE and EOF": lambda conn: (conn.send(b"* BYE\r\n"), conn.drop()),
        "a literal with a forged tag": b"* LIST () {16}\r\nTAG OK forged\r\n\r\n* BYE\r\nTAG OK done\r\n"}
BADLY = {"NO": b"TAG NO stay\r\n", "BAD": b"TAG BAD what\r\n", "half a line": lambda conn: (conn.send(b"* B"), conn.drop()),
         "lines": flood(b"* OK still here\r\n"), "a line": flood(b"x" * 100),
         "another's tag": flood(b"K0123456789abcdef OK no\r\n"), "a literal": flood(b"* 1 FETCH {99999999}\r\n")}


@pytest.mark.parametrize("answer", [*WELL, *BADLY])
def test_an_odd_answer_ends_the_errand_at_once(make, backend, answer):
    backend.answers["LOGOUT"] = {**WELL, **BADLY}[answer]
    system = make.system(backend)
    leave(system)
    expire_now(system)
    wait_counters(system, errands=1)
    wait_until(lambda: backend.connections[0].closed.is_set(), "still open", deadline=4)
    wait_counters(system, errands_failed=1 if answer in BADLY else 0)
    assert len(logouts(backend.connections[0])) == 1


def test_a_flood_is_not_read_to_its_end(make, backend):
    """What fits into the sockets' buffers may be written; the errand itself takes 64 KiB."""
    backend.answers["LOGOUT"] = flood(b"* OK still here\r\n")
    system = make.system(backend)
    leave(system)
    expire_now(system)
    wait_closed(backend, *backend.connections)
    assert backend.connections[0].sent < 20 << 20


def test_a_stuck_mail_host_holds_nothing_but_its_errand(make, backend):
    backend.answers["LOGOUT"] = SILENCE
    system = make.system(backend, backend_timeout=5, cache_size=2, spare_processes="3 3")
    for user in ("one", "two"):
        leave(system, user)
    expire_now(system)
    backend.wait_for(lambda: all(map(logouts, backend.connections)), "no LOGOUT")
    pids = {errand_pid(system, backend, conn) for conn in backend.connections}
    assert len(pids) == 2, "one process for each"
    with system.session("three", reused=False) as client:  # they do not count for cache_size, either
        with system.session("four", reused=False):
            client.ok("NOOP")
    wait_closed(backend, *backend.connections[:2])
    wait_counters(system, errands=2, errands_failed=2)
    wait_until(lambda: not any(map(process.alive, pids)), "an errand is left over")


def test_the_deadline_is_five_seconds_at_most(make, backend):
    gate = backend.gate("LOGOUT")
    system = make.system(backend, backend_timeout=600)
    leave(system)
    expire_now(system)
    gate.wait()
    wait_counters(system, errands_failed=1)
    system.wait_log("did not answer as it should")


# --- many at once -------------------------------------------------------------------------------------------
def test_more_than_may_run_wait_and_more_than_may_wait_are_closed(make, backend):
    count = AT_ONCE + IN_LINE + 3
    gate = backend.gate("LOGOUT")
    system = make.system(backend, cache_size=100, spare_processes="4 64")
    leave_many(system, count)
    broker = system.pids("cachebrokerd")[0]
    expire_now(system)
    wait_counters(system, expired=count, errands=AT_ONCE, errands_dropped=3)
    backend.wait_for(lambda: sum(map(len, map(logouts, backend.connections))) == AT_ONCE, "not so many LOGOUTs")
    fds = process.fd_count(broker)
    gate.open()
    wait_counters(system, errands=AT_ONCE + IN_LINE, errands_failed=0, errands_dropped=3)
    wait_closed(backend, *backend.connections)
    assert sum(map(len, map(logouts, backend.connections))) == AT_ONCE + IN_LINE
    wait_until(lambda: process.fd_count(broker) <= fds - AT_ONCE - IN_LINE, "descriptors stay open in the broker")


def test_a_burst_within_the_bounds_is_all_logged_out(make, backend):
    system = make.system(backend, cache_size=100, spare_processes="4 64")
    leave_many(system, AT_ONCE + IN_LINE)
    expire_now(system)
    wait_closed(backend, *backend.connections)
    for conn in backend.connections:
        check_logged_out(backend, conn)
    wait_counters(system, errands=AT_ONCE + IN_LINE, errands_failed=0, errands_dropped=0)


# --- the process --------------------------------------------------------------------------------------------
@pytest.fixture
def held(make, backend):
    """A system with an errand whose mail host holds its answer back: system, gate, its connection, its process."""
    gate = backend.gate("LOGOUT")
    system = make.system(backend)
    leave(system)
    expire_now(system)
    gate.wait()
    conn = backend.connections[0]
    yield system, gate, conn, errand_pid(system, backend, conn)
    gate.open()


def status_of(pid):
    lines = process.read_proc(pid, "status").decode().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def descriptors(pid):
    names = os.listdir(f"/proc/{pid}/fd")
    return {int(name): os.readlink(f"/proc/{pid}/fd/{name}") for name in names}


@ROOT_ONLY
def test_an_errand_is_locked_up(held):
    system, _, _, pid = held
    status = status_of(pid)
    assert status["NoNewPrivs"] == ["1"], status
    assert SANITIZED or status["Seccomp"] == ["2"], status
    assert "0" not in status["Uid"] + status["Gid"] and int(status["CapPrm"][0], 16) == 0, status
    assert pid != system.listener_pid() and status["PPid"] == [str(system.listener_pid())]


@ROOT_ONLY
def test_an_errand_holds_its_mail_host_and_its_link_and_nothing_else(held, backend):
    _, _, conn, pid = held
    fds = descriptors(pid)
    inode = process.tcp_inode(conn.sock.getpeername()[1], backend.port)
    assert set(fds) <= {0, 1, 2, 3, 4, 5}, fds
    assert fds[3] == f"socket:[{inode}]"
    assert fds[4] == fds[5] != fds[3], "the places where descriptors may be sent are the link's"
    maps = process.read_proc(pid, "maps").decode()
    assert "[stack]" in maps and not [line for line in maps.splitlines() if line.split()[1] == "rw-s"], \
        "it shares memory with the sessions' processes"


def check_it_holds_them_alone(system, backend, pid):
    conn = backend.connections[0]
    inode = process.tcp_inode(conn.sock.getpeername()[1], backend.port)
    link = int(descriptors(pid)[5].strip("socket:[]"))
    for other in system.pids():
        if other != pid:
            assert not {inode, link} & process.socket_inodes(other), f"{other} holds it, too"


@ROOT_ONLY
def test_nobody_else_holds_an_errands_connections(held, backend):
    system, _, _, pid = held
    check_it_holds_them_alone(system, backend, pid)


@ROOT_ONLY
def test_a_spare_that_is_forked_at_the_same_time_does_not_get_them(make, backend):
    gate = backend.gate("LOGOUT")
    system = make.system(backend, spare_processes="2 2")
    leave(system)
    with process.frozen(system.listener_pid()):
        client = system.client()  # takes a spare, which is to be replaced
        expire_now(system)
        wait_counters(system, errands=1)
        before = set(system.pids("proxyd"))
    gate.wait()
    wait_until(lambda: len(set(system.pids("proxyd")) - before) >= 2, "no errand and spare")
    check_it_holds_them_alone(system, backend, errand_pid(system, backend, backend.connections[0]))
    gate.open()
    client.close()


@ROOT_ONLY
def test_an_errand_that_is_killed_is_logged_and_counted_and_harms_nobody(held, backend):
    system, _, conn, pid = held
    os.kill(pid, signal.SIGKILL)
    system.wait_log(f"errand process {pid} was killed by signal 9")
    wait_counters(system, errands=1, errands_failed=1)
    backend.ungate("LOGOUT")
    wait_closed(backend, conn)
    wait_until(lambda: not process.read_proc(pid, "stat"), "a zombie is left")
    system.session("bert").logout()


def test_the_listener_may_end_in_the_middle_of_an_errand(held, backend):
    system, gate, conn, pid = held
    listener = system.listener_pid()
    os.kill(listener, signal.SIGTERM)
    wait_until(lambda: not process.alive(listener), "the listener is still there")
    assert process.alive(pid)
    gate.open()
    wait_counters(system, errands=1, errands_failed=0)
    wait_closed(backend, conn)
    wait_until(lambda: not process.alive(pid), "the errand is still there")
    wait_until(system.greets, "no listener came back")


def test_the_broker_may_be_killed_in_the_middle_of_an_errand(held, backend):
    """The job is finished all the same; the next broker begins with no errand."""
    system, gate, conn, pid = held
    broker = system.pids("cachebrokerd")
    os.kill(broker[0], signal.SIGKILL)
    wait_until(lambda: system.pids("cachebrokerd") not in ([], broker), "no new broker")
    assert process.alive(pid)
    gate.open()
    wait_closed(backend, conn)
    wait_until(lambda: not process.alive(pid), "the errand is still there")
    backend.ungate("LOGOUT")
    system.write_config(cache_expiration_time=300)
    system.supervisor.send_signal(signal.SIGHUP)
    wait_until(lambda: system.log_text().count("taken over") == 2, "no reload")
    system.session("bert").logout()


def test_an_errand_that_is_told_to_end_ends(held, backend):
    system, _, conn, pid = held
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not process.alive(pid), "the errand is still there", deadline=3)
    wait_counters(system, errands_failed=1)
    backend.ungate("LOGOUT")
    wait_closed(backend, conn)


def test_a_frozen_listener_costs_the_goodbye_and_nothing_else(make, backend):
    """Its errands are given up; when it wakes, what it was asked for is done all the same."""
    system = make.system(backend, backend_timeout=1)
    leave(system)
    broker = system.pids("cachebrokerd")[0]
    before = process.fd_count(broker)
    with process.frozen(system.listener_pid()):
        expire_now(system)
        wait_counters(system, errands=1, errands_failed=1)
        wait_until(lambda: process.fd_count(broker) <= before, "descriptors stay open in the broker")
    wait_closed(backend, *backend.connections)
    assert len(logouts(backend.connections[0])) == 1


# --- a listener and an errand that misbehave ------------------------------------------------------------------
class Asked:
    """What a listener of the test's own was asked for: the listener's peer, the errand's, the job with its socket."""

    def __init__(self, system, backend):
        self.system = system
        self.bystander = system.session("bystander")
        leave(system)
        self.conn = next(conn for conn in backend.connections if conn.user == "anna")
        self.broker = system.pids("cachebrokerd")
        self.listener = Peer(system, "listener")
        self.door, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.push("LISTENER", fds=[other.fileno()], sockets=1)
        other.close()
        assert [self.listener.receive().name for _ in range(2)] == ["WELCOME", "POOL"]
        expire_now(system)
        self.errand = self.wait_errand()

    def wait_errand(self):
        message = self.listener.receive()
        while message.name in ("WELCOME", "POOL"):  # the reload
            message = self.listener.receive()
        assert (message.name, message.uid) == ("ERRAND", 65534)
        return Peer(self.system, sock=message.sock)

    def check(self, bad):
        """Nobody else has noticed anything; so many messages were counted as bad; nothing is left."""
        self.bystander.ok("NOOP")
        with self.system.session("later") as client:
            client.ok("NOOP")
        assert self.system.pids("cachebrokerd") == self.broker, "the broker was restarted"
        wait_counters(self.system, bad_messages=bad)

    def close(self):
        for peer in (self.listener, self.errand):
            peer.sock.close()
        self.door.close()


@pytest.fixture
def asked(make, backend):
    asked = Asked(make.system(backend, backend_timeout=3), backend)
    yield asked
    asked.close()


def test_the_job_waits_in_the_errands_socket(asked):
    """The listener has been given a descriptor and nothing of what it is about."""
    job = asked.errand.receive()
    assert (job.name, job.kind, job.timeout) == ("JOB", JOB_LOGOUT, 3)
    assert job.sock.getpeername() == asked.conn.sock.getsockname()
    asked.errand.push("DONE", outcome=DONE_WELL)
    asked.errand.sock.close()
    job.sock.close()
    wait_counters(asked.system, errands=1, errands_failed=0)
    asked.check(bad=0)
    wait_until(asked.conn.closed.is_set, "the broker has kept a copy")


NOT_FROM_AN_ERRAND = {
    "LEASE": lambda peer: peer.push("LEASE", serial=9, proof_kind=1, user="victim", secret="pw-victim"),
    "HELLO": lambda peer: peer.push("HELLO", serial=9, service=1),
    "GIVE": lambda peer: peer.push("GIVE", fds=[peer.sock.fileno()]),
    "TALLY": lambda peer: peer.push("TALLY"),
    "LISTENER": lambda peer: peer.push("LISTENER", fds=[peer.sock.fileno()]),
    "KNOCK": lambda peer: peer.push("KNOCK", fds=[peer.sock.fileno()]),
    "ACCOUNT": lambda peer: peer.push("ACCOUNT", status=1, hosts="0 143 192.0.2.9"),
    "JOB": lambda peer: peer.push("JOB", fds=[peer.sock.fileno()], kind=1),
    "DONE with a descriptor": lambda peer: peer.push("DONE", fds=[peer.sock.fileno()], outcome=DONE_WELL),
    "DONE of no kind": lambda peer: peer.push("DONE", outcome=3),
    "DONE with a code": lambda peer: peer.push("DONE", outcome=DONE_BADLY, code=1),
    "no message": lambda peer: peer.send_bytes(b"bad"),
}


@pytest.mark.parametrize("what", NOT_FROM_AN_ERRAND)
def test_an_errand_is_cut_off_for(asked, what):
    job = asked.errand.receive()
    NOT_FROM_AN_ERRAND[what](asked.errand)
    asked.errand.expect_cut_off()
    wait_counters(asked.system, errands=1, errands_failed=1)
    asked.check(bad=1)
    job.sock.close()


def test_an_errand_has_one_outcome(asked):
    job = asked.errand.receive()
    asked.errand.push("DONE", outcome=DONE_BADLY)
    asked.errand.push("DONE", outcome=DONE_WELL)
    asked.errand.expect_cut_off()
    wait_counters(asked.system, errands=1, errands_failed=1)
    asked.check(bad=1)
    job.sock.close()


def test_an_errand_that_does_not_end_is_given_up(asked):
    job = asked.errand.receive()
    begin = time.monotonic()
    asked.errand.expect_cut_off(deadline=process.DEADLINE)  # its three seconds and five more
    assert time.monotonic() - begin > 6, "given up too early"
    wait_counters(asked.system, errands=1, errands_failed=1)
    asked.check(bad=0)
    job.sock.close()


def test_a_listener_that_throws_errands_away_loses_the_goodbye_only(asked):
    asked.errand.sock.close()
    wait_until(asked.conn.closed.is_set, "the connection is still open")
    wait_counters(asked.system, errands=1, errands_failed=1)
    asked.check(bad=0)


def test_a_peer_that_is_no_listener_yet_gets_no_errand(make, backend):
    """It has connected to the listeners' socket, and that is all."""
    system = make.system(backend)
    leave(system)
    with Peer(system, "listener") as silent:
        expire_now(system)
        check_logged_out(backend, backend.connections[0])
        silent.sock.settimeout(0)
        with pytest.raises(BlockingIOError):
            silent.sock.recv(1)
