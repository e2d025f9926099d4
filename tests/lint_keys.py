"""The table of keys (lib/config_table.h) against what people read of it: the manual, the sample file, the table in
docs/MIGRATING.md. Each rots unless it is held to the first."""
import re

# up-imapproxy's; the rest are ours.
OLD_KEYS = """server_hostname server_port connect_retries connect_delay listen_port listen_address cache_size
cache_expiration_time proc_username proc_groupname stat_filename protocol_log_filename syslog_facility
syslog_prioritymask send_tcp_keepalives enable_select_cache foreground_mode force_tls tls_ca_file tls_ca_path
tls_cert_file tls_key_file tls_verify_server tls_ciphers tls_no_tlsv1 tls_no_tlsv1.1 tls_no_tlsv1.2 chroot_directory
preauth_command enable_admin_commands auth_sasl_plain_username auth_sasl_plain_password auth_shared_secret dns_rr
ipversion_only""".split()
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Key:
    def __init__(self, name, text):
        self.name = re.sub(r"(tlsv1)_(\d)$", r"\1.\2", name)  # as it is spelled in a file
        strings = STRING.findall(text)
        self.default = "" if text.split(", ", 1)[0].isdigit() else strings[0]  # a LIST has none
        flags = STRING.sub("", text)
        self.reload = bool(re.search(r"\bRELOAD\b", flags))


def read_table(root):
    text = (root / "lib/config_table.h").read_text().replace("\\\n", "\n")
    rows = re.split(r"^\t(?:TEXT|NUM|BOOL|NAME|PAIR|LIST)\((?=\w+, )", text, flags=re.M)[1:]
    return [Key(*row.split(", ", 1)) for row in rows]


def check_migrating(keys, text):
    rows = {}
    for line in text.splitlines():
        match = re.match(r"\| `([a-z_.0-9]+)` \| (\S.*?) \| (\S.*?) \| (\S.*?) \|$", line)
        if match:
            rows.setdefault(match[1], []).append(match.groups())
    known = [key.name for key in keys]
    yield from (f"the old key {name} is not in lib/config_table.h" for name in OLD_KEYS if name not in known)
    yield from (f"the key {name} is not in lib/config_table.h" for name in rows if name not in known)
    for key in keys:
        found = rows.get(key.name, [])
        default = f"`{key.default}`" if key.default else "–"
        if len(found) != 1:
            yield f"the key {key.name} has {len(found)} rows; one shall begin: | `{key.name}` | {default} |"
            continue
        _, given, old, words = found[0]
        if given != default:
            yield f"the default of {key.name} is {default}, not {given}"
        if (old == "new") != (key.name not in OLD_KEYS):
            yield f"{key.name}: 'new' in the third column is for keys that up-imapproxy did not have"


def check_chapters(keys, text):
    """What the chapters promise in the last column of a table: a word with _ in it is one of our keys."""
    known = [key.name for key in keys]
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] if line.startswith("| ") else []
        for words in re.findall(r"`([^`]+)`", cells[-1]) if len(cells) > 1 else []:
            name = words.split(" ", 1)[0]
            if re.fullmatch(r"[a-z0-9]+(_[a-z0-9.]+)+", name) and name not in known:
                yield f"'{name}' is no key; in the row: {line[:60]}"


def check_manual(keys, text):
    items = dict(re.findall(r"^\.It Ic (\S+)(.*?)(?=^\.It |^\.El)", text, re.M | re.S))
    for key in keys:
        item = items.get(key.name, "")
        given = re.search(r"^Default: (.*?)[;.]?(?=;|\.?$)", item, re.M)
        wanted = {key.default} if key.default else {"empty", "see above"}
        if not given or given[1] not in wanted:
            yield f"{key.name}: the default is {' or '.join(wanted)}, not {given and given[1]}"
        if ("a reload takes it" in item) != key.reload:
            yield f"{key.name}: {'a reload takes it' if key.reload else 'needs a restart'}, says lib/config_table.h"
    yield from (f"the key {name} is not in lib/config_table.h" for name in items
                if name not in [key.name for key in keys] and "Default:" in items[name])


def check_sample(keys, text):
    lines = re.findall(r"^(#?)([a-z_0-9.]+) (\S.*)$", text, re.M)
    for key in keys:
        found = [(commented, value) for commented, name, value in lines if name == key.name]
        if len(found) != 1:
            yield f"{key.name} stands there {len(found)} times, not once"
        elif found and found[0][0] and key.default and found[0][1] != key.default:
            yield f"{key.name}: what is commented out is the default, {key.default}"


CHECKS = (("docs/MIGRATING.md", check_migrating), ("docs/MIGRATING.md", check_chapters), ("man/imapproxy.conf.5", check_manual),
          ("conf/imapproxy.conf", check_sample))


def check(root, complain):
    keys = read_table(root)
    for path, checker in CHECKS:
        for problem in checker(keys, (root / path).read_text()):
            complain(root / path, 0, problem)
