/**
 * A field that takes a picture, a video or a sound: chosen, dropped, pasted, or by address. A file
 * is sent ahead as an asset and named `asset:<id>`, so that the run can be repeated.
 */

import { effect, h, onCleanup, signal } from "../kernel.js";
import { t } from "../i18n.js";
import { upload } from "../api.js";
import * as format from "../format.js";
import { icon, iconButton, sentence } from "../ui.js";
import { fileName, source } from "../files/media.js";

/**
 * @typedef {{
 *   file: File | null,
 *   name: string,
 *   asset: string,
 *   percent: number | null,
 *   type: string,
 * }} Chosen
 */

const NOTHING = /** @type {Chosen} */ ({
  file: null,
  name: "",
  asset: "",
  percent: null,
  type: "",
});

/**
 * What makes an element take a file that is dropped on it.
 * @param {string} name its class
 * @param {(file: File) => void} take
 */
export function dropping(name, take) {
  const over = signal(false);
  return {
    class: () => `${name}${over() ? " over" : ""}`,
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
  };
}

/** @param {(file: File) => void} take */
const pasting = (take) => (/** @type {ClipboardEvent} */ event) => {
  const [file] = event.clipboardData?.files ?? [];
  if (!file) return;
  event.preventDefault();
  take(file);
};

/**
 * Sends the file that was chosen last ahead, and tells how far it is.
 * @param {import("../kernel.js").Signal<Chosen>} chosen
 * @param {import("../kernel.js").Signal<string>} failure
 */
function sender(chosen, failure) {
  /** @type {Promise<void>} */
  let sending = Promise.resolve();
  let stop = new AbortController();
  return {
    /** When the last one has arrived, or has not. */
    ready: () => sending,
    clear() {
      stop.abort();
      chosen.set(NOTHING);
      failure.set("");
    },
    /** @param {File} file */
    send(file) {
      stop.abort();
      stop = new AbortController();
      const { signal: mine } = stop;
      failure.set("");
      const base = { ...NOTHING, file, name: file.name, type: file.type };
      chosen.set({ ...base, percent: 0 });
      sending = upload(
        file,
        (percent) => !mine.aborted && chosen.set({ ...base, percent }),
        mine,
      ).then(
        (asset) => void (mine.aborted || chosen.set({ ...base, asset: asset.id })),
        (error) => {
          if (mine.aborted) return;
          chosen.set(base);
          failure.set(sentence(error));
        },
      );
    },
  };
}

/**
 * @param {import("./fields.js").Making} making
 * @param {string} accept
 * @returns {import("./fields.js").Control}
 */
export function mediaControl({ id, label, start, changed }, accept) {
  const chosen = signal(NOTHING);
  const failure = signal("");
  const ahead = sender(chosen, failure);
  /** What a graph holds instead of a file's name. @type {string | undefined} */
  let embedded;

  const address = h("input", {
    type: "text",
    inputmode: "url",
    "aria-label": `${label} URL`,
    placeholder: t("or a URL"),
    autocomplete: "off",
    spellcheck: "false",
    oninput: () => {
      changed();
      if (address.value) clearFile();
    },
  });
  const input = h("input", {
    id,
    type: "file",
    accept: accept === "*/*" ? "image/*,video/*,audio/*" : accept,
    onchange: () => {
      const [file] = input.files ?? [];
      if (file) take(file);
    },
  });

  function clearFile() {
    ahead.clear();
    input.value = "";
  }
  /** @param {File} file */
  function take(file) {
    changed();
    address.value = "";
    ahead.send(file);
  }
  /** @param {any} value */
  function set(value) {
    clearFile();
    address.value = "";
    if (typeof value === "string" && value.startsWith("asset:"))
      chosen.set({ ...NOTHING, asset: value.slice(6), name: value });
    else if (typeof value === "string" && value.length < 10_000) address.value = value;
    else if (typeof value === "string") failure.set(t("A file inside the graph is used."));
    embedded = typeof value === "string" && value.length >= 10_000 ? value : undefined;
  }
  set(start);

  return {
    element: h(
      "div",
      { ...dropping("drop", take), onpaste: pasting(take) },
      h("div", { class: "file-line" }, input, () =>
        chosen().name ? iconButton(`${t("Remove")} ${label}`, "close", clearFile) : null,
      ),
      preview(chosen),
      address,
      () => (failure() ? h("p", { class: "error" }, failure()) : null),
    ),
    control: input,
    set,
    value: () => {
      const { asset } = chosen.peek();
      return asset ? `asset:${asset}` : address.value.trim() || embedded || undefined;
    },
    own: () => (failure.peek() && chosen.peek().file ? failure.peek() : ""),
    ready: ahead.ready,
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
    return [
      fileName(name),
      h(
        "span",
        { class: "muted" },
        percent !== null
          ? `${Math.round(percent)} %`
          : file
            ? format.size(file.size)
            : asset
              ? t("kept on the server")
              : "",
      ),
    ];
  };
  return () => {
    if (!chosen().name) return null;
    const { asset, file, type } = chosen();
    const picture = file
      ? local
      : asset && !/^(video|audio)\//.test(type)
        ? source(asset, "?thumbnail=256")
        : null;
    const shown = () => {
      const address = picture?.();
      if (!address) return icon("file");
      if (/^video\//.test(type))
        return h("video", { src: address, muted: true, preload: "metadata" });
      if (/^audio\//.test(type)) return icon("play");
      return h("img", {
        src: address,
        alt: "",
        onerror: (/** @type {any} */ event) => event.target.remove(),
      });
    };
    return h("div", { class: "chosen" }, h("span", { class: "thumb" }, shown), line);
  };
}
