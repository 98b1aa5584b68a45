// The heart of the built-in schema library: how schemas are run, and the base of all of them.
//
// Every schema is a generator (`*_run`) that yields the promises it meets. One body of code
// therefore serves both `parse` (a yielded promise is an error) and `parseAsync` (it is awaited).
// Statuses follow zod 3: a "dirty" value broke a rule but has the right type, so later rules still
// run; an aborted one (INVALID) stops what depends on it.

const VALID = 0;
const DIRTY = 1;
const INVALID = Object.freeze({ status: 2, value: undefined });

const ok = (value) => ({ status: VALID, value });
const dirty = (value) => ({ status: DIRTY, value });

// Where a value stands while it is parsed.
class Place {
  constructor(path, issues, { async, contextual }) {
    this.path = path;
    this.issues = issues;
    this.async = async;
    this.contextual = contextual;
  }
  at(key) {
    return new Place([...this.path, key], this.issues, this);
  }
  apart() {
    return new Place(this.path, [], this);
  }
}

// What zod 4's `error` says about an issue: it is a text, or a function that gives a text,
// `{ message }` or nothing.
function errorText(error, issue) {
  const said = typeof error === "function" ? error(issue) : error;
  return (typeof said === "object" ? said?.message : said) ?? undefined;
}

// `input` is what a function in place of a message gets to see; error maps see `data`.
function addIssue(schema, place, data, issueData, input = data) {
  const path = issueData.path?.length ? [...place.path, ...issueData.path] : place.path;
  const issue = { ...issueData, path };
  if (typeof issue.message === "function")
    issue.message = errorText(issue.message, { ...issue, message: undefined, input });
  let { message } = issue;
  if (message === undefined) {
    message = "";
    for (const map of [
      defaultErrorMap,
      overrideErrorMap,
      schema?._def.errorMap,
      place.contextual,
    ]) {
      if (map) message = map(issue, { data, defaultError: message }).message;
    }
  }
  place.issues.push({ ...issue, message });
}

function wrongType(schema, place, data, expected) {
  addIssue(schema, place, data, { code: "invalid_type", expected, received: getParsedType(data) });
  return INVALID;
}

// `params` of constructors: { description, message, errorMap, invalid_type_error, required_error,
// error }, or a message.
function readParams(params) {
  if (!params) return {};
  if (typeof params === "string") params = { message: params };
  const { errorMap, invalid_type_error, required_error, description, message, error } = params;
  if (errorMap) {
    if (invalid_type_error || required_error) {
      throw new Error(
        `Can't use "invalid_type_error" or "required_error" in conjunction with custom error map.`,
      );
    }
    return { errorMap, description };
  }
  if (
    message === undefined &&
    invalid_type_error === undefined &&
    required_error === undefined &&
    error === undefined
  )
    return { description };
  const custom = (issue, ctx) => {
    if (error !== undefined)
      return { message: errorText(error, { ...issue, input: ctx.data }) ?? ctx.defaultError };
    if (issue.code === "invalid_enum_value") return { message: message ?? ctx.defaultError };
    if (ctx.data === undefined) return { message: message ?? required_error ?? ctx.defaultError };
    if (issue.code !== "invalid_type") return { message: ctx.defaultError };
    return { message: message ?? invalid_type_error ?? ctx.defaultError };
  };
  custom.stays = error !== undefined;
  return { errorMap: custom, description };
}

// The message argument of a rule: a string, `{ message }`, or zod 4's `{ error }`. `addIssue` calls
// a function.
function rule(message) {
  if (typeof message === "object" && message !== null)
    return { message: message.message ?? message.error };
  return ["string", "function"].includes(typeof message) ? { message } : {};
}

// The same for a refinement, whose issue takes on what else is given.
function refusal(said) {
  const { error, ...others } = Object(said) === said ? said : {};
  return { ...others, ...rule(said) };
}

const SYNC_ERROR =
  "Async refinement encountered during synchronous parse operation. Use .parseAsync instead.";

function runSync(schema, data, params) {
  const place = new Place(params?.path ?? [], [], { async: false, contextual: params?.errorMap });
  const steps = schema._run(data, place);
  const step = steps.next();
  if (!step.done) throw new Error(SYNC_ERROR);
  return finish(step.value, place);
}

async function runAsync(schema, data, params) {
  const place = new Place(params?.path ?? [], [], { async: true, contextual: params?.errorMap });
  const steps = schema._run(data, place);
  let step = steps.next();
  while (!step.done) {
    let settled;
    try {
      settled = await step.value;
    } catch (error) {
      step = steps.throw(error);
      continue;
    }
    step = steps.next(settled);
  }
  return finish(step.value, place);
}

function finish(result, place) {
  if (result.status === VALID) return { success: true, data: result.value };
  return { success: false, error: new ZodError(place.issues) };
}

const isPromise = (value) =>
  value instanceof Promise ||
  (typeof value === "object" && value !== null && typeof value.then === "function");

class ZodType {
  constructor(def) {
    this._def = def;
    // zod binds these, so that they can be handed around as functions.
    this.parse = this.parse.bind(this);
    this.safeParse = this.safeParse.bind(this);
    this.parseAsync = this.parseAsync.bind(this);
    this.safeParseAsync = this.safeParseAsync.bind(this);
    this.spa = this.safeParseAsync;
  }
  get description() {
    return this._def.description;
  }
  get def() {
    return this._def;
  }

  safeParse(data, params) {
    return runSync(this, data, params);
  }
  safeParseAsync(data, params) {
    return runAsync(this, data, params);
  }
  parse(data, params) {
    const result = runSync(this, data, params);
    if (result.success) return result.data;
    throw result.error;
  }
  async parseAsync(data, params) {
    const result = await runAsync(this, data, params);
    if (result.success) return result.data;
    throw result.error;
  }

  _with(changes) {
    return new this.constructor({ ...this._def, ...changes });
  }
  // What wrappers inherit from the schema inside: its description and its messages, except those of
  // zod 4's `error`.
  _inherit() {
    const { description, errorMap, meta } = this._def;
    return { description, errorMap: errorMap?.stays ? undefined : errorMap, meta };
  }
  describe(description) {
    return this._with({ description });
  }
  meta(meta) {
    if (meta === undefined)
      return (
        this._def.meta ??
        (this.description === undefined ? undefined : { description: this.description })
      );
    return this._with({
      meta: { ...this._def.meta, ...meta },
      description: meta.description ?? this.description,
    });
  }
  clone() {
    return this._with({});
  }
  register(registry, meta) {
    registry?.add?.(this, meta);
    return this;
  }

  optional() {
    return new ZodOptional({ typeName: "ZodOptional", innerType: this, ...this._inherit() });
  }
  exactOptional() {
    return this.optional();
  }
  nullable() {
    return new ZodNullable({ typeName: "ZodNullable", innerType: this, ...this._inherit() });
  }
  nullish() {
    return this.nullable().optional();
  }
  nonoptional(params) {
    return this.refine((v) => v !== undefined, { message: rule(params).message ?? "Required" });
  }
  array() {
    return ZodArray.create(this);
  }
  promise() {
    return ZodPromise.create(this, this._inherit());
  }
  or(other) {
    return ZodUnion.create([this, other], this._inherit());
  }
  and(other) {
    return ZodIntersection.create(this, other, this._inherit());
  }
  default(value) {
    return new ZodDefault({
      typeName: "ZodDefault",
      innerType: this,
      defaultValue: typeof value === "function" ? value : () => value,
      ...this._inherit(),
    });
  }
  prefault(value) {
    return this.default(value);
  }
  catch(value) {
    return new ZodCatch({
      typeName: "ZodCatch",
      innerType: this,
      catchValue: typeof value === "function" ? value : () => value,
      ...this._inherit(),
    });
  }
  brand() {
    return new ZodBranded({ typeName: "ZodBranded", type: this, ...this._inherit() });
  }
  readonly() {
    return new ZodReadonly({ typeName: "ZodReadonly", innerType: this });
  }
  pipe(target) {
    return new ZodPipeline({ typeName: "ZodPipeline", in: this, out: target });
  }
  transform(transform) {
    return new ZodEffects({
      typeName: "ZodEffects",
      schema: this,
      effect: { type: "transform", transform },
      ...this._inherit(),
    });
  }
  overwrite(transform) {
    return this.transform(transform);
  }
  _refinement(refinement) {
    return new ZodEffects({
      typeName: "ZodEffects",
      schema: this,
      effect: { type: "refinement", refinement },
    });
  }
  superRefine(refinement) {
    return this._refinement(refinement);
  }
  refine(check, message) {
    return this._refinement((value, ctx) => {
      const complain = () =>
        ctx.addIssue({
          code: "custom",
          ...refusal(typeof message === "function" ? message(value) : message),
        });
      const result = check(value);
      if (isPromise(result))
        return result.then((good) => {
          if (!good) complain();
          return Boolean(good);
        });
      if (!result) complain();
      return Boolean(result);
    });
  }
  refinement(check, issue) {
    return this._refinement((value, ctx) => {
      if (!check(value)) ctx.addIssue(typeof issue === "function" ? issue(value, ctx) : issue);
    });
  }
  isOptional() {
    return this.safeParse(undefined).success;
  }
  isNullable() {
    return this.safeParse(null).success;
  }
}
