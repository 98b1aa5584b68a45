"""What the queue adds to a prompt, and whether heartbeats keep their pace under load.

    python benches/amqp_overhead.py path/to/comfyui-api [--tasks 300] [--heartbeats 20]

Needs pika and Debian's rabbitmq-server; the broker it starts is private and goes away with it.
Everything talks to 127.0.0.1. The same small graph goes three ways: to the simulator alone, through
POST /prompt, through the queue.
"""

import argparse
import glob
import http.client
import http.server
import json
import os
import pathlib
import queue
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time

import pika


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(what, ready, seconds=120):
    deadline = time.time() + seconds
    while time.time() < deadline:
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"{what} did not start")


class Broker:
    def __init__(self, home):
        self.port, distribution, epmd = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        (home / "plugins").write_text("[].\n")
        (home / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\ndisk_free_limit.absolute = 10MB\n"
        )
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "ERL_EPMD_PORT": str(epmd),
            "RABBITMQ_NODENAME": f"bench{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        }
        server = sorted(glob.glob("/usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server"))[-1]
        quiet = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
            "start_new_session": True,
        }
        self.processes = [
            subprocess.Popen(["epmd", "-port", str(epmd), "-address", "127.0.0.1"], **quiet),
            subprocess.Popen([server], env=environment, **quiet),
        ]
        wait("RabbitMQ", self.speaks)

    def speaks(self):
        with socket.create_connection(("127.0.0.1", self.port), 1) as stream:
            stream.sendall(b"AMQP\x00\x00\x09\x01")
            stream.settimeout(2)
            return bool(stream.recv(1))

    def stop(self):
        for process in reversed(self.processes):
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()


class Product:
    def __init__(self, binary, home, broker, **more):
        self.port, self.comfy = free_port(), free_port()
        home.mkdir()
        for name in ("input", "output", "models"):
            (home / name).mkdir()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "COMFYUI_PORT_HOST": str(self.comfy),
            "COMFY_HOME": str(home),
            "CACHE_DIR": str(home / "cache"),
            "STARTUP_CHECK_INTERVAL_S": "0.2",
            "STARTUP_CHECK_MAX_TRIES": "200",
            "CMD": f"{binary} simulate-comfyui --port {self.comfy} --base-directory {home}",
            "AMQP_URL": broker.url,
            "LOG_LEVEL": "warn",
            "ALLOW_PRIVATE_NETWORKS": "true",
            **more,
        }
        self.process = subprocess.Popen(
            [binary],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait("the product", lambda: request(self.port, "GET", "/ready")[0] == 200)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


def request(port, method, path, body=None, connection=None):
    connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(
        method,
        path,
        None if body is None else json.dumps(body),
        {"Content-Type": "application/json"},
    )
    response = connection.getresponse()
    return response.status, response.read()


def graph(number, prefix="b"):
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": number},
        },
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": prefix, "images": ["1", 0]}},
    }


def bare(product, tasks, start):
    """The simulator alone: all at once, until its history has them all."""
    begun = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", product.comfy)
    for number in range(tasks):
        assert (
            request(
                product.comfy, "POST", "/prompt", {"prompt": graph(start + number)}, connection
            )[0]
            == 200
        )
    while (
        json.loads(request(product.comfy, "GET", "/queue", None, connection)[1])["queue_running"]
        or json.loads(request(product.comfy, "GET", "/queue", None, connection)[1])["queue_pending"]
    ):
        time.sleep(0.002)
    return time.perf_counter() - begun


def over_http(product, tasks, start, at_once):
    """That many clients, each with one request at a time over one connection."""
    numbers = queue.SimpleQueue()
    for number in range(tasks):
        numbers.put(start + number)

    def client():
        connection = http.client.HTTPConnection("127.0.0.1", product.port)
        while True:
            try:
                number = numbers.get_nowait()
            except queue.Empty:
                return
            status, body = request(
                product.port, "POST", "/prompt", {"prompt": graph(number)}, connection
            )
            assert status == 200, body

    clients = [threading.Thread(target=client) for _ in range(at_once)]
    begun = time.perf_counter()
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    return time.perf_counter() - begun


def over_amqp(channel, tasks, start):
    """All tasks wait in the queue already, as with a busy fleet; the clock runs from the first
    result to the last."""
    mine = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(mine, "runnode.comfyui.topic", "event.result.#")
    for number in range(tasks):
        channel.basic_publish(
            "",
            "q.gpu.20g",
            json.dumps({"id": f"t{start + number}", "prompt": graph(start + number)}),
        )
    ends, begun = 0, None
    for _, _, body in channel.consume(mine, auto_ack=True):
        event = json.loads(body)
        if event["event_type"] in ("execution_success", "execution_error"):
            assert event["event_type"] == "execution_success", event
            begun = begun or time.perf_counter()
            ends += 1
            if ends == tasks:
                channel.cancel()
                return (time.perf_counter() - begun) * tasks / (tasks - 1)


def connect(broker):
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    return connection.channel()


def overhead(binary, home, broker, tasks):
    for prefetch in (1, 8):
        product = Product(
            binary,
            home / f"p{prefetch}",
            broker,
            AMQP_PREFETCH=str(prefetch),
            HEARTBEAT_ENABLED="false",
        )
        channel = connect(broker)
        try:
            over_http(product, 20, 0, prefetch)
            rounds = []
            for turn in range(3):
                start = 1000 + turn * 3 * tasks
                rounds.append(
                    (
                        bare(product, tasks, start),
                        over_http(product, tasks, start + tasks, prefetch),
                        over_amqp(channel, tasks, start + 2 * tasks),
                    )
                )
            alone, web, amqp = (
                statistics.median(one[way] for one in rounds) / tasks * 1000 for way in range(3)
            )
            print(
                f"{prefetch} at a time: simulator alone {alone:.2f} ms/task "
                f"({1000 / alone:.0f}/s), "
                f"HTTP {web:.2f} ms ({1000 / web:.0f}/s), "
                f"AMQP {amqp:.2f} ms ({1000 / amqp:.0f}/s): the broker adds {amqp - web:+.2f} ms",
                flush=True,
            )
        finally:
            product.stop()


class Files(http.server.BaseHTTPRequestHandler):
    block = os.urandom(1 << 20)

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(64 << 20))
        self.end_headers()
        for _ in range(64):
            self.wfile.write(self.block)

    def log_message(self, *_):
        pass


def heartbeats(binary, home, broker, seconds):
    interval = 1000
    origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    product = Product(
        binary, home / "beats", broker, HEARTBEAT_INTERVAL=str(interval), AMQP_PREFETCH="4"
    )
    channel = connect(broker)
    mine = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(mine, "runnode.comfyui.topic", "#")
    number, beats, done, states = 0, [], {"videos": 0, "downloads": 0}, set()
    stop_at = time.time() + seconds

    def submit():
        nonlocal number
        number += 1
        if number % 2:
            film = {
                "1": {
                    "class_type": "EmptyImage",
                    "inputs": {"width": 512, "height": 512, "batch_size": 48, "color": number},
                },
                "2": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 24}},
                "9": {
                    "class_type": "SaveVideo",
                    "inputs": {
                        "filename_prefix": "v",
                        "format": "mp4",
                        "codec": "h264",
                        "video": ["2", 0],
                    },
                },
            }
            task = {"id": f"video{number}", "prompt": film, "convert_output": {"format": "webm"}}
        else:
            model = {
                "5": {
                    "class_type": "CheckpointLoaderSimple",
                    "inputs": {
                        "ckpt_name": f"http://127.0.0.1:{origin.server_port}/{number}.safetensors"
                    },
                }
            }
            task = {"id": f"download{number}", "prompt": {**graph(number), **model}}
        channel.basic_publish("", "q.gpu.20g", json.dumps(task))

    for _ in range(6):
        submit()
    for method, properties, body in channel.consume(mine, auto_ack=True, inactivity_timeout=1):
        if method and method.routing_key == "service.instance.heartbeat":
            beat = json.loads(body)
            beats.append(beat["timestamp"])
            states.add(beat["data"]["status"])
        elif method and method.routing_key.endswith(("execution_success", "execution_error")):
            event = json.loads(body)
            assert event["event_type"] == "execution_success", {
                k: v for k, v in event["data"].items() if k != "images"
            }
            done["videos" if event["task_id"].startswith("video") else "downloads"] += 1
            if time.time() < stop_at:
                submit()
        if time.time() > stop_at and len(beats) > 3:
            break
    product.stop()
    gaps = [later - earlier for earlier, later in zip(beats, beats[1:])]
    worst = max(abs(gap - interval) for gap in gaps)
    print(
        f"heartbeats: {len(beats)} every {interval} ms ({', '.join(sorted(states))}) "
        f"beside {done['videos']} conversions of 48 frames to webm and "
        f"{done['downloads']} downloads of 64 MiB: median {statistics.median(gaps):.0f} ms, "
        f"worst deviation {worst} ms ({worst / interval:.1%})"
    )


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("binary")
    arguments.add_argument("--tasks", type=int, default=300)
    arguments.add_argument("--heartbeats", type=int, default=20, metavar="SECONDS")
    given = arguments.parse_args()
    binary = str(pathlib.Path(given.binary).resolve())
    home = pathlib.Path(tempfile.mkdtemp(prefix="amqp-overhead-"))
    broker = Broker(home)
    try:
        overhead(binary, home, broker, given.tasks)
        if given.heartbeats:
            heartbeats(binary, home, broker, given.heartbeats)
    finally:
        broker.stop()
        shutil.rmtree(home, ignore_errors=True)


main()
