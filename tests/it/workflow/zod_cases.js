// Pairs of schema and input, evaluated by the built-in zod inside the engine and by the real ones
// under Node.js. `module.exports = (z) => [{ name, schema, input, async?, not4? }]`; `not4` says
// why zod 4 answers differently.

module.exports = (z) => {
  const cases = [];
  const add = (name, schema, inputs, more = {}) =>
    inputs.forEach((input, index) =>
      cases.push({ name: `${name} #${index}`, schema, input, ...more }),
    );
  require("./zod_cases/values.js")(z, add);
  require("./zod_cases/structures.js")(z, add);
  require("./zod_cases/wrappers.js")(z, add);
  require("./zod_cases/messages.js")(z, add);

  // what real recipe files look like
  const recipe = z.object({
    prompt: z.string().describe("The prompt"),
    width: z.number().int().min(256).max(2048).optional().default(1024).describe("Width"),
    seed: z
      .number()
      .int()
      .optional()
      .default(() => 12345),
    sampler: z.enum(["euler", "ddim"]).optional().default("euler"),
    loras: z
      .array(z.object({ name: z.string(), strength: z.number().min(0).max(2).default(1) }))
      .max(3)
      .default([]),
    checkpoint: z
      .string()
      .refine((v) => ["a", "b"].includes(v))
      .optional()
      .default("a"),
  });
  add("recipe", recipe, [
    { prompt: "x" },
    {},
    { prompt: "x", width: 100.5 },
    { prompt: "x", sampler: "no" },
    { prompt: "x", loras: [{ name: "l" }, { strength: 3 }] },
    { prompt: "x", checkpoint: "z" },
    { prompt: 1, width: "w", seed: 0.5, sampler: 3, loras: {}, checkpoint: null },
  ]);

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
      () => {
        let s = z.string();
        if (random() < 0.4) s = s.min(below(4));
        if (random() < 0.4) s = s.max(2 + below(5));
        if (random() < 0.2) s = s.startsWith("a");
        return s;
      },
      () => {
        let s = z.number();
        if (random() < 0.4) s = s.int();
        if (random() < 0.4) s = s.min(below(6) - 2);
        if (random() < 0.4) s = s.max(below(9));
        if (random() < 0.2) s = s.multipleOf(2);
        return s;
      },
      () => z.boolean(),
      () => z.enum(["a", "b", "c"]),
      () => z.literal(pick(["a", 1, true])),
      () => z.null(),
      () => z.coerce.number(),
    ];
    const node = [
      () =>
        z.object(
          Object.fromEntries(
            ["a", "b", "c"].slice(0, 1 + below(3)).map((key) => [key, schema(depth - 1)]),
          ),
        ),
      () => {
        let s = z.array(schema(depth - 1));
        if (random() < 0.3) s = s.min(1 + below(2));
        if (random() < 0.3) s = s.max(1 + below(3));
        return s;
      },
      () => z.tuple([schema(depth - 1), schema(depth - 1)]),
      () => z.union([schema(depth - 1), schema(depth - 1)]),
      () => z.record(z.string(), schema(depth - 1)),
      () =>
        z
          .object({ a: schema(depth - 1), b: schema(depth - 1) })
          [pick(["strict", "passthrough", "partial"])](),
    ];
    const made = depth <= 0 || random() < 0.35 ? pick(leaf)() : pick(node)();
    switch (below(9)) {
      case 0:
        return made.optional();
      case 1:
        return made.nullable();
      case 2:
        return made.nullish();
      case 3:
        return made.describe("described");
      case 4:
        return made.refine((value) => JSON.stringify(value)?.length % 2 === 0, "odd");
      default:
        return made;
    }
  }
  function value(depth) {
    const leaf = [
      "",
      "a",
      "abc",
      "bcdefgh",
      0,
      1,
      2,
      5,
      -3,
      1.5,
      true,
      false,
      null,
      undefined,
      "5",
    ];
    if (depth <= 0 || random() < 0.4) return pick(leaf);
    if (random() < 0.4) return Array.from({ length: below(4) }, () => value(depth - 1));
    return Object.fromEntries(
      ["a", "b", "c", "d"].filter(() => random() < 0.6).map((key) => [key, value(depth - 1)]),
    );
  }
  return Array.from({ length: count }, (_, index) => ({
    name: `generated ${index}`,
    schema: schema(3),
    input: value(3),
    generated: true,
  }));
}
