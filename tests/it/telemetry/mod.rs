//! Traces, metrics by OTLP and the trace context, through the whole product and with a collector
//! that can misbehave.

mod agents;
mod collector;
mod context;
mod metrics;
mod remote;
mod routes;
mod secrets;
mod spans;
mod start;
mod survives;
mod tasks;
mod tls;
mod transfers;

use serde_json::{Value, json};

use crate::support::product::{Product, Stage};

/// A context of a caller.
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const STATE: &str = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";

fn stage() -> Stage {
    Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .env("HTTP_TRUSTED_ORIGINS", "")
}

/// A picture that is loaded from an address and saved again.
fn loaded(url: &str) -> Value {
    json!({"1": {"class_type": "LoadImage", "inputs": {"image": url}},
    "9": {
        "class_type": "SaveImage",
        "inputs": {"images": ["1", 0], "filename_prefix": "loaded"}
    }})
}

/// What `/metrics` says.
async fn exposition(product: &Product) -> String {
    let asked = product.http.get(format!("{}/metrics", product.url));
    asked.send().await.unwrap().text().await.unwrap()
}
