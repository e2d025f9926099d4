"""What other directories have for a challenge: authdaemond, which may judge CRAM itself, and nginx's auth_http."""
import base64
import os

import pytest

from keepwarm import challenge
from keepwarm.challenge import CRAMS, MECHANISMS, OFFERED, login
from keepwarm.directory import at
from keepwarm.directory_servers import AuthHttp, Authdaemond
from keepwarm.process import free_port, memory
from keepwarm.system import SANITIZED

WRONG = b"NO [AUTHENTICATIONFAILED] AUTHENTICATE failed"
LATER = b"NO [UNAVAILABLE] AUTHENTICATE failed"
MASTER = {"auth_sasl_plain_username": "hauptmann", "auth_sasl_plain_password": "Hauptwort-77aa"}


@pytest.fixture
def start(make, backend):
    def started(kind, answer, **config):
        directory = kind(answer)
        make.started.append(directory)
        system = make.system(backend, directory=[directory], auth_mechanisms=OFFERED, server_port=free_port(),
                             log_format="keepwarm", **config)
        system.asked = directory
        return system
    return started


def record(backend, *lines):
    return "\n".join([*lines, f"OPTIONS=mailhost={at(backend)}", ".", ""]).encode()


def try_login(system, mechanism, password):
    with system.client() as client:
        return login(client, mechanism, "anna", password).tagged


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_authdaemonds_clear_password_does(start, backend, mechanism):
    system = start(Authdaemond, lambda _: record(backend, "PASSWD2=pw-anna"))
    assert try_login(system, mechanism, "pw-anna").startswith(b"OK")
    assert try_login(system, mechanism, "wrong") == WRONG
    assert not [one for one in system.asked.requests if one.startswith(b"AUTH")]


class Judge:
    """authdaemond that tells no password and knows it is pw-anna."""

    def __init__(self, backend, verdict=None):
        self.backend, self.verdict, self.bodies = backend, verdict, []

    def __call__(self, request):
        head, _, body = request.partition(b"\n")
        if head.startswith(b"PRE"):
            return record(self.backend, "PASSWD2=")
        assert head == b"AUTH %d" % len(body)
        self.bodies.append(body)
        if self.verdict is not None:
            return self.verdict
        service, name, text, answer, end = body.split(b"\n")
        assert (service, end) == (b"imap", b"")
        user = base64.b64decode(answer).rpartition(b" ")[0].decode()
        right = challenge.cram_answer(name.decode().upper(), user, "pw-anna", base64.b64decode(text))
        return record(self.backend) if right == base64.b64decode(answer) else b"FAIL\n"


@pytest.mark.parametrize("mechanism", CRAMS)
def test_authdaemond_judges_cram_itself(start, backend, mechanism):
    judge = Judge(backend)
    system = start(Authdaemond, judge)
    assert try_login(system, mechanism, "wrong") == WRONG
    assert try_login(system, mechanism, "") == WRONG
    assert try_login(system, mechanism, "pw-anna") == LATER  # verified, but nobody can log in at the mail host
    system.wait_log("needs a clear password in the directory, or a master user")
    assert len(judge.bodies) == 3 and all(body.split(b"\n")[1] == mechanism.lower().encode() for body in judge.bodies)
    assert not backend.logins


@pytest.mark.parametrize("verdict", [b"", b"FAIL", b"OK\n", b"ADDRESS=anna\n"])
def test_an_authdaemond_that_says_nothing_says_not_wrong(start, backend, verdict):
    system = start(Authdaemond, Judge(backend, verdict), **MASTER)
    assert try_login(system, "CRAM-MD5", "pw-anna") == LATER


@pytest.mark.skipif(SANITIZED, reason="its memory is full of copies")
@pytest.mark.skipif(os.getuid() != 0, reason="only root may read the memory of a process that is not dumpable")
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("host, verdict", [("http://x", LATER), (None, b"OK")])
def test_no_password_stays(start, backend, mechanism, host, verdict):
    """Nor that of a record that is wrong behind its password."""
    secret = "Verbleibtnicht-93c1"
    backend.passwords = {"anna": secret.encode()}
    system = start(Authdaemond, lambda _: f"PASSWD2={secret}\nOPTIONS=mailhost={host or at(backend)}\n.\n".encode())
    with system.client() as client:
        assert login(client, mechanism, "anna", secret).tagged.startswith(verdict)
        for name in "lookupd", "cachebrokerd":
            assert all(secret.encode() not in memory(pid) for pid in system.pids(name)), name


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_auth_http(start, backend, mechanism):
    def answer(password):
        return lambda _: ["Auth-Status: OK", f"Auth-Server: {backend.address}", f"Auth-Port: {backend.port}", *password]
    system = start(AuthHttp, answer(["Auth-Pass: pw-anna"]))
    assert try_login(system, mechanism, "pw-anna").startswith(b"OK")
    assert try_login(system, mechanism, "wrong") == WRONG
    for nothing in [], ["Auth-Pass:"], ["Auth-Pass: "]:
        system.asked.answer = lambda request, nothing=nothing: AuthHttp.dress(answer(nothing)(request))
        assert try_login(system, mechanism, "") == WRONG
