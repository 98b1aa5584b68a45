// The code is really run: what arrives is the request, and the files are where it says.
import assert from "node:assert/strict";
import { spawnSync, spawn } from "node:child_process";
import { createServer } from "node:http";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { load } from "./setup.mjs";

const { curl, python, javascript, FileRef, withFiles } = await load("play/code.js");

const body = {
  input: {
    prompt: "a 'quoted' \"text\"\nwith $HOME, `ticks`, \\ and 灯塔 😀",
    steps: 8,
    cfg: 7.5,
    flag: true,
    nothing: null,
    list: [1, [], {}],
    long: "x".repeat(200),
    image: new FileRef("my photo's.png"),
  },
  convert_output: { format: "jpeg", options: {} },
};
let server;
let url;
let directory;
const received = [];

before(async () => {
  directory = mkdtempSync(join(tmpdir(), "console-code-"));
  writeFileSync(join(directory, "my photo's.png"), Buffer.from([137, 80, 78, 71, 0, 255]));
  server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    received.push({
      url: request.url,
      headers: request.headers,
      body: JSON.parse(Buffer.concat(chunks).toString()),
    });
    response.setHeader("content-type", "application/json");
    response.end(
      JSON.stringify({
        filenames: ["a/../out.bin", "far.png"],
        images: [Buffer.from("result").toString("base64"), "s3://bucket/far.png"],
      }),
    );
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  url = `http://127.0.0.1:${server.address().port}/it's/prompt`;
});
after(() => {
  server.close();
  rmSync(directory, { recursive: true });
});

const run = (command, parameters, input) =>
  new Promise((resolve) => {
    const child = spawn(command, parameters, {
      cwd: directory,
      env: {
        ...process.env,
        COMFYUI_API_KEY: "k-1",
        http_proxy: "",
        HTTP_PROXY: "",
        no_proxy: "*",
      },
    });
    let output = "";
    child.stdout.on("data", (data) => (output += data));
    child.stderr.on("data", (data) => (output += data));
    child.on("close", (code) => resolve({ code, output }));
    child.stdin.end(input ?? "");
  });

const expected = {
  ...body,
  input: { ...body.input, image: Buffer.from([137, 80, 78, 71, 0, 255]).toString("base64") },
};

async function check(command, parameters, input) {
  received.length = 0;
  const { code, output } = await run(command, parameters, input);
  assert.equal(code, 0, output);
  assert.deepEqual(received[0].body, expected);
  assert.equal(received[0].headers.authorization, "Bearer k-1");
  assert.equal(decodeURIComponent(received[0].url), "/it's/prompt");
  return output;
}

test("curl", { skip: spawnSync("curl", ["--version"]).error && "no curl" }, async () => {
  await check("sh", ["-s"], curl(url, body));
  assert.equal(JSON.parse(readFileSync(join(directory, "result.json"))).images.length, 2);
});

test("curl without files does not expand anything", async () => {
  const plain = {
    prompt: { 1: { class_type: "A", inputs: { text: "$(rm -rf /) `x` $HOME \\" } } },
  };
  received.length = 0;
  const { code } = await run("sh", ["-s"], curl(url, plain));
  assert.equal(code, 0);
  assert.deepEqual(received[0].body, plain);
});

test("Python", async () => {
  writeFileSync(join(directory, "run.py"), python(url, body));
  const output = await check("python3", ["run.py"]);
  assert.equal(readFileSync(join(directory, "out.bin"), "utf8"), "result");
  assert.match(output, /far\.png s3:\/\/bucket/);
  rmSync(join(directory, "out.bin"));
});

test("JavaScript", async () => {
  writeFileSync(join(directory, "run.mjs"), javascript(url, body));
  const output = await check(process.execPath, ["run.mjs"]);
  assert.equal(readFileSync(join(directory, "out.bin"), "utf8"), "result");
  assert.match(output, /far\.png s3:\/\/bucket/);
});

test("large media inside a request become files, texts do not", () => {
  const replaced = withFiles({
    prompt: { 1: { inputs: { image: "A".repeat(5000), text: "word ".repeat(1000) } } },
  });
  assert.ok(replaced.prompt[1].inputs.image instanceof FileRef);
  assert.equal(typeof replaced.prompt[1].inputs.text, "string");
});
