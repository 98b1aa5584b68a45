//! Everything is visible per instance.

use serde_json::{Value, json};

use super::{lasting, several};
use crate::support::product::until;

#[tokio::test(flavor = "multi_thread")]
async fn lists_metrics_and_log_say_which_one() {
    let product = several(2, &[("MAX_QUEUE_DEPTH", "4")]).await;
    let mut jobs = Vec::new();
    for n in 0..4 {
        jobs.push(product.prompt_later(json!({"id": format!("j{n}"), "prompt": lasting(1.5)})));
        let status = if n < 2 { "running" } else { "pending" };
        product.until_prompt(&format!("j{n}"), status).await;
    }
    let (_, queue) = product.get("/queue").await;
    let instances = |list: &Value| -> Vec<u64> {
        list.as_array()
            .unwrap()
            .iter()
            .map(|one| one["instance"].as_u64().unwrap())
            .collect()
    };
    let mut running = instances(&queue["running"]);
    running.sort_unstable();
    assert_eq!(running, [0, 1], "{queue}");
    let positions: Vec<&Value> = queue["pending"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["position"])
        .collect();
    assert_eq!(positions, [1, 2], "{queue}");
    until("all four are counted", async || {
        (product.get("/ready").await.0 == 503).then_some(())
    })
    .await;
    let (_, status) = product.get("/status").await;
    let all = status["instances"].as_array().unwrap();
    for (index, one) in all.iter().enumerate() {
        assert_eq!(one["index"], index);
        assert_eq!(
            (&one["running"], &one["waiting"]),
            (&json!(1), &json!(1)),
            "{status}"
        );
        let url = format!(
            "http://127.0.0.1:{}",
            usize::from(product.comfy_port) + index
        );
        assert_eq!(one["url"], url);
        for name in ["devices", "state", "pid", "version", "restarts", "models"] {
            assert!(one.get(name).is_some(), "{name} {one}");
        }
    }
    let (_, metrics) = product.get("/metrics").await;
    let metrics = metrics.as_str().unwrap();
    for name in [
        "comfyui_up",
        "comfyui_queue_depth",
        "comfyui_restarts_total",
        "websocket_reconnects_total",
        "gpu_faults_total",
    ] {
        for index in 0..2 {
            let row = format!("comfyui_api_{name}{{comfyui=\"{index}\"}}");
            assert!(metrics.contains(&row), "{row} in {metrics}");
        }
        let bare = format!("comfyui_api_{name} ");
        assert!(
            !metrics.lines().any(|line| line.starts_with(&bare)),
            "{name} without a label"
        );
    }
    assert!(
        metrics.contains("comfyui_api_comfyui_queue_depth{comfyui=\"1\"} 2"),
        "{metrics}"
    );
    for part in [
        "\"ComfyUI started\"",
        "\"prompt queued\"",
        "\"source\":\"comfyui\"",
    ] {
        let lines = product.log.lines();
        let mut lines = lines.iter().filter(|line| line.contains(part));
        assert!(lines.all(|line| line.contains("\"instance\":")), "{part}");
    }
    let (_, logs) = product.get("/logs?source=comfyui").await;
    assert!(
        logs.as_array()
            .unwrap()
            .iter()
            .all(|line| line["instance"].is_u64()),
        "{logs}"
    );
    for job in jobs {
        assert_eq!(job.await.unwrap().0, 200);
    }
}
