"""What each process may, read from /proc while the service runs: the same whoever has started the sessions, with and without
chroot_directory. systemd's rows are in tests/servers/test_systemd.py, what a session cannot do in test_jail.py.
"""
import contextlib
import os
import pwd

import pytest

from keepwarm import certs, inetd, process, tls
from keepwarm.locks import Lock, check, status_of
from keepwarm.process import free_port, wait_until
from keepwarm.system import SANITIZED, System

SUPERVISED = "in.imapproxyd"
MODES = (SUPERVISED, *inetd.NOWAIT, *inetd.WAIT)
NOBODY = pwd.getpwnam("nobody")

pytestmark = [pytest.mark.skipif(os.getuid() != 0, reason="only root has ids to drop"),
              pytest.mark.skipif(SANITIZED, reason="a sanitizer build is locked up in part only")]

# What is asked of each process. The listener has no filter: it starts the nursery, which has one.
LOCKED = Lock(seccomp=True)
LOCKS = {
    "cachebrokerd": LOCKED,
    "lookupd": LOCKED,
    "lookupd worker": LOCKED,
    "tlsrelayd": LOCKED,
    "tlsrelayd worker": LOCKED,
    "listener": Lock(inside=True),
    "nursery": Lock(seccomp=True, inside=True),
    "session": Lock(seccomp=True, inside=True, processes=0),
}


def only(pids):
    assert len(pids) >= 1, "there is none"
    return pids[0]


def found(system, mode):
    """{name: pid}"""
    masters = {name: only([pid for pid in system.pids(name) if process.parent(pid) not in system.pids(name)])
               for name in ("cachebrokerd", "lookupd", "tlsrelayd")}
    pids = dict(masters)
    for name in ("lookupd", "tlsrelayd"):
        pids[f"{name} worker"] = only(process.children(masters[name]))
    if mode not in inetd.NOWAIT:
        pids["listener"] = system.listener_pid() if mode == SUPERVISED else wait_until(lambda: inetd.listeners(system), system.log_text)[0]
        pids["nursery"] = only(process.children(pids["listener"]))
    return pids


@contextlib.contextmanager
def sessions_by(system, mode):
    """Yields the port of imaps."""
    if mode == SUPERVISED:
        yield system.config["imaps_listen_port"]
    else:
        with inetd.started(system, mode, services=("imap", "imaps")) as ports:
            yield ports["imaps"]


@pytest.mark.parametrize("chroot", [False, True], ids=["", "chroot"])
@pytest.mark.parametrize("mode", MODES)
def test_each_process_may_what_it_needs_and_no_more(make, backend, tmp_path, mode, chroot):
    if mode != SUPERVISED and inetd.missing(mode):
        pytest.skip(inetd.missing(mode))
    authority = certs.Authority(tmp_path)
    ours = authority.issue("127.0.0.1")
    system = System(backend.port, tls_server_cert_file=ours.path, tls_server_key_file=ours.key_path)
    jail = system.folder / "jail" if chroot else None
    system.write_config(**({"imaps_listen_port": free_port()} if mode == SUPERVISED else {"run_listener": "no"}),
                        **({"chroot_directory": jail} if chroot else {}))
    make.started.append(system)
    system.start()
    with sessions_by(system, mode) as port, system.session() as plain, tls.imaps(port, authority) as secure:
        assert secure.login("bob", "pw-bob").ok
        pids = {**found(system, mode), "session": system.pid_serving(plain)}
        for name, pid in pids.items():
            check(name, pid, LOCKS[name], NOBODY.pw_uid, NOBODY.pw_gid, jail)
        assert status_of(system.pids("in.imapproxyd")[0])["NoNewPrivs"] == "1"
