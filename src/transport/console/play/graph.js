/** The choice "Graph": pasted JSON, or a file of any kind that holds one; and the form that the server makes of it. */

import { effect, h, signal } from "../kernel.js";
import { t } from "../i18n.js";
import { json } from "../api.js";
import { stringify } from "../json.js";
import { graphForm } from "../form/form.js";
import { icon, sentence, uniqueId } from "../ui.js";
import { parsed } from "../form/schema.js";

/** @typedef {import("../form/form.js").Inspected} Inspected */

export function graphChooser() {
  const text = signal("");
  const error = signal("");
  const busy = signal(false);
  const inspected = signal(/** @type {Inspected | null} */ (null));
  const form = signal(/** @type {import("../form/form.js").Form | null} */ (null));
  let turn = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  /** @param {import("../api.js").Options} request */
  async function inspect(request) {
    const mine = (turn += 1);
    busy.set(true);
    error.set("");
    try {
      const found = await json("graph/inspect", { method: "POST", ...request });
      if (mine !== turn) return;
      inspected.set(found);
      form.set(graphForm(found));
    } catch (problem) {
      if (mine !== turn) return;
      inspected.set(null);
      form.set(null);
      error.set(sentence(problem));
    } finally {
      if (mine === turn) busy.set(false);
    }
  }

  /** @type {Promise<void>} */
  let pending = Promise.resolve();
  function typed() {
    stopWaiting();
    turn += 1;
    const value = area.value;
    text.set(value);
    if (value.trim() === "") {
      inspected.set(null);
      form.set(null);
      error.set("");
      return;
    }
    timer = setTimeout(read, 350);
  }
  function stopWaiting() {
    clearTimeout(timer);
    timer = undefined;
  }
  function read() {
    stopWaiting();
    const { value: graph, problem } = parsed(text.peek().replace(/\b(NaN|-?Infinity)\b(?=\s*[,\]}])/g, "null"));
    if (!problem) {
      pending = inspect({ json: graph });
      return;
    }
    // What is no graph cannot run, nor can the one before it.
    inspected.set(null);
    form.set(null);
    error.set(problem);
  }

  /** @param {File} file */
  async function take(file) {
    stopWaiting();
    const isText = /json|text/.test(file.type) || /\.(json|txt)$/i.test(file.name);
    if (isText && file.size < 20_000_000) {
      area.value = await file.text();
      typed();
      return;
    }
    area.value = "";
    text.set("");
    pending = inspect({ body: file, headers: { "Content-Type": file.type || "application/octet-stream" } });
    await pending;
    const found = inspected.peek();
    if (found) area.value = stringify(found.prompt, 2);
  }

  const [areaId, fileId, errorId] = [uniqueId("graph"), uniqueId("graph-file"), uniqueId("graph-error")];
  const area = h("textarea", { id: areaId, class: "mono", rows: 6, spellcheck: "false", placeholder: t("Paste a graph or a saved workflow"), "aria-describedby": errorId, oninput: typed });
  effect(() => (error() ? area.setAttribute("aria-invalid", "true") : area.removeAttribute("aria-invalid")));
  const input = h("input", { id: fileId, type: "file", accept: ".json,application/json,image/*,video/*,audio/*,.flac,.latent", onchange: () => {
    const [file] = input.files ?? [];
    if (file) void take(file);
  } });
  const over = signal(false);
  const element = h("div", {
    class: () => `drop graph-drop${over() ? " over" : ""}`,
    ondragover: (/** @type {DragEvent} */ event) => {
      event.preventDefault();
      over.set(true);
    },
    ondragleave: () => over.set(false),
    ondrop: (/** @type {DragEvent} */ event) => {
      event.preventDefault();
      over.set(false);
      const [file] = event.dataTransfer?.files ?? [];
      if (file) void take(file);
    },
  },
  h("div", { class: "field" }, h("label", { for: areaId }, t("Graph")), area,
    h("p", { class: "error", id: errorId, hidden: () => !error() }, error)),
  h("div", { class: "field" }, h("label", { for: fileId }, t("Graph file")), input,
    h("p", { class: "help" }, t("A graph or workflow as JSON, or a picture, video or sound with one inside. Drop it here, too."))),
  () => (busy() ? h("p", { class: "loading" }, h("span", { class: "spinner", "aria-hidden": "true" }), t("Reading the graph…")) : null),
  () => (inspected()?.warnings?.length ? h("ul", { class: "notice warn plain" }, inspected()?.warnings.map((one) => h("li", null, one))) : null),
  () => {
    const found = inspected();
    return found ? h("p", { class: "muted read" }, icon("check"), found.format === "ui" ? t("A saved workflow, converted: {n} nodes.", { n: Object.keys(found.prompt).length }) : t("A graph with {n} nodes.", { n: Object.keys(found.prompt).length })) : null;
  });

  return {
    element, form, inspected, error,
    isEmpty: () => text() === "" && !inspected(),
    /** Shows a graph that comes from elsewhere. @param {any} graph */
    open(graph) {
      stopWaiting();
      area.value = typeof graph === "string" ? graph : stringify(graph, 2);
      text.set(area.value);
      pending = inspect({ json: typeof graph === "string" ? parsed(graph).value : graph });
      return pending;
    },
    /** When what was typed last is read; whoever waits for it need not wait until nothing is typed any more. */
    settled() {
      if (timer !== undefined) read();
      return pending;
    },
  };
}
