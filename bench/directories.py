"""The part of the bench about directories: look-ups per second, the share of logins that cost one, and what both
a route that is known and one that is not add to a login."""
import contextlib
import json
import os
import statistics
import subprocess
import time

import parts
import peers
import sources
from loads import SETTLE, Rates, Session, idle_memory, load, say
from report import median, milliseconds, rows, spread
from tls import running

ACCOUNTS, ACCOUNTS_QUICK = 100000, 20000  # in each directory
LOGINS = 200  # of a round: as many new accounts, then the same once more
QUESTIONS = 1000  # to the directory's own client
WORKERS = 2
ROUNDS = 3  # at most
WEBMAIL_USERS = 1000
WEBMAIL_LOGINS = 6000
TTL = 300  # the default of lookup_ttl
IDLE_SESSIONS = 500
WITHOUT, KNOWN = "no directory", "a route that is known"


def fresh_name(seed):
    """A load's pattern for accounts that nobody has asked about before."""
    return f"new{seed}x%"


# --- each directory -----------------------------------------------------------------------------------
def measure_lookups(options, source, workers):
    """Asks lookupd itself: the answers per second, and how long one takes."""
    folder, group = parts.Folder(), parts.Group("lookupd")
    try:
        conf = folder.path / "conf"
        conf.write_text(f"server_hostname {sources.HOST}\ndirectory {source.place}\nlookup_processes {workers}\n")
        asker = subprocess.Popen([options.build / "bench/lookup", "-s", folder.path / "lookup", "-k", str(workers), "-n",
                                  str(options.accounts), "-t", str(options.seconds)], stdout=subprocess.PIPE, text=True)
        try:
            parts.wait_until((folder.path / "lookup").is_socket, "a socket")
            with open(folder.path / "log", "wb") as log:
                group.start([options.build / "lookupd", "-f", conf, "-r", folder.path, "-l", "stderr"], stderr=log)
            told, _ = asker.communicate(timeout=options.seconds + 60)
        finally:
            asker.kill()
            asker.wait()
        if asker.returncode != 0:
            raise OSError((folder.path / "log").read_text().strip() or "lookupd was not there")
        result = json.loads(told)
        result["cpu"] = group.cpu() / max(result["answers"], 1)
        return result
    finally:
        group.stop()
        folder.remove()


def login_time(options, peer, pattern):
    """Median LOGIN in microseconds of these accounts, one after the other; each has a new connection to its mail host."""
    result = load(options.build, peer, 1, LOGINS, 60, "-c", LOGINS, "-o", "-u", pattern)
    time.sleep(SETTLE)
    if result["errors"] or result["cycles"] != LOGINS:
        raise OSError(f"{result['errors']} of {LOGINS} logins failed")
    return result["us"]["login"]["p50"]


def measure_routes(options, source):
    """Per round: a login whose route is not known, the same again, and the directory's own time; in microseconds."""
    backend = peers.Null(options.build)
    peer = peers.Keepwarm(options.build, directory=source.place, cache_expiration_time=0, lookup_processes=WORKERS)
    found = []
    with running(backend), running(peer, backend.port):
        login_time(options, peer, fresh_name(options.rounds))  # all is awake then
        for seed in range(options.rounds):
            pattern = fresh_name(seed)
            names = [pattern.replace("%", str(n)) for n in range(1, LOGINS + 1)]
            own = source.query((names * (QUESTIONS // LOGINS + 1))[:QUESTIONS])
            found.append({"cold": login_time(options, peer, pattern), "known": login_time(options, peer, pattern),
                          "own": own})
    return found


def names_of(options):
    yield from (f"user{n}" for n in range(1, options.accounts + 1))
    for seed in range(options.rounds + 1):
        yield from (fresh_name(seed).replace("%", str(n)) for n in range(1, LOGINS + 1))


def measure_kind(options, kind):
    source = kind(options, list(names_of(options)))
    try:
        return {"lookups": {workers: measure_lookups(options, source, workers) for workers in (1, WORKERS)},
                "routes": measure_routes(options, source)}
    finally:
        source.stop()


# --- a route that is known ------------------------------------------------------------------------------
def measure_known(options, source):
    """{clients: {with or without: [a result per round]}}, connections to mail hosts cached in both."""
    makers = {WITHOUT: lambda: peers.Keepwarm(options.build),
              KNOWN: lambda: peers.Keepwarm(options.build, directory=source.place)}
    turns = Rates(options, lambda: peers.Null(options.build), {})
    found = {}
    try:
        for label, make in makers.items():
            turns.start(label, make)
        for peer in turns.peers:
            turns.warm_up(peer)
        for clients in (1, 8):
            table = found.setdefault(clients, {label: [] for label in makers})
            for seed in range(2 * options.rounds):
                order = list(zip(makers, turns.peers))[::-1 if seed % 2 else 1]
                for label, peer in order:
                    table[label].append(turns.measure(peer, clients, seed))
    finally:
        turns.stop()
    return found


def measure_idle(options, source):
    """KiB of an idle session, without a directory and with one."""
    found = {}
    for label, settings in ((WITHOUT, {}), (KNOWN, {"directory": source.place})):
        backend, peer = peers.Null(options.build), peers.Keepwarm(options.build, **settings)
        with running(backend), running(peer, backend.port):
            if peer.group.memory() is None:
                return None
            load(options.build, peer, 64, 1000, 2)
            found[label] = idle_memory(peer, IDLE_SESSIONS, lambda number, peer=peer: Session(peer).login(number))
    return found


# --- how many logins ask ----------------------------------------------------------------------------------
@contextlib.contextmanager
def counting(options, **settings):
    """Keepwarm in front of a directory that counts."""
    backend = peers.Null(options.build)
    with running(backend):
        source = sources.Http(options, ())
        try:
            with running(peers.Keepwarm(options.build, directory=source.place, **settings), backend.port) as peer:
                yield source, peer
        finally:
            source.stop()


def share(options, source, peer, logins):
    before = source.count()
    result = load(options.build, peer, 8, WEBMAIL_USERS, 60, "-c", logins)
    time.sleep(SETTLE)
    return {"logins": result["cycles"], "share": (source.count() - before - 1) / max(result["cycles"], 1),
            "per_second": result["per_second"]}


def measure_share(options):
    """Of webmail's logins: from nothing, and later. There is no time to wait for lookup_ttl's default to pass; the
    share depends on logins per lifetime only, so its place is taken by 2 seconds of a load that is so much quicker."""
    found = {}
    with counting(options) as (source, peer):
        found["first"] = share(options, source, peer, WEBMAIL_LOGINS)
        found["known"] = share(options, source, peer, WEBMAIL_LOGINS)
    lifetime = 2
    with counting(options, lookup_ttl=lifetime) as (source, peer):
        begin = time.monotonic()
        share(options, source, peer, WEBMAIL_LOGINS // 2)
        began = time.monotonic()
        found["later"] = share(options, source, peer, WEBMAIL_LOGINS)
        rate = WEBMAIL_LOGINS / (time.monotonic() - began)
        found["later"]["as_per_second"] = rate * lifetime / TTL
        found["later"]["after"] = began - begin
    return found


# --- all of it --------------------------------------------------------------------------------------------
def measure(options, skipped):
    """options: a copy of our own, which gets what only this part has."""
    os.environ["KEEPWARM_BUILD"] = str(options.build)  # for the tests' servers
    options.rounds = min(options.rounds, ROUNDS)
    options.accounts = ACCOUNTS_QUICK if options.quick else ACCOUNTS
    options.seconds = 1
    found = {"accounts": options.accounts, "kinds": {}}
    for kind in sources.KINDS:
        if why := kind.missing():
            skipped[f"directory {kind.kind}"] = why
            continue
        try:
            found["kinds"][kind.kind] = measure_kind(options, kind)
        except (OSError, TimeoutError, subprocess.SubprocessError) as problem:
            found["kinds"][kind.kind] = f"{type(problem).__name__}: {problem}"
        say(f"directories: {kind.kind}: {short(found['kinds'][kind.kind])}")
    source = sources.Lmdb(options, list(names_of(options)))
    try:
        found["known"] = measure_known(options, source)
        say(f"directories: known: {[ratio_of(table) for table in found['known'].values()]}")
        found["idle"] = measure_idle(options, source)
        say(f"directories: idle: {found['idle']}")
    finally:
        source.stop()
    found["share"] = None if sources.Http.missing() else measure_share(options)
    say(f"directories: share: {found['share']}")
    return found


# --- the page ---------------------------------------------------------------------------------------------
def added(routes):
    """Microseconds that a look-up adds to a login."""
    return statistics.median(r["cold"] - r["known"] for r in routes)


def beyond(routes):
    """The same beyond the directory's own time."""
    return statistics.median(r["cold"] - r["known"] - r["own"] for r in routes)


def ratio_of(table, *path):
    """The median of the rounds' ratios, with a directory and without."""
    def value(result):
        for key in path or ("us", "login", "p50"):
            result = result[key]
        return result
    return statistics.median(value(mine) / value(other) for mine, other in zip(table[KNOWN], table[WITHOUT]))


def short(result):
    if not isinstance(result, dict):
        return result
    return (f"{[round(r['per_second']) for r in result['lookups'].values()]} look-ups/s, cold adds "
            f"{added(result['routes']):.0f} us, own {median(result['routes'], 'own'):.0f} us")


def targets(found):
    lines = [("a route that is known, K=1: LOGIN p50, × no directory", 1.05, "most", ratio_of(found["known"][1])),
             ("a route that is known, K=8: CPU per cycle, × no directory", 1.05, "most",
              ratio_of(found["known"][8], "proxy_cpu"))]
    for name, result in found["kinds"].items():
        lines.append((f"{name}, a route that is not known: what LOGIN takes longer, beyond the directory's own time, ms", 1,
                      "most", beyond(result["routes"]) / 1000 if isinstance(result, dict) else None))
    return lines


def kind_table(found):
    lines = []
    for name, result in found["kinds"].items():
        if not isinstance(result, dict):
            lines.append((name, result, *[""] * 8))
            continue
        one, two = result["lookups"].values()
        routes = result["routes"]
        lines.append((name, f"{one['per_second']:,.0f}", f"{two['per_second']:,.0f}",
                      f"{one['us']['lookup']['p50']} / {one['us']['lookup']['p99']}", f"{two['cpu']:.0f}",
                      one["errors"] + two["errors"], spread(routes, "own"), spread(routes, "known"), spread(routes, "cold"),
                      f"{added(routes):.0f}"))
    return rows(("", "look-ups/s, one worker", f"{WORKERS} workers", "one: p50 / p99 µs", "lookupd CPU µs", "errors",
                 "directory's own client µs", "LOGIN, route known µs", "LOGIN, not known µs", "adds µs"), lines)


def known_table(found):
    lines = []
    for clients, table in found["known"].items():
        for label, rounds in table.items():
            ratios = [f"{ratio_of(table):.3f}", f"{ratio_of(table, 'proxy_cpu'):.3f}"] if label == KNOWN else ["", ""]
            lines.append((f"{clients} client(s), {label}", spread(rounds, "per_second"), spread(rounds, "proxy_cpu"),
                          milliseconds(rounds, "us", "login", "p50"), milliseconds(rounds, "us", "whole", "p50"), *ratios))
    return rows(("", "cycles/s", "proxy CPU µs/cycle", "LOGIN p50 ms", "whole p50 ms", "LOGIN p50 ×", "CPU ×"), lines)


def share_table(share):
    later = share["later"]
    return rows(("logins", "how many", "logins/s", "share that asked"), [
        ("from nothing", share["first"]["logins"], f"{share['first']['per_second']:.0f}", f"{share['first']['share']:.2%}"),
        ("right behind these", share["known"]["logins"], f"{share['known']['per_second']:.0f}",
         f"{share['known']['share']:.2%}"),
        (f"later, as with {later['as_per_second']:.0f} a second and lookup_ttl {TTL}", later["logins"],
         f"{later['per_second']:.0f}", f"{later['share']:.2%}")])


NOTES = """* Directories: the same {accounts:,} accounts in each of them, real servers on this machine; *http* is nginx, which says the same of
  everybody. *Look-ups/s*: lookupd alone, by a program in the broker's place that has one question out with each worker; accounts drawn at
  random. *Own client*: the same questions one after the other by ldapsearch, psql and mariadb from a file, for authdaemon and http over
  their sockets; start and connection are taken off. LOGIN: one client, accounts one after the other, first those that nobody has asked
  about, then the same again; a new connection to the mail host in both, so that what is between them is the look-up. Files (*static*,
  *userdb*, *lmdb*) have no client, their own time counts as nothing.
* A route that is known: two of our own before one mail host that take turns, connections cached in both; × is the median of the rounds'
  ratios, 1.05 is what this machine's noise allows to tell apart.
* Share that asked: {users:,} users drawn with a probability of 1/n, counted by the http directory. What a share becomes depends only on the
  logins per lifetime of an answer; so *later* has a lifetime of 2 s and as many more logins a second.
"""


def part(found):
    """As tlsreport.part()."""
    page = [(f"Directories of {found['accounts']:,} accounts", kind_table(found)),
            ("A route that is known, null backend", known_table(found))]
    if found["share"]:
        page.append((f"Logins that cost a look-up, webmail of {WEBMAIL_USERS:,} users", share_table(found["share"])))
    if found["idle"]:
        page.append((f"{IDLE_SESSIONS} idle IMAP sessions",
                     rows(("", "KiB per session, kernel's share included"),
                          [(label, f"{kib:.1f}") for label, kib in found["idle"].items()])))
    return targets(found), page, NOTES.format(accounts=found["accounts"], users=WEBMAIL_USERS)
