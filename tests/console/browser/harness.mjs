// A running demo, a browser, and what every test watches for: no request leaves the origin, nothing
// offends the page's policy, nothing is written to the console as an error.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import http from "node:http";
import { createRequire } from "node:module";
import net from "node:net";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const modules = process.env.CONSOLE_NODE_MODULES ?? "/opt/comfyui-api-test/console/node_modules";
const require = createRequire(join(dirname(modules), "package.json"));
const { chromium } = require("playwright-core");
export const AxeBuilder = require("@axe-core/playwright").default;
export const root = resolve(dirname(fileURLToPath(import.meta.url)), "../../..");
export const BINARY = resolve(process.env.BINARY ?? join(root, "target/debug/comfyui-api"));

export const freePort = () =>
  new Promise((ready) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => ready(port));
    });
  });

export async function until(what, ask, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await ask();
    if (found) return found;
    if (Date.now() > end) throw new Error(`it did not happen within ${seconds} s: ${what}`);
    await new Promise((go) => setTimeout(go, 50));
  }
}

// A test that has failed stops nothing.
const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill()));

/** Starts a demo and waits until it is ready. */
export async function demo(variables = {}, { port, wait = true } = {}) {
  const own = port ?? (await freePort());
  const environment = {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    TMPDIR: process.env.TMPDIR ?? "/tmp",
    HOST: "127.0.0.1",
    PORT: String(own),
    LOG_FORMAT: "json",
    ALLOW_PRIVATE_NETWORKS: "true",
    PROMPT_WEBHOOK_RETRIES: "1",
    SHUTDOWN_GRACE_S: "0",
    ...(process.env.CONSOLE_DIR ? { CONSOLE_DIR: process.env.CONSOLE_DIR } : {}),
    ...variables,
  };
  const child = spawn(BINARY, ["demo"], { env: environment, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (data) => (output = (output + data).slice(-100_000)));
  let ended = false;
  running.add(child);
  child.on("exit", () => {
    ended = true;
    running.delete(child);
  });
  const url = `http://127.0.0.1:${own}/`;
  const stop = async (signal = "SIGTERM") => {
    if (ended) return;
    child.kill(signal);
    await until("the demo ends", () => ended, 20);
  };
  if (wait) {
    await until(
      "the demo is ready",
      async () => {
        if (ended) throw new Error(`the demo has ended:\n${output}`);
        return fetch(`${url}ready`).then(
          (response) => response.ok,
          () => false,
        );
      },
      60,
    );
  }
  const headers = variables.API_KEYS
    ? { authorization: `Bearer ${variables.API_KEYS.split(",")[0]}` }
    : {};
  const ask = async (path, options = {}) => {
    const response = await fetch(url + path, {
      ...options,
      headers: {
        ...headers,
        ...(options.json ? { "content-type": "application/json" } : {}),
        ...options.headers,
      },
      body: options.json ? JSON.stringify(options.json) : options.body,
    });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      body: /json/.test(response.headers.get("content-type") ?? "") ? JSON.parse(text) : text,
    };
  };
  return { url, port: own, stop, ask, output: () => output };
}

let shared;
export async function browser() {
  shared ??= await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--use-angle=swiftshader",
      "--enable-unsafe-swiftshader",
      "--disable-dev-shm-usage",
    ],
  });
  return shared;
}
export const closeBrowser = async () => {
  await shared?.close();
  shared = undefined;
};

/** A page that is watched. `allowed` are messages of the console that the test provokes. */
export async function open(url, { allowed = [], ...options } = {}) {
  const context = await (
    await browser()
  ).newContext({
    locale: "en-US",
    viewport: { width: 1280, height: 900 },
    acceptDownloads: true,
    ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const faults = [];
  const requests = [];
  const { origin } = new URL(url);
  page.on("request", (request) => {
    requests.push(request);
    const target = request.url();
    if (!/^(blob|data):/.test(target) && new URL(target).origin !== origin)
      faults.push(`a request leaves the origin: ${target}`);
  });
  page.on("console", (message) => {
    if (message.type() === "error" && !allowed.some((pattern) => pattern.test(message.text())))
      faults.push(`console: ${message.text()} ${message.location().url}`);
  });
  page.on("pageerror", (error) => faults.push(`error: ${error.stack}`));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) =>
      console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`),
    );
  });
  await page.goto(url);
  return {
    page,
    context,
    requests,
    async close() {
      await context.close();
      assert.deepEqual(faults, []);
    },
  };
}

/** A proxy that puts the server below a prefix, as a cluster's ingress does. */
export async function proxy(target, prefix, { seen } = {}) {
  const to = new URL(target);
  const server = http.createServer((request, response) => {
    seen?.(request);
    if (!request.url.startsWith(prefix)) {
      response.writeHead(404).end();
      return;
    }
    const path = request.url.slice(prefix.length) || "/";
    const forward = http.request(
      {
        host: to.hostname,
        port: to.port,
        path: path.startsWith("/") ? path : `/${path}`,
        method: request.method,
        headers: {
          ...request.headers,
          "x-forwarded-for": "203.0.113.9",
          "x-forwarded-prefix": prefix,
        },
      },
      (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      },
    );
    forward.on("error", () => response.destroy());
    response.on("close", () => forward.destroy());
    request.pipe(forward);
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return {
    url: `http://127.0.0.1:${server.address().port}${prefix}/`,
    close: () =>
      new Promise((done) => {
        server.close(done);
        server.closeAllConnections();
      }),
  };
}

/** A receiver of webhooks whose answer can be changed. */
export async function receiver() {
  const self = { status: 200, bodies: [] };
  const server = http.createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    self.bodies.push(Buffer.concat(chunks).toString());
    response.writeHead(self.status).end();
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  self.url = `http://127.0.0.1:${server.address().port}/hook`;
  self.close = () => new Promise((done) => server.close(done));
  return self;
}

export const graph = (text = "a lighthouse", steps = 4) => ({
  1: { class_type: "CheckpointLoaderSimple", inputs: { ckpt_name: "demo.safetensors" } },
  2: {
    class_type: "CLIPTextEncode",
    inputs: { text, clip: ["1", 1] },
    _meta: { title: "Positive" },
  },
  3: { class_type: "CLIPTextEncode", inputs: { text: "", clip: ["1", 1] } },
  4: { class_type: "EmptyLatentImage", inputs: { width: 64, height: 64, batch_size: 1 } },
  5: {
    class_type: "KSampler",
    inputs: {
      seed: 1,
      steps,
      cfg: 7,
      sampler_name: "euler",
      scheduler: "normal",
      denoise: 1,
      model: ["1", 0],
      positive: ["2", 0],
      negative: ["3", 0],
      latent_image: ["4", 0],
    },
  },
  6: { class_type: "VAEDecode", inputs: { samples: ["5", 0], vae: ["1", 2] } },
  7: { class_type: "SaveImage", inputs: { images: ["6", 0], filename_prefix: "ComfyUI" } },
});

export const slow = (seconds = 30) => ({
  1: { class_type: "EmptyImage", inputs: { width: 64, height: 64, batch_size: 1, color: 0 } },
  2: {
    class_type: "SimSleep",
    inputs: { seconds, steps: 100, value: ["1", 0], filename_prefix: "slow" },
  },
  3: { class_type: "SaveImage", inputs: { images: ["2", 0], filename_prefix: "slow" } },
});

export const failing = (message = "the simulator was told so") => ({
  1: { class_type: "SimFail", inputs: { message } },
});

/** What the playground says of the run. */
export const state = (page) => page.getByRole("status", { name: "Run state", exact: true });

/** Waits until the run has ended well, or in the state that is named. */
export const done = (page, word = "Done") =>
  state(page).filter({ hasText: word }).waitFor({ timeout: 30_000 });

export async function clean(page) {
  const { violations } = await new AxeBuilder({ page })
    .withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"])
    .analyze();
  assert.deepEqual(
    violations.map(
      (one) =>
        `${one.id}: ${one.nodes
          .slice(0, 4)
          .map((node) => `${node.html.slice(0, 160)} ${node.any[0]?.message ?? ""}`)
          .join(" | ")}`,
    ),
    [],
  );
}
