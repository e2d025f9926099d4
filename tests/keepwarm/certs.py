"""Certificates for tests: authorities, and what they or nobody have signed."""
import datetime
import ipaddress
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


class Certificate:
    """A certificate with its key. Its files: `path` (it and what is above it up to the authority, which is left out),
    `key_path`, `both_path` (key and chain in one)."""

    def __init__(self, directory, name, cert, key, chain=()):
        self.cert, self.key, self.chain = cert, key, tuple(chain)
        self.path, self.key_path, self.both_path = (str(directory / f"{name}.{end}") for end in ("pem", "key", "both"))
        pem = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (cert, *chain))
        secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                   serialization.NoEncryption())
        for path, data, mode in ((self.path, pem, 0o644), (self.key_path, secret, 0o600),
                                 (self.both_path, secret + pem, 0o600)):
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
                file.write(data)


def new_key(kind):
    return rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())


def san_of(name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Authority(Certificate):
    """Signs certificates. `above`: the authority that signed this one (an intermediate one then)."""

    def __init__(self, directory, name="authority", above=None, key="ec"):
        self.directory = directory
        secret = new_key(key)
        builder = self.builder(name, secret.public_key(), -DAY, 3650 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = builder.issuer_name(above.cert.subject if above else subject)
        cert = builder.sign(above.key if above else secret, hashes.SHA256())
        super().__init__(directory, name, cert, secret)
        self.is_intermediate = above is not None

    @staticmethod
    def builder(name, public_key, begins, ends):
        now = datetime.datetime.utcnow()
        return (x509.CertificateBuilder()
                .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
                .public_key(public_key).serial_number(x509.random_serial_number())
                .not_valid_before(now + begins).not_valid_after(now + ends))

    def issue(self, *names, file=None, key="ec", begins=-DAY, ends=365 * DAY, chain=True, client=False):
        """A certificate for these names and addresses. `chain` False: its file lacks the intermediate authority."""
        secret = new_key(key)
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        cert = (self.builder(names[0], secret.public_key(), begins, ends).issuer_name(self.cert.subject)
                .add_extension(x509.SubjectAlternativeName([san_of(name) for name in names]), critical=False)
                .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
                .sign(self.key, hashes.SHA256()))
        above = (self.cert,) if self.is_intermediate and chain else ()
        return Certificate(self.directory, file or names[0], cert, secret, above)

    def issue_to(self, file, emails=(), subject=(), begins=-DAY, ends=365 * DAY, usage=ExtendedKeyUsageOID.CLIENT_AUTH):
        """A certificate for a user: addresses of subjectAltName, and [(oid, text)] of the subject."""
        secret = new_key("ec")
        attributes = [x509.NameAttribute(oid, text) for oid, text in subject or [(NameOID.ORGANIZATION_NAME, "Users")]]
        builder = (self.builder(file, secret.public_key(), begins, ends).issuer_name(self.cert.subject)
                   .add_extension(x509.ExtendedKeyUsage([usage]), critical=False))
        builder._subject_name = x509.Name(attributes)  # pylint: disable=protected-access
        if emails:
            names = [x509.RFC822Name(email) for email in emails]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        above = (self.cert,) if self.is_intermediate else ()
        return Certificate(self.directory, file, builder.sign(self.key, hashes.SHA256()), secret, above)

    def expired(self, *names, **more):
        return self.issue(*names, begins=-30 * DAY, ends=-DAY, **more)


def self_signed(directory, *names, file="self-signed", key="ec"):
    """A certificate that vouches for itself and is no authority."""
    secret = new_key(key)
    cert = (Authority.builder(names[0], secret.public_key(), -DAY, 365 * DAY)
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
            .add_extension(x509.SubjectAlternativeName([san_of(name) for name in names]), critical=False)
            .sign(secret, hashes.SHA256()))
    return Certificate(directory, file, cert, secret)
