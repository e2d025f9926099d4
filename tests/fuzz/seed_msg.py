#!/usr/bin/env python3
"""Writes the seeds of fuzz_msg: one good datagram of every message in lib/msg_table.h, and bad ones.

Run it after a change of the table; the seeds are checked in.
"""
import re
import struct
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).parent / "corpus" / "fuzz_msg"


def version():
    return int(re.search(r"#define MSG_VERSION (\d+)", (ROOT / "lib/msg.h").read_text())[1])


def table():
    """(name, number, descriptors, [(kind, longest)]) of every row."""
    text = (ROOT / "lib/msg_table.h").read_text()
    fields = {}
    for name, body in re.findall(r"#define MSG_(\w+)_FIELDS\(N, U32, U64, TEXT\)((?:.*\\\n)+.*)", text):
        found = re.findall(r"(U32|U64|TEXT)\(N, \w+(?:, (\d+))?\)", body)
        fields[name] = [(kind, int(longest or 0)) for kind, longest in found]
    for name, number, descriptors in re.findall(r"\bMSG\((\w+),\s*(\d+), [^,]+, (\d),", text):
        yield name, int(number), int(descriptors), fields[name]


def datagram(number, fields, text, serial=7):
    out = struct.pack("=BBHI", version(), number, 0, serial)
    for kind, longest in fields:
        if kind == "TEXT":
            value = text(longest)
            out += struct.pack("=H", len(value)) + value
        else:
            out += struct.pack("=I" if kind == "U32" else "=Q", 3)
    return out


def main():
    CORPUS.mkdir(parents=True, exist_ok=True)
    for old in CORPUS.iterdir():
        old.unlink()
    for name, number, descriptors, fields in table():
        good = datagram(number, fields, lambda longest: b"text"[:longest])
        seeds = {
            "good": (descriptors, good),
            "empty": (descriptors, datagram(number, fields, lambda longest: b"", serial=0)),
            "long": (descriptors, datagram(number, fields, lambda longest: b"x" * longest)),
            "left-over": (descriptors, good + b"!"),
            "descriptors": (descriptors + 1, good),
        }
        for kind, (count, data) in seeds.items():
            (CORPUS / f"{name.lower()}-{kind}").write_bytes(bytes([count]) + data)
    good = struct.pack("=BBHI", version(), 1, 0, 7)
    (CORPUS / "version").write_bytes(b"\0" + struct.pack("=BBHI", version() + 1, 1, 0, 7))
    (CORPUS / "type").write_bytes(b"\0" + struct.pack("=BBHI", version(), 255, 0, 7))
    (CORPUS / "header-only").write_bytes(b"\0" + good)
    print(f"{len(list(CORPUS.iterdir()))} seeds")


if __name__ == "__main__":
    main()
