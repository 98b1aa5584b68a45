/** Try a workflow without writing a client: choose, fill in, run, look, copy as code. */

import { effect, h, list, onCleanup, scope, signal, when } from "../kernel.js";
import { t } from "../i18n.js";
import { ApiError, json } from "../api.js";
import { onReconnect, status } from "../live.js";
import { schemaForm } from "../form/form.js";
import { graphChooser } from "../play/graph.js";
import { endpoint, handed } from "../play/handoff.js";
import { options as makeOptions } from "../play/options.js";
import { Run, uuid, words } from "../play/run.js";
import { runView, stateLine } from "../play/run-view.js";
import { heading, stateWord } from "../shell.js";
import { attempt, button, dialog, empty, failed, ghosts, icon, notify, sentence, uniqueId } from "../ui.js";

const GRAPH = "Graph";
const MOST_RUNS = 30;

/** @typedef {{path: string, name: string, summary?: string, description?: string, source: string, input: any}} Workflow */

export default function page() {
  const workflows = signal(/** @type {Workflow[] | null} */ (null));
  const failure = signal(/** @type {any} */ (null));
  const chosen = signal("");
  const graph = graphChooser();
  const form = signal(/** @type {import("../form/form.js").Form | null} */ (null));
  const opened = signal(false);
  const choices = signal(makeOptions());
  const notice = signal("");
  /** Why the last request was refused, when no field is to blame. */
  const refusal = signal("");
  const runs = signal(/** @type {Run[]} */ ([]));
  const looked = signal(/** @type {Run | null} */ (null));
  /** What the next form begins with. @type {any} */
  let initial;

  const find = (/** @type {string} */ path) => workflows.peek()?.find((one) => endpoint(one.path) === endpoint(path));
  const load = async () => {
    failure.set(null);
    try {
      const found = await json("workflows");
      workflows.set(found);
      if (!chosen.peek()) chosen.set(found[0]?.path ?? GRAPH);
    } catch (error) {
      failure.set(error);
      if (!chosen.peek()) chosen.set(GRAPH);
    }
  };
  void load();
  onCleanup(onReconnect(() => void load()));

  effect(() => {
    const path = chosen();
    if (!path || path === GRAPH) return form.set(null);
    const workflow = workflows()?.find((one) => one.path === path);
    form.set(workflow ? schemaForm(workflow.input, initial) : null);
    initial = undefined;
  });

  // A run from the history.
  effect(() => {
    const request = handed();
    if (!request || workflows() === null) return;
    handed.set(null);
    // Made outside of this effect, which ends as soon as it has run.
    choices.set(scope(() => makeOptions(request.options)).value);
    notice.set(request.omitted ? t("Files of this run were too large to be remembered: choose them again.") : "");
    const workflow = request.workflow ? find(request.workflow) : undefined;
    if (workflow) {
      initial = request.input;
      chosen.set("");
      chosen.set(workflow.path);
    } else if (request.prompt) {
      chosen.set(GRAPH);
      void graph.open(request.prompt);
    } else {
      notify(t("This workflow does not exist any more."), "warn");
    }
  });

  /** Before it is known what can be chosen there is nothing to run, and nothing that would be moved by the form. */
  const known = () => workflows() !== null || failure() !== null;
  const current = () => (chosen() === GRAPH ? graph.form() : form());

  /** The request that the form describes now. @returns {{path: string, body: any, classes: Record<string, string>}} */
  function request() {
    const values = current()?.values();
    const body = choices.peek().values();
    if (chosen.peek() === GRAPH) return { path: "prompt", body: { prompt: values, ...body }, classes: Object.fromEntries(Object.entries(values ?? {}).map(([id, node]) => [id, /** @type {any} */ (node)?.class_type])) };
    return { path: endpoint(chosen.peek()), body: { input: values, ...body }, classes: {} };
  }

  async function run() {
    if (chosen.peek() === GRAPH) await graph.settled();
    const shown = current();
    if (!shown) return notify(graph.error.peek() || t("Choose a workflow or paste a graph first."), "warn");
    if (!shown.check() || !choices.peek().check()) {
      revealFirst(shown);
      return undefined;
    }
    notice.set("");
    refusal.set("");
    await shown.ready();
    if (!shown.check()) return undefined;
    const count = choices.peek().count();
    for (let index = 0; index < count; index += 1) {
      shown.draw(index);
      const { path, body, classes } = request();
      const code = { path, body: { ...body } };
      body.id = body.id ? (count > 1 ? `${body.id}-${index + 1}` : body.id) : uuid();
      const one = new Run({ path, body, classes, code, label: chosen.peek() });
      runs.update((all) => [one, ...all].slice(0, MOST_RUNS));
      looked.set(one);
      one.submit().catch((error) => placeError(error, shown));
    }
    shown.draw(-1);
    // On a narrow screen what happens is below the form.
    if (matchMedia("(max-width: 980px)").matches) document.querySelector(".outcome")?.scrollIntoView({ block: "start" });
    return undefined;
  }

  /** @param {any} error @param {import("../form/form.js").Form} shown */
  function placeError(error, shown) {
    const field = error instanceof ApiError ? shown.locate(error.location) ?? choices.peek().locate(error.location) : undefined;
    if (!field) return refusal.set(sentence(error));
    field.show(error.message);
    reveal(field.element);
    if (choices.peek().locate(error.location) === field) opened.set(true);
    return field.focus();
  }

  /** @param {import("../files/media.js").Output} file @param {"image" | "video" | "audio"} kind */
  async function useAsInput(file, kind) {
    const fields = (current()?.all() ?? []).filter((one) => one.media === `${kind}/*` || one.media === "*/*");
    if (!fields.length) return notify(t("This form has no field for it: choose another workflow first."), "warn");
    let target = fields.length === 1 ? fields[0] : null;
    if (!target) {
      await dialog({ title: t("Use as input") }, (close) => h("div", { class: "actions column" }, fields.map((one) => button(one.label, () => {
        target = one;
        close();
      }, { class: "secondary" }))));
    }
    if (!target) return undefined;
    target.set(`asset:${file.asset_id}`);
    target.named?.(file.filename, file.content_type ?? "");
    reveal(target.element);
    target.element.scrollIntoView({ block: "center", behavior: "smooth" });
    return notify(t("{file} is now the input {field}.", { file: file.filename, field: target.label }), "good");
  }

  /** The same request with the files that were chosen by name. */
  async function copyAsCode() {
    if (chosen.peek() === GRAPH) await graph.settled();
    const shown = current();
    if (!shown) return notify(t("Choose a workflow or paste a graph first."), "warn");
    if (shown.all().some((one) => one.draw && one.value() === undefined)) shown.draw(0);
    const [{ codeDialog }, { FileRef }] = await Promise.all([import("../play/code-dialog.js"), import("../play/code.js"), shown.ready()]);
    const { path, body } = request();
    const files = new Map(shown.all().filter((one) => one.file?.()).map((one) => [one.value(), one.file?.()?.name ?? "file"]));
    /** @type {(value: any) => any} */
    const replaced = (value) => {
      if (typeof value === "string") return files.has(value) ? new FileRef(/** @type {string} */ (files.get(value))) : value;
      if (Array.isArray(value)) return value.map(replaced);
      if (value === null || typeof value !== "object" || "rawJSON" in value) return value;
      return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, replaced(part)]));
    };
    return codeDialog({ path, body: replaced(body) });
  }

  const start = () => void attempt(run);
  document.getElementById("main")?.addEventListener("run", start);
  onCleanup(() => document.getElementById("main")?.removeEventListener("run", start));

  const [selectId, optionsId] = [uniqueId("workflow"), uniqueId("options")];
  const select = h("select", { id: selectId, onchange: () => {
    notice.set("");
    refusal.set("");
    chosen.set(select.value);
  } });
  effect(() => {
    const all = workflows() ?? [];
    const path = chosen();
    select.replaceChildren(...all.map((one) => h("option", { value: one.path }, one.path)), h("option", { value: GRAPH }, t(GRAPH)));
    select.value = path;
  });
  const about = () => {
    const workflow = workflows()?.find((one) => one.path === chosen());
    return workflow ? h("div", { class: "about" }, workflow.summary ? h("p", null, workflow.summary) : null) : null;
  };
  const down = when(() => status() && stateWord(status()) !== "ready", () => h("div", { class: "notice warn" }, icon("warning"),
    h("div", null, h("p", null, () => t(`ComfyUI is ${stateWord(status())}.`)), h("p", { class: "muted" }, () => status()?.reason ?? t("Runs are refused until it is ready.")))));

  return h("div", { class: "page playground" }, heading(t("Playground")),
    down,
    h("div", { class: "play" },
      h("section", { class: "panel choose", "aria-label": t("Request") },
        h("div", { class: "field" }, h("label", { for: selectId }, t("Workflow")), select, about),
        () => (failure() ? failed(failure(), load) : null),
        () => (notice() ? h("p", { class: "notice warn" }, icon("warning"), notice()) : null),
        () => (refusal() ? h("div", { class: "notice bad", role: "alert" }, icon("warning"), h("span", null, refusal())) : null),
        h("div", { hidden: () => chosen() !== GRAPH }, graph.element),
        () => (known() ? current()?.element ?? null : ghosts(8)),
        h("div", { class: "options", hidden: () => !known() },
          h("button", { type: "button", class: "quiet disclose", "aria-expanded": () => String(opened()), "aria-controls": optionsId, onclick: () => opened.update((value) => !value) }, icon("chevron"), t("Options")),
          h("div", { id: optionsId, hidden: () => !opened() }, () => choices().element)),
        h("div", { class: "run-bar", hidden: () => !known() },
          h("button", { type: "button", class: "primary run", onclick: start, title: "Ctrl+Enter" }, icon("play"), h("span", null, t("Run"))),
          button(t("Copy as code"), () => void attempt(copyAsCode), { class: "secondary", icon: "code" }))),
      h("section", { class: "panel outcome", "aria-label": t("Outcome") },
        stateLine(looked),
        () => (runs().length > 1 ? chips(runs, looked) : null),
        () => {
          const one = looked();
          return one ? runView(one, useAsInput) : empty("play", t("Results appear here."), t("Fill in the form and press Run, or Ctrl+Enter."));
        })));
}

/** @param {import("../kernel.js").Signal<Run[]>} runs @param {import("../kernel.js").Signal<Run | null>} looked */
const chips = (runs, looked) => h("div", { class: "chips", role: "group", "aria-label": t("Runs of this page") }, list(runs, (run) => run.id, (run) => h("button", {
  type: "button", "aria-pressed": () => String(looked() === run()), class: () => `chip ${run().state().status}`, onclick: () => looked.set(run.peek()), title: () => run().label,
}, h("span", { class: "mono" }, run.peek().id.slice(0, 8)), h("span", null, () => words(run())))));

/** Opens what hides an element. @param {Element} element */
function reveal(element) {
  for (let parent = element.closest("details:not([open])"); parent; parent = parent.parentElement?.closest("details:not([open])") ?? null) parent.setAttribute("open", "");
}

/** @param {import("../form/form.js").Form} shown */
function revealFirst(shown) {
  const wrong = shown.element.querySelector("[aria-invalid=true]") ?? document.querySelector(".options [aria-invalid=true]");
  if (!(wrong instanceof HTMLElement)) return;
  reveal(wrong);
  wrong.focus();
}
