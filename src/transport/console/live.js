/**
 * What the server tells by itself: one stream for the whole tab. Pages read these signals and ask
 * for nothing that is here.
 */

import { signal } from "./kernel.js";
import { ApiError, follow } from "./api.js";

/** @typedef {Record<string, any>} Item */

/**
 * "connecting" at first, then "open" or "lost".
 * @type {import("./kernel.js").Signal<"connecting" | "open" | "lost">}
 */
export const connection = signal(/** @type {any} */ ("connecting"));
/** When the next attempt is made, in milliseconds since 1970. */
export const nextAttempt = signal(0);

/**
 * @type {import("./kernel.js").Signal<{running: Item[], pending: Item[], finished: Item[]} | null>}
 */
export const queue = signal(/** @type {any} */ (null));
/** @type {import("./kernel.js").Signal<Item | null>} */
export const status = signal(/** @type {any} */ (null));
/** @type {import("./kernel.js").Signal<{size: number, limit: number, count: number} | null>} */
export const cache = signal(/** @type {any} */ (null));
/** Newest first. @type {import("./kernel.js").Signal<Item[] | null>} */
export const runs = signal(/** @type {any} */ (null));
/** @type {import("./kernel.js").Signal<Item[] | null>} */
export const downloads = signal(/** @type {any} */ (null));
/** @type {import("./kernel.js").Signal<Item[] | null>} */
export const deliveries = signal(/** @type {any} */ (null));

/**
 * Who wants the lines of the log as they come.
 * @type {Set<(lines: Item[], first: boolean) => void>}
 */
const logReaders = new Set();
/** Called after a connection is there again. @type {Set<() => void>} */
const reconnected = new Set();

const KEPT = { runs: 1000, downloads: 200, deliveries: 500 };

/**
 * Whole items, the newest first: those that are known are replaced, new ones go in front.
 * @param {Item[] | null} known
 * @param {Item[]} told
 * @param {number} limit
 */
export function merged(known, told, limit) {
  if (!known) return told;
  const fresh = new Map(told.map((item) => [item.id, item]));
  const kept = known.map((item) => {
    const changed = fresh.get(item.id);
    fresh.delete(item.id);
    return changed ?? item;
  });
  return [...fresh.values(), ...kept].slice(0, limit);
}

/**
 * Points of the last ten minutes: time in milliseconds, value.
 * @type {Record<string, [number, number][]>}
 */
export const series = { queue: [], vram: [], memory: [] };
/** Grows with every new point. */
export const sampled = signal(0);
const WINDOW = 600_000;

/**
 * What was measured while nobody looked here.
 * @param {string} name
 * @param {[number, number][]} points
 */
export function remember(name, points) {
  const known = series[name];
  const missing = points.filter(([time]) => !known.some((one) => Math.abs(one[0] - time) < 1000));
  series[name] = [...missing, ...known].sort((a, b) => a[0] - b[0]);
  sampled.update((count) => count + 1);
}

/** @param {string} name @param {number | null | undefined} value */
function sample(name, value) {
  if (value == null || !Number.isFinite(value)) return;
  const [points, now] = [series[name], Date.now()];
  const last = points[points.length - 1];
  if (last && now - last[0] < 1000) last[1] = value;
  else points.push([now, value]);
  while (points.length > 2 && points[1][0] < now - WINDOW) points.shift();
  sampled.update((count) => count + 1);
}

/** Used share of a device's memory. @param {any} device */
export function vramOf(device) {
  const total = device?.vram_total ?? device?.total;
  const free = device?.vram_free ?? device?.free;
  return total ? { total, used: total - (free ?? total) } : null;
}

/** @param {Item | null} state */
export function memoryOf(state) {
  const memory = state?.memory ?? state?.comfyui?.memory ?? state?.comfyui?.system;
  const total = memory?.total ?? memory?.ram_total;
  const free = memory?.free ?? memory?.ram_free;
  return total ? { total, used: memory?.used ?? total - (free ?? total) } : null;
}

/** Whether the server is a gateway: what belongs to a ComfyUI is at its instances. */
export const isGateway = () => Boolean(status()?.queues);

let snapshot = new Set();

/** @param {string} topic @param {any} data */
function take(topic, data) {
  const first = !snapshot.has(topic);
  snapshot.add(topic);
  if (topic === "queue") {
    queue.set(data);
    sample("queue", (data.running?.length ?? 0) + (data.pending?.length ?? 0));
  } else if (topic === "status") {
    status.set(data);
    const vram = vramOf(data.comfyui?.devices?.[0]);
    sample("vram", vram && (vram.used / vram.total) * 100);
    const memory = memoryOf(data);
    sample("memory", memory && (memory.used / memory.total) * 100);
  } else if (topic === "cache") {
    cache.set(data);
  } else if (topic === "runs") {
    runs.update((known) => merged(known, data, KEPT.runs));
  } else if (topic === "downloads") {
    downloads.update((known) => merged(first ? null : known, data, KEPT.downloads));
  } else if (topic === "deliveries") {
    deliveries.update((known) => merged(known, data, KEPT.deliveries));
  } else if (topic === "log") {
    for (const reader of logReaders) reader(data, first);
  }
}

/** @type {AbortController | null} */
let active = null;
let wake = () => {};
let started = false;
let switching = false;

const TOPICS = "queue,runs,downloads,cache,deliveries,status";

/** Connects, and again whenever the connection ends. */
export async function start() {
  if (started) return;
  started = true;
  addEventListener("online", () => wake());
  document.addEventListener(
    "visibilitychange",
    () => document.visibilityState === "visible" && wake(),
  );
  let failures = 0;
  let lost = false;
  for (;;) {
    const stop = new AbortController();
    active = stop;
    switching = false;
    snapshot = new Set();
    try {
      await follow(`events?topics=${TOPICS}${logReaders.size ? ",log" : ""}`, {
        signal: stop.signal,
        onOpen: () => {
          failures = 0;
          connection.set("open");
          if (lost) for (const again of reconnected) again();
          lost = false;
        },
        onEvent: take,
      });
    } catch (error) {
      if (error instanceof ApiError) console.warn(error.message);
    }
    if (switching) continue; // another set of topics is wanted: at once, and without a word
    lost = true;
    failures += 1;
    const pause =
      Math.min(15_000, 500 * 2 ** Math.min(failures - 1, 6)) * (0.75 + Math.random() / 2);
    nextAttempt.set(Date.now() + pause);
    connection.set("lost");
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, pause);
      wake = () => {
        clearTimeout(timer);
        resolve(undefined);
      };
    });
    wake = () => {};
  }
}

/** Does not wait for the next attempt. */
export const retry = () => wake();

/**
 * The lines of the log, from now on, until the function that is returned is called.
 * @param {(lines: Item[], first: boolean) => void} reader
 */
export function followLog(reader) {
  logReaders.add(reader);
  restart();
  return () => {
    logReaders.delete(reader);
    restart();
  };
}

function restart() {
  if (connection.peek() !== "open") return wake();
  switching = true;
  active?.abort();
}

/** @param {() => void} again */
export function onReconnect(again) {
  reconnected.add(again);
  return () => reconnected.delete(again);
}

/** The newest that is known of a run. @param {string} id */
export const run = (id) => runs()?.find((item) => item.id === id);
