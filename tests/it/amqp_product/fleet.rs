//! Three real processes on one queue while everything around them breaks.

use nix::sys::signal::Signal;
use serde_json::json;

use super::*;
use crate::amqp::results;
use crate::amqp::stage::{unique, until};
use crate::support::chaos_proxy::ChaosProxy;
use crate::support::product::Product;
use crate::support::rabbitmq::RabbitMq;

/// Tasks in the beginning. More are submitted where these are used up before everybody had one.
const TASKS: usize = 60;

/// How many tasks an instance holds, and how many have ended there.
async fn held(product: &Product) -> (usize, usize) {
    let (status, queue) = product.get("/queue").await;
    assert_eq!(status, 200, "{queue}");
    let count = |name: &str| queue[name].as_array().unwrap().len();
    (count("running") + count("pending"), count("finished"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_task_gets_its_result_whatever_dies() {
    let broker = RabbitMq::disruptable().await;
    let name = unique("processes");
    let client = Client::connect(&broker.uri(), &name).await;
    let proxy = ChaosProxy::start(broker.address()).await;
    let uri = format!("amqp://guest:guest@{}/%2f", proxy.address());
    let start = || async {
        let stage = member(&uri, &name).env("SHUTDOWN_GRACE_S", "5");
        stage.start().await
    };
    let (mut killed, mut leaver, stayer) = tokio::join!(start(), start(), start());
    let mut submitted = 0;
    let mut submit = async |client: &Client, more: usize| {
        for index in submitted..submitted + more {
            client
                .submit(&json!({"id": format!("t{index}"), "prompt": slow_picture(0.25)}))
                .await;
        }
        submitted += more;
    };
    submit(&client, TASKS).await;
    drop(client);

    let mut most = 0;
    let mut settled = async |products: &[&Product], more: usize| {
        let mut goals = Vec::new();
        for product in products {
            goals.push(held(product).await.1 + more);
        }
        let client = Client::connect(&broker.uri(), &name).await;
        until("everybody works on", async || {
            let mut done = true;
            for (product, goal) in products.iter().zip(&goals) {
                let (now, finished) = held(product).await;
                most = most.max(now);
                done &= finished >= *goal;
            }
            // One that is slow to come back finds something to do all the same.
            if !done && client.waiting().await == 0 {
                submit(&client, 6).await;
            }
            done
        })
        .await;
    };
    settled(&[&killed, &leaver, &stayer], 2).await;
    for fuse in [2_000_u32, 700] {
        let before = proxy.connections();
        proxy.cut_after(fuse);
        until("the cut is felt", async || proxy.connections() > before).await;
        settled(&[&stayer], 1).await;
    }
    killed.signal(Signal::SIGKILL);
    killed.ended().await;
    settled(&[&leaver, &stayer], 1).await;
    broker.stop().await;
    broker.boot().await;
    settled(&[&leaver, &stayer], 1).await;
    assert_eq!(leaver.stop().await, Some(0));
    settled(&[&stayer], 1).await;

    let results = results::count(&broker.uri(), &name, submitted, |key, _| {
        key == "event.result.execution_success"
    })
    .await;
    until("nothing is held", async || held(&stayer).await.0 == 0).await;
    assert_eq!(most, 1, "an instance holds at most its prefetch");
    let client = Client::connect(&broker.uri(), &name).await;
    until("the queue is empty", async || client.waiting().await == 0).await;
    let twice = results.values().filter(|count| **count > 1).count();
    assert!(
        twice <= 12,
        "{twice} of {submitted} results came more than once: at least once does not mean always \
         twice"
    );
}
