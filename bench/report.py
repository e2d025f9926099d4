"""The results as a page: tables, and the targets beside what was measured."""
import os
import platform
import statistics
import time

import parts

OWN_TARGETS = ("tls", "pop3", "directories")  # parts whose targets are in `more`
PACKAGES = {"imapproxy": "imapproxy", "nginx": "nginx", "haproxy": "haproxy", "Dovecot": "dovecot-core",
            "slapd": "slapd", "PostgreSQL": "postgresql-15", "MariaDB": "mariadb-server"}


def values(rounds, *path):
    found = []
    for result in rounds:
        for key in path:
            result = result.get(key) if isinstance(result, dict) else None
        if result is not None:
            found.append(result)
    return found


def median(rounds, *path):
    found = values(rounds, *path)
    return statistics.median(found) if found else None


def spread(rounds, *path):
    """median (least - most)"""
    found = values(rounds, *path)
    if not found:
        return "–"
    if len(found) == 1:
        return f"{found[0]:.0f}"
    return f"{statistics.median(found):.0f} ({min(found):.0f}–{max(found):.0f})"


def milliseconds(rounds, *path):
    value = median(rounds, *path)
    return "–" if value is None else f"{value / 1000:.2f}"


def one_line(name, rounds):
    return (f"{name}: {spread(rounds, 'per_second')}/s, CPU us proxy {spread(rounds, 'proxy_cpu')} backend "
            f"{spread(rounds, 'backend_cpu')}, LOGIN p50 {milliseconds(rounds, 'us', 'login', 'p50')} ms, whole p50 "
            f"{milliseconds(rounds, 'us', 'whole', 'p50')} p99 {milliseconds(rounds, 'us', 'whole', 'p99')} ms, "
            f"errors {sum(values(rounds, 'errors'))}")


def short(result):
    if isinstance(result, float):
        return f"{result:.1f} KiB per session"
    if isinstance(result, dict):
        return (f"{result['cycles']} cycles, {result['errors']} errors, {result['syns_again']} SYNs again, greeting "
                f"p99 {result['us']['greeting']['p99'] / 1000:.0f} ms")
    return str(result)


# --- tables -----------------------------------------------------------------------------------------
def rows(header, lines):
    table = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(table + ["| " + " | ".join(map(str, line)) + " |" for line in lines])


def rate_table(table):
    header = ("", "cycles/s", "proxy CPU µs/cycle", "backend CPU µs/cycle", "greeting p50 ms", "LOGIN p50 ms",
              "whole p50 ms", "whole p99 ms", "reused", "errors")
    lines = []
    for name, rounds in table.items():
        reused = median(rounds, "reused_share") or 0
        lines.append((name, spread(rounds, "per_second"), spread(rounds, "proxy_cpu"), spread(rounds, "backend_cpu"),
                      *(milliseconds(rounds, "us", *path) for path in
                        (("greeting", "p50"), ("login", "p50"), ("whole", "p50"), ("whole", "p99"))),
                      f"{reused:.0%}" if reused else "–", sum(values(rounds, "errors"))))
    return rows(header, lines)


# --- targets ----------------------------------------------------------------------------------------
class Found:
    """Figures by name; anything that was not measured is None and so is what is made of it."""

    def __init__(self, found):
        self.found = found

    def figure(self, backend, clients, peer, *path):
        rounds = self.found["rates"].get(backend, {}).get(clients, {}).get(peer, [])
        return median(rounds, *path)

    def ratio(self, backend, clients, other, *path):
        mine = self.figure(backend, clients, "Keepwarm", *path)
        theirs = self.figure(backend, clients, other, *path)
        return mine / theirs if mine and theirs else None

    def saved(self, backend, clients, other, *path):
        """Which share of the other's figure Keepwarm spares, 0 to 1."""
        ratio = self.ratio(backend, clients, other, *path)
        return None if ratio is None else 1 - ratio

    def slowest_step(self):
        """The longest median of any step in any table of Keepwarm's on the null backend, in ms."""
        found = [median(table.get("Keepwarm", []), "us", step, "p50")
                 for table in self.found["rates"].get("null", {}).values()
                 for step in ("greeting", "login", "select", "fetch", "logout")]
        found = [value for value in found if value]
        return max(found) / 1000 if found else None


def targets(found):
    """(what, bound, "least" or "most", measured)"""
    f = Found(found)
    burst = found["burst"].get("Keepwarm")
    idle = found["idle"].get("Keepwarm")
    broker = found["broker"] if isinstance(found["broker"], dict) else {}
    login, p99 = f.figure("null", 1, "Keepwarm", "us", "login", "p50"), f.figure("null", 32, "Keepwarm", "us", "whole",
                                                                                 "p99")
    return [
        ("null, K=8: cycles/s, × imapproxy", 6, "least", f.ratio("null", 8, "imapproxy", "per_second")),
        ("null, K=8: cycles/s, × nginx", 1, "least", f.ratio("null", 8, "nginx", "per_second")),
        ("null, K=8: cycles/s, × Dovecot proxy", 1, "least", f.ratio("null", 8, "Dovecot proxy", "per_second")),
        ("null, K=8: CPU per cycle, × imapproxy", 0.85, "most", f.ratio("null", 8, "imapproxy", "proxy_cpu")),
        ("null, K=8: CPU per cycle, × nginx", 1.3, "most", f.ratio("null", 8, "nginx", "proxy_cpu")),
        ("Dovecot tuned, K=8: cycles/s, × direct", 1.15, "least", f.ratio("Dovecot tuned", 8, "direct", "per_second")),
        ("Dovecot tuned, K=8: cycles/s, × imapproxy", 5, "least",
         f.ratio("Dovecot tuned", 8, "imapproxy", "per_second")),
        ("Dovecot defaults, K=8: cycles/s, × direct", 2.5, "least",
         f.ratio("Dovecot defaults", 8, "direct", "per_second")),
        ("Dovecot defaults, K=8: backend CPU, × direct", 0.2, "most",
         f.ratio("Dovecot defaults", 8, "direct", "backend_cpu")),
        ("Dovecot defaults, K=8: share of backend CPU saved per webmail cycle against Dovecot direct", 0.4, "least",
         f.saved("Dovecot defaults", 8, "direct", "backend_cpu")),
        ("null, K=1: reused LOGIN p50, ms", 0.5, "most", login and login / 1000),
        ("null: slowest step's p50 at any K, ms", 39.9, "most", f.slowest_step()),
        ("null, K=32: whole cycle p99, ms", 60, "most", p99 and p99 / 1000),
        ("burst of 2,000: SYNs sent again", 0, "most", burst["syns_again"] if isinstance(burst, dict) else None),
        ("idle session, KiB", 110, "most", idle if isinstance(idle, float) else None),
        ("broker, 32 proxies: pairs/s", 25000, "least", broker.get("connection per lease", {}).get("per_second")),
    ]


def target_table(all_targets):
    lines = []
    for what, bound, side, measured in all_targets:
        if measured is None:
            lines.append((what, f"{'≥' if side == 'least' else '≤'} {bound:,}", "not measured", ""))
            continue
        good = measured >= bound if side == "least" else measured <= bound
        shown = f"{measured:,.0f}" if measured >= 100 else f"{measured:.2f}"
        lines.append((what, f"{'≥' if side == 'least' else '≤'} {bound:,}", shown, "yes" if good else "**no**"))
    return rows(("what", "target", "measured", "reached"), lines)


# --- the page ---------------------------------------------------------------------------------------
def machine():
    versions = [f"{name} {version}" for name, package in PACKAGES.items() if (version := parts.installed(package))]
    load = os.getloadavg()[0]
    return (f"{os.cpu_count()} cores, kernel {platform.release()}, {time.strftime('%Y-%m-%d')}; client, proxy and mail "
            f"host share the cores; load average at the end {load:.1f}. {', '.join(versions)}.")


NOTES = """## How to read this
* Cycle: connect, greeting, LOGIN, SELECT INBOX, FETCH 1:20 (FLAGS ENVELOPE), LOGOUT, close, checked step by step; users are
  drawn with a probability of 1/n. Each cell is the median of all rounds (least–most). Rounds of the peers alternate.
* The null backend answers from constants: what is left is the proxy. *Tuned* Dovecot: {PLAIN}, authentication cache, login
  and imap processes that are reused. *Defaults*: a new login and imap process per session. *SHA512-CRYPT*: tuned, without the
  authentication cache, 5000 rounds. All have 200 accounts of 20 messages; caches are filled before.
* nginx: 2 workers, `proxy_buffer 16k` (with its default of 4k it stalls in FETCH); haproxy: 2 threads, TCP, it authenticates
  nobody and looks at nothing; Dovecot proxy: 2 login processes that stay, no password check.
* CPU is that of the whole process tree, with what happens after the client's BYE. Rates on a small shared machine
  move by a factor of up to 2 between runs, CPU by 10–30 %: do not quote a difference below 20 % without repeating it.
* imapproxy's rate is not its CPU: on a hit it sends two small segments without TCP_NODELAY, and the client's kernel waits
  40 ms with its acknowledgement.
* enable_select_cache: the same cycle, with EXAMINE or SELECT, on and off in turn before one mail host. With SELECT nothing is ever
  kept: what differs there is noise. With EXAMINE each session ends with one more EXAMINE and STATUS, of which the client does not wait.
  It saves nothing with Dovecot, and costs 13 to 27 % more of its CPU: to open a mailbox that a process has open or had open a
  moment ago takes it no longer than NOOP and STATUS, with 20 messages as with 5,000. Hence off by default.
* Where the time goes, by perf over all processes with the null backend and K=8: four fifths in `proxyd`, a fifth in the broker. Of
  `proxyd`'s: TCP sends 17 %, messages to the broker and other small calls 13, page faults 11 (20 a session), its own code 11, waiting 10,
  fork 10, exit 10, TCP reads 5. Fork, exit and faults are the price of a process for each client, some 100 to 130 µs a cycle: what nginx and
  Dovecot's proxy, which keep their processes, do not pay, and why the rates and CPU beside them are not reached.
* Broker: lease and give over local messages without any IMAP, sessions of one client process. *connection per lease*: each
  pair with its connect, HELLO and close, as for a real session; *connected before*: those of 500 sessions at a time lie outside
  the measured time (not outside the CPU). A kept connection cannot do two pairs: a session gives back once.
"""


def write(found, options, seconds, more=()):
    """more: (targets, sections, notes) of further parts."""
    wanted = [] if options.only in OWN_TARGETS else targets(found)
    for further, _, _ in more:
        wanted += further
    page = ["# Keepwarm beside its peers", "",
            f"Written by `bench/run` (`make bench`), {options.rounds} round(s) of {options.seconds} s, {seconds / 60:.0f} "
            f"minutes in all. {machine()}", "", "## Targets", target_table(wanted), ""]
    for name, why in found["skipped"].items():
        page += [f"{name} was left out: {why}.", ""]
    for backend, tables in found["rates"].items():
        for clients, table in tables.items():
            page += [f"## Mail host: {backend}; {clients} client(s) at once", rate_table(table), ""]
    if found["select"]:
        page += ["## enable_select_cache", select_table(found["select"]), ""]
    if found["idle"]:
        page += ["## 1000 sessions in IDLE, null backend",
                 rows(("", "KiB per session, kernel's share included"),
                      [(name, f"{kib:.1f}" if isinstance(kib, float) else kib) for name, kib in found["idle"].items()]), ""]
    if found["burst"]:
        page += ["## 2,000 clients connect at once, a cycle each, null backend", burst_table(found["burst"]), ""]
    if isinstance(found["broker"], dict):
        page += ["## Broker, 32 proxies", broker_table(found["broker"]), ""]
    elif found["broker"]:
        page += ["## Broker", found["broker"], ""]
    for _, sections, _ in more:
        page += [line for title, table in sections for line in (f"## {title}", table, "")]
    return "\n".join(page) + "\n" + NOTES + "".join(notes for _, _, notes in more)


def select_table(found):
    lines = []
    for name, table in found.items():
        for label, rounds in table.items():
            lines.append((name, label, spread(rounds, "per_second"), spread(rounds, "proxy_cpu"),
                          spread(rounds, "backend_cpu"), milliseconds(rounds, "us", "select", "p50"),
                          milliseconds(rounds, "us", "whole", "p50"), sum(values(rounds, "errors"))))
    return rows(("mail host; cycle with", "on", "cycles/s", "proxy CPU µs/cycle", "backend CPU µs/cycle",
                 "SELECT or EXAMINE p50 ms", "whole p50 ms", "errors"), lines)


def burst_table(burst):
    lines = []
    for name, result in burst.items():
        if not isinstance(result, dict):
            lines.append((name, result, "", "", "", ""))
            continue
        greeting = result["us"]["greeting"]
        lines.append((name, result["cycles"], result["errors"], result["syns_again"], result["overflows"],
                      f"{greeting['p50'] / 1000:.0f} / {greeting['p99'] / 1000:.0f} / {greeting['max'] / 1000:.0f}"))
    return rows(("", "cycles done", "errors", "SYNs sent again", "listen queue overflows",
                 "greeting p50 / p99 / max ms"), lines)


def broker_table(results):
    return rows(("", "pairs/s", "CPU µs per pair", "LEASE p50 / p99 µs", "reused"),
                [(kind, f"{r['per_second']:,.0f}", f"{r['cpu']:.0f}", f"{r['us']['lease']['p50']} / {r['us']['lease']['p99']}",
                  f"{r['reused'] / max(r['pairs'], 1):.1%}") for kind, r in results.items()])
