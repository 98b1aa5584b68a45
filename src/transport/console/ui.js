/** Small parts that every page uses: icons, buttons, states, dialogs, notices. */

import { effect, h, scope, signal } from "./kernel.js";
import { t } from "./i18n.js";
import { ApiError } from "./api.js";

/** Outlines in a box of 24. @type {Record<string, string>} */
const ICONS = {
  play: "M7 5l12 7-12 7z",
  queue: "M4 6h16M4 12h10M4 18h7M18 12v8M14.5 16.5 18 20l3.5-3.5",
  history: "M4 12a8 8 0 1 0 2.6-5.9M4 4v4h4M12 8v4.5l3 1.8",
  models: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4.2 7.6 12 12l7.8-4.4M12 12v9",
  deliveries: "M4 12l16-8-6 16-3-7zM11 13l9-9",
  health: "M3 12h4l2.5-7 5 14 2.5-7h4",
  sun:
    "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6 19 19" +
    "M5 19l1.4-1.4M17.6 6.4 19 5",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z",
  system: "M4 5h16v11H4zM9 20h6M12 16v4",
  out: "M14 4h5v16h-5M10 8l-4 4 4 4M6 12h10",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  close: "M6 6l12 12M18 6L6 18",
  code: "M9 7l-5 5 5 5M15 7l5 5-5 5",
  chevron: "M8 10l4 4 4-4",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
  again: "M20 11a8 8 0 1 0-2.3 6.3M20 5v6h-6",
  input: "M4 4h7M4 4v16h7M20 12H9M13 8l-4 4 4 4",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  pause: "M8 5v14M16 5v14",
  expand: "M9 4H4v5M15 4h5v5M9 20H4v-5M15 20h5v-5",
  warning: "M12 4l9 16H3zM12 10v4M12 17v.5",
  check: "M5 12.5l4.5 4.5L19 7.5",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
};

/** @param {string} name */
export const icon = (name) =>
  h(
    "svg",
    { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" },
    h("path", { d: ICONS[name] ?? "" }),
  );

/**
 * @param {string} label
 * @param {() => void} action
 * @param {Record<string, any> & {icon?: string}} [properties]
 */
export function button(label, action, { icon: symbol, ...properties } = {}) {
  return h(
    "button",
    { type: "button", onclick: action, ...properties },
    symbol ? icon(symbol) : null,
    h("span", null, label),
  );
}

/**
 * A button that shows only its symbol.
 * @param {string} name
 * @param {string} symbol
 * @param {() => void} action
 * @param {Record<string, any>} [properties]
 */
export const iconButton = (name, symbol, action, properties = {}) =>
  h(
    "button",
    {
      type: "button",
      class: "quiet square",
      "aria-label": name,
      title: name,
      onclick: action,
      ...properties,
    },
    icon(symbol),
  );

/** @param {any} error */
export const sentence = (error) => (error instanceof Error ? error.message : String(error));

let counter = 0;
/** An id that no other element of the page has. @param {string} [prefix] */
export const uniqueId = (prefix = "x") => `${prefix}-${(counter += 1)}`;

/**
 * Nothing is here yet, and what to do about it.
 * @param {string} symbol
 * @param {string} title
 * @param {...any} children
 */
export const empty = (symbol, title, ...children) =>
  h(
    "div",
    { class: "empty" },
    h("div", { class: "empty-symbol" }, icon(symbol)),
    h("p", { class: "empty-title" }, title),
    h("div", { class: "muted" }, ...children),
  );

/** @param {string} [text] */
export const loading = (text = t("Loading…")) =>
  h(
    "p",
    { class: "loading", role: "status" },
    h("span", { class: "spinner", "aria-hidden": "true" }),
    text,
  );

/**
 * The outline of fields that are on their way: labels and controls in turn.
 * @param {number} count
 */
export const ghosts = (count) =>
  h(
    "div",
    { class: "ghosts", "aria-hidden": "true" },
    Array.from({ length: count }, () => h("i")),
  );

/** An error with a way on. @param {any} error @param {() => void} [again] */
export const failed = (error, again) =>
  h(
    "div",
    { class: "notice bad", role: "alert" },
    icon("warning"),
    h("span", null, sentence(error)),
    again ? button(t("Try again"), again) : null,
  );

/** @param {string} word @param {string} [kind] */
export const badge = (word, kind = kindOf(word)) => h("span", { class: `badge ${kind}` }, t(word));

/** How good or bad a word of the API is. @param {string} word */
export function kindOf(word) {
  if (["succeeded", "delivered", "completed", "ready", "idle"].includes(word)) return "good";
  if (["failed", "down", "expired", "unavailable"].includes(word)) return "bad";
  if (["interrupted", "cancelled", "canceled", "draining", "restarting"].includes(word))
    return "warn";
  if (
    [
      "running",
      "sending",
      "preprocessing",
      "postprocessing",
      "uploading",
      "starting",
      "busy",
    ].includes(word)
  )
    return "live";
  return "calm";
}

/** Whether a run has ended. @param {string} status */
export const hasEnded = (status) => ["succeeded", "failed", "interrupted"].includes(status);

/**
 * @param {string | (() => string)} name
 * @param {() => number | null} value 0 to 100; null while unknown
 * @param {Record<string, any>} [properties]
 */
export const progressbar = (name, value, properties = {}) =>
  h(
    "div",
    {
      class: () => `bar${value() === null ? " unknown" : ""}`,
      role: "progressbar",
      "aria-label": name,
      "aria-valuemin": "0",
      "aria-valuemax": "100",
      "aria-valuenow": () => (value() === null ? null : String(Math.round(value() ?? 0))),
      ...properties,
    },
    h("div", { style: () => ({ transform: `scaleX(${(value() ?? 0) / 100})` }) }),
  );

// --- notices -------------------------------------------------------------------------------------

/** @type {import("./kernel.js").Signal<{id: number, text: string, kind: string}[]>} */
export const notices = signal(/** @type {any[]} */ ([]));

/** Says something in passing. @param {any} text @param {string} [kind] */
export function notify(text, kind = "calm") {
  counter += 1;
  const one = { id: counter, text: sentence(text), kind };
  notices.update((all) => [...all.slice(-2), one]);
  setTimeout(
    () => notices.update((all) => all.filter((other) => other !== one)),
    kind === "bad" ? 10_000 : 5000,
  );
}

/** Does something and says so if it goes wrong. @param {() => Promise<any>} work */
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof DOMException))
      notify(error, error instanceof ApiError && error.status < 500 ? "warn" : "bad");
    return undefined;
  }
}

/** Puts a text where it can be pasted from. @param {string} text */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Plain http from another machine has no clipboard API: the old way.
    const area = h("textarea", { value: text, class: "hidden", readonly: true });
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) return notify(t("The browser does not allow copying: select the text."), "warn");
  }
  return notify(t("Copied."), "good");
}

// --- dialogs -------------------------------------------------------------------------------------

/**
 * Opens a dialog. The browser keeps the focus inside, closes it with Escape and gives the focus
 * back.
 * @param {{title: string, role?: string, wide?: boolean, class?: string}} options
 * @param {(close: () => void) => any} content
 * @returns {Promise<void>} when it is closed
 */
export function dialog({ title, role = "dialog", class: extra = "" }, content) {
  return new Promise((resolve) => {
    const before = document.activeElement;
    const heading = uniqueId("dialog");
    const made = scope(() => {
      const element = h("dialog", {
        class: extra,
        role,
        "aria-labelledby": heading,
        "aria-modal": "true",
      });
      const close = () => element.close();
      element.append(
        h(
          "header",
          null,
          h("h2", { id: heading }, title),
          role === "alertdialog" ? "" : iconButton(t("Close"), "close", close),
        ),
        ...[content(close)].flat(),
      );
      return element;
    });
    made.value.addEventListener("close", () => {
      made.end();
      made.value.remove();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
      resolve();
    });
    made.value.addEventListener(
      "click",
      (event) => event.target === made.value && role !== "alertdialog" && made.value.close(),
    );
    document.body.append(made.value);
    made.value.showModal();
  });
}

/**
 * Asks before something that cannot be taken back.
 * @param {string} question
 * @param {string} [details]
 * @returns {Promise<boolean>}
 */
export async function confirm(question, details = "") {
  let answer = false;
  await dialog({ title: question, role: "alertdialog", class: "question" }, (close) => [
    details ? h("p", null, details) : "",
    h(
      "div",
      { class: "actions" },
      button(t("Cancel"), close, { class: "secondary" }),
      button(
        t("Confirm"),
        () => {
          answer = true;
          close();
        },
        { class: "danger", autofocus: true },
      ),
    ),
  ]);
  return answer;
}

// --- tables --------------------------------------------------------------------------------------

/**
 * A table whose rows become cards on a narrow screen. The roles are written out because a changed
 * `display` takes them away.
 * @param {string} name
 * @param {(string | [string, string])[]} columns names, and widths where what is in them must not
 * decide
 * @param {any} rows `tr` elements, or a list of them; or the bodies that `longRows` makes
 * @param {Record<string, any>} [properties]
 */
export const table = (name, columns, rows, properties = {}) =>
  h(
    "table",
    { role: "table", "aria-label": name, class: "cards", ...properties },
    h(
      "thead",
      { role: "rowgroup" },
      h(
        "tr",
        { role: "row" },
        columns.map((column) => {
          const [title, width] = typeof column === "string" ? [column] : column;
          return h(
            "th",
            { role: "columnheader", scope: "col", style: { width } },
            title || h("span", { class: "hidden" }, t("Actions")),
          );
        }),
      ),
    ),
    Array.isArray(rows) ? rows : h("tbody", { role: "rowgroup" }, rows),
  );

/**
 * A cell that knows its column's name. In a card `lead` is what the card is about, `side` stands
 * beside it, `full` has a line of its own, `plain` needs no name.
 * @param {string} column
 * @param {any} content
 * @param {string} [kind]
 */
export const cell = (column, content, kind) =>
  h("td", { role: "cell", "data-column": column, class: kind ?? null }, content);

/**
 * A text field for a filter.
 * @param {string} name
 * @param {import("./kernel.js").Signal<string>} value
 */
export const searchbox = (name, value) =>
  h("input", {
    type: "search",
    "aria-label": name,
    placeholder: name,
    value,
    oninput: (/** @type {any} */ event) => value.set(event.target.value),
  });

/**
 * @param {string} name
 * @param {import("./kernel.js").Signal<string>} value
 * @param {() => ([string, string] | string)[]} options value and text
 */
export function choice(name, value, options) {
  const id = uniqueId("choice");
  const select = h("select", {
    id,
    onchange: (/** @type {any} */ event) => value.set(event.target.value),
  });
  effect(() => {
    const all = options().map((one) => (typeof one === "string" ? [one, one] : one));
    select.replaceChildren(...all.map(([key, text]) => h("option", { value: key }, text)));
    select.value = value();
  });
  return h("div", { class: "inline-field" }, h("label", { for: id }, name), select);
}

/** The clock for what is going on: ticks once a second while somebody looks. */
export const now = signal(Date.now());
setInterval(() => document.visibilityState === "visible" && now.set(Date.now()), 1000);
