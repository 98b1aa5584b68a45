//! `GET /metrics`: every family from the start, at zero, and counting what happens.

use std::collections::BTreeMap;

use serde_json::json;

use crate::delivered::{failing, nowhere, picture, stage};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, until};
use crate::support::receiver::Receiver;

/// Samples by name and labels, and the families that have help and type lines.
async fn metrics(product: &Product) -> (BTreeMap<String, f64>, Vec<String>) {
    let response = product
        .http
        .get(format!("{}/metrics", product.url))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert!(
        response.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain")
    );
    let text = response.text().await.unwrap();
    let samples = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
    let types = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    (samples.collect(), types)
}

/// The sum over all samples of a family whose labels hold a text.
fn sum(samples: &BTreeMap<String, f64>, family: &str, labels: &str) -> f64 {
    let matching = samples
        .iter()
        .filter(|(name, _)| name.split('{').next() == Some(family) && name.contains(labels));
    assert!(matching.clone().count() > 0, "no {family} with {labels}");
    matching.map(|(_, value)| value).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_family_is_there_and_counts() {
    let receiver = Receiver::start().await;
    let origin =
        Origin::start(|_, _| Reply::ok(include_bytes!("delivered/one.png").to_vec())).await;
    let product = stage().env("ALWAYS_RESTART_COMFYUI", "true").start().await;
    let (samples, types) = metrics(&product).await;
    for family in [
        "prompts_total",
        "prompts_in_flight",
        "comfyui_queue_depth",
        "stage_duration_seconds",
        "downloads_total",
        "download_bytes_total",
        "uploads_total",
        "upload_bytes_total",
        "cache_size_bytes",
        "cache_lookups_total",
        "cache_evictions_total",
        "cache_evicted_bytes_total",
        "webhook_attempts_total",
        "webhooks_total",
        "events_dropped_total",
        "amqp_connected",
        "amqp_tasks_total",
        "amqp_published_total",
        "websocket_reconnects_total",
        "comfyui_restarts_total",
        "comfyui_up",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(
            types.contains(&format!("comfyui_api_{family}")),
            "no {family} in {types:?}"
        );
    }
    assert!(
        types.iter().all(|name| name.starts_with("comfyui_api_")),
        "{types:?}"
    );
    assert_eq!(
        (
            sum(&samples, "comfyui_api_prompts_total", ""),
            sum(&samples, "comfyui_api_comfyui_up", "")
        ),
        (0.0, 1.0)
    );
    assert!(sum(&samples, "comfyui_api_process_resident_memory_bytes", "") > 1e6);

    product.run("well", &picture(1)).await;
    assert_eq!(product.prompt(&json!({"prompt": failing()})).await.0, 500);
    let with_input = |name: &str| {
        json!({
            "1": {"class_type": "LoadImage", "inputs": {"image": origin.url(name)}},
            "2": picture(1)["2"]
        })
    };
    for _ in 0..2 {
        let (status, body) = product
            .prompt(&json!({
                "prompt": with_input("/a.png"),
                "http_upload": {"url_prefix": receiver.url("/put")}
            }))
            .await;
        assert_eq!(status, 200, "{body}");
    }
    assert_eq!(
        product
            .prompt(&json!({"prompt": picture(1), "webhook_v2": receiver.url("/hook")}))
            .await
            .0,
        202
    );
    assert_eq!(
        product
            .prompt(&json!({"prompt": picture(1), "webhook": receiver.url("/old")}))
            .await
            .0,
        202
    );
    let failed_upload = product
        .prompt(&json!({"prompt": picture(1), "http_upload": {"url_prefix": nowhere()}}))
        .await;
    assert_eq!(failed_upload.0, 502);
    until("the webhooks are counted", async || {
        let (samples, _) = metrics(&product).await;
        let delivered = |kind: &str| {
            samples[&format!("comfyui_api_webhooks_total{{kind=\"{kind}\",outcome=\"delivered\"}}")]
        };
        (delivered("v2") == 1.0 && delivered("legacy") == 1.0).then_some(())
    })
    .await;
    let (samples, _) = metrics(&product).await;
    let is = |family: &str, labels: &str, value: f64| {
        let found = sum(&samples, &format!("comfyui_api_{family}"), labels);
        assert!(
            (found - value).abs() < 0.5,
            "{family} {labels}: {found}, not {value}"
        );
    };
    is("prompts_total", "succeeded", 5.0);
    is("prompts_total", "failed", 2.0);
    is("prompts_in_flight", "", 0.0);
    is("comfyui_queue_depth", "", 0.0);
    is("stage_duration_seconds_count", "preprocess", 7.0);
    is("stage_duration_seconds_count", "postprocess", 6.0);
    is("downloads_total", "success", 1.0);
    is(
        "download_bytes_total",
        "http",
        include_bytes!("delivered/one.png").len() as f64,
    );
    is("uploads_total", "success", 2.0);
    is("uploads_total", "failure", 1.0);
    is("cache_lookups_total", "hit", 1.0);
    is("cache_lookups_total", "miss", 1.0);
    is(
        "cache_size_bytes",
        "",
        include_bytes!("delivered/one.png").len() as f64,
    );
    is("webhook_attempts_total", "success", 2.0);
    is("comfyui_restarts_total", "", 0.0);

    product.faults(json!({"crash": 1})).await;
    until("the restart is counted", async || {
        (sum(
            &metrics(&product).await.0,
            "comfyui_api_comfyui_restarts_total",
            "",
        ) > 0.5)
            .then_some(())
    })
    .await;
    product.until_ready().await;
    product.faults(json!({"drop_websockets": true})).await;
    until("the reconnect is counted", async || {
        (sum(
            &metrics(&product).await.0,
            "comfyui_api_websocket_reconnects_total",
            "",
        ) > 0.5)
            .then_some(())
    })
    .await;
}
