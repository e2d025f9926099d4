"""Programs that are ended while they work, and what must be true afterwards."""
import contextlib
import os
import signal

from keepwarm import process
from keepwarm.process import wait_until


# --- what is killed -----------------------------------------------------------------------------------------
def parent(program):
    """The process of a program that has children."""
    def find(system):
        return next((pid for pid in system.pids(program) if process.children(pid)), None)
    return find


VICTIMS = {
    "broker": lambda system: next(iter(system.pids("cachebrokerd")), None),
    "listener": lambda system: system.listener_pid(),
    "lookupd": parent("lookupd"),
}
SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM}


# --- what must be true afterwards --------------------------------------------------------------------------
def sees_own_mail(client, user):
    client.ok("SELECT INBOX")
    text = client.ok("FETCH 1:* BODY[]").text
    assert text.count(b"This is the mail of <") == 1 and f"<{user}>".encode() in text, text


def kinds_of_fds(pid, left_out):
    """{kind: number} of the process's descriptors, without some sockets."""
    kinds = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/{pid}/fd/{name}")
            kind, _, inode = target.partition(":[")
            if kind != "socket" or int(inode.rstrip("]")) not in left_out:
                kind = kind if kind in ("socket", "pipe") else target
                kinds[kind] = kinds.get(kind, 0) + 1
    return kinds


def settled(system, backend):
    """Processes and descriptors, without those that the cache holds."""
    cached = process.tcp_inodes_to(backend.port)
    return system.programs(), {program: kinds_of_fds(system.pids(program)[0], cached)
                               for program in ("in.imapproxyd", "cachebrokerd", "lookupd") if system.pids(program)}


def settled_with(system, backend, proxyds):
    """The same, as soon as nobody is served and there are so many processes of proxyd."""
    def look():
        idle = system.gauge("active") == 0 and system.gauge("clients") == 0
        seen = settled(system, backend)
        return seen if idle and seen[0].get("proxyd") == proxyds else None
    return wait_until(look, lambda: f"not settled: {system.programs()} {system.stats()}")


def owners(system, backend):
    """[processes] of each connection to the mail host that anybody holds."""
    inodes = process.tcp_inodes_to(backend.port)
    held = {}
    for pid in system.pids():
        for inode in process.socket_inodes(pid) & inodes:
            held.setdefault(inode, []).append(pid)
    return list(held.values())


def check_connections(system, backend):
    """Each has one owner and has served one user; nobody has forgotten one."""
    wait_until(lambda: all(len(pids) == 1 for pids in owners(system, backend)),
               lambda: f"held twice: {owners(system, backend)}")
    wait_until(lambda: len(owners(system, backend)) == len([c for c in backend.open_connections() if c.received]),
               lambda: f"held: {owners(system, backend)}, open: {backend.open_connections()}")
    for conn in backend.connections:
        users = {login.user for login in backend.logins if login.conn is conn}
        assert len(users) <= 1, f"one connection served {users}"


def wait_restarted(system, name, old):
    wait_until(lambda: VICTIMS[name](system) not in (None, old), lambda: f"{name} is not back:\n{system.log_text()}")
