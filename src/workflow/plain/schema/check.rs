//! Whether a schema can be used at all.

use serde_json::Value;

use super::{list, types};

/// Schemas nested deeper than this are refused when they are read.
const DEEPEST: usize = 32;

/// Keywords that would be promised to clients but never checked.
pub(super) const UNCHECKED: [&str; 9] = [
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

/// Whether a schema can be used at all: known types, patterns that compile, no keyword that would
/// go unchecked.
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
