#!/usr/bin/env python3
"""Many runs at once through the official Python SDK: no wrong state, no lost output, nobody else's
picture, and every stream ends with its terminal event after its outputs.

    pip install comfy-sdk==0.5.0 pillow
    COMFY_BASE_URL=http://127.0.0.1:3000 python tests/v2_runs.py [RUNS] [AT_ONCE]

Meant for a real ComfyUI behind the server (EmptyImage, ImageScale, SaveImage and PreviewImage: no
model is needed).
"""

import asyncio
import io
import sys
import time

from comfy_sdk import AsyncComfy
from PIL import Image

RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 300
AT_ONCE = int(sys.argv[2]) if len(sys.argv) > 2 else 32


def colour(number):
    return (number * 2654435761) & 0xFFFFFF


def graph(number):
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {
                "width": 64,
                "height": 64,
                "batch_size": 1 + number % 3,
                "color": colour(number),
            },
        },
        "2": {
            "class_type": "ImageScale",
            "inputs": {
                "image": ["1", 0],
                "upscale_method": "nearest-exact",
                "width": 32,
                "height": 32,
                "crop": "disabled",
            },
        },
        "8": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
        "9": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "same/for_all"},
        },
    }


async def check(job, number):
    assert job.status == "succeeded", (job.status, job.error)
    wanted = 2 * (1 + number % 3)
    assert len(job.outputs) == wanted, (len(job.outputs), wanted)
    for output in job.outputs:
        picture = Image.open(io.BytesIO(await output.to_bytes())).convert("RGB")
        red, green, blue = picture.getpixel((0, 0))
        assert (red << 16) + (green << 8) + blue == colour(number), (
            f"run {number}: somebody else's picture"
        )


async def followed(client, number):
    """One run whose stream is read."""
    job = await client.submit(client.workflows.from_json(graph(number)))
    events = [event async for event in job.events()]
    await job.refresh()
    kinds = [type(event).__name__ for event in events]
    last = events[-1]
    assert kinds[-1] == "StatusChange" and last.status == job.status, kinds
    shown = sorted(event.output.id for event in events if type(event).__name__ == "OutputReady")
    assert shown == sorted(output.id for output in job.outputs), (shown, kinds)
    await check(job, number)


async def waited(client, number):
    await check(await client.run(client.workflows.from_json(graph(number)), timeout=600), number)


async def main():
    gate = asyncio.Semaphore(AT_ONCE)
    wrong = []

    async def one(client, number):
        async with gate:
            try:
                await (followed if number % 2 else waited)(client, number)
            except Exception as error:  # Whatever it is, it is a finding.
                wrong.append(f"run {number}: {type(error).__name__}: {error}")

    began = time.perf_counter()
    async with AsyncComfy() as client:
        await asyncio.gather(*(one(client, number) for number in range(RUNS)))
    print(*wrong[:20], sep="\n")
    print(
        f"{RUNS} runs, {AT_ONCE} at once, {len(wrong)} wrong, {time.perf_counter() - began:.1f} s"
    )
    raise SystemExit(bool(wrong))


asyncio.run(main())
