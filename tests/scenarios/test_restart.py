"""A planned restart of the broker loses nothing: the cache, the sessions and the logins under way go on."""
import os
import signal

import pytest

from keepwarm import failures, process
from keepwarm.failures import sees_own_mail
from keepwarm.process import wait_until
from keepwarm.restart import Load, broker, restart


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
    wait_until(lambda: system.counter("logins_reused") == 20, lambda: f"not reused: {system.stats()}")
    assert system.counter("logins") == 40
    failures.check_connections(system, backend)


@pytest.mark.parametrize("state", failures.STATES, ids=lambda state: state.__name__)
def test_a_session_in_each_state(make, backend, state):
    """And nobody meets the broker anew: the socket of each session is the one it had."""
    system = make.system(backend, spare_processes="3 3")
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
        before, sessions = len(backend.logins), sum(load.sessions)
        for _ in range(3):
            restart(system)
            load.wait_round(2)
        fresh, served = len(backend.logins) - before, sum(load.sessions) - sessions
    assert not load.problems
    print(f"{served} sessions over three restarts, {fresh} fresh logins")
    assert fresh <= served * 0.05
    failures.check_connections(system, backend)
