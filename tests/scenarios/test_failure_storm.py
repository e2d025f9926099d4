"""Programs killed at random times while 16 clients log in, read and leave as fast as they can.

No client sees an error, whatever is killed: logins wait for the next broker in the door, connects for the next listener
in the backlog, questions for the next lookupd. Each checks that it sees its own user's mail only (keepwarm/storm.py).
KEEPWARM_SEED repeats a run's times.
"""
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from keepwarm.dovecot import Dovecot
from keepwarm.failures import SIGNALS, VICTIMS, check_connections, find_victim, settled, settled_with, wait_restarted
from keepwarm.process import wait_until

CLIENTS = 16
USERS = 6  # so few that connections go from client to client
SECONDS = 8
TESTS = Path(__file__).resolve().parents[1]


class Storm:
    def __init__(self, port):
        self.clients = [subprocess.Popen(
            [sys.executable, "-m", "keepwarm.storm", str(port), str(number), "0", str(USERS)], cwd=TESTS,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for number in range(CLIENTS)]

    def end(self):
        """Lets all clients finish what they do; returns [(exit status, result or what went wrong)]."""
        for client in self.clients:
            client.stdin.close()
        results = []
        for client in self.clients:
            client.stdin = None
            out, errors = client.communicate(timeout=60)
            results.append((client.returncode, json.loads(out) if out else errors.decode()))
        return results

    def kill(self):
        for client in self.clients:
            client.kill()
            client.wait()


def kill_again_and_again(system, name, chance):
    """At times that nobody has chosen. Returns how often."""
    count, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        threading.Event().wait(chance.uniform(0.05, 1.5))
        victim = find_victim(system, name)
        os.kill(victim, SIGNALS[chance.choice(sorted(SIGNALS))])
        wait_restarted(system, name, victim)
        count += 1
    return count


@pytest.mark.parametrize("name", VICTIMS)
def test_sixteen_clients_do_not_notice_that_programs_are_killed(make, name):
    seed = int(os.environ.get("KEEPWARM_SEED", random.randrange(1 << 30)))
    backend = make.backend()
    users = [f"user{number}" for number in range(1, USERS + 1)]
    backend.passwords = {user: Dovecot.password(user).encode() for user in users}
    system = make.system(backend, spare_processes="4 4")
    system.session("user1", Dovecot.password("user1")).logout()
    system.wait_cached(1)
    before = settled_with(system, backend, 6)  # the listener, the nursery and four spares
    storm = Storm(system.port)
    try:
        kills = kill_again_and_again(system, name, random.Random(seed))
        results = storm.end()
    finally:
        storm.kill()
    errors = [text for status, text in results if status != 0]
    assert not errors, f"KEEPWARM_SEED={seed}: {len(errors)} clients saw an error, among them\n" + "\n".join(errors[:3])
    logins, slowest = sum(r["logins"] for _, r in results), max(r["slowest"] for _, r in results)
    print(f"KEEPWARM_SEED={seed}: {kills} kills of {name}, {logins} logins, {sum(r['reused'] for _, r in results)} "
          f"reused, the slowest took {slowest:.2f} s")
    assert all(r["logins"] > 0 for _, r in results)
    wait_until(lambda: settled(system, backend) == before,
               lambda: f"{settled(system, backend)}, and before it was {before}")
    check_connections(system, backend)
