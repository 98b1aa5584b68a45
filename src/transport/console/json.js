/**
 * JSON whose integers stay what they were: seeds of ComfyUI have 64 bits, numbers of JavaScript 53.
 * A larger integer is kept as its text (`JSON.rawJSON`) where the browser can; elsewhere it is
 * rounded as usual.
 */

const raw = /** @type {any} */ (JSON).rawJSON;
const isRaw = /** @type {any} */ (JSON).isRawJSON ?? (() => false);

/** @param {string} text @returns {any} */
export function parse(text) {
  if (!raw) return JSON.parse(text);
  /** @type {any} */
  const reviver = (
    /** @type {string} */ _,
    /** @type {any} */ value,
    /** @type {{source?: string}} */ context,
  ) =>
    typeof value === "number" &&
    Number.isInteger(value) &&
    !Number.isSafeInteger(value) &&
    /^-?\d+$/.test(context?.source ?? "")
      ? raw(context.source)
      : value;
  return JSON.parse(text, reviver);
}

/** @param {any} value @param {number} [indent] @returns {string} */
export const stringify = (value, indent) => JSON.stringify(value, null, indent);

/** Whether it is an integer that is kept as text. @param {any} value */
export const isLarge = (value) => Boolean(isRaw(value));

/** A number as it is shown and typed. @param {any} value @returns {string} */
export const numberText = (value) =>
  isLarge(value) ? value.rawJSON : value == null ? "" : String(value);

/** What was typed, as a number; `undefined` when it is none. @param {string} text @returns {any} */
export function number(text) {
  const trimmed = text.trim();
  if (trimmed === "") return undefined;
  const value = Number(trimmed);
  if (!Number.isFinite(value)) return undefined;
  if (raw && /^-?\d+$/.test(trimmed) && !Number.isSafeInteger(value))
    return raw(trimmed.replace(/^(-?)0+(?=\d)/, "$1"));
  return value;
}

/** A copy that shares nothing. @param {any} value @returns {any} */
export function copy(value) {
  if (value === null || typeof value !== "object" || isLarge(value)) return value;
  if (Array.isArray(value)) return value.map(copy);
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, copy(part)]));
}
