//! Those who read: they attach, come again, dawdle, leave.

use std::time::Duration;

use serde_json::json;

use super::{kinds, one_after_the_other, send, stream};
use crate::support::graphs::{picture, sampling, slow};
use crate::support::product::{Product, Stage};
use crate::support::sse::Sse;

async fn attach(product: &Product, id: &str, last: Option<&str>) -> Sse {
    let mut request = product
        .http
        .get(format!("{}/prompt/{id}/events", product.url));
    if let Some(last) = last {
        request = request.header("Last-Event-ID", last);
    }
    Sse::new(request.send().await.unwrap())
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
async fn a_crowd_is_told_the_newest_length_of_the_queue_and_not_each() {
    const CROWD: usize = 60;
    let product = Stage::new().start().await;
    let blocker = product.prompt_later(json!({"id": "blocker", "prompt": slow(60.0, 300)}));
    product.until_prompt("blocker", "running").await;
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        let body = json!({"prompt": picture(&format!("c{number}"))});
        crowd.push(stream(&product, &body).await);
    }
    let mut told = 0;
    loop {
        let status = crowd[0].until("status").await;
        told += 1;
        if status.data["data"]["status"]["exec_info"]["queue_remaining"] == CROWD + 1 {
            break;
        }
    }
    assert!(told < CROWD - 10, "{told}");
    product.delete("/prompt/blocker").await;
    for mut one in crowd {
        assert_eq!(one.rest().await.last().unwrap().name, "complete");
    }
    assert_eq!(blocker.await.unwrap().0, 409);
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
