"""A private throwaway Dovecot on loopback: N users, one message each that names its owner.

User `userN` has the password `secretN`. Needs root (Dovecot's own users are used).
"""
import os
import re
import shutil
import signal
import subprocess

from keepwarm import process
from keepwarm.imap import Client
from keepwarm.system import temp_folder

CONF = """
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log
protocols = {protocols}
listen = {addresses}
disable_plaintext_auth = no
auth_mechanisms = plain login
mail_location = maildir:~/Maildir
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
first_valid_gid = 1
mail_max_userip_connections = 0
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
service imap-login {{
  service_count = 0
  client_limit = 1000
  inet_listener imap {{
    address = {addresses}
    port = {port}
  }}
  inet_listener imaps {{
    address = {addresses}
    port = {tls_port}
  }}
}}
service imap {{
  process_limit = 500
  service_count = 100
}}
service stats {{
  process_min_avail = 0
}}
auth_failure_delay = 0
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""

POP3 = """
service pop3-login {{
  inet_listener pop3 {{
    address = {addresses}
    port = {port}
  }}
  inet_listener pop3s {{
    address = {addresses}
    port = {tls_port}
  }}
}}
"""

# verbose_ssl: a line for each handshake that begins.
TLS = """
ssl = yes
ssl_cert = <{cert}
ssl_key = <{key}
ssl_min_protocol = {oldest}
verbose_ssl = yes
login_log_format_elements = user=<%u> method=%m rip=%r lip=%l mpid=%e %c %k session=<%s>
import_environment = OPENSSL_CONF={folder}/openssl.cnf
"""
OPENSSL = """openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = versions
[versions]
MinProtocol = {oldest}
MaxProtocol = {newest}
"""

MESSAGE = ("From: sender@example.test\r\nTo: {user}@example.test\r\nSubject: marker of {user}\r\n\r\n"
           "This is the mail of <{user}>.\r\n")


class Dovecot:
    def __init__(self, users=50, extra="", cert=None, others=None, oldest="TLSv1.2", newest="TLSv1.3",
                 address="127.0.0.1", ports=None):
        """users: how many, or their names. ports: of IMAP and POP3. extra: lines for the end of dovecot.conf. cert: a certificate (certs.py) for STARTTLS and a port for
        implicit TLS; others: {address: its certificate}, more addresses to listen on; TLS of these versions."""
        self.folder = temp_folder()
        self.address = address
        self.port, self.pop3_port = ports or (process.free_port(), process.free_port())
        self.tls_port, self.pop3s_port = (process.free_port(), process.free_port()) if cert else (0, 0)
        addresses = ", ".join([address, *(others or {})])
        protocols = "imap" if missing("pop3") else "imap pop3"
        if protocols != "imap":
            extra = POP3.format(addresses=addresses, port=self.pop3_port, tls_port=self.pop3s_port) + extra
        self.environment = None
        if cert:
            extra += TLS.format(cert=cert.path, key=cert.key_path, folder=self.folder, oldest=oldest)
            (self.folder / "openssl.cnf").write_text(OPENSSL.format(oldest=oldest, newest=newest))
            self.environment = dict(os.environ, OPENSSL_CONF=str(self.folder / "openssl.cnf"))
        else:
            extra += "ssl = no\n"
        for address, other in (others or {}).items():
            extra += f"local {address} {{\n  ssl_cert = <{other.path}\n  ssl_key = <{other.key_path}\n}}\n"
        self.log = self.folder / "log"
        self.names = [f"user{n}" for n in range(1, users + 1)] if isinstance(users, int) else list(users)
        (self.folder / "run").mkdir()
        (self.folder / "dovecot.conf").write_text(
            CONF.format(folder=self.folder, port=self.port, tls_port=self.tls_port, addresses=addresses,
                        protocols=protocols) + extra)
        self.passwords = {name: self.password(name) for name in self.names}
        self.write_passwords()
        for name in self.names:
            self.deliver(name)
        self.master = None

    @staticmethod
    def password(name):
        return "secret" + name.removeprefix("user")

    def write_passwords(self):
        """In one step: Dovecot reads the file again when it has changed."""
        lines = [f"{name}:{{PLAIN}}{password}::::::\n" for name, password in self.passwords.items()]
        (self.folder / "users.new").write_text("".join(lines))
        (self.folder / "users.new").rename(self.folder / "users")

    def set_password(self, name, password):
        """Gives the user another password, or with None removes the user; returns when Dovecot has noticed, which
        looks at the file once in a second."""
        old = self.passwords.pop(name)
        if password is not None:
            self.passwords[name] = password
        self.write_passwords()

        def noticed():
            with Client(self.port) as client:
                return client.login(name, old).tagged.startswith(b"NO [AUTHENTICATIONFAILED]")
        process.wait_until(noticed, "Dovecot does not see the change")

    def maildir(self, name):
        return self.folder / "mail" / name / "Maildir"

    def deliver(self, name):
        maildir = self.maildir(name)
        for part in ("cur", "new", "tmp"):
            (maildir / part).mkdir(parents=True)
        (maildir / "cur" / "1700000000.M1P1.host:2,S").write_text(MESSAGE.format(user=name), newline="")
        for path in [self.folder / "mail", maildir.parent, *maildir.parent.rglob("*")]:
            shutil.chown(path, "nobody", "nogroup")

    def start(self):
        self.master = process.start(["dovecot", "-F", "-c", self.folder / "dovecot.conf"],
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL, env=self.environment)
        process.wait_until(self.greets, lambda: "Dovecot does not greet:\n" + self.log_text(), process.START_DEADLINE)
        return self

    def greets(self):
        assert self.master.poll() is None, "Dovecot has ended:\n" + self.log_text()
        try:
            with Client(self.port, self.address) as client:
                return client.greeting.startswith(b"* OK")
        except (OSError, AssertionError):
            return False

    def halt(self):
        """Kills it with all that it has started; start() may follow."""
        children = process.read_proc(self.master.pid, f"task/{self.master.pid}/children").split()
        for pid in [self.master.pid, *map(int, children)]:
            os.kill(pid, signal.SIGKILL)
        self.master.wait(process.DEADLINE)
        self.master = None
        (self.folder / "run" / "master.pid").unlink(missing_ok=True)

    def stop(self):
        if self.master:
            self.master.terminate()
            self.master.wait(process.DEADLINE)
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def logins(self, name=None):
        """How many logins (of one user) have succeeded, by Dovecot's own log."""
        return len(re.findall(rf"imap-login: Info: Login: user=<{name or '[^>]*'}>", self.log_text()))

    def wait_logins(self, count, name=None):
        """So many and no more. (Its log lags behind what its clients hear.)"""
        process.wait_until(lambda: self.logins(name) >= count, self.log_text)
        assert self.logins(name) == count, self.log_text()

    def wait_said(self, pattern, count=1):
        """Its log has this so often, and no more often."""
        process.wait_until(lambda: len(re.findall(pattern, self.log_text())) >= count,
                           lambda: f"{pattern!r} not {count} times in\n{self.log_text()}")
        assert len(re.findall(pattern, self.log_text())) == count, self.log_text()

    def wait_ended(self, name=None):
        """All sessions (of one user) have ended, and are in its log from begin to end."""
        process.wait_until(lambda: self.sessions_ended(name) == self.logins(name), self.log_text)

    def handshakes(self):
        """How many TLS handshakes have begun."""
        return self.log_text().count("SSL: where=0x10, ret=1: before SSL initialization")

    def ends(self, name):
        """How the sessions of a user ended, in Dovecot's words."""
        return re.findall(rf"imap\({name}\)<\d+><[^>]*>: Info: Disconnected: (.*?)(?: \(| in=)", self.log_text())

    def sessions_ended(self, name=None):
        return len(re.findall(rf"imap\({name or '[^)]*'}\)<\d+><[^>]*>: Info: Disconnected", self.log_text()))


def missing(protocol="imap"):
    """Why Dovecot cannot be started here for this protocol, or None."""
    if os.getuid() != 0:
        return "a throwaway Dovecot needs root"
    there = shutil.which("dovecot") and os.path.exists(f"/usr/lib/dovecot/{protocol}")
    return None if there else f"dovecot-{protocol}d is not installed"
