import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import {
  closeBrowser,
  demo,
  failing,
  freePort,
  graph,
  open,
  receiver,
  slow,
  until,
} from "./harness.mjs";

let server;
let origin;
let files;
let spool;
before(async () => {
  spool = mkdtempSync(join(tmpdir(), "console-spool-"));
  server = await demo({
    KEEP_RUNS: "true",
    WEBHOOK_SPOOL_DIR: spool,
    WEBHOOK_SECRET: "hidden-secret-value",
  });
  const port = await freePort();
  // A model that comes slowly, and one that is not there.
  files = http.createServer((request, response) => {
    if (request.url.startsWith("/gone")) return response.writeHead(404).end("no");
    const header = Buffer.from('{"__metadata__":{"format":"pt"}}');
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    const body = Buffer.concat([length, header, Buffer.alloc(400_000)]);
    response.writeHead(200, {
      "content-length": body.length,
      "content-type": "application/octet-stream",
    });
    if (request.method === "HEAD") return response.end();
    if (!request.url.startsWith("/slow")) return response.end(body);
    let at = 0;
    const timer = setInterval(() => {
      response.write(body.subarray(at, at + 4000));
      at += 4000;
      if (at >= body.length) {
        clearInterval(timer);
        response.end();
      }
    }, 60);
    response.on("close", () => clearInterval(timer));
    return undefined;
  });
  await new Promise((ready) => files.listen(port, "127.0.0.1", ready));
  origin = `http://127.0.0.1:${port}`;
});
after(async () => {
  await closeBrowser();
  await server.stop();
  files.closeAllConnections();
  files.close();
  rmSync(spool, { recursive: true, force: true });
});

async function submit(prompt, more = {}) {
  const answer = await server.ask("prompt", {
    method: "POST",
    json: { prompt, keep: true, async: true, ...more },
  });
  assert.equal(answer.status, 202, JSON.stringify(answer.body));
}
const row = (scope, id) => scope.getByRole("row").filter({ hasText: id });

test("the queue shows what runs and waits, live; one and all are cancelled", async () => {
  const { page, close } = await open(`${server.url}console/#/queue`);
  assert.equal(await page.title(), "Queue - comfyui-api");
  const region = (name) => page.getByRole("region", { name, exact: true });
  await region("Running").getByRole("table").waitFor({ state: "attached" });
  // One after the other: the first runs, the others wait behind it.
  for (const id of ["q-1", "q-2", "q-3", "q-4"]) await submit(slow(60), { id });

  await row(region("Running"), "q-1").waitFor();
  for (const id of ["q-2", "q-3", "q-4"]) await row(region("Waiting"), id).waitFor();
  await page
    .getByRole("status", { name: "Server state", exact: true })
    .filter({ hasText: /^ready$/ })
    .waitFor();
  await page.getByRole("button", { name: "Cancel q-3", exact: true }).click();
  await row(region("Finished"), "q-3").waitFor();
  await page.getByRole("button", { name: "Cancel all waiting", exact: true }).click();
  const question = page.getByRole("alertdialog");
  await question.getByRole("button", { name: "Cancel", exact: true }).click();
  await question.waitFor({ state: "hidden" });
  assert.equal(
    await page.evaluate(() => document.activeElement.textContent),
    "Cancel all waiting",
    "the focus comes back",
  );
  await page.getByRole("button", { name: "Cancel all waiting", exact: true }).click();
  await question.getByRole("button", { name: "Confirm", exact: true }).click();
  for (const id of ["q-2", "q-4"]) await row(region("Finished"), id).waitFor();
  await row(region("Running"), "q-1").waitFor();
  await page.getByRole("button", { name: "Cancel q-1", exact: true }).click();
  await row(region("Finished"), "q-1").filter({ hasText: "interrupted" }).waitFor();
  await close();
});

test("history: filters, one run in full, run again, open in playground, delete", async () => {
  await submit(graph("for the history"), { id: "h-good" });
  await submit(failing("for the history, too"), { id: "h-bad" });
  await until(
    "both ended",
    async () =>
      (await server.ask("history/h-bad")).body.status === "failed" &&
      (await server.ask("history/h-good")).body.status === "succeeded",
  );
  const { page, close } = await open(`${server.url}console/#/history`);
  const table = page.getByRole("table", { name: "Runs", exact: true });
  await row(table, "h-good").waitFor();
  await page.getByRole("combobox", { name: "Status", exact: true }).selectOption("failed");
  await row(table, "h-good").waitFor({ state: "detached" });
  await row(table, "h-bad").waitFor();
  await page.getByRole("combobox", { name: "Status", exact: true }).selectOption({ label: "All" });
  await page.getByRole("combobox", { name: "Source", exact: true }).selectOption("http");
  await page.getByRole("searchbox", { name: "Search", exact: true }).fill("h-GOOD");
  await row(table, "h-bad").waitFor({ state: "detached" });
  await until("the thumbnail", () =>
    row(table, "h-good")
      .locator("img")
      .evaluate((img) => img.naturalWidth > 0)
      .catch(() => false),
  );
  await table.getByRole("link", { name: "h-good", exact: true }).click();
  await page.getByRole("heading", { name: "Run h-good", exact: true }).waitFor();
  await page.getByRole("region", { name: "Timings", exact: true }).getByText("KSampler").waitFor();
  await page.getByRole("region", { name: "Outputs", exact: true }).getByRole("img").waitFor();
  await page.getByRole("button", { name: "Open in playground", exact: true }).click();
  await page.getByRole("textbox", { name: "Positive #2: text", exact: true }).waitFor();
  assert.equal(
    await page.getByRole("textbox", { name: "Positive #2: text", exact: true }).inputValue(),
    "for the history",
  );
  await page.goto(`${server.url}console/#/history/h-bad`);
  await page.getByRole("heading", { name: "Run h-bad", exact: true }).waitFor();
  assert.match(await page.getByRole("alert").textContent(), /for the history, too/);
  await page.getByText("Traceback").click();
  await page.getByRole("button", { name: "Run again", exact: true }).click();
  await until("the page of the new run", () => /history\/(?!h-bad)/.test(page.url()));
  await until("it failed, too", async () => (await page.getByRole("alert").count()) > 0);
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  await page.getByRole("alertdialog").getByRole("button", { name: "Confirm", exact: true }).click();
  await page.getByRole("heading", { level: 1, name: "History", exact: true }).waitFor();
  await close();
});

test("a thousand runs: more on demand, then by scrolling; the page has few rows", async () => {
  const { page, close } = await open(`${server.url}console/`);
  const run = (index) => ({
    id: `many-${index}`,
    status: "succeeded",
    source: "http",
    created_at: new Date(1_700_000_000_000 - index * 1000).toISOString(),
    duration: 1000,
    outputs: [],
  });
  await page.route(/\/history\?/, (route) => {
    const from = Number(new URL(route.request().url()).searchParams.get("before") ?? 0);
    return route.fulfill({
      json: {
        items: Array.from({ length: 50 }, (_, index) => run(from + index)),
        next: from + 50 < 1000 ? String(from + 50) : null,
      },
    });
  });
  await page.goto(`${server.url}console/#/history`);
  const table = page.getByRole("table", { name: "Runs", exact: true });
  await row(table, "many-49").waitFor();
  await page.waitForTimeout(500);
  assert.equal(await row(table, "many-50").count(), 0, "only what was asked for");
  await page.getByRole("button", { name: "More", exact: true }).click();
  await row(table, "many-60").waitFor({ state: "attached" });
  await until(
    "all of them",
    async () => {
      await page.evaluate(() => window.scrollTo(0, document.documentElement.scrollHeight));
      return (await row(table, "many-999").count()) === 1;
    },
    60,
  );
  assert.equal(Number(await table.getAttribute("aria-rowcount")) >= 1001, true);
  for (const width of [1280, 360]) {
    await page.setViewportSize({ width, height: 900 });
    for (const part of [0, 0.37, 0.8, 1]) {
      await page.evaluate(
        (place) =>
          window.scrollTo(0, (document.documentElement.scrollHeight - window.innerHeight) * place),
        part,
      );
      await until("rows where one looks", () =>
        page.evaluate(() =>
          [0.3, 0.7].every((place) =>
            document
              .elementFromPoint(window.innerWidth / 2, window.innerHeight * place)
              ?.closest("tr, .actions, .panel, .filters, h1"),
          ),
        ),
      );
      await until(`rows in view at ${part}`, () =>
        page.evaluate(() =>
          [...document.querySelectorAll("main tbody tr")].some(
            (one) =>
              one.getBoundingClientRect().top < window.innerHeight &&
              one.getBoundingClientRect().bottom > 100,
          ),
        ),
      );
      assert.ok(
        (await table.getByRole("row").count()) < 130,
        `${await table.getByRole("row").count()} rows at ${part}, ${width} px`,
      );
    }
    assert.equal(await row(table, "many-999").count(), 1, "the last one at the end");
  }
  await close();
});

test("models: a download that goes on, is cancelled, fails, ends; the cache evicts", async () => {
  const { page, close } = await open(`${server.url}console/#/models`, {
    allowed: [/status of 4\d\d/],
  });
  await page
    .getByRole("table", { name: "Models", exact: true })
    .getByText("demo.safetensors")
    .waitFor();
  const download = async (url, name) => {
    await page.getByRole("textbox", { name: "URL", exact: true }).fill(url);
    await page.getByRole("combobox", { name: "Folder", exact: true }).selectOption("loras");
    await page.getByRole("textbox", { name: "File name", exact: true }).fill(name);
    await page.getByRole("button", { name: "Download", exact: true }).click();
  };
  await download(`${origin}/slow.safetensors`, "slow.safetensors");
  const bar = page.getByRole("progressbar", { name: "Download slow.safetensors", exact: true });
  await bar.waitFor();
  await until("progress", async () => Number(await bar.getAttribute("aria-valuenow")) > 0);
  await page.getByRole("button", { name: "Cancel slow.safetensors", exact: true }).click();
  await page
    .getByRole("region", { name: "Downloads", exact: true })
    .getByText("cancelled")
    .waitFor();
  await download(`${origin}/gone.safetensors`, "gone.safetensors");
  await page.getByRole("region", { name: "Downloads", exact: true }).getByText("failed").waitFor();
  await download(`${origin}/good.safetensors`, "good.safetensors");
  await page
    .getByRole("table", { name: "Models", exact: true })
    .getByText("good.safetensors")
    .waitFor();
  await page.getByRole("searchbox", { name: "Filter", exact: true }).fill("demo");
  await page
    .getByRole("table", { name: "Models", exact: true })
    .getByText("good.safetensors")
    .waitFor({ state: "detached" });
  await page.getByRole("searchbox", { name: "Filter", exact: true }).fill("");
  const cache = page.getByRole("table", { name: "Cache", exact: true });
  await row(cache, "good.safetensors").waitFor();
  const [entry] = (await server.ask("cache")).body.entries;
  await page.getByRole("button", { name: `Evict ${entry.name}`, exact: true }).click();
  await page.getByRole("alertdialog").getByRole("button", { name: "Confirm", exact: true }).click();
  await row(cache, entry.name).waitFor({ state: "detached" });
  await page.getByRole("textbox", { name: "URL", exact: true }).fill("nonsense");
  await page.getByRole("button", { name: "Download", exact: true }).click();
  assert.equal(
    await page.getByRole("textbox", { name: "URL", exact: true }).getAttribute("aria-invalid"),
    "true",
  );
  await close();
});

test("deliveries: what failed is sent again", async () => {
  const hook = await receiver();
  hook.status = 500;
  await server.ask("prompt", {
    method: "POST",
    json: { id: "d-1", prompt: graph("delivered"), webhook_v2: hook.url },
  });
  const { page, close } = await open(`${server.url}console/#/deliveries`);
  const table = page.getByRole("table", { name: "Deliveries", exact: true });
  await row(table, "d-1")
    .filter({ hasText: /failed|waiting/ })
    .waitFor();
  await page.getByRole("button", { name: "Attempts d-1", exact: true }).click();
  await page.getByRole("dialog").getByText("500").first().waitFor();
  await page.keyboard.press("Escape");
  await row(table, "d-1").filter({ hasText: "failed" }).waitFor({ timeout: 30_000 });
  hook.status = 200;
  await page.getByRole("button", { name: "Resend d-1", exact: true }).click();
  await row(table, "d-1").filter({ hasText: "delivered" }).waitFor();
  assert.equal(JSON.parse(hook.bodies.at(-1)).id, "d-1");
  await hook.close();
  await close();
});

test("health: versions, devices, log, configuration, questions before restarting", async () => {
  const { page, close } = await open(`${server.url}console/#/health`);
  await page
    .getByRole("region", { name: "Versions", exact: true })
    .getByText("comfyui-api")
    .waitFor();
  await page.getByRole("region", { name: "Devices", exact: true }).waitFor();
  await until("memory from before the page was opened", () =>
    page.evaluate(async () => {
      const { series } = await import(new URL("live.js", document.baseURI.split("#")[0]).href);
      return series.memory[0]?.[0] < performance.timeOrigin;
    }),
  );
  const log = page.getByRole("log", { name: "Log", exact: true });
  await until("lines", async () => (await log.locator(".log-line").count()) > 3);
  await server.ask("prompt", { method: "POST", json: { id: "in-the-log", prompt: graph("log") } });
  await log.getByText("in-the-log").first().waitFor();
  await page.getByRole("button", { name: "Pause log", exact: true }).click();
  await server.ask("prompt", {
    method: "POST",
    json: { id: "while-paused", prompt: graph("log 2") },
  });
  await page.getByText(/new lines wait/).waitFor();
  assert.equal(await log.getByText("while-paused").count(), 0);
  await page.getByRole("button", { name: "Pause log", exact: true }).click();
  const configuration = page.getByRole("table", { name: "Configuration", exact: true });
  await row(configuration, "LOG_FORMAT").filter({ hasText: "environment" }).waitFor();
  assert.ok(!(await configuration.textContent()).includes("hidden-secret-value"));
  assert.match(await row(configuration, "WEBHOOK_SECRET").first().textContent(), /\*\*\*/);
  await page.getByRole("button", { name: "Free memory", exact: true }).click();
  await page.locator(".toast").first().waitFor();
  const { pid } = (await server.ask("status")).body.comfyui;
  await page.getByRole("button", { name: "Restart ComfyUI", exact: true }).click();
  await page.getByRole("alertdialog").getByRole("button", { name: "Confirm", exact: true }).click();
  const state = page.getByRole("status", { name: "Server state", exact: true });
  // On a busy machine a tab may miss the short moment in between: only the newest state is told.
  await until(
    "it restarts",
    async () =>
      /restarting|down|starting/.test(await state.textContent()) ||
      (await server.ask("status")).body.comfyui.pid !== pid,
  );
  await state.filter({ hasText: /^ready$/ }).waitFor({ timeout: 60_000 });
  await close();
});
