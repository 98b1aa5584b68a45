"""What the attacks share: a server that is attacked, the client beside it, and a file server that
behaves as its paths say."""

import concurrent.futures
import json
import os
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BINARY = Path(os.environ.get("BINARY", ROOT / "target/debug/comfyui-api")).resolve()
HEALTH_MS = float(os.environ.get("ATTACK_HEALTH_MS", "1000" if "debug" in str(BINARY) else "250"))
ATTACKS = {}
EMPTY = {
    "class_type": "EmptyImage",
    "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255},
}


def attack(quick=False, alone=False, **environment):
    """Registers an attack. `quick`: also in .ci/run. `alone`: it ends the server itself, so that
    nobody asks beside it."""

    def register(function):
        ATTACKS[function.__name__] = (function, quick, alone, environment)
        return function

    return register


def graph(prefix="x", source=None):
    return {
        "2": source or EMPTY,
        "9": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": prefix}},
    }


def loads(url):
    return graph(source={"class_type": "LoadImage", "inputs": {"image": url}})


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


FOLDERS = ("CACHE", "INPUT", "OUTPUT", "MODEL", "STATE", "WORKFLOW")


class Server:
    """A running demo, and the client beside the attacker."""

    def __init__(self, **environment):
        self.directory = Path(tempfile.mkdtemp(prefix="attack-"))
        self.port = free_port()
        self.log = self.directory / "log"
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ},
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "LOG_FORMAT": "json",
            "ALLOW_PRIVATE_NETWORKS": "true",
            "ALWAYS_RESTART_COMFYUI": "true",
            **{f"{name}_DIR": str(self.directory / name.lower()) for name in FOLDERS},
            **environment,
        }
        for name in FOLDERS:
            (self.directory / name.lower()).mkdir(exist_ok=True)
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [BINARY, "demo"],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while self.get("/ready", timeout=2)[0] != 200:
            assert self.process.poll() is None and time.monotonic() < deadline, (
                self.log.read_text()[-2000:]
            )
            time.sleep(0.05)

    def get(self, path, timeout=20):
        return self.send("GET", path, None, timeout)

    def send(self, method, path, body, timeout=60, headers=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=body, method=method
        )
        if body is not None:
            request.add_header("content-type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except (OSError, ValueError) as error:
            return 0, str(error).encode()

    def prompt(self, body, timeout=60, headers=None):
        return self.send("POST", "/prompt", json.dumps(body).encode(), timeout, headers)

    def raw(self, buffer=None):
        connection = socket.socket()
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", self.port))
        return connection

    def resident_mib(self, what="VmRSS"):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return (
            int(
                next(line for line in status.splitlines() if line.startswith(what + ":")).split()[1]
            )
            / 1024
        )

    def peak_mib(self):
        """The most it ever had, as the kernel counts it."""
        return self.resident_mib("VmHWM")

    def path(self, name):
        return self.directory / name

    def left(self):
        """What is left of prompts in the folders of clients' files, under whatever names."""
        return [path for folder in ("input", "output") for path in self.path(folder).rglob("*")]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def children(self):
        found = subprocess.run(
            ["ps", "-eo", "pid,sid,args"], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        return [
            line
            for line in found.splitlines()
            if str(self.port) in line or str(self.directory) in line
        ]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                raise AssertionError("it did not stop within 40 s after SIGTERM") from None


class Bystander(threading.Thread):
    """Asks for /health until it is told to stop, and remembers the slowest answer and the largest
    memory."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.over = server, threading.Event()
        self.slowest, self.failed = 0.0, 0

    def run(self):
        while not self.over.is_set():
            began = time.monotonic()
            status, _ = self.server.get("/health", timeout=30)
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.failed += status != 200
            time.sleep(0.02)

    def verdict(self):
        self.over.set()
        self.join(30)
        assert self.failed == 0, f"/health failed {self.failed} times"
        assert self.slowest * 1000 <= HEALTH_MS, f"/health took {self.slowest * 1000:.0f} ms"
        return (
            f"/health at most {self.slowest * 1000:.0f} ms, "
            f"memory at most {self.server.peak_mib():.0f} MiB"
        )


MIXED = 2_000_000


class Origin(ThreadingHTTPServer):
    """A file server that behaves as its paths say: /slow/..., /drip/..., /page, /mixed/...,
    /secret/..., anything else is a file."""

    daemon_threads = True

    def __init__(self):
        origin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.send_error(405)

            def do_GET(self):
                if self.path.startswith("/slow"):
                    self.send_response(200)
                    self.send_header("content-length", "1000000")
                    self.end_headers()
                    try:
                        while not origin.over.wait(2):
                            self.wfile.write(b"\x01")
                            self.wfile.flush()
                    except OSError:
                        pass
                    return
                if self.path.startswith("/drip"):
                    return self.drip()
                if self.path.startswith("/mixed"):
                    return self.mixed()
                if (
                    self.path.startswith("/secret")
                    and self.headers.get("authorization") != "Bearer right"
                ):
                    return self.send_error(401)
                if self.path.startswith("/hook"):
                    return self.send_error(405)
                body = (
                    (png(400, 400, noisy=True) if "/large/" in self.path else png(8, 8))
                    if self.path.endswith(".png")
                    else b'\x08\0\0\0\0\0\0\0{"a": 1}' + self.path.encode()
                )
                if self.path.startswith("/page"):
                    body = b"<!doctype html><title>Sign in</title>"
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def drip(self):
                """A body without a length that never ends."""
                self.send_response(200)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                try:
                    while not origin.over.wait(2):
                        self.wfile.write(b"1\r\n\x01\r\n")
                        self.wfile.flush()
                except OSError:
                    pass

            def mixed(self):
                """Breaks off in the middle; what comes after is of another version, and does not
                say so."""
                origin.asked[self.path] = origin.asked.get(self.path, 0) + 1
                whole = (b"A" if origin.asked[self.path] == 1 else b"B") * MIXED
                asked = self.headers.get("range")
                first = int(asked.split("=")[1].split("-")[0]) if asked else 0
                self.send_response(206 if first else 200)
                if first:
                    self.send_header("content-range", f"bytes {first}-{MIXED - 1}/{MIXED}")
                self.send_header("accept-ranges", "bytes")
                self.send_header("content-length", str(MIXED - first))
                self.end_headers()
                if origin.asked[self.path] == 1:
                    self.wfile.write(whole[: MIXED // 2])
                    self.wfile.flush()
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                else:
                    self.wfile.write(whole[first:])

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                origin.told.append((self.path, body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.over, self.asked, self.told = threading.Event(), {}, []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """Clients that are killed break their connections."""

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"

    def close(self):
        self.over.set()
        self.shutdown()


def png(width, height, colour_type=2, depth=8, noisy=False):
    channels = {0: 1, 2: 3, 6: 4}[colour_type]
    row = b"\0" + b"\x7f" * ((width * channels * depth + 7) // 8)
    packed = zlib.compressobj(0 if noisy else 9)
    data = b"".join(packed.compress(row) for _ in range(height)) + packed.flush()
    chunk = lambda kind, content: (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def in_parallel(count, function):
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, range(count)))


def error_of(answer):
    status, body = answer
    assert len(body) < 80_000, f"an error of {len(body)} bytes"
    return status, json.loads(body)


def until(what, ask, patience=30):
    deadline = time.monotonic() + patience
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        time.sleep(0.1)
    return answer
