//! The HTTP transport: what every endpoint has in common, before any prompt runs.

mod compression;
mod connections;
mod keys;
mod refusals;

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response};
use serde_json::Value;

use crate::support::product::Product;

/// A client that says only what it is told to say, and shows what came over the wire.
fn plain() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .gzip(false)
        .timeout(Duration::from_secs(20))
}

async fn send(
    product: &Product,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<reqwest::Body>,
) -> Response {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            HeaderName::try_from(*name).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    plain()
        .build()
        .unwrap()
        .request(method, format!("{}{path}", product.url))
        .headers(map)
        .body(body)
        .send()
        .await
        .unwrap()
}

/// Status, code and body of a refusal. Every one is JSON with a sentence.
async fn refusal(response: Response) -> (u16, String, Value) {
    let status = response.status().as_u16();
    assert_eq!(
        response.headers()["content-type"],
        "application/json",
        "{response:?}"
    );
    let body: Value = response.json().await.unwrap();
    assert!(
        body["error"]
            .as_str()
            .is_some_and(|sentence| sentence.len() > 10),
        "{body}"
    );
    (status, body["code"].as_str().unwrap().to_owned(), body)
}

const JSON: (&str, &str) = ("content-type", "application/json");

async fn status(product: &Product, path: &str, headers: &[(&str, &str)]) -> u16 {
    send(product, Method::GET, path, headers, "")
        .await
        .status()
        .as_u16()
}
