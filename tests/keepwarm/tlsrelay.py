"""tlsrelayd alone: the test is its broker, its clients and its mail hosts."""
import contextlib
import fcntl
import os
import signal
import socket
import ssl
import struct
import subprocess
import termios
import threading

from keepwarm import messages
from keepwarm.handover import LET_GO
from keepwarm.process import START_DEADLINE, alive, children, read_proc, socket_inodes, start, wait_until
from keepwarm.system import BUILD

DEADLINE = 15.0
# enum msg_tls_failure, enum tls_mode
UNAVAILABLE, HANDSHAKE, CERTIFICATE, REFUSED, INJECTED, TIMEOUT, LOST, UNWATCHED = range(1, 9)
STARTTLS, IMPLICIT = 1, 2


def tcp_pair():
    """A connected pair over loopback: (ours, what is handed over)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    for sock in (ours, theirs):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(DEADLINE)
    return ours, theirs


class Relay:
    """A tlsrelayd with this configuration; `broker` is the connection that it has made to us."""

    def __init__(self, directory, files=None, program="tlsrelayd", **keys):
        self.directory, self.program = directory, program
        self.run_directory = directory / "run"
        self.run_directory.mkdir(mode=0o700)
        self.config, self.keys = directory / "imapproxy.conf", {}
        self.log_path = directory / "log"
        self.broker = self.process = None
        self.popen = {}  # more arguments for its start
        self.serial = 0
        self.pushed = []  # messages that answer nothing
        self.answers = {}
        self.begun = {}  # {serial: the stream}, of those that were not let go yet
        self.listen()
        self.write(**keys)
        self.files = files
        self.archive = None

    # --- the broker's side --------------------------------------------------------------------------
    def listen(self):
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = self.run_directory / "tls"
        path.unlink(missing_ok=True)
        self.server.bind(str(path))
        os.chmod(path, 0o666)
        self.server.listen(8)
        self.server.settimeout(START_DEADLINE)

    def meet(self):
        """Takes its connection. Returns RELAY."""
        sock, _ = self.server.accept()
        self.broker = messages.Peer(sock=sock)
        hello = self.broker.receive()
        assert hello.name == "RELAY", hello
        return hello

    def restart_broker(self):
        self.server.close()
        self.broker.sock.close()
        self.listen()
        return self.meet()

    def request(self, name, tcp, hold=False, **values):
        """Hands the connection over, and lets it go if a worker has it; returns the serial. `hold`: the stream stays in
        `begun`, and the worker waits."""
        self.serial += 1
        serial = self.serial
        self.broker.push(name, fds=[tcp.fileno()], serial=serial, **values)
        tcp.close()
        if name == "TLS_ACCEPT" and not hold:
            with self.wait_begun(serial) or contextlib.nullcontext() as stream:
                if stream:
                    with contextlib.suppress(BrokenPipeError):  # the worker could not take it
                        stream.send(LET_GO)
        return serial

    def take_message(self):
        message = self.broker.receive()
        if message.name == "TLS_BEGUN":
            self.begun[message.serial] = message.sock
        elif message.serial:
            self.answers[message.serial] = message
        else:
            self.pushed.append(message)

    def wait_begun(self, serial):
        """The stream of a handshake that begins; None: the answer came instead."""
        while serial not in self.begun and serial not in self.answers:
            self.take_message()
        return self.begun.pop(serial, None)

    def answer(self, serial):
        """The answer to this request; others and pushes are kept."""
        while serial not in self.answers:
            self.take_message()
        return self.answers.pop(serial)

    def wait_pushed(self, name, good=lambda _: True):
        """The next message of this name that is no answer."""
        while True:
            for message in self.pushed:
                if message.name == name and good(message):
                    self.pushed.remove(message)
                    return message
            self.take_message()

    # --- the process ----------------------------------------------------------------------------------
    def write(self, **keys):
        self.keys.update({"server_hostname": "mail.test", **keys})
        self.config.write_text("".join(f"{key} {value}\n" for key, value in self.keys.items() if value is not None))

    def write_archive(self, files):
        data = b"".join(struct.pack("=II", len(path.encode()), len(body)) + path.encode() + body
                        for path, body in files.items())
        os.ftruncate(self.archive, 0)
        os.pwrite(self.archive, data, 0)

    def launch(self):
        popen = dict(self.popen)
        argv = [BUILD / self.program, "-f", self.config, "-r", self.run_directory, "-l", "file"]
        env = dict(os.environ)
        if self.files is not None:
            self.archive = os.memfd_create("archive")
            self.write_archive(self.files)
            number = self.archive
            # LISTEN_PID must be the pid that tlsrelayd has
            argv = ["bash", "-c", f'exec 3<&{number}; export LISTEN_PID=$$; exec "$@"', "bash", *map(str, argv)]
            env.update(LISTEN_FDS="1", LISTEN_FDNAMES="tls-files")
            popen["pass_fds"] = [number]
        with open(self.log_path, "ab") as log:
            self.process = start(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, **popen)
        return self

    def __enter__(self):
        self.launch()
        self.hello = self.meet()
        return self

    def __exit__(self, *_):
        workers = self.workers()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(DEADLINE)
        finally:
            for pid in [self.process.pid, *workers]:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
        self.server.close()
        if self.broker:
            self.broker.sock.close()
        if self.archive is not None:
            os.close(self.archive)

    def workers(self):
        return children(self.process.pid) if self.process else []

    def connections(self):
        """How many TCP connections the workers hold."""
        held = read_proc("net", "tcp").decode()
        return sum(f" {inode} " in held for pid in self.workers() for inode in socket_inodes(pid))

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_log(self, text):
        wait_until(lambda: text in self.log(), lambda: f"{text!r} in the log: {self.log()}")

    def reload(self, **keys):
        before = self.log().count("was read again")
        self.write(**keys)
        os.kill(self.process.pid, signal.SIGHUP)
        wait_until(lambda: self.log().count("was read again") > before, lambda: f"not read again: {self.log()}")

    def reload_refused(self, text):
        """The same with files that are no good; the log says so."""
        os.kill(self.process.pid, signal.SIGHUP)
        self.wait_log("going on with the settings of before")
        assert text in self.log(), self.log()

    # --- clients and mail hosts -------------------------------------------------------------------------
    def accept(self, context, name="mail.test", session=None, by_hand=False):
        """A TLS client: (its SSLSocket, or ByHand; TLS_READY; the plain end)."""
        ours, theirs = tcp_pair()
        serial = self.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.7")
        if by_hand:
            client = ByHand(ours, context, name)
        else:
            client = context.wrap_socket(ours, server_hostname=name, session=session)
        reply = self.answer(serial)
        assert reply.name == "TLS_READY", reply
        return client, reply, plain_end(reply)

    def accept_refused(self, context, name="mail.test"):
        """The same that must fail: TLS_FAILED and what the client got."""
        ours, theirs = tcp_pair()
        serial = self.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.7")
        try:
            with context.wrap_socket(ours, server_hostname=name):
                error = None
        except OSError as problem:
            error = problem
        finally:
            ours.close()
        reply = self.answer(serial)
        assert reply.name == "TLS_FAILED", reply
        return reply, error

    def dial(self, host, serve, mode=IMPLICIT, port=993):
        """A mail host, which `serve` plays with its end of the connection in a thread. Returns the answer."""
        ours, theirs = tcp_pair()
        thread = threading.Thread(target=serve, args=(ours,), daemon=True)
        thread.start()
        try:
            serial = self.request("TLS_CONNECT", theirs, mode=mode, service=1, port=port, host=host)
            return self.answer(serial)
        finally:
            thread.join(DEADLINE)
            assert not thread.is_alive(), "the mail host hangs"


class ByHand:
    """A TLS client that can end one direction, or leave without a word."""

    def __init__(self, sock, context, name="mail.test", server_side=False):
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=server_side,
                                    server_hostname=None if server_side else name)
        self.fin_seen = False
        self.do(self.tls.do_handshake)

    def flush(self):
        data = self.outgoing.read()
        if data:
            self.sock.sendall(data)

    def do(self, act, *args):
        while True:
            try:
                result = act(*args)
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                data = self.sock.recv(65536)
                if data:
                    self.incoming.write(data)
                else:
                    self.fin_seen = True
                    self.incoming.write_eof()

    def sendall(self, data):
        self.do(self.tls.write, data)

    def read(self, n=65536):
        """b"" is close_notify; an end without it raises ssl.SSLError."""
        try:
            return self.do(self.tls.read, n)
        except ssl.SSLZeroReturnError:
            return b""

    def read_to_end(self):
        data = b""
        while piece := self.read():
            data += piece
        return data

    def say_end(self):
        """close_notify, and nothing else."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:  # it would like to read the other side's
            pass
        self.flush()

    def close(self):
        self.sock.close()


def plain_end(reply):
    reply.sock.setblocking(True)
    reply.sock.settimeout(DEADLINE)
    return reply.sock


class Host:
    """A mail host's TLS side: call it with a socket; `tls` is the connection, `error` what the handshake met."""

    def __init__(self, context, before=None):
        self.context, self.before = context, before
        self.tls = self.error = None

    def __call__(self, sock):
        try:
            if self.before:
                self.before(sock)
            self.tls = self.context.wrap_socket(sock, server_side=True)
        except OSError as error:
            self.error = error
            sock.close()


def server_context(certificate, least=None, most=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.path, certificate.key_path)
    if least:
        context.minimum_version = least
    if most:
        context.maximum_version = most
    return context


def client_context(authority=None, most=None, least=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority:
        context.load_verify_locations(authority.path)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if most:
        context.maximum_version = most
    if least:
        context.minimum_version = least
    return context


def serving(tmp_path, mail, **keys):
    return Relay(tmp_path, tls_server_cert_file=mail.path, tls_server_key_file=mail.key_path, **keys)


def dialling(tmp_path, authority, **keys):
    return Relay(tmp_path, **{"server_tls": "implicit", "tls_ca_file": authority.path, **keys})


def start_fails(tmp_path, **keys):
    """A start that must end with status 1. Returns the log."""
    relay = Relay(tmp_path, **keys)
    relay.launch()
    assert relay.process.wait(DEADLINE) == 1
    relay.server.close()
    return relay.log()


def read_to_end(sock):
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


def open_to(relay, mail, host="mail.test"):
    """A connection to a mail host that is open: (the mail host's TLS side, TLS_READY, our plain end)."""
    played = Host(server_context(mail))
    ready = relay.dial(host, played)
    assert ready.name == "TLS_READY", ready
    return played.tls, ready, plain_end(ready)


def read_exactly(sock, n):
    data = b""
    while len(data) < n:
        piece = sock.recv(n - len(data))
        assert piece, f"ended after {len(data)} of {n}"
        data += piece
    return data


def not_taken(sock):
    """How many bytes of what was written has the other side's kernel (TCP) or program (Unix) not got?"""
    return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]


def readable(sock):
    """How many bytes wait to be read from the socket itself."""
    return struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]


def read_fails(tls):
    try:
        return tls.recv(1) == b""
    except OSError:
        return True
