//! The queue transport of the whole product: the real binary, a real RabbitMQ, the simulator as
//! ComfyUI.

mod crashes;
mod failures;
mod fleet;
mod full_disk;
mod life;
mod results;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::amqp::client::Client;
use crate::support::product::Stage;

/// A product on the queue and the exchange of a [`Client`] with this name.
fn member(uri: &str, name: &str) -> Stage {
    let (queue, exchange) = (format!("in.{name}"), format!("topic.{name}"));
    Stage::new().env("AMQP_URL", uri).envs(&[
        ("AMQP_QUEUE_INPUT", &queue),
        ("AMQP_EXCHANGE_TOPIC", &exchange),
        ("HEARTBEAT_ENABLED", "false"),
        ("ALWAYS_RESTART_COMFYUI", "true"),
        ("ALLOW_PRIVATE_NETWORKS", "true"),
        ("SYSTEM_META_region", "eu"),
    ])
}

/// One small picture; no seed, so that ComfyUI takes it from its cache the second time.
fn picture() -> Value {
    json!({
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255}
        },
        "9": {
            "class_type": "SaveImage",
            "inputs": {"filename_prefix": "picture", "images": ["1", 0]}
        },
    })
}

/// A picture that takes so long.
fn slow_picture(seconds: f64) -> Value {
    let mut graph = picture();
    graph["5"] = json!({
        "class_type": "SimSleep",
        "inputs": {"seconds": seconds, "steps": 10, "value": ["1", 0]}
    });
    graph["9"]["inputs"]["images"] = json!(["5", 0]);
    graph
}

/// Text to image with a checkpoint that [`with_checkpoint`] puts in place.
fn sampled(steps: u32) -> Value {
    json!({
        "model": {
            "class_type": "CheckpointLoaderSimple",
            "inputs": {"ckpt_name": "sd.safetensors"}
        },
        "text": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["model", 1]}},
        "canvas": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1}
        },
        "sample": {"class_type": "KSampler",
        "inputs": {"seed": 1, "steps": steps, "cfg": 7, "sampler_name": "euler",
        "scheduler": "normal", "denoise": 1,
            "model": ["model", 0], "positive": ["text", 0], "negative": ["text", 0],
            "latent_image": ["canvas", 0]}},
        "decode": {
            "class_type": "VAEDecode",
            "inputs": {"samples": ["sample", 0], "vae": ["model", 2]}
        },
        "save": {
            "class_type": "SaveImage",
            "inputs": {"filename_prefix": "x", "images": ["decode", 0]}
        },
    })
}

fn with_checkpoint(stage: Stage) -> Stage {
    stage.file("models/checkpoints/sd.safetensors", "weights")
}

/// One message of the exchange.
#[derive(Debug)]
struct Event {
    key: String,
    envelope: Value,
    persistent: bool,
}

impl Event {
    fn data(&self) -> &Value {
        &self.envelope["data"]
    }
}

/// Everything up to and with the end of a task.
async fn events_of(client: &mut Client, id: &str) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let (key, envelope, mode) = client.next_of("event.").await;
        let last = envelope["task_id"] == id
            && [
                "execution_success",
                "execution_error",
                "execution_interrupted",
            ]
            .iter()
            .any(|end| key.ends_with(end));
        events.push(Event {
            key,
            envelope,
            persistent: mode == Some(2),
        });
        if last {
            return events;
        }
    }
}

/// The end of the next task: its kind and its data.
async fn end_of(client: &mut Client, id: &str) -> (String, Value) {
    let mut events = events_of(client, id).await;
    let mut last = events.pop().unwrap();
    (
        last.key["event.result.".len()..].to_owned(),
        last.envelope["data"].take(),
    )
}

/// How often each kind of event came.
fn kinds(events: &[Event]) -> BTreeMap<&str, usize> {
    let mut kinds = BTreeMap::new();
    for event in events {
        *kinds.entry(event.key.as_str()).or_default() += 1;
    }
    kinds
}
