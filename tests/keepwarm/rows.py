"""Rows of a table "a session does this and leaves so": what the user's next session then sees.

The steps of a row are commands, each awaited. In them %{...} and %XX are as in a conversation (conversation.py), and a line
break means that the rest is sent when the server has asked for it (`+`): a literal, or DONE.
"""
import re
from typing import NamedTuple

from keepwarm import conversation, process

YES, NO, EITHER = "yes", "no", "either"
GO_AHEAD = rb"(?s)(.*?\r\n)?\+[^\r\n]*\r\n"


class Row(NamedTuple):
    name: str
    steps: tuple = ()
    last: str = ""  # sent as it is, its answer is not awaited
    until: bytes = b""  # a pattern for what must have come behind `last`
    rest: str = ""  # and this is sent then
    leave: str = "logout"  # or drop, reset, end: the server ends it
    reused: str = YES  # does the next session of the user take the connection?
    needs: str = ""  # a word of the server's capability list
    probe: tuple = ()  # what the next session does first, as steps of a conversation

    @property
    def selects(self):
        """May a mailbox be selected when the client leaves?"""
        text = " ".join([*self.steps, self.last]).upper()
        begin = max(text.rfind("SELECT "), text.rfind("EXAMINE "))
        return begin > text.rfind("UNSELECT") and text.rfind("CLOSE") < begin


# What every next session does: a mailbox that is selected already, numbers or uids, VANISHED, MODSEQ, a saved search result,
# UTF-8 names, a language: each of them would show.
PROBE = """
p1 NOOP
p2 FETCH 1 FLAGS
p3 SELECT INBOX
p4 FETCH 1:* (UID FLAGS)
p5 STORE 1 +FLAGS (\\Answered)
p6 UID SEARCH ALL
p7 SEARCH CHARSET US-ASCII ALL
p8 FETCH $ FLAGS
& SELECT INBOX
& STORE 2 +FLAGS.SILENT (\\Deleted)
& EXPUNGE
p9 NOOP
pa FETCH 1:* UID
pb LIST "" *
pc STATUS INBOX (MESSAGES UNSEEN)
pd SELECT no-such-mailbox
""".strip().splitlines()


def command(client, text, prefix):
    """One step. Returns the Reply."""
    pieces = [conversation.expand(piece, prefix) for piece in text.split("\n")]
    tag = client.tag()
    client.send(tag + b" " + pieces[0] + b"\r\n")
    for piece in pieces[1:]:
        client.expect(GO_AHEAD)
        client.send(piece + b"\r\n")
    return client.reply(tag)


def begin(row, client, prefix):
    """What the row's session does, up to the moment in which it leaves. Returns the replies."""
    replies = [command(client, step, prefix) for step in row.steps]
    if row.last:
        client.send(conversation.expand(row.last, prefix))
    if row.until:
        client.expect(row.until)
    if row.rest:
        client.send(conversation.expand(row.rest, prefix))
    return replies


def leave(row, client, itself):
    """Returns what came last. A server itself may take another LOGOUT where Keepwarm ends."""
    if row.leave == "logout" or (row.leave == "end" and itself):
        client.send("z9 LOGOUT\r\n")
    if row.leave in ("logout", "end"):
        text = client.read_to_end()
        client.close()
        return text
    getattr(client, {"drop": "close", "reset": "reset"}[row.leave])()
    return b""


def whole_session(row, port, user, password, prefix, itself):
    """With the server itself, or through Keepwarm. Returns its replies and its last words."""
    client = conversation.login(port, user, password)
    replies = begin(row, client, prefix)
    return replies, leave(row, client, itself)


def sessions_ended(system, user):
    """The processes of the user's sessions that have ended, as far as their log lines go."""
    return re.findall(rf"proxyd\[(\d+)\]: session ended .* user={user} ", system.log_text())


def fresh_sessions(system, user):
    """How many of them had a fresh connection. (The statistics lag behind the log.)"""
    return len(re.findall(rf"session ended .* user={user} .* reused=no ", system.log_text()))


def wait_ended(system, user, before=()):
    """One more session of the user has ended, and its process: the connection is given back behind the log line."""
    def ended():
        pids = sessions_ended(system, user)
        return len(pids) > len(before) and system.has_ended(int(pids[-1]))
    process.wait_until(ended, lambda: f"the session of {user} does not end:\n{system.log_text()[-3000:]}")
