//! Connections, requests on them, and their headers.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::graphs::{picture, slow};
use crate::support::product::{Product, Stage};

async fn connection(product: &Product, beginning: &str) -> TcpStream {
    let address = product.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(beginning.as_bytes()).await.unwrap();
    stream
}

/// The first line of the answer to a request; empty when there is none.
async fn status_line(product: &Product, request: &str) -> String {
    let mut stream = connection(product, request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer);
    text.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn who_says_nothing_keeps_nobody_out() {
    let product = Stage::new().descriptors(256).start().await;
    let started = tokio::spawn({
        let (http, url) = (product.http.clone(), product.url.clone());
        let body = serde_json::json!({"prompt": slow(2.0, 4)});
        async move {
            let sent = http.post(format!("{url}/prompt")).json(&body).send().await;
            sent.unwrap().status()
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let half = "POST /prompt HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    let mut crowd = Vec::new();
    for number in 0..600 {
        let beginning = [
            "",
            "G",
            "GET / HT",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            half,
        ][number % 5];
        crowd.push(connection(&product, beginning).await);
        if number % 100 == 99 {
            let began = Instant::now();
            let fresh = reqwest::Client::builder().no_proxy().build().unwrap();
            let health = fresh.get(format!("{}/health", product.url)).send().await;
            assert_eq!(health.unwrap().status(), 200, "after {number} connections");
            assert!(
                began.elapsed() < Duration::from_secs(2),
                "{:?}",
                began.elapsed()
            );
        }
    }
    let (status, answer) = product
        .prompt(&serde_json::json!({"prompt": picture("x")}))
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        started.await.unwrap(),
        200,
        "a client that is being answered is not sent away"
    );
    assert_eq!(
        product.log.count("Too many open files"),
        0,
        "{}",
        product.log.text()
    );
}

#[tokio::test]
async fn more_descriptors_are_asked_for_where_they_may_be_had() {
    let product = Product::start(&[]).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", product.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let words: Vec<u64> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let [soft, hard] = words[..] else {
        panic!("{line}")
    };
    assert!(soft >= hard.min(65_536), "{line}");
}

#[tokio::test]
async fn headers_and_addresses_are_bounded() {
    let product = Product::start(&[]).await;
    let many: String = (0..120).map(|n| format!("x-{n}: y\r\n")).collect();
    let line = status_line(&product, &format!("GET /health HTTP/1.1\r\n{many}\r\n")).await;
    assert!(line.contains(" 431 "), "{line}");
    let long = "x".repeat(70_000);
    let line = status_line(
        &product,
        &format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"),
    )
    .await;
    assert!(line.contains(" 414 "), "{line}");
    let large = format!("x: {}\r\n", "y".repeat(600_000));
    let line = status_line(&product, &format!("GET /health HTTP/1.1\r\n{large}\r\n")).await;
    assert!(line.is_empty() || line.contains(" 431 "), "{line}");
    let (status, _) = product.get("/health").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn requests_at_once_on_one_http2_connection_are_limited() {
    let product = Product::start(&[]).await;
    let (status, job) = product
        .post(
            "/api/v2/jobs",
            &serde_json::json!({"workflow": slow(30.0, 30)}),
        )
        .await;
    assert_eq!(status, 201, "{job}");
    let address = format!(
        "{}/api/v2/jobs/{}/events",
        product.url,
        job["id"].as_str().unwrap()
    );
    let http2 = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let mut streams = Vec::new();
    for _ in 0..200 {
        streams.push(http2.get(&address).send().await.unwrap());
    }
    let one_more = http2.get(format!("{}/health", product.url)).send();
    let waits = tokio::time::timeout(Duration::from_millis(500), one_more).await;
    assert!(waits.is_err(), "the 201st waits");
    streams.truncate(100);
    let (status, _) = product.get("/health").await;
    assert_eq!(status, 200, "others have connections of their own");
    let one_more = http2.get(format!("{}/health", product.url)).send();
    assert_eq!(one_more.await.unwrap().status(), 200);
}
