"""Accounts on several mail hosts: which host a login reaches, what is cached of it, what is said when nobody knows."""
import os
import signal
import subprocess
import time

import pytest

from keepwarm import relay as relays
from keepwarm.directory import Passwords, Userdb, at, has_driver, tell
from keepwarm.process import DEADLINE, free_port, wait_until
from keepwarm.system import BUILD, stage


@pytest.fixture
def hosts(make):
    return [make.backend() for _ in range(2)]


@pytest.fixture
def start(make, hosts):
    """A system with a userdb; server_hostname is nowhere."""
    def started(options, **config):
        userdb = Userdb(**options)
        make.started.append(userdb)
        config.setdefault("directory", [userdb])
        system = make.system(hosts[0], **{"server_port": free_port(), **config})
        system.userdb = userdb
        return system
    return started


def refused(system, user, code, password=None):
    with system.client() as client:
        reply = client.login(user, password or f"pw-{user}")
    assert reply.tagged.startswith(b"NO [" + code), reply
    return reply


def reads_mail(client, user):
    client.ok("SELECT INBOX")
    assert f"<{user}>".encode() in client.ok("FETCH 1 BODY[]").text


def users(host):
    return [login.user for login in host.logins]


def test_each_account_is_at_its_mail_host(start, hosts):
    system = start({"anna": f"mailhost={at(hosts[0])}", "bo": f"disableimap=0,mailhost={at(hosts[1])}"})
    for user, host in (("anna", hosts[0]), ("bo", hosts[1]), ("anna", hosts[0])):
        with system.session(user) as client:
            reads_mail(client, user)
            assert user in users(host)
    assert users(hosts[0]).count("bo") == users(hosts[1]).count("anna") == 0


def test_routed_accounts_are_cached_each_for_itself(start, hosts):
    system = start({user: f"mailhost={at(hosts[n])}" for n, user in enumerate(("anna", "bo"))})
    for user in ("anna", "bo"):
        system.session(user).logout()
        system.wait_given()
    for user in ("bo", "anna"):
        system.session(user, reused=True).close()
    refused(system, "anna", b"AUTHENTICATIONFAILED", "pw-bo")
    assert [len(host.logins) for host in hosts] == [2, 1]


def test_who_is_in_no_directory_is_told_what_a_wrong_password_is_told(start):
    system = start({"anna": "mailhost=127.0.0.1:1", "off": "mailhost=127.0.0.1:1,disableimap=1"})
    unknown = refused(system, "nobody-knows", b"AUTHENTICATIONFAILED")
    disabled = refused(system, "off", b"AUTHENTICATIONFAILED")
    assert unknown.tagged == disabled.tagged
    assert system.counter("dials_failed") <= 1, "a mail host was asked"  # the look at server_hostname


@pytest.mark.parametrize("policy, answer", [("refuse", b"AUTHENTICATIONFAILED"), ("default", None)])
@pytest.mark.parametrize("options", ["", "mailhost=", "wbnoimages=1"])
def test_an_account_without_a_mail_host(start, hosts, policy, answer, options):
    system = start({"anna": options}, no_mailhost=policy, server_port=hosts[1].port)
    if answer:
        refused(system, "anna", answer)
    else:
        system.session("anna").close()
        assert users(hosts[1]) == ["anna"]


def test_an_account_with_hosts_of_the_other_service_only_may_not_use_this_one(start, hosts):
    system = start({"anna": "mailhost=pop3s://one pop3://two"}, server_port=hosts[0].port)
    refused(system, "anna", b"AUTHENTICATIONFAILED")
    assert not hosts[0].logins and "the account has no mail host for imap" in system.log_text()
    assert "no login: the account has no mail host for imap" in tell(system.conf, "anna", "imap", 1)
    assert "mail host: one port 995, TLS" in tell(system.conf, "anna", "pop3")


def test_the_next_host_of_several_serves_while_the_first_is_down(start, hosts):
    system = start({"anna": f"mailhost={at(hosts[0])} {at(hosts[1])}"}, host_retry=60, connect_retries=0,
                   cache_expiration_time=0)
    system.session("anna").close()
    assert (len(hosts[0].logins), len(hosts[1].logins)) == (1, 0)
    hosts[0].stop()
    wait_until(lambda: not hosts[0].open_connections(), "the first host has not ended")
    for times in (1, 2):
        system.session("anna").close()
        assert len(hosts[1].logins) == times
    with system.session("anna") as client:
        reads_mail(client, "anna")
    assert system.log_text().count("does not answer") <= 3


def test_a_silent_first_host_costs_one_connect_timeout_once(start, hosts, make):
    silent = make.backend()
    silent.fill_backlog()
    system = start({user: f"mailhost={at(silent)};{at(hosts[1])}" for user in ("anna", "bo")}, connect_timeout=8,
                   host_retry=60, connect_retries=0)
    began = time.monotonic()
    system.session("anna").close()
    first = time.monotonic() - began
    assert 7.9 < first < 15.9
    began = time.monotonic()
    system.session("bo").close()
    assert time.monotonic() - began < 7.9


def test_what_is_cached_at_any_of_its_hosts_is_used_before_one_is_dialled(start, hosts):
    system = start({"anna": f"mailhost={at(hosts[0])} {at(hosts[1])}"}, host_retry=1, connect_retries=0)
    hosts[0].deaf()
    system.session("anna").logout()
    system.wait_given()
    hosts[0].listen()
    system.session("anna", reused=True).close()
    assert (users(hosts[0]), users(hosts[1])) == ([], ["anna"])


def test_all_hosts_down_is_unavailable(start):
    system = start({"anna": f"mailhost=127.0.0.1:{free_port()} 127.0.0.1:{free_port()}"})
    refused(system, "anna", b"UNAVAILABLE")


def test_a_host_that_wants_tls_never_gets_a_password_in_the_clear(start, hosts):
    system = start({"anna": f"mailhost=imaps://{at(hosts[0])}"})
    refused(system, "anna", b"UNAVAILABLE")
    assert not hosts[0].logins and b"anna" not in hosts[0].everything()
    system.wait_log("is not used, TLS failed")


def test_a_record_asks_for_tls_and_its_connections_are_reused(start, hosts):
    system = start({"anna": f"mailhost=imaps://{at(hosts[0])}", "bo": f"mailhost={at(hosts[0])}"},
                   binaries=relays.idle_binaries())
    with relays.Relay(system, serves=0) as relay:
        for reused in (False, True):
            system.session("anna", reused=reused).logout()
            system.wait_given()
        system.session("bo", reused=False).close()
        assert [(one.name, one.mode, one.port) for one in relay.requests] == \
            [("TLS_CONNECT", relays.IMPLICIT, hosts[0].port)]


def test_the_next_host_serves_when_tls_fails_with_the_first(start, hosts):
    system = start({"anna": f"mailhost=imaps://{at(hosts[0])} {at(hosts[1])}"})
    system.session("anna").close()
    assert (users(hosts[0]), users(hosts[1])) == ([], ["anna"])


def test_a_changed_file_is_read_again(start, hosts):
    system = start({"anna": f"mailhost={at(hosts[0])}"}, lookup_ttl=1, lookup_negative_ttl=0, cache_expiration_time=0)
    system.session("anna").close()
    system.userdb.write(anna=f"mailhost={at(hosts[1])}", bo=f"mailhost={at(hosts[1])}")
    wait_until(lambda: try_login(system, "bo"), lambda: system.log_text())
    wait_until(lambda: try_login(system, "anna") and "anna" in users(hosts[1]), lambda: system.log_text())


def test_a_record_may_say_for_how_long_it_is_good(start, hosts):
    """The one of the two that says so is at its new host within seconds, whatever lookup_ttl is."""
    where = f"mailhost={at(hosts[0])}"
    system = start({"anna": f"lifetime=1,{where}", "bo": where}, lookup_ttl=3600, lookup_negative_ttl=0, cache_expiration_time=0)
    for user in ("anna", "bo"):
        assert "lifetime" in tell(system.conf, user) if user == "anna" else "lifetime" not in tell(system.conf, user)
        system.session(user).close()
    where = f"mailhost={at(hosts[1])}"
    system.userdb.write(anna=where, bo=where, carl=where)
    wait_until(lambda: try_login(system, "carl"), lambda: system.log_text())
    wait_until(lambda: try_login(system, "anna") and "anna" in users(hosts[1]), lambda: system.log_text())
    assert try_login(system, "bo") and "bo" not in users(hosts[1])


def try_login(system, user):
    with system.client() as client:
        return client.login(user, f"pw-{user}").ok


@pytest.mark.parametrize("broken", ["anna\tuid=1|gid=1|home=/", "x\tuid=1\nx\tuid=1\n", None])
def test_a_file_that_is_being_written_makes_nobody_unknown(start, hosts, broken):
    """None: it is gone."""
    system = start({user: f"mailhost={at(hosts[0])}" for user in ("anna", "bo")}, lookup_ttl=1, lookup_stale_max=0)
    system.session("anna").close()
    if broken is None:
        system.userdb.path.unlink()
    else:
        system.userdb.write_text(broken)
    wait_until(lambda: try_login(system, "anna") and "accounts of before" in system.log_text(),
               lambda: system.log_text())
    assert try_login(system, "bo")


def test_directories_are_asked_in_turn_and_trouble_stops_the_search(start, hosts, make):
    first, second = Userdb(anna=f"mailhost={at(hosts[0])}", odd="mailhost=no/host"), \
        Userdb(anna="mailhost=127.0.0.1:1", bo=f"mailhost={at(hosts[1])}", odd=f"mailhost={at(hosts[1])}")
    make.started += [first, second]
    system = start({}, directory=[first, second, "static:"], server_port=hosts[1].port)
    for user, host in (("anna", hosts[0]), ("bo", hosts[1]), ("carl", hosts[1])):
        system.session(user).close()
        assert user in users(host)
    refused(system, "odd", b"UNAVAILABLE")


@pytest.mark.parametrize("line, wrong", [
    ("userdb:/nowhere/userdb", "'userdb:/nowhere/userdb' cannot be used: /nowhere/userdb: No such file"),
    ("oracle:/x", "'oracle:/x' is not allowed: give one of static:"),
])
def test_a_directory_that_cannot_be_used_is_said_with_its_line(tmp_path, line, wrong):
    conf = tmp_path / "conf"
    conf.write_text(f"\ndirectory static:\ndirectory {line}\n")
    run = subprocess.run([BUILD / "lookupd", "-f", conf, "-r", tmp_path, "-l", "stderr"], capture_output=True,
                         text=True, timeout=DEADLINE, check=False)
    assert run.returncode == 1
    assert f"{conf}:3: directory: {wrong}" in run.stderr


@pytest.mark.parametrize("connection", [
    "host=x user=y password=my SeCreT", "host=x password=a SeCreT=b", "password='SeCreT", "postgresql://u:SeCreT@[h/",
    "postgres://u:SeCreT%zz@h/", "password=x SeCreT\\",
])
def test_a_wrong_connection_string_is_not_quoted(tmp_path, connection):
    if not has_driver("pgsql"):
        pytest.skip("built without it")
    rc, conf = tmp_path / "authpgsqlrc", tmp_path / "conf"
    rc.write_text(f"PGSQL_CONNECTION\t{connection}\nPGSQL_USER_TABLE\tt\n")
    rc.chmod(0o600)
    conf.write_text(f"server_hostname h\ndirectory pgsql:{rc}\n")
    told = tell(conf, "anna", "imap", 75)
    assert "PGSQL_CONNECTION is no connection string" in told and "ecre" not in told.lower()


@pytest.mark.parametrize("connection", ["mail", "host=/nowhere password='a b'", "host=/nowhere password=a\\ b",
                                        "postgresql:///mail?host=/nowhere", ""])
def test_a_good_connection_string_is_used(tmp_path, connection):
    if not has_driver("pgsql"):
        pytest.skip("built without it")
    rc, conf = tmp_path / "authpgsqlrc", tmp_path / "conf"
    rc.write_text(f"PGSQL_CONNECTION\t{connection}\nPGSQL_USER_TABLE\tt\n")
    rc.chmod(0o600)
    conf.write_text(f"server_hostname h\ndirectory pgsql:{rc}\n")
    assert "cannot be used" not in tell(conf, "anna", "imap", 75)


def test_what_a_login_would_find_is_told_without_secrets(start, hosts):
    system = start({"anna": f"mailhost={at(hosts[0])};imaps://h.example,disablepop3=1"})
    text = tell(system.conf, "anna")
    assert "mail host: h.example port 993, TLS\n" in text and f"port {hosts[0].port}, no TLS\n" in text
    assert "password hash: ***" in text and "$1$" not in text
    assert "the account has disablepop3" in tell(system.conf, "anna", "pop3", 1)
    assert "no directory knows" in tell(system.conf, "bo", status=1)
    assert "no account can have this name" in tell(system.conf, "anna\nx", status=1)
    tell(system.conf, "anna", "smtp", status=2)


# In front of the real lookupd: it reads the file itself, as one that systemd starts does.
OWN_CONFIG = """#!/usr/bin/python3
import os, sys
os.environ["LISTEN_FDNAMES"] = os.environ.get("LISTEN_FDNAMES", "").replace("config", "nothing")
os.execv(REAL, ["lookupd", *sys.argv[1:]])
"""


@pytest.fixture
def alone(hosts, make, tmp_path):
    """A system with two directories, of anna and of bo; and what gives lookupd, and nobody else, the file with so many
    lines in front."""
    path = tmp_path / "lookupd"
    path.write_text(OWN_CONFIG.replace("REAL", repr(str(BUILD / "lookupd"))))
    path.chmod(0o755)
    tables = [Passwords(hosts[0], **{user: ("", "")}) for user in ("anna", "bo")]
    make.started += tables
    system = make.system(hosts[0], binaries=stage(lookupd=path), directory=tables, server_port=free_port(), lookup_ttl=1,
                         lookup_stale_max=3600)
    system.tables, text = tables, system.conf.read_text()

    def reads(lines):
        before = system.log_text().count("was read again")
        system.conf.write_text("# a comment\n" * lines + text)
        os.kill(system.pids("lookupd")[0], signal.SIGHUP)
        wait_until(lambda: system.log_text().count("was read again") > before, lambda: system.log_text())
    system.lookupd_reads = reads
    return system


def test_a_comment_less_does_not_bring_back_who_is_gone(alone):
    """The first directory has anna no more, the second one is in trouble: the answer of before is the first one's."""
    alone.lookupd_reads(5)
    assert try_login(alone, "anna")
    alone.lookupd_reads(0)
    alone.tables[0].write(carl=("", ""))
    os.truncate(alone.tables[1].path, 0)
    wait_until(lambda: not try_login(alone, "anna"), lambda: alone.log_text())  # fresh no more
    refused(alone, "anna", b"UNAVAILABLE")


def test_a_comment_more_locks_nobody_out(alone):
    """Bo is in the second directory, the first one is in trouble."""
    assert try_login(alone, "bo")
    alone.lookupd_reads(5)
    os.truncate(alone.tables[0].path, 0)
    over = time.monotonic() + 1.2
    wait_until(lambda: time.monotonic() > over, "time stands still")
    assert try_login(alone, "bo"), alone.log_text()  # what is known of him is fresh no more
    refused(alone, "nobody", b"UNAVAILABLE")
