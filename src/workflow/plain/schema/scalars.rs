//! Rules about texts, numbers and listed values.

use serde_json::{Map, Value};

use super::compare::same;
use super::{Walk, quoted};

impl Walk {
    pub(super) fn listed(&mut self, schema: &Map<String, Value>, value: &Value) {
        if let Some(options) = schema.get("enum").and_then(Value::as_array)
            && !options.iter().any(|option| same(option, value))
        {
            let shown: Vec<String> = options.iter().map(quoted).collect();
            let received = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            self.issue(
                "invalid_enum_value",
                format!(
                    "Invalid enum value. Expected {}, received '{received}'",
                    shown.join(" | ")
                ),
            );
        }
        if let Some(expected) = schema.get("const")
            && !same(expected, value)
        {
            self.issue(
                "invalid_literal",
                format!("Invalid literal value, expected {expected}"),
            );
        }
    }

    pub(super) fn text(&mut self, schema: &Map<String, Value>, text: &str) {
        let length = text.encode_utf16().count() as u64;
        let limit = |name: &str| schema.get(name).and_then(Value::as_u64);
        if let Some(least) = limit("minLength").filter(|least| length < *least) {
            self.issue(
                "too_small",
                format!("String must contain at least {least} character(s)"),
            );
        }
        if let Some(most) = limit("maxLength").filter(|most| length > *most) {
            self.issue(
                "too_big",
                format!("String must contain at most {most} character(s)"),
            );
        }
        let pattern = schema
            .get("pattern")
            .and_then(Value::as_str)
            .and_then(|pattern| regex::Regex::new(pattern).ok());
        if pattern.is_some_and(|pattern| !pattern.is_match(text)) {
            self.issue("invalid_string", "Invalid".to_owned());
        }
    }

    pub(super) fn number(&mut self, schema: &Map<String, Value>, number: f64) {
        let limit = |name: &str| schema.get(name).filter(|limit| limit.is_number()).cloned();
        let mut rule = |name: &str, code, words: &str, broken: fn(f64, f64) -> bool| {
            if let Some(limit) = limit(name)
                && broken(number, limit.as_f64().unwrap_or_default())
            {
                self.issue(code, format!("Number must be {words} {limit}"));
            }
        };
        rule(
            "minimum",
            "too_small",
            "greater than or equal to",
            |number, limit| number < limit,
        );
        rule(
            "exclusiveMinimum",
            "too_small",
            "greater than",
            |number, limit| number <= limit,
        );
        rule(
            "maximum",
            "too_big",
            "less than or equal to",
            |number, limit| number > limit,
        );
        rule(
            "exclusiveMaximum",
            "too_big",
            "less than",
            |number, limit| number >= limit,
        );
        // A fraction such as 0.1 has no exact double, so the quotient may be off by a hair.
        rule(
            "multipleOf",
            "not_multiple_of",
            "a multiple of",
            |number, step| {
                let quotient = number / step;
                step != 0.0 && (quotient - quotient.round()).abs() > 1e-9 * quotient.abs().max(1.0)
            },
        );
    }
}
