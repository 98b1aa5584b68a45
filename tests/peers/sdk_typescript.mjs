// Every public method of the official TypeScript SDK (@comfyorg/sdk) but `models`, against a server
// whose ComfyUI is the simulator. Usage: COMFY_BASE_URL=http://host:port node sdk_typescript.mjs <a
// directory for files>; prints "ok" at the end.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { randomBytes, randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { join } from "node:path";

const root = process.env.TEST_NODE_MODULES ?? "";
const sdk = root
  ? await import(join(root, "@comfyorg/sdk/dist/index.js"))
  : await import("@comfyorg/sdk");
const { Comfy } = sdk;
const directory = process.argv[2];
const client = new Comfy(process.env.COMFY_API_KEY ? { apiKey: process.env.COMFY_API_KEY } : {});

const graph = (color = 255) => ({
  1: { class_type: "EmptyImage", inputs: { width: 64, height: 64, batch_size: 1, color } },
  9: { class_type: "SaveImage", inputs: { images: ["1", 0], filename_prefix: "ComfyUI" } },
});
const slow = (seconds) => ({
  ...graph(Math.floor(Math.random() * 0xffffff)),
  5: { class_type: "SimSleep", inputs: { seconds, steps: Math.ceil(seconds * 10) } },
});
const refused = async (name, work) => {
  const error = await work().then(
    () => null,
    (error) => error,
  );
  assert.equal(error?.constructor?.name, name, String(error));

  return error;
};
const all = async (events) => {
  const list = [];
  for await (const event of events) list.push(event);
  return list;
};
const checkEvents = (events, job) => {
  const last = events.at(-1);
  assert.equal(last.status, job.status, JSON.stringify(events));
  const shown = events
    .filter((event) => event.output)
    .map((event) => event.output.id)
    .sort();
  assert.deepEqual(shown, job.outputs.map((output) => output.id).sort());
};

await writeFile(join(directory, "graph.json"), JSON.stringify(graph()));
let job;
for (const workflow of [
  client.workflows.fromJson(graph()),
  client.workflows.fromString(JSON.stringify(graph())),
  await client.workflows.fromFile(join(directory, "graph.json")),
]) {
  job = await client.run(workflow);
  assert.equal(job.status, "succeeded");
}
const [output] = job.getOutputs("9");
const bytes = Buffer.from(await output.toBytes());
assert.equal(bytes.length, output.sizeBytes);
assert.deepEqual(Buffer.from(await output.toBytes({ range: [0, 3] })), bytes.subarray(0, 4));
await output.toFile(join(directory, "out.png"));
assert.deepEqual(await readFile(join(directory, "out.png")), bytes);
assert.ok((await output.getDownloadUrl()).url);

const unique = Buffer.concat([bytes, randomBytes(8)]);
await writeFile(join(directory, "in put.png"), bytes);
const assets = [
  client.assets.fromFile(join(directory, "in put.png")),
  client.assets.fromBytes(unique, { filename: 'a "b".png', contentType: "image/png" }),
  await client.assets.fromStream(Readable.from([bytes, randomBytes(4)]), { filename: "ü.png" }),
];
for (const asset of assets) {
  const id = await asset.commit();
  assert.equal((await asset.asReference()).info.id, id);
  assert.match(await asset.hash(), /^blake3:[0-9a-f]{64}$/);
  assert.equal((await client.assets.get(id)).id, id);
}
const workflow = client.workflows.fromJson({
  1: { class_type: "LoadImage", inputs: { image: "x" } },
  9: { class_type: "SaveImage", inputs: { images: ["1", 0], filename_prefix: "again" } },
});
workflow.setInput("1", "image", assets[0]);
job = await client.submit(workflow, { metadata: { who: "ts" } });
const events = [];
for await (const event of job.events()) events.push(event);
await job.refresh();
checkEvents(events, job);
assert.equal((await job.result()).status, "succeeded");
assert.equal((await job.getWorkflow()).format, "api");
checkEvents(await all(job.events()), job);
await client.assets.delete(assets[1].id);
await assets[2].delete();

job = await client.submit(client.workflows.fromJson(slow(60)));
const waiting = await client.submit(client.workflows.fromJson(slow(61)));
await waiting.cancel();
assert.equal(waiting.status, "canceled");
await job.cancel();
assert.equal((await job.wait(20000)).status, "canceled");
assert.equal((await (await client.jobs.get(job.id)).wait(1000)).status, "canceled");

const many = await Promise.all(
  Array.from({ length: 32 }, (_, n) => client.run(client.workflows.fromJson(graph(n)))),
);
assert.ok(many.every((job) => job.status === "succeeded" && job.outputs.length === 1));

const key = randomUUID();
await client.submit(client.workflows.fromJson(graph()), { idempotencyKey: key });
await refused("IdempotencyKeyReuse", () =>
  client.submit(client.workflows.fromJson(graph()), { idempotencyKey: key }),
);
await refused("InvalidWorkflow", () =>
  client.submit(client.workflows.fromJson({ 1: { class_type: "NoSuchNode", inputs: {} } })),
);
await refused("NotFound", () => client.jobs.get(randomUUID()));
console.log("ok");
