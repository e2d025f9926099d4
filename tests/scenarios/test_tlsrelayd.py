"""tlsrelayd with the test as its broker: handshakes, what is refused and in which words, how it starts."""
import os
import shutil
import signal
import socket
import ssl
import time
from pathlib import Path

import pytest

from keepwarm import certs
from keepwarm.process import read_proc, wait_until
from keepwarm.system import SANITIZED, temp_folder
from keepwarm.tlsrelay import (CERTIFICATE, HANDSHAKE, INJECTED, REFUSED, STARTTLS, TIMEOUT, UNAVAILABLE, Host, Relay,
                               client_context, dialling, open_to, plain_end, read_fails, read_to_end, server_context,
                               serving, start_fails, tcp_pair)


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


def test_and_toward_mail_hosts(tmp_path, authority, mail):
    context = server_context(mail, most=ssl.TLSVersion.TLSv1_2)
    with dialling(tmp_path, authority, tls_ciphers="ECDHE-ECDSA-AES128-GCM-SHA256") as relay:
        assert relay.dial("mail.test", Host(context)).cipher == b"ECDHE-ECDSA-AES128-GCM-SHA256"
        other = server_context(mail, most=ssl.TLSVersion.TLSv1_2)  # the same one would resume
        other.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
        failed = relay.dial("mail.test", Host(other))
        assert failed.reason == HANDSHAKE and b"nothing in common (tls_ciphers)" in failed.text


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


# --- abuse ----------------------------------------------------------------------------------------------------
def test_early_data_and_compression_are_not_offered(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, _ = relay.accept(client_context(authority))
        client.settimeout(0.3)

        def has_ticket():
            with pytest.raises((TimeoutError, ssl.SSLError)):
                client.recv(1)  # takes the tickets
            return client.session.has_ticket
        wait_until(has_ticket, "no ticket comes")
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
        for _ in range(4):  # with TLS 1.2 no new ticket comes, and the one that there is stays good
            again = Host(context)
            ready = relay.dial("mail.test", again)
            assert (ready.resumed, again.tls.session_reused) == (1, True)
            again.tls.sendall(b"x")
            assert plain_end(ready).recv(1) == b"x"
        assert relay.dial("mail.test", Host(context), port=994).resumed == 0
        relay.reload()
        assert relay.dial("mail.test", Host(context)).resumed == 0, "made under other settings"


# --- the start ------------------------------------------------------------------------------------------------
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
