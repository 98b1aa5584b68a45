/** The outputs of a run: pictures, players, 3D models, texts, links. */

import { computed, effect, h, onCleanup, signal } from "../kernel.js";
import { plural, t } from "../i18n.js";
import { blob } from "../api.js";
import * as format from "../format.js";
import { attempt, button, dialog, icon, notify } from "../ui.js";
import { downloadLink, fileName, kindOf, save, source } from "./media.js";

/** @typedef {import("./media.js").Output} Output */
/** @typedef {(file: Output, kind: "image" | "video" | "audio") => void} UseAsInput */

/**
 * @param {Output[]} files
 * @param {Record<string, string[]> | undefined} texts
 * @param {{onUse?: UseAsInput, name?: string}} [options]
 */
export function gallery(files, texts, { onUse, name = "outputs" } = {}) {
  const available = files.filter((file) => file.asset_id);
  const pictures = available.filter((file) => kindOf(file) === "image");
  const tiles = files.map((file) => tile(file, pictures, onUse));
  const words = Object.entries(texts ?? {}).flatMap(([node, list]) =>
    list.map((text) =>
      h(
        "figure",
        { class: "tile text" },
        h("pre", { tabindex: "0", dir: "auto" }, text),
        h("figcaption", null, h("span", { class: "muted" }, `#${node}`)),
      ),
    ),
  );
  const all =
    available.length > 1
      ? h(
          "a",
          {
            href: "#",
            class: "button secondary",
            onclick: (/** @type {Event} */ event) => {
              event.preventDefault();
              void attempt(() => saveAll(available, name));
            },
          },
          icon("download"),
          h("span", null, t("Download all")),
        )
      : available.length === 1
        ? downloadLink(
            t("Download all"),
            available[0],
            { class: "button secondary" },
            icon("download"),
            h("span", null, t("Download all")),
          )
        : null;
  return h(
    "div",
    { class: "gallery" },
    h("div", { class: `tiles n${Math.min(3, tiles.length + words.length)}` }, tiles, words),
    all
      ? h(
          "div",
          { class: "actions" },
          h("span", { class: "muted" }, plural(files.length, "{n} file", "{n} files")),
          all,
        )
      : null,
  );
}

/** @param {Output[]} files @param {string} name */
async function saveAll(files, name) {
  notify(t("Fetching {n} files…", { n: files.length }));
  /** @type {{name: string, content: Blob}[]} */
  const contents = [];
  for (const file of files)
    contents.push({ name: file.filename, content: await blob(file.asset_id ?? "") });
  const { zip } = await import("./zip.js");
  save(await zip(contents), `${name}.zip`);
}

/** @param {Output} file @param {Output[]} pictures @param {UseAsInput} [onUse] */
function tile(file, pictures, onUse) {
  const kind = kindOf(file);
  const dimensions = signal("");
  const id = file.asset_id;
  const caption = h(
    "figcaption",
    null,
    fileName(file.filename),
    h("span", { class: "muted" }, () =>
      [file.size == null ? "" : format.size(file.size), dimensions()].filter(Boolean).join(" · "),
    ),
    h(
      "span",
      { class: "tile-actions" },
      id && onUse && (kind === "image" || kind === "video" || kind === "audio")
        ? h(
            "button",
            {
              type: "button",
              class: "quiet small",
              "aria-label": `${t("Use as input")} ${file.filename}`,
              title: t("Use as input"),
              onclick: () => onUse(file, kind),
            },
            icon("input"),
            h("span", null, t("Use as input")),
          )
        : null,
      id
        ? downloadLink(
            `${t("Download")} ${file.filename}`,
            file,
            { class: "button quiet small" },
            icon("download"),
            h("span", null, t("Download")),
          )
        : null,
    ),
  );
  return h("figure", { class: `tile ${kind}` }, shown(file, kind, pictures, dimensions), caption);
}

/**
 * @param {Output} file
 * @param {string} kind
 * @param {Output[]} pictures
 * @param {import("../kernel.js").Signal<string>} dimensions
 */
function shown(file, kind, pictures, dimensions) {
  if (!file.asset_id)
    return h(
      "div",
      { class: "stand-in" },
      icon("file"),
      h("span", { class: "muted" }, t("Not kept: the file went with its delivery.")),
    );
  if (kind === "model") return modelTile(file);
  if (kind === "text") return textTile(file);
  if (kind === "file")
    return h(
      "div",
      { class: "stand-in" },
      icon("file"),
      h("span", { class: "muted" }, file.content_type ?? ""),
    );
  const broken = signal(false);
  const media = player(file, kind, pictures, dimensions, () => broken.set(true));
  return () =>
    broken()
      ? h(
          "div",
          { class: "stand-in" },
          icon("file"),
          h("span", { class: "muted" }, t("This browser cannot show it: download it.")),
        )
      : media;
}

/**
 * @param {Output} file
 * @param {string} kind
 * @param {Output[]} pictures
 * @param {import("../kernel.js").Signal<string>} dimensions
 * @param {() => void} onerror
 */
function player(file, kind, pictures, dimensions, onerror) {
  const address = source(file.asset_id ?? "");
  const src = () => address() || null;
  if (kind === "image") {
    const loaded = (/** @type {any} */ event) =>
      dimensions.set(`${event.target.naturalWidth} × ${event.target.naturalHeight}`);
    return h(
      "div",
      { class: "picture" },
      h("img", { src, alt: file.filename, decoding: "async", onload: loaded, onerror }),
      h(
        "button",
        {
          type: "button",
          class: "open",
          "aria-label": `${t("Open")} ${file.filename}`,
          onclick: () => lightbox(pictures, pictures.indexOf(file)),
        },
        icon("expand"),
      ),
    );
  }
  if (kind === "video") {
    const known = (/** @type {any} */ event) =>
      dimensions.set(
        `${event.target.videoWidth} × ${event.target.videoHeight}` +
          ` · ${format.duration(event.target.duration)}`,
      );
    return h("video", {
      src,
      controls: true,
      loop: true,
      playsinline: true,
      preload: "metadata",
      "aria-label": file.filename,
      onloadedmetadata: known,
      onerror,
    });
  }
  return h(
    "div",
    { class: "sound" },
    h("audio", {
      src,
      controls: true,
      preload: "metadata",
      "aria-label": file.filename,
      onerror,
      onloadedmetadata: (/** @type {any} */ event) =>
        dimensions.set(format.duration(event.target.duration)),
    }),
  );
}

/** @param {Output} file */
function textTile(file) {
  const text = signal(t("Loading…"));
  if ((file.size ?? 0) > 200_000) text.set(t("Too long to show: download it."));
  else
    blob(file.asset_id ?? "")
      .then((content) => content.text())
      .then(text.set, (error) => text.set(String(error.message)));
  return h("pre", { tabindex: "0", dir: "auto", "aria-label": file.filename }, text);
}

/** @param {Output} file */
function modelTile(file) {
  const holder = h(
    "div",
    { class: "turntable" },
    h("p", { class: "loading" }, h("span", { class: "spinner" }), t("Loading…")),
  );
  let over = false;
  onCleanup(() => {
    over = true;
  });
  const fail = (/** @type {any} */ error) =>
    holder.replaceChildren(
      h("div", { class: "stand-in" }, icon("models"), h("span", { class: "muted" }, error.message)),
    );
  const begin = async () => {
    const [{ parseGlb }, { show }] = await Promise.all([
      import("../viewer/glb.js"),
      import("../viewer/show.js"),
    ]);
    const content = await blob(file.asset_id ?? "");
    if (over) return;
    const scene = await parseGlb(await content.arrayBuffer());
    if (over) return;
    const viewer = show(scene, file.filename);
    holder.replaceChildren(viewer.element);
    end = viewer.end;
    if (over) end();
  };
  let end = () => {};
  onCleanup(() => end());
  begin().catch(fail);
  return holder;
}

/**
 * One picture in full, with its neighbours a key away.
 * @param {Output[]} pictures
 * @param {number} first
 */
function lightbox(pictures, first) {
  const index = signal(first);
  const zoom = signal(1);
  const step = (/** @type {number} */ by) => {
    index.set((index.peek() + by + pictures.length) % pictures.length);
    zoom.set(1);
  };
  const scale = (/** @type {number} */ by) => zoom.set(Math.min(8, Math.max(1, zoom.peek() * by)));
  return dialog({ title: t("Picture"), class: "lightbox" }, () => {
    const file = computed(() => pictures[index()]);
    const stage = h(
      "div",
      {
        class: "stage",
        tabindex: "0",
        "aria-label": t("Picture: arrow keys change it, plus and minus zoom"),
        role: "group",
      },
      () => {
        const address = source(file().asset_id ?? "");
        const image = h("img", {
          src: () => address() || null,
          alt: file().filename,
          onclick: () => zoom.set(zoom.peek() > 1 ? 1 : 2),
          draggable: "false",
        });
        effect(() => {
          image.style.setProperty("width", zoom() > 1 ? `${zoom() * 100}%` : "");
          image.classList.toggle("zoomed", zoom() > 1);
        });
        return image;
      },
    );
    const keys = (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "ArrowLeft" && zoom.peek() === 1) step(-1);
      else if (event.key === "ArrowRight" && zoom.peek() === 1) step(1);
      else if (event.key === "+" || event.key === "=") scale(1.5);
      else if (event.key === "-") scale(1 / 1.5);
      else return;
      event.preventDefault();
    };
    // Wherever in the dialog the focus is, also before it has arrived there.
    document.addEventListener("keydown", keys);
    onCleanup(() => document.removeEventListener("keydown", keys));
    setTimeout(() => stage.focus());
    return h(
      "div",
      { class: "lightbox-body" },
      stage,
      h(
        "div",
        { class: "actions" },
        pictures.length > 1
          ? button(t("Previous"), () => step(-1), { class: "secondary small" })
          : null,
        () => fileName(file().filename),
        button("−", () => scale(1 / 1.5), {
          class: "secondary small",
          "aria-label": t("Zoom out"),
        }),
        button("+", () => scale(1.5), { class: "secondary small", "aria-label": t("Zoom in") }),
        pictures.length > 1 ? button(t("Next"), () => step(1), { class: "secondary small" }) : null,
      ),
    );
  });
}
