"""The units under a real systemd: both ways to serve clients, restarts and kills under load, the jail, the hardening."""
import contextlib
import os
import re
import signal
import socket
import threading

import pytest

from keepwarm import locks, pop3, process, systemd_root, tls, ways
from keepwarm.backend import Backend
from keepwarm.directory import USERDB
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
        return self.root.stats()

    def wait_cached(self, count):
        wait_until(lambda: self.stats()["gauges"]["cached"] == count, lambda: f"{self.stats()}\n{self.root.journal()}")

    def session(self, user="anna", reused=None):
        client = Client(PORTS["imap"])
        reply = client.login(user, f"pw-{user}")
        assert reply.ok and (reused is None or reply.reused == reused), (reply, self.root.journal())
        client.login_reply = reply
        return client

    def session_pid(self, client):
        """The process that serves this client."""
        return self.root.pid_serving(PORTS["imap"], client.port)

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
    assert site.root.systemctl("is-enabled", f"keepwarm-{mode}.target") == "enabled"


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
    return socket.create_connection(("127.0.0.1", PORTS[service]), timeout=process.DEADLINE)


# --- under load ---------------------------------------------------------------------------------------------------
class Load:
    """Clients that log in, read their own mail and log out, again and again, until told to stop."""

    def __init__(self, connect, users=CLIENTS):
        self.connect = connect
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.logins, self.reused = 0, 0
        self.failed, self.wrong, self.cut_off = [], [], []
        self.unavailable = 0
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
                client = self.connect()
            except (OSError, AssertionError) as problem:
                with self.lock:
                    self.cut_off.append(f"{user}: {problem!r}")
                continue
            try:
                with client:
                    self.one(client, user)
            except (OSError, AssertionError) as problem:
                with self.lock:
                    self.failed.append(f"{user}: {problem!r}")

    def one(self, client, user):
        reply = client.login(user, f"pw-{user}")
        if reply.tagged.startswith(b"NO [UNAVAILABLE]"):
            with self.lock:
                self.unavailable += 1
            return
        assert reply.ok, reply
        client.ok("SELECT INBOX")
        text = client.ok("FETCH 1 BODY[]").text
        with self.lock:
            self.logins += 1
            self.reused += reply.reused
            if re.findall(rb"<(\w+)>", text) != [user.encode()]:
                self.wrong.append((user, text))
        client.logout()

    def check(self, site, lost=0):
        """No login has failed, no answer was wrong; so many clients at most were told to come again, or cut off before
        they were greeted."""
        figures = f"{len(self.failed)} failed, {len(self.cut_off)} cut off, {self.unavailable} unavailable, {self.logins} logins"
        print(figures)
        assert (self.failed, self.wrong) == ([], []), (figures, site.root.journal()[-3000:])
        assert len(self.cut_off) + self.unavailable <= lost, (figures, self.cut_off, site.root.journal()[-3000:])


def plain():
    client = Client(PORTS["imap"])
    assert client.greeting.startswith(b"* OK"), client.greeting
    return client


HITS_EACH = 5

UNITS = [("listener", "cachebrokerd"), ("listener", "lookupd"), ("listener", "proxyd"), ("each", "cachebrokerd"),
         ("each", "lookupd")]
HITS = {"restart": lambda root, unit: root.systemctl("restart", unit),
        "kill -9": lambda root, unit: root.systemctl("kill", "-s", "KILL", "--kill-whom=main", unit)}


@pytest.mark.parametrize("hit", HITS)
@pytest.mark.parametrize("mode, unit", UNITS)
def test_no_login_fails_while_a_unit_is_hit(site, mode, unit, hit):
    site.start(mode)
    service = f"{unit}.service"
    with Load(plain) as load, site.session("bystander") as bystander:
        for _ in range(HITS_EACH):
            before = site.root.main_pid(service)
            HITS[hit](site.root, service)
            wait_until(lambda: site.root.main_pid(service) not in (None, before), "it is not started again",
                       process.START_DEADLINE)
            load.wait_more()
        bystander.ok("SELECT INBOX")
        assert b"<bystander>" in bystander.ok("FETCH 1 BODY[]").text
    load.check(site)
    assert site.root.systemctl("is-active", service) == "active"


@pytest.mark.parametrize("mode", MODES)
def test_idle_connections_are_reused_after_a_restart_of_the_broker(site, mode):
    """While others log in and out."""
    site.start(mode)
    users = [f"idle{n}" for n in range(40)]
    for user in users:
        with site.session(user) as client:
            client.logout()
    site.wait_cached(len(users))
    with Load(plain) as load:
        site.root.systemctl("restart", "cachebrokerd.service")
        load.wait_more()
    load.check(site)
    reused = 0
    for user in users:
        with site.session(user) as client:
            reused += client.login_reply.reused
            client.logout()
    print(f"{reused} of {len(users)} idle connections reused")
    assert reused >= 0.95 * len(users)


@pytest.mark.parametrize("hit", HITS)
@pytest.mark.parametrize("mode, unit", [("listener", "cachebrokerd"), ("listener", "tlsrelayd"), ("listener", "proxyd"),
                                        ("each", "cachebrokerd"), ("each", "tlsrelayd")])
def test_no_login_in_tls_fails_while_a_unit_is_hit(site, authority, mode, unit, hit):
    """What has begun goes on, what has not is asked for anew."""
    site.start(mode, "imaps")
    service = f"{unit}.service"
    secure = tls.context(authority)

    def connect():
        sock = socket.create_connection(("127.0.0.1", PORTS["imaps"]), timeout=process.DEADLINE)
        return Client(None, sock=secure.wrap_socket(sock, server_hostname="127.0.0.1"))

    with Load(connect) as load, connect() as bystander:
        assert bystander.login("bystander", "pw-bystander").ok
        for _ in range(HITS_EACH):
            before = site.root.main_pid(service)
            HITS[hit](site.root, service)
            wait_until(lambda: site.root.main_pid(service) not in (None, before), "it is not started again",
                       process.START_DEADLINE)
            load.wait_more()
        bystander.ok("SELECT INBOX")
        assert b"<bystander>" in bystander.ok("FETCH 1 BODY[]").text
    load.check(site)


@pytest.mark.parametrize("mode", MODES)
def test_a_broker_that_hangs_is_killed_and_waiting_logins_succeed(site, mode):
    """By the watchdog, with the time that the unit has; in both modes, whether a client was greeted before or comes while
    the broker hangs."""
    site.start(mode)
    clients = [Client(PORTS["imap"]) for _ in range(CLIENTS)]
    broker = site.root.main_pid("cachebrokerd.service")
    os.kill(broker, signal.SIGSTOP)
    wait_until(lambda: process.is_stopped(broker), "not stopped")
    clients += [Client(PORTS["imap"], greet=False) for _ in range(CLIENTS)]
    for number, client in enumerate(clients):
        client.send(f"a LOGIN user{number} pw-user{number}\r\n")
    for client in clients[CLIENTS:]:
        client.expect(rb"\* OK [^\r\n]*\r\n", process.START_DEADLINE)
    for client in clients:
        assert client.reply("a", deadline=process.START_DEADLINE).ok
        client.logout()
    assert not process.alive(broker)
    assert site.root.show("cachebrokerd.service", "NRestarts") == "1"
    assert "Watchdog timeout" in site.root.journal()


@pytest.mark.parametrize("unit", ["lookupd", "tlsrelayd"])
def test_others_that_hang_are_killed_too(site, unit):
    """With less patience than the unit has."""
    site.root.drop_in(f"{unit}.service", "[Service]\nWatchdogSec=3\n")
    site.start("listener", "imaps")
    before = site.root.main_pid(f"{unit}.service")
    os.kill(before, signal.SIGSTOP)
    wait_until(lambda: site.root.main_pid(f"{unit}.service") not in (None, before), "not started again",
               process.START_DEADLINE)
    with site.session() as client:
        client.logout()


# --- one way, the other way ------------------------------------------------------------------------------------------
def test_the_other_way_is_started_by_its_target_and_the_cache_stays(site):
    site.start("listener")
    with site.session() as client:
        client.logout()
    site.wait_cached(1)
    broker = site.root.main_pid("cachebrokerd.service")
    for mode in ("each", "listener", "each"):
        site.root.systemctl("disable", "--now", f"keepwarm-{'listener' if mode == 'each' else 'each'}.target")
        site.start(mode)
        with site.session(reused=True) as client:
            # a process of systemd's, or of the listener's
            assert (process.parent(site.session_pid(client)) == site.root.pid) == (mode == "each")
            client.logout()
        site.wait_cached(1)
    site.root.systemctl("start", "keepwarm-listener.target")  # without a stop of the other: they exclude each other
    assert site.root.systemctl("is-active", "keepwarm-each.target", "proxyd-imap-each.socket", check=False) == \
        "inactive\ninactive"
    with site.session(reused=True) as client:
        client.logout()
    assert site.root.main_pid("cachebrokerd.service") == broker


@pytest.mark.parametrize("mode", MODES)
def test_stopping_the_target_stops_all_and_it_can_be_started_again(site, mode):
    for _ in range(2):
        site.start(mode, "imaps", "pop3")
        with site.session() as client:
            client.logout()
        site.root.systemctl("stop", "keepwarm.target")
        wait_until(lambda: not site.root.pids(), lambda: f"left behind: {site.root.pids()}")
        assert site.root.systemctl("list-units", "--plain", "--no-legend", "--state=active", "proxyd*", "cachebrokerd*",
                                   "lookupd*", "tlsrelayd*", "keepwarm*") == ""
        with pytest.raises(ConnectionRefusedError):
            Client(PORTS["imap"])


def greets(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=process.DEADLINE) as sock:
            return b"OK" in sock.recv(100)
    except ConnectionRefusedError:
        return False


def test_a_socket_of_the_listener_may_be_restarted_and_stopped(site):
    """After its port was changed, say. What the others have goes on, and no client of theirs is refused."""
    site.start("listener", "pop3")
    with Load(plain) as load:
        for command in ("restart", "stop"):
            site.root.systemctl(command, "proxyd-pop3.socket")
            load.wait_more()
            assert greets(PORTS["pop3"]) == (command == "restart")
    load.check(site)
    with site.session("bystander") as bystander:
        site.root.drop_in("proxyd-imap.socket", "[Socket]\nListenStream=\nListenStream=127.0.0.2:1143\n")
        site.root.systemctl("restart", "proxyd-imap.socket")
        with Client(None, sock=socket.create_connection(("127.0.0.2", 1143), timeout=process.DEADLINE)) as client:
            assert client.login("anna", "pw-anna").ok
        assert not greets(PORTS["imap"])
        bystander.ok("SELECT INBOX")
    HITS["kill -9"](site.root, "proxyd.service")
    with Client(None, sock=socket.create_connection(("127.0.0.2", 1143), timeout=process.DEADLINE)) as client:
        assert client.login("anna", "pw-anna").ok


def test_the_easy_start_and_the_units_exclude_each_other(site):
    site.configure(stat_filename="/run/pimpstats", tls_server_cert_file="/etc/credstore/keepwarm-tls.pem",
                   tls_server_key_file="/etc/credstore/keepwarm-tls.key")
    site.start("listener")
    site.root.systemctl("start", "in.imapproxyd.service")
    assert site.root.systemctl("is-active", "keepwarm.target", "cachebrokerd.service", "proxyd-imap.socket",
                               check=False) == "inactive\n" * 2 + "inactive"
    with site.session() as client:
        client.logout()
    with site.session(reused=True) as client:
        client.logout()
    site.root.systemctl("start", "keepwarm-each.target")
    assert site.root.systemctl("is-active", "in.imapproxyd.service", check=False) == "inactive"
    with site.session() as client:
        client.logout()


def test_the_easy_start_in_its_unit_has_all_that_it_needs(site, authority):
    """Keys and a configuration that only root may read, also at a reload; ports; a root for sessions; files where it is told."""
    root, log = site.root, "/var/log/of-sessions"
    config = {"stat_filename": "/run/pimpstats", "tls_server_cert_file": "/etc/credstore/keepwarm-tls.pem",
              "tls_server_key_file": "/etc/credstore/keepwarm-tls.key", "chroot_directory": "/var/lib/imapproxy/chroot",
              "protocol_log_filename": log}
    site.configure(**config)
    root.path("/etc/imapproxy.conf").chmod(0o600)
    root.systemctl("start", "in.imapproxyd.service")
    bounds = root.systemctl("show", "--value", "-p", "TasksMax", "-p", "LimitNPROC", "in.imapproxyd.service")
    assert bounds.split() == ["infinity"] * 2  # max_clients is the bound
    for reused in (False, True):
        with tls.imaps(PORTS["imaps"], authority) as client:
            reply = client.login("anna", "pw-anna")
            assert reply.ok and reply.reused == reused
            client.logout()
        site.wait_cached(1)
    with site.session() as client:
        check_jail(site, client, "/var/lib/imapproxy/chroot")
        client.logout()
    root.run("pimpstat", "-f", "/etc/imapproxy.conf", "--trace", "anna")
    wait_until(lambda: root.path(log).exists(), "no protocol log")
    site.configure(**config, hide_capabilities="NAMESPACE")
    root.systemctl("reload", "in.imapproxyd.service")
    wait_until(lambda: "taken over" in root.journal(), root.journal)
    broker, = root.pids("cachebrokerd")
    os.kill(broker, signal.SIGKILL)
    with tls.imaps(PORTS["imaps"], authority) as client:
        reply = client.login("anna", "pw-anna")
        assert reply.ok and b"NAMESPACE" not in reply.tagged
    root.systemctl("stop", "in.imapproxyd.service")
    wait_until(lambda: not root.pids() + root.pids("in.imapproxyd"), "something is left behind")
    assert not root.path("/run/imapproxy.pid").exists()


BURST = 300


@pytest.mark.parametrize("mode", MODES)
def test_a_burst_of_connections_does_not_stop_the_port(site, mode):
    """A socket with the defaults is dead after 200 within two seconds, and refuses what comes beyond 64 at once."""
    site.start(mode)
    clients = [Client(PORTS["imap"], greet=False) for _ in range(BURST)]
    for client in clients:
        assert client.line(process.START_DEADLINE).startswith(b"* OK")
    for client in clients:
        client.close()
    with site.session() as client:
        client.logout()
    site.root.systemctl("is-active", f"proxyd-imap{site.suffix}.socket")
    wait_until(lambda: site.root.systemctl("list-units", "--all", "--plain", "--no-legend", "proxyd-imap-each@*") == "",
               "instances pile up")


# --- the jail -------------------------------------------------------------------------------------------------------
def status_of(pid):
    lines = process.read_proc(pid, "status").decode().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def check_jail(site, client, root=None):
    """Everything of proxyd's own, whatever systemd has done before; root: the folder that it is shut into."""
    pid = site.session_pid(client)
    status, uid = status_of(pid), site.root.path("/var/lib/keepwarm").stat().st_uid
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert {status[key] for key in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16}
    assert set(status["Uid"].split()) == {str(uid)} and uid != 0 and status["Groups"].split() in ([], [str(uid)])
    assert re.search(r"Max processes +0 +0", process.read_proc(pid, "limits").decode())
    assert root is None or os.path.samefile(f"/proc/{pid}/root/", site.root.path(root))
    return pid


@pytest.mark.parametrize("mode", MODES)
def test_a_session_is_locked_up(site, mode):
    site.start(mode)
    with site.session() as client:
        check_jail(site, client)
        client.logout()


LOCKED, LISTENER = locks.Lock(seccomp=True), locks.Lock(inside=True)


def check_services(site):
    """What runs always, and the workers."""
    uid, whole = site.root.path("/var/lib/keepwarm").stat().st_uid, site.root.path("/")
    for program in ("cachebrokerd", "lookupd", "tlsrelayd", *(["proxyd"] if site.suffix == "" else [])):
        pid = site.root.main_pid(f"{program}.service")
        lock = LISTENER if program == "proxyd" else LOCKED
        locks.check(program, pid, lock, uid, uid, None, whole)
        if program in ("lookupd", "tlsrelayd"):
            for worker in process.children(pid):
                locks.check(f"{program}'s worker", worker, LOCKED, uid, uid, None, whole)


@pytest.mark.parametrize("mode", MODES)
def test_the_services_are_locked_up(site, authority, mode):
    site.start(mode, "imap", "imaps")
    with tls.imaps(PORTS["imaps"], authority) as client:
        assert client.login("anna", "pw-anna").ok
        check_services(site)


def test_the_broker_in_a_root_of_its_own(site):
    """Its two directories to write to are found inside."""
    site.root.path("/srv/broker").mkdir(parents=True)
    site.root.drop_in("cachebrokerd.service", """[Service]
RootDirectory=/srv/broker
MountAPIVFS=yes
BindReadOnlyPaths=/usr /lib /lib64 /etc /dev/log /run/systemd/journal
BindPaths=/run/keepwarm /run/systemd/notify
""")
    site.start("listener")
    for reused in (False, True):
        with site.session(reused=reused) as client:
            pid = site.root.main_pid("cachebrokerd.service")
            uid = site.root.path("/var/lib/keepwarm").stat().st_uid
            locks.check("cachebrokerd", pid, locks.Lock(seccomp=True, inside=True), uid, uid, site.root.path("/srv/broker"))
            client.logout()
        site.wait_cached(1)
    assert os.path.exists(f"/proc/{pid}/root/var/lib/keepwarm/pimpstats")


def test_a_listener_in_a_root_of_its_own(site):
    """RootDirectory=: nothing is there but the program, the broker's sockets and the log's."""
    site.root.path("/srv/jail").mkdir(parents=True)
    site.root.drop_in(*ways.ROOT_OF_ITS_OWN)
    site.start("listener")
    for reused in (False, True):
        with site.session(reused=reused) as client:
            pid = check_jail(site, client, "/srv/jail")
            assert set(os.listdir(f"/proc/{pid}/root/")) >= {"usr"} and not os.path.exists(f"/proc/{pid}/root/etc/passwd")
            client.logout()
        site.wait_cached(1)


AS_ROOT = {"listener": ways.CHROOT_LISTENER, "each": ways.CHROOT_EACH}


@pytest.mark.parametrize("mode", MODES)
def test_a_session_is_shut_into_chroot_directory(site, mode):
    site.configure(chroot_directory="/run/keepwarm/empty")
    site.root.drop_in(*AS_ROOT[mode])
    site.start(mode)
    for reused in (False, True):
        with site.session(reused=reused) as client:
            check_jail(site, client, "/run/keepwarm/empty")
            client.logout()
        site.wait_cached(1)
    if mode == "listener":
        pid = site.root.main_pid("proxyd.service")
        uid = site.root.path("/var/lib/keepwarm").stat().st_uid
        locks.check("proxyd", pid, LISTENER, uid, uid, site.root.path("/run/keepwarm/empty"))


# --- what systemd says of the units ---------------------------------------------------------------------------------
def unit_names(root, *suffixes):
    names = [path.name for path in root.path("/usr/local/lib/systemd/system").iterdir()]
    return sorted(name for name in names if name.endswith(suffixes))


def test_systemd_has_no_complaint_about_a_unit(site):
    names = unit_names(site.root, ".service", ".socket", ".target")
    assert len(names) >= 20
    run = site.root.run("systemd-analyze", "verify", *[name.replace("@.", "@1.") for name in names], check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


EXPOSED_MOST = 15  # tenths


OF_ROOT = 35  # the supervisor of the easy start is root: what for, its unit says


@pytest.mark.parametrize("unit", [*systemd_root.PROGRAMS, "in.imapproxyd"])
def test_a_service_that_runs_always_is_exposed_little(site, unit):
    most = OF_ROOT if unit == "in.imapproxyd" else EXPOSED_MOST
    run = site.root.run("systemd-analyze", "security", "--offline=yes", "--no-pager", f"--threshold={most}",
                        f"/usr/local/lib/systemd/system/{unit}.service", check=False)
    assert run.returncode == 0, run.stdout


# --- what the documents say -----------------------------------------------------------------------------------------
def commands_of(page, heading):
    """The indented lines of a section."""
    text = (systemd_root.ROOT / page).read_text(encoding="utf-8")
    section = re.search(rf"^### {heading}\n(.*?)^#", text, re.M | re.S)[1]
    return [line.strip() for line in section.splitlines() if line.startswith("    ")]


def test_the_commands_of_the_readme_work(site, authority):
    commands = commands_of("README.md", "systemd")
    assert len(commands) >= 10
    for command in commands:
        site.root.run("sh", "-ec", command)
        if "enable" in command:
            site.session().logout()
        if "restart keepwarm" in command:
            with tls.imaps(PORTS["imaps"], authority) as client:
                assert client.login("anna", "pw-anna").ok
    with pytest.raises(ConnectionRefusedError):
        Client(PORTS["imap"])


def test_a_reload_of_tls_takes_the_new_settings_or_says_why_not(site, authority):
    """Where the keys are credentials, too. What is refused changes nothing."""
    site.start("listener", "imaps")
    site.root.systemctl("reload", "tlsrelayd.service")
    wait_until(lambda: "/etc/imapproxy.conf was read again" in site.root.journal(), site.root.journal)
    site.configure(tls_server_key_file="/etc/hostname")
    site.root.systemctl("reload", "tlsrelayd.service")
    wait_until(lambda: "going on with the settings of before" in site.root.journal(), site.root.journal)
    with tls.imaps(PORTS["imaps"], authority) as client:
        assert client.login("anna", "pw-anna").ok


def test_a_reload_takes_no_file_that_says_nothing(site):
    """An editor cuts a file to nothing and writes it again."""
    site.start("listener", "imaps")
    site.session().logout()
    site.root.write("/etc/imapproxy.conf", "\n")
    services = ("cachebrokerd", "lookupd", "tlsrelayd")
    for name in services:
        site.root.systemctl("reload", f"{name}.service")
    wait_until(lambda: all(re.search(rf"{name}\[\d+\]: /etc/imapproxy.conf: no key is set", site.root.journal()) for name in services),
               site.root.journal)
    site.session().logout()


def test_a_directory_may_be_a_credential(site):
    """Readable for root alone, and lookupd is not root."""
    site.root.write("/etc/credstore/keepwarm-directory", USERDB.format(name="anna", options=f"mailhost=127.0.0.1:{site.backend.port}"), 0o600)
    site.configure(directory="userdb:/run/credentials/lookupd.service/keepwarm-directory", server_port=1)
    site.start("listener")
    with site.session() as client:
        client.logout()
