"""Directories of accounts for tests: files that lookupd may read, and `lookupd -t`."""
import os
import shutil
import subprocess

from keepwarm import process
from keepwarm.system import BUILD, temp_folder

USERDB = "{name}\tuid=1|gid=1|home=/x|systempw=$1$x$y|options={options}\n"


def has_driver(kind):
    """Was lookupd built with it?"""
    return f"\0{kind}\0".encode() in (BUILD / "lookupd").read_bytes()


def readable(path):
    """Nobody but the service's user may read it."""
    path.chmod(0o600)
    if os.getuid() == 0:
        shutil.chown(path, "nobody")
    return path


class Userdb:
    """A userdb file; options: name -> text, `mailhost=...` mostly."""

    def __init__(self, **options):
        self.folder = temp_folder()
        self.path = self.folder / "userdb"
        self.options = dict(options)
        self.write()

    def write(self, **options):
        """Replaces the file at once, as userdb(8) does."""
        self.options.update(options)
        self.write_text("".join(USERDB.format(name=name, options=text) for name, text in self.options.items()
                                if text is not None))

    def write_text(self, text):
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        readable(fresh).rename(self.path)

    def stop(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def __str__(self):
        return f"userdb:{self.path}"


class Passwords:
    """A compiled table of accounts on one mail host (None: on server_hostname); each is user -> (clear password, hash)."""

    def __init__(self, backend, **accounts):
        self.folder = temp_folder()
        self.path, self.host = self.folder / "accounts", at(backend) if backend else ""
        self.write(**accounts)

    def write(self, **accounts):
        """Replaces all accounts."""
        lines = [f'{user},{self.host},"{password}","{digest}"' for user, (password, digest) in accounts.items()]
        source, conf = self.folder / "text", self.folder / "conf"
        source.write_text("\n".join(["user,mailhost,password,hash", *lines, ""]), encoding="utf-8")
        conf.write_text(f"directory static:\ndirectory lmdb:{self.path}\n")
        subprocess.run([BUILD / "lookupd", "-f", conf, "--import", source], capture_output=True,
                       timeout=process.DEADLINE, check=True)
        readable(self.path)

    def stop(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def __str__(self):
        return f"lmdb:{self.path}"


def at(backend):
    """The backend as a mail host of a record."""
    return f"{backend.address}:{backend.port}"


def tell(conf, user, service="imap", status=0, password=None):
    """What lookupd -t prints; with a password what -p does."""
    run = subprocess.run([BUILD / "lookupd", "-f", conf, "-t", user, "-s", service, *(["-p"] if password is not None else [])],
                         input=password, capture_output=True, text=True, timeout=process.DEADLINE, check=False)
    assert run.returncode == status, f"{run.returncode}: {run.stdout}{run.stderr}"
    return run.stdout + run.stderr
