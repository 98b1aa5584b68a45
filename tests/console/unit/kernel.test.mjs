import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./setup.mjs";

const { signal, effect, computed, scope, onCleanup, flush } = await load("kernel.js");

test("an effect runs once for any number of changes, and only for what it has read", () => {
  const [a, b, other] = [signal(1), signal(2), signal(0)];
  const seen = [];
  effect(() => seen.push(a() + b()));
  a.set(10);
  b.set(20);
  other.set(1);
  flush();
  assert.deepEqual(seen, [3, 30]);
  a.set(10);
  flush();
  assert.deepEqual(seen, [3, 30], "the same value is no change");
});

test("what an effect has made ends when it runs again, and with its scope", () => {
  const outer = signal(0);
  const inner = signal(0);
  const log = [];
  const { end } = scope(() =>
    effect(() => {
      const now = outer();
      effect(() => log.push(`${now}:${inner()}`));
      onCleanup(() => log.push(`end ${now}`));
    }),
  );
  outer.set(1);
  flush();
  inner.set(1);
  flush();
  assert.deepEqual(log, ["0:0", "end 0", "1:0", "1:1"]);
  end();
  inner.set(2);
  outer.set(2);
  flush();
  assert.deepEqual(log.slice(4), ["end 1"]);
});

test("a computed signal tells of changes of its value only", () => {
  const number = signal(1);
  const even = computed(() => number() % 2 === 0);
  let runs = 0;
  effect(() => {
    even();
    runs += 1;
  });
  number.set(3);
  flush();
  assert.equal(runs, 1);
  number.set(4);
  flush();
  flush();
  assert.equal(runs, 2);
  assert.equal(even.peek(), true);
});

test("reading by peek makes no dependency", () => {
  const value = signal(1);
  let runs = 0;
  effect(() => {
    value.peek();
    runs += 1;
  });
  value.update((before) => before + 1);
  flush();
  assert.equal(runs, 1);
});
