//! A GPU that is lost, and one that is full.

use serde_json::json;

use super::watch::{failing, is_ready, says, unavailable};
use crate::support::graphs::{picture, slow, with};
use crate::support::product::{Product, Stage, until};

const LOST: &str = "CUDA error: an illegal memory access was encountered\nCompile with \
                    `TORCH_USE_CUDA_DSA` to enable device-side assertions.";

const FULL: &str = "CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA` to enable \
                    device-side assertions.";

/// F24
#[tokio::test]
async fn a_lost_gpu_ends_comfyui_and_a_full_one_does_not() {
    let product = Product::start(&[("ALWAYS_RESTART_COMFYUI", "true")]).await;
    let answer = product
        .prompt(&json!({"prompt": failing("torch.OutOfMemoryError", FULL)}))
        .await;
    assert_eq!(
        (answer.0, &answer.1["code"]),
        (500, &json!("execution_error"))
    );
    assert!(is_ready(&product).await);
    let before = with(
        slow(0.5, 5),
        json!({
            "6": {
                "class_type": "SimFail",
                "inputs": {
                    "value": ["5", 0],
                    "exception": "torch.AcceleratorError",
                    "message": LOST
                }
            }
        }),
    );
    let bad = product.prompt_later(json!({"id": "bad", "prompt": before}));
    product.until_prompt("bad", "running").await;
    let pending = product.prompt_later(json!({"id": "p", "prompt": slow(60.0, 600)}));
    product.until_prompt("p", "pending").await;
    let answer = bad.await.unwrap();
    assert!(!is_ready(&product).await, "not ready at once");
    assert_eq!(
        (answer.0, &answer.1["code"]),
        (500, &json!("execution_error")),
        "{}",
        answer.1
    );
    says(&answer, "illegal memory access");
    unavailable(&pending.await.unwrap());
    product.until_ready().await;
    product.run("after", &picture("p")).await;
    let (_, metrics) = product.get("/metrics").await;
    assert!(
        metrics
            .as_str()
            .unwrap()
            .contains("comfyui_api_gpu_faults_total 1"),
        "{metrics}"
    );
    product.until_clean().await;

    let mut product = Product::start(&[]).await;
    let answer = product
        .prompt(&json!({"prompt": failing("RuntimeError", "HIP error: device lost")}))
        .await;
    assert_eq!(answer.0, 500, "{}", answer.1);
    assert_eq!(product.ended().await.code(), Some(1));
}

/// F24
#[tokio::test]
async fn an_attached_comfyui_with_a_lost_gpu_is_used_again_when_it_is_another_process() {
    let stage = Stage::new().attached();
    let simulator = stage.simulator().await;
    let product = stage.start().await;
    let answer = product
        .prompt(&json!({"prompt": failing("RuntimeError", LOST)}))
        .await;
    assert_eq!(answer.0, 500, "{}", answer.1);
    assert!(!is_ready(&product).await);
    // The same process behind a new socket is still the same.
    product.faults(json!({"drop_websockets": true})).await;
    product.log.line("connected again").await;
    assert!(!is_ready(&product).await);
    drop(simulator);
    until("the port is free again", async || {
        std::net::TcpListener::bind(("127.0.0.1", product.comfy_port))
            .is_ok()
            .then_some(())
    })
    .await;
    let _simulator = product.simulator().await;
    product.until_ready().await;
    product.run("after", &picture("p")).await;
}
