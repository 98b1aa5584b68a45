// JSON Schema (2020-12, as OpenAPI 3.1 has it) and the markdown table, from the schemas of a
// workflow. Works on `_def` as zod 3 shapes it, hence on the built-in and on a real zod 3; a real
// zod 4 converts itself.

const kindOf = (schema) => schema?._def?.typeName;
const escapeRegex = (text) => text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
const STRING_FORMATS = {
  email: "email",
  url: "uri",
  uuid: "uuid",
  datetime: "date-time",
  date: "date",
  time: "time",
  duration: "duration",
};

// JSON Schema knows no flags and no infinite numbers: a pattern that needs flags to mean the same
// is left out, and so are limits that are none. These flags change nothing here: JSON Schema reads
// patterns as Unicode anyway.
const HARMLESS_FLAGS = /^[dgu]*$/;
// Of several limits the tightest counts.
function tighten(out, name, value, pick) {
  if (Number.isFinite(value)) out[name] = name in out ? pick(out[name], value) : value;
}

function jsonString(schema) {
  const out = { type: "string" };
  const patterns = [];
  for (const check of schema._def.checks ?? []) {
    switch (check.kind) {
      case "min":
        tighten(out, "minLength", Math.max(0, check.value), Math.max);
        break;
      case "max":
        tighten(out, "maxLength", check.value, Math.min);
        break;
      case "length":
        tighten(out, "minLength", check.value, Math.max);
        tighten(out, "maxLength", check.value, Math.min);
        break;
      case "regex":
        if (HARMLESS_FLAGS.test(check.regex.flags)) patterns.push(check.regex.source);
        break;
      case "startsWith":
        patterns.push(`^${escapeRegex(check.value)}`);
        break;
      case "endsWith":
        patterns.push(`${escapeRegex(check.value)}$`);
        break;
      case "includes":
        patterns.push(escapeRegex(check.value));
        break;
      case "ip":
        out.format = check.version === "v6" ? "ipv6" : check.version === "v4" ? "ipv4" : "ip";
        break;
      case "base64":
      case "base64url":
        out.contentEncoding = check.kind;
        break;
      default:
        if (STRING_FORMATS[check.kind]) out.format = STRING_FORMATS[check.kind];
    }
  }
  if (patterns.length === 1) out.pattern = patterns[0];
  else if (patterns.length > 1) out.allOf = patterns.map((pattern) => ({ pattern }));
  return out;
}

function jsonNumber(schema, type) {
  const out = { type };
  for (const { kind, value, inclusive } of schema._def.checks ?? []) {
    const plain = typeof value === "bigint" ? Number(value) : value;
    if (kind === "int") out.type = "integer";
    else if (kind === "min")
      tighten(out, inclusive ? "minimum" : "exclusiveMinimum", plain, Math.max);
    else if (kind === "max")
      tighten(out, inclusive ? "maximum" : "exclusiveMaximum", plain, Math.min);
    else if (kind === "multipleOf" && plain !== 0 && Number.isFinite(plain))
      out.multipleOf = Math.abs(plain);
  }
  // Also of an inclusive and an exclusive limit; of equal ones the exclusive is the tighter.
  if ("minimum" in out && "exclusiveMinimum" in out)
    delete out[out.minimum > out.exclusiveMinimum ? "exclusiveMinimum" : "minimum"];
  if ("maximum" in out && "exclusiveMaximum" in out)
    delete out[out.maximum < out.exclusiveMaximum ? "exclusiveMaximum" : "maximum"];
  return out;
}

function mayBeAbsent(schema, depth = 0) {
  const def = schema?._def ?? {};
  if (depth > 20) return false;
  switch (def.typeName) {
    case "ZodOptional":
    case "ZodDefault":
    case "ZodCatch":
    case "ZodAny":
    case "ZodUnknown":
    case "ZodUndefined":
    case "ZodVoid":
      return true;
    case "ZodNullable":
    case "ZodReadonly":
      return mayBeAbsent(def.innerType, depth + 1);
    case "ZodBranded":
      return mayBeAbsent(def.type, depth + 1);
    case "ZodEffects":
      return mayBeAbsent(def.schema, depth + 1);
    case "ZodPipeline":
      return mayBeAbsent(def.in, depth + 1);
    case "ZodLazy":
      return mayBeAbsent(def.getter(), depth + 1);
    case "ZodUnion":
      return def.options.some((option) => mayBeAbsent(option, depth + 1));
    default:
      return false;
  }
}

// A default that is the same when asked twice can be documented; a random one cannot.
function steadyDefault(schema) {
  try {
    const [first, second] = [
      JSON.stringify(schema._def.defaultValue()),
      JSON.stringify(schema._def.defaultValue()),
    ];
    return { text: first, steady: first === second && first !== undefined };
  } catch {
    return { text: undefined, steady: false };
  }
}

function jsonObject(schema, depth) {
  const out = { type: "object", properties: {} };
  const required = [];
  for (const [key, field] of Object.entries(schema.shape)) {
    out.properties[key] = toJson(field, depth + 1);
    if (!mayBeAbsent(field)) required.push(key);
  }
  if (required.length) out.required = required;
  const { unknownKeys, catchall } = schema._def;
  if (catchall && kindOf(catchall) !== "ZodNever")
    out.additionalProperties = toJson(catchall, depth + 1);
  else if (unknownKeys === "strict") out.additionalProperties = false;
  return out;
}

function jsonNullable(inner) {
  if (typeof inner.type === "string" && !("enum" in inner) && !("const" in inner))
    return { ...inner, type: [inner.type, "null"] };
  const { description, default: fallback, ...rest } = inner;
  return {
    anyOf: [rest, { type: "null" }],
    ...(description === undefined ? {} : { description }),
    ...(fallback === undefined ? {} : { default: fallback }),
  };
}

function jsonEnum(values) {
  const types = new Set(values.map((value) => typeof value));
  const out =
    types.size === 1 ? { type: [...types][0] } : types.size === 0 ? { type: "string" } : {};
  return values.length ? { ...out, enum: values } : out;
}

function jsonLiteral(value) {
  if (value === null) return { type: "null" };
  if (["string", "number", "boolean"].includes(typeof value))
    return { type: typeof value, const: value };
  return typeof value === "bigint" ? { type: "integer", const: Number(value) } : {};
}

function sizes(def, low, high) {
  const out = {};
  for (const limit of [def.exactLength, def.minLength, def.minSize])
    tighten(out, low, limit?.value, Math.max);
  for (const limit of [def.exactLength, def.maxLength, def.maxSize])
    tighten(out, high, limit?.value, Math.min);
  return out;
}

function bare(schema, depth) {
  const def = schema._def;
  switch (def.typeName) {
    case "ZodString":
      return jsonString(schema);
    case "ZodNumber":
      return jsonNumber(schema, "number");
    case "ZodBigInt":
      return jsonNumber(schema, "integer");
    case "ZodBoolean":
      return { type: "boolean" };
    case "ZodDate":
      return { type: "string", format: "date-time" };
    case "ZodLiteral":
      return jsonLiteral(def.value);
    case "ZodEnum":
      return jsonEnum(def.values);
    case "ZodNativeEnum":
      return jsonEnum(
        Object.keys(def.values)
          .filter((key) => typeof def.values[def.values[key]] !== "number")
          .map((key) => def.values[key]),
      );
    case "ZodNull":
      return { type: "null" };
    case "ZodNever":
    case "ZodUndefined":
    case "ZodVoid":
      return { not: {} };
    case "ZodObject":
      return jsonObject(schema, depth);
    case "ZodArray":
      return {
        type: "array",
        items: toJson(def.type, depth + 1),
        ...sizes(def, "minItems", "maxItems"),
      };
    case "ZodSet":
      return {
        type: "array",
        uniqueItems: true,
        items: toJson(def.valueType, depth + 1),
        ...sizes(def, "minItems", "maxItems"),
      };
    case "ZodTuple": {
      const out = {
        type: "array",
        prefixItems: def.items.map((item) => toJson(item, depth + 1)),
        minItems: def.items.length,
      };
      return def.rest
        ? { ...out, items: toJson(def.rest, depth + 1) }
        : { ...out, maxItems: def.items.length };
    }
    case "ZodRecord": {
      const names = toJson(def.keyType, depth + 1);
      const out = { type: "object", additionalProperties: toJson(def.valueType, depth + 1) };
      return Object.keys(names).length > 1 ? { ...out, propertyNames: names } : out;
    }
    case "ZodMap":
      return { type: "object", additionalProperties: toJson(def.valueType, depth + 1) };
    case "ZodUnion": {
      const options = def.options.map((option) => toJson(option, depth + 1));
      if (
        options.length &&
        options.every((option) => "const" in option && Object.keys(option).length === 2)
      )
        return jsonEnum(options.map((option) => option.const));
      return { anyOf: options };
    }
    case "ZodDiscriminatedUnion":
      return { oneOf: [...def.options.values()].map((option) => toJson(option, depth + 1)) };
    case "ZodIntersection":
      return { allOf: [toJson(def.left, depth + 1), toJson(def.right, depth + 1)] };
    case "ZodOptional":
    case "ZodReadonly":
      return toJson(def.innerType, depth + 1);
    case "ZodCatch":
      return toJson(def.innerType, depth + 1);
    case "ZodNullable":
      return jsonNullable(toJson(def.innerType, depth + 1));
    case "ZodDefault": {
      const { text, steady } = steadyDefault(schema);
      const inner = toJson(def.innerType, depth + 1);
      return steady ? { ...inner, default: JSON.parse(text) } : inner;
    }
    case "ZodBranded":
    case "ZodPromise":
      return toJson(def.type, depth + 1);
    case "ZodEffects":
      return toJson(def.schema, depth + 1);
    case "ZodPipeline":
      return toJson(def.in, depth + 1);
    case "ZodLazy":
      return toJson(def.getter(), depth + 1);
    default:
      return {};
  }
}

const DEEPEST = 16;
function toJson(schema, depth = 0) {
  if (schema?._zod) return fromZod4(schema);
  // A schema that contains itself is cut off here; what is below may be anything.
  if (depth > DEEPEST || !schema?._def) return {};
  const out = bare(schema, depth);
  const meta = schema._def.meta ?? {};
  for (const name of ["title", "examples", "deprecated"])
    if (meta[name] !== undefined) out[name] = meta[name];
  if (schema.description !== undefined) out.description = schema.description;
  return out;
}

function fromZod4(schema) {
  const options = {
    unrepresentable: "any",
    io: "input",
    target: "draft-2020-12",
    reused: "inline",
  };
  const convert = chosenZod().toJSONSchema;
  if (typeof convert !== "function") return {};
  const { $schema, ...rest } = convert(schema, options);
  return rest;
}

function typeWord(schema) {
  const def = schema._def;
  switch (def.typeName) {
    case "ZodArray":
      return `${typeWord(def.type)}[]`;
    case "ZodEnum":
      return `enum (${def.values.map((value) => `\`${value}\``).join(", ")})`;
    case "ZodNativeEnum":
      return `enum (${(bare(schema, 0).enum ?? []).map((value) => `\`${value}\``).join(", ")})`;
    case "ZodUnion":
      return def.options.map(typeWord).join(", ");
    case "ZodDiscriminatedUnion":
      return "object";
    case "ZodLiteral":
      return `literal (${JSON.stringify(def.value)})`;
    case "ZodNullable":
      return `${typeWord(def.innerType)}, null`;
    case "ZodOptional":
    case "ZodDefault":
    case "ZodCatch":
    case "ZodReadonly":
      return typeWord(def.innerType);
    case "ZodEffects":
      return typeWord(def.schema);
    case "ZodPipeline":
      return typeWord(def.in);
    case "ZodBranded":
      return typeWord(def.type);
    default:
      return def.typeName.replace("Zod", "").toLowerCase();
  }
}

function descriptionOf(schema) {
  for (let at = schema; at; at = at._def?.innerType ?? at._def?.schema)
    if (at.description) return at.description;
  return "";
}

function defaultWord(schema) {
  for (let at = schema; at?._def; at = at._def.innerType ?? at._def.schema) {
    if (kindOf(at) !== "ZodDefault") continue;
    const { text, steady } = steadyDefault(at);
    return steady ? text : "*generated*";
  }
  return mayBeAbsent(schema) ? "-" : "**Required**";
}

const cell = (text) => String(text).replace(/\r?\n/g, " ").replace(/\|/g, "\\|");

// `null` for a real zod 4: then Rust makes the table from the JSON Schema.
function table(schema) {
  if (schema?._zod || kindOf(schema) !== "ZodObject") return null;
  const rows = Object.entries(schema.shape).map(
    ([key, field]) =>
      `| ${cell(key)} | ${cell(typeWord(field))} ` +
      `| ${cell(descriptionOf(field))} | ${cell(defaultWord(field))} |\n`,
  );
  return `| Field | Type | Description | Default |\n|-|-|-|-|\n${rows.join("")}`;
}
