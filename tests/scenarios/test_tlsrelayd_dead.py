"""A worker of tlsrelayd that has died and is still to be buried: what is asked for then is another one's to carry."""
import os
import signal
import threading

import pytest

from keepwarm.process import alive, frozen, wait_until
from keepwarm.tlsrelay import IMPLICIT, Host, dialling, open_to, plain_end, read_exactly, server_context, tcp_pair


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
