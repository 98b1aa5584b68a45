//! Downloads one URL through the storage engine and prints what it took: for
//! `benches/download_vs_curl.sh`.
//!
//! Usage: `download <url> <cache directory>`. Prints seconds, bytes, and the growth of resident
//! memory at its peak in KiB.
#![allow(
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "a measuring tool may stop at the first problem"
)]

use std::collections::BTreeMap;

use comfyui_api::config::Config;
use comfyui_api::events::Events;
use comfyui_api::net::Outbound;
use comfyui_api::storage::{Fetch, Storage};
use tokio_util::sync::CancellationToken;

fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (url, dir) = (arguments.next().unwrap(), arguments.next().unwrap());
    let mut env = BTreeMap::from([
        ("CACHE_DIR".to_owned(), dir),
        ("ALLOW_PRIVATE_NETWORKS".to_owned(), "true".to_owned()),
    ]);
    env.extend(
        arguments
            .next()
            .map(|connections| ("DOWNLOAD_CONNECTIONS".to_owned(), connections)),
    );
    let config = Config::from_env(&env).unwrap().storage;
    let storage = Storage::new(&config, Outbound::new(&config).unwrap(), Events::default());
    storage.prepare().await.unwrap();
    let before = status("VmRSS");
    let fetch = Fetch {
        url,
        auth: None,
        credentials: comfyui_api::storage::Credentials::default(),
        cancel: CancellationToken::new(),
        progress: None,
        purpose: None,
    };
    let fetched = storage.fetch(fetch).await.unwrap();
    println!(
        "{:.3} {} {}",
        fetched.duration.as_secs_f64(),
        fetched.size,
        status("VmHWM").saturating_sub(before)
    );
}
