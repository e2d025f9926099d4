"""Spare connections to mail hosts (spare_backend_connections): made ahead, greeted, taken by a fresh login."""
import contextlib
import signal
import threading
import time

import pytest

from keepwarm import tokens
from keepwarm.backend import CLOSE
from keepwarm.messages import ACCEPTED, REFUSAL_ATTEMPTS, REFUSED, STALE, Door, Peer, session
from keepwarm.process import DEADLINE, wait_until
from keepwarm.relay import Relay, idle_binaries

LIST_ASKED = b"* OK ready, says the backend\r\n"


def wait_spares(system, count):
    wait_until(lambda: system.gauge("spares") == count, lambda: f"not {count} spares: {system.stats()}\n{system.log_text()}")


def use(system, user="first"):
    """A login, so that the host counts as one in use; it stays out of the cache."""
    with system.session(user):
        pass


@pytest.fixture
def spares(make):
    def start(count=1, backend=None, **config):
        backend = backend or make.backend()
        system = make.system(backend, **{"spare_backend_connections": count, "cache_expiration_time": 0, **config})
        use(system)
        wait_spares(system, count)
        if not config.get("cache_expiration_time"):  # the login's own one may be the later one, and be there still
            backend.wait_for(lambda: len(backend.open_connections()) == count, "not only spares are there")
        return system, backend
    return start


def test_a_login_takes_one_and_sends_its_password_at_once(spares):
    system, backend = spares()
    [spare] = backend.open_connections()
    assert not spare.commands, "the greeting had the list"
    with system.session("anna", reused=False) as client:
        assert backend.logins[-1].conn is spare
        assert [command.verb for command in spare.commands] == ["AUTHENTICATE"]
        assert b"<anna>" in client.ok("SELECT INBOX").text + client.ok("FETCH 1 BODY[]").text
    system.wait_counter("spares_taken", 1)
    wait_spares(system, 1)
    assert backend.accepted[-1] is not spare


def test_the_list_is_asked_for_ahead_when_the_greeting_has_none(spares, make):
    system, backend = spares(backend=make.backend(greeting=LIST_ASKED))
    [spare] = backend.open_connections()
    assert [command.verb for command in spare.commands] == ["CAPABILITY"]
    with system.session("anna", reused=False):
        assert [command.verb for command in spare.commands] == ["CAPABILITY", "AUTHENTICATE"]


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_tls_is_made_ahead(make, backend, mode):
    system = make.system(backend, binaries=idle_binaries(), spare_backend_connections=1, server_tls=mode)
    with Relay(system) as relay:
        use(system)
        wait_spares(system, 1)
        made = len(relay.requests)
        with system.session("anna", reused=False):
            verbs = [command.verb for command in backend.logins[-1].conn.commands]
            assert verbs == (["CAPABILITY"] if mode == "starttls" else []) + ["AUTHENTICATE"]
            system.wait_counter("spares_taken", 1)
        wait_spares(system, 1)
        assert len(relay.requests) == made + 1, "only for the next spare"


def test_its_connection_is_cached_like_any_other(spares):
    system, backend = spares(cache_expiration_time=300)
    system.wait_given()
    system.session("anna", reused=False).logout()
    system.wait_given()
    system.session("anna", reused=True).logout()
    assert [login.user for login in backend.logins] == ["first", "anna"]


def test_a_wrong_password_is_refused_as_ever(spares):
    system, backend = spares()
    with system.client() as client:
        assert b"[AUTHENTICATIONFAILED]" in client.login("anna", "wrong").tagged
        assert client.login("anna", "pw-anna").ok
    assert len(backend.logins) == 3


def test_none_without_a_login(make, backend):
    system = make.system(backend, spare_backend_connections=2)
    wait_until(lambda: backend.accepted, "no look at the start")
    with system.client() as client:
        client.ok("NOOP")
    assert len(backend.accepted) == 1 and system.gauge("spares") == 0


def test_several_are_made_one_after_the_other(spares):
    system, backend = spares(3)
    with system.session("a"), system.session("b"), system.session("c"):
        system.wait_counter("spares_taken", 3)
    assert system.counter("spares_died") == 0
    wait_spares(system, 3)


def test_an_old_one_is_replaced(spares):
    system, backend = spares(spare_backend_age=5)
    [spare] = backend.open_connections()
    assert spare.closed.wait(5 + DEADLINE)
    wait_until(lambda: backend.accepted[-1] is not spare and system.gauge("spares") == 1, "no other one")
    assert system.counter("spares_died") == 0
    system.session("anna", reused=False)


@pytest.mark.parametrize("end", ["BYE", "hang-up"])
def test_one_that_the_mail_host_ends_goes(spares, end):
    system, backend = spares()
    [spare] = backend.open_connections()
    if end == "BYE":
        spare.push(b"* BYE idle for too long\r\n")
    else:
        spare.drop()
    system.wait_counter("spares_died", 1)
    assert system.session("anna", reused=False)
    assert backend.logins[-1].conn is not spare


@pytest.mark.parametrize("death", [CLOSE, b"* BYE too late\r\n"])
def test_one_that_dies_under_the_login_is_not_the_clients_trouble(spares, death):
    """It is alive when it is taken, and ends instead of answering."""
    system, backend = spares(2, login_attempts=1)
    taken = []

    def die(conn):
        taken.append(conn)
        if death is not CLOSE:
            conn.push(death)
        return conn.drop()

    class Once(dict):
        def __contains__(self, verb):
            return dict.__contains__(self, verb) and not taken
    backend.answers = Once(AUTHENTICATE=die)
    with system.session("anna", reused=False) as client:
        client.ok("NOOP")
    assert len(taken) == 1
    system.wait_counter("spares_died", 1)
    assert system.counter("logins_failed") == 0
    assert system.counter("logins_refused") == 0


def test_a_host_that_ends_all_logins_is_tried_once_more_only(spares):
    system, backend = spares()
    backend.answers["AUTHENTICATE"] = CLOSE
    with system.client() as client:
        assert b"[UNAVAILABLE]" in client.login("anna", "pw-anna").tagged
    closed = [conn for conn in backend.connections if "AUTHENTICATE" in [c.verb for c in conn.commands]]
    assert len(closed) == 1 + 2, "the first login, the spare, and one that was dialled"


def test_a_host_that_is_down_is_left_alone(spares):
    system, backend = spares(host_retry=600, connect_retries=0)
    backend.deaf()
    backend.open_connections()[-1].drop()
    system.wait_counter("spares_died", 1)
    system.wait_counter("dials_failed", 1)
    with system.client() as client:
        assert b"[UNAVAILABLE]" in client.login("anna", "pw-anna").tagged
    system.wait_counters(logins_failed=1, dials_failed=1)


def test_the_pause_grows_when_none_lives(spares):
    system, backend = spares()
    for number in range(1, 4):
        wait_spares(system, 1)
        begun = time.monotonic()
        backend.open_connections()[-1].drop()
        system.wait_counter("spares_died", number)
        wait_spares(system, 1)
        assert time.monotonic() - begun > 2 ** (number - 1) - 0.2


@pytest.mark.parametrize("greeting", [b"* BYE full\r\n", b"* PREAUTH as somebody\r\n", b"220 mail ESMTP\r\n",
                                      b"* OK [CAPABILITY IMAP4rev1 " + b"X" * 2100 + b"] long\r\n",
                                      b"* OK [CAPABILITY IMAP4rev1] and\r\n* more than was asked for\r\n"])
def test_an_odd_greeting_makes_no_spare(make, greeting):
    backend = make.backend()
    system = make.system(backend, spare_backend_connections=1, backend_timeout=5)
    use(system)
    wait_spares(system, 1)
    backend.greeting = greeting
    use(system, "second")
    count = len(backend.accepted)
    backend.wait_for(lambda: len(backend.accepted) > count + 1, "no second try")
    assert system.gauge("spares") == 0
    assert system.counter("spares_died") == 0


def test_a_mail_host_that_never_greets_holds_no_login_up(make):
    backend = make.backend()
    system = make.system(backend, spare_backend_connections=1, host_max_connections=3)
    use(system)
    wait_spares(system, 1)
    backend.greeting = b""
    with system.session("second"):  # takes the spare; the next one waits for a greeting
        count = len(backend.accepted)
        backend.wait_for(lambda: len(backend.accepted) >= count, "no further one")
        wait_until(lambda: system.counter("errands") >= 2, lambda: f"{system.stats()}")
        backend.greeting = b"* OK [CAPABILITY " + backend.before.encode() + b"] ready\r\n"
        with system.session("third", reused=False) as client:  # there is room: a spare gives way
            client.ok("NOOP")
            system.wait_counter("logins", 3)
            assert system.counter("evicted") == 0, "and nothing else does"


def test_a_login_has_the_room_of_a_spare(spares):
    system, backend = spares(1, host_max_connections=2, cache_expiration_time=300)
    system.wait_given()
    wait_spares(system, 1)
    assert system.gauge("cached") == 1, "the spare has found room beside it"
    with system.session("first", reused=True):
        with system.session("anna", reused=False):
            wait_spares(system, 0)
            with system.client() as client:
                assert b"[LIMIT]" in client.login("bert", "pw-bert").tagged


def test_no_idle_connection_makes_room_for_a_spare(make, backend):
    system = make.system(backend, spare_backend_connections=4, host_max_connections=3)
    for user in ("a", "b"):
        system.session(user).logout()
        system.wait_given()
    wait_spares(system, 1)
    system.wait_cached(2)
    assert system.counter("evicted") == 0
    rows = system.stats()["hosts"]
    assert [(row["active"], row["cached"]) for row in rows] == [(0, 2)], "a spare is neither"


def test_cache_size_counts_them(make, backend):
    system = make.system(backend, spare_backend_connections=8, cache_size=3)
    use(system)
    wait_spares(system, 2)
    system.wait_cached(1)
    with system.session("a"), system.session("b"), system.session("c"):
        wait_spares(system, 0)


def test_a_reload_closes_them_and_an_end_of_the_setting_makes_no_new_ones(spares):
    system, backend = spares(2)
    old = backend.open_connections()
    system.write_config(spare_backend_connections=0)
    system.supervisor.send_signal(signal.SIGHUP)
    for conn in old:
        assert conn.closed.wait(10)
    wait_spares(system, 0)
    system.session("anna", reused=False)
    assert system.gauge("spares") == 0


def test_a_master_login_takes_none(make, backend):
    master = {"auth_sasl_plain_username": "master", "auth_sasl_plain_password": "m", "auth_shared_secret": "shared"}
    backend.passwords = {"anna": b"m", "bert": b"m"}
    system = make.system(backend, spare_backend_connections=1, **master)
    with system.client() as client:
        assert client.login("anna", "shared").ok
    wait_spares(system, 1)
    with system.client() as client:
        assert client.login("bert", "shared").ok
    system.wait_counters(logins=2, spares_taken=0)


# --- what a session may say ---------------------------------------------------------------------------------
def test_a_spare_is_leased_as_greeted_with_its_list(spares):
    system, backend = spares()
    with session(system) as peer:
        lease = peer.lease(user="anna")
        assert (lease.greeted, lease.cached, lease.offered) == (1, 0, backend.before.encode())


def test_dead_spares_buy_no_tries_at_passwords(spares):
    system, _ = spares(4, login_attempts=2)
    with session(system) as peer:
        assert peer.lease(user="anna", password="one").greeted == 1
        peer.outcome(STALE)
        again = peer.ask_lease(user="anna", password="two")  # not the same: refused
        assert again.name == "REFUSED" and again.reason == 4
        lease = peer.lease(user="anna", password="one")
        assert lease.greeted == 0, "no spare any more"
        peer.outcome(STALE)
        peer.expect_cut_off()
    system.wait_counter("bad_messages", 1)


def test_knocking_again_buys_none_either(spares):
    system, _ = spares(1, login_attempts=3)
    for number in range(3):
        wait_spares(system, 1)
        with Door(system) as door, door.knock() as peer:  # which gets no errand: it is a listener, too
            assert peer.lease(user="anna", password=f"guess {number}").greeted == 1
            peer.outcome(STALE)
        system.wait_counter("spares_taken", number + 1)
    with Door(system) as door, door.knock() as peer:  # one of the three was free
        peer.lease(user="anna")
        peer.outcome(REFUSED)
        assert peer.ask_lease(user="anna").reason == REFUSAL_ATTEMPTS


def test_the_repetition_costs_no_attempt(spares):
    system, _ = spares(1, login_attempts=1)
    with session(system) as peer:
        assert peer.lease(user="anna").greeted == 1
        peer.outcome(STALE)
        assert peer.lease(user="anna").greeted == 0
        peer.outcome(ACCEPTED)


def test_a_spare_that_was_logged_in_on_cannot_be_called_dead(spares):
    system, _ = spares()
    with session(system) as peer:
        assert peer.lease(user="anna").greeted == 1
        peer.outcome(ACCEPTED)
        peer.outcome(STALE)
        peer.expect_cut_off()


# --- many mail hosts ----------------------------------------------------------------------------------------
class Names(Peer):
    """A look-up worker of ours: each user has a mail host of another name, all at one address."""

    def __init__(self, system, port):
        super().__init__(system, "lookup")
        self.port = port
        self.push("WORKER")
        session(system).sock.close()  # when that has been served, we have been seen
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        self.sock.settimeout(None)
        with contextlib.suppress(OSError, AssertionError):
            while True:
                question = self.receive()
                if question.name == "LOOKUP":
                    self.push("ACCOUNT", serial=question.serial, status=1, backend_user=question.user,
                              hosts=b"0 %d %s" % (self.port, question.user))
                else:
                    self.push("ADDRESSES", serial=question.serial, addresses="127.0.0.1")


def test_spares_of_many_hosts_leave_places_for_the_errands_of_logins(make):
    """All of these hosts keep an errand waiting for their greeting."""
    backend = make.backend(greeting=b"")
    system = make.system(backend, spare_backend_connections=1, cache_expiration_time=0)
    with Names(system, backend.port), contextlib.ExitStack() as stack:
        for number in range(20):  # much faster than spares are begun
            stack.enter_context(session(system)).lease(user=f"user{number}")
        wait_until(lambda: system.counter("errands") >= 12, lambda: f"{system.stats()}\n{system.log_text()}")
        threading.Event().wait(0.5)  # several turns in which there could be more
        assert system.counter("errands") == 12
        assert len(backend.accepted) <= 1 + 20 + 12, "none is dialled for nothing"


def test_a_token_on_one_leaves_the_passwords_connections_alone(make):
    backend = make.backend(tokens={"anna": {b"good"}}, before=tokens.BEFORE)
    system = make.system(backend, auth_mechanisms=tokens.OFFERED, spare_backend_connections=1)
    system.session("anna").logout()
    system.wait_given()
    wait_spares(system, 1)
    tokens.session(system, "anna", "good", reused=False).logout()
    system.wait_counter("spares_taken", 1)
    system.wait_given()
    system.session("anna", reused=True).close()
    assert system.counter("superseded") == 0
