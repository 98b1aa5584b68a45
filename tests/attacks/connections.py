"""Hostile clients: what they do not send, and do not read."""

import base64
import json
import os
import struct
import time
import zlib

from .stage import attack, graph, in_parallel, until


@attack(quick=True)
def silent_connections(server, _):
    """A04, A19, A50: connections that say nothing, a byte, half a request."""
    beginnings = [
        b"",
        b"P",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /prompt HTTP/1.1\r\nhost: x\r\n",
        b"POST /prompt HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: 100\r\n\r\n{",
    ]
    connections = []
    for number in range(500):
        connection = server.raw()
        connection.sendall(beginnings[number % len(beginnings)])
        connections.append(connection)
    before = server.cpu_seconds()
    time.sleep(5)
    spent = server.cpu_seconds() - before
    for connection in connections:
        connection.close()
    assert spent < 1, f"{spent:.2f} s of CPU in 5 s"
    return f"500 connections cost {spent:.2f} s of CPU in 5 s"


@attack()
def silent_connections_end(server, _):
    """A04: they are closed in time, HTTP/1.1 and HTTP/2 alike."""
    beginnings = [
        b"",
        b"P",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"GET /health HTTP/1.1\r\nhost: x\r\n",
    ]
    connections = [server.raw() for _ in beginnings]
    for connection, beginning in zip(connections, beginnings):
        connection.sendall(beginning)
        connection.settimeout(180)
    began = time.monotonic()

    def ended(connection):
        try:
            while connection.recv(65536):
                pass
        except OSError:
            pass
        return time.monotonic() - began

    took = max(in_parallel(len(connections), lambda n: ended(connections[n])))
    assert took < 170, f"{took:.0f} s"
    return f"the last was closed after {took:.0f} s"


def noise(side):
    """A picture that nobody can make smaller."""
    rows = b"".join(b"\0" + os.urandom(side * 3) for _ in range(side))
    chunk = lambda kind, content: (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 0))
        + chunk(b"IEND", b"")
    )


@attack()
def unread_answers(server, _):
    """A19: who does not read keeps nothing."""
    picture = base64.b64encode(noise(1400)).decode()
    body = json.dumps(
        {
            "id": "unread",
            "prompt": graph(source={"class_type": "LoadImage", "inputs": {"image": picture}}),
        }
    )
    connections = []
    for number in range(12):
        one = body.replace('"unread"', f'"unread{number}"').encode()
        connection = server.raw(buffer=4096)
        connection.sendall(
            b"POST /prompt HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(one)
        )
        connection.sendall(one)
        connections.append(connection)
    until("all have run", lambda: json.loads(server.get("/queue")[1])["finished"][11:], 120)
    kept = sum(path.stat().st_size for path in server.left() if path.is_file())
    assert kept, "the answers were read"
    began = time.monotonic()
    until("their files are gone", lambda: not server.left(), 170)
    took = time.monotonic() - began
    for connection in connections:
        connection.close()
    return f"{kept >> 20} MiB of answers, gone after {took:.0f} s"
