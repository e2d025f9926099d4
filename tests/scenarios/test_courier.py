"""Sites that come from Courier's proxy: each case of courier.txt is a test. What counts is status, code and who was asked,
not Courier's texts."""
import base64
import hashlib
import hmac
import os
import re
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from keepwarm import certs
from keepwarm.directory import readable
from keepwarm.process import DEADLINE, free_port, wait_until
from keepwarm.script import ScriptedHost
from keepwarm.system import BUILD, temp_folder

HOSTS = {"a": "127.0.0.11", "b": "127.0.0.12", "local": "127.0.0.13"}
DEAD = "127.0.0.19"
DUAL = f"{DEAD} dual.test\n{HOSTS['a']} dual.test\n127.0.0.1 localhost\n"
OVER_HOSTS = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"')


class Case:
    def __init__(self, name):
        self.name, self.service = name, name.split()[0]
        self.config, self.accounts, self.fields, self.steps = {}, [], [], []
        self.greetings, self.rules = {}, {}
        self.clear = self.down = False

    def add(self, line):
        word, _, rest = line.partition(" ")
        setting = getattr(self, f"set_{word}", None)
        if setting:
            setting(rest)
        else:
            self.steps.append((word, rest))

    def set_config(self, rest):
        key, _, value = rest.partition(" ")
        self.config[key] = value

    def set_account(self, rest):
        login, password, *options = rest.replace("\\\\", "\\").split(" ", 2)
        self.accounts.append((login, "" if password == "-" else password, options[0] if options else ""))

    def set_field(self, rest):
        self.fields.append(rest.split(" ", 1))

    def set_greeting(self, rest):
        host, _, text = rest.partition(" ")
        text = re.sub(r"\{(\d+) (.)\}", lambda match: match[2] * int(match[1]), text)
        self.greetings[host] = text.replace("\\r\\n", "\r\n")

    def set_rule(self, rest):
        host, _, rule = rest.partition(" ")
        regex, _, answer = rule.partition(" => ")
        self.rules.setdefault(host, []).append((regex, answer.replace("\\r\\n", "\r\n") + "\r\n"))

    def set_clear(self, _):
        self.clear = True

    def set_down(self, _):
        self.down = True


def read_cases(path):
    cases = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("= "):
            cases.append(Case(line[2:]))
        elif line and not line.startswith("#"):
            cases[-1].add(line)
    return cases


CASES = read_cases(Path(__file__).with_name("courier.txt"))


class Directory:
    """The accounts in userdb, or with clear passwords in a compiled table."""

    def __init__(self, case, words):
        self.folder = temp_folder()
        accounts = [(login, password, options.format(**words)) for login, password, options in case.accounts]
        if case.down:
            self.place = f"authdaemon:{self.folder}/nobody-listens"
        elif case.clear:
            self.place = self.table(accounts)
        else:
            self.place = self.userdb(accounts, [(name, text.format(**words)) for name, text in case.fields])

    def table(self, accounts):
        rows = "".join(f'"{login}","{password}","{options}"\n' for login, password, options in accounts)
        source, conf = self.folder / "accounts.csv", self.folder / "conf"
        source.write_text("user,password,options\n" + rows)
        conf.write_text(f"directory lmdb:{self.folder}/accounts\n")
        subprocess.run([BUILD / "lookupd", "-f", conf, "--import", source], check=True, timeout=DEADLINE)
        return f"lmdb:{readable(self.folder / 'accounts')}"

    def userdb(self, accounts, fields):
        text = ""
        for login, password, options in accounts:
            text += f"{login}\tuid=1|gid=1|home=/x" + (f"|systempw={hashed(password)}" if password else "")
            text += f"|options={options}" if options else ""
            text += "".join(f"|{name}={hashed(value) if name.endswith('pw') else value}" for name, value in fields)
            text += "\n"
        path = self.folder / "userdb"
        path.write_text(text)
        return f"userdb:{readable(path)}"

    def stop(self):
        subprocess.run(["rm", "-rf", self.folder], check=True)


def hashed(password):
    return "{SHA256}" + base64.b64encode(hashlib.sha256(password.encode()).digest()).decode()


class Talk:
    """A client that does what the case says. `heard` is what came since it sent something."""

    def __init__(self, case, system, hosts, port):
        self.case, self.system, self.hosts, self.port = case, system, hosts, port
        self.sock, self.heard, self.crowd = None, "", []

    def run(self):
        for word, rest in self.case.steps:
            if word != "crowd":
                self.connect()
            getattr(self, f"do_{word}")(rest)

    def close(self):
        for sock in [*self.crowd, *([self.sock] if self.sock else [])]:
            sock.close()

    def connect(self):
        if self.sock is None:
            self.sock = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)

    def fill(self):
        """Reads once; False at the end."""
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        except TimeoutError as late:
            raise AssertionError(f"nothing more came behind {self.heard!r}") from late
        self.heard += data.decode("latin-1")
        return bool(data)

    def do_send(self, text):
        while not self.heard.endswith("\r\n") and self.fill():
            pass  # the greeting comes first
        self.heard = ""
        self.sock.sendall(text.replace("\\r\\n", "\r\n").replace("\\\\", "\\").encode() + b"\r\n")

    def do_hear(self, regex):
        while not re.search(regex, self.heard):
            assert self.fill(), f"{regex!r} expected, closed after {self.heard!r}"

    def do_never(self, regex):
        assert not re.search(regex, self.heard), self.heard

    def do_cram(self, rest):
        mechanism, login, password = rest.split(" ")
        digest = getattr(hashlib, mechanism.removeprefix("CRAM-").lower())
        challenge = base64.b64decode(self.heard.split()[1])
        answer = f"{login} {hmac.new(password.encode(), challenge, digest).hexdigest()}"
        self.do_send(base64.b64encode(answer.encode()).decode())

    def do_login(self, rest):
        name, login, password = rest.replace("\\\\", "\\").split(" ")
        quoted = '"' + login.replace("\\", "\\\\").replace('"', '\\"') + '"'
        want = {"imap": rf'(?m)^\S+ LOGIN (?:{re.escape(quoted)}|{re.escape(login)}) "?{re.escape(password)}"?\r$',
                "pop3": rf"(?s)USER {re.escape(login)}\r\nPASS {re.escape(password)}\r\n"}[self.case.service]
        found = [said for said in self.said(name) if re.search(want, said)]
        assert len(found) == 1, self.said(name)

    def do_quiet(self, rest):
        name, _, regex = rest.partition(" ")
        assert not [said for said in self.said(name) if re.search(regex, said)], self.said(name)

    def said(self, name):
        return [said.decode("latin-1") for said in self.hosts[name].said()]

    def do_starttls(self, _):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock)
        self.heard = "\r\n"

    def do_halfclose(self, _):
        self.sock.shutdown(socket.SHUT_WR)

    def do_eof(self, _):
        while self.fill():
            pass

    def do_stop(self, _):
        self.heard = ""
        self.system.supervisor.terminate()

    def do_crowd(self, count):
        self.system.forget_start()
        for _ in range(int(count)):
            sock = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)
            assert sock.recv(100).startswith((b"* OK", b"+OK"))
            self.crowd.append(sock)
        # A greeting may come before the broker has counted whom it greets.
        wait_until(lambda: self.system.gauge("clients") == int(count), lambda: f"{self.system.stats()}")


@pytest.fixture
def prefix(tmp_path):
    """Puts a name with two addresses into the programs' /etc/hosts, which only root can do."""
    if os.getuid() != 0:
        return None
    table = tmp_path / "hosts"
    table.write_text(DUAL)
    table.chmod(0o644)
    return (*OVER_HOSTS, table)


def settings(case, ports, directory, tmp_path):
    certificate = certs.Authority(tmp_path).issue("mail.test")
    return {"server_hostname": HOSTS["b"], "server_port": ports["imap"], "pop3_server_port": ports["pop3"],
            "pop3_listen_port": ports["listen"], "local_server": f"{HOSTS['local']}:{ports['imap']}",
            "tls_server_cert_file": readable(Path(certificate.both_path)), "plaintext_addresses": "none",
            "auth": "both", "auth_mechanisms": "PLAIN LOGIN CRAM-MD5 CRAM-SHA1 CRAM-SHA256", "login_attempts": 10,
            "directory": directory.place, **{key: value.format(**HOSTS) for key, value in case.config.items()}}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_case(make, tmp_path, prefix, case):
    if "dual.test" in str(case.accounts) and not prefix:
        pytest.skip("only root can give a name two addresses")
    ports = {name: free_port() for name in ("imap", "pop3", "listen")}
    hosts = {name: ScriptedHost(address, ports[case.service], case.service, case.greetings.get(name),
                                case.rules.get(name, ())) for name, address in HOSTS.items()}
    make.started.extend(hosts.values())
    directory = Directory(case, {**HOSTS, "dead": DEAD, "hostname": socket.gethostname()})
    make.started.append(directory)
    system = make.system(hosts["a"], prefix=prefix or (), **settings(case, ports, directory, tmp_path))
    talk = Talk(case, system, hosts, system.port if case.service == "imap" else ports["listen"])
    try:
        talk.run()
    finally:
        talk.close()
    if not system.supervisor.poll():
        wait_until(lambda: system.gauge("active") == 0, "the session stays")
