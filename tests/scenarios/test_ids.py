"""Who the programs run as: nothing works as root, and an ordinary user can start the whole."""
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from keepwarm import process
from keepwarm.process import wait_until
from keepwarm.system import System

NOBODY = 65534

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root changes ids")


def status_of(pid):
    lines = process.read_proc(pid, "status").decode().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def working(system):
    return [pid for name in ("cachebrokerd", "lookupd", "proxyd") for pid in system.pids(name)]


@needs_root
def test_what_works_for_clients_is_not_root_and_cannot_become_it(system):
    with system.session() as client:
        assert system.pid_serving(client) in working(system)
        for pid in working(system):
            status = status_of(pid)
            if not status:
                continue  # it has just ended
            assert set(status["Uid"].split()) == {str(NOBODY)}, status
            assert set(status["Gid"].split()) == {str(NOBODY)}, status
            assert status["Groups"].split() in ([str(NOBODY)], []), status
            assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0, status
            assert status["NoNewPrivs"] == "1", status
        client.ok("NOOP")


@needs_root
def test_the_supervisor_reads_nothing_of_any_client(system):
    """It keeps root for binding ports: so no connection may be in its hands."""
    with system.session() as client:
        inode = process.tcp_inode(system.port, client.port)
        assert inode not in process.socket_inodes(system.pids("in.imapproxyd")[0])


@pytest.fixture
def ordinary(make, backend):
    """The whole in the background, started by nobody, who may write to his own folder only."""
    system = System(backend.port)
    make.started.append(system)
    system.log = system.folder / "logfile"
    system.write_config(foreground_mode="no", log_target=f"file:{system.log}", run_directory=None,
                        chroot_directory=system.folder / "jail")
    system.run_directory = system.folder / "keepwarm-run"
    if os.getuid() == 0:
        shutil.chown(system.folder, NOBODY, NOBODY)
        as_nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all")
    else:
        as_nobody = ()
    started = subprocess.run([*as_nobody, system.binaries / "in.imapproxyd", "-f", system.conf], stdin=subprocess.DEVNULL,
                             capture_output=True, text=True, timeout=process.DEADLINE, check=False, cwd="/",
                             env=system.environment())
    yield system, started
    for pid in system.pids("in.imapproxyd"):
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not system.pids(), lambda: f"left behind: {system.pids()}")


def test_an_ordinary_user_can_start_the_whole(ordinary):
    system, started = ordinary
    assert started.returncode == 0, started.stderr
    assert "chroot_directory needs root; not done" in started.stderr
    with system.session(reused=False) as client:
        user = NOBODY if os.getuid() == 0 else os.getuid()
        for pid in system.pids():
            uids = status_of(pid).get("Uid", "")
            assert set(uids.split()) <= {str(user)}
        client.logout()
    system.wait_cached(1)
    with system.session(reused=True):
        pass
    assert int((system.run_directory / "imapproxy.pid").read_text()) in system.pids("in.imapproxyd")
    assert Path(f"/proc/{system.pids('in.imapproxyd')[0]}/root").readlink() == Path("/") if os.getuid() == 0 else True
    assert (system.run_directory.stat().st_mode & 0o777) == 0o700


@needs_root
def test_a_port_that_needs_root_is_said_clearly(make, backend):
    system = System(backend.port)
    make.started.append(system)
    shutil.chown(system.folder, NOBODY, NOBODY)
    system.write_config(listen_port=143, run_directory=None, listen_address="127.0.0.9")
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
        if int(file.read()) <= 143:
            pytest.skip("here ordinary users may bind it")
    started = subprocess.run(["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                              system.binaries / "in.imapproxyd", "-f", system.conf], stdin=subprocess.DEVNULL,
                             capture_output=True, text=True, timeout=process.DEADLINE, check=False,
                             env=system.environment())
    assert started.returncode == 1
    assert "127.0.0.9:143" in started.stderr and "Permission denied" in started.stderr
