//! One run of a graph in ComfyUI: submitted, watched to its end whatever happens, cancelled on request (prompt.md, sections 2, 3, 6).

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Number, Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::cancelling::{Cancelled, cancel, let_go, report_hang};
use super::cleanup::{Entry, Record};
use super::event::JobEvent;
use super::node_error::node_error;
use super::nodes::ClientNodes;
use super::outputs::{NodeOutput, ReceivedImages};
use super::registry::{Job, JobRegistry, Status};
use super::rejection;
use super::request::SubmitFields;
use super::stats::Timeline;
use super::stream::Weight;
use crate::comfy::Comfy;
use crate::comfy::client::{CallError, Submitted};
use crate::comfy::message::{Preview, TextMessage};
use crate::comfy::pool::Place;
use crate::comfy::watch::{WatchEvent, Watcher, new_prompt_id};
use crate::config::public_text;
use crate::document::base64;
use crate::error::{Code, Failure};
use crate::events::PromptRef;
use crate::limits::{is_large_object, off_runtime};

/// How long a cancelled prompt waits for its node to stop. The run is waited for in the background from then on.
const DEAF_PATIENCE: Duration = Duration::from_secs(15);
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
    /// Node to class, for sentences about what runs.
    classes: HashMap<String, String>,
    /// Held by whoever waits for the run, for until its end it may write files.
    cleanup_guard: Arc<dyn Any + Send + Sync>,
}

impl Queued {
    /// A graph that ComfyUI has queued by itself.
    pub fn adopted(
        watcher: Watcher,
        graph: &Map<String, Value>,
        cleanup_guard: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self {
            watcher,
            warnings: Vec::new(),
            classes: classes(graph),
            cleanup_guard,
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
        context: job.trace.context().cloned(),
    };
    let planned = entry.take_planned();
    let noted = planned.is_some();
    let id = planned.unwrap_or_else(new_prompt_id);
    let mut watcher = comfy.watch.register(id, prompt, job.streams.read.clone());
    let submission = Submission {
        prompt: graph,
        client_id: &watcher.client_id,
        prompt_id: &watcher.id,
        extra_data,
        partial_execution_targets: fields.partial_execution_targets.as_deref(),
        front: fields.front,
        number: fields.number.as_ref(),
    };
    let large = is_large_object(graph);
    let written = off_runtime(large, || match large {
        true => crate::json::written(&submission),
        false => serde_json::to_vec(&submission),
    });
    let body = written.map_err(|error| {
        Failure::new(
            Code::Internal,
            format!("the graph cannot be written as JSON: {error}"),
        )
    })?;
    if !noted {
        let id = watcher.id.clone();
        entry.note_later(Record::Run { id }).await;
    }
    let client = comfy.client.clone();
    let mut sending = Box::pin(async move { client.submit(body.into()).await });
    let sent = tokio::select! {
        sent = &mut sending => sent,
        () = job.cancel.cancelled() => {
            // ComfyUI may take minutes to check a graph. Nobody is kept waiting for that; what it queues after all is taken out again.
            let comfy = comfy.clone();
            tokio::spawn(async move {
                if !matches!(sending.await, Ok(Submitted::Rejected { .. })) {
                    let_go(&comfy, watcher, cleanup_guard, None);
                }
            });
            return Err(job.stop_reason());
        }
    };
    match sent {
        Ok(Submitted::Accepted { node_errors }) => {
            watcher.submitted();
            Ok(Queued {
                watcher,
                warnings: rejection::skipped(&node_errors, graph, &comfy.catalogue()),
                classes: classes(graph),
                cleanup_guard,
            })
        }
        Ok(Submitted::Rejected { error, node_errors }) => Err(rejection::rejected(
            &error,
            node_errors,
            graph,
            &comfy.catalogue(),
        )),
        Err(error) => {
            if let Ok(dead) = timeout(DEATH_NOTICE, watcher.lost()).await {
                let mut dead = dead;
                // Nobody listened any more: it has not begun with the prompt, so that it did not die of it.
                if error.refused() {
                    dead.message = format!("The prompt was not taken: {}", dead.message);
                }
                return Err(dead);
            }
            // It may have been queued although the answer was lost; nobody would collect what it makes.
            let_go(comfy, watcher, cleanup_guard, None);
            Err(error.into())
        }
    }
}

fn classes(graph: &Map<String, Value>) -> HashMap<String, String> {
    graph
        .iter()
        .filter_map(|(id, node)| Some((id.clone(), node.get("class_type")?.as_str()?.to_owned())))
        .collect()
}

/// What following a run came to.
#[derive(Debug)]
pub enum Followed {
    /// ComfyUI is done with it, in one way or another.
    Done(Execution),
    /// It was taken out of ComfyUI's queue, because another ComfyUI is idle.
    Moved,
    /// ComfyUI died or lost it.
    Lost {
        /// For the client, if that is to be the end.
        failure: Failure,
        /// It had begun, or was thrown out by a ComfyUI that lives: not only waiting in a queue that died.
        counts: bool,
    },
}

/// How following a run ended.
enum Outcome {
    /// It was taken out for another ComfyUI.
    Moved,
    /// ComfyUI died, or does not know it any more.
    Lost {
        failure: Failure,
        /// The process that had it is gone.
        dead: bool,
        wished: bool,
        began: bool,
    },
    /// ComfyUI is done with it; what its history says of it, if that can be had.
    Done(Option<Value>),
    /// It was taken out before it began: there is no entry and never will be (comfyui.md, 12.3).
    Removed,
    /// It was given up, and may still be in ComfyUI.
    LetGo(Failure),
    /// It was cancelled, and its node does not stop.
    Deaf(Failure),
    /// It is nowhere any more.
    Gone(Failure),
}

/// How long ComfyUI may take to say that it has given a run away.
const TAKING_OUT: Duration = Duration::from_secs(10);

/// Follows a queued graph to its end.
///
/// # Errors
/// The reason for stopping, when it was stopped. A failed or interrupted run is an [`Execution`] with a failure.
pub async fn follow(
    place: &Place,
    jobs: &JobRegistry,
    job: &Job,
    mut queued: Queued,
    timeline: &mut Timeline,
    received: &mut ReceivedImages,
) -> Result<Followed, Failure> {
    let comfy = &place.comfy;
    let mut seen = Seen {
        warnings: std::mem::take(&mut queued.warnings),
        ..Seen::default()
    };
    let mut run = Run {
        place,
        seen: &mut seen,
        timeline: &mut *timeline,
        received: &mut *received,
    };
    match watch_run(place, jobs, job, &mut queued, &mut run).await {
        Outcome::Done(entry) => {
            if let Some(entry) = &entry {
                timeline.fill_from_history(entry);
            }
            timeline.ended();
            let execution =
                seen.execution(comfy, job, queued.comfy_id(), entry, &mut timeline.client);
            Ok(Followed::Done(execution))
        }
        Outcome::Moved => Ok(Followed::Moved),
        Outcome::Lost {
            failure,
            dead,
            wished,
            began,
        } => {
            let began = began || timeline.has_begun() || job.status() == Status::Running;
            let counts = (began || !dead) && !wished;
            if !dead {
                let_go(comfy, queued.watcher, queued.cleanup_guard, None);
            }
            Ok(Followed::Lost { failure, counts })
        }
        Outcome::Removed => Err(job.stop_reason()),
        Outcome::LetGo(failure) => {
            let_go(comfy, queued.watcher, queued.cleanup_guard, None);
            Err(failure)
        }
        Outcome::Deaf(failure) => {
            let limit = Some(comfy.limits.cancelled).filter(|limit| !limit.is_zero());
            let left = limit.map(|limit| limit.saturating_sub(DEAF_PATIENCE));
            let_go(comfy, queued.watcher, queued.cleanup_guard, left);
            Err(failure)
        }
        Outcome::Gone(failure) => Err(failure),
    }
}

/// What is noted of a run while it goes on.
struct Run<'a> {
    place: &'a Place,
    seen: &'a mut Seen,
    timeline: &'a mut Timeline,
    received: &'a mut ReceivedImages,
}

impl Run<'_> {
    fn message(&mut self, jobs: &JobRegistry, job: &Job, message: TextMessage) {
        self.received.heard(&message, self.timeline);
        self.seen
            .message((self.place, jobs), job, self.timeline, message);
    }

    async fn preview(&mut self, job: &Job, preview: &Preview) {
        if !self.received.take(preview, self.timeline).await {
            show_preview(job, preview);
        }
    }
}

async fn watch_run(
    place: &Place,
    jobs: &JobRegistry,
    job: &Job,
    queued: &mut Queued,
    run: &mut Run<'_>,
) -> Outcome {
    let comfy = &place.comfy;
    let id = queued.watcher.id.clone();
    let mut taken_out = false;
    let cancelling = async {
        job.cancel.cancelled().await;
        cancel(comfy, &id).await
    };
    let (aborted, deaf, overdue) = (aborted(job), deaf(job), overdue(comfy, job));
    tokio::pin!(cancelling, aborted, deaf, overdue);
    let limit = comfy.limits.run;
    let mut deadline: Option<Instant> = None;
    let mut printing = None;
    loop {
        let running = job.status() == Status::Running;
        if running && printing.is_none() {
            printing = Some(comfy.output.about(&job.id));
        }
        if running && deadline.is_none() && !limit.is_zero() {
            deadline = Some(Instant::now() + limit);
        }
        let late = async {
            match deadline {
                Some(deadline) if !job.cancel.is_cancelled() => sleep_until(deadline).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            event = queued.watcher.next() => match event {
                WatchEvent::Message(message) => run.message(jobs, job, message),
                WatchEvent::Preview(preview) => run.preview(job, &preview).await,
                WatchEvent::Running => {
                    place.began();
                    jobs.started(job);
                }
                WatchEvent::Ended(Some(entry)) => return Outcome::Done(Some(entry)),
                WatchEvent::Ended(None) => return Outcome::Done(history(comfy, &id).await),
                WatchEvent::Lost { failure, dead, wished, began } => {
                    // What was asked to end anyway ends for that reason.
                    return match job.cancel.is_cancelled() {
                        false => Outcome::Lost { failure, dead: dead || taken_out, wished, began },
                        true if dead => Outcome::Gone(job.stop_reason()),
                        true => Outcome::LetGo(job.stop_reason()),
                    };
                }
            },
            () = place.wanted_elsewhere(), if !running => {
                match timeout(TAKING_OUT, take_out(comfy, &id, &mut taken_out)).await {
                    Ok(Ok(true)) if !job.cancel.is_cancelled() => return Outcome::Moved,
                    Ok(Ok(true)) => return Outcome::Removed,
                    Ok(_) | Err(_) => place.stays(),
                }
            }
            cancelled = &mut cancelling => return match cancelled {
                Cancelled::Gone(Some(entry)) => Outcome::Done(Some(entry)),
                Cancelled::Gone(None) => Outcome::Removed,
                Cancelled::Unanswered => Outcome::LetGo(job.stop_reason()),
            },
            () = &mut deaf => return Outcome::Deaf(does_not_stop(job, run.timeline, &queued.classes)),
            () = &mut overdue, if running => {}
            () = late => job.stop(Failure::new(
                Code::ExecutionInterrupted,
                format!(
                    "prompt {} was stopped: it has run longer than PROMPT_TIMEOUT_S ({} s)",
                    job.id,
                    limit.as_secs_f64()
                ),
            )),
            // ComfyUI is stopped next, whatever it is doing.
            () = &mut aborted => return Outcome::Gone(job.stop_reason()),
        }
    }
}

/// Takes a run that waits out of ComfyUI's queue. `false`: it had begun meanwhile, and stays. Never by the atomic cancel, which would
/// stop one that runs.
async fn take_out(comfy: &Comfy, id: &str, tried: &mut bool) -> Result<bool, CallError> {
    *tried = true;
    comfy.client.delete_pending(id).await?;
    // Queue before history: what is in neither then is gone for good.
    let queue = comfy.client.queue().await?;
    let there = queue
        .running
        .iter()
        .chain(&queue.pending)
        .any(|queued| queued == id);
    Ok(!there && comfy.client.history(id).await?.is_none())
}

/// Resolves when a cancelled prompt has had its time to end.
async fn deaf(job: &Job) {
    job.cancel.cancelled().await;
    sleep(DEAF_PATIENCE).await;
}

/// Reports a ComfyUI whose cancelled run goes on for longer than `COMFYUI_HANG_TIMEOUT_S`. Never resolves.
async fn overdue(comfy: &Comfy, job: &Job) {
    let limit = comfy.limits.cancelled;
    if limit.is_zero() {
        return std::future::pending().await;
    }
    job.cancel.cancelled().await;
    sleep(limit).await;
    report_hang(comfy);
    std::future::pending().await
}

/// The sentence for a client whose cancelled prompt goes on.
fn does_not_stop(job: &Job, timeline: &Timeline, classes: &HashMap<String, String>) -> Failure {
    let mut failure = job.stop_reason();
    let who = match timeline.running_node() {
        Some(node) => match classes.get(node) {
            Some(class) => format!("node {node} ({class})"),
            None => format!("node {node}"),
        },
        None => "its node".to_owned(),
    };
    failure.message = public_text(&format!(
        "{}, but {who} does not stop: ComfyUI goes on with it until that node ends",
        failure.message
    ));
    failure
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

    fn execution(
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

/// Shows a picture that is being made.
pub fn show_preview(job: &Job, preview: &Preview) {
    job.tell(&JobEvent::Preview(preview.clone()));
    job.streams.message(Weight::Newest(2), || {
        let data = json!({"prompt_id": &*job.id, "node_id": preview.node_id, "image_type": preview.image_type, "image_data": base64(&preview.image)});
        json!({"type": "binary_preview", "data": data}).to_string()
    });
}

/// What may be left out for a slow reader: whatever the next of its kind makes obsolete.
pub fn weight(kind: &str) -> Weight {
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
