"""What scripted mail hosts share, whatever they speak: connections in threads, every byte recorded."""
import contextlib
import socket
import struct
import threading

CLOSE = "close"  # instead of an answer: closes the connection
SILENCE = "silence"  # instead of an answer: nothing, for ever
PATIENCE = 60  # no thread outlives this, whatever the test forgot


class Gone(Exception):
    """The connection has ended."""


class Login:
    def __init__(self, conn, user, password, how):
        self.conn, self.user, self.password, self.how = conn, user, password, how


def connections_of(listener):
    """Each one that is made, until nobody listens any more."""
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        yield sock


def end_listening(listener):
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


class Connection(threading.Thread):
    """`user` is None until a login succeeded. A protocol has read_command() and serve(); its host has tls and greeting, and
    lists of its connections: accepted, and those on which anything was said."""

    def __init__(self, host, sock):
        super().__init__(daemon=True)
        self.host, self.sock = host, sock
        self.received, self.buffer = bytearray(), b""
        self.user = None
        self.closed = threading.Event()

    @classmethod
    def begin(cls, host, sock):
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn = cls(host, sock)
        host.accepted.append(conn)
        conn.start()

    # --- what tests do with it ----------------------------------------------------------------------
    def push(self, data):
        """Sends stray bytes."""
        self.sock.sendall(data)

    def drop(self):
        """Closes the connection from the server's side."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def reset(self):
        """The same with RST, which throws away what is on its way."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.drop()

    # --- serving ------------------------------------------------------------------------------------
    def run(self):
        try:
            self.sock.settimeout(PATIENCE)
            self.before_greeting()
            self.answer(self.host.greeting)
            while True:
                self.serve(self.read_command())
        except (Gone, OSError):
            pass
        finally:
            self.sock.close()
            self.closed.set()

    def before_greeting(self):
        if self.host.tls:
            self.sock = self.host.tls.wrap_socket(self.sock, server_side=True)

    def send(self, data):
        self.sock.sendall(data)

    def answer(self, what):
        """Sends bytes, or does what CLOSE and SILENCE say, or calls a function with this connection."""
        if callable(what):
            return what(self)
        if what == CLOSE:
            raise Gone
        if what == SILENCE:
            while True:
                self.fill()
        return self.send(what)

    def fill(self):
        data = self.sock.recv(65536)
        if not data:
            raise Gone
        if not self.received:
            self.host.connections.append(self)
        self.received += data
        self.buffer += data
