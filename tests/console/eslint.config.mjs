// What can be found without running it. No plug-ins: the rules are ESLint's own.
const browser = Object.fromEntries(["document", "window", "location", "navigator", "localStorage", "sessionStorage", "fetch", "URL", "URLSearchParams", "Blob", "File", "FormData", "XMLHttpRequest", "AbortController", "AbortSignal",
  "DOMException", "Event", "CustomEvent", "Node", "Text", "Element", "HTMLElement", "IntersectionObserver", "PerformanceObserver", "ResizeObserver", "TextDecoder", "TextEncoder", "crypto", "atob", "btoa", "console", "setTimeout", "clearTimeout", "setInterval", "clearInterval",
  "requestAnimationFrame", "cancelAnimationFrame", "queueMicrotask", "reportError", "addEventListener", "removeEventListener", "innerHeight", "dispatchEvent", "matchMedia", "scrollTo", "devicePixelRatio", "createImageBitmap", "globalThis", "Response", "performance"].map((name) => [name, "readonly"]));
const node = { process: "readonly", console: "readonly", URL: "readonly", Buffer: "readonly", fetch: "readonly", setTimeout: "readonly", clearTimeout: "readonly", document: "readonly", window: "readonly", location: "readonly", getComputedStyle: "readonly", sessionStorage: "readonly", localStorage: "readonly", globalThis: "readonly", AbortController: "readonly", TextDecoder: "readonly", TextEncoder: "readonly", Blob: "readonly", performance: "readonly", requestAnimationFrame: "readonly", Image: "readonly", PerformanceObserver: "readonly", setInterval: "readonly", clearInterval: "readonly", innerWidth: "readonly", Response: "readonly" };

const rules = {
  "no-undef": "error",
  "no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_", ignoreRestSiblings: true }],
  "no-eval": "error",
  "no-implied-eval": "error",
  "no-new-func": "error",
  "no-var": "error",
  "prefer-const": ["error", { destructuring: "all" }],
  eqeqeq: ["error", "always", { null: "ignore" }],
  "no-fallthrough": "error",
  "no-unreachable": "error",
  "no-dupe-keys": "error",
  "no-self-assign": "error",
  "no-cond-assign": "error",
  "no-constant-condition": ["error", { checkLoops: false }],
  "no-control-regex": "error",
  "no-restricted-properties": ["error",
    ...["innerHTML", "outerHTML", "insertAdjacentHTML", "srcdoc"].map((property) => ({ property, message: "What comes from graphs, logs and files is text, never markup." })),
    { object: "document", property: "write" }],
};

export default [
  { files: ["src/transport/console/**/*.js"], languageOptions: { ecmaVersion: 2024, sourceType: "module", globals: browser }, rules },
  { files: ["tests/console/**/*.mjs", "docs/*.mjs"], languageOptions: { ecmaVersion: 2024, sourceType: "module", globals: node }, rules },
];
