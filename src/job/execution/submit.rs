//! Hands a graph to ComfyUI.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Number, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::comfy::Comfy;
use crate::comfy::client::{CallError, Submitted};
use crate::comfy::watch::{Watcher, new_prompt_id};
use crate::error::{Code, Failure};
use crate::events::PromptRef;
use crate::job::cancelling::let_go;
use crate::job::cleanup::{Entry, Record};
use crate::job::registry::Job;
use crate::job::rejection;
use crate::job::request::SubmitFields;
use crate::limits::{is_large_object, off_runtime};

/// How long after an unanswered call the word of ComfyUI's death may come; it says more than that a
/// connection broke.
const DEATH_NOTICE: Duration = Duration::from_millis(300);

/// A graph that ComfyUI has queued.
pub struct Queued {
    pub(super) watcher: Watcher,
    /// Outputs that were left out.
    pub warnings: Vec<String>,
    /// Held by whoever waits for the run, for until its end it may write files.
    pub(super) cleanup_guard: Arc<dyn Any + Send + Sync>,
}

impl Queued {
    /// A graph that ComfyUI has queued by itself.
    pub fn adopted(watcher: Watcher, cleanup_guard: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            watcher,
            warnings: Vec::new(),
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

fn written(graph: &Map<String, Value>, submission: &Submission<'_>) -> Result<Vec<u8>, Failure> {
    let large = is_large_object(graph);
    let written = off_runtime(large, || match large {
        true => crate::json::written(submission),
        false => serde_json::to_vec(submission),
    });
    written.map_err(|error| {
        Failure::new(
            Code::Internal,
            format!("the graph cannot be written as JSON: {error}"),
        )
    })
}

/// Hands a graph to ComfyUI. It is watched from before that on. Where ComfyUI may have queued it
/// although nobody follows it any more, it is taken out again in the background, and
/// `cleanup_guard` is dropped only then.
///
/// # Errors
/// 400 when ComfyUI refuses it, 503 when it does not answer, the reason for stopping when the
/// prompt was stopped meanwhile.
pub async fn submit(
    comfy: &Comfy,
    job: &Job,
    graph: &Map<String, Value>,
    extra_data: Option<&Value>,
    fields: &SubmitFields,
    entry: &Arc<Entry>,
    cleanup_guard: Arc<dyn Any + Send + Sync>,
) -> Result<Queued, Failure> {
    let turn = tokio::select! {
        biased;
        () = job.cancel.cancelled() => return Err(job.stop_reason()),
        turn = comfy.client.turn_to_submit() => turn,
    };
    let prompt = PromptRef {
        id: job.id.clone(),
        published: job.policy.published,
        context: job.trace.context().cloned(),
    };
    let planned = entry.take_planned();
    let noted = planned.is_some();
    let id = planned.unwrap_or_else(new_prompt_id);
    let watcher = comfy.watch.register(id, prompt, job.streams.read.clone());
    let submission = Submission {
        prompt: graph,
        client_id: &watcher.client_id,
        prompt_id: &watcher.id,
        extra_data,
        partial_execution_targets: fields.partial_execution_targets.as_deref(),
        front: fields.front,
        number: fields.number.as_ref(),
    };
    let body = written(graph, &submission)?;
    if !noted {
        let id = watcher.id.clone();
        entry.note_later(Record::Run { id }).await;
    }
    let guard = cleanup_guard.clone();
    let (watcher, sent) = send(comfy, job, (body, turn), watcher, guard).await?;
    match sent {
        Ok(Submitted::Accepted { node_errors }) => {
            watcher.submitted();
            Ok(Queued {
                watcher,
                warnings: rejection::skipped(&node_errors, graph, &comfy.catalogue()),
                cleanup_guard,
            })
        }
        Ok(Submitted::Rejected { error, node_errors }) => Err(rejection::rejected(
            &error,
            node_errors,
            graph,
            &comfy.catalogue(),
        )),
        Err(error) => Err(unanswered(comfy, watcher, error, cleanup_guard).await),
    }
}

/// Sends it, and hands the watcher back. ComfyUI may take minutes to check a graph: nobody is kept
/// waiting for that. What it queues after all is taken out again.
///
/// # Errors
/// The reason for stopping when the prompt was stopped meanwhile.
async fn send(
    comfy: &Comfy,
    job: &Job,
    (body, turn): (Vec<u8>, Option<OwnedSemaphorePermit>),
    watcher: Watcher,
    cleanup_guard: Arc<dyn Any + Send + Sync>,
) -> Result<(Watcher, Result<Submitted, CallError>), Failure> {
    let client = comfy.client.clone();
    let mut sending = Box::pin(async move {
        let sent = client.submit(body.into()).await;
        drop(turn);
        sent
    });
    tokio::select! {
        sent = &mut sending => return Ok((watcher, sent)),
        () = job.cancel.cancelled() => {}
    }
    let comfy = comfy.clone();
    tokio::spawn(async move {
        if !matches!(sending.await, Ok(Submitted::Rejected { .. })) {
            let_go(&comfy, watcher, cleanup_guard, None);
        }
    });
    Err(job.stop_reason())
}

/// Nobody knows whether ComfyUI has it.
async fn unanswered(
    comfy: &Comfy,
    mut watcher: Watcher,
    error: CallError,
    cleanup_guard: Arc<dyn Any + Send + Sync>,
) -> Failure {
    let Ok(mut dead) = timeout(DEATH_NOTICE, watcher.lost()).await else {
        // It may have been queued although the answer was lost; nobody would collect what it makes.
        let_go(comfy, watcher, cleanup_guard, None);
        return error.into();
    };
    // Nobody listened any more: it has not begun with the prompt, so that it did not die of it.
    if error.refused() {
        dead.message = format!("The prompt was not taken: {}", dead.message);
        dead.comfyui_died = false;
    }
    dead
}
