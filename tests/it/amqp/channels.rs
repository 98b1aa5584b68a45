//! Channels that the broker closes cost that channel and nothing else (attack.md, A70).

use serde_json::json;

use super::client::Client;
use super::stage::{ScriptedRunner, close, config, open, proxied, unique, until};
use crate::support::rabbitmq::{MAX_MESSAGE_BYTES, RabbitMq};

#[tokio::test(flavor = "multi_thread")]
async fn oversized_results_run_once_and_their_neighbours_do_not_notice() {
    let broker = RabbitMq::shared().await;
    let name = unique("oversized");
    let mut client = Client::connect(&broker.uri(), &name).await;
    let (proxy, uri) = proxied(broker).await;
    let runner = ScriptedRunner::new(true);
    let settings = [("AMQP_PREFETCH", "6"), ("HEARTBEAT_INTERVAL", "50")];
    let transport = open(config(&uri, &name, &settings), &runner);
    for index in 0..6 {
        let large =
            json!({"id": format!("large{index}"), "ms": 20, "bytes": MAX_MESSAGE_BYTES + index});
        client.submit(&large).await;
        let small = json!({"id": format!("small{index}"), "ms": 20, "bytes": 100_000});
        client.submit(&small).await;
    }
    let mut ends = std::collections::BTreeMap::new();
    for _ in 0..12 {
        let (kind, envelope) = client.next_result().await;
        let id = envelope["task_id"].as_str().unwrap().to_owned();
        if id.starts_with("large") {
            let message = envelope["data"]["message"].as_str().unwrap();
            assert!(
                message.contains("upload") && message.contains("max_message_size"),
                "{message}"
            );
        }
        assert_eq!(ends.insert(id, kind), None, "one event each");
    }
    until("all are done with", async || {
        transport.tasks() == 0 && client.waiting().await == 0
    })
    .await;
    for (id, kind) in &ends {
        let expected = if id.starts_with("large") {
            "execution_error"
        } else {
            "execution_success"
        };
        assert_eq!(kind, expected, "{id}");
    }
    let mut runs = runner.runs();
    runs.sort();
    let mut expected: Vec<String> = ends.into_keys().collect();
    expected.sort();
    assert_eq!(runs, expected, "each ran once");
    // Beside it there was one that asked for the broker's version.
    assert_eq!(proxy.connections(), 2, "the connection does not notice");
    // What comes now is after all of that: no second copy of anything is on its way.
    client.submit(&json!({"id": "last"})).await;
    assert_eq!(client.next_result().await.1["task_id"], "last");
    close(&transport).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_exchange_is_made_again_on_the_same_connection() {
    let broker = RabbitMq::shared().await;
    let name = unique("exchange");
    let client = Client::connect(&broker.uri(), &name).await;
    let (proxy, uri) = proxied(broker).await;
    let runner = ScriptedRunner::new(true);
    let settings = [("AMQP_PREFETCH", "2"), ("HEARTBEAT_INTERVAL", "50")];
    let transport = open(config(&uri, &name, &settings), &runner);
    client.submit(&json!({"id": "held", "do": "hold"})).await;
    until("it runs", async || runner.runs().len() == 1).await;
    client
        .channel
        .exchange_delete(format!("topic.{name}").into(), Default::default())
        .await
        .unwrap();
    // Heartbeats meet the missing exchange, and then it is there again.
    let exists = async || {
        let connection = super::stage::connect(&broker.uri()).await;
        let channel = connection.create_channel().await.unwrap();
        let passive = lapin::options::ExchangeDeclareOptions {
            passive: true,
            durable: true,
            ..Default::default()
        };
        let declared = channel.exchange_declare(
            format!("topic.{name}").into(),
            lapin::ExchangeKind::Topic,
            passive,
            lapin::types::FieldTable::default(),
        );
        declared.await.is_ok()
    };
    until("the exchange is there again", exists).await;
    drop(client);
    let mut client = Client::connect(&broker.uri(), &name).await;
    runner.release.add_permits(1);
    assert_eq!(client.next_result().await.1["task_id"], "held");
    client.next_of("service.instance.heartbeat").await;
    until("it is acknowledged", async || transport.tasks() == 0).await;
    // Beside it there was one that asked for the broker's version.
    assert_eq!((proxy.connections(), runner.runs().len()), (2, 1));
    close(&transport).await;
}

/// D19: the broker's certificate, by the names of the AMQP line's variables.
#[tokio::test(flavor = "multi_thread")]
async fn tls_is_set_by_variables() {
    let broker = RabbitMq::shared().await;
    let ca_file = broker.ca_file();
    let ca_file = ca_file.to_str().unwrap();
    for (settings, works) in [
        (&[("AMQP_TLS_CA_FILE", ca_file)][..], true),
        (&[("AMQP_TLS_REJECT_UNAUTHORIZED", "false")], true),
        (
            &[
                ("AMQP_TLS_CA_FILE", ca_file),
                ("AMQP_SERVERNAME", "127.0.0.1"),
            ],
            true,
        ),
        (
            &[
                ("AMQP_TLS_CA_FILE", ca_file),
                ("AMQP_SERVERNAME", "other.example"),
            ],
            false,
        ),
    ] {
        let runner = ScriptedRunner::new(true);
        let transport = open(config(&broker.tls_uri(), &unique("tls"), settings), &runner);
        if works {
            until("connected", async || transport.connected()).await;
        } else {
            // Long enough for the others to have connected.
            tokio::time::sleep(std::time::Duration::from_millis(700)).await;
            assert!(!transport.connected(), "{settings:?}");
        }
        close(&transport).await;
    }
}
