//! Streams: what a client sees of a prompt while it runs (delivery.md, "Streaming").

mod events;
mod readers;

use serde_json::Value;

use crate::support::product::Product;
use crate::support::sse::{Event, Sse};

async fn send(product: &Product, body: &Value) -> reqwest::Response {
    product
        .http
        .post(format!("{}/prompt", product.url))
        .header("Accept", "text/event-stream")
        .json(body)
        .send()
        .await
        .unwrap()
}

async fn stream(product: &Product, body: &Value) -> Sse {
    Sse::new(send(product, body).await)
}

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(Event::kind).collect()
}

fn one_after_the_other(events: &[Event]) {
    assert!(
        events.windows(2).all(|two| two[0].id < two[1].id),
        "{:?}",
        events.iter().map(|event| event.id).collect::<Vec<_>>()
    );
}
