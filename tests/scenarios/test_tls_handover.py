"""proxyd hands its client's connection over for TLS: against a scripted broker, so that nothing of OpenSSL is here and
every step can go wrong."""
import os
import re
import signal
import socket

import pytest

from keepwarm.handover import DEADLINE, Handover
from keepwarm.imap import Client, b64
from keepwarm.relay import HANDSHAKE, LOST, UNWATCHED
from keepwarm.process import cpu_share, frozen, wait_until

CLEAR = "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE AUTH=PLAIN AUTH=LOGIN XIMAPPROXY"
WITH_STARTTLS = "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE STARTTLS AUTH=PLAIN AUTH=LOGIN XIMAPPROXY"
REQUIRED = "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE STARTTLS LOGINDISABLED XIMAPPROXY"
PRIVACY = "NO [PRIVACYREQUIRED] No login without TLS"
UNAVAILABLE, HANDSHAKE = 1, 2  # of enum msg_tls_failure
LIMIT, PASSWORD = 3, 1  # of enum msg_refusal, enum msg_proof


def words(client):
    reply = client.ok("CAPABILITY")
    assert reply.untagged[0].startswith(b"* CAPABILITY ")
    return reply.untagged[0].split(b" ", 2)[2].decode().strip()


def inside(stream, greet=False):
    return Client(0, sock=stream, greet=greet)


def begin(handover, **facts):
    """STARTTLS as it should go: the client inside, and the TCP connection that was handed over."""
    client = handover.client()
    client.ok("STARTTLS")
    asked = handover.accept_tls()
    return inside(handover.ready(asked, **facts)), asked.sock


# --- implicit TLS --------------------------------------------------------------------------------------
def test_imaps_says_nothing_in_clear_text_and_greets_inside():
    with Handover("-s", "imaps") as handover:
        handover.tcp.sendall(b"\x16\x03\x01 as a handshake begins")
        asked = handover.accept_tls()
        assert asked.sock.recv(100) == b"\x16\x03\x01 as a handshake begins"
        assert asked.client == b"127.0.0.1"
        client = inside(handover.ready(asked), greet=True)
        assert client.greeting == f"* OK [CAPABILITY {CLEAR}] Keepwarm ready.\r\n".encode()
        assert words(client) == CLEAR
        client.send(b"z9 LOGOUT\r\n")
        client.expect_exact("* BYE LOGOUT received\r\nz9 OK Completed\r\n")
        client.expect_close()
        line = handover.end()
        assert "reason=logout" in line and " tls=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384" in line
        assert "sni=" not in line and "client=127.0.0.1" in line
        asked.sock.close()
        assert handover.tcp.recv(100) == b""


@pytest.mark.parametrize("implicit", [True, False])
def test_no_copy_of_the_connection_stays_behind(implicit):
    """It is let go when there is something in its place, and then said to be."""
    with Handover(*(["-s", "imaps"] if implicit else [])) as handover:
        if not implicit:
            handover.client().ok("STARTTLS")
        asked = handover.accept_tls()
        assert handover.holds_tcp()
        client = inside(handover.ready(asked), greet=implicit)
        tcp = asked.sock
        assert not handover.holds_tcp()
        client.ok("NOOP")
        tcp.close()
        assert handover.tcp.recv(100) == b"", "what tlsrelayd ends must end for the client"
        client.ok("NOOP")


@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2)])
def test_who_starts_it_may_have_closed_standard_descriptors(closed):
    """Nothing else comes to stand there: neither the link nor the stream."""
    with Handover(closed=closed) as handover:
        client, tcp = begin(handover)
        client.ok("NOOP")
        names = [os.readlink(f"/proc/{handover.proxyd.pid}/fd/{number}") for number in closed]
        assert names == ["/dev/null"] * len(closed)
        tcp.close()


def test_a_client_beyond_the_limit_is_closed_without_a_word():
    with Handover("-s", "imaps", refused=LIMIT) as handover:
        assert handover.tcp.recv(100) == b""
        assert "reason=too-many-clients" in handover.end()
    with Handover(refused=LIMIT) as handover:
        assert handover.client().greeting == b"* BYE [UNAVAILABLE] Too many connections\r\n"


# --- STARTTLS ------------------------------------------------------------------------------------------
def test_starttls_is_offered_done_and_then_neither():
    with Handover() as handover:
        client = handover.client()
        assert client.greeting == f"* OK [CAPABILITY {WITH_STARTTLS}] Keepwarm ready.\r\n".encode()
        assert words(client) == WITH_STARTTLS
        assert client.command("STARTTLS").tagged == b"OK Begin TLS now"
        client = inside(handover.ready(handover.accept_tls(), name="mail.example.org"))
        client.expect_nothing()
        assert words(client) == CLEAR
        assert client.command("STARTTLS").tagged == b"BAD TLS is active already"
        client.send(b"z9 LOGOUT\r\n")
        client.read_to_end()
        assert " sni=mail.example.org" in handover.end()


def test_starttls_that_is_not_available_is_not_offered():
    with Handover(starttls=0) as handover:
        client = handover.client()
        assert words(client) == CLEAR
        assert client.command("STARTTLS").tagged == b"BAD Please login first"
        client.ok("NOOP")


@pytest.mark.parametrize("injected", [
    b"a STARTTLS\r\nb LOGIN anna pw-anna\r\n", b"a STARTTLS\r\nb", b"a STARTTLS\r\n\0", b"a STARTTLS\r\n\x16\x03\x01",
    b"a STARTTLS\r\n" + b"x" * 100000,
])
def test_what_stands_behind_starttls_ends_the_session(injected):
    with Handover() as handover:
        client = handover.client()
        client.send(injected)
        client.expect_exact("a BAD Nothing may be sent behind STARTTLS\r\n* BYE Nothing may be sent behind STARTTLS\r\n")
        client.expect_close()
        assert "reason=tls-injected" in handover.end()
        assert handover.next().name == "TALLY"


def test_what_comes_behind_its_answer_is_never_seen_here():
    with Handover() as handover:
        client = handover.client()
        client.ok("STARTTLS")
        client.send(b"b LOGIN anna pw-anna\r\n")
        asked = handover.accept_tls()
        assert asked.sock.recv(100) == b"b LOGIN anna pw-anna\r\n", "tlsrelayd's handshake fails with that"
        client = inside(handover.ready(asked))
        client.send(b"c NOOP\r\n")
        client.expect_exact("c OK Completed\r\n")


@pytest.mark.parametrize("command, answer", [
    (b"a STARTTLS {3+}\r\nabc\r\n", b"a BAD Unexpected literal\r\n"),
    (b"a STARTTLS {3}\r\n", b"a BAD Unexpected literal\r\n"),
    (b"a STARTTLS now\r\n", b"a BAD Invalid arguments to Starttls\r\n"),
])
def test_starttls_has_no_arguments(command, answer):
    with Handover() as handover:
        client = handover.client()
        client.send(command + b"b NOOP\r\n")
        client.expect_exact(answer + b"b OK Completed\r\n")


def test_starttls_within_a_literal_is_only_a_literal():
    with Handover() as handover:
        client = handover.client()
        client.send(b'a ID ("x" {14+}\r\nb STARTTLS\r\nab)\r\nc NOOP\r\n')
        client.expect_exact("a BAD Invalid arguments to Id\r\nc OK Completed\r\n")


# --- when it fails -------------------------------------------------------------------------------------
@pytest.mark.parametrize("options", [["-s", "imaps"], []])
@pytest.mark.parametrize("reason, word", [(HANDSHAKE, "tls-failed"), (UNAVAILABLE, "tls-unavailable")])
def test_a_handshake_that_fails_ends_the_session_without_a_word(options, reason, word):
    with Handover(*options) as handover:
        if not options:
            handover.client().ok("STARTTLS")
        handover.failed(handover.accept_tls(), reason=reason, text='no shared cipher\r\nreason="logout"')
        assert handover.tcp.recv(100) == b""
        line = handover.end()
        assert f"reason={word} " in line
        assert r'tls_error="no shared cipher\x0d\x0areason=\"logout\""' in line
        assert handover.next().name == "TALLY"


def test_foreign_words_cannot_forge_the_log():
    with Handover() as handover:
        client, _ = begin(handover, version="a b", cipher='x" user=root', name="n\n" * 120)
        client.send(b"z9 LOGOUT\r\n")
        client.read_to_end()
        line = handover.end()
        assert r'tls="a b" cipher="x\" user=root" sni="n?n?' in line and line.count("\n") == 0 and "..." in line


def test_the_name_that_a_client_asks_for_is_no_line_of_the_old_program():
    """A site's filter would ban whom it names."""
    with Handover(old_log=1) as handover:
        client, _ = begin(handover, name="LOGIN: 'x' (192.0.2.1:5) failed: y")
        client.close()
        line = handover.end()
        assert 'sni="LOGIN???x???192.0.2.1?5??failed??y"' in line
        assert not re.search(r"LOGIN: '.*' \(\S+:\d+\) failed: ", handover.log_text())


def test_a_long_name_does_not_cost_the_line_its_other_facts():
    with Handover() as handover:
        client, _ = begin(handover, name=b"\xff" * 255)
        host = handover.lease(client, user=b'"' + b"\xfe" * 255 + b'"')
        client.close()
        host.expect(rb"(\S+) NOOP\r\n")
        host.close()
        line = handover.end()
        assert " cached=reset-failed from_client=0 from_backend=" in line and ' sni="????' in line


def test_the_broker_can_end_a_session_whose_handshake_is_under_way():
    with Handover("-s", "imaps") as handover:
        asked = handover.accept_tls()
        handover.link.push("END", reason=14, text="Service is stopping")
        assert "reason=shutdown" in handover.end()
        asked.sock.close()
        assert handover.tcp.recv(100) == b""


def test_the_last_broker_takes_the_handshake_along():
    with Handover("-s", "imaps") as handover:
        handover.accept_tls()
        handover.die()
        assert "reason=no-broker" in handover.end()


@pytest.mark.parametrize("dies", ["the broker", "tlsrelayd", "a worker", "both"])
@pytest.mark.parametrize("options", [("-s", "imaps"), ()], ids=["imaps", "starttls"])
def test_a_handshake_that_has_not_begun_is_asked_for_anew(options, dies):
    """Whoever had the request has not touched the connection."""
    with Handover(*options) as handover:
        if not options:
            handover.client().ok("STARTTLS")
        handover.tcp.sendall(b"\x16\x03\x01 as a handshake begins")
        asked = handover.accept_tls()
        if dies in ("tlsrelayd", "a worker", "both"):
            handover.link.push("TLS_FAILED", serial=asked.serial, reason=LOST if dies == "a worker" else UNWATCHED,
                               text="tlsrelayd broke off")
            asked.sock.close()
            asked = handover.accept_tls()
        if dies in ("the broker", "both"):
            asked.sock.close()
            handover.be_next_broker()
            asked = handover.accept_tls()
        assert asked.sock.recv(100) == b"\x16\x03\x01 as a handshake begins"
        with inside(handover.ready(asked), greet=bool(options)) as client:
            assert words(client) == CLEAR
            client.send(b"z9 LOGOUT\r\n")
            client.read_to_end()
        assert " tls=TLSv1.3 " in handover.end()


def test_a_handshake_is_not_asked_for_for_ever():
    with Handover("-s", "imaps") as handover:
        for _ in range(2):  # of one broker; the third time it would be cut off
            asked = handover.accept_tls()
            handover.link.push("TLS_FAILED", serial=asked.serial, reason=UNWATCHED, text="tlsrelayd broke off")
            asked.sock.close()
        assert handover.next().name == "TALLY"
        assert handover.tcp.recv(100) == b""
        assert 'tls_error="tlsrelayd broke off"' in handover.end()


def test_with_a_handshake_that_fails_the_connection_ends():
    """Also when the session still has it."""
    with Handover() as handover:
        client = handover.client()
        client.ok("STARTTLS")
        asked = handover.accept_tls()
        handover.link.push("TLS_FAILED", serial=asked.serial, reason=HANDSHAKE, text="no certificate")
        asked.sock.close()
        client.expect_close()
        assert 'tls_error="no certificate"' in handover.end()


@pytest.mark.parametrize("dies", ["the broker", "tlsrelayd"])
@pytest.mark.parametrize("options", [("-s", "imaps"), ()], ids=["imaps", "starttls"])
def test_a_handshake_that_has_begun_goes_on_by_itself(options, dies):
    with Handover(*options) as handover:
        if not options:
            handover.client().send("a STARTTLS\r\n")
        asked = handover.accept_tls()
        stream = handover.begun()
        if dies == "tlsrelayd":
            handover.link.push("TLS_FAILED", serial=asked.serial, reason=UNWATCHED, text="tlsrelayd broke off")
        else:
            handover.link.sock.shutdown(socket.SHUT_RDWR)
        asked.sock.close()
        with Client(0, sock=stream, greet=bool(options)) as client:
            client.ok("NOOP")
            assert b"STARTTLS" not in client.ok("CAPABILITY").text
        assert "reason=client-closed" in handover.end()


@pytest.mark.parametrize("reason", [HANDSHAKE, LOST])
def test_a_handshake_that_has_begun_and_failed_is_one_that_failed(reason):
    with Handover("-s", "imaps") as handover:
        asked = handover.accept_tls()
        stream = handover.begun()
        handover.failed(asked, reason=reason, text="no shared cipher")
        assert stream.recv(100) == b""
        assert 'tls_error="no shared cipher"' in handover.end()


def test_a_handshake_that_has_begun_ends_with_the_service():
    with Handover("-s", "imaps") as handover:
        handover.accept_tls()
        stream = handover.begun()
        handover.link.push("END", reason=14, text="Service is stopping")
        handover.link.sock.shutdown(socket.SHUT_RDWR)
        assert "reason=shutdown" in handover.end()
        assert stream.recv(100) == b""


def test_sigterm_ends_it():
    with Handover("-s", "imaps") as handover:
        handover.accept_tls()
        handover.proxyd.send_signal(signal.SIGTERM)
        assert "reason=shutdown" in handover.end()


def test_a_handshake_that_is_never_answered_ends_at_login_timeout():
    with Handover("-s", "imaps", login_timeout=1) as handover:
        handover.accept_tls()
        assert "reason=login-timeout" in handover.end()


def test_late_and_foreign_answers_are_not_taken():
    with Handover("-s", "imaps") as handover:
        asked = handover.accept_tls()
        wrong, theirs = socket.socketpair()
        handover.link.push("TLS_READY", fds=[theirs.fileno()], serial=99, version="TLSv1.3")
        theirs.close()
        wrong.settimeout(DEADLINE)
        assert wrong.recv(100) == b"", "its descriptor is closed"
        assert handover.holds_tcp()
        assert inside(handover.ready(asked), greet=True).greeting.startswith(b"* OK")


# --- the stream inside is a Unix socket ---------------------------------------------------------------------
def test_a_client_that_leaves_inside_of_tls_is_noticed():
    with Handover() as handover:
        client, _ = begin(handover)
        client.sock.shutdown(socket.SHUT_WR)
        client.expect_close()
        assert "reason=client-closed" in handover.end()


def test_commands_in_front_of_the_end_are_still_read():
    with Handover() as handover:
        client, _ = begin(handover)
        client.send(b"a NOOP\r\nb NOOP\r\n")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.read_to_end() == b"a OK Completed\r\nb OK Completed\r\n"


def test_a_stream_that_nobody_holds_any_more_ends_the_session():
    with Handover() as handover:
        client, _ = begin(handover)
        client.send(b"a NOOP\r\n" * 3)
        client.sock.close()  # with answers on their way that nobody reads
        line = handover.end()
        assert "reason=client-closed" in line or "reason=client-lost" in line


# --- require_tls ---------------------------------------------------------------------------------------
def test_without_tls_there_is_no_login():
    with Handover(require_tls=1) as handover:
        client = handover.client()
        assert client.greeting == f"* OK [CAPABILITY {REQUIRED}] Keepwarm ready.\r\n".encode()
        assert words(client) == REQUIRED
        for command in ("LOGIN anna pw-anna", "login anna", "LOGIN", "AUTHENTICATE PLAIN", "AUTHENTICATE",
                        "AUTHENTICATE PLAIN " + b64("\0anna\0pw-anna").decode(), "AUTHENTICATE XOAUTH2 abc"):
            assert client.command(command).tagged == PRIVACY.encode(), command
        client.ok("NOOP")
        client.ok("STARTTLS")
        client = inside(handover.ready(handover.accept_tls()))
        assert words(client) == CLEAR
        client.send(b"c LOGIN anna pw-anna\r\n")
        lease = handover.next()
        assert (lease.name, lease.user, lease.secret) == ("LEASE", b"anna", b"pw-anna")


def test_a_password_in_a_literal_is_not_asked_for():
    with Handover(require_tls=1) as handover:
        client = handover.client()
        client.send(b"a LOGIN {4}\r\n")
        client.expect_exact(f"a {PRIVACY}\r\n")
        client.send(b"b LOGIN anna {7}\r\n")
        client.expect_exact(f"b {PRIVACY}\r\n")
        client.ok("NOOP")


@pytest.mark.parametrize("command", [
    b"a LOGIN {4+}\r\nanna {7+}\r\npw-anna\r\n", b"a LOGIN anna {7+}\r\npw-anna\r\n",
    b'a LOGIN "anna" {9000+}\r\n' + b"x" * 9000 + b"\r\n", b"a LOGIN anna {12+}\r\nx NOOP\r\ny N\r\n",
    b"a AUTHENTICATE PLAIN {3+}\r\nabc\r\n", b"a LOGIN " + b"x" * 9000 + b"\r\n",
])
def test_what_is_sent_unasked_is_read_away_and_no_command(command):
    with Handover(require_tls=1) as handover:
        client = handover.client()
        client.send(command + b"z NOOP\r\n")
        client.expect_exact(f"a {PRIVACY}\r\nz OK Completed\r\n")
        client.close()
        assert handover.next().name == "TALLY", "nothing was asked of the broker"


def test_such_tries_are_bounded():
    with Handover(require_tls=1, max_errors=3) as handover:
        client = handover.client()
        client.send(b"a LOGIN x y\r\n" * 3)
        client.expect_exact(f"a {PRIVACY}\r\n" * 3 + "* BYE Too many errors\r\n")
        client.expect_close()


@pytest.mark.parametrize("networks, may", [
    ("127.0.0.0/8 ::1", True), ("127.0.0.1", True), ("all", True), ("10.0.0.0/8", False), ("::/0", False), ("", False),
])
def test_plaintext_addresses_may_log_in_without_tls(networks, may):
    with Handover(require_tls=1, plaintext_addresses=networks) as handover:
        client = handover.client()
        assert words(client) == (WITH_STARTTLS if may else REQUIRED)
        client.send(b"a LOGIN anna pw-anna\r\n")
        if may:
            assert handover.next().name == "LEASE"
        else:
            client.expect_exact(f"a {PRIVACY}\r\n")


def test_required_and_not_available_is_said():
    with Handover(require_tls=1, starttls=0) as handover:
        client = handover.client()
        assert words(client) == REQUIRED.replace("STARTTLS ", "")
        assert client.command("STARTTLS").tagged == b"BAD Please login first"


def test_errors_count_on_behind_starttls():
    with Handover(max_errors=3) as handover:
        client = handover.client()
        client.command("NONSENSE")
        client.command("NONSENSE")
        client.ok("STARTTLS")
        client = inside(handover.ready(handover.accept_tls()))
        client.send(b"a NONSENSE\r\n")
        client.expect_exact("a BAD Please login first\r\n* BYE Too many errors\r\n")
        wait_until(lambda: handover.proxyd.poll() is not None, "proxyd goes on")


# --- so are the streams of TLS mail hosts ------------------------------------------------------------------
@pytest.fixture
def both():
    """A session whose client and mail host both are Unix sockets: (handover, client, host)."""
    with Handover() as handover:
        client, tcp = begin(handover)
        host = handover.lease(client)
        client.send(b"b NOOP\r\n")
        host.expect_exact("b NOOP\r\n")
        host.send(b"b OK done\r\n")
        client.expect_exact("b OK done\r\n")
        yield handover, client, host
        tcp.close()


def test_what_a_mail_host_said_before_it_left_reaches_the_client(both):
    handover, client, host = both
    with frozen(handover.proxyd.pid):
        host.send(b"* 3 EXISTS\r\n* BYE Autologout\r\n")
        host.close()
        client.send(b"c NOOP\r\n")  # this write fails, at once
    client.expect_exact("* 3 EXISTS\r\n* BYE Autologout\r\n")
    client.expect_close()
    assert "reason=backend-lost" in handover.end()


def test_all_of_it_although_it_does_not_fit_at_once(both):
    handover, client, host = both
    with frozen(handover.proxyd.pid):
        host.send(b"* LIST () NIL x\r\n" * 6000)
        host.close()
        client.send(b"c NOOP\r\n" * 3)
    assert client.read_to_end().count(b"* LIST () NIL x\r\n") == 6000
    assert "reason=backend-lost" in handover.end()


def test_a_mail_host_that_left_without_a_word(both):
    handover, client, host = both
    with frozen(handover.proxyd.pid):
        host.close()
        client.send(b"c NOOP\r\n")
    client.expect_exact("* BYE [UNAVAILABLE] Connection to the mail host was lost\r\n")
    client.expect_close()
    assert handover.next().name == "TALLY"


def test_a_mail_host_that_left_with_our_bytes_unread(both):
    """The kernel says ECONNRESET instead of the end of the stream, behind what was sent."""
    handover, client, host = both
    client.send(b"c NOOP\r\n")
    wait_until(lambda: host.sock.recv(100, socket.MSG_PEEK) == b"c NOOP\r\n", "not passed on")
    host.send(b"* BYE Autologout\r\n")
    host.close()
    client.expect_exact("* BYE Autologout\r\n")
    client.expect_close()
    assert "reason=backend-closed" in handover.end()


def test_a_client_that_only_stops_sending_still_hears_its_answers(both):
    handover, client, host = both
    client.send(b"c FETCH 1 BODY[]\r\n")
    host.expect_exact("c FETCH 1 BODY[]\r\n")
    client.sock.shutdown(socket.SHUT_WR)
    host.send(b"* 1 FETCH (BODY[] {5}\r\nhello)\r\nc OK done\r\n")
    host.expect(rb"(\S+) NOOP\r\n")
    client.expect_exact("* 1 FETCH (BODY[] {5}\r\nhello)\r\nc OK done\r\n")
    assert handover.next().name == "RETURNING"


def test_a_client_that_is_gone_altogether_lets_its_connection_be_kept(both):
    handover, client, host = both
    client.send(b"c LIST \"\" *\r\n")
    host.expect_exact("c LIST \"\" *\r\n")
    client.close()
    host.send(b"* LIST () NIL x\r\n" * 100 + b"c OK done\r\n")
    barrier = host.expect(rb"(\S+) NOOP\r\n")[1]
    host.send(barrier + b" OK done\r\n")
    assert handover.next().name == "RETURNING"
    given = handover.next()
    assert given.name == "GIVE" and given.sock.family == socket.AF_UNIX
    assert "cached=yes" in handover.end()


def test_commands_of_a_client_that_is_gone_are_still_passed_on(both):
    handover, client, host = both
    with frozen(handover.proxyd.pid):
        client.send(b"c STORE 1 +FLAGS (\\Seen)\r\nz LOGOUT\r\n")
        client.close()
    host.expect_exact("c STORE 1 +FLAGS (\\Seen)\r\n")
    host.send(b"c OK done\r\n")
    host.expect(rb"(\S+) NOOP\r\n")


def test_nobody_spins_while_the_other_side_does_not_read(both):
    """Hang-ups are reported again and again."""
    handover, client, host = both
    line = b"* LIST () NIL " + b"x" * 1000 + b"\r\n"
    host.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            host.sock.send(line)
    host.sock.setblocking(True)
    host.close()
    assert cpu_share([handover.proxyd.pid], 0.5) < 0.3
    client.sock.shutdown(socket.SHUT_RD)


def test_logout_ends_the_stream_behind_its_answer(both):
    _, client, host = both
    client.send(b"z LOGOUT\r\n")
    client.expect_exact("* BYE LOGOUT received\r\nz OK Completed\r\n")
    client.expect_close()
    host.expect(rb"(\S+) NOOP\r\n")
