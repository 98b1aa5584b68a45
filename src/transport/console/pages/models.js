/** Models by folder, downloads, and the cache that they come from. */

import { computed, effect, h, onCleanup, signal, when } from "../kernel.js";
import { plural, t } from "../i18n.js";
import { json } from "../api.js";
import {
  cache as liveCache,
  connection,
  downloads,
  isGateway,
  onReconnect,
  status,
} from "../live.js";
import { addressOf } from "../router.js";
import { heading } from "../shell.js";
import * as format from "../format.js";
import { activity, downloadForm } from "../models/download.js";
import { longRows } from "../rows.js";
import {
  attempt,
  badge,
  cell,
  choice,
  confirm,
  empty,
  failed,
  loading,
  searchbox,
  table,
} from "../ui.js";

/** @typedef {Record<string, any>} Item */

/** @param {import("../kernel.js").Signal<any>} failure */
function modelLists(failure) {
  const folders = signal(/** @type {string[] | null} */ (null));
  const models = signal(/** @type {Item[] | null} */ (null));
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
        const lists = await Promise.all(
          some.map((name) => json(`models/${encodeURIComponent(name)}`)),
        );
        lists.forEach((each, place) =>
          found.push(...each.map((/** @type {Item} */ one) => ({ ...one, folder: some[place] }))),
        );
      }
      models.set(found);
      failure.set(null);
    } catch (error) {
      failure.set(error);
    }
  }
  return { folders, models, load };
}

/** @param {import("../kernel.js").Signal<any>} failure */
function cacheEntries(failure) {
  const entries = signal(/** @type {Item[] | null} */ (null));
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let again;
  let left = false;
  async function load() {
    clearTimeout(again);
    try {
      entries.set((await json("cache")).entries);
    } catch (error) {
      failure.set(error);
    }
    // The stream does not tell when a file is no longer in use.
    if (!left && entries.peek()?.some((one) => one.in_use)) again = setTimeout(lookAgain, 2000);
  }
  function lookAgain() {
    if (document.visibilityState === "visible") void load();
    else again = setTimeout(lookAgain, 2000);
  }
  onCleanup(() => {
    left = true;
    clearTimeout(again);
  });
  return { entries, load };
}

/**
 * Loads when there is somebody to ask, and whenever the stream tells of a change.
 * @param {() => Promise<void>} loadModels
 * @param {() => Promise<void>} loadCache
 */
function follow(loadModels, loadCache) {
  const asks = computed(() => !isGateway() && (status() !== null || connection() === "lost"));
  effect(() => {
    if (asks()) void loadModels();
  });
  onCleanup(onReconnect(() => void (asks.peek() && loadModels())));
  effect(() => {
    liveCache();
    if (asks()) void loadCache();
  });
  let completed = -1;
  effect(() => {
    const count = (downloads() ?? []).filter((one) => one.status === "completed").length;
    if (completed >= 0 && count !== completed) void loadModels();
    completed = count;
  });
}

export default function page() {
  const failure = signal(/** @type {any} */ (null));
  const { folders, models, load } = modelLists(failure);
  const { entries, load: loadCache } = cacheEntries(failure);
  follow(load, loadCache);
  const filter = signal("");
  const folder = signal("");
  const wanted = (/** @type {Item} */ one) =>
    !filter() ||
    `${one.name} ${one.folder ?? ""} ${one.url ?? ""}`
      .toLowerCase()
      .includes(filter().toLowerCase());
  const shownModels = computed(() =>
    (models() ?? []).filter((one) => wanted(one) && (!folder() || one.folder === folder())),
  );
  const shownEntries = computed(() => (entries() ?? []).filter(wanted));
  const noModel = () => {
    if (models() === null && !failure()) return loading();
    return shownModels().length || !models() ? null : noModels(Boolean(filter() || folder()));
  };
  const noEntry = () => (entries() && !shownEntries().length ? noEntries(Boolean(filter())) : null);
  return h(
    "div",
    { class: "page" },
    heading(t("Models")),
    when(isGateway, elsewhere),
    h(
      "div",
      { class: "page", hidden: isGateway },
      () => (failure() ? failed(failure(), () => void load()) : null),
      h("div", { class: "columns" }, downloadForm(folders), activity()),
      h(
        "div",
        { class: "filters", role: "search", "aria-label": t("Models") },
        searchbox(t("Filter"), filter),
        choice(t("Show folder"), folder, () => [["", t("All")], ...(folders() ?? [])]),
      ),
      h(
        "section",
        { class: "panel", "aria-label": t("Models") },
        modelsHead(() => (models() ? String(shownModels().length) : "")),
        modelTable(shownModels),
        noModel,
      ),
      h(
        "section",
        { class: "panel", "aria-label": t("Cache") },
        h("div", { class: "panel-head" }, h("h2", null, t("Cache")), usage),
        cacheTable(shownEntries, loadCache),
        noEntry,
      ),
    ),
  );
}

/** A gateway has no models of its own. */
const elsewhere = () =>
  h(
    "section",
    { class: "panel" },
    empty(
      "models",
      t("Models belong to the instances."),
      t("This server is a gateway: each instance has its own models, downloads and cache."),
      " ",
      h("a", { href: addressOf("health") }, t("Look at the fleet")),
    ),
  );

/** @param {() => string} count */
const modelsHead = (count) =>
  h(
    "div",
    { class: "panel-head" },
    h("h2", null, t("Models"), h("span", { class: "count" }, count)),
  );

/** @param {() => Item[]} shown */
const modelTable = (shown) =>
  table(
    t("Models"),
    [
      t("Name"),
      [t("Folder"), "14em"],
      [t("Size"), "7em"],
      [t("Date"), "10em"],
      [t("Cache"), "7em"],
    ],
    longRows(shown, (one) => `${one.folder}/${one.name}`, modelRow),
    { class: () => `cards fixed${shown().length ? "" : " bare"}` },
  );

/** @param {boolean} filtered */
const noModels = (filtered) =>
  empty(
    "models",
    filtered ? t("No model fits.") : t("There are no models yet."),
    t("Download one above, or name one by its URL in a graph."),
  );

/** @param {() => Item[]} shown @param {() => Promise<void>} reload */
const cacheTable = (shown, reload) =>
  table(
    t("Cache"),
    [
      [t("File"), "30%"],
      "URL",
      [t("Size"), "7em"],
      [t("Last used"), "10em"],
      [t("State"), "7em"],
      ["", "7em"],
    ],
    longRows(
      shown,
      (one) => one.name,
      (entry) => cacheRow(entry, reload),
    ),
    { class: () => `cards fixed${shown().length ? "" : " bare"}` },
  );

/** @param {boolean} filtered */
const noEntries = (filtered) =>
  h(
    "p",
    { class: "muted none" },
    filtered
      ? t("No file of the cache fits.")
      : t("The cache is empty: what is fetched by URL is kept here."),
  );

function usage() {
  const state = liveCache();
  if (!state) return null;
  return h(
    "div",
    { class: "usage" },
    h(
      "span",
      { class: "muted" },
      state.limit
        ? t("{size} of {limit}", { size: format.size(state.size), limit: format.size(state.limit) })
        : t("{size}, no limit", { size: format.size(state.size) }),
    ),
    state.limit
      ? h(
          "div",
          {
            class: "meter",
            role: "img",
            "aria-label": t("Cache in use: {n} %", {
              n: Math.round((state.size / state.limit) * 100),
            }),
          },
          h("div", { style: { transform: `scaleX(${Math.min(1, state.size / state.limit)})` } }),
        )
      : null,
  );
}

/** @param {import("../kernel.js").Signal<Item>} model */
const modelRow = (model) =>
  h(
    "tr",
    { role: "row" },
    cell(
      t("Name"),
      h("span", { class: "mono break" }, () => model().name),
      "lead",
    ),
    cell(t("Folder"), () => h("span", { class: "break" }, model().folder), "plain"),
    cell(t("Size"), () => format.size(model().size), "side"),
    cell(t("Date"), () => format.time(model().modified_at), "plain"),
    cell(t("Cache"), () => (model().cached ? badge(t("cached"), "calm") : null), "plain"),
  );

/** @param {import("../kernel.js").Signal<Item>} entry @param {() => Promise<void>} reload */
function cacheRow(entry, reload) {
  const evict = async () => {
    const { name } = entry.peek();
    if (!(await confirm(t("Evict this file from the cache?"), name))) return;
    await attempt(() => json(`cache/${encodeURIComponent(name)}`, { method: "DELETE" }));
    await reload();
  };
  return h(
    "tr",
    { role: "row" },
    cell(
      t("File"),
      h("span", { class: "mono break" }, () => entry().name),
      "lead",
    ),
    cell(
      "URL",
      h("span", { class: "break" }, () => entry().url ?? ""),
      "full",
    ),
    cell(t("Size"), () => format.size(entry().size), "side"),
    cell(t("Last used"), () => format.time(entry().used_at ?? entry().cached_at)),
    cell(
      t("State"),
      () =>
        entry().in_use
          ? badge(t("in use"), "live")
          : entry().links
            ? plural(
                Array.isArray(entry().links) ? entry().links.length : entry().links,
                "{n} link",
                "{n} links",
              )
            : null,
      "plain",
    ),
    cell(
      "",
      h(
        "button",
        {
          type: "button",
          class: "secondary small",
          "aria-label": () => `${t("Evict")} ${entry().name}`,
          disabled: () => Boolean(entry().in_use),
          onclick: evict,
        },
        t("Evict"),
      ),
      "end",
    ),
  );
}
