//! Which members of an input its schema knows. What one part of a schema does not know, another one
//! may.

use serde_json::{Map, Value};

use super::schema::{fits, list};

/// A schema that describes a value.
struct Part<'a> {
    schema: &'a Map<String, Value>,
    /// Whether the value goes by it. Of alternatives that is the first that fits; the others only
    /// make names known.
    applies: bool,
}

/// Takes out the members that no part of the schema knows, as zod does. The value must fit the
/// schema.
pub(super) fn strip(schema: &Value, value: &mut Value) {
    strip_by(&[(schema, true)], value);
}

fn strip_by(schemas: &[(&Value, bool)], value: &mut Value) {
    if !value.is_array() && !value.is_object() {
        return;
    }
    let mut parts = Vec::new();
    for &(schema, applies) in schemas {
        collect(schema, applies, value, &mut parts);
    }
    match value {
        Value::Array(items) => {
            let inner: Vec<(&Value, bool)> = parts
                .iter()
                .filter_map(|part| Some((part.schema.get("items")?, part.applies)))
                .collect();
            items.iter_mut().for_each(|item| strip_by(&inner, item));
        }
        Value::Object(object) => {
            // Where nobody says which members there are, none is unknown.
            let closed = parts.iter().any(|part| {
                part.applies && part.schema.get("properties").is_some_and(Value::is_object)
            });
            object.retain(|name, member| {
                let fields: Vec<(&Value, bool)> = parts
                    .iter()
                    .filter_map(|part| Some((part.field(name)?, part.applies)))
                    .collect();
                strip_by(&fields, member);
                !closed || !fields.is_empty()
            });
        }
        _ => {}
    }
}

fn collect<'a>(schema: &'a Value, applies: bool, value: &Value, parts: &mut Vec<Part<'a>>) {
    let Some(schema) = schema.as_object() else {
        return;
    };
    parts.push(Part { schema, applies });
    for part in list(schema, "allOf") {
        collect(part, applies, value, parts);
    }
    for name in ["anyOf", "oneOf"] {
        let mut open = applies;
        for option in list(schema, name) {
            let taken = open && fits(option, value);
            open &= !taken;
            collect(option, taken, value, parts);
        }
    }
    let Some(condition) = schema.get("if") else {
        return;
    };
    let met = fits(condition, value);
    for (part, applies) in [
        (Some(condition), false),
        (schema.get("then"), applies && met),
        (schema.get("else"), applies && !met),
    ] {
        if let Some(part) = part {
            collect(part, applies, value, parts);
        }
    }
}

impl<'a> Part<'a> {
    /// What it says of a member.
    fn field(&self, name: &str) -> Option<&'a Value> {
        let rest = self
            .schema
            .get("additionalProperties")
            .filter(|rest| self.applies && **rest != Value::Bool(false));
        own(self.schema, name).or(rest)
    }
}

fn own<'a>(schema: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    schema.get("properties")?.get(name)
}

/// What the schema says of a member, or else the first of its parts that says something.
pub(super) fn described<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let schema = schema.as_object()?;
    let lists = ["allOf", "anyOf", "oneOf"]
        .into_iter()
        .flat_map(|key| list(schema, key));
    let mut parts = lists.chain(
        ["then", "else"]
            .into_iter()
            .filter_map(|key| schema.get(key)),
    );
    own(schema, name).or_else(|| parts.find_map(|part| described(part, name)))
}
