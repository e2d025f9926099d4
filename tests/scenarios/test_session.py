"""The session between login and logout: what passes, in what order, and how it ends."""
import os
import re

import pytest

from keepwarm.backend import CLOSE
from keepwarm.process import read_proc, wait_until
from keepwarm.system import SANITIZED

BODY = b"Subject: t\r\n\r\nx LOGOUT\r\nz9 LOGOUT\r\n* OK [XPROXYREUSE]\r\n"


@pytest.fixture(scope="module")
def scene(make_once):
    backend = make_once.backend()
    return backend, make_once.system(backend)


@pytest.fixture
def client(scene):
    with scene[1].session() as client:
        yield client


def stored(client):
    client.ok("SELECT INBOX")
    return client.ok("FETCH 1:* BODY[]").text


def test_pipelined_commands_stay_in_order(client):
    client.send("a1 NOOP\r\na2 SELECT INBOX\r\na3 FETCH 1 BODY[]\r\na4 NOOP\r\n")
    for tag in ("a1", "a2", "a3", "a4"):
        assert client.reply(tag).ok


def test_logout_behind_commands_gets_their_replies_first(scene, client):
    client.send("a1 NOOP\r\na2 SELECT INBOX\r\na3 FETCH 1 BODY[]\r\na4 LOGOUT\r\n")
    for tag in ("a1", "a2", "a3"):
        assert client.reply(tag).ok
    client.expect_exact("* BYE LOGOUT received\r\na4 OK Completed\r\n")
    client.expect_close()


def test_logout_behind_a_slow_command_waits_for_its_reply(make, backend):
    system = make.system(backend)
    gate = backend.gate("FETCH")
    with system.session() as client:
        client.send("a1 SELECT INBOX\r\na2 FETCH 1 BODY[]\r\na3 LOGOUT\r\n")
        assert client.reply("a1").ok
        gate.wait()
        gate.open()
        assert b"<anna>" in client.reply("a2").text
        client.expect_exact("* BYE LOGOUT received\r\na3 OK Completed\r\n")
        client.expect_close()


@pytest.mark.parametrize("line", ["z1 logout", "z1 LOGOUT now", "z1 LoGoUt"])
def test_logout_in_any_spelling(client, line):
    client.send(line + "\r\n")
    client.expect_exact("* BYE LOGOUT received\r\nz1 OK Completed\r\n")
    client.expect_close()


def test_logout_is_a_whole_word(client):
    client.send("a1 LOGOUTFOO\r\n")
    assert client.reply("a1").tagged.startswith((b"BAD ", b"NO "))
    client.ok("NOOP")


def test_what_comes_behind_logout_reaches_nobody(make, backend):
    system = make.system(backend)
    with system.session() as client:
        client.send("a1 LOGOUT\r\na2 CREATE after-logout\r\n")
        client.expect_exact("* BYE LOGOUT received\r\na1 OK Completed\r\n")
    system.wait_given()
    assert b"after-logout" not in backend.everything()


def test_a_synchronising_literal_is_data(client):
    client.send(b"a1 APPEND INBOX {%d}\r\n" % len(BODY))
    client.expect(rb"\+ [^\r\n]*\r\n")
    client.send(BODY + b"\r\n")
    assert client.reply("a1").ok
    assert BODY in stored(client)


def test_a_nonsync_literal_is_data(client):
    client.send(b"a1 APPEND INBOX {%d+}\r\n%s\r\na2 NOOP\r\n" % (len(BODY), BODY))
    assert client.reply("a1").ok
    assert client.reply("a2").ok
    assert BODY in stored(client)


def test_a_literal_behind_a_pipelined_command_is_data(client):
    client.send(b"a1 NOOP\r\na2 APPEND INBOX {%d}\r\n" % len(BODY))
    assert client.reply("a1").ok
    client.expect(rb"\+ [^\r\n]*\r\n")
    client.send(BODY + b"\r\n")
    assert client.reply("a2").ok


def test_untagged_data_before_the_continuation_does_not_confuse(make):
    backend = make.backend(before_continuation=b"* 7 EXISTS\r\n* OK [ALERT] hello\r\n")
    backend.before = "IMAP4rev1 SASL-IR AUTH=PLAIN"
    system = make.system(backend)
    with system.session() as client:
        client.send(b"a1 APPEND INBOX {%d}\r\n" % len(BODY))
        client.expect_exact("* 7 EXISTS\r\n* OK [ALERT] hello\r\n+ OK\r\n")
        client.send(BODY + b"\r\n")
        assert client.reply("a1").ok
        assert BODY in stored(client)
        client.logout()


def test_several_literals_in_one_command(client):
    client.send(b"a1 CREATE {3+}\r\nbox\r\n")
    assert client.reply("a1").ok
    client.send(b"a2 APPEND {3}\r\n")
    client.expect(rb"\+ [^\r\n]*\r\n")
    client.send(b"box (\\Seen) {5}\r\n")
    client.expect(rb"\+ [^\r\n]*\r\n")
    client.send(b"hello\r\n")
    assert client.reply("a2").ok


def test_a_binary_literal_passes(client):
    client.send(b"a1 APPEND INBOX ~{6+}\r\n\0\r\n\0\xff}\r\n")
    assert client.reply("a1").ok
    assert b"\0\r\n\0\xff}" in stored(client)


def test_an_empty_literal_passes(client):
    client.send(b"a1 APPEND INBOX {0+}\r\n\r\n")
    assert client.reply("a1").ok


def test_braces_in_quotes_are_no_literal(client):
    client.send('a1 CREATE "x{5}"\r\na2 NOOP\r\n')
    assert client.reply("a1").ok
    assert client.reply("a2").ok


def test_a_refused_literal_does_not_confuse(make, backend):
    """The mail host may answer a literal's announcement with NO: then no data follows."""
    system = make.system(backend)
    client = system.session()
    conn = backend.connections[0]

    def refuse(*_):
        line = conn.read_line()
        while b"APPEND" not in line:  # NOOP, when the connection was not waiting for it yet
            conn.send(line.split(b" ")[0] + b" OK done\r\n")
            line = conn.read_line()
        conn.read_command = original
        conn.send(line.split(b" ")[0] + b" NO [OVERQUOTA] not here\r\n")
        return original()

    original = conn.read_command
    conn.read_command = refuse
    client.ok("NOOP")  # the connection may wait in the old read_command until this
    client.send("a1 APPEND INBOX {100}\r\n")
    assert client.reply("a1").tagged == b"NO [OVERQUOTA] not here"
    client.ok("NOOP")
    client.logout()


def test_megabytes_pass_unchanged_in_both_directions(make, backend):
    system = make.system(backend)
    data = bytes(range(256)) * 4 * 3072
    with system.session() as client:
        client.send(b"a1 APPEND INBOX {%d+}\r\n" % len(data))
        client.send(data + b"\r\n")
        assert client.reply("a1").ok
        assert backend.mailboxes["anna"][b"INBOX"][1] == data
        client.ok("SELECT INBOX")
        lines = client.ok("FETCH 1:* BODY[]").untagged
        assert lines[1] == b"* 2 FETCH (UID 2 BODY[] {%d}\r\n%s)\r\n" % (len(data), data)


def test_a_long_command_line_passes(client):
    client.ok("SELECT INBOX")
    numbers = ",".join(str(n) for n in range(1, 30000))
    assert b"marker" in client.ok(f"UID FETCH {numbers} BODY[]").text


def test_idle_passes_news_and_ends_with_done(scene, client):
    client.ok("SELECT INBOX")
    client.send("a1 IDLE\r\n")
    client.expect_exact("+ idling\r\n")
    next(conn for conn in scene[0].open_connections() if conn.verbs()[-1:] == ["IDLE"]).push(b"* 5 EXISTS\r\n")
    client.expect_exact("* 5 EXISTS\r\n")
    client.send("DONE\r\n")
    assert client.reply("a1").ok
    client.ok("NOOP")


def test_idle_without_a_mailbox(client):
    client.send("a1 IDLE\r\n")
    client.expect_exact("+ idling\r\n")
    client.send("DONE\r\n")
    assert client.reply("a1").ok


@pytest.mark.parametrize("command", ["ID NIL", "XPROXY_VERSION"])
def test_commands_of_ours_go_to_the_mail_host_after_login(client, command):
    assert client.command(command).tagged.endswith(b"says the backend") or \
        b"Unknown command" in client.command(command).tagged


def test_a_mail_host_that_closes_ends_the_session(make, backend):
    system = make.system(backend)
    with system.session() as client:
        pid = system.pid_serving(client)
        backend.connections[0].drop()
        assert client.read_to_end()[:6] in (b"", b"* BYE ")
    system.wait_log("reason=backend-closed")
    backend.wait_for(lambda: pid not in system.pids("proxyd"), "the process stays")
    with system.session(reused=False) as client:
        client.ok("NOOP")


def test_a_bye_in_the_session_is_passed_on_and_ends_it(make, backend):
    system = make.system(backend)
    with system.session() as client:
        backend.connections[0].push(b"* BYE shutting down\r\n")
        backend.connections[0].drop()
        assert client.read_to_end().startswith(b"* BYE shutting down\r\n")
    with system.session(reused=False):
        pass


def test_a_mail_host_that_closes_in_mid_command_ends_the_session(make, backend):
    backend.answers["STATUS"] = CLOSE
    system = make.system(backend)
    with system.session() as client:
        client.send("a1 STATUS INBOX (MESSAGES)\r\n")
        assert b"a1 " not in client.read_to_end()
    system.wait_log("cached=backend-gone")


def test_many_commands_at_once_do_not_lock_up(scene):
    """More answers than all buffers hold, before the client reads the first."""
    text = b"x" * 20000
    scene[0].mailboxes["many"] = {b"INBOX": [text]}
    with scene[1].session("many") as client:
        client.ok("SELECT INBOX")
        client.send("".join(f"b{n} FETCH 1 BODY[]\r\n" for n in range(1000)))
        for n in range(1000):
            reply = client.reply(f"b{n}")
            assert reply.ok and text in reply.text


def keepalive_timers(near, far):
    """Does the connection from port near to port far have a keep-alive timer (proc_net_tcp: 02)? None: no such one."""
    with open("/proc/net/tcp", encoding="ascii") as file:
        for row in (line.split() for line in list(file)[1:]):
            local, remote, state = int(row[1].split(":")[1], 16), int(row[2].split(":")[1], 16), row[3]
            if state == "01" and near in (local, None) and far in (remote, None):
                return row[5].startswith("02:")
    return None


@pytest.mark.parametrize("value, alive", [("yes", True), ("no", False)])
def test_tcp_keepalives_are_as_the_key_says_on_both_sides(make, backend, value, alive):
    system = make.system(backend, send_tcp_keepalives=value)
    with system.session() as client:
        client.ok("NOOP")
        wait_until(lambda: keepalive_timers(system.port, client.port) is alive, "the client's side")
        wait_until(lambda: keepalive_timers(None, backend.port) is alive, "the mail host's side")


def private_kib(pid):
    """Memory that is this process's only."""
    text = read_proc(pid, "smaps_rollup").decode()
    return int(re.search(r"^Private_Dirty: +(\d+) kB", text, re.M)[1])


@pytest.mark.skipif(SANITIZED, reason="a sanitizer has memory of its own")
@pytest.mark.skipif(os.getuid() != 0, reason="only root may look into a session's process")
def test_a_session_at_rest_gives_its_buffers_back(make, backend):
    backend.mailboxes["anna"] = {b"INBOX": [b"Subject: large\r\n\r\n" + b"x" * 100000]}
    system = make.system(backend)
    with system.session() as client:
        client.ok("SELECT INBOX")
        pid = system.pid_serving(client)
        wait_until(lambda: private_kib(pid) < 60, lambda: f"at rest it has {private_kib(pid)} KiB")
        at_rest = private_kib(pid)

        def is_busy():
            assert len(client.ok("FETCH 1 BODY[]").text) > 100000
            return private_kib(pid) >= at_rest + 24  # after a second without a word it would be at rest again
        wait_until(is_busy, lambda: f"{at_rest} KiB, and then {private_kib(pid)}")
        wait_until(lambda: private_kib(pid) <= at_rest + 8, lambda: f"{at_rest} KiB, and then {private_kib(pid)}")
        client.ok("NOOP")
        assert len(client.ok("FETCH 1 BODY[]").text) > 100000
