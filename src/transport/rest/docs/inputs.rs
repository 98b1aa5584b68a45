//! Workflow endpoints in the document: `POST /prompt`'s operation with `input` in place of
//! `prompt`.

use std::collections::BTreeSet;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::named::pascal;
use crate::workflow::Endpoint;

/// What cannot stand in a path of the document: braces would be variables.
const UNSAFE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// Adds the endpoints.
pub fn add(document: &mut Value, endpoints: &[Endpoint]) {
    let prompt = document["paths"]["/prompt"]["post"].clone();
    let mut taken = BTreeSet::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        let name = component_name(&endpoint.route, index, &mut taken);
        let component = format!("{name}Input");
        let mut schema = input_schema(&endpoint.input_schema, &component);
        for (part, definition) in taken_out(&mut schema, "$defs") {
            let part = format!("{component}{}", pascal(&part));
            document["components"]["schemas"][part] = definition;
        }
        document["components"]["schemas"][&component] = schema;
        document["paths"][utf8_percent_encode(&endpoint.route, UNSAFE).to_string()] =
            json!({"post": operation(endpoint, &prompt, &name)});
    }
}

/// What the endpoint is called in names of components: `portrait/square` ->
/// `WorkflowPortraitSquare`.
fn component_name(route: &str, index: usize, taken: &mut BTreeSet<String>) -> String {
    let name = format!("Workflow{}", pascal(route.trim_start_matches("/workflow/")));
    // Two names may have become one.
    if taken.insert(name.clone()) {
        name
    } else {
        format!("{name}{index}")
    }
}

/// The schema as a component; its references to itself lead to where it is now.
fn input_schema(schema: &Value, component: &str) -> Value {
    let mut schema = if schema.is_object() {
        schema.clone()
    } else {
        json!({"type": "object"})
    };
    if let Some(members) = schema.as_object_mut() {
        members.shift_remove("$schema");
        members.shift_remove("$id");
    }
    rebase(&mut schema, component);
    schema
}

fn taken_out(schema: &mut Value, key: &str) -> Map<String, Value> {
    let taken = schema
        .as_object_mut()
        .and_then(|schema| schema.shift_remove(key));
    match taken {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

fn rebase(value: &mut Value, component: &str) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get_mut("$ref")
                && let Some(rest) = reference.strip_prefix('#')
            {
                *reference = match rest.strip_prefix("/$defs/") {
                    Some(part) if !part.contains('/') => {
                        format!("#/components/schemas/{component}{}", pascal(part))
                    }
                    _ => format!("#/components/schemas/{component}{rest}"),
                };
            }
            members
                .values_mut()
                .for_each(|value| rebase(value, component));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| rebase(value, component)),
        _ => {}
    }
}

fn operation(endpoint: &Endpoint, prompt: &Value, name: &str) -> Value {
    let mut operation = prompt.clone();
    operation["tags"] = json!(["Workflows"]);
    operation["operationId"] = operation_id(name).into();
    operation["summary"] = endpoint.summary.clone().unwrap_or_default().into();
    operation["description"] = endpoint.description.clone().unwrap_or_default().into();
    if let Some(errors) = operation["x-errors"].as_array_mut() {
        errors.push("not_found".into());
    }
    let own = json!({"$ref": format!("#/components/schemas/{name}Input")});
    let needed = endpoint
        .input_schema
        .get("required")
        .and_then(Value::as_array)
        .is_some_and(|names| !names.is_empty());
    let (input, required) = if needed {
        (own.clone(), json!(["input"]))
    } else {
        (json!({"anyOf": [own, {"type": "null"}]}), json!([]))
    };
    let mut body = Map::new();
    body.insert("required".into(), json!(true));
    body.insert(
        "content".into(),
        json!({"application/json": {"schema": {
            "allOf": [{"$ref": "#/components/schemas/Delivery"}],
            "type": "object",
            "required": required,
            "properties": {"input": input},
        }}}),
    );
    operation["requestBody"] = body.into();
    for (status, base) in [("200", "Result"), ("202", "Accepted")] {
        let schema = json!({
            "allOf": [{"$ref": format!("#/components/schemas/{base}")}],
            "required": ["input"],
            "properties": {
                "input": {
                    "description": "The input after the schema: defaults filled in, unknown keys \
                                    stripped."
                }
            },
        });
        operation["responses"][status]["content"]["application/json"]["schema"] = schema;
        if let Some(content) =
            operation["responses"][status]["content"]["application/json"].as_object_mut()
        {
            content.shift_remove("examples");
        }
    }
    operation
}

/// `WorkflowPortraitSquare` -> `workflowPortraitSquare`, a method's name in every language.
fn operation_id(name: &str) -> String {
    name.replacen('W', "w", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_and_schemas_make_a_sound_document() {
        let mut document = json!({
            "paths": {"/prompt": {"post": {"x-errors": [], "responses": {}}}},
            "components": {"schemas": {}}
        });
        let endpoint = |route: &str, input_schema| Endpoint {
            route: route.into(),
            summary: None,
            description: None,
            about: None,
            input_schema,
        };
        let schema = json!({
            "$schema": "x",
            "properties": {"tree": {"$ref": "#/$defs/tree"}},
            "required": ["tree"],
            "$defs": {"tree": {"type": "object"}}
        });
        add(
            &mut document,
            &[
                endpoint("/workflow/a/{b} c", schema),
                endpoint("/workflow/plain", json!({"type": "object"})),
            ],
        );
        let odd = &document["paths"]["/workflow/a/%7Bb%7D%20c"]["post"];
        assert_eq!(
            odd.pointer("/requestBody/content/application~1json/schema/properties/input/$ref")
                .unwrap(),
            "#/components/schemas/WorkflowABCInput"
        );
        let input = &document["components"]["schemas"]["WorkflowABCInput"];
        assert_eq!(
            input["properties"]["tree"]["$ref"],
            "#/components/schemas/WorkflowABCInputTree"
        );
        assert!(input.get("$schema").is_none());
        let plain = &document["paths"]["/workflow/plain"]["post"];
        assert_eq!(
            plain
                .pointer("/requestBody/content/application~1json/schema/required")
                .unwrap(),
            &json!([])
        );
    }
}
