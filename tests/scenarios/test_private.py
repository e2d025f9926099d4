"""disableinsecureimap and disableinsecurepop3: an account that may log in only where nobody can listen."""
import shutil

import pytest

from keepwarm import certs, tls
from keepwarm.directory import Userdb, at, tell
from keepwarm.pop3 import Client as Pop
from keepwarm.pop3 import Host
from keepwarm.process import free_port
from keepwarm.restart import restart
from keepwarm.system import temp_folder

WRONG = b"NO [AUTHENTICATIONFAILED] LOGIN failed"
WHY = "the account may not log in without TLS"


class Pki:
    def __init__(self):
        self.folder = temp_folder()
        self.authority = certs.Authority(self.folder)
        self.ours = self.authority.issue("127.0.0.1", file="ours")


@pytest.fixture(scope="module")
def pki():
    made = Pki()
    yield made
    shutil.rmtree(made.folder, ignore_errors=True)


@pytest.fixture
def start(make, pki):
    def started(backend, pop3=None, plaintext_addresses="none", **config):
        host = f"mailhost=imap://{at(backend)}" + (f" pop3://127.0.0.1:{pop3.port}" if pop3 else "")
        userdb = Userdb(anna=f"{host},disableinsecureimap=1,disableinsecurepop3=0", bert=host,
                        carl=f"{host},disableinsecurepop3=t")
        make.started.append(userdb)
        system = make.system(backend, directory=[userdb], server_port=free_port(), plaintext_addresses=plaintext_addresses,
                             tls_server_cert_file=pki.ours.path, tls_server_key_file=pki.ours.key_path, **config)
        system.userdb, system.secure = userdb, lambda: tls.starttls(system.port, pki.authority)
        return system
    return started


def log_in(start_client, user):
    with start_client() as client:
        reply = client.login(user, f"pw-{user}")
        if reply.ok:
            client.logout()
        return reply


def test_only_within_tls(start, backend):
    """Also when the account is known by then, and a connection of its lies ready."""
    system = start(backend)
    for _ in range(2):
        assert log_in(system.client, "anna").tagged == WRONG
        assert log_in(system.secure, "anna").ok
        system.wait_cached(1)
    assert [login.user for login in backend.logins] == ["anna"]
    assert WHY in system.log_text()
    assert log_in(system.client, "bert").ok and log_in(system.client, "carl").ok  # it says nothing of IMAP


def test_where_clear_text_is_fine_it_is_for_these_too(start, backend):
    system = start(backend, plaintext_addresses="127.0.0.0/8")
    assert log_in(system.client, "anna").ok


def test_default_options_may_say_it_for_all(start, backend):
    system = start(backend, default_options="disableinsecureimap=1")
    assert log_in(system.client, "bert").tagged == WRONG
    assert log_in(system.secure, "bert").ok


def test_a_planned_restart_forgets_nothing_of_it(start, backend):
    system = start(backend)
    assert log_in(system.secure, "anna").ok
    restart(system)
    assert log_in(system.client, "anna").tagged == WRONG
    assert log_in(system.secure, "anna").ok


def test_pop3(make, start, backend, pki):
    host, port = Host(), free_port()
    make.started.append(host)
    system = start(backend, host, pop3_listen_port=port)
    with Pop(port) as client:
        assert client.login("carl", "pw-carl").startswith(b"-ERR [AUTH]")
        assert client.login("anna", "pw-anna").startswith(b"+OK")
    with Pop(port) as outer:
        outer.ok("STLS")
        with Pop(None, sock=tls.wrap(outer.sock, pki.authority), greet=False) as client:
            assert client.login("carl", "pw-carl").startswith(b"+OK")
    assert WHY in system.log_text()


def test_it_is_told(start, backend):
    system = start(backend)
    assert "only with TLS" in tell(system.conf, "anna") and "only with TLS" not in tell(system.conf, "carl")
