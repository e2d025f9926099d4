"""Mail hosts and proxies as the bench starts them: their settings, each in a folder of its own.

Every one has a name, the packages it needs, start(folder, group, backend_port) and port. The settings
are those that make it fast: a peer that is slow because of us would prove nothing.
"""
import os
import shutil
import subprocess
from pathlib import Path

import parts

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


class Part:
    """One server. `users` is how many accounts a load may draw from."""
    name = ""
    packages = ()
    users = 1000

    def __init__(self):
        self.port = parts.free_port()
        self.folder = self.group = None

    def missing(self):
        """Why it cannot be started here, or None."""
        return parts.install(self.packages)

    def start(self, backend_port=0):
        self.folder = parts.Folder()
        self.group = parts.Group(f"{self.name.lower().replace(' ', '-')}-{self.port}")
        try:
            self.launch(backend_port)
            parts.wait_until(lambda: parts.greets(self.port), f"a greeting of {self.name}")
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

    def __init__(self, build):
        super().__init__()
        self.build = build

    def launch(self, backend_port):
        self.group.start([self.build / "bench/null_backend", "-p", self.port])


DOVECOT = """
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
mail_max_userip_connections = 0
first_valid_uid = 1
first_valid_gid = 1
service imap-login {{
  inet_listener imap {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
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
service imap {{
  process_limit = 4000
{imap}
}}
{auth}
"""

# The high-performance mode of the manual: login processes that stay, several connections each.
LOGIN_FAST = "  service_count = 0\n  process_min_avail = 2\n  client_limit = 4000\n  process_limit = 2"


class Dovecot(Part):
    """A mail host with 20 messages in each account. The variants differ in what a login costs."""
    packages = ("dovecot-imapd",)
    users, messages = 200, MESSAGES
    login, imap, auth = "", "", ""

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
        rest = MAIL.format(folder=folder, imap=self.imap, auth=self.auth)
        self.write("conf", DOVECOT.format(folder=folder, port=self.port, login=self.login, rest=rest))
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
    imap = "  service_count = 1000\n  process_min_avail = 8"
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

    def __init__(self, build, **settings):
        super().__init__()
        self.build, self.settings = build, settings

    def launch(self, backend_port):
        bin_folder = self.folder.make("bin")
        for program in ("in.imapproxyd", "cachebrokerd", "lookupd", "proxyd"):
            shutil.copy2(self.build / program, bin_folder)  # a checkout in root's home is out of reach
        settings = {
            "server_hostname": "127.0.0.1", "server_port": backend_port,
            "listen_address": "127.0.0.1", "listen_port": self.port,
            "run_directory": self.folder.path / "run",
            "stat_filename": self.folder.make("state", NOBODY) / "pimpstats",
            "protocol_log_filename": "/dev/null",
            "foreground_mode": "yes", "cache_size": 4000, "cache_expiration_time": 3600,
        } | self.settings
        conf = self.write("imapproxy.conf", "".join(f"{key} {value}\n" for key, value in settings.items()))
        with self.log() as log:
            self.group.start([bin_folder / "in.imapproxyd", "-f", conf], stdout=log, stderr=log)

    @property
    def session_socket(self):
        return self.folder.path / "run" / "session"


class Imapproxy(Part):
    name = "imapproxy"
    packages = ("imapproxy",)

    def launch(self, backend_port):
        state = self.folder.make("state", NOBODY)
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
force_tls no
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
    protocol imap;
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
  bind 127.0.0.1:{self.port} backlog 4096
  default_backend host
backend host
  server one 127.0.0.1:{backend_port}
""")
        self.group.start(["haproxy", "-db", "-f", conf])


class DovecotProxy(Part):
    name = "Dovecot proxy"
    packages = ("dovecot-imapd",)

    def launch(self, backend_port):
        folder = self.folder.path
        self.folder.make("run")
        rest = ("passdb {\n  driver = static\n"
                f"  args = proxy=y nopassword=y host=127.0.0.1 port={backend_port}\n}}\n")
        conf = self.write("conf", DOVECOT.format(folder=folder, port=self.port, login=LOGIN_FAST, rest=rest))
        self.group.start(["dovecot", "-F", "-c", conf])


class Direct:
    """No proxy: the mail host itself."""
    name, group = "direct", None

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


def all_backends(build):
    makers = (lambda: Null(build), DovecotTuned, DovecotDefault, DovecotCrypt)
    return {make().name: make for make in makers}
