"""A fleet as processes: RabbitMQ, instances with simulators, and a gateway before them."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = str(Path(os.environ.get("BINARY", ROOT / "target/debug/comfyui-api")).resolve())
INSTANCES = int(os.environ.get("INSTANCES", "3"))
# A broker on a busy machine takes minutes to come back.
PATIENCE = 600


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A process with its log in a file."""

    def __init__(self, home, name, command, env):
        self.home, self.name, self.command, self.env = home, name, command, env
        self.process = None

    def start(self):
        log = open(self.home / f"{self.name}.log", "ab")
        self.process = subprocess.Popen(
            self.command,
            env=self.env,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            cwd=self.home,
            start_new_session=True,
        )
        return self

    def kill(self):
        """-9, the process alone: its child notices by itself."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()


class Broker:
    def __init__(self, home, user="guest", password="guest"):
        self.user, self.password = user, password
        self.home = home / "broker"
        self.home.mkdir()
        self.port, self.distribution, self.epmd_port = free_port(), free_port(), free_port()
        cookie = self.home / ".erlang.cookie"
        cookie.write_text("cookieofthistest")
        cookie.chmod(0o400)
        (self.home / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nloopback_users = none\n"
            f"disk_free_limit.absolute = 10MB\nlog.console = false\n"
            f"default_user = {user}\ndefault_pass = {password}\n"
        )
        (self.home / "enabled_plugins").write_text("[].\n")
        at = str(self.home)
        self.env = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "HOME": at,
            "ERL_EPMD_PORT": str(self.epmd_port),
            "RABBITMQ_NODENAME": f"soak{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.distribution),
            "RABBITMQ_MNESIA_BASE": f"{at}/mnesia",
            "RABBITMQ_LOG_BASE": f"{at}/log",
            "RABBITMQ_CONFIG_FILE": f"{at}/rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": f"{at}/none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{at}/enabled_plugins",
            "RABBITMQ_PID_FILE": f"{at}/beam",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }
        self.epmd = subprocess.Popen(
            ["epmd", "-port", str(self.epmd_port), "-address", "127.0.0.1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Those in /usr/sbin change the user.
        newest = max(
            path for path in Path("/usr/lib/rabbitmq/lib").iterdir() if (path / "sbin").is_dir()
        )
        command = str(newest / "sbin/rabbitmq-server")
        self.server = Process(self.home, "server", [command], self.env)
        self.start()

    @property
    def url(self):
        return f"amqp://{self.user}:{self.password}@127.0.0.1:{self.port}/%2f"

    def start(self):
        self.server.start()
        until("the broker", self.answers, 120)
        return self

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 2) as connection:
                connection.settimeout(5)
                connection.sendall(b"AMQP\0\0\x09\x01")
                return connection.recv(8)[:1] == b"\x01"
        except (OSError, http.client.HTTPException):
            return False

    def restart(self):
        group = os.getpgid(self.server.process.pid)
        os.killpg(group, signal.SIGTERM)
        self.server.process.wait(60)
        self.start()

    def end(self):
        for process in (self.server.process, self.epmd):
            try:
                if process is self.server.process:
                    os.killpg(os.getpgid(process.pid), signal.SIGKILL)
                else:
                    process.kill()
            except (ProcessLookupError, PermissionError):
                pass


def until(what, ask, patience=PATIENCE):
    deadline = time.time() + patience
    while time.time() < deadline:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.05)
    raise SystemExit(f"not in time: {what}")


def base_env(home, **more):
    for folder in ("input", "output", "models", "workflows", "tmp"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "COMFY_HOME": str(home),
        "CACHE_DIR": str(home / "cache"),
        "WORKFLOW_DIR": str(home / "workflows"),
        "TMPDIR": str(home / "tmp"),
        "HOST": "127.0.0.1",
        "NO_PROXY": "127.0.0.1,localhost",
        "STARTUP_CHECK_INTERVAL_S": "0.1",
        "STARTUP_CHECK_MAX_TRIES": "300",
        "HEARTBEAT_INTERVAL": "1000",
        "LOG_LEVEL": os.environ.get("LOG_LEVEL", "info"),
        "SHUTDOWN_GRACE_S": "5",
    }
    env.update({name: str(value) for name, value in more.items()})
    return env


class Server:
    """A gateway or an instance."""

    def __init__(self, root, name, broker, gateway=False, flags="", **env):
        self.name, self.port = name, free_port()
        self.home = root / name
        self.home.mkdir()
        self.gateway = gateway
        more = dict(AMQP_URL=broker.url, PORT=self.port, **env)
        command = [BINARY]
        if gateway:
            command.append("gateway")
        else:
            comfy = free_port()
            more["COMFYUI_PORT_HOST"] = comfy
            more["ALWAYS_RESTART_COMFYUI"] = "true"
            more["INSTANCE_ID"] = name
            more["CMD"] = (
                f"{BINARY} simulate-comfyui --port {comfy} --base-directory '{self.home}' {flags}"
            )
        self.process = Process(self.home, "server", command, base_env(self.home, **more))

    def start(self):
        self.process.start()
        return self

    def ready(self):
        try:
            return self.request("GET", "/ready")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def until_ready(self):
        until(f"{self.name} is ready", self.ready)
        return self

    def request(self, method, path, body=None, headers=None, timeout=60, raw=False):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            headers = dict(headers or {})
            if body is not None and not isinstance(body, (bytes, str)):
                body = json.dumps(body)
                headers["Content-Type"] = "application/json"
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if raw:
            return answer.status, data, dict(answer.getheaders())
        try:
            return answer.status, json.loads(data or b"null")
        except ValueError:
            return answer.status, data.decode(errors="replace")

    def log(self):
        return (self.home / "server.log").read_text(errors="replace")


def picture(number, seconds=0.0):
    graph = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 16 + number % 64, "height": 16, "batch_size": 1, "color": number},
        },
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "p", "images": ["1", 0]}},
    }
    if seconds:
        graph["5"] = {
            "class_type": "SimSleep",
            "inputs": {"seconds": seconds, "steps": 2, "value": ["1", 0]},
        }
        graph["9"]["inputs"]["images"] = ["5", 0]
    return graph


class Fleet:
    def __init__(self, instances=INSTANCES, **env):
        self.root = Path(tempfile.mkdtemp(prefix="fleet-"))
        self.broker = Broker(self.root)
        broker = self.reached_by(self.broker)
        self.gateway = Server(self.root, "gateway", broker, gateway=True, **env)
        self.instances = [
            Server(self.root, f"instance{number}", broker) for number in range(instances)
        ]

    def reached_by(self, broker):
        """What has the `url` by which the broker is reached."""
        return broker

    def start(self):
        for server in [self.gateway, *self.instances]:
            server.start()
        for server in [self.gateway, *self.instances]:
            server.until_ready()
        return self

    def end(self, keep=False):
        for server in [*self.instances, self.gateway]:
            server.process.end()
        self.broker.end()
        if keep:
            print("kept:", self.root)
        else:
            shutil.rmtree(self.root, ignore_errors=True)
