"""A broker or a look-up worker that has been taken over: what only an intruder would try is its last call, all else that
it must not do fails; and files are written beside the state file only.

build/test/cachebrokerd-intruder and lookupd-intruder are the programs with another heart (tests/jail/).
"""
import ctypes
import errno
import os
import re
import signal
import socket
import subprocess

import pytest

from keepwarm import messages, process
from keepwarm.process import wait_until
from keepwarm.system import BUILD, ROOT, SANITIZED, SOURCE, System, stage

pytestmark = pytest.mark.skipif(SANITIZED, reason="a sanitizer build has no filter: its run-time needs other calls")

CREATE_RULESET = 444  # landlock_create_ruleset(2), the same everywhere
NOBODY = 65534
OTHER_FILES = ("make_elsewhere", "write_elsewhere", "remove_elsewhere", "move_elsewhere", "make_shared")


def rows(*files):
    """{attempt: KILLED, OK or the errno's name}"""
    text = "".join((ROOT / "tests/jail" / file).read_text(encoding="utf-8") for file in files)
    return dict(re.findall(r"^\tROW\((\w+), (\w+)\)", text, re.M))


BROKER, LOOKUP = rows("attempts.h", "broker_intruder.c"), rows("attempts.h", "lookup_intruder.c")


def killed(results):
    return sorted(name for name, result in results.items() if result == "KILLED")


def survived(name, result):
    return f"survived {name} {0 if result == 'OK' else getattr(errno, result)}"


@pytest.fixture(scope="module")
def programs():
    names = ("cachebrokerd", "lookupd")
    for name in names:
        assert (SOURCE / "test" / f"{name}-intruder").exists(), f"{name}-intruder is missing: make intruder"
    return stage(**{name: SOURCE / "test" / f"{name}-intruder" for name in names})


@pytest.fixture
def place(make):
    """A function that makes a System that is not started, and starts one program of it in a directory where everybody may
    write. The state file is in another one."""
    ended = []

    def start(programs, program, attempt, protocol_log=None):
        system = System(9, stat_filename="", server_hostname=attempt, lookup_processes=64)
        make.started.append(system)
        inside, elsewhere = system.folder / "inside", system.folder / "elsewhere"
        system.write_config(stat_filename=inside / "state", protocol_log_filename=protocol_log or inside / "protocol.log")
        for folder in (inside, elsewhere, system.run_directory):
            folder.mkdir()
            folder.chmod(0o777)
        (elsewhere / "victim").write_text("")
        (elsewhere / "victim").chmod(0o666)
        user = dict(user=NOBODY, group=NOBODY, extra_groups=[]) if os.getuid() == 0 else {}
        with open(system.log, "ab") as log:
            child = process.start([programs / program, "-f", system.conf, "-r", system.run_directory, "-l", "stderr"],
                                  stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=elsewhere, **user)
        ended.append(child)
        return system, child

    yield start
    for child in ended:
        child.kill()
        child.wait()


# --- the broker ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("protocol_log", [None, "/dev/null"])
def test_what_a_broker_must_not_do_fails(programs, place, protocol_log):
    """A log that is nowhere opens no door to what else is in /dev."""
    system, child = place(programs, "cachebrokerd", "all", protocol_log)
    wanted = {name: result for name, result in BROKER.items() if result != "KILLED"}
    if ctypes.CDLL(None, use_errno=True).syscall(CREATE_RULESET, 0, 0, 1) < 0:
        wanted = {name: result for name, result in wanted.items() if name not in OTHER_FILES}
    last = list(wanted.items())[-1]
    wait_until(lambda: survived(*last) in system.log_text(), system.log_text)
    lines = re.findall(r"survived .*", system.log_text())
    assert set(lines) >= {survived(name, result) for name, result in wanted.items()}, lines
    assert len(wanted) > 35 and child.poll() is None
    assert sorted(path.name for path in (system.folder / "elsewhere").iterdir()) == ["victim"]


@pytest.mark.parametrize("name", killed(BROKER))
def test_what_only_an_intruder_would_try_ends_a_broker(programs, place, name):
    system, child = place(programs, "cachebrokerd", name)
    assert child.wait(process.DEADLINE) == -signal.SIGSYS, system.log_text()
    assert "survived" not in system.log_text()


def test_the_supervisor_says_how_such_a_broker_ended(programs, make):
    system = System(9, binaries=programs, server_hostname="bpf")
    make.started.append(system)
    run = subprocess.run([programs / "in.imapproxyd", "-f", system.conf], stdin=subprocess.DEVNULL, capture_output=True,
                         timeout=process.DEADLINE, check=False, text=True)
    assert run.returncode == 1 and "cachebrokerd was killed by signal 31 (Bad system call)" in run.stderr, run.stderr


def test_a_reload_still_finds_ports_by_their_names(make, backend):
    """nsswitch.conf may name a library that was not needed before."""
    system = make.system(backend)
    before = system.pids("cachebrokerd")
    system.write_config(pop3_server_port="pop3s")
    system.supervisor.send_signal(signal.SIGHUP)
    system.wait_log("cachebrokerd[%d]: %s: taken over" % (before[0], system.conf))
    with system.session() as client:
        client.ok("NOOP")


# --- look-ups -----------------------------------------------------------------------------------------------
class Workers:
    """The workers of one lookupd, which meet this broker."""

    def __init__(self, system):
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listening.settimeout(process.DEADLINE)
        self.listening.bind(str(system.run_directory / "lookup"))
        os.chmod(system.run_directory / "lookup", 0o777)
        self.listening.listen(64)

    def one(self):
        sock, _ = self.listening.accept()
        peer = messages.Peer(sock=sock)
        assert peer.receive().name == "WORKER"
        return peer


def ask(peer, name):
    return peer.request("RESOLVE", host=name, ip_version=0)


@pytest.fixture
def workers(programs, place):
    system, child = place(programs, "lookupd", "127.0.0.1")
    made = Workers(system)
    made.system, made.child = system, child
    yield made
    made.listening.close()


def test_what_a_look_up_worker_must_not_do_fails(workers):
    peer = workers.one()
    wanted = {name: survived(name, result) for name, result in LOOKUP.items() if result != "KILLED"}
    assert {name: ask(peer, name).error.decode() for name in wanted} == wanted and len(wanted) > 40
    assert sorted(path.name for path in (workers.system.folder / "elsewhere").iterdir()) == ["victim"]


def test_what_only_an_intruder_would_try_ends_a_look_up_worker(workers):
    bystander, names = workers.one(), killed(LOOKUP)
    for name in names:
        peer = workers.one()
        peer.push("RESOLVE", serial=1, host=name, ip_version=0)
        peer.expect_cut_off()
    wait_until(lambda: workers.system.log_text().count("ended with signal 31") == len(names), workers.system.log_text)
    assert ask(bystander, "nothing").error == b"survived nothing 0" and workers.child.poll() is None
