"""Hostile clients: what they send."""

import base64
import io
import json
import time
import zipfile

from .stage import EMPTY, attack, error_of, graph, in_parallel, png


@attack(quick=True)
def shapes_of_json(server, _):
    """A10: what a body costs is bounded by its size, not by its shape."""
    before = server.resident_mib()
    bodies = [
        b'{"x": [' + b'{"":0},' * 8_000_000 + b"0]}",
        b'{"x": [' + b"[]," * 20_000_000 + b"0]}",
        b'{"prompt": {"1": {"class_type": "A", "inputs": {"v": [' + b"0," * 3_000_000 + b"0]}}}}",
        b"[" * 5_000_000,
    ]
    for body in bodies:
        status, _ = error_of(server.send("POST", "/prompt", body))
        assert status in (400, 413), status
    in_parallel(4, lambda n: server.send("POST", "/prompt", bodies[n % 2]))
    grown, most = server.resident_mib() - before, server.peak_mib() - before
    assert grown < 200, f"{grown:.0f} MiB stay"
    assert most < 4 * 100 + 64, f"{most:.0f} MiB at most"
    return (
        f"{len(bodies) + 4} bodies of up to 60 MB refused, "
        f"{max(grown, 0):.0f} MiB more afterwards, {most:.0f} MiB more at most"
    )


@attack()
def the_largest_bodies(server, _):
    """A10: 90 MB of the most expensive shapes, inside MAX_BODY_SIZE_MB, four at once; what is
    dropped, and what is built."""
    before = server.resident_mib()
    texts = b",".join(b'"%090d"' % number for number in range(900_000))
    bodies = [
        b'{"x": [' + b'{"":0},' * 13_400_000 + b"0]}",
        b'{"prompt": {"1": {"class_type": "NoSuchNode", "inputs": {"v": [' + texts + b"]}}}}",
    ]
    seen = []
    for body in bodies:
        status, _ = error_of(server.send("POST", "/prompt", body, timeout=120))
        assert status == 400, status
        one = server.peak_mib() - before
        assert one < 4 * len(body) / (1 << 20), f"{one:.0f} MiB for {len(body)} bytes"
        in_parallel(4, lambda n, body=body: server.send("POST", "/prompt", body, timeout=120))
        four = server.peak_mib() - before
        assert four < 4 * 100 + 64, f"{four:.0f} MiB for four"
        seen.append(
            f"{len(body) >> 20} MiB: {one:.0f} MiB more for one, "
            f"{four:.0f} MiB more for four at once"
        )
    return "; ".join(seen)


def converted(server, side):
    """Saves a picture of that size and asks for a JPEG; its name and the warnings."""
    source = {
        "class_type": "LoadImage",
        "inputs": {"image": base64.b64encode(png(side, side)).decode()},
    }
    status, answer = server.prompt(
        {"prompt": graph(source=source), "convert_output": {"format": "jpeg"}}, timeout=300
    )
    assert status == 200, answer[:500]
    answer = json.loads(answer)
    return answer["filenames"][0], answer["warnings"]


@attack(quick=True)
def a_picture_bomb(server, _):
    """A13: a picture whose conversion would need more than there may be is delivered as it is, and
    costs nothing."""
    before = server.resident_mib()
    name, warnings = converted(server, 11_000)
    grown = server.peak_mib() - before
    assert name.endswith(".png") and "MiB of memory" in warnings[0], (name, warnings)
    assert grown < 200, f"{grown:.0f} MiB more"
    return f"11000 x 11000 delivered as it is, {grown:.0f} MiB more at most"


@attack()
def pictures_at_once(server, _):
    """A13: what fits for one is bounded for all together."""
    before = server.resident_mib()
    names = [name for name, _ in in_parallel(8, lambda n: converted(server, 7_000))]
    grown = server.peak_mib() - before
    assert all(name.endswith(".jpeg") for name in names), names
    assert grown < 2300, f"{grown:.0f} MiB more"
    return f"8 pictures of 7000 x 7000 became JPEGs, {grown:.0f} MiB more at most"


@attack(quick=True)
def an_archive_of_folders(server, _):
    """A03: folders are entries."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(300):
            archive.writestr(
                "/".join(f"{number}d{depth}" for depth in range(400)) + "/x.png", png(1, 1)
            )
    body = {
        "prompt": {
            **graph(),
            "5": {
                "class_type": "VHS_LoadImages",
                "inputs": {"directory": base64.b64encode(memory.getvalue()).decode()},
            },
        }
    }
    began = time.monotonic()
    status, error = error_of(server.prompt(body))
    took = time.monotonic() - began
    assert status == 400 and took < 10, (status, took, error)
    return f"refused after {took:.1f} s"


@attack()
def a_flood_of_prompts(server, _):
    """Many clients at once: each gets its answer."""
    answers = in_parallel(
        32, lambda n: [server.prompt({"prompt": graph(f"f{n}")})[0] for _ in range(20)]
    )
    flat = [status for part in answers for status in part]
    assert set(flat) == {200}, set(flat)
    return f"{len(flat)} prompts by 32 clients"


@attack(quick=True)
def words_in_the_log(server, _):
    """A40: what a client writes into ComfyUI's log decides over nothing."""
    line = "Exception in thread Thread-1 (prompt_worker):.safetensors"
    loader = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": f"x\n{line}"}}
    started = json.loads(server.get("/queue")[1])
    assert started is not None
    status, _ = error_of(
        server.prompt(
            {
                "prompt": {
                    **graph(),
                    "1": loader,
                    "10": {
                        "class_type": "SaveImage",
                        "inputs": {"images": ["1", 0], "filename_prefix": line},
                    },
                }
            }
        )
    )
    time.sleep(1)
    assert server.get("/ready")[0] == 200, "ComfyUI was taken for dead"
    assert b"is gone" not in server.log.read_bytes()
    return f"answered {status}, ComfyUI lives on"


@attack(quick=True)
def control_characters(server, _):
    """A22: what cannot be sent is refused where it is read."""
    s3 = {"type": "s3", "access_key_id": "AK\nB", "secret_access_key": "x"}
    body = {"url": "s3://bucket/x.safetensors", "model_type": "loras", "wait": True, "auth": s3}
    status, error = error_of(server.send("POST", "/download", json.dumps(body).encode()))
    assert (status, error["location"]) == (400, "auth.access_key_id"), error
    credentials = [{"url_pattern": "**", "auth": {"type": "bearer", "token": "a\rb"}}]
    status, error = error_of(server.prompt({"prompt": graph(), "credentials": credentials}))
    assert (status, error["location"]) == (400, "credentials.0.auth.token"), error
    assert b"panicked" not in server.log.read_bytes()
    return "two 400, no panic"


@attack(quick=True)
def a_page_in_a_browser(server, _):
    """A21: a page whose name leads to 127.0.0.1 is nobody we know."""
    seen = []
    for method, path in [
        ("GET", "/queue"),
        ("GET", "/docs"),
        ("GET", "/console/"),
        ("POST", "/prompt"),
        ("POST", "/mcp"),
    ]:
        body = b"{}" if method == "POST" else None
        headers = {
            "host": f"rebound.example:{server.port}",
            "origin": f"http://rebound.example:{server.port}",
        }
        seen.append(server.send(method, path, body, headers=headers)[0])
    assert set(seen) == {403}, seen
    return f"{len(seen)} doors, 403 each"


MERGE = """import { z } from "zod";
const merge = (into, from) => {
  for (const name of Object.keys(from)) {
    const part = from[name];
    if (part && typeof part === "object") merge(into[name] ??= {}, part);
    else into[name] = part;
  }
  return into;
};
export default { RequestSchema: z.any(), summary: "Careless", generateWorkflow: (input) => {
  const found = {}.lora ?? "clean";
  try { merge({}, input); } catch {}
  const size = { width: 8, height: 8, batch_size: 1, color: 1 };
  return { draw: { class_type: "EmptyImage", inputs: size },
           save: { class_type: "SaveImage",
                   inputs: { filename_prefix: found, images: ["draw", 0] } } };
} };
"""


@attack(quick=True, alone=True)
def globals_of_the_language(server, _):
    """A16: what one call leaves in the globals reaches nobody."""
    server.stop()
    (server.path("workflow") / "merge.js").write_text(MERGE)
    server.start()
    evil = [{"__proto__": {"lora": "evil"}}, {"constructor": {"prototype": {"lora": "evil"}}}]
    names = []
    for number in range(24):
        body = {"input": evil[number % 2] if number % 3 else {}}
        status, answer = server.send("POST", "/workflow/merge", json.dumps(body).encode())
        assert status == 200, answer[:500]
        names += json.loads(answer)["filenames"]
    assert all("clean" in name for name in names), names
    return f"{len(names)} calls, each as the first"
