"""tlsrelayd with the test as its broker: what ends how, and much data."""
import os
import random
import socket
import ssl
import struct
import subprocess
import threading

import pytest

from keepwarm.process import alive, asleep, read_proc, wait_until
from keepwarm.system import SANITIZED
from keepwarm.tlsrelay import (IMPLICIT, client_context, dialling, not_taken, open_to, plain_end, read_exactly, read_to_end,
                               readable, serving)


# --- ends -------------------------------------------------------------------------------------------------
def test_close_notify_ends_one_direction_only(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority), by_hand=True)
        client.sendall(b"a LOGOUT\r\n")
        client.say_end()
        assert read_to_end(plain) == b"a LOGOUT\r\n"
        plain.sendall(b"* BYE\r\na OK\r\n")
        assert client.read() == b"* BYE\r\na OK\r\n"
        plain.sendall(b"more")
        assert client.read() == b"more"
        plain.close()
        assert client.read_to_end() == b""
        assert client.sock.recv(1) == b""
        wait_until(lambda: relay.connections() == 0, "the connection stays")
        assert "without close_notify" not in relay.log()
        client.close()


def test_the_end_of_the_plain_side_is_close_notify_and_the_other_goes_on(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority), by_hand=True)
        plain.sendall(b"last words")
        plain.shutdown(socket.SHUT_WR)
        assert client.read_to_end() == b"last words"
        assert client.sock.recv(1) == b""  # FIN, too
        client.sendall(b"but I go on")
        assert read_exactly(plain, 11) == b"but I go on"
        client.say_end()
        assert read_to_end(plain) == b""
        wait_until(lambda: relay.connections() == 0, "the connection stays")
        client.close()


def test_an_end_without_close_notify_is_an_end_and_is_counted(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority), by_hand=True)
        client.sendall(b"trunc")
        client.sock.shutdown(socket.SHUT_WR)
        assert read_to_end(plain) == b"trunc"
        plain.sendall(b"still heard")
        assert client.read() == b"still heard"
        plain.close()
        assert client.read_to_end() == b""
        relay.wait_log("192.0.2.7: ended the connection without close_notify")
        relay.wait_pushed("TLS_STATE", lambda state: state.truncated == 1)
        client.close()


def test_a_reset_ends_both_directions(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority), by_hand=True)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert read_to_end(plain) == b""
        with pytest.raises(OSError):
            while True:
                plain.sendall(b"x" * 1000)
        wait_until(lambda: relay.connections() == 0, "the connection stays")


def fill_up(relay, host, plain, tail):
    """The mail host says more than the plain side takes, while nobody reads there: so many bytes more than wait there.
    What the relay does not hold itself of them is its kernel's. How much goes in depends on the machine. Returns all
    that was said."""
    worker, = relay.workers()
    data, noise = b"", random.Random(1)

    def is_moved():
        return not_taken(host) == 0 and (readable(plain) == len(data) or asleep(worker))

    while len(data) - readable(plain) < tail:
        piece = noise.randbytes(4096)
        data += piece
        host.sendall(piece)
        wait_until(is_moved, lambda: f"of {len(data)} bytes {readable(plain)} get there, {not_taken(host)} not so far")
    return data


def test_what_a_peer_said_before_it_left_is_delivered_although_it_cannot_be_answered(tmp_path, authority, mail):
    """A mail host says BYE behind a long answer and is gone; its reader is slow, and the client's next commands are on
    their way: the first one is answered with a reset, the next one cannot be written."""
    with dialling(tmp_path, authority) as relay:
        host, _, plain = open_to(relay, mail)
        data = fill_up(relay, host, plain, 16384 + 8192)  # a record is the relay's
        host.sendall(b"* BYE\r\n")
        data += b"* BYE\r\n"
        wait_until(lambda: not_taken(host) == 0, "the answer does not get there")
        host.close()
        for _ in range(3):
            plain.sendall(b"x NOOP\r\n")
            wait_until(lambda: not_taken(plain) == 0, "the command is not taken")
        assert read_to_end(plain) == data
        with pytest.raises(OSError):
            while True:
                plain.sendall(b"x" * 1000)
        wait_until(lambda: relay.connections() == 0, "the connection stays")


def test_what_the_plain_side_left_behind_is_still_delivered(tmp_path, authority, mail):
    """It writes much and is gone at once; the client reads slowly."""
    data = random.Random(1).randbytes(150_000)
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority), by_hand=True)
        plain.sendall(data)
        plain.close()
        assert client.read_to_end() == data
        client.say_end()
        client.close()
        wait_until(lambda: relay.connections() == 0, "the connection stays")


def test_a_client_that_stays_when_the_plain_side_is_gone_is_left(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority), by_hand=True)
        plain.close()
        assert client.read_to_end() == b""
        wait_until(lambda: relay.connections() == 0, "the connection stays", 25)
        client.close()


def test_a_mail_host_that_breaks_off_over_a_refused_handshake_is_called_so(tmp_path, authority, mail):
    """A renegotiation that is refused: its alert is the one that refuses a first handshake."""
    with subprocess.Popen(["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", mail.path, "-key", mail.key_path,
                           "-tls1_2", "-naccept", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as host, \
            dialling(tmp_path, authority) as relay:
        port = next(int(line.rsplit(b":", 1)[1]) for line in host.stdout if line.startswith(b"ACCEPT"))
        sock = socket.create_connection(("127.0.0.1", port))
        serial = relay.request("TLS_CONNECT", sock, mode=IMPLICIT, service=1, port=port, host="mail.test")
        plain = plain_end(relay.answer(serial))
        host.stdin.write(b"r\n")
        host.stdin.flush()
        assert plain.recv(1) == b""
        relay.wait_log("mail.test: broke off, perhaps since it may not renegotiate")


# --- much ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_much_goes_through_both_ways_at_once_unchanged(tmp_path, authority, mail, version):
    size = 3_000_000 if SANITIZED else 20_000_000
    there, back = (random.Random(seed).randbytes(size) for seed in (1, 2))
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority, most=ssl.TLSVersion[version]))
        got = {}
        threads = [threading.Thread(target=client.sendall, args=(there,)),
                   threading.Thread(target=plain.sendall, args=(back,)),
                   threading.Thread(target=lambda: got.update(plain=read_exactly(plain, size))),
                   threading.Thread(target=lambda: got.update(client=read_exactly(client, size)))]
        # Python's SSLSocket must not be read and written at once
        for thread in (threads[0], threads[2]):
            thread.start()
        for thread in (threads[0], threads[2]):
            thread.join(60)
        for thread in (threads[1], threads[3]):
            thread.start()
        for thread in (threads[1], threads[3]):
            thread.join(60)
        assert got["plain"] == there
        assert got["client"] == back


def rss(pid):
    return int(read_proc(pid, "statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("stuck", ["client", "plain"])
def test_who_does_not_read_stops_the_other_and_costs_no_memory(tmp_path, authority, mail, stuck):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority))
        worker = relay.workers()[0]
        other_client, _, other_plain = relay.accept(client_context(authority))
        before = sum(rss(pid) for pid in relay.workers())
        writer = plain if stuck == "client" else client
        writer.settimeout(1)
        sent = 0
        with pytest.raises((TimeoutError, ssl.SSLError)):
            while sent < 100_000_000:
                sent += writer.send(bytes(16384))
        assert sent < 30_000_000
        if not SANITIZED:
            assert sum(rss(pid) for pid in relay.workers()) - before < 500_000
        other_client.sendall(b"ping")
        assert other_plain.recv(10) == b"ping"
        assert alive(worker)
