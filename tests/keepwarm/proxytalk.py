"""Conversations with a proxy, old or new: over several connections, with its counters and its protocol log.

Beside the steps of conversation.py there are

    @ NAME        what follows goes over connection NAME, made when there is none or it has ended; the first is `1`
    / close       the client closes its connection; `/ reset`: with RST
    $ counters    what `pimpstat -c` prints is received; `$ log`: the protocol log (a CR in it is shown as \\r). Both
                  may lag behind, so they are read until they are as expected, but not for long

and the words user, password, wrong (another one), other and otherpassword (a second account), user64, password64 and wrong64
in base64, plain64 and badplain64 (the message of SASL PLAIN with the password and with the wrong one). Marks behind the
name of a conversation:

    stalls        the old program does not answer, so it is not waited for long
    new           it is not asked, since it would not survive
    own           the conversation has a proxy of its own, as those with counters have

Each conversation has two users of its own, so that what is left in the pool by one is not met by another.

A Site is one configuration file: Debian's program serves it, then Keepwarm does, nothing of the file having changed.
"""
import base64
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keepwarm import conversation, dovecot, process
from keepwarm.debroot import CACHE
from keepwarm.imap import Client
from keepwarm.pairs import write_maildirs
from keepwarm.process import wait_until
from keepwarm.system import System, temp_folder

MASTER = ("master", "master-password")
THREADS = 8  # conversations at once
LAG = 3.0  # seconds for counters and logs
STALLED = 1.0  # seconds for what the old program is known not to answer
PACKAGES = ("imapproxy", "libwrap0", "libncurses6", "libnsl2", "libtirpc3")
SAMPLE = "imapproxy.conf.default"  # the package's own configuration file

# Lines of every file: what the old program dies without, and what it ignores.
COMMON = {
    "server_hostname": "127.0.0.1",
    "cache_size": 100,
    "cache_expiration_time": 300,
    "proc_username": "nobody",
    "proc_groupname": "nogroup",
    "send_tcp_keepalives": "no",
    "force_tls": "no",
    "syslog_facility": "LOG_MAIL",
}


def words_of(server, number):
    user, other = server.names[2 * number:2 * number + 2]
    password = server.password(user)
    words = {"user": user, "other": other, "password": password, "otherpassword": server.password(other),
             "wrong": "wrong-" + password,
             "user64": b64(user), "password64": b64(password), "wrong64": b64("wrong-" + password),
             "plain64": b64(f"\0{user}\0{password}"), "badplain64": b64(f"\0{user}\0wrong-{password}")}
    return {name: word.encode() for name, word in words.items()}


def b64(text):
    return base64.b64encode(text.encode()).decode()


class Talk:
    """One conversation as it goes on."""

    def __init__(self, proxy, words, other, seconds):
        self.proxy, self.words, self.other, self.seconds = proxy, words, other, seconds
        self.lines, self.held, self.ended = [], {}, []
        self.step, self.now = 0, None

    def hold(self, what):
        try:
            self.open("1")
            for self.step, text in enumerate([*what.steps, "zz NOOP"], 1):
                self.do(text, what.expected.get(self.step, []))
        finally:
            for held in self.held.values():
                held.client.close()
        return self.lines

    def open(self, name):
        client = Client(self.proxy.port, greet=False)
        self.now = self.held[name] = conversation.Held(client, "", self.other, self.words, self.seconds)
        self.now.lines, self.now.step = self.lines, self.step
        self.now.read()

    def end(self, name):
        held = self.held.pop(name)
        try:
            self.ended.append(held.client.port)
        except OSError:
            pass  # closed by a step, which has noted it
        held.client.close()

    def do(self, text, expected):
        kind = text[0] if text[1:2] in (" ", "") else ""
        if kind == "@":
            self.switch(text[2:])
        elif kind == "/":
            self.ended.append(self.now.client.port)
            getattr(self.now.client, text[2:])()
            self.now.over = True
        elif kind == "$":
            self.look({"counters": self.proxy.counters, "log": self.proxy.protocol_log}[text[2:]], expected)
        elif not self.now.over:
            self.now.step = self.step
            self.now.do(text)

    def switch(self, name):
        """Connections that have ended are waited for: what they have left in the pool is what the next one finds."""
        for each in [each for each in self.held if self.held[each].over]:
            self.end(each)
        self.proxy.settle(self.ended)
        if name in self.held:
            self.now = self.held[name]
        else:
            self.open(name)

    def look(self, read, expected):
        """What read() gives, as lines, when they are as expected or do not become so."""
        patterns = [conversation.expected_pattern(text, self.words) for text in expected]
        lines = []

        def as_expected():
            data = read()
            if data is None:
                return True
            lines[:] = [line.replace(b"\r", rb"\r") + b"\r\n" for line in data.removesuffix(b"\n").split(b"\n")]
            return not patterns or conversation.judge_step(patterns, lines) is None
        try:
            wait_until(as_expected, "not yet", LAG)
        except process.TestTimeout:
            pass  # it is judged with everything else
        self.lines += [(self.step, line) for line in lines]


# --- the two programs ---------------------------------------------------------------------------------
class Old:
    """Debian's imapproxyd with the file of a System that has not been started."""

    def __init__(self, system, folder):
        self.system, self.folder = system, folder
        self.port, self.process = system.port, None

    def run(self, *argv):
        return subprocess.run([*map(str, argv)], env=environment(self.folder), capture_output=True, cwd="/",
                              timeout=process.DEADLINE, check=False)

    def start(self):
        self.process = process.start(
            [self.folder / "imapproxyd", "-f", self.system.conf, "-p", self.system.folder / "old.pid"],
            env=environment(self.folder), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, cwd="/")
        wait_until(self.greets, "the old program does not greet")
        return self

    def greets(self):
        assert self.process.poll() is None, f"the old program has ended: {self.process.returncode}"
        try:
            with Client(self.port) as client:
                return bool(client.greeting)
        except (OSError, AssertionError):
            return False

    def settle(self, ended):
        """It closes a client's connection when it is done with it."""
        wait_until(lambda: not any(process.tcp_is_held(self.port, each) for each in ended), lambda: f"not over: {ended}")

    def counters(self):
        return self.run(self.folder / "pimpstat", "-c", "-f", self.system.conf).stdout

    def protocol_log(self):
        return self.system.config["protocol_log_filename"].read_bytes()

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait(process.DEADLINE)


class New:
    """Keepwarm with that file."""

    def __init__(self, system):
        self.system, self.port = system, system.port

    def start(self):
        try:
            self.system.start()
        except BaseException:
            self.system.discard()
            raise

    def settle(self, ended):
        wait_until(lambda: all(map(self.is_over, ended)), lambda: f"not over: {ended}\n{self.system.log_text()}")
        # and the broker has seen it: else the next one would be one more at once. The first was who waited for the start.
        wait_until(lambda: sum(self.system.stats()["ends"].values()) > len(ended), lambda: f"{self.system.stats()}")

    def is_over(self, port):
        """Its line is written and its process is gone: the connection is given back between the two."""
        pids = re.findall(rf"proxyd\[(\d+)\]: session ended.* port={port} ", self.system.log_text())
        return bool(pids) and not process.alive(int(pids[-1]))

    def counters(self):
        run = subprocess.run([self.system.binaries / "pimpstat", "-c", "-f", self.system.conf], capture_output=True,
                             timeout=process.DEADLINE, check=False, env=self.system.environment())
        return run.stdout if run.returncode == 0 else None

    def protocol_log(self):
        path = self.system.config["protocol_log_filename"]
        return path.read_bytes() if path.exists() else None

    def stop(self):
        if self.system.folder.exists():
            self.system.stop()


# --- a site -----------------------------------------------------------------------------------------
# --- where they are held --------------------------------------------------------------------------------
@contextlib.contextmanager
def mail_host(conversations):
    """A real one with all their users, and a master user."""
    folder = temp_folder()
    masters = folder / "masters"
    masters.write_text("%s:{PLAIN}%s\n" % MASTER)
    server = dovecot.Dovecot(2 * len(conversations), extra=f"""
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {masters}
  master = yes
}}
""")
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(folder)


def site_of(what):
    """Conversations with the same are held with the same proxy; those with counters have one of their own."""
    alone = "own" in what.servers or "$ counters" in what.steps
    return tuple(what.config), what.name if alone else ""


def by_site(conversations):
    sites = {}
    for number, what in enumerate(conversations):
        sites.setdefault(site_of(what), []).append((number, what))
    return sites


class Site:
    """A configuration and the conversations that are held under it: [(number of the user, Conversation)]."""

    def __init__(self, server, config, conversations):
        self.server, self.conversations = server, conversations
        self.system = System(server.port, **COMMON)
        changes = dict(line.partition(" ")[::2] for line in config)
        self.system.write_config(protocol_log_filename=self.system.folder / "protocol", **changes)

    def hold_with(self, proxy):
        """{name: lines, or the exception that came instead}"""
        try:
            proxy.start()
            proxy.settle([])  # who has waited for the start is not one of those that are counted
            with ThreadPoolExecutor(THREADS) as threads:
                lines = threads.map(lambda each: self.hold_one(proxy, *each), self.conversations)
                return {what.name: each for (_, what), each in zip(self.conversations, lines)}
        finally:
            proxy.stop()

    def hold_old(self, folder):
        return self.hold_with(Old(self.system, folder))

    def hold_new(self):
        return self.hold_with(New(self.system))

    def hold_one(self, proxy, number, what):
        user, others = self.server.names[2 * number], []
        if isinstance(proxy, Old) and "new" in what.servers:
            return None
        fill(self.server, user)

        def other(command):
            if not others:
                others.append(conversation.login(self.server.port, user, self.server.password(user)))
            others[0].command(command)
        seconds = STALLED if isinstance(proxy, Old) and "stalls" in what.servers else conversation.SECONDS
        try:
            return Talk(proxy, words_of(self.server, number), other, seconds).hold(what)
        except (AssertionError, OSError) as error:
            return error
        finally:
            for each in others:
                each.close()


def fill(server, user):
    """The user's mail is what conversation.MAILBOXES says, whatever was done to it."""
    write_maildirs(server.maildir(user))
    for path in (server.maildir(user), *server.maildir(user).rglob("*")):
        shutil.chown(path, "nobody", "nogroup")


# --- Debian's package -------------------------------------------------------------------------------
def environment(folder):
    return dict(os.environ, LD_LIBRARY_PATH=str(folder))


def unpack():
    """(folder with Debian's program, None), or (None, why there is none). The package is not installed: it would
    start a service."""
    if os.getuid() != 0:
        return None, "the old program has to be started by root"
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None, "the old program comes as a Debian package"
    folder = CACHE / "imapproxy"
    if not (folder / SAMPLE).exists():
        problem = download(folder)
        if problem:
            return None, f"the old program's package: {problem}"
    return folder, None


def download(folder):
    """Returns None, or why it went wrong. The programs, their libraries and SAMPLE are kept, in one folder."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        run = subprocess.run(["apt-get", "download", *PACKAGES], cwd=work, capture_output=True, text=True, timeout=120,
                             check=False)
        if run.returncode != 0:
            return (run.stderr.strip().splitlines() or ["apt-get download failed"])[-1]
        for package in work.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, work / "root"], check=True, timeout=60)
        (work / "flat").mkdir()
        for pattern in ("usr/sbin/*", "**/*.so.*", f"usr/share/imapproxy/{SAMPLE}"):
            for path in (work / "root").glob(pattern):
                shutil.copy2(path, work / "flat" / path.name)
        shutil.copytree(work / "flat", folder, dirs_exist_ok=True)
    return None
