#!/usr/bin/env python3
"""What telemetry costs: off, with a collector that works, with one that is not there and with one
that never answers, in turns of one run.

    BINARY=bin/comfyui-api python benches/telemetry.py [TURNS] [SECONDS EACH]

Five servers stand side by side, two of them without telemetry, each with a simulator of its own; in
every turn each of them is loaded by CLIENTS (32) clients with prompts that take no time, in another
order. Says for each: CPU of the server per prompt and prompts a second with their ratios to "off"
(of each turn; the median counts), memory and threads after each turn, what was dropped, how long
its end takes. Compare the ratios, not the figures. Nothing but the standard library is needed.
"""

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

from product import BINARY, MIB, Product, memory, picture, status

TURNS = int(sys.argv[1]) if len(sys.argv) > 1 else 7
EACH = float(sys.argv[2]) if len(sys.argv) > 2 else 5
CLIENTS = int(os.environ.get("CLIENTS", "32"))
GRAPH = picture(255, 16)
# Works, or takes everything and never answers.
COLLECTOR = """
import asyncio, sys
answers = sys.argv[1] == "live"
requests = bytes_ = 0
async def serve(reader, writer):
    global requests, bytes_
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            lines = head.lower().split(b"\\r\\n")
            line = next(line for line in lines if line.startswith(b"content-length"))
            length = int(line.split(b":")[1])
            await reader.readexactly(length)
            requests += 1
            bytes_ += length
            if answers:
                writer.write(
                    b"HTTP/1.1 200 OK\\r\\ncontent-type: application/x-protobuf\\r\\n"
                    b"content-length: 0\\r\\n\\r\\n"
                )
            else:
                await asyncio.sleep(86400)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[2]), limit=1 << 20)
    async with server:
        await server.serve_forever()
asyncio.run(main())
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def listens(port):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nobody listens on port {port}")


class Server(Product):
    """The product with a simulator, and a collector that behaves so."""

    def __init__(self, how):
        super().__init__(["input", "output", "models"])
        self.how, self.port, comfy = how, free_port(), free_port()
        environment = {"HOST": "127.0.0.1", "LOG_LEVEL": "error"}
        self.collector = None
        if not how.startswith("off"):
            collector = free_port()
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{collector}"
            environment["OTEL_METRICS_EXPORTER"] = "otlp"
            environment["OTEL_METRIC_EXPORT_INTERVAL"] = "5000"
        if how in ("live", "hangs"):
            self.collector = subprocess.Popen(
                [sys.executable, "-c", COLLECTOR, how, str(collector)]
            )
            listens(collector)
        self.start(self.port, comfy, environment, stderr=subprocess.DEVNULL)

    def ready(self):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5).close()
            return True
        except OSError:
            return False

    def dropped(self):
        text = (
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10)
            .read()
            .decode()
        )
        line = next(
            line
            for line in text.splitlines()
            if line.startswith('comfyui_api_otel_dropped_total{signal="traces"}')
        )
        return int(float(line.split()[-1]))

    def end(self):
        """SIGTERM; how long it takes."""
        if self.process.poll() is not None:
            return 0
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(60)
        took = time.monotonic() - began
        if self.collector:
            self.collector.kill()
            self.collector.wait()
        self.home.cleanup()
        return took


async def client(port, until):
    """Prompt after prompt over one connection; how many."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"prompt": GRAPH}).encode()
    head = (
        "POST /prompt HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode()
    count = 0
    # One at least, however busy the machine is.
    while count == 0 or time.monotonic() < until:
        writer.write(head + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"the server says {answer[:200]}")
        lines = answer.lower().split(b"\r\n")
        length = next(
            int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")
        )
        await reader.readexactly(length)
        count += 1
    writer.close()
    return count


def turn(server, seconds):
    """CPU microseconds per prompt, prompts a second, and MiB and threads right afterwards."""

    async def load():
        until = time.monotonic() + seconds
        return sum(await asyncio.gather(*(client(server.port, until) for _ in range(CLIENTS))))

    before, began = server.cpu(), time.monotonic()
    count = asyncio.run(load())
    cost = (server.cpu() - before) / max(count, 1) * 1e6
    return (
        cost,
        count / (time.monotonic() - began),
        memory(server.process.pid) / MIB,
        status(server.process.pid, "Threads"),
    )


def main():
    servers = []
    try:
        measure(servers)
    finally:
        for server in servers:
            server.end()


def measure(servers):
    # Off twice: how far the second is from the first is what the ratios of the others are worth.
    servers += [Server(how) for how in ("off", "off again", "live", "dead", "hangs")]
    for server in servers:
        turn(server, 2)
    costs = {server.how: [] for server in servers}
    for number in range(TURNS):
        start = number % len(servers)
        for server in servers[start:] + servers[:start]:
            costs[server.how].append(turn(server, EACH))
    print(f"{BINARY}\n{TURNS} turns of {EACH:g} s each, {CLIENTS} clients\n")
    print(
        "collector   CPU/prompt  ratio, middle half of the turns  of all turns  "
        "undisturbed   prompts/s  ratio  of all   RSS median, most  threads  dropped  end"
    )
    for server in servers:
        own, off = costs[server.how], costs["off"]
        cpu = [mine[0] / theirs[0] for mine, theirs in zip(own, off)]
        rate = [mine[1] / theirs[1] for mine, theirs in zip(own, off)]
        quarters = statistics.quantiles(cpu, n=4)
        # Other programs only make it dearer: the cheapest tenth of the turns is nearest to the
        # truth on a busy machine.
        least = [statistics.quantiles([one[0] for one in each], n=10)[0] for each in (own, off)]
        # Turns are equally long, so that prompts a second add up.
        prompts = [sum(one[1] for one in each) for each in (own, off)]
        seconds = [sum(one[0] * one[1] for one in each) for each in (own, off)]
        memory = [one[2] for one in own]
        threads = statistics.median(one[3] for one in own)
        print(
            f"{server.how:10} {statistics.median(one[0] for one in own):8.0f} us"
            f"   {statistics.median(cpu):.3f} ({quarters[0]:.3f} to {quarters[2]:.3f})"
            f"          {seconds[0] / prompts[0] / (seconds[1] / prompts[1]):.3f}"
            f"        {least[0] / least[1]:.3f}"
            f"   {statistics.median(one[1] for one in own):9.0f}  {statistics.median(rate):.3f}"
            f"   {prompts[0] / prompts[1]:.3f}"
            f"   {statistics.median(memory):8.1f}, {max(memory):5.1f} MiB  {threads:6.0f}"
            f"  {server.dropped():8}  {server.end():.1f} s"
        )


main()
