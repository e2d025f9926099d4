"""tlsrelayd with the test as its broker: handshakes, what is refused and in which words, and what ends how."""
import socket
import ssl

import pytest

from keepwarm import certs
from keepwarm.tlsrelay import (CERTIFICATE, HANDSHAKE, INJECTED, REFUSED, STARTTLS, TIMEOUT, UNAVAILABLE, Host, Relay,
                               client_context, server_context)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certs.Authority(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def mail(authority):
    return authority.issue("mail.test", "*.wild.test")


def serving(tmp_path, mail, **keys):
    return Relay(tmp_path, tls_server_cert_file=mail.path, tls_server_key_file=mail.key_path, **keys)


def dialling(tmp_path, authority, **keys):
    return Relay(tmp_path, **{"server_tls": "implicit", "tls_ca_file": authority.path, **keys})


def read_exactly(sock, n):
    data = b""
    while len(data) < n:
        piece = sock.recv(n - len(data))
        assert piece, f"ended after {len(data)} of {n}"
        data += piece
    return data


# --- handshakes ---------------------------------------------------------------------------------------
def test_a_client_gets_tls_and_the_broker_its_stream(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        assert relay.hello.serves == 1
        client, ready, plain = relay.accept(client_context(authority))
        assert (ready.version, ready.sni) == (b"TLSv1.3", b"mail.test")
        assert ready.cipher.startswith(b"TLS_")
        plain.sendall(b"* OK hello\r\n")
        assert client.recv(100) == b"* OK hello\r\n"
        client.sendall(b"a LOGOUT\r\n")
        assert plain.recv(100) == b"a LOGOUT\r\n"


@pytest.mark.parametrize("mode", ["implicit", "starttls"])
def test_a_mail_host_is_spoken_to_through_tls(tmp_path, authority, mail, mode):
    def greet(sock):
        sock.sendall(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] there\r\n")
        line = sock.recv(100)
        assert line.endswith(b" STARTTLS\r\n")
        sock.sendall(line.split()[0] + b" OK go on\r\n")

    with dialling(tmp_path, authority) as relay:
        assert relay.hello.serves == 0
        host = Host(server_context(mail), greet if mode == "starttls" else None)
        ready = relay.dial("mail.test", host, mode=STARTTLS if mode == "starttls" else 2)
        assert ready.name == "TLS_READY", ready
        host.tls.sendall(b"* OK inside\r\n")
        ready.sock.setblocking(True)
        assert ready.sock.recv(100) == b"* OK inside\r\n"
        ready.sock.sendall(b"a NOOP\r\n")
        assert host.tls.recv(100) == b"a NOOP\r\n"
