// What can be wrong with a value, and how it is said: types, codes, messages, the error.

const ZodParsedType = {};
for (const name of [
  "string",
  "nan",
  "number",
  "integer",
  "float",
  "boolean",
  "date",
  "bigint",
  "symbol",
  "function",
  "undefined",
  "null",
  "array",
  "object",
  "unknown",
  "promise",
  "void",
  "never",
  "map",
  "set",
]) {
  ZodParsedType[name] = name;
}

function getParsedType(data) {
  switch (typeof data) {
    case "number":
      return Number.isNaN(data) ? "nan" : "number";
    case "object":
      if (data === null) return "null";
      if (Array.isArray(data)) return "array";
      if (typeof data.then === "function" && typeof data.catch === "function") return "promise";
      if (data instanceof Map) return "map";
      if (data instanceof Set) return "set";
      if (data instanceof Date) return "date";
      return "object";
    case "string":
    case "boolean":
    case "bigint":
    case "symbol":
    case "function":
    case "undefined":
      return typeof data;
    default:
      return "unknown";
  }
}

const ZodIssueCode = {};
for (const code of [
  "invalid_type",
  "invalid_literal",
  "custom",
  "invalid_union",
  "invalid_union_discriminator",
  "invalid_enum_value",
  "unrecognized_keys",
  "invalid_arguments",
  "invalid_return_type",
  "invalid_date",
  "invalid_string",
  "too_small",
  "too_big",
  "invalid_intersection_types",
  "not_multiple_of",
  "not_finite",
]) {
  ZodIssueCode[code] = code;
}

const quoteAll = (values, separator) =>
  values.map((v) => (typeof v === "string" ? `'${v}'` : v)).join(separator);
const showLiteral = (value) =>
  JSON.stringify(value, (_, v) => (typeof v === "bigint" ? v.toString() : v));

function sizeWords(issue, words) {
  return issue.exact ? words[0] : issue.inclusive ? words[1] : words[2];
}

// As V8 writes dates. The engine leaves the name of the zone out.
function showDate(value) {
  const text = String(new Date(Number(value)));
  return text.endsWith("GMT+0000") ? `${text} (Coordinated Universal Time)` : text;
}

const FROM = ["exactly equal to", "greater than or equal to", "greater than"];
const SMALL = {
  array: (i) =>
    `Array must contain ${sizeWords(i, ["exactly", "at least", "more than"])} ` +
    `${i.minimum} element(s)`,
  string: (i) =>
    `String must contain ${sizeWords(i, ["exactly", "at least", "over"])} ` +
    `${i.minimum} character(s)`,
  number: (i) => `Number must be ${sizeWords(i, FROM)} ${i.minimum}`,
  date: (i) => `Date must be ${sizeWords(i, FROM)} ${showDate(i.minimum)}`,
};
SMALL.bigint = SMALL.number;

const BIG = {
  array: (i) =>
    `Array must contain ${sizeWords(i, ["exactly", "at most", "less than"])} ` +
    `${i.maximum} element(s)`,
  string: (i) =>
    `String must contain ${sizeWords(i, ["exactly", "at most", "under"])} ` +
    `${i.maximum} character(s)`,
  number: (i) =>
    `Number must be ${sizeWords(i, ["exactly", "less than or equal to", "less than"])} ` +
    `${i.maximum}`,
  bigint: (i) =>
    `BigInt must be ${sizeWords(i, ["exactly", "less than or equal to", "less than"])} ` +
    `${i.maximum}`,
  date: (i) =>
    `Date must be ${sizeWords(i, ["exactly", "smaller than or equal to", "smaller than"])} ` +
    `${showDate(i.maximum)}`,
};

function stringMessage(validation) {
  if (typeof validation === "object") {
    if ("includes" in validation) {
      const where =
        typeof validation.position === "number"
          ? ` at one or more positions greater than or equal to ${validation.position}`
          : "";
      return `Invalid input: must include "${validation.includes}"${where}`;
    }
    if ("startsWith" in validation)
      return `Invalid input: must start with "${validation.startsWith}"`;
    return `Invalid input: must end with "${validation.endsWith}"`;
  }
  return validation === "regex" ? "Invalid" : `Invalid ${validation}`;
}

const MESSAGES = {
  invalid_type: (i) =>
    i.received === "undefined" ? "Required" : `Expected ${i.expected}, received ${i.received}`,
  invalid_literal: (i) => `Invalid literal value, expected ${showLiteral(i.expected)}`,
  unrecognized_keys: (i) => `Unrecognized key(s) in object: ${quoteAll(i.keys, ", ")}`,
  invalid_union: () => "Invalid input",
  invalid_union_discriminator: (i) =>
    `Invalid discriminator value. Expected ${quoteAll(i.options, " | ")}`,
  invalid_enum_value: (i) =>
    `Invalid enum value. Expected ${quoteAll(i.options, " | ")}, received '${i.received}'`,
  invalid_arguments: () => "Invalid function arguments",
  invalid_return_type: () => "Invalid function return type",
  invalid_date: () => "Invalid date",
  invalid_string: (i) => stringMessage(i.validation),
  too_small: (i) => (SMALL[i.type] ?? (() => "Invalid input"))(i),
  too_big: (i) => (BIG[i.type] ?? (() => "Invalid input"))(i),
  custom: () => "Invalid input",
  invalid_intersection_types: () => "Intersection results could not be merged",
  not_multiple_of: (i) => `Number must be a multiple of ${i.multipleOf}`,
  not_finite: () => "Number must be finite",
};

const defaultErrorMap = (issue) => ({ message: MESSAGES[issue.code]?.(issue) ?? "Invalid input" });
let overrideErrorMap = null;
const setErrorMap = (map) => {
  overrideErrorMap = map;
};
const getErrorMap = () => overrideErrorMap ?? defaultErrorMap;

class ZodError extends Error {
  constructor(issues) {
    super();
    this.name = "ZodError";
    this.issues = issues;
    Object.defineProperty(this, "stack", { enumerable: false });
  }
  static create(issues) {
    return new ZodError(issues);
  }
  static assert(value) {
    if (!(value instanceof ZodError)) throw new Error(`Not a ZodError: ${value}`);
  }
  get errors() {
    return this.issues;
  }
  get message() {
    return JSON.stringify(this.issues, (_, v) => (typeof v === "bigint" ? v.toString() : v), 2);
  }
  get isEmpty() {
    return this.issues.length === 0;
  }
  toString() {
    return this.message;
  }
  addIssue(issue) {
    this.issues = [...this.issues, issue];
  }
  addIssues(issues = []) {
    this.issues = [...this.issues, ...issues];
  }
  get formErrors() {
    return this.flatten();
  }
  flatten(map = (issue) => issue.message) {
    const formErrors = [];
    const fieldErrors = {};
    for (const issue of this.issues) {
      if (issue.path.length > 0) (fieldErrors[issue.path[0]] ??= []).push(map(issue));
      else formErrors.push(map(issue));
    }
    return { formErrors, fieldErrors };
  }
  format(map = (issue) => issue.message) {
    const root = { _errors: [] };
    const place = (error) => {
      for (const issue of error.issues) {
        if (issue.code === "invalid_union") issue.unionErrors.forEach(place);
        else {
          let node = root;
          for (const step of issue.path) node = node[step] ??= { _errors: [] };
          node._errors.push(map(issue));
        }
      }
    };
    place(this);
    return root;
  }
}
