//! The outer form of everything that is published (amqp.md, "Events"; compatible with version 1.0
//! of the protocol).

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::events::{Source, SystemEvent};
use crate::telemetry::logging::epoch_ms;

const PROTOCOL_VERSION: &str = "1.0";

/// Makes events; knows the metadata that goes into each.
#[derive(Debug, Clone)]
pub struct EventFactory {
    /// `SYSTEM_META_*` as JSON text, or nothing when there is none.
    metadata: Option<String>,
}

impl EventFactory {
    pub fn new(metadata: &BTreeMap<String, String>) -> Self {
        Self {
            metadata: (!metadata.is_empty()).then(|| json!(metadata).to_string()),
        }
    }

    /// The text before and after `data`. `task_id` is null for events that belong to no task.
    pub fn around(&self, task_id: Option<&str>, event_type: &str, at_ms: u64) -> (String, String) {
        let (version, task_id, event_type) =
            (json!(PROTOCOL_VERSION), json!(task_id), json!(event_type));
        let prefix = format!(
            "{{\"protocol_version\":{version},\"task_id\":{task_id},\"event_type\":{event_type},\"\
             timestamp\":{at_ms},\"data\":"
        );
        let suffix = self.metadata.as_ref().map_or_else(
            || "}".to_owned(),
            |metadata| format!(",\"metadata\":{metadata}}}"),
        );
        (prefix, suffix)
    }

    /// A whole envelope around a small value.
    pub fn of(&self, task_id: Option<&str>, event_type: &str, at_ms: u64, data: &Value) -> Bytes {
        let (mut text, suffix) = self.around(task_id, event_type, at_ms);
        text.push_str(&data.to_string());
        text.push_str(&suffix);
        Bytes::from(text)
    }

    /// The envelope of an event from the websocket.
    pub fn of_event(&self, task_id: Option<&str>, event: &SystemEvent, at_ms: u64) -> Bytes {
        self.of(task_id, &event.name, at_ms, inner_data(event))
    }
}

/// ComfyUI's messages are `{type, data, sid}`; the envelope has the type already, so that only
/// `data` goes into it.
fn inner_data(event: &SystemEvent) -> &Value {
    match event.data.as_object() {
        Some(message) if event.source == Source::Comfy && message.contains_key("type") => {
            message.get("data").unwrap_or(&event.data)
        }
        _ => &event.data,
    }
}

/// Register, heartbeat, unregister: no task, metadata of their own.
pub fn service(event_type: &str, data: Value, metadata: Option<Value>) -> Bytes {
    let mut message = json!({
        "protocol_version": PROTOCOL_VERSION,
        "event_type": event_type,
        "timestamp": epoch_ms(),
        "data": data
    });
    if let (Some(message), Some(metadata)) = (message.as_object_mut(), metadata) {
        message.insert("metadata".to_owned(), metadata);
    }
    Bytes::from(message.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn an_envelope_has_the_type_once_and_metadata_only_when_there_is_some() {
        let event = SystemEvent {
            source: Source::Comfy,
            name: "progress".into(),
            data: Arc::new(json!({"type": "progress", "data": {"value": 1, "max": 4}, "sid": "s"})),
            prompt: None,
        };
        let parse = |bytes: Bytes| serde_json::from_slice::<Value>(&bytes).unwrap();
        let plain = parse(EventFactory::new(&BTreeMap::new()).of_event(Some("a\"b"), &event, 5));
        assert_eq!(
            plain,
            json!({
                "protocol_version": "1.0",
                "task_id": "a\"b",
                "event_type": "progress",
                "timestamp": 5,
                "data": {"value": 1, "max": 4}
            })
        );
        let metadata = BTreeMap::from([("region".to_owned(), "eu".to_owned())]);
        let tagged = parse(EventFactory::new(&metadata).of_event(None, &event, 5));
        assert_eq!(
            (&tagged["metadata"], &tagged["task_id"]),
            (&json!({"region": "eu"}), &Value::Null)
        );
    }
}
