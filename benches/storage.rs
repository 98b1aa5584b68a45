//! The cache: start-up scan of 100,000 entries (to take under 1 s), a hit among them (under 1 ms).
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::allow_attributes,
    reason = "a benchmark may stop at the first problem"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comfyui_api::config::{Config, StorageConfig};
use comfyui_api::events::Events;
use comfyui_api::net::Outbound;
use comfyui_api::storage::{Fetch, Storage};
use criterion::{Criterion, criterion_group, criterion_main};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

const ENTRIES: usize = 100_000;

fn url(n: usize) -> String {
    format!("http://127.0.0.1:1/models/{n}.safetensors")
}

/// As a long life leaves it: every file with its description.
fn fill(dir: &Path) {
    for n in 0..ENTRIES {
        let base: String = URL_SAFE_NO_PAD
            .encode(Sha256::digest(url(n)))
            .chars()
            .take(32)
            .collect();
        File::create(dir.join(format!("{base}.safetensors"))).unwrap();
        let meta = format!(
            "{{\"authRequired\":false,\"url\":\"{}\",\"cachedAt\":\"2026-01-01T00:00:00Z\"}}",
            url(n)
        );
        std::fs::write(dir.join(format!("{base}.safetensors.meta")), meta).unwrap();
    }
}

fn config(dir: &Path) -> StorageConfig {
    let variables = [
        ("CACHE_DIR", dir.to_str().unwrap()),
        ("LRU_CACHE_SIZE_GB", "100"),
    ];
    let env: BTreeMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Config::from_env(&env).unwrap().storage
}

fn cache(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let config = config(dir.path());
    let outbound = Outbound::new(&config).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let make = || Storage::new(&config, outbound.clone(), Events::default());
    let mut group = criterion.benchmark_group("cache");
    group.sample_size(10);
    group.bench_function("scan of 100,000 entries", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| async { make().prepare().await.unwrap() })
    });
    group.sample_size(100);
    let storage = make();
    runtime.block_on(storage.prepare()).unwrap();
    let mut n = 0;
    group.bench_function("hit", |bencher| {
        bencher.to_async(&runtime).iter(|| {
            n = (n + 7919) % ENTRIES;
            let fetch = Fetch {
                url: url(n),
                auth: None,
                credentials: comfyui_api::storage::Credentials::default(),
                cancel: CancellationToken::new(),
                progress: None,
                purpose: None,
            };
            let storage = storage.clone();
            async move { assert!(storage.fetch(fetch).await.unwrap().cached) }
        });
    });
    group.finish();
}

criterion_group!(benches, cache);
criterion_main!(benches);
