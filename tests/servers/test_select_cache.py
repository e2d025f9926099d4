"""enable_select_cache against real servers: what a session sees whose mailbox was left open, and what another one that
speaks to the server itself sees at the same time, byte for byte, while others change the mailbox in between.
"""
import random
import re

import pytest

from keepwarm import conversation, pairs
from keepwarm.process import wait_until
from keepwarm.system import SANITIZED

KINDS = [kind for kind in pairs.KINDS if not SANITIZED or kind is pairs.DovecotKind]
KEEPS = {"dovecot": True, "cyrus": False, "courier": False}  # HIGHESTMODSEQ; no UNSELECT
SECONDS = re.compile(rb"[\d.+ ]+ secs?\b")
PAGE = ["FETCH 1:* (UID FLAGS)", "UID SEARCH UNSEEN", r"STORE 1 +FLAGS (\Answered)", "NOOP", "STATUS {inbox} (MESSAGES)",
        "FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "CLOSE", "FETCH 1 FLAGS"]


def do(*commands):
    """A session's commands; {box} is the mailbox, {msg} a literal with a message."""
    return lambda client, box: [each(client, box) if callable(each) else client.ok(each.format(box=box)) for each in commands]


def append(client, box, text=conversation.MESSAGES["plain"]):
    client.send(b"ap APPEND %s {%d}\r\n" % (box.encode(), len(text)))
    client.expect(rb"\+.*\r\n")
    client.send(text + b"\r\n")
    assert client.reply("ap").ok


def replace(client, box):
    """Another mailbox of the same size takes its place."""
    do("CREATE {box}y", lambda c, b: [append(c, b + "y") for _ in range(3)], "RENAME {box} {box}x", "RENAME {box}y {box}")(
        client, box)


SELECT = "SELECT {box}"
# What another session does in between, and whether a server could still answer with what was kept.
CHANGES = {
    "nothing": (do("NOOP"), True),
    "others look": (do(SELECT, "FETCH 1:* BODY.PEEK[]", "NOOP"), True),
    "another mailbox changes": (do("CREATE {box}y", lambda c, b: append(c, b + "y")), True),
    "new mail": (append, False),
    "new mail that another session has seen": (do(append, SELECT), False),
    "a flag": (do(SELECT, r"STORE 1 +FLAGS (\Flagged)"), False),
    "the first unseen is seen": (do(SELECT, r"STORE 1:* +FLAGS (\Seen)"), None),
    "nothing is seen": (do(SELECT, r"STORE 1:* -FLAGS (\Seen)"), False),
    "a flag there and gone": (do(SELECT, r"STORE 1 +FLAGS (\Flagged)", r"STORE 1 -FLAGS (\Flagged)"), None),
    "a new keyword": (do(SELECT, "STORE 1 +FLAGS (kw)"), False),
    "a keyword there and gone": (do(SELECT, "STORE 1 +FLAGS (kw)", "STORE 1 -FLAGS (kw)"), None),
    "expunge": (do(SELECT, r"STORE 1 +FLAGS (\Deleted)", "EXPUNGE"), False),
    "expunge and new mail": (do(SELECT, r"STORE 1 +FLAGS (\Deleted)", "EXPUNGE", append, append), False),
    "deleted": (do("DELETE {box}"), False),
    "deleted and made again": (do("DELETE {box}", "CREATE {box}"), False),
    "renamed": (do("RENAME {box} {box}x"), False),
    "renamed and made again": (do("RENAME {box} {box}x", "CREATE {box}"), False),
    "another one in its place": (replace, False),
    "there and back": (do("RENAME {box} {box}x", "RENAME {box}x {box}"), None),
}
# What the next session begins with.
FIRSTS = ["EXAMINE {box}", 'EXAMINE "{box}"', "EXAMINE {box} (CONDSTORE)", "EXAMINE {inbox}", "SELECT {inbox}",
          "EXAMINE {box}none", "FETCH 1 FLAGS", "NOOP", "IDLE", "CLOSE", "UNSELECT", "CHECK", "EXPUNGE", 'LIST "" {box}',
          "STATUS {box} (MESSAGES RECENT)", "ENABLE QRESYNC", "NAMESPACE", "GETQUOTAROOT {box}"]
LATER = {"ENABLE QRESYNC": ["EXAMINE {box} (QRESYNC (1 1))"]}


class Server:
    """One server, and a system in front of it; each test has a user of its own."""

    def __init__(self, kind, make_once):
        self.kind, self.used, self.logins = kind, 0, 0
        self.server = kind.make(2 * (len(CHANGES) + len(FIRSTS) + 5))
        self.box, self.inbox = kind.prefix + "box", "INBOX"
        self.page = [each for each in PAGE if kind is not pairs.CourierKind or "STORE" not in each]  # it stores
        self.system = make_once.system(self.server, enable_select_cache="yes", cache_size=30)

    def user(self):
        self.used += 1
        user = f"user{self.used}"
        self.kind.fill(self.server, user)
        with self.direct(user) as client: # nothing is recent any more
            for box in (self.box, self.inbox):
                client.ok(f"SELECT {box}")
        return user

    def direct(self, user):
        return conversation.login(self.server.port, user, self.server.password(user))

    def through(self, user):
        self.logins += 1
        return conversation.login(self.system.port, user, self.server.password(user))

    def text(self, command):
        return command.format(box=self.box, inbox=self.inbox)

    def leave_open(self, user, command="EXAMINE {box}"):
        with self.through(user) as client:
            client.ok(self.text(command))
            client.ok("FETCH 1 FLAGS")
            self.leave(client)

    def next_session(self, user):
        client = self.through(user)
        if not client.login_reply.reused:
            client.close()
            raise AssertionError("a new connection")
        return client

    def converse(self, client, commands):
        lines = []
        for number, command in enumerate(commands):
            client.send(f"c{number} {self.text(command)}\r\n")
            line = b""
            while not line.startswith((b"c%d " % number, b"+")):
                line = client.line()
                lines.append(SECONDS.sub(b" <time>", line))
            if line.startswith(b"+"):
                client.send("DONE\r\n")
                lines.append(SECONDS.sub(b" <time>", client.line()))
        return lines

    def uses(self):
        return [self.system.counter("select_hits"), self.system.counter("select_misses")]

    def leave(self, *clients):
        """Nobody is there any more, and all connections have been given back or closed."""
        for client in clients:
            client.logout()

        def is_over():
            stats = self.system.stats()
            return stats["counters"]["logins"] == self.logins and stats["gauges"]["active"] == 0
        wait_until(is_over, lambda: f"not {self.logins} logins: {self.system.stats()}")


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def real(request, make_once):
    if request.param.module.missing():
        pytest.skip(request.param.module.missing())
    server = Server(request.param, make_once)
    yield server
    server.server.stop()


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_others_do_it_is_as_over_a_fresh_connection(real, change):
    what, same = CHANGES[change]
    user = real.user()
    before = real.uses()
    real.leave_open(user)
    with real.direct(user) as other:
        what(other, real.box)
    with real.next_session(user) as client, real.direct(user) as fresh:
        got = real.converse(client, ["EXAMINE {box}", *real.page])
        want = real.converse(fresh, ["EXAMINE {box}", *real.page])
        assert got == want
        real.leave(client)
    hits, misses = [now - then for now, then in zip(real.uses(), before)]
    if not KEEPS[real.kind.name]:
        assert (hits, misses) == (0, 0)
    elif same is not None:
        assert hits == same


@pytest.mark.parametrize("first", FIRSTS)
def test_whatever_a_session_begins_with_it_is_as_over_a_fresh_connection(real, first):
    """New mail has come, so that whatever still had the mailbox open would say so."""
    user, twin = real.user(), real.user()
    real.leave_open(user)
    commands = [first, *LATER.get(first, []), "NOOP", "STATUS {box} (MESSAGES RECENT)", "EXAMINE {box}", *real.page]
    for each in (user, twin):
        with real.direct(each) as other:
            append(other, real.box)
    with real.next_session(user) as client, real.direct(twin) as fresh:
        got = real.converse(client, commands)
        want = real.converse(fresh, commands)
        assert comparable(got) == comparable(want)
        real.leave(client)


def comparable(lines):
    return [line for _, line in conversation.neutral([(0, line) for line in lines])]


def test_recent_is_for_the_session_that_opens_the_mailbox_for_writing(real):
    """Not for a mailbox that lies open, nor for who asks it for news."""
    user, twin = real.user(), real.user()
    real.leave_open(user)
    for each in (user, twin):
        with real.direct(each) as other:
            append(other, real.box)
    with real.direct(user) as other, real.direct(twin) as fresh:
        assert comparable(real.converse(other, ["STATUS {box} (MESSAGES RECENT)"])) == comparable(
            real.converse(fresh, ["STATUS {box} (MESSAGES RECENT)"]))
    with real.next_session(user) as client, real.direct(twin) as fresh:
        assert comparable(real.converse(client, ["EXAMINE {box}"])) == comparable(real.converse(fresh, ["EXAMINE {box}"]))
        real.leave(client)
    with real.next_session(user) as client, real.direct(twin) as fresh:
        got = real.converse(client, ["SELECT {box}", *real.page])
        assert comparable(got) == comparable(real.converse(fresh, ["SELECT {box}", *real.page]))
        real.leave(client)


def test_the_first_unseen_that_a_fetch_has_told_is_not_stale(real):
    """The session whose mailbox is left open hears of the change in answer to its own FETCH; NOOP does not repeat it."""
    user = real.user()
    with real.through(user) as client, real.direct(user) as other:
        client.ok(real.text("EXAMINE {box}"))
        other.ok(real.text("SELECT {box}"))
        other.ok(r"STORE 1:* +FLAGS (\Seen)")
        client.ok("FETCH 1:* FLAGS")
        real.leave(client)
    with real.next_session(user) as client, real.direct(user) as fresh:
        assert real.converse(client, ["EXAMINE {box}", *real.page]) == real.converse(fresh, ["EXAMINE {box}", *real.page])


ROUNDS = 60


def test_changes_while_a_connection_is_on_its_way_back(real):
    """They fall between the commands that leave the mailbox open, or before, or behind them."""
    look = ["EXAMINE {box}", "FETCH 1:* (UID FLAGS)"]
    chance = random.Random(1)
    user, before = real.user(), real.uses()
    with real.direct(user) as other:
        other.ok(real.text("SELECT {box}"))
        changes = [lambda: append(other, real.box), lambda: other.ok(real.text("SELECT {box}")),
                   lambda: other.ok(rf"STORE 1 {chance.choice('+-')}FLAGS (\Seen)"),
                   lambda: other.ok(rf"STORE 2 {chance.choice('+-')}FLAGS (\Seen)"),
                   lambda: other.ok(f"STORE 1 +FLAGS (kw{chance.randrange(9)})"),
                   lambda: (other.ok(r"STORE 1 +FLAGS (\Deleted)"), append(other, real.box), other.ok("EXPUNGE"))]
        for number in range(ROUNDS):
            with real.through(user) as client, real.direct(user) as fresh:
                got, want = real.converse(client, look), real.converse(fresh, look)
                assert got == want, f"round {number}"
                if chance.random() < 0.3:
                    chance.choice(changes[2:5])()
                    client.ok("FETCH 1:* FLAGS")
                client.send("z9 LOGOUT\r\n")
                assert client.reply("z9").ok
                if chance.random() < 0.5:
                    client.expect_close()
            for _ in range(chance.randrange(3)):
                chance.choice(changes)()
    real.leave()
    assert real.system.log_text().count("reset-failed") == 0
    if KEEPS[real.kind.name]:
        hits, misses = [now - then for now, then in zip(real.uses(), before)]
        assert hits > 5 and misses > 5


def test_several_sessions_in_a_row_and_at_once(real):
    user = real.user()
    for round_ in range(3):
        clients = [real.through(user) for _ in range(3)]
        with real.direct(user) as fresh:
            want = real.converse(fresh, ["EXAMINE {box}", *real.page])
        for client in clients:
            assert real.converse(client, ["EXAMINE {box}", *real.page]) == want
        real.leave(*clients)
        if round_:
            with real.direct(user) as other:
                append(other, real.box)
