"""How clients begin, with Dovecot and Cyrus behind Keepwarm: each gets its connection again, nobody gets another one's.

What each sends is from its sources. The mail hosts are those of test_differential.py.
"""
import re

import pytest

from keepwarm import conversation, pairs
from keepwarm.process import wait_until
from keepwarm.system import SANITIZED

KINDS = [kind for kind in (pairs.DovecotKind, pairs.CyrusKind) if not SANITIZED or kind is pairs.DovecotKind]
STATUS = "STATUS INBOX (MESSAGES UNSEEN UIDNEXT UIDVALIDITY HIGHESTMODSEQ)"
PAGE = ["SELECT INBOX", "UID SEARCH ALL", "UID FETCH 1:* (FLAGS BODY.PEEK[HEADER])"]
OPENINGS = {
    "SnappyMail": ["ENABLE UTF8=ACCEPT", STATUS, *PAGE, "UNSELECT", 'LIST "" * RETURN (STATUS (MESSAGES))'],
    "Nextcloud Mail": ["CAPABILITY", "ENABLE QRESYNC", "ID NIL", "NAMESPACE", 'LSUB "" *', 'LIST "" *', STATUS,
                       "SELECT INBOX (QRESYNC (1 1))", "UID FETCH 1:* (FLAGS MODSEQ)"],
    "Horde": ["ENABLE QRESYNC", "SELECT INBOX (QRESYNC (1 1))", "UID FETCH 1:* (FLAGS)", STATUS],
    "K-9": ["CAPABILITY", 'ID ("name" "K-9 Mail")', "ENABLE UTF8=ACCEPT", "NAMESPACE", *PAGE, "NOOP"],
    "imapflow": ["ENABLE CONDSTORE", "NAMESPACE", 'LIST "" *', "SELECT INBOX", "UID FETCH 1:* (FLAGS MODSEQ)"],
}
SWAPS = [
    PAGE, ["NAMESPACE", *PAGE], ["ENABLE CONDSTORE", *PAGE], ["ENABLE X-NONSENSE", "ENABLE QRESYNC", *PAGE], ["XNONSENSE"],
    ["ENABLE"], [STATUS, "ENABLE QRESYNC", *PAGE], ["ENABLE QRESYNC QRESYNC", *PAGE],
]
USERS = {name: f"user{number}" for number, name in enumerate([*OPENINGS, "vanished", *map(str, range(len(SWAPS)))], 1)}
TIMES = 11


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def pair(request, make_once):
    kind = request.param
    if kind.module.missing():
        pytest.skip(kind.module.missing())
    made = pairs.Pair(kind, len(USERS), lambda port: make_once.system(port, cache_size=30))
    for user in USERS.values():
        made.fill(user)
    yield made
    made.stop()


def hold(port, user, commands, logout=True):
    """All lines that came."""
    with conversation.login(port, user, f"secret{user[4:]}") as client:
        lines = []
        for command in commands:
            reply = client.command(command)
            lines += [(command, line) for line in (*reply.untagged, reply.tagged)]
        if logout:
            client.logout()
    return conversation.neutral(lines)


def bare(lines):
    """Without the capabilities (docs/DIFFERENCES.md) and what the mail of another server has of its own."""
    own = rb"MODSEQ \(?\d+\)?|\\(Unm|UnM|M)arked"
    return [(command, re.sub(own, b"", line)) for command, line in lines
            if b"CAPABILITY" not in line]


@pytest.mark.parametrize("name", OPENINGS)
def test_nine_of_ten_logins_are_reused_and_answered_as_fresh_ones(pair, name, capsys):
    system, user = pair.system, USERS[name]
    before, results = system.stats()["counters"], []
    for number in range(1, TIMES + 1):
        results.append(hold(system.port, user, OPENINGS[name], logout=name != "K-9"))
        wait_until(lambda n=number: system.counter("logins") == before["logins"] + n and system.gauge("active") == 0,
                   system.log_text)
    reused = system.counter("logins_reused") - before["logins_reused"]
    with capsys.disabled():
        print(f"\n{pair.kind.name}: {name}: {reused} of {TIMES - 1} logins reused")
    assert reused >= 0.9 * (TIMES - 1)
    hold(pair.direct.port, user, OPENINGS[name], logout=False)
    fresh = hold(pair.direct.port, user, OPENINGS[name], logout=False)
    for result in results[1:]:
        assert bare(result) == bare(fresh)


def test_a_plain_client_after_one_with_qresync_sees_expunge(pair):
    system, user = pair.system, USERS["vanished"]
    commands = ["SELECT INBOX", "STORE 1 +FLAGS.SILENT (\\Deleted)", "EXPUNGE"]
    lines = hold(system.port, user, ["ENABLE QRESYNC", *commands])
    assert any(line.startswith(b"* VANISHED") for _, line in lines)
    wait_until(lambda: system.gauge("active") == 0, system.log_text)
    lines = hold(system.port, user, commands)
    assert (commands[2], b"* 1 EXPUNGE\r\n") in lines and not any(b"VANISHED" in line for _, line in lines)
    wait_until(lambda: system.gauge("active") == 0, system.log_text)
    lines = hold(system.port, user, ["ENABLE QRESYNC", *commands])
    assert any(line.startswith(b"* VANISHED") for _, line in lines)


@pytest.mark.parametrize("number", range(len(SWAPS)), ids=lambda number: ", ".join(SWAPS[number][:2]))
def test_a_swap_is_not_seen(pair, number):
    system, user = pair.system, USERS[str(number)]
    hold(system.port, user, ["ENABLE QRESYNC"])
    hold(pair.direct.port, user, ["ENABLE QRESYNC"], logout=False)
    # figures that show this also show all that was before
    wait_until(lambda: [s for s in system.stats()["sessions"] if s["user"] == user and s["state"] == "cached"], system.log_text)
    swapped = system.counter("offers_swapped")
    assert bare(hold(system.port, user, SWAPS[number])) == bare(hold(pair.direct.port, user, SWAPS[number], logout=False))
    system.wait_counter("offers_swapped", swapped + 1)
