//! What an instance says of the end, as the end that it was there.

use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::Running;
use super::publish::too_large;
use crate::comfy::message::TextMessage;
use crate::error::{Code, Failure};
use crate::fleet::files;
use crate::fleet::publish::Published;
use crate::job::remote::{Done, Told};
use crate::telemetry::logging::epoch_ms;

impl Running<'_> {
    pub(super) async fn ended(
        &self,
        kind: &str,
        mut data: Map<String, Value>,
    ) -> Result<Done, Failure> {
        match kind {
            "execution_success" => {
                // ComfyUI says so, too, but instances tell it once, with the outputs.
                let about = json!({"prompt_id": &*self.task.id, "timestamp": epoch_ms()});
                let said = json!({"type": kind, "data": about}).to_string();
                if let Some(message) = TextMessage::parse(Utf8Bytes::from(said)) {
                    self.told.put(Told::Message(message));
                }
                let task = self.task.clone();
                let collecting = tokio::task::spawn_blocking(move || {
                    files::collect(&task, &mut data).map(|files| (files, data))
                });
                let (files, answer) = collecting
                    .await
                    .map_err(|_| crate::error::panicked("collecting the files of a job"))??;
                Ok(Done {
                    answer,
                    files,
                    folder: self.task.dir.clone(),
                })
            }
            "execution_interrupted" if self.job.cancel.is_cancelled() => {
                Err(self.job.stop_reason())
            }
            _ => Err(failure(kind, data)),
        }
    }
}

/// What becomes of a job whose message was published.
pub(super) fn outcome(name: &str, published: Published) -> Result<(), Failure> {
    match published {
        Published::Confirmed => Ok(()),
        Published::TooLarge(longest) => Err(too_large(longest)),
        Published::Returned | Published::Refused => {
            let why = match published {
                Published::Returned => "there is no such queue",
                _ => "the broker has not confirmed the job in time",
            };
            let message = format!("the job cannot be handed to the queue {name}: {why}");
            let mut failure = Failure::new(Code::ComfyuiUnavailable, message);
            // Nobody has it, and nobody will.
            failure.attempts = Some(0);
            Err(failure)
        }
    }
}

/// What an instance says of a failure, as the failure that it was there.
pub(super) fn failure(kind: &str, mut data: Map<String, Value>) -> Failure {
    let word = data.get("type").and_then(Value::as_str);
    let known = Code::ALL
        .into_iter()
        .find(|code| Some(code.as_str()) == word);
    let code = match known {
        Some(code) => code,
        None if kind == "execution_interrupted" => Code::ExecutionInterrupted,
        None => Code::ExecutionError,
    };
    let text = |name: &str| data.get(name).and_then(Value::as_str).map(str::to_owned);
    let message = text("message").unwrap_or_else(|| "the job failed".to_owned());
    let location = text("location");
    let mut failure = Failure::new(code, message);
    failure.location = location;
    failure.details = data.remove("details");
    failure.node_errors = data.remove("node_errors");
    // The instance has tried whatever could be tried.
    failure.transient = false;
    failure
}
