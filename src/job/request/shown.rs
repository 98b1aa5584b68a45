//! A request as it is remembered and shown: without secrets, and without media that travel in it.

use serde_json::{Map, Value, json};

use super::PromptRequest;
use crate::config::public_value;

/// Media in a request above so many bytes are only counted.
const SHORT_MEDIA: usize = 1024;
/// What a value costs beside its text, about.
const OVERHEAD: usize = 8;

/// Which inputs take media: class and input.
pub type IsMedia<'a> = &'a dyn Fn(&str, &str) -> bool;

impl PromptRequest {
    /// The request as its client could send it again, but for what is left out. `None` when that
    /// has more than `most` bytes, about. The graph is not part of it where a workflow endpoint has
    /// made it of the `input`.
    pub fn shown(&self, from_endpoint: bool, is_media: IsMedia<'_>, most: usize) -> Option<Value> {
        let mut left = most;
        let mut shown = Map::new();
        if self.id_is_callers {
            shown.insert("id".into(), (*self.id).into());
        }
        for (name, value) in &self.echo {
            if name != "job_id" {
                shown.insert(name.clone(), trimmed(value, false, &mut left)?);
            }
        }
        if !from_endpoint {
            let graph = match &self.workflow {
                Some(workflow) => object(workflow, &mut left)?,
                None => shown_graph(&self.graph, is_media, &mut left)?,
            };
            shown.insert("prompt".into(), graph);
        }
        Some(public_value(Value::Object(shown)))
    }
}

/// The body of a request that was recorded, likewise.
pub fn shown_body(
    mut body: Map<String, Value>,
    from_endpoint: bool,
    is_media: IsMedia<'_>,
) -> Value {
    for hidden in ["extra_data", "credentials", "job_id"] {
        body.shift_remove(hidden);
    }
    let mut left = usize::MAX;
    let graph = body
        .shift_remove("prompt")
        .or_else(|| body.shift_remove("workflow"));
    let mut shown = Map::new();
    for (name, value) in &body {
        let value = trimmed(value, false, &mut left);
        shown.insert(name.clone(), value.unwrap_or_default());
    }
    if let Some(graph) = graph.filter(|_| !from_endpoint) {
        let graph = match &graph {
            Value::Object(graph) if !graph.get("nodes").is_some_and(Value::is_array) => {
                shown_graph(graph, is_media, &mut left)
            }
            other => trimmed(other, false, &mut left),
        };
        shown.insert("prompt".into(), graph.unwrap_or_default());
    }
    public_value(Value::Object(shown))
}

/// A graph in API format, likewise; `left` is what it may cost.
pub fn shown_graph(
    graph: &Map<String, Value>,
    is_media: IsMedia<'_>,
    left: &mut usize,
) -> Option<Value> {
    let mut shown = Map::new();
    for (id, node) in graph {
        spend(id.len(), left)?;
        let class = node.get("class_type").and_then(Value::as_str);
        let (Some(class), Some(members)) = (class, node.as_object()) else {
            shown.insert(id.clone(), trimmed(node, false, left)?);
            continue;
        };
        let mut copy = Map::new();
        for (name, value) in members {
            let value = match (name.as_str(), value) {
                ("inputs", Value::Object(inputs)) => {
                    let mut copy = Map::new();
                    for (input, value) in inputs {
                        spend(input.len(), left)?;
                        let value = trimmed(value, is_media(class, input), left)?;
                        copy.insert(input.clone(), value);
                    }
                    Value::Object(copy)
                }
                _ => trimmed(value, false, left)?,
            };
            spend(name.len(), left)?;
            copy.insert(name.clone(), value);
        }
        shown.insert(id.clone(), Value::Object(copy));
    }
    Some(Value::Object(shown))
}

fn object(members: &Map<String, Value>, left: &mut usize) -> Option<Value> {
    let mut copy = Map::new();
    for (name, value) in members {
        spend(name.len(), left)?;
        copy.insert(name.clone(), trimmed(value, false, left)?);
    }
    Some(Value::Object(copy))
}

fn trimmed(value: &Value, media: bool, left: &mut usize) -> Option<Value> {
    Some(match value {
        Value::String(text) if text.len() > SHORT_MEDIA && (media || is_encoded(text)) => {
            spend(OVERHEAD, left)?;
            json!({"omitted": text.len()})
        }
        Value::String(text) => {
            spend(text.len(), left)?;
            value.clone()
        }
        Value::Array(items) => {
            spend(0, left)?;
            let items = items.iter().map(|item| trimmed(item, media, left));
            Value::Array(items.collect::<Option<_>>()?)
        }
        Value::Object(members) => {
            spend(0, left)?;
            let mut copy = Map::new();
            for (name, value) in members {
                spend(name.len(), left)?;
                copy.insert(name.clone(), trimmed(value, media, left)?);
            }
            Value::Object(copy)
        }
        other => {
            spend(0, left)?;
            other.clone()
        }
    })
}

fn spend(bytes: usize, left: &mut usize) -> Option<()> {
    *left = left.checked_sub(bytes.saturating_add(OVERHEAD))?;
    Some(())
}

/// Whether a long text is a file: no language is written without spaces.
fn is_encoded(text: &str) -> bool {
    if text
        .get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
    {
        return true;
    }
    text.bytes().take(2 * SHORT_MEDIA).all(|byte| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=' | b'\r' | b'\n')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_are_counted_texts_stay_and_nothing_secret_is_shown() {
        let long = "a cat ".repeat(400);
        let media = "A".repeat(2000);
        let body = json!({
            "prompt": {
                "1": {
                    "class_type": "LoadImage",
                    "inputs": {"image": format!("x {media}"), "other": "y.png"}
                },
                "2": {
                    "class_type": "Text",
                    "inputs": {
                        "text": long,
                        "data": media,
                        "url": "http://u:marked@h/x?token=marked"
                    }
                },
            },
            "input": {"picture": format!("data:image/png;base64,{media}"), "word": "short"},
            "webhook_v2": "http://h/?signature=marked",
            "extra_data": {
                "api_key_comfy_org": "marked"
            }, "credentials": [{"url_pattern": "*", "auth": {"type": "bearer", "token": "marked"}}],
        });
        let Value::Object(body) = body else {
            unreachable!()
        };
        let is_media = |class: &str, input: &str| class == "LoadImage" && input == "image";
        let shown = shown_body(body.clone(), false, &is_media);
        assert_eq!(
            shown["prompt"]["1"]["inputs"]["image"],
            json!({"omitted": 2002})
        );
        assert_eq!(shown["prompt"]["1"]["inputs"]["other"], "y.png");
        assert_eq!(shown["prompt"]["2"]["inputs"]["text"], long.as_str());
        assert_eq!(
            shown["prompt"]["2"]["inputs"]["data"],
            json!({"omitted": 2000})
        );
        assert_eq!(shown["input"]["picture"], json!({"omitted": 2022}));
        assert_eq!(shown["input"]["word"], "short");
        assert!(!shown.to_string().contains("marked"), "{shown}");
        assert!(
            shown_body(body.clone(), true, &is_media)
                .get("prompt")
                .is_none()
        );
        let mut request = PromptRequest::parse(body).unwrap();
        assert_eq!(
            request.shown(false, &is_media, 8000).unwrap()["prompt"],
            shown["prompt"]
        );
        assert!(request.shown(false, &is_media, 1000).is_none());
        request.id_is_callers = true;
        assert_eq!(
            request.shown(true, &is_media, 8000).unwrap()["id"],
            json!(&*request.id)
        );
    }
}
