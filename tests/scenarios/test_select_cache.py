"""enable_select_cache: a mailbox left open on an idle connection, and that nobody can tell.

The scripted mail host plays one mailbox; what it says can be changed line by line.
"""
import signal

import pytest

from keepwarm.backend import AFTER, CLOSE
from keepwarm.messages import ACCEPTED, Peer
from keepwarm.process import frozen, wait_until

LINES = {"flags": rb"FLAGS (\Seen kw)", "permanent": b"OK [PERMANENTFLAGS ()] Read-only.", "exists": b"4 EXISTS",
         "recent": b"0 RECENT", "unseen": b"OK [UNSEEN 3] First.", "validity": b"OK [UIDVALIDITY 17] Ok",
         "next": b"OK [UIDNEXT 9] Ok"}
STATUS = b"* STATUS INBOX (MESSAGES 4 UIDNEXT 9 UIDVALIDITY 17 UNSEEN 1)\r\n"
ASKED = b"STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"
RESULT = b"OK [READ-ONLY] Examined, says the backend"
NEWS = [b"* 5 EXISTS", b"* 1 RECENT", b"* 2 EXPUNGE", rb"* 3 FETCH (FLAGS (\Seen))", rb"* FLAGS (\Seen kw new)",
        b"* VANISHED 3", b"* NO Internal error", b"* OK [ALERT] Disk is full"]


class Box:
    """The mailbox as the mail host shows it."""

    def __init__(self, backend):
        self.lines, self.status, self.result = dict(LINES), STATUS, RESULT
        self.news = []
        self.backend = backend
        backend.answers |= {"EXAMINE": self.examine, "SELECT": self.select, "NOOP": self.noop, "STATUS": self.tell}

    def open(self, conn, result):
        command = conn.commands[-1]
        if not command.args or command.args[0].upper() not in (b"INBOX", b"BOX"):
            conn.selected = None
            return conn.done(command, b"NO No such mailbox")
        conn.selected = command.args[0] if result.startswith(b"OK") else None
        lines = b"".join(b"* " + line + b"\r\n" for line in self.lines.values()) if conn.selected else b""
        conn.send(lines)
        return conn.done(command, result)

    def examine(self, conn):
        self.open(conn, self.result)

    def select(self, conn):
        self.open(conn, b"OK [READ-WRITE] Selected, says the backend")

    def noop(self, conn):
        if conn.selected is not None:
            conn.send(b"".join(line + b"\r\n" for line in self.news))
            self.news = []
        conn.any_noop(conn.commands[-1])

    def tell(self, conn):
        conn.send(self.status)
        conn.done(conn.commands[-1], b"OK [CLIENTBUG] Status" if self.status else b"NO Status")

    def answer(self):
        return b"".join(b"* " + line + b"\r\n" for line in self.lines.values())


@pytest.fixture(name="box")
def box_fixture(backend):
    return Box(backend)


@pytest.fixture(name="system")
def system_fixture(make, backend):
    return make.system(backend, enable_select_cache="yes")


def visit(system, *commands, first="EXAMINE INBOX", **login):
    """A session; its replies. Its connection has been given back when this returns."""
    with system.session(**login) as client:
        replies = [client.command(each) for each in [first, *commands]]
        client.logout()
    system.wait_given()
    return replies


def said(backend, since=0):
    """What the first connection heard after its login."""
    return [command.raw for command in backend.connections[0].commands[1:]][since:]


def counts(system, hits, misses):
    system.wait_counters(select_hits=hits, select_misses=misses)


KEPT = [b"UNSELECT", b"EXAMINE INBOX", b"NOOP", ASKED]  # what a session ends with
RESET = [b"UNSELECT", b"NOOP"]  # and ends with when nothing is kept


# --- hits ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("again", ["EXAMINE INBOX", "examine inbox", 'EXAMINE "Inbox"'])
def test_who_opens_the_same_mailbox_gets_the_same_answer_without_opening_it(system, backend, box, again):
    first, = visit(system, reused=False)
    assert said(backend) == [b"EXAMINE INBOX", *KEPT]
    second, body = visit(system, "FETCH 1 BODY[]", first=again, reused=True)
    assert second.text == first.text == box.answer() and second.tagged == first.tagged == RESULT
    assert b"<anna>" in body.text
    asked = again.split()[1].encode()
    assert said(backend, 5) == [b"NOOP", ASKED, b"FETCH 1 BODY[]", b"UNSELECT", b"EXAMINE " + asked, b"NOOP",
                                ASKED.replace(b"INBOX", asked)]
    counts(system, 1, 0)


def test_commands_behind_it_are_answered_in_order(system, backend, box):
    visit(system)
    with system.session(reused=True) as client:
        client.send("a EXAMINE INBOX\r\nb FETCH 1 BODY[]\r\nc NOOP\r\nd CLOSE\r\n")
        assert client.reply("a").text == box.answer()
        assert b"<anna>" in client.reply("b").text
        assert client.reply("c").ok and client.reply("d").ok


def test_a_command_in_pieces_is_waited_for(system, box):
    visit(system)
    with system.session(reused=True) as client:
        for piece in ("a EXA", "MINE INB", "OX\r", "\n"):
            client.expect_nothing()
            client.send(piece)
        assert client.reply("a").text == box.answer()
    counts(system, 1, 0)


def test_it_is_kept_as_it_is_at_the_end_not_as_the_client_had_it(system, backend, box):
    """What was told in an answer to FETCH is not told again: NOOP would be silent about it."""
    with system.session() as client:
        client.ok("EXAMINE INBOX")
        box.lines["unseen"] = b"OK [UNSEEN 4] First."
        box.status = STATUS.replace(b"UNSEEN 1", b"UNSEEN 7")
        client.logout()
    system.wait_given()
    reply, = visit(system, reused=True)
    assert b"[UNSEEN 4]" in reply.text
    counts(system, 1, 0)


def test_answers_in_another_order_are_understood(system, backend, box):
    """Dovecot answers STATUS before the NOOP in front of it."""
    waiting = []

    def tell(conn):
        conn.send(box.status)
        conn.done(conn.commands[-1], b"OK Status")
        for command in waiting:
            conn.any_noop(command)
        waiting.clear()

    def noop(conn):
        waiting.append(conn.commands[-1])
    backend.answers |= {"STATUS": tell, "NOOP": noop}
    visit(system)
    reply, = visit(system, reused=True)
    assert reply.text == box.answer()
    counts(system, 1, 0)


def test_a_connection_that_lay_for_long_is_proven_and_keeps_its_mailbox(make, backend, box):
    system = make.system(backend, enable_select_cache="yes", cache_validate_after=0)
    visit(system)
    reply, = visit(system, reused=True)
    assert reply.text == box.answer()
    assert said(backend, 5)[:4] == [b"NOOP", ASKED, b"NOOP", ASKED]
    box.news = [b"* 5 EXISTS"]
    visit(system, reused=True)
    assert said(backend, 13)[:4] == [b"NOOP", ASKED, b"UNSELECT", b"EXAMINE INBOX"]
    counts(system, 1, 1)


# --- news ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("news", NEWS)
def test_any_news_makes_it_a_real_examine_of_which_nothing_shows(system, backend, box, news):
    visit(system)
    box.news, box.lines["exists"] = [news], b"5 EXISTS"
    reply, = visit(system, reused=True)
    assert reply.text == box.answer() and reply.tagged == RESULT
    assert said(backend, 5) == [b"NOOP", ASKED, b"UNSELECT", b"EXAMINE INBOX", *KEPT]
    counts(system, 0, 1)


@pytest.mark.parametrize("status", [STATUS.replace(b"17", b"18"), STATUS.replace(b"UNSEEN 1", b"UNSEEN 2"), b"",
                                    STATUS + STATUS, b"* STATUS box (MESSAGES 4)\r\n"])
def test_another_status_makes_it_a_real_examine(system, backend, box, status):
    visit(system)
    box.status = status
    reply, = visit(system, reused=True)
    assert reply.text == box.answer()
    assert said(backend, 5)[:4] == [b"NOOP", ASKED, b"UNSELECT", b"EXAMINE INBOX"]
    counts(system, 0, 1)


def test_a_mailbox_that_is_gone_is_refused(system, backend, box):
    visit(system)
    box.news, box.status, box.result = [b"* 1 EXPUNGE"], b"", b"NO [NONEXISTENT] No such mailbox"
    reply, fetch = visit(system, "FETCH 1 BODY[]", reused=True)
    assert reply.tagged == box.result and not reply.text
    assert fetch.tagged == b"BAD No mailbox selected"


def test_what_the_mail_host_says_before_the_first_command_is_for_nobody(system, backend, box):
    visit(system)
    with system.session(reused=True) as client:
        backend.connections[0].push(b"* 5 EXISTS\r\n* OK [ALERT] Hello\r\n")
        client.expect_nothing()
        reply = client.ok("EXAMINE INBOX")
        assert reply.text == box.answer()
    counts(system, 0, 1)


DEATHS = {"EOF": lambda conn: None, "RST": lambda conn: conn.reset(),
          "BYE": lambda conn: conn.send(b"* BYE Mailbox was deleted\r\n")}


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("verb", ["NOOP", "STATUS", "UNSELECT"])
def test_a_connection_that_dies_over_the_question_is_replaced(system, backend, box, verb, death):
    """Dovecot closes when it finds the mailbox deleted."""
    def die(conn):
        backend.answers[verb] = before
        if before is None:
            del backend.answers[verb]
        DEATHS[death](conn)
        conn.answer(CLOSE)
    visit(system)
    before, backend.answers[verb] = backend.answers.get(verb), die
    reply, fetch = visit(system, "FETCH 1 BODY[]", first="SELECT INBOX" if verb == "UNSELECT" else "EXAMINE INBOX",
                         reused=True)
    assert reply.text == box.answer() and b"<anna>" in fetch.text
    assert len(backend.connections) == 2
    system.wait_counter("stale", 1)


@pytest.mark.parametrize("first", ["SELECT INBOX", "FETCH 1 FLAGS", "EXAMINE INBOX"])
def test_one_that_ends_in_the_moment_of_the_first_command_is_replaced(system, backend, box, first):
    """UNSELECT is still taken by the kernel, what comes behind it is not."""
    visit(system)
    with system.session(reused=True) as client:
        with frozen(system.pid_serving(client)):
            client.send(f"a {first}\r\n")
            backend.connections[0].drop()
            assert backend.connections[0].closed.wait(10)
        assert client.reply("a").tagged[:2] == (b"BA" if first.startswith("FETCH") else b"OK")
    assert len(backend.connections) == 2 and backend.connections[1].verbs()[1] == first.split()[0]


def test_an_answer_larger_than_the_buffer_may_come_with_that_to_unselect(system, backend, box):
    """All of it is there when the session first reads."""
    visit(system)
    unselect = []
    lines = 1500 * (b'* LIST () "/" "' + 100 * b"x" + b'"\r\n')

    def answer(conn):
        with frozen(system.pid_serving(client)):
            conn.sock.settimeout(0)
            text = unselect.pop() + b" OK\r\n" + lines + conn.commands[-1].tag + b" OK Listed\r\n"
            sent = conn.sock.send(text)
            assert sent > 70000, "the kernel takes too little for this test"
        conn.sock.settimeout(10)
        conn.send(text[sent:])
    backend.answers |= {"UNSELECT": lambda conn: unselect.append(conn.commands[-1].tag), "LIST": answer}
    with system.session(reused=True) as client:
        client.send('a LIST "" *\r\n')
        assert client.reply("a").text == lines
    assert len(backend.connections) == 1


def test_the_other_connection_is_not_handed_on_with_its_mailbox_open(system, backend, box):
    """One died over its first command; the next idle one has a mailbox open, too."""
    clients = [system.session() for _ in range(2)]
    for client in clients:
        client.ok("EXAMINE INBOX")
        client.logout()
        system.wait_given()
    with system.session(reused=True) as client:
        backend.connections[1].reset()
        assert client.command("FETCH 1 FLAGS").tagged == b"BAD No mailbox selected"


def test_it_is_closed_in_time_for_a_client_that_says_nothing_for_long(make, backend, box):
    """Its password is not kept for ever, and without it a connection that dies over the question cannot be replaced."""
    system = make.system(backend, enable_select_cache="yes", login_timeout=3)
    visit(system)
    with system.session(reused=True) as client:
        wait_until(lambda: said(backend)[-1] == b"UNSELECT", lambda: f"no UNSELECT: {said(backend)}")
        box.result = b"NO [NONEXISTENT] No such mailbox"
        assert client.command("EXAMINE INBOX").tagged == box.result
        client.expect_nothing()
    counts(system, 0, 1)


@pytest.mark.parametrize("stray", [b"", b"* 5 EXISTS\r\n"])
def test_one_that_dies_before_the_first_command_is_replaced_and_the_other_one_is_as_new(system, backend, box, stray):
    visit(system)
    with system.session(reused=True) as client:
        if stray:
            backend.connections[0].push(stray)
            client.expect_nothing()
        backend.connections[0].drop()
        wait_until(lambda: len(backend.logins) == 2, "no other connection")
        client.ok("ENABLE CONDSTORE")
        assert client.ok("EXAMINE INBOX").text == box.answer()
        client.logout()
    system.wait_given()


# --- other first commands --------------------------------------------------------------------------------
@pytest.mark.parametrize("first", [
    "SELECT INBOX", "EXAMINE box", "EXAMINE INBOX (CONDSTORE)", "NOOP", "CAPABILITY", 'LIST "" *', "NAMESPACE",
    "FETCH 1 BODY[]", "STORE 1 FLAGS ()", "UID FETCH 1 BODY[]", "CLOSE", "UNSELECT", "STATUS INBOX (MESSAGES)", "ENABLE X",
    "XUNKNOWN", "COMPRESS DEFLATE", "EXAMINE", "APPEND INBOX {2+}\r\nxx", ""])
def test_any_other_first_command_meets_a_closed_mailbox(make, backend, first):
    """The same answer as from a system that keeps none open, and nothing of ours in it."""
    box = Box(backend)
    off, on = make.system(backend), make.system(backend, enable_select_cache="yes")
    visit(off, reused=False)
    visit(on, reused=False)
    box.news = [b"* 5 EXISTS"]
    want = one_command(off, first)
    box.news = [b"* 5 EXISTS"]
    assert one_command(on, first) == want
    counts(on, 0, 1)


def one_command(system, first):
    """Everything that comes in answer to a session's first command, and to a NOOP behind it."""
    with system.session(reused=True) as client:
        client.send(f"a {first}\r\n".encode() if first else b"\r\n")
        client.send("b NOOP\r\n")
        lines = []
        while not lines or not lines[-1].startswith(b"b "):
            lines.append(client.line())
        return lines


def test_idle_with_a_closed_mailbox(system, backend, box):
    visit(system)
    with system.session(reused=True) as client:
        client.send("a IDLE\r\n")
        client.expect_exact("+ idling\r\n")
        assert backend.connections[0].selected is None
        client.send("DONE\r\n")
        assert client.reply("a").ok


@pytest.mark.parametrize("leave", ["LOGOUT", "drop"])
def test_who_says_nothing_leaves_a_closed_mailbox(system, backend, box, leave):
    visit(system)
    client = system.session(reused=True)
    client.logout() if leave == "LOGOUT" else client.close()
    system.wait_given()
    assert backend.connections[0].selected is None and said(backend)[-1] == b"NOOP"
    with system.session(reused=True) as client:
        assert client.command("FETCH 1 FLAGS").tagged == b"BAD No mailbox selected"


def test_what_it_enables_is_its_own_and_its_connection_is_kept(system, backend, box):
    visit(system)
    with system.session(reused=True) as client:
        client.ok("ENABLE CONDSTORE")
        client.ok("EXAMINE INBOX")
        client.logout()
    system.wait_given()
    assert said(backend, 5) == [b"UNSELECT", b"ENABLE CONDSTORE", b"EXAMINE INBOX", *RESET]


# --- what is kept ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("which,line", [
    ("recent", b"1 RECENT"), ("more", b"OK [HIGHESTMODSEQ 5] Ok"), ("more", b'OK [MYRIGHTS "lr"] ACL'),
    ("permanent", rb"OK [PERMANENTFLAGS (\Seen)] Ok"), ("more", b"OK [ALERT] Full"), ("recent", None),
    ("validity", None), ("exists", None), ("more", b"LIST () {3}\r\nbox"), ("more", b"x" * 3000)])
def test_an_answer_that_nobody_can_be_sure_of_is_not_kept(system, backend, box, which, line):
    if line:
        box.lines[which] = line
    else:
        del box.lines[which]
    for _ in range(2):
        reply, = visit(system)
        assert reply.text == box.answer()
    assert said(backend) == 2 * [b"EXAMINE INBOX", *KEPT, *RESET]
    counts(system, 0, 0)


@pytest.mark.parametrize("result", [b"OK [READ-WRITE] Ok", b"OK Ok", b"NO No", b"BAD Bad"])
def test_what_is_not_open_for_reading_is_not_kept(system, backend, box, result):
    box.result = result
    visit(system)
    visit(system, reused=True)
    assert said(backend)[-2:] == RESET and len(backend.connections) == 1
    counts(system, 0, 0)


@pytest.mark.parametrize("commands", [
    ["SELECT INBOX"], ["NOOP", "EXAMINE INBOX"], ["SELECT INBOX", "EXAMINE INBOX"], ["STATUS INBOX (HIGHESTMODSEQ)"],
    ['EXAMINE "a\\"b"'], ["EXAMINE {5+}\r\nINBOX"]])
def test_only_a_plain_first_examine_is_kept(system, backend, box, commands):
    visit(system, *commands[1:], first=commands[0])
    assert b"EXAMINE INBOX" not in said(backend)[len(commands):] and said(backend)[-1] == b"NOOP"
    counts(system, 0, 0)


def test_a_connection_with_a_fingerprint_has_no_mailbox_open(system, backend, box):
    with system.session() as client:
        client.ok("EXAMINE INBOX")
        client.ok("UNSELECT")
        client.ok("ENABLE CONDSTORE")
        client.logout()
    wait_until(lambda: system.gauge("active") == 0, "still active")
    assert said(backend).count(b"EXAMINE INBOX") == 1


def test_it_is_opened_again_whatever_came_behind(system, backend, box):
    visit(system, "SELECT INBOX", "CLOSE", "NOOP")
    assert said(backend)[-4:] == KEPT
    visit(system, reused=True)
    counts(system, 1, 0)


def test_off_it_costs_and_keeps_nothing(make, backend, box):
    system = make.system(backend)
    visit(system)
    visit(system, reused=True)
    assert said(backend) == 2 * [b"EXAMINE INBOX", *RESET]
    counts(system, 0, 0)


def test_without_unselect_nothing_is_kept(make, backend, box):
    backend.after = AFTER.replace("UNSELECT ", "")
    system = make.system(backend, enable_select_cache="yes")
    visit(system)
    assert len(said(backend)) == 3 and said(backend)[1].startswith(b"EXAMINE INBOX.K") and said(backend)[2] == b"NOOP"


def test_an_open_mailbox_is_closed_when_the_option_is_gone_meanwhile(system, backend, box):
    visit(system)
    system.write_config(enable_select_cache="no")
    system.supervisor.send_signal(signal.SIGHUP)
    system.wait_log("taken over")
    with system.session(reused=True) as client:
        assert client.command("FETCH 1 FLAGS").tagged == b"BAD No mailbox selected"
        client.logout()
    system.wait_given()
    assert said(backend)[-1] == b"NOOP"


def test_another_account_or_password_never_sees_it(system, backend, box):
    backend.passwords = {"anna": b"same", "bert": b"same"}
    visit(system, password="same")
    with system.session("bert", "same", reused=False) as client:
        client.ok("EXAMINE INBOX")
    counts(system, 0, 0)


# --- lies ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", [b"x", b"INBOX\r\n* BYE ha\r\n", b"INBOX\r\n* OK [CAPABILITY X] y\r\nOK [READ-ONLY]\r\n",
                                  b"INBOX\r\n" + 40 * b"* 4 EXISTS\r\n", b"\0", b"*\r\n" * 600])
def test_a_lie_about_it_costs_the_connection_and_nothing_else(system, backend, box, text):
    """A session that was taken over gives its connection back with a text of its own making."""
    with Peer(system) as liar:
        liar.request("HELLO", service=1, client="203.0.113.9", client_port=4711)
        lease = liar.request("LEASE", proof_kind=1, user="anna", secret="pw-anna")
        log_in(lease.sock)
        liar.push("OUTCOME", outcome=ACCEPTED)
        liar.push("RETURNING")
        liar.push("GIVE", [lease.sock.fileno()], capabilities=AFTER, examined=text)
        lease.sock.close()
    system.wait_given()
    with system.session() as client:
        assert client.ok("EXAMINE INBOX").text == box.answer()
    counts(system, 0, 0)


@pytest.mark.parametrize("name", ["GIVE", "TALLY"])
def test_a_use_that_there_is_not_ends_the_peer(system, backend, name):
    with Peer(system) as liar:
        liar.request("HELLO", service=1, client="203.0.113.9", client_port=4711)
        lease = liar.request("LEASE", proof_kind=1, user="anna", secret="pw-anna")
        if name == "TALLY":
            liar.push("TALLY", select=3)
        else:
            log_in(lease.sock)
            liar.push("OUTCOME", outcome=ACCEPTED)
            liar.push("RETURNING")
            liar.push("GIVE", [lease.sock.fileno()], capabilities=AFTER, select=3)
        lease.sock.close()
        liar.expect_cut_off()
    system.wait_counter("bad_messages", 1)


def log_in(sock):
    sock.settimeout(10)
    sock.recv(4096)
    sock.sendall(b"a LOGIN anna pw-anna\r\n")
    sock.recv(4096)
