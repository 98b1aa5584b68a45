//! System events: names, order, ids, metadata, and the last ones at shutdown.

use std::time::Duration;

use serde_json::{Value, json};

use super::{failing, picture, stage};
use crate::support::origin::{Origin, Reply};
use crate::support::product::until;
use crate::support::receiver::{Behaviour, Receiver};

/// A graph whose sampler sends progress and previews.
fn sampled() -> Value {
    json!({
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "m.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "x"}},
        "3": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1}
        },
        "4": {"class_type": "KSampler",
        "inputs": {"model": ["1", 0], "positive": ["2", 0], "negative": ["2", 0],
        "latent_image": ["3", 0],
            "seed": 1, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal",
            "denoise": 1.0}},
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "pic"}},
    })
}

fn names(receiver: &Receiver) -> Vec<String> {
    receiver
        .at("/events")
        .iter()
        .map(|one| one.json()["event"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_them() {
    let receiver = Receiver::start().await;
    let png = Origin::start(|_, _| {
        Reply::ok(include_bytes!("one.png").to_vec()).with("Content-Type", "image/png")
    })
    .await;
    let product = stage()
        .file("models/checkpoints/m.safetensors", "weights")
        .envs(&[
            ("SYSTEM_WEBHOOK_URL", receiver.url("/events").as_str()),
            ("SYSTEM_WEBHOOK_EVENTS", "all"),
            ("WEBHOOK_SECRET", crate::webhook::SECRET),
        ])
        .envs(&[
            ("SYSTEM_META_region", "eu"),
            ("SYSTEM_META_Rack_7", "b"),
            ("LRU_CACHE_SIZE_GB", "0.000000001"),
        ])
        .flags("--preview-method auto --step-ms 20")
        .start()
        .await;
    product.run("mine", &sampled()).await;
    product
        .prompt(&json!({"id": "bad", "prompt": failing()}))
        .await;
    let mut graph = picture(1);
    graph["1"] =
        json!({"class_type": "LoadImage", "inputs": {"image": png.url("/a.png?token=marked")}});
    let (status, body) = product
        .prompt(&json!({
            "id": "stored",
            "prompt": graph,
            "http_upload": {"url_prefix": receiver.url("/put")}
        }))
        .await;
    assert_eq!(status, 200, "{body}");
    product
        .prompt(&json!({
            "id": "again",
            "prompt": {
                "1": {"class_type": "LoadImage", "inputs": {"image": png.url("/b.png")}},
                "2": graph["2"]
            }
        }))
        .await;
    let wanted = [
        "comfy.status",
        "comfy.progress",
        "comfy.progress_state",
        "comfy.executing",
        "comfy.execution_start",
        "comfy.execution_cached",
        "comfy.executed",
        "comfy.execution_success",
        "comfy.execution_error",
        "comfy.logs",
        "comfy.binary_preview",
        "storage.file_downloaded",
        "storage.file_uploaded",
        "storage.file_deleted",
    ];
    until("every event has come", async || {
        let names = names(&receiver);
        wanted
            .iter()
            .all(|name| names.iter().any(|known| known == name))
            .then_some(())
    })
    .await;

    let comfy_ids: Vec<String> = product
        .log
        .lines()
        .iter()
        .filter(|line| line.contains("comfyui_id"))
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["comfyui_id"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert!(comfy_ids.len() >= 4);
    let mut ids = std::collections::HashSet::new();
    for one in receiver.at("/events") {
        let (text, body) = (String::from_utf8(one.body.to_vec()).unwrap(), one.json());
        // ComfyUI's own log lines may name whatever it names.
        assert!(
            body["event"] == "comfy.logs" || !comfy_ids.iter().any(|id| text.contains(id.as_str())),
            "ComfyUI's id in {text}"
        );
        assert!(!text.contains("marked"), "{text}");
        assert_eq!(body["metadata"], json!({"region": "eu", "Rack_7": "b"}));
        assert!(
            one.header("webhook-signature").starts_with("v1,")
                && ids.insert(one.header("webhook-id").to_owned())
        );
        let data = &body["data"];
        match body["event"].as_str().unwrap() {
            "comfy.progress_state" => {
                let nodes = data["data"]["nodes"].as_object().unwrap();
                assert!(
                    nodes
                        .values()
                        .all(|node| node["prompt_id"] == data["data"]["prompt_id"]),
                    "{body}"
                );
            }
            "comfy.binary_preview" => {
                assert!(
                    data["data"]["prompt_id"] == "mine"
                        && data["data"]["image_data"].is_string()
                        && data["data"]["image_type"].is_string(),
                    "{body}"
                )
            }
            "storage.file_downloaded" | "storage.file_uploaded" => {
                assert!(
                    data["url"].is_string()
                        && data["local_path"].is_string()
                        && data["size"].is_u64()
                        && data["duration"].is_number(),
                    "{body}"
                );
            }
            "storage.file_deleted" => assert!(
                data["url"].is_string() && data["local_path"].is_string() && data["size"].is_u64(),
                "{body}"
            ),
            name => assert_eq!(data["type"].as_str(), name.strip_prefix("comfy."), "{body}"),
        }
    }
    let mine: Vec<String> = receiver
        .at("/events")
        .iter()
        .map(crate::support::receiver::Received::json)
        .filter(|body| body["data"]["data"]["prompt_id"] == "mine")
        .map(|body| body["event"].as_str().unwrap().to_owned())
        .collect();
    let at = |name: &str| {
        mine.iter()
            .position(|known| known == name)
            .unwrap_or_else(|| panic!("no {name} in {mine:?}"))
    };
    assert!(
        at("comfy.execution_start") < at("comfy.executing")
            && at("comfy.executing") < at("comfy.progress"),
        "{mine:?}"
    );
    assert!(
        at("comfy.progress") < at("comfy.executed")
            && at("comfy.executed") < at("comfy.execution_success"),
        "{mine:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_chosen_ones_and_the_last_ones_at_shutdown() {
    let receiver = Receiver::start().await;
    receiver.behave(
        "/events",
        Behaviour::Slow(Duration::from_millis(60), reqwest::StatusCode::OK),
    );
    let mut product = stage()
        .envs(&[
            ("SYSTEM_WEBHOOK_URL", receiver.url("/events").as_str()),
            ("SYSTEM_WEBHOOK_EVENTS", "execution_success,execution_start"),
            ("SHUTDOWN_GRACE_S", "0"),
        ])
        .start()
        .await;
    for n in 0..10 {
        product.run(&format!("p{n}"), &picture(1)).await;
    }
    assert_eq!(product.stop().await, Some(0));
    let told: Vec<(String, String)> = receiver
        .at("/events")
        .iter()
        .map(|one| {
            let body = one.json();
            (
                body["event"].as_str().unwrap().to_owned(),
                body["data"]["data"]["prompt_id"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            )
        })
        .collect();
    let expected: Vec<(String, String)> = (0..10)
        .flat_map(|n| {
            ["comfy.execution_start", "comfy.execution_success"]
                .map(|name| (name.to_owned(), format!("p{n}")))
        })
        .collect();
    assert_eq!(told, expected);
}
