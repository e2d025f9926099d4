"""make pkg, and what dpkg does with it under a real systemd: installed, upgraded under load, removed, purged; in the
place of Debian's imapproxy; and without systemd."""
import re
import subprocess

import pytest
from test_systemd import CLIENTS, Load, plain

from keepwarm import package, pop3
from keepwarm.backend import Backend
from keepwarm.imap import Client
from keepwarm.package import CONF, FOR_UNITS, NEXT, OF_OLD, UNITS
from keepwarm.process import START_DEADLINE, wait_until

REASON = package.missing()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")

APT = "mkdir -p /root/lists/partial; apt-get -o Dir::State::lists=/root/lists"  # the real ones only take time
USERS = [f"user{n}" for n in range(40)]
LISTENER = "keepwarm-listener.target"
EACH = "keepwarm-each.target"
SUPERVISOR = "in.imapproxyd.service"


@pytest.fixture(scope="module")
def debs(tmp_path_factory):
    """This version and the next."""
    return package.build(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def other(debs):
    """A version with which this one cannot talk."""
    return package.build_other(debs[0].parent, debs[0])


@pytest.fixture(scope="module")
def booted():
    root = package.Root()
    try:
        yield root.boot()
    finally:
        root.stop()


@pytest.fixture(scope="module")
def bare(booted):
    """The root's files before anything was installed."""
    return booted.left()


@pytest.fixture(scope="module")
def old_debs():
    """Debian's imapproxy and its libraries; fetched before the network is that of the root."""
    return package.old_packages()


@pytest.fixture
def root(booted, bare, old_debs):
    """Each test begins and ends without the package; purged, it has left nothing behind."""
    booted.enter()
    try:
        yield booted
    finally:
        try:
            print(booted.journal()[-20000:])
            booted.shell("dpkg --purge keepwarm")
            assert booted.pids() == []
            assert booted.left() == bare
        finally:
            booted.run("sh", "-c", f"rm -f {CONF}*")
            booted.leave()


@pytest.fixture
def backend():
    backend = Backend()
    yield backend
    backend.stop()


@pytest.fixture
def host(root, backend):
    """The mail host's lines of a configuration."""
    return {"server_hostname": "127.0.0.1", "server_port": backend.port, "host_retry": 0}


# --- what is built ------------------------------------------------------------------------------------------------
def test_the_same_tree_makes_the_same_package(debs):
    """Under another umask, and later."""
    first = debs[1].read_bytes()
    assert package.make(debs[1].parent, package.fields(debs[1])["Version"], umask=0o077) == debs[1]
    assert debs[1].read_bytes() == first


def test_the_control_file_says_what_is_needed(debs):
    fields = [package.fields(deb) for deb in debs]
    assert fields[1]["Version"] == fields[0]["Version"] + NEXT
    for library in ("libc6 (>= ", "liblmdb0 (>= ", "libssl3 (>= ", "libsystemd0 (>= ", "adduser"):
        assert library in fields[0]["Depends"]
    assert [fields[0][key] for key in ("Conflicts", "Replaces", "Provides")] == ["imapproxy"] * 3
    names = subprocess.run(["dpkg-deb", "-c", debs[0]], capture_output=True, text=True, check=True).stdout
    assert all(line.split()[1] == "root/root" for line in names.splitlines())
    assert "/usr/local" not in names


# --- installed ----------------------------------------------------------------------------------------------------
def test_nothing_is_started_until_there_is_a_mail_host(root, debs, backend):
    said = root.install(debs[0])
    assert "names no mail host" in said and f"systemctl enable --now {LISTENER}" in said
    assert root.is_enabled(*package.WAYS) == ["disabled"] * 3 and root.pids() == []
    assert root.run("stat", "-c", "%U %a", "/var/lib/keepwarm", "/var/log/keepwarm").stdout == "keepwarm 750\n" * 2
    root.run("proxyd", "-n", "-f", CONF)
    units = sorted(str(path.name) for path in root.path(UNITS).iterdir()
                   if re.match("proxyd|cachebrokerd|lookupd|tlsrelayd|keepwarm|in.imapproxyd", path.name))
    verified = root.run("systemd-analyze", "verify", *(f"{UNITS}/{name}" for name in units))
    assert not [line for line in verified.stderr.splitlines() if any(name in line for name in units)]

    conf = root.conf().replace("#server_hostname mail.example.org", "server_hostname 127.0.0.1")
    root.write(CONF, conf.replace("server_port 143", f"server_port {backend.port}"))
    root.systemctl("enable", "--now", LISTENER)
    root.login(reused=False)
    root.wait_cached(1)
    root.login(reused=True)


def test_a_file_for_the_units_is_served_by_them_at_once(root, debs, host):
    mail = pop3.Host()
    try:
        conf = root.configure(**host, **FOR_UNITS, pop3_server_port=mail.port, pop3_listen_port=110)
        root.install(debs[0])
        assert root.conf() == conf
        assert root.is_enabled(*package.WAYS) == ["enabled", "disabled", "disabled"]
        assert root.is_enabled("proxyd-pop3.socket", "proxyd-imaps.socket", "tlsrelayd.service") == \
            ["enabled", "disabled", "disabled"]
        root.login()
        with pop3.Client(110) as client:
            client.session().ok("QUIT")
    finally:
        mail.stop()


def test_a_file_with_an_error_is_kept_and_nothing_is_started(root, debs):
    conf = root.configure(server_hostname="127.0.0.1", **FOR_UNITS, max_errors="banana")
    said = root.install(debs[0])
    assert "nothing is started" in said and "max_errors" in said
    assert root.status() == "installed" and root.conf() == conf and root.pids() == []


def test_an_installation_that_fails_gives_the_file_back(root, debs, host):
    """Another package has a file of the same name."""
    conf = root.configure(**host, **OF_OLD)
    root.shell("""mkdir -p /root/other/DEBIAN /root/other/usr/sbin
        printf 'Package: other\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@x>\\nDescription: x\\n' >/root/other/DEBIAN/control
        echo >/root/other/usr/sbin/proxyd
        dpkg-deb --build /root/other /root/other.deb && dpkg -i /root/other.deb""")
    try:
        said = root.install(debs[0], check=False)
        assert "trying to overwrite '/usr/sbin/proxyd'" in said
        assert root.status() in ("", "not-installed") and root.conf() == conf
    finally:
        root.shell("dpkg --purge other")
        root.run("rm", "-f", CONF)


# --- upgraded, removed --------------------------------------------------------------------------------------------
def install_way(root, deb, way, host):
    """Installs with a configuration for this way to start it, and has it enabled; returns the file's text."""
    conf = root.configure(**host, **(OF_OLD if way == SUPERVISOR else FOR_UNITS))
    root.install(deb)
    if way == EACH:
        root.systemctl("disable", "--now", LISTENER)
        root.systemctl("enable", "--now", EACH)
    assert root.is_enabled(way) == ["enabled"]
    return conf


def fill_cache(root):
    for user in USERS:
        root.login(user)
    root.wait_cached(len(USERS))


def check_load(root, load):
    """Not one login was lost, whatever the reason."""
    assert (load.failed, load.wrong, load.cut_off, load.unavailable) == ([], [], [], 0), root.journal()[-3000:]


def check_reused(root):
    reused = sum(root.login(user) for user in USERS)
    assert reused >= 0.95 * len(USERS), (reused, root.journal()[-3000:])


def wait_replaced(root, left=()):
    """No process runs what was there before, but these."""
    wait_until(lambda: root.outdated() == list(left), lambda: f"old programs run: {root.outdated()}", START_DEADLINE)


@pytest.mark.parametrize("way", package.WAYS)
def test_an_upgrade_under_load_loses_nothing_and_a_removal_ends_all(root, debs, host, way):
    conf = install_way(root, debs[0], way, host)
    fill_cache(root)
    with Load(plain) as load, Client(143) as bystander:
        assert bystander.login("bystander", "pw-bystander").ok
        root.install(debs[1])
        load.wait_more()
        bystander.ok("SELECT INBOX")
        assert b"<bystander>" in bystander.ok("FETCH 1 BODY[]").text
    check_load(root, load)
    assert root.conf() == conf and root.status() == "installed"
    wait_replaced(root, ["in.imapproxyd"] if way == SUPERVISOR else [])
    assert root.stats()["version"].endswith(NEXT)
    check_reused(root)

    with Client(143) as client:
        assert client.login("anna", "pw-anna").ok
        root.shell("dpkg --remove keepwarm")
        assert b"* BYE" in client.read_to_end()
    assert root.pids() == root.pids("in.imapproxyd") == [] and root.conf() == conf
    assert root.systemctl("list-units", "--failed", "--plain", "--no-legend") == ""
    with pytest.raises(ConnectionRefusedError):
        Client(143)
    root.install(debs[1])
    assert root.conf() == conf and root.is_enabled(way) == ["enabled"]
    root.login(reused=False)


@pytest.mark.parametrize("way", package.WAYS)
def test_an_upgrade_to_another_protocol_loses_the_cache_and_no_login(root, debs, other, host, way):
    """The new broker understands neither what the old one leaves nor the old sessions; those go on by themselves."""
    install_way(root, debs[0], way, host)
    fill_cache(root)
    with Load(plain) as load, Client(143) as bystander, Client(143) as silent:
        assert bystander.login("bystander", "pw-bystander").ok
        root.install(other)
        load.wait_more()
        bystander.ok("SELECT INBOX")
        assert b"<bystander>" in bystander.ok("FETCH 1 BODY[]").text
        bystander.logout()
        assert silent.login("anna", "pw-anna").tagged.startswith(b"NO [UNAVAILABLE]")  # and not at the end of the world
    check_load(root, load)
    assert "the cache starts empty" in root.journal()
    wait_replaced(root, ["in.imapproxyd"] if way == SUPERVISOR else [])
    root.login()


def test_an_upgrade_with_a_wrong_configuration_leaves_the_old_programs_running(root, debs, host):
    conf = install_way(root, debs[0], LISTENER, host)
    root.login()
    before = root.pids("cachebrokerd")
    with Client(143) as bystander:
        assert bystander.login("bystander", "pw-bystander").ok
        root.write(CONF, conf + "max_errors banana\n")
        said = root.install(debs[1])
        assert "NOT RESTARTED" in said and "max_errors" in said and root.status() == "installed"
        assert root.pids("cachebrokerd") == before and "cachebrokerd" in root.outdated()
        root.login(reused=True)
        root.write(CONF, conf)
        root.run("dpkg-reconfigure", "keepwarm")
        assert root.pids("cachebrokerd") != before
        bystander.ok("SELECT INBOX")
    root.login(reused=True)
    wait_replaced(root)
    # what is not to run is not started by an upgrade
    root.systemctl("disable", "--now", LISTENER, "keepwarm.target")
    root.install(debs[1])
    assert root.is_enabled(*package.WAYS) == ["disabled"] * 3 and root.pids() == []


@pytest.mark.parametrize("way", [LISTENER, SUPERVISOR])
def test_a_removal_that_comes_to_nothing_starts_again_what_it_stopped(root, debs, host, way):
    """A package that conflicts cannot be unpacked after all: dpkg has stopped ours for it."""
    install_way(root, debs[0], way, host)
    root.shell("""mkdir -p /root/rival/DEBIAN
        printf '%s\\n' 'Package: rival' 'Version: 1' 'Architecture: all' 'Maintainer: x <x@x>' 'Conflicts: keepwarm' \
            'Replaces: keepwarm' 'Provides: keepwarm' 'Description: x' >/root/rival/DEBIAN/control
        printf '#!/bin/sh\\n! [ "$1" = install ]\\n' >/root/rival/DEBIAN/preinst
        chmod 755 /root/rival/DEBIAN/preinst
        dpkg-deb --build /root/rival /root/rival.deb""")
    said = root.shell("dpkg --force-conflicts --auto-deconfigure -B -i /root/rival.deb", check=False).stdout
    assert root.status() == "installed", said
    root.login()


# --- in the place of Debian's imapproxy ----------------------------------------------------------------------------
def test_a_site_of_up_imapproxy_swaps_by_one_command(root, debs, old_debs, host):
    old, reason = old_debs
    if not old:
        pytest.skip(reason)
    conf = root.configure(**host, **OF_OLD, no_such_key="is warned of only")
    needed = [deb for deb in old if root.status(deb.name.split("_")[0]) != "installed"]
    root.shell("dpkg -i " + " ".join(root.bring(deb) for deb in needed))
    names = [deb.name.split("_")[0] for deb in needed]
    try:
        root.systemctl("start", "imapproxy.service")
        root.login()
        said = root.shell(f"{APT} install -q -y {root.bring(debs[0])}").stdout
        assert "Removing imapproxy" in said and "to purge it deletes /etc/imapproxy.conf" in said
        assert root.conf() == conf
        assert root.is_enabled(SUPERVISOR) == ["enabled"]
        assert not root.run("pgrep", "-x", "imapproxyd", check=False).stdout
        root.login()
        root.wait_cached(1)
        root.login(reused=True)
        root.install(debs[1])
        assert root.conf() == conf
        root.login(reused=True)
    finally:
        root.shell(f"dpkg --purge keepwarm; dpkg --purge {' '.join(names)}; rm -f {CONF}.ucf-*", check=False)


def test_a_purge_leaves_up_imapproxy_alone_that_came_back(root, debs, old_debs, host):
    old, reason = old_debs
    if not old:
        pytest.skip(reason)
    needed = [deb for deb in old if root.status(deb.name.split("_")[0]) != "installed"]
    names = " ".join(deb.name.split("_")[0] for deb in needed)
    install_way(root, debs[0], SUPERVISOR, host)
    root.shell("dpkg --remove keepwarm")
    try:
        root.shell("dpkg -i " + " ".join(root.bring(deb) for deb in needed))
        root.systemctl("restart", "imapproxy.service")
        root.login()
        files = ("/run/pimpstats", "/run/imapproxy.pid", CONF)
        there = [path for path in files if root.path(path).exists()]
        said = root.shell("dpkg --purge keepwarm").stdout
        assert [path for path in files if root.path(path).exists()] == there, said
        root.login()
    finally:
        root.shell(f"systemctl stop imapproxy.service; dpkg --purge {names}; rm -rf {CONF}* /run/pimpstats /var/lib/imapproxy "
                   "/run/imapproxy.pid /var/log/imapproxy_protocol.log", check=False)


# --- without systemd -----------------------------------------------------------------------------------------------
# In a mount namespace where systemd does not seem to run, but another init in runlevel 2; nothing but adduser makes users.
RUNLEVEL = "/root/runlevel"
WITHOUT = "unshare --mount sh -ec 'mount -t tmpfs none /run/systemd; mount --bind /dev/null /usr/bin/systemd-sysusers; " \
          f"mount --bind /dev/null /usr/bin/systemd-tmpfiles; mount --bind {RUNLEVEL} /sbin/runlevel; {{}}'"


def test_without_systemd_the_init_script_is_started(root, debs, host):
    conf = root.configure(**host, **{**OF_OLD, "proc_username": "keepwarm", "proc_groupname": "keepwarm"})
    root.write(RUNLEVEL, "#!/bin/sh\necho N 2\n", 0o755)
    root.shell(WITHOUT.format(f"dpkg -i {root.bring(debs[0])}"))
    assert root.status() == "installed" and len(root.pids("in.imapproxyd")) == 1
    fill_cache(root)
    with Load(plain) as load:
        root.shell(WITHOUT.format(f"dpkg -i {root.bring(debs[1])}"))
        load.wait_more(CLIENTS)
    check_load(root, load)
    assert root.conf() == conf
    wait_replaced(root, ["in.imapproxyd"])
    check_reused(root)
    root.shell(WITHOUT.format("dpkg --purge keepwarm"))
    assert root.pids() == root.pids("in.imapproxyd") == []
