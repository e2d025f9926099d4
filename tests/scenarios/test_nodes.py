"""Three hosts with one configuration file, each proxy and mail host: who comes in anywhere finds his mail where it is,
over one hop at most."""
import random
import re

import pytest

from keepwarm import nodes as hosts
from keepwarm import pop3, process
from keepwarm.backend import Backend
from keepwarm.directory import Userdb

pytestmark = pytest.mark.skipif(hosts.missing() is not None, reason=str(hosts.missing()))
COUNT, USERS = 3, 30
# How a record may call node N; all but the first two are found by address.
SPELLINGS = ("node{0}", "NODE{0}.Site.Test", f"{hosts.NETWORK}.{{0}}", "alias{0}.site.test",
             "imap://node{0}:143 pop3://alias{0}.site.test:110")


class Site:
    """Nodes whose mail servers are scripted; `home` says on which node a user's mail is."""

    def __init__(self, **config):
        self.home = {f"user{n}": n % COUNT + 1 for n in range(USERS)}
        self.userdb = Userdb(**{user: "mailhost=" + SPELLINGS[n // COUNT % len(SPELLINGS)].format(self.home[user])
                                for n, user in enumerate(self.home)})
        self.nodes = hosts.Nodes(COUNT, directory=self.userdb, **config)
        self.servers = []

    def start(self, at_path):
        self.nodes.config["local_server"] = f"unix:{self.nodes.local}/imap" if at_path else "127.0.0.1:1143"
        self.nodes.config["pop3_local_server"] = "127.0.0.1:1110"
        for node in self.nodes:
            node.imap_server = Backend(listener=node.listen_at("imap") if at_path else node.listen(1143))
            node.pop3_server = pop3.Host(listener=node.listen(1110))
            self.servers += [node.imap_server, node.pop3_server]
        self.nodes.start()
        return self

    def everybody_everywhere(self):
        """(user, node, service) for all of them, at random."""
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        visits = [(user, node, service) for user in self.home for node in self.nodes for service in ("imap", "pop3")]
        random.Random(seed).shuffle(visits)
        return visits

    @staticmethod
    def reads_mail(user, node, service):
        mail = f"The mail of <{user}>" if service == "pop3" else f"This is the mail of <{user}>"
        if service == "pop3":
            with node.pop3(user, f"pw-{user}") as client:
                client.ok("RETR 1")
                assert mail.encode() in client.rest(), (user, node.name)
                client.ok("QUIT")
            return
        client = node.imap(user, f"pw-{user}")
        client.ok("SELECT INBOX")
        assert mail.encode() in client.ok("FETCH 1 BODY[]").text, (user, node.name)
        client.logout()

    def asked(self, node):
        """Who logged in at a node's own servers, how often: {(user, service): count}."""
        counts = {}
        for service, server in (("imap", node.imap_server), ("pop3", node.pop3_server)):
            for login in server.logins:
                counts[login.user, service] = counts.get((login.user, service), 0) + 1
        return counts

    def visitors(self, node):
        """Of how many sessions the clients were at which address, as the node's log says."""
        found = re.findall(r"session ended .* client=([\d.]+) port=", node.log_text())
        return {address: found.count(address) for address in set(found)}

    def stop(self):
        try:
            self.nodes.stop()
        finally:
            for server in self.servers:
                server.stop()
            self.userdb.stop()


@pytest.fixture
def site(make):
    def made(at_path=False, **config):
        one = Site(**config)
        make.started.append(one)
        return one.start(at_path)
    return made


@pytest.mark.parametrize("at_path", [False, True], ids=["port", "path"])
def test_everybody_finds_his_mail_from_everywhere_over_one_hop(site, at_path):
    site = site(at_path, cache_expiration_time=0)
    for visit in site.everybody_everywhere():
        site.reads_mail(*visit)
    for node in site.nodes:
        here = [user for user, home in site.home.items() if home == node.number]
        # each once from each node, and nobody else
        assert site.asked(node) == {(user, service): COUNT for user in here for service in ("imap", "pop3")}
    site.nodes.stop_proxies()
    for node in site.nodes:
        others = {other.address: 2 * USERS // COUNT for other in site.nodes if other is not node}
        assert site.visitors(node) == {hosts.CLIENTS: 2 * USERS, **others}, "a hop too many"


def test_with_a_cache_everybody_finds_only_his_own(site):
    site = site(True)
    for _ in range(2):
        for visit in site.everybody_everywhere():
            site.reads_mail(*visit)
    for node in site.nodes:
        asked = site.asked(node)
        assert {site.home[user] for user, _ in asked} == {node.number}
        assert all(1 <= count <= 2 * COUNT for count in asked.values()), asked
        assert node.counter("logins_reused") > USERS // 2
    site.nodes.stop_proxies()
    for node in site.nodes:
        assert set(site.visitors(node)) <= {hosts.CLIENTS, *(other.address for other in site.nodes if other is not node)}


def test_an_address_that_moves_is_served_where_it_is(site):
    """As with keepalived: no node dials the address while it has it, whatever was true a moment ago."""
    site = site(cache_expiration_time=0)
    shared = f"{hosts.NETWORK}.100"
    site.userdb.write(vip=f"mailhost={shared}")
    nodes = list(site.nodes)
    for number, holder in enumerate(nodes + nodes[:1]):
        for node in nodes:
            if node is not holder and shared in node.space.run("ip", "-o", "addr"):
                node.space.run("ip", "addr", "del", f"{shared}/24", "dev", "eth0")
        holder.space.run("ip", "addr", "add", f"{shared}/24", "dev", "eth0")
        for node in nodes:
            node.space.run("ip", "neigh", "flush", "dev", "eth0")
        before = [len(node.imap_server.logins) for node in nodes]
        site.reads_mail("vip", holder, "imap")
        after = [len(node.imap_server.logins) for node in nodes]
        assert [b - a for a, b in zip(before, after)] == [int(node is holder) for node in nodes], number
        for node in nodes:
            def arrives(node=node, holder=holder):
                count = len(holder.imap_server.logins)
                site.reads_mail("vip", node, "imap")
                return len(holder.imap_server.logins) == count + 1
            process.wait_until(arrives, f"{node.name} does not find {holder.name}")
    site.nodes.stop_proxies()
    for node in nodes:
        assert node.address not in site.visitors(node) and shared not in site.visitors(node)


def test_each_node_says_what_a_login_there_would_find(site):
    site = site()
    for user, home in site.home.items():
        for node in site.nodes:
            for service, port in (("imap", 1143), ("pop3", 1110)):
                is_here = f"mail host: local server 127.0.0.1 port {port}, no TLS" in node.tell(user, service)
                assert is_here == (home == node.number), (user, node.name, node.tell(user, service))
