"""Directories that begin an answer and never end it: a byte a second keeps every library waiting."""
import contextlib
import shutil
import socket
import threading

import pytest

from keepwarm.directory import Userdb, has_driver, readable
from keepwarm.process import find, wait_until
from keepwarm.system import temp_folder

SQL = {"USERNAME": "u", "DATABASE": "d", "USER_TABLE": "t", "CRYPT_PWFIELD": "c", "UID_FIELD": "u", "GID_FIELD": "g"}

# kind: what it says first, after a first word of its client (or before), what it says then, byte by byte
KINDS = {
    "ldap": (True, [], b"\x30\x84\x00\x00\xff\xf0\x02\x01\x01\x64\x84\x00\x00\xff\x00" + bytes(200)),
    "ldap at its door": (True, [], b"\x30\x84\x00\x00\xff\xf0\x02\x01\x01\x61\x84\x00\x00\xff\x00" + bytes(200)),
    "mysql": (False, [], b"\xf0\x00\x00\x00\x0a" + b"5" * 200),
    "pgsql": (True, [b"R\0\0\0\x08\0\0\0\0" + b"Z\0\0\0\x05I"], b"T\0\0\xf0\0\0\x01" + b"c" * 200),
    "pgsql at its door": (True, [], b"R\0\0\0\x08\0\0\0\x05" + b"c" * 200),
    "http": (True, [b"HTTP/1.1 200 OK\r\n"], b"Auth-Status: OK\r\nX: " + b"y" * 200),
    "authdaemon": (True, [], b"ADDRESS=" + b"y" * 200),
}


class Dripping:
    """A directory of this kind; `place` is how the configuration names it."""

    def __init__(self, kind):
        self.listens_first, self.at_once, self.drops = KINDS[kind]
        self.kind, self.at_door = kind.split()[0], "door" in kind
        self.folder = temp_folder()
        self.asked = 0
        self.ended = threading.Event()
        if self.kind == "authdaemon":
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(self.folder / "socket"))
            self.listener.listen(50)
            readable(self.folder / "socket")
        else:
            self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    def settings(self):
        port = self.listener.getsockname()[1]
        return {
            "ldap": {"LDAP_URI": f"ldap://127.0.0.1:{port}", "LDAP_BASEDN": "dc=x", "LDAP_MAIL": "uid",
                     "LDAP_INITBIND": int(self.at_door), "LDAP_BINDDN": "cn=x", "LDAP_BINDPW": "x"},
            "mysql": {"MYSQL_SERVER": "127.0.0.1", "MYSQL_PORT": port, "MYSQL_PASSWORD": "p", "MYSQL_OPT": 0,
                      **{f"MYSQL_{name}": value for name, value in SQL.items()}},
            "pgsql": {"PGSQL_CONNECTION": f"host=127.0.0.1 port={port} user=u dbname=d sslmode=disable "
                                          "gssencmode=disable",
                      **{f"PGSQL_{name}": value for name, value in SQL.items()}},
        }[self.kind]

    def __str__(self):
        if self.kind == "authdaemon":
            return f"authdaemon:{self.folder}/socket"
        if self.kind == "http":
            return f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        path = self.folder / "rc"
        path.write_text("".join(f"{name}\t{value}\n" for name, value in self.settings().items()))
        readable(path)
        return f"{self.kind}:{path}"

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        with sock, contextlib.suppress(OSError):
            if self.listens_first:
                sock.recv(65536)
            for piece in self.at_once:
                sock.sendall(piece)
            self.asked += 1
            for byte in self.drops:
                sock.sendall(bytes([byte]))
                if self.ended.wait(1):
                    return

    def stop(self):
        self.ended.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_that_drips_holds_up_neither_others_nor_names_for_long(make, backend, kind):
    if not has_driver(kind.split()[0]):
        pytest.skip("built without it")
    users, source = Userdb(anna=f"mailhost=localhost:{backend.port}"), Dripping(kind)
    make.started += [users, source]
    system = make.system(backend, directory=[users, source], lookup_processes=1, lookup_ttl=1)
    with system.client() as slow:
        slow.send("s1 LOGIN slow pw-slow\r\n")
        wait_until(lambda: source.asked, "the directory was not asked")
        system.session("anna").close()  # looked up behind it, and then her host's name
        assert slow.reply("s1").tagged.startswith(b"NO [UNAVAILABLE]")
    asked = source.asked
    with system.client() as client:
        assert client.login("slow", "pw-slow").tagged.startswith(b"NO [UNAVAILABLE]")
        assert client.login("other", "pw-other").tagged.startswith(b"NO [UNAVAILABLE]")
    assert source.asked == asked, "it is asked again at once"
    wait_until(lambda: len([pid for pid, name in find(str(system.folder)).items() if name == "lookupd"]) == 2, system.log_text)
