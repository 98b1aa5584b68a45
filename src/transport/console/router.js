/** Addresses are fragments, so that any prefix of a proxy works. */

import { signal } from "./kernel.js";

/** @typedef {{page: string, id: string}} Route */

export const PAGES = ["playground", "queue", "history", "models", "deliveries", "health"];

/** @param {string} fragment @returns {Route} */
export function parseRoute(fragment) {
  const [page, ...rest] = fragment.replace(/^#\/?/, "").split("?")[0].split("/");
  if (!page) return { page: "playground", id: "" };
  if (!PAGES.includes(page)) return { page: "missing", id: "" };
  let id = rest.join("/");
  try {
    id = decodeURIComponent(id);
  } catch {
    // as it stands
  }
  return { page, id: page === "history" ? id : "" };
}

/** @param {string} page @param {string} [id] */
export const addressOf = (page, id) =>
  page === "playground" ? "#/" : `#/${page}${id ? `/${encodeURIComponent(id)}` : ""}`;

export const route = signal(parseRoute(globalThis.location?.hash ?? ""));

globalThis.addEventListener?.("hashchange", () => {
  const next = parseRoute(location.hash);
  const now = route.peek();
  if (next.page !== now.page || next.id !== now.id) route.set(next);
});

/** @param {string} page @param {string} [id] */
export function go(page, id) {
  location.hash = addressOf(page, id);
}
