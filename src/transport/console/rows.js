/** Rows of long tables: however many there are, only those near the window are in the page. */

import { effect, h, list, onCleanup, signal } from "./kernel.js";

/** So many are simply there: nothing is won by less, and the browser's own search finds them. */
const FEW = 100;
/** How far beyond the window rows are kept ready, in pixels. */
const MARGIN = 800;

/**
 * Which rows are near the window, and how much room the others take.
 * @param {number} count
 * @param {(index: number) => number} height
 * @param {number} from of the window, in pixels from the first row
 * @param {number} to
 * @returns {{
 *   first: number,
 *   last: number,
 *   above: number,
 *   below: number,
 * }} `last` is the first that is not
 */
export function near(count, height, from, to) {
  let [first, last, above, below, at] = [count, count, 0, 0, 0];
  for (let index = 0; index < count; index += 1) {
    const end = at + height(index);
    if (end <= from) above = end;
    else if (at >= to) {
      last = Math.min(last, index);
      below += height(index);
    } else first = Math.min(first, index);
    at = end;
  }
  return { first: Math.min(first, last), last, above, below };
}

/** @param {Element | null} element @param {string} name @param {number | null} value */
const attribute = (element, name, value) =>
  value === null ? element?.removeAttribute(name) : element?.setAttribute(name, String(value));

/**
 * The bodies of a table, for `table`: the rows, and before and after them the room of those that
 * are not in the page.
 * @template T
 * @param {() => T[]} items
 * @param {(item: T) => string | number} key
 * @param {(item: import("./kernel.js").Signal<T>) => Element} render
 * @returns {HTMLElement[]}
 */
export function longRows(items, key, render) {
  const space = () => h("tbody", { class: "space", role: "presentation" });
  const [before, after] = [space(), space()];
  const shown = signal(/** @type {T[]} */ ([]));
  const body = h("tbody", { role: "rowgroup" }, list(shown, key, render));
  /** Heights that were seen. @type {Map<string | number, number>} */
  const seen = new Map();
  let typical = 60;
  let frame = 0;
  /** @type {T[]} */
  let all = [];

  /** Whether a height was not as it was taken to be. */
  function measure() {
    const rows = /** @type {HTMLElement[]} */ ([...body.children]);
    let changed = false;
    shown.peek().forEach((item, index) => {
      const [row, next] = [rows[index], rows[index + 1]];
      const height = next ? next.offsetTop - row.offsetTop : row?.offsetHeight;
      if (!height || seen.get(key(item)) === height) return;
      // The last one's margin is not known: what was measured before is better.
      if (!next && seen.has(key(item))) return;
      seen.set(key(item), height);
      changed = true;
    });
    if (seen.size)
      typical = [...seen.values()].reduce((sum, height) => sum + height, 0) / seen.size;
    return changed;
  }

  function draw() {
    frame = 0;
    const changed = measure();
    const long = all.length > FEW;
    const top = long ? before.getBoundingClientRect().top : 0;
    const { first, last, above, below } = long
      ? near(
          all.length,
          (index) => seen.get(key(all[index])) ?? typical,
          -top - MARGIN,
          innerHeight - top + MARGIN,
        )
      : { first: 0, last: all.length, above: 0, below: 0 };
    before.style.setProperty("height", `${above}px`);
    after.style.setProperty("height", `${below}px`);
    const wanted = all.slice(first, last);
    const now = shown.peek();
    const other = wanted.length !== now.length || wanted.some((item, index) => item !== now[index]);
    if (other) shown.set(wanted);
    // Who hears the table must know how long it is.
    attribute(body.closest("table"), "aria-rowcount", long ? all.length + 1 : null);
    queueMicrotask(() =>
      [...body.children].forEach((row, index) =>
        attribute(row, "aria-rowindex", long ? first + index + 2 : null),
      ),
    );
    // What is new has a height of its own.
    if (long && (other || changed)) request();
  }
  const request = () => {
    frame ||= requestAnimationFrame(draw);
  };
  effect(() => {
    all = items();
    if (all.length > FEW) request();
    else draw();
  });
  onWindow("scroll", request);
  onWindow("resize", () => {
    seen.clear();
    request();
  });
  onCleanup(() => cancelAnimationFrame(frame));
  return [before, body, after];
}

/** Listens while the page is there. @param {"scroll" | "resize"} name @param {() => void} work */
function onWindow(name, work) {
  addEventListener(name, work, { passive: true });
  onCleanup(() => removeEventListener(name, work));
}
