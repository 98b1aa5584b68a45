/** One run in full: what was asked, what came of it, where the time went, what the log says. */

import { effect, h, onCleanup, signal, when } from "../kernel.js";
import { t } from "../i18n.js";
import { ApiError, json } from "../api.js";
import { deliveries, onReconnect, queue, runs as liveRuns } from "../live.js";
import { addressOf, go } from "../router.js";
import { heading } from "../shell.js";
import { copy, stringify } from "../json.js";
import * as format from "../format.js";
import { gallery } from "../files/gallery.js";
import { fromHistory, handed, endpoint } from "../play/handoff.js";
import { errorDetails, timings, warningList } from "../play/timings.js";
import { uuid } from "../play/run.js";
import {
  attempt,
  badge,
  button,
  confirm,
  copyText,
  empty,
  failed,
  hasEnded,
  icon,
  loading,
  now,
  progressbar,
} from "../ui.js";
import { cancel } from "./queue.js";
import { errorText, removed } from "./history.js";

/** Runs that are being deleted: what is still told of them is no reason to ask for them. */
const leaving = new Set();

/**
 * The run as history has it, its log, and what the stream tells of it.
 * @param {string} id
 */
function followed(id) {
  const item = signal(/** @type {any} */ (null));
  const failure = signal(/** @type {any} */ (null));
  const log = signal(/** @type {any[] | null} */ (null));
  let turn = 0;

  async function load() {
    if (leaving.has(id)) return;
    const mine = (turn += 1);
    try {
      const found = await json(`history/${encodeURIComponent(id)}`);
      if (mine !== turn) return;
      item.set(found);
      failure.set(null);
      if (log.peek() === null || hasEnded(found.status)) void loadLog();
    } catch (error) {
      if (mine === turn) failure.set(error);
    }
  }
  async function loadLog() {
    try {
      const lines = await json(`logs?source=all&lines=5000&prompt_id=${encodeURIComponent(id)}`);
      log.set(lines.filter((/** @type {any} */ line) => line.prompt_id === id));
    } catch {
      log.set([]);
    }
  }
  void load();
  onCleanup(onReconnect(() => void load()));
  const live = () => liveRuns()?.find((one) => one.id === id);
  const entry = () =>
    [...(queue()?.running ?? []), ...(queue()?.pending ?? [])].find((one) => one.id === id);
  let last = "";
  effect(() => {
    const seen = live()?.status ?? "";
    if (seen && seen !== last && last && hasEnded(seen)) void load();
    last = seen || last;
  });
  return { id, item, failure, log, load, live, entry };
}

/** @typedef {ReturnType<typeof followed>} Followed */

/** @param {any} run */
function openInPlayground(run) {
  handed.set(fromHistory(run));
  go("playground");
}

/** @param {any} run */
async function again(run) {
  const { request, workflow } = run;
  if (fromHistory(run).omitted || !request) return openInPlayground(run);
  const body = { ...copy(request), id: uuid(), keep: true, async: true };
  const answer = await attempt(() =>
    json(workflow ? endpoint(workflow) : "prompt", { method: "POST", json: body }),
  );
  if (answer) go("history", answer.id ?? body.id);
  return undefined;
}

/** @param {string} id */
async function remove(id) {
  if (
    !(await confirm(
      t("Delete this run?"),
      t("Its record goes, and its files, unless something else uses them."),
    ))
  )
    return;
  leaving.add(id);
  await attempt(async () => {
    await json(`history/${encodeURIComponent(id)}`, { method: "DELETE" });
    removed.add(id);
    liveRuns.update((all) => all?.filter((one) => one.id !== id) ?? null);
    go("history");
  });
  leaving.delete(id);
}

/** @param {string} id */
export default function runPage(id) {
  const seen = followed(id);
  const { item, failure, load } = seen;
  const body = () => {
    const run = item();
    if (failure() && !run) {
      return failure() instanceof ApiError && failure().status === 404
        ? empty(
            "history",
            t("This run is not known."),
            t("It was deleted, or so many have come since that it is forgotten. "),
            h("a", { href: "#/history" }, t("All runs")),
          )
        : failed(failure(), load);
    }
    return run ? details(run, seen) : loading();
  };
  const properties = { class: "secondary", disabled: () => item() === null };
  return h(
    "div",
    { class: "page" },
    h(
      "nav",
      { class: "crumbs", "aria-label": t("Path") },
      h("a", { href: "#/history" }, t("All runs")),
    ),
    heading(
      t("Run {id}", { id }),
      h(
        "div",
        { class: "actions" },
        button(t("Open in playground"), () => openInPlayground(item.peek()), {
          ...properties,
          icon: "play",
        }),
        button(t("Run again"), () => void again(item.peek()), { ...properties, icon: "again" }),
        button(t("Delete"), () => void remove(id), { ...properties, icon: "trash" }),
      ),
    ),
    body,
  );
}

/** @param {any} run @param {Followed} seen */
function details(run, seen) {
  const classes = Object.fromEntries(
    Object.entries(run.prompt ?? {}).map(([node, value]) => [
      node,
      /** @type {any} */ (value)?.class_type,
    ]),
  );
  return [
    summary(run, seen),
    run.outputs?.length || Object.keys(run.texts ?? {}).length
      ? panel(t("Outputs"), gallery(run.outputs ?? [], run.texts, { name: seen.id }))
      : null,
    run.stats ? panel(t("Timings"), timings(run.stats, classes)) : null,
    panel(t("Log"), () => logLines(seen.log())),
    () => delivery(run, seen.id),
    panel(
      t("Request"),
      code(t("As it was asked"), run.request, true),
      code(t("Prompt as sent to ComfyUI"), run.prompt, false),
    ),
  ];
}

/** @param {any} run @param {Followed} seen */
const summary = (run, { id, entry, live }) =>
  h(
    "section",
    { class: "panel", "aria-label": t("Summary") },
    h(
      "dl",
      { class: "facts loose" },
      fact(t("Status"), () => badge(entry()?.status ?? live()?.status ?? run.status)),
      fact(t("Workflow"), run.workflow ?? t("graph")),
      fact(t("Source"), run.source),
      fact(t("Created"), format.time(run.created_at)),
      run.started_at ? fact(t("Started"), format.time(run.started_at)) : null,
      run.finished_at ? fact(t("Ended"), format.time(run.finished_at)) : null,
      run.duration != null && run.finished_at
        ? fact(t("Duration"), format.duration(run.duration / 1000))
        : null,
    ),
    when(
      () => entry() && !hasEnded(run.status),
      () =>
        h(
          "div",
          { class: "progress-line" },
          progressbar(t("Progress"), () => entry()?.progress?.percent ?? null),
          h(
            "span",
            { class: "muted" },
            () => (
              now(),
              `${entry()?.position ? t("Position {n}", { n: entry()?.position }) : ""} ` +
                format.duration(format.seconds(run.created_at))
            ),
          ),
          button(t("Cancel"), () => void cancel(id), { class: "secondary small" }),
        ),
    ),
    run.error
      ? h(
          "div",
          { class: "notice bad", role: "alert" },
          icon("warning"),
          h("div", null, h("p", null, errorText(run.error)), errorDetails(run.error)),
        )
      : null,
    warningList(run.warnings),
  );

/** @param {any} run @param {string} id */
function delivery(run, id) {
  const found = (deliveries() ?? []).filter((one) => one.prompt_id === id);
  const all = found.length ? found : run.delivery ? [run.delivery].flat() : [];
  if (!all.length) return null;
  return panel(
    t("Delivery"),
    h(
      "ul",
      { class: "plain rows" },
      all.map((one) =>
        h(
          "li",
          null,
          badge(one.status),
          h("span", { class: "mono break" }, one.url ?? ""),
          h(
            "span",
            { class: "muted" },
            one.attempts
              ? t("{n} attempts", {
                  n: Array.isArray(one.attempts) ? one.attempts.length : one.attempts,
                })
              : "",
          ),
          h("a", { href: addressOf("deliveries") }, t("All attempts")),
        ),
      ),
    ),
  );
}

/** A part of the page with its title. @param {string} title @param {...any} content */
const panel = (title, ...content) =>
  h("section", { class: "panel", "aria-label": title }, h("h2", null, title), ...content);

/** @param {string} name @param {any} value */
const fact = (name, value) => h("div", null, h("dt", null, name), h("dd", null, value));

/** @param {string} title @param {any} value @param {boolean} open */
function code(title, value, open) {
  if (value === undefined || value === null)
    return h("p", { class: "muted" }, t("{title}: not remembered.", { title }));
  const text = stringify(value, 2);
  return h(
    "details",
    { class: "more", open },
    h("summary", null, title),
    h("div", { class: "code" }, h("pre", { tabindex: "0", "aria-label": title }, text)),
    button(t("Copy"), () => void copyText(text), {
      class: "secondary small",
      icon: "copy",
      "aria-label": `${t("Copy")}: ${title}`,
    }),
  );
}

/** @param {any[] | null} lines */
function logLines(lines) {
  if (lines === null) return loading();
  if (!lines.length)
    return h("p", { class: "muted" }, t("No line of the log belongs to this run."));
  return h(
    "pre",
    { class: "trace", tabindex: "0", "aria-label": t("Log of this run") },
    lines.map((line) => `${clock(line.time)}  ${line.text}`).join("\n"),
  );
}

/** @param {any} time */
const clock = (time) => {
  const date = format.moment(time);
  return date ? date.toISOString().slice(11, 23) : "";
};
