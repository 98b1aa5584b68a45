//! What is told of a prompt, from its beginning to its end.

use serde_json::{Value, json};

use super::{kinds, one_after_the_other, send, stream};
use crate::support::graphs::{loaded, picture, png, sampling, slow, with};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Stage, until};
use crate::support::sse::Event;

fn states(events: &[Event]) -> Vec<String> {
    let states = events.iter().filter(|event| event.kind() == "state");
    let mut states: Vec<String> = states
        .map(|event| event.data["data"]["status"].as_str().unwrap().to_owned())
        .collect();
    states.dedup();
    states
}

#[tokio::test]
async fn a_prompt_is_told_from_beginning_to_end() {
    let product = Stage::new()
        .flags("--preview-method auto --step-ms 20")
        .file("models/checkpoints/m.safetensors", "x")
        .start()
        .await;
    let mut sse = stream(
        &product,
        &json!({"id": "s", "prompt": sampling(5), "extra_data": {"api_key_comfy_org": "hush"}}),
    )
    .await;
    let headers = sse.response.headers().clone();
    assert_eq!(
        (
            headers["x-accel-buffering"].as_bytes(),
            headers["cache-control"].as_bytes()
        ),
        (&b"no"[..], &b"no-cache"[..])
    );
    let events = sse.rest().await;
    one_after_the_other(&events);
    let last = events.last().unwrap();
    assert_eq!(last.name, "complete");
    assert_eq!(
        (&last.data["id"], &last.data["filenames"]),
        (&json!("s"), &json!(["s_sampled_00001_.png"]))
    );
    assert!(last.data["images"][0].as_str().unwrap().len() > 100);
    assert_eq!(
        events
            .iter()
            .filter(|event| event.name != "message")
            .count(),
        1
    );
    let kinds = kinds(&events);
    let position = |kind: &str| {
        kinds
            .iter()
            .position(|found| *found == kind)
            .unwrap_or_else(|| panic!("no {kind} in {kinds:?}"))
    };
    let order = [
        "execution_start",
        "executing",
        "progress",
        "executed",
        "execution_success",
    ]
    .map(position);
    assert!(order.is_sorted(), "{kinds:?}");
    assert!(
        kinds.contains(&"progress_state") && kinds.contains(&"status"),
        "{kinds:?}"
    );
    assert_eq!(states(&events), ["pending", "running", "postprocessing"]);
    let preview = events
        .iter()
        .find(|event| event.kind() == "binary_preview")
        .expect("a preview");
    assert_eq!(
        (
            &preview.data["data"]["prompt_id"],
            &preview.data["data"]["image_type"]
        ),
        (&json!("s"), &json!("image/jpeg"))
    );
    assert!(
        preview.data["data"]["image_data"]
            .as_str()
            .unwrap()
            .starts_with("/9j/")
    );
    let steps: Vec<&Value> = events
        .iter()
        .filter(|event| event.kind() == "progress")
        .map(|event| &event.data["data"])
        .collect();
    assert_eq!(
        (
            &steps.last().unwrap()["value"],
            &steps.last().unwrap()["max"]
        ),
        (&json!(5), &json!(5))
    );
    for event in &events {
        if let Some(id) = event.data.pointer("/data/prompt_id") {
            assert_eq!(id, "s", "{event:?}");
        }
        assert!(!event.data.to_string().contains("hush"));
    }
    drop(sse);
    product.until_clean().await;
}

#[tokio::test]
async fn mistakes_known_at_once_are_plain_errors_and_later_ones_events() {
    let product = Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .start()
        .await;
    for (body, status) in [
        (json!({"prompt": {}}), 400),
        (json!({"prompt": loaded("nowhere.png")}), 400),
        (
            json!({
                "prompt": with(picture("p"), json!({"7": {"class_type": "Nope", "inputs": {}}}))
            }),
            400,
        ),
    ] {
        let response = send(&product, &body).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert!(response.json::<Value>().await.unwrap()["error"].is_string());
    }
    let failing = with(
        picture("p"),
        json!({"7": {"class_type": "SimFail", "inputs": {"message": "out of luck"}}}),
    );
    let events = stream(&product, &json!({"id": "f", "prompt": failing}))
        .await
        .rest()
        .await;
    let last = events.last().unwrap();
    assert_eq!(
        (
            last.name.as_str(),
            &last.data["code"],
            &last.data["details"]["node_id"]
        ),
        ("error", &json!("execution_error"), &json!("7"))
    );
    assert!(
        last.data["error"].as_str().unwrap().contains("out of luck")
            && last.data.get("location").is_none()
    );
    assert!(kinds(&events).contains(&"execution_error"));
    assert_eq!(product.log.count("gone away"), 0);

    let mut sse = stream(&product, &json!({"id": "c", "prompt": slow(30.0, 300)})).await;
    sse.until("progress").await;
    product.delete("/prompt/c").await;
    assert_eq!(
        sse.rest().await.last().unwrap().data["code"],
        "execution_interrupted"
    );

    // A download that fails after its progress was shown.
    let origin = Origin::start(|_, _| Reply {
        trickle: Some(400),
        claimed_length: Some(200_000),
        ..Reply::ok(vec![0; 100_000])
    })
    .await;
    let mut sse = stream(
        &product,
        &json!({"id": "d", "prompt": loaded(&origin.url("/p.png?sig=hidden"))}),
    )
    .await;
    let progress = sse.until("file_download_progress").await;
    let data = &progress.data["data"];
    assert!(
        data["prompt_id"] == "d" && data["downloaded"].is_u64() && data["total"] == 200_000,
        "{progress:?}"
    );
    assert!(!data.to_string().contains("hidden"));
    product.delete("/prompt/d").await;
    assert_eq!(sse.rest().await.last().unwrap().name, "error");
    product.until_clean().await;
}

#[tokio::test]
async fn positions_are_told_while_waiting() {
    let product = Stage::new().start().await;
    let blocker = product.prompt_later(json!({"id": "blocker", "prompt": slow(30.0, 300)}));
    product.until_prompt("blocker", "running").await;
    let before = product.prompt_later(json!({"id": "before", "prompt": slow(0.2, 4)}));
    product.until_prompt("before", "pending").await;
    let mut sse = stream(&product, &json!({"id": "me", "prompt": picture("p")})).await;
    let first = sse.until("state").await;
    assert_eq!(
        first.data["data"],
        json!({"prompt_id": "me", "status": "pending", "position": 2})
    );
    product.delete("/prompt/blocker").await;
    let events = sse.rest().await;
    let positions: Vec<u64> = events
        .iter()
        .filter_map(|event| event.data["data"]["position"].as_u64())
        .collect();
    assert!(positions.contains(&1), "{positions:?} {:?}", kinds(&events));
    assert_eq!(
        (blocker.await.unwrap().0, before.await.unwrap().0),
        (409, 200)
    );
}

#[tokio::test]
async fn downloads_uploads_and_webhooks_are_told() {
    let origin = Origin::start(|request, _| {
        if request.method == "GET" {
            Reply::ok(png([1, 2, 3])).with("Content-Type", "image/png")
        } else {
            Reply::status(200)
        }
    })
    .await;
    let product = Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .start()
        .await;
    let body = json!({
        "id": "u",
        "prompt": loaded(&origin.url("/in.png")),
        "http_upload": {"url_prefix": origin.url("/out"), "async": true},
        "webhook_v2": origin.url("/hook")
    });
    let events = stream(&product, &body).await.rest().await;
    assert_eq!(
        events.last().unwrap().name,
        "complete",
        "a stream is no 202: {events:?}"
    );
    assert_eq!(
        states(&events),
        ["pending", "running", "postprocessing", "uploading"]
    );
    let uploaded = events.last().unwrap().data["images"][0]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(uploaded.starts_with(&origin.url("/out")), "{uploaded}");
    until("the webhook is told too", async || {
        origin
            .requests()
            .iter()
            .any(|request| request.target == "/hook")
            .then_some(())
    })
    .await;
    product.until_clean().await;
}
