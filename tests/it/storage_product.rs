//! What a client of the whole product sees of storage.

use serde_json::json;

use crate::support::origin::{Origin, Reply};
use crate::support::product::Stage;

async fn origin() -> Origin {
    Origin::start(|request, _| match request.target.as_str() {
        "/page.safetensors" => Reply::ok("<!DOCTYPE html>").with("Content-Type", "text/html"),
        _ => Reply::ok("weights"),
    })
    .await
}

/// F03, A47: what the origin sends is the client's business, what is wrong with our disk is not.
#[tokio::test(flavor = "multi_thread")]
async fn statuses_tell_whose_trouble_it_is() {
    let (product, origin) = (
        Stage::new()
            .env("ALLOW_PRIVATE_NETWORKS", "true")
            .start()
            .await,
        origin().await,
    );
    let download =
        |path: &str| json!({"url": origin.url(path), "model_type": "loras", "wait": true});
    let model = |path: &str| json!({"url": origin.url(path), "type": "loras"});
    let (status, body) = product
        .post("/download", &download("/page.safetensors"))
        .await;
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("download_failed")),
        "{body}"
    );
    assert!(
        body["error"].as_str().unwrap().contains("text/html"),
        "{body}"
    );
    let (status, body) = product.post("/models", &model("/page.safetensors")).await;
    assert_eq!(status, 500, "{body}");
    // The cache's folder has become something that cannot be written into.
    let cache = product.path("cache");
    std::fs::remove_dir_all(&cache).unwrap();
    std::fs::write(&cache, "a file").unwrap();
    let (status, body) = product.post("/download", &download("/a.safetensors")).await;
    assert_eq!(
        (status, &body["code"]),
        (500, &json!("download_failed")),
        "{body}"
    );
    // And it is made again when it is gone.
    std::fs::remove_file(&cache).unwrap();
    let (status, body) = product.post("/download", &download("/a.safetensors")).await;
    assert_eq!(status, 200, "{body}");
}
