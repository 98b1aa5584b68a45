//! A42: an instance whose disk is full takes no tasks, and costs none.

use serde_json::json;

use super::*;
use crate::amqp::stage::{unique, until};
use crate::support::rabbitmq::RabbitMq;
use crate::support::tmpfs::Disk;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_eats_no_tasks() {
    let broker = RabbitMq::shared().await;
    let name = unique("full");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let stage = member(&broker.uri(), &name).env("AMQP_PREFETCH", "2");
    let Some(mounted) = Disk::over(&stage.path("output"), 8) else {
        return;
    };
    let sick = stage.start().await;
    let disk = mounted;
    let healthy = member(&broker.uri(), &name).start().await;
    disk.fill();
    let tasks = 16;
    for number in 0..tasks {
        // Slow enough that the one which fails at once would get most of them.
        let mut graph = slow_picture(0.1);
        graph["1"]["inputs"]["color"] = json!(number);
        client
            .submit(&json!({"id": format!("t{number}"), "prompt": graph}))
            .await;
    }
    let mut ended = std::collections::BTreeSet::new();
    while ended.len() < tasks {
        let (key, envelope) = client.next_result().await;
        assert_ne!(key, "execution_error", "{envelope}");
        if key == "execution_success" {
            ended.insert(envelope["task_id"].as_str().unwrap().to_owned());
        }
    }
    sick.until_status("/ready", 503).await;
    let (_, ready) = sick.get("/ready").await;
    let reason = ready["reason"].as_str().unwrap();
    assert!(
        reason.contains(&sick.path("output").display().to_string()),
        "{ready}"
    );
    assert_eq!(healthy.get("/ready").await.0, 200);
    until("the queue is empty", async || client.waiting().await == 0).await;
    disk.empty();
    sick.until_ready().await;
    drop(healthy);
    client
        .submit(&json!({"id": "last", "prompt": picture()}))
        .await;
    assert_eq!(end_of(&mut client, "last").await.0, "execution_success");
}
