"""Passwords and limits of a real mail server that change under way: Dovecot with a passwd-file."""
import select

import pytest

from keepwarm import dovecot
from keepwarm.process import wait_until

pytestmark = pytest.mark.skipif(dovecot.missing() is not None, reason=str(dovecot.missing()))
BYE = b"* BYE Password is not accepted any more\r\n"
OLD_AFTER = 1  # auth_recheck


@pytest.fixture
def server():
    server = dovecot.Dovecot(4, extra="mail_max_userip_connections = 3\n").start()
    yield server
    server.stop()


def leave(system, user, password, reused):
    with system.session(user, password, reused=reused) as client:
        client.ok("SELECT INBOX")
        client.logout()
    system.wait_given()


def grow_old():
    select.select([], [], [], OLD_AFTER + 0.1)  # there is no event to wait for


def test_a_new_password_and_then_the_old_one(make, server):
    system = make.system(server)
    leave(system, "user1", "secret1", False)
    server.set_password("user1", "a new one")
    leave(system, "user1", "secret1", True)  # proven a moment ago
    leave(system, "user1", "a new one", False)
    wait_until(lambda: server.ends("user1").count("Logged out") == 1, server.log_text)
    with system.client() as client:
        assert client.login("user1", "secret1").tagged == b"NO [AUTHENTICATIONFAILED] LOGIN failed"
    leave(system, "user1", "a new one", True)


def test_a_password_is_proven_again_and_its_connection_used(make, server):
    system = make.system(server, auth_recheck=OLD_AFTER)
    leave(system, "user2", "secret2", False)
    grow_old()
    with system.session("user2", "secret2", reused=True) as client:
        system.wait_given()
        server.wait_logins(2, "user2")
        with system.session("user2", "secret2", reused=True) as second:
            assert second.ok("SELECT INBOX").text.count(b"EXISTS") == 1
        client.ok("NOOP")
    assert system.counter("rechecks_refused") == system.counter("rechecks_open") == 0


@pytest.mark.parametrize("password", ["a new one", None], ids=["changed", "removed"])
def test_a_refused_password_ends_its_session_within_a_moment(make, server, password):
    system = make.system(server, auth_recheck=OLD_AFTER)
    leave(system, "user3", "secret3", False)
    server.set_password("user3", password)
    grow_old()
    with system.session("user3", "secret3", reused=True) as client:
        client.expect_exact(BYE)
        client.expect_close()
    system.wait_cached(0)
    with system.client() as client:
        assert not client.login("user3", "secret3").ok


@pytest.mark.parametrize("password", ["a new one", None], ids=["changed", "removed"])
def test_with_auth_recheck_0_it_never_gets_in(make, server, password):
    system = make.system(server, auth_recheck=0)
    leave(system, "user4", "secret4", False)
    leave(system, "user4", "secret4", True)
    server.set_password("user4", password)
    with system.client() as client:
        assert client.login("user4", "secret4").tagged == b"NO [AUTHENTICATIONFAILED] LOGIN failed"
    wait_until(lambda: server.sessions_ended("user4") == server.logins("user4"), server.log_text)


def test_the_mail_hosts_limit_makes_room_by_closing_idle_ones(make, server):
    system = make.system(server)
    clients = [system.session("user1", "secret1") for _ in range(3)]
    for client in clients:
        client.logout()
        system.wait_given()
    server.set_password("user1", "a new one")
    with system.session("user1", "a new one", reused=False) as client:
        client.ok("SELECT INBOX")
    system.wait_counter("limited", 1)
    system.wait_counter("evicted", 3)


def test_the_mail_hosts_limit_is_told_when_all_are_in_use(make, server):
    system = make.system(server)
    clients = [system.session("user1", "secret1") for _ in range(3)]
    with system.client() as client:
        assert client.login("user1", "secret1").tagged == b"NO [LIMIT] LOGIN failed"
    for client in clients:
        client.ok("NOOP")
