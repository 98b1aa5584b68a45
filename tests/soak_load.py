"""The load of soak.py: a method for each kind of request, the faults, and the rests."""

import base64
import collections
import http.client
import json
import os
import random
import re
import threading
import time

from soak_world import PATIENCE, png

CLIENTS = int(os.environ.get("CLIENTS", "12"))
# Ends that any prompt may have while ComfyUI is being crashed.
OUTAGE = (503, "comfyui_unavailable")


def picture(seed, prefix="soak", size=128):
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "demo.safetensors"}},
        "2": {
            "class_type": "CLIPTextEncode",
            "inputs": {"text": f"picture {seed}", "clip": ["1", 1]},
        },
        "3": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": size, "height": size, "batch_size": 1},
        },
        "4": {
            "class_type": "KSampler",
            "inputs": {
                "seed": seed,
                "steps": 2,
                "cfg": 7,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1,
                "model": ["1", 0],
                "positive": ["2", 0],
                "negative": ["2", 0],
                "latent_image": ["3", 0],
            },
        },
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": prefix}},
    }


def inverted(image):
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {
            "class_type": "SaveImage",
            "inputs": {"images": ["2", 0], "filename_prefix": "soak/inverted"},
        },
    }


class Soak:
    def __init__(self, server, world):
        self.server, self.world = server, world
        self.lock = threading.Lock()
        self.outcomes = collections.Counter()
        self.problems = []
        # id -> attempts that must reach its failing receiver, or None: one event must come
        self.due = {}
        self.running = threading.Event()
        self.over = threading.Event()
        self.idle = threading.Semaphore(0)
        self.count = 0
        self.kinds = [
            (6, self.sync),
            (3, self.stream),
            (3, self.webhook),
            (1, self.flaky_webhook),
            (1, self.failing_webhook),
            (2, self.upload),
            (2, self.async_upload),
            (2, self.url_input),
            (2, self.base64_input),
            (2, self.converted),
            (2, self.cancelled),
            (1, self.left),
            (1, self.failing_node),
            (1, self.bad_graph),
            (1, self.large),
            (1, self.looking),
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
        if (status, code) != OUTAGE and (
            status not in wanted or (wanted_code and code != wanted_code)
        ):
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
        status, answer, connection = self.server.request(
            "POST", "/prompt", body, {"accept": "text/event-stream"}, read=False
        )
        if status != 200:
            return self.end("stream", status, json.loads(answer.read()), (200,))
        text = answer.read().decode()
        connection.close()
        last = text.strip().split("\n\n")[-1]
        data = json.loads(last.split("data: ", 1)[1].split("\n")[0]) if "data: " in last else {}
        if "event: complete" in last:
            return self.end("stream", 200, {}, (200,))
        self.end("stream", 503 if data.get("code") == OUTAGE[1] else -1, data, (200,))

    def webhook(self, path="/ok", kind="webhook"):
        name = self.new_id()
        # Entered first: the event may come before the answer.
        with self.lock:
            self.due[name] = 2 if path == "/fail" else None
        if not self.post(
            kind,
            {
                "id": name,
                "prompt": picture(random.randrange(1 << 40)),
                "webhook_v2": self.world.url + path,
            },
            (202,),
        ):
            with self.lock:
                del self.due[name]

    def flaky_webhook(self):
        self.webhook("/flaky", "flaky webhook")

    def failing_webhook(self):
        self.webhook("/fail", "failing webhook")

    def upload(self):
        name = self.new_id()
        target = {"url_prefix": f"{self.world.url}/store/{name}", "async": False}
        answer = self.post(
            "upload",
            {"id": name, "prompt": picture(random.randrange(1 << 40)), "http_upload": target},
        )
        if answer:
            for url in answer["images"]:
                if not self.world.stored.get(url.removeprefix(self.world.url)):
                    self.problem(f"upload: {url} was not stored")

    def async_upload(self):
        name = self.new_id()
        target = {"url_prefix": f"{self.world.url}/store/{name}", "async": True}
        if not self.post(
            "async upload",
            {"id": name, "prompt": picture(random.randrange(1 << 40)), "http_upload": target},
            (202,),
        ):
            return
        deadline = time.monotonic() + PATIENCE
        while True:
            _, _, entry = self.server.request("GET", f"/prompt/{name}")
            if entry.get("status") in ("succeeded", "failed", "interrupted"):
                break
            if time.monotonic() > deadline:
                return self.problem(f"async upload: no end: {entry}")
            time.sleep(0.05)
        if entry["status"] == "succeeded" and not any(
            f"/{name}/" in path for path in self.world.stored
        ):
            self.problem(f"async upload: {name} succeeded and was not stored")
        # A list of prompts has no codes.
        if entry["status"] != "succeeded" and not re.search(
            "ComfyUI (died|is)|lost by ComfyUI", entry.get("error", "")
        ):
            self.problem(f"async upload: {entry}")

    def url_input(self):
        # Twenty different files: the rest comes from the cache.
        self.post(
            "url input",
            {
                "id": self.new_id(),
                "prompt": inverted(f"{self.world.url}/input/{random.randrange(20)}.png"),
            },
        )

    def base64_input(self):
        data = base64.b64encode(png(64, 64, (random.randrange(256), 1, 2))).decode()
        self.post("base64 input", {"id": self.new_id(), "prompt": inverted(data)})

    def converted(self):
        conversion = random.choice(
            [{"format": "jpeg"}, {"format": "webp", "options": {"quality": 50, "effort": 0}}]
        )
        body = {
            "id": self.new_id(),
            "prompt": picture(random.randrange(1 << 40)),
            "convert_output": conversion,
        }
        self.post(
            "converted",
            {
                **body,
                **random.choice([{}, {"compress_outputs": "zip"}, {"compress_outputs": "tar.gz"}]),
            },
        )

    def sleeper(self, name):
        return {
            "id": name,
            "prompt": {
                "9": {"class_type": "SimSleep", "inputs": {"seconds": 20, "steps": 400}},
                **picture(1),
            },
        }

    def cancelled(self):
        name = self.new_id()
        ended = threading.Thread(
            target=lambda: self.post(
                "cancelled", self.sleeper(name), (409,), "execution_interrupted"
            )
        )
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
        connection.request(
            "POST",
            "/prompt",
            json.dumps(self.sleeper(self.new_id())),
            {"content-type": "application/json"},
        )
        time.sleep(random.random() * 0.3)
        connection.close()
        self.end("left", 0, {}, (0,))

    def failing_node(self):
        graph = {
            "9": {"class_type": "SimFail", "inputs": {"message": "on purpose"}},
            **picture(random.randrange(1 << 40)),
        }
        self.post("failing node", {"id": self.new_id(), "prompt": graph}, (500,), "execution_error")

    def bad_graph(self):
        graph = picture(1)
        graph["1"]["inputs"]["ckpt_name"] = "missing.safetensors"
        self.post("bad graph", {"id": self.new_id(), "prompt": graph}, (400,), "invalid_prompt")

    def large(self):
        graph = {
            "1": {
                "class_type": "SimBlob",
                "inputs": {"bytes": 8_000_000, "filename_prefix": "soak/blob"},
            }
        }
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
            fault = random.choice(
                ["drop_websockets", "deafen_websockets", "lose_prompts", "http_delay_ms"]
            )
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
                missing = [
                    name for name, attempts in self.due.items() if not self.told(name, attempts)
                ]
            if not queue["running"] and not queue["pending"] and not missing:
                break
            if time.monotonic() > deadline:
                self.problem(
                    f"no end: running {queue['running']}, pending {queue['pending']}, "
                    f"webhooks not seen for {missing}"
                )
                break
            time.sleep(0.1)
        # Threads for blocking work end after 10 s without any; memory is given back a moment later
        # (src/app/rest.rs).
        time.sleep(16)
        return self.server.figures()

    def told(self, name, attempts):
        if attempts is None:
            return bool(self.world.webhooks.get(name))
        return self.world.attempts[name] >= attempts
