"""A worker of tlsrelayd that has been taken over: each call that it must not make is its last."""
import re
import shutil

import pytest

from keepwarm import certs
from keepwarm.process import wait_until
from keepwarm.system import BUILD, ROOT, SANITIZED, SOURCE
from keepwarm.tlsrelay import Relay, tcp_pair

CALLS = [call for name in ("sealed.h", "tls_intruder.c")
         for call in re.findall(r"^\tROW\((\w+)\)", (ROOT / "tests/jail" / name).read_text(), re.M)]


@pytest.fixture(scope="module")
def relay(tmp_path_factory):
    if SANITIZED:
        pytest.skip("a sanitizer build is locked up in part only")
    folder = tmp_path_factory.mktemp("intruder")
    mail = certs.Authority(folder).issue("mail.test")
    shutil.copy2(SOURCE / "test/tlsrelayd-intruder", BUILD / "tlsrelayd-intruder")
    with Relay(folder, program="tlsrelayd-intruder", tls_server_cert_file=mail.both_path,
               tls_handshakes=10000, tls_handshake_timeout=300) as started:
        yield started


def ask(relay, name):
    """What the intruder answers; b"" when its process is gone."""
    ours, theirs = tcp_pair()
    with ours:
        relay.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.7")
        ours.sendall(name.encode())
        return ours.recv(100)


def test_an_answer_would_be_seen(relay):
    assert ask(relay, "nothing") == b"survived nothing 0\r\n"


def test_a_worker_cannot_fill_the_log(relay):
    assert ask(relay, "lines") == b"said"
    wait_until(lambda: "lines were left out" in relay.log(), "nothing was left out")
    assert relay.log().count("a line of the intruder's") < 50


def test_all_calls_are_asked_for():
    assert len(CALLS) > 50


@pytest.mark.parametrize("call", [call for call in CALLS if call != "nothing"])
def test_a_forbidden_call_is_the_last(relay, call):
    before = relay.log().count("ended with signal 31")
    assert ask(relay, call) == b""
    wait_until(lambda: relay.log().count("ended with signal 31") > before, "it was not the filter that ended it")
