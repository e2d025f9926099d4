#!/usr/bin/env python3
"""Writes the seeds of fuzz_follow (conversations), fuzz_rewrite (a server's bytes) and fuzz_imap_args (lines, lists,
settings).

The seeds are checked in; files whose name begins with "crash-" were found by a fuzzer and stay.
"""
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
C, S, P = b"\x01", b"\x02", b"\x03"
WIDE, NARROW = b"\x00", b"\x9f"  # the buffer: 64 KiB; 32 bytes

TALKS = {
    "commands": C + b"a NOOP\r\nb SELECT x\r\n" + S + b"* 3 EXISTS\r\na OK\r\nb OK [READ-WRITE] x\r\n" + C + b"c LOGOUT\r\nd X\r\n",
    "append-sync": C + b"a APPEND x {5}\r\nhello\r\nb NOOP\r\n" + S + b"* 1 RECENT\r\n+ go\r\n" + S + b"a OK\r\nb OK\r\n",
    "append-refused": C + b"a FETCH 1 BODY[]\r\nb APPEND x {5}\r\n" + S + b"b NO [TOOBIG] no\r\n" + C + b"c NOOP\r\n" + S + b"a OK\r\nc OK\r\n",
    "append-push": C + b"a APPEND {1+}\r\nx {3+}\r\nabc {0+}\r\n ~{2+}\r\n\r\n\r\nb NOOP\r\n" + S + b"a OK\r\nb OK\r\n",
    "append-early": C + b"a APPEND x {9+}\r\nhalf" + S + b"a NO no\r\n" + C + b"other\r\n",
    "fetch": C + b"a FETCH 1 BODY[]\r\nb LOGOUT\r\n" + S + b"* 1 FETCH (BODY[] {8}\r\nb BYE\r\n\n X {0}\r\n Y ~{1}\r\n+)\r\na OK\r\n",
    "idle": C + b"a IDLE\r\n" + S + b"* 1 EXISTS\r\n+ idling\r\n* 2 EXISTS\r\n" + C + b"DONE\r\nb LOGOUT\r\n" + S + b"a OK\r\n",
    "idle-left": C + b"a IDLE\r\n" + S + b"+ idling\r\n" + P + S + b"a OK\r\n",
    "idle-logout": C + b"a IDLE\r\n" + S + b"+ idling\r\n" + C + b"b LOGOUT\r\n" + P + S + b"a OK\r\n",
    "idle-refused": C + b"a IDLE\r\n" + S + b"a BAD no\r\n" + C + b"b NOOP\r\n" + S + b"b OK\r\n",
    "same-tag": C + b"a NOOP\r\na APPEND x {11}\r\nb LOGOUT\r\n!\r\n" + S + b"a OK\r\n+ go\r\na OK\r\n",
    "hidden": C + b"a CLOSE {37+}\r\nc ENABLE CONDSTORE\r\nd EXAMINE {20+}\r\n\r\nc NOOP\r\nd EXAMINE x\r\n" + S + b"a OK\r\nc OK\r\nd NO\r\n",
    "message-bad": C + b"a APPEND ) {4+}\r\na\r\nb\r\n" + S + b"a BAD what\r\n* BAD what\r\n",
    "enable": C + b"a ENABLE CONDSTORE\r\nb UID FETCH 1 (MODSEQ)\r\n" + S + b"* ENABLED CONDSTORE\r\na OK\r\nb OK\r\n",
    "odd": C + b"\r\n+ x\r\na NO\rOP\r\nb NOOP\n" + S + b"* OK see {4}\r\n\r\n+ what\r\nzz OK\r\n* BYE\r\n",
    "long-line": C + b"a SEARCH " + b"x" * 60 + b" {10}\r\nx LOGOUT\r\n\r\n" + S + b"* SEARCH " + b"1 " * 30 + b"\r\n+ go\r\na OK\r\n",
    "table-full": C + b"".join(b"%d NOOP\r\n" % i for i in range(260)) + S + b"".join(b"%d OK\r\n" % i for i in range(260)),
}

TALKS |= {
    "refused": C + b"a NOOP\r\nb COMPRESS {10+}\r\nx LOGOUT\r\n {4+}\r\n\r\n\r\n x\r\nc NOOP\r\n" + S + b"a OK\r\n" + C + b"d STARTTLS {5}\r\ne NOOP\r\n" + S + b"c OK\r\ne OK\r\n",
    "lists": C + b"a CAPABILITY\r\n" + S + b"* CAPABILITY IMAP4rev1 AUTH=PLAIN {5}\r\n* B\r\n\r\na OK [CAPABILITY A STARTTLS XHIDDEN] x\r\n",
}

# What is turned on, and the answers that make it part of the opening, or not.
TALKS |= {
    "enable-all": C + b"a ENABLE QRESYNC UTF8=ACCEPT\r\n" + S + b"* ENABLED QRESYNC utf8=accept\r\na OK [X] Enabled.\r\n"
                  + C + b"b SELECT x (QRESYNC (1 1))\r\nc LOGOUT\r\n" + S + b"* 1 EXISTS\r\nb OK\r\n",
    "enable-pipelined": C + b"a ENABLE CONDSTORE\r\nb ENABLE QRESYNC\r\n" + S + b"* ENABLED CONDSTORE\r\na OK\r\n* ENABLED QRESYNC\r\nb OK\r\n",
    "enable-twice": C + b"a ENABLE CONDSTORE\r\n" + S + b"* ENABLED CONDSTORE\r\na OK one\r\n" + C + b"b ENABLE CONDSTORE\r\n"
                    + S + b"* ENABLED\r\nb OK two\r\n" + C + b"c enable uidonly\r\n" + S + b"* ENABLED UIDONLY\r\nc OK\r\n",
    "enable-in-vain": C + b"a ENABLE X\r\n" + S + b"a OK\r\n" + C + b"b ENABLE X\r\n" + S + b"* ENABLED\r\nb OK\r\n" + C + b"c ENABLE\r\n" + S + b"c BAD\r\n",
    "enable-refused": C + b"a ENABLE X\r\n" + S + b"* ENABLED X\r\na NO no\r\n",
    "enable-odd": C + b"a ENABLE X\r\n" + S + b"* ENABLED {3}\r\nX Y\r\na OK\r\n" + C + b"b ENABLE {1+}\r\nY\r\n" + S + b"* ENABLED Y\r\nb OK\r\n",
    "enable-list": C + b"a ENABLE X\r\n" + S + b"* ENABLED X\r\na OK [CAPABILITY IMAP4rev1 STARTTLS] x\r\n",
    "enable-many": C + b"a ENABLE X\r\n" + S + b"* ENABLED " + b" ".join(b"X-%d" % i for i in range(60)) + b"\r\na OK\r\n",
    "enable-like-a-residue": C + b"a ENABLE X\r\n" + S + b"* ENABLED CONDSTORE=STATUS\r\na OK\r\n" + C + b"b STATUS x (HIGHESTMODSEQ)\r\n" + S + b"b OK\r\n",
    "language": C + b"a LANGUAGE de\r\n" + S + b"* LANGUAGE (DE)\r\na OK\r\n" + C + b"b LANGUAGE fr\r\n" + S + b'* LANGUAGE ("FR")\r\nb OK\r\n'
                + C + b"c LANGUAGE\r\n" + S + b"* LANGUAGE (EN DE FR)\r\nc OK\r\n",
    "condstore-status": C + b"a STATUS x (HIGHESTMODSEQ)\r\nb SELECT x\r\nc STATUS y (HIGHESTMODSEQ)\r\n" + S + b"a OK\r\nb OK\r\nc NO\r\n"
                        + C + b"d SEARCH MODSEQ 1\r\n" + S + b"d OK\r\n",
    "condstore-select": C + b"a EXAMINE x (CONDSTORE)\r\n" + S + b"a OK [READ-ONLY] x\r\n" + C + b"b FETCH 1 (MODSEQ)\r\n" + S + b"b OK\r\n",
    "condstore-behind-enable": C + b"a ENABLE UTF8=ACCEPT\r\nb SELECT x (CONDSTORE)\r\n" + S + b"* ENABLED UTF8=ACCEPT\r\na OK\r\nb OK\r\n"
                               + C + b"c UID FETCH 1 FLAGS (CHANGEDSINCE 1)\r\nd LOGOUT\r\n" + S + b"c OK\r\n",
}

STREAMS = {
    "line": b"* CAPABILITY IMAP4rev1 AUTH=PLAIN IDLE COMPRESS=DEFLATE XHIDDEN\r\n* 1 EXISTS\r\n",
    "codes": b"* OK [CAPABILITY A STARTTLS B] x\r\na NO [CAPABILITY A SASL-IR\r\n* BYE [CAPABILITY ]\r\n* PREAUTH [CAPABILITY X] \r\nb BAD [CAPABILITY x]\r\n",
    "literals": b"* 1 FETCH (BODY[] {34}\r\n* CAPABILITY AUTH=PLAIN STARTTLS\r\n\r\n X {2}\r\n\r\n)\r\n* CAPABILITY AUTH={7}\r\n* OK x\r\n Y\r\n",
    "none": b"*  CAPABILITY A\r\n*a CAPABILITY B\r\n+ OK [CAPABILITY C]\r\n* OK [ALERT] [CAPABILITY D]\r\n* CAPABILITY\r\n",
    "odd": b"* CAPABILITY A\rB\n* CAPABILITY " + b"x" * 300 + b" y " + b"z" * 300 + b"{1}\r\n.\r\n\r\n",
}

LINES = {
    "xoauth2": b"user=anna@example.org\1auth=Bearer ya29.vF9-_~+/==\1\1",
    "oauthbearer": b"n,a=anna=2C=3d,\1host=h\1port=143\1auth=Bearer vF9dft4=\1\1",
    "login-atoms": b"a1 LOGIN user pass",
    "login-quoted": b'a1 LOGIN "us\\"er" "pa\\\\ss"',
    "login-literals": b"a1 LOGIN {4}\r\nuser {4+}\r\np\"ss",
    "tag-only": b"a1 ",
    "id": b'("name" "x" "version" NIL "os" {3}\r\na"b)',
    "id-nil": b"NIL",
    "capability": b"* CAPABILITY IMAP4rev1 IDLE UNSELECT AUTH=PLAIN STARTTLS COMPRESS=DEFLATE",
    "capability-code": b"* OK [CAPABILITY IMAP4rev1 LITERAL+ IDLE] ready",
    "base64": b"AHVzZXIAcGFzcw==",
    "base64-odd": b"AB==",
    "enabling": b"a1 SELECT x (CONDSTORE)",
    "settings": b"# a comment\nserver_hostname mail.example\nlisten_port 1143\ncache_size 100\nspare_processes 2 4\n"
                b"drain_bytes 64k\nsend_tcp_keepalives yes\nhide_capabilities NOTIFY\nno_such_key 1\n",
    "settings-wrong": b"server_port 99999\ncache_size -1\nforeground_mode perhaps\nspare_processes 4\nkey",
    "completion": b"K0123456789abcde\0 OK done",
}

V2 = b"\r\n\r\n\0\r\nQUIT\n"
CALLERS = {
    "v1-tcp4": b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 143\r\na LOGIN",
    "v1-tcp6": b"PROXY TCP6 2001:db8::1 ::1 65535 993\r\n",
    "v1-unknown": b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n",
    "v2-tcp4": V2 + b"\x21\x11\0\x10\xc0\0\2\1\xc0\0\2\2\x12\x67\0\x8f\4\0\1\0\x16\3\1",
    "v2-tcp6": V2 + b"\x21\x21\0\x24" + b"\x20\1\x0d\xb8" + b"\0" * 12 + b"\x20\1\x0d\xb8" + b"\1" * 12 + b"\x12\x67\3\xe1",
    "v2-mapped": V2 + b"\x21\x21\0\x24" + 2 * (b"\0" * 10 + b"\xff\xff\xc0\0\2\1") + b"\0\1\0\2",
    "v2-unix": V2 + b"\x21\x31\0\xd8" + b"\0" * 216,
    "v2-local": V2 + b"\x20\0\0\0",
    "id": b'("name" "x" "x-originating-ip" "192.0.2.1" "x-originating-port" "4711" "x-proxy-ttl" "4" "os" NIL)',
    "id-forward": b'("x-forward-a" "b" "X-Connected-IP" NIL "version" {3}\r\na"b)',
    "xclient": b"ADDR=2001:db8::1 PORT=4711 SESSION=abc TTL=3",
    "address": b"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255",
}


def write(name, seeds):
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if not old.name.startswith("crash-"):
            old.unlink()
    for seed, data in seeds.items():
        (folder / seed).write_bytes(data)
    print(f"{name}: {len(seeds)} seeds")


def main():
    wide = {name: WIDE + talk for name, talk in TALKS.items()}
    narrow = {f"{name}-narrow": NARROW + talk for name, talk in TALKS.items()}
    write("fuzz_follow", wide | narrow)
    write("fuzz_rewrite", {name: b"\x05" + stream for name, stream in STREAMS.items()})
    write("fuzz_imap_args", LINES)
    write("fuzz_caller", CALLERS)


if __name__ == "__main__":
    main()
