"""What TLS is offered to clients, by which name, and how it starts and comes with a reload."""
import contextlib
import os
import re
import shutil
import signal
import ssl
import subprocess

import pytest

from keepwarm import dovecot, process, tls
from keepwarm.process import wait_until
from keepwarm.system import System
from keepwarm.tls_site import facing, pki, s_client, serial, server, visit  # noqa: F401 (fixtures)

pytestmark = pytest.mark.skipif(dovecot.missing() is not None, reason=str(dovecot.missing()))


# --- what is offered ---------------------------------------------------------------------------------
WEAK = {"NULL": (0x0001, 0x0002, 0x003B, 0xC006, 0xC010), "EXPORT": (0x0003, 0x0006, 0x0008, 0x0014),
        "RC4": (0x0004, 0x0005, 0xC007, 0xC011), "DES": (0x0009, 0x0015), "3DES": (0x000A, 0x0016, 0xC008, 0xC012),
        "anonymous": (0x0018, 0x0034, 0x003A, 0x006C, 0x00A6, 0xC017, 0xC018), "PSK": (0x008C, 0x00A8), "SRP": (0xC01D,)}


def test_what_is_old_or_weak_is_not_offered(facing, make, pki):
    """With an EC and an RSA certificate, so that no cipher fails for the lack of a key."""
    system = facing(make.backend(), pki.ours, pki.ours_rsa)
    for version in tls.SSL3, tls.TLS10, tls.TLS11:
        answer = tls.Answer(system.imaps, tls.client_hello(version, (*tls.STRONG, 0xC009, 0xC013, 0x002F, 0x0035)))
        assert answer.version is None, f"{version:04x} is taken"
    for name, ciphers in WEAK.items():
        answer = tls.Answer(system.imaps, tls.client_hello(tls.TLS12, ciphers))
        assert answer.cipher is None, f"{name}: {answer.cipher:04x} is taken"
    answer = tls.Answer(system.imaps, tls.client_hello(tls.TLS12, tls.STRONG, b"\1\0"))
    assert answer.version == tls.TLS12 and answer.cipher in tls.STRONG and answer.compression == 0
    for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
        with tls.imaps(system.imaps, pki.authority, version=version) as client:
            assert client.login("anna", "pw-anna").ok and client.sock.compression() is None
    strict = facing(make.backend(), tls_server_min_version="1.3")
    assert tls.Answer(strict.imaps, tls.client_hello(tls.TLS12, tls.STRONG)).version is None


EPHEMERAL = {*tls.STRONG, 0xCCA8, 0xCCA9, 0xC023, 0xC024, 0xC027, 0xC028, 0xC009, 0xC00A, 0xC013, 0xC014}  # ECDHE, all


def test_all_that_is_offered_has_forward_secrecy(facing, make, pki):
    """A sweep over every number: what is taken is left out of the next offer, until nothing is. Neither RSA key exchange
    nor DHE, which costs us five times as much."""
    system, left, taken = facing(make.backend(), pki.ours_rsa), [*range(1, 0xFF), *range(0xC001, 0xC100), *range(0xCCA8, 0xCCAF)], set()
    while (cipher := tls.Answer(system.imaps, tls.client_hello(tls.TLS12, left)).cipher) is not None:
        taken.add(cipher)
        left.remove(cipher)
    assert {0xC02F, 0xC030} <= taken <= EPHEMERAL, [f"{number:04x}" for number in sorted(taken - EPHEMERAL)]
    system.wait_log("has no cipher in common with us (tls_server_ciphers)")
    wide = facing(make.backend(), pki.ours_rsa, tls_server_ciphers="DEFAULT")
    assert tls.Answer(wide.imaps, tls.client_hello(tls.TLS12, [0x009E])).cipher == 0x009E


def test_renegotiation_and_early_data_are_refused(facing, make, pki):
    system = facing(make.backend())
    at = ("-connect", f"127.0.0.1:{system.imaps}", "-CAfile", pki.authority.path)
    asking = process.start(["openssl", "s_client", *at, "-tls1_2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT)
    said = b""
    while b"* OK [CAPABILITY" not in said:  # mail that came while it renegotiates would be the end, too
        said += os.read(asking.stdout.fileno(), 65536) or pytest.fail(said.decode())
    said = asking.communicate(b"R\n", process.DEADLINE)[0]
    assert b"RENEGOTIATING" in said and b"no renegotiation" in said, said
    kept = system.folder / "session"
    s_client(*at, "-tls1_3", "-sess_out", kept, "-ign_eof", said=b"a LOGOUT\r\n")
    text = subprocess.run(["openssl", "sess_id", "-in", kept, "-noout", "-text"], capture_output=True, check=True).stdout
    assert b"Max Early Data: 0" in text, text


def test_pimpstat_shows_the_tls_of_a_session(facing, make, pki):
    system = facing(make.backend())
    with tls.imaps(system.imaps, pki.authority, "imap.example.test") as client:
        assert client.login("anna", "pw-anna").ok
        wait_until(lambda: [session["tls"] for session in system.stats()["sessions"] if session["user"] == "anna"] ==
                   [{"version": "TLSv1.3", "cipher": client.sock.cipher()[0], "name": "imap.example.test"}],
                   lambda: system.stats()["sessions"])
        wait_until(lambda: system.gauge("tls_connections") == 1, system.stats)


def test_each_name_has_its_certificate(facing, make, pki):
    system = facing(make.backend(), pki.ours, pki.ours_rsa)
    for name, cert in (("imap.example.test", pki.ours), ("mail.example.test", pki.ours_rsa), ("127.0.0.1", pki.ours)):
        with tls.imaps(system.imaps, pki.authority, name) as client:
            assert serial(client) == cert.cert.serial_number
    with tls.starttls(system.port, pki.authority, "mail.example.test") as client:
        assert serial(client) == pki.ours_rsa.cert.serial_number


def test_no_password_goes_in_clear_text_where_tls_is_required(facing, make, pki):
    system = facing(make.backend(), require_tls="yes", plaintext_addresses="192.0.2.0/24")
    with system.client() as client:
        assert "LOGINDISABLED" in client.greeting.decode()
        assert client.login("anna", "pw-anna").tagged.startswith(b"NO [PRIVACYREQUIRED]")
    with tls.starttls(system.port, pki.authority) as client:
        assert client.login("anna", "pw-anna").ok


# --- starts and reloads ------------------------------------------------------------------------------
def test_a_key_of_another_certificate_does_not_start_and_a_reload_keeps_what_was(facing, make, pki):
    system = facing(make.backend())
    system.write_config(tls_server_key_file=pki.next.key_path)
    system.supervisor.send_signal(signal.SIGHUP)
    system.wait_log("the key does not belong to the certificate")
    with tls.imaps(system.imaps, pki.authority) as client:
        assert client.login("anna", "pw-anna").ok and serial(client) == pki.ours.cert.serial_number
    system.stop_and_keep()
    start = subprocess.run([system.binaries / "in.imapproxyd", "-f", system.conf], stdin=subprocess.DEVNULL, check=False,
                           capture_output=True, text=True, timeout=process.DEADLINE, env=system.environment())
    assert start.returncode == 1, start
    assert re.search(rf"{system.conf}:\d+: tls_server_key_file: .*the key does not belong", start.stderr), start


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes somebody else")
def test_an_ordinary_user_can_start_it(make, pki):
    """With keys that he can read himself."""
    backend, nobody = make.backend(), 65534
    key = pki.folder / "key-of-nobody"
    shutil.copy(pki.ours.key_path, key)
    shutil.chown(key, nobody, nobody)
    system = System(backend.port, prefix=("setpriv", f"--reuid={nobody}", f"--regid={nobody}", "--clear-groups",
                                          "--inh-caps=-all"), tls_server_cert_file=pki.ours.path, tls_server_key_file=key)
    make.started.append(system)
    shutil.chown(system.folder, nobody, nobody)
    system.start()
    with tls.starttls(system.port, pki.authority) as client:
        assert client.login("anna", "pw-anna").ok


def test_tls_on_both_sides_comes_with_a_reload(make, server, pki):
    system = make.system(server)
    visit(system, "user12", reused=False)
    assert system.pids("tlsrelayd") == []
    system.write_config(tls_server_cert_file=pki.ours.path, tls_server_key_file=pki.ours.key_path,
                        server_tls="implicit", server_port=server.tls_port, tls_ca_file=pki.authority.path)
    system.supervisor.send_signal(signal.SIGHUP)

    def begin():
        with contextlib.suppress(AssertionError):  # one of before the reload has come to the door
            return tls.starttls(system.port, pki.authority)
    with wait_until(begin, system.log_text) as client:
        reply = client.login("user12", "secret12")
        assert reply.ok and not reply.reused, (reply, system.log_text())
    wait_until(lambda: re.search(r"Login: user=<user12>, .*TLSv1\.3", server.log_text()), server.log_text)
