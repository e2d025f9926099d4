"""Real directories check passwords: slapd (hash, clear, bind), PostgreSQL, MariaDB, courier-authlib."""
import pytest

from keepwarm.backend import Backend
from keepwarm.directory import at, tell
from keepwarm.directory_real import CLEAR, PASSWORD, Authlib, Mariadb, Postgres, Slapd
from keepwarm import process
from keepwarm.process import free_port

KINDS = [Slapd, Postgres, Mariadb, Authlib]
KEEPS = {"ldap": 0, "pgsql": 1, "mysql": 1}  # copies, in buffers of the libraries that no function reaches
WRONG = ["Geh heim", "Geh heim-77", "geh heim-7", " Geh heim-7", "", "x", "' OR '1'='1", "*"]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.kind)
def real(request):
    if request.param.missing():
        pytest.skip(request.param.missing())
    hosts = [Backend() for _ in range(2)]
    server = request.param([at(host) for host in hosts])
    server.hosts = hosts
    for host in hosts:
        host.passwords = {name: PASSWORD.encode() for name in server.accounts}
    yield server
    server.stop()
    for host in hosts:
        host.stop()


@pytest.fixture
def conf(real, tmp_path):
    path = tmp_path / "conf"
    path.write_text(f"directory {real.place}\nserver_hostname home\n")
    return path


@pytest.mark.parametrize("name", ["anna", "carl", "o'brien", "back\\slash", "st*r", "(par)", "m\u00fcller"])
def test_the_right_password_and_no_other(real, conf, name):
    told = tell(conf, name, password=PASSWORD + "\n")
    assert "the password is right" in told and PASSWORD not in told
    for typed in WRONG:
        assert "right" not in tell(conf, name, status=3, password=typed)


def test_who_has_two_passwords(real, conf):
    """SQL: the hash counts, LDAP: the clear one."""
    right, other = (CLEAR["bo"], PASSWORD) if real.kind == "ldap" else (PASSWORD, CLEAR["bo"])
    assert "is right" in tell(conf, "bo", password=right)
    tell(conf, "bo", status=3, password=other)


def test_who_is_no_account_has_no_password(real, conf):
    for name in ("nobody-knows", "root", "off"):
        told = tell(conf, name, "imap", 3 if real.kind == "authdaemon" and name != "off" else 1, password=PASSWORD)
        assert "is right" not in told


def test_a_bind_as_the_entry_checks_it(real, conf):
    if real.kind != "ldap":
        pytest.skip("only LDAP binds")
    try:
        real.write_rc(LDAP_AUTHBIND=1, LDAP_CRYPTPW=None, LDAP_CLEARPW=None)
        assert "is right" in tell(conf, "anna", password=PASSWORD)
        assert "password hash" not in tell(conf, "anna")
        for typed in WRONG:
            assert "is right" not in tell(conf, "anna", status=3, password=typed)
        tell(conf, "twice", status=1, password=PASSWORD)
        # what else is stored does not count, and is for the mail host
        real.write_rc(LDAP_AUTHBIND=1)
        assert "is right" in tell(conf, "bo", password=PASSWORD)
        tell(conf, "bo", status=3, password=CLEAR["bo"])
    finally:
        real.write_rc()


def test_one_attribute_may_be_both_settings(real, conf):
    """Some entries have a clear one there, others a hash."""
    if real.kind != "ldap":
        pytest.skip("of LDAP's attributes")
    try:
        real.write_rc(LDAP_CLEARPW="carLicense", LDAP_CRYPTPW="carLicense")
        assert "is right" in tell(conf, "bo", password=CLEAR["bo"])
        tell(conf, "bo", status=3, password=PASSWORD)
    finally:
        real.write_rc()


@pytest.mark.parametrize("auth", ["directory", "both"])
def test_logins_are_judged(make, real, auth):
    system = make.system(real.hosts[0], directory=[real.place], server_port=free_port(), auth=auth, login_attempts=9)
    before = sum(len(host.logins) for host in real.hosts)
    with system.client() as client:
        for user, password in (("anna", "x"), ("nobody-knows", PASSWORD), ("off", PASSWORD), ("o'brien", "x")):
            assert client.login(user, password).tagged.startswith(b"NO [AUTHENTICATIONFAILED]")
    assert sum(len(host.logins) for host in real.hosts) == before
    for user in ("anna", "o'brien"):
        system.session(user, PASSWORD, how="literals").close()


def test_a_clear_password_that_nobody_asked_for_is_not_kept(make, real):
    """But for what the library keeps of it where it reads from the server, until that is read over."""
    if real.kind not in KEEPS:
        pytest.skip("authdaemond hands out no clear password beside a hash")
    system = make.system(real.hosts[0], directory=[real.place], server_port=free_port(), lookup_processes=1)
    system.session("bo", PASSWORD).close()
    counts = [process.memory(pid).count(CLEAR["bo"].encode()) for pid in system.pids("lookupd")]
    assert sum(counts) <= KEEPS[real.kind], counts


def test_a_directory_that_is_down_refuses_no_password(make, real):
    system = make.system(real.hosts[0], directory=[real.place], server_port=free_port(), auth="both")
    system.session("anna", PASSWORD).close()
    real.halt()
    try:
        for password, answer in ((PASSWORD, b"OK"), ("x", b"NO [UNAVAILABLE]")):
            with system.client() as client:
                assert client.login("anna", password).tagged.startswith(answer)
    finally:
        real.go()
