/**
 * The choice "Graph": pasted JSON, or a file of any kind that holds one; and the form that the
 * server makes of it.
 */

import { effect, h, signal } from "../kernel.js";
import { t } from "../i18n.js";
import { json } from "../api.js";
import { stringify } from "../json.js";
import { graphForm } from "../form/form.js";
import { dropping } from "../form/media-field.js";
import { parsed } from "../form/schema.js";
import { icon, sentence, uniqueId } from "../ui.js";
import { warningList } from "./timings.js";

/** @typedef {import("../form/form.js").Inspected} Inspected */

const graphHelp = () =>
  t(
    "A graph or workflow as JSON, or a picture, video or sound with one inside. Drop it here, too.",
  );

/** What the server makes of a graph. Only what was asked last counts. */
function inspector() {
  const error = signal("");
  const busy = signal(false);
  const inspected = signal(/** @type {Inspected | null} */ (null));
  const form = signal(/** @type {import("../form/form.js").Form | null} */ (null));
  let turn = 0;
  /** There is no graph that could run, nor is there the one before. */
  const none = (problem = "") => {
    inspected.set(null);
    form.set(null);
    error.set(problem);
  };
  return {
    error,
    busy,
    inspected,
    form,
    none,
    /** What is being asked does not count any more. */
    skip() {
      turn += 1;
      busy.set(false);
    },
    /** @param {import("../api.js").Options} request */
    async ask(request) {
      const mine = (turn += 1);
      busy.set(true);
      error.set("");
      try {
        const found = await json("graph/inspect", { method: "POST", ...request });
        if (mine !== turn) return;
        inspected.set(found);
        form.set(graphForm(found));
      } catch (problem) {
        if (mine === turn) none(sentence(problem));
      } finally {
        if (mine === turn) busy.set(false);
      }
    },
  };
}

/** @typedef {ReturnType<typeof inspector>} Inspector */

/**
 * How a graph comes in: typed, as a file, or from elsewhere.
 * @param {HTMLTextAreaElement} area
 * @param {Inspector} server
 */
function reader(area, server) {
  let text = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {Promise<void>} */
  let pending = Promise.resolve();
  function stopWaiting() {
    clearTimeout(timer);
    timer = undefined;
  }
  function read() {
    stopWaiting();
    const { value: graph, problem } = parsed(
      text.replace(/\b(NaN|-?Infinity)\b(?=\s*[,\]}])/g, "null"),
    );
    if (problem) server.none(problem);
    else pending = server.ask({ json: graph });
  }
  function typed() {
    stopWaiting();
    server.skip();
    text = area.value;
    if (text.trim() === "") server.none();
    else timer = setTimeout(read, 350);
  }
  return {
    typed,
    /** @param {File} file */
    async take(file) {
      stopWaiting();
      const isText = /json|text/.test(file.type) || /\.(json|txt)$/i.test(file.name);
      if (isText && file.size < 20_000_000) {
        area.value = await file.text();
        typed();
        return;
      }
      area.value = "";
      text = "";
      pending = server.ask({
        body: file,
        headers: { "Content-Type": file.type || "application/octet-stream" },
      });
      await pending;
      const found = server.inspected.peek();
      if (found) area.value = stringify(found.prompt, 2);
    },
    /** Shows a graph that comes from elsewhere. @param {any} graph */
    open(graph) {
      stopWaiting();
      area.value = typeof graph === "string" ? graph : stringify(graph, 2);
      text = area.value;
      pending = server.ask({ json: typeof graph === "string" ? parsed(graph).value : graph });
      return pending;
    },
    /**
     * When what was typed last is read; whoever waits for it need not wait until nothing is typed
     * any more.
     */
    settled() {
      if (timer !== undefined) read();
      return pending;
    },
  };
}

export function graphChooser() {
  const server = inspector();
  const { error } = server;
  const [areaId, fileId, errorId] = [
    uniqueId("graph"),
    uniqueId("graph-file"),
    uniqueId("graph-error"),
  ];
  const area = h("textarea", {
    id: areaId,
    class: "mono",
    rows: 6,
    spellcheck: "false",
    placeholder: t("Paste a graph or a saved workflow"),
    "aria-describedby": errorId,
    oninput: () => given.typed(),
  });
  const given = reader(area, server);
  effect(() =>
    error() ? area.setAttribute("aria-invalid", "true") : area.removeAttribute("aria-invalid"),
  );
  const input = h("input", {
    id: fileId,
    type: "file",
    accept: ".json,application/json,image/*,video/*,audio/*,.flac,.latent",
    onchange: () => {
      const [file] = input.files ?? [];
      if (file) void given.take(file);
    },
  });
  const element = h(
    "div",
    dropping("drop graph-drop", (file) => void given.take(file)),
    h(
      "div",
      { class: "field" },
      h("label", { for: areaId }, t("Graph")),
      area,
      h("p", { class: "error", id: errorId, hidden: () => !error() }, error),
    ),
    h(
      "div",
      { class: "field" },
      h("label", { for: fileId }, t("Graph file")),
      input,
      h("p", { class: "help" }, graphHelp()),
    ),
    () => (server.busy() ? reading() : null),
    () => warningList(server.inspected()?.warnings),
    () => told(server.inspected()),
  );
  return { element, form: server.form, error, open: given.open, settled: given.settled };
}

const reading = () =>
  h(
    "p",
    { class: "loading" },
    h("span", { class: "spinner", "aria-hidden": "true" }),
    t("Reading the graph…"),
  );

/** What was read. @param {Inspected | null} found */
function told(found) {
  if (!found) return null;
  const n = Object.keys(found.prompt).length;
  return h(
    "p",
    { class: "muted read" },
    icon("check"),
    found.format === "ui"
      ? t("A saved workflow, converted: {n} nodes.", { n })
      : t("A graph with {n} nodes.", { n }),
  );
}
