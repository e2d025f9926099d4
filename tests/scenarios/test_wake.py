"""Who waits for room, when one of those who wait is gone by the time that there is some."""
import contextlib

from keepwarm.messages import ACCEPTED, session
from keepwarm.process import frozen, wait_until
from keepwarm.relay import Relay, idle_binaries
from keepwarm.scene import take_greeting

ACCOUNTS = ("anna", "bert", "carl", "dora", "emil")


def accepted(peer, user):
    lease = peer.lease(user=user)
    peer.outcome(ACCEPTED)
    return lease


def ask(peer, user):
    peer.serial += 1
    peer.push("LEASE", serial=peer.serial, proof_kind=1, user=user, secret=f"pw-{user}")


def test_a_gone_client_at_the_front_costs_nobody_a_second_dial(make, backend):
    """The connection that it cannot take any more goes round once more while the waiting ones are being gone through."""
    system = make.system(backend, cache_size=3, server_tls="implicit", binaries=idle_binaries())
    for user in ACCOUNTS:  # their accounts are known: no look-up comes between
        with session(system) as peer, Relay(system):
            peer.lease(user=user)
    with Relay(system) as relay, contextlib.ExitStack() as stack:
        giver, slow, returning, gone, waiting = (stack.enter_context(session(system)) for _ in range(5))
        given = accepted(giver, "anna")
        take_greeting(given.sock)  # else the connection is not quiet
        accepted(returning, "bert")
        relay.answer = None
        count = len(relay.requests)
        ask(slow, "carl")  # is being dialled: the room that it leaves is nobody's news
        relay.wait_requests(count + 1)
        with frozen(*system.pids("cachebrokerd")):
            returning.push("RETURNING")
            giver.push("LINE", line="first turn")
            ask(gone, "anna")
            ask(waiting, "dora")
            slow.sock.close()
            giver.push("RETURNING")
            for _ in range(3):
                gone.push("LINE", line="it is seen late that it has gone")
            gone.sock.close()
            giver.push("GIVE", fds=[given.sock.fileno()], capabilities="IMAP4rev1")
        dialled = relay.wait_requests(count + 2)
        with session(system) as last:  # all of the above is over when it is answered
            last.push("TALLY")
        system.wait_counter("given", 1)
        relay.splice(dialled)
        assert waiting.receive().name == "LEASED"
        waiting.outcome(ACCEPTED)
        wait_until(lambda: system.gauge("active") == 2, lambda: f"{system.stats()}")
        assert len(relay.requests) == count + 2, "it was dialled twice"
    wait_until(lambda: system.gauge("active") == 0, lambda: f"{system.stats()}")
