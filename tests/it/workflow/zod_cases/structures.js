// Values made of others: objects, arrays, tuples, records, unions.

module.exports = (z, add) => {
  // objects
  const point = z.object({
    x: z.number(),
    y: z.number().optional(),
    label: z.string().default("p"),
  });
  add("object", point, [
    { x: 1 },
    { x: "1" },
    {},
    { x: 1, y: "2", label: 3, extra: 1 },
    null,
    [],
    "x",
    undefined,
  ]);
  add("object strips", point, [{ x: 1, extra: 2 }]);
  add("strict", point.strict(), [{ x: 1, extra: 2, more: 3 }, { x: 1 }]);
  add("passthrough", point.passthrough(), [{ x: 1, extra: 2 }]);
  add("catchall", point.catchall(z.number()), [
    { x: 1, extra: 2 },
    { x: 1, extra: "2" },
  ]);
  add("extend", point.extend({ z: z.boolean() }), [{ x: 1, z: true }, { x: 1 }]);
  add("merge", point.merge(z.object({ x: z.string(), w: z.number() })), [
    { x: "a", w: 1 },
    { x: 1, w: 1 },
  ]);
  add("pick", point.pick({ x: true }), [{ x: 1, y: 2 }]);
  add("omit", point.omit({ x: true }), [{ y: 2 }, { x: 1 }]);
  add("partial", point.partial(), [{}, { x: "1" }], { not4: "defaults apply inside partial" });
  add("partial some", point.partial({ x: true }), [{}, { y: "1" }]);
  add("required", point.required(), [{ x: 1 }, { x: 1, y: 2 }], {
    not4: "required asks for fields with a default too",
  });
  add("nested", z.object({ a: z.object({ b: z.array(z.object({ c: z.string() })) }) }), [
    { a: { b: [{ c: "x" }] } },
    { a: { b: [{ c: "x" }, { c: 1 }, {}] } },
    { a: {} },
  ]);
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
  add("tuple rest", z.tuple([z.string()]).rest(z.number()), [
    ["a", 1, 2],
    ["a", "b"],
  ]);
  add("record", z.record(z.string(), z.number()), [{ a: 1, b: 2 }, { a: "1" }, [], null]);
  add("record one", z.record(z.number()), [{ a: 1 }, { a: "1" }], {
    not4: "z.record takes two schemas",
  });
  add("record keys", z.record(z.string().min(2), z.number()), [{ ab: 1 }, { a: 1 }], {
    not4: "invalid_key wraps the issue",
  });

  // unions
  add("union", z.union([z.string(), z.number()]), ["a", 1, true, null]);
  add("or", z.string().or(z.number().min(3)), ["a", 5, 1]);
  const mine = { errorMap: (issue) => ({ message: `mine: ${issue.code}` }) };
  add("or keeps messages", z.string(mine).or(z.number()), ["a", true]);
  add(
    "and keeps messages",
    z
      .any(mine)
      .transform(() => 1)
      .and(z.any().transform(() => 2)),
    ["x"],
    { not4: "zod 4 throws" },
  );
  add(
    "promise keeps messages",
    typeof z.string().promise === "function" ? z.string(mine).promise() : z.string(),
    [1],
    { not4: "promise() is gone" },
  );
  add("union objects", z.union([z.object({ a: z.string() }), z.object({ b: z.number() })]), [
    { a: "x" },
    { b: 1 },
    { c: 1 },
    {},
  ]);
  const shapes = z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("circle"), r: z.number() }),
    z.object({ kind: z.literal("square"), side: z.number().default(2) }),
  ]);
  add("discriminatedUnion", shapes, [
    { kind: "circle", r: 1 },
    { kind: "square" },
    { kind: "circle", r: "1" },
    "x",
  ]);
  add("discriminatedUnion unknown", shapes, [{ kind: "other" }, {}], {});
  add("intersection", z.intersection(z.object({ a: z.string() }), z.object({ b: z.number() })), [
    { a: "x", b: 1 },
    { a: 1 },
    {},
  ]);
  add("and", z.object({ a: z.string() }).and(z.object({ b: z.number() })), [
    { a: "x", b: 1, c: 2 },
  ]);
  add(
    "intersection conflict",
    z.intersection(
      z.string().transform(() => 1),
      z.string().transform(() => 2),
    ),
    ["x"],
    { not4: "zod 4 throws" },
  );
};
