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
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:13])) / TICK
