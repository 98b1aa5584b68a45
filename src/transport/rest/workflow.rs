//! `POST /workflow/...`: input in, graph out, then the way of every prompt (workflows.md).

use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::accept::WantsStream;
use super::body::{PromptBody, WorkflowBody};
use super::path::PathText;
use super::prompt::Asked;
use super::{RouterState, prompt};
use crate::error::Failure;
use crate::fields;
use crate::job::{Source, with_workflow};
use crate::limits::is_large_object;
use crate::transport::v2::address::Base;

/// Runs a workflow.
pub async fn run(
    State(state): State<RouterState>,
    PathText(path): PathText,
    WantsStream(stream): WantsStream,
    base: Base,
    WorkflowBody(PromptBody { members, large }): WorkflowBody,
) -> Result<Response, Failure> {
    let (input, mut body) = parts(members);
    state.health.accepts(false)?;
    let generated = state.workflows.generate(&path, input).await?;
    body.insert("input".into(), generated.input);
    body.insert("prompt".into(), generated.prompt);
    if let Some(workflow) = &generated.workflow {
        let extra_data = body.remove("extra_data").filter(|value| !value.is_null());
        // What is none is refused like everywhere.
        let extra_data = match extra_data {
            Some(other) if !other.is_object() => other,
            extra_data => with_workflow(extra_data, workflow),
        };
        body.insert("extra_data".into(), extra_data);
    }
    let large = large || is_large_object(&body);
    let mut asked = Asked::parse(body, large, base).map_err(from_file)?;
    asked.request.warnings.extend(generated.warnings);
    asked.source = Source::Workflow;
    asked.workflow = Some(path.into());
    prompt::run(&state, stream, asked).await
}

/// The input, and how the result is to be delivered. Without `input` the members that mean nothing
/// else are the input itself.
fn parts(mut members: Map<String, Value>) -> (Value, Map<String, Value>) {
    // What runs comes from the file, and its nodes are the file's business.
    let own = ["prompt", "workflow", "partial_execution_targets"];
    let given = members
        .shift_remove("input")
        .filter(|input| !input.is_null());
    let mut bare = Map::new();
    let mut delivery = Map::new();
    for (name, value) in members {
        if own.contains(&name.as_str()) || !fields::is_known(&name) {
            bare.insert(name, value);
        } else {
            delivery.insert(name, value);
        }
    }
    (given.unwrap_or(Value::Object(bare)), delivery)
}

/// A graph that the file made wrongly is the file's fault: say so.
pub fn from_file(mut failure: Failure) -> Failure {
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
