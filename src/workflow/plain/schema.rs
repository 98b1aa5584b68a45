//! The part of JSON Schema that inputs use. Issues read as zod's do, so that both kinds of workflows answer alike.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::known;
use crate::json::type_name;

/// Schemas nested deeper than this are refused when they are read.
const DEEPEST: usize = 32;

/// Keywords that would be promised to clients but never checked.
const UNCHECKED: [&str; 9] = [
    "$dynamicRef",
    "patternProperties",
    "propertyNames",
    "prefixItems",
    "contains",
    "dependentSchemas",
    "dependencies",
    "unevaluatedProperties",
    "unevaluatedItems",
];

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

/// Whether a schema can be used at all: known types, patterns that compile, no keyword that would go unchecked.
///
/// # Errors
/// A sentence about the first thing that cannot be used.
pub fn check(schema: &Value) -> Result<(), String> {
    check_at(schema, 0)
}

fn check_at(schema: &Value, depth: usize) -> Result<(), String> {
    let Some(schema) = schema.as_object() else {
        return if schema.is_boolean() {
            Ok(())
        } else {
            Err(format!("{schema} is not a schema"))
        };
    };
    if depth > DEEPEST {
        return Err("it is nested too deeply".to_owned());
    }
    for name in types(schema) {
        if ![
            "string", "number", "integer", "boolean", "array", "object", "null",
        ]
        .contains(&name)
        {
            return Err(format!("\"{name}\" is not a type"));
        }
    }
    if let Some(pattern) = schema.get("pattern") {
        let pattern = pattern.as_str().ok_or("a pattern must be a string")?;
        regex::Regex::new(pattern).map_err(|error| {
            format!(
                "the pattern {pattern} cannot be used: {}",
                error.to_string().replace('\n', " ")
            )
        })?;
    }
    if schema.contains_key("$ref") {
        return Err("$ref is not supported, write the schema in place".to_owned());
    }
    if let Some(name) = UNCHECKED.iter().find(|name| schema.contains_key(**name)) {
        return Err(format!(
            "{name} is not supported, inputs could not be checked for it"
        ));
    }
    for (_, field) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        check_at(field, depth + 1)?;
    }
    for name in ["anyOf", "oneOf", "allOf"] {
        for option in list(schema, name) {
            check_at(option, depth + 1)?;
        }
    }
    for name in ["items", "additionalProperties", "not", "if", "then", "else"] {
        schema
            .get(name)
            .map_or(Ok(()), |inner| check_at(inner, depth + 1))?;
    }
    Ok(())
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

/// Gives values back with defaults added and nothing taken away: what one part of a schema does not know is another's to check.
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

    fn listed(&mut self, schema: &Map<String, Value>, value: &Value) {
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

    fn text(&mut self, schema: &Map<String, Value>, text: &str) {
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

    fn number(&mut self, schema: &Map<String, Value>, number: f64) {
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

    fn array(&mut self, schema: &Map<String, Value>, items: &[Value]) -> Value {
        let limit = |name: &str| schema.get(name).and_then(Value::as_u64);
        let count = items.len() as u64;
        if let Some(least) = limit("minItems").filter(|least| count < *least) {
            self.issue(
                "too_small",
                format!("Array must contain at least {least} element(s)"),
            );
        }
        if let Some(most) = limit("maxItems").filter(|most| count > *most) {
            self.issue(
                "too_big",
                format!("Array must contain at most {most} element(s)"),
            );
        }
        let mut seen = HashSet::new();
        if schema.get("uniqueItems") == Some(&Value::Bool(true))
            && !items.iter().all(|item| seen.insert(canonical(item)))
        {
            self.issue(
                "custom",
                "Array must not contain the same element twice".to_owned(),
            );
        }
        let Some(inner) = schema.get("items") else {
            return Value::Array(items.to_vec());
        };
        let parsed = items
            .iter()
            .enumerate()
            .map(|(index, item)| self.below(Value::from(index), inner, item));
        Value::Array(parsed.collect())
    }

    fn object(&mut self, schema: &Map<String, Value>, object: &Map<String, Value>) -> Value {
        self.size(schema, object.len() as u64);
        let properties = schema.get("properties").and_then(Value::as_object);
        let required: Vec<&str> = list(schema, "required")
            .iter()
            .filter_map(Value::as_str)
            .collect();
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
        for name in required.iter().filter(|name| {
            properties.is_none_or(|known| !known.contains_key(**name))
                && !object.contains_key(**name)
        }) {
            self.missing(name);
        }
        let extra: Vec<&String> = object
            .keys()
            .filter(|name| properties.is_none_or(|known| !known.contains_key(*name)))
            .collect();
        let rest = schema.get("additionalProperties");
        if rest == Some(&Value::Bool(false)) && !extra.is_empty() {
            let names: Vec<String> = extra.iter().map(|name| format!("'{name}'")).collect();
            self.issue(
                "unrecognized_keys",
                format!("Unrecognized key(s) in object: {}", names.join(", ")),
            );
        }
        for name in extra {
            let member = &object[name.as_str()];
            let member = match rest {
                Some(inner @ Value::Object(_)) => {
                    self.below(Value::from(name.as_str()), inner, member)
                }
                _ => member.clone(),
            };
            parsed.insert(name.clone(), member);
        }
        self.dependents(schema, object, &parsed);
        Value::Object(parsed)
    }

    fn size(&mut self, schema: &Map<String, Value>, count: u64) {
        let limit = |name: &str| schema.get(name).and_then(Value::as_u64);
        if let Some(least) = limit("minProperties").filter(|least| count < *least) {
            self.issue(
                "too_small",
                format!("Object must contain at least {least} key(s)"),
            );
        }
        if let Some(most) = limit("maxProperties").filter(|most| count > *most) {
            self.issue(
                "too_big",
                format!("Object must contain at most {most} key(s)"),
            );
        }
    }

    /// What the client sent may need other members beside it; a default will do.
    fn dependents(
        &mut self,
        schema: &Map<String, Value>,
        sent: &Map<String, Value>,
        parsed: &Map<String, Value>,
    ) {
        let rules = schema.get("dependentRequired").and_then(Value::as_object);
        for (_, needed) in rules
            .into_iter()
            .flatten()
            .filter(|(name, _)| sent.contains_key(*name))
        {
            for name in needed
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
            {
                if !parsed.contains_key(name) {
                    self.missing(name);
                }
            }
        }
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
        for part in list(schema, "allOf") {
            value = self.value(part, &value);
        }
        for name in ["anyOf", "oneOf"] {
            let Some(options) = schema.get(name).and_then(Value::as_array) else {
                continue;
            };
            let mut fitting = options
                .iter()
                .filter_map(|option| fill(option, &value).ok());
            let Some(first) = fitting.next() else {
                self.issue("invalid_union", "Invalid input".to_owned());
                return value;
            };
            if name == "oneOf" && fitting.next().is_some() {
                self.issue(
                    "invalid_union",
                    "Invalid input: it fits more than one of the alternatives".to_owned(),
                );
            }
            value = first;
        }
        if schema
            .get("not")
            .is_some_and(|excluded| fits(excluded, &value))
        {
            self.issue(
                "custom",
                "Invalid input: it fits what the schema excludes".to_owned(),
            );
        }
        let Some(condition) = schema.get("if") else {
            return value;
        };
        let branch = if fits(condition, &value) {
            "then"
        } else {
            "else"
        };
        match schema.get(branch) {
            Some(part) => self.value(part, &value),
            None => value,
        }
    }
}

fn quoted(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), |text| format!("'{text}'"))
}

/// Equal as JSON Schema sees it: 1 and 1.0 are the same number.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// A text that two values share when they are equal as JSON Schema sees it, so that long lists need not be compared pair by pair.
fn canonical(value: &Value) -> String {
    match value {
        // 1.0 is written as 1, and adding zero makes 0 of -0.
        Value::Number(number) if number.is_f64() => {
            (number.as_f64().unwrap_or_default() + 0.0).to_string()
        }
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(canonical).collect::<Vec<_>>().join(",")
        ),
        Value::Object(object) => {
            let mut members: Vec<String> = object
                .iter()
                .map(|(name, member)| {
                    format!("{}:{}", Value::from(name.as_str()), canonical(member))
                })
                .collect();
            members.sort_unstable();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn messages(schema: &Value, value: &Value) -> Vec<String> {
        let issues = validate(schema, value).err().unwrap_or_default();
        let place = |issue: &Issue| {
            issue
                .path
                .iter()
                .map(|step| {
                    step.as_str()
                        .map_or_else(|| step.to_string(), str::to_owned)
                })
                .collect::<Vec<_>>()
                .join(".")
        };
        issues
            .iter()
            .map(|issue| format!("{}: {}", place(issue), issue.message))
            .collect()
    }

    #[test]
    fn each_part_of_all_of_sees_the_whole_value() {
        let schema = json!({"allOf": [
            {"properties": {"a": {"type": "string"}, "more": {"properties": {"x": {}}}}, "required": ["a"]},
            {"properties": {"b": {"type": "string"}, "c": {"default": 3}, "more": {"properties": {"y": {"default": 2}}}}, "required": ["b"]},
        ]});
        let given = json!({"a": "1", "b": "2", "junk": 0, "more": {"x": 1, "junk": 0}});
        assert_eq!(
            validate(&schema, &given),
            Ok(json!({"a": "1", "b": "2", "c": 3, "more": {"x": 1, "y": 2}}))
        );
        assert_eq!(messages(&schema, &json!({"a": "1"})), ["b: Required"]);
    }

    #[test]
    fn alternatives_take_nothing_away_and_add_the_defaults_of_the_first_that_fits() {
        let schema = json!({
            "properties": {"prompt": {"type": "string"}, "mode": {"type": "string"}},
            "anyOf": [
                {"properties": {"mode": {"const": "a"}, "level": {"default": 1}}},
                {"properties": {"mode": {"const": "b"}, "depth": {"default": 2}}},
            ],
        });
        let parsed = |value: Value| validate(&schema, &value);
        assert_eq!(
            parsed(json!({"prompt": "p", "mode": "a", "junk": 0})),
            Ok(json!({"prompt": "p", "mode": "a", "level": 1}))
        );
        assert_eq!(
            parsed(json!({"prompt": "p", "mode": "b", "level": 5})),
            Ok(json!({"prompt": "p", "mode": "b", "level": 5, "depth": 2}))
        );
        assert_eq!(
            messages(&schema, &json!({"prompt": "p", "mode": "c"})),
            [": Invalid input"]
        );
        let one = json!({"properties": {"a": {}, "b": {}}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
        assert_eq!(
            validate(&one, &json!({"a": 1, "junk": 0})),
            Ok(json!({"a": 1}))
        );
        assert_eq!(
            messages(&one, &json!({"a": 1, "b": 1})),
            [": Invalid input: it fits more than one of the alternatives"]
        );
    }

    #[test]
    fn unknown_keys_stay_only_where_no_part_that_applies_lists_members() {
        let union = json!({"anyOf": [{"properties": {"kind": {"const": "a"}}, "required": ["kind"]}, {"type": "object"}]});
        assert_eq!(
            validate(&union, &json!({"kind": "a", "x": 1})),
            Ok(json!({"kind": "a"}))
        );
        assert_eq!(validate(&union, &json!({"x": 1})), Ok(json!({"x": 1})));
        let open = json!({"properties": {"a": {}}, "allOf": [{"additionalProperties": {"type": "number"}}]});
        assert_eq!(
            messages(&open, &json!({"x": "1"})),
            ["x: Expected number, received string"]
        );
        assert_eq!(
            validate(&open, &json!({"a": 2, "x": 1})),
            Ok(json!({"a": 2, "x": 1}))
        );
        let items = json!({"items": {"properties": {"a": {}}}});
        assert_eq!(
            validate(&items, &json!([{"a": 1, "b": 2}])),
            Ok(json!([{"a": 1}]))
        );
        let empty = json!({"type": "object", "properties": {}});
        assert_eq!(validate(&empty, &json!({"x": 1})), Ok(json!({})));
    }

    #[test]
    fn rules_about_members_items_and_conditions() {
        let unique = json!({"uniqueItems": true});
        for (value, good) in [
            (json!([1, "1", true, [1], {"a": 1}]), true),
            (json!([1, 1.0]), false),
            (json!([0.0, -0.0]), false),
            (json!([{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}]), false),
        ] {
            assert_eq!(validate(&unique, &value).is_ok(), good, "{value}");
        }
        let size = json!({"minProperties": 1, "maxProperties": 2});
        assert_eq!(
            messages(&size, &json!({})),
            [": Object must contain at least 1 key(s)"]
        );
        assert_eq!(
            messages(&size, &json!({"a": 1, "b": 1, "c": 1})),
            [": Object must contain at most 2 key(s)"]
        );
        let dependent =
            json!({"properties": {"a": {}, "b": {}}, "dependentRequired": {"a": ["b"]}});
        assert_eq!(messages(&dependent, &json!({"a": 1})), ["b: Required"]);
        assert_eq!(validate(&dependent, &json!({"b": 1})), Ok(json!({"b": 1})));
        let excluded = json!({"properties": {"a": {"not": {"const": "x"}}}});
        assert_eq!(
            messages(&excluded, &json!({"a": "x"})),
            ["a: Invalid input: it fits what the schema excludes"]
        );
        assert_eq!(
            validate(&excluded, &json!({"a": "y"})),
            Ok(json!({"a": "y"}))
        );
        let conditional = json!({
            "properties": {"mode": {"type": "string"}},
            "if": {"properties": {"mode": {"const": "a"}}, "required": ["mode"]},
            "then": {"properties": {"level": {"type": "integer"}}, "required": ["level"]},
            "else": {"properties": {"depth": {"default": 2}}},
        });
        assert_eq!(
            messages(&conditional, &json!({"mode": "a"})),
            ["level: Required"]
        );
        assert_eq!(
            validate(&conditional, &json!({"mode": "a", "level": 1, "junk": 0})),
            Ok(json!({"mode": "a", "level": 1}))
        );
        assert_eq!(
            validate(&conditional, &json!({"mode": "b"})),
            Ok(json!({"mode": "b", "depth": 2}))
        );
    }

    #[test]
    fn what_would_go_unchecked_is_refused() {
        for name in UNCHECKED {
            let mut inner = json!({"type": "object"});
            inner[name] = json!({});
            for schema in [
                json!({"properties": {"a": inner.clone()}}),
                json!({"not": inner.clone()}),
                json!({"then": inner}),
            ] {
                let refusal = check(&schema).unwrap_err();
                assert!(
                    refusal.starts_with(&format!("{name} is not supported")),
                    "{refusal}"
                );
            }
            // A member may have that name.
            let mut properties = json!({});
            properties[name] = json!({"type": "string"});
            assert_eq!(check(&json!({"properties": properties})), Ok(()));
        }
        assert!(check(&json!({"if": 5})).is_err());
    }
}
