#!/usr/bin/env python3
"""A day in production, in minutes: the demo under mixed load, with faults, and a reckoning at the
end.

    BINARY=bin/comfyui-api python3 tests/soak.py [minutes, default 10]

Clients send sync, streaming and asynchronous prompts, with uploads, inputs by URL and base64,
conversions, cancels, failing nodes, bad graphs and receivers that fail, while ComfyUI is crashed
and its websockets are cut and deafened. Every sixth of the time the load pauses and the process is
looked at. It fails when

- a request has no end, or one that its kind does not allow;
- a webhook that was due has not come, or has come for nobody;
- a file is left in ComfyUI's input or output directory, or a partial one in the cache;
- resident memory at rest grows by more than 5 MiB after the warm-up (the first two sixths), or
  descriptors or threads grow;
- the log has an error that EXPLAINED does not know.

Standard library only. Loads go to 127.0.0.1 only.
"""

import collections
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from soak_load import CLIENTS, Soak
from soak_world import Server, World

ROOT = Path(__file__).resolve().parent.parent
SEGMENTS = 6
WARM_UP_SEGMENTS = 2
ALLOWED_GROWTH_MIB = 5.0

# Log lines of level error, and why they are right.
EXPLAINED = [
    (r"webhook", "receivers at /fail answer 500 on purpose"),
]


def left_behind(home):
    found = [
        path
        for folder in ("input", "output")
        for path in (home / folder).rglob("*")
        if path.is_file() or path.is_symlink()
    ]
    found += list((home / "cache").rglob("*.partial"))
    return [str(path.relative_to(home)) for path in found if path.name != "example.png"]


def log_findings(log):
    """Errors that nothing explains, and how often each message of warnings and errors came."""
    unexplained, counts = [], collections.Counter()
    for line in log.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            unexplained.append(f"not JSON: {line[:300]}")
            continue
        if entry.get("level") in ("warn", "error", "fatal"):
            counts[f"{entry['level']}: {entry['msg'][:100]}"] += 1
        if entry.get("level") in ("error", "fatal") and not any(
            re.search(pattern, entry["msg"]) for pattern, _ in EXPLAINED
        ):
            unexplained.append(line[:400])
    return unexplained, counts


def main():
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    binary = Path(os.environ.get("BINARY", ROOT / "target/debug/comfyui-api")).resolve()
    print(f"{binary}, {minutes:g} minutes, {CLIENTS} clients", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        directory = Path(directory)
        world = World()
        server = Server(binary, directory, world)
        try:
            server.wait_until_ready()
            soak = Soak(server, world)
            for target in [soak.client] * CLIENTS + [soak.faults]:
                threading.Thread(target=target, daemon=True).start()
            rests = []
            for segment in range(SEGMENTS):
                soak.running.set()
                time.sleep(minutes * 60 / SEGMENTS)
                rests.append(soak.rest())
                figures = rests[-1]
                print(
                    f"at rest {segment + 1}/{SEGMENTS}: {figures['rss_mib']:.1f} MiB "
                    f"({figures['anonymous_mib']:.1f} anonymous), {figures['threads']} threads, "
                    f"{figures['descriptors']} descriptors, {figures['cpu_s']:.0f} s of CPU, "
                    f"{soak.count} prompts",
                    flush=True,
                )
            soak.over.set()
            soak.running.set()
            files = left_behind(server.home)
            if files:
                soak.problem(f"{len(files)} files are left: {files[:10]}")
            warm, last = rests[WARM_UP_SEGMENTS - 1], rests[-1]
            if last["rss_mib"] - warm["rss_mib"] > ALLOWED_GROWTH_MIB:
                soak.problem(f"memory grew from {warm['rss_mib']:.1f} to {last['rss_mib']:.1f} MiB")
            # Idle connections are kept for a while, a few to each side; a leak of one in a hundred
            # prompts would show.
            for name, allowed in (("threads", 2), ("descriptors", 2 * CLIENTS)):
                if last[name] > warm[name] + allowed:
                    soak.problem(f"{name} grew from {warm[name]} to {last[name]}")
            server.process.send_signal(signal.SIGTERM)
            if server.process.wait(60):
                soak.problem(f"it ended with {server.process.returncode}")
            if server.home.exists():
                soak.problem(f"{server.home} was not removed")
        finally:
            if server.process.poll() is None:
                server.process.kill()
        unexplained, counts = log_findings(server.log)
        for line in unexplained[:20]:
            soak.problem(f"the log: {line}")
        if keep := os.environ.get("SOAK_LOG"):
            Path(keep).write_bytes(server.log.read_bytes())
    for title, table in (("ends", soak.outcomes), ("warnings and errors in the log", counts)):
        print(f"\n{title}")
        for name, count in sorted(table.items()):
            print(f"{count:8} {name}")
    strangers = set(world.webhooks) - set(soak.due)
    if strangers:
        soak.problem(f"webhooks for nobody: {sorted(strangers)[:5]}")
    print(
        f"\n{soak.count} prompts, {len(world.stored)} uploads, "
        f"{sum(map(len, world.webhooks.values()))} webhooks delivered"
    )
    print(
        f"{len(soak.problems)} problems"
        if soak.problems
        else "no problems: none lost, nothing left, nothing grew"
    )
    return bool(soak.problems)


sys.exit(main())
