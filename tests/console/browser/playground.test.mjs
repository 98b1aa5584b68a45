import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { closeBrowser, demo, done, graph, open, slow, state, until } from "./harness.mjs";

let server;
before(async () => {
  server = await demo();
});
after(async () => {
  await closeBrowser();
  await server.stop();
});

async function pasted(page, what) {
  await page.getByRole("combobox", { name: "Workflow", exact: true }).selectOption("Graph");
  await page.getByRole("textbox", { name: "Graph", exact: true }).fill(JSON.stringify(what));
}

test("a workflow endpoint: form, run, progress, results, code", async () => {
  const { page, close } = await open(`${server.url}console/`);
  assert.equal(await page.title(), "Playground - comfyui-api");
  await page.getByRole("combobox", { name: "Workflow", exact: true }).selectOption({
    label: (await server.ask("workflows")).body.find((one) => one.path.includes("create-image"))
      .path,
  });
  await page.getByRole("textbox", { name: "Prompt", exact: true }).fill("a lighthouse");
  const width = page.getByRole("spinbutton", { name: "Width", exact: true });
  await width.fill("100");
  await page.getByRole("button", { name: "Run", exact: true }).click();
  assert.equal(await width.getAttribute("aria-invalid"), "true");
  const described = (await width.getAttribute("aria-describedby")).split(" ");
  assert.match(
    (await Promise.all(described.map((id) => page.locator(`#${id}`).textContent()))).join(" "),
    /multiple of 8/,
  );
  await width.fill("128");
  await page.getByRole("spinbutton", { name: "Height", exact: true }).fill("64");
  assert.ok(await page.getByRole("switch", { name: "Random Seed", exact: true }).isChecked());
  await page.getByRole("spinbutton", { name: "Steps", exact: true }).fill("60");
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await state(page).filter({ hasText: "Running KSampler" }).waitFor();
  const bar = page.getByRole("progressbar", { name: "Progress", exact: true });
  await until("progress", async () => Number(await bar.getAttribute("aria-valuenow")) > 0);
  await page.getByRole("img", { name: "Preview", exact: true }).waitFor();
  await done(page);
  const results = page.getByRole("region", { name: "Results", exact: true });
  const pictures = results.getByRole("img");
  await pictures.first().waitFor();
  assert.equal(await pictures.count(), 2);
  const name = await pictures.first().getAttribute("alt");
  assert.match(name, /\.png$/);
  await until("the picture is loaded", () =>
    pictures.first().evaluate((img) => img.naturalWidth === 128),
  );
  await results.getByText("128 × 64").first().waitFor();
  const seed = await page.getByRole("spinbutton", { name: "Seed", exact: true }).inputValue();
  assert.match(seed, /^\d+$/);
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    results.getByRole("link", { name: `Download ${name}`, exact: true }).click(),
  ]);
  assert.equal(download.suggestedFilename(), name);
  assert.equal(
    readFileSync(await download.path())
      .subarray(1, 4)
      .toString(),
    "PNG",
  );
  const [all] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "Download all", exact: true }).click(),
  ]);
  assert.equal(
    readFileSync(await all.path())
      .subarray(0, 2)
      .toString(),
    "PK",
  );

  // The picture in full: zoom, the next one, back.
  await page.getByRole("button", { name: `Open ${name}`, exact: true }).click();
  const dialog = page.getByRole("dialog", { name: "Picture", exact: true });
  assert.equal(await dialog.getByRole("img").getAttribute("alt"), name);
  await page.keyboard.press("ArrowRight");
  await until(
    "the next picture",
    async () => (await dialog.getByRole("img").getAttribute("alt")) !== name,
  );
  await page.keyboard.press("+");
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });

  // As code, and the code runs.
  await page.getByRole("button", { name: "Copy as code", exact: true }).click();
  const code = page.getByRole("dialog", { name: "Copy as code", exact: true });
  const directory = mkdtempSync(join(tmpdir(), "console-"));
  for (const [language, file, command] of [
    ["curl", "run.sh", ["sh", "run.sh"]],
    ["Python", "run.py", ["python3", "run.py"]],
    ["JavaScript", "run.mjs", [process.execPath, "run.mjs"]],
  ]) {
    await code.getByRole("tab", { name: language, exact: true }).click();
    const text = await code.getByRole("tabpanel").textContent();
    assert.ok(
      text.includes("COMFYUI_API_KEY") && !/"keep"|"async"/.test(text) && text.includes(seed),
      text,
    );
    writeFileSync(join(directory, file), text);
    const ran = spawnSync(command[0], command.slice(1), {
      cwd: directory,
      encoding: "utf8",
      env: { ...process.env, COMFYUI_API_KEY: "none" },
    });
    assert.equal(ran.status, 0, ran.stderr);
  }
  assert.equal(JSON.parse(readFileSync(join(directory, "result.json"))).images.length, 2);
  rmSync(directory, { recursive: true });
  await page.keyboard.press("Escape");
  await close();
});

test("a graph: fields by node, seeds, an error at its field, cancel", async () => {
  const { page, close } = await open(`${server.url}console/`, { allowed: [/status of 400/] });
  await pasted(page, graph());
  const text = page.getByRole("textbox", { name: "Positive #2: text", exact: true });
  await text.waitFor();
  await page.getByRole("textbox", { name: "CLIPTextEncode #3: text", exact: true }).waitFor();
  await text.fill("a harbour");
  await page.getByRole("button", { name: "Options", exact: true }).click();
  await page.getByRole("spinbutton", { name: "Runs", exact: true }).fill("3");
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await done(page);
  const runs = (await server.ask("history?limit=3&q=a%20harbour")).body.items;
  assert.equal(runs.length, 3);
  const details = await Promise.all(
    runs.map(async (run) => (await server.ask(`history/${run.id}`)).body),
  );
  assert.equal(new Set(details.map((run) => run.prompt[5].inputs.seed)).size, 3);

  const broken = graph();
  broken[1].inputs.ckpt_name = "missing.safetensors";
  await pasted(page, broken);
  await page.getByRole("spinbutton", { name: "Runs", exact: true }).fill("1");
  const checkpoint = page.getByRole("combobox", {
    name: "CheckpointLoaderSimple #1: ckpt_name",
    exact: true,
  });
  await checkpoint.waitFor();
  await until(
    "the new form",
    async () =>
      (await checkpoint.locator("option:checked").textContent()) === "missing.safetensors",
  );
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await until(
    "the error at its field",
    async () => (await checkpoint.getAttribute("aria-invalid")) === "true",
  );
  const error = page.locator(
    `#${(await checkpoint.getAttribute("aria-describedby")).split(" ").pop()}`,
  );
  assert.match(await error.textContent(), /missing\.safetensors/);
  await state(page).filter({ hasText: "Failed" }).waitFor();

  await pasted(page, slow());
  await page.getByRole("spinbutton", { name: "EmptyImage #1: width", exact: true }).waitFor();
  await page.getByText("All inputs").click();
  await page.getByRole("spinbutton", { name: "SimSleep #2: seconds", exact: true }).waitFor();
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await state(page).filter({ hasText: "Running SimSleep" }).waitFor();
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await state(page)
    .filter({ hasText: /Waiting.*1/ })
    .waitFor();
  await page.getByRole("button", { name: "Cancel", exact: true }).click();
  await state(page).filter({ hasText: "Cancelled" }).waitFor();
  await page.getByRole("group", { name: "Runs of this page" }).getByRole("button").nth(1).click();
  // Leaving the page does not lose it.
  await page.getByRole("link", { name: "Queue", exact: true }).click();
  await page.getByRole("heading", { level: 1, name: "Queue" }).waitFor();
  await page.getByRole("link", { name: "Playground", exact: true }).click();
  await state(page).filter({ hasText: "Running SimSleep" }).waitFor();
  await page.getByRole("button", { name: "Cancel", exact: true }).click();
  await state(page).filter({ hasText: "Cancelled" }).waitFor();
  await close();
});

test("what was pasted last runs, however soon", async () => {
  const { page, close } = await open(`${server.url}console/`);
  await page.getByRole("combobox", { name: "Workflow", exact: true }).selectOption("Graph");
  const area = page.getByRole("textbox", { name: "Graph", exact: true });
  await area.fill(JSON.stringify(graph("the first")));
  await page.getByRole("textbox", { name: "Positive #2: text", exact: true }).waitFor();
  const sent = page.waitForRequest((request) => request.url().endsWith("/prompt"));
  // In one go, as a hand could not: the page has had no time to read it.
  await area.evaluate(
    (element, text) => {
      element.value = text;
      element.dispatchEvent(new window.Event("input", { bubbles: true }));
      document.querySelector("button.run").click();
    },
    JSON.stringify(graph("the second")),
  );
  assert.equal((await sent).postDataJSON().prompt[2].inputs.text, "the second");
  await done(page);
  await area.fill("{");
  await page.getByText("This is not JSON").waitFor();
  assert.equal(
    await page.getByRole("textbox", { name: "Positive #2: text", exact: true }).count(),
    0,
    "the graph before it is gone",
  );
  await close();
});

test("what is no graph says so; a failing run shows node and traceback", async () => {
  const { page, close } = await open(`${server.url}console/`, { allowed: [/status of 400/] });
  await page.getByRole("combobox", { name: "Workflow", exact: true }).selectOption("Graph");
  const area = page.getByRole("textbox", { name: "Graph", exact: true });
  await area.fill("{");
  await page.getByText("This is not JSON").waitFor();
  await area.fill('{"a": 1}');
  await until(
    "the server's verdict",
    async () =>
      (await area.getAttribute("aria-invalid")) === "true" &&
      !(await page.getByText("This is not JSON").isVisible()),
  );
  await area.fill(
    JSON.stringify({ 1: { class_type: "SimFail", inputs: { message: "<b>no & markup</b>" } } }),
  );
  await page.getByRole("textbox", { name: "SimFail #1: message", exact: true }).waitFor();
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await done(page, "Failed");
  const alert = page.getByRole("alert");
  assert.match(await alert.textContent(), /<b>no & markup<\/b>/);
  assert.match(await alert.textContent(), /SimFail/);
  await close();
});

test("a saved workflow with App mode: the author's choice in order, then the rest", async () => {
  const { page, close } = await open(`${server.url}console/`);
  const saved = {
    nodes: [
      { id: 1, type: "EmptyImage", title: "Ground", widgets_values: [64, 32, 1, 0] },
      {
        id: 2,
        type: "SaveImage",
        title: "Result",
        inputs: [{ name: "images", type: "IMAGE", link: 1 }],
        widgets_values: ["app"],
      },
    ],
    links: [[1, 1, 0, 2, 0, "IMAGE"]],
    extra: {
      linearData: {
        inputs: [
          ["2", "filename_prefix"],
          [1, "height"],
          [9, "lost"],
        ],
        outputs: [2],
      },
    },
  };
  await page.getByRole("combobox", { name: "Workflow", exact: true }).selectOption("Graph");
  await page.getByLabel("Graph file", { exact: true }).setInputFiles({
    name: "app.json",
    mimeType: "application/json",
    buffer: Buffer.from(JSON.stringify(saved)),
  });
  await page.getByRole("textbox", { name: "Result #2: filename_prefix", exact: true }).waitFor();
  const shown = await page.locator(".choose > .fields > .field label").allTextContents();
  assert.deepEqual(shown, ["Result #2: filename_prefix", "Ground #1: height"]);
  await page.getByText(/node 9/).waitFor();
  assert.ok(
    !(await page.getByRole("spinbutton", { name: "Ground #1: width", exact: true }).isVisible()),
  );
  await page.getByText("All inputs").click();
  await page.getByRole("spinbutton", { name: "Ground #1: width", exact: true }).fill("96");
  await page.getByRole("spinbutton", { name: "Ground #1: height", exact: true }).fill("48");
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await done(page);
  await page.getByRole("region", { name: "Results", exact: true }).getByText("96 × 48").waitFor();
  await close();
});

test("by keyboard alone", async () => {
  const { page, close } = await open(`${server.url}console/`);
  await page.getByRole("combobox", { name: "Workflow", exact: true }).waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to content");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "SELECT");
  await page.keyboard.press("?");
  await page.keyboard.press("Escape");
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("?");
  const keys = page.getByRole("dialog", { name: "Keyboard shortcuts" });
  await keys.waitFor();
  await page.keyboard.press("Escape");
  await keys.waitFor({ state: "hidden" });
  for (const [letter, title] of [
    ["q", "Queue"],
    ["h", "History"],
    ["m", "Models"],
    ["d", "Deliveries"],
    ["s", "Health"],
    ["p", "Playground"],
  ]) {
    await page.keyboard.press("g");
    await page.keyboard.press(letter);
    await page.getByRole("heading", { level: 1, name: title, exact: true }).waitFor();
    assert.equal(
      await page
        .getByRole("navigation", { name: "Main" })
        .getByRole("link", { name: title, exact: true })
        .getAttribute("aria-current"),
      "page",
    );
  }
  // Letters in a field are letters.
  await page.getByRole("combobox", { name: "Workflow", exact: true }).selectOption("Graph");
  const area = page.getByRole("textbox", { name: "Graph", exact: true });
  await area.focus();
  await page.keyboard.type("gq?");
  assert.equal(await area.inputValue(), "gq?");
  await area.fill(JSON.stringify(graph("by keyboard")));
  await page.getByRole("textbox", { name: "Positive #2: text", exact: true }).waitFor();
  await page.keyboard.press("Control+Enter");
  await done(page);
  await close();
});
