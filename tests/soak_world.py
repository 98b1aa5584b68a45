"""What surrounds the server under load, for soak.py: the world outside, and the process itself."""

import collections
import http.client
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PATIENCE = 60


def png(width, height, colour):
    """A plain PNG."""
    row = b"\0" + bytes(colour) * width

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(row * height))
        + chunk(b"IEND", b"")
    )


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class World(ThreadingHTTPServer):
    """Everything outside: an HTTP store, files to download, receivers of webhooks."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.stored = {}
        self.webhooks = collections.defaultdict(list)
        self.attempts = collections.Counter()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", kind="application/octet-stream"):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-type", kind)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        number = int(re.sub(r"\D", "", self.path) or 0)
        self.answer(200, png(96, 96, (number % 256, 80, 160)), "image/png")

    do_HEAD = do_GET

    def body(self):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        whole = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def do_PUT(self):
        body = self.body()
        with self.server.lock:
            self.server.stored[self.path] = len(body)
        self.answer(201)

    def do_POST(self):
        event = json.loads(self.body())
        with self.server.lock:
            self.server.attempts[event["id"]] += 1
            attempt = self.server.attempts[event["id"]]
        if self.path == "/fail" or (self.path == "/flaky" and attempt == 1):
            return self.answer(500)
        with self.server.lock:
            self.server.webhooks[event["id"]].append(event["type"])
        self.answer(204)


class Server:
    """The demo."""

    def __init__(self, binary, directory, world):
        self.port, self.comfy_port = free_port(), free_port()
        self.log = directory / "server.log"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "TMPDIR": str(directory),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "COMFYUI_PORT_HOST": str(self.comfy_port),
            "LOG_FORMAT": "json",
            "HTTP_TRUSTED_ORIGINS": world.url,
            "PROMPT_WEBHOOK_RETRIES": "1",
            "WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "STARTUP_CHECK_INTERVAL_S": "0.1",
            "STARTUP_CHECK_MAX_TRIES": "200",
            "CANCEL_ON_DISCONNECT": "true",
            **{name: value for name, value in os.environ.items() if name.startswith("MIMALLOC_")},
        }
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(
                [binary, "demo"],
                env=environment,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self.home = directory / f"comfyui-api-demo-{self.process.pid}"

    def request(self, method, path, body=None, headers=None, port=None, read=True):
        """Status, headers, body (or the connection itself)."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=PATIENCE)
        payload = None if body is None else json.dumps(body)
        connection.request(
            method, path, payload, {"content-type": "application/json", **(headers or {})}
        )
        answer = connection.getresponse()
        if not read:
            return answer.status, answer, connection
        data = answer.read()
        connection.close()
        return answer.status, dict(answer.headers), json.loads(data) if data else None

    def ready(self):
        try:
            return self.request("GET", "/ready")[0] == 200
        except OSError:
            return False

    def wait_until_ready(self):
        deadline = time.monotonic() + PATIENCE
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the server is not ready:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)

    def fault(self, **change):
        try:
            self.request("POST", "/simulator/faults", change, port=self.comfy_port)
        except (OSError, http.client.HTTPException, ValueError):
            pass  # a crash answers nobody

    def figures(self):
        base = Path(f"/proc/{self.process.pid}")
        status = dict(
            line.split(":", 1) for line in (base / "status").read_text().splitlines() if ":" in line
        )
        ticks = (base / "stat").read_text().rsplit(")", 1)[1].split()
        return {
            "rss_mib": int(status["VmRSS"].split()[0]) / 1024,
            "anonymous_mib": int(status["RssAnon"].split()[0]) / 1024,
            "threads": int(status["Threads"]),
            "descriptors": len(list((base / "fd").iterdir())),
            "cpu_s": (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK"),
        }
