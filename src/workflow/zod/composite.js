// Schemas made of other schemas: objects, unions, intersections.

// Collects parts: one aborted part aborts the whole, one dirty part makes it dirty.
class Gathering {
  constructor() {
    this.status = VALID;
  }
  take(result) {
    if (result.status > this.status) this.status = result.status;
    return result.value;
  }
  done(value) {
    return this.status === 2 ? INVALID : { status: this.status, value };
  }
}

class ZodObject extends ZodType {
  get shape() {
    return this._def.shape();
  }
  *_run(data, place) {
    if (getParsedType(data) !== "object") return wrongType(this, place, data, "object");
    const shape = this.shape;
    const { catchall, unknownKeys } = this._def;
    const gathering = new Gathering();
    const result = {};
    const store = (key, value) => {
      if (key !== "__proto__" && (value !== undefined || key in data)) result[key] = value;
    };
    for (const key of Object.keys(shape))
      store(key, gathering.take(yield* shape[key]._run(data[key], place.at(key))));
    const closed = catchall instanceof ZodNever;
    if (!(closed && unknownKeys === "strip")) {
      const extra = [];
      for (const key in data)
        if (!Object.prototype.hasOwnProperty.call(shape, key)) extra.push(key);
      if (!closed) {
        for (const key of extra)
          store(key, gathering.take(yield* catchall._run(data[key], place.at(key))));
      } else if (unknownKeys === "passthrough") {
        for (const key of extra) store(key, data[key]);
      } else if (extra.length > 0) {
        addIssue(this, place, data, {
          code: "unrecognized_keys",
          keys: extra,
          message: this._def.strictMessage,
        });
        gathering.take(dirty());
      }
    }
    return gathering.done(result);
  }
  strict(message) {
    return this._with({ unknownKeys: "strict", strictMessage: rule(message).message });
  }
  strip() {
    return this._with({ unknownKeys: "strip" });
  }
  passthrough() {
    return this._with({ unknownKeys: "passthrough" });
  }
  loose() {
    return this.passthrough();
  }
  nonstrict() {
    return this.passthrough();
  }
  catchall(schema) {
    return this._with({ catchall: schema });
  }
  _shaped(shape) {
    return this._with({ shape: () => shape });
  }
  extend(shape) {
    return this._shaped({ ...this.shape, ...(shape instanceof ZodObject ? shape.shape : shape) });
  }
  augment(shape) {
    return this.extend(shape);
  }
  safeExtend(shape) {
    return this.extend(shape);
  }
  merge(other) {
    const shape = { ...this.shape, ...other.shape };
    return new ZodObject({
      typeName: "ZodObject",
      unknownKeys: other._def.unknownKeys,
      catchall: other._def.catchall,
      shape: () => shape,
    });
  }
  setKey(key, schema) {
    return this.extend({ [key]: schema });
  }
  _select(keep) {
    return this._shaped(
      Object.fromEntries(Object.entries(this.shape).filter(([key]) => keep(key))),
    );
  }
  pick(mask) {
    return this._select((key) => mask[key]);
  }
  omit(mask) {
    return this._select((key) => !mask[key]);
  }
  _map(mask, change) {
    return this._shaped(
      Object.fromEntries(
        Object.entries(this.shape).map(([key, schema]) => [
          key,
          mask && !mask[key] ? schema : change(schema),
        ]),
      ),
    );
  }
  partial(mask) {
    return this._map(mask, (schema) => schema.optional());
  }
  required(mask) {
    return this._map(mask, (schema) => {
      while (schema instanceof ZodOptional) schema = schema._def.innerType;
      return schema;
    });
  }
  deepPartial() {
    const soften = (schema) => {
      if (schema instanceof ZodObject)
        return schema._map(undefined, (field) => soften(field).optional());
      if (schema instanceof ZodArray) return schema._with({ type: soften(schema.element) });
      if (schema instanceof ZodOptional || schema instanceof ZodNullable)
        return schema._with({ innerType: soften(schema.unwrap()) });
      return schema;
    };
    return soften(this);
  }
  keyof() {
    return ZodEnum.create(Object.keys(this.shape));
  }
}
ZodObject.create = (shape = {}, params) =>
  new ZodObject({
    typeName: "ZodObject",
    shape: () => shape,
    unknownKeys: "strip",
    catchall: ZodNever.create(),
    ...readParams(params),
  });
ZodObject.strictCreate = (shape, params) => ZodObject.create(shape, params).strict();
ZodObject.lazycreate = (shape, params) =>
  new ZodObject({
    typeName: "ZodObject",
    shape,
    unknownKeys: "strip",
    catchall: ZodNever.create(),
    ...readParams(params),
  });

class ZodUnion extends ZodType {
  get options() {
    return this._def.options;
  }
  *_run(data, place) {
    let half;
    const unionErrors = [];
    for (const option of this._def.options) {
      const apart = place.apart();
      const result = yield* option._run(data, apart);
      if (result.status === VALID) return result;
      if (result.status === DIRTY && !half) half = { result, issues: apart.issues };
      unionErrors.push(new ZodError(apart.issues));
    }
    if (half) {
      place.issues.push(...half.issues);
      return half.result;
    }
    addIssue(this, place, data, { code: "invalid_union", unionErrors });
    return INVALID;
  }
}
ZodUnion.create = (options, params) =>
  new ZodUnion({ typeName: "ZodUnion", options, ...readParams(params) });

// The values a discriminator field can take.
function discriminatorValues(schema) {
  if (schema instanceof ZodLazy) return discriminatorValues(schema.schema);
  if (schema instanceof ZodEffects) return discriminatorValues(schema.innerType());
  if (schema instanceof ZodLiteral) return [schema.value];
  if (schema instanceof ZodEnum || schema instanceof ZodNativeEnum) return schema.options;
  if (schema instanceof ZodUnion) return schema.options.flatMap(discriminatorValues);
  if (schema instanceof ZodDefault || schema instanceof ZodCatch || schema instanceof ZodReadonly)
    return discriminatorValues(schema._def.innerType);
  if (schema instanceof ZodUndefined) return [undefined];
  if (schema instanceof ZodNull) return [null];
  if (schema instanceof ZodOptional) return [undefined, ...discriminatorValues(schema.unwrap())];
  if (schema instanceof ZodNullable) return [null, ...discriminatorValues(schema.unwrap())];
  if (schema instanceof ZodBranded) return discriminatorValues(schema.unwrap());
  return [];
}

class ZodDiscriminatedUnion extends ZodType {
  get discriminator() {
    return this._def.discriminator;
  }
  get options() {
    return this._def.options;
  }
  get optionsMap() {
    return this._def.optionsMap;
  }
  *_run(data, place) {
    if (getParsedType(data) !== "object") return wrongType(this, place, data, "object");
    const { discriminator, optionsMap } = this._def;
    const option = optionsMap.get(data[discriminator]);
    if (option) return yield* option._run(data, place);
    addIssue(this, place, data, {
      code: "invalid_union_discriminator",
      options: [...optionsMap.keys()],
      path: [discriminator],
    });
    return INVALID;
  }
}
ZodDiscriminatedUnion.create = (discriminator, options, params) => {
  const optionsMap = new Map();
  for (const option of options) {
    const values =
      option instanceof ZodDiscriminatedUnion
        ? [...option.optionsMap.keys()]
        : discriminatorValues(option.shape[discriminator]);
    if (!values.length)
      throw new Error(
        `A discriminator value for key \`${discriminator}\` ` +
          `could not be extracted from all schema options`,
      );
    for (const value of values) {
      if (optionsMap.has(value))
        throw new Error(
          `Discriminator property ${String(discriminator)} has duplicate value ${String(value)}`,
        );
      optionsMap.set(value, option);
    }
  }
  return new ZodDiscriminatedUnion({
    typeName: "ZodDiscriminatedUnion",
    discriminator,
    options,
    optionsMap,
    ...readParams(params),
  });
};

// Two results of the same input become one, or `undefined` when they contradict each other.
function merged(a, b) {
  if (a === b) return { value: a };
  const [kind, other] = [getParsedType(a), getParsedType(b)];
  if (kind === "object" && other === "object") {
    const value = { ...a, ...b };
    for (const key of Object.keys(a)) {
      if (!(key in b)) continue;
      const part = merged(a[key], b[key]);
      if (!part) return undefined;
      value[key] = part.value;
    }
    return { value };
  }
  if (kind === "array" && other === "array") {
    if (a.length !== b.length) return undefined;
    const parts = a.map((item, index) => merged(item, b[index]));
    return parts.every(Boolean) ? { value: parts.map((part) => part.value) } : undefined;
  }
  return kind === "date" && other === "date" && +a === +b ? { value: a } : undefined;
}

class ZodIntersection extends ZodType {
  *_run(data, place) {
    const left = yield* this._def.left._run(data, place);
    const right = yield* this._def.right._run(data, place);
    if (left.status === 2 || right.status === 2) return INVALID;
    const both = merged(left.value, right.value);
    if (!both) {
      addIssue(this, place, data, { code: "invalid_intersection_types" });
      return INVALID;
    }
    return { status: Math.max(left.status, right.status), value: both.value };
  }
}
ZodIntersection.create = (left, right, params) =>
  new ZodIntersection({ typeName: "ZodIntersection", left, right, ...readParams(params) });
