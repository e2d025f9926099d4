"""The POP3 part of the bench: connect, USER, PASS, STAT, QUIT through each proxy, before the null backend."""
import subprocess

import peers
from loads import Pop3Session, chosen, idle_memory, load, rates, say
from report import median, milliseconds, rows, spread, values
from tls import part_options

ROUNDS = 4  # at most: this part is to take no longer than two minutes
IDLE_SESSIONS = 500
MINE, NGINX = "Keepwarm", "nginx"
TARGET_CLIENTS = 8


def speaking_pop3(kind, packages=()):
    """The part's class, for POP3."""
    return type(kind.__name__ + "Pop3", (kind,), {"protocol": "pop3", "packages": kind.packages + packages})


Null, Nginx, Haproxy = map(speaking_pop3, (peers.Null, peers.Nginx, peers.Haproxy))
Dovecot, DovecotProxy = (speaking_pop3(kind, ("dovecot-pop3d",)) for kind in (peers.DovecotTuned, peers.DovecotProxy))
Keepwarm = speaking_pop3(peers.Keepwarm)


def all_peers(build):
    makers = (peers.Direct, Nginx, Haproxy, DovecotProxy, lambda: Keepwarm(build))
    return {make().name: make for make in makers}


def measure_idle(options, make_peer):
    """KiB per idle session behind its login, or None without a memory group."""
    backend = Null(options.build).start()
    peer = make_peer()
    try:
        peer.start(backend.port)
        if peer.group is None or peer.group.memory() is None:
            return None
        load(options.build, peer, 64, 1000, 2, "-P")  # the pools grow to what they like
        return idle_memory(peer, IDLE_SESSIONS, lambda number: Pop3Session(peer).login(number))
    finally:
        peer.stop()
        backend.stop()


def measure(options, skipped):
    makers, left_out = chosen(all_peers(options.build), options.peers)
    skipped |= {f"{name} (POP3)": why for name, why in left_out.items()}
    say("pop3: rates")
    short = part_options(options, rounds=min(options.rounds, ROUNDS), seconds=1)
    found = {"rates": rates(short, lambda: Null(options.build), makers, ("-P",)), "idle": {}}
    short.clients = [TARGET_CLIENTS]
    found["dovecot"] = rates(short, Dovecot, makers, ("-P",))
    for name, make in makers.items():
        if name == "direct":
            continue
        try:
            found["idle"][name] = measure_idle(options, make)
        except (OSError, subprocess.SubprocessError) as problem:
            found["idle"][name] = f"{type(problem).__name__}: {problem}"
        say(f"pop3: idle: {name}: {found['idle'][name]}")
    return found


# --- the page ---------------------------------------------------------------------------------------
def against(table, name, *path):
    mine, theirs = median(table.get(MINE, []), *path), median(table.get(name, []), *path)
    return mine / theirs if mine and theirs else None


def targets(found):
    table = found["rates"].get(TARGET_CLIENTS, {})
    name = f"POP3, null, K={TARGET_CLIENTS}"
    return [(f"{name}: cycles/s, × {NGINX}", 1, "least", against(table, NGINX, "per_second")),
            (f"{name}: CPU per cycle, × {NGINX}", 1, "most", against(table, NGINX, "proxy_cpu")),
            (f"{name}: cycles/s, × Dovecot proxy", 1, "least", against(table, "Dovecot proxy", "per_second")),
            (f"POP3, {Dovecot.name}, K={TARGET_CLIENTS}: cycles/s, × {NGINX}", 1, "least",
             against(found["dovecot"].get(TARGET_CLIENTS, {}), NGINX, "per_second"))]


def rate_table(table):
    lines = []
    for name, rounds in table.items():
        ratio = against(table, name, "per_second")
        lines.append((name, spread(rounds, "per_second"), f"{ratio:.2f}" if ratio else "–", spread(rounds, "proxy_cpu"),
                      *(milliseconds(rounds, "us", *path) for path in
                        (("greeting", "p50"), ("user", "p50"), ("login", "p50"), ("whole", "p50"), ("whole", "p99"))),
                      sum(values(rounds, "errors"))))
    return rows(("", "cycles/s", "Keepwarm ×", "proxy CPU µs/cycle", "greeting p50 ms", "USER p50 ms", "PASS p50 ms",
                 "whole p50 ms", "whole p99 ms", "errors"), lines)


NOTES = """* POP3 cycle: connect, greeting, USER, PASS, STAT, QUIT, close. There is no cache with POP3, since a session locks its maildrop: each
  login is one at the mail host. nginx has what is said of IMAP above, and its answer about the account from a constant of its own.
* Where POP3's time goes, by perf with the null backend and K=8: four fifths in `proxyd`, a fifth in the broker, a fifth of that in dialling.
  Of `proxyd`'s: fork, exit and page faults (16 a session) 29 %, TCP sends 21, waiting and waking up 13, closing both connections 9, its own
  code 8, messages to the broker 6. The process for each client and the messages that it takes, some 200 µs, are as much as nginx needs in
  all, so its rate is not reached where a mail host costs nothing; before a Dovecot they are a sixth of the whole and near the noise.
* A process for each POP3 client and nothing else (static, forked ahead, no broker, no jail, no log; it dials the mail host itself) does not reach
  nginx either: in turns with it 279 µs of CPU to nginx's 201 and 0.87 to 0.92 of its rate with K=8, 256 to 181 and 0.80 to 0.89 with K=32 (12 and 7 rounds). A fork and
  exit that touches nothing takes 73 µs here, each page that it writes 2 µs more. So those targets contradict one process per connection.
"""


def part(found):
    """As tlsreport.part()."""
    page = [(f"POP3, null backend; {clients} client(s) at once", rate_table(table))
            for clients, table in found["rates"].items()]
    page += [(f"POP3, {Dovecot.name}; {clients} client(s) at once", rate_table(table))
             for clients, table in found["dovecot"].items()]
    idle = [(name, f"{kib:.1f}" if isinstance(kib, float) else kib) for name, kib in found["idle"].items()]
    page.append((f"{IDLE_SESSIONS} idle POP3 sessions, null backend",
                 rows(("", "KiB per session, kernel's share included"), idle)))
    return targets(found), page, NOTES
