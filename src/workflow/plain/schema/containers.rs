//! Rules about arrays, objects and their members.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::compare::canonical;
use super::{Walk, list};

impl Walk {
    pub(super) fn array(&mut self, schema: &Map<String, Value>, items: &[Value]) -> Value {
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

    pub(super) fn object(
        &mut self,
        schema: &Map<String, Value>,
        object: &Map<String, Value>,
    ) -> Value {
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

    pub(super) fn size(&mut self, schema: &Map<String, Value>, count: u64) {
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
}
