"""Debian packages that conflict with installed ones, run in a root of their own: nothing of this machine changes.

prepare() installs them once, with apt inside an overlay of / in a private mount namespace, and keeps what that
wrote as build/test/roots/NAME-KEY.tar. Rooted starts a server in such a root: mount and PID namespaces of its
own, a tmpfs over / with that tar in it. All its processes end, and all its mounts go, with one SIGKILL.

(A tar and no folder: the kernel refuses an overlay whose lower folders lie in one another, and an upper folder that
is on an overlay itself, as in a container.)
"""
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess

from keepwarm import process
from keepwarm.imap import Client
from keepwarm.system import ROOT, temp_folder

CACHE = ROOT / "build" / "test" / "roots"
INSTALL_SECONDS = 400
UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--propagation", "private")

# Both scripts make $work/root an overlay of / that is written to memory.
MOUNT = """
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t tmpfs -o mode=755 tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
[ ! -e "$tar" ] || tar -xf "$tar" -C "$work/upper"
mount -t overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
cd "$work/root"
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs dev
mount -t tmpfs -o mode=755 tmpfs run
for node in null zero full random urandom tty; do : >dev/$node; mount --bind /dev/$node dev/$node; done
ln -s /proc/self/fd dev/fd
mkdir -m 1777 dev/shm
"""
INSTALL = MOUNT + """
printf '#!/bin/sh\\nexit 101\\n' >usr/sbin/policy-rc.d
chmod 755 usr/sbin/policy-rc.d
if [ -e /etc/resolv.conf ]; then # it may be a link into /run
	cp -L /etc/resolv.conf "$work/resolv.conf"
	rm etc/resolv.conf
	cp "$work/resolv.conf" etc/resolv.conf
fi
chroot . apt-get update -q || echo "apt-get update failed, perhaps the lists will do"
chroot . apt-get install -q -y --no-install-recommends $packages
chroot . sh -eu -c "$after"
cd "$work/upper"
find . ! -type c ! -path './var/cache/*' ! -path './var/log/*' ! -path './var/lib/apt/*' ! -path './var/lib/dpkg/*' \\
	! -path './usr/share/doc/*' ! -path './usr/share/man/*' ! -path './usr/share/locale/*' \\
	! -path './tmp/*' ! -path ./usr/sbin/policy-rc.d ! -path ./etc/resolv.conf >"$work/list"
umask 077 # there is a copy of etc/shadow in it
tar -cf "$tar.new" --no-recursion -T "$work/list"
mv "$tar.new" "$tar"
"""
RUN = MOUNT + """
mkdir -p ".$data"
mount --bind "$data" ".$data"
exec chroot . /bin/sh -e "$data/start"
"""


def installed():
    """What is under the overlay: another set of packages needs another installation above it."""
    return subprocess.run(["dpkg-query", "-W"], capture_output=True, check=True).stdout


@functools.cache
def prepare(name, packages, after=":"):
    """The path of the tar, and None; or None and the reason why there is none. `after` is run in the root."""
    if os.getuid() != 0:
        return None, f"a root with {name} needs root"
    if not shutil.which("apt-get"):
        return None, f"a root with {name} is made with apt-get"
    key = hashlib.sha256("\0".join([INSTALL, packages, after]).encode() + installed()).hexdigest()[:16]
    tar = CACHE / f"{name}-{key}.tar"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may want it at once
        if not tar.exists():
            for old in CACHE.glob(f"{name}-*"):
                old.unlink()
            problem = install(tar, packages, after)
            if problem:
                return None, f"no root with {name}: {problem}"
    return tar, None


def install(tar, packages, after):
    """Returns None, or the last thing that was said before it failed."""
    work = temp_folder()
    log = tar.with_suffix(".log")
    try:
        with open(log, "wb") as output:
            subprocess.run([*UNSHARE, "sh", "-c", INSTALL], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                           check=True, timeout=INSTALL_SECONDS,
                           env=dict(os.environ, work=work, tar=tar, packages=packages, after=after))
    except subprocess.SubprocessError as error:
        lines = log.read_text(errors="replace").strip().splitlines()
        return f"{lines[-1] if lines else error} ({log.relative_to(ROOT)})"
    finally:
        work.rmdir()
    return None


class Rooted:
    """A server of such a root, with `data` as the one folder that it shares with this machine."""

    def __init__(self, tar, users):
        self.tar = tar
        self.folder = temp_folder()
        self.data = self.folder / "data"
        self.data.mkdir(mode=0o755)
        (self.folder / "work").mkdir()
        self.port = process.free_port()
        self.names = [f"user{n}" for n in range(1, users + 1)]
        self.log = self.data / "log"
        self.outer = None
        self.inner = []

    @staticmethod
    def password(name):
        return "secret" + name.removeprefix("user")

    def boot(self, script):
        """Runs the script as PID 1 of the namespaces and waits until the port greets."""
        (self.data / "start").write_text(script)
        with open(self.log, "ab") as log:
            self.outer = process.start(
                [*UNSHARE, "sh", "-c", RUN], signal="KILL", stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                env=dict(os.environ, work=self.folder / "work", tar=self.tar, data=self.data))
        process.wait_until(self.greets, lambda: "the server does not greet:\n" + self.log_text(), process.START_DEADLINE)
        self.inner = process.read_proc(self.outer.pid, f"task/{self.outer.pid}/children").split()

    def greets(self):
        assert self.outer.poll() is None, "the server has ended:\n" + self.log_text()
        try:
            with Client(self.port) as client:
                return client.greeting.startswith(b"* OK")
        except (OSError, AssertionError):
            return False

    def stop(self):
        if self.outer:
            self.outer.kill()
            self.outer.wait(process.DEADLINE)
            process.wait_until(lambda: not any(process.alive(int(pid)) for pid in self.inner), "PID 1 is still there")
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""
