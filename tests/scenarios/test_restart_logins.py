"""A planned restart of the broker while a login of each kind is under way, and sessions of POP3."""
import base64
import os
import signal
import threading

import pytest

from keepwarm import certs, process, tls
from keepwarm.challenge import OFFERED, begin, cram_answer, prompt, say
from keepwarm.challenge import session as challenged
from keepwarm.directory import Passwords
from keepwarm.failures import sees_own_mail
from keepwarm.messages import session
from keepwarm.pop3 import Client, Host
from keepwarm.process import free_port, wait_until
from keepwarm.restart import broker, restart

MASTER = {"auth_sasl_plain_username": "hauptmann", "auth_sasl_plain_password": "Hauptwort-77aa",
          "auth_shared_secret": "gemeinsam"}


def in_a_thread(act):
    """Starts it; the result has the value, or what it raised, when the thread is done."""
    result = []

    def run():
        try:
            result.append(act())
        except (OSError, AssertionError) as problem:
            result.append(problem)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, result


@pytest.fixture
def directory(make, backend):
    table = Passwords(backend, anna=("pw-anna", ""))
    make.started.append(table)
    return table


def test_a_master_users_login_is_made_once_more(make, backend):
    def judge(conn):
        authzid, user, password = base64.b64decode(conn.commands[-1].args[1]).split(b"\0")
        assert (user, password) == (b"hauptmann", b"Hauptwort-77aa")
        conn.user = authzid.decode()
        conn.done(conn.commands[-1], b"OK [CAPABILITY " + backend.after.encode() + b"] logged in")

    backend.answers["AUTHENTICATE"] = judge
    gate = backend.gate("AUTHENTICATE")
    system = make.system(backend, **MASTER)
    with system.client() as client:
        client.send("a1 LOGIN anna gemeinsam\r\n")
        gate.wait()
        restart(system)
        backend.ungate("AUTHENTICATE")
        assert client.reply("a1").ok
        client.logout()
    system.wait_cached(1)
    restart(system)
    with system.session("anna", "gemeinsam", reused=True):
        pass


def test_a_verified_clients_login_is_made_once_more(make, backend, directory):
    """It costs its one attempt, the challenge, once."""
    backend.fill_backlog()
    system = make.system(backend, directory=[directory], server_port=free_port(), auth_mechanisms=OFFERED, login_attempts=1,
                         connect_timeout=20)
    with system.client() as client:
        tag = begin(client, "CRAM-MD5")
        say(client, cram_answer("CRAM-MD5", "anna", "pw-anna", prompt(client, tag)))
        client.expect_nothing(0.2)
        restart(system)
        restart(system)
        backend.accept_again()
        assert client.reply(tag).ok
        sees_own_mail(client, "anna")
        client.logout()
    system.wait_cached(1)
    restart(system)
    challenged(system, "anna", "pw-anna", "CRAM-MD5", reused=True).close()


def test_a_challenge_in_its_middle_is_unavailable_and_never_wrong(make, backend, directory):
    system = make.system(backend, directory=[directory], server_port=free_port(), auth_mechanisms=OFFERED)
    with system.client() as client:
        tag = begin(client, "CRAM-MD5")
        answer = cram_answer("CRAM-MD5", "anna", "pw-anna", prompt(client, tag))
        restart(system)
        say(client, answer)
        assert client.reply(tag).tagged.startswith(b"NO [UNAVAILABLE]")
    with challenged(system, "anna", "pw-anna", "CRAM-MD5") as client:
        sees_own_mail(client, "anna")


@pytest.mark.parametrize("late", [False, True])
def test_a_handshake_with_a_client_is_waited_for(make, backend, tmp_path, late):
    """But not for long: one that does not end costs others a second, and begins anew."""
    authority = certs.Authority(tmp_path)
    ours, port = authority.issue("localhost", "127.0.0.1"), free_port()
    for path in (tmp_path, *tmp_path.parents):
        if str(path).startswith("/tmp/pytest"):
            path.chmod(0o755)
    system = make.system(backend, imaps_listen_port=port, tls_server_cert_file=ours.path, tls_server_key_file=ours.key_path)
    system.forget_start()
    with process.frozen(*system.pids("tlsrelayd")):
        thread, result = in_a_thread(lambda: tls.imaps(port, authority))
        old = broker(system)
        wait_until(lambda: system.gauge("clients") == 1, "the client has not come")
        with session(system) as peer:  # who comes behind its TLS_ACCEPT has been heard
            peer.ask_lease()
        os.kill(old, signal.SIGTERM)
        if late:
            wait_until(lambda: not process.alive(old), "the broker stays")
    system.wait_log("are gone on with")
    thread.join(process.DEADLINE)
    assert result[0].login("anna", "pw-anna").ok
    sees_own_mail(result[0], "anna")
    result[0].close()
    with tls.imaps(port, authority) as client:
        assert client.login("anna", "pw-anna").ok


def test_a_session_of_pop3_goes_on(make, backend):
    host, port = Host(), free_port()
    try:
        system = make.system(backend, pop3_listen_port=port, pop3_server_port=host.port)
        with Client(port) as early, Client(port) as client:
            client.session("anna")
            restart(system)
            client.ok("STAT")
            early.session("bert")
            early.ok("QUIT")
            client.ok("QUIT")
        wait_until(lambda: system.gauge("clients") == 0 and system.gauge("active") == 0, lambda: f"{system.stats()}")
        assert system.gauge("cached") == 0 and system.counter("sessions_lost") == 0
    finally:
        host.stop()
