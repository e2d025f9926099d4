"""log_format: the lines that sites' own programs look for, as the old program wrote them, and none that is forged."""
import re
import signal
import socket
import subprocess

import pytest

from keepwarm import logger, oldlog
from keepwarm.imap import b64
from keepwarm.process import wait_until

# As a site has it, for the old program.
FILTER = re.compile(r"in\.imapproxyd\[\d+\]: LOGIN: '(.*)' \((?P<host>\S+):\d+\) failed: ")
LAZY = re.compile(r"LOGIN: '.*?' \((?P<host>\S+?):\d+\) failed: non-OK server response to LOGIN command: NO")


def log_lines(system):
    return system.log_text().splitlines()


def test_the_old_lines_are_written(system, backend):
    stage = oldlog.Stage(system.port, backend, lambda: log_lines(system))
    wait_until(lambda: "session ended" in system.log_text(), "the probe of the start is not over")
    stage.play(lambda _: None, 0)
    for scene, expected in oldlog.SCENES:
        got = [line for _, line in stage.play(scene, len(expected))]
        assert got == [line for _, line in expected], scene.__name__
    wait_until(lambda: len([line for line in log_lines(system) if "session ended" in line]) == len(oldlog.SCENES) + 1,
               "the session-end line comes in every format")
    assert "login failed" not in system.log_text()


def test_the_number_is_the_sessions_as_everywhere(system):
    system.session("anna").logout()
    system.wait_log("LOGOUT: 'anna'")
    system.wait_log("user=anna")
    number = re.search(r"session ended session=(\d+) .*user=anna", system.log_text())[1]
    assert f"on new sd [{number}]" in system.log_text() and f"LOGOUT: 'anna' from server sd [{number}]" in system.log_text()


def test_a_mail_host_that_is_away(system, backend):
    backend.stop()
    with system.client() as client:
        assert not client.login("anna", "pw-anna").ok
    wait_until(lambda: re.search(r"in\.imapproxyd\[\d+\]: LOGIN: 'anna' \(127\.0\.0\.1:\d+\) failed: "
                                 r"Unable to connect to IMAP server: \S", system.log_text()), system.log_text)


def test_a_wrong_shared_secret(make, backend):
    system = make.system(backend, auth_sasl_plain_username="master", auth_sasl_plain_password="m", auth_shared_secret="s")
    with system.client() as client:
        assert not client.login("anna", "wrong").ok
    wait_until(lambda: re.search(r"LOGIN: 'anna' \(127\.0\.0\.1:\d+\) failed: shared secret was wrong$",
                                 system.log_text(), re.M), system.log_text)


def test_a_mail_host_that_wants_tls_is_no_reason_to_send_a_password(make):
    """The old program sent it in clear text."""
    backend = make.backend(before="IMAP4rev1 STARTTLS LOGINDISABLED")
    system = make.system(backend)
    with system.client() as client:
        assert client.login("anna", "pw-anna").tagged.startswith(b"NO [UNAVAILABLE] ")
    system.wait_log("LOGIN: 'anna' (")
    system.wait_log(") failed: the mail host offers no login without TLS; no password was sent")
    assert b"pw-anna" not in backend.everything()


@pytest.mark.parametrize("bound, why", [("cache_size", "Out of free ICC structs."),
                                        ("host_max_connections", "host_max_connections to this mail host are in use")])
def test_no_room(make, backend, bound, why):
    system = make.system(backend, **{bound: 1})
    with system.session("anna"), system.client() as client:
        assert not client.login("bert", "pw-bert").ok
    wait_until(lambda: re.search(rf"LOGIN: 'bert' \(127\.0\.0\.1:\d+\) failed: {why}$", system.log_text(), re.M), system.log_text)


@pytest.mark.parametrize("answer", [b"TAG NO Not today\r\n", b"close"])
def test_a_preauth_command_that_is_refused(make, backend, answer):
    backend.answers["XGATE"] = answer if answer != b"close" else "close"
    system = make.system(backend, preauth_command="XGATE token")
    with system.client() as client:
        assert not client.login("anna", "pw-anna").ok
    system.wait_log("failed: Unable to send queued pre-auth commands")


def test_a_reused_connection_that_is_dead(make, backend):
    backend.answers["NOOP"] = lambda conn: conn.send(conn.commands[-1].tag + b" OK Noop\r\n")
    system = make.system(backend, cache_validate_after=0)
    system.session("anna").logout()
    system.wait_given()
    backend.answers["NOOP"] = "close"
    with system.session("anna"):
        pass
    wait_until(lambda: re.search(r"Get_Server_conn\(\): Unable to reuse server sd \[\d+\] for user 'anna' "
                                 r"\(127\.0\.0\.1:\d+\)\.  Connection closed by server\.$", system.log_text(), re.M),
               system.log_text)


FORGED = "x' (192.0.2.9:1) failed: non-OK server response to LOGIN command: NO "
NAMES = ["anna", "o'brien", FORGED, FORGED + "LOGIN: '", "x\r\n<22>in.imapproxyd[1]: LOGIN: 'x' (192.0.2.9:1) failed: ",
         "x\nin.imapproxyd[1]: LOGOUT: 'x", "\x1b[31m", "\xe4\xff"]


def test_a_sites_filter_finds_refused_logins_and_no_forged_ones(make, backend):
    """Neither in the name nor in what a mail host repeats of it."""
    backend.refusal = b"TAG NO Not you, '" + FORGED.encode() + b"'\r\n"
    system = make.system(backend)
    for name in NAMES:
        with system.client() as client:
            client.command(b"AUTHENTICATE PLAIN " + b64(f"\0{name}\0wrong"))
    system.session("anna").logout()
    system.wait_log("LOGOUT: 'anna'")
    wait_until(lambda: len(list(filter(FILTER.search, log_lines(system)))) >= len(NAMES), system.log_text)
    for pattern in (FILTER, LAZY):
        hosts = [match["host"] for match in map(pattern.search, log_lines(system)) if match]
        assert hosts == ["127.0.0.1"] * len(NAMES), system.log_text()
    assert "LOGIN: 'o'brien' (127.0.0.1" in system.log_text()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\uffff]", system.log_text())
    assert len(re.findall(r"^in\.imapproxyd\[\d+\]: LOGOUT: ", system.log_text(), re.M)) == 1


def old_and_new(system):
    text = system.log_text()
    return len(re.findall(r"^in\.imapproxyd\[\d+\]: LOGIN: ", text, re.M)), text.count("login failed")


def refuse(system):
    with system.client() as client:
        assert not client.login("anna", "wrong").ok


def test_the_format_can_be_chosen_and_a_reload_takes_it(make, backend):
    system = make.system(backend, log_format="keepwarm")
    refuse(system)
    wait_until(lambda: old_and_new(system) == (0, 1), system.log_text)
    system.write_config(log_format="imapproxy")
    system.supervisor.send_signal(signal.SIGHUP)
    system.wait_log("taken over")
    wait_until(lambda: refuse(system) or old_and_new(system)[0] > 0, system.log_text)


def test_the_exec_modes_have_it_too(make, backend):
    """in.imapproxyd runs the service, xinetd the sessions."""
    system = make.system(backend, run_listener="no")
    ours, theirs = socket.socketpair()
    with subprocess.Popen([system.binaries / "proxyd", "-r", system.run_directory, "-l", "stderr"], stdin=theirs,
                          stderr=subprocess.PIPE, env=system.environment()) as proxyd:
        theirs.close()
        ours.sendall(b"a LOGIN anna pw-anna\r\n")
        data = b""
        while b"a OK" not in data:
            data += ours.recv(4096)
        ours.sendall(b"b LOGOUT\r\n")
        while ours.recv(4096):
            pass
        ours.close()
        text = proxyd.stderr.read().decode()
    assert "LOGIN: 'anna' (local:0) on new sd [" in text and "LOGOUT: 'anna' from server sd [" in text, text


@pytest.mark.skipif(logger.missing() is not None, reason="no logger of our own here")
def test_a_line_that_its_process_cannot_write_comes_under_the_same_name(make, backend):
    system = logger.Watched(backend)
    make.started.append(system)
    system.start()
    client = system.session("anna")
    system.logger.restart()
    client.logout()
    system.logger.wait("<22>in.imapproxyd[", "]: LOGOUT: 'anna' from server sd [")
    system.logger.stop()
