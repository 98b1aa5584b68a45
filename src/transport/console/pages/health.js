/**
 * The state of everything: versions, devices, disks, what was slow lately, the log, the
 * configuration.
 */

import { computed, h, onCleanup, signal, when } from "../kernel.js";
import { t } from "../i18n.js";
import { json } from "../api.js";
import {
  isGateway,
  memoryOf,
  onReconnect,
  remember,
  runs,
  sampled,
  series,
  status,
  vramOf,
} from "../live.js";
import { heading, stateWord } from "../shell.js";
import * as format from "../format.js";
import { configuration } from "../health/configuration.js";
import { fleetView } from "../health/fleet.js";
import { logView } from "../health/log.js";
import { inFlight, perMinute, sparkline } from "../health/sparkline.js";
import { attempt, badge, button, confirm, loading, notify, now } from "../ui.js";

export default function page() {
  const restart = async () => {
    if (
      !(await confirm(
        t("Restart ComfyUI?"),
        t("Runs in flight fail; tasks from the queue go back to it."),
      ))
    )
      return;
    await attempt(async () => {
      await json("restart", { method: "POST" });
      notify(t("ComfyUI restarts."), "good");
    });
  };
  const free = () =>
    attempt(async () => {
      await json("free", { method: "POST", json: { unload_models: true, free_memory: true } });
      notify(t("ComfyUI frees its memory."), "good");
    });
  return h(
    "div",
    { class: "page" },
    heading(
      t("Health"),
      when(
        () => !isGateway(),
        () =>
          h(
            "div",
            { class: "actions" },
            button(t("Free memory"), () => void free(), { class: "secondary" }),
            button(t("Restart ComfyUI"), () => void restart(), {
              class: "secondary",
              icon: "again",
            }),
          ),
      ),
    ),
    () => (status() === null ? loading() : null),
    h("div", { class: "sparks" }, sparks()),
    h(
      "div",
      { class: "columns three" },
      h(
        "section",
        { class: "panel", "aria-label": t("Versions") },
        h("h2", null, t("Versions")),
        versions,
      ),
      h(
        "section",
        { class: "panel", "aria-label": t("Devices") },
        h("h2", null, t("Devices")),
        devices,
      ),
      h(
        "section",
        { class: "panel", "aria-label": t("Service") },
        h("h2", null, t("Service")),
        service,
      ),
    ),
    fleetView(),
    logView(),
    configuration(),
  );
}

/** The stream begins with the newest fifty runs; ten minutes of a busy server are more. */
function lately() {
  const older = signal(/** @type {Record<string, any>[]} */ ([]));
  const since = signal(0);
  const load = async () => {
    const { items, next } = await json("history?limit=200");
    older.set(items);
    since.set(next && items.length ? new Date(items[items.length - 1].created_at).getTime() : 0);
  };
  load().catch(() => {}); // what the stream tells is shown anyway
  const all = computed(() => {
    const live = runs() ?? [];
    const known = new Set(live.map((one) => one.id));
    return [...live, ...older().filter((one) => !known.has(one.id))];
  });
  return { all, since };
}

/** Memory of the last ten minutes, which the server measures whether somebody looks or not. */
async function measured() {
  const { samples = [] } = await json("status?samples=true");
  for (const name of ["vram", "memory"]) {
    remember(
      name,
      samples
        .filter((/** @type {any} */ one) => one[`${name}_total`])
        .map((/** @type {any} */ one) => [
          one.at,
          (one[`${name}_used`] / one[`${name}_total`]) * 100,
        ]),
    );
  }
}

function sparks() {
  const look = () => void measured().catch(() => {}); // the lines begin later, then
  look();
  onCleanup(onReconnect(look));
  const minute = computed(() => Math.floor(now() / 5000) * 5000);
  const { all, since } = lately();
  const ended = computed(() =>
    all().filter((one) => one.status === "succeeded" && one.finished_at),
  );
  const points = (/** @type {string} */ name) => () => (sampled(), [...series[name]]);
  const waiting = computed(
    () => (
      sampled(),
      [
        ...inFlight(all(), Math.max(minute() - 600_000, since()), series.queue[0]?.[0] ?? 0),
        ...series.queue,
      ]
    ),
  );
  const took = () =>
    ended()
      .map(
        (one) =>
          /** @type {[number, number]} */ ([
            new Date(one.finished_at).getTime(),
            format.seconds(one.started_at ?? one.created_at, one.finished_at) ?? 0,
          ]),
      )
      .filter(([time]) => time > minute() - 600_000)
      .sort((a, b) => a[0] - b[0]);
  const percent = (/** @type {number} */ value) => `${Math.round(value)} %`;
  return [
    sparkline(
      t("Prompts a minute"),
      () => perMinute(ended(), minute(), since()),
      (value) => format.number(value),
      minute,
    ),
    sparkline(t("Queue"), waiting, (value) => format.number(value), minute),
    sparkline(t("Seconds a prompt"), took, (value) => format.duration(value), minute),
    when(
      () => !isGateway(),
      () => sparkline(t("VRAM"), points("vram"), percent, minute, 100),
    ),
    sparkline(t("Memory"), points("memory"), percent, minute, 100),
  ];
}

/** @param {string} name @param {any} value */
const fact = (name, value) =>
  value === undefined || value === null || value === ""
    ? null
    : h("div", null, h("dt", null, name), h("dd", null, value));

function versions() {
  const state = status();
  if (!state) return null;
  const { comfyui = {} } = state;
  return h(
    "dl",
    { class: "facts" },
    fact("comfyui-api", state.version),
    fact("ComfyUI", comfyui.version),
    fact("Python", comfyui.python),
    fact("torch", comfyui.torch),
    fact(t("Up since"), format.time(state.started_at)),
    fact(t("ComfyUI since"), comfyui.since ? format.time(comfyui.since) : null),
    fact(t("Restarts"), comfyui.restarts === undefined ? null : String(comfyui.restarts)),
    fact(t("Process"), comfyui.pid),
  );
}

/**
 * @param {string} name
 * @param {{used: number, total: number} | null} value
 * @param {string} [text]
 * @param {string} [title]
 */
const meter = (name, value, text, title) =>
  value
    ? h(
        "div",
        { class: "meter-row" },
        h(
          "div",
          { class: "meter-text" },
          h("span", { class: "break", title: title ?? null }, name),
          h(
            "span",
            { class: "muted" },
            text ??
              t("{used} of {total}", {
                used: format.size(value.used),
                total: format.size(value.total),
              }),
          ),
        ),
        h(
          "div",
          {
            class: `meter${value.used / value.total > 0.92 ? " full" : ""}`,
            role: "img",
            "aria-label": `${name}: ${Math.round((value.used / value.total) * 100)} %`,
          },
          h("div", { style: { transform: `scaleX(${Math.min(1, value.used / value.total)})` } }),
        ),
      )
    : null;

function devices() {
  const state = status();
  if (!state) return null;
  const all = state.comfyui?.devices ?? [];
  return [
    all.map((/** @type {any} */ device) =>
      h(
        "div",
        { class: "device" },
        h("p", null, h("strong", null, device.name ?? device.type ?? t("Device"))),
        meter(t("Memory of the device"), vramOf(device)) ??
          h("p", { class: "muted" }, device.type ?? ""),
      ),
    ),
    all.length || isGateway()
      ? null
      : h("p", { class: "muted" }, t("ComfyUI has not named a device.")),
    meter(t("Memory"), memoryOf(state)),
    disksOf(state).map((disk) =>
      meter(
        disk.name,
        disk,
        t("{free} free of {total}", {
          free: format.size(disk.total - disk.used),
          total: format.size(disk.total),
        }),
        disk.paths,
      ),
    ),
  ];
}

/**
 * One for each file system: several directories may lie on it.
 * @param {any} state
 * @returns {{name: string, paths: string, used: number, total: number}[]}
 */
export function disksOf(state) {
  /** @type {{names: string[], paths: string[], total: number, free: number}[]} */
  const found = [];
  for (const { name, path, total, free } of state.disks ?? []) {
    if (!total) continue;
    const same = found.find(
      (one) => one.total === total && Math.abs(one.free - free) < total / 1000,
    );
    if (same) {
      same.names.push(name ?? path);
      same.paths.push(path);
    } else found.push({ names: [name ?? path], paths: [path], total, free });
  }
  return found.map(({ names, paths, total, free }) => ({
    name: `${t("Disk")}: ${names.join(", ")}`,
    paths: paths.join("\n"),
    total,
    used: total - free,
  }));
}

/** One of several ComfyUI.
 * @param {any} one */
const instance = (one) =>
  fact(
    `ComfyUI ${one.index}`,
    h(
      "span",
      null,
      badge(one.state),
      ` ${t("Running")} ${one.running}, ${t("Waiting")} ${one.waiting}` +
        (one.devices ? `, GPU ${one.devices}` : ""),
    ),
  );

function service() {
  const state = status();
  if (!state) return null;
  const features = state.features ?? {};
  // AMQP has a line of its own.
  const named = Object.entries(features).filter(([name]) => name !== "amqp");
  const word = stateWord(state);
  return h(
    "dl",
    { class: "facts" },
    fact("ComfyUI", badge(word)),
    (state.instances ?? []).map(instance),
    state.ready ? null : fact(t("Reason"), state.reason),
    state.amqp
      ? Object.entries(typeof state.amqp === "object" ? state.amqp : { AMQP: state.amqp })
          .filter(([, value]) => typeof value !== "object")
          .map(([name, value]) => fact(`AMQP ${name === "AMQP" ? "" : name}`.trim(), String(value)))
      : fact("AMQP", t(features.amqp ? "on" : "off")),
    named.map(([name, value]) =>
      fact(
        String(name),
        value === true
          ? t("on")
          : value === false
            ? t("off")
            : typeof value === "object"
              ? JSON.stringify(value)
              : String(value),
      ),
    ),
  );
}
