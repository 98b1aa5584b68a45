//! The count of attempts belongs to the task: across instances, restarts and queues (attack.md,
//! A41).

use lapin::BasicProperties;
use lapin::options::{BasicAckOptions, BasicGetOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;

use super::client::Client;
use super::stage::{ScriptedRunner, close, config, connect, open, unique, until};
use crate::support::rabbitmq::RabbitMq;

#[tokio::test(flavor = "multi_thread")]
async fn instances_count_together_and_the_poison_goes_behind_the_others() {
    let broker = RabbitMq::shared().await;
    let name = unique("together");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let properties = BasicProperties::default()
        .with_priority(3)
        .with_correlation_id("order-1".into());
    let body = json!({"do": "fail", "ms": 300}).to_string();
    client.submit_with(body.as_bytes(), properties).await;
    client.submit(&json!({"id": "behind"})).await;
    // Each instance runs it once and then takes nothing more.
    for attempt in 1..=2 {
        let runner = ScriptedRunner::new(true);
        let transport = open(config(&broker.uri(), &name, &[]), &runner);
        until("it runs", async || !runner.runs().is_empty()).await;
        runner.ready.send_replace(false);
        until("it is back", async || {
            client.waiting().await == 2 && transport.tasks() == 0
        })
        .await;
        assert_eq!(runner.runs(), ["order-1"], "attempt {attempt}");
        close(&transport).await;
        if attempt == 1 {
            // It is behind the other now; the next instance gets it alone.
            let first = get(&client, &name).await;
            assert!(String::from_utf8_lossy(&first.data).contains("behind"));
            let poison = get(&client, &name).await;
            let headers = poison.properties.headers().as_ref().unwrap();
            assert_eq!(
                headers.inner().get("x-comfyui-api-attempts"),
                Some(&AMQPValue::LongLongInt(1))
            );
            assert_eq!(poison.properties.priority(), &Some(3));
            let poison_properties = poison.properties.clone();
            client.submit_with(&poison.data, poison_properties).await;
            client.submit_bytes(&first.data).await;
            for taken in [first, poison] {
                taken.acker.ack(BasicAckOptions::default()).await.unwrap();
            }
        }
    }
    let last = ScriptedRunner::new(true);
    let transport = open(config(&broker.uri(), &name, &[]), &last);
    let mut ends = Vec::new();
    for _ in 0..2 {
        let (kind, envelope) = client.next_result().await;
        ends.push((kind, envelope["task_id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(
        ends,
        [
            ("execution_success".to_owned(), "behind".to_owned()),
            ("execution_error".to_owned(), "order-1".to_owned())
        ]
    );
    assert_eq!(*last.given_up.lock().unwrap(), ["order-1"]);
    close(&transport).await;
    assert_eq!(client.waiting().await, 0);
}

async fn get(client: &Client, name: &str) -> lapin::message::Delivery {
    let queue = format!("in.{name}");
    let got = client
        .channel
        .basic_get(queue.as_str().into(), BasicGetOptions::default());
    got.await.unwrap().unwrap().delivery
}

/// A quorum queue counts every return. A planned stop, and waiting, are not to be charged all the
/// same.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_counts_returns_charges_no_planned_stop() {
    let broker = RabbitMq::shared().await;
    let name = unique("quorum");
    let connection = connect(&broker.uri()).await;
    let channel = connection.create_channel().await.unwrap();
    let mut quorum = FieldTable::default();
    quorum.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    let queue = format!("quorum.{name}");
    let options = QueueDeclareOptions::durable();
    channel
        .queue_declare(queue.as_str().into(), options, quorum)
        .await
        .unwrap();
    let mut client = Client::connect(&broker.uri(), &name).await;
    let submit = async |body: serde_json::Value| {
        let body = body.to_string();
        let publish = client.channel.basic_publish(
            "".into(),
            queue.as_str().into(),
            lapin::options::BasicPublishOptions::default(),
            body.as_bytes(),
            BasicProperties::default().with_delivery_mode(2),
        );
        assert!(publish.await.unwrap().await.unwrap().is_ack());
    };
    let settings = [
        ("AMQP_QUEUE_INPUT", queue.as_str()),
        ("AMQP_PREFETCH", "2"),
        ("AMQP_MAX_ATTEMPTS", "2"),
    ];
    submit(json!({"id": "long", "do": "hold"})).await;
    submit(json!({"id": "waits", "do": "hold"})).await;
    for _ in 0..3 {
        let runner = ScriptedRunner::new(true);
        let transport = open(config(&broker.uri(), &name, &settings), &runner);
        until("both run", async || runner.runs().len() == 2).await;
        close(&transport).await;
    }
    let runner = ScriptedRunner::new(true);
    runner.release.add_permits(2);
    let transport = open(config(&broker.uri(), &name, &settings), &runner);
    for _ in 0..2 {
        let (kind, envelope) = client.next_result().await;
        assert_eq!(kind, "execution_success", "{envelope}");
    }
    close(&transport).await;
}

/// F12: redeliveries of a task without an id of its own are recognised by the message's.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_keeps_its_identity() {
    let broker = RabbitMq::shared().await;
    let name = unique("identity");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let runner = ScriptedRunner::new(true);
    let transport = open(
        config(&broker.uri(), &name, &[("MAX_BODY_SIZE_MB", "0.01")]),
        &runner,
    );
    let properties = |message: &str, correlation: &str| {
        let mut properties = BasicProperties::default();
        if !message.is_empty() {
            properties = properties.with_message_id(message.into());
        }
        if !correlation.is_empty() {
            properties = properties.with_correlation_id(correlation.into());
        }
        properties
    };
    let large = format!(
        "{{\"prompt\": {{\"x\": \"{}\"}}, \"task_id\": \"large\"}}",
        "x".repeat(20_000)
    );
    for (body, message, correlation, kind, id, code) in [
        ("{}", "m1", "c1", "execution_success", "m1", ""),
        ("{}", "", "c2", "execution_success", "c2", ""),
        (
            r#"{"task_id": "own"}"#,
            "m3",
            "",
            "execution_success",
            "own",
            "",
        ),
        (
            r#"{"task_id": "t5", "prompt":"#,
            "m4",
            "",
            "execution_error",
            "t5",
            "invalid_request",
        ),
        (
            "nonsense",
            "m5",
            "c5",
            "execution_error",
            "m5",
            "invalid_request",
        ),
        ("[", "", "c6", "execution_error", "c6", "invalid_request"),
        (
            &large,
            "m7",
            "",
            "execution_error",
            "large",
            "payload_too_large",
        ),
    ] {
        client
            .submit_with(body.as_bytes(), properties(message, correlation))
            .await;
        let (got, envelope) = client.next_result().await;
        assert_eq!(
            (got.as_str(), &envelope["task_id"]),
            (kind, &json!(id)),
            "{message} {correlation}: {envelope}"
        );
        if !code.is_empty() {
            let data = &envelope["data"];
            assert_eq!(data["type"], code, "{data}");
            assert!(data["stack"].is_string(), "{data}");
        }
    }
    until("all are done with", async || transport.tasks() == 0).await;
    close(&transport).await;
    assert_eq!(
        (client.waiting().await, runner.runs()),
        (0, ["m1", "c2", "own"].map(str::to_owned).to_vec())
    );
}

/// A53: those that may have killed ComfyUI run one at a time, so that it can be told which one it
/// is.
#[tokio::test(flavor = "multi_thread")]
async fn suspects_run_alone_and_others_together() {
    let broker = RabbitMq::shared().await;
    for (suspect, together) in [(true, 1), (false, 3)] {
        let name = unique("suspects");
        let mut client = Client::connect(&broker.uri(), &name).await;
        let mut headers = FieldTable::default();
        headers.insert("x-comfyui-api-suspect".into(), AMQPValue::Boolean(suspect));
        for id in ["a", "b", "c"] {
            let properties = BasicProperties::default().with_headers(headers.clone());
            let body = json!({"id": id, "do": "hold"}).to_string();
            client.submit_with(body.as_bytes(), properties).await;
        }
        let runner = ScriptedRunner::new(true);
        let settings = [("AMQP_PREFETCH", "3")];
        let transport = open(config(&broker.uri(), &name, &settings), &runner);
        until("all are here", async || client.waiting().await == 0).await;
        until("they run", async || runner.runs().len() == together).await;
        for ended in 1..=3 {
            runner.release.add_permits(1);
            let (kind, envelope) = client.next_result().await;
            assert_eq!(kind, "execution_success", "{envelope}");
            until("the next runs", async || {
                runner.runs().len() == (ended + together).min(3)
            })
            .await;
        }
        let most = runner
            .most_at_a_time
            .load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(most, together);
        close(&transport).await;
    }
}
