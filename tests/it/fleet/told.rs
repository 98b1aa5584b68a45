//! What ComfyUI says while a job is with the fleet: all of it, and in its order.

use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, BasicPublishOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;

use super::*;
use crate::amqp::stage::connect;
use crate::delivered::failing;
use crate::support::rabbitmq::RabbitMq;
use crate::support::receiver::Receiver;
use crate::support::sse::Sse;

async fn stream(gateway: &Product, body: &Value) -> Sse {
    let request = gateway
        .http
        .post(format!("{}/prompt", gateway.url))
        .header("accept", "text/event-stream")
        .json(body);
    Sse::new(request.send().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comfyui_says_comes_to_streams_and_to_the_system_webhook_of_the_gateway() {
    let broker = RabbitMq::shared().await;
    let receiver = Receiver::start().await;
    let system = receiver.url("/events").to_string();
    let variables = [
        ("SYSTEM_WEBHOOK_URL", system.as_str()),
        ("SYSTEM_WEBHOOK_EVENTS", "all"),
    ];
    let fleet = Fleet::with(&broker.uri(), &variables).await;
    let gateway = &fleet.gateway;
    let _instance = fleet.instance("one").start().await;
    fleet.until_seen("one", "IDLE").await;
    gateway.run("good", &slow(1, 0.3)).await;
    let mut told = stream(gateway, &json!({"id": "bad", "prompt": failing()})).await;
    let error = told.until("execution_error").await;
    let last = told.rest().await;
    assert_eq!(last.last().unwrap().name, "error");
    let said = error.data.to_string();
    assert!(said.contains("out of paint"), "{said}");
    let mut long = stream(gateway, &json!({"id": "long", "prompt": slow(2, 20.0)})).await;
    long.until("progress").await;
    let (_, entry) = gateway.get("/prompt/long").await;
    assert_eq!(entry["progress"]["node"], "5", "{entry}");
    assert_eq!(gateway.delete("/prompt/long").await.0, 200);
    long.rest().await;

    let wanted = [
        ("comfy.status", ""),
        ("comfy.execution_start", "good"),
        ("comfy.execution_cached", "good"),
        ("comfy.executing", "good"),
        ("comfy.progress", "good"),
        ("comfy.progress_state", "good"),
        ("comfy.executed", "good"),
        ("comfy.execution_success", "good"),
        ("comfy.execution_error", "bad"),
        ("comfy.execution_interrupted", "long"),
    ];
    until("every event has come", async || {
        let all: Vec<Value> = receiver
            .at("/events")
            .iter()
            .map(|one| one.json())
            .collect();
        let came = |(name, id): &(&str, &str)| {
            all.iter().any(|event| {
                let about = event["data"]["data"]["prompt_id"].as_str();
                event["event"] == *name && (id.is_empty() || about == Some(id))
            })
        };
        wanted.iter().all(came).then_some(())
    })
    .await;
    for name in [
        "execution_error",
        "execution_interrupted",
        "execution_success",
    ] {
        let name = format!("comfy.{name}");
        let told = receiver.at("/events");
        let times = told
            .iter()
            .filter(|one| one.json()["event"] == name.as_str());
        assert_eq!(times.count(), 1, "{name}");
    }
}

/// The two queues of answers overtake each other as they like.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_shown_in_the_order_in_which_they_were_sent() {
    let broker = RabbitMq::shared().await;
    let name = unique("order");
    let fleet = Fleet::with(&broker.uri(), &[("GATEWAY_ID", &name)]).await;
    let body = json!({"id": "told", "prompt": picture(1)});
    let mut shown = stream(&fleet.gateway, &body).await;
    let connection = connect(&broker.uri()).await;
    let channel = connection.create_channel().await.unwrap();
    let queue = format!("in.{}", fleet.name);
    let message = until("the message", async || {
        let getting = channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true });
        getting.await.unwrap()
    })
    .await;
    let correlation = message.properties.correlation_id().clone().unwrap();
    let send = async |queue: &str, kind: &str, node: &str, counts: &[(&str, i64)]| {
        let mut headers = FieldTable::default();
        headers.insert("instance".into(), AMQPValue::LongString("me".into()));
        for (name, count) in counts {
            headers.insert((*name).into(), AMQPValue::LongLongInt(*count));
        }
        let properties = BasicProperties::default()
            .with_headers(headers)
            .with_correlation_id(correlation.clone());
        let data = json!({"prompt_id": "told", "node": node, "message": "enough"});
        let body = json!({"event_type": kind, "data": data}).to_string();
        let options = BasicPublishOptions::default();
        let body = body.as_bytes();
        let sent = channel.basic_publish("".into(), queue.into(), options, body, properties);
        sent.await.unwrap();
    };
    let lasting = format!("q.gateway.{name}");
    let stream = format!("{lasting}.stream");
    send(&lasting, "executed", "1", &[("after", 2)]).await;
    send(&stream, "executing", "1", &[("number", 1), ("after", 0)]).await;
    send(&stream, "executing", "2", &[("number", 3), ("after", 1)]).await;
    // It says that it comes before the one that is waited for.
    send(&stream, "executing", "late", &[("number", 2), ("after", 0)]).await;
    send(&lasting, "executed", "2", &[("after", 3)]).await;
    let mut nodes = Vec::new();
    while nodes.last().is_none_or(|last| last != "executed 2") {
        let event = shown.next().await.unwrap();
        if ["executing", "executed"].contains(&event.kind()) {
            let node = event.data["data"]["node"].as_str().unwrap();
            nodes.push(format!("{} {node}", event.kind()));
        }
    }
    send(&lasting, "execution_error", "", &[("after", 3)]).await;
    let all = shown.rest().await;
    assert_eq!(all.last().unwrap().name, "error", "{nodes:?}");
    let wanted = ["executing 1", "executed 1", "executing 2", "executed 2"];
    assert_eq!(nodes, wanted);
    let more = |event: &crate::support::sse::Event| event.kind() == "executing";
    assert!(!all.iter().any(more), "{all:?}");
}
