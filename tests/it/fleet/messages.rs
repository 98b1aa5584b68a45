//! What is in a message and what is not, and where there is no other way than the message.

use lapin::message::BasicGetMessage;
use lapin::options::{BasicGetOptions, QueueDeleteOptions};
use lapin::types::AMQPValue;
use serde_json::json;

use super::*;
use crate::amqp::stage::connect;
use crate::support::rabbitmq::{MAX_MESSAGE_BYTES, RabbitMq};

async fn taken(fleet: &Fleet) -> BasicGetMessage {
    let connection = connect(&fleet.uri).await;
    let channel = connection.create_channel().await.unwrap();
    let queue = format!("in.{}", fleet.name);
    let get = BasicGetOptions { no_ack: true };
    channel
        .basic_get(queue.as_str().into(), get)
        .await
        .unwrap()
        .expect("a message")
}

/// A graph with a text of so many bytes.
fn long(bytes: usize) -> Value {
    let mut graph = picture(1);
    graph["9"]["_meta"] = json!({"title": "x".repeat(bytes)});
    graph
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_and_webhooks_are_not_in_the_message_and_the_claim_hands_out_the_secrets() {
    let broker = RabbitMq::shared().await;
    let fleet = Fleet::start(&broker.uri()).await;
    let gateway = &fleet.gateway;
    let body = json!({
        "id": "told", "prompt": picture(1), "priority": 3,
        "webhook_v2": "http://127.0.0.1:1/hook-of-mine",
        "credentials": [{
            "url_pattern": "http://127.0.0.1:9/*",
            "auth": {"type": "bearer", "token": "sesame-one"}
        }],
        "extra_data": {"api_key_comfy_org": "sesame-two"},
    });
    let (status, body) = gateway.prompt(&body).await;
    assert_eq!(status, 202, "{body}");
    gateway.until_prompt("told", "pending").await;
    let message = taken(&fleet).await;
    let properties = &message.properties;
    let text = String::from_utf8(message.data.clone()).unwrap();
    let everything = format!("{text} {properties:?}");
    for secret in ["sesame", "hook-of-mine"] {
        assert!(!everything.contains(secret), "{everything}");
    }
    let headers = properties.headers().as_ref().unwrap().inner();
    assert_eq!(headers["secrets"], AMQPValue::Boolean(true));
    assert_eq!(headers["previews"], AMQPValue::Boolean(false));
    assert_eq!(
        (*properties.delivery_mode(), *properties.priority()),
        (Some(2), Some(3))
    );
    assert!(properties.expiration().is_none());
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "told");
    uuid::Uuid::parse_str(properties.correlation_id().as_ref().unwrap().as_str()).unwrap();
    assert!(
        properties
            .reply_to()
            .as_ref()
            .unwrap()
            .as_str()
            .starts_with("q.gateway.")
    );
    let AMQPValue::LongString(address) = &headers["gateway"] else {
        panic!("{headers:?}");
    };
    let claim = format!("{}/claim", String::from_utf8_lossy(address.as_bytes()));
    let granted = gateway
        .http
        .post(claim)
        .json(&json!({"instance_id": "me"}))
        .send()
        .await
        .unwrap();
    let granted: Value = granted.json().await.unwrap();
    assert_eq!(
        granted["extra_data"],
        json!({"api_key_comfy_org": "sesame-two"})
    );
    assert_eq!(granted["credentials"][0]["auth"]["token"], "sesame-one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_gone_and_a_job_that_does_not_fit_are_said_at_once() {
    let broker = RabbitMq::shared().await;
    let fleet = Fleet::start(&broker.uri()).await;
    let gateway = &fleet.gateway;
    // The broker's limit is found out by what it says, and counts from then on.
    for length in [MAX_MESSAGE_BYTES + 1000, MAX_MESSAGE_BYTES + 10] {
        let (status, body) = gateway.prompt(&json!({"prompt": long(length)})).await;
        assert_eq!(
            (status, &body["code"]),
            (413, &json!("payload_too_large")),
            "{body}"
        );
        assert!(
            body["error"]
                .as_str()
                .unwrap()
                .contains("AMQP_MAX_MESSAGE_MB"),
            "{body}"
        );
    }
    gateway.until_ready().await;
    let fits =
        gateway.prompt_later(json!({"id": "fits", "prompt": long(MAX_MESSAGE_BYTES - 10_000)}));
    gateway.until_prompt("fits", "pending").await;
    gateway.delete("/prompt/fits").await;
    fits.await.unwrap();

    let connection = connect(&broker.uri()).await;
    let channel = connection.create_channel().await.unwrap();
    let queue = format!("in.{}", fleet.name);
    let gone = QueueDeleteOptions::default();
    channel
        .queue_delete(queue.as_str().into(), gone)
        .await
        .unwrap();
    let answer = gateway
        .http
        .post(format!("{}/prompt", gateway.url))
        .json(&json!({"prompt": picture(1)}))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["code"], "comfyui_unavailable", "{body}");
    assert!(
        body["error"].as_str().unwrap().contains("no such queue"),
        "{body}"
    );
    let (_, queue) = gateway.get("/queue").await;
    assert_eq!(
        (&queue["running"], &queue["pending"]),
        (&json!([]), &json!([])),
        "{queue}"
    );
    until_clean(gateway).await;
    // It is declared again by whoever needs it.
    until("the queue is there again", async || {
        let (status, _) = gateway
            .post("/api/v2/jobs", &json!({"workflow": picture(1)}))
            .await;
        (status == 201).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_address_everything_travels_in_messages() {
    let broker = RabbitMq::shared().await;
    let fleet = Fleet::with(&broker.uri(), &[("GATEWAY_URL", "none")]).await;
    let gateway = &fleet.gateway;
    let instance = fleet.instance("one").start().await;
    fleet.until_seen("one", "IDLE").await;
    let body = gateway.run("first", &picture(5)).await;
    assert_eq!(
        body["filenames"],
        json!(["first_picture_00001_.png"]),
        "{body}"
    );
    let image = body["images"][0].clone();
    gateway.run("embedded", &load(&image)).await;
    let (status, job) = gateway
        .post("/api/v2/jobs", &json!({"workflow": picture(6)}))
        .await;
    assert_eq!(status, 201, "{job}");
    let job = ended(gateway, job["id"].as_str().unwrap()).await;
    assert_eq!(job["outputs"].as_array().map(Vec::len), Some(1), "{job}");
    let asset = format!("asset:{}", job["outputs"][0]["id"].as_str().unwrap());
    gateway.run("from-asset", &load(&json!(asset))).await;
    let body =
        json!({"id": "secret", "prompt": picture(7), "extra_data": {"api_key_comfy_org": "k"}});
    assert_eq!(gateway.prompt(&body).await.0, 200);
    until_clean(gateway).await;
    instance.until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_say_what_gateways_need_hear_whom_they_shall_and_use_no_proxy_for_them() {
    let broker = RabbitMq::shared().await;
    let fleet = Fleet::start(&broker.uri()).await;
    let mut client = Client::connect(&broker.uri(), &fleet.name).await;
    let instance = fleet
        .instance("told")
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .env("NO_PROXY", "")
        .file("workflows/w.ts", crate::fleet::asleep::PLAIN)
        .start()
        .await;
    let (_, registered, _) = client.next_of("service.instance.register").await;
    let (_, beat, _) = client.next_of("service.instance.heartbeat").await;
    for told in [&registered["data"], &beat["data"]] {
        assert_eq!(told["queue"], format!("in.{}", fleet.name), "{told}");
        assert_eq!(told["interval"], 300, "{told}");
    }
    until("the catalogue's hash is told", async || {
        let (_, beat, _) = client.next_of("service.instance.heartbeat").await;
        (beat["data"]["catalogue"].as_str()?.len() == 64).then_some(())
    })
    .await;
    fleet.until_seen("told", "IDLE").await;
    // Past the proxy, which is not there.
    fleet.gateway.run("past-the-proxy", &picture(1)).await;
    // An endpoint and its input in place of a graph.
    client
        .submit(&json!({"id": "endpoint", "workflow": "w", "input": {"color": 5}}))
        .await;
    let (kind, result) = loop {
        let (kind, result) = ended_as(&mut client).await;
        if result["task_id"] == "endpoint" {
            break (kind, result);
        }
    };
    assert_eq!(kind, "execution_success", "{result}");
    // Whoever has a task cancels it, by its id alone.
    client
        .submit(&json!({"id": "long", "prompt": slow(1, 20.0)}))
        .await;
    instance.until_prompt("long", "running").await;
    let exchange = format!("topic.{}", fleet.name);
    let body = json!({"task_id": "long"}).to_string();
    client
        .channel
        .basic_publish(
            exchange.as_str().into(),
            "control.cancel".into(),
            lapin::options::BasicPublishOptions::default(),
            body.as_bytes(),
            lapin::BasicProperties::default(),
        )
        .await
        .unwrap();
    let (kind, result) = ended_as(&mut client).await;
    assert_eq!(
        (kind.as_str(), &result["task_id"]),
        ("execution_interrupted", &json!("long")),
        "{result}"
    );
    // What belongs to instances.
    let model = crate::v2::form(b"\x02\0\0\0\0\0\0\0{}", "models/loras/a.safetensors");
    let (status, body) = crate::v2::upload(&fleet.gateway, model).await;
    assert_eq!(status, 501, "{body}");
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("GET /instances"),
        "{body}"
    );
}
