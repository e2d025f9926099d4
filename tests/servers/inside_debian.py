"""Run as PID 1 of a root in which Debian's imapproxy is installed and our programs lie in its program's place, with a
network of its own: usage inside_debian.py TESTS_FOLDER RESULT_FILE. What was seen goes to the file, as JSON."""
import contextlib
import fcntl
import hashlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, sys.argv[1])

from keepwarm import process  # noqa: E402
from keepwarm.backend import Backend  # noqa: E402
from keepwarm.imap import Client  # noqa: E402

PORT = 1143  # what the package writes into the file when the mail host is localhost
CONF = Path("/etc/imapproxy.conf")
OURS = ("in.imapproxyd", "cachebrokerd", "lookupd", "proxyd")
seen = {"log": []}


def bring_loopback_up():
    up = struct.pack("16sH14s", b"lo", 0x1 | 0x40, b"")
    with socket.socket() as sock:
        fcntl.ioctl(sock, 0x8914, up)  # SIOCSIFFLAGS


def listen_to_log():
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind("/dev/log")
    os.chmod("/dev/log", 0o666)

    def receive():
        while True:
            seen["log"].append(log.recv(4096).decode("utf-8", "replace"))
    threading.Thread(target=receive, daemon=True).start()


def run(*argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    return [done.returncode, done.stdout, done.stderr]


def processes():
    """{program: [[uid, root folder]]}"""
    found = {}
    for pid, program in process.find("").items():
        uid = re.search(rb"^Uid:\t(\d+)", process.read_proc(pid, "status"), re.M)
        if program in OURS and uid:  # it has not ended meanwhile
            with contextlib.suppress(OSError):
                found.setdefault(program, []).append([int(uid[1]), os.readlink(f"/proc/{pid}/root")])
    return found


def digest():
    return hashlib.sha256(CONF.read_bytes()).hexdigest()


def main():
    bring_loopback_up()
    listen_to_log()
    backend = Backend(port=143)
    Path("/run/pimpstats").write_bytes(bytes(72))
    seen["before"] = digest()
    seen["check"] = run("/usr/sbin/proxyd", "-n", "-f", CONF)
    seen["start"] = run("/etc/init.d/imapproxy", "start")
    seen["logins"] = []
    for _ in range(2):
        with Client(PORT) as client:
            reply = client.login("anna", "pw-anna")
            seen["logins"].append([reply.ok, reply.reused])
            seen["processes"] = processes()
            client.logout()
        process.wait_until(lambda: '"given": 1' in run("/usr/sbin/pimpstat", "--json")[1] or len(seen["logins"]) > 1,
                           "nothing was given back")
    seen["status"] = run("/etc/init.d/imapproxy", "status")
    seen["stop"] = run("/etc/init.d/imapproxy", "stop")
    process.wait_until(lambda: not set(OURS) & set(process.find("").values()), "programs are left behind the stop")
    seen["files"] = sorted(str(path) for path in Path("/run").iterdir())
    seen["after"] = digest()
    seen["backend_logins"] = len(backend.logins)


try:
    main()
except BaseException as problem:  # pylint: disable=broad-except
    seen["problem"] = repr(problem)
    raise
finally:
    Path(sys.argv[2]).write_text(json.dumps(seen))
