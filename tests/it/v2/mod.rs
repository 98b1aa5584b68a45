//! The Comfy API v2 (docs/contract/v2.md): the official SDKs, and what no SDK depends on.

mod assets;
mod errors;
mod jobs;
mod sdk;
mod survives;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::product::{Product, until};

/// Posts a graph; it must become a job.
pub async fn submit(product: &Product, graph: &Value) -> Value {
    submit_with(product, json!({"workflow": graph})).await
}

/// Posts a whole body; it must become a job.
async fn submit_with(product: &Product, body: Value) -> Value {
    let (status, job) = product.post("/api/v2/jobs", &body).await;
    assert_eq!(status, 201, "{job}");
    job
}

/// Waits for the end of a job.
pub async fn ended(product: &Product, id: &str) -> Value {
    until(
        &format!("the end of {id}\n{}", product.log.text()),
        async || {
            let (status, job) = product.get(&format!("/api/v2/jobs/{id}?wait=5")).await;
            assert_eq!(status, 200, "{job}");
            has_ended(&job).then_some(job)
        },
    )
    .await
}

fn has_ended(job: &Value) -> bool {
    matches!(
        job["status"].as_str(),
        Some("succeeded" | "failed" | "canceled" | "expired")
    )
}

/// The id of a job.
fn id(job: &Value) -> &str {
    job["id"].as_str().unwrap()
}

/// The bytes behind an output or asset, by its own address.
async fn bytes(product: &Product, asset: &Value) -> Vec<u8> {
    let response = product
        .http
        .get(asset["url"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200, "{asset}");
    response.bytes().await.unwrap().to_vec()
}

/// A form with a file.
pub fn form(bytes: &[u8], file_path: &str) -> reqwest::multipart::Form {
    reqwest::multipart::Form::new()
        .part(
            "file",
            reqwest::multipart::Part::bytes(bytes.to_vec()).file_name("ignored"),
        )
        .text("content_type", "image/png")
        .text("file_path", file_path.to_owned())
}

/// Uploads; any answer.
pub async fn upload(product: &Product, form: reqwest::multipart::Form) -> (u16, Value) {
    let sent = product
        .http
        .post(format!("{}/api/v2/assets", product.url))
        .multipart(form)
        .send()
        .await
        .unwrap();
    let status = sent.status().as_u16();
    (status, sent.json().await.unwrap())
}

const PATIENCE: Duration = Duration::from_secs(90);
