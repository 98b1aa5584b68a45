//! What is concluded of ComfyUI, and what is not: A40, A42, A51, F23, F24, F25.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::graphs::{picture, sampling, slow, with};
use crate::support::product::{Product, until};

pub(super) fn unavailable((status, answer): &(u16, Value)) {
    assert_eq!(
        (*status, &answer["code"]),
        (503, &json!("comfyui_unavailable")),
        "{answer}"
    );
}

pub(super) fn says((_, answer): &(u16, Value), part: &str) {
    let error = answer["error"].as_str().unwrap();
    assert!(error.contains(part), "no {part:?} in {answer}");
}

pub(super) fn failing(exception: &str, message: &str) -> Value {
    with(
        picture("f"),
        json!({
            "5": {"class_type": "SimFail", "inputs": {"exception": exception, "message": message}}
        }),
    )
}

pub(super) async fn is_ready(product: &Product) -> bool {
    product.get("/ready").await.0 == 200
}

/// A checkpoint that ComfyUI refuses, and whose name it logs.
async fn print(product: &Product, text: &str) {
    let mut graph = sampling(1);
    graph["4"]["inputs"]["ckpt_name"] = text.into();
    let (status, answer) = product.prompt(&json!({"prompt": graph})).await;
    assert_eq!(
        (status, &answer["code"]),
        (400, &json!("invalid_prompt")),
        "{answer}"
    );
}

/// A40
#[tokio::test]
async fn a_line_in_the_log_ends_nothing() {
    let product = Product::start(&[]).await;
    let hints = [
        "Exception in thread Thread-1 (prompt_worker):.safetensors",
        "a\nException in thread Thread-1 (prompt_worker):\nTraceback",
    ];
    for (n, hint) in hints.iter().enumerate() {
        print(&product, hint).await;
        product.log.nth_line("asking whether that is true", n).await;
        product.log.nth_line("is alive, whatever", n).await;
    }
    // A node that works for longer than a dead worker would be waited for, without a word.
    let running = product.prompt_later(json!({"id": "r", "prompt": slow(13.0, 0)}));
    product.until_prompt("r", "running").await;
    print(&product, hints[0]).await;
    let answer = running.await.unwrap();
    assert_eq!(answer.0, 200, "{}", answer.1);
    assert!(is_ready(&product).await);
    assert_eq!(product.log.count("ComfyUI is gone"), 0);
    product.until_clean().await;
}

/// A40: without the line only silence tells.
#[tokio::test]
async fn a_worker_that_dies_without_a_word_is_recognised_by_its_silence() {
    let product = Product::start(&[
        ("ALWAYS_RESTART_COMFYUI", "true"),
        ("COMFYUI_HANG_TIMEOUT_S", "2"),
    ])
    .await;
    product.faults(json!({"silent_worker_death": true})).await;
    let answer = product.prompt(&json!({"prompt": picture("p")})).await;
    unavailable(&answer);
    product.until_ready().await;
    product.run("after", &picture("p")).await;
    product.until_clean().await;
}

/// F23
#[tokio::test]
async fn comfyui_may_be_restarted_in_place() {
    let product = Product::start(&[]).await;
    let running = product.prompt_later(json!({"id": "r", "prompt": slow(60.0, 600)}));
    product.until_prompt("r", "running").await;
    let before = Instant::now();
    let restart = product
        .http
        .post(format!(
            "http://127.0.0.1:{}/simulator/faults",
            product.comfy_port
        ))
        .json(&json!({"restart_in_place_s": 5}));
    // The answer is lost with the process.
    let _ = restart.send().await;
    product.until_status("/ready", 503).await;
    assert!(
        before.elapsed() < Duration::from_secs(2),
        "{:?}",
        before.elapsed()
    );
    let (_, ready) = product.get("/ready").await;
    assert!(
        ready["reason"].as_str().unwrap().contains("restarting"),
        "{ready}"
    );
    let response = product
        .http
        .post(format!("{}/prompt", product.url))
        .json(&json!({"prompt": picture("p")}))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    unavailable(&running.await.unwrap());
    product.until_ready().await;
    assert!(before.elapsed() > Duration::from_secs(4));
    let asked = product.comfy("/simulator/stats").await;
    assert!(
        asked["requests"]["GET /object_info"].as_u64() >= Some(1),
        "{asked}"
    );
    product.run("after", &picture("p")).await;
    assert_eq!(product.log.count("ComfyUI has ended"), 0, "same child");
    product.until_clean().await;
}

/// F23: a socket that alone breaks.
#[tokio::test]
async fn a_websocket_that_cannot_be_had_is_no_restart() {
    let product = Product::start(&[]).await;
    let running = product.prompt_later(json!({"id": "r", "prompt": slow(5.0, 50)}));
    product.until_prompt("r", "running").await;
    product
        .faults(json!({"drop_websockets": true, "refuse_websockets_ms": 3000}))
        .await;
    product.log.line("websocket to ComfyUI ended").await;
    while product.log.count("connected again") == 0 {
        assert!(is_ready(&product).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(running.await.unwrap().0, 200);
    product.until_clean().await;
}

/// F25
#[tokio::test]
async fn a_node_that_does_not_stop_keeps_nobody_waiting() {
    let product = Product::start(&[]).await;
    let running = product.prompt_later(json!({"id": "r", "prompt": slow(20.0, 0)}));
    product.until_prompt("r", "running").await;
    let before = Instant::now();
    assert_eq!(product.delete("/prompt/r").await.0, 200);
    let answer = running.await.unwrap();
    assert_eq!(
        (answer.0, &answer.1["code"]),
        (409, &json!("execution_interrupted")),
        "{}",
        answer.1
    );
    says(&answer, "node 5 (SimSleep) does not stop");
    let took = before.elapsed();
    assert!(
        took > Duration::from_secs(14) && took < Duration::from_secs(18),
        "{took:?}"
    );
    assert_eq!(product.get("/prompt/r").await.1["status"], "interrupted");
    until("the node has ended", async || {
        let now = product.comfy("/simulator/stats").await;
        (now["queue_remaining"] == 0).then_some(())
    })
    .await;
    product.until_clean().await;
    product.run("after", &picture("p")).await;
}

/// F25
#[tokio::test]
async fn a_node_that_does_not_stop_is_a_hang_where_hangs_are_looked_for() {
    let product = Product::start(&[
        ("ALWAYS_RESTART_COMFYUI", "true"),
        ("COMFYUI_HANG_TIMEOUT_S", "2"),
    ])
    .await;
    let running = product.prompt_later(json!({"id": "r", "prompt": slow(60.0, 0)}));
    product.until_prompt("r", "running").await;
    product.post("/interrupt", &json!({"id": "r"})).await;
    let answer = running.await.unwrap();
    assert_eq!(
        (answer.0, &answer.1["code"]),
        (409, &json!("execution_interrupted"))
    );
    product.log.line("ComfyUI is gone").await;
    product.until_ready().await;
    product.run("after", &picture("p")).await;
    product.until_clean().await;
}

/// F25
#[tokio::test]
async fn a_prompt_that_runs_for_too_long_is_cancelled_and_one_that_waits_is_not() {
    let product = Product::start(&[("PROMPT_TIMEOUT_S", "2")]).await;
    let long = product.prompt_later(json!({"id": "long", "prompt": slow(60.0, 600)}));
    product.until_prompt("long", "running").await;
    let waits = product.prompt_later(json!({"id": "waits", "prompt": slow(1.0, 10)}));
    let answer = long.await.unwrap();
    assert_eq!(
        (answer.0, &answer.1["code"]),
        (409, &json!("execution_interrupted")),
        "{}",
        answer.1
    );
    says(&answer, "PROMPT_TIMEOUT_S");
    assert_eq!(product.get("/prompt/long").await.1["status"], "interrupted");
    let answer = waits.await.unwrap();
    assert_eq!(answer.0, 200, "{}", answer.1);
    product.until_clean().await;
}

/// A51
#[tokio::test]
async fn an_empty_answer_is_no_empty_queue() {
    let product = Product::start(&[]).await;
    for empty in ["{}", "", "[]", "null", r#"{"queue_running": []}"#] {
        product.faults(json!({"queue_answer": empty})).await;
        let answer = product.prompt(&json!({"prompt": slow(1.6, 4)})).await;
        assert_eq!(answer.0, 200, "{empty:?}: {}", answer.1);
    }
    // Two empty lists are an answer, though a wrong one: the prompt is given up, and taken out.
    let before = product.comfy("/simulator/stats").await;
    product
        .faults(json!({"queue_answer": r#"{"queue_running": [], "queue_pending": []}"#}))
        .await;
    let answer = product.prompt(&json!({"prompt": slow(60.0, 600)})).await;
    unavailable(&answer);
    until("the run is interrupted", async || {
        let now = product.comfy("/simulator/stats").await;
        (now["prompts_failed"] != before["prompts_failed"]).then_some(())
    })
    .await;
    product.faults(json!({"reset": true})).await;
    product.run("after", &picture("p")).await;
}

/// A42
#[tokio::test]
async fn a_machine_that_cannot_write_takes_no_prompts() {
    let product = Product::start(&[]).await;
    let full = failing(
        "OSError",
        "[Errno 28] No space left on device: '/out/x.png'",
    );
    let response = product
        .http
        .post(format!("{}/prompt", product.url))
        .json(&json!({"prompt": full}))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["code"], "comfyui_unavailable", "{answer}");
    assert_eq!(answer["details"]["node_type"], "SimFail");
    // There is room again, or it was elsewhere: nothing is wrong here.
    assert!(is_ready(&product).await);
    product.run("between", &picture("p")).await;
    product.until_clean().await;

    let output = product.path("output");
    std::fs::rename(&output, product.path("away")).unwrap();
    std::fs::write(&output, "a file where a folder should be").unwrap();
    let answer = product.prompt(&json!({"prompt": picture("p")})).await;
    assert!(answer.0 >= 500, "{}", answer.1);
    product.until_status("/ready", 503).await;
    let (_, ready) = product.get("/ready").await;
    let reason = ready["reason"].as_str().unwrap();
    assert!(reason.contains(&output.display().to_string()), "{ready}");
    unavailable(&product.prompt(&json!({"prompt": picture("p")})).await);
    std::fs::remove_file(&output).unwrap();
    std::fs::rename(product.path("away"), &output).unwrap();
    product.until_ready().await;
    product.run("after", &picture("p")).await;
    product.until_clean().await;
}

/// U6
#[tokio::test]
async fn nothing_that_is_shown_has_colours() {
    let product = Product::start(&[("ALWAYS_RESTART_COMFYUI", "true")]).await;
    product.faults(json!({"colours": true})).await;
    let red = failing("RuntimeError", "\u{1b}[31mred\u{1b}[0m \u{7}bell");
    let (_, answer) = product.prompt(&json!({"id": "red", "prompt": red})).await;
    assert_eq!(
        answer["details"]["exception_message"], "red bell\n",
        "{answer}"
    );
    let shown = with(
        picture("t"),
        json!({
            "3": {"class_type": "PreviewAny", "inputs": {"source": "\u{1b}[32mgreen\u{1b}[0m"}}
        }),
    );
    product.run("green", &shown).await;
    let (_, queue) = product.get("/queue").await;
    product.faults(json!({"crash": 3})).await;
    let line = product.log.line("ComfyUI is gone").await;
    assert!(line.contains("Prompt executed"), "{line}");
    for text in [answer.to_string(), queue.to_string(), product.log.text()] {
        assert!(
            !text.contains("\\u001b") && !text.contains('\u{1b}'),
            "{text}"
        );
    }
}
