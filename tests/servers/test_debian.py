"""A site with Debian's package puts our programs in the place of imapproxyd and changes nothing: its file, its init
script and what that runs before are the package's own."""
import json
import os
import shutil
import subprocess

import pytest

from keepwarm import debroot, process
from keepwarm.system import ROOT, SANITIZED, SOURCE, temp_folder

IN_NEW_NETWORK = ("unshare", "--net")
START = """
cp -a "{data}/programs/." /
rm -f /run/imapproxy.pid
exec /usr/bin/python3 {data}/tests/servers/inside_debian.py {data}/tests {data}/result
"""


@pytest.fixture(scope="module")
def seen():
    """What happened inside, told by inside_debian.py."""
    tar, why = debroot.prepare("imapproxy", "imapproxy")
    if not tar:
        pytest.skip(why)
    folder = temp_folder()
    data, work = folder / "data", folder / "work"
    data.mkdir()
    work.mkdir()
    shutil.copytree(ROOT / "tests", data / "tests", ignore=shutil.ignore_patterns("corpus", "__pycache__"))
    (data / "start").write_text(START.format(data=data))
    subprocess.run(["make", "-s", "install", f"B={SOURCE}", "PREFIX=/usr", f"DESTDIR={data}/programs",
                    *(["SAN=1"] if SANITIZED else [])], cwd=ROOT, check=True, timeout=120)
    log = data / "log"
    with open(log, "ab") as output:
        outer = process.start([*IN_NEW_NETWORK, *debroot.UNSHARE, "sh", "-c", debroot.RUN], signal="KILL",
                              stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/",
                              env=dict(os.environ, work=work, tar=tar, data=data))
    try:
        outer.wait(120)
        text = log.read_text(errors="replace")
        assert (data / "result").exists(), text
        found = json.loads((data / "result").read_text())
        assert "problem" not in found, text
        yield found
    finally:
        outer.kill()
        outer.wait()
        shutil.rmtree(folder, ignore_errors=True)


def test_the_file_has_nothing_that_we_mind(seen):
    assert seen["check"] == [0, "", ""]
    assert seen["before"] == seen["after"]


def test_the_packages_init_script_starts_and_stops_us(seen):
    status, said, errors = seen["start"]
    assert status == 0 and "IMAP proxy" in said and "is ready" in errors and len(errors.splitlines()) == 2
    assert seen["status"][0] == 0
    assert seen["stop"][0] == 0
    assert not [path for path in seen["files"] if "imapproxy.pid" in path]


def test_clients_are_served_and_connections_reused(seen):
    assert seen["logins"] == [[True, False], [True, True]]
    assert seen["backend_logins"] == 1


def test_only_the_supervisor_is_root_and_sessions_are_in_the_chroot(seen):
    assert set(seen["processes"]) == {"in.imapproxyd", "cachebrokerd", "lookupd", "proxyd"}
    for program, found in seen["processes"].items():
        for uid, root in found:
            assert uid == (0 if program == "in.imapproxyd" else 65534), program
            assert root == ("/var/lib/imapproxy/chroot" if program == "proxyd" else "/")


def test_the_old_statistics_are_kept_and_said_once(seen):
    assert "/run/pimpstats.old" in seen["files"] or "/var/run/pimpstats.old" in seen["files"]
    assert len([line for line in seen["log"] if "pimpstats.old now" in line]) == 1


def test_the_log_complains_of_nothing(seen):
    lines = seen["log"]
    assert any("is ready" in line for line in lines)
    assert all(int(line[1:line.index(">")]) & 7 >= 5 for line in lines), lines  # LOG_NOTICE or less
    assert all("no effect" not in line and "unknown key" not in line for line in lines)
