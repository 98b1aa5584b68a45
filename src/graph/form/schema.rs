//! What ComfyUI says of an input, as JSON Schema.

use serde_json::{Map, Value};

use super::super::catalogue::InputDefinition;
use super::media_type;

/// Choices of an input that its schema lists, at most.
const MOST_CHOICES: usize = 10_000;

pub(super) fn schema(input: &str, value: &Value, definition: Option<&InputDefinition>) -> Value {
    let mut schema = Map::new();
    let media = media_type(input, definition).filter(|_| value.is_string());
    let kind = match definition.map(InputDefinition::widget_kind) {
        _ if media.is_some() => Some("string"),
        Some("INT") => Some("integer"),
        Some("FLOAT") => Some("number"),
        Some("BOOLEAN") => Some("boolean"),
        Some("STRING" | "TEXTAREA" | "MARKDOWN" | "COLOR") => Some("string"),
        Some("COMBO" | "COMFY_DYNAMICCOMBO_V3") => None,
        _ => by_value(value),
    };
    if let Some(kind) = kind {
        schema.insert("type".into(), kind.into());
    }
    if let Some(media) = media {
        schema.insert("contentMediaType".into(), media.into());
    }
    if let Some(definition) = definition {
        if matches!(kind, Some("integer" | "number")) {
            for (name, limit) in [("minimum", &definition.min), ("maximum", &definition.max)] {
                if let Some(limit) = limit {
                    schema.insert(name.into(), limit.clone());
                }
            }
        }
        if media.is_none() {
            let choices = choices(definition);
            if !choices.is_empty() && choices.len() <= MOST_CHOICES {
                schema.insert("enum".into(), choices.into());
            }
        }
        if let Some(default) = &definition.default {
            schema.insert("default".into(), default.clone());
        }
    }
    Value::Object(schema)
}

fn choices(definition: &InputDefinition) -> Vec<Value> {
    match definition.widget_kind() {
        "COMFY_DYNAMICCOMBO_V3" => {
            let options = definition.options().iter();
            options.map(|option| option.key.clone()).collect()
        }
        _ => definition
            .choices
            .as_ref()
            .map(|choices| choices.to_vec())
            .unwrap_or_default(),
    }
}

const fn by_value(value: &Value) -> Option<&'static str> {
    match value {
        Value::String(_) => Some("string"),
        Value::Bool(_) => Some("boolean"),
        // A seed may be a fraction nowhere, anything else may.
        Value::Number(_) => Some("number"),
        Value::Array(_) => Some("array"),
        Value::Object(_) => Some("object"),
        Value::Null => None,
    }
}
