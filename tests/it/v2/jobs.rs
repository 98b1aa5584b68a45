//! Jobs: their shape, their states, long polls, streams, lists.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{bytes, ended, id, submit, submit_with};
use crate::support::graphs::{picture, slow, with};
use crate::support::product::{Product, Stage, until};
use crate::support::receiver::Receiver;

const KEYS: [&str; 16] = [
    "id",
    "status",
    "created_at",
    "started_at",
    "completed_at",
    "expires_at",
    "queue_position",
    "progress",
    "outputs",
    "error",
    "metrics",
    "source",
    "outputs_reused",
    "urls",
    "metadata",
    "priority",
];

#[tokio::test]
async fn a_job_has_all_its_keys_in_every_state_and_its_outputs_are_assets() {
    let product = Product::start(&[]).await;
    let body = json!({"workflow": picture("v2"), "metadata": {"k": "v"}, "priority": 7});
    let job = submit_with(&product, body).await;
    for key in KEYS {
        assert!(job.get(key).is_some(), "{key} in {job}");
    }
    let job = ended(&product, id(&job)).await;
    assert_eq!(
        (&job["status"], &job["source"], &job["priority"]),
        (&json!("succeeded"), &json!("v2"), &json!(7))
    );
    assert!(
        job["completed_at"].as_str().unwrap().ends_with('Z')
            && job["metrics"]["execution_ms"].is_u64(),
        "{job}"
    );
    assert!(
        job["created_at"].as_str() <= job["started_at"].as_str()
            && job["started_at"].as_str() <= job["completed_at"].as_str()
    );
    assert_eq!(job["progress"]["value"], 1.0);
    let output = &job["outputs"][0];
    assert_eq!(output["name"], json!(format!("{}_v2_00001_.png", id(&job))));
    let data = bytes(&product, output).await;
    assert_eq!(output["size_bytes"], data.len());
    let hash = blake3_of(&data);
    assert_eq!(output["hash"], json!(format!("blake3:{hash}")));
    until("ComfyUI's own file goes", async || {
        (std::fs::read_dir(product.path("output")).unwrap().count() == 0).then_some(())
    })
    .await;
    assert_eq!(bytes(&product, output).await, data);
    let (_, queue) = product.get("/queue").await;
    assert_eq!(queue["finished"][0]["source"], "v2", "{queue}");
}

fn blake3_of(data: &[u8]) -> String {
    blake3::hash(data).to_hex().to_string()
}

#[tokio::test]
async fn a_poll_waits_for_the_end_and_shows_that_it_lives() {
    let product = Product::start(&[]).await;
    let job = submit(&product, &slow(1.6, 16)).await;
    let me = job["urls"]["self"].as_str().unwrap();
    assert!(me.ends_with("?wait=5"), "{me}");
    let began = Instant::now();
    let mut response = product
        .http
        .get(format!("{}{me}", product.url))
        .send()
        .await
        .unwrap();
    assert!(
        began.elapsed() < Duration::from_millis(700),
        "headers come at once"
    );
    let first = response.chunk().await.unwrap().unwrap();
    assert_eq!(&first[..], b" ");
    let mut rest = Vec::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        rest.extend_from_slice(&chunk);
    }
    let job: Value = serde_json::from_slice(&rest).unwrap();
    assert_eq!(job["status"], "succeeded");
    assert!(!job["urls"]["self"].as_str().unwrap().contains("wait"));
    // Not for ever, and never for an ended one.
    let job = submit(&product, &slow(30.0, 300)).await;
    let (status, now) = product
        .get(&format!("/api/v2/jobs/{}?wait=0.2", id(&job)))
        .await;
    assert_eq!((status, &now["status"]), (200, &json!("running")));
    let (status, cancelled) = product
        .post(&format!("/api/v2/jobs/{}/cancel", id(&job)), &json!({}))
        .await;
    assert_eq!(status, 200);
    assert!(
        matches!(cancelled["status"].as_str(), Some("canceling" | "canceled")),
        "{cancelled}"
    );
    assert_eq!(ended(&product, id(&job)).await["status"], "canceled");
}

/// All frames of a job's stream.
async fn events(product: &Product, job: &str) -> Vec<(String, Value)> {
    let response = product
        .http
        .get(format!("{}/api/v2/jobs/{job}/events", product.url))
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.unwrap();
    text.split("\n\n")
        .filter_map(|frame| frame.strip_prefix("event: "))
        .map(|frame| {
            let (name, data) = frame.split_once("\ndata: ").unwrap();
            (name.to_owned(), serde_json::from_str(data).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn every_stream_shows_every_output_once_and_the_end_last() {
    let product = Product::start(&[]).await;
    let graph = with(
        slow(0.5, 5),
        json!({"8": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}),
    );
    let job = submit(&product, &graph).await;
    let (early, second) = tokio::join!(events(&product, id(&job)), events(&product, id(&job)));
    let late = events(&product, id(&job)).await;
    let job = ended(&product, id(&job)).await;
    assert_eq!(
        job["outputs"].as_array().unwrap().len(),
        2,
        "previews are outputs too: {job}"
    );
    for stream in [early, second, late] {
        let ends: Vec<_> = stream
            .iter()
            .filter(|(name, data)| name == "status" && data["status"] == "succeeded")
            .collect();
        assert_eq!(
            (ends.len(), stream.last()),
            (1, ends.first().copied()),
            "{stream:?}"
        );
        assert_eq!(ends[0].1["outputs"].as_array().unwrap().len(), 2);
        let mut shown: Vec<_> = stream
            .iter()
            .filter(|(name, _)| name == "output")
            .map(|(_, data)| data["id"].clone())
            .collect();
        shown.sort_by_key(ToString::to_string);
        shown.dedup();
        assert_eq!(shown.len(), 2, "{stream:?}");
        let values: Vec<f64> = stream
            .iter()
            .filter(|(name, _)| name == "progress")
            .map(|(_, data)| data["value"].as_f64().unwrap())
            .collect();
        assert!(
            values.windows(2).all(|pair| pair[0] <= pair[1]) && values.last() == Some(&1.0),
            "{values:?}"
        );
    }
}

#[tokio::test]
async fn a_node_that_raises_is_told_with_its_traceback_and_texts_are_outputs() {
    let product = Product::start(&[]).await;
    let texts = json!({"1": {"class_type": "PreviewAny", "inputs": {"source": "hello"}}});
    let job = ended(&product, id(&submit(&product, &texts).await)).await;
    assert_eq!(
        job["outputs"][0]["content_type"], "text/plain; charset=utf-8",
        "{job}"
    );
    assert_eq!(bytes(&product, &job["outputs"][0]).await, b"hello");
    std::fs::write(product.path("input/bad.png"), b"not a picture").unwrap();
    let bad = crate::support::graphs::loaded("bad.png");
    let job = ended(&product, id(&submit(&product, &bad).await)).await;
    assert_eq!(job["status"], "failed");
    assert_eq!(job["error"]["code"], "node_execution_error", "{job}");
    assert_eq!(
        (&job["error"]["node_id"], &job["error"]["class_type"]),
        (&json!("1"), &json!("LoadImage"))
    );
    assert!(job["error"]["traceback"].is_string());
}

#[tokio::test]
async fn lists_are_paged_filtered_and_keep_their_place() {
    let product = Product::start(&[]).await;
    let mut made = Vec::new();
    for n in 0..7 {
        let body =
            json!({"workflow": picture("l"), "metadata": {"n": n.to_string(), "all": "yes"}});
        made.push(id(&submit_with(&product, body).await).to_owned());
    }
    let plain = json!({"workflow": picture("l"), "metadata": "a plain text"});
    let plain = id(&submit_with(&product, plain).await).to_owned();
    ended(&product, &plain).await;
    let mut seen = Vec::new();
    let mut path = "/api/v2/jobs?limit=3&metadata%5Ball%5D=yes".to_owned();
    loop {
        let (status, page) = product.get(&path).await;
        assert_eq!(status, 200, "{page}");
        for item in page["jobs"].as_array().unwrap() {
            assert!(
                item.get("outputs").is_none() && item["outputs_count"].is_u64(),
                "{item}"
            );
            seen.push(item["id"].as_str().unwrap().to_owned());
        }
        submit_with(
            &product,
            json!({"workflow": picture("x"), "metadata": {"all": "yes"}}),
        )
        .await;
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/api/v2/jobs?limit=3&metadata[all]=yes&cursor={next}");
    }
    made.reverse();
    assert_eq!(seen, made);
    let (_, page) = product
        .get("/api/v2/jobs?metadata[all]=yes&metadata[n]=4")
        .await;
    assert_eq!(page["jobs"].as_array().unwrap().len(), 1);
    let (_, page) = product.get("/api/v2/jobs?status=succeeded&limit=100").await;
    assert!(
        page["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .any(|item| item["metadata"] == "a plain text")
    );
    let (_, page) = product.get("/api/v2/jobs?status=failed,expired").await;
    assert_eq!(page, json!({"jobs": []}));
}

#[tokio::test]
async fn the_workflow_and_the_logs_of_a_job_can_be_read() {
    let product = Product::start(&[]).await;
    let job = submit(&product, &picture("mine")).await;
    let job = ended(&product, id(&job)).await;
    let (status, answer) = product
        .get(&format!("/api/v2/jobs/{}/workflow", id(&job)))
        .await;
    assert_eq!((status, &answer["format"]), (200, &json!("api")));
    assert_eq!(answer["workflow"]["9"]["inputs"]["filename_prefix"], "mine");
    let (status, logs) = product
        .get(&format!("/api/v2/jobs/{}/logs", id(&job)))
        .await;
    assert!(status == 204 || logs["text"].is_string(), "{logs}");
}

#[tokio::test]
async fn the_pipeline_of_every_door_is_there_conversion_webhooks_and_defaults() {
    let receiver = Receiver::start().await;
    let defaults = json!({"webhook_v2": receiver.url("/hook")}).to_string();
    let product = Stage::new()
        .env("V2_DEFAULTS", defaults)
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .start()
        .await;
    let body =
        json!({"workflow": picture("w"), "prompt_options": {"convert_output": {"format": "jpeg"}}});
    let job = ended(&product, id(&submit_with(&product, body).await)).await;
    assert_eq!(job["outputs"].as_array().unwrap().len(), 1, "{job}");
    assert_eq!(job["outputs"][0]["content_type"], "image/jpeg");
    let told = receiver.wait("/hook", 1).await[0].json();
    assert_eq!(told["job_id"], job["id"], "{told}");
    let address = told["images"][0].as_str().unwrap();
    assert!(
        address.starts_with(&product.url) && address.contains("signature="),
        "{address}"
    );
    let (status, _) = product.get(address.trim_start_matches(&product.url)).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_job_that_waits_too_long_expires_and_one_that_runs_does_not() {
    let product = Product::start(&[("V2_QUEUE_TIMEOUT_S", "0.7")]).await;
    let running = submit(&product, &slow(2.0, 20)).await;
    let waiting = submit(&product, &picture("late")).await;
    let expired = ended(&product, id(&waiting)).await;
    assert_eq!(
        (&expired["status"], &expired["error"]["code"]),
        (&json!("expired"), &json!("queue_timeout"))
    );
    assert_eq!(ended(&product, id(&running)).await["status"], "succeeded");
    let (_, now) = product.get(&format!("/api/v2/jobs/{}", id(&waiting))).await;
    assert_eq!(now["status"], "expired", "a terminal state never changes");
}

#[tokio::test]
async fn the_same_preview_is_an_output_of_every_job() {
    let product = Product::start(&[]).await;
    let graph = with(
        picture("with"),
        json!({"8": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}),
    );
    for round in 0..3 {
        let job = ended(&product, id(&submit(&product, &graph).await)).await;
        let outputs = job["outputs"].as_array().unwrap();
        assert_eq!(outputs.len(), 2, "round {round}: {job}");
        for output in outputs {
            assert!(bytes(&product, output).await.starts_with(b"\x89PNG"));
        }
        assert!(job["outputs_reused"] == json!(round > 0), "{job}");
    }
}
