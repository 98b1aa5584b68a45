//! `allOf`, `anyOf`, `oneOf`, `not`, `if`.

use serde_json::{Map, Value};

use super::{Walk, fill, fits, list};

impl Walk {
    pub(super) fn alternatives(&mut self, schema: &Map<String, Value>, mut value: Value) -> Value {
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
