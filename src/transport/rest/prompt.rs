//! `POST /prompt`, `GET /prompt/{id}`, `DELETE /prompt/{id}`, and what they share with workflow
//! endpoints.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::accept::WantsStream;
use super::body::{Known, KnownObject, PromptBody};
use super::path::PathText;
use super::{RouterState, answer, sse};
use crate::durable::{NewRun, NewSubmission, Recorder, Refused};
use crate::error::{Code, Failure};
use crate::job::media_inputs::takes_media;
use crate::job::registry::{JobSnapshot, Status};
use crate::job::{CancelOnDrop, JobHandle, PromptRequest, Source, Submission};
use crate::limits::{MAX_NAME, is_large_object, off_runtime, text};
use crate::transport::v2::address::Base;

/// A checked request, and what decides how it is run beside it.
pub struct Asked {
    /// The request.
    pub request: Box<PromptRequest>,
    /// The endpoint.
    pub source: Source,
    /// The workflow endpoint that its graph comes from.
    pub workflow: Option<Arc<str>>,
    /// What it was read from, if it must outlive this process.
    body: Option<Map<String, Value>>,
    /// What addresses in the answer begin with.
    base: Base,
}

impl Asked {
    /// Reads a body.
    ///
    /// # Errors
    /// A 400 that names the field.
    pub fn parse(members: Map<String, Value>, large: bool, base: Base) -> Result<Self, Failure> {
        let set = |name: &str| members.get(name) == Some(&Value::Bool(true));
        let background = set("keep") && set("async");
        off_runtime(large, || {
            let body = background.then(|| members.clone());
            let request = Box::new(PromptRequest::parse(members)?);
            request.check_background()?;
            Ok(Self {
                request,
                source: Source::Http,
                workflow: None,
                body,
                base,
            })
        })
    }
}

/// Runs a graph.
pub async fn submit(
    State(state): State<RouterState>,
    WantsStream(stream): WantsStream,
    base: Base,
    PromptBody { members, large }: PromptBody,
) -> Result<Response, Failure> {
    let asked = Asked::parse(members, large, base)?;
    run(&state, stream, asked).await
}

/// Runs a checked request and answers the way it asked for: at the end, at once (202), or, if the
/// client takes one, as a stream.
pub async fn run(state: &RouterState, stream: bool, mut asked: Asked) -> Result<Response, Failure> {
    let background = asked.request.is_async() && !stream;
    if background {
        return match asked.body.take() {
            Some(body) => Box::pin(run_in_background(state, asked, body)).await,
            None => Box::pin(run_unwatched(state, asked)).await,
        };
    }
    // What is over before the long wait has its room only meanwhile: thousands may wait.
    let mut running = Box::pin(begin(state, stream, asked)).await?;
    let cancels = state.config.prompt.cancel_on_disconnect;
    let guard = cancels.then(|| CancelOnDrop::new(running.job.clone()));
    if stream {
        return Box::pin(sse::follow(running, guard)).await;
    }
    let result = running.done().await;
    if let Some(guard) = guard {
        guard.disarm();
    }
    Box::pin(answer::document(result?)).await
}

/// Begins it.
async fn begin(state: &RouterState, stream: bool, asked: Asked) -> Result<JobHandle, Failure> {
    let mut submission = Submission {
        stream,
        workflow: asked.workflow.clone(),
        ..Submission::new(asked.source)
    };
    let recorder = keep(state, &asked, &mut submission).await?;
    // A stream that has begun cannot be a refusal any more.
    submission.policy.waits_for_verdict |= stream;
    let running = state.service.begin(asked.request, submission)?;
    recorder.iter().for_each(|recorder| recorder.begin());
    Ok(running)
}

/// Runs what `async` alone was asked for: it is answered when ComfyUI has taken it, and ends with
/// this process.
async fn run_unwatched(state: &RouterState, asked: Asked) -> Result<Response, Failure> {
    let mut echo = asked.request.echo.clone();
    let mut running = begin(state, false, asked).await?;
    let graph = running.accepted().await?;
    Ok(taken(&mut echo, &running.job.id, &graph))
}

/// Arranges that a run is kept, if it is to be. Without `keep` of its own it is run all the same
/// where that is not possible.
async fn keep(
    state: &RouterState,
    asked: &Asked,
    submission: &mut Submission,
) -> Result<Option<Arc<Recorder>>, Failure> {
    let Asked { request, .. } = asked;
    if !request.keep && !state.config.state.keep_runs {
        return Ok(None);
    }
    let shown = {
        let catalogue = state.comfy.catalogue();
        let is_media = |class: &str, input: &str| takes_media(class, input, &catalogue);
        let large = is_large_object(&request.graph) || request.workflow.is_some();
        off_runtime(large, || {
            let shown = request.shown(asked.workflow.is_some(), &is_media, usize::MAX);
            shown.unwrap_or_default()
        })
    };
    let run = NewRun {
        id: request.id.to_string(),
        id_is_callers: request.id_is_callers,
        source: asked.source,
        workflow: asked.workflow.as_deref().map(str::to_owned),
        request: shown,
        base_url: asked.base.absolute.clone(),
        by_address: request.keep,
    };
    let (keep, recorder) = match state.durable.keep_run(run).await {
        Ok(kept) => kept,
        Err(failure) if failure.code == Code::Internal && !request.keep => {
            tracing::warn!(error = %failure, "a run is not kept");
            return Ok(None);
        }
        Err(failure) => return Err(failure),
    };
    submission.keep = Some(keep);
    submission.listener = Some(recorder.listener());
    Ok(Some(recorder))
}

/// Runs what `keep` and `async` were asked for: it goes on in the next process, if this one ends.
async fn run_in_background(
    state: &RouterState,
    asked: Asked,
    body: Map<String, Value>,
) -> Result<Response, Failure> {
    let mut echo = asked.request.echo.clone();
    let (id, sent) = (asked.request.id.clone(), asked.request.sent());
    let new = NewSubmission {
        workflow: asked.workflow.as_deref().map(str::to_owned),
        ..NewSubmission::new(asked.source, body, asked.base.absolute)
    };
    let submitted = state.durable.submit_in_background(new, asked.request).await;
    let graph = submitted.map_err(refused)?;
    Ok(taken(&mut echo, &id, graph.as_deref().unwrap_or(&sent)))
}

fn refused(refused: Refused) -> Failure {
    match refused {
        Refused::Failure(failure) => failure,
        Refused::Store(error) => {
            Failure::new(Code::Internal, format!("the run cannot be kept: {error}"))
        }
        Refused::MissingAssets(missing) => Failure::invalid(
            "prompt",
            format!("there is no asset {}: upload it again", missing.join(", ")),
        ),
    }
}

/// 202: ComfyUI has taken it.
fn taken(echo: &mut Map<String, Value>, id: &str, graph: &Map<String, Value>) -> Response {
    echo.insert("id".into(), id.into());
    off_runtime(is_large_object(graph), || {
        echo.insert("prompt".into(), Value::Object(graph.clone()));
        echo.insert("status".into(), "ok".into());
        (
            StatusCode::ACCEPTED,
            Json(Value::Object(std::mem::take(echo))),
        )
            .into_response()
    })
}

/// One prompt, in flight or remembered.
pub async fn show(
    State(state): State<RouterState>,
    PathText(id): PathText,
) -> Result<Response, Failure> {
    state
        .service
        .entry(&id)
        .map(|entry| Json(entry).into_response())
        .ok_or_else(|| unknown(&id))
}

/// Cancels a prompt.
pub async fn cancel(State(state): State<RouterState>, PathText(id): PathText) -> Response {
    interrupt_answer(&state, &id)
}

/// The body of `POST /interrupt`.
#[derive(Debug)]
pub struct InterruptFields;

impl Known for InterruptFields {
    const FIELDS: &'static [&'static str] = &["id"];
}

/// `POST /interrupt`: the older form of cancelling.
pub async fn interrupt(
    State(state): State<RouterState>,
    KnownObject(body, _): KnownObject<InterruptFields>,
) -> Result<Response, Failure> {
    match body.get("id") {
        Some(Value::String(id)) if id.chars().nth(MAX_NAME).is_some() => Err(Failure::invalid(
            "id",
            format!(
                "\"id\" has {} characters: no id has more than {MAX_NAME}",
                id.chars().count()
            ),
        )),
        Some(Value::String(id)) => Ok(interrupt_answer(&state, id)),
        Some(_) => Err(Failure::invalid(
            "id",
            "\"id\" must be a string: the id of the prompt to interrupt",
        )),
        None => Err(Failure::invalid(
            "id",
            "the field \"id\" is missing: the id of the prompt to interrupt",
        )),
    }
}

fn interrupt_answer(state: &RouterState, id: &str) -> Response {
    if state.service.interrupt(id) || state.durable.interrupt(id) {
        return Json(json!({"id": id, "interrupted": "success"})).into_response();
    }
    let failure = match state.service.entry(id) {
        Some(entry) => ended(&entry),
        None => unknown(id),
    };
    let mut body: Map<String, Value> = failure.body();
    body.insert("id".into(), text::shorten(id, MAX_NAME).into());
    body.insert("interrupted".into(), "failed".into());
    answer::answer_with(&failure, body)
}

/// A 404 for a prompt that can no longer be cancelled.
fn ended(entry: &JobSnapshot) -> Failure {
    let how = match entry.status {
        Status::Succeeded => "succeeded",
        Status::Interrupted => "interrupted",
        _ => "failed",
    };
    Failure::new(
        Code::NotFound,
        format!("prompt {} has already ended ({how})", entry.id),
    )
}

/// A 404 for an id that is not known here.
pub fn unknown(id: &str) -> Failure {
    let shown = text::quoted(id);
    Failure::new(
        Code::NotFound,
        format!(
            "no prompt with the id \"{shown}\" is in flight here, nor among the last 100 that \
             ended"
        ),
    )
}

/// `GET /queue`
pub async fn queue(State(state): State<RouterState>) -> Response {
    Json(queue_view(&state)).into_response()
}

/// What `GET /queue` answers.
pub fn queue_view(state: &RouterState) -> Value {
    let (running, pending, finished) = state.service.lists();
    json!({"running": running, "pending": pending, "finished": finished})
}
