"""Run in namespaces of its own (network, mounts, processes): the shipped files unchanged, at their own ports and paths, as docs and
README say it. usage: inside_inetd.py TESTS_FOLDER PROGRAMS_FOLDER MODE INETD_FOLDER. What each port said is printed, as JSON."""
import fcntl
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])

from keepwarm import certs, pop3, process, tls  # noqa: E402
from keepwarm.backend import Backend  # noqa: E402
from keepwarm.imap import Client  # noqa: E402

ROOT = Path(sys.argv[1]).parent
PORTS = {"imap": 143, "imaps": 993, "pop3": 110, "pop3s": 995}
INETD = Path(sys.argv[4])


def bring_loopback_up():
    with socket.socket() as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sH14s", b"lo", 0x1 | 0x40, b""))  # SIOCSIFFLAGS


def cover(path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", path], check=True)


def daemons(authority, backend, host):
    for program in ("proxyd", "in.imapproxyd", "cachebrokerd", "lookupd", "tlsrelayd"):
        shutil.copy2(Path(sys.argv[2]) / program, "/usr/local/sbin")
    ours = authority.issue("127.0.0.1")
    conf = Path("/run/imapproxy.conf")
    conf.write_text(f"server_hostname 127.0.0.1\nserver_port {backend.port}\npop3_server_port {host.port}\nrun_listener no\n"
                    f"run_directory /run/keepwarm\nstat_filename /run/state\nforeground_mode yes\nlog_target stderr\n"
                    f"tls_server_cert_file {ours.path}\ntls_server_key_file {ours.key_path}\n")
    process.start(["/usr/local/sbin/in.imapproxyd", "-f", conf], stdout=sys.stderr)
    process.wait_until(lambda: Path("/run/keepwarm/session").is_socket(), "no session socket")


def start_xinetd(sort):
    """As README says it."""
    cover("/etc/xinetd.d")
    subprocess.run(["service", "xinetd", "start"], check=True, stdout=sys.stderr)
    for service in PORTS:
        shutil.copy2(ROOT / "xinetd.d" / ("wait" if sort == "wait" else ".") / service, "/etc/xinetd.d")
    subprocess.run(["service", "xinetd", "restart"], check=True, stdout=sys.stderr)


def start_inetd(sort):
    """Not installed, so it has no service."""
    text = (ROOT / "conf/inetd.conf").read_text()
    if sort == "wait":  # the administrator's pencil: the lines of the one sort out, those of the other in
        text = re.sub(r"(?m)^(\w.*)$", r"#\1", text)
        text = re.sub(r"(?m)^#(\w+\tstream\ttcp\twait\t.*)$", r"\1", text)
    Path("/run/inetd.conf").write_text(text)
    process.start(["env", f"LD_LIBRARY_PATH={INETD}", INETD / "inetd", "-i", "/run/inetd.conf"], stdout=sys.stderr)


def visit(service, address, authority):
    sock = socket.create_connection((address, PORTS[service]), timeout=10)
    if service.endswith("s"):
        sock = tls.wrap(sock, authority)
    if service.startswith("pop3"):
        with pop3.Client(None, sock=sock) as client:
            client.session("anna")
            return client.ok("QUIT").decode()
    with Client(None, sock=sock) as client:
        reply = client.login("anna", "pw-anna")
        assert reply.ok, reply
        client.send("z LOGOUT\r\n")
        return client.read_to_end().decode()


def main():
    bring_loopback_up()
    cover("/usr/local/sbin")
    cover("/run")
    backend, host = Backend(), pop3.Host()
    folder = Path("/run/certs")
    folder.mkdir()
    authority = certs.Authority(folder)
    daemons(authority, backend, host)
    kind, sort = sys.argv[3].split(" ")
    {"xinetd": start_xinetd, "inetd": start_inetd}[kind](sort)
    seen = {}
    for address in ("127.0.0.1", "::1") if kind == "inetd" else ("127.0.0.1",):
        for service in PORTS:
            process.wait_until(lambda: connects(address, PORTS[service]), f"{service} at {address}")
            seen[f"{service} {address}"] = visit(service, address, authority)
    print(json.dumps(seen))
    sys.stdout.flush()
    os._exit(0)  # all else ends with these namespaces


def connects(address, port):
    try:
        socket.create_connection((address, port), timeout=10).close()
        return True
    except OSError:
        return False


main()
