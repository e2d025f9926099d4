"""Which of several mail hosts gets a login, what becomes of connections when an account moves, directories that say
nothing, and how many hosts the broker remembers."""
import contextlib
import socket
import threading
import time

import pytest

from keepwarm import process
from keepwarm.directory import Userdb, at
from keepwarm.messages import REFUSAL_UNAVAILABLE, session
from keepwarm.process import free_port, wait_until

HOSTS_MOST = 4096  # cachebrokerd/host.h


@pytest.fixture
def hosts(make):
    return [make.backend() for _ in range(3)]


@pytest.fixture
def start(make, hosts):
    def started(options, **config):
        userdb = Userdb(**options)
        make.started.append(userdb)
        system = make.system(hosts[0], **{"server_port": free_port(), "connect_retries": 0, "directory": [userdb],
                                        "lookup_negative_ttl": 0, **config})
        system.userdb = userdb
        return system
    return started


def users(host):
    return [login.user for login in host.logins]


def counts(hosts):
    return [len(host.logins) for host in hosts]


def all_at(*hosts):
    return "mailhost=" + " ".join(map(at, hosts))


def reads_mail(client, user):
    client.ok("SELECT INBOX")
    assert f"<{user}>".encode() in client.ok("FETCH 1 BODY[]").text


# --- host_order -------------------------------------------------------------------------------------------
def test_in_order_the_first_host_gets_all(start, hosts):
    system = start({"anna": all_at(*hosts)}, cache_expiration_time=0)
    for _ in range(4):
        system.session("anna").close()
    assert counts(hosts) == [4, 0, 0]


def test_round_robin_spreads_new_connections_evenly(start, hosts):
    system = start({f"u{i}": all_at(*hosts) for i in range(6)}, host_order="round_robin", cache_expiration_time=0)
    for i in range(12):
        system.session(f"u{i % 6}").close()
    assert counts(hosts) == [4, 4, 4]


def test_accounts_with_overlapping_lists_spread_over_all_they_have(start, hosts):
    """A counter for each first host would send every second login of these two to the same host for ever."""
    system = start({"anna": all_at(hosts[0], hosts[1]), "bert": all_at(hosts[0], hosts[2])}, host_order="round_robin",
                   cache_expiration_time=0)
    for user in ("anna", "bert") * 6:
        system.session(user).close()
    assert min(counts(hosts)) >= 3, counts(hosts)
    assert "bert" not in users(hosts[1]) and "anna" not in users(hosts[2])


def test_round_robin_looks_for_what_is_cached_at_all_hosts_first(start, hosts):
    system = start({user: all_at(*hosts) for user in ("anna", "bert")}, host_order="round_robin")
    for user in ("anna", "bert"):
        system.session(user).logout()
        system.wait_given()
    for _ in range(3):
        for user in ("bert", "anna"):
            system.session(user, reused=True).logout()
            system.wait_given()
    assert sum(counts(hosts)) == 2


def test_round_robin_goes_on_evenly_with_those_that_answer(start, hosts):
    system = start({"anna": all_at(*hosts)}, host_order="round_robin", cache_expiration_time=0, host_retry=600)
    hosts[1].deaf()
    for _ in range(8):
        with system.session("anna") as client:
            reads_mail(client, "anna")
    assert counts(hosts) == [4, 0, 4]


def test_a_reload_takes_host_order(start, hosts):
    system = start({"anna": all_at(*hosts)}, cache_expiration_time=0)
    system.session("anna").close()
    system.write_config(host_order="round_robin")
    system.supervisor.send_signal(1)
    system.wait_log("taken over")
    for _ in range(6):
        system.session("anna").close()
    assert sorted(counts(hosts)) == [2, 2, 3]


# --- an account that moves ----------------------------------------------------------------------------------
def open_logins(host):
    return [login.user for login in host.logins if not login.conn.closed.is_set()]


def log_in(system, user):
    with system.client() as client:
        return client.login(user, f"pw-{user}").ok


def test_a_moved_account_leaves_nothing_at_its_old_host(start, hosts):
    system = start({user: all_at(hosts[0]) for user in ("anna", "bert")}, lookup_ttl=1)
    running = system.session("anna")
    for user in ("anna", "bert"):
        system.session(user).logout()
        system.wait_given()
    rewrite(system, anna=all_at(hosts[1]))
    system.session("anna", reused=False).close()
    assert users(hosts[1]) == ["anna"]
    wait_until(lambda: open_logins(hosts[0]) == ["anna", "bert"], lambda: f"{open_logins(hosts[0])} are open")
    system.wait_counter("flushed", 1)
    running.ok("NOOP")
    running.logout()
    wait_until(lambda: open_logins(hosts[0]) == ["bert"], "what the session gave back is cached at the old host")
    system.session("bert", reused=True).close()


def test_of_an_account_with_several_hosts_only_what_has_left_the_route_is_closed(start, hosts):
    system = start({"anna": all_at(hosts[0], hosts[1])}, lookup_ttl=1, host_order="round_robin")
    clients = [system.session("anna") for _ in range(2)]
    for client in clients:
        client.logout()
        system.wait_given()
    assert counts(hosts[:2]) == [1, 1]
    rewrite(system, anna=all_at(hosts[2], hosts[1]))
    system.session("anna", reused=True).close()
    wait_until(lambda: not open_logins(hosts[0]), "it is open at the host that is not in the route")
    assert (counts(hosts), len(open_logins(hosts[1]))) == ([1, 1, 0], 1)


def test_an_account_that_is_gone_leaves_nothing(start, hosts):
    system = start({user: all_at(hosts[0]) for user in ("anna", "bert")}, lookup_ttl=1)
    system.session("anna").logout()
    system.wait_given()
    rewrite(system, anna=None)
    assert not log_in(system, "anna")
    wait_until(lambda: not open_logins(hosts[0]), "it is open")


def rewrite(system, **options):
    """The directory says something else, and nothing is believed of before."""
    began = time.monotonic()
    times = system.log_text().count("was read again")
    system.userdb.write(**options)
    wait_until(lambda: not log_in(system, "nobody") and system.log_text().count("was read again") > times,
               lambda: system.log_text())
    wait_until(lambda: time.monotonic() - began > 1.1, "lookup_ttl")


# --- a directory that says nothing -----------------------------------------------------------------------
@pytest.mark.parametrize("timeout, directory", [(1, True), (2, True), (1, False)])
def test_what_a_silent_directory_said_before_is_good_in_time(start, hosts, timeout, directory):
    """Also when the names of hosts would have to be looked up again: the same processes do that. When each of the two has
    kept a login waiting, nobody waits any more."""
    others = {} if directory else {"directory": None, "server_port": hosts[0].port}
    system = start({"anna": all_at(hosts[0])}, lookup_ttl=1, connect_timeout=timeout, cache_expiration_time=0, **others)
    system.session("anna").close()
    with process.frozen(*system.pids("lookupd")):
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 1.1, "lookup_ttl")
        for limit in (16, 16, 5):
            began = time.monotonic()
            with system.client() as client:
                client.send('a1 LOGIN "anna" "pw-anna"\r\n')
                assert client.reply(b"a1", deadline=limit).ok
            assert time.monotonic() - began < limit
    wait_until(lambda: log_in(system, "anna"), "it has not found its word again")
    assert f"mail host {at(hosts[0])} does not answer" not in system.log_text(), "the mail host was blamed"


# --- many hosts --------------------------------------------------------------------------------------------
class Everywhere:
    """Accepts connections to any address of this machine, and says nothing."""

    def __init__(self):
        self.listening = socket.create_server(("0.0.0.0", 0), backlog=1024)
        self.port = self.listening.getsockname()[1]
        self.connections = []
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                self.connections.append(self.listening.accept()[0])

    def stop(self):
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def everywhere(make):
    place = Everywhere()
    make.started.append(place)
    return place


def address(i):
    return f"127.1.{i // 250}.{i % 250 + 1}"


def test_hosts_of_strangers_choosing_are_forgotten(start, everywhere):
    count = 5000
    system = start({f"u{i}": f"mailhost={address(i)}:{everywhere.port}" for i in range(count)}, max_clients=50000)
    for i in range(count):
        with session(system) as peer:
            reply = peer.ask_lease(user=f"u{i}")
            assert reply.name == "LEASED", reply
            reply.sock.close()
    wait_until(lambda: 0 < len(system.stats()["hosts"]) <= HOSTS_MOST, lambda: f"{len(system.stats()['hosts'])} hosts")
    assert system.log_text().count("mail hosts are in use") == 0
    with session(system) as peer:
        assert peer.lease(user="u0").host == address(0).encode()


def test_when_all_are_in_use_another_one_is_refused_clearly(start, everywhere):
    system = start({f"u{i}": f"mailhost={address(i)}:{everywhere.port}" for i in range(HOSTS_MOST + 2)}, cache_size=9000,
                   max_clients=50000)
    peers = []
    for i in range(HOSTS_MOST + 2):
        peer = session(system)
        reply = peer.ask_lease(user=f"u{i}")
        if reply.name == "REFUSED":
            break
        reply.sock.close()
        peers.append(peer)
    assert (reply.reason, reply.text) == (REFUSAL_UNAVAILABLE, b"there is no room for another mail host")
    assert HOSTS_MOST - 2 <= len(peers) <= HOSTS_MOST
    system.wait_log("4096 mail hosts are in use at once")
    assert peer.request("LEASE", proof_kind=1, user="u1", secret="pw").name == "LEASED"
    peers[0].sock.close()
    def goes():
        with session(system) as one:
            return one.ask_lease(user=f"u{HOSTS_MOST + 1}").name == "LEASED"
    wait_until(goes, "there is no room again")
    for one in peers:
        one.sock.close()
