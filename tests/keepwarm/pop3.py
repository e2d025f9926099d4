"""POP3: a scripted mail host in threads, and a client that sees every byte.

The mail host is believable by default and odd where a test turns a knob. Every connection is recorded: what it
received, who logged in and how. The password of user X is `pw-X` unless passwords says otherwise; each maildrop holds
messages that name their owner.
"""
import base64
import socket
import threading

from keepwarm.mailhost import CLOSE, SILENCE, Connection, Gone, Login, connections_of, end_listening  # noqa: F401
from keepwarm.process import DEADLINE

CAPA = ["TOP", "UIDL", "USER", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "SASL PLAIN XOAUTH2 OAUTHBEARER",
        "X-HOST"]


class Conn(Connection):
    """One connection. `ended_by` says how it ended: quit or eof."""

    def __init__(self, host, sock):
        super().__init__(host, sock)
        self.lines, self.deleted = [], set()
        self.said = self.ended_by = None

    def fill(self):
        try:
            super().fill()
        except Gone:
            self.ended_by = self.ended_by or "eof"
            raise

    def read_line(self):
        while b"\n" not in self.buffer:
            self.fill()
        line, _, self.buffer = self.buffer.partition(b"\n")
        assert line.endswith(b"\r"), line
        return line[:-1]

    read_command = read_line

    def serve(self, line):
        self.lines.append(line)
        verb, _, args = line.partition(b" ")
        verb = verb.decode("latin-1").upper()
        if verb in self.host.answers:
            return self.answer(self.host.answers[verb])
        handler = getattr(self, ("guest_" if self.user is None else "user_") + verb.lower(), None)
        if handler is None:
            return self.answer(b"-ERR Unknown command, says the host\r\n")
        return handler(args)

    # --- before login -----------------------------------------------------------------------------------
    def guest_capa(self, _):
        self.answer(b"+OK My list\r\n" + "".join(f"{word}\r\n" for word in self.host.capa).encode() + b".\r\n")

    def guest_stls(self, _):
        if not self.host.stls:
            return self.answer(b"-ERR No TLS here\r\n")
        self.answer(b"+OK Begin, says the host\r\n")
        self.sock = self.host.stls.wrap_socket(self.sock, server_side=True)
        return None

    def guest_user(self, args):
        self.said = args
        self.answer(b"+OK Send PASS, says the host\r\n")

    def guest_pass(self, args):
        if self.said is None:
            return self.answer(b"-ERR USER first\r\n")
        return self.judge(self.said, args, "USER")

    def guest_auth(self, args):
        mechanism, _, initial = args.decode().partition(" ")
        if not initial:
            self.answer(b"+ \r\n")
        message = base64.b64decode(initial or self.read_line())
        if mechanism == "PLAIN":
            authzid, user, password = message.split(b"\0")
            return self.judge(authzid or user, password, "PLAIN")
        user = message.split(b"user=" if mechanism == "XOAUTH2" else b"a=")[1].split(b"\1")[0].rstrip(b",")
        token = message.split(b"auth=Bearer ")[1].split(b"\1")[0]
        if token != b"good" and self.host.report:
            self.answer(b"+ " + base64.b64encode(self.host.report) + b"\r\n")
            self.lines.append(self.read_line())
        return self.judge(user, token, mechanism)

    def judge(self, user, password, how):
        name = user.decode("latin-1")
        self.host.logins.append(Login(self, name, password, how))
        right = password == (b"good" if how in ("XOAUTH2", "OAUTHBEARER") else
                             self.host.passwords.get(name, f"pw-{name}").encode("latin-1"))
        if not right:
            self.said = None
            return self.answer(self.host.refusal)
        self.user = name
        return self.answer(b"+OK Welcome, says the host\r\n")

    # --- after login --------------------------------------------------------------------------------------
    def messages(self):
        return self.host.maildrops.setdefault(self.user, [f"Subject: one\r\n\r\nThe mail of <{self.user}>.\r\n".encode()])

    def user_stat(self, _):
        self.answer(b"+OK %d %d\r\n" % (len(self.messages()), sum(map(len, self.messages()))))

    def user_noop(self, _):
        self.answer(b"+OK Noop, says the host\r\n")

    user_capa = guest_capa

    def user_retr(self, args):
        self.answer(b"+OK Here\r\n" + self.messages()[int(args) - 1] + b".\r\n")

    def user_dele(self, args):
        self.deleted.add(int(args) - 1)
        self.answer(b"+OK Marked\r\n")

    def user_quit(self, _):
        self.host.maildrops[self.user] = [text for n, text in enumerate(self.messages()) if n not in self.deleted]
        self.ended_by = "quit"
        try:
            self.answer(b"+OK Gone, says the host\r\n")
        finally:
            raise Gone

    def guest_quit(self, _):
        self.answer(b"+OK\r\n")
        raise Gone


class Host:
    """The mail host. Knobs: see __init__."""

    def __init__(self, **knobs):
        self.greeting = b"+OK Host ready <secret-of-the-host@example.test>\r\n"
        self.capa = CAPA
        self.refusal = b"-ERR [AUTH] Private words of the host\r\n"
        self.report = None  # why a token is refused
        self.answers = {}  # verb -> bytes, CLOSE, SILENCE or a function of the connection
        self.passwords, self.maildrops = {}, {}
        self.tls = self.stls = None  # ssl.SSLContext
        self.listener = None  # or a listening socket
        self.accepted, self.connections, self.logins = [], [], []
        for name, value in knobs.items():
            assert hasattr(self, name), name
            setattr(self, name, value)
        self.listener = self.listener or socket.create_server(("127.0.0.1", 0), backlog=128)
        if self.listener.family != socket.AF_UNIX:
            self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        for sock in connections_of(self.listener):
            Conn.begin(self, sock)

    def everything(self):
        return b"".join(bytes(conn.received) for conn in self.accepted)

    def stop(self):
        end_listening(self.listener)
        for conn in self.accepted:
            conn.drop()
            conn.closed.wait(DEADLINE)


class Client:
    """Says bytes, expects lines."""

    def __init__(self, port, sock=None, greet=True):
        self.sock = sock or socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.file = self.sock.makefile("rb")
        self.greeting = self.line() if greet else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.file.close()
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def line(self):
        line = self.file.readline()
        assert line == b"" or line.endswith(b"\r\n"), line
        return line

    def say(self, text):
        """Sends a line, returns the answer's first one."""
        self.send((text if isinstance(text, bytes) else text.encode("latin-1")) + b"\r\n")
        return self.line()

    def ok(self, text):
        line = self.say(text)
        assert line.startswith(b"+OK"), (text, line)
        return line

    def rest(self):
        """What is behind the first line, up to the line with a dot."""
        lines = []
        while (line := self.line()) != b".\r\n":
            assert line, lines
            lines.append(line)
        return b"".join(lines)

    def login(self, user="anna", password=None):
        self.ok(f"USER {user}")
        return self.say(f"PASS {password or 'pw-' + user}")

    def session(self, user="anna"):
        line = self.login(user)
        assert line.startswith(b"+OK"), line
        return self

    def expect_close(self):
        assert self.file.read() == b""
