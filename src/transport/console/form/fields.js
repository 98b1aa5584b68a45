/**
 * Controls for the kinds of values. Each gives its value, checks it, and shows what is wrong beside
 * itself.
 */

import { effect, h, list, signal } from "../kernel.js";
import { t } from "../i18n.js";
import { copy } from "../json.js";
import { button, iconButton, uniqueId } from "../ui.js";
import {
  choiceControl,
  jsonControl,
  longControl,
  numberControl,
  switchControl,
  textControl,
} from "./controls.js";
import { mediaControl } from "./media-field.js";
import { initial, kindOf, mediaOf, problem, resolve } from "./schema.js";

/**
 * @typedef {{
 *   path: string,
 *   label: string,
 *   kind: string,
 *   element: Element,
 *   media: string,
 *   value: () => any,
 *   set: (value: any) => void,
 *   check: () => boolean,
 *   show: (problem: string) => void,
 *   ready: () => Promise<void>,
 *   inner: Field[],
 *   draw?: (index: number) => void,
 *   focus: () => void,
 *   file?: () => File | null,
 *   named?: (name: string, type: string) => void,
 * }} Field
 */
/**
 * @typedef {{
 *   path: string,
 *   name: string,
 *   label: string,
 *   schema: Record<string, any>,
 *   root?: Record<string, any>,
 *   required: boolean,
 *   value?: any,
 * }} Description
 */
/**
 * @typedef {{
 *   element: any,
 *   control: HTMLElement,
 *   value: () => any,
 *   set: (value: any) => void,
 *   extra?: any,
 *   own?: () => string,
 *   ready?: () => Promise<void>,
 *   inner?: Field[],
 *   draw?: (index: number) => void,
 *   file?: () => File | null,
 *   named?: (name: string, type: string) => void,
 * }} Control
 */

/** @param {Description} description @returns {Field} */
export function field({ path, name, label, schema: given, root = given, required, value }) {
  const schema = resolve(given, root);
  const kind = kindOf(name, schema);
  const id = uniqueId("field");
  const wrong = signal("");
  const start = value !== undefined ? value : initial(kind, schema);
  const changed = () => wrong.set("");
  const control = make({ kind, id, name, label, path, schema, root, required, start, changed });
  const described = [schema.description ? `${id}-help` : "", `${id}-error`]
    .filter(Boolean)
    .join(" ");
  const main = control.control;
  main.setAttribute("aria-describedby", described);
  effect(() => {
    if (wrong()) main.setAttribute("aria-invalid", "true");
    else main.removeAttribute("aria-invalid");
  });
  if (required && kind !== "switch" && kind !== "group" && kind !== "list")
    main.setAttribute("aria-required", "true");
  const element = surrounded(control, {
    kind,
    id,
    label,
    help: schema.description
      ? h("p", { class: "help", id: `${id}-help` }, schema.description)
      : null,
    error: h("p", { class: "error", id: `${id}-error`, hidden: () => !wrong() }, wrong),
    mark: required
      ? h("span", { class: "needed", "aria-hidden": "true", title: t("required") }, "*")
      : null,
  });
  const inner = control.inner ?? [];
  return {
    path,
    label,
    kind,
    element,
    inner,
    media: mediaOf(name, schema),
    value: control.value,
    set(next) {
      wrong.set("");
      control.set(next);
    },
    check() {
      const own = control.own?.() ?? "";
      const found =
        own ||
        (inner.length && kind === "group" ? "" : problem(control.value(), schema, kind, required));
      wrong.set(found);
      return inner.map((one) => one.check()).every(Boolean) && !found;
    },
    show: wrong.set,
    ready: async () => {
      await control.ready?.();
      await Promise.all(inner.map((one) => one.ready()));
    },
    draw:
      control.draw ??
      (inner.length ? (index) => inner.forEach((one) => one.draw?.(index)) : undefined),
    focus: () => main.focus(),
    file: control.file,
    named: control.named,
  };
}

/**
 * A control with its name, its help, and what is wrong with it.
 * @param {Control} control
 * @param {{
 *   kind: string,
 *   id: string,
 *   label: string,
 *   help: Element | null,
 *   error: Element,
 *   mark: Element | null,
 * }} parts
 */
function surrounded({ element, extra }, { kind, id, label, help, error, mark }) {
  if (kind === "group")
    return h("fieldset", { class: "group", id }, h("legend", null, label), help, error, element);
  if (kind === "list")
    return h("fieldset", { class: "group", id }, h("legend", null, label), help, element, error);
  if (kind === "switch")
    return h(
      "div",
      { class: "field switch-field" },
      h("div", { class: "switch-line" }, element, h("label", { for: id }, label)),
      help,
      error,
    );
  return h(
    "div",
    { class: `field ${kind}` },
    h("div", { class: "label-line" }, h("label", { for: id }, label), mark, extra ?? null),
    element,
    help,
    error,
  );
}

/**
 * @typedef {{
 *   kind: string,
 *   id: string,
 *   name: string,
 *   label: string,
 *   path: string,
 *   schema: any,
 *   root: any,
 *   required: boolean,
 *   start: any,
 *   changed: () => void,
 * }} Making
 */

/** @param {Making} making @returns {Control} */
function make(making) {
  switch (making.kind) {
    case "media":
      return mediaControl(making, mediaOf(making.name, making.schema));
    case "text":
    case "fixed":
      return textControl(making);
    case "long":
      return longControl(making);
    case "integer":
    case "number":
      return numberControl(making);
    case "switch":
      return switchControl(making);
    case "choice":
      return choiceControl(making);
    case "list":
      return listControl(making);
    case "group":
      return groupControl(making);
    default:
      return jsonControl(making);
  }
}

/** @param {Making} making @returns {Control} */
function groupControl({ path, schema, root, start, required }) {
  const wanted = new Set(schema.required ?? []);
  const inner = Object.entries(schema.properties).map(([name, part]) =>
    field({
      path: `${path}.${name}`,
      name,
      label: /** @type {any} */ (resolve(/** @type {any} */ (part), root)).title ?? name,
      schema: /** @type {any} */ (part),
      root,
      required: wanted.has(name) && required,
      value: start?.[name],
    }),
  );
  const holder = h(
    "div",
    { class: "fields" },
    inner.map((one) => one.element),
  );
  return {
    element: holder,
    control: holder,
    inner,
    value() {
      const members = inner
        .map((one) => [one.path.slice(path.length + 1), one.value()])
        .filter(([, value]) => value !== undefined);
      return members.length || required ? Object.fromEntries(members) : undefined;
    },
    set: (value) => inner.forEach((one) => one.set(value?.[one.path.slice(path.length + 1)])),
  };
}

/** @param {Making} making @returns {Control} */
function listControl({ path, name, label, schema, root, start, required, changed }) {
  let counter = 0;
  const items = signal(/** @type {{key: number, field: Field}[]} */ ([]));
  const item = (/** @type {any} */ value) => {
    counter += 1;
    const place = items.peek().length + 1;
    return {
      key: counter,
      field: field({
        path: `${path}.${counter}`,
        name,
        label: `${label} ${place}`,
        schema: schema.items,
        root,
        required: true,
        value,
      }),
    };
  };
  const add = (/** @type {any} */ value) => {
    items.update((all) => [...all, item(value)]);
    changed();
  };
  const set = (/** @type {any} */ value) => {
    items.set([]);
    for (const one of Array.isArray(value) ? value : []) add(copy(one));
  };
  set(start);
  const holder = h(
    "div",
    { class: "list", role: "group", "aria-label": label },
    list(
      items,
      (one) => one.key,
      (one) =>
        h(
          "div",
          { class: "list-item" },
          one.peek().field.element,
          iconButton(`${t("Remove")} ${one.peek().field.label}`, "trash", () => {
            items.update((all) => all.filter((other) => other.key !== one.peek().key));
            changed();
          }),
        ),
    ),
    button(t("Add"), () => add(undefined), {
      class: "secondary small",
      "aria-label": `${t("Add")}: ${label}`,
    }),
  );
  /** @type {Field[]} Grows and shrinks with the list. */
  const inner = [];
  effect(() => {
    inner.splice(0, inner.length, ...items().map((one) => one.field));
  });
  return {
    element: holder,
    control: holder,
    inner,
    set,
    value: () =>
      items.peek().length || required ? items.peek().map((one) => one.field.value()) : undefined,
    ready: async () => {
      await Promise.all(items.peek().map((one) => one.field.ready()));
    },
  };
}
