"""A session is locked up the same whoever has started it: xinetd, openbsd-inetd, systemd-socket-activate; as a process for
each connection, or by a listener that inherits the listening socket as standard input, output and error.
"""
import errno
import os
import pwd
import re

import pytest
from test_chroot import check_shut_in, is_at, status_of
from test_jail import INTRUDER, REFUSED, attempt

from keepwarm import inetd, process
from keepwarm.process import wait_until
from keepwarm.system import SANITIZED, System, stage

LISTENS = (*inetd.WAIT, "activate listener")
# One of each kind: files, network, processes, other processes, rights, memory, descriptors, the door. All of them: test_jail.py
ATTEMPTS = ("openat", "stat", "creat", "socket", "connect", "bind", "accept4", "accept_standard", "fork", "execve", "kill", "ptrace",
            "pidfd_open", "chroot", "chdir", "unshare", "setresuid", "mprotect", "dup", "fcntl", "io_uring_setup", "bpf", "undump",
            "pass_to_client", "sendto_address", "shut_link", "write_elsewhere")
NOBODY = pwd.getpwnam("nobody")

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root has ids to drop")
pytestmark = pytest.mark.skipif(SANITIZED, reason="a sanitizer build has no filter: its run-time needs other calls")


@pytest.fixture(params=inetd.MODES)
def mode(request):
    if inetd.missing(request.param):
        pytest.skip(inetd.missing(request.param))
    return request.param


def check_locked_up(system, client):
    pid = system.pid_serving(client)
    status = status_of(pid)
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert not any(int(status[sort], 16) for sort in ("CapEff", "CapPrm", "CapInh", "CapAmb"))
    assert set(status["Uid"].split()) == {str(NOBODY.pw_uid)} and set(status["Gid"].split()) == {str(NOBODY.pw_gid)}
    limits = process.read_proc(pid, "limits").decode()
    assert re.search(r"Max processes +0 +0", limits) and re.search(r"Max core file size +0 +0", limits)
    return pid


def tcp_sockets_of(pid):
    """All TCP sockets that the process holds: (inode, state)."""
    lines = process.read_proc("net", "tcp").decode().splitlines()[1:]
    held = process.socket_inodes(pid)
    return {(int(field[9]), field[3]) for field in map(str.split, lines) if int(field[9]) in held}


@needs_root
def test_a_session_is_locked_up_before_the_client_speaks_and_stays_so(make, backend, mode):
    system = make.system(backend, run_listener="no")
    with inetd.started(system, mode):
        for number in range(3):
            with system.client() as client:
                pid = check_locked_up(system, client)
                assert tcp_sockets_of(pid) == {(process.tcp_inode(system.port, client.port), "01")}, "more than its client"
                assert client.login(f"user{number}", f"pw-user{number}").ok
                check_locked_up(system, client)
                standard = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)}
                assert not [path for path in standard if path.startswith("socket:")], standard


@needs_root
def test_a_session_that_was_taken_over_can_do_nothing(make, backend, mode):
    assert INTRUDER.exists(), f"{INTRUDER} is missing: make intruder"
    system = make.system(backend, binaries=stage(proxyd=INTRUDER), run_listener="no")
    refused = REFUSED if mode in LISTENS else {}  # what the nursery may and its children inherit, to no avail
    with inetd.started(system, mode):
        assert attempt(system, "nothing") == b"survived nothing 0\r\n"
        for name in ATTEMPTS:
            want = f"survived {name} {refused[name]}\r\n".encode() if name in refused else b""
            assert attempt(system, name) == want, name
        assert attempt(system, "nothing") == b"survived nothing 0\r\n"
    assert refused.get("accept_standard", errno.ENOTSOCK) == errno.ENOTSOCK


@needs_root
def test_chroot_directory_is_in_force(make, backend, mode):
    system = System(backend.port, run_listener="no")
    jail = system.folder / "jail"
    system.write_config(chroot_directory=jail)
    make.started.append(system)
    system.start()
    with inetd.started(system, mode):
        for reused in (False, True):
            with system.session("anna", reused=reused) as client:
                check_shut_in(system.pid_serving(client), jail)
                client.ok("SELECT INBOX")
                client.logout()
            system.wait_given()
        if mode in LISTENS:
            (listener,) = wait_until(lambda: inetd.listeners(system), system.log_text)
            assert is_at(listener, "root", jail) and status_of(listener)["Uid"].split() == [str(NOBODY.pw_uid)] * 4


def test_an_ordinary_user_can_run_it_all(make, backend, mode):
    system = System(backend.port, run_listener="no")
    prefix = ()
    if os.getuid() == 0:
        os.chown(system.folder, NOBODY.pw_uid, NOBODY.pw_gid)
        prefix = system.prefix = ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups")
    make.started.append(system)
    system.start()
    with inetd.started(system, mode, prefix=prefix, **({"user": "nobody"} if prefix else {})):
        for reused in (False, True):
            with system.session("anna", reused=reused) as client:
                if os.getuid() == 0:  # others may not look into a session's process
                    check_locked_up(system, client)
                client.logout()
            system.wait_given()
        wait_until(lambda: system.gauge("active") == 0, system.log_text)
