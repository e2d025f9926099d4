"""The whole of Keepwarm as one object: in.imapproxyd in the foreground, all its files in one folder.

stop() is part of the test: the exit status, what is left behind and reports of sanitizers all count.
"""
import atexit
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from keepwarm import process
from keepwarm.imap import Client
from keepwarm.process import wait_until

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / os.environ.get("KEEPWARM_BUILD", "build")  # an absolute path stays as it is
SANITIZED = SOURCE.name == "san"
STAGED = ("in.imapproxyd", "cachebrokerd", "lookupd", "tlsrelayd", "proxyd", "pimpstat")


def temp_folder():
    """A folder in /tmp through which every user may walk."""
    folder = Path(tempfile.mkdtemp(prefix="keepwarm-test-", dir="/tmp"))
    folder.chmod(0o755)
    return folder


def stage(**instead):
    """Copies of the programs where proc_username can execute them: a checkout may be in a folder that only its owner
    may enter. They go when the tests end. `instead` names another file for a program: proxyd=..."""
    folder = temp_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for program in {*STAGED, *instead}:
        shutil.copy2(instead.get(program, SOURCE / program), folder / program)
    return folder


BUILD = stage()


class System:
    def __init__(self, backend_port, binaries=BUILD, prefix=(), **config):
        """prefix: a program and its arguments that start in.imapproxyd, as prlimit(1) does."""
        self.binaries = binaries
        self.prefix = prefix
        self.folder = temp_folder()
        self.port = config.get("listen_port") or process.free_port()
        self.conf = self.folder / "imapproxy.conf"
        self.log = self.folder / "log"
        self.run_directory = self.folder / "run"
        self.supervisor = None
        self.given = 0
        self.config = {
            "server_hostname": "127.0.0.1",
            "server_port": backend_port,
            "listen_address": "127.0.0.1",
            "listen_port": self.port,
            "run_directory": self.run_directory,
            "stat_filename": self.folder / "state",
            "protocol_log_filename": self.folder / "protocol.log",
            "foreground_mode": "yes",
            "log_target": "stderr",
            "spare_processes": "2 16",
            "host_retry": 0,
        }
        self.config.update(config)
        self.write_config()

    def write_config(self, **changes):
        """Writes the file; a value of None leaves the key out, a list is a line for each."""
        self.config.update(changes)
        lines = [f"{key} {one}\n" for key, value in self.config.items() if value is not None
                 for one in (value if isinstance(value, list) else [value])]
        self.conf.write_text("".join(lines), encoding="utf-8")

    # --- start and stop -----------------------------------------------------------------------------
    def environment(self):
        return dict(os.environ, ASAN_OPTIONS="detect_leaks=0", UBSAN_OPTIONS="print_stacktrace=1")

    def start(self):
        with open(self.log, "ab") as log:
            self.supervisor = process.start(
                [*self.prefix, self.binaries / "in.imapproxyd", "-f", self.conf],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=self.environment())
        self.wait_ready()
        return self

    def wait_ready(self):
        if self.config.get("run_listener") == "no":
            wait_until(self.running_or_fail(lambda: (self.run_directory / "session").is_socket()),
                       lambda: "no session socket; log:\n" + self.log_text(), process.START_DEADLINE)
        else:
            wait_until(self.running_or_fail(self.greets), lambda: "no greeting; log:\n" + self.log_text(),
                       process.START_DEADLINE)
        if self.config["log_target"] == "stderr":
            self.wait_log("is ready", deadline=process.START_DEADLINE)  # SIGTERM before that is the end of a start, with status 1

    def running_or_fail(self, predicate):
        def check():
            status = self.supervisor.poll() if self.supervisor else None
            assert status is None, f"in.imapproxyd exited with {status}; log:\n{self.log_text()}"
            return predicate()
        return check

    def forget_start(self):
        """Who has looked whether it greets is gone, and counted: whoever counts clients from now on counts his own."""
        def is_over():
            stats = self.stats()
            return sum(stats["ends"].values()) and not stats["gauges"]["clients"]
        wait_until(is_over, lambda: f"the look at the start goes on: {self.stats()}\n{self.log_text()}")

    def greets(self):
        try:
            with Client(self.port) as client:
                return client.greeting.startswith(b"* OK")
        except (OSError, AssertionError):
            return False

    def stop(self):
        """SIGTERM; all processes end, the exit status is 0, no sanitizer has complained."""
        try:
            self.stop_and_keep()
        finally:
            self.discard()

    def stop_and_keep(self):
        """The same, and start() may follow."""
        if self.supervisor:
            self.supervisor.terminate()
            status = self.supervisor.wait(process.DEADLINE)
            self.supervisor = None
            assert status == 0, f"in.imapproxyd exited with {status}"
        wait_until(lambda: not self.pids(), lambda: f"left behind: {self.pids()}")
        self.check_sanitizers()

    def discard(self):
        """Ends whatever is left, without questions, and removes the files."""
        if self.supervisor and self.supervisor.poll() is None:
            self.supervisor.kill()
            self.supervisor.wait()
        for pid in self.pids():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        shutil.rmtree(self.folder, ignore_errors=True)

    def check_sanitizers(self):
        text = self.log_text()
        for word in ("AddressSanitizer", "runtime error:", "LeakSanitizer"):
            assert word not in text, f"a sanitizer complained:\n{text}"

    # --- looking at it ------------------------------------------------------------------------------
    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_log(self, text, deadline=process.DEADLINE):
        wait_until(lambda: text in self.log_text(), lambda: f"{text!r} not logged:\n{self.log_text()}", deadline)

    def pids(self, name=None):
        """The processes of this system, or those that run one program."""
        found = process.find(str(self.folder))
        return sorted(pid for pid, program in found.items()
                      if program in PROGRAMS and name in (None, program))

    def has_ended(self, pid):
        """Is the process gone that the log names so?"""
        return not process.alive(pid)

    def programs(self):
        """How many processes each program has."""
        found = process.find(str(self.folder)).values()
        return {name: list(found).count(name) for name in PROGRAMS if name in found}

    def fds(self):
        """Open descriptors of the processes that live long: {program: count}."""
        return {name: process.fd_count(self.pids(name)[0])
                for name in ("in.imapproxyd", "cachebrokerd") if self.pids(name)}

    def pid_serving(self, client):
        """The proxyd process that holds the other end of this client's connection."""
        inode = process.tcp_inode(self.port, client.port)
        holders = [pid for pid in self.pids("proxyd") if inode in process.socket_inodes(pid)]
        assert len(holders) == 1, f"held by {holders}, not by one process"
        return holders[0]

    def listener_pid(self):
        """The listener's process, as soon as there is one that has children."""
        return wait_until(self.find_listener, lambda: f"there is no listener: {self.programs()}\n{self.log_text()}")

    def find_listener(self):
        """The proxyd that the supervisor has started, or, without one, no proxyd has started; None now and then,
        since /proc leaves children out while others of them end."""
        proxyds, supervisors = self.pids("proxyd"), self.pids("in.imapproxyd")
        for pid in proxyds:
            parent = process.parent(pid)
            started = parent in supervisors if supervisors else parent not in (None, *proxyds)
            if started and process.read_proc(pid, f"task/{pid}/children").split():
                return pid
        return None

    def stats(self):
        """What pimpstat --json prints."""
        run = subprocess.run([BUILD / "pimpstat", "--json", "-f", self.conf], capture_output=True,
                             timeout=process.DEADLINE, check=False, env=self.environment())
        assert run.returncode == 0, f"pimpstat: {run.returncode} {run.stdout!r} {run.stderr!r}"
        return json.loads(run.stdout)

    def counter(self, name):
        return self.stats()["counters"][name]

    def gauge(self, name):
        return self.stats()["gauges"][name]

    def wait_counter(self, name, value):
        wait_until(lambda: self.counter(name) == value,
                   lambda: f"counter {name} is not {value}: {self.stats()}\n{self.log_text()}")

    def wait_given(self):
        """One more connection has been given back since the last call. (The statistics lag behind, so what
        they say of the cache may be true for the session before.)"""
        self.given += 1
        wait_until(lambda: self.counter("given") >= self.given,
                   lambda: f"not {self.given} given back: {self.stats()}\n{self.log_text()}")

    def wait_counters(self, **wanted):
        """All of these at the same time."""
        def seen():
            counters = self.stats()["counters"]
            return {name: counters[name] for name in wanted}
        wait_until(lambda: seen() == wanted, lambda: f"not {wanted}: {self.stats()['counters']}\n{self.log_text()}")

    def wait_clients(self, count):
        """So many sessions' processes are known to the broker; nothing of others is left there."""
        wait_until(lambda: self.gauge("clients") == count, lambda: f"not {count} clients: {self.stats()}\n{self.log_text()}")

    def wait_cached(self, count):
        wait_until(lambda: self.gauge("cached") == count,
                   lambda: f"not {count} cached: {self.stats()}\n{self.log_text()}")

    # --- clients ------------------------------------------------------------------------------------
    def client(self, **kwargs):
        return Client(self.port, **kwargs)

    def session(self, user="anna", password=None, how="quoted", reused=None):
        """A client that has logged in; with reused=True or False that is checked."""
        client = self.client()
        reply = client.login(user, password or f"pw-{user}", how)
        assert reply.ok, reply
        assert reused is None or reply.reused == reused, reply
        client.login_reply = reply
        return client


PROGRAMS = ("in.imapproxyd", "cachebrokerd", "lookupd", "tlsrelayd", "proxyd")
