// What `import { z } from "zod"` gives: zod 3's names, and those of zod 4 that request schemas use.

const classes = {
  ZodType,
  ZodString,
  ZodNumber,
  ZodBigInt,
  ZodBoolean,
  ZodDate,
  ZodLiteral,
  ZodEnum,
  ZodNativeEnum,
  ZodAny,
  ZodUnknown,
  ZodNever,
  ZodUndefined,
  ZodVoid,
  ZodNull,
  ZodNaN,
  ZodSymbol,
  ZodObject,
  ZodArray,
  ZodTuple,
  ZodRecord,
  ZodMap,
  ZodSet,
  ZodUnion,
  ZodDiscriminatedUnion,
  ZodIntersection,
  ZodOptional,
  ZodNullable,
  ZodDefault,
  ZodCatch,
  ZodReadonly,
  ZodBranded,
  ZodLazy,
  ZodPromise,
  ZodEffects,
  ZodPipeline,
  ZodFunction,
};
const ZodFirstPartyTypeKind = Object.fromEntries(
  Object.keys(classes)
    .filter((name) => name !== "ZodType")
    .map((name) => [name, name]),
);

const coerced = (Type) => (params) =>
  Type.create({ ...(typeof params === "string" ? { message: params } : params), coerce: true });
const coerce = {
  string: coerced(ZodString),
  number: coerced(ZodNumber),
  boolean: coerced(ZodBoolean),
  bigint: coerced(ZodBigInt),
  date: coerced(ZodDate),
};

function custom(check, params = {}, fatal) {
  if (!check) return ZodAny.create();
  return ZodAny.create().superRefine((data, ctx) => {
    const complain = () => {
      const said = refusal(typeof params === "function" ? params(data) : params);
      ctx.addIssue({ code: "custom", ...said, fatal: said.fatal ?? fatal ?? true });
    };
    const result = check(data);
    if (isPromise(result))
      return result.then((good) => {
        if (!good) complain();
      });
    if (!result) complain();
  });
}

function stringbool(params = {}) {
  const truthy = params.truthy ?? ["true", "1", "yes", "on", "y", "enabled"];
  const falsy = params.falsy ?? ["false", "0", "no", "off", "n", "disabled"];
  return ZodString.create(params).transform((text, ctx) => {
    const word = params.case === "sensitive" ? text : text.toLowerCase();
    if (truthy.includes(word)) return true;
    if (falsy.includes(word)) return false;
    ctx.addIssue({ code: "invalid_enum_value", received: text, options: [...truthy, ...falsy] });
    return undefined;
  });
}

const z = {
  ...classes,
  ZodSchema: ZodType,
  Schema: ZodType,
  ZodTransformer: ZodEffects,
  ZodPipe: ZodPipeline,
  ZodError,
  ZodIssueCode,
  ZodParsedType,
  ZodFirstPartyTypeKind,
  getParsedType,
  defaultErrorMap,
  setErrorMap,
  getErrorMap,
  quotelessJson: (value) => JSON.stringify(value, null, 2).replace(/"([^"]+)":/g, "$1:"),
  NEVER: INVALID,
  INVALID,
  OK: ok,
  DIRTY: dirty,
  coerce,
  custom,
  stringbool,
  string: ZodString.create,
  number: ZodNumber.create,
  bigint: ZodBigInt.create,
  boolean: ZodBoolean.create,
  date: ZodDate.create,
  literal: ZodLiteral.create,
  enum: ZodEnum.create,
  nativeEnum: ZodNativeEnum.create,
  any: ZodAny.create,
  unknown: ZodUnknown.create,
  never: ZodNever.create,
  undefined: ZodUndefined.create,
  void: ZodVoid.create,
  null: ZodNull.create,
  nan: ZodNaN.create,
  symbol: ZodSymbol.create,
  object: ZodObject.create,
  strictObject: ZodObject.strictCreate,
  looseObject: (shape, params) => ZodObject.create(shape, params).passthrough(),
  array: ZodArray.create,
  tuple: ZodTuple.create,
  record: ZodRecord.create,
  map: ZodMap.create,
  set: ZodSet.create,
  partialRecord: ZodRecord.create,
  union: ZodUnion.create,
  discriminatedUnion: ZodDiscriminatedUnion.create,
  intersection: ZodIntersection.create,
  optional: ZodOptional.create,
  nullable: ZodNullable.create,
  nullish: (schema) => schema.nullish(),
  lazy: ZodLazy.create,
  promise: ZodPromise.create,
  function: ZodFunction.create,
  effect: ZodEffects.create,
  transformer: ZodEffects.create,
  preprocess: ZodEffects.createWithPreprocess,
  pipeline: ZodPipeline.create,
  pipe: ZodPipeline.create,
  transform: (change) => ZodAny.create().transform(change),
  _default: (schema, value) => schema.default(value),
  readonly: (schema) => schema.readonly(),
  instanceof: (Type, params = { message: `Input not instance of ${Type.name}` }) =>
    custom((data) => data instanceof Type, params),
  ostring: () => ZodString.create().optional(),
  onumber: () => ZodNumber.create().optional(),
  oboolean: () => ZodBoolean.create().optional(),
  late: { object: ZodObject.lazycreate },
  // zod 4
  int: (params) => ZodNumber.create(params).int(),
  float32: ZodNumber.create,
  float64: ZodNumber.create,
  int32: (params) => ZodNumber.create(params).int().gte(-2147483648).lte(2147483647),
  uint32: (params) => ZodNumber.create(params).int().gte(0).lte(4294967295),
  iso: {
    datetime: (options) => ZodString.create().datetime(options),
    date: (options) => ZodString.create().date(options),
    time: (options) => ZodString.create().time(options),
    duration: (options) => ZodString.create().duration(options),
  },
  keyof: (schema) => schema.keyof(),
  flattenError: (error) => error.flatten(),
  formatError: (error) => error.format(),
  prettifyError: (error) =>
    error.issues
      .map(
        (issue) =>
          `✖ ${issue.message}${issue.path.length ? `\n  → at ${issue.path.join(".")}` : ""}`,
      )
      .join("\n"),
  toJSONSchema: (schema) => globalThis.__comfyui_api.jsonSchema(schema),
  config: () => ({}),
  locales: {},
  globalRegistry: {
    add() {
      return this;
    },
    get: (schema) => schema.meta(),
  },
};
for (const format of [
  "email",
  "url",
  "uuid",
  "guid",
  "emoji",
  "nanoid",
  "cuid",
  "cuid2",
  "ulid",
  "base64",
  "base64url",
  "ipv4",
  "ipv6",
  "cidrv4",
  "cidrv6",
  "jwt",
]) {
  z[format] = (params) => ZodString.create()[format](params);
}
z.uuidv4 = z.uuidv6 = z.uuidv7 = z.uuid;
z.z = z;
z.default = z;
