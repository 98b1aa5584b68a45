//! The way down.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::graphs::{picture, slow};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{BINARY, Product, Stage, until};
use crate::support::sse::Sse;

#[tokio::test]
async fn a_prompt_in_flight_may_finish() {
    let hook = Origin::start(|_, _| Reply {
        delay: Some(Duration::from_millis(500)),
        ..Reply::ok("")
    })
    .await;
    let mut product = Product::start(&[("ALLOW_PRIVATE_NETWORKS", "true")]).await;
    let waiting = product.prompt_later(json!({"id": "w", "prompt": slow(6.0, 20)}));
    product.until_prompt("w", "running").await;
    assert_eq!(
        product
            .prompt(&json!({"id": "h", "prompt": picture("p"), "webhook_v2": hook.url("/")}))
            .await
            .0,
        202
    );
    let attached = product
        .http
        .get(format!("{}/prompt/w/events", product.url))
        .send()
        .await
        .unwrap();
    product.signal(Signal::SIGTERM);
    product.until_status("/ready", 503).await;
    let (status, answer) = product.prompt(&json!({"prompt": picture("p")})).await;
    assert_eq!(
        (status, &answer["code"]),
        (503, &json!("shutting_down")),
        "{answer}"
    );
    assert_eq!(product.get("/health").await.0, 200);
    let (status, answer) = waiting.await.unwrap();
    assert_eq!(
        (status, answer["images"].as_array().map(Vec::len)),
        (200, Some(1)),
        "{answer}"
    );
    assert_eq!(
        Sse::new(attached).rest().await.last().unwrap().name,
        "complete"
    );
    assert_eq!(product.ended().await.code(), Some(0));
    let told: Value = serde_json::from_slice(&hook.requests()[0].body).unwrap();
    assert_eq!(
        (&told["type"], &told["id"]),
        (&json!("prompt.complete"), &json!("h"))
    );
    assert_eq!(product.leftovers(), Vec::<String>::new());
    assert!(
        !product.path("temp").exists(),
        "ComfyUI was asked to stop, not killed"
    );
    let port = product.comfy_port;
    until("ComfyUI is gone", async || {
        std::net::TcpStream::connect(("127.0.0.1", port))
            .is_err()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_grace_prompts_are_given_up() {
    let mut product = Product::start(&[("SHUTDOWN_GRACE_S", "0")]).await;
    let running = product.prompt_later(json!({"id": "r", "prompt": slow(60.0, 600)}));
    product.until_prompt("r", "running").await;
    let pending = product.prompt_later(json!({"id": "p", "prompt": picture("p")}));
    product.until_prompt("p", "pending").await;
    let before = Instant::now();
    product.signal(Signal::SIGINT);
    for prompt in [running, pending] {
        let (status, answer) = prompt.await.unwrap();
        assert_eq!(
            (status, &answer["code"]),
            (503, &json!("shutting_down")),
            "{answer}"
        );
    }
    assert_eq!(product.ended().await.code(), Some(0));
    assert!(
        before.elapsed() < Duration::from_secs(15),
        "{:?}",
        before.elapsed()
    );
    assert_eq!(product.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn the_grace_period_is_one_period() {
    let mut product = Product::start(&[("SHUTDOWN_GRACE_S", "2")]).await;
    let running = product.prompt_later(json!({"id": "r", "prompt": slow(60.0, 0)}));
    product.until_prompt("r", "running").await;
    let before = Instant::now();
    product.signal(Signal::SIGTERM);
    let (status, answer) = running.await.unwrap();
    assert_eq!(
        (status, &answer["code"]),
        (503, &json!("shutting_down")),
        "{answer}"
    );
    assert_eq!(product.ended().await.code(), Some(0));
    assert!(
        before.elapsed() >= Duration::from_secs(2) && before.elapsed() < Duration::from_secs(20),
        "{:?}",
        before.elapsed()
    );
}

#[tokio::test]
async fn a_second_signal_ends_it_now() {
    let mut product = Product::start(&[]).await;
    let running = product.prompt_later(json!({"id": "r", "prompt": slow(60.0, 600)}));
    product.until_prompt("r", "running").await;
    product.signal(Signal::SIGTERM);
    product.log.line("shutting down").await;
    let before = Instant::now();
    product.signal(Signal::SIGTERM);
    product.ended().await;
    assert!(
        before.elapsed() < Duration::from_secs(5),
        "{:?}",
        before.elapsed()
    );
    running.abort();
    let port = product.comfy_port;
    until("ComfyUI has died with it", async || {
        std::net::TcpStream::connect(("127.0.0.1", port))
            .is_err()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_second_signal_ends_what_a_start_script_has_started_too() {
    let stage = Stage::new();
    let simulator = format!(
        "{BINARY} simulate-comfyui --port {} --base-directory '{}'",
        stage.comfy_port(),
        stage.path("").display()
    );
    let script = stage.path("init.sh");
    let mut product = stage
        .file("init.sh", format!("{simulator}\necho ended\n"))
        .command(&format!("sh {}", script.display()))
        .start()
        .await;
    let running = product.prompt_later(json!({"id": "r", "prompt": slow(60.0, 600)}));
    product.until_prompt("r", "running").await;
    product.signal(Signal::SIGTERM);
    product.log.line("shutting down").await;
    product.signal(Signal::SIGTERM);
    product.ended().await;
    running.abort();
    let port = product.comfy_port;
    until("ComfyUI has died with it", async || {
        std::net::TcpStream::connect(("127.0.0.1", port))
            .is_err()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn while_it_starts_or_waits() {
    let mut starting = Stage::new().flags("--slow-start 60").launch().await;
    starting.log.line("ComfyUI started").await;
    let before = Instant::now();
    assert_eq!(starting.stop().await, Some(0));
    let mut idle = Product::start(&[]).await;
    assert_eq!(idle.stop().await, Some(0));
    assert!(
        before.elapsed() < Duration::from_secs(20),
        "{:?}",
        before.elapsed()
    );
}
