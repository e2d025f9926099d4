"""What a client sees before it has logged in: greeting, capabilities, the old proxy's exact answers."""
import re

import pytest

from keepwarm.imap import Client

NEVER = ("IDLE", "STARTTLS", "LOGINDISABLED")


@pytest.fixture(scope="module")
def shared(make_once):
    """One system for all tests here: none of them gets past the login."""
    return make_once.system(make_once.backend(), max_errors=1000, login_attempts=100)


@pytest.fixture
def client(shared):
    with shared.client() as client:
        yield client


def greeting_words(client):
    match = re.fullmatch(rb"\* OK \[CAPABILITY ([^\]]+)\] [^\r\n]+\r\n", client.greeting)
    assert match, client.greeting
    return match[1].decode().split(" ")


def test_the_greeting_carries_the_proxys_own_capabilities(client):
    words = greeting_words(client)
    assert words[0] == "IMAP4rev1"
    assert words[-1] == "XIMAPPROXY"
    for word in ("LITERAL+", "SASL-IR", "ID", "AUTH=PLAIN", "AUTH=LOGIN"):
        assert word in words
    assert not set(NEVER) & set(words)


def test_capability_says_the_same_as_the_greeting(client):
    client.send("a1 capability\r\n")
    client.expect_exact("* CAPABILITY " + " ".join(greeting_words(client)) + "\r\na1 OK Completed\r\n")


def test_no_backend_is_asked_before_a_login(make):
    backend = make.backend()
    system = make.system(backend)
    with system.client() as client:
        client.ok("CAPABILITY")
        client.ok("NOOP")
    assert backend.connections == []


EXACT = [
    ("a1 NOOP", "a1 OK Completed"),
    ("a1 noop x y", "a1 OK Completed"),
    ("a1 NOOP ", "a1 OK Completed"),
    ('a1 ID ("name" "tester")', "a1 OK Completed"),
    ("a1 ID NIL", "a1 OK Completed"),
    ("a1 ID", "a1 OK Completed"),
    ("", "* BAD Invalid tag"),
    ("* NOOP", "* BAD Invalid tag"),
    ("a( NOOP", "* BAD Invalid tag"),
    (" NOOP", "* BAD Invalid tag"),
    ("\u00e4 NOOP", "* BAD Invalid tag"),
    ("a1", "a1 BAD Null command"),
    ("a1  NOOP", "a1 BAD Null command"),
    ("a1 SELECT INBOX", "a1 BAD Please login first"),
    ("a1 STARTTLS", "a1 BAD Please login first"),
    ("a1 ENABLE QRESYNC", "a1 BAD Please login first"),
    ("a1 XPROXY_FOO", "a1 BAD Please login first"),
    ("a1 P_VERSION", "a1 BAD Please login first"),
    ("a1 LOGOUTFOO", "a1 BAD Please login first"),
    ("a1 XPROXY_VERSION", "a1 BAD Unrecognized command"),
    ("a1 XPROXY_DUMPICC", "a1 BAD Unrecognized command"),
    ("a1 XPROXY_TRACE u", "a1 BAD Unrecognized command"),
    ("a1 XPROXY_NEWLOG", "a1 BAD Unrecognized command"),
    ("a1 xproxy_resetcounters", "a1 BAD Unrecognized command"),
    ("a1 LOGIN", "a1 BAD Missing required argument to Login"),
    ("a1 LOGIN anna", "a1 BAD Missing required argument to Login"),
    ("a1 LOGIN anna ", "a1 BAD Missing required argument to Login"),
    ("a1 AUTHENTICATE", "a1 BAD Missing required argument to Authenticate"),
    ("a1 AUTHENTICATE X-NO-SUCH", "a1 NO no mechanism available"),
    ("a1 AUTHENTICATE CRAM-MD5", "a1 NO no mechanism available"),
]


@pytest.mark.parametrize("sent,answer", EXACT, ids=[repr(sent) for sent, _ in EXACT])
def test_the_answer_is_the_old_one_byte_for_byte(client, sent, answer):
    client.send(sent + "\r\n")
    client.expect_exact(answer + "\r\n")
    client.send("a2 NOOP\r\n")
    client.expect_exact("a2 OK Completed\r\n")


def test_logout_before_login(client):
    client.send("a1 LOGOUT\r\n")
    client.expect_exact("* BYE LOGOUT received\r\na1 OK Completed\r\n")
    client.expect_close()


def test_pipelined_commands_are_answered_in_order(client):
    client.send("a1 NOOP\r\na2 SELECT x\r\na3 ID NIL\r\na4 NOOP\r\n")
    client.expect_exact("a1 OK Completed\r\na2 BAD Please login first\r\na3 OK Completed\r\na4 OK Completed\r\n")


def test_a_command_may_come_byte_by_byte(client):
    for byte in b"a1 NOOP\r\n":
        client.send(bytes([byte]))
    client.expect_exact("a1 OK Completed\r\n")


@pytest.mark.parametrize("sent", [b"a1 NOOP\0\r\n", b"a1 NO\0OP\r\n", b"a1 LOGIN an\0na pw\r\n",
                                  b'a1 LOGIN "an\0na" pw\r\n'])
def test_nul_bytes_are_a_tagged_bad(client, sent):
    client.send(sent)
    client.expect(rb"a1 BAD [^\r\n]+\r\n")
    client.send("a2 NOOP\r\n")
    client.expect_exact("a2 OK Completed\r\n")


@pytest.mark.parametrize("size", [8193, 8300, 20000, 200000])
def test_an_over_long_line_is_a_tagged_bad_and_skipped(client, size):
    client.send(b"a1 NOOP " + b"z" * size + b"\r\na2 NOOP\r\n")
    client.expect(rb"a1 BAD [^\r\n]+\r\n")
    client.expect_exact("a2 OK Completed\r\n")


@pytest.mark.parametrize("sent", ["a1 NOOP {12}\r\n", "a1 NOOP {12+}\r\na2 LOGOUT\r\nx\r\n",
                                  "a1 SELECT {12+}\r\na2 LOGOUT\r\nx\r\n"])
def test_a_literal_where_none_belongs_is_never_taken_for_a_command(shared, sent):
    with Client(shared.port) as client:
        client.send(sent + "a3 LOGOUT\r\n")
        got = client.read_to_end()
        assert got == b"" or re.match(rb"(a1|\*) BAD ", got)
        assert b"a2 " not in got


@pytest.mark.parametrize("sent", ["a1 LOGIN {99999999999999999999}\r\n", "a1 LOGIN {x}\r\n", "a1 LOGIN {-1}\r\n",
                                  "a1 LOGIN {4294967296}\r\n"])
def test_a_senseless_literal_size_is_refused_without_go_ahead(client, sent):
    client.send(sent)
    client.expect(rb"(a1|\*) (BAD|NO) [^\r\n]+\r\n")


def test_a_lone_line_feed_never_runs_two_commands_into_one(client):
    client.send(b"a1 NOOP\na2 LOGOUT\r\n")
    got = client.line()
    assert got in (b"a1 OK Completed\r\n", b"a1 BAD Null command\r\n") or re.match(rb"(a1|\*) (BAD|BYE) ", got)
