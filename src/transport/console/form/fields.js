/** Controls for the kinds of values. Each gives its value, checks it, and shows what is wrong beside itself. */

import { effect, h, list, signal } from "../kernel.js";
import { t } from "../i18n.js";
import { copy, number, numberText, stringify } from "../json.js";
import { button, iconButton, uniqueId } from "../ui.js";
import { mediaControl } from "./media-field.js";
import { bound, hasSlider, initial, isSeed, kindOf, mediaOf, parsed, problem, randomSeed, resolve, stepOf } from "./schema.js";

/**
 * @typedef {{
 *   path: string, label: string, kind: string, element: Element, media: string,
 *   value: () => any, set: (value: any) => void, check: () => boolean, show: (problem: string) => void, ready: () => Promise<void>,
 *   inner: Field[], draw?: (index: number) => void, focus: () => void, file?: () => File | null, named?: (name: string, type: string) => void,
 * }} Field
 */
/** @typedef {{path: string, name: string, label: string, schema: Record<string, any>, root?: Record<string, any>, required: boolean, value?: any}} Description */
/** @typedef {{element: any, control: HTMLElement, value: () => any, set: (value: any) => void, extra?: any, own?: () => string, ready?: () => Promise<void>, inner?: Field[], draw?: (index: number) => void, file?: () => File | null, named?: (name: string, type: string) => void}} Control */

/** @param {Description} description @returns {Field} */
export function field({ path, name, label, schema: given, root = given, required, value }) {
  const schema = resolve(given, root);
  const kind = kindOf(name, schema);
  const id = uniqueId("field");
  const wrong = signal("");
  const start = value !== undefined ? value : initial(kind, schema);
  const changed = () => wrong.set("");
  const control = make({ kind, id, name, label, path, schema, root, required, start, changed });
  const described = [schema.description ? `${id}-help` : "", `${id}-error`].filter(Boolean).join(" ");
  const main = control.control;
  main.setAttribute("aria-describedby", described);
  effect(() => {
    if (wrong()) main.setAttribute("aria-invalid", "true");
    else main.removeAttribute("aria-invalid");
  });
  if (required && kind !== "switch" && kind !== "group" && kind !== "list") main.setAttribute("aria-required", "true");
  const help = schema.description ? h("p", { class: "help", id: `${id}-help` }, schema.description) : null;
  const error = h("p", { class: "error", id: `${id}-error`, hidden: () => !wrong() }, wrong);
  const mark = required ? h("span", { class: "needed", "aria-hidden": "true", title: t("required") }, "*") : null;
  const element = kind === "group"
    ? h("fieldset", { class: "group", id }, h("legend", null, label), help, error, control.element)
    : kind === "list"
      ? h("fieldset", { class: "group", id }, h("legend", null, label), help, control.element, error)
      : kind === "switch"
        ? h("div", { class: "field switch-field" }, h("div", { class: "switch-line" }, control.element, h("label", { for: id }, label)), help, error)
        : h("div", { class: `field ${kind}` }, h("div", { class: "label-line" }, h("label", { for: id }, label), mark, control.extra ?? null), control.element, help, error);
  const inner = control.inner ?? [];
  return {
    path, label, kind, element, inner, media: mediaOf(name, schema),
    value: control.value,
    set(next) {
      wrong.set("");
      control.set(next);
    },
    check() {
      const own = control.own?.() ?? "";
      const found = own || (inner.length && kind === "group" ? "" : problem(control.value(), schema, kind, required));
      wrong.set(found);
      return inner.map((one) => one.check()).every(Boolean) && !found;
    },
    show: wrong.set,
    ready: async () => {
      await control.ready?.();
      await Promise.all(inner.map((one) => one.ready()));
    },
    draw: control.draw ?? (inner.length ? (index) => inner.forEach((one) => one.draw?.(index)) : undefined),
    focus: () => main.focus(),
    file: control.file,
    named: control.named,
  };
}

/** @typedef {{kind: string, id: string, name: string, label: string, path: string, schema: any, root: any, required: boolean, start: any, changed: () => void}} Making */

/** @param {Making} making @returns {Control} */
function make(making) {
  switch (making.kind) {
    case "media": return mediaControl(making, mediaOf(making.name, making.schema));
    case "text": case "fixed": return textControl(making);
    case "long": return longControl(making);
    case "integer": case "number": return numberControl(making);
    case "switch": return switchControl(making);
    case "choice": return choiceControl(making);
    case "list": return listControl(making);
    case "group": return groupControl(making);
    default: return jsonControl(making);
  }
}

/** @param {Making} making @returns {Control} */
function textControl({ id, schema, start, changed, required, kind }) {
  const type = schema.format === "uri" || schema.format === "url" ? "url" : schema.format === "password" ? "password" : "text";
  const input = h("input", { id, type, dir: type === "text" ? "auto" : null, value: start ?? "", oninput: changed, autocomplete: "off", spellcheck: "false", readonly: kind === "fixed", placeholder: schema.placeholder ?? schema.examples?.[0] ?? null });
  return { element: input, control: input, value: () => (kind === "fixed" ? schema.const : emptyAs(input.value, start, required)), set: (value) => { input.value = value ?? ""; } };
}

/** An empty text is a value where one is needed, or where there was one. @param {string} text @param {any} start @param {boolean} required */
const emptyAs = (text, start, required) => (text === "" && !required && (start === undefined || start === null) ? undefined : text);

/** @param {Making} making @returns {Control} */
function longControl({ id, start, changed, required }) {
  const grow = () => {
    input.style.setProperty("height", "auto");
    if (input.scrollHeight) input.style.setProperty("height", `${Math.min(input.scrollHeight + 2, 420)}px`);
  };
  const input = h("textarea", { id, rows: 3, dir: "auto", value: start ?? "", oninput: () => {
    changed();
    grow();
  } });
  requestAnimationFrame(grow);
  return { element: input, control: input, value: () => emptyAs(input.value, start, required), set: (value) => {
    input.value = value ?? "";
    grow();
  } };
}

/** @param {Making} making @returns {Control} */
function numberControl({ id, name, label, kind, schema, start, changed }) {
  const [low, high, step] = [bound(schema, "minimum"), bound(schema, "maximum"), stepOf(schema)];
  const seed = isSeed(name, /** @type {any} */ (kind));
  const input = h("input", { id, type: "number", inputmode: kind === "integer" ? "numeric" : "decimal", min: low == null ? null : numberText(low), max: high == null ? null : numberText(high), step: kind === "integer" ? step : "any", value: numberText(start), autocomplete: "off" });
  const slider = !seed && hasSlider(schema) ? h("input", { type: "range", "aria-label": label, min: low, max: high, step, value: numberText(start ?? low) }) : null;
  input.addEventListener("input", () => {
    changed();
    if (slider) slider.value = input.value;
    if (random) random.checked = false;
  });
  slider?.addEventListener("input", () => {
    changed();
    input.value = slider.value;
  });
  const random = seed ? h("input", { id: `${id}-random`, type: "checkbox", role: "switch", checked: true, "aria-label": `${t("Random")} ${label}` }) : null;
  /** @type {any} */
  let base;
  const set = (/** @type {any} */ value) => {
    input.value = numberText(value);
    if (slider) slider.value = numberText(value);
  };
  return {
    element: h("div", { class: "number-line" }, input, slider, random ? h("label", { class: "random", for: `${id}-random` }, random, h("span", { "aria-hidden": "true" }, t("Random"))) : null),
    control: input,
    value: () => number(input.value),
    own: () => (input.value === "" && input.validity.badInput ? t("A number is needed.") : ""),
    set(value) {
      set(value);
      if (random && value !== undefined) random.checked = false;
    },
    // Of several runs each gets a seed of its own; -1 puts back the one that was typed.
    draw: random ? (index) => {
      if (random.checked) {
        if (index >= 0) set(randomSeed(schema));
        return;
      }
      if (index === 0) base = number(input.value);
      else if (typeof base === "number") set(index < 0 ? base : base + index);
    } : undefined,
  };
}

/** @param {Making} making @returns {Control} */
function switchControl({ id, start, changed }) {
  const input = h("input", { id, type: "checkbox", role: "switch", checked: start === true, onchange: changed });
  return { element: input, control: input, value: () => input.checked, set: (value) => { input.checked = value === true; } };
}

/** @param {Making} making @returns {Control} */
function choiceControl({ id, label, schema, start, changed, required }) {
  /** @type {any[]} */
  const values = [...schema.enum];
  const keyOf = (/** @type {any} */ value) => (typeof value === "string" ? value : `json:${stringify(value)}`);
  const textOf = (/** @type {any} */ value) => schema.names?.[schema.enum.indexOf(value)] ?? (typeof value === "string" ? value || "–" : stringify(value));
  const has = (/** @type {any} */ value) => values.some((one) => keyOf(one) === keyOf(value));
  // What a saved graph names may be missing here: it is shown, and the server judges.
  if (start !== undefined && start !== null && !has(start)) values.unshift(start);
  const select = h("select", { id, onchange: changed });
  const fill = (/** @type {string} */ wanted, /** @type {string} */ chosen) => {
    const shown = values.filter((value) => !wanted || keyOf(value) === chosen || textOf(value).toLowerCase().includes(wanted.toLowerCase()));
    const nothing = (!required || start === undefined) && !has("");
    select.replaceChildren(...(nothing ? [h("option", { value: "" }, required ? t("Choose…") : "–")] : []), ...shown.map((value) => h("option", { value: keyOf(value) }, textOf(value))));
    select.value = chosen;
  };
  const set = (/** @type {any} */ value) => {
    const given = value !== undefined && value !== null;
    if (given && !has(value)) values.push(value);
    fill("", given ? keyOf(value) : value === null && has(null) ? keyOf(null) : "");
  };
  set(start);
  const filter = values.length >= 15 ? h("input", { type: "search", class: "narrow", "aria-label": `${t("Filter")} ${label}`, placeholder: t("Filter"), oninput: (/** @type {any} */ event) => fill(event.target.value, select.value) }) : null;
  return { element: h("div", { class: "choice-line" }, select, filter), control: select, value: () => values.find((value) => keyOf(value) === select.value), set };
}

/** @param {Making} making @returns {Control} */
function jsonControl({ id, start, changed }) {
  const input = h("textarea", { id, rows: 3, class: "mono", spellcheck: "false", value: start === undefined ? "" : stringify(start, 2), oninput: changed });
  return {
    element: input, control: input,
    value: () => parsed(input.value).value,
    own: () => parsed(input.value).problem ?? "",
    set: (value) => { input.value = value === undefined ? "" : stringify(value, 2); },
  };
}

/** @param {Making} making @returns {Control} */
function groupControl({ path, schema, root, start, required }) {
  const wanted = new Set(schema.required ?? []);
  const inner = Object.entries(schema.properties).map(([name, part]) => field({ path: `${path}.${name}`, name, label: /** @type {any} */ (resolve(/** @type {any} */ (part), root)).title ?? name, schema: /** @type {any} */ (part), root, required: wanted.has(name) && required, value: start?.[name] }));
  const holder = h("div", { class: "fields" }, inner.map((one) => one.element));
  return {
    element: holder, control: holder, inner,
    value() {
      const members = inner.map((one) => [one.path.slice(path.length + 1), one.value()]).filter(([, value]) => value !== undefined);
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
    return { key: counter, field: field({ path: `${path}.${counter}`, name, label: `${label} ${place}`, schema: schema.items, root, required: true, value }) };
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
  const holder = h("div", { class: "list", role: "group", "aria-label": label }, list(items, (one) => one.key, (one) => h("div", { class: "list-item" }, one.peek().field.element,
    iconButton(`${t("Remove")} ${one.peek().field.label}`, "trash", () => {
      items.update((all) => all.filter((other) => other.key !== one.peek().key));
      changed();
    }))), button(t("Add"), () => add(undefined), { class: "secondary small", "aria-label": `${t("Add")}: ${label}` }));
  /** @type {Field[]} Grows and shrinks with the list. */
  const inner = [];
  effect(() => {
    inner.splice(0, inner.length, ...items().map((one) => one.field));
  });
  return {
    element: holder, control: holder, inner, set,
    value: () => (items.peek().length || required ? items.peek().map((one) => one.field.value()) : undefined),
    ready: async () => { await Promise.all(items.peek().map((one) => one.field.ready())); },
  };
}
