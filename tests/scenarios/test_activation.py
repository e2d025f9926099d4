"""proxyd started by a socket: systemd-socket-activate in its three ways and a real xinetd.

The rest of the system runs without a listener of its own.
"""
import contextlib
import os
import shutil
import subprocess

import pytest

from keepwarm import process
from keepwarm.imap import Client
from keepwarm.system import BUILD

ACTIVATE = "systemd-socket-activate"
XINETD = "/usr/sbin/xinetd"

XINETD_CONF = """
defaults
{{
	instances = UNLIMITED
	cps = 0 0
	per_source = UNLIMITED
	log_type = FILE {folder}/xinetd.log
	log_on_success =
	log_on_failure =
}}
service imap-test
{{
	type = UNLISTED
	socket_type = stream
	protocol = tcp
	bind = 127.0.0.1
	port = {port}
	wait = no
	user = {user}
	server = {proxyd}
	server_args = -r {run} -l {log}
}}
"""


@pytest.fixture
def scene(make):
    backend = make.backend()
    return backend, make.system(backend, run_listener="no")


def listens(port):
    suffix = f":{port:04X}"
    lines = process.read_proc("net", "tcp").decode().splitlines()[1:]
    return any(line.split()[1].endswith(suffix) and line.split()[3] == "0A" for line in lines)


@contextlib.contextmanager
def started(system, argv):
    """Something that listens on the system's port and starts proxyd; ended afterwards."""
    with open(system.log, "ab") as log:
        child = process.start(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        process.wait_until(lambda: listens(system.port), lambda: "nobody listens:\n" + system.log_text())
        yield child
    finally:
        child.terminate()
        child.wait(process.DEADLINE)


def activate(system, *options):
    return [ACTIVATE, "-l", f"127.0.0.1:{system.port}", *options, BUILD / "proxyd", "-r", system.run_directory]


def xinetd(system):
    conf = system.folder / "xinetd.conf"
    user = "root" if os.getuid() == 0 else os.environ.get("USER", "nobody")
    conf.write_text(XINETD_CONF.format(folder=system.folder, port=system.port, user=user, log="syslog",
                                       proxyd=BUILD / "proxyd", run=system.run_directory))
    return [XINETD, "-dontfork", "-f", conf, "-pidfile", system.folder / "xinetd.pid"]


WAYS = {
    "accept as fd 0": lambda system: activate(system, "--accept", "--inetd"),
    "accept as LISTEN_FDS": lambda system: activate(system, "--accept"),
    "listening sockets": lambda system: activate(system, "--fdname=imap"),
    "xinetd": xinetd,
}


def available(way):
    return shutil.which(XINETD if way == "xinetd" else ACTIVATE) is not None


@pytest.mark.parametrize("way", WAYS)
def test_a_login_is_reused_when_proxyd_is_started_by(scene, way):
    if not available(way):
        pytest.skip("the starter is not installed")
    backend, system = scene
    with started(system, WAYS[way](system)):
        for reused in (False, True, True):
            with Client(system.port) as client:
                assert client.greeting.startswith(b"* OK [CAPABILITY IMAP4rev1 ")
                reply = client.login("anna", "pw-anna")
                assert reply.ok and reply.reused == reused, reply
                client.ok("SELECT INBOX")
                assert b"<anna>" in client.ok("FETCH 1 BODY[]").text
                client.logout()
            system.wait_cached(1)
    assert len(backend.connections) == 1
    process.wait_until(lambda: not system.pids("proxyd"), lambda: f"left behind: {system.pids('proxyd')}")


@pytest.mark.parametrize("way", WAYS)
def test_many_clients_at_once_are_served_when_proxyd_is_started_by(scene, way):
    if not available(way):
        pytest.skip("the starter is not installed")
    _, system = scene
    with started(system, WAYS[way](system)):
        clients = [Client(system.port, greet=False) for _ in range(20)]
        for number, client in enumerate(clients):
            client.greeting = client.line()
            assert client.login(f"user{number}", f"pw-user{number}").ok
        for client in clients:
            client.ok("NOOP")
            client.logout()


@pytest.mark.skipif(os.getuid() != 0, reason="only root has ids to drop")
@pytest.mark.parametrize("way", WAYS)
def test_no_process_that_reads_client_bytes_runs_as_root_when_started_by(scene, way):
    if not available(way):
        pytest.skip("the starter is not installed")
    _, system = scene
    with started(system, WAYS[way](system)):
        with Client(system.port) as client:
            client.ok("NOOP")
            status = process.read_proc(system.pid_serving(client), "status").decode()
            uids = [line.split()[1:] for line in status.splitlines() if line.startswith("Uid:")][0]
            assert "0" not in uids


def test_without_a_broker_the_client_gets_bye(make, backend):
    system = make.system(backend, run_listener="no")
    system.config["run_directory"] = system.folder / "nobody-there"
    command = activate(system, "--accept", "--inetd")
    command[-1] = system.folder / "nobody-there"
    with started(system, command):
        with Client(system.port, greet=False) as client:
            assert client.read_to_end().startswith(b"* BYE ")
