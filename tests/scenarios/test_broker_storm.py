"""Sessions that do at random what they may and what they may not, over mail hosts and relays that come and go: when it is
over, nothing is left that is counted, held or in the way.
"""
import contextlib
import os
import random
import select
import signal
import socket
import time

import pytest

from keepwarm.messages import ACCEPTED, FAILED, LIMIT, REFUSED, STALE, Peer, encode, session
from keepwarm.process import wait_until
from keepwarm.relay import UNAVAILABLE, Relay, failing, idle_binaries
from keepwarm.scene import tcp_pair

CACHE, SECONDS, PEERS = 6, 6, 14
USERS = ("anna", "bert", "carl")


class Actor:
    """A session's process; `held` is the connection that it was leased."""

    def __init__(self, system, chance):
        self.peer = Peer(system)
        self.chance, self.held, self.returning = chance, None, False
        self.say("HELLO", service=1, client=f"192.0.2.{chance.randint(1, 3)}", local="192.0.2.9")

    def say(self, name, fds=(), **values):
        self.peer.serial += 1
        with contextlib.suppress(BlockingIOError):
            self.peer.sock.sendmsg([encode(name, serial=self.peer.serial, **values)],
                                   [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"".join(
                                       fd.to_bytes(4, "little") for fd in fds))] if fds else [])

    def hear(self):
        """False: it was cut off."""
        ready = select.poll()  # select() knows no descriptors above 1023
        ready.register(self.peer.sock, select.POLLIN)
        while ready.poll(0):
            try:
                message = self.peer.receive()
            except (AssertionError, OSError):
                return False
            if message.name == "LEASED":
                assert self.held is None, "two connections for one session"
                self.held = message
            elif message.sock:
                message.sock.close()
        return True

    def drop_held(self):
        if self.held:
            self.held.sock.close()
        self.held, self.returning = None, False

    def act(self):
        chance = self.chance
        what = chance.random()
        if self.held is None:
            if what < 0.8:
                user = chance.choice(USERS)
                self.say("LEASE", proof_kind=chance.choice((1, 1, 1, 2, 3)), user=user, secret=f"pw-{user}",
                         client_id=chance.randint(0, 1), plain=chance.randint(0, 1))
            elif what < 0.95:
                self.accept_tls()
            else:
                self.say("OUTCOME", outcome=ACCEPTED)
        elif self.returning:
            self.give(what)
        elif what < 0.4:
            self.say("OUTCOME", outcome=ACCEPTED)
        elif what < 0.8:
            self.quiet()
            self.say("RETURNING", fingerprint=chance.choice(("", "", "CONDSTORE")))
            self.returning = True
        elif what < 0.97:
            outcome = chance.choice((REFUSED, FAILED, STALE, LIMIT))
            self.say("OUTCOME", outcome=outcome)
            self.drop_held()
        else:
            self.say("UNTOUCHED", fds=[self.held.sock.fileno()])

    def quiet(self):
        self.held.sock.settimeout(0.05)
        if not self.held.cached and not self.held.greeted:
            with contextlib.suppress(OSError):
                self.held.sock.recv(4096)

    def give(self, what):
        other = socket.socketpair()
        sock = self.held.sock if what < 0.85 else other[0]
        self.say("GIVE", fds=[sock.fileno()], capabilities="IMAP4rev1", opening="", from_client=1)
        for end in other:
            end.close()
        self.drop_held()

    def accept_tls(self):
        ends, listening = tcp_pair(), socket.create_server(("127.0.0.1", 0))
        null = os.open("/dev/null", os.O_RDWR)
        pipe = os.pipe()
        self.say("TLS_ACCEPT", fds=[self.chance.choice((ends[1].fileno(), ends[1].fileno(), listening.fileno(), null,
                                                        pipe[0], self.peer.sock.fileno()))], service=1)
        for fd in (null, *pipe):
            os.close(fd)
        for sock in (*ends, listening):
            sock.close()

    def close(self):
        self.drop_held()
        self.peer.sock.close()


class Storm:
    def __init__(self, system, backend, chance):
        self.system, self.backend, self.chance = system, backend, chance
        self.actors, self.relays, self.dead = [], [], []
        self.mode = "none"

    def turn(self):
        what = self.chance.random()
        if what < 0.25 and len(self.actors) < PEERS:
            with contextlib.suppress(OSError):
                self.actors.append(Actor(self.system, self.chance))
        elif what < 0.30 and self.actors:
            self.actors.pop(self.chance.randrange(len(self.actors))).close()
        elif what < 0.32 and self.backend.accepted:
            with contextlib.suppress(OSError):
                conn = self.chance.choice(self.backend.accepted[-20:])
                conn.push(b"* BYE\r\n") if self.chance.random() < 0.5 else conn.drop()
        elif what < 0.326:
            self.reload()
        elif what < 0.34:
            self.change_relay()
        elif self.actors:
            with contextlib.suppress(OSError):
                self.chance.choice(self.actors).act()
        for actor in self.actors[:]:
            if not actor.hear():
                actor.close()
                self.actors.remove(actor)

    def reload(self):
        self.mode = self.chance.choice(("none", "implicit", "starttls"))
        self.system.write_config(server_tls=self.mode, spare_backend_connections=self.chance.randint(0, 2),
                                 auth_recheck=self.chance.choice((0, 1, 300)))
        self.system.supervisor.send_signal(signal.SIGHUP)

    def change_relay(self):
        if self.relays and self.chance.random() < 0.5:
            self.dead.append(self.relays.pop(0))
            self.dead[-1].die()
        elif len(self.relays) < 3:
            answer = self.chance.choice((splice, splice, None, failing(UNAVAILABLE, "full"), late))
            with contextlib.suppress(OSError):
                self.relays.append(Relay(self.system, answer=answer, serves=self.chance.randint(0, 1)))

    def end(self):
        for actor in self.actors:
            actor.close()
        self.dead += self.relays

    def only_cached_are_open(self):
        for relay in self.dead:
            relay.die()  # also what its thread has received since
        return len(self.backend.open_connections()) <= self.system.gauge("cached")


def splice(relay, request):
    with contextlib.suppress(AssertionError, OSError):  # of a mail host or a broker that has closed
        relay.splice(request)


def late(relay, request):
    time.sleep(0.02)
    splice(relay, request)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_left_behind(make, seed):
    backend = make.backend()
    system = make.system(backend, cache_size=CACHE, host_max_connections=CACHE - 1, login_attempts=5, host_retry=1,
                         connect_retries=0, cache_expiration_time=300, spare_backend_connections=1, spare_processes="1 1",
                         cache_max_per_user=CACHE, tls_handshake_timeout=1, binaries=idle_binaries())
    broker = system.pids("cachebrokerd")
    system.forget_start()
    wait_until(lambda: backend.accepted and not backend.open_connections(), "the look at the mail host goes on")
    held = system.fds()["cachebrokerd"]
    storm = Storm(system, backend, random.Random(seed))
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        storm.turn()
    storm.end()
    system.write_config(server_tls="none", spare_backend_connections=0, auth_recheck=300)
    system.supervisor.send_signal(signal.SIGHUP)

    def figures():
        stats = system.stats()
        gauges, rows = stats["gauges"], stats["hosts"]
        return (gauges["active"], gauges["clients"], gauges["spares"], sum(row["active"] for row in rows),
                sum(row["cached"] for row in rows) - gauges["cached"])
    wait_until(storm.only_cached_are_open, lambda: f"{[conn.commands for conn in backend.open_connections()]}")
    wait_until(lambda: figures() == (0, 0, 0, 0, 0), lambda: f"{system.stats()}")
    wait_until(lambda: system.fds()["cachebrokerd"] == held + system.gauge("cached"),
               lambda: f"{system.fds()}, before {held}, {system.gauge('cached')} cached")
    assert system.pids("cachebrokerd") == broker, system.log_text()
    with contextlib.ExitStack() as stack:  # all the room is there
        for number in range(CACHE - 1):
            assert stack.enter_context(session(system)).lease(user=f"last{number}").cached == 0
        assert stack.enter_context(session(system)).ask_lease(user="one too many").name == "REFUSED"
