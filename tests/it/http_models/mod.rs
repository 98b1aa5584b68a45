//! `GET /models`, `POST /models`, `POST /download`: every answer, and that a model is usable as
//! soon as the call has returned.

mod answers;
mod names;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage};

async fn product() -> Product {
    Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .start()
        .await
}

async fn origin() -> Origin {
    Origin::start(
        |request, _| match request.target.split('?').next().unwrap_or_default() {
            "/missing.safetensors" => Reply::status(404),
            "/private.safetensors" if request.header("authorization") != Some("Bearer marked") => {
                Reply::status(401)
            }
            "/slow.safetensors" => Reply {
                delay: Some(Duration::from_millis(400)),
                ..Reply::ok("weights")
            },
            _ => Reply::ok("weights"),
        },
    )
    .await
}

/// A graph that only works when ComfyUI knows the checkpoint.
fn uses(checkpoint: &str) -> Value {
    json!({
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "2": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1}
        },
        "3": {"class_type": "VAEDecode", "inputs": {"samples": ["2", 0], "vae": ["1", 2]}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "pic"}},
    })
}

async fn listed(product: &Product, folder: &str, name: &str) -> bool {
    let (status, models) = product.get("/models").await;
    assert_eq!(status, 200, "{models}");
    models[folder]
        .as_array()
        .is_some_and(|names| names.iter().any(|known| known == name))
}
