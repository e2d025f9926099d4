"""What in.imapproxyd does for TLS: when tlsrelayd runs, what it is given, what is told to whom, in which order.

In tlsrelayd's place is a script that writes down what it is told: what the program itself does is tested elsewhere."""
import os
import re
import signal
import stat
import struct
import subprocess

import pytest

from keepwarm import certs, process, tls
from keepwarm.process import free_port, wait_until
from keepwarm.system import System, stage, temp_folder

STAND_IN = r'''#!/usr/bin/python3 -IS
import os, signal, socket, sys
if "-n" in sys.argv:  # a look at the files, in front of a reload
    sys.exit(0)
folder = os.path.dirname(sys.argv[2])
fds = {name: 3 + i for i, name in enumerate(os.environ["LISTEN_FDNAMES"].split(":"))}
def say(*words):
    with open(folder + "/told", "a") as told:
        told.write(" ".join(map(str, words)) + "\n")
def look(why):
    data = os.pread(fds["tls-files"], 1 << 24, 0)
    with open(f"{folder}/files-{why}", "wb") as file:
        file.write(data)
def read_again(*_):
    look("reload")
    say("SIGHUP")
def proc(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""
def end(*_):
    say("SIGTERM", *(proc(pid, "comm") for pid in os.listdir("/proc")
                     if pid.isdigit() and int(pid) != os.getpid() and folder in proc(pid, "cmdline")))
    sys.exit(0)
def orphaned(*_):
    say("SIGUSR2")
    sys.exit(0)
signal.signal(signal.SIGHUP, read_again)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGUSR2, orphaned)
look("start")
say("start", " ".join(sorted(fds)), "pid", os.getpid(), "uid", os.getuid())
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
    supervisor.connect(os.environ["NOTIFY_SOCKET"])
    supervisor.send(b"READY=1")
while True:
    signal.pause()
'''


@pytest.fixture(scope="module")
def binaries():
    folder = temp_folder()
    path = folder / "tlsrelayd"
    path.write_text(STAND_IN)
    path.chmod(0o755)
    return stage(tlsrelayd=path)


@pytest.fixture
def pki():
    folder = temp_folder()
    yield certs.Authority(folder)
    subprocess.run(["rm", "-rf", folder], check=True)


class Told(System):
    """A system whose tlsrelayd writes down what it is told."""

    def __init__(self, *args, **config):
        super().__init__(*args, **config)
        self.folder.chmod(0o777)  # so that it can, as whoever it runs as
        self.told_path = self.folder / "told"

    def told(self):
        return self.told_path.read_text().splitlines() if self.told_path.exists() else []

    def wait_told(self, *words):
        wait_until(lambda: [line.split()[0] for line in self.told()] == list(words),
                   lambda: f"not {words}: {self.told()}\n{self.log_text()}")

    def files(self, why):
        """{path: bytes} of what it was given."""
        data, files = (self.folder / f"files-{why}").read_bytes(), {}
        while data:
            path, size = struct.unpack("=II", data[:8])
            files[data[8:8 + path].decode()] = data[8 + path:8 + path + size]
            data = data[8 + path + size:]
        return files

    def relay_pid(self, start=0):
        return int(re.findall(r"pid (\d+)", "\n".join(self.told()))[start])

    def hang_up(self):
        self.supervisor.send_signal(signal.SIGHUP)


@pytest.fixture
def told(make, backend, binaries):
    def start(**config):
        system = Told(backend.port, binaries=binaries, **config)
        make.started.append(system)
        return system.start()
    return start


def contents(*paths):
    return {path: open(path, "rb").read() for path in paths}


def test_without_tls_there_is_no_tlsrelayd(told):
    system = told(tls_ca_file="/does/not/exist")
    assert system.told() == [] and (system.run_directory / "tls").is_socket()
    system.stop_and_keep()
    assert system.told() == []


def test_it_gets_the_files_that_only_root_may_read(told, pki):
    one, two = pki.issue("one.test"), pki.issue("two.test")
    system = told(tls_server_cert_file=f"{one.path} {two.both_path}", tls_server_key_file=f"{one.key_path} {two.both_path}",
                  server_tls="implicit", tls_ca_file=pki.path, tls_cert_file=one.path, tls_key_file=one.key_path)
    begin = system.told()[0].split()
    assert begin[:3] == ["start", "config", "tls-files"]
    assert int(begin[-1]) == (os.getuid() or 65534)
    assert stat.S_IMODE(os.stat(one.key_path).st_mode) == 0o600
    assert system.files("start") == contents(one.path, two.both_path, one.key_path, pki.path)


def holds(pid, name):
    """Has the process a descriptor of a file of this name?"""
    try:
        return any(name in os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
    except FileNotFoundError:  # it, or the descriptor, has gone
        return False


def test_nobody_else_holds_them(told, pki):
    one = pki.issue("one.test")
    system = told(tls_server_cert_file=one.both_path)
    supervisor = system.pids("in.imapproxyd")[0]
    system.listener_pid()
    holders = {pid for pid in process.find(str(system.folder)) if holds(pid, "tls-files")}
    assert holders == {supervisor, system.relay_pid()}
    secret = open(one.key_path, "rb").read().splitlines()[1]
    for pid in [supervisor, *system.pids("cachebrokerd"), system.listener_pid()]:
        assert secret not in process.memory(pid), process.program(pid)


def test_a_reload_brings_new_files_and_a_bad_one_changes_nothing(told, pki):
    one, two = pki.issue("one.test"), pki.issue("two.test")
    system = told(tls_server_cert_file=one.both_path)
    old = contents(one.both_path)
    os.rename(two.both_path, one.both_path)
    system.hang_up()
    system.wait_told("start", "SIGHUP")
    assert system.files("reload") == contents(one.both_path) != old
    system.write_config(tls_server_cert_file="/does/not/exist")
    system.hang_up()
    system.wait_log("/does/not/exist cannot be used: No such file or directory")
    system.wait_log("going on with the old settings")
    assert len(system.told()) == 2
    os.kill(system.relay_pid(), signal.SIGHUP)
    system.wait_told("start", "SIGHUP", "SIGHUP")
    assert system.files("reload") == contents(one.both_path)


@pytest.mark.parametrize("wrong", ["garbage", "key", "authorities"])
def test_a_reload_with_what_tlsrelayd_does_not_take_changes_nothing_anywhere(make, backend, pki, wrong):
    """The files are there, but no good. Else one program would have the settings of before, and the others the new ones."""
    one, two, port = pki.issue("one.test"), pki.issue("two.test"), free_port()
    bad = pki.directory / "bad.pem"
    bad.write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    bad.chmod(0o644)
    keys = {"garbage": {"tls_server_cert_file": bad}, "key": {"tls_server_key_file": two.key_path},
            "authorities": {"server_tls": "starttls", "tls_ca_file": bad}}[wrong]
    system = make.system(backend, imaps_listen_port=port, tls_server_cert_file=one.path, tls_server_key_file=one.key_path)
    system.write_config(hide_capabilities="X-TEST", **keys)
    system.supervisor.send_signal(signal.SIGHUP)
    system.wait_log("going on with the old settings")
    assert "TLS cannot be served with these settings" in system.log_text()
    assert "taken over" not in system.log_text() and "was read again" not in system.log_text()
    with tls.imaps(port, pki, "one.test") as client:
        assert "X-TEST" in client.login("anna", "pw-anna").capabilities
    system.write_config(tls_server_cert_file=two.path, tls_server_key_file=two.key_path, hide_capabilities=None, tls_ca_file=None,
                        server_tls=None)
    system.supervisor.send_signal(signal.SIGHUP)
    system.wait_log("taken over")


def test_a_reload_that_brings_tls_in_starts_it(told, pki):
    one = pki.issue("one.test")
    system = told()
    system.write_config(tls_server_cert_file=one.both_path)
    system.hang_up()
    system.wait_told("start")
    assert system.files("start") == contents(one.both_path)
    with system.session() as client:
        client.ok("NOOP")
    system.write_config(tls_server_cert_file=None)
    system.hang_up()
    system.wait_told("start", "SIGHUP")
    assert system.files("reload") == {}


def test_it_is_started_again_with_what_was_read_last(told, pki):
    one, two = pki.issue("one.test"), pki.issue("two.test")
    system = told(tls_server_cert_file=one.both_path)
    system.write_config(tls_server_cert_file=two.both_path)
    system.hang_up()
    system.wait_told("start", "SIGHUP")
    os.kill(system.relay_pid(), signal.SIGKILL)
    system.wait_told("start", "SIGHUP", "start")
    assert system.files("start") == contents(two.both_path)
    with system.session() as client:
        client.ok("NOOP")


def test_it_is_told_to_end_when_the_sessions_have_ended(told, pki):
    system = told(tls_server_cert_file=pki.issue("one.test").both_path)
    with system.session() as client:
        system.supervisor.terminate()
        client.expect(rb"\* BYE .*\r\n")
        client.expect_close()
        system.wait_told("start", "SIGTERM")
        assert system.told()[-1] == "SIGTERM in.imapproxyd"  # nobody else was there any more
    assert "did not end in time" not in system.log_text()


def test_it_outlives_a_supervisor_that_was_killed(told, pki):
    system = told(tls_server_cert_file=pki.issue("one.test").both_path)
    system.supervisor.kill()
    system.supervisor.wait()
    system.supervisor = None
    system.wait_told("start", "SIGUSR2")


def test_a_start_fails_without_a_file_and_names_it(backend, make, binaries):
    system = Told(backend.port, binaries=binaries, server_tls="starttls", tls_cert_file="/no/cert", imaps_listen_port=993)
    make.started.append(system)
    run = subprocess.run([binaries / "in.imapproxyd", "-f", system.conf], stdin=subprocess.DEVNULL, capture_output=True,
                         text=True, timeout=process.DEADLINE, check=False)
    assert run.returncode == 1 and re.search(r":\d+: imaps_listen_port: needs a certificate", run.stderr), run
    system.write_config(imaps_listen_port=None)
    run = subprocess.run([binaries / "in.imapproxyd", "-f", system.conf], stdin=subprocess.DEVNULL, capture_output=True,
                         text=True, timeout=process.DEADLINE, check=False)
    assert run.returncode == 1
    assert re.search(rf"{system.conf}:\d+: tls_cert_file: /no/cert cannot be used: No such file", run.stderr), run


def test_the_second_port_is_the_listeners_too(told, pki):
    port = process.free_port()
    system = told(tls_server_cert_file=pki.issue("one.test").both_path, imaps_listen_port=port)
    listening = {int(line.split()[1].rpartition(":")[2], 16): int(line.split()[9])
                 for line in open("/proc/net/tcp", encoding="ascii").readlines()[1:] if line.split()[3] == "0A"}
    assert listening[port] in process.socket_inodes(system.listener_pid())


