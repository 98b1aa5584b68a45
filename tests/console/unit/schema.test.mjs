import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./setup.mjs";

const schema = await load("form/schema.js");

test("each kind of value gets its control", () => {
  for (const [name, given, kind] of [
    ["a", { type: "string" }, "text"],
    ["prompt", { type: "string" }, "long"],
    ["negative_prompt", { type: "string" }, "long"],
    ["a", { type: "string", default: "two\nlines" }, "long"],
    ["a", { type: "integer" }, "integer"],
    ["a", { type: "number" }, "number"],
    ["a", { type: "boolean" }, "switch"],
    ["a", { enum: ["x", 1, null] }, "choice"],
    ["a", { type: "array", items: { type: "string" } }, "list"],
    ["a", { type: "object", properties: { b: {} } }, "group"],
    ["a", { type: "object" }, "json"],
    ["a", {}, "json"],
    ["a", { const: 5 }, "fixed"],
    ["image", { type: "string" }, "media"],
    ["start_image", { type: "string" }, "media"],
    ["mask", { type: "string" }, "media"],
    ["image", { type: "integer" }, "integer"],
    ["image", { type: "string", enum: ["a"] }, "choice"],
    ["anything", { type: "string", contentMediaType: "video/*" }, "media"],
    ["image", { type: "string", contentMediaType: "text/plain" }, "text"],
  ])
    assert.equal(
      schema.kindOf(name, schema.resolve(given, given)),
      kind,
      `${name} ${JSON.stringify(given)}`,
    );
  assert.equal(schema.mediaOf("mask", { type: "string" }), "image/*");
  assert.equal(schema.mediaOf("video", { type: "string" }), "video/*");
  assert.equal(schema.mediaOf("x", { type: "string", contentMediaType: "*/*" }), "*/*");
});

test("references and optional wrappers are followed", () => {
  const root = {
    $defs: { size: { type: "integer", minimum: 1 } },
    properties: { a: { $ref: "#/$defs/size", title: "A" } },
  };
  assert.deepEqual(schema.resolve(root.properties.a, root), {
    type: "integer",
    minimum: 1,
    title: "A",
  });
  assert.equal(
    schema.resolve({ anyOf: [{ type: "string" }, { type: "null" }] }, {}).type,
    "string",
  );
  assert.equal(schema.resolve({ type: ["number", "null"] }, {}).type, "number");
  assert.deepEqual(
    schema.resolve({ oneOf: [{ const: "a", title: "One" }, { const: "b" }] }, {}).enum,
    ["a", "b"],
  );
  schema.resolve({ $ref: "#/self" }, { self: { $ref: "#/self" } });
});

test("the browser finds what the schema forbids", () => {
  const check = (value, given, required = false) => {
    const found = schema.resolve(given, given);
    return schema.problem(value, found, schema.kindOf("a", found), required);
  };
  assert.match(check(undefined, { type: "string" }, true), /needed/);
  assert.equal(check(undefined, { type: "string" }), "");
  assert.match(check("", { type: "string", minLength: 1 }), /needed/);
  assert.match(check("abc", { type: "string", maxLength: 2 }), /At most 2/);
  assert.equal(check("😀😀", { type: "string", maxLength: 2 }), "");
  assert.match(check("abc", { type: "string", pattern: "^\\d+$" }), /form/);
  assert.equal(
    check("abc", { type: "string", pattern: "(?<!" }),
    "",
    "a pattern of another dialect is the server's business",
  );
  assert.match(check(1.5, { type: "integer" }), /whole/);
  assert.match(check(9, { type: "integer", maximum: 8 }), /At most 8/);
  assert.match(check(0, { type: "number", exclusiveMinimum: 0 }), /than 0|At least/);
  assert.match(check(7, { type: "integer", multipleOf: 8 }), /multiple of 8/);
  assert.equal(check(0.3, { type: "number", multipleOf: 0.1 }), "");
  assert.match(check([], { type: "array", items: {}, minItems: 1 }), /At least 1/);
});

test("seeds are random within their range", () => {
  const seeds = new Set(
    Array.from({ length: 200 }, () =>
      schema.randomSeed({ minimum: 10, maximum: 20, type: "integer" }),
    ),
  );
  assert.ok([...seeds].every((seed) => seed >= 10 && seed <= 20) && seeds.size > 5);
  assert.ok(Number.isSafeInteger(schema.randomSeed({})));
  assert.ok(
    schema.isSeed("noise_seed", "integer") &&
      schema.isSeed("seed", "integer") &&
      !schema.isSeed("seed", "text"),
  );
});
