"""The TLS part of the bench: what TLS costs toward mail hosts and with clients, beside peers that can do it."""
import argparse
import contextlib
import json
import socket
import statistics
import subprocess
import time
from pathlib import Path

import peers
from loads import SETTLE, Session, chosen, load, load_command, rates, say

ROUNDS = 3  # at most: this part is to take no longer than five minutes
BULK = 20 << 20
SPARES = "Keepwarm, 4 spares"
CACHED = 1000
ROUND_TRIP = 20  # milliseconds
FRESH, REUSED = 10, 30  # logins
ESTABLISHED = 8
FLOODERS = 64
STALLED = 500
FLOOD_SECONDS = 3


def part_options(options, **changed):
    return argparse.Namespace(**(vars(options) | changed))


@contextlib.contextmanager
def running(part, *args):
    part.start(*args)
    try:
        yield part
    finally:
        part.stop()


# --- webmail and bulk -------------------------------------------------------------------------------
def measure_rates(options, certificates, skipped):
    """{table: {peer: rounds}}"""
    both = peers.Tls(certificates, clients=True, backend=True)
    to_host, from_clients = (peers.Tls(certificates, **{side: True}) for side in ("backend", "clients"))
    null, bulk = (lambda more=more: peers.Null(options.build, to_host, **more) for more in ({}, {"bulk": BULK}))
    tables = (
        ("webmail, TLS to the null backend", null, to_host, 8, ()),
        ("webmail, TLS to Dovecot tuned", lambda: peers.DovecotTuned(to_host), to_host, 8, ()),
        ("webmail, TLS from clients, null backend", null, from_clients, 8, ()),
        ("webmail, TLS from clients and to the null backend", null, both, 8, ()),
        ("bulk, TLS to the null backend", bulk, to_host, 1, ("-b", BULK)),
    )
    found = {}
    for name, backend, tls, clients, more in tables:
        say(f"tls: {name}")
        makers, left_out = chosen(peers.tls_peers(options.build, tls), options.peers)
        skipped |= left_out
        found[name] = rates(part_options(options, clients=[clients], rounds=min(options.rounds, ROUNDS)), backend, makers, more)[clients]
    return found


# --- memory -----------------------------------------------------------------------------------------
def measure_memory(options, make_peer, certificates):
    """KiB of each idle cached TLS connection: all of it, and of it in the relay's processes."""
    backend, peer = peers.Null(options.build, peers.Tls(certificates)), make_peer()
    with running(backend), running(peer, backend.port_for(peer)):
        if peer.group is None or peer.group.memory() is None:
            return None
        load(options.build, peer, 8, 20, 2)  # the pools grow to what they like
        found = []
        for users in ("first%", "second%"):  # the first thousand fills what is of a fixed size
            load(options.build, peer, 8, CACHED, 60, "-c", CACHED, "-o", "-u", users)
            time.sleep(2)
            found.append((backend.group.descriptors(), peer.group.memory(), peer.group.pss("tlsrelayd")))
        connections, whole, relay = (late - early for early, late in zip(*found))
        return {"connections": connections, "whole": whole / connections / 1024, "relay": relay / connections / 1024}


# --- a far mail host ----------------------------------------------------------------------------------
class Far(peers.Part):
    """The mail host behind it is ROUND_TRIP away."""
    name = "delay"

    def __init__(self, backend, to_port):
        super().__init__(peers.Tls(clients=to_port == backend.tls_port))
        self.to_port = to_port

    def launch(self, backend_port):
        self.group.start([Path(__file__).with_name("delay.py"), self.port, self.to_port, ROUND_TRIP])


def timed_login(peer, number):
    """(milliseconds from connect to LOGIN's OK, milliseconds of LOGIN)"""
    begin = time.perf_counter()
    session = Session(peer)
    connected = time.perf_counter()
    session.login(number)
    end = time.perf_counter()
    session.command(b"LOGOUT")
    session.close()
    return (end - begin) * 1000, (end - connected) * 1000


def logins(peer, numbers, pause):
    """Medians of the logins of these users, a pause after each."""
    found = []
    for number in numbers:
        found.append(timed_login(peer, number))
        time.sleep(pause)
    return {"whole": statistics.median(whole for whole, _ in found),
            "login": statistics.median(login for _, login in found)}


def measure_round_trip(far):
    """Milliseconds of a NOOP that nobody but the delay stands in the way of."""
    session = Session(far).login(1)
    begin = time.perf_counter()
    for _ in range(REUSED):
        session.command(b"NOOP")
    session.close()
    return (time.perf_counter() - begin) * 1000 / REUSED


def measure_far(options, make_peer, certificates):
    backend, peer = peers.Null(options.build, peers.Tls(certificates)), make_peer()
    far = Far(backend, backend.port_for(peer))
    with running(backend), running(far):
        found = {"round_trip": measure_round_trip(far)}
        with running(peer, far.port):
            timed_login(peer, 1)  # hosts are known then, spares are dialled
            time.sleep(1)
            # A spare takes some round trips until it is one: logins that come at a time would take them all.
            found["fresh"] = logins(peer, range(100, 100 + FRESH), 8 * ROUND_TRIP / 1000)
            timed_login(peer, 2)
            time.sleep(SETTLE)
            # Nor is a connection idle before the mail host has answered what is said to it behind LOGOUT.
            found["reused"] = logins(peer, [2] * REUSED, 3 * ROUND_TRIP / 1000)
        return found


def far_makers(options, certificates):
    tls = peers.Tls(certificates, backend=True)
    makers, _ = chosen(peers.tls_peers(options.build, tls), options.peers)
    if "Keepwarm" in makers:
        makers[SPARES] = lambda: peers.Keepwarm(options.build, tls, spare_backend_connections=4)
    return makers


# --- a flood of handshakes ------------------------------------------------------------------------------
def noops(sessions, seconds):
    """p50 and p99 of NOOP in milliseconds, the sessions in turn, some hundred a second."""
    took, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        for session in sessions:
            begin = time.perf_counter()
            session.command(b"NOOP")
            took.append((time.perf_counter() - begin) * 1000)
            time.sleep(0.002)
    points = statistics.quantiles(took, n=100)
    return {"p50": points[49], "p99": points[98]}


def newcomer(peer):
    """Milliseconds from connect to LOGIN's OK of a new client, or why not."""
    try:
        return timed_login(peer, 3)[0]
    except OSError as problem:
        return type(problem).__name__


@contextlib.contextmanager
def handshakes(options, peer):
    """Clients that do full handshakes as fast as they can. They are nice: theirs would be other machines."""
    command = load_command(options.build, peer, FLOODERS, 1000, FLOOD_SECONDS + 1, "-g")
    told = {}
    flood = subprocess.Popen(["nice", "-n", "19", *command], stdout=subprocess.PIPE, text=True)
    try:
        yield told
    finally:
        told["handshakes"] = json.loads(flood.communicate(timeout=60)[0])["per_second"]


@contextlib.contextmanager
def stalled(_options, peer):
    """Clients that connect and then say nothing, or the beginning of a ClientHello."""
    socks = []
    try:
        for number in range(STALLED):
            sock = socket.create_connection(("127.0.0.1", peer.port), 10)
            socks.append(sock)
            if number % 2:
                sock.sendall(b"\x16\x03\x01\x02\x00\x01")
        yield {}
    finally:
        for sock in socks:
            sock.close()


def measure_flood(options, make_peer, certificates):
    """{kind: NOOP's percentiles, and a new client's time}"""
    backend = peers.Null(options.build, peers.Tls(certificates))
    sessions, found = [], {}
    with running(backend), running(make_peer(), backend.port) as peer:
        try:
            sessions += [Session(peer).login(1000 + number) for number in range(ESTABLISHED)]
            for kind, flood in (("quiet", lambda *_: contextlib.nullcontext({})), ("handshakes", handshakes),
                                ("stalled", stalled)):
                with flood(options, peer) as told:
                    time.sleep(SETTLE)
                    used = peer.group.cpu()
                    found[kind] = noops(sessions, FLOOD_SECONDS)
                    found[kind]["cpu"] = (peer.group.cpu() - used) / FLOOD_SECONDS / 1e6
                    found[kind]["newcomer"] = newcomer(peer)
                found[kind] |= told
                time.sleep(SETTLE)
        finally:
            for session in sessions:
                session.close()
    return found


# --- all of it --------------------------------------------------------------------------------------
def measure_each(what, function, makers, *args):
    """{peer: its result, or what went wrong}"""
    found = {}
    for name, make in makers.items():
        try:
            found[name] = function(args[0], make, *args[1:])
        except (OSError, subprocess.SubprocessError) as problem:
            found[name] = f"{type(problem).__name__}: {problem}"
        say(f"tls: {what}: {name}: {found[name]}")
    return found


def measure(options, skipped):
    certificates = peers.Certificates(options.keys)
    try:
        tls = peers.Tls(certificates, backend=True)
        to_host, _ = chosen(peers.tls_peers(options.build, tls), options.peers)
        keepers = {name: make for name, make in to_host.items() if name in ("imapproxy", "Keepwarm")}
        from_clients, _ = chosen(peers.tls_peers(options.build, peers.Tls(certificates, clients=True)), options.peers)
        return {
            "rates": measure_rates(options, certificates, skipped),
            "memory": measure_each("cached connection", measure_memory, keepers, options, certificates),
            "far": measure_each("far", measure_far, far_makers(options, certificates), options, certificates),
            "flood": measure_each("flood", measure_flood, from_clients, options, certificates),
        }
    finally:
        certificates.folder.remove()
