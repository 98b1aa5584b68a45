//! The document in a form that generators of clients understand (drop-in.md, D20): no `allOf`, no
//! inline objects, no `const`, no enum of mixed types; every object is a component with a name that
//! can be a class.
//!
//! People write the texts the way that is easiest to read; this is done to the whole at the end.

use serde_json::{Map, Value, json};

use crate::json::type_name;

/// Brings the whole document into that form.
pub fn make_explicit(document: &mut Value) {
    let mut components = document["components"]["schemas"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    let mut namer = Namer {
        taken: components.keys().cloned().collect(),
        components: Map::new(),
        originals: components.clone(),
    };
    for (name, schema) in &mut components {
        *schema = namer.explicit(schema.take(), name, true);
    }
    for group in ["paths", "webhooks"] {
        for operation in members(document.get_mut(group)).flat_map(|item| members(Some(item))) {
            name_bodies(operation, &mut namer);
        }
    }
    for response in members(document.pointer_mut("/components/responses")) {
        name_schemas(response, "ErrorAnswer", &mut namer);
    }
    components.extend(namer.components);
    document["components"]["schemas"] = components.into();
}

fn members(value: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    value
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(Map::values_mut)
}

fn name_bodies(operation: &mut Value, namer: &mut Namer) {
    let Some(id) = operation
        .get("operationId")
        .and_then(Value::as_str)
        .map(pascal)
    else {
        return;
    };
    if let Some(body) = operation.get_mut("requestBody") {
        name_schemas(body, &format!("{id}Request"), namer);
    }
    let responses = operation
        .get_mut("responses")
        .and_then(Value::as_object_mut);
    for (status, response) in responses.into_iter().flatten() {
        name_schemas(response, &format!("{id}Answer{status}"), namer);
    }
    let parameters = operation
        .get_mut("parameters")
        .and_then(Value::as_array_mut);
    for schema in parameters
        .into_iter()
        .flatten()
        .filter_map(|parameter| parameter.get_mut("schema"))
    {
        *schema = namer.explicit(schema.take(), &id, false);
    }
}

/// The schemas of a body's contents.
fn name_schemas(body: &mut Value, name: &str, namer: &mut Namer) {
    for schema in members(body.get_mut("content")).filter_map(|content| content.get_mut("schema")) {
        *schema = namer.explicit(schema.take(), name, false);
    }
}

/// `a/b-c_d` -> `ABCD`, as class names are written.
pub fn pascal(text: &str) -> String {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter_map(|word| {
            let mut letters = word.chars();
            let first = letters.next()?.to_ascii_uppercase();
            Some(std::iter::once(first).chain(letters).collect::<String>())
        })
        .collect()
}

struct Namer {
    taken: std::collections::BTreeSet<String>,
    /// Those that were made here.
    components: Map<String, Value>,
    /// As written, for looking up what `allOf` names.
    originals: Map<String, Value>,
}

impl Namer {
    /// `schema` in explicit form; `name` is what it would be called. A component itself (`top`)
    /// stays where it is, any other object with properties becomes a component and a reference to
    /// it.
    fn explicit(&mut self, schema: Value, name: &str, top: bool) -> Value {
        let Value::Object(schema) = self.flattened(schema) else {
            return Value::Bool(true);
        };
        let mut schema = without_const(schema);
        if let Some(mixed) = split_enum(&mut schema) {
            schema.insert("anyOf".into(), mixed);
        }
        for (property, value) in schema
            .get_mut("properties")
            .and_then(Value::as_object_mut)
            .into_iter()
            .flatten()
        {
            *value = self.explicit(value.take(), &format!("{name}{}", pascal(property)), false);
        }
        for (key, suffix) in [("items", "Item"), ("additionalProperties", "Value")] {
            if let Some(value) = schema.get_mut(key).filter(|value| value.is_object()) {
                *value = self.explicit(value.take(), &format!("{name}{suffix}"), false);
            }
        }
        for key in ["anyOf", "oneOf", "prefixItems"] {
            let list = schema.get_mut(key).and_then(Value::as_array_mut);
            for (index, value) in list.into_iter().flatten().enumerate() {
                let name = match (key, kind_word(value), index) {
                    ("prefixItems", ..) => format!("{name}Item{index}"),
                    (_, Some(word), _) => format!("{name}{}", pascal(word)),
                    (_, None, 0) => name.to_owned(),
                    _ => format!("{name}{}", index + 1),
                };
                *value = self.explicit(value.take(), &name, false);
            }
        }
        let is_object = schema
            .get("properties")
            .and_then(Value::as_object)
            .is_some_and(|properties| !properties.is_empty());
        if top || !is_object {
            return Value::Object(schema);
        }
        let name = self.unused(name);
        self.components.insert(name.clone(), Value::Object(schema));
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    fn unused(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 2;
        while !self.taken.insert(name.clone()) {
            name = format!("{wanted}{number}");
            number += 1;
        }
        name
    }

    /// One object in place of an `allOf` of objects; what stands beside and later wins.
    fn flattened(&self, schema: Value) -> Value {
        let Value::Object(mut schema) = schema else {
            return schema;
        };
        let Some(Value::Array(parts)) = schema.shift_remove("allOf") else {
            return Value::Object(schema);
        };
        let mut whole = Map::new();
        for part in parts.into_iter().chain([Value::Object(schema)]) {
            let part = self.flattened(self.looked_up(part));
            let Value::Object(part) = part else { continue };
            for (key, value) in part {
                match (whole.get_mut(&key), value) {
                    (Some(Value::Object(old)), Value::Object(new)) if key == "properties" => {
                        old.extend(new);
                    }
                    (Some(Value::Array(old)), Value::Array(new)) if key == "required" => {
                        old.extend(new);
                    }
                    (_, value) => {
                        whole.insert(key, value);
                    }
                }
            }
        }
        Value::Object(whole)
    }

    fn looked_up(&self, schema: Value) -> Value {
        let named = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|reference| reference.strip_prefix("#/components/schemas/"));
        match named.and_then(|name| self.originals.get(name)) {
            Some(found) => found.clone(),
            None => schema,
        }
    }
}

/// The one value of a member's `type` property, by which alternatives are told apart.
fn kind_word(alternative: &Value) -> Option<&str> {
    let kind = alternative.pointer("/properties/type")?;
    match kind
        .get("enum")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
    {
        Some([Value::String(word)]) => Some(word),
        _ => kind.get("const").and_then(Value::as_str),
    }
}

fn without_const(mut schema: Map<String, Value>) -> Map<String, Value> {
    if let Some(value) = schema.shift_remove("const") {
        schema
            .entry("type")
            .or_insert_with(|| type_name(&value).into());
        schema.insert("enum".into(), json!([value]));
    }
    schema
}

/// An enum of one type gets that type; of one with several types: a list of schemas, one for each
/// type.
fn split_enum(schema: &mut Map<String, Value>) -> Option<Value> {
    let values = schema.get("enum")?.as_array()?.clone();
    let mut groups: Vec<(&'static str, Vec<Value>)> = Vec::new();
    for value in values {
        let kind = type_name(&value);
        match groups.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, group)) => group.push(value),
            None => groups.push((kind, vec![value])),
        }
    }
    if let [(kind, _)] = groups.as_slice() {
        schema.entry("type").or_insert_with(|| (*kind).into());
        return None;
    }
    schema.shift_remove("enum");
    schema.shift_remove("type");
    let parts = groups.into_iter().map(|(kind, group)| match kind {
        // All values of these types are meant.
        "null" => json!({"type": "null"}),
        "boolean" if group.len() == 2 => json!({"type": "boolean"}),
        _ => json!({"type": kind, "enum": group}),
    });
    Some(parts.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_becomes_one_object_and_inline_objects_get_names() {
        let mut document = json!({
            "paths": {"/a": {"post": {"operationId": "run-it",
            "requestBody": {"content": {"application/json": {"schema": {
                "allOf": [{"$ref": "#/components/schemas/Base"}], "required": ["b"],
                "properties": {"b": {"type": "object", "properties": {"c": {"const": 1}}}},
            }}}}, "responses": {"204": {"description": ""}}}}},
            "components": {"schemas": {"Base": {"type": "object", "required": ["a"], "properties": {
                "a": {"enum": [true, false, "zip", null]},
            }}}},
        });
        make_explicit(&mut document);
        let operation = &document["paths"]["/a"]["post"];
        assert_eq!(
            operation["requestBody"]["content"]["application/json"]["schema"],
            json!({"$ref": "#/components/schemas/RunItRequest"})
        );
        let schemas = &document["components"]["schemas"];
        assert_eq!(
            schemas["Base"]["properties"]["a"],
            json!({
                "anyOf": [
                    {"type": "boolean"},
                    {"type": "string", "enum": ["zip"]},
                    {"type": "null"}
                ]
            })
        );
        assert_eq!(schemas["RunItRequest"]["required"], json!(["a", "b"]));
        assert_eq!(
            schemas["RunItRequest"]["properties"]["b"],
            json!({"$ref": "#/components/schemas/RunItRequestB"})
        );
        assert_eq!(
            schemas["RunItRequestB"]["properties"]["c"],
            json!({"type": "number", "enum": [1]})
        );
        assert!(operation["responses"]["204"].get("content").is_none());
    }

    #[test]
    fn names_are_classes() {
        assert_eq!(pascal("portrait/square-2_x"), "PortraitSquare2X");
        assert_eq!(pascal("é"), "");
    }
}
