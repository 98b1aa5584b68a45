/** The state of everything: versions, devices, disks, what was slow lately, the log, the configuration. */

import { computed, h, list, onCleanup, signal } from "../kernel.js";
import { t } from "../i18n.js";
import { json } from "../api.js";
import { memoryOf, onReconnect, runs, sampled, series, status, vramOf } from "../live.js";
import { heading, stateWord } from "../shell.js";
import * as format from "../format.js";
import { logView } from "../health/log.js";
import { perMinute, sparkline } from "../health/sparkline.js";
import { attempt, badge, button, cell, confirm, failed, loading, notify, now, searchbox, table, uniqueId } from "../ui.js";

export default function page() {
  const restart = async () => {
    if (!(await confirm(t("Restart ComfyUI?"), t("Runs in flight fail; tasks from the queue go back to it.")))) return;
    await attempt(async () => {
      await json("restart", { method: "POST" });
      notify(t("ComfyUI restarts."), "good");
    });
  };
  const free = () => attempt(async () => {
    await json("free", { method: "POST", json: { unload_models: true, free_memory: true } });
    notify(t("ComfyUI frees its memory."), "good");
  });
  return h("div", { class: "page" }, heading(t("Health"), h("div", { class: "actions" },
    button(t("Free memory"), () => void free(), { class: "secondary" }), button(t("Restart ComfyUI"), () => void restart(), { class: "secondary", icon: "again" }))),
  () => (status() === null ? loading() : null),
  h("div", { class: "sparks" }, sparks()),
  h("div", { class: "columns" },
    h("section", { class: "panel", "aria-label": t("Versions") }, h("h2", null, t("Versions")), versions),
    h("section", { class: "panel", "aria-label": t("Devices") }, h("h2", null, t("Devices")), devices),
    h("section", { class: "panel", "aria-label": t("Service") }, h("h2", null, t("Service")), service)),
  logView(),
  configuration());
}

function sparks() {
  const minute = computed(() => Math.floor(now() / 5000) * 5000);
  const ended = computed(() => (runs() ?? []).filter((one) => one.status === "succeeded" && one.finished_at));
  const points = (/** @type {string} */ name) => () => (sampled(), [...series[name]]);
  const took = () => ended().map((one) => /** @type {[number, number]} */ ([new Date(one.finished_at).getTime(), format.seconds(one.started_at ?? one.created_at, one.finished_at) ?? 0]))
    .filter(([time]) => time > minute() - 600_000).sort((a, b) => a[0] - b[0]);
  const percent = (/** @type {number} */ value) => `${Math.round(value)} %`;
  return [
    sparkline(t("Prompts a minute"), () => perMinute(ended(), minute()), (value) => format.number(value), minute),
    sparkline(t("Queue"), points("queue"), (value) => format.number(value), minute),
    sparkline(t("Seconds a prompt"), took, (value) => format.duration(value), minute),
    sparkline(t("VRAM"), points("vram"), percent, minute, 100),
    sparkline(t("Memory"), points("memory"), percent, minute, 100),
  ];
}

/** @param {string} name @param {any} value */
const fact = (name, value) => (value === undefined || value === null || value === "" ? null : h("div", null, h("dt", null, name), h("dd", null, value)));

function versions() {
  const state = status();
  if (!state) return null;
  const { comfyui = {} } = state;
  return h("dl", { class: "facts" },
    fact("comfyui-api", state.version), fact("ComfyUI", comfyui.version), fact("Python", comfyui.python), fact("torch", comfyui.torch),
    fact(t("Up since"), format.time(state.started_at)), fact(t("ComfyUI since"), comfyui.since ? format.time(comfyui.since) : null), fact(t("Restarts"), comfyui.restarts === undefined ? null : String(comfyui.restarts)), fact(t("Process"), comfyui.pid));
}

/** @param {string} name @param {{used: number, total: number} | null} value */
const meter = (name, value) => (value ? h("div", { class: "meter-row" },
  h("div", { class: "meter-text" }, h("span", { class: "break" }, name), h("span", { class: "muted" }, t("{used} of {total}", { used: format.size(value.used), total: format.size(value.total) }))),
  h("div", { class: `meter${value.used / value.total > 0.92 ? " full" : ""}`, role: "img", "aria-label": `${name}: ${Math.round((value.used / value.total) * 100)} %` }, h("div", { style: { transform: `scaleX(${Math.min(1, value.used / value.total)})` } }))) : null);

function devices() {
  const state = status();
  if (!state) return null;
  const all = state.comfyui?.devices ?? [];
  return [
    all.map((/** @type {any} */ device) => h("div", { class: "device" }, h("p", null, h("strong", null, device.name ?? device.type ?? t("Device"))), meter(t("Memory of the device"), vramOf(device)) ?? h("p", { class: "muted" }, device.type ?? ""))),
    all.length ? null : h("p", { class: "muted" }, t("ComfyUI has not named a device.")),
    meter(t("Memory"), memoryOf(state)),
    disksOf(state).map((disk) => meter(disk.path, disk)),
  ];
}

/** @param {any} state @returns {{path: string, used: number, total: number}[]} */
function disksOf(state) {
  const disks = state.disks ?? [];
  const entries = Array.isArray(disks) ? disks.map((/** @type {any} */ disk) => [disk.path ?? disk.name, disk]) : Object.entries(disks);
  return entries.map(([path, disk]) => {
    const total = disk.total ?? disk.total_bytes ?? 0;
    const free = disk.free ?? disk.free_bytes ?? 0;
    return { path: `${t("Disk")} ${disk.name && disk.name !== path ? `${disk.name}: ` : ""}${path}`, total, used: total - free };
  }).filter((disk) => disk.total > 0);
}

/** One of several ComfyUI.
 * @param {any} one */
const instance = (one) => fact(`ComfyUI ${one.index}`, h("span", null, badge(t(one.state), undefined),
  ` ${t("Running")} ${one.running}, ${t("Waiting")} ${one.waiting}${one.devices ? `, GPU ${one.devices}` : ""}`));

function service() {
  const state = status();
  if (!state) return null;
  const features = state.features ?? {};
  const named = Array.isArray(features) ? features.map((name) => [name, true]) : Object.entries(features);
  const word = stateWord(state);
  return h("dl", { class: "facts" },
    fact("ComfyUI", badge(t(word), undefined)), (state.instances ?? []).map(instance), state.ready ? null : fact(t("Reason"), state.reason),
    state.amqp ? Object.entries(typeof state.amqp === "object" ? state.amqp : { AMQP: state.amqp }).filter(([, value]) => typeof value !== "object").map(([name, value]) => fact(`AMQP ${name === "AMQP" ? "" : name}`.trim(), String(value))) : fact("AMQP", t("off")),
    named.map(([name, value]) => fact(String(name), value === true ? t("on") : value === false ? t("off") : typeof value === "object" ? JSON.stringify(value) : String(value))));
}

function configuration() {
  const rows = signal(/** @type {Record<string, any>[] | null} */ (null));
  const failure = signal(/** @type {any} */ (null));
  const text = signal("");
  const onlySet = signal(false);
  const load = async () => {
    try {
      rows.set(await json("config"));
      failure.set(null);
    } catch (error) {
      failure.set(error);
    }
  };
  void load();
  onCleanup(onReconnect(() => void load()));
  const shown = computed(() => (rows() ?? []).filter((one) => (!onlySet() || one.origin !== "default") && (!text() || `${one.name} ${one.value} ${one.description}`.toLowerCase().includes(text().toLowerCase()))));
  const id = uniqueId("only");
  return h("section", { class: "panel", "aria-label": t("Variables") },
    h("div", { class: "panel-head" }, h("h2", null, t("Configuration"), h("span", { class: "count" }, () => (rows() ? String(shown().length) : "")))),
    h("div", { class: "filters" }, searchbox(t("Filter variables"), text), h("div", { class: "inline-field" }, h("input", { id, type: "checkbox", role: "switch", onchange: (/** @type {any} */ event) => onlySet.set(event.target.checked) }), h("label", { for: id }, t("Only what was set")))),
    () => (failure() ? failed(failure(), () => void load()) : rows() === null ? loading() : null),
    table(t("Configuration"), [t("Variable"), t("Value"), t("Default"), t("Origin"), t("Meaning")], list(shown, (one) => one.name, (one) => h("tr", { role: "row" },
      cell(t("Variable"), h("span", { class: "mono break" }, () => one().name)), cell(t("Value"), h("span", { class: "mono break" }, () => one().value)), cell(t("Default"), h("span", { class: "mono break muted" }, () => one().default)),
      cell(t("Origin"), () => badge(one().origin, one().origin === "default" ? "calm" : "live")), cell(t("Meaning"), h("span", { class: "muted" }, () => one().description)))), { class: () => `cards config${shown().length ? "" : " bare"}` }),
    () => (rows() && !shown().length ? h("p", { class: "muted none" }, t("No variable fits.")) : null));
}
