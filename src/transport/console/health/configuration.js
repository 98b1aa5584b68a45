/** Every variable with its value, and where that comes from. */

import { computed, h, list, onCleanup, signal } from "../kernel.js";
import { t } from "../i18n.js";
import { json } from "../api.js";
import { onReconnect } from "../live.js";
import { badge, cell, failed, loading, searchbox, table, uniqueId } from "../ui.js";

/** @param {string | undefined} value */
const mono = (value) =>
  value === undefined || value === "" ? null : h("span", { class: "mono break" }, value);

/** What stands between backticks is code. @param {string} text */
const withCode = (text) =>
  text.split("`").map((part, index) => (index % 2 ? h("code", null, part) : part));

export function configuration() {
  const rows = signal(/** @type {Record<string, any>[] | null} */ (null));
  const failure = signal(/** @type {any} */ (null));
  const text = signal("");
  const onlySet = signal(false);
  const load = async () => {
    try {
      rows.set(await json("config"));
      failure.set(null);
    } catch (error) {
      failure.set(error);
    }
  };
  void load();
  onCleanup(onReconnect(() => void load()));
  const shown = computed(() =>
    (rows() ?? []).filter(
      (one) =>
        (!onlySet() || one.origin !== "default") &&
        (!text() ||
          `${one.name} ${one.value} ${one.description}`
            .toLowerCase()
            .includes(text().toLowerCase())),
    ),
  );
  return h(
    "section",
    { class: "panel", "aria-label": t("Variables") },
    h(
      "div",
      { class: "panel-head" },
      h(
        "h2",
        null,
        t("Configuration"),
        h("span", { class: "count" }, () => (rows() ? String(shown().length) : "")),
      ),
    ),
    filters(text, onlySet),
    () => (failure() ? failed(failure(), () => void load()) : rows() === null ? loading() : null),
    table(
      t("Configuration"),
      [t("Variable"), t("Value"), t("Default"), t("Origin"), t("Meaning")],
      list(shown, (one) => one.name, variable),
      { class: () => `cards config${shown().length ? "" : " bare"}` },
    ),
    () =>
      rows() && !shown().length ? h("p", { class: "muted none" }, t("No variable fits.")) : null,
  );
}

/**
 * @param {import("../kernel.js").Signal<string>} text
 * @param {import("../kernel.js").Signal<boolean>} onlySet
 */
function filters(text, onlySet) {
  const id = uniqueId("only");
  return h(
    "div",
    { class: "filters" },
    searchbox(t("Filter variables"), text),
    h(
      "div",
      { class: "inline-field" },
      h("input", {
        id,
        type: "checkbox",
        role: "switch",
        onchange: (/** @type {any} */ event) => onlySet.set(event.target.checked),
      }),
      h("label", { for: id }, t("Only what was set")),
    ),
  );
}

/** @param {import("../kernel.js").Signal<Record<string, any>>} one */
const variable = (one) =>
  h(
    "tr",
    { role: "row" },
    cell(
      t("Variable"),
      h("span", { class: "mono" }, () => one().name),
      "lead",
    ),
    cell(t("Value"), () => mono(one().value)),
    cell(t("Default"), () => mono(one().default)),
    cell(
      t("Origin"),
      () => badge(one().origin, one().origin === "default" ? "calm" : "live"),
      "side",
    ),
    cell(
      t("Meaning"),
      h("span", { class: "muted" }, () => withCode(one().description)),
      "full",
    ),
  );
