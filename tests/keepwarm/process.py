"""Processes as tests need them: started so that they end with the test, found again by what /proc says.

A process that was orphaned may stay a zombie for a while under a lazy PID 1: zombies count as gone.
"""
import array
import contextlib
import itertools
import mmap
import os
import random
import re
import signal as signal_numbers
import socket
import subprocess
import sys
import threading
import time

DEADLINE = 15.0
START_DEADLINE = 60.0  # for a server to serve: on a machine that has much else to do


class TestTimeout(AssertionError):
    """Something that had to happen did not happen in time."""


def wait_until(predicate, what, deadline=DEADLINE):
    """Polls until predicate() is true and returns its value; fails with `what` after the deadline."""
    end = time.monotonic() + deadline
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            text = what() if callable(what) else what
            raise TestTimeout(f"not within {deadline} s: {text}")
        time.sleep(0.005)


def start(argv, signal="TERM", **kwargs):
    """Popen of argv, which gets a signal when this thread ends, whatever the reason (PR_SET_PDEATHSIG)."""
    return subprocess.Popen(["setpriv", "--pdeathsig", signal, "--", *map(str, argv)], **kwargs)


class Ports:
    """Ports outside the range that outgoing connections are given, in turn. Several processes test at the same time, and
    between choosing a port and listening on it each would have another one's: so each has a part of them to itself, as
    long as it has a socket with the part's name."""

    FIRST, PARTS, SIZE = 10000, 110, 200

    def __init__(self):
        self.owner, self.lock, self.ports = None, None, None

    def claim(self):
        for part in random.sample(range(self.PARTS), self.PARTS):
            self.lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                self.lock.bind(f"\0keepwarm-test-ports-{part}")
            except OSError:
                self.lock.close()
                continue
            first = self.FIRST + part * self.SIZE
            self.ports = itertools.cycle(random.sample(range(first, first + self.SIZE), self.SIZE))
            return
        raise AssertionError("other processes have all ports")

    def next(self):
        if self.owner != os.getpid():  # a fork has none of its own yet
            self.owner = os.getpid()
            self.claim()
        return next(self.ports)


PORTS = Ports()


def free_port(address="127.0.0.1"):
    """A port that nobody listens on, and that nobody else who tests will choose."""
    while True:
        port = PORTS.next()
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port


def read_proc(pid, name):
    """The bytes of /proc/PID/NAME, or b"" when the process has gone or is not ours to look at."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


def alive(pid):
    """Does the process run (and is no zombie)?"""
    state = read_proc(pid, "stat").rpartition(b") ")[2][:1]
    return state not in (b"", b"Z", b"X")


def asleep(pid):
    """Does the process wait for something?"""
    return read_proc(pid, "stat").rpartition(b") ")[2][:1] == b"S"


def program(pid):
    """The name of the program that the process runs."""
    try:
        path = os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return read_proc(pid, "comm").decode().strip()
    return os.path.basename(path.removesuffix(" (deleted)"))


def find(word):
    """{pid: program} of all living processes that have `word` in their command line."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and word.encode() in read_proc(name, "cmdline") and alive(name):
            found[int(name)] = program(name)
    found.pop(os.getpid(), None)
    return found


def fd_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def is_stopped(pid):
    """Has SIGSTOP reached all of its threads?"""
    threads = os.listdir(f"/proc/{pid}/task")
    return all(read_proc(pid, f"task/{thread}/stat").rpartition(b") ")[2][:1] == b"T" for thread in threads)


@contextlib.contextmanager
def frozen(*pids):
    """The processes are stopped (SIGSTOP) inside the with block."""
    try:
        for pid in pids:
            os.kill(pid, signal_numbers.SIGSTOP)
        wait_until(lambda: all(map(is_stopped, pids)), "not stopped")
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal_numbers.SIGCONT)


def cpu_seconds(pid):
    """User and system time that the process has used, in seconds; 0 when it is gone."""
    fields = read_proc(pid, "stat").rpartition(b") ")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") if fields else 0


def cpu_share(pids, seconds):
    """How much of one core the processes use together while so much time passes, 0 to 1 and above."""
    before, begin = {pid: cpu_seconds(pid) for pid in pids}, time.monotonic()
    threading.Event().wait(seconds)
    used = sum(max(0, cpu_seconds(pid) - spent) for pid, spent in before.items())
    return used / (time.monotonic() - begin)


def socket_inodes(pid):
    """The inodes of the sockets that the process holds."""
    inodes = set()
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return inodes
    for name in names:
        try:
            match = re.match(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue
        if match:
            inodes.add(int(match[1]))
    return inodes


def tcp_inode(local_port, remote_port):
    """The inode of the established TCP socket with these two ports, or None."""
    for line in read_proc("net", "tcp").decode().splitlines()[1:]:
        field = line.split()
        ports = [int(end.rpartition(":")[2], 16) for end in field[1:3]]
        if ports == [local_port, remote_port] and field[3] == "01":
            return int(field[9])
    return None


def tcp_is_held(local_port, remote_port):
    """Has a process still the TCP socket with these two ports, in whatever state?"""
    for line in read_proc("net", "tcp").decode().splitlines()[1:]:
        field = line.split()
        if [int(end.rpartition(":")[2], 16) for end in field[1:3]] == [local_port, remote_port] and field[9] != "0":
            return True
    return False


def tcp_unread(local_port, remote_port):
    """How many bytes wait to be read from the established TCP socket with these two ports."""
    for line in read_proc("net", "tcp").decode().splitlines()[1:]:
        field = line.split()
        if [int(end.rpartition(":")[2], 16) for end in field[1:3]] == [local_port, remote_port] and field[3] == "01":
            return int(field[4].partition(":")[2], 16)
    return None


def tcp_queued(address, port):
    """How many connections to the TCP socket that listens there wait to be accepted."""
    wanted = f"{int.from_bytes(socket.inet_aton(address), sys.byteorder):08X}:{port:04X}"
    for line in read_proc("net", "tcp").decode().splitlines()[1:]:
        field = line.split()
        if field[1] == wanted and field[3] == "0A":
            return int(field[4].partition(":")[2], 16)
    return None


def touched(pagemap, begin, end):
    """The ranges of addresses whose pages are in memory or swapped out: the others are zeros, or a file as it is.
    A sanitizer has hundreds of MiB of them."""
    size = mmap.PAGESIZE
    pagemap.seek(begin // size * 8)
    pages = array.array("Q", pagemap.read((end - begin) // size * 8))
    first = None
    for number, page in enumerate([*pages, 0]):
        if page >> 62 and first is None:
            first = number
        elif not page >> 62 and first is not None:
            yield begin + first * size, begin + number * size
            first = None


def memory(pid):
    """All memory of the process that can be read, as one byte string (needs the right to trace it)."""
    parts = []
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem, \
            open(f"/proc/{pid}/pagemap", "rb", 0) as pagemap:
        for line in maps:
            field = line.split()
            if not field[1].startswith("r") or field[-1] in ("[vvar]", "[vsyscall]"):
                continue
            begin, end = (int(part, 16) for part in field[0].split("-"))
            if end - begin > 1 << 32:  # the shadow memory of a sanitizer
                continue
            shared = field[1].endswith("s")  # another process may have written it
            for first, last in [(begin, end)] if shared else touched(pagemap, begin, end):
                with contextlib.suppress(OSError):
                    mem.seek(first)
                    parts.append(mem.read(last - first))
    return b"".join(parts)


def parent(pid):
    """The process that started it, or that has inherited it; None when it is gone."""
    stat = read_proc(pid, "stat").decode(errors="replace")
    return int(stat.rpartition(")")[2].split()[1]) if stat else None


def children(pid):
    """The processes that it has started and not reaped."""
    return [int(child) for child in read_proc(pid, f"task/{pid}/children").split()]


def tcp_inodes_to(port):
    """The inodes of all TCP sockets whose other end is this port."""
    inodes = set()
    for line in read_proc("net", "tcp").decode().splitlines()[1:]:
        field = line.split()
        if int(field[2].rpartition(":")[2], 16) == port and field[9] != "0":
            inodes.add(int(field[9]))
    return inodes
