"""A site swaps up-imapproxy for Keepwarm and changes nothing: Debian's program and Keepwarm, one after the other, with the same
configuration file in front of the same Dovecot.

Each conversation of imapproxy/ is two tests: Keepwarm answers as the file says, and it answers as the old program does,
apart from what no two runs have in common (conversation.NEUTRAL), ALLOWED and DIFFERENT. Those are explained in docs/MIGRATING.md;
what differs no more must leave them. Who closes a gap of gaps.IMAPPROXY deletes its row.
"""
import difflib
import re
from pathlib import Path

import pytest
from test_differential import our_capabilities, shown

from keepwarm import conversation, dovecot, gaps, proxytalk
from keepwarm.system import ROOT

CONVERSATIONS = conversation.read_folder(Path(__file__).parent / "imapproxy")
MARKS = {"new", "stalls", "own"}


# --- allowed differences ------------------------------------------------------------------------------
class Allowed:
    """What the old program says and what Keepwarm says instead (patterns) become the same."""

    def __init__(self, name, old, new, same):
        self.name, self.old, self.new, self.same = name, re.compile(old), re.compile(new), same


ALLOWED = [
    Allowed("greeting", rb"\A\* OK \[CAPABILITY [^\]]* XIMAPPROXY\] Dovecot [^\r]*",
            rb"\A\* OK \[CAPABILITY IMAP4rev1 LITERAL\+ [^\]]* XIMAPPROXY\] Keepwarm ready\.", b"* OK <greeting>"),
    Allowed("list before login", rb"\A\* CAPABILITY [^\r]* XIMAPPROXY\r",
            rb"\A\* CAPABILITY IMAP4rev1 LITERAL\+ [^\r]* XIMAPPROXY\r", b"* CAPABILITY <before login>\r"),
    Allowed("login", rb"\A(\S+) OK User (logged in|authenticated)\r",
            rb"\A(\S+) OK \[CAPABILITY [^\]]* XIMAPPROXY\] User (logged in|authenticated)\r", rb"\1 OK <list> User \2\r"),
    Allowed("refused login", rb"(NO \[AUTHENTICATIONFAILED\]) Authentication failed\.",
            rb"(NO \[AUTHENTICATIONFAILED\]) (?:LOGIN|AUTHENTICATE) failed", rb"\1 <text>"),
    Allowed("version", rb"\A\* XPROXY_VERSION 1\.2\.8 \[SVN\]", rb"\A\* XPROXY_VERSION \S[^\r]*", b"* XPROXY_VERSION <version>"),
]
IN_SESSION = re.compile(rb"\A(\* CAPABILITY )(?!<)([^\]\r]*)")  # the mail host's list, which Keepwarm filters
CLOSED = b"* OK [CLOSED] Previous mailbox closed.\r\n"
# What the two programs cannot have in common.
NEUTRAL = [(re.compile(pattern), same) for pattern, same in (
    (rb"\A\* XPROXY_DUMPICC \d+ ", b"* XPROXY_DUMPICC <n> "),
    (rb"\A-----> C= \d+ ", b"-----> C= <seconds> "),
    (rb" sd \[\d+\]\r\n\Z", b" sd [<n>]\r\n"),
)]

# Conversations that differ as a whole, as is right. What Keepwarm says stands in each. name in docs/MIGRATING.md: conversations
DIFFERENT = {
    "long tag": ["a tag of 300 characters"],
    "literal before login": ["a literal where none belongs", "a literal without waiting where none belongs",
                             "a literal behind an unknown command", "a literal without a size", "a literal of an absurd size"],
    "long line": ["a line that is too long"],
    "LF": ["a line that ends in LF only", "a line that ends in LF only in a session"],
    "one packet": ["two commands in one packet", "commands in pieces", "a command in the packet of LOGIN",
                   "LOGIN in the packet of another command", "LOGOUT behind a login in one packet"],
    "AUTHENTICATE": ["AUTHENTICATE LOGIN with an initial response", "AUTHENTICATE LOGIN that the client cancels",
                     "AUTHENTICATE LOGIN with what is not base64", "AUTHENTICATE PLAIN",
                     "AUTHENTICATE PLAIN with an initial response", "AUTHENTICATE PLAIN with a wrong password",
                     "a name that AUTHENTICATE LOGIN gives too long"],
    "CAPABILITY": ["CAPABILITY before and after a login", "CAPABILITY before a reused login"],
    "login_attempts, max_errors": ["three wrong passwords", "ten wrong commands"],
    "odd bytes": ["NUL in a command", "CR in a command"],
    "LOGIN": ["more behind the password", "an empty name", "a name that is too long", "a literal of no bytes as a password"],
    "odd names": ["an 8-bit name as a literal", "a line break in a name"],
    "quoted strings": ["quoted strings and atoms share connections"],
    "wrong password": ["a wrong password leaves the pool alone"],
    "drop": ["a login after a drop with a mailbox selected", "a drop in IDLE", "a drop in the middle of a literal"],
    "LOGOUT": ["LOGOUT has to be a whole word", "LOGOUT behind other commands", "LOGOUT in IDLE"],
    "literal in a session": ["a literal behind another command in one packet"],
    "COMPRESS, STARTTLS": ["COMPRESS in a session", "STARTTLS in a session"],
    "ENABLE": ["ENABLE is not inherited by who has not asked for it"],
    "peaks after XPROXY_RESETCOUNTERS": ["the counters after XPROXY_RESETCOUNTERS"],
    "SELECT cache": ["SELECT again with the SELECT cache", "hits of the SELECT cache are counted",
                     "a literal as a mailbox name with the SELECT cache",
                     "pipelined commands with the SELECT cache", "another mailbox with the SELECT cache",
                     "what is new with the SELECT cache", "a mailbox that was not there with the SELECT cache"],
    "code of a refusal": ["a master login with the account's own password", "a master login with another secret",
                          "a command before the login that the mail host refuses"],
    "peak in use": ["the counters after a refused login"],
    "shared secret": ["a master login with no secret at all", "a master login with a part of the secret"],
}
DIFFERENT_NAMES = {name for names in DIFFERENT.values() for name in names}


def common(lines, side):
    """The lines of one side ("old" or "new") as they should be on both."""
    result = []
    for step, line in lines:
        for allowed in ALLOWED:
            line = getattr(allowed, side).sub(allowed.same, line)
        for pattern, same in NEUTRAL:
            line = pattern.sub(same, line)
        if side == "old":
            line = IN_SESSION.sub(our_capabilities, line)
            if line == b"* BYE LOGOUT received\r\n" and result[-1:] == [(step, CLOSED)]:
                result.pop()  # "unselect": what the mail host says to that is not the client's
        result.append((step, line))
    return conversation.neutral(result)


# --- holding them -------------------------------------------------------------------------------------
SITES = proxytalk.by_site(CONVERSATIONS)


@pytest.fixture(scope="module")
def mail_host():
    if dovecot.missing():
        pytest.skip(dovecot.missing())
    with proxytalk.mail_host(CONVERSATIONS) as server:
        yield server


class Sites:
    """Each site's proxies are run when one of its conversations is first asked for."""

    def __init__(self, server):
        self.server, self.held = server, {}

    def get(self, what):
        """(what came from the old program or None, what came from Keepwarm)"""
        key = proxytalk.site_of(what)
        if key not in self.held:
            site = proxytalk.Site(self.server, key[0], SITES[key])
            folder, _ = proxytalk.unpack()
            self.held[key] = attempt(lambda: site.hold_old(folder)) if folder else {}, attempt(site.hold_new)
        results = []
        for held in self.held[key]:
            result = held if isinstance(held, Exception) else held.get(what.name)
            if isinstance(result, Exception):
                raise AssertionError(f"{result}") from result
            results.append(result)
        return results


def attempt(hold):
    """Its result, or how it failed: each conversation of the site fails so."""
    try:
        return hold()
    except (AssertionError, OSError) as error:
        return error


@pytest.fixture(scope="module")
def sites(mail_host):
    return Sites(mail_host)


# --- the tests ----------------------------------------------------------------------------------------
def by_name(conversations):
    return {"argvalues": conversations, "ids": [each.name for each in conversations]}


JUDGED = [each for each in CONVERSATIONS if each.expected or each.forbidden]
COMPARED = [each for each in CONVERSATIONS if "new" not in each.servers]
# What has to differ, but not as it does while there is a gap, is not compared.
OPEN = DIFFERENT_NAMES & set(gaps.IMAPPROXY)


@pytest.mark.parametrize("what", **by_name(JUDGED))
def test_it_is_as_the_file_says(request, sites, mail_host, what):
    gaps.must_fail(request, gaps.IMAPPROXY.get(what.name))
    lines = sites.get(what)[1]
    problem = conversation.judge(what, lines, proxytalk.words_of(mail_host, CONVERSATIONS.index(what)))
    assert problem is None, "\n".join([problem, *shown(lines)])


@pytest.fixture(scope="module")
def old_program():
    folder, why = proxytalk.unpack()
    if not folder:
        pytest.skip(why)
    return folder


@pytest.mark.usefixtures("old_program")
@pytest.mark.parametrize("what", **by_name([each for each in COMPARED if each.name not in OPEN]))
def test_it_is_as_with_the_old_program(request, sites, what):
    gaps.must_fail(request, gaps.IMAPPROXY.get(what.name))
    old, new = sites.get(what)
    want, got = common(old, "old"), common(new, "new")
    if what.name in DIFFERENT_NAMES:
        assert want != got, "these are equal now: its row in DIFFERENT can go"
        return
    assert want == got, "\n".join(difflib.unified_diff(shown(want), shown(got), "old", "new", lineterm="", n=2))


@pytest.mark.usefixtures("old_program")
@pytest.mark.parametrize("allowed", ALLOWED, ids=lambda allowed: allowed.name)
def test_an_allowed_difference_is_met(sites, allowed):
    """Held by the plain site, or by those with XPROXY_ commands."""
    config = {"version": ["enable_admin_commands yes"]}.get(allowed.name, [])
    lines = [sites.get(each)[0] for each in COMPARED if each.config == config and not proxytalk.site_of(each)[1]]
    assert any(allowed.old.search(line) for each in lines for _, line in each), "its row in ALLOWED can go"


def test_each_difference_is_explained():
    text = (ROOT / "docs" / "MIGRATING.md").read_text(encoding="utf-8")
    for name in {"list in a session", "unselect", *DIFFERENT, *(allowed.name for allowed in ALLOWED)}:
        assert f"\n| {name} | " in text, name


def test_the_lists_name_conversations_that_there_are():
    assert not DIFFERENT_NAMES - {each.name for each in JUDGED if each in COMPARED}
    assert not set(gaps.IMAPPROXY) - {each.name for each in CONVERSATIONS}
    assert all(set(each.servers) <= MARKS for each in CONVERSATIONS)
