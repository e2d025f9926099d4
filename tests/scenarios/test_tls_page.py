"""What docs/TLS.md tells operators to type: the commands for certificates of their own."""
import re
import shutil
import subprocess
import types

import pytest

from keepwarm.system import ROOT
from keepwarm.tlsrelay import CERTIFICATE, Host, Relay, client_context, dialling, open_to, server_context

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")


def commands(heading):
    """The indented lines below a heading."""
    text = (ROOT / "docs" / "TLS.md").read_text(encoding="utf-8")
    section = re.search(rf"^### {heading}\n(.*?)(?=^##)", text, re.M | re.S).group(1)
    return "".join(line[4:] for line in section.splitlines(keepends=True) if line.startswith("    "))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder in which they were typed."""
    folder = tmp_path_factory.mktemp("typed")
    typed = commands("Certificates of your own")
    subprocess.run(["bash", "-e", "-c", typed], cwd=folder, check=True, capture_output=True, timeout=60)
    return folder


def certificate(folder, name):
    return types.SimpleNamespace(path=folder / f"{name}.pem", key_path=folder / f"{name}.key")


def test_the_servers_certificate_is_good_on_both_sides(made, tmp_path):
    authority, imap = certificate(made, "ca"), certificate(made, "imap")
    for side in "toward", "facing":
        (tmp_path / side).mkdir()
    with dialling(tmp_path / "toward", authority) as relay:
        open_to(relay, imap, "imap.example.org")
        assert relay.dial("other.example.org", Host(server_context(imap))).reason == CERTIFICATE
    with Relay(tmp_path / "facing", tls_server_cert_file=imap.path, tls_server_key_file=imap.key_path) as relay:
        relay.accept(client_context(authority), "imap.example.org")
        assert "tls_server_key_file" not in relay.log(), "somebody else can read the key"


def test_the_users_certificate_names_him(made, tmp_path):
    authority, imap, anna = (certificate(made, name) for name in ("ca", "imap", "anna"))
    context = client_context(authority)
    context.load_cert_chain(anna.path, anna.key_path)
    with Relay(tmp_path, tls_server_cert_file=imap.path, tls_server_key_file=imap.key_path, tls_client_ca_file=authority.path,
               auth_mechanisms="PLAIN EXTERNAL", auth_sasl_plain_username="m", auth_sasl_plain_password="p") as relay:
        assert relay.accept(context, "imap.example.org")[1].identity == b"anna@example.org"


def test_neither_of_them_can_sign_others(made):
    for name in "imap", "anna":
        text = subprocess.run(["openssl", "x509", "-in", made / f"{name}.pem", "-noout", "-text"], check=True,
                              capture_output=True, text=True).stdout
        assert "CA:FALSE" in text
