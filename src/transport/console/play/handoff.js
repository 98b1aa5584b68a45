/** A request on its way from the history into the playground. */

import { signal } from "../kernel.js";

/**
 * @typedef {{workflow?: string, input?: any, prompt?: any, options: any, omitted: boolean}} Handed
 */

export const handed = signal(/** @type {Handed | null} */ (null));

/** Whether a part of it was too large to be remembered. @param {any} value @returns {boolean} */
export const isOmitted = (value) =>
  value !== null &&
  typeof value === "object" &&
  !Array.isArray(value) &&
  Object.keys(value).length === 1 &&
  typeof value.omitted === "number";

/** @param {any} value @returns {boolean} */
export const hasOmitted = (value) =>
  isOmitted(value) ||
  (value !== null && typeof value === "object" && Object.values(value).some(hasOmitted));

/**
 * Leaves what was omitted empty.
 * @param {any} value
 * @param {any} [stand] what stands for it
 * @returns {any}
 */
export function withoutOmitted(value, stand) {
  if (isOmitted(value)) return stand;
  if (Array.isArray(value)) return value.map((part) => withoutOmitted(part, stand));
  if (value === null || typeof value !== "object" || "rawJSON" in value) return value;
  return Object.fromEntries(
    Object.entries(value)
      .map(([key, part]) => [key, withoutOmitted(part, stand)])
      .filter(([, part]) => part !== undefined),
  );
}

/**
 * @param {string | undefined} path a workflow as the API names it
 * @returns {string} relative to the API
 */
export function endpoint(path) {
  const plain = String(path ?? "").replace(/^\/+/, "");
  return plain.startsWith("workflow/") ? plain : `workflow/${plain}`;
}

/** @param {any} item a run as history has it @returns {Handed} */
export function fromHistory(item) {
  const request = item.request ?? {};
  const { prompt, workflow, input, id, keep, async: later, ...options } = request;
  const graph = prompt ?? workflow ?? item.prompt;
  return item.workflow
    ? {
        workflow: endpoint(item.workflow),
        input: withoutOmitted(input ?? {}),
        options,
        omitted: hasOmitted(input),
      }
    : { prompt: withoutOmitted(graph, ""), options, omitted: hasOmitted(graph) };
}
