"""In a container whose filter refuses what it does not know with EPERM, as older ones of Docker and systemd-nspawn do:
Landlock is not to be had there, as with an older kernel. The other locks are."""
import sys

import pytest

from keepwarm import tls
from keepwarm.certs import Authority
from keepwarm.process import free_port
from keepwarm.system import SANITIZED

pytestmark = pytest.mark.skipif(SANITIZED, reason="a sanitizer build is locked up in part only")

# landlock_create_ruleset(2) has this number on all architectures.
REFUSES = """
import ctypes, os, struct, sys
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
prctl = ctypes.CDLL(None).prctl
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, ctypes.byref(Program(len(steps), ctypes.addressof(code))), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_everything_runs_where_landlock_is_refused(make, backend, tmp_path):
    authority = Authority(tmp_path)
    ours, port = authority.issue("127.0.0.1"), free_port()
    system = make.system(backend, prefix=(sys.executable, "-c", REFUSES), imaps_listen_port=port,
                         tls_server_cert_file=ours.path, tls_server_key_file=ours.key_path)
    with system.session() as client:
        client.ok("NOOP")
    with tls.imaps(port, authority) as client:
        assert client.login("bob", "pw-bob").ok
