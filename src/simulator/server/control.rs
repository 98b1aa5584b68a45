//! The simulator's own routes: faults and counters.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Shared, json_response, ok_json};

pub async fn faults(State(instance): Shared) -> Response {
    ok_json(
        &instance
            .faults
            .read(|faults| serde_json::to_value(faults))
            .unwrap_or_default(),
    )
}

pub async fn set_faults(State(instance): Shared, body: Bytes) -> Response {
    let change: Value = match serde_json::from_slice(&body) {
        Ok(change) => change,
        Err(error) => {
            return json_response(
                StatusCode::BAD_REQUEST,
                &json!({"error": format!("the body is not JSON: {error}")}),
            );
        }
    };
    match instance.faults.change(&change) {
        Ok(asked) => {
            if let Some(code) = asked.crash {
                instance.crash(code);
                return StatusCode::OK.into_response();
            }
            ok_json(
                &instance
                    .faults
                    .read(|faults| serde_json::to_value(faults))
                    .unwrap_or_default(),
            )
        }
        Err(error) => json_response(StatusCode::BAD_REQUEST, &json!({"error": error})),
    }
}

pub async fn stats(State(instance): Shared) -> Response {
    ok_json(&instance.stats())
}
