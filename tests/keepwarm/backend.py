"""A scripted IMAP server in threads: believable by default, odd where a test turns a knob.

Every connection is recorded: every byte received, every command, who logged in and how. A connection on
which nothing was ever said (the broker's look whether the host is there) is in `accepted` only. The password of user X is `pw-X` unless backend.passwords says otherwise; tokens are those of backend.tokens.
"""
import base64
import contextlib
import re
import socket
import threading

from keepwarm import proxyheader
from keepwarm.mailhost import CLOSE, PATIENCE, SILENCE, Connection, Gone, Login, connections_of, end_listening  # noqa: F401
from keepwarm.process import tcp_queued, wait_until

BEFORE = "IMAP4rev1 LITERAL+ SASL-IR LOGIN-REFERRALS ID ENABLE IDLE AUTH=PLAIN AUTH=LOGIN"
AFTER = (
    "IMAP4rev1 LITERAL+ SASL-IR LOGIN-REFERRALS ID ENABLE IDLE UNSELECT NAMESPACE UIDPLUS CONDSTORE "
    "COMPRESS=DEFLATE NOTIFY STARTTLS LOGINDISABLED AUTH=PLAIN X-TEST"
)
REPORT = b'{"status":"invalid_token","schemes":"bearer","scope":"mail"}'  # why a token is refused (RFC 7628)


class Gate:
    """Holds the answer to a verb back: `reached` is set when a connection waits at it."""

    def __init__(self):
        self.reached = threading.Event()
        self.opened = threading.Event()

    def wait(self):
        assert self.reached.wait(10), "no connection reached the gate"

    def open(self):
        self.opened.set()


class Command:
    """One parsed command: tag, verb (upper case), arguments with strings decoded, the raw text."""

    def __init__(self, parts):
        first = parts[0].split(b" ", 2)
        self.tag = first[0]
        self.verb = first[1].decode("latin-1").upper() if len(first) > 1 else ""
        self.raw = b" ".join(first[1:])
        self.args = []
        text = first[2] if len(first) > 2 else b""
        for number, part in enumerate([text] + parts[1:]):
            if number % 2:
                self.args.append(part)
            else:
                self.args += [atom or re.sub(rb"\\(.)", rb"\1", quoted)
                              for quoted, atom in re.findall(rb'"((?:[^"\\]|\\.)*)"|([^ "]+)', part)]


class Conn(Connection):
    """One connection."""

    def __init__(self, backend, sock):
        super().__init__(backend, sock)
        self.backend = backend
        self.commands = []
        self.announced = None  # client, port, local, local_port of its PROXY header
        self.selected = None
        self.enabled = set()
        self.answers = []  # to reports why a token is refused

    def verbs(self):
        return [command.verb for command in self.commands]

    # --- serving ------------------------------------------------------------------------------------
    def before_greeting(self):
        if self.backend.proxied:
            self.announced = proxyheader.take(self.sock)
        super().before_greeting()
        if self.backend.tls:
            self.backend.handshakes.append(self.sock.session_reused)

    def read_line(self):
        while b"\r\n" not in self.buffer:
            self.fill()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def read_exactly(self, count):
        while len(self.buffer) < count:
            self.fill()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def read_command(self):
        parts = []
        line = self.read_line()
        while match := re.search(rb"~?\{(\d+)(\+?)\}\Z", line):
            if not match[2]:
                self.send(self.backend.before_continuation + b"+ OK\r\n")
            parts += [line[: match.start()], self.read_exactly(int(match[1]))]
            line = self.read_line()
        return Command(parts + [line])

    def serve(self, command):
        self.commands.append(command)
        gate = self.backend.gates.get(command.verb)
        if gate:
            gate.reached.set()
            gate.opened.wait(PATIENCE)
        if command.verb in self.backend.answers:
            answer = self.backend.answers[command.verb]
            return self.answer(answer.replace(b"TAG", command.tag) if isinstance(answer, bytes) else answer)
        anywhere = getattr(self, "any_" + command.verb.lower(), None)
        state = "user_" if self.user is not None else "guest_"
        handler = anywhere or getattr(self, state + command.verb.lower(), None)
        if handler is None:
            return self.done(command, b"BAD Unknown command " + command.verb.encode("latin-1"))
        return handler(command)

    def done(self, command, text):
        self.send(command.tag + b" " + text + b"\r\n")

    # --- any state ----------------------------------------------------------------------------------
    def any_capability(self, command):
        words = self.backend.after if self.user is not None else self.backend.before
        self.send(b"* CAPABILITY " + words.encode() + b"\r\n")
        self.done(command, b"OK Capabilities, says the backend")

    def any_noop(self, command):
        self.done(command, b"OK Noop, says the backend")

    def any_id(self, command):
        self.send(b'* ID ("name" "scripted")\r\n')
        self.done(command, b"OK Id, says the backend")

    def any_logout(self, command):
        self.send(b"* BYE Logging out, says the backend\r\n")
        self.done(command, b"OK Logout, says the backend")
        raise Gone

    # --- before login -------------------------------------------------------------------------------
    def guest_starttls(self, command):
        if not self.backend.starttls:
            return self.done(command, b"BAD No TLS here")
        self.done(command, b"OK Begin, says the backend")
        self.sock = self.backend.starttls.wrap_socket(self.sock, server_side=True)
        return self.backend.handshakes.append(self.sock.session_reused)

    def guest_login(self, command):
        words = self.backend.before.split()
        if "LOGINDISABLED" in words:
            return self.done(command, b"NO [PRIVACYREQUIRED] No clear text")
        if len(command.args) != 2:
            return self.done(command, b"BAD Two arguments expected")
        return self.judge(command, command.args[0], command.args[1], "LOGIN")

    def guest_authenticate(self, command):
        mechanism = command.args[0].decode().upper() if command.args else ""
        if f"AUTH={mechanism}" not in self.backend.before.split():
            return self.done(command, b"NO Unsupported mechanism")
        initial = command.args[1] if len(command.args) > 1 else None
        if initial is not None and "SASL-IR" not in self.backend.before.split():
            return self.done(command, b"BAD No initial response, please")
        return getattr(self, "sasl_" + mechanism.lower())(command, initial)

    def ask(self, challenge):
        self.send(b"+ " + base64.b64encode(challenge) + b"\r\n")
        return self.read_line()

    def sasl_plain(self, command, initial):
        response = initial if initial is not None else self.ask(b"")
        authzid, user, password = base64.b64decode(response).split(b"\0")
        how = "PLAIN with initial response" if initial is not None else "PLAIN"
        return self.judge(command, authzid or user, password, how)

    def sasl_login(self, command, initial):
        user = base64.b64decode(initial if initial is not None else self.ask(b"Username:"))
        return self.judge(command, user, base64.b64decode(self.ask(b"Password:")), "AUTH LOGIN")

    def sasl_xoauth2(self, command, initial):
        response = base64.b64decode(initial if initial is not None else self.ask(b""))
        user, auth, *end = response.split(b"\1")
        assert user.startswith(b"user=") and auth.startswith(b"auth=Bearer ") and end == [b"", b""], response
        return self.judge_token(command, user[5:], auth[12:], "XOAUTH2", initial, b"")

    def sasl_oauthbearer(self, command, initial):
        response = base64.b64decode(initial if initial is not None else self.ask(b""))
        header, auth, *end = response.split(b"\1")
        assert header.startswith(b"n,a=") and header.endswith(b","), response
        assert auth.startswith(b"auth=Bearer ") and end == [b"", b""], response
        user = header[4:-1].replace(b"=2C", b",").replace(b"=3D", b"=")
        return self.judge_token(command, user, auth[12:], "OAUTHBEARER", initial, b"AQ==")

    def judge_token(self, command, user, token, mechanism, initial, answer):
        """A refusal begins with a report, whose answer must be the one that the mechanism has."""
        right = token in self.backend.tokens.get(user.decode("latin-1"), ())
        if not right and self.backend.report is not None:
            self.send(self.backend.report)
            self.answers.append(self.read_line())
            assert self.answers[-1] == answer, self.answers
        how = mechanism + (" with initial response" if initial is not None else "")
        return self.judge(command, user, token, how)

    def judge(self, command, user, password, how):
        login = Login(self, user.decode("latin-1"), password, how)
        self.backend.logins.append(login)
        verdict = self.backend.verdict(login.user, password)
        if verdict is not True:
            return self.answer(verdict.replace(b"TAG", command.tag) if isinstance(verdict, bytes) else verdict)
        self.user = login.user
        code = b"[CAPABILITY " + self.backend.after.encode() + b"] " if self.backend.code_at_login else b""
        return self.done(command, b"OK " + code + b"Welcome, says the backend")

    # --- after login --------------------------------------------------------------------------------
    def mailbox(self, name):
        """The list of messages of a mailbox, or None."""
        box = self.backend.mailboxes.setdefault(self.user, {})
        if name.upper() == b"INBOX":
            return box.setdefault(b"INBOX", [self.backend.marker(self.user)])
        return box.get(name)

    def user_select(self, command):
        messages = self.mailbox(command.args[0])
        self.selected = None
        if messages is None:
            return self.done(command, b"NO [NONEXISTENT] No such mailbox")
        self.selected = command.args[0]
        self.send(b"* FLAGS (\\Seen)\r\n* %d EXISTS\r\n* 0 RECENT\r\n" % len(messages))
        return self.done(command, b"OK [READ-WRITE] Selected, says the backend")

    user_examine = user_select

    def user_unselect(self, command):
        if self.selected is None or "UNSELECT" not in self.backend.after.split():
            return self.done(command, b"BAD No mailbox selected")
        self.selected = None
        return self.done(command, b"OK Unselected, says the backend")

    user_close = user_unselect

    def user_fetch(self, command):
        if self.selected is None:
            return self.done(command, b"BAD No mailbox selected")
        messages = self.mailbox(self.selected)
        for number, text in enumerate(messages, 1):
            self.send(b"* %d FETCH (UID %d BODY[] {%d}\r\n%s)\r\n" % (number, number, len(text), text))
        return self.done(command, b"OK Fetched, says the backend")

    user_uid = user_fetch

    def user_append(self, command):
        messages = self.mailbox(command.args[0])
        if messages is None:
            return self.done(command, b"NO [TRYCREATE] No such mailbox")
        messages.append(command.args[-1])
        return self.done(command, b"OK Appended, says the backend")

    def user_create(self, command):
        self.backend.mailboxes.setdefault(self.user, {})[command.args[0]] = []
        return self.done(command, b"OK Created, says the backend")

    def user_list(self, command):
        self.send(b'* LIST () "/" INBOX\r\n')
        return self.done(command, b"OK Listed, says the backend")

    def user_status(self, command):
        self.send(b"* STATUS INBOX (MESSAGES %d)\r\n" % len(self.mailbox(command.args[0])))
        return self.done(command, b"OK Status, says the backend")

    def user_namespace(self, command):
        self.send(b'* NAMESPACE (("" "/")) NIL NIL\r\n')
        return self.done(command, b"OK Namespace, says the backend")

    def user_enable(self, command):
        self.enabled |= set(command.args)
        self.send(b"* ENABLED " + b" ".join(command.args) + b"\r\n")
        return self.done(command, b"OK Enabled, says the backend")

    def user_notify(self, command):
        return self.done(command, b"OK Notify, says the backend")

    def user_xunknown(self, command):
        return self.done(command, b"OK Whatever this is, says the backend")

    user_compress = user_notify

    def user_idle(self, command):
        self.send(b"+ idling\r\n")
        line = self.read_line()
        text = b"OK Idle ended, says the backend" if line.upper() == b"DONE" else b"BAD Expected DONE"
        return self.done(command, text)


class Backend:
    def __init__(self, **knobs):
        self.greeting = b"* OK [CAPABILITY " + BEFORE.encode() + b"] backend ready\r\n"
        self.before = BEFORE
        self.after = AFTER
        self.code_at_login = True
        self.before_continuation = b""
        self.refusal = b"TAG NO [AUTHENTICATIONFAILED] Private words of the backend\r\n"
        self.passwords = {}
        self.tokens = {}  # user -> tokens that are good
        self.report = b"+ " + base64.b64encode(REPORT) + b"\r\n"  # None: refuses a token without one
        self.gates = {}
        self.answers = {}  # verb -> bytes (TAG is replaced), CLOSE, SILENCE or a function of the connection
        self.proxied = False  # every connection begins with a PROXY header of version 2
        self.tls = None  # an ssl.SSLContext: every connection begins with TLS
        self.starttls = None  # the same, for STARTTLS
        self.handshakes = []  # of each whether it resumed a session
        self.accepted = []
        self.connections = []
        self.logins = []
        self.mailboxes = {}
        self.address = "127.0.0.1"
        self.port = None
        self.listener = None  # or a listening socket of any family
        self.accepting = threading.Event()
        self.accepting.set()
        self.holding = threading.Event()  # a connection is accepted and waits for `accepting`
        for name, value in knobs.items():
            assert hasattr(self, name), name
            setattr(self, name, value)
        if "before" in knobs and "greeting" not in knobs:
            self.greeting = b"* OK [CAPABILITY " + self.before.encode() + b"] backend ready\r\n"
        self.listen()

    # --- the listening socket -----------------------------------------------------------------------
    def listen(self):
        """Starts to listen: at first on any port, later on the same one again."""
        if self.listener is None or self.listener.fileno() < 0:
            self.listener = socket.socket()
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind((self.address, self.port or 0))
            self.listener.listen(512)
        if self.listener.family != socket.AF_UNIX:
            self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        for sock in connections_of(listener):
            if not self.accepting.is_set():
                self.holding.set()
                self.accepting.wait(PATIENCE)
                # with a queue of one, two that come at once would be one too many: the kernel would forget the other
                with contextlib.suppress(OSError):
                    listener.listen(512)
            Conn.begin(self, sock)

    def deaf(self):
        """Stops listening: further connections are refused."""
        end_listening(self.listener)

    def fill_backlog(self):
        """From now on connects are neither accepted nor refused, until accept_again()."""
        self.accepting.clear()
        self.listener.listen(0)
        fillers = []

        def is_full():
            if self.holding.is_set() and tcp_queued(self.address, self.port):
                return True
            fillers.append(socket.socket())
            # Who finds the queue full waits for long; and what has filled it may be seen only when the next one waits.
            fillers[-1].settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                fillers[-1].connect((self.address, self.port))
            return False
        wait_until(is_full, "the queue is not full")
        for sock in fillers:
            sock.close()  # they stay in the queue

    def accept_again(self):
        """Connects are accepted. (With a queue of none Linux answers SYN by cookies, and whose ACK then finds the queue
        full is connected with nobody: so there is room first.)"""
        self.listener.listen(512)
        self.accepting.set()

    def stop(self):
        self.accepting.set()
        self.deaf()
        for gate in self.gates.values():
            gate.open()
        for conn in self.accepted:
            conn.drop()

    # --- what tests ask and set ---------------------------------------------------------------------
    def gate(self, verb):
        self.gates[verb] = Gate()
        return self.gates[verb]

    def ungate(self, verb):
        self.gates.pop(verb).open()

    def verdict(self, user, password):
        """True, or what to send instead of OK."""
        right = self.passwords.get(user, b"pw-" + user.encode("latin-1"))
        return True if password == right or password in self.tokens.get(user, ()) else self.refusal

    @staticmethod
    def marker(user):
        return b"Subject: marker\r\n\r\nThis is the mail of <" + user.encode("latin-1") + b">.\r\n"

    def open_connections(self):
        return [conn for conn in self.accepted if not conn.closed.is_set()]

    def everything(self):
        """Every byte that any connection received."""
        return b"".join(bytes(conn.received) for conn in self.connections)

    def wait_for(self, predicate, what):
        wait_until(predicate, lambda: f"{what}; the backend saw {[bytes(c.received) for c in self.connections]}")
