"""100,000 accounts in real directories, spread over three real Dovecots: random users arrive at the right one by IMAP and
POP3, also while a directory or a mail host is killed and comes back."""
import poplib
import random
import threading
import time

import pytest

from keepwarm import dovecot
from keepwarm.directory_real import Authlib, Mariadb, Postgres, Slapd
from keepwarm.imap import Client
from keepwarm.process import free_port
from keepwarm.system import SANITIZED

ACCOUNTS = 100_000
USERS = 2_000
THREADS = 6
ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
KINDS = [Slapd, Postgres, Mariadb, Authlib]

pytestmark = [pytest.mark.skipif(SANITIZED, reason="16,000 logins are for the programs as they are installed"),
              pytest.mark.skipif(bool(dovecot.missing("pop3")), reason=str(dovecot.missing("pop3")))]


def name_of(number):
    return f"user{number}@spread.test"


def host_of(number):
    return number % len(ADDRESSES)


@pytest.fixture(scope="module")
def chosen():
    return random.Random(7).sample(range(ACCOUNTS), USERS)


@pytest.fixture(scope="module")
def hosts(chosen):
    """A Dovecot at each address, which knows only its own users: whoever is sent to another one is refused."""
    ports = free_port(), free_port()
    started = []
    try:
        for index, address in enumerate(ADDRESSES):
            names = [name_of(number) for number in chosen if host_of(number) == index]
            started.append(dovecot.Dovecot(names, address=address, ports=ports).start())
        yield started
    finally:
        for host in started:
            host.stop()


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.kind)
def directory(request, hosts):
    if request.param.missing():
        pytest.skip(request.param.missing())
    made = request.param(("a.test", "b.test"), {
        name_of(number): f"mailhost={ADDRESSES[host_of(number)]}" for number in range(ACCOUNTS)})
    yield made
    made.stop()


@pytest.fixture
def system(make, hosts, directory):
    return make.system(hosts[0], directory=[directory.place], pop3_listen_port=free_port(),
                       pop3_server_port=hosts[0].pop3_port, no_mailhost="refuse", lookup_processes=4,
                       host_max_connections=300)  # Dovecot has 500 processes for them


def imap_login(system, number):
    with Client(system.port) as client:
        reply = client.login(name_of(number), dovecot.Dovecot.password(name_of(number)))
        return reply.ok or reply.tagged


def pop3_login(system, number):
    client = poplib.POP3("127.0.0.1", system.config["pop3_listen_port"], timeout=30)
    try:
        client.user(name_of(number))
        client.pass_(dovecot.Dovecot.password(name_of(number)))
        return True
    except poplib.error_proto as error:
        return error.args[0]
    finally:
        client.close()


def each_in_parallel(work, numbers):
    """work(number) for each; (number, answer) where the answer was not True."""
    rest, failed, lock = iter(numbers), [], threading.Lock()

    def run():
        while True:
            with lock:
                number = next(rest, None)
            if number is None:
                return
            try:
                answer = work(number)
            except Exception as problem:  # pylint: disable=broad-except
                answer = repr(problem)
            if answer is not True:
                with lock:
                    failed.append((number, answer))

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def test_every_user_arrives_by_imap_and_pop3(system, chosen):
    began = time.monotonic()
    for login in (imap_login, pop3_login):
        assert each_in_parallel(lambda number, login=login: login(system, number), chosen) == []
    print(f"{2 * len(chosen)} logins, {2 * len(chosen) / (time.monotonic() - began):.0f} a second")
    assert system.counter("logins_failed") == system.counter("logins_refused") == 0


class Load:
    """Logins of random users, by IMAP, until it ends; `done` is (time, answer) of each."""

    def __init__(self, system, numbers):
        self.system, self.numbers, self.ended, self.done = system, numbers, False, []
        self.threads = [threading.Thread(target=self.run, args=(seed,)) for seed in range(THREADS)]

    def run(self, seed):
        draw = random.Random(seed)
        while not self.ended:
            try:
                answer = imap_login(self.system, draw.choice(self.numbers))
            except Exception as problem:  # pylint: disable=broad-except
                answer = repr(problem)
            self.done.append((time.monotonic(), answer))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        for thread in self.threads:
            thread.join()

    def wait(self, good, deadline=40):
        """Until enough logins in a row were good (or not)."""
        began, at = time.monotonic(), len(self.done)
        while time.monotonic() < began + deadline:
            time.sleep(0.05)
            new = self.done[at:]
            if len(new) >= 20 and all((answer is True) == good for _, answer in new[-20:]):
                return next(when for when, _ in new[-20:]) - began
        raise AssertionError(f"not in {deadline} s: {self.done[-20:]}")


def honest(answers):
    """What did not work was called temporary, nothing was called a wrong password."""
    return [answer for answer in answers if answer is not True and not answer.startswith(b"NO [UNAVAILABLE]")]


def test_a_directory_that_is_killed_under_load_costs_no_known_user_anything(system, directory, chosen):
    known, unknown = chosen[:200], chosen[200:400]
    assert each_in_parallel(lambda number: imap_login(system, number), known) == []
    with Load(system, known) as load:
        load.wait(True)
        directory.halt()
        try:
            refused = [imap_login(system, number) for number in unknown[:5]]
            load.wait(True)
        finally:
            directory.go()
    assert [answer for _, answer in load.done if answer is not True] == []
    assert not honest(refused) and True not in refused
    began = time.monotonic()
    while imap_login(system, unknown[6]) is not True:
        assert time.monotonic() < began + 25, "the directory is back and not asked"
    print(f"{len(load.done)} logins of known users; the directory was used again after {time.monotonic() - began:.1f} s")


def test_a_mail_host_that_is_killed_under_load_takes_only_its_own_users(make, hosts, system, chosen):
    """And they are served again when it is back."""
    if "ldap" not in system.config["directory"][0]:
        pytest.skip("that is the broker's business, one directory shows it")
    there = [number for number in chosen if host_of(number) == 1][:200]
    elsewhere = [number for number in chosen if host_of(number) != 1][:200]
    with Load(system, there) as hit, Load(system, elsewhere) as others:
        hit.wait(True)
        hosts[1].halt()
        try:
            down = hit.wait(False)
            others.wait(True)
        finally:
            hosts[1].start()
        back = hit.wait(True)
    assert not honest(answer for _, answer in hit.done)
    assert [answer for _, answer in others.done if answer is not True] == []
    print(f"refused as unavailable within {down:.1f} s, served again within {back:.1f} s; "
          f"{len(others.done)} logins elsewhere")
