/** Sizes, times and durations for people. */

import { h } from "./kernel.js";
import { language, t } from "./i18n.js";

const whole = new Intl.NumberFormat(language);
const clock = new Intl.DateTimeFormat(language, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const day = new Intl.DateTimeFormat(language, {
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  hourCycle: "h23",
});
const year = new Intl.DateTimeFormat(language, { year: "numeric", month: "short", day: "numeric" });
const exact = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "long" });

/** @param {number} value */
export const number = (value) => whole.format(value);

/** @param {number | null | undefined} bytes */
export function size(bytes) {
  if (bytes == null || !Number.isFinite(bytes)) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = value < 10 ? 2 : value < 100 ? 1 : 0;
  return `${unit === 0 ? value : value.toFixed(digits)} ${units[unit]}`;
}

/** @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (seconds == null || !Number.isFinite(seconds)) return "";
  if (seconds < 0) return "0 s";
  if (seconds < 0.1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const rounded = Math.round(seconds);
  const [hours, minutes, rest] = [
    Math.floor(rounded / 3600),
    Math.floor(rounded / 60) % 60,
    rounded % 60,
  ];
  if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${rest} s`;
}

/**
 * A moment, in whatever form the API gives it: RFC 3339, or milliseconds since 1970.
 * @param {any} value
 */
export function moment(value) {
  if (value == null || value === "") return null;
  const date = new Date(value);
  return Number.isNaN(date.getTime()) ? null : date;
}

/** @param {any} from @param {any} [to] */
export function seconds(from, to) {
  const [begin, end] = [moment(from), to === undefined ? new Date() : moment(to)];
  return begin && end ? (end.getTime() - begin.getTime()) / 1000 : null;
}

/** The time of day; the date, too, when it is not today. @param {Date} date */
export function short(date) {
  const today = new Date();
  if (date.toDateString() === today.toDateString()) return clock.format(date);
  return today.getTime() - date.getTime() < 300 * 86_400_000 ? day.format(date) : year.format(date);
}

/** A time that says exactly when it was on request. @param {any} value */
export function time(value) {
  const date = moment(value);
  if (!date) return h("span", { class: "muted" }, t("never"));
  return h("time", { datetime: date.toISOString(), title: exact.format(date) }, short(date));
}
