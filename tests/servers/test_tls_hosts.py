"""TLS toward real mail hosts, Dovecot and Courier behind stunnel: in.imapproxyd as a whole in front of them."""
import re
import shutil
import socket
import subprocess

import pytest

from keepwarm import courier, dovecot, process
from keepwarm.process import wait_until
from keepwarm.system import temp_folder
from keepwarm.tls_site import pki, server, toward, visit  # noqa: F401 (fixtures)

pytestmark = pytest.mark.skipif(dovecot.missing() is not None, reason=str(dovecot.missing()))


def test_an_old_file_with_force_tls_goes_on_working(make, server):
    """As up-imapproxy: any certificate will do, and the start says so."""
    system = make.system(server, force_tls="yes")
    visit(system)
    assert re.search(r"imapproxy.conf:\d+: force_tls: certificates of mail hosts are not verified", system.log_text())
    wait_until(lambda: re.search(r"Login: user=<user1>, .*TLS", server.log_text()), server.log_text)


@pytest.mark.parametrize("how", ["starttls", "implicit"])
def test_a_reused_login_makes_no_handshake(toward, server, how):
    system, user = toward(server, how), {"starttls": "user2", "implicit": "user3"}[how]
    visit(system, user, reused=False)
    server.wait_logins(1, user)  # its handshake is in the log before it
    before = server.handshakes()
    for _ in range(5):
        visit(system, user, reused=True)
    assert server.handshakes() == before and server.logins(user) == 1
    assert re.search(rf"Login: user=<{user}>, .*TLSv1\.3", server.log_text())
    assert "not verified" not in system.log_text()


@pytest.mark.parametrize("oldest, newest", [("TLSv1.2", "TLSv1.2"), ("TLSv1.3", "TLSv1.3")])
def test_a_mail_host_of_one_version_that_asks_for_our_certificate(toward, pki, oldest, newest):
    extra = (f"ssl_ca = <{pki.authority.path}\nssl_require_crl = no\nssl_verify_client_cert = yes\n"
             "auth_ssl_require_client_cert = yes\n")
    server = dovecot.Dovecot(2, extra, cert=pki.good, oldest=oldest, newest=newest)
    try:
        server.start()
        shown = {"tls_cert_file": pki.client.path, "tls_key_file": pki.client.key_path}
        for how in "starttls", "implicit":
            system = toward(server, how, cache_expiration_time=0, **shown)
            for _ in range(3):  # nor is TLS resumed: this Dovecot fails then
                with system.client() as client:
                    assert client.login("user1", "secret1").ok, system.log_text()
                    client.logout()
        server.wait_said(rf"Login: user=<user1>, .*{re.escape(newest)}", 6)
        with toward(server, "starttls").client() as client:
            assert client.login("user2", "secret2").tagged.startswith(b"NO ")
        if newest == "TLSv1.2":
            refused = toward(server, "implicit", tls_min_version="1.3", **shown)
            with refused.client() as client:
                assert client.login("user1", "secret1").tagged.startswith(b"NO [UNAVAILABLE] ")
            refused.wait_log("TLS failed")  # Dovecot hangs up; others send an alert that says why
    finally:
        server.stop()


BAD = {"127.0.0.2": "has expired", "127.0.0.3": "self-signed", "127.0.0.4": "is for other names",
       "127.0.0.5": "leads to no known authority", "127.0.0.6": "lacks an intermediate certificate"}


@pytest.mark.parametrize("address", BAD)
def test_a_certificate_that_is_not_good_is_refused_and_named(toward, server, address):
    system = toward(server, "implicit", server_hostname=address)
    server.wait_ended()
    logins, before = server.logins(), server.log_text().count("user9")
    with system.client() as client:
        reply = client.login("user9", "secret9")
        assert reply.tagged.startswith(b"NO [UNAVAILABLE] "), reply
    line = next(line for line in system.log_text().splitlines() if "TLS failed" in line)
    assert BAD[address] in line and address in line and re.search(r"\btls_\w+", line), line
    if address == "127.0.0.6":
        assert "signed by between" in line
    assert (server.logins(), server.log_text().count("user9")) == (logins, before), "the password was sent"


def test_a_certificate_that_does_not_matter_is_taken_with_a_warning(toward, server):
    system = toward(server, "starttls", verify=False, server_hostname="127.0.0.2", tls_verify_server="no")
    visit(system, "user4")
    assert re.search(r":\d+: tls_verify_server: certificates of mail hosts are not verified", system.log_text())


def test_a_chain_and_a_name_are_verified(toward, server):
    visit(toward(server, "implicit", server_hostname="127.0.0.7"), "user5")
    visit(toward(server, "starttls", server_hostname="localhost"), "user6")


def test_a_mail_host_without_tls_is_never_spoken_to_in_clear_text(make, toward):
    backend = make.backend()
    backend.tls_port = backend.port
    for how in "starttls", "implicit":
        system = toward(backend, how)
        with system.client() as client:
            assert client.login("anna", "pw-anna").tagged.startswith(b"NO [UNAVAILABLE] ")
        assert "TLS failed" in system.log_text()


def test_a_stop_is_quick_with_cached_connections_in_tls(toward, server):
    system = toward(server, "implicit")
    visit(system, "user10")
    system.stop_and_keep()
    assert "did not end in time" not in system.log_text()


# --- stunnel in front of Courier ---------------------------------------------------------------------
STUNNEL = """
foreground = yes
pid =
debug = notice
[imaps]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{behind}
cert = {cert}
key = {key}
TIMEOUTclose = 0
"""


class Tunnel:
    def __init__(self, behind, cert):
        self.folder = temp_folder()
        self.port = self.tls_port = process.free_port()
        conf = self.folder / "conf"
        conf.write_text(STUNNEL.format(port=self.port, behind=behind, cert=cert.path, key=cert.key_path))
        with open(self.folder / "log", "wb") as log:
            self.process = process.start(["stunnel4", conf], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def accepts(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self):
        self.process.terminate()
        self.process.wait(process.DEADLINE)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.mark.skipif(not shutil.which("stunnel4"), reason="stunnel4 is not installed")
def test_courier_behind_stunnel(make, toward, pki):
    if courier.missing():
        pytest.skip(courier.missing())
    server = courier.Courier(2)
    make.started.append(server)
    server.start()
    tunnel = Tunnel(server.port, pki.good)
    make.started.append(tunnel)
    wait_until(tunnel.accepts, lambda: (tunnel.folder / "log").read_text())
    system = toward(tunnel, "implicit")
    handshakes = []
    for reused in False, True, True:
        given = system.counter("given")
        with system.client() as client:
            assert client.login("user1", "secret1").reused == reused
            client.ok("SELECT INBOX")
            client.logout()
        wait_until(lambda: system.counter("given") > given, "nothing was given back")  # pylint: disable=W0640
        handshakes.append(system.counter("tls_backend_handshakes"))
    assert handshakes[0] > 0 and len(set(handshakes)) == 1, handshakes
