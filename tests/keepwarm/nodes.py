"""Several hosts on this machine: each with a network, a hostname and files of its own (network, UTS and mount
namespaces), joined by a bridge in a namespace where the clients are. Nothing of the machine's own network changes, and
all of it goes with the processes that hold it.

Node N is nodeN.site.test, 10.77.0.N; all have the same /etc/hosts. All files are seen by all nodes, but for the folder
`Nodes.local`, which is another one for each: so the very same configuration file serves them all.
"""
import contextlib
import ctypes
import functools
import json
import os
import shutil
import socket
import subprocess

from keepwarm import pop3, process
from keepwarm.imap import Client
from keepwarm.system import BUILD, temp_folder

DOMAIN = "site.test"
NETWORK = "10.77.0"
CLIENTS = f"{NETWORK}.254"
IMAP, POP3 = 143, 110
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


class Namespaces:
    """Namespaces that last as long as this object; `script` is run in them first."""

    def __init__(self, script):
        self.holder = process.start(
            ["unshare", "--net", "--uts", "--mount", "--propagation", "private", "sh", "-euc",
             f"{script}\necho ready\nexec sleep infinity"],
            signal="KILL", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = []
        for line in self.holder.stdout:
            if line == "ready\n":
                return
            said.append(line)
        raise OSError("".join(said).strip() or f"unshare ended with {self.holder.wait()}")

    def command(self, *argv):
        """What runs a command in them, in the same process."""
        return ["nsenter", "-t", str(self.holder.pid), "--net", "--uts", "--mount", "--", *map(str, argv)]

    def run(self, *argv):
        done = subprocess.run(self.command(*argv), capture_output=True, text=True, timeout=process.DEADLINE, check=False)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def inside(self):
        """Sockets that this thread makes in the meantime are of this network, and stay it."""
        with open("/proc/thread-self/ns/net", "rb") as own, open(f"/proc/{self.holder.pid}/ns/net", "rb") as there:
            enter_network(there)
            try:
                yield
            finally:
                enter_network(own)

    def end(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


def enter_network(file):
    if LIBC.setns(file.fileno(), CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@functools.cache
def missing():
    """Why there can be no nodes here, or None."""
    if os.getuid() != 0:
        return "hosts in namespaces need root"
    for program in ("unshare", "nsenter", "ip"):
        if not shutil.which(program):
            return f"there is no {program}"
    try:
        Namespaces("ip link add one type bridge\nip link add two type veth peer name three\n"
                   "mount -t tmpfs tmpfs /mnt").end()
    except OSError as error:
        return f"hosts in namespaces cannot be made: {error}"
    return None


class Node:
    def __init__(self, nodes, number):
        self.nodes, self.number = nodes, number
        self.name, self.address = f"node{number}", f"{NETWORK}.{number}"
        self.log = nodes.folder / f"{self.name}.log"
        self.supervisor = None
        self.space = Namespaces(f"""
            hostname {self.name}.{DOMAIN}
            ip link set lo up
            mount --bind {nodes.hosts} /etc/hosts
            mount -t tmpfs -o mode=755 tmpfs {nodes.local}""")
        nodes.switch.run("sh", "-euc", f"""
            ip link add {self.name} type veth peer name eth0 netns {self.space.holder.pid}
            ip link set {self.name} master bridge up""")
        self.space.run("sh", "-euc", f"ip addr add {self.address}/24 dev eth0; ip link set eth0 up")

    # --- its mail servers -----------------------------------------------------------------------------
    def listen(self, port):
        """A socket that listens on this node's 127.0.0.1."""
        with self.space.inside():
            return socket.create_server(("127.0.0.1", port), backlog=512)

    def path_of(self, name):
        """How a file of this node's `local` folder is reached from outside."""
        return f"/proc/{self.space.holder.pid}/root{self.nodes.local}/{name}"

    def listen_at(self, name):
        """A socket in that folder, for everybody."""
        path = self.path_of(name)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        os.chmod(path, 0o666)
        listener.listen(512)
        return listener

    # --- its proxy --------------------------------------------------------------------------------------
    def start(self):
        with open(self.log, "ab") as log:
            self.supervisor = process.start(
                self.space.command(BUILD / "in.imapproxyd", "-f", self.nodes.conf),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0", UBSAN_OPTIONS="print_stacktrace=1"))
        process.wait_until(lambda: "is ready" in self.log_text() or self.supervisor.poll() is not None,
                           lambda: f"{self.name} is not ready:\n{self.log_text()}")
        assert self.supervisor.poll() is None, self.log_text()

    def stop(self):
        """What was wrong with its end, or None."""
        status = 0
        if self.supervisor:
            self.supervisor.terminate()
            status = self.supervisor.wait(process.DEADLINE)
            self.supervisor = None
        text = self.log_text()
        complaints = [word for word in ("AddressSanitizer", "runtime error:") if word in text]
        return f"{self.name} ended with {status} {complaints}\n{text}" if status or complaints else None

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def stats(self):
        return json.loads(self.space.run(BUILD / "pimpstat", "--json", "-f", self.nodes.conf))

    def counter(self, name):
        return self.stats()["counters"][name]

    def tell(self, user, service="imap"):
        """What lookupd -t says here."""
        return self.space.run(BUILD / "lookupd", "-f", self.nodes.conf, "-t", user, "-s", service)

    # --- its clients ------------------------------------------------------------------------------------
    def connect(self, port):
        with self.nodes.switch.inside():
            return socket.create_connection((self.address, port), timeout=process.DEADLINE)

    def imap(self, user, password):
        """A client that has logged in."""
        client = Client(IMAP, sock=self.connect(IMAP))
        reply = client.login(user, password)
        assert reply.ok, (self.name, user, reply, self.log_text())
        client.login_reply = reply
        return client

    def pop3(self, user, password):
        client = pop3.Client(POP3, sock=self.connect(POP3))
        answer = client.login(user, password)
        assert answer.startswith(b"+OK"), (self.name, user, answer, self.log_text())
        return client


class Nodes:
    """So many nodes with one configuration; `start()` starts their proxies, on ports 143 and 110."""

    def __init__(self, count, **config):
        self.folder = temp_folder()
        self.local = self.folder / "local"
        self.local.mkdir(mode=0o755)
        self.hosts = self.folder / "hosts"
        self.hosts.write_text("127.0.0.1 localhost\n" + "".join(
            f"{NETWORK}.{n} node{n}.{DOMAIN} node{n} alias{n}.{DOMAIN}\n" for n in range(1, count + 1)))
        self.conf = self.folder / "imapproxy.conf"
        self.members = []
        self.switch = Namespaces(f"""
            ip link set lo up
            ip link add bridge type bridge
            ip addr add {CLIENTS}/24 dev bridge
            ip link set bridge up""")
        try:
            for number in range(1, count + 1):
                self.members.append(Node(self, number))
        except BaseException:
            self.discard()
            raise
        self.config = {"server_hostname": "localhost", "listen_port": IMAP, "pop3_listen_port": POP3,
                       "run_directory": self.local / "run", "stat_filename": self.local / "state",
                       "protocol_log_filename": "/dev/null", "foreground_mode": "yes", "log_target": "stderr",
                       "log_format": "keepwarm", "spare_processes": "2 16", **config}

    def __iter__(self):
        return iter(self.members)

    def write_config(self, **changes):
        """As System.write_config()."""
        self.config.update(changes)
        lines = [f"{key} {one}\n" for key, value in self.config.items() if value is not None
                 for one in (value if isinstance(value, list) else [value])]
        self.conf.write_text("".join(lines), encoding="utf-8")

    def start(self):
        self.write_config()
        for node in self:
            node.start()
        return self

    def stop_proxies(self):
        """All sessions end, and what they log is there then."""
        problems = [problem for problem in [node.stop() for node in self] if problem]
        assert not problems, "\n".join(problems)
        process.wait_until(lambda: not process.find(str(self.conf)), lambda: f"left: {process.find(str(self.conf))}")

    def stop(self):
        try:
            self.stop_proxies()
        finally:
            self.discard()

    def discard(self):
        for node in self:
            node.space.end()
        self.switch.end()
        shutil.rmtree(self.folder, ignore_errors=True)
