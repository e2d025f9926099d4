"""Random clients that abort at random byte positions, in front of a mail host that does the same.

`python3 -m keepwarm.chaos PORT SEED ABORTS SECONDS [TLS]` is one client process: it ends after so many aborts or seconds
(0: no matter) and prints one JSON object; it exits 1 at the first thing that is not as it must be. With TLS 1 it begins
with TLS. Every tag is
USER.SEED.NUMBER and never comes twice, and every line of the mail host carries the tag that asked for it: a
byte that strays from one session into another shows at either end.
"""
import contextlib
import json
import os
import random
import re
import socket
import ssl
import struct
import sys
import time

from keepwarm.backend import Backend, Conn
from keepwarm.imap import REUSE_LINE, b64
from keepwarm.mailhost import Gone, connections_of

USERS = [f"user{n}" for n in range(1, 21)]
LINGER = struct.pack("ii", 1, 0)
DEADLINE = 20.0
SAFE = {"LOGIN", "AUTHENTICATE", "CAPABILITY", "NOOP", "UNSELECT", "LOGOUT"}  # what the proxy says of its own accord
VERBS = {"NOOP", "STATUS", "FETCH", "APPEND", "IDLE", "SELECT", "UNSELECT"}


def body(user, tag, size):
    """A message that says whose it is at both ends, with lines in it that look like protocol."""
    mark = f"<{user} {tag}>".encode()
    filling = b"x1 LOGOUT\r\n* BYE no\r\n+ go\r\n{20}\r\n" * (size // 32 + 1)
    return mark + b"\r\n" + filling[:size] + b"\r\n" + mark


def half_close(sock):
    """The end of the TCP stream: within TLS one without close_notify, for which Python has no words."""
    socket.socket.shutdown(sock, socket.SHUT_WR)


# --- the mail host --------------------------------------------------------------------------------------
class ChaosConn(Conn):
    """Answers as the backend does, but checks what it gets, and now and then breaks off within an answer."""

    def fill(self):
        data = self.sock.recv(65536)
        if not data:
            raise Gone
        self.buffer += data

    def send(self, data):
        chance = self.backend.chance
        if chance.random() >= self.backend.drop_rate:
            return super().send(data)
        self.backend.drops += 1
        super().send(data[:chance.randint(0, len(data))])
        how = chance.choice(("close", "reset", "half"))
        if how == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        elif how == "half":
            half_close(self.sock)
            self.sock.settimeout(5)
            while self.sock.recv(65536):
                pass
        raise Gone

    def done(self, command, text):
        self.send(command.tag + b" " + text + b"\r\n")

    def serve(self, command):
        if self.user is None:
            return super().serve(command)
        tag, verb = command.tag.decode("latin-1"), command.verb
        if not tag.startswith(self.user + "."):
            if verb not in SAFE:
                self.backend.problem(f"{self.user} was sent {tag} {verb}")
            return super().serve(command)
        if verb not in VERBS:
            self.backend.problem(f"{self.user} was sent the verb {verb!r} with {tag}")
        return getattr(self, "chaos_" + verb.lower(), super().serve)(command)

    def chaos_status(self, command):
        self.send(b"* STATUS box (%s)\r\n" % command.tag)
        return self.done(command, b"OK done")

    def chaos_select(self, command):
        self.selected = command.args[0]
        self.send(b"* FLAGS (%s)\r\n* OK [UIDNEXT 1] %s\r\n" % (command.tag, command.tag))
        return self.done(command, b"OK [READ-WRITE] done")

    def chaos_fetch(self, command):
        """FETCH SIZES: a message of each size."""
        if self.selected is None:
            return self.done(command, b"BAD nothing is selected")
        for number, size in enumerate(command.args[0].split(b","), 1):
            text = body(self.user, command.tag.decode(), int(size))
            self.send(b"* %d FETCH (BODY[] {%d}\r\n%s %s)\r\n" % (number, len(text), text, command.tag))
        return self.done(command, b"OK done")

    def chaos_append(self, command):
        tag = command.tag.decode()
        text = command.args[-1]
        size = len(text) - len(body(self.user, tag, 0))
        if size < 0 or text != body(self.user, tag, size):
            self.backend.problem(f"{self.user} stored {text[:100]!r} ... {text[-100:]!r} with {tag}")
        return self.done(command, b"OK done")

    def chaos_idle(self, command):
        self.send(b"+ idling\r\n")
        if self.read_line().upper() != b"DONE":
            self.backend.problem(f"{self.user}: IDLE was not ended by DONE")
        return self.done(command, b"OK done")


class ChaosBackend(Backend):
    def __init__(self, seed, drop_rate, tls=None):
        self.chance = random.Random(seed)
        self.drop_rate = drop_rate
        self.drops = 0
        self.problems = []
        super().__init__()
        self.tls = tls

    def problem(self, what):
        self.problems.append(what)
        raise Gone

    def accept(self, listener):
        for sock in connections_of(listener):
            self.accepted = [conn for conn in self.accepted if not conn.closed.is_set()]
            ChaosConn.begin(self, sock)


# --- a client --------------------------------------------------------------------------------------------
class Ended(Exception):
    """The other side has ended the connection, as the mail host's drops make it do."""


class Session:
    """One connection of a user: everything that comes is checked."""

    def __init__(self, port, user, chance, tags, tls):
        self.user, self.chance, self.tags = user, chance, tags
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.sock = tls.wrap_socket(self.sock)
        self.mine = set()
        self.open = []  # tags without completion
        self.buffer = b""
        self.pluses = 0
        self.reused = self.bye = False
        self.last = b""

    def tag(self):
        tag = f"{self.user}.{next(self.tags)}"
        self.mine.add(tag.encode())
        return tag

    # --- reading ----------------------------------------------------------------------------------
    def fill(self, most=65536):
        try:
            data = self.sock.recv(most)
        except TimeoutError:
            raise AssertionError(f"hang: {self.user} waits for {self.open}, unread {self.buffer[-200:]!r}") from None
        except OSError:
            raise Ended from None
        if not data:
            assert self.bye or not self.buffer or self.open, f"closed in {self.buffer!r}"
            raise Ended
        self.buffer += data

    def line(self):
        """Takes the next line with its literals, or returns None when it is not there as a whole."""
        end = 0
        while True:
            found = self.buffer.find(b"\r\n", end)
            if found < 0:
                return None
            literal = re.search(rb"\{(\d+)\}\Z", self.buffer[end:found])
            if not literal:
                break
            end = found + 2 + int(literal[1])
        line, self.buffer = self.buffer[:found], self.buffer[found + 2:]
        return line

    def check(self, line):
        """A line is a completion, of ours, or carries a tag of ours."""
        word = line.partition(b" ")[0]
        if word == b"+":
            self.pluses += 1
        elif word == b"*":
            self.bye = self.bye or line.startswith(b"* BYE")
            tags = set(re.findall(rb"user\d+\.\d+\.\d+", line))
            assert tags <= self.mine, f"{self.user} sees {tags - self.mine} of others"
            assert tags or self.bye or line + b"\r\n" == REUSE_LINE, f"{self.user} sees {line!r}"
            for text in re.findall(rb"\{\d+\}\r\n(<[^>]*>)", line):
                assert text.startswith(b"<" + self.user.encode() + b" "), f"{self.user} sees {text!r}"
                assert line.count(text) == 2, f"{self.user} sees a damaged message of {len(line)} bytes"
        else:
            assert word.decode() in self.open, f"{self.user} with {self.open} sees {line[:200]!r}"
            self.open.remove(word.decode())
            self.last = line[len(word) + 1:]

    def settle(self, most=1 << 30):
        """Reads until every command is completed, or until about so many bytes have come."""
        while self.open and most > 0:
            line = self.line()
            if line is None:
                before = len(self.buffer)
                self.fill(min(most, 65536))
                most -= len(self.buffer) - before
            else:
                self.check(line)

    def to_end(self):
        with contextlib.suppress(Ended):
            while True:
                self.drain()
                self.fill()
        self.drain()

    def goodbye(self):
        """All that comes behind LOGOUT. When the mail host breaks off within a response, nothing may follow it: a BYE there
        would stand in a line or, worse, in a message."""
        with contextlib.suppress(Ended):
            while True:
                self.fill()
        response, bye, rest = self.buffer.partition(b"* BYE LOGOUT received\r\n")
        self.buffer = response
        self.drain()
        if bye:
            assert not self.buffer, f"{self.user} sees BYE behind {self.buffer!r}"
            self.buffer = bye + rest
            self.drain()

    def drain(self):
        while (line := self.line()) is not None:
            self.check(line)

    # --- doing ------------------------------------------------------------------------------------
    def login_line(self):
        tag, secret = self.tag(), f"pw-{self.user}"
        self.open.append(tag)
        plain = b64(f"\0{self.user}\0{secret}").decode()
        return self.chance.choice([
            f"{tag} LOGIN {self.user} {secret}\r\n", f'{tag} LOGIN "{self.user}" {{{len(secret)}+}}\r\n{secret}\r\n',
            f"{tag} AUTHENTICATE PLAIN {plain}\r\n"]).encode()

    def login(self):
        while (line := self.line()) is None:
            self.fill()
        assert line.startswith(b"* OK "), line
        text = self.login_line()
        self.sock.sendall(text)
        while self.open:
            line = self.line()
            if line is None:
                self.fill()
                continue
            self.reused = self.reused or line + b"\r\n" == REUSE_LINE
            self.check(line)
        if not self.last.startswith(b"OK"):
            assert self.last.startswith(b"NO [UNAVAILABLE]"), self.last
            raise Ended

    def look(self):
        """The mail is the user's own, and nothing is in front of it."""
        first, second = self.tag(), self.tag()
        self.open += [first, second]
        self.send(f"{first} SELECT INBOX\r\n{second} FETCH {self.chance.randint(0, 300)}\r\n".encode())
        self.settle()
        assert self.last == b"OK done", self.last

    def send(self, data):
        try:
            self.sock.sendall(data)
        except TimeoutError:
            raise AssertionError("hang: nobody reads") from None
        except OSError:
            raise Ended from None

    def script(self):
        """Some commands that go out together: [(their bytes, tag)]. IDLE, or a literal that is waited for, is last."""
        parts = []
        for _ in range(self.chance.randint(1, 4)):
            tag, kind = self.tag(), self.chance.choice(("NOOP", "STATUS", "FETCH", "APPEND", "FETCH", "IDLE", "SELECT"))
            sizes = ",".join(str(int(10 ** self.chance.uniform(0, 4.3))) for _ in range(self.chance.randint(1, 3)))
            text = {"STATUS": "STATUS box (MESSAGES)", "FETCH": f"FETCH {sizes}", "SELECT": "SELECT box"}.get(kind, kind)
            if kind == "APPEND":
                message = body(self.user, tag, int(10 ** self.chance.uniform(0, 4.3)))
                parts.append((b"%s APPEND box {%d+}\r\n%s\r\n" % (tag.encode(), len(message), message), tag))
                continue
            parts.append((f"{tag} {text}\r\n".encode(), tag))
            if kind == "IDLE":
                if self.chance.random() < 0.5:
                    parts[-1] = (parts[-1][0] + b"DONE\r\n", tag)
                break
        return parts

    def waiting_append(self):
        """A literal whose announcement is answered first, or a part of it only: returns whether it was all."""
        tag = self.tag()
        message = body(self.user, tag, self.chance.randint(0, 3000)) + b"\r\n"
        self.open.append(tag)
        self.send(b"%s APPEND box {%d}\r\n" % (tag.encode(), len(message) - 2))
        pluses = self.pluses
        while self.pluses == pluses:
            line = self.line()
            if line is None:
                self.fill()
            else:
                self.check(line)
        cut = self.chance.randint(0, len(message))
        self.send(message[:cut])
        if cut == len(message):
            self.settle()
        return cut == len(message)

    def work_and_abort(self):
        """Sends some commands up to a random byte, reads up to a random byte, and leaves in some way."""
        how = self.chance.choices(("close", "reset", "half", "logout"), (45, 30, 15, 10))[0]
        if self.chance.random() < 0.1 and not self.waiting_append():
            return self.leave(how)
        parts = self.script()
        text = b"".join(part for part, _ in parts)
        idles = b" IDLE\r\n" in text and not text.endswith(b"DONE\r\n")
        if how == "logout" and not self.open and not idles:
            self.open += [tag for _, tag in parts] + [self.tag()]
            self.send(text + f"{self.open[-1]} LOGOUT\r\n".encode())
            return self.goodbye()
        cut = self.chance.randint(0, len(text))
        position, certain = 0, []
        for part, tag in parts:
            position += len(part)
            self.open.append(tag)
            if position <= cut and not (idles and part is parts[-1][0]):
                certain.append(tag)
        self.send(text[:cut])
        if how != "half" and certain and self.chance.random() < 0.7:
            self.open = [tag for tag in self.open if tag in certain]
            self.settle(self.chance.randint(1, 8000))
        return self.leave(how)

    def leave(self, how):
        if how == "half":
            with contextlib.suppress(OSError):
                half_close(self.sock)
            self.to_end()
        elif how == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)


def one(port, user, chance, tags, count, tls):  # pylint: disable=too-many-arguments
    """One session: comes, looks, aborts."""
    session = Session(port, user, chance, tags, tls)
    try:
        if chance.random() < 0.03:
            text = session.login_line()
            session.send(text[:chance.randint(0, len(text) - 1)])
        else:
            session.login()
            count["logins"] += 1
            count["reused"] += session.reused
            session.look()
            session.work_and_abort()
    except Ended:
        count["ended"] += 1
    finally:
        session.sock.close()
    count["aborts"] += 1


def any_certificate():
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


def main(port, seed, aborts, seconds, tls=0):
    context = any_certificate() if tls else None
    os.nice(10)  # other tests run beside this one, with deadlines
    chance = random.Random(seed)
    tags = (f"{seed}.{number}" for number in range(1, 10 ** 9))
    count = {"aborts": 0, "logins": 0, "reused": 0, "ended": 0}
    end = time.monotonic() + (seconds or 1e9)
    user = chance.choice(USERS)
    while (not aborts or count["aborts"] < aborts) and time.monotonic() < end:
        if chance.random() < 0.4:
            user = chance.choice(USERS)
        try:
            one(port, user, chance, tags, count, context)
        except AssertionError as error:
            sys.exit(f"seed {seed}, session {count['aborts']}: {error}")
    print(json.dumps(count))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
