/**
 * Files of runs as the page shows them. Without keys the browser loads them itself; with keys they
 * are fetched with the header and shown from memory, which is given back when the element goes.
 */

import { effect, h, onCleanup, signal } from "../kernel.js";
import { address, blob, contentPath, key, send } from "../api.js";
import { notify } from "../ui.js";

/**
 * @typedef {{
 *   asset_id?: string,
 *   filename: string,
 *   content_type?: string,
 *   size?: number,
 *   node_id?: string,
 *   thumbnail?: any,
 *   url?: string,
 * }} Output
 */

const MEDIA = /^(image\/(?!svg)|video\/|audio\/)/;

/** @param {Output} file @returns {"image" | "video" | "audio" | "model" | "text" | "file"} */
export function kindOf(file) {
  const type = file.content_type ?? "";
  const name = file.filename.toLowerCase();
  if (/^image\/(png|jpe?g|webp|gif|avif|bmp)$/.test(type)) return "image";
  if (type.startsWith("video/")) return "video";
  if (type.startsWith("audio/")) return "audio";
  if (type === "model/gltf-binary" || name.endsWith(".glb")) return "model";
  if (/^text\/plain|^application\/json/.test(type) || /\.(txt|json|md|csv)$/.test(name))
    return "text";
  return "file";
}

/**
 * The address of an asset's content for `src`, as a signal that is empty until it is known.
 * @param {string} id
 * @param {string} [query]
 * @param {() => boolean} [wanted] loads only when true
 */
export function source(id, query = "", wanted = () => true) {
  const result = signal("");
  effect(() => {
    if (!wanted()) return;
    if (!key.peek()) {
      result.set(address(contentPath(id, query)));
      return;
    }
    const stop = new AbortController();
    let made = "";
    blob(id, query, stop.signal).then(
      (content) => {
        // Only what cannot run: a blob has the origin of this page.
        if (stop.signal.aborted || !MEDIA.test(content.type)) return;
        made = URL.createObjectURL(content);
        result.set(made);
      },
      () => {},
    );
    onCleanup(() => {
      stop.abort();
      if (made) URL.revokeObjectURL(made);
    });
  });
  return result;
}

/**
 * A small picture that is loaded when it comes into view.
 * @param {Output} file
 * @param {number} side
 */
export function thumbnail(file, side = 96) {
  const near = signal(false);
  const broken = signal(false);
  const address = source(file.asset_id ?? "", `?thumbnail=${side * 2}`, near);
  const box = h("span", { class: "thumb" }, () =>
    address() && !broken()
      ? h("img", {
          src: address(),
          alt: "",
          loading: "lazy",
          decoding: "async",
          onerror: () => broken.set(true),
        })
      : null,
  );
  const observer = new IntersectionObserver(
    (entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      near.set(true);
      observer.disconnect();
    },
    { rootMargin: "300px" },
  );
  observer.observe(box);
  onCleanup(() => observer.disconnect());
  return box;
}

/**
 * A name that is cut in its middle where there is no room: what tells files apart is at its end.
 * @param {string} name
 */
export function fileName(name) {
  const letters = [...name];
  const cut = Math.max(0, letters.length - 14);
  return h(
    "span",
    { class: "file-name", title: name, dir: "auto" },
    h("span", null, letters.slice(0, cut).join("")),
    h("span", null, letters.slice(cut).join("")),
  );
}

/** Gives a file to the browser's downloads. @param {Blob} content @param {string} name */
export function save(content, name) {
  const made = URL.createObjectURL(content);
  h("a", { href: made, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(made), 60_000);
}

/**
 * A link that downloads. With a key it is fetched first: a link cannot send a header.
 * @param {string} label
 * @param {Output} file
 * @param {Record<string, any>} [properties]
 * @param {...any} children
 */
export function downloadLink(label, file, properties = {}, ...children) {
  const path = contentPath(file.asset_id ?? "", "?download=1");
  const click = async (/** @type {Event} */ event) => {
    if (!key.peek()) return;
    event.preventDefault();
    try {
      save(await (await send(path)).blob(), file.filename);
    } catch (error) {
      notify(error, "bad");
    }
  };
  return h(
    "a",
    {
      href: address(path),
      download: file.filename,
      "aria-label": label,
      title: label,
      onclick: click,
      ...properties,
    },
    children,
  );
}
