"""Bad luck: kills, disks, several instances."""

import concurrent.futures
import json
import shutil
import subprocess
import time

from .stage import Server, attack, error_of, graph, loads, until


@attack(alone=True)
def kills(server, origin):
    """A44, A45: kill -9 under load leaves no file, no child, no taken port."""
    rounds, interrupted = 12, 0
    for round_ in range(rounds):

        def send(n, round_=round_):
            url = origin.url(f"/{round_}-{n}.png")
            return server.prompt(
                {"id": f"k{round_}-{n}", "prompt": loads(url), "compress_outputs": True}, timeout=20
            )[0]

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            sent = [pool.submit(send, n) for n in range(8)]
            time.sleep(0.02 + 0.02 * round_)
            server.kill()
            interrupted += sum(one.result() != 200 for one in sent)
        server.start()
    assert interrupted, "no kill came in time"
    until("nothing of them stays", lambda: not server.left(), 20)
    partial = list(server.path("cache").glob("*.partial"))
    assert not partial, partial
    return f"{rounds} kills, {interrupted} prompts interrupted, nothing stays"


@attack(quick=True, alone=True)
def killed_after_the_202(server, origin):
    """A52: whoever got a 202 is told, though nobody is there any more."""
    server.stop()
    server.environment["WEBHOOK_SPOOL_DIR"] = str(server.path("spool"))
    server.start()
    slow = {
        **graph(),
        "5": {
            "class_type": "SimSleep",
            "inputs": {"seconds": 60, "steps": 60, "filename_prefix": "x"},
        },
    }
    for number in range(3):
        body = {
            "id": f"promised{number}",
            "prompt": slow,
            "webhook_v2": origin.url(f"/hook/{number}"),
        }
        assert server.prompt(body)[0] == 202
    server.kill()
    assert not origin.told
    server.start()
    until("all are told", lambda: len(origin.told) >= 3)
    told = [json.loads(body) for _, body in origin.told]
    assert {one["type"] for one in told} == {"prompt.failed"} and {one["code"] for one in told} == {
        "shutting_down"
    }, told
    return f"{len(told)} told by the next start"


@attack(quick=True)
def a_removed_cache(server, origin):
    """A47: a cache folder that somebody removed is made again."""
    assert server.prompt({"prompt": loads(origin.url("/one.png"))})[0] == 200
    shutil.rmtree(server.path("cache"))
    status, answer = server.prompt({"prompt": loads(origin.url("/two.png"))})
    assert status == 200, answer
    return "made again"


@attack(quick=True)
def a_full_disk(server, _):
    """A42: a full disk is our fault, and /ready says so."""
    folder = server.path("output")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "attack", folder],
        stderr=subprocess.PIPE,
        text=True,
    )
    if mounted.returncode:
        return f"SKIPPED, a tmpfs cannot be mounted: {mounted.stderr.strip()}"
    try:
        filler = folder / "filler"
        with open(filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        status, error = error_of(server.prompt({"prompt": graph("full")}))
        assert (status, error["code"]) == (503, "comfyui_unavailable"), error
        until("/ready is 503", lambda: server.get("/ready")[0] == 503)
        reason = json.loads(server.get("/ready")[1])["reason"]
        assert str(folder) in reason, reason
        filler.unlink()
        until("/ready is 200 again", lambda: server.get("/ready")[0] == 200)
    finally:
        subprocess.run(["umount", "-l", folder], check=False)
    return reason


@attack(alone=True, LRU_CACHE_SIZE_GB="0.002")
def one_cache_for_three(server, origin):
    """A46: three instances on one cache, one of them killed again and again."""
    limit = 0.002 * (1 << 30)
    shared = {"CACHE_DIR": str(server.path("cache")), "LRU_CACHE_SIZE_GB": "0.002"}
    others = [Server(**shared), Server(**shared)]
    all_three, answers = [server, *others], []
    try:
        for round_ in range(6):
            with concurrent.futures.ThreadPoolExecutor(12) as pool:
                one = lambda n: all_three[n % 3].prompt(
                    {"prompt": loads(origin.url(f"/large/{(round_ * 4 + n) % 17}.png"))}, timeout=60
                )[0]
                sent = [pool.submit(one, n) for n in range(12)]
                time.sleep(0.1 * round_)
                others[1].kill()
                answers += [answer.result() for answer in sent]
            others[1].start()
        wrong = [status for status in answers if status not in (0, 200)]
        assert not wrong and answers.count(200) > len(answers) / 3, answers
        server.prompt({"prompt": loads(origin.url("/large/last.png"))})
        size = sum(path.stat().st_size for path in server.path("cache").glob("*.png"))
        assert size <= limit, f"{size} bytes, the limit is {limit:.0f}"
        partial = list(server.path("cache").glob("*.partial"))
        assert len(partial) <= 1, partial
    finally:
        for other in others:
            other.stop()
            shutil.rmtree(other.directory, ignore_errors=True)
    return (
        f"{answers.count(200)} prompts answered, {answers.count(0)} cut off by {6} kills, "
        f"{size >> 10} KiB cached"
    )
