/**
 * What a JSON schema means for a form: the kind of control, the initial value, what the browser can
 * check itself.
 */

import { copy, isLarge, number, numberText, parse, stringify } from "../json.js";
import { t } from "../i18n.js";

/** @typedef {Record<string, any>} Schema */
/**
 * @typedef {"media" | "text" | "long" | "number" | "integer" | "switch" | "choice" | "list"
 *   | "group" | "json" | "fixed"} Kind
 */

/**
 * Follows references inside the document and leaves optional wrappers away.
 * @param {Schema} schema
 * @param {Schema} root
 * @returns {Schema}
 */
export function resolve(schema, root) {
  let found = schema ?? {};
  for (let depth = 0; depth < 20; depth += 1) {
    if (typeof found.$ref === "string" && found.$ref.startsWith("#/")) {
      const { $ref, ...rest } = found;
      const target = $ref
        .slice(2)
        .split("/")
        .reduce(
          (/** @type {any} */ at, /** @type {string} */ part) =>
            at?.[part.replace(/~1/g, "/").replace(/~0/g, "~")],
          root,
        );
      found = { ...target, ...rest };
      continue;
    }
    const options = found.anyOf ?? found.oneOf;
    if (Array.isArray(options)) {
      const real = options.filter(
        (/** @type {any} */ one) => one?.type !== "null" && one?.const !== null,
      );
      const { anyOf, oneOf, ...rest } = found;
      if (real.length === 1) {
        found = { ...real[0], ...rest, nullable: real.length < options.length };
        continue;
      }
      if (real.length && real.every((/** @type {any} */ one) => "const" in one)) {
        found = {
          ...rest,
          enum: real.map((/** @type {any} */ one) => one.const),
          names: real.map((/** @type {any} */ one) => one.title ?? String(one.const)),
        };
        continue;
      }
    }
    if (Array.isArray(found.allOf) && found.allOf.length === 1) {
      const { allOf, ...rest } = found;
      found = { ...allOf[0], ...rest };
      continue;
    }
    if (Array.isArray(found.type)) {
      const real = found.type.filter((/** @type {string} */ one) => one !== "null");
      found = {
        ...found,
        type: real.length === 1 ? real[0] : undefined,
        nullable: real.length < found.type.length,
      };
    }
    return found;
  }
  return found;
}

const MEDIA_NAME = /^(image|mask|video|audio)$|_image$/;

/**
 * The kind of media that a property takes, as for `accept`; empty when it takes none.
 * @param {string} name
 * @param {Schema} schema
 */
export function mediaOf(name, schema) {
  const type = schema.contentMediaType;
  if (typeof type === "string" && /^(image|video|audio|\*)\//.test(type))
    return type === "*/*" ? "*/*" : `${type.split("/")[0]}/*`;
  if (type !== undefined || schema.type !== "string" || schema.enum) return "";
  const found = MEDIA_NAME.exec(name);
  return found ? `${found[1] && found[1] !== "mask" ? found[1] : "image"}/*` : "";
}

/** @param {string} name @param {Schema} schema resolved @returns {Kind} */
export function kindOf(name, schema) {
  if (mediaOf(name, schema)) return "media";
  if ("const" in schema) return "fixed";
  if (Array.isArray(schema.enum)) return "choice";
  switch (schema.type) {
    case "integer":
      return "integer";
    case "number":
      return "number";
    case "boolean":
      return "switch";
    case "string":
      return isLong(name, schema) ? "long" : "text";
    case "array":
      return schema.items && !Array.isArray(schema.items) ? "list" : "json";
    case "object":
      return schema.properties && Object.keys(schema.properties).length ? "group" : "json";
    default:
      return "json";
  }
}

/** @param {string} name @param {Schema} schema */
const isLong = (name, schema) =>
  Boolean(schema.multiline) ||
  /prompt|^text$|_text$|negative|positive|description/i.test(name) ||
  (schema.maxLength ?? 0) > 300 ||
  (typeof schema.default === "string" &&
    (schema.default.length > 60 || schema.default.includes("\n")));

/** Whether an integer is a seed, which may be random. @param {string} name @param {Kind} kind */
export const isSeed = (name, kind) => kind === "integer" && /seed$/i.test(name);

/** As a number, rounded where it has to be. @param {any} value */
const plain = (value) => (isLarge(value) ? Number(value.rawJSON) : Number(value));

/** A seed in the range that the schema allows. @param {Schema} schema */
export function randomSeed(schema) {
  const low = Math.max(0, plain(bound(schema, "minimum") ?? 0));
  const high = Math.min(
    Number.MAX_SAFE_INTEGER,
    plain(bound(schema, "maximum") ?? Number.MAX_SAFE_INTEGER),
  );
  const [a, b] = crypto.getRandomValues(new Uint32Array(2));
  const fraction = (a * 2 ** 21 + (b >>> 11)) / 2 ** 53;
  return Math.min(high, Math.floor(low + fraction * (high - low + 1)));
}

/** An inclusive end of the range. @param {Schema} schema @param {"minimum" | "maximum"} end */
export function bound(schema, end) {
  const exclusive = schema[end === "minimum" ? "exclusiveMinimum" : "exclusiveMaximum"];
  if (typeof exclusive === "number")
    return schema.type === "integer" ? exclusive + (end === "minimum" ? 1 : -1) : exclusive;
  return schema[end];
}

/** The step of a number's control. @param {Schema} schema */
export function stepOf(schema) {
  if (typeof schema.multipleOf === "number") return schema.multipleOf;
  if (typeof schema.step === "number") return schema.step;
  if (schema.type === "integer") return 1;
  const [low, high] = [plain(bound(schema, "minimum")), plain(bound(schema, "maximum"))];
  return Number.isFinite(high - low) && high - low > 20 ? 0.1 : 0.01;
}

/** Whether a slider helps. @param {Schema} schema */
export function hasSlider(schema) {
  const [low, high] = [bound(schema, "minimum"), bound(schema, "maximum")];
  return (
    low != null && high != null && plain(high) > plain(low) && plain(high) - plain(low) <= 1_000_000
  );
}

/** @param {Kind} kind @param {Schema} schema */
export function initial(kind, schema) {
  if (schema.default !== undefined) return copy(schema.default);
  if (kind === "fixed") return schema.const;
  return undefined;
}

/**
 * What is wrong with a value, in a sentence; empty when nothing is. Only what a browser can know:
 * the server judges.
 * @param {any} value `undefined` when the field is empty
 * @param {Schema} schema resolved
 * @param {Kind} kind
 * @param {boolean} required
 * @returns {string}
 */
export function problem(value, schema, kind, required) {
  if (value === undefined || (value === "" && (kind === "media" || kind === "choice")))
    return required ? t("This is needed.") : "";
  if (value === null && schema.nullable) return "";
  if (kind === "integer" || kind === "number") return numberProblem(value, schema, kind);
  if (typeof value === "string" && kind !== "media" && kind !== "choice") {
    const length = [...value].length;
    if (schema.minLength !== undefined && length < schema.minLength)
      return schema.minLength === 1
        ? t("This is needed.")
        : t("At least {n} characters.", { n: schema.minLength });
    if (schema.maxLength !== undefined && length > schema.maxLength)
      return t("At most {n} characters.", { n: schema.maxLength });
    if (schema.pattern !== undefined && !matches(schema.pattern, value))
      return t("This does not have the form {pattern}.", { pattern: schema.pattern });
  }
  if (Array.isArray(value)) {
    if (schema.minItems !== undefined && value.length < schema.minItems)
      return t("At least {n} entries.", { n: schema.minItems });
    if (schema.maxItems !== undefined && value.length > schema.maxItems)
      return t("At most {n} entries.", { n: schema.maxItems });
  }
  return "";
}

/** @param {any} value @param {Schema} schema @param {Kind} kind */
function numberProblem(value, schema, kind) {
  const amount = isLarge(value) ? BigInt(value.rawJSON) : value;
  if (typeof amount !== "bigint" && (typeof amount !== "number" || !Number.isFinite(amount)))
    return t("A number is needed.");
  if (kind === "integer" && typeof amount === "number" && !Number.isInteger(amount))
    return t("A whole number is needed.");
  const [low, high] = [bound(schema, "minimum"), bound(schema, "maximum")].map((end) =>
    isLarge(end) ? BigInt(end.rawJSON) : end,
  );
  if (low != null && amount < low)
    return t("At least {n}.", { n: numberText(bound(schema, "minimum")) });
  if (high != null && amount > high)
    return t("At most {n}.", { n: numberText(bound(schema, "maximum")) });
  if (schema.exclusiveMinimum !== undefined && amount <= schema.exclusiveMinimum)
    return t("More than {n}.", { n: schema.exclusiveMinimum });
  if (schema.exclusiveMaximum !== undefined && amount >= schema.exclusiveMaximum)
    return t("Less than {n}.", { n: schema.exclusiveMaximum });
  const step = schema.multipleOf;
  if (
    typeof step === "number" &&
    step > 0 &&
    typeof amount === "number" &&
    Math.abs(amount / step - Math.round(amount / step)) > 1e-9
  )
    return t("A multiple of {n}.", { n: step });
  return "";
}

/** @param {string} pattern @param {string} value */
function matches(pattern, value) {
  try {
    return new RegExp(pattern, "u").test(value);
  } catch {
    return true; // another dialect: the server judges
  }
}

/**
 * A text of JSON, or what is wrong with it.
 * @param {string} text
 * @returns {{value?: any, problem?: string}}
 */
export function parsed(text) {
  if (text.trim() === "") return {};
  try {
    return { value: parse(text) };
  } catch (error) {
    return {
      problem: t("This is not JSON: {reason}", {
        reason: error instanceof Error ? error.message : "",
      }),
    };
  }
}

export { number, numberText, stringify };
