"""A logger in the system's place: programs under test see a /dev of their own, in which log leads to a socket that
the test reads.
"""
import os
import shutil
import socket
import subprocess
import threading

from keepwarm.process import wait_until
from keepwarm.system import System

OWN_DEV = """
mount -t tmpfs -o mode=755 tmpfs "$KEEPWARM_DEV"
for node in null zero full random urandom tty; do
	: >"$KEEPWARM_DEV/$node"
	mount --bind "/dev/$node" "$KEEPWARM_DEV/$node"
done
ln -s /proc/self/fd "$KEEPWARM_DEV/fd"
ln -s "$KEEPWARM_LOG" "$KEEPWARM_DEV/log"
mount --rbind "$KEEPWARM_DEV" /dev
exec "$0" "$@"
"""


def missing():
    """Why a program cannot be given a logger of its own here, or None."""
    if os.getuid() != 0:
        return "only root can give programs a logger of their own"
    if not shutil.which("unshare") or subprocess.run(["unshare", "--mount", "true"], capture_output=True,
                                                     check=False).returncode != 0:
        return "no mount namespace can be made here"
    return None


def own_dev(folder, logger):
    """What stands in front of a command so that it sees that logger; folder is empty."""
    return ("env", f"KEEPWARM_DEV={folder}", f"KEEPWARM_LOG={logger.path}", "unshare", "--mount", "sh", "-ec", OWN_DEV)


class Logger:
    def __init__(self, path):
        self.path, self.lines, self.sock = path, [], None
        self.start()

    def start(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(self.path))
        self.path.chmod(0o666)
        threading.Thread(target=self.receive, args=(self.sock,), daemon=True).start()

    def receive(self, sock):
        while True:
            try:
                data = sock.recv(4096)
            except OSError:
                return
            if not data:
                return
            self.lines.append(data.decode("utf-8", "replace"))

    def stop(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.path.unlink()

    def restart(self):
        """As rsyslog does it: another socket under the same name."""
        self.stop()
        self.lines.clear()
        self.start()

    def wait(self, *words, count=1):
        def found():
            return len([line for line in self.lines if all(word in line for word in words)]) == count
        wait_until(found, lambda: f"not {count} lines with {words}: {self.lines}")


class Watched(System):
    """A system whose log is read by a Logger."""

    def __init__(self, backend, **config):
        super().__init__(backend.port, log_target="syslog", **config)
        dev = self.folder / "dev"
        dev.mkdir()
        self.logger = Logger(self.folder / "logger")
        self.prefix = own_dev(dev, self.logger)

    def log_text(self):
        return super().log_text() + "\n".join(self.logger.lines)
