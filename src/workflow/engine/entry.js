// What Rust calls: open a file, describe its workflow, run it.

let workflow = null;

function foundIn(...candidates) {
  for (const candidate of candidates) {
    if (isWorkflow(candidate)) return candidate;
    if (isWorkflow(candidate?.default)) return candidate.default;
    if (isWorkflow(candidate?.workflow)) return candidate.workflow;
  }
  return null;
}

async function open(id) {
  if (host.kind(id) === "esm") {
    const namespace = await import(id);
    workflow = foundIn(namespace.default, loaded.get(`mixed:${id}`)?.exports, namespace);
  } else {
    const exports = load(id);
    workflow = foundIn(loaded.get(id).last, exports);
  }
  if (!workflow) return ["none"];
  const { RequestSchema, generateWorkflow, summary, description } = workflow;
  integrity.remember();
  if (typeof RequestSchema?.safeParse !== "function")
    return ["bad", "its RequestSchema is not a zod schema"];
  if (typeof generateWorkflow !== "function")
    return ["bad", "its generateWorkflow is not a function"];
  return [
    "ok",
    JSON.stringify({
      summary: textOf(summary),
      description: textOf(description),
      schema: toJson(RequestSchema),
      table: table(RequestSchema),
    }),
  ];
}

const textOf = (value) => (value === undefined || value === null ? null : String(value));

// JSON as far as it goes: a bigint becomes a number when that is exact, a Map an object, a Set a
// list.
function plain(_, value) {
  if (typeof value === "bigint")
    return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString();
  if (value instanceof Map) return Object.fromEntries(value);
  if (value instanceof Set) return [...value];
  return value;
}

async function call(text) {
  clock.clear();
  const { RequestSchema } = workflow;
  const input = JSON.parse(text);
  const parsed = await (RequestSchema.safeParseAsync
    ? RequestSchema.safeParseAsync(input)
    : RequestSchema.safeParse(input));
  if (!parsed.success) return ["invalid", JSON.stringify(parsed.error.issues, plain)];
  // Before the workflow sees it, which may change it.
  const echoed = JSON.stringify(parsed.data, plain);
  const prompt = await workflow.generateWorkflow(parsed.data);
  if (typeof prompt !== "object" || prompt === null || Array.isArray(prompt))
    return ["odd", prompt === null ? "null" : Array.isArray(prompt) ? "an array" : typeof prompt];
  return ["ok", echoed ?? "null", JSON.stringify(prompt, plain)];
}

const api = Object.freeze({
  open,
  call,
  load,
  namesOf,
  defaultOf,
  commonJsOf,
  clock: Object.freeze(clock),
  changed: integrity.changed,
  jsonSchema: toJson,
});
Object.defineProperty(globalThis, "__comfyui_api", {
  value: api,
  writable: false,
  configurable: false,
  enumerable: false,
});
integrity.watch([
  z,
  load("builtin:config"),
  ...Object.keys(nodeModules).map((name) => load(`builtin:node:${name}`)),
]);
