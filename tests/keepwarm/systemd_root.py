"""A real systemd as PID 1 of namespaces of its own, with Keepwarm as `make install` puts it there.

The root is an overlay of / in memory (debroot.py), the processes are in a cgroup of their own, and the network is one
with nothing but lo, so that the units have their ports. It ends with SIGKILL to its PID 1, whatever the test did.
"""
import contextlib
import ctypes
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from keepwarm import debroot, process
from keepwarm.process import wait_until
from keepwarm.system import ROOT, SANITIZED, SOURCE, temp_folder

SYSTEMD = "/lib/systemd/systemd"
NAMESPACES = ("--uts", "--ipc", "--cgroup", "--net")
CLONE_NEWNET = 0x40000000
INSTALLED = ("install", "install-conf", "install-init")
PROGRAMS = ("cachebrokerd", "lookupd", "tlsrelayd", "proxyd")

# What would reach beyond the namespaces, or is of no use in them.
MASKED = """systemd-sysctl.service systemd-modules-load.service systemd-udevd.service systemd-udev-trigger.service
    systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-resolved.service systemd-timesyncd.service
    systemd-networkd.service systemd-logind.service systemd-random-seed.service systemd-hwdb-update.service
    systemd-journal-catalog-update.service systemd-journal-flush.service ldconfig.service
    dev-hugepages.mount dev-mqueue.mount sys-fs-fuse-connections.mount sys-kernel-debug.mount
    sys-kernel-tracing.mount sys-kernel-config.mount systemd-journald-audit.socket
    proc-sys-fs-binfmt_misc.automount"""

# Its own target: the default one would start every service of this machine.
TARGET = """[Unit]
Requires=sysinit.target
After=sysinit.target
AllowIsolate=yes
"""

# What differs from this machine's own files is in /run/changed. --make-rshared: without it the folders of LoadCredential= stay empty. A read-only /sys keeps udev out.
BOOT = debroot.MOUNT + """
mount -t sysfs -o ro,nosuid,noexec,nodev sysfs sys
mount -t cgroup2 -o nosuid,noexec,nodev cgroup2 sys/fs/cgroup
mkdir dev/pts run/lock run/old run/changed
mount --bind "$work/upper" run/changed
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
: >dev/console
mount -t tmpfs -o mode=1777 tmpfs tmp
for unit in $masked; do ln -sf /dev/null etc/systemd/system/$unit; done
rm -rf etc/systemd/system/sysinit.target.wants etc/systemd/journald.conf.d
printf '%s' "$target" >etc/systemd/system/test.target
printf '[Journal]\\nStorage=volatile\\nRateLimitBurst=0\\nForwardToSyslog=no\\n' >etc/systemd/journald.conf
head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n' >etc/machine-id
pivot_root . run/old
umount -l run/old
rmdir run/old
mount --make-rshared /
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \\
	""" + SYSTEMD + """ --system --unit=test.target --log-target=journal --show-status=no
"""


def cgroup_mount():
    """Where this machine has its cgroup2 hierarchy, or None."""
    for line in process.read_proc("self", "mounts").decode().splitlines():
        if line.split()[2] == "cgroup2":
            return Path(line.split()[1])
    return None


def remove_old_cgroups():
    """Those of tests that were killed: nobody is in any of theirs. (In one that lives, a unit may have an empty one, which
    its systemd does not make again.) A new one may be empty for a moment."""
    for old in cgroup_mount().glob("keepwarm-test-*"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime < 60 or "populated 1" in (old / "cgroup.events").read_text():
                continue
        for folder, _, _ in os.walk(old, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def missing():
    """Why there can be no systemd here, or None."""
    if SANITIZED:
        return "a sanitizer build cannot live under the hardening of the units"
    if os.getuid() != 0:
        return "a systemd in namespaces needs root"
    if not os.path.exists(SYSTEMD):
        return "systemd is not installed"
    if not cgroup_mount():
        return "there is no cgroup2 hierarchy"
    folder = temp_folder()
    try:
        probe = cgroup_mount() / folder.name
        probe.mkdir()
        probe.rmdir()
        script = f"mkdir m u w && mount -t tmpfs tmpfs m && mkdir m/u m/w m/r && " \
                 "mount -t overlay -o lowerdir=/,upperdir=m/u,workdir=m/w overlay m/r"
        run = subprocess.run([*debroot.UNSHARE, *NAMESPACES, "sh", "-c", script], cwd=folder, capture_output=True,
                             text=True, timeout=process.START_DEADLINE, check=False)
        return f"namespaces and overlays do not work here: {run.stderr.strip()}" if run.returncode else None
    except OSError as error:
        return f"no cgroup can be made here: {error}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_tree(folder):
    """A tar of what `make install` and its kin put into a root."""
    root, tar = folder / "installed", folder / "installed.tar"
    subprocess.run(["make", "-s", *INSTALLED, f"B={SOURCE}", f"DESTDIR={root}"], cwd=ROOT, check=True, timeout=120,
                   stdout=subprocess.DEVNULL)
    subprocess.run(["tar", "-cf", tar, "--owner=0", "--group=0", "-C", root, "."], check=True, timeout=60)
    shutil.rmtree(root)
    return tar


class Root:
    """A booted one. Paths are those inside."""

    def __init__(self):
        self.folder = temp_folder()
        self.console = self.folder / "console"
        self.cgroup = cgroup_mount() / self.folder.name
        self.outer = None
        self.pid = None
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    # --- start and end ------------------------------------------------------------------------------
    def boot(self, installed=True):
        """Without Keepwarm, if it is to be installed by other means."""
        (self.folder / "work").mkdir()
        remove_old_cgroups()
        self.cgroup.mkdir()
        environment = dict(os.environ, work=str(self.folder / "work"),
                           tar=str(make_tree(self.folder) if installed else self.folder / "none"),
                           masked=MASKED.replace("\n", " "), target=TARGET, cgroup=str(self.cgroup))
        script = 'echo $$ >"$cgroup/cgroup.procs" && exec "$@"'
        with open(self.console, "ab") as console:
            self.outer = process.start(["sh", "-c", script, "sh", *debroot.UNSHARE, *NAMESPACES, "sh", "-c", BOOT],
                                       signal="KILL", stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                                       cwd="/", env=environment)
        wait_until(self.is_up, lambda: "systemd does not come up:\n" + self.console_text(), process.START_DEADLINE)
        if installed:
            self.run("systemd-sysusers")
            self.run("systemd-tmpfiles", "--create", "/usr/local/lib/tmpfiles.d/keepwarm.conf")
        return self

    def is_up(self):
        assert self.outer.poll() is None, "systemd has ended:\n" + self.console_text()
        if self.pid is None:
            inner = process.children(self.outer.pid)
            if not inner or process.program(inner[0]) != "systemd":
                return False
            self.pid = inner[0]
        state = self.run("systemctl", "is-active", "test.target", check=False)
        return state.stdout.strip() == "active"

    def stop(self):
        if self.outer:
            self.outer.kill()
            self.outer.wait(process.DEADLINE)
        if self.pid:
            wait_until(lambda: not process.alive(self.pid), "PID 1 is still there")
        if self.cgroup.exists():
            (self.cgroup / "cgroup.kill").write_text("1")
            wait_until(self.remove_cgroup, f"{self.cgroup} cannot be removed")
        os.close(self.home)
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_cgroup(self):
        """What nobody waits for may be a zombie in it for a moment."""
        try:
            for path, _, _ in os.walk(self.cgroup, topdown=False):
                os.rmdir(path)
        except OSError:
            return False
        return True

    def console_text(self):
        """What went wrong in the boot script."""
        return self.console.read_text(errors="replace")

    # --- within -------------------------------------------------------------------------------------
    def within(self):
        """What stands in front of a command that runs inside."""
        return ("nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-C", "-n", "-r", "-w", "--")

    def run(self, *argv, check=True):
        """Runs a command inside."""
        run = subprocess.run([*self.within(), *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
                             check=False)
        assert not check or run.returncode == 0, f"{argv}: {run.returncode} {run.stdout} {run.stderr}\n{self.journal()}"
        return run

    def systemctl(self, *words, check=True):
        return self.run("systemctl", *words, check=check).stdout.strip()

    def show(self, unit, key):
        return self.systemctl("show", "--value", "-p", key, unit)

    def journal(self):
        return self.run("journalctl", "-o", "short-monotonic", "--no-pager", check=False).stdout

    def path(self, path):
        """A path inside as this test can open it. An absolute link on the way would lead it to this machine's own files."""
        inside = Path(f"/proc/{self.pid}/root")
        for part in Path(path).parts[1:]:
            inside /= part
            assert not (inside.is_symlink() and os.readlink(inside).startswith("/")), f"{path}: {part} leads out of the root"
        return inside

    def write(self, path, text, mode=0o644):
        to = self.path(path)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(text, encoding="utf-8")
        to.chmod(mode)

    def drop_in(self, unit, text):
        """More lines for a unit, until remove_drop_ins()."""
        self.write(f"/run/systemd/system/{unit}.d/test.conf", text)
        self.systemctl("daemon-reload")

    def remove_drop_ins(self):
        for folder in self.path("/run/systemd/system").glob("*.d"):
            shutil.rmtree(folder)
        self.systemctl("daemon-reload")

    # --- processes (their numbers are those of outside) -----------------------------------------------
    def pids(self, program=None):
        """The programs of Keepwarm that run inside."""
        found = []
        for folder, _, _ in os.walk(self.cgroup):  # groups come and go meanwhile
            with contextlib.suppress(OSError):
                found += map(int, Path(folder, "cgroup.procs").read_text(encoding="ascii").split())
        return sorted(pid for pid in found if process.alive(pid) and process.program(pid) in (program, *PROGRAMS)
                      and program in (None, process.program(pid)))

    def main_pid(self, unit):
        """The main process of a unit, as it is outside."""
        inner = int(self.show(unit, "MainPID"))
        for pid in self.pids():
            status = process.read_proc(pid, "status").decode()
            if inner and re.search(rf"^NSpid:.*\s{inner}$", status, re.M):
                return pid
        return None

    def is_alive(self, inner):
        """Does the process of this number inside run (and is no zombie)?"""
        try:
            stat = self.path(f"/proc/{inner}/stat").read_bytes()
        except OSError:
            return False
        return stat.rpartition(b") ")[2][:1] not in (b"", b"Z", b"X")

    def pid_serving(self, port, client_port):
        """The proxyd that has the connection between these two ports."""
        pattern = rf":{port:04X} \w+:{client_port:04X} 01(?: +\S+){{5}} +(\d+)"
        rows = b"".join(process.read_proc(self.pid, f"net/{name}") for name in ("tcp", "tcp6"))
        inode = int(re.search(pattern, rows.decode())[1])
        holders = [pid for pid in self.pids("proxyd") if inode in process.socket_inodes(pid)]
        assert len(holders) == 1, holders
        return holders[0]

    def stats(self):
        """What pimpstat --json prints."""
        return json.loads(self.run("pimpstat", "--json", "-f", "/etc/imapproxy.conf").stdout)

    # --- the network ----------------------------------------------------------------------------------
    def enter(self):
        """This thread's sockets, and those of threads that it starts, are inside from now on, until leave()."""
        inside = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.set_network(inside)
        finally:
            os.close(inside)

    def leave(self):
        self.set_network(self.home)

    def set_network(self, fd):
        if self.libc.setns(fd, CLONE_NEWNET) < 0:
            raise OSError(ctypes.get_errno(), "setns")
