"""Every public method of the official Python SDK (comfy-sdk), sync and async, but `models`, against
a server whose ComfyUI is the simulator.

Usage: COMFY_BASE_URL=http://host:port [COMFY_API_KEY=...] python sdk_python.py
Prints "ok" at the end; anything else is a failure.
"""

import asyncio
import io
import os
import pathlib
import tempfile
import threading
import time
import uuid

import comfy_sdk
from comfy_sdk import AsyncComfy, Comfy

KEY = os.environ.get("COMFY_API_KEY")


def graph(seed=0, steps=0, prefix="ComfyUI", color=255):
    nodes = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": color},
        },
        "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }
    if steps:
        nodes["5"] = {"class_type": "SimSleep", "inputs": {"seconds": steps / 10, "steps": steps}}
        nodes["1"]["inputs"]["color"] = seed % 0xFFFFFF
    return nodes


def expect(kind, work):
    try:
        work()
    except kind as error:
        assert error.request_id, error
        return error
    raise AssertionError(f"no {kind.__name__}")


async def expect_async(kind, work):
    try:
        await work
    except kind as error:
        assert error.request_id, error
        return error
    raise AssertionError(f"no {kind.__name__}")


def check_events(events, job):
    kinds = [type(event).__name__ for event in events]
    assert kinds[-1] == "StatusChange" and events[-1].status == job.status, kinds
    terminal = [
        e
        for e in events
        if type(e).__name__ == "StatusChange" and e.status in ("succeeded", "failed", "canceled")
    ]
    assert len(terminal) == 1, kinds
    shown = [e.output.id for e in events if type(e).__name__ == "OutputReady"]
    assert sorted(shown) == sorted(o.id for o in job.outputs), (shown, job.outputs)
    values = [e.value for e in events if type(e).__name__ == "Progress"]
    assert values == sorted(values) and (
        not values or job.status != "succeeded" or values[-1] == 1
    ), values


def sync(directory):
    with Comfy(api_key=KEY) as client:
        path = directory / "graph.json"
        import json

        path.write_text(json.dumps(graph()))
        for workflow in (
            client.workflows.from_json(graph()),
            client.workflows.from_str(json.dumps(graph())),
            client.workflows.from_file(path),
        ):
            job = client.run(workflow, timeout=30)
            assert job.status == "succeeded" and job.error is None and len(job.outputs) == 1
        output = job.outputs[0]
        assert (
            output.type == "image" and output.content_type == "image/png" and output.node_id == "9"
        )
        assert output.job_id == job.id and output.name.startswith(job.id)
        data = output.to_bytes()
        assert len(data) == output.size_bytes and data.startswith(b"\x89PNG")
        assert output.to_bytes(range=(0, 3)) == data[:4]
        assert output.to_file(directory / output.name).read_bytes() == data
        stream = io.BytesIO()
        output.to_stream(stream)
        assert stream.getvalue() == data
        assert (
            client.jobs.get(job.id).get_outputs("9")[0].id == output.id
            and job.get_outputs("1") == []
        )
        assert output.get_download_url().url
        # Assets of every origin, and an output as the next input.
        (directory / "in put.png").write_bytes(data)
        unique = data + uuid.uuid4().bytes
        assets = [
            client.assets.from_bytes(data, filename='in "put".png'),
            client.assets.from_file(directory / "in put.png"),
            client.assets.from_stream(
                io.BytesIO(unique), filename="ü.png", content_type="image/png"
            ),
        ]
        for asset in assets:
            identity = asset.commit()
            assert uuid.UUID(identity) and asset.hash.startswith("blake3:") and asset.expires_at
            assert asset.commit() == identity and asset.as_reference()["info"]["id"] == identity
            assert asset.get_download_url().url and asset.job_id is None
            assert client.assets.get(identity).id == identity
        assert assets[0].created_new is False and assets[2].created_new is True
        produced = client.assets.get(output.id)
        assert produced.job_id == job.id
        for source in (*assets[:2], produced):
            workflow = client.workflows.from_json(
                {
                    "1": {"class_type": "LoadImage", "inputs": {"image": "replaced"}},
                    "7": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
                    "9": {
                        "class_type": "SaveImage",
                        "inputs": {"images": ["1", 0], "filename_prefix": "again"},
                    },
                }
            )
            workflow.set_input("1", "image", source)
            workflow.remove_node("7")
            job = client.run(workflow)
            assert job.status == "succeeded", job.error
            run = job.get_workflow()
            assert run.format == "api" and isinstance(run.graph["1"]["inputs"]["image"], str)
            assert run.graph["9"]["inputs"]["filename_prefix"] == "again"
        client.assets.delete(assets[2].id)
        assets[1].delete()
        expect(
            comfy_sdk.NotFound,
            lambda: client.assets.get(assets[0].id if False else str(uuid.uuid4())),
        )
        # Labels and lists.
        mark = uuid.uuid4().hex
        labelled = [
            client.submit(client.workflows.from_json(graph()), metadata={"run": mark, "n": str(n)})
            for n in range(5)
        ]
        for job in labelled:
            assert job.result().metadata["run"] == mark
        listed = list(client.list_jobs(metadata={"run": mark}, limit=2))
        assert [item.id for item in listed][:2] == [job.id for job in labelled[::-1]][
            : len(listed)
        ][:2], listed
        one = list(client.list_jobs(metadata={"run": mark, "n": "3"}))
        assert (
            [item.id for item in one] == [labelled[3].id]
            and one[0].create_time
            and one[0].update_time
        )
        # Events: early, late, first, tenth.
        job = client.submit(client.workflows.from_json(graph(int(time.time() * 1000), steps=12)))
        seen = [[] for _ in range(10)]
        threads = [
            threading.Thread(target=lambda n=n: seen[n].extend(client.jobs.get(job.id).events()))
            for n in range(10)
        ]
        [thread.start() for thread in threads]
        events = list(job.events())
        job.refresh()
        assert job.status == "succeeded", job.error
        check_events(events, job)
        [thread.join() for thread in threads]
        for events in (*seen, list(job.events())):
            check_events(events, job)
        # Cancelling, in every state.
        job = client.submit(client.workflows.from_json(graph(int(time.time() * 1000), steps=600)))
        waiting = client.submit(client.workflows.from_json(graph(1, steps=601)))
        assert waiting.cancel().status == "canceled", waiting.status
        job.cancel()
        assert job.wait(timeout=20).status == "canceled", job.status
        assert job.cancel().status == "canceled"
        try:
            job.result()
            raise AssertionError("a canceled job has no result")
        except comfy_sdk.JobFailed:
            pass
        # Errors.
        key = uuid.uuid4().hex
        first = client.submit(client.workflows.from_json(graph()), idempotency_key=key)
        expect(
            comfy_sdk.IdempotencyKeyReuse,
            lambda: client.submit(client.workflows.from_json(graph()), idempotency_key=key),
        )
        first.wait()
        error = expect(
            comfy_sdk.InvalidWorkflow,
            lambda: client.submit(
                client.workflows.from_json(
                    {"1": {"class_type": "NoSuchNode", "inputs": {}}, "9": graph()["9"]}
                )
            ),
        )
        assert "NoSuchNode" in str(error), error
        missing = client.workflows.from_json(
            {
                "1": {
                    "class_type": "LoadImage",
                    "inputs": {
                        "image": {"__type": "core/ASSET", "info": {"id": str(uuid.uuid4())}}
                    },
                },
                "9": graph()["9"],
            }
        )
        expect(comfy_sdk.MissingAsset, lambda: client.submit(missing))
        expect(comfy_sdk.NotFound, lambda: client.jobs.get(str(uuid.uuid4())))


async def asynchronous(directory):
    async with AsyncComfy(api_key=KEY) as client:
        jobs = await asyncio.gather(
            *(client.run(client.workflows.from_json(graph(color=n))) for n in range(32))
        )
        assert all(job.status == "succeeded" and len(job.outputs) == 1 for job in jobs)
        output = jobs[0].outputs[0]
        data = await output.to_bytes()
        assert await output.to_bytes(range=(1, 3)) == b"PNG"
        assert (await output.to_file(directory / output.name)).read_bytes() == data
        stream = io.BytesIO()
        await output.to_stream(stream)
        assert stream.getvalue() == data and (await output.get_download_url()).url
        asset = client.assets.from_bytes(data + uuid.uuid4().bytes, filename="a.png")
        await asset.commit()
        assert asset.created_new and (await asset.as_reference())["info"]["id"] == asset.id
        assert (await asset.get_download_url()).url
        workflow = client.workflows.from_json(
            {
                "1": {"class_type": "LoadImage", "inputs": {"image": "x"}},
                "9": {
                    "class_type": "SaveImage",
                    "inputs": {"images": ["1", 0], "filename_prefix": "a"},
                },
            }
        )
        workflow.set_input("1", "image", client.assets.from_bytes(data, filename="b.png"))
        job = await client.submit(workflow, metadata={"who": "async"})
        events = [event async for event in job.events()]
        await job.refresh()
        check_events(events, job)
        assert (await job.result()).metadata == {"who": "async"} and (
            await job.get_workflow()
        ).format == "api"
        assert (await (await client.jobs.get(job.id)).wait(timeout=5)).status == "succeeded"
        assert [item async for item in client.list_jobs(metadata={"who": "async"}, limit=1)][
            0
        ].id == job.id
        await client.assets.delete(asset.id)
        job = await client.submit(
            client.workflows.from_json(graph(int(time.time() * 1000), steps=600))
        )
        await job.cancel()
        assert (await job.wait(timeout=20)).status == "canceled"
        await expect_async(comfy_sdk.NotFound, client.jobs.get(str(uuid.uuid4())))


with tempfile.TemporaryDirectory() as name:
    sync(pathlib.Path(name))
    asyncio.run(asynchronous(pathlib.Path(name)))
print("ok")
