"""TLS_ACCEPT of sessions, and a tlsrelayd that is away, dies or lies (keepwarm/relay.py): what the broker makes of it."""
import os
import select
import signal
import socket
import threading
import time

import pytest

from keepwarm import certs
from keepwarm import relay as relays
from keepwarm.messages import ACCEPTED, Door, Peer, session
from keepwarm.process import frozen, wait_until
from keepwarm.relay import Relay, failing, idle_binaries
from keepwarm.scene import tcp_pair

WITH_TLS = {"server_tls": "implicit", "binaries": idle_binaries()}


def accept(peer, sock, service=1, client=""):
    """Sends TLS_ACCEPT; the serial."""
    peer.serial += 1
    peer.push("TLS_ACCEPT", fds=[sock.fileno()], serial=peer.serial, service=service, client=client)
    return peer.serial


@pytest.fixture
def pair():
    ends = tcp_pair()
    yield ends
    for end in ends:
        end.close()


# --- clients ----------------------------------------------------------------------------------------------
def test_a_session_gets_the_stream_and_its_facts_are_seen(scene, pair):
    system = scene.system
    with Relay(system) as relay, session(system) as peer:
        serial = accept(peer, pair[1], client="198.51.100.66")
        ready = peer.receive()
        assert (ready.name, ready.serial, ready.version) == ("TLS_READY", serial, b"TLSv1.3")
        assert relay.requests[0].client == b"192.0.2.1", "the broker says who it is, not the session"
        pair[1].close()
        pair[0].sendall(b"ping")
        ready.sock.setblocking(True)
        assert ready.sock.recv(4) == b"ping"
        assert ready.sock.type == socket.SOCK_STREAM
        lease = peer.lease(user="anna")
        assert lease.name == "LEASED"
        peer.outcome(ACCEPTED)

        def facts():
            return [row["tls"] for row in system.stats()["sessions"] if row["user"] == "anna"]
        wait_until(lambda: facts() == [{"version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384",
                                        "name": "mail.example.org"}], lambda: f"{system.stats()['sessions']}")
        others = [row["tls"] for row in system.stats()["sessions"] if row["user"] == "bystander"]
        assert others == [None]
    system.wait_counter("tls_handshakes", 1)
    scene.check(bad=0)


def test_a_failed_handshake_is_told_and_the_session_may_go_on(scene, pair):
    with Relay(scene.system, answer=failing(relays.HANDSHAKE, "no shared cipher")), session(scene.system) as peer:
        serial = accept(peer, pair[1])
        failed = peer.receive()
        assert (failed.name, failed.serial, failed.text) == ("TLS_FAILED", serial, b"no shared cipher")
        assert peer.lease(user="anna").name == "LEASED"
    scene.system.wait_counter("tls_handshakes_failed", 1)
    scene.check(bad=0)


@pytest.mark.parametrize("wrong", ["twice", "without serial", "another service", "a pipe", "a unix socket",
                                   "while it runs", "a lease while it runs", "after a login", "before hello"])
def test_a_session_that_asks_when_it_must_not_is_cut_off(scene, pair, wrong):
    system = scene.system
    answer = None if wrong in ("while it runs", "a lease while it runs") else "splice"
    with Relay(system, answer=answer) as relay, session(system) as peer:
        garbage = {"a pipe": os.pipe()[0], "a unix socket": socket.socketpair()[0].detach()}
        if wrong == "twice":
            accept(peer, pair[1])
            assert peer.receive().name == "TLS_READY"
        elif wrong in ("while it runs", "a lease while it runs"):
            accept(peer, pair[1])
            relay.wait_requests(1)
        elif wrong == "after a login":
            peer.lease(user="anna")
            peer.outcome(ACCEPTED)
            peer.outcome(4)  # stale, but it was fresh: that alone ends it
        if wrong in garbage:
            peer.push("TLS_ACCEPT", fds=[garbage[wrong]], serial=1, service=1)
        elif wrong == "without serial":
            peer.push("TLS_ACCEPT", fds=[pair[1].fileno()], serial=0, service=1)
        elif wrong == "a lease while it runs":
            peer.push("LEASE", serial=9, proof_kind=1, user="anna", secret="pw-anna")
        elif wrong == "before hello":
            with Peer(system) as unknown:
                accept(unknown, pair[1])
                unknown.expect_cut_off()
        elif wrong != "after a login":
            accept(peer, pair[1], service=7 if wrong == "another service" else 1)
        if wrong != "before hello":
            peer.expect_cut_off()
        for number in garbage.values():
            os.close(number)
    scene.check(bad=1)


def test_a_leased_session_may_not_ask(scene, pair):
    with Relay(scene.system), session(scene.system) as peer:
        peer.lease(user="anna")
        accept(peer, pair[1])
        peer.expect_cut_off()
    scene.check(bad=1)


def test_knocking_again_brings_no_further_handshakes(scene, pair):
    """A child that was taken over hands its connection over again and again; tlsrelayd would be full of that. One that was
    not has a reason for it once: a broker that died."""
    with Relay(scene.system, answer=None) as relay, Door(scene.system) as door:
        for count in (1, 2):
            with door.knock() as peer:
                accept(peer, pair[1])
                relay.wait_requests(count)
        for _ in range(10):
            with door.knock() as peer:
                accept(peer, pair[1])
                peer.expect_cut_off()
        with door.knock() as peer:  # nothing else is forbidden to it
            assert peer.lease(user="anna").name == "LEASED"
        assert len(relay.requests) == 2
    scene.check(bad=10)


def test_a_session_that_has_gone_leaves_nothing(scene, pair):
    system = scene.system
    scene.check()  # now the cache has its connection, too
    system.wait_cached(1)
    system.wait_clients(1)
    held = system.fds()["cachebrokerd"]
    with Relay(system, answer=None) as relay:
        with session(system) as peer:
            accept(peer, pair[1])
            request = relay.wait_requests(1)
        wait_until(lambda: system.gauge("clients") == 1, lambda: f"{system.stats()}")
        relay.splice(request)  # too late
        scene.check(bad=0)
        assert not relay.gone.is_set()
    wait_until(lambda: system.fds()["cachebrokerd"] == held, lambda: f"{system.fds()}, before {held}")


def test_listeners_hear_what_the_relay_serves(make, backend):
    system = make.system(backend)
    with Door(system) as door:
        with Relay(system, serves=1):
            welcome = door.listener.receive()
            assert (welcome.name, welcome.starttls) == ("WELCOME", 1) and welcome.settings != door.settings
            assert door.listener.receive().name == "POOL"
        with Relay(system, serves=1) as again:  # at once: nobody hears of it
            again.push("TLS_STATE", workers=3)
            wait_until(lambda: system.gauge("tls_workers") == 3, "it is not there")
            system.write_config(login_timeout=77)
            system.supervisor.send_signal(signal.SIGHUP)
            welcome = door.listener.receive()
            assert (welcome.login_timeout, welcome.starttls) == (77, 1)
            assert door.listener.receive().name == "POOL"
            again.push("RELAY", serves=0)
            assert door.listener.receive().starttls == 0


def test_welcome_says_what_is_required(make, backend, tmp_path):
    mine = certs.self_signed(tmp_path, "mail.test")
    system = make.system(backend, binaries=idle_binaries(), require_tls="yes", plaintext_addresses="127.0.0.0/8",
                         tls_server_cert_file=mine.path, tls_server_key_file=mine.key_path)
    with Door(system) as door, door.knock(settings=1) as peer:
        welcome = peer.receive()
        assert (welcome.require_tls, welcome.plaintext_addresses, welcome.starttls) == (1, b"127.0.0.0/8", 1)


# --- tlsrelayd is away, or dies -----------------------------------------------------------------------------
def test_a_client_waits_for_a_relay_that_comes(scene, pair):
    with session(scene.system) as peer:
        accept(peer, pair[1])
        with Relay(scene.system):
            assert peer.receive().name == "TLS_READY"
    scene.check(bad=0)


def test_without_a_relay_client_and_login_are_told_so(make, backend, pair):
    system = make.system(backend, **WITH_TLS)
    with session(system) as peer:
        accept(peer, pair[1])
        begun = time.monotonic()
        failed = peer.receive()
        assert (failed.name, failed.reason) == ("TLS_FAILED", relays.UNAVAILABLE)
        assert time.monotonic() - begun < 9
    with system.client() as client:
        assert b"[UNAVAILABLE]" in client.login("anna", "pw-anna").tagged
    assert backend.everything() == b""
    assert system.log_text().count("tlsrelayd is not there") == 1 + 1, "once, and why the login failed"
    with Relay(system) as relay:  # and nobody has blamed the mail host
        system.session("anna")
        assert len(relay.requests) == 1


def test_only_so_many_clients_wait_for_a_relay(scene):
    def answered(waiting):
        ready = select.select([peer.sock for peer in waiting], [], [], 0)[0]
        return [peer for peer in waiting if peer.sock in ready]

    def six_of_seventy_are_refused():
        """If all is done within the two seconds for which a client waits."""
        peers, ends = [session(scene.system) for _ in range(70)], [tcp_pair() for _ in range(70)]
        for peer, (_, theirs) in zip(peers, ends):
            accept(peer, theirs)
            theirs.close()
        refused = wait_until(lambda: len(found := answered(peers)) >= 6 and found, "too many wait")
        told = [peer.receive() for peer in refused]
        assert {(failed.name, failed.reason) for failed in told} == {("TLS_FAILED", relays.UNAVAILABLE)}
        with Relay(scene.system):
            names = {peer.receive().name for peer in peers if peer not in refused}
        for sock in (*(mine for mine, _ in ends), *(peer.sock for peer in peers)):
            sock.close()
        return names == {"TLS_READY"} and [failed.text for failed in told] == [b"too many wait for tlsrelayd"] * 6
    assert any(six_of_seventy_are_refused() for _ in range(4))
    scene.check(bad=0)


def test_a_login_is_dialled_again_when_the_relay_dies_over_it(make, backend, pair):
    system = make.system(backend, host_retry=600, **WITH_TLS)
    with Relay(system) as first:
        system.wait_counter("tls_backend_handshakes", 1)  # the look at the start
        first.answer = None
        with system.client() as client, session(system) as peer:
            client.send("a1 LOGIN anna pw-anna\r\n")
            accept(peer, pair[1])
            first.wait_requests(3)
            first.die()
            with Relay(system):
                assert client.reply("a1").ok
                assert peer.receive().reason == relays.UNWATCHED
                accept(peer, pair[1])
                assert peer.receive().name == "TLS_READY", "a session has its client's connection, and asks anew"


def begin(relay, request):
    """What is true of a handshake under way: the stream is out, its answer not."""
    theirs = relay.stream(request)
    relay.push("TLS_BEGUN", fds=[theirs.fileno()], serial=request.serial)
    theirs.close()


def test_a_client_has_its_stream_before_the_handshake_is_done(scene, pair):
    """And keeps it when tlsrelayd dies: nobody else gets the connection then."""
    with Relay(scene.system, answer=begin) as first, session(scene.system) as peer:
        serial = accept(peer, pair[1])
        begun = peer.receive()
        assert (begun.name, begun.serial, begun.sock.type) == ("TLS_BEGUN", 0, socket.SOCK_STREAM)
        first.peer.sock.shutdown(socket.SHUT_RDWR)
        failed = peer.receive()
        assert (failed.name, failed.serial, failed.reason) == ("TLS_FAILED", serial, relays.UNWATCHED)
        with Relay(scene.system) as second:
            assert peer.lease(user="anna").name == "LEASED"
            assert second.requests == []
        begun.sock.setblocking(True)
        pair[0].sendall(b"ping")
        assert begun.sock.recv(4) == b"ping"
    scene.check(bad=0)


@pytest.mark.parametrize("busy", ["reads first", "sends first"])
def test_a_relay_that_dies_with_requests_unread_is_heard_to_its_last_word(scene, busy):
    """Else a connection that a worker has would be given to the next tlsrelayd, too."""
    may_go, (a, b), (c, d), (e, f) = threading.Event(), tcp_pair(), tcp_pair(), tcp_pair()
    relay = Relay(scene.system, answer=lambda *_: may_go.wait())
    with session(scene.system) as one, session(scene.system) as two, session(scene.system) as three:
        accept(one, b)
        request = relay.wait_requests(1)
        accept(two, d)
        wait_until(lambda: select.select([relay.peer.sock], [], [], 0)[0], "the second request does not come")
        with frozen(scene.broker[0]):
            if busy == "sends first":
                accept(three, f)
            begin(relay, request)
            relay.peer.sock.close()
        begun, failed = one.receive(), one.receive()
        assert (begun.name, failed.name, failed.reason) == ("TLS_BEGUN", "TLS_FAILED", relays.UNWATCHED)
        assert two.receive().reason == relays.UNWATCHED, "and nothing of TLS_BEGUN"
        accept(two, d)
        if busy == "reads first":
            accept(three, f)
        with Relay(scene.system) as second:
            assert (two.receive().name, three.receive().name) == ("TLS_READY", "TLS_READY")
            assert len(second.requests) == 2
    may_go.set()
    relay.die()
    for sock in (a, b, c, d, e, f):
        sock.close()
    scene.check(bad=0)


def test_a_session_may_ask_once_more_only(scene, pair):
    with session(scene.system) as peer:
        for _ in range(2):
            with Relay(scene.system, answer=None) as relay:
                serial = accept(peer, pair[1])
                relay.wait_requests(1)
            failed = peer.receive()
            assert (failed.name, failed.serial, failed.reason) == ("TLS_FAILED", serial, relays.UNWATCHED)
        accept(peer, pair[1])
        peer.expect_cut_off()
    scene.check(bad=1)


def test_a_session_that_may_have_let_go_does_not_ask_again(scene, pair):
    with session(scene.system) as peer:
        with Relay(scene.system, answer=begin):
            accept(peer, pair[1])
            assert peer.receive().name == "TLS_BEGUN"
        assert peer.receive().reason == relays.UNWATCHED
        accept(peer, pair[1])
        peer.expect_cut_off()
    scene.check(bad=1)


def test_that_happens_once(make, backend):
    system = make.system(backend, **WITH_TLS)
    first = Relay(system)
    system.wait_counter("tls_backend_handshakes", 1)  # the look at the start
    first.answer = None
    with system.client() as client:
        client.send("a1 LOGIN anna pw-anna\r\n")
        first.wait_requests(2)
        first.die()
        with Relay(system, answer=None) as second:
            second.wait_requests(1)
        assert b"[UNAVAILABLE]" in client.reply("a1").tagged
    assert backend.everything() == b""


def test_a_relay_that_never_answers_is_not_waited_for_long(make, backend, pair):
    system = make.system(backend, tls_handshake_timeout=1)
    with Relay(system, answer=None), session(system) as peer:
        accept(peer, pair[1])
        failed = peer.receive()
        assert (failed.name, failed.reason) == ("TLS_FAILED", relays.TIMEOUT)


def test_a_new_relay_gets_new_requests_and_the_old_one_finishes(scene):
    with Relay(scene.system, answer=None) as old, session(scene.system) as one, session(scene.system) as two:
        (a, b), (c, d) = tcp_pair(), tcp_pair()
        accept(one, b)
        request = old.wait_requests(1)
        with Relay(scene.system) as new:
            new.push("TLS_STATE", workers=1)
            wait_until(lambda: scene.system.gauge("tls_workers") == 1, "the new one is not there")
            accept(two, d)
            assert two.receive().name == "TLS_READY"
            assert (len(old.requests), len(new.requests)) == (1, 1)
            old.splice(request)
            assert one.receive().name == "TLS_READY"
        for sock in (a, b, c, d):
            sock.close()
    scene.check(bad=0)


# --- a relay that lies --------------------------------------------------------------------------------------
def wrong_serial(relay, request):
    relay.splice(request, serial=request.serial + 1)


def no_serial(relay, request):
    relay.splice(request, serial=0)


def a_pipe(relay, request):
    ends = os.pipe()
    relay.push("TLS_READY", fds=[ends[0]], serial=request.serial)
    for end in ends:
        os.close(end)


def a_packet_socket(relay, request):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    relay.push("TLS_READY", fds=[theirs.fileno()], serial=request.serial)
    ours.close()
    theirs.close()


def the_client_itself(relay, request):
    relay.push("TLS_READY", fds=[request.sock.fileno()], serial=request.serial)


def another_message(relay, request):
    relay.push("TLS_ACCEPT", fds=[request.sock.fileno()], serial=request.serial, service=1)


def begun_twice(relay, request):
    begin(relay, request)
    begin(relay, request)


def begun_with_a_pipe(relay, request):
    relay.push("TLS_BEGUN", fds=[os.pipe()[0]], serial=request.serial)


@pytest.mark.parametrize("lie", [begun_with_a_pipe, wrong_serial, no_serial, a_pipe, a_packet_socket, the_client_itself,
                                 another_message])
def test_a_relay_that_lies_is_cut_off_and_its_requests_fail(scene, pair, lie):
    with Relay(scene.system, answer=lie) as relay, session(scene.system) as peer:
        accept(peer, pair[1])
        relay.wait_cut_off()
        failed = peer.receive()
        assert (failed.name, failed.reason) == ("TLS_FAILED", relays.UNWATCHED)
    scene.check(bad=1)


def test_what_has_begun_begins_once(scene, pair):
    with Relay(scene.system, answer=begun_twice) as relay, session(scene.system) as peer:
        accept(peer, pair[1])
        assert peer.receive().name == "TLS_BEGUN"
        relay.wait_cut_off()
        assert peer.receive().name == "TLS_FAILED"
    scene.check(bad=1)


def test_a_second_answer_is_late(scene, pair):
    def twice(relay, request):
        relay.splice(request)
        relay.splice(request)
    with Relay(scene.system, answer=twice) as relay, session(scene.system) as peer:
        accept(peer, pair[1])
        assert peer.receive().name == "TLS_READY"
        scene.check(bad=0)
        assert not relay.gone.is_set()


@pytest.mark.parametrize("first", ["an answer", "figures"])
def test_who_has_not_introduced_itself_is_heard_of_nothing(scene, first):
    with Relay(scene.system, hello=False) as relay:
        if first == "figures":
            relay.push("TLS_STATE", workers=9)
        else:
            relay.push("TLS_FAILED", serial=1, reason=1)
        relay.wait_cut_off()
    scene.check(bad=1)


def test_an_answer_to_nothing_ends_the_relay(scene):
    with Relay(scene.system) as relay:
        ours, theirs = socket.socketpair()
        relay.push("TLS_READY", fds=[theirs.fileno()], serial=7)
        relay.wait_cut_off()
        ours.close()
        theirs.close()
    scene.check(bad=1)


def test_another_relays_request_cannot_be_answered(scene, pair):
    with Relay(scene.system, answer=None) as old, session(scene.system) as peer:
        accept(peer, pair[1])
        request = old.wait_requests(1)
        with Relay(scene.system) as new:
            new.splice(request)
            new.wait_cut_off()
        old.splice(request)
        assert peer.receive().name == "TLS_READY"
    scene.check(bad=1)


def test_what_it_says_of_tls_cannot_forge_anything(scene, pair):
    facts = {"version": b"TLSv1.3\r\nforged", "cipher": "C", "name": "\x1b[2J"}
    with Relay(scene.system, answer=lambda relay, request: relay.splice(request, **facts)), session(scene.system) as peer:
        accept(peer, pair[1])
        ready = peer.receive()
        assert (ready.version, ready.cipher, ready.sni) == (b"", b"C", b"")
    scene.check(bad=0)


def test_its_figures_are_shown_and_go_with_it(scene):
    system = scene.system
    with Relay(system) as relay:
        relay.push("TLS_STATE", workers=2, connections=31, truncated=4, workers_lost=1)
        relay.push("TLS_STATE", workers=2, connections=30, truncated=1)
        wait_until(lambda: system.gauge("tls_connections") == 30, lambda: f"{system.stats()['gauges']}")
        assert system.gauge("tls_workers") == 2
        system.wait_counter("tls_truncated", 5)
        assert system.counter("tls_workers_lost") == 1
    wait_until(lambda: system.gauge("tls_connections") == 0, lambda: f"{system.stats()['gauges']}")
    scene.check(bad=0)


def test_too_many_relays_are_turned_away(scene):
    crowd = [Relay(scene.system, hello=False) for _ in range(8)]
    with Relay(scene.system, hello=False) as one_more:
        one_more.wait_cut_off()
    for relay in crowd:
        relay.die()
    scene.check()


def test_a_relay_that_stands_still_gets_all_requests_when_it_goes_on(make, backend):
    """Its socket is full meanwhile; that is no reason to give it up."""
    system = make.system(backend, spare_processes="1 1", tls_handshake_timeout=60)
    goes_on = threading.Event()

    def answer(relay, request):
        goes_on.wait(30)
        relay.fail(request)
    with Relay(system, answer=answer) as relay:
        peers = [session(system) for _ in range(320)]
        ends = tcp_pair()
        for peer in peers:
            accept(peer, ends[1])
        with session(system) as last:  # who comes behind them all has been heard
            last.outcome(ACCEPTED)
            last.expect_cut_off()
        goes_on.set()
        assert {peer.receive().reason for peer in peers} == {relays.HANDSHAKE}
        assert len(relay.requests) == len(peers) and not relay.gone.is_set()
    for sock in (*ends, *(peer.sock for peer in peers)):
        sock.close()
