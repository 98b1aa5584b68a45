//! Several instances on one queue while everything around them breaks.

use std::collections::BTreeMap;
use std::time::Instant;

use lapin::options::{BasicAckOptions, BasicGetOptions};
use serde_json::{Value, json};

use super::stage::{Client, PATIENCE, ScriptedRunner, close, config, connect, open, unique, until};
use crate::support::chaos_proxy::ChaosProxy;
use crate::support::rabbitmq::RabbitMq;

const TASKS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn no_task_is_lost_while_connections_are_cut_and_the_broker_restarts() {
    let broker = RabbitMq::disruptable().await;
    let name = unique("fleet");
    let client = Client::connect(&broker.uri(), &name).await;
    for index in 0..TASKS {
        client
            .submit(&json!({"id": format!("t{index}"), "ms": 80, "bytes": 2000}))
            .await;
    }
    drop(client);
    let proxy = ChaosProxy::start(broker.address()).await;
    let uri = format!("amqp://guest:guest@{}", proxy.address());
    let instances: Vec<_> = (0..3)
        .map(|_| {
            let runner = ScriptedRunner::new(true);
            (
                open(
                    config(&uri, &name, &[("HEARTBEAT_ENABLED", "false")]),
                    &runner,
                ),
                runner,
            )
        })
        .collect();
    let runs = || {
        instances
            .iter()
            .map(|(_, runner)| runner.runs().len())
            .sum::<usize>()
    };

    // Cut in the middle of frames: of results on their way, and of acknowledgements right after
    // them.
    let settled = async || {
        let goal = runs() + 6;
        until("all are back and work goes on", async || {
            instances.iter().all(|(transport, _)| transport.connected()) && runs() >= goal
        })
        .await;
    };
    for fuse in [3_000_u32, 500, 4_444] {
        settled().await;
        let before = proxy.connections();
        proxy.cut_after(fuse);
        until("the cut is felt", async || proxy.connections() > before).await;
    }
    settled().await;
    broker.stop().await;
    broker.boot().await;
    settled().await;
    broker.kill().await;
    broker.boot().await;
    // One leaves without a word in the middle of its work, as if killed.
    let mut instances = instances;
    let (killed, _) = instances.remove(0);
    drop(killed);

    assert!(
        proxy.connections() >= 3 * 5,
        "{} connections: three instances were cut off four times",
        proxy.connections()
    );
    let connection = connect(&broker.uri()).await;
    let channel = connection.create_channel().await.unwrap();
    let mut results: BTreeMap<String, usize> = BTreeMap::new();
    let deadline = Instant::now() + 2 * PATIENCE;
    while results.len() < TASKS {
        assert!(
            Instant::now() < deadline,
            "only {} of {TASKS} tasks have a result",
            results.len()
        );
        let Some(message) = channel
            .basic_get(
                format!("listener.{name}").into(),
                BasicGetOptions::default(),
            )
            .await
            .unwrap()
        else {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        let envelope: Value = serde_json::from_slice(&message.delivery.data).unwrap();
        message
            .delivery
            .acker
            .ack(BasicAckOptions::default())
            .await
            .unwrap();
        if message
            .delivery
            .routing_key
            .as_str()
            .starts_with("event.result.")
        {
            assert_eq!(envelope["event_type"], "execution_success");
            *results
                .entry(envelope["task_id"].as_str().unwrap().to_owned())
                .or_default() += 1;
        }
    }
    for (transport, runner) in &instances {
        until("nothing is held", async || transport.tasks() == 0).await;
        close(transport).await;
        assert_eq!(
            runner
                .most_at_a_time
                .load(std::sync::atomic::Ordering::SeqCst),
            1,
            "an instance holds at most its prefetch"
        );
    }
    let client = Client::connect(&broker.uri(), &name).await;
    assert_eq!(client.waiting().await, 0, "every task left the queue");
}

/// How fast one instance is when the work itself takes no time. Run by hand: `cargo test --release
/// --test it overhead -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn overhead_of_a_task() {
    let broker = RabbitMq::shared().await;
    let name = unique("overhead");
    let mut client = Client::connect(&broker.uri(), &name).await;
    for prefetch in ["1", "8"] {
        for index in 0..1000 {
            client
                .submit(&json!({"id": format!("t{index}"), "bytes": 20_000}))
                .await;
        }
        let runner = ScriptedRunner::new(true);
        let begun = Instant::now();
        let transport = open(
            config(&broker.uri(), &name, &[("AMQP_PREFETCH", prefetch)]),
            &runner,
        );
        for _ in 0..1000 {
            client.next_result().await;
        }
        println!("prefetch {prefetch}: {:?} per task", begun.elapsed() / 1000);
        close(&transport).await;
    }
}
