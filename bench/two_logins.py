#!/usr/bin/python3
"""Shows what the proxy is for: the same user logs in twice, the second time without waiting for the mail host.

Usage: two_logins.py HOST PORT USER [TIMES]; the password is read from the environment (LOGIN_PASS).
Exits 0 when every login after the first was served by a kept connection, else 1.
"""

import os
import socket
import sys
import time

REUSED = b"[XPROXYREUSE]"
PATIENCE = 15


class Client:
    """One IMAP connection, spoken to on the wire, so that times and replies are the real ones."""

    def __init__(self, host, port):
        self.sock = socket.create_connection((host, port), PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines = self.sock.makefile("rb")
        self.line()

    def line(self):
        line = self.lines.readline()
        if not line:
            raise ConnectionError("the server closed the connection")
        return line

    def command(self, tag, words):
        """Sends one command; returns its replies up to and with the tagged one."""
        data = tag
        for word in words:
            data += b" "
            if isinstance(word, bytes):
                data += word
                continue
            # A literal: no character of a name or password has to be quoted.
            value = word.encode()
            self.sock.sendall(data + b"{%d}\r\n" % len(value))
            reply = self.line()
            if not reply.startswith(b"+"):
                return [reply]
            data = value
        self.sock.sendall(data + b"\r\n")
        replies = [self.line()]
        while not replies[-1].startswith(tag + b" "):
            replies.append(self.line())
        return replies

    def close(self):
        self.lines.close()
        self.sock.close()


def quote(text):
    """A quoted string where the text allows it, so that LOGIN is one round trip; else a literal."""
    if text.isascii() and text.isprintable():
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return b'"' + escaped.encode() + b'"'
    return text


def one_login(host, port, user, password):
    """Returns the milliseconds of the login and whether a kept connection served it."""
    client = Client(host, port)
    begin = time.perf_counter()
    replies = client.command(b"a", [b"LOGIN", quote(user), quote(password)])
    took = (time.perf_counter() - begin) * 1000
    if not replies[-1].startswith(b"a OK"):
        raise ConnectionError("login refused: " + replies[-1].decode(errors="replace").strip())
    select = client.command(b"b", [b"SELECT", b"INBOX"])
    if not select[-1].startswith(b"b OK"):
        raise ConnectionError("SELECT refused: " + select[-1].decode(errors="replace").strip())
    client.command(b"c", [b"LOGOUT"])
    client.close()
    return took, any(REUSED in reply for reply in replies)


def main():
    if len(sys.argv) not in (4, 5) or "LOGIN_PASS" not in os.environ:
        print(__doc__, file=sys.stderr)
        return 2
    host, port, user = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    times = int(sys.argv[4]) if len(sys.argv) == 5 else 2
    all_reused = True
    for number in range(1, times + 1):
        try:
            took, reused = one_login(host, port, user, os.environ["LOGIN_PASS"])
        except OSError as error:
            print(f"login {number} of {user} failed: {error}", file=sys.stderr)
            return 1
        how = "reused: XPROXYREUSE" if reused else "a fresh login at the mail host"
        print(f"  login {number} of {user}: {took:7.2f} ms  {how}", flush=True)
        all_reused = all_reused and (reused or number == 1)
        # The connection is given back after the client has its answer; LOGOUT does not wait for it.
        time.sleep(0.3)
    return 0 if all_reused else 1


if __name__ == "__main__":
    sys.exit(main())
