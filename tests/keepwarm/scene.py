"""A system with somebody else's session, in which a test misbehaves: what tests/scenarios/test_hostile_*.py share.
"""
import socket

from keepwarm import messages, process
from keepwarm.messages import DEADLINE
from keepwarm.system import BUILD, System

HELLO = messages.encode("HELLO", service=1)


class Scene:
    """A system with somebody else's session; check() says that neither has noticed anything."""

    def __init__(self, make, **config):
        self.backend = make.backend()
        self.system = make.system(self.backend, spare_processes="3 3", **config)
        self.bystander = self.system.session("bystander")
        self.bystander.ok("SELECT INBOX")
        self.broker = self.system.pids("cachebrokerd")

    def check(self, bad=None):
        """bad: so many messages must have been counted as bad."""
        assert b"<bystander>" in self.bystander.ok("FETCH 1 BODY[]").text
        with self.system.session("later") as client:
            client.ok("NOOP")
        assert self.system.pids("cachebrokerd") == self.broker, "the broker was restarted"
        if bad is not None:
            self.system.wait_counter("bad_messages", bad)


def the_scene(make_once):
    """One system for all tests of a kind: what they do must leave no trace for the next one."""
    for thing in make_once.started:
        if isinstance(thing, System):
            return thing.scene
    scene = Scene(make_once, cache_expiration_time=0)
    scene.system.scene = scene
    return scene


def quiet_connection(system, user="mallory"):
    """Leaves a connection of the user in the cache."""
    system.session(user).logout()
    system.wait_cached(1)


def take_greeting(sock):
    sock.settimeout(DEADLINE)
    assert sock.recv(4096).startswith(b"* OK")


def pair():
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def status_of(pid):
    lines = process.read_proc(pid, "status").decode().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def serve_as_root(run_directory, sock, log):
    """proxyd as xinetd starts it: root, with the connection as fd 0."""
    with open(log, "ab") as file:
        return process.start([BUILD / "proxyd", "-r", run_directory, "-l", "syslog"], stdin=sock, stdout=file,
                             stderr=file)


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname(), timeout=10)
        return client, listening.accept()[0]
