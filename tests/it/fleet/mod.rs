//! A gateway and its instances as processes, on a real RabbitMQ (docs/contract/fleet.md, part 2).

mod address;
mod agents;
mod asleep;
mod bad_input;
mod breaks;
mod limits;
mod messages;
mod told;
mod traces;
mod ways;
mod wire;

use std::time::Duration;

use serde_json::{Value, json};

use crate::amqp::client::Client;
use crate::amqp::stage::unique;
use crate::support::product::{Product, Stage, until};

/// A gateway with a queue and an exchange of its own, and what its instances need to find them.
struct Fleet {
    uri: String,
    name: String,
    gateway: Product,
}

impl Fleet {
    async fn start(uri: &str) -> Self {
        Self::with(uri, &[]).await
    }

    async fn with(uri: &str, env: &[(&str, &str)]) -> Self {
        let name = unique("fleet");
        let gateway = gateway(uri, &name).envs(env).start().await;
        Self {
            uri: uri.to_owned(),
            name,
            gateway,
        }
    }

    fn instance(&self, id: &str) -> Stage {
        let queue = format!("in.{}", self.name);
        let exchange = format!("topic.{}", self.name);
        Stage::new().envs(&[
            ("AMQP_URL", &self.uri),
            ("AMQP_QUEUE_INPUT", &queue),
            ("AMQP_EXCHANGE_TOPIC", &exchange),
            ("INSTANCE_ID", id),
            ("HEARTBEAT_INTERVAL", "300"),
            ("ALWAYS_RESTART_COMFYUI", "true"),
            ("SHUTDOWN_GRACE_S", "2"),
        ])
    }

    /// Waits until an instance is seen in a state.
    async fn until_seen(&self, id: &str, status: &str) {
        until(&format!("{id} is seen as {status}"), async || {
            let (code, list) = self.gateway.get("/instances").await;
            assert_eq!(code, 200, "{list}");
            let found =
                list.as_array().unwrap().iter().any(|one| {
                    one["id"] == id && one["status"] == status && !one["version"].is_null()
                });
            found.then_some(())
        })
        .await;
    }
}

/// The gateway of [`Fleet`], not started.
fn gateway(uri: &str, name: &str) -> Stage {
    let queue = format!("in.{name}");
    let exchange = format!("topic.{name}");
    Stage::new().arguments(&["gateway"]).envs(&[
        ("AMQP_URL", uri),
        ("GATEWAY_QUEUES", &format!("{queue},other.{name}")),
        ("AMQP_EXCHANGE_TOPIC", &exchange),
        ("WEBHOOK_SECRET", ""),
        ("ALLOW_PRIVATE_NETWORKS", "true"),
        ("SHUTDOWN_GRACE_S", "2"),
    ])
}

fn picture(color: u32) -> Value {
    json!({
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": color}
        },
        "9": {
            "class_type": "SaveImage",
            "inputs": {"filename_prefix": "picture", "images": ["1", 0]}
        },
    })
}

fn slow(color: u32, seconds: f64) -> Value {
    let mut graph = picture(color);
    graph["5"] = json!({
        "class_type": "SimSleep",
        "inputs": {"seconds": seconds, "steps": 10, "value": ["1", 0]}
    });
    graph["9"]["inputs"]["images"] = json!(["5", 0]);
    graph
}

fn load(image: &Value) -> Value {
    json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "9": {
            "class_type": "SaveImage",
            "inputs": {"filename_prefix": "picture", "images": ["1", 0]}
        },
    })
}

fn nonsense() -> Value {
    json!({"1": {"class_type": "NoSuchNode", "inputs": {}}})
}

/// The end of a v2 job.
async fn ended(product: &Product, id: &str) -> Value {
    until(&format!("the end of {id}"), async || {
        let (status, job) = product.get(&format!("/api/v2/jobs/{id}?wait=5")).await;
        assert_eq!(status, 200, "{job}");
        let over = ["succeeded", "failed", "canceled", "expired"];
        over.iter().any(|end| job["status"] == *end).then_some(job)
    })
    .await
}

/// The next event that says what became of a task.
async fn ended_as(client: &mut Client) -> (String, Value) {
    loop {
        let (kind, event) = client.next_result().await;
        let ends = ["success", "error", "interrupted", "requeued"];
        if ends.iter().any(|end| kind.ends_with(end)) {
            return (kind, event);
        }
    }
}

/// Nothing of an ended job is left at the gateway.
async fn until_clean(product: &Product) {
    let jobs = product.path(".local/state/comfyui-api/fleet/jobs");
    until("the gateway's folder is empty", async || {
        let left = std::fs::read_dir(&jobs).map_or(0, Iterator::count);
        (left == 0).then_some(())
    })
    .await;
}

async fn pause(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

async fn declare(channel: &lapin::Channel, queue: &str) {
    let options = lapin::options::QueueDeclareOptions::default();
    channel
        .queue_declare(queue.into(), options, Default::default())
        .await
        .unwrap();
}

/// Declares a queue; what comes into it.
async fn listen(channel: &lapin::Channel, queue: &str) -> lapin::Consumer {
    declare(channel, queue).await;
    let options = lapin::options::BasicConsumeOptions {
        no_ack: true,
        ..Default::default()
    };
    channel
        .basic_consume(queue.into(), "".into(), options, Default::default())
        .await
        .unwrap()
}
