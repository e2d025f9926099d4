"""Passwords that change: what a reused login still proves, and how it is proven again (auth_recheck)."""
import re
import select
import socket
import time

import pytest

from keepwarm import trace
from keepwarm.backend import CLOSE, SILENCE
from keepwarm.imap import LOGINS
from keepwarm.messages import ACCEPTED, DONE_BADLY, DONE_REFUSED, DONE_WELL, JOB_LOGIN, Door, Peer
from keepwarm.messages import session as hello
from keepwarm.process import wait_until

BYE = b"* BYE Password is not accepted any more\r\n"
AT_ONCE = 1  # auth_recheck, in seconds: after so long a proof is old


def leave(system, user="anna", **login):
    client = system.session(user, **login)
    client.logout()
    system.wait_given()


def put_into_cache(system):
    """The same by a session's process that we play."""
    with hello(system) as peer:
        lease = peer.lease(user="anna")
        lease.sock.settimeout(10)
        lease.sock.recv(1000)
        peer.outcome(ACCEPTED)
        peer.push("RETURNING")
        peer.push("GIVE", fds=[lease.sock.fileno()], reason=0, capabilities="IMAP4rev1")
        peer.expect_cut_off()
    system.wait_given()


def grow_old(system):
    """The proof of every password so far is older than auth_recheck."""
    select.select([], [], [], system.config["auth_recheck"] + 0.1)  # there is no event to wait for


def check(system, **wanted):
    system.wait_counters(**wanted)


# --- another password -----------------------------------------------------------------------------------------
def test_a_new_password_closes_what_lies_under_the_old_one(system, backend):
    first, second = system.session(), system.session()
    first.logout()
    second.logout()
    system.wait_cached(2)
    backend.passwords["anna"] = b"new"
    leave(system, password="new", reused=False)
    backend.wait_for(lambda: all(conn.closed.is_set() for conn in backend.connections[:2]), "still open")
    assert all(conn.verbs()[-1] == "LOGOUT" for conn in backend.connections[:2])
    check(system, superseded=2)
    system.wait_cached(1)
    with system.client() as client:
        assert client.login("anna", "pw-anna").tagged.startswith(b"NO [AUTHENTICATIONFAILED]")
    leave(system, password="new", reused=True)


def test_a_wrong_password_leaves_them_alone(system, backend):
    leave(system)
    for _ in range(3):
        with system.client() as client:
            assert not client.login("anna", "wrong").ok
    assert not backend.connections[0].closed.is_set()
    leave(system, reused=True)
    check(system, superseded=0)


def test_another_users_new_password_leaves_them_alone(system, backend):
    leave(system)
    leave(system, "bert")
    backend.passwords["bert"] = b"new"
    leave(system, "bert", password="new", reused=False)
    leave(system, reused=True)
    check(system, superseded=1)


def test_a_session_under_the_old_password_goes_on_but_its_connection_is_not_kept(system, backend):
    old = system.session()
    backend.passwords["anna"] = b"new"
    leave(system, password="new", reused=False)
    old.ok("NOOP")
    old.logout()
    backend.wait_for(backend.connections[0].closed.is_set, "still open")
    assert backend.connections[0].verbs()[-1] == "LOGOUT"
    check(system, superseded=1, given=1)
    leave(system, password="new", reused=True)


# --- how long a login lives -----------------------------------------------------------------------------------
def test_cache_max_age_counts_from_the_login_over_many_reuses(make, backend):
    system = make.system(backend, cache_max_age=4)
    leave(system)
    reuses = 0

    def is_over():
        counters = system.stats()["counters"]
        return counters["given"] + counters["errands"] > reuses or counters["expired"]
    while len(backend.logins) == 1:
        leave_or_not = system.session()
        leave_or_not.logout()
        reuses += 1
        backend.wait_for(is_over, "not given back")
    assert reuses > 3, "it was reused, and that made it no younger"
    backend.wait_for(backend.connections[0].closed.is_set, "the old one is still open")


def test_the_newest_idle_connection_is_handed_out_and_the_oldest_goes(make, backend):
    system = make.system(backend, cache_max_per_user=2)
    clients = [system.session() for _ in range(3)]
    for client in clients:
        client.logout()
        system.wait_given()
    backend.wait_for(backend.connections[0].closed.is_set, "the oldest is still open")
    with system.session(reused=True) as client:
        client.ok("NAMESPACE")
    assert "NAMESPACE" in backend.connections[2].verbs()


# --- proven again behind the answer ---------------------------------------------------------------------------
def test_a_proof_that_is_young_is_not_repeated(make, backend):
    system = make.system(backend, auth_recheck=300)
    for reused in (False, True, True):
        leave(system, reused=reused)
    assert len(backend.logins) == 1
    check(system, rechecks=0)


@pytest.mark.parametrize("how", ["LOGIN", "PLAIN with initial response"])
@pytest.mark.parametrize("password", ["pw-anna", 'a"\\b{3+} é', "x" * 2000], ids=["plain", "odd", "long"])
def test_an_old_proof_is_repeated_behind_the_answer(make, backend, how, password):
    if how == "LOGIN":
        backend.before = "IMAP4rev1 LITERAL+"
        backend.greeting = b"* OK [CAPABILITY IMAP4rev1 LITERAL+] ready\r\n"
    backend.passwords["anna"] = password.encode()
    system = make.system(backend, auth_recheck=AT_ONCE)
    with system.client() as client:
        assert client.login("anna", password, "literals").ok
        client.logout()
    system.wait_given()
    grow_old(system)
    with system.client() as client:
        begin = time.monotonic()
        assert client.login("anna", password, "literals").reused
        system.wait_given()  # the fresh one, by the errand
        check(system, rechecks=1)
        assert [(login.user, login.password, login.how) for login in backend.logins] == \
            [("anna", password.encode(), how)] * 2
        with system.client() as second:  # and it is good for the next one at once
            assert second.login("anna", password, "literals").reused
            second.ok("NAMESPACE")
            young = time.monotonic() - begin < AT_ONCE  # else it is as old again
        client.ok("NOOP")
    assert "NAMESPACE" in backend.connections[1].verbs()
    check(system, rechecks_refused=0, rechecks_open=0, **({"rechecks": 1} if young else {}))


def test_the_client_does_not_wait_for_it(make, backend):
    system = make.system(backend, auth_recheck=AT_ONCE)
    leave(system)
    grow_old(system)
    gate = backend.gate("AUTHENTICATE")
    with system.session(reused=True) as client:
        gate.wait()
        client.ok("NOOP")
    gate.open()
    check(system, rechecks=1, rechecks_open=0)


REFUSALS = [b"TAG NO [AUTHENTICATIONFAILED] no\r\n", b"TAG NO [AUTHORIZATIONFAILED] no\r\n",
            b"TAG NO [EXPIRED] no\r\n", b"TAG NO no\r\n"]
NO_VERDICT = [b"TAG NO [LIMIT] no\r\n", b"TAG NO [UNAVAILABLE] no\r\n", b"TAG NO [INUSE] no\r\n",
              b"TAG NO [SERVERBUG] no\r\n", b"TAG NO [CONTACTADMIN] no\r\n", b"TAG NO [X-NEW] no\r\n",
              b"TAG BAD no\r\n", b"* BYE no\r\n", CLOSE, SILENCE]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_ends_the_session_and_closes_the_users_connections(make, backend, refusal):
    system = make.system(backend, auth_recheck=AT_ONCE)
    clients = [system.session() for _ in range(3)]
    other = system.session("bert")
    for client in clients:
        client.logout()
        system.wait_given()
    grow_old(system)
    backend.passwords["anna"], backend.refusal = b"new", refusal
    with system.session(reused=True) as client:
        client.expect_exact(BYE)
        client.expect_close()
    backend.wait_for(lambda: len(backend.open_connections()) == 1, "not only bert's is open")
    other.ok("NOOP")
    check(system, rechecks=1, rechecks_refused=1, superseded=2)
    wait_until(lambda: system.stats()["ends"]["password-refused"] == 1, "the end is not counted")
    assert system.gauge("cached") == 0
    system.wait_log("reason=password-refused")
    with system.client() as client:
        assert not client.login("anna", "pw-anna").ok


def test_a_refusal_in_the_middle_of_a_response_ends_it_without_a_stray_line(make, backend):
    system = make.system(backend, auth_recheck=AT_ONCE)
    leave(system)
    grow_old(system)
    gate = backend.gate("AUTHENTICATE")
    with system.session(reused=True) as client:
        gate.wait()
        backend.passwords["anna"] = b"new"
        backend.answers["NOOP"] = lambda conn: conn.send(b"* 1 FETCH (BODY[] {100}\r\nhalf")
        client.send("a NOOP\r\n")
        client.expect_exact("* 1 FETCH (BODY[] {100}\r\nhalf")
        gate.open()
        client.expect_close()


def test_what_proves_it_is_not_kept_of_a_user_who_was_flushed_meanwhile(make, backend):
    system = make.system(backend, auth_recheck=AT_ONCE)
    leave(system)
    grow_old(system)
    gate = backend.gate("AUTHENTICATE")
    leave(system, reused=True)
    gate.wait()
    assert trace.pimpstat(system, "--flush-user", "anna")[0] == 0
    gate.open()
    wait_until(lambda: not system.gauge("active") and not backend.open_connections(), "its connection is kept")


def test_a_session_that_has_left_when_the_refusal_comes_leaves_nothing_in_the_cache(make, backend):
    system = make.system(backend, auth_recheck=AT_ONCE)
    leave(system)
    grow_old(system)
    gate = backend.gate("AUTHENTICATE")
    leave(system, reused=True)
    gate.wait()
    backend.passwords["anna"] = b"new"
    gate.open()
    check(system, rechecks_refused=1, superseded=1)
    system.wait_cached(0)


def test_the_session_of_the_new_password_survives_the_old_ones_refusal(make, backend):
    system = make.system(backend, auth_recheck=AT_ONCE)
    leave(system)
    grow_old(system)
    gate = backend.gate("AUTHENTICATE")
    old = system.session(reused=True)
    gate.wait()
    backend.passwords["anna"] = b"new"
    new = system.client()
    new.send('n LOGIN anna "new"\r\n')
    backend.wait_for(lambda: len(backend.connections) == 3, "no fresh login")
    gate.open()
    assert new.reply("n").ok
    old.expect_exact(BYE)
    new.ok("NOOP")


@pytest.mark.parametrize("answer", NO_VERDICT)
def test_no_verdict_changes_nothing_and_is_tried_again_later(make, backend, answer):
    system = make.system(backend, auth_recheck=AT_ONCE, backend_timeout=4 if answer == SILENCE else 20)
    leave(system)
    grow_old(system)
    backend.answers["AUTHENTICATE"] = answer
    with system.session(reused=True) as client:
        check(system, rechecks=1, rechecks_open=1)
        client.ok("NOOP")
        client.logout()
    system.wait_given()
    backend.answers.clear()
    grow_old(system)
    leave(system, reused=True)
    check(system, rechecks=2, rechecks_open=1, rechecks_refused=0)


def test_without_a_listener_a_fresh_login_proves_it(make, backend):
    """xinetd and the like: there is nobody to start an errand."""
    system = make.system(backend, auth_recheck=4, run_listener="no")
    put_into_cache(system)
    grow_old(system)
    with hello(system) as peer:
        assert not peer.lease(user="anna").cached
        peer.outcome(ACCEPTED)
        wait_until(lambda: system.gauge("active") == 1, "not accepted")
    with hello(system) as peer:
        assert peer.lease(user="anna").cached, "it has been proven by that"
    check(system, rechecks=0)


def test_with_0_and_no_listener_every_login_is_a_fresh_one(make, backend):
    system = make.system(backend, auth_recheck=0, run_listener="no")
    put_into_cache(system)
    with hello(system) as peer:
        assert not peer.lease(user="anna").cached
    assert system.gauge("cached") == 1


# --- proven before every answer -------------------------------------------------------------------------------
def test_with_0_each_login_is_proven_before_its_answer(make, backend):
    system = make.system(backend, auth_recheck=0)
    leave(system, reused=False)
    gate = backend.gate("AUTHENTICATE")
    client = system.client()
    client.send('a LOGIN anna "pw-anna"\r\n')
    gate.wait()
    client.expect_nothing()
    gate.open()
    assert client.reply("a").reused
    client.ok("NAMESPACE")
    assert "NAMESPACE" in backend.connections[0].verbs(), "the one that lay there is used, the other becomes idle"
    assert len(backend.logins) == 2
    check(system, rechecks=1, given=2)
    system.wait_cached(1)


@pytest.mark.parametrize("refusal", REFUSALS)
def test_with_0_a_changed_password_never_gets_in_again(make, backend, refusal):
    system = make.system(backend, auth_recheck=0)
    leave(system)
    backend.passwords["anna"], backend.refusal = b"new", refusal
    said = re.search(rb"\[[A-Z]+\]", refusal)
    with system.client() as client:
        code = said[0] if said else b"[AUTHENTICATIONFAILED]"
        assert client.login("anna", "pw-anna").tagged == b"NO " + code + b" LOGIN failed"
    backend.wait_for(backend.connections[0].closed.is_set, "the old one is still open")
    check(system, rechecks_refused=1, logins=1, logins_refused=1)
    leave(system, password="new", reused=False)


@pytest.mark.parametrize("answer", [b"* BYE no\r\n", CLOSE, SILENCE])
def test_with_0_and_no_verdict_the_session_logs_in_itself(make, backend, answer):
    system = make.system(backend, auth_recheck=0, backend_timeout=4 if answer == SILENCE else 20)
    leave(system)

    def once(conn):
        backend.answers.clear()
        conn.answer(answer)

    backend.answers["AUTHENTICATE"] = once
    with system.session(reused=False) as client:
        client.ok("NOOP")
    assert len(backend.connections) == 3
    check(system, rechecks=1, rechecks_open=1, logins=2)


def test_with_0_a_client_that_leaves_meanwhile_harms_nobody(make, backend):
    system = make.system(backend, auth_recheck=0)
    leave(system)
    gate = backend.gate("AUTHENTICATE")
    client = system.client()
    client.send('a LOGIN anna "pw-anna"\r\n')
    gate.wait()
    client.close()
    gate.open()
    system.wait_cached(2)
    check(system, rechecks=1, rechecks_open=0)
    backend.ungate("AUTHENTICATE")
    leave(system, reused=True)


# --- an errand that lies ---------------------------------------------------------------------------------------
@pytest.fixture
def errand(make, backend):
    """A recheck whose errand we are: system, and the errand's end. The listener is one of ours, and the only one."""
    system = make.system(backend, auth_recheck=AT_ONCE, run_listener="no")
    with Door(system) as door:
        put_into_cache(system)
        grow_old(system)
        user = hello(system)
        assert user.lease(user="anna").cached
        order = door.listener.receive()
        assert order.name == "ERRAND"
        peer = Peer(sock=order.sock)
        peer.sock.settimeout(10)
        yield system, peer, user


def take_job(peer):
    job = peer.receive()
    assert (job.name, job.kind, job.backend_user, job.secret) == ("JOB", JOB_LOGIN, b"anna", b"pw-anna")
    return job


def test_an_errand_gets_the_password_and_its_connection(errand, backend):
    system, peer, user = errand
    job = take_job(peer)
    job.sock.settimeout(10)
    assert job.sock.recv(1000).startswith(b"* OK")
    peer.push("PROVEN", fds=[job.sock.fileno()], capabilities="IMAP4rev1")
    system.wait_cached(1)
    check(system, rechecks=1, rechecks_open=0, given=2)


def another_socket(peer, job):
    ours, theirs = socket.socketpair()
    peer.push("PROVEN", fds=[ours.fileno()], capabilities="IMAP4rev1")
    ours.close()
    theirs.close()


def another_connection_to_the_mail_host(peer, job):
    with socket.create_connection(job.sock.getpeername()) as sock:
        peer.push("PROVEN", fds=[sock.fileno()], capabilities="IMAP4rev1")


LIES = {
    "another socket": another_socket,
    "another connection": another_connection_to_the_mail_host,
    "no connection": lambda peer, job: peer.push("PROVEN", capabilities="IMAP4rev1"),
    "no verdict of ours": lambda peer, job: peer.push("DONE", outcome=9),
    "outcome 0": lambda peer, job: peer.push("DONE", outcome=0),
    "a code that there is not": lambda peer, job: peer.push("DONE", outcome=DONE_BADLY, code=4711),
    "a code of no refusal": lambda peer, job: peer.push("DONE", outcome=DONE_WELL, code=1),
    "a session's message": lambda peer, job: peer.push("OUTCOME", outcome=1),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_errand_that_lies_is_cut_off_and_proves_nothing(errand, backend, lie):
    system, peer, user = errand
    job = take_job(peer)
    LIES[lie](peer, job)
    peer.expect_cut_off()
    check(system, rechecks=1, rechecks_open=1, rechecks_refused=0, bad_messages=1, given=1)
    assert system.gauge("cached") == 0
    user.push("TALLY", reason=0)  # it still is a session


@pytest.mark.parametrize("second", ["DONE", "PROVEN"])
def test_an_errand_has_one_last_word(errand, backend, second):
    system, peer, user = errand
    job = take_job(peer)
    peer.push("DONE", outcome=DONE_BADLY)
    if second == "DONE":
        peer.push("DONE", outcome=DONE_REFUSED)
    else:
        peer.push("PROVEN", fds=[job.sock.fileno()], capabilities="IMAP4rev1")
    peer.expect_cut_off()
    check(system, rechecks_open=1, rechecks_refused=0, bad_messages=1, given=1)


def test_an_errand_may_say_that_it_was_accepted_and_keep_the_connection_back(errand, backend):
    system, peer, user = errand
    take_job(peer).sock.close()
    peer.push("DONE", outcome=DONE_WELL)
    peer.sock.close()
    backend.wait_for(lambda: system.gauge("active") == 1, "its connection is still counted")
    check(system, rechecks=1, rechecks_open=0)


def test_an_errand_that_dies_is_no_verdict(errand, backend):
    system, peer, user = errand
    take_job(peer).sock.close()
    peer.sock.close()
    check(system, rechecks=1, rechecks_open=1, errands_failed=1)
    backend.wait_for(lambda: system.gauge("active") == 1, "its connection is still counted")


def test_ways_to_log_in_share_a_proof(make, backend):
    system = make.system(backend, auth_recheck=AT_ONCE)
    leave(system)
    for how in LOGINS:
        leave(system, how=how, reused=True)
