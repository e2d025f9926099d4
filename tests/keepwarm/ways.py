"""The suites on reuse in each jail: systems whose sessions are started as KEEPWARM_STARTED_BY says, locked up as far as each
supervisor can do it. Without it, it is in.imapproxyd's listener.

All of a suite runs under WHOLE, which has both listeners; elsewhere the same program locks itself up in the same way, and what
could differ is how it came to its descriptors: there each sort of row or conversation runs once, with one server (sample()).
"""
import contextlib
import os
import re

import pytest

from keepwarm import inetd, logger, process, systemd_root
from keepwarm.system import SANITIZED, System

WHOLE = ("in.imapproxyd", "systemd listener")
WAY = os.environ.get("KEEPWARM_STARTED_BY", WHOLE[0])
CHROOT = "/run/keepwarm/empty"  # under systemd

# chroot_directory needs root and some of its rights, for a moment: they are gone before a client is heard. The
# listener's socket is the user keepwarm's alone, hence CAP_DAC_OVERRIDE.
CHROOT_LISTENER = ("proxyd.service", """[Service]
User=root
PrivateUsers=no
CapabilityBoundingSet=CAP_SYS_CHROOT CAP_SETUID CAP_SETGID CAP_DAC_OVERRIDE
SystemCallFilter=chroot @setuid
""")
CHROOT_EACH = ("proxyd-imap-each@.service", """[Service]
User=root
CapabilityBoundingSet=CAP_SYS_CHROOT CAP_SETUID CAP_SETGID
""")
ROOT_OF_ITS_OWN = ("proxyd.service", """[Service]
RootDirectory=/srv/jail
MountAPIVFS=yes
BindReadOnlyPaths=/usr/local/sbin/proxyd /run/keepwarm /dev/log /run/systemd/journal
""")

# {way: (target, drop-in, where the sessions' root is then)}
SYSTEMD = {
    "systemd listener": ("listener", ROOT_OF_ITS_OWN, None),
    "systemd listener chroot": ("listener", CHROOT_LISTENER, CHROOT),
    "systemd each": ("each", CHROOT_EACH, CHROOT),
}
INETD = (*inetd.NOWAIT, *inetd.WAIT)
WAYS = (WHOLE[0], *SYSTEMD, *INETD)
assert WAY in WAYS, f"KEEPWARM_STARTED_BY: one of {', '.join(WAYS)}"

# With systemd there is one system at a time, since the units have their ports.
EXCLUSIVE = WAY in SYSTEMD


def missing():
    """Why nothing can be started in this way here, or None."""
    if WAY in SYSTEMD:
        return systemd_root.missing()
    if WAY in INETD:
        return inetd.missing(WAY) or logger.missing() or ("a sanitizer build has no jail" if SANITIZED else None)
    return None


def kinds(all_kinds):
    """With which servers a suite runs."""
    return all_kinds if WAY in WHOLE else all_kinds[:1]


def sample(items, sort_of):
    """All items, or, where that is enough, the first of each sort."""
    if WAY in WHOLE:
        return list(items)
    first = {}
    for item in items:
        first.setdefault(sort_of(item), item)
    return list(first.values())


# --- systems --------------------------------------------------------------------------------------------
class Jailed:
    """What the test asks of a session's process."""

    jail = None  # the sessions' root, or None: not ours to say

    def check_jail(self, client):
        """Is this client's session in the whole jail?"""
        pid = self.pid_serving(client)
        lines = process.read_proc(pid, "status").decode().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", status
        assert {status[key] for key in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16}
        assert "0" not in status["Uid"].split() + status["Gid"].split()
        assert re.search(r"Max processes +0 +0", process.read_proc(pid, "limits").decode())
        assert self.jail is None or os.path.samefile(f"/proc/{pid}/root/", self.jail)
        return pid


class Supervised(Jailed, System):
    """Under in.imapproxyd. Root shuts its sessions into a directory, too."""

    def __init__(self, backend, **config):
        super().__init__(backend.port, **config)
        if os.getuid() == 0 and not SANITIZED:
            self.jail = self.folder / "empty"
            self.write_config(chroot_directory=self.jail)


class Started(Jailed, logger.Watched):
    """By xinetd or inetd, as root. Their sessions say nothing but to the system's log, so that is ours."""

    def __init__(self, backend, **config):
        super().__init__(backend, run_listener="no", **config)
        self.jail = self.folder / "empty"
        self.write_config(chroot_directory=self.jail)
        self.stack = contextlib.ExitStack()

    def start(self):
        super().start()
        self.stack.enter_context(inetd.started(self, WAY, prefix=self.prefix))
        process.wait_until(self.greets, self.log_text, process.START_DEADLINE)
        return self

    def stop_and_keep(self):
        self.stack.close()
        super().stop_and_keep()

    def discard(self):
        self.stack.close()
        super().discard()


class Booted(Jailed, System):
    """By the units, in a root that is booted. Files and numbers of processes in its log are those inside."""

    def __init__(self, root, backend, **config):
        self.root = root
        self.target, drop_in, inside = SYSTEMD[WAY]
        if inside:
            config["chroot_directory"] = inside
        root.path("/srv/jail").mkdir(parents=True, exist_ok=True)
        for old in root.path("/var/lib/keepwarm").glob("pimpstats*"):  # the statistics of the system before
            old.unlink()
        root.drop_in(*drop_in)
        super().__init__(backend.port, listen_port=143, run_directory=None, protocol_log_filename=None, foreground_mode=None,
                         log_target=None, stat_filename="/var/lib/keepwarm/pimpstats", proc_username="keepwarm",
                         proc_groupname="keepwarm", **config)
        self.jail = root.path(inside) if inside else None

    def write_config(self, **changes):
        super().write_config(**changes)
        self.root.write("/etc/imapproxy.conf", self.conf.read_text(encoding="utf-8"))

    def start(self):
        self.root.systemctl("start", f"keepwarm-{self.target}.target")
        process.wait_until(self.greets, self.log_text, process.START_DEADLINE)
        return self

    def stop_and_keep(self):
        self.root.systemctl("stop", "keepwarm.target")
        process.wait_until(lambda: not self.pids(), lambda: f"left behind: {self.pids()}")

    def discard(self):
        self.root.remove_drop_ins()
        super().discard()

    def log_text(self):
        return "\n".join(self.root.logger.lines)

    def stats(self):
        return self.root.stats()

    def pids(self, name=None):
        return self.root.pids(name)

    def pid_serving(self, client):
        return self.root.pid_serving(self.port, client.port)

    def has_ended(self, pid):
        return not self.root.is_alive(pid)

    def check_jail(self, client):
        """The units' hardening is on as well: a filter of systemd's stands in front of the process's own."""
        pid = super().check_jail(client)
        if self.target == "listener":
            filters = re.search(r"^Seccomp_filters:\t(\d+)$", process.read_proc(pid, "status").decode(), re.M)
            assert int(filters[1]) >= 2
            assert os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink(f"/proc/{self.root.pid}/ns/mnt")
        if WAY == "systemd listener":
            assert not os.path.exists(f"/proc/{pid}/root/etc/passwd")
        return pid


def make(root, backend, **config):
    """A system that is not started; root: that of booted()."""
    if WAY in SYSTEMD:
        return Booted(root, backend, **config)
    return (Started if WAY in INETD else Supervised)(backend, **config)


@contextlib.contextmanager
def booted():
    """What the way needs for as long as there are tests: this thread is where its systems are."""
    if missing():
        pytest.skip(missing())
    if WAY not in SYSTEMD:
        yield None
        return
    root = systemd_root.Root()
    try:
        root.boot().enter()
        with forwarded(root):
            yield root
    finally:
        root.leave()
        root.stop()


@contextlib.contextmanager
def forwarded(root):
    """root.logger has the log at once: who follows the journal hears of a line a quarter of a second later."""
    root.write("/run/systemd/journald.conf.d/forward.conf", "[Journal]\nForwardToSyslog=yes\n")
    root.logger = logger.Logger(root.path("/run/systemd/journal/syslog"))
    root.systemctl("restart", "systemd-journald.service")
    try:
        yield
    finally:
        root.logger.stop()
