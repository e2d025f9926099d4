"""The same conversations in every mode: sessions started by the real xinetd and the real openbsd-inetd, one by one or by a
listener that they have started; the broker runs beside, under in.imapproxyd.

Those of tests/servers/imapproxy/ are held with Dovecot as the mail host; then every service and every way to log in.
"""
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_differential import shown

from keepwarm import certs, conversation, dovecot, gaps, inetd, pop3, process, proxytalk, tls
from keepwarm.imap import LOGINS, Client
from keepwarm.system import BUILD, ROOT

CONVERSATIONS = conversation.read_folder(Path(__file__).parent / "imapproxy")
# Where a process is started for each connection there is nobody to start an errand (imapproxy.conf(5), auth_sasl_plain_password).
NEEDS_ERRANDS = {"auth_sasl_plain_username", "auth_sasl_plain_password", "auth_shared_secret"}
REAL = {mode: inetd.MODES[mode] for mode in (*inetd.NOWAIT, *inetd.WAIT)}


def skip_without(mode):
    if inetd.missing(mode):
        pytest.skip(inetd.missing(mode))


# --- the conversations ---------------------------------------------------------------------------------
class Started(proxytalk.New):
    """Keepwarm with that file, its sessions by a supervisor."""

    def __init__(self, system, mode):
        super().__init__(system)
        self.mode, self.stack = mode, contextlib.ExitStack()

    def start(self):
        self.system.write_config(run_listener="no")
        super().start()
        self.stack.enter_context(inetd.started(self.system, self.mode))
        process.wait_until(self.system.greets, self.system.log_text)

    def is_over(self, port):
        """Its own line goes to the system's log, which is not ours to read."""
        return not process.tcp_is_held(self.port, port)

    def stop(self):
        self.stack.close()
        super().stop()


SITES = proxytalk.by_site(CONVERSATIONS)


@pytest.fixture(scope="module")
def mail_host():
    if dovecot.missing():
        pytest.skip(dovecot.missing())
    with proxytalk.mail_host(CONVERSATIONS) as server:
        yield server


@pytest.mark.parametrize("mode", REAL)
@pytest.mark.parametrize("key", SITES, ids=lambda key: key[1] or " ".join(key[0]) or "as it is")
def test_the_conversations_are_the_same_when_proxyd_is_started_by(mail_host, mode, key):
    skip_without(mode)
    config, _ = key
    if mode in inetd.NOWAIT and NEEDS_ERRANDS & {line.split(" ")[0] for line in config}:
        pytest.skip("a master login needs a listener")
    site = proxytalk.Site(mail_host, config, SITES[key])
    held = site.hold_with(Started(site.system, mode))
    problems = []
    for number, what in SITES[key]:
        lines = held[what.name]
        if isinstance(lines, Exception):
            problems.append(f"{what.name}: {lines}")
        elif what.name not in gaps.IMAPPROXY:
            problem = conversation.judge(what, lines, proxytalk.words_of(mail_host, number))
            problems += ["\n".join([f"{what.name}: {problem}", *shown(lines)])] if problem else []
    assert not problems, "\n\n".join(problems)


# --- every service, every way to log in -----------------------------------------------------------------------
@pytest.fixture(params=inetd.MODES)
def whole(request, make, tmp_path):
    """(system, {service: port}, authority, POP3 host) with all services that the supervisor of this mode can serve."""
    mode = request.param
    skip_without(mode)
    authority, host = certs.Authority(tmp_path), pop3.Host()
    ours = authority.issue("127.0.0.1")
    services = ("imap",) if mode.startswith("activate") else inetd.SERVICES
    try:
        system = make.system(make.backend(), run_listener="no", tls_server_cert_file=ours.path, pop3_server_port=host.port,
                             tls_server_key_file=ours.key_path, enable_admin_commands="yes")
        with inetd.started(system, mode, services) as ports:
            yield system, ports, authority, host
    finally:
        host.stop()


def test_every_way_to_log_in(whole):
    system, _, _, _ = whole
    for number, how in enumerate(LOGINS):
        with system.session(f"user{number}", how=how, reused=False) as client:
            client.ok("NOOP")
            client.logout()
        system.wait_given()
        with system.session(f"user{number}", how=how, reused=True) as client:
            client.ok("SELECT INBOX")
            assert f"<user{number}>".encode() in client.ok("FETCH 1 BODY[]").text
            client.logout()
        system.wait_given()
    with system.client() as client:
        assert client.login("user0", "wrong").tagged.startswith(b"NO [AUTHENTICATIONFAILED] ")
        assert b"\r\n* XPROXY_VERSION" in b"\r\n" + client.ok("XPROXY_VERSION").text
        client.logout()


def test_tls_from_the_first_byte_and_by_starttls(whole):
    system, ports, authority, _ = whole
    ways = [lambda: tls.starttls(system.port, authority)]
    ways += [lambda: tls.imaps(ports["imaps"], authority)] if "imaps" in ports else []
    reused = False
    for way in ways * 2:
        with way() as client:
            reply = client.login("anna", "pw-anna")
            assert reply.ok and reply.reused == reused, reply
            client.ok("SELECT INBOX")
            client.logout()
        system.wait_given()
        reused = True


def test_pop3(whole):
    _, ports, authority, _ = whole
    if "pop3" not in ports:
        pytest.skip("it serves one service")
    with pop3.Client(ports["pop3"]) as client:
        client.session("anna")
        assert client.ok("STAT").startswith(b"+OK ")
        client.ok("QUIT")
        client.expect_close()
    with pop3.Client(ports["pop3"]) as outer:
        outer.ok("STLS")
        with pop3.Client(None, sock=tls.wrap(outer.sock, authority), greet=False) as client:
            client.session("anna")
            client.ok("QUIT")
    with pop3.Client(None, sock=tls.wrap(Client(ports["pop3s"], greet=False).sock, authority)) as client:
        client.session("anna")
        client.ok("QUIT")


# --- the files as they are ----------------------------------------------------------------------------------
IN_NEW_NAMESPACES = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--propagation", "private")


@pytest.mark.skipif(os.getuid() != 0 or not Path("/usr/local/sbin").is_dir(), reason="needs root")
@pytest.mark.parametrize("mode", REAL)
def test_the_shipped_files_work_unchanged(mode):
    """At ports 143, 993, 110 and 995, with the programs in /usr/local/sbin and the run directory /run/keepwarm."""
    skip_without(mode)
    if subprocess.run([*IN_NEW_NAMESPACES, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no namespaces can be made here")
    run = subprocess.run([*IN_NEW_NAMESPACES, sys.executable, Path(__file__).with_name("inside_inetd.py"), ROOT / "tests", BUILD,
                          mode, inetd.unpack_inetd()[0] or ""], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout.splitlines()[-1])
    families = 2 if mode.startswith("inetd") else 1
    assert len(seen) == families * len(inetd.SERVICES)
    assert all("BYE" in text or text.startswith("+OK") for text in seen.values()), seen
