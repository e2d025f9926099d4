"""No secret stays anywhere: not in a log, not in the state file, not in the memory of the broker.

Each search is shown to work by finding the user's name in the same place.
"""
import os
import signal

import pytest

from keepwarm import tokens
from keepwarm.directory import Userdb, at
from keepwarm.directory_servers import AuthHttp
from keepwarm.imap import b64, plain
from keepwarm.process import memory, wait_until
from keepwarm.system import SANITIZED

USER = "geheimnistraeger"
RIGHT = "Richtig-7f3a91c2"
WRONG = "Falsch-c81d22b7"
IDLER = "zweiter-nutzer"


def forms(password):
    """The password, and what it looks like in SASL messages."""
    blob = plain(USER.encode(), password.encode())
    return [password.encode(), b64(password), blob, blob[-20:], b64(USER + "\0" + password)]


# Long enough to be copied through wide registers, and to be found in any 16 bytes of them.
LONG = "".join(f"Lang{number:04}-5e1d7a" + "b" for number in range(12))
PIECES = [LONG[i:i + 16].encode() for i in range(0, len(LONG) - 15, 16)]

TOKEN = "Marke-4b7e19d3-Berechtigt"
STALE = "Marke-c0a8e5f2-Abgelaufen"


def token_forms(token):
    """The token, and what it looks like in each mechanism's message, whole and the part that the token alone is."""
    blobs = [b64(tokens.message(mechanism, user, token)) for mechanism in tokens.MECHANISMS
             for user in (USER, IDLER)]
    return [token.encode(), b64(token), *blobs, *(blob[-28:-4] for blob in blobs)]


FORMBOOK = forms(RIGHT) + forms(WRONG) + token_forms(TOKEN) + token_forms(STALE)


@pytest.fixture
def scene(make):
    """Right and wrong logins in every way; one session is open, one connection is cached."""
    backend = make.backend(passwords={USER: RIGHT.encode(), IDLER: RIGHT.encode()},
                           before=tokens.BEFORE, tokens={USER: [TOKEN.encode()]})
    system = make.system(backend, login_attempts=100, syslog_prioritymask="LOG_DEBUG",
                         auth_mechanisms=tokens.OFFERED)
    for mechanism in tokens.MECHANISMS:
        for initial in (True, False):
            with system.client() as client:
                assert not tokens.login(client, mechanism, USER, STALE, initial).ok
                assert tokens.login(client, mechanism, USER, TOKEN, initial).ok
                client.logout()
            system.wait_given()
    for how in ("quoted", "literals", "plain-initial", "plain", "login"):
        with system.client() as client:
            assert not client.login(USER, WRONG, how).ok
            assert client.login(USER, RIGHT, how).ok
            client.logout()
        system.wait_given()
    with system.client() as client:
        client.send(f"a1 LOGIN {USER} {RIGHT} too many\r\na2 AUTHENTICATE PLAIN {RIGHT}\r\na3 {RIGHT}\r\n")
        for tag in ("a1", "a2", "a3"):
            client.reply(tag)
    system.session(IDLER, RIGHT).logout()
    system.wait_given()
    client = system.session(USER, RIGHT, reused=True)
    client.ok("NOOP")
    yield system, backend, client
    client.close()


def absent(where, data, control=USER.encode()):
    assert control in data, f"the search in {where} proves nothing: not even the user's name is there"
    found = [form for form in FORMBOOK if form in data]
    assert not found, f"{where} holds {found}"


def test_the_backend_did_get_the_password(scene):
    """Else all searches here would prove nothing."""
    data = scene[1].everything()
    for sent in (forms(RIGHT), forms(WRONG), token_forms(TOKEN), token_forms(STALE)):
        assert any(form in data for form in sent)


def test_no_log_holds_a_secret(scene):
    system = scene[0]
    wait_until(lambda: system.log_text().count("reason=logout") >= 6, "log lines are missing")
    absent("the log", system.log_text().encode())


def test_the_state_file_holds_no_secret(scene):
    system = scene[0]
    wait_until(lambda: USER.encode() in (system.folder / "state").read_bytes(), "the session is not in it")
    absent("the state file", (system.folder / "state").read_bytes())


def test_no_file_of_the_system_holds_a_secret(scene):
    system = scene[0]
    files = [path for path in system.folder.rglob("*") if path.is_file()]
    absent("a file", b"".join(path.read_bytes() for path in files))


@pytest.mark.skipif(os.getuid() != 0, reason="reading another process's memory needs root")
def test_the_brokers_memory_holds_no_secret(scene):
    absent("the broker's memory", memory(scene[0].pids("cachebrokerd")[0]))


def spill_registers(pid):
    """A signal's frame holds all registers: what they still have of a secret is in memory then, and stays there."""
    os.kill(pid, signal.SIGALRM)


def wait_absent(system, wanted):
    spill_registers(system.pids("cachebrokerd")[0])

    def is_absent():
        data = memory(system.pids("cachebrokerd")[0])
        assert USER.encode() in data
        return not [form for form in wanted if form in data]
    wait_until(is_absent, "the broker's memory holds a secret")


@pytest.mark.skipif(os.getuid() != 0, reason="reading another process's memory needs root")
@pytest.mark.parametrize("secret, wanted", [(RIGHT, FORMBOOK), (LONG, PIECES)], ids=["short", "long"])
def test_the_brokers_memory_holds_no_secret_after_it_was_proven_again(make, secret, wanted):
    """auth_recheck 0: each reused login waits with its secret for an errand."""
    backend = make.backend(passwords={USER: secret.encode()})
    system = make.system(backend, auth_recheck=0)
    gate = None
    for number in range(1, 4):
        with system.client() as client:
            if number == 3:
                gate = backend.gate("AUTHENTICATE")
                client.send(f"a LOGIN {USER} {secret}\r\n")
                gate.wait()
                wait_absent(system, wanted)  # the errand may be quicker than the broker
                gate.open()
                assert client.reply("a").reused
            else:
                assert client.login(USER, secret).ok
            client.logout()
        wait_until(lambda: system.counter("given") >= 2 * number - 1, "not given back")
    assert system.counter("rechecks") == 2
    wait_absent(system, wanted)


OTHER = "Anderes-2e90b7f4"  # the directory's, for the mail host


@pytest.mark.skipif(os.getuid() != 0, reason="reading another process's memory needs root")
@pytest.mark.parametrize("auth", ["directory", "both"])
def test_what_the_directory_checked_stays_nowhere(make, auth):
    """Right, wrong and unknown; a password of the directory's own that an errand logs in with; asked again."""
    backend = make.backend(passwords={USER: OTHER.encode(), IDLER: RIGHT.encode()})
    userdb = Userdb()
    userdb.write_text(f"{IDLER}\tuid=1|gid=1|home=/x|systempw={{PLAIN}}{RIGHT}|options=mailhost={at(backend)}\n")

    def answer(request):
        if RIGHT.encode() not in request or USER.encode() not in request:
            return ["Auth-Status: wrong"]
        host, port = at(backend).split(":")
        return ["Auth-Status: OK", f"Auth-Server: {host}", f"Auth-Port: {port}", f"Auth-Pass: {OTHER}"]
    web = AuthHttp(answer)
    make.started += [userdb, web]
    system = make.system(backend, auth=auth, directory=[userdb, web], auth_recheck=0, login_attempts=100, lookup_ttl=1,
                         syslog_prioritymask="LOG_DEBUG")
    for user in (USER, IDLER, "niemand"):
        for password in (WRONG, RIGHT, RIGHT):
            with system.client() as client:
                reply = client.login(user, password)
                assert reply.ok == (password == RIGHT and user != "niemand"), (user, password, reply)
                if reply.ok:
                    client.logout()
    wanted = forms(RIGHT) + forms(WRONG) + [OTHER.encode(), b64(OTHER), plain(USER.encode(), OTHER.encode())]
    with system.client() as client:
        gate = backend.gate("AUTHENTICATE")
        client.send(f"a LOGIN {USER} {RIGHT}\r\n")
        gate.wait()
        wait_absent(system, wanted)  # the errand has what it needs
        gate.open()
        assert client.reply("a").ok
    wait_absent(system, wanted)
    assert not [form for form in wanted if form in system.log_text().encode()]
    assert not [form for form in wanted if form in (system.folder / "state").read_bytes()]
    assert OTHER.encode() in [login.password for login in backend.logins]


@pytest.mark.skipif(os.getuid() != 0, reason="reading another process's memory needs root")
def test_a_sessions_process_forgets_the_secret_after_the_login(scene):
    system, _, client = scene
    absent("the session's memory", memory(system.pid_serving(client)))


@pytest.mark.skipif(os.getuid() != 0, reason="reading another process's memory needs root")
def test_a_fresh_sessions_process_forgets_the_secret_after_the_login(scene):
    system, backend, _ = scene
    with system.session(USER, RIGHT, how="literals", reused=False) as client:
        client.ok("NOOP")
        absent("the session's memory", memory(system.pid_serving(client)))


@pytest.mark.skipif(os.getuid() != 0, reason="reading another process's memory needs root")
@pytest.mark.parametrize("mechanism", tokens.MECHANISMS)
def test_a_sessions_process_forgets_a_token(scene, mechanism):
    """A refused one while its client has not yet answered the report; a good one after the login, fresh and reused."""
    system, backend, _ = scene
    with system.client() as client:
        tag = tokens.send(client, mechanism, USER, STALE)
        assert client.line().startswith(b"+ ")
        absent("the session's memory", memory(system.pid_serving(client)), control=b"] Keepwarm ready")
        client.send("\r\n")
        client.reply(tag)
        assert tokens.login(client, mechanism, USER, TOKEN).ok
        client.ok("NOOP")
        absent("the session's memory", memory(system.pid_serving(client)))
        client.logout()
    with tokens.session(system, USER, TOKEN, mechanism) as client:
        client.ok("NOOP")
        absent("the session's memory", memory(system.pid_serving(client)))
    assert TOKEN.encode() in [login.password for login in backend.logins]


def test_no_command_line_or_environment_holds_a_secret(scene):
    for pid in scene[0].pids():
        for name in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                data = file.read()
            assert not [form for form in FORMBOOK if form in data]


def literal(text):
    return b"{%d+}\r\n%s" % (len(text), text.encode())


BLOB = plain(USER.encode(), RIGHT.encode())
MALFORMED = {
    "LOGIN with a third argument": f"a1 LOGIN {USER} {RIGHT} extra\r\n",
    "LOGIN quoted with a third argument": f'a1 LOGIN "{USER}" "{RIGHT}" extra\r\n',
    "LOGIN with literals and a third argument": b"a1 LOGIN " + literal(USER) + b" " + literal(RIGHT) + b" extra\r\n",
    "LOGIN with something behind the password": f'a1 LOGIN {USER} "{RIGHT}"x\r\n',
    "LOGIN with an open quote": f'a1 LOGIN {USER} "{RIGHT}\r\n',
    "LOGIN without a user": f'a1 LOGIN "" {RIGHT}\r\n',
    "LOGIN with NUL": f"a1 LOGIN {USER} {RIGHT}\0\r\n",
    "LOGIN with two blanks": f"a1 LOGIN {USER}  {RIGHT}\r\n",
    "LOGIN and a long line": f"a1 LOGIN {USER} {RIGHT} " + "x" * 9000 + "\r\n",
    "an unknown command": f"a1 PASS {RIGHT}\r\n",
    "PLAIN without user": b"a1 AUTHENTICATE PLAIN " + plain(b"", RIGHT.encode()) + b"\r\n",
    "PLAIN with a field too many": b"a1 AUTHENTICATE PLAIN " + b64(f"\0{USER}\0{RIGHT}\0x") + b"\r\n",
    "PLAIN without NUL": b"a1 AUTHENTICATE PLAIN " + b64(RIGHT) + b"\r\n",
    "PLAIN with garbage behind": b"a1 AUTHENTICATE PLAIN " + BLOB + b"!!\r\n",
    "PLAIN in the clear": f"a1 AUTHENTICATE PLAIN {RIGHT}\r\n",
    "PLAIN on a line of its own, with garbage": b"a1 AUTHENTICATE PLAIN\r\n" + BLOB + b"!!\r\n",
    "PLAIN on a line of its own, in the clear": f"a1 AUTHENTICATE PLAIN\r\n{RIGHT}\r\n",
    "LOGIN's password with garbage": b"a1 AUTHENTICATE LOGIN " + b64(USER) + b"\r\n" + b64(RIGHT) + b"!!\r\n",
    "LOGIN's password with NUL": b"a1 AUTHENTICATE LOGIN " + b64(USER) + b"\r\n" + b64(RIGHT + "\0") + b"\r\n",
    "a mechanism that is none": b"a1 AUTHENTICATE XPLAIN " + BLOB + b"\r\n",
}
for tokens_mechanism in tokens.MECHANISMS:
    blob = b64(tokens.message(tokens_mechanism, USER, TOKEN))
    command = b"a1 AUTHENTICATE " + tokens_mechanism.encode()
    MALFORMED |= {
        f"{tokens_mechanism} with garbage behind": command + b" " + blob + b"!!\r\n",
        f"{tokens_mechanism} on a line of its own, with garbage": command + b"\r\n" + blob + b"!!\r\n",
        f"{tokens_mechanism} without a user": command + b" " + b64(tokens.message(tokens_mechanism, "", TOKEN)) + b"\r\n",
        f"{tokens_mechanism} with NUL": command + b" " + b64(tokens.message(tokens_mechanism, USER, TOKEN + "\0")) + b"\r\n",
        f"{tokens_mechanism} in the clear": command + b" " + TOKEN.encode() + b"\r\n",
        f"{tokens_mechanism} and a long user": command + b" " + b64(tokens.message(tokens_mechanism, "u" * 300, TOKEN)) + b"\r\n",
        f"{tokens_mechanism} and a long line": command + b" " + blob + b"x" * 14000 + b"\r\n",
        f"{tokens_mechanism} and a long line of its own": command + b"\r\n" + blob + b"x" * 14000 + b"\r\n",
    }
if not SANITIZED:  # whose dynamic loader leaves the registers of memcpy() on the stack
    MALFORMED["LOGIN's password as the user, then cancelled"] = b"a1 AUTHENTICATE LOGIN " + b64(RIGHT) + b"\r\n*\r\n"


@pytest.mark.skipif(os.getuid() != 0, reason="reading another process's memory needs root")
@pytest.mark.parametrize("what", MALFORMED)
def test_a_sessions_process_forgets_what_was_malformed(once, what):
    with once.client() as client:
        sent = MALFORMED[what]
        client.send(sent)
        while not client.line().startswith((b"a1 BAD ", b"a1 NO ")):
            pass
        client.send("a2 NOOP\r\n")
        client.expect_exact("a2 OK Completed\r\n")
        absent("the session's memory", memory(once.pid_serving(client)), control=b"] Keepwarm ready")


@pytest.fixture(scope="module")
def once(make_once):
    return make_once.system(make_once.backend(), auth_mechanisms=tokens.OFFERED)
