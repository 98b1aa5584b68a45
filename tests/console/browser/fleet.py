"""A gateway with RabbitMQ and two instances, for fleet.test.mjs: says the gateway's port, and ends
when its input does."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from fleet_processes import Fleet, until  # noqa: E402


def here(fleet):
    listed = fleet.gateway.request("GET", "/instances")[1]
    return len(listed) == 2


folder = {"CONSOLE_DIR": os.environ["CONSOLE_DIR"]} if "CONSOLE_DIR" in os.environ else {}
fleet = Fleet(instances=2, **folder)
try:
    fleet.start()
    until("both instances", lambda: here(fleet))
    print(fleet.gateway.port, flush=True)
    sys.stdin.read()
finally:
    fleet.end()
