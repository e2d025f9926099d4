"""A restart of a broker whose program was replaced: the next one may not understand who is about to log in. (With one that
does not: tests/servers/test_package.py.)"""
import os
import shutil
import signal

import pytest

from keepwarm import process
from keepwarm.failures import sees_own_mail
from keepwarm.process import wait_until
from keepwarm.restart import broker
from keepwarm.system import stage

LEFT = "left to the next broker"


@pytest.fixture
def upgraded(make, backend):
    """A system; upgraded.replace() puts a new file in the place of its broker's."""
    folder = stage()
    program = folder / "cachebrokerd"
    system = make.system(backend, binaries=folder)

    def replace():
        shutil.copy2(program, folder / "new")
        os.replace(folder / "new", program)
    system.replace = replace
    yield system
    shutil.rmtree(folder, ignore_errors=True)


def test_it_serves_who_is_about_to_log_in_then_leaves_all_to_the_next_one(upgraded, backend):
    with upgraded.session("anna") as anna, upgraded.client() as bert:
        old = broker(upgraded)
        upgraded.replace()
        os.kill(old, signal.SIGTERM)
        assert bert.login("bert", "pw-bert").ok
        with upgraded.session("carl") as carl:
            sees_own_mail(carl, "carl")
            carl.logout()
        assert LEFT not in upgraded.log_text() and process.alive(old)  # its listener is still there
        upgraded.wait_log("are gone on with")
        assert broker(upgraded) != old
        sees_own_mail(anna, "anna")
        sees_own_mail(bert, "bert")
        bert.logout()
    with upgraded.session("carl", reused=True), upgraded.session("bert", reused=True):
        pass
    assert len(backend.logins) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_meanwhile_is_a_stop(upgraded, number):
    with upgraded.session("anna") as anna:
        old = broker(upgraded)
        upgraded.replace()
        os.kill(old, signal.SIGTERM)
        upgraded.supervisor.send_signal(number)
        assert b"* BYE [UNAVAILABLE] Service is stopping\r\n" in anna.read_to_end()
        wait_until(lambda: not process.alive(old), "the broker stays")
    upgraded.stop_and_keep()
    assert LEFT not in upgraded.log_text()
