//! `POST /convert`: a workflow as the editor saves it, or a file that holds one, becomes a graph
//! (ui-format.md). Runs nothing.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::RouterState;
use super::body;
use crate::error::{Code, Failure, panicked};
use crate::graph::embedded::{Preference, recognise_bytes};
use crate::graph::recognise::Recognised;
use crate::limits::is_large;

/// Converts the body.
pub async fn convert(
    State(state): State<RouterState>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Failure> {
    let answer = match recognised(&state, query.as_deref(), request).await? {
        Recognised::Api(graph) => json!({"prompt": graph, "format": "api", "warnings": []}),
        Recognised::Ui(workflow) => {
            let conversion = state.comfy.convert(Arc::new(workflow), "body").await?;
            json!({
                "prompt": conversion.prompt,
                "format": "ui",
                "warnings": conversion.warnings,
            })
        }
    };
    Ok(Json(answer).into_response())
}

/// The workflow or graph that a body holds, as JSON or inside a file.
pub(super) async fn recognised(
    state: &RouterState,
    query: Option<&str>,
    request: Request,
) -> Result<Recognised, Failure> {
    let preference = preference(query)?;
    let body = body::file(request, state.config.server.max_body_bytes).await?;
    let large = is_large(body.bytes.len());
    let recognise = move || recognise_bytes(&body.bytes, preference);
    let found = if large {
        let working = tokio::task::spawn_blocking(recognise).await;
        working.map_err(|_| panicked("reading the body"))?
    } else {
        recognise()
    };
    found.map_err(|sentence| Failure::new(Code::InvalidPrompt, sentence).at("body"))
}

/// `?source=`: which of the two graphs of a file.
fn preference(query: Option<&str>) -> Result<Preference, Failure> {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let source = pairs.filter(|(name, _)| name == "source").last();
    match source.as_ref().map(|(_, value)| value.as_ref()) {
        None | Some("prompt") => Ok(Preference::Prompt),
        Some("workflow") => Ok(Preference::Workflow),
        Some(_) => Err(Failure::invalid(
            "source",
            "\"source\" must be \"prompt\" or \"workflow\"",
        )),
    }
}
