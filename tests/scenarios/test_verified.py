"""Verified clients (challenge, certificate) where something else happens at the same time: hosts without room, orders of
an administrator, reloads."""
import contextlib

import pytest

from keepwarm import challenge
from keepwarm.challenge import OFFERED
from keepwarm.directory import Passwords, at
from keepwarm.process import free_port, wait_until

ERRANDS_MOST = 16  # cachebrokerd/errand.c


@pytest.fixture
def hosts(make):
    return [make.backend() for _ in range(2)]


@pytest.fixture
def start(make, hosts):
    """A system with a table of clear passwords; each account is on the hosts that are given."""
    def started(*on, **config):
        accounts = {user: (f"pw-{user}", "") for user in ("anna", "bert", "carl")}
        table = Passwords(None, **accounts)
        table.host = " ".join(map(at, on or hosts[:1]))
        table.write(**accounts)
        make.started.append(table)
        system = make.system(hosts[0], **{"directory": [table], "server_port": free_port(), "auth_mechanisms": OFFERED, **config})
        system.table = table
        return system
    return started


def login(system, user="anna", mechanism="CRAM-MD5"):
    client = system.client()
    reply = challenge.login(client, mechanism, user, f"pw-{user}")
    return client, reply


def test_a_host_without_room_before_the_next_one_uses_up_no_errands(start, hosts):
    """More logins than there are errands, each of them after a look at a host that is full."""
    system = start(*hosts, cache_expiration_time=0, host_max_connections=4, backend_timeout=5, log_format="keepwarm")
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(system.session("bert"))
        for count in range(1, ERRANDS_MOST + 2):
            client, reply = login(system)
            assert reply.ok, reply
            client.logout()
            wait_until(lambda: system.log_text().count("user=anna host=") == count, "the session is still there")
    assert [len(host.logins) for host in hosts] == [4, ERRANDS_MOST + 1]
