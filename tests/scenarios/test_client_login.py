"""The ways in which a client can log in, and the ways in which it can get that wrong."""
import pytest

from keepwarm.imap import LOGINS, b64, plain


@pytest.fixture(scope="module")
def scene(make_once):
    backend = make_once.backend()
    return backend, make_once.system(backend, max_errors=1000, login_attempts=100)


@pytest.fixture
def client(scene):
    with scene[1].client() as client:
        yield client


@pytest.mark.parametrize("how", LOGINS)
def test_every_way_to_log_in_reaches_the_users_mail(scene, client, how):
    user = f"user-{how}"
    reply = client.login(user, f"pw-{user}", how)
    word = b"User authenticated" if "AUTH" in how.upper() or how.startswith(("plain", "login")) else b"User logged in"
    assert reply.ok and reply.tagged.endswith(b"] " + word), reply
    client.ok("SELECT INBOX")
    assert f"<{user}>".encode() in client.ok("FETCH 1 BODY[]").text


@pytest.mark.parametrize("how", ["atoms", "nonsync", "plain-initial"])
def test_commands_pipelined_behind_the_login_are_answered_in_order(client, how):
    sent = {"atoms": b"a1 LOGIN piet pw-piet\r\n",
            "nonsync": b"a1 LOGIN {4+}\r\npiet {7+}\r\npw-piet\r\n",
            "plain-initial": b"a1 AUTHENTICATE PLAIN " + plain(b"piet", b"pw-piet") + b"\r\n"}[how]
    client.send(sent + b"a2 NOOP\r\na3 SELECT INBOX\r\na4 FETCH 1 BODY[]\r\na5 NOOP\r\n")
    assert client.reply("a1").ok
    assert client.reply("a2").ok
    assert client.reply("a3").ok
    assert b"<piet>" in client.reply("a4").text
    assert client.reply("a5").ok


def test_commands_pipelined_behind_a_refused_login_get_their_own_answers(client):
    client.send("a1 LOGIN piet wrong\r\na2 NOOP\r\na3 SELECT INBOX\r\n")
    assert client.reply("a1").tagged.startswith(b"NO ")
    client.expect_exact("a2 OK Completed\r\na3 BAD Please login first\r\n")


def test_a_refused_login_leaves_the_connection_usable(client):
    assert client.login("anna", "wrong").tagged == b"NO [AUTHENTICATIONFAILED] LOGIN failed"
    client.send("n1 NOOP\r\n")
    client.expect_exact("n1 OK Completed\r\n")
    assert client.login("anna", "pw-anna").ok


@pytest.mark.parametrize("password", ["pw-anna", '"pw-anna"', "{7+}\r\npw-anna"], ids=["atom", "quoted", "literal"])
def test_blanks_behind_the_password_do_no_harm_and_anything_else_does(client, password):
    client.send(f"a1 LOGIN anna {password} x\r\n")
    assert client.reply("a1").tagged == b"BAD Invalid arguments to Login"
    client.send(f"a2 LOGIN anna {password}  \r\n")
    assert client.reply("a2").ok


ODD = ["with space", 'with"quote', "back\\slash", "paren(", "{5}", "{5+}", "100%*", "\u00e4\u00f6\u00fc\u20ac",
       "]bracket", "~{1}", "x" * 200]


# A quoted string carries no 8-bit bytes.
ODD_WAYS = [(how, odd) for how in ("quoted", "literals", "nonsync", "plain-initial", "login") for odd in ODD
            if how != "quoted" or odd.isascii()]


@pytest.mark.parametrize("how,odd", ODD_WAYS)
def test_odd_names_and_passwords_arrive_as_they_are(scene, client, how, odd):
    user = (how + odd).encode()  # a user of its own: else the connection would be reused
    backend = scene[0]
    backend.passwords[user.decode("latin-1")] = odd.encode()
    assert client.login(user, odd, how).ok
    assert backend.logins[-1].user.encode("latin-1") == user
    assert backend.logins[-1].password == odd.encode()


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("answer", ["*", "!!!!", "YQ", "YQ=a", "Y Q="])
def test_cancel_and_bad_base64_are_a_tagged_bad(client, mechanism, answer):
    client.send(f"a1 AUTHENTICATE {mechanism}\r\n")
    client.expect(rb"\+ [^\r\n]*\r\n")
    client.send(answer + "\r\n")
    client.expect(rb"a1 BAD [^\r\n]+\r\n")
    client.send("a2 NOOP\r\n")
    client.expect_exact("a2 OK Completed\r\n")


def test_cancel_at_the_second_prompt_is_a_tagged_bad(client):
    client.send("a1 authenticate login\r\n")
    client.expect_exact("+ VXNlcm5hbWU6\r\n")
    client.send(b64("anna") + b"\r\n")
    client.expect_exact("+ UGFzc3dvcmQ6\r\n")
    client.send("*\r\n")
    client.expect(rb"a1 BAD [^\r\n]+\r\n")


def test_bad_base64_in_an_initial_response_is_a_tagged_bad(client):
    client.send("a1 AUTHENTICATE PLAIN !!!\r\n")
    client.expect(rb"a1 BAD [^\r\n]+\r\n")


def test_an_empty_initial_response_is_not_a_missing_one(client):
    client.send("a1 AUTHENTICATE PLAIN =\r\n")
    client.expect(rb"a1 (BAD|NO) [^\r\n]+\r\n")


@pytest.mark.parametrize("message", [b"", b"anna", b"\0anna", b"\0anna\0pw\0more", b"\0\0pw"])
def test_a_malformed_plain_message_is_refused(scene, client, message):
    seen = len(scene[0].logins)
    client.send(b"a1 AUTHENTICATE PLAIN\r\n")
    client.expect_exact("+ \r\n")
    client.send(b64(message) + b"\r\n")
    client.expect(rb"a1 (BAD|NO) [^\r\n]+\r\n")
    assert len(scene[0].logins) == seen


@pytest.mark.parametrize("line", ["a1 LOGIN {256}", "a1 LOGIN {300}", "a1 LOGIN anna {8192}",
                                  "a1 LOGIN anna {100000}"])
def test_a_too_long_literal_is_refused_without_go_ahead(client, line):
    client.send(line + "\r\n")
    client.expect_exact("a1 NO LOGIN failed\r\n")
    client.send("a2 NOOP\r\n")
    client.expect_exact("a2 OK Completed\r\n")


def test_the_longest_literals_are_taken(scene, client):
    user, password = "u" * 255, "p" * 8191
    scene[0].passwords[user] = password.encode()
    assert client.login(user, password, "literals").ok


def test_a_too_long_nonsync_literal_is_never_taken_for_commands(scene):
    with scene[1].client() as client:
        client.send(b"a1 LOGIN {300+}\r\n" + b"a9 NOOP\r\n" * 33 + b"xyz pw\r\na2 LOGOUT\r\n")
        got = client.read_to_end()
        assert got.startswith((b"a1 NO ", b"a1 BAD ", b"* BYE "))
        assert b"a9 " not in got


@pytest.mark.parametrize("literal", [b"an\0na", b"an\r\nna"])
def test_a_name_with_nul_or_line_break_is_refused_or_never_sent_raw(scene, client, literal):
    client.send(b"a1 LOGIN {%d+}\r\n%s {2+}\r\npw\r\n" % (len(literal), literal))
    client.expect(rb"a1 (NO|BAD) [^\r\n]+\r\n")
    assert b"\nna " not in scene[0].everything()


def test_a_name_cannot_smuggle_a_command_to_the_backend(scene, client):
    assert not client.login(b"anna pw\r\nx1 CREATE injected", "pw", "login").ok
    assert not client.login(b'anna" "pw', "pw", "login").ok
    assert not any("CREATE" in conn.verbs() for conn in scene[0].connections)
