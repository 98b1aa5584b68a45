// Schemas of many values of a kind: arrays, tuples, records, maps, sets.

class ZodArray extends ZodType {
  get element() {
    return this._def.type;
  }
  unwrap() {
    return this._def.type;
  }
  *_run(data, place) {
    if (!Array.isArray(data)) return wrongType(this, place, data, "array");
    const { type, exactLength, minLength, maxLength } = this._def;
    const gathering = new Gathering();
    const complain = (limit, code, bounds, exact) => {
      addIssue(this, place, data, {
        code,
        ...bounds,
        type: "array",
        inclusive: true,
        exact,
        message: limit.message,
      });
      gathering.take(dirty());
    };
    if (exactLength && data.length !== exactLength.value) {
      const big = data.length > exactLength.value;
      complain(
        exactLength,
        big ? "too_big" : "too_small",
        { [big ? "maximum" : "minimum"]: exactLength.value },
        true,
      );
    }
    if (minLength && data.length < minLength.value)
      complain(minLength, "too_small", { minimum: minLength.value }, false);
    if (maxLength && data.length > maxLength.value)
      complain(maxLength, "too_big", { maximum: maxLength.value }, false);
    const result = [];
    for (let i = 0; i < data.length; i++)
      result.push(gathering.take(yield* type._run(data[i], place.at(i))));
    return gathering.done(result);
  }
  min(value, message) {
    return this._with({ minLength: { value, ...rule(message) } });
  }
  max(value, message) {
    return this._with({ maxLength: { value, ...rule(message) } });
  }
  length(value, message) {
    return this._with({ exactLength: { value, ...rule(message) } });
  }
  nonempty(message) {
    return this.min(1, message);
  }
}
ZodArray.create = (type, params) =>
  new ZodArray({
    typeName: "ZodArray",
    type,
    minLength: null,
    maxLength: null,
    exactLength: null,
    ...readParams(params),
  });

class ZodTuple extends ZodType {
  get items() {
    return this._def.items;
  }
  *_run(data, place) {
    if (!Array.isArray(data)) return wrongType(this, place, data, "array");
    const { items, rest } = this._def;
    const bounds = { inclusive: true, exact: false, type: "array" };
    if (data.length < items.length) {
      addIssue(this, place, data, { code: "too_small", minimum: items.length, ...bounds });
      return INVALID;
    }
    const gathering = new Gathering();
    if (!rest && data.length > items.length) {
      addIssue(this, place, data, { code: "too_big", maximum: items.length, ...bounds });
      gathering.take(dirty());
    }
    const result = [];
    for (let i = 0; i < data.length; i++) {
      const schema = items[i] ?? rest;
      if (schema) result.push(gathering.take(yield* schema._run(data[i], place.at(i))));
    }
    return gathering.done(result);
  }
  rest(rest) {
    return this._with({ rest });
  }
}
ZodTuple.create = (items, restOrParams, params) => {
  const rest = restOrParams instanceof ZodType ? restOrParams : null;
  return new ZodTuple({
    typeName: "ZodTuple",
    items,
    rest,
    ...readParams(rest ? params : restOrParams),
  });
};

class ZodRecord extends ZodType {
  get keySchema() {
    return this._def.keyType;
  }
  get valueSchema() {
    return this._def.valueType;
  }
  get element() {
    return this._def.valueType;
  }
  *_run(data, place) {
    if (getParsedType(data) !== "object") return wrongType(this, place, data, "object");
    const { keyType, valueType } = this._def;
    const gathering = new Gathering();
    const result = {};
    for (const key in data) {
      const here = place.at(key);
      const name = gathering.take(yield* keyType._run(key, here));
      const value = gathering.take(yield* valueType._run(data[key], here));
      if (name !== "__proto__") result[name] = value;
    }
    return gathering.done(result);
  }
}
ZodRecord.create = (first, second, third) => {
  const pair = second instanceof ZodType;
  return new ZodRecord({
    typeName: "ZodRecord",
    keyType: pair ? first : ZodString.create(),
    valueType: pair ? second : first,
    ...readParams(pair ? third : second),
  });
};

class ZodMap extends ZodType {
  *_run(data, place) {
    if (!(data instanceof Map)) return wrongType(this, place, data, "map");
    const gathering = new Gathering();
    const result = new Map();
    let index = 0;
    for (const [key, value] of data) {
      const here = place.at(index++);
      result.set(
        gathering.take(yield* this._def.keyType._run(key, here.at("key"))),
        gathering.take(yield* this._def.valueType._run(value, here.at("value"))),
      );
    }
    return gathering.done(result);
  }
}
ZodMap.create = (keyType, valueType, params) =>
  new ZodMap({ typeName: "ZodMap", keyType, valueType, ...readParams(params) });

class ZodSet extends ZodType {
  *_run(data, place) {
    if (!(data instanceof Set)) return wrongType(this, place, data, "set");
    const { valueType, minSize, maxSize } = this._def;
    const gathering = new Gathering();
    const complain = (limit, bounds) => {
      addIssue(this, place, data, {
        ...bounds,
        type: "set",
        inclusive: true,
        exact: false,
        message: limit.message,
      });
      gathering.take(dirty());
    };
    if (minSize && data.size < minSize.value)
      complain(minSize, { code: "too_small", minimum: minSize.value });
    if (maxSize && data.size > maxSize.value)
      complain(maxSize, { code: "too_big", maximum: maxSize.value });
    const result = new Set();
    let index = 0;
    for (const value of data)
      result.add(gathering.take(yield* valueType._run(value, place.at(index++))));
    return gathering.done(result);
  }
  min(value, message) {
    return this._with({ minSize: { value, ...rule(message) } });
  }
  max(value, message) {
    return this._with({ maxSize: { value, ...rule(message) } });
  }
  size(value, message) {
    return this.min(value, message).max(value, message);
  }
  nonempty(message) {
    return this.min(1, message);
  }
}
ZodSet.create = (valueType, params) =>
  new ZodSet({
    typeName: "ZodSet",
    valueType,
    minSize: null,
    maxSize: null,
    ...readParams(params),
  });
