"""Clients that are challenged: CRAM (RFC 2195) and SCRAM (RFC 5802), written by hand, step by step."""
import base64
import hashlib
import hmac
import itertools

from keepwarm.imap import as_bytes, b64
from keepwarm.process import wait_until

CRAMS = {"CRAM-MD5": "md5", "CRAM-SHA1": "sha1", "CRAM-SHA256": "sha256"}
SCRAMS = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}
MECHANISMS = (*SCRAMS, *reversed(CRAMS))
OFFERED = "PLAIN LOGIN " + " ".join(MECHANISMS)
numbers = itertools.count(1)
CRAM_MD5, CONTINUES, ACCEPTED = 16, 1, 2  # enum sasl_mechanism, enum msg_auth


class Cancelled(Exception):
    """The server has ended the exchange: `reply` is its tagged line."""

    def __init__(self, reply):
        super().__init__(reply)
        self.reply = reply


def prompt(client, tag):
    """What the server says next, without base64; its tagged answer is an exception."""
    line = client.line()
    if not line.startswith(b"+ "):
        client.buffer = line + client.buffer
        raise Cancelled(client.reply(tag))
    return base64.b64decode(line[2:-2], validate=True)


def cram_answer(mechanism, user, password, challenge):
    digest = hmac.new(as_bytes(password), challenge, CRAMS[mechanism]).hexdigest()
    return as_bytes(user) + b" " + digest.encode()


def stored(mechanism, password, salt=b"some salt, chosen by nobody", iterations=4096, style="dovecot"):
    """What a directory keeps for SCRAM."""
    name = SCRAMS[mechanism]
    salted = hashlib.pbkdf2_hmac(name, as_bytes(password), salt, iterations)
    key = hashlib.new(name, hmac.digest(salted, b"Client Key", name)).digest()
    parts = [b64(part).decode() for part in (salt, key, hmac.digest(salted, b"Server Key", name))]
    if style == "postgresql":
        return f"{mechanism}${iterations}:{parts[0]}${parts[1]}:{parts[2]}"
    return f"{{{mechanism}}}{iterations},{parts[0]},{parts[1]},{parts[2]}"


class Scram:
    """One conversation; every part of a message may be replaced before it is sent."""

    def __init__(self, mechanism, user, password, header=b"n,,"):
        self.name = SCRAMS[mechanism]
        self.password, self.header = as_bytes(password), header
        self.nonce = b"nonce%d" % next(numbers)
        self.user = as_bytes(user).replace(b"=", b"=3D").replace(b",", b"=2C")

    def first(self):
        self.bare = b"n=" + self.user + b",r=" + self.nonce
        return self.header + self.bare

    def final(self, server, nonce=None, header=None):
        fields = dict(part.split(b"=", 1) for part in server.split(b","))
        self.salt, self.iterations = base64.b64decode(fields[b"s"]), int(fields[b"i"])
        assert fields[b"r"].startswith(self.nonce) and len(fields[b"r"]) > len(self.nonce)
        text = b"c=" + b64(self.header if header is None else header) + b",r=" + (nonce or fields[b"r"])
        message = self.bare + b"," + server + b"," + text
        salted = hashlib.pbkdf2_hmac(self.name, self.password, self.salt, self.iterations)
        key = hmac.digest(salted, b"Client Key", self.name)
        signature = hmac.digest(hashlib.new(self.name, key).digest(), message, self.name)
        proof = bytes(a ^ b for a, b in zip(key, signature))
        self.server_signature = hmac.digest(hmac.digest(salted, b"Server Key", self.name), message, self.name)
        return text + b",p=" + b64(proof)


def begin(client, mechanism, initial=None):
    tag = client.tag()
    client.send(tag + b" AUTHENTICATE " + mechanism.encode() + (b" " + b64(initial) if initial is not None else b"") + b"\r\n")
    return tag


def say(client, message):
    client.send(b64(message) + b"\r\n")


def login(client, mechanism, user, password, initial=True):
    """The tagged reply; a server that proves nothing of itself is an error."""
    try:
        if mechanism in CRAMS:
            tag = begin(client, mechanism)
            say(client, cram_answer(mechanism, user, password, prompt(client, tag)))
            return client.reply(tag)
        talk = Scram(mechanism, user, password)
        tag = begin(client, mechanism, talk.first() if initial else None)
        if not initial:
            assert prompt(client, tag) == b""
            say(client, talk.first())
        say(client, talk.final(prompt(client, tag)))
        assert prompt(client, tag) == b"v=" + b64(talk.server_signature), "this is not the server that has the keys"
        client.send("\r\n")
        return client.reply(tag)
    except Cancelled as stop:
        return stop.reply


def verify(peer, user="anna"):
    """The client of this session's process has answered its challenge; again when its worker has gone, as they do behind a reload."""
    def answered():
        first = peer.request("AUTH_STEP", mechanism=CRAM_MD5)
        if first.status != CONTINUES:
            return False
        answer = cram_answer("CRAM-MD5", user, f"pw-{user}", first.data)
        last = peer.request("AUTH_STEP", conversation=first.conversation, mechanism=CRAM_MD5, data=answer)
        return last.status == ACCEPTED and last.user == user.encode()
    wait_until(answered, "the answer is not taken")


def session(system, user, password, mechanism="SCRAM-SHA-256", reused=None):
    """A client that is logged in."""
    client = system.client()
    reply = login(client, mechanism, user, password)
    assert reply.ok, reply
    assert reused is None or reply.reused == reused, reply
    return client
