"""TLS with clients while things die, come anew and end; the mail host is a script."""
import os
import shutil
import signal
import ssl
import threading

import pytest

from keepwarm import dovecot, process, tls
from keepwarm.process import wait_until
from keepwarm.tls_site import facing, masters, pki, serial, workers  # noqa: F401 (fixtures)

pytestmark = pytest.mark.skipif(dovecot.missing() is not None, reason=str(dovecot.missing()))


class Load:
    """Clients with TLS that say NOOP until they are told to end."""

    def __init__(self, system, authority, count):
        self.done, self.turns, self.lost = threading.Event(), [0] * count, {}
        self.clients = [tls.imaps(system.imaps, authority) for _ in range(count)]
        for client in self.clients:
            assert client.login("anna", "pw-anna").ok
        self.threads = [threading.Thread(target=self.work, args=(n,)) for n in range(count)]
        for thread in self.threads:
            thread.start()

    def work(self, number):
        client = self.clients[number]
        try:
            while not self.done.is_set():
                client.ok("NOOP")
                self.turns[number] += 1
        except (OSError, AssertionError) as problem:
            self.lost[number] = problem

    def wait_turns(self, more=20):
        """Every client that is still there has said NOOP so many times more."""
        goal = [turns + more for turns in self.turns]
        wait_until(lambda: all(n in self.lost or turns >= goal[n] for n, turns in enumerate(self.turns)),
                   lambda: f"{self.turns}, {self.lost}")

    def end(self):
        self.done.set()
        for thread in self.threads:
            thread.join(process.DEADLINE)
        for client in self.clients:
            client.close()


@pytest.fixture
def load(pki):
    made = []

    def start(system, count):
        made.append(Load(system, pki.authority, count))
        return made[-1]
    yield start
    for one in made:
        one.end()


def test_a_killed_worker_takes_only_its_own_sessions(facing, make, load, pki):
    system = facing(make.backend(), tls_sessions_per_worker=2)
    clients = load(system, 8)
    clients.wait_turns()
    before = workers(system)
    assert len(before) >= 4, before
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: clients.lost, "nobody noticed")
    clients.wait_turns()
    assert 1 <= len(clients.lost) <= 2, clients.lost
    with tls.imaps(system.imaps, pki.authority) as client:
        assert client.login("anna", "pw-anna").ok
    system.wait_counter("tls_workers_lost", 1)
    clients.end()
    assert len(clients.lost) <= 2, clients.lost


@pytest.mark.parametrize("program", ["tlsrelayd", "cachebrokerd", "listener"])
def test_who_dies_is_replaced_and_sessions_in_tls_go_on(facing, make, load, pki, program):
    system = facing(make.backend())
    clients = load(system, 4)
    clients.wait_turns()
    before = {"tlsrelayd": lambda: masters(system)[0], "cachebrokerd": lambda: system.pids("cachebrokerd")[0],
              "listener": system.listener_pid}[program]()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: not process.alive(before), "it lives")

    def serves():
        try:
            with tls.imaps(system.imaps, pki.authority) as client:
                return client.login("anna", "pw-anna").ok
        except (OSError, AssertionError):
            return False
    wait_until(serves, system.log_text)
    clients.wait_turns()
    clients.end()
    assert not clients.lost


def test_sessions_in_tls_outlive_the_supervisor_and_the_next_one_starts(facing, make, pki):
    system = facing(make.backend())
    with tls.imaps(system.imaps, pki.authority) as client:
        assert client.login("anna", "pw-anna").ok
        old = [*system.pids("tlsrelayd"), *system.pids("cachebrokerd")]
        os.kill(system.supervisor.pid, signal.SIGKILL)
        system.supervisor.wait()
        system.start()  # the old listener's spares may still greet
        wait_until(lambda: system.log_text().count("is ready") == 2, system.log_text)
        with tls.imaps(system.imaps, pki.authority) as other:
            assert other.login("berta", "pw-berta").ok
            client.ok("NOOP")
            client.logout()
        wait_until(lambda: not any(map(process.alive, old)), lambda: f"{old}: {system.programs()}\n{system.log_text()}")


def test_a_new_certificate_comes_with_sighup_and_nobody_is_disturbed(facing, make, load, pki):
    folder = pki.folder / "renewed"
    folder.mkdir()
    shutil.copy(pki.ours.both_path, folder / "both")
    system = facing(make.backend(), tls_server_cert_file=folder / "both", tls_server_key_file=None)
    clients = load(system, 8)
    clients.wait_turns()
    shutil.copy(pki.next.both_path, folder / "new")
    os.replace(folder / "new", folder / "both")
    system.supervisor.send_signal(signal.SIGHUP)

    def is_new():
        with tls.imaps(system.imaps, pki.authority) as client:
            assert client.login("anna", "pw-anna").ok
            return serial(client) == pki.next.cert.serial_number
    wait_until(is_new, "the old certificate is shown")
    clients.wait_turns()
    assert {serial(client) for client in clients.clients} == {pki.ours.cert.serial_number}
    clients.end()
    assert not clients.lost


def test_sessions_get_their_bye_through_tls_when_all_ends(facing, make, pki):
    system = facing(make.backend())
    with tls.imaps(system.imaps, pki.authority) as client:
        assert client.login("anna", "pw-anna").ok
        system.supervisor.terminate()
        client.expect(rb"\* BYE [^\r]*\r\n")
        client.expect_close()  # with close_notify: Python's TLS takes no other end


def test_a_bye_arrives_through_a_worker_that_is_late(facing, make, pki):
    """The sessions are gone when it gets to their last words, and it has been told to end."""
    system = facing(make.backend())
    with tls.imaps(system.imaps, pki.authority) as client:
        assert client.login("anna", "pw-anna").ok
        with process.frozen(*workers(system)):
            system.supervisor.terminate()
            wait_until(lambda: set(system.programs()) == {"in.imapproxyd", "tlsrelayd"}, lambda: system.programs())
        client.expect(rb"\* BYE [^\r]*\r\n")
        client.expect_close()


# --- the workers of mail hosts ----------------------------------------------------------------------
def visit_once(system, user):
    """One session; "ok", or what the client was told instead."""
    try:
        with system.client() as client:
            reply = client.login(user, f"pw-{user}")
            if not reply.ok:
                return reply.tagged.decode()
            client.ok("NOOP")
            client.logout()
            return "ok"
    except (OSError, AssertionError):
        return "ended"


def test_killed_workers_of_mail_hosts_cost_no_login(make, pki):
    """Sessions on them end, with a word; what was cached on them is not lent to anybody; all else goes on."""
    backend = make.backend()
    backend.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    backend.tls.load_cert_chain(pki.good.path, pki.good.key_path)
    system = make.system(backend, server_tls="implicit", tls_ca_file=pki.authority.path, tls_sessions_per_worker=3)
    done, told, lock = threading.Event(), [], threading.Lock()

    def work(user):
        while not done.is_set():
            result = visit_once(system, user)
            with lock:
                told.append(result)
    threads = [threading.Thread(target=work, args=(f"user{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    killed = 0
    try:
        while killed < 10:
            before = len(told)
            wait_until(lambda: told[before:].count("ok") > 12, lambda: f"{told[before:]}\n{system.log_text()}")
            for victim in workers(system)[:1]:
                os.kill(victim, signal.SIGKILL)
                killed += 1
    finally:
        done.set()
        for thread in threads:
            thread.join(process.DEADLINE)
    assert set(told) <= {"ok", "ended"}, {result: told.count(result) for result in set(told)}
    assert told.count("ended") <= 3 * killed, f"{told.count('ended')} by {killed}"
    system.wait_counter("tls_workers_lost", killed)
    with system.client() as client:
        assert client.login("anna", "pw-anna").ok
        for victim in workers(system):
            os.kill(victim, signal.SIGKILL)
        client.expect(rb"\* BYE [^\r]*\r\n")
        client.expect_close()
    system.wait_cached(0)
