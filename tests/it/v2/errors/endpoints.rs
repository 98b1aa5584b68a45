//! The rest of the prefix.

use serde_json::{Value, json};

use super::check;
use crate::support::graphs::{slow, with};
use crate::support::product::{Product, Stage};
use crate::v2::{ended, form, id, submit, upload};

#[tokio::test]
async fn the_rest_of_the_prefix_answers_in_the_same_form() {
    let product = Stage::new().env("MAX_BODY_SIZE_MB", "0.01").start().await;
    let raw = async |method: &str, path: &str, content_type: &str, body: Vec<u8>| {
        let request = product
            .http
            .request(method.parse().unwrap(), format!("{}{path}", product.url));
        let response = request
            .header("content-type", content_type)
            .body(body)
            .send()
            .await
            .unwrap();
        assert!(
            response.headers().contains_key("x-comfy-request-id"),
            "{method} {path}"
        );
        (
            response.status().as_u16(),
            response.json::<Value>().await.unwrap(),
        )
    };
    let json = "application/json";
    let unknown = uuid::Uuid::new_v4();
    for (method, path, content_type, body, status, code) in [
        (
            "POST",
            "/api/v2/jobs".to_owned(),
            json,
            "[".to_owned(),
            400,
            "invalid_request",
        ),
        (
            "POST",
            "/api/v2/jobs".into(),
            json,
            "[]".into(),
            400,
            "invalid_request",
        ),
        (
            "POST",
            "/api/v2/jobs".into(),
            "text/plain",
            "{}".into(),
            415,
            "unsupported_media_type",
        ),
        (
            "POST",
            "/api/v2/jobs".into(),
            json,
            format!("{{\"x\": \"{}\"}}", "x".repeat(20_000)),
            413,
            "payload_too_large",
        ),
        (
            "PUT",
            "/api/v2/jobs".into(),
            json,
            String::new(),
            405,
            "method_not_allowed",
        ),
        (
            "GET",
            "/api/v2/nothing".into(),
            json,
            String::new(),
            404,
            "not_found",
        ),
        (
            "GET",
            format!("/api/v2/jobs/{unknown}"),
            json,
            String::new(),
            404,
            "not_found",
        ),
        (
            "GET",
            "/api/v2/jobs/not-a-uuid".into(),
            json,
            String::new(),
            404,
            "not_found",
        ),
        (
            "POST",
            format!("/api/v2/jobs/{unknown}/cancel"),
            json,
            String::new(),
            404,
            "not_found",
        ),
        (
            "GET",
            format!("/api/v2/jobs/{unknown}/events"),
            json,
            String::new(),
            404,
            "not_found",
        ),
        (
            "GET",
            format!("/api/v2/jobs/{unknown}/workflow"),
            json,
            String::new(),
            404,
            "not_found",
        ),
        (
            "GET",
            "/api/v2/jobs?limit=0".into(),
            json,
            String::new(),
            400,
            "invalid_request",
        ),
        (
            "GET",
            "/api/v2/jobs?limit=101".into(),
            json,
            String::new(),
            400,
            "invalid_request",
        ),
        (
            "GET",
            "/api/v2/jobs?status=done".into(),
            json,
            String::new(),
            400,
            "invalid_request",
        ),
        (
            "GET",
            "/api/v2/jobs?cursor=abc".into(),
            json,
            String::new(),
            400,
            "invalid_cursor",
        ),
        (
            "GET",
            "/api/v2/jobs?metadata[a]=1&metadata[a]=2".into(),
            json,
            String::new(),
            400,
            "invalid_metadata_filter",
        ),
        (
            "GET",
            "/api/v2/jobs?metadata[a b]=1".into(),
            json,
            String::new(),
            400,
            "invalid_metadata_filter",
        ),
        (
            "GET",
            "/api/v2/jobs?metadata[a]=1&metadata[b]=1&metadata[c]=1&metadata[d]=1".into(),
            json,
            String::new(),
            400,
            "invalid_metadata_filter",
        ),
        (
            "POST",
            "/api/v2/assets".into(),
            json,
            "{}".into(),
            415,
            "unsupported_media_type",
        ),
        (
            "POST",
            "/api/v2/assets".into(),
            "multipart/form-data; boundary=x",
            "garbage".into(),
            422,
            "invalid_request",
        ),
        (
            "POST",
            "/api/v2/assets/from-hash".into(),
            json,
            format!("{{\"hash\": \"blake3:{}\"}}", "0".repeat(64)),
            404,
            "blob_not_found",
        ),
        (
            "GET",
            format!("/api/v2/assets/{unknown}"),
            json,
            String::new(),
            404,
            "not_found",
        ),
        (
            "GET",
            format!("/api/v2/assets/{unknown}/content"),
            json,
            String::new(),
            404,
            "not_found",
        ),
        (
            "DELETE",
            format!("/api/v2/assets/{unknown}"),
            json,
            String::new(),
            404,
            "not_found",
        ),
    ] {
        let answer = raw(method, &path, content_type, body.into_bytes()).await;
        assert_eq!(answer.0, status, "{method} {path}: {}", answer.1);
        check(&answer, status, code);
    }
}

#[tokio::test]
async fn an_output_of_a_job_in_flight_is_not_deleted_and_a_switched_off_api_keeps_its_assets() {
    let product = Product::start(&[]).await;
    // The text comes first; then it sleeps until it is cancelled.
    let text = json!({"6": {"class_type": "PreviewAny", "inputs": {"source": "first"}}});
    let graph = with(text, slow(60.0, 600));
    let job = submit(&product, &graph).await;
    let path = format!("/api/v2/jobs/{}", id(&job));
    let output = crate::support::product::until("an output while it runs", async || {
        let (_, job) = product.get(&path).await;
        (job["status"] == "running")
            .then(|| job["outputs"][0]["id"].as_str().map(str::to_owned))
            .flatten()
    })
    .await;
    check(
        &product.delete(&format!("/api/v2/assets/{output}")).await,
        409,
        "asset_in_use",
    );
    product.post(&format!("{path}/cancel"), &json!({})).await;
    ended(&product, id(&job)).await;
    let response = product
        .http
        .delete(format!("{}/api/v2/assets/{output}", product.url))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 204);
    let (_, job) = product.get(&path).await;
    assert!(
        job["outputs"]
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["id"] != json!(output)),
        "{job}"
    );
    let off = Product::start(&[("V2_ENABLED", "false")]).await;
    check(&off.get("/api/v2/jobs").await, 404, "not_found");
    assert_eq!(upload(&off, form(b"x", "x.png")).await.0, 201);
}
