//! `GET /docs` and the OpenAPI document.

use axum::Router;

use super::Door;

/// The documentation's routes.
pub fn routes() -> Router<Door> {
    Router::new()
}

/// The OpenAPI document, with the given workflow endpoints in it.
pub fn document(workflows: &[crate::workflow::Endpoint]) -> serde_json::Value {
    serde_json::json!({"openapi": "3.1.0", "paths": {}, "x-workflows": workflows.len()})
}
