"""Mail hosts and proxies as the bench starts them: their settings, each in a folder of its own.

Every one has a name, the packages it needs, start(folder, group, backend_port) and port. The settings
are those that make it fast: a peer that is slow because of us would prove nothing.
"""
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import parts

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from keepwarm import certs  # noqa: E402

SECRET = "secret"  # user 7 is user7, with the password secret7
MESSAGES = 20

MESSAGE = """Return-Path: <sender{n}@example.test>\r
From: Some Sender <sender{n}@example.test>\r
To: {user}@example.test\r
Subject: Message {n} about the meeting of {user}\r
Date: Mon, 6 Jan 2025 10:00:{n:02d} +0000\r
Message-ID: <{n}.1736157600.{user}@example.test>\r
MIME-Version: 1.0\r
Content-Type: text/plain; charset=utf-8\r
\r
Hello {user}, this is message {n}.\r
"""


class Certificates:
    """An authority and what it has signed for everything on loopback. kind: of the keys, "ec" (P-256) or "rsa"
    (2048 bits)."""

    def __init__(self, kind):
        self.folder = parts.Folder()
        authority = certs.Authority(self.folder.path, key=kind)
        self.authority, self.server = authority.path, authority.issue("127.0.0.1", "localhost", key=kind)


@dataclass
class Tls:
    """Where a part speaks TLS: with its clients from the first byte, toward its mail host."""
    certificates: Certificates = None
    clients: bool = False
    backend: bool = False


PLAIN = Tls()


class Part:
    """One server. `users` is how many accounts a load may draw from."""
    name = ""
    packages = ()
    users = 1000
    protocol = "imap"
    starttls = False  # knows no other TLS toward a mail host

    def __init__(self, tls=PLAIN):
        self.tls = tls
        self.port, self.tls_port = parts.free_port(), parts.free_port()
        self.folder = self.group = None

    def port_for(self, peer):
        """Of a mail host: where this proxy dials."""
        return self.tls_port if peer.tls.backend and not peer.starttls else self.port

    def missing(self):
        """Why it cannot be started here, or None."""
        return parts.install(self.packages)

    def start(self, backend_port=0):
        self.folder = parts.Folder()
        self.group = parts.Group(f"{self.name.lower().replace(' ', '-')}-{self.port}")
        try:
            self.launch(backend_port)
            parts.wait_until(lambda: parts.greets(self.port, self.tls.clients), f"a greeting of {self.name}")
        except BaseException:
            self.stop()
            raise
        return self

    def launch(self, backend_port):
        raise NotImplementedError

    def stop(self):
        if self.group:
            self.group.stop()
        if self.folder:
            self.folder.remove()
        self.group = self.folder = None

    def write(self, name, text):
        path = self.folder.path / name
        path.write_text(text, encoding="ascii")
        return path

    def log(self):
        return open(self.folder.path / "log", "ab")


# --- mail hosts -------------------------------------------------------------------------------------
class Null(Part):
    name = "null"

    def __init__(self, build, tls=PLAIN, bulk=0):
        super().__init__(tls)
        self.build, self.bulk = build, bulk
        self.users = 4 if bulk else Part.users

    def launch(self, backend_port):
        more = []
        if self.tls.certificates:
            server = self.tls.certificates.server
            more = ["-c", server.path, "-k", server.key_path, "-t", self.tls_port]
        if self.protocol == "pop3":
            more += ["-3"]
        self.group.start([self.build / "bench/null_backend", "-p", self.port, "-b", self.bulk, *more])


DOVECOT = """
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log
protocols = {protocol}
listen = 127.0.0.1
{tls}
disable_plaintext_auth = no
auth_mechanisms = plain login
mail_max_userip_connections = 0
first_valid_uid = 1
first_valid_gid = 1
service {protocol}-login {{
  inet_listener {protocol} {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener {protocol}s {{
    address = 127.0.0.1
    port = {tls_port}
    ssl = yes
  }}
{login}
}}
service stats {{
  process_min_avail = 0
}}
service auth {{
  client_limit = 19000
}}
service anvil {{
  client_limit = 19900
}}
{rest}
"""

MAIL = """
mail_location = maildir:~/Maildir
mail_uid = nobody
mail_gid = nogroup
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {folder}/users
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={folder}/mail/%u
}}
namespace inbox {{
  inbox = yes
}}
service {protocol} {{
  process_limit = 4000
{service}
}}
{auth}
"""

DOVECOT_TLS = """ssl = yes
ssl_cert = <{server.path}
ssl_key = <{server.key_path}
ssl_ca = <{authority}
ssl_require_crl = no
"""


def dovecot_conf(folder, tls, port, tls_port, login, rest, protocol="imap"):
    """port, tls_port: 0 for none."""
    lines = DOVECOT_TLS.format(**vars(tls.certificates)) if tls.certificates else "ssl = no"
    return DOVECOT.format(folder=folder, tls=lines, port=port, tls_port=tls_port, login=login, rest=rest,
                          protocol=protocol)


# The high-performance mode of the manual: login processes that stay, several connections each.
LOGIN_FAST = "  service_count = 0\n  process_min_avail = 2\n  client_limit = 4000\n  process_limit = 2"


class Dovecot(Part):
    """A mail host with 20 messages in each account. The variants differ in what a login costs."""
    packages = ("dovecot-imapd",)
    users, messages = 200, MESSAGES
    login, service, auth = "", "", ""

    def hash(self, _password):
        return "{PLAIN}" + _password

    def launch(self, backend_port):
        folder = self.folder.path
        self.folder.make("run")
        names = [f"user{n}" for n in range(1, self.users + 1)]
        lines = [f"{name}:{self.hash(SECRET + name.removeprefix('user'))}::::::\n" for name in names]
        self.write("users", "".join(lines))
        for name in names:
            self.deliver(name)
        rest = MAIL.format(folder=folder, protocol=self.protocol, service=self.service, auth=self.auth)
        tls_port = self.tls_port if self.tls.certificates else 0
        self.write("conf", dovecot_conf(folder, self.tls, self.port, tls_port, self.login, rest, self.protocol))
        self.group.start(["dovecot", "-F", "-c", folder / "conf"])

    def deliver(self, name):
        box = self.folder.path / "mail" / name / "Maildir"
        for part in ("cur", "new", "tmp"):
            (box / part).mkdir(parents=True)
        for n in range(1, self.messages + 1):
            (box / "cur" / f"{1700000000 + n}.M{n}P1.host:2,S").write_text(
                MESSAGE.format(n=n, user=name), newline="")
        for path in (box.parents[1], box.parent, box, *box.rglob("*")):
            os.chown(path, *NOBODY)


NOBODY = (65534, 65534)


class DovecotTuned(Dovecot):
    name = "Dovecot tuned"
    login = LOGIN_FAST
    service = "  service_count = 1000\n  process_min_avail = 8"
    auth = "auth_cache_size = 10M\n"


class DovecotLarge(DovecotTuned):
    """As tuned, but few accounts with large mailboxes."""
    name = "Dovecot tuned, 5,000 messages"
    users, messages = 4, 5000


class DovecotDefault(Dovecot):
    """A login process and an imap process for each session, no authentication cache."""
    name = "Dovecot defaults"


class DovecotCrypt(DovecotTuned):
    """As tuned, but each login is a SHA512-CRYPT of 5000 rounds."""
    name = "Dovecot SHA512-CRYPT"
    auth = ""

    def hash(self, _password):
        run = subprocess.run(["openssl", "passwd", "-6", "-salt", "keepwarmbench", "-stdin"], input=_password,
                             capture_output=True, text=True, check=True)
        return "{SHA512-CRYPT}" + run.stdout.strip()


# --- proxies ----------------------------------------------------------------------------------------
class Keepwarm(Part):
    name = "Keepwarm"
    programs = ("in.imapproxyd", "cachebrokerd", "lookupd", "proxyd", "tlsrelayd")

    def __init__(self, build, tls=PLAIN, **settings):
        super().__init__(tls)
        self.build, self.settings = build, settings

    def missing(self):
        absent = [program for program in self.programs if not (self.build / program).exists()]
        return f"{' '.join(absent)} not built" if absent else None

    def tls_settings(self):
        found = {}
        if self.tls.backend:
            found |= {"server_tls": "implicit", "tls_ca_file": self.tls.certificates.authority}
        if self.tls.clients:
            server = self.tls.certificates.server
            found |= {"listen_port": parts.free_port(), "imaps_listen_port": self.port,
                      "tls_server_cert_file": server.path, "tls_server_key_file": server.key_path}
        return found

    def pop3_settings(self, backend_port):
        if self.protocol != "pop3":
            return {}
        return {"listen_port": parts.free_port(), "pop3_listen_port": self.port, "pop3_server_port": backend_port}

    def launch(self, backend_port):
        bin_folder = self.folder.make("bin")
        for program in self.programs:
            shutil.copy2(self.build / program, bin_folder)  # a checkout in root's home is out of reach
        settings = {
            "server_hostname": "127.0.0.1", "server_port": backend_port,
            "listen_address": "127.0.0.1", "listen_port": self.port,
            "run_directory": self.folder.path / "run",
            "stat_filename": self.folder.make("state", NOBODY) / "pimpstats",
            "protocol_log_filename": "/dev/null",
            "foreground_mode": "yes", "cache_size": 4000, "cache_expiration_time": 3600,
        } | self.tls_settings() | self.pop3_settings(backend_port) | self.settings
        conf = self.write("imapproxy.conf", "".join(f"{key} {value}\n" for key, value in settings.items()))
        with self.log() as log:
            self.group.start([bin_folder / "in.imapproxyd", "-f", conf], stdout=log, stderr=log)

    @property
    def session_socket(self):
        return self.folder.path / "run" / "session"


class Imapproxy(Part):
    name = "imapproxy"
    packages = ("imapproxy",)
    starttls = True

    def launch(self, backend_port):
        state = self.folder.make("state", NOBODY)
        tls = "force_tls no"
        if self.tls.backend:
            tls = f"force_tls yes\ntls_verify_server yes\ntls_ca_file {self.tls.certificates.authority}"
        conf = self.write("conf", f"""server_hostname 127.0.0.1
server_port {backend_port}
listen_address 127.0.0.1
listen_port {self.port}
cache_size 4000
cache_expiration_time 3600
proc_username nobody
proc_groupname nogroup
stat_filename {state}/pimpstats
protocol_log_filename {state}/protocol
syslog_facility LOG_MAIL
send_tcp_keepalives no
enable_select_cache no
foreground_mode yes
{tls}
enable_admin_commands no
""")
        self.group.start(["imapproxyd", "-f", conf, "-p", self.folder.path / "pid"])


class Nginx(Part):
    name = "nginx"
    packages = ("nginx", "libnginx-mod-mail")

    def launch(self, backend_port):
        folder, auth = self.folder.path, parts.free_port()
        conf = self.write("conf", f"""daemon off;
pid {folder}/pid;
error_log {folder}/log crit;
worker_processes 2;
worker_rlimit_nofile 20000;
load_module /usr/lib/nginx/modules/ngx_mail_module.so;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  server {{
    listen 127.0.0.1:{auth} backlog=4096;
    location / {{
      add_header Auth-Status OK;
      add_header Auth-Server 127.0.0.1;
      add_header Auth-Port {backend_port};
      return 200 "";
    }}
  }}
}}
mail {{
  auth_http 127.0.0.1:{auth}/;
  proxy_buffer 16k;
  imap_capabilities IMAP4rev1 SASL-IR LITERAL+ IDLE UNSELECT;
  server {{
    listen 127.0.0.1:{self.port} backlog=4096;
    protocol {self.protocol};
    proxy on;
  }}
}}
""")
        with self.log() as log:
            self.group.start(["nginx", "-c", conf, "-e", folder / "log"], stderr=log)


class Haproxy(Part):
    name = "haproxy TCP"
    packages = ("haproxy",)

    def launch(self, backend_port):
        clients = backend = ""
        if self.tls.clients:
            clients = f" ssl crt {self.tls.certificates.server.both_path}"
        if self.tls.backend:
            backend = f" ssl verify required ca-file {self.tls.certificates.authority}"
        conf = self.write("conf", f"""global
  nbthread 2
  maxconn 5000
defaults
  mode tcp
  option splice-auto
  timeout connect 5s
  timeout client 10m
  timeout server 10m
frontend imap
  bind 127.0.0.1:{self.port} backlog 4096{clients}
  default_backend host
backend host
  server one 127.0.0.1:{backend_port}{backend}
""")
        self.group.start(["haproxy", "-db", "-f", conf])


class DovecotProxy(Part):
    name = "Dovecot proxy"
    packages = ("dovecot-imapd",)

    def launch(self, backend_port):
        folder = self.folder.path
        self.folder.make("run")
        backend = f"host=127.0.0.1 port={backend_port}{' ssl=yes' if self.tls.backend else ''}"
        rest = f"passdb {{\n  driver = static\n  args = proxy=y nopassword=y {backend}\n}}\n"
        ports = (0, self.port) if self.tls.clients else (self.port, 0)
        conf = self.write("conf", dovecot_conf(folder, self.tls, *ports, LOGIN_FAST, rest, self.protocol))
        self.group.start(["dovecot", "-F", "-c", conf])


class Direct:
    """No proxy: the mail host itself."""
    name, group, starttls = "direct", None, False

    def __init__(self, tls=PLAIN):
        # What a proxy would speak to the mail host, the client speaks.
        self.tls = Tls(tls.certificates, clients=tls.backend, backend=tls.backend)

    def missing(self):
        return None

    def start(self, backend_port=0):
        self.port = backend_port
        return self

    def stop(self):
        pass


def all_peers(build):
    """Makers of the proxies, by name, in the order of the tables."""
    makers = (Direct, Imapproxy, Nginx, Haproxy, DovecotProxy, lambda: Keepwarm(build))
    return {make().name: make for make in makers}


def tls_peers(build, tls):
    """Those that can do it: nginx speaks no TLS to a mail host, imapproxy none with clients."""
    makers = [Haproxy, DovecotProxy] if tls.clients else [Direct, Imapproxy, Haproxy, DovecotProxy]
    found = {make.name: lambda make=make: make(tls) for make in makers}
    return found | {Keepwarm.name: lambda: Keepwarm(build, tls)}


def all_backends(build):
    makers = (lambda: Null(build), DovecotTuned, DovecotDefault, DovecotCrypt)
    return {make().name: make for make in makers}
