//! `POST /workflow/...`: input in, graph out, then the way of every prompt (workflows.md).

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::json;

use super::body::JsonObject;
use super::path::PathText;
use super::{RouterState, prompt};
use crate::error::Failure;
use crate::job::{PromptRequest, Source};

/// Runs a workflow.
pub async fn run(
    State(state): State<RouterState>,
    PathText(path): PathText,
    headers: HeaderMap,
    JsonObject(mut body): JsonObject,
) -> Result<Response, Failure> {
    let input = body
        .remove("input")
        .filter(|input| !input.is_null())
        .unwrap_or_else(|| json!({}));
    state.health.accepts(false)?;
    let generated = state.workflows.generate(&path, input).await?;
    body.insert("input".into(), generated.input);
    body.insert("prompt".into(), generated.prompt);
    let request = PromptRequest::parse(body).map_err(from_file)?;
    prompt::run(&state, &headers, request, Source::Workflow).await
}

/// A graph that the file made wrongly is the file's fault: say so.
fn from_file(mut failure: Failure) -> Failure {
    if failure
        .location
        .as_deref()
        .is_some_and(|location| location.starts_with("prompt"))
    {
        failure.message = format!("Failed to generate workflow prompt: {}", failure.message);
        failure.details = failure.details.take().or_else(|| {
            failure
                .location
                .take()
                .map(|location| json!({"generated": location}))
        });
        failure.location = Some("input".to_owned());
    }
    failure
}
