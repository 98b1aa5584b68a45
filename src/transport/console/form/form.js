/**
 * A whole form: its fields, its values as they are sent, and where an error of the server belongs.
 */

import { h } from "../kernel.js";
import { t } from "../i18n.js";
import { copy } from "../json.js";
import { field } from "./fields.js";
import { resolve } from "./schema.js";

/** @typedef {import("./fields.js").Field} Field */
/**
 * @typedef {{
 *   element: Element,
 *   fields: Field[],
 *   all: () => Field[],
 *   check: () => boolean,
 *   ready: () => Promise<void>,
 *   draw: (index: number) => void,
 *   values: () => any,
 *   locate: (location: string | undefined) => Field | undefined,
 * }} Form
 */

/** @param {Field[]} fields @returns {Field[]} */
const flat = (fields) => fields.flatMap((one) => [one, ...flat(one.inner)]);

/**
 * @param {Field[]} fields
 * @param {Element} element
 * @param {() => any} values
 * @param {(location: string) => string[]} paths
 * @returns {Form}
 */
function form(fields, element, values, paths) {
  const all = () => flat(fields);
  return {
    element,
    fields,
    all,
    values,
    check() {
      const good = fields.map((one) => one.check()).every(Boolean);
      if (!good)
        all()
          .find((one) => one.element.querySelector("[aria-invalid=true]"))
          ?.focus();
      return good;
    },
    ready: async () => {
      await Promise.all(fields.map((one) => one.ready()));
    },
    draw: (index) => fields.forEach((one) => one.draw?.(index)),
    locate(location) {
      if (!location) return undefined;
      // The deepest field that the location names, or lies in.
      const candidates = paths(location);
      return all()
        .filter((one) =>
          candidates.some((path) => path === one.path || path.startsWith(`${one.path}.`)),
        )
        .sort((a, b) => b.path.length - a.path.length)[0];
    },
  };
}

/**
 * Of the JSON schema of an endpoint.
 * @param {Record<string, any>} given
 * @param {any} [values]
 * @param {string} [prefix] what the server's locations begin with
 */
export function schemaForm(given, values, prefix = "input") {
  const schema = resolve(given ?? {}, given);
  const wanted = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties ?? {}).map(([name, part]) =>
    field({
      path: name,
      name,
      label: resolve(/** @type {any} */ (part), given).title ?? name,
      schema: /** @type {any} */ (part),
      root: given,
      required: wanted.has(name),
      value: values?.[name],
    }),
  );
  const element = h(
    "div",
    { class: "fields" },
    fields.length
      ? fields.map((one) => one.element)
      : h("p", { class: "muted" }, t("This workflow takes no input.")),
  );
  const collect = () =>
    Object.fromEntries(
      fields.map((one) => [one.path, one.value()]).filter(([, value]) => value !== undefined),
    );
  return form(fields, element, collect, (location) => [
    location,
    location.startsWith(`${prefix}.`) ? location.slice(prefix.length + 1) : location,
  ]);
}

/**
 * @typedef {{
 *   path: string,
 *   node_id: string,
 *   class_type: string,
 *   title?: string,
 *   label?: string,
 *   schema: any,
 *   value: any,
 *   primary: boolean,
 * }} GraphField
 */
/**
 * @typedef {{
 *   format: string,
 *   prompt: Record<string, any>,
 *   fields: GraphField[],
 *   outputs: any[],
 *   warnings: string[],
 * }} Inspected
 */

/** The input's name inside its node. @param {GraphField} one */
export const inputName = (one) => one.path.slice(`${one.node_id}.inputs.`.length);

/**
 * Of a graph: what matters first, the rest behind "All inputs", grouped by node.
 * @param {Inspected} inspected
 * @param {Record<string, any>} [values] by path
 */
export function graphForm(inspected, values = {}) {
  const title = (/** @type {GraphField} */ one) => `${one.title || one.class_type} #${one.node_id}`;
  const made = inspected.fields.map((one) => ({
    one,
    field: field({
      path: one.path,
      name: inputName(one),
      label: `${title(one)}: ${inputName(one)}`,
      schema: { ...one.schema, title: undefined },
      required: false,
      value: one.path in values ? values[one.path] : one.value,
    }),
  }));
  const first = made.filter(({ one }) => one.primary);
  /** @type {Map<string, typeof made>} */
  const groups = new Map();
  for (const entry of made) {
    if (entry.one.primary) continue;
    groups.set(entry.one.node_id, [...(groups.get(entry.one.node_id) ?? []), entry]);
  }
  const rest = [...groups.values()].map((entries) =>
    h(
      "fieldset",
      { class: "group" },
      h("legend", null, title(entries[0].one)),
      entries.map(({ field }) => field.element),
    ),
  );
  const element = h(
    "div",
    { class: "fields" },
    first.map(({ field }) => field.element),
    made.length === 0 ? h("p", { class: "muted" }, t("This graph has no inputs to set.")) : null,
    rest.length
      ? h(
          "details",
          { class: "more", open: first.length === 0 },
          h(
            "summary",
            null,
            t("All inputs"),
            h("span", { class: "count" }, String(made.length - first.length)),
          ),
          h("div", { class: "fields" }, rest),
        )
      : null,
  );
  const collect = () => {
    const prompt = copy(inspected.prompt);
    for (const { one, field } of made) {
      const value = field.value();
      const inputs = prompt[one.node_id]?.inputs;
      if (!inputs) continue;
      if (value === undefined) delete inputs[inputName(one)];
      else inputs[inputName(one)] = wrapped(value, one);
    }
    return prompt;
  };
  return form(
    made.map(({ field }) => field),
    element,
    collect,
    (location) => [location.replace(/^(prompt|workflow)\./, "")],
  );
}

/**
 * A list as a value is told from a link by its wrapper.
 * @param {any} value
 * @param {GraphField} one
 */
const wrapped = (value, one) =>
  Array.isArray(value) && one.value && typeof one.value === "object" && "__value__" in one.value
    ? { __value__: value }
    : value;
