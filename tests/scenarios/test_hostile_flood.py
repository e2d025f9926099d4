"""Floods of connections at the broker's sockets."""
import os
import resource
import socket
import time

import pytest

from keepwarm import flood, process
from keepwarm.flood import Flood
from keepwarm.messages import session
from keepwarm.process import cpu_share, fd_count, wait_until
from keepwarm.scene import HELLO, Scene
from keepwarm.system import SANITIZED


# --- floods ----------------------------------------------------------------------------------------------
def connect_without_a_word(system, count):
    """Connections to the session socket, as many as its backlog takes."""
    flood = []
    for _ in range(count):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        try:
            sock.connect(str(system.run_directory / "session"))
        except BlockingIOError:
            sock.close()
            break
        flood.append(sock)
    return flood


def logs_in(system):
    """Does a login succeed, or is the client told that there are too many? Its process greets it while the broker
    counts, so that this may come in answer to the login."""
    with system.client() as client:
        client.send(b"a LOGIN anna pw-anna\r\n")
        lines = [client.greeting]
        while lines[-1].startswith((b"* OK ", b"* CAPABILITY ")):
            lines.append(client.line())
        if lines[-1] == b"* BYE [UNAVAILABLE] Too many connections\r\n":
            return False
        assert lines[-1].startswith(b"a OK "), lines
        return client.ok("NOOP")


def hung_up(sock):
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False


@pytest.fixture
def small(make):
    """A system whose broker has few descriptors."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 700:
        pytest.skip("the flood needs 700 descriptors here")
    scene = Scene(make, prefix=["prlimit", "--nofile=600", "--"])
    scene.system.wait_log("into 600 descriptors")
    return scene


def test_a_flood_of_silent_peers_makes_the_broker_neither_spin_nor_forget_its_sessions(small):
    flood = connect_without_a_word(small.system, 500)
    assert len(flood) > 400
    wait_until(lambda: small.system.gauge("clients") >= 190, "the broker takes no peers any more")
    assert cpu_share(small.broker, 2) < 0.2
    assert b"<bystander>" in small.bystander.ok("FETCH 1 BODY[]").text
    assert fd_count(small.broker[0]) < 600
    for sock in flood:
        sock.close()
    wait_until(lambda: small.system.gauge("clients") < 10, "closed peers are still counted")
    small.check(bad=0)


def test_peers_that_say_nothing_are_cut_off_and_make_room(small):
    """The flood stays: it is cut off bit by bit, and those that come behind it are served. Who has said HELLO may be
    silent for as long as it likes."""
    greeted = session(small.system)
    greeted.sock.setblocking(False)
    begin = time.monotonic()
    flood = connect_without_a_word(small.system, 250)
    wait_until(lambda: hung_up(flood[0]), "the first silent peer is still there", deadline=25)
    assert time.monotonic() - begin > 8, "cut off too early"
    wait_until(lambda: logs_in(small.system), "those behind the flood are not served")
    wait_until(lambda: all(map(hung_up, flood)), "some silent peers are still there", deadline=25)
    assert not hung_up(greeted.sock)
    greeted.sock.close()
    small.check(bad=0)
    for sock in flood:
        sock.close()


def resident(pid):
    """Bytes of memory that the process uses."""
    return int(process.read_proc(pid, "statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("count, said, room", [(11000, b"", 8 << 20), (5000, HELLO, 24 << 20)],
                         ids=["that say nothing", "that say HELLO"])
def test_thousands_of_connections_keep_nobody_from_logging_in(scene, count, said, room):
    """Of those that say nothing, here more than max_clients, only some hundred are kept; those that say HELLO are
    sessions."""
    count = min(count, flood.most(), resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 3 if said else count)
    if count < 2000:
        pytest.skip(f"only {count} descriptors here")
    system, broker = scene.system, scene.broker[0]
    assert logs_in(system)
    wait_until(lambda: system.gauge("active") == 1, "an old session is still there")
    fds, memory = fd_count(broker) - system.gauge("cached"), resident(broker)
    with Flood(system.run_directory / "session", count, said) as many:
        logins, most_fds, most_memory = 0, 0, 0
        while not many.is_complete() or logins < 20:
            begin = time.monotonic()
            assert logs_in(system), f"refused after {logins} logins: {system.stats()}"
            assert time.monotonic() - begin < 10
            logins += 1
            most_fds, most_memory = max(most_fds, fd_count(broker)), max(most_memory, resident(broker))
        number = many.number()
        assert number == count
        if said:
            wait_until(lambda: system.gauge("clients") > count, "not all are sessions")
        scene.check()
        most_fds, most_memory = max(most_fds, fd_count(broker)), max(most_memory, resident(broker))
        print(f"{number} connections, meanwhile {logins} logins; broker: {most_fds} descriptors, "
              f"{(most_memory - memory) >> 10} KiB more")
    assert SANITIZED or most_memory - memory < room, f"{most_memory - memory} bytes more"
    assert said or most_fds < fds + 1000
    wait_until(lambda: fd_count(broker) - system.gauge("cached") <= fds,
               lambda: f"{fd_count(broker)} descriptors, and before it were {fds}: {system.stats()}")
    scene.check()
