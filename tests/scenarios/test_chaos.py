"""Clients and a mail host that abort at random byte positions: no stray byte, no wrong mailbox, no hang, no leak.

KEEPWARM_CHAOS_ABORTS: so many aborts (`make chaos`: 100,000); without it the time is fixed, KEEPWARM_CHAOS_SECONDS.
KEEPWARM_CHAOS_SEED repeats the choices of another run, though not its timing.
"""
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import time

import pytest

from keepwarm import chaos, process
from keepwarm.certs import Authority
from keepwarm.process import fd_count, wait_until
from keepwarm.system import ROOT

CLIENTS = 6
ABORTS = int(os.environ.get("KEEPWARM_CHAOS_ABORTS", "0"))
SECONDS = int(os.environ.get("KEEPWARM_CHAOS_SECONDS", "40"))
SEED = int(os.environ.get("KEEPWARM_CHAOS_SEED", "0")) or random.randrange(1, 10 ** 6)
DROP_RATE = 0.01
LONGEST = 7200


def client(port, tls, number):
    seconds = SECONDS // 2 if tls else SECONDS
    argv = [sys.executable, "-m", "keepwarm.chaos", port, SEED * 10 + number, -(-ABORTS // CLIENTS),
            0 if ABORTS else seconds, int(tls)]
    return process.start(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env=dict(os.environ, PYTHONPATH=str(ROOT / "tests")))


def settled(system):
    """What must be the same before and after. tlsrelayd keeps some workers with nothing to do for half a minute."""
    programs = {name: count for name, count in system.programs().items() if name != "tlsrelayd"}
    return programs, system.fds(), fd_count(system.listener_pid()), system.gauge("cached"), system.gauge("tls_connections")


def run_clients(port, tls):
    """What all clients have counted, together; every client must be content."""
    children = [client(port, tls, number) for number in range(CLIENTS)]
    total, complaints = {}, []
    for child in children:
        output, errors = child.communicate(timeout=LONGEST)
        if child.returncode != 0:
            complaints.append(errors.decode().strip())
            continue
        for name, count in json.loads(output).items():
            total[name] = total.get(name, 0) + count
    assert not complaints, "\n".join(complaints)
    return total


@pytest.mark.parametrize("broken", [b"* STATUS INB", b"* 1 FETCH (BODY[] {500}\r\nhalf of the mess"], ids=["line", "literal"])
def test_no_bye_within_a_response_that_broke_off(make, broken):
    backend = make.backend()
    system = make.system(backend)

    def break_off(conn):
        conn.send(broken)
        conn.drop()
    backend.answers["STATUS"] = break_off
    client = system.session("anna")
    client.send("a1 STATUS INBOX (MESSAGES)\r\na2 LOGOUT\r\n")
    assert client.read_to_end() == broken


@pytest.fixture(name="server_tls")
def fixture_server_tls(tmp_path):
    """A certificate for both sides, and what the mail host does with it."""
    authority = Authority(tmp_path)
    ours = authority.issue("localhost", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ours.path, ours.key_path)
    return authority, ours, context


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_aborts_at_random_bytes_of_both_sides(make, capsys, server_tls, tls):
    if ABORTS:
        signal.alarm(LONGEST)
    authority, ours, context = server_tls
    backend = chaos.ChaosBackend(SEED, 0, context if tls else None)
    make.started.append(backend)
    imaps = process.free_port()
    inside = {"server_tls": "implicit", "tls_ca_file": authority.path, "imaps_listen_port": imaps,
              "tls_server_cert_file": ours.path, "tls_server_key_file": ours.key_path} if tls else {}
    processes = 2 + (6 if tls else 3)  # the spare ones of each port
    # some are evicted, and logins wait for what clients have just left
    system = make.system(backend, cache_size=12, spare_processes="3 3", **inside)
    system.session("user1").close()
    system.wait_cached(1)
    backend.open_connections()[0].drop()
    wait_until(lambda: settled(system)[3] == 0 and settled(system)[4] == 0 and
               system.programs()["proxyd"] == processes, lambda: f"{settled(system)}")
    before = settled(system)
    backend.drop_rate = DROP_RATE
    begin = time.monotonic()
    with capsys.disabled():
        print(f"\nchaos: seed {SEED}", flush=True)
    total = run_clients(imaps if tls else system.port, tls)
    with capsys.disabled():
        print(f"chaos: {total['aborts']} aborts of clients and {backend.drops} of the mail host in "
              f"{time.monotonic() - begin:.0f} s, {100 * total['reused'] / total['logins']:.0f} % of "
              f"{total['logins']} logins reused, {total['ended']} sessions ended by the other side")
    assert not backend.problems, "\n".join(backend.problems[:20])
    wait_until(lambda: system.programs()["proxyd"] == processes, lambda: f"sessions are left: {system.programs()}")
    backend.drop_rate = 0
    for conn in backend.open_connections():
        conn.drop()
    wait_until(lambda: settled(system) == before, lambda: f"{settled(system)}, and before it was {before}")
    assert system.counter("sessions_killed") == 0
    assert total["reused"] > total["logins"] / 10, "hardly a connection was reused, so this showed little"
    system.session("user1").logout()
