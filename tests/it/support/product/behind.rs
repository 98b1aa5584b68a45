//! The same tests, with a fleet in place of the server: `COMFYUI_API_TEST_BEHIND=gateway` starts a
//! gateway, a broker for all tests and two instances (`gateway:1`: one) with the test's variables,
//! and hands the gateway to the test (tests/judge_fleet.py).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

use super::{BINARY, Log, Product, Stage, free_port, until};
use crate::amqp::stage::unique;
use crate::support::rabbitmq::RabbitMq;

/// Heartbeats are this far apart, in milliseconds.
const HEARTBEAT_MS: u64 = 1000;
/// Those of the gateway alone: an instance that had them would tell everybody twice, or would be
/// another gateway.
const NOT_FOR_INSTANCES: [&str; 5] = [
    "STATE_DIR",
    "HISTORY_FILE",
    "API_KEYS",
    "MAX_QUEUE_DEPTH",
    "SYSTEM_WEBHOOK_URL",
];

/// How many instances tests run against; none: against the server itself.
fn wanted() -> usize {
    match std::env::var("COMFYUI_API_TEST_BEHIND").as_deref() {
        Ok("gateway") => 2,
        Ok("gateway:1") => 1,
        _ => 0,
    }
}

/// Whether tests run against a fleet.
pub fn is_wanted() -> bool {
    wanted() > 0
}

/// One of those that do the work.
pub struct Instance {
    /// What it prints.
    pub log: Log,
    /// Where its ComfyUI listens.
    pub comfy_port: u16,
    name: String,
    child: Child,
}

/// Starts a gateway and its instances, and waits until the gateway listens.
pub async fn launch(stage: Stage) -> Product {
    let broker = RabbitMq::shared().await;
    let name = unique("judge");
    // Those of this name have priorities.
    let queue = format!("q.gpu.{name}");
    let exchange = format!("topic.{name}");
    let with_broker = stage.envs(&[
        ("AMQP_URL", &broker.uri()),
        ("AMQP_EXCHANGE_TOPIC", &exchange),
    ]);
    let attached = with_broker.command.as_deref() == Some("");
    let own_port = with_broker.comfy_port;
    let instances = (0..wanted()).map(|index| {
        let other = index > 0 && !attached;
        let port = if other { free_port() } else { own_port };
        instance(&with_broker, index, port, &queue)
    });
    let instances = instances.collect();
    let gateway = with_broker
        .env("GATEWAY_QUEUES", queue)
        .arguments(&["gateway"]);
    let mut product = gateway.launch_alone().await;
    product.behind = instances;
    product
}

fn instance(stage: &Stage, index: usize, port: u16, queue: &str) -> Instance {
    let home = stage.path("");
    let own = home.join(format!(".fleet/{index}"));
    std::fs::create_dir_all(&own).unwrap();
    let mut env: BTreeMap<String, String> = stage.env.clone();
    env.retain(|name, _| !NOT_FOR_INSTANCES.contains(&name.as_str()));
    let name = format!("instance-{index}");
    let own_values = [
        ("PORT", "0".to_owned()),
        ("STATE_DIR", own.join("state").display().to_string()),
        ("CACHE_DIR", own.join("cache").display().to_string()),
        ("AMQP_QUEUE_INPUT", queue.to_owned()),
        ("INSTANCE_ID", name.clone()),
        ("HEARTBEAT_INTERVAL", HEARTBEAT_MS.to_string()),
    ];
    env.extend(own_values.map(|(name, value)| (name.to_owned(), value)));
    env.entry("ALWAYS_RESTART_COMFYUI".to_owned())
        .or_insert_with(|| "true".to_owned());
    let mut child = Command::new(BINARY)
        .env_clear()
        .env("CMD", command(stage, &home, &own, port))
        .env("COMFYUI_PORT_HOST", port.to_string())
        .envs(env)
        .current_dir(&home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let log = Log::default();
    log.follow(child.stdout.take().unwrap());
    log.follow(child.stderr.take().unwrap());
    Instance {
        log,
        comfy_port: port,
        name,
        child,
    }
}

/// They share inputs, outputs and models, as instances on one machine do; each has temporary files
/// of its own.
fn command(stage: &Stage, home: &Path, own: &Path, port: u16) -> String {
    stage.command.clone().unwrap_or_else(|| {
        format!(
            "{BINARY} simulate-comfyui --port {port} --base-directory '{}' --temp-directory '{}' \
             {}",
            home.display(),
            own.display(),
            stage.flags
        )
    })
}

impl Product {
    /// How many prompts have come to a ComfyUI.
    pub fn queued_in_comfyui(&self) -> usize {
        let queued = |log: &Log| log.count("prompt queued");
        if self.behind.is_empty() {
            return queued(&self.log);
        }
        self.behind.iter().map(|one| queued(&one.log)).sum()
    }

    /// Waits until the instances behind a gateway take tasks, the gateway has heard of it, and what
    /// their ComfyUI offers is known.
    pub(super) async fn until_behind_is_ready(&self) {
        for instance in &self.behind {
            instance.log.line("AMQP tasks are taken").await;
        }
        if self.behind.is_empty() {
            return;
        }
        self.log
            .line("the catalogue of the instances is known")
            .await;
        until("the gateway has heard of its instances", async || {
            let (status, list) = self.get("/instances").await;
            if status != 200 {
                // Only those with a key may ask; the next heartbeat says it.
                tokio::time::sleep(Duration::from_millis(3 * HEARTBEAT_MS)).await;
                return Some(());
            }
            // One that has a job of the process before is ready, too.
            let ready = |instance: &Instance| {
                let of = |one: &&Value| one["id"] == *instance.name;
                let list = list.as_array().unwrap();
                list.iter().find(of).is_some_and(|one| {
                    one["status"] == "IDLE" || one["current_task_id"].is_string()
                })
            };
            self.behind.iter().all(ready).then_some(())
        })
        .await;
    }
}
