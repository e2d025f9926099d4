"""TLS with real clients, openssl, curl, imapflow, mutt and mbsync, in front of Dovecot."""
import fcntl
import json
import os
import re
import select
import shutil
import struct
import termios
import time

import pytest

from keepwarm import dovecot, process
from keepwarm.process import wait_until
from keepwarm.tls_site import facing, pki, s_client, server  # noqa: F401 (fixtures)
from test_clients import NODE, NODE_SOURCE, node_modules, run

pytestmark = pytest.mark.skipif(dovecot.missing() is not None, reason=str(dovecot.missing()))


def test_openssl_and_curl(facing, server, pki):
    system = facing(server, server_tls="starttls", tls_ca_file=pki.authority.path)
    trust = ("-CAfile", pki.authority.path, "-verify_return_error", "-verify_ip", "127.0.0.1")
    said = b"a LOGIN user1 secret1\r\nb SELECT INBOX\r\nc FETCH 1 BODY.PEEK[TEXT]\r\nd LOGOUT\r\n"
    for how in ("-connect", f"127.0.0.1:{system.imaps}"), ("-connect", f"127.0.0.1:{system.port}", "-starttls", "imap"):
        done = s_client(*how, *trust, "-quiet", "-ign_eof", said=said)
        assert b"This is the mail of <user1>." in done.stdout and b"d OK" in done.stdout, done
    for url in (f"imaps://127.0.0.1:{system.imaps}/INBOX;MAILINDEX=1",), (
            "--ssl-reqd", f"imap://127.0.0.1:{system.port}/INBOX;MAILINDEX=1"):
        assert "This is the mail of <user2>." in run("curl", "-sS", "--max-time", 20, "--cacert", pki.authority.path,
                                                     "--user", "user2:secret2", *url)
    wait_until(lambda: len(re.findall(r"session ended .*tls=TLSv1\.3 cipher=TLS_AES_256_GCM_SHA384", system.log_text())) == 4,
               system.log_text)


@pytest.mark.parametrize("how", ["starttls", "implicit"])
def test_imapflow(facing, server, pki, how):
    reason = node_modules()
    if reason:
        pytest.skip(reason)
    system = facing(server)
    result = json.loads(run("node", NODE_SOURCE / "click.js", "127.0.0.1", system.imaps if how == "implicit" else system.port,
                            "user7", "secret7", how, pki.authority.path,
                            env=dict(os.environ, NODE_PATH=str(NODE / "node_modules"))))
    assert result["source"].endswith("This is the mail of <user7>.\r\n")
    system.wait_log("tls=TLSv1.3")


MUTTRC = """
set imap_user=user11 imap_pass=secret11
set ssl_force_tls=yes ssl_starttls=yes ssl_ca_certificates_file="{authority}"
set folder="{folder}" record="" postponed="" mbox_type=maildir
set certificate_file=/dev/null header_cache="" pager_stop=no wait_key=no
push "<quit>"
"""


@pytest.mark.skipif(not shutil.which("mutt"), reason="mutt is not installed")
@pytest.mark.parametrize("how", ["starttls", "implicit"])
def test_mutt(facing, server, pki, tmp_path, how):
    """In a terminal of its own, whose text is read until it leaves."""
    system = facing(server)
    (tmp_path / "rc").write_text(MUTTRC.format(authority=pki.authority.path, folder=tmp_path))
    url = f"imaps://localhost:{system.imaps}/INBOX" if how == "implicit" else f"imap://localhost:{system.port}/INBOX"
    inner, outer = os.openpty()
    fcntl.ioctl(outer, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    with open(inner, "rb", 0) as screen:
        mutt = process.start(["mutt", "-n", "-F", tmp_path / "rc", "-f", url], stdin=outer, stdout=outer, stderr=outer,
                             env=dict(os.environ, TERM="xterm", HOME=str(tmp_path), LC_ALL="C"))
        os.close(outer)
        shown = read_terminal(screen)
        assert mutt.wait(process.DEADLINE) == 0
    assert b"marker of user11" in shown, shown
    system.wait_log("tls=TLSv1.3")


def read_terminal(screen):
    """All that is written to it until its other end is closed."""
    shown, end = b"", time.monotonic() + process.DEADLINE
    while select.select([screen], [], [], max(0, end - time.monotonic()))[0]:
        try:
            data = screen.read(65536)
        except OSError:  # EIO: nobody has the other end
            break
        shown += data
    return shown


MBSYNCRC = """
IMAPAccount a
Host localhost
Port {port}
User user8
Pass secret8
SSLType {how}
CertificateFile {authority}
AuthMechs LOGIN

IMAPStore far
Account a

MaildirStore near
Path {folder}/mail/
Inbox {folder}/mail/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Create Near
SyncState *
"""


@pytest.mark.skipif(not shutil.which("mbsync"), reason="isync is not installed")
@pytest.mark.parametrize("how", ["STARTTLS", "IMAPS"])
def test_mbsync(facing, server, pki, tmp_path, how):
    system = facing(server)
    (tmp_path / "mail").mkdir()
    rc = tmp_path / "rc"
    rc.write_text(MBSYNCRC.format(port=system.imaps if how == "IMAPS" else system.port, how=how, folder=tmp_path,
                                  authority=pki.authority.path))
    run("mbsync", "-q", "-c", rc, "-a")
    found = b"".join(path.read_bytes() for path in (tmp_path / "mail" / "INBOX").rglob("*") if path.is_file())
    assert b"This is the mail of <user8>." in found
    system.wait_log("tls=TLSv1.3")
