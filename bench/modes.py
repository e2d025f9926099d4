"""The ways to start proxyd, side by side: what docs/MODES.md says in figures. Null backend, nothing but the start differs.

Each mode has a maker; who adds one (a supervisor that needs more than a command) overrides start_sessions(). What runs under
systemd is in namespaces of its own, its mail host and its clients with it: within() is where they have to be.
"""
import contextlib
import os
import time
from pathlib import Path
from types import SimpleNamespace

import parts
import peers
from loads import SETTLE, Session, load, say
from report import median, milliseconds, rows, spread, values

from keepwarm import inetd, systemd_root

CLIENTS = 8
ROUNDS, SECONDS = 3, 1  # at most: this part is to take two minutes
USERS = 200
IDLE_SESSIONS = 300
# Clients at once, and what the load generator is told: only to connect and be greeted, or the webmail cycle.
LOADS = {"alone": (1, "-g"), "connect": (CLIENTS, "-g"), "cycle": (CLIENTS,)}
BEGIN, END = "<!-- written by bench/run modes -->\n", "<!-- until here -->\n"


class Own(peers.Keepwarm):
    """in.imapproxyd's listener."""

    def within(self):
        return contextlib.nullcontext()


class Supervised(Own):
    """in.imapproxyd runs the daemons, another program starts proxyd."""
    mode = None

    def __init__(self, build):
        super().__init__(build, run_listener="no")

    def missing(self):
        return super().missing() or inetd.missing(self.mode)

    def launch(self, backend_port):
        super().launch(backend_port)
        parts.wait_until(self.session_socket.is_socket, f"the broker for {self.mode}")
        self.start_sessions()

    def start_sessions(self):
        folder = self.folder.path
        system = SimpleNamespace(folder=folder, binaries=folder / "bin", run_directory=folder / "run")
        with self.log() as log:
            self.group.start(inetd.MODES[self.mode](system, {"imap": self.port}), stdout=log, stderr=log)


class XinetdEach(Supervised):
    mode = "xinetd nowait"


class InetdEach(Supervised):
    mode = "inetd nowait"


class XinetdListener(Supervised):
    mode = "xinetd wait"


# Paths and names are those of the units.
UNDER_SYSTEMD = """server_hostname 127.0.0.1
server_port {port}
listen_port 143
proc_username keepwarm
proc_groupname keepwarm
stat_filename /var/lib/keepwarm/pimpstats
protocol_log_filename /dev/null
cache_size 4000
cache_expiration_time 3600
"""


class Booted(Own):
    """A systemd of its own with the units as they are shipped."""
    unit = None

    def __init__(self, build):
        super().__init__(build)
        self.port, self.root, self.backend, self.group = 143, None, None, None

    def missing(self):
        return systemd_root.missing()

    @contextlib.contextmanager
    def within(self):
        self.root.enter()
        try:
            yield
        finally:
            self.root.leave()

    def start(self, backend_port=0):
        self.root = systemd_root.Root()
        try:
            self.root.boot()
            self.join(parts.Group(self.unit.replace(".", "-")))
            with self.within():
                self.backend = peers.Null(self.build).start()
                self.root.write("/etc/imapproxy.conf", UNDER_SYSTEMD.format(port=self.backend.port))
                self.root.systemctl("start", self.unit)
                parts.wait_until(lambda: parts.greets(self.port), f"a greeting under {self.unit}")
        except BaseException:
            self.stop()
            raise
        return self

    def join(self, group):
        """PID 1, the journal and what they start count from now on."""
        self.group = group
        for folder in group.folders.values():
            for scope in self.root.cgroup.rglob("cgroup.procs"):
                for pid in scope.read_text(encoding="ascii").split():
                    Path(folder, "cgroup.procs").write_text(pid, encoding="ascii")

    def stop(self):
        if self.backend:
            self.backend.stop()
        if self.root:
            self.root.stop()
        if self.group:
            self.group.stop()


class BootedDaemon(Booted):
    unit = "in.imapproxyd.service"


class BootedListener(Booted):
    unit = "keepwarm-listener.target"


class BootedEach(Booted):
    unit = "keepwarm-each.target"


# Rows of the table, in its order.
MODES = {"in.imapproxyd, its listener": Own, "xinetd, wait (listener)": XinetdListener,
         "systemd, `in.imapproxyd.service`": BootedDaemon,
         "systemd, `keepwarm-listener.target` (Accept=no)": BootedListener,
         "xinetd, nowait": XinetdEach, "inetd, nowait": InetdEach,
         "systemd, `keepwarm-each.target` (Accept=yes)": BootedEach}


# --- measuring ------------------------------------------------------------------------------------------
def one_load(options, peer, clients, seed, *more):
    before = peer.group.cpu()
    with peer.within():
        result = load(options.build, peer, clients, USERS, SECONDS, "-s", seed, *more)
    time.sleep(SETTLE)
    return result | {"proxy_cpu": (peer.group.cpu() - before) / max(result["cycles"], 1)}


def measure_rates(options, makers):
    """{mode: {kind of load: rounds}}; the modes take turns before one mail host."""
    backend, running = peers.Null(options.build).start(), {}
    found = {name: {kind: [] for kind in LOADS} for name in makers}
    try:
        for name, make in makers.items():
            running[name] = make(options.build).start(backend.port)
            with running[name].within():
                load(options.build, running[name], 4, USERS, 60, "-c", USERS, "-o")  # every user once
        for seed in range(min(options.rounds, ROUNDS)):
            for name in [*running][seed % len(running):] + [*running][:seed % len(running)]:
                for kind, (clients, *more) in LOADS.items():
                    found[name][kind].append(one_load(options, running[name], clients, seed, *more))
    finally:
        for peer in running.values():
            peer.stop()
        backend.stop()
    return found


def measure_memory(options, make):
    """KiB per idle session, kernel's share included; None without a memory group."""
    backend, peer, sessions = peers.Null(options.build).start(), make(options.build), []
    try:
        peer.start(backend.port)
        if peer.group.memory() is None:
            return None
        with peer.within():
            load(options.build, peer, 32, USERS, 1)  # pools and tables grow to what they like
        time.sleep(1)
        before = peer.group.memory()
        with peer.within():
            for number in range(IDLE_SESSIONS):
                sessions.append(Session(peer).login(10000 + number))
                sessions[-1].command(b"SELECT INBOX")
                sessions[-1].command(b"IDLE", b"+ ")
        time.sleep(2)  # a session that is quiet for a second gives its buffers back
        return (peer.group.memory() - before) / IDLE_SESSIONS / 1024
    finally:
        for session in sessions:
            session.close()
        peer.stop()
        backend.stop()


def measure(options):
    makers, skipped = {}, {}
    for name, make in MODES.items():
        why = make(options.build).missing()
        if why:
            skipped[name] = why
        else:
            makers[name] = make
    rates = measure_rates(options, makers)
    memory = {}
    for name, make in makers.items():
        memory[name] = measure_memory(options, make)
        say(f"modes: {name}: {spread(rates[name]['connect'], 'per_second')} connections/s, {memory[name]} KiB per session")
    return {"rates": rates, "memory": memory, "skipped": skipped}


# --- the page -------------------------------------------------------------------------------------------
def points(rounds, step):
    return f"{milliseconds(rounds, 'us', step, 'p50')} / {milliseconds(rounds, 'us', step, 'p99')}"


def table(found):
    lines = []
    for name, kinds in found["rates"].items():
        memory = found["memory"][name]
        lines.append((name, points(kinds["alone"], "greeting"),
                      spread(kinds["connect"], "per_second"), points(kinds["connect"], "greeting"),
                      spread(kinds["cycle"], "per_second"), points(kinds["cycle"], "whole"),
                      f"{median(kinds['cycle'], 'proxy_cpu'):.0f}", "–" if memory is None else f"{memory:.0f}",
                      sum(sum(values(rounds, "errors")) for rounds in kinds.values())))
    return rows(("started by", "one client alone: greeting p50 / p99 ms", "connections/s", "greeting p50 / p99 ms",
                 "webmail cycles/s", "whole cycle p50 / p99 ms", "CPU µs/cycle", "idle session KiB", "errors"), lines)


def circumstances(options):
    return (f"{os.cpu_count()} cores, shared with clients and mail host, {time.strftime('%Y-%m-%d')}, load average at the end "
            f"{os.getloadavg()[0]:.1f}. {CLIENTS} clients at once but for the first column, {min(options.rounds, ROUNDS)} "
            f"round(s) of {SECONDS} s in turn: median (least–most).")


def write(found, options):
    """Into docs/MODES.md in the place that is kept for it, or to the screen."""
    left_out = [f"{name} was left out: {why}." for name, why in found["skipped"].items()]
    text = "\n".join([table(found), "", circumstances(options), *left_out]) + "\n"
    if str(options.out) == "-":
        print(text)
        return
    page = options.out.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    assert before and after, f"{options.out} has no place for the table"
    options.out.write_text(before + BEGIN + text + END + after, encoding="utf-8")
