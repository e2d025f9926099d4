"""A private throwaway Courier IMAP on loopback. User `userN` has the password `secretN`.

Mail is in the folder that it shares with this machine: `maildir(name)`.
"""
import shutil
import subprocess

from keepwarm import debroot

PACKAGES = "courier-imap courier-authlib-userdb"
AFTER = r"""
sed -i 's/^authmodulelist=.*/authmodulelist="authuserdb"/; s/^daemons=.*/daemons=5/' /etc/courier/authdaemonrc
sed -i 's/^MAXDAEMONS=.*/MAXDAEMONS=200/; s/^MAXPERIP=.*/MAXPERIP=200/' /etc/courier/imapd
"""
START = """
mkdir -p /run/courier/authdaemon
chown -R courier: /run/courier
install -m 600 {data}/userdb /etc/courier/userdb
makeuserdb
/usr/lib/courier/courier-authlib/authdaemond &
while [ ! -S /run/courier/authdaemon/socket ]; do :; done
set -a
prefix=/usr exec_prefix=/usr sbindir=/usr/sbin bindir=/usr/bin
. /etc/courier/imapd
. /etc/courier/imapd-ssl
IMAP_STARTTLS=NO IMAP_TLS=0 TLS_REQUIRED=0
IMAP_USELOCKS=0 # its processes would wait for each other, for minutes when the machine is busy
GAM_CLIENT_ID={port} # else the Couriers of other tests share one gam_server, which ends with whichever started it
set +a
couriertcpd -address=127.0.0.1 -maxprocs=200 -maxperip=200 -nodnslookup -noidentlookup \\
	-stderrlogger=/usr/sbin/courierlogger {port} /usr/lib/courier/courier/imaplogin /usr/bin/imapd Maildir &
wait
"""
USERDB = "{name}\tuid=65534|gid=65534|home={home}|mail={home}/Maildir|systempw={digest}\n"


class Courier(debroot.Rooted):
    def __init__(self, users=10):
        super().__init__(root()[0], users)
        passwords = "\n".join(map(self.password, self.names))
        digests = subprocess.run(["openssl", "passwd", "-1", "-stdin"], input=passwords, capture_output=True, text=True,
                                 check=True).stdout.split()
        (self.data / "mail").mkdir()
        lines = []
        for name, digest in zip(self.names, digests):
            lines.append(USERDB.format(name=name, home=self.maildir(name).parent, digest=digest))
            for part in ("cur", "new", "tmp"):
                (self.maildir(name) / part).mkdir(parents=True)
            self.own(name)
        (self.data / "userdb").write_text("".join(lines))

    def maildir(self, name):
        return self.data / "mail" / name / "Maildir"

    def own(self, name):
        """Gives all of a user's mail to him."""
        home = self.maildir(name).parent
        for path in [home, *home.rglob("*")]:
            shutil.chown(path, 65534, 65534)

    def start(self):
        self.boot(START.format(data=self.data, port=self.port))
        return self


def root():
    return debroot.prepare("courier", PACKAGES, AFTER)


def missing():
    """Why Courier cannot be started here, or None. The first call on a machine takes a while."""
    return root()[1]
