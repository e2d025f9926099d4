"""Tokens (OAuth 2.0): AUTHENTICATE XOAUTH2 and OAUTHBEARER, passed on to a mail host that takes them."""
import base64
import select
import signal
import subprocess

import pytest

from keepwarm import tokens, trace
from keepwarm.backend import CLOSE, REPORT
from keepwarm.imap import b64
from keepwarm.messages import session as broker_session
from keepwarm.process import wait_until
from keepwarm.system import BUILD

REFUSED = b"NO [AUTHENTICATIONFAILED] AUTHENTICATE failed"
CODED = b"+ " + base64.b64encode(REPORT) + b"\r\n"
LONGEST = "x" * 8191


def mail_host(make, **knobs):
    knobs.setdefault("before", tokens.BEFORE)
    return make.backend(tokens={"anna": {b"good", b"other", LONGEST.encode()}, "bert": {b"good"}}, **knobs)


@pytest.fixture
def backend(make):
    return mail_host(make)


@pytest.fixture
def system(make, backend):
    return make.system(backend, auth_mechanisms=tokens.OFFERED)


def leave(system, *args, **kwargs):
    """One session that gives its connection back."""
    with tokens.session(system, *args, **kwargs) as client:
        client.ok("NOOP")
        client.logout()
    system.wait_given()


def check(system, **wanted):
    system.wait_counters(**wanted)


def wait_failures(system, count):
    """So many lines say that a login has failed."""
    wait_until(lambda: system.log_text().count(") failed: ") >= count, system.log_text)
    assert system.log_text().count(") failed: ") == count


def offered(client):
    words = client.command("CAPABILITY").text.decode().split()
    return [word[5:] for word in words if word.startswith("AUTH=")]


# --- what is offered --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("value, words", [
    (None, ["PLAIN", "LOGIN"]), ("none", []), ("OAUTHBEARER plain", ["PLAIN", "OAUTHBEARER"]),
    (tokens.OFFERED, ["PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"]),
], ids=str)
def test_what_the_site_allows_is_offered_and_nothing_else_is_taken(make, backend, value, words):
    system = make.system(backend, auth_mechanisms=value)
    with system.client() as client:
        assert offered(client) == words
        assert [word[5:] for word in client.greeting.decode().split() if word.startswith("AUTH=")] == words
        for mechanism in {"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"} - set(words):
            client.send(f"a AUTHENTICATE {mechanism} Zm9v\r\n")
            client.expect_exact("a NO no mechanism available\r\n")
        assert client.login("anna", "pw-anna").ok
    assert len(backend.logins) == 1


def test_a_reload_changes_what_is_offered(system):
    system.write_config(auth_mechanisms="PLAIN")
    system.supervisor.send_signal(signal.SIGHUP)

    def changed():
        with system.client() as client:
            return offered(client) == ["PLAIN"]
    wait_until(changed, "the old mechanisms are still offered")


def test_an_unknown_mechanism_is_an_error_with_its_place(tmp_path):
    (tmp_path / "conf").write_text("server_hostname x\nauth_mechanisms PLAIN DIGEST-MD5\n")
    run = subprocess.run([BUILD / "proxyd", "-n", "-f", tmp_path / "conf"], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr == (f"{tmp_path}/conf:2: auth_mechanisms: 'DIGEST-MD5' is not allowed: give none, or some of "
                          "PLAIN LOGIN XOAUTH2 OAUTHBEARER SCRAM-SHA-256 SCRAM-SHA-1 CRAM-SHA256 CRAM-SHA1 "
                          "CRAM-MD5 EXTERNAL APOP\n")


def test_a_master_users_site_takes_no_tokens(make, backend):
    system = make.system(backend, auth_mechanisms=tokens.OFFERED, auth_sasl_plain_username="master",
                         auth_sasl_plain_password="pw", auth_shared_secret="shared")
    with system.client() as client:
        assert offered(client) == ["PLAIN", "LOGIN"]
        client.send(b"a AUTHENTICATE XOAUTH2 " + b64(tokens.message("XOAUTH2", "anna", "shared")) + b"\r\n")
        client.expect_exact("a NO no mechanism available\r\n")
    with broker_session(system) as peer:  # nor does the broker take the shared secret as one
        assert peer.request("LEASE", proof_kind=2, user="anna", secret="shared").name == "REFUSED"


# --- logins -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("initial", [True, False], ids=["initial", "continued"])
@pytest.mark.parametrize("mechanism", tokens.MECHANISMS)
def test_a_login_is_passed_on_and_its_connection_used_again(system, backend, mechanism, initial):
    leave(system, "anna", "good", mechanism, reused=False, initial=initial)
    leave(system, "anna", "good", mechanism, reused=True, initial=not initial)
    assert [(login.user, login.password, login.how) for login in backend.logins] == \
        [("anna", b"good", mechanism + " with initial response")]
    check(system, logins=2, logins_fresh=1, logins_reused=1, rechecks=0)


@pytest.mark.parametrize("mechanism", tokens.MECHANISMS)
def test_a_mail_host_without_sasl_ir_is_asked_in_two_steps(make, mechanism):
    backend = mail_host(make, before=tokens.BEFORE.replace("SASL-IR ", ""))
    system = make.system(backend, auth_mechanisms=tokens.OFFERED)
    with system.client() as client:
        reply = tokens.login(client, mechanism, "anna", "bad")
        assert (reply.tagged, reply.report) == (REFUSED, CODED)
        assert tokens.login(client, mechanism, "anna", "good").ok
    assert [login.how for login in backend.logins] == [mechanism] * 2


@pytest.mark.parametrize("mechanism", tokens.MECHANISMS)
def test_a_mail_host_that_does_not_take_it_never_sees_the_token(make, mechanism):
    backend = mail_host(make, before=tokens.BEFORE.replace(f" AUTH={mechanism}", ""))
    system = make.system(backend, auth_mechanisms=tokens.OFFERED)
    with system.client() as client:
        reply = tokens.login(client, mechanism, "anna", "good")
        assert (reply.tagged, reply.report) == (b"NO [CANNOT] AUTHENTICATE failed", None)
        assert client.login("anna", "pw-anna").ok
    assert [login.password for login in backend.logins] == [b"pw-anna"]
    assert b"AUTHENTICATE " + mechanism.encode() not in backend.everything()
    system.wait_log("the mail host does not offer the client's mechanism for tokens")


def test_a_mail_host_that_forbids_login_may_take_tokens(make):
    backend = mail_host(make, before="IMAP4rev1 LOGINDISABLED SASL-IR AUTH=XOAUTH2")
    system = make.system(backend, auth_mechanisms=tokens.OFFERED)
    with tokens.session(system, "anna", "good") as client:
        client.ok("NOOP")


def test_names_are_written_as_each_mechanism_wants(make):
    backend = mail_host(make)
    backend.tokens["a=b,c d"] = {b"good"}
    system = make.system(backend, auth_mechanisms=tokens.OFFERED)
    for mechanism in tokens.MECHANISMS:
        tokens.session(system, "a=b,c d", "good", mechanism).close()
    assert [login.user for login in backend.logins] == ["a=b,c d"] * 2


# --- who gets which connection ----------------------------------------------------------------------------------
def test_mechanism_token_and_user_are_all_part_of_the_key(system):
    leave(system, "anna", "good", "XOAUTH2", reused=False)
    leave(system, "bert", "good", "XOAUTH2", reused=False)
    leave(system, "anna", "good", "OAUTHBEARER", reused=False)


def test_a_password_of_the_same_bytes_is_something_else(make, backend):
    backend.passwords["anna"] = b"good"
    system = make.system(backend, auth_mechanisms=tokens.OFFERED)
    leave(system, "anna", "good", reused=False)
    with system.session("anna", "good", reused=False) as client:
        client.logout()
    system.wait_given()
    leave(system, "anna", "good", reused=True)
    system.session("anna", "good", reused=True).close()


def test_a_new_token_replaces_the_old_one(system, backend):
    """Its idle connections are logged out; and it is judged by the mail host, not by what the broker remembers."""
    first, second = tokens.session(system, "anna", "good"), tokens.session(system, "anna", "good")
    for client in (first, second):
        client.logout()
    system.wait_cached(2)
    leave(system, "bert", "good")
    leave(system, "anna", "other", "OAUTHBEARER", reused=False)
    backend.wait_for(lambda: all(conn.closed.is_set() for conn in backend.connections[:2]), "still open")
    assert all(conn.verbs()[-1] == "LOGOUT" for conn in backend.connections[:2])
    check(system, superseded=2)
    system.wait_cached(2)
    backend.tokens["anna"].remove(b"good")
    with system.client() as client:
        assert tokens.login(client, "XOAUTH2", "anna", "good").tagged == REFUSED
    leave(system, "anna", "other", "OAUTHBEARER", reused=True)
    leave(system, "bert", "good", reused=True)


def test_a_session_under_the_old_token_goes_on_but_its_connection_is_not_kept(system, backend):
    old = tokens.session(system, "anna", "good")
    leave(system, "anna", "other", reused=False)
    old.ok("NOOP")
    old.logout()
    backend.wait_for(backend.connections[0].closed.is_set, "still open")
    check(system, superseded=1, given=1)


def test_a_password_and_a_token_of_one_account_live_side_by_side(system, backend):
    """An application's password is as good as a token: neither replaces the other, nor is it ended with it."""
    leave(system, "anna", "good", reused=False)
    with system.session(reused=False) as client:
        client.logout()
    system.wait_cached(2)
    backend.tokens["anna"].remove(b"other")
    with system.client() as client:
        assert tokens.login(client, "XOAUTH2", "anna", "other").tagged == REFUSED
        assert not client.login("anna", "wrong").ok
    with tokens.session(system, "anna", "good", reused=True), system.session(reused=True):
        pass
    check(system, superseded=0)


@pytest.mark.parametrize("kind", ["token", "password"])
def test_a_refusal_closes_what_lies_under_its_own_kind_only(system, backend, kind):
    """What was accepted is refused now: by a login that finds nothing idle, since that is in use."""
    leave(system, "anna", "good", reused=False)
    with system.session(reused=False) as client:
        client.logout()
    system.wait_cached(2)
    if kind == "token":
        with tokens.session(system, "anna", "good", reused=True), system.client() as client:
            backend.tokens["anna"].remove(b"good")
            assert tokens.login(client, "XOAUTH2", "anna", "good").tagged == REFUSED
    else:
        with system.session(reused=True), system.client() as client:
            backend.passwords["anna"] = b"another"
            assert not client.login("anna", "pw-anna").ok
    system.wait_cached(1)
    if kind == "token":
        system.session(reused=True).close()
    else:
        tokens.session(system, "anna", "good", reused=True).close()


# --- a token that ends ------------------------------------------------------------------------------------------
def test_an_old_proof_is_repeated_by_the_login_itself(make, backend):
    """Not behind the answer: the mail host's report must come before it."""
    system = make.system(backend, auth_mechanisms=tokens.OFFERED, auth_recheck=3)
    leave(system, "anna", "good", reused=False)
    select.select([], [], [], 3.1)  # there is no event to wait for
    leave(system, "anna", "good", reused=False)
    leave(system, "anna", "good", reused=True)
    backend.tokens["anna"].remove(b"good")
    select.select([], [], [], 3.1)
    with system.client() as client:
        reply = tokens.login(client, "XOAUTH2", "anna", "good")
        assert (reply.tagged, reply.report) == (REFUSED, CODED)
    system.wait_cached(0)
    check(system, rechecks=0, logins_refused=1)


def test_with_auth_recheck_0_every_login_is_the_mail_hosts(make, backend):
    system = make.system(backend, auth_mechanisms=tokens.OFFERED, auth_recheck=0)
    leave(system, "anna", "good", reused=False)
    leave(system, "anna", "good", reused=False)
    check(system, rechecks=0)


# --- refusals ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("initial", [True, False], ids=["initial", "continued"])
@pytest.mark.parametrize("mechanism", tokens.MECHANISMS)
def test_the_mail_hosts_report_is_passed_on_and_answered(system, backend, mechanism, initial):
    with system.client() as client:
        reply = tokens.login(client, mechanism, "anna", "bad", initial)
        assert (reply.tagged, reply.report) == (REFUSED, CODED)
        assert tokens.login(client, mechanism, "anna", "good").ok
    assert backend.connections[0].answers == [tokens.ANSWERS[mechanism]]
    wait_failures(system, 1)


@pytest.mark.parametrize("refusal, tagged", [
    (b"TAG NO [EXPIRED] x\r\n", b"NO [EXPIRED] AUTHENTICATE failed"),
    (b"TAG NO [X-OWN] x\r\n", b"NO AUTHENTICATE failed"),
    (b"TAG NO x\r\n", b"NO AUTHENTICATE failed"),
])
def test_codes_are_passed_on_as_for_passwords(system, backend, refusal, tagged):
    backend.refusal = refusal
    with system.client() as client:
        reply = tokens.login(client, "XOAUTH2", "anna", "bad")
        assert (reply.tagged, reply.report) == (tagged, CODED)


@pytest.mark.parametrize("refusal", [
    b"TAG NO [UNAVAILABLE] x\r\n", b"TAG BAD x\r\n", b"* BYE x\r\n", CLOSE, b"+ more?\r\n",
], ids=["UNAVAILABLE", "BAD", "BYE", "close", "a second report"])
def test_what_is_no_verdict_is_not_told_as_one(system, backend, refusal):
    """A client that is told of a bad token asks its user to log in at the provider again."""
    backend.refusal = refusal
    with system.client() as client:
        reply = tokens.login(client, "OAUTHBEARER", "anna", "bad")
        assert (reply.tagged, reply.report) == (b"NO [UNAVAILABLE] AUTHENTICATE failed", None)


@pytest.mark.parametrize("report", [
    None, b"+ \r\n", b"+\r\n", b"+ not base64\r\n", b"+ Zm9v\tZm9v\r\n", b"+ Zg==Zg==\r\n",
    b"+ " + base64.b64encode(b"x" * 1539) + b"\r\n",
], ids=["none", "empty", "bare", "words", "a tab in it", "two in one", "too long"])
def test_a_report_that_is_none_is_not_passed_on(system, backend, report):
    backend.report = report
    with system.client() as client:
        reply = tokens.login(client, "XOAUTH2", "anna", "bad")
        assert (reply.tagged, reply.report) == (REFUSED, None)
        assert tokens.login(client, "XOAUTH2", "anna", "good").ok


def test_what_asks_for_the_token_is_no_report(make):
    backend = mail_host(make, before="IMAP4rev1 AUTH=XOAUTH2")
    system = make.system(backend, auth_mechanisms=tokens.OFFERED)

    def refuse(conn):
        conn.ask(b"send")
        conn.done(conn.commands[-1], b"NO refused")
    backend.answers["AUTHENTICATE"] = refuse
    with system.client() as client:
        reply = tokens.login(client, "XOAUTH2", "anna", "bad")
        assert (reply.tagged, reply.report) == (b"NO AUTHENTICATE failed", None)


def test_a_report_may_be_long(system, backend):
    backend.report = b"+ " + base64.b64encode(b"x" * 1536) + b"\r\n"
    with system.client() as client:
        assert tokens.login(client, "XOAUTH2", "anna", "bad").report == backend.report


@pytest.mark.parametrize("answer, tagged", [
    (b"*", b"BAD Authentication cancelled"), (b"", REFUSED), (b"AQ==", REFUSED), (b"\0!?", REFUSED),
    (b"x" * 20000, REFUSED),
], ids=["cancelled", "empty", "^A", "nonsense", "too long"])
def test_whatever_the_client_answers_goes_no_further(system, backend, answer, tagged):
    """The mail host has its answer already: a client can neither hold it up nor tell it anything."""
    with system.client() as client:
        tag = tokens.send(client, "OAUTHBEARER", "anna", "bad")
        client.expect_exact(CODED)
        backend.wait_for(backend.connections[0].closed.is_set, "the mail host is kept waiting")
        client.send(answer + b"\r\n")
        assert client.reply(tag).tagged == tagged
        client.ok("NOOP")
    assert backend.connections[0].answers == [b"AQ=="]


def test_a_client_may_leave_instead(system):
    with system.client() as client:
        tokens.send(client, "XOAUTH2", "anna", "bad")
        client.expect_exact(CODED)
    wait_until(lambda: system.log_text().count("reason=client-closed") == 2, system.log_text)  # one was of the start
    wait_failures(system, 1)
    tokens.session(system, "anna", "good").close()


def test_a_client_that_does_not_answer_is_ended_with_login_timeout(make, backend):
    system = make.system(backend, auth_mechanisms=tokens.OFFERED, login_timeout=4)
    with system.client() as client:
        tokens.send(client, "XOAUTH2", "anna", "bad")
        client.expect_exact(CODED)
        assert client.line().startswith(b"* BYE ")
        client.expect_close()


def test_a_report_is_told_once(system, backend):
    """What the mail host said of a token is not said again of a password that the broker refuses."""
    with system.client() as client:
        assert tokens.login(client, "XOAUTH2", "anna", "bad").report
        backend.deaf()
        client.send("a LOGIN anna x\r\n")
        client.expect_exact("a NO [UNAVAILABLE] LOGIN failed\r\n")


def test_bad_tokens_count_as_failed_logins(make, backend):
    system = make.system(backend, auth_mechanisms=tokens.OFFERED, login_attempts=2)
    with system.client() as client:
        assert tokens.login(client, "XOAUTH2", "anna", "bad").tagged == REFUSED
        assert tokens.login(client, "XOAUTH2", "anna", "worse").tagged == REFUSED
        assert client.line().startswith(b"* BYE ")


# --- abuse ------------------------------------------------------------------------------------------------------
BAD = b"BAD Invalid authentication data"
NAMELESS = b"NO [CANNOT] A user name is needed with the token"
TOO_LONG = b"NO AUTHENTICATE failed"
MESSAGES = {
    "not base64": ("XOAUTH2", b"user=anna", BAD),
    "base64 cut off": ("XOAUTH2", b64(tokens.message("XOAUTH2", "anna", "x"))[:-1], BAD),
    "empty": ("XOAUTH2", b"=", BAD),
    "the other mechanism's": ("OAUTHBEARER", b64(tokens.message("XOAUTH2", "anna", "x")), BAD),
    "and the other way": ("XOAUTH2", b64(tokens.message("OAUTHBEARER", "anna", "x")), BAD),
    "no user=": ("XOAUTH2", b64(b"auth=Bearer x\1\1"), BAD),
    "empty user": ("XOAUTH2", b64(tokens.message("XOAUTH2", "", "x")), NAMELESS),
    "no token": ("XOAUTH2", b64(tokens.message("XOAUTH2", "anna", "")), BAD),
    "NUL in the user": ("XOAUTH2", b64(tokens.message("XOAUTH2", "an\0na", "x")), BAD),
    "NUL in the token": ("XOAUTH2", b64(tokens.message("XOAUTH2", "anna", "x\0y")), BAD),
    "line end in the user": ("XOAUTH2", b64(tokens.message("XOAUTH2", "a\r\nb NOOP", "x")), BAD),
    "line end in the token": ("OAUTHBEARER", b64(tokens.message("OAUTHBEARER", "anna", "x\r\ny")), BAD),
    "no end": ("OAUTHBEARER", b64(b"n,a=anna,\1auth=Bearer x"), BAD),
    "no GS2 header": ("OAUTHBEARER", b64(b"auth=Bearer x\1\1"), BAD),
    "channel binding": ("OAUTHBEARER", b64(b"p=tls-exporter,a=anna,\1auth=Bearer x\1\1"), BAD),
    "an open escape": ("OAUTHBEARER", b64(b"n,a=an=2na,\1auth=Bearer x\1\1"), BAD),
    "two tokens": ("OAUTHBEARER", b64(b"n,a=anna,\1auth=Bearer x\1auth=Bearer good\1\1"), BAD),
    "no a=": ("OAUTHBEARER", b64(b"n,,\1auth=Bearer good\1\1"), NAMELESS),
    "empty a=": ("OAUTHBEARER", b64(b"n,a=,\1auth=Bearer good\1\1"), NAMELESS),
    "a long user": ("XOAUTH2", b64(tokens.message("XOAUTH2", "u" * 256, "good")), TOO_LONG),
    "a long token": ("XOAUTH2", b64(tokens.message("XOAUTH2", "anna", LONGEST + "x")), TOO_LONG),
    "a long rest": ("OAUTHBEARER", b64(b"n,a=anna,\1host=" + b"x" * 8800 + b"\1auth=Bearer x\1\1"), TOO_LONG),
    "a long line": ("XOAUTH2", b"A" * 12400, b"BAD Line too long"),
    "cancelled": ("XOAUTH2", b"*", b"BAD Authentication cancelled"),
}


@pytest.fixture(scope="module")
def shared(make_once):
    backend = mail_host(make_once)
    return make_once.system(backend, auth_mechanisms=tokens.OFFERED, max_errors=1000), backend


@pytest.mark.parametrize("initial", [True, False], ids=["initial", "continued"])
@pytest.mark.parametrize("what", MESSAGES)
def test_what_is_no_message_goes_nowhere(shared, what, initial):
    system, backend = shared
    mechanism, blob, tagged = MESSAGES[what]
    with system.client() as client:
        client.send(b"a AUTHENTICATE " + mechanism.encode() + (b" " + blob if initial else b"") + b"\r\n")
        if not initial:
            client.expect_exact("+ \r\n")
            client.send((b"" if blob == b"=" else blob) + b"\r\n")
        if what == "a long line" and not initial:
            tagged = BAD
        client.expect_exact(b"a " + tagged + b"\r\n")
        client.ok("NOOP")
    assert backend.connections == []


@pytest.mark.parametrize("limit", [512, 8192])
@pytest.mark.parametrize("initial", [True, False], ids=["initial", "continued"])
@pytest.mark.parametrize("mechanism", tokens.MECHANISMS)
def test_the_longest_token_gets_through_whatever_max_line_login_is(make, backend, mechanism, initial, limit):
    system = make.system(backend, auth_mechanisms=tokens.OFFERED, max_line_login=limit)
    leave(system, "anna", LONGEST, mechanism, reused=False, initial=initial)
    leave(system, "anna", LONGEST, mechanism, reused=True, initial=initial)
    assert backend.logins[0].password == LONGEST.encode()


def test_other_lines_are_as_long_as_ever(make, backend):
    system = make.system(backend, auth_mechanisms=tokens.OFFERED, max_line_login=512)
    with system.client() as client:
        for line in ("LOGIN anna " + "x" * 600, "AUTHENTICATEX " + "x" * 600):
            client.send(f"a {line}\r\n")
            client.expect_exact("a BAD Line too long\r\n")
    system = make.system(backend, max_line_login=512)
    with system.client() as client:
        client.send("a AUTHENTICATE PLAIN " + "A" * 600 + "\r\n")
        client.expect_exact("a BAD Line too long\r\n")


def test_a_reused_connection_that_is_dead_is_replaced_with_the_token(system, backend):
    leave(system, "anna", "good")
    with tokens.session(system, "anna", "good", reused=True) as client:
        backend.connections[0].drop()
        client.ok("NOOP")
    assert [login.password for login in backend.logins] == [b"good"] * 2


@pytest.mark.parametrize("mechanism", tokens.MECHANISMS)
def test_an_offered_connection_is_exchanged_with_the_token(system, backend, mechanism):
    """What was turned on on it is not this session's: a fresh one takes its place, behind the client's OK."""
    for reused in (False, True):
        with tokens.session(system, "anna", "good", mechanism) as client:
            assert b"* ENABLED CONDSTORE" in client.ok("ENABLE CONDSTORE").text
            client.logout()
        system.wait_given()
        assert len(backend.logins) == 1, reused
    with tokens.session(system, "anna", "good", mechanism) as client:
        client.ok("SELECT INBOX")
        client.logout()
    assert [(login.password, login.how) for login in backend.logins] == \
        [(b"good", mechanism + " with initial response")] * 2
    check(system, offers_kept=1, offers_swapped=1)


@pytest.mark.parametrize("lease", [
    {"proof_kind": 2, "authzid": "bert"}, {"proof_kind": 3, "secret": ""}, {"proof_kind": 0}, {"proof_kind": 4},
], ids=str)
def test_a_session_that_leases_otherwise_is_cut_off(system, lease):
    with broker_session(system) as peer:
        peer.push("LEASE", serial=7, **{"user": "anna", "secret": "good", **lease})
        peer.expect_cut_off()


def test_the_protocol_log_holds_no_token(make, backend):
    system = make.system(backend, auth_mechanisms=tokens.OFFERED, enable_admin_commands="yes")
    trace.trace(system, "anna")
    with system.client() as client:
        tokens.login(client, "XOAUTH2", "anna", "bad")
        assert tokens.login(client, "OAUTHBEARER", "anna", "good").ok
        client.ok("NOOP")
        client.logout()
    wait_until(lambda: b"LOGOUT" in trace.raw(system), "nothing is logged")
    text = trace.raw(system)
    assert b"NOOP" in text and b"AUTHENTICATE" not in text and b"eyJ" not in text
