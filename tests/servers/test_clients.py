"""Real clients over reused connections: curl, imaplib, mbsync, offlineimap and imapflow, with Dovecot behind Keepwarm.

Each visits a few times; how many of its logins took a warm connection is read from the state file.
"""
import imaplib
import json
import os
import re
import shutil
import subprocess
import time

import pytest

from keepwarm import dovecot
from keepwarm.process import wait_until
from keepwarm.system import ROOT

SHARE = 0.9
NODE = ROOT / "build" / "test" / "node"
NODE_SOURCE = ROOT / "tests" / "servers" / "node"

pytestmark = pytest.mark.skipif(dovecot.missing() is not None, reason=str(dovecot.missing()))


@pytest.fixture(scope="module")
def server():
    server = dovecot.Dovecot(8).start()
    yield server
    server.stop()


@pytest.fixture
def system(make, server):
    return make.system(server)


def run(*argv, timeout=60, **kwargs):
    done = subprocess.run([str(arg) for arg in argv], capture_output=True, check=False, timeout=timeout, text=True, **kwargs)
    assert done.returncode == 0, f"{argv}: {done}"
    return done.stdout


def visits(system, capsys, name, visit, times=10):
    """Visits and returns the share of logins, after the very first one, that were reused."""
    begin, results = time.monotonic(), []
    for _ in range(times):
        given = system.counter("given")
        results.append(visit())
        try:
            wait_until(lambda: system.counter("given") > given, "nothing was given back", 5)  # pylint: disable=W0640
        except AssertionError:
            pass  # the share tells
    stats = system.stats()
    logins, reused = stats["counters"]["logins"], stats["counters"]["logins_reused"]
    why = {reason: count for reason, count in stats["not_cached"].items() if count and reason != "cached"}
    with capsys.disabled():
        print(f"\n{name}: {times} visits in {time.monotonic() - begin:.1f} s, {reused} of {logins} logins reused, "
              f"not cached: {why or 'none'}")
    assert logins >= times
    return reused / (logins - 1), results


# --- imaplib and curl ---------------------------------------------------------------------------------
def test_imaplib(system, server, capsys):
    def visit():
        session = imaplib.IMAP4("127.0.0.1", system.port, timeout=10)
        session.login("user1", "secret1")
        assert session.list()[0] == "OK" and session.select()[0] == "OK"
        assert session.search(None, "ALL") == ("OK", [b"1"])
        assert session.store("1", "+FLAGS", "(\\Flagged)")[0] == "OK"
        text = session.fetch("1", "(BODY.PEEK[TEXT])")[1][0][1]
        session.logout()
        return text
    share, texts = visits(system, capsys, "imaplib", visit)
    assert set(texts) == {b"This is the mail of <user1>.\r\n"}
    assert share >= SHARE
    server.wait_logins(1, "user1")


def test_curl(system, capsys, tmp_path):
    def curl(path, *more):
        return run("curl", "-sS", "--max-time", 20, "--user", "user2:secret2", *more, f"imap://127.0.0.1:{system.port}/{path}")
    mail = tmp_path / "mail"
    mail.write_text("Subject: by curl\r\n\r\nuploaded\r\n", newline="")

    def visit():
        curl("INBOX", "-T", mail)
        system.wait_given()
        assert "INBOX" in curl("")
        system.wait_given()
        found = curl("INBOX;MAILINDEX=1")
        system.wait_given()
        found = found, curl("INBOX?SUBJECT curl".replace(" ", "%20"))
        system.wait_given()
        return found
    share, results = visits(system, capsys, "curl", visit)
    assert all("This is the mail of <user2>." in message for message, _ in results)
    assert len(results[-1][1].split()) == len(results) + 2  # `* SEARCH` and the numbers
    assert share >= SHARE


# --- two-way synchronisation ----------------------------------------------------------------------------
MBSYNCRC = """
IMAPAccount a
Host 127.0.0.1
Port {port}
User {user}
Pass {password}
SSLType None
AuthMechs LOGIN

IMAPStore far
Account a

MaildirStore near
Path {folder}/mail/
Inbox {folder}/mail/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
Sync All
SyncState *
"""
OFFLINEIMAPRC = """
[general]
accounts = a
metadata = {folder}/meta
ui = quiet
maxsyncaccounts = 1
[Account a]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {folder}/mail
[Repository far]
type = IMAP
remotehost = 127.0.0.1
remoteport = {port}
remoteuser = {user}
remotepass = {password}
ssl = no
starttls = no
auth_mechanisms = LOGIN
maxconnections = 1
"""


def bare(message):
    """A message without line ends' kinds and without what a synchroniser writes into it."""
    text = message.replace(b"\r\n", b"\n")
    return re.sub(rb"^(X-TUID|X-OfflineIMAP): [^\n]*\n", b"", text, flags=re.M).strip()


def on_server(server, user):
    """{mailbox: sorted [(message, flags)]} as the server says itself."""
    session = imaplib.IMAP4("127.0.0.1", server.port, timeout=10)
    session.login(user, server.password(user))
    result = {}
    for line in session.list()[1]:
        name = line.decode().rpartition(" ")[2].strip('"')
        session.select(name, readonly=True)
        numbers = session.search(None, "ALL")[1][0].split()
        parts = [session.fetch(number, "(FLAGS BODY.PEEK[])")[1] for number in numbers]
        result[name] = sorted(
            (bare(part[0][1]), flag_letters(b" ".join(p if isinstance(p, bytes) else p[0] for p in part))) for part in parts)
    session.logout()
    return result


def flag_letters(text):
    letters = {b"\\Seen": "S", b"\\Flagged": "F", b"\\Answered": "R", b"\\Draft": "D"}
    return "".join(sorted(letter for flag, letter in letters.items() if flag in text))


def in_maildirs(folder):
    """The same of a folder of maildirs."""
    result = {}
    for maildir in folder.iterdir():
        if (maildir / "cur").is_dir():
            files = [*(maildir / "cur").iterdir(), *(maildir / "new").iterdir()]
            result[maildir.name] = sorted(
                (bare(file.read_bytes()), "".join(sorted(file.name.partition(":2,")[2].replace("T", "")))) for file in files)
    return result


def deliver(maildir, name, text, flags=""):
    (maildir / "cur" / f"{name}:2,{flags}").write_text(f"From: a@example.test\nSubject: {name}\n\n{text}\n")


def append(server, user, mailbox, text):
    session = imaplib.IMAP4("127.0.0.1", server.port, timeout=10)
    session.login(user, server.password(user))
    session.create(mailbox)
    assert session.append(mailbox, "\\Seen", None, text)[0] == "OK"
    session.logout()


def two_way(system, server, capsys, name, user, folder, sync):
    """Mail is made, flagged and removed on both sides between the runs; in the end both have the same."""
    mail = folder / "mail"
    mail.mkdir(mode=0o700)
    turns = []

    def visit():
        turn = len(turns)
        if turn == 1:
            deliver(mail / "INBOX", "1700000001.1.local", "made here", "S")
            append(server, user, "box", b"Subject: there\r\n\r\nmade there\r\na1 LOGOUT\r\n")
        if turn == 2:
            deliver(mail / "box", "1700000002.2.local", "for the box " * 5000)
        if turn == 3:  # flags here, and one message is removed here
            for file in [*(mail / "INBOX" / "cur").iterdir(), *(mail / "INBOX" / "new").iterdir()]:
                if b"made here" in file.read_bytes():
                    base = file.name.partition(":2,")[0]
                    file.rename(mail / "INBOX" / "cur" / f"{base}:2,FS")
        if turn == 4:
            for file in [*(mail / "box" / "cur").iterdir(), *(mail / "box" / "new").iterdir()]:
                if b"made there" in file.read_bytes():
                    file.unlink()
        turns.append(turn)
        sync()
    share, _ = visits(system, capsys, name, visit, 11)
    here, there = in_maildirs(mail), on_server(server, user)
    assert here == there
    assert [flags for text, flags in there["INBOX"] if b"made here" in text] == ["FS"]
    assert [b"for the box" in text for text, _ in there["box"]] == [True]
    return share


@pytest.mark.skipif(not shutil.which("mbsync"), reason="isync is not installed")
def test_mbsync(system, server, capsys, tmp_path):
    rc = tmp_path / "rc"
    rc.write_text(MBSYNCRC.format(port=system.port, user="user3", password="secret3", folder=tmp_path))
    share = two_way(system, server, capsys, "mbsync", "user3", tmp_path, lambda: run("mbsync", "-q", "-c", rc, "-a"))
    assert share >= SHARE


@pytest.mark.skipif(not shutil.which("offlineimap"), reason="offlineimap3 is not installed")
def test_offlineimap(system, server, capsys, tmp_path):
    rc = tmp_path / "rc"
    rc.write_text(OFFLINEIMAPRC.format(port=system.port, user="user4", password="secret4", folder=tmp_path))
    share = two_way(system, server, capsys, "offlineimap", "user4", tmp_path,
                    lambda: run("offlineimap", "-c", rc, "-o", env=dict(os.environ, HOME=str(tmp_path))))
    assert share >= SHARE


# --- imapflow ---------------------------------------------------------------------------------------------
def node_modules():
    """Installs what the lock file says, once. Returns None, or why that is not possible."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "node or npm is not installed"
    NODE.mkdir(parents=True, exist_ok=True)
    lock = (NODE_SOURCE / "package-lock.json").read_bytes()
    done = NODE / "installed"
    if done.exists() and done.read_bytes() == lock:
        return None
    for name in ("package.json", "package-lock.json"):
        shutil.copy2(NODE_SOURCE / name, NODE / name)
    npm = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=NODE, capture_output=True,
                         check=False, timeout=200, text=True)
    if npm.returncode != 0:
        return f"npm ci failed: {npm.stderr.strip().splitlines()[-1:]}"
    done.write_bytes(lock)
    return None


@pytest.fixture(scope="module")
def imapflow():
    reason = node_modules()
    if reason:
        pytest.skip(reason)
    return lambda port, user: json.loads(run(
        "node", NODE_SOURCE / "click.js", "127.0.0.1", port, user, dovecot.Dovecot.password(user),
        env=dict(os.environ, NODE_PATH=str(NODE / "node_modules"))))


def test_imapflow_works(system, imapflow):
    for _ in range(2):
        result = imapflow(system.port, "user5")
        assert result["source"].endswith("This is the mail of <user5>.\r\n") and result["flagged"] == [1]


def test_imapflow_is_reused(system, imapflow, capsys):
    share, _ = visits(system, capsys, "imapflow", lambda: imapflow(system.port, "user6"), 4)
    assert share >= SHARE
