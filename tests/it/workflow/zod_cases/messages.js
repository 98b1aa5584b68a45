// How it is said what is wrong, and what takes its time.

module.exports = (z, add) => {
  // zod 3 has neither `ctx.issues` nor `error`; there the same is said in its words.
  let is3 = false;
  z.any()
    .superRefine((_, ctx) => {
      is3 = !ctx.issues;
    })
    .safeParse(0);
  const push = (ctx, issue) => {
    if (is3) ctx.addIssue(issue);
    else ctx.issues.push(issue);
  };
  const says = (error, message) => (is3 ? { message } : { error });
  add(
    "superRefine pushes",
    z.object({
      a: z.string().superRefine((s, ctx) => {
        if (s !== "ok") push(ctx, { code: "custom", message: "not ok", path: ["b"] });
      }),
    }),
    [{ a: "ok" }, { a: "x" }, { a: 1 }],
  );
  add(
    "superRefine pushes and adds",
    z.string().superRefine((s, ctx) => {
      push(ctx, { code: "custom", message: "one" });
      ctx.addIssue({ code: "custom", message: "two" });
      push(ctx, { code: "custom" });
    }),
    ["x"],
  );
  add(
    "superRefine pushes later",
    z.string().superRefine(async (s, ctx) => {
      await null;
      push(ctx, { code: "custom", message: "late" });
    }),
    ["x"],
    { async: true },
  );
  add(
    "transform pushes",
    z.object({
      a: z.string().transform((s, ctx) => {
        push(ctx, { code: "custom", message: "never" });
        return z.NEVER;
      }),
    }),
    [{ a: "x" }, { a: 1 }],
  );
  add(
    "rule error function",
    z.object({
      a: z
        .string()
        .trim()
        .min(
          3,
          says(
            (issue) => `${issue.code} ${issue.minimum} ${issue.input} ${issue.path}`,
            "too_small 3 ab a",
          ),
        ),
    }),
    [{ a: " ab " }, { a: "abc" }],
  );
  add(
    "rule error object",
    z
      .array(
        z.number().max(
          3,
          says(() => ({ message: "big" }), "big"),
        ),
      )
      .min(2, says("few", "few")),
    [[4], [1, 2]],
  );
  add(
    "rule error nothing",
    z
      .number()
      .int(says(() => undefined))
      .max(
        3,
        says(() => null),
      ),
    [4.5, 5],
  );
  add(
    "refine error function",
    z.object({ a: z.string() }).refine((o) => o.a === "x", {
      path: ["a"],
      ...says((issue) => `${issue.code} ${issue.input.a} ${issue.path}`, "custom y a"),
    }),
    [{ a: "y" }, { a: "x" }],
  );
  add(
    "custom error function",
    z.custom(
      (v) => v === 1,
      says((issue) => `${issue.input} is not 1`, "2 is not 1"),
    ),
    [1, 2],
  );
  add(
    "custom",
    z.custom((v) => v === 1, "one only"),
    [1, 2],
  );
  add("set", z.set(z.number()).min(1), [new Set([1]), new Set(), new Set(["a"]), [1]], {
    not4: "sets have no path",
  });
  add(
    "async refine",
    z.string().refine(async (s) => s.length > 2, "longer"),
    ["abc", "a"],
    { async: true },
  );
  add(
    "async transform",
    z.object({ a: z.string().transform(async (s) => s.length) }),
    [{ a: "abc" }, { a: 1 }],
    { async: true },
  );
};
