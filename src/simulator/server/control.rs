//! The simulator's own routes: faults and counters.

use std::os::unix::process::CommandExt as _;

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
            if let Some(seconds) = asked.restart_in_place_s {
                restart(seconds);
            }
            instance
                .folders
                .set_tick(instance.faults.read(|faults| faults.mtime_tick_ms));
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

/// As a restart button does: the same process id, nobody listens for a while, nothing is
/// remembered. Only for the simulator as a process of its own; the answer is lost.
fn restart(seconds: f64) {
    let mut words: Vec<String> = std::env::args().collect();
    if let Some(at) = words.iter().position(|word| word == "--slow-start") {
        words.drain(at..(at + 2).min(words.len()));
    }
    let mut command = std::process::Command::new("/proc/self/exe");
    command
        .args(words.iter().skip(1))
        .args(["--slow-start", &seconds.to_string()]);
    let error = command.exec();
    eprintln!("cannot restart: {error}");
}

pub async fn stats(State(instance): Shared) -> Response {
    ok_json(&instance.stats())
}
