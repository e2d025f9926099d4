"""TLS as a client speaks it, with Python's own and, for what no library says any more, by hand."""
import os
import socket
import ssl
import struct

from keepwarm.imap import Client
from keepwarm.process import DEADLINE

ADDRESS = "127.0.0.1"


def context(authority, version=None, shows=None):
    """Verifies with this authority; speaks this version of TLS only; shows this certificate."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(authority.path)
    if version:
        made.minimum_version = made.maximum_version = version
    if shows:
        made.load_cert_chain(shows.path, shows.key_path)
    return made


def wrap(sock, authority, name=ADDRESS, version=None):
    return context(authority, version).wrap_socket(sock, server_hostname=name)


def imaps(port, authority, name=ADDRESS, version=None):
    """A client that begins with TLS."""
    sock = socket.create_connection((ADDRESS, port), timeout=DEADLINE)
    try:
        return Client(None, sock=wrap(sock, authority, name, version))
    except BaseException:
        sock.close()
        raise


def starttls(port, authority, name=ADDRESS, version=None):
    """A client that has said STARTTLS."""
    outer = Client(port)
    try:
        outer.ok("STARTTLS")
        return Client(None, sock=wrap(outer.sock, authority, name, version), greet=False)
    except BaseException:
        outer.close()
        raise


# --- by hand ---------------------------------------------------------------------------------------
SSL3, TLS10, TLS11, TLS12 = 0x0300, 0x0301, 0x0302, 0x0303
STRONG = (0xC02B, 0xC02C, 0xC02F, 0xC030)  # ECDHE with AES-GCM


def extension(number, data):
    return struct.pack(">HH", number, len(data)) + data


def listed(data, size=2):
    return len(data).to_bytes(size, "big") + data


def client_hello(version, ciphers, compressions=b"\0"):
    """The record of a first message up to TLS 1.2."""
    suites = b"".join(struct.pack(">H", number) for number in ciphers)
    extensions = b""
    if version > SSL3:
        groups, schemes = struct.pack(">HH", 23, 29), struct.pack(">5H", 0x0403, 0x0804, 0x0401, 0x0503, 0x0201)
        extensions = listed(extension(10, listed(groups)) + extension(11, listed(b"\0", 1)) +
                            extension(13, listed(schemes)))
    body = struct.pack(">H", version) + os.urandom(32) + b"\0" + listed(suites) + listed(compressions, 1) + extensions
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16" + struct.pack(">H", max(version, SSL3) if version < TLS10 else TLS10) + listed(message)


class Answer:
    """What comes back: `version`, `cipher` and `compression` of a ServerHello, else `alert`, or None for a mere end."""

    def __init__(self, port, hello):
        self.version = self.cipher = self.compression = self.alert = None
        with socket.create_connection((ADDRESS, port), timeout=DEADLINE) as sock:
            sock.sendall(hello)
            with sock.makefile("rb") as stream:
                head = self.read(stream, 5)
                if len(head) == 5:
                    self.parse(head[0], self.read(stream, int.from_bytes(head[3:5], "big")))

    @staticmethod
    def read(stream, count):
        try:
            return stream.read(count)
        except ConnectionResetError:
            return b""

    def parse(self, kind, data):
        if kind == 21:
            self.alert = data[1]
        elif kind == 22 and data[0] == 2:
            self.version = int.from_bytes(data[4:6], "big")
            end = 39 + data[38]
            self.cipher, self.compression = int.from_bytes(data[end:end + 2], "big"), data[end + 2]
