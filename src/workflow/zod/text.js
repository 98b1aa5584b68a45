// Strings: their rules, and the formats those rules know.

// So many years, months and so on, or none.
const amount = (unit) => `(?:[-+]?\\d+(?:[.,]\\d+)?${unit})?`;

const FORMAT = {
  cuid: /^c[^\s-]{8,}$/i,
  cuid2: /^[a-z0-9]+$/,
  ulid: /^[0-9A-HJ-KM-NP-TV-Z]{26}$/i,
  uuid: /^[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/i,
  nanoid: /^[\w-]{21}$/,
  email: /^(?!\.)(?!.*\.\.)[a-z0-9_'+.-]*[a-z0-9_+-]@(?:[a-z0-9][a-z0-9-]*\.)+[a-z]{2,}$/i,
  emoji: /^(\p{Extended_Pictographic}|\p{Emoji_Component})+$/u,
  base64: /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/,
  base64url: /^(?:[\w-]{4})*(?:[\w-]{2}(?:==)?|[\w-]{3}=?)?$/,
  duration: new RegExp(
    `^[-+]?P(?!$)${["Y", "M", "W", "D"].map(amount).join("")}` +
      `(?:T(?=[\\d+-])${["H", "M", "S"].map(amount).join("")})?$`,
  ),
  jwt: /^[\w-]+\.[\w-]+\.[\w-]*$/,
};

const OCTET = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
const IPV4 = `(?:${OCTET}\\.){3}${OCTET}`;

function isIpv4(text) {
  return new RegExp(`^${IPV4}$`).test(text);
}

function isIpv6(text) {
  let rest = text;
  const tail = rest.lastIndexOf(":");
  if (rest.includes(".")) {
    if (tail < 0 || !isIpv4(rest.slice(tail + 1))) return false;
    rest = `${rest.slice(0, tail)}:0:0`;
  }
  const halves = rest.split("::");
  if (halves.length > 2) return false;
  const groups = halves.flatMap((half) => (half === "" ? [] : half.split(":")));
  if (!groups.every((group) => /^[\da-f]{1,4}$/i.test(group))) return false;
  return halves.length === 2 ? groups.length < 8 : groups.length === 8;
}

function isCidr(text, version) {
  const parts = text.split("/");
  if (parts.length !== 2 || !/^(?:0|[1-9]\d{0,2})$/.test(parts[1])) return false;
  const bits = Number(parts[1]);
  return (
    (version !== "v6" && isIpv4(parts[0]) && bits <= 32) ||
    (version !== "v4" && isIpv6(parts[0]) && bits <= 128)
  );
}

function isDate(text) {
  const match = /^(\d{4})-(\d\d)-(\d\d)$/.exec(text);
  if (!match) return false;
  const [year, month, day] = match.slice(1).map(Number);
  if (month < 1 || month > 12 || day < 1) return false;
  const leap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
  return day <= [31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1];
}

function timeSource({ precision }) {
  const fraction = precision
    ? `\\.\\d{${precision}}`
    : precision === undefined || precision === null
      ? "(?:\\.\\d+)?"
      : "";
  return `(?:[01]\\d|2[0-3]):[0-5]\\d(?::[0-5]\\d${fraction})${precision ? "" : "?"}`;
}

function isDatetime(text, check) {
  const split = text.indexOf("T");
  if (split < 0 || !isDate(text.slice(0, split))) return false;
  const zones = [check.local ? "Z?" : "Z"];
  if (check.offset) zones.push("[+-]\\d{2}:?\\d{2}");
  return new RegExp(`^${timeSource(check)}(?:${zones.join("|")})$`).test(text.slice(split + 1));
}

function isUrl(text) {
  try {
    new URL(text);
    return true;
  } catch {
    return false;
  }
}

function isJwt(text, algorithm) {
  if (!FORMAT.jwt.test(text)) return false;
  try {
    const [header] = text.split(".");
    const padded = header
      .replace(/-/g, "+")
      .replace(/_/g, "/")
      .padEnd(header.length + ((4 - (header.length % 4)) % 4), "=");
    const decoded = JSON.parse(atob(padded));
    if (typeof decoded !== "object" || decoded === null) return false;
    if ("typ" in decoded && decoded?.typ !== "JWT") return false;
    return Boolean(decoded.alg) && (!algorithm || decoded.alg === algorithm);
  } catch {
    return false;
  }
}

function matches(check, text) {
  switch (check.kind) {
    case "url":
      return isUrl(text);
    case "ip":
      return (check.version !== "v6" && isIpv4(text)) || (check.version !== "v4" && isIpv6(text));
    case "cidr":
      return isCidr(text, check.version);
    case "date":
      return isDate(text);
    case "time":
      return new RegExp(`^${timeSource(check)}$`).test(text);
    case "datetime":
      return isDatetime(text, check);
    case "jwt":
      return isJwt(text, check.alg);
    default:
      return FORMAT[check.kind].test(text);
  }
}

class ZodString extends ZodType {
  *_run(data, place) {
    if (this._def.coerce) data = String(data);
    if (typeof data !== "string") return wrongType(this, place, data, "string");
    let status = VALID;
    const complain = (check, issue) => {
      addIssue(this, place, data, { ...issue, message: check.message });
      status = DIRTY;
    };
    for (const check of this._def.checks) {
      switch (check.kind) {
        case "min":
          if (data.length < check.value)
            complain(check, {
              code: "too_small",
              minimum: check.value,
              type: "string",
              inclusive: true,
              exact: false,
            });
          break;
        case "max":
          if (data.length > check.value)
            complain(check, {
              code: "too_big",
              maximum: check.value,
              type: "string",
              inclusive: true,
              exact: false,
            });
          break;
        case "length":
          if (data.length > check.value)
            complain(check, {
              code: "too_big",
              maximum: check.value,
              type: "string",
              inclusive: true,
              exact: true,
            });
          else if (data.length < check.value)
            complain(check, {
              code: "too_small",
              minimum: check.value,
              type: "string",
              inclusive: true,
              exact: true,
            });
          break;
        case "trim":
          data = data.trim();
          break;
        case "toLowerCase":
          data = data.toLowerCase();
          break;
        case "toUpperCase":
          data = data.toUpperCase();
          break;
        case "normalize":
          data = data.normalize(check.form);
          break;
        case "regex":
          check.regex.lastIndex = 0;
          if (!check.regex.test(data))
            complain(check, { validation: "regex", code: "invalid_string" });
          break;
        case "includes":
          if (!data.includes(check.value, check.position))
            complain(check, {
              code: "invalid_string",
              validation: { includes: check.value, position: check.position },
            });
          break;
        case "startsWith":
          if (!data.startsWith(check.value))
            complain(check, { code: "invalid_string", validation: { startsWith: check.value } });
          break;
        case "endsWith":
          if (!data.endsWith(check.value))
            complain(check, { code: "invalid_string", validation: { endsWith: check.value } });
          break;
        default:
          if (!matches(check, data))
            complain(check, { validation: check.kind, code: "invalid_string" });
      }
    }
    return { status, value: data };
  }
  _addCheck(check) {
    return this._with({ checks: [...this._def.checks, check] });
  }
  min(value, message) {
    return this._addCheck({ kind: "min", value, ...rule(message) });
  }
  max(value, message) {
    return this._addCheck({ kind: "max", value, ...rule(message) });
  }
  length(value, message) {
    return this._addCheck({ kind: "length", value, ...rule(message) });
  }
  nonempty(message) {
    return this.min(1, message);
  }
  regex(regex, message) {
    return this._addCheck({ kind: "regex", regex, ...rule(message) });
  }
  includes(value, options) {
    return this._addCheck({
      kind: "includes",
      value,
      position: options?.position,
      ...rule(options),
    });
  }
  startsWith(value, message) {
    return this._addCheck({ kind: "startsWith", value, ...rule(message) });
  }
  endsWith(value, message) {
    return this._addCheck({ kind: "endsWith", value, ...rule(message) });
  }
  trim() {
    return this._addCheck({ kind: "trim" });
  }
  toLowerCase() {
    return this._addCheck({ kind: "toLowerCase" });
  }
  toUpperCase() {
    return this._addCheck({ kind: "toUpperCase" });
  }
  lowercase(message) {
    return this.regex(/^[^A-Z]*$/, message);
  }
  uppercase(message) {
    return this.regex(/^[^a-z]*$/, message);
  }
  normalize(form) {
    return this._addCheck({ kind: "normalize", form });
  }
  datetime(options) {
    const given = typeof options === "string" ? {} : (options ?? {});
    return this._addCheck({
      kind: "datetime",
      precision: given.precision ?? null,
      offset: given.offset ?? false,
      local: given.local ?? false,
      ...rule(options),
    });
  }
  time(options) {
    return this._addCheck({
      kind: "time",
      precision: options?.precision ?? null,
      ...rule(options),
    });
  }
  ip(options) {
    return this._addCheck({ kind: "ip", version: options?.version, ...rule(options) });
  }
  ipv4(message) {
    return this._addCheck({ kind: "ip", version: "v4", ...rule(message) });
  }
  ipv6(message) {
    return this._addCheck({ kind: "ip", version: "v6", ...rule(message) });
  }
  cidr(options) {
    return this._addCheck({ kind: "cidr", version: options?.version, ...rule(options) });
  }
  cidrv4(message) {
    return this._addCheck({ kind: "cidr", version: "v4", ...rule(message) });
  }
  cidrv6(message) {
    return this._addCheck({ kind: "cidr", version: "v6", ...rule(message) });
  }
  jwt(options) {
    return this._addCheck({ kind: "jwt", alg: options?.alg, ...rule(options) });
  }
  guid(message) {
    return this._addCheck({ kind: "uuid", ...rule(message) });
  }
  get minLength() {
    return tightest(this._def.checks, "min", Math.max);
  }
  get maxLength() {
    return tightest(this._def.checks, "max", Math.min);
  }
  get isEmail() {
    return this._def.checks.some((check) => check.kind === "email");
  }
  get isURL() {
    return this._def.checks.some((check) => check.kind === "url");
  }
  get isUUID() {
    return this._def.checks.some((check) => check.kind === "uuid");
  }
}
for (const kind of [
  "email",
  "url",
  "emoji",
  "uuid",
  "nanoid",
  "cuid",
  "cuid2",
  "ulid",
  "base64",
  "base64url",
  "date",
  "duration",
]) {
  ZodString.prototype[kind] = function (message) {
    return this._addCheck({ kind, ...rule(message) });
  };
}
ZodString.create = (params) =>
  new ZodString({
    typeName: "ZodString",
    checks: [],
    coerce: params?.coerce ?? false,
    ...readParams(params),
  });

function tightest(checks, kind, pick) {
  const values = checks.filter((check) => check.kind === kind).map((check) => check.value);
  return values.length ? values.reduce((a, b) => pick(a, b)) : null;
}
