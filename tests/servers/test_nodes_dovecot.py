"""Three hosts with one configuration file and a Dovecot each, on Unix sockets: everybody finds his mail from everywhere."""
import random
import socket

import pytest

from keepwarm import dovecot
from keepwarm import nodes as hosts
from keepwarm import process
from keepwarm.directory import Userdb

MISSING = hosts.missing() or dovecot.missing("imap") or dovecot.missing("pop3")
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
COUNT, USERS = 3, 30
SOCKETS = "".join("service %s-login {{\n  unix_listener {local}/%s {{\n    mode = 0666\n  }}\n}}\n" % (name, name)
                  for name in ("imap", "pop3"))


class NodesDovecot(dovecot.Dovecot):
    """A Dovecot inside a node, which knows only the users that are at home there."""

    def __init__(self, node, home):
        super().__init__(users=USERS, extra=SOCKETS.format(local=node.nodes.local))
        self.node = node
        self.passwords = {name: word for name, word in self.passwords.items() if home[name] == node.number}
        self.write_passwords()

    def start(self):
        self.master = process.start(self.node.space.command("dovecot", "-F", "-c", self.folder / "dovecot.conf"),
                                    cwd="/")
        process.wait_until(self.greets, lambda: "Dovecot does not greet:\n" + self.log_text())
        return self

    def greets(self):
        assert self.master.poll() is None, "Dovecot has ended:\n" + self.log_text()
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(self.node.path_of("imap"))
                return sock.recv(1) == b"*"
            except OSError:
                return False

    def logged_in(self, service):
        """Who has, how often."""
        words = self.log_text().split(f"{service}-login: Info: Login: user=<")[1:]
        names = [word.partition(">")[0] for word in words]
        return {name: names.count(name) for name in set(names)}


@pytest.fixture
def site(make):
    home = {f"user{n}": n % COUNT + 1 for n in range(1, USERS + 1)}
    userdb = Userdb(**{user: f"mailhost={('node{}', hosts.NETWORK + '.{}')[n % 2].format(number)}"
                       for n, (user, number) in enumerate(home.items())})
    make.started.append(userdb)
    nodes = hosts.Nodes(COUNT, directory=userdb, cache_expiration_time=0)
    make.started.append(nodes)
    nodes.home = home
    nodes.config.update(local_server=f"unix:{nodes.local}/imap", pop3_local_server=f"unix:{nodes.local}/pop3")
    for node in nodes:
        node.dovecot = NodesDovecot(node, home)
        make.started.append(node.dovecot)
        node.dovecot.start()
    return nodes.start()


def test_everybody_finds_his_mail_in_dovecot_over_one_hop(site):
    visits = [(user, node) for user in site.home for node in site]
    random.shuffle(visits)
    for user, node in visits:
        marker = f"This is the mail of <{user}>".encode()
        client = node.imap(user, dovecot.Dovecot.password(user))
        client.ok("SELECT INBOX")
        assert marker in client.ok("FETCH 1 BODY[]").text
        client.logout()
        with node.pop3(user, dovecot.Dovecot.password(user)) as reader:
            reader.ok("RETR 1")
            assert marker in reader.rest()
            reader.ok("QUIT")
    for node in site:
        here = {user: COUNT for user, number in site.home.items() if number == node.number}
        for service in ("imap", "pop3"):
            process.wait_until(lambda service=service, node=node, here=here: node.dovecot.logged_in(service) == here,
                               lambda: f"not once from each node: {node.dovecot.logged_in(service)}")
