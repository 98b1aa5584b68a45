/** Runs of every door, newest first; and one of them in full. */

import { effect, h, onCleanup, signal } from "../kernel.js";
import { plural, t } from "../i18n.js";
import { json } from "../api.js";
import { onReconnect, runs as liveRuns } from "../live.js";
import { addressOf } from "../router.js";
import { heading } from "../shell.js";
import * as format from "../format.js";
import { kindOf as fileKind, thumbnail } from "../files/media.js";
import { longRows } from "../rows.js";
import { badge, button, cell, choice, empty, failed, loading, searchbox, table } from "../ui.js";
import runPage from "./run.js";

const STATUSES = [
  "preprocessing",
  "pending",
  "running",
  "postprocessing",
  "uploading",
  "succeeded",
  "failed",
  "interrupted",
];
const SOURCES = ["http", "amqp", "workflow", "v2", "mcp", "warmup"];

/** @typedef {Record<string, any>} Item */

/** @param {string} id */
export default function page(id) {
  return id ? runPage(id) : listPage();
}

/**
 * Whether an item that comes by itself belongs to what is shown.
 * @param {Item} item
 * @param {Record<string, string>} filter
 */
export function fits(item, { q, status, source, workflow }) {
  const text = [
    item.id,
    item.workflow,
    typeof item.error === "string" ? item.error : item.error?.message,
  ]
    .filter(Boolean)
    .join(" ")
    .toLowerCase();
  return (
    (!status || item.status === status) &&
    (!source || item.source === source) &&
    (!workflow || item.workflow === workflow) &&
    (!q || text.includes(q.toLowerCase()))
  );
}

/** What the list is narrowed by. */
function filters() {
  const parts = { q: signal(""), status: signal(""), source: signal(""), workflow: signal("") };
  const { q, status, source, workflow } = parts;
  return {
    ...parts,
    all: () => ({ q: q().trim(), status: status(), source: source(), workflow: workflow() }),
    peek: () => ({
      q: q.peek().trim(),
      status: status.peek(),
      source: source.peek(),
      workflow: workflow.peek(),
    }),
    clear: () => Object.values(parts).forEach((one) => one.set("")),
  };
}

/** @typedef {ReturnType<typeof filters>} Filters */

/**
 * The runs that fit, newest first, and more of them when they are asked for.
 * @param {Filters} filter
 */
function found(filter) {
  const items = signal(/** @type {Item[] | null} */ (null));
  const next = signal(/** @type {any} */ (null));
  const failure = signal(/** @type {any} */ (null));
  const busy = signal(false);
  let turn = 0;

  /** @param {boolean} more */
  async function load(more) {
    const mine = (turn += 1);
    busy.set(true);
    const query = new URLSearchParams({ limit: "50" });
    for (const [name, value] of Object.entries(filter.peek())) if (value) query.set(name, value);
    if (more && next.peek()) query.set("before", String(next.peek()));
    try {
      const answer = await json(`history?${query}`);
      if (mine !== turn) return;
      failure.set(null);
      const before = more ? (items.peek() ?? []) : [];
      const seen = new Set(before.map((one) => one.id));
      items.set([
        ...before,
        ...answer.items.filter((/** @type {Item} */ one) => !seen.has(one.id)),
      ]);
      next.set(answer.next ?? null);
    } catch (error) {
      if (mine === turn) failure.set(error);
    } finally {
      if (mine === turn) busy.set(false);
    }
  }
  return { items, next, failure, busy, load };
}

/** @typedef {ReturnType<typeof found>} Found */

/**
 * Loads when the filter has changed, and after a lost connection.
 * @param {Filters} filter
 * @param {Found} runs
 */
function followFilter(filter, { load }) {
  /** @type {ReturnType<typeof setTimeout>} */
  let timer;
  let first = true;
  effect(() => {
    filter.all();
    clearTimeout(timer);
    timer = setTimeout(() => void load(false), first ? 0 : 250);
    first = false;
  });
  onCleanup(() => clearTimeout(timer));
  onCleanup(onReconnect(() => void load(false)));
}

/**
 * What is new or has changed shows without a reload.
 * @param {Filters} filter
 * @param {Found} runs
 */
function followLive(filter, { items, next }) {
  effect(() => {
    const live = liveRuns();
    const shown = items();
    if (!live || !shown) return;
    const now = filter.peek();
    const byId = new Map(live.map((one) => [one.id, one]));
    const oldest = shown.length ? String(shown[shown.length - 1].created_at) : "";
    let changed = false;
    const kept = shown
      .map((one) => {
        const fresh = byId.get(one.id);
        byId.delete(one.id);
        if (!fresh || fresh === one) return one;
        changed = true;
        return fresh;
      })
      .filter((one) => fits(one, { ...now, q: "" }));
    const added = [...byId.values()].filter(
      (one) =>
        fits(one, now) && (!next.peek() || String(one.created_at) > oldest) && !removed.has(one.id),
    );
    if (changed || added.length || kept.length !== shown.length)
      items.set(
        [...added, ...kept].sort((a, b) =>
          String(b.created_at).localeCompare(String(a.created_at)),
        ),
      );
  });
}

/**
 * The end of the list: whoever has asked for more once gets it by scrolling.
 * @param {Found} runs
 */
function moreLine({ items, next, busy, load }) {
  const [wantsMore, atEnd] = [signal(false), signal(false)];
  effect(() => {
    if (wantsMore() && atEnd() && next() && !busy()) void load(true);
  });
  const end = h(
    "div",
    { class: "actions center", hidden: () => !next() },
    button(t("More"), () => (wantsMore.peek() ? load(true) : wantsMore.set(true)), {
      class: "secondary",
      disabled: busy,
    }),
    h("span", { class: "muted" }, () => plural(items()?.length ?? 0, "{n} run", "{n} runs")),
  );
  const watcher = new IntersectionObserver(
    (entries) => atEnd.set(entries[entries.length - 1].isIntersecting),
    { rootMargin: "600px" },
  );
  watcher.observe(end);
  onCleanup(() => watcher.disconnect());
  return end;
}

/**
 * The names of the workflows that can be chosen.
 * @param {import("../kernel.js").Signal<Item[] | null>} items
 */
function workflowNames(items) {
  const known = signal(/** @type {string[]} */ ([]));
  const know = (/** @type {(string | undefined)[]} */ names) => {
    const all = new Set(known.peek());
    for (const name of names) if (name) all.add(name);
    if (all.size !== known.peek().length) known.set([...all].sort());
  };
  effect(() => know((items() ?? []).map((one) => one.workflow)));
  json("workflows").then(
    (all) => know(all.map((/** @type {Item} */ one) => one.path)),
    () => {},
  ); // those of the runs shown are known anyway
  return known;
}

function listPage() {
  const filter = filters();
  const runs = found(filter);
  const { items, failure } = runs;
  const end = moreLine(runs);
  followFilter(filter, runs);
  followLive(filter, runs);
  return h(
    "div",
    { class: "page" },
    heading(t("History")),
    filterLine(filter, workflowNames(items)),
    () => (failure() ? failed(failure(), () => void runs.load(false)) : null),
    () => (items() === null && !failure() ? loading() : null),
    h(
      "section",
      { class: "panel", "aria-label": t("Runs") },
      runTable(items),
      () => (items() && !items()?.length ? nothing(filter) : null),
      end,
    ),
  );
}

/** @param {Filters} filter @param {() => string[]} workflows */
function filterLine({ q, status, source, workflow }, workflows) {
  const all = /** @type {[string, string]} */ (["", t("All")]);
  return h(
    "div",
    { class: "filters", role: "search", "aria-label": t("Runs") },
    searchbox(t("Search"), q),
    choice(t("Status"), status, () => [
      all,
      ...STATUSES.map((word) => /** @type {[string, string]} */ ([word, t(word)])),
    ]),
    choice(t("Source"), source, () => [all, ...SOURCES]),
    choice(t("Workflow"), workflow, () => [all, ...workflows()]),
  );
}

/** @param {() => Item[] | null} items */
const runTable = (items) =>
  table(
    t("Runs"),
    [
      [t("Time"), "8.5em"],
      [t("Run"), "24%"],
      t("Workflow"),
      [t("Status"), "10.5em"],
      [t("Duration"), "8em"],
      [t("Source"), "8em"],
      [t("Outputs"), "14.5em"],
    ],
    longRows(
      () => items() ?? [],
      (one) => one.id,
      row,
    ),
    { class: () => `cards fixed${items()?.length ? "" : " bare"}` },
  );

/** @param {Filters} filter */
const nothing = (filter) =>
  Object.values(filter.all()).some(Boolean)
    ? empty(
        "history",
        t("No run fits."),
        button(t("Show all"), filter.clear, { class: "secondary" }),
      )
    : empty(
        "history",
        t("No runs yet."),
        t("Whatever runs, from whatever door, is listed here. "),
        h("a", { href: "#/" }, t("Try a workflow")),
      );

/** Runs that were deleted on this page. @type {Set<string>} */
export const removed = new Set();

/** @param {import("../kernel.js").Signal<Item>} item */
const row = (item) =>
  h(
    "tr",
    { role: "row" },
    cell(t("Time"), () => format.time(item().created_at), "plain"),
    cell(
      t("Run"),
      h("a", { class: "mono id", href: () => addressOf("history", item().id) }, () => item().id),
      "lead",
    ),
    cell(
      t("Workflow"),
      () =>
        item().workflow
          ? h("span", { class: "break" }, item().workflow)
          : h("span", { class: "muted" }, t("graph")),
      "plain",
    ),
    cell(
      t("Status"),
      () => h("span", { title: errorText(item().error) || null }, badge(item().status)),
      "side",
    ),
    cell(t("Duration"), () => format.duration(lasted(item()))),
    cell(t("Source"), () => item().source),
    cell(t("Outputs"), () => (item().outputs?.length ? thumbnails(item().outputs) : null), "full"),
  );

/** How long a run took, in seconds; the API counts milliseconds. @param {Item} item */
export const lasted = (item) => (item.duration == null ? null : item.duration / 1000);

/** @param {any} error */
export const errorText = (error) =>
  typeof error === "string" ? error : (error?.message ?? error?.error ?? "");

/** @param {import("../files/media.js").Output[]} outputs */
function thumbnails(outputs) {
  const pictures = outputs
    .filter((one) => one.asset_id && one.thumbnail && ["image", "video"].includes(fileKind(one)))
    .slice(0, 4);
  const rest = outputs.length - pictures.length;
  return h(
    "span",
    { class: "thumbs" },
    pictures.map((one) => thumbnail(one, 48)),
    rest > 0
      ? h(
          "span",
          { class: "muted" },
          pictures.length ? `+${rest}` : plural(rest, "{n} file", "{n} files"),
        )
      : null,
  );
}
