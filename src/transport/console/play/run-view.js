/** A run as the playground shows it: state, progress, preview, results. */

import { effect, h, list, onCleanup, when } from "../kernel.js";
import { t } from "../i18n.js";
import * as format from "../format.js";
import { gallery } from "../files/gallery.js";
import { addressOf, route } from "../router.js";
import { attempt, button, icon, now, progressbar, sentence } from "../ui.js";
import { errorDetails, timings, warningList } from "./timings.js";
import { words } from "./run.js";

/** @typedef {import("./run.js").Run} Run */

/** @param {Run} run @param {import("../files/gallery.js").UseAsInput} onUse */
export function runView(run, onUse) {
  // Followed closely only while somebody looks.
  effect(() => {
    if (run.ended() || !run.known() || route().page !== "playground") return;
    const stop = new AbortController();
    void run.watch(stop.signal);
    onCleanup(() => stop.abort());
  });
  return h(
    "div",
    { class: "run-view" },
    head(run),
    progress(run),
    () =>
      run.fetching().map((one) =>
        h(
          "div",
          { class: "progress-line" },
          progressbar(t("Input {url}", { url: one.url }), () =>
            one.total ? (one.received / one.total) * 100 : null,
          ),
          h("span", { class: "muted" }, format.size(one.received)),
        ),
      ),
    when(run.preview, () => h("img", { class: "preview", src: run.preview, alt: t("Preview") })),
    () => failure(run),
    () => results(run, onUse),
  );
}

/** @param {Run} run */
function head(run) {
  const elapsed = () => format.duration(((run.ended() || now()) - run.begun) / 1000);
  return h(
    "div",
    { class: "run-head" },
    h("a", { class: "mono id", href: addressOf("history", run.id), title: run.id }, run.id),
    h("span", { class: "muted" }, elapsed),
    h("span", { class: "grow" }),
    () =>
      run.ended()
        ? null
        : button(t("Cancel"), () => attempt(() => run.cancel()), { class: "secondary small" }),
    button(
      t("Code"),
      () =>
        void attempt(async () => (await import("./code-dialog.js")).codeDialog(run.request.code)),
      { class: "quiet small", icon: "code", "aria-label": t("Code of this run") },
    ),
  );
}

/** @param {Run} run */
function progress(run) {
  const percent = () => run.state().percent;
  const steps = () => {
    const { step, steps, status } = run.state();
    return status === "running" && steps && steps > 1
      ? t("Step {step} of {steps}", { step: step ?? 0, steps })
      : "";
  };
  return [
    h(
      "div",
      { class: "progress-line", hidden: run.refused },
      progressbar(t("Progress"), percent),
      h("span", { class: "muted" }, () => `${Math.round(percent())} %`),
    ),
    h("p", { class: "muted steps" }, steps),
  ];
}

/** @param {Run} run */
function failure(run) {
  const error = run.error();
  if (!error || run.state().status === "interrupted") return null;
  // What was refused is said at the form.
  return h(
    "div",
    { class: "notice bad", role: run.refused() ? null : "alert" },
    icon("warning"),
    h("div", null, h("p", null, sentence(error)), errorDetails(run.result()?.error ?? error)),
  );
}

/** @param {Run} run @param {import("../files/gallery.js").UseAsInput} onUse */
function results(run, onUse) {
  const item = run.result();
  if (!item || item.status !== "succeeded") return item ? warningList(item.warnings) : null;
  return h(
    "section",
    { class: "results", "aria-label": t("Results") },
    gallery(item.outputs ?? [], item.texts, { onUse, name: run.id }),
    warningList(item.warnings),
    h(
      "details",
      { class: "more" },
      h("summary", null, t("Timings")),
      timings(item.stats, run.classes),
    ),
  );
}

/** The live region of the run that is looked at. @param {() => Run | null} run */
export const stateLine = (run) =>
  h(
    "p",
    {
      class: () => `run-state ${run()?.state().status ?? "none"}`,
      role: "status",
      "aria-label": t("Run state"),
    },
    () => {
      const one = run();
      return one ? words(one) : "";
    },
  );

/**
 * @param {import("../kernel.js").Signal<Run[]>} runs
 * @param {import("../kernel.js").Signal<Run | null>} looked
 */
export const chips = (runs, looked) =>
  h(
    "div",
    { class: "chips", role: "group", "aria-label": t("Runs of this page") },
    list(
      runs,
      (run) => run.id,
      (run) =>
        h(
          "button",
          {
            type: "button",
            "aria-pressed": () => String(looked() === run()),
            class: () => `chip ${run().state().status}`,
            onclick: () => looked.set(run.peek()),
            title: () => run().label,
          },
          h("span", { class: "mono" }, run.peek().id.slice(0, 8)),
          h("span", null, () => words(run())),
        ),
    ),
  );
