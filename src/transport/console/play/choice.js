/** What can be run, what is chosen of it, and its form: a workflow of the server, or a graph. */

import { effect, onCleanup, signal } from "../kernel.js";
import { json } from "../api.js";
import { onReconnect } from "../live.js";
import { schemaForm } from "../form/form.js";
import { graphChooser } from "./graph.js";
import { endpoint } from "./handoff.js";

export const GRAPH = "Graph";

/**
 * @typedef {{
 *   path: string,
 *   name: string,
 *   summary?: string,
 *   description?: string,
 *   source: string,
 *   input: any,
 * }} Workflow
 */
/** @typedef {import("../form/form.js").Form} Form */

export function choice() {
  const workflows = signal(/** @type {Workflow[] | null} */ (null));
  const failure = signal(/** @type {any} */ (null));
  const chosen = signal("");
  const graph = graphChooser();
  const form = signal(/** @type {Form | null} */ (null));
  /** What the next form begins with. @type {any} */
  let initial;

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

  return {
    workflows,
    failure,
    chosen,
    graph,
    load,
    /**
     * Before it is known what can be chosen there is nothing to run, and nothing that would be
     * moved by the form.
     */
    known: () => workflows() !== null || failure() !== null,
    /** The form of what is chosen. */
    form: () => (chosen() === GRAPH ? graph.form() : form()),
    /** Shows a request of the history. @param {import("./handoff.js").Handed} request */
    open({ workflow: path, input, prompt }) {
      const workflow =
        path && workflows.peek()?.find((one) => endpoint(one.path) === endpoint(path));
      if (workflow) {
        initial = input;
        chosen.set("");
        chosen.set(workflow.path);
      } else if (prompt) {
        chosen.set(GRAPH);
        void graph.open(prompt);
      } else {
        return false;
      }
      return true;
    },
    /** When a graph that is being typed has been read. */
    async settled() {
      if (chosen.peek() === GRAPH) await graph.settled();
    },
  };
}

/** @typedef {ReturnType<typeof choice>} Choice */

/**
 * The request that a form describes now.
 * @param {string} chosen
 * @param {any} values
 * @param {Record<string, any>} options
 * @returns {{path: string, body: any, classes: Record<string, string>}}
 */
export function requestOf(chosen, values, options) {
  if (chosen !== GRAPH)
    return { path: endpoint(chosen), body: { input: values, ...options }, classes: {} };
  const classes = Object.entries(values ?? {}).map(([id, node]) => [
    id,
    /** @type {any} */ (node)?.class_type,
  ]);
  return {
    path: "prompt",
    body: { prompt: values, ...options },
    classes: Object.fromEntries(classes),
  };
}
