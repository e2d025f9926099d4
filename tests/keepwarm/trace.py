"""The protocol log as a list of records, and the other end of the admin socket."""
import re
import subprocess

from keepwarm import process
from keepwarm.process import wait_until
from keepwarm.system import BUILD, System

MARK = re.compile(rb"\n\n-----> C= (\d+) ([^ ]*) (?:(CLIENT|SERVER|PROXY): sd \[(\d+)\]( the same line goes on)?\n"
                  rb"|PROXY: ([^\n]*)\n)")
ENABLED = "user tracing enabled."
DISABLED = "user tracing disabled. Expect further output until client logout."


class Record:
    """user, side (CLIENT, SERVER, PROXY, or NOTE), session, data; `goes_on`: of a line that was cut."""

    def __init__(self, match, data):
        self.user = match[2].decode()
        self.side = match[3].decode() if match[3] else "NOTE"
        self.session = int(match[4]) if match[4] else None
        self.goes_on = bool(match[5])
        self.data = match[6] if match[6] is not None else data

    def __repr__(self):
        return f"{self.side}[{self.session}] {self.user} {self.data!r}"


def path(system):
    return system.folder / "protocol.log"


def raw(system):
    return path(system).read_bytes() if path(system).exists() else b""


def records(system):
    text = raw(system)
    marks = list(MARK.finditer(text))
    assert not marks and not text or marks[0].start() == 0, f"the log does not begin with a mark: {text[:200]!r}"
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [Record(mark, text[mark.end():end]) for mark, end in zip(marks, ends)]


def said(system, side, session=None):
    """All that a side said, in order."""
    return b"".join(record.data for record in records(system)
                    if record.side == side and session in (None, record.session))


def notes(system):
    return [record.data.decode() for record in records(system) if record.side == "NOTE"]


def wait_said(system, side, what):
    wait_until(lambda: what in said(system, side), lambda: f"{what!r} not in the log:\n{raw(system)!r}\n{system.log_text()}")


def pimpstat(system, *arguments, become=()):
    run = subprocess.run([*become, BUILD / "pimpstat", "-f", system.conf, *arguments], capture_output=True,
                         timeout=process.DEADLINE, check=False, env=system.environment())
    return run.returncode, run.stdout.decode(), run.stderr.decode()


def trace(system, user):
    assert pimpstat(system, "--trace", user) == (0, "", "")


def untrace(system, user):
    assert pimpstat(system, "--untrace", user) == (0, "", "")


def xproxy(system, command):
    """One command on a connection of its own: its tagged reply."""
    with system.client() as client:
        return client.command(command).tagged.decode()


def settled(system):
    """What all sessions have said until now stands in the log: a user more or less is traced only after that."""
    trace(system, "settled")
    untrace(system, "settled")


def idle_system(make, backend, **config):
    system = System(backend.port, enable_admin_commands="yes", **config)
    make.started.append(system)
    return system
