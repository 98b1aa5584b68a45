// Pairs of schema and input, evaluated by the built-in zod inside the engine and by the real ones under Node.js.
// `module.exports = (z) => [{ name, schema, input, async?, not4? }]`; `not4` says why zod 4 answers differently.

module.exports = (z) => {
  const cases = [];
  const add = (name, schema, inputs, more = {}) => inputs.forEach((input, index) => cases.push({ name: `${name} #${index}`, schema, input, ...more }));
  const anything = ["text", "", 0, 1, -1.5, NaN, true, null, undefined, [], {}, ["a"], { a: 1 }, new Date(0), 5n];

  // every simple type against every kind of value
  add("string", z.string(), anything);
  add("number", z.number(), anything);
  add("boolean", z.boolean(), anything);
  add("bigint", z.bigint(), anything);
  add("date", z.date(), [new Date(5), new Date(NaN), "2020-01-01", 5], {});
  add("null", z.null(), anything);
  add("undefined", z.undefined(), [undefined, null, 1]);
  add("any", z.any(), anything);
  add("unknown", z.unknown(), anything);
  add("never", z.never(), [undefined, 1]);
  add("nan", z.nan(), [NaN, 1]);
  add("literal", z.literal("a"), ["a", "b", 1, undefined]);
  add("literal number", z.literal(5), [5, "5"]);
  add("enum", z.enum(["a", "b"]), ["a", "c", 1, undefined, null]);
  add("nativeEnum", z.nativeEnum({ A: 0, B: "b", 0: "A" }), [0, "b", "A", "x", 3, null]);
  add("enum extract", z.enum(["a", "b", "c"]).extract(["a", "b"]), ["a", "c"]);
  add("enum exclude", z.enum(["a", "b", "c"]).exclude(["a"]), ["a", "c"]);

  // strings
  add("string min", z.string().min(3), ["ab", "abc", 5]);
  add("string max", z.string().max(3), ["abcd", "abc"]);
  add("string length", z.string().length(3), ["ab", "abc", "abcd"]);
  add("string nonempty", z.string().nonempty(), ["", "a"]);
  add("string min max message", z.string().min(3, "too short!").max(4, { message: "too long!" }), ["a", "abcdef", "abc"]);
  add("string several", z.string().min(5).regex(/^[a-z]+$/).endsWith("z"), ["A", "abcdz", "abcde", "AZ"]);
  add("email", z.string().email(), ["a@b.co", "a@b", "a.b@c.de", ".a@b.co", "a..b@c.de", "a b@c.de", "a+b@c-d.org", "@b.co"]);
  add("url", z.string().url(), ["https://a.b/c?d=e#f", "http://localhost:3000", "nonsense", "mailto:a@b.c", ""]);
  add("uuid", z.string().uuid(), ["9491d710-3185-4e06-bea0-6a2f275345e0", "9491d710-3185-4e06-bea0", "x", "9491D710-3185-4E06-BEA0-6A2F275345E0"]);
  add("regex", z.string().regex(/^\d+$/), ["123", "12a"]);
  add("regex message", z.string().regex(/^\d+$/, "digits only"), ["12a"]);
  add("includes", z.string().includes("bc"), ["abcd", "xyz"]);
  add("includes position", z.string().includes("a", { position: 2 }), ["abca", "abc"]);
  add("startsWith", z.string().startsWith("ab"), ["abc", "bc"]);
  add("endsWith", z.string().endsWith("bc"), ["abc", "ab"]);
  add("trim", z.string().trim().min(2), ["  ab ", "  a  "]);
  add("case", z.string().toLowerCase(), ["ABC"]);
  add("upper", z.string().toUpperCase(), ["abc"]);
  add("datetime", z.string().datetime(), ["2020-01-01T00:00:00Z", "2020-01-01T00:00:00.123Z", "2020-01-01T00:00:00", "2020-01-01T00:00:00+02:00", "2020-02-30T00:00:00Z", "2024-02-29T00:00:00Z", "2023-02-29T00:00:00Z", "x"]);
  add("datetime offset", z.string().datetime({ offset: true }), ["2020-01-01T00:00:00+02:00", "2020-01-01T00:00:00Z"]);
  add("datetime local", z.string().datetime({ local: true }), ["2020-01-01T00:00:00", "2020-01-01T00:00:00Z"]);
  add("datetime precision", z.string().datetime({ precision: 3 }), ["2020-01-01T00:00:00.123Z", "2020-01-01T00:00:00Z"]);
  add("date string", z.string().date(), ["2020-01-01", "2020-13-01", "2020-1-1"]);
  add("time string", z.string().time(), ["12:30:00", "25:00:00", "12:30:00.5"]);
  add("ip", typeof z.string().ip === "function" ? z.string().ip() : z.string(), ["1.2.3.4", "::1", "256.1.1.1", "x", "2001:db8::8a2e:370:7334", "1::2::3"], { not4: "z.string().ip() is gone" });
  add("base64", z.string().base64(), ["aGVsbG8=", "aGVsbG8", "!"]);
  add("cuid2", z.string().cuid2(), ["tz4a98xxat96iws9zmbrgj3a", "A-"]);
  add("ulid", z.string().ulid(), ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "x"]);
  add("nanoid", z.string().nanoid(), ["V1StGXR8_Z5jdHi6B-myT", "x"]);

  // numbers
  add("int", z.number().int(), [1, 1.5, -3, "1"]);
  add("min", z.number().min(3), [2, 3, 4]);
  add("max", z.number().max(3), [2, 3, 4]);
  add("gt", z.number().gt(3), [3, 3.1]);
  add("lt", z.number().lt(3), [3, 2.9]);
  add("gte lte", z.number().gte(1).lte(2), [0, 1, 2, 3]);
  add("positive", z.number().positive(), [0, 1, -1]);
  add("negative", z.number().negative(), [0, 1, -1]);
  add("nonnegative", z.number().nonnegative(), [0, -1]);
  add("nonpositive", z.number().nonpositive(), [0, 1]);
  add("multipleOf", z.number().multipleOf(8), [16, 17, 0, -8]);
  add("multipleOf fraction", z.number().multipleOf(0.1), [0.3, 0.35, 1.1]);
  add("step", z.number().step(0.01), [0.07, 0.075]);
  add("finite", z.number().finite(), [1]);
  add("int min max", z.number().int().min(1).max(100), [0, 0.5, 101, 100.5, 50]);
  add("number message", z.number().min(1, "at least one").int({ message: "whole" }), [0.5]);
  add("required_error", z.string({ required_error: "give me", invalid_type_error: "a string!" }), [undefined, 5], { not4: "required_error is gone" });
  add("bigint rules", z.bigint().min(3n).multipleOf(2n), [4n, 2n, 5n]);
  add("bigint positive", z.bigint().positive(), [1n, 0n]);

  // objects
  const point = z.object({ x: z.number(), y: z.number().optional(), label: z.string().default("p") });
  add("object", point, [{ x: 1 }, { x: "1" }, {}, { x: 1, y: "2", label: 3, extra: 1 }, null, [], "x", undefined]);
  add("object strips", point, [{ x: 1, extra: 2 }]);
  add("strict", point.strict(), [{ x: 1, extra: 2, more: 3 }, { x: 1 }]);
  add("passthrough", point.passthrough(), [{ x: 1, extra: 2 }]);
  add("catchall", point.catchall(z.number()), [{ x: 1, extra: 2 }, { x: 1, extra: "2" }]);
  add("extend", point.extend({ z: z.boolean() }), [{ x: 1, z: true }, { x: 1 }]);
  add("merge", point.merge(z.object({ x: z.string(), w: z.number() })), [{ x: "a", w: 1 }, { x: 1, w: 1 }]);
  add("pick", point.pick({ x: true }), [{ x: 1, y: 2 }]);
  add("omit", point.omit({ x: true }), [{ y: 2 }, { x: 1 }]);
  add("partial", point.partial(), [{}, { x: "1" }], { not4: "defaults apply inside partial" });
  add("partial some", point.partial({ x: true }), [{}, { y: "1" }]);
  add("required", point.required(), [{ x: 1 }, { x: 1, y: 2 }], { not4: "required asks for fields with a default too" });
  add("nested", z.object({ a: z.object({ b: z.array(z.object({ c: z.string() })) }) }), [{ a: { b: [{ c: "x" }] } }, { a: { b: [{ c: "x" }, { c: 1 }, {}] } }, { a: {} }]);
  add("keeps undefined key", z.object({ a: z.string().optional() }), [{ a: undefined }, {}]);
  add("keyof", point.keyof(), ["x", "q"]);
  add("shape", point.shape.x, [1, "a"]);

  // arrays, tuples, records
  add("array", z.array(z.number()), [[1, 2], [1, "2", null], "x", {}]);
  add("array min", z.array(z.number()).min(2), [[1], [1, 2], ["x"]]);
  add("array max", z.array(z.number()).max(2), [[1, 2, 3]]);
  add("array length", z.array(z.number()).length(2), [[1], [1, 2], [1, 2, 3]]);
  add("array nonempty", z.array(z.string()).nonempty(), [[], ["a"]]);
  add("string().array()", z.string().array(), [["a"], [1]]);
  add("tuple", z.tuple([z.string(), z.number()]), [["a", 1], ["a"], ["a", "b"], ["a", 1, 2], "x"]);
  add("tuple rest", z.tuple([z.string()]).rest(z.number()), [["a", 1, 2], ["a", "b"]]);
  add("record", z.record(z.string(), z.number()), [{ a: 1, b: 2 }, { a: "1" }, [], null]);
  add("record one", z.record(z.number()), [{ a: 1 }, { a: "1" }], { not4: "z.record takes two schemas" });
  add("record keys", z.record(z.string().min(2), z.number()), [{ ab: 1 }, { a: 1 }], { not4: "invalid_key wraps the issue" });

  // unions
  add("union", z.union([z.string(), z.number()]), ["a", 1, true, null]);
  add("or", z.string().or(z.number().min(3)), ["a", 5, 1]);
  const mine = { errorMap: (issue) => ({ message: `mine: ${issue.code}` }) };
  add("or keeps messages", z.string(mine).or(z.number()), ["a", true]);
  add("and keeps messages", z.any(mine).transform(() => 1).and(z.any().transform(() => 2)), ["x"], { not4: "zod 4 throws" });
  add("promise keeps messages", typeof z.string().promise === "function" ? z.string(mine).promise() : z.string(), [1], { not4: "promise() is gone" });
  add("union objects", z.union([z.object({ a: z.string() }), z.object({ b: z.number() })]), [{ a: "x" }, { b: 1 }, { c: 1 }, {}]);
  const shapes = z.discriminatedUnion("kind", [z.object({ kind: z.literal("circle"), r: z.number() }), z.object({ kind: z.literal("square"), side: z.number().default(2) })]);
  add("discriminatedUnion", shapes, [{ kind: "circle", r: 1 }, { kind: "square" }, { kind: "circle", r: "1" }, "x"]);
  add("discriminatedUnion unknown", shapes, [{ kind: "other" }, {}], {});
  add("intersection", z.intersection(z.object({ a: z.string() }), z.object({ b: z.number() })), [{ a: "x", b: 1 }, { a: 1 }, {}]);
  add("and", z.object({ a: z.string() }).and(z.object({ b: z.number() })), [{ a: "x", b: 1, c: 2 }]);
  add("intersection conflict", z.intersection(z.string().transform(() => 1), z.string().transform(() => 2)), ["x"], { not4: "zod 4 throws" });

  // wrappers
  add("optional", z.string().optional(), [undefined, "a", null, 1]);
  add("nullable", z.string().nullable(), [null, "a", undefined]);
  add("nullish", z.string().nullish(), [null, undefined, "a", 1]);
  add("default", z.number().default(7), [undefined, 1, null, "x"]);
  add("default function", z.number().default(() => 3 + 4), [undefined]);
  add("optional default", z.number().int().min(1).optional().default(20), [undefined, 0, 5]);
  add("default inside object", z.object({ a: z.number().default(1), b: z.object({ c: z.string().default("d") }).default({}) }), [{}, { b: { c: "x" } }, { a: null }], { not4: "a default is not parsed again" });
  add("default describe", z.string().default("x").describe("text"), [undefined, "y"]);
  add("default optional", z.string().default("x").optional(), [undefined], { not4: "zod 4 fills the default" });
  add("catch", z.number().catch(42), ["x", 1, undefined]);
  add("catch function", z.number().catch(() => 43), ["x"]);
  add("brand", z.string().brand(), ["x", 1]);
  add("readonly", z.object({ a: z.string() }).readonly(), [{ a: "x" }, { a: 1 }]);
  add("lazy", z.lazy(() => z.object({ a: z.string() })), [{ a: "x" }, { a: 1 }]);
  const tree = z.object({ name: z.string(), children: z.lazy(() => z.array(tree)).default([]) });
  add("recursive", tree, [{ name: "a", children: [{ name: "b" }] }, { name: "a", children: [{ name: 1 }] }]);

  // effects
  add("refine", z.string().refine((s) => s.length > 2), ["abc", "a", 5]);
  add("refine message", z.string().refine((s) => s.length > 2, "longer please"), ["a"]);
  add("refine options", z.object({ a: z.string(), b: z.string() }).refine((o) => o.a === o.b, { message: "differ", path: ["b"] }), [{ a: "x", b: "y" }, { a: "x", b: "x" }, { a: "x" }]);
  add("refine function message", z.string().refine((s) => s === "a", (s) => ({ message: `${s} is not a` })), ["b"], { not4: "function messages differ" });
  add("refine twice", z.number().refine((n) => n > 5, "five").refine((n) => n > 10, "ten"), [1, 7, 11]);
  add("refine after dirty", z.string().min(5).refine((s) => s.startsWith("x"), "x first"), ["abc"], {});
  add("superRefine", z.array(z.string()).superRefine((list, ctx) => { if (new Set(list).size !== list.length) ctx.addIssue({ code: "custom", message: "twice", path: [0] }); }), [["a", "a"], ["a", "b"]]);
  add("superRefine several", z.number().superRefine((n, ctx) => { ctx.addIssue({ code: "custom", message: "one" }); ctx.addIssue({ code: "custom", message: "two" }); }), [1]);
  add("transform", z.string().transform((s) => s.length), ["abc", 1]);
  add("transform issue", z.string().transform((s, ctx) => { const n = Number(s); if (Number.isNaN(n)) { ctx.addIssue({ code: "custom", message: "no number" }); return z.NEVER; } return n; }), ["12", "x"]);
  add("transform default", z.string().transform((s) => s.length).default("abcd"), [undefined, "ab"], { not4: "the default is the output" });
  add("pipe", z.string().transform(Number).pipe(z.number().min(3)), ["5", "1", 1]);
  add("pipe dirty", z.string().min(3).pipe(z.string().email()), ["a", "abc", "a@b.co"]);
  add("preprocess", z.preprocess((v) => (typeof v === "string" ? Number(v) : v), z.number().int()), ["5", "5.5", 6, null]);
  add("coerce number", z.coerce.number(), ["5", "x", true, null, ""]);
  add("coerce number rules", z.coerce.number().int().min(2), ["1", "2.5", "3"]);
  add("coerce string", z.coerce.string(), [5, true, null, undefined]);
  add("coerce boolean", z.coerce.boolean(), ["", "false", 0, 1, null]);
  add("coerce bigint", z.coerce.bigint(), ["5", 7, "x"]);
  add("coerce date", z.coerce.date(), ["2020-01-01T00:00:00Z", 0, "x"]);
  add("date min max", z.date().min(new Date(1000)).max(new Date(2000)), [new Date(1500), new Date(5), new Date(5000)], { not4: "dates in issues" });
  // zod 3 has neither `ctx.issues` nor `error`; there the same is said in its words.
  let is3 = false;
  z.any().superRefine((_, ctx) => { is3 = !ctx.issues; }).safeParse(0);
  const push = (ctx, issue) => { if (is3) ctx.addIssue(issue); else ctx.issues.push(issue); };
  const says = (error, message) => (is3 ? { message } : { error });
  add("superRefine pushes", z.object({ a: z.string().superRefine((s, ctx) => { if (s !== "ok") push(ctx, { code: "custom", message: "not ok", path: ["b"] }); }) }), [{ a: "ok" }, { a: "x" }, { a: 1 }]);
  add("superRefine pushes and adds", z.string().superRefine((s, ctx) => { push(ctx, { code: "custom", message: "one" }); ctx.addIssue({ code: "custom", message: "two" }); push(ctx, { code: "custom" }); }), ["x"]);
  add("superRefine pushes later", z.string().superRefine(async (s, ctx) => { await null; push(ctx, { code: "custom", message: "late" }); }), ["x"], { async: true });
  add("transform pushes", z.object({ a: z.string().transform((s, ctx) => { push(ctx, { code: "custom", message: "never" }); return z.NEVER; }) }), [{ a: "x" }, { a: 1 }]);
  add("rule error function", z.object({ a: z.string().trim().min(3, says((issue) => `${issue.code} ${issue.minimum} ${issue.input} ${issue.path}`, "too_small 3 ab a")) }), [{ a: " ab " }, { a: "abc" }]);
  add("rule error object", z.array(z.number().max(3, says(() => ({ message: "big" }), "big"))).min(2, says("few", "few")), [[4], [1, 2]]);
  add("rule error nothing", z.number().int(says(() => undefined)).max(3, says(() => null)), [4.5, 5]);
  add("refine error function", z.object({ a: z.string() }).refine((o) => o.a === "x", { path: ["a"], ...says((issue) => `${issue.code} ${issue.input.a} ${issue.path}`, "custom y a") }), [{ a: "y" }, { a: "x" }]);
  add("custom error function", z.custom((v) => v === 1, says((issue) => `${issue.input} is not 1`, "2 is not 1")), [1, 2]);
  add("custom", z.custom((v) => v === 1, "one only"), [1, 2]);
  add("set", z.set(z.number()).min(1), [new Set([1]), new Set(), new Set(["a"]), [1]], { not4: "sets have no path" });
  add("async refine", z.string().refine(async (s) => s.length > 2, "longer"), ["abc", "a"], { async: true });
  add("async transform", z.object({ a: z.string().transform(async (s) => s.length) }), [{ a: "abc" }, { a: 1 }], { async: true });

  // what real recipe files look like
  const recipe = z.object({
    prompt: z.string().describe("The prompt"),
    width: z.number().int().min(256).max(2048).optional().default(1024).describe("Width"),
    seed: z.number().int().optional().default(() => 12345),
    sampler: z.enum(["euler", "ddim"]).optional().default("euler"),
    loras: z.array(z.object({ name: z.string(), strength: z.number().min(0).max(2).default(1) })).max(3).default([]),
    checkpoint: z.string().refine((v) => ["a", "b"].includes(v)).optional().default("a"),
  });
  add("recipe", recipe, [{ prompt: "x" }, {}, { prompt: "x", width: 100.5 }, { prompt: "x", sampler: "no" }, { prompt: "x", loras: [{ name: "l" }, { strength: 3 }] }, { prompt: "x", checkpoint: "z" }, { prompt: 1, width: "w", seed: 0.5, sampler: 3, loras: {}, checkpoint: null }]);

  return cases.concat(generated(z, 600));
};

// Schemas and inputs made from a seed, the same on every side.
function generated(z, count) {
  let state = 20260101;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 4294967296;
  };
  const below = (n) => Math.floor(random() * n);
  const pick = (list) => list[below(list.length)];

  function schema(depth) {
    const leaf = [
      () => { let s = z.string(); if (random() < 0.4) s = s.min(below(4)); if (random() < 0.4) s = s.max(2 + below(5)); if (random() < 0.2) s = s.startsWith("a"); return s; },
      () => { let s = z.number(); if (random() < 0.4) s = s.int(); if (random() < 0.4) s = s.min(below(6) - 2); if (random() < 0.4) s = s.max(below(9)); if (random() < 0.2) s = s.multipleOf(2); return s; },
      () => z.boolean(),
      () => z.enum(["a", "b", "c"]),
      () => z.literal(pick(["a", 1, true])),
      () => z.null(),
      () => z.coerce.number(),
    ];
    const node = [
      () => z.object(Object.fromEntries(["a", "b", "c"].slice(0, 1 + below(3)).map((key) => [key, schema(depth - 1)]))),
      () => { let s = z.array(schema(depth - 1)); if (random() < 0.3) s = s.min(1 + below(2)); if (random() < 0.3) s = s.max(1 + below(3)); return s; },
      () => z.tuple([schema(depth - 1), schema(depth - 1)]),
      () => z.union([schema(depth - 1), schema(depth - 1)]),
      () => z.record(z.string(), schema(depth - 1)),
      () => z.object({ a: schema(depth - 1), b: schema(depth - 1) })[pick(["strict", "passthrough", "partial"])](),
    ];
    const made = depth <= 0 || random() < 0.35 ? pick(leaf)() : pick(node)();
    switch (below(9)) {
      case 0: return made.optional();
      case 1: return made.nullable();
      case 2: return made.nullish();
      case 3: return made.describe("described");
      case 4: return made.refine((value) => JSON.stringify(value)?.length % 2 === 0, "odd");
      default: return made;
    }
  }
  function value(depth) {
    const leaf = ["", "a", "abc", "bcdefgh", 0, 1, 2, 5, -3, 1.5, true, false, null, undefined, "5"];
    if (depth <= 0 || random() < 0.4) return pick(leaf);
    if (random() < 0.4) return Array.from({ length: below(4) }, () => value(depth - 1));
    return Object.fromEntries(["a", "b", "c", "d"].filter(() => random() < 0.6).map((key) => [key, value(depth - 1)]));
  }
  return Array.from({ length: count }, (_, index) => ({ name: `generated ${index}`, schema: schema(3), input: value(3), generated: true }));
}
