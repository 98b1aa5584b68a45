//! A server that does not start keeps its secrets too.

use std::time::Duration;

use serde_json::json;

use super::{Heard, check};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Stage, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_manifest_and_a_bad_configuration_keep_their_secrets() {
    let origin = Origin::start(|_, _| Reply::status(403)).await;
    let url = origin
        .url("/owner/repo.git")
        .replace("://", "://oauth2:MARKED-git@");
    for manifest in [
        json!({"custom_nodes": [url]}),
        json!({"custom_nodes": [url], "unknown": "MARKED"}),
        json!({
            "models": {
                "before_start": [{"url": format!("{url}?sig=MARKED"), "local_path": "models/x.bin"}]
            }
        }),
    ] {
        let stage = Stage::new()
            .envs(&[("LOG_LEVEL", "trace"), ("ALLOW_PRIVATE_NETWORKS", "true")])
            .env("MANIFEST_JSON", &manifest);
        let environment = stage.environment();
        let mut product = stage.spawn();
        let ended = tokio::time::timeout(Duration::from_secs(60), product.ended())
            .await
            .unwrap();
        assert_eq!(ended.code(), Some(1), "{}", product.log.text());
        let mut heard = Heard::default();
        heard.add("the log", product.log.text());
        heard.add("check", check(&environment).await);
        heard.search();
    }
    let bad = [
        ("WEBHOOK_SECRET", "MARKED not base64!"),
        ("HTTP_PROXY", "MARKED"),
        ("AMQP_URL", "http://u:MARKED@h"),
        ("HTTP_AUTH_HEADER_VALUE", "MARKED\u{1}"),
        ("HF_ENDPOINT", "ftp://u:MARKED@h"),
        ("AWS_ENDPOINT_URL", "u:MARKED@h"),
        ("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=MARKED"),
        ("SYSTEM_WEBHOOK_URL", "//u:MARKED@h?token=MARKED"),
        ("WARMUP_PROMPT_URL", "//u:MARKED@h?token=MARKED"),
        ("MANIFEST_JSON", "{\"MARKED"),
        ("PORT", "x"),
    ];
    let stage = Stage::new().envs(&bad);
    let environment = stage.environment();
    let mut product = stage.spawn();
    assert_eq!(product.ended().await.code(), Some(2));
    until("the problems are printed", async || {
        (product.log.count("PORT") > 0).then_some(())
    })
    .await;
    let mut heard = Heard::default();
    heard.add("the log", product.log.text());
    heard.add("check", check(&environment).await);
    heard.search();
}
