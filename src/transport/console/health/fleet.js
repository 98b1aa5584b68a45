/** Of a gateway: its queues, and the instances that have been heard of. */

import { h, list, onCleanup, signal, when } from "../kernel.js";
import { t } from "../i18n.js";
import { json } from "../api.js";
import { isGateway, status } from "../live.js";
import { addressOf } from "../router.js";
import * as format from "../format.js";
import { badge, cell, table } from "../ui.js";

/**
 * Between two looks at queues and instances, of which the stream does not tell, in milliseconds.
 */
const PAUSE = 3000;

/** Nothing where the server is no gateway. */
export const fleetView = () => when(isGateway, panel);

function panel() {
  const instances = signal(/** @type {Record<string, any>[]} */ ([]));
  const queues = signal(/** @type {Record<string, any>[]} */ (status.peek()?.queues ?? []));
  const load = async () => {
    try {
      const [all, state] = await Promise.all([json("instances"), json("status")]);
      instances.set(all);
      queues.set(state.queues ?? []);
    } catch {
      // The page says elsewhere that the server is gone; what was known stays.
    }
  };
  void load();
  const timer = setInterval(() => document.visibilityState === "visible" && void load(), PAUSE);
  onCleanup(() => clearInterval(timer));
  return h(
    "section",
    { class: "panel", "aria-label": t("Fleet") },
    h("h2", null, t("Fleet")),
    table(
      t("Queues"),
      [t("Queue"), t("Waiting"), t("Instances"), t("Oldest")],
      list(queues, (one) => one.name, queueRow),
    ),
    table(
      t("Instances"),
      [t("Instance"), t("Status"), t("Queue"), t("Job"), "GPU", t("Version"), t("Last seen")],
      list(instances, (one) => one.id, instanceRow),
      { class: () => `cards${instances().length ? "" : " bare"}` },
    ),
    () =>
      instances().length
        ? null
        : h(
            "p",
            { class: "muted none" },
            t("No instance has been heard of: jobs wait in their queue."),
          ),
  );
}

/** @typedef {import("../kernel.js").Signal<Record<string, any>>} Row */

/** @param {Row} one */
const queueRow = (one) =>
  h(
    "tr",
    { role: "row" },
    cell(
      t("Queue"),
      h("span", { class: "mono break" }, () => one().name),
    ),
    cell(t("Waiting"), () => format.number(one().waiting)),
    cell(t("Instances"), () => format.number(one().consumers)),
    cell(t("Oldest"), () =>
      one().oldest_waiting_ms == null ? "" : format.duration(one().oldest_waiting_ms / 1000),
    ),
  );

/** @param {Record<string, any>[]} gpus */
const gpuText = (gpus) => gpus.map((gpu) => gpu.name ?? gpu.index).join(", ");

/** @param {Row} one */
const instanceRow = (one) =>
  h(
    "tr",
    { role: "row" },
    cell(
      t("Instance"),
      h("span", { class: "mono break" }, () => one().id),
    ),
    cell(t("Status"), () => badge(String(one().status ?? "?").toLowerCase())),
    cell(
      t("Queue"),
      h("span", { class: "mono break" }, () => one().queue ?? ""),
    ),
    cell(
      t("Job"),
      when(
        () => one().current_task_id,
        () =>
          h(
            "a",
            { class: "mono id", href: () => addressOf("history", one().current_task_id ?? "") },
            () => one().current_task_id,
          ),
      ),
    ),
    cell("GPU", () => gpuText(one().gpu ?? [])),
    cell(t("Version"), () => one().version ?? ""),
    cell(t("Last seen"), () => format.time(one().last_seen)),
  );
