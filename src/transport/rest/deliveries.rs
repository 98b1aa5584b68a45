//! `GET /deliveries`, `POST /deliveries/{id}/resend`: webhooks of jobs and system events.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::RouterState;
use super::path::PathText;
use crate::error::{Code, Failure};
use crate::limits::text::quoted;
use crate::webhook::Resent;

/// `GET /deliveries`
pub async fn list(State(state): State<RouterState>) -> Response {
    Json(state.webhooks.deliveries().all()).into_response()
}

/// `POST /deliveries/{id}/resend`
pub async fn resend(
    State(state): State<RouterState>,
    PathText(id): PathText,
) -> Result<Response, Failure> {
    match state.webhooks.resend(&id) {
        Resent::Begun => {
            let answer = json!({"id": id, "status": "sending"});
            Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
        }
        Resent::Unknown => Err(Failure::new(
            Code::NotFound,
            format!(
                "no delivery with the id \"{}\" is among the last 500",
                quoted(&id)
            ),
        )),
        Resent::BodyGone => Err(Failure::new(
            Code::Conflict,
            format!(
                "the body of delivery {} is gone: it was delivered, or given up; with \
                 WEBHOOK_SPOOL_DIR what could not be delivered is kept for 24 hours",
                quoted(&id)
            ),
        )),
    }
}
