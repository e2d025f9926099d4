"""The kernel counts the descriptors that are on their way in sockets for all processes of a user together, and refuses one
more to whoever has a lower RLIMIT_NOFILE. A restarting broker's pack holds thousands: a session that meets it waits."""
import array
import contextlib
import os
import queue
import re
import resource
import select
import socket

import pytest

from keepwarm import process
from keepwarm.handover import NOBODY, Handover

COUNT = 400
A_MESSAGE = 200  # of 253, SCM_MAX_FD
FEWER = f"-n {COUNT // 2}"


@contextlib.contextmanager
def in_flight(count, uid=NOBODY):
    """So many descriptors of this user's are on their way, until the end of the block or the value is called."""
    taking, sending = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        os.setuid(uid)
        fds = array.array("i", [sending.fileno()] * A_MESSAGE)
        for _ in range(count // A_MESSAGE):
            sending.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    sending.close()

    def arrive():
        for _ in range(count // A_MESSAGE):
            assert taking.recv(1) == b"x"  # without room for them they are closed

    with taking:
        yield arrive


def test_a_session_waits_until_it_may_pass_its_descriptor_on():
    with Handover(ulimit=FEWER) as handover, in_flight(COUNT) as arrive:
        handover.client().ok("STARTTLS")
        assert not select.select([handover.tcp], [], [], 0.1)[0]
        assert handover.asked.empty() and handover.proxyd.poll() is None, handover.log_text()
        arrive()
        handover.ready(handover.accept_tls())


def test_a_session_that_waits_for_that_meets_the_next_broker():
    with Handover(ulimit=FEWER) as handover, in_flight(COUNT) as arrive:
        client = handover.client()
        pid = handover.proxyd.pid
        before = process.socket_inodes(pid)
        handover.link.sock.shutdown(socket.SHUT_RDWR)
        process.wait_until(lambda: before - process.socket_inodes(pid), "the broker's end is not seen")
        client.send("a STARTTLS\r\n")
        assert not select.select([handover.door, handover.tcp], [], [], 0.1)[0] and handover.proxyd.poll() is None
        arrive()
        handover.be_next_broker()
        client.expect(rb"a OK .*\r\n")
        handover.ready(handover.accept_tls())


def test_a_session_does_not_wait_longer_than_a_login_may_last():
    with Handover(ulimit=FEWER, login_timeout=1) as handover, in_flight(COUNT):
        handover.client().ok("STARTTLS")
        assert "reason=login-timeout" in handover.end()
        assert handover.asked.empty() or handover.next().name != "TLS_ACCEPT"


def test_a_connection_is_given_back_all_the_same():
    with Handover(ulimit=FEWER) as handover:
        client = handover.client()
        with handover.lease(client) as host, in_flight(COUNT) as arrive:
            client.send("z LOGOUT\r\n")
            client.expect(rb"\* BYE .*\r\nz OK .*\r\n")
            assert handover.next().name == "RETURNING"
            host.send(host.expect(rb"(\w+) NOOP\r\n")[1] + b" OK done\r\n")
            with pytest.raises(queue.Empty):
                handover.asked.get(timeout=0.1)
            assert handover.proxyd.poll() is None
            arrive()
            assert handover.next().name == "GIVE"


def test_it_may_have_as_many_as_its_starter_allows():
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with Handover(ulimit="-Sn 256") as handover:
        limits = process.read_proc(handover.proxyd.pid, "limits").decode()
        assert re.search(rf"Max open files +{most} +{most} ", limits), limits
