//! `POST /prompt`, `GET /prompt/{id}`, `DELETE /prompt/{id}`, and what they share with workflow endpoints.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::accept::wants_stream;
use super::body::{Known, KnownObject, PromptBody};
use super::path::PathText;
use super::{RouterState, answer, sse};
use crate::error::{Code, Failure};
use crate::job::registry::{JobSnapshot, Status};
use crate::job::{CancelOnDrop, PromptRequest, Source, Submission};
use crate::limits::{MAX_NAME, is_large_object, off_runtime, text};

/// Runs a graph.
pub async fn submit(
    State(state): State<RouterState>,
    headers: HeaderMap,
    PromptBody { members, large }: PromptBody,
) -> Result<Response, Failure> {
    let request = off_runtime(large, || PromptRequest::parse(members))?;
    run(&state, &headers, request, Submission::new(Source::Http)).await
}

/// Runs a checked request and answers the way it asked for: at the end, at once (202), or as a stream.
pub async fn run(
    state: &RouterState,
    headers: &HeaderMap,
    request: PromptRequest,
    submission: Submission,
) -> Result<Response, Failure> {
    let stream = wants_stream(headers);
    let background = request.is_async() && !stream;
    let mut echo = request.echo.clone();
    let mut running = state.service.begin(
        request,
        Submission {
            stream,
            ..submission
        },
    )?;
    let guard = (state.config.prompt.cancel_on_disconnect && !background)
        .then(|| CancelOnDrop::new(running.job.clone()));
    if stream {
        return sse::follow(running, guard).await;
    }
    if background {
        let graph = running.accepted().await?;
        echo.insert("id".into(), (*running.job.id).into());
        let large = is_large_object(&graph);
        return Ok(off_runtime(large, || {
            echo.insert("prompt".into(), Value::Object(Map::clone(&graph)));
            echo.insert("status".into(), "ok".into());
            (StatusCode::ACCEPTED, Json(Value::Object(echo))).into_response()
        }));
    }
    let result = running.done().await;
    if let Some(guard) = guard {
        guard.disarm();
    }
    answer::document(&result?).await
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
    if state.service.interrupt(id) {
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
            "no prompt with the id \"{shown}\" is in flight here, nor among the last 100 that ended"
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
