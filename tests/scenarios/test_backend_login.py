"""How the proxy logs in to the mail host, and what a client hears when that fails."""
import pytest

from keepwarm.backend import AFTER, BEFORE, CLOSE, SILENCE
from keepwarm.imap import b64, plain

BARE_GREETING = b"* OK backend ready\r\n"


@pytest.mark.parametrize("before,ways", [
    ("IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=LOGIN", {"PLAIN with initial response"}),
    ("IMAP4rev1 AUTH=PLAIN", {"PLAIN"}),
    ("IMAP4rev1 AUTH=LOGIN", {"LOGIN", "AUTH LOGIN"}),
    ("IMAP4rev1", {"LOGIN"}),
    ("IMAP4rev1 LITERAL+ AUTH=CRAM-MD5", {"LOGIN"}),
    ("IMAP4rev1 LOGINDISABLED SASL-IR AUTH=PLAIN", {"PLAIN with initial response"}),
    ("IMAP4rev1 LOGINDISABLED AUTH=PLAIN", {"PLAIN"}),
])
@pytest.mark.parametrize("in_greeting", [True, False], ids=["list in greeting", "list asked for"])
@pytest.mark.parametrize("password", ["simple", 'sp ace"q\\{5}', "\u00e4\u20ac"], ids=["simple", "odd", "8-bit"])
def test_the_best_offered_way_is_used(make, before, ways, in_greeting, password):
    knobs = {"before": before} if in_greeting else {"before": before, "greeting": BARE_GREETING}
    backend = make.backend(passwords={"anna": password.encode()}, **knobs)
    system = make.system(backend)
    with system.session(password=password, how="nonsync") as client:
        client.ok("SELECT INBOX")
    assert [login.how in ways for login in backend.logins] == [True], backend.logins[0].how
    asked = "CAPABILITY" in backend.connections[0].verbs()
    assert asked == (not in_greeting)


def test_a_list_that_does_not_come_with_the_ok_is_asked_for(make):
    backend = make.backend(code_at_login=False)
    system = make.system(backend)
    with system.session() as client:
        words = client.login_reply.capabilities
    assert "UIDPLUS" in words and words[-1] == "XIMAPPROXY"


@pytest.mark.parametrize("before", ["IMAP4rev1 LOGINDISABLED", "IMAP4rev1 LOGINDISABLED STARTTLS",
                                    "IMAP4rev1 LOGINDISABLED AUTH=CRAM-MD5 AUTH=GSSAPI"])
@pytest.mark.parametrize("how", ["quoted", "plain-initial"])
def test_a_password_is_never_sent_where_login_is_disabled(make, before, how):
    backend = make.backend(before=before, passwords={"anna": b"Geheim-123"})
    system = make.system(backend)
    with system.client() as client:
        assert client.login("anna", "Geheim-123", how).tagged.startswith(b"NO [UNAVAILABLE] ")
    for form in (b"Geheim-123", b64("Geheim-123"), plain(b"anna", b"Geheim-123")):
        assert form not in backend.everything()


BROKEN_GREETINGS = {
    "preauth": b"* PREAUTH [CAPABILITY IMAP4rev1] already somebody\r\n",
    "bye": b"* BYE overloaded, says the backend\r\n",
    "silent": SILENCE,
    "closed": CLOSE,
    "garbage": b"220 smtp.example.test ESMTP\r\n",
    "binary": bytes(range(256)) * 4 + b"\r\n",
    "endless": b"* OK " + b"x" * 300000,
}


@pytest.mark.parametrize("greeting", BROKEN_GREETINGS.values(), ids=BROKEN_GREETINGS.keys())
def test_a_mail_host_that_does_not_greet_well_is_unavailable(make, greeting):
    backend = make.backend(greeting=greeting)
    system = make.system(backend, backend_timeout=5)
    with system.client() as client:
        reply = client.login("anna", "pw-anna")
        assert reply.tagged.startswith(b"NO [UNAVAILABLE] "), reply
        assert reply.untagged == []
        backend.greeting = BARE_GREETING
        assert client.login("anna", "pw-anna").ok, "the client connection must stay usable"
    assert [login.user for login in backend.logins] == ["anna"]


BROKEN_ANSWERS = {
    "silent": SILENCE,
    "closed": CLOSE,
    "bye": b"* BYE going down\r\n",
    "wrong tag": b"nobody OK welcome\r\n",
    "garbage": b"\0\1\2\r\n",
    "endless": b"* " + b"y" * 300000,
}


@pytest.mark.parametrize("before", ["IMAP4rev1", "IMAP4rev1 SASL-IR AUTH=PLAIN", "IMAP4rev1 AUTH=PLAIN"])
@pytest.mark.parametrize("answer", BROKEN_ANSWERS.values(), ids=BROKEN_ANSWERS.keys())
def test_a_mail_host_that_breaks_during_login_is_unavailable(make, before, answer):
    backend = make.backend(before=before, answers={"LOGIN": answer, "AUTHENTICATE": answer})
    system = make.system(backend, backend_timeout=1)
    with system.client() as client:
        assert client.login("anna", "pw-anna").tagged.startswith(b"NO [UNAVAILABLE] ")
    assert system.counter("logins_refused") == 0


def test_a_mail_host_that_refuses_connections_is_unavailable(make, backend):
    system = make.system(backend)
    backend.deaf()
    with system.client() as client:
        assert client.login("anna", "pw-anna").tagged.startswith(b"NO [UNAVAILABLE] ")
        backend.listen()
        assert client.login("anna", "pw-anna").ok


def test_a_host_that_failed_is_not_dialled_for_host_retry(make, backend):
    system = make.system(backend, host_retry=600)
    backend.deaf()
    with system.client() as client:
        assert client.login("anna", "pw-anna").tagged.startswith(b"NO [UNAVAILABLE] ")
        backend.listen()
        client.login("anna", "pw-anna")
    assert backend.connections == [] or system.counter("dials_failed") >= 1


def test_a_name_that_does_not_resolve_is_unavailable(make, backend):
    system = make.system(backend, server_hostname="no-such-host.invalid")
    with system.client() as client:
        assert client.login("anna", "pw-anna").tagged.startswith(b"NO [UNAVAILABLE] ")


REFUSALS = [
    (b"NO [AUTHENTICATIONFAILED] Private words", b"NO [AUTHENTICATIONFAILED] "),
    (b"NO [AUTHORIZATIONFAILED] Private words", b"NO [AUTHORIZATIONFAILED] "),
    (b"NO [EXPIRED] Private words", b"NO [EXPIRED] "),
    (b"NO [UNAVAILABLE] Private words", b"NO [UNAVAILABLE] "),
    (b"NO [PRIVACYREQUIRED] Private words", b"NO [PRIVACYREQUIRED] "),
    (b"NO [authenticationfailed] Private words", b"NO [AUTHENTICATIONFAILED] "),
    (b"NO Private words", b"NO "),
    (b"NO [X-PRIVATE words] Private words", b"NO "),
    (b"no Private words", b"NO "),
]


@pytest.mark.parametrize("how,word", [("quoted", b"LOGIN"), ("plain-initial", b"AUTHENTICATE")])
@pytest.mark.parametrize("said,heard", REFUSALS, ids=[said.decode() for said, _ in REFUSALS])
def test_a_refusal_keeps_its_code_and_loses_its_words(make_refused, said, heard, how, word):
    backend, system = make_refused
    backend.refusal = b"TAG " + said + b"\r\n"
    with system.client() as client:
        reply = client.login("anna", "wrong", how)
        assert reply.tagged.upper() == heard + word + b" FAILED"
        assert reply.tagged.endswith(word + b" failed")
        assert reply.untagged == []


@pytest.fixture(scope="module")
def make_refused(make_once):
    backend = make_once.backend()
    return backend, make_once.system(backend, login_attempts=100)


def test_a_bad_from_the_mail_host_is_no_success_and_no_leak(make_refused):
    backend, system = make_refused
    backend.refusal = b"TAG BAD Private words\r\n"
    with system.client() as client:
        reply = client.login("anna", "wrong")
        assert reply.tagged.startswith((b"NO ", b"BAD ")) and b"Private" not in reply.tagged


@pytest.mark.parametrize("how", ["quoted", "plain-initial"])
def test_what_asks_for_the_password_is_not_passed_on(make, how):
    """Base64 as it is, it looks like a report about a token, for whose answer a client is waited."""
    def refuse(conn):
        conn.send(b"+ c2VuZA==\r\n")
        conn.read_line()
        conn.done(conn.commands[-1], b"NO refused")
    backend = make.backend(before="IMAP4rev1 AUTH=PLAIN")
    system = make.system(backend)
    backend.answers["AUTHENTICATE"] = refuse
    with system.client() as client:
        reply = client.login("anna", "wrong", how)
        assert (reply.tagged[:3], reply.untagged) == (b"NO ", [])


def test_id_before_login_is_replayed_before_the_login(make, backend):
    system = make.system(backend)
    with system.client() as client:
        client.ok('ID ("name" "first")')
        client.ok('ID ("name" "tester" "x-originating-ip" "10.1.2.3" "os" NIL)')  # that is for a proxy to say
        assert client.login("anna", "pw-anna").ok
        client.ok("NOOP")
    conn = backend.connections[0]
    verbs = conn.verbs()
    assert verbs.index("ID") < min(verbs.index(v) for v in ("LOGIN", "AUTHENTICATE") if v in verbs)
    assert [c.raw for c in conn.commands if c.verb == "ID"] == [
        b'ID ("name" "tester" "os" NIL)']


@pytest.mark.parametrize("argument", ["garbage", '("odd")', '("a" "b"', '"x"', "(" + '"k" "v" ' * 200 + ")"])
def test_a_senseless_id_does_no_harm(make, backend, argument):
    backend.answers["ID"] = b"TAG BAD Senseless\r\n"
    system = make.system(backend)
    with system.client() as client:
        assert client.command("ID " + argument).tagged.startswith((b"OK ", b"BAD "))
        assert client.login("anna", "pw-anna").ok
        client.ok("NOOP")


def test_an_authorization_identity_reaches_the_mail_host(make, backend):
    system = make.system(backend)
    with system.client() as client:
        client.send(b"a1 AUTHENTICATE PLAIN " + b64(b"boss\0anna\0pw-anna") + b"\r\n")
        client.reply("a1")
    assert b64(b"boss\0anna\0pw-anna") in backend.everything()


def test_untagged_answers_during_the_backend_login_stay_there(make, backend):
    backend.answers["AUTHENTICATE"] = (
        b"* OK [ALERT] Private news\r\nTAG OK [CAPABILITY " + AFTER.encode() + b"] in\r\n")
    system = make.system(backend)
    with system.client() as client:
        reply = client.login("anna", "pw-anna")
        assert reply.ok and b"Private" not in reply.text


def test_braces_at_the_end_of_a_greeting_are_no_literal(make):
    backend = make.backend(greeting=b"* OK [CAPABILITY " + BEFORE.encode() + b"] ready {5}\r\n")
    system = make.system(backend)
    with system.session() as client:
        client.ok("NOOP")
        client.logout()
    with system.session(reused=True):
        pass


def test_braces_at_the_end_of_a_status_response_are_no_literal(make, backend):
    """Neither during the login nor behind it."""
    told = b"* OK [ALERT] mind the gap {5}\r\n* NO really {1000}\r\n"  # which is for the user

    def chatty(conn):
        conn.send(told)
        conn.guest_authenticate(conn.commands[-1])

    backend.answers["AUTHENTICATE"] = chatty
    backend.answers["CHECK"] = b"* OK still {5}\r\nTAG OK as before {5}\r\n"
    system = make.system(backend)
    with system.session() as client:
        client.expect_exact(told)
        client.send("a1 CHECK\r\na2 NOOP\r\n")
        client.expect_exact("* OK still {5}\r\na1 OK as before {5}\r\na2 OK Noop, says the backend\r\n")
        client.logout()
    with system.session() as client:
        client.expect_exact(told)
        client.ok("NOOP")
