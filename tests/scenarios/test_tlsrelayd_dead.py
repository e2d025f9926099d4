"""A worker of tlsrelayd that has died and is still to be buried: what is asked for then is another one's to carry."""
import os
import signal
import threading

import pytest

from keepwarm.handover import LET_GO
from keepwarm.process import alive, frozen, wait_until
from keepwarm.tlsrelay import (IMPLICIT, Host, client_context, dialling, open_to, plain_end, read_exactly, server_context,
                               serving, tcp_pair)


class Shaking(threading.Thread):
    """A client in its handshake; join() gives its TLS side."""

    def __init__(self, sock, context):
        super().__init__(daemon=True)
        self.sock, self.context, self.tls = sock, context, None
        self.start()

    def run(self):
        self.tls = self.context.wrap_socket(self.sock, server_hostname="mail.test")

    def join(self, timeout=None):
        super().join(timeout)
        return self.tls


@pytest.mark.parametrize("sessions", [500, 1])
def test_a_mail_host_asked_for_behind_a_worker_that_has_died(tmp_path, authority, mail, sessions):
    """The master is stopped meanwhile, so that it finds both at once; in which order is the kernel's to say."""
    with dialling(tmp_path, authority, tls_sessions_per_worker=sessions) as relay:
        for _ in range(5):
            open_to(relay, mail)
            ours, theirs = tcp_pair()
            host = Host(server_context(mail))
            thread = threading.Thread(target=host, args=(ours,), daemon=True)
            thread.start()
            victims = relay.workers()
            with frozen(relay.process.pid):
                for pid in victims:
                    os.kill(pid, signal.SIGKILL)
                wait_until(lambda: not any(map(alive, victims)), "they live")  # pylint: disable=W0640
                serial = relay.request("TLS_CONNECT", theirs, mode=IMPLICIT, service=1, port=993, host="mail.test")
            ready = relay.answer(serial)
            assert ready.name == "TLS_READY", ready
            thread.join()
            host.tls.sendall(b"* OK\r\n")
            assert read_exactly(plain_end(ready), 6) == b"* OK\r\n"


@pytest.mark.parametrize("sessions", [500, 1])
def test_a_client_behind_a_worker_that_has_died(tmp_path, authority, mail, sessions):
    """Its session is told that another one begins, and lets its connection go to that."""
    with serving(tmp_path, mail, tls_sessions_per_worker=sessions) as relay:
        for _ in range(5):
            relay.accept(client_context(authority))
            ours, theirs = tcp_pair()
            client = Shaking(ours, client_context(authority))
            victims = relay.workers()
            with frozen(relay.process.pid):
                for pid in victims:
                    os.kill(pid, signal.SIGKILL)
                wait_until(lambda: not any(map(alive, victims)), "they live")  # pylint: disable=W0640
                serial = relay.request("TLS_ACCEPT", theirs, hold=True, service=1, client="192.0.2.7")
            with relay.wait_begun(serial) as stream:
                stream.send(LET_GO)
            ready = relay.answer(serial)
            assert ready.name == "TLS_READY", ready
            plain_end(ready).sendall(b"* OK\r\n")
            assert read_exactly(client.join(), 6) == b"* OK\r\n"
