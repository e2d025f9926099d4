"""CRAM and SCRAM: who knows the directory's password is logged in, by an errand, and nobody else."""
import base64
import os
import signal
import subprocess

import pytest

from keepwarm import challenge
from keepwarm.challenge import CRAMS, MECHANISMS, OFFERED, SCRAMS, Cancelled, Scram, begin, cram_answer, login, prompt, say, session
from keepwarm.directory import Passwords, Userdb, at
from keepwarm.process import free_port, memory, parent, wait_until
from keepwarm.system import BUILD, SANITIZED

WRONG = b"NO [AUTHENTICATIONFAILED] AUTHENTICATE failed"
LATER = b"NO [UNAVAILABLE] AUTHENTICATE failed"
CANCELLED = b"BAD Authentication cancelled"
INVALID = b"BAD Invalid authentication data"
MASTER = {"auth_sasl_plain_username": "hauptmann", "auth_sasl_plain_password": "Hauptwort-77aa"}
HMAC = {  # userdbpw -hmac-md5 and so on, of "tanstaaftanstaaf"
    "md5": "d06d4e1b26fccaa4b0b61801132340a354b21152711fb604ca3e035e7015116b",
    "sha1": "72724befb173b1ee5f79c09801b9b15e11d805fe02b49c1d1d00921723b52bcb862c04fa52876446",
    "sha256": "0dc4407ecdb637a66615a85f4d5632c459c57a86c2038fdd81a8804bc34a9369"
              "5325d19c44d48eabed0476bc8078e0987eeaf4fff2267de3e00f539ba83f6225",
}
ACCOUNTS = {"anna": ("pw-anna", ""), "bert": ("pw-bert", ""), "bare": ("", ""), "hashed": ("", "$1$x$y"),
            "stale": ("not-the-mail-hosts", "")}


@pytest.fixture
def start(make, backend):
    """A system whose directory is a table with clear passwords."""
    def started(accounts=None, **config):
        table = Passwords(backend, **(accounts or ACCOUNTS))
        make.started.append(table)
        config.setdefault("auth_mechanisms", OFFERED)
        system = make.system(backend, directory=[table], **{"server_port": free_port(), "log_format": "keepwarm", **config})
        system.table = table
        return system
    return started


@pytest.fixture
def system(start):
    return start()


def be_master(backend):
    """The mail host lets the master user log in for everybody."""
    backend.masters = []

    def judge(conn):
        command = conn.commands[-1]
        authzid, user, password = base64.b64decode(command.args[1]).decode().split("\0")
        backend.masters.append((authzid, user, password))
        if (user, password) != tuple(MASTER.values()) or not authzid:
            return conn.done(command, b"NO [AUTHENTICATIONFAILED] says the backend")
        conn.user = authzid
        return conn.done(command, b"OK [CAPABILITY " + backend.after.encode() + b"] says the backend")
    backend.answers["AUTHENTICATE"] = judge


def mail_of(client):
    client.ok("SELECT INBOX")
    return client.ok("FETCH 1 BODY[]").text


# --- it works ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_who_knows_the_clear_password_is_logged_in(system, backend, mechanism):
    with system.client() as client:
        assert login(client, mechanism, "anna", "pw-anna").ok
        assert b"<anna>" in mail_of(client)
    assert [(it.user, it.password) for it in backend.logins] == [("anna", b"pw-anna")]


@pytest.mark.parametrize("mechanism", SCRAMS)
def test_scrams_first_message_need_not_come_at_once(system, mechanism):
    with system.client() as client:
        assert login(client, mechanism, "anna", "pw-anna", initial=False).ok


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("user, password", [("anna", "pw-bert"), ("anna", ""), ("bare", ""), ("hashed", ""), ("hashed", "$1$x$y"),
                                            ("nobody", "pw-nobody"), ("nobody", "nobody's"), ("bare", "nobody's")])
def test_nobody_else_is(system, backend, mechanism, user, password):
    with system.client() as client:
        assert login(client, mechanism, user, password).tagged == WRONG
        assert login(client, mechanism, "anna", "pw-anna").ok
    assert [it.user for it in backend.logins] == ["anna"]
    system.wait_log(f" user={user} ")


@pytest.mark.parametrize("mechanism", SCRAMS)
@pytest.mark.parametrize("style", ["dovecot", "postgresql"])
def test_stored_keys_are_enough_and_the_master_user_logs_in(start, backend, mechanism, style):
    be_master(backend)
    system = start({"anna": ("", challenge.stored(mechanism, "a secret", style=style))}, **MASTER)
    with system.client() as client:
        assert login(client, mechanism, "anna", "another").tagged == WRONG
        assert login(client, mechanism, "anna", "a secret").ok
        assert b"<anna>" in mail_of(client)
    assert backend.masters == [("anna", *MASTER.values())]


@pytest.mark.parametrize("mechanism", CRAMS)
def test_cram_with_what_userdb_has_for_it(make, backend, mechanism):
    be_master(backend)
    userdb = Userdb()
    make.started.append(userdb)
    fields = "|".join(f"hmac-{name}pw={states}" for name, states in HMAC.items())
    userdb.write_text(f"anna\tuid=1|gid=1|home=/x|{fields}|options=mailhost={at(backend)}\n")
    system = make.system(backend, directory=[userdb], auth_mechanisms=OFFERED, **MASTER)
    with system.client() as client:
        assert login(client, mechanism, "anna", "tanstaaftanstaa").tagged == WRONG
        assert login(client, mechanism, "anna", "tanstaaftanstaaf").ok
        assert b"<anna>" in mail_of(client)


def test_without_clear_password_and_master_user_it_is_said_what_is_missing(start, backend):
    system = start({"anna": ("", challenge.stored("SCRAM-SHA-1", "a secret"))})
    with system.client() as client:
        assert login(client, "SCRAM-SHA-1", "anna", "a secret").tagged == LATER
    system.wait_log("needs a clear password in the directory, or a master user (auth_sasl_plain_username, "
                    "auth_sasl_plain_password)")
    assert not backend.logins


def test_a_mail_host_that_does_not_take_the_directorys_password_is_no_wrong_password(system):
    with system.client() as client:
        assert login(client, "SCRAM-SHA-256", "stale", "not-the-mail-hosts").tagged == LATER
    system.wait_log("the mail host refused the login for a verified client")


def test_a_refused_master_is_not_taken_for_a_password_of_the_directory(start, backend):
    backend.answers["AUTHENTICATE"] = lambda conn: conn.done(conn.commands[-1], b"NO [AUTHENTICATIONFAILED] says the backend")
    system = start({"anna": ("", challenge.stored("SCRAM-SHA-1", "a secret"))}, **MASTER)
    with system.client() as client:
        assert login(client, "SCRAM-SHA-1", "anna", "a secret").tagged == LATER
    system.wait_log("the master user's login is refused by")
    assert "a password of the directory" not in system.log_text()


@pytest.mark.parametrize("said, told", [("EXPIRED", "EXPIRED"), ("LIMIT", "LIMIT"), ("AUTHENTICATIONFAILED", "UNAVAILABLE"),
                                        ("AUTHORIZATIONFAILED", "UNAVAILABLE"), ("SERVERBUG", "SERVERBUG")])
def test_what_the_mail_host_says_of_the_account_is_passed_on_as_a_code(system, backend, said, told):
    backend.refusal = b"TAG NO [" + said.encode() + b"] Private words\r\n"
    with system.client() as client:
        assert login(client, "CRAM-MD5", "stale", "not-the-mail-hosts").tagged == b"NO [" + told.encode() + b"] AUTHENTICATE failed"
    assert "Private words" not in system.log_text()


def test_a_directory_that_is_away_is_no_wrong_password(start):
    system = start()
    system.write_config(directory=["authdaemon:/nowhere/socket"])
    os.kill(system.supervisor.pid, signal.SIGHUP)
    system.wait_log("was read again")
    for mechanism in "SCRAM-SHA-256", "CRAM-MD5":
        def later(mechanism=mechanism):
            with system.client() as client:
                reply = login(client, mechanism, "anna", "pw-anna")
            assert not reply.tagged.startswith(b"NO [AUTH"), reply
            return reply.tagged == LATER
        wait_until(later, "the directory is not away")


# --- what is offered -----------------------------------------------------------------------------------------------
def test_only_what_the_site_names_is_offered(start):
    system = start(auth_mechanisms="PLAIN cram-md5")
    with system.client() as client:
        words = client.greeting.decode().split()
        assert [word for word in words if word.startswith("AUTH=")] == ["AUTH=PLAIN", "AUTH=CRAM-MD5"]
        for mechanism in set(MECHANISMS) - {"CRAM-MD5"}:
            client.send(f"a AUTHENTICATE {mechanism}\r\n")
            client.expect_exact("a NO no mechanism available\r\n")
        assert login(client, "cram-md5".upper(), "anna", "pw-anna").ok


def test_without_a_directory_there_is_a_warning_and_no_offer(make, backend, tmp_path):
    (tmp_path / "conf").write_text("server_hostname x\nauth_mechanisms PLAIN SCRAM-SHA-256\n")
    run = subprocess.run([BUILD / "proxyd", "-n", "-f", tmp_path / "conf"], capture_output=True, text=True, check=False)
    assert "CRAM, SCRAM and APOP are judged by what a directory has" in run.stderr
    system = make.system(backend, auth_mechanisms=OFFERED)
    with system.client() as client:
        assert b"AUTH=PLAIN AUTH=LOGIN XIMAPPROXY" in client.greeting
        client.send("a AUTHENTICATE CRAM-MD5\r\n")
        client.expect_exact("a NO no mechanism available\r\n")


# --- the exchange --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mechanism", CRAMS)
@pytest.mark.parametrize("initial", ["=", "YW5uYSAwMA=="])
def test_cram_has_no_initial_response(system, mechanism, initial):
    with system.client() as client:
        client.send(f"a AUTHENTICATE {mechanism} {initial}\r\n")
        client.expect_exact(b"a " + INVALID + b"\r\n")


def test_crams_challenge_is_another_one_each_time(system):
    seen = set()
    with system.client() as client:
        for _ in range(2):
            tag = begin(client, "CRAM-MD5")
            text = prompt(client, tag).decode()
            assert text.startswith("<") and text.endswith(">") and "@" in text and " " not in text
            seen.add(text)
            client.send("*\r\n")
            assert client.reply(tag).tagged == CANCELLED
    assert len(seen) == 2


@pytest.mark.parametrize("steps", range(3))
def test_scram_can_be_cancelled_at_each_step(system, backend, steps):
    talk = Scram("SCRAM-SHA-256", "anna", "pw-anna")
    with system.client() as client:
        tag = begin(client, "SCRAM-SHA-256")
        said = prompt(client, tag)
        for step in range(steps):
            say(client, talk.first() if step == 0 else talk.final(said))
            said = prompt(client, tag)
        client.send("*\r\n")
        assert client.reply(tag).tagged == CANCELLED
        assert not backend.logins
        assert login(client, "SCRAM-SHA-256", "anna", "pw-anna").ok


@pytest.mark.parametrize("last", ["=", "Zm9v", "!"])
def test_scram_ends_with_an_empty_line(system, backend, last):
    talk = Scram("SCRAM-SHA-1", "anna", "pw-anna")
    with system.client() as client:
        tag = begin(client, "SCRAM-SHA-1", talk.first())
        say(client, talk.final(prompt(client, tag)))
        prompt(client, tag)
        client.send(last + "\r\n")
        assert client.reply(tag).tagged == INVALID
    assert not backend.logins


@pytest.mark.parametrize("header, verdict", [(b"n,,", b"OK"), (b"y,,", b"OK"), (b"n,a=anna,", b"OK"), (b"n,a=bert,", WRONG),
                                             (b"p=tls-unique,,", WRONG), (b"x,,", WRONG), (b"", WRONG)])
def test_no_channel_binding_and_nobody_elses_mailbox(system, header, verdict):
    talk = Scram("SCRAM-SHA-256", "anna", "pw-anna", header)
    with system.client() as client:
        tag = begin(client, "SCRAM-SHA-256", talk.first())
        try:
            say(client, talk.final(prompt(client, tag)))
            prompt(client, tag)
            client.send("\r\n")
            reply = client.reply(tag)
        except Cancelled as stop:
            reply = stop.reply
        assert reply.tagged.startswith(verdict)


@pytest.mark.parametrize("initial", [True, False])
@pytest.mark.parametrize("length, told", [(4096, WRONG), (4097, b"NO AUTHENTICATE failed"), (6000, b"NO AUTHENTICATE failed")])
def test_a_first_message_that_is_too_long_is_the_clients_fault(system, initial, length, told):
    """And not UNAVAILABLE, which would make it come again."""
    message = b"n,,n=anna,r=" + b"x" * (length - 12)
    with system.client() as client:
        tag = begin(client, "SCRAM-SHA-256", message if initial else None)
        if not initial:
            prompt(client, tag)
            say(client, message)
        assert client.reply(tag).tagged == told
        assert login(client, "SCRAM-SHA-256", "anna", "pw-anna").ok


@pytest.mark.parametrize("change", [{"nonce": b"another"}, {"header": b"y,,"}, {"header": b"n,a=bert,"}])
def test_a_message_that_was_changed_is_refused(system, change):
    talk = Scram("SCRAM-SHA-256", "anna", "pw-anna")
    with system.client() as client:
        tag = begin(client, "SCRAM-SHA-256", talk.first())
        say(client, talk.final(prompt(client, tag), **change))
        assert client.reply(tag).tagged == WRONG


@pytest.mark.parametrize("mechanism", ["CRAM-MD5", "SCRAM-SHA-256"])
@pytest.mark.parametrize("text, answer", [
    (b"!!!!", INVALID), (b"Zm9", INVALID), (b64 := base64.b64encode(b"x" * 4096), WRONG),
    (base64.b64encode(b"x" * 4098), b"NO AUTHENTICATE failed"), (b"", WRONG), (base64.b64encode(b"\0" * 40), None),
], ids=lambda it: str(it)[:12])
def test_rubbish(system, backend, mechanism, text, answer):
    with system.client() as client:
        tag = begin(client, mechanism, Scram(mechanism, "anna", "x").first() if mechanism in SCRAMS else None)
        prompt(client, tag)
        client.send(text + b"\r\n")
        tagged = client.reply(tag).tagged
        assert tagged == answer if answer else tagged in (WRONG, INVALID)
        assert login(client, mechanism, "anna", "pw-anna").ok
    assert len(backend.logins) == 1


@pytest.mark.parametrize("mechanism", ["CRAM-MD5", "SCRAM-SHA-256"])
def test_an_answer_that_was_overheard_is_worth_nothing(system, backend, mechanism):
    """Said again in the next conversation, on this connection or another one."""
    with system.client() as client, system.client() as thief:
        if mechanism in CRAMS:
            tag = begin(client, mechanism)
            answer = cram_answer(mechanism, "anna", "pw-anna", prompt(client, tag))
        else:
            talk = Scram(mechanism, "anna", "pw-anna")
            tag = begin(client, mechanism, talk.first())
            answer = talk.final(prompt(client, tag))
        its = begin(thief, mechanism, talk.first() if mechanism in SCRAMS else None)
        prompt(thief, its)
        say(thief, answer)
        assert thief.reply(its).tagged == WRONG
        say(client, answer)
        if mechanism in SCRAMS:
            prompt(client, tag)
            client.send("\r\n")
        assert client.reply(tag).ok
        assert len(backend.logins) == 1


def test_who_is_unknown_is_not_told_from_who_is_not_until_the_end(start):
    accounts = {"anna": ("pw-anna", "")}
    system = start(accounts, login_attempts=10)
    seen = {}
    with system.client() as client:
        for user in "anna", "nobody", "anna", "nobody":
            talk = Scram("SCRAM-SHA-256", user, "wrong")
            tag = begin(client, "SCRAM-SHA-256", talk.first())
            say(client, talk.final(prompt(client, tag)))
            assert client.reply(tag).tagged == WRONG
            assert seen.setdefault(user, (talk.salt, talk.iterations)) == (talk.salt, talk.iterations)
    assert seen["anna"][0] != seen["nobody"][0]
    assert len(seen["anna"][0]) == len(seen["nobody"][0]) and seen["anna"][1] == seen["nobody"][1]


# --- what they cost, and whose connections they get ---------------------------------------------------------------
def test_a_conversation_is_an_attempt(start):
    system = start(login_attempts=2)
    with system.client() as client:
        assert login(client, "CRAM-MD5", "anna", "x").tagged == WRONG
        assert login(client, "SCRAM-SHA-1", "anna", "pw-anna").ok  # and its LEASE is not a further one
    with system.client() as client:
        for _ in range(2):
            tag = begin(client, "CRAM-MD5")
            prompt(client, tag)
            client.send("*\r\n")
            assert client.reply(tag).tagged == CANCELLED
        assert login(client, "CRAM-MD5", "anna", "pw-anna").tagged.startswith(b"NO [LIMIT]")


@pytest.mark.parametrize("most, told", [(2, b"OK "), (0, b"NO [LIMIT] AUTHENTICATE failed")])
def test_limit_closes_the_users_idle_ones_and_tries_once_more(start, backend, most, told):
    """As it is with a session's own login; and it is one attempt. They are the same account's under a password."""
    system = start(login_attempts=1)
    for client in [system.session() for _ in range(2)]:
        client.logout()
        system.wait_given()

    def judge(user, password):
        there = [conn for conn in backend.open_connections() if conn.user == user]
        return True if len(there) < most else b"TAG NO [LIMIT] Too many connections\r\n"
    backend.verdict = judge
    with system.client() as client:
        assert login(client, "CRAM-MD5", "anna", "pw-anna").tagged.startswith(told)
    assert len(backend.logins) == 4
    wait_until(lambda: system.counter("evicted") == 2 and system.counter("limited") == (1 if most else 2),
               lambda: f"{system.stats()}")


def test_connections_are_reused_by_whoever_is_verified_anew(system, backend):
    with session(system, "anna", "pw-anna", "CRAM-MD5", reused=False) as client:
        client.logout()
    system.wait_given()
    with system.client() as client:
        assert login(client, "CRAM-MD5", "anna", "wrong").tagged == WRONG
    with session(system, "anna", "pw-anna", "SCRAM-SHA-256", reused=True) as client:
        assert b"<anna>" in mail_of(client)
        client.logout()
    system.wait_given()
    session(system, "bert", "pw-bert", "CRAM-MD5", reused=False).close()
    assert [it.user for it in backend.logins] == ["anna", "bert"]


def test_a_password_and_a_verified_client_do_not_share_connections(system, backend):
    session(system, "anna", "pw-anna", "CRAM-MD5").logout()
    system.wait_given()
    with system.client() as client:
        assert not client.login("anna", "pw-bert").ok
    with system.session("anna", "pw-anna", reused=False) as client:
        client.logout()
    system.wait_given()
    # both lie there, each for its own
    system.session("anna", "pw-anna", reused=True).logout()
    session(system, "anna", "pw-anna", "SCRAM-SHA-1", reused=True).logout()
    assert [it.password for it in backend.logins if it.password == b"pw-anna"] == [b"pw-anna"] * 2


def test_a_new_password_in_the_directory_counts_at_once(system):
    session(system, "anna", "pw-anna").logout()
    system.wait_given()
    system.table.write(**{**ACCOUNTS, "anna": ("another", "")})

    def changed():
        with system.client() as client:
            return login(client, "CRAM-MD5", "anna", "pw-anna").tagged == WRONG
    wait_until(changed, "the old password is still good")
    session(system, "anna", "another", reused=True).close()


def test_a_reused_connection_that_is_dead_is_replaced(system, backend):
    session(system, "anna", "pw-anna").logout()
    system.wait_given()
    for login_there in backend.logins:
        login_there.conn.drop()
    with session(system, "anna", "pw-anna") as client:
        assert b"<anna>" in mail_of(client)


# --- workers -------------------------------------------------------------------------------------------------------
def workers(system):
    return [pid for pid in system.pids("lookupd") if parent(pid) in system.pids("lookupd")]


@pytest.mark.parametrize("mechanism", ["CRAM-MD5", "SCRAM-SHA-256"])
def test_a_worker_that_dies_takes_its_conversations_with_it(start, mechanism):
    system = start(lookup_processes=2)
    with system.client() as client:
        talk = Scram(mechanism, "anna", "pw-anna") if mechanism in SCRAMS else None
        tag = begin(client, mechanism, talk and talk.first())
        said = prompt(client, tag)
        for pid in workers(system):
            os.kill(pid, signal.SIGKILL)
        say(client, talk.final(said) if talk else cram_answer(mechanism, "anna", "pw-anna", said))
        assert client.reply(tag).tagged == LATER
        assert login(client, mechanism, "anna", "pw-anna").ok


def test_each_conversation_goes_on_with_its_own_worker(start):
    """Many at once, with several workers, ended in another order."""
    system = start(lookup_processes=3)
    clients = [system.client() for _ in range(12)]
    talks = []
    for client in clients:
        talk = Scram("SCRAM-SHA-256", "anna", "pw-anna")
        tag = begin(client, "SCRAM-SHA-256", talk.first())
        talks.append((client, talk, tag, prompt(client, tag)))
    for client, talk, tag, said in reversed(talks):
        say(client, talk.final(said))
        assert prompt(client, tag).startswith(b"v=")
        client.send("*\r\n")
        assert client.reply(tag).tagged == CANCELLED
        client.close()


def test_a_broker_that_dies_takes_them_too(system):
    talk = Scram("SCRAM-SHA-256", "anna", "pw-anna")
    with system.client() as client:
        tag = begin(client, "SCRAM-SHA-256", talk.first())
        said = prompt(client, tag)
        os.kill(system.pids("cachebrokerd")[0], signal.SIGKILL)
        say(client, talk.final(said))
        assert client.reply(tag).tagged == LATER
        assert login(client, "SCRAM-SHA-256", "anna", "pw-anna").ok


def test_a_thousand_that_are_left_harm_nobody(start):
    system = start(lookup_processes=1, login_attempts=100, max_errors=1000)
    for _ in range(11):
        with system.client() as client:
            for _ in range(100):
                tag = begin(client, "CRAM-MD5")
                prompt(client, tag)
                client.send("*\r\n")
                assert client.reply(tag).tagged == CANCELLED
    session(system, "anna", "pw-anna", "CRAM-MD5").close()


@pytest.mark.skipif(SANITIZED, reason="a sanitizer keeps what was freed")
def test_the_directorys_password_stays_nowhere(start, backend):
    """Not in the broker, nor in a process that serves a client."""
    secret = "Geheim-9d41c7e0a5b2"
    backend.passwords = {"anna": secret.encode()}
    system = start({"anna": (secret, "")})
    with session(system, "anna", secret) as client:
        assert b"<anna>" in mail_of(client)
        for name in "cachebrokerd", "proxyd", "in.imapproxyd":
            for pid in system.pids(name):
                assert secret.encode() not in memory(pid), name
