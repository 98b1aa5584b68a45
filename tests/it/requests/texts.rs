//! A11: long words do not come back, into the log or into memory. A02, A22: what cannot be sent is
//! refused where it is read.

use serde_json::{Value, json};

use super::refused;
use crate::support::graphs::{loaded, picture, with};
use crate::support::product::{Product, Stage};

#[tokio::test]
async fn long_words_do_not_come_back() {
    let product = Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .start()
        .await;
    let long = "x".repeat(4_000_000);
    let words = "a cat ".repeat(700_000);
    let url = format!("http://127.0.0.1:9/{long}");
    let node = |class: &str| {
        with(
            picture("x"),
            json!({"7": {"class_type": class, "inputs": {}}}),
        )
    };
    let raised = |message: &str| {
        with(
            picture("x"),
            json!({"7": {"class_type": "SimFail", "inputs": {"message": message}}}),
        )
    };
    let model = |name: &str| {
        json!({"7": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}},
               "8": {"class_type": "PreviewAny", "inputs": {"source": ["7", 0]}}})
    };
    for (what, path, body, status, location) in [
        (
            "media URL",
            "/prompt",
            json!({"prompt": loaded(&url)}),
            400,
            "prompt.1.inputs.image",
        ),
        (
            "media",
            "/prompt",
            json!({"prompt": loaded(&words)}),
            400,
            "prompt.1.inputs.image",
        ),
        (
            "model URL",
            "/prompt",
            json!({"prompt": model(&url)}),
            400,
            "prompt.7.inputs.ckpt_name",
        ),
        (
            "model name",
            "/prompt",
            json!({"prompt": model(&words)}),
            400,
            "prompt.7.inputs.ckpt_name",
        ),
        (
            "class",
            "/prompt",
            json!({"prompt": node(&words)}),
            400,
            "prompt.7.class_type",
        ),
        (
            "node id",
            "/prompt",
            json!({"prompt": with(picture("x"), json!({&long: {"class_type": "X"}}))}),
            400,
            "prompt",
        ),
        (
            "exception",
            "/prompt",
            json!({"prompt": raised(&long)}),
            500,
            "",
        ),
        (
            "words of an exception",
            "/prompt",
            json!({"prompt": raised(&words)}),
            500,
            "",
        ),
        (
            "archive",
            "/prompt",
            json!({"prompt": picture("x"), "compress_outputs": long}),
            400,
            "compress_outputs",
        ),
        (
            "format",
            "/prompt",
            json!({"prompt": picture("x"), "convert_output": {"format": words}}),
            400,
            "convert_output.format",
        ),
        (
            "repo_type",
            "/prompt",
            json!({"prompt": picture("x"), "hf_upload": {"repo": "a/b", "repo_type": words}}),
            400,
            "hf_upload.repo_type",
        ),
        (
            "bucket",
            "/prompt",
            json!({"prompt": picture("x"), "s3": {"bucket": [words]}}),
            400,
            "s3.bucket",
        ),
        (
            "webhook_v2",
            "/prompt",
            json!({"prompt": picture("x"), "webhook_v2": url}),
            400,
            "webhook_v2",
        ),
        (
            "webhook",
            "/prompt",
            json!({"prompt": picture("x"), "webhook": url}),
            400,
            "webhook",
        ),
        (
            "url_prefix",
            "/prompt",
            json!({"prompt": picture("x"), "http_upload": {"url_prefix": url}}),
            400,
            "http_upload.url_prefix",
        ),
        (
            "id",
            "/prompt",
            json!({"prompt": picture("x"), "id": long}),
            400,
            "id",
        ),
        (
            "prompt as text",
            "/prompt",
            json!({"prompt": words}),
            400,
            "prompt",
        ),
        (
            "target",
            "/prompt",
            json!({"prompt": picture("x"), "partial_execution_targets": [words]}),
            400,
            "partial_execution_targets",
        ),
        ("interrupt", "/interrupt", json!({"id": long}), 400, "id"),
        (
            "download",
            "/download",
            json!({"url": url, "model_type": "loras", "wait": true}),
            400,
            "url",
        ),
        (
            "model type",
            "/download",
            json!({"url": "http://127.0.0.1:9/x.safetensors", "model_type": long}),
            400,
            "model_type",
        ),
        (
            "file name",
            "/models",
            json!({"url": "http://127.0.0.1:9/x", "type": "loras", "filename": words}),
            400,
            "body.filename",
        ),
    ] {
        let (said, answer) = product.post(path, &body).await;
        let text = answer.to_string();
        assert!(text.len() <= 160 * 1024, "{what}: {} bytes", text.len());
        let shown: String = text.chars().take(500).collect();
        assert_eq!(said, status, "{what}: {shown}");
        assert_eq!(
            answer["location"].as_str().unwrap_or_default(),
            location,
            "{what}: {shown}"
        );
        let error = answer["error"].as_str().unwrap();
        assert!(error.chars().count() <= 4_001, "{what}: {}", error.len());
        assert!(!text.contains(&"x".repeat(4_001)), "{what}");
        // What a node says in many words is its sentence, not a value.
        let repeats = error.contains(&"a cat ".repeat(40)) && what != "words of an exception";
        assert!(
            !error.contains(&"x".repeat(201)) && !repeats,
            "{what}: {shown}"
        );
    }
    let (_, queue) = product.get("/queue").await;
    for entry in queue["finished"].as_array().unwrap() {
        let length = entry.to_string().len();
        assert!(length <= 4 * 1024, "{length} bytes");
    }
    let longest = product.log.lines().iter().map(String::len).max();
    assert!(
        longest.is_some_and(|length| length <= 16 * 1024),
        "{longest:?}"
    );
}

/// A22, A02: 400 at the credential, and nothing is asked of anybody.
#[tokio::test]
async fn what_cannot_be_sent_is_refused_where_it_is_read() {
    let product = Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .start()
        .await;
    let s3 = |field: &str, value: &str| {
        let mut auth = json!({"type": "s3", "access_key_id": "A", "secret_access_key": "B"});
        auth[field] = value.into();
        auth
    };
    for (auth, member) in [
        (s3("access_key_id", "AK\nB"), "access_key_id"),
        (s3("secret_access_key", "a\u{0}"), "secret_access_key"),
        (s3("session_token", "ä"), "session_token"),
        (s3("region", "eu\r"), "region"),
        (json!({"type": "bearer", "token": "a\nb"}), "token"),
        (
            json!({"type": "basic", "username": "a\u{1}", "password": "b"}),
            "username",
        ),
        (
            json!({"type": "header", "header_name": "Host", "header_value": "b"}),
            "header_name",
        ),
        (
            json!({"type": "header", "header_name": "X-Original-URL", "header_value": "/b"}),
            "header_name",
        ),
        (
            json!({"type": "header", "header_name": "Accept-Language", "header_value": "b"}),
            "header_name",
        ),
        (
            json!({"type": "header", "header_name": "If-None-Match", "header_value": "b"}),
            "header_name",
        ),
        (
            json!({"type": "header", "header_name": "X-Key", "header_value": "a\r\nHost: b"}),
            "header_value",
        ),
        (
            json!({"type": "query", "query_param": "file", "query_value": "evil"}),
            "query_param",
        ),
    ] {
        let url = "http://127.0.0.1:9/x.safetensors?file=good";
        let body = json!({"url": url, "model_type": "loras", "wait": true, "auth": auth});
        let answer = product.post("/download", &body).await;
        refused(
            member,
            &answer,
            (400, "invalid_request"),
            Some(&format!("auth.{member}")),
            "",
        );
        if member == "query_param" {
            continue;
        }
        let body = json!({
            "prompt": picture("x"),
            "credentials": [{"url_pattern": "https://other/*", "auth": auth}]
        });
        let answer = product.prompt(&body).await;
        refused(
            member,
            &answer,
            (400, "invalid_request"),
            Some(&format!("credentials.0.auth.{member}")),
            "",
        );
    }
    let replacing = json!({"type": "query", "query_param": "file", "query_value": "evil"});
    let body = json!({
        "prompt": loaded("http://127.0.0.1:9/x.png?file=good"),
        "credentials": [{"url_pattern": "**", "auth": replacing}]
    });
    let answer = product.prompt(&body).await;
    refused(
        "query",
        &answer,
        (400, "invalid_request"),
        Some("prompt.1.inputs.image"),
        "only add",
    );
    let answer = product
        .prompt(&json!({"prompt": loaded("http://127.0.0.1:9/a\nb.png")}))
        .await;
    refused(
        "URL",
        &answer,
        (400, "invalid_request"),
        Some("prompt.1.inputs.image"),
        "control",
    );
    assert_eq!(product.log.count("panicked"), 0);
}

/// A11: the same over a stream, and in what is kept.
#[tokio::test]
async fn streams_and_lists_are_bounded_too() {
    let product = Product::start(&[]).await;
    let graph = with(
        picture("x"),
        json!({"7": {"class_type": "SimFail", "inputs": {"message": "z".repeat(3_000_000)}}}),
    );
    let request = product.http.post(format!("{}/prompt", product.url));
    let request = request
        .header("accept", "text/event-stream")
        .json(&json!({"id": "s", "prompt": graph}));
    let text = request.send().await.unwrap().text().await.unwrap();
    let last = text
        .split("\n\n")
        .find(|event| event.contains("event: error"))
        .unwrap();
    assert!(last.len() < 140 * 1024, "{}", last.len());
    let (_, entry) = product.get("/prompt/s").await;
    assert!(entry.to_string().len() <= 4 * 1024);
    assert_eq!(entry["status"], Value::from("failed"));
}
