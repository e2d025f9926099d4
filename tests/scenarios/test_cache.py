"""Connections that lie in the cache: eviction, expiry, size, validation."""
import time

import pytest

from keepwarm import process
from keepwarm.backend import CLOSE, SILENCE
from keepwarm.process import frozen, read_proc, wait_until


def login_and_out(system, user="anna", reused=None, cached=None):
    client = system.session(user, reused=reused)
    client.ok("LIST \"\" *")
    client.logout()
    system.wait_given()
    if cached is not None:
        system.wait_cached(cached)


@pytest.mark.parametrize("stray", [b"* 1 EXISTS\r\n", b"* BYE autologout\r\n", b"x", None],
                         ids=["stray line", "BYE", "one byte", "close"])
def test_any_byte_or_close_evicts(system, backend, stray):
    login_and_out(system, cached=1)
    if stray is None:
        backend.connections[0].drop()
    else:
        backend.connections[0].push(stray)
    system.wait_counter("died", 1)
    system.wait_cached(0)
    backend.wait_for(lambda: backend.connections[0].closed.is_set(), "still open")
    login_and_out(system, reused=False, cached=1)
    login_and_out(system, reused=True)


def test_a_connection_expires(make, backend):
    system = make.system(backend, cache_expiration_time=1)
    login_and_out(system)
    backend.wait_for(lambda: backend.connections[0].closed.is_set(), "still open after its time")
    system.wait_counter("expired", 1)
    system.wait_cached(0)
    login_and_out(system, reused=False)


def test_an_expired_connection_leaves_without_cleartext_left_overs(make, backend):
    """It is closed, with LOGOUT or without, and nothing else is sent on it."""
    system = make.system(backend, cache_expiration_time=1)
    login_and_out(system)
    backend.wait_for(lambda: backend.connections[0].closed.is_set(), "still open after its time")
    assert backend.connections[0].verbs()[-1] in ("NOOP", "LOGOUT")


def test_a_login_may_not_be_used_longer_than_cache_max_age(make, backend):
    system = make.system(backend, cache_max_age=1)
    login_and_out(system)
    system.client().expect_nothing(2.1)  # it has to grow old
    login_and_out(system, reused=False)
    backend.wait_for(lambda: backend.connections[0].closed.is_set(), "still open after its time")


def test_a_full_cache_evicts_the_oldest(make, backend):
    system = make.system(backend, cache_size=2)
    login_and_out(system, "one", cached=1)
    login_and_out(system, "two", cached=2)
    login_and_out(system, "three", cached=2)
    backend.wait_for(lambda: backend.connections[0].closed.is_set(), "the oldest is still open")
    system.wait_counter("evicted", 1)
    login_and_out(system, "three", reused=True, cached=2)
    login_and_out(system, "two", reused=True, cached=2)
    login_and_out(system, "one", reused=False, cached=2)


def test_cache_size_bounds_active_and_cached_together(make, backend):
    system = make.system(backend, cache_size=2)
    first, second = system.session("one"), system.session("two")
    with system.client() as client:
        reply = client.login("three", "pw-three")
        assert reply.tagged.startswith((b"NO [UNAVAILABLE] ", b"NO [LIMIT] ")), reply
        first.logout()
        system.wait_cached(1)
        assert client.login("three", "pw-three").ok
    second.ok("NOOP")


def is_asleep(pid):
    return read_proc(pid, "stat").rpartition(b") ")[2][:1] == b"S"


@pytest.mark.parametrize("bound", ["cache_size", "host_max_connections"])
def test_a_login_waits_for_the_room_that_a_connection_on_its_way_back_makes(make, backend, bound):
    system = make.system(backend, **{bound: 1})
    login_and_out(system, "two")  # the account is known: no look-up comes between
    first, second = system.session("one"), system.client()
    second.ok("NOOP")
    pid = system.pid_serving(second)
    system.wait_counter("clients", 4)  # the broker knows both; one was for the start
    gate = backend.gate("NOOP")
    first.logout()
    gate.wait()  # RETURNING was said before that
    with frozen(*system.pids("cachebrokerd")):
        second.send("a1 LOGIN two pw-two\r\n")
        # it has read that, and waits for the broker, which finds its LEASE in front of the other's GIVE
        wait_until(lambda: process.tcp_unread(system.port, second.port) == 0 and is_asleep(pid), "LOGIN is not read")
        gate.open()
        wait_until(lambda: "user=one" in system.log_text(), "not given back")
    reply = second.line()
    assert reply.startswith(b"a1 OK "), reply
    second.ok("LIST \"\" *")
    system.wait_counter("evicted", 2)
    assert system.counter("logins_failed") == 0


def test_it_does_not_wait_for_long(make, backend):
    system = make.system(backend, cache_size=1)
    gate = backend.gate("NOOP")
    system.session("one").logout()
    gate.wait()
    with system.client() as client:
        begin = time.monotonic()
        assert client.login("two", "pw-two").tagged.startswith(b"NO [LIMIT] ")
        assert time.monotonic() - begin > 0.04
    gate.open()
    system.wait_cached(1)
    login_and_out(system, "two", reused=False, cached=1)


def test_nobody_waits_for_room_when_nothing_is_on_its_way_back(make, backend):
    system = make.system(backend, cache_size=1)
    with system.session("one"), system.client() as client:
        assert client.login("two", "pw-two").tagged.startswith(b"NO [LIMIT] ")


def test_the_cache_of_one_user_is_bounded(make, backend):
    system = make.system(backend, cache_max_per_user=2)
    clients = [system.session() for _ in range(4)]
    for client in clients:
        client.logout()
    backend.wait_for(lambda: len(backend.open_connections()) == 2, "not two connections are left")
    system.wait_cached(2)


def noop_tags(conn):
    return [command.tag for command in conn.commands if command.verb == "NOOP"]


@pytest.mark.parametrize("after", [0, 1])
def test_an_old_connection_is_proven_with_a_random_tag(make, backend, after):
    system = make.system(backend, cache_validate_after=after)
    login_and_out(system, cached=1)
    seen = len(noop_tags(backend.connections[0]))
    if after:
        system.client().expect_nothing(2.1)  # it has to lie for longer than that
    for _ in range(3 if not after else 1):
        login_and_out(system, reused=True, cached=1)
    tags = noop_tags(backend.connections[0])
    assert len(tags) - seen >= (6 if not after else 2), "one NOOP to prove it, one as barrier"
    assert len(tags) == len(set(tags))


def test_a_young_connection_is_not_proven(make, backend):
    system = make.system(backend, cache_validate_after=60)
    login_and_out(system, cached=1)
    seen = len(noop_tags(backend.connections[0]))
    login_and_out(system, reused=True)
    assert len(noop_tags(backend.connections[0])) == seen + 1, "only the barrier"


@pytest.mark.parametrize("answer", [CLOSE, SILENCE, b"* BYE gone\r\n", b"TAG NO no\r\n", b"TAG BAD what\r\n"])
def test_a_dead_connection_is_replaced_without_the_client_noticing(make, backend, answer):
    system = make.system(backend, cache_validate_after=0, backend_timeout=4)
    login_and_out(system, cached=1)
    backend.answers["NOOP"] = answer
    with system.session(reused=False) as client:
        backend.answers.clear()
        client.ok("NOOP")
    assert len(backend.connections) == 2
    system.wait_counter("stale", 1)


def test_several_dead_connections_are_replaced(make, backend):
    system = make.system(backend, cache_validate_after=0)
    clients = [system.session() for _ in range(3)]
    for client in clients:
        client.logout()
    system.wait_cached(3)
    backend.answers["NOOP"] = CLOSE
    with system.session(reused=False) as client:
        backend.answers.clear()
        client.ok("NOOP")


def test_a_mail_host_that_restarts_loses_all_its_cached_connections(system, backend):
    for number, user in enumerate(["one", "two", "three"], 1):
        login_and_out(system, user, cached=number)
    for conn in backend.connections:
        conn.push(b"* BYE restarting\r\n")
        conn.drop()
    system.wait_cached(0)
    login_and_out(system, "one", reused=False)


def test_the_statistics_add_up(system, backend):
    login_and_out(system, cached=1)
    login_and_out(system, reused=True, cached=1)
    with system.client() as client:
        client.login("anna", "wrong")
    with system.session("bert"):
        system.wait_counter("logins", 3)
        backend.wait_for(lambda: system.gauge("active") == 1, "not one active connection")
    system.wait_cached(2)
    backend.wait_for(lambda: system.gauge("active") == 0, "still counted as active")
    system.wait_counters(logins_fresh=2, logins_reused=1, logins_refused=1, given=3)


def test_a_session_that_lost_its_mail_host_is_not_counted_for_ever(system, backend):
    with system.session() as client:
        backend.connections[0].drop()
        client.read_to_end()
    system.wait_counter("logins", 1)
    backend.wait_for(lambda: system.gauge("active") == 0, "still counted as active")
    assert system.gauge("cached") == 0
