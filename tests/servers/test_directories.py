"""Real directories: slapd, PostgreSQL, MariaDB, courier-authlib. What is found, what is no account, injection, and what a
directory that is down, restarted or frozen means to logins."""
import time

import pytest

from keepwarm.certs import Authority
from keepwarm.challenge import MECHANISMS, OFFERED, login as challenge_login
from keepwarm.directory import at, tell
from keepwarm.directory_real import Authlib, Mariadb, Postgres, Slapd
from keepwarm.process import free_port, wait_until
from keepwarm.backend import Backend

KINDS = [Slapd, Postgres, Mariadb, Authlib]
INJECTIONS = ["' OR '1'='1", "anna' -- ", "anna'/*", "x' UNION SELECT * FROM accounts -- ", "anna\\", "\\' OR 1=1 -- ", "*", "a*",
              "anna)(uid=*", "*)(|(uid=*", "anna\\2a", "ann\u00e0", "%", "_nna", "anna ", "anna\u0000", "${anna}", "$(anna)",
              "ann\ud800", "anna;", "\"anna\"", "anna=1"]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.kind)
def real(request):
    if request.param.missing():
        pytest.skip(request.param.missing())
    hosts = [Backend(), Backend()]
    server = request.param([at(host) for host in hosts])
    server.hosts = hosts
    yield server
    server.stop()
    for host in hosts:
        host.stop()


@pytest.fixture
def conf(real, tmp_path):
    path = tmp_path / "conf"
    path.write_text(f"directory {real.place}\nserver_hostname home\n")
    return path


def test_accounts_are_found_with_their_hosts(real, conf):
    told = tell(conf, "anna")
    assert f"mail host: 127.0.0.1 port {real.hosts[0].port}, no TLS\nlogs in as: anna\n" in told
    for name in ("o'brien", "back\\slash", "st*r", "(par)", "m\u00fcller"):
        assert f"port {real.hosts[1].port}, no TLS\nlogs in as: {name}\n" in tell(conf, name)
    assert "mail host: home port 143" in tell(conf, "carl")


def test_what_is_no_account_and_what_is_wrong(real, conf):
    for name in ("nobody-knows", "twice", "root", "ANNA" if real.kind not in ("mysql", "ldap") else "twice"):
        tell(conf, name, "imap", 1)
    assert "the account has disableimap" in tell(conf, "off", "imap", 1)
    for name in ("odd", "long"):
        assert "record is wrong" in tell(conf, name, "imap", 75) or real.kind == "authdaemon"


@pytest.mark.parametrize("name", INJECTIONS)
def test_a_name_is_nothing_but_a_name(real, conf, name):
    raw = name.encode("utf-8", "surrogatepass").split(b"\0")[0] if "\0" not in name else b"anna\x01"
    if raw == b"anna " and real.kind in ("mysql", "ldap"):
        pytest.skip("this directory does not tell blanks at the end: it is the same account")
    if name == "ann\u00e0" and real.kind == "mysql":
        pytest.skip("this directory takes the letters for the same")
    told = tell(conf, raw, "imap", 1)
    assert "mail host" not in told


def login(system, user="anna"):
    with system.client() as client:
        return client.login(user, f"pw-{user}").tagged


def start(make, real, **config):
    return make.system(real.hosts[0], directory=[real.place], server_port=free_port(), **config)


def test_logins_arrive_at_their_hosts(make, real):
    system = start(make, real)
    for user, host in (("anna", real.hosts[0]), ("bo", real.hosts[1]), ("anna", real.hosts[0])):
        assert login(system, user).startswith(b"OK")
        assert user in [one.user for one in host.logins]
    for user in ("nobody-knows", "off"):
        assert login(system, user).startswith(b"NO [AUTHENTICATIONFAILED]")


def test_a_directory_that_is_down_is_unavailable_and_used_again_when_it_is_back(make, real):
    system = start(make, real)
    assert login(system).startswith(b"OK")
    real.halt()
    try:
        began = time.monotonic()
        assert login(system, "bo").startswith(b"NO [UNAVAILABLE]")
        assert time.monotonic() - began < 5
        assert login(system).startswith(b"OK")  # known already
    finally:
        real.go()
    wait_until(lambda: login(system, "bo").startswith(b"OK"), system.log_text, 25)


def test_a_restart_between_two_logins_is_not_noticed(make, real):
    system = start(make, real, lookup_processes=1)
    assert login(system).startswith(b"OK")
    real.halt()
    real.go()
    assert login(system, "bo").startswith(b"OK")


def test_a_frozen_directory_is_given_up_in_time(make, real):
    if real.kind == "authdaemon":
        pytest.skip("test_directory_servers.py has it")
    system = start(make, real, lookup_processes=1)
    assert login(system).startswith(b"OK")
    thaw = real.freeze()
    try:
        began = time.monotonic()
        assert login(system, "bo").startswith(b"NO [UNAVAILABLE]")
        assert time.monotonic() - began < 9
    finally:
        thaw()
    wait_until(lambda: login(system, "bo").startswith(b"OK"), system.log_text, 25)


def test_an_own_query_and_both_spellings(real, conf):
    if real.kind not in ("mysql", "pgsql"):
        pytest.skip("only SQL has queries")
    prefix = real.kind.upper() + "_"
    columns = "id, crypt, clear, uid, gid, home, '', '', '', options"
    try:
        real.write_rc(**{f"{prefix}SELECT_CLAUSE": f"SELECT {columns} FROM accounts WHERE \\\n id = '$(local_part)' AND "
                                                   "'$(domain)' = 'here' AND '$(service)' = 'imap'",
                         "DEFAULT_DOMAIN": "here"})
        assert f"port {real.hosts[0].port}," in tell(conf, "anna@here") and "port" in tell(conf, "o'brien")
        tell(conf, "anna@there", "imap", 1)
        tell(conf, "anna", "pop3", 1)
        tell(conf, "anna' OR '1'='1@here", "imap", 1)
        real.write_rc(**{f"{prefix}AUXOPTIONS_FIELD": None, f"{prefix}AUXOPTIONS": "options"})
        assert f"port {real.hosts[0].port}," in tell(conf, "anna")
        real.write_rc(**{f"{prefix}USER_TABLE": "nowhere"})
        assert "not known now" in tell(conf, "anna", "imap", 75)
        real.write_rc(**{f"{prefix}SELECT_CLAUSE": f"SELECT {columns} FROM accounts a1 CROSS JOIN (SELECT 1 FROM accounts "
                                                   "x, accounts y, accounts z, accounts u) AS many"})
        assert "too many rows" in tell(conf, "anna", "imap", 75)
        real.write_rc(**{f"{prefix}SELECT_CLAUSE": "SELECT 1, 2, 3"})
        assert "columns" in tell(conf, "anna", "imap", 75)
        real.write_rc(**{f"{prefix}SELECT_CLAUSE": "SET @x = 1" if real.kind == "mysql" else "SET application_name = 'x'"})
        assert "the query gives no rows" in tell(conf, "anna", "imap", 75)
    finally:
        real.write_rc()


def test_an_email_map_leads_to_the_account(real, conf):
    """The entries' own names stand for the map: a0 of x is anna's, whose mail host is found by her uid."""
    if real.kind != "ldap":
        pytest.skip("only LDAP has one")
    try:
        real.write_rc(LDAP_EMAILMAP="(&(cn=@user@)(sn=@realm@))", LDAP_EMAILMAP_ATTRIBUTE="uid")
        told = tell(conf, "a0@x")
        assert f"mail host: 127.0.0.1 port {real.hosts[0].port}, no TLS\nlogs in as: a0@x\n" in told
        for name in ("a0@y", "a0", "anna", "*@x", "a*@x", "a0@*", "a0)(cn=*@x", "nobody@x", "@", "a0@"):
            tell(conf, name, "imap", 1)
        real.write_rc(LDAP_EMAILMAP="(&(cn=@user@)(sn=@realm@))", LDAP_EMAILMAP_ATTRIBUTE="sn", LDAP_EMAILMAP_MAIL="cn",
                      LDAP_DOMAIN="x")
        tell(conf, "a0", "imap", 1)  # the handle is "x", which is nobody's cn
        real.write_rc(LDAP_EMAILMAP="(&(uid=@user@)(sn=@realm@))", LDAP_EMAILMAP_ATTRIBUTE="cn", LDAP_EMAILMAP_MAIL="cn",
                      LDAP_DOMAIN="x")
        assert f"port {real.hosts[1].port}," in tell(conf, "bo") and f"port {real.hosts[1].port}," in tell(conf, "o'brien@x")
        real.write_rc(LDAP_EMAILMAP="(cn=@user@)", LDAP_EMAILMAP_BASEDN="dc=elsewhere")
        assert "not known now" in tell(conf, "a0@x", "imap", 75)
        real.write_rc(LDAP_EMAILMAP="(cn=@user@)")  # no entry has a handle
        tell(conf, "a0@x", "imap", 1)
    finally:
        real.write_rc()


def test_a_server_without_tls_is_not_asked_in_the_clear(real, conf, tmp_path):
    """libmariadb alone would: what it is given for TLS only means that TLS would be welcome."""
    if real.kind != "mysql":
        pytest.skip("of the others each setting says itself what is to happen")
    try:
        real.write_rc(MYSQL_SSL_CACERT=Authority(tmp_path).path)
        assert "the server has no TLS" in tell(conf, "anna", "imap", 75)
    finally:
        real.write_rc()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_an_empty_clear_password_answers_no_challenge(make, real, mechanism):
    """The SQL tables have '' in that column, the others nothing."""
    system = start(make, real, auth_mechanisms=OFFERED)
    before = [len(host.logins) for host in real.hosts]
    with system.client() as client:
        assert challenge_login(client, mechanism, "anna", "").tagged.startswith(b"NO [AUTHENTICATIONFAILED]")
        assert challenge_login(client, mechanism, "nobody-knows", "").tagged.startswith(b"NO [AUTHENTICATIONFAILED]")
    assert [len(host.logins) for host in real.hosts] == before
