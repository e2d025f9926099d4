"""A reused connection against a fresh one: each conversation is held with the server itself and through Keepwarm.

The answers must be equal, byte for byte, apart from what no two runs have in common (conversation.NEUTRAL) and
from ALLOWED, which docs/DIFFERENCES.md explains. KNOWN_GAPS must fail: who closes a gap deletes its rows.
"""
import difflib
import re
from pathlib import Path

import pytest

from keepwarm import conversation, pairs, ways
from keepwarm.system import ROOT, SANITIZED

CONVERSATIONS = conversation.read_folder(Path(__file__).parent / "conversations")
AT_LEAST = 150
KINDS = ways.kinds([kind for kind in pairs.KINDS if not SANITIZED or kind is pairs.DovecotKind])
HIDDEN = re.compile(rb"(AUTH=.*|SASL-IR|STARTTLS|LOGINDISABLED|COMPRESS=.*|X?-?UNAUTHENTICATE|"
                    rb"(LOGIN|MAILBOX)-REFERRALS|URLAUTH.*|JMAPACCESS.*)\Z", re.I)


# --- allowed differences ------------------------------------------------------------------------------
class Allowed:
    """What the server says itself (a pattern) becomes what is said through Keepwarm."""

    def __init__(self, name, pattern, instead, reason):
        self.name, self.pattern, self.instead, self.reason = name, re.compile(pattern), instead, reason


def our_capabilities(match):
    words = [word for word in match[2].split(b" ") if not HIDDEN.match(word)]
    return match[1] + b" ".join([*words, b"XIMAPPROXY"])


ALLOWED = [
    Allowed("capabilities", rb"\A(\* CAPABILITY |\S+ OK \[CAPABILITY )([^\]\r]*)", our_capabilities,
            "What the proxy cannot pass on is not offered, and it says that it is there."),
    Allowed("logout", rb"\A\* BYE (Logging out|Courier-IMAP server shutting down)\r", b"* BYE LOGOUT received\r",
            "LOGOUT is answered by the proxy: the connection stays."),
    Allowed("logout", rb"\A(\S+) OK (Logout completed[^\r]*|LOGOUT completed)\r", rb"\1 OK Completed\r",
            "LOGOUT is answered by the proxy: the connection stays."),
]

BYE = b"* BYE [UNAVAILABLE] Mail host closed the connection\r\n"


def with_our_bye(lines):
    """A server that closes without a word: the proxy says BYE for it (docs/DIFFERENCES.md, "closed")."""
    silent = lines[-1:] and lines[-1][1] == conversation.CLOSED and not any(l.startswith(b"* BYE") for _, l in lines)
    return [*lines[:-1], (lines[-1][0], BYE), lines[-1]] if silent else lines


# Conversations that differ as a whole, as is right: what is said here must differ. (conversation, server): section
DIFFERENT = {
    ("logout with an argument", "cyrus"): "logout",
    ("logout with an argument", "courier"): "logout",
    ("compress malformed", "dovecot"): "refused",
    ("compress malformed", "cyrus"): "refused",
    ("compress malformed", "courier"): "refused",
    ("compress is not there", "courier"): "refused",
    # Cyrus has the same words for these
    **{(name, server): "refused" for server in ("dovecot", "courier")
       for name in ("starttls in a session", "starttls with an argument", "unauthenticate")},
}

# --- known gaps ---------------------------------------------------------------------------------------
# (conversation, server or None for each): why it fails today.
KNOWN_GAPS = {
}


def reason_for_gap(name, kind):
    return KNOWN_GAPS.get((name, kind)) or KNOWN_GAPS.get((name, None))


# --- the test -----------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def pair_of(make_way):
    """A function that gives the pair of a kind, made when it is first asked for."""
    made = {}

    def get(kind):
        if kind.module.missing():
            pytest.skip(kind.module.missing())
        if kind not in made:
            made[kind] = pairs.Pair(kind, len(CONVERSATIONS), lambda server: make_way(server, cache_size=30))
        return made[kind]
    yield get
    for pair in made.values():
        pair.stop()


def shown(lines):
    return [f"{step:3} {line.decode('utf-8', 'backslashreplace')!r}" for step, line in lines]


def through_keepwarm(lines):
    """What Keepwarm should make of the server's own lines."""
    result = []
    for step, line in lines:
        for allowed in ALLOWED:
            line = allowed.pattern.sub(allowed.instead, line)
        result.append((step, line))
    return with_our_bye(result)


def sort_of(number):
    """Where one of each sort is enough: by what was said before, and how it is said."""
    what = CONVERSATIONS[number]
    return (what.enables(), bool(what.before), frozenset(step[0] for step in what.steps if step[1:2] in (" ", "")))


CASES = [(kind, number) for kind in KINDS
         for number in ways.sample([n for n, each in enumerate(CONVERSATIONS) if each.suits(kind.name)], sort_of)]


@pytest.mark.parametrize("kind, number", CASES,
                         ids=[f"{kind.name}: {CONVERSATIONS[number].name}" for kind, number in CASES])
def test_over_a_reused_connection_it_is_as_over_a_fresh_one(request, pair_of, kind, number):
    what = CONVERSATIONS[number]
    gap = reason_for_gap(what.name, kind.name)
    if gap:
        request.applymarker(pytest.mark.xfail(reason=gap, strict=True, raises=AssertionError))
    user, pair = f"user{number + 1}", pair_of(kind)
    pair.fill(user)
    direct, reused = pair.hold(what, user)
    want, got = conversation.neutral(through_keepwarm(direct)), conversation.neutral(reused)
    if (what.name, kind.name) in DIFFERENT:
        assert want != got, "these are equal now: its row in DIFFERENT can go"
        return
    assert want == got, "\n".join(difflib.unified_diff(shown(want), shown(got), "fresh", "reused", lineterm="", n=2))


def test_there_are_enough_conversations():
    for kind in pairs.KINDS:
        assert sum(each.suits(kind.name) for each in CONVERSATIONS) >= AT_LEAST


def test_known_gaps_name_conversations_that_there_are():
    names = {each.name for each in CONVERSATIONS}
    assert {name for name, _ in KNOWN_GAPS} <= names and {name for name, _ in DIFFERENT} <= names


def test_each_allowed_difference_is_explained():
    text = (ROOT / "docs" / "DIFFERENCES.md").read_text(encoding="utf-8")
    for section in {"closed", *DIFFERENT.values(), *(allowed.name for allowed in ALLOWED)}:
        assert f"## {section}\n" in text
