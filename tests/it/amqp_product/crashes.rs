//! Tasks whose ComfyUI dies under them.

use serde_json::json;

use super::*;
use crate::amqp::stage::{unique, until};
use crate::support::rabbitmq::RabbitMq;
use crate::support::receiver::Receiver;

#[tokio::test(flavor = "multi_thread")]
async fn a_task_survives_the_death_of_comfyui_and_only_its_success_is_told() {
    let broker = RabbitMq::shared().await;
    let name = unique("crash");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let product = member(&broker.uri(), &name).start().await;
    let peer = Receiver::start().await;
    client
        .submit(
            &json!({"id": "tough", "prompt": slow_picture(6.0), "webhook_v2": peer.url("/hook")}),
        )
        .await;
    product.until_prompt("tough", "running").await;
    product.faults(json!({"crash": 3})).await;
    let events = events_of(&mut client, "tough").await;
    let kinds = kinds(&events);
    assert_eq!(
        kinds.get("event.result.execution_success"),
        Some(&1),
        "{kinds:?}"
    );
    assert_eq!(
        kinds.get("event.result.execution_start"),
        Some(&2),
        "it began twice: {kinds:?}"
    );
    let hooks = peer.wait("/hook", 1).await;
    assert_eq!(
        hooks
            .iter()
            .map(|hook| hook.json()["type"].clone())
            .collect::<Vec<_>>(),
        ["prompt.complete"],
        "what is tried again has not failed"
    );
    until("the queue is empty", async || client.waiting().await == 0).await;
    product.until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_kills_comfyui_every_time_is_given_up() {
    let broker = RabbitMq::shared().await;
    let name = unique("poison");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let product = member(&broker.uri(), &name)
        .env("AMQP_MAX_ATTEMPTS", "2")
        .start()
        .await;
    let peer = Receiver::start().await;
    let mut graph = slow_picture(0.0);
    graph["5"] = json!({"class_type": "SimCrash", "inputs": {"code": 7, "value": ["1", 0]}});
    client
        .submit(&json!({"id": "poison", "prompt": graph, "webhook_v2": peer.url("/hook")}))
        .await;
    let (kind, data) = end_of(&mut client, "poison").await;
    assert_eq!(
        (kind.as_str(), &data["type"]),
        ("execution_error", &json!("comfyui_unavailable")),
        "{data}"
    );
    client
        .submit(&json!({"id": "good", "prompt": picture()}))
        .await;
    assert_eq!(end_of(&mut client, "good").await.0, "execution_success");
    let hooks = peer.wait("/hook", 1).await;
    assert_eq!(
        hooks
            .iter()
            .map(|hook| hook.json()["type"].clone())
            .collect::<Vec<_>>(),
        ["prompt.failed"],
        "one word, when it is given up"
    );
    assert_eq!(product.log.count("task is given up (AMQP_MAX_ATTEMPTS)"), 1);
    until("the queue is empty", async || client.waiting().await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_with_its_comfyui_leaves_its_task_to_others() {
    let broker = RabbitMq::shared().await;
    let name = unique("fatal");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let settings = [
        ("ALWAYS_RESTART_COMFYUI", "false"),
        ("AMQP_MAX_ATTEMPTS", "2"),
    ];
    let mut mortal = member(&broker.uri(), &name).envs(&settings).start().await;
    client
        .submit(&json!({"id": "tough", "prompt": slow_picture(6.0)}))
        .await;
    mortal.until_prompt("tough", "running").await;
    mortal.faults(json!({"crash": 3})).await;
    assert_eq!(mortal.ended().await.code(), Some(1));
    let (_, gone, _) = client.next_of("service.instance.unregister").await;
    assert_eq!(gone["data"]["reason"], "failure", "{gone}");
    until("it waits for another", async || client.waiting().await == 1).await;
    let _other = member(&broker.uri(), &name).start().await;
    assert_eq!(end_of(&mut client, "tough").await.0, "execution_success");
    until("the queue is empty", async || client.waiting().await == 0).await;
}
