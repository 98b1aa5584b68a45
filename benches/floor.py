#!/usr/bin/env python3
"""What the server takes beyond the least that any wrapper must take: CPU per prompt of ours and of
benches/floor.rs, in turns, on one simulator.

    BINARY=bin/comfyui-api python3 benches/floor.py [SECONDS]

The goal: at most 1.35 for every load, at most 1.15 in the median. Compare the ratios, not the
figures. LIBRARIES names a build of benches/floor_libraries.rs, which takes part then: the same
floor on the libraries that the product stands on.

    cargo build --profile dist --example floor_libraries
"""

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from product import cpu, picture

ROOT = Path(__file__).resolve().parent.parent
BINARY = os.path.abspath(os.environ.get("BINARY", ROOT / "bin/comfyui-api"))
SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 4
TURNS = int(os.environ.get("TURNS", "3"))
LIBRARIES = os.environ.get("LIBRARIES")
COMFY, OURS, FLOOR, LIBRARIES_PORT = 28388, 28389, 28390, 28391


def sampled(number, _):
    return {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "demo.safetensors"}},
        "5": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1},
        },
        "6": {
            "class_type": "CLIPTextEncode",
            "inputs": {"text": f"a red fox {number}", "clip": ["4", 1]},
        },
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "seed": number,
                "steps": 20,
                "cfg": 7,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1,
                "model": ["4", 0],
                "positive": ["6", 0],
                "negative": ["7", 0],
                "latent_image": ["5", 0],
            },
        },
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {
            "class_type": "SaveImage",
            "inputs": {"images": ["8", 0], "filename_prefix": f"load{number}"},
        },
    }


LOADS = [
    ("64x64", picture, 64, 1),
    ("64x64", picture, 64, 32),
    ("7 nodes, 20 steps", sampled, 0, 1),
    ("7 nodes, 20 steps", sampled, 0, 32),
    ("1024x1024", picture, 1024, 1),
    ("1024x1024", picture, 1024, 8),
]


counter = iter(range(1, 1 << 40))


def turn(port, process, graph, side, clients):
    """CPU milliseconds per prompt."""
    done, stop = [0] * clients, time.monotonic() + SECONDS

    def client(n):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.monotonic() < stop:
            connection.request(
                "POST",
                "/prompt",
                json.dumps({"prompt": graph(next(counter), side)}),
                {"content-type": "application/json"},
            )
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status == 200 and b'"images":["' in data.replace(b'": [', b'":['), data[
                :300
            ]
            done[n] += 1

    before = cpu(process.pid)
    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return (cpu(process.pid) - before) * 1000 / max(1, sum(done))


with tempfile.TemporaryDirectory() as home:
    for folder in ("models/checkpoints", "input", "output", "temp", "workflows"):
        (Path(home) / folder).mkdir(parents=True)
    (Path(home) / "models/checkpoints/demo.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    floor_binary = f"{home}/floor"
    subprocess.run(
        ["rustc", "--edition", "2024", "-O", "-o", floor_binary, ROOT / "benches/floor.rs"],
        check=True,
    )
    env = {
        "PATH": os.environ["PATH"],
        "HOME": home,
        "CMD": "",
        "LOG_LEVEL": "warn",
        "HOST": "127.0.0.1",
        "PORT": str(OURS),
        "COMFYUI_PORT_HOST": str(COMFY),
        "COMFY_HOME": home,
        "CACHE_DIR": f"{home}/cache",
        "WORKFLOW_DIR": f"{home}/workflows",
        **{name: value for name, value in os.environ.items() if name.startswith("OTEL_")},
    }
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [
        subprocess.Popen(
            [BINARY, "simulate-comfyui", "--port", str(COMFY), "--base-directory", home], **quiet
        )
    ]
    try:
        time.sleep(1.5)
        ours = subprocess.Popen([BINARY], env=env, **quiet)
        floor = subprocess.Popen([floor_binary, str(FLOOR), str(COMFY), home], **quiet)
        processes += [ours, floor]
        sides = {"ours": (OURS, ours), "the floor": (FLOOR, floor)}
        if LIBRARIES:
            libraries = subprocess.Popen(
                [LIBRARIES, str(LIBRARIES_PORT), str(COMFY), home], **quiet
            )
            processes.append(libraries)
            sides["on libraries"] = (LIBRARIES_PORT, libraries)
        for _ in range(200):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", OURS, timeout=2)
                connection.request("GET", "/ready")
                if connection.getresponse().status == 200:
                    break
            except OSError:
                pass
            time.sleep(0.1)
        turn(OURS, ours, picture, 64, 4)
        ratios = {name: [] for name in sides if name != "ours"}
        for name, graph, side, clients in LOADS:
            turns = [
                [turn(*where, graph, side, clients) for where in sides.values()]
                for _ in range(TURNS)
            ]
            took = dict(zip(sides, map(statistics.median, zip(*turns))))
            line = f"{name}, {clients} clients: ours {took['ours']:.3f} ms of CPU a prompt"
            for other, known in ratios.items():
                known.append(took["ours"] / took[other])
                line += f"; {other} {took[other]:.3f}: {known[-1]:.2f}"
            print(line, flush=True)
        for other, known in ratios.items():
            print(f"times {other}: median {statistics.median(known):.2f}, worst {max(known):.2f}")
    finally:
        for process in reversed(processes):
            process.kill()
