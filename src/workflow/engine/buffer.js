// Node.js's Buffer with its encodings, and what is made of them: atob, btoa.

const isBytes = (value) => ArrayBuffer.isView(value) || value instanceof ArrayBuffer;
const bytesOf = (value) =>
  value instanceof ArrayBuffer
    ? new Uint8Array(value)
    : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);

const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_VALUES = new Map(
  [...BASE64]
    .map((character, value) => [character, value])
    .concat([
      ["-", 62],
      ["_", 63],
    ]),
);

function toBase64(bytes) {
  const out = [];
  for (let i = 0; i < bytes.length; i += 3) {
    const three = (bytes[i] << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    const left = bytes.length - i;
    out.push(
      BASE64[three >> 18],
      BASE64[(three >> 12) & 63],
      left > 1 ? BASE64[(three >> 6) & 63] : "=",
      left > 2 ? BASE64[three & 63] : "=",
    );
  }
  return out.join("");
}
const toBase64Url = (bytes) =>
  toBase64(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

// As Node reads it: both alphabets, other characters skipped, everything from the first "=" on
// ignored.
function fromBase64(text) {
  const out = [];
  let bits = 0;
  let held = 0;
  for (const character of text) {
    if (character === "=") break;
    const value = BASE64_VALUES.get(character);
    if (value === undefined) continue;
    held = ((held << 6) | value) & 0xffffff;
    bits += 6;
    if (bits >= 8) out.push((held >> (bits -= 8)) & 255);
  }
  return out;
}

function fromHex(text) {
  const out = [];
  for (let i = 0; i + 1 < text.length; i += 2) {
    const pair = text.slice(i, i + 2);
    if (!/^[0-9a-f]{2}$/i.test(pair)) break;
    out.push(parseInt(pair, 16));
  }
  return out;
}

const utf16 = (text) =>
  Array.from(
    { length: text.length * 2 },
    (_, i) => (text.charCodeAt(i >> 1) >> ((i & 1) * 8)) & 255,
  );
const ENCODINGS = {
  utf8: [(text) => host.encode(text), (bytes) => host.decode(Array.from(bytes), false)],
  hex: [
    fromHex,
    (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(""),
  ],
  base64: [fromBase64, toBase64],
  base64url: [fromBase64, toBase64Url],
  latin1: [
    (text) => Array.from(text, (c) => c.charCodeAt(0) & 255),
    (bytes) => Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""),
  ],
  ascii: [
    (text) => Array.from(text, (c) => c.charCodeAt(0) & 255),
    (bytes) => Array.from(bytes, (byte) => String.fromCharCode(byte & 127)).join(""),
  ],
  utf16le: [
    utf16,
    (bytes) =>
      Array.from({ length: bytes.length >> 1 }, (_, i) =>
        String.fromCharCode(bytes[2 * i] | (bytes[2 * i + 1] << 8)),
      ).join(""),
  ],
};
const ALIASES = {
  "utf-8": "utf8",
  binary: "latin1",
  ucs2: "utf16le",
  "ucs-2": "utf16le",
  "utf-16le": "utf16le",
};
function encodingOf(name = "utf8") {
  const lower = String(name).toLowerCase();
  const found = ENCODINGS[ALIASES[lower] ?? lower];
  if (!found)
    throw Object.assign(new TypeError(`Unknown encoding: ${name}`), {
      code: "ERR_UNKNOWN_ENCODING",
    });
  return found;
}
const encoded = (text, encoding) => encodingOf(encoding)[0](text);

// What `from` and friends make of a text or of bytes.
const dataOf = (data, encoding) => {
  if (typeof data === "string") return Uint8Array.from(encoded(data, encoding));
  if (isBytes(data)) return bytesOf(data);
  throw Object.assign(
    new TypeError(
      'The "data" argument must be of type string or an instance of ' +
        "Buffer, TypedArray, or DataView.",
    ),
    { code: "ERR_INVALID_ARG_TYPE" },
  );
};

class Buffer extends Uint8Array {
  static from(value, encodingOrOffset, length) {
    if (typeof value === "string") return Buffer.#of(encoded(value, encodingOrOffset));
    if (value instanceof ArrayBuffer)
      return new Buffer(
        value,
        encodingOrOffset ?? 0,
        length ?? value.byteLength - (encodingOrOffset ?? 0),
      );
    if (value?.type === "Buffer" && Array.isArray(value.data)) return Buffer.#of(value.data);
    if (Array.isArray(value) || isBytes(value) || typeof value?.[Symbol.iterator] === "function")
      return Buffer.#of(value);
    throw Object.assign(
      new TypeError(
        "The first argument must be of type string or an instance of " +
          "Buffer, ArrayBuffer, or Array or an Array-like Object.",
      ),
      { code: "ERR_INVALID_ARG_TYPE" },
    );
  }
  static #of(bytes) {
    const list = Array.isArray(bytes) || ArrayBuffer.isView(bytes) ? bytes : [...bytes];
    const made = new Buffer(list.length);
    made.set(list);
    return made;
  }
  static alloc(size, fill, encoding) {
    return fill === undefined ? new Buffer(size) : new Buffer(size).fill(fill, 0, size, encoding);
  }
  static allocUnsafe(size) {
    return new Buffer(size);
  }
  static isBuffer(value) {
    return value instanceof Buffer;
  }
  static isEncoding(name) {
    const lower = String(name).toLowerCase();
    return (ALIASES[lower] ?? lower) in ENCODINGS;
  }
  static byteLength(value, encoding) {
    return typeof value === "string" ? encoded(value, encoding).length : value.byteLength;
  }
  static concat(list, total = list.reduce((sum, one) => sum + one.length, 0)) {
    const made = new Buffer(total);
    let at = 0;
    for (const one of list) {
      if (at >= total) break;
      made.set(one.subarray(0, total - at), at);
      at += one.length;
    }
    return made;
  }
  static compare(a, b) {
    for (let i = 0; i < Math.min(a.length, b.length); i++)
      if (a[i] !== b[i]) return a[i] < b[i] ? -1 : 1;
    return Math.sign(a.length - b.length);
  }
  toString(encoding, start = 0, end = this.length) {
    return encodingOf(encoding)[1](this.subarray(start, end));
  }
  toJSON() {
    return { type: "Buffer", data: Array.from(this) };
  }
  equals(other) {
    return Buffer.compare(this, other) === 0;
  }
  compare(other) {
    return Buffer.compare(this, other);
  }
  // Of a buffer `slice` is a view, too.
  slice(start, end) {
    return this.subarray(start, end);
  }
  write(text, offset = 0, length = this.length - offset, encoding = "utf8") {
    if (typeof offset === "string") return this.write(text, 0, this.length, offset);
    if (typeof length === "string") return this.write(text, offset, this.length - offset, length);
    const bytes = encoded(text, encoding).slice(0, Math.min(length, this.length - offset));
    this.set(bytes, offset);
    return bytes.length;
  }
  copy(target, targetStart = 0, start = 0, end = this.length) {
    const part = this.subarray(start, Math.min(end, start + target.length - targetStart));
    target.set(part, targetStart);
    return part.length;
  }
  fill(value, start = 0, end = this.length, encoding = "utf8") {
    if (typeof value === "number") return super.fill(value, start, end);
    const bytes = typeof value === "string" ? encoded(value, encoding) : value;
    for (let i = start; bytes.length > 0 && i < end; i++)
      this[i] = bytes[(i - start) % bytes.length];
    return this;
  }
  indexOf(value, from = 0, encoding = "utf8") {
    if (typeof value === "number") return super.indexOf(value, from);
    const bytes = typeof value === "string" ? encoded(value, encoding) : value;
    for (let i = from; i + bytes.length <= this.length; i++)
      if (bytes.every((byte, k) => this[i + k] === byte)) return i;
    return -1;
  }
  includes(value, from, encoding) {
    return this.indexOf(value, from, encoding) >= 0;
  }
}
for (const [name, get, size] of [
  ["UInt8", "getUint8", 1],
  ["Int8", "getInt8", 1],
  ["UInt16", "getUint16", 2],
  ["Int16", "getInt16", 2],
  ["UInt32", "getUint32", 4],
  ["Int32", "getInt32", 4],
  ["Float", "getFloat32", 4],
  ["Double", "getFloat64", 8],
  ["BigUInt64", "getBigUint64", 8],
  ["BigInt64", "getBigInt64", 8],
]) {
  const view = (buffer) => new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  const set = get.replace("get", "set");
  for (const [suffix, little] of size === 1
    ? [["", true]]
    : [
        ["LE", true],
        ["BE", false],
      ]) {
    const member = (called, value) =>
      Object.defineProperty(Buffer.prototype, called, {
        value,
        writable: true,
        configurable: true,
      });
    member(`read${name}${suffix}`, function (offset = 0) {
      return view(this)[get](offset, little);
    });
    member(`write${name}${suffix}`, function (value, offset = 0) {
      view(this)[set](offset, value, little);
      return offset + size;
    });
  }
}
define("Buffer", Buffer);
define("atob", (text) => String.fromCharCode(...fromBase64(String(text))));
define("btoa", (text) => {
  const bytes = Array.from(String(text), (c) => c.charCodeAt(0));
  if (bytes.some((byte) => byte > 255))
    throw new RangeError("btoa: the text has characters outside of Latin-1");
  return toBase64(bytes);
});
