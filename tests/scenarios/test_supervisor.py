"""in.imapproxyd: background and foreground, pid file, refusals at the start, SIGHUP, SIGTERM."""
import os
import re
import signal
import socket
import subprocess

import pytest

from keepwarm import process
from keepwarm.process import wait_until
from keepwarm.system import BUILD, System

SUPERVISOR = BUILD / "in.imapproxyd"


@pytest.fixture
def idle(make, backend):
    """A system that is not started: its folder and its file."""
    system = System(backend.port)
    make.started.append(system)
    return system


def run(*argv, env=None):
    return subprocess.run([SUPERVISOR, *map(str, argv)], stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=process.DEADLINE, check=False, text=True, env=env)


def refused(result, *words):
    assert result.returncode == 1, result
    for word in words:
        assert re.search(word, result.stderr), result.stderr
    assert not re.search(r"Sanitizer|runtime error", result.stderr), result.stderr


@pytest.fixture
def background(idle):
    """The same, started in the background; ended after the test."""
    pid_file = idle.folder / "pid"
    idle.write_config(foreground_mode="no", log_target=f"file:{idle.folder}/logfile")
    idle.log = idle.folder / "logfile"
    result = run("-f", idle.conf, "-p", pid_file)
    assert result.returncode == 0, result.stderr
    pid = int(pid_file.read_text())
    yield idle, pid, pid_file
    if process.alive(pid):
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not process.alive(pid), "it does not end")


def test_the_starter_returns_when_clients_are_served(background):
    system, pid, _ = background
    with system.client() as client:
        assert client.login("anna", "pw-anna").ok
    assert process.program(pid) == "in.imapproxyd"


def test_sigterm_ends_the_background_with_all_its_files(background):
    system, pid, pid_file = background
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not system.pids(), lambda: f"left behind: {system.pids()}")
    assert not pid_file.exists()
    assert not [path for path in system.run_directory.rglob("*") if path.is_socket()]
    with pytest.raises(ConnectionRefusedError):
        system.client()


def test_a_second_start_is_refused_and_leaves_the_first_alone(background):
    system, pid, pid_file = background
    refused(run("-f", system.conf, "-p", pid_file), "already|running|in use")
    assert int(pid_file.read_text()) == pid
    with system.client() as client:
        assert client.login("anna", "pw-anna").ok


def test_a_stale_pid_file_does_not_hinder(idle):
    pid_file = idle.folder / "pid"
    pid_file.write_text("999999\n")
    idle.write_config(foreground_mode="no", log_target=f"file:{idle.folder}/logfile")
    assert run("-f", idle.conf, "-p", pid_file).returncode == 0
    pid = int(pid_file.read_text())
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not idle.pids(), lambda: f"left behind: {idle.pids()}")


def test_a_port_in_use_is_said_and_nothing_stays(idle):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        idle.write_config(listen_port=port)
        refused(run("-f", idle.conf), str(port))
    assert idle.pids() == []


def test_a_bad_value_is_said_with_file_line_and_key(idle):
    idle.write_config(max_errors="banana")
    number = idle.conf.read_text().splitlines().index("max_errors banana") + 1
    refused(run("-f", idle.conf), re.escape(f"{idle.conf}:{number}: max_errors: "))
    assert idle.pids() == []


def test_all_problems_of_a_file_are_said_at_once(idle):
    idle.write_config(max_errors="banana", listen_port="99999")
    refused(run("-f", idle.conf), "max_errors", "listen_port")


def test_an_unknown_key_is_a_warning_only(make, backend):
    system = make.system(backend, cache_siez="17")
    assert re.search(r"cache_siez.*cache_size", system.log_text())


def test_a_missing_file_is_said(idle):
    refused(run("-f", idle.folder / "not-there"), "not-there")


def test_keys_of_safety_that_contradict_each_other_are_refused(idle):
    idle.write_config(force_tls="yes", server_tls="none", require_tls="yes")
    refused(run("-f", idle.conf), ":\\d+: force_tls: ", ":\\d+: require_tls: .*tls_server_cert_file")


def test_an_unknown_user_is_refused(idle):
    if os.getuid() != 0:
        pytest.skip("only root changes ids")
    idle.write_config(proc_username="no-such-user")
    refused(run("-f", idle.conf), "proc_username")
    idle.write_config(proc_username="root")
    refused(run("-f", idle.conf), "proc_username")


def test_usage(idle):
    result = run("-h")
    assert (result.returncode, result.stdout) == (0, "Usage: in.imapproxyd [-f config filename] [-p pidfile] [-h]\n")
    for wrong in ["--no-such-option"], ["-x"], ["-f"], ["-p"]:
        result = run(*wrong)
        assert result.returncode == 1 and result.stderr
        assert result.stdout == "Usage: in.imapproxyd [-f config filename] [-p pidfile] [-h]\n"


def test_further_arguments_are_ignored_as_the_old_program_did(idle):
    idle.write_config(max_errors="banana")
    refused(run("-f", idle.conf, "start", "now"), "max_errors")


def test_a_missing_mail_host_does_not_keep_us_from_listening(make, backend):
    backend.deaf()
    system = make.system(backend)
    with system.client() as client:
        assert client.login("anna", "pw-anna").tagged.startswith(b"NO [UNAVAILABLE] ")
        backend.listen()
        assert client.login("anna", "pw-anna").ok


def capabilities(system):
    with system.session() as client:
        return client.login_reply.capabilities


def test_sighup_takes_a_changed_key(system):
    assert "X-TEST" in capabilities(system)
    system.write_config(hide_capabilities="X-TEST")
    system.supervisor.send_signal(signal.SIGHUP)
    wait_until(lambda: "X-TEST" not in capabilities(system), lambda: "no reload:\n" + system.log_text())
    system.write_config(hide_capabilities="NAMESPACE")
    system.supervisor.send_signal(signal.SIGHUP)
    wait_until(lambda: "X-TEST" in capabilities(system), "no second reload")
    assert "NAMESPACE" not in capabilities(system)


def test_sighup_with_a_bad_file_keeps_what_was(system):
    good = system.conf.read_text()
    system.write_config(hide_capabilities="X-TEST", max_errors="banana")
    system.supervisor.send_signal(signal.SIGHUP)
    system.wait_log("max_errors")
    assert "X-TEST" in capabilities(system)
    system.conf.write_text(good + "hide_capabilities NAMESPACE\n")
    system.supervisor.send_signal(signal.SIGHUP)
    wait_until(lambda: "NAMESPACE" not in capabilities(system), "a good file is not taken any more")


@pytest.mark.parametrize("text", ["", "# server_hostname localhost\nno_such_key 1\n"])
def test_sighup_with_a_file_that_says_nothing_keeps_what_was(system, text):
    """An editor cuts the file and writes it again; a start with such a file is still one with the defaults."""
    system.write_config(hide_capabilities="NAMESPACE")
    system.supervisor.send_signal(signal.SIGHUP)
    wait_until(lambda: "NAMESPACE" not in capabilities(system), "no reload")
    system.conf.write_text(text)
    system.supervisor.send_signal(signal.SIGHUP)
    system.wait_log("no key is set in it")
    assert "NAMESPACE" not in capabilities(system)


def test_sighup_with_a_file_that_is_none_keeps_what_was_and_waits_for_nobody(system):
    """A FIFO that nobody writes to."""
    os.remove(system.conf)
    os.mkfifo(system.conf)
    system.supervisor.send_signal(signal.SIGHUP)
    system.wait_log("no key is set in it")
    assert "NAMESPACE" in capabilities(system)
    os.remove(system.conf)
    system.write_config(hide_capabilities="NAMESPACE")
    system.supervisor.send_signal(signal.SIGHUP)
    wait_until(lambda: "NAMESPACE" not in capabilities(system), "a good file is not taken any more")


@pytest.mark.parametrize("program", ["cachebrokerd", "lookupd", "tlsrelayd"])
def test_a_configuration_that_is_a_fifo_is_an_error_of_each_program(tmp_path, program):
    """As at a reload of one that systemd has started."""
    os.mkfifo(tmp_path / "conf")
    run = subprocess.run([BUILD / program, "-f", tmp_path / "conf", "-r", tmp_path, "-l", "stderr"], capture_output=True, text=True,
                         timeout=process.DEADLINE, check=False)
    assert run.returncode != 0 and "cannot be read: Illegal seek" in run.stderr


def test_sighup_does_not_disturb_sessions_and_cache(system, backend):
    system.session("cached").logout()
    system.wait_cached(1)
    with system.session("active") as client:
        system.write_config(hide_capabilities="X-TEST")
        system.supervisor.send_signal(signal.SIGHUP)
        wait_until(lambda: "X-TEST" not in capabilities(system), "no reload")
        client.ok("NOOP")
    with system.session("cached", reused=True):
        pass


def test_sigterm_says_bye_to_open_sessions_and_leaves_nothing(make, backend):
    system = make.system(backend)
    clients = [system.session(f"user{n}") for n in range(5)] + [system.client()]
    system.supervisor.terminate()
    for client in clients:
        assert re.fullmatch(rb"\* BYE [^\r\n]+\r\n", client.read_to_end())
    assert system.supervisor.wait(process.DEADLINE) == 0
    wait_until(lambda: not system.pids(), lambda: f"left behind: {system.pids()}")
    assert not [path for path in system.run_directory.rglob("*") if path.is_socket()]
    backend.wait_for(lambda: not backend.open_connections(), "a backend connection is left open")


def test_a_start_zeroes_the_counters(make, backend):
    system = make.system(backend)
    system.session().logout()
    system.wait_counter("logins", 1)
    system.stop_and_keep()
    system.start()
    wait_until(lambda: system.counter("clients") >= 1, lambda: f"{system.stats()}")  # the probe of the start
    assert system.counter("logins") == 0


def test_an_old_statistics_file_is_replaced(idle, make):
    (idle.folder / "state").write_bytes(b"old" * 24)
    idle.start()
    assert (idle.folder / "state.old").read_bytes() == b"old" * 24
    assert idle.log_text().count("state.old now") == 1 and "in place of" not in idle.log_text()
    wait_until(lambda: idle.counter("clients") >= 1, "no statistics")


def test_an_old_statistics_file_that_takes_the_place_of_another_says_so(idle, make):
    (idle.folder / "state.old").write_bytes(b"older")
    (idle.folder / "state").write_bytes(b"old" * 24)
    idle.start()
    assert (idle.folder / "state.old").read_bytes() == b"old" * 24
    assert idle.log_text().count("state.old now, in place of what had that name") == 1


def test_what_is_said_of_the_configuration_is_said_once(make, backend):
    system = make.system(backend, connect_timeut="5")
    assert system.log_text().count("connect_timeut: unknown key") == 1, system.log_text()
    system.write_config(cache_siz="5", lookup_processes="3")
    system.supervisor.send_signal(signal.SIGHUP)
    for what in "taken over", "cache_siz: unknown key", "lookup_processes: the new value":
        system.wait_log(what)
    assert system.log_text().count("cache_siz: unknown key") == 1, system.log_text()
    assert system.log_text().count("lookup_processes: the new value") == 1, system.log_text()


def test_statistics_that_cannot_be_written_do_not_stop_mail(idle):
    idle.write_config(stat_filename=idle.folder / "no" / "such" / "folder" / "state")
    idle.start()
    with idle.session() as client:
        client.ok("NOOP")


def test_a_restart_takes_over_when_the_whole_was_killed(make, backend):
    """After kill -9 of the supervisor nothing is left that hinders the next start."""
    system = make.system(backend)
    os.kill(system.supervisor.pid, signal.SIGKILL)
    system.supervisor.wait()
    wait_until(lambda: not system.pids(), lambda: f"left behind: {system.pids()}")
    system.start()
    with system.session() as client:
        client.ok("NOOP")


def test_pimpstat_prints_text(system):
    system.session().logout()
    system.wait_cached(1)
    result = subprocess.run([BUILD / "pimpstat", "-1", "-f", system.conf], capture_output=True, check=True,
                            text=True, timeout=process.DEADLINE)
    for word in ("active", "cached", "logins", "reused", "fresh", "failed", "ratio", "uptime"):
        assert word in result.stdout.lower(), result.stdout


def test_pimpstat_says_when_nothing_runs(idle):
    result = subprocess.run([BUILD / "pimpstat", "-1", "-f", idle.conf], capture_output=True, check=False,
                            text=True, timeout=process.DEADLINE)
    assert result.returncode == 1 and result.stderr


def test_pimpstat_json_lists_sessions(system):
    with system.session("anna"):
        wait_until(lambda: [s for s in system.stats()["sessions"] if s["user"] == "anna" and s["state"].lower() == "active"],
                   lambda: f"{system.stats()}")
    wait_until(lambda: [s for s in system.stats()["sessions"] if s["user"] == "anna" and s["state"].lower() == "cached"],
               lambda: f"{system.stats()}")
    assert system.stats()["schema"] == 4
