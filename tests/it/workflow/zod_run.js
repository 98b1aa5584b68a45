// Runs the cases with a given zod. In the engine it is required by a workflow, under Node.js it is
// the main file.

function encode(value) {
  if (value === undefined) return "<undefined>";
  if (typeof value === "bigint") return `<bigint ${value}>`;
  if (typeof value === "number" && !Number.isFinite(value)) return `<${value}>`;
  if (typeof value === "symbol" || typeof value === "function") return `<${typeof value}>`;
  if (value instanceof Date) return `<date ${value.getTime()}>`;
  if (value instanceof Set) return { "<set>": [...value].map(encode) };
  if (Array.isArray(value)) return value.map(encode);
  if (value instanceof Error) return { issues: encode(value.issues) };
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(
      Object.keys(value)
        .sort()
        .filter((key) => value[key] !== undefined || key === "a")
        .map((key) => [key, encode(value[key])]),
    );
  }
  return value;
}

async function run(z, cases) {
  const results = [];
  for (const { name, schema, input, async: waits, not4, generated } of cases(z)) {
    let result;
    try {
      const parsed = waits ? await schema.safeParseAsync(input) : schema.safeParse(input);
      result = parsed.success
        ? { value: encode(parsed.data) }
        : { issues: parsed.error.issues.map(encode) };
    } catch (error) {
      result = { threw: String(error.message) };
    }
    results.push({
      name,
      not4: not4 ?? null,
      generated: Boolean(generated),
      input: encode(input),
      ...result,
    });
  }
  return results;
}

module.exports = { run };
if (typeof process === "object" && require.main === module) {
  const { z } = require(process.argv[2]);
  run(z, require("./zod_cases.js")).then((results) => console.log(JSON.stringify(results)));
}
