//! What is planted everywhere is in no exported byte.

use serde_json::json;

use super::{loaded, stage};
use crate::support::collector::{Collector, TRACES};
use crate::support::origin::{Origin, Reply};
use crate::support::receiver::Receiver;

const PNG: &[u8] = include_bytes!("../delivered/one.png");

#[tokio::test(flavor = "multi_thread")]
async fn nothing_planted_is_exported() {
    let (collector, receiver) = (Collector::start().await, Receiver::start().await);
    let origin = Origin::start(|_, _| Reply::ok(PNG.to_vec())).await;
    let workflow = r#"{"1": {"class_type": "SimFail", "inputs": {"message": "planted"}}}"#;
    let mut product = collector
        .stage(stage())
        .env("API_KEYS", "planted-key")
        .env("WEBHOOK_SECRET", "planted")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=planted")
        .env("OTEL_METRICS_EXPORTER", "otlp")
        .env("HTTP_AUTH_HEADER_NAME", "x-auth")
        .env("HTTP_AUTH_HEADER_VALUE", "planted")
        .file("workflows/fails.json", workflow)
        .start()
        .await;
    let mut graph = loaded(&format!(
        "http://me:planted@{}/a.png?X-Amz-Signature=planted#planted",
        origin.url("").trim_start_matches("http://")
    ));
    graph["5"] = json!({
        "class_type": "SimSleep",
        "inputs": {
            "seconds": 0,
            "steps": 1,
            "text": "planted prompt text",
            "filename_prefix": "planted"
        }
    });
    graph["6"] = json!({
        "class_type": "SimFail",
        "inputs": {"message": "cannot do planted things with planted prompt text"}
    });
    let body = json!({
        "id": "x", "prompt": graph, "extra_data": {"token": "planted"},
        "credentials": [{
            "url_pattern": "http://127.0.0.1*",
            "auth": {"type": "bearer", "token": "planted"}
        }],
        "webhook_v2": receiver.url("/hook?token=planted"),
        "webhook": receiver.url("/old?token=planted"),
        "http_upload": {"url_prefix": origin.url("/up?sig=planted")},
    });
    let answer = product
        .http
        .post(format!("{}/prompt?api_key=planted", product.url))
        .header("x-api-key", "planted-key")
        .header("cookie", "planted")
        .header("x-anything", "planted")
        .json(&body)
        .send()
        .await
        .unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    // Its end, whatever it is, is waited for below.
    assert_eq!(status, 202, "{text}");
    let failed = product
        .http
        .post(format!("{}/workflow/fails", product.url))
        .header("authorization", "Bearer planted-key")
        .json(&json!({"input": {"text": "planted"}}))
        .send()
        .await
        .unwrap();
    assert!(!failed.status().is_success());
    let refused = product
        .http
        .get(format!("{}/queue?key=planted", product.url))
        .header("authorization", "Bearer planted-wrong")
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(product.stop().await, Some(0));
    assert!(!collector.receiver.at(TRACES).is_empty());
    let bytes = collector.bytes();
    let text = String::from_utf8_lossy(&bytes);
    if let Some(at) = text.find("planted") {
        let around = &text[at.saturating_sub(200)..];
        let around: String = around.chars().take(400).collect();
        panic!("exported: {around}");
    }
    assert!(text.contains("prompt") && text.contains("comfyui_api_prompts_total"));
    assert!(!product.log.text().contains("planted-key"));
}
