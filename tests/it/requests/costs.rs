//! A10, A20, A71: what a body costs, and that nobody else waits for it.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{post, refused};
use crate::support::graphs::{picture, png, to_base64};
use crate::support::memory;
use crate::support::product::{Product, Stage};

const MIB: u64 = 1024 * 1024;

/// The most memory (bytes) the process has had so far.
fn peak(product: &Product) -> u64 {
    memory::of(product.pid(), "VmHWM")
}

/// Asks for `/health` until told to stop; the longest wait.
fn patient(
    product: &Product,
) -> (
    tokio::sync::oneshot::Sender<()>,
    tokio::task::JoinHandle<Duration>,
) {
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let (http, url) = (product.http.clone(), format!("{}/health", product.url));
    let asking = tokio::spawn(async move {
        let mut longest = Duration::ZERO;
        while stopped.try_recv().is_err() {
            let began = Instant::now();
            http.get(&url).send().await.unwrap();
            longest = longest.max(began.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        longest
    });
    (stop, asking)
}

/// A10: bodies of many small values are refused while they come, whatever their shape and wherever
/// they stand.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_costs_by_its_size_and_not_by_its_shape() {
    let product = Stage::new()
        .env("MAX_BODY_SIZE_MB", 30)
        .file(
            "workflows/p.json",
            json!({"summary": "s", "prompt": picture("x")}).to_string(),
        )
        .start()
        .await;
    let before = peak(&product);
    // What else runs on this machine makes answers late, too.
    let (stop, asking) = patient(&product);
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.send(()).unwrap();
    let usual = asking.await.unwrap();
    let (stop, asking) = patient(&product);
    let many = |piece: &str| vec![piece; 25_000_000 / (piece.len() + 1)].join(",");
    for (path, head, piece, tail) in [
        ("/prompt", "{\"x\": [", "{\"\":0}", "]}"),
        ("/prompt", "{\"x\": [", "[]", "]}"),
        (
            "/prompt",
            "{\"prompt\": {\"1\": {\"class_type\": \"X\", \"inputs\": {\"x\": [",
            "0",
            "]}}}}",
        ),
        (
            "/prompt",
            "{\"credentials\": [",
            "{\"url_pattern\": \"\", \"auth\": {}}",
            "]}",
        ),
        ("/workflow/p", "{\"input\": {\"x\": [", "\"\"", "]}}"),
        ("/interrupt", "{\"id\": [", "null", "]}"),
    ] {
        let answer = post(&product, path, &[], format!("{head}{}{tail}", many(piece))).await;
        refused(
            piece,
            &answer,
            (400, "invalid_request"),
            Some("body"),
            "1000000 values",
        );
    }
    let text = serde_json::to_string(&format!("{{\"1\": [{}]}}", many("0"))).unwrap();
    let answer = post(&product, "/prompt", &[], format!("{{\"prompt\": {text}}}")).await;
    refused(
        "prompt as text",
        &answer,
        (400, "invalid_request"),
        Some("prompt"),
        "1000000 values",
    );
    // Below the limit it is a body like any other; what nobody knows is not built.
    let unknown = format!(
        "{{\"prompt\": {}, \"x\": [{}0]}}",
        picture("x"),
        "{\"\":0},".repeat(400_000)
    );
    let (status, answer) = post(&product, "/prompt", &[], unknown).await;
    assert_eq!(status, 200, "{answer}");
    let grown = peak(&product) - before;
    assert!(grown < 4 * 30 * MIB, "{} MiB", grown / MIB);
    stop.send(()).unwrap();
    let longest = asking.await.unwrap();
    let most = Duration::from_millis(1_500) + usual * 20;
    assert!(longest < most, "{longest:?}, else {usual:?}");
}

/// A71: a picture in base64 is there twice at most while it is unpacked. Several at once wait for
/// each other.
#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_share_their_memory() {
    let product = Stage::new().env("MAX_BODY_SIZE_MB", 40).start().await;
    let mut picture = png([1, 2, 3]);
    picture.resize(24_000_000, 0);
    let image = to_base64(&picture);
    let body = json!({"prompt": crate::support::graphs::loaded(&image)}).to_string();
    let size = body.len() as u64;
    let before = peak(&product);
    let (status, answer) = post(&product, "/prompt", &[], body.clone()).await;
    assert_eq!(status, 200, "{}", answer["error"]);
    let one = peak(&product) - before;
    assert!(
        one < 3 * size + 24 * MIB,
        "{} MiB for {} MiB",
        one / MIB,
        size / MIB
    );
    let sending = (0..6).map(|_| post(&product, "/prompt", &[], body.clone()));
    for (status, answer) in futures_util::future::join_all(sending).await {
        assert_eq!(status, 200, "{}", answer["error"]);
    }
}

/// A20: patterns made to take long do not keep anybody waiting.
#[tokio::test(flavor = "multi_thread")]
async fn patterns_never_hold_up_the_server() {
    let product = Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .start()
        .await;
    let (stop, asking) = patient(&product);
    let bearer = json!({"type": "bearer", "token": "t"});
    let long = json!([{"url_pattern": format!("{}b", "**a".repeat(100_000)), "auth": bearer}]);
    let answer = product
        .prompt(&json!({"prompt": picture("x"), "credentials": long}))
        .await;
    refused(
        "long",
        &answer,
        (400, "invalid_request"),
        Some("credentials.0.url_pattern"),
        "1024",
    );
    let hundred =
        vec![json!({"url_pattern": format!("{}b", "**a".repeat(341)), "auth": bearer}); 100];
    let mut graph = picture("x");
    for n in 0..64 {
        graph[format!("l{n}")] = json!({
            "class_type": "LoadImage",
            "inputs": {"image": format!("http://127.0.0.1:9/{n}/{}", "a".repeat(7_000))}
        });
    }
    let began = Instant::now();
    let answer = product
        .prompt(&json!({"prompt": graph, "credentials": hundred}))
        .await;
    assert_eq!(answer.0, 400, "{}", answer.1["error"]);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    let more = vec![json!({"url_pattern": "*", "auth": bearer}); 101];
    let answer = product
        .prompt(&json!({"prompt": picture("x"), "credentials": more}))
        .await;
    refused(
        "101",
        &answer,
        (400, "invalid_request"),
        Some("credentials"),
        "100",
    );
    stop.send(()).unwrap();
    let longest = asking.await.unwrap();
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}
