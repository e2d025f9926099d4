"""Conversations with a server, kept as text: read from files, held with a server, answers made comparable.

A file has many; `= NAME` begins one, `# ...` is a comment. `= NAME | SERVER ...` is for those servers only. Each
further line is one step:

    TAG COMMAND   sent with CRLF; then wait for the tagged answer (or `+`, if it asks for one, or the end)
    + TEXT        the same for what continues the command: a literal and what is behind it, DONE
    ^ TAG COMMAND sent together with the next step, which waits for all of them
    ! TEXT        sent with CRLF, no answer awaited
    . TEXT        sent without CRLF, together with the next step
    < TEXT        wait for a line that contains TEXT
    & COMMAND     another session of the same user, past the proxy, does this; its answer is not looked at
    ~ COMMAND     the session before has done this

In them %XX is a byte, %{X*N} is N times X, %{p} the prefix of mailboxes (INBOX. for Courier), %{NAME} one of
MESSAGES and %{#NAME} its size. What is received becomes (step, line) pairs, literals within their lines.

What must be received may stand behind a step, or before the first one for the greeting (judge() looks at it):

    > TEXT        the next line that came in this step; %* in it is any text
    > ...         any number of untagged lines, up to one that is as the next `>` says
    - TEXT        no line that came in this step contains this

Without a `>` the lines of a step are not looked at, with one they all are. Further steps and `: KEY VALUE`, a line
for the proxy's configuration, are for conversations with a proxy: proxytalk.py.
"""
import re

from keepwarm.imap import Client

SECONDS = 8.0
CLOSED, NOTHING = b"<closed>", b"<nothing came>"
DATE = "14-Nov-2023 22:13:20 +0000"  # of the messages that are there from the beginning
SECONDS_OF_DATE = 1700000000


def crlf(text):
    return text.strip("\n").replace("\n", "\r\n").encode() + b"\r\n"


PLAIN = crlf("""
From: Anna <anna@example.test>
To: bert@example.test
Subject: first words
Date: Mon, 13 Nov 2023 10:00:00 +0000
Message-ID: <one@example.test>

Hello, this is the first message.
a1 OK this is no answer
""")
REPLY = crlf("""
From: Bert <bert@example.test>
To: anna@example.test
Subject: Re: first words
Date: Mon, 13 Nov 2023 11:00:00 +0000
Message-ID: <two@example.test>
In-Reply-To: <one@example.test>
References: <one@example.test>

Hello back. {10}
""")
PARTS = crlf("""
From: Anna <anna@example.test>
To: bert@example.test
Subject: with an attachment
Date: Tue, 14 Nov 2023 09:00:00 +0000
Message-ID: <three@example.test>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b"

--b
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

caf=C3=A9
--b
Content-Type: application/octet-stream; name="x.bin"
Content-Disposition: attachment; filename="x.bin"
Content-Transfer-Encoding: base64

AAECAwQFBgcICQ==
--b--
""")
EIGHT = crlf("""
From: Zoë <zoe@example.test>
To: anna@example.test
Subject: Grüße aus Köln
Date: Tue, 14 Nov 2023 10:00:00 +0000
Message-ID: <four@example.test>
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Ümlaute und so weiter.
x9 LOGOUT
""")
MESSAGES = {
    "plain": PLAIN, "reply": REPLY, "parts": PARTS, "eight": EIGHT,
    "nul": b"Subject: nul\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n"
           b"MIME-Version: 1.0\r\n\r\n\0\1\2\r\n",
    "big": b"Subject: big\r\n\r\n" + b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789\r\n" * 5000,
    "commands": b"Subject: commands\r\n\r\na2 LOGOUT\r\na3 SELECT INBOX\r\n* BYE\r\n+ go\r\n",
}
# What each mailbox holds when a conversation begins: (message, flags) in the order of UIDs.
MAILBOXES = {
    "INBOX": [("plain", ""), ("reply", "S"), ("parts", "FS"), ("eight", "")],
    "box": [("plain", "S"), ("eight", "S"), ("reply", "T")],
    "empty": [],
}


class Conversation:
    def __init__(self, name, servers):
        self.name, self.servers = name, servers
        self.before, self.steps, self.config = [], [], []
        self.expected, self.forbidden = {}, {}  # number of the step: texts

    def add(self, line):
        """One line of the file."""
        kind = line[:1] if line[1:2] in (" ", "") else ""
        if kind == "~":
            self.before.append(line[2:])
        elif kind == ":":
            self.config.append(line[2:])
        elif kind in (">", "-"):
            texts = self.expected if kind == ">" else self.forbidden
            texts.setdefault(len(self.steps), []).append(line[2:])
        else:
            self.steps.append(line)

    def enables(self):
        """Is something turned on before, so that the connection has a fingerprint?"""
        opening = r"ENABLE|STATUS .*HIGHESTMODSEQ|(SELECT|EXAMINE) .*\(CONDSTORE\)$"
        return any(re.match(opening, command) for command in self.before)

    def suits(self, server):
        return not self.servers or server in self.servers


def read_file(path):
    conversations = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("= "):
            name, _, servers = line[2:].partition("|")
            conversations.append(Conversation(name.strip(), servers.split()))
        else:
            assert conversations, f"{path.name}:{number}: a step before the first conversation"
            conversations[-1].add(line)
    return conversations


def read_folder(folder):
    conversations = [each for path in sorted(folder.glob("*.txt")) for each in read_file(path)]
    names = [each.name for each in conversations]
    assert len(names) == len(set(names)), f"twice: {sorted({n for n in names if names.count(n) > 1})}"
    return conversations


def expand(text, prefix, words=None):
    """The bytes that a step's text stands for. words: further ones beside MESSAGES."""
    def one(match):
        word = match[1] or b""
        if match[2]:
            return bytes([int(match[2], 16)])
        if word == b"p":
            return prefix.encode()
        if b"*" in word:
            what, _, times = word.rpartition(b"*")
            return expand(what.decode("latin-1"), prefix) * int(times)
        name = word.lstrip(b"#").decode()
        message = words[name] if words and name in words else MESSAGES[name]
        return b"%d" % len(message) if word.startswith(b"#") else message
    return re.sub(rb"%\{([^}]+)\}|%([0-9A-Fa-f]{2})", one, text.encode("utf-8"))


class Held:
    """One conversation as it goes on: `lines` is what came, as (number of the step, line)."""

    def __init__(self, client, prefix, other, words=None, seconds=SECONDS):
        self.client, self.prefix, self.other = client, prefix, other
        self.words, self.seconds = words, seconds
        self.lines = []
        self.unsent = b""
        self.outstanding = []
        self.step = 0
        self.over = False
        self.continues = False  # does the server owe a `+`?

    def hold(self, steps):
        for self.step, text in enumerate([*steps, "zz NOOP"], 1):
            if self.over:
                break
            self.do(text)
        return self.lines

    def do(self, text):
        kind, rest = (text[0], text[2:]) if text[1:2] in (" ", "") and text[0] in "+^!.<&" else ("", text)
        data = expand(rest, self.prefix, self.words)
        if kind == "&":
            self.other(data)
        elif kind == "<":
            self.wait_line(data)
        elif kind == ".":
            self.unsent += data
        else:
            self.send_line(kind, data)

    def send_line(self, kind, data):
        words = data.split(b" ")
        if kind in ("", "^"):
            self.outstanding.append(words[0])
        if kind in ("", "+"):
            asks = len(words) > 1 and words[1].upper() in (b"IDLE", b"AUTHENTICATE", b"XIDLE") and kind == ""
            self.continues = bool(asks or re.search(rb"\{\d+\}\Z", data))
        self.unsent += data + b"\r\n"
        if kind != "^":
            try:
                self.client.send(self.unsent)
            except OSError:
                pass  # the end comes with the next read
            self.unsent = b""
        if kind in ("", "+"):
            self.wait()

    def read(self):
        """The next line, or None when nothing more comes."""
        try:
            line = self.client.line(self.seconds)
        except AssertionError:
            line = CLOSED if self.client.eof else NOTHING
            if self.client.buffer:
                self.lines.append((self.step, self.client.take(len(self.client.buffer))))
            self.over = True
        self.lines.append((self.step, line))
        return None if self.over else line

    def wait(self):
        while self.outstanding and (line := self.read()) is not None:
            tag = line.partition(b" ")[0]
            if tag in self.outstanding:
                self.outstanding.remove(tag)
            if tag == b"+" and self.continues:
                self.continues = False
                return

    def wait_line(self, text):
        while (line := self.read()) is not None and text not in line:
            pass


def judge(what, lines, words=None):
    """Returns what is wrong with the lines that came, by the conversation's own expectations, or None."""
    for step, texts in what.forbidden.items():
        for text in texts:
            if any(expand(text, "", words) in line for number, line in lines if number == step):
                return f"step {step}: {text!r} came"
    for step, texts in what.expected.items():
        problem = judge_step([expected_pattern(text, words) for text in texts],
                             [line for number, line in lines if number == step])
        if problem:
            return f"step {step}: {problem}"
    return None


def expected_pattern(text, words):
    """A compiled pattern for the whole line, or None for "..."."""
    if text == "...":
        return None
    if text in (CLOSED.decode(), NOTHING.decode()):
        return re.compile(re.escape(text.encode()))
    pieces = [re.escape(expand(piece, "", words)) for piece in text.split("%*")]
    return re.compile(rb"[^\r\n]*".join(pieces) + rb"\r\n")


def judge_step(patterns, lines):
    lines = list(lines)
    for number, pattern in enumerate(patterns):
        if pattern is None:
            ending = patterns[number + 1] if number + 1 < len(patterns) else None
            while lines and not (ending and ending.fullmatch(lines[0])) and lines[0].startswith((b"* ", b" ")):
                lines.pop(0)
        elif not lines or not pattern.fullmatch(lines.pop(0)):
            return f"line {number + 1} of what is expected did not come"
    return f"came as well: {lines[0]!r}" if lines else None


def login(port, user, password):
    client = Client(port)
    client.login_reply = client.login(user, password)
    assert client.login_reply.ok, client.login_reply
    return client


# --- what differs between any two runs --------------------------------------------------------------
NEUTRAL = [(re.compile(pattern), text) for pattern, text in (
    (rb"UIDVALIDITY \d+", b"UIDVALIDITY <n>"),
    (rb"\[(APPENDUID|COPYUID) \d+", rb"[\1 <uidvalidity>"),
    (rb"\(\d+\.\d+ \+ \d+\.\d+(?: \+ \d+\.\d+)? secs\)", b"(<time> secs)"),
    (rb"\(\d+\.\d+ sec(s?)", rb"(<time> sec\1"),
    (rb"in \d+\.\d+ secs", b"in <time> secs"),
    (rb"SESSIONID=<[^>]*>", b"SESSIONID=<id>"),
    (rb"\b(MAILBOXID|EMAILID|THREADID|CID|ANNOTATIONID) (?:\(\w+\)|\w{8,})", rb"\1 <id>"),
    (rb'"(?!14-Nov-2023)[ \d]\d-[A-Z][a-z]{2}-20[2-9]\d \d\d:\d\d:\d\d [+-]\d{4}"', b'"<date>"'),
    (rb" ?\\(?:Un)?Marked", b""),  # what Dovecot says of a maildir depends on the second in which it is asked
    (rb"(UIDVALIDITY|GUID|guid)=[0-9a-f]+", rb"\1=<id>"),
)]


def neutral(lines):
    """The lines without what no two runs have in common."""
    result = []
    for step, line in lines:
        for pattern, text in NEUTRAL:
            line = pattern.sub(text, line)
        result.append((step, line))
    return result
