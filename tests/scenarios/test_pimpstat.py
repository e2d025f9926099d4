"""pimpstat on a terminal: its screen at three sizes, keys, trouble, hostile names, and how it ends."""
import os
import re
import signal
import subprocess
import unicodedata

import pytest

from keepwarm import process
from keepwarm.process import wait_until
from keepwarm.system import BUILD, System
from keepwarm.terminal import Terminal

PIMPSTAT = BUILD / "pimpstat"
SIZES = [(80, 24), (132, 43), (40, 10)]
BLOCKS = "▁▂▃▄▅▆▇█"


@pytest.fixture
def idle(make, backend):
    """A system that is not started: its folder and its file."""
    system = System(backend.port)
    make.started.append(system)
    return system


@pytest.fixture
def terminals():
    """Makes terminals with pimpstat in them: terminals(system, width, height, NAME=value)."""
    made = []

    def make(system, width=80, height=24, arguments=(), **environment):
        terminal = Terminal([PIMPSTAT, "-f", system.conf, *arguments], width, height, **environment)
        made.append(terminal)
        # a key that comes before pimpstat has the terminal is echoed
        wait_until(lambda: "q quit" in terminal.text() or "ended with" in terminal.text(), terminal.text)
        return terminal
    yield make
    for terminal in made:
        terminal.close()


def run(system, *arguments, **kwargs):
    return subprocess.run([PIMPSTAT, "-f", system.conf, *arguments], capture_output=True, check=False,
                          timeout=process.DEADLINE, **kwargs)


def busy(system):
    """Two sessions, two connections in the cache, a refused login; returns what must stay open."""
    for user in ("cleo", "dora", "cleo"):
        system.session(user).logout()
        system.wait_given()
    held = [system.session("anna"), system.session("bert")]
    with system.client() as client:
        assert not client.login("anna", "wrong").ok
    system.wait_counter("logins", 5)
    system.wait_counter("logins_refused", 1)
    wait_until(lambda: len(system.stats()["sessions"]) == 4, lambda: f"{system.stats()}")
    return held


def fits(lines, width, height):
    """Nothing is broken: as many lines as there are, none of them too long, the keys in the last one."""
    assert len(lines) == height
    for line in lines:
        assert len(line) <= width, line
        assert all(unicodedata.category(c)[0] != "C" for c in line), line
    assert "q quit" in lines[-1] and "? help" in lines[-1]


# --- sizes ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("width, height", SIZES)
def test_every_view_fits(system, terminals, width, height):
    held = busy(system)
    terminal = terminals(system, width, height)
    wide = width >= 80
    fits(terminal.wait("running", "client connections", "logins", "reused"), width, height)
    terminal.press("2")
    lines = terminal.wait("USER▲", "STATE", "AGE", "anna", "active", "bert", "cleo", "cached")
    fits(lines, width, height)
    assert "BYTES" in lines[2] and ("CLIENT" in lines[2]) == wide and ("HOST" in lines[2]) == wide
    terminal.press("3")
    lines = terminal.wait("HOST▲", f"127.0.0.1:{system.config['server_port']}", "up")
    fits(lines, width, height)
    assert ("REUSED" in lines[2]) == wide
    terminal.press("4")
    lines = terminal.wait("REASON", "cached", "100.0 %", "caching-off")
    fits(lines, width, height)
    assert ("It can be reused." in lines[3]) == wide
    terminal.press("5")
    fits(terminal.wait("END", "logout", "client-closed"), width, height)
    terminal.press("6")
    fits(terminal.wait("COUNTER▲", "bad_messages"), width, height)
    terminal.press("?")
    fits(terminal.wait("PgUp PgDn", "one screen"), width, height)
    terminal.press("q")
    terminal.wait_end(0)
    for client in held:
        client.close()


def test_the_overview_has_the_old_programs_figures_under_their_names(system, terminals):
    held = busy(system)
    text = "\n".join(terminals(system).wait("server connection reuses"))
    stats = system.stats()
    for label, figure in (("client connections accepted", stats["counters"]["clients"]), ("client logins", 5),
                          ("server connections created", 4), ("server connection reuses", 1),
                          ("logins refused", 1), ("active server connections", 2), ("cached server connections", 2)):
        assert re.search(rf"{label} +{figure}\b", text), (label, figure, text)
    assert re.search(r"client login to server login ratio +1\.25 : 1", text), text
    assert re.search(r"Server Start Time: +20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", text), text
    assert "Last Counter Reset Time:" in text
    assert any(block in text for block in BLOCKS)
    assert re.search(r"reused .*20\.0 %", text), text
    for client in held:
        client.close()


def test_a_terminal_that_changes_its_size_is_followed(system, terminals):
    held = busy(system)
    terminal = terminals(system)
    terminal.press("2")
    terminal.wait("CLIENT", "anna")
    for width, height in [(40, 10), (132, 43), (20, 5), (3, 1), (80, 24)]:
        terminal.resize(width, height)
        if width >= 40:
            wait_until(lambda: "q quit" in terminal.lines()[-1], terminal.text)
            fits(terminal.wait("USER▲", "anna", "bert"), width, height)
    terminal.press("q")
    terminal.wait_end(0)
    for client in held:
        client.close()


# --- keys -------------------------------------------------------------------------------------------
def users(terminal):
    """The first column of the sessions view."""
    return [line.split()[0] for line in terminal.lines()[3:-1] if line]


def test_sessions_are_sorted_and_filtered_by_keys(system, terminals):
    held = busy(system)
    terminal = terminals(system)
    terminal.press("2")
    terminal.wait("USER▲", "dora")
    wait_until(lambda: users(terminal) == ["anna", "bert", "cleo", "dora"], terminal.text)
    terminal.press("r")
    terminal.wait("USER▼")
    wait_until(lambda: users(terminal) == ["dora", "cleo", "bert", "anna"], terminal.text)
    terminal.press("s")
    terminal.wait("STATE▲")
    wait_until(lambda: set(users(terminal)[:2]) == {"anna", "bert"}, terminal.text)
    terminal.press("/")
    terminal.type("CLE")
    terminal.wait("/CLE", "Enter keeps it", "cleo", without=["anna", "dora"])
    terminal.press("Enter")
    terminal.wait("/CLE 1", "q quit")
    terminal.press("3")
    terminal.wait("HOST▲", without=["CLE"])
    terminal.press("2", "/")
    terminal.type("q")  # not the key
    terminal.wait("nothing matches the filter")
    terminal.press("Escape")
    terminal.wait("anna", "cleo", without=["/CLE"])
    terminal.press("Up", "PageDown", "End", "Home", "F5", "é")  # nothing to scroll, nothing known
    terminal.wait("anna", "q quit")
    for client in held:
        client.close()


def test_a_low_terminal_scrolls(system, terminals):
    terminal = terminals(system, 40, 10)
    lines = terminal.wait("1-7/", "client connections")
    last = re.search(r"1-7/(\d+)", lines[-1])[1]
    terminal.press("PageDown")
    terminal.wait(f"7-13/{last}")
    terminal.press("End")
    terminal.wait("Last Counter Reset Time:", f"/{last}")
    terminal.press("Home")
    terminal.wait("1-7/", "client connections")


def test_bytes_of_a_running_session_are_the_kernels(system, terminals):
    with system.session("anna") as client:
        for _ in range(40):
            client.ok("NOOP")
        terminal = terminals(system)
        terminal.press("2")
        terminal.wait("anna", "active")
        wait_until(lambda: re.search(r"anna .* \d\.\d kB$", terminal.text(), re.M), terminal.text)
        row = [row for row in system.stats()["sessions"] if row["user"] == "anna"][0]
        assert row["bytes_from_client"] >= 40 * len("x NOOP\r\n") and row["bytes_from_backend"] > 1000
    wait_until(lambda: re.search(r"anna .*cached .* \d(\.\d)? k?B$", terminal.text(), re.M), terminal.text)


# --- colours and characters ---------------------------------------------------------------------------
def test_colours_are_shown_unless_no_color_says_no(system, terminals):
    def colours(terminal):
        return set(re.findall(r"\x1b\[(?:[\d;]*;)?(3[1-7])m", terminal.styled()))
    coloured, plain, mono = terminals(system), terminals(system, NO_COLOR="1"), terminals(system, TERM="vt100")
    for terminal in (coloured, plain, mono):
        terminal.wait("running", "client logins")
    assert "32" in colours(coloured) and "36" in colours(coloured)
    assert not colours(plain) and not colours(mono)
    assert "\x1b[1m" in plain.styled()


def test_without_utf8_it_is_ascii(system, terminals):
    held = busy(system)
    terminal = terminals(system, LC_ALL="C")
    lines = terminal.wait("* running", "client logins")
    assert all(line.isascii() for line in lines)
    assert any(re.match(r" reused +[_.:=+*%# -]+ 20\.0 %", line) for line in lines), lines
    terminal.press("2")
    assert all(line.isascii() for line in terminal.wait("USER^", "anna"))
    for client in held:
        client.close()


def test_hostile_names_do_not_reach_the_terminal(system, terminals):
    names = [b"a\x1b]0;pwned\x07z", b"b\x1b[2J\x1b[31m\xff", "c‮esrever".encode(), "jörg".encode(), b"d" * 100, b"\\e"]
    held = []
    for name in names:
        client = system.client()
        assert client.login(name, b"pw-" + name, "literals").ok
        held.append(client)
    terminal = terminals(system, 132, 43)
    title = terminal.ask("pane_title")
    terminal.press("2")
    lines = terminal.wait(r"a\x1b]0;pwned\x07z", r"b\x1b[2J\x1b[31m\xff", r"c\xe2\x80\xaeesrever", "jörg",
                          "d" * 30 + "d…", "\\\\e")
    fits(lines, 132, 43)
    assert terminal.ask("pane_title") == title
    terminal.press("/")
    terminal.type("jö")
    terminal.wait("/jö", "jörg", without=["pwned"])
    for client in held:
        client.close()


# --- trouble --------------------------------------------------------------------------------------------
def of_another_format(path):
    """Makes the state file one of a later version."""
    data = path.read_bytes()
    assert b"schema4" in data
    path.write_bytes(data.replace(b"schema4", b"schema7"))


def test_no_state_file_is_a_sentence(idle, terminals):
    said = terminals(idle, 132, 24).wait_end(1)
    assert "there is no state file: start the service" in "".join(said)


def test_another_versions_file_is_a_sentence_and_the_broker_replaces_it(idle, terminals):
    state = idle.folder / "state"
    idle.start()
    idle.session().logout()
    idle.wait_given()
    idle.stop_and_keep()
    of_another_format(state)
    said = terminals(idle, 132, 24).wait_end(1)
    assert "is of another version: of format 7, written by Keepwarm 0.1.0" in "".join(said)
    for argument in ("-1", "-c", "--json"):
        result = run(idle, argument)
        assert result.returncode == 1 and b"of format 7" in result.stderr and not result.stdout
    idle.start()
    terminals(idle).wait("running", "client logins")
    assert idle.counter("logins") == 0
    assert "made anew" in idle.log_text()


def test_it_stays_while_the_service_comes_and_goes(system, terminals):
    terminal = terminals(system)
    terminal.wait("● running")
    system.stop_and_keep()
    terminal.wait("○ no broker runs", "figures of 20", "client logins")
    (system.folder / "state").unlink()
    terminal.wait("○ no figures", "there is no state file", "Looking again every second.")
    system.start()
    terminal.wait("● running", "client logins")
    terminal.press("q")
    terminal.wait_end(0)


def test_a_file_cut_short_is_a_sentence(system, terminals):
    terminal = terminals(system)
    terminal.wait("● running")
    with process.frozen(*system.pids("cachebrokerd")):  # what it writes into such a file is something else
        os.truncate(system.folder / "state", 0)
        terminal.wait("○ no figures", "the state file is empty")
    system.stop_and_keep()


def test_an_old_statistics_file_is_a_sentence(idle, terminals):
    (idle.folder / "state").write_bytes(bytes(72))
    assert "the old imapproxyd" in "".join(terminals(idle, 132, 24).wait_end(1))


def test_without_a_terminal_it_says_what_to_use(system):
    result = run(system, stdin=subprocess.DEVNULL)
    assert result.returncode == 2 and not result.stdout
    assert b"standard output is no terminal: use pimpstat -1" in result.stderr


@pytest.mark.parametrize("term", ["", "no-such-terminal", "dumb"])
def test_a_terminal_that_cannot_place_text_is_a_sentence(system, terminals, term):
    said = " ".join(terminals(system, 132, 24, TERM=term).wait_end(1))
    assert "terminal" in said and "use pimpstat -1" in said


def test_c_prints_the_old_lines(system):
    held = busy(system)
    system.wait_clients(2)  # what is counted is the same from now on
    stats = system.stats()
    lines = run(system, "-c").stdout.decode().splitlines()
    assert [line.split(None, 1)[1] for line in lines] == [
        "Current Client Connections", "Peak Client Connections", "In Use Connections", "Peak In Use Connections",
        "Retained Server Connections", "Peak Retained Server Connections", "Total Client Connections",
        "Total Client Logins", "Total Reused Connections", "Total Created Connections", "Cache Hits", "Cache Misses"]
    figures = [int(re.match(r" (\d+) \S", line)[1]) for line in lines]
    assert figures[2] == 2 and figures[4] == 2
    assert figures[6:] == [stats["counters"]["clients"], 5, 1, 4, 0, 0]
    for client in held:
        client.close()


# --- the state file's new parts --------------------------------------------------------------------------
def test_hosts_and_the_last_minutes_are_counted(system):
    held = busy(system)

    def steps(kind):
        return sum(step[kind] for step in system.stats()["history"]["steps"])
    wait_until(lambda: (steps("fresh"), steps("reused"), steps("failed")) == (4, 1, 1), lambda: f"{system.stats()}")
    host, = system.stats()["hosts"]
    assert host["state"] == "up" and host["host"] == f"127.0.0.1:{system.config['server_port']}"
    assert (host["active"], host["cached"]) == (2, 2)
    assert (host["logins_fresh"], host["logins_reused"], host["logins_refused"]) == (4, 1, 1)
    for client in held:
        client.close()


def test_a_host_that_does_not_answer_is_down(idle):
    idle.write_config(server_port=process.free_port())
    idle.start()
    with idle.client() as client:
        assert not client.login("anna", "pw-anna").ok
    wait_until(lambda: [host["state"] for host in idle.stats()["hosts"]] == ["down"], lambda: f"{idle.stats()}")
    host, = idle.stats()["hosts"]
    assert host["dials_failed"] >= 1 and host["failed_at"] > 0 and host["logins_fresh"] == 0


# --- ends ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 0)])
def test_a_signal_leaves_the_terminal_as_it_was(system, terminals, number, status):
    terminal = terminals(system)
    terminal.wait("running", "client logins")
    os.kill(terminal.pid(), number)
    terminal.wait_end(status)


def test_control_c_is_a_way_to_say_enough(system, terminals):
    terminal = terminals(system)
    terminal.wait("running", "client logins")
    terminal.press("C-c")
    terminal.wait_end(0)
