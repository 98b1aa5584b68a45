//! A broker that is down, refuses, blocks or stays silent.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::client::Client;
use super::stage::{ScriptedRunner, at_work, close, config, connect, open, unique, until};
use crate::support::chaos_proxy::ChaosProxy;
use crate::support::rabbitmq::{MAX_MESSAGE_BYTES, RabbitMq};

/// Collects the log lines of this thread; the tests here run on one.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{}={value:?} ", field.name()));
    }
}

impl<S: tracing::Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        // What the product logs, not what its libraries do.
        if !event.metadata().target().starts_with("comfyui_api") {
            return;
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
}

impl Lines {
    fn collect() -> (Self, DefaultGuard) {
        let lines = Self::default();
        // A call site that is first met on a thread without a subscriber may be remembered as
        // wanted by nobody, for all threads. With one that wants everything behind them all, none
        // is.
        static EVERYTHING: std::sync::Once = std::sync::Once::new();
        EVERYTHING.call_once(|| {
            drop(tracing::subscriber::set_global_default(
                tracing_subscriber::registry(),
            ))
        });
        let guard =
            tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
        (lines, guard)
    }

    fn of(&self, part: &str) -> usize {
        self.0
            .lock()
            .unwrap()
            .iter()
            .filter(|line| line.contains(part))
            .count()
    }

    fn all(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

#[tokio::test]
async fn a_refused_password_is_told_once_and_never_shown() {
    let broker = RabbitMq::shared().await;
    let (lines, _guard) = Lines::collect();
    let name = unique("password");
    let proxy = ChaosProxy::start(broker.address()).await;
    let runner = ScriptedRunner::new(true);
    let transport = open(
        config(
            &format!("amqp://guest:marked-password@{}", proxy.address()),
            &name,
            &[],
        ),
        &runner,
    );
    until("three tries", async || proxy.connections() >= 3).await;
    assert_eq!(lines.of("cannot be used"), 1, "{}", lines.all());
    assert!(
        lines.of("ACCESS_REFUSED") == 1 && lines.of("marked-password") == 0,
        "{}",
        lines.all()
    );
    assert!(!transport.connected());
    close(&transport).await;
}

#[tokio::test]
async fn a_broker_that_comes_later_is_used_when_it_is_there() {
    let broker = RabbitMq::disruptable().await;
    broker.stop().await;
    let (lines, _guard) = Lines::collect();
    let name = unique("late");
    let runner = ScriptedRunner::new(true);
    let transport = open(config(&broker.uri(), &name, &[]), &runner);
    until("it is told", async || lines.of("cannot be used") == 1).await;
    broker.boot().await;
    until("connected", async || transport.connected()).await;
    let mut client = Client::connect(&broker.uri(), &name).await;
    client.submit(&json!({"id": "a"})).await;
    assert_eq!(client.next_result().await.0, "execution_success");
    until("registered", async || {
        lines.of("Instance registered: ") >= 1
    })
    .await;
    assert_eq!(
        (
            lines.of("cannot be used"),
            lines.of("AMQP connected"),
            lines.of("Instance registered: ")
        ),
        (1, 1, 1),
        "{}",
        lines.all()
    );

    broker.stop().await;
    until("the loss is noticed", async || !transport.connected()).await;
    assert_eq!(lines.of("connection lost"), 1, "{}", lines.all());
    broker.boot().await;
    until("registered again", async || {
        lines.of("Instance registered: ") == 2
    })
    .await;
    assert_eq!(
        (
            lines.of("Heartbeat started (interval=5000ms)"),
            lines.of("guest")
        ),
        (1, 0),
        "{}",
        lines.all()
    );
    close(&transport).await;
    assert_eq!(lines.of("AMQP connection closed"), 1, "{}", lines.all());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_larger_than_the_broker_takes_becomes_an_error_that_says_what_to_do() {
    let (mut client, _runner, transport) =
        at_work("oversized", true, &[("AMQP_PREFETCH", "2")]).await;
    client
        .submit(&json!({"id": "large", "bytes": MAX_MESSAGE_BYTES + 1}))
        .await;
    client.submit(&json!({"id": "small"})).await;
    let mut ends = std::collections::BTreeMap::new();
    while ends.len() < 2 {
        let (kind, envelope) = client.next_result().await;
        ends.insert(
            envelope["task_id"].as_str().unwrap().to_owned(),
            (kind, envelope["data"].clone()),
        );
    }
    assert_eq!(
        (ends["small"].0.as_str(), ends["large"].0.as_str()),
        ("execution_success", "execution_error")
    );
    let message = ends["large"].1["message"].as_str().unwrap();
    assert!(
        message.contains("upload") && message.contains("max_message_size"),
        "{message}"
    );
    // An acknowledgement that the broken connection took with it is given again.
    until("both are done with", async || {
        transport.tasks() == 0 && transport.connected() && client.waiting().await == 0
    })
    .await;
    close(&transport).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_longer_than_the_brokers_acknowledgement_timeout_survives_it() {
    let broker = RabbitMq::disruptable().await;
    let name = unique("timeout");
    let mut client = Client::connect(&broker.uri(), &name).await;
    broker
        .ctl(&[
            "eval",
            "application:set_env(rabbit, consumer_timeout, 500).",
        ])
        .await;
    let runner = ScriptedRunner::new(true);
    let transport = open(config(&broker.uri(), &name, &[]), &runner);
    client.submit(&json!({"id": "long", "do": "hold"})).await;
    until("it runs", async || runner.runs().len() == 1).await;
    until("it is back in the queue", async || {
        client.waiting().await == 1
    })
    .await;
    broker
        .ctl(&[
            "eval",
            "application:set_env(rabbit, consumer_timeout, 1800000).",
        ])
        .await;
    until("it is delivered again", async || {
        client.waiting().await == 0
    })
    .await;
    runner.release.add_permits(1);
    assert_eq!(client.next_result().await.0, "execution_success");
    until("it is acknowledged", async || transport.tasks() == 0).await;
    close(&transport).await;
    assert_eq!((client.waiting().await, runner.runs().len()), (0, 1));
}

#[tokio::test]
async fn a_memory_alarm_is_waited_out() {
    let broker = RabbitMq::disruptable().await;
    let (lines, _guard) = Lines::collect();
    let name = unique("alarm");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let runner = ScriptedRunner::new(true);
    let transport = open(
        config(&broker.uri(), &name, &[("HEARTBEAT_INTERVAL", "50")]),
        &runner,
    );
    client.submit(&json!({"id": "patient", "do": "hold"})).await;
    until("it runs", async || runner.runs().len() == 1).await;
    broker.ctl(&["set_vm_memory_high_watermark", "0"]).await;
    until("it is told", async || lines.of("blocks publishing") == 1).await;
    runner.release.add_permits(1);
    assert!(transport.connected() && transport.tasks() == 1);
    broker.ctl(&["set_vm_memory_high_watermark", "0.6"]).await;
    assert_eq!(client.next_result().await.0, "execution_success");
    until("it is told", async || lines.of("takes messages again") == 1).await;
    assert_eq!(
        (lines.of("blocks publishing"), lines.of("connection lost")),
        (1, 0),
        "{}",
        lines.all()
    );
    until("it is acknowledged", async || transport.tasks() == 0).await;
    close(&transport).await;
    assert_eq!(client.waiting().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_broker_is_left() {
    let broker = RabbitMq::shared().await;
    let name = unique("silent");
    let proxy = ChaosProxy::start(broker.address()).await;
    let runner = ScriptedRunner::new(true);
    let transport = open(
        config(
            &format!("amqp://guest:guest@{}/%2f?heartbeat=1", proxy.address()),
            &name,
            &[],
        ),
        &runner,
    );
    until("connected", async || transport.connected()).await;
    proxy.freeze();
    until("the silence is noticed", async || !transport.connected()).await;
    proxy.pass();
    until("connected again", async || transport.connected()).await;
    close(&transport).await;
}

#[tokio::test]
async fn a_private_ca_is_trusted_when_it_is_given_and_only_then() {
    let broker = RabbitMq::shared().await;
    let (lines, _guard) = Lines::collect();
    let name = unique("tls");
    let runner = ScriptedRunner::new(true);
    let stranger = open(config(&broker.tls_uri(), &name, &[]), &runner);
    until("it is told", async || lines.of("TLS failed") == 1).await;
    close(&stranger).await;
    let ca_file = broker.ca_file();
    let transport = open(
        config(
            &broker.tls_uri(),
            &name,
            &[("AMQP_CA_FILE", ca_file.to_str().unwrap())],
        ),
        &runner,
    );
    let mut client = Client::connect(&broker.uri(), &name).await;
    client.submit(&json!({"id": "a"})).await;
    assert_eq!(client.next_result().await.0, "execution_success");
    close(&transport).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_get_priorities_when_they_are_made_and_are_used_as_they_are_when_they_exist() {
    use lapin::options::QueueDeclareOptions;
    use lapin::types::{AMQPValue, FieldTable};

    let broker = RabbitMq::shared().await;
    let connection = connect(&broker.uri()).await;
    let mut priorities = FieldTable::default();
    priorities.insert("x-max-priority".into(), AMQPValue::LongInt(10));
    for exists in [false, true] {
        let name = unique("priorities");
        let queue = format!("q.gpu.{name}");
        let channel = connection.create_channel().await.unwrap();
        if exists {
            channel
                .queue_declare(
                    queue.as_str().into(),
                    QueueDeclareOptions::durable(),
                    FieldTable::default(),
                )
                .await
                .unwrap();
        }
        let runner = ScriptedRunner::new(true);
        let transport = open(
            config(&broker.uri(), &name, &[("AMQP_QUEUE_INPUT", &queue)]),
            &runner,
        );
        until("connected", async || transport.connected()).await;
        let same = channel
            .queue_declare(
                queue.as_str().into(),
                QueueDeclareOptions::durable(),
                priorities.clone(),
            )
            .await;
        assert_eq!(same.is_ok(), !exists, "{same:?}");
        close(&transport).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_and_a_deleted_exchange_are_made_again() {
    let broker = RabbitMq::shared().await;
    let name = unique("deleted");
    let client = Client::connect(&broker.uri(), &name).await;
    let runner = ScriptedRunner::new(true);
    let transport = open(config(&broker.uri(), &name, &[]), &runner);
    until("connected", async || transport.connected()).await;
    client
        .channel
        .queue_delete(format!("in.{name}").into(), Default::default())
        .await
        .unwrap();
    client
        .channel
        .exchange_delete(format!("topic.{name}").into(), Default::default())
        .await
        .unwrap();
    // It would otherwise take half of the events.
    drop(client);
    // Somebody who comes anew finds or makes both, and is served.
    let mut client = Client::connect(&broker.uri(), &name).await;
    client.submit(&json!({"id": "a"})).await;
    assert_eq!(client.next_result().await.0, "execution_success");
    close(&transport).await;
}
