"""A planned restart of the broker: SIGTERM to it alone, and the supervisor starts the next one."""
import os
import signal
import threading

from keepwarm.process import wait_until


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
