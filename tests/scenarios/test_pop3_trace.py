"""The protocol log of POP3: both sides told apart, no passwords, no messages."""
import os
import re
import signal

import pytest

from keepwarm import process, trace
from keepwarm.pop3 import Client, Host
from keepwarm.process import wait_until

FLOOD = 50


@pytest.fixture
def system(make):
    host, port = Host(), process.free_port()
    made = make.system(make.backend(), pop3_listen_port=port, pop3_server_port=host.port)
    made.host, made.pop = host, lambda: Client(port)
    yield made
    host.stop()


def test_a_session_from_its_login_to_its_end(system):
    trace.trace(system, "anna")
    with system.pop() as client, system.pop() as other:
        other.session("bert").ok("STAT")
        client.send(b"USER anna\r\nPASS wrong\r\nUSER anna\r\nPASS pw-anna\r\nSTAT\r\n")
        assert [client.line()[:4] for _ in range(5)] == [b"+OK ", b"-ERR", b"+OK ", b"+OK ", b"+OK "]
        client.ok("RETR 1")
        client.rest()
        client.say("PASS again-pw-anna")
        client.ok("QUIT")
        client.expect_close()
    trace.settled(system)
    assert re.fullmatch(rb"STAT\r\nRETR 1\r\nPASS \[elided\]\r\nQUIT\r\n", trace.said(system, "CLIENT"))
    assert re.fullmatch(rb"\+OK 1 \d+\r\n\+OK Here\r\n\[\d+ bytes elided\]\r\n\.\r\n"
                        rb"-ERR Unknown command, says the host\r\n\+OK Gone, says the host\r\n", trace.said(system, "SERVER"))
    assert {record.user for record in trace.records(system) if record.session} == {"anna"}
    assert b"pw-anna" not in trace.raw(system) and b"The mail of" not in trace.raw(system)


def noop_until_traced(system, client, beyond=0):
    def is_traced():
        client.ok("NOOP")
        return b"Noop" in trace.said(system, "SERVER")[beyond:]
    wait_until(is_traced, lambda: f"{trace.raw(system)}")


def test_a_running_session_is_traced_and_its_end_is_at_once(system):
    with system.pop() as client:
        client.session("anna").ok("STAT")
        client.send(b"PA")
        trace.trace(system, "anna")
        assert client.say("SS pw-anna").startswith(b"-ERR")
        noop_until_traced(system, client)
        trace.untrace(system, "anna")
        client.ok("STAT")
        trace.trace(system, "anna")
        noop_until_traced(system, client, len(trace.said(system, "SERVER")))
    said = trace.said(system, "CLIENT")
    assert b"pw-anna" not in said and b"NOOP\r\n" in said and b"STAT" not in said


def test_it_goes_on_behind_a_new_broker(system):
    trace.trace(system, "anna")
    with system.pop() as client:
        client.session("anna")
        system.wait_counter("logins", 1)
        old = system.pids("cachebrokerd")
        os.kill(old[0], signal.SIGKILL)
        wait_until(lambda: system.pids("cachebrokerd") not in ([], old), "no new broker")
        system.wait_log("still traced: user=anna")
        noop_until_traced(system, client)


def test_a_large_message_and_a_flood_of_commands_are_bounded(system):
    system.host.maildrops["anna"] = [b"top-secret\r\n" * 200000]
    trace.trace(system, "anna")
    with system.pop() as client:
        client.session("anna")
        client.send(b"RETR 1\r\n" + b"NOOP\r\n" * FLOOD)
        client.line()
        client.rest()
        for times in range(1, 11):
            for _ in range(FLOOD):
                client.line()
            trace.wait_said(system, "CLIENT", b"NOOP\r\n" * FLOOD * times)  # the log leaves out what comes too fast
            if times < 10:
                client.send(b"NOOP\r\n" * FLOOD)
        client.ok("QUIT")
    trace.settled(system)
    assert b"top-secret" not in trace.raw(system) and b"[2400000 bytes elided]" in trace.said(system, "SERVER")
    assert trace.said(system, "CLIENT").count(b"NOOP\r\n") == 10 * FLOOD


def test_who_only_tried_to_be_the_traced_user_is_not_traced(system):
    trace.trace(system, "anna")
    with system.pop() as client:
        client.login("anna", "wrong")
        client.session("bert").ok("STAT")
        client.ok("QUIT")
    trace.settled(system)
    assert not [record for record in trace.records(system) if record.session], trace.raw(system)
