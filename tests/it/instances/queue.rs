//! Tasks of a queue on several ComfyUI.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::{all_ready, lasting, quick};
use crate::amqp::client::Client;
use crate::amqp::stage::unique;
use crate::support::product::{Stage, until};
use crate::support::rabbitmq::RabbitMq;

#[tokio::test(flavor = "multi_thread")]
async fn a_task_stays_here_when_its_comfyui_dies() {
    let broker = RabbitMq::shared().await;
    let name = unique("instances");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let stage = Stage::new()
        .instances(2)
        .env("AMQP_URL", broker.uri())
        .env("AMQP_QUEUE_INPUT", format!("in.{name}"))
        .env("AMQP_EXCHANGE_TOPIC", format!("topic.{name}"))
        .env("HEARTBEAT_INTERVAL", "100");
    let product = stage.start().await;
    all_ready(&product, 2).await;
    let (_, registered, _) = client.next_of("service.instance.register").await;
    let capabilities = &registered["data"]["capabilities"];
    assert_eq!(capabilities["max_concurrent_tasks"], 2, "{registered}");
    client
        .submit(&json!({"id": "a", "prompt": lasting(2.0)}))
        .await;
    product.until_prompt("a", "running").await;
    let (_, beat, _) = client.next_of("service.instance.heartbeat").await;
    assert_eq!(beat["data"]["status"], "IDLE", "{beat}");
    client
        .submit(&json!({"id": "b", "prompt": lasting(2.0)}))
        .await;
    product.until_prompt("b", "running").await;
    until("it is busy, and says with what", async || {
        let (_, beat, _) = client.next_of("service.instance.heartbeat").await;
        let busy = beat["data"]["status"] == "BUSY" && beat["data"]["current_task_id"] == "a";
        busy.then_some(())
    })
    .await;
    let (_, entry) = product.get("/prompt/a").await;
    let at = usize::try_from(entry["instance"].as_u64().unwrap()).unwrap();
    let (_, status) = product.get("/status").await;
    let pid = status["instances"][at]["pid"].as_i64().unwrap();
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    for _ in 0..2 {
        let (kind, body) = loop {
            let (key, body, _) = client.next_of("event.result.").await;
            if ["success", "error", "interrupted"]
                .iter()
                .any(|end| key.ends_with(end))
            {
                break (key, body);
            }
        };
        assert_eq!(kind, "event.result.execution_success", "{body}");
    }
    assert_eq!(client.waiting().await, 0);

    let mut poison = quick();
    poison["5"] = json!({"class_type": "SimCrash", "inputs": {"code": 1, "filename_prefix": "x"}});
    poison["6"] = json!({"class_type": "PreviewAny", "inputs": {"source": ["5", 0]}});
    client.submit(&json!({"id": "bad", "prompt": poison})).await;
    let (_, body) = loop {
        let (key, body, _) = client.next_of("event.result.").await;
        if key.ends_with("execution_error") {
            break (key, body);
        }
    };
    assert_eq!(body["task_id"], "bad");
    assert!(
        body["data"].to_string().contains("V2_MAX_ATTEMPTS"),
        "{body}"
    );
    let all = all_ready(&product, 2).await;
    let restarts: u64 = all
        .iter()
        .map(|one| one["restarts"].as_u64().unwrap())
        .sum();
    assert_eq!(restarts, 3, "{all:?}");
}
