"""Supervisors that start proxyd for a System with run_listener no: the real xinetd, the real openbsd-inetd,
systemd-socket-activate; a process for each connection, or the listener at the first one.

What is read are the project's own files, xinetd.d/ and conf/inetd.conf, with only ports and paths replaced.
openbsd-inetd is unpacked and not installed: its package and xinetd's conflict, and it would start a service.
"""
import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from keepwarm import process
from keepwarm.debroot import CACHE
from keepwarm.process import wait_until
from keepwarm.system import ROOT

XINETD = "/usr/sbin/xinetd"
ACTIVATE = "systemd-socket-activate"
INETD_PACKAGES = ("openbsd-inetd", "libbsd0", "libevent-2.1-7", "libmd0", "libnsl2", "libtirpc3", "libwrap0")
SERVICES = ("imap", "imaps", "pop3", "pop3s")
SHIPPED_PROGRAM, SHIPPED_RUN = "/usr/local/sbin/proxyd", "/run/keepwarm"


# --- openbsd-inetd ------------------------------------------------------------------------------------
def unpack_inetd():
    """(folder with the program and its libraries, None), or (None, why there is none)."""
    folder = CACHE / "openbsd-inetd"
    if (folder / "inetd").exists():
        return folder, None
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None, "openbsd-inetd comes as a Debian package"
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        run = subprocess.run(["apt-get", "download", *INETD_PACKAGES], cwd=work, capture_output=True, text=True,
                             timeout=120, check=False)
        if run.returncode != 0:
            return None, (run.stderr.strip().splitlines() or ["apt-get download failed"])[-1]
        for package in work.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, work / "root"], check=True, timeout=60)
        (work / "flat").mkdir()
        for path in [*(work / "root").glob("**/*.so.*"), work / "root/usr/sbin/inetd"]:
            if path.exists():
                shutil.copy2(path, work / "flat" / path.name)
        CACHE.mkdir(parents=True, exist_ok=True)
        whole = Path(tempfile.mkdtemp(prefix="openbsd-inetd-", dir=CACHE))
        whole.chmod(0o755)
        shutil.copytree(work / "flat", whole, dirs_exist_ok=True)
        try:
            whole.rename(folder)  # all of it at once: other test processes may want it, too
        except OSError:
            shutil.rmtree(whole)
            if not (folder / "inetd").exists():
                raise
    return folder, None


# --- the files ------------------------------------------------------------------------------------------
def replaced(text, system):
    """The shipped text with this system's paths."""
    assert SHIPPED_PROGRAM in text and f"-r {SHIPPED_RUN}" in text, text
    return text.replace(SHIPPED_PROGRAM, str(system.binaries / "proxyd")).replace(SHIPPED_RUN, str(system.run_directory))


def entry(system, folder, service, port, more="", **attributes):
    """A shipped entry of xinetd with attributes changed or added, and more arguments of proxyd."""
    text = replaced((ROOT / "xinetd.d" / folder / service).read_text(), system)
    text = re.sub(r"(?m)^(\tserver_args .*)$", lambda match: f"{match[1]} {more}", text)
    # "type": a port that is not /etc/services' own
    for name, value in {"type": "UNLISTED", "bind": "127.0.0.1", "port": port, **attributes}.items():
        text = re.sub(rf"(?m)^\t{name}\s*=.*\n", "", text)
        text = text.replace("\n}\n", f"\n\t{name} = {value}\n}}\n")
    return text


def xinetd(folder):
    def command(system, ports, **attributes):
        conf = system.folder / "xinetd.conf"
        entries = [entry(system, folder, service, port, **attributes) for service, port in ports.items()]
        conf.write_text(f"defaults\n{{\n\tlog_type = FILE {system.folder}/xinetd.log\n}}\n" + "".join(entries))
        return [XINETD, "-dontfork", "-f", conf, "-pidfile", system.folder / "xinetd.pid"]
    return command


def inetd_lines(system, ports, sort):
    """The shipped lines of this sort ("wait" or "nowait"), commented out or not."""
    lines = []
    for line in replaced((ROOT / "conf" / "inetd.conf").read_text(), system).splitlines():
        match = re.fullmatch(rf"#?(\w+)(\tstream\t)tcp(\t{sort}\b.*)", line)
        if match and match[1] in ports:
            # tcp alone would listen on [::1], too, which is not replaced by the address
            lines.append(f"127.0.0.1:{ports[match[1]]}{match[2]}tcp4{match[3]}\n")
    assert len(lines) == len(ports), lines
    return lines


def inetd(sort):
    def command(system, ports, more="", user="root"):
        folder, why = unpack_inetd()
        assert folder, why
        conf = system.folder / "inetd.conf"
        lines = [line.rstrip("\n").replace("\troot\t", f"\t{user}\t") + f" {more}\n" for line in inetd_lines(system, ports, sort)]
        conf.write_text("".join(lines))
        return ["env", f"LD_LIBRARY_PATH={folder}", folder / "inetd", "-i", conf]
    return command


def activate(*options):
    """It serves one service only: of one kind."""
    def command(system, ports, more="", user=None):  # user: who starts it, anyhow
        (service, port), = ports.items()
        return [ACTIVATE, "-l", f"127.0.0.1:{port}", *options, system.binaries / "proxyd", "-r", system.run_directory,
                "-s", service, *more.split()]
    return command


MODES = {
    "xinetd nowait": xinetd("."),
    "inetd nowait": inetd("nowait"),
    "xinetd wait": xinetd("wait"),
    "inetd wait": inetd("wait"),
    "activate each": activate("--accept", "--inetd"),
    "activate listener": activate("--inetd"),
}
NOWAIT = ("xinetd nowait", "inetd nowait")
WAIT = ("xinetd wait", "inetd wait")


def missing(mode):
    """Why the supervisor of this mode cannot be started here, or None."""
    if mode.startswith("inetd"):
        return unpack_inetd()[1]
    program = XINETD if mode.startswith("xinetd") else ACTIVATE
    return None if shutil.which(program) else f"{program} is not installed"


# --- running one ----------------------------------------------------------------------------------------
def listens(port):
    lines = process.read_proc("net", "tcp").decode().splitlines()[1:]
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines)


def listeners(system):
    """The listeners: no proxyd has started them, and they have started some."""
    proxyds = system.pids("proxyd")
    return [pid for pid in proxyds if process.parent(pid) not in (None, *proxyds) and process.children(pid)]


def end_what_is_left(system):
    """Not every supervisor ends what it has started: a listener, perhaps one that has no children yet."""
    proxyds = system.pids("proxyd")
    for pid in proxyds:
        if process.parent(pid) not in proxyds:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


@contextlib.contextmanager
def started(system, mode, services=("imap",), prefix=(), **attributes):
    """The supervisor, on system.port for imap and ports of their own for the others: yields {service: port}, with
    the Popen in system.starter. prefix: a program and its arguments that start it, as setpriv(1) does. Attributes:
    user; more, further arguments of proxyd; for xinetd any."""
    if os.getuid() != 0:
        attributes.setdefault("user", pwd.getpwuid(os.getuid()).pw_name)
    ports = {service: system.port if service == "imap" else process.free_port() for service in services}
    argv = [*prefix, *MODES[mode](system, ports, **attributes)]
    with open(system.log, "ab") as log:
        system.starter = process.start(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
    try:
        wait_until(lambda: all(map(listens, ports.values())), lambda: f"nobody listens: {ports}\n{system.log_text()}")
        yield ports
    finally:
        system.starter.terminate()
        system.starter.wait(process.DEADLINE)
        end_what_is_left(system)
