"""What a bench does to its parts: loads by the load generator, single sessions, rounds of all peers in turn."""
import json
import subprocess
import time

import parts
import peers
import report

SETTLE = 0.3  # seconds after a load: connections are still being given back


def say(text):
    print(text, flush=True)


def chosen(everything, names):
    """Those that were asked for and can be started, and why the others cannot."""
    usable, skipped = {}, {}
    for name, make in everything.items():
        if names and name not in names.split(","):
            continue
        why = make().missing()
        if why:
            skipped[name] = why
        else:
            usable[name] = make
    return usable, skipped


# --- loads ------------------------------------------------------------------------------------------
def load_command(build, peer, clients, users, seconds, *more):
    return [str(word) for word in (
        build / "bench/load", "-p", peer.port, "-k", clients, "-n", users, "-t", seconds, "-u", "user%",
        "-w", f"{peers.SECRET}%", *(["-T"] if peer.tls.clients else []), *more)]


def load(build, peer, clients, users, seconds, *more):
    run = subprocess.run(load_command(build, peer, clients, users, seconds, *more),
                         capture_output=True, text=True, check=True, timeout=seconds + 60)
    return json.loads(run.stdout)


class Session:
    """One client, a command at a time."""
    greeting = b"* OK"

    def __init__(self, peer):
        self.sock = parts.connect(peer.port, peer.tls.clients)
        self.read_until(self.greeting)

    def read_until(self, end):
        data = b""
        while end not in data:
            more = self.sock.recv(65536)
            if not more:
                raise ConnectionError("closed")
            data += more

    def command(self, line, end=b"a OK"):
        self.sock.sendall(b"a " + line + b"\r\n")
        self.read_until(end)

    def login(self, number):
        self.command(b"LOGIN user%d %s%d" % (number, peers.SECRET.encode(), number))
        return self

    def close(self):
        self.sock.close()


class Pop3Session(Session):
    """The same with POP3."""
    greeting = b"+OK"

    def command(self, line, end=b"+OK"):
        self.sock.sendall(line + b"\r\n")
        self.read_until(end)

    def login(self, number):
        self.command(b"USER user%d" % number)
        self.command(b"PASS %s%d" % (peers.SECRET.encode(), number))
        return self


def idle_memory(peer, count, open_session):
    """KiB that each of so many sessions costs while it is idle, the kernel's share included. open_session(number)."""
    sessions = []
    try:
        time.sleep(2)
        before = peer.group.memory()
        for number in range(1, count + 1):
            sessions.append(open_session(10000 + number))
        time.sleep(2)
        return (peer.group.memory() - before) / count / 1024
    finally:
        for session in sessions:
            session.close()


# --- rates ------------------------------------------------------------------------------------------
class Rates:
    """All peers before one mail host. `more`: for every load."""

    def __init__(self, options, make_backend, makers, more=()):
        self.options, self.more = options, more
        self.backend = make_backend().start()
        self.peers = []
        try:
            for name, make in makers.items():
                self.start(name, make)
        except BaseException:
            self.stop()
            raise

    def start(self, name, make):
        peer = make()
        try:
            self.peers.append(peer.start(self.backend.port_for(peer)))
        except TimeoutError as problem:
            say(f"  {name} did not start: {problem}")

    def stop(self):
        for peer in reversed(self.peers):
            peer.stop()
        self.backend.stop()

    def load(self, peer, clients, *more):
        return load(self.options.build, peer, clients, self.backend.users, self.options.seconds, *self.more, *more)

    def warm_up(self, peer):
        """Every user once, then a load like the one that is measured."""
        load(self.options.build, peer, 4, self.backend.users, 60, "-c", self.backend.users, "-o", *self.more)
        self.load(peer, 8, "-s", 99)

    def measure(self, peer, clients, seed, *more):
        groups = {"proxy_cpu": peer.group, "backend_cpu": self.backend.group}
        before = {key: group.cpu() for key, group in groups.items() if group}
        result = self.load(peer, clients, "-s", seed, *more)
        time.sleep(SETTLE)
        cycles = max(result["cycles"], 1)
        for key, used in before.items():
            result[key] = (groups[key].cpu() - used) / cycles
        result["reused_share"] = result["reused"] / cycles
        return result

    def run(self):
        """{clients: {peer: [a result per round]}}"""
        for peer in self.peers:
            self.warm_up(peer)
        results = {}
        for clients in self.options.clients:
            table = results.setdefault(clients, {peer.name: [] for peer in self.peers})
            for seed in range(self.options.rounds):
                turn = seed % len(self.peers)
                for peer in self.peers[turn:] + self.peers[:turn]:
                    table[peer.name].append(self.measure(peer, clients, seed))
            for name, rounds in table.items():
                say(f"  K={clients} " + report.one_line(name, rounds))
        return results


def rates(options, make_backend, makers, more=()):
    """Of a whole table, as Rates.run()."""
    measured = Rates(options, make_backend, makers, more)
    try:
        return measured.run()
    finally:
        measured.stop()
