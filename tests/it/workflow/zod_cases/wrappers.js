// What surrounds a schema: wrappers and effects.

module.exports = (z, add) => {
  // wrappers
  add("optional", z.string().optional(), [undefined, "a", null, 1]);
  add("nullable", z.string().nullable(), [null, "a", undefined]);
  add("nullish", z.string().nullish(), [null, undefined, "a", 1]);
  add("default", z.number().default(7), [undefined, 1, null, "x"]);
  add(
    "default function",
    z.number().default(() => 3 + 4),
    [undefined],
  );
  add("optional default", z.number().int().min(1).optional().default(20), [undefined, 0, 5]);
  add(
    "default inside object",
    z.object({ a: z.number().default(1), b: z.object({ c: z.string().default("d") }).default({}) }),
    [{}, { b: { c: "x" } }, { a: null }],
    { not4: "a default is not parsed again" },
  );
  add("default describe", z.string().default("x").describe("text"), [undefined, "y"]);
  add("default optional", z.string().default("x").optional(), [undefined], {
    not4: "zod 4 fills the default",
  });
  add("catch", z.number().catch(42), ["x", 1, undefined]);
  add(
    "catch function",
    z.number().catch(() => 43),
    ["x"],
  );
  add("brand", z.string().brand(), ["x", 1]);
  add("readonly", z.object({ a: z.string() }).readonly(), [{ a: "x" }, { a: 1 }]);
  add(
    "lazy",
    z.lazy(() => z.object({ a: z.string() })),
    [{ a: "x" }, { a: 1 }],
  );
  const tree = z.object({ name: z.string(), children: z.lazy(() => z.array(tree)).default([]) });
  add("recursive", tree, [
    { name: "a", children: [{ name: "b" }] },
    { name: "a", children: [{ name: 1 }] },
  ]);

  // effects
  add(
    "refine",
    z.string().refine((s) => s.length > 2),
    ["abc", "a", 5],
  );
  add(
    "refine message",
    z.string().refine((s) => s.length > 2, "longer please"),
    ["a"],
  );
  add(
    "refine options",
    z
      .object({ a: z.string(), b: z.string() })
      .refine((o) => o.a === o.b, { message: "differ", path: ["b"] }),
    [{ a: "x", b: "y" }, { a: "x", b: "x" }, { a: "x" }],
  );
  add(
    "refine function message",
    z.string().refine(
      (s) => s === "a",
      (s) => ({ message: `${s} is not a` }),
    ),
    ["b"],
    { not4: "function messages differ" },
  );
  add(
    "refine twice",
    z
      .number()
      .refine((n) => n > 5, "five")
      .refine((n) => n > 10, "ten"),
    [1, 7, 11],
  );
  add(
    "refine after dirty",
    z
      .string()
      .min(5)
      .refine((s) => s.startsWith("x"), "x first"),
    ["abc"],
    {},
  );
  add(
    "superRefine",
    z.array(z.string()).superRefine((list, ctx) => {
      if (new Set(list).size !== list.length)
        ctx.addIssue({ code: "custom", message: "twice", path: [0] });
    }),
    [
      ["a", "a"],
      ["a", "b"],
    ],
  );
  add(
    "superRefine several",
    z.number().superRefine((n, ctx) => {
      ctx.addIssue({ code: "custom", message: "one" });
      ctx.addIssue({ code: "custom", message: "two" });
    }),
    [1],
  );
  add(
    "transform",
    z.string().transform((s) => s.length),
    ["abc", 1],
  );
  add(
    "transform issue",
    z.string().transform((s, ctx) => {
      const n = Number(s);
      if (Number.isNaN(n)) {
        ctx.addIssue({ code: "custom", message: "no number" });
        return z.NEVER;
      }
      return n;
    }),
    ["12", "x"],
  );
  add(
    "transform default",
    z
      .string()
      .transform((s) => s.length)
      .default("abcd"),
    [undefined, "ab"],
    { not4: "the default is the output" },
  );
  add("pipe", z.string().transform(Number).pipe(z.number().min(3)), ["5", "1", 1]);
  add("pipe dirty", z.string().min(3).pipe(z.string().email()), ["a", "abc", "a@b.co"]);
  add(
    "preprocess",
    z.preprocess((v) => (typeof v === "string" ? Number(v) : v), z.number().int()),
    ["5", "5.5", 6, null],
  );
  add("coerce number", z.coerce.number(), ["5", "x", true, null, ""]);
  add("coerce number rules", z.coerce.number().int().min(2), ["1", "2.5", "3"]);
  add("coerce string", z.coerce.string(), [5, true, null, undefined]);
  add("coerce boolean", z.coerce.boolean(), ["", "false", 0, 1, null]);
  add("coerce bigint", z.coerce.bigint(), ["5", 7, "x"]);
  add("coerce date", z.coerce.date(), ["2020-01-01T00:00:00Z", 0, "x"]);
  add(
    "date min max",
    z.date().min(new Date(1000)).max(new Date(2000)),
    [new Date(1500), new Date(5), new Date(5000)],
    { not4: "dates in issues" },
  );
};
