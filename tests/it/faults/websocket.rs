//! The websocket dies in mid-prompt; the prompt ends within seconds of ComfyUI's own end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::graphs::{picture, slow};
use crate::support::product::{Product, Stage, until};

/// Breaks the websocket while a prompt runs, and says how long after ComfyUI's own end the answer
/// came.
async fn lag(product: &Product, id: &str, seconds: f64, faults: Value) -> Duration {
    let prompt = product.prompt_later(json!({"id": id, "prompt": slow(seconds, 20)}));
    product.until_prompt(id, "running").await;
    product.faults(faults).await;
    until("ComfyUI is done", async || {
        let queue = product.comfy("/queue").await;
        (queue["queue_running"] == json!([])).then_some(())
    })
    .await;
    let ended = Instant::now();
    let (status, answer) = prompt.await.unwrap();
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["images"].as_array().unwrap().len(), 1);
    ended.elapsed()
}

#[tokio::test]
async fn dropped() {
    for version in ["0.3.64", "current"] {
        let product = Stage::new()
            .flags(&format!("--imitate {version}"))
            .start()
            .await;
        assert!(
            lag(&product, "one", 3.0, json!({"drop_websockets": true})).await
                < Duration::from_secs(5)
        );
        product.log.line("connected again").await;
        // And in the middle of its messages, again and again.
        for number in 0..5 {
            product
                .faults(json!({"drop_websockets_after": number + 2}))
                .await;
            product.run(&format!("again-{number}"), &picture("p")).await;
        }
        // The new socket is heard.
        let before = Instant::now();
        product.faults(json!({"reset": true})).await;
        product.run("after", &picture("p")).await;
        assert!(before.elapsed() < Duration::from_secs(5));
        product.until_clean().await;
    }
}

#[tokio::test]
async fn refused_for_a_while() {
    let product = Product::start(&[]).await;
    assert!(
        lag(
            &product,
            "one",
            3.0,
            json!({"drop_websockets": true, "refuse_websockets_ms": 8000})
        )
        .await
            < Duration::from_secs(5)
    );
    // One that comes and goes while there is no socket at all.
    let before = Instant::now();
    product.run("two", &slow(0.5, 5)).await;
    assert!(
        before.elapsed() < Duration::from_secs(6),
        "{:?}",
        before.elapsed()
    );
    product.log.line("connected again").await;
    product.until_clean().await;
}

#[tokio::test]
async fn frozen() {
    let product = Product::start(&[("WS_IDLE_TIMEOUT_S", "6")]).await;
    assert!(
        lag(&product, "one", 3.0, json!({"freeze_websockets": true})).await
            < Duration::from_secs(5)
    );
    product.log.line("websocket to ComfyUI ended").await;
    product.faults(json!({"reset": true})).await;
    product.log.line("connected again").await;
    product.run("after", &picture("p")).await;
    product.until_clean().await;
}

#[tokio::test]
async fn deaf() {
    for version in ["0.3.64", "current"] {
        let product = Stage::new()
            .flags(&format!("--imitate {version}"))
            .start()
            .await;
        assert!(
            lag(&product, "one", 3.0, json!({"deafen_websockets": true})).await
                < Duration::from_secs(5)
        );
        product.log.line("reports nothing").await;
        product.faults(json!({"reset": true})).await;
        product.log.line("connected again").await;
        product.run("after", &picture("p")).await;
        product.until_clean().await;
    }
}

#[tokio::test]
async fn a_replaced_socket_does_not_make_the_next_one_suspect() {
    let product = Product::start(&[]).await;
    let first = product.prompt_later(json!({"id": "first", "prompt": slow(1.5, 30)}));
    product.until_prompt("first", "running").await;
    product.faults(json!({"deafen_websockets": true})).await;
    // Always one more in the queue, submitted before the socket is replaced.
    let others: Vec<_> = (0..4)
        .map(|number| {
            product.prompt_later(json!({"id": format!("next-{number}"), "prompt": slow(0.8, 8)}))
        })
        .collect();
    assert_eq!(first.await.unwrap().0, 200);
    product.faults(json!({"reset": true})).await;
    for other in others {
        assert_eq!(other.await.unwrap().0, 200);
    }
    let replaced = product.log.count("reports nothing");
    assert!(replaced <= 2, "the socket was replaced {replaced} times");
    product.until_clean().await;
}
