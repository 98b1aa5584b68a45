/**
 * English and Simplified Chinese. The English text is the key; what has no translation is shown in
 * English.
 */

/** @type {Record<string, string>} */
let table = {};

/** The language of the page, as the browser wants it. */
export const language = (globalThis.navigator?.languages ?? ["en"])
  .map((tag) => tag.toLowerCase())
  .find((tag) => tag.startsWith("zh") || tag.startsWith("en"))
  ?.startsWith("zh")
  ? "zh-CN"
  : "en";

/** Loads the texts; to be awaited before the first view is made. */
export async function load() {
  if (language === "zh-CN") table = (await import("./zh.js")).default;
  document.documentElement.lang = language;
}

/**
 * A text for people; `{name}` is replaced.
 * @param {string} text
 * @param {Record<string, string | number>} [values]
 * @returns {string}
 */
export function t(text, values) {
  const found = table[text] ?? text;
  return values
    ? found.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole))
    : found;
}

/** One or several. @param {number} count @param {string} one @param {string} other */
export const plural = (count, one, other) => t(count === 1 ? one : other, { n: count });
