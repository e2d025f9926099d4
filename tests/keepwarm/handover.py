"""A broker that is a script, for one proxyd in the exec mode: what it is told, and the client's TCP connection when it is
handed over."""
import contextlib
import os
import queue
import shutil
import socket
import subprocess
import threading

from keepwarm import process
from keepwarm.imap import Client
from keepwarm.messages import Message, Peer
from keepwarm.system import BUILD, temp_folder

DEADLINE = 20.0
LET_GO = b"\n"  # lib/msg.h, TLS_LET_GO
NOBODY = 65534
SETTINGS = {
    "session": 7, "settings": 1, "uid": NOBODY, "gid": NOBODY, "login_timeout": 60, "login_attempts": 3,
    "max_errors": 10, "max_line_login": 8192, "idle_timeout": 1860, "backend_timeout": 30, "lease_timeout": 30,
    "caching": 1, "drain_bytes": 262144, "drain_time": 5, "log_facility": 16, "log_priority": 7, "starttls": 1,
    "auth_mechanisms": 3, "allow_addresses": "all", "deny_addresses": "none", "plaintext_addresses": "none",
}


class Handover:
    """proxyd between a client's TCP connection and this script. `settings` are WELCOME's, `options` proxyd's.
    `asked` is what came from it after HELLO; `refused`: HELLO is answered with this reason instead; `closed`: of its
    standard descriptors, those that are not there; `ulimit`: how many it may have, as sh's ulimit is told."""

    def __init__(self, *options, refused=None, closed=(), ulimit=None, **settings):
        self.folder = temp_folder()
        self.asked = queue.Queue()
        self.refused, self.settings = refused, {**SETTINGS, **settings}
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(self.folder / "session"))
        os.chmod(self.folder / "session", 0o666)
        self.listener.listen(1)
        self.listener.settimeout(process.START_DEADLINE)
        self.tcp, theirs = self.connect()
        self.log = open(self.folder / "log", "w+b")  # pylint: disable=consider-using-with
        self.proxyd = subprocess.Popen(  # pylint: disable=consider-using-with
            ["sh", "-c", " ".join([f"ulimit {ulimit};" if ulimit else "", "exec", '"$@"', *(f"{number}>&-" for number in closed)]), "sh",
             BUILD / "proxyd", "-r", self.folder, "-l", "stderr", *options], stdin=theirs, stdout=theirs,
            stderr=self.log, env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))
        self.server_port = theirs.getsockname()[1]
        theirs.close()
        self.door, self.knocks_at = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.door.settimeout(DEADLINE)
        self.be_broker(self.listener.accept()[0])

    @staticmethod
    def connect():
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname(), timeout=DEADLINE)
            return ours, server.accept()[0]

    def be_broker(self, sock):
        self.link = Peer(sock=sock)
        self.thread = threading.Thread(target=self.serve, args=(self.link,), daemon=True)
        self.thread.start()

    def serve(self, link):
        link.sock.settimeout(None)
        with contextlib.suppress(AssertionError, OSError):
            while True:
                message = link.receive()
                if message.name == "HELLO" and self.refused:
                    link.push("REFUSED", serial=message.serial, reason=self.refused)
                elif message.name == "HELLO":
                    link.push("DOOR", fds=[self.knocks_at.fileno()])
                    self.knocks_at.close()
                    link.push("WELCOME", serial=message.serial, **self.settings)
                else:
                    self.asked.put(message)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tcp.close()
        with contextlib.suppress(OSError):
            self.link.sock.shutdown(socket.SHUT_RDWR)
        if self.proxyd.poll() is None:
            self.proxyd.kill()
        self.proxyd.wait()
        self.thread.join(DEADLINE)
        for sock in (self.link.sock, self.listener, self.door, self.knocks_at):
            sock.close()
        text = self.log_text()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        assert "runtime error:" not in text and "AddressSanitizer" not in text, text

    # --- what the script does -----------------------------------------------------------------------
    def next(self):
        """What proxyd asks for next."""
        return self.asked.get(timeout=DEADLINE)

    def accept_tls(self):
        """The TLS_ACCEPT that comes next, its `sock` the client's TCP connection."""
        message = self.next()
        assert message.name == "TLS_ACCEPT", message
        return message

    def ready(self, asked, **values):
        """Answers it with a stream; returns our end."""
        ours = self.begun()
        facts = {"version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", **values}
        self.link.push("TLS_READY", fds=[ours.fileno()], serial=asked.serial, **facts)
        return ours

    def begun(self, let_go=True):
        """A stream for a handshake under way; returns our end, by default when proxyd has let its connection go."""
        ours, theirs = socket.socketpair()
        self.link.push("TLS_BEGUN", fds=[theirs.fileno()])
        theirs.close()
        ours.settimeout(DEADLINE)
        if let_go:
            assert ours.recv(1) == LET_GO
            assert not self.holds_tcp()
        return ours

    def failed(self, asked, **values):
        asked.sock.close()
        self.link.push("TLS_FAILED", serial=asked.serial, **values)

    def die(self):
        """The broker is killed, and nobody meets the next one."""
        self.door.close()
        self.link.sock.shutdown(socket.SHUT_RDWR)

    def be_next_broker(self):
        """The broker is killed, and the next one finds who knocks at its door."""
        self.link.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(DEADLINE)
        self.link.sock.close()
        data, fds, _, _ = socket.recv_fds(self.door, 12800, 1)
        knock = Message(data, fds)
        assert knock.name == "KNOCK", knock
        knock.sock.setblocking(True)
        self.be_broker(knock.sock)

    # --- looking at it ------------------------------------------------------------------------------
    def client(self, **kwargs):
        return Client(self.server_port, sock=self.tcp, **kwargs)

    def holds_tcp(self):
        """Has proxyd the client's TCP connection?"""
        inode = process.tcp_inode(self.server_port, self.tcp.getsockname()[1])
        return inode in process.socket_inodes(self.proxyd.pid)

    def log_text(self):
        return (self.folder / "log").read_text(errors="replace")

    def end(self):
        """Waits for proxyd's end: its last log line."""
        self.proxyd.wait(DEADLINE)
        return self.log_text().splitlines()[-1]

    # --- a session behind its login -----------------------------------------------------------------
    def lease(self, client, user=b"anna"):
        """The client logs in and gets a connection that was cached: a Unix socket, as of a TLS mail host. Returns the
        mail host's end."""
        client.send(b"a LOGIN " + user + b" pw-anna\r\n")
        asked = self.next()
        assert asked.name == "LEASE", asked
        ours, theirs = socket.socketpair()
        self.link.push("LEASED", fds=[theirs.fileno()], serial=asked.serial, session=7, cached=1, host="mail",
                       backend_user="anna", capabilities="IMAP4rev1 UNSELECT")
        theirs.close()
        ours.settimeout(DEADLINE)
        client.expect(rb"(\* .*\r\n)*a OK .*\r\n")
        return Client(0, sock=ours, greet=False)
