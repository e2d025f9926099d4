"""allow_addresses and deny_addresses: who may connect, in every way of being started.

All of 127.0.0.0/8 is this machine, so a client can come from another address than the test's own looks.
"""
import os
import socket
import subprocess

import pytest

from keepwarm import process
from keepwarm.imap import Client
from keepwarm.process import wait_until
from keepwarm.system import BUILD, System

OTHER = "127.0.0.2"
OTHER_ETC = """
mkdir "$KEEPWARM_FOLDER/etc"
mount -t tmpfs -o mode=755 tmpfs "$KEEPWARM_FOLDER/etc"
cp -a /etc/. "$KEEPWARM_FOLDER/etc"
cp "$KEEPWARM_FOLDER/hosts.deny" "$KEEPWARM_FOLDER/etc"
mount --bind "$KEEPWARM_FOLDER/etc" /etc
exec "$0" "$@"
"""


def connect(system, source, address="127.0.0.1"):
    sock = socket.create_connection((address, system.port), timeout=process.DEADLINE, source_address=(source, 0))
    return Client(system.port, greet=False, sock=sock)


def is_closed_without_a_byte(client):
    with client:
        return not client.fill() and client.buffer == b""


def is_greeted(client):
    with client:
        return client.line().startswith(b"* OK ")


@pytest.mark.parametrize("keys", [
    {"allow_addresses": "127.0.0.1"},
    {"allow_addresses": "10.0.0.0/8, 127.0.0.0/31 ::1"},
    {"deny_addresses": "10.0.0.0/8 127.0.0.2"},
    {"allow_addresses": "127.0.0.0/8", "deny_addresses": "127.0.0.2/31"},
])
def test_who_may_not_connect_is_closed_without_a_byte_and_counted(make, backend, keys):
    system = make.system(backend, **keys)
    # who has looked whether it is ready: the statistics lag behind
    accepted = wait_until(lambda: system.counter("clients"), "nobody is counted")
    for _ in range(3):
        assert is_closed_without_a_byte(connect(system, OTHER))
    system.wait_counter("clients_denied", 3)
    with system.session() as client:
        assert client.command("NOOP").ok
    wait_until(lambda: system.counter("clients") == accepted + 1, "it counts as a client")
    assert system.stats()["ends"]["address-refused"] == 3
    assert "client refused client=127.0.0.2:" in system.log_text()
    assert "reason=address-refused" not in system.log_text()
    assert system.counter("sessions_lost") == 0


def test_without_the_keys_everybody_may(make, backend):
    system = make.system(backend)
    assert is_greeted(connect(system, OTHER))


def test_an_ipv4_client_of_a_dual_stack_socket_is_an_ipv4_client(make, backend):
    system = make.system(backend, listen_address="::", deny_addresses="127.0.0.2", allow_addresses="127.0.0.0/8")
    assert is_closed_without_a_byte(connect(system, OTHER))
    assert is_greeted(connect(system, "127.0.0.1"))
    assert is_closed_without_a_byte(Client(system.port, address="::1", greet=False))


def test_a_flood_is_logged_once_a_second(make, backend):
    system = make.system(backend, allow_addresses="127.0.0.1")
    for _ in range(100):
        assert is_closed_without_a_byte(connect(system, OTHER))
    system.wait_counter("clients_denied", 100)
    assert system.log_text().count("client refused client=") <= 15
    with system.session():
        pass


def test_a_reload_takes_both_keys(make, backend):
    system = make.system(backend)
    with connect(system, OTHER) as stays:
        assert stays.line().startswith(b"* OK ")
        assert stays.login("anna", "pw-anna").ok  # so the broker knows of it
        system.write_config(deny_addresses=OTHER)
        system.supervisor.send_signal(1)
        wait_until(lambda: is_closed_or_greeted(system) == "closed", "the new list is not obeyed")
        assert stays.command("NOOP").ok, "a session of before has ended"


def is_closed_or_greeted(system):
    return "closed" if is_closed_without_a_byte(connect(system, OTHER)) else "greeted"


def test_a_process_of_its_own_for_a_connection_asks_the_broker(make, backend):
    """As xinetd and systemd start it: nothing is known before HELLO is answered."""
    system = make.system(backend, run_listener="no", allow_addresses="127.0.0.1")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", system.port))
        listener.listen()
        for source, wanted in (OTHER, False), ("127.0.0.1", True):
            client = connect(system, source)
            accepted, _ = listener.accept()
            with open(system.log, "ab") as log, accepted:
                child = process.start([BUILD / "proxyd", "-r", system.run_directory, "-l", "syslog"],
                                      stdin=accepted, stdout=subprocess.DEVNULL, stderr=log)
            assert (is_greeted if wanted else is_closed_without_a_byte)(client)
            child.wait(process.DEADLINE)
    system.wait_counter("clients_denied", 1)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can show the programs another /etc")
@pytest.mark.parametrize("rules, named", [("sshd: ALL\nimapproxyd: ALL EXCEPT 10.\n", True), ("sshd: ALL\n", False)])
def test_files_of_tcp_wrappers_are_not_read_and_that_is_said(make, backend, rules, named):
    system = System(backend.port, prefix=("unshare", "--mount", "sh", "-ec", OTHER_ETC))
    make.started.append(system)
    (system.folder / "hosts.deny").write_text(rules)
    system.prefix = ("env", f"KEEPWARM_FOLDER={system.folder}", *system.prefix)
    system.start()
    said = "/etc/hosts.deny has a rule for imapproxyd: the files of TCP wrappers are not read; say with " \
           "allow_addresses and deny_addresses who may connect"
    assert (said in system.log_text()) is named
    assert is_greeted(connect(system, OTHER))


@pytest.mark.parametrize("value, what", [
    ("10.0.0.0/8 10.0.0.300", "'10.0.0.300' is not allowed: give all, none, or networks"),
    ("::1/129", "'::1/129' is not allowed"),
    ("10.1.2.3/8", "'10.1.2.3/8' is not allowed: bits are set behind the network's length"),
    ("mail.example.org", "'mail.example.org' is not allowed"),
])
def test_a_wrong_network_names_file_line_and_value(tmp_path, value, what):
    conf = tmp_path / "imapproxy.conf"
    for key in ("allow_addresses", "deny_addresses"):
        conf.write_text(f"server_hostname localhost\n{key} {value}\n")
        for program in ([BUILD / "proxyd", "-n", "-f", conf], [BUILD / "in.imapproxyd", "-f", conf]):
            run = subprocess.run(program, capture_output=True, text=True, timeout=process.DEADLINE, check=False)
            assert run.returncode == 1
            assert f"{conf}:2: {key}: {what}" in run.stderr
