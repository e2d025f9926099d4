"""chroot_directory: every session is shut into it, however its process was started; without root it is not done."""
import contextlib
import os
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from keepwarm import process
from keepwarm.imap import Client
from keepwarm.process import wait_until
from keepwarm.system import BUILD, System
from test_activation import ACTIVATE, WAYS, available
from test_activation import started as started_by_others

NOBODY = 65534

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can chroot")


@pytest.fixture
def idle(make, backend):
    """A system that is not started, with a directory that does not exist yet."""
    system = System(backend.port)
    system.jail = system.folder / "var" / "jail"
    system.write_config(chroot_directory=system.jail)
    make.started.append(system)
    return system


@pytest.fixture
def jailed(idle):
    return idle.start()


def status_of(pid):
    lines = process.read_proc(pid, "status").decode().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def is_at(pid, what, directory):
    """Does /proc/PID/root or cwd lead to this directory?"""
    return os.path.samestat(os.stat(f"/proc/{pid}/{what}/."), os.stat(directory))


def check_shut_in(pid, directory):
    status = status_of(pid)
    assert is_at(pid, "root", directory) and is_at(pid, "cwd", directory)
    assert set(status["Uid"].split()) == {str(NOBODY)} and "0" not in status["Gid"].split()
    assert not any(int(status[sort], 16) for sort in ("CapEff", "CapPrm", "CapInh", "CapAmb"))
    assert status["NoNewPrivs"] == "1"


def check_listener(system):
    """Shut in as well; only its current directory is outside, for the next broker's sake."""
    pid = system.listener_pid()
    assert is_at(pid, "root", system.jail) and is_at(pid, "cwd", system.run_directory)
    assert set(status_of(pid)["Uid"].split()) == {str(NOBODY)}
    assert int(status_of(pid)["CapEff"], 16) == 0


@needs_root
def test_a_session_is_shut_in_and_nothing_of_root_is_left(jailed):
    with jailed.client() as client:
        check_shut_in(jailed.pid_serving(client), jailed.jail)
        assert client.login("anna", "pw-anna").ok
        client.ok("SELECT INBOX")
        assert b"<anna>" in client.ok("FETCH 1 BODY[]").text
        check_shut_in(jailed.pid_serving(client), jailed.jail)
        check_listener(jailed)
        client.logout()
    jailed.wait_cached(1)
    with jailed.session("anna", reused=True):
        pass


@needs_root
def test_a_missing_directory_is_made_for_root_alone(jailed):
    for path in (jailed.jail, jailed.jail.parent):
        made = path.stat()
        assert (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode)) == (0, 0, 0o755)
    assert jailed.log_text().count(f"{jailed.jail} was made") == 1
    assert not list(jailed.jail.iterdir())


@needs_root
def test_the_listener_inside_reaches_the_next_broker(jailed):
    with jailed.session("bystander") as bystander:
        for _ in range(2):
            victim = jailed.pids("cachebrokerd")[0]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: victim not in jailed.pids("cachebrokerd") and jailed.pids("cachebrokerd"), "no next one")
            with jailed.session("later") as client:
                check_shut_in(jailed.pid_serving(client), jailed.jail)
        # only a listener that has met this broker is told
        jailed.write_config(spare_processes="9 16")
        jailed.supervisor.send_signal(signal.SIGHUP)
        wait_until(lambda: len(jailed.pids("proxyd")) >= 11, lambda: f"not told: {jailed.programs()}\n{jailed.log_text()}")
        bystander.ok("NOOP")


@needs_root
def test_the_next_listener_is_shut_in_too(jailed):
    victim = jailed.listener_pid()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: jailed.find_listener() not in (None, victim), lambda: "no next one:\n" + jailed.log_text())
    check_listener(jailed)
    with jailed.session() as client:
        check_shut_in(jailed.pid_serving(client), jailed.jail)


@needs_root
def test_the_listener_inside_still_follows_its_supervisor(jailed):
    """The kernel forgets the signal of the parent's death when the ids change."""
    listener = jailed.listener_pid()
    jailed.supervisor.kill()
    jailed.supervisor.wait()
    jailed.supervisor = None
    wait_until(lambda: not process.alive(listener), "it has outlived its supervisor")


@needs_root
def test_a_reload_leaves_the_directory_as_it_is(jailed):
    jailed.write_config(chroot_directory=jailed.folder / "other", hide_capabilities="X-TEST")
    jailed.supervisor.send_signal(signal.SIGHUP)
    jailed.wait_log("taken over")
    jailed.wait_log("chroot_directory: the new value")
    with jailed.session() as client:
        check_shut_in(jailed.pid_serving(client), jailed.jail)


def refused(system, what):
    result = subprocess.run([BUILD / "in.imapproxyd", "-f", system.conf], stdin=subprocess.DEVNULL, capture_output=True,
                            timeout=process.DEADLINE, check=False, text=True)
    number = next(n for n, line in enumerate(system.conf.read_text().splitlines(), 1) if line.startswith("chroot_d"))
    assert result.returncode == 1, result
    assert re.search(re.escape(f"{system.conf}:{number}: chroot_directory: ") + ".*" + what, result.stderr), result.stderr
    assert not system.pids()


@needs_root
def test_a_directory_that_cannot_be_used_is_refused_with_its_line(idle):
    open_to_all, file = idle.folder / "open", idle.folder / "file"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    file.touch()
    for path, what in ((open_to_all, "write to it"), (file, "no directory"), ("jail", "begins with /"),
                       (file / "below", "Not a directory")):
        idle.write_config(chroot_directory=path)
        refused(idle, what)
    os.chown(open_to_all, NOBODY, NOBODY)
    open_to_all.chmod(0o755)
    idle.write_config(chroot_directory=open_to_all)
    refused(idle, "write to it")
    os.chown(open_to_all, 0, 0)
    open_to_all.chmod(0o700)
    refused(idle, "cannot go through it")


def test_without_root_one_notice_says_that_it_is_not_done(idle):
    if os.getuid() == 0:
        os.chown(idle.folder, NOBODY, NOBODY)
        idle.prefix = ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
    idle.start()
    with idle.session() as client:
        client.ok("NOOP")
        if os.getuid() == 0:  # others may not look into a session's process
            assert is_at(idle.pid_serving(client), "root", "/")
    assert idle.log_text().count("chroot_directory needs root; not done") == 1, idle.log_text()
    assert not idle.jail.exists()


# --- proxyd started by others --------------------------------------------------------------------------
def started(system, argv):
    """A leak check at the end needs /proc, which is not inside."""
    options = ["-E", "ASAN_OPTIONS=detect_leaks=0"] if argv[0] == ACTIVATE else []
    return started_by_others(system, [argv[0], *options, *argv[1:]])


@pytest.fixture
def exec_mode(idle):
    idle.write_config(run_listener="no")
    return idle.start()


@needs_root
@pytest.mark.parametrize("way", WAYS)
def test_a_session_is_shut_in_when_proxyd_is_started_by(exec_mode, way):
    if not available(way):
        pytest.skip("the starter is not installed")
    with started(exec_mode, WAYS[way](exec_mode)):
        for _ in range(2):
            with Client(exec_mode.port) as client:
                check_shut_in(exec_mode.pid_serving(client), exec_mode.jail)
                assert client.login("anna", "pw-anna").ok
                check_shut_in(exec_mode.pid_serving(client), exec_mode.jail)
                client.logout()


@needs_root
@pytest.mark.parametrize("way", ["accept as fd 0", "listening sockets"])
def test_no_session_is_served_when_the_directory_has_gone(exec_mode, way):
    if not available(way):
        pytest.skip("the starter is not installed")
    exec_mode.jail.rmdir()
    argv = WAYS[way](exec_mode)
    argv += ["-l", "stderr"] if way == "listening sockets" else ["-l", "file"]
    if way == "accept as fd 0":  # there standard error is the client's connection
        argv = [ACTIVATE, "-l", f"127.0.0.1:{exec_mode.port}", "--accept", "sh", "-c",
                f'exec "$@" 2>>{exec_mode.log}', "sh", BUILD / "proxyd", "-r", exec_mode.run_directory, "-l", "file"]
    with started(exec_mode, argv):
        with contextlib.suppress(ConnectionResetError), Client(exec_mode.port, greet=False) as client:
            if way == "accept as fd 0":
                assert client.read_to_end().startswith(b"* BYE ")
        exec_mode.wait_log(f"cannot become uid {NOBODY} in chroot_directory {exec_mode.jail}: No such file")


@needs_root
@pytest.mark.skipif(not available("listening sockets"), reason="systemd-socket-activate is not installed")
def test_a_listener_that_root_started_gives_root_up_before_it_forks(make, backend):
    system = make.system(backend, run_listener="no")
    with started(system, WAYS["listening sockets"](system)):
        with Client(system.port) as client:
            client.ok("NOOP")
            for pid in system.pids("proxyd"):
                assert set(status_of(pid)["Uid"].split()) == {str(NOBODY)}
            assert is_at(system.pid_serving(client), "cwd", "/")


# --- Debian's file -------------------------------------------------------------------------------------
# What /etc/imapproxy.conf of Debian's imapproxy sets, apart from server_hostname, server_port and listen_port.
STOCK = {
    "cache_size": 3072,
    "cache_expiration_time": 300,
    "connect_retries": 10,
    "connect_delay": 5,
    "proc_username": "nobody",
    "proc_groupname": "nogroup",
    "stat_filename": "/var/run/pimpstats",
    "protocol_log_filename": "/var/log/imapproxy_protocol.log",
    "syslog_facility": "LOG_MAIL",
    "send_tcp_keepalives": "no",
    "enable_select_cache": "no",
    "enable_admin_commands": "no",
    "foreground_mode": "no",
    "force_tls": "no",
    "chroot_directory": "/var/lib/imapproxy/chroot",
}
# It writes to places of the whole machine: here they are empty ones that nobody else sees.
IN_NEW_PLACES = ("unshare", "--mount", "sh", "-c",
                 'for place in /run /var/lib /var/log; do mount -t tmpfs -o mode=755 none $place || exit 1; done && '
                 '{ [ -L /var/run ] || mount --bind /run /var/run; } && exec "$@"', "sh")


class StockSystem(System):
    """Not found by its folder, which few of its command lines name, but by its view of the file systems."""
    def __init__(self, backend):
        super().__init__(backend.port)
        self.config = {"server_hostname": "127.0.0.1", "server_port": backend.port, "listen_port": self.port, **STOCK}
        self.write_config()
        self.view = None

    def start(self):
        with open(self.log, "ab") as log:
            result = subprocess.run([*IN_NEW_PLACES, BUILD / "in.imapproxyd", "-f", self.conf],
                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=process.DEADLINE,
                                    check=False, env=self.environment())
        assert result.returncode == 0, self.log_text()
        (pid,) = super().pids("in.imapproxyd")
        self.view = os.readlink(f"/proc/{pid}/ns/mnt")
        return pid

    def pids(self, name=None):
        return [pid for pid, program in process.find("").items()
                if name in (None, program) and self.view and view_of(pid) == self.view]


def view_of(pid):
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return None


@needs_root
def test_debians_file_starts_the_whole_unchanged(make, backend):
    if subprocess.run([*IN_NEW_PLACES, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no mount namespace can be made here")
    system = StockSystem(backend)
    make.started.append(system)
    pid = system.start()
    try:
        assert not re.search(r"no effect|unknown|warning|cannot", system.log_text())
        jail = Path(f"/proc/{pid}/root/{STOCK['chroot_directory']}")
        for reused in (False, True):
            with system.session("anna", reused=reused) as client:
                check_shut_in(system.pid_serving(client), jail)
                client.ok("SELECT INBOX")
                client.logout()
            wait_statistics(system, pid, "given", 1 + reused)
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not system.pids(), lambda: f"left behind: {system.pids()}")


def wait_statistics(system, pid, counter, value):
    """Waits until pimpstat in the same place shows the counter's value."""
    def shown():
        run = subprocess.run(["nsenter", "-t", str(pid), "-m", BUILD / "pimpstat", "--json", "-f", system.conf],
                             capture_output=True, timeout=process.DEADLINE, check=False, text=True)
        return re.search(rf'"{counter}": *{value}\b', run.stdout)
    wait_until(shown, f"{counter} is not {value}")
