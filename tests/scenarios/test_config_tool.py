"""proxyd -n checks a file strictly, proxyd -p prints the effective settings."""
import re
import subprocess

import pytest

from keepwarm import process
from keepwarm.system import BUILD, ROOT


def proxyd(*argv):
    return subprocess.run([BUILD / "proxyd", *map(str, argv)], stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=process.DEADLINE, check=False, text=True)


@pytest.fixture
def conf(tmp_path):
    def write(text):
        path = tmp_path / "imapproxy.conf"
        path.write_text(text, newline="")
        return path
    return write


@pytest.mark.parametrize("text", [
    "", "# nothing\n", "server_hostname imap.example.test\n", "SERVER_HOSTNAME imap.example.test",
    "cache_size\t17\r\n", "  cache_size   17   # seventeen\n", "cache_size 1\ncache_size 2\n",
    "send_tcp_keepalives yes\nforeground_mode true\nenable_select_cache no\n", "server_port imap2\n"])
def test_a_good_file_passes(conf, text):
    result = proxyd("-n", "-f", conf(text))
    assert result.returncode == 0, result


@pytest.mark.parametrize("sample", sorted((ROOT / "conf").glob("imapproxy*.conf")), ids=lambda path: path.name)
def test_a_sample_passes(sample):
    assert proxyd("-n", "-f", sample).returncode == 0


@pytest.mark.parametrize("text,line,key", [
    ("cache_size banana\n", 1, "cache_size"),
    ("\n\nlisten_port 99999\n", 3, "listen_port"),
    ("cache_size -1\n", 1, "cache_size"),
    ("# x\nsyslog_facility LOG_NOWHERE\n", 2, "syslog_facility"),
    ("spare_processes 9\n", 1, "spare_processes"),
    ("force_tls yes\n", 1, "force_tls"),
    ("\nimaps_listen_port 993\n", 2, "tls_server_cert_file"),
    ("tls_server_cert_file /does/not/exist\n", 1, "/does/not/exist"),
    ("server_tls implicit\ntls_ca_path /dev/null\n", 2, "it is no directory"),
    ("cache_siez 17\n", 1, "cache_siez"),
    ("cache_size\n", 1, "cache_size"),
    ("foreground_mode maybe\n", 1, "foreground_mode"),
])
def test_a_bad_line_is_named(conf, text, line, key):
    path = conf(text)
    result = proxyd("-n", "-f", path)
    assert result.returncode == 1, result
    assert f"{path}:{line}: " in result.stderr and key in result.stderr, result.stderr


def test_an_unknown_key_is_told_its_nearest_relative(conf):
    assert "cache_size" in proxyd("-n", "-f", conf("cache_siez 17\n")).stderr


def test_a_missing_file_fails(tmp_path):
    result = proxyd("-n", "-f", tmp_path / "none")
    assert result.returncode == 1 and "none" in result.stderr


def keys():
    text = (ROOT / "lib/config_table.h").read_text()
    return re.findall(r"^\t(?:TEXT|NUM|BOOL|NAME|PAIR)\((\w+), ", text, re.M)


def test_print_shows_every_key_with_its_effective_value(conf):
    result = proxyd("-p", "-f", conf("cache_size 17\nlisten_port 1143\nhide_capabilities A B\n"))
    assert result.returncode == 0, result
    shown = dict(line.partition(" ")[::2] for line in result.stdout.splitlines())
    assert (shown["cache_size"], shown["listen_port"], shown["hide_capabilities"]) == ("17", "1143", "A B")
    assert shown["cache_expiration_time"] == "300"
    assert len(shown) >= len(keys())


def test_what_print_shows_is_a_file_that_means_the_same(conf):
    first = proxyd("-p", "-f", conf("cache_size 17\n")).stdout
    lines = [line for line in first.splitlines() if line.partition(" ")[2]]
    assert proxyd("-p", "-f", conf("\n".join(lines) + "\n")).stdout == first


@pytest.mark.parametrize("written, mode, port, verified", [
    ("", "none", "143", "yes"),
    ("server_tls implicit\n", "implicit", "993", "yes"),
    ("server_tls implicit\nserver_port 1993\n", "implicit", "1993", "yes"),
    ("server_tls starttls\nforce_tls yes\n", "starttls", "143", "yes"),
    ("force_tls yes\n", "starttls", "143", "no"),
    ("force_tls yes\ntls_verify_server yes\n", "starttls", "143", "yes"),
])
def test_print_shows_what_the_keys_about_tls_mean_together(conf, written, mode, port, verified):
    first = proxyd("-p", "-f", conf(written)).stdout
    shown = dict(line.partition(" ")[::2] for line in first.splitlines())
    assert (shown["server_tls"], shown["server_port"], shown["tls_verify_server"]) == (mode, port, verified)
    lines = [line for line in first.splitlines() if line.partition(" ")[2]]
    assert proxyd("-p", "-f", conf("\n".join(lines) + "\n")).stdout == first


def test_print_of_a_bad_file_fails(conf):
    assert proxyd("-p", "-f", conf("cache_size banana\n")).returncode == 1


def test_the_sample_file_is_good():
    samples = sorted((ROOT / "conf").glob("imapproxy*.conf"))
    assert samples, "no sample file"
    for sample in samples:
        result = proxyd("-n", "-f", sample)
        assert result.returncode == 0, result


def test_usage():
    assert proxyd("--no-such-option").returncode == 2
