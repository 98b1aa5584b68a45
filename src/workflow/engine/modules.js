// CommonJS, and the modules that are built in: zod, config, types, and those of node.js. ES modules
// reach the same objects through wrappers that Rust writes, so a file and its neighbour see one zod
// whatever way they ask for it.

const loaded = new Map();

const builtins = {
  "builtin:zod": () => z,
  "builtin:config": () => {
    const config = makeConfig(JSON.parse(host.context()));
    return Object.assign(Object.create(config), { __esModule: true, default: config });
  },
  // The values of the Node server's types module that files could have imported. Its types are
  // erased before.
  "builtin:types": () => {
    const zod = chosenZod();
    const ComfyNodeSchema = zod.object({
      inputs: zod.any(),
      class_type: zod.string(),
      _meta: zod.any().optional(),
    });
    return {
      __esModule: true,
      ComfyNodeSchema,
      ComfyPromptSchema: zod.record(zod.string(), ComfyNodeSchema),
      WorkflowSchema: zod.object({ RequestSchema: zod.object({}), generateWorkflow: zod.any() }),
      isWorkflow,
    };
  },
};
for (const [name, make] of Object.entries(nodeModules)) builtins[`builtin:node:${name}`] = make;

const isWorkflow = (value) =>
  typeof value === "object" &&
  value !== null &&
  "RequestSchema" in value &&
  "generateWorkflow" in value;

// The zod that workflow files get: the user's own, else the built-in one.
function chosenZod() {
  const module = load(host.resolve("/", "zod"));
  return module.z ?? module.default ?? module;
}

const requireFrom = (base) => (name) => load(host.resolve(base, String(name)));

function load(id) {
  const known = loaded.get(id);
  if (known) return known.exports;
  const module = { exports: {}, id, filename: id, loaded: false };
  if (builtins[id]) {
    module.exports = builtins[id]();
    loaded.set(id, module);
    return module.exports;
  }
  const kind = host.kind(id);
  if (kind === "esm") return host.import(id);
  loaded.set(id, module);
  try {
    if (kind === "json") module.exports = JSON.parse(host.source(id));
    else {
      const slash = id.lastIndexOf("/");
      module.require = requireFrom(id);
      module.last = host
        .compile(id)
        .call(
          module.exports,
          module.exports,
          module.require,
          module,
          id,
          id.slice(0, slash) || "/",
        );
    }
  } catch (error) {
    loaded.delete(id);
    throw error;
  }
  module.loaded = true;
  return module.exports;
}

// An ES module that also speaks CommonJS gets its `module` from here.
function commonJsOf(id) {
  const module = { exports: {}, id, filename: id };
  module.require = requireFrom(id);
  loaded.set(`mixed:${id}`, module);
  return module;
}

const NAME = /^[A-Za-z_$][\w$]*$/;
function namesOf(id) {
  const exports = load(id);
  if (typeof exports !== "object" && typeof exports !== "function") return [];
  return Object.keys(exports ?? {}).filter((name) => NAME.test(name) && name !== "default");
}
function defaultOf(id) {
  const exports = load(id);
  return exports?.__esModule && "default" in exports ? exports.default : exports;
}

function makeConfig({ values, samplers, schedulers, models, warmupCkpt }) {
  const zod = chosenZod();
  const folder = (dir, all) => {
    let made;
    // Made when asked for: a folder may hold thousands of names that no workflow looks at.
    return {
      dir,
      all,
      get enum() {
        return (made ??= zod.enum(all));
      },
    };
  };
  const known = Object.fromEntries(
    Object.entries(models).map(([name, { dir, all }]) => [name, folder(dir, all)]),
  );
  const unknown = new Map();
  return {
    ...values,
    samplers: zod.enum(samplers),
    schedulers: zod.enum(schedulers),
    // A folder that ComfyUI does not have is an empty one: the file loads, and only its own enum
    // accepts nothing.
    models: new Proxy(known, {
      get(target, name) {
        if (
          typeof name !== "string" ||
          name in target ||
          name in Object.prototype ||
          name === "then"
        )
          return target[name];
        if (!unknown.has(name)) unknown.set(name, folder(`${values.modelDir ?? ""}/${name}`, []));
        return unknown.get(name);
      },
    }),
    warmupCkpt: warmupCkpt ?? undefined,
  };
}
