"""TLS 1.3 records as no library sends them (RFC 8446 sections 5.2 and 7.3), from the secrets that Python logs."""
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

HANDSHAKE, DATA = 22, 23
KEY_UPDATE = b"\x18\x00\x00\x01\x00"


def expand(secret, label, n):
    digest = hashes.SHA384() if len(secret) == 48 else hashes.SHA256()
    label = b"tls13 " + label
    return HKDFExpand(digest, n, struct.pack(">HB", n, len(label)) + label + b"\0").derive(secret)


class Records:
    """What a client says behind its handshake; the cipher must be AES-GCM."""

    def __init__(self, key_log):
        words = [line.split() for line in key_log.read_text().splitlines()]
        (secret,) = (word[2] for word in words if word[0] == "CLIENT_TRAFFIC_SECRET_0")
        self.begin(bytes.fromhex(secret))

    def begin(self, secret):
        self.secret, self.number = secret, 0
        self.key = AESGCM(expand(secret, b"key", len(secret) - 16))  # SHA-384 goes with AES-256, SHA-256 with AES-128
        self.iv = int.from_bytes(expand(secret, b"iv", 12), "big")

    def seal(self, kind, data):
        head = b"\x17\x03\x03" + struct.pack(">H", len(data) + 17)
        nonce = (self.iv ^ self.number).to_bytes(12, "big")
        self.number += 1
        return head + self.key.encrypt(nonce, data + bytes([kind]), head)

    def update(self):
        self.begin(expand(self.secret, b"traffic upd", len(self.secret)))

    def key_update(self, asks=False):
        record = self.seal(HANDSHAKE, KEY_UPDATE[:-1] + bytes([asks]))
        self.update()
        return record
