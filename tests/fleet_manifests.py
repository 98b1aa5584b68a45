#!/usr/bin/env python3
"""The profile `fleet` of the compose file and the manifests of docker/kubernetes/fleet, started for
real with processes in place of containers: the commands, variables, volumes, names and probes are
read from those files; RabbitMQ is Debian's.

    BINARY=target/debug/comfyui-api $TEST_PYTHON tests/fleet_manifests.py [compose] [kubernetes]

Needs rabbitmq-server and PyYAML. What is not shown: images, the network policy, and KEDA itself,
whose rule is followed here.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from fleet_processes import BINARY, ROOT, Broker, free_port, picture, until
from fleet_processes import Server as Http

DOCKER = ROOT / "docker"
# The variables of the image that instances run in, but for its ComfyUI: the simulator takes that
# place.
IMAGE = {"STARTUP_CHECK_MAX_TRIES": "300"}


class Container(Http):
    """A process that has what a container of these files would have; its port 3000 is another one
    here."""

    def __init__(self, root, name, command, env, names, folders=(), comfy=False):
        self.name, self.port, self.home = name, free_port(), root / name
        self.work = self.home / "work"
        self.work.mkdir(parents=True)
        (self.work / "comfyui-api").symlink_to(BINARY)
        self.command = command
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PORT": str(self.port),
            **IMAGE,
        }
        # One machine has one port 8188.
        self.env["COMFYUI_PORT_HOST"] = str(free_port())
        if comfy:
            self.env["CMD"] = (
                f"{BINARY} simulate-comfyui --port {self.env['COMFYUI_PORT_HOST']} "
                f"--base-directory {self.home}/comfy"
            )
            self.env["COMFY_HOME"] = f"{self.home}/comfy"
            (self.home / "comfy").mkdir()
        names[f"{name}:3000"] = f"127.0.0.1:{self.port}"
        self.wanted, self.names, self.folders, self.process = env, names, folders, None

    def real(self, value):
        """What a value means here: names of the network are addresses, paths of volumes are
        folders."""
        for name, address in self.names.items():
            value = re.sub(rf"(?<=[/@]){re.escape(name)}(?![\w.-])", address, value)
        for folder in self.folders:
            if value == folder:
                path = self.home / f"volume{folder}"
                path.mkdir(parents=True, exist_ok=True)
                return str(path)
        return value

    def start(self):
        env = dict(self.env, **{name: self.real(str(value)) for name, value in self.wanted.items()})
        log = open(self.home / "server.log", "ab")
        self.process = subprocess.Popen(
            self.command,
            env=env,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            cwd=self.work,
            start_new_session=True,
        )
        return self

    def stop(self, grace):
        """As an orchestrator would; it must end by itself, with 0."""
        self.process.terminate()
        code = self.process.wait(grace)
        assert code == 0, f"{self.name} has ended with {code}"

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def answers(gateway, number=1):
    status, body = gateway.request("POST", "/prompt", {"prompt": picture(number, 0.1)})
    assert status == 200 and body["images"], (status, body)


def instances(gateway):
    status, listed = gateway.request("GET", "/instances")
    return {one["id"]: one["status"] for one in listed} if status == 200 else {}


def seconds(text):
    return int(str(text).removesuffix("s"))


def expand(value):
    """`${NAME:-default}` with nothing set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))


def compose(root):
    document = yaml.safe_load((DOCKER / "docker-compose.yml").read_text())
    every = document["services"]
    services = {name: one for name, one in every.items() if "fleet" in one.get("profiles", [])}
    assert set(services) == {"gateway", "instance-one", "instance-two"}, services.keys()
    trial = every["rabbitmq"]["environment"]
    broker = Broker(root, trial["RABBITMQ_DEFAULT_USER"], trial["RABBITMQ_DEFAULT_PASS"])
    names = {"rabbitmq:5672": f"127.0.0.1:{broker.port}"}
    containers = {}
    try:
        for name, service in services.items():
            assert service["depends_on"]["rabbitmq"]["condition"] == "service_healthy"
            env = {key: expand(value) for key, value in service["environment"].items()}
            folders = [volume.split(":")[1] for volume in service.get("volumes", [])]
            for volume in service.get("volumes", []):
                assert volume.split(":")[0] in document["volumes"], volume
            containers[name] = Container(root, name, service["command"], env, names, folders)
        for container in containers.values():
            container.start()
        gateway = containers["gateway"].until_ready()
        until(
            "both instances are idle", lambda: instances(gateway) == {"one": "IDLE", "two": "IDLE"}
        )
        for number in range(6):
            answers(gateway, number)
        assert list((gateway.home / "volume/state").iterdir()), (
            "the gateway's state is not in its volume"
        )
        for name, container in reversed(containers.items()):
            container.stop(seconds(services[name]["stop_grace_period"]))
    finally:
        for container in containers.values():
            container.end()
        broker.end()


def manifests(folder):
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    documents = [
        one for name in listed for one in yaml.safe_load_all((folder / name).read_text()) if one
    ]
    return {(one["kind"], one["metadata"]["name"]): one for one in documents}


def pod(root, workload, name, secrets, names, comfy=False):
    """The one container of a workload, as the kubelet would start it."""
    spec = workload["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    env = {}
    for source in container.get("envFrom", []):
        env.update(secrets[source["secretRef"]["name"]])
    for variable in container["env"]:
        if "valueFrom" in variable:
            assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
            env[variable["name"]] = name
        else:
            # Only what stands before is known.
            env[variable["name"]] = re.sub(
                r"\$\((\w+)\)", lambda found: env[found[1]], variable["value"]
            )
    folders = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
    claimed = {one["metadata"]["name"] for one in workload["spec"].get("volumeClaimTemplates", [])}
    volumes = {one["name"] for one in spec.get("volumes", [])} | claimed
    assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
    command = container.get("command", ["./comfyui-api"])
    made = Container(root, name, command, env, names, folders, comfy)
    made.probes = {
        kind: container[kind]["httpGet"]["path"] for kind in container if kind.endswith("Probe")
    }
    made.grace = spec["terminationGracePeriodSeconds"]
    return made


def check_references(every):
    """Services, policies and scalers name what is there."""
    labels = [
        workload["spec"]["template"]["metadata"]["labels"]
        for (kind, _), workload in every.items()
        if kind in ("StatefulSet", "Deployment")
    ]
    ports = {
        port["name"]
        for (kind, _), workload in every.items()
        if kind in ("StatefulSet", "Deployment")
        for port in workload["spec"]["template"]["spec"]["containers"][0]["ports"]
    }
    for (kind, name), one in every.items():
        if kind == "Service":
            assert any(one["spec"]["selector"].items() <= known.items() for known in labels), name
            for port in one["spec"]["ports"]:
                target = port.get("targetPort", port["port"])
                assert target in ports or target == 3000, (name, port)
        if kind == "NetworkPolicy":
            assert any(
                one["spec"]["podSelector"]["matchLabels"].items() <= known.items()
                for known in labels
            ), name
        if kind == "StatefulSet":
            assert ("Service", one["spec"]["serviceName"]) in every
        if kind == "ScaledObject":
            assert ("Deployment", one["spec"]["scaleTargetRef"]["name"]) in every


def kubernetes(root):
    every = manifests(DOCKER / "kubernetes/fleet")
    check_references(every)
    broker = Broker(root)
    secrets = {"comfyui-api-fleet": {"AMQP_URL": broker.url}}
    names = {}
    workload = every["StatefulSet", "comfyui-gateway"]
    gateway = pod(root, workload, "comfyui-gateway-0", secrets, names)
    names[f"comfyui-gateway-0.{workload['spec']['serviceName']}:3000"] = f"127.0.0.1:{gateway.port}"
    instance = pod(
        root,
        every["Deployment", "comfyui-instance"],
        "comfyui-instance-x1",
        secrets,
        names,
        comfy=True,
    )
    scaler = every["ScaledObject", "comfyui-instance"]["spec"]
    (trigger,) = scaler["triggers"]
    queue, least = trigger["metadata"]["queueName"], int(trigger["metadata"]["value"])
    try:
        gateway.start()
        until("the readiness probe", lambda: probe(gateway, "readinessProbe"))
        assert probe(gateway, "livenessProbe")
        log = (gateway.home / "server.log").read_text()
        assert '"gateway_id":"comfyui-gateway-0"' in log.replace(" ", ""), log[-2000:]
        assert (
            every["Deployment", "comfyui-instance"]["spec"]["replicas"]
            == 0
            == scaler["minReplicaCount"]
        )
        status, job = gateway.request("POST", "/api/v2/jobs", {"workflow": picture(1)})
        assert (status, job["status"]) == (201, "queued"), (status, job)

        def waiting():
            queues = gateway.request("GET", "/status")[1]["queues"]
            return next(one["waiting"] for one in queues if one["name"] == queue)

        # What KEDA does.
        until("the queue is long enough for an instance", lambda: waiting() >= least)
        instance.start()
        until("the startup probe", lambda: probe(instance, "startupProbe"))
        done = until("the job that woke it", lambda: ended(gateway, job["id"]))
        assert done["status"] == "succeeded", done
        answers(gateway)
        # The pod is replaced: same name, same volume.
        gateway.end()
        time.sleep(0.5)
        gateway.start()
        until("the readiness probe", lambda: probe(gateway, "readinessProbe"))
        assert ended(gateway, job["id"])["status"] == "succeeded"
        answers(gateway, 2)
        instance.stop(instance.grace)
        gateway.stop(gateway.grace)
    finally:
        instance.end()
        gateway.end()
        broker.end()


def probe(container, kind):
    try:
        return container.request("GET", container.probes[kind], timeout=1)[0] == 200
    except OSError:
        return False


def ended(gateway, job):
    job = gateway.request("GET", f"/api/v2/jobs/{job}?wait=1")[1]
    return job if job["status"] in ("succeeded", "failed", "canceled", "expired") else None


def main():
    every = {"compose": compose, "kubernetes": kubernetes}
    for name in sys.argv[1:] or every:
        began = time.time()
        root = Path(tempfile.mkdtemp(prefix=f"fleet-{name}-"))
        try:
            every[name](root)
        except BaseException:
            for log in sorted(root.glob("*/server.log")):
                print(
                    f"--- {log}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:]),
                    file=sys.stderr,
                )
            raise
        finally:
            shutil.rmtree(root, ignore_errors=True)
        print(
            f"{name}: its fleet has started, worked and stopped in {time.time() - began:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
