"""Does what three clients do with the configuration entries of README.md: connects, and lists the
tools.

Arguments: the README, the server's port, the binary. Only the port and the place of the binary are
replaced.
"""

import asyncio
import json
import re
import sys

import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

README, PORT, BINARY = sys.argv[1:4]


def entries():
    for body in re.findall(r"^```json\n(.*?)^```$", open(README).read(), re.M | re.S):
        entry = json.loads(body.replace("localhost:3000", f"127.0.0.1:{PORT}"))
        for key in ("servers", "mcpServers"):
            yield from entry.get(key, {}).values()


def transport(entry):
    if "command" in entry:
        assert entry["command"] == "comfyui-api"
        return stdio_client(
            StdioServerParameters(command=BINARY, args=entry["args"], env=entry["env"])
        )
    client = httpx2.AsyncClient(headers=entry["headers"], timeout=30)
    return streamable_http_client(entry["url"], http_client=client)


async def main():
    found = list(entries())
    assert len(found) == 3, found
    for entry in found:
        async with Client(transport(entry), mode="auto") as client:
            assert "run_graph" in [tool.name for tool in (await client.list_tools()).tools]
    print("ok")


asyncio.run(main())
