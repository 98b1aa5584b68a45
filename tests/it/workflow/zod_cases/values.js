// Values of one type: the simple ones, strings, numbers.

module.exports = (z, add) => {
  const anything = [
    "text",
    "",
    0,
    1,
    -1.5,
    NaN,
    true,
    null,
    undefined,
    [],
    {},
    ["a"],
    { a: 1 },
    new Date(0),
    5n,
  ];

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
  add("string min max message", z.string().min(3, "too short!").max(4, { message: "too long!" }), [
    "a",
    "abcdef",
    "abc",
  ]);
  add(
    "string several",
    z
      .string()
      .min(5)
      .regex(/^[a-z]+$/)
      .endsWith("z"),
    ["A", "abcdz", "abcde", "AZ"],
  );
  add("email", z.string().email(), [
    "a@b.co",
    "a@b",
    "a.b@c.de",
    ".a@b.co",
    "a..b@c.de",
    "a b@c.de",
    "a+b@c-d.org",
    "@b.co",
  ]);
  add("url", z.string().url(), [
    "https://a.b/c?d=e#f",
    "http://localhost:3000",
    "nonsense",
    "mailto:a@b.c",
    "",
  ]);
  add("uuid", z.string().uuid(), [
    "9491d710-3185-4e06-bea0-6a2f275345e0",
    "9491d710-3185-4e06-bea0",
    "x",
    "9491D710-3185-4E06-BEA0-6A2F275345E0",
  ]);
  add("regex", z.string().regex(/^\d+$/), ["123", "12a"]);
  add("regex message", z.string().regex(/^\d+$/, "digits only"), ["12a"]);
  add("includes", z.string().includes("bc"), ["abcd", "xyz"]);
  add("includes position", z.string().includes("a", { position: 2 }), ["abca", "abc"]);
  add("startsWith", z.string().startsWith("ab"), ["abc", "bc"]);
  add("endsWith", z.string().endsWith("bc"), ["abc", "ab"]);
  add("trim", z.string().trim().min(2), ["  ab ", "  a  "]);
  add("case", z.string().toLowerCase(), ["ABC"]);
  add("upper", z.string().toUpperCase(), ["abc"]);
  add("datetime", z.string().datetime(), [
    "2020-01-01T00:00:00Z",
    "2020-01-01T00:00:00.123Z",
    "2020-01-01T00:00:00",
    "2020-01-01T00:00:00+02:00",
    "2020-02-30T00:00:00Z",
    "2024-02-29T00:00:00Z",
    "2023-02-29T00:00:00Z",
    "x",
  ]);
  add("datetime offset", z.string().datetime({ offset: true }), [
    "2020-01-01T00:00:00+02:00",
    "2020-01-01T00:00:00Z",
  ]);
  add("datetime local", z.string().datetime({ local: true }), [
    "2020-01-01T00:00:00",
    "2020-01-01T00:00:00Z",
  ]);
  add("datetime precision", z.string().datetime({ precision: 3 }), [
    "2020-01-01T00:00:00.123Z",
    "2020-01-01T00:00:00Z",
  ]);
  add("date string", z.string().date(), ["2020-01-01", "2020-13-01", "2020-1-1"]);
  add("time string", z.string().time(), ["12:30:00", "25:00:00", "12:30:00.5"]);
  add(
    "ip",
    typeof z.string().ip === "function" ? z.string().ip() : z.string(),
    ["1.2.3.4", "::1", "256.1.1.1", "x", "2001:db8::8a2e:370:7334", "1::2::3"],
    { not4: "z.string().ip() is gone" },
  );
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
  add(
    "required_error",
    z.string({ required_error: "give me", invalid_type_error: "a string!" }),
    [undefined, 5],
    { not4: "required_error is gone" },
  );
  add("bigint rules", z.bigint().min(3n).multipleOf(2n), [4n, 2n, 5n]);
  add("bigint positive", z.bigint().positive(), [1n, 0n]);
};
