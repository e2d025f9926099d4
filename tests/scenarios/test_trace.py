"""The protocol log: what of whose sessions stands in it, and what never does."""
import base64
import os
import re
import signal
import threading

import pytest

from keepwarm import trace
from keepwarm.imap import LOGINS
from keepwarm.process import wait_until
from test_activation import WAYS, available
from test_activation import started as started_by_others
from test_select_cache import Box, visit

SECRET = "top-secret-42"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


# --- what stands in it ----------------------------------------------------------------------------------
def test_the_marks_and_the_bytes_are_the_old_ones(make, backend):
    system = make.system(backend, enable_admin_commands="yes")
    for command, answer in (("XPROXY_TRACE", "OK Tracing disabled"), ("XPROXY_NEWLOG", "OK Logfile cleared"),
                            ("XPROXY_TRACE anna", "OK Tracing enabled for user anna.")):
        assert trace.xproxy(system, command) == answer
    with system.session("anna") as client:
        client.send("b1 NOOP\r\n")
        client.expect_exact("b1 OK Noop, says the backend\r\n")
        client.logout()
    assert trace.xproxy(system, "XPROXY_TRACE") == "OK Tracing disabled"
    text = trace.raw(system)
    assert re.fullmatch(
        rb"\n\n-----> C= \d+ anna PROXY: user tracing enabled\.\n"
        rb"\n\n-----> C= \d+ anna CLIENT: sd \[(\d+)\]\nb1 NOOP\r\n"
        rb"\n\n-----> C= \d+ anna SERVER: sd \[\1\]\nb1 OK Noop, says the backend\r\n"
        rb"\n\n-----> C= \d+ anna CLIENT: sd \[\1\]\nz9 LOGOUT\r\n"
        rb"\n\n-----> C= \d+ anna PROXY: user tracing disabled\. Expect further output until client logout\.\n", text), text
    assert b"pw-anna" not in text and b"LOGIN" not in text


def test_the_number_is_the_sessions_in_dumpicc(traced):
    with traced.session("anna") as client, traced.client() as other:
        client.ok("NOOP")
        (line,) = other.ok("XPROXY_DUMPICC").untagged
    trace.wait_said(traced, "SERVER", b"OK Noop")
    assert {record.session for record in trace.records(traced) if record.session} == {int(line.split()[2])}


@pytest.mark.parametrize("reused", [False, True])
@pytest.mark.parametrize("how", LOGINS)
def test_no_way_of_logging_in_leaves_its_password(traced, backend, how, reused):
    backend.passwords["anna"] = SECRET.encode()
    if reused:
        traced.session("anna", SECRET).logout()
        traced.wait_given()
    with traced.session("anna", SECRET, how, reused=reused) as client:
        client.ok("NOOP")
        client.logout()
    trace.settled(traced)
    text = trace.raw(traced)
    assert b"NOOP" in text
    for secret in (SECRET.encode(), base64.b64encode(SECRET.encode()).rstrip(b"="), b"LOGIN", b"AUTHENTICATE"):
        assert secret not in text


B64 = base64.b64encode(f"\0anna\0{SECRET}".encode()).decode()
IN_SESSION = {
    "login": [f"x LOGIN anna {SECRET}"],
    "login-lower": [f"x login anna {SECRET}"],
    "login-blanks": [f"x  LOGIN  anna {SECRET}"],
    "login-quoted": [f'x LOGIN "anna" "{SECRET}"'],
    "login-untagged": [f"LOGIN anna {SECRET}"],
    "login-nonsync": [f"x LOGIN {{4+}}\r\nanna {{{len(SECRET)}+}}\r\n{SECRET}"],
    "login-sync-unasked": ["x LOGIN {4}\r\nanna {%d}\r\n%s" % (len(SECRET), SECRET)],
    "login-behind-blank": [" LOGIN anna {%d}\r\n%s" % (len(SECRET), SECRET)],
    "authenticate-initial": [f"x AUTHENTICATE PLAIN {B64}"],
    "login-long": ["x LOGIN anna " + "p" * 40000 + SECRET],
}


@pytest.mark.parametrize("name", IN_SESSION)
def test_a_password_within_the_session_is_left_out(traced, name):
    with traced.session("anna") as client:
        client.ok("NOOP")
        for text in IN_SESSION[name]:
            client.send(text + "\r\n")
        client.send("zz NOOP\r\n")
        while not client.line().startswith(b"zz "):
            pass
    trace.wait_said(traced, "SERVER", b"zz OK")
    shown = trace.said(traced, "CLIENT")
    assert SECRET.encode() not in shown and B64.encode() not in shown and b"pppp" not in shown, shown
    assert b"[elided]" in shown


def test_responses_of_authenticate_are_left_out_until_its_end(traced, backend):
    held = threading.Event()

    def ask(conn):
        conn.send(b"+ \r\n")
        assert conn.read_line().decode() == B64
        held.wait(10)
        conn.send(b"x OK Fine\r\n")
    with traced.session("anna") as client:
        backend.answers["AUTHENTICATE"] = ask
        client.send("x AUTHENTICATE PLAIN\r\n")
        client.expect_exact("+ \r\n")
        client.send(B64 + "\r\n")
        held.set()
        client.expect_exact("x OK Fine\r\n")
        client.ok("NOOP")
    trace.wait_said(traced, "SERVER", b"OK Noop")
    shown = trace.said(traced, "CLIENT")
    assert B64.encode() not in shown
    assert re.search(rb"x AUTHENTICATE \[elided\]\r\n\[elided\]\r\n(.*\n)*t\d+ NOOP\r\n", shown), shown


@pytest.mark.parametrize("plus", ["", "+"], ids=["sync", "nonsync"])
@pytest.mark.parametrize("verb", ["APPEND", "append", "UID REPLACE 1"])
def test_messages_that_are_stored_are_left_out(traced, backend, verb, plus):
    backend.answers["UID"] = b"TAG OK Replaced\r\n"
    message = f"Subject: {SECRET}\r\n\r\n{SECRET} x LOGIN y\r\n" * 300
    with traced.session("anna") as client:
        client.send(f"x {verb} INBOX (\\Seen) {{{len(message)}{plus}}}\r\n")
        if not plus:
            client.expect_exact("+ OK\r\n")
        client.send(message + "\r\n")
        client.expect(rb"x OK [^\r]*\r\n")
    trace.wait_said(traced, "SERVER", b"x OK")
    assert trace.said(traced, "CLIENT").decode() == (
        f"x {verb} INBOX (\\Seen) {{{len(message)}{plus}}}\r\n[{len(message)} bytes elided]\r\n")


def test_other_literals_and_messages_that_are_read_stand_in_it(traced):
    with traced.session("anna") as client:
        client.ok("SELECT INBOX")
        client.ok("FETCH 1 BODY[]")
        client.send("x STATUS {5+}\r\nINBOX (MESSAGES)\r\n")
        client.expect(rb"\* STATUS[^\r]*\r\nx OK[^\r]*\r\n")
    trace.wait_said(traced, "SERVER", b"x OK")
    assert b"x STATUS {5+}\r\nINBOX (MESSAGES)\r\n" in trace.said(traced, "CLIENT")
    assert b"This is the mail of <anna>." in trace.said(traced, "SERVER")


def test_tracing_that_begins_within_an_append_shows_nothing_of_it(make, backend):
    system = make.system(backend)
    with system.session("anna") as client:
        client.send("x APPEND INBOX {60}\r\n")
        client.expect_exact("+ OK\r\n")
        client.send(f"{SECRET}\r\n")
        backend.wait_for(lambda: any(SECRET.encode() in conn.received for conn in backend.connections), "not there")
        trace.trace(system, "anna")
        client.send(f"{SECRET}\r\n" * 3 + "\r\n")
        client.expect(rb"x OK[^\r]*\r\n")
        client.ok("NOOP")
    trace.wait_said(system, "SERVER", b"OK Noop")
    assert SECRET.encode() not in trace.raw(system) and b"NOOP\r\n" in trace.said(system, "CLIENT")


def test_tracing_that_begins_within_authenticate_shows_no_response(make, backend):
    system = make.system(backend)
    with system.session("anna") as client:
        backend.answers["AUTHENTICATE"] = lambda conn: (conn.send(b"+ \r\n"), conn.read_line(),
                                                        conn.send(b"x OK Fine\r\n"))
        client.send("x AUTHENTICATE PLAIN\r\n")
        client.expect_exact("+ \r\n")
        trace.trace(system, "anna")
        client.send(B64 + "\r\n")
        client.expect_exact("x OK Fine\r\n")
        client.ok("NOOP")
    trace.wait_said(system, "SERVER", b"OK Noop")
    assert B64.encode() not in trace.raw(system) and b"NOOP\r\n" in trace.said(system, "CLIENT")


def test_a_line_that_is_longer_than_a_record_is_cut_and_says_so(traced, backend):
    backend.answers["LIST"] = b"* LIST () \"/\" " + b"n" * 20000 + b"\r\nTAG OK Listed\r\n"
    with traced.session("anna") as client:
        client.ok("LIST \"\" *")
    trace.wait_said(traced, "SERVER", b"OK Listed")
    records = [record for record in trace.records(traced) if record.side == "SERVER"]
    assert [record.goes_on for record in records] == [False, True, True]
    assert trace.said(traced, "SERVER") == b"* LIST () \"/\" " + b"n" * 20000 + b"\r\nt2 OK Listed\r\n"


def test_what_the_proxy_answers_itself_stands_in_it_as_such(traced):
    with traced.session("anna") as client:
        client.send("x COMPRESS DEFLATE\r\n")
        client.expect_exact("x BAD Unrecognized command\r\n")
        client.logout()
    trace.settled(traced)
    assert trace.said(traced, "CLIENT") == b"x COMPRESS DEFLATE\r\nz9 LOGOUT\r\n"
    assert trace.said(traced, "PROXY") == b"x BAD Unrecognized command\r\n"
    sides = [record.side for record in trace.records(traced)]
    assert sides.index("CLIENT") < sides.index("PROXY"), "the answer stands in front of the command"


def test_a_mailbox_that_is_opened_from_memory_stands_in_it(make, backend):
    Box(backend)
    system = make.system(backend, enable_admin_commands="yes", enable_select_cache="yes")
    visit(system)
    trace.trace(system, "anna")
    with system.session("anna", reused=True) as client:
        client.send("b1 EXAMINE INBOX\r\nb2 NOOP\r\n")
        want = client.reply("b1").text
        client.reply("b2")
    trace.wait_said(system, "SERVER", b"b2 OK Noop")
    assert trace.said(system, "PROXY") == want + b"b1 OK [READ-ONLY] Examined, says the backend\r\n"
    assert trace.said(system, "CLIENT").startswith(b"b1 EXAMINE INBOX\r\nb2 NOOP\r\n")
    system.wait_counter("select_hits", 1)


# --- whose, and when ------------------------------------------------------------------------------------
def test_only_the_traced_user_stands_in_it(traced):
    for user in ("Anna", "ann", "annaa", "bert"):
        traced.session(user).logout()
    with traced.client() as client:
        assert not client.login("anna", "wrong").ok
    trace.settled(traced)
    assert [record for record in trace.records(traced) if record.side != "NOTE"] == []


def test_on_and_off_while_sessions_run(make, backend):
    system = make.system(backend)
    with system.session("anna") as client, system.session("bert") as other:
        client.ok("CAPABILITY")
        trace.trace(system, "anna")
        client.ok("NOOP")
        other.ok("NOOP")
        trace.untrace(system, "anna")
        client.ok("NAMESPACE")
        trace.trace(system, "anna")
        client.ok("LIST \"\" *")
        trace.settled(system)
        text = trace.said(system, "CLIENT")
        assert re.fullmatch(rb"t\d NOOP\r\nt\d LIST \"\" \*\r\n", text), text
        assert trace.notes(system)[:3] == [trace.ENABLED, trace.DISABLED, trace.ENABLED]


def test_a_login_that_fails_behind_a_traced_name_leaves_nothing(traced, backend):
    with traced.client() as client:
        assert not client.login("anna", SECRET).ok
        assert client.login("bert", "pw-bert").ok
        client.ok("NOOP")
    trace.settled(traced)
    assert trace.said(traced, "CLIENT") == b"" and SECRET.encode() not in trace.raw(traced)


@pytest.mark.parametrize("name", ["x\r\n\r\n-----> C= 1 root CLIENT: sd [1]\r\n", "a b", "t\x1b[31m", "ann\u00e4"])
def test_a_name_cannot_forge_a_mark(make, name):
    backend = make.backend()
    backend.passwords = {name.encode().decode("latin-1"): b"pw"}
    system = make.system(backend)
    trace.trace(system, name)
    with system.session(name, "pw", "plain") as client:
        client.ok("NOOP")
    trace.wait_said(system, "SERVER", b"OK Noop")
    assert {record.user for record in trace.records(system)} == {"".join(
        chr(byte) if 0x20 < byte < 0x7f else f"\\x{byte:02x}" for byte in name.encode())}
    assert set(trace.raw(system)) <= set(range(0x20, 0x7f)) | {10, 13}


def test_a_message_cannot_forge_a_mark(traced, backend):
    forged = b"\n\n-----> C= 1 anna PROXY: user tracing disabled.\n\x1b[2J\x07\n-----> C= 2\n"
    backend.mailboxes["anna"] = {b"INBOX": [forged]}
    with traced.session("anna") as client:
        client.ok("SELECT INBOX")
        client.ok("FETCH 1 BODY[]")
    trace.wait_said(traced, "SERVER", b"OK Fetched")
    assert b"\n\n ----->" in trace.raw(traced) and b"\\x1b[2J\\x07\n -----> C= 2\n" in trace.raw(traced)
    assert trace.notes(traced) == [trace.ENABLED]


def test_newlog_empties_it_while_sessions_go_on(traced):
    with traced.session("anna") as client:
        client.ok("NOOP")
        assert trace.xproxy(traced, "XPROXY_NEWLOG") == "OK Logfile cleared"
        assert trace.raw(traced) == b""
        client.ok("LIST \"\" *")
        trace.wait_said(traced, "SERVER", b"OK Listed")
        assert b"NOOP" not in trace.raw(traced)


# --- under load -----------------------------------------------------------------------------------------
COMMANDS = 300


def talk(client, number):
    for i in range(COMMANDS):
        client.ok(f"STATUS INBOX (MESSAGES) {number}-{i}")


def test_eight_busy_sessions_stand_in_it_line_by_line_and_in_order(traced, backend):
    backend.answers["STATUS"] = lambda conn: conn.send(
        b"* STATUS " + conn.commands[-1].args[-1] + b" " + b"x" * 500 + b"\r\n" + conn.commands[-1].tag + b" OK .\r\n")
    clients = [traced.session("anna") for _ in range(8)]
    threads = [threading.Thread(target=talk, args=pair) for pair in zip(clients, range(8))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    for client in clients:
        client.logout()
    trace.settled(traced)
    records = trace.records(traced)
    sessions = {record.session for record in records} - {None}
    assert len(sessions) == 8
    assert not [note for note in trace.notes(traced) if "missing" in note]
    assert all(record.data.endswith(b"\r\n") and not record.goes_on for record in records if record.session)
    numbers = set()
    for session in sessions:
        said = [line for record in records if record.session == session and record.side == "CLIENT"
                for line in record.data.splitlines()]
        number = said[0].split(b" ")[-1].split(b"-")[0].decode()
        numbers.add(number)
        assert said == [f"t{i + 2} STATUS INBOX (MESSAGES) {number}-{i}".encode() for i in range(COMMANDS)] + [b"z9 LOGOUT"]
        heard = b"".join(record.data for record in records if record.session == session and record.side == "SERVER")
        assert heard == b"".join(f"* STATUS {number}-{i} {'x' * 500}\r\nt{i + 2} OK .\r\n".encode() for i in range(COMMANDS))
    assert len(numbers) == 8


def test_a_writer_that_stands_still_holds_up_no_session(traced, backend):
    backend.mailboxes["anna"] = {b"INBOX": [b"m" * 4000000]}
    (broker,) = traced.pids("cachebrokerd")
    with traced.session("anna") as client:
        client.ok("SELECT INBOX")
        os.kill(broker, signal.SIGSTOP)
        try:
            for _ in range(3):
                client.ok("FETCH 1 BODY[]")
        finally:
            os.kill(broker, signal.SIGCONT)

        def goes_on():
            client.ok("NOOP")
            return b"NOOP" in trace.said(traced, "CLIENT")
        wait_until(goes_on, "nothing is taken any more")
        assert any("records are missing here." in note for note in trace.notes(traced))


# --- it survives ----------------------------------------------------------------------------------------
def test_a_restart_of_the_broker_keeps_it_for_running_sessions_too(traced):
    with traced.session("anna") as client:
        client.ok("NOOP")
        (broker,) = traced.pids("cachebrokerd")
        traced.wait_counter("logins", 1)
        os.kill(broker, signal.SIGKILL)
        wait_until(lambda: traced.pids("cachebrokerd") not in ([], [broker]), "no new broker")
        traced.wait_log("still traced: user=anna")

        def goes_on():
            client.ok("NAMESPACE")
            return b"NAMESPACE" in trace.said(traced, "CLIENT")
        wait_until(goes_on, "the session is not traced any more")
        with traced.session("anna") as other:
            other.ok("LIST \"\" *")
        trace.wait_said(traced, "CLIENT", b"LIST")


def test_a_restart_of_the_whole_keeps_it(traced):
    assert trace.xproxy(traced, "XPROXY_TRACE bert") == "OK Tracing enabled for user bert."
    before = trace.raw(traced)
    traced.stop_and_keep()
    traced.start()
    assert trace.xproxy(traced, "XPROXY_TRACE carla") == "BAD Tracing already enabled for user bert"
    with traced.session("anna") as client:
        client.ok("NOOP")
    trace.wait_said(traced, "SERVER", b"OK Noop")
    assert trace.raw(traced).startswith(before)
    traced.wait_counter("logins", 1)


# --- other ways to start, other places ------------------------------------------------------------------
@pytest.mark.parametrize("way", WAYS)
def test_however_a_session_is_started(make, backend, way):
    available(way)
    system = make.system(backend, run_listener="no", enable_admin_commands="yes", admin_addresses="127.0.0.0/8")
    with started_by_others(system, WAYS[way](system)):
        assert trace.xproxy(system, "XPROXY_TRACE anna") == "OK Tracing enabled for user anna."
        with system.session("anna") as client:
            client.ok("NOOP")
            assert trace.xproxy(system, "XPROXY_DUMPICC") == "OK Completed"
        trace.wait_said(system, "SERVER", b"OK Noop")


@needs_root
def test_in_a_chroot(make, backend):
    system = trace.idle_system(make, backend)
    system.write_config(chroot_directory=system.folder / "jail")
    system.start()
    trace.trace(system, "anna")
    with system.session("anna") as client:
        client.ok("NOOP")
    trace.wait_said(system, "SERVER", b"OK Noop")
