import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./setup.mjs";

const json = await load("json.js");

test("integers of 64 bits stay what they are", () => {
  assert.ok("rawJSON" in JSON, "this Node needs --harmony-json-parse-with-source: see run.sh");
  const text = '{"seed":18446744073709551615,"small":7,"half":0.5,"list":[-9223372036854775808]}';
  assert.equal(json.stringify(json.parse(text)), text);
  assert.equal(json.numberText(json.parse(text).seed), "18446744073709551615");
  assert.equal(
    json.stringify({ seed: json.number("0018446744073709551615") }),
    '{"seed":18446744073709551615}',
  );
  assert.equal(json.stringify(json.copy(json.parse(text))), text);
});

test("what is typed becomes a number or nothing", () => {
  assert.equal(json.number(" 42 "), 42);
  assert.equal(json.number("-1.5e3"), -1500);
  assert.equal(json.number(""), undefined);
  assert.equal(json.number("abc"), undefined);
  assert.equal(json.numberText(undefined), "");
});

test("a copy shares nothing", () => {
  const first = { a: [{ b: 1 }] };
  const second = json.copy(first);
  second.a[0].b = 2;
  assert.equal(first.a[0].b, 1);
});
