"""POP3 before login, in the words of RFC 6856: UTF8 is passed on to mail hosts that know it, LANG has one language."""
import pytest

from keepwarm import process
from keepwarm.pop3 import CAPA, CLOSE, Client, Host


@pytest.fixture
def pop3(make):
    hosts = []

    def start(config=(), **knobs):
        hosts.append(Host(**knobs))
        port = process.free_port()
        system = make.system(make.backend(), pop3_listen_port=port, pop3_server_port=hosts[-1].port, **dict(config))
        system.host, system.pop = hosts[-1], lambda: Client(port)
        return system
    yield start
    for host in hosts:
        host.stop()


def lines_of(system):
    return [line.decode() for line in system.host.logins[-1].conn.lines]


@pytest.mark.parametrize("answer", [b"+OK On\r\n", b"-ERR Not today\r\n"])
def test_utf8_comes_before_the_login_at_a_mail_host_that_has_it(pop3, answer):
    """Refused it changes nothing: the client has only said what it can take."""
    system = pop3(capa=CAPA + ["UTF8 USER"], answers={"UTF8": answer})
    with system.pop() as client:
        client.ok("utf8")
        client.session("anna").ok("STAT")
    assert lines_of(system) == ["CAPA", "UTF8", "USER anna", "PASS pw-anna", "STAT"]


def test_utf8_is_forgotten_by_no_login_that_fails(pop3):
    system = pop3(capa=CAPA + ["UTF8"], answers={"UTF8": b"+OK On\r\n"})
    with system.pop() as client:
        client.ok("UTF8")
        assert client.login("anna", "wrong").startswith(b"-ERR [AUTH]")
        client.session("anna")
    assert lines_of(system)[:2] == ["CAPA", "UTF8"]


def test_a_mail_host_without_utf8_is_not_told(pop3):
    system = pop3()
    with system.pop() as client:
        client.ok("UTF8")
        client.session("anna").ok("STAT")
    assert lines_of(system) == ["CAPA", "USER anna", "PASS pw-anna", "STAT"]


@pytest.mark.parametrize("capa", [b"-ERR What?\r\n", b"+OK\r\n.\r\n"])
def test_a_mail_host_without_a_list_serves_such_a_client_too(pop3, capa):
    system = pop3(answers={"CAPA": capa})
    with system.pop() as client:
        client.ok("UTF8")
        client.session("anna")


@pytest.mark.parametrize("answer", [CLOSE, b"+ what?\r\n", b"nonsense\r\n"])
def test_a_mail_host_that_stumbles_over_it_is_out_of_order(pop3, answer):
    system = pop3(capa=["UTF8"], answers={"UTF8": answer})
    with system.pop() as client:
        client.ok("UTF8")
        assert client.login() == b"-ERR [SYS/TEMP] Login failed.\r\n"
    assert system.host.logins == []


def test_nobody_who_has_not_said_utf8_costs_a_question(pop3):
    system = pop3(capa=CAPA + ["UTF8"])
    with system.pop() as client:
        client.session("anna")
    assert lines_of(system) == ["USER anna", "PASS pw-anna"]


def test_with_a_mechanism(pop3):
    system = pop3(capa=CAPA + ["UTF8"], answers={"UTF8": b"+OK\r\n"}, passwords={"anna": "pw "})
    with system.pop() as client:
        client.ok("UTF8")
        client.ok("USER anna")
        client.ok("PASS pw ")  # a blank at its end: by AUTH PLAIN
    assert lines_of(system)[:3] == ["CAPA", "UTF8", "AUTH PLAIN"]


def test_names_in_utf8_arrive_as_they_are(pop3):
    name = "j\xf6rg".encode().decode("latin-1")
    system = pop3(passwords={name: "p\xe4ss".encode().decode("latin-1")})
    with system.pop() as client:
        client.ok("USER " + name)
        client.ok(b"PASS " + "p\xe4ss".encode())
    assert system.host.logins[-1].user == name


@pytest.mark.parametrize("line, answer", [
    ("LANG *", b"+OK en English\r\n"), ("lang EN", b"+OK en English\r\n"), ("LANG en-GB", b"+OK en English\r\n"),
    ("LANG i-default", b"+OK i-default English\r\n"), ("LANG fr", b"-ERR There is only English here.\r\n"),
    ("LANG en fr", b"-ERR LANG takes one language.\r\n"), ("UTF8 USER", b"-ERR UTF8 takes no arguments.\r\n"),
])
def test_lang(pop3, line, answer):
    with pop3().pop() as client:
        assert client.say(line) == answer
        client.ok("LANG")
        assert client.rest() == b"en English\r\ni-default English\r\n"
        client.session().ok("STAT")
