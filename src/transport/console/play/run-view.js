/** A run as the playground shows it: state, progress, preview, results. */

import { effect, h, onCleanup, when } from "../kernel.js";
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
  const over = () => run.ended() > 0;
  // Followed closely only while somebody looks.
  effect(() => {
    if (over() || !run.known() || route().page !== "playground") return;
    const stop = new AbortController();
    void run.watch(stop.signal);
    onCleanup(() => stop.abort());
  });
  const elapsed = () => format.duration(((over() ? run.ended() : now()) - run.begun) / 1000);
  const steps = () => {
    const { step, steps, status } = run.state();
    return status === "running" && steps && steps > 1 ? t("Step {step} of {steps}", { step: step ?? 0, steps }) : "";
  };
  const percent = () => run.state().percent;
  return h("div", { class: "run-view" },
    h("div", { class: "run-head" },
      h("a", { class: "mono id", href: addressOf("history", run.id), title: run.id }, run.id),
      h("span", { class: "muted" }, elapsed),
      h("span", { class: "grow" }),
      () => (over() ? null : button(t("Cancel"), () => attempt(() => run.cancel()), { class: "secondary small" })),
      button(t("Code"), () => void attempt(async () => (await import("./code-dialog.js")).codeDialog(run.request.code)), { class: "quiet small", icon: "code", "aria-label": t("Code of this run") })),
    h("div", { class: "progress-line", hidden: run.refused }, progressbar(t("Progress"), percent), h("span", { class: "muted" }, () => `${Math.round(percent())} %`)),
    h("p", { class: "muted steps" }, steps),
    () => run.fetching().map((one) => h("div", { class: "progress-line" }, progressbar(t("Input {url}", { url: one.url }), () => (one.total ? (one.received / one.total) * 100 : null)), h("span", { class: "muted" }, format.size(one.received)))),
    when(run.preview, () => h("img", { class: "preview", src: run.preview, alt: t("Preview") })),
    () => {
      const error = run.error();
      if (!error || run.state().status === "interrupted") return null;
      // What was refused is said at the form.
      return h("div", { class: "notice bad", role: run.refused() ? null : "alert" }, icon("warning"), h("div", null, h("p", null, sentence(error)), errorDetails(run.result()?.error ?? error)));
    },
    () => {
      const item = run.result();
      if (!item || item.status !== "succeeded") return item ? warningList(item.warnings) : null;
      return h("section", { class: "results", "aria-label": t("Results") }, gallery(item.outputs ?? [], item.texts, { onUse, name: run.id }),
        warningList(item.warnings),
        h("details", { class: "more" }, h("summary", null, t("Timings")), timings(item.stats, run.classes)));
    });
}

/** The live region of the run that is looked at. @param {() => Run | null} run */
export const stateLine = (run) => h("p", { class: () => `run-state ${run()?.state().status ?? "none"}`, role: "status", "aria-label": t("Run state") }, () => {
  const one = run();
  return one ? words(one) : "";
});
