"""Verified clients (challenge, certificate) where something else happens at the same time: hosts without room, orders of
an administrator, reloads."""
import contextlib
import os
import signal

import pytest

from keepwarm import challenge, trace
from keepwarm.backend import SILENCE, Gate
from keepwarm.challenge import OFFERED, verify
from keepwarm.directory import Passwords, at
from keepwarm.directory_servers import Authdaemond
from keepwarm.messages import REFUSAL_UNAVAILABLE, STALE, session
from keepwarm.process import free_port, parent, wait_until
from keepwarm.restart import reload

CRAM_MD5, SCRAM_SHA_256, VERIFIED = 16, 256, 4  # enum sasl_mechanism, enum msg_proof
ERRANDS_MOST = 16  # cachebrokerd/errand.c
SECRETS_MOST = 256  # cachebrokerd/secrets.h


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
        system = make.system(hosts[0], **{"directory": [table], "server_port": free_port(), "auth_mechanisms": OFFERED, "login_attempts": 100,
                                        **config})
        system.table = table
        return system
    return started


def login(system, user="anna", mechanism="CRAM-MD5"):
    client = system.client()
    reply = challenge.login(client, mechanism, user, f"pw-{user}")
    return client, reply


def waiting(system, user="anna"):
    """A session that waits for its connection."""
    peer = session(system)
    verify(peer, user)
    peer.push("LEASE", serial=9, proof_kind=VERIFIED, user=user)
    return peer


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


@pytest.mark.parametrize("order", ["flush-user", "kick"])
def test_what_an_errand_logs_in_on_is_not_kept_behind_an_order(start, hosts, order):
    """It was made before, as those that sessions have, which are not cached either."""
    system = start()
    gate = Gate()

    def judge(conn):
        gate.reached.set()
        gate.opened.wait(20)
        command = conn.commands[-1]
        return conn.sasl_plain(command, command.args[1])
    hosts[0].answers["AUTHENTICATE"] = judge
    peer = waiting(system)
    gate.wait()
    assert trace.pimpstat(system, f"--{order}", "anna")[0] == 0
    peer.sock.close()
    system.wait_counter("sessions_lost", 1)
    gate.open()
    wait_until(lambda: hosts[0].logins and hosts[0].logins[0].conn.closed.is_set() or system.gauge("cached"), "it is nowhere")
    client, reply = login(system)
    assert reply.ok and not reply.reused and len(hosts[0].logins) == 2
    client.close()


def test_a_host_that_says_nothing_has_not_all_errands(start, hosts, make):
    """More clients than there are errands wait for it: those of other hosts are logged in."""
    other = Passwords(hosts[1], dora=("pw-dora", ""))
    make.started.append(other)
    system = start(hosts[0])
    reload(system, directory=[system.table, other])
    hosts[0].answers["AUTHENTICATE"] = SILENCE
    with contextlib.ExitStack() as stack:
        for _ in range(ERRANDS_MOST + 4):
            stack.enter_context(waiting(system))
        wait_until(lambda: sum("AUTHENTICATE" in conn.verbs() for conn in hosts[0].accepted) >= ERRANDS_MOST // 2,
                   "too few errands ask it")

        def served():
            with contextlib.closing(login(system, "dora")[0]):
                return len(hosts[1].logins) > 0
        wait_until(served, "the other host's user waits for it, too")


def test_a_reload_believes_no_answer_of_before(start, hosts):
    """The directory that judged it may not be one any more, nor the mechanism good enough."""
    system = start()
    with session(system) as peer:
        verify(peer)
        reload(system)
        reply = peer.request("LEASE", proof_kind=VERIFIED, user="anna")
        assert (reply.name, reply.reason) == ("REFUSED", REFUSAL_UNAVAILABLE), reply
        assert not hosts[0].logins
        verify(peer)
        assert peer.request("LEASE", proof_kind=VERIFIED, user="anna").name == "LEASED"
        reload(system)
        peer.push("OUTCOME", outcome=STALE)  # its account is known: another connection of that may follow
        assert peer.request("LEASE", proof_kind=VERIFIED, user="anna").name == "LEASED"


@pytest.mark.parametrize("mechanism, data", [(SCRAM_SHA_256, b"n,,n=anna,r=x"), (CRAM_MD5, b"anna " + b"0" * 32)])
@pytest.mark.parametrize("killed", [False, True], ids=["answered", "killed"])
def test_a_client_that_leaves_while_a_worker_is_at_its_answer(make, hosts, mechanism, data, killed):
    """What the worker says comes to nobody, and neither does its death."""
    gate = Gate()

    def record(_):
        gate.reached.set()
        gate.opened.wait(20)
        return f"PASSWD2=pw-anna\nOPTIONS=mailhost={at(hosts[0])}\n.\n".encode()
    directory = Authdaemond(record)
    make.started.append(directory)
    system = make.system(hosts[0], directory=[directory], auth_mechanisms=OFFERED, lookup_processes=1)
    broker = system.pids("cachebrokerd")
    peer = session(system)
    conversation = 0
    if mechanism == CRAM_MD5:
        conversation = peer.request("AUTH_STEP", mechanism=mechanism).conversation
    peer.push("AUTH_STEP", serial=9, conversation=conversation, mechanism=mechanism, data=data)
    gate.wait()
    peer.sock.close()
    system.wait_counter("sessions_lost", 1)
    if killed:
        master, = (pid for pid in system.pids("lookupd") if parent(pid) not in system.pids("lookupd"))
        worker, = (pid for pid in system.pids("lookupd") if pid != master)
        os.kill(worker, signal.SIGKILL)
    gate.open()
    for name in "CRAM-MD5", "SCRAM-SHA-256":
        client, reply = login(system, mechanism=name)
        assert reply.ok, reply
        client.close()
    assert system.pids("cachebrokerd") == broker
