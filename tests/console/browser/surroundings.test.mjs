// Keys, prefixes, lost connections, access, languages.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { clean, closeBrowser, demo, failing, graph, open, proxy, slow, until } from "./harness.mjs";

after(closeBrowser);

const PAGES = ["", "queue", "history", "models", "deliveries", "health"];
const names = {
  "": "Playground",
  queue: "Queue",
  history: "History",
  models: "Models",
  deliveries: "Deliveries",
  health: "Health",
};
const heading = (page, name) =>
  page.getByRole("heading", { level: 1, name, exact: true }).waitFor();

test("with API keys: sign in, the key in a header, a key that ends, sign out", async () => {
  const KEY = "a-very-secret-key";
  let server = await demo({ API_KEYS: KEY });
  const { page, close, requests } = await open(`${server.url}console/#/queue`, {
    allowed: [/status of 401/, /ERR_/],
  });
  await page.getByLabel("API key", { exact: true }).fill("wrong");
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByRole("alert").filter({ hasText: "not accepted" }).waitFor();
  assert.equal(await page.getByRole("button", { name: "Sign out" }).count(), 0);
  await clean(page);
  await page.getByLabel("API key", { exact: true }).fill(KEY);
  const signedIn = requests.length;
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await heading(page, "Queue");
  await page.getByRole("link", { name: "Playground", exact: true }).click();
  await page.getByRole("combobox", { name: "Workflow", exact: true }).selectOption("Graph");
  await page
    .getByRole("textbox", { name: "Graph", exact: true })
    .fill(JSON.stringify(graph("with a key")));
  await page.getByRole("textbox", { name: "Positive #2: text", exact: true }).waitFor();
  await page.getByRole("button", { name: "Run", exact: true }).click();
  const picture = page.getByRole("region", { name: "Results", exact: true }).getByRole("img");
  await until("the picture", () =>
    picture.evaluate((img) => img.naturalWidth > 0).catch(() => false),
  );
  assert.match(await picture.getAttribute("src"), /^blob:/);
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: /^Download .*png$/ }).click(),
  ]);
  assert.match(download.suggestedFilename(), /\.png$/);
  await page.getByRole("button", { name: "Copy as code", exact: true }).click();
  assert.ok(!(await page.getByRole("tabpanel").textContent()).includes(KEY));
  await page.keyboard.press("Escape");
  for (const request of requests.slice(signedIn)) {
    assert.ok(!request.url().includes(KEY), "never in an address");
    if (!request.url().includes("/console/") && !/^(blob|data):/.test(request.url()))
      assert.equal((await request.allHeaders()).authorization, `Bearer ${KEY}`, request.url());
  }
  assert.ok(!(await page.content()).includes(KEY), "never shown");
  assert.deepEqual(await page.evaluate(() => Object.keys(localStorage)), []);
  assert.ok((await page.evaluate(() => JSON.stringify(sessionStorage))).includes(KEY));

  // Signed out in the middle: what was typed stays.
  const { port } = server;
  await server.stop("SIGKILL");
  server = await demo({ API_KEYS: "another-key" }, { port });
  await page.getByLabel("API key", { exact: true }).waitFor({ timeout: 60_000 });
  assert.match(await page.getByRole("alert").textContent(), /no longer accepted/);
  await page.getByLabel("API key", { exact: true }).fill("another-key");
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await heading(page, "Playground");
  assert.equal(
    await page.getByRole("textbox", { name: "Positive #2: text", exact: true }).inputValue(),
    "with a key",
  );
  await page.getByRole("button", { name: "Sign out", exact: true }).click();
  await page.getByLabel("API key", { exact: true }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await server.stop();
  await close();
});

test("behind a path prefix", async () => {
  const server = await demo();
  const seen = [];
  const front = await proxy(server.url, "/team/gpu 1".replace(" ", "-"), {
    seen: (request) => seen.push(request.url),
  });
  const { page, close } = await open(front.url);
  await heading(page, "Playground");
  assert.ok(page.url().startsWith(`${front.url}console/`), page.url());
  await page.getByRole("combobox", { name: "Workflow", exact: true }).selectOption("Graph");
  await page
    .getByRole("textbox", { name: "Graph", exact: true })
    .fill(JSON.stringify(graph("behind a prefix")));
  await page.getByRole("textbox", { name: "Positive #2: text", exact: true }).waitFor();
  await page.getByRole("button", { name: "Run", exact: true }).click();
  const picture = page.getByRole("region", { name: "Results", exact: true }).getByRole("img");
  await until("the picture", () =>
    picture.evaluate((img) => img.naturalWidth > 0).catch(() => false),
  );
  for (const name of PAGES) {
    await page.goto(`${front.url}console/#/${name}`);
    await heading(page, names[name]);
  }
  assert.ok(
    seen.every((url) => url.startsWith("/team/gpu-1")),
    seen.find((url) => !url.startsWith("/team")),
  );
  await close();
  await front.close();
  await server.stop();
});

test("the server away and back: a banner, and it goes on by itself", async () => {
  let server = await demo();
  const { port } = server;
  const { page, close } = await open(`${server.url}console/#/queue`, {
    allowed: [/ERR_/, /Failed to load/],
  });
  const connection = page.getByRole("status", { name: "Connection", exact: true });
  await page
    .getByRole("status", { name: "Server state", exact: true })
    .filter({ hasText: /^ready$/ })
    .waitFor();
  await server.stop("SIGKILL");
  await connection.filter({ hasText: "Connection lost" }).waitFor();
  await clean(page);
  server = await demo({}, { port });
  await until("the banner is gone", async () => (await connection.textContent()) === "", 40);
  await server.ask("prompt", { method: "POST", json: { id: "after-it", prompt: graph("back") } });
  await page.getByRole("row").filter({ hasText: "after-it" }).waitFor();
  await close();
  await server.stop();
});

test("ComfyUI down and back", async () => {
  const server = await demo();
  const { page, close } = await open(`${server.url}console/`);
  const state = page.getByRole("status", { name: "Server state", exact: true });
  await state.filter({ hasText: /^ready$/ }).waitFor();
  await server.ask("restart", { method: "POST" });
  await until("it is not ready", async () => (await state.textContent()) !== "ready");
  await page
    .getByText(/Runs are refused|ComfyUI is/)
    .first()
    .waitFor();
  await state.filter({ hasText: /^ready$/ }).waitFor({ timeout: 60_000 });
  await close();
  await server.stop();
});

test("axe finds nothing, in both themes, with dialogs open; nothing scrolls sideways", async () => {
  const server = await demo({ KEEP_RUNS: "true" });
  for (const [id, prompt] of [
    ["good", graph("x")],
    ["bad", failing()],
    ["running", slow(3000)],
    ["waiting", slow(3000)],
  ])
    await server.ask("prompt", { method: "POST", json: { id, prompt, keep: true, async: true } });
  await until(
    "they have ended",
    async () => (await server.ask("history/bad")).body.status === "failed",
  );
  await Promise.all(
    ["light", "dark"].map(async (colorScheme) => {
      const { page, close } = await open(`${server.url}console/`, { colorScheme });
      assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), colorScheme);
      for (const name of [...PAGES, "history/good", "history/bad"]) {
        await page.goto(`${server.url}console/#/${name}`);
        await heading(page, names[name] ?? `Run ${name.split("/")[1]}`);
        await page.waitForTimeout(350);
        for (const width of [768, 320]) {
          await page.setViewportSize({ width, height: 800 });
          const wide = await page.evaluate(() =>
            [...document.querySelectorAll("main *")]
              .filter(
                (one) =>
                  document.documentElement.scrollWidth > innerWidth &&
                  one.getBoundingClientRect().right > innerWidth,
              )
              .map((one) => `${one.tagName} ${one.className} ${one.id}`),
          );
          assert.deepEqual(wide.slice(-3), [], `${name} at ${width} px`);
        }
        // The one theme on a wide screen, the other on a narrow one.
        if (colorScheme === "light") await page.setViewportSize({ width: 1280, height: 900 });
        await clean(page);
      }
      await page.goto(`${server.url}console/#/`);
      await page.getByRole("button", { name: "Options", exact: true }).click();
      await page.getByRole("combobox", { name: "Output format", exact: true }).selectOption("webp");
      await page.getByRole("combobox", { name: "Upload target", exact: true }).selectOption("s3");
      await clean(page);
      await page.getByRole("button", { name: "Copy as code", exact: true }).click();
      await page.getByRole("dialog").waitFor();
      await clean(page);
      await page.keyboard.press("Escape");
      await page.goto(`${server.url}console/#/queue`);
      await page.getByRole("button", { name: "Cancel all waiting", exact: true }).click();
      await page.getByRole("alertdialog").waitFor();
      await clean(page);
      await page.keyboard.press("Escape");
      await page.getByRole("alertdialog").waitFor({ state: "hidden" });
      await close();
    }),
  );
  await server.stop();
});

test("the theme is chosen, kept, and the only thing kept", async () => {
  const server = await demo();
  const { page, close } = await open(`${server.url}console/`, { colorScheme: "light" });
  const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
  const button = page.getByRole("button", { name: "Theme", exact: true });
  assert.equal(await theme(), "light");
  await button.click();
  await button.click();
  assert.equal(await theme(), "dark");
  await page.reload();
  assert.equal(await theme(), "dark");
  assert.deepEqual(await page.evaluate(() => ({ ...localStorage })), { theme: "dark" });
  await close();

  // In Chinese nothing of the interface stays English.
  const chinese = await open(`${server.url}console/`, { locale: "zh-CN" });
  await chinese.page.getByRole("heading", { level: 1, name: "试验场" }).waitFor();
  assert.equal(await chinese.page.evaluate(() => document.documentElement.lang), "zh-CN");
  await clean(chinese.page);
  await chinese.close();
  await server.stop();
});
