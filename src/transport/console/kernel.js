/**
 * The view kernel: signals, elements, keyed lists. Everything that the pages need and nothing else.
 *
 * A signal is a function that returns its value; whoever calls it inside `effect` (or inside a
 * function given to `h` as a property or child) runs again when the value changes. Effects run once
 * per microtask, whatever number of signals changed.
 */

/**
 * @typedef {{
 *   run: () => void,
 *   sources: Set<Set<Effect>>,
 *   cleanups: (() => void)[],
 *   queued: boolean,
 *   dead: boolean,
 * }} Effect
 */
/**
 * @template T
 * @typedef {{(): T, set(value: T): void, peek(): T, update(change: (value: T) => T): void}} Signal
 */
/** @typedef {Node | string | number | boolean | null | undefined | (() => any) | any[]} Child */

/** @type {Effect | null} */
let current = null;
/** @type {(() => void)[] | null} */
let owner = null;
/** @type {Effect[]} */
let queue = [];

/**
 * A value that tells who has read it when it changes.
 * @template T
 * @param {T} initial
 * @returns {Signal<T>}
 */
export function signal(initial) {
  let value = initial;
  /** @type {Set<Effect>} */
  const readers = new Set();
  const read = () => {
    if (current) {
      readers.add(current);
      current.sources.add(readers);
    }
    return value;
  };
  read.peek = () => value;
  /** @param {T} next */
  read.set = (next) => {
    if (Object.is(next, value)) return;
    value = next;
    for (const reader of readers) schedule(reader);
  };
  /** @param {(value: T) => T} change */
  read.update = (change) => read.set(change(value));
  return read;
}

/** @param {Effect} effect */
function schedule(effect) {
  if (effect.queued || effect.dead) return;
  effect.queued = true;
  queue.push(effect);
  if (queue.length === 1) queueMicrotask(flush);
}

/** Runs what is waiting; tests call it to see changes at once. */
export function flush() {
  for (let index = 0; index < queue.length; index += 1) {
    const effect = queue[index];
    effect.queued = false;
    if (effect.dead) continue;
    try {
      effect.run();
    } catch (error) {
      reportError(error); // one broken view must not stop the others
    }
  }
  queue = [];
}

/** @param {(() => void)[]} cleanups */
function clean(cleanups) {
  for (const cleanup of cleanups.splice(0)) cleanup();
}

/**
 * Runs `work` now and again whenever a signal that it has read changes. Ends with the scope in
 * which it was made.
 * @param {() => void} work
 * @returns {() => void} ends it
 */
export function effect(work) {
  /** @type {Effect} */
  const self = {
    run() {
      clean(self.cleanups);
      for (const readers of self.sources) readers.delete(self);
      self.sources.clear();
      const before = [current, owner];
      current = self;
      owner = self.cleanups;
      try {
        work();
      } finally {
        current = /** @type {Effect | null} */ (before[0]);
        owner = /** @type {(() => void)[] | null} */ (before[1]);
      }
    },
    sources: new Set(),
    cleanups: [],
    queued: false,
    dead: false,
  };
  const end = () => {
    self.dead = true;
    clean(self.cleanups);
    for (const readers of self.sources) readers.delete(self);
  };
  onCleanup(end);
  self.run();
  return end;
}

/**
 * A signal that is calculated from others.
 * @template T
 * @param {() => T} work
 * @returns {Signal<T>}
 */
export function computed(work) {
  const result = signal(/** @type {T} */ (undefined));
  effect(() => result.set(work()));
  return result;
}

/**
 * A part of the page that is there while `test` holds. Unlike a plain function it is not made anew
 * by every change that `test` looks at: a button that is being pressed stays the same button.
 * @param {() => any} test
 * @param {() => any} make
 */
export function when(test, make) {
  const holds = computed(() => Boolean(test()));
  return () => (holds() ? make() : null);
}

/** Called when the surrounding effect runs again, or its scope ends. @param {() => void} cleanup */
export function onCleanup(cleanup) {
  owner?.push(cleanup);
}

/**
 * Runs `work` without making its reader depend on what it reads; what it makes lives until `end`.
 * @template T
 * @param {() => T} work
 * @returns {{value: T, end: () => void}}
 */
export function scope(work) {
  /** @type {(() => void)[]} */
  const cleanups = [];
  const before = /** @type {[Effect | null, (() => void)[] | null]} */ ([current, owner]);
  [current, owner] = [null, cleanups];
  try {
    return { value: work(), end: () => clean(cleanups) };
  } finally {
    [current, owner] = before;
  }
}

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "path", "g", "polyline", "polygon", "rect", "circle", "line"]);
const AS_PROPERTY = new Set([
  "value",
  "checked",
  "indeterminate",
  "selected",
  "srcObject",
  "muted",
]);

/**
 * Makes an element. Properties: `on…` are listeners; functions are followed like effects; `style`
 * is an object (the page's policy forbids style attributes); `ref` is called with the element.
 * Strings are always text, never markup.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K | string} tag
 * @param {Record<string, any> | null} [properties]
 * @param {...Child} children
 * @returns {K extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[K] : HTMLElement}
 */
export function h(tag, properties, ...children) {
  const element = /** @type {any} */ (
    SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag)
  );
  append(element, children);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name === "ref") value(element);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2).toLowerCase(), value);
    else if (typeof value === "function") effect(() => assign(element, name, value()));
    else assign(element, name, value);
  }
  return element;
}

/** @param {any} element @param {string} name @param {any} value */
function assign(element, name, value) {
  if (name === "style") {
    for (const [key, part] of Object.entries(value))
      element.style.setProperty(key, part == null ? "" : String(part));
  } else if (AS_PROPERTY.has(name)) {
    if (element[name] !== value) element[name] = value ?? "";
  } else if (value === false || value == null) {
    element.removeAttribute(name);
  } else {
    element.setAttribute(name, value === true ? "" : String(value));
  }
}

/** @param {Node} parent @param {Child[]} children */
export function append(parent, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(parent, child);
    else if (typeof child === "function") parent.appendChild(dynamic(child));
    else if (child instanceof Node) parent.appendChild(child);
    else if (child != null && typeof child !== "boolean")
      parent.appendChild(document.createTextNode(String(child)));
  }
}

/**
 * A part of the page that is made anew when the signals that it reads change.
 * @param {() => any} work
 */
function dynamic(work) {
  const [begin, end] = [document.createComment(""), document.createComment("")];
  const fragment = document.createDocumentFragment();
  fragment.append(begin, end);
  effect(() => {
    const made = work();
    const only = begin.nextSibling;
    if (
      (typeof made === "string" || typeof made === "number") &&
      only instanceof Text &&
      only.nextSibling === end
    ) {
      if (only.data !== String(made)) only.data = String(made);
      return;
    }
    while (begin.nextSibling && begin.nextSibling !== end) begin.nextSibling.remove();
    const next = document.createDocumentFragment();
    append(next, [typeof made === "function" ? made() : made]);
    end.before(next);
  });
  return fragment;
}

/**
 * One element per item, kept and moved by key. `render` gets a signal, so that a changed item
 * changes its element in place.
 * @template T
 * @param {() => T[]} items
 * @param {(item: T) => string | number} key
 * @param {(item: Signal<T>, key: string | number) => Element} render
 * @returns {DocumentFragment}
 */
export function list(items, key, render) {
  const end = document.createComment("");
  const fragment = document.createDocumentFragment();
  fragment.append(end);
  /** @type {Map<string | number, {item: Signal<T>, element: Element, end: () => void}>} */
  let rows = new Map();
  onCleanup(() => rows.forEach((row) => row.end()));
  effect(() => {
    /** @type {typeof rows} */
    const next = new Map();
    for (const item of items()) {
      const id = key(item);
      if (next.has(id)) continue;
      const row = rows.get(id);
      if (row) {
        row.item.set(item);
        next.set(id, row);
      } else {
        const one = signal(item);
        const made = scope(() => render(one, id));
        next.set(id, { item: one, element: made.value, end: made.end });
      }
    }
    for (const [id, row] of rows) {
      if (next.has(id)) continue;
      row.end();
      row.element.remove();
    }
    /** @type {ChildNode} */
    let after = end;
    for (const row of [...next.values()].reverse()) {
      if (row.element.nextSibling !== after) after.before(row.element);
      after = /** @type {ChildNode} */ (row.element);
    }
    rows = next;
  });
  return fragment;
}
