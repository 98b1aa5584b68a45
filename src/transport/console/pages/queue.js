/** What runs, what waits, what has ended lately: the server's queue, not this browser's. */

import { h, list, signal } from "../kernel.js";
import { t, plural } from "../i18n.js";
import { json } from "../api.js";
import { queue } from "../live.js";
import { addressOf } from "../router.js";
import { heading } from "../shell.js";
import * as format from "../format.js";
import {
  attempt,
  badge,
  button,
  cell,
  confirm,
  empty,
  hasEnded,
  loading,
  now,
  progressbar,
  table,
} from "../ui.js";

/** @typedef {import("../kernel.js").Signal<Record<string, any>>} Row */

/** @param {string} id */
export const cancel = (id) =>
  attempt(() => json(`prompt/${encodeURIComponent(id)}`, { method: "DELETE" }));

export default function page() {
  const cancelAll = async () => {
    const waiting = queue.peek()?.pending ?? [];
    if (
      !(await confirm(
        t("Cancel all waiting jobs?"),
        plural(waiting.length, "{n} job waits.", "{n} jobs wait."),
      ))
    )
      return;
    for (const job of [...waiting].reverse())
      await attempt(() =>
        json(`prompt/${encodeURIComponent(job.id)}`, { method: "DELETE" }).catch((error) => {
          if (error.status !== 404) throw error; // it has ended by itself
        }),
      );
  };
  const waitingActions = () =>
    button(t("Cancel all waiting"), cancelAll, {
      class: "secondary",
      disabled: () => !queue()?.pending?.length,
    });
  return h(
    "div",
    { class: "page" },
    heading(t("Queue")),
    () => (queue() === null ? loading() : null),
    region(
      "Running",
      () => queue()?.running,
      [t("Job"), t("Progress"), t("Node"), t("Source"), t("Elapsed"), ""],
      runningRow,
      () =>
        empty(
          "play",
          t("Nothing is running."),
          h("a", { href: "#/" }, t("Try a workflow")),
          t(" or use the API."),
        ),
    ),
    region(
      "Waiting",
      () => queue()?.pending,
      [t("Position"), t("Job"), t("Source"), t("Since"), ""],
      waitingRow,
      () => h("p", { class: "muted none" }, t("Nothing waits.")),
      waitingActions,
    ),
    region(
      "Finished",
      () => newestFirst(queue()?.finished),
      [t("Job"), t("Status"), t("Source"), t("Duration"), t("Ended")],
      finishedRow,
      () => h("p", { class: "muted none" }, t("Nothing has ended yet.")),
    ),
  );
}

/** @param {Record<string, any>[] | undefined} jobs */
const newestFirst = (jobs) =>
  jobs &&
  [...jobs].sort((a, b) => String(b.finished_at ?? "").localeCompare(String(a.finished_at ?? "")));

/**
 * @param {string} name
 * @param {() => Record<string, any>[] | undefined} jobs
 * @param {string[]} columns
 * @param {(job: Row) => Element} row
 * @param {() => Element} none
 * @param {() => Element} [actions]
 */
function region(name, jobs, columns, row, none, actions) {
  return h(
    "section",
    { class: "panel", "aria-label": t(name) },
    h(
      "div",
      { class: "panel-head" },
      h(
        "h2",
        null,
        t(name),
        h("span", { class: "count" }, () => String(jobs()?.length ?? "")),
      ),
      actions?.() ?? null,
    ),
    table(
      t(name),
      columns,
      list(
        () => jobs() ?? [],
        (job) => job.id,
        row,
      ),
      { class: () => `cards${jobs()?.length ? "" : " bare"}` },
    ),
    () => (jobs() && !jobs()?.length ? none() : null),
  );
}

/** Where it came from and, of several ComfyUI, which has it.
 * @param {Record<string, any>} job */
const whence = (job) =>
  job.instance === undefined ? job.source : `${job.source}, ComfyUI ${job.instance}`;

/** @param {Row} job */
const link = (job) =>
  h("a", { class: "mono id", href: () => addressOf("history", job().id) }, () => job().id);

/** @param {Row} job */
const cancelButton = (job) =>
  h(
    "button",
    {
      type: "button",
      class: "secondary small",
      "aria-label": () => `${t("Cancel")} ${job().id}`,
      onclick: () => cancel(job.peek().id),
    },
    t("Cancel"),
  );

/**
 * The classes of running prompts' nodes; the queue names the nodes only.
 * @type {Map<string, import("../kernel.js").Signal<Record<string, string>>>}
 */
const known = new Map();

/** @param {Record<string, any>} job */
function nodeName({ id, progress }) {
  if (progress?.node == null) return "";
  let classes = known.get(id);
  if (!classes) {
    classes = signal({});
    known.set(id, classes);
    if (known.size > 100) known.delete([...known.keys()][0]);
    const { set } = classes;
    json(`history/${encodeURIComponent(id)}`).then(
      (run) =>
        set(
          Object.fromEntries(
            Object.entries(run.prompt ?? {}).map(([node, one]) => [
              node,
              /** @type {any} */ (one)?.class_type ?? "",
            ]),
          ),
        ),
      () => {},
    );
  }
  const found = classes()[progress.node];
  return [found, h("span", { class: "muted" }, `${found ? " " : ""}#${progress.node}`)];
}

/** @param {Row} job */
const runningRow = (job) =>
  h(
    "tr",
    { role: "row" },
    cell(t("Job"), link(job), "lead"),
    cell(
      t("Progress"),
      h(
        "div",
        { class: "progress-cell" },
        progressbar(`${t("Progress")} ${job.peek().id}`, () => job().progress?.percent ?? null),
        h("span", { class: "muted" }, () =>
          job().status === "running" && job().progress
            ? `${Math.round(job().progress.percent ?? 0)} %`
            : t(job().status),
        ),
      ),
      "full",
    ),
    cell(t("Node"), () => nodeName(job())),
    cell(t("Source"), () => whence(job())),
    cell(
      t("Elapsed"),
      () => (now(), format.duration(format.seconds(job().started_at ?? job().created_at))),
    ),
    cell("", cancelButton(job), "end"),
  );

/** @param {Row} job */
const waitingRow = (job) =>
  h(
    "tr",
    { role: "row" },
    cell(t("Position"), () => job().position ?? t(job().status)),
    cell(t("Job"), link(job), "lead"),
    cell(t("Source"), () => whence(job())),
    cell(t("Since"), () => format.time(job().created_at)),
    cell("", cancelButton(job), "end"),
  );

/** @param {Row} job */
const finishedRow = (job) =>
  h(
    "tr",
    { role: "row" },
    cell(t("Job"), link(job), "lead"),
    cell(t("Status"), () => h("span", { title: job().error ?? null }, badge(job().status)), "side"),
    cell(t("Source"), () => whence(job())),
    cell(t("Duration"), () =>
      format.duration(
        format.seconds(job().started_at ?? job().created_at, job().finished_at ?? null),
      ),
    ),
    cell(t("Ended"), () => format.time(job().finished_at)),
  );

export { hasEnded };
