//! `GET /health`, `GET /ready`, `GET /metrics` (process.md, "Probes").

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::RouterState;
use crate::telemetry::metrics;

/// 200 from the first readiness on, 500 before.
pub async fn health(State(state): State<RouterState>) -> Response {
    let healthy = state.health.now().was_ready;
    let (status, word) = if healthy {
        (StatusCode::OK, "healthy")
    } else {
        (StatusCode::INTERNAL_SERVER_ERROR, "not healthy")
    };
    (
        status,
        Json(json!({"version": crate::VERSION, "status": word})),
    )
        .into_response()
}

/// 200 while prompts are taken, 503 with the reason otherwise.
pub async fn ready(State(state): State<RouterState>) -> Response {
    match state.not_ready() {
        None => Json(json!({"version": crate::VERSION, "status": "ready"})).into_response(),
        Some(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"version": crate::VERSION, "status": "not ready", "reason": reason})),
        )
            .into_response(),
    }
}

/// Prometheus text.
pub async fn prometheus(State(state): State<RouterState>) -> Response {
    metrics::process();
    metrics::queue(
        state.service.in_flight(),
        state.comfy.instances().iter().map(|comfy| {
            let length = *comfy.watch.queue_remaining().borrow();
            (comfy.label(), length)
        }),
    );
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        metrics::render(),
    )
        .into_response()
}
