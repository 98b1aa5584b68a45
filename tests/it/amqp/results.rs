//! What has come to the listener's queue, counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lapin::options::{BasicAckOptions, BasicGetOptions};
use serde_json::Value;

use super::stage::{PATIENCE, connect};

/// Takes messages until so many tasks have a result, and counts the results of each.
/// `is_result` is asked of every message by its routing key and its envelope.
pub async fn count(
    uri: &str,
    name: &str,
    wanted: usize,
    is_result: impl Fn(&str, &Value) -> bool,
) -> BTreeMap<String, usize> {
    let connection = connect(uri).await;
    let channel = connection.create_channel().await.unwrap();
    let mut results: BTreeMap<String, usize> = BTreeMap::new();
    let deadline = Instant::now() + 2 * PATIENCE;
    while results.len() < wanted {
        assert!(
            Instant::now() < deadline,
            "only {} of {wanted} tasks have a result",
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
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let delivery = message.delivery;
        let envelope: Value = serde_json::from_slice(&delivery.data).unwrap();
        delivery
            .acker
            .ack(BasicAckOptions::default())
            .await
            .unwrap();
        if is_result(delivery.routing_key.as_str(), &envelope) {
            let id = envelope["task_id"].as_str().unwrap();
            *results.entry(id.to_owned()).or_default() += 1;
        }
    }
    results
}
