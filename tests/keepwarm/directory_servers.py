"""Directories that are servers, scripted: what they are asked is kept, what they say is the test's."""
import socket
import threading

from keepwarm.directory import readable
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
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
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
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()


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
