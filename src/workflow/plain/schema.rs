//! The part of JSON Schema that inputs use. Issues read as zod's do, so that both kinds of workflows answer alike.

use serde_json::{Map, Value};

/// Schemas nested deeper than this are refused when they are read.
const DEEPEST: usize = 32;

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

/// Whether a schema can be used at all: known types, patterns that compile.
///
/// # Errors
/// A sentence about the first thing that cannot be used.
pub fn check(schema: &Value) -> Result<(), String> {
    check_at(schema, 0)
}

fn check_at(schema: &Value, depth: usize) -> Result<(), String> {
    let Some(schema) = schema.as_object() else { return if schema.is_boolean() { Ok(()) } else { Err(format!("{schema} is not a schema")) } };
    if depth > DEEPEST {
        return Err("it is nested too deeply".to_owned());
    }
    for name in types(schema) {
        if !["string", "number", "integer", "boolean", "array", "object", "null"].contains(&name) {
            return Err(format!("\"{name}\" is not a type"));
        }
    }
    if let Some(pattern) = schema.get("pattern") {
        let pattern = pattern.as_str().ok_or("a pattern must be a string")?;
        regex::Regex::new(pattern).map_err(|error| format!("the pattern {pattern} cannot be used: {}", error.to_string().replace('\n', " ")))?;
    }
    if schema.contains_key("$ref") {
        return Err("$ref is not supported, write the schema in place".to_owned());
    }
    for (_, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        check_at(field, depth + 1)?;
    }
    for name in ["anyOf", "oneOf", "allOf"] {
        for option in schema.get(name).and_then(Value::as_array).into_iter().flatten() {
            check_at(option, depth + 1)?;
        }
    }
    for name in ["items", "additionalProperties"] {
        schema.get(name).map_or(Ok(()), |inner| check_at(inner, depth + 1))?;
    }
    Ok(())
}

/// The value with defaults filled in and unknown keys stripped.
///
/// # Errors
/// Every issue.
pub fn validate(schema: &Value, value: &Value) -> Result<Value, Vec<Issue>> {
    let mut walk = Walk::default();
    let parsed = walk.value(schema, value);
    if walk.issues.is_empty() { Ok(parsed) } else { Err(walk.issues) }
}

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

fn word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn has_type(value: &Value, name: &str) -> bool {
    if name == "integer" { value.is_number() && is_integer(value) } else { word(value) == name }
}

impl Walk {
    fn issue(&mut self, code: &'static str, message: String) {
        self.issues.push(Issue { code, path: self.path.clone(), message });
    }

    fn value(&mut self, schema: &Value, value: &Value) -> Value {
        let Some(schema) = schema.as_object() else {
            if schema == &Value::Bool(false) {
                self.issue("invalid_type", format!("Expected never, received {}", word(value)));
            }
            return value.clone();
        };
        if value.is_null() && schema.get("nullable") == Some(&Value::Bool(true)) {
            return Value::Null;
        }
        let wanted = types(schema);
        if !wanted.is_empty() && !wanted.iter().any(|name| has_type(value, name)) {
            let received = if wanted == ["integer"] && value.is_number() { "float" } else { word(value) };
            self.issue("invalid_type", format!("Expected {}, received {received}", wanted.join(" | ")));
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

    fn listed(&mut self, schema: &Map<String, Value>, value: &Value) {
        if let Some(options) = schema.get("enum").and_then(Value::as_array)
            && !options.iter().any(|option| same(option, value))
        {
            let shown: Vec<String> = options.iter().map(quoted).collect();
            let received = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            self.issue("invalid_enum_value", format!("Invalid enum value. Expected {}, received '{received}'", shown.join(" | ")));
        }
        if let Some(expected) = schema.get("const")
            && !same(expected, value)
        {
            self.issue("invalid_literal", format!("Invalid literal value, expected {expected}"));
        }
    }

    fn text(&mut self, schema: &Map<String, Value>, text: &str) {
        let length = text.encode_utf16().count() as u64;
        let limit = |name: &str| schema.get(name).and_then(Value::as_u64);
        if let Some(least) = limit("minLength").filter(|least| length < *least) {
            self.issue("too_small", format!("String must contain at least {least} character(s)"));
        }
        if let Some(most) = limit("maxLength").filter(|most| length > *most) {
            self.issue("too_big", format!("String must contain at most {most} character(s)"));
        }
        let pattern = schema.get("pattern").and_then(Value::as_str).and_then(|pattern| regex::Regex::new(pattern).ok());
        if pattern.is_some_and(|pattern| !pattern.is_match(text)) {
            self.issue("invalid_string", "Invalid".to_owned());
        }
    }

    fn number(&mut self, schema: &Map<String, Value>, number: f64) {
        let limit = |name: &str| schema.get(name).filter(|limit| limit.is_number()).cloned();
        let mut rule = |name: &str, code, words: &str, broken: fn(f64, f64) -> bool| {
            if let Some(limit) = limit(name)
                && broken(number, limit.as_f64().unwrap_or_default())
            {
                self.issue(code, format!("Number must be {words} {limit}"));
            }
        };
        rule("minimum", "too_small", "greater than or equal to", |number, limit| number < limit);
        rule("exclusiveMinimum", "too_small", "greater than", |number, limit| number <= limit);
        rule("maximum", "too_big", "less than or equal to", |number, limit| number > limit);
        rule("exclusiveMaximum", "too_big", "less than", |number, limit| number >= limit);
        // A fraction such as 0.1 has no exact double, so the quotient may be off by a hair.
        rule("multipleOf", "not_multiple_of", "a multiple of", |number, step| {
            let quotient = number / step;
            step != 0.0 && (quotient - quotient.round()).abs() > 1e-9 * quotient.abs().max(1.0)
        });
    }

    fn array(&mut self, schema: &Map<String, Value>, items: &[Value]) -> Value {
        let limit = |name: &str| schema.get(name).and_then(Value::as_u64);
        let count = items.len() as u64;
        if let Some(least) = limit("minItems").filter(|least| count < *least) {
            self.issue("too_small", format!("Array must contain at least {least} element(s)"));
        }
        if let Some(most) = limit("maxItems").filter(|most| count > *most) {
            self.issue("too_big", format!("Array must contain at most {most} element(s)"));
        }
        let Some(inner) = schema.get("items") else { return Value::Array(items.to_vec()) };
        let parsed = items.iter().enumerate().map(|(index, item)| self.below(Value::from(index), inner, item));
        Value::Array(parsed.collect())
    }

    fn object(&mut self, schema: &Map<String, Value>, object: &Map<String, Value>) -> Value {
        let properties = schema.get("properties").and_then(Value::as_object);
        let required: Vec<&str> = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let mut parsed = Map::new();
        for (name, field) in properties.into_iter().flatten() {
            match object.get(name).or_else(|| field.get("default")) {
                Some(value) => {
                    let value = self.below(Value::from(name.as_str()), field, value);
                    parsed.insert(name.clone(), value);
                }
                None if required.contains(&name.as_str()) => self.missing(name),
                None => {}
            }
        }
        for name in required.iter().filter(|name| properties.is_none_or(|known| !known.contains_key(**name)) && !object.contains_key(**name)) {
            self.missing(name);
        }
        let extra: Vec<&String> = object.keys().filter(|name| properties.is_none_or(|known| !known.contains_key(*name))).collect();
        match schema.get("additionalProperties") {
            Some(Value::Bool(false)) if !extra.is_empty() => {
                let names: Vec<String> = extra.iter().map(|name| format!("'{name}'")).collect();
                self.issue("unrecognized_keys", format!("Unrecognized key(s) in object: {}", names.join(", ")));
            }
            Some(inner @ (Value::Bool(true) | Value::Object(_))) => {
                for name in extra {
                    let value = self.below(Value::from(name.as_str()), inner, &object[name.as_str()]);
                    parsed.insert(name.clone(), value);
                }
            }
            // Without `properties` there is nothing that would be unknown.
            None if properties.is_none() => return Value::Object(object.clone()),
            _ => {}
        }
        Value::Object(parsed)
    }

    fn missing(&mut self, name: &str) {
        self.path.push(Value::from(name));
        self.issue("invalid_type", "Required".to_owned());
        self.path.pop();
    }

    fn below(&mut self, key: Value, schema: &Value, value: &Value) -> Value {
        self.path.push(key);
        let parsed = self.value(schema, value);
        self.path.pop();
        parsed
    }

    fn alternatives(&mut self, schema: &Map<String, Value>, mut value: Value) -> Value {
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            value = self.value(part, &value);
        }
        for name in ["anyOf", "oneOf"] {
            let Some(options) = schema.get(name).and_then(Value::as_array) else { continue };
            let mut fitting = options.iter().filter_map(|option| validate(option, &value).ok());
            let Some(first) = fitting.next() else {
                self.issue("invalid_union", "Invalid input".to_owned());
                return value;
            };
            if name == "oneOf" && fitting.next().is_some() {
                self.issue("invalid_union", "Invalid input: it fits more than one of the alternatives".to_owned());
            }
            value = first;
        }
        value
    }
}

fn quoted(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| format!("'{text}'"))
}

/// Equal as JSON Schema sees it: 1 and 1.0 are the same number.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}
