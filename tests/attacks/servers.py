"""Hostile file servers, and clients who use them against others."""

import json
import time

from .stage import MIXED, Origin, attack, error_of, in_parallel, loads


def download(server, url, wait=True, **more):
    body = {"url": url, "model_type": "loras", "wait": wait, **more}
    return server.send("POST", "/download", json.dumps(body).encode(), timeout=200)


@attack(quick=True)
def a_dozen_slow_servers(server, origin):
    """A12: no client can use up the places for downloads."""
    for number in range(24):
        body = {"url": origin.url(f"/slow/{number}.safetensors"), "model_type": "loras"}
        server.send("POST", "/download", json.dumps(body).encode())
    other = Origin()
    try:
        began = time.monotonic()
        status, _ = server.prompt({"prompt": loads(other.url("/fine.png"))})
        took = time.monotonic() - began
    finally:
        other.close()
    assert status == 200 and took < 15, (status, took)
    return f"another client's download took {took:.1f} s"


@attack(quick=True)
def a_page_as_a_model(server, origin):
    """F03: an HTML page becomes neither a model nor a picture."""
    body = json.dumps(
        {"url": origin.url("/page.safetensors"), "model_type": "loras", "wait": True}
    ).encode()
    status, error = error_of(server.send("POST", "/download", body))
    assert status == 400 and ("HTML" in error["error"] or "html" in error["error"]), error
    listed = json.loads(server.get("/models")[1])
    assert "page.safetensors" not in listed["loras"]
    return error["error"][:100]


@attack(quick=True)
def credentials_of_others(server, origin):
    """A01, A02: a credential opens nothing for others, and closes nothing."""
    bearer = lambda token: {"type": "bearer", "token": token}
    public = origin.url("/public.png")
    credentials = [{"url_pattern": "**", "auth": bearer("meaningless")}]
    assert server.prompt({"prompt": loads(public), "credentials": credentials})[0] == 200
    assert server.prompt({"prompt": loads(public)})[0] == 200, "a public file was locked"
    secret = origin.url("/secret.png")
    right = [{"url_pattern": "**", "auth": bearer("right")}]
    assert server.prompt({"prompt": loads(secret), "credentials": right})[0] == 200
    for others in ([], [{"url_pattern": "**", "auth": bearer("wrong")}]):
        status, _ = error_of(server.prompt({"prompt": loads(secret), "credentials": others}))
        assert status == 400, f"a file of others was given out: {status}"
    assert server.prompt({"prompt": loads(secret), "credentials": right})[0] == 200
    replaced = {"type": "query", "query_param": "file", "query_value": "evil"}
    status, error = error_of(
        download(server, origin.url("/m.safetensors?file=good"), auth=replaced)
    )
    assert status == 400, error
    for name in ("Host", "X-Original-URL", "Range", "Transfer-Encoding", "Accept", "If-None-Match"):
        header = {"type": "header", "header_name": name, "header_value": "x"}
        status, error = error_of(download(server, origin.url("/n.safetensors"), auth=header))
        assert status == 400, (name, error)
    return "public stays public, secret stays secret, nothing is replaced"


@attack(quick=True)
def two_versions(server, origin):
    """A48: halves of two versions never become one file."""
    status, answer = download(server, origin.url("/mixed/m.bin"))
    assert status == 200, answer
    cached = [path for path in server.path("cache").glob("*.bin") if path.stat().st_size == MIXED]
    contents = {bytes(set(path.read_bytes())) for path in cached}
    assert contents and contents <= {b"A", b"B"}, f"{len(cached)} files of {contents}"
    return f"asked {origin.asked['/mixed/m.bin']} times, one version"


@attack()
def a_body_without_an_end(server, origin):
    """A49: a drip without a length is given up."""
    began = time.monotonic()
    answers = in_parallel(
        3, lambda n: error_of(download(server, origin.url(f"/drip/{n}.safetensors")))
    )
    took = time.monotonic() - began
    assert all(status == 400 and error["code"] == "download_failed" for status, error in answers), (
        answers
    )
    assert took < 170, f"{took:.0f} s"
    return f"given up after {took:.0f} s: {answers[0][1]['error'][:80]}"
