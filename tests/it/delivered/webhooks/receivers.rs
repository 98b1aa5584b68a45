//! Receivers that are dead, and results that are large.

use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::delivered::{picture, stage};
use crate::support::memory;
use crate::support::product::{Product, Stage};
use crate::support::receiver::{Behaviour, Receiver};
use crate::webhook::SECRET;

#[tokio::test(flavor = "multi_thread")]
async fn dead_receivers_delay_nobody_else() {
    let receiver = Receiver::start().await;
    receiver.behave("/dead", Behaviour::HangUnread);
    let product = stage().start().await;
    for n in 0..60 {
        let (status, _) = product
            .prompt(&json!({
                "id": format!("d{n}"),
                "prompt": picture(1),
                "webhook_v2": receiver.url("/dead")
            }))
            .await;
        assert_eq!(status, 202);
    }
    product.until_prompt("d59", "succeeded").await;
    let other = Receiver::start().await;
    let began = Instant::now();
    for n in 0..5 {
        let (status, _) = product.prompt(
            &json!({"id": format!("w{n}"), "prompt": picture(1), "webhook_v2": other.url("/well")})
        ).await;
        assert_eq!(status, 202);
    }
    other.wait("/well", 5).await;
    product.run("sync", &picture(1)).await;
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "it took {:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_result_does_not_sit_in_memory() {
    const BYTES: u64 = 50_000_000;
    let receiver = Receiver::start().await;
    receiver.behave("/big", Behaviour::Digest);
    let product = Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "1")
        .env("WEBHOOK_SECRET", SECRET)
        .start()
        .await;
    product.run("small", &picture(1)).await;
    let before = most_resident(&product);
    let graph = json!({
        "1": {"class_type": "SimBlob", "inputs": {"bytes": BYTES, "filename_prefix": "blob"}}
    });
    assert_eq!(
        product
            .prompt(&json!({"id": "big", "prompt": graph, "webhook_v2": receiver.url("/big")}))
            .await
            .0,
        202
    );
    let received = receiver.wait("/big", 1).await.remove(0);
    assert!(received.len > BYTES * 4 / 3, "{}", received.len);
    assert_ne!(received.sha256, <[u8; 32]>::from(Sha256::digest(b"")));
    let grown = most_resident(&product).saturating_sub(before);
    assert!(grown < 32 << 20, "grew by {} MiB", grown >> 20);
    product.until_clean().await;
}

/// The most memory that the process has had at a time, in bytes.
fn most_resident(product: &Product) -> u64 {
    memory::of(product.pid(), "VmHWM")
}
