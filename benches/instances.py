#!/usr/bin/env python3
"""Several ComfyUI behind one server, beside one, in one run, on simulators (fleet.md, "How fast").

    BINARY=bin/comfyui-api python benches/instances.py [INSTANCES]

Says: prompts a second of jobs of 200 ms over N instances and over one, and their ratio; CPU of the
server per prompt, likewise; changes of models when two are sent in turn over two instances; how
long ten jobs of 5 s and then a hundred of 0.1 s, sent at once, take over four. Compare the ratios,
not the figures. Nothing but the standard library is needed.
"""

import concurrent.futures
import json
import sys
import time
import urllib.request
from pathlib import Path

from product import Product

MANY = int(sys.argv[1]) if len(sys.argv) > 1 else 4
PORT, COMFY = 28300, 28310
WRONG = []


class Server(Product):
    """The product with so many simulators."""

    def __init__(self, instances):
        super().__init__(["input", "output", "models/checkpoints"])
        for model in "ab":
            (Path(self.home.name) / f"models/checkpoints/{model}.safetensors").write_bytes(b"x")
        self.instances = instances
        self.start(PORT, COMFY, {"COMFYUI_INSTANCES": str(instances), "LOG_LEVEL": "warn"})

    def ready(self):
        try:
            status = self.ask("/status")
        except OSError:
            return False
        return status["ready"] and all(
            one["state"] == "ready" for one in status.get("instances", [])
        )

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{PORT}{path}", data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)

    def all(self, graphs, clients):
        """Every graph, in their order, so many at a time: seconds, CPU seconds, answers."""
        began, before = time.monotonic(), self.cpu()

        def one(number_and_graph):
            number, graph = number_and_graph
            # The first ones would overtake each other.
            if number < clients:
                time.sleep(0.005 * number)
            return self.ask("/prompt", {"prompt": graph})

        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            answers = list(pool.map(one, enumerate(graphs)))
        return time.monotonic() - began, self.cpu() - before, answers

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.home.cleanup()


def job(seconds, number, model=None):
    graph = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 32, "height": 32, "batch_size": 1, "color": number % 0xFFFFFF},
        },
        "5": {
            "class_type": "SimSleep",
            "inputs": {"seconds": seconds, "steps": 1, "filename_prefix": f"s{number}"},
        },
        "9": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "bench"},
        },
    }
    if model:
        graph["4"] = {
            "class_type": "CheckpointLoaderSimple",
            "inputs": {"ckpt_name": f"{model}.safetensors"},
        }
        graph["2"] = {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1},
        }
        graph["8"] = {"class_type": "VAEDecode", "inputs": {"samples": ["2", 0], "vae": ["4", 2]}}
        graph["7"] = {
            "class_type": "SaveImage",
            "inputs": {"images": ["8", 0], "filename_prefix": "model"},
        }
    return graph


def judge(what, value, good, wanted):
    print(f"  {what}: {value}  (wanted: {wanted}){'' if good else '   <- WRONG'}")
    if not good:
        WRONG.append(what)


def throughput():
    print(f"jobs of 200 ms, {MANY} instances beside one")
    rates, costs = {}, {}
    for instances in (1, MANY):
        with Server(instances) as server:
            server.all([job(0.0, n) for n in range(4 * instances)], 4)
            count = 40 * instances
            seconds, cpu, _ = server.all([job(0.2, 100 + n) for n in range(count)], 3 * instances)
            rates[instances], costs[instances] = count / seconds, cpu / count
            print(
                f"  {instances}: {count / seconds:.2f} prompts/s, "
                f"{1000 * cpu / count:.2f} ms of CPU a prompt"
            )
    ratio = rates[MANY] / rates[1]
    judge("throughput, times N", f"{ratio / MANY:.3f}", ratio >= 0.97 * MANY, ">= 0.97")
    ratio = costs[MANY] / costs[1]
    judge("CPU a prompt, times that of one", f"{ratio:.2f}", ratio <= 1.15, "<= 1.15")


def models():
    print("two models in turn over two instances, 200 jobs of 50 ms")
    for clients in (200, 8, 1):
        with Server(2) as server:
            graphs = [job(0.05, n, "ab"[n % 2]) for n in range(200)]
            _, _, answers = server.all(graphs, clients)
            runs = sorted(
                (
                    answer["stats"]["comfy_execution"]["start"],
                    answer["stats"]["comfy_execution"]["instance"],
                    "ab"[n % 2],
                )
                for n, answer in enumerate(answers)
            )
            changes = 0
            for instance in (0, 1):
                order = [model for _, at, model in runs if at == instance]
                changes += sum(
                    before != after for before, after in zip(order, order[1:], strict=False)
                )
            judge(f"changes of models with {clients} clients", changes, changes <= 4, "<= 4")


def mixed():
    print("ten jobs of 5 s, then a hundred of 0.1 s, at once over four instances")
    with Server(4) as server:
        seconds, _, _ = server.all(
            [job(5.0, n) for n in range(10)] + [job(0.1, 100 + n) for n in range(100)], 110
        )
    judge("seconds over the ideal of 15", f"{seconds / 15:.3f}", seconds <= 1.1 * 15, "<= 1.1")


throughput()
models()
mixed()
if WRONG:
    sys.exit("not as wanted: " + ", ".join(WRONG))
