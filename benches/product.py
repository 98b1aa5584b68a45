"""The product as benchmarks start it: a process with simulators of its own, in directories of its
own."""

import os
import subprocess
import tempfile
import time
from pathlib import Path

BINARY = os.path.abspath(
    os.environ.get(
        "BINARY", str(Path(__file__).resolve().parent.parent / "target/debug/comfyui-api")
    )
)
TICK = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


def cpu(pid):
    """Seconds of a process; the children that have ended are not in it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:13])) / TICK


def status(pid, name):
    """A number of /proc/PID/status; memory in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def memory(pid, name="VmRSS"):
    """In bytes: VmRSS is now, VmHWM the most so far, RssAnon what is not of a file."""
    return status(pid, name) * 1024


def picture(number, side=64):
    """The smallest graph that delivers something: another one for every number, with a name of its
    own, for not every wrapper gives one."""
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": side, "height": side, "batch_size": 1, "color": number % 0xFFFFFF},
        },
        "9": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": f"bench{number}"},
        },
    }


class Product:
    """Who inherits from it says when it is `ready`."""

    def __init__(self, folders):
        self.home = tempfile.TemporaryDirectory()
        for folder in folders:
            (Path(self.home.name) / folder).mkdir(parents=True)

    def start(self, port, comfy, environment, **streams):
        home = self.home.name
        usual = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "COMFY_HOME": home,
            "CACHE_DIR": f"{home}/cache",
            "PORT": str(port),
            "COMFYUI_PORT_HOST": str(comfy),
            "CMD": f"{BINARY} simulate-comfyui --port {comfy} --base-directory {home}",
        }
        self.process = subprocess.Popen(
            [BINARY], env=usual | environment, stdout=subprocess.DEVNULL, **streams
        )
        deadline = time.monotonic() + 60
        while not self.ready():
            if time.monotonic() > deadline:
                raise SystemExit("the server does not get ready")
            time.sleep(0.1)

    def cpu(self):
        """Of the server alone: its ComfyUIs are other processes."""
        return cpu(self.process.pid)
