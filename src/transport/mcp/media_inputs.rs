//! Inputs that take media, in the schemas of tools: they say how a model can fill them.

use serde_json::{Map, Value, json};

const HOW: &str =
    "Takes a URL, a data: URI, the `input` of create_upload, or the `uri` of an output.";

/// The schema of a workflow's input as a tool's.
pub fn described(mut schema: Value) -> Value {
    let Some(members) = schema.as_object_mut() else {
        return json!({"type": "object"});
    };
    // The protocol wants it at the root; an input that is a union does not have it.
    members.entry("type").or_insert_with(|| "object".into());
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        for (name, property) in properties.iter_mut() {
            if let Some(property) = property.as_object_mut()
                && takes_media(name, property)
            {
                describe(property);
            }
        }
    }
    schema
}

fn describe(property: &mut Map<String, Value>) {
    let own = property
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .trim_end();
    let end = if own.is_empty() || own.ends_with(['.', '!', '?']) {
        ""
    } else {
        "."
    };
    let text = format!("{own}{end} {HOW}").trim_start().to_owned();
    property.insert("description".into(), text.into());
}

/// By what the schema says, else by the names that such inputs have.
fn takes_media(name: &str, property: &Map<String, Value>) -> bool {
    let said = property
        .get("contentMediaType")
        .and_then(Value::as_str)
        .is_some_and(|kind| {
            ["image/", "video/", "audio/", "*/"]
                .iter()
                .any(|known| kind.starts_with(known))
        });
    let named = matches!(name, "image" | "mask" | "video" | "audio") || name.ends_with("_image");
    said || named && is_text(property)
}

fn is_text(schema: &Map<String, Value>) -> bool {
    if schema.contains_key("enum") {
        return false;
    }
    match schema.get("type") {
        Some(Value::String(kind)) => kind == "string",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "string"),
        _ => ["anyOf", "oneOf"].iter().any(|name| {
            schema
                .get(*name)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_object)
                .any(is_text)
        }),
    }
}
