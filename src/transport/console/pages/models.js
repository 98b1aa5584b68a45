/** Models by folder, downloads, and the cache that they come from. */

import { computed, effect, h, list, onCleanup, signal, when } from "../kernel.js";
import { plural, t } from "../i18n.js";
import { json } from "../api.js";
import { cache as liveCache, connection, downloads, isGateway, onReconnect, status } from "../live.js";
import { addressOf } from "../router.js";
import { heading } from "../shell.js";
import * as format from "../format.js";
import { schemaForm } from "../form/form.js";
import { longRows } from "../rows.js";
import { attempt, badge, button, cell, choice, confirm, empty, failed, loading, notify, progressbar, searchbox, sentence, table, uniqueId } from "../ui.js";

/** @typedef {Record<string, any>} Item */

export default function page() {
  const folders = signal(/** @type {string[] | null} */ (null));
  const models = signal(/** @type {Item[] | null} */ (null));
  const entries = signal(/** @type {Item[] | null} */ (null));
  const failure = signal(/** @type {any} */ (null));
  const filter = signal("");
  const folder = signal("");

  async function load() {
    try {
      const all = await json("models");
      const names = Object.keys(all).sort();
      folders.set(names);
      const filled = names.filter((name) => all[name].length);
      /** @type {Item[]} */
      const found = [];
      // A few at a time: the browser has six connections.
      for (let index = 0; index < filled.length; index += 3) {
        const some = filled.slice(index, index + 3);
        const lists = await Promise.all(some.map((name) => json(`models/${encodeURIComponent(name)}`)));
        lists.forEach((each, place) => found.push(...each.map((/** @type {Item} */ one) => ({ ...one, folder: some[place] }))));
      }
      models.set(found);
      failure.set(null);
    } catch (error) {
      failure.set(error);
    }
  }
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let again;
  let left = false;
  const loadCache = async () => {
    clearTimeout(again);
    try {
      entries.set((await json("cache")).entries);
    } catch (error) {
      failure.set(error);
    }
    // The stream does not tell when a file is no longer in use.
    if (!left && entries.peek()?.some((one) => one.in_use)) again = setTimeout(lookAgain, 2000);
  };
  const lookAgain = () => {
    if (document.visibilityState === "visible") void loadCache();
    else again = setTimeout(lookAgain, 2000);
  };
  onCleanup(() => {
    left = true;
    clearTimeout(again);
  });
  const asks = computed(() => !isGateway() && (status() !== null || connection() === "lost"));
  effect(() => {
    if (asks()) void load();
  });
  onCleanup(onReconnect(() => void (asks.peek() && load())));
  effect(() => {
    liveCache();
    if (asks()) void loadCache();
  });
  let completed = -1;
  effect(() => {
    const count = (downloads() ?? []).filter((one) => one.status === "completed").length;
    if (completed >= 0 && count !== completed) void load();
    completed = count;
  });

  const wanted = (/** @type {Item} */ one) => !filter() || `${one.name} ${one.folder ?? ""} ${one.url ?? ""}`.toLowerCase().includes(filter().toLowerCase());
  const shownModels = computed(() => (models() ?? []).filter((one) => wanted(one) && (!folder() || one.folder === folder())));
  const shownEntries = computed(() => (entries() ?? []).filter(wanted));

  const elsewhere = () => h("section", { class: "panel" }, empty("models", t("Models belong to the instances."),
    t("This server is a gateway: each instance has its own models, downloads and cache."), " ", h("a", { href: addressOf("health") }, t("Look at the fleet"))));
  return h("div", { class: "page" }, heading(t("Models")), when(isGateway, elsewhere), h("div", { class: "page", hidden: isGateway },
    () => (failure() ? failed(failure(), () => void load()) : null),
    h("div", { class: "columns" }, downloadForm(folders), activity()),
    h("div", { class: "filters", role: "search", "aria-label": t("Models") }, searchbox(t("Filter"), filter), choice(t("Show folder"), folder, () => [["", t("All")], ...(folders() ?? [])])),
    h("section", { class: "panel", "aria-label": t("Models") },
      h("div", { class: "panel-head" }, h("h2", null, t("Models"), h("span", { class: "count" }, () => (models() ? String(shownModels().length) : "")))),
      table(t("Models"), [t("Name"), [t("Folder"), "14em"], [t("Size"), "7em"], [t("Date"), "10em"], [t("Cache"), "7em"]], longRows(shownModels, (one) => `${one.folder}/${one.name}`, modelRow), { class: () => `cards fixed${shownModels().length ? "" : " bare"}` }),
      () => (models() === null && !failure() ? loading() : shownModels().length || !models() ? null : empty("models", filter() || folder() ? t("No model fits.") : t("There are no models yet."), t("Download one above, or name one by its URL in a graph.")))),
    h("section", { class: "panel", "aria-label": t("Cache") },
      h("div", { class: "panel-head" }, h("h2", null, t("Cache")), usage),
      table(t("Cache"), [[t("File"), "30%"], "URL", [t("Size"), "7em"], [t("Last used"), "10em"], [t("State"), "7em"], ["", "7em"]], longRows(shownEntries, (one) => one.name, (entry) => cacheRow(entry, loadCache)), { class: () => `cards fixed${shownEntries().length ? "" : " bare"}` }),
      () => (entries() && !shownEntries().length ? h("p", { class: "muted none" }, filter() ? t("No file of the cache fits.") : t("The cache is empty: what is fetched by URL is kept here.")) : null))));
}

function usage() {
  const state = liveCache();
  if (!state) return null;
  return h("div", { class: "usage" }, h("span", { class: "muted" }, state.limit ? t("{size} of {limit}", { size: format.size(state.size), limit: format.size(state.limit) }) : t("{size}, no limit", { size: format.size(state.size) })),
    state.limit ? h("div", { class: "meter", role: "img", "aria-label": t("Cache in use: {n} %", { n: Math.round((state.size / state.limit) * 100) }) }, h("div", { style: { transform: `scaleX(${Math.min(1, state.size / state.limit)})` } })) : null);
}

/** @param {import("../kernel.js").Signal<Item>} model */
const modelRow = (model) => h("tr", { role: "row" },
  cell(t("Name"), h("span", { class: "mono break" }, () => model().name), "lead"), cell(t("Folder"), () => h("span", { class: "break" }, model().folder), "plain"), cell(t("Size"), () => format.size(model().size), "side"),
  cell(t("Date"), () => format.time(model().modified_at), "plain"), cell(t("Cache"), () => (model().cached ? badge(t("cached"), "calm") : null), "plain"));

/** @param {import("../kernel.js").Signal<Item>} entry @param {() => Promise<void>} reload */
function cacheRow(entry, reload) {
  const evict = async () => {
    const { name } = entry.peek();
    if (!(await confirm(t("Evict this file from the cache?"), name))) return;
    await attempt(() => json(`cache/${encodeURIComponent(name)}`, { method: "DELETE" }));
    await reload();
  };
  return h("tr", { role: "row" },
    cell(t("File"), h("span", { class: "mono break" }, () => entry().name), "lead"), cell("URL", h("span", { class: "break" }, () => entry().url ?? ""), "full"), cell(t("Size"), () => format.size(entry().size), "side"),
    cell(t("Last used"), () => format.time(entry().used_at ?? entry().cached_at)),
    cell(t("State"), () => (entry().in_use ? badge(t("in use"), "live") : entry().links ? plural(Array.isArray(entry().links) ? entry().links.length : entry().links, "{n} link", "{n} links") : null), "plain"),
    cell("", h("button", { type: "button", class: "secondary small", "aria-label": () => `${t("Evict")} ${entry().name}`, disabled: () => Boolean(entry().in_use), onclick: evict }, t("Evict")), "end"));
}

const secret = (/** @type {string} */ title) => ({ type: "string", title, format: "password", minLength: 1 });
const plain = (/** @type {string} */ title) => ({ type: "string", title, minLength: 1 });

/** The kinds of credentials that the API takes. @returns {Record<string, Record<string, any>>} */
const credentials = () => ({
  bearer: { token: secret(t("Token")) },
  basic: { username: plain(t("User name")), password: secret(t("Password")) },
  header: { header_name: plain(t("Header")), header_value: secret(t("Value")) },
  query: { query_param: plain(t("Parameter")), query_value: secret(t("Value")) },
});

/** @param {import("../kernel.js").Signal<string[] | null>} folders */
function downloadForm(folders) {
  const [url, name, folder, kind] = [uniqueId("url"), uniqueId("name"), uniqueId("folder"), uniqueId("auth")];
  const problem = signal("");
  const field = signal("");
  const busy = signal(false);
  const chosen = signal("");
  const invalid = (/** @type {string} */ which) => (field() === which ? "true" : null);
  const urlInput = h("input", { id: url, type: "url", inputmode: "url", placeholder: "https://", autocomplete: "off", spellcheck: "false", "aria-invalid": () => invalid("url"), "aria-describedby": `${url}-error`, oninput: () => problem.set("") });
  const nameInput = h("input", { id: name, type: "text", placeholder: t("as the URL says"), autocomplete: "off", spellcheck: "false", "aria-invalid": () => invalid("filename"), "aria-describedby": `${url}-error` });
  const select = h("select", { id: folder, "aria-invalid": () => invalid("model_type") });
  effect(() => {
    const before = select.value;
    select.replaceChildren(...(folders() ?? []).map((one) => h("option", { value: one }, one)));
    select.value = (folders() ?? []).includes(before) ? before : (folders() ?? []).includes("checkpoints") ? "checkpoints" : folders()?.[0] ?? "";
  });
  const auth = computed(() => (chosen() ? schemaForm({ type: "object", properties: credentials()[chosen()], required: Object.keys(credentials()[chosen()]) }, undefined, "auth") : null));
  async function submit(/** @type {Event} */ event) {
    event.preventDefault();
    problem.set("");
    field.set("");
    if (!/^[a-z][a-z0-9+.-]*:\/\/./i.test(urlInput.value.trim())) {
      field.set("url");
      problem.set(t("A URL is needed, such as https://huggingface.co/…/model.safetensors"));
      urlInput.focus();
      return;
    }
    if (auth.peek() && !auth.peek()?.check()) return;
    busy.set(true);
    try {
      const credential = chosen.peek() ? { auth: { type: chosen.peek(), ...auth.peek()?.values() } } : {};
      await json("download", { method: "POST", json: { url: urlInput.value.trim(), model_type: select.value, ...(nameInput.value.trim() ? { filename: nameInput.value.trim() } : {}), ...credential } });
      notify(t("The download has begun."), "good");
      [urlInput.value, nameInput.value] = ["", ""];
      chosen.set(""); // the credential is nowhere any more
    } catch (/** @type {any} */ error) {
      field.set(["url", "filename", "model_type"].find((one) => String(error.location ?? "").endsWith(one)) ?? "");
      problem.set(sentence(error));
    } finally {
      busy.set(false);
    }
  }
  return h("form", { class: "panel download", onsubmit: submit, novalidate: true, "aria-label": t("Download a model") },
    h("h2", null, t("Download a model")),
    h("div", { class: "field" }, h("label", { for: url }, "URL"), urlInput),
    h("div", { class: "pair" },
      h("div", { class: "field" }, h("label", { for: folder }, t("Folder")), select),
      h("div", { class: "field" }, h("label", { for: name }, t("File name")), nameInput)),
    h("div", { class: "field" }, h("label", { for: kind }, t("Credential")),
      h("select", { id: kind, value: chosen, onchange: (/** @type {any} */ event) => chosen.set(event.target.value) }, [["", t("None")], ...Object.keys(credentials()).map((one) => [one, one])].map(([value, text]) => h("option", { value }, text))),
      h("p", { class: "help" }, t("Sent with this download only, never stored."))),
    () => auth()?.element ?? null,
    h("p", { class: "error", id: `${url}-error`, role: "alert", hidden: () => !problem() }, problem),
    h("div", { class: "actions" }, h("button", { type: "submit", class: "primary", disabled: busy }, t("Download"))));
}

function activity() {
  return h("section", { class: "panel", "aria-label": t("Downloads") }, h("h2", null, t("Downloads")),
    h("ul", { class: "plain downloads" }, list(() => downloads() ?? [], (one) => one.id, downloadItem)),
    () => (downloads()?.length === 0 ? h("p", { class: "muted none" }, t("Nothing was downloaded lately.")) : downloads() === null ? loading() : null));
}

/** @param {import("../kernel.js").Signal<Item>} item */
function downloadItem(item) {
  const percent = () => (item().status === "completed" ? 100 : item().total ? (item().received / item().total) * 100 : null);
  const left = () => {
    const { status, total, received, bytes_per_second: rate } = item();
    if (status !== "running" || !rate) return "";
    return total ? t("{rate}/s, {time} left", { rate: format.size(rate), time: format.duration((total - received) / rate) }) : `${format.size(rate)}/s`;
  };
  const name = () => item().filename || item().url;
  const cancel = () => attempt(() => json(`downloads/${encodeURIComponent(item.peek().id)}`, { method: "DELETE" }));
  return h("li", { class: "download-item" },
    h("div", { class: "download-line" }, h("span", { class: "mono break" }, name), () => badge(item().status), when(() => item().status === "running", () => button(t("Cancel"), cancel, { class: "secondary small", "aria-label": () => `${t("Cancel")} ${name()}` }))),
    when(() => item().status === "running" || item().status === "completed", () => progressbar(() => `${t("Download")} ${name()}`, percent)),
    h("p", { class: "muted" }, () => [item().folder, item().total ? `${format.size(item().received)} / ${format.size(item().total)}` : format.size(item().received), left()].filter(Boolean).join(" · ")),
    () => (item().error ? h("p", { class: "error" }, String(item().error?.message ?? item().error)) : null));
}
