//! What the messages of a run told, and what it came to by them or by its history entry.

use serde_json::{Map, Value};

use super::Execution;
use super::shown::weight;
use crate::comfy::Comfy;
use crate::comfy::message::TextMessage;
use crate::comfy::pool::Place;
use crate::config::public_text;
use crate::error::{Code, Failure};
use crate::job::node_error::node_error;
use crate::job::nodes::ClientNodes;
use crate::job::outputs::NodeOutput;
use crate::job::registry::{Job, JobRegistry};
use crate::job::stats::Timeline;

/// What the messages told, for when history cannot be had.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) executed: Vec<TextMessage>,
    pub(super) last_word: Option<(String, Value)>,
    pub(super) warnings: Vec<String>,
}

impl Seen {
    pub(super) fn message(
        &mut self,
        (place, jobs): (&Place, &JobRegistry),
        job: &Job,
        timeline: &mut Timeline,
        message: TextMessage,
    ) {
        let kind = message.kind.as_str();
        job.observe(&message);
        job.streams
            .message(weight(kind), || message.text_with_id(&job.id));
        match kind {
            "executed" => self.executed.push(message),
            "execution_start"
            | "execution_cached"
            | "executing"
            | "progress"
            | "execution_success"
            | "execution_error"
            | "execution_interrupted" => {
                let data = message
                    .value()
                    .get_mut("data")
                    .map(Value::take)
                    .unwrap_or_default();
                if let Some(progress) = timeline.message(kind, &data) {
                    job.progress(progress);
                }
                match kind {
                    "execution_start" | "executing" => {
                        place.began();
                        jobs.started(job);
                    }
                    // A node that is blocked with a message does not end the run (comfyui.md 3.2).
                    "execution_error"
                        if data.get("exception_type").and_then(Value::as_str)
                            == Some("ExecutionBlocked") =>
                    {
                        let text = |name: &str| {
                            data.get(name)
                                .and_then(Value::as_str)
                                .unwrap_or_default()
                                .trim()
                                .to_owned()
                        };
                        let sentence = format!(
                            "node {} ({}) was blocked: {}",
                            timeline.client.of(&text("node_id")),
                            text("node_type"),
                            text("exception_message")
                        );
                        self.warnings.push(public_text(&sentence));
                    }
                    "execution_success" | "execution_error" | "execution_interrupted" => {
                        self.last_word = Some((kind.to_owned(), data))
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    pub(super) fn execution(
        self,
        comfy: &Comfy,
        job: &Job,
        comfy_id: &str,
        entry: Option<Value>,
        client: &mut ClientNodes,
    ) -> Execution {
        let (outputs, last_word) = match entry {
            Some(mut entry) => {
                for about in entry
                    .get("meta")
                    .and_then(Value::as_object)
                    .into_iter()
                    .flatten()
                {
                    client.note_from(about.1, "node_id");
                }
                let outputs = match entry.get_mut("outputs").map(Value::take) {
                    Some(Value::Object(outputs)) => outputs,
                    _ => Map::new(),
                };
                (outputs, last_word(&entry))
            }
            None => {
                let mut outputs = Map::new();
                for mut message in self.executed.iter().map(TextMessage::value) {
                    let Some(data) = message.get_mut("data") else {
                        continue;
                    };
                    client.note_from(data, "node");
                    let node = data.get("node").and_then(Value::as_str).map(str::to_owned);
                    if let (Some(node), Some(output)) = (node, data.get_mut("output")) {
                        outputs.insert(node, output.take());
                    }
                }
                (outputs, self.last_word)
            }
        };
        let last_word = last_word.map(|(kind, data)| (kind, client.named_in(data)));
        let failure = match last_word {
            Some((kind, _)) if kind == "execution_success" => None,
            Some((kind, data)) if kind == "execution_error" => {
                Some(node_error(comfy, comfy_id, &data))
            }
            Some((kind, _)) if kind == "execution_interrupted" => Some(interrupted(job)),
            _ => Some(Failure::new(
                Code::ComfyuiUnavailable,
                "ComfyUI ended the prompt without saying how; send it again",
            )),
        };
        Execution {
            outputs: by_client(outputs, client),
            failure,
            warnings: self.warnings,
        }
    }
}

/// Outputs by the client's nodes. Several inner nodes belong to one, in order.
fn by_client(outputs: Map<String, Value>, client: &ClientNodes) -> Vec<NodeOutput> {
    let outputs = outputs.into_iter().map(|(node, output)| NodeOutput {
        node: client.of(&node).to_owned(),
        output,
    });
    let mut outputs: Vec<NodeOutput> = outputs.collect();
    let mut order = std::collections::HashMap::new();
    for (index, output) in outputs.iter().enumerate() {
        order.entry(output.node.clone()).or_insert(index);
    }
    outputs.sort_by_key(|output| order.get(&output.node).copied());
    outputs
}

/// The kind of end and its data, from a history entry. An entry without a status is that of an
/// older version, and a success.
fn last_word(entry: &Value) -> Option<(String, Value)> {
    let success = || Some(("execution_success".to_owned(), Value::Null));
    let Some(status) = entry.get("status").filter(|status| !status.is_null()) else {
        return success();
    };
    if status.get("status_str").and_then(Value::as_str) == Some("success") {
        return success();
    }
    let messages = status.get("messages").and_then(Value::as_array)?;
    let last = messages.iter().rfind(|message| {
        matches!(
            message.get(0).and_then(Value::as_str),
            Some("execution_error" | "execution_interrupted")
        )
    })?;
    Some((last.get(0)?.as_str()?.to_owned(), last.get(1)?.clone()))
}

fn interrupted(job: &Job) -> Failure {
    if job.cancel.is_cancelled() {
        return job.stop_reason();
    }
    Failure::new(
        Code::ExecutionInterrupted,
        format!("prompt {} was interrupted in ComfyUI", job.id),
    )
}
