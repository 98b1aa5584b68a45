import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { load } from "./setup.mjs";

const root = fileURLToPath(new URL("../../../src/transport/console", import.meta.url));

test("an event stream is understood however it is cut", async () => {
  const { EventParser } = await load("api.js");
  const text =
    ': hello\n\nevent: queue\ndata: {"a":1}\n\n' +
    "event: log\r\ndata: one\r\ndata: two\r\nid: 7\r\n\r\ndata:x\n\nevent: empty\n\n";
  const expected = [
    { event: "queue", data: '{"a":1}' },
    { event: "log", data: "one\ntwo" },
    { event: "message", data: "x" },
  ];
  for (const size of [1, 2, 3, 7, 1000]) {
    const parser = new EventParser();
    const events = [];
    for (let at = 0; at < text.length; at += size)
      events.push(...parser.push(text.slice(at, at + size)));
    assert.deepEqual(events, expected, `pieces of ${size}`);
  }
});

test("addresses are relative to the page, whatever the prefix", async () => {
  const { address, plainName } = await load("api.js");
  assert.equal(address("queue"), "http://localhost:3000/some/prefix/queue");
  assert.equal(plainName('C:\\Users\\me\\a "b".png'), "a _b_.png");
  assert.equal(plainName("../../.hidden"), "hidden");
  assert.equal(plainName(""), "file");
});

test("routes", async () => {
  const { parseRoute, addressOf } = await load("router.js");
  assert.deepEqual(parseRoute(""), { page: "playground", id: "" });
  assert.deepEqual(parseRoute("#/queue"), { page: "queue", id: "" });
  assert.deepEqual(parseRoute(addressOf("history", "a/b c%")), { page: "history", id: "a/b c%" });
  assert.deepEqual(parseRoute("#/nowhere"), { page: "missing", id: "" });
  assert.deepEqual(parseRoute("#/history/%E0%A4%A"), { page: "history", id: "%E0%A4%A" });
});

test("what the stream tells is merged, the newest first, and bounded", async () => {
  const { merged } = await load("live.js");
  const known = [
    { id: "b", v: 1 },
    { id: "a", v: 1 },
  ];
  assert.deepEqual(merged(null, known, 10), known);
  assert.deepEqual(
    merged(
      known,
      [
        { id: "c", v: 1 },
        { id: "a", v: 2 },
      ],
      10,
    ),
    [
      { id: "c", v: 1 },
      { id: "b", v: 1 },
      { id: "a", v: 2 },
    ],
  );
  assert.equal(merged(known, [{ id: "c" }], 2).length, 2);
});

test("the state of ComfyUI is one of five words", async () => {
  const { stateWord } = await load("shell.js");
  assert.equal(stateWord(null), "starting");
  for (const word of ["starting", "ready", "restarting", "down", "draining"])
    assert.equal(stateWord({ ready: word === "ready", comfyui: { state: word } }), word);
  assert.equal(
    stateWord({ ready: false, reason: "the server is draining", comfyui: { state: "ready" } }),
    "draining",
  );
});

test("log lines are joined without doubles, filtered by level", async () => {
  const { joined, isAtLeast } = await load("health/log.js");
  const line = (time, text, level) => ({ time, source: "server", text, level });
  const all = joined([line(1, "a"), line(2, "b")], [line(2, "b"), line(3, "c")]);
  assert.deepEqual(
    all.map((one) => one.text),
    ["a", "b", "c"],
  );
  assert.equal(
    joined(
      [],
      Array.from({ length: 12_000 }, (_, index) => line(index, "x")),
    ).length,
    10_000,
  );
  assert.ok(
    isAtLeast(line(1, "x", "ERROR"), "warn") &&
      !isAtLeast(line(1, "x", "info"), "warn") &&
      !isAtLeast(line(1, "x"), "error") &&
      isAtLeast(line(1, "x"), "info"),
  );
});

test("history shows what fits its filters", async () => {
  const { fits } = await load("pages/history.js");
  const item = {
    id: "Order-7",
    status: "failed",
    source: "http",
    workflow: "txt2img",
    error: "CUDA out of memory",
  };
  const none = { q: "", status: "", source: "", workflow: "" };
  assert.ok(
    fits(item, none) &&
      fits(item, { ...none, q: "order" }) &&
      fits(item, { ...none, q: "cuda" }) &&
      fits(item, { ...none, status: "failed", source: "http", workflow: "txt2img" }),
  );
  assert.ok(!fits(item, { ...none, q: "zzz" }) && !fits(item, { ...none, status: "succeeded" }));
});

test("what was too large to be remembered stays empty", async () => {
  const { hasOmitted, withoutOmitted, endpoint, fromHistory } = await load("play/handoff.js");
  const input = { image: { omitted: 5000 }, text: "x", list: [1, { omitted: 2, other: 1 }] };
  assert.ok(hasOmitted(input) && !hasOmitted({ a: { omitted: 1, b: 2 } }));
  assert.deepEqual(withoutOmitted(input), { text: "x", list: [1, { omitted: 2, other: 1 }] });
  for (const path of ["txt2img", "/workflow/txt2img", "workflow/txt2img"])
    assert.equal(endpoint(path), "workflow/txt2img");
  const opened = fromHistory({
    workflow: "a/b",
    request: { input, id: "1", keep: true, async: true, convert_output: { format: "jpeg" } },
  });
  assert.deepEqual(opened, {
    workflow: "workflow/a/b",
    input: { text: "x", list: input.list },
    options: { convert_output: { format: "jpeg" } },
    omitted: true,
  });
});

test("an archive can be opened", async () => {
  const { zip, crc32 } = await load("files/zip.js");
  assert.equal(crc32(new TextEncoder().encode("123456789")), 0xcbf43926);
  const archive = await zip([
    { name: "ä.txt", content: new Blob(["one"]) },
    { name: "b/c.bin", content: new Blob([new Uint8Array(100_000).fill(7)]) },
  ]);
  const directory = mkdtempSync(join(tmpdir(), "console-zip-"));
  writeFileSync(join(directory, "x.zip"), Buffer.from(await archive.arrayBuffer()));
  const script =
    "import sys,zipfile; z=zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; " +
    "print([(i.filename,i.file_size) for i in z.infolist()])";
  const { stdout, stderr } = spawnSync("python3", ["-c", script, join(directory, "x.zip")], {
    encoding: "utf8",
  });
  rmSync(directory, { recursive: true });
  assert.equal(stdout.trim(), "[('ä.txt', 3), ('b/c.bin', 100000)]", stderr);
});

test("the minute's count and the line of a sparkline", async () => {
  const { inFlight, perMinute, path } = await load("health/sparkline.js");
  const now = Date.parse("2026-01-01T00:10:00Z");
  const ended = (ago) => ({ finished_at: new Date(now - ago * 1000).toISOString() });
  const counts = perMinute([ended(1), ended(59), ended(61), ended(599), ended(601)], now).map(
    ([, count]) => count,
  );
  assert.deepEqual(counts, [1, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
  assert.equal(path([], now, 1).line, "");
  assert.match(path([[now - 300_000, 50]], now, 100).line, /^M120\.0 24\.0L240 24\.0$/);
  assert.deepEqual(
    perMinute([ended(1)], now, now - 150_000).map(([, count]) => count),
    [0, 1],
    "what is not known is not drawn",
  );
  const runs = [
    { created_at: "2026-01-01T00:00:00Z", finished_at: "2026-01-01T00:00:07Z" },
    { created_at: "2026-01-01T00:00:05Z" },
  ];
  const start = Date.parse("2026-01-01T00:00:00Z");
  assert.deepEqual(
    inFlight(runs, start, start + 15_000).map(([, count]) => count),
    [1, 2, 1],
  );
});

test("sizes and durations", async () => {
  const format = await load("format.js");
  assert.deepEqual([0, 999, 1500, 23_800_000_000].map(format.size), [
    "0 B",
    "999 B",
    "1.50 kB",
    "23.8 GB",
  ]);
  assert.deepEqual([0.042, 3.44, 59.6, 75, 3700].map(format.duration), [
    "42 ms",
    "3.4 s",
    "60 s",
    "1 min 15 s",
    "1 h 1 min",
  ]);
});

test("every text has a translation, and every translation is used", async () => {
  const table = (await load("zh.js")).default;
  const files = readdirSync(root, { recursive: true }).filter(
    (name) => name.endsWith(".js") && name !== "zh.js",
  );
  const source = files.map((name) => readFileSync(join(root, name), "utf8")).join("\n");
  const texts = new Set();
  for (const [, text] of source.matchAll(/\bt\(\s*"((?:[^"\\]|\\.)*)"/g))
    texts.add(JSON.parse(`"${text}"`));
  for (const [, one, other] of source.matchAll(/\bplural\([^"]*"([^"]*)",\s*"([^"]*)"/g))
    texts.add(one).add(other);
  assert.ok(texts.size > 200);
  assert.deepEqual(
    [...texts].filter((text) => !(text in table)),
    [],
    "without a translation",
  );
  assert.deepEqual(
    Object.keys(table).filter(
      (text) => !texts.has(text) && !source.includes(`"${text}"`) && !/^ComfyUI is /.test(text),
    ),
    [],
    "not used",
  );
  const holes = (text) => (text.match(/\{\w+\}/g) ?? []).sort().join();
  for (const [english, chinese] of Object.entries(table))
    assert.equal(holes(chinese), holes(english), english);
});

/** The modules that a module needs before it can run. */
function needed(name, found = new Set()) {
  if (found.has(name)) return found;
  found.add(name);
  const source = readFileSync(join(root, name), "utf8");
  for (const [, path] of source.matchAll(/^(?:import|export) (?:[^;"]* from )?"(\.[^"]+)";$/gm))
    needed(join(name, "..", path), found);
  return found;
}

test("what is fetched ahead is what the pages need, the early bar is the real one", async () => {
  const html = readFileSync(join(root, "index.html"), "utf8");
  const first = readFileSync(join(root, "first.js"), "utf8");
  const constants = Object.fromEntries(
    [...first.matchAll(/const (\w+) =\s+"([^"]+)";/g)].map(([, name, text]) => [name, text]),
  );
  const { PAGES } = await load("router.js");
  const zh = (await load("zh.js")).default;
  for (const page of PAGES) {
    const [, title, chinese, modules] = new RegExp(
      `${page}: \\[\\s*"([^"]+)",\\s+"([^"]+)",\\s+[\`"]([^\`"]+)[\`"],?\\s*\\]`,
    ).exec(first);
    const named = modules
      .replace(/\$\{(\w+)\}/g, (_, name) => constants[name])
      .split(" ")
      .map((name) => (/\W/.test(name) ? name : `pages/${name}.js`));
    assert.deepEqual(
      [...new Set([...constants.core.split(" "), ...named])].sort(),
      [...needed(`pages/${page}.js`, needed("app.js")).add("format.js")].sort(),
      page,
    );
    assert.equal(zh[title], chinese);
    assert.match(
      html,
      new RegExp(
        `<a href="#/${page === "playground" ? "" : page}"><i class="icon"></i>` +
          `<span>${title}</span></a>`,
      ),
    );
  }
});

test("of long tables only what is near the window is there", async () => {
  const { near } = await load("rows.js");
  const heights = [10, 20, 30, 40, 50];
  const look = (from, to) => Object.values(near(5, (index) => heights[index], from, to));
  assert.deepEqual(look(-100, 1000), [0, 5, 0, 0]);
  assert.deepEqual(look(30, 100), [2, 4, 30, 50]);
  assert.deepEqual(look(35, 60), [2, 3, 30, 90]);
  assert.deepEqual(look(-500, 0), [0, 0, 0, 150]);
  assert.deepEqual(look(150, 400), [5, 5, 150, 0]);
  assert.deepEqual(look(0, 0), [0, 0, 0, 150]);
  for (let from = -50; from < 200; from += 7) {
    const [first, last, above, below] = look(from, from + 45);
    assert.equal(
      above + heights.slice(first, last).reduce((sum, one) => sum + one, 0) + below,
      150,
    );
  }
});

test("several directories on one file system are one disk", async () => {
  const { disksOf } = await load("pages/health.js");
  const disks = disksOf({
    disks: [
      { name: "OUTPUT_DIR", path: "/o", total: 1000, free: 400 },
      { name: "MODEL_DIR", path: "/m", total: 5000, free: 400 },
      { name: "INPUT_DIR", path: "/i", total: 1000, free: 400 },
    ],
  });
  assert.deepEqual(
    disks.map(({ name, used }) => [name, used]),
    [
      ["Disk: OUTPUT_DIR, INPUT_DIR", 600],
      ["Disk: MODEL_DIR", 4600],
    ],
  );
});

test("a run that ComfyUI died of and that begins anew is not given up", async () => {
  const { Run } = await load("play/run.js");
  const before = globalThis.fetch;
  let status = "running";
  globalThis.fetch = async () => Response.json({ id: "again", status });
  try {
    const run = new Run({
      path: "prompt",
      body: { id: "again" },
      label: "",
      classes: {},
      code: { path: "", body: {} },
    });
    await run.collect();
    assert.equal(run.ended(), 0);
    status = "succeeded";
    await run.collect();
    assert.equal(run.state().status, "succeeded");
  } finally {
    globalThis.fetch = before;
  }
});

test("what was measured before joins what was seen, in order and once", async () => {
  const { remember, series } = await load("live.js");
  series.memory = [
    [50_000, 3],
    [60_000, 4],
  ];
  remember("memory", [
    [30_000, 1],
    [40_000, 2],
    [50_900, 9],
  ]);
  assert.deepEqual(series.memory, [
    [30_000, 1],
    [40_000, 2],
    [50_000, 3],
    [60_000, 4],
  ]);
});
