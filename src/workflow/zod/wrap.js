// Schemas around another schema: optional, nullable, default, catch, effects, pipe, lazy and their
// kin.

class ZodOptional extends ZodType {
  unwrap() {
    return this._def.innerType;
  }
  *_run(data, place) {
    return data === undefined ? ok(undefined) : yield* this._def.innerType._run(data, place);
  }
}
ZodOptional.create = (innerType, params) =>
  new ZodOptional({ typeName: "ZodOptional", innerType, ...readParams(params) });

class ZodNullable extends ZodType {
  unwrap() {
    return this._def.innerType;
  }
  *_run(data, place) {
    return data === null ? ok(null) : yield* this._def.innerType._run(data, place);
  }
}
ZodNullable.create = (innerType, params) =>
  new ZodNullable({ typeName: "ZodNullable", innerType, ...readParams(params) });

class ZodDefault extends ZodType {
  removeDefault() {
    return this._def.innerType;
  }
  unwrap() {
    return this._def.innerType;
  }
  *_run(data, place) {
    return yield* this._def.innerType._run(
      data === undefined ? this._def.defaultValue() : data,
      place,
    );
  }
}

class ZodCatch extends ZodType {
  removeCatch() {
    return this._def.innerType;
  }
  unwrap() {
    return this._def.innerType;
  }
  *_run(data, place) {
    const apart = place.apart();
    const result = yield* this._def.innerType._run(data, apart);
    if (result.status === VALID) return ok(result.value);
    const error = new ZodError(apart.issues);
    return ok(this._def.catchValue({ error, input: data, issues: apart.issues, value: data }));
  }
}

class ZodReadonly extends ZodType {
  unwrap() {
    return this._def.innerType;
  }
  *_run(data, place) {
    const result = yield* this._def.innerType._run(data, place);
    if (result.status === VALID && typeof result.value === "object") Object.freeze(result.value);
    return result;
  }
}

class ZodBranded extends ZodType {
  unwrap() {
    return this._def.type;
  }
  *_run(data, place) {
    return yield* this._def.type._run(data, place);
  }
}

class ZodLazy extends ZodType {
  get schema() {
    return this._def.getter();
  }
  *_run(data, place) {
    return yield* this.schema._run(data, place);
  }
}
ZodLazy.create = (getter, params) =>
  new ZodLazy({ typeName: "ZodLazy", getter, ...readParams(params) });

class ZodPromise extends ZodType {
  unwrap() {
    return this._def.type;
  }
  *_run(data, place) {
    if (!isPromise(data) && !place.async) return wrongType(this, place, data, "promise");
    const type = this._def.type;
    return ok(Promise.resolve(data).then((value) => type.parseAsync(value, { path: place.path })));
  }
}
ZodPromise.create = (type, params) =>
  new ZodPromise({ typeName: "ZodPromise", type, ...readParams(params) });

class ZodEffects extends ZodType {
  innerType() {
    return this._def.schema;
  }
  sourceType() {
    return this._def.schema instanceof ZodEffects
      ? this._def.schema.sourceType()
      : this._def.schema;
  }
  unwrap() {
    return this._def.schema;
  }
  *_run(data, place) {
    const { schema, effect } = this._def;
    let status = VALID;
    let raised = 0;
    const asIssue = (issue) =>
      typeof issue === "string" ? { code: "custom", message: issue } : issue;
    const raise = (issue, fatal) => {
      addIssue(this, place, data, issue, ctx.value);
      status = Math.max(status, fatal ? 2 : DIRTY);
    };
    const ctx = {
      path: place.path,
      value: data,
      issues: [],
      addIssue: (issue) => {
        raisePushed();
        const given = asIssue(issue);
        raised = ctx.issues.push(given);
        raise(given, given.fatal);
      },
    };
    // Callbacks written for zod 4 push to `ctx.issues` themselves. As there, no later rule runs
    // unless the issue says `continue`.
    const raisePushed = () => {
      while (raised < ctx.issues.length) {
        const { input, inst, continue: goesOn, ...issue } = asIssue(ctx.issues[raised++]);
        raise(issue, !goesOn);
      }
    };
    if (effect.type === "preprocess") {
      let processed = effect.transform(data, ctx);
      if (place.async && isPromise(processed)) processed = yield processed;
      raisePushed();
      if (status === 2) return INVALID;
      const inner = yield* schema._run(processed, place);
      if (inner.status === 2) return INVALID;
      return { status: Math.max(status, inner.status), value: inner.value };
    }
    const inner = yield* schema._run(data, place);
    ctx.value = inner.value;
    if (effect.type === "refinement") {
      if (inner.status === 2) return INVALID;
      status = inner.status;
      const outcome = effect.refinement(inner.value, ctx);
      if (isPromise(outcome)) yield outcome;
      raisePushed();
      return status === 2 ? INVALID : { status, value: inner.value };
    }
    if (inner.status !== VALID) return INVALID;
    let value = effect.transform(inner.value, ctx);
    if (isPromise(value)) {
      if (!place.async)
        throw new Error(
          "Asynchronous transform encountered during synchronous parse operation. " +
            "Use .parseAsync instead.",
        );
      value = yield value;
    }
    raisePushed();
    return { status, value };
  }
}
ZodEffects.create = (schema, effect, params) =>
  new ZodEffects({ typeName: "ZodEffects", schema, effect, ...readParams(params) });
ZodEffects.createWithPreprocess = (transform, schema, params) =>
  new ZodEffects({
    typeName: "ZodEffects",
    schema,
    effect: { type: "preprocess", transform },
    ...readParams(params),
  });

class ZodPipeline extends ZodType {
  *_run(data, place) {
    const first = yield* this._def.in._run(data, place);
    if (first.status === 2) return INVALID;
    if (first.status === DIRTY) return first;
    return yield* this._def.out._run(first.value, place);
  }
}
ZodPipeline.create = (first, second) =>
  new ZodPipeline({ typeName: "ZodPipeline", in: first, out: second });

class ZodFunction extends ZodType {
  *_run(data, place) {
    return typeof data === "function" ? ok(data) : wrongType(this, place, data, "function");
  }
  args(...items) {
    return this._with({ args: ZodTuple.create(items) });
  }
  returns(returns) {
    return this._with({ returns });
  }
  implement(body) {
    return body;
  }
}
ZodFunction.create = (args, returns, params) =>
  new ZodFunction({ typeName: "ZodFunction", args, returns, ...readParams(params) });
