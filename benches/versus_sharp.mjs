// Ours against sharp: the same PNG, the same options, file to file, one thread each, in turns.
//
//   node benches/versus_sharp.mjs [rounds] [our binary]
//
// Without a binary it builds the bench target `versus_sharp` in the dev profile with this crate
// optimised (the codecs are optimised there anyway), which takes a minute instead of the quarter of
// an hour of a release build. On a machine that others use too, only the processor time (of all
// threads) means something. Ratios below 1 mean that we are faster or smaller.
import { createRequire } from "node:module";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { createInterface } from "node:readline";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";

const modules = process.env.TEST_NODE_MODULES ?? "/opt/comfyui-api-test/node_modules";
const sharp = createRequire(import.meta.url)(join(modules, "sharp"));
sharp.concurrency(1);
sharp.cache(false);

const rounds = Number(process.argv[2] ?? 15);
const binary = process.argv[3] ?? build();
const folder = mkdtempSync(join(tmpdir(), "versus-sharp-"));
const png = join(folder, "photo.png");
const theirs = join(folder, "sharp.out");
execFileSync(binary, ["photo", png]);

const ours = spawn(binary, ["serve", png], { stdio: ["pipe", "pipe", "inherit"] });
const answers = createInterface({ input: ours.stdout })[Symbol.asyncIterator]();

const cases = [
  ["JPEG q80", "jpeg", { quality: 80 }],
  ["JPEG mozjpeg", "jpeg", { mozjpeg: true }],
  ["WEBP q80", "webp", { quality: 80 }],
  ["WEBP lossless", "webp", { lossless: true }],
  ["PNG", "png", {}],
];

function build() {
  const config = ["--config", "profile.dev.package.comfyui-api.opt-level=3"];
  const args = ["build", "--bench", "versus_sharp", "--message-format=json", ...config];
  const lines = execFileSync("cargo", args, {
    stdio: ["ignore", "pipe", "inherit"],
    maxBuffer: 1 << 28,
  })
    .toString()
    .trim()
    .split("\n");
  return lines
    .map((line) => JSON.parse(line))
    .filter((m) => m.executable && m.target.name === "versus_sharp")
    .at(-1).executable;
}

async function runOurs(format, options) {
  ours.stdin.write(`${format} ${JSON.stringify(options)}\n`);
  const [ms, size, cpu] = (await answers.next()).value.split(" ").map(Number);
  return { ms, size, cpu };
}

async function runSharp(format, options) {
  const [started, burnt] = [process.hrtime.bigint(), process.cpuUsage()];
  await sharp(png)[format](options).toFile(theirs);
  const ms = Number(process.hrtime.bigint() - started) / 1e6;
  const used = process.cpuUsage(burnt);
  return { ms, size: statSync(theirs).size, cpu: (used.user + used.system) / 1000 };
}

const median = (numbers) => numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
const cpu = readFileSync("/proc/loadavg", "utf8").split(" ")[0];
console.log(
  `sharp ${sharp.versions.sharp}, libvips ${sharp.versions.vips}; ` +
    `PNG ${statSync(png).size} bytes; ${rounds} rounds; load ${cpu}`,
);
for (const [name, format, options] of cases) {
  const [a, b, c, d] = [[], [], [], []];
  let [ourSize, sharpSize] = [0, 0];
  for (let round = -1; round < rounds; round += 1) {
    const mine = await runOurs(format, options);
    const other = await runSharp(format, options);
    if (round < 0) continue;
    a.push(mine.ms);
    b.push(other.ms);
    c.push(mine.cpu);
    d.push(other.cpu);
    [ourSize, sharpSize] = [mine.size, other.size];
  }
  const [best, bestSharp] = [Math.min(...a), Math.min(...b)];
  console.log(
    `${name.padEnd(14)} median ${median(a).toFixed(1)} / ${median(b).toFixed(1)} ms` +
      ` = ${(median(a) / median(b)).toFixed(2)}` +
      `   best ${best.toFixed(1)} / ${bestSharp.toFixed(1)} ms = ${(best / bestSharp).toFixed(2)}` +
      `   processor time ${median(c).toFixed(1)} / ${median(d).toFixed(1)} ms` +
      ` = ${(median(c) / median(d)).toFixed(2)}` +
      `   bytes ${ourSize} / ${sharpSize} = ${(ourSize / sharpSize).toFixed(3)}`,
  );
}
const [single, four] = [[], []];
for (let round = 0; round < rounds; round += 1) {
  single.push((await runOurs("webp", { quality: 80 })).ms);
  four.push((await runOurs("four webp", { quality: 80 })).ms);
}
const gain = (4 * Math.min(...single)) / Math.min(...four);
console.log(
  `four at once   best ${Math.min(...four).toFixed(1)} ms ` +
    `against 4 x ${Math.min(...single).toFixed(1)} ms: ` +
    `${gain.toFixed(2)} x as many on ${availableParallelism()} cores`,
);
ours.stdin.end();
rmSync(folder, { recursive: true });
