"""dns_rr: a mail host with several addresses. A name that has some is made with a file over /etc/hosts, which
only root can put there, for the programs under test alone."""
import os
import time

import pytest

from keepwarm.process import wait_until

ADDRESSES = ("127.0.0.3", "127.0.0.4", "127.0.0.5")
NAME = "several.keepwarm.test"

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a name several addresses")


@pytest.fixture
def hosts(make):
    """The same mail host on three addresses, one port."""
    first = make.backend(address=ADDRESSES[0])
    return [first, *(make.backend(address=address, port=first.port) for address in ADDRESSES[1:])]


@pytest.fixture
def start(make, hosts, tmp_path):
    table = tmp_path / "hosts"
    table.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {NAME}\n" for address in ADDRESSES))
    table.chmod(0o644)
    prefix = ("unshare", "--mount", "sh", "-c", f'mount --bind {table} /etc/hosts && exec "$0" "$@"')

    def started(**config):
        settings = {"cache_expiration_time": 0, "server_hostname": NAME, **config}
        system = make.system(hosts[0], prefix=prefix, **settings)
        wait_until(lambda: sum(len(host.accepted) for host in hosts) == 1, "the host was not looked at")
        return system
    return started


def log_in(system, times):
    for _ in range(times):
        with system.session() as client:
            assert client.command("LOGOUT").ok


def logins(hosts):
    return [len(host.logins) for host in hosts]


def test_addresses_are_used_in_turn(start, hosts):
    system = start(dns_rr="yes")
    log_in(system, 9)
    assert logins(hosts) == [3, 3, 3]


def test_without_it_the_first_one_is_used(start, hosts):
    system = start()
    log_in(system, 4)
    assert sorted(logins(hosts)) == [0, 0, 4]


def test_a_dead_address_costs_no_login(start, hosts):
    system = start(dns_rr="yes", host_retry=60)
    hosts[1].deaf()
    log_in(system, 9)
    assert logins(hosts)[1] == 0
    assert sum(logins(hosts)) == 9
    assert "does not answer" not in system.log_text(), "the host as a whole was taken for dead"


def test_one_that_swallows_connections_is_waited_for_once(start, hosts):
    """Each look at it costs connect_timeout: it is tried behind the others for host_retry."""
    system = start(dns_rr="yes", host_retry=60, connect_timeout=10)
    hosts[2].fill_backlog()
    begun = time.monotonic()
    log_in(system, 9)
    assert time.monotonic() - begun < 19.5, "more than one login has waited"
    assert logins(hosts)[2] == 0


def test_when_all_failed_a_moment_ago_all_are_tried_again(start, hosts):
    system = start(dns_rr="yes", host_retry=0, connect_retries=0)
    for host in hosts:
        host.deaf()
    with system.client() as client:
        assert client.login("anna", "pw-anna").tagged.startswith(b"NO [UNAVAILABLE]")
    hosts[2].listen()
    with system.session() as client:
        assert client.command("NOOP").ok
    assert logins(hosts) == [0, 0, 1]


def test_a_reload_takes_it(start, hosts):
    system = start()
    system.write_config(dns_rr="yes")
    system.supervisor.send_signal(1)
    system.wait_log("taken over")
    log_in(system, 6)
    assert logins(hosts) == [2, 2, 2]
