"""The ways to start proxyd, side by side: what docs/MODES.md says in figures. Null backend, nothing but the start differs.

Each mode has a maker; who adds one (a supervisor that needs more than a command) overrides start_sessions().
"""
import os
import time
from types import SimpleNamespace

import parts
import peers
from loads import SETTLE, Session, load, say
from report import median, milliseconds, rows, spread, values

from keepwarm import inetd

CLIENTS = 8
ROUNDS, SECONDS = 3, 1  # at most: this part is to take no longer than a minute and a half
USERS = 200
IDLE_SESSIONS = 300
# Clients at once, and what the load generator is told: only to connect and be greeted, or the webmail cycle.
LOADS = {"alone": (1, "-g"), "connect": (CLIENTS, "-g"), "cycle": (CLIENTS,)}
BEGIN, END = "<!-- written by bench/run modes -->\n", "<!-- until here -->\n"


class Own(peers.Keepwarm):
    """in.imapproxyd's listener."""


class Supervised(peers.Keepwarm):
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


# Rows of the table, in its order.
MODES = {"in.imapproxyd, its listener": Own, "xinetd, wait (listener)": XinetdListener,
         "xinetd, nowait": XinetdEach, "inetd, nowait": InetdEach}


# --- measuring ------------------------------------------------------------------------------------------
def one_load(options, peer, clients, seed, *more):
    before = peer.group.cpu()
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
        load(options.build, peer, 32, USERS, 1)  # pools and tables grow to what they like
        time.sleep(1)
        before = peer.group.memory()
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
