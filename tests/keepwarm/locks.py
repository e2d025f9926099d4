"""What a process may, as /proc says it: the lock that it is under, compared with what is wanted."""
import os
import re
from dataclasses import dataclass

from keepwarm import process

CAPABILITIES = ("CapEff", "CapPrm", "CapInh", "CapAmb")


@dataclass
class Lock:
    """What is asked of a process beyond no root, no capabilities, no new privileges, no dumps, and that others of its user
    may not look into it (its /proc is root's)."""
    seccomp: bool = False
    inside: bool = False  # it is in chroot_directory, or whatever folder it is shut into
    processes: int = None  # RLIMIT_NPROC


def status_of(pid):
    lines = process.read_proc(pid, "status").decode().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def limit_of(pid, what):
    """Soft and hard."""
    return tuple(re.search(rf"^{what} +(\S+) +(\S+)", process.read_proc(pid, "limits").decode(), re.M).groups())


def found(pid, folder, whole):
    """All that can be asked of a process."""
    status, root = status_of(pid), os.stat(f"/proc/{pid}/root/.")
    return {"uid": set(status["Uid"].split()), "gid": set(status["Gid"].split()), "groups": set(status["Groups"].split()),
            "capabilities": {status[name] for name in CAPABILITIES}, "no_new_privs": status["NoNewPrivs"],
            "seccomp": status["Seccomp"], "core": limit_of(pid, "Max core file size"),
            "hidden": os.stat(f"/proc/{pid}/mem").st_uid == 0, "inside": folder is not None and os.path.samestat(root, os.stat(folder)),
            "outside": os.path.samestat(root, os.stat(whole)), "processes": limit_of(pid, "Max processes")}


def check(name, pid, lock, uid, gid, folder=None, whole="/"):
    """folder: where those that are to be inside are shut into, or None; the others see the whole host."""
    seen = found(pid, folder, whole)
    groups = seen.pop("groups")
    if lock.processes is None:
        del seen["processes"]
    if not lock.seccomp:
        del seen["seccomp"]
    shut_in = lock.inside and folder is not None
    wanted = {"uid": {str(uid)}, "gid": {str(gid)}, "capabilities": {"0" * 16}, "no_new_privs": "1", "seccomp": "2",
              "core": ("0", "0"), "hidden": True, "inside": shut_in, "outside": not shut_in,
              "processes": (str(lock.processes), str(lock.processes))}
    wrong = {key: value for key, value in seen.items() if value != wanted[key]}
    assert not wrong, f"{name} ({pid}) has {wrong}"
    assert groups <= {str(gid)}, f"{name} ({pid}): groups {groups}"
