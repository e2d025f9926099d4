"""The commands of docs/MIGRATING.md that make a table of accounts out of what another program had."""
import grp
import os
import re
import shutil
import subprocess
import textwrap

import pytest

from keepwarm import process
from keepwarm.system import BUILD, ROOT, temp_folder

TEXT = (ROOT / "docs" / "MIGRATING.md").read_text(encoding="utf-8")


@pytest.fixture
def folder():
    made = temp_folder()
    yield made
    shutil.rmtree(made)


def shell(command, folder, stdin=None):
    return subprocess.run(["sh", "-ec", command], cwd=folder, input=stdin, capture_output=True, check=False, text=True,
                          timeout=process.DEADLINE)


def awk(path):
    """The command that reads this file, as a site runs it."""
    commands = [textwrap.dedent(block) for block in re.findall(r"^ *```\n(.*?)^ *```$", TEXT, re.M | re.S)
                if block.lstrip().startswith("awk") and path in block]
    assert len(commands) == 1, commands
    return commands[0]


class Accounts:
    """Those of a table; [name] is what lookupd says of one."""

    def __init__(self, folder, csv):
        self.folder, self.conf = folder, folder / "imapproxy.conf"
        self.conf.write_text(f"server_hostname imap.example.org\ndirectory lmdb:{folder}/accounts.lmdb\n"
                             f"proc_groupname {grp.getgrgid(os.getgid()).gr_name}\n")
        made = self.lookupd("--import", "-", stdin=csv)
        assert made.returncode == 0, made.stderr

    def lookupd(self, *arguments, stdin=None):
        return subprocess.run([BUILD / "lookupd", "-f", self.conf, *arguments], input=stdin, capture_output=True, check=False,
                              text=True, timeout=process.DEADLINE)

    def __getitem__(self, name):
        found = self.lookupd("-t", name)
        return (re.findall(r"^mail host: (\S+ port \d+)", found.stdout, re.M),
                "".join(re.findall(r"^logs in as: (.*)$", found.stdout, re.M)))


def test_a_popmap_of_perdition(folder):
    (folder / "popmap").write_text("# comment\nanna@example.org:one.example.org\n\n"
                                   "bo@example.org:bo.old@two.example.org:1143\ncy:192.0.2.7\n")
    made = shell(awk("/etc/perdition/popmap").replace("/etc/perdition/popmap", "popmap"), folder)
    assert made.returncode == 0, made.stderr
    csv = (folder / "accounts.csv").read_text()
    accounts = Accounts(folder, csv)
    assert accounts["anna@example.org"] == (["one.example.org port 143"], "anna@example.org")
    assert accounts["bo@example.org"] == (["two.example.org port 1143"], "bo.old")
    assert accounts["cy"] == (["192.0.2.7 port 143"], "cy")
    assert "cut -d, -f1,2" in TEXT
    accounts = Accounts(folder, shell("cut -d, -f1,2 accounts.csv", folder).stdout)
    assert accounts["bo@example.org"] == (["two.example.org port 1143"], "bo@example.org")


def test_a_passwd_file_of_dovecot(folder):
    (folder / "users").write_text("anna@example.org:{PLAIN}x:::::: proxy=y host=192.0.2.1\n"
                                  "bo@example.org:{PLAIN}x::::::host=two.example.org proxy=y\ncy:{PLAIN}x::::::\n")
    made = shell(awk("/etc/dovecot/users").replace("/etc/dovecot/users", "users"), folder)
    assert made.returncode == 0, made.stderr
    accounts = Accounts(folder, (folder / "accounts.csv").read_text())
    assert accounts["anna@example.org"][0] == ["192.0.2.1 port 143"]
    assert accounts["bo@example.org"][0] == ["two.example.org port 143"]
    assert accounts["cy"] == ([], "")


def test_what_a_query_prints_becomes_a_table(folder):
    """Both commands for MySQL end in the same way."""
    (tail,) = set(re.findall(r'"SELECT CONCAT_WS[^"]*" (\| sed .*?) >accounts\.csv', TEXT))
    made = shell("cat " + tail, folder, "anna,one.example.org:1143\nbo,two.example.org\n")
    accounts = Accounts(folder, made.stdout)
    assert accounts["anna"][0] == ["one.example.org port 1143"] and accounts["bo"][0] == ["two.example.org port 143"]
