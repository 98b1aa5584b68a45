//! What an operator sees and does (console.md, "What the API gains"): through the socket, as the
//! console and curl do.

mod cache;
mod control;
mod deliveries;
mod downloads;
mod events;
mod logs;
mod status;

use serde_json::{Value, json};

use crate::support::product::Product;

/// Every address, with a method that changes nothing, or nothing that is there.
const ADDRESSES: [(&str, &str); 12] = [
    ("GET", "/models/loras"),
    ("GET", "/downloads"),
    ("DELETE", "/downloads/x"),
    ("GET", "/status"),
    ("GET", "/config"),
    ("GET", "/logs"),
    ("GET", "/cache"),
    ("DELETE", "/cache/x"),
    ("GET", "/deliveries"),
    ("POST", "/deliveries/x/resend"),
    ("GET", "/events?topics=cache"),
    ("POST", "/free"),
];

#[tokio::test(flavor = "multi_thread")]
async fn everything_needs_a_key() {
    let product = Product::start(&[("API_KEYS", "a-key")]).await;
    for (method, path) in ADDRESSES.into_iter().chain([("POST", "/restart")]) {
        let method: reqwest::Method = method.parse().unwrap();
        let ask = |key: &str| {
            let url = format!("{}{path}", product.url);
            let request = product.http.request(method.clone(), url);
            request.header("X-API-Key", key).send()
        };
        let refused = ask("wrong").await.unwrap();
        assert_eq!(refused.status(), 401, "{path}");
        let body: Value = refused.json().await.unwrap();
        assert_eq!(body["code"], json!("unauthorized"), "{path}");
        if path != "/restart" {
            let status = ask("a-key").await.unwrap().status();
            assert!(matches!(status.as_u16(), 200 | 404), "{path}: {status}");
        }
    }
}
