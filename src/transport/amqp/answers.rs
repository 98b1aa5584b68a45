//! The ends of tasks as events (amqp.md, "Tasks").

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::memory::Answer;
use crate::broker::envelope::EventFactory;
use crate::document::Document;
use crate::error::{Code, Failure};
use crate::telemetry::logging::epoch_ms;

/// Bytes of a traceback that an event repeats.
const MAX_STACK: usize = 64 * 1024;

/// Makes the events.
#[derive(Debug)]
pub(super) struct Answers {
    events: EventFactory,
    /// `AMQP_MAX_RESULT_MB` in bytes.
    max_bytes: u64,
}

impl Answers {
    pub(super) const fn new(events: EventFactory, max_bytes: u64) -> Self {
        Self { events, max_bytes }
    }

    /// The event of a success. `broker_takes`: the broker's own limit in bytes.
    ///
    /// # Errors
    /// Too large for a message, or a file of it is gone.
    pub(super) async fn success(
        &self,
        id: &str,
        document: &Document,
        broker_takes: usize,
    ) -> Result<Answer, Failure> {
        if document.len() > self.max_bytes {
            let max = self.max_bytes >> 20;
            let limit = format!("a message may carry ({max} MiB, AMQP_MAX_RESULT_MB)");
            return Err(too_large(document.len(), &limit));
        }
        let (prefix, suffix) = self
            .events
            .around(Some(id), "execution_success", epoch_ms());
        let whole = document.surrounded(prefix, suffix);
        if whole.len() > broker_takes as u64 {
            return Err(too_large_for_broker(whole.len(), broker_takes));
        }
        let body = whole.collect().await.map_err(|error| {
            Failure::new(
                Code::Internal,
                format!("The result could not be read for its event: {error}."),
            )
            .transient()
        })?;
        Ok(Answer {
            routing_key: "event.result.execution_success".into(),
            body,
        })
    }

    /// The event of a failure.
    pub(super) fn failure(&self, id: &str, failure: &Failure) -> Answer {
        let name = if failure.code == Code::ExecutionInterrupted {
            "execution_interrupted"
        } else {
            "execution_error"
        };
        let body: Bytes = self
            .events
            .of(Some(id), name, epoch_ms(), &failure_data(id, failure));
        Answer {
            routing_key: format!("event.result.{name}").into(),
            body,
        }
    }
}

/// What to do about a result that no message can carry.
pub(super) fn too_large_for_broker(have: u64, limit: usize) -> Failure {
    too_large(
        have,
        &format!("the broker takes ({limit} bytes: its max_message_size, or AMQP_MAX_MESSAGE_MB)"),
    )
}

fn too_large(have: u64, limit: &str) -> Failure {
    let have = have.div_ceil(1 << 20);
    let message = format!(
        "The result has {have} MiB, more than {limit}: upload it instead, with an upload target \
         such as s3, azure_blob_upload, hf_upload or http_upload in the task."
    );
    Failure::new(Code::PayloadTooLarge, message)
}

/// `{id, type, message, location?, details?, node_errors?, stack}`
fn failure_data(id: &str, failure: &Failure) -> Value {
    // Bounded, as in every other answer.
    let mut body = failure.body();
    let mut data = Map::from_iter([
        ("id".to_owned(), json!(id)),
        ("type".to_owned(), failure.code.as_str().into()),
        (
            "message".to_owned(),
            body.shift_remove("error").unwrap_or_default(),
        ),
    ]);
    for name in ["location", "details", "node_errors"] {
        data.extend(
            body.shift_remove(name)
                .map(|value| (name.to_owned(), value)),
        );
    }
    data.insert("stack".to_owned(), stack(failure).into());
    Value::Object(data)
}

/// The node's traceback, else the message: the Node server's events always have a text here.
fn stack(failure: &Failure) -> String {
    let traceback = failure
        .details
        .as_ref()
        .and_then(|details| details.get("traceback"));
    let mut stack = match traceback {
        Some(Value::Array(lines)) => lines.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(text)) => text.clone(),
        _ => String::new(),
    };
    if stack.is_empty() {
        stack.clone_from(&failure.message);
    }
    if stack.len() > MAX_STACK {
        let end = stack.floor_char_boundary(MAX_STACK);
        stack.truncate(end);
        stack.push('\u{2026}');
    }
    stack
}
