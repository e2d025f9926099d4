"""The protocol log's file: whose it is, what is never written to, what happens when there is no room."""
import os
import subprocess

import pytest

from keepwarm import trace
from keepwarm.process import wait_until
from keepwarm.system import SANITIZED

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


# --- the file -------------------------------------------------------------------------------------------
def test_the_file_is_for_its_owner_only(traced):
    with traced.session("anna") as client:
        client.ok("NOOP")
    assert os.stat(trace.path(traced)).st_mode & 0o7777 == 0o600


def victim_of(path, owner):
    """A file that the broker's user could write to."""
    victim = path.parent / "victim"
    victim.write_text("precious")
    victim.chmod(0o666)
    if os.geteuid() == 0:
        os.chown(victim, owner, owner)
    return victim


def plant_link(path):
    victim = victim_of(path, NOBODY)
    path.symlink_to(victim)
    return victim


def plant_second_name(path):
    victim = victim_of(path, NOBODY)
    os.link(victim, path)
    return victim


def plant_folder(path):
    path.mkdir()


def plant_fifo(path):
    os.mkfifo(path)
    path.chmod(0o666)


@pytest.mark.parametrize("late", [False, True], ids=["before the start", "later"])
@pytest.mark.parametrize("plant", [plant_link, plant_second_name, plant_folder, plant_fifo], ids=lambda plant: plant.__name__)
def test_what_is_no_plain_file_is_not_written_to(make, backend, plant, late):
    system = trace.idle_system(make, backend)
    if late:
        system.start()
        trace.path(system).unlink(missing_ok=True)
    victim = plant(trace.path(system))
    if not late:
        system.start()
    assert trace.xproxy(system, "XPROXY_TRACE anna") == "NO internal server error"
    assert trace.xproxy(system, "XPROXY_NEWLOG") == "NO internal server error"
    assert trace.pimpstat(system, "--trace", "anna")[0] == 1
    with system.session("anna") as client:
        client.ok("NOOP")
        client.logout()
    assert trace.pimpstat(system, "--traced") == (0, "", "")
    assert victim is None or victim.read_text() == "precious"


@needs_root
def test_a_file_of_somebody_else_is_not_written_to(make, backend):
    system = make.system(backend, enable_admin_commands="yes")
    trace.path(system).unlink()
    victim_of(trace.path(system), 0).rename(trace.path(system))
    assert trace.xproxy(system, "XPROXY_TRACE anna") == "NO internal server error"
    assert trace.xproxy(system, "XPROXY_NEWLOG") == "NO internal server error"
    assert trace.path(system).read_text() == "precious"


@needs_root
def test_a_file_of_somebody_else_is_not_taken_over_at_the_start(make, backend):
    """Who made it may have it open for reading still, whoever it belongs to then."""
    system = trace.idle_system(make, backend)
    path = trace.path(system)
    victim_of(path, 1).rename(path)
    with open(path, "rb") as spy:
        system.start()
        assert trace.xproxy(system, "XPROXY_TRACE anna") == "NO internal server error"
        system.session("anna").logout()
        assert spy.read() == b"precious" and os.stat(path).st_uid == 1
    assert "belongs to another user" in system.log_text()


@needs_root
def test_a_file_that_root_has_made_is_handed_over_at_the_start(make, backend):
    system = trace.idle_system(make, backend)
    victim_of(trace.path(system), 0).rename(trace.path(system))
    system.start()
    assert trace.xproxy(system, "XPROXY_TRACE anna") == "OK Tracing enabled for user anna."
    assert os.stat(trace.path(system)).st_mode & 0o7777 == 0o600


def test_dev_null_is_nowhere(make, backend):
    system = make.system(backend, enable_admin_commands="yes", protocol_log_filename="/dev/null")
    before = os.stat("/dev/null")
    assert trace.xproxy(system, "XPROXY_TRACE anna") == "OK Tracing enabled for user anna."
    with system.session("anna") as client:
        client.ok("NOOP")
    assert trace.xproxy(system, "XPROXY_TRACE") == "OK Tracing disabled"
    assert trace.xproxy(system, "XPROXY_NEWLOG") == "NO internal server error", "as of old"
    after = os.stat("/dev/null")
    assert (before.st_mode, before.st_uid) == (after.st_mode, after.st_uid)


def check_full_disk(system, backend):
    """The trace ends, with whole records; the session does not, and later ones are served."""
    backend.mailboxes["anna"] = {b"INBOX": [b"m" * 70 + b"\r\n"] * 3000}
    trace.trace(system, "anna")
    with system.session("anna") as client:
        client.ok("SELECT INBOX")

        def is_full():
            client.ok("FETCH 1:* BODY[]")  # of which the log leaves out what comes too fast
            return "tracing has ended for all users" in system.log_text()
        wait_until(is_full, system.log_text)
        client.ok("NOOP")
        client.logout()
    assert trace.pimpstat(system, "--traced") == (0, "", "")
    records = trace.records(system)
    assert len(records) > 3 and records[-1].data.endswith(b"\n")
    system.session("anna").logout()


def test_a_bound_on_file_sizes_ends_the_trace_and_no_session(make, backend):
    if SANITIZED:
        pytest.skip("a sanitizer's processes have files of their own")
    system = make.system(backend, prefix=["prlimit", f"--fsize={300 * 1024}", "--"])
    check_full_disk(system, backend)


def test_protocol_log_max_ends_the_trace_and_no_session(make, backend):
    system = make.system(backend, protocol_log_max="300k", enable_admin_commands="yes")
    check_full_disk(system, backend)
    assert "protocol_log_max is reached: tracing has ended" in system.log_text()
    assert system.log_text().count("tracing has ended") == 1
    assert 200 * 1024 < trace.path(system).stat().st_size <= 300 * 1024
    status, _, problem = trace.pimpstat(system, "--trace", "anna")
    assert status == 0 or "protocol_log_max" in problem, problem  # a short mark may still have room
    assert trace.xproxy(system, "XPROXY_NEWLOG") == "OK Logfile cleared"
    trace.trace(system, "bert")


@needs_root
def test_a_full_disk_ends_the_trace_and_no_session(make, backend):
    system = trace.idle_system(make, backend)
    disk = system.folder / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "none", disk], check=False).returncode != 0:
        pytest.skip("no tmpfs can be mounted")
    try:
        (disk / "protocol.log").touch()
        trace.path(system).unlink(missing_ok=True)
        system.write_config(protocol_log_filename=disk / "protocol.log")
        system.start()
        (system.folder / "protocol.log").symlink_to(disk / "protocol.log")  # for trace.path()
        check_full_disk(system, backend)
        system.stop_and_keep()
    finally:
        subprocess.run(["umount", "-l", disk], check=False)
