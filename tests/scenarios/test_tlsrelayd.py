"""tlsrelayd with the test as its broker: handshakes, what is refused and in which words, and what ends how."""
import contextlib
import fcntl
import os
import random
import resource
import select
import shutil
import signal
import socket
import ssl
import struct
import termios
import threading
import time
from pathlib import Path

import pytest

from keepwarm import certs
from keepwarm.process import alive, cpu_share, frozen, memory, read_proc, wait_until
from keepwarm.system import SANITIZED, temp_folder
from keepwarm.tlsrelay import (CERTIFICATE, HANDSHAKE, INJECTED, REFUSED, STARTTLS, TIMEOUT, UNAVAILABLE, Host, Relay,
                               client_context, plain_end, server_context, tcp_pair)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certs.Authority(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def mail(authority):
    return authority.issue("mail.test", "*.wild.test")


def serving(tmp_path, mail, **keys):
    return Relay(tmp_path, tls_server_cert_file=mail.path, tls_server_key_file=mail.key_path, **keys)


def dialling(tmp_path, authority, **keys):
    return Relay(tmp_path, **{"server_tls": "implicit", "tls_ca_file": authority.path, **keys})


def read_to_end(sock):
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


def open_to(relay, mail, host="mail.test"):
    """A connection to a mail host that is open: (the mail host's TLS side, TLS_READY, our plain end)."""
    played = Host(server_context(mail))
    ready = relay.dial(host, played)
    assert ready.name == "TLS_READY", ready
    return played.tls, ready, plain_end(ready)


def read_exactly(sock, n):
    data = b""
    while len(data) < n:
        piece = sock.recv(n - len(data))
        assert piece, f"ended after {len(data)} of {n}"
        data += piece
    return data


def not_taken(sock):
    """How many bytes of what was written has the other side's kernel (TCP) or program (Unix) not got?"""
    return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]


# --- handshakes ---------------------------------------------------------------------------------------
def test_a_client_gets_tls_and_the_broker_its_stream(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        assert relay.hello.serves == 1
        client, ready, plain = relay.accept(client_context(authority))
        assert (ready.version, ready.sni) == (b"TLSv1.3", b"mail.test")
        assert ready.cipher.startswith(b"TLS_")
        plain.sendall(b"* OK hello\r\n")
        assert client.recv(100) == b"* OK hello\r\n"
        client.sendall(b"a LOGOUT\r\n")
        assert plain.recv(100) == b"a LOGOUT\r\n"


@pytest.mark.parametrize("mode", ["implicit", "starttls"])
def test_a_mail_host_is_spoken_to_through_tls(tmp_path, authority, mail, mode):
    def greet(sock):
        sock.sendall(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] there\r\n")
        line = sock.recv(100)
        assert line.endswith(b" STARTTLS\r\n")
        sock.sendall(line.split()[0] + b" OK go on\r\n")

    with dialling(tmp_path, authority) as relay:
        assert relay.hello.serves == 0
        host = Host(server_context(mail), greet if mode == "starttls" else None)
        ready = relay.dial("mail.test", host, mode=STARTTLS if mode == "starttls" else 2)
        assert ready.name == "TLS_READY", ready
        host.tls.sendall(b"* OK inside\r\n")
        ready.sock.setblocking(True)
        assert ready.sock.recv(100) == b"* OK inside\r\n"
        ready.sock.sendall(b"a NOOP\r\n")
        assert host.tls.recv(100) == b"a NOOP\r\n"


def test_the_certificate_goes_by_the_name_asked_for(tmp_path, authority, mail):
    other = authority.issue("other.test", "*.star.test")
    with Relay(tmp_path, tls_server_cert_file=f"{mail.path} {other.path}",
               tls_server_key_file=f"{mail.key_path} {other.key_path}") as relay:
        seen = {}
        for name in ("mail.test", "other.test", "OTHER.test", "a.star.test", "a.b.star.test", "star.test", "x.y"):
            client, ready, _ = relay.accept(client_context(), name)
            seen[name] = client.getpeercert(binary_form=True)
            assert ready.sni.lower() == name.lower().encode()
        first, second = (certs.serialization.Encoding.DER for _ in range(2))
        first, second = mail.cert.public_bytes(first), other.cert.public_bytes(second)
        assert seen == {"mail.test": first, "other.test": second, "OTHER.test": second, "a.star.test": second,
                        "a.b.star.test": first, "star.test": first, "x.y": first}
        client, ready, _ = relay.accept(client_context(), None)
        assert (client.getpeercert(binary_form=True), ready.sni) == (first, b"")


def test_key_and_certificate_may_be_in_one_file(tmp_path, authority, mail):
    with Relay(tmp_path, tls_server_cert_file=mail.both_path) as relay:
        client, _, _ = relay.accept(client_context(authority))
        assert client.version() == "TLSv1.3"


@pytest.mark.parametrize("offered, chosen", [(["imap"], "imap"), (["x", "imap"], "imap"), (["h2"], None)])
def test_the_protocol_must_be_ours_if_one_is_asked_for(tmp_path, authority, mail, offered, chosen):
    context = client_context(authority)
    context.set_alpn_protocols(offered)
    with serving(tmp_path, mail) as relay:
        if chosen:
            client, _, _ = relay.accept(context)
            assert client.selected_alpn_protocol() == chosen
        else:
            failed, error = relay.accept_refused(context)
            assert failed.reason == HANDSHAKE and b"ALPN" in failed.text
            assert "no application protocol" in str(error)


@pytest.mark.parametrize("least, client, good", [("1.2", "TLSv1_2", True), ("1.3", "TLSv1_2", False),
                                                 ("1.3", "TLSv1_3", True), ("1.2", "TLSv1_1", False)])
def test_clients_with_too_old_a_version_are_refused(tmp_path, authority, mail, least, client, good):
    context = client_context(authority)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion[client]
    with serving(tmp_path, mail, tls_server_min_version=least) as relay:
        if good:
            assert relay.accept(context)[1].version.decode().replace(".", "_") == client
        else:
            failed, error = relay.accept_refused(context)
            assert failed.reason == HANDSHAKE and b"tls_server_min_version" in failed.text
            assert "protocol version" in str(error)


def test_ciphers_are_those_of_the_settings(tmp_path, authority, mail):
    context = client_context(authority, most=ssl.TLSVersion.TLSv1_2)
    with serving(tmp_path, mail, tls_server_ciphers="ECDHE-ECDSA-AES128-GCM-SHA256") as relay:
        assert relay.accept(context)[1].cipher == b"ECDHE-ECDSA-AES128-GCM-SHA256"
        context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
        failed, _ = relay.accept_refused(context)
        assert b"tls_server_ciphers" in failed.text


# --- mail hosts that are refused, each in its own words --------------------------------------------------
def bad_hosts(folder, authority):
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    stranger = certs.Authority(elsewhere, "stranger")
    middle = certs.Authority(elsewhere, "middle", above=authority)
    far = certs.Authority(elsewhere, "far", above=stranger)
    return {
        "expired": (authority.expired("mail.test", file="expired"), "has expired"),
        "early": (authority.issue("mail.test", file="early", begins=certs.DAY), "not valid yet"),
        "name": (authority.issue("a.test", "b.test", file="name"), "for other names (tls_verify_server): a.test, b.test"),
        "self": (certs.self_signed(elsewhere, "mail.test"), "self-signed"),
        "authority": (far.issue("mail.test", file="authority"), "leads to no known authority (tls_ca_file)"),
        "alone": (middle.issue("mail.test", file="alone", chain=False), "lacks an intermediate certificate"),
        "client": (authority.issue("mail.test", file="client", client=True), "not one for servers"),
    }


@pytest.mark.parametrize("kind", ["expired", "early", "name", "self", "authority", "alone", "client"])
@pytest.mark.parametrize("verify", ["yes", "no"])
def test_a_bad_certificate_is_refused_in_words_of_its_own(tmp_path, authority, kind, verify):
    certificate, words = bad_hosts(tmp_path, authority)[kind]
    with dialling(tmp_path, authority, tls_verify_server=verify) as relay:
        host = Host(server_context(certificate))
        answer = relay.dial("mail.test", host)
        if verify == "no":
            assert answer.name == "TLS_READY", answer
            return
        assert answer.name == "TLS_FAILED", answer
        assert answer.reason == CERTIFICATE
        text = answer.text.decode()
        assert text.startswith("mail.test: ") and words in text, text
        assert host.error or read_fails(host.tls), "the mail host was not told"


def read_fails(tls):
    try:
        return tls.recv(1) == b""
    except OSError:
        return True


def test_an_intermediate_certificate_that_is_sent_will_do(tmp_path, authority):
    middle = certs.Authority(tmp_path, "middle", above=authority)
    with dialling(tmp_path, authority) as relay:
        open_to(relay, middle.issue("mail.test"))


def test_addresses_need_certificates_with_addresses(tmp_path, authority, mail):
    asked = []
    with dialling(tmp_path, authority) as relay:
        context = server_context(authority.issue("192.0.2.9", "2001:db8::9", file="address"))
        context.sni_callback = lambda _, name, __: asked.append(name)
        for host in ("192.0.2.9", "2001:db8::9"):
            assert relay.dial(host, Host(context)).name == "TLS_READY"
        assert relay.dial("192.0.2.10", Host(context)).reason == CERTIFICATE
        assert relay.dial("192.0.2.9", Host(server_context(mail))).reason == CERTIFICATE
        assert set(asked) == {None}
        named = server_context(mail)
        named.sni_callback = lambda _, name, __: asked.append(name)
        relay.dial("mail.test", Host(named))
        assert asked[-1] == "mail.test"


def test_the_directory_of_authorities_is_read_whole(tmp_path, authority, mail):
    folder = tmp_path / "authorities"
    folder.mkdir()
    (folder / "notes.txt").write_text("nothing\n")
    os.symlink(authority.path, folder / "one.crt")
    with dialling(tmp_path, authority, tls_ca_file=None, tls_ca_path=folder) as relay:
        open_to(relay, mail)


def test_a_client_certificate_is_shown_where_one_is_wanted(tmp_path, authority, mail):
    ours = authority.issue("proxy.test", client=True)
    context = server_context(mail, most=ssl.TLSVersion.TLSv1_2)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.path)
    with dialling(tmp_path, authority) as relay:
        failed = relay.dial("mail.test", Host(context))
        assert failed.name == "TLS_FAILED" and b"tls_cert_file" in failed.text
        relay.reload(tls_cert_file=ours.path, tls_key_file=ours.key_path)
        host = Host(context)
        assert relay.dial("mail.test", host).name == "TLS_READY"
        assert host.tls.getpeercert()["subject"] == ((("commonName", "proxy.test"),),)


def test_a_mail_host_of_tls_1_3_that_wants_a_certificate_says_so_later(tmp_path, authority, mail):
    """By then the handshake is done for our side: a line tells why the connection broke."""
    context = server_context(mail)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.path)
    with dialling(tmp_path, authority) as relay:
        ready = relay.dial("mail.test", Host(context))
        assert ready.name == "TLS_READY"
        assert read_to_end(plain_end(ready)) == b""
        relay.wait_log("mail.test: wants a client certificate (tls_cert_file)")


@pytest.mark.parametrize("says, words", [(b"* OK plain text here\r\n", "does not speak TLS on port 993 (server_tls"),
                                         (b"", "ended the connection in the TLS handshake")])
def test_what_is_not_tls_is_called_so(tmp_path, authority, says, words):
    def serve(sock):
        sock.sendall(says)
        if not says:
            sock.recv(1000)
        sock.shutdown(socket.SHUT_WR)
        read_fails(sock)

    with dialling(tmp_path, authority) as relay:
        failed = relay.dial("mail.test", serve)
        assert failed.reason == HANDSHAKE and words in failed.text.decode(), failed


def test_a_mail_host_of_too_old_a_version_is_refused(tmp_path, authority, mail):
    with dialling(tmp_path, authority, tls_min_version="1.3") as relay:
        failed = relay.dial("mail.test", Host(server_context(mail, most=ssl.TLSVersion.TLSv1_2)))
        assert failed.reason == HANDSHAKE and b"tls_min_version" in failed.text, failed
        relay.reload(tls_min_version="1.2")
        assert relay.dial("mail.test", Host(server_context(mail, most=ssl.TLSVersion.TLSv1_2))).version == b"TLSv1.2"


# --- STARTTLS -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("greeting, answer, reason, words", [
    (b"* PREAUTH hello\r\n", None, REFUSED, "PREAUTH"),
    (b"* BYE too busy\r\n", None, REFUSED, "too busy"),
    (b"+OK pop\r\n", None, REFUSED, "no IMAP server"),
    (b"* OK " + b"x" * 5000 + b"\r\n", None, REFUSED, "no IMAP server"),
    (b"* OK a\r\ns1 OK b\r\n", None, INJECTED, "plain text"),
    (b"* OK a\r\n", b" NO not here\r\n", REFUSED, "not here"),
    (b"* OK a\r\n", b" BAD what\r\n", REFUSED, "BAD what"),
    (b"* OK a\r\n", b" OK go\r\n* CAPABILITY IMAP4rev1\r\n", INJECTED, "plain text"),
    (b"* OK a\r\n", b" OK go\r\n\0", INJECTED, "plain text"),
    (b"* OK a\r\n", b" PERHAPS\r\n", REFUSED, "no IMAP server"),
], ids=lambda value: None)
def test_the_dialogue_before_tls_is_held_to_the_letter(tmp_path, authority, greeting, answer, reason, words):
    def serve(sock):
        try:
            sock.sendall(greeting)
            tag = sock.recv(100).split(b" ")[0]
            if answer and tag:
                sock.sendall(tag + answer)
            read_fails(sock)
        except OSError:
            pass  # it has had enough

    with dialling(tmp_path, authority, server_tls="starttls") as relay:
        failed = relay.dial("mail.test", serve, mode=STARTTLS, port=143)
        assert (failed.name, failed.reason) == ("TLS_FAILED", reason), failed
        assert words in failed.text.decode(), failed.text


def test_a_mail_host_that_is_silent_is_given_up_in_time(tmp_path, authority):
    with dialling(tmp_path, authority, tls_handshake_timeout="1") as relay:
        for mode, say in ((STARTTLS, b""), (STARTTLS, b"* OK a\r\n"), (2, b"")):
            def serve(sock, say=say):
                sock.sendall(say)
                while not read_fails(sock):
                    pass
            begin = time.monotonic()
            failed = relay.dial("mail.test", serve, mode=mode)
            assert failed.reason == TIMEOUT and b"tls_handshake_timeout" in failed.text
            assert 0.9 < time.monotonic() - begin < 8


# --- ends -------------------------------------------------------------------------------------------------
def test_close_notify_ends_one_direction_only(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority), by_hand=True)
        client.sendall(b"a LOGOUT\r\n")
        client.say_end()
        assert read_to_end(plain) == b"a LOGOUT\r\n"
        plain.sendall(b"* BYE\r\na OK\r\n")
        assert client.read() == b"* BYE\r\na OK\r\n"
        plain.sendall(b"more")
        assert client.read() == b"more"
        plain.close()
        assert client.read_to_end() == b""
        assert client.sock.recv(1) == b""
        wait_until(lambda: relay.connections() == 0, "the connection stays")
        assert "without close_notify" not in relay.log()
        client.close()


def test_the_end_of_the_plain_side_is_close_notify_and_the_other_goes_on(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority), by_hand=True)
        plain.sendall(b"last words")
        plain.shutdown(socket.SHUT_WR)
        assert client.read_to_end() == b"last words"
        assert client.sock.recv(1) == b""  # FIN, too
        client.sendall(b"but I go on")
        assert read_exactly(plain, 11) == b"but I go on"
        client.say_end()
        assert read_to_end(plain) == b""
        wait_until(lambda: relay.connections() == 0, "the connection stays")
        client.close()


def test_an_end_without_close_notify_is_an_end_and_is_counted(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority), by_hand=True)
        client.sendall(b"trunc")
        client.sock.shutdown(socket.SHUT_WR)
        assert read_to_end(plain) == b"trunc"
        plain.sendall(b"still heard")
        assert client.read() == b"still heard"
        plain.close()
        assert client.read_to_end() == b""
        relay.wait_log("192.0.2.7: ended the connection without close_notify")
        relay.wait_pushed("TLS_STATE", lambda state: state.truncated == 1)
        client.close()


def test_a_reset_ends_both_directions(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority), by_hand=True)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert read_to_end(plain) == b""
        with pytest.raises(OSError):
            while True:
                plain.sendall(b"x" * 1000)
        wait_until(lambda: relay.connections() == 0, "the connection stays")


def test_what_a_peer_said_before_it_left_is_delivered_although_it_cannot_be_answered(tmp_path, authority, mail):
    """A mail host says BYE behind a long answer and is gone; its reader is slow, and the client's next commands are on
    their way: the first one is answered with a reset, the next one cannot be written."""
    data = random.Random(1).randbytes(260_000) + b"* BYE\r\n"  # more than a Unix socket holds
    with dialling(tmp_path, authority) as relay:
        host, _, plain = open_to(relay, mail)
        host.sendall(data)
        wait_until(lambda: not_taken(host) == 0, "the answer does not get there")
        host.close()
        for _ in range(3):
            plain.sendall(b"x NOOP\r\n")
            wait_until(lambda: not_taken(plain) == 0, "the command is not taken")
        assert read_to_end(plain) == data
        with pytest.raises(OSError):
            while True:
                plain.sendall(b"x" * 1000)
        wait_until(lambda: relay.connections() == 0, "the connection stays")


def test_what_the_plain_side_left_behind_is_still_delivered(tmp_path, authority, mail):
    """It writes much and is gone at once; the client reads slowly."""
    data = random.Random(1).randbytes(150_000)
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority), by_hand=True)
        plain.sendall(data)
        plain.close()
        assert client.read_to_end() == data
        client.say_end()
        client.close()
        wait_until(lambda: relay.connections() == 0, "the connection stays")


def test_a_client_that_stays_when_the_plain_side_is_gone_is_left(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority), by_hand=True)
        plain.close()
        assert client.read_to_end() == b""
        wait_until(lambda: relay.connections() == 0, "the connection stays", 25)
        client.close()


# --- much ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_much_goes_through_both_ways_at_once_unchanged(tmp_path, authority, mail, version):
    size = 3_000_000 if SANITIZED else 20_000_000
    there, back = (random.Random(seed).randbytes(size) for seed in (1, 2))
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority, most=ssl.TLSVersion[version]))
        got = {}
        threads = [threading.Thread(target=client.sendall, args=(there,)),
                   threading.Thread(target=plain.sendall, args=(back,)),
                   threading.Thread(target=lambda: got.update(plain=read_exactly(plain, size))),
                   threading.Thread(target=lambda: got.update(client=read_exactly(client, size)))]
        # Python's SSLSocket must not be read and written at once
        for thread in (threads[0], threads[2]):
            thread.start()
        for thread in (threads[0], threads[2]):
            thread.join(60)
        for thread in (threads[1], threads[3]):
            thread.start()
        for thread in (threads[1], threads[3]):
            thread.join(60)
        assert got["plain"] == there
        assert got["client"] == back


def rss(pid):
    return int(read_proc(pid, "statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("stuck", ["client", "plain"])
def test_who_does_not_read_stops_the_other_and_costs_no_memory(tmp_path, authority, mail, stuck):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority))
        worker = relay.workers()[0]
        other_client, _, other_plain = relay.accept(client_context(authority))
        before = sum(rss(pid) for pid in relay.workers())
        writer = plain if stuck == "client" else client
        writer.settimeout(1)
        sent = 0
        with pytest.raises((TimeoutError, ssl.SSLError)):
            while sent < 100_000_000:
                sent += writer.send(bytes(16384))
        assert sent < 30_000_000
        if not SANITIZED:
            assert sum(rss(pid) for pid in relay.workers()) - before < 500_000
        other_client.sendall(b"ping")
        assert other_plain.recv(10) == b"ping"
        assert alive(worker)


# --- processes ------------------------------------------------------------------------------------------------
def test_a_dead_worker_takes_only_its_own(tmp_path, authority, mail):
    with serving(tmp_path, mail, tls_sessions_per_worker=1) as relay:
        first, _, first_plain = relay.accept(client_context(authority))
        (victim,) = relay.workers()
        second, _, second_plain = relay.accept(client_context(authority))
        assert len(relay.workers()) == 2
        os.kill(victim, signal.SIGKILL)
        assert read_to_end(first_plain) == b""
        assert read_fails(first)
        second.sendall(b"still here")
        assert second_plain.recv(20) == b"still here"
        relay.wait_log(f"worker {victim} ended with signal 9")
        relay.wait_pushed("TLS_STATE", lambda state: state.workers_lost == 1)
        relay.accept(client_context(authority))


def test_who_waits_for_a_worker_that_dies_is_told(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        ours, theirs = tcp_pair()
        serial = relay.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.7")
        wait_until(relay.workers, "no worker")
        os.kill(relay.workers()[0], signal.SIGKILL)
        assert relay.answer(serial).reason == UNAVAILABLE
        ours.close()
        relay.accept(client_context(authority))


def test_an_end_that_somebody_else_still_holds_is_watched_no_more(tmp_path, authority, mail):
    """As the session or the broker may, that have not closed theirs yet; the client goes on meanwhile."""
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority))
        ours, theirs = tcp_pair()
        held = theirs.dup()
        serial = relay.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.8")
        ours.sendall(b"this is no TLS\r\n" * 10)
        assert relay.answer(serial).name == "TLS_FAILED"
        before = relay.workers()
        for _ in range(20):
            ours.sendall(b"nor is this\r\n")
        assert cpu_share(before, 0.3) < 0.5
        client.sendall(b"a NOOP\r\n")
        assert plain.recv(100) == b"a NOOP\r\n" and relay.workers() == before
        for sock in (client, plain, ours, held):
            sock.close()


def test_with_one_session_per_worker_none_serves_two(tmp_path, authority, mail):
    with serving(tmp_path, mail, tls_sessions_per_worker=1) as relay:
        seen = set()
        for _ in range(3):
            client, _, plain = relay.accept(client_context(authority))
            busy = set(relay.workers())
            assert busy - seen, "an old worker got the new client"
            seen |= busy
            client.close()
            plain.close()
        wait_until(lambda: not relay.workers(), "workers that are used up stay")
        assert "ended with" not in relay.log()


def test_clients_and_mail_hosts_never_share_a_worker(tmp_path, authority, mail):
    with serving(tmp_path, mail, server_tls="implicit", tls_ca_file=authority.path) as relay:
        relay.accept(client_context(authority))
        first = set(relay.workers())
        open_to(relay, mail)
        assert len(relay.workers()) == len(first) + 1


def test_a_reload_brings_a_new_certificate_and_touches_no_session(tmp_path, authority, mail):
    fresh = authority.issue("mail.test", file="fresh")
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority))
        (old,) = relay.workers()
        relay.reload(tls_server_cert_file=fresh.path, tls_server_key_file=fresh.key_path)
        assert relay.wait_pushed("RELAY").serves == 1
        renewed, _, _ = relay.accept(client_context(authority))
        der = certs.serialization.Encoding.DER
        assert renewed.getpeercert(binary_form=True) == fresh.cert.public_bytes(der)
        client.sendall(b"untouched")
        assert plain.recv(20) == b"untouched"
        client.close()
        plain.close()
        wait_until(lambda: not alive(old), "the old worker stays")
        assert "ended with" not in relay.log()


def test_a_reload_that_is_no_good_changes_nothing(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        relay.write(tls_server_cert_file="/nonexistent.pem")
        os.kill(relay.process.pid, signal.SIGHUP)
        relay.wait_log("going on with the settings of before")
        assert "tls_server_cert_file: /nonexistent.pem: cannot be read: No such file" in relay.log()
        relay.accept(client_context(authority))


def test_a_new_broker_is_found_and_sessions_go_on(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority))
        assert relay.restart_broker().serves == 1
        client.sendall(b"still")
        assert plain.recv(10) == b"still"
        relay.accept(client_context(authority))


def test_a_master_that_is_killed_takes_no_session_with_it(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority))
        (worker,) = relay.workers()
        relay.process.kill()
        relay.process.wait()
        client.sendall(b"still")
        assert plain.recv(10) == b"still"
        client.close()
        plain.close()
        wait_until(lambda: not alive(worker), "the worker stays")


def test_a_master_that_hangs_does_not_hold_up_sessions(tmp_path, authority, mail):
    with serving(tmp_path, mail, tls_sessions_per_worker=1000) as relay:
        sessions = [relay.accept(client_context(authority)) for _ in range(350 * os.cpu_count())]
        staying = sessions[:2 * os.cpu_count()]  # of each worker
        with frozen(relay.process.pid):
            for client, _, plain in sessions[len(staying):]:
                plain.close()
                client.close()
            for client, _, plain in staying:  # more reports than the link holds: they wait once
                client.sendall(b"on")
                assert plain.recv(2) == b"on"
        relay.accept(client_context(authority))


def test_orphaned_it_ends_with_its_broker_but_its_sessions_do_not(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority))
        (worker,) = relay.workers()
        os.kill(relay.process.pid, signal.SIGUSR2)
        relay.accept(client_context(authority))[0].close()
        relay.broker.sock.close()
        assert relay.process.wait(15) == 0
        client.sendall(b"still")
        assert plain.recv(10) == b"still"
        client.close()
        plain.close()
        wait_until(lambda: not alive(worker), "the worker stays")


def test_a_stopped_worker_does_not_hold_up_the_end(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, _ = relay.accept(client_context(authority))
        (worker,) = relay.workers()
        os.kill(worker, signal.SIGSTOP)
        relay.process.terminate()
        assert relay.process.wait(15) == 0
        assert read_fails(client)


def test_a_worker_that_does_not_answer_gets_no_more(tmp_path, authority, mail):
    with serving(tmp_path, mail, tls_handshake_timeout=1) as relay:
        running = [relay.accept(client_context(authority))]
        (stuck,) = relay.workers()
        while len(running) < 3 * os.cpu_count():
            running.append(relay.accept(client_context(authority)))
        with frozen(stuck):
            lost = []
            while not lost:
                ours, theirs = tcp_pair()
                ours.settimeout(5)
                serial = relay.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.7")
                try:
                    running.append(client_context(authority).wrap_socket(ours, server_hostname="mail.test"))
                    relay.answer(serial)
                except OSError:
                    lost.append(relay.answer(serial))
            assert lost[0].reason == TIMEOUT and b"does not answer" in lost[0].text
            relay.wait_log(f"worker {stuck} does not answer")
            for _ in range(3 * os.cpu_count()):
                running.append(relay.accept(client_context(authority)))
        running[0][0].sendall(b"still there")
        assert running[0][2].recv(20) == b"still there"


def test_reloads_and_dead_workers_under_load_disturb_nobody_else(tmp_path, authority, mail):
    """Sessions that talk all the time, through four reloads; then one worker is killed."""
    fresh = authority.issue("mail.test", file="fresh3")
    with serving(tmp_path, mail, tls_sessions_per_worker=2) as relay:
        first = [relay.accept(client_context(authority)) for _ in range(4)]
        doomed = set(relay.workers())
        stop, broken = threading.Event(), []
        threads = [threading.Thread(target=talk, args=(session, stop, broken), daemon=True) for session in first]
        for thread in threads:
            thread.start()
        for certificate in (fresh, mail, fresh, mail):
            relay.reload(tls_server_cert_file=certificate.path, tls_server_key_file=certificate.key_path)
        later = [relay.accept(client_context(authority)) for _ in range(4)]
        spared = [threading.Thread(target=talk, args=(session, stop, broken), daemon=True) for session in later]
        for thread in spared:
            thread.start()
        assert not broken
        for pid in doomed:
            os.kill(pid, signal.SIGKILL)
        for thread in threads:
            thread.join(15)
        assert sorted(broken) == sorted(id(session) for session in first)
        stop.set()
        for thread in spared:
            thread.join(15)
        assert len(broken) == 4


def talk(session, stop, broken):
    client, _, plain = session
    number = 0
    try:
        while not stop.is_set():
            number += 1
            line = b"%d " % number + bytes(number * 37 % 5000) + b"\r\n"
            client.sendall(line)
            assert read_exactly(plain, len(line)) == line
            plain.sendall(line)
            assert read_exactly(client, len(line)) == line
    except (OSError, AssertionError):
        broken.append(id(session))


def test_keys_are_only_in_the_workers_of_clients(tmp_path, authority, mail):
    with serving(tmp_path, mail, server_tls="implicit", tls_ca_file=authority.path) as relay:
        client, _, _ = relay.accept(client_context(authority))
        (with_keys,) = relay.workers()
        open_to(relay, authority.issue("mail.test", file="another"))
        (without,) = set(relay.workers()) - {with_keys}
        secret = mail.key.private_numbers().private_value.to_bytes(32, "little")
        assert holds(with_keys, secret), "else this test looks for the wrong thing"
        assert not holds(without, secret)
        assert client


def holds(pid, secret):
    """Has the process these bytes, in either order, or their PEM?"""
    content = memory(pid)
    return secret in content or secret[::-1] in content


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_what_has_passed_is_nowhere_in_the_workers_memory(tmp_path, authority, mail, version):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority, most=ssl.TLSVersion[version]))
        (worker,) = relay.workers()
        for here, there in ((plain, client), (client, plain)):
            secret = random.randbytes(3000)
            here.sendall(secret)
            assert read_exactly(there, len(secret)) == secret
            wait_until(lambda: secret[-20:] not in memory(worker), "a copy is left")


# --- floods ---------------------------------------------------------------------------------------------------
def test_slow_handshakes_are_bounded_and_an_open_session_does_not_notice(tmp_path, authority, mail):
    with serving(tmp_path, mail, tls_handshakes=20, tls_handshake_timeout=2) as relay:
        client, _, plain = relay.accept(client_context(authority))
        slow = []
        for _ in range(20):
            ours, theirs = tcp_pair()
            ours.sendall(b"\x16\x03\x01")  # the beginning of a ClientHello
            slow.append((ours, relay.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.66")))
        client.sendall(b"quick")
        assert plain.recv(10) == b"quick"
        for sock, serial in slow:
            failed = relay.answer(serial)
            assert failed.reason == TIMEOUT and failed.text.startswith(b"192.0.2.66: "), failed
            assert read_fails(sock)
        relay.accept(client_context(authority))


def test_clients_that_stall_make_room_for_the_next_one(tmp_path, authority, mail):
    with serving(tmp_path, mail, tls_handshakes=20, tls_handshake_timeout=60) as relay:
        running, _, plain = relay.accept(client_context(authority))
        stalled = []
        for _ in range(500):
            ours, theirs = tcp_pair()
            stalled.append((ours, relay.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.66")))
        client, _, _ = relay.accept(client_context(authority))
        for sock, serial in stalled[:481]:
            gone = relay.answer(serial)
            assert gone.reason == UNAVAILABLE and b"tls_handshakes" in gone.text, gone
            assert read_fails(sock)
        wait_until(lambda: relay.connections() == 21, lambda: f"{relay.connections()} connections are left")
        assert not relay.answers, "a younger one was pushed out"
        running.sendall(b"quick")
        assert plain.recv(10) == b"quick"
        assert client


def test_a_worker_without_descriptors_says_so_and_all_are_counted(tmp_path, authority, mail):
    relay = serving(tmp_path, mail)
    relay.popen["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    relay.launch()
    with contextlib.ExitStack() as stack:
        stack.callback(relay.__exit__)
        relay.meet()
        sessions, refused = [], 0
        while refused < 3:
            ours, theirs = tcp_pair()
            serial = relay.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.7")
            try:
                client = client_context(authority).wrap_socket(ours, server_hostname="mail.test")
            except OSError:
                answer = relay.answer(serial)
                assert answer.reason == UNAVAILABLE and b"descriptors" in answer.text, answer
                refused += 1
            else:
                sessions += [client, plain_end(relay.answer(serial))]
        relay.wait_pushed("TLS_STATE")
        for session in sessions:
            session.close()
        relay.wait_pushed("TLS_STATE", lambda state: state.connections == 0 and state.workers > 0)


def test_an_open_session_goes_before_all_handshakes_that_wait(tmp_path, authority):
    """A hundred of them and one line of mail become ready at the same moment: the line comes first."""
    mail = authority.issue("mail.test", key="rsa")  # dear handshakes
    with serving(tmp_path, mail, tls_handshakes=1000, tls_handshake_timeout=60) as relay:
        client, _, plain = relay.accept(client_context(authority))
        answered = [answered_before_a_line(relay, client, plain) for _ in range(3)]
        # more when this process was held up while it stopped the workers
        assert min(answered) < 30, answered


def answered_before_a_line(relay, client, plain, count=100):
    """How many of so many handshakes the workers answer before they have passed a line on."""
    clients = []
    for _ in range(count):
        ours, theirs = tcp_pair()
        relay.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.66")
        clients.append(ours)
    wait_until(lambda: relay.connections() == count + 1, "the workers do not take them")
    workers = relay.workers()
    with frozen(*workers):
        for sock in clients:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            with pytest.raises(ssl.SSLWantReadError):
                client_context().wrap_bio(incoming, outgoing).do_handshake()
            sock.sendall(outgoing.read())
        client.sendall(b"ping")
    assert read_exactly(plain, 4) == b"ping"
    with frozen(*workers):
        answered = len(select.select(clients, [], [], 0)[0])
    for sock in clients:
        sock.close()
    wait_until(lambda: relay.connections() == 1, "connections stay")
    return answered


# --- abuse ----------------------------------------------------------------------------------------------------
def test_early_data_and_compression_are_not_offered(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, _ = relay.accept(client_context(authority))
        client.settimeout(0.3)
        with pytest.raises((TimeoutError, ssl.SSLError)):
            client.recv(1)  # takes the tickets
        assert client.session.has_ticket
        assert client.compression() is None
        session = openssl_session(relay, authority)
        assert "Max Early Data: 0" in session, session


def openssl_session(relay, authority, *more, data=b""):
    """What openssl s_client says of a connection."""
    import subprocess
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        run = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "mail.test",
                                "-CAfile", authority.path, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)
        sock, _ = server.accept()
    serial = relay.request("TLS_ACCEPT", sock, service=1, client="192.0.2.7")
    plain = plain_end(relay.answer(serial))
    plain.sendall(b"* OK ready\r\n")
    out = b""
    while b"* OK ready" not in out:
        piece = os.read(run.stdout.fileno(), 65536)
        assert piece, out
        out += piece
    run.stdin.write(data)
    run.stdin.flush()
    if not data:
        run.stdin.close()
        run.stdin = None
        plain.close()
    rest, _ = run.communicate(timeout=15)
    return (out + rest).decode(errors="replace")


def test_renegotiation_is_refused(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        said = openssl_session(relay, authority, "-tls1_2", data=b"R\n")
        assert "RENEGOTIATING" in said and "no renegotiation" in said.lower(), said


def test_a_ticket_resumes_a_clients_session(tmp_path, authority, mail):
    for version in ("TLSv1_2", "TLSv1_3"):
        folder = tmp_path / version
        folder.mkdir()
        context = client_context(authority, most=ssl.TLSVersion[version])
        with serving(folder, mail, tls_sessions_per_worker=1) as relay:  # another process each time
            client, ready, plain = relay.accept(context)
            assert ready.resumed == 0
            plain.sendall(b"x")
            client.recv(1)
            again, ready, plain = relay.accept(context, session=client.session)
            assert (ready.resumed, again.session_reused) == (1, True)
            again.sendall(b"inside")
            assert plain.recv(10) == b"inside"


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_mail_hosts_session_is_resumed(tmp_path, authority, mail, version):
    context = server_context(mail, most=ssl.TLSVersion[version])
    with dialling(tmp_path, authority) as relay:
        host = Host(context)
        ready = relay.dial("mail.test", host)
        assert ready.resumed == 0
        host.tls.sendall(b"x")  # behind the tickets
        assert plain_end(ready).recv(1) == b"x"
        again = Host(context)
        ready = relay.dial("mail.test", again)
        assert (ready.resumed, again.tls.session_reused) == (1, True)
        again.tls.sendall(b"x")
        assert plain_end(ready).recv(1) == b"x"
        assert relay.dial("mail.test", Host(context), port=994).resumed == 0
        relay.reload()
        assert relay.dial("mail.test", Host(context)).resumed == 0, "made under other settings"


# --- the start ------------------------------------------------------------------------------------------------
def start_fails(tmp_path, **keys):
    relay = Relay(tmp_path, **keys)
    relay.launch()
    assert relay.process.wait(15) == 1
    relay.server.close()
    return relay.log()


def test_what_cannot_be_used_ends_the_start_in_clear_words(tmp_path, authority, mail):
    other = authority.issue("other.test", file="other-key")
    stranger = authority.issue("other.test", file="stranger", key="rsa")
    (tmp_path / "nothing.pem").write_text("nothing\n")
    cases = {
        "missing": (dict(tls_server_cert_file="/no/such.pem"), ":2: tls_server_cert_file: /no/such.pem: cannot be read"),
        "nothing": (dict(tls_server_cert_file=tmp_path / "nothing.pem"), "there is no certificate (PEM) in it"),
        "no key": (dict(tls_server_cert_file=mail.path), "there is no key (PEM) in it"),
        "wrong key": (dict(tls_server_cert_file=mail.path, tls_server_key_file=other.key_path),
                      f"tls_server_key_file: {other.key_path}: the key does not belong to the certificate"),
        "wrong kind": (dict(tls_server_cert_file=mail.path, tls_server_key_file=stranger.key_path),
                       f"tls_server_key_file: {stranger.key_path}: the key does not belong to the certificate"),
        "few keys": (dict(tls_server_cert_file=f"{mail.path} {other.path}", tls_server_key_file=mail.key_path),
                     "there must be one for each certificate"),
        "many keys": (dict(tls_server_cert_file=mail.path, tls_server_key_file=f"{mail.key_path} {other.key_path}"),
                      "there must be one for each certificate"),
        "ciphers": (dict(tls_server_cert_file=mail.both_path, tls_server_ciphers="NOSUCH"), "tls_server_ciphers: NOSUCH"),
        "host ciphers": (dict(server_tls="implicit", tls_ciphers="NOSUCH"), "tls_ciphers: NOSUCH"),
        "authorities": (dict(server_tls="implicit", tls_ca_file="/no/ca.pem"), "tls_ca_file: /no/ca.pem: cannot be read"),
        "empty path": (dict(server_tls="implicit", tls_ca_path=tmp_path / "missing" / "run"), "there is no certificate (PEM) in it"),
        "client cert": (dict(server_tls="implicit", tls_ca_file=authority.path, tls_cert_file=mail.path,
                             tls_key_file=other.key_path), "does not belong to the certificate"),
    }
    for name, (keys, words) in cases.items():
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        log = start_fails(folder, **keys)
        assert words in log and "tlsrelayd cannot start" in log, f"{name}: {log}"


def test_an_expired_certificate_is_a_warning(tmp_path, authority):
    old = authority.expired("mail.test", file="old")
    with serving(tmp_path, old) as relay:
        assert f"tls_server_cert_file: {old.path}: the certificate has expired" in relay.log()
        relay.accept(client_context())


def test_root_s_files_come_in_an_archive(tmp_path, authority, mail):
    fresh = authority.issue("mail.test", file="fresh2")

    def read(path):
        with open(path, "rb") as file:
            return file.read()

    files = {"/root/other": b"x" * 10, "/root/cert.pem": read(mail.path), "/root/key.pem": read(mail.key_path)}
    with Relay(tmp_path, files, tls_server_cert_file="/root/cert.pem", tls_server_key_file="/root/key.pem") as relay:
        relay.accept(client_context(authority))
        relay.write_archive({**files, "/root/cert.pem": read(fresh.path), "/root/key.pem": read(fresh.key_path)})
        relay.reload()
        client, _, _ = relay.accept(client_context(authority))
        der = certs.serialization.Encoding.DER
        assert client.getpeercert(binary_form=True) == fresh.cert.public_bytes(der)
        relay.write_archive({})
        os.pwrite(relay.archive, b"garbage!" * 10, 0)
        os.kill(relay.process.pid, signal.SIGHUP)
        relay.wait_log("the archive of root's files is damaged")
        relay.accept(client_context(authority))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_as_an_ordinary_user_it_takes_from_the_archive_what_it_may_not_read(authority, mail):
    folder = temp_folder()
    try:
        files = {path: Path(path).read_bytes() for path in (mail.path, mail.key_path)}
        assert os.stat(mail.key_path).st_mode & 0o077 == 0
        relay = Relay(folder, files, tls_server_cert_file=mail.path, tls_server_key_file=mail.key_path)
        os.chmod(folder / "run", 0o755)
        relay.popen = dict(user=65534, group=65534, extra_groups=[])
        with relay:
            relay.accept(client_context(authority))
            for pid in (relay.process.pid, *relay.workers()):
                assert b"\nUid:\t65534\t65534\t65534\t65534\n" in read_proc(pid, "status")
            relay.reload()
            relay.accept(client_context(authority))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_without_certificates_clients_are_told_that_there_is_no_tls(tmp_path, authority):
    with dialling(tmp_path, authority) as relay:
        ours, theirs = tcp_pair()
        failed = relay.answer(relay.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.7"))
        assert failed.reason == UNAVAILABLE and b"tls_server_cert_file" in failed.text
        ours.close()


def test_a_worker_is_locked_up_and_nobodys(tmp_path, authority, mail):
    if SANITIZED:
        pytest.skip("a sanitizer build is locked up in part only")
    with serving(tmp_path, mail) as relay:
        relay.accept(client_context(authority))
        (worker,) = relay.workers()
        status = dict(line.split(":\t", 1) for line in read_proc(worker, "status").decode().splitlines() if ":\t" in line)
        assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert (os.geteuid() != 0) or "0" not in status["Uid"].split()
        secret = b"auth-shared-secret-7"
        assert secret not in read_proc(worker, "environ")
