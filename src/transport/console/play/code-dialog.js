/** The dialog with a request as code, in three languages. */

import { computed, h, signal } from "../kernel.js";
import { t } from "../i18n.js";
import { base } from "../api.js";
import { button, copyText, dialog, uniqueId } from "../ui.js";
import { curl, javascript, python, withFiles } from "./code.js";

/** @param {{path: string, body: any}} request */
export function codeDialog(request) {
  const url = new URL(request.path, base).href;
  const body = withFiles(request.body);
  const languages = [
    ["curl", curl],
    ["Python", python],
    ["JavaScript", javascript],
  ].map(([name, make]) => ({ name: String(name), text: /** @type {any} */ (make)(url, body) }));
  const chosen = signal(0);
  return dialog({ title: t("Copy as code"), class: "wide" }, () => {
    const [panel, prefix] = [uniqueId("panel"), uniqueId("tab")];
    const text = computed(() => languages[chosen()].text);
    /** @type {HTMLElement[]} */
    const tabs = languages.map(({ name }, index) =>
      h(
        "button",
        {
          type: "button",
          role: "tab",
          id: `${prefix}-${index}`,
          "aria-controls": panel,
          "aria-selected": () => String(chosen() === index),
          tabindex: () => (chosen() === index ? "0" : "-1"),
          onclick: () => chosen.set(index),
          onkeydown: (/** @type {KeyboardEvent} */ event) => {
            const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
            const next =
              event.key === "Home"
                ? 0
                : event.key === "End"
                  ? languages.length - 1
                  : step
                    ? (index + step + languages.length) % languages.length
                    : null;
            if (next === null) return;
            event.preventDefault();
            chosen.set(next);
            tabs[next].focus();
          },
        },
        name,
      ),
    );
    return [
      h("div", { role: "tablist", "aria-label": t("Language"), class: "tabs" }, tabs),
      h(
        "div",
        {
          role: "tabpanel",
          id: panel,
          "aria-labelledby": () => `${prefix}-${chosen()}`,
          tabindex: "0",
          class: "code",
        },
        h("pre", null, h("code", null, text)),
      ),
      h(
        "div",
        { class: "actions" },
        h(
          "span",
          { class: "muted" },
          t("Set COMFYUI_API_KEY to your key if the server wants one."),
        ),
        button(t("Copy"), () => copyText(text.peek()), { class: "primary", icon: "copy" }),
      ),
    ];
  });
}
