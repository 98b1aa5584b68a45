//! The rows of docs/reference/limits.md about a gateway and its fleet that take a broker.

use std::time::Duration;

use axum::Router;
use axum::routing::{post, put};
use base64::Engine as _;
use futures_util::StreamExt;
use lapin::options::{BasicGetOptions, BasicPublishOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection};
use serde_json::{Value, json};

use super::*;
use crate::amqp::stage::connect;
use crate::support::rabbitmq::RabbitMq;

fn words(length: usize) -> Value {
    let mut graph = picture(1);
    graph["5"] = json!({"class_type": "PreviewAny", "inputs": {"source": "w".repeat(length)}});
    graph
}

async fn channel(uri: &str) -> (Connection, Channel) {
    let connection = connect(uri).await;
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_into_a_message_is_refused_or_goes_beside_it() {
    let broker = RabbitMq::shared().await;
    let small = [("AMQP_MAX_MESSAGE_MB", "0.5")];
    let fleet = Fleet::with(&broker.uri(), &small).await;
    let gateway = &fleet.gateway;
    let _instance = fleet.instance("one").envs(&small).start().await;
    fleet.until_seen("one", "IDLE").await;
    let (status, body) = gateway.prompt(&json!({"prompt": words(600_000)})).await;
    assert_eq!(
        (status, &body["code"]),
        (413, &json!("payload_too_large")),
        "{body}"
    );
    let told = body["error"].as_str().unwrap();
    assert!(told.contains("AMQP_MAX_MESSAGE_MB"), "{told}");
    // A file of that size is none of the message's business.
    let mut image = crate::support::graphs::png([1, 2, 3]);
    image.resize(900_000, 0);
    let image = base64::engine::general_purpose::STANDARD.encode(&image);
    gateway.run("beside", &load(&json!(image))).await;
    // The graph fits, and with the texts that it returns it does not.
    let (status, body) = gateway.prompt(&json!({"prompt": words(300_000)})).await;
    assert_eq!(
        (status, &body["code"]),
        (413, &json!("payload_too_large")),
        "{body}"
    );
    gateway.run("after", &picture(2)).await;
    until_clean(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doors_for_instances_are_bounded() {
    let broker = RabbitMq::shared().await;
    let fleet = Fleet::with(&broker.uri(), &[("GATEWAY_ID", "bounded")]).await;
    let gateway = &fleet.gateway;
    let waiting = gateway.prompt_later(json!({"id": "held", "prompt": picture(1)}));
    gateway.until_prompt("held", "pending").await;
    // What an instance would get.
    let (_connection, channel) = channel(&broker.uri()).await;
    let queue = format!("in.{}", fleet.name);
    let message = until("the message", async || {
        let getting = channel.basic_get(queue.as_str().into(), BasicGetOptions::default());
        getting.await.unwrap()
    })
    .await;
    let headers = message
        .delivery
        .properties
        .headers()
        .as_ref()
        .unwrap()
        .inner();
    let Some(AMQPValue::LongString(base)) = headers.get("gateway") else {
        panic!("{headers:?}");
    };
    let base = String::from_utf8(base.as_bytes().to_vec()).unwrap();
    let http = &gateway.http;
    let claim = async |pad: usize| {
        let body = json!({"instance_id": "me", "pad": "x".repeat(pad)});
        let sent = http.post(format!("{base}/claim")).json(&body).send();
        sent.await.unwrap().status().as_u16()
    };
    assert_eq!((claim(65 * 1024).await, claim(60 * 1024).await), (400, 200));
    let output = async |name: String| {
        let sent = http.put(format!("{base}/out/{name}")).body("bytes").send();
        sent.await.unwrap().status().as_u16()
    };
    assert_eq!(output("n".repeat(1024)).await, 200);
    assert_eq!(output("n".repeat(1025)).await, 400);
    for name in ["a%2Fb", "a%5Cb", "a%0Ab"] {
        assert_eq!(output(name.to_owned()).await, 400, "{name}");
    }
    assert_eq!(gateway.delete("/prompt/held").await.0, 200);
    assert_eq!(waiting.await.unwrap().0, 409);
    assert_eq!(output("n".to_owned()).await, 404, "it has ended");
    // What is only of interest now is dropped by the broker itself.
    let queues = broker
        .ctl(&["-q", "list_queues", "name", "arguments"])
        .await;
    let stream = queues
        .lines()
        .find(|line| line.starts_with("q.gateway.bounded.stream"))
        .unwrap_or_else(|| panic!("{queues}"));
    for part in ["x-max-length", "10000", "x-overflow", "drop-head"] {
        assert!(stream.contains(part), "{stream}");
    }
    // Results wait for a day.
    let answers = queues
        .lines()
        .find(|line| line.split_whitespace().next() == Some("q.gateway.bounded"))
        .unwrap_or_else(|| panic!("{queues}"));
    for part in ["x-expires", "86400000"] {
        assert!(answers.contains(part), "{answers}");
    }
}

/// A gateway that answers no claim.
async fn silent() -> String {
    let router = Router::new()
        .route("/fleet/tok/claim", post(std::future::pending::<String>))
        .route("/fleet/tok/out/{name}", put(|| async { "{}" }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}/fleet/tok")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_not_answered_holds_up_only_what_needs_secrets() {
    let broker = RabbitMq::shared().await;
    let fleet = Fleet::start(&broker.uri()).await;
    let instance = fleet.instance("patient").start().await;
    let base = silent().await;
    let (_connection, channel) = channel(&broker.uri()).await;
    let reply = format!("reply.{}", fleet.name);
    let mut answers = listen(&channel, &reply).await;
    let send = async |id: &str, secrets: bool| {
        let mut headers = FieldTable::default();
        let address = AMQPValue::LongString(base.as_bytes().into());
        headers.insert("gateway".into(), address);
        headers.insert("secrets".into(), AMQPValue::Boolean(secrets));
        let properties = BasicProperties::default()
            .with_reply_to(reply.as_str().into())
            .with_message_id(id.into())
            .with_headers(headers);
        let body = json!({"prompt": picture(3)}).to_string();
        let queue = format!("in.{}", fleet.name);
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish(
            "".into(),
            queue.into(),
            options,
            body.as_bytes(),
            properties,
        );
        sent.await.unwrap();
    };
    let mut told = async |id: &str, ends: &[&str]| loop {
        let next = tokio::time::timeout(Duration::from_secs(30), answers.next()).await;
        let delivery = next.expect("an answer in time").unwrap().unwrap();
        let envelope: Value = serde_json::from_slice(&delivery.data).unwrap();
        let kind = envelope["event_type"].as_str().unwrap().to_owned();
        if envelope["task_id"] == id && ends.contains(&kind.as_str()) {
            return kind;
        }
    };
    let ends = ["execution_success", "execution_error", "execution_requeued"];
    send("open", false).await;
    assert_eq!(told("open", &ends).await, "execution_success");
    send("secret", true).await;
    assert_eq!(told("secret", &ends).await, "execution_requeued");
    // It comes again, and goes back again; it is never run.
    assert_eq!(told("secret", &ends).await, "execution_requeued");
    let (_, entry) = instance.get("/prompt/secret").await;
    assert_eq!(entry["code"], "not_found", "{entry}");
}
