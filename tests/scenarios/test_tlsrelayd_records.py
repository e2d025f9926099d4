"""Records that no library sends: what they cost must stay with the connection that they come on."""
import fcntl
import os
import socket
import struct
import termios
import time

import pytest

from keepwarm import certs
from keepwarm.process import cpu_seconds, frozen
from keepwarm.records import DATA, HANDSHAKE, KEY_UPDATE, Records
from keepwarm.tlsrelay import Relay, client_context


@pytest.fixture
def relay(tmp_path):
    mail = certs.Authority(tmp_path).issue("mail.test")
    with Relay(tmp_path, tls_server_cert_file=mail.path, tls_server_key_file=mail.key_path) as started:
        yield started


def raw_client(relay, log):
    """A client that goes on by hand behind the handshake: (its socket, its records, the plain end)."""
    context = client_context()
    context.keylog_filename = str(log)
    client, ready, plain = relay.accept(context, by_hand=True)
    assert b"AES" in ready.cipher
    return client.sock, Records(log), plain


def waiting(sock):
    """How many bytes could be read."""
    return struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, b"\0\0\0\0"))[0]


def test_half_a_message_of_the_handshakes_kind_costs_no_cpu(relay, tmp_path):
    """OpenSSL writes nothing until it has the rest, while there is much to be written."""
    sock, records, plain = raw_client(relay, tmp_path / "keys")
    sock.sendall(records.seal(DATA, b"fetch") + records.seal(HANDSHAKE, KEY_UPDATE[:4]))
    assert plain.recv(5) == b"fetch"
    plain.settimeout(1)
    with pytest.raises(TimeoutError):
        while True:
            plain.send(b"x" * 1000)
    (worker,) = relay.workers()
    before = cpu_seconds(worker)
    time.sleep(1)  # there is no event to wait for: nothing must happen
    plain.close()
    time.sleep(1)
    assert cpu_seconds(worker) - before < 0.3
    sock.close()


def test_the_rest_of_such_a_message_lets_the_connection_go_on(relay, tmp_path):
    sock, records, plain = raw_client(relay, tmp_path / "keys")
    before = waiting(sock)
    sock.sendall(records.seal(DATA, b"fetch") + records.seal(HANDSHAKE, KEY_UPDATE[:4]))
    assert plain.recv(5) == b"fetch"
    sent = plain.send(b"x" * 50000)
    sock.sendall(records.seal(HANDSHAKE, KEY_UPDATE[4:]))
    records.update()
    sock.sendall(records.seal(DATA, b"more"))
    assert plain.recv(5) == b"more"
    got = before
    while got < sent:
        piece = sock.recv(65536)
        assert piece
        got += len(piece)


@pytest.mark.parametrize("ends_first", [True, False])
def test_a_reset_behind_key_updates_loses_nothing(relay, tmp_path, ends_first):
    """None of the answers can be written any more, nor a close_notify; what came before the reset is there all the same."""
    sock, records, plain = raw_client(relay, tmp_path / "keys")
    assert waiting(sock) > 0  # tickets: closing becomes a reset
    with frozen(*relay.workers()):
        sock.sendall(b"".join(records.key_update(asks=True) for _ in range(100)) + records.seal(DATA, b"bye"))
        sock.close()
        if ends_first:
            plain.shutdown(socket.SHUT_WR)
    assert plain.recv(5) == b"bye"
    plain.close()
    assert "TLS failed" not in relay.log()


def test_a_flood_of_key_updates_gives_others_their_turn(relay, tmp_path):
    """How many a worker has answered before a line of another connection has passed it."""
    assert min(answered_first(relay, tmp_path / f"keys{turn}") for turn in range(3)) < 1000


def answered_first(relay, log, count=10000):
    others = [relay.accept(client_context()) for _ in range(os.cpu_count())]  # each worker has one of them
    sock, records, plain = raw_client(relay, log)
    flood = b"".join(records.key_update(asks=True) for _ in range(count))
    before = waiting(sock)
    workers = relay.workers()
    with frozen(*workers):
        sock.setblocking(False)
        assert sock.send(flood) == len(flood)
        for client, _, _ in others:
            client.sendall(b"ping")
    for _, _, other in others:
        assert other.recv(4) == b"ping"
    with frozen(*workers):
        answered = (waiting(sock) - before) / (len(flood) / count)
    sock.close()
    plain.close()
    return answered
