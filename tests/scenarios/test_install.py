"""What make install, install-conf and install-init put into a root, and that it works from there."""
import os
import re
import shutil
import signal
import stat
import subprocess

import pytest

from keepwarm import process
from keepwarm.process import wait_until
from keepwarm.system import ROOT, SANITIZED, SOURCE, System, temp_folder

PROGRAMS = ["cachebrokerd", "in.imapproxyd", "lookupd", "pimpstat", "proxyd", "tlsrelayd"]


def make_target(*targets, **variables):
    arguments = [f"{name}={value}" for name, value in {"B": SOURCE, **variables}.items()]
    run = subprocess.run(["make", "-s", *targets, *arguments, *(["SAN=1"] if SANITIZED else [])], cwd=ROOT,
                         capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


@pytest.fixture
def root():
    folder = temp_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_the_programs_and_their_manuals_are_installed_and_nothing_else(root):
    make_target("install", DESTDIR=root)
    installed = files(root)
    manuals = sorted(f"usr/local/share/man/man{path.suffix[1:]}/{path.name}" for path in (ROOT / "man").iterdir())
    assert set(installed) == {*(f"usr/local/sbin/{name}" for name in [*PROGRAMS, "imapproxyd"]), *manuals,
                              "usr/local/share/man/man8/imapproxyd.8"}
    for name in PROGRAMS:
        path = root / "usr/local/sbin" / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o755
        assert f"{name}.8" in {manual.rsplit("/", 1)[1] for manual in manuals}
    assert os.readlink(root / "usr/local/sbin/imapproxyd") == "in.imapproxyd"


def test_prefix_moves_everything(root):
    make_target("install", "install-init", DESTDIR=root, PREFIX="/opt/mail", SYSCONFDIR="/opt/mail/etc")
    assert all(name.startswith("opt/mail/") for name in files(root))
    for path in root.rglob("*"):
        if path.suffix in (".service", ".socket", ".target") or path.parent.name == "init.d":
            text = path.read_text()
            assert "/usr/local" not in text and not re.search("@[A-Z]+@", text), path
            assert " /etc/imapproxy.conf" not in text, path
    assert "ExecStart=/opt/mail/sbin/in.imapproxyd -f /opt/mail/etc/imapproxy.conf" in \
        (root / "opt/mail/lib/systemd/system/in.imapproxyd.service").read_text()
    assert "\nCONFIG=/opt/mail/etc/imapproxy.conf\n" in (root / "opt/mail/etc/init.d/in.imapproxyd").read_text()


def test_a_configuration_that_is_there_is_never_touched(root):
    conf = root / "etc/imapproxy.conf"
    make_target("install-conf", DESTDIR=root)
    assert conf.read_bytes() == (ROOT / "conf/imapproxy.conf").read_bytes()
    conf.write_text("server_hostname ours\n")
    conf.chmod(0o600)
    said = make_target("install-conf", DESTDIR=root)
    assert "stays as it is" in said and conf.read_text() == "server_hostname ours\n"
    assert stat.S_IMODE(conf.stat().st_mode) == 0o600
    conf.unlink()
    conf.symlink_to("/nowhere/else.conf")
    make_target("install-conf", DESTDIR=root)
    assert os.readlink(conf) == "/nowhere/else.conf"
    assert files(root) == ["etc/imapproxy.conf"]


def test_install_init_brings_all_units_and_enables_none(root):
    make_target("install-init", DESTDIR=root)
    units = {path.name for path in (ROOT / "units").iterdir() if path.suffix in (".service", ".socket", ".target")}
    assert {path.name for path in (root / "usr/local/lib/systemd/system").iterdir()} == units
    assert not any(path.is_symlink() for path in root.rglob("*"))
    assert os.access(root / "etc/init.d/in.imapproxyd", os.X_OK)
    if shutil.which("systemd-analyze") and not SANITIZED:
        make_target("install", DESTDIR=root)
        check = subprocess.run(["systemd-analyze", "verify", f"--root={root}", "--man=no",
                                *sorted(f"/usr/local/lib/systemd/system/{name}" for name in units)],
                               capture_output=True, text=True, timeout=60, check=False)
        complaints = [line for line in check.stderr.splitlines()
                      if any(unit in line for unit in units) and "not found" not in line and
                      "/bin/kill is not executable" not in line]  # there is none in this root
        assert not complaints


def test_everything_works_from_where_it_was_installed(make, backend, root):
    """Also by the name that Debian gave the program, which is a link."""
    make_target("install", DESTDIR=root)
    by_link = ("sh", "-c", 'exec "${0%/*}/imapproxyd" "$@"')
    system = System(backend.port, binaries=root / "usr/local/sbin", prefix=by_link)
    make.started.append(system)
    system.start()
    with system.session() as client:
        client.ok("NOOP")
    for name in ("cachebrokerd", "lookupd", "proxyd"):
        assert os.readlink(f"/proc/{system.pids(name)[0]}/exe") == str(root / "usr/local/sbin" / name)
    shown = subprocess.run([root / "usr/local/sbin/pimpstat", "-1", "-f", system.conf], capture_output=True,
                           text=True, timeout=process.DEADLINE, check=True, env=system.environment())
    assert "logins" in shown.stdout.lower()


# --- the LSB script -------------------------------------------------------------------------------------------
class Script:
    """The installed init script, with a configuration of its own."""

    def __init__(self, root, system):
        self.root, self.system = root, system
        self.pid_file = root / "pid"
        etc = root / "etc"
        make_target("install", "install-init", PREFIX=root / "usr", SYSCONFDIR=etc)
        (etc / "default").mkdir(parents=True)
        self.default = etc / "default/in.imapproxyd"
        self.default.write_text(f"CONFIG={system.conf}\nPIDFILE={self.pid_file}\n")

    def run(self, verb):
        return subprocess.run([self.root / "etc/init.d/in.imapproxyd", verb], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60, check=False, cwd="/",
                              env=self.system.environment())

    def pid(self):
        return int(self.pid_file.read_text())


@pytest.fixture
def script(make, backend, root):
    if not os.path.exists("/lib/lsb/init-functions") or not shutil.which("start-stop-daemon"):
        pytest.skip("no LSB functions here")
    system = System(backend.port)
    make.started.append(system)
    system.log = system.folder / "logfile"
    system.write_config(foreground_mode="no", log_target=f"file:{system.log}")
    script = Script(root, system)
    yield script
    script.run("stop")


def test_the_init_script_starts_stops_and_tells_the_state(script):
    assert script.run("status").returncode == 3
    started = script.run("start")
    assert started.returncode == 0, started
    with script.system.session() as client:
        client.ok("NOOP")
    pid = script.pid()
    assert script.run("status").returncode == 0
    assert script.run("start").returncode == 0 and script.pid() == pid
    assert script.run("stop").returncode == 0
    assert not process.alive(pid) and not script.pid_file.exists()
    assert script.run("stop").returncode == 0
    assert script.run("status").returncode == 3


def test_the_init_script_restarts_and_reloads(script):
    script.run("start")
    pid = script.pid()
    assert script.run("restart").returncode == 0
    assert script.pid() != pid and process.alive(script.pid())
    script.system.write_config(hide_capabilities="X-TEST")
    assert script.run("reload").returncode == 0
    script.system.wait_log("taken over")


def test_the_init_script_says_when_it_could_not_start(script):
    script.system.write_config(max_errors="banana")
    failed = script.run("start")
    assert failed.returncode == 1 and "max_errors" in failed.stderr
    script.default.write_text(script.default.read_text() + "START=no\n")
    script.system.write_config(max_errors="3")
    assert script.run("start").returncode == 0 and not script.pid_file.exists()


# --- systemd --------------------------------------------------------------------------------------------------
def test_a_process_that_systemd_waits_for_stays_in_the_foreground(make, backend, tmp_path):
    """Type=notify with the file of a site that says foreground_mode no; a variable that was only inherited says
    nothing."""
    system = System(backend.port)
    make.started.append(system)
    system.write_config(foreground_mode="no", log_target="stderr")
    start = f'export NOTIFY_SOCKET={tmp_path}/none SYSTEMD_EXEC_PID=$$; exec "$0" "$@"'
    system.prefix = ("sh", "-c", start)
    system.start()
    assert process.program(system.supervisor.pid) == "in.imapproxyd"
    system.stop_and_keep()
    pid_file = system.folder / "pid"
    inherited = subprocess.run([system.binaries / "in.imapproxyd", "-f", system.conf, "-p", pid_file],
                               stdin=subprocess.DEVNULL, stderr=open(system.log, "ab"), timeout=process.DEADLINE,
                               check=False, env=dict(system.environment(), NOTIFY_SOCKET=f"{tmp_path}/none",
                                                     SYSTEMD_EXEC_PID="1"))
    assert inherited.returncode == 0
    os.kill(int(pid_file.read_text()), signal.SIGTERM)
    wait_until(lambda: not system.pids(), "it does not end")
