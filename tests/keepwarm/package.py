"""The Debian package: built in two versions, and a booted root (systemd_root.py) that it is installed in by dpkg.

The root has the machine's packages, and dpkg's list of them; what a test installs there is there only. The package that
it replaces, Debian's imapproxy, is downloaded once and kept with the other roots (debroot.py).
"""
import contextlib
import fcntl
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from keepwarm import process, systemd_root
from keepwarm.debroot import CACHE
from keepwarm.imap import Client
from keepwarm.process import wait_until
from keepwarm.system import ROOT, SOURCE, STAGED

CONF = "/etc/imapproxy.conf"
UNITS = "/lib/systemd/system"
WAYS = ("keepwarm-listener.target", "keepwarm-each.target", "in.imapproxyd.service")
NEXT = "+next"  # what the later version has behind its number
OTHER = "+other"
OLD_PACKAGES = ("imapproxy", "ucf", "sensible-utils", "lsb-base", "libwrap0", "libncurses6", "libnsl2", "libtirpc3", "libtirpc-common")
OLD_FILES = ("/var/log/imapproxy_protocol.log", "/run/pimpstats")
BUILD_SECONDS = 200
OF_MESSAGES = ("lib/msg.o", "cachebrokerd/pack.o", "cachebrokerd/restart_take.o")  # what has their version in it

# What the units want, and a file as up-imapproxy's sites have it.
FOR_UNITS = {"listen_address": "0.0.0.0", "listen_port": 143, "proc_username": "keepwarm", "proc_groupname": "keepwarm",
             "stat_filename": "/var/lib/keepwarm/pimpstats"}
OF_OLD = {"listen_port": 143, "cache_size": 3072, "cache_expiration_time": 300, "proc_username": "nobody",
          "proc_groupname": "nogroup", "stat_filename": "/var/run/pimpstats", "chroot_directory": "/var/lib/imapproxy/chroot",
          "protocol_log_filename": "/var/log/imapproxy_protocol.log", "syslog_facility": "LOG_MAIL",
          "send_tcp_keepalives": "no", "enable_select_cache": "no", "foreground_mode": "no", "force_tls": "no",
          "enable_admin_commands": "no"}

# Before a test and after it there is the same, but for what dpkg, ucf and logs write about themselves, and what useradd
# keeps of former files.
OF_OTHERS = re.compile(r"/(var/lib/dpkg|var/lib/ucf|var/cache|root)(/|$)|/var/log/(dpkg|alternatives|apt/.*)|/etc/(passwd|"
                       r"shadow|group|gshadow|subuid|subgid)-$|/var/lib/apt/extended_states|/etc/(\.pwd\.lock|ld\.so\.cache)$")
OURS = ("keepwarm", "imapprox", "pimpstat", "proxyd", "lookupd", "tlsrelayd", "brokerd")
USERS = ("/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow")


def missing():
    """Why there can be no test of it here, or None."""
    for tool in ("dpkg-deb", "dpkg-shlibdeps", "make"):
        if not shutil.which(tool):
            return f"{tool} is not installed"
    return systemd_root.missing()


def build(folder):
    """[this version's package, the next one's], of programs that differ in their version only."""
    shutil.copytree(SOURCE / "gen", folder / "gen")
    for name in ("obj", "static"):
        shutil.copytree(SOURCE / name, folder / name, ignore=shutil.ignore_patterns("tests", "bench", "*.a"))
    for name in STAGED:
        shutil.copy2(SOURCE / name, folder / name)
    packages = [make(folder)]
    return [*packages, make(folder, packages[0].name.split("_")[1] + NEXT)]


def build_other(folder, package):
    """One more, whose programs do not understand the messages of the others."""
    source, header, built = folder / "other", folder / "other/lib/msg.h", folder / "of-other"
    skipped = shutil.ignore_patterns(".git", "build", "tests", "bench")
    shutil.copytree(ROOT, source, ignore=lambda at, names: skipped(at, names) if Path(at) == ROOT else ())
    before, text = header.stat(), header.read_text(encoding="utf-8")
    header.write_text(re.sub(r"(?m)^(#define MSG_VERSION) .*", r"\1 255", text), encoding="utf-8")
    os.utime(header, ns=(before.st_atime_ns, before.st_mtime_ns))  # else all is built anew
    for name in ("gen", "obj", "static"):
        shutil.copytree(folder / name, built / name)
    for name in OF_MESSAGES:
        for path in built.glob(f"*/{name}"):
            path.unlink()
    return make(built, fields(package)["Version"] + OTHER, root=source)


def make(folder, version=None, umask=-1, root=ROOT):
    """The path of a package, by `make pkg`."""
    command = ["make", "-s", "-j2", "pkg", f"B={folder}", *([f"VERSION={version}"] if version else [])]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=BUILD_SECONDS,
                         check=False, umask=umask)
    assert run.returncode == 0, run.stdout + run.stderr
    return Path(run.stdout.strip().splitlines()[-1])


def fields(package):
    """Its control file's, folded lines left out."""
    text = subprocess.run(["dpkg-deb", "-f", package], capture_output=True, text=True, check=True).stdout
    return dict(line.split(": ", 1) for line in text.splitlines() if line[0] != " ")


def old_packages():
    """([Debian's imapproxy and what it needs], None) or (None, why there is none)."""
    folder = CACHE / "packages-of-imapproxy"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "packages-of-imapproxy.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as name:
                run = subprocess.run(["apt-get", "download", *OLD_PACKAGES], cwd=name, capture_output=True, text=True,
                                     timeout=120, check=False)
                if run.returncode != 0:
                    return None, (run.stderr.strip().splitlines() or ["apt-get download failed"])[-1]
                shutil.copytree(name, folder)
    return sorted(folder.glob("*.deb")), None


class Root(systemd_root.Root):
    """A booted one without Keepwarm and without imapproxy."""

    def boot(self, *_):
        super().boot(installed=False)
        self.run("dpkg", "--purge", "imapproxy", check=False)
        self.run("rm", "-f", "/usr/sbin/policy-rc.d", "/var/lib/man-db/auto-update", CONF, *OLD_FILES)
        return self

    def left(self):
        """All that differs from this machine's files: paths, and the lines of users. A copy of a file of the machine's is
        no difference."""
        found = {line for path in USERS for line in self.path(path).read_text(encoding="utf-8").splitlines()}
        changed = self.path("/run/changed")
        for path in changed.rglob("*"):
            name = f"/{path.relative_to(changed)}"
            here, there = Path(name), path.lstat()
            same = os.path.lexists(here) and stat.S_IFMT(here.lstat().st_mode) == stat.S_IFMT(there.st_mode)
            if not same and not OF_OTHERS.match(name):
                found.add(f"{name} {stat.filemode(there.st_mode)} {there.st_uid}:{there.st_gid}")
        found |= {str(path) for name in OURS for path in self.path("/run").glob(f"**/*{name}*") if "changed" not in path.parts}
        return found

    # --- packages -----------------------------------------------------------------------------------
    def shell(self, script, check=True):
        """What it says, both streams; dpkg must not wait for an answer."""
        return self.run("sh", "-ec", f"export DEBIAN_FRONTEND=noninteractive; exec 2>&1; {script}", check=check)

    def bring(self, package):
        """A copy inside; its path there."""
        path = f"/root/{package.name}"
        if not self.path(path).exists():
            shutil.copy(package, self.path(path))
        return path

    def install(self, package, check=True):
        return self.shell(f"dpkg -i {self.bring(package)}", check).stdout

    def status(self, name="keepwarm"):
        """As dpkg calls it, or empty."""
        return self.run("dpkg-query", "-W", "-f", "${db:Status-Status}", name, check=False).stdout

    def is_enabled(self, *units):
        """Of each what systemctl says."""
        return self.systemctl("is-enabled", *units, check=False).splitlines()

    # --- Keepwarm -----------------------------------------------------------------------------------
    def configure(self, **config):
        text = "".join(f"{key} {value}\n" for key, value in config.items())
        self.write(CONF, text)
        return text

    def conf(self):
        return self.path(CONF).read_text(encoding="utf-8")

    def stats(self):
        return json.loads(self.run("pimpstat", "--json", "-f", CONF).stdout)

    def wait_cached(self, count):
        wait_until(lambda: self.stats()["gauges"]["cached"] >= count, lambda: f"{self.stats()}\n{self.journal()}")

    def pids(self, program=None):
        """Those in the root's cgroup, and those that this test's own commands have started: of its PID namespace."""
        wanted = systemd_root.PROGRAMS if program is None else (program,)
        namespace, found = os.readlink(f"/proc/{self.pid}/ns/pid"), []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):  # they come and go
                if os.readlink(f"/proc/{name}/ns/pid") == namespace and process.program(name) in wanted and process.alive(name):
                    found.append(int(name))
        return sorted(found)

    def outdated(self):
        """Processes of ours whose program has been replaced."""
        found = []
        for pid in [*self.pids(), *self.pids("in.imapproxyd")]:
            with contextlib.suppress(OSError):  # it has just ended
                if os.readlink(f"/proc/{pid}/exe").endswith(" (deleted)"):
                    found.append(process.program(pid))
        return sorted(set(found))

    def login(self, user="anna", port=143, reused=None):
        """One session, from greeting to LOGOUT; was its connection reused?"""
        with Client(port) as client:
            reply = client.login(user, f"pw-{user}")
            assert reply.ok and reused in (None, reply.reused), (reply, self.journal())
            client.ok("SELECT INBOX")
            assert f"<{user}>".encode() in client.ok("FETCH 1 BODY[]").text
            client.logout()
            return reply.reused
