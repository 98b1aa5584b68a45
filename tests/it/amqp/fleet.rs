//! Several instances on one queue while everything around them breaks.

use std::time::Instant;

use serde_json::json;

use super::client::Client;
use super::results;
use super::stage::{ScriptedRunner, close, config, open, proxied, unique, until};
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
    let (proxy, uri) = proxied(&broker).await;
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
    results::count(&broker.uri(), &name, TASKS, |key, envelope| {
        let is_result = key.starts_with("event.result.");
        if is_result {
            assert_eq!(envelope["event_type"], "execution_success");
        }
        is_result
    })
    .await;
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
