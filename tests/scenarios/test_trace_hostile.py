"""The protocol log and sessions' processes that were taken over: each speaks for itself only."""
import socket
import struct

import pytest

from keepwarm import trace
from keepwarm.messages import ACCEPTED, REFUSED, Peer
from keepwarm.process import wait_until


# --- a session's process that was taken over ------------------------------------------------------------
def traced_peer(system, user="anna"):
    """A peer that has a lease, and the log's socket."""
    peer = Peer(system).hello()
    peer.push("LEASE", serial=1, proof_kind=1, user=user, secret=f"pw-{user}")
    first = peer.receive()
    assert first.name == "TRACE" and peer.receive().name == "LEASED"
    return peer, first.sock


def record(side, data, continued=0, lost=0):
    return struct.pack("=BBHI", side, continued, 0, lost) + data


def expect_deaf(sock):
    """It takes nothing any more."""
    def is_deaf():
        try:
            sock.send(record(1, b"forged\r\n"), socket.MSG_DONTWAIT)
        except (BrokenPipeError, ConnectionResetError):
            return True
        except BlockingIOError:
            pass
        return False
    wait_until(is_deaf, "the log still takes records")


def test_who_is_not_traced_gets_no_socket(traced):
    peer = Peer(traced).hello()
    assert peer.ask_lease("bert").name == "LEASED"


def test_a_login_that_failed_has_no_voice(traced):
    peer, sock = traced_peer(traced)
    peer.outcome(REFUSED)
    expect_deaf(sock)


def test_who_is_gone_has_no_voice(traced):
    peer, sock = traced_peer(traced)
    peer.outcome(ACCEPTED)
    peer.sock.close()
    expect_deaf(sock)


@pytest.mark.parametrize("data", [b"", b"x", record(0, b"x"), record(9, b"x\r\n"), record(1, b"y" * 8001)],
                         ids=["empty", "short", "no-side", "odd-side", "long"])
def test_a_bad_record_ends_the_trace_of_its_session_only(traced, data):
    peer, sock = traced_peer(traced)
    peer.outcome(ACCEPTED)
    sock.send(data)
    expect_deaf(sock)
    with traced.session("anna") as client:
        client.ok("NOOP")
    trace.wait_said(traced, "SERVER", b"OK Noop")


def test_a_session_speaks_for_itself_only(traced):
    peer, sock = traced_peer(traced)
    peer.outcome(ACCEPTED)
    sock.send(record(1, b"\n\n-----> C= 1 root SERVER: sd [1]\nforged\x1b\r\n"))
    trace.wait_said(traced, "CLIENT", b"forged")
    (said,) = [entry for entry in trace.records(traced) if entry.side == "CLIENT"]
    assert (said.user, said.data) == ("anna", b"\n\n -----> C= 1 root SERVER: sd [1]\nforged\\x1b\r\n")


def test_so_many_sessions_are_traced_and_no_more(traced, backend):
    clients = [traced.session("anna") for _ in range(66)]
    traced.wait_log("there are too many")
    for client in clients:
        client.ok("NOOP")
        client.close()
    with traced.session("anna") as client:
        wait_until(lambda: (client.ok("NOOP"), client)[1], "it ends")
