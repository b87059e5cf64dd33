"""Ask a broker whether it answers, without a client library: one Metadata request over a socket.

In: an address. Out: the node numbers of the brokers that it knows. A broker replies only once it has caught
up with the controllers and may serve clients, so a reply that names every node means that the cluster is up.

Message (protocol guide, Metadata version 1): int32 size; int16 api key 3; int16 version 1; int32 correlation
id; string client id; int32 number of topics asked about, 0 = none. Reply: int32 size; int32 correlation id;
int32 number of brokers; for each int32 node id, string host, int32 port, nullable string rack.
"""

import socket
import struct

_KEY, _VERSION, _ID = 3, 1, 7
_CLIENT = b"deploy.kafka"


def brokers(host: str, port: int, *, timeout_s: float = 2.0) -> frozenset[int]:
    """Return the node ids that the broker at an address knows; empty if nothing (yet) answers there."""
    body = struct.pack(f">hhih{len(_CLIENT)}si", _KEY, _VERSION, _ID, len(_CLIENT), _CLIENT, 0)
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            (size,) = struct.unpack(">i", _exactly(connection, 4))
            return _parse(_exactly(connection, size))
    except (OSError, struct.error):
        return frozenset()


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts, left = [], size
    while left > 0:
        part = connection.recv(left)
        if not part:
            raise ConnectionResetError("the broker closed the connection in the middle of its reply")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _parse(reply: bytes) -> frozenset[int]:
    _, count = struct.unpack_from(">ii", reply)
    nodes, at = [], 8
    for _ in range(count):
        node, length = struct.unpack_from(">ih", reply, at)
        at += 6 + length + 4
        (rack,) = struct.unpack_from(">h", reply, at)
        at += 2 + max(rack, 0)
        nodes.append(node)
    return frozenset(nodes)
