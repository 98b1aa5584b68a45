//! Several ComfyUI behind one server (fleet.md, section 1).

mod config;
mod lost;
mod placement;
mod queue;
mod start;
mod visible;

use serde_json::{Value, json};

use crate::support::graphs::{picture, with};
use crate::support::product::{Product, Stage};

/// A picture that takes so long.
pub fn lasting(seconds: f64) -> Value {
    crate::support::graphs::slow(seconds, 20)
}

/// A picture for which a checkpoint is loaded.
pub fn with_model(name: &str, seconds: f64) -> Value {
    with(
        lasting(seconds),
        json!({"4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a", "clip": ["4", 1]}},
        "7": {
            "class_type": "SaveImage",
            "inputs": {"images": ["8", 0], "filename_prefix": "model"}
        },
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["2", 0], "vae": ["4", 2]}},
        "2": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1}
        }}),
    )
}

/// Several, ready, each started.
pub async fn several(count: u16, env: &[(&str, &str)]) -> Product {
    let product = Stage::new().instances(count).envs(env).start().await;
    all_ready(&product, count).await;
    product
}

/// Waits until each is ready.
pub async fn all_ready(product: &Product, count: u16) -> Vec<Value> {
    crate::support::product::until("all are ready", async || {
        let (_, status) = product.get("/status").await;
        let all = status["instances"].as_array()?.clone();
        assert_eq!(all.len(), usize::from(count));
        all.iter().all(|one| one["state"] == "ready").then_some(all)
    })
    .await
}

/// Which one ran it.
pub fn ran_in(body: &Value) -> u64 {
    body["stats"]["comfy_execution"]["instance"]
        .as_u64()
        .unwrap_or_else(|| panic!("no instance in {}", body["stats"]))
}

/// How many runs each has ended.
pub async fn runs(product: &Product, count: u16) -> Vec<u64> {
    let mut all = Vec::new();
    for index in 0..count {
        let stats = product.comfy_of(index, "/simulator/stats").await;
        all.push(stats["prompts_run"].as_u64().unwrap());
    }
    all
}

/// An instant one.
pub fn quick() -> Value {
    picture("quick")
}
