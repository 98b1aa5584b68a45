/** Try a workflow without writing a client: choose, fill in, run, look, copy as code. */

import { effect, h, onCleanup, scope, signal, when } from "../kernel.js";
import { t } from "../i18n.js";
import { ApiError } from "../api.js";
import { status } from "../live.js";
import { choice, GRAPH, requestOf } from "../play/choice.js";
import { handed } from "../play/handoff.js";
import { options as makeOptions } from "../play/options.js";
import { Run, uuid } from "../play/run.js";
import { chips, runView, stateLine } from "../play/run-view.js";
import { heading, stateWord } from "../shell.js";
import {
  attempt,
  button,
  dialog,
  empty,
  failed,
  ghosts,
  icon,
  notify,
  sentence,
  uniqueId,
} from "../ui.js";

const MOST_RUNS = 30;

/** @typedef {import("../form/form.js").Form} Form */
/** @typedef {import("../form/fields.js").Field} Field */

/** What is on the page: what is to be run, and what was. */
function makeDesk() {
  return {
    choice: choice(),
    options: signal(makeOptions()),
    /** Whether the options are shown. */
    opened: signal(false),
    notice: signal(""),
    /** Why the last request was refused, when no field is to blame. */
    refusal: signal(""),
    runs: signal(/** @type {Run[]} */ ([])),
    looked: signal(/** @type {Run | null} */ (null)),
  };
}

/** @typedef {ReturnType<typeof makeDesk>} Desk */

export default function page() {
  const desk = makeDesk();
  // A run from the history.
  effect(() => {
    const request = handed();
    if (!request || desk.choice.workflows() === null) return;
    handed.set(null);
    open(desk, request);
  });
  const start = () => void attempt(() => run(desk));
  document.getElementById("main")?.addEventListener("run", start);
  onCleanup(() => document.getElementById("main")?.removeEventListener("run", start));
  return h(
    "div",
    { class: "page playground" },
    heading(t("Playground")),
    when(() => status() && stateWord(status()) !== "ready", down),
    h("div", { class: "play" }, requestPanel(desk, start), outcomePanel(desk)),
  );
}

/** @param {Desk} desk @param {import("../play/handoff.js").Handed} request */
function open({ choice, options, notice }, request) {
  // Made outside of the effect, which ends as soon as it has run.
  options.set(scope(() => makeOptions(request.options)).value);
  notice.set(
    request.omitted
      ? t("Files of this run were too large to be remembered: choose them again.")
      : "",
  );
  if (!choice.open(request)) notify(t("This workflow does not exist any more."), "warn");
}

// --- what it does --------------------------------------------------------------------------------

/** @param {Desk} desk */
async function run(desk) {
  const { choice, options, notice, refusal } = desk;
  await choice.settled();
  const form = choice.form();
  if (!form)
    return notify(
      choice.graph.error.peek() || t("Choose a workflow or paste a graph first."),
      "warn",
    );
  if (!form.check() || !options.peek().check()) {
    revealFirst(form);
    return undefined;
  }
  notice.set("");
  refusal.set("");
  await form.ready();
  if (!form.check()) return undefined;
  const count = options.peek().count();
  for (let index = 0; index < count; index += 1) {
    form.draw(index);
    submit(desk, form, count > 1 ? `-${index + 1}` : "");
  }
  form.draw(-1);
  // On a narrow screen what happens is below the form.
  if (matchMedia("(max-width: 980px)").matches)
    document.querySelector(".outcome")?.scrollIntoView({ block: "start" });
  return undefined;
}

/** @param {Desk} desk @param {Form} form @param {string} suffix of the id, if one was given */
function submit(desk, form, suffix) {
  const { path, body, classes } = request(desk);
  const code = { path, body: { ...body } };
  body.id = body.id ? `${body.id}${suffix}` : uuid();
  const one = new Run({ path, body, classes, code, label: desk.choice.chosen.peek() });
  desk.runs.update((all) => [one, ...all].slice(0, MOST_RUNS));
  desk.looked.set(one);
  one.submit().catch((error) => placeError(desk, form, error));
}

/** What would be sent now. @param {Desk} desk */
const request = ({ choice, options }) =>
  requestOf(choice.chosen.peek(), choice.form()?.values(), options.peek().values());

/** @param {Desk} desk @param {Form} form @param {any} error */
function placeError({ options, opened, refusal }, form, error) {
  const field =
    error instanceof ApiError
      ? (form.locate(error.location) ?? options.peek().locate(error.location))
      : undefined;
  if (!field) return refusal.set(sentence(error));
  field.show(error.message);
  reveal(field.element);
  if (options.peek().locate(error.location) === field) opened.set(true);
  return field.focus();
}

/**
 * @param {Form | null} form
 * @param {import("../files/media.js").Output} file
 * @param {"image" | "video" | "audio"} kind
 */
async function useAsInput(form, file, kind) {
  const fields = (form?.all() ?? []).filter(
    (one) => one.media === `${kind}/*` || one.media === "*/*",
  );
  if (!fields.length)
    return notify(t("This form has no field for it: choose another workflow first."), "warn");
  const target = fields.length === 1 ? fields[0] : await oneOf(fields);
  if (!target) return undefined;
  target.set(`asset:${file.asset_id}`);
  target.named?.(file.filename, file.content_type ?? "");
  reveal(target.element);
  target.element.scrollIntoView({ block: "center", behavior: "smooth" });
  return notify(
    t("{file} is now the input {field}.", { file: file.filename, field: target.label }),
    "good",
  );
}

/** Asks which of them is meant. @param {Field[]} fields */
async function oneOf(fields) {
  let target = /** @type {Field | null} */ (null);
  await dialog({ title: t("Use as input") }, (close) =>
    h(
      "div",
      { class: "actions column" },
      fields.map((one) =>
        button(
          one.label,
          () => {
            target = one;
            close();
          },
          { class: "secondary" },
        ),
      ),
    ),
  );
  return target;
}

/** The same request with the files that were chosen by name. @param {Desk} desk */
async function copyAsCode(desk) {
  await desk.choice.settled();
  const form = desk.choice.form();
  if (!form) return notify(t("Choose a workflow or paste a graph first."), "warn");
  if (form.all().some((one) => one.draw && one.value() === undefined)) form.draw(0);
  const [{ codeDialog }, { withNames }] = await Promise.all([
    import("../play/code-dialog.js"),
    import("../play/code.js"),
    form.ready(),
  ]);
  const { path, body } = request(desk);
  const names = new Map(
    form
      .all()
      .filter((one) => one.file?.())
      .map((one) => [one.value(), one.file?.()?.name ?? "file"]),
  );
  return codeDialog({ path, body: withNames(body, names) });
}

// --- what is seen --------------------------------------------------------------------------------

const down = () =>
  h(
    "div",
    { class: "notice warn" },
    icon("warning"),
    h(
      "div",
      null,
      h("p", null, () => t(`ComfyUI is ${stateWord(status())}.`)),
      h(
        "p",
        { class: "muted" },
        () => status()?.reason ?? t("Runs are refused until it is ready."),
      ),
    ),
  );

/** @param {Desk} desk @param {() => void} start */
function requestPanel(desk, start) {
  const { choice, notice, refusal } = desk;
  return h(
    "section",
    { class: "panel choose", "aria-label": t("Request") },
    workflowField(desk),
    () => (choice.failure() ? failed(choice.failure(), choice.load) : null),
    () => (notice() ? h("p", { class: "notice warn" }, icon("warning"), notice()) : null),
    () =>
      refusal()
        ? h(
            "div",
            { class: "notice bad", role: "alert" },
            icon("warning"),
            h("span", null, refusal()),
          )
        : null,
    h("div", { hidden: () => choice.chosen() !== GRAPH }, choice.graph.element),
    () => (choice.known() ? (choice.form()?.element ?? null) : ghosts(8)),
    optionsPart(desk),
    h(
      "div",
      { class: "run-bar", hidden: () => !choice.known() },
      h(
        "button",
        { type: "button", class: "primary run", onclick: start, title: "Ctrl+Enter" },
        icon("play"),
        h("span", null, t("Run")),
      ),
      button(t("Copy as code"), () => void attempt(() => copyAsCode(desk)), {
        class: "secondary",
        icon: "code",
      }),
    ),
  );
}

/** What is to be run. @param {Desk} desk */
function workflowField({ choice: { workflows, chosen }, notice, refusal }) {
  const id = uniqueId("workflow");
  const select = h("select", {
    id,
    onchange: () => {
      notice.set("");
      refusal.set("");
      chosen.set(select.value);
    },
  });
  effect(() => {
    const all = workflows() ?? [];
    const path = chosen();
    select.replaceChildren(
      ...all.map((one) => h("option", { value: one.path }, one.path)),
      h("option", { value: GRAPH }, t(GRAPH)),
    );
    select.value = path;
  });
  const about = () => {
    const workflow = workflows()?.find((one) => one.path === chosen());
    return workflow
      ? h("div", { class: "about" }, workflow.summary ? h("p", null, workflow.summary) : null)
      : null;
  };
  return h("div", { class: "field" }, h("label", { for: id }, t("Workflow")), select, about);
}

/** @param {Desk} desk */
function optionsPart({ choice, options, opened }) {
  const id = uniqueId("options");
  return h(
    "div",
    { class: "options", hidden: () => !choice.known() },
    h(
      "button",
      {
        type: "button",
        class: "quiet disclose",
        "aria-expanded": () => String(opened()),
        "aria-controls": id,
        onclick: () => opened.update((value) => !value),
      },
      icon("chevron"),
      t("Options"),
    ),
    h("div", { id, hidden: () => !opened() }, () => options().element),
  );
}

/** @param {Desk} desk */
const outcomePanel = ({ choice, runs, looked }) =>
  h(
    "section",
    { class: "panel outcome", "aria-label": t("Outcome") },
    stateLine(looked),
    () => (runs().length > 1 ? chips(runs, looked) : null),
    () => {
      const one = looked();
      return one
        ? runView(one, (file, kind) => useAsInput(choice.form(), file, kind))
        : empty(
            "play",
            t("Results appear here."),
            t("Fill in the form and press Run, or Ctrl+Enter."),
          );
    },
  );

/** Opens what hides an element. @param {Element} element */
function reveal(element) {
  for (
    let parent = element.closest("details:not([open])");
    parent;
    parent = parent.parentElement?.closest("details:not([open])") ?? null
  )
    parent.setAttribute("open", "");
}

/** @param {import("../form/form.js").Form} shown */
function revealFirst(shown) {
  const wrong =
    shown.element.querySelector("[aria-invalid=true]") ??
    document.querySelector(".options [aria-invalid=true]");
  if (!(wrong instanceof HTMLElement)) return;
  reveal(wrong);
  wrong.focus();
}
