//! A message body as a task. Lenient (amqp.md, "Tasks"): old producers encode twice, or send the graph as a string.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::memory::Fingerprint;

/// Bodies above this many bytes are parsed off the runtime.
const LARGE: usize = 256 * 1024;

/// A task as the runner takes it.
#[derive(Debug)]
pub(super) struct Task {
    /// As the producer gave it, if at all.
    pub(super) id: Option<Arc<str>>,
    /// A `POST /prompt` body without the id.
    pub(super) body: Map<String, Value>,
    /// Of the message's bytes.
    pub(super) fingerprint: Fingerprint,
}

/// Parses a message body.
///
/// # Errors
/// One sentence when it is not a JSON object.
pub(super) async fn parse(bytes: Vec<u8>) -> Result<Task, String> {
    if bytes.len() < LARGE {
        return parse_now(&bytes);
    }
    tokio::task::spawn_blocking(move || parse_now(&bytes))
        .await
        .unwrap_or_else(|_| Err("The task could not be parsed.".to_owned()))
}

fn parse_now(bytes: &[u8]) -> Result<Task, String> {
    let mut value: Value = serde_json::from_slice(bytes)
        .map_err(|error| format!("The task is not JSON ({error}): send a POST /prompt body."))?;
    if let Value::String(text) = &value {
        value = serde_json::from_str(text).map_err(|error| {
            format!(
                "The task is a JSON string that holds no JSON ({error}): send a POST /prompt body."
            )
        })?;
    }
    let Value::Object(mut body) = value else {
        return Err("The task is JSON but not an object: send a POST /prompt body.".to_owned());
    };
    if let Some(Value::String(text)) = body.get("prompt")
        && let Ok(graph) = serde_json::from_str::<Value>(text)
        && graph.is_object()
    {
        body.insert("prompt".to_owned(), graph);
    }
    let alias = body.shift_remove("task_id");
    let id = body
        .shift_remove("id")
        .as_ref()
        .and_then(id_text)
        .or_else(|| alias.as_ref().and_then(id_text))
        .map(Arc::from);
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    Ok(Task {
        id,
        body,
        fingerprint: hasher.finish(),
    })
}

fn id_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn old_producers_are_understood() {
        let parse = |value: Value| parse_now(value.to_string().as_bytes()).unwrap();
        let graph = json!({"1": {"class_type": "X", "inputs": {}}});
        let plain = parse(json!({"id": "a", "prompt": graph}));
        assert_eq!(
            (plain.id.as_deref(), &plain.body["prompt"]),
            (Some("a"), &graph)
        );
        let twice = parse(Value::String(
            json!({"task_id": "b", "prompt": graph.to_string()}).to_string(),
        ));
        assert_eq!(
            (twice.id.as_deref(), &twice.body["prompt"]),
            (Some("b"), &graph)
        );
        assert!(!twice.body.contains_key("task_id") && !twice.body.contains_key("id"));
        assert_eq!(
            parse(json!({"id": 7, "task_id": "c"})).id.as_deref(),
            Some("7")
        );
        assert_eq!(
            parse(json!({"id": null, "task_id": "c"})).id.as_deref(),
            Some("c")
        );
        assert_eq!(parse(json!({"id": ""})).id, None);
        assert_ne!(plain.fingerprint, twice.fingerprint);
        assert_eq!(
            plain.fingerprint,
            parse(json!({"id": "a", "prompt": graph})).fingerprint
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in [
            "", "nonsense", "[1]", "3", "null", "\"text\"", "\"[1]\"", "\u{fffd}",
        ] {
            assert!(parse_now(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse_now(&[0xff, 0xfe]).is_err());
    }
}
