#!/usr/bin/env python3
"""The tests that run against the server alone, against a fleet: gateway, RabbitMQ and two instances
in its place.

    python3 tests/judge_fleet.py [--quick] [NAME...]

Every test of the modules below runs, but for those in tests/judge_fleet.txt, each with its reason;
those under [one] there run with one instance. Part of a name selects tests; --quick takes those
that stand under [quick]. TEST_COMMAND is what runs the tests (default: cargo test --locked --test
it --), THREADS how many at a time (default 2).
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "tests/judge_fleet.txt"
COMMAND = shlex.split(os.environ.get("TEST_COMMAND", "cargo test --locked --test it --"))
THREADS = os.environ.get("THREADS", "2")
# Those of `webhook::` start no server: what is sent and when is judged by `delivered::`.
MODULES = (
    "prompt::",
    "requests::",
    "streaming::",
    "workflow_product::",
    "delivered::",
    "storage_product::",
    "console_api::",
    "v2::",
    "mcp::",
)


def sections():
    """Names by section; `name: reason` in [excluded] and [one], `name` in [quick]."""
    found, section = {"excluded": {}, "one": {}, "quick": {}}, None
    for number, line in enumerate(LIST.read_text().splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = found[line.strip("[]")]
            continue
        name, _, reason = line.partition(": ")
        if section is not found["quick"] and not reason.strip():
            sys.exit(f"{LIST}:{number}: {name} needs a reason")
        section[name] = reason.strip()
    return found["excluded"], found["one"], list(found["quick"])


def run(what, names):
    """The status of a run of these tests behind that."""
    if not names:
        return 0
    environment = dict(os.environ, COMFYUI_API_TEST_BEHIND=what)
    # Nothing is asked of the main thread, which has no name of its own when there is but one.
    command = [*COMMAND, "--exact", *names, f"--test-threads={max(2, int(THREADS))}"]
    return subprocess.run(command, env=environment, cwd=ROOT).returncode


def main():
    words = sys.argv[1:]
    quick = "--quick" in words
    parts = [word for word in words if word != "--quick"]
    listed = subprocess.run(
        [*COMMAND, "--list", "--format", "terse"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    known = [
        line.removesuffix(": test")
        for line in listed.stdout.splitlines()
        if line.endswith(": test")
    ]
    excluded, one, selection = sections()
    for name in [*excluded, *one, *selection]:
        if name not in known:
            sys.exit(f"{LIST} names {name}, and there is no such test")
    judged = [name for name in known if name.startswith(MODULES)]
    wanted = [name for name in judged if name not in excluded]
    if quick:
        wanted = [name for name in selection if name in wanted]
    elif parts:
        wanted = [name for name in judged if any(part in name for part in parts)]
    print(
        f"{len(judged)} tests, {len(excluded)} of them excluded; "
        f"{len(wanted)} run behind a gateway",
        flush=True,
    )
    statuses = [
        run("gateway", [name for name in wanted if name not in one]),
        run("gateway:1", [name for name in wanted if name in one]),
    ]
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
