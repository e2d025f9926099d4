"""The main job against a real mail server: Dovecot, with Python's imaplib and curl as clients."""
import imaplib
import json
import os
import subprocess
import sys

import pytest

from keepwarm import dovecot, process
from keepwarm.imap import LOGINS
from keepwarm.process import wait_until
from keepwarm.system import ROOT

USERS = 50
CLIENTS = 16
LOGINS_EACH = int(os.environ.get("KEEPWARM_LOGINS", "500"))

pytestmark = pytest.mark.skipif(dovecot.missing() is not None, reason=str(dovecot.missing()))


@pytest.fixture(scope="module")
def server():
    server = dovecot.Dovecot(USERS).start()
    yield server
    server.stop()


@pytest.fixture
def system(make, server):
    return make.system(server)


def webmail_request(port, user, password):
    """What one click in a webmail does, by imaplib. Returns whether the connection was a reused one."""
    session = imaplib.IMAP4("127.0.0.1", port, timeout=10)
    assert "XIMAPPROXY" in session.capabilities
    session.login(user, password)
    reused = bool(session.untagged_responses.get("XPROXYREUSE"))
    assert session.select("INBOX") == ("OK", [b"1"])
    status, data = session.fetch("1", "(BODY.PEEK[TEXT])")
    assert status == "OK" and data[0][1] == f"This is the mail of <{user}>.\r\n".encode()
    status, data = session.list()
    assert status == "OK" and any(b"INBOX" in line for line in data)
    assert session.logout()[0] == "BYE"
    return reused


def test_the_second_request_of_a_webmail_takes_the_first_ones_connection(system, server):
    for reused in (False, True, True):
        assert webmail_request(system.port, "user1", "secret1") == reused
        system.wait_given()
    server.wait_logins(1, "user1")
    assert server.sessions_ended("user1") == 0


def test_dovecot_sees_the_session_end_when_the_system_stops(make, server):
    system = make.system(server)
    webmail_request(system.port, "user2", "secret2")
    system.wait_cached(1)
    assert server.sessions_ended("user2") == 0
    system.stop_and_keep()
    wait_until(lambda: server.sessions_ended("user2") == 1, server.log_text)


def test_dovecot_sees_a_logout_when_a_connection_expires(make, server):
    system = make.system(server, cache_expiration_time=1)
    webmail_request(system.port, "user10", "secret10")
    wait_until(lambda: server.sessions_ended("user10") == 1, server.log_text)
    assert server.ends("user10") == ["Logged out"]
    system.wait_counters(errands=1, errands_failed=0)


def curl(port, path, user, password):
    return subprocess.run(["curl", "-sS", "--max-time", "20", "--user", f"{user}:{password}",
                           f"imap://127.0.0.1:{port}/{path}"], capture_output=True, check=False, text=True)


def test_curl_twice_is_one_login_for_dovecot(system, server):
    for _ in range(2):
        result = curl(system.port, "INBOX;MAILINDEX=1", "user3", "secret3")
        assert "This is the mail of <user3>." in result.stdout, result
        system.wait_given()
    server.wait_logins(1, "user3")
    system.wait_counter("logins_reused", 1)


def test_curl_hears_of_a_wrong_password(system):
    result = curl(system.port, "INBOX;MAILINDEX=1", "user3", "wrong")
    assert result.returncode == 67, result  # login denied


@pytest.mark.parametrize("how", LOGINS)
def test_every_way_to_log_in_works_and_shares(system, server, how):
    before = server.logins("user4")
    for reused in (False, True):
        with system.client() as client:
            reply = client.login("user4", "secret4", how)
            assert reply.ok and reply.reused == reused, reply
            assert reply.capabilities[-1] == "XIMAPPROXY" and "SORT" in reply.capabilities
            client.ok("SELECT INBOX")
            client.logout()
        system.wait_given()
    server.wait_logins(before + 1, "user4")


def test_a_wrong_password_is_refused_with_dovecots_code(system):
    webmail_request(system.port, "user5", "secret5")
    system.wait_cached(1)
    with system.client() as client:
        assert client.login("user5", "wrong").tagged == b"NO [AUTHENTICATIONFAILED] LOGIN failed"
    assert webmail_request(system.port, "user5", "secret5")


def test_a_mailbox_is_unselected_and_deleted_messages_stay(system):
    """CLOSE would have expunged them."""
    with system.session("user6", "secret6") as client:
        client.ok("SELECT INBOX")
        client.ok("STORE 1 +FLAGS (\\Deleted)")
        client.logout()
    system.wait_cached(1)
    with system.session("user6", "secret6", reused=True) as client:
        assert client.command("FETCH 1 UID").tagged.startswith(b"BAD ")
        assert b"* 1 EXISTS\r\n" in client.ok("SELECT INBOX").untagged
        client.ok("STORE 1 -FLAGS (\\Deleted)")


def test_messages_and_mailboxes_of_two_sessions_in_a_row(system):
    with system.session("user7", "secret7") as client:
        client.ok("CREATE box")
        client.send(b"a1 APPEND box {13}\r\n")
        client.expect(rb"\+ [^\r\n]*\r\n")
        client.send(b"x LOGOUT\r\nyz\n\r\n")
        assert client.reply("a1").ok
        client.logout()
    system.wait_cached(1)
    with system.session("user7", "secret7", reused=True) as client:
        client.ok("SELECT box")
        assert b"x LOGOUT\r\n" in client.ok("FETCH 1 BODY.PEEK[]").text
        client.ok("UNSELECT")
        client.ok("DELETE box")


@pytest.mark.parametrize("leave", ["idle", "half literal", "fetch"])
def test_a_client_that_leaves_badly_does_not_disturb_the_next(system, leave):
    client = system.session("user8", "secret8")
    client.ok("SELECT INBOX")
    if leave == "idle":
        client.send("a1 IDLE\r\n")
        client.expect(rb"\+ [^\r\n]*\r\n")
    elif leave == "half literal":
        client.send("a1 APPEND INBOX {100}\r\n")
        client.expect(rb"\+ [^\r\n]*\r\n")
        client.send("From: half\r\n")
    else:
        client.send("a1 FETCH 1:* BODY.PEEK[]\r\n" * 50)
    client.close()
    webmail_request(system.port, "user8", "secret8")


def test_enable_is_not_inherited(system):
    with system.session("user9", "secret9") as client:
        client.ok("ENABLE QRESYNC")
        client.logout()
    with system.session("user9", "secret9", reused=False) as client:
        assert b"HIGHESTMODSEQ 0" not in client.ok("SELECT INBOX").text


def storm(system, number):
    return process.start([sys.executable, "-m", "keepwarm.storm", system.port, number, LOGINS_EACH, USERS],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env=dict(os.environ, PYTHONPATH=str(ROOT / "tests")))


def test_many_clients_of_many_users_see_only_their_own_mail(make, server, capsys):
    system = make.system(server, cache_size=400)
    server.wait_ended()
    before = server.logins()
    children = [storm(system, number) for number in range(CLIENTS)]
    results = []
    for child in children:
        output, errors = child.communicate(timeout=200)
        assert child.returncode == 0, errors.decode()
        results.append(json.loads(output))
    total = {name: sum(result[name] for result in results) for name in ("logins", "reused", "wrong")}
    seconds = max(result["seconds"] for result in results)
    assert total["logins"] == CLIENTS * LOGINS_EACH
    system.wait_counter("logins", total["logins"])
    reused = system.counter("logins_reused")
    server.wait_logins(before + total["logins"] - reused)
    # who is seen for the first time is reused without being told so: it may be one that believes it
    assert 0.9 * reused <= total["reused"] <= reused
    with capsys.disabled():
        print(f"\n{total['logins']} logins of {USERS} users by {CLIENTS} clients in {seconds:.1f} s: "
              f"{100 * total['reused'] / total['logins']:.1f} % reused, {total['wrong']} wrong passwords refused")
    assert total["reused"] > total["logins"] / 2
    assert seconds < 170
