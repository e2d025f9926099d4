"""Sites with TLS on one side or both, around a real Dovecot: fixtures and what they are made of. Files of tests import
the fixtures that they use."""
import shutil
import subprocess

import pytest

from keepwarm import certs, dovecot, process
from keepwarm.process import wait_until
from keepwarm.system import temp_folder


class Pki:
    """What the mail hosts show, by the address where they show it, and what we show."""

    def __init__(self):
        self.folder = temp_folder()
        self.authority = certs.Authority(self.folder)
        self.stranger = certs.Authority(self.folder, "stranger")
        self.between = certs.Authority(self.folder, "between", above=self.authority)
        issue = self.authority.issue
        self.good = issue("localhost", "127.0.0.1", file="good")
        self.ours = issue("imap.example.test", "localhost", "127.0.0.1", file="ours")
        self.ours_rsa = issue("mail.example.test", "127.0.0.1", file="ours-rsa", key="rsa")
        self.next = issue("imap.example.test", "127.0.0.1", file="next")
        self.client = issue("keepwarm", file="client", client=True)
        self.others = {
            "127.0.0.2": self.authority.expired("127.0.0.2"),
            "127.0.0.3": certs.self_signed(self.folder, "127.0.0.3"),
            "127.0.0.4": issue("other.example.test", "127.0.0.9", file="other"),
            "127.0.0.5": certs.Authority(self.folder, "strange", above=self.stranger).issue("127.0.0.5"),
            "127.0.0.6": self.between.issue("127.0.0.6", chain=False),
            "127.0.0.7": self.between.issue("127.0.0.7"),
        }


@pytest.fixture(scope="module")
def pki():
    made = Pki()
    yield made
    shutil.rmtree(made.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def server(pki):
    server = dovecot.Dovecot(12, cert=pki.good, others=pki.others).start()
    yield server
    server.stop()


@pytest.fixture
def toward(make, pki):
    """A system that speaks TLS in this way to the server. `verify` brings the authority that is needed."""
    def start(server, how, verify=True, **config):
        settings = {"server_tls": how, "server_port": server.tls_port if how == "implicit" else server.port,
                    "tls_ca_file": pki.authority.path if verify else None, "backend_timeout": 10}
        return make.system(server, **{**settings, **config})
    return start


@pytest.fixture
def facing(make, pki):
    """A system that has TLS with clients; system.imaps is its second port."""
    def start(server, *shown, **config):
        shown, port = shown or (pki.ours,), process.free_port()
        settings = {"imaps_listen_port": port, "tls_server_cert_file": " ".join(cert.path for cert in shown),
                    "tls_server_key_file": " ".join(cert.key_path for cert in shown)}
        system = make.system(server, **{**settings, **config})
        system.imaps = port
        return system
    return start


def visit(system, user="user1", reused=None):
    """One session; returns when its connection is given back."""
    given = system.counter("given")
    with system.client() as client:
        reply = client.login(user, dovecot.Dovecot.password(user))
        assert reply.ok, (reply, system.log_text())
        assert reused is None or reply.reused == reused, reply
        assert client.ok("SELECT INBOX").ok
        text = b"".join(client.ok("FETCH 1 BODY.PEEK[TEXT]").untagged)
        client.logout()
    assert f"This is the mail of <{user}>.".encode() in text
    wait_until(lambda: system.counter("given") > given, "nothing was given back")


def serial(client):
    return int(client.sock.getpeercert()["serialNumber"], 16)


def workers(system):
    """The processes of tlsrelayd that carry TLS."""
    relays = system.pids("tlsrelayd")
    return [pid for pid in relays if process.parent(pid) in relays]


def masters(system):
    """The processes of tlsrelayd that are none of its workers."""
    relays = system.pids("tlsrelayd")
    return [pid for pid in relays if process.parent(pid) not in relays]


def s_client(*argv, said=b"", **kwargs):
    return subprocess.run(["openssl", "s_client", *map(str, argv)], input=said, capture_output=True, check=False,
                          timeout=process.DEADLINE, **kwargs)
