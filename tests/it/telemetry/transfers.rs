//! Files of S3, Azure and the hub: one span each, both ways, without a secret.

use serde_json::{Value, json};

use super::{loaded, stage};
use crate::support::collector::{Collector, Span, one};
use crate::support::product::Product;
use crate::support::{azurite, hub, moto};

/// Runs a prompt that uploads, then one that loads what was uploaded, from where its answer says.
async fn there_and_back(product: &Product, target: &str, place: &Value) -> String {
    let body = json!({"id": "up", "prompt": crate::delivered::picture(2), target: place});
    let (status, answer) = product.prompt(&body).await;
    assert_eq!(status, 200, "{answer}");
    let url = answer["images"][1].as_str().unwrap().to_owned();
    product.run("down", &loaded(&url)).await;
    url
}

/// Client spans of a method below the one stage of a name.
fn calls<'a>(spans: &'a [Span], stage: &str, method: &str) -> Vec<&'a Span> {
    let stages = spans.iter().filter(|span| span.name == stage);
    let stages: Vec<&str> = stages.map(|span| &*span.id).collect();
    let found = spans.iter().filter(|span| span.kind == "CLIENT");
    found
        .filter(|span| span.name == method && stages.contains(&&*span.parent))
        .collect()
}

async fn check(stage: crate::support::product::Stage, target: &str, place: Value, method: &str) {
    let collector = Collector::start().await;
    let mut product = collector.stage(stage).start().await;
    let url = there_and_back(&product, target, &place).await;
    let missing = url.replace("up_pic_00002_", "nothing");
    let (status, answer) = product
        .prompt(&json!({"id": "missing", "prompt": loaded(&missing)}))
        .await;
    assert!(status >= 400, "{answer}");
    assert_eq!(product.stop().await, Some(0));
    let spans = collector.spans();

    let up = calls(&spans, "upload", method);
    assert_eq!(up.len(), 2, "one a file: {up:#?}");
    for span in &up {
        let to = &span.attributes["url.full"];
        assert!(!to.contains('?') && !to.contains('@'), "{to}");
        assert!(to.ends_with(".png"), "{to}");
        assert!(span.attributes["comfyui.bytes"].parse::<u64>().unwrap() > 0);
        assert!(!span.failed && !span.attributes["server.address"].is_empty());
        assert!(span.start <= span.end);
    }
    assert_ne!(up[0].attributes["url.full"], up[1].attributes["url.full"]);

    let down = calls(&spans, "preprocess", "GET");
    assert_eq!(down.len(), 2, "one a file: {down:#?}");
    let (good, bad): (Vec<&Span>, Vec<&Span>) = down.iter().partition(|span| !span.failed);
    let (good, bad) = (good[0], bad[0]);
    good.has("comfyui.cache.hit", "false");
    // They may have ended in any order.
    let sent = up
        .iter()
        .find(|span| span.attributes["url.full"].contains("_00002_"))
        .unwrap();
    good.has("comfyui.bytes", &sent.attributes["comfyui.bytes"]);
    good.has("url.full", &sent.attributes["url.full"]);
    assert_ne!(bad.attributes["url.full"], good.attributes["url.full"]);
    bad.lacks("comfyui.bytes");
    assert!(bad.attributes.contains_key("error.type"), "{bad:?}");
    let prompt = spans
        .iter()
        .find(|span| span.name == "prompt" && span.failed)
        .unwrap();
    assert_eq!(prompt.trace, bad.trace);
    one(&spans, "upload");
    let bytes = collector.bytes();
    let text = String::from_utf8_lossy(&bytes);
    for secret in ["planted", azurite::KEY, hub::TOKEN] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s3() {
    let url = tokio::task::spawn_blocking(moto::url).await.unwrap();
    let stage = stage().envs(&[
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "planted"),
        ("AWS_SECRET_ACCESS_KEY", "planted"),
        ("AWS_ENDPOINT_URL", url),
    ]);
    let place = json!({"bucket": moto::bucket().await, "prefix": "out/"});
    check(stage, "s3", place, "PUT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azure() {
    let stage = stage().env(
        "AZURE_STORAGE_CONNECTION_STRING",
        azurite::connection_string().await,
    );
    let place = json!({"container": azurite::container(false).await, "blob_prefix": "out/"});
    check(stage, "azure_blob_upload", place, "PUT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub() {
    let hub = hub::Hub::start().await;
    let stage = stage().envs(&[("HF_TOKEN", hub::TOKEN), ("HF_ENDPOINT", &hub.url)]);
    let place = json!({"repo": "owner/model", "directory": "some dir"});
    check(stage, "hf_upload", place, "POST").await;
}
