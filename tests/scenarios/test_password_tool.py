"""lookupd -t USER -p: does the directory take a password, in each kind of directory that needs no server."""
import subprocess

import pytest

from keepwarm.directory import readable, tell
from keepwarm.process import DEADLINE
from keepwarm.system import BUILD

IMAP, POP3, SYSTEM = (f"{{PLAIN}}{word}-wort" for word in ("imap", "pop3", "system"))
RECORD = "{name}\tuid=1|gid=1|home=/x{hashes}|options={options}\n"
ACCOUNTS = {
    "both": f"|imappw={IMAP}|pop3pw={POP3}", "one": f"|imappw={IMAP}|systempw={SYSTEM}", "system": f"|systempw={SYSTEM}",
    "pop": f"|pop3pw={POP3}", "none": "", "empty": "|systempw=", "clear": "|systempw=in-the-clear",
    "strange": "|systempw={SCRAM-SHA-1}Geheim-x", "dear": "|systempw=$2y$31$" + "a" * 53,
}
RIGHT = {("both", "imap"): "imap", ("both", "pop3"): "pop3", ("one", "imap"): "imap", ("one", "pop3"): "system",
         ("system", "imap"): "system", ("system", "pop3"): "system", ("pop", "pop3"): "pop3"}


@pytest.fixture(params=["userdb", "lmdb"])
def conf(request, tmp_path):
    text = tmp_path / "userdb"
    text.write_text("".join(RECORD.format(name=name, hashes=hashes, options="") for name, hashes in ACCOUNTS.items()))
    readable(text)
    path = tmp_path / "conf"
    path.write_text(f"directory {request.param}:{text if request.param == 'userdb' else tmp_path / 'table'}\n")
    if request.param == "lmdb":
        subprocess.run([BUILD / "lookupd", "-f", path, "--import", text], check=True, timeout=DEADLINE,
                       stdout=subprocess.DEVNULL)
    return path


@pytest.mark.parametrize("service", ["imap", "pop3"])
@pytest.mark.parametrize("name", ACCOUNTS)
def test_each_service_has_its_password(conf, name, service):
    for word in ("imap", "pop3", "system"):
        right = RIGHT.get((name, service)) == word
        told = tell(conf, name, service, 0 if right else 3, password=f"{word}-wort\n")
        assert ("the password is right" in told) == right
    for typed in ("", "\n", "in-the-clear", "{PLAIN}imap-wort", ACCOUNTS[name].rpartition("=")[2], "Geheim-x"):
        assert "right" not in tell(conf, name, service, 3, password=typed)


def test_what_cannot_be_checked_is_said_without_the_hash(conf):
    assert "scheme SCRAM-SHA-1 is stored, which is not known here" in tell(conf, "strange", status=3, password="x")
    assert "would take too long" in tell(conf, "dear", status=3, password="x")
    for name in ("strange", "dear", "clear"):
        told = tell(conf, name, status=3, password="x")
        assert "Geheim" not in told and "aaaa" not in told and "in-the" not in told
    assert "has no password" in tell(conf, "none", status=3, password="x")


def test_a_line_is_a_password(conf):
    """Its end is not a part of it; blanks are."""
    assert "right" in tell(conf, "system", password="system-wort")
    assert "right" in tell(conf, "system", password="system-wort\nand more\n")
    for typed in ("system-wort \n", " system-wort\n", "system-wort\r\n", "system-wort\0\n", "x" * 20000):
        tell(conf, "system", status=3, password=typed)
    tell(conf, "nobody-knows", status=1, password="x")


def test_names_are_completed_and_options_filled_in(tmp_path):
    text = tmp_path / "userdb"
    text.write_text("".join(RECORD.format(name=name, hashes=f"|systempw={SYSTEM}", options=options) for name, options in
                            (("anna@example.org", ""), ("bo@example.org", "mailhost=own,disablepop3=0"))))
    readable(text)
    conf = tmp_path / "conf"
    conf.write_text(f"directory userdb:{text}\ndefault_domain @Example.org\nlogin_case lower\n"
                    "default_options disablepop3=1,mailhost=usual\n")
    told = tell(conf, "Anna", password="system-wort")
    assert "mail host: usual port 143" in told and "logs in as: anna@example.org\n" in told
    assert tell(conf, "ANNA@EXAMPLE.ORG", password="system-wort") == told
    assert "the account has disablepop3" in tell(conf, "anna", "pop3", 1, password="system-wort")
    assert "mail host: own port 110" in tell(conf, "bo", "pop3", password="system-wort")


def test_a_password_is_no_argument(tmp_path):
    conf = tmp_path / "conf"
    conf.write_text("directory static:\n")
    for arguments in (["-t", "anna", "-p", "word"], ["-p"]):
        run = subprocess.run([BUILD / "lookupd", "-f", conf, *arguments], capture_output=True, timeout=DEADLINE,
                             stdin=subprocess.DEVNULL, check=False)
        assert run.returncode == 2
    assert "has no password" in tell(conf, "anna", status=3, password="x")  # static: knows nothing of anybody
