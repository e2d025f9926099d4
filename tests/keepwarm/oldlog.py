"""What the old program's log says (log_format imapproxy): scenes with clients and a scripted mail host, and their lines.

In a line CLIENT is the client's address and port, N the number of a descriptor, of ours: of a session. Names are sent as
atoms: the old program writes the quotation marks of a quoted string, too. A scene's users are its own.
"""
import re

from keepwarm.backend import CLOSE
from keepwarm.imap import Client
from keepwarm.process import wait_until

WORDS = (r"(?:LOGIN: |LOGOUT: |Raw_Proxy|IMAP_Line_Read|Invalidating |Get_Server_conn)")
LINE = re.compile(rf"^(?:<(\d+)>)?(?:\w{{3}} [ \d]\d [\d:]{{8}} )?in\.imapproxyd\[\d+\]: ({WORDS}.*)$")
NEUTRAL = ((r"127\.0\.0\.1:\d+", "CLIENT"), (r"sd \[\d+\]", "sd [N]"), (r" sd \d+$", " sd N"))


def lines(text):
    """[(priority or None, line)]"""
    found = []
    for line in text:
        match = LINE.match(line.rstrip("\n\0"))
        if match:
            said = match[2]
            for pattern, same in NEUTRAL:
                said = re.sub(pattern, same, said)
            found.append((match[1] and int(match[1]), said))
    return found


class Stage:
    """A proxy, old or new, with its mail host; `read` gives the lines of its log so far."""

    def __init__(self, port, backend, read):
        self.port, self.backend, self.read, self.seen = port, backend, read, len(lines(read()))

    def client(self):
        return Client(self.port)

    def session(self, user):
        client = self.client()
        assert client.login(user, f"pw-{user}", "atoms").ok
        return client

    def refused(self, user, password="wrong", how="atoms"):
        client = self.client()
        assert not client.login(user, password, how).ok
        client.send("z LOGOUT\r\n")
        client.read_to_end()
        client.close()

    def play(self, scene, count):
        """The lines of one scene, of which `count` are waited for."""
        scene(self)
        wait_until(lambda: len(lines(self.read())) >= self.seen + count,
                   lambda: f"{scene.__name__}: not {count} more: {lines(self.read())[self.seen:]}")
        new = lines(self.read())[self.seen:]
        self.seen += len(new)
        return new


# --- scenes ---------------------------------------------------------------------------------------------
def login_and_logout(stage):
    stage.session("anna").logout()


def a_drop(stage):
    stage.session("bert").close()


def a_wrong_password(stage):
    stage.refused("carl")


def an_early_end(stage):
    stage.client().close()


def a_mail_host_that_closes(stage):
    client = stage.session("dora")
    stage.backend.connections[-1].drop()
    client.read_to_end()  # Keepwarm says BYE
    client.close()


def a_mail_host_that_says_nothing_to_a_login(stage):
    verdict, stage.backend.verdict = stage.backend.verdict, lambda *_: CLOSE
    try:
        stage.refused("emil")
    finally:
        stage.backend.verdict = verdict


def a_mail_host_that_does_not_greet(stage):
    greeting, stage.backend.greeting = stage.backend.greeting, CLOSE
    try:
        stage.refused("fred")
    finally:
        stage.backend.greeting = greeting


def another_code(stage):
    refusal, stage.backend.refusal = stage.backend.refusal, b"TAG NO [UNAVAILABLE] Come back later\r\n"
    try:
        stage.refused("gerd")
    finally:
        stage.backend.refusal = refusal


CREATING, FAILED = "LOGIN: '{0}' (CLIENT) no previous connection: creating a new one", "LOGIN: '{0}' (CLIENT) failed: "
NEW, LOGOUT = "LOGIN: '{0}' (CLIENT) on new sd [N]", "LOGOUT: '{0}' from server sd [N]"
INFO, NOTICE, WARNING, ERR = 22, 21, 20, 19  # of LOG_MAIL


def said(user, *rows):
    return [(priority, text.format(user)) for priority, text in rows]


SCENES = [
    (login_and_logout, said("anna", (INFO, CREATING), (INFO, NEW), (INFO, LOGOUT))),
    (login_and_logout, said("anna", (INFO, "LOGIN: '{0}' (CLIENT) on existing sd [N]"), (INFO, LOGOUT))),
    (a_drop, said("bert", (INFO, CREATING), (INFO, NEW), (WARNING, "IMAP_Line_Read(): connection closed prematurely."),
                  (NOTICE, "Raw_Proxy(): Failed to read line from client on sd [N]"), (INFO, LOGOUT))),
    (a_wrong_password, said("carl", (INFO, CREATING), (INFO, FAILED + "non-OK server response to LOGIN command: "
                                                       "NO [AUTHENTICATIONFAILED] Private words of the backend"))),
    (an_early_end, [(WARNING, "IMAP_Line_Read(): connection closed prematurely.")]),
    (a_mail_host_that_closes, said("dora", (INFO, CREATING), (INFO, NEW),
                                   (ERR, "Raw_Proxy(): IMAP server unexpectedly closed the connection on sd N"),
                                   (INFO, "Invalidating server sd [N]"))),
    (a_mail_host_that_says_nothing_to_a_login,
     said("emil", (INFO, CREATING), (INFO, FAILED + "No response from IMAP server after sending LOGIN command"))),
    (a_mail_host_that_does_not_greet,
     said("fred", (INFO, CREATING), (INFO, FAILED + "No banner line received from IMAP server"))),
    (another_code, said("gerd", (INFO, CREATING), (INFO, FAILED + "non-OK server response to LOGIN command: "
                                                   "NO [UNAVAILABLE] Come back later"))),
]
