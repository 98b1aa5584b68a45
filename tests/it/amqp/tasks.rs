//! The outcome table of amqp.md, and what happens to tasks when instance or channel go away.

use serde_json::{Value, json};

use super::client::Client;
use super::stage::{ScriptedRunner, at_work, close, config, open, unique, until};
use crate::support::rabbitmq::RabbitMq;

#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_has_its_event_and_every_task_leaves_the_queue() {
    let broker = RabbitMq::shared().await;
    let name = unique("outcomes");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let runner = ScriptedRunner::new(true);
    let transport = open(
        config(&broker.uri(), &name, &[("AMQP_MAX_RESULT_MB", "1")]),
        &runner,
    );

    client.submit(&json!({"id": "good", "prompt": {}})).await;
    let (kind, envelope) = client.next_result().await;
    assert_eq!(
        (kind.as_str(), &envelope["task_id"], &envelope["event_type"]),
        (
            "execution_success",
            &json!("good"),
            &json!("execution_success")
        )
    );
    assert_eq!(
        (&envelope["protocol_version"], &envelope["metadata"]),
        (&json!("1.0"), &json!({"region": "eu"}))
    );
    assert!(envelope["timestamp"].as_u64().unwrap() > 1_600_000_000_000);
    assert_eq!(envelope["data"]["filenames"], json!(["a.png"]));

    client.submit(&json!({"id": "bad", "do": "refuse"})).await;
    let (kind, envelope) = client.next_result().await;
    assert_eq!(kind, "execution_error");
    let expected = json!({
        "id": "bad",
        "type": "invalid_prompt",
        "message": "The graph is bad.",
        "details": {"traceback": ["a\n", "b"]},
        "node_errors": {"3": {}},
        "stack": "a\nb"
    });
    assert_eq!(envelope["data"], expected);

    client
        .submit(&json!({"id": "stopped", "do": "interrupt"}))
        .await;
    assert_eq!(client.next_result().await.0, "execution_interrupted");

    client
        .submit(&json!({"id": "large", "bytes": 2 << 20}))
        .await;
    let (kind, envelope) = client.next_result().await;
    assert_eq!(kind, "execution_error");
    let message = envelope["data"]["message"].as_str().unwrap();
    assert!(
        message.contains("upload") && message.contains("AMQP_MAX_RESULT_MB"),
        "{message}"
    );

    // Old producers: twice encoded, the id under another name, or none.
    client
        .submit(&Value::String(
            json!({"task_id": "twice", "prompt": "{}"}).to_string(),
        ))
        .await;
    assert_eq!(client.next_result().await.1["task_id"], "twice");
    client.submit(&json!({"prompt": {}})).await;
    assert!(
        uuid::Uuid::parse_str(client.next_result().await.1["task_id"].as_str().unwrap()).is_ok()
    );

    for poison in ["nonsense", "[]", "\"text\"", ""] {
        client.submit_bytes(poison.as_bytes()).await;
        let (kind, envelope) = client.next_result().await;
        assert_eq!(
            (kind.as_str(), &envelope["task_id"]),
            ("execution_error", &json!("unknown")),
            "{poison}"
        );
    }
    close(&transport).await;
    assert_eq!(
        (client.waiting().await, runner.runs().len()),
        (0, 6),
        "nothing came back when the instance left"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_persistent_and_tasks_are_acknowledged() {
    let broker = RabbitMq::shared().await;
    let name = unique("persistent");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let runner = ScriptedRunner::new(true);
    let transport = open(config(&broker.uri(), &name, &[]), &runner);
    client.submit(&json!({"id": "a"})).await;
    assert_eq!(client.next_of("event.result.").await.2, Some(2));
    until("the task is done with", async || transport.tasks() == 0).await;
    close(&transport).await;
    // An instance that comes after it gets nothing.
    let second = ScriptedRunner::new(true);
    let transport = open(config(&broker.uri(), &name, &[]), &second);
    client.submit(&json!({"id": "b"})).await;
    assert_eq!(client.next_result().await.1["task_id"], "b");
    assert_eq!(second.runs(), ["b"]);
    close(&transport).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_by_our_fault_is_given_up_after_the_configured_attempts() {
    let (mut client, runner, transport) =
        at_work("attempts", true, &[("AMQP_MAX_ATTEMPTS", "2")]).await;
    client.submit(&json!({"id": "poison", "do": "fail"})).await;
    client.submit(&json!({"id": "crash", "do": "panic"})).await;
    let mut ends = Vec::new();
    for _ in 0..2 {
        let (kind, envelope) = client.next_result().await;
        assert_eq!(kind, "execution_error");
        ends.push(envelope["task_id"].as_str().unwrap().to_owned());
    }
    ends.sort();
    assert_eq!(ends, ["crash", "poison"]);
    close(&transport).await;
    let mut runs = runner.runs();
    runs.sort();
    assert_eq!(runs, ["crash", "crash", "poison", "poison"]);
    assert_eq!(client.waiting().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_without_an_id_is_given_up_like_any_other() {
    let (mut client, runner, transport) =
        at_work("nameless", true, &[("AMQP_MAX_ATTEMPTS", "2")]).await;
    // Two that are equal to the byte are two.
    client.submit(&json!({"do": "fail"})).await;
    client.submit(&json!({"do": "fail"})).await;
    let mut ends = Vec::new();
    for _ in 0..2 {
        let (kind, envelope) = client.next_result().await;
        assert_eq!(kind, "execution_error");
        ends.push(envelope["task_id"].as_str().unwrap().to_owned());
    }
    ends.sort();
    until("both are gone", async || transport.tasks() == 0).await;
    let mut runs = runner.runs();
    runs.sort();
    assert_ne!(ends[0], ends[1]);
    assert_eq!(
        runs,
        [&ends[0], &ends[0], &ends[1], &ends[1]].map(String::as_str)
    );
    close(&transport).await;
    assert_eq!(client.waiting().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_used_again_is_another_task_when_it_comes_back_too() {
    let (mut client, runner, transport) =
        at_work("reused", true, &[("AMQP_MAX_ATTEMPTS", "2")]).await;
    client.submit(&json!({"id": "x"})).await;
    assert_eq!(client.next_result().await.0, "execution_success");
    until("it is done with", async || transport.tasks() == 0).await;
    // Fails by our fault, goes back and comes again: not to be answered with the result of the
    // first.
    client.submit(&json!({"id": "x", "do": "fail"})).await;
    assert_eq!(client.next_result().await.0, "execution_error");
    until("it is done with", async || transport.tasks() == 0).await;
    assert_eq!(runner.runs(), ["x", "x", "x"]);
    close(&transport).await;
    assert_eq!(client.waiting().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_taken_only_while_ready_and_never_more_than_the_prefetch() {
    let broker = RabbitMq::shared().await;
    let name = unique("ready");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let runner = ScriptedRunner::new(false);
    let transport = open(
        config(&broker.uri(), &name, &[("AMQP_PREFETCH", "2")]),
        &runner,
    );
    for index in 0..5 {
        client
            .submit(&json!({"id": format!("t{index}"), "do": "hold"}))
            .await;
    }
    until("connected", async || transport.connected()).await;
    assert_eq!((client.waiting().await, runner.runs().len()), (5, 0));
    runner.ready.send_replace(true);
    until("two tasks run", async || runner.runs().len() == 2).await;
    assert_eq!(client.waiting().await, 3);
    // Not ready any more: what runs may end, nothing new is taken.
    runner.ready.send_replace(false);
    until("the consumer is cancelled", async || {
        consumers(&client, &name).await == 0
    })
    .await;
    runner.release.add_permits(2);
    client.next_result().await;
    client.next_result().await;
    until("both are done with", async || transport.tasks() == 0).await;
    assert_eq!((client.waiting().await, runner.runs().len()), (3, 2));
    runner.ready.send_replace(true);
    runner.release.add_permits(3);
    for _ in 0..3 {
        client.next_result().await;
    }
    assert_eq!(
        runner
            .most_at_a_time
            .load(std::sync::atomic::Ordering::SeqCst),
        2
    );
    close(&transport).await;
}

pub(super) async fn consumers(client: &Client, name: &str) -> u32 {
    let passive = lapin::options::QueueDeclareOptions::durable().passive();
    client
        .channel
        .queue_declare(
            format!("in.{name}").into(),
            passive,
            lapin::types::FieldTable::default(),
        )
        .await
        .unwrap()
        .consumer_count()
}
