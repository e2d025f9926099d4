"""What a bench needs around the programs: control groups, processes that end with it, ports, packages."""
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpuacct", "memory")  # of version 1; what is missing is done without
READY = 20.0
TICK = os.sysconf("SC_CLK_TCK")
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CONTEXT.check_hostname, CONTEXT.verify_mode = False, ssl.CERT_NONE


def wait_until(predicate, what, seconds=READY):
    end = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def free_port():
    """A loopback port that nobody listens on, outside the range of outgoing connections."""
    while True:
        port = random.randrange(10000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def connect(port, tls=False, seconds=10):
    """A socket, with TLS over it that verifies nothing and resumes nothing."""
    sock = socket.create_connection(("127.0.0.1", port), seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return CONTEXT.wrap_socket(sock) if tls else sock


def greets(port, tls=False):
    try:
        with connect(port, tls, 2) as sock:
            return sock.recv(4096).startswith((b"* OK", b"+OK"))
    except OSError:
        return False


def read_stat(pid):
    """(state, parent, session, ticks of CPU with those of children that were waited for), or None."""
    try:
        field = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return field[0], int(field[1]), int(field[3]), sum(map(int, field[11:15]))


class Group:
    """All processes of one part: a control group per controller where they can be made, else
    the processes of its sessions and all that descend from them."""

    def __init__(self, name):
        self.folders = {}
        self.leaders = []
        for controller in CONTROLLERS:
            folder = CGROUPS / controller / f"keepwarm-bench-{os.getpid()}-{name}"
            try:
                folder.mkdir()
                (folder / "cgroup.procs").write_text("")
            except OSError:
                if folder.is_dir():
                    folder.rmdir()
                continue
            self.folders[controller] = folder

    def start(self, argv, **kwargs):
        """Popen of argv inside the group; SIGTERM reaches it when this program dies, too."""
        files = [str(folder / "cgroup.procs") for folder in self.folders.values()]

        def enter():
            for file in files:
                with open(file, "w", encoding="ascii") as procs:
                    procs.write("0")

        argv = ["setpriv", "--pdeathsig", "TERM", "--", *map(str, argv)]
        kwargs = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL,
                  "cwd": "/"} | kwargs
        leader = subprocess.Popen(argv, preexec_fn=enter, start_new_session=True, **kwargs)
        self.leaders.append(leader)
        return leader

    def pids(self):
        if self.folders:
            text = (next(iter(self.folders.values())) / "cgroup.procs").read_text()
            return [int(pid) for pid in text.split()]
        stats = {int(pid): read_stat(pid) for pid in os.listdir("/proc") if pid.isdigit()}
        ours = {leader.pid for leader in self.leaders}
        while more := {pid for pid, stat in stats.items() if stat and pid not in ours and ours & {stat[1], stat[2]}}:
            ours |= more
        return [pid for pid in ours if stats.get(pid) and stats[pid][0] != "Z"]

    def cpu(self):
        """CPU microseconds of all processes so far. Without a group those of children that ended
        while nobody waited for them (SIGCHLD ignored) are missing."""
        folder = self.folders.get("cpuacct")
        if folder:
            return int((folder / "cpuacct.usage").read_text()) / 1000
        ticks = sum(stat[3] for stat in map(read_stat, self.pids()) if stat)
        return ticks * 1e6 / TICK

    def memory(self):
        """Bytes, kernel's share included, or None."""
        folder = self.folders.get("memory")
        return int((folder / "memory.usage_in_bytes").read_text()) if folder else None

    def pss(self, program):
        """Bytes of all processes of that name, what they share divided among them."""
        total = 0
        for pid in self.pids():
            try:
                if Path(f"/proc/{pid}/comm").read_text().strip() == program:
                    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                    total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
            except OSError:
                pass  # it has ended
        return total

    def descriptors(self):
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids())

    def signal_all(self, number):
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def alive(self):
        for leader in self.leaders:
            leader.poll()
        return [pid for pid in self.pids() if (read_stat(pid) or "Z")[0] != "Z"]

    def stop(self):
        for leader in self.leaders:
            if leader.poll() is None:
                leader.terminate()
        for number, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            try:
                wait_until(lambda: not self.alive(), "", seconds)
                break
            except TimeoutError:
                self.signal_all(number)
        for leader in self.leaders:
            leader.wait()
        wait_until(self.removed, f"a control group of {self.pids()} is not empty")

    def removed(self):
        for controller, folder in list(self.folders.items()):
            try:
                folder.rmdir()
            except OSError:
                return False
            del self.folders[controller]
        return True


class Folder:
    """A temporary folder through which every user may walk."""

    def __init__(self):
        import tempfile
        self.path = Path(tempfile.mkdtemp(prefix="keepwarm-bench-", dir="/tmp"))
        self.path.chmod(0o755)

    def make(self, name, owner=None):
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True)
        if owner:
            shutil.chown(path, *owner)
        return path

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)


# --- packages ---------------------------------------------------------------------------------------
def installed(package):
    run = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package],
                         capture_output=True, text=True, check=False)
    word, _, version = run.stdout.partition(" ")
    return version if word == "installed" else None


def install(packages):
    """Installs what is missing without starting a service. Returns why that was not possible, or None."""
    missing = [package for package in packages if not installed(package)]
    if not missing:
        return None
    policy = Path("/usr/sbin/policy-rc.d")  # forbids the start of what is installed
    ours = not os.path.lexists(policy)
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
        policy.chmod(0o755)
    try:
        run = subprocess.run(["apt-get", "-qq", "-y", "--no-install-recommends", "--no-remove",
                              "-o", "DPkg::Lock::Timeout=300", "install", *missing],
                             capture_output=True, text=True, check=False,
                             env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"))
    finally:
        if ours:
            policy.unlink()
    return f"{' '.join(missing)} could not be installed" if run.returncode else None


# --- the network's counters -------------------------------------------------------------------------
def retransmissions():
    """(SYNs sent again, listen queues that overflowed) of this machine so far."""
    lines = Path("/proc/net/netstat").read_text().splitlines()
    values = dict(zip(lines[0].split(), lines[1].split()))
    return int(values["TCPSynRetrans"]), int(values["ListenOverflows"])
