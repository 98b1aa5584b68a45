// Node.js's modules as far as they need no file system, network or process: path, crypto, buffer,
// process, url, util, timers. Written from Node's documentation; anything else of a module is not
// there.

class Hash {
  #algorithm;
  #key;
  #parts = [];
  #done = false;
  constructor(algorithm, key) {
    this.#algorithm = String(algorithm).toLowerCase();
    this.#key = key;
    if (host.hash(this.#algorithm, [], null) === undefined)
      throw new Error("Digest method not supported");
  }
  update(data, encoding) {
    if (this.#done) throw new Error("Digest already called");
    this.#parts.push(Buffer.from(dataOf(data, encoding)));
    return this;
  }
  digest(encoding) {
    if (this.#done) throw new Error("Digest already called");
    this.#done = true;
    const sum = Buffer.from(
      host.hash(
        this.#algorithm,
        Array.from(Buffer.concat(this.#parts)),
        this.#key && Array.from(this.#key),
      ),
    );
    return encoding === undefined || encoding === "buffer" ? sum : sum.toString(encoding);
  }
}
const HASHES = ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"];
function timingSafeEqual(a, b) {
  if (a.byteLength !== b.byteLength)
    throw new RangeError("Input buffers must have the same byte length");
  const [x, y] = [bytesOf(a), bytesOf(b)];
  let difference = 0;
  for (let i = 0; i < x.length; i++) difference |= x[i] ^ y[i];
  return difference === 0;
}
const randomBytes = (size) =>
  Buffer.concat(
    Array.from({ length: Math.ceil(size / 65536) }, (_, i) =>
      Buffer.from(host.random(Math.min(65536, size - i * 65536))),
    ),
  );
const makeCrypto = () => ({
  randomUUID,
  randomInt,
  getRandomValues,
  randomBytes,
  timingSafeEqual,
  webcrypto: crypto,
  createHash: (algorithm) => new Hash(algorithm, null),
  createHmac: (algorithm, key) => new Hash(algorithm, dataOf(key)),
  hash: (algorithm, data, encoding = "hex") =>
    new Hash(algorithm, null).update(data).digest(encoding),
  getHashes: () => [...HASHES],
});

// --- path ---

const mustBeText = (value, name) => {
  if (typeof value !== "string")
    throw Object.assign(
      new TypeError(
        `The "${name}" argument must be of type string. ` +
          `Received ${value === null ? "null" : typeof value}`,
      ),
      { code: "ERR_INVALID_ARG_TYPE" },
    );
  return value;
};
function normalParts(path, absolute) {
  const out = [];
  for (const part of path.split("/")) {
    if (part === "" || part === ".") continue;
    if (part !== "..") out.push(part);
    else if (out.length > 0 && out.at(-1) !== "..") out.pop();
    else if (!absolute) out.push("..");
  }
  return out.join("/");
}
const path = {
  sep: "/",
  delimiter: ":",
  normalize(value) {
    const absolute = mustBeText(value, "path").startsWith("/");
    const parts = normalParts(value, absolute);
    const tail = parts && value.endsWith("/") ? "/" : "";
    return (absolute ? "/" : "") + parts + tail || ".";
  },
  join: (...parts) => {
    parts.forEach((part) => mustBeText(part, "path"));
    return path.normalize(parts.filter(Boolean).join("/") || ".");
  },
  resolve(...parts) {
    let whole = "";
    for (const part of ["/", ...parts].reverse()) {
      if (mustBeText(part, "paths") === "") continue;
      whole = whole ? `${part}/${whole}` : part;
      if (part.startsWith("/")) break;
    }
    return `/${normalParts(whole, true)}`;
  },
  isAbsolute: (value) => mustBeText(value, "path").startsWith("/"),
  dirname(value) {
    const trimmed = mustBeText(value, "path").replace(/(?<=.)\/+$/, "");
    const at = trimmed.lastIndexOf("/");
    return at < 0 ? "." : trimmed.slice(0, at).replace(/(?<=.)\/+$/, "") || "/";
  },
  basename(value, suffix = "") {
    const base = mustBeText(value, "path").replace(/\/+$/, "").split("/").at(-1);
    return suffix && base !== suffix && base.endsWith(suffix)
      ? base.slice(0, -suffix.length)
      : base;
  },
  extname(value) {
    const base = path.basename(value);
    const at = base.lastIndexOf(".");
    return at <= 0 || base === ".." ? "" : base.slice(at);
  },
  relative(from, to) {
    const [a, b] = [from, to].map((one) => path.resolve(one).split("/").filter(Boolean));
    let same = 0;
    while (same < a.length && same < b.length && a[same] === b[same]) same++;
    return [...a.slice(same).map(() => ".."), ...b.slice(same)].join("/");
  },
  parse(value) {
    const [base, ext] = [path.basename(value), path.extname(value)];
    const dir = path.dirname(value);
    return {
      root: path.isAbsolute(value) ? "/" : "",
      dir: dir === "." && !value.startsWith("./") ? "" : dir,
      base,
      ext,
      name: ext ? base.slice(0, -ext.length) : base,
    };
  },
  format({ root = "", dir, base, name = "", ext = "" }) {
    const file = base ?? name + (ext && !ext.startsWith(".") ? `.${ext}` : ext);
    return dir ? (dir === root ? dir + file : `${dir}/${file}`) : root + file;
  },
  toNamespacedPath: (value) => value,
};
path.posix = path;

// --- process, util, url ---

const environment = () => JSON.parse(host.context()).env ?? {};
const started = Date.now();
const process = {
  get env() {
    return (this._env ??= environment());
  },
  argv: ["comfyui-api"],
  platform: "linux",
  version: "v20.0.0",
  versions: { node: "20.0.0" },
  pid: 1,
  cwd: () => "/",
  uptime: () => (Date.now() - started) / 1000,
  hrtime: Object.assign(
    (before = [0, 0]) => {
      const ms = Date.now() - started - (before[0] * 1e3 + before[1] / 1e6);
      return [Math.floor(ms / 1e3), (ms % 1e3) * 1e6];
    },
    { bigint: () => BigInt(Date.now() - started) * 1000000n },
  ),
  nextTick: (callback, ...args) => queueMicrotask(() => callback(...args)),
  memoryUsage: () => ({ rss: 0, heapTotal: 0, heapUsed: 0, external: 0, arrayBuffers: 0 }),
  emitWarning: (warning) => console.warn(warning),
  on() {
    return this;
  },
  once() {
    return this;
  },
};
define("process", process);

function format(first, ...values) {
  if (typeof first !== "string") return [first, ...values].map((value) => show(value)).join(" ");
  const filled = first.replace(/%[sdifjoOc%]/g, (mark) => {
    if (mark === "%%") return "%";
    if (values.length === 0) return mark;
    const value = values.shift();
    if (mark === "%s") return typeof value === "object" ? show(value, 1) : String(value);
    if (mark === "%d") return String(Number(value));
    if (mark === "%i") return String(parseInt(value, 10));
    if (mark === "%f") return String(parseFloat(value));
    if (mark === "%j") return JSON.stringify(value);
    return mark === "%c" ? "" : show(value, 1);
  });
  return [filled, ...values.map((value) => show(value))].join(" ");
}
function isDeepStrictEqual(a, b) {
  if (Object.is(a, b)) return true;
  if (
    typeof a !== "object" ||
    typeof b !== "object" ||
    !a ||
    !b ||
    Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)
  )
    return false;
  if (a instanceof Date) return a.getTime() === b.getTime();
  if (a instanceof Map || a instanceof Set)
    return a.size === b.size && isDeepStrictEqual([...a], [...b]);
  const [x, y] = [Object.keys(a), Object.keys(b)];
  return (
    x.length === y.length &&
    x.every((key) => Object.hasOwn(b, key) && isDeepStrictEqual(a[key], b[key]))
  );
}
const promisify =
  (callee) =>
  (...args) =>
    new Promise((resolve, reject) => {
      callee(...args, (error, value) => (error ? reject(error) : resolve(value)));
    });
const inherits = (child, parent) => {
  Object.setPrototypeOf(child.prototype, parent.prototype);
};
const sleep = (delay, value) =>
  new Promise((resolve) => {
    setTimeout(() => resolve(value), delay);
  });

// By the name that follows "node:".
const nodeModules = {
  path: () => path,
  "path/posix": () => path,
  crypto: makeCrypto,
  buffer: () => ({ Buffer, atob, btoa, kMaxLength: 2 ** 31 - 1 }),
  process: () => process,
  url: () => ({
    URL,
    URLSearchParams,
    fileURLToPath: (url) => decodeURIComponent(new URL(url).pathname),
    pathToFileURL: (file) =>
      new URL(`file://${path.resolve(file).split("/").map(encodeURIComponent).join("/")}`),
  }),
  util: () => ({
    format,
    inspect: (value) => show(value, 1),
    isDeepStrictEqual,
    promisify,
    inherits,
    TextEncoder,
    TextDecoder,
    types: {
      isDate: (value) => value instanceof Date,
      isRegExp: (value) => value instanceof RegExp,
    },
  }),
  timers: () => ({
    setTimeout,
    setInterval,
    setImmediate,
    clearTimeout,
    clearInterval,
    clearImmediate,
  }),
  "timers/promises": () => ({ setTimeout: sleep, setImmediate: (value) => sleep(0, value) }),
};
