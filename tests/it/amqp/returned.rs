//! Tasks that are delivered again, wait for a connection or go back.

use std::sync::Arc;
use std::time::Duration;

use comfyui_api::transport::amqp::Amqp;
use serde_json::json;

use super::client::Client;
use super::stage::{ScriptedRunner, close, config, open, proxied, unique, until};
use super::tasks::consumers;
use crate::support::chaos_proxy::ChaosProxy;
use crate::support::rabbitmq::RabbitMq;

/// A transport whose connection can be cut, and a client that is not behind the proxy.
async fn behind_a_proxy(
    broker: &RabbitMq,
    name: &str,
) -> (Client, ChaosProxy, Arc<ScriptedRunner>, Amqp) {
    let client = Client::connect(&broker.uri(), name).await;
    let (proxy, uri) = proxied(broker).await;
    let runner = ScriptedRunner::new(true);
    let transport = open(config(&uri, name, &[]), &runner);
    (client, proxy, runner, transport)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_delivered_again_while_it_runs_is_joined_and_not_run_twice() {
    let broker = RabbitMq::shared().await;
    let name = unique("joined");
    let (mut client, proxy, runner, transport) = behind_a_proxy(broker, &name).await;
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
    let (mut client, proxy, runner, transport) = behind_a_proxy(broker, &name).await;
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
    transport: &Amqp,
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
    let (mut client, proxy, runner, transport) = behind_a_proxy(broker, &name).await;
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
    let (client, proxy, runner, transport) = behind_a_proxy(broker, &name).await;
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
