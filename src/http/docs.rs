//! `GET /docs` and the OpenAPI document.

use axum::Router;

use super::Door;

/// The documentation's routes.
pub fn routes() -> Router<Door> {
    Router::new()
}
