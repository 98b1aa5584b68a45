//! delivered: uploads, conversions, webhooks and system events, through the whole product.

mod conversions;
mod events;
mod uploads;
mod webhooks;

use base64::Engine;
use serde_json::{Value, json};

use crate::support::product::{Product, Stage};

/// One still, or several, of one colour.
pub fn picture(batch: u32) -> Value {
    json!({
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 48, "batch_size": batch, "color": 0x00C0_8040}
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "pic"}},
    })
}

/// Two nodes that save files of one stem: `pic_00001_.png` and `sub/pic_00001_.webp`.
pub fn picture_and_animation() -> Value {
    let mut graph = picture(2);
    graph["1"]["inputs"]["batch_size"] = json!(1);
    graph["3"] = json!({"class_type": "SaveAnimatedWEBP", "inputs": {
        "images": ["1", 0], "filename_prefix": "sub/pic", "fps": 6.0, "lossless": true,
        "quality": 80, "method": "default"}});
    graph
}

/// A graph that fails when it runs.
pub fn failing() -> Value {
    json!({
        "1": {"class_type": "SimFail", "inputs": {"message": "out of paint"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "pic"}},
        "3": {
            "class_type": "EmptyImage",
            "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}
        },
    })
}

/// A graph that takes a while.
pub fn slow(seconds: f64) -> Value {
    let mut graph = picture(1);
    graph["9"] = json!({"class_type": "SimSleep", "inputs": {"seconds": seconds, "steps": 5}});
    graph
}

/// The product, allowed to reach the servers of the tests.
pub fn stage() -> Stage {
    Stage::new().env("ALLOW_PRIVATE_NETWORKS", "true")
}

/// A URL where nothing listens.
pub fn nowhere() -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    format!("http://127.0.0.1:{port}")
}

/// The n-th file of a response.
pub fn file(body: &Value, n: usize) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD
        .decode(
            body["images"][n]
                .as_str()
                .unwrap_or_else(|| panic!("no file {n} in {body}")),
        )
        .unwrap()
}

/// A request that must be refused with a 400 before ComfyUI gets anything.
pub async fn refused(product: &Product, mut body: Value, location: &str, words: &[&str]) {
    if body.get("prompt").is_none() {
        body["prompt"] = picture(1);
    }
    let (status, answer) = product.prompt(&body).await;
    assert_eq!(
        (status, answer["code"].as_str()),
        (400, Some("invalid_request")),
        "{body}: {answer}"
    );
    let error = answer["error"].as_str().unwrap();
    assert!(
        words.iter().all(|word| error.contains(word)),
        "{words:?} in {error}"
    );
    assert!(
        answer["location"]
            .as_str()
            .unwrap_or_default()
            .starts_with(location),
        "{location} in {answer}"
    );
    assert_eq!(product.queued_in_comfyui(), 0, "it reached ComfyUI");
}
