"""Who gets a cached connection, and what it looks like to him."""
import re

import pytest

from keepwarm.backend import AFTER
from keepwarm.imap import LOGINS, REUSE_LINE, b64

HIDDEN = re.compile(r"AUTH=|SASL-IR$|STARTTLS$|LOGINDISABLED$|COMPRESS=|LOGIN-REFERRALS$")
EXPECTED = [word for word in AFTER.split() if not HIDDEN.match(word)] + ["XIMAPPROXY"]


def one_session(system, user="anna", password=None, how="quoted", reused=None, cached=1):
    """Logs in, works, logs out, and waits until so many connections are cached."""
    client = system.session(user, password, how, reused)
    client.ok("SELECT INBOX")
    assert f"<{user}>".encode() in client.ok("FETCH 1 BODY[]").text
    client.logout()
    if cached:
        system.wait_given()
    system.wait_cached(cached)
    return client.login_reply


def test_the_second_login_takes_the_first_ones_connection(system, backend):
    one_session(system, reused=False)
    one_session(system, reused=True)
    one_session(system, reused=True)
    assert len(backend.connections) == 1
    assert len(backend.logins) == 1
    assert "LOGOUT" not in backend.connections[0].verbs()
    system.wait_counter("logins_reused", 2)
    system.wait_counter("logins_fresh", 1)


@pytest.mark.parametrize("how,text", [("quoted", b"User logged in"), ("plain-initial", b"User authenticated")])
def test_the_reply_of_a_reused_login_is_exact_and_one_segment(system, how, text):
    one_session(system, how=how)
    with system.client() as client:
        before = client.data_segments()
        tag = client.tag()
        LOGINS[how](client, tag, b"anna", b"pw-anna")
        client.fill()
        assert client.buffer == (REUSE_LINE + tag + b" OK [CAPABILITY " + " ".join(EXPECTED).encode()
                                 + b"] " + text + b"\r\n")
        assert client.data_segments() - before == 1


@pytest.mark.parametrize("how", LOGINS)
def test_all_ways_to_log_in_share_a_connection(system, backend, how):
    one_session(system, how="atoms")
    one_session(system, how=how, reused=True)
    one_session(system, how="plain", reused=True)
    assert len(backend.connections) == 1


def test_another_user_never_gets_it(system, backend):
    backend.passwords = {"anna": b"same", "bert": b"same", "Anna": b"same", "anna ": b"same"}
    one_session(system, "anna", "same")
    for number, other in enumerate(["bert", "Anna", "anna "], 2):
        one_session(system, other, "same", reused=False, cached=number)
    assert len(backend.connections) == 4


def test_another_password_never_gets_it_and_does_not_evict(system, backend):
    one_session(system)
    for wrong in ("pw-ann", "pw-annaa", "PW-ANNA", "wrong"):
        with system.client() as client:
            assert client.login("anna", wrong).tagged == b"NO [AUTHENTICATIONFAILED] LOGIN failed"
    system.wait_cached(1)
    one_session(system, reused=True)
    assert backend.connections[0].commands[-1].verb in ("NOOP", "UNSELECT")


def test_user_and_password_are_kept_apart_in_the_key(system, backend):
    backend.passwords = {"ab": b"c", "a": b"bc"}
    one_session(system, "ab", "c")
    one_session(system, "a", "bc", reused=False, cached=2)


def test_another_authorization_identity_never_gets_it(system, backend):
    one_session(system)
    with system.client() as client:
        client.send(b"a1 AUTHENTICATE PLAIN " + b64(b"anna2\0anna\0pw-anna") + b"\r\n")
        assert not client.reply("a1").reused
    assert len(backend.connections) == 2


def test_a_mailbox_is_unselected_and_never_closed(system, backend):
    one_session(system)
    with system.session(reused=True) as client:
        assert client.command("FETCH 1 BODY[]").tagged.startswith(b"BAD ")
    assert "UNSELECT" in backend.connections[0].verbs()
    assert "CLOSE" not in backend.connections[0].verbs()


def test_unselect_is_not_sent_when_nothing_was_selected(system, backend):
    client = system.session()
    client.ok("NOOP")
    client.logout()
    system.wait_cached(1)
    assert "UNSELECT" not in backend.connections[0].verbs()


def test_the_barrier_has_random_tags(system, backend):
    for _ in range(4):
        one_session(system)
    tags = [c.tag for c in backend.connections[0].commands if c.verb == "NOOP"]
    assert len(tags) == len(set(tags)) == 4
    assert all(len(tag) >= 6 for tag in tags)


def test_fresh_and_reused_logins_show_the_same_capabilities(system):
    assert one_session(system, reused=False).capabilities == EXPECTED
    assert one_session(system, reused=True).capabilities == EXPECTED


def test_hidden_capabilities_are_not_told(make, backend):
    system = make.system(backend, hide_capabilities="X-TEST idle")
    for reused in (False, True):
        assert one_session(system, reused=reused).capabilities == [
            word for word in EXPECTED if word not in ("X-TEST", "IDLE")]


def test_two_sessions_of_one_user_have_two_connections(system, backend):
    first, second = system.session(), system.session(reused=False)
    first.ok("NOOP")
    second.ok("NOOP")
    assert len(backend.connections) == 2
    first.logout()
    second.logout()
    system.wait_given()
    system.wait_given()
    system.wait_cached(2)
    one_session(system, reused=True, cached=2)


def test_a_login_right_behind_the_logout_waits_for_the_connection(system, backend):
    """No wait for the cache here: back-to-back webmail requests must hit."""
    system.session().logout()

    def most_hit():
        """A login waits for 50 ms at most, of which a busy machine may take all; without that wait hardly one would hit."""
        hits = 0
        for _ in range(20):
            client = system.session()
            hits += client.login_reply.reused
            client.logout()
        return hits >= 18
    assert any(most_hit() for _ in range(5))


@pytest.mark.parametrize("commands", [
    ["SELECT INBOX", "ENABLE CONDSTORE"],
    ["XUNKNOWN"],
    ["NOTIFY SET (selected (MessageNew))"],
    ["SELECT INBOX", "FETCH 1 (UID MODSEQ)"],
    ["SELECT INBOX", "FETCH 1 (FLAGS) (CHANGEDSINCE 1)"],
    ["SELECT INBOX", "UID FETCH 1 (modseq)"],
], ids=lambda commands: " / ".join(commands))
def test_what_leaves_a_trace_is_not_reused(system, backend, commands):
    client = system.session()
    for command in commands:
        client.ok(command)
    client.logout()
    backend.wait_for(lambda: backend.connections[0].closed.is_set(), "the connection is still open")
    one_session(system, reused=False)
    assert len(backend.connections) == 2


def test_safe_commands_make_a_verb_harmless(make, backend):
    system = make.system(backend, safe_commands="XOTHER XUNKNOWN")
    client = system.session()
    client.ok("XUNKNOWN")
    client.logout()
    system.wait_given()
    one_session(system, reused=True)


def test_id_before_login_does_not_hinder_reuse(system):
    one_session(system)
    with system.client() as client:
        client.ok('ID ("name" "other")')
        assert client.login("anna", "pw-anna").ok
        client.ok("NOOP")
    system.wait_counter("logins_reused", 1)


def test_caching_can_be_turned_off(make, backend):
    system = make.system(backend, cache_expiration_time=0)
    for count in (1, 2):
        one_session(system, reused=False, cached=0)
        backend.wait_for(lambda: backend.connections[count - 1].closed.is_set(), "not closed")
    assert len(backend.connections) == 2
