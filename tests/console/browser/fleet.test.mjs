// The console of a gateway: RabbitMQ and two instances behind it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { AxeBuilder, BINARY, closeBrowser, open, root, slow, until } from "./harness.mjs";

let fleet;
let url;
before(async () => {
  fleet = spawn("python3", [join(root, "tests/console/browser/fleet.py")], {
    env: { ...process.env, BINARY },
    stdio: ["pipe", "pipe", "inherit"],
  });
  let said = "";
  fleet.stdout.on("data", (data) => (said += data));
  let code = null;
  fleet.on("exit", (ended) => (code = ended ?? 1));
  const port = await until(
    "the fleet stands (it needs rabbitmq-server)",
    () => {
      if (code !== null)
        throw new Error(`the fleet has ended with ${code}: it needs python3 and rabbitmq-server`);
      return /^\d+\n/.test(said) && Number(said);
    },
    180,
  );
  url = `http://127.0.0.1:${port}/`;
});
after(async () => {
  await closeBrowser();
  const ended = new Promise((done) => fleet.on("exit", done));
  fleet.stdin.end();
  await ended;
});

const submit = async (id) => {
  const answer = await fetch(`${url}prompt`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ id, prompt: slow(600), keep: true, async: true }),
  });
  assert.equal(answer.status, 202, await answer.text());
};
const row = (scope, text) => scope.getByRole("row").filter({ hasText: text });

test("health shows queues and instances, and what each does", async () => {
  const { page, close } = await open(`${url}console/#/health`);
  const panel = page.getByRole("region", { name: "Fleet", exact: true });
  const instances = panel.getByRole("table", { name: "Instances", exact: true });
  for (const name of ["instance0", "instance1"])
    await row(instances, name).filter({ hasText: "idle" }).waitFor();
  await row(panel.getByRole("table", { name: "Queues", exact: true }), "q.gpu.20g")
    .filter({ hasText: "2" })
    .waitFor();
  assert.equal(
    await page.getByRole("button", { name: "Restart ComfyUI" }).count(),
    0,
    "that is each instance's own business",
  );
  for (const id of ["f-1", "f-2", "f-3"]) await submit(id);
  for (const id of ["f-1", "f-2"]) await row(instances, id).filter({ hasText: "busy" }).waitFor();
  await row(panel.getByRole("table", { name: "Queues", exact: true }), "q.gpu.20g")
    .locator("[data-column=Waiting]")
    .filter({ hasText: /^1$/ })
    .waitFor();
  const { violations } = await new AxeBuilder({ page }).analyze();
  assert.deepEqual(
    violations.map((one) => one.id),
    [],
  );
  await instances.getByRole("link", { name: "f-1", exact: true }).click();
  await page.getByRole("heading", { name: "Run f-1", exact: true }).waitFor();
  await close();
});

test("queue and playground follow what the instances do; models are theirs", async () => {
  const { page, close } = await open(`${url}console/#/queue`);
  await row(page.getByRole("region", { name: "Running", exact: true }), "f-1").waitFor();
  await row(page.getByRole("region", { name: "Waiting", exact: true }), "f-3").waitFor();
  assert.equal(
    await page
      .getByRole("progressbar")
      .first()
      .evaluate((bar) => getComputedStyle(bar).visibility),
    "visible",
  );
  for (const id of ["f-3", "f-2", "f-1"])
    await page.getByRole("button", { name: `Cancel ${id}`, exact: true }).click();
  for (const id of ["f-1", "f-2", "f-3"])
    await row(page.getByRole("region", { name: "Finished", exact: true }), id).waitFor();
  await page.goto(`${url}console/#/models`);
  await page.getByText("Models belong to the instances.").waitFor();
  assert.equal(await page.getByRole("button", { name: "Download", exact: true }).count(), 0);
  await page.goto(`${url}console/#/`);
  await page.getByRole("textbox", { name: "Graph", exact: true }).fill(JSON.stringify(slow(4)));
  await page.getByRole("button", { name: "Run", exact: true }).click();
  const bar = page.getByRole("progressbar", { name: "Progress", exact: true });
  await until("progress", async () => Number(await bar.getAttribute("aria-valuenow")) > 0);
  await page
    .getByRole("status", { name: "Run state", exact: true })
    .filter({ hasText: "Done" })
    .waitFor({ timeout: 60_000 });
  await close();
});
