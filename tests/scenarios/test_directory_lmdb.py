"""lookupd --import, and the compiled table that it makes."""
import fcntl
import os
import pwd
import resource
import shutil
import subprocess
import threading

import pytest

from keepwarm.directory import at, readable, tell
from keepwarm.process import DEADLINE, children, free_port, parent, wait_until
from keepwarm.system import BUILD, SANITIZED, temp_folder

USERDB = "# a comment\n\nanna\tuid=1|gid=1|home=/x|systempw=hash|options=mailhost=one\nbo\tuid=1|gid=1\n" \
    "carl d\tuid=1|gid=1|home=/x|mail=/y|options=mailhost=two:1143 imaps://three,disablepop3=1\n"
ENUMERATED = "# authuserdb\n\nanna\t1\t1\t/x\t\tmailhost=one\ncarl d\t1\t1\t/x\t/y\tmailhost=two:1143 imaps://three," \
    "disablepop3=1\n.\n"
CSV = 'user,mailhost,login,password,hash,options\r\nanna,one,,,hash,\r\n' \
    '"carl d",two:1143;imaps://three,"ca""rl",secret,,disablepop3=1\r\n'


class Table:
    def __init__(self):
        self.folder = temp_folder()
        self.path = self.folder / "accounts"
        self.conf = self.folder / "conf"
        self.conf.write_text(f"directory static:\ndirectory lmdb:{self.path}\n")
        self.told = self.folder / "told"
        self.told.write_text(f"directory lmdb:{self.path}\n")

    def take(self, text, status=0, name="text"):
        """Imports the text; returns what was printed."""
        source = self.folder / name
        source.write_bytes(text if isinstance(text, bytes) else text.encode())
        run = subprocess.run([BUILD / "lookupd", "-f", self.conf, "--import", source], capture_output=True,
                             timeout=DEADLINE, check=False)
        assert run.returncode == status, f"{run.returncode} {run.stdout} {run.stderr}"
        source.unlink()
        return (run.stdout + run.stderr).decode()

    def tell(self, *args):
        return tell(self.told, *args)

    def stop(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def __str__(self):
        return f"lmdb:{self.path}"


@pytest.fixture
def table(make):
    made = Table()
    make.started.append(made)
    return made


@pytest.mark.parametrize("text", [USERDB, ENUMERATED, ENUMERATED.split("\n", 2)[2], CSV, "\ufeff" + CSV])
def test_all_formats_are_known_by_their_first_line(table, text):
    assert "2 accounts are in" in table.take(text)
    assert "mail host: one port 143, no TLS\nlogs in as: anna\n" in table.tell("anna")
    carl = table.tell("carl d")
    assert "mail host: two port 1143, no TLS\nmail host: three port 993, TLS\n" in carl
    assert ('logs in as: ca"rl\npassword: ***\n' in carl) == (CSV in text)
    assert "the account has disablepop3" in table.tell("carl d", "pop3", 1)
    assert "no directory knows" in table.tell("bo", "imap", 1)


@pytest.mark.parametrize("text, line, wrong", [
    (USERDB + USERDB, 8, "there twice"),
    (USERDB[:-5], 5, "not finished"),
    (USERDB + "x\tuid=1|gid=1|home=/|options=mailhost=a/b\n", 6, "a value"),
    (ENUMERATED[:-2], 4, "not whole"),
    (ENUMERATED.replace("imaps", "http"), 4, "options"),
    (CSV + "x,y\n", 4, "columns"),
    (CSV + "x,y,,,,\n" + 'x,"y', 5, "not finished"),
    (CSV + 'x,"y\n', 4, "quotes"),
    (CSV + ",y,,,,\n", 4, "empty"),
    (CSV + "x,a/b,,,,\n", 4, "a value"),
    (CSV + '"x\x01",,,,,\n', 4, "control"),
    (CSV + "x" * 511 + ",,,,,\n", 4, "too long"),
    (CSV + "x," + "y" * 70000 + ",,,,\n", 4, "too long"),
    (CSV + "x\0y,,,,,\n", 4, "control"),
    ("user,mailhos\nx,y\n", 1, "column"), ("mailhost\nx\n", 1, "column user"), ("user,user\nx,x\n", 1, "column user"),
    ("", 0, "no account"), ("user\n", 1, "no account"), ("# authuserdb\n.\n", 2, "no account"),
    (b"\xff\xfe\x00" * 1000 + b"\n", 1, ""),
])
def test_a_broken_text_leaves_the_table_as_it_is(table, text, line, wrong):
    table.take(CSV)
    before = table.path.read_bytes()
    said = table.take(text, status=1)
    assert f"/text:{line}: " in said and wrong in said
    assert table.path.read_bytes() == before
    assert [path.name for path in table.folder.iterdir() if path.name.startswith("accounts")] == ["accounts"]


@pytest.mark.skipif(SANITIZED, reason="memory is the sanitizer's")
def test_a_million_accounts_need_no_memory(table):
    """In any order: 400 MB of them lie in the file, not in the process that writes or reads it."""
    count, step = 1_000_000, 7919  # which have no divisor in common: each once, far from the one before
    source = table.folder / "million"
    with open(source, "w", encoding="ascii") as file:
        file.write("user,mailhost,hash\n")
        file.writelines(f"user{n * step % count}@many.test,host{n * step % count % 9}.test,{'x' * 200}\n" for n in range(count))

    def little():
        resource.setrlimit(resource.RLIMIT_DATA, (160 << 20, 160 << 20))

    for command, answer in [(["-f", table.conf, "--import", source], f"{count} accounts are in"),
                            *((["-f", table.told, "-t", f"user{n}@many.test"], f"mail host: host{n % 9}.test port 143")
                              for n in (0, 1, 54321, count - 1))]:
        run = subprocess.run([BUILD / "lookupd", *command], capture_output=True, timeout=120, check=False, preexec_fn=little)
        assert run.returncode == 0 and answer.encode() in run.stdout, run
    table.tell(f"user{count}@many.test", "imap", 1)


def test_only_one_import_runs_at_a_time(table):
    table.take(CSV)
    with open(f"{table.path}.new", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "somebody else writes it" in table.take(USERDB, status=1)
    table.take(USERDB)  # what a killed import leaves behind is in nobody's way
    table.tell("anna")


@pytest.mark.parametrize("mask", [0, 0o077])
def test_the_first_table_can_be_read_by_the_service_alone(table, mask):
    before = os.umask(mask)
    try:
        table.take(CSV)
    finally:
        os.umask(before)
    st = table.path.stat()
    assert st.st_mode & 0o777 == 0o600
    assert os.getuid() != 0 or st.st_uid == pwd.getpwnam("nobody").pw_uid


def test_a_new_table_has_the_old_ones_mode(table):
    table.take(CSV)
    assert table.path.stat().st_mode & 0o777 == 0o600
    table.path.chmod(0o640)
    table.take(CSV)
    assert table.path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("damage", ["cut", "garbage", "foreign", "everybody", "gone"])
def test_a_file_that_is_no_table_is_refused(table, make, damage):
    table.take("user,mailhost\n" + "".join(f"user{n},one\n" for n in range(2000)))
    if damage == "cut":
        with open(table.path, "r+b") as file:
            file.truncate(table.path.stat().st_size // 2)
    elif damage == "garbage":
        table.path.write_bytes(b"x" * 100000)
    elif damage == "foreign":  # LMDB, but ours for something else
        system = make.system(make.backend())
        shutil.copy(system.folder / "state", table.path)
        table.path.chmod(0o600)
    elif damage == "everybody":
        table.path.chmod(0o644)
    else:
        table.path.unlink()
    assert "not known now" in table.tell("user1", "imap", 75)


def test_a_running_service_takes_a_new_table_and_never_sees_half_of_one(table, make):
    hosts = [make.backend() for _ in range(2)]

    def text(host):
        return "user,mailhost\n" + "".join(f"user{n},{at(host)}\n" for n in range(3000))
    table.take(text(hosts[0]))
    readable(table.path)
    system = make.system(hosts[0], directory=[table], lookup_ttl=1, server_port=free_port(), cache_expiration_time=0)
    ended, failures = threading.Event(), []

    def import_in_turn():
        for turn in range(12):
            table.take(text(hosts[turn % 2]))
        ended.set()
    thread = threading.Thread(target=import_in_turn)
    thread.start()
    n = 0
    while not ended.is_set():
        n += 1
        with system.client() as client:
            reply = client.login(f"user{n % 3000}", f"pw-user{n % 3000}")
            if not reply.ok:
                failures.append(reply)
    thread.join()
    assert not failures and n > 3
    wait_until(lambda: logged_in(system, hosts[1], "user7"), "the last table is not used")
    with system.client() as client:
        assert b"AUTHENTICATIONFAILED" in client.login("user3000", "x").tagged


@pytest.mark.parametrize("left", [0, 1, 4096, 0.5])
def test_a_table_that_is_cut_off_in_its_place_kills_no_worker_and_works_again(table, make, backend, left):
    table.take("user,mailhost\n" + "".join(f"user{n},{at(backend)}\n" for n in range(3000)))
    readable(table.path)
    whole = table.path.read_bytes()
    system = make.system(backend, directory=[table], lookup_ttl=1, server_port=free_port())
    system.session("user1").close()
    before = workers(system)
    with open(table.path, "r+b", buffering=0) as file:
        file.truncate(int(len(whole) * left) if isinstance(left, float) else left)
        for n in range(10, 30):
            with system.client() as client:
                assert client.login(f"user{n * 100}", "x").tagged.startswith(b"NO [UNAVAILABLE]")
        system.session("user1").close()  # as it was
        system.wait_log("was changed in its place")
        file.write(whole)
    wait_until(lambda: serves(system, "user2999"), system.log_text)
    assert workers(system) == before


def workers(system):
    master, = [pid for pid in system.pids("lookupd") if parent(pid) not in system.pids("lookupd")]
    return sorted(children(master))


def serves(system, user):
    with system.client() as client:
        tagged = client.login(user, f"pw-{user}").tagged
    assert tagged.startswith((b"OK ", b"NO [UNAVAILABLE]")), tagged
    return tagged.startswith(b"OK ")


@pytest.mark.skipif(SANITIZED, reason="what may end a worker here, a sanitizer takes for a bug")
def test_a_table_that_is_overwritten_again_and_again_makes_nobody_unknown(table, make, backend):
    """Some look-up may meet the moment in which a page is gone: another worker answers, or nobody can say it."""
    table.take("user,mailhost\n" + "".join(f"user{n},{at(backend)}\n" for n in range(3000)))
    readable(table.path)
    whole = table.path.read_bytes()
    system = make.system(backend, directory=[table], lookup_ttl=1, server_port=free_port(), cache_expiration_time=0)
    ended = threading.Event()

    def overwrite():
        while not ended.wait(0.01):
            with open(table.path, "r+b", buffering=0) as file:
                file.truncate(0)
                file.write(whole)
    thread = threading.Thread(target=overwrite)
    thread.start()
    try:
        for n in range(60):
            serves(system, f"user{n * 50}")
    finally:
        ended.set()
        thread.join()
    wait_until(lambda: serves(system, "user2999"), system.log_text, 30)


def logged_in(system, host, user):
    system.session(user).close()
    return host.logins and host.logins[-1].user == user
