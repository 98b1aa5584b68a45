//! The addresses by which an operator, or the console, sees to the server.

use axum::Router;
use axum::routing::{delete, get, post};

use super::{RouterState, cache, control, deliveries, events, logs, models, status};

/// All of them; each needs a key where there are any.
pub fn routes() -> Router<RouterState> {
    Router::new()
        .route("/models/{folder}", get(models::list_folder))
        .route("/downloads", get(models::downloads))
        .route("/downloads/{id}", delete(models::cancel_download))
        .route("/events", get(events::events))
        .route("/status", get(status::status))
        .route("/config", get(status::config))
        .route("/logs", get(logs::logs))
        .route("/cache", get(cache::list))
        .route("/cache/{name}", delete(cache::evict))
        .route("/deliveries", get(deliveries::list))
        .route("/deliveries/{id}/resend", post(deliveries::resend))
        .route("/restart", post(control::restart))
        .route("/free", post(control::free))
}
