"""authdaemon: and http:, against servers of ours: every answer they may give, and none."""
import subprocess
import time

import pytest

from keepwarm.directory import at, has_driver, tell
from keepwarm.directory_servers import AuthHttp, Authdaemond, Ldap
from keepwarm.process import DEADLINE, free_port, wait_until
from keepwarm.system import BUILD


def record(*lines):
    return "".join(f"{line}\n" for line in lines).encode() + b".\n"


@pytest.fixture
def conf(tmp_path):
    def written(*directories):
        path = tmp_path / "conf"
        path.write_text("".join(f"directory {one}\n" for one in directories) + "server_hostname home\n")
        return path
    return written


@pytest.fixture
def server(make):
    def made(kind, answer):
        one = kind(answer if callable(answer) else lambda request: answer)
        make.started.append(one)
        return one
    return made


# --- authdaemond ------------------------------------------------------------------------------------------
def test_authdaemond_is_asked_for_a_record_without_a_password(server, conf):
    daemon = server(Authdaemond, record("UID=5000", "ADDRESS=rec@example.com", "PASSWD=$1$", "PASSWD2=clear", "odd",
                                        "OPTIONS=mailhost=rec.test;imaps://b,x=1"))
    told = tell(conf(daemon), "rec d")
    assert daemon.requests == [b"PRE . imap rec d\n"]
    assert "mail host: rec.test port 143, no TLS\nmail host: b port 993, TLS\nlogs in as: rec@example.com\n" in told
    assert "password: ***\npassword hash: ***\n" in told and "clear" not in told
    tell(conf(daemon), "rec", "pop3")
    assert daemon.requests[-1] == b"PRE . pop3 rec\n"


@pytest.mark.parametrize("answer, status", [
    (b"FAIL\n", 1), (b"", 75), (b"FAIL", 75), (b"ADDRESS=x\n", 75), (b"ADDRESS=x\n.", 75), (b"OK\n", 75), (b".\n", 0),
    (b"ADDRESS=x\n..\n", 75), (record("ADDRESS=" + "x" * 600), 75), (record("OPTIONS=mailhost=a/b"), 75),
    (record("PASSWD2=a\tb"), 75), (b"X=y\n" * 10000 + b".\n", 75), (record("ADDRESS=x") + b"OPTIONS=mailhost=z\n", 0),
    (b"\0" * 100 + b"\n.\n", 0),
])
def test_what_authdaemond_may_say(server, conf, answer, status):
    told = tell(conf(server(Authdaemond, answer)), "anna", "imap", status)
    assert "port 143" not in told or "mail host: home port 143" in told


def test_a_name_is_never_a_request_of_its_own(server, conf):
    daemon = server(Authdaemond, b"FAIL\n")
    for name in ("anna\nPRE . imap bo", "anna\rx", "anna\x01", "a\x7f"):
        tell(conf(daemon), name, "imap", 1)
    assert not daemon.requests
    tell(conf(daemon), "a=b c", "imap", 1)  # a meta line has its = before any blank
    assert daemon.requests == [b"PRE . imap a=b c\n"]


# --- auth_http --------------------------------------------------------------------------------------------
def test_an_http_source_is_asked_as_nginx_asks(server, conf):
    web = server(AuthHttp, ["auth-status: OK", "Auth-Server: 192.0.2.7", "Auth-Port: 1143", "Auth-User: anna@x",
                            "Auth-Pass: clear"])
    told = tell(conf(web), "an na%\u00fc")
    assert "mail host: 192.0.2.7 port 1143, no TLS\nlogs in as: anna@x\npassword: ***\n" in told
    lines = web.requests[0].split(b"\r\n")
    assert lines[0] == b"GET /auth HTTP/1.1"
    for line in (b"Auth-Method: none", "Auth-User: an%20na%25\u00fc".encode(), b"Auth-Protocol: imap",
                 b"Auth-Login-Attempt: 1"):
        assert line in lines
    assert not any(line.startswith(b"Auth-Pass") for line in lines)


@pytest.mark.parametrize("answer, status, found", [
    (["Auth-Status: OK", "Auth-Server: 2001:db8::1", "Auth-Port: 1143"], 0, "2001:db8::1 port 1143"),
    (["Auth-Status: OK", "Auth-Server: [2001:db8::1]", "Auth-Port: 143"], 0, "2001:db8::1 port 143"),
    (["Auth-Status: OK", "Auth-Server: imaps://h", "Auth-Port: 1993"], 0, "h port 1993, TLS"),
    (["Auth-Status: OK", "Auth-Server: h"], 0, "h port 143"),
    (["Auth-Status: OK"], 0, "home port 143"),
    (["Auth-Status: OK", "Cache-Control: private, max-age=60"], 0, "\nlifetime: 60 s\n"),
    *((["Auth-Status: OK", f"Cache-Control: {value}"], 0, "home port 143")
      for value in ("no-store, max-age=0", "max-age=x", "s-max-age=9", "max-age=99999999999", "max-age")),
    (["Auth-Status: Invalid login or password", "Auth-Wait: 3"], 1, "no login"),
    (["Auth-Status: Try again", "Auth-Error-Code: 451 4.3.0"], 75, "not known now"),
    (["Auth-Status: No", "Auth-Error-Code: 535 5.7.8"], 1, "no login"),
    (["Auth-Server: h"], 75, "without Auth-Status"), (("500 Oops", ["Auth-Status: OK"]), 75, "HTTP status 500"),
    (("302 Found", ["Auth-Status: OK", "Location: http://127.0.0.1:1/"]), 75, "HTTP status 302"),
    (["Auth-Status: OK", "Auth-Server: a/b"], 75, "wrong"), (["Auth-Status: OK", "Auth-Port: 1"], 75, "wrong"),
    (["Auth-Status: OK", "Auth-Server: h", "Auth-Port: 99999"], 75, "wrong"),
    (["Auth-Status: OK", "Auth-User: " + "x" * 600], 75, "too long"),
    (["Auth-Status: OK", "Auth-Server: h", "Cache-Control: max-age=5, x=" + "y" * 600], 0, "mail host: h"),
    (["Auth-Status: OK", *["X: " + "y" * 1000] * 100], 75, "too long"),
    (b"HTTP/1.1 200 OK\r\nAuth-Status: OK\r\n\r\n" + b"x" * 100000, 75, "too long"),
    (b"nonsense\r\n\r\n", 75, "not known now"), (b"", 75, "not known now"),
])
def test_what_an_http_source_may_say(server, conf, answer, status, found):
    told = tell(conf(server(AuthHttp, answer)), "anna", "imap", status)
    assert found in told and ("lifetime" in told) == ("lifetime" in found)


def test_an_http_source_may_want_a_header_of_its_own(server, conf):
    """nginx's auth_http_header: mostly a secret that the script shares with the proxy."""
    web = server(AuthHttp, ["Auth-Status: OK"])
    path = conf(web)
    text = path.read_text()
    for between in " ", "\t ":
        path.write_text(text + f"auth_http_header X-Auth-Key{between}ge heim: 7\n")
        tell(path, "anna")
        assert b"X-Auth-Key: ge heim: 7" in web.requests[-1].split(b"\r\n")
    path.write_text(text + "auth_http_header X-Auth-Key: geheim\n")
    run = subprocess.run([BUILD / "proxyd", "-n", "-f", path], capture_output=True, check=False, timeout=DEADLINE)
    assert run.returncode != 0 and b"auth_http_header: give NAME VALUE" in run.stderr and b"geheim" not in run.stderr, run


def test_a_name_is_never_a_header_of_its_own(server, conf):
    web = server(AuthHttp, ["Auth-Status: no"])
    tell(conf(web), "anna\r\nAuth-Pass: x", "imap", 1)
    assert not web.requests


def test_the_environments_proxy_is_not_asked(server, conf, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    tell(conf(server(AuthHttp, ["Auth-Status: OK"])), "anna")


# --- LDAP -------------------------------------------------------------------------------------------------
@pytest.mark.skipif(not has_driver("ldap"), reason="built without LDAP")
@pytest.mark.parametrize("lines, seconds", [
    ([], 3), (["LDAP_TIMEOUT 1"], 1), (["LDAP_TIMEOUT 4"], 4), (["LDAP_TIMEOUT 60"], 5), (["LDAP_TIMEOUT 0"], 5),
    (["LDAP_TIMEOUT soon"], 3),
])
def test_a_search_has_the_time_that_the_settings_say(make, conf, lines, seconds):
    """The server is told (RFC 4511 section 4.5.1): subtree, no aliases, two entries, so many seconds."""
    ldap = Ldap(lambda request: 0, *lines)
    make.started.append(ldap)
    tell(conf(ldap), "anna")
    assert b"\n\1\2\n\1\0\2\1\2\2\1" + bytes([seconds]) in ldap.requests[0], ldap.requests


# --- both, when they are down -----------------------------------------------------------------------------
def down(kind):
    """What it is called, with nobody there."""
    return f"http://127.0.0.1:{free_port()}/" if kind is AuthHttp else "authdaemon:/nowhere/socket"


@pytest.mark.parametrize("kind", [Authdaemond, AuthHttp])
def test_a_directory_that_is_down_is_temporary_and_quick_and_no_other_is_asked(conf, kind):
    began = time.monotonic()
    told = tell(conf(down(kind), "static:"), "anna", "imap", 75)
    assert "not known now" in told and time.monotonic() - began < 4.5


@pytest.mark.parametrize("kind", [Authdaemond, AuthHttp])
def test_a_silent_directory_is_given_up_within_its_time(server, conf, kind):
    began = time.monotonic()
    tell(conf(server(kind, None)), "anna", "imap", 75)
    assert 4 < time.monotonic() - began < 12


def login(system, user="anna"):
    with system.client() as client:
        return client.login(user, f"pw-{user}").tagged


@pytest.mark.parametrize("kind", [Authdaemond, AuthHttp])
def test_logins_while_a_directory_is_silent_and_after(server, make, backend, kind):
    """Unavailable, soon at once, and served again when it answers; others are never told that they are unknown."""
    answers = {Authdaemond: record(f"OPTIONS=mailhost={at(backend)}"),
               AuthHttp: ["Auth-Status: OK", "Auth-Server: 127.0.0.1", f"Auth-Port: {backend.port}"]}
    state = {"answer": None}
    source = server(kind, lambda request: state["answer"])
    system = make.system(backend, directory=[source], lookup_processes=1, server_port=free_port())
    assert b"NO [UNAVAILABLE]" in login(system)
    began = time.monotonic()
    assert b"NO [UNAVAILABLE]" in login(system)
    assert time.monotonic() - began < 4.5  # it is not asked again at once
    system.wait_log("is down")
    state["answer"] = answers[kind]
    wait_until(lambda: login(system).startswith(b"OK"), lambda: system.log_text(), 20)
    assert "answers again" in system.log_text()


def test_known_accounts_go_on_while_their_directory_is_down(server, make, backend):
    state = {"answer": record(f"OPTIONS=mailhost={at(backend)}")}
    source = server(Authdaemond, lambda request: state["answer"])
    system = make.system(backend, directory=[source], lookup_ttl=1, server_port=free_port())
    assert login(system).startswith(b"OK")
    state["answer"] = b""
    wait_until(lambda: login(system).startswith(b"OK") and len(source.requests) > 1, system.log_text)
    assert b"NO [UNAVAILABLE]" in login(system, "bo")


def test_unknown_accounts_are_asked_for_once_in_a_while(server, make, backend):
    state = {"answer": b"FAIL\n"}
    source = server(Authdaemond, lambda request: state["answer"])
    system = make.system(backend, directory=[source], lookup_negative_ttl=1)
    began = time.monotonic()
    for _ in range(5):
        assert login(system).startswith(b"NO [AUTHENTICATIONFAILED]")
    assert len(source.requests) <= 2 + (time.monotonic() - began)
    state["answer"] = record(f"OPTIONS=mailhost={at(backend)}")
    wait_until(lambda: login(system).startswith(b"OK"), system.log_text)


def test_names_are_resolved_while_a_directory_hangs(server, make, backend):
    """Known accounts go on: one worker hangs, the other one resolves."""
    source = server(Authdaemond, lambda request: None if b"slow" in request else
                    record(f"OPTIONS=mailhost={at(backend)}"))
    system = make.system(backend, directory=[source], lookup_processes=2)
    assert login(system).startswith(b"OK")
    with system.client() as slow:
        slow.send("s1 LOGIN slow pw-slow\r\n")
        wait_until(lambda: source.silent, "the directory was not asked")
        began = time.monotonic()
        assert login(system).startswith(b"OK") and login(system, "bo").startswith(b"OK")
        assert time.monotonic() - began < 4.5
