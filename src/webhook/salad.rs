//! SaladCloud: the instance's deletion cost follows the queue length, so that idle instances are
//! removed first (events.md).

use std::time::Duration;

use reqwest::Client;
use serde_json::json;
use tokio::sync::watch;
use url::Url;

use crate::error::chain;
use crate::net::Outbound;

/// The metadata service, reachable only from inside the instance.
pub const METADATA_SERVICE: &str = "http://169.254.169.254/";

const PATIENCE: Duration = Duration::from_secs(5);

/// Reports the queue length whenever it changes, until the sender is gone. `base` is
/// [`METADATA_SERVICE`] except in tests. While one report is under way, changes are coalesced to
/// the newest. A report that failed is not repeated, the next change brings a new one; a row of
/// failures is logged once.
pub async fn follow_queue(mut queue: watch::Receiver<u64>, outbound: Outbound, base: Url) {
    let Ok(url) = base.join("v1/deletion-cost") else {
        return;
    };
    let mut reported = None;
    let mut complained = false;
    loop {
        let length = *queue.borrow_and_update();
        if reported != Some(length) {
            // ComfyUI's client, because it is the one that never uses a proxy: the address means
            // this very machine.
            match report(outbound.comfyui(), &url, length).await {
                Ok(()) => complained = false,
                Err(reason) if !complained => {
                    complained = true;
                    tracing::warn!(
                        "SaladCloud's deletion cost cannot be set: {reason} (said once)"
                    );
                }
                Err(_) => {}
            }
            reported = Some(length);
        }
        if queue.changed().await.is_err() {
            return;
        }
    }
}

async fn report(client: &Client, url: &Url, length: u64) -> Result<(), String> {
    let request = client
        .put(url.clone())
        .header("Metadata", "true")
        .json(&json!({"deletion_cost": length}))
        .timeout(PATIENCE);
    let response = request.send().await.map_err(|error| chain(&error))?;
    if response.status().is_success() {
        Ok(())
    } else {
        Err(format!("it answered {}", response.status()))
    }
}
