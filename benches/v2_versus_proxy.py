#!/usr/bin/env python3
"""The Comfy API v2 of this server beside comfy-api-proxy, in one run, on one simulator.

    pip install comfy-sdk==0.5.0 comfy-api-proxy==0.1.6
    BINARY=bin/comfyui-api python benches/v2_versus_proxy.py [JOBS]

Says, for each, with jobs that ComfyUI ends at once and with jobs of two nodes of 5 ms: CPU seconds
of the server per job, p50 of `client.run()` at 1 and at 32 clients, and what the server adds at one
client to driving ComfyUI directly (POST /prompt, GET /history until it is there). Compare the
ratios, not the figures. At 32 clients the longer jobs wait for one another in ComfyUI.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from pathlib import Path

import comfy_sdk
from comfy_sdk import AsyncComfy
from product import picture

BINARY = os.environ.get(
    "BINARY", str(Path(__file__).resolve().parent.parent / "target/debug/comfyui-api")
)
JOBS = int(sys.argv[1]) if len(sys.argv) > 1 else 300
COMFY, OURS, PROXY = 28188, 28189, 28190
WRONG = []
TICK = os.sysconf("SC_CLK_TCK")


def cpu(process):
    """Of a process and its descendants, the ended ones too."""

    def own(pid):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:15])) / TICK

    def tree(pid):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return own(pid) + sum(tree(child) for child in children)

    return tree(process.pid)


def wait(url):
    for _ in range(600):
        try:
            if urllib.request.urlopen(url, timeout=1).status == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{url} does not answer")


async def one(client, number):
    began = time.perf_counter()
    try:
        job = await client.run(client.workflows.from_json(picture(number)))
        good = job.status == "succeeded" and len(job.outputs) == 1
    except comfy_sdk.ComfyError:
        good = False
    # The proxy calls some jobs expired that it polls at the wrong moment.
    WRONG.append(number) if not good else None
    return time.perf_counter() - began


async def run(url, clients, jobs, seed):
    os.environ["COMFY_BASE_URL"] = url
    gate = asyncio.Semaphore(clients)

    async def guarded(client, number):
        async with gate:
            return await one(client, number)

    async with AsyncComfy() as client:
        await one(client, seed + 999_999)
        return await asyncio.gather(*(guarded(client, seed + n) for n in range(jobs)))


def direct(jobs, seed):
    """As little as a client can do that wants its picture from ComfyUI."""
    times = []
    for number in range(jobs):
        nodes = picture(seed + number)
        nodes["9"]["inputs"]["filename_prefix"] = uuid.uuid4().hex
        began = time.perf_counter()
        identity = str(uuid.uuid4())
        body = json.dumps({"prompt": nodes, "prompt_id": identity}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{COMFY}/prompt", body, {"content-type": "application/json"}
        )
        urllib.request.urlopen(request).read()
        while identity not in (
            entry := json.load(
                urllib.request.urlopen(f"http://127.0.0.1:{COMFY}/history/{identity}")
            )
        ):
            time.sleep(0.001)
        assert entry[identity]["outputs"]["9"]["images"]
        times.append(time.perf_counter() - began)
    return times


def main():
    for node_ms in (0, 5):
        print(f"# {node_ms} ms a node" if node_ms else "# instant jobs")
        compare(node_ms)


def compare(node_ms):
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        for folder in ("input", "output", "models/checkpoints", "temp"):
            (home / folder).mkdir(parents=True)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        comfy = subprocess.Popen(
            [
                BINARY,
                "simulate-comfyui",
                "--port",
                str(COMFY),
                "--base-directory",
                name,
                "--node-ms",
                str(node_ms),
            ],
            **quiet,
        )
        environment = {
            **os.environ,
            "CMD": "",
            "COMFY_HOME": name,
            "COMFYUI_PORT_HOST": str(COMFY),
            "HOST": "127.0.0.1",
            "PORT": str(OURS),
            "STATE_DIR": f"{name}/state",
            "CACHE_DIR": f"{name}/cache",
            "LOG_LEVEL": "warn",
        }
        wait(f"http://127.0.0.1:{COMFY}/system_stats")
        proxy_program = str(Path(sys.executable).parent / "comfy-api-proxy")
        servers = {
            "comfyui-api": (
                subprocess.Popen([BINARY], env=environment, **quiet),
                f"http://127.0.0.1:{OURS}",
            ),
            "comfy-api-proxy": (
                subprocess.Popen(
                    [
                        proxy_program,
                        "run",
                        "--comfyui",
                        f"http://127.0.0.1:{COMFY}",
                        "--port",
                        str(PROXY),
                        "--state-dir",
                        f"{name}/proxy",
                    ],
                    **quiet,
                ),
                f"http://127.0.0.1:{PROXY}",
            ),
        }
        try:
            wait(f"http://127.0.0.1:{OURS}/ready")
            wait(f"http://127.0.0.1:{PROXY}/api/v2/health")
            base = statistics.median(direct(min(JOBS, 100), 1_000_000))
            print(f"direct, 1 client: p50 {base * 1000:.1f} ms")
            results = {}
            for seed, (label, (process, url)) in enumerate(servers.items()):
                WRONG.clear()
                before = cpu(process)
                alone = asyncio.run(run(url, 1, min(JOBS, 50), seed * 100_000))
                crowd = asyncio.run(run(url, 32, JOBS, seed * 100_000 + 50_000))
                used = (cpu(process) - before) / (len(alone) + len(crowd))
                results[label] = (used, statistics.median(alone), statistics.median(crowd))
                print(
                    f"{label}: {used * 1000:.2f} ms CPU per job; "
                    f"p50 {results[label][1] * 1000:.1f} ms at 1 client, "
                    f"{results[label][2] * 1000:.1f} ms at 32; {len(WRONG)} wrong"
                )
            ours, theirs = results["comfyui-api"], results["comfy-api-proxy"]
            for what, index in (
                ("CPU per job", 0),
                ("p50 at 1 client", 1),
                ("p50 at 32 clients", 2),
            ):
                print(f"{what}: 1/{theirs[index] / ours[index]:.1f}")
        finally:
            for process in (*(process for process, _ in servers.values()), comfy):
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
