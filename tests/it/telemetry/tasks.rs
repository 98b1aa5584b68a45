//! The context of tasks of the queue.

use std::time::Duration;

use serde_json::json;

use super::{CALLER, PARENT, STATE, TRACE, stage};
use crate::amqp::client::Client;
use crate::amqp::stage::unique;
use crate::delivered::picture;
use crate::support::collector::{Collector, one};
use crate::support::rabbitmq::RabbitMq;

fn member(uri: &str, name: &str) -> crate::support::product::Stage {
    let (queue, exchange) = (format!("in.{name}"), format!("topic.{name}"));
    stage().env("AMQP_URL", uri).envs(&[
        ("AMQP_QUEUE_INPUT", &queue),
        ("AMQP_EXCHANGE_TOPIC", &exchange),
        ("HEARTBEAT_ENABLED", "false"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_the_queue() {
    let broker = RabbitMq::shared().await;
    for exporting in [false, true] {
        let collector = Collector::start().await;
        let name = unique("traced");
        let mut client = Client::connect(&broker.uri(), &name).await;
        let stage = member(&broker.uri(), &name);
        let stage = if exporting {
            collector.stage(stage)
        } else {
            stage
        };
        let _product = stage.start().await;
        let body = json!({"id": "task", "prompt": picture(1)});
        client
            .submit_traced(&body, &[("traceparent", PARENT), ("tracestate", STATE)])
            .await;
        let mut contexts = Vec::new();
        loop {
            let (key, context) = client.next_context("event.").await;
            let last = key.ends_with("execution_success");
            contexts.push((key, context));
            if last {
                break;
            }
        }
        assert!(contexts.len() > 3, "{contexts:?}");
        for (key, (parent, state)) in &contexts {
            let parent = parent
                .as_deref()
                .unwrap_or_else(|| panic!("nothing in {key}"));
            assert_eq!(state.as_deref(), Some(STATE), "{key}");
            if exporting {
                assert!(
                    parent.starts_with(&format!("00-{TRACE}-")),
                    "{key}: {parent}"
                );
            } else {
                assert_eq!(parent, PARENT, "{key}");
            }
        }
        if !exporting {
            continue;
        }
        let queue = format!("process in.{name}");
        let spans = collector.wait(&queue).await;
        let process = one(&spans, &queue);
        assert_eq!((&*process.trace, &*process.parent), (TRACE, CALLER));
        assert_eq!(process.kind, "CONSUMER");
        for (name, value) in [
            ("messaging.system", "rabbitmq"),
            ("messaging.operation.name", "process"),
            ("messaging.operation.type", "process"),
            ("messaging.destination.name", &format!("in.{name}")),
            ("messaging.message.id", "task"),
            ("comfyui.amqp.redelivered", "false"),
        ] {
            process.has(name, value);
        }
        let prompt = one(&spans, "prompt");
        assert_eq!(prompt.parent, process.id);
        prompt.has("comfyui.source", "amqp");
        let destination = format!("topic.{name}:event.result.execution_success");
        let publish = one(&spans, &format!("publish {destination}"));
        assert_eq!((&*publish.parent, publish.kind), (&*process.id, "PRODUCER"));
        for (name, value) in [
            ("messaging.system", "rabbitmq"),
            ("messaging.operation.name", "publish"),
            ("messaging.operation.type", "send"),
            ("messaging.destination.name", destination.as_str()),
        ] {
            publish.has(name, value);
        }
        let (_, (parent, _)) = contexts.last().unwrap();
        assert_eq!(
            parent.as_deref(),
            Some(&*format!("00-{TRACE}-{}-01", publish.id))
        );
        assert!(!spans.iter().any(|span| span.name.contains("event.stream")));
        assert!(process.end >= publish.end - 1_000_000_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_delivered_again_is_in_the_same_trace() {
    let broker = RabbitMq::shared().await;
    let collector = Collector::start().await;
    let name = unique("again");
    let client = Client::connect(&broker.uri(), &name).await;
    let mut killed = member(&broker.uri(), &name).start().await;
    let body = json!({"id": "again", "prompt": crate::delivered::slow(2.0)});
    client
        .submit_traced(&body, &[("traceparent", PARENT), ("tracestate", STATE)])
        .await;
    killed.until_prompt("again", "running").await;
    killed.signal(nix::sys::signal::Signal::SIGKILL);
    killed.ended().await;
    let _other = collector.stage(member(&broker.uri(), &name)).start().await;
    let queue = format!("process in.{name}");
    let spans = collector.wait(&queue).await;
    let process = one(&spans, &queue);
    process.has("comfyui.amqp.redelivered", "true");
    assert_eq!((&*process.trace, &*process.parent), (TRACE, CALLER));
    assert_eq!(one(&spans, "prompt").parent, process.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_no_task_has_a_span_too() {
    let broker = RabbitMq::shared().await;
    let collector = Collector::start().await;
    let name = unique("refused");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let _product = collector.stage(member(&broker.uri(), &name)).start().await;
    client
        .submit_traced(
            &json!({"id": "bad", "prompt": 7}),
            &[("traceparent", PARENT)],
        )
        .await;
    let (key, (parent, _)) = client.next_context("event.result").await;
    assert!(key.ends_with("execution_error"), "{key}");
    assert!(parent.unwrap().contains(TRACE));
    let spans = collector.wait(&format!("process in.{name}")).await;
    let process = one(&spans, &format!("process in.{name}"));
    assert!(process.failed);
    process.has("error.type", "invalid_request");
    tokio::time::sleep(Duration::from_millis(50)).await;
}
