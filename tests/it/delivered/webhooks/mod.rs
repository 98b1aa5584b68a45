//! Prompt webhooks: what they say for every way a prompt can end after its 202, that they verify,
//! and that none is lost.

mod killed;
mod kinds;
mod receivers;

use base64::Engine;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::support::product::Product;
use crate::support::receiver::{Received, Receiver};
use crate::webhook::SECRET;

/// The body of a webhook whose signature is right.
fn verified(received: &Received) -> Value {
    let key = base64::engine::general_purpose::STANDARD
        .decode(SECRET.trim_start_matches("whsec_"))
        .unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(
        format!(
            "{}.{}.",
            received.header("webhook-id"),
            received.header("webhook-timestamp")
        )
        .as_bytes(),
    );
    mac.update(&received.body);
    let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    // One more is the Node server's reading of the prefix.
    let mut signatures = received.header("webhook-signature").split(' ');
    assert_eq!(signatures.next(), Some(&*format!("v1,{signature}")));
    let body = received.json();
    assert_eq!(received.header("webhook-id"), body["id"].as_str().unwrap());
    assert_eq!(received.header("content-type"), "application/json");
    time::OffsetDateTime::parse(
        body["timestamp"].as_str().unwrap(),
        &time::format_description::well_known::Rfc3339,
    )
    .unwrap();
    body
}

async fn accepted(product: &Product, receiver: &Receiver, id: &str, body: &mut Value) {
    body["id"] = id.into();
    body["webhook_v2"] = receiver.url(&format!("/{id}")).to_string().into();
    let (status, answer) = product.prompt(body).await;
    assert_eq!(
        (status, answer["status"].as_str(), answer["id"].as_str()),
        (202, Some("ok"), Some(id)),
        "{answer}"
    );
}

async fn failure(receiver: &Receiver, id: &str, code: &str) -> Value {
    let body = verified(&receiver.wait(&format!("/{id}"), 1).await[0]);
    assert_eq!(
        (
            body["type"].as_str(),
            body["id"].as_str(),
            body["code"].as_str()
        ),
        (Some("prompt.failed"), Some(id), Some(code)),
        "{body}"
    );
    assert!(
        body["prompt"].is_object()
            && body["error"]
                .as_str()
                .is_some_and(|error| !error.is_empty()),
        "{body}"
    );
    assert!(body.get("credentials").is_none() && body.get("extra_data").is_none());
    body
}
