"""tlsrelayd with the test as its broker: which names a mail host's certificate is good for, and files of certificates
that are damaged in their middle."""
import ipaddress
import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from keepwarm import certs
from keepwarm.system import BUILD
from keepwarm.tlsrelay import CERTIFICATE, Host, Relay, client_context, dialling, open_to, server_context, serving, start_fails

HEAD, END = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"


# --- names ----------------------------------------------------------------------------------------------------
def refusal(relay, host, certificate):
    answer = relay.dial(host, Host(server_context(certificate)))
    assert (answer.name, answer.reason) == ("TLS_FAILED", CERTIFICATE), answer
    return answer.text.decode()


@pytest.mark.parametrize("host", ["mail.test", "MAIL.test", "mail.test.", "a.wild.test", "a.wild.test.",
                                  "xn--bcher-kva.example", "192.0.2.1", "2001:DB8:0::1"])
def test_a_host_is_known_by_each_of_its_certificates_names(tmp_path, authority, host):
    """A dot at the end is part of no name in a certificate or in SNI (RFC 6066 section 3)."""
    many = authority.issue("other.test", "mail.test", "*.wild.test", "xn--bcher-kva.example", "192.0.2.1", "2001:db8::1",
                           file="many")
    asked = []
    context = server_context(many)
    context.sni_callback = lambda _, name, __: asked.append(name)
    with dialling(tmp_path, authority) as relay:
        assert relay.dial(host, Host(context)).name == "TLS_READY"
    assert asked == [None if ":" in host or host[0] == "1" else host.rstrip(".")]


@pytest.mark.parametrize("host", ["wild.test", "a.b.wild.test", "mail.test..", "192.0.2.2", "mail.test.example"])
def test_and_by_no_other(tmp_path, authority, host):
    many = authority.issue("mail.test", "*.wild.test", "192.0.2.1", "2001:db8::1", file="many")
    with dialling(tmp_path, authority) as relay:
        assert refusal(relay, host, many) == (
            f"{host}: its certificate is for other names (tls_verify_server): mail.test, *.wild.test, 192.0.2.1, 2001:db8::1")


def issue_by_hand(authority, file, common, *extensions, subject=None):
    """A certificate with a subject and extensions of the test's own."""
    secret = certs.new_key("ec")
    builder = certs.Authority.builder(common, secret.public_key(), -certs.DAY, certs.DAY).issuer_name(authority.cert.subject)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    if subject is not None:
        builder._subject_name = x509.Name(subject)  # pylint: disable=protected-access
    return certs.Certificate(authority.directory, file, builder.sign(authority.key, hashes.SHA256()), secret)


def test_the_names_that_are_told_are_those_that_count(tmp_path, authority):
    """The common name counts where subjectAltName has none of hosts."""
    san = x509.SubjectAlternativeName
    old = issue_by_hand(authority, "old", "old.test")
    mail = issue_by_hand(authority, "mail", "old.test", san([x509.RFC822Name("anna@example.org")]))
    address = issue_by_hand(authority, "address", "old.test", san([x509.IPAddress(ipaddress.ip_address("192.0.2.7"))]))
    nobody = issue_by_hand(authority, "nobody", "x", subject=[x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Mail")])
    with dialling(tmp_path, authority) as relay:
        assert relay.dial("old.test", Host(server_context(old))).name == "TLS_READY"
        for certificate, names in ((old, "old.test"), (mail, "old.test"), (address, "192.0.2.7"), (nobody, "no host name at all")):
            assert refusal(relay, "mail.test", certificate).endswith(f"for other names (tls_verify_server): {names}")


def test_a_refusal_of_any_other_kind_names_a_setting_too(tmp_path, authority):
    """Somebody with a certificate of his own has signed another with it."""
    own = authority.issue("own.test")
    own.directory = tmp_path
    forged = issue_by_hand(own, "forged", "mail.test", x509.SubjectAlternativeName([x509.DNSName("mail.test")]))
    forged = certs.Certificate(tmp_path, "forged", forged.cert, forged.key, [own.cert])
    with dialling(tmp_path, authority) as relay:
        assert refusal(relay, "mail.test", forged) == (
            "mail.test: its certificate is not good (tls_verify_server): invalid CA certificate")


def test_ten_authorities_in_between_in_any_order_will_do(tmp_path, authority):
    above, chain = authority, []
    for number in range(10):
        above = certs.Authority(tmp_path, f"middle{number}", above=above)
        chain.insert(0, above.cert)
    leaf = above.issue("mail.test")
    with dialling(tmp_path, authority) as relay:
        for order in chain, chain[::-1]:
            open_to(relay, certs.Certificate(tmp_path, "deep", leaf.cert, leaf.key, order))
        assert "leads to no known authority" in refusal(relay, "mail.test", certs.Certificate(
            tmp_path, "cut", leaf.cert, leaf.key, chain[:5]))


# --- files ----------------------------------------------------------------------------------------------------
def read(path):
    with open(path, "rb") as file:
        return file.read()


def damaged(pem):
    return {"garbage": HEAD + b"MIIBAAAA\n" + END, "cut off": pem[:200] + b"\n", "a letter wrong": pem[:100] + b"!" + pem[101:]}


@pytest.mark.parametrize("how", damaged(b""))
@pytest.mark.parametrize("key", ["tls_ca_file", "tls_client_ca_file"])
def test_a_damaged_authority_is_not_the_silent_end_of_its_file(tmp_path, authority, mail, how, key):
    """What stands behind it would be missing, and a mail host refused that was good yesterday."""
    other = certs.Authority(tmp_path, "other")
    file = tmp_path / "authorities"
    file.write_bytes(read(other.path) + damaged(read(other.path))[how] + read(authority.path))
    sides = {"tls_ca_file": {"server_tls": "implicit"},
             "tls_client_ca_file": {"tls_server_cert_file": mail.both_path, "auth_mechanisms": "PLAIN EXTERNAL",
                                    "auth_sasl_plain_username": "m", "auth_sasl_plain_password": "p"}}
    log = start_fails(tmp_path, **sides[key], **{key: file})
    assert f"{key}: {file}: certificate 2 in it is damaged" in log, log


@pytest.mark.parametrize("how", damaged(b""))
@pytest.mark.parametrize("place", [1, 2])
def test_nor_of_our_own_chain(tmp_path, authority, how, place):
    middle = certs.Authority(tmp_path, "middle", above=authority)
    leaf = middle.issue("mail.test")
    chain = [read(leaf.path).replace(read(middle.path), b""), read(middle.path)]
    chain[place - 1] = damaged(chain[place - 1])[how]
    file = tmp_path / "chain"
    file.write_bytes(b"".join(chain))
    log = start_fails(tmp_path, tls_server_cert_file=file, tls_server_key_file=leaf.key_path)
    assert f"tls_server_cert_file: {file}: certificate {place} in it is damaged" in log, log


def test_in_a_directory_it_is_a_warning(tmp_path, authority, mail):
    """Others put files there, too."""
    folder = tmp_path / "authorities"
    folder.mkdir()
    (folder / "a.pem").write_bytes(damaged(b"")["garbage"])
    (folder / "b.pem").write_bytes(read(authority.path))
    with dialling(tmp_path, authority, tls_ca_file=None, tls_ca_path=folder) as relay:
        assert f"tls_ca_path: {folder}/a.pem: certificate 1 in it is damaged" in relay.log()
        open_to(relay, mail)


def test_files_from_other_systems_and_with_words_in_them_are_read(tmp_path, authority):
    middle = certs.Authority(tmp_path, "middle", above=authority)
    leaf = middle.issue("mail.test")
    chain, secret = read(leaf.path), read(leaf.key_path)

    def old(data):
        return b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")
    with open(leaf.path, "wb") as file:
        file.write(old(b"Subject: CN=mail.test\n" + chain.replace(END, END + b"\n# and above it\n")))
    with open(leaf.key_path, "wb") as file:
        file.write(old(secret))
    with open(authority.path, "rb") as file:
        both = old(secret + b"some words\n" + file.read())  # a key in it is nothing to it
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "ca").write_bytes(both)
    with serving(tmp_path, leaf) as relay:
        relay.accept(client_context(authority))
    with dialling(tmp_path / "client", authority, tls_ca_file=tmp_path / "client" / "ca") as relay:
        open_to(relay, leaf)


def test_a_key_with_a_pass_phrase_is_refused_in_these_words(tmp_path, mail):
    from cryptography.hazmat.primitives import serialization as form
    file = tmp_path / "key"
    file.write_bytes(mail.key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"x")))
    file.chmod(0o600)
    log = start_fails(tmp_path, tls_server_cert_file=mail.path, tls_server_key_file=file)
    assert f"tls_server_key_file: {file}: the key has a pass phrase; it must have none" in log, log


def test_a_relay_starts_again_with_the_file_mended(tmp_path, authority, mail):
    """A reload with a damaged file changes nothing."""
    file = tmp_path / "authorities"
    file.write_bytes(read(authority.path))
    with Relay(tmp_path, server_tls="implicit", tls_ca_file=file) as relay:
        file.write_bytes(damaged(b"")["garbage"] + read(authority.path))
        relay.reload_refused("certificate 1 in it is damaged")
        open_to(relay, mail)


# --- the system's authorities ---------------------------------------------------------------------------------
def system_has(tmp_path, **files):
    """A tlsrelayd that finds these files where the system has its authorities."""
    certs_of_system, program = tmp_path / "system", tmp_path / "tlsrelayd"
    certs_of_system.mkdir()
    for name, data in files.items():
        (certs_of_system / name).write_bytes(data)
    program.write_text(f"#!/bin/sh -e\nexec unshare -m sh -e -c 'mount --bind {certs_of_system} /etc/ssl/certs; "
                       f"exec {BUILD}/tlsrelayd \"$@\"' sh \"$@\"\n")
    program.chmod(0o755)
    return Relay(tmp_path, program=program, server_tls="implicit")


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/usr/lib/ssl/certs").samefile("/etc/ssl/certs"),
                    reason="needs root, and Debian's place for authorities")
@pytest.mark.parametrize("files, good", [
    ({"ca-certificates.crt": "ours"}, True), ({"one.pem": "other", "two.pem": "ours"}, True),
    ({"ca-certificates.crt": "other", "one.pem": "ours"}, False), ({}, False),
], ids=["one file", "a directory", "the file before the rest", "none"])
def test_without_a_setting_those_of_the_system_are_known(tmp_path, authority, mail, files, good):
    authorities = {"ours": authority, "other": certs.Authority(tmp_path, "other")}
    with system_has(tmp_path, **{name: read(authorities[whose].path) for name, whose in files.items()}) as relay:
        assert ("tls_ca_file: the system has no authorities in /usr/lib/ssl/certs" in relay.log()) == (not files)
        if good:
            open_to(relay, mail)
        else:
            assert "it was signed by authority" in refusal(relay, "mail.test", mail)
