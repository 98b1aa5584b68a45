// Makes docs/console.webp, the picture of the README, from a running demo: node docs/screenshot.mjs
// [binary]
// Needs what tests/console/run.sh needs, once run.
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const modules = process.env.CONSOLE_NODE_MODULES ?? "/opt/comfyui-api-test/console/node_modules";
const { chromium } = createRequire(join(dirname(modules), "package.json"))("playwright-core");
const port = 3987;
const url = `http://127.0.0.1:${port}/`;
const demo = spawn(resolve(process.argv[2] ?? join(root, "target/debug/comfyui-api")), ["demo"], {
  env: { ...process.env, HOST: "127.0.0.1", PORT: String(port) },
  stdio: "ignore",
});
try {
  while (
    !(await fetch(`${url}ready`).then(
      (answer) => answer.ok,
      () => false,
    ))
  )
    await new Promise((go) => setTimeout(go, 200));
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
  });
  const page = await browser.newPage({
    viewport: { width: 1280, height: 800 },
    deviceScaleFactor: 1.25,
    locale: "en-US",
    colorScheme: "light",
  });
  await page.goto(url);
  const workflow = page.getByRole("combobox", { name: "Workflow", exact: true });
  const option = workflow.locator("option", { hasText: "create-image" });
  await option.waitFor({ state: "attached" });
  await workflow.selectOption(await option.textContent());
  await page.getByRole("spinbutton", { name: "Pictures", exact: true }).fill("4");
  await page.getByRole("spinbutton", { name: "Steps", exact: true }).fill("30");
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await page.getByRole("region", { name: "Results", exact: true }).waitFor();
  await page.waitForTimeout(1500);
  await page.evaluate(() => {
    document.activeElement.blur();
    window.scrollTo(0, 0);
  });
  await page.waitForTimeout(300);
  const png = await page.screenshot();
  // The browser compresses better than PNG: it draws the picture and gives it back as WebP.
  const blank = await browser.newPage();
  const webp = await blank.evaluate(async (base64) => {
    const image = new Image();
    image.src = `data:image/png;base64,${base64}`;
    await image.decode();
    const canvas = Object.assign(document.createElement("canvas"), {
      width: image.width,
      height: image.height,
    });
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL("image/webp", 0.86).split(",")[1];
  }, png.toString("base64"));
  const bytes = Buffer.from(webp, "base64");
  if (bytes.length > 200_000) throw new Error(`${bytes.length} bytes are too many`);
  writeFileSync(join(root, "docs/console.webp"), bytes);
  console.log(`docs/console.webp: ${bytes.length} bytes`);
  await browser.close();
} finally {
  demo.kill();
}
