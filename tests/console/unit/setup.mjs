// What the modules ask of a browser when they are loaded, for tests without one.
globalThis.document ??= {
  baseURI: "http://localhost:3000/some/prefix/console/",
  visibilityState: "hidden",
  addEventListener() {},
};
globalThis.sessionStorage ??= { getItem: () => null, setItem() {}, removeItem() {} };
globalThis.reportError ??= (error) => {
  throw error;
};
// Clocks of the page must not keep a test alive.
const interval = globalThis.setInterval;
globalThis.setInterval = (...parameters) => interval(...parameters).unref();

export const load = (path) =>
  import(new URL(`../../../src/transport/console/${path}`, import.meta.url));
