"""disableinsecureimap and disableinsecurepop3: an account that may log in only where nobody can listen. And a directory
that decides this itself, by Auth-SSL."""
import shutil

import pytest

from keepwarm import certs, tls
from keepwarm.challenge import login as challenged
from keepwarm.directory import Userdb, at, tell
from keepwarm.directory_servers import AuthHttp
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


# --- auth_http: Auth-SSL, Auth-Login-Attempt --------------------------------------------------------------
def headers(request, name):
    return [line.partition(b": ")[2] for line in request.split(b"\r\n") if line.startswith(name + b":")]


@pytest.fixture
def ask(make, backend, pki):
    """A proxy whose directory lets in who has TLS; with a `password`, that one only."""
    def asking(password=None, **config):
        def answer(request):
            if headers(request, b"Auth-SSL") != [b"on"] or (password and headers(request, b"Auth-Pass") not in ([], [password])):
                return ["Auth-Status: No"]
            return ["Auth-Status: OK", f"Auth-Server: {backend.address}", f"Auth-Port: {backend.port}", "Auth-Pass: pw-anna"]
        web = AuthHttp(answer)
        make.started.append(web)
        system = make.system(backend, directory=[web], server_port=free_port(), tls_server_cert_file=pki.ours.path,
                             tls_server_key_file=pki.ours.key_path, **config)
        system.web, system.secure = web, lambda: tls.starttls(system.port, pki.authority)
        return system
    return asking


@pytest.mark.parametrize("auth", ["backend", "directory"])
def test_what_a_directory_says_to_tls_is_for_tls_only(ask, backend, auth):
    """Neither word is another client's, and a stranger without TLS takes no connection out of the cache."""
    system = ask(auth=auth)
    for _ in range(2):
        assert log_in(system.client, "anna").tagged == WRONG
        assert log_in(system.secure, "anna").ok
        system.wait_cached(1)
    assert len(backend.logins) == 1 and len(system.web.requests) == 2
    restart(system)
    assert log_in(system.client, "anna").tagged == WRONG
    assert log_in(system.secure, "anna").ok
    assert len(backend.logins) == 1 and len(system.web.requests) == 2


@pytest.mark.parametrize("mechanism", ["CRAM-MD5", "SCRAM-SHA-256"])
def test_a_challenge_needs_the_directorys_word_too(ask, mechanism):
    system = ask(auth_mechanisms=mechanism)
    for start_client, good in ((system.client, False), (system.secure, True)):
        with start_client() as client:
            assert challenged(client, mechanism, "anna", "pw-anna").ok == good
    assert [headers(request, b"Auth-Login-Attempt") for request in system.web.requests] == [[b"1"]] * 3


def test_a_directory_is_told_which_attempt_it_is(ask):
    system = ask(b"pw-anna", auth="directory")
    for session in range(2):  # each begins at 1
        with system.secure() as client:
            for n in range(2):
                assert not client.login("anna", f"no-{session}-{n}").ok
            assert client.login("anna", "pw-anna").ok
    told = [headers(request, b"Auth-Login-Attempt") for request in system.web.requests]
    assert told == [[b"1"], [b"2"], [b"3"], [b"1"], [b"2"]]  # the right password is known by then
    assert all(headers(request, b"Auth-SSL") == [b"on"] for request in system.web.requests)
