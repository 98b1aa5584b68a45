//! Streams: what a client sees of a prompt while it runs (delivery.md, "Streaming").

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::graphs::{loaded, picture, png, sampling, slow, with};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage, until};
use crate::support::sse::{Event, Sse};

async fn send(product: &Product, body: &Value) -> reqwest::Response {
    product
        .http
        .post(format!("{}/prompt", product.url))
        .header("Accept", "text/event-stream")
        .json(body)
        .send()
        .await
        .unwrap()
}

async fn stream(product: &Product, body: &Value) -> Sse {
    Sse::new(send(product, body).await)
}

async fn attach(product: &Product, id: &str, last: Option<&str>) -> Sse {
    let mut request = product
        .http
        .get(format!("{}/prompt/{id}/events", product.url));
    if let Some(last) = last {
        request = request.header("Last-Event-ID", last);
    }
    Sse::new(request.send().await.unwrap())
}

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(Event::kind).collect()
}

fn one_after_the_other(events: &[Event]) {
    assert!(
        events.windows(2).all(|two| two[0].id < two[1].id),
        "{:?}",
        events.iter().map(|event| event.id).collect::<Vec<_>>()
    );
}

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
async fn a_comment_comes_while_there_is_nothing_to_tell() {
    let product = Stage::new().start().await;
    let running = product.prompt_later(json!({"id": "long", "prompt": slow(60.0, 600)}));
    product.until_prompt("long", "running").await;
    let mut response = send(&product, &json!({"id": "waits", "prompt": picture("p")})).await;
    let mut text = Vec::new();
    let comment = async {
        while !text.windows(3).any(|three| three == b"\n: ") {
            text.extend_from_slice(&response.chunk().await.unwrap().expect("the stream goes on"));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), comment)
        .await
        .expect("a comment every 15 s");
    for id in ["waits", "long"] {
        assert_eq!(product.delete(&format!("/prompt/{id}")).await.0, 200);
    }
    assert_eq!(running.await.unwrap().0, 409);
    product.until_clean().await;
}

#[tokio::test]
async fn others_can_attach_and_come_again() {
    let product = Stage::new().start().await;
    let running = product.prompt_later(json!({"id": "a", "prompt": slow(4.0, 40)}));
    product.until_prompt("a", "running").await;
    let behind = product.prompt_later(json!({"id": "b", "prompt": picture("p")}));
    let behind_more = product.prompt_later(json!({"id": "c", "prompt": picture("q")}));
    product.until_prompt("b", "pending").await;
    product.until_prompt("c", "pending").await;

    let mut first = attach(&product, "a", None).await;
    let state = first.next().await.unwrap();
    assert_eq!(
        (
            state.kind(),
            &state.data["data"]["status"],
            &state.data["data"]["prompt_id"]
        ),
        ("state", &json!("running"), &json!("a"))
    );
    let progress = first.until("progress").await;
    drop(first);
    let mut again = attach(&product, "a", Some(&progress.id.to_string())).await;
    let state = again.next().await.unwrap();
    assert_eq!(
        (state.kind(), &state.data["data"]["status"]),
        ("state", &json!("running"))
    );
    assert!(state.data["data"]["progress"]["max"] == 40.0, "{state:?}");
    let mut waiting = attach(&product, "c", None).await;
    let state = waiting.next().await.unwrap();
    assert_eq!(
        state.data["data"]["position"].as_u64().unwrap(),
        product.get("/prompt/c").await.1["position"]
            .as_u64()
            .unwrap()
    );

    let events = again.rest().await;
    one_after_the_other(&events);
    let last = events.last().unwrap();
    assert_eq!(
        (
            last.name.as_str(),
            &last.data["id"],
            &last.data["images"],
            &last.data["filenames"]
        ),
        (
            "complete",
            &json!("a"),
            &json!([]),
            &json!(["a_slow_00001_.png"])
        )
    );
    assert_eq!(last.data["outputs"][0]["filename"], "a_slow_00001_.png");
    let (status, whole) = running.await.unwrap();
    assert_eq!(
        (status, whole["images"].as_array().unwrap().len()),
        (200, 1)
    );
    let events = waiting.rest().await;
    assert_eq!(events.last().unwrap().name, "complete");
    let positions: Vec<u64> = events
        .iter()
        .filter_map(|event| event.data["data"]["position"].as_u64())
        .collect();
    assert!(positions.is_sorted_by(|a, b| a >= b), "{positions:?}");
    assert_eq!(
        (behind.await.unwrap().0, behind_more.await.unwrap().0),
        (200, 200)
    );

    // Too late: the end is told all the same.
    let late = attach(&product, "a", None).await.rest().await;
    assert_eq!(late.last().unwrap().name, "complete");
    let response = product
        .http
        .get(format!("{}/prompt/unknown/events", product.url))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 404);
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

#[tokio::test]
async fn a_reader_that_dawdles_delays_nobody_and_misses_no_end() {
    let product = Stage::new()
        .flags("--preview-method auto --preview-size 256 --step-ms 1")
        .file("models/checkpoints/m.safetensors", "x")
        .start()
        .await;
    let mut graph = sampling(300);
    graph["5"]["inputs"] = json!({"width": 256, "height": 256, "batch_size": 1});
    let mut slow_reader = stream(&product, &json!({"id": "big", "prompt": graph})).await;
    product.until_prompt("big", "succeeded").await;
    slow_reader.dawdle(Duration::from_millis(200)).await;
    let events = slow_reader.rest().await;
    one_after_the_other(&events);
    assert_eq!(events.last().unwrap().name, "complete");
    assert!(kinds(&events).contains(&"execution_success"));
    let last_step = events
        .iter()
        .rfind(|event| event.kind() == "progress")
        .unwrap();
    assert_eq!(last_step.data["data"]["value"], 300);
    product.until_clean().await;
}

#[tokio::test]
async fn a_client_that_leaves_harms_nobody() {
    let product = Stage::new().start().await;
    let mut sse = stream(&product, &json!({"id": "left", "prompt": slow(1.0, 20)})).await;
    sse.until("progress").await;
    drop(sse);
    product.until_prompt("left", "succeeded").await;
    product.until_clean().await;
}
