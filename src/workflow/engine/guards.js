// A few native functions of the engine do not ask in between whether the call has run for too long. What holds a list of this length fits
// in the memory of a call; only something that merely claims a length is longer, and would keep them busy for hours.
const LONGEST = 2 ** 24;

for (const name of ["sort", "toSorted", "reverse", "toReversed", "flat", "flatMap", "splice", "toSpliced", "with", "concat", "copyWithin", "fill", "unshift"]) {
  const native = Array.prototype[name];
  if (!native) continue;
  const guarded = {
    [name](...args) {
      if (this !== null && this !== undefined && this.length > LONGEST) throw new RangeError(`${name}: the array is too long`);
      return native.apply(this, args);
    },
  }[name];
  Object.defineProperty(Array.prototype, name, { value: guarded, writable: true, configurable: true, enumerable: false });
}
