"""APOP (RFC 1939 section 7): the challenge in the greeting is the broker's, and good for its own session only."""
import hashlib
import os
import re
import signal
import subprocess

import pytest

from keepwarm import process
from keepwarm.directory import Passwords
from keepwarm.imap import as_bytes
from keepwarm.messages import REFUSAL_ATTEMPTS, Peer
from keepwarm.pop3 import Client, Host
from keepwarm.process import wait_until

APOP, CRAM_MD5 = 1024, 16  # enum sasl_mechanism
CONTINUES, ACCEPTED, REFUSED, UNAVAILABLE = range(1, 5)  # enum msg_auth
IMAP, POP3 = 1, 2
WRONG = b"-ERR [AUTH] Login failed.\r\n"
LATER = b"-ERR [SYS/TEMP] Login failed.\r\n"
ACCOUNTS = {"anna": ("pw-anna", ""), "bert": ("pw-bert", ""), "bare": ("", ""), "hashed": ("", "$1$x$y")}


@pytest.fixture
def start(make):
    hosts = []

    def begin(**config):
        host, port = Host(), process.free_port()
        hosts.append(host)
        table = Passwords(None, **ACCOUNTS)
        make.started.append(table)
        system = make.system(make.backend(), **{
            "directory": [table], "no_mailhost": "default", "pop3_listen_port": port, "pop3_server_port": host.port, "auth_mechanisms": "PLAIN APOP",
            "log_format": "keepwarm", **config})
        system.host, system.pop, system.pop_port = host, lambda: Client(port), port
        return system
    yield begin
    for host in hosts:
        host.stop()


@pytest.fixture
def system(start):
    return start()


def timestamp(greeting):
    return re.fullmatch(rb"\+OK Keepwarm ready\. (<[0-9a-f]{32}\.\d+@[^<>\s]+>)\r\n", greeting)[1]


def answer(challenge, user, password):
    return as_bytes(user) + b" " + hashlib.md5(challenge + as_bytes(password)).hexdigest().encode()


def apop(client, user, password):
    return client.say(b"APOP " + answer(timestamp(client.greeting), user, password))


# --- clients ----------------------------------------------------------------------------------------------------
def test_who_knows_the_clear_password_is_logged_in(system):
    with system.pop() as client:
        assert apop(client, "anna", "pw-anna") == b"+OK Logged in.\r\n"
        client.ok("RETR 1")
        assert b"<anna>" in client.rest()
        client.ok("QUIT")
    assert [(it.user, it.password) for it in system.host.logins] == [("anna", b"pw-anna")]


@pytest.mark.parametrize("user, password", [
    ("anna", "pw-bert"), ("anna", ""), ("bare", ""), ("bare", "nobody's"), ("hashed", ""), ("hashed", "$1$x$y"), ("nobody", ""),
    ("nobody", "nobody's")])
def test_nobody_else_is(system, user, password):
    with system.pop() as client:
        assert apop(client, user, password) == WRONG
        assert apop(client, "anna", "pw-anna").startswith(b"+OK")
    assert [it.user for it in system.host.logins] == ["anna"]
    system.wait_log(f" user={user} ")


@pytest.mark.parametrize("line", [
    "APOP", "APOP anna", "APOP anna 0123", "APOP  0123456789abcdef0123456789abcdef", "APOP anna " + "g" * 32, "APOP anna " + "A" * 32,
    "APOP " + "x" * 600 + " " + "0" * 32, "APOP " + "x" * 8000])
def test_what_is_no_answer(system, line):
    with system.pop() as client:
        assert client.say(line).startswith(b"-ERR ")
        assert apop(client, "anna", "pw-anna").startswith(b"+OK")


def test_an_overheard_answer_is_good_for_nothing_else(system):
    with system.pop() as client, system.pop() as replay:
        said = b"APOP " + answer(timestamp(client.greeting), "anna", "pw-anna")
        assert client.say(said).startswith(b"+OK")
        assert timestamp(replay.greeting) != timestamp(client.greeting)
        assert replay.say(said) == WRONG
        with_its_challenge = b"APOP " + timestamp(client.greeting) + b" " + said[5:]
        assert replay.say(with_its_challenge) == WRONG


def test_each_answer_is_an_attempt(start):
    system = start(login_attempts=2)
    with system.pop() as client:
        for _ in range(2):
            assert apop(client, "anna", "wrong") == WRONG
        assert client.line() == b"-ERR Too many failed logins\r\n"
        client.expect_close()


def test_a_greeting_alone_is_none(start):
    system = start(login_attempts=1)
    with system.pop() as client:
        assert client.login("anna").startswith(b"+OK")


def test_it_is_in_no_list(start):
    for mechanisms, listed in ("APOP", b""), ("PLAIN APOP CRAM-MD5", b"SASL PLAIN CRAM-MD5\r\n"):
        system = start(auth_mechanisms=mechanisms)
        with system.pop() as client:
            client.ok("CAPA")
            text = client.rest()
            assert listed in text and b"APOP" not in text and (b"SASL" in text) == bool(listed)
            assert client.say("AUTH APOP") == b"-ERR This mechanism is not offered.\r\n"
            assert apop(client, "bert", "pw-bert").startswith(b"+OK")
        with system.client() as client:
            assert b"APOP" not in client.ok("CAPABILITY").text
            assert client.command("AUTHENTICATE APOP").tagged == b"NO no mechanism available"


def test_where_it_is_not_offered_the_greeting_has_no_challenge(start):
    for config in {"auth_mechanisms": "PLAIN"}, {"directory": [], "auth_mechanisms": "PLAIN APOP"}:
        with start(**config).pop() as client:
            assert client.greeting == b"+OK Keepwarm ready.\r\n"
            assert client.say("APOP anna " + "0" * 32) == b"-ERR There is no APOP here.\r\n"


def test_a_broker_that_died_took_the_challenge_with_it(system):
    with system.pop() as client:
        before = system.pids("cachebrokerd")
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: system.pids("cachebrokerd") not in ([], before), "no other broker")
        wait_until(lambda: system.pop().login("bert").startswith(b"+OK"), "the other broker does not serve")
        assert apop(client, "anna", "pw-anna") == LATER
        assert client.login("anna").startswith(b"+OK")


def test_the_name_in_it_is_proxy_hostnames_first(start):
    with start(proxy_hostname="mail.example.org other").pop() as client:
        assert timestamp(client.greeting).endswith(b"@mail.example.org>")


# --- programs ---------------------------------------------------------------------------------------------------
def test_curl(system):
    def curl(password):
        return subprocess.run(["curl", "-sS", "--max-time", "30", "--login-options", "AUTH=+APOP", "--user", f"anna:{password}",
                               f"pop3://127.0.0.1:{system.pop_port}/1"], capture_output=True, check=False)
    done = curl("pw-anna")
    assert done.returncode == 0 and b"<anna>" in done.stdout, done
    assert curl("wrong").returncode == 67


# --- a process that was taken over ------------------------------------------------------------------------------
def step(peer, conversation=0, data=b"", mechanism=APOP):
    return peer.request("AUTH_STEP", conversation=conversation, mechanism=mechanism, data=data)


@pytest.fixture
def peer(system):
    with Peer(system) as peer:
        yield peer.hello(service=POP3)


def test_a_session_cannot_choose_its_challenge(system, peer):
    with system.pop() as client:
        overheard = timestamp(client.greeting), answer(timestamp(client.greeting), "anna", "pw-anna")
    mine = step(peer)
    assert mine.status == CONTINUES and mine.data != overheard[0]
    assert step(peer, mine.conversation, overheard[0] + b" " + overheard[1]).status == REFUSED
    assert step(peer, mine.conversation, b" ".join(overheard)[1:]).status == REFUSED
    assert step(peer, mine.conversation, overheard[1]).status == REFUSED
    reply = step(peer, mine.conversation, answer(mine.data, "anna", "pw-anna"))
    assert (reply.name, reply.reason) == ("REFUSED", REFUSAL_ATTEMPTS)


def test_the_worker_says_who_it_is(peer):
    mine = step(peer)
    reply = step(peer, mine.conversation, answer(mine.data, "anna", "pw-anna"))
    assert (reply.status, reply.user) == (ACCEPTED, b"anna")
    peer.push("LEASE", serial=9, proof_kind=4, user="bert")
    assert peer.receive().backend_user == b"anna"


def test_another_sessions_number_is_of_no_use(system, peer):
    with Peer(system) as other:
        other.hello(service=POP3)
        mine, its = step(peer), step(other)
        assert step(peer, its.conversation, answer(its.data, "anna", "pw-anna")).status == UNAVAILABLE
        assert step(peer, mine.conversation, answer(mine.data, "anna", "pw-anna")).status == ACCEPTED


def test_verified_it_is_only_by_the_last_answer(peer):
    mine = step(peer)
    assert step(peer, mine.conversation, answer(mine.data, "anna", "pw-anna")).status == ACCEPTED
    assert step(peer, mine.conversation, answer(mine.data, "bert", "wrong")).status == REFUSED
    peer.push("LEASE", serial=9, proof_kind=4, user="anna")
    peer.expect_cut_off()


def a_second_greeting(peer):
    step(peer)
    peer.push("AUTH_STEP", serial=9, mechanism=APOP)


def its_number_with_a_mechanism(peer):
    peer.push("AUTH_STEP", serial=9, mechanism=CRAM_MD5, conversation=step(peer).conversation)


def verified_by_the_greeting(peer):
    step(peer)
    peer.push("LEASE", serial=9, proof_kind=4, user="anna")


@pytest.mark.parametrize("act", [a_second_greeting, its_number_with_a_mechanism, verified_by_the_greeting],
                         ids=lambda act: act.__name__)
def test_a_session_is_cut_off_for(peer, act):
    act(peer)
    peer.expect_cut_off()


def test_imap_has_none(system):
    with Peer(system) as peer:
        peer.hello(service=IMAP)
        peer.push("AUTH_STEP", serial=9, mechanism=APOP)
        peer.expect_cut_off()
