"""Logging in with a token (OAuth 2.0): XOAUTH2 and OAUTHBEARER, as clients do it."""
from keepwarm.imap import as_bytes, b64

MECHANISMS = ("XOAUTH2", "OAUTHBEARER")
OFFERED = "PLAIN LOGIN XOAUTH2 OAUTHBEARER"  # auth_mechanisms of a site with tokens
BEFORE = "IMAP4rev1 LITERAL+ SASL-IR ID AUTH=PLAIN AUTH=XOAUTH2 AUTH=OAUTHBEARER"  # a mail host's
ANSWERS = {"XOAUTH2": b"", "OAUTHBEARER": b"AQ=="}  # to a report of an error


def message(mechanism, user, token):
    user, token = as_bytes(user), as_bytes(token)
    if mechanism == "XOAUTH2":
        return b"user=%s\1auth=Bearer %s\1\1" % (user, token)
    name = user.replace(b"=", b"=3D").replace(b",", b"=2C")
    return b"n,a=%s,\1host=proxy.example\1port=143\1auth=Bearer %s\1\1" % (name, token)


def send(client, mechanism, user, token, initial=True):
    """Returns the tag."""
    tag = client.tag()
    blob = b64(message(mechanism, user, token))
    if initial:
        client.send(tag + b" AUTHENTICATE " + mechanism.encode() + b" " + blob + b"\r\n")
    else:
        client.send(tag + b" AUTHENTICATE " + mechanism.encode() + b"\r\n")
        client.expect_exact("+ \r\n")
        client.send(blob + b"\r\n")
    return tag


def login(client, mechanism, user, token, initial=True):
    """The reply, and with it the line in which the mail host reported why it refuses the token, or None."""
    tag = send(client, mechanism, user, token, initial)
    report, line = None, client.line()
    if line.startswith(b"+ "):
        report = line
        client.send(ANSWERS[mechanism] + b"\r\n")
    else:
        client.buffer = line + client.buffer
    reply = client.reply(tag)
    reply.report = report
    return reply


def session(system, user, token, mechanism="XOAUTH2", reused=None, initial=True):
    """A client that is logged in."""
    client = system.client()
    reply = login(client, mechanism, user, token, initial)
    assert reply.ok, reply
    assert reused is None or reply.reused == reused, reply
    return client
