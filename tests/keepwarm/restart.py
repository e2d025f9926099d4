"""A planned restart of the broker: SIGTERM to it alone, and the supervisor starts the next one."""
import functools
import os
import signal
import threading

from keepwarm.process import wait_until
from keepwarm.system import BUILD, stage, temp_folder


def broker(system):
    """The broker's process, as soon as there is one."""
    return wait_until(lambda: next(iter(system.pids("cachebrokerd")), None), lambda: f"no broker:\n{system.log_text()}")


def taken(system):
    """How many brokers have said what they have taken over from the one before."""
    return system.log_text().count("are gone on with")


def restart(system, number=signal.SIGTERM):
    """Ends the broker and waits until the next one has taken over what this one has left."""
    old, before = broker(system), taken(system)
    os.kill(old, number)
    wait_until(lambda: taken(system) > before, lambda: f"nothing is taken over:\n{system.log_text()}")
    assert broker(system) != old


def reload(system, **changes):
    """Another configuration, until the broker has it."""
    before = system.log_text().count("taken over")
    system.write_config(**changes)
    system.supervisor.send_signal(signal.SIGHUP)
    wait_until(lambda: system.log_text().count("taken over") > before, "the broker reads nothing")


class Load:
    """Clients that log in, look at their mail and log out, until they are told to stop."""

    def __init__(self, system, clients, users, dialogue):
        self.system = system
        self.dialogue = dialogue
        self.sessions = [0] * clients
        self.problems = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(n, f"user{n % users}"), daemon=True)
                        for n in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def run(self, number, user):
        while not self.over.is_set() and not self.problems:
            try:
                self.dialogue(self.system, user)
                self.sessions[number] += 1
            except (OSError, AssertionError) as problem:
                self.problems.append(f"client {number}: {type(problem).__name__}: {problem}")

    def wait_round(self, rounds=1):
        """Every client has had so many further sessions, or there is a problem."""
        wanted = [count + rounds for count in self.sessions]
        wait_until(lambda: self.problems or all(have >= want for have, want in zip(self.sessions, wanted)),
                   lambda: f"the load stands still: {self.sessions}\n{self.system.log_text()}")
        assert not self.problems, self.problems


# In front of the real program: does to what the broker before has left what a file beside the configuration says.
TAMPER = """#!/usr/bin/python3
import fcntl, os, random, socket, sys

def cut(data):
    del data[-5:]

def empty(data):
    data.clear()

def garbage(data):
    data[16:] = os.urandom(len(data) - 16)

def flip(data):
    for _ in range(len(data) // 50):
        data[random.randrange(16 + 4 + 8 + 32, len(data))] ^= 1 << random.randrange(8)

def other_version(data):
    data[8] += 1

def other_messages(data):
    data[12] += 1

def nothing(data):
    pass

def swap(fd, other):
    os.dup2(other, fd, inheritable=True)

names = os.environ.get("LISTEN_FDNAMES", "").split(":")
path = os.path.join(os.path.dirname(sys.argv[sys.argv.index("-f") + 1]), "tamper")
how = open(path).read().split() if os.path.exists(path) else []
if how and "packkey" in names:
    sockets, text = (3 + names.index(name) for name in ("pack", "packkey"))
    data = bytearray(os.pread(text, os.fstat(text).st_size, 0))
    seals = fcntl.fcntl(text, 1034)
    print("tamper: seals", seals, "found", [word for word in how[1:] if word.encode() in data], file=sys.stderr, flush=True)
    if how[0] == "other_socket":
        swap(sockets, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)[0].detach())
    elif how[0] == "no_sockets":
        swap(sockets, os.open("/dev/null", os.O_RDONLY))
        os.environ["LISTEN_FDNAMES"] = ":".join("nothing" if name == "pack" else name for name in names)
    elif how[0] == "less_sockets":
        taken = socket.socket(fileno=os.dup(sockets)).recvmsg(4, 2048, socket.MSG_CMSG_CLOEXEC)
    elif how[0] == "own_config":  # the one that the supervisor has read stays what it is
        os.environ["LISTEN_FDNAMES"] = ":".join("nothing" if name == "config" else name for name in names)
    elif how[0] != "look":
        globals().get(how[0], nothing)(data)
        fresh = os.memfd_create("keepwarm-pack", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.write(fresh, data)
        if how[0] != "unsealed":
            fcntl.fcntl(fresh, 1033, seals)
        swap(text, fresh)
os.execv(REAL, ["cachebrokerd", *sys.argv[1:]])
"""


@functools.cache
def tampering_binaries():
    """The programs, with tamper() in front of the broker."""
    path = temp_folder() / "cachebrokerd"
    path.write_text(TAMPER.replace("REAL", repr(str(BUILD / "cachebrokerd"))))
    path.chmod(0o755)
    return stage(cachebrokerd=path)


def tamper(system, how):
    """From now on this is done to what a broker leaves: the name of a function of TAMPER, and words to look for."""
    (system.folder / "tamper").write_text(how)
