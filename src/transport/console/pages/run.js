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
import { attempt, badge, button, confirm, copyText, empty, failed, hasEnded, icon, loading, now, progressbar } from "../ui.js";
import { cancel } from "./queue.js";
import { errorText, removed } from "./history.js";

/** @param {string} id */
export default function runPage(id) {
  const item = signal(/** @type {any} */ (null));
  const failure = signal(/** @type {any} */ (null));
  const log = signal(/** @type {any[] | null} */ (null));
  let turn = 0;

  async function load() {
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
  const entry = () => [...(queue()?.running ?? []), ...(queue()?.pending ?? [])].find((one) => one.id === id);
  let last = "";
  effect(() => {
    const seen = live()?.status ?? "";
    if (seen && seen !== last && last && hasEnded(seen)) void load();
    last = seen || last;
  });

  const openInPlayground = () => {
    handed.set(fromHistory(item.peek()));
    go("playground");
  };
  async function again() {
    const { request, workflow } = item.peek();
    const plan = fromHistory(item.peek());
    if (plan.omitted || !request) return openInPlayground();
    const body = { ...copy(request), id: uuid(), keep: true, async: true };
    const answer = await attempt(() => json(workflow ? endpoint(workflow) : "prompt", { method: "POST", json: body }));
    if (answer) go("history", answer.id ?? body.id);
    return undefined;
  }
  async function remove() {
    if (!(await confirm(t("Delete this run?"), t("Its record goes, and its files, unless something else uses them.")))) return;
    await attempt(async () => {
      await json(`history/${encodeURIComponent(id)}`, { method: "DELETE" });
      removed.add(id);
      liveRuns.update((all) => all?.filter((one) => one.id !== id) ?? null);
      go("history");
    });
  }

  const body = () => {
    const run = item();
    if (failure() && !run) {
      return failure() instanceof ApiError && failure().status === 404
        ? empty("history", t("This run is not known."), t("It was deleted, or so many have come since that it is forgotten. "), h("a", { href: "#/history" }, t("All runs")))
        : failed(failure(), load);
    }
    return run ? details(run) : loading();
  };

  /** @param {any} run */
  function details(run) {
    const classes = Object.fromEntries(Object.entries(run.prompt ?? {}).map(([node, value]) => [node, /** @type {any} */ (value)?.class_type]));
    return [
      h("section", { class: "panel", "aria-label": t("Summary") },
        h("dl", { class: "facts loose" },
          fact(t("Status"), () => badge(entry()?.status ?? live()?.status ?? run.status)), fact(t("Workflow"), run.workflow ?? t("graph")), fact(t("Source"), run.source),
          fact(t("Created"), format.time(run.created_at)), run.started_at ? fact(t("Started"), format.time(run.started_at)) : null, run.finished_at ? fact(t("Ended"), format.time(run.finished_at)) : null,
          run.duration != null && run.finished_at ? fact(t("Duration"), format.duration(run.duration / 1000)) : null),
        when(() => entry() && !hasEnded(run.status), () => h("div", { class: "progress-line" }, progressbar(t("Progress"), () => entry()?.progress?.percent ?? null),
          h("span", { class: "muted" }, () => (now(), `${entry()?.position ? t("Position {n}", { n: entry()?.position }) : ""} ${format.duration(format.seconds(run.created_at))}`)),
          button(t("Cancel"), () => void cancel(id), { class: "secondary small" }))),
        run.error ? h("div", { class: "notice bad", role: "alert" }, icon("warning"), h("div", null, h("p", null, errorText(run.error)), errorDetails(run.error))) : null,
        warningList(run.warnings)),
      run.outputs?.length || Object.keys(run.texts ?? {}).length ? h("section", { class: "panel", "aria-label": t("Outputs") }, h("h2", null, t("Outputs")), gallery(run.outputs ?? [], run.texts, { name: id })) : null,
      run.stats ? h("section", { class: "panel", "aria-label": t("Timings") }, h("h2", null, t("Timings")), timings(run.stats, classes)) : null,
      h("section", { class: "panel", "aria-label": t("Log") }, h("h2", null, t("Log")), () => logLines(log())),
      () => delivery(run),
      h("section", { class: "panel", "aria-label": t("Request") }, h("h2", null, t("Request")),
        code(t("As it was asked"), run.request, true), code(t("Prompt as sent to ComfyUI"), run.prompt, false)),
    ];
  }

  /** @param {any} run */
  function delivery(run) {
    const found = (deliveries() ?? []).filter((one) => one.prompt_id === id);
    const all = found.length ? found : run.delivery ? [run.delivery].flat() : [];
    if (!all.length) return null;
    return h("section", { class: "panel", "aria-label": t("Delivery") }, h("h2", null, t("Delivery")),
      h("ul", { class: "plain rows" }, all.map((one) => h("li", null, badge(one.status), h("span", { class: "mono break" }, one.url ?? ""), h("span", { class: "muted" }, one.attempts ? t("{n} attempts", { n: Array.isArray(one.attempts) ? one.attempts.length : one.attempts }) : ""), h("a", { href: addressOf("deliveries") }, t("All attempts"))))));
  }

  const ready = () => item() === null;
  return h("div", { class: "page" },
    h("nav", { class: "crumbs", "aria-label": t("Path") }, h("a", { href: "#/history" }, t("All runs"))),
    heading(t("Run {id}", { id }), h("div", { class: "actions" },
      button(t("Open in playground"), openInPlayground, { class: "secondary", icon: "play", disabled: ready }),
      button(t("Run again"), () => void again(), { class: "secondary", icon: "again", disabled: ready }),
      button(t("Delete"), () => void remove(), { class: "secondary", icon: "trash", disabled: ready }))),
    body);
}

/** @param {string} name @param {any} value */
const fact = (name, value) => h("div", null, h("dt", null, name), h("dd", null, value));

/** @param {string} title @param {any} value @param {boolean} open */
function code(title, value, open) {
  if (value === undefined || value === null) return h("p", { class: "muted" }, t("{title}: not remembered.", { title }));
  const text = stringify(value, 2);
  return h("details", { class: "more", open }, h("summary", null, title),
    h("div", { class: "code" }, h("pre", { tabindex: "0", "aria-label": title }, text)), button(t("Copy"), () => void copyText(text), { class: "secondary small", icon: "copy", "aria-label": `${t("Copy")}: ${title}` }));
}

/** @param {any[] | null} lines */
function logLines(lines) {
  if (lines === null) return loading();
  if (!lines.length) return h("p", { class: "muted" }, t("No line of the log belongs to this run."));
  return h("pre", { class: "trace", tabindex: "0", "aria-label": t("Log of this run") }, lines.map((line) => `${clock(line.time)}  ${line.text}`).join("\n"));
}

/** @param {any} time */
const clock = (time) => {
  const date = format.moment(time);
  return date ? date.toISOString().slice(11, 23) : "";
};
