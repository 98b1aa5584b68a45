//! What something that was offered as a graph is (ui-format.md, section 1).

use serde_json::{Map, Value};

use crate::json;

/// Envelopes and texts around each other.
const MOST_AROUND: usize = 8;

/// A graph in one of its two formats.
#[derive(Debug, Clone, PartialEq)]
pub enum Recognised {
    /// As the editor saves it.
    Ui(Map<String, Value>),
    /// As ComfyUI's API takes it.
    Api(Map<String, Value>),
}

/// Recognises a graph, also inside `{"prompt": ...}`, `{"workflow": ...}`, `{"output": ...}` and
/// JSON texts.
///
/// # Errors
/// A sentence that says what was found and what is wanted.
pub fn recognise(offered: Value) -> Result<Recognised, String> {
    within(offered, MOST_AROUND)
}

/// The same of JSON, in which `NaN` and infinities are read as null.
///
/// # Errors
/// A sentence that says what was found and what is wanted.
pub fn recognise_text(text: &[u8]) -> Result<Recognised, String> {
    let value = json::parse(text.to_vec()).map_err(|error| format!("This {error}"))?;
    recognise(value)
}

/// Whether an object is a workflow as the editor saves it.
pub fn is_ui(object: &Map<String, Value>) -> bool {
    object.get("nodes").is_some_and(Value::is_array)
}

/// Whether an object has at least one node of the API's format.
pub fn is_api(object: &Map<String, Value>) -> bool {
    object
        .values()
        .any(|node| node.get("class_type").is_some_and(Value::is_string))
}

fn within(offered: Value, depth: usize) -> Result<Recognised, String> {
    let mut object = match offered {
        Value::Object(object) => object,
        Value::String(text) if depth > 0 => {
            let inner = json::parse(text.into_bytes());
            let inner = inner.map_err(|_| unrecognised("a text that is not JSON"))?;
            return within(inner, depth - 1);
        }
        other => return Err(unrecognised(kind(&other))),
    };
    object.retain(|_, member| !member.is_null());
    if is_ui(&object) {
        return Ok(Recognised::Ui(object));
    }
    if is_api(&object) {
        return Ok(Recognised::Api(object));
    }
    let mut why = None;
    if depth > 0 {
        for name in ["prompt", "workflow", "output"] {
            let Some(inner) = object.shift_remove(name) else {
                continue;
            };
            match within(inner, depth - 1) {
                Ok(found) => return Ok(found),
                Err(error) => why = why.or(Some(error)),
            }
        }
    }
    Err(why.unwrap_or_else(|| {
        unrecognised(if object.is_empty() {
            "an empty object"
        } else if object.contains_key("nodes") {
            "an object whose \"nodes\" are not a list"
        } else {
            "an object without nodes"
        })
    }))
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn unrecognised(found: &str) -> String {
    format!(
        "This is not a workflow: {found} was found; wanted is a ComfyUI graph in API format \
         ({{\"<node id>\": {{\"class_type\", \"inputs\"}}}}) or a workflow as the editor saves it \
         ({{\"nodes\": [...], \"links\": [...]}})"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_formats_are_recognised_wherever_they_stand() {
        let ui = json!({"nodes": [], "version": 0.4});
        let api = json!({"1": {"class_type": "A", "inputs": {}}, "version": 1});
        for (offered, is_ui) in [
            (ui.clone(), true),
            (json!({"nodes": [], "links": null}), true),
            (api.clone(), false),
            (json!({"prompt": ui}), true),
            (json!({"workflow": ui}), true),
            (json!({"output": api}), false),
            (json!(api.to_string()), false),
            (
                json!({"prompt": {"workflow": ui.to_string()}, "prompt_id": 1}),
                true,
            ),
            (json!({"prompt": "a cat", "workflow": ui}), true),
        ] {
            let found = recognise(offered.clone()).unwrap();
            assert_eq!(matches!(found, Recognised::Ui(_)), is_ui, "{offered}");
        }
        let text = br#"{"nodes": [{"a": NaN, "b": [-Infinity]}]}"#;
        assert!(matches!(recognise_text(text), Ok(Recognised::Ui(_))));
    }

    #[test]
    fn what_is_none_is_refused_with_what_it_is() {
        for (offered, says) in [
            (json!([]), "a list"),
            (json!({}), "an empty object"),
            (json!({"nodes": {}}), "not a list"),
            (json!({"nodes": null}), "an empty object"),
            (json!("x"), "not JSON"),
            (json!(3), "a number"),
            (json!({"prompt": []}), "a list"),
            (json!({"a": {"b": 1}}), "without nodes"),
        ] {
            let sentence = recognise(offered.clone()).unwrap_err();
            assert!(sentence.contains(says), "{offered}: {sentence}");
        }
    }
}
