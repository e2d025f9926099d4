"""How far a directory's word goes: its slowness, its denial, and what it said before a reload."""
import os
import signal

import pytest

from keepwarm.backend import Gate
from keepwarm.directory import at, has_driver
from keepwarm.directory_servers import AuthHttp, Ldap
from keepwarm.process import free_port, wait_until
from keepwarm.restart import broker

WRONG = b"NO [AUTHENTICATIONFAILED]"
AWAY = b"NO [UNAVAILABLE]"
NO, TROUBLE = ["Auth-Status: Invalid login or password"], ("500 Oops", [])


@pytest.fixture
def web(make, backend):
    """Directories by HTTP; each of them answers with what its `says` gives for a request."""
    def made(says):
        host, port = at(backend).split(":")

        def answer(request):
            said = server.says(request)
            return ["Auth-Status: OK", f"Auth-Server: {host}", f"Auth-Port: {port}"] if said is True else said
        server = AuthHttp(answer)
        server.says = says
        make.started.append(server)
        return server
    return made


def start(make, backend, *directories, **config):
    return make.system(backend, directory=list(directories), auth="directory", server_port=free_port(), lookup_processes=1,
                       **config)


def login(system, user, password=""):
    with system.client() as client:
        reply = client.login(user, password or f"pw-{user}")
        if reply.ok:
            client.logout()
    return reply.tagged


def test_a_password_that_is_judged_slowly_takes_no_directory_down(make, backend, web):
    """A server may be slow with one account. When it is silent whoever is asked for, it is down."""
    source = web(lambda request: None if b"Auth-User: slow" in request else True)
    system = start(make, backend, source)
    assert login(system, "slow1").startswith(AWAY)
    assert login(system, "anna").startswith(b"OK")
    assert "is down" not in system.log_text()
    for user in ("slow1", "slow2", "slow3"):
        assert login(system, user).startswith(AWAY)
    system.wait_log("is down")
    wait_until(lambda: login(system, "bert").startswith(b"OK"), system.log_text, 20)
    system.wait_log("answers again")


@pytest.mark.skipif(not has_driver("ldap"), reason="built without LDAP")
def test_a_bind_that_is_judged_slowly_takes_no_directory_down(make, backend):
    """Servers wait with wrong passwords on purpose, or with one account."""
    server = Ldap(lambda request: None if b"uid=slow" in request else 0 if b"pw-" in request else 49)
    make.started.append(server)
    system = make.system(backend, directory=[server], auth="directory", lookup_processes=1)
    assert login(system, "slow").startswith(AWAY)
    assert login(system, "anna").startswith(b"OK")
    assert login(system, "anna", "falsch").startswith(WRONG)
    assert "is down" not in system.log_text()


def test_what_is_known_of_a_directory_that_says_no_now_is_no_good(make, backend, web):
    """Even though the next one cannot be asked, which may know the account, too."""
    first, second = web(lambda request: True), web(lambda request: NO)
    system = start(make, backend, first, second, lookup_ttl=1)
    assert login(system, "anna").startswith(b"OK")
    second.says = lambda request: TROUBLE
    first.says = lambda request: NO
    wait_until(lambda: login(system, "anna").startswith(AWAY), system.log_text)
    first.says = lambda request: TROUBLE  # it has been forgotten, not only passed over
    assert login(system, "anna").startswith(AWAY)


def test_what_is_known_of_the_directory_that_is_away_is_good_enough(make, backend, web):
    first, second = web(lambda request: NO), web(lambda request: b"pw-anna" in request or NO)
    system = start(make, backend, first, second, lookup_ttl=1)
    assert login(system, "anna").startswith(b"OK")
    second.says = lambda request: TROUBLE
    asked = len(second.requests)
    wait_until(lambda: login(system, "anna").startswith(b"OK") and len(second.requests) > asked, system.log_text)
    assert login(system, "anna", "falsch").startswith(AWAY)
    first.says = lambda request: TROUBLE  # a later one is not asked, and may still know it
    assert login(system, "anna").startswith(b"OK")


@pytest.mark.parametrize("now, told", [(True, b"OK"), (NO, WRONG)], ids=["still", "no-more"])
def test_an_answer_of_before_a_reload_is_asked_for_again(make, backend, web, now, told):
    """And the login is the same attempt."""
    gate = Gate()

    def says(_):
        gate.reached.set()
        gate.opened.wait(20)
        source.says = lambda request: now
        return True
    source = web(says)
    system = start(make, backend, source, login_attempts=1)
    with system.client() as client:
        client.send("a LOGIN anna pw-anna\r\n")
        gate.wait()
        os.kill(broker(system), signal.SIGHUP)  # its workers stay, so that it is their answer that comes
        system.wait_log("taken over")
        gate.open()
        assert client.reply("a").tagged.startswith(told)
    assert len(source.requests) == 2
