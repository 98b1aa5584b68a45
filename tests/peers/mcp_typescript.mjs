// Both official TypeScript clients against a running server: the one of the handshake revisions,
// and the one of both eras. Argument: the server's address. The key is in COMFYUI_API_KEY, the
// packages in TEST_NODE_MODULES. The last line of a success is "ok".

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.env.TEST_NODE_MODULES}/x.js`);
const load = async (name) => import(pathToFileURL(require.resolve(name)));
const url = new URL(process.argv[2]);
const headers = { Authorization: `Bearer ${process.env.COMFYUI_API_KEY}` };
const graph = {
  1: { class_type: "EmptyImage", inputs: { width: 40, height: 30, batch_size: 1, color: 255 } },
  9: { class_type: "SaveImage", inputs: { images: ["1", 0], filename_prefix: "peer" } },
};

async function converse(client, transport, call) {
  await client.connect(transport);
  const { tools } = await client.listTools();
  assert.deepEqual(
    tools.slice(0, 2).map((tool) => tool.name),
    ["square", "run_graph"],
  );
  const told = [];
  const result = await call(
    client,
    { name: "run_graph", arguments: { graph } },
    { onprogress: (progress) => told.push(progress) },
  );
  assert.equal(result.structuredContent.status, "succeeded");
  assert.deepEqual(
    result.content.map((block) => block.type),
    ["text", "image", "resource_link"],
  );
  assert.ok(told[0].message.includes(result.structuredContent.id));
  const read = await client.readResource({ uri: result.content[2].uri });
  assert.ok(Buffer.from(read.contents[0].blob, "base64").subarray(1, 4).equals(Buffer.from("PNG")));
  const wrong = await call(client, { name: "square", arguments: { width: 5000 } });
  assert.ok(
    wrong.isError && wrong.content.some((block) => block.text?.startsWith("input.width: ")),
  );
  const found = await call(client, { name: "search_nodes", arguments: { query: "ksampler" } });
  assert.ok(found.structuredContent.nodes.length > 0);
  await assert.rejects(call(client, { name: "nope", arguments: {} }));
  await client.close();
}

{
  const { Client } = await load("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport } = await load(
    "@modelcontextprotocol/sdk/client/streamableHttp.js",
  );
  const transport = new StreamableHTTPClientTransport(url, { requestInit: { headers } });
  const client = new Client({ name: "test", version: "1" });
  await converse(client, transport, (client, request, options) =>
    client.callTool(request, undefined, options),
  );
  console.log("sdk");
}
{
  const { Client, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client");
  const transport = new StreamableHTTPClientTransport(url, { requestInit: { headers } });
  const client = new Client({ name: "test", version: "1" });
  await converse(client, transport, (client, request, options) =>
    client.callTool(request, options),
  );
  console.log("client");
}
console.log("ok");
