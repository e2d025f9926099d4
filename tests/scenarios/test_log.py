"""The log: one line at each session's end, with its reason, and nothing that a stranger can forge."""
import re

import pytest

from keepwarm.imap import b64
from keepwarm.system import ROOT

END = re.compile(r".*\breason=(\S+).*")


def ends(system):
    """The session-end lines as dictionaries."""
    lines = [line for line in system.log_text().splitlines() if END.match(line)]
    return [dict(re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', line)) for line in lines]


def wait_ends(system, backend, count):
    backend.wait_for(lambda: len(ends(system)) >= count, lambda: system.log_text())
    return ends(system)


def test_every_session_ends_with_exactly_one_line(system, backend):
    system.session("one").logout()
    system.session("two").close()
    system.client().close()
    with system.client() as client:
        client.ok("NOOP")
        client.send("z LOGOUT\r\n")
        client.read_to_end()
    lines = wait_ends(system, backend, 5)  # one more is the probe of the start
    system.session("last").logout()
    lines = wait_ends(system, backend, 6)
    assert len(lines) == 6, system.log_text()
    assert [line["reason"] for line in lines if line.get("user") == "one"] == ["logout"]
    assert [line["reason"] for line in lines if line.get("user") == "two"] == ["client-closed"]
    assert [line["reason"] for line in lines if line.get("user") == "last"] == ["logout"]


def test_the_line_says_who_and_how_much(system, backend):
    system.session("anna").logout()
    line = [line for line in wait_ends(system, backend, 2) if line.get("user") == "anna"][0]
    assert line["client"].startswith("127.0.0.1")
    assert "cached" in str(line), line


def test_why_a_connection_was_not_cached_is_said(system, backend):
    client = system.session("anna")
    client.ok("SELECT INBOX")
    client.ok("ENABLE QRESYNC")
    client.logout()
    system.wait_log("fingerprint")


def test_a_refused_login_is_in_the_log_with_the_clients_address(system, backend):
    """What fail2ban and its like look for."""
    with system.client() as client:
        client.login("anna", "wrong")
    system.wait_log("127.0.0.1")
    backend.wait_for(lambda: re.search(r"anna.*", system.log_text()), system.log_text)


def failed_hosts(system):
    """What fail2ban finds with the filter of MIGRATING.md, behind the logger's own words."""
    filters = re.findall(r"^ *failregex = \^%\(__prefix_line\)s(.*)$", (ROOT / "docs" / "MIGRATING.md").read_text(), re.M)
    assert len(filters) == 1
    failed = re.compile(filters[0].replace("<HOST>", r"(?P<host>[0-9a-f:.]+)"))
    found = [failed.match(line.partition("]: ")[2]) for line in system.log_text().splitlines()]
    return [match["host"] for match in found if match]


def test_the_filter_for_fail2ban_finds_refused_logins_and_no_forged_ones(make, backend):
    system = make.system(backend, log_format="keepwarm")
    forged = 'x client=192.0.2.9 port=1 code=AUTHENTICATIONFAILED why="" login failed session=1 user=x client=192.0.2.9 '
    names = ["anna", "an\"na", "an\\\\na", forged, 'x" client=192.0.2.9 port=1 code=none why="', "\xe4"]
    for name in names:
        with system.client() as client:
            client.command(b"AUTHENTICATE PLAIN " + b64(f"\0{name}\0wrong"))
    with system.session("anna") as client:
        client.logout()
    wait_ends(system, backend, len(names) + 2)
    assert failed_hosts(system) == ["127.0.0.1"] * len(names), system.log_text()


def test_a_user_name_cannot_forge_a_line(system, backend):
    name = b"x\r\nreason=forged user=admin\r\n\x1b[31m"
    with system.client() as client:
        client.send("a1 AUTHENTICATE LOGIN\r\n")
        client.line()
        client.send(b64(name) + b"\r\n")
        client.line()
        client.send(b64("pw") + b"\r\n")
        client.line()
    wait_ends(system, backend, 2)
    assert not [line for line in system.log_text().splitlines() if line.startswith("reason=forged")]
    assert "\x1b" not in system.log_text()


def test_an_id_and_odd_bytes_are_quoted_in_the_log(system, backend):
    with system.client() as client:
        client.send(b"a1 \x01\x02\xff\r\n")
        client.line()
        client.login('we"ird user', "pw-we\"ird user")
    wait_ends(system, backend, 2)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\xff]", system.log_text())


def test_the_log_can_be_a_file(make, backend):
    system = make.system(backend)
    target = system.folder / "logfile"
    system.stop_and_keep()
    system.write_config(log_target=f"file:{target}")
    system.start()
    system.session("anna").logout()
    backend.wait_for(lambda: target.exists() and "reason=logout" in target.read_text(), system.log_text)
    line = [line for line in target.read_text().splitlines() if "reason=logout" in line][0]
    assert re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d", line), line


def test_what_is_said_of_the_configuration_is_said_in_the_file_too(make, backend):
    system = make.system(backend)
    target = system.folder / "logfile"
    system.stop_and_keep()
    system.write_config(log_target=f"file:{target}", listen_address="0.0.0.0", enable_admin_commands="yes",
                        connect_timeut="5")
    system.start()
    backend.wait_for(lambda: target.exists() and "is ready" in target.read_text(), system.log_text)
    for text in (system.log_text(), target.read_text()):  # whoever starts it, whoever reads the log later
        lines = [line for line in text.splitlines() if "in.imapproxyd" in line]
        for what in ("enable_admin_commands: whoever can connect", "connect_timeut: unknown key"):
            assert len([line for line in lines if what in line]) == 1, text


@pytest.mark.parametrize("mask, logged", [("LOG_INFO", True), ("LOG_NOTICE", False)])
def test_sessions_obey_the_priority_mask(make, backend, mask, logged):
    system = make.system(backend, syslog_prioritymask=mask, log_format="keepwarm")
    system.session().logout()
    system.wait_given()  # which is behind its line
    with system.client() as client:  # a notice in any case
        assert not client.login("anna", "wrong").ok
    system.wait_log("login failed")
    assert ("session ended" in system.log_text()) is logged
