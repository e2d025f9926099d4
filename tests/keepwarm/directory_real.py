"""Real directories with the same accounts in each: slapd, PostgreSQL, MariaDB and courier-authlib, throwaway ones.

Each has `place`, what a `directory` line says; stop() ends it for good, halt() and go() stop and start it.
"""
import os
import shutil
import signal
import subprocess

from keepwarm import courier, debroot, process
from keepwarm.directory import USERDB, readable
from keepwarm.process import DEADLINE, free_port, wait_until
from keepwarm.system import temp_folder

POSTGRES = "/usr/lib/postgresql/15/bin"
LONG = "x=" + "y" * 3000
# Everybody's password, and what openssl and slappasswd make of it; who is in CLEAR has another one in the clear.
PASSWORD = "Geh heim-7"
CRYPT = "$1$abcd$Pwjbt0vMUzY33P3IYgRhw0"
SSHA = "{SSHA}00ZuLWZ73A/xRVJqIElkjyMSvLyw/4OF"
CLEAR = {"bo": "Klar-4"}


def accounts(hosts):
    """name -> options; hosts: what two mail hosts are called."""
    return {
        "anna": f"mailhost={hosts[0]}", "bo": f"mailhost={hosts[1]}", "carl": "", "off": "mailhost=127.0.0.1,disableimap=1",
        "o'brien": f"mailhost={hosts[1]}", "back\\slash": f"mailhost={hosts[1]}", "st*r": f"mailhost={hosts[1]}",
        "(par)": f"mailhost={hosts[1]}", "m\u00fcller": f"mailhost={hosts[1]}", "odd": "mailhost=no/host", "long": LONG,
    }


class Real:
    user = None  # who it runs as
    needs = ()

    @classmethod
    def missing(cls):
        """Why it cannot be started here, or None."""
        if os.getuid() != 0:
            return "a directory server of another user needs root"
        lacking = [path for path in cls.needs if not os.path.exists(path)]
        return f"{lacking[0]} is not installed" if lacking else None

    def __init__(self, hosts):
        self.folder = temp_folder()
        self.accounts = accounts(hosts)
        self.port = free_port()
        self.log = self.folder / "log"
        self.process = None
        self.data = self.folder / "data"
        self.data.mkdir()
        shutil.chown(self.data, self.user)
        self.rc = self.folder / "rc"
        self.prepare()
        self.write_rc()
        self.go()

    def write_rc(self, **changes):
        settings = {**self.settings(), **changes}
        self.rc.write_text("".join(f"{name}\t\t{value}\n" for name, value in settings.items() if value is not None))
        readable(self.rc)

    def run(self, argv, text=""):
        with open(self.log, "ab") as log:
            subprocess.run(["setpriv", f"--reuid={self.user}", "--clear-groups", "--", *map(str, argv)], stdout=log,
                           stderr=log, input=text.encode(), cwd=self.data, check=True, timeout=60)

    def launch(self, argv):
        with open(self.log, "ab") as log:
            self.process = process.start(["setpriv", f"--reuid={self.user}", "--clear-groups", "--", *argv],
                                         signal="KILL", stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.data)
        wait_until(self.answers, lambda: "it does not answer:\n" + self.log.read_text(errors="replace"), 60)

    def answers(self):
        assert self.process.poll() is None, "it has ended:\n" + self.log.read_text(errors="replace")
        return subprocess.run(self.probe(), capture_output=True, check=False, timeout=DEADLINE).returncode == 0

    def halt(self, number=signal.SIGTERM):
        if self.process:
            self.process.send_signal(number)
            self.process.wait(DEADLINE)
            self.process = None

    def freeze(self, number=signal.SIGSTOP):
        children = process.read_proc(self.process.pid, f"task/{self.process.pid}/children").split()
        pids = [self.process.pid, *map(int, children)]
        for pid in pids:
            os.kill(pid, number)
        if number == signal.SIGSTOP:
            wait_until(lambda: all(map(process.is_stopped, pids)), "not stopped")
        return lambda: self.freeze(signal.SIGCONT)

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def place(self):
        return f"{self.kind}:{self.rc}"


class Slapd(Real):
    kind, user = "ldap", "openldap"
    needs = ("/usr/sbin/slapd", "/usr/bin/ldapsearch")
    BASE = "dc=example,dc=test"

    def prepare(self):
        (self.data / "conf").write_text(
            "".join(f"include /etc/ldap/schema/{name}.schema\n" for name in ("core", "cosine", "inetorgperson")) +
            f"modulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile {self.data}/pid\nthreads 4\ndatabase mdb\n"
            f"maxsize 10485760\ndbnosync\nsuffix {self.BASE}\nrootdn cn=admin,{self.BASE}\nrootpw admin\n"
            f'directory {self.data}\nindex uid eq\naccess to attrs=userPassword by dn="cn=proxy,{self.BASE}" read '
            "by anonymous auth by * none\n"
            f'access to * by dn="cn=proxy,{self.BASE}" read by * none\n')
        entries = [f"dn: {self.BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: e\n",
                   f"dn: cn=proxy,{self.BASE}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n"
                   "cn: proxy\nuserPassword: proxy\n"]
        for number, (name, options) in enumerate([*self.accounts.items(), ("twice", ""), ("twice", "")]):
            entry = f"dn: cn=a{number},{self.BASE}\nobjectClass: inetOrgPerson\nsn: x\ncn: a{number}\nuid: {name}\n" \
                    f"userPassword: {SSHA}\n" + (f"carLicense: {CLEAR[name]}\n" if name in CLEAR else "")
            # mail host and disableimap in attributes that the schema has
            for option in filter(None, options.split(",")):
                attribute, value = option.split("=", 1)
                entry += {"mailhost": "roomNumber", "disableimap": "employeeType"}.get(attribute, "title") + f": {value}\n"
            entries.append(entry)
        self.run(["/usr/sbin/slapadd", "-q", "-f", self.data / "conf"], "\n".join(entries))

    def settings(self):
        return {"LDAP_URI": f"ldap://127.0.0.1:{self.port}", "LDAP_BASEDN": self.BASE, "LDAP_MAIL": "uid",
                "LDAP_INITBIND": 1, "LDAP_BINDDN": f"cn=proxy,{self.BASE}", "LDAP_BINDPW": "proxy",
                "LDAP_FILTER": "(objectClass=inetOrgPerson)", "LDAP_CRYPTPW": "userPassword", "LDAP_CLEARPW": "carLicense",
                "LDAP_AUXOPTIONS": "roomNumber=mailhost,employeeType=disableimap,title=x"}

    def go(self):
        self.launch(["/usr/sbin/slapd", "-d", "0", "-f", self.data / "conf", "-h", f"ldap://127.0.0.1:{self.port}/"])

    def probe(self):
        return ["ldapsearch", "-x", "-LLL", "-H", f"ldap://127.0.0.1:{self.port}/", "-D", f"cn=proxy,{self.BASE}", "-w",
                "proxy", "-b", self.BASE, "-s", "base", "dn"]


def rows(names, quote):
    """INSERT statements; `twice` is in no table twice, its name is the key."""
    return "".join(f"INSERT INTO accounts VALUES ({quote(name)}, '{CRYPT}', '{CLEAR.get(name, '')}', 'x', 5000, 5000, '/home', "
                   f"NULL, {quote(options)});\n" for name, options in names.items()) + \
        "INSERT INTO accounts VALUES ('root', NULL, NULL, 'x', 0, 0, '/root', NULL, 'mailhost=evil');\n" \
        "INSERT INTO accounts VALUES ('nothing', NULL, NULL, NULL, 1, 1, '/home', NULL, NULL);\n"


TABLE = "CREATE TABLE accounts (id varchar(128) PRIMARY KEY, crypt varchar(128), clear varchar(128), name varchar(128), " \
    "uid int, gid int, home varchar(255), quota varchar(255), options text);\n"


class Postgres(Real):
    kind, user = "pgsql", "postgres"
    needs = (f"{POSTGRES}/postgres", f"{POSTGRES}/initdb", "/usr/bin/psql")

    def prepare(self):
        self.run([f"{POSTGRES}/initdb", "-D", self.data / "db", "--no-sync", "-A", "trust", "-E", "UTF8",
                  "--locale=C.UTF-8"])
        with open(self.data / "db/postgresql.conf", "a", encoding="ascii") as file:
            file.write(f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = '{self.data}'\n"
                       "fsync = off\nshared_buffers = 16MB\n")
        self.go()
        sql = TABLE + rows(self.accounts, lambda text: "'" + text.replace("'", "''") + "'")
        self.run(["/usr/bin/psql", "-q", "-h", self.data, "-p", self.port, "-d", "postgres", "-v", "ON_ERROR_STOP=1"], sql)
        self.halt(signal.SIGINT)

    def settings(self):
        return {"PGSQL_CONNECTION": f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres",
                "PGSQL_USER_TABLE": "accounts", "PGSQL_CRYPT_PWFIELD": "crypt", "PGSQL_CLEAR_PWFIELD": "clear",
                "PGSQL_AUXOPTIONS_FIELD": "options", "PGSQL_NAME_FIELD": "name"}

    def go(self):
        self.launch([f"{POSTGRES}/postgres", "-D", self.data / "db"])

    def probe(self):
        return [f"{POSTGRES}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]

    def halt(self, number=signal.SIGINT):
        super().halt(number)


class Mariadb(Real):
    kind, user = "mysql", "mysql"
    needs = ("/usr/sbin/mariadbd", "/usr/bin/mariadb-install-db", "/usr/bin/mariadb")

    def prepare(self):
        self.run(["mariadb-install-db", "--no-defaults", f"--datadir={self.data}/db",
                  "--auth-root-authentication-method=normal", "--skip-test-db"])
        self.go()
        sql = "CREATE DATABASE mail CHARACTER SET utf8mb4; USE mail;\n" + TABLE + \
            rows(self.accounts, lambda text: "'" + text.replace("\\", "\\\\").replace("'", "''") + "'") + \
            "CREATE USER proxy@'%' IDENTIFIED BY 'proxy'; GRANT SELECT ON mail.* TO proxy@'%';\n"
        self.run(["mariadb", "--no-defaults", "--default-character-set=utf8mb4", "-u", "root", "-S", self.data / "sock"], sql)
        self.halt()

    def settings(self):
        return {"MYSQL_SERVER": "127.0.0.1", "MYSQL_PORT": self.port, "MYSQL_USERNAME": "proxy", "MYSQL_PASSWORD": "proxy",
                "MYSQL_OPT": 0, "MYSQL_DATABASE": "mail", "MYSQL_USER_TABLE": "accounts", "MYSQL_CHARACTER_SET": "utf8mb4",
                "MYSQL_CRYPT_PWFIELD": "crypt", "MYSQL_CLEAR_PWFIELD": "clear", "MYSQL_AUXOPTIONS_FIELD": "options"}

    def go(self):
        self.launch(["/usr/sbin/mariadbd", "--no-defaults", f"--datadir={self.data}/db", f"--socket={self.data}/sock",
                     f"--pid-file={self.data}/pid", "--bind-address=127.0.0.1", f"--port={self.port}",
                     "--innodb-buffer-pool-size=16M", "--innodb-flush-method=nosync", "--skip-name-resolve",
                     "--performance-schema=OFF"])

    def probe(self):
        return ["mariadb-admin", "--no-defaults", "-u", "root", "-S", self.data / "sock", "ping"]


AUTHLIB_START = """
mkdir -p /run/courier/authdaemon {data}/run
chown courier: {data}/run
chmod 755 {data}/run
mount --bind {data}/run /run/courier/authdaemon
install -m 600 {data}/userdb /etc/courier/userdb
makeuserdb
/usr/lib/courier/courier-authlib/authdaemond &
wait
"""


class Authlib(debroot.Rooted):
    """courier-authlib with userdb, in a root of its own; its socket is in the folder that it shares."""
    kind = "authdaemon"

    def __init__(self, hosts):
        super().__init__(courier.root()[0], 0)
        self.accounts = accounts(hosts)
        text = "".join(USERDB.format(name=name, options=options) for name, options in self.accounts.items())
        text = text.replace("$1$x$y", CRYPT)
        (self.data / "userdb").write_text(text)
        self.socket = self.data / "run" / "socket"
        self.go()

    @staticmethod
    def missing():
        return courier.missing()

    def go(self):
        self.boot(AUTHLIB_START.format(data=self.data))

    def greets(self):
        assert self.outer.poll() is None, "authdaemond has ended:\n" + self.log_text()
        return self.socket.is_socket()

    def halt(self):
        self.outer.kill()
        self.outer.wait(DEADLINE)
        self.socket.unlink()

    @property
    def place(self):
        return f"authdaemon:{self.socket}"
