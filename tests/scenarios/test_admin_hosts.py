"""What an administrator does with mail hosts and users: pimpstat --drain, --pause, --resume, --flush, --flush-user,
--kick; and what the figures say of hosts."""
import os
import signal

import pytest

from keepwarm import pop3, trace
from keepwarm.directory import Userdb, at
from keepwarm.messages import Peer, session
from keepwarm.process import free_port, read_proc, wait_until

DRAIN, PAUSE, RESUME, FLUSH_HOST, FLUSH_USER, KICK_USER = range(9, 15)  # enum msg_admin
KINDS = (DRAIN, PAUSE, RESUME, FLUSH_HOST, FLUSH_USER, KICK_USER)


@pytest.fixture
def hosts(make):
    return [make.backend() for _ in range(2)]


@pytest.fixture
def start(make, hosts):
    """anna is on both hosts, bert on the first only, carl on the second only."""
    def started(**config):
        userdb = Userdb(anna=f"mailhost={at(hosts[0])} {at(hosts[1])}", bert=f"mailhost={at(hosts[0])}",
                        carl=f"mailhost={at(hosts[1])}")
        make.started.append(userdb)
        config.setdefault("directory", [userdb])
        system = make.system(hosts[0], **config)
        system.userdb = userdb
        return system
    return started


def order(system, verb, what, status=0):
    """What pimpstat prints; with another exit status, its complaint."""
    code, out, error = trace.pimpstat(system, f"--{verb}", what)
    assert code == status, (code, out, error)
    return error if status else out


def refused(system, user, code=b"UNAVAILABLE"):
    with system.client() as client:
        reply = client.login(user, f"pw-{user}")
        assert reply.tagged.startswith(b"NO [" + code), reply


def cache_one(system, user):
    system.session(user).logout()
    system.wait_given()


def state_of(system, label):
    return {host["host"]: host["state"] for host in system.stats()["hosts"]}.get(label)


def wait_state(system, label, state):
    wait_until(lambda: state_of(system, label) == state, lambda: f"{label} is not {state}: {system.stats()['hosts']}")


def open_logins(host):
    return [login.user for login in host.logins if not login.conn.closed.is_set()]


def verbs_of(host):
    return [conn.verbs() for conn in host.connections]


# --- mail hosts -----------------------------------------------------------------------------------------
def test_a_drained_host_gets_no_session_and_keeps_those_it_has(start, hosts):
    system = start()
    running = system.session("bert")
    cache_one(system, "anna")
    assert open_logins(hosts[0]) == ["bert", "anna"]
    assert order(system, "drain", at(hosts[0])) == "drained: 1 known host, 1 connection closed\n"
    wait_until(lambda: open_logins(hosts[0]) == ["bert"], "the cached connection is open")
    assert any(verbs[-1] == "LOGOUT" for verbs in verbs_of(hosts[0])), "it was not logged out"
    refused(system, "bert")
    system.session("anna", reused=False).close()
    assert [login.user for login in hosts[1].logins] == ["anna"]
    running.ok("NOOP")
    running.logout()
    wait_until(lambda: not open_logins(hosts[0]), "what a session gave back was cached")
    assert len(hosts[0].logins) == 2
    assert order(system, "resume", at(hosts[0])).startswith("resumed: 1 known host,")
    system.session("bert", reused=False).close()


def test_a_paused_host_keeps_what_is_cached_for_later(start, hosts):
    system = start()
    running = system.session("anna")
    cache_one(system, "bert")
    assert order(system, "pause", at(hosts[0])) == "paused: 1 known host, 0 connections closed\n"
    refused(system, "bert")
    system.session("anna", reused=False).close()
    assert len(hosts[1].logins) == 1
    running.ok("NOOP")
    running.logout()
    system.wait_given()
    assert sorted(open_logins(hosts[0])) == ["anna", "bert"]
    refused(system, "bert")
    order(system, "resume", at(hosts[0]))
    for user in ("bert", "anna"):
        system.session(user, reused=True).close()


def test_spare_connections_go_from_a_drained_host_and_stay_away(start, hosts):
    system = start(spare_backend_connections=2)
    system.session("bert").close()
    wait_until(lambda: system.gauge("spares") == 2, "no spares")
    order(system, "drain", "127.0.0.1")
    wait_until(lambda: system.gauge("spares") == 0, "spares are left")
    accepted = len(hosts[0].accepted)
    refused(system, "bert")
    assert (system.gauge("spares"), len(hosts[0].accepted)) == (0, accepted)
    order(system, "resume", "127.0.0.1")
    wait_until(lambda: system.gauge("spares") == 2, "no spares after that")


def is_dialling(host):
    """Does somebody wait for an answer to SYN?"""
    rows = [line.split() for line in read_proc("net", "tcp").decode().splitlines()[1:]]
    return any(row[3] == "02" and int(row[2].rpartition(":")[2], 16) == host.port for row in rows)


def test_a_login_that_is_being_dialled_does_not_reach_a_host_drained_meanwhile(start, hosts):
    system = start(connect_timeout=20)
    hosts[0].fill_backlog()
    with system.client() as client:
        client.send("a1 LOGIN anna pw-anna\r\n")
        wait_until(lambda: is_dialling(hosts[0]), "it is not dialled")
        order(system, "drain", at(hosts[0]))
        hosts[0].accept_again()
        client.expect(rb"a1 OK ")
    assert ([login.user for login in hosts[0].logins], [login.user for login in hosts[1].logins]) == ([], ["anna"])


@pytest.mark.parametrize("name", ["127.0.0.1", "LOCALHOST", "localhost:{}", "LocalHost"])
def test_a_host_is_named_with_or_without_port_in_any_case(make, hosts, name):
    system = make.system(hosts[0], server_hostname="localhost")
    system.session().close()
    known = name != "127.0.0.1"
    text = order(system, "drain", name.format(hosts[0].port))
    assert text.startswith("drained: 1 known host," if known else "drained: no mail host of this name is known yet,")
    if known:
        refused(system, "anna")
    else:
        system.session().close()
    assert order(system, "resume", name.format(hosts[0].port)).startswith("resumed: ")
    system.session().close()


def test_one_port_is_drained_apart_from_the_others(start, hosts):
    system = start()
    cache_one(system, "bert")
    cache_one(system, "carl")
    assert "1 known host, 1 connection" in order(system, "drain", at(hosts[0]))
    system.session("carl", reused=True).close()
    assert "whole" in order(system, "pause", "127.0.0.1") + order(system, "resume", at(hosts[0]), 1)
    refused(system, "carl")
    assert "resumed: 2 known hosts," in order(system, "resume", "127.0.0.1")
    for user in ("bert", "carl"):
        system.session(user).close()


def test_a_host_can_be_drained_before_anything_is_known_of_it(start, hosts):
    system = start(server_port=free_port())
    assert "no mail host of this name is known yet" in order(system, "drain", at(hosts[0]))
    wait_state(system, at(hosts[0]), "drain")
    refused(system, "bert")
    system.session("anna").close()
    assert not hosts[0].logins


def test_a_misspelt_name_does_not_go_unnoticed(start, hosts):
    system = start()
    system.session("anna").close()
    for verb, what, complaint in [("flush", "127.0.0.2", "no mail host of this name is known"),
                                  ("resume", "127.0.0.1", "no such mail host is drained or paused"),
                                  ("drain", "no/host", "this is no mail host's name"),
                                  ("drain", "a:b", "this is no mail host's name"),
                                  ("pause", "a:70000", "this is no mail host's name"),
                                  ("flush", "[::1", "this is no mail host's name")]:
        assert complaint in order(system, verb, what, 1)
    assert order(system, "flush-user", "nobody") == "flushed: 0 connections closed\n"
    assert order(system, "kick", "nobody") == "kicked: 0 connections closed, 0 sessions ended\n"


def test_so_many_hosts_are_held_and_no_more(start, hosts):
    system = start()
    with Peer(system, "admin") as peer:
        for i in range(64):
            assert peer.request("ADMIN", kind=PAUSE, argument=f"h{i}.example").result == 1
        reply = peer.request("ADMIN", kind=PAUSE, argument=b"one.more.example")
        assert (reply.result, b"too many" in reply.text) == (4, True)
        assert peer.request("ADMIN", kind=DRAIN, argument=b"h63.example").result == 1
        assert peer.request("ADMIN", kind=RESUME, argument=b"H5.example").result == 1
        assert peer.request("ADMIN", kind=DRAIN, argument=b"one.more.example").result == 1
    wait_until(lambda: len(system.stats()["orders"]) == 64, "not 64 orders")


def test_a_flush_closes_and_forgets_that_a_host_was_down(start, hosts):
    system = start(host_retry=600, connect_retries=0)
    cache_one(system, "bert")
    assert order(system, "flush", at(hosts[0])) == "flushed: 1 known host, 1 connection closed\n"
    wait_until(lambda: not open_logins(hosts[0]), "it is open")
    hosts[0].deaf()
    refused(system, "bert")
    hosts[0].listen()
    refused(system, "bert")
    order(system, "flush", at(hosts[0]))
    system.session("bert", reused=False).close()


def test_an_order_outlives_reload_broker_and_service(start, hosts):
    system = start()
    system.session("bert").close()
    order(system, "drain", at(hosts[0]))
    wait_state(system, at(hosts[0]), "drain")
    system.supervisor.send_signal(signal.SIGHUP)
    system.wait_log("taken over")
    refused(system, "bert")
    (broker,) = system.pids("cachebrokerd")
    os.kill(broker, signal.SIGKILL)
    wait_until(lambda: system.pids("cachebrokerd") not in ([], [broker]) and system.greets(), "no other broker")
    refused(system, "bert")
    system.stop_and_keep()
    system.start()
    refused(system, "bert")
    assert "1 known host" in order(system, "resume", at(hosts[0]))
    system.session("bert").close()


# --- users ----------------------------------------------------------------------------------------------
def test_a_flushed_user_has_nothing_in_the_cache_and_is_looked_up_again(start, hosts):
    system = start()
    running = system.session("anna")
    cache_one(system, "anna")
    cache_one(system, "bert")
    system.userdb.write(anna=f"mailhost={at(hosts[1])}")
    assert order(system, "flush-user", "anna") == "flushed: 1 connection closed\n"
    running.ok("NOOP")
    running.logout()
    wait_until(lambda: open_logins(hosts[0]) == ["bert"], "anna's are open")
    system.session("bert", reused=True).close()
    wait_until(lambda: moved(system, hosts[1]), lambda: system.log_text())


def moved(system, host):
    """lookupd looks at a changed file once a second."""
    order(system, "flush-user", "anna")
    system.session("anna", reused=False).close()
    return "anna" in [login.user for login in host.logins]


def test_a_kicked_user_s_sessions_end_and_nobody_else_s(start, hosts):
    system = start()
    bystander, one, two = (system.session(user) for user in ("bert", "anna", "anna"))
    cache_one(system, "anna")
    assert order(system, "kick", "anna") == "kicked: 1 connection closed, 2 sessions ended\n"
    for client in (one, two):
        client.expect(rb"\* BYE Session was ended by the administrator\r\n")
        client.expect_close()
    wait_until(lambda: open_logins(hosts[0]) == ["bert"], "a connection is left")
    bystander.ok("NOOP")
    wait_until(lambda: system.stats()["ends"]["kicked"] == 2, "not counted")
    system.wait_log("reason=kicked")
    system.session("anna", reused=False).close()


def test_a_user_with_many_sessions_is_kicked_in_one_go(start, hosts):
    system = start(spare_processes="8 64")
    many = [system.session("carl") for _ in range(150)]
    bystander = system.session("bert")
    assert order(system, "kick", "carl") == "kicked: 0 connections closed, 150 sessions ended\n"
    for client in many:
        client.expect(rb"\* BYE ")
        client.close()
    bystander.ok("NOOP")
    wait_until(lambda: not open_logins(hosts[1]), "connections are left")


def test_pop3_sessions_are_ended_too(make):
    host = pop3.Host()
    make.started.append(host)
    port = free_port()
    system = make.system(make.backend(), pop3_listen_port=port, pop3_server_port=host.port)
    with pop3.Client(port) as client:
        client.session("anna")
        assert "1 session ended" in order(system, "kick", "anna")
        client.expect_close()
    wait_until(lambda: system.stats()["ends"]["kicked"] == 1, "not counted")
    order(system, "drain", f"127.0.0.1:{host.port}")
    with pop3.Client(port) as client:
        assert b"-ERR [SYS/TEMP]" in client.login("anna")
    system.session("anna").close()


def test_sessions_of_before_a_broker_are_kicked(start):
    system = start()
    client = system.session("bert")
    (broker,) = system.pids("cachebrokerd")
    os.kill(broker, signal.SIGKILL)
    wait_until(lambda: system.pids("cachebrokerd") not in ([], [broker]) and system.greets(), "no new broker")
    wait_until(lambda: "1 session ended" in order(system, "kick", "bert"), "it has not come back")
    client.expect(rb"\* BYE ")


# --- who may, what is logged ------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_a_session_may_not(start, kind):
    system = start(enable_admin_commands="yes")
    peer = session(system)
    peer.push("ADMIN", serial=1, kind=kind, argument=b"127.0.0.1")
    peer.expect_cut_off()
    system.session("bert").close()
    assert not system.stats()["orders"]


def test_orders_are_logged_with_who_gave_them(start, hosts):
    system = start()
    order(system, "drain", "mail.example")
    order(system, "kick", 'x" uid=7\nforged')
    uid = os.geteuid()
    system.wait_log(f"administrator: uid={uid} order=drain host=mail.example: drained: no mail host")
    system.wait_log(f'administrator: uid={uid} order=kick user="x\\" uid=7\\x0aforged": kicked:')
    assert "\nforged" not in system.log_text()


@pytest.mark.parametrize("arguments", [["--drain"], ["--drain", ""], ["--drain", "a", "--pause", "b"], ["--kick", "x" * 256],
                                       ["--flush", "a", "more"]])
def test_a_wrong_command_line_does_nothing(start, arguments):
    system = start()
    code, out, error = trace.pimpstat(system, *arguments)
    assert (code, out) == (2, "") and "usage: pimpstat" in error
    assert not system.stats()["orders"]


# --- figures ----------------------------------------------------------------------------------------------
def test_the_figures_say_how_a_host_is(start, hosts):
    system = start(host_retry=600, connect_retries=0)
    system.session("bert").close()
    order(system, "pause", "Elsewhere.example")
    hosts[1].deaf()
    refused(system, "carl")
    wait_state(system, at(hosts[1]), "down")
    rows = {host["host"]: host for host in system.stats()["hosts"]}
    up, down = rows[at(hosts[0])], rows[at(hosts[1])]
    assert up["state"] == "up" and up["dials"] >= 1 and 0 < up["dial_ms"] < 10000 and up["error"] is None
    assert down["error"] == "Connection refused" and down["failed_at"] > 0 and down["dials_failed"] == 1
    assert rows["elsewhere.example"]["state"] == "pause"
    assert [(one["host"], one["order"]) for one in system.stats()["orders"]] == [("elsewhere.example", "pause")]
    page = trace.pimpstat(system, "-1")[1]
    assert "Connection refused" in page and " ms " in page and "elsewhere.example        pause" in page
