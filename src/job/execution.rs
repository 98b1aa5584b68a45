//! One run of a graph in ComfyUI: submitted, watched to its end whatever happens, cancelled on request (prompt.md, sections 2, 3, 6).

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Number, Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::cleanup::{Entry, Record};
use super::event::JobEvent;
use super::nodes::ClientNodes;
use super::outputs::{NodeOutput, ReceivedImages};
use super::registry::{Job, JobRegistry};
use super::rejection;
use super::request::SubmitFields;
use super::stats::Timeline;
use super::stream::Weight;
use crate::comfy::Comfy;
use crate::comfy::client::{CallError, Submitted};
use crate::comfy::message::{Preview, TextMessage};
use crate::comfy::watch::{WatchEvent, Watcher};
use crate::config::{public_text, public_value};
use crate::document::base64;
use crate::error::{Code, Failure};
use crate::events::PromptRef;
use crate::limits::{is_large_object, off_runtime};

/// How long a cancelled prompt waits for a ComfyUI that does not answer.
const CANCEL_PATIENCE: Duration = Duration::from_secs(15);
/// How long a prompt that must end with the server waits for its node to stop; less than the server waits for the prompt.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);
/// How long after an unanswered call the word of ComfyUI's death may come; it says more than that a connection broke.
const DEATH_NOTICE: Duration = Duration::from_millis(300);
/// How often the history entry of an ended prompt is asked for before the messages seen have to do.
const HISTORY_TRIES: u32 = 8;

/// What came of a run.
#[derive(Debug)]
pub struct Execution {
    /// What the client's nodes have reported, in ComfyUI's order.
    pub outputs: Vec<NodeOutput>,
    /// `None` is success. The outputs of branches that finished before a failure are there all the same.
    pub failure: Option<Failure>,
    /// What went wrong without failing it.
    pub warnings: Vec<String>,
}

/// A graph that ComfyUI has queued.
pub struct Queued {
    watcher: Watcher,
    /// Outputs that were left out.
    pub warnings: Vec<String>,
}

impl Queued {
    /// A graph that ComfyUI has queued by itself.
    pub fn adopted(watcher: Watcher) -> Self {
        Self {
            watcher,
            warnings: Vec::new(),
        }
    }

    /// The socket that is told of it.
    pub fn client_id(&self) -> &str {
        &self.watcher.client_id
    }

    /// ComfyUI's id of the run.
    pub fn comfy_id(&self) -> &str {
        &self.watcher.id
    }
}

#[derive(Serialize)]
struct Submission<'a> {
    prompt: &'a Map<String, Value>,
    client_id: &'a str,
    prompt_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_data: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partial_execution_targets: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    front: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<&'a Number>,
}

/// Hands a graph to ComfyUI. It is watched from before that on. Where ComfyUI may have queued it although nobody follows it any more, it is
/// taken out again in the background, and `cleanup_guard` is dropped only then.
///
/// # Errors
/// 400 when ComfyUI refuses it, 503 when it does not answer, the reason for stopping when the prompt was stopped meanwhile.
pub async fn submit(
    comfy: &Comfy,
    job: &Job,
    graph: &Map<String, Value>,
    extra_data: Option<&Value>,
    fields: &SubmitFields,
    entry: &Arc<Entry>,
    cleanup_guard: Arc<dyn Any + Send + Sync>,
) -> Result<Queued, Failure> {
    if job.cancel.is_cancelled() {
        return Err(job.stop_reason());
    }
    let prompt = PromptRef {
        id: job.id.clone(),
        published: job.policy.published,
    };
    let mut watcher = comfy.watch.register(prompt, job.streams.read.clone());
    let submission = Submission {
        prompt: graph,
        client_id: &watcher.client_id,
        prompt_id: &watcher.id,
        extra_data,
        partial_execution_targets: fields.partial_execution_targets.as_deref(),
        front: fields.front,
        number: fields.number.as_ref(),
    };
    let written = off_runtime(is_large_object(graph), || serde_json::to_vec(&submission));
    let body = written.map_err(|error| {
        Failure::new(
            Code::Internal,
            format!("the graph cannot be written as JSON: {error}"),
        )
    })?;
    entry
        .note_later(Record::Run {
            id: watcher.id.clone(),
        })
        .await;
    let client = comfy.client.clone();
    let mut sending = Box::pin(async move { client.submit(body.into()).await });
    let sent = tokio::select! {
        sent = &mut sending => sent,
        () = job.cancel.cancelled() => {
            // ComfyUI may take minutes to check a graph. Nobody is kept waiting for that; what it queues after all is taken out again.
            let comfy = comfy.clone();
            tokio::spawn(async move {
                if !matches!(sending.await, Ok(Submitted::Rejected { .. })) {
                    dequeue(&comfy, &watcher.id).await;
                }
                drop(cleanup_guard);
            });
            return Err(job.stop_reason());
        }
    };
    match sent {
        Ok(Submitted::Accepted { node_errors }) => {
            watcher.submitted();
            Ok(Queued {
                watcher,
                warnings: rejection::skipped(&node_errors),
            })
        }
        Ok(Submitted::Rejected { error, node_errors }) => {
            Err(rejection::rejected(&error, node_errors, graph))
        }
        Err(error) => {
            if let Ok(dead) = timeout(DEATH_NOTICE, watcher.lost()).await {
                return Err(dead);
            }
            // It may have been queued although the answer was lost; nobody would collect what it makes.
            let comfy = comfy.clone();
            tokio::spawn(async move {
                dequeue(&comfy, &watcher.id).await;
                drop(cleanup_guard);
            });
            Err(error.into())
        }
    }
}

/// Cancels what nobody follows, and has ComfyUI forget it.
async fn dequeue(comfy: &Comfy, id: &str) {
    abandon(comfy, id).await;
}

/// The same; returns what ComfyUI's history said of it.
pub async fn abandon(comfy: &Comfy, id: &str) -> Option<Value> {
    let entry = cancel(comfy, id).await;
    if entry.is_some() {
        let _ = comfy.client.forget(&[id.to_owned()]).await;
    }
    entry
}

/// Follows a queued graph to its end.
///
/// # Errors
/// 503 when ComfyUI died or lost it. A failed or interrupted run is an [`Execution`] with a failure.
pub async fn follow(
    comfy: &Comfy,
    jobs: &JobRegistry,
    job: &Job,
    mut queued: Queued,
    timeline: &mut Timeline,
    received: &mut ReceivedImages,
) -> Result<Execution, Failure> {
    let mut seen = Seen {
        warnings: std::mem::take(&mut queued.warnings),
        ..Seen::default()
    };
    let id = queued.watcher.id.clone();
    let cancelling = async {
        job.cancel.cancelled().await;
        cancel(comfy, &id).await
    };
    let aborted = aborted(job);
    tokio::pin!(cancelling, aborted);
    let entry = loop {
        tokio::select! {
            event = queued.watcher.next() => match event {
                WatchEvent::Message(message) => {
                    received.heard(&message, timeline);
                    seen.message(jobs, job, timeline, message);
                }
                WatchEvent::Preview(preview) => {
                    if !received.take(&preview, timeline).await {
                        show_preview(job, &preview);
                    }
                }
                WatchEvent::Ended(Some(entry)) => break Some(entry),
                WatchEvent::Ended(None) => break history(comfy, &id).await,
                // What was asked to end anyway ends for that reason.
                WatchEvent::Lost(_) if job.cancel.is_cancelled() => return Err(job.stop_reason()),
                WatchEvent::Lost(failure) => return Err(failure),
            },
            entry = &mut cancelling => match entry {
                // Removed while it was pending: there is no entry and never will be (comfyui.md, 12.3).
                None => return Err(job.stop_reason()),
                entry => break entry,
            },
            // ComfyUI is stopped next, whatever it is doing.
            () = &mut aborted => return Err(job.stop_reason()),
        }
    };
    if let Some(entry) = &entry {
        timeline.fill_from_history(entry);
    }
    timeline.ended();
    Ok(seen.execution(job, entry, &mut timeline.client))
}

/// Resolves when the server shuts down and the prompt has had its chance to end.
async fn aborted(job: &Job) {
    job.cancel.cancelled().await;
    if job.stop_reason().code != Code::ShuttingDown {
        std::future::pending::<()>().await;
    }
    sleep(SHUTDOWN_PATIENCE).await;
}

/// The history entry, which exists by the time `executing` null is sent; a few more tries cost nothing.
async fn history(comfy: &Comfy, id: &str) -> Option<Value> {
    for attempt in 0..HISTORY_TRIES {
        if let Ok(Some(entry)) = comfy.client.history(id).await {
            return Some(entry);
        }
        sleep(Duration::from_millis(5 << attempt)).await;
    }
    None
}

/// Cancels wherever it is, until it is gone: it may move from pending to running in between, and an interrupt at the very start
/// of a run is lost (comfyui.md 5.3). Returns the history entry, `None` when it left no trace or ComfyUI does not answer any more.
async fn cancel(comfy: &Comfy, id: &str) -> Option<Value> {
    let mut pause = Duration::from_millis(20);
    let mut answered = Instant::now();
    while answered.elapsed() < CANCEL_PATIENCE {
        match timeout(CANCEL_PATIENCE, try_cancel(comfy, id)).await {
            Ok(Ok(Some(gone))) => return gone,
            Ok(Ok(None)) => answered = Instant::now(),
            Ok(Err(_)) | Err(_) => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
    None
}

/// One try: `Some` when the prompt is gone, with its history entry if it has one.
async fn try_cancel(comfy: &Comfy, id: &str) -> Result<Option<Option<Value>>, CallError> {
    let atomic = if comfy.catalogue().has_jobs {
        comfy.client.cancel_job(id).await?
    } else {
        None
    };
    if atomic.is_none() {
        comfy.client.delete_pending(id).await?;
        comfy.client.interrupt(id).await?;
    }
    // Queue before history: what is in neither then is gone for good.
    let queue = comfy.client.queue().await?;
    if queue
        .running
        .iter()
        .chain(&queue.pending)
        .any(|queued| queued == id)
    {
        return Ok(None);
    }
    comfy.client.history(id).await.map(Some)
}

/// What the messages told, for when history cannot be had.
#[derive(Default)]
struct Seen {
    executed: Vec<TextMessage>,
    last_word: Option<(String, Value)>,
    warnings: Vec<String>,
}

impl Seen {
    fn message(
        &mut self,
        jobs: &JobRegistry,
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
                    "execution_start" | "executing" => jobs.started(job),
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

    fn execution(self, job: &Job, entry: Option<Value>, client: &mut ClientNodes) -> Execution {
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
            Some((kind, data)) if kind == "execution_error" => Some(node_error(&data)),
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

/// The kind of end and its data, from a history entry. An entry without a status is that of an older version, and a success.
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

fn node_error(data: &Value) -> Failure {
    let text = |name: &str| {
        data.get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .trim()
    };
    let message = if text("exception_message").is_empty() {
        text("exception_type")
    } else {
        text("exception_message")
    };
    let mut details = Map::new();
    for name in [
        "node_id",
        "node_type",
        "exception_type",
        "exception_message",
        "traceback",
    ] {
        // A node that fetches something itself may repeat a URL with its credentials.
        details.insert(
            name.to_owned(),
            public_value(data.get(name).cloned().unwrap_or_default()),
        );
    }
    let sentence = format!(
        "node {} ({}) failed: {}",
        text("node_id"),
        text("node_type"),
        message.split_whitespace().collect::<Vec<_>>().join(" ")
    );
    Failure::new(Code::ExecutionError, public_text(&sentence)).with_details(details.into())
}

fn show_preview(job: &Job, preview: &Preview) {
    job.tell(&JobEvent::Preview(preview.clone()));
    job.streams.message(Weight::Newest(2), || {
        let data = json!({"prompt_id": &*job.id, "node_id": preview.node_id, "image_type": preview.image_type, "image_data": base64(&preview.image)});
        json!({"type": "binary_preview", "data": data}).to_string()
    });
}

/// What may be left out for a slow reader: whatever the next of its kind makes obsolete.
fn weight(kind: &str) -> Weight {
    match kind {
        "progress" => Weight::Newest(0),
        "progress_state" => Weight::Newest(1),
        "status" => Weight::Newest(3),
        "execution_start"
        | "execution_cached"
        | "executing"
        | "executed"
        | "execution_success"
        | "execution_error"
        | "execution_interrupted" => Weight::Always,
        // Custom nodes may send anything, any number of times.
        _ => Weight::Newest(4),
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::new(
            Code::ComfyuiUnavailable,
            format!("{error}; try again in a moment"),
        )
    }
}
