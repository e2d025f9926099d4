"""max_per_ip: so many connections from one address, for each service; who is one too many is told so."""
import os
import re
import signal
import socket

import pytest

from keepwarm import process
from keepwarm.messages import session as hello
from keepwarm.pop3 import Client as Pop
from keepwarm.pop3 import Host
from keepwarm.process import wait_until

BYE = b"* BYE [UNAVAILABLE] Too many connections from your address\r\n"
ERR = b"-ERR [SYS/TEMP] Too many connections from your address\r\n"


@pytest.fixture
def start(make):
    hosts = []

    def begin(**config):
        hosts.append(Host())
        port = process.free_port()
        system = make.system(make.backend(), pop3_listen_port=port, pop3_server_port=hosts[-1].port, **config)
        system.pop_port = port
        system.forget_start()
        return system
    yield begin
    for host in hosts:
        host.stop()


def answers(port, source="127.0.0.1"):
    """All that a client is told that says nothing but its end; it may be told so behind its greeting."""
    with socket.create_connection(("127.0.0.1", port), timeout=process.DEADLINE, source_address=(source, 0)) as sock:
        data = sock.recv(4096)
        while chunk := sock.recv(4096):
            data += chunk
    return data


def refused(port, bye):
    assert answers(port).endswith(bye)


def test_one_too_many_is_told_so_for_each_service(start):
    system = start(max_per_ip=2)
    imap = [system.session() for _ in range(2)]
    pop = [Pop(system.pop_port).session("anna") for _ in range(2)]
    refused(system.port, BYE)
    refused(system.pop_port, ERR)
    wait_until(lambda: re.search(r"client refused client=127\.0\.0\.1:\d+ why=max_per_ip others=", system.log_text()),
               system.log_text)
    system.wait_counter("clients_refused", 2)
    wait_until(lambda: system.stats()["ends"]["too-many-per-ip"] == 2, lambda: f"{system.stats()}")
    for client in imap:
        client.ok("NOOP")
    for client in pop:
        client.ok("NOOP")
        client.close()
    imap.pop().close()
    wait_until(lambda: is_served(system), "no room after one has left")
    imap.pop().close()


def is_served(system):
    with system.client() as client:
        client.send("a LOGOUT\r\n")
        return b"a OK" in client.read_to_end()


def test_other_addresses_have_their_own_number(start):
    system = start(max_per_ip=1)
    with system.session():
        refused(system.port, BYE)
        with socket.create_connection(("127.0.0.1", system.port), timeout=process.DEADLINE,
                                      source_address=("127.0.0.2", 0)) as other:
            other.sendall(b"a LOGIN bert pw-bert\r\n")
            data = b""
            while b"a OK" not in data:
                chunk = other.recv(4096)
                assert chunk, data
                data += chunk


def test_a_login_that_did_not_wait_for_the_greeting_is_refused_too(start):
    system = start(max_per_ip=1)
    with system.session(), socket.create_connection(("127.0.0.1", system.port), timeout=process.DEADLINE) as sock:
        sock.sendall(b"a LOGIN bert pw-bert\r\n")
        data = b""
        while chunk := sock.recv(4096):
            data += chunk
        assert data.endswith(BYE) and b"a OK" not in data


def reload(system, **changes):
    before = system.log_text().count(": taken over")
    system.write_config(**changes)
    system.supervisor.send_signal(signal.SIGHUP)
    wait_until(lambda: system.log_text().count(": taken over") > before, lambda: "no reload:\n" + system.log_text())


def test_a_reload_counts_those_that_are_there_and_ends_none(start):
    system = start()
    clients = [system.session() for _ in range(3)]
    reload(system, max_per_ip=2)
    refused(system.port, BYE)
    for client in clients:
        client.ok("NOOP")
    clients.pop().close()
    refused(system.port, BYE)
    clients.pop().close()
    wait_until(lambda: is_served(system), "no room")
    clients.pop().close()


def test_a_new_broker_counts_the_sessions_of_before(start):
    system = start(max_per_ip=1)
    with system.session() as client:
        system.wait_counter("logins", 1)
        (old,) = system.pids("cachebrokerd")
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: system.pids("cachebrokerd") not in ([], [old]), "no new broker")
        client.ok("NOOP")
        with hello(system):  # whom the broker before has not known
            system.wait_clients(2)
        wait_until(lambda: any(row["user"] == "anna" for row in system.stats()["sessions"]), "it has not come back")
        refused(system.port, BYE)
        client.ok("NOOP")


def test_with_couriers_lines(start):
    system = start(max_per_ip=1, log_format="courier")
    with system.session():
        refused(system.port, BYE)
    system.wait_log("imapd: Maximum connection limit reached for ::ffff:127.0.0.1\n")
