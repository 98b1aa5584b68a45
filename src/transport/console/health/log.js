/**
 * The log of ComfyUI and of the server, live: only the lines that can be seen are in the page,
 * however many there are.
 */

import { computed, effect, h, onCleanup, signal } from "../kernel.js";
import { t } from "../i18n.js";
import { json } from "../api.js";
import { followLog } from "../live.js";
import * as format from "../format.js";
import { button, choice, searchbox } from "../ui.js";

/** @typedef {{time: any, source: string, level?: string, text: string, prompt_id?: string}} Line */

const MOST = 10_000;
const HEIGHT = 20;
const MARGIN = 10;
const LEVELS = ["trace", "debug", "info", "warn", "error", "fatal"];

/**
 * Whether a line is at least that serious; one that does not say counts as `info`, as for the API.
 * @param {Line} line
 * @param {string} level
 */
export const isAtLeast = (line, level) =>
  !level ||
  LEVELS.indexOf((line.level ?? "info").toLowerCase().replace("warning", "warn")) >=
    LEVELS.indexOf(level);

/**
 * Adds lines, without those that are there already: the stream begins with what `GET /logs` has
 * told.
 * @param {Line[]} known
 * @param {Line[]} told
 */
export function joined(known, told) {
  if (!known.length) return told.slice(-MOST);
  const last = known.slice(-told.length - 200).map(keyOf);
  const seen = new Set(last);
  const fresh = told.filter((line) => !seen.has(keyOf(line)));
  return fresh.length ? [...known, ...fresh].slice(-MOST) : known;
}

/** @param {Line} line */
const keyOf = (line) => `${line.time}\n${line.source}\n${line.text}`;

/** The lines as they come; while it is paused they wait. */
function followed() {
  const lines = signal(/** @type {Line[]} */ ([]));
  const paused = signal(false);
  /** What came while it was paused. @type {Line[]} */
  let held = [];
  const waiting = signal(0);

  const add = (/** @type {any[]} */ told, /** @type {boolean} */ first) => {
    if (paused.peek()) {
      held = joined(held, told);
      waiting.set(held.length);
    } else {
      // A snapshot repeats what is known; later lines may be equal and still be new.
      lines.update((known) => (first ? joined(known, told) : [...known, ...told].slice(-MOST)));
    }
  };
  let over = false;
  let end = () => {};
  json("logs?source=all&lines=5000")
    .then(
      (/** @type {Line[]} */ all) => lines.update((known) => joined(all, known)),
      () => {},
    )
    .finally(() => {
      if (!over) end = followLog(add);
    });
  onCleanup(() => {
    over = true;
    end();
  });

  const pause = () => {
    paused.update((value) => !value);
    if (paused.peek()) return;
    lines.update((known) => joined(known, held));
    held = [];
    waiting.set(0);
  };
  return { lines, paused, waiting, pause };
}

export function logView() {
  const { lines, paused, waiting, pause } = followed();
  const [source, level, text] = [signal(""), signal(""), signal("")];
  const shown = computed(() => {
    const wanted = text().toLowerCase();
    return lines().filter(
      (line) =>
        (!source() || line.source === source()) &&
        isAtLeast(line, level()) &&
        (!wanted || line.text.toLowerCase().includes(wanted)),
    );
  });

  const all = /** @type {[string, string]} */ (["", t("All")]);
  return h(
    "section",
    { class: "panel log-panel", "aria-label": t("Logs") },
    h(
      "div",
      { class: "panel-head" },
      h(
        "h2",
        null,
        t("Log"),
        h("span", { class: "count" }, () => format.number(shown().length)),
      ),
      button(t("Pause log"), pause, {
        class: "secondary small",
        icon: "pause",
        "aria-pressed": () => String(paused()),
      }),
      () =>
        waiting() ? h("span", { class: "muted" }, t("{n} new lines wait", { n: waiting() })) : null,
    ),
    h(
      "div",
      { class: "filters" },
      searchbox(t("Filter log"), text),
      choice(t("Log source"), source, () => [all, "comfyui", "server"]),
      choice(t("Level"), level, () => [all, "debug", "info", "warn", "error"]),
    ),
    virtual(shown, paused),
    () =>
      shown().length
        ? null
        : h(
            "p",
            { class: "muted none" },
            lines().length ? t("No line fits.") : t("Nothing was logged yet."),
          ),
  );
}

/** @param {() => Line[]} lines @param {() => boolean} paused */
export function virtual(lines, paused) {
  const space = h("div", { class: "log-space" });
  const view = h(
    "div",
    { class: "log", role: "log", "aria-label": t("Log"), "aria-live": "off", tabindex: "0" },
    space,
  );
  let follows = true;
  let frame = 0;
  /** @type {Map<number, {element: HTMLElement, line: Line}>} */
  let drawn = new Map();

  function draw() {
    frame = 0;
    const all = lines();
    space.style.setProperty("height", `${all.length * HEIGHT}px`);
    if (follows) view.scrollTop = view.scrollHeight;
    const first = Math.max(0, Math.floor(view.scrollTop / HEIGHT) - MARGIN);
    const last = Math.min(
      all.length,
      Math.ceil((view.scrollTop + view.clientHeight) / HEIGHT) + MARGIN,
    );
    /** @type {typeof drawn} */
    const next = new Map();
    for (let index = first; index < last; index += 1) {
      const known = drawn.get(index);
      if (known && known.line === all[index]) {
        next.set(index, known);
        continue;
      }
      const element = lineOf(all[index]);
      element.style.setProperty("top", `${index * HEIGHT}px`);
      next.set(index, { element, line: all[index] });
    }
    for (const [index, { element }] of drawn)
      if (next.get(index)?.element !== element) element.remove();
    // In order, for those who read the page and do not see it.
    let before = /** @type {Element | null} */ (null);
    for (const { element } of next.values()) {
      const place = before ? before.nextElementSibling : space.firstElementChild;
      if (place !== element) space.insertBefore(element, place);
      before = element;
    }
    drawn = next;
  }
  const request = () => {
    frame ||= requestAnimationFrame(draw);
  };
  view.addEventListener(
    "scroll",
    () => {
      follows = !paused() && view.scrollTop + view.clientHeight >= view.scrollHeight - HEIGHT * 2;
      request();
    },
    { passive: true },
  );
  effect(() => {
    lines();
    if (paused()) follows = false;
    request();
  });
  const watcher = new ResizeObserver(request);
  watcher.observe(view);
  onCleanup(() => {
    watcher.disconnect();
    cancelAnimationFrame(frame);
  });
  return view;
}

/** @param {Line} line */
function lineOf(line) {
  const date = format.moment(line.time);
  const level = line.level?.toLowerCase() ?? "";
  return h(
    "div",
    { class: `log-line ${level}`, title: line.prompt_id ?? null },
    h(
      "span",
      { class: "log-time" },
      date
        ? `${date.toLocaleTimeString("en-GB")}.${String(date.getMilliseconds()).padStart(3, "0")}`
        : "",
    ),
    h(
      "span",
      { class: `log-source ${line.source}` },
      line.source === "comfyui" ? "comfy" : "server",
    ),
    h("span", { class: "log-level" }, level),
    h("span", { class: "log-text" }, line.text),
  );
}
