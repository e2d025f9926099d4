"""Replies that are late, or to nothing: of look-up workers to the broker, and of the broker to a session."""
import contextlib
import os
import re
import select
import shutil
import signal
import socket

import pytest

from keepwarm import process
from keepwarm.imap import Client
from keepwarm.messages import ACCEPTED, DEADLINE, Peer, session
from keepwarm.process import wait_until
from keepwarm.scene import serve_as_root, tcp_pair
from keepwarm.system import temp_folder


# --- replies that are late, or to nothing -----------------------------------------------------------------
class Worker(Peer):
    """A look-up worker of ours; the latest gets the next question."""

    def __init__(self, system):
        super().__init__(system, "lookup")
        self.push("WORKER")
        session(system).sock.close()  # when that has been served, we have been seen

    def account(self, serial, user, port, host="127.0.0.1"):
        self.push("ACCOUNT", serial=serial, status=1, hosts=f"0 {port} {host}", backend_user=user)


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


@contextlib.contextmanager
def asking(system, user, worker):
    """A client whose login the worker is asked about: what is known of before is not fresh any more."""
    while True:
        with system.client() as client:
            client.send(f"a1 LOGIN {user} pw-{user}\r\n")
            if worker.sock in select.select([worker.sock, client.sock], [], [], DEADLINE)[0]:
                yield client
                return


def test_a_question_that_workers_die_over_is_given_up(make, backend):
    """As many as there are may end by a reload; one more is no accident. What is known of before counts."""
    system = make.system(backend, lookup_ttl=1, lookup_processes=1)
    system.session("anna").close()
    for user, known in (("carl", False), ("anna", True)):
        with Worker(system) as first, Worker(system) as second, asking(system, user, second) as client:
            for worker in (second, first):
                assert worker.receive().user == user.encode()
                worker.sock.close()
            reply = client.reply("a1")
            assert reply.ok if known else reply.tagged.startswith(b"NO [UNAVAILABLE]"), reply
    with system.session("carl") as client:  # the other workers are there
        client.ok("NOOP")


def test_an_answer_that_comes_when_nobody_waits_any_more_is_nobody_elses(scene):
    system = scene.system
    with Worker(system) as worker:
        with system.client() as client:
            client.send("a1 LOGIN slow pw-slow\r\n")
            late = worker.receive()
            wait_until(lambda: system.gauge("clients") == 2, "the client is not counted")
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


def test_an_answer_of_before_a_reload_that_wants_tls_leads_nobody_into_clear_text(make):
    """And is forgotten: the next login is told by a worker that has the new settings."""
    backend = make.backend()
    system = make.system(backend, lookup_processes=1)
    with Worker(system) as worker, system.client() as client:
        client.send("a1 LOGIN anna pw-anna\r\n")
        question = worker.receive()
        system.write_config(server_tls="starttls", tls_verify_server="no")
        system.supervisor.send_signal(signal.SIGHUP)
        system.wait_log(": taken over")
        worker.account(question.serial, "anna", backend.port)
        assert client.reply("a1").tagged.startswith(b"NO [UNAVAILABLE]")
        assert not backend.logins
    with system.client() as client:
        assert not client.login("anna", "pw-anna").ok
        tried = rf"\(127\.0\.0\.1:{client.port}\) failed: .* refuses STARTTLS"
    # of this very login: how often TLS was tried in all depends on who was asked again, and on looks at the host
    wait_until(lambda: re.search(tried, system.log_text()), system.log_text)
    assert not backend.logins


@contextlib.contextmanager
def only_ours(system, count):
    """No look-up workers but so many of ours."""
    pids = system.pids("lookupd")
    master = next(pid for pid in pids if process.parent(pid) not in pids)
    workers = [pid for pid in pids if pid != master]
    with process.frozen(master), contextlib.ExitStack() as stack:
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(process.alive(pid) for pid in workers), "they live")
        yield [stack.enter_context(Worker(system)) for _ in range(count)]


@contextlib.contextmanager
def guessing(system, user, count):
    """So many sessions that wait for an answer about one account."""
    with contextlib.ExitStack() as stack:
        for number in range(count):
            guess = stack.enter_context(session(system))
            guess.push("LEASE", serial=9, proof_kind=1, user=user, secret=f"no-{number}")
        session(system).sock.close()  # when that has been served, they have been heard
        yield


def test_guesses_of_one_account_stand_behind_everybody_elses_first_question(make, backend):
    """One account's dear hash, or one that its directory is slow with, takes turns with the others."""
    system = make.system(backend, auth="directory", directory=["authdaemon:/nowhere"], server_port=1, lookup_processes=1)
    with only_ours(system, 1) as (worker,), guessing(system, "slow", 8), session(system) as anna, session(system) as bert:
        question = worker.receive()
        anna.push("LEASE", serial=9, proof_kind=1, user="anna", secret="pw-anna")
        bert.push("LEASE", serial=9, proof_kind=1, user="bert", secret="pw-bert")
        session(system).sock.close()
        asked = []
        for _ in range(4):
            worker.push("ACCOUNT", serial=question.serial, status=4)
            question = worker.receive()
            asked.append(question.user)
    assert asked == [b"anna", b"bert", b"slow", b"slow"]


def test_guesses_of_one_account_do_not_hold_all_workers(make, backend):
    system = make.system(backend, auth="directory", directory=["authdaemon:/nowhere"], server_port=1, lookup_processes=1)
    with only_ours(system, 3) as workers, guessing(system, "slow", 8), session(system) as anna:
        anna.push("LEASE", serial=9, proof_kind=1, user="anna", secret="pw-anna")
        first = [worker.receive().user for worker in ready(workers, 2)]
        assert sorted(first) == [b"anna", b"slow"]
        assert len(select.select([worker.sock for worker in workers], [], [], 0.1)[0]) == 0  # the third one is kept free
        with session(system) as bert:
            bert.push("LEASE", serial=9, proof_kind=1, user="bert", secret="pw-bert")
            (third,) = ready(workers, 1)
            assert third.receive().user == b"bert"


def test_a_worker_that_hangs_over_an_account_keeps_it_from_no_other(make, backend):
    """What it holds is no hash, so it is not counted as the account's share: whoever waits for that is next."""
    system = make.system(backend, auth="directory", directory=["authdaemon:/nowhere"], lookup_processes=1)
    with only_ours(system, 2) as workers, session(system) as first, session(system) as second:
        first.push("LEASE", serial=9, proof_kind=1, user="slow", secret="guess")
        (hangs,) = ready(workers, 1)
        (other,) = [worker for worker in workers if worker is not hangs]
        hangs.receive()
        assert not select.select([second.sock, other.sock], [], [], 1)[0]  # its time is over so much earlier
        second.push("LEASE", serial=9, proof_kind=1, user="slow", secret="guess")
        assert not select.select([other.sock], [], [], 0.1)[0]
        assert select.select([first.sock], [], [], DEADLINE)[0], "the first one is not given up"
        assert select.select([second.sock, other.sock], [], [], DEADLINE)[0] == [other.sock], "it is given up without being asked"


def ready(workers, count):
    """So many of them have been asked something."""
    socks = [worker.sock for worker in workers]
    wait_until(lambda: len(select.select(socks, [], [], 0)[0]) >= count, "they are not asked")
    found = select.select(socks, [], [], 0)[0]
    assert len(found) == count
    return [worker for worker in workers if worker.sock in found]


def test_a_worker_cannot_name_a_path(make):
    """Nor does "local" mean anything that the configuration has not said."""
    server = make.backend()
    folder = temp_folder()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "path"))
    (folder / "path").chmod(0o666)
    listener.listen(5)
    listener.setblocking(False)
    system = make.system(server, lookup_processes=1)
    for number, hosts in enumerate((f"0 143 unix:{folder}/path", f"0 0 unix:{folder}/path", f"local:{folder}/path",
                                    f"local unix:{folder}/path", "local", f"local local {folder}/path")):
        with Worker(system) as worker, system.client() as client:
            client.send(f"a1 LOGIN user{number} pw\r\n")
            question = worker.receive()
            worker.push("ACCOUNT", serial=question.serial, status=1, hosts=hosts, backend_user=question.user)
            assert client.reply("a1").tagged.startswith(b"NO [UNAVAILABLE]"), hosts
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert not server.logins
    shutil.rmtree(folder)


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


def test_workers_that_a_reload_ends_cost_no_login(make, backend):
    """Each one in turn may have got the question when it is told to end."""
    system = make.system(backend, lookup_ttl=1, lookup_processes=2)
    with Worker(system) as first, Worker(system) as second, asking(system, "carl", second) as client:
        for worker in (second, first):
            assert worker.receive().user == b"carl"
            worker.sock.close()
        assert client.reply("a1").ok
