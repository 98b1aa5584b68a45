#!/usr/bin/env python3
"""kill -9 at random moments under load: nothing that was answered for is lost (docs/contract/v2.md,
"What survives").

    BINARY=target/debug/comfyui-api python tests/v2_soak.py [ROUNDS] [SEED]

Each round starts the server on the same STATE_DIR, loads it with jobs and uploads, and kills it. At
the end every job that was answered 201 has ended with its outputs, every output and asset is there
with its hash, no idempotency key is forgotten, and no half file lies in the store. Needs blake3
(pip) and nothing else.
"""

import concurrent.futures
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

from blake3 import blake3

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 200
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else 1
BINARY = os.path.abspath(os.environ.get("BINARY", "target/debug/comfyui-api"))
CLIENTS = 6
random.seed(SEED)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


HOME = Path(tempfile.mkdtemp(prefix="v2-soak-"))
PORT, COMFY = free_port(), free_port()
URL = f"http://127.0.0.1:{PORT}"
ENV = {
    "PATH": os.environ["PATH"],
    "HOME": str(HOME),
    "HOST": "127.0.0.1",
    "PORT": str(PORT),
    "COMFYUI_PORT_HOST": str(COMFY),
    "COMFY_HOME": str(HOME / "comfy"),
    "STATE_DIR": str(HOME / "state"),
    "CACHE_DIR": str(HOME / "cache"),
    "WORKFLOW_DIR": str(HOME / "workflows"),
    "STARTUP_CHECK_INTERVAL_S": "0.1",
    "STARTUP_CHECK_MAX_TRIES": "600",
    "V2_MAX_ATTEMPTS": "1000",
    "LOG_LEVEL": "warn",
    "CMD": f"{BINARY} simulate-comfyui --port {COMFY} --base-directory {HOME / 'comfy'}",
}
for folder in ("comfy/input", "comfy/output", "comfy/models", "comfy/temp", "workflows"):
    (HOME / folder).mkdir(parents=True)


def call(method, path, body=None, headers=None, timeout=30):
    request = urllib.request.Request(
        URL + path if path.startswith("/") else path, body, headers or {}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def start():
    log = open(HOME / "log", "ab")
    return subprocess.Popen([BINARY], env=ENV, stdout=log, stderr=log, cwd=HOME)


def until_ready(server, patience=60):
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            if call("GET", "/ready", timeout=2)[0] == 200:
                return True
        except OSError:
            pass
        if server.poll() is not None:
            return False
        time.sleep(0.02)
    raise SystemExit(f"not ready in {patience} s; see {HOME}/log")


jobs, assets, lock, number = {}, [], threading.Lock(), 0


def graph(n):
    nodes = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 32, "height": 32, "batch_size": 1, "color": n % 0xFFFFFF},
        },
        "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "soak"}},
    }
    if n % 7 == 0:
        nodes["8"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    return nodes


def load(stop):
    global number
    while not stop.is_set():
        with lock:
            number += 1
            n = number
        try:
            key = f"job-{n}"
            body = json.dumps({"workflow": graph(n), "metadata": {"number": str(n)}}).encode()
            status, answer = call(
                "POST",
                "/api/v2/jobs",
                body,
                {"content-type": "application/json", "idempotency-key": key},
            )
            if status == 201:
                with lock:
                    jobs[json.loads(answer)["id"]] = n
            if n % 3 == 0:
                data = f"asset {n} ".encode() * random.choice([1, 1000, 60000])
                edge = uuid.uuid4().hex
                form = "".join(
                    f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
                    for name, value in (
                        ("content_type", "application/octet-stream"),
                        ("file_path", f"{n}.bin"),
                    )
                ).encode()
                form += (
                    (
                        f"--{edge}\r\nContent-Disposition: form-data; "
                        'name="file"; filename="x"\r\n\r\n'
                    ).encode()
                    + data
                    + f"\r\n--{edge}--\r\n".encode()
                )
                status, answer = call(
                    "POST",
                    "/api/v2/assets",
                    form,
                    {"content-type": f"multipart/form-data; boundary={edge}"},
                )
                if status in (200, 201):
                    with lock:
                        assets.append((json.loads(answer)["id"], blake3(data).hexdigest()))
        except (OSError, ValueError, ConnectionError):
            time.sleep(0.01)
        except Exception as error:  # A connection that breaks shows in many ways.
            if (
                "IncompleteRead" not in type(error).__name__
                and "Remote" not in type(error).__name__
            ):
                print("client:", type(error).__name__, error)


def check_job(item):
    job_id, n = item
    deadline = time.monotonic() + 600
    while True:
        status, answer = call("GET", f"/api/v2/jobs/{job_id}?wait=20", timeout=60)
        if status != 200:
            return f"job {job_id}: {status} {answer[:200]}"
        job = json.loads(answer)
        if job["status"] in ("succeeded", "failed", "canceled", "expired"):
            break
        if time.monotonic() > deadline:
            return f"job {job_id}: still {job['status']}"
    if (
        job["status"] != "succeeded"
        or job["metadata"] != {"number": str(n)}
        or len(job["outputs"]) != (2 if n % 7 == 0 else 1)
    ):
        return f"job {job_id}: {json.dumps(job)[:600]}"
    for output in job["outputs"]:
        status, data = call("GET", f"/api/v2/assets/{output['id']}/content")
        if status != 200 or "blake3:" + blake3(data).hexdigest() != output["hash"]:
            return f"output {output['id']} of {job_id}: {status}"
    status, _ = call(
        "POST",
        "/api/v2/jobs",
        json.dumps({"workflow": graph(n)}).encode(),
        {"content-type": "application/json", "idempotency-key": f"job-{n}"},
    )
    if status != 422:
        return f"key job-{n}: {status}"
    return None


def check_asset(item):
    status, data = call("GET", f"/api/v2/assets/{item[0]}/content")
    return (
        None
        if status == 200 and blake3(data).hexdigest() == item[1]
        else f"asset {item[0]}: {status}"
    )


began = time.monotonic()
for turn in range(ROUNDS):
    server = start()
    if random.random() < 0.15:
        time.sleep(random.uniform(0, 0.3))
    else:
        until_ready(server)
        stop = threading.Event()
        threads = [threading.Thread(target=load, args=(stop,)) for _ in range(CLIENTS)]
        [thread.start() for thread in threads]
        time.sleep(random.uniform(0.02, 0.8))
        server.send_signal(signal.SIGKILL)
        stop.set()
        [thread.join() for thread in threads]
    server.kill()
    server.wait()
    if turn % 20 == 19:
        print(
            f"{turn + 1} rounds, {len(jobs)} jobs, {len(assets)} uploads, "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
server = start()
until_ready(server)
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    wrong = [one for one in pool.map(check_job, list(jobs.items())) if one]
    wrong += [one for one in pool.map(check_asset, assets) if one]
halves = [str(path) for path in (HOME / "state" / "incoming").iterdir()]
left = [
    str(path)
    for folder in ("input", "output", "temp")
    for path in (HOME / "comfy" / folder).rglob("*")
    if path.is_file()
]
server.terminate()
server.wait(60)
print(*wrong[:20], sep="\n")
print(
    f"{ROUNDS} kills, {len(jobs)} jobs, {len(assets)} uploads: "
    f"{len(wrong)} wrong; {len(halves)} half files; "
    f"{len(left)} files left in ComfyUI's folders"
)
if wrong or halves or left:
    print(*halves[:5], *left[:5], sep="\n")
    raise SystemExit(f"see {HOME}")
shutil.rmtree(HOME)
