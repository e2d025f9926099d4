"""PROXY headers, as a proxy in front of Keepwarm sends them, and as a mail host behind it reads them."""
import socket
import struct

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
CLIENT, PORT = "192.0.2.77", 4711
LOCAL, LOCAL_PORT = "198.51.100.1", 143


def v1(client=CLIENT, port=PORT, local=LOCAL, local_port=LOCAL_PORT):
    family = "TCP6" if ":" in client else "TCP4"
    return f"PROXY {family} {client} {local} {port} {local_port}\r\n".encode()


def v2(client=CLIENT, port=PORT, local=LOCAL, local_port=LOCAL_PORT, more=b"", command=0x21):
    family, kind = (socket.AF_INET6, 0x21) if ":" in client else (socket.AF_INET, 0x11)
    block = socket.inet_pton(family, client) + socket.inet_pton(family, local) + struct.pack("!HH", port, local_port) + more
    return SIGNATURE + struct.pack("!BBH", command, kind, len(block)) + block


def v2_local(more=b""):
    return SIGNATURE + struct.pack("!BBH", 0x20, 0, len(more)) + more


def take(sock):
    """Reads a header of version 2 off a socket: (client, port, local, local_port), or None for LOCAL."""
    fixed = exactly(sock, 16)
    assert fixed[:12] == SIGNATURE, fixed
    command, kind, length = struct.unpack("!BBH", fixed[12:])
    block = exactly(sock, length)
    if command == 0x20:
        return None
    assert command == 0x21 and kind in (0x11, 0x21), fixed
    family, size = (socket.AF_INET, 4) if kind == 0x11 else (socket.AF_INET6, 16)
    port, local_port = struct.unpack("!HH", block[2 * size:])
    return (socket.inet_ntop(family, block[:size]), port, socket.inet_ntop(family, block[size:2 * size]), local_port)


def exactly(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        assert more, f"the stream ends in the header: {data!r}"
        data += more
    return data
