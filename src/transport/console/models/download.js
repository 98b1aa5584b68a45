/** Downloads of models: the form that begins one, and those that run. */

import { computed, effect, h, list, signal, when } from "../kernel.js";
import { t } from "../i18n.js";
import { json } from "../api.js";
import { downloads } from "../live.js";
import * as format from "../format.js";
import { schemaForm } from "../form/form.js";
import { attempt, badge, button, loading, notify, progressbar, sentence, uniqueId } from "../ui.js";

/** @typedef {Record<string, any>} Item */

const secret = (/** @type {string} */ title) => ({
  type: "string",
  title,
  format: "password",
  minLength: 1,
});
const plain = (/** @type {string} */ title) => ({ type: "string", title, minLength: 1 });

/** The kinds of credentials that the API takes. @returns {Record<string, Record<string, any>>} */
const credentials = () => ({
  bearer: { token: secret(t("Token")) },
  basic: { username: plain(t("User name")), password: secret(t("Password")) },
  header: { header_name: plain(t("Header")), header_value: secret(t("Value")) },
  query: { query_param: plain(t("Parameter")), query_value: secret(t("Value")) },
});

/** @typedef {import("../kernel.js").Signal<string>} Text */

/**
 * What the form says is wrong, and with which of its fields.
 * @typedef {{problem: Text, field: Text}} Wrong
 */

/** @param {Wrong} wrong @param {string} which */
const invalid = ({ field }, which) => (field() === which ? "true" : null);

/** @param {Wrong} wrong @param {string} text @param {string} [which] */
function say({ problem, field }, text, which = "") {
  problem.set(text);
  field.set(which);
}

/** @param {Wrong} wrong @param {string} id */
const urlInput = (wrong, id) =>
  h("input", {
    id,
    type: "url",
    inputmode: "url",
    placeholder: "https://",
    autocomplete: "off",
    spellcheck: "false",
    "aria-invalid": () => invalid(wrong, "url"),
    "aria-describedby": `${id}-error`,
    oninput: () => wrong.problem.set(""),
  });

/** @param {Wrong} wrong @param {string} id @param {string} described */
const nameInput = (wrong, id, described) =>
  h("input", {
    id,
    type: "text",
    placeholder: t("as the URL says"),
    autocomplete: "off",
    spellcheck: "false",
    "aria-invalid": () => invalid(wrong, "filename"),
    "aria-describedby": described,
  });

/**
 * @param {Wrong} wrong
 * @param {string} id
 * @param {() => string[] | null} folders
 */
function folderSelect(wrong, id, folders) {
  const select = h("select", { id, "aria-invalid": () => invalid(wrong, "model_type") });
  effect(() => {
    const all = folders() ?? [];
    const before = select.value;
    select.replaceChildren(...all.map((one) => h("option", { value: one }, one)));
    select.value = all.includes(before)
      ? before
      : all.includes("checkpoints")
        ? "checkpoints"
        : (all[0] ?? "");
  });
  return select;
}

/** The kind of credential, and its fields. */
function credential() {
  const id = uniqueId("auth");
  const chosen = signal("");
  const form = computed(() =>
    chosen()
      ? schemaForm(
          {
            type: "object",
            properties: credentials()[chosen()],
            required: Object.keys(credentials()[chosen()]),
          },
          undefined,
          "auth",
        )
      : null,
  );
  const kinds = [["", t("None")], ...Object.keys(credentials()).map((one) => [one, one])];
  return {
    element: [
      h(
        "div",
        { class: "field" },
        h("label", { for: id }, t("Credential")),
        h(
          "select",
          {
            id,
            value: chosen,
            onchange: (/** @type {any} */ event) => chosen.set(event.target.value),
          },
          kinds.map(([value, text]) => h("option", { value }, text)),
        ),
        h("p", { class: "help" }, t("Sent with this download only, never stored.")),
      ),
      () => form()?.element ?? null,
    ],
    check: () => form.peek()?.check() ?? true,
    /** The part of the request. */
    values: () =>
      chosen.peek() ? { auth: { type: chosen.peek(), ...form.peek()?.values() } } : {},
    forget: () => chosen.set(""),
  };
}

/** @param {() => string[] | null} folders */
export function downloadForm(folders) {
  const [urlId, nameId, folderId] = [uniqueId("url"), uniqueId("name"), uniqueId("folder")];
  const wrong = { problem: signal(""), field: signal("") };
  const busy = signal(false);
  const url = urlInput(wrong, urlId);
  const name = nameInput(wrong, nameId, `${urlId}-error`);
  const folder = folderSelect(wrong, folderId, folders);
  const auth = credential();
  const wanted = () => ({
    url: url.value.trim(),
    model_type: folder.value,
    ...(name.value.trim() ? { filename: name.value.trim() } : {}),
  });
  /** @param {Event} event */
  async function submit(event) {
    event.preventDefault();
    say(wrong, "");
    if (!/^[a-z][a-z0-9+.-]*:\/\/./i.test(url.value.trim())) {
      say(wrong, t("A URL is needed, such as https://huggingface.co/…/model.safetensors"), "url");
      url.focus();
      return;
    }
    if (!auth.check()) return;
    busy.set(true);
    try {
      await json("download", { method: "POST", json: { ...wanted(), ...auth.values() } });
      notify(t("The download has begun."), "good");
      [url.value, name.value] = ["", ""];
      auth.forget(); // the credential is nowhere any more
    } catch (/** @type {any} */ error) {
      const location = String(error.location ?? "");
      say(
        wrong,
        sentence(error),
        ["url", "filename", "model_type"].find((one) => location.endsWith(one)),
      );
    } finally {
      busy.set(false);
    }
  }
  return h(
    "form",
    {
      class: "panel download",
      onsubmit: submit,
      novalidate: true,
      "aria-label": t("Download a model"),
    },
    h("h2", null, t("Download a model")),
    h("div", { class: "field" }, h("label", { for: urlId }, "URL"), url),
    h(
      "div",
      { class: "pair" },
      h("div", { class: "field" }, h("label", { for: folderId }, t("Folder")), folder),
      h("div", { class: "field" }, h("label", { for: nameId }, t("File name")), name),
    ),
    auth.element,
    h(
      "p",
      { class: "error", id: `${urlId}-error`, role: "alert", hidden: () => !wrong.problem() },
      wrong.problem,
    ),
    h(
      "div",
      { class: "actions" },
      h("button", { type: "submit", class: "primary", disabled: busy }, t("Download")),
    ),
  );
}

export function activity() {
  return h(
    "section",
    { class: "panel", "aria-label": t("Downloads") },
    h("h2", null, t("Downloads")),
    h(
      "ul",
      { class: "plain downloads" },
      list(
        () => downloads() ?? [],
        (one) => one.id,
        downloadItem,
      ),
    ),
    () =>
      downloads()?.length === 0
        ? h("p", { class: "muted none" }, t("Nothing was downloaded lately."))
        : downloads() === null
          ? loading()
          : null,
  );
}

/** @param {import("../kernel.js").Signal<Item>} item */
function downloadItem(item) {
  const percent = () =>
    item().status === "completed"
      ? 100
      : item().total
        ? (item().received / item().total) * 100
        : null;
  const left = () => {
    const { status, total, received, bytes_per_second: rate } = item();
    if (status !== "running" || !rate) return "";
    return total
      ? t("{rate}/s, {time} left", {
          rate: format.size(rate),
          time: format.duration((total - received) / rate),
        })
      : `${format.size(rate)}/s`;
  };
  const name = () => item().filename || item().url;
  const cancel = () =>
    attempt(() => json(`downloads/${encodeURIComponent(item.peek().id)}`, { method: "DELETE" }));
  return h(
    "li",
    { class: "download-item" },
    h(
      "div",
      { class: "download-line" },
      h("span", { class: "mono break" }, name),
      () => badge(item().status),
      when(
        () => item().status === "running",
        () =>
          button(t("Cancel"), cancel, {
            class: "secondary small",
            "aria-label": () => `${t("Cancel")} ${name()}`,
          }),
      ),
    ),
    when(
      () => item().status === "running" || item().status === "completed",
      () => progressbar(() => `${t("Download")} ${name()}`, percent),
    ),
    h("p", { class: "muted" }, () =>
      [
        item().folder,
        item().total
          ? `${format.size(item().received)} / ${format.size(item().total)}`
          : format.size(item().received),
        left(),
      ]
        .filter(Boolean)
        .join(" · "),
    ),
    () =>
      item().error
        ? h("p", { class: "error" }, String(item().error?.message ?? item().error))
        : null,
  );
}
