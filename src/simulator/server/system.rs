//! The system, its logs, and the front end that is not there.

use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Shared, ok_json, parsed};
use crate::simulator::args::Imitate;
use crate::simulator::python;

pub async fn stats(State(instance): Shared) -> Response {
    let (version, os) = match instance.imitate {
        Imitate::V0_3_64 => ("0.3.64", "posix"),
        Imitate::Current => ("0.38.1", "linux"),
    };
    const GIB: u64 = 1 << 30;
    ok_json(&json!({
        "system": {"os": os, "ram_total": 16 * GIB, "ram_free": 8 * GIB,
        "comfyui_version": version, "required_frontend_version": "0",
        "installed_templates_version": "0",
            "required_templates_version": "0", "python_version": "3.12.0 (simulated)",
            "pytorch_version": "2.9.0+simulated", "embedded_python": false,
            "argv": instance.args.argv()},
        "devices": [{
            "name": "cpu",
            "type": "cpu",
            "index": null,
            "vram_total": 16 * GIB,
            "vram_free": 8 * GIB,
            "torch_vram_total": 16 * GIB,
            "torch_vram_free": 8 * GIB
        }],
    }))
}

/// What the server tells clients that negotiate.
pub fn server_features(body_limit: usize) -> Value {
    json!({"supports_preview_metadata": true, "max_upload_size": body_limit})
}

pub async fn features(State(instance): Shared) -> Response {
    ok_json(&server_features(instance.args.body_limit()))
}

pub async fn logs(State(instance): Shared) -> Response {
    let lines: Vec<String> = instance
        .log_entries()
        .iter()
        .map(|entry| {
            format!(
                "{} - {}",
                python::display(&entry["t"]),
                python::display(&entry["m"])
            )
        })
        .collect();
    ok_json(&lines.concat().into())
}

pub async fn raw_logs(State(instance): Shared) -> Response {
    ok_json(&json!({"entries": instance.log_entries(), "size": {"cols": 80, "rows": 24}}))
}

pub async fn subscribe_logs(
    State(instance): Shared,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match parsed(body) {
        Ok(body) => {
            instance.hub.subscribe_logs(
                &python::display(&body["clientId"]),
                body["enabled"] == json!(true),
            );
            StatusCode::OK.into_response()
        }
        Err(response) => response,
    }
}

pub async fn empty_list() -> Response {
    ok_json(&json!([]))
}

pub async fn empty_object() -> Response {
    ok_json(&json!({}))
}

pub async fn users() -> Response {
    ok_json(&json!({"storage": "server", "migrated": true}))
}

pub async fn front_page() -> Response {
    (
        [(header::CONTENT_TYPE, "text/html")],
        "<!doctype html><title>ComfyUI</title><p>This is the simulator; it has no front end.</p>",
    )
        .into_response()
}
