#!/usr/bin/env python3
"""What clients take who wait: memory of the server with 2,000 of each kind, and what one more
prompt costs while 10, 1,000 and 10,000 wait before it.

    BINARY=bin/comfyui-api python3 benches/waiting.py [CLIENTS]

The goals: under 60 MiB with 2,000, and a cost that does not grow. The memory is said once the
server has given back what their coming needed; KINDS ("sync sse poll") and LENGTHS choose.
"""

import json
import os
import resource
import socket
import sys
import time
import urllib.request

from product import MIB, Product, memory, picture

CLIENTS = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
KINDS = os.environ.get("KINDS", "sync sse poll").split()
LENGTHS = [int(length) for length in os.environ.get("LENGTHS", "10 1000 10000").split()]
MORE = 1000
PORT, COMFY = 28588, 28589
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)


class Server(Product):
    def __init__(self):
        super().__init__(["models", "input", "output", "temp", "state"])
        self.start(
            PORT,
            COMFY,
            {
                "HOST": "127.0.0.1",
                "LOG_LEVEL": "warn",
                "STATE_DIR": f"{self.home.name}/state",
                "STARTUP_CHECK_INTERVAL_S": "0.1",
                "ALLOW_PRIVATE_NETWORKS": "true",
            },
        )
        self.clients = []

    def ready(self):
        try:
            return self.ask("/ready") is not None
        except OSError:
            return False

    def ask(self, path, body=None, port=PORT):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}",
            json.dumps(body).encode() if body else None,
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def client(self, method, path, body=None, accept="application/json"):
        """A client that does not read its answer."""
        text = json.dumps(body).encode() if body else b""
        client = socket.create_connection(("127.0.0.1", PORT))
        client.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode()
            + text
        )
        self.clients.append(client)

    def occupy(self):
        """Something that takes an hour, before which all wait."""
        self.ask("/prompt", {"prompt": endless(), "webhook_v2": "http://127.0.0.1:9/"})

    def prompts(self, number, sse=False):
        for n in range(number):
            self.client(
                "POST",
                "/prompt",
                {"prompt": picture(n)},
                "text/event-stream" if sse else "application/json",
            )

    def until_waiting(self, number):
        deadline = time.monotonic() + 600
        # ComfyUI says it, so that the server is not asked.
        while self.ask("/prompt", port=COMFY)["exec_info"]["queue_remaining"] <= number:
            if time.monotonic() > deadline:
                raise SystemExit(f"there are never {number} that wait")
            time.sleep(0.5)

    def end(self):
        for client in self.clients:
            client.close()
        self.process.kill()
        self.process.wait()


def endless():
    return {
        "5": {
            "class_type": "SimSleep",
            "inputs": {"seconds": 3600, "steps": 1, "filename_prefix": "endless"},
        }
    }


def waiting(kind):
    server = Server()
    try:
        server.occupy()
        before = memory(server.process.pid)
        if kind == "poll":
            job = server.ask("/api/v2/jobs", {"workflow": picture(1)})["id"]
            for _ in range(CLIENTS):
                server.client("GET", f"/api/v2/jobs/{job}?wait=30")
            time.sleep(14)
        else:
            server.prompts(CLIENTS, kind == "sse")
            server.until_waiting(CLIENTS)
            time.sleep(14)
        resident = memory(server.process.pid)
        own = memory(server.process.pid, "RssAnon")
        print(
            f"{CLIENTS} {kind}: {resident / MIB:.1f} MiB ({own / MIB:.1f} of them not code; "
            f"{before / MIB:.1f} before), {(resident - before) / CLIENTS / 1024:.1f} KiB each",
            flush=True,
        )
    finally:
        server.end()


def cost():
    """CPU of a prompt that is put behind others, with a webhook, so that nobody waits for it."""
    for length in LENGTHS:
        server = Server()
        try:
            server.occupy()
            for n in range(length):
                server.ask("/prompt", {"prompt": picture(n), "webhook_v2": "http://127.0.0.1:9/"})
            server.until_waiting(length)
            before = server.cpu()
            for n in range(MORE):
                server.ask("/prompt", {"prompt": picture(n), "webhook_v2": "http://127.0.0.1:9/"})
            took = (server.cpu() - before) * 1000 / MORE
            print(f"{length} waiting: one more costs {took:.2f} ms of CPU", flush=True)
        finally:
            server.end()


for kind in KINDS:
    waiting(kind)
cost()
