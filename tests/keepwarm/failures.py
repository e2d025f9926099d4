"""Programs that are ended while they work, and what must be true afterwards."""
import contextlib
import os
import signal
import threading

from keepwarm import process
from keepwarm.process import alive, wait_until

BIG = b"".join(b"%07d\n" % number for number in range(1 << 18))  # 2 MiB that show what is missing or doubled


# --- what is killed -----------------------------------------------------------------------------------------
def parent(program):
    """The process of a program that has children."""
    def find(system):
        return next((pid for pid in system.pids(program) if process.children(pid)), None)
    return find


def nursery(system):
    """The proxyd that makes the spares: the listener's child that has children."""
    listener = system.find_listener()
    return next((pid for pid in process.children(listener) if process.children(pid)), None) if listener else None


VICTIMS = {
    "broker": lambda system: next(iter(system.pids("cachebrokerd")), None),
    "listener": lambda system: system.find_listener(),
    "nursery": nursery,
    "lookupd": parent("lookupd"),
}


def find_victim(system, name):
    """The process to end, as soon as it is seen."""
    return wait_until(lambda: VICTIMS[name](system), lambda: f"there is no {name}:\n{system.log_text()}")


SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM}


# --- states of a session: generators, "kill now" at the first yield, "wait until it is back" at the second -------
def sees_own_mail(client, user):
    client.ok("SELECT INBOX")
    text = client.ok("FETCH 1:* BODY[]").text
    assert text.count(b"This is the mail of <") == 1 and f"<{user}>".encode() in text, text


def before_login(system, _):
    with system.client() as client:
        yield
        client.ok("NOOP")
        yield
        assert client.login("anna", "pw-anna").ok
        sees_own_mail(client, "anna")


def login_finishes(client, user="anna"):
    reply = client.reply("a1")
    assert reply.ok, reply
    sees_own_mail(client, user)


@contextlib.contextmanager
def logging_in(system):
    with system.client() as client:
        client.send("a1 LOGIN anna pw-anna\r\n")
        yield client


def lease_waits_for_lookupd(system, _):
    """lookupd is stopped: all of it, so that nobody can answer."""
    workers = process.children(find_victim(system, "lookupd"))
    try:
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        with logging_in(system) as client:
            client.expect_nothing(0.1)
            yield
            client.expect_nothing(0.1)
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
            yield
            login_finishes(client)
    finally:
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def lease_waits_for_the_mail_host(system, backend):
    """The broker's connect is neither answered nor refused."""
    backend.fill_backlog()
    with logging_in(system) as client:
        client.expect_nothing(0.1)
        yield
        client.expect_nothing(0.1)
        backend.accept_again()
        yield
        login_finishes(client)


def greeting_is_held_back(system, backend):
    greeting, reached, opened = backend.greeting, threading.Event(), threading.Event()

    def hold(conn):
        reached.set()
        opened.wait(process.DEADLINE)
        conn.send(greeting)

    backend.greeting = hold
    with logging_in(system) as client:
        assert reached.wait(process.DEADLINE)
        yield
        backend.greeting = greeting
        opened.set()
        yield
        login_finishes(client)


def backend_login_in_progress(system, backend):
    gate = backend.gate("AUTHENTICATE")
    with logging_in(system) as client:
        gate.wait()
        yield
        backend.ungate("AUTHENTICATE")
        yield
        login_finishes(client)


def relaying(system, _):
    with system.session("anna") as client:
        yield
        sees_own_mail(client, "anna")
        yield
        sees_own_mail(client, "anna")


def in_a_big_fetch(system, backend):
    opened, half = threading.Event(), len(BIG) // 2

    def answer(conn):
        conn.send(b"* 1 FETCH (UID 1 BODY[] {%d}\r\n" % len(BIG) + BIG[:half])
        opened.wait(process.DEADLINE)
        conn.send(BIG[half:] + b")\r\n")
        conn.done(conn.commands[-1], b"OK Fetched")

    backend.answers["UID"] = answer
    with system.session("anna") as client:
        client.send("a1 UID FETCH 1 BODY[]\r\n")
        got = client.expect(rb"\* 1 FETCH \(UID 1 BODY\[\] \{\d+\}\r\n") and client.exactly(half)
        yield
        opened.set()
        yield
        assert got + client.exactly(len(BIG) - half) == BIG
        client.expect_exact(")\r\na1 OK Fetched\r\n")
        sees_own_mail(client, "anna")


def in_idle(system, backend):
    with system.session("anna") as client:
        sees_own_mail(client, "anna")
        client.send("a1 IDLE\r\n")
        client.expect_exact("+ idling\r\n")
        yield
        backend.connections[-1].push(b"* 5 EXISTS\r\n")
        client.expect_exact("* 5 EXISTS\r\n")
        yield
        client.send("DONE\r\n")
        client.expect_exact("a1 OK Idle ended, says the backend\r\n")
        sees_own_mail(client, "anna")


def returning(system, backend):
    client = system.session("anna")
    sees_own_mail(client, "anna")
    pid = system.pid_serving(client)
    gate = backend.gate("UNSELECT")
    client.logout()
    gate.wait()
    yield
    assert alive(pid)
    backend.ungate("UNSELECT")
    wait_until(lambda: not alive(pid), "the session's process stays")
    yield


def client_gone_and_draining(system, backend):
    client = system.session("anna")
    sees_own_mail(client, "anna")
    pid = system.pid_serving(client)
    gate = backend.gate("NAMESPACE")
    client.send("a1 NAMESPACE\r\n")
    gate.wait()
    client.close()
    yield
    assert alive(pid)
    backend.ungate("NAMESPACE")
    wait_until(lambda: not alive(pid), "the session's process stays")
    yield


STATES = [before_login, lease_waits_for_lookupd, lease_waits_for_the_mail_host, greeting_is_held_back,
          backend_login_in_progress, relaying, in_a_big_fetch, in_idle, returning, client_gone_and_draining]


# --- what must be true afterwards --------------------------------------------------------------------------
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
        return seen if idle and seen[0].get("proxyd", 0) == proxyds else None
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


def end_in_state(system, backend, name, number, state, proxyds):
    """One cell of the matrix. proxyds: so many processes of proxyd are there when nobody is served."""
    system.session("bystander").logout()
    system.wait_cached(1)
    before = settled_with(system, backend, proxyds)
    with system.session("bystander") as bystander:
        steps = state(system, backend)
        next(steps)
        victim = find_victim(system, name)
        os.kill(victim, SIGNALS[number])
        sees_own_mail(bystander, "bystander")
        next(steps)
        wait_restarted(system, name, victim)
        for _ in steps:
            raise AssertionError("one step too many")
        with system.session("anna") as again, system.session("later") as later:
            sees_own_mail(again, "anna")
            sees_own_mail(later, "later")
            sees_own_mail(bystander, "bystander")
            check_connections(system, backend)
    wait_until(lambda: settled(system, backend) == before,
               lambda: f"{settled(system, backend)}, and before it was {before}\n{system.log_text()}")
    check_connections(system, backend)
    assert not alive(victim)
