// Numbers, big integers, booleans, dates, literals and enums, and the schemas that take anything or
// nothing.

function decimals(value) {
  const [mantissa, exponent] = String(value).split("e");
  const places = (mantissa.split(".")[1] ?? "").length - Number(exponent ?? 0);
  return Math.max(0, places);
}

// The remainder without the errors of binary fractions: 0.3 is a multiple of 0.1.
function remainder(value, step) {
  const places = Math.max(decimals(value), decimals(step));
  const whole = (n) => Number.parseInt(n.toFixed(places).replace(".", ""));
  return (whole(value) % whole(step)) / 10 ** places;
}

class Ranged extends ZodType {
  _addCheck(check) {
    return this._with({ checks: [...this._def.checks, check] });
  }
  _limit(kind, value, inclusive, message) {
    return this._addCheck({ kind, value, inclusive, ...rule(message) });
  }
  gte(value, message) {
    return this._limit("min", value, true, message);
  }
  gt(value, message) {
    return this._limit("min", value, false, message);
  }
  lte(value, message) {
    return this._limit("max", value, true, message);
  }
  lt(value, message) {
    return this._limit("max", value, false, message);
  }
  min(value, message) {
    return this.gte(value, message);
  }
  max(value, message) {
    return this.lte(value, message);
  }
  multipleOf(value, message) {
    return this._addCheck({ kind: "multipleOf", value, ...rule(message) });
  }
  step(value, message) {
    return this.multipleOf(value, message);
  }
  positive(message) {
    return this.gt(this._zero, message);
  }
  negative(message) {
    return this.lt(this._zero, message);
  }
  nonnegative(message) {
    return this.gte(this._zero, message);
  }
  nonpositive(message) {
    return this.lte(this._zero, message);
  }

  _checkRange(data, place) {
    let status = VALID;
    const complain = (check, issue) => {
      addIssue(this, place, data, { ...issue, message: check.message });
      status = DIRTY;
    };
    const exact = this._type === "number" ? { exact: false } : {};
    for (const check of this._def.checks) {
      const { kind, value, inclusive } = check;
      if (kind === "int") {
        if (!Number.isInteger(data))
          complain(check, { code: "invalid_type", expected: "integer", received: "float" });
      } else if (kind === "min") {
        if (inclusive ? data < value : data <= value)
          complain(check, {
            code: "too_small",
            minimum: value,
            type: this._type,
            inclusive,
            ...exact,
          });
      } else if (kind === "max") {
        if (inclusive ? data > value : data >= value)
          complain(check, {
            code: "too_big",
            maximum: value,
            type: this._type,
            inclusive,
            ...exact,
          });
      } else if (kind === "multipleOf") {
        const rest = this._type === "bigint" ? data % value : remainder(data, value);
        if (rest != 0) complain(check, { code: "not_multiple_of", multipleOf: value });
      } else if (kind === "finite" && !Number.isFinite(data)) {
        complain(check, { code: "not_finite" });
      }
    }
    return { status, value: data };
  }
}

class ZodNumber extends Ranged {
  get _type() {
    return "number";
  }
  get _zero() {
    return 0;
  }
  *_run(data, place) {
    if (this._def.coerce) data = Number(data);
    if (typeof data !== "number" || Number.isNaN(data))
      return wrongType(this, place, data, "number");
    return this._checkRange(data, place);
  }
  int(message) {
    return this._addCheck({ kind: "int", ...rule(message) });
  }
  finite(message) {
    return this._addCheck({ kind: "finite", ...rule(message) });
  }
  safe(message) {
    return this.gte(Number.MIN_SAFE_INTEGER, message).lte(Number.MAX_SAFE_INTEGER, message);
  }
  get minValue() {
    return tightest(this._def.checks, "min", Math.max);
  }
  get maxValue() {
    return tightest(this._def.checks, "max", Math.min);
  }
  get isInt() {
    return this._def.checks.some(
      (c) => c.kind === "int" || (c.kind === "multipleOf" && Number.isInteger(c.value)),
    );
  }
  get isFinite() {
    return (
      this.isInt ||
      (this.minValue !== null && this.maxValue !== null) ||
      this._def.checks.some((c) => c.kind === "finite")
    );
  }
}
ZodNumber.create = (params) =>
  new ZodNumber({
    typeName: "ZodNumber",
    checks: [],
    coerce: params?.coerce ?? false,
    ...readParams(params),
  });

class ZodBigInt extends Ranged {
  get _type() {
    return "bigint";
  }
  get _zero() {
    return 0n;
  }
  *_run(data, place) {
    if (this._def.coerce) {
      try {
        data = BigInt(data);
      } catch {
        return wrongType(this, place, data, "bigint");
      }
    }
    if (typeof data !== "bigint") return wrongType(this, place, data, "bigint");
    return this._checkRange(data, place);
  }
  get minValue() {
    return tightest(this._def.checks, "min", (a, b) => (a > b ? a : b));
  }
  get maxValue() {
    return tightest(this._def.checks, "max", (a, b) => (a < b ? a : b));
  }
}
ZodBigInt.create = (params) =>
  new ZodBigInt({
    typeName: "ZodBigInt",
    checks: [],
    coerce: params?.coerce ?? false,
    ...readParams(params),
  });

class ZodBoolean extends ZodType {
  *_run(data, place) {
    if (this._def.coerce) data = Boolean(data);
    return typeof data === "boolean" ? ok(data) : wrongType(this, place, data, "boolean");
  }
}
ZodBoolean.create = (params) =>
  new ZodBoolean({
    typeName: "ZodBoolean",
    coerce: params?.coerce ?? false,
    ...readParams(params),
  });

class ZodDate extends ZodType {
  *_run(data, place) {
    if (this._def.coerce) data = new Date(data);
    if (!(data instanceof Date)) return wrongType(this, place, data, "date");
    if (Number.isNaN(data.getTime())) {
      addIssue(this, place, data, { code: "invalid_date" });
      return INVALID;
    }
    let status = VALID;
    for (const { kind, value, message } of this._def.checks) {
      if (kind === "min" ? data.getTime() < value : data.getTime() > value) {
        const bound =
          kind === "min"
            ? { code: "too_small", minimum: value }
            : { code: "too_big", maximum: value };
        addIssue(this, place, data, {
          ...bound,
          message,
          inclusive: true,
          exact: false,
          type: "date",
        });
        status = DIRTY;
      }
    }
    return { status, value: new Date(data.getTime()) };
  }
  _addCheck(check) {
    return this._with({ checks: [...this._def.checks, check] });
  }
  min(date, message) {
    return this._addCheck({ kind: "min", value: date.getTime(), ...rule(message) });
  }
  max(date, message) {
    return this._addCheck({ kind: "max", value: date.getTime(), ...rule(message) });
  }
}
ZodDate.create = (params) =>
  new ZodDate({
    typeName: "ZodDate",
    checks: [],
    coerce: params?.coerce ?? false,
    ...readParams(params),
  });

class ZodLiteral extends ZodType {
  get value() {
    return this._def.value;
  }
  get values() {
    return new Set([this._def.value]);
  }
  *_run(data, place) {
    if (data === this._def.value) return ok(data);
    addIssue(this, place, data, {
      received: data,
      code: "invalid_literal",
      expected: this._def.value,
    });
    return INVALID;
  }
}
ZodLiteral.create = (value, params) => {
  // zod 4 takes a list of literals.
  if (Array.isArray(value))
    return value.length === 1
      ? ZodLiteral.create(value[0], params)
      : ZodUnion.create(
          value.map((v) => ZodLiteral.create(v)),
          params,
        );
  return new ZodLiteral({ typeName: "ZodLiteral", value, ...readParams(params) });
};

class ZodEnum extends ZodType {
  get options() {
    return this._def.values;
  }
  get enum() {
    return Object.fromEntries(this._def.values.map((value) => [value, value]));
  }
  get Values() {
    return this.enum;
  }
  get Enum() {
    return this.enum;
  }
  *_run(data, place) {
    const { values } = this._def;
    if (typeof data !== "string") {
      addIssue(this, place, data, {
        expected: quoteAll(values, " | "),
        received: getParsedType(data),
        code: "invalid_type",
      });
      return INVALID;
    }
    if (values.includes(data)) return ok(data);
    addIssue(this, place, data, { received: data, code: "invalid_enum_value", options: values });
    return INVALID;
  }
  extract(values, params) {
    return ZodEnum.create(values, { ...this._def, ...params });
  }
  exclude(values, params) {
    return ZodEnum.create(
      this.options.filter((value) => !values.includes(value)),
      { ...this._def, ...params },
    );
  }
}
ZodEnum.create = (values, params) => {
  // zod 4 takes objects here, what zod 3 calls nativeEnum.
  if (!Array.isArray(values)) return ZodNativeEnum.create(values, params);
  return new ZodEnum({ typeName: "ZodEnum", values, ...readParams(params) });
};

// TypeScript's numeric enums map both ways; only the forward half counts.
function enumValues(object) {
  return Object.keys(object)
    .filter((key) => typeof object[object[key]] !== "number")
    .map((key) => object[key]);
}

class ZodNativeEnum extends ZodType {
  get enum() {
    return this._def.values;
  }
  get options() {
    return enumValues(this._def.values);
  }
  *_run(data, place) {
    const options = enumValues(this._def.values);
    if (typeof data !== "string" && typeof data !== "number") {
      addIssue(this, place, data, {
        expected: quoteAll(options, " | "),
        received: getParsedType(data),
        code: "invalid_type",
      });
      return INVALID;
    }
    if (options.includes(data)) return ok(data);
    addIssue(this, place, data, { received: data, code: "invalid_enum_value", options });
    return INVALID;
  }
}
ZodNativeEnum.create = (values, params) =>
  new ZodNativeEnum({ typeName: "ZodNativeEnum", values, ...readParams(params) });

// Schemas that only look at the type of a value.
function byType(typeName, expected, accepts) {
  const Type = {
    [typeName]: class extends ZodType {
      *_run(data, place) {
        return accepts(data) ? ok(data) : wrongType(this, place, data, expected);
      }
    },
  }[typeName];
  Type.create = (params) => new Type({ typeName, ...readParams(params) });
  return Type;
}
const ZodAny = byType("ZodAny", "any", () => true);
const ZodUnknown = byType("ZodUnknown", "unknown", () => true);
const ZodNever = byType("ZodNever", "never", () => false);
const ZodUndefined = byType("ZodUndefined", "undefined", (data) => data === undefined);
const ZodVoid = byType("ZodVoid", "void", (data) => data === undefined);
const ZodNull = byType("ZodNull", "null", (data) => data === null);
const ZodNaN = byType("ZodNaN", "nan", (data) => typeof data === "number" && Number.isNaN(data));
const ZodSymbol = byType("ZodSymbol", "symbol", (data) => typeof data === "symbol");
