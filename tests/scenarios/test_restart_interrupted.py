"""What comes while a broker waits with its restart for a handshake or an order to be done: a stop, its supervisor's death,
a reload, an order about many connections."""
import contextlib
import os
import re
import shutil
import signal
import socket

import pytest

from keepwarm import certs, process
from keepwarm.failures import sees_own_mail
from keepwarm.messages import Peer
from keepwarm.process import wait_until
from keepwarm.restart import broker
from keepwarm.system import temp_folder

FLUSH_USER, KICK_USER = 13, 14  # enum msg_admin
MANY = 70  # of which 64 are done at a time


@pytest.fixture(scope="module")
def ours():
    folder = temp_folder()
    yield certs.Authority(folder).issue("localhost", "127.0.0.1")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def busy(make, backend, ours):
    """A system; busy(others): a context in which its broker has a handshake to wait for, beside so many other clients."""
    port = process.free_port()
    system = make.system(backend, imaps_listen_port=port, tls_server_cert_file=ours.path, tls_server_key_file=ours.key_path)

    @contextlib.contextmanager
    def busy(others):
        with process.frozen(*system.pids("tlsrelayd")):
            with socket.create_connection(("127.0.0.1", port), timeout=process.DEADLINE):
                wait_until(lambda: system.gauge("clients") == others + 1, "the client has not come")
                yield
    system.busy = busy
    return system


def begin_restart(pid):
    """Until the broker has read the signal, which is blocked there: lower numbers would be read first."""
    os.kill(pid, signal.SIGTERM)

    def pending():
        found = re.search(rb"^ShdPnd:\s*(\w+)", process.read_proc(pid, "status"), re.M)
        return int(found[1], 16) >> (signal.SIGTERM - 1) & 1
    wait_until(lambda: not pending(), "SIGTERM is not read")


def test_a_broker_whose_supervisor_dies_over_the_restart_serves_on(busy, backend):
    with busy.session("anna") as client, busy.client() as waiting, busy.busy(others=2):
        old = broker(busy)
        backend.fill_backlog()
        waiting.send("a1 LOGIN bert pw-bert\r\n")
        waiting.expect_nothing(0.1)
        begin_restart(old)
        os.kill(busy.supervisor.pid, signal.SIGKILL)
        busy.supervisor.wait()
        busy.supervisor = None
        busy.wait_log("the supervisor is gone")
        backend.accepting.set()
        assert waiting.reply("a1").ok
        sees_own_mail(waiting, "bert")
        sees_own_mail(client, "anna")
        assert process.alive(old)
    wait_until(lambda: not process.alive(old), "it stays without a session")
    assert "left to the next broker" not in busy.log_text()
    busy.start()
    with busy.session("anna") as client:
        sees_own_mail(client, "anna")


def test_a_stop_within_a_restart_takes_no_longer_than_another_one(busy):
    with busy.session("anna") as client:
        with busy.busy(others=1):
            old = broker(busy)
            begin_restart(old)
            busy.supervisor.terminate()
            assert b"* BYE [UNAVAILABLE] Service is stopping\r\n" in client.read_to_end()
            wait_until(lambda: not process.alive(old), "the broker stays")
        busy.stop_and_keep()
    assert "have not ended in time" not in busy.log_text()


def test_reloads_within_a_restart_are_the_successors(busy):
    with busy.session("anna") as client:
        with busy.busy(others=1):
            old = broker(busy)
            begin_restart(old)
            busy.write_config(max_line_login=8000)
            for _ in range(2):
                busy.supervisor.send_signal(signal.SIGHUP)
                os.kill(old, signal.SIGHUP)
        busy.wait_log("are gone on with")
        sees_own_mail(client, "anna")
        client.logout()
    with busy.session("anna", reused=True) as client:
        sees_own_mail(client, "anna")


@pytest.mark.parametrize("kind", [FLUSH_USER, KICK_USER])
def test_an_order_about_many_is_done_before_the_restart_or_not_at_all(make, backend, kind):
    system = make.system(backend, cache_max_per_user=MANY)
    sessions = [system.session("anna") for _ in range(MANY)]
    for client in sessions:
        client.logout()
    system.wait_cached(MANY)
    old = broker(system)
    with Peer(system, "admin") as admin:
        os.kill(old, signal.SIGSTOP)
        admin.push("ADMIN", serial=1, kind=kind, argument="anna")
        os.kill(old, signal.SIGTERM)
        os.kill(old, signal.SIGCONT)
        try:
            report = admin.receive()
            left, text = 0, report.text
        except (AssertionError, ConnectionResetError):
            left, text = MANY, b""
    system.wait_log("are gone on with")
    system.wait_cached(left)
    assert left or b"%d connections closed" % MANY in text, text
