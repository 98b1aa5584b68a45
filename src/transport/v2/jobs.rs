//! `POST /jobs`, `GET /jobs/{id}`, cancel, workflow and logs.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};

use super::address::Base;
use super::error::{ApiError, key_reuse};
use super::{V2State, labels, view};
use crate::config::public_value;
use crate::durable::{NewSubmission, QUEUE_FULL, Refused, unpack};
use crate::error::Code;
use crate::fields;
use crate::job::Source;
use crate::net::http_fields::media_type;
use crate::store::StoreError;
use crate::transport::rest::Uncompressed;
use crate::transport::rest::body;

/// The longest wait of a poll.
const LONGEST_WAIT: u64 = 30;
/// How often a waiting answer shows that it lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
const LONGEST_KEY: usize = 255;
const PRIORITY: i64 = 1_000_000;

/// The idempotency key of a request.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= LONGEST_KEY => Ok(Some(key.to_owned())),
        _ => Err(ApiError::invalid(format!(
            "Idempotency-Key must be 1 to {LONGEST_KEY} characters"
        ))),
    }
}

/// Makes a job.
pub async fn submit(
    State(state): State<V2State>,
    base: Base,
    request: Request,
) -> Result<Response, ApiError> {
    let key = idempotency_key(request.headers())?;
    let members = json_body(&state, request).await?;
    let mut new = submission(members, &state)?;
    new.key = key;
    new.base_url = base.absolute.clone();
    check_queue(&state)?;
    let workflow = new.body.get("prompt").and_then(Value::as_object);
    let ui_format = workflow.is_some_and(is_ui_format);
    let submitted = state.jobs.submit(new).await;
    let view = submitted.map_err(|reason| refused(reason, ui_format))?;
    Ok((StatusCode::CREATED, Json(view::job(&state, &base, &view))).into_response())
}

fn refused(refused: Refused, ui_format: bool) -> ApiError {
    match refused {
        Refused::Store(StoreError::KeyReuse(made)) => key_reuse("job_id", &made),
        // What ComfyUI says of the converted graph has its `node_errors`.
        Refused::Failure(failure)
            if ui_format
                && failure.code == Code::InvalidPrompt
                && failure.node_errors.is_none() =>
        {
            ApiError::unprocessable("workflow_format_ui", failure.message).with(
                failure
                    .details
                    .filter(Value::is_object)
                    .unwrap_or_else(|| json!({})),
            )
        }
        other => other.into(),
    }
}

/// A JSON object, sent as JSON and nothing else.
pub async fn json_body(state: &V2State, request: Request) -> Result<Map<String, Value>, ApiError> {
    let content_type = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = media_type(content_type);
    if essence != "application/json" {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "the Content-Type must be application/json",
        ));
    }
    body::object(request, state.config.server.max_body_bytes)
        .await
        .map_err(ApiError::from)
}

fn check_queue(state: &V2State) -> Result<(), ApiError> {
    let limit = state.config.server.max_queue_depth;
    match state.jobs.full_queue(limit) {
        None => Ok(()),
        Some(message) => Err(
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message).retry(QUEUE_FULL),
        ),
    }
}

/// Checks a body and turns it into one of `POST /prompt`.
fn submission(mut members: Map<String, Value>, state: &V2State) -> Result<NewSubmission, ApiError> {
    members.retain(|_, value| !value.is_null());
    for reserved in ["webhook_url", "inputs"] {
        if members.contains_key(reserved) {
            return Err(ApiError::unprocessable(
                "invalid_workflow",
                format!(
                    "\"{reserved}\" is reserved: leave it out; webhooks are asked for in \
                     prompt_options.webhook_v2"
                ),
            ));
        }
    }
    let mut body = state.config.state.defaults.clone();
    body.append(&mut options(members.remove("prompt_options"))?);
    if let Some(extra_data) = extra_data(members.remove("extra_data"))? {
        body.insert("extra_data".into(), extra_data);
    }
    let priority = match members.remove("priority") {
        None => None,
        Some(value) => match value.as_i64() {
            Some(priority) if priority.abs() <= PRIORITY => Some(priority),
            _ => {
                let message =
                    format!("\"priority\" must be an integer from -{PRIORITY} to {PRIORITY}");
                return Err(ApiError::invalid(message));
            }
        },
    };
    let workflow = graph(members.remove("workflow"))?;
    body.insert("prompt".into(), workflow);
    let metadata = members.remove("metadata");
    let labels = labels::of(metadata.as_ref())?;
    Ok(NewSubmission {
        metadata,
        labels,
        priority,
        ..NewSubmission::new(Source::V2, body, String::new())
    })
}

fn options(value: Option<Value>) -> Result<Map<String, Value>, ApiError> {
    match value {
        None => Ok(Map::new()),
        Some(Value::Object(members)) => {
            match members.keys().find(|name| !fields::is_option(name)) {
                None => Ok(members),
                Some(odd) => {
                    let odd: String = odd.chars().take(60).collect();
                    let known = fields::options().collect::<Vec<_>>().join(", ");
                    Err(ApiError::invalid(format!(
                        "prompt_options.{odd} is not known: use {known}"
                    )))
                }
            }
        }
        Some(_) => Err(ApiError::invalid("\"prompt_options\" must be an object")),
    }
}

fn extra_data(value: Option<Value>) -> Result<Option<Value>, ApiError> {
    let Some(value) = value else { return Ok(None) };
    let Value::Object(mut members) = value else {
        return Err(ApiError::invalid("\"extra_data\" must be an object"));
    };
    members.retain(|_, value| !value.is_null());
    let fits = members
        .iter()
        .all(|(name, value)| name == "api_key_comfy_org" && value.is_string());
    if !fits {
        return Err(ApiError::invalid(
            "\"extra_data\" may hold \"api_key_comfy_org\", a string, and nothing else",
        ));
    }
    Ok((!members.is_empty()).then(|| members.into()))
}

fn graph(workflow: Option<Value>) -> Result<Value, ApiError> {
    let invalid = |message: String| Err(ApiError::unprocessable("invalid_workflow", message));
    let Some(Value::Object(nodes)) = workflow else {
        return invalid("\"workflow\" must be an object: a ComfyUI graph in API format".into());
    };
    if nodes.is_empty() {
        return invalid("\"workflow\" is empty: it must be a ComfyUI graph in API format".into());
    }
    if is_ui_format(&nodes) {
        // Converted like everywhere; what cannot be is told then.
        return Ok(Value::Object(nodes));
    }
    for (id, node) in &nodes {
        let shown: String = id.chars().take(60).collect();
        if !node.get("class_type").is_some_and(Value::is_string) {
            return invalid(format!("node {shown} has no \"class_type\""));
        }
        if !node.get("inputs").is_some_and(Value::is_object) {
            return invalid(format!(
                "node {shown} has no \"inputs\", which must be an object"
            ));
        }
    }
    Ok(Value::Object(nodes))
}

/// A workflow as the editor saves it.
fn is_ui_format(workflow: &Map<String, Value>) -> bool {
    workflow.get("nodes").is_some_and(Value::is_array)
}

fn unknown(id: &str) -> ApiError {
    ApiError::not_found("job", id)
}

#[derive(serde::Deserialize)]
pub struct Poll {
    wait: Option<String>,
}

/// One job; with `wait` as soon as it has ended.
pub async fn show(
    State(state): State<V2State>,
    base: Base,
    Path(id): Path<String>,
    poll: Result<Query<Poll>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(poll) = poll.map_err(|error| ApiError::query(&error))?;
    let wait = match poll.wait.as_deref() {
        None | Some("") => 0,
        Some(text) => text
            .parse::<f64>()
            .ok()
            .filter(|wait| *wait >= 0.0)
            .map(|wait| (wait.min(LONGEST_WAIT as f64) * 1000.0) as u64)
            .ok_or_else(|| {
                ApiError::invalid(format!("\"wait\" must be seconds, 0 to {LONGEST_WAIT}"))
            })?,
    };
    match state.jobs.live(&id) {
        Some(live) if wait > 0 && !live.status().has_ended() => {
            Ok(waiting(state, base, live, Duration::from_millis(wait)))
        }
        _ => {
            let view = state.jobs.view(&id).await?.ok_or_else(|| unknown(&id))?;
            Ok(Json(view::job(&state, &base, &view)).into_response())
        }
    }
}

/// An answer that begins at once and ends with the job: blanks before JSON are legal.
fn waiting(
    state: V2State,
    base: Base,
    live: std::sync::Arc<crate::durable::LiveJob>,
    wait: Duration,
) -> Response {
    let until = Instant::now() + wait;
    let first = Some((state, base, live, until));
    let body = stream::unfold(first, |at| async move {
        let (state, base, live, until) = at?;
        let next = (Instant::now() + SIGN_OF_LIFE).min(until);
        let over = tokio::select! {
            () = live.ended() => true,
            () = sleep_until(next) => next == until,
        };
        if !over {
            return Some((
                Ok::<_, std::io::Error>(Bytes::from_static(b" ")),
                Some((state, base, live, until)),
            ));
        }
        let text = view::job(&state, &base, &state.jobs.view_of(&live)).to_string();
        Some((Ok(text.into()), None))
    });
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response.extensions_mut().insert(Uncompressed);
    response
}

/// Cancels, in every state.
pub async fn cancel(
    State(state): State<V2State>,
    base: Base,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let view = state.jobs.cancel(&id).await?.ok_or_else(|| unknown(&id))?;
    Ok(Json(view::job(&state, &base, &view)).into_response())
}

/// The graph as it runs; before its inputs are in place, as submitted.
pub async fn workflow(
    State(state): State<V2State>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let store = state.jobs.store();
    if state.jobs.live(&id).is_none() && store.job(&id).await?.is_none() {
        return Err(unknown(&id));
    }
    let (request, graph) = store.job_request(&id).await?;
    let submitted = unpack(&request, store)
        .await?
        .remove("prompt")
        .unwrap_or_default();
    let mut workflow = match graph {
        Some(graph) => serde_json::from_str(&graph).unwrap_or_default(),
        None => submitted.clone(),
    };
    // The id in front is ours; the client knows the name without it.
    if let Some(nodes) = workflow.as_object_mut() {
        for (node, value) in nodes {
            let written = submitted.pointer(&format!("/{}/inputs/filename_prefix", pointer(node)));
            let Some(shown) = value.pointer_mut("/inputs/filename_prefix") else {
                continue;
            };
            match written {
                Some(written) => *shown = written.clone(),
                // The graph was converted; a link stays as it is.
                None => {
                    if let Some(text) = shown.as_str() {
                        *shown = text.replacen(&format!("{id}_"), "", 1).into();
                    }
                }
            }
        }
    }
    Ok(Json(json!({"workflow": public_value(workflow), "format": "api"})).into_response())
}

fn pointer(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// What ComfyUI printed while it ran.
pub async fn logs(
    State(state): State<V2State>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let view = state.jobs.view(&id).await?.ok_or_else(|| unknown(&id))?;
    if state.config.is_gateway {
        return Err(ApiError::elsewhere());
    }
    let logs = if view.record.status.has_ended() {
        state.jobs.store().logs_of(&id).await?
    } else {
        None
    };
    Ok(match logs.filter(|logs| !logs.text.is_empty()) {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(logs) => Json(json!({
            "text": logs.text,
            "truncated": logs.truncated,
            "captured_at": view.record.completed_at.map(view::time),
            "complete": true,
        }))
        .into_response(),
    })
}
