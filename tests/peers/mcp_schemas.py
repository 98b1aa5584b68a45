"""Every answer of a server in every revision against the shapes of that revision, as the official
Python package has them; and against the published JSON schemas, if MCP_SCHEMAS names a folder with
them (`<revision>.json`, from schema/ of the protocol's repository).

Arguments: the server's address. The key is in COMFYUI_API_KEY. The last line of a success is "ok".
"""

import json
import os
import sys
import urllib.error
import urllib.request

from jsonschema.validators import validator_for
from mcp_types import methods

URL, KEY = sys.argv[1], os.environ["COMFYUI_API_KEY"]
REVISIONS = ["2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]
FOLDER = os.environ.get("MCP_SCHEMAS")
NAMES = {
    "initialize": "InitializeResult",
    "server/discover": "DiscoverResult",
    "ping": "EmptyResult",
    "tools/list": "ListToolsResult",
    "tools/call": "CallToolResult",
    "resources/list": "ListResourcesResult",
    "resources/read": "ReadResourceResult",
    "resources/templates/list": "ListResourceTemplatesResult",
}
GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 40, "height": 30, "batch_size": 1, "color": 255},
    },
    "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "shape"}},
}
FAILS = {"1": {"class_type": "SimFail", "inputs": {"message": "no"}}}
TEXT = {"3": {"class_type": "PreviewAny", "inputs": {"source": "a fox"}}}
SOUND = {
    "1": {
        "class_type": "SimBlob",
        "inputs": {"bytes": 1000, "filename_prefix": "s", "extension": "wav"},
    }
}
checked = 0


def published(revision, name, value):
    if FOLDER is None:
        return
    schema = json.load(open(f"{FOLDER}/{revision}.json"))
    place = "$defs" if "$defs" in schema else "definitions"
    if name not in schema[place]:
        name = {"JSONRPCErrorResponse": "JSONRPCError", "JSONRPCResultResponse": "JSONRPCResponse"}[
            name
        ]
    schema = {**schema, "$ref": f"#/{place}/{name}"}
    errors = list(validator_for(schema)(schema).iter_errors(value))
    assert not errors, (revision, name, [error.message[:300] for error in errors], str(value)[:500])


def ask(revision, method, params=None, token=None):
    """All messages of the answer."""
    params = dict(params or {})
    headers = {
        "Authorization": f"Bearer {KEY}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    if method != "initialize":
        headers["MCP-Protocol-Version"] = revision
    meta = {} if token is None else {"progressToken": token}
    if revision == "2026-07-28":
        headers["Mcp-Method"] = method
        named = params.get("name") or params.get("uri")
        if named:
            headers["Mcp-Name"] = named
        meta["io.modelcontextprotocol/protocolVersion"] = revision
        meta["io.modelcontextprotocol/clientCapabilities"] = {}
    if meta:
        params["_meta"] = meta
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    try:
        answer = urllib.request.urlopen(urllib.request.Request(URL, body, headers), timeout=60)
    except urllib.error.HTTPError as error:
        answer = error
    text = answer.read().decode()
    if answer.headers["content-type"].startswith("text/event-stream"):
        return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(text)]


def check(revision, method, params=None, token=None):
    global checked
    messages = ask(revision, method, params, token)
    for note in messages[:-1]:
        methods.parse_server_notification(note["method"], revision, note["params"])
        published(revision, "ProgressNotification", note)
        checked += 1
    last = messages[-1]
    if "error" in last:
        assert isinstance(last["error"]["code"], int) and last["error"]["message"], last
        published(revision, "JSONRPCErrorResponse", last)
    else:
        methods.validate_server_result(method, revision, last["result"])
        published(revision, "JSONRPCResultResponse", last)
        published(revision, NAMES[method], last["result"])
    checked += 1
    return last


def tool(revision, name, arguments, token=None):
    answer = check(revision, "tools/call", {"name": name, "arguments": arguments}, token)
    return answer["result"]


for revision in REVISIONS:
    if revision == "2026-07-28":
        check(revision, "server/discover")
    else:
        hello = {
            "protocolVersion": revision,
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        }
        check(revision, "initialize", hello)
        check(revision, "ping")
    tools = check(revision, "tools/list")["result"]["tools"]
    schemas = {one["name"]: one.get("outputSchema") for one in tools}
    for one in tools:
        for name in ("inputSchema", "outputSchema"):
            if one.get(name) is not None:
                validator_for(one[name]).check_schema(one[name])
    done = tool(revision, "run_graph", {"graph": GRAPH}, token="p")
    for name, arguments in [
        ("run_graph", {"graph": FAILS}),
        ("run_graph", {"graph": TEXT}),
        ("run_graph", {"graph": SOUND}),
        ("run_graph", {"graph": {"1": {"class_type": "Nope", "inputs": {}}}}),
        ("run_graph", {"graph": GRAPH, "wait_s": 0}),
        ("run_graph", {}),
        ("square", {"width": 5000}),
        ("list_jobs", {}),
        ("list_models", {}),
        ("search_nodes", {"query": "image"}),
        ("describe_node", {"class_type": "KSampler"}),
        ("create_upload", {"filename": "x.png"}),
        ("get_job", {"id": json.loads(done["content"][0]["text"])["id"]}),
        ("get_job", {"id": "nope"}),
        ("download_model", {"url": "http://127.0.0.1:1/x.safetensors", "folder": "loras"}),
    ]:
        result = tool(revision, name, arguments)
        structured = result.get("structuredContent")
        if structured is not None and schemas.get(name):
            errors = list(validator_for(schemas[name])(schemas[name]).iter_errors(structured))
            assert not errors, (name, [error.message for error in errors], structured)
            checked += 1
    check(revision, "resources/list")
    check(revision, "resources/templates/list")
    uri = f"comfyui://jobs/{json.loads(done['content'][0]['text'])['id']}/outputs/0"
    for uri in (uri, "comfyui://logs/comfyui", "comfyui://nope"):
        check(revision, "resources/read", {"uri": uri})
    check(revision, "tools/call", {"name": "nope"})
    check(revision, "prompts/list")
print(checked, "messages")
print("ok")
