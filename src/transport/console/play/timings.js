/** Where the time of a run went: its stages, and its nodes as bars. */

import { h } from "../kernel.js";
import { t } from "../i18n.js";
import * as format from "../format.js";

/** @param {any} stats @param {Record<string, string>} [classes] node to class */
export function timings(stats, classes = {}) {
  if (!stats) return null;
  const nodes = Object.entries(stats.comfy_execution?.nodes ?? {}).map(([id, node]) => ({
    id,
    .../** @type {any} */ (node),
  }));
  return h("div", { class: "timings" }, stages(stats), nodes.length ? bars(nodes, classes) : null);
}

/** @param {any} stats */
function stages(stats) {
  /** @type {[string, number | undefined][]} */
  const all = [
    [t("Inputs"), stats.preprocess_time],
    [t("Queued"), stats.comfy_execution?.queued],
    [t("ComfyUI"), stats.comfy_execution?.duration ?? stats.comfy_round_trip_time],
    [t("Converting"), stats.postprocess_time],
    [t("Uploading"), stats.upload_time],
    [t("Total"), stats.total_time],
  ];
  return h(
    "dl",
    { class: "facts loose" },
    all
      .filter(([, value]) => value != null && value > 0)
      .map(([name, value]) =>
        h(
          "div",
          null,
          h("dt", null, name),
          h("dd", null, format.duration(/** @type {number} */ (value) / 1000)),
        ),
      ),
  );
}

/** @param {any[]} nodes @param {Record<string, string>} classes */
function bars(nodes, classes) {
  const begin = Math.min(...nodes.map((node) => node.start).filter(Boolean));
  const end = Math.max(
    ...nodes.map((node) => node.end ?? node.start + (node.duration ?? 0)).filter(Boolean),
  );
  const whole = Math.max(1, end - begin);
  const fill = (/** @type {any} */ node) =>
    h("span", {
      class: "bar-fill",
      style: {
        "margin-inline-start": `${((node.start - begin) / whole) * 100}%`,
        width: `${Math.max(0.6, ((node.duration ?? 0) / whole) * 100)}%`,
      },
    });
  const lasted = (/** @type {any} */ node) =>
    node.duration ? format.duration(node.duration / 1000) : "< 1 ms";
  return h(
    "ul",
    { class: "bars", "aria-label": t("Nodes") },
    nodes.map((node) =>
      h(
        "li",
        null,
        h(
          "span",
          { class: "bar-name", title: `#${node.id}` },
          node.class_type ?? classes[node.id] ?? `#${node.id}`,
          h("span", { class: "muted" }, ` #${node.id}`),
        ),
        h("span", { class: "bar-track", "aria-hidden": "true" }, node.cached ? null : fill(node)),
        h("span", { class: "bar-value" }, node.cached ? t("cached") : lasted(node)),
      ),
    ),
  );
}

/** @param {string[] | undefined} warnings */
export const warningList = (warnings) =>
  warnings?.length
    ? h(
        "ul",
        { class: "notice warn plain" },
        warnings.map((text) => h("li", null, text)),
      )
    : null;

/** An error with all that is known of it: node, class, traceback. @param {any} error */
export function errorDetails(error) {
  const details = error?.details ?? {};
  const trace = details.traceback ?? error?.traceback;
  const node = details.node_id ?? error?.node_id;
  const nodes = error?.nodeErrors ?? error?.node_errors;
  return [
    node
      ? h(
          "p",
          { class: "muted" },
          t("In node #{node}", { node }),
          ` ${details.node_type ?? error?.class_type ?? ""} ${details.exception_type ?? ""}`,
        )
      : null,
    trace
      ? h(
          "details",
          { class: "more" },
          h("summary", null, t("Traceback")),
          h(
            "pre",
            { class: "trace", tabindex: "0" },
            Array.isArray(trace) ? trace.join("") : String(trace),
          ),
        )
      : null,
    nodes && Object.keys(nodes).length
      ? h(
          "details",
          { class: "more" },
          h("summary", null, t("What ComfyUI says")),
          h("pre", { class: "trace", tabindex: "0" }, JSON.stringify(nodes, null, 2)),
        )
      : null,
  ];
}
