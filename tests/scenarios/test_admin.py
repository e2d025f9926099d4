"""XPROXY_ commands: the old answers, and who may ask."""
import os

import pytest

from keepwarm import trace
from keepwarm.messages import STALE, Door, Peer, session
from keepwarm.process import wait_until

VERSION, DUMP, NEWLOG, RESET, TRACE, TRACE_USER, UNTRACE_USER, TRACED = range(1, 9)  # enum msg_admin
DONE, DENIED, TAKEN, FAILED = range(1, 5)  # enum msg_report
COMMANDS = ["XPROXY_VERSION", "XPROXY_DUMPICC", "XPROXY_TRACE anna", "XPROXY_TRACE", "XPROXY_NEWLOG", "XPROXY_RESETCOUNTERS"]


@pytest.fixture
def admin(make, backend):
    return make.system(backend, enable_admin_commands="yes", max_errors=1000)


def rows(system):
    """What XPROXY_DUMPICC lists: {number: (user, state)}."""
    with system.client() as client:
        reply = client.ok("XPROXY_DUMPICC")
    words = [line.decode().split() for line in reply.untagged]
    assert all(word[:2] == ["*", "XPROXY_DUMPICC"] for word in words), reply
    return {int(word[2]): (word[3], word[4]) for word in words}


EXACT = [
    ("a1 XPROXY_VERSION", "* XPROXY_VERSION 0.1.0 [Keepwarm]\r\na1 OK Completed"),
    ("a1 xproxy_version extra", "* XPROXY_VERSION 0.1.0 [Keepwarm]\r\na1 OK Completed"),
    ("a1 XPROXY_DUMPICC", "a1 OK Completed"),
    ("a1 xproxy_dumpicc x y", "a1 OK Completed"),
    ("a1 XPROXY_NEWLOG", "a1 OK Logfile cleared"),
    ("a1 xproxy_newlog x", "a1 OK Logfile cleared"),
    ("a1 XPROXY_RESETCOUNTERS", "a1 OK Counters reset"),
    ("a1 XPROXY_TRACE", "a1 OK Tracing disabled"),
    ("a1 XPROXY_TRACE ", "a1 OK Tracing disabled"),
    ("a1 XPROXY_TRACE  nobody", "a1 OK Tracing disabled"),
    ("a1 XPROXY_TRACE no-such-user more", "a1 OK Tracing enabled for user no-such-user."),
    ("a1 xproxy_trace another", "a1 BAD Tracing already enabled for user no-such-user"),
    ("a1 XPROXY_TRACE no-such-user", "a1 BAD Tracing already enabled for user no-such-user"),
    ("a1 XPROXY_TRACE", "a1 OK Tracing disabled"),
    ("a1 XPROXY_TRACE " + "u" * 300, "a1 OK Tracing enabled for user " + "u" * 255 + "."),
    ("a1 XPROXY_TRACE", "a1 OK Tracing disabled"),
    ("a1 XPROXY_TRACE " + "u" * 8000, "a1 OK Tracing enabled for user " + "u" * 255 + "."),
    ("a1 XPROXY_TRACE " + "u" * 10000, "a1 BAD Line too long"),
    ("a1 XPROXY_FOO", "a1 BAD Please login first"),
]


def test_the_answers_are_the_old_ones_byte_for_byte(admin):
    with admin.client() as client:
        for sent, answer in EXACT:
            client.send(sent + "\r\n")
            client.expect_exact(answer + "\r\n")
        client.send("a2 NOOP\r\n")
        client.expect_exact("a2 OK Completed\r\n")


def test_after_login_they_are_the_mail_hosts_affair(admin):
    with admin.session() as client:
        assert client.command("XPROXY_VERSION").tagged == b"BAD Unknown command XPROXY_VERSION"


@pytest.mark.parametrize("config", [{}, {"enable_admin_commands": "no"},
                                    {"enable_admin_commands": "yes", "admin_addresses": "192.0.2.0/24 ::1"},
                                    {"enable_admin_commands": "yes", "admin_addresses": "none"}],
                         ids=["unset", "off", "foreign", "none"])
def test_who_may_not_hears_what_the_old_program_said(make, backend, config):
    system = make.system(backend, max_errors=1000, **config)
    system.session().logout()
    system.wait_given()
    for command in COMMANDS:
        assert trace.xproxy(system, command) == "BAD Unrecognized command"
    assert system.counter("logins") == 1
    assert trace.raw(system) == b""


def test_a_reload_turns_them_on_and_off(make, backend):
    system = make.system(backend)
    for value, answer in (("yes", "OK Completed"), ("no", "BAD Unrecognized command")):
        system.write_config(enable_admin_commands=value)
        system.supervisor.send_signal(1)
        wait_until(lambda: trace.xproxy(system, "XPROXY_VERSION") == answer, f"no {answer}")


# --- a session's process that was taken over ------------------------------------------------------------
def test_the_broker_itself_asks_who_may(make, backend):
    system = make.system(backend)
    peer = session(system)
    for kind in (VERSION, DUMP, NEWLOG, RESET, TRACE):
        assert peer.request("ADMIN", kind=kind, argument=b"anna").result == DENIED
    peer = Peer(system).hello(client="127.0.0.1")
    assert peer.request("ADMIN", kind=VERSION).result == DENIED


def test_what_a_session_says_of_its_address_counts_as_it_came_in(make, backend):
    system = make.system(backend, enable_admin_commands="yes", admin_addresses="192.0.2.1")
    assert session(system).request("ADMIN", kind=VERSION).result == DONE
    assert Peer(system).hello(client="192.0.2.2").request("ADMIN", kind=VERSION).result == DENIED
    assert Peer(system).hello(client="local").request("ADMIN", kind=VERSION).result == DENIED


def asks(door, address):
    def act():
        with door.knock(client=address) as peer:
            return peer.request("ADMIN", kind=VERSION).result
    return act


def test_who_comes_again_through_the_door_has_no_better_address(make, backend):
    """The second time its client may have told it what to say."""
    system = make.system(backend, enable_admin_commands="yes", admin_addresses="192.0.2.1")
    mine, others = "192.0.2.1", "192.0.2.2"
    with Door(system) as door:
        assert door.ask_in_a_process(asks(door, mine)) == [DONE]
        assert door.ask_in_a_process(asks(door, others), asks(door, mine)) == [DENIED, DENIED]
        door.knock(client=others).sock.close()
        assert asks(door, mine)() == DENIED  # older than the broker: it may have been with one before


@pytest.mark.parametrize("kind", [TRACE_USER, UNTRACE_USER, TRACED, 0, 99])
def test_what_is_for_the_admin_socket_is_not_for_sessions(admin, kind):
    peer = session(admin)
    peer.push("ADMIN", serial=1, kind=kind, argument=b"anna")
    peer.expect_cut_off()


def test_a_session_with_a_lease_asks_no_more(admin):
    peer = session(admin)
    peer.lease()
    peer.push("ADMIN", serial=9, kind=VERSION)
    peer.expect_cut_off()


# --- the admin socket -----------------------------------------------------------------------------------
def test_the_admin_socket_is_root_s_alone(admin):
    status = os.stat(admin.run_directory / "admin")
    assert (status.st_mode & 0o777, status.st_uid) == (0o600, os.geteuid())
    if os.geteuid() == 0:
        admin.conf.chmod(0o644)
        code, _, error = trace.pimpstat(admin, "--traced", become=["setpriv", "--reuid=nobody", "--regid=nogroup",
                                                                   "--clear-groups"])
        assert code == 1 and "no permission" in error


def test_who_connects_to_it_is_asked_of_the_kernel(admin):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    (admin.run_directory / "admin").chmod(0o666)
    code, _, error = trace.pimpstat(admin, "--traced", become=["setpriv", "--reuid=1", "--regid=1", "--clear-groups"])
    assert code == 1 and "refuses" in error, error
    admin.wait_log("admin socket: refused")


@pytest.mark.parametrize("name", ["HELLO", "LEASE", "WORKER", "LISTENER", "KNOCK"])
def test_other_roles_say_nothing_there(admin, name):
    peer = Peer(admin, "admin")
    peer.push(name, serial=1)
    peer.expect_cut_off()


def test_pimpstat_traces_any_number_of_users_beside_xproxy_trace(admin):
    trace.trace(admin, "bert")
    trace.trace(admin, "carla")
    assert trace.xproxy(admin, "XPROXY_TRACE anna") == "OK Tracing enabled for user anna."
    assert trace.xproxy(admin, "XPROXY_TRACE bert") == "BAD Tracing already enabled for user anna"
    code, out, _ = trace.pimpstat(admin, "--traced")
    assert code == 0
    assert sorted((line.split()[0], line.split()[2]) for line in out.splitlines()) == [
        ("user=anna", "by=XPROXY_TRACE"), ("user=bert", "by=pimpstat"), ("user=carla", "by=pimpstat")]
    assert trace.xproxy(admin, "XPROXY_TRACE") == "OK Tracing disabled"
    assert "anna" not in trace.pimpstat(admin, "--traced")[1]
    trace.untrace(admin, "bert")
    assert trace.pimpstat(admin, "--untrace", "bert") == (1, "", "pimpstat: bert: this user is not traced\n")
    assert [line.split()[0] for line in trace.pimpstat(admin, "--traced")[1].splitlines()] == ["user=carla"]


def test_so_many_users_are_traced_and_no_more(admin):
    for i in range(64):
        trace.trace(admin, f"user{i}")
    code, _, error = trace.pimpstat(admin, "--trace", "one-more")
    assert code == 1 and "too many users" in error
    assert trace.xproxy(admin, "XPROXY_TRACE one-more") == "NO internal server error"
    assert len(trace.pimpstat(admin, "--traced")[1].splitlines()) == 64


@pytest.mark.parametrize("arguments", [["--trace"], ["--trace", ""], ["--trace", "x", "--untrace", "y"],
                                       ["--trace", "x", "--json"], ["--trace", "x", "more"], ["--trace", "x" * 256]])
def test_pimpstat_says_how_it_is_used(admin, arguments):
    code, out, error = trace.pimpstat(admin, *arguments)
    assert (code, out) == (2, "") and "usage" in error


# --- DUMPICC --------------------------------------------------------------------------------------------
def test_dumpicc_lists_what_is_in_use_and_what_is_cached(admin):
    one, two = admin.session("anna"), admin.session("bert")
    wait_until(lambda: len(admin.stats()["sessions"]) == 2, "two sessions are not in the state file")
    numbers = {entry["user"]: entry["id"] for entry in admin.stats()["sessions"]}
    assert rows(admin) == {numbers["anna"]: ("anna", "Active"), numbers["bert"]: ("bert", "Active")}
    one.logout()
    admin.wait_given()
    listed = rows(admin)
    assert sorted(listed.values()) == [("anna", "Cached"), ("bert", "Active")]
    assert listed[numbers["bert"]] == ("bert", "Active")
    two.logout()


def test_a_login_that_goes_on_is_not_listed(admin):
    with admin.client():
        assert rows(admin) == {}


def test_a_user_s_name_cannot_forge_a_line(make):
    backend = make.backend()
    backend.passwords = {'a b" Cached\r\n* XPROXY_DUMPICC 1 root Active': b"pw"}
    system = make.system(backend, enable_admin_commands="yes")
    name = next(iter(backend.passwords))
    with system.session(name, "pw", "plain"):
        with system.client() as client:
            reply = client.ok("XPROXY_DUMPICC")
    assert len(reply.untagged) == 1
    assert b'"a b\\" Cached\\x0d\\x0a* XPROXY_DUMPICC 1 root Active" Active\r\n' in reply.untagged[0]


@pytest.mark.parametrize("length", [1, 200])
def test_a_long_dump_comes_in_pages(make, length):
    users = [f"{'u' * length}{i}" for i in range(120)]
    backend = make.backend()
    system = make.system(backend, enable_admin_commands="yes", cache_size=200)
    clients = [system.session(user) for user in users]
    listed = rows(system)
    assert sorted(user for user, _ in listed.values()) == sorted(users)
    assert list(listed) == sorted(listed)
    for client in clients:
        client.close()


def test_a_dumper_that_does_not_read_holds_up_nobody(make):
    backend = make.backend()
    system = make.system(backend, enable_admin_commands="yes")
    clients = [system.session("u" * 250 + str(i)) for i in range(20)]
    with system.client() as lazy:
        lazy.send("d XPROXY_DUMPICC\r\n" * 2000)
        system.session("anna").logout()
        lazy.reset()
    for client in clients:
        client.close()


# --- RESETCOUNTERS --------------------------------------------------------------------------------------
def test_resetcounters_begins_anew_and_keeps_what_is_now(admin):
    admin.forget_start()
    held = admin.session("anna")
    admin.session("bert").logout()
    admin.wait_given()
    admin.wait_clients(1)
    admin.wait_counter("logins", 2)
    assert trace.xproxy(admin, "XPROXY_RESETCOUNTERS") == "OK Counters reset"
    admin.wait_counter("logins", 0)
    stats = admin.stats()
    assert stats["counters"]["clients"] <= 1  # the one that asked came before
    assert stats["gauges"]["active"] == 1 and stats["peaks"]["active"]["value"] == 1
    assert sum(stats["ends"].values()) <= 1
    held.ok("NOOP")
    held.logout()


def test_a_login_that_is_taken_back_behind_it_leaves_no_debt(admin):
    admin.session("anna").logout()
    admin.wait_cached(1)
    with session(admin) as peer:
        assert peer.lease(user="anna").cached
        admin.wait_counter("logins_reused", 1)
        assert trace.xproxy(admin, "XPROXY_RESETCOUNTERS") == "OK Counters reset"
        peer.outcome(STALE)
        admin.wait_counter("stale", 1)
    stats = admin.stats()
    assert (stats["counters"]["logins"], stats["counters"]["logins_reused"]) == (0, 0)
    assert [host["logins_reused"] for host in stats["hosts"]] == [0]
