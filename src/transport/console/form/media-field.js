/**
 * A field that takes a picture, a video or a sound: chosen, dropped, pasted, or by address. A file is sent ahead as an asset and
 * named `asset:<id>`, so that the run can be repeated.
 */

import { effect, h, onCleanup, signal } from "../kernel.js";
import { t } from "../i18n.js";
import { upload } from "../api.js";
import * as format from "../format.js";
import { icon, iconButton, sentence } from "../ui.js";
import { fileName, source } from "../files/media.js";

/** @typedef {{file: File | null, name: string, asset: string, percent: number | null, type: string}} Chosen */

const NOTHING = /** @type {Chosen} */ ({ file: null, name: "", asset: "", percent: null, type: "" });

/**
 * @param {import("./fields.js").Making} making
 * @param {string} accept
 * @returns {import("./fields.js").Control}
 */
export function mediaControl({ id, label, start, changed }, accept) {
  const chosen = signal(NOTHING);
  const failure = signal("");
  /** @type {Promise<void>} */
  let sending = Promise.resolve();
  let stop = new AbortController();

  const address = h("input", { type: "text", inputmode: "url", "aria-label": `${label} URL`, placeholder: t("or a URL"), autocomplete: "off", spellcheck: "false", oninput: () => {
    changed();
    if (address.value) clearFile();
  } });
  const input = h("input", { id, type: "file", accept: accept === "*/*" ? "image/*,video/*,audio/*" : accept, onchange: () => {
    const [file] = input.files ?? [];
    if (file) take(file);
  } });

  function clearFile() {
    stop.abort();
    chosen.set(NOTHING);
    failure.set("");
    input.value = "";
  }
  /** @param {File} file */
  function take(file) {
    changed();
    stop.abort();
    stop = new AbortController();
    const mine = stop;
    address.value = "";
    failure.set("");
    const base = { ...NOTHING, file, name: file.name, type: file.type };
    chosen.set({ ...base, percent: 0 });
    sending = upload(file, (percent) => !mine.signal.aborted && chosen.set({ ...base, percent }), mine.signal).then(
      (asset) => void (mine.signal.aborted || chosen.set({ ...base, asset: asset.id })),
      (error) => {
        if (mine.signal.aborted) return;
        chosen.set(base);
        failure.set(sentence(error));
      });
  }
  /** @param {any} value */
  function set(value) {
    clearFile();
    address.value = "";
    if (typeof value === "string" && value.startsWith("asset:")) chosen.set({ ...NOTHING, asset: value.slice(6), name: value });
    else if (typeof value === "string" && value.length < 10_000) address.value = value;
    else if (typeof value === "string") failure.set(t("A file inside the graph is used."));
    embedded = typeof value === "string" && value.length >= 10_000 ? value : undefined;
  }
  /** @type {string | undefined} */
  let embedded;
  set(start);

  const over = signal(false);
  const zone = h("div", {
    class: () => `drop${over() ? " over" : ""}`,
    ondragover: (/** @type {DragEvent} */ event) => {
      event.preventDefault();
      over.set(true);
    },
    ondragleave: () => over.set(false),
    ondrop: (/** @type {DragEvent} */ event) => {
      event.preventDefault();
      event.stopPropagation();
      over.set(false);
      const [file] = event.dataTransfer?.files ?? [];
      if (file) take(file);
    },
    onpaste: (/** @type {ClipboardEvent} */ event) => {
      const [file] = event.clipboardData?.files ?? [];
      if (!file) return;
      event.preventDefault();
      take(file);
    },
  }, h("div", { class: "file-line" }, input, () => (chosen().name ? iconButton(`${t("Remove")} ${label}`, "close", clearFile) : null)), preview(chosen), address,
  () => (failure() ? h("p", { class: "error" }, failure()) : null));

  return {
    element: zone, control: input, set,
    value: () => (chosen.peek().asset ? `asset:${chosen.peek().asset}` : address.value.trim() || embedded || undefined),
    own: () => (failure.peek() && chosen.peek().file ? failure.peek() : ""),
    ready: () => sending,
    file: () => chosen.peek().file,
    named: (name, type) => chosen.peek().asset && chosen.update((one) => ({ ...one, name, type })),
  };
}

/** @param {import("../kernel.js").Signal<Chosen>} chosen */
function preview(chosen) {
  const local = signal("");
  effect(() => {
    const { file } = chosen();
    if (!file) return local.set("");
    const made = URL.createObjectURL(file);
    local.set(made);
    onCleanup(() => URL.revokeObjectURL(made));
  });
  const line = () => {
    const { name, percent, file, asset } = chosen();
    return [fileName(name), h("span", { class: "muted" }, percent !== null ? `${Math.round(percent)} %` : file ? format.size(file.size) : asset ? t("kept on the server") : "")];
  };
  return () => {
    if (!chosen().name) return null;
    const { asset, file, type } = chosen();
    const picture = file ? local : asset && !/^(video|audio)\//.test(type) ? source(asset, "?thumbnail=256") : null;
    const shown = () => {
      const address = picture?.();
      if (!address) return icon("file");
      if (/^video\//.test(type)) return h("video", { src: address, muted: true, preload: "metadata" });
      if (/^audio\//.test(type)) return icon("play");
      return h("img", { src: address, alt: "", onerror: (/** @type {any} */ event) => event.target.remove() });
    };
    return h("div", { class: "chosen" }, h("span", { class: "thumb" }, shown), line);
  };
}
