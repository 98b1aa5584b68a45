//! Spans of requests that are no prompt, and of every transport.

use futures_util::StreamExt;
use serde_json::json;

use super::stage;
use crate::delivered::picture;
use crate::support::collector::{Collector, Span, one};

#[tokio::test(flavor = "multi_thread")]
async fn refusals_probes_streams_and_routes() {
    let collector = Collector::start().await;
    let product = collector.stage(stage()).start().await;
    for path in ["/health", "/ready", "/metrics", "/docs", "/docs/json"] {
        assert_eq!(product.get(path).await.0, 200, "{path}");
    }
    let page = product.http.get(format!("{}/console/", product.url));
    assert_eq!(page.send().await.unwrap().status(), 200);
    assert_eq!(product.get("/nothing/here").await.0, 404);
    assert_eq!(product.get("/prompt/unknown").await.0, 404);
    let bad = json!({"prompt": {"1": {"class_type": "Unknown", "inputs": {}}}});
    assert_eq!(product.prompt(&bad).await.0, 400);
    assert_eq!(product.get("/api/v2/jobs/unknown").await.0, 404);
    // A stream ends with its last byte.
    let mut stream = product
        .http
        .post(format!("{}/prompt", product.url))
        .header("accept", "text/event-stream")
        .json(&json!({"id": "streamed", "prompt": picture(1)}))
        .send()
        .await
        .unwrap()
        .bytes_stream();
    while stream.next().await.is_some() {}
    let spans = collector
        .wait_for("all requests", |spans| {
            spans
                .iter()
                .filter(|span| span.name == "POST /prompt")
                .count()
                == 2
        })
        .await;
    for span in &spans {
        let path = span.attributes.get("url.path").cloned().unwrap_or_default();
        for quiet in ["/health", "/ready", "/metrics", "/docs", "/console"] {
            assert!(!path.starts_with(quiet), "{span:?}");
        }
    }
    let unknown = one(&spans, "GET /prompt/{id}");
    unknown.has("http.route", "/prompt/{id}");
    unknown.has("url.path", "/prompt/unknown");
    unknown.has("error.type", "not_found");
    assert!(!unknown.failed, "a 4xx is the client's");
    one(&spans, "GET").has("url.path", "/nothing/here");
    one(&spans, "GET /api/v2/jobs/{id}").has("error.type", "not_found");
    let refused = spans
        .iter()
        .find(|span| span.name == "prompt" && span.failed)
        .unwrap();
    refused.has("error.type", "invalid_prompt");
    let streamed = spans
        .iter()
        .find(|span| {
            span.attributes
                .get("comfyui.prompt.id")
                .is_some_and(|id| id == "streamed")
        })
        .unwrap();
    let http = spans
        .iter()
        .find(|span| span.id == streamed.parent)
        .unwrap();
    assert!(http.end >= streamed.end, "the stream outlives the prompt");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_has_its_word() {
    let collector = Collector::start().await;
    let workflow =
        json!({"summary": "Mine", "prompt": picture(1), "input": {"type": "object"}, "bind": {}});
    let stage = stage()
        .file("workflows/mine/own.json", workflow.to_string())
        .file("warm.json", picture(1).to_string());
    let warm = stage.path("warm.json");
    let product = collector
        .stage(stage)
        .env("WARMUP_PROMPT_FILE", warm.display())
        .start()
        .await;
    let (status, answer) = product
        .post("/workflow/mine/own", &json!({"input": {}}))
        .await;
    assert_eq!(status, 200, "{answer}");
    let spans = collector
        .wait_for("both prompts", |spans| {
            let prompts = spans.iter().filter(|span| span.name == "prompt");
            let request = |span: &Span| span.name == "POST /workflow/{path}";
            prompts.count() == 2 && spans.iter().any(request)
        })
        .await;
    let of = |source: &str| {
        let mut prompts = spans.iter().filter(|span| span.name == "prompt");
        let found = prompts.find(|span| span.attributes["comfyui.source"] == source);
        found.unwrap_or_else(|| panic!("{source}: {spans:#?}"))
    };
    assert!(of("warmup").parent.is_empty());
    let request = one(&spans, "POST /workflow/{path}");
    request.has("url.path", "/workflow/mine/own");
    assert_eq!(of("workflow").parent, request.id);
    of("workflow").has("comfyui.workflow", "mine/own");
    of("warmup").lacks("comfyui.workflow");
}
