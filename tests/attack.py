#!/usr/bin/env python3
"""Attacks a server of its own as a hostile client, file server and operator's bad luck would, and says what held.

    python3 tests/attack.py            all of it (`just attack`)
    python3 tests/attack.py --quick    the part that runs in .ci/run
    python3 tests/attack.py NAME...    only these

The server is the built-in demo of $BINARY (default: the dev build), on loopback, in a directory that is thrown away. While an
attack runs, another client asks for /health all the time: no answer may take longer than 250 ms (dev build: 1 s), and a
prompt of that client must go through afterwards. Every attack ends by itself and is bounded in count and time. The rules are
those of docs/contract/attack.md; the limits stand in docs/reference/limits.md.
"""
import argparse
import base64
import concurrent.futures
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = Path(os.environ.get("BINARY", ROOT / "target/debug/comfyui-api")).resolve()
HEALTH_MS = float(os.environ.get("ATTACK_HEALTH_MS", "1000" if "debug" in str(BINARY) else "250"))
ATTACKS = {}



def attack(quick=False):
    def register(function):
        ATTACKS[function.__name__] = (function, quick)
        return function

    return register


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


EMPTY = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255}}


def graph(prefix="x", source=None):
    return {"2": source or EMPTY, "9": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": prefix}}}


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
            "STATE_DIR": str(self.directory / "state"),
            **environment,
        }
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([BINARY, "demo"], env=self.environment, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 60
        while self.get("/ready", timeout=2)[0] != 200:
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.05)

    def get(self, path, timeout=20):
        return self.send("GET", path, None, timeout)

    def send(self, method, path, body, timeout=60, headers=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, method=method)
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

    def raw(self):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        return connection

    def resident_mib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) / 1024

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def children(self):
        found = subprocess.run(["ps", "-eo", "pid,sid,args"], stdout=subprocess.PIPE, text=True, check=True).stdout
        return [line for line in found.splitlines() if str(self.port) in line or str(self.directory) in line]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                raise AssertionError("it did not stop within 40 s after SIGTERM") from None


class Bystander(threading.Thread):
    """Asks for /health until it is told to stop, and remembers the slowest answer and the largest memory."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.over = server, threading.Event()
        self.slowest, self.largest, self.failed = 0.0, 0.0, 0

    def run(self):
        while not self.over.is_set():
            began = time.monotonic()
            status, _ = self.server.get("/health", timeout=30)
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.failed += status != 200
            self.largest = max(self.largest, self.server.resident_mib())
            time.sleep(0.02)

    def verdict(self):
        self.over.set()
        self.join(30)
        assert self.failed == 0, f"/health failed {self.failed} times"
        assert self.slowest * 1000 <= HEALTH_MS, f"/health took {self.slowest * 1000:.0f} ms"
        return f"/health at most {self.slowest * 1000:.0f} ms, memory at most {self.largest:.0f} MiB"


class Origin(ThreadingHTTPServer):
    """A file server that behaves as its paths say: /slow/..., /page, /file..., /never."""

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
                body = png(8, 8) if self.path.endswith(".png") else b"\x08\0\0\0\0\0\0\0{\"a\": 1}" + self.path.encode()
                if self.path.startswith("/page"):
                    body = b"<!doctype html><title>Sign in</title>"
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.over = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"

    def close(self):
        self.over.set()
        self.shutdown()


def png(width, height, colour_type=2, depth=8):
    channels = {0: 1, 2: 3, 6: 4}[colour_type]
    row = b"\0" + b"\x7f" * ((width * channels * depth + 7) // 8)
    packed = zlib.compressobj(9)
    data = b"".join(packed.compress(row) for _ in range(height)) + packed.flush()
    chunk = lambda kind, content: struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def in_parallel(count, function):
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, range(count)))


def error_of(answer):
    status, body = answer
    assert len(body) < 80_000, f"an error of {len(body)} bytes"
    return status, json.loads(body)


# --- hostile clients ----------------------------------------------------------------------------------------------------


@attack(quick=True)
def shapes_of_json(server, _):
    """A10: what a body costs is bounded by its size, not by its shape."""
    before = server.resident_mib()
    bodies = [
        b'{"x": [' + b'{"":0},' * 8_000_000 + b"0]}",
        b'{"x": [' + b"[]," * 20_000_000 + b"0]}",
        b'{"prompt": {"1": {"class_type": "A", "inputs": {"v": [' + b"0," * 3_000_000 + b"0]}}}}",
        b"[" * 5_000_000,
    ]
    for body in bodies:
        status, _ = error_of(server.send("POST", "/prompt", body))
        assert status in (400, 413), status
    in_parallel(4, lambda n: server.send("POST", "/prompt", bodies[n % 2]))
    grown = server.resident_mib() - before
    assert grown < 450, f"{grown:.0f} MiB stay"
    return f"{len(bodies) + 4} bodies of up to 60 MB refused, {max(grown, 0):.0f} MiB more afterwards"


@attack(quick=True)
def long_words(server, origin):
    """A11: no text of a client comes back at length."""
    word = "A" * 5_000_000
    cases = [
        {"prompt": graph(source={"class_type": "LoadImage", "inputs": {"image": origin.url("/" + word)}})},
        {"prompt": {"1": {"class_type": word, "inputs": {}}}},
        {"prompt": {word: EMPTY}},
        {"prompt": graph(), "id": word},
        {"prompt": graph(), "compress_outputs": word},
        {"prompt": graph(), "webhook_v2": "http://127.0.0.1:1/" + word},
        {"prompt": graph(), "convert_output": {"format": word}},
        {"prompt": graph(), "hf_upload": {"repo": "a/b", "repo_type": word}},
    ]
    for case in cases:
        status, error = error_of(server.prompt(case))
        assert 400 <= status < 500 and len(error["error"]) <= 4000, (status, len(error["error"]))
    status, body = server.get("/queue")
    assert status == 200 and len(body) < 100 * 4096 + 1000, len(body)
    longest = max(map(len, server.log.read_bytes().splitlines()))
    assert longest <= 17 * 1024, f"a log line of {longest} bytes"
    return f"{len(cases)} requests, /queue {len(body)} bytes, longest log line {longest} bytes"


@attack(quick=True)
def patterns(server, origin):
    """A20: choosing credentials costs little, whatever the patterns are."""
    auth = {"type": "bearer", "token": "x"}
    many = [{"url_pattern": "**a" * 300 + "b", "auth": auth}] * 100
    loads = {str(n): {"class_type": "LoadImage", "inputs": {"image": origin.url("/" + "a" * 7000)}} for n in range(64)}
    before = server.cpu_seconds()
    status, _ = error_of(server.prompt({"prompt": {**graph(), **loads}, "credentials": many}))
    assert 400 <= status < 500, status
    status, _ = error_of(server.prompt({"prompt": graph(), "credentials": [{"url_pattern": "**a" * 70_000 + "b", "auth": auth}]}))
    assert status == 400, status
    spent = server.cpu_seconds() - before
    assert spent < 5, f"{spent:.1f} s of CPU"
    return f"{spent:.2f} s of CPU for both"


@attack(quick=True)
def words_in_the_log(server, _):
    """A40: what a client writes into ComfyUI's log decides over nothing."""
    line = "Exception in thread Thread-1 (prompt_worker):.safetensors"
    loader = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": f"x\n{line}"}}
    started = json.loads(server.get("/queue")[1])
    assert started is not None
    status, _ = error_of(server.prompt({"prompt": {**graph(), "1": loader, "10": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": line}}}}))
    time.sleep(1)
    assert server.get("/ready")[0] == 200, "ComfyUI was taken for dead"
    assert b"is gone" not in server.log.read_bytes()
    return f"answered {status}, ComfyUI lives on"


@attack(quick=True)
def silent_connections(server, _):
    """A04, A19, A50: connections that say nothing, a byte, half a request."""
    beginnings = [b"", b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"POST /prompt HTTP/1.1\r\nhost: x\r\n", b"POST /prompt HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"]
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
    beginnings = [b"", b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", b"GET /health HTTP/1.1\r\nhost: x\r\n"]
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


@attack(quick=True)
def a_picture_bomb(server, _):
    """A13: a small file that says it is a large picture."""
    before = server.resident_mib()
    picture = base64.b64encode(png(32700, 32700, 0, 1)).decode()
    body = {"prompt": graph(source={"class_type": "LoadImage", "inputs": {"image": picture}}), "convert_output": {"format": "jpeg"}}
    status, answer = server.prompt(body, timeout=120)
    grown = server.resident_mib() - before
    assert grown < 1100, f"{grown:.0f} MiB more"
    return f"answered {status} ({len(answer)} bytes)"


@attack(quick=True)
def an_archive_of_folders(server, _):
    """A03: folders are entries."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(300):
            archive.writestr("/".join(f"{number}d{depth}" for depth in range(400)) + "/x.png", png(1, 1))
    body = {"prompt": {**graph(), "5": {"class_type": "VHS_LoadImages", "inputs": {"directory": base64.b64encode(memory.getvalue()).decode()}}}}
    began = time.monotonic()
    status, error = error_of(server.prompt(body))
    took = time.monotonic() - began
    assert status == 400 and took < 10, (status, took, error)
    return f"refused after {took:.1f} s"


@attack()
def a_flood_of_prompts(server, _):
    """Many clients at once: each gets its answer."""
    answers = in_parallel(32, lambda n: [server.prompt({"prompt": graph(f"f{n}")})[0] for _ in range(20)])
    flat = [status for part in answers for status in part]
    assert set(flat) == {200}, set(flat)
    return f"{len(flat)} prompts by 32 clients"


# --- hostile file servers -----------------------------------------------------------------------------------------------


@attack(quick=True)
def a_dozen_slow_servers(server, origin):
    """A12: no client can use up the places for downloads."""
    for number in range(24):
        body = {"url": origin.url(f"/slow/{number}.safetensors"), "model_type": "loras"}
        server.send("POST", "/download", json.dumps(body).encode())
    other = Origin()
    try:
        began = time.monotonic()
        status, _ = server.prompt({"prompt": graph(source={"class_type": "LoadImage", "inputs": {"image": other.url("/fine.png")}})})
        took = time.monotonic() - began
    finally:
        other.close()
    assert status == 200 and took < 15, (status, took)
    return f"another client's download took {took:.1f} s"


@attack(quick=True)
def a_page_as_a_model(server, origin):
    """F03: an HTML page becomes neither a model nor a picture."""
    body = json.dumps({"url": origin.url("/page.safetensors"), "model_type": "loras", "wait": True}).encode()
    status, error = error_of(server.send("POST", "/download", body))
    assert status == 400 and ("HTML" in error["error"] or "html" in error["error"]), error
    listed = json.loads(server.get("/models")[1])
    assert "page.safetensors" not in listed["loras"]
    return error["error"][:100]


# --- bad luck -----------------------------------------------------------------------------------------------------------


@attack()
def kills(server, origin):
    """A44, A45: kill -9 under load leaves no file, no child, no taken port."""
    rounds = 12
    for round_ in range(rounds):
        def send(n, round_=round_):
            return server.prompt({"id": f"k{round_}-{n}", "prompt": graph(source={"class_type": "LoadImage", "inputs": {"image": origin.url(f"/{round_}-{n}.png")}}), "compress_outputs": True}, timeout=20)[0]

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            sent = [pool.submit(send, n) for n in range(8)]
            time.sleep(0.02 + 0.02 * round_)
            server.process.kill()
            server.process.wait()
            for one in sent:
                one.result()
        server.start()
    deadline = time.monotonic() + 20
    while True:
        left = [path for path in server.directory.rglob("*k[0-9]*-[0-9]*") if "log" not in path.name]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    assert not left, f"{len(left)} files stay, such as {left[0]}"
    return f"{rounds} kills, nothing stays"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only what runs in .ci/run")
    parser.add_argument("names", nargs="*", help="only these")
    chosen = parser.parse_args()
    if not BINARY.exists():
        sys.exit(f"{BINARY} is missing: cargo build, or name another one by BINARY")
    failed = 0
    for name, (function, quick) in ATTACKS.items():
        if (chosen.names and name not in chosen.names) or (chosen.quick and not quick):
            continue
        server, origin = Server(), Origin()
        bystander = Bystander(server)
        killing = function is kills
        began = time.monotonic()
        try:
            if not killing:
                bystander.start()
            seen = function(server, origin)
            beside = "" if killing else "; " + bystander.verdict()
            status, _ = server.prompt({"prompt": graph("after")})
            assert status == 200, f"a prompt afterwards was answered {status}"
            server.stop()
            print(f"held    {name} ({time.monotonic() - began:.0f} s): {seen}{beside}", flush=True)
        except AssertionError as failure:
            failed += 1
            bystander.over.set()
            print(f"FAILED  {name}: {failure}", flush=True)
            server.process.kill()
        finally:
            origin.close()
            subprocess.run(["rm", "-rf", server.directory], check=False)
    sys.exit(f"{failed} attacks did not hold" if failed else 0)


if __name__ == "__main__":
    main()
