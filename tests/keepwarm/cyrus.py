"""A private throwaway Cyrus IMAP on loopback. User `userN` (at most 350 of them) has the password `secretN`.

Mailboxes are made when deliver() is called; until then a user has an empty INBOX, made at the first login.
"""
from keepwarm import debroot

USERS = 350
PACKAGES = "cyrus-imapd cyrus-admin sasl2-bin libsasl2-modules"
# The passwords are made with the root: one process each is too slow for every start.
AFTER = f"""
i=0
while [ $i -lt {USERS} ]; do i=$((i + 1)); echo secret$i | saslpasswd2 -p -c -u localhost user$i; done
chown cyrus:mail /etc/sasldb2
"""
IMAPD_CONF = """
configdirectory: /var/lib/cyrus
proc_path: /run/cyrus/proc
mboxname_lockpath: /run/cyrus/lock
defaultpartition: default
partition-default: /var/spool/cyrus/mail
altnamespace: yes
unixhierarchysep: yes
allowplaintext: yes
servername: localhost
autocreate_quota: 0
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_mech_list: PLAIN LOGIN
sasl_minimum_layer: 0
failedloginpause: 0
idlesocket: /run/cyrus/socket/idle
notifysocket: /run/cyrus/socket/notify
syslog_prefix: cyrus
imapidlepoll: 1
duplicatesuppression: no
"""
CYRUS_CONF = """
START {{
  recover cmd="/usr/sbin/cyrus ctl_cyrusdb -r"
}}
SERVICES {{
  imap cmd="imapd" listen="127.0.0.1:{port}" prefork=1 maxchild=200
}}
EVENTS {{
}}
"""
START = """
mkdir -p /run/cyrus/proc /run/cyrus/lock /run/cyrus/socket /var/lib/cyrus /var/spool/cyrus/mail
chown -R cyrus:mail /run/cyrus /var/lib/cyrus /var/spool/cyrus
cp {data}/imapd.conf {data}/cyrus.conf /etc/
cyrmaster -D -p /run/cyrus/master.pid &
wait
"""


class Cyrus(debroot.Rooted):
    def __init__(self, users=10):
        assert users <= USERS
        super().__init__(root()[0], users)

    def start(self):
        (self.data / "imapd.conf").write_text(IMAPD_CONF)
        (self.data / "cyrus.conf").write_text(CYRUS_CONF.format(port=self.port))
        self.boot(START.format(data=self.data))
        return self


def root():
    return debroot.prepare("cyrus", PACKAGES, AFTER)


def missing():
    """Why Cyrus cannot be started here, or None. The first call on a machine takes a while."""
    return root()[1]
