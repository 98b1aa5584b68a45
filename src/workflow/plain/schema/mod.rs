//! The part of JSON Schema that inputs use. Issues read as zod's do, so that both kinds of
//! workflows answer alike.

mod alternatives;
mod check;
mod compare;
mod containers;
mod scalars;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use super::known;
use crate::json::type_name;

pub use check::check;

/// One way in which a value breaks a schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Issue {
    /// zod's word for it, such as `too_small`.
    pub code: &'static str,
    /// Keys and indexes from the input down.
    pub path: Vec<Value>,
    /// One sentence.
    pub message: String,
}

impl Issue {
    /// As it stands in `details`.
    pub fn to_json(&self) -> Value {
        serde_json::json!({"code": self.code, "path": self.path, "message": self.message})
    }
}

/// The value with defaults filled in and unknown keys stripped.
///
/// # Errors
/// Every issue.
pub fn validate(schema: &Value, value: &Value) -> Result<Value, Vec<Issue>> {
    let mut parsed = fill(schema, value)?;
    known::strip(schema, &mut parsed);
    Ok(parsed)
}

/// Whether a value breaks no rule of a schema.
pub(super) fn fits(schema: &Value, value: &Value) -> bool {
    fill(schema, value).is_ok()
}

/// The items of a keyword that is a list.
pub(super) fn list<'a>(schema: &'a Map<String, Value>, name: &str) -> &'a [Value] {
    schema
        .get(name)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn fill(schema: &Value, value: &Value) -> Result<Value, Vec<Issue>> {
    let mut walk = Walk::default();
    let filled = walk.value(schema, value);
    if walk.issues.is_empty() {
        Ok(filled)
    } else {
        Err(walk.issues)
    }
}

/// Gives values back with defaults added and nothing taken away: what one part of a schema does not
/// know is another's to check.
#[derive(Default)]
struct Walk {
    path: Vec<Value>,
    issues: Vec<Issue>,
}

fn types(schema: &Map<String, Value>) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn has_type(value: &Value, name: &str) -> bool {
    if name == "integer" {
        value.is_number() && is_integer(value)
    } else {
        type_name(value) == name
    }
}

impl Walk {
    fn issue(&mut self, code: &'static str, message: String) {
        self.issues.push(Issue {
            code,
            path: self.path.clone(),
            message,
        });
    }

    fn value(&mut self, schema: &Value, value: &Value) -> Value {
        let Some(schema) = schema.as_object() else {
            if schema == &Value::Bool(false) {
                self.issue(
                    "invalid_type",
                    format!("Expected never, received {}", type_name(value)),
                );
            }
            return value.clone();
        };
        if value.is_null() && schema.get("nullable") == Some(&Value::Bool(true)) {
            return Value::Null;
        }
        let wanted = types(schema);
        if !wanted.is_empty() && !wanted.iter().any(|name| has_type(value, name)) {
            let received = if wanted == ["integer"] && value.is_number() {
                "float"
            } else {
                type_name(value)
            };
            self.issue(
                "invalid_type",
                format!("Expected {}, received {received}", wanted.join(" | ")),
            );
            return value.clone();
        }
        self.listed(schema, value);
        match value {
            Value::String(text) => self.text(schema, text),
            Value::Number(number) => self.number(schema, number.as_f64().unwrap_or_default()),
            _ => {}
        }
        let parsed = match value {
            Value::Array(items) => self.array(schema, items),
            Value::Object(object) => self.object(schema, object),
            other => other.clone(),
        };
        self.alternatives(schema, parsed)
    }
}

fn quoted(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), |text| format!("'{text}'"))
}
