"""A scripted tlsrelayd on the broker's `tls` socket. It does no TLS: what is inside of it and what is outside are the
same bytes, so that a test can let it be late, lie, or die; every request is recorded."""
import contextlib
import functools
import socket
import threading

from keepwarm.messages import Message, Peer
from keepwarm.process import wait_until
from keepwarm.system import stage, temp_folder

IDLE = """#!/usr/bin/python3
import os, signal, socket, sys
if "-n" in sys.argv:  # a look at the files, in front of a reload
    sys.exit(0)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
address = os.environ["NOTIFY_SOCKET"]
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", address.replace("@", chr(0)))
while True:
    signal.pause()
"""


@functools.cache
def idle_binaries():
    """The programs, of which tlsrelayd does nothing: a test plays it."""
    path = temp_folder() / "tlsrelayd"
    path.write_text(IDLE)
    path.chmod(0o755)
    return stage(tlsrelayd=path)


# enum msg_tls_failure of lib/msg.h and enum tls_mode of lib/config.h
UNAVAILABLE, HANDSHAKE, CERTIFICATE, REFUSED, INJECTED, TIMEOUT, LOST, UNWATCHED = range(1, 9)
NONE, STARTTLS, IMPLICIT = range(3)


def pump(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def take_line(sock):
    line = b""
    while not line.endswith(b"\n"):
        byte = sock.recv(1)
        assert byte, "the mail host has closed"
        line += byte
    return line


class Relay:
    """Serves requests in a thread with `answer`, a function of relay and request; None: nothing is answered."""

    def __init__(self, system, serves=1, answer="splice", hello=True):
        self.peer = Peer(system, "tls")
        self.peer.sock.settimeout(None)
        self.requests = []
        self.streams = []
        self.answer = Relay.splice if answer == "splice" else answer
        self.gone = threading.Event()
        if hello:
            self.push("RELAY", serves=serves)
        threading.Thread(target=self.run, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.die()

    def push(self, name, /, fds=(), **values):
        self.peer.push(name, fds=fds, **values)

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                data, fds, _, _ = socket.recv_fds(self.peer.sock, 12800, 2)
                if not data:
                    break
                request = Message(data, fds)
                request.sock.setblocking(True)  # it comes as the broker has it
                self.requests.append(request)
                if self.answer:
                    self.answer(self, request)
        self.gone.set()

    # --- answers ------------------------------------------------------------------------------------
    def stream(self, request):
        """One end of the stream inside of the request's connection."""
        ours, theirs = socket.socketpair()
        self.streams.append((ours, request.sock))
        for ends in ((ours, request.sock), (request.sock, ours)):
            threading.Thread(target=pump, args=ends, daemon=True).start()
        return theirs

    def splice(self, request, serial=None, **facts):
        if request.name == "TLS_CONNECT" and request.mode == STARTTLS:
            take_line(request.sock)  # the greeting
        theirs = self.stream(request)
        said = {"version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "name": "mail.example.org", **facts}
        self.push("TLS_READY", fds=[theirs.fileno()], serial=request.serial if serial is None else serial, **said)
        theirs.close()

    def fail(self, request, reason=HANDSHAKE, text="no"):
        request.sock.close()
        self.push("TLS_FAILED", serial=request.serial, reason=reason, text=text)

    # --- what tests do and ask ----------------------------------------------------------------------
    def die(self):
        """Everything that it holds is closed, as when its process is killed."""
        with contextlib.suppress(OSError):
            self.peer.sock.shutdown(socket.SHUT_RDWR)
        self.peer.sock.close()
        for ends in self.streams:
            for sock in ends:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for request in self.requests:
            request.sock.close()

    def wait_requests(self, count):
        wait_until(lambda: len(self.requests) >= count, lambda: f"not {count} requests: {self.requests}")
        return self.requests[count - 1]

    def wait_cut_off(self):
        assert self.gone.wait(10), "the broker has not cut the relay off"


def failing(reason, text):
    return lambda relay, request: relay.fail(request, reason, text)
