"""The units under a real systemd: both ways to serve clients, restarts and kills under load, the jail, the hardening."""
import contextlib
import json
import os
import re
import signal
import threading

import pytest

from keepwarm import pop3, process, systemd_root, tls
from keepwarm.backend import Backend
from keepwarm.imap import Client
from keepwarm.process import wait_until

REASON = systemd_root.missing()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")

PORTS = {"imap": 143, "imaps": 993, "pop3": 110, "pop3s": 995}
MODES = {"listener": "", "each": "-each"}
CLIENTS = 16
CREDENTIALS = "/run/credentials/tlsrelayd.service"


class Site:
    """Keepwarm in a booted root, in front of a scripted mail host."""

    def __init__(self, root, authority):
        self.root = root
        self.ours = authority.issue("127.0.0.1")
        self.backend, self.pop3 = Backend(), pop3.Host()
        self.suffix = None
        self.root.write("/etc/credstore/keepwarm-tls.pem", open(self.ours.path, encoding="ascii").read())
        self.root.write("/etc/credstore/keepwarm-tls.key", open(self.ours.key_path, encoding="ascii").read(), 0o600)
        self.configure()

    def configure(self, **more):
        config = {
            "server_hostname": "127.0.0.1", "server_port": self.backend.port, "pop3_server_port": self.pop3.port,
            "listen_port": 143, "imaps_listen_port": 993, "pop3_listen_port": 110, "pop3s_listen_port": 995,
            "proc_username": "keepwarm", "proc_groupname": "keepwarm", "stat_filename": "/var/lib/keepwarm/pimpstats",
            "tls_server_cert_file": CREDENTIALS + "/keepwarm-tls.pem", "host_retry": 0,
            "tls_server_key_file": CREDENTIALS + "/keepwarm-tls.key", **more}
        self.root.write("/etc/imapproxy.conf", "".join(f"{key} {value}\n" for key, value in config.items()))

    def start(self, mode, *services):
        """One systemctl; services beside imap are named."""
        self.suffix = MODES[mode]
        units = [f"proxyd-{service}{self.suffix}.socket" for service in services]
        if services:
            units.append("tlsrelayd.service")
        self.root.systemctl("enable", "--now", f"keepwarm-{mode}.target", *units)
        return self

    def stats(self):
        return json.loads(self.root.run("pimpstat", "--json", "-f", "/etc/imapproxy.conf").stdout)

    def wait_cached(self, count):
        wait_until(lambda: self.stats()["gauges"]["cached"] == count, lambda: f"{self.stats()}\n{self.root.journal()}")

    def session(self, user="anna", reused=None):
        client = Client(PORTS["imap"])
        reply = client.login(user, f"pw-{user}")
        assert reply.ok and (reused is None or reply.reused == reused), (reply, self.root.journal())
        return client

    def session_pid(self, client):
        """The process that serves this client."""
        inside = f"/proc/{self.root.pid}/net/tcp"
        pattern = rf":{PORTS['imap']:04X} \w+:{client.port:04X} 01(?: \S+){{5}} (\d+)"
        with open(inside, encoding="ascii") as tcp:
            inode = int(re.search(pattern, tcp.read())[1])
        holders = [pid for pid in self.root.pids("proxyd") if inode in process.socket_inodes(pid)]
        assert len(holders) == 1, holders
        return holders[0]

    def end(self):
        root = self.root
        root.systemctl("stop", "keepwarm.target", "in.imapproxyd.service")
        for pid in root.pids():  # sessions that had no end
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        names = sorted(path.name for path in root.path("/usr/local/lib/systemd/system").iterdir() if "@" not in path.name)
        root.systemctl("disable", *names)
        root.remove_drop_ins()
        root.systemctl("reset-failed")
        self.backend.stop()
        self.pop3.stop()


@pytest.fixture(scope="module")
def booted():
    root = systemd_root.Root()
    try:
        yield root.boot()
    finally:
        root.stop()


@pytest.fixture
def site(booted, authority):
    booted.enter()
    made = Site(booted, authority)
    try:
        yield made
    finally:
        try:
            made.end()
            print(booted.journal()[-20000:])
        finally:
            booted.leave()


# --- the two ways -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
def test_one_command_starts_all_and_a_login_is_reused(site, mode):
    site.start(mode)
    for reused in (False, True, True):
        with site.session(reused=reused) as client:
            client.ok("SELECT INBOX")
            assert b"<anna>" in client.ok("FETCH 1 BODY[]").text
            client.logout()
        site.wait_cached(1)
    assert len(site.backend.connections) == 1
    assert site.root.systemctl("list-units", "--failed", "--plain", "--no-legend") == ""
    assert site.root.systemctl("is-enabled", f"keepwarm-{mode}.target", f"proxyd-imap{site.suffix}.socket") == \
        "enabled\nenabled"


@pytest.mark.parametrize("mode", MODES)
def test_all_four_services_are_served(site, mode, authority):
    site.start(mode, "imaps", "pop3", "pop3s")
    with site.session() as client:
        client.logout()
    site.wait_cached(1)
    with tls.imaps(PORTS["imaps"], authority) as client:
        reply = client.login("anna", "pw-anna")
        assert reply.ok and reply.reused
        client.logout()
    with pop3.Client(PORTS["pop3"]) as client:
        client.session().ok("QUIT")
    with pop3.Client(None, sock=tls.wrap(pop3_socket("pop3s"), authority)) as client:
        client.session("bert").ok("QUIT")
    assert [login.user for login in site.pop3.logins] == ["anna", "bert"]


def pop3_socket(service):
    import socket
    return socket.create_connection(("127.0.0.1", PORTS[service]), timeout=process.DEADLINE)


# --- under load ---------------------------------------------------------------------------------------------------
class Load:
    """Clients that log in, read their own mail and log out, again and again, until told to stop."""

    def __init__(self, connect, users=CLIENTS):
        self.connect = connect
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.logins, self.reused = 0, 0
        self.failed, self.wrong = [], []
        self.threads = [threading.Thread(target=self.work, args=(f"user{n}",), daemon=True) for n in range(users)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.wait_more(CLIENTS)
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(process.START_DEADLINE)

    def wait_more(self, count=3 * CLIENTS):
        """So many more logins."""
        goal = self.logins + count
        wait_until(lambda: self.logins >= goal or self.failed or self.wrong, lambda: f"only {self.logins} of {goal} logins",
                   process.START_DEADLINE)

    def work(self, user):
        while not self.stopping.is_set():
            try:
                with self.connect() as client:
                    self.one(client, user)
            except (OSError, AssertionError) as problem:
                with self.lock:
                    self.failed.append(f"{user}: {problem!r}")

    def one(self, client, user):
        reply = client.login(user, f"pw-{user}")
        assert reply.ok, reply
        client.ok("SELECT INBOX")
        text = client.ok("FETCH 1 BODY[]").text
        with self.lock:
            self.logins += 1
            self.reused += reply.reused
            if re.findall(rb"<(\w+)>", text) != [user.encode()]:
                self.wrong.append((user, text))
        client.logout()

    def check(self, site):
        assert (self.failed, self.wrong) == ([], []), (len(self.failed), self.logins, site.root.journal()[-3000:])


def plain():
    return Client(PORTS["imap"])


HITS_EACH = 5
UNITS = ("cachebrokerd", "lookupd", "proxyd")
HITS = {"restart": lambda root, unit: root.systemctl("restart", unit),
        "kill -9": lambda root, unit: root.systemctl("kill", "-s", "KILL", "--kill-whom=main", unit)}


@pytest.mark.parametrize("hit", HITS)
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("mode", MODES)
def test_no_login_fails_while_a_unit_is_hit(site, mode, unit, hit):
    if mode == "each" and unit == "proxyd":
        pytest.skip("there is no listener")
    site.start(mode)
    service = f"{unit}.service"
    with Load(plain) as load, site.session("bystander") as bystander:
        for _ in range(HITS_EACH):
            before = site.root.main_pid(service)
            HITS[hit](site.root, service)
            wait_until(lambda: site.root.main_pid(service) not in (None, before), "it is not started again")
            load.wait_more()
        bystander.ok("SELECT INBOX")
        assert b"<bystander>" in bystander.ok("FETCH 1 BODY[]").text
    load.check(site)
    assert site.root.systemctl("is-active", service) == "active"
