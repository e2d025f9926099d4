"""One client of the concurrency test: many logins of many users, each of which must see its own mail only.

Run as `python3 -m keepwarm.storm PORT NUMBER LOGINS USERS`; prints one JSON object, exits 1 at the first
thing that is not as it must be. LOGINS 0: goes on until its standard input ends.
"""
import itertools
import json
import random
import select
import sys
import time

from keepwarm.dovecot import Dovecot
from keepwarm.imap import Client

HOWS = ("quoted", "atoms", "nonsync", "plain-initial", "login")
WRONG_EVERY = 20


def one_login(port, user, how, wrong_first, leave):
    """Returns whether the connection was a reused one."""
    with Client(port) as client:
        if wrong_first:
            reply = client.login(user, "wrong", how)
            assert reply.tagged.startswith(b"NO [AUTHENTICATIONFAILED] "), reply
        reply = client.login(user, Dovecot.password(user), how)
        assert reply.ok, reply
        client.ok("SELECT INBOX")
        text = client.ok("FETCH 1:* BODY.PEEK[TEXT]").text
        assert text.count(b"This is the mail of <") == 1 and f"<{user}>".encode() in text, text
        if leave == "logout":
            client.logout()
    return reply.reused


def main(port, number, logins, users):
    chance = random.Random(number)
    result = {"logins": 0, "reused": 0, "wrong": 0, "slowest": 0}
    begin = time.monotonic()
    for turn in range(logins) if logins else itertools.count():
        if not logins and select.select([sys.stdin], [], [], 0)[0]:
            break
        last = time.monotonic()
        wrong_first = turn % WRONG_EVERY == WRONG_EVERY - 1
        leave = "close" if chance.random() < 0.2 else "logout"
        result["reused"] += one_login(port, f"user{chance.randint(1, users)}", chance.choice(HOWS),
                                      wrong_first, leave)
        result["logins"] += 1
        result["wrong"] += wrong_first
        result["slowest"] = max(result["slowest"], time.monotonic() - last)
    result["seconds"] = time.monotonic() - begin
    print(json.dumps(result))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
