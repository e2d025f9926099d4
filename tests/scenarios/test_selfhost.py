"""A mail host that is this very host: its own server serves it, on a port or a path; without one nobody is dialled."""
import os
import shutil
import socket
import subprocess

import pytest

from keepwarm import imap, pop3, process
from keepwarm.directory import Userdb, at, tell
from keepwarm.messages import Door, Peer, session
from keepwarm.process import cpu_share, free_port, wait_until
from keepwarm.system import BUILD, temp_folder

HOST = socket.gethostname()


class Folder:
    """A folder with sockets in it."""

    def __init__(self):
        self.path = temp_folder()

    def listen(self, name="imap", mode=0o666, backlog=512):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path / name))
        (self.path / name).chmod(mode)
        listener.listen(backlog)
        return listener

    def __truediv__(self, name):
        return f"unix:{self.path / name}"

    def stop(self):
        shutil.rmtree(self.path, ignore_errors=True)


@pytest.fixture
def folder(make):
    made = Folder()
    make.started.append(made)
    return made


@pytest.fixture
def start(make, backend):
    """A system with a userdb, whose local server is the backend unless a test says otherwise; server_port and
    pop3_server_port are its own ports, as they are where every node is both."""
    def started(options, **config):
        userdb = Userdb(**options)
        make.started.append(userdb)
        port, pop3_port = free_port(), free_port()
        system = make.system(backend, **{"directory": [userdb], "listen_port": port, "server_port": port,
                                         "server_hostname": "127.0.0.1", "pop3_listen_port": pop3_port,
                                         "pop3_server_port": pop3_port, "local_server": at(backend), **config})
        system.userdb, system.pop3_port = userdb, pop3_port
        return system
    return started


def refused(system, user="anna"):
    with system.client() as client:
        assert client.login(user, f"pw-{user}").tagged.startswith(b"NO [UNAVAILABLE]")


def served(system, backend, users, **kwargs):
    """Each logs in and finds his mail; the backend alone was asked."""
    for user in users:
        with system.session(user, **kwargs) as client:
            client.ok("SELECT INBOX")
            assert f"<{user}>".encode() in client.ok("FETCH 1 BODY[]").text
    assert [login.user for login in backend.logins][-len(users):] == list(users)


def came_in(system, count):
    """So many have come in, ourselves included, but for the look of start()."""
    system.wait_counter("clients", count + 1)


NAMES = {"plain": "other.name", "case": "OTHER.Name", "dot": "other.name.", "host": HOST, "upper": HOST.upper(),
         "label": HOST.partition(".")[0], "port": "other.name:{port}", "scheme": "imap://other.name:{port}",
         "address": "127.0.0.1", "written": "127.0.0.1:{port}", "nowhere": "0.0.0.0:{port}", "named": "198.51.100.77",
         "resolved": "localhost"}


def test_it_is_known_by_its_names_and_addresses(start, backend):
    system = start({user: "" for user in NAMES}, proxy_hostname="first.name Other.Name 198.51.100.77")
    port = system.config["listen_port"]
    system.userdb.write(**{user: "mailhost=" + host.format(port=port) for user, host in NAMES.items()})
    served(system, backend, NAMES)
    came_in(system, len(NAMES))
    for user in NAMES:
        assert f"mail host: local server 127.0.0.1 port {backend.port}, no TLS" in tell(system.conf, user)


def test_who_is_not_reached_is_another_host(start, backend, make):
    """The same machine, but another port or another address than what we listen on."""
    others = {"port": make.backend(), "address": make.backend(address="127.0.0.9"), "name": make.backend()}
    system = start({user: f"mailhost={at(host)}" for user, host in others.items()}, proxy_hostname="localhost")
    system.userdb.write(name=f"mailhost=localhost:{others['name'].port}")
    for user, host in others.items():
        served(system, host, [user])
        assert "local server" not in tell(system.conf, user)
    assert not backend.logins


@pytest.mark.parametrize("listen_address, more", [("0.0.0.0", {}), ("::", {"cleo": "mailhost=::1", "doro": "mailhost=::"})])
def test_a_listener_on_all_addresses_is_reached_by_each(start, backend, listen_address, more):
    if more and not has_ipv6():
        pytest.skip("no IPv6 here")
    options = {"anna": "mailhost=127.0.0.77", "bo": f"mailhost={own_address()}", **more}
    system = start(options, listen_address=listen_address)
    served(system, backend, options)
    came_in(system, len(options))


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def own_address():
    """An address of one of this machine's interfaces, if it has one besides 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.77", 9))
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


def test_its_connections_are_reused_whatever_it_is_called(start, backend):
    """The key is of the local server, so who finds it by an address finds what was left by name."""
    system = start({"anna": f"mailhost={HOST}"})
    system.session("anna", reused=False).logout()
    system.wait_given()
    system.session("anna", reused=True).logout()
    system.wait_given()
    system.userdb.write(anna="mailhost=127.0.0.1")
    system.supervisor.send_signal(1)  # forgets what it knew
    system.wait_log("taken over")
    system.session("anna", reused=True).close()
    assert len(backend.logins) == 1
    assert f"127.0.0.1:{backend.port}" in {host["host"] for host in system.stats()["hosts"]}


def test_who_was_served_here_comes_here_again_when_the_address_is_too_old(start, backend):
    """A dead connection is replaced by one to the same server, though nobody knows the host's address any more."""
    system = start({"anna": "mailhost=127.0.0.1"}, lookup_ttl=1)
    system.session("anna").logout()
    system.wait_given()
    with system.session("anna", reused=True) as client:
        client.expect_nothing(1.2)
        for conn in backend.open_connections():
            conn.drop()
        client.ok("SELECT INBOX")
    assert len(backend.logins) == 2


def test_without_a_local_server_nobody_is_dialled(start, backend):
    system = start({"name": f"mailhost={HOST}", "address": "mailhost=127.0.0.1"}, local_server=None)
    for user in ("name", "address"):
        refused(system, user)
        assert "mail host: this host, but local_server is not set" in tell(system.conf, user)
    came_in(system, 2)
    text = system.log_text()
    assert "the mail is on this host, and local_server is not set" in text
    assert f"127.0.0.1:{system.port} is this proxy itself by listen_port, and local_server is not set" in text
    assert "does not answer" not in text
    assert not backend.logins


@pytest.fixture
def foreign(start, backend):
    """A system without a listener of its own: systemd's socket is on a port that the configuration does not name."""
    port, children = free_port(), []
    system = start({"anna": f"mailhost=127.0.0.1:{port}", "bo": f"mailhost=127.0.0.9:{port}"}, run_listener="no")

    def listen(address):
        with open(system.log, "ab") as log:
            children.append(process.start(["systemd-socket-activate", "-l", f"{address}:{port}", BUILD / "proxyd", "-r", system.run_directory],
                                          stdin=subprocess.DEVNULL, stdout=log, stderr=log))

        def client():
            try:
                return imap.Client(port)
            except ConnectionRefusedError:
                return None
        return wait_until(client, lambda: "nobody listens:\n" + system.log_text())
    system.foreign, system.port_of_socket = listen, port
    yield system
    for child in children:
        child.terminate()
        child.wait(process.DEADLINE)


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="needs systemd-socket-activate")
def test_a_socket_of_systemds_is_ours_on_any_port(foreign, backend):
    foreign.foreign("0.0.0.0").close()
    for user in "anna", "bo":
        with imap.Client(foreign.port_of_socket) as client:
            assert client.login(user, f"pw-{user}").ok, foreign.log_text()
            client.logout()
    assert [login.user for login in backend.logins] == ["anna", "bo"]
    assert "loop" not in foreign.log_text()


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="needs systemd-socket-activate")
def test_such_a_socket_is_not_reached_at_another_address(foreign, make, backend):
    with foreign.foreign("127.0.0.1") as client:
        other = make.backend(address="127.0.0.9", port=foreign.port_of_socket)
        assert client.login("bo", "pw-bo").ok, foreign.log_text()
        client.logout()
    assert [login.user for login in other.logins] == ["bo"] and not backend.logins


def test_what_a_listener_says_that_is_no_place_is_nothing(start, backend):
    port = free_port()
    system = start({"anna": f"mailhost=127.0.0.1:{port}"}, run_listener="no", host_retry=0)
    for places, kept in ("", False), ("x " * 400, False), (f"127.0.0.1/{port}0000 /{port} 127.0.0.1/ {port}", False), \
            (f"junk 127.0.0.1/0 0.0.0.0/{port}", True):
        with Door(system, places=places), Peer(system).hello() as peer:
            reply = peer.request("LEASE", proof_kind=1, user="anna", secret="pw-anna")
            assert (reply.name == "LEASED") == kept, (places, reply)
            if kept:
                assert reply.host_port == backend.port


def test_the_next_host_serves_whom_this_one_cannot(start, make):
    other = make.backend()
    system = start({"anna": f"mailhost={HOST} {at(other)}", "bo": f"mailhost=127.0.0.1;{at(other)}"}, local_server=None)
    served(system, other, ["anna", "bo"])


def test_a_default_that_is_ourselves_is_said_at_the_start(start, backend):
    system = start({}, directory=None, local_server=None)
    system.wait_log("is this proxy itself by listen_port, and local_server is not set")
    refused(system)
    system.write_config(local_server=at(backend))
    system.supervisor.send_signal(1)
    system.wait_log("taken over")
    served(system, backend, ["anna"])


def test_a_local_server_that_is_ourselves_by_name_is_not_dialled(start):
    system = start({"anna": f"mailhost={HOST}", "bo": "mailhost=127.0.0.1"})
    system.write_config(local_server=f"localhost:{system.port}")
    system.supervisor.send_signal(1)
    system.wait_log("taken over")
    for user in ("anna", "bo"):
        refused(system, user)
    assert f"local_server localhost:{system.port} is this proxy itself by listen_port" in system.log_text()
    came_in(system, 2)


def test_accounts_without_a_mail_host_are_here(start, backend, make):
    usual = make.backend()
    system = start({"anna": "", "bo": "mailhost="}, no_mailhost="local", pop3_local_server="127.0.0.1:1",
                   server_port=usual.port)
    served(system, backend, ["anna", "bo"])
    assert "local server" in tell(system.conf, "anna")
    assert not usual.logins


def test_no_mailhost_local_needs_a_local_server(start):
    system = start({"anna": ""})
    system.write_config(local_server=None, no_mailhost="local", pop3_listen_port=None)
    run = subprocess.run([BUILD / "proxyd", "-n", "-f", system.conf], capture_output=True, text=True, check=False,
                         timeout=process.DEADLINE)
    line = system.conf.read_text().splitlines().index("no_mailhost local") + 1
    assert run.returncode != 0
    assert f"{system.conf}:{line}: no_mailhost: local needs local_server" in run.stdout + run.stderr


# --- POP3 ------------------------------------------------------------------------------------------
def test_pop3_has_a_server_of_its_own(start, make, backend):
    host = pop3.Host()
    make.started.append(host)
    system = start({"anna": f"mailhost={HOST}", "bo": "mailhost=127.0.0.1"},
                   pop3_local_server=f"127.0.0.1:{host.port}")
    for user in ("anna", "bo"):
        with pop3.Client(system.pop3_port) as client:
            client.session(user)
            client.ok("RETR 1")
            assert f"<{user}>".encode() in client.rest()
    assert [login.user for login in host.logins] == ["anna", "bo"]
    assert not backend.logins
    assert f"local server 127.0.0.1 port {host.port}" in tell(system.conf, "bo", "pop3")


def test_pop3_without_one_is_refused(start, backend):
    system = start({"anna": f"mailhost={HOST}", "bo": "mailhost=127.0.0.1"})
    for user in ("anna", "bo"):
        with pop3.Client(system.pop3_port) as client:
            assert client.login(user).startswith(b"-ERR [SYS/TEMP]")
    assert "pop3_local_server is not set" in system.log_text()
    assert not backend.accepted or not backend.logins


# --- a path ----------------------------------------------------------------------------------------
def test_a_socket_of_this_machine_serves_like_any_other(start, folder, make):
    server = make.backend(listener=folder.listen())
    system = start({"anna": f"mailhost={HOST}", "bo": "mailhost=127.0.0.1"}, local_server=folder / "imap",
                   send_tcp_keepalives="yes")
    served(system, server, ["anna"])
    system.wait_given()
    system.session("anna", reused=True).close()
    served(system, server, ["bo"])
    system.wait_counter("logins", 3)
    assert f"mail host: local server {folder / 'imap'}, no TLS" in tell(system.conf, "bo")
    host = next(host for host in system.stats()["hosts"] if host["host"] == str(folder / "imap"))
    assert (host["logins_fresh"], host["logins_reused"]) == (2, 1)


@pytest.mark.parametrize("config", [{"auth_recheck": 0}, {"spare_backend_connections": 1},
                                    {"auth_sasl_plain_username": "boss", "auth_sasl_plain_password": "pw-anna",
                                     "auth_shared_secret": "pw-anna", "pop3_listen_port": None}], ids=" ".join)
def test_errands_go_over_a_path_too(start, folder, make, config):
    server = make.backend(listener=folder.listen())
    system = start({"anna": f"mailhost={HOST}"}, local_server=folder / "imap", **config)
    for reused in (False, True):
        system.session("anna", reused=reused).logout()
        system.wait_given()
    if "spare_backend_connections" in config:
        wait_until(lambda: system.gauge("spares") == 1, lambda: f"no spare: {system.stats()}\n{system.log_text()}")
    elif "auth_recheck" in config:
        wait_until(lambda: len(server.logins) == 2, lambda: f"proven {len(server.logins)} times")
    else:
        assert [login.how for login in server.logins] == ["PLAIN with initial response"]


def test_pop3_comes_over_a_path_too(start, folder, make):
    host = pop3.Host(listener=folder.listen("pop3"))
    make.started.append(host)
    system = start({"anna": f"mailhost={HOST}"}, pop3_local_server=folder / "pop3")
    with pop3.Client(system.pop3_port) as client:
        client.session("anna")
        client.ok("RETR 1")
        assert b"<anna>" in client.rest()


def test_a_path_that_is_not_there_or_not_ours_is_said(start, folder, make):
    system = start({"anna": f"mailhost={HOST}"}, local_server=folder / "imap")
    refused(system)
    system.wait_log(f"mail host {folder / 'imap'} does not answer: No such file or directory")
    server = make.backend(listener=folder.listen(mode=0o600))
    if os.getuid() == 0:
        refused(system)
        system.wait_log("the user that the service runs as (proc_username) may not connect to it")
    (folder.path / "imap").chmod(0o666)
    served(system, server, ["anna"])
    system.wait_log("answers again")


def fill_queue(folder):
    fillers = []
    while True:
        filler = socket.socket(socket.AF_UNIX)
        filler.setblocking(False)
        fillers.append(filler)
        try:
            filler.connect(str(folder.path / "imap"))
        except BlockingIOError:
            return fillers


def test_many_that_wait_for_a_full_queue_cost_little(start, folder):
    users = [f"u{i}" for i in range(600)]
    listener = folder.listen(backlog=0)
    fillers = fill_queue(folder)
    system = start({user: f"mailhost={HOST}" for user in users}, local_server=folder / "imap", connect_timeout=60)
    peers = [session(system) for _ in users]
    for user, peer in zip(users, peers):
        peer.push("LEASE", serial=9, proof_kind=1, user=user, secret="x")
    wait_until(lambda: system.gauge("active") == len(users), "they do not wait")
    assert cpu_share(system.pids("cachebrokerd"), 3) < 0.15
    for one in (listener, *fillers):
        one.close()


def test_a_full_queue_is_waited_for(start, folder, make):
    listener = folder.listen(backlog=0)
    fillers = fill_queue(folder)
    system = start({"anna": f"mailhost={HOST}"}, local_server=folder / "imap", connect_timeout=1)
    refused(system)
    system.wait_log("does not answer: Resource temporarily unavailable")
    system.write_config(connect_timeout=10)
    system.supervisor.send_signal(1)
    system.wait_log("taken over")
    with system.client() as client:
        client.send("a LOGIN anna pw-anna\r\n")
        wait_until(lambda: system.stats()["hosts"], "no host")
        client.expect_nothing(0.2)
        for filler in fillers:
            filler.close()
        make.backend(listener=listener)
        assert client.reply("a").ok


def test_a_path_is_never_a_directorys_to_name(start, folder, make):
    server = make.backend(listener=folder.listen())
    evil = folder / "imap"
    system = start({"anna": f"mailhost={evil}", "bo": f"mailhost=imap://{evil}", "cleo": f"mailhost={HOST} {evil}",
                    "doro": "mailhost=local", evil: f"mailhost={HOST}"})
    for user in ("anna", "bo", "cleo", "doro"):
        refused(system, user)
    assert not server.accepted
    served(system, make.started[0], [evil])  # a name is a name
    assert not server.accepted


def test_a_reload_names_another_server(start, folder, make, backend):
    system = start({"anna": f"mailhost={HOST}"})
    served(system, backend, ["anna"])
    server = make.backend(listener=folder.listen())
    system.write_config(local_server=folder / "imap")
    system.supervisor.send_signal(1)
    system.wait_log("taken over")
    served(system, server, ["anna"], reused=False)
