//! ComfyUI dies, hangs, loses things, comes back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::graphs::{picture, slow, with};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage, until};

fn unavailable((status, answer): &(u16, Value)) {
    assert_eq!(
        (*status, &answer["code"]),
        (503, &json!("comfyui_unavailable")),
        "{answer}"
    );
}

#[tokio::test]
async fn killed_in_mid_prompt_it_is_started_again() {
    let product = Product::start(&[("ALWAYS_RESTART_COMFYUI", "true")]).await;
    let running = product.prompt_later(json!({"id": "r", "prompt": slow(60.0, 600)}));
    product.until_prompt("r", "running").await;
    let pending = product.prompt_later(json!({"id": "p", "prompt": picture("p")}));
    product.until_prompt("p", "pending").await;
    let before = Instant::now();
    product.faults(json!({"crash": 0})).await;
    unavailable(&running.await.unwrap());
    unavailable(&pending.await.unwrap());
    assert!(
        before.elapsed() < Duration::from_secs(5),
        "{:?}",
        before.elapsed()
    );
    assert_eq!(product.get("/health").await.0, 200, "healthy all the time");
    product.until_ready().await;
    product.run("after", &picture("p")).await;
    product.until_clean().await;

    // By a node, and with a start that takes a while: not ready meanwhile, and prompts are told so.
    let product = Stage::new()
        .env("ALWAYS_RESTART_COMFYUI", "true")
        .flags("--slow-start 5")
        .start()
        .await;
    let crash = with(
        picture("x"),
        json!({"5": {"class_type": "SimCrash", "inputs": {"code": 3}}}),
    );
    let answer = product.prompt(&json!({"id": "c", "prompt": crash})).await;
    unavailable(&answer);
    assert!(
        answer.1["error"].as_str().unwrap().contains("exit code 3"),
        "{}",
        answer.1
    );
    let (status, ready) = product.get("/ready").await;
    assert_eq!((status, &ready["status"]), (503, &json!("not ready")));
    assert!(ready["reason"].is_string());
    let response = product
        .http
        .post(format!("{}/prompt", product.url))
        .json(&json!({"prompt": picture("p")}))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    product.until_ready().await;
    product.run("after", &picture("p")).await;
    product.until_clean().await;
}

#[tokio::test]
async fn killed_without_restart_the_server_ends_too_and_tells_first() {
    let hook = Origin::start(|_, _| Reply {
        delay: Some(Duration::from_millis(300)),
        ..Reply::ok("")
    })
    .await;
    let mut product = Product::start(&[("ALLOW_PRIVATE_NETWORKS", "true")]).await;
    let waiting = product.prompt_later(json!({"id": "w", "prompt": slow(60.0, 600)}));
    let (status, _) = product
        .prompt(&json!({"id": "h", "prompt": slow(60.0, 600), "webhook_v2": hook.url("/")}))
        .await;
    assert_eq!(status, 202);
    product.faults(json!({"crash": 0})).await;
    unavailable(&waiting.await.unwrap());
    assert_eq!(product.ended().await.code(), Some(1));
    let told: Value = serde_json::from_slice(&hook.requests()[0].body).unwrap();
    assert_eq!(
        (&told["type"], &told["id"], &told["code"]),
        (
            &json!("prompt.failed"),
            &json!("h"),
            &json!("comfyui_unavailable")
        )
    );
    assert!(product.log.text().contains("exit code 0"));
    assert_eq!(product.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_dead_worker_is_recognised() {
    let product = Stage::new()
        .env("ALWAYS_RESTART_COMFYUI", "true")
        .start()
        .await;
    product.faults(json!({"dead_worker": true})).await;
    let answer = product
        .prompt(&json!({"id": "d", "prompt": picture("p")}))
        .await;
    unavailable(&answer);
    assert!(
        answer.1["error"].as_str().unwrap().contains("worker"),
        "{}",
        answer.1
    );
    product.until_ready().await;
    product.run("after", &picture("p")).await;
    product.until_clean().await;
}

/// ComfyUI hangs under a running prompt, which ends with 503 and the reason.
async fn a_prompt_ends_when_comfyui_hangs(product: &Product) {
    let running = product.prompt_later(json!({"id": "r", "prompt": slow(60.0, 600)}));
    product.until_prompt("r", "running").await;
    product.faults(json!({"hang_http": true})).await;
    let answer = running.await.unwrap();
    unavailable(&answer);
    assert!(
        answer.1["error"]
            .as_str()
            .unwrap()
            .contains("did not answer"),
        "{}",
        answer.1
    );
}

#[tokio::test]
async fn a_comfyui_that_does_not_answer_is_started_again() {
    let product = Stage::new()
        .env("ALWAYS_RESTART_COMFYUI", "true")
        .env("COMFYUI_HANG_TIMEOUT_S", "2")
        .start()
        .await;
    a_prompt_ends_when_comfyui_hangs(&product).await;
    product.until_ready().await;
    product.run("after", &picture("p")).await;
    // One that answers and works is left alone, however long a node takes without a word.
    product.run("long", &slow(5.0, 0)).await;
    assert_eq!(
        product.log.count("ComfyUI is gone"),
        1,
        "{}",
        product.log.text()
    );
    product.until_clean().await;
}

#[tokio::test]
async fn an_attached_comfyui_that_hangs_keeps_nobody_waiting() {
    let stage = Stage::new().attached().env("COMFYUI_HANG_TIMEOUT_S", "2");
    let simulator = stage.simulator().await;
    let product = stage.start().await;
    a_prompt_ends_when_comfyui_hangs(&product).await;
    product.until_status("/ready", 503).await;
    drop(simulator);
}

#[tokio::test]
async fn a_lost_prompt_is_a_503() {
    let product = Product::start(&[]).await;
    product.faults(json!({"lose_prompts": 1})).await;
    let before = Instant::now();
    let answer = product
        .prompt(&json!({"id": "l", "prompt": picture("p")}))
        .await;
    unavailable(&answer);
    assert!(
        answer.1["error"]
            .as_str()
            .unwrap()
            .contains("lost by ComfyUI"),
        "{}",
        answer.1
    );
    assert!(before.elapsed() < Duration::from_secs(10));
    product.run("after", &picture("p")).await;
    // Somebody clears the queue behind our back.
    let running = product.prompt_later(json!({"id": "r", "prompt": slow(6.0, 20)}));
    product.until_prompt("r", "running").await;
    let cleared = product.prompt_later(json!({"id": "c", "prompt": picture("p")}));
    product.until_prompt("c", "pending").await;
    let response = product
        .http
        .post(format!("http://127.0.0.1:{}/queue", product.comfy_port))
        .json(&json!({"clear": true}))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    unavailable(&cleared.await.unwrap());
    assert_eq!(running.await.unwrap().0, 200);
    product.until_clean().await;
}

#[tokio::test]
async fn history_may_come_late() {
    let product = Stage::new()
        .faults(&json!({"history_delay_ms": 400}))
        .start()
        .await;
    let answer = product.run("late", &picture("p")).await;
    assert_eq!(answer["images"].as_array().unwrap().len(), 1);
    product.until_clean().await;
}

#[tokio::test]
async fn an_attached_comfyui_may_go_and_come_back() {
    let stage = Stage::new().attached();
    let simulator = stage.simulator().await;
    let product = stage.start().await;
    product.run("before", &picture("p")).await;
    let running = product.prompt_later(json!({"id": "r", "prompt": slow(5.0, 50)}));
    product.until_prompt("r", "running").await;
    drop(simulator);
    unavailable(&running.await.unwrap());
    product.until_status("/ready", 503).await;
    assert_eq!(product.get("/health").await.0, 200);
    unavailable(&product.prompt(&json!({"prompt": picture("p")})).await);
    let again = until("the port is free again", async || {
        std::net::TcpListener::bind(("127.0.0.1", product.comfy_port))
            .is_ok()
            .then_some(())
    });
    again.await;
    let _simulator = product.simulator().await;
    product.until_ready().await;
    product.run("after", &picture("p")).await;
    product.until_clean().await;
}
