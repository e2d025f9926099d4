"""The rules of test_spec_rows.py that no real server can be brought to, with a scripted mail host; and where the rest is shown.

A test's name begins with the part of the rules that it is about. What must fail is listed in keepwarm/gaps.py.
"""
import ast
import re
import threading

import pytest

from keepwarm import gaps, rows
from keepwarm.backend import AFTER
from keepwarm.process import wait_until
from keepwarm.system import ROOT

# Rules that are shown elsewhere: rule -> file below tests/ and the name of the test there.
POINTERS = {
    "1 untagged data before +, by a server that does it unasked":
        ("scenarios/test_session.py", "test_untagged_data_before_the_continuation_does_not_confuse"),
    "2.2 never CLOSE, without UNSELECT":
        ("scenarios/test_capabilities.py", "test_without_unselect_a_mailbox_that_cannot_exist_is_examined"),
    "2.2 safe_commands adds verbs": ("scenarios/test_reuse.py", "test_safe_commands_make_a_verb_harmless"),
    "2.2 an allow-list: what is not listed is never given back":
        ("unit/test_verbs.c", "what_is_not_listed_is_never_given_back"),
    "2.2 the words of CONDSTORE are found anywhere in a line":
        ("unit/test_verbs.c", "the_words_of_condstore_are_found_anywhere_in_a_line"),
    "2.2 repeated ENABLE, answered as a fresh server would":
        ("servers/conversations/60-extensions.txt", "enable the one and then the other again"),
    "2.2 COMPRESS, UNAUTHENTICATE: refused by the proxy":
        ("scenarios/test_capabilities.py", "test_it_is_refused_and_the_connection_stays_reusable"),
    "2.2 SASL-IR is offered before login":
        ("scenarios/test_before_login.py", "test_the_greeting_carries_the_proxys_own_capabilities"),
    "2.3 quiet 1: the client is at a command's beginning": ("unit/test_follow_quiet.c", "a_drop_inside_append_is_partial"),
    "2.3 quiet 2: each command has its completion, by its tag":
        ("unit/test_follow_quiet.c", "a_drop_in_the_middle_of_fetch_is_busy"),
    "2.3 quiet 3: no continuation is pending":
        ("unit/test_follow_quiet.c", "a_drop_in_idle_is_partial_until_done_was_sent"),
    "2.3 quiet 4: the server is at a line's beginning":
        ("unit/test_follow_quiet.c", "the_pieces_in_which_bytes_come_change_nothing"),
    "2.3 quiet 5: nothing waits in a buffer": ("scenarios/test_drops.py",
                                               "test_a_strange_answer_to_the_barrier_means_no_reuse"),
    "2.3 quiet 6: no BYE, nothing odd, no such verb":
        ("unit/test_follow_quiet.c", "the_first_reason_stays_and_bye_is_above_all"),
    "2.3 quiet 7: the barrier has random tags": ("scenarios/test_reuse.py", "test_the_barrier_has_random_tags"),
    "2.3 quiet 8: lifetime": ("scenarios/test_cache.py", "test_a_login_may_not_be_used_longer_than_cache_max_age"),
    "2.3 LOGOUT is answered at once": ("scenarios/test_session.py", "test_logout_behind_commands_gets_their_replies_first"),
    "2.3 drop during the backend's login": ("scenarios/test_drops.py", "test_a_drop_during_the_backend_login"),
    "2.3 a client that does not read": ("scenarios/test_stuck.py", "test_a_client_that_does_not_read_costs_nothing"),
    "2.3 a session's process is killed": ("scenarios/test_failures.py",
                                          "test_a_killed_session_does_not_leave_its_connection_to_anybody"),
    "2.3 data on a cached connection": ("scenarios/test_cache.py", "test_any_byte_or_close_evicts"),
    "2.3 a connection that was idle for long is proven":
        ("scenarios/test_cache.py", "test_an_old_connection_is_proven_with_a_random_tag"),
    "2.3 a dead connection is replaced silently":
        ("scenarios/test_cache.py", "test_a_dead_connection_is_replaced_without_the_client_noticing"),
    "2.3 LOGOUT when a connection expires": ("scenarios/test_errand.py", "test_an_expired_connection_is_logged_out"),
    "2.3 BYE on an active connection": ("scenarios/test_session.py", "test_a_bye_in_the_session_is_passed_on_and_ends_it"),
    "2.3 BYE before the login's OK": ("scenarios/test_backend_login.py",
                                      "test_a_mail_host_that_breaks_during_login_is_unavailable"),
    "2.5 the greeting has the list": ("scenarios/test_before_login.py",
                                      "test_the_greeting_carries_the_proxys_own_capabilities"),
    "2.5 before login no mail host is asked": ("scenarios/test_before_login.py", "test_no_backend_is_asked_before_a_login"),
    "2.5 hide_capabilities": ("scenarios/test_reuse.py", "test_hidden_capabilities_are_not_told"),
    "2.5 fresh and reused show the same": ("scenarios/test_reuse.py",
                                           "test_fresh_and_reused_logins_show_the_same_capabilities"),
    "2.5 the client's own CAPABILITY says what the login said, in the mail host's words":
        ("scenarios/test_capabilities.py", "test_capability_within_a_session_is_what_the_login_said"),
    "2.5 a list that is known is told at once":
        ("scenarios/test_capabilities.py", "test_the_list_of_the_accounts_other_connection_is_told_at_once"),
    "2.5 never a list that the connection does not have":
        ("scenarios/test_capabilities.py", "test_if_it_is_another_one_the_client_hears_of_it_before_anything_else"),
    "2.6 cap per user": ("scenarios/test_cache.py", "test_the_cache_of_one_user_is_bounded"),
    "2.6 a login behind a logout waits for the connection":
        ("scenarios/test_reuse.py", "test_a_login_right_behind_the_logout_waits_for_the_connection"),
    "2.6 expiry": ("scenarios/test_cache.py", "test_a_connection_expires"),
}


@pytest.fixture(autouse=True)
def known_gap(request):
    gaps.must_fail(request, gaps.gap(None, request.node.name))


def visit(system, *commands, user="anna", password=None):
    """One session, to the end of what it had to do with its connection. Returns the client's login reply."""
    ended = rows.sessions_ended(system, user)
    client = system.session(user, password)
    for command in commands:
        client.ok(command)
    client.logout()
    rows.wait_ended(system, user, ended)
    return client.login_reply


def used(backend):
    """The verbs that each connection has seen of clients."""
    return [[verb for verb in conn.verbs() if verb not in ("LOGIN", "AUTHENTICATE", "NOOP", "LOGOUT")]
            for conn in backend.connections]


@pytest.mark.parametrize("rule", POINTERS)
def test_pointer(rule):
    file, name = POINTERS[rule]
    assert re.search(rf"\b{re.escape(name)}\b", (ROOT / "tests" / file).read_text(encoding="utf-8"))


def test_each_gap_has_its_test():
    names = {name.partition("[")[0] for name, _ in gaps.GAPS if name.startswith("test_")}
    tree = ast.parse((ROOT / "tests" / "servers" / "test_spec_rules.py").read_text(encoding="utf-8"))
    assert names <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


# --- 2.2: what extensions leave ---------------------------------------------------------------------
NEVER_AGAIN = {  # leaves what cannot be undone: the next session is on another connection
    "COMPARATOR": "COMPARATOR i;octet",
    "NOTIFY": "NOTIFY SET (selected (MessageNew))", "PROXYAUTH": "PROXYAUTH bert", "XMASTER": "XMASTER bert",
    "X-": "X-SOMETHING", "an unknown verb": "SOMETHING", "LOGIN": "LOGIN bert pw-bert", "IMAP4rev2": "ENABLE IMAP4rev2",
    "UIDONLY": "ENABLE UIDONLY", "UTF8=ACCEPT": "ENABLE UTF8=ACCEPT", "QRESYNC": "ENABLE QRESYNC", "LANGUAGE": "LANGUAGE de",
}


@pytest.mark.parametrize("extension", NEVER_AGAIN)
def test_2_2_not_for_a_plain_session(system, backend, extension):
    command = NEVER_AGAIN[extension]
    verb = command.split()[0]
    if verb != "ENABLE":
        backend.answers[verb] = b"TAG OK done\r\n"
    visit(system, command)
    visit(system, "SELECT INBOX")
    on = [verbs for verbs in used(backend) if "SELECT" in verbs]
    assert len(on) == 1 and verb not in on[0], used(backend)


@pytest.mark.parametrize("extension", ["IMAP4rev2", "UIDONLY", "LANGUAGE"])
def test_2_2_same_again(system, backend, extension):
    """Who wants the same each time gets the connection, from the third login on."""
    backend.answers["LANGUAGE"] = b"* LANGUAGE (de)\r\nTAG OK done\r\n"
    for _ in range(6):
        visit(system, NEVER_AGAIN[extension])
    assert len(backend.logins) <= 2, f"{len(backend.logins)} logins at the mail host"


HARMLESS = {
    "MULTISEARCH": 'ESEARCH IN (mailboxes "INBOX") ALL', "PARTIAL": "SEARCH RETURN (PARTIAL 1:2) ALL",
    "CONTEXT=SORT": "SORT RETURN (UPDATE) (DATE) US-ASCII ALL", "REPLACE": "REPLACE 1 INBOX {5+}\r\nhello",
    "X-GM-EXT-1": "FETCH 1 X-GM-LABELS", "INPROGRESS": "SEARCH TEXT hello", "MESSAGELIMIT": "SEARCH ALL", "QUOTA": "GETQUOTA x",
    "UIDBATCHES": "UIDBATCHES 10", "URLAUTH RESETKEY": "RESETKEY", "URLFETCH": 'URLFETCH "imap://x/y"',
    "XAPPLEPUSHSERVICE": "XAPPLEPUSHSERVICE aps-version 2", "JMAPACCESS": "GETJMAPACCESS", "XLIST": 'XLIST "" *',
    "LOGIN-REFERRALS": "NOOP", "an alert": "CHECK",
}


@pytest.mark.parametrize("extension", HARMLESS)
def test_2_2_harmless(system, backend, extension):
    command = HARMLESS[extension]
    backend.answers[command.split()[0]] = b"TAG OK [ALERT] done\r\n"
    visit(system, command)
    assert visit(system, "NOOP").reused
    assert len(backend.logins) == 1


NOT_OFFERED = ["STARTTLS", "LOGINDISABLED", "AUTH=PLAIN", "AUTH=X", "SASL-IR", "COMPRESS=DEFLATE", "UNAUTHENTICATE",
               "X-UNAUTHENTICATE", "LOGIN-REFERRALS", "MAILBOX-REFERRALS", "JMAPACCESS"]


@pytest.mark.parametrize("word", NOT_OFFERED)
def test_2_2_not_offered(make, word):
    system = make.system(make.backend(after=f"IMAP4rev1 {word} UNSELECT"))
    for _ in range(2):
        assert visit(system).capabilities == ["IMAP4rev1", "UNSELECT", "XIMAPPROXY"]


def test_2_2_uidonly_is_offered_since_it_is_followed(make):
    """Who enables it gets its own connections again, test_2_2_same_again; a site may hide it."""
    for hidden in ("", "UIDONLY"):
        system = make.system(make.backend(after="IMAP4rev1 UIDONLY"), **({"hide_capabilities": hidden} if hidden else {}))
        assert visit(system).capabilities == ["IMAP4rev1", *(["UIDONLY"] if not hidden else []), "XIMAPPROXY"]


def test_2_2_examine_without_unselect_is_undone_by_close(make):
    """What was opened read-only can be closed: nothing is expunged."""
    backend = make.backend(after="IMAP4rev1")
    system = make.system(backend)
    backend.answers["EXAMINE"] = b"* 1 EXISTS\r\nTAG OK [READ-ONLY] done\r\n"
    backend.answers["CLOSE"] = b"TAG OK done\r\n"
    visit(system, "EXAMINE INBOX")
    assert visit(system).reused


def test_2_2_select_without_unselect_is_undone_by_a_failed_examine(make):
    backend = make.backend(after="IMAP4rev1")
    system = make.system(backend)
    visit(system, "SELECT INBOX")
    assert visit(system).reused
    assert "CLOSE" not in backend.connections[0].verbs()


def test_2_2_a_failed_examine_that_is_bad_proves_nothing(make):
    backend = make.backend(after="IMAP4rev1", answers={"EXAMINE": b"TAG BAD what\r\n"})
    system = make.system(backend)
    visit(system, "SELECT INBOX")
    assert not visit(system).reused


def test_2_2_pop3_is_not_cached_and_readme_says_so():
    assert "POP3 is not cached" in (ROOT / "README.md").read_text(encoding="utf-8")


# --- 2.3: how a session ends -------------------------------------------------------------------------
def test_2_3_a_burst_of_bye_empties_the_cache_of_that_mail_host(system, backend):
    """Three within two seconds: it is restarting."""
    for number in range(4):
        visit(system, user=f"user{number}")
    system.wait_cached(4)
    for conn in backend.connections[:3]:
        conn.push(b"* BYE restarting\r\n")
    wait_until(lambda: system.gauge("cached") == 0, "the fourth one stays")


def test_2_3_one_bye_leaves_the_others_alone(system, backend):
    for number in range(3):
        visit(system, user=f"user{number}")
    system.wait_cached(3)
    backend.connections[0].push(b"* BYE autologout\r\n")
    system.wait_cached(2)
    assert visit(system, user="user1").reused


# --- 2.5: capability lists -----------------------------------------------------------------------------
def test_2_5_before_login_starttls_is_offered_as_is_true(system):
    """There is no TLS on this port, so neither word is there, and STARTTLS is refused."""
    with system.client() as client:
        for word in (b"STARTTLS", b"LOGINDISABLED"):
            assert word not in client.greeting
        assert not client.command("STARTTLS").ok


@pytest.mark.parametrize("how", ["quoted", "plain-initial"])
def test_2_5_the_whole_list_is_in_the_tagged_ok(system, how):
    for _ in range(2):
        with system.session(how=how) as client:
            words = client.login_reply.capabilities
            assert words[-1] == "XIMAPPROXY" and {"IDLE", "UNSELECT", "X-TEST", "LITERAL+"} <= set(words)
            client.logout()
        system.wait_given()


def test_2_5_a_client_that_used_capability_gets_an_untagged_list(system):
    """As Dovecot does: such a client may not look at the code."""
    for _ in range(2):
        with system.client() as client:
            client.ok("CAPABILITY")
            reply = client.login("anna", "pw-anna")
            assert reply.ok and reply.capabilities is None
            assert any(line.startswith(b"* CAPABILITY ") and b" X-TEST XIMAPPROXY\r\n" in line for line in reply.untagged)
            client.logout()
        system.wait_given()


LISTS = {
    "untagged": b"* CAPABILITY " + AFTER.encode() + b"\r\nTAG OK done\r\n",
    "code": b"TAG OK [CAPABILITY " + AFTER.encode() + b"] done\r\n",
    "untagged of a command": b"* OK [CAPABILITY " + AFTER.encode() + b"] news\r\nTAG OK done\r\n",
}


@pytest.mark.parametrize("form", LISTS)
def test_2_5_later_lists_are_filtered(system, backend, form):
    backend.answers["CHECK"] = LISTS[form]
    with system.session() as client:
        text = client.ok("CHECK")
        assert b"COMPRESS" not in text.text + text.tagged and b"X-TEST XIMAPPROXY" in text.text + text.tagged


# --- 2.6: the pool -----------------------------------------------------------------------------------
def test_2_6_the_last_one_given_back_is_the_first_one_out(system, backend):
    first, second = system.session(), system.session()
    first.ok("NAMESPACE")
    second.ok("STATUS INBOX (MESSAGES)")
    first.logout()
    system.wait_cached(1)
    second.logout()
    system.wait_cached(2)
    visit(system, "LIST \"\" *")
    assert ["STATUS", "LIST"] in used(backend), used(backend)


def test_2_6_a_refusal_for_too_many_connections_makes_room_and_tries_again(system, backend):
    """anna's idle connection, under the password of before, is the one too many."""
    refused = []

    def others(user):
        return [conn for conn in backend.open_connections() if conn.user == user]

    def verdict(user, password):
        if refused:
            wait_until(lambda: not others(user), "no room was made")  # it may be seen to go a moment later
        elif others(user):
            refused.append(user)
            return b"TAG NO [LIMIT] Maximum number of connections from user+IP exceeded\r\n"
        return True
    backend.verdict = verdict
    visit(system, password="pw-before")
    system.wait_cached(1)
    assert visit(system, password="pw-after").ok
    assert refused == ["anna"]


def test_2_6_four_logins_of_one_page_are_all_warm_at_the_next_page(system, backend):
    """As many as cache_max_per_user keeps."""
    gate = threading.Barrier(4)

    def request(found):
        client = system.session()
        gate.wait(10)  # all four are there at once
        client.ok("STATUS INBOX (MESSAGES)")
        client.logout()
        found.append(client.login_reply.reused)
    for page in range(3):
        found = []
        threads = [threading.Thread(target=request, args=(found,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert found == [page > 0] * 4
        system.wait_counter("given", 4 * (page + 1))
    assert len(backend.logins) == 4
