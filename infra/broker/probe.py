"""Ask a broker one real question over a plain socket: no client library, no log lines, no retries of its own.

An open port is not enough: it opens before the broker may serve. The Metadata answer lists only brokers that the controller
lets serve (KIP-631, unfenced), so a broker that finds itself in it is ready.
"""

from __future__ import annotations

import socket
import struct

METADATA, VERSION = 3, 1  # version 1: the oldest that tells the controller, and simple to read
CORRELATION = 7


def answers(port: int, timeout: float = 2.0) -> bool:
    """Whether the broker at this port of 127.0.0.1 answers within `timeout` seconds and says it is open for clients."""
    client = b"probe"
    body = struct.pack(f">hhih{len(client)}si", METADATA, VERSION, CORRELATION, len(client), client, 0)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            (size,) = struct.unpack(">i", _read(connection, 4))
            return _serves(_read(connection, size), port)
    except (OSError, struct.error):
        return False


def _read(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise ConnectionError("closed before the answer was complete")
        received += part
    return received


def _serves(answer: bytes, port: int) -> bool:
    """Read `correlation, [node, host, port, rack]` and look for our own port."""
    correlation, count = struct.unpack_from(">ii", answer)
    at = 8
    ports = set()
    for _ in range(count):
        (length,) = struct.unpack_from(">h", answer, at + 4)
        at += 6 + length
        broker_port, rack = struct.unpack_from(">ih", answer, at)
        at += 6 + max(rack, 0)
        ports.add(broker_port)
    return correlation == CORRELATION and port in ports
