"""Each rule of what may be left on a connection, how a client may leave and what a capability list may say: one named test.

A row is a session through Keepwarm that does something and leaves in some way; then the same user's next session must be
told what a fresh one at the server itself is told, after the same session there. The first part of its name:

    1    the cases in which up-imapproxy let the next session see what it should not, and the two beside them
    2.2  what each extension leaves on a connection
    2.3  how a client leaves
    2.5  capability lists   } tests/servers/test_spec_rules.py,
    2.6  the pool           } with the rows that no real server can be brought to

Rows that other tests show are in POINTERS there. keepwarm/gaps.py is the one list of what is not reached yet.
"""
import difflib
from concurrent.futures import ThreadPoolExecutor

import pytest
from test_differential import shown, through_keepwarm

from keepwarm import conversation, gaps, pairs, rows, ways
from keepwarm.rows import EITHER, NO, YES, Row
from keepwarm.system import SANITIZED

KINDS = ways.kinds([kind for kind in pairs.KINDS if not SANITIZED or kind is pairs.DovecotKind])

# --- rows ---------------------------------------------------------------------------------------------
APPEND = "APPEND INBOX {%{#plain}}\n%{plain}"
BIG = "APPEND INBOX {%{#big}}\n%{big}"
BIG_BEGINS = rb"(?s).*\{%d\}\r\n" % len(conversation.MESSAGES["big"])
FETCH_ALL = "FETCH 1:* BODY.PEEK[]%0D%0A"
OTHERS_CHANGE_THE_BOX = ("& SELECT %{p}box", "& COPY 1 %{p}box", "& STORE 1 +FLAGS.SILENT (\\Deleted)", "& EXPUNGE", "q1 NOOP",
                         "q2 NOOP")
FLAGS_CHANGE = ("q1 SELECT %{p}box", "q2 FETCH 1:* FLAGS", "q3 STORE 1:* +FLAGS (\\Draft)", "q4 SEARCH ALL",
                "& SELECT %{p}box", "& STORE 1 +FLAGS.SILENT (\\Deleted)", "& EXPUNGE", "q5 NOOP")

OLD_PROXY = [
    Row("1 drop in mid-FETCH", ("SELECT INBOX", BIG, "NOOP"), "x1 FETCH 5 BODY.PEEK[]%0D%0A", BIG_BEGINS, leave="drop",
        reused=EITHER),
    Row("1 drop in mid-FETCH by RST", ("SELECT INBOX", BIG, "NOOP"), "x1 FETCH 5 BODY.PEEK[]%0D%0A", BIG_BEGINS,
        leave="reset", reused=EITHER),
    Row("1 drop while a mailbox is selected", ("SELECT %{p}box",), leave="drop", probe=OTHERS_CHANGE_THE_BOX),
    Row("1 UTF8=ACCEPT and LOGOUT", ("ENABLE UTF8=ACCEPT", "CREATE %22INBOX.Gr%C3%BC%C3%9Fe%22"), reused=EITHER, needs="UTF8=ACCEPT",
        probe=('q1 LIST "" "*"', "q2 ENABLE UTF8=ACCEPT")),
    Row("1 drop inside APPEND", (), "x1 APPEND INBOX {100}%0D%0A", rows.GO_AHEAD, "Subject: half", leave="drop", reused=NO),
    Row("1 drop in IDLE", ("SELECT INBOX",), "x1 IDLE%0D%0A", rows.GO_AHEAD, leave="drop"),
    Row("1 FETCH and LOGOUT in one write", ("SELECT INBOX",), "x1 " + FETCH_ALL + "x2 LOGOUT%0D%0A", leave="end"),
    Row("1 untagged data before +, and a body with LOGOUT in it", ("SELECT INBOX",),
        "x1 " + FETCH_ALL + "x2 APPEND INBOX {%{#commands}}%0D%0A", rows.GO_AHEAD, "%{commands}%0D%0Ax3 LOGOUT%0D%0A", leave="end",
        probe=("q1 SELECT INBOX", "q2 FETCH 5 BODY.PEEK[]")),
    Row("1 drop without LOGOUT", ("NOOP",), leave="drop"),
]


def modseq(name, *steps, reused=EITHER):
    return Row(f"2.2 CONDSTORE by {name}", steps, needs="CONDSTORE", reused=reused, probe=FLAGS_CHANGE)


STATE = [
    Row("2.2 SELECT", ("SELECT %{p}box",), probe=OTHERS_CHANGE_THE_BOX),
    Row("2.2 EXAMINE", ("EXAMINE %{p}box",), probe=OTHERS_CHANGE_THE_BOX),
    Row("2.2 SELECT of what is to be deleted: never CLOSE", ("SELECT INBOX", "STORE 1:2 +FLAGS (\\Deleted)")),
    Row("2.2 SELECT that fails", ("SELECT no-such-mailbox",), reused=EITHER),
    Row("2.2 SELECT and CLOSE", ("SELECT %{p}box", "CLOSE")),
    Row("2.2 SELECT and UNSELECT", ("SELECT %{p}box", "UNSELECT"), needs="UNSELECT"),
    modseq("ENABLE", "ENABLE CONDSTORE"),
    modseq("SELECT (CONDSTORE)", "SELECT INBOX (CONDSTORE)"),
    modseq("STATUS (HIGHESTMODSEQ)", "STATUS INBOX (MESSAGES HIGHESTMODSEQ)"),
    modseq("FETCH MODSEQ", "SELECT INBOX", "FETCH 1 (MODSEQ)"),
    modseq("SEARCH MODSEQ", "SELECT INBOX", "SEARCH MODSEQ 1"),
    modseq("CHANGEDSINCE", "SELECT INBOX", "FETCH 1:* (FLAGS) (CHANGEDSINCE 1)"),
    modseq("UNCHANGEDSINCE", "SELECT INBOX", "STORE 1 (UNCHANGEDSINCE 100000) +FLAGS (\\Flagged)"),
    Row("2.2 QRESYNC", ("ENABLE QRESYNC",), reused=EITHER, needs="QRESYNC", probe=FLAGS_CHANGE),
    Row("2.2 QRESYNC by SELECT", ("ENABLE QRESYNC", "SELECT INBOX (QRESYNC (1 1))"), reused=EITHER, needs="QRESYNC",
        probe=FLAGS_CHANGE),
    Row("2.2 UTF8=ACCEPT", ("ENABLE UTF8=ACCEPT",), reused=EITHER, needs="UTF8=ACCEPT",
        probe=("q1 SELECT INBOX", "q2 SEARCH CHARSET UTF-8 SUBJECT first", 'q3 LIST "" "*"')),
    Row("2.2 ENABLE of what is unknown", ("ENABLE X-NONSENSE",), reused=EITHER, needs="ENABLE"),
    Row("2.2 ENABLE again", ("ENABLE CONDSTORE",), reused=EITHER, needs="CONDSTORE",
        probe=("q1 ENABLE CONDSTORE", "q2 ENABLE CONDSTORE", "q3 ENABLE CONDSTORE QRESYNC")),
    Row("2.2 UNAUTHENTICATE", ("UNAUTHENTICATE",)),
    Row("2.2 COMPRESS=DEFLATE", ("COMPRESS DEFLATE",), leave="drop", needs="COMPRESS=DEFLATE"),
    Row("2.2 STARTTLS after login", ("STARTTLS",), reused=EITHER),
    Row("2.2 IDLE", ("IDLE\nDONE",), needs="IDLE"),
    Row("2.2 IDLE in a selected mailbox", ("SELECT %{p}box", "IDLE\nDONE"), needs="IDLE", probe=OTHERS_CHANGE_THE_BOX),
    Row("2.2 NOTIFY", ("NOTIFY SET (PERSONAL (MessageNew MessageExpunge))",), reused=NO, needs="NOTIFY",
        probe=OTHERS_CHANGE_THE_BOX),
    Row("2.2 NOTIFY NONE", ("NOTIFY NONE",), reused=NO, needs="NOTIFY", probe=OTHERS_CHANGE_THE_BOX),
    Row("2.2 COMPARATOR", ("COMPARATOR i;octet",), reused=NO, needs="I18NLEVEL=1"),
    Row("2.2 SEARCHRES", ("SELECT INBOX", "SEARCH RETURN (SAVE) ALL"), needs="SEARCHRES",
        probe=("q1 SELECT INBOX", "q2 FETCH $ FLAGS")),
    Row("2.2 CONTEXT=SEARCH", ("SELECT INBOX", "SEARCH RETURN (UPDATE COUNT) UNSEEN"), needs="CONTEXT=SEARCH"),
    Row("2.2 CONTEXT=SEARCH of another mailbox's session", ("SELECT %{p}box", "SEARCH RETURN (UPDATE ALL) ALL"),
        needs="CONTEXT=SEARCH", probe=OTHERS_CHANGE_THE_BOX),
    Row("2.2 ID", ('ID ("name" "row")',)),
    Row("2.2 LOGIN after login", ("LOGIN user1 secret1",), reused=EITHER),
    Row("2.2 AUTHENTICATE after login", ("AUTHENTICATE PLAIN",), reused=EITHER),
    Row("2.2 PROXYAUTH", ("PROXYAUTH user1",), reused=NO),
    Row("2.2 XMASTER", ("XMASTER user1",), reused=NO),
    Row("2.2 an unknown X-", ("X-NONSENSE",), reused=NO),
    Row("2.2 an unknown verb", ("NONSENSE",), reused=NO),
    Row("2.2 LITERAL+", ("STATUS {5+}%0D%0AINBOX (MESSAGES)",), needs="LITERAL+"),
    Row("2.2 APPEND", (APPEND,)),
    Row("2.2 MULTIAPPEND", ("APPEND INBOX {%{#plain}}\n%{plain} {%{#reply}}\n%{reply}",), needs="MULTIAPPEND"),
    Row("2.2 CATENATE", ("APPEND INBOX CATENATE (TEXT {%{#plain}}\n%{plain} TEXT {5}\nhello)",), needs="CATENATE"),
    Row("2.2 BINARY: literal8", ("APPEND INBOX ~{%{#nul}}\n%{nul}", "SELECT INBOX", "FETCH 5 BINARY.PEEK[]"), needs="BINARY"),
    Row("2.2 BINARY: literal8 without waiting", ("APPEND INBOX ~{%{#nul}+}%0D%0A%{nul}",), needs="BINARY"),
    Row("2.2 METADATA", ('SETMETADATA INBOX (/private/comment "x")', "GETMETADATA INBOX /private/comment"), needs="METADATA"),
    Row("2.2 ANNOTATE-EXPERIMENT-1", ("SELECT INBOX", 'FETCH 1 (ANNOTATION (/comment value.priv))'),
        needs="ANNOTATE-EXPERIMENT-1"),
    Row("2.2 URLAUTH", ('GENURLAUTH "imap://user1@localhost/INBOX/;uid=1;urlauth=anonymous" INTERNAL',), needs="URLAUTH"),
]

# Extensions that leave nothing: (word of the capability list, steps).
HARMLESS = [
    ("NAMESPACE", "NAMESPACE"), ("CHILDREN", 'LIST "" "%"'), ("LIST-EXTENDED", 'LIST (SUBSCRIBED) "" "*" RETURN (CHILDREN)'),
    ("LIST-STATUS", 'LIST "" "*" RETURN (STATUS (MESSAGES))'), ("SPECIAL-USE", 'LIST (SPECIAL-USE) "" "*"'),
    ("LIST-METADATA", 'LIST "" "*" RETURN (METADATA ("/private/comment"))'), ("LIST-MYRIGHTS", 'LIST "" "*" RETURN (MYRIGHTS)'),
    ("STATUS=SIZE", "STATUS INBOX (SIZE)"), ("OBJECTID", "STATUS INBOX (MAILBOXID)"),
    ("PREVIEW", "SELECT INBOX", "FETCH 1 PREVIEW"), ("SAVEDATE", "SELECT INBOX", "FETCH 1 SAVEDATE"),
    ("MOVE", "SELECT %{p}box", "MOVE 1 INBOX"), ("UIDPLUS", "SELECT INBOX", "UID EXPUNGE 1"),
    ("ESEARCH", "SELECT INBOX", "SEARCH RETURN (COUNT) ALL"), ("SORT", "SELECT INBOX", "SORT (DATE) US-ASCII ALL"),
    ("THREAD=REFERENCES", "SELECT INBOX", "THREAD REFERENCES US-ASCII ALL"), ("WITHIN", "SELECT INBOX", "SEARCH OLDER 10"),
    ("SEARCH=FUZZY", "SELECT INBOX", "SEARCH FUZZY SUBJECT first"), ("QUOTA", "GETQUOTAROOT INBOX"), ("ACL", "MYRIGHTS INBOX"),
    ("APPENDLIMIT", "STATUS INBOX (APPENDLIMIT)"), ("XLIST", 'XLIST "" "*"'),
]
STATE += [Row(f"2.2 {each[0]}", each[1:], needs=each[0]) for each in HARMLESS]

LEAVING = [
    Row("2.3 LOGOUT with nothing outstanding", ("NOOP",)),
    Row("2.3 LOGOUT before any command"),
    Row("2.3 LOGOUT behind pipelined commands", (), "x1 NOOP%0D%0Ax2 STATUS INBOX (MESSAGES)%0D%0Ax3 LOGOUT%0D%0A", leave="end"),
    Row("2.3 LOGOUT inside IDLE", (), "x1 IDLE%0D%0A", rows.GO_AHEAD, "x2 LOGOUT%0D%0A", leave="end"),
    Row("2.3 drop, idle and in sync", ("STATUS INBOX (MESSAGES)",), leave="drop"),
    Row("2.3 drop by RST, idle and in sync", ("STATUS INBOX (MESSAGES)",), leave="reset"),
    Row("2.3 drop before the first command", leave="drop"),
    Row("2.3 drop with commands outstanding", (), "x1 LIST %22%22 *%0D%0Ax2 STATUS INBOX (MESSAGES)%0D%0A", leave="drop"),
    Row("2.3 drop with a FETCH outstanding", ("SELECT INBOX",), "x1 " + FETCH_ALL, leave="drop"),
    Row("2.3 drop with more outstanding than drain_bytes", ("SELECT INBOX", BIG, "NOOP"), ("x1 FETCH 5 BODY.PEEK[]%0D%0A" * 20),
        BIG_BEGINS, leave="drop", reused=NO),
    Row("2.3 drop before a synchronising literal", (), "x1 APPEND INBOX {100}%0D%0A", rows.GO_AHEAD, leave="drop", reused=NO),
    Row("2.3 drop in the middle of a synchronising literal", (), "x1 APPEND INBOX {100}%0D%0A", rows.GO_AHEAD, "From: half",
        leave="drop", reused=NO),
    Row("2.3 drop in the middle of a literal without waiting", (), "x1 APPEND INBOX {100+}%0D%0AFrom: half", leave="drop",
        reused=NO, needs="LITERAL+"),
    # Half a line stays with the proxy, so the server has seen nothing of it.
    Row("2.3 drop in mid-line", ("NOOP",), "x1 CREATE half-a-line", leave="drop"),
    Row("2.3 drop in IDLE", (), "x1 IDLE%0D%0A", rows.GO_AHEAD, leave="drop"),
    Row("2.3 drop right behind IDLE, no + seen", (), "x1 IDLE%0D%0A", leave="drop"),
    Row("2.3 drop in IDLE behind half a DONE", (), "x1 IDLE%0D%0A", rows.GO_AHEAD, "DO", leave="drop", reused=EITHER),
]
ROWS = [*OLD_PROXY, *STATE, *LEAVING]
SYSTEM = {"cache_size": 200, "drain_time": 10}  # a slow machine is no reason
LAST = Row("the user of the tests without a row")

# What a client enables at each of its logins: from the third one on it should get the connection of the one before.
AGAIN = [
    Row("CONDSTORE by ENABLE", ("ENABLE CONDSTORE", "SELECT INBOX"), needs="CONDSTORE"),
    Row("CONDSTORE by STATUS", ("STATUS INBOX (HIGHESTMODSEQ)",), needs="CONDSTORE"),
    Row("CONDSTORE by SELECT", ("SELECT INBOX (CONDSTORE)", "UID SEARCH MODSEQ 1"), needs="CONDSTORE"),
    Row("QRESYNC by ENABLE", ("ENABLE QRESYNC", "SELECT INBOX"), needs="QRESYNC"),
    Row("UTF8=ACCEPT by ENABLE", ("ENABLE UTF8=ACCEPT", 'LIST "" *'), needs="UTF8=ACCEPT"),
]


def gap_of(row, kind):
    """Why the row's connection is not reused yet, or None."""
    return gaps.gap(kind.name, row.name, *([gaps.SELECTED] if row.selects and row.reused == YES else []))


def ids(what):
    return {"argvalues": what, "ids": [f"{kind.name}: {row.name}" for kind, row in what]}


def sort_of(row):
    """Where one of each sort is enough."""
    return (row.name.split(" ")[0], row.leave, row.reused, row.selects, bool(row.last), bool(row.rest), bool(row.needs))


CASES = [(kind, row) for kind in KINDS for row in ways.sample(ROWS, sort_of)]
CASES_AGAIN = [(kind, row) for kind in KINDS for row in ways.sample(AGAIN, lambda row: row.name.split(" ")[0])]


# --- the servers ----------------------------------------------------------------------------------------
class Scene:
    """A pair of servers, and a user of its own for each row."""

    def __init__(self, kind, make_system):
        self.kind = kind
        self.pair = pairs.Pair(kind, len(ROWS) + len(AGAIN) + 1, lambda server: make_system(server, **SYSTEM))
        self.system, self.prefix = self.pair.system, kind.prefix
        self.reused = {}  # row -> was the connection reused?
        with conversation.login(self.pair.direct.port, "user1", self.pair.direct.password("user1")) as client:
            self.words = client.ok("CAPABILITY").text.decode().upper().split()

    def user(self, row):
        return f"user{[*ROWS, *AGAIN, LAST].index(row) + 1}"

    def need(self, row):
        if row.needs and not any(word.partition("=")[0] == row.needs or word == row.needs for word in self.words):
            pytest.skip(f"{self.kind.name} does not have that extension")

    def play(self, row):
        """The row's session and the probe, on both sides. Returns what the two probes saw."""
        user = self.user(row)
        self.pair.fill(user)
        with ThreadPoolExecutor(2) as threads:
            direct = threads.submit(self.play_direct, row, user)
            behind = threads.submit(self.play_behind, row, user)
        return direct.result(), behind.result()

    def play_direct(self, row, user):
        server = self.pair.direct
        rows.whole_session(row, server.port, user, server.password(user), self.prefix, True)
        return self.probe(row, conversation.login(server.port, user, server.password(user)), server, user)

    def play_behind(self, row, user):
        password = self.pair.behind.password(user)
        ended = rows.sessions_ended(self.system, user)
        rows.whole_session(row, self.system.port, user, password, self.prefix, False)
        rows.wait_ended(self.system, user, ended)
        client = conversation.login(self.system.port, user, password)
        self.reused[row.name] = client.login_reply.reused
        return self.probe(row, client, self.pair.behind, user)

    def probe(self, row, client, server, user):
        return self.pair.hold_one(client, server, [*row.probe, *rows.PROBE], user)


@pytest.fixture(scope="module")
def scene_of(make_way):
    """A function that gives the scene of a kind, made when it is first asked for."""
    made = {}

    def get(kind):
        if kind.module.missing():
            pytest.skip(kind.module.missing())
        if kind not in made:
            made[kind] = Scene(kind, make_way)
        return made[kind]
    yield get
    for scene in made.values():
        scene.pair.stop()


# --- the tests ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind, row", **ids(CASES))
def test_the_next_session_is_as_a_fresh_one(scene_of, kind, row):
    scene = scene_of(kind)
    scene.need(row)
    direct, behind = scene.play(row)
    want, got = conversation.neutral(through_keepwarm(direct)), conversation.neutral(behind)
    assert want == got, "\n".join(difflib.unified_diff(shown(want), shown(got), "fresh", "next", lineterm="", n=2))


REUSE = [(kind, row) for kind, row in CASES if row.reused != EITHER]


@pytest.mark.parametrize("kind, row", **ids(REUSE))
def test_the_next_session_takes_the_connection_or_not(request, scene_of, kind, row):
    """Of the runs above; a row that was not run is run here."""
    scene = scene_of(kind)
    scene.need(row)
    if row.name not in scene.reused:
        scene.play(row)
    gaps.must_fail(request, gap_of(row, kind))
    assert scene.reused[row.name] == (row.reused == YES), scene.system.log_text()[-1500:]


@pytest.mark.parametrize("kind, row", **ids(CASES_AGAIN))
def test_who_enables_the_same_again_takes_the_connection(request, scene_of, kind, row):
    scene = scene_of(kind)
    scene.need(row)
    gaps.must_fail(request, gap_of(row, kind))
    user = scene.user(row)
    before = rows.fresh_sessions(scene.system, user)
    for _ in range(6):
        ended = rows.sessions_ended(scene.system, user)
        with conversation.login(scene.system.port, user, scene.pair.behind.password(user)) as client:
            replies = [rows.command(client, step, scene.prefix) for step in row.steps]
            assert all(reply.ok for reply in replies), replies
            client.logout()
        rows.wait_ended(scene.system, user, ended)
    assert rows.fresh_sessions(scene.system, user) - before <= 2


@pytest.mark.skipif(SANITIZED, reason="a sanitizer build has no jail")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_all_this_happens_in_the_jail(scene_of, kind):
    scene = scene_of(kind)
    for _ in range(2):
        with conversation.login(scene.system.port, scene.user(LAST), scene.pair.behind.password(scene.user(LAST))) as client:
            scene.system.check_jail(client)
            client.logout()


# --- what no row can say ---------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_1_parallel_logins_of_one_user(scene_of, kind):
    """Four at once, twice: each is alone on its connection and none sees what another has selected."""
    scene = scene_of(kind)
    user = scene.user(LAST)
    scene.pair.fill(user)

    def one(number):
        with conversation.login(scene.system.port, user, scene.pair.behind.password(user)) as client:
            assert not client.command("FETCH 1 UID").ok
            if number % 2:
                assert client.command(f"SELECT {scene.prefix}empty").ok
                assert not client.command("UID FETCH 1 BODY.PEEK[]").text
            else:
                assert client.command(f"STATUS {scene.prefix}box (MESSAGES)").untagged == [status]
            client.logout()
            return client.login_reply.reused
    with conversation.login(scene.pair.behind.port, user, scene.pair.behind.password(user)) as client:
        status = client.ok(f"STATUS {scene.prefix}box (MESSAGES)").untagged[0]
    with ThreadPoolExecutor(4) as threads:
        rounds = [list(threads.map(one, range(4))) for _ in range(4)]
    assert any(rounds[-1]), rounds


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_2_5_after_login_the_servers_list_but_for_what_is_hidden(scene_of, kind):
    scene = scene_of(kind)
    password = scene.pair.direct.password(scene.user(LAST))
    with conversation.login(scene.pair.direct.port, scene.user(LAST), password) as client:
        want = through_keepwarm([(1, client.ok("CAPABILITY").untagged[0])])[0][1].decode().split()[2:]
    for _ in range(2):
        ended = rows.sessions_ended(scene.system, scene.user(LAST))
        with conversation.login(scene.system.port, scene.user(LAST), password) as client:
            assert client.login_reply.capabilities == want
            client.logout()
        rows.wait_ended(scene.system, scene.user(LAST), ended)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_2_6_logins_back_to_back(scene_of, kind):
    """As a webmail's requests come: the next login does not wait for the statistics."""
    scene = scene_of(kind)
    password = scene.pair.behind.password(scene.user(LAST))

    def most_hit():
        """A login waits for 50 ms at most, of which a busy machine may take all; without that wait hardly one would hit."""
        hits = 0
        for _ in range(21):
            with conversation.login(scene.system.port, scene.user(LAST), password) as client:
                hits += client.login_reply.reused
                client.ok(f"STATUS {scene.prefix}box (MESSAGES)")
                client.logout()
        return hits >= 18
    assert any(most_hit() for _ in range(5))


def test_each_row_has_its_own_name_and_each_gap_a_row():
    names = [row.name for row in ROWS + AGAIN]
    assert len(names) == len(set(names))
    assert {name for name, _ in gaps.GAPS if not name.startswith("test_")} <= {gaps.SELECTED, *names}
