// Pictures, sound, video and models: shown, and used as inputs.
import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { closeBrowser, demo, done, graph, open, until } from "./harness.mjs";

let server;
before(async () => {
  server = await demo();
});
after(async () => {
  await closeBrowser();
  await server.stop();
});

test("a picture: chosen, used as input again, its graph opened from the file", async () => {
  const { page, close } = await open(`${server.url}console/`);
  const first = (
    await server.ask("prompt", { method: "POST", json: { prompt: graph("inside a picture") } })
  ).body;
  const directory = mkdtempSync(join(tmpdir(), "console-"));
  const file = join(directory, "with graph.png");
  writeFileSync(file, Buffer.from(first.images[0], "base64"));
  await page.getByRole("combobox", { name: "Workflow", exact: true }).selectOption("Graph");
  await page.getByLabel("Graph file", { exact: true }).setInputFiles(file);
  await page.getByRole("textbox", { name: "Positive #2: text", exact: true }).waitFor();
  assert.equal(
    await page.getByRole("textbox", { name: "Positive #2: text", exact: true }).inputValue(),
    "inside a picture",
  );

  const edit = (await server.ask("workflows")).body.find((one) =>
    one.path.includes("edit-image"),
  ).path;
  await page.getByRole("combobox", { name: "Workflow", exact: true }).selectOption(edit);
  const image = page.getByLabel("Image", { exact: true });
  await page.getByRole("textbox", { name: "Image URL", exact: true }).waitFor();
  await page.getByRole("button", { name: "Run", exact: true }).click();
  assert.equal(await image.getAttribute("aria-invalid"), "true", "it is required");
  await image.setInputFiles(file);
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await done(page);
  const [run] = (await server.ask("history?limit=1")).body.items;
  assert.match((await server.ask(`history/${run.id}`)).body.request.input.image, /^asset:/);
  // The code reads the file by its name.
  await page.getByRole("button", { name: "Copy as code", exact: true }).click();
  assert.match(await page.getByRole("tabpanel").textContent(), /with graph\.png/);
  await page.keyboard.press("Escape");
  const result = page
    .getByRole("region", { name: "Results", exact: true })
    .getByRole("img")
    .first();
  const name = await result.getAttribute("alt");
  await until("the picture is loaded", () => result.evaluate((img) => img.naturalWidth === 96));
  await page.getByRole("button", { name: `Use as input ${name}`, exact: true }).click();
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await until(
    "the second run",
    async () => (await server.ask("history?limit=1")).body.items[0].id !== run.id,
  );
  await until("a larger picture", () =>
    page
      .getByRole("region", { name: "Results", exact: true })
      .getByRole("img")
      .first()
      .evaluate((img) => img.naturalWidth === 144)
      .catch(() => false),
  );
  rmSync(directory, { recursive: true });
  await close();
});

test("sound plays, a model can be turned", async () => {
  const { page, close } = await open(`${server.url}console/`);
  const paths = (await server.ask("workflows")).body.map((one) => one.path);
  await page
    .getByRole("combobox", { name: "Workflow", exact: true })
    .selectOption(paths.find((path) => path.includes("sound")));
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await done(page);
  const sound = page.getByRole("region", { name: "Results", exact: true }).locator("audio");
  await until("the sound is loaded", () => sound.evaluate((audio) => audio.duration > 1.9));
  assert.match(await sound.getAttribute("aria-label"), /\.(wav|flac)$/);
  await page
    .getByRole("combobox", { name: "Workflow", exact: true })
    .selectOption(paths.find((path) => path.includes("shape")));
  await page.getByRole("textbox", { name: "Name", exact: true }).waitFor();
  await page.getByRole("button", { name: "Run", exact: true }).click();
  const canvas = page.locator("canvas");
  await canvas.waitFor();
  await until("it is drawn", () => canvas.evaluate((element) => element.dataset.drawn === "true"));
  const before = await canvas.screenshot();
  await canvas.focus();
  for (let index = 0; index < 5; index += 1) await page.keyboard.press("ArrowLeft");
  await page.waitForTimeout(200);
  assert.ok(!before.equals(await canvas.screenshot()), "it has turned");
  await close();
});

test("a video plays and can be sought; what the browser cannot show is a download", async () => {
  const { page, requests, close } = await open(`${server.url}console/`);
  const reel = {
    1: { class_type: "EmptyImage", inputs: { width: 64, height: 64, batch_size: 48, color: 255 } },
    2: { class_type: "CreateVideo", inputs: { images: ["1", 0], fps: 12 } },
    3: {
      class_type: "SaveVideo",
      inputs: { video: ["2", 0], filename_prefix: "reel", format: "auto", codec: "auto" },
    },
  };
  for (const [id, options] of [
    ["reel-webm", { convert_output: { format: "webm", options: {} } }],
    ["reel-jpeg", {}],
  ]) {
    await server.ask("prompt", {
      method: "POST",
      json: { id, prompt: reel, keep: true, async: true, ...options },
    });
    await until(
      `${id} has ended`,
      async () => (await server.ask(`history/${id}`)).body.status === "succeeded",
      60,
    );
  }
  await page.goto(`${server.url}console/#/history/reel-webm`);
  const video = page.getByRole("region", { name: "Outputs", exact: true }).locator("video");
  await until("it is loaded", () =>
    video.evaluate((one) => one.duration > 3.5 && one.videoWidth === 64).catch(() => false),
  );
  assert.match(await video.getAttribute("aria-label"), /\.webm$/);
  await page.getByText(/64 × 64 · 4\.0 s/).waitFor();
  const at = await video.evaluate(
    (one) =>
      new Promise((resolve) => {
        one.addEventListener("seeked", () => resolve(one.currentTime), { once: true });
        one.currentTime = 3;
      }),
  );
  assert.ok(Math.abs(at - 3) < 0.2, `${at}`);
  await video.evaluate((one) => {
    one.muted = true;
    return one.play();
  });
  await until("it plays", () =>
    video.evaluate((one) => one.currentTime > 3.05 || one.currentTime < 2),
  );
  const [asked] = requests.filter((request) => request.resourceType() === "media");
  assert.ok((await asked.allHeaders()).range, "the browser asks for a range");
  assert.equal((await asked.response()).status(), 206);
  // A container whose pictures no browser decodes.
  await page.goto(`${server.url}console/#/history/reel-jpeg`);
  await page.getByText("This browser cannot show it").waitFor();
  await page.getByRole("link", { name: /^Download .*mp4$/ }).waitFor();
  await close();
});

test("a model's texture is where its file says", async () => {
  const { page, close } = await open(`${server.url}console/`);
  await page.getByRole("heading", { level: 1, name: "Playground" }).waitFor();
  await page.evaluate(async () => {
    const base = document.baseURI.split("#")[0];
    const [{ parseGlb }, { show }] = await Promise.all(
      ["viewer/glb.js", "viewer/show.js"].map((path) => import(new URL(path, base).href)),
    );
    // A picture whose left half is red and whose right half is blue, on a square of which only the
    // right half is asked for.
    const picture = Object.assign(document.createElement("canvas"), { width: 8, height: 8 });
    const paint = picture.getContext("2d");
    for (const [color, x] of [
      ["#f00", 0],
      ["#00f", 4],
    ]) {
      paint.fillStyle = color;
      paint.fillRect(x, 0, 4, 8);
    }
    const png = new Uint8Array(
      await (await new Promise((done) => picture.toBlob(done))).arrayBuffer(),
    );
    const numbers = new Float32Array([
      -1, -1, 0, 1, -1, 0, 1, 1, 0, -1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 1,
    ]);
    const indices = new Uint16Array([0, 1, 2, 0, 2, 3]);
    const binary = new Uint8Array(
      await new Blob([
        numbers,
        indices,
        png,
        new Uint8Array((4 - (png.length % 4)) % 4),
      ]).arrayBuffer(),
    );
    const document_ = {
      asset: { version: "2.0" },
      scenes: [{ nodes: [0] }],
      nodes: [{ mesh: 0 }],
      meshes: [
        { primitives: [{ attributes: { POSITION: 0, TEXCOORD_0: 1 }, indices: 2, material: 0 }] },
      ],
      materials: [
        {
          doubleSided: true,
          pbrMetallicRoughness: {
            baseColorTexture: {
              index: 0,
              extensions: { KHR_texture_transform: { offset: [0.6, 0], scale: [0.3, 1] } },
            },
          },
        },
      ],
      textures: [{ source: 0 }],
      images: [{ bufferView: 3, mimeType: "image/png" }],
      buffers: [{ byteLength: binary.length }],
      bufferViews: [
        [0, 48],
        [48, 32],
        [80, 12],
        [92, png.length],
      ].map(([byteOffset, byteLength]) => ({ buffer: 0, byteOffset, byteLength })),
      accessors: [
        { bufferView: 0, componentType: 5126, count: 4, type: "VEC3" },
        { bufferView: 1, componentType: 5126, count: 4, type: "VEC2" },
        { bufferView: 2, componentType: 5123, count: 6, type: "SCALAR" },
      ],
    };
    const text = new TextEncoder().encode(JSON.stringify(document_));
    const padded = new Uint8Array(Math.ceil(text.length / 4) * 4).fill(32);
    padded.set(text);
    const head = (...values) => new Uint32Array(values);
    const file = await new Blob([
      head(0x46546c67, 2, 28 + padded.length + binary.length),
      head(padded.length, 0x4e4f534a),
      padded,
      head(binary.length, 0x004e4942),
      binary,
    ]).arrayBuffer();
    const viewer = show(await parseGlb(file), "textured.glb");
    viewer.element.style.setProperty("width", "200px");
    viewer.element.style.setProperty("height", "200px");
    document.getElementById("main").prepend(viewer.element);
  });
  const canvas = page.getByRole("img", { name: "textured.glb", exact: true });
  const middle = async () =>
    page.evaluate(
      async (base64) => {
        const image = new Image();
        image.src = `data:image/png;base64,${base64}`;
        await image.decode();
        const copy = Object.assign(document.createElement("canvas"), {
          width: image.width,
          height: image.height,
        }).getContext("2d");
        copy.drawImage(image, 0, 0);
        return [...copy.getImageData(image.width / 2, image.height / 2, 1, 1).data];
      },
      (await canvas.screenshot()).toString("base64"),
    );
  await until("the middle is blue, not red, not white", async () => {
    const [red, , blue] = await middle();
    return blue > 120 && red < 60;
  });
  await close();
});
