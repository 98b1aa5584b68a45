//! What is wrong with a request is said: bodies, types, sizes, depths, paths and methods.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{JSON, refusal, send};
use crate::support::graphs::picture;
use crate::support::product::{Product, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_said() {
    let product = Stage::new().env("MAX_BODY_SIZE_MB", 1).start().await;
    for path in ["/prompt", "/interrupt", "/models", "/download"] {
        bodies(&product, path).await;
    }
    types(&product).await;
    sizes(&product).await;
    depths(&product).await;
    paths_and_methods(&product).await;
    // Still well after all that.
    product.run("after", &picture("after")).await;
}

/// Bodies that are not a JSON object, and fields of other types.
async fn bodies(product: &Product, path: &str) {
    for body in [
        "",
        "{",
        "nonsense",
        "{\"id\": }",
        "[]",
        "null",
        "5",
        "\"text\"",
        "{} {}",
        "{'id': 1}",
    ] {
        let (status, code, answer) =
            refusal(send(product, Method::POST, path, &[JSON], body).await).await;
        assert_eq!(
            (status, code.as_str()),
            (400, "invalid_request"),
            "{path} {body:?}: {answer}"
        );
        assert!(answer["location"].is_string(), "{path} {body:?}: {answer}");
    }
    let (status, code, answer) = refusal(
        send(
            product,
            Method::POST,
            path,
            &[JSON],
            vec![b'{', b'"', 0xff, b'"', b'}'],
        )
        .await,
    )
    .await;
    assert_eq!(
        (status, code.as_str()),
        (400, "invalid_request"),
        "{path} not UTF-8: {answer}"
    );
    let (status, code, answer) =
        refusal(send(product, Method::POST, path, &[JSON], "{}").await).await;
    assert_eq!(
        (status, code.as_str()),
        (400, "invalid_request"),
        "{path} without a field: {answer}"
    );
    let (status, _, answer) = refusal(
        send(
            product,
            Method::POST,
            path,
            &[JSON],
            json!({"id": 5, "url": 5, "prompt": 5, "type": 5}).to_string(),
        )
        .await,
    )
    .await;
    assert_eq!(status, 400, "{path} wrong types: {answer}");
}

async fn types(product: &Product) {
    let body = json!({"id": "unknown"}).to_string();
    for wrong in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "text/json",
        "",
    ] {
        let (status, code, answer) = refusal(
            send(
                product,
                Method::POST,
                "/interrupt",
                &[("content-type", wrong)],
                body.clone(),
            )
            .await,
        )
        .await;
        assert_eq!(
            (status, code.as_str()),
            (415, "unsupported_media_type"),
            "{wrong}: {answer}"
        );
    }
    let (status, code, answer) =
        refusal(send(product, Method::POST, "/interrupt", &[], body.clone()).await).await;
    assert_eq!(
        (status, code.as_str()),
        (415, "unsupported_media_type"),
        "none: {answer}"
    );
    for right in [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/problem+json",
    ] {
        let (status, _, answer) = refusal(
            send(
                product,
                Method::POST,
                "/interrupt",
                &[("content-type", right)],
                body.clone(),
            )
            .await,
        )
        .await;
        assert_eq!(
            (status, &answer["interrupted"]),
            (404, &json!("failed")),
            "{right}: {answer}"
        );
    }
}

/// The limit is one MiB here.
async fn sizes(product: &Product) {
    let padded = |size: usize| {
        let text = r#"{"id": "unknown"}"#;
        text.to_owned() + &" ".repeat(size - text.len())
    };
    let (status, _, answer) = refusal(
        send(
            product,
            Method::POST,
            "/interrupt",
            &[JSON],
            padded(1 << 20),
        )
        .await,
    )
    .await;
    assert_eq!(status, 404, "exactly the limit: {answer}");
    for size in [(1 << 20) + 1, 9 << 20] {
        let (status, code, answer) =
            refusal(send(product, Method::POST, "/interrupt", &[JSON], padded(size)).await).await;
        assert_eq!(
            (status, code.as_str()),
            (413, "payload_too_large"),
            "{size} with Content-Length: {answer}"
        );
        assert!(
            answer["error"]
                .as_str()
                .unwrap()
                .contains("MAX_BODY_SIZE_MB"),
            "{answer}"
        );
        let pieces: Vec<std::io::Result<Vec<u8>>> = padded(size)
            .as_bytes()
            .chunks(50_000)
            .map(|piece| Ok(piece.to_vec()))
            .collect();
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
        let (status, code, answer) =
            refusal(send(product, Method::POST, "/interrupt", &[JSON], body).await).await;
        assert_eq!(
            (status, code.as_str()),
            (413, "payload_too_large"),
            "{size} in chunks: {answer}"
        );
    }
    // Who asks before sending is told before sending.
    let expecting = [
        JSON,
        ("expect", "100-continue"),
        ("content-length", "8000000000"),
    ];
    let asked = send_head(product, "/interrupt", &expecting).await;
    assert!(asked.starts_with("HTTP/1.1 413 "), "{asked}");
}

/// Sends a head and no body; gives what comes back first.
async fn send_head(product: &Product, path: &str, headers: &[(&str, &str)]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = product.url.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let fields: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    stream
        .write_all(format!("POST {path} HTTP/1.1\r\nhost: {address}\r\n{fields}\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut answer))
        .await
        .expect("no answer before the body")
        .unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

/// Nesting must not cost the stack.
async fn depths(product: &Product) {
    for levels in [200, 100_000] {
        let (opened, closed) = ("[".repeat(levels), "]".repeat(levels));
        let nested = format!(
            r#"{{"prompt": {{"1": {{"class_type": "SaveImage", "inputs": {{"filename_prefix": "x", "images": {opened}{closed}}}}}}}}}"#
        );
        for body in [opened.clone(), format!("{opened}{closed}"), nested] {
            let (status, code, answer) =
                refusal(send(product, Method::POST, "/prompt", &[JSON], body).await).await;
            assert_eq!(
                (status, code.as_str()),
                (400, "invalid_request"),
                "{levels} levels: {answer}"
            );
        }
    }
}

async fn paths_and_methods(product: &Product) {
    for path in [
        "/nowhere",
        "/prompts",
        "/prompt/",
        "/prompt/a/b",
        "/workflow/nowhere",
        "/docs/x/y",
        "/%00",
        "//prompt",
        "/prompt/unknown",
    ] {
        let method = if path.starts_with("/workflow") {
            Method::POST
        } else {
            Method::GET
        };
        let (status, code, answer) =
            refusal(send(product, method, path, &[JSON], "{\"input\": {}}").await).await;
        assert_eq!(
            (status, code.as_str()),
            (404, "not_found"),
            "{path}: {answer}"
        );
    }
    let cases = [
        (Method::GET, "/prompt", "POST"),
        (Method::PUT, "/prompt", "POST"),
        (Method::POST, "/queue", "GET"),
        (Method::DELETE, "/models", "GET POST"),
        (Method::PATCH, "/prompt/x", "DELETE GET"),
        (Method::POST, "/health", "GET"),
        (Method::POST, "/openapi.json", "GET"),
        (Method::GET, "/workflow/x", "POST"),
        (Method::OPTIONS, "/prompt", "POST"),
    ];
    for (method, path, methods) in cases {
        let response = send(product, method.clone(), path, &[], "").await;
        let allowed = response
            .headers()
            .get("allow")
            .unwrap_or_else(|| panic!("{method} {path}: {response:?}"))
            .to_str()
            .unwrap()
            .to_owned();
        let mut named: Vec<&str> = allowed
            .split(',')
            .map(str::trim)
            .filter(|name| *name != "HEAD")
            .collect();
        named.sort_unstable();
        assert_eq!(named.join(" "), methods, "{method} {path}");
        let (status, code, answer) = refusal(response).await;
        assert_eq!(
            (status, code.as_str()),
            (405, "method_not_allowed"),
            "{method} {path}: {answer}"
        );
    }
}
