"""A taken-over session process toward the broker: it harms itself only.

What it does costs it its own link; the broker lives on, a session of somebody else notices nothing, the next login works.
"""
import socket

import pytest

from keepwarm.imap import Client
from keepwarm.messages import ACCEPTED, FAILED, REFUSAL_ATTEMPTS, REFUSED, STALE, Door, session
from keepwarm.process import wait_until
from keepwarm.scene import Scene, pair, quiet_connection, take_greeting, the_scene


# --- messages out of turn -------------------------------------------------------------------------------
def outcome_accepted_twice(peer):
    peer.lease()
    peer.outcome(ACCEPTED)
    peer.outcome(ACCEPTED)


def another_outcome_after_accepted(peer):
    peer.lease()
    peer.outcome(ACCEPTED)
    peer.outcome(FAILED)


def outcome_without_a_lease(peer):
    peer.outcome(ACCEPTED)


def outcome_of_no_kind(peer):
    peer.lease()
    peer.outcome(99)


def a_fresh_lease_called_stale(peer):
    peer.lease()
    peer.outcome(STALE)


def returning_before_accepted(peer):
    peer.lease()
    peer.push("RETURNING")


def returning_without_a_lease(peer):
    peer.push("RETURNING")


def give_without_a_lease(peer):
    ours, _ = pair()
    peer.push("GIVE", fds=[ours.fileno()])


def give_before_returning(peer):
    leased = peer.lease()
    peer.outcome(ACCEPTED)
    peer.push("GIVE", fds=[leased.sock.fileno()])


def give_of_another_socket(peer):
    peer.lease()
    peer.outcome(ACCEPTED)
    peer.push("RETURNING")
    with socket.socket() as other:
        peer.push("GIVE", fds=[other.fileno()])


def give_without_a_descriptor(peer):
    peer.lease()
    peer.outcome(ACCEPTED)
    peer.push("RETURNING")
    peer.push("GIVE")


def a_give_of_no_reason(peer):
    leased = peer.lease()
    peer.outcome(ACCEPTED)
    peer.push("RETURNING")
    peer.push("GIVE", fds=[leased.sock.fileno()], reason=4000)


def lease_while_leased(peer):
    peer.lease()
    peer.push("LEASE", serial=9, proof_kind=1, user="victim", secret="x")


def lease_without_a_serial(peer):
    peer.push("LEASE", proof_kind=1, user="mallory", secret="x")


def lease_of_another_kind_of_proof(peer):
    peer.push("LEASE", serial=9, proof_kind=7, user="mallory", secret="x")


def lease_of_nobody(peer):
    peer.push("LEASE", serial=9, proof_kind=1, user="", secret="x")


def hello_twice(peer):
    peer.push("HELLO", serial=9, service=1)


def a_tally_of_no_reason(peer):
    peer.push("TALLY", reason=4000)


OUT_OF_TURN = [outcome_accepted_twice, another_outcome_after_accepted, outcome_without_a_lease, outcome_of_no_kind,
               a_fresh_lease_called_stale, returning_before_accepted, returning_without_a_lease, give_without_a_lease,
               give_before_returning, give_of_another_socket, give_without_a_descriptor, a_give_of_no_reason, lease_while_leased,
               lease_without_a_serial, lease_of_another_kind_of_proof, lease_of_nobody, hello_twice,
               a_tally_of_no_reason]


@pytest.mark.parametrize("act", OUT_OF_TURN, ids=lambda act: act.__name__)
def test_a_session_is_cut_off_for(make_once, act):
    scene = the_scene(make_once)
    before = scene.system.counter("bad_messages")
    with session(scene.system) as peer:
        act(peer)
        peer.expect_cut_off()
    scene.check(bad=before + 1)


def test_give_is_a_sessions_last_word(scene):
    """It gets no second lease, and nothing that it says afterwards is heard."""
    with session(scene.system) as peer:
        leased = peer.lease()
        take_greeting(leased.sock)
        peer.outcome(ACCEPTED)
        peer.push("RETURNING")
        peer.push("GIVE", fds=[leased.sock.fileno()])
        peer.expect_cut_off()
    wait_until(lambda: scene.system.gauge("cached") == 1, "the connection was not taken back")
    scene.check()


def test_so_is_tally(scene):
    """Nobody waits for its hang-up, and what it had leased is lost."""
    before = scene.system.counter("given")
    with session(scene.system) as peer:
        leased = peer.lease()
        take_greeting(leased.sock)
        peer.outcome(ACCEPTED)
        peer.push("TALLY")
        peer.expect_cut_off()
    assert scene.system.counter("given") == before
    scene.check()


def test_what_was_given_wrongly_goes_to_nobody(scene):
    """The lease of a cut-off session is closed, not cached."""
    for act in (give_of_another_socket, give_before_returning, another_outcome_after_accepted):
        with session(scene.system) as peer:
            act(peer)
            peer.expect_cut_off()
    with scene.system.session("mallory", reused=False):
        assert scene.system.gauge("cached") == 0


# --- bounds of one session ------------------------------------------------------------------------------
def test_a_thousand_guesses_over_one_connection_are_three(scene):
    with session(scene.system) as peer:
        assert guesses(peer, 1000) == 3
    scene.backend.wait_for(lambda: len(scene.backend.open_connections()) == 1, "a lease is left open")
    assert len(scene.backend.accepted) <= 6  # these, the bystander's, and looks whether the host is there
    scene.check(bad=0)


def test_who_goes_on_with_a_lease_of_before_has_no_further_one(scene):
    with Door(scene.system) as door, door.knock(user="victim") as peer:
        peer.push("LEASE", serial=9, proof_kind=1, user="mallory", secret="pw-mallory")
        peer.expect_cut_off()
    scene.check()


def test_a_connection_given_back_under_another_name_reaches_nobody(scene):
    """A process that has been taken over logs its lease in as somebody else."""
    with session(scene.system) as peer:
        leased = peer.lease(user="victim", password="a guess")
        speak_for(leased.sock, "mallory")
        peer.outcome(ACCEPTED)
        peer.push("RETURNING")
        peer.push("GIVE", fds=[leased.sock.fileno()])
        scene.system.wait_cached(1)
    with scene.system.session("victim", reused=False) as victim:
        victim.ok("SELECT INBOX")
        assert b"<victim>" in victim.ok("FETCH 1 BODY[]").text
    scene.check()


def speak_for(sock, user):
    """Logs a fresh backend connection in."""
    with Client(0, sock=sock.dup()) as client:
        assert client.login(user, f"pw-{user}").ok


def test_a_session_has_so_many_leases(make):
    scene = Scene(make, login_attempts=2)
    with session(scene.system) as peer:
        for _ in range(2):
            peer.lease()
            peer.outcome(REFUSED)
        for _ in range(5):
            reply = peer.ask_lease()
            assert (reply.name, reply.reason) == ("REFUSED", REFUSAL_ATTEMPTS), reply
    scene.backend.wait_for(lambda: len(scene.backend.open_connections()) == 1, "a lease is left open")
    scene.check(bad=0)


def test_after_a_success_only_the_same_account(scene):
    quiet_connection(scene.system)
    with session(scene.system) as peer:
        assert peer.lease().cached == 1
        peer.outcome(STALE)
        reply = peer.ask_lease("victim")
        assert (reply.name, reply.reason) == ("REFUSED", REFUSAL_ATTEMPTS), reply
        assert peer.lease().cached == 0
    scene.check(bad=0)


def test_a_cached_connection_needs_the_right_secret(scene):
    quiet_connection(scene.system)
    with session(scene.system) as peer:
        assert peer.lease(password="pw-Mallory").cached == 0
    with scene.system.session("mallory", reused=True):
        pass
    scene.check(bad=0)


def test_an_accepted_login_is_counted_once(scene):
    scene.system.wait_counter("logins", 1)
    with session(scene.system) as peer:
        peer.lease()
        try:
            for _ in range(20):
                peer.outcome(ACCEPTED)
        except (BrokenPipeError, ConnectionResetError):
            pass  # cut off meanwhile
        peer.expect_cut_off()
    scene.check(bad=1)
    scene.system.wait_counter("logins", 3)  # the bystander's, this one and that of the check


def test_what_sessions_say_of_themselves_does_not_fill_the_cache(make):
    """KNOCK with a user is what a session says that has outlived a broker: it costs the others nothing."""
    scene = Scene(make, cache_size=5)
    with Door(scene.system) as door:
        for number in range(40):
            door.knock_in_a_process(user=f"orphan{number}")
        wait_until(lambda: scene.system.gauge("active") == 41, lambda: f"not all are there: {scene.system.stats()}")
        with scene.system.session("anna") as client:
            client.ok("NOOP")
            client.logout()
        scene.system.wait_cached(1)
        scene.check(bad=0)
    wait_until(lambda: scene.system.gauge("active") == 1, lambda: f"still counted: {scene.system.stats()}")


# --- more than one knock -----------------------------------------------------------------------------------
def guesses(peer, count):
    """How many of so many guesses the broker lets this peer make."""
    made = 0
    for number in range(count):
        reply = peer.ask_lease("victim", f"guess {number}")
        if reply.name == "LEASED":
            reply.sock.close()
            peer.outcome(REFUSED)
            made += 1
        else:
            assert reply.reason == REFUSAL_ATTEMPTS, reply
    return made


def test_knocking_again_brings_no_further_guesses(scene):
    """A child that has been taken over puts one socket after the other through the door."""
    made = 0
    with Door(scene.system) as door:
        for _ in range(50):
            with door.knock() as peer:
                made += guesses(peer, 2)
    assert made == int(scene.system.config.get("login_attempts", 3))
    scene.check(bad=0)


def test_knocking_again_after_a_login_brings_no_lease_at_all(scene):
    """Else a login of its own would buy a child the guesses that it had used."""
    with Door(scene.system) as door:
        with door.knock() as peer:
            assert guesses(peer, 2) == 2
            peer.lease()
            peer.outcome(ACCEPTED)
        with door.knock() as peer:
            assert guesses(peer, 3) == 0
        with door.knock(user="mallory") as peer:  # as a session does that goes on
            peer.push("TALLY")
    scene.check(bad=0)


def test_a_process_has_one_socket_at_a_time(scene):
    before = scene.system.counter("bad_messages")
    with Door(scene.system) as door, door.knock() as first:
        for _ in range(3):
            with door.knock() as second:
                second.expect_cut_off()
        first.lease()
        first.sock.close()
        with door.knock() as later:  # at once: the broker may not have noticed yet
            later.push("TALLY")
    scene.check(bad=before + 3)


def test_sockets_that_guess_nothing_leave_nothing_behind(scene):
    with Door(scene.system) as door:
        for _ in range(50):
            door.knock().sock.close()
        with door.knock() as peer:
            assert guesses(peer, 4) == 3
    scene.check(bad=0)
