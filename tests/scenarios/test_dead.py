"""Reused connections that turn out to be dead, mail hosts that restart, and bounds of mail hosts and of ours."""
import os

import pytest

from keepwarm.backend import CLOSE
from keepwarm.messages import LIMIT, Peer
from keepwarm.process import memory, wait_until
from keepwarm.system import SANITIZED

ROOT_ONLY = pytest.mark.skipif(os.getuid() != 0, reason="reading another process's memory needs root")


def leave(system, user="anna", **login):
    system.session(user, **login).logout()
    system.wait_given()


def check(system, **wanted):
    system.wait_counters(**wanted)


def dies_once(backend, verb, how):
    """The connection that hears this verb next does not answer it."""
    def answer(conn):
        del backend.answers[verb]
        how(conn)
        conn.answer(CLOSE)
    backend.answers[verb] = answer


DEATHS = {"EOF": lambda conn: None, "RST": lambda conn: conn.reset(),
          "BYE": lambda conn: conn.send(b"* BYE so sorry\r\n")}


# --- dead before its first response ---------------------------------------------------------------------------
@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("command", ["NOOP", "SELECT INBOX", 'LIST "" *', "STATUS INBOX (MESSAGES)", "NAMESPACE"])
def test_a_safe_command_is_repeated_on_another_connection(system, backend, command, death):
    leave(system)
    client = system.session(reused=True)
    dies_once(backend, command.split()[0], DEATHS[death])
    reply = client.ok(command)
    assert b"BYE" not in reply.text
    client.ok("NOOP")
    said = [[c.raw for c in conn.commands if c.raw == command.encode()] for conn in backend.connections]
    assert [len(commands) for commands in said][:2] == ([1, 1] if command != "NOOP" else [2, 2])
    client.logout()
    system.wait_given()
    with system.session(reused=True) as client:
        client.ok("NOOP")


def test_idle_is_repeated(system, backend):
    leave(system)
    with system.session(reused=True) as client:
        dies_once(backend, "IDLE", DEATHS["EOF"])
        client.send("a IDLE\r\n")
        client.expect_exact("+ idling\r\n")
        client.send("DONE\r\n")
        assert client.reply("a").ok


def test_pipelined_safe_commands_are_all_repeated_in_order(system, backend):
    leave(system)
    with system.session(reused=True) as client:
        dies_once(backend, "NAMESPACE", DEATHS["RST"])
        client.send('a NAMESPACE\r\nb LIST "" *\r\nc SELECT INBOX\r\n')
        for tag in "abc":
            assert client.reply(tag).ok
        assert backend.connections[1].verbs()[-3:] == ["NAMESPACE", "LIST", "SELECT"]


def test_another_idle_connection_is_used_if_there_is_one(system, backend):
    clients = [system.session() for _ in range(2)]
    for client in clients:
        client.logout()
        system.wait_given()
    with system.session(reused=True) as client:
        dies_once(backend, "NAMESPACE", DEATHS["EOF"])
        client.ok("NAMESPACE")
        assert len(backend.connections) == 2
    check(system, stale=1)


def test_one_that_dies_before_any_command_is_replaced(system, backend):
    leave(system)
    with system.session(reused=True) as client:
        backend.connections[0].drop()
        backend.wait_for(lambda: len(backend.logins) == 2, "no other connection")
        client.ok("NOOP")


UNSAFE = ["CREATE x", "DELETE x", "STORE 1 +FLAGS (\\Deleted)", "UID STORE 1 FLAGS ()", "EXPUNGE", "FETCH 1 BODY[]",
          "UID FETCH 1 BODY[]", "COPY 1 x", "MOVE 1 x", "CLOSE", "SUBSCRIBE x", "SETACL x y r", "XUNKNOWN", "RENAME a b",
          "NOTIFY NONE"]


@pytest.mark.parametrize("command", UNSAFE)
def test_what_changes_something_is_never_repeated(system, backend, command):
    leave(system)
    client = system.session(reused=True)
    dies_once(backend, command.split()[0], DEATHS["EOF"])
    client.send(f"a {command}\r\n")
    client.expect(rb"\* BYE [^\r\n]*\r\n")
    client.expect_close()
    assert backend.everything().count(command.encode()) == 1
    assert len(backend.connections) == 1


def test_a_safe_command_behind_an_unsafe_one_is_not_repeated(system, backend):
    leave(system)
    client = system.session(reused=True)
    dies_once(backend, "CREATE", DEATHS["EOF"])
    client.send("a CREATE x\r\nb NOOP\r\n")
    client.expect(rb"\* BYE [^\r\n]*\r\n")
    assert len(backend.connections) == 1


@pytest.mark.parametrize("literal", [b"a APPEND INBOX {5+}\r\nhello\r\n", b"a LIST {0+}\r\n \"*\"\r\n"])
def test_a_literal_is_never_repeated(system, backend, literal):
    leave(system)
    client = system.session(reused=True)
    dies_once(backend, literal.split()[1].decode(), DEATHS["EOF"])
    client.send(literal)
    client.expect(rb"\* BYE [^\r\n]*\r\n")
    client.expect_close()
    assert len(backend.connections) == 1


def test_nothing_is_repeated_when_a_response_has_begun(system, backend):
    leave(system)
    client = system.session(reused=True)
    dies_once(backend, "LIST", lambda conn: conn.send(b'* LIST () "/" INBOX\r\n'))
    client.send('a LIST "" *\r\n')
    client.expect_exact('* LIST () "/" INBOX\r\n')
    client.expect(rb"\* BYE [^\r\n]*\r\n")
    client.expect_close()
    assert len(backend.connections) == 1


def test_nothing_is_repeated_after_the_first_response(system, backend):
    leave(system)
    client = system.session(reused=True)
    client.ok("NOOP")
    dies_once(backend, "NOOP", DEATHS["EOF"])
    client.send("a NOOP\r\n")
    client.expect(rb"\* BYE [^\r\n]*\r\n")
    assert len(backend.connections) == 1


def test_nothing_is_repeated_on_a_fresh_connection(system, backend):
    client = system.session(reused=False)
    dies_once(backend, "NOOP", DEATHS["EOF"])
    client.send("a NOOP\r\n")
    client.expect(rb"\* BYE [^\r\n]*\r\n")
    assert len(backend.connections) == 1


def test_a_mail_host_that_is_gone_altogether_is_said_so(system, backend):
    leave(system)
    client = system.session(reused=True)
    backend.deaf()
    backend.connections[0].drop()
    client.expect(rb"\* BYE \[UNAVAILABLE\] [^\r\n]*\r\n")
    client.expect_close()


def test_a_password_that_was_changed_meanwhile_ends_the_session(system, backend):
    leave(system)
    client = system.session(reused=True)
    backend.passwords["anna"] = b"new"
    dies_once(backend, "NAMESPACE", DEATHS["EOF"])
    client.send("a NAMESPACE\r\n")
    client.expect(rb"\* BYE [^\r\n]*\r\n")
    client.expect_close()
    assert len(backend.logins) == 2


def test_after_the_brokers_death_nothing_is_repeated(system, backend):
    leave(system)
    client = system.session(reused=True)
    broker = system.pids("cachebrokerd")
    os.kill(broker[0], 9)
    wait_until(lambda: system.pids("cachebrokerd") not in ([], broker), "no new broker")
    with Peer(system).hello():  # whom the broker before has not known
        system.wait_clients(2)
    wait_until(lambda: system.gauge("active") == 1, "the session is not back")
    backend.connections[0].drop()
    client.expect(rb"\* BYE [^\r\n]*\r\n")
    client.expect_close()


@ROOT_ONLY
@pytest.mark.parametrize("what", ["a response", "an unsafe command", "login_timeout"])
def test_the_password_is_kept_no_longer_than_it_may_be_needed(make, backend, what):
    secret = b"Geheim-5a8be2"
    backend.passwords["anna"] = secret
    system = make.system(backend, login_timeout=6 if what == "login_timeout" else 60)
    leave(system, password=secret.decode())
    with system.session(password=secret.decode(), reused=True) as client:
        pid = system.pid_serving(client)
        assert SANITIZED or secret in memory(pid), "the search proves nothing"
        if what == "a response":
            client.ok("NOOP")
        elif what == "an unsafe command":
            gate = backend.gate("CREATE")
            client.send("a CREATE x\r\n")
            gate.wait()
        wait_until(lambda: secret not in memory(pid), "it is still there")
        if what == "an unsafe command":
            gate.open()


# --- a mail host that restarts --------------------------------------------------------------------------------
@pytest.mark.parametrize("stray", [b"* BYE restarting\r\n", None], ids=["BYE", "close"])
def test_a_burst_of_ends_flushes_the_hosts_idle_connections(system, backend, stray):
    users = ["one", "two", "three", "four", "five", "six"]
    for user in users:
        leave(system, user)
    for conn in backend.connections[:3]:
        conn.push(stray) if stray else conn.drop()
    check(system, died=3, flushed=3)
    system.wait_cached(0)
    backend.wait_for(lambda: not backend.open_connections(), "some are still open")
    assert not any("LOGOUT" in conn.verbs() for conn in backend.connections)
    assert system.log_text().count("ended several idle connections: 3 more closed") == 1
    leave(system, "six", reused=False)


def test_two_ends_are_no_burst(system, backend):
    for user in ("one", "two", "three"):
        leave(system, user)
    for conn in backend.connections[:2]:
        conn.drop()
    check(system, died=2, flushed=0)
    leave(system, "three", reused=True)


# --- bounds ---------------------------------------------------------------------------------------------------
def test_host_max_connections_takes_the_hosts_oldest_idle_ones_first(make, backend):
    system = make.system(backend, host_max_connections=2)
    for user in ("one", "two"):
        leave(system, user)
    with system.session("three", reused=False) as client:
        backend.wait_for(backend.connections[0].closed.is_set, "the oldest is still open")
        assert backend.connections[0].verbs()[-1] == "LOGOUT"
        client.ok("NOOP")
    check(system, evicted=1)
    leave(system, "two", reused=True)


def test_host_max_connections_that_are_all_in_use_are_said_so(make, backend):
    system = make.system(backend, host_max_connections=2)
    first, second = system.session("one"), system.session("two")
    with system.client() as client:
        assert client.login("three", "pw-three").tagged == b"NO [LIMIT] LOGIN failed"
        system.wait_log("host_max_connections to this mail host are in use")
        first.logout()
        system.wait_cached(1)
        assert client.login("three", "pw-three").ok
    second.ok("NOOP")
    assert len(backend.connections) == 3


def test_host_max_connections_is_taken_over_by_a_reload_and_counts_right_after_all_that(make, backend):
    system = make.system(backend, host_max_connections=1)
    for _ in range(3):
        for user in ("one", "two"):
            leave(system, user)
    backend.passwords["one"] = b"new"
    with system.client() as client:
        assert client.login("one", "wrong").tagged.startswith(b"NO [AUTHENTICATIONFAILED]")
        assert client.login("one", "new").ok


def limit(backend, most):
    """The mail host lets a user have so many connections."""
    def judge(user, password):
        there = [conn for conn in backend.open_connections() if conn.user == user and "LOGOUT" not in conn.verbs()]
        return True if len(there) < most else b"TAG NO [LIMIT] Too many connections\r\n"
    backend.verdict = judge


def test_limit_closes_the_users_idle_ones_and_tries_once_more(make, backend):
    limit(backend, 2)
    system = make.system(backend)
    clients = [system.session() for _ in range(2)]
    for client in clients:
        client.logout()
        system.wait_given()
    leave(system, "bert")
    with system.client() as client:
        assert client.login("anna", "another password").ok
    assert len(backend.logins) == 5
    check(system, limited=1, evicted=2)
    leave(system, "bert", reused=True)


def test_limit_without_idle_ones_is_told_at_once(make, backend):
    limit(backend, 1)
    system = make.system(backend)
    with system.session():
        with system.client() as client:
            for _ in range(3):
                assert client.login("anna", "another password").tagged == b"NO [LIMIT] LOGIN failed"
    assert len(backend.logins) == 4
    check(system, limited=3, logins_failed=3)


def test_limit_again_is_the_answer(make, backend):
    limit(backend, 2)
    system = make.system(backend)
    leave(system)
    limit(backend, 0)
    with system.client() as client:
        assert client.login("anna", "another password").tagged == b"NO [LIMIT] LOGIN failed"
    assert len(backend.logins) == 3


def test_limit_gives_a_session_no_further_guesses(make, backend):
    """Whoever says LIMIT has used an attempt all the same."""
    system = make.system(backend, login_attempts=3)
    with Peer(system).hello() as peer:
        for number in range(3):
            leave(system)
            peer.lease(user="anna", password=f"guess {number}").sock.close()
            peer.outcome(LIMIT)
        leave(system)
        assert peer.ask_lease(user="anna").name == "REFUSED"


def test_limit_is_no_word_for_a_cached_connection(system):
    leave(system)
    with Peer(system).hello() as peer:
        assert peer.lease(user="anna").cached
        peer.outcome(LIMIT)
        peer.expect_cut_off()
    check(system, bad_messages=1, limited=0)


# --- caching off ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("goodbye", ["LOGOUT", "drop"])
def test_without_caching_the_session_says_logout_itself(make, backend, goodbye):
    system = make.system(backend, cache_expiration_time=0)
    client = system.session()
    client.ok("SELECT INBOX")
    client.logout() if goodbye == "LOGOUT" else client.close()
    backend.wait_for(lambda: backend.connections and backend.connections[0].closed.is_set(), "still open")
    assert backend.connections[0].verbs() == ["AUTHENTICATE", "SELECT", "LOGOUT"], "no reset, no barrier"
    system.wait_log("cached=caching-off")
    wait_until(lambda: system.stats()["not_cached"]["caching-off"] == 1, "the reason is not counted")
    check(system, given=0, errands=0)
