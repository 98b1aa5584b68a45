//! `GET /workflows`: the endpoints made from files. `POST /graph/inspect`: a graph, or a file that
//! holds one, as a form. Both run nothing.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::RouterState;
use super::convert::recognised;
use crate::error::{Failure, panicked};
use crate::graph::form;
use crate::graph::recognise::Recognised;
use crate::graph::ui::app_mode;

/// `GET /workflows`
pub async fn workflows(State(state): State<RouterState>) -> Response {
    let classes = state.comfy.node_classes();
    Json(state.workflows.listed(classes.as_deref())).into_response()
}

/// `POST /graph/inspect`
pub async fn inspect(
    State(state): State<RouterState>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Failure> {
    let inspected = match recognised(&state, query.as_deref(), request).await? {
        Recognised::Api(graph) => described(&state, "api", graph, Vec::new(), Vec::new()).await?,
        Recognised::Ui(workflow) => {
            let workflow = Arc::new(workflow);
            let conversion = state.comfy.convert(workflow.clone(), "body").await?;
            let (chosen, mut warnings) = chosen(&state, workflow).await?;
            warnings.extend(conversion.warnings);
            described(&state, "ui", conversion.prompt, chosen, warnings).await?
        }
    };
    Ok(Json(inspected).into_response())
}

/// The inputs that a workflow's author has chosen for others, as paths into its graph.
async fn chosen(
    state: &RouterState,
    workflow: Arc<Map<String, Value>>,
) -> Result<(Vec<String>, Vec<String>), Failure> {
    let Some(classes) = state.comfy.node_classes() else {
        return Ok((Vec::new(), Vec::new()));
    };
    let looking = tokio::task::spawn_blocking(move || app_mode::paths(&workflow, &classes));
    let found = looking.await.map_err(|_| panicked("reading the body"))?;
    Ok(found.unwrap_or_default())
}

async fn described(
    state: &RouterState,
    format: &'static str,
    graph: Map<String, Value>,
    chosen: Vec<String>,
    warnings: Vec<String>,
) -> Result<Value, Failure> {
    let classes = state.comfy.node_classes();
    let describing = tokio::task::spawn_blocking(move || {
        let classes = classes.as_deref();
        let fields = form::fields(&graph, classes, &chosen);
        let outputs = form::outputs(&graph, classes);
        json!({
            "format": format,
            "fields": fields,
            "outputs": outputs,
            "warnings": warnings,
            "prompt": graph,
        })
    });
    describing.await.map_err(|_| panicked("describing a graph"))
}
