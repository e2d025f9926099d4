"""Two servers of a kind with the same users and mail: one is spoken to directly, Keepwarm is in front of the other.

Each conversation has a user of its own, userN on both, so that what one does to the mail is not seen by the next.
"""
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keepwarm import conversation, courier, cyrus, dovecot
from keepwarm.process import wait_until

DOVECOT_EXTRA = """
mail_plugins = acl quota
plugin {
  acl = vfile
  quota = maildir:User quota
  quota_rule = *:storage=10M
}
mail_attribute_dict = file:%h/attributes
protocol imap {
  mail_plugins = acl quota imap_acl imap_quota imap_zlib
  imap_metadata = yes
}
"""


def write_maildir(maildir: Path, messages):
    """Replaces what is there. Sizes are not in the names, so that a server has to look itself."""
    shutil.rmtree(maildir, ignore_errors=True)
    for part in ("cur", "new", "tmp"):
        (maildir / part).mkdir(parents=True)
    for number, (name, flags) in enumerate(messages, 1):
        path = maildir / "cur" / f"{conversation.SECONDS_OF_DATE + number}.M{number}P1.host:2,{flags}"
        path.write_bytes(conversation.MESSAGES[name])
        os.utime(path, (conversation.SECONDS_OF_DATE, conversation.SECONDS_OF_DATE))


def write_maildirs(root):
    for name, messages in conversation.MAILBOXES.items():
        folder = root if name == "INBOX" else root / f".{name}"
        write_maildir(folder, messages)
        if folder != root:
            (folder / "maildirfolder").touch()


class DovecotKind:
    name, module, prefix, warm_up = "dovecot", dovecot, "", "SELECT INBOX"

    @staticmethod
    def make(users):
        server = dovecot.Dovecot(users, DOVECOT_EXTRA)
        for name in server.names:
            write_maildirs(server.maildir(name))
            for path in server.maildir(name).rglob("*"):
                shutil.chown(path, "nobody", "nogroup")
            shutil.chown(server.maildir(name), "nobody", "nogroup")
        return server.start()

    @staticmethod
    def fill(server, user):
        pass


class CourierKind:
    name, module, prefix, warm_up = "courier", courier, "INBOX.", "SELECT INBOX"

    @staticmethod
    def make(users):
        server = courier.Courier(users)
        for name in server.names:
            write_maildirs(server.maildir(name))
            server.own(name)
        return server.start()

    @staticmethod
    def fill(server, user):
        pass


class CyrusKind:
    name, module, prefix, warm_up = "cyrus", cyrus, "", "SELECT INBOX"

    @staticmethod
    def make(users):
        return cyrus.Cyrus(users).start()

    @staticmethod
    def fill(server, user):
        """Cyrus keeps mail its own way, so it is appended, all of it in one write."""
        text, tags = b"", []
        for mailbox, messages in conversation.MAILBOXES.items():
            if mailbox != "INBOX":
                text += b"c%d CREATE %s\r\n" % (len(tags), mailbox.encode())
                tags.append(b"c%d" % len(tags))
            for message, flags in messages:
                body = conversation.MESSAGES[message]
                words = " ".join({"S": r"\Seen", "F": r"\Flagged", "T": r"\Deleted"}[flag] for flag in flags)
                text += b'c%d APPEND %s (%s) "%s" {%d+}\r\n%s\r\n' % (
                    len(tags), mailbox.encode(), words.encode(), conversation.DATE.encode(), len(body), body)
                tags.append(b"c%d" % len(tags))
        with conversation.login(server.port, user, server.password(user)) as client:
            client.send(text)
            for tag in tags:
                reply = client.reply(tag)
                assert reply.ok, reply


KINDS = [DovecotKind, CyrusKind, CourierKind]


class Pair:
    """The two servers, and a system in front of the second one."""

    TRIES = 10

    def __init__(self, kind, users, make_system):
        self.kind = kind
        self.direct = kind.make(users)
        try:
            self.behind = kind.make(users)
        except BaseException:
            self.direct.stop()
            raise
        self.system = make_system(self.behind)
        self.logins = 0  # made through the system

    def stop(self):
        self.direct.stop()
        self.behind.stop()

    def fill(self, user):
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda server: self.kind.fill(server, user), (self.direct, self.behind)))

    def session_before(self, port, user, commands):
        """What both sides have seen of the user before the conversation."""
        with conversation.login(port, user, self.direct.password(user)) as client:
            for command in commands:
                client.command(command)
            client.ok(self.kind.warm_up)  # behind them: what is turned on first can be told again
            client.send("z9 LOGOUT\r\n")
            assert client.reply("z9").ok
            client.expect_close()

    def fresh(self, user, before):
        """A new connection to the first server."""
        self.session_before(self.direct.port, user, before)
        return conversation.login(self.direct.port, user, self.direct.password(user))

    def reused(self, user, before):
        """A reused connection to the second server. A connection that is still on its way back is not waited for
        long by a login: then that one comes again."""
        for _ in range(self.TRIES):
            self.session_before(self.system.port, user, before)
            self.logins += 2
            client = conversation.login(self.system.port, user, self.behind.password(user))
            if client.login_reply.reused:
                return client
            client.logout()
        raise AssertionError(f"no connection of {user} is reused:\n{self.system.log_text()[-2000:]}")

    def offered(self, user, before):
        """The same for a client that has turned something on: its connection is only offered to it. A plain one lies
        in the cache as well, for the case that it wants that. fresh_logins() tells whether it got either."""
        plain = conversation.login(self.system.port, user, self.behind.password(user))
        self.session_before(self.system.port, user, before)
        plain.ok("NOOP")
        plain.logout()
        self.logins += 2
        self.fresh_logins()
        self.logins += 1
        return conversation.login(self.system.port, user, self.behind.password(user))

    def fresh_logins(self):
        """How many logins have been fresh, when all that there were are counted and over."""
        def is_over():
            stats = self.system.stats()
            return stats["counters"]["logins"] == self.logins and stats["gauges"]["active"] == 0
        wait_until(is_over, lambda: f"not {self.logins} logins: {self.system.stats()}\n{self.system.log_text()[-2000:]}")
        return self.system.counter("logins_fresh")

    def hold_offered(self, what, user):
        fresh, offers = self.fresh_logins(), self.offers()
        client = self.offered(user, what.before)
        lines = self.hold_one(client, self.behind, what.steps, user)
        assert self.fresh_logins() - fresh == 2, f"a login that should be reused was not:\n{self.system.log_text()[-1500:]}"
        assert self.offers() > offers, f"no connection was offered:\n{self.system.stats()}"
        return lines

    def offers(self):
        """Kept, given back untouched, or given up: a SELECT was refused on it."""
        return sum(self.system.counter(name) for name in ("offers_kept", "offers_swapped", "stale"))

    def hold(self, what, user):
        """The conversation on both sides: what the server said directly, and over a reused connection."""
        with ThreadPoolExecutor(2) as threads:
            direct = threads.submit(lambda: self.hold_one(self.fresh(user, what.before), self.direct, what.steps, user))
            if what.enables():
                behind = threads.submit(lambda: self.hold_offered(what, user))
                return direct.result(), behind.result()
            behind = threads.submit(lambda: self.hold_one(self.reused(user, what.before), self.behind, what.steps, user))
        return direct.result(), behind.result()

    def hold_one(self, client, server, steps, user):
        others = []

        def other(command):
            if not others:
                others.append(conversation.login(server.port, user, server.password(user)))
            others[0].command(command)
        try:
            return conversation.Held(client, self.kind.prefix, other).hold(steps)
        finally:
            for each in (client, *others):
                each.close()


