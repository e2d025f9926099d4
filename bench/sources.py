"""Directories with the same accounts in each, as the bench asks them: files, and real servers that are thrown away.

Each has `place`, what a `directory` line says, and query(names): microseconds that one question takes the
directory's own client, one question after the other. A file has no client: its time is nothing.
"""
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import parts
import peers

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from keepwarm.process import TestTimeout  # noqa: E402

REPEATS = 3
HOST = "127.0.0.1"  # of all mail; server_port says where
OPTIONS = f"mailhost={HOST}"
USERDB = "{name}\tuid=1|gid=1|home=/x|systempw=$1$x$y|options={options}\n"


def timed(ask, names):
    """Microseconds of each question: what further ones cost, so that neither start nor connection counts. Each time is
    the shortest of some, which others on this machine have disturbed least."""
    shortest = {}
    for some in (names[:1], names) * REPEATS:
        begin = time.perf_counter()
        ask(some)
        took = time.perf_counter() - begin
        shortest[len(some)] = min(took, shortest.get(len(some), took))
    return max(0.0, (shortest[len(names)] - shortest[1]) * 1e6 / (len(names) - 1))


def run(argv, **kwargs):
    subprocess.run([str(word) for word in argv], stdout=subprocess.DEVNULL, check=True, timeout=60, **kwargs)


# --- files ------------------------------------------------------------------------------------------
class Static:
    """None at all: everybody is on server_hostname."""
    kind, place = "static", "static:"

    def __init__(self, _options, _names):
        pass

    @staticmethod
    def missing():
        return None

    def query(self, _names):
        return 0.0

    def stop(self):
        pass


class File(Static):
    """`text` as userdb(8) has it."""

    def __init__(self, options, names):
        super().__init__(options, names)
        self.folder = parts.Folder()
        self.path = self.folder.path / self.kind
        text = "".join(USERDB.format(name=name, options=OPTIONS) for name in names)
        self.write(options, text)
        os.chown(self.path, *peers.NOBODY)
        self.path.chmod(0o600)
        self.place = f"{self.kind}:{self.path}"

    def stop(self):
        self.folder.remove()


class Userdb(File):
    kind = "userdb"

    def write(self, _options, text):
        self.path.write_text(text, encoding="ascii")


class Lmdb(File):
    kind = "lmdb"

    def write(self, options, text):
        conf = self.folder.path / "conf"
        conf.write_text(f"directory lmdb:{self.path}\n", encoding="ascii")
        run([options.build / "lookupd", "-f", conf, "--import", "-"], input=text.encode())


# --- servers ----------------------------------------------------------------------------------------
class Http(Static):
    """nginx, which says the same of everybody; it counts its requests."""
    kind = "http"
    CONF = """daemon off;
pid {folder}/pid;
error_log {folder}/log crit;
worker_processes 2;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000;
  server {{
    listen 127.0.0.1:{port};
    location /count {{ stub_status; }}
    location / {{
      add_header Auth-Status OK;
      add_header Auth-Server {host};
      return 200 "";
    }}
  }}
}}
"""

    def __init__(self, options, names):
        super().__init__(options, names)
        self.folder, self.group, self.port = parts.Folder(), parts.Group("http"), parts.free_port()
        conf = self.folder.path / "conf"
        conf.write_text(self.CONF.format(folder=self.folder.path, port=self.port, host=HOST))
        try:
            self.group.start(["nginx", "-c", conf, "-e", self.folder.path / "log"])
            parts.wait_until(self.listens, "nginx")
        except BaseException:
            self.stop()
            raise
        self.place = f"http://{HOST}:{self.port}/"

    @staticmethod
    def missing():
        return parts.install(("nginx",))

    def listens(self):
        try:
            return self.count() >= 0
        except OSError:
            return False

    def count(self):
        """Requests so far, this one not among them."""
        with socket.create_connection((HOST, self.port), 10) as sock:
            sock.sendall(b"GET /count HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        # "server accepts handled requests", and in the line behind it the figures
        return int(answer.split(b"requests\n")[1].split()[2]) - 1

    def query(self, names):
        return timed(self.ask, names)

    def ask(self, names):
        with socket.create_connection((HOST, self.port), 10) as sock:
            for name in names:
                sock.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nAuth-Method: none\r\nAuth-User: {name}\r\n\r\n".encode())
                data = b""
                while b"\r\n\r\n" not in data:
                    data += sock.recv(65536)

    def stop(self):
        self.group.stop()
        self.folder.remove()


class Server(Static):
    """One of the tests' throwaway servers, `name` there."""
    name = ""

    @classmethod
    def make(cls):
        from keepwarm import directory_real  # not before it is needed: it looks for programs at once
        return getattr(directory_real, cls.name)

    def __init__(self, options, names):
        super().__init__(options, names)
        try:
            self.server = self.make()((HOST, HOST), {name: OPTIONS for name in names})
        except (TestTimeout, subprocess.SubprocessError) as problem:
            raise OSError(str(problem).splitlines()[0]) from problem
        if hasattr(self.server, "rc"):
            os.chown(self.server.rc, *peers.NOBODY)
        self.place = self.server.place

    @classmethod
    def missing(cls):
        return cls.make().missing()

    def query(self, names):
        return timed(self.ask, names)

    def ask_with(self, argv, lines):
        """The client reads its questions from a file."""
        file = self.server.folder / "questions"
        file.write_text("".join(line + "\n" for line in lines))
        run([word if word is not None else file for word in argv])

    def stop(self):
        self.server.stop()


class Ldap(Server):
    kind, name = "ldap", "Slapd"

    def ask(self, names):
        admin = f"cn=proxy,{self.server.BASE}"
        self.ask_with(["ldapsearch", "-x", "-LLL", "-H", f"ldap://{HOST}:{self.server.port}/", "-D", admin, "-w", "proxy",
                       "-b", self.server.BASE, "-f", None, "(&(objectClass=inetOrgPerson)(uid=%s))", "uid", "roomNumber",
                       "employeeType", "title"], names)


SELECT = "SELECT id, crypt, clear, uid, gid, home, '', '', name, options FROM accounts WHERE id = '{name}';"


class Pgsql(Server):
    kind, name = "pgsql", "Postgres"

    def ask(self, names):
        self.ask_with(["psql", "-q", "-A", "-t", "-h", HOST, "-p", self.server.port, "-U", "postgres", "-d", "postgres",
                       "-f", None], [SELECT.format(name=name) for name in names])


class Mysql(Server):
    kind, name = "mysql", "Mariadb"

    def ask(self, names):
        run(["mariadb", "--no-defaults", "-B", "-N", "-h", HOST, "-P", self.server.port, "-u", "proxy", "-pproxy", "mail"],
            input="".join(SELECT.format(name=name) + "\n" for name in names).encode())


class Authdaemon(Server):
    kind, name = "authdaemon", "Authlib"

    def ask(self, names):
        for name in names:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(self.server.socket))
                sock.sendall(f"PRE . imap {name}\n".encode())
                while sock.recv(65536):
                    pass


KINDS = (Static, Userdb, Lmdb, Ldap, Pgsql, Mysql, Authdaemon, Http)
