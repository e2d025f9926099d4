"""Directories that are servers, scripted: what they are asked is kept, what they say is the test's."""
import contextlib
import re
import socket
import threading

from keepwarm.directory import readable
from keepwarm.mailhost import connections_of, end_listening
from keepwarm.system import temp_folder

PATIENCE = 30


class Scripted:
    """One connection after the other, each in a thread. `answer` is called with the request's bytes and gives those of
    the answer; None: silence until the client leaves."""

    def __init__(self, listener, answer, whole):
        self.listener = listener
        self.answer = answer
        self.whole = whole
        self.requests = []
        self.silent = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        for sock in connections_of(self.listener):
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        with sock:
            sock.settimeout(PATIENCE)
            request = b""
            try:
                while not self.whole(request):
                    data = sock.recv(65536)
                    if not data:
                        return
                    request += data
                self.requests.append(request)
                answer = self.answer(request)
                if answer is None:
                    self.silent.append(sock)
                    sock.recv(1)
                else:
                    sock.sendall(answer)
            except OSError:
                pass

    def stop(self):
        end_listening(self.listener)


class Authdaemond(Scripted):
    def __init__(self, answer):
        self.folder = temp_folder()
        self.path = self.folder / "socket"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen(50)
        readable(self.path)
        super().__init__(listener, answer, lambda request: request.endswith(b"\n"))

    def __str__(self):
        return f"authdaemon:{self.path}"


class Ldap(Scripted):
    """Has every account, with no password in its entry: a bind shows whether it is right. `bind` gives a result code for a
    request, or None for silence; `lines` are further settings."""

    def __init__(self, bind, *lines):
        listener = socket.create_server(("127.0.0.1", 0))
        self.bind = bind
        self.rc = temp_folder() / "rc"
        self.rc.write_text(f"LDAP_URI\tldap://127.0.0.1:{listener.getsockname()[1]}\nLDAP_BASEDN\tdc=x\nLDAP_MAIL\tuid\n"
                           "LDAP_AUTHBIND\t1\n" + "".join(f"{line}\n" for line in lines))
        readable(self.rc)
        super().__init__(listener, self.judge, lambda request: len(request) > 1)

    def serve(self, sock):
        with sock:
            sock.settimeout(PATIENCE)
            with contextlib.suppress(OSError):
                while request := sock.recv(65536):
                    self.requests.append(request)
                    answer = self.judge(request)
                    if answer:
                        sock.sendall(answer)

    def judge(self, request):
        """Messages are short: every length is one byte."""
        number, operation = request[2:5], request[5]
        if operation == 0x63:  # a search: the entry that it asks for, and the end
            name = re.search(rb"\x04\x03uid\x04.([a-z0-9]+)", request)[1]
            dn = b"uid=" + name + b",dc=x"
            entry = number + self.tlv(0x64, self.tlv(0x04, dn) + self.tlv(0x30, b""))
            return self.tlv(0x30, entry) + self.tlv(0x30, number + self.tlv(0x65, b"\n\1\0\4\0\4\0"))
        code = self.bind(request) if operation == 0x60 else None
        return None if code is None else self.tlv(0x30, number + self.tlv(0x61, b"\n\1" + bytes([code]) + b"\4\0\4\0"))

    @staticmethod
    def tlv(tag, value):
        return bytes([tag, len(value)]) + value

    def __str__(self):
        return f"ldap:{self.rc}"


class AuthHttp(Scripted):
    """The answer is lines of headers, or (status, lines)."""

    def __init__(self, answer, port=0):
        listener = socket.create_server(("127.0.0.1", port))
        self.port = listener.getsockname()[1]
        super().__init__(listener, lambda request: self.dress(answer(request)), lambda r: r.endswith(b"\r\n\r\n"))

    @staticmethod
    def dress(answer):
        if answer is None or isinstance(answer, bytes):
            return answer
        status, lines = answer if isinstance(answer, tuple) else ("200 OK", answer)
        head = [f"HTTP/1.1 {status}", "Content-Length: 0", "Connection: close", *lines]
        return ("\r\n".join(head) + "\r\n\r\n").encode()

    def __str__(self):
        return f"http://127.0.0.1:{self.port}/auth"
