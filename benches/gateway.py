#!/usr/bin/env python3
"""A gateway in front of one instance, beside that instance asked directly, in one run, on
simulators (fleet.md, part 2, "How fast").

    BINARY=bin/comfyui-api python benches/gateway.py [JOBS]

Says: what gateway and broker add to the median of an instant job; CPU of the gateway per job beside
that of the instance without its ComfyUI; memory of both, and bytes through the broker, for a 1 GiB
output (GIB=0 leaves it out); memory of a gateway with 2,000 clients that wait on a sleeping fleet.
Compare what is judged, not the figures. Needs rabbitmq-server and the standard library.
"""

import http.client
import json
import os
import resource
import select
import socket
import statistics
import sys
import threading
import time
from pathlib import Path

from product import MIB, cpu, memory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
os.environ.setdefault("LOG_LEVEL", "warn")
from fleet_processes import Fleet, free_port, picture, until  # noqa: E402

JOBS = int(sys.argv[1]) if len(sys.argv) > 1 else 300
OUTPUT = int(float(os.environ.get("GIB", "1")) * (1 << 30))
WAITING = 2000
WRONG = []


def judge(what, value, good, wanted):
    print(f"  {what}: {value}  (wanted: {wanted}){'' if good else '   <- WRONG'}", flush=True)
    if not good:
        WRONG.append(what)


def pid(server):
    return server.process.process.pid


def forget_peak(server):
    Path(f"/proc/{pid(server)}/clear_refs").write_text("5")


class Client:
    """One kept connection."""

    def __init__(self, server):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)

    def run(self, graph):
        """Milliseconds of a job that is answered with its outputs."""
        body = json.dumps({"prompt": graph})
        began = time.perf_counter()
        self.connection.request("POST", "/prompt", body, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        data = answer.read()
        took = 1000 * (time.perf_counter() - began)
        assert answer.status == 200, (answer.status, data[:500])
        return took


def catalogue(fleet):
    """The gateway knows what its instances offer."""
    until(
        "the instance is seen",
        lambda: any(
            one["status"] == "IDLE" for one in fleet.gateway.request("GET", "/instances")[1]
        ),
    )


def latency():
    print(f"{JOBS} instant jobs, through the gateway and asked from the instance directly")
    fleet = Fleet(1).start()
    try:
        catalogue(fleet)
        instance = fleet.instances[0]
        ways = {"gateway": Client(fleet.gateway), "direct": Client(instance)}
        took = {"gateway": [], "direct": []}
        for number in range(JOBS + 20):
            for name, client in ways.items():
                milliseconds = client.run(picture(2 * number + (name == "direct")))
                if number >= 20:
                    took[name].append(milliseconds)
        medians = {name: statistics.median(all) for name, all in took.items()}
        print(f"  direct {medians['direct']:.2f} ms, gateway {medians['gateway']:.2f} ms")
        added = medians["gateway"] - medians["direct"]
        judge("added to the median", f"{added:.2f} ms", added <= 6, "<= 6 ms")
        before = cpu(pid(fleet.gateway)), cpu(pid(instance))
        for number in range(JOBS):
            ways["gateway"].run(picture(10_000 + number))
        costs = cpu(pid(fleet.gateway)) - before[0], cpu(pid(instance)) - before[1]
        print(
            "  CPU a job: gateway {:.2f} ms, instance {:.2f} ms".format(
                *(1000 * cost / JOBS for cost in costs)
            )
        )
        ratio = costs[0] / costs[1]
        judge("CPU of the gateway, times that of the instance", f"{ratio:.2f}", ratio <= 1, "<= 1")
    finally:
        fleet.end()


class Counting:
    """A broker behind a proxy that counts what instances and gateways send."""

    def __init__(self, broker):
        self.broker, self.sent = broker, 0
        self.listener = socket.create_server(("127.0.0.1", free_port()))
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def url(self):
        port = self.listener.getsockname()[1]
        return self.broker.url.replace(f":{self.broker.port}/", f":{port}/")

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.broker.port))
            threading.Thread(target=self.pass_on, args=(client, server), daemon=True).start()

    def pass_on(self, client, server):
        while True:
            for one in select.select([client, server], [], [])[0]:
                data = one.recv(65536)
                if not data:
                    client.close()
                    server.close()
                    return
                if one is client:
                    self.sent += len(data)
                (server if one is client else client).sendall(data)


class CountedFleet(Fleet):
    """One instance; the broker is reached through a proxy."""

    def reached_by(self, broker):
        self.counting = Counting(broker)
        return self.counting


def large_output():
    print(f"an output of {OUTPUT / (1 << 30):g} GiB")
    fleet = CountedFleet(1).start()
    try:
        catalogue(fleet)
        instance = fleet.instances[0]
        Client(fleet.gateway).run(picture(1))
        time.sleep(2)
        both = {"gateway": fleet.gateway, "instance": instance}
        for server in both.values():
            forget_peak(server)
        before = {name: memory(pid(server)) for name, server in both.items()}
        sent = fleet.counting.sent
        graph = {
            "1": {"class_type": "SimBlob", "inputs": {"bytes": OUTPUT, "filename_prefix": "b"}}
        }
        status, job = fleet.gateway.request("POST", "/api/v2/jobs", {"workflow": graph})
        assert status == 201, job
        began = time.monotonic()
        while job["status"] not in ("succeeded", "failed", "canceled", "expired"):
            status, job = fleet.gateway.request("GET", f"/api/v2/jobs/{job['id']}?wait=20")
            assert time.monotonic() - began < 300, job
        sent = fleet.counting.sent - sent
        assert job["status"] == "succeeded" and job["outputs"][0]["size_bytes"] == OUTPUT, job
        print(f"  {time.monotonic() - began:.1f} s")
        for name, server in both.items():
            more = memory(pid(server), "VmHWM") - before[name]
            judge(
                f"memory of the {name}", f"{more / MIB:.1f} MiB more", more < 32 * MIB, "< 32 MiB"
            )
        # Heartbeats are among them.
        judge("bytes to the broker", f"{sent / 1024:.1f} KiB", sent < 64 * 1024, "< 64 KiB")
    finally:
        fleet.end()


def sleeping():
    print(f"{WAITING} clients that wait on a sleeping fleet")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    fleet = Fleet(0, MAX_QUEUE_DEPTH=WAITING + 1).start()
    waiting = []
    try:
        empty = memory(pid(fleet.gateway))
        for number in range(WAITING):
            body = json.dumps({"prompt": picture(number)}).encode()
            client = socket.create_connection(("127.0.0.1", fleet.gateway.port))
            client.sendall(
                b"POST /prompt HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            waiting.append(client)

        def depth():
            _, status = fleet.gateway.request("GET", "/status")
            return status["queues"][0]["waiting"] >= WAITING

        until("all of them wait", depth, 120)
        with_all = memory(pid(fleet.gateway))
        judge(
            "memory of the gateway",
            f"{with_all / MIB:.1f} MiB ({empty / MIB:.1f} without them)",
            with_all < 80 * MIB,
            "< 80 MiB",
        )
    finally:
        for client in waiting:
            client.close()
        fleet.end()


latency()
sleeping()
if OUTPUT:
    large_output()
if WRONG:
    sys.exit("not as wanted: " + ", ".join(WRONG))
