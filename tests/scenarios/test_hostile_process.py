"""What a session's process holds, and who it is: nothing of the others, and never root."""
import os
import subprocess

import pytest

from keepwarm import process
from keepwarm.imap import Client
from keepwarm.process import wait_until
from keepwarm.scene import serve_as_root, status_of, tcp_pair
from keepwarm.system import BUILD, System

ROOT_ONLY = pytest.mark.skipif(os.getuid() != 0, reason="only root has ids to drop")


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
        if config:
            system.wait_log("will refuse to serve")
    finally:
        child.kill()
        child.wait()
