"""A session that has been taken over can do nothing but talk on the connections it was handed.

build/test/proxyd-intruder is proxyd with another session after login: it tries what its client names, and answers
"survived NAME ERRNO" when the call came back (tests/jail/intruder.c, sealed.h).
"""
import errno
import re
from pathlib import Path

import pytest

from keepwarm import certs, tls
from keepwarm.process import free_port, wait_until
from keepwarm.system import ROOT, SANITIZED, SOURCE, stage

INTRUDER = SOURCE / "test" / "proxyd-intruder"
SOURCE_CODE = "".join((ROOT / "tests/jail" / name).read_text(encoding="utf-8") for name in ("sealed.h", "intruder.c"))
NAMES = re.findall(r"^\tROW\((\w+)\)", SOURCE_CODE, re.M)
ATTEMPTS = set(NAMES) - {"nothing"}

pytestmark = pytest.mark.skipif(SANITIZED, reason="a sanitizer build has no filter: its run-time needs other calls")


@pytest.fixture(scope="module")
def programs():
    assert INTRUDER.exists(), f"{INTRUDER} is missing: make intruder"
    return stage(proxyd=INTRUDER)


@pytest.fixture
def jailed(make, backend, programs):
    return make.system(backend, binaries=programs, spare_processes="4 64")


def attempt(system, name):
    """What the client sees after asking for an attempt: the answer, or nothing when the session died."""
    with system.session() as client:
        client.send(name + "\r\n")
        return client.line() if client.fill() else b""


def test_an_attempt_that_comes_back_would_be_seen(jailed):
    with jailed.session() as client:
        client.send(b"nothing\r\n")
        client.expect(rb"survived nothing 0\r\n")


def test_there_are_enough_attempts():
    assert len(ATTEMPTS) >= 60
    defined = re.findall(r"^CALL\((\w+)|^static long try_(\w+)\((?:struct session|WHO)", SOURCE_CODE, re.M)
    assert set(NAMES) == {call or function for call, function in defined}


# What the nursery may and its children inherit from it, to no avail: no socket of theirs listens (EINVAL), no
# process may be made (EAGAIN).
REFUSED = {"accept4": errno.EINVAL, "accept_standard": errno.ENOTSOCK, "fork": errno.EAGAIN, "clone": errno.EAGAIN, "wait4": errno.ECHILD}

# What it may do, and what must not help it.
ALLOWED = ("empty_knock", "knock_with_the_door", "wrap_the_door", "shut_the_moved_door", "half_shut_the_moved_door")


def test_every_forbidden_call_ends_the_session_and_only_that(jailed):
    with jailed.session() as bystander:
        survived, refused = {}, {}
        for name in sorted(ATTEMPTS - set(ALLOWED)):
            answer = attempt(jailed, name)
            if answer == f"survived {name} {REFUSED.get(name)}\r\n".encode():
                refused[name] = answer
            elif answer:
                survived[name] = answer
        assert not survived
        assert set(refused) == set(REFUSED)
        bystander.send(b"nothing\r\n")
        bystander.expect(rb"survived nothing 0\r\n")
    killed = len(ATTEMPTS) - len(REFUSED) - len(ALLOWED)
    jailed.wait_counter("sessions_killed", killed)
    wait_until(lambda: jailed.log_text().count("it tried a forbidden system call") == killed,
               "one line each in the log")


# The stream inside is another kind of socket than the client's connection, in its place.
@pytest.mark.parametrize("name", ["pass_to_client", "connect", "bind", "accept4", "dup", "ioctl", "fcntl", "shut_door",
                                  "move_door"])
def test_the_jail_is_the_same_within_tls(make, backend, programs, tmp_path, name):
    authority = certs.Authority(tmp_path)
    ours = authority.issue("127.0.0.1")
    port = free_port()
    system = make.system(backend, binaries=programs, imaps_listen_port=port, tls_server_cert_file=ours.path,
                         tls_server_key_file=ours.key_path)
    with tls.imaps(port, authority) as client:
        assert client.login("anna", "pw-anna").ok
        client.send(b"nothing\r\n")
        client.expect(rb"survived nothing 0\r\n")
        client.send(name.encode() + b"\r\n")
        answer = client.read_to_end() if name not in REFUSED else client.line()
        assert answer == (f"survived {name} {REFUSED[name]}\r\n".encode() if name in REFUSED else b"")
    assert name in REFUSED or wait_until(lambda: "it tried a forbidden system call" in system.log_text(), system.log_text)


def status_of(pid):
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_a_session_is_locked_up_before_the_client_speaks(make, backend):
    system = make.system(backend)
    with system.client() as client:
        pid = system.pid_serving(client)
        status = status_of(pid)
        limits = Path(f"/proc/{pid}/limits").read_text(encoding="utf-8")
        assert status["NoNewPrivs"] == "1"
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert "0" not in status["Uid"].split()
        assert re.search(r"Max processes +0 +0", limits)
        assert re.search(r"Max core file size +0 +0", limits)


def serves(system):
    try:
        with system.session("later") as later:
            later.send(b"nothing\r\n")
            later.expect(rb"survived nothing 0\r\n")
            return True
    except (AssertionError, OSError):
        return False


@pytest.mark.parametrize("name", ALLOWED)
def test_who_plays_with_the_door_keeps_nobody_out(jailed, name):
    with jailed.session() as bystander:
        for number in range(3):
            with jailed.session("mallory") as client:
                client.send(f"{name}\r\n".encode())
                if not name.endswith("shut_the_moved_door"):
                    client.expect(f"survived {name} 0\r\n".encode())
            if name.endswith("shut_the_moved_door"):  # clients that come in this moment are told that there is no service
                wait_until(lambda: jailed.log_text().count("the door is broken") > number, "nobody has noticed")
                # a spare process of before may still be leaving
                wait_until(lambda: all(serves(jailed) for _ in range(3)), "not everybody is served again")
            else:
                assert all(serves(jailed) for _ in range(3))
        bystander.send(b"nothing\r\n")
        bystander.expect(rb"survived nothing 0\r\n")
    if name.endswith("shut_the_moved_door"):
        jailed.wait_log("the door is broken")
    else:
        wait_until(lambda: jailed.counter("bad_messages") >= 3, "the knocks are not counted")
    wait_until(lambda: jailed.gauge("active") == 0, lambda: f"somebody stays: {jailed.stats()}")
