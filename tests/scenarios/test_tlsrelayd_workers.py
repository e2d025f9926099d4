"""tlsrelayd with the test as its broker: its processes, and floods."""
import contextlib
import os
import random
import resource
import select
import signal
import ssl
import threading
import time

import pytest

from keepwarm import certs
from keepwarm.handover import LET_GO
from keepwarm.process import alive, cpu_share, frozen, memory, socket_inodes, tcp_inode, wait_until
from keepwarm.tlsrelay import (DEADLINE, LOST, TIMEOUT, UNAVAILABLE, client_context, open_to, plain_end, readable, read_exactly, read_fails,
                               read_to_end, serving, tcp_pair)


# --- processes ------------------------------------------------------------------------------------------------
def test_a_dead_worker_takes_only_its_own(tmp_path, authority, mail):
    with serving(tmp_path, mail, tls_sessions_per_worker=1) as relay:
        first, _, first_plain = relay.accept(client_context(authority))
        (victim,) = relay.workers()
        second, _, second_plain = relay.accept(client_context(authority))
        assert len(relay.workers()) == 2
        os.kill(victim, signal.SIGKILL)
        assert read_to_end(first_plain) == b""
        assert read_fails(first)
        second.sendall(b"still here")
        assert second_plain.recv(20) == b"still here"
        relay.wait_log(f"worker {victim} ended with signal 9")
        relay.wait_pushed("TLS_STATE", lambda state: state.workers_lost == 1)
        relay.accept(client_context(authority))


def test_who_waits_for_a_worker_that_dies_is_told(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        ours, theirs = tcp_pair()
        serial = relay.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.7")
        wait_until(relay.workers, "no worker")
        os.kill(relay.workers()[0], signal.SIGKILL)
        assert relay.answer(serial).reason == LOST
        ours.close()
        relay.accept(client_context(authority))


def test_an_end_that_somebody_else_still_holds_is_watched_no_more(tmp_path, authority, mail):
    """As the session or the broker may, that have not closed theirs yet; the client goes on meanwhile."""
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority))
        ours, theirs = tcp_pair()
        held = theirs.dup()
        serial = relay.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.8")
        ours.sendall(b"this is no TLS\r\n" * 10)
        assert relay.answer(serial).name == "TLS_FAILED"
        before = relay.workers()
        for _ in range(20):
            ours.sendall(b"nor is this\r\n")
        assert cpu_share(before, 0.3) < 0.5
        client.sendall(b"a NOOP\r\n")
        assert plain.recv(100) == b"a NOOP\r\n" and relay.workers() == before
        for sock in (client, plain, ours, held):
            sock.close()


def test_with_one_session_per_worker_none_serves_two(tmp_path, authority, mail):
    with serving(tmp_path, mail, tls_sessions_per_worker=1) as relay:
        seen = set()
        for _ in range(3):
            client, _, plain = relay.accept(client_context(authority))
            busy = set(relay.workers())
            assert busy - seen, "an old worker got the new client"
            seen |= busy
            client.close()
            plain.close()
        wait_until(lambda: not relay.workers(), "workers that are used up stay")
        assert "ended with" not in relay.log()


def test_clients_and_mail_hosts_never_share_a_worker(tmp_path, authority, mail):
    with serving(tmp_path, mail, server_tls="implicit", tls_ca_file=authority.path) as relay:
        relay.accept(client_context(authority))
        first = set(relay.workers())
        open_to(relay, mail)
        assert len(relay.workers()) == len(first) + 1


def test_a_reload_brings_a_new_certificate_and_touches_no_session(tmp_path, authority, mail):
    fresh = authority.issue("mail.test", file="fresh")
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority))
        (old,) = relay.workers()
        relay.reload(tls_server_cert_file=fresh.path, tls_server_key_file=fresh.key_path)
        assert relay.wait_pushed("RELAY").serves == 1
        renewed, _, _ = relay.accept(client_context(authority))
        der = certs.serialization.Encoding.DER
        assert renewed.getpeercert(binary_form=True) == fresh.cert.public_bytes(der)
        client.sendall(b"untouched")
        assert plain.recv(20) == b"untouched"
        client.close()
        plain.close()
        wait_until(lambda: not alive(old), "the old worker stays")
        assert "ended with" not in relay.log()


def test_a_reload_that_is_no_good_changes_nothing(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        relay.write(tls_server_cert_file="/nonexistent.pem")
        os.kill(relay.process.pid, signal.SIGHUP)
        relay.wait_log("going on with the settings of before")
        assert "tls_server_cert_file: /nonexistent.pem: cannot be read: No such file" in relay.log()
        relay.accept(client_context(authority))


def test_a_new_broker_is_found_and_sessions_go_on(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority))
        assert relay.restart_broker().serves == 1
        client.sendall(b"still")
        assert plain.recv(10) == b"still"
        relay.accept(client_context(authority))


def test_a_master_that_is_killed_takes_no_session_with_it(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority))
        (worker,) = relay.workers()
        relay.process.kill()
        relay.process.wait()
        client.sendall(b"still")
        assert plain.recv(10) == b"still"
        client.close()
        plain.close()
        wait_until(lambda: not alive(worker), "the worker stays")


@pytest.mark.parametrize("lets_go", ["before", "behind"])
@pytest.mark.parametrize("dies", ["the broker", "the master"])
def test_a_handshake_under_way_needs_neither_broker_nor_master(tmp_path, authority, mail, dies, lets_go):
    with serving(tmp_path, mail) as relay:
        ours, theirs = tcp_pair()
        stream = relay.wait_begun(relay.request("TLS_ACCEPT", theirs, hold=True, service=1, client="192.0.2.1"))
        if lets_go == "before":
            stream.send(LET_GO)
        if dies == "the broker":
            relay.restart_broker()
        else:
            relay.process.kill()
            relay.process.wait()
        if lets_go == "behind":
            stream.send(LET_GO)
        client = client_context(authority).wrap_socket(ours, server_hostname="mail.test")
        stream.settimeout(DEADLINE)
        client.sendall(b"still")
        assert stream.recv(10) == b"still"
        stream.sendall(b"there")
        assert client.recv(10) == b"there"
        client.close()
        stream.close()


@pytest.mark.parametrize("says", [b"", b"x"], ids=["nothing", "another word"])
def test_a_connection_that_was_not_let_go_is_left_as_it_is(tmp_path, authority, mail, says):
    """Whoever still has it may give it to the next one."""
    with serving(tmp_path, mail) as relay:
        ours, theirs = tcp_pair()
        inode = tcp_inode(theirs.getsockname()[1], ours.getsockname()[1])
        client = threading.Thread(target=client_context(authority).wrap_socket, args=(ours,),
                                  kwargs={"server_hostname": "mail.test"})
        client.start()
        wait_until(lambda: readable(theirs) > 0, "no ClientHello comes")
        said = readable(theirs)
        for _ in range(2):
            serial = relay.request("TLS_ACCEPT", theirs.dup(), hold=True, service=1, client="192.0.2.1")
            with relay.wait_begun(serial) as stream:
                wait_until(lambda: any(inode in socket_inodes(pid) for pid in relay.workers()), "no worker has it")
                stream.sendall(says)
            relay.restart_broker()  # which has the other copy of the stream
            wait_until(lambda: not any(inode in socket_inodes(pid) for pid in relay.workers()), "a worker keeps it")
        assert readable(theirs) == said
        ready = relay.answer(relay.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.1"))
        assert ready.name == "TLS_READY"
        client.join(DEADLINE)
        assert not client.is_alive()


def test_a_master_that_hangs_does_not_hold_up_sessions(tmp_path, authority, mail):
    with serving(tmp_path, mail, tls_sessions_per_worker=1000) as relay:
        sessions = [relay.accept(client_context(authority)) for _ in range(350 * os.cpu_count())]
        staying = sessions[:2 * os.cpu_count()]  # of each worker
        with frozen(relay.process.pid):
            for client, _, plain in sessions[len(staying):]:
                plain.close()
                client.close()
            for client, _, plain in staying:  # more reports than the link holds: they wait once
                client.sendall(b"on")
                assert plain.recv(2) == b"on"
        relay.accept(client_context(authority))


def test_orphaned_it_ends_with_its_broker_but_its_sessions_do_not(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority))
        (worker,) = relay.workers()
        os.kill(relay.process.pid, signal.SIGUSR2)
        relay.accept(client_context(authority))[0].close()
        relay.broker.sock.close()
        assert relay.process.wait(15) == 0
        client.sendall(b"still")
        assert plain.recv(10) == b"still"
        client.close()
        plain.close()
        wait_until(lambda: not alive(worker), "the worker stays")


def test_a_stopped_worker_does_not_hold_up_the_end(tmp_path, authority, mail):
    with serving(tmp_path, mail) as relay:
        client, _, _ = relay.accept(client_context(authority))
        (worker,) = relay.workers()
        os.kill(worker, signal.SIGSTOP)
        relay.process.terminate()
        assert relay.process.wait(15) == 0
        assert read_fails(client)


def test_a_worker_that_does_not_answer_gets_no_more(tmp_path, authority, mail):
    with serving(tmp_path, mail, tls_handshake_timeout=3) as relay:
        running = [relay.accept(client_context(authority))]
        (stuck,) = relay.workers()
        while len(running) < 3 * os.cpu_count():
            running.append(relay.accept(client_context(authority)))
        with frozen(stuck):
            lost = []
            while not lost:
                ours, theirs = tcp_pair()
                ours.settimeout(8)
                serial = relay.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.7")
                try:
                    running.append(client_context(authority).wrap_socket(ours, server_hostname="mail.test"))
                    relay.answer(serial)
                except OSError:
                    lost.append(relay.answer(serial))
            assert lost[0].reason == TIMEOUT and b"does not answer" in lost[0].text
            relay.wait_log(f"worker {stuck} does not answer")
            for _ in range(3 * os.cpu_count()):
                running.append(relay.accept(client_context(authority)))
        running[0][0].sendall(b"still there")
        assert running[0][2].recv(20) == b"still there"


def test_reloads_and_dead_workers_under_load_disturb_nobody_else(tmp_path, authority, mail):
    """Sessions that talk all the time, through four reloads; then one worker is killed."""
    fresh = authority.issue("mail.test", file="fresh3")
    with serving(tmp_path, mail, tls_sessions_per_worker=2) as relay:
        first = [relay.accept(client_context(authority)) for _ in range(4)]
        doomed = set(relay.workers())
        stop, broken = threading.Event(), []
        threads = [threading.Thread(target=talk, args=(session, stop, broken), daemon=True) for session in first]
        for thread in threads:
            thread.start()
        for certificate in (fresh, mail, fresh, mail):
            relay.reload(tls_server_cert_file=certificate.path, tls_server_key_file=certificate.key_path)
        later = [relay.accept(client_context(authority)) for _ in range(4)]
        spared = [threading.Thread(target=talk, args=(session, stop, broken), daemon=True) for session in later]
        for thread in spared:
            thread.start()
        assert not broken
        for pid in doomed:
            os.kill(pid, signal.SIGKILL)
        for thread in threads:
            thread.join(15)
        assert sorted(broken) == sorted(id(session) for session in first)
        stop.set()
        for thread in spared:
            thread.join(15)
        assert len(broken) == 4


def talk(session, stop, broken):
    client, _, plain = session
    number = 0
    try:
        while not stop.is_set():
            number += 1
            line = b"%d " % number + bytes(number * 37 % 5000) + b"\r\n"
            client.sendall(line)
            assert read_exactly(plain, len(line)) == line
            plain.sendall(line)
            assert read_exactly(client, len(line)) == line
    except (OSError, AssertionError):
        broken.append(id(session))


def test_keys_are_only_in_the_workers_of_clients(tmp_path, authority, mail):
    with serving(tmp_path, mail, server_tls="implicit", tls_ca_file=authority.path) as relay:
        client, _, _ = relay.accept(client_context(authority))
        (with_keys,) = relay.workers()
        open_to(relay, authority.issue("mail.test", file="another"))
        (without,) = set(relay.workers()) - {with_keys}
        secret = mail.key.private_numbers().private_value.to_bytes(32, "little")
        assert holds(with_keys, secret), "else this test looks for the wrong thing"
        assert not holds(without, secret)
        assert client


def holds(pid, secret):
    """Has the process these bytes, in either order, or their PEM?"""
    content = memory(pid)
    return secret in content or secret[::-1] in content


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_what_has_passed_is_nowhere_in_the_workers_memory(tmp_path, authority, mail, version):
    with serving(tmp_path, mail) as relay:
        client, _, plain = relay.accept(client_context(authority, most=ssl.TLSVersion[version]))
        (worker,) = relay.workers()
        for here, there in ((plain, client), (client, plain)):
            secret = random.randbytes(3000)
            here.sendall(secret)
            assert read_exactly(there, len(secret)) == secret
            wait_until(lambda: secret[-20:] not in memory(worker), "a copy is left")


# --- floods ---------------------------------------------------------------------------------------------------
def test_slow_handshakes_are_bounded_and_an_open_session_does_not_notice(tmp_path, authority, mail):
    with serving(tmp_path, mail, tls_handshakes=20, tls_handshake_timeout=4) as relay:
        client, _, plain = relay.accept(client_context(authority))
        slow = []
        for _ in range(20):
            ours, theirs = tcp_pair()
            ours.sendall(b"\x16\x03\x01")  # the beginning of a ClientHello
            slow.append((ours, relay.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.66")))
        client.sendall(b"quick")
        assert plain.recv(10) == b"quick"
        for sock, serial in slow:
            failed = relay.answer(serial)
            assert failed.reason == TIMEOUT and failed.text.startswith(b"192.0.2.66: "), failed
            assert read_fails(sock)
        relay.accept(client_context(authority))


def test_clients_that_stall_make_room_for_the_next_one(tmp_path, authority, mail):
    with serving(tmp_path, mail, tls_handshakes=20, tls_handshake_timeout=60) as relay:
        running, _, plain = relay.accept(client_context(authority))
        stalled = []
        for _ in range(500):
            ours, theirs = tcp_pair()
            stalled.append((ours, relay.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.66")))
        client, _, _ = relay.accept(client_context(authority))
        for sock, serial in stalled[:481]:
            gone = relay.answer(serial)
            assert gone.reason == UNAVAILABLE and b"tls_handshakes" in gone.text, gone
            assert read_fails(sock)
        wait_until(lambda: relay.connections() == 21, lambda: f"{relay.connections()} connections are left")
        assert not relay.answers, "a younger one was pushed out"
        running.sendall(b"quick")
        assert plain.recv(10) == b"quick"
        assert client


def test_a_worker_without_descriptors_says_so_and_all_are_counted(tmp_path, authority, mail):
    relay = serving(tmp_path, mail)
    relay.popen["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    relay.launch()
    with contextlib.ExitStack() as stack:
        stack.callback(relay.__exit__)
        relay.meet()
        sessions, refused = [], 0
        while refused < 3:
            ours, theirs = tcp_pair()
            serial = relay.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.7")
            try:
                client = client_context(authority).wrap_socket(ours, server_hostname="mail.test")
            except OSError:
                answer = relay.answer(serial)
                assert answer.reason == UNAVAILABLE and b"descriptors" in answer.text, answer
                refused += 1
            else:
                sessions += [client, plain_end(relay.answer(serial))]
        relay.wait_pushed("TLS_STATE")
        for session in sessions:
            session.close()
        relay.wait_pushed("TLS_STATE", lambda state: state.connections == 0 and state.workers > 0)


def test_an_open_session_goes_before_all_handshakes_that_wait(tmp_path, authority):
    """A hundred of them and one line of mail become ready at the same moment: the line comes first."""
    mail = authority.issue("mail.test", key="rsa")  # dear handshakes
    with serving(tmp_path, mail, tls_handshakes=1000, tls_handshake_timeout=60) as relay:
        client, _, plain = relay.accept(client_context(authority))
        answered = [answered_before_a_line(relay, client, plain) for _ in range(3)]
        # more when this process was held up while it stopped the workers
        assert min(answered) < 30, answered


def answered_before_a_line(relay, client, plain, count=100):
    """How many of so many handshakes the workers answer before they have passed a line on."""
    clients = []
    for _ in range(count):
        ours, theirs = tcp_pair()
        relay.request("TLS_ACCEPT", theirs, service=1, client="192.0.2.66")
        clients.append(ours)
    wait_until(lambda: relay.connections() == count + 1, "the workers do not take them")
    workers = relay.workers()
    with frozen(*workers):
        for sock in clients:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            with pytest.raises(ssl.SSLWantReadError):
                client_context().wrap_bio(incoming, outgoing).do_handshake()
            sock.sendall(outgoing.read())
        client.sendall(b"ping")
    assert read_exactly(plain, 4) == b"ping"
    with frozen(*workers):
        answered = len(select.select(clients, [], [], 0)[0])
    for sock in clients:
        sock.close()
    wait_until(lambda: relay.connections() == 1, "connections stay")
    return answered
