#!/usr/bin/env python3
"""Writes the seeds of fuzz_pack: a pack with one of each record of cachebrokerd/pack_table.h, and bad ones.

Run it after a change of the table or of a version; the seeds are checked in.
"""
import re
import struct
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).parent / "corpus" / "fuzz_pack"
SIZES = {"U32": 4, "U64": 8, "KEY": 32}


def number(name, path):
    return int(re.search(rf"#define {name} (\d+)", (ROOT / path).read_text())[1])


def table():
    """(name, number, [(kind, longest)]) of every row."""
    text = (ROOT / "cachebrokerd/pack_table.h").read_text()
    fields = {}
    for name, body in re.findall(r"#define PACK_(\w+)_FIELDS\(N, U32, U64, KEY, TEXT\)((?:.*\\\n)+.*)", text):
        found = re.findall(r"(U32|U64|KEY|TEXT)\(N, \w+(?:, (\d+))?\)", body)
        fields[name] = [(kind, int(longest or 0)) for kind, longest in found]
    for name, value in re.findall(r"\bRECORD\((\w+), (\d+), \d,", text):
        yield name, int(value), fields[name]


def with_hash(data):
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 % 2 ** 32
    return data + struct.pack("=I", value)


def record(value, fields, text):
    out = struct.pack("=I", value)
    for kind, longest in fields:
        if kind == "TEXT":
            out += struct.pack("=I", len(text(longest))) + text(longest)
        else:
            out += b"\x03" * SIZES[kind]
    return with_hash(out)


def main():
    versions = number("PACK_VERSION", "cachebrokerd/pack.h"), number("MSG_VERSION", "lib/msg.h")
    prefix = b"keepwarm" + struct.pack("=II", *versions)
    rows = list(table())
    seeds = {"all": prefix + b"".join(record(value, fields, lambda _: b"abc") for _, value, fields in rows),
             "longest": prefix + b"".join(record(value, fields, lambda n: b"x" * n) for _, value, fields in rows),
             "too_long": prefix + b"".join(record(value, fields, lambda n: b"x" * (n + 1)) for _, value, fields in rows),
             "empty": prefix,
             "other_version": b"keepwarm" + struct.pack("=II", versions[0] + 1, versions[1]),
             "no_such_record": prefix + with_hash(struct.pack("=I", 99))}
    seeds["cut"] = seeds["all"][:-1]
    seeds["damaged"] = seeds["all"][:-1] + bytes([seeds["all"][-1] ^ 1])
    CORPUS.mkdir(parents=True, exist_ok=True)
    for name, data in seeds.items():
        (CORPUS / name).write_bytes(data)


if __name__ == "__main__":
    main()
