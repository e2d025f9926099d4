"""Roundcube in a headless Chromium, its mail in Dovecot, Keepwarm between them: what the page shows, and that nearly all of
its logins take a warm connection. Pictures of one visit are left in build/check/roundcube/.
"""
import shutil
import time

import pytest

from keepwarm import dovecot, process, roundcube
from keepwarm.conversation import login
from keepwarm.process import wait_until
from keepwarm.system import ROOT

PICTURES = ROOT / "build" / "check" / "roundcube"
SHARE = 0.9
LETTERS, VISITS = 13, 6
LETTER = ("From: Bert <bert@example.test>\r\nTo: user1@example.test\r\nSubject: letter {n}\r\n"
          "Date: Tue, 14 Nov 2023 10:{n:02}:00 +0000\r\nMessage-ID: <{n}@example.test>\r\n\r\nThis is body {n}.\r\n")
ENTER = "\ue007"
ROWS = "#messagelist tbody tr.message"

pytestmark = pytest.mark.skipif(dovecot.missing() is not None, reason=str(dovecot.missing()))


@pytest.fixture(scope="module")
def server():
    server = dovecot.Dovecot(1)
    for path in (server.maildir("user1") / "cur").iterdir():
        path.unlink()
    for number in range(1, LETTERS + 1):
        path = server.maildir("user1") / "cur" / f"{1700000000 + number}.M{number}P1.host:2,"
        path.write_text(LETTER.format(n=number), newline="")
        shutil.chown(path, "nobody", "nogroup")
    yield server.start()
    server.stop()


@pytest.fixture(scope="module")
def system(make_once, server):
    if roundcube.missing():
        pytest.skip(roundcube.missing())
    return make_once.system(server)


@pytest.fixture(scope="module")
def site(system):
    site = roundcube.Roundcube(system.port)
    try:
        yield site.start()
    finally:
        site.stop()
        assert not process.find(site.folder.name)


class Visit:
    """One visit of one user: what he clicks, and what he must see then."""

    def __init__(self, browser, site, number):
        self.browser, self.site, self.number = browser, site, number

    def picture(self, name):
        if self.number == 1:
            self.browser.picture(name)

    def subjects(self):
        """The subjects in the list, from the top."""
        return self.browser.script(
            f"return Array.from(document.querySelectorAll('{ROWS}')).filter(row => row.offsetParent)"
            ".map(row => row.querySelector('td.subject span.subject a').innerText.trim())")

    def see(self, *letters):
        """Waits until the list shows these letters, in this order."""
        want = [f"letter {letter}" for letter in letters]
        wait_until(lambda: self.subjects() == want, lambda: f"{want} expected, the list has {self.subjects()}")

    def mark(self, letter):
        """Gives the row of a letter an id by which a selector finds it."""
        self.browser.script(
            f"for (const row of document.querySelectorAll('{ROWS}')) row.classList.toggle('wanted',"
            f" row.querySelector('td.subject span.subject a').innerText.trim() == 'letter {letter}')")
        return f"{ROWS}.wanted"

    def log_in(self):
        self.browser.go(self.site.url)
        self.browser.write("#rcmloginuser", "user1")
        self.browser.write("#rcmloginpwd", "secret1")
        self.picture("1-login")
        self.browser.click("#rcmloginsubmit")

    def list(self):
        left = [n for n in range(LETTERS, 0, -1) if not VISITS < n < VISITS + self.number]
        self.see(*left)
        flagged = self.browser.script(f"return document.querySelectorAll('{ROWS}.flagged').length")
        assert flagged == self.number - 1, "the flags of the visits before"
        self.picture("2-list")
        return left

    def open(self, letter, picture=None):
        self.browser.click(f"{self.mark(letter)} td.subject span.subject a")
        self.browser.frame("#messagecontframe")
        self.browser.wait_for(f"document.querySelector('#messagebody')?.innerText.trim() == 'This is body {letter}.'",
                              f"letter {letter} is not shown")
        self.browser.frame(None)
        self.browser.wait_for(f"!document.querySelector('{ROWS}.wanted').classList.contains('unread')", "it is unread still")
        if picture:
            self.picture(picture)

    def flag(self, letter):
        row = self.mark(letter)
        self.browser.hover(row)  # the flag is there for the mouse only
        self.browser.click(f"{row} td.flags span.flag")
        self.browser.wait_for(f"document.querySelector('{ROWS}.wanted').classList.contains('flagged')", "it has no flag")
        self.browser.wait_for("!rcmail.busy", "busy")
        self.picture("4-flagged")

    def delete(self, letter, left):
        self.open(letter)
        self.browser.click("a.delete:not(.disabled)")
        self.see(*[n for n in left if n != letter])
        self.browser.wait_for("/moved to Trash/.test(document.body.innerText)", "Roundcube does not say that it moved it")
        self.picture("5-deleted")

    def look_into_trash(self):
        self.browser.click("#mailboxlist li.trash a")
        self.see(*range(VISITS + self.number, VISITS, -1))
        self.picture("6-trash")
        self.browser.click("#mailboxlist li.inbox a")
        self.browser.wait_for(f"document.querySelectorAll('{ROWS}').length == {LETTERS - self.number}", "INBOX again")

    def search(self, letter):
        self.browser.write("#mailsearchform", f"letter {letter}{ENTER}")
        self.see(letter)
        self.picture("7-search")

    def log_out(self):
        self.browser.click("a.logout")
        self.browser.element("#rcmloginuser")
        assert "You have successfully terminated the session" in self.browser.text()
        self.picture("8-logout")


def whole_visit(browser, site, number):
    visit = Visit(browser, site, number)
    visit.log_in()
    left = visit.list()
    visit.open(LETTERS, "3-open")
    visit.flag(number)
    visit.delete(VISITS + number, left)
    visit.look_into_trash()
    visit.search(LETTERS)
    visit.log_out()


@pytest.fixture(scope="module")
def visited(system, site):
    """The statistics after all visits."""
    begin = time.monotonic()
    shutil.rmtree(PICTURES, ignore_errors=True)
    browser = roundcube.Browser(site.driver_port, PICTURES)
    try:
        for number in range(1, VISITS + 1):
            whole_visit(browser, site, number)
    except BaseException:
        browser.picture("failed")
        print(site.errors())
        raise
    finally:
        browser.close()
    system.wait_counter("logins", site.dialogue().count(" AUTHENTICATE PLAIN"))
    return dict(system.stats(), seconds=time.monotonic() - begin)


def test_the_page_shows_what_is_in_the_mailbox_and_clicks_change_it(visited, server, site):
    """What the page must show is asserted in each step of a visit; here is what Dovecot itself says after all of them."""
    assert visited["counters"]["logins"] >= 8 * VISITS
    server.wait_logins(visited["counters"]["logins_fresh"], "user1")
    assert site.errors() == ""
    with login(server.port, "user1", "secret1") as client:
        client.ok("SELECT INBOX")
        flagged = b" ".join(b"%d" % number for number in range(1, VISITS + 1))
        assert client.ok("SEARCH FLAGGED").untagged == [b"* SEARCH %s\r\n" % flagged]
        assert b"MESSAGES %d)" % VISITS in client.ok("STATUS Trash (MESSAGES)").text


def test_nearly_all_logins_are_reused(visited, capsys):
    logins, reused = visited["counters"]["logins"], visited["counters"]["logins_reused"]
    why = {reason: count for reason, count in visited["not_cached"].items() if count and reason != "cached"}
    with capsys.disabled():
        print(f"\nRoundcube: {VISITS} visits in {visited['seconds']:.1f} s, {reused} of {logins} logins reused "
              f"({100 * reused / logins:.0f} %), not cached: {why or 'none'}")
    assert reused / logins >= SHARE
