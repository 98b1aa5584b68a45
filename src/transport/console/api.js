/**
 * The server's API: addresses relative to this page, the key in a header, errors as they come. Who
 * has no valid key is asked for one, and the request goes on with it.
 */

import { signal } from "./kernel.js";
import { parse, stringify } from "./json.js";
import { t } from "./i18n.js";

/** The API lies one level above the console, wherever a proxy has put that. */
export const base = new URL("../", document.baseURI.split("#")[0]);

/** @param {string} path */
export const address = (path) => new URL(path, base).href;

const STORED = "comfyui-api-key";

/** The key in use; empty when the server wants none, or none was given yet. */
export const key = signal(sessionStorage.getItem(STORED) ?? "");
/**
 * Why the sign-in is shown; `null` when it is not.
 * @type {import("./kernel.js").Signal<string | null>}
 */
export const asked = signal(/** @type {string | null} */ (null));

/** @type {(() => void)[]} */
const waiting = [];

/** What went wrong, in the server's words. */
export class ApiError extends Error {
  /** @param {number} status @param {any} body */
  constructor(status, body) {
    const inner = body?.error && typeof body.error === "object" ? body.error : body;
    super(
      typeof inner?.error === "string"
        ? inner.error
        : (inner?.message ?? t("The server answered {status}.", { status })),
    );
    this.status = status;
    this.code = inner?.code ?? "";
    /** @type {string | undefined} */
    this.location = inner?.location ?? inner?.details?.location;
    this.details = inner?.details;
    this.nodeErrors = inner?.node_errors;
  }
}

/** Nobody answers: the server is away, or the network. */
export class Unreachable extends Error {
  constructor() {
    super(t("The server cannot be reached."));
  }
}

/**
 * @typedef {{
 *   method?: string,
 *   json?: any,
 *   body?: BodyInit,
 *   headers?: Record<string, string>,
 *   signal?: AbortSignal,
 *   key?: string,
 * }} Options
 */

/**
 * One request. Waits for a sign-in when the key is missing or has stopped working.
 * @param {string} path relative to the API
 * @param {Options} [options]
 * @returns {Promise<Response>} a successful answer
 */
export async function send(path, options = {}) {
  for (;;) {
    const used = options.key ?? key.peek();
    /** @type {Record<string, string>} */
    const headers = { ...options.headers };
    if (used) headers.Authorization = `Bearer ${used}`;
    if (options.json !== undefined) headers["Content-Type"] = "application/json";
    /** @type {Response} */
    let response;
    try {
      response = await fetch(address(path), {
        method: options.method ?? "GET",
        headers,
        body: options.json !== undefined ? stringify(options.json) : options.body,
        signal: options.signal,
        cache: "no-store",
        credentials: "same-origin",
        referrerPolicy: "no-referrer",
      });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new Unreachable();
    }
    if (response.ok) return response;
    const body = await response
      .text()
      .then(parse)
      .catch(() => null);
    if (response.status !== 401 || options.key !== undefined)
      throw new ApiError(response.status, body);
    // Another request may have brought a new key meanwhile.
    if (key.peek() === used)
      await askForKey(used ? t("The key is no longer accepted. Sign in again.") : "");
  }
}

/** @param {string} path @param {Options} [options] @returns {Promise<any>} */
export async function json(path, options) {
  return parse(await (await send(path, options)).text());
}

/** @param {string} reason */
function askForKey(reason) {
  key.set("");
  sessionStorage.removeItem(STORED);
  if (asked.peek() === null) asked.set(reason);
  return new Promise((resolve) => waiting.push(() => resolve(undefined)));
}

/** Tries a key; the requests that wait for one go on. @param {string} candidate */
export async function signIn(candidate) {
  try {
    await send("queue", { key: candidate });
  } catch (error) {
    if (error instanceof ApiError && error.status === 401)
      throw new Error(t("This key is not accepted."));
    throw error;
  }
  sessionStorage.setItem(STORED, candidate);
  key.set(candidate);
  asked.set(null);
  for (const go of waiting.splice(0)) go();
}

/** Forgets the key. */
export function signOut() {
  sessionStorage.removeItem(STORED);
  location.reload(); // nothing that was shown, and nothing that waits, stays in memory
}

// --- event streams -------------------------------------------------------------------------------

/** Takes an event stream apart, however it is cut into pieces. */
export class EventParser {
  #rest = "";
  #name = "";
  /** @type {string[]} */
  #data = [];

  /** @param {string} text @returns {{event: string, data: string}[]} */
  push(text) {
    /** @type {{event: string, data: string}[]} */
    const events = [];
    this.#rest += text;
    for (;;) {
      const found = /\r\n|\n|\r(?!$)/.exec(this.#rest);
      if (!found) return events;
      const line = this.#rest.slice(0, found.index);
      this.#rest = this.#rest.slice(found.index + found[0].length);
      if (line === "") {
        if (this.#data.length)
          events.push({ event: this.#name || "message", data: this.#data.join("\n") });
        this.#name = "";
        this.#data = [];
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "event") this.#name = value;
      else if (field === "data") this.#data.push(value);
    }
  }
}

/**
 * Follows a stream to its end. `EventSource` cannot send headers, so it is read by `fetch`.
 * @param {string} path
 * @param {{
 *   signal: AbortSignal,
 *   onOpen?: () => void,
 *   onEvent: (event: string, data: any) => void,
 *   silence?: number,
 * }} options
 *   `silence`: after so many milliseconds without a byte the connection counts as dead
 */
export async function follow(path, { signal: stop, onOpen, onEvent, silence = 45_000 }) {
  const dead = new AbortController();
  const abort = () => dead.abort();
  stop.addEventListener("abort", abort);
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(abort, silence);
  };
  try {
    const response = await send(path, {
      signal: dead.signal,
      headers: { Accept: "text/event-stream" },
    });
    alive();
    onOpen?.();
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
    const [decoder, parser] = [new TextDecoder(), new EventParser()];
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      alive();
      for (const { event, data } of parser.push(decoder.decode(value, { stream: true })))
        onEvent(event, parse(data));
    }
  } finally {
    clearTimeout(timer);
    stop.removeEventListener("abort", abort);
    dead.abort();
  }
}

// --- files ---------------------------------------------------------------------------------------

/** The content of an asset. @param {string} id @param {string} [query] */
export const contentPath = (id, query = "") =>
  `api/v2/assets/${encodeURIComponent(id)}/content${query}`;

/** @param {string} id @param {string} [query] @param {AbortSignal} [stop] */
export async function blob(id, query, stop) {
  return (await send(contentPath(id, query), { signal: stop })).blob();
}

/**
 * Sends a file ahead.
 * @param {File} file
 * @param {(percent: number) => void} onProgress
 * @param {AbortSignal} stop
 * @returns {Promise<any>} the asset
 */
export async function upload(file, onProgress, stop) {
  const form = new FormData();
  form.append("content_type", file.type || "application/octet-stream");
  form.append("file_path", plainName(file.name));
  form.append("file", file, plainName(file.name));
  for (;;) {
    const used = key.peek();
    // `fetch` cannot tell how much was sent.
    const request = new XMLHttpRequest();
    request.open("POST", address("api/v2/assets"));
    if (used) request.setRequestHeader("Authorization", `Bearer ${used}`);
    request.upload.onprogress = (event) =>
      event.lengthComputable && onProgress((event.loaded / event.total) * 100);
    const abort = () => request.abort();
    stop.addEventListener("abort", abort);
    const status = await new Promise((resolve, reject) => {
      request.onload = () => resolve(request.status);
      request.onerror = () => reject(new Unreachable());
      request.onabort = () => reject(new DOMException("", "AbortError"));
      request.send(form);
    }).finally(() => stop.removeEventListener("abort", abort));
    let body = null;
    try {
      body = parse(request.responseText);
    } catch {
      // the status says enough
    }
    if (status >= 200 && status < 300) return body;
    if (status !== 401) throw new ApiError(status, body);
    if (key.peek() === used)
      await askForKey(used ? t("The key is no longer accepted. Sign in again.") : "");
  }
}

/** What an upload may be called. @param {string} name */
export function plainName(name) {
  const last = name.split(/[\\/]/).pop() ?? "";
  const clean = last
    // eslint-disable-next-line no-control-regex
    .replace(/[\u0000-\u001f\u007f"]/g, "_")
    .replace(/^\.+/, "")
    .trim();
  return clean.length > 120 ? clean.slice(-120) : clean || "file";
}
