/**
 * A request as code that can be run: curl, Python's standard library, a module for Node. The key is
 * never in it.
 */

import { isLarge, stringify } from "../json.js";

/** A file that the code reads and sends inside the request. */
export class FileRef {
  /** @param {string} name */
  constructor(name) {
    this.name = name;
  }
}

const LARGE = 1024;

/**
 * Large media that are inside the request become files.
 * @param {any} value
 * @param {string} [name]
 * @returns {any}
 */
export function withFiles(value, name = "file") {
  if (typeof value === "string")
    return value.length > LARGE &&
      /^(data:[\w/+.-]+;base64,)?[A-Za-z0-9+/_=\s-]+$/.test(value) &&
      !/ /.test(value.slice(0, 200))
      ? new FileRef(`${name}.bin`)
      : value;
  if (value instanceof FileRef || value === null || typeof value !== "object" || isLarge(value))
    return value;
  if (Array.isArray(value)) return value.map((part) => withFiles(part, name));
  return Object.fromEntries(
    Object.entries(value).map(([key, part]) => [key, withFiles(part, key.replace(/[^\w-]/g, "_"))]),
  );
}

/**
 * Files that were sent ahead get the names that they have on this machine.
 * @param {any} value
 * @param {Map<any, string>} names by the value that stands for the file
 * @returns {any}
 */
export function withNames(value, names) {
  if (typeof value === "string") {
    const name = names.get(value);
    return name === undefined ? value : new FileRef(name);
  }
  if (Array.isArray(value)) return value.map((part) => withNames(part, names));
  if (value === null || typeof value !== "object" || "rawJSON" in value) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, part]) => [key, withNames(part, names)]),
  );
}

/** @param {any} value @returns {boolean} */
const hasFiles = (value) =>
  value instanceof FileRef ||
  (value !== null &&
    typeof value === "object" &&
    !isLarge(value) &&
    Object.values(value).some(hasFiles));

/**
 * JSON-like text.
 * @param {any} value
 * @param {{
 *   words: Record<string, string>,
 *   file: (name: string) => string,
 *   string: (text: string) => string,
 * }} style
 * @param {string} [indent]
 * @returns {string}
 */
function literal(value, style, indent = "") {
  if (value instanceof FileRef) return style.file(value.name);
  if (typeof value === "string") return style.string(value);
  if (value === null || typeof value === "boolean") return style.words[String(value)];
  if (typeof value !== "object" || isLarge(value)) return stringify(value) ?? style.words.null;
  const inner = `${indent}  `;
  const entries = Array.isArray(value)
    ? value.map((part) => literal(part, style, inner))
    : Object.entries(value)
        .filter(([, part]) => part !== undefined)
        .map(([key, part]) => `${style.string(key)}: ${literal(part, style, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  if (!entries.length) return open + close;
  const line = `${open}${entries.join(", ")}${close}`;
  if (line.length < 90 && !line.includes("\n")) return line;
  return `${open}\n${entries.map((entry) => inner + entry).join(",\n")}\n${indent}${close}`;
}

const JSON_WORDS = { null: "null", true: "true", false: "false" };

/** In single quotes, for a shell. @param {string} text */
const quoted = (text) => `'${text.replace(/'/g, "'\\''")}'`;

/** @param {string} url @param {any} body */
export function curl(url, body) {
  const files = hasFiles(body);
  // Inside a here-document that expands, these three mean something.
  const escaped = (/** @type {string} */ text) => (files ? text.replace(/[\\$`]/g, "\\$&") : text);
  const text = literal(body, {
    words: JSON_WORDS,
    string: (part) => escaped(stringify(part)),
    file: (name) => `"$(base64 < ${quoted(name)} | tr -d '\\n')"`,
  });
  return `curl -sS -X POST ${quoted(url)} \\
  -H "Authorization: Bearer $COMFYUI_API_KEY" \\
  -H 'Content-Type: application/json' \\
  --data-binary @- -o result.json <<${files ? "REQUEST" : "'REQUEST'"}
${text}
REQUEST
# result.json: "filenames", and "images" with the files in base64
`;
}

// The header with the key, in the words of each language.
const PYTHON_KEY = '"Authorization": "Bearer " + os.environ.get("COMFYUI_API_KEY", "")';
const JAVASCRIPT_KEY = 'Authorization: `Bearer ${process.env.COMFYUI_API_KEY ?? ""}`';

/** @param {string} url @param {any} body */
export function python(url, body) {
  const text = literal(body, {
    words: { null: "None", true: "True", false: "False" },
    string: stringify,
    file: (name) => `media(${stringify(name)})`,
  });
  const media = hasFiles(body)
    ? `

def media(path):
    with open(path, "rb") as file:
        return base64.b64encode(file.read()).decode()

`
    : "";
  return `import base64
import json
import os
import sys
import urllib.error
import urllib.request
${media}
body = ${text}
request = urllib.request.Request(
    ${stringify(url)},
    data=json.dumps(body).encode(),
    headers={"Content-Type": "application/json", ${PYTHON_KEY}},
)
try:
    with urllib.request.urlopen(request) as response:
        result = json.load(response)
except urllib.error.HTTPError as error:
    sys.exit(error.read().decode())

for name, content in zip(result.get("filenames", []), result.get("images", [])):
    if "://" in content[:12]:
        print(name, content)  # uploaded: this is its address
        continue
    with open(os.path.basename(name), "wb") as file:
        file.write(base64.b64decode(content))
    print(name)
`;
}

/** @param {string} url @param {any} body */
export function javascript(url, body) {
  const text = literal(body, {
    words: JSON_WORDS,
    string: stringify,
    file: (name) => `await media(${stringify(name)})`,
  });
  const files = hasFiles(body);
  return `// A module for Node 18 or newer: save it as run.mjs
import { ${files ? "readFile, " : ""}writeFile } from "node:fs/promises";
import { basename } from "node:path";
${
  files
    ? `
const media = async (path) => (await readFile(path)).toString("base64");
`
    : ""
}
const body = ${text};
const response = await fetch(${stringify(url)}, {
  method: "POST",
  headers: { "Content-Type": "application/json", ${JAVASCRIPT_KEY} },
  body: JSON.stringify(body),
});
const result = await response.json();
if (!response.ok) throw new Error(result.error);

for (const [index, content] of (result.images ?? []).entries()) {
  const name = basename(result.filenames[index]);
  if (content.slice(0, 12).includes("://")) {
    console.log(name, content); // uploaded: this is its address
    continue;
  }
  await writeFile(name, Buffer.from(content, "base64"));
  console.log(name);
}
`;
}
