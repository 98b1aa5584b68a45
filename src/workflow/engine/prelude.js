// The globals of a workflow file beyond the language: console, crypto, timers, text, URLs. `host`
// comes from Rust. What is not here does not exist: no network, no files, no process.

const define = (name, value) =>
  Object.defineProperty(globalThis, name, {
    value,
    writable: true,
    configurable: true,
    enumerable: false,
  });

const SHOWN_DEPTH = 4;
function show(value, depth = 0, seen = []) {
  if (typeof value === "string") return depth === 0 ? value : JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return `[Function ${value.name || "(anonymous)"}]`;
  if (typeof value !== "object" || value === null) return String(value);
  if (value instanceof Error)
    return value.stack
      ? `${value.name}: ${value.message}\n${value.stack}`
      : `${value.name}: ${value.message}`;
  if (value instanceof Date || value instanceof RegExp) return String(value);
  if (seen.includes(value)) return "[Circular]";
  if (depth >= SHOWN_DEPTH) return Array.isArray(value) ? "[Array]" : "[Object]";
  const inner = [...seen, value];
  if (Array.isArray(value))
    return `[ ${value.map((item) => show(item, depth + 1, inner)).join(", ")} ]`;
  if (value instanceof Map || value instanceof Set)
    return `${value.constructor.name}(${value.size}) ${show([...value], depth + 1, inner)}`;
  return `{ ${Object.keys(value)
    .map((key) => `${key}: ${show(value[key], depth + 1, inner)}`)
    .join(", ")} }`;
}
const say =
  (level) =>
  (...values) =>
    host.log(level, values.map((value) => show(value)).join(" "));
define("console", {
  log: say("info"),
  info: say("info"),
  warn: say("warn"),
  error: say("error"),
  debug: say("debug"),
  trace: say("debug"),
  dir: say("info"),
  table: say("info"),
  group: say("info"),
  groupEnd() {},
  time() {},
  timeEnd() {},
  count() {},
  assert: (truth, ...values) => {
    if (!truth) say("error")("Assertion failed:", ...values);
  },
});

const randomUUID = () => host.uuid();
function getRandomValues(array) {
  const view = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  const bytes = host.random(view.length);
  for (let i = 0; i < view.length; i++) view[i] = bytes[i];
  return array;
}
function randomInt(low, high) {
  if (high === undefined) [low, high] = [0, low];
  return low + Math.floor(Math.random() * (high - low));
}
define("crypto", { randomUUID, getRandomValues });

let timers = [];
let lastTimer = 0;
function schedule(callback, delay, args, repeat) {
  const pause = Math.max(0, Number(delay) || 0);
  timers.push({
    id: ++lastTimer,
    at: Date.now() + pause,
    callback,
    args,
    repeat: repeat ? Math.max(1, pause) : 0,
  });
  return lastTimer;
}
const cancel = (id) => {
  timers = timers.filter((timer) => timer.id !== id);
};
define("setTimeout", (callback, delay, ...args) => schedule(callback, delay, args, false));
define("setInterval", (callback, delay, ...args) => schedule(callback, delay, args, true));
define("setImmediate", (callback, ...args) => schedule(callback, 0, args, false));
define("clearTimeout", cancel);
define("clearInterval", cancel);
define("clearImmediate", cancel);
if (typeof queueMicrotask !== "function")
  define("queueMicrotask", (callback) => {
    Promise.resolve().then(callback);
  });

const clock = {
  // Milliseconds until the next timer, or null when there is none.
  next: () =>
    timers.length ? Math.max(0, Math.min(...timers.map((timer) => timer.at)) - Date.now()) : null,
  run() {
    const now = Date.now();
    for (const timer of timers
      .filter((t) => t.at <= now)
      .sort((a, b) => a.at - b.at || a.id - b.id)) {
      if (timer.repeat) timer.at = now + timer.repeat;
      else cancel(timer.id);
      timer.callback(...timer.args);
    }
  },
  clear() {
    timers = [];
  },
};

function structuredClone(value, seen = new Map()) {
  if (typeof value === "function" || typeof value === "symbol")
    throw new Error(`${String(value)} could not be cloned.`);
  if (typeof value !== "object" || value === null) return value;
  if (seen.has(value)) return seen.get(value);
  const keep = (copy) => {
    seen.set(value, copy);
    return copy;
  };
  if (value instanceof Date) return keep(new Date(value.getTime()));
  if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
  if (value instanceof ArrayBuffer) return keep(value.slice(0));
  if (ArrayBuffer.isView(value)) {
    const buffer = structuredClone(value.buffer, seen);
    return keep(
      value instanceof DataView
        ? new DataView(buffer, value.byteOffset, value.byteLength)
        : new value.constructor(buffer, value.byteOffset, value.length),
    );
  }
  if (value instanceof Map) {
    const copy = keep(new Map());
    for (const [k, v] of value) copy.set(structuredClone(k, seen), structuredClone(v, seen));
    return copy;
  }
  if (value instanceof Set) {
    const copy = keep(new Set());
    for (const item of value) copy.add(structuredClone(item, seen));
    return copy;
  }
  if (value instanceof Error) {
    const copy = keep(new (globalThis[value.name] ?? Error)(value.message));
    return copy;
  }
  const copy = keep(Array.isArray(value) ? new Array(value.length) : {});
  for (const key of Object.keys(value)) copy[key] = structuredClone(value[key], seen);
  return copy;
}
define("structuredClone", (value) => structuredClone(value));

class TextEncoder {
  get encoding() {
    return "utf-8";
  }
  encode(text = "") {
    return new Uint8Array(host.encode(String(text)));
  }
  encodeInto(text, target) {
    let read = 0;
    let written = 0;
    for (const character of text) {
      const bytes = this.encode(character);
      if (written + bytes.length > target.length) break;
      target.set(bytes, written);
      read += character.length;
      written += bytes.length;
    }
    return { read, written };
  }
}
class TextDecoder {
  constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
    if (!/^(?:utf-?8|unicode-1-1-utf-8)$/i.test(label))
      throw new RangeError(`The "${label}" encoding is not supported`);
    this.encoding = "utf-8";
    this.fatal = fatal;
    this.ignoreBOM = ignoreBOM;
  }
  decode(input) {
    if (input === undefined) return "";
    const view =
      input instanceof ArrayBuffer
        ? new Uint8Array(input)
        : new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
    const text = host.decode(Array.from(view), this.fatal);
    if (text === null || text === undefined)
      throw new TypeError("The encoded data was not valid for encoding utf-8");
    return !this.ignoreBOM && text.startsWith("\uFEFF") ? text.slice(1) : text;
  }
}
define("TextEncoder", TextEncoder);
define("TextDecoder", TextDecoder);

const formEncode = (text) =>
  encodeURIComponent(text)
    .replace(/%20/g, "+")
    .replace(/[!'()~]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
function formDecode(text) {
  const spaced = text.replace(/\+/g, " ");
  try {
    return decodeURIComponent(spaced);
  } catch {
    return spaced;
  }
}

class URLSearchParams {
  #pairs = [];
  #changed = null;
  constructor(init = "", changed = null) {
    if (typeof init === "string") {
      for (const part of init.replace(/^\?/, "").split("&")) {
        if (!part) continue;
        const [name, ...rest] = part.split("=");
        this.#pairs.push([formDecode(name), formDecode(rest.join("="))]);
      }
    } else if (init && typeof init[Symbol.iterator] === "function") {
      for (const [name, value] of init) this.#pairs.push([String(name), String(value)]);
    } else if (init) {
      for (const name of Object.keys(init)) this.#pairs.push([name, String(init[name])]);
    }
    this.#changed = changed;
  }
  #tell() {
    this.#changed?.(this.toString());
  }
  get size() {
    return this.#pairs.length;
  }
  append(name, value) {
    this.#pairs.push([String(name), String(value)]);
    this.#tell();
  }
  delete(name) {
    this.#pairs = this.#pairs.filter(([n]) => n !== name);
    this.#tell();
  }
  get(name) {
    return this.#pairs.find(([n]) => n === name)?.[1] ?? null;
  }
  getAll(name) {
    return this.#pairs.filter(([n]) => n === name).map(([, value]) => value);
  }
  has(name) {
    return this.#pairs.some(([n]) => n === name);
  }
  set(name, value) {
    const found = this.#pairs.findIndex(([n]) => n === name);
    if (found < 0) this.#pairs.push([String(name), String(value)]);
    else
      this.#pairs = this.#pairs
        .filter(([n], i) => n !== name || i === found)
        .map((pair, i) => (i === found ? [name, String(value)] : pair));
    this.#tell();
  }
  sort() {
    this.#pairs.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    this.#tell();
  }
  forEach(callback, self) {
    for (const [name, value] of this.#pairs) callback.call(self, value, name, this);
  }
  keys() {
    return this.#pairs.map(([name]) => name)[Symbol.iterator]();
  }
  values() {
    return this.#pairs.map(([, value]) => value)[Symbol.iterator]();
  }
  entries() {
    return this.#pairs.map((pair) => [...pair])[Symbol.iterator]();
  }
  [Symbol.iterator]() {
    return this.entries();
  }
  toString() {
    return this.#pairs.map(([name, value]) => `${formEncode(name)}=${formEncode(value)}`).join("&");
  }
}

class URL {
  #parts;
  #search;
  constructor(url, base) {
    this.#take(host.url(String(url), base === undefined ? null : String(base), null, null), url);
  }
  #take(text, url) {
    if (text === null || text === undefined)
      throw Object.assign(new TypeError("Invalid URL"), {
        code: "ERR_INVALID_URL",
        input: String(url),
      });
    this.#parts = JSON.parse(text);
    this.#search = null;
  }
  _set(part, value) {
    const changed = host.url(this.#parts.href, null, part, String(value));
    if (changed !== null && changed !== undefined) this.#parts = JSON.parse(changed);
    if (part !== "query") this.#search = null;
  }
  _get(part) {
    return this.#parts[part];
  }
  get href() {
    return this.#parts.href;
  }
  set href(value) {
    this.#take(host.url(String(value), null, null, null), value);
  }
  get origin() {
    return this.#parts.origin;
  }
  get searchParams() {
    this.#search ??= new URLSearchParams(this.#parts.search, (text) => this._set("query", text));
    return this.#search;
  }
  toString() {
    return this.href;
  }
  toJSON() {
    return this.href;
  }
  static canParse(url, base) {
    try {
      return Boolean(new URL(url, base));
    } catch {
      return false;
    }
  }
  static parse(url, base) {
    try {
      return new URL(url, base);
    } catch {
      return null;
    }
  }
}
for (const part of [
  "protocol",
  "username",
  "password",
  "host",
  "hostname",
  "port",
  "pathname",
  "search",
  "hash",
]) {
  Object.defineProperty(URL.prototype, part, {
    get() {
      return this._get(part);
    },
    set(value) {
      this._set(part, value);
    },
    enumerable: true,
    configurable: true,
  });
}
define("URL", URL);
define("URLSearchParams", URLSearchParams);
