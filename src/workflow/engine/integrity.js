// One isolate serves many clients, one after the other. What a call changes of the language itself
// (a careless deep merge of `{"__proto__": ...}` is enough) must not reach the next: Rust asks
// `changed()` after each call and drops the isolate if so. Freezing would be simpler and breaks
// files that assign to inherited names. The natives used here are taken before any file runs,
// because a call may replace them.

const integrity = (() => {
  const { ownKeys, getOwnPropertyDescriptor, getPrototypeOf } = Reflect;
  const { freeze, is } = Object;
  const objectsOnly = (value) =>
    (typeof value === "object" && value !== null) || typeof value === "function";

  // Objects of the language that no global leads to.
  const hidden = [
    (async () => {}).constructor,
    function* () {}.constructor,
    async function* () {}.constructor,
    [][Symbol.iterator](),
    new Map()[Symbol.iterator](),
    new Set()[Symbol.iterator](),
    ""[Symbol.iterator](),
    "".matchAll(/x/g),
    (function* () {})(),
    (async function* () {})(),
  ];

  function reachable(roots) {
    const found = new Set();
    const open = [...roots];
    while (open.length > 0) {
      const value = open.pop();
      if (!objectsOnly(value) || found.has(value)) continue;
      found.add(value);
      open.push(getPrototypeOf(value));
      for (const key of ownKeys(value)) {
        const described = getOwnPropertyDescriptor(value, key);
        open.push(described.value, described.get, described.set);
      }
    }
    return found;
  }

  let watched = [];
  let records = [];

  return {
    // What is watched: everything that can be reached from these and from the globals. Nobody has a
    // reason to touch a built-in method that is no class; freezing those leaves a tenth of the
    // objects to look at.
    watch(roots) {
      for (const value of reachable([globalThis, ...hidden, ...roots])) {
        const method =
          typeof value === "function" &&
          !getOwnPropertyDescriptor(value, "prototype") &&
          ownKeys(value).length <= 2;
        if (method) freeze(value);
        else watched.push(value);
      }
    },
    // How things are now, after the file has been loaded, which may patch what it likes.
    remember() {
      records = watched.map((object) => {
        const values = [];
        const accessors = [];
        const keys = ownKeys(object);
        for (const key of keys) {
          const described = getOwnPropertyDescriptor(object, key);
          if ("value" in described) values.push(key, described.value);
          else accessors.push(key, described.get, described.set);
        }
        return { object, prototype: getPrototypeOf(object), count: keys.length, values, accessors };
      });
    },
    changed() {
      for (let r = 0; r < records.length; r++) {
        const { object, prototype, count, values, accessors } = records[r];
        if (getPrototypeOf(object) !== prototype || ownKeys(object).length !== count) return true;
        for (let i = 0; i < values.length; i += 2)
          if (!is(object[values[i]], values[i + 1])) return true;
        for (let i = 0; i < accessors.length; i += 3) {
          const described = getOwnPropertyDescriptor(object, accessors[i]);
          if (
            !described ||
            described.get !== accessors[i + 1] ||
            described.set !== accessors[i + 2]
          )
            return true;
        }
      }
      return false;
    },
  };
})();
