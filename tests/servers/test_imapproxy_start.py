"""How the old program and Keepwarm start, from the same configuration files and command lines.

A row says what becomes of each: it serves, or the status it exits with (negative: the signal that ended it). Where
the two differ the row says why.
"""
import os
import signal
import subprocess
from typing import NamedTuple

import pytest

from keepwarm import process, proxytalk
from keepwarm.process import wait_until
from keepwarm.system import BUILD, System

SERVES = "serves"


class Row(NamedTuple):
    name: str
    edit: object  # makes the file's text from the usual text
    old: object
    new: object = None  # None: the same
    why: str = ""


def added(*lines):
    return lambda text: text + "".join(line + "\n" for line in lines)


def without(key):
    return lambda text: "".join(line for line in text.splitlines(True) if not line.startswith(key + " "))


def changed(key, value):
    return lambda text: without(key)(text) + f"{key} {value}\n"


def sample(text):
    """What a site changes in the package's file is at its end: the last one wins."""
    return (proxytalk.unpack()[0] / proxytalk.SAMPLE).read_text() + text + "chroot_directory {folder}\n"


NO_DEFAULT = "what is missing has its documented default"
SPOKEN = "a bad value is said, not replaced"
ROWS = [
    Row("the usual file", lambda text: text, SERVES),
    Row("the file of Debian's package", sample, SERVES),
    Row("lines that end in CRLF", lambda text: text.replace("\n", "\r\n"), SERVES),
    Row("no newline at the end", lambda text: text.rstrip("\n"), SERVES),
    Row("keywords in upper case", lambda text: "".join(
        line.partition(" ")[0].upper() + " " + line.partition(" ")[2] for line in text.splitlines(True)), SERVES),
    Row("blanks everywhere", lambda text: "".join(
        "  " + line.replace(" ", "   ", 1).rstrip() + " \t \n" for line in text.splitlines()), SERVES),
    Row("comments behind values", lambda text: text.replace("\n", " # yes\n"), SERVES),
    Row("empty lines and comments", lambda text: "\n# a comment\n\n" + text, SERVES),
    Row("a keyword nobody knows", added("connect_timeout_of_old 10"), SERVES),
    Row("a keyword twice", lambda text: "cache_size no-number\nlisten_port 1\n" + text, SERVES, 1, SPOKEN),
    Row("a keyword twice, the last wins", lambda text: "listen_port 1\nforeground_mode no\n" + text, SERVES),
    Row("yes and no in other words", added("send_tcp_keepalives TRUE", "enable_select_cache N", "force_tls False"), SERVES),
    Row("on", added("send_tcp_keepalives on"), SERVES),
    Row("neither yes nor no", added("send_tcp_keepalives perhaps"), SERVES, 1, SPOKEN),
    Row("an unknown facility", changed("syslog_facility", "LOG_NOTHING"), SERVES, 1, SPOKEN),
    Row("a tab for a blank", added("send_tcp_keepalives\tno"), 1, SERVES, "a tab separates as well"),
    Row("a line of blanks", added("   "), 1, SERVES, "it is an empty line"),
    Row("a keyword without a value", added("server_hostname"), 1),
    Row("no cache_size", without("cache_size"), -11, SERVES, NO_DEFAULT),
    Row("cache_size that is no number", changed("cache_size", "many"), -11, 1, SPOKEN),
    Row("no proc_username", without("proc_username"), -11, SERVES, NO_DEFAULT),
    Row("a proc_username that there is not", changed("proc_username", "nobody-of-that-name"), 1),
    Row("root as proc_username", changed("proc_username", "root"), 1),
    Row("a bad listen_address", changed("listen_address", "no.such.address.invalid"), 1),
    Row("no mail host", changed("server_port", "1"), 1, SERVES, "it may come later: logins are told that it is not there"),
    Row("chroot_directory that there is not", added("chroot_directory {folder}/chroot"), 1, SERVES, "it is made"),
]


@pytest.fixture(scope="module", name="folder")
def old_program():
    folder, why = proxytalk.unpack()
    if not folder:
        pytest.skip(why)
    return folder


class Start:
    """One program with a file; `system` is not started in any other way."""

    def __init__(self, system, argv, env):
        self.system, self.error = system, system.folder / "stderr"
        with open(self.error, "wb") as error:
            self.process = process.start([*argv, "-f", system.conf], env=env, stdin=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL, stderr=error, cwd="/")

    def result(self):
        """SERVES, or the status."""
        wait_until(lambda: self.process.poll() is not None or self.system.greets(), "neither serves nor exits")
        return SERVES if self.process.poll() is None else self.process.returncode

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(process.DEADLINE)
        self.system.discard()


def start(row, make_argv, make_env, port):
    system = System(port, **proxytalk.COMMON)
    system.write_config(protocol_log_filename=system.folder / "protocol")
    text = row.edit(system.conf.read_text()).replace("{folder}", str(system.folder))
    system.conf.write_text(text, newline="")
    return Start(system, make_argv(system), make_env(system))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_file(make_once, folder, row):
    backend = make_once.backend()
    old = start(row, lambda _: [folder / "imapproxyd"], lambda _: proxytalk.environment(folder), backend.port)
    new = start(row, lambda system: [system.binaries / "in.imapproxyd"], System.environment, backend.port)
    try:
        want = row.old if row.new is None else row.new
        assert (old.result(), new.result()) == (row.old, want), new.error.read_text(errors="replace")
        said = new.error.read_text(errors="replace")
        assert want == SERVES or said, "it is not said what is wrong"
    finally:
        old.stop()
        new.stop()


def test_each_difference_has_its_reason():
    assert all((row.new is None) == (not row.why) and row.new != row.old for row in ROWS)


# --- command lines ------------------------------------------------------------------------------------
USAGE = "Usage: in.imapproxyd [-f config filename] [-p pidfile] [-h]\n"
# arguments: (status, usage on standard output?) of the old program, then of Keepwarm
COMMAND_LINES = {
    "-h": ((0, True), (0, True)),
    "what is no option -h": ((0, True), (0, True)),
    "-x": ((1, True), (1, True)),
    "-f": ((1, True), (1, True)),
    "-f /nonexistent/file": ((1, False), (1, False)),
}


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_a_command_line(folder, line):
    runs = []
    for argv, env in (([folder / "imapproxyd"], proxytalk.environment(folder)), ([BUILD / "in.imapproxyd"], None)):
        runs.append(subprocess.run([*argv, *line.split()], env=env, capture_output=True, text=True, check=False,
                                   stdin=subprocess.DEVNULL, timeout=process.DEADLINE, cwd="/"))
    assert tuple((run.returncode, USAGE == run.stdout) for run in runs) == COMMAND_LINES[line]
    assert runs[1].returncode == 0 or runs[1].stderr


def test_in_the_background_both_write_a_pid_file(make_once, folder):
    backend = make_once.backend()
    for argv, env in (([folder / "imapproxyd"], proxytalk.environment(folder)), ([BUILD / "in.imapproxyd"], None)):
        system = System(backend.port, **proxytalk.COMMON)
        system.write_config(protocol_log_filename=system.folder / "protocol", foreground_mode="no", log_target=None)
        pid_file, pid = system.folder / "pid", None
        try:
            run = subprocess.run([*argv, "-f", system.conf, "-p", pid_file], env=env, stdin=subprocess.DEVNULL, cwd="/",
                                 capture_output=True, timeout=process.DEADLINE, check=False)
            assert run.returncode == 0, run
            wait_until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"), "no pid file")
            pid = int(pid_file.read_text())
            assert pid_file.read_text() == f"{pid}\n" and pid_file.stat().st_mode & 0o777 == 0o644
            wait_until(system.greets, "it does not serve")
            assert process.program(pid) == argv[0].name
        finally:
            if pid:
                os.kill(pid, signal.SIGTERM)
                wait_until(lambda: not process.alive(pid), "it does not end")  # pylint: disable=cell-var-from-loop
            system.discard()
