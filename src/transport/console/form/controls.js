/** Controls that hold one value: texts, numbers, switches, choices, JSON. */

import { h } from "../kernel.js";
import { t } from "../i18n.js";
import { number, numberText, stringify } from "../json.js";
import { bound, hasSlider, isSeed, parsed, randomSeed, stepOf } from "./schema.js";

/** @typedef {import("./fields.js").Making} Making */
/** @typedef {import("./fields.js").Control} Control */

/** @param {Making} making @returns {Control} */
export function textControl({ id, schema, start, changed, required, kind }) {
  const type =
    schema.format === "uri" || schema.format === "url"
      ? "url"
      : schema.format === "password"
        ? "password"
        : "text";
  const input = h("input", {
    id,
    type,
    dir: type === "text" ? "auto" : null,
    value: start ?? "",
    oninput: changed,
    autocomplete: "off",
    spellcheck: "false",
    readonly: kind === "fixed",
    placeholder: schema.placeholder ?? schema.examples?.[0] ?? null,
  });
  return {
    element: input,
    control: input,
    value: () => (kind === "fixed" ? schema.const : emptyAs(input.value, start, required)),
    set: (value) => {
      input.value = value ?? "";
    },
  };
}

/**
 * An empty text is a value where one is needed, or where there was one.
 * @param {string} text
 * @param {any} start
 * @param {boolean} required
 */
const emptyAs = (text, start, required) =>
  text === "" && !required && (start === undefined || start === null) ? undefined : text;

/** @param {Making} making @returns {Control} */
export function longControl({ id, start, changed, required }) {
  const grow = () => {
    input.style.setProperty("height", "auto");
    if (input.scrollHeight)
      input.style.setProperty("height", `${Math.min(input.scrollHeight + 2, 420)}px`);
  };
  const input = h("textarea", {
    id,
    rows: 3,
    dir: "auto",
    value: start ?? "",
    oninput: () => {
      changed();
      grow();
    },
  });
  requestAnimationFrame(grow);
  return {
    element: input,
    control: input,
    value: () => emptyAs(input.value, start, required),
    set: (value) => {
      input.value = value ?? "";
      grow();
    },
  };
}

/** The slider of a number that has both ends. @param {Making} making */
const slider = ({ label, schema, start }) =>
  h("input", {
    type: "range",
    "aria-label": label,
    min: bound(schema, "minimum"),
    max: bound(schema, "maximum"),
    step: stepOf(schema),
    value: numberText(start ?? bound(schema, "minimum")),
  });

/** The switch beside a seed. @param {Making} making */
const randomSwitch = ({ id, label }) =>
  h("input", {
    id: `${id}-random`,
    type: "checkbox",
    role: "switch",
    checked: true,
    "aria-label": `${t("Random")} ${label}`,
  });

/**
 * What gives each of several runs a seed of its own; -1 puts back the one that was typed.
 * @param {HTMLInputElement} input
 * @param {HTMLInputElement} random
 * @param {() => any} next a random seed
 * @param {(value: any) => void} set
 * @returns {(index: number) => void}
 */
function drawing(input, random, next, set) {
  /** @type {any} */
  let base;
  return (index) => {
    if (random.checked) {
      if (index >= 0) set(next());
      return;
    }
    if (index === 0) base = number(input.value);
    else if (typeof base === "number") set(index < 0 ? base : base + index);
  };
}

/** @param {Making} making @returns {Control} */
export function numberControl(making) {
  const { id, name, kind, schema, start, changed } = making;
  const [low, high, step] = [bound(schema, "minimum"), bound(schema, "maximum"), stepOf(schema)];
  const seed = isSeed(name, /** @type {any} */ (kind));
  const input = h("input", {
    id,
    type: "number",
    inputmode: kind === "integer" ? "numeric" : "decimal",
    min: low == null ? null : numberText(low),
    max: high == null ? null : numberText(high),
    step: kind === "integer" ? step : "any",
    value: numberText(start),
    autocomplete: "off",
  });
  const range = !seed && hasSlider(schema) ? slider(making) : null;
  const random = seed ? randomSwitch(making) : null;
  input.addEventListener("input", () => {
    changed();
    if (range) range.value = input.value;
    if (random) random.checked = false;
  });
  range?.addEventListener("input", () => {
    changed();
    input.value = range.value;
  });
  const set = (/** @type {any} */ value) => {
    input.value = numberText(value);
    if (range) range.value = numberText(value);
  };
  return {
    element: h(
      "div",
      { class: "number-line" },
      input,
      range,
      random
        ? h(
            "label",
            { class: "random", for: random.id },
            random,
            h("span", { "aria-hidden": "true" }, t("Random")),
          )
        : null,
    ),
    control: input,
    value: () => number(input.value),
    own: () => (input.value === "" && input.validity.badInput ? t("A number is needed.") : ""),
    set(value) {
      set(value);
      if (random && value !== undefined) random.checked = false;
    },
    draw: random ? drawing(input, random, () => randomSeed(schema), set) : undefined,
  };
}

/** @param {Making} making @returns {Control} */
export function switchControl({ id, start, changed }) {
  const input = h("input", {
    id,
    type: "checkbox",
    role: "switch",
    checked: start === true,
    onchange: changed,
  });
  return {
    element: input,
    control: input,
    value: () => input.checked,
    set: (value) => {
      input.checked = value === true;
    },
  };
}

/** @param {Making} making @returns {Control} */
export function choiceControl({ id, label, schema, start, changed, required }) {
  /** @type {any[]} */
  const values = [...schema.enum];
  const keyOf = (/** @type {any} */ value) =>
    typeof value === "string" ? value : `json:${stringify(value)}`;
  const textOf = (/** @type {any} */ value) =>
    schema.names?.[schema.enum.indexOf(value)] ??
    (typeof value === "string" ? value || "–" : stringify(value));
  const has = (/** @type {any} */ value) => values.some((one) => keyOf(one) === keyOf(value));
  // What a saved graph names may be missing here: it is shown, and the server judges.
  if (start !== undefined && start !== null && !has(start)) values.unshift(start);
  const select = h("select", { id, onchange: changed });
  const fill = (/** @type {string} */ wanted, /** @type {string} */ chosen) => {
    const shown = values.filter(
      (value) =>
        !wanted ||
        keyOf(value) === chosen ||
        textOf(value).toLowerCase().includes(wanted.toLowerCase()),
    );
    const nothing = (!required || start === undefined) && !has("");
    select.replaceChildren(
      ...(nothing ? [h("option", { value: "" }, required ? t("Choose…") : "–")] : []),
      ...shown.map((value) => h("option", { value: keyOf(value) }, textOf(value))),
    );
    select.value = chosen;
  };
  const set = (/** @type {any} */ value) => {
    const given = value !== undefined && value !== null;
    if (given && !has(value)) values.push(value);
    fill("", given ? keyOf(value) : value === null && has(null) ? keyOf(null) : "");
  };
  set(start);
  const filter =
    values.length >= 15
      ? h("input", {
          type: "search",
          class: "narrow",
          "aria-label": `${t("Filter")} ${label}`,
          placeholder: t("Filter"),
          oninput: (/** @type {any} */ event) => fill(event.target.value, select.value),
        })
      : null;
  return {
    element: h("div", { class: "choice-line" }, select, filter),
    control: select,
    value: () => values.find((value) => keyOf(value) === select.value),
    set,
  };
}

/** @param {Making} making @returns {Control} */
export function jsonControl({ id, start, changed }) {
  const input = h("textarea", {
    id,
    rows: 3,
    class: "mono",
    spellcheck: "false",
    value: start === undefined ? "" : stringify(start, 2),
    oninput: changed,
  });
  return {
    element: input,
    control: input,
    value: () => parsed(input.value).value,
    own: () => parsed(input.value).problem ?? "",
    set: (value) => {
      input.value = value === undefined ? "" : stringify(value, 2);
    },
  };
}
