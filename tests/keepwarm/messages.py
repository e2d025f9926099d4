"""The local messages, spoken by tests that play a hostile process or one that says nothing.

The table is read from lib/msg_table.h, so there is no second copy of it. Nothing here refuses to build
nonsense: wrong versions, roles and numbers of descriptors are what the tests are about.
"""
import array
import os
import re
import signal
import socket
import struct

from keepwarm.system import ROOT

VERSION = int(re.search(r"#define MSG_VERSION (\d+)", (ROOT / "lib" / "msg.h").read_text())[1])
MSG_MAX = 12800
DEADLINE = 20.0
NUMBERS = {"U32": "=I", "U64": "=Q"}

# enum msg_outcome, enum msg_refusal, enum msg_job and enum msg_done of lib/msg.h
ACCEPTED, REFUSED, FAILED, STALE, LIMIT = range(1, 6)
(REFUSAL_UNAVAILABLE, REFUSAL_UNKNOWN, REFUSAL_LIMIT, REFUSAL_ATTEMPTS, REFUSAL_SHUTDOWN, REFUSAL_PASSWORD, REFUSAL_ADDRESS,
 REFUSAL_SECRET, REFUSAL_ROOM) = range(1, 10)
JOB_LOGOUT, JOB_LOGIN = 1, 2
DONE_WELL, DONE_BADLY, DONE_REFUSED = 1, 2, 3


def read_table():
    """{name: (number, [(type, field), ...])}"""
    text = (ROOT / "lib" / "msg_table.h").read_text()
    fields = {}
    for name, body in re.findall(r"#define (MSG_\w+_FIELDS)\(.*?\) \\\n((?:.*\\\n)*.*\n)", text):
        fields[name] = re.findall(r"(U32|U64|TEXT)\(N, (\w+)", body)
    rows = re.findall(r"^\tMSG\((\w+),\s*(\d+),.*?, (MSG_\w+_FIELDS)\)", text, re.M)
    return {name: (int(number), fields[list_name]) for name, number, list_name in rows}


TABLE = read_table()
NAMES = {number: name for name, (number, _) in TABLE.items()}


def encode(name, /, serial=0, msg_version=VERSION, **values):
    """One datagram; fields that are not given are 0 or empty."""
    number, fields = TABLE[name]
    data = struct.pack("=BBHI", msg_version, number, 0, serial)
    for kind, field in fields:
        if kind in NUMBERS:
            data += struct.pack(NUMBERS[kind], values.pop(field, 0))
        else:
            text = values.pop(field, b"")
            text = text.encode() if isinstance(text, str) else text
            data += struct.pack("=H", len(text)) + text
    assert not values, f"{name} has no {list(values)}"
    return data


class Message:
    """One decoded message: name, serial, its fields as attributes, and `sock` if a descriptor came with it."""

    def __init__(self, data, fds):
        _, number, _, self.serial = struct.unpack_from("=BBHI", data)
        self.name, at = NAMES[number], 8
        for kind, field in TABLE[self.name][1]:
            if kind in NUMBERS:
                (value,) = struct.unpack_from(NUMBERS[kind], data, at)
                at += struct.calcsize(NUMBERS[kind])
            else:
                (length,) = struct.unpack_from("=H", data, at)
                value, at = data[at + 2:at + 2 + length], at + 2 + length
            setattr(self, "sni" if field == "name" else field, value)  # `name` is the message's
        self.sock = socket.socket(fileno=fds[0]) if fds else None

    def __repr__(self):
        return f"Message({vars(self)})"


class Peer:
    """A connection to one of the broker's sockets: `session`, `listener` or `lookup`; or what `sock` is connected to."""

    def __init__(self, system=None, role="session", sock=None):
        self.serial = 0
        self.door = None  # the broker's own, which it gives to a session before WELCOME
        self.sock = sock or socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(DEADLINE)
        if not sock:
            self.sock.connect(str(system.run_directory / role))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()
        if self.door:
            self.door.close()

    def send_bytes(self, data, fds=()):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([data], rights)

    def push(self, name, /, fds=(), **values):
        self.send_bytes(encode(name, **values), fds)

    def receive(self):
        data, fds, _, _ = socket.recv_fds(self.sock, MSG_MAX, 2)
        assert data, "the broker has cut us off"
        message = Message(data, fds)
        if message.name != "DOOR":
            return message
        self.door = message.sock
        return self.receive()

    def request(self, name, /, **values):
        """Sends a request and returns its reply."""
        self.serial += 1
        self.push(name, serial=self.serial, **values)
        reply = self.receive()
        assert reply.serial == self.serial, reply
        return reply

    def expect_cut_off(self, deadline=DEADLINE):
        """The broker closes this connection and says nothing more."""
        self.sock.settimeout(deadline)
        try:
            data = self.sock.recv(MSG_MAX)
        except ConnectionResetError:
            data = b""
        except TimeoutError:
            raise AssertionError("the broker has not cut us off") from None
        assert data == b"", f"instead of being cut off we got {Message(data, [])}"

    # --- what sessions say ----------------------------------------------------------------------------
    def hello(self, **values):
        reply = self.request("HELLO", **{"service": 1, "client": "192.0.2.1", "local": "192.0.2.2", **values})
        assert reply.name == "WELCOME", reply
        return self

    def ask_lease(self, user="mallory", password=None):
        password = f"pw-{user}" if password is None else password
        return self.request("LEASE", proof_kind=1, user=user, secret=password)

    def lease(self, **values):
        reply = self.ask_lease(**values)
        assert reply.name == "LEASED", reply
        return reply

    def outcome(self, outcome):
        self.push("OUTCOME", outcome=outcome)


def session(system):
    """A peer that has said HELLO, as a session's process does."""
    return Peer(system).hello()


class Door:
    """A door of our own: we play the listener and all its children. (The kernel says that each knock is this
    process's.)"""

    def __init__(self, system, places=""):
        self.listener = Peer(system, "listener")
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.push("LISTENER", fds=[theirs.fileno()], sockets=1, places=places)
        theirs.close()
        welcome, pool = self.listener.receive(), self.listener.receive()
        assert (welcome.name, pool.name) == ("WELCOME", "POOL")
        self.settings = welcome.settings
        self.children = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.sock.close()
        self.listener.sock.close()

    def knock(self, **values):
        """A peer whose other end has been put through the door."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        said = {"service": 1, "client": "192.0.2.1", "local": "192.0.2.2", "settings": self.settings, **values}
        socket.send_fds(self.sock, [encode("KNOCK", **said)], [theirs.fileno()])
        theirs.close()
        return Peer(sock=ours)

    def knock_in_a_process(self, **values):
        """The same by a process of its own, which then does nothing more."""
        pid = os.fork()
        if pid == 0:
            try:
                peer = self.knock(**values)
                while peer:
                    signal.pause()
            finally:
                os._exit(1)
        self.children.append(pid)

    def ask_in_a_process(self, *acts):
        """A process of its own, younger than the broker, does one thing after the other: what they returned, small
        numbers."""
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                for act in acts:
                    os.write(theirs, bytes([act()]))
            finally:
                os._exit(1)
        os.close(theirs)
        self.children.append(pid)
        with open(ours, "rb") as pipe:
            answers = list(pipe.read())
        assert len(answers) == len(acts), f"{len(answers)} of {len(acts)} went well"
        return answers
