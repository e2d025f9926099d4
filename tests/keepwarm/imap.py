"""A raw IMAP client: what it sends is what the test says, what it expects has a deadline."""
import base64
import re
import socket
import struct

DEADLINE = 20.0  # more than the 8 s after which a SYN is sent for the fourth time
REUSE_LINE = b"* OK [XPROXYREUSE] IMAP connection reused by imapproxy\r\n"


def b64(data):
    return base64.b64encode(as_bytes(data))


def as_bytes(text):
    return text.encode() if isinstance(text, str) else text


def quoted(text):
    return b'"' + as_bytes(text).replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


class Reply:
    """One command's reply: untagged lines (literals included) and the tagged line, without the tag."""

    def __init__(self, untagged, tagged):
        self.untagged = untagged
        self.tagged = tagged

    @property
    def ok(self):
        return self.tagged.startswith(b"OK ")

    @property
    def reused(self):
        return REUSE_LINE in self.untagged

    @property
    def capabilities(self):
        """The words of the tagged line's capability code."""
        match = re.match(rb"OK \[CAPABILITY ([^\]]*)\] ", self.tagged)
        return match[1].decode().split(" ") if match else None

    @property
    def text(self):
        return b"".join(self.untagged)

    def __repr__(self):
        return f"Reply({self.untagged!r}, {self.tagged!r})"


class Client:
    def __init__(self, port, address="127.0.0.1", greet=True, sock=None):
        self.sock = sock or socket.create_connection((address, port), timeout=DEADLINE)
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.eof = False
        self.number = 0
        self.greeting = self.line() if greet else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- bytes ------------------------------------------------------------------------------------
    def send(self, data):
        self.sock.sendall(as_bytes(data))
        return self

    def fill(self, deadline=DEADLINE):
        """Reads once. False at the end of the stream."""
        if self.eof:
            return False
        self.sock.settimeout(deadline)
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        except (TimeoutError, BlockingIOError):
            raise AssertionError(f"nothing came in time; unread is {self.buffer[-500:]!r}") from None
        self.buffer += data
        self.eof = not data
        return bool(data)

    def take(self, count):
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def exactly(self, count, deadline=DEADLINE):
        while len(self.buffer) < count:
            assert self.fill(deadline), f"closed after {self.buffer!r}, {count} bytes expected"
        return self.take(count)

    def line(self, deadline=DEADLINE):
        """The next line with its CRLF, literals in it included."""
        line = b""
        while True:
            while b"\r\n" not in self.buffer:
                assert self.fill(deadline), f"closed after {line + self.buffer!r}"
            line += self.take(self.buffer.index(b"\r\n") + 2)
            literal = re.search(rb"\{(\d+)\}\r\n\Z", line)
            if not literal:
                return line
            line += self.exactly(int(literal[1]), deadline)

    def expect(self, pattern, deadline=DEADLINE):
        """What was received must begin with a match of the pattern; it is consumed and returned."""
        compiled = re.compile(as_bytes(pattern))
        while not (match := compiled.match(self.buffer)):
            assert self.fill(deadline), f"{pattern!r} expected, closed after {self.buffer!r}"
        self.take(match.end())
        return match

    def expect_exact(self, text, deadline=DEADLINE):
        want = as_bytes(text)
        while len(self.buffer) < len(want) and want.startswith(self.buffer):
            assert self.fill(deadline), f"{want!r} expected, closed after {self.buffer!r}"
        assert self.take(len(want)) == want, f"{want!r} expected, got {self.buffer!r}"

    def expect_close(self, deadline=DEADLINE):
        """The other side closes and sends nothing more."""
        while self.fill(deadline):
            pass
        assert self.buffer == b"", f"unexpected before the close: {self.buffer!r}"

    def read_to_end(self, deadline=DEADLINE):
        while self.fill(deadline):
            pass
        return self.take(len(self.buffer))

    def expect_nothing(self, seconds=0.3):
        """Nothing comes for so long. (The one place that has to let time pass.)"""
        self.sock.settimeout(seconds)
        assert self.buffer == b"", f"nothing expected, got {self.buffer!r}"
        try:
            data = self.sock.recv(65536)
        except (TimeoutError, BlockingIOError):
            return
        raise AssertionError(f"nothing expected, got {data!r}")

    def data_segments(self):
        """How many TCP segments with data have arrived (tcpi_data_segs_in)."""
        info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return struct.unpack_from("I", info, 152)[0]

    def close(self):
        self.sock.close()

    def reset(self):
        """Closes with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    @property
    def port(self):
        return self.sock.getsockname()[1]

    # --- commands ---------------------------------------------------------------------------------
    def tag(self):
        self.number += 1
        return f"t{self.number}".encode()

    def reply(self, tag, deadline=DEADLINE):
        """Reads up to the tagged line."""
        untagged = []
        tag = as_bytes(tag) + b" "
        while True:
            try:
                line = self.line(deadline)
            except AssertionError as problem:
                raise AssertionError(f"{problem}; before that came {untagged!r}") from None
            if line.startswith(tag):
                return Reply(untagged, line[len(tag):-2])
            assert line[:2] in (b"* ", b"+ "), f"neither untagged nor {tag!r}: {line!r}"
            untagged.append(line)

    def command(self, text, deadline=DEADLINE):
        tag = self.tag()
        self.send(tag + b" " + as_bytes(text) + b"\r\n")
        return self.reply(tag, deadline)

    def ok(self, text):
        reply = self.command(text)
        assert reply.ok, f"{text!r} was answered {reply!r}"
        return reply

    def login(self, user, password, how="quoted"):
        """One login in any of the ways of LOGINS, refused or not."""
        tag = self.tag()
        LOGINS[how](self, tag, as_bytes(user), as_bytes(password))
        return self.reply(tag)

    def logout(self):
        self.send("z9 LOGOUT\r\n")
        self.expect_exact("* BYE LOGOUT received\r\nz9 OK Completed\r\n")
        self.expect_close()
        self.close()


# --- ways to log in -------------------------------------------------------------------------------
def login_atoms(client, tag, user, password):
    client.send(b"%s LOGIN %s %s\r\n" % (tag, user, password))


def login_quoted(client, tag, user, password):
    client.send(b"%s LOGIN %s %s\r\n" % (tag, quoted(user), quoted(password)))


def login_literals(client, tag, user, password):
    client.send(b"%s LOGIN {%d}\r\n" % (tag, len(user)))
    client.expect_exact("+ go ahead\r\n")
    client.send(b"%s {%d}\r\n" % (user, len(password)))
    client.expect_exact("+ go ahead\r\n")
    client.send(password + b"\r\n")


def login_nonsync(client, tag, user, password):
    client.send(b"%s LOGIN {%d+}\r\n%s {%d+}\r\n%s\r\n" % (tag, len(user), user, len(password), password))


def plain(user, password):
    return b64(b"\0" + user + b"\0" + password)


def auth_plain_initial(client, tag, user, password):
    client.send(b"%s AUTHENTICATE PLAIN %s\r\n" % (tag, plain(user, password)))


def auth_plain(client, tag, user, password):
    client.send(tag + b" AUTHENTICATE PLAIN\r\n")
    client.expect_exact("+ \r\n")
    client.send(plain(user, password) + b"\r\n")


def auth_login(client, tag, user, password):
    client.send(tag + b" AUTHENTICATE LOGIN\r\n")
    client.expect_exact("+ VXNlcm5hbWU6\r\n")
    client.send(b64(user) + b"\r\n")
    client.expect_exact("+ UGFzc3dvcmQ6\r\n")
    client.send(b64(password) + b"\r\n")


def auth_login_initial(client, tag, user, password):
    client.send(b"%s AUTHENTICATE LOGIN %s\r\n" % (tag, b64(user)))
    client.expect_exact("+ UGFzc3dvcmQ6\r\n")
    client.send(b64(password) + b"\r\n")


LOGINS = {
    "atoms": login_atoms,
    "quoted": login_quoted,
    "literals": login_literals,
    "nonsync": login_nonsync,
    "plain-initial": auth_plain_initial,
    "plain": auth_plain,
    "login": auth_login,
    "login-initial": auth_login_initial,
}
