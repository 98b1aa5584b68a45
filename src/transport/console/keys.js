/** What the keyboard does on every page. */

import { h } from "./kernel.js";
import { t } from "./i18n.js";
import { asked } from "./api.js";
import { go, route } from "./router.js";
import { dialog } from "./ui.js";

/** @param {HTMLElement} main */
export function keys(main) {
  /** @type {Record<string, string>} */
  const letters = {
    p: "playground",
    q: "queue",
    h: "history",
    m: "models",
    d: "deliveries",
    s: "health",
  };
  let leading = 0;
  addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
      if (
        route.peek().page !== "playground" ||
        document.querySelector("dialog[open]") ||
        asked.peek() !== null
      )
        return;
      event.preventDefault();
      main.dispatchEvent(new CustomEvent("run"));
      return;
    }
    const target = /** @type {HTMLElement} */ (event.target);
    const types = target.closest?.("input, textarea, select, [contenteditable]");
    if (
      types ||
      event.ctrlKey ||
      event.metaKey ||
      event.altKey ||
      document.querySelector("dialog[open]") ||
      asked.peek() !== null
    )
      return;
    if (event.key === "?") {
      event.preventDefault();
      void showKeys();
    } else if (event.key === "g") {
      leading = Date.now();
    } else if (Date.now() - leading < 1500 && letters[event.key]) {
      leading = 0;
      event.preventDefault();
      go(letters[event.key]);
    }
  });
}

function showKeys() {
  /** @type {[string[], string][]} */
  const rows = [
    [["Ctrl", "Enter"], t("Run")],
    [["g", "p"], t("Playground")],
    [["g", "q"], t("Queue")],
    [["g", "h"], t("History")],
    [["g", "m"], t("Models")],
    [["g", "d"], t("Deliveries")],
    [["g", "s"], t("Health")],
    [["←", "→"], t("Results: previous and next picture")],
    [["+", "−"], t("Zoom")],
    [["Esc"], t("Close")],
    [["?"], t("These keys")],
  ];
  return dialog({ title: t("Keyboard shortcuts") }, () =>
    h(
      "dl",
      { class: "keys" },
      rows.map(([names, what]) =>
        h(
          "div",
          null,
          h(
            "dt",
            null,
            names.map((name) => h("kbd", null, name)),
          ),
          h("dd", null, what),
        ),
      ),
    ),
  );
}
