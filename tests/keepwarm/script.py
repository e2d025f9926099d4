"""Mail hosts that follow a script: each line that they receive is answered by the first rule that matches it.

A rule is (regex, answer); the answer may name the regex's groups as \\1 and close the connection with <close>. A line
that no rule matches is not answered. Every connection's bytes are kept.
"""
import re
import socket
import threading

from keepwarm.mailhost import connections_of

CLOSE = "<close>"
PATIENCE = 60  # no thread outlives this, whatever the test forgot

IMAP = [(r"(\S+) LOGIN ", "\\1 OK logged in\r\n"), (r"(\S+) NOOP", "\\1 OK backend noop\r\n"),
        (r"(\S+) CAPABILITY", "* CAPABILITY IMAP4rev1 X-BACKEND\r\n\\1 OK backend capability\r\n"),
        (r"(\S+) LOGOUT", "* BYE backend bye\r\n\\1 OK backend logout\r\n" + CLOSE), (r"(\S+) ", "\\1 BAD unknown\r\n")]
POP3 = [("USER ", "+OK go on\r\n"), ("PASS ", "+OK 3 messages\r\n"), ("STAT", "+OK 3 300\r\n"), ("UTF8", "+OK utf8\r\n"),
        ("QUIT", "+OK backend bye\r\n" + CLOSE), ("", "-ERR unknown\r\n")]
GREETINGS = {"imap": "* OK [CAPABILITY IMAP4rev1] backend ready\r\n", "pop3": "+OK backend ready <1.2@b>\r\n"}
RULES = {"imap": IMAP, "pop3": POP3}


class ScriptedHost:
    """One service of one host. `rules` come in front of the usual ones; `greeting` None: the usual one."""

    def __init__(self, address, port, service, greeting=None, rules=()):
        self.greeting = GREETINGS[service] if greeting is None else greeting
        self.rules = [*rules, *RULES[service]]
        self.received = []  # of each connection, a bytearray
        self.lock = threading.Lock()
        self.sockets = []
        self.port = port
        self.listening = socket.create_server((address, port), backlog=64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        for sock in connections_of(self.listening):
            sock.settimeout(PATIENCE)
            with self.lock:
                received = bytearray()
                self.received.append(received)
                self.sockets.append(sock)
            threading.Thread(target=self.serve, args=(sock, received), daemon=True).start()

    def serve(self, sock, received):
        try:
            if self.say(sock, self.greeting):
                self.converse(sock, received)
        except OSError:
            pass
        finally:
            sock.close()

    def converse(self, sock, received):
        unread = b""
        while data := sock.recv(65536):
            received += data
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                if not self.say(sock, self.answer_to(line.decode("latin-1"))):
                    return

    def answer_to(self, line):
        for regex, answer in self.rules:
            if match := re.match(regex, line):
                return match.expand(answer)
        return ""

    @staticmethod
    def say(sock, text):
        """False: that was the last word."""
        sock.sendall(text.replace(CLOSE, "").encode("latin-1"))
        return not text.endswith(CLOSE)

    def said(self):
        """All that clients have said, those that said nothing (a look at the host) left out."""
        with self.lock:
            return [bytes(received) for received in self.received if received]

    def stop(self):
        self.listening.close()
        with self.lock:
            for sock in self.sockets:
                sock.close()
