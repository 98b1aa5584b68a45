//! An instance's coming, life and going as the fleet sees it.

use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::json;

use super::*;
use crate::amqp::stage::{unique, until};
use crate::support::chaos_proxy::ChaosProxy;
use crate::support::rabbitmq::RabbitMq;

/// The data of the next heartbeat with this status.
async fn heartbeat(client: &mut Client, status: &str) -> Value {
    let deadline = Instant::now() + crate::amqp::stage::PATIENCE;
    loop {
        let (_, envelope, _) = client.next_of("service.instance.heartbeat").await;
        if envelope["data"]["status"] == status {
            return envelope["data"].clone();
        }
        assert!(
            Instant::now() < deadline,
            "no heartbeat says {status}, the last one was {envelope}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_registers_beats_drains_and_leaves() {
    let broker = RabbitMq::shared().await;
    let name = unique("life");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let more = [
        ("HEARTBEAT_ENABLED", "true"),
        ("HEARTBEAT_INTERVAL", "150"),
        ("INSTANCE_ID", "gpu-7"),
        ("INSTANCE_GPU_VRAM", "40G"),
        ("INSTANCE_DEDICATED_ID", "somebody"),
        ("API_URL", "http://gpu-7:3000"),
        ("SUPPORTED_MODELS", "sd, flux"),
    ];
    let mut product = member(&broker.uri(), &name)
        .envs(&more)
        .flags("--slow-start 1")
        .launch()
        .await;
    let (key, registered, mode) = client.next().await;
    product.until_ready().await;
    assert_eq!(
        (key.as_str(), mode),
        ("service.instance.register", Some(2)),
        "{registered}"
    );
    let data = &registered["data"];
    assert_eq!(
        (
            &data["instance_id"],
            &data["api_url"],
            &data["type"],
            &data["monopolize_type"]
        ),
        (
            &json!("gpu-7"),
            &json!("http://gpu-7:3000"),
            &json!(2),
            &json!(1)
        ),
        "{data}"
    );
    assert_eq!(
        data["capabilities"]["supported_models"],
        json!(["sd", "flux"])
    );
    product.log.line("Instance registered: gpu-7").await;
    assert!(
        registered["metadata"]["container_id"].is_string()
            && registered["metadata"]["region"] == "eu"
    );

    let beat = heartbeat(&mut client, "IDLE").await;
    assert_eq!(
        (&beat["current_task_id"], &beat["queue_size"]),
        (&Value::Null, &json!(0)),
        "{beat}"
    );
    client
        .submit(&json!({"id": "work", "prompt": slow_picture(2.5)}))
        .await;
    product.until_prompt("work", "running").await;
    let beat = heartbeat(&mut client, "BUSY").await;
    let beat = if beat["queue_size"] == 1 {
        beat
    } else {
        heartbeat(&mut client, "BUSY").await
    };
    assert_eq!(
        (&beat["current_task_id"], &beat["queue_size"]),
        (&json!("work"), &json!(1)),
        "{beat}"
    );

    // A ComfyUI that is down.
    product.faults(json!({"crash": 1})).await;
    heartbeat(&mut client, "UNAVAILABLE").await;
    // The task goes back, is taken again, and is at work when the signal comes.
    product.until_ready().await;
    product.until_prompt("work", "running").await;
    product.signal(Signal::SIGTERM);
    let beat = heartbeat(&mut client, "DRAINING").await;
    assert_eq!(beat["current_task_id"], "work");
    let (kind, _) = end_of(&mut client, "work").await;
    assert_eq!(
        kind, "execution_success",
        "it may finish within the grace period"
    );
    let (_, gone, mode) = client.next_of("service.instance.unregister").await;
    assert_eq!(
        (
            &gone["event_type"],
            &gone["data"]["instance_id"],
            &gone["data"]["api_url"],
            mode
        ),
        (
            &json!("instance_unregister"),
            &json!("gpu-7"),
            &json!("http://gpu-7:3000"),
            Some(2)
        )
    );
    assert_eq!(gone["data"]["reason"], "SIGTERM", "{gone}");
    assert_eq!(product.ended().await.code(), Some(0));
    assert_eq!(client.waiting().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_done_within_the_grace_period_goes_back_for_another() {
    let broker = RabbitMq::shared().await;
    let name = unique("grace");
    let mut client = Client::connect(&broker.uri(), &name).await;
    // Even at its last attempt: shutting down is none of the task's fault.
    let settings = [("SHUTDOWN_GRACE_S", "1"), ("AMQP_MAX_ATTEMPTS", "1")];
    let mut leaver = member(&broker.uri(), &name).envs(&settings).start().await;
    client
        .submit(&json!({"id": "long", "prompt": slow_picture(60.0)}))
        .await;
    client
        .submit(&json!({"id": "next", "prompt": picture()}))
        .await;
    leaver.until_prompt("long", "running").await;
    leaver.signal(Signal::SIGINT);
    client.next_of("service.instance.unregister").await;
    assert_eq!(leaver.ended().await.code(), Some(0));
    until("both wait for others", async || client.waiting().await == 2).await;

    let other = member(&broker.uri(), &name).start().await;
    other.until_prompt("long", "running").await;
    let (status, _) = other.delete("/prompt/long").await;
    assert_eq!(status, 200);
    let events = events_of(&mut client, "long").await;
    let ends = kinds(&events)
        .into_iter()
        .filter(|(key, _)| {
            ["success", "error", "interrupted"]
                .iter()
                .any(|end| key.ends_with(end))
        })
        .collect::<Vec<_>>();
    assert_eq!(
        ends,
        [("event.result.execution_interrupted", 1)],
        "the one who left said nothing about its end"
    );
    assert_eq!(end_of(&mut client, "next").await.0, "execution_success");
    until("the queue is empty", async || client.waiting().await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_concerns_ready_only_when_required() {
    let broker = RabbitMq::shared().await;
    let name = unique("required");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let proxy = ChaosProxy::start(broker.address()).await;
    proxy.refuse();
    let uri = format!("amqp://guest:guest@{}/%2f", proxy.address());
    let product = member(&uri, &name)
        .env("AMQP_REQUIRED", "true")
        .launch()
        .await;
    let relaxed = member(&uri, &unique("relaxed")).start().await;
    relaxed.run("web", &picture()).await;
    product.until_status("/health", 200).await;
    let (status, body) = product.get("/ready").await;
    assert_eq!((status, body["status"].as_str()), (503, Some("not ready")));
    assert!(body["reason"].as_str().unwrap().contains("AMQP"), "{body}");
    product.run("web", &picture()).await;
    proxy.pass();
    product.until_ready().await;
    client.next_of("service.instance.register").await;
    client
        .submit(&json!({"id": "task", "prompt": picture()}))
        .await;
    assert_eq!(end_of(&mut client, "task").await.0, "execution_success");
    // Cut off again: not ready, and registered anew afterwards.
    proxy.refuse();
    product.until_status("/ready", 503).await;
    proxy.pass();
    product.until_ready().await;
    client.next_of("service.instance.register").await;
    assert!(
        !product.log.text().contains("guest:guest"),
        "the log shows no password"
    );
}
