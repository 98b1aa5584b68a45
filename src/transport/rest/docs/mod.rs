//! The documentation: the OpenAPI document as JSON and YAML, and Swagger UI from assets inside the
//! binary.

mod document;
mod errors;
mod inputs;
mod named;
mod ui;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, middleware};
use serde_json::Value;

pub use document::{ApiSurface, document};

use super::RouterState;
use crate::error::{Code, Failure};

/// The documentation's routes. The document is made anew for each request: workflow files may have
/// changed.
pub fn routes() -> Router<RouterState> {
    Router::new()
        .route("/openapi.json", get(openapi))
        .route("/docs/json", get(json))
        .route("/docs/yaml", get(yaml))
        .route("/docs", get(ui::page))
        .route("/docs/", get(ui::without_slash))
        .route("/docs/{asset}", get(ui::asset))
        .layer(middleware::map_response(fresh))
}

/// A new version of the binary or of a workflow must be seen at once.
async fn fresh(mut response: Response) -> Response {
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-cache"),
    );
    response
}

fn current(state: &RouterState) -> Value {
    let server = &state.config.server;
    document(&ApiSurface {
        workflows: &state.workflows.endpoints(),
        keys: !server.api_keys.is_empty(),
        metrics_key: server.metrics_require_key,
    })
}

async fn openapi(State(state): State<RouterState>) -> Json<Value> {
    Json(current(&state))
}

/// At the Node server's paths, for generators of clients: several stumble over top-level `webhooks`
/// (drop-in.md, D20).
fn without_webhooks(state: &RouterState) -> Value {
    let mut document = current(state);
    if let Some(members) = document.as_object_mut() {
        members.shift_remove("webhooks");
    }
    document
}

async fn json(State(state): State<RouterState>) -> Json<Value> {
    Json(without_webhooks(&state))
}

async fn yaml(State(state): State<RouterState>) -> Result<Response, Failure> {
    let text = serde_saphyr::to_string(&without_webhooks(&state)).map_err(|error| {
        Failure::new(
            Code::Internal,
            format!("the document cannot be written as YAML: {error}; take /docs/json"),
        )
    })?;
    Ok(([(header::CONTENT_TYPE, "application/yaml")], text).into_response())
}
