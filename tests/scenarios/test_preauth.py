"""preauth_command: what each new connection to the mail host begins with."""
import pytest

from keepwarm.backend import CLOSE, SILENCE
from keepwarm.process import wait_until

COMMAND = 'XGATE "proxy 7" (token)'


class Gatekeeper:
    """The scripted backend lets nobody log in before XGATE."""

    def __init__(self, backend):
        self.backend, self.passed = backend, set()
        backend.answers["XGATE"] = self.gate
        backend.verdict = self.verdict

    def gate(self, conn):
        command = conn.commands[-1]
        assert command.raw == COMMAND.encode()
        self.passed.add(conn)
        conn.send(b"* OK the gate\r\n* 3 EXISTS\r\n")
        return conn.done(command, b"OK go on")

    def verdict(self, user, password):
        assert self.backend.connections[-1] in self.passed, "there was no XGATE in front"
        return password == b"pw-" + user.encode() or b"TAG NO [AUTHENTICATIONFAILED] no\r\n"


@pytest.fixture
def gatekeeper(backend):
    return Gatekeeper(backend)


@pytest.mark.parametrize("before", [None, "IMAP4rev1 AUTH=LOGIN", "IMAP4rev1 LITERAL+ AUTH=PLAIN ID"])
def test_it_goes_before_each_login(make, backend, gatekeeper, before):
    if before:
        backend.before = before
        backend.greeting = b"* OK [CAPABILITY " + before.encode() + b"] ready\r\n"
    system = make.system(backend, preauth_command=COMMAND)
    system.session().logout()
    system.wait_given()
    system.session(reused=True).logout()
    system.session("berta").logout()
    assert len(gatekeeper.passed) == 2
    assert [conn.verbs().count("XGATE") for conn in backend.connections] == [1, 1]


def test_an_id_of_the_client_goes_in_front_of_it(make, backend, gatekeeper):
    system = make.system(backend, preauth_command=COMMAND)
    with system.client() as client:
        client.ok('ID ("name" "webmail")')
        assert client.login("anna", "pw-anna").ok
    assert backend.connections[0].verbs()[:2] == ["ID", "XGATE"]
    assert backend.connections[0].verbs().count("ID") == 1


@pytest.mark.parametrize("answer", [b"TAG NO not you\r\n", b"TAG BAD what\r\n", b"+ more?\r\n", b"* BYE\r\n", CLOSE,
                                    SILENCE])
def test_whatever_is_not_ok_is_no_login(make, backend, answer):
    backend.answers["XGATE"] = answer
    system = make.system(backend, preauth_command=COMMAND, backend_timeout=1)
    with system.client() as client:
        assert client.login("anna", "pw-anna").tagged.startswith(b"NO [UNAVAILABLE] LOGIN failed")
    assert not backend.logins and b"pw-anna" not in backend.everything()
    system.wait_log("LOGIN: 'anna' (")
    system.wait_log(") failed: ")
    assert "token" not in system.log_text()


def test_errands_say_it_too(make, backend, gatekeeper):
    system = make.system(backend, preauth_command=COMMAND, auth_recheck=0)
    system.session().logout()
    system.wait_given()
    system.session().logout()
    wait_until(lambda: len(gatekeeper.passed) == 2, "the errand did not say it")


def reload(system, **changes):
    count = system.log_text().count("taken over")
    system.write_config(**changes)
    system.supervisor.send_signal(1)
    wait_until(lambda: system.log_text().count("taken over") > count, "no reload")


@pytest.fixture
def other(backend, gatekeeper):
    """The mail host takes XOTHER as well."""
    backend.answers["XOTHER"] = lambda conn: (gatekeeper.passed.add(conn), conn.done(conn.commands[-1], b"OK"))


def test_a_connection_of_another_command_is_not_used(make, backend, gatekeeper, other):
    system = make.system(backend, preauth_command=COMMAND)
    system.session().logout()
    system.wait_given()
    reload(system, preauth_command="XOTHER")
    system.session(reused=False).logout()
    assert "XOTHER" in backend.connections[-1].verbs()


def test_a_client_of_before_a_reload_says_the_new_one(make, backend, gatekeeper, other):
    system = make.system(backend, preauth_command=COMMAND)
    with system.client() as client:
        client.ok("NOOP")
        reload(system, preauth_command="XOTHER")
        assert client.login("anna", "pw-anna").ok
        assert backend.connections[-1].verbs()[0] == "XOTHER"
        client.logout()
    system.wait_given()
    system.session(reused=True).close()


def test_a_dial_that_a_reload_overtakes_belongs_to_the_new_settings(make, backend, gatekeeper, other):
    system = make.system(backend, preauth_command=COMMAND, connect_timeout=20, backend_timeout=5)
    backend.fill_backlog()
    with system.client() as client:
        client.send("a1 LOGIN anna pw-anna\r\n")
        wait_until(lambda: system.gauge("active") == 1, "it is not dialled")
        reload(system, preauth_command="XOTHER")
        backend.accept_again()
        assert client.reply("a1").ok
        assert backend.connections[-1].verbs()[0] == "XOTHER"
        client.logout()
    system.wait_given()
    system.session(reused=True).close()
