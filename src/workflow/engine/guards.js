// Some native functions of the engine do not ask in between whether the call has run for too long.
// A list of this length still fits in the memory of a call; only something that merely claims a
// length is longer, and would keep them busy for hours.
const LONGEST = 2 ** 24;

function checkLength(list, name) {
  if (list !== null && list !== undefined && list.length > LONGEST)
    throw new RangeError(`${name}: the array is too long`);
}

// Native functions that walk the lists inside of a list, or those among their arguments.
function checkInner(list, name, depth) {
  checkLength(list, name);
  if (depth > 0)
    for (const item of list) if (Array.isArray(item)) checkInner(item, name, depth - 1);
}

const checks = {
  concat: (list, args) => args.forEach((arg) => Array.isArray(arg) && checkLength(arg, "concat")),
  flat: (list, [depth]) =>
    Array.isArray(list) && checkInner(list, "flat", Math.min(Number(depth ?? 1) || 0, 100)),
};

const UNGUARDED = [
  "sort",
  "toSorted",
  "reverse",
  "toReversed",
  "flat",
  "flatMap",
  "splice",
  "toSpliced",
  "with",
  "concat",
  "copyWithin",
  "fill",
  "shift",
  "unshift",
  "slice",
  "join",
  "toLocaleString",
];

for (const name of UNGUARDED) {
  const native = Array.prototype[name];
  if (!native) continue;
  const guarded = {
    [name](...args) {
      checkLength(this, name);
      checks[name]?.(this, args);
      return native.apply(this, args);
    },
  }[name];
  Object.defineProperty(Array.prototype, name, {
    value: guarded,
    writable: true,
    configurable: true,
    enumerable: false,
  });
}
