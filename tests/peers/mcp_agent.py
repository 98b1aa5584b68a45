"""An agent's whole way with the official Python client, over HTTP and through `comfyui-api mcp`:
looks at the tools, reads a schema, runs a workflow with a picture of its own, sees the preview,
fetches the file, makes the result the next input, cancels a long run, and leaves a job behind for
the time after a restart.

Arguments: the server's address, the binary; then nothing, or the id of the job that was left
behind. The server needs a workflow `turn` (image, width -> a picture with other colours of that
width). The last line of a success is the id of the job that was left behind, or "ok".
"""

import asyncio
import base64
import io
import os
import sys
import tempfile
import urllib.request
from pathlib import Path

import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from PIL import Image

URL, BINARY = sys.argv[1:3]
LEFT = sys.argv[3] if len(sys.argv) > 3 else None
KEY = os.environ.get("COMFYUI_API_KEY", "")


def http(folder):
    headers = {"Authorization": f"Bearer {KEY}"} if KEY else {}
    return streamable_http_client(URL, http_client=httpx2.AsyncClient(headers=headers, timeout=120))


def stdio(folder):
    arguments = ["mcp", "--url", URL, "--files", str(folder)]
    return stdio_client(
        StdioServerParameters(command=BINARY, args=arguments, env={"COMFYUI_API_KEY": KEY})
    )


def colour(data):
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    return picture.size, picture.getpixel((0, 0))


def near(found, wanted):
    return all(abs(one - other) < 12 for one, other in zip(found, wanted))


async def long_graph(client):
    """Something that takes long: a pause of the simulator, else work for a processor."""
    if not (await client.call_tool("describe_node", {"class_type": "SimSleep"})).is_error:
        return {
            "1": {
                "class_type": "EmptyImage",
                "inputs": {"width": 32, "height": 32, "batch_size": 1, "color": 7},
            },
            "5": {
                "class_type": "SimSleep",
                "inputs": {"seconds": 12, "steps": 100, "value": ["1", 0]},
            },
            "9": {
                "class_type": "SaveImage",
                "inputs": {"images": ["5", 0], "filename_prefix": "long"},
            },
        }
    graph = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 2048, "height": 2048, "batch_size": 1, "color": 7},
        }
    }
    for number in range(80):
        before = f"s{number - 1}" if number else "1"
        graph[f"s{number}"] = {
            "class_type": "ImageScale",
            "inputs": {
                "image": [before, 0],
                "upscale_method": "lanczos",
                "width": 2048 - number,
                "height": 2048,
                "crop": "disabled",
            },
        }
    graph["9"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["s79", 0], "filename_prefix": "long"},
    }
    return graph


async def own_picture(client, transport, folder):
    """A red picture of the agent's own, as the value of a media argument."""
    red = io.BytesIO()
    Image.new("RGB", (48, 32), (250, 0, 0)).save(red, "png")
    if transport is stdio:
        (folder / "red.png").write_bytes(red.getvalue())
        return str(folder / "red.png")
    upload = (await client.call_tool("create_upload", {"filename": "red.png"})).structured_content
    request = urllib.request.Request(upload["upload_url"], red.getvalue(), method="PUT")
    assert urllib.request.urlopen(request).status in (200, 201)
    return upload["input"]


async def way(transport, mode):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        async with Client(transport(folder), mode=mode) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            schema = tools["turn"].input_schema
            assert schema["properties"]["width"]["type"] == "integer", schema
            assert "create_upload" in schema["properties"]["image"]["description"], schema
            given = await own_picture(client, transport, folder)
            told = []

            async def tell(progress, total, message):
                told.append(message)

            result = await client.call_tool(
                "turn", {"image": given, "width": 96}, progress_callback=tell
            )
            assert not result.is_error, result
            job = result.structured_content
            output = job["outputs"][0]
            assert output["width"] == 96 and told and job["id"] in told[0], (job, told)
            preview = next(block for block in result.content if block.type == "image")
            size, seen = colour(base64.b64decode(preview.data))
            assert size == (96, 64) and near(seen, (5, 255, 255)), (size, seen)
            read = await client.read_resource(output["uri"])
            file = base64.b64decode(read.contents[0].blob)
            assert urllib.request.urlopen(output["url"]).read() == file
            assert near(colour(file)[1], (5, 255, 255)), colour(file)
            if transport is stdio:
                saved = await client.call_tool(
                    "save_output", {"id": job["id"], "directory": str(folder)}
                )
                assert Path(saved.structured_content["paths"][0]).read_bytes() == file, saved
            # What came out goes in again: the colours are those of the beginning.
            again = await client.call_tool("turn", {"image": output["uri"], "width": 24})
            assert not again.is_error, again
            file = base64.b64decode(
                (await client.read_resource(again.structured_content["outputs"][0]["uri"]))
                .contents[0]
                .blob
            )
            assert colour(file)[0] == (24, 16) and near(colour(file)[1], (250, 0, 0)), colour(file)

            graph = await long_graph(client)
            open_ = await client.call_tool("run_graph", {"graph": graph, "wait_s": 1})
            assert open_.structured_content["status"] in ("pending", "running"), open_
            id_ = open_.structured_content["id"]
            done = await client.call_tool("cancel_job", {"id": id_})
            assert done.structured_content == {"id": id_, "interrupted": "success"}, done
            ended = await client.call_tool("get_job", {"id": id_, "wait_s": 60})
            assert ended.structured_content["status"] == "interrupted", ended
            if mode != "legacy" or transport is stdio:
                try:
                    await client.call_tool("run_graph", {"graph": graph}, read_timeout_seconds=2)
                    raise AssertionError("it did not give up")
                except MCPError:
                    pass
                for _ in range(600):
                    newest = (await client.call_tool("list_jobs", {"limit": 1})).structured_content[
                        "jobs"
                    ][0]
                    if newest["status"] == "interrupted":
                        break
                    await asyncio.sleep(0.1)
                assert newest["status"] == "interrupted" and newest["id"] != id_, newest


async def main():
    if LEFT:
        async with Client(http(None), mode="auto") as client:
            result = await client.call_tool("get_job", {"id": LEFT, "wait_s": 300})
            assert result.structured_content["status"] == "succeeded", result
            assert any(block.type == "resource_link" for block in result.content), result
        print("ok")
        return
    for transport in (http, stdio):
        for mode in ("legacy", "auto"):
            await asyncio.wait_for(way(transport, mode), 300)
            print(transport.__name__, mode, flush=True)
    async with Client(http(None), mode="auto") as client:
        left = await client.call_tool("run_graph", {"graph": await long_graph(client), "wait_s": 0})
        for _ in range(600):
            job = (
                await client.call_tool("get_job", {"id": left.structured_content["id"]})
            ).structured_content
            if job["status"] == "running":
                break
            await asyncio.sleep(0.1)
        assert job["status"] == "running", job
        print(job["id"])


asyncio.run(main())
