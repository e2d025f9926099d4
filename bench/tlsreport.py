"""The TLS part's page: its tables, its targets, how to read it."""
from report import median, milliseconds, rows, spread, values
from tls import BULK, SPARES

MINE = "Keepwarm"


def ratio(mine, theirs):
    return mine / theirs if mine and theirs else None


def shown(number, form="{:.2f}"):
    return "–" if number is None else form.format(number)


class Found:
    """Figures by name; anything that was not measured, or failed, is None and so is what is made of it."""

    def __init__(self, found):
        self.found = found

    def rate(self, table, peer, *path):
        return median(self.found["rates"].get(table, {}).get(peer, []), *path)

    def against(self, table, peer, *path):
        return ratio(self.rate(table, MINE, *path), self.rate(table, peer, *path))

    def bulk(self, peer):
        return ratio(self.rate("bulk, TLS to the null backend", peer, "us", "fetch", "p50"),
                     self.rate("bulk, TLS to the null backend", MINE, "us", "fetch", "p50"))

    def of(self, part, peer, *path):
        result = self.found[part].get(peer)
        for key in path:
            result = result.get(key) if isinstance(result, dict) else None
        return result if isinstance(result, float) else None


def round_trips(result, kind):
    return result[kind]["whole"] / result["round_trip"]


def targets(found):
    """As report.targets()."""
    f = Found(found)
    null = "webmail, TLS to the null backend"
    cpu = f.rate(null, MINE, "proxy_cpu")
    spare = found["far"].get(SPARES)
    lines = [(f"{null}: cycles/s, × {peer}", bound, "least", f.against(null, peer, "per_second"))
             for peer, bound in (("imapproxy", 3), ("Dovecot proxy", 3), ("haproxy TCP", 1.4))]
    lines += [
        (f"{null}: proxy CPU per cycle, ms", 1.1, "most", cpu and cpu / 1000),
        (f"{null}: backend CPU, × direct (a handshake per session)", 0.25, "most",
         f.against(null, "direct", "backend_cpu")),
    ]
    lines += [(f"bulk, TLS to the null backend: MB/s, × {peer}", 1, "least", f.bulk(peer))
              for peer in ("imapproxy", "Dovecot proxy")]
    return lines + [
        ("idle cached TLS connection, KiB", 32, "most", f.of("memory", MINE, "whole")),
        ("mail host 20 ms away: reused LOGIN p50, ms", 1, "most", f.of("far", MINE, "reused", "login")),
        ("mail host 20 ms away: fresh login with a spare, round trips", 2, "most",
         round_trips(spare, "fresh") if isinstance(spare, dict) else None),
    ]


# --- tables -----------------------------------------------------------------------------------------
def rate_table(table):
    mine = table.get(MINE, [])
    lines = []
    for name, rounds in table.items():
        lines.append((
            name, spread(rounds, "per_second"), shown(ratio(median(mine, "per_second"), median(rounds, "per_second"))),
            spread(rounds, "proxy_cpu"), spread(rounds, "backend_cpu"),
            *(milliseconds(rounds, "us", *path) for path in
              (("greeting", "p50"), ("login", "p50"), ("whole", "p50"), ("whole", "p99"))),
            shown(median(rounds, "reused_share") or None, "{:.0%}"), sum(values(rounds, "errors"))))
    return rows(("", "cycles/s", "Keepwarm ×", "proxy CPU µs/cycle", "backend CPU µs/cycle", "greeting p50 ms",
                 "LOGIN p50 ms", "whole p50 ms", "whole p99 ms", "reused", "errors"), lines)


def bulk_table(table):
    speed = {name: BULK / median(rounds, "us", "fetch", "p50")
             for name, rounds in table.items() if median(rounds, "us", "fetch", "p50")}
    return rows(("", "MB/s", "Keepwarm ×", "proxy CPU ms per 20 MiB", "backend CPU ms per 20 MiB", "errors"),
                [(name, shown(speed.get(name), "{:.0f}"), shown(ratio(speed.get(MINE), speed.get(name))),
                  milliseconds(rounds, "proxy_cpu"), milliseconds(rounds, "backend_cpu"), sum(values(rounds, "errors")))
                 for name, rounds in table.items()])


def each(header, results, cells):
    """A row for each peer, or what went wrong with it."""
    lines = []
    for name, result in results.items():
        row = cells(result) if isinstance(result, dict) else (str(result),)
        lines.append((name, *row, *[""] * (len(header) - 1 - len(row))))
    return rows(header, lines)


def memory_table(results):
    return each(("", "KiB per cached connection", "of it tlsrelayd's own (PSS)", "connections"), results,
                lambda r: (f"{r['whole']:.1f}", f"{r['relay']:.1f}" if r["relay"] else "–", r["connections"]))


def far_table(results):
    return each(("", "NOOP, direct, ms", "fresh: connect to OK, ms", "in round trips", "LOGIN alone, ms",
                 "again: connect to OK, ms", "in round trips", "LOGIN alone, ms"), results,
                lambda r: (f"{r['round_trip']:.1f}", *(
                    cell for kind in ("fresh", "reused") for cell in
                    (f"{r[kind]['whole']:.2f}", f"{round_trips(r, kind):.2f}", f"{r[kind]['login']:.2f}"))))


def flood_cells(result):
    cells = []
    for kind in ("quiet", "handshakes", "stalled"):
        r, new = result[kind], result[kind]["newcomer"]
        cells += [f"{r['p50']:.2f} / {r['p99']:.2f}", f"{new:.1f}" if isinstance(new, float) else new]
    return (*cells, f"{result['handshakes']['handshakes']:.0f}", f"{result['handshakes']['cpu']:.2f}")


def flood_table(results):
    return each(("", "quiet: NOOP p50 / p99 ms", "new client ms", "handshakes: NOOP p50 / p99 ms", "new client ms",
                 "stalled: NOOP p50 / p99 ms", "new client ms", "handshakes/s", "cores used meanwhile"),
                results, flood_cells)


NOTES = """* TLS: 1.3 with {keys} certificates (`--keys`: a handshake with an RSA key costs the one that has it some times more),
  verified by the proxies; webmail clients verify nothing and resume nothing. 8 clients at once, 1 for bulk. imapproxy knows STARTTLS
  only; to the others the mail host speaks TLS from the first byte. haproxy (TCP mode, it ends TLS on either side) resumes
  its sessions with the mail host, which is its default. *Keepwarm ×*: its rate divided by that of the row.
* Where TLS's time goes, by perf with TLS to the null backend and K=8: seven tenths in `proxyd`, a seventh each in the broker and in
  `tlsrelayd`, which carries three records each way in a cycle. Of the latter's: OpenSSL and its own code 37 %, sends 36, waiting 15, reads 8.
  TLS to the mail host costs the proxy some fifth more CPU a cycle than none: less than its process for each client does.
* TLS with clients: a handshake and its records cost a `tlsrelayd` worker 500 µs, somewhat less than Dovecot's proxy, whose CPU rises by 580 with TLS.
  What Keepwarm pays more is the way there: tlsrelayd's master 70, the broker 65 (the connection goes through both, and the stream back).
* Bulk: FETCH of one message of 20 MiB; MB/s is that of the median FETCH.
* Cached TLS connection: what the memory of the proxy's control group grows by, kernel's share included, while 1000 users log in and out
  after 1000 others (who fill the tables of fixed size), divided by what the mail host has more of connections then.
* Mail host 20 ms away: bench/delay.py adds that to every round trip, to TCP's own as well. *direct* and haproxy pay for TCP and
  TLS while they connect, the others in LOGIN: compare *connect to OK*. A round trip is a NOOP's time through the delay.
* Flood: 8 established TLS sessions say NOOP in turn, while 64 clients do full handshakes as fast as they can (with nice 19: theirs would be
  other machines), or 500 connect and say nothing or half a ClientHello. *new client*: connect to LOGIN's OK in the middle of it.
"""


def part(found, keys):
    """(targets, [(title, table)], notes), as report.write() takes them. keys: those of the certificates."""
    page = [(name, bulk_table(table) if name.startswith("bulk") else rate_table(table))
            for name, table in found["rates"].items()]
    page += [
        ("1000 more idle cached TLS connections, null backend", memory_table(found["memory"])),
        ("Logins with TLS to a mail host that is 20 ms away", far_table(found["far"])),
        ("A flood on imaps", flood_table(found["flood"])),
    ]
    return targets(found), page, NOTES.format(keys={"ec": "P-256", "rsa": "RSA (2048 bits)"}[keys])
