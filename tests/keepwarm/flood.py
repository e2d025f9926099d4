"""Many connections to a local socket, held by a process with descriptors of its own.

Run as `python3 -m keepwarm.flood PATH COUNT [HEX]`: makes so many connections, says HEX (one datagram) over each, prints
the number made, and holds them until its standard input ends.
"""
import resource
import select
import socket
import subprocess
import sys
from pathlib import Path

RESERVE = 50  # descriptors for other things
PAUSE = 0.005  # seconds in which the other side may take some of its backlog
PATIENCE = 4000  # so many of these pauses in a row mean that it takes no more


def most():
    """How many connections one process can hold."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1] - RESERVE


def connect(path):
    """A connection, or None if there is no room for one."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)
    for _ in range(PATIENCE):
        try:
            sock.connect(path)
            return sock
        except BlockingIOError:
            select.select([], [], [], PAUSE)
    sock.close()
    return None


def main(path, count, said):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held = []
    while len(held) < count and (sock := connect(path)):
        held.append(sock)
        if said:
            try:
                sock.send(said)
            except OSError:
                pass  # hung up already
    print(len(held), flush=True)
    sys.stdin.read()


class Flood:
    """The process, as a test holds it."""

    def __init__(self, path, count, said=b""):
        self.child = subprocess.Popen(
            [sys.executable, "-m", "keepwarm.flood", str(path), str(count), said.hex()], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, cwd=Path(__file__).resolve().parents[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.communicate()  # ends its input

    def is_complete(self):
        return select.select([self.child.stdout], [], [], 0)[0] != []

    def number(self):
        """How many connections it has made, when it has made all that it can."""
        return int(self.child.stdout.readline())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3]) if len(sys.argv) > 3 else b"")
