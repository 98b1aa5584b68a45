"""The official Python client against a running server, in both eras, over HTTP and through
`comfyui-api mcp`.

Arguments: the server's address, the binary. The key is in COMFYUI_API_KEY. The last line of a
success is "ok".
"""

import asyncio
import base64
import os
import sys

import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

URL, BINARY = sys.argv[1:3]
KEY = os.environ["COMFYUI_API_KEY"]
GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 40, "height": 30, "batch_size": 1, "color": 255},
    },
    "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "peer"}},
}
SLOW = dict(
    GRAPH,
    **{
        "5": {
            "class_type": "SimSleep",
            "inputs": {"seconds": 30, "steps": 600, "filename_prefix": "x"},
        }
    },
)


def http():
    client = httpx2.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}, timeout=60)
    return streamable_http_client(URL, http_client=client)


def stdio():
    environment = {"COMFYUI_API_KEY": KEY}
    return stdio_client(
        StdioServerParameters(command=BINARY, args=["mcp", "--url", URL], env=environment)
    )


async def fails(what):
    try:
        await what
    except MCPError as error:
        return error
    raise AssertionError("it did not fail")


async def converse(transport, mode, gives_up):
    async with Client(transport, mode=mode) as client:
        assert mode != "auto" or client.protocol_version == "2026-07-28", client.protocol_version
        assert mode != "legacy" or client.protocol_version == "2025-11-25", client.protocol_version
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names[:2] == ["square", "run_graph"], names
        told = []

        async def tell(progress, total, message):
            told.append((progress, total, message))

        result = await client.call_tool("run_graph", {"graph": GRAPH}, progress_callback=tell)
        assert not result.is_error, result
        job = result.structured_content
        assert job["status"] == "succeeded" and job["outputs"][0]["width"] == 40, job
        assert [block.type for block in result.content] == ["text", "image", "resource_link"]
        assert told and job["id"] in told[0][2] and told[0][1] == 100, told
        read = await client.read_resource(str(result.content[2].uri))
        assert base64.b64decode(read.contents[0].blob).startswith(b"\x89PNG")
        assert any(
            str(one.uri) == job["outputs"][0]["uri"]
            for one in (await client.list_resources()).resources
        )
        assert (await client.list_resource_templates()).resource_templates
        wrong = await client.call_tool("square", {"width": 5000})
        assert wrong.is_error and any(
            "input.width: " in getattr(block, "text", "") for block in wrong.content
        ), wrong
        for name, arguments in [
            ("list_jobs", {}),
            ("list_models", {}),
            ("search_nodes", {"query": "image"}),
            ("describe_node", {"class_type": "KSampler"}),
            ("create_upload", {"filename": "x.png"}),
            ("get_job", {"id": job["id"]}),
        ]:
            answer = await client.call_tool(name, arguments)
            assert not answer.is_error and answer.structured_content, (name, answer)
        assert (await fails(client.call_tool("nope", {}))).error.code == -32602
        assert (await fails(client.list_prompts())).error.code == -32601
        assert (
            await fails(client.read_resource("comfyui://jobs/x/outputs/0"))
        ).error.code == -32602
        if not gives_up:
            return
        await fails(client.call_tool("run_graph", {"graph": SLOW}, read_timeout_seconds=1))
        for _ in range(100):
            newest = (await client.call_tool("list_jobs", {"limit": 1})).structured_content["jobs"][
                0
            ]
            if newest["status"] == "interrupted":
                break
            await asyncio.sleep(0.1)
        assert newest["status"] == "interrupted", newest


async def main():
    for transport in (http, stdio):
        for mode in ("legacy", "auto", "2026-07-28"):
            # Over HTTP the client keeps the connection of a request that it has given up, in the
            # handshake revisions.
            gives_up = mode != "legacy" or transport is stdio
            await asyncio.wait_for(converse(transport(), mode, gives_up), 60)
            print(transport.__name__, mode)
    print("ok")


asyncio.run(main())
