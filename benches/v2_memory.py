#!/usr/bin/env python3
"""What the Comfy API v2 takes of memory: 1,000 waiting polls, an upload and a download of 1 GiB,
100,000 records.

    BINARY=bin/comfyui-api python benches/v2_memory.py

Says the growth of the resident set (the peak while it lasts), in MiB. docs/contract/v2.md allows
20, 16, 16 and 40.
"""

import json
import os
import resource
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from product import MIB, memory

BINARY = os.path.abspath(os.environ.get("BINARY", "target/debug/comfyui-api"))
HOME = Path(tempfile.mkdtemp(prefix="v2-memory-"))
PORT, COMFY = 28289, 28290
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))


def start():
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(HOME),
        "HOST": "127.0.0.1",
        "PORT": str(PORT),
        "COMFYUI_PORT_HOST": str(COMFY),
        "COMFY_HOME": str(HOME),
        "STATE_DIR": str(HOME / "state"),
        "CACHE_DIR": str(HOME / "cache"),
        "WORKFLOW_DIR": str(HOME / "w"),
        "STARTUP_CHECK_INTERVAL_S": "0.1",
        "LOG_LEVEL": "warn",
        "CMD": f"{BINARY} simulate-comfyui --port {COMFY} --base-directory {HOME}",
    }
    server = subprocess.Popen([BINARY], env=env, cwd=HOME)
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/ready", timeout=2)
            return server
        except OSError:
            time.sleep(0.05)
    raise SystemExit("not ready")


def resident(server):
    return memory(server.pid) / MIB


class Peak:
    """The greatest resident set while the block runs, over what it was before."""

    def __init__(self, server):
        self.server, self.stop = server, threading.Event()

    def __enter__(self):
        self.before = self.most = resident(self.server)
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while not self.stop.wait(0.02):
            self.most = max(self.most, resident(self.server))

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        self.growth = self.most - self.before


def post(path, body):
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}{path}",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    return json.load(urllib.request.urlopen(request))


def graph(seconds):
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": int(seconds * 10)},
        },
        "5": {
            "class_type": "SimSleep",
            "inputs": {"seconds": seconds, "steps": 5, "filename_prefix": "slow"},
        },
        "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
    }


server = start()
post("/api/v2/jobs", {"workflow": graph(0.1)})
time.sleep(1)
job = post("/api/v2/jobs", {"workflow": graph(12)})["id"]
with Peak(server) as peak:
    polls = []
    for _ in range(1000):
        poll = socket.create_connection(("127.0.0.1", PORT))
        poll.sendall(f"GET /api/v2/jobs/{job}?wait=30 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        polls.append(poll)
    time.sleep(4)
    [poll.close() for poll in polls]
print(f"1,000 waiting polls: {peak.growth:.1f} MiB")

size = 1 << 30
with Peak(server) as peak:
    up = socket.create_connection(("127.0.0.1", PORT))
    head = (
        b'--e\r\nContent-Disposition: form-data; name="file_path"\r\n\r\nbig.bin\r\n'
        b'--e\r\nContent-Disposition: form-data; name="content_type"\r\n\r\n'
        b"application/octet-stream\r\n"
        b'--e\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    )
    tail = b"\r\n--e--\r\n"
    up.sendall(
        (
            "POST /api/v2/assets HTTP/1.1\r\nHost: x\r\n"
            "Content-Type: multipart/form-data; boundary=e\r\n"
            f"Content-Length: {len(head) + size + len(tail)}\r\nConnection: close\r\n\r\n"
        ).encode()
        + head
    )
    piece = os.urandom(1 << 20)
    for _ in range(1024):
        up.sendall(piece)
    up.sendall(tail)
    answer = b""
    while more := up.recv(65536):
        answer += more
asset = json.loads(answer.split(b"\r\n\r\n", 1)[1])["id"]
print(f"upload of 1 GiB: {peak.growth:.1f} MiB")
with Peak(server) as peak:
    with urllib.request.urlopen(
        f"http://127.0.0.1:{PORT}/api/v2/assets/{asset}/content"
    ) as content:
        got = 0
        while more := content.read(1 << 20):
            got += len(more)
assert got == size
print(f"download of 1 GiB: {peak.growth:.1f} MiB")
server.terminate()
server.wait(60)

server = start()
time.sleep(1)
empty = resident(server)
server.terminate()
server.wait(60)
db = sqlite3.connect(HOME / "state" / "state.db")
columns = [row[1] for row in db.execute("pragma table_info(jobs)")]
source = db.execute("select * from jobs limit 1").fetchone()
row = dict(zip(columns, source))
rows = []
top = db.execute("select max(seq) from jobs").fetchone()[0] if "seq" in columns else 0
for n in range(100_000):
    copy = dict(row)
    copy["id"] = f"00000000-0000-4000-8000-{n:012d}"
    if "seq" in columns:
        copy["seq"] = top + 1 + n
    rows.append([copy[name] for name in columns])
db.executemany(
    f"insert into jobs ({','.join(columns)}) values ({','.join('?' * len(columns))})", rows
)
db.commit()
db.close()
server = start()
time.sleep(3)
began = time.perf_counter()
cursor, pages = "", 0
for _ in range(50):
    page = json.load(
        urllib.request.urlopen(f"http://127.0.0.1:{PORT}/api/v2/jobs?limit=100{cursor}")
    )
    cursor, pages = f"&cursor={page['next_cursor']}", pages + 1
print(
    f"idle with 100,000 records: {resident(server) - empty:+.1f} MiB; "
    f"a page of 100: {(time.perf_counter() - began) / pages * 1000:.1f} ms"
)
server.terminate()
server.wait(60)
subprocess.run(["rm", "-rf", HOME], check=True)
