"""A planned restart of the broker loses nothing: the cache, the sessions and the logins under way go on."""
import contextlib
import os
import re
import signal
import ssl
import time

import pytest

from keepwarm import failures, process
from keepwarm.failures import sees_own_mail
from keepwarm.messages import REFUSAL_ATTEMPTS, REFUSED, Door, session
from keepwarm.openings import AFTER, PAGE, hold, visits
from keepwarm.process import wait_until
from keepwarm.restart import Load, broker, restart, tamper, tampering_binaries


def fill(system, users):
    """An idle connection of each of these users."""
    sessions = [system.session(user) for user in users]
    for client in sessions:
        client.logout()
    system.wait_cached(len(users))


def one_session(system, user):
    with system.session(user) as client:
        sees_own_mail(client, user)
        client.logout()


def test_idle_connections_and_statistics_go_on(system, backend):
    users = [f"user{n}" for n in range(20)]
    fill(system, users)
    wait_until(lambda: system.counter("logins") == 20, lambda: f"not counted: {system.stats()}")
    restart(system)
    system.wait_log("20 idle connections are gone on with, 0 dropped")
    for user in users:
        with system.session(user, reused=True) as client:
            sees_own_mail(client, user)
    assert len(backend.logins) == 20
    system.wait_counters(logins_reused=20, logins=40)
    failures.check_connections(system, backend)


@pytest.mark.parametrize("state", failures.STATES, ids=lambda state: state.__name__)
def test_a_session_in_each_state(make, backend, state):
    """And nobody meets the broker anew: the socket of each session is the one it had."""
    system = make.system(backend, spare_processes="3 3", connect_timeout=20)
    fill(system, ["idle"])
    with system.session("bystander") as bystander:
        link = process.socket_inodes(system.pid_serving(bystander))
        steps = state(system, backend)
        next(steps)
        logins = len(backend.logins)
        restart(system)
        sees_own_mail(bystander, "bystander")
        next(steps)
        for _ in steps:
            raise AssertionError("one step too many")
        assert process.socket_inodes(system.pid_serving(bystander)) == link
        with system.session("idle", reused=True) as idle:
            sees_own_mail(idle, "idle")
        bystander.logout()
    failures.check_connections(system, backend)
    with system.session("bystander", reused=True) as again:
        sees_own_mail(again, "bystander")
    assert len([login for login in backend.logins[logins:] if login.user == "bystander"]) == 0


def test_under_load_no_login_fails(make, backend):
    system = make.system(backend, cache_validate_after=3600)
    users = [f"user{n}" for n in range(16)]
    fill(system, users)
    with Load(system, 16, 16, one_session) as load:
        load.wait_round(2)

        def most_are_reused():
            """A login waits for 50 ms at most for what is being given back, of which a busy machine may take all."""
            before, sessions = len(backend.logins), sum(load.sessions)
            for _ in range(3):
                restart(system)
                load.wait_round(2)
            fresh, served = len(backend.logins) - before, sum(load.sessions) - sessions
            print(f"{served} sessions over three restarts, {fresh} fresh logins")
            return fresh <= served * 0.05
        assert any(most_are_reused() for _ in range(4))
    assert not load.problems
    failures.check_connections(system, backend)


def test_many_more_than_fit_into_one_message(make, backend):
    system = make.system(backend, cache_size=1000)
    users = [f"user{n}" for n in range(300)]
    system.forget_start()
    sessions = [system.session(user) for user in users[:280]]
    fill(system, users[280:])
    system.wait_clients(280)
    restart(system)
    system.wait_log("280 sessions and 20 idle connections are gone on with, 0 dropped")
    for user, client in zip(users, sessions):
        sees_own_mail(client, user)
        client.logout()
    system.wait_cached(300)
    with system.session("user0", reused=True), system.session("user290", reused=True):
        pass
    assert len(backend.logins) == 300


# --- states that the matrix does not have ----------------------------------------------------------------
def test_an_append_goes_on(system, backend):
    with system.session("anna") as client:
        client.send("a1 APPEND INBOX {10}\r\n")
        client.expect(rb"\+ .*\r\n")
        client.send("01234")
        restart(system)
        client.send("56789\r\n")
        assert client.reply("a1").ok
        sees_own_mail(client, "anna")
        client.logout()
    assert b"0123456789" in backend.connections[-1].received
    with system.session("anna", reused=True):
        pass


def test_a_connection_that_is_given_while_there_is_no_broker(system, backend):
    """RETURNING and GIVE wait in the session's socket, GIVE with the connection's descriptor in it."""
    system.forget_start()
    client = system.session("anna")
    sees_own_mail(client, "anna")
    session, old = system.pid_serving(client), broker(system)
    with process.frozen(old):
        client.logout()
        wait_until(lambda: not process.alive(session), "the session's process stays")
        os.kill(old, signal.SIGTERM)
    system.wait_log("1 sessions and 0 idle connections are gone on with")
    system.wait_cached(1)
    with system.session("anna", reused=True) as again:
        sees_own_mail(again, "anna")
    assert len(backend.logins) == 1


def test_a_restart_between_returning_and_give(system, backend):
    client = system.session("anna")
    sees_own_mail(client, "anna")
    gate = backend.gate("UNSELECT")
    client.logout()
    gate.wait()
    restart(system)
    backend.ungate("UNSELECT")
    system.wait_cached(1)
    with system.session("anna", reused=True) as again:
        sees_own_mail(again, "anna")
    assert len(backend.logins) == 1


def test_a_client_that_has_come_while_there_is_no_broker(system, backend):
    old = broker(system)
    with process.frozen(old):
        client = system.client()
        client.send("a1 LOGIN anna pw-anna\r\n")
        client.expect_nothing(0.1)
        os.kill(old, signal.SIGTERM)
    with client:
        failures.login_finishes(client)
        assert broker(system) != old


@pytest.mark.parametrize("opening", [["ENABLE QRESYNC", *PAGE], ["NAMESPACE", "SELECT INBOX (CONDSTORE)"]])
def test_a_fingerprint_is_offered_afterwards(make, opening):
    backend = make.backend(after=AFTER)
    system = make.system(backend)
    (_, first), = visits(system, opening, 1)
    restart(system)
    for _, replies in visits(system, opening, 2):
        assert replies == first
    assert len(backend.logins) == 1
    system.wait_counter("offers_kept", 2)


@pytest.mark.parametrize("wanted", [True, False])
def test_an_offer_is_decided_after_the_restart(make, wanted):
    backend = make.backend(after=AFTER)
    system = make.system(backend)
    visits(system, ["ENABLE QRESYNC", *PAGE], 1)
    with system.session("anna") as client:
        restart(system)
        hold(client, ["ENABLE QRESYNC"] if wanted else ["SELECT INBOX"])
        sees_own_mail(client, "anna")
        client.logout()
    assert len(backend.logins) == (1 if wanted else 2)
    system.wait_counter("offers_kept" if wanted else "offers_swapped", 1)


def test_a_waiting_login_costs_no_further_attempt(make, backend):
    system = make.system(backend, login_attempts=1, connect_timeout=20)
    backend.fill_backlog()
    with system.client() as client:
        client.send("a1 LOGIN anna pw-anna\r\n")
        client.expect_nothing(0.1)
        restart(system)
        client.expect_nothing(0.1)
        restart(system)
        backend.accept_again()
        failures.login_finishes(client)


def refused_password(peer):
    peer.lease()
    peer.outcome(REFUSED)


@pytest.mark.parametrize("by_door", [True, False])
def test_login_attempts_stay_used(make, backend, by_door):
    """Over the socket that goes on, and over another one of the same process."""
    system = make.system(backend, login_attempts=2)
    with Door(system) as door:
        with door.knock() if by_door else session(system) as peer:
            refused_password(peer)
            restart(system)
            refused_password(peer)
            restart(system)
            reply = peer.ask_lease()
            assert (reply.name, reply.reason) == ("REFUSED", REFUSAL_ATTEMPTS), reply
        if by_door:
            with door.knock() as again:
                assert again.receive().name == "WELCOME"  # of other settings than the door's first
                reply = again.ask_lease()
                assert (reply.name, reply.reason) == ("REFUSED", REFUSAL_ATTEMPTS), reply


def test_attempts_of_a_socket_that_is_closed_stay_used(make, backend):
    system = make.system(backend, login_attempts=2)
    with Door(system) as door:
        with door.knock() as peer:
            refused_password(peer)
        restart(system)
        with door.knock() as again:
            assert again.receive().name == "WELCOME"  # of other settings than the door's first
            refused_password(again)
            reply = again.ask_lease()
            assert (reply.name, reply.reason) == ("REFUSED", REFUSAL_ATTEMPTS), reply


def test_a_process_id_that_has_come_to_mean_another_one(make, backend):
    """Both its sockets are there: the attempts are those of the process that came last."""
    system = make.system(backend, login_attempts=2)
    with Door(system) as door, session(system) as before:
        with session(system) as peer:
            refused_password(peer)
            restart(system)
            refused_password(before)
        with door.knock() as again:
            assert again.receive().name == "WELCOME"
            refused_password(again)
            reply = again.ask_lease()
            assert (reply.name, reply.reason) == ("REFUSED", REFUSAL_ATTEMPTS), reply
        assert before.ask_lease().name == "LEASED"


# --- passwords ---------------------------------------------------------------------------------------------
def test_what_is_cached_is_nobody_elses_afterwards(make, backend):
    backend.passwords["anna"] = b"right"
    system = make.system(backend)
    with system.session("anna", "right") as client:
        client.logout()
    system.wait_cached(1)
    restart(system)
    with system.client() as client:
        assert b"[AUTHENTICATIONFAILED]" in client.login("anna", "wrong").tagged
    assert [login.password for login in backend.logins] == [b"right", b"wrong"]
    with system.session("anna", "right", reused=True) as client:
        sees_own_mail(client, "anna")


def test_an_old_password_stays_an_old_one(make, backend):
    """Its connection, which was in use all the while, is not kept."""
    system = make.system(backend)
    backend.passwords["anna"] = b"old"
    with system.session("anna", "old") as client:
        backend.passwords["anna"] = b"new"
        with system.session("anna", "new") as newer:
            newer.logout()
        system.wait_cached(1)
        restart(system)
        client.logout()
    backend.wait_for(lambda: len(backend.open_connections()) == 1, "the connection of the old password stays")
    backend.passwords["anna"] = b"old"  # whoever asked would be told that it is right
    with system.session("anna", "new", reused=True):
        with system.session("anna", "old", reused=False):
            pass


def test_the_age_of_a_password_counts_on(make, backend):
    system = make.system(backend, auth_recheck=1)
    with system.session("anna") as client:
        client.logout()
    accepted = time.monotonic()
    system.wait_cached(1)
    wait_until(lambda: time.monotonic() - accepted > 1.1, "time stands still")
    restart(system)
    with system.session("anna", reused=True) as client:
        sees_own_mail(client, "anna")
        backend.wait_for(lambda: len(backend.logins) == 2, "the password was not proven again")


# --- what is left ----------------------------------------------------------------------------------------
def test_a_connection_that_died_meanwhile_is_dropped(system, backend):
    fill(system, ["anna", "bert"])
    system.wait_clients(0)
    old, conns = broker(system), {login.user: login.conn for login in backend.logins}
    with process.frozen(system.supervisor.pid):
        os.kill(old, signal.SIGTERM)
        wait_until(lambda: not process.socket_inodes(old), "the broker stays")
        conns["anna"].drop()
    system.wait_log("0 sessions and 1 idle connections are gone on with, 1 dropped")
    with system.session("anna", reused=False) as anna, system.session("bert", reused=True) as bert:
        sees_own_mail(anna, "anna")
        sees_own_mail(bert, "bert")


def pack_fds(pid):
    """Names of descriptors that have to do with a pack."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # it is closed meanwhile
            target = os.readlink(f"/proc/{pid}/fd/{name}")
            if "keepwarm-pack" in target:
                found.append(target)
    return found


def test_nothing_is_left_of_the_pack(make, backend):
    """And it has no password in it, while it is there; nobody can change it."""
    backend.passwords.update(anna=b"geheim-471", bert=b"geheim-471")
    system = make.system(backend, binaries=tampering_binaries())
    tamper(system, "look anna geheim-471")
    with system.session("anna", "geheim-471") as client:
        with system.session("bert", "geheim-471") as other:
            other.logout()
        system.wait_cached(1)
        restart(system)
        system.wait_log("tamper: seals 15 found ['anna']")
        wait_until(lambda: not pack_fds(broker(system)) + pack_fds(system.supervisor.pid), "a memfd is left")
        limits = process.read_proc(broker(system), "limits")
        assert limits.split(b"Max core file size", 1)[1].split()[:2] == [b"0", b"0"]
        sees_own_mail(client, "anna")
    before = process.fd_count(system.supervisor.pid)
    restart(system)
    wait_until(lambda: process.fd_count(system.supervisor.pid) <= before, "a descriptor is left with the supervisor")


@pytest.mark.parametrize("how", ["other_version", "other_messages"])
def test_a_pack_of_another_version_is_refused(make, backend, how):
    """With one line; the sessions live, the cache starts empty."""
    system = make.system(backend, binaries=tampering_binaries())
    tamper(system, how)
    fill(system, ["bert"])
    with system.session("anna") as client:
        old = broker(system)
        os.kill(old, signal.SIGTERM)
        system.wait_log("the cache starts empty")
        sees_own_mail(client, "anna")
        backend.wait_for(lambda: len(backend.open_connections()) == 1, "an idle connection is still open")
        with system.session("bert", reused=False) as other:
            sees_own_mail(other, "bert")
    said = [line for line in system.log_text().splitlines() if "of version" in line or "gone on with" in line]
    assert len(said) == 1


@pytest.mark.parametrize("how", ["cut", "empty", "garbage", "flip", "unsealed", "other_socket", "no_sockets",
                                 "less_sockets"])
def test_a_broken_pack_harms_nobody(make, backend, how):
    system = make.system(backend, binaries=tampering_binaries())
    fill(system, [f"user{n}" for n in range(5)])
    tamper(system, how)
    with system.session("anna") as client, system.client() as later:
        restart(system)
        sees_own_mail(client, "anna")
        assert later.login("later", "pw-later").ok
        sees_own_mail(later, "later")
        for user in [f"user{n}" for n in range(5)]:
            with system.session(user) as other:
                sees_own_mail(other, user)
    if how != "less_sockets":
        assert "has left is broken" in system.log_text()
    (system.folder / "tamper").unlink()
    wait_until(lambda: system.gauge("active") == 0, "a session is left")
    restart(system)
    failures.check_connections(system, backend)


# --- one after the other --------------------------------------------------------------------------------
def test_a_list_that_does_not_fit_loses_its_end_only(make):
    """Memory is short: sessions stand in front of idle connections, and those in front of others."""
    backend = make.backend(after="IMAP4rev1 UNSELECT " + " ".join(f"X-WORD-{n}" for n in range(250)))
    system = make.system(backend, binaries=tampering_binaries())
    tamper(system, "short")  # the next one's files are, and all that memory
    restart(system)
    users = [f"user{n}" for n in range(120)]
    for number, user in enumerate(users, 1):  # one at a time: the state file is to stay small
        with system.session(user) as client:
            client.logout()
        if number % 10 == 0:  # those lie behind the former ten, in any order
            system.wait_cached(number)
    with system.session("anna") as client:
        restart(system)
        counts = re.compile(r"the list did not fit.*1 sessions and (\d+) idle connections are gone on with", re.S)
        wait_until(lambda: counts.search(system.log_text()), system.log_text)
        kept = int(counts.search(system.log_text())[1])
        assert 20 < kept < 100
        backend.wait_for(lambda: len(backend.open_connections()) == kept + 1, "what was left out is still open")
        sees_own_mail(client, "anna")
        reused, sure = set(), kept - kept % 10
        for user in users[:sure + 10]:
            with system.session(user) as other:
                sees_own_mail(other, user)
                if other.login_reply.reused:
                    reused.add(user)
        assert reused >= set(users[:sure]) and len(reused) == kept
    failures.check_connections(system, backend)


def test_restarts_in_a_row_and_within_each_other(system, backend):
    fill(system, ["idle"])
    with system.session("anna") as client:
        for _ in range(3):
            restart(system)
        for _ in range(3):  # as soon as there is one
            for _ in range(2):
                with contextlib.suppress(ProcessLookupError):  # it is quick
                    os.kill(broker(system), signal.SIGTERM)
        sees_own_mail(client, "anna")
        with system.session("idle", reused=True) as idle:
            sees_own_mail(idle, "idle")
        client.logout()
    with system.session("anna", reused=True):
        pass
    assert len(backend.logins) == 2


def test_a_stop_behind_a_restart_is_a_stop(make, backend):
    system = make.system(backend)
    fill(system, ["idle"])
    with system.session("anna") as client:
        os.kill(broker(system), signal.SIGTERM)
        system.stop_and_keep()
        client.read_to_end()
    backend.wait_for(lambda: not backend.open_connections(), "a connection is left")
    system.start()
    with system.session("idle", reused=False):
        pass


def test_a_killed_broker_leaves_nothing(system, backend):
    fill(system, ["idle"])
    with system.session("anna") as client:
        old = broker(system)
        os.kill(old, signal.SIGKILL)
        failures.wait_restarted(system, "broker", old)
        sees_own_mail(client, "anna")
        with system.session("idle", reused=False):
            pass
    assert "gone on with" not in system.log_text()


# --- the configuration may be another one by then ---------------------------------------------------------
def test_what_the_new_configuration_does_not_want_is_dropped(make, backend):
    system = make.system(backend, binaries=tampering_binaries())
    fill(system, [f"user{n}" for n in range(6)])
    tamper(system, "own_config")
    system.write_config(cache_size=4)
    restart(system)
    system.wait_cached(4)
    with system.session("user5", reused=True):
        system.write_config(cache_expiration_time=0)
        restart(system)
    wait_until(lambda: system.gauge("cached") == 0, lambda: f"still cached: {system.stats()}")
    backend.wait_for(lambda: not backend.open_connections(), "a connection is left")


# --- TLS, traces, POP3 -------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["implicit", "starttls"])
def test_tls_with_mail_hosts_survives(make, authority, mode):
    server, context = authority.issue("localhost"), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.path, server.key_path)
    backend = make.backend(**{"tls" if mode == "implicit" else "starttls": context})
    system = make.system(backend, server_tls=mode, tls_verify_server="no")
    fill(system, ["bert"])
    with system.session("anna") as client:
        restart(system)
        sees_own_mail(client, "anna")
        with system.session("bert", reused=True) as other:
            sees_own_mail(other, "bert")
        session, old = system.pid_serving(client), broker(system)
        with process.frozen(old):
            client.logout()  # what is given is a socket of the kind that it is given through
            wait_until(lambda: not process.alive(session), "the session's process stays")
            os.kill(old, signal.SIGTERM)
    with system.session("anna", reused=True) as client:
        sees_own_mail(client, "anna")


def test_a_trace_goes_on(traced, backend):
    with traced.session("anna") as client:
        restart(traced)
        client.ok("NAMESPACE")
        wait_until(lambda: b"NAMESPACE" in (traced.folder / "protocol.log").read_bytes(), "the trace has ended")


def test_statistics_show_the_same_sessions(system, backend):
    fill(system, ["idle"])
    with system.session("anna"):
        wait_until(lambda: system.gauge("active") == 1, "not active")
        before = sorted((row["id"], row["user"], row["state"]) for row in system.stats()["sessions"])
        restart(system)
        wait_until(lambda: sorted((row["id"], row["user"], row["state"]) for row in system.stats()["sessions"]) == before,
                   lambda: f"{system.stats()['sessions']}, and before {before}")
        assert system.counter("sessions_lost") == 0
