/** A number over the last ten minutes, as a line. */

import { h } from "../kernel.js";
import { t } from "../i18n.js";

const [WIDTH, HEIGHT, WINDOW] = [240, 48, 600_000];
/** Room for the dot where the line ends. */
const EDGE = 4;

/** @typedef {[number, number]} Point time in milliseconds, value */

/**
 * @param {Point[]} points
 * @param {number} now
 * @param {number} most the upper end of the scale
 * @returns {{
 *   line: string,
 *   area: string,
 *   end: string,
 * }} as SVG paths; `end` is the point where it is now
 */
export function path(points, now, most) {
  const x = (/** @type {number} */ time) =>
    Math.max(0, Math.min(WIDTH, ((time - (now - WINDOW)) / WINDOW) * WIDTH));
  const y = (/** @type {number} */ value) =>
    HEIGHT - EDGE - (Math.max(0, Math.min(most, value)) / most) * (HEIGHT - 2 * EDGE);
  const shown = points.filter(
    ([time], index) => time >= now - WINDOW || points[index + 1]?.[0] >= now - WINDOW,
  );
  if (!shown.length) return { line: "", area: "", end: "" };
  const corners = shown.map(([time, value]) => `${x(time).toFixed(1)} ${y(value).toFixed(1)}`);
  corners.push(`${WIDTH} ${y(shown[shown.length - 1][1]).toFixed(1)}`);
  const line = `M${corners.join("L")}`;
  return {
    line,
    area: `${line}L${WIDTH} ${HEIGHT}L${x(shown[0][0]).toFixed(1)} ${HEIGHT}Z`,
    end: `M${corners[corners.length - 1]}h0`,
  };
}

/**
 * @param {string} name
 * @param {() => Point[]} points
 * @param {(value: number) => string} text
 * @param {() => number} now
 * @param {number} [scale] the upper end, where there is one
 */
export function sparkline(name, points, text, now, scale) {
  const last = () => points()[points().length - 1]?.[1];
  const most = () => scale ?? Math.max(1, ...points().map(([, value]) => value)) * 1.1;
  const shown = () => (last() === undefined ? "–" : text(/** @type {number} */ (last())));
  return h(
    "figure",
    { class: "spark" },
    h(
      "figcaption",
      null,
      h("span", { class: "muted" }, name),
      h("span", { class: "spark-value" }, shown),
    ),
    h(
      "svg",
      {
        viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
        preserveAspectRatio: "none",
        role: "img",
        "aria-label": () => `${name}: ${shown()}, ${t("last 10 minutes")}`,
      },
      h("path", { class: "spark-area", d: () => path(points(), now(), most()).area }),
      h("path", {
        class: "spark-dot",
        d: () => path(points(), now(), most()).end,
        "vector-effect": "non-scaling-stroke",
      }),
      h("path", {
        class: "spark-line",
        d: () => path(points(), now(), most()).line,
        "vector-effect": "non-scaling-stroke",
      }),
    ),
  );
}

/**
 * How many runs ended in each minute.
 * @param {{finished_at?: any, status?: string}[]} runs
 * @param {number} now
 * @param {number} [since] before it nothing is known
 * @returns {Point[]}
 */
export function perMinute(runs, now, since = 0) {
  const minutes = Array.from({ length: 10 }, () => 0);
  for (const run of runs) {
    const ago = now - new Date(run.finished_at ?? 0).getTime();
    if (ago >= 0 && ago < WINDOW) minutes[9 - Math.floor(ago / 60_000)] += 1;
  }
  const points = minutes.map(
    (count, index) => /** @type {Point} */ ([now - (9 - index) * 60_000 - 30_000, count]),
  );
  return points.filter(([time], index) => index === 9 || time - 30_000 >= since);
}

/**
 * How many runs were waiting or running before this page looked, as far as they are known.
 * @param {{created_at?: any, finished_at?: any}[]} runs
 * @param {number} from
 * @param {number} until
 * @returns {Point[]}
 */
export function inFlight(runs, from, until) {
  const spans = runs.map((run) => [
    new Date(run.created_at ?? 0).getTime(),
    run.finished_at ? new Date(run.finished_at).getTime() : Infinity,
  ]);
  /** @type {Point[]} */
  const points = [];
  for (let time = from; time < until; time += 5000)
    points.push([time, spans.filter(([begin, end]) => begin <= time && time < end).length]);
  return points;
}
