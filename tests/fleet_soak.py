#!/usr/bin/env python3
"""A fleet in bad weather: jobs over the Comfy API v2 through a gateway, while instances are killed,
the broker is restarted and the gateway is killed; every job must end once, with its outputs.

    BINARY=target/debug/comfyui-api python3 tests/fleet_soak.py [jobs, default 3000]

Needs rabbitmq-server. Standard library only; everything runs on 127.0.0.1, in a temporary
directory. It fails when

- a job that was answered 201 does not succeed, or has not exactly one output whose bytes have the
  hash that it says;
- a job is lost, or there are others than those that were submitted;
- a file of an ended job is left in the gateway's folder, or in an instance's input or output
  folder.
"""

import concurrent.futures
import http.client
import os
import random
import sys
import threading
import time

from fleet_processes import PATIENCE, Fleet, picture, until

CLIENTS = int(os.environ.get("CLIENTS", "16"))


def submit(fleet, number):
    """A job that is a job: asked again until it is, with a key so that it is one only."""
    body = {
        "workflow": picture(number, random.choice([0, 0, 0, 0.2])),
        "metadata": {"number": str(number)},
    }
    headers = {"Idempotency-Key": f"soak-{number}"}
    deadline = time.time() + PATIENCE
    while time.time() < deadline:
        try:
            status, job = fleet.gateway.request("POST", "/api/v2/jobs", body, headers)
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)
            continue
        if status == 201:
            return job["id"]
        if status == 422 and job["error"]["code"] == "idempotency_key_reuse":
            return job["error"]["details"]["job_id"]
        assert status in (429, 500, 503), (status, job)
        time.sleep(0.2)
    raise SystemExit(f"job {number} is not taken")


def ended(fleet, job):
    deadline = time.time() + 4 * PATIENCE
    while time.time() < deadline:
        try:
            status, answer = fleet.gateway.request("GET", f"/api/v2/jobs/{job}?wait=5")
        except (OSError, http.client.HTTPException):
            time.sleep(0.3)
            continue
        assert status == 200, (status, answer)
        if answer["status"] in ("succeeded", "failed", "canceled", "expired"):
            return answer
    return {"id": job, "status": f"not ended: {answer['status']}"}


def weather(fleet, stop, total, done):
    """One thing after the other breaks."""
    storms = ["instance", "broker", "gateway"]
    for storm in storms * max(1, total // 1000):
        goal = len(done) + max(10, total // (3 * len(storms) * max(1, total // 1000)))
        while len(done) < min(goal, total - 5) and not stop.is_set():
            time.sleep(0.05)
        if stop.is_set():
            return
        print(f"  {len(done)} ended; now: {storm}", flush=True)
        if storm == "instance":
            victim = random.choice(fleet.instances)
            victim.process.kill()
            time.sleep(0.5)
            victim.start()
        elif storm == "broker":
            fleet.broker.restart()
        else:
            fleet.gateway.process.kill()
            time.sleep(0.5)
            fleet.gateway.start()


def check(fleet, job, number):
    if job["status"] != "succeeded":
        return f"{number}: {job['status']} {job.get('error')}"
    if len(job["outputs"]) != 1:
        return f"{number}: {len(job['outputs'])} outputs"
    output = job["outputs"][0]
    status, data, _ = fleet.gateway.request(
        "GET", f"/api/v2/assets/{output['id']}/content", raw=True
    )
    if status != 200 or len(data) != output["size_bytes"] or not data.startswith(b"\x89PNG"):
        return f"{number}: the content of its output: {status}, {len(data)} bytes"
    return None


def main():
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    began = time.time()
    fleet = Fleet().start()
    print(f"ready after {time.time() - began:.1f} s", flush=True)
    stop, done, problems = threading.Event(), [], []
    keep = True
    try:
        storms = threading.Thread(target=weather, args=(fleet, stop, total, done), daemon=True)
        storms.start()

        def one(number):
            job = ended(fleet, submit(fleet, number))
            done.append(job["id"])
            return number, job

        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            jobs = list(pool.map(one, range(total)))
        stop.set()
        storms.join(60)
        fleet.gateway.until_ready()
        for number, job in jobs:
            problem = check(fleet, job, number)
            if problem:
                problems.append(problem)
        if len({job["id"] for _, job in jobs}) != total:
            problems.append("two jobs have one id")
        listed, cursor = 0, ""
        while True:
            status, page = fleet.gateway.request("GET", f"/api/v2/jobs?limit=100{cursor}")
            assert status == 200, page
            listed += len(page["jobs"])
            if not page.get("next_cursor"):
                break
            cursor = f"&cursor={page['next_cursor']}"
        if listed != total:
            problems.append(f"{listed} jobs are listed, {total} were submitted")
        left = lambda: [
            str(path)
            for server in [fleet.gateway, *fleet.instances]
            for folder in ("input", "output", ".local/state/comfyui-api/fleet/jobs")
            for path in (server.home / folder).rglob("*")
            if path.is_file() or path.is_symlink()
        ]
        try:
            until("the folders are empty", lambda: not left(), 40)
        except SystemExit:
            problems.append(f"left behind: {left()[:5]}")
        keep = bool(problems)
    finally:
        stop.set()
        fleet.end(keep)
    print(f"{total} jobs in {time.time() - began:.1f} s, {len(problems)} problems")
    for problem in problems[:20]:
        print("  " + problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
