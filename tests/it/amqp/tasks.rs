//! The outcome table of amqp.md, and what happens to tasks when instance or channel go away.

use std::time::Duration;

use serde_json::{Value, json};

use super::stage::{Client, ScriptedRunner, at_work, close, config, open, unique, until};
use crate::support::chaos_proxy::ChaosProxy;
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

async fn consumers(client: &Client, name: &str) -> u32 {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_delivered_again_while_it_runs_is_joined_and_not_run_twice() {
    let broker = RabbitMq::shared().await;
    let name = unique("joined");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let proxy = ChaosProxy::start(broker.address()).await;
    let runner = ScriptedRunner::new(true);
    let transport = open(
        config(
            &format!("amqp://guest:guest@{}", proxy.address()),
            &name,
            &[],
        ),
        &runner,
    );
    client.submit(&json!({"id": "long", "do": "hold"})).await;
    until("it runs", async || runner.runs().len() == 1).await;
    let before = proxy.connections();
    proxy.cut();
    until("connected again, the task taken again", async || {
        proxy.connections() > before
            && consumers(&client, &name).await == 1
            && client.waiting().await == 0
    })
    .await;
    runner.release.add_permits(1);
    assert_eq!(client.next_result().await.0, "execution_success");
    until("it is acknowledged", async || transport.tasks() == 0).await;
    close(&transport).await;
    assert_eq!((client.waiting().await, runner.runs().len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_waits_for_a_connection_is_published_on_the_next() {
    let broker = RabbitMq::shared().await;
    let name = unique("waits");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let proxy = ChaosProxy::start(broker.address()).await;
    let runner = ScriptedRunner::new(true);
    let transport = open(
        config(
            &format!("amqp://guest:guest@{}", proxy.address()),
            &name,
            &[],
        ),
        &runner,
    );
    client.submit(&json!({"id": "done", "do": "hold"})).await;
    until("it runs", async || runner.runs().len() == 1).await;
    // The connection goes, the task ends meanwhile; its result waits for the next connection.
    proxy.refuse();
    until("the connection is gone", async || !transport.connected()).await;
    runner.release.add_permits(1);
    // Nobody else consumes, so the broker has put it back.
    until("it is back in the queue", async || {
        client.waiting().await == 1
    })
    .await;
    proxy.pass();
    let (kind, envelope) = client.next_result().await;
    assert_eq!(
        (kind.as_str(), &envelope["task_id"]),
        ("execution_success", &json!("done"))
    );
    until("it left the queue", async || {
        client.waiting().await == 0 && transport.tasks() == 0 && transport.connected()
    })
    .await;
    close(&transport).await;
    assert_eq!(
        (client.waiting().await, runner.runs().len()),
        (0, 1),
        "it ran once"
    );
}

/// Makes `id` run at a transport that takes nothing more, and its delivery go back to the queue
/// behind its back.
async fn orphan(
    id: &str,
    client: &Client,
    runner: &ScriptedRunner,
    proxy: &ChaosProxy,
    transport: &comfyui_api::transport::amqp::Amqp,
) {
    client.submit(&json!({"id": id, "do": "hold"})).await;
    until("it runs", async || runner.runs() == [id]).await;
    runner.ready.send_replace(false);
    let before = proxy.connections();
    proxy.cut();
    until("connected again, the task back in the queue", async || {
        proxy.connections() > before && transport.connected() && client.waiting().await == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_comes_back_after_its_end_is_answered_from_memory() {
    let broker = RabbitMq::shared().await;
    let name = unique("memory");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let proxy = ChaosProxy::start(broker.address()).await;
    let runner = ScriptedRunner::new(true);
    let transport = open(
        config(
            &format!("amqp://guest:guest@{}", proxy.address()),
            &name,
            &[],
        ),
        &runner,
    );
    orphan("done", &client, &runner, &proxy, &transport).await;
    runner.release.add_permits(1);
    let first = client.next_result().await;
    until("the run is over", async || transport.tasks() == 0).await;
    assert_eq!(client.waiting().await, 1);
    runner.ready.send_replace(true);
    let second = client.next_result().await;
    assert_eq!(first, second, "the same answer, word for word");
    until("it left the queue", async || {
        client.waiting().await == 0 && transport.tasks() == 0
    })
    .await;
    close(&transport).await;
    assert_eq!(
        (client.waiting().await, runner.runs().len()),
        (0, 1),
        "it ran once"
    );
    // The same id as a new message is a new order.
    let transport = open(config(&broker.uri(), &name, &[]), &runner);
    for runs in 2..4 {
        client.submit(&json!({"id": "done"})).await;
        client.next_result().await;
        until("it is done with", async || transport.tasks() == 0).await;
        assert_eq!(runner.runs().len(), runs);
    }
    close(&transport).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_for_its_start_goes_back_when_the_instance_is_not_ready_any_more() {
    let broker = RabbitMq::shared().await;
    let name = unique("recalled");
    let client = Client::connect(&broker.uri(), &name).await;
    let proxy = ChaosProxy::start(broker.address()).await;
    let runner = ScriptedRunner::new(true);
    let transport = open(
        config(
            &format!("amqp://guest:guest@{}", proxy.address()),
            &name,
            &[],
        ),
        &runner,
    );
    orphan("first", &client, &runner, &proxy, &transport).await;
    // Somebody else takes the first task, so that the second comes here while the only place is
    // taken.
    let queue = format!("in.{name}");
    let taken = client
        .channel
        .basic_get(
            queue.as_str().into(),
            lapin::options::BasicGetOptions::default(),
        )
        .await
        .unwrap()
        .unwrap();
    client.submit(&json!({"id": "second"})).await;
    runner.ready.send_replace(true);
    until("the second task is here", async || transport.tasks() == 2).await;
    runner.ready.send_replace(false);
    until("it is back", async || {
        client.waiting().await == 1 && transport.tasks() == 1
    })
    .await;
    assert_eq!(runner.runs(), ["first"]);
    taken
        .delivery
        .acker
        .ack(lapin::options::BasicAckOptions::default())
        .await
        .unwrap();
    runner.release.add_permits(1);
    close(&transport).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_finished_at_shutdown_goes_back_at_once() {
    let broker = RabbitMq::shared().await;
    let name = unique("shutdown");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let runner = ScriptedRunner::new(true);
    let transport = open(
        config(
            &broker.uri(),
            &name,
            &[("INSTANCE_ID", "leaving"), ("AMQP_PREFETCH", "3")],
        ),
        &runner,
    );
    for index in 0..3 {
        client
            .submit(&json!({"id": format!("t{index}"), "do": "hold"}))
            .await;
    }
    until("all run", async || runner.runs().len() == 3).await;
    let (key, register, mode) = client.next_of("service.instance.register").await;
    assert_eq!((key.as_str(), mode), ("service.instance.register", Some(2)));
    assert_eq!(register["data"]["instance_id"], "leaving");
    transport.stop_consuming();
    until("nothing is taken any more", async || {
        consumers(&client, &name).await == 0
    })
    .await;
    let begun = std::time::Instant::now();
    close(&transport).await;
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(client.waiting().await, 3);
    let (_, bye, mode) = client.next_of("service.instance.unregister").await;
    assert_eq!(
        (
            &bye["event_type"],
            &bye["data"]["instance_id"],
            &bye["data"]["reason"],
            mode
        ),
        (
            &json!("instance_unregister"),
            &json!("leaving"),
            &json!("test"),
            Some(2)
        )
    );
    assert_eq!(bye["data"]["api_url"], "http://localhost:3000");
    assert!(!transport.connected());
}
