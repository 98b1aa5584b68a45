#!/usr/bin/env python3
"""A day in production, in minutes: the demo under mixed load, with faults, and a reckoning at the end.

    BINARY=bin/comfyui-api python3 tests/soak.py [minutes, default 10]

Clients send sync, streaming and asynchronous prompts, with uploads, inputs by URL and base64, conversions, cancels, failing nodes,
bad graphs and receivers that fail, while ComfyUI is crashed and its websockets are cut and deafened. Every sixth of the time the load
pauses and the process is looked at. It fails when

- a request has no end, or one that its kind does not allow;
- a webhook that was due has not come, or has come for nobody;
- a file is left in ComfyUI's input or output directory, or a partial one in the cache;
- resident memory at rest grows by more than 5 MiB after the warm-up (the first two sixths), or descriptors or threads grow;
- the log has an error that EXPLAINED does not know.

Standard library only. Loads go to 127.0.0.1 only.
"""
import base64
import collections
import http.client
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = int(os.environ.get("CLIENTS", "12"))
SEGMENTS = 6
WARM_UP_SEGMENTS = 2
ALLOWED_GROWTH_MIB = 5.0
PATIENCE = 60

# Log lines of level error, and why they are right.
EXPLAINED = [
    (r"webhook", "receivers at /fail answer 500 on purpose"),
]
# Ends that any prompt may have while ComfyUI is being crashed.
OUTAGE = (503, "comfyui_unavailable")


def png(width, height, colour):
    """A plain PNG."""
    row = b"\0" + bytes(colour) * width

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b"")


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
            self.process = subprocess.Popen([binary, "demo"], env=environment, cwd=directory, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.home = directory / f"comfyui-api-demo-{self.process.pid}"

    def request(self, method, path, body=None, headers=None, port=None, read=True):
        """Status, headers, body (or the connection itself)."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=PATIENCE)
        payload = None if body is None else json.dumps(body)
        connection.request(method, path, payload, {"content-type": "application/json", **(headers or {})})
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
        status = dict(line.split(":", 1) for line in (base / "status").read_text().splitlines() if ":" in line)
        ticks = (base / "stat").read_text().rsplit(")", 1)[1].split()
        return {
            "rss_mib": int(status["VmRSS"].split()[0]) / 1024,
            "anonymous_mib": int(status["RssAnon"].split()[0]) / 1024,
            "threads": int(status["Threads"]),
            "descriptors": len(list((base / "fd").iterdir())),
            "cpu_s": (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK"),
        }


def picture(seed, prefix="soak", size=128):
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "demo.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": f"picture {seed}", "clip": ["1", 1]}},
        "3": {"class_type": "EmptyLatentImage", "inputs": {"width": size, "height": size, "batch_size": 1}},
        "4": {
            "class_type": "KSampler",
            "inputs": {
                "seed": seed, "steps": 2, "cfg": 7, "sampler_name": "euler", "scheduler": "normal", "denoise": 1,
                "model": ["1", 0], "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["3", 0],
            },
        },
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": prefix}},
    }


def inverted(image):
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "soak/inverted"}},
    }


class Soak:
    def __init__(self, server, world):
        self.server, self.world = server, world
        self.lock = threading.Lock()
        self.outcomes = collections.Counter()
        self.problems = []
        self.due = {}  # id -> attempts that must reach its failing receiver, or None: one event must come
        self.running = threading.Event()
        self.over = threading.Event()
        self.idle = threading.Semaphore(0)
        self.count = 0
        self.kinds = [
            (6, self.sync), (3, self.stream), (3, self.webhook), (1, self.flaky_webhook), (1, self.failing_webhook), (2, self.upload),
            (2, self.async_upload), (2, self.url_input), (2, self.base64_input), (2, self.converted), (2, self.cancelled), (1, self.left),
            (1, self.failing_node), (1, self.bad_graph), (1, self.large), (1, self.looking),
        ]

    def problem(self, text):
        with self.lock:
            self.problems.append(text)
            print(f"PROBLEM: {text}", flush=True)

    def new_id(self):
        with self.lock:
            self.count += 1
            return f"soak-{self.count}"

    def end(self, kind, status, body, wanted, wanted_code=None):
        """Counts an end; one that is not wanted, and not an outage, is a problem."""
        code = (body or {}).get("code") if isinstance(body, dict) else None
        with self.lock:
            self.outcomes[f"{kind} {status}{' ' + code if code else ''}"] += 1
        if (status, code) != OUTAGE and (status not in wanted or (wanted_code and code != wanted_code)):
            self.problem(f"{kind}: {status} {json.dumps(body)[:400]}")
        return status in wanted

    def post(self, kind, body, wanted=(200,), wanted_code=None):
        status, _, answer = self.server.request("POST", "/prompt", body)
        ok = self.end(kind, status, answer, wanted, wanted_code)
        if ok and status == 200 and not (answer["images"] and all(answer["images"])):
            self.problem(f"{kind}: 200 without files: {json.dumps(answer)[:400]}")
        return ok and answer

    # one method per kind of request

    def sync(self):
        seed = random.randrange(1 << 40)
        answer = self.post("sync", {"id": self.new_id(), "prompt": picture(seed)})
        if answer and answer["prompt"]["4"]["inputs"]["seed"] != seed:
            self.problem("sync: somebody else's answer")

    def stream(self):
        body = {"id": self.new_id(), "prompt": picture(random.randrange(1 << 40))}
        status, answer, connection = self.server.request("POST", "/prompt", body, {"accept": "text/event-stream"}, read=False)
        if status != 200:
            return self.end("stream", status, json.loads(answer.read()), (200,))
        text = answer.read().decode()
        connection.close()
        last = text.strip().split("\n\n")[-1]
        data = json.loads(last.split("data: ", 1)[1]) if "data: " in last else {}
        if "event: complete" in last:
            return self.end("stream", 200, {}, (200,))
        self.end("stream", 503 if data.get("code") == OUTAGE[1] else -1, data, (200,))

    def webhook(self, path="/ok", kind="webhook"):
        name = self.new_id()
        # Entered first: the event may come before the answer.
        with self.lock:
            self.due[name] = 2 if path == "/fail" else None
        if not self.post(kind, {"id": name, "prompt": picture(random.randrange(1 << 40)), "webhook_v2": self.world.url + path}, (202,)):
            with self.lock:
                del self.due[name]

    def flaky_webhook(self):
        self.webhook("/flaky", "flaky webhook")

    def failing_webhook(self):
        self.webhook("/fail", "failing webhook")

    def upload(self):
        name = self.new_id()
        target = {"url_prefix": f"{self.world.url}/store/{name}", "async": False}
        answer = self.post("upload", {"id": name, "prompt": picture(random.randrange(1 << 40)), "http_upload": target})
        if answer:
            for url in answer["images"]:
                if not self.world.stored.get(url.removeprefix(self.world.url)):
                    self.problem(f"upload: {url} was not stored")

    def async_upload(self):
        name = self.new_id()
        target = {"url_prefix": f"{self.world.url}/store/{name}", "async": True}
        if not self.post("async upload", {"id": name, "prompt": picture(random.randrange(1 << 40)), "http_upload": target}, (202,)):
            return
        deadline = time.monotonic() + PATIENCE
        while True:
            _, _, entry = self.server.request("GET", f"/prompt/{name}")
            if entry.get("status") in ("succeeded", "failed", "interrupted"):
                break
            if time.monotonic() > deadline:
                return self.problem(f"async upload: no end: {entry}")
            time.sleep(0.05)
        if entry["status"] == "succeeded" and not any(f"/{name}/" in path for path in self.world.stored):
            self.problem(f"async upload: {name} succeeded and was not stored")
        # A list of prompts has no codes.
        if entry["status"] != "succeeded" and not re.search("ComfyUI (died|is)|lost by ComfyUI", entry.get("error", "")):
            self.problem(f"async upload: {entry}")

    def url_input(self):
        # Twenty different files: the rest comes from the cache.
        self.post("url input", {"id": self.new_id(), "prompt": inverted(f"{self.world.url}/input/{random.randrange(20)}.png")})

    def base64_input(self):
        data = base64.b64encode(png(64, 64, (random.randrange(256), 1, 2))).decode()
        self.post("base64 input", {"id": self.new_id(), "prompt": inverted(data)})

    def converted(self):
        conversion = random.choice([{"format": "jpeg"}, {"format": "webp", "options": {"quality": 50, "effort": 0}}])
        body = {"id": self.new_id(), "prompt": picture(random.randrange(1 << 40)), "convert_output": conversion}
        self.post("converted", {**body, **random.choice([{}, {"compress_outputs": "zip"}, {"compress_outputs": "tar.gz"}])})

    def sleeper(self, name):
        return {"id": name, "prompt": {"9": {"class_type": "SimSleep", "inputs": {"seconds": 20, "steps": 400}}, **picture(1)}}

    def cancelled(self):
        name = self.new_id()
        ended = threading.Thread(target=lambda: self.post("cancelled", self.sleeper(name), (409,), "execution_interrupted"))
        ended.start()
        # Anywhere in its life.
        time.sleep(random.random() * 0.5)
        deadline = time.monotonic() + PATIENCE
        while ended.is_alive() and time.monotonic() < deadline:
            self.server.request("DELETE", f"/prompt/{name}")
            ended.join(0.2)
        if ended.is_alive():
            self.problem(f"cancelled: {name} does not end")

    def left(self):
        """The client goes away; CANCEL_ON_DISCONNECT must free ComfyUI."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE)
        connection.request("POST", "/prompt", json.dumps(self.sleeper(self.new_id())), {"content-type": "application/json"})
        time.sleep(random.random() * 0.3)
        connection.close()
        self.end("left", 0, {}, (0,))

    def failing_node(self):
        graph = {"9": {"class_type": "SimFail", "inputs": {"message": "on purpose"}}, **picture(random.randrange(1 << 40))}
        self.post("failing node", {"id": self.new_id(), "prompt": graph}, (500,), "execution_error")

    def bad_graph(self):
        graph = picture(1)
        graph["1"]["inputs"]["ckpt_name"] = "missing.safetensors"
        self.post("bad graph", {"id": self.new_id(), "prompt": graph}, (400,), "invalid_prompt")

    def large(self):
        graph = {"1": {"class_type": "SimBlob", "inputs": {"bytes": 8_000_000, "filename_prefix": "soak/blob"}}}
        self.post("large", {"id": self.new_id(), "prompt": graph})

    def looking(self):
        for path in ("/queue", "/metrics", "/models"):
            status, answer, connection = self.server.request("GET", path, read=False)
            body = answer.read()
            connection.close()
            self.end("looking", status, json.loads(body) if status == 503 else {}, (200,))

    # the load

    def client(self):
        weights, kinds = zip(*self.kinds)
        while not self.over.is_set():
            if not self.running.is_set():
                self.idle.release()
                self.running.wait()
                continue
            kind = random.choices(kinds, weights)[0]
            try:
                kind()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                self.problem(f"{kind.__name__}: {type(error).__name__}: {error}")
            if not self.server.ready():
                time.sleep(0.1)

    def faults(self):
        """Something breaks every few seconds; ComfyUI crashes about once a minute."""
        last_crash = time.monotonic()
        while not self.over.wait(random.uniform(3, 8)):
            if not self.running.is_set():
                continue
            if time.monotonic() - last_crash > 65:
                last_crash = time.monotonic()
                self.count_fault("crash")
                self.server.fault(crash=1)
                continue
            fault = random.choice(["drop_websockets", "deafen_websockets", "lose_prompts", "http_delay_ms"])
            self.count_fault(fault)
            if fault == "drop_websockets":
                self.server.fault(drop_websockets=True)
            elif fault == "lose_prompts":
                self.server.fault(lose_prompts=1)
            else:
                self.server.fault(**{fault: 50 if fault == "http_delay_ms" else True})
                time.sleep(2)
                self.server.fault(reset=True)

    def count_fault(self, name):
        with self.lock:
            self.outcomes[f"fault: {name}"] += 1

    def rest(self):
        """Stops the load, waits until nothing is in work, looks at the process."""
        self.running.clear()
        for _ in range(CLIENTS):
            if not self.idle.acquire(timeout=2 * PATIENCE):
                self.problem("a client's request does not end")
                break
        self.server.fault(reset=True)
        self.server.wait_until_ready()
        deadline = time.monotonic() + PATIENCE
        while True:
            _, _, queue = self.server.request("GET", "/queue")
            with self.lock:
                missing = [name for name, attempts in self.due.items() if not self.told(name, attempts)]
            if not queue["running"] and not queue["pending"] and not missing:
                break
            if time.monotonic() > deadline:
                self.problem(f"no end: running {queue['running']}, pending {queue['pending']}, webhooks not seen for {missing}")
                break
            time.sleep(0.1)
        # Threads for blocking work end after 10 s without any; memory is given back a moment later (src/app/rest.rs).
        time.sleep(16)
        return self.server.figures()

    def told(self, name, attempts):
        if attempts is None:
            return bool(self.world.webhooks.get(name))
        return self.world.attempts[name] >= attempts


def left_behind(home):
    found = [path for folder in ("input", "output") for path in (home / folder).rglob("*") if path.is_file() or path.is_symlink()]
    found += list((home / "cache").rglob("*.partial"))
    return [str(path.relative_to(home)) for path in found if path.name != "example.png"]


def log_findings(log):
    """Errors that nothing explains, and how often each message of warnings and errors came."""
    unexplained, counts = [], collections.Counter()
    for line in log.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            unexplained.append(f"not JSON: {line[:300]}")
            continue
        if entry.get("level") in ("warn", "error", "fatal"):
            counts[f"{entry['level']}: {entry['msg'][:100]}"] += 1
        if entry.get("level") in ("error", "fatal") and not any(re.search(pattern, entry["msg"]) for pattern, _ in EXPLAINED):
            unexplained.append(line[:400])
    return unexplained, counts


def main():
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    binary = Path(os.environ.get("BINARY", ROOT / "target/debug/comfyui-api")).resolve()
    print(f"{binary}, {minutes:g} minutes, {CLIENTS} clients", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        directory = Path(directory)
        world = World()
        server = Server(binary, directory, world)
        try:
            server.wait_until_ready()
            soak = Soak(server, world)
            for target in [soak.client] * CLIENTS + [soak.faults]:
                threading.Thread(target=target, daemon=True).start()
            rests = []
            for segment in range(SEGMENTS):
                soak.running.set()
                time.sleep(minutes * 60 / SEGMENTS)
                rests.append(soak.rest())
                figures = rests[-1]
                print(
                    f"at rest {segment + 1}/{SEGMENTS}: {figures['rss_mib']:.1f} MiB ({figures['anonymous_mib']:.1f} anonymous), {figures['threads']} threads, "
                    f"{figures['descriptors']} descriptors, {figures['cpu_s']:.0f} s of CPU, {soak.count} prompts",
                    flush=True,
                )
            soak.over.set()
            soak.running.set()
            files = left_behind(server.home)
            if files:
                soak.problem(f"{len(files)} files are left: {files[:10]}")
            warm, last = rests[WARM_UP_SEGMENTS - 1], rests[-1]
            if last["rss_mib"] - warm["rss_mib"] > ALLOWED_GROWTH_MIB:
                soak.problem(f"memory grew from {warm['rss_mib']:.1f} to {last['rss_mib']:.1f} MiB")
            # Idle connections are kept for a while, a few to each side; a leak of one in a hundred prompts would show.
            for name, allowed in (("threads", 2), ("descriptors", 2 * CLIENTS)):
                if last[name] > warm[name] + allowed:
                    soak.problem(f"{name} grew from {warm[name]} to {last[name]}")
            server.process.send_signal(signal.SIGTERM)
            if server.process.wait(60):
                soak.problem(f"it ended with {server.process.returncode}")
            if server.home.exists():
                soak.problem(f"{server.home} was not removed")
        finally:
            if server.process.poll() is None:
                server.process.kill()
        unexplained, counts = log_findings(server.log)
        for line in unexplained[:20]:
            soak.problem(f"the log: {line}")
        if keep := os.environ.get("SOAK_LOG"):
            Path(keep).write_bytes(server.log.read_bytes())
    for title, table in (("ends", soak.outcomes), ("warnings and errors in the log", counts)):
        print(f"\n{title}")
        for name, count in sorted(table.items()):
            print(f"{count:8} {name}")
    strangers = set(world.webhooks) - set(soak.due)
    if strangers:
        soak.problem(f"webhooks for nobody: {sorted(strangers)[:5]}")
    print(f"\n{soak.count} prompts, {len(world.stored)} uploads, {sum(map(len, world.webhooks.values()))} webhooks delivered")
    print(f"{len(soak.problems)} problems" if soak.problems else "no problems: none lost, nothing left, nothing grew")
    return bool(soak.problems)


sys.exit(main())
